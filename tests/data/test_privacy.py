"""The guard over records that are not open."""

from dataclasses import replace
from types import SimpleNamespace

import matplotlib as mpl
import numpy as np
import polars as pl
import pytest
import torch
from IPython.display import HTML, JSON, Markdown
from matplotlib import pyplot as plt

from medrec.book import page
from medrec.data import load_cohort, opened, privacy
from medrec.data.cohort import Step
from medrec.data.example import cohort as running_example
from medrec.types import MedrecError, Ragged
from tests.data.conftest import write_mimic3

mpl.use("agg")


@pytest.fixture
def closed():
    """A credentialed cohort of 40 patients: the running example, twenty times."""
    return replace(running_example().select(np.tile([0, 1], 20)), source="credentialed", name="mimic3")


@pytest.fixture(scope="module")
def hospital(tmp_path_factory):
    """A data folder with closed tables of 46 people, two of whom came twice."""
    folder = tmp_path_factory.mktemp("data")
    admissions = [(7_000 + p, 9_000_000 + 7 * p, "2150-02-05") for p in range(46)]
    admissions += [(7_000 + p, 9_100_000 + p, "2151-02-05") for p in range(2)]
    orders = [{"subject_id": patient, "hadm_id": visit} for patient, visit, _ in admissions]
    write_mimic3(folder / "mimic3", admissions, orders)
    return folder


@pytest.fixture
def loaded(hospital, monkeypatch):
    """The closed cohort of that folder, with the ids of its tables beside it."""
    monkeypatch.setenv("MEDREC_DATA_DIR", str(hospital))
    cohort = load_cohort("mimic3")
    assert (cohort.n_patients, cohort.n_visits) == (46, 48)
    return cohort


@pytest.fixture
def shown(monkeypatch):
    """What reaches a chapter: (thing, metadata)."""
    seen = []
    monkeypatch.setattr("IPython.display.display", lambda thing, metadata: seen.append((thing, metadata)))
    return seen


# -- masking -----------------------------------------------------------------------------------------------------------


def solvable(table, hidden):
    """Hidden cells that the row and column totals determine, by linear algebra (independent of the code's graph)."""
    rows, columns = table.shape
    cells = np.argwhere(hidden)
    equations = np.zeros((rows + columns, len(cells)))
    for i, (r, c) in enumerate(cells):
        equations[r, i] = equations[rows + c, i] = 1
    rank = np.linalg.matrix_rank(equations)
    return [
        tuple(int(x) for x in cell)
        for i, cell in enumerate(cells)
        if np.linalg.matrix_rank(np.delete(equations, i, axis=1)) < rank
    ]


def test_one_masked_cell_is_solved_for_and_two_are_not():
    counts = np.array([23, 6])
    one = counts < 10
    assert counts.sum() - counts[~one].sum() == 6  # 29 − 23 brings it back
    assert privacy.mask_small_counts(counts).tolist() == [True, True]
    assert privacy.mask_small_counts([23, 16, 6]).tolist() == [False, True, True]
    assert privacy.mask_small_counts([23, 6, 7]).tolist() == [False, True, True]
    assert not privacy.mask_small_counts([23, 10]).any()


def test_the_block_that_protects_both_small_cells():
    table = np.array([[12, 30, 4], [25, 9, 40], [18, 22, 31]])
    hidden = privacy.mask_small_counts(table)
    assert hidden.tolist() == [[False, True, True], [False, True, True], [False, False, False]]
    assert solvable(table, hidden) == []
    assert len(solvable(table, table < 10)) == 2  # without a second mask


def test_two_marks_a_line_are_not_enough():
    """Two closed blocks joined by one cell: every line has two marks or more, and the joint is still determined."""
    table = np.full((4, 4), 50)
    joint = np.zeros((4, 4), dtype=bool)
    joint[:2, :2] = joint[2:, 2:] = joint[1, 2] = True
    assert min(joint.sum(0).min(), joint.sum(1).min()) == 2
    assert solvable(table, joint) == [(1, 2)]
    table[joint] = 5
    hidden = privacy.mask_small_counts(table)
    assert solvable(table, hidden) == []
    assert hidden.sum() > joint.sum()


@pytest.mark.parametrize("seed", range(30))
def test_no_small_cell_can_be_solved_for(seed):
    rng = np.random.default_rng(seed)
    table = rng.integers(0, 60, (rng.integers(2, 7), rng.integers(2, 7)))
    try:
        hidden = privacy.mask_small_counts(table)
    except MedrecError:
        # It may only give up where nothing helps: even hiding every cell above 0 leaves a small one determined.
        assert any(table[cell] < 10 for cell in solvable(table, table > 0))
        return
    small = (table > 0) & (table < 10)
    assert hidden[small].all()
    assert not hidden[table == 0].any()
    assert not [cell for cell in solvable(table, hidden) if small[cell]]


def test_a_lonely_small_cell_is_refused():
    with pytest.raises(MedrecError, match=r"count of 4.*coarser"):
        privacy.mask_small_counts([4, 0])
    with pytest.raises(MedrecError, match="coarser"):
        privacy.mask_small_counts([[4, 0], [30, 40]])


# -- release -----------------------------------------------------------------------------------------------------------


def test_single_patients_are_refused_by_source(closed):
    privacy.require_shareable(running_example(), "a visit")
    with pytest.raises(MedrecError, match=r"a visit of the credentialed cohort 'mimic3'"):
        privacy.require_shareable(closed, "a visit")


def test_a_small_group_loses_its_numbers_and_takes_another_count_with_it(closed):
    frame = pl.DataFrame({"group": ["a", "b", "c"], "patients": [23, 6, 40], "jaccard": [0.5, 0.9, 0.4]})
    released = privacy.release(closed, frame, counts=["patients"])
    assert released["group"].to_list() == ["a", "b", "c"]
    assert released["patients"].to_list() == [None, None, 40]
    assert released["jaccard"].to_list() == [None, None, 0.4], "a mean or a share leads back to its count"
    assert privacy.release(running_example(), frame, counts=["patients"]).equals(frame)


def test_nine_patients_are_too_few_and_ten_are_enough(closed):
    with pytest.raises(MedrecError, match="Only 9 patients"):
        privacy.release(closed, 0.5, patients=9)
    assert privacy.release(closed, 0.5, patients=10) == 0.5
    few = closed.select(np.arange(5))
    with pytest.raises(MedrecError, match="Only 5 patients"):
        privacy.release(few, pl.DataFrame({"jaccard": [0.5]}))


SINGLE = {
    "an id": pl.DataFrame({"subject_id": [1]}),
    "an id in capitals": pl.DataFrame({"HADM_ID": [1]}),
    "an id of eICU": pl.DataFrame({"patientunitstayid": [3]}),
    "lists": pl.DataFrame({"codes": [["9:4019", "9:4280"]]}),
    "arrays": pl.DataFrame({"codes": [[1, 2]]}, schema={"codes": pl.Array(pl.Int64, 2)}),
    "structs": pl.DataFrame({"who": [{"sex": "F", "age": 41}]}),
    "objects": pl.DataFrame({"who": [SimpleNamespace(age=41)]}, schema={"who": pl.Object}),
    "bytes": pl.DataFrame({"who": [b"10006"]}),
    "a row for each patient": pl.DataFrame({"age": range(46)}),
    "a row for each visit": pl.DataFrame({"length": np.linspace(0, 1, 48)}),
    "ids under another name": pl.DataFrame({"x": [7_000, 7_001, 7_002, 7_003, 7_004]}),
    "ids as text": pl.DataFrame({"x": ["9000000", "9000007", "9000014", "9000021", "9000028"]}),
    "ids as numbers": pl.DataFrame({"x": [7_010.0, 7_011.0, 7_012.0, 7_013.0, 7_014.0]}),
    "ids in a sentence": pl.DataFrame({"x": ["7001 and 7002 and 7003", "7004 with 7005"]}).select(
        pl.col("x").str.join(" ")
    ),
    "a column of values": pl.Series("x", range(46)),
    "items for each patient": list(range(46)),
    "an array": np.zeros((46, 2)),
    "the other side of an array": np.zeros((2, 48)),
    "a dictionary": {f"p{i}": i for i in range(46)},
    "a dictionary of lists": {"ages": list(range(48))},
    "ids in a list": [7_000, 7_001, 7_002, 7_003, 7_004],
    "ids as keys": dict.fromkeys(["7000", "7001", "7002", "7003", "7004"], 1),
    "words": "patient_id 7",
    "words with ids": "7005, 7001, 7002, 7003 and 7004 died",
    "an object of the chapter": SimpleNamespace(_repr_html_="<p>7000</p>"),
    "a cohort": running_example(),
    "rows of codes": Ragged.from_lists([[1], [2]]),
    "a page": HTML("<p>7001</p>"),
    "data": JSON({"rows": [7001]}),
    "ids in Markdown": Markdown("7001, 7002, 7003, 7004 and 7005"),
    "a class with a good name": type("Markdown", (), {"data": ""})(),
    "a tensor": torch.zeros(3, 46),
    "a plan of a query": pl.LazyFrame({"x": [1]}),
}


@pytest.mark.parametrize("thing", SINGLE.values(), ids=SINGLE)
def test_what_describes_single_patients_is_refused_however_it_is_wrapped(loaded, thing):
    things = [thing]
    if isinstance(thing, pl.DataFrame):
        things.append(page.table(thing, caption="A table."))
    for one in things:
        with pytest.raises(MedrecError, match="describes single patients"):
            privacy.release(loaded, one)
        with pytest.raises(MedrecError, match="describes single patients"):
            privacy.release(loaded, one, patients=46)
    opened.forget()
    assert privacy.release(running_example(), thing) is thing, "invented people, and nothing closed was opened"


AGGREGATE = {
    "a table": pl.DataFrame({"system": ["LR", "RETAIN"], "Jaccard": [0.5, 0.4]}),
    "large counts": pl.DataFrame({"step": ["joined"], "patients": [40]}),
    "no counts": pl.DataFrame({"system": ["LR"], "classes": [3]}),
    "some numbers": [7_000, 1, 2, 3, 4],
    "a dictionary": {"Jaccard": 0.5, "DDI rate": np.float64(0.1)},
    "a word": "nothing leaks",
    "a number": 3,
    "an interval": (0.1, 0.2),
    "ticks": "10000 20000 30000 40000 50000",
    "Markdown": Markdown("**Not available.**"),
    "a tensor": torch.zeros(2, 3),
}


@pytest.mark.parametrize("thing", AGGREGATE.values(), ids=AGGREGATE)
def test_aggregates_are_released_as_they_are(loaded, thing):
    released = privacy.release(loaded, thing)
    assert released is thing or np.array_equal(released, thing)


def points(n):
    return plt.subplots()[1].scatter(np.arange(n), np.arange(n))


def grouped():
    ax = plt.subplots()[1]
    ax.scatter(np.arange(40), np.arange(40))
    ax.scatter(np.arange(6), np.arange(6))


FIGURES = {
    "a point for each patient": lambda: points(46),
    "a point for each visit": lambda: points(48),
    "points in groups": grouped,
    "a line through them": lambda: plt.plot(np.arange(46), np.arange(46)),
    "a line for each": lambda: plt.plot(np.zeros((2, 46))),
    "a bar for each": lambda: plt.bar(np.arange(48), np.arange(48)),
    "a cell for each": lambda: plt.imshow(np.zeros((46, 3))),
    "a stroke for each": lambda: plt.vlines(np.arange(46), 0, 1),
    "ids at the axis": lambda: plt.xticks(range(5), [7_001, 7_002, 7_003, 7_004, 7_005]),
    "ids in it": lambda: [plt.text(0, i / 9, 7_000 + i) for i in range(6)],
    "the name of an id": lambda: plt.title("by subject_id"),
}


@pytest.fixture
def figures():
    plt.close("all")
    yield
    plt.close("all")


@pytest.mark.parametrize("draw", FIGURES.values(), ids=FIGURES)
def test_a_figure_with_a_mark_for_each_patient_is_refused(loaded, figures, draw):
    plt.figure()
    draw()
    with pytest.raises(MedrecError, match="describes single patients"):
        privacy.release(loaded, plt.gcf())


def test_a_figure_of_aggregates_is_released(loaded, figures):
    figure, (left, right) = plt.subplots(1, 2)
    left.hist(np.arange(46), bins=5)
    left.set_xticks([0, 10_000, 20_000, 30_000, 40_000, 50_000])
    right.plot(np.linspace(0, 1, 200), np.linspace(0, 1, 200), label="LR")
    right.scatter([1, 2], [3, 4])
    right.legend()
    assert privacy.release(loaded, figure) is figure


@pytest.mark.parametrize("claimed", ["demo", "synthetic"])
def test_the_field_of_a_loaded_cohort_opens_no_door(loaded, claimed):
    replaced = replace(loaded, source=claimed, name="synthetic")
    for cohort in (replaced, replaced.select(np.arange(20))):
        with pytest.raises(MedrecError, match="describes single patients"):
            privacy.release(cohort, pl.DataFrame({"subject_id": [1]}))
        with pytest.raises(MedrecError, match="cannot be shown"):
            privacy.require_shareable(cohort, "a visit")


# -- counts ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "column", ["patients", "visits", "orders", "dropped", "kept", "n", "patients with several visits", "n_patients"]
)
def test_a_column_that_counts_few_has_to_be_named(closed, column):
    frame = pl.DataFrame({"group": ["a", "b", "c"], column: [40, 7, 30]})
    with pytest.raises(MedrecError, match=rf"Column '{column}' counts fewer than 10.*counts="):
        privacy.release(closed, frame)
    with pytest.raises(MedrecError, match="counts fewer than 10"):
        privacy.release(closed, page.table(frame, caption="x"))
    assert privacy.release(closed, frame, counts=[column])[column].to_list() == [40, None, None]
    assert privacy.release(running_example(), frame) is frame
    large = frame.with_columns(pl.col(column) * 10)
    assert privacy.release(closed, large) is large


def test_a_table_of_a_page_is_masked_like_its_frame(closed):
    frame = pl.DataFrame({"group": ["a", "b", "c"], "patients": [40, 7, 30], "share": [0.5, 0.1, 0.4]})
    released = privacy.release(closed, page.table(frame, caption="x"), counts=["patients"])
    assert released.rows == (("a", "40", "0.500"), ("b", "–", "–"), ("c", "–", "–"))


def test_groups_with_a_total_of_their_own_are_masked_on_their_own(closed):
    frame = pl.DataFrame({"type": [*"aaabb"], "status": [*"xyzxy"], "orders": [900, 2, 50, 30, 5]})
    assert privacy.release(closed, frame, counts=["orders"], within="type")["orders"].to_list() == [
        900,
        None,
        None,
        None,
        None,
    ]
    # One group alone: whoever knew its total would know it, so that nothing of it is told.
    lonely = pl.DataFrame({"type": [*"aab"], "orders": [30, 20, 4]})
    assert privacy.mask_counts(lonely, ["orders"], within="type")["orders"].to_list() == [30, 20, None]


@pytest.mark.parametrize(
    ("numbers", "known", "hidden"),
    [
        ([100, 97, 80], 0, [False, True, False]),
        ([100, 100, 80], 0, [False, False, False]),
        ([100, 95, 91], 0, [False, True, True]),
        ([100, 96, 90], 0, [False, True, False]),
        ([100, 97, 94, 91, 80], 4, [False, True, True, True, False]),
        ([100, 97], 1, [True, False]),
        ([100, 4], 0, [False, True]),
        ([100, 0], 0, [False, False]),
        ([90, 97, 120], 0, [False, True, False]),
    ],
)
def test_of_nested_groups_none_is_told_from_another_by_a_few(numbers, known, hidden):
    assert privacy.mask_nested(numbers, known).tolist() == hidden


def small_differences(frame):
    """Losses of 1 to 9 that a reader of a ledger can compute: by any path from one number that is shown to another."""
    found = []
    for (_,), lines in frame.group_by("unit", maintain_order=True):
        points = [lines["before"].to_list()[0]]
        for before, kept in lines.select("before", "kept").rows():
            # What a step begins with is what the last one kept.
            points[-1] = before if points[-1] is None else points[-1]
            points.append(kept)
        seen = [point for point in points if point is not None]
        found += [(a, b) for i, a in enumerate(seen) for b in seen[i + 1 :] if 0 < a - b < 10]
        found += [d for d in lines["dropped"].drop_nulls() if 0 < d < 10]
    return found


@pytest.mark.parametrize("seed", range(20))
def test_no_small_loss_can_be_computed_from_a_ledger(closed, seed):
    rng = np.random.default_rng(seed)
    steps = []
    for unit, left in (("visits", 400), ("rows", 9000)):
        for step in range(6):
            kept = left - int(rng.choice([0, 0, 1, 5, 9, 10, 40]))
            steps.append(Step(f"step {step}", unit, left, kept))
            left = kept
    cohort = replace(closed, report=replace(closed.report, steps=tuple(steps)))
    whole, shown = cohort.report.frame(), privacy.ledger(cohort)
    assert small_differences(shown) == []
    assert small_differences(whole) or seed < 20
    same = shown["kept"].is_null() | (shown["kept"] == whole["kept"])
    assert same.all(), "what is told is true"
    last = shown.group_by("unit", maintain_order=True).last()["kept"]
    assert last.null_count() == 0, "what is left stands on the page anyway"
    assert (shown["dropped"].is_null() == (shown["before"].is_null() | shown["kept"].is_null())).all()
    assert privacy.ledger(replace(cohort, source="synthetic")).equals(whole)


@pytest.mark.parametrize(
    ("number", "of", "told"),
    [(9, None, False), (10, None, True), (0, None, True), (95, 100, False), (100, 100, True), (90, 100, True)],
)
def test_a_number_for_the_prose_is_told_or_not(closed, number, of, told):
    assert (privacy.count(closed, number, of=of) == number) is told
    assert privacy.count(running_example(), number, of=of) == number
    assert page.thousands(privacy.count(closed, number, of=of)) == (
        str(number) if told else "too few or too many to be told"
    )


def test_show_marks_what_it_lets_through(closed, shown):
    import matplotlib.pyplot as plt

    figure = plt.figure()
    privacy.show(closed, pl.DataFrame({"jaccard": [0.5]}))
    privacy.show(closed, figure, patients=12)
    assert [metadata for _, metadata in shown] == [{privacy.MARK: 40}, {privacy.MARK: 12}]
    assert figure.number not in plt.get_fignums()  # or the notebook would show it again, unmarked
    with pytest.raises(MedrecError):
        privacy.show(closed, figure, patients=3)
    assert len(shown) == 2


# -- notebooks ---------------------------------------------------------------------------------------------------------


def notebook(source="x", **output):
    cells = [
        {"cell_type": "markdown", "source": "# Title"},
        {"cell_type": "code", "source": source, "outputs": [output]},
    ]
    return {"cells": cells}


def result(data, metadata=None, kind="display_data"):
    return {"output_type": kind, "data": data, "metadata": metadata or {}}


REFUSED = {
    "a table": result({"text/html": "<table><td>0.5</td></table>"}, kind="execute_result"),
    "a figure": result({"image/svg+xml": "<svg/>", "text/plain": "<Figure>"}),
    "patient rows, though marked": result({"text/html": "<th>subject_id</th><td>10006</td>"}, {privacy.MARK: 40}),
    "code lists, though marked": result({"text/html": "<td>list[i32]</td>"}, {privacy.MARK: 40}),
    "too few": result({"image/png": "AAAA"}, {privacy.MARK: 9}),
    "printed data": {"output_type": "stream", "name": "stdout", "text": "admitted with chest pain\n"},
    "glued text": result({"application/papermill.record/text/plain": "'chest pain'"}, {"scrapbook": {"name": "a"}}),
    "an error": {"output_type": "error", "ename": "KeyError", "evalue": "10006", "traceback": []},
}
PASSED = {
    "a released table": result({"text/html": "<table><td>0.5</td></table>"}, {privacy.MARK: 40}),
    "a released figure": result({"image/png": "AAAA", "text/plain": "<Figure>"}, {privacy.MARK: 10}),
    "a glued number": result({"application/papermill.record/text/plain": "0.53"}, {"scrapbook": {"name": "a"}}),
    "a constant line": {"output_type": "stream", "name": "stdout", "text": "Check passed: rows add up.\n"},
}


@pytest.mark.parametrize("output", REFUSED.values(), ids=REFUSED)
def test_a_chapter_that_shows_patients_is_refused(output):
    with pytest.raises(MedrecError, match=r"Cell 1 \('frame'\) shows .*privacy\.show"):
        privacy.check_notebook(notebook("\nframe", **output), "credentialed")
    privacy.check_notebook(notebook("\nframe", **output), "synthetic")
    privacy.check_notebook(notebook("\nframe", **output), "demo")


@pytest.mark.parametrize("output", PASSED.values(), ids=PASSED)
def test_a_chapter_of_aggregates_passes(output):
    privacy.check_notebook(notebook('print("Check passed: rows add up.")', **output), "credentialed")


def test_a_line_made_of_data_is_not_a_constant():
    output = {"output_type": "stream", "name": "stdout", "text": "Check passed: 6 patients.\n"}
    with pytest.raises(MedrecError, match="printed text"):
        privacy.check_notebook(notebook('print(f"Check passed: {n} patients.")', **output), "credentialed")


def test_data_that_also_stands_in_the_code_is_refused():
    output = {"output_type": "stream", "name": "stdout", "text": "6\n"}
    with pytest.raises(MedrecError, match="printed text"):
        privacy.check_notebook(notebook("limit = 6\nprint(n)", **output), "credentialed")


def test_a_cohort_on_disk_holds_no_ids(demo_cohort, tmp_path):
    """No patient's or visit's id of the source is stored: rows are all that is left of them."""
    demo_cohort("mimic3").save(tmp_path / "c")
    columns = {c for path in (tmp_path / "c").glob("*.parquet") for c in pl.read_parquet_schema(path)}
    assert not [column for column in columns if privacy._ID_COLUMN.search(column)]
    visits = pl.read_parquet(tmp_path / "c" / "visits.parquet")
    assert visits["patient"].max() == 81  # a running number
