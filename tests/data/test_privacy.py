"""The guard over records that are not open."""

from dataclasses import replace

import matplotlib as mpl
import numpy as np
import polars as pl
import pytest

from medrec.data import privacy
from medrec.data.example import cohort as running_example
from medrec.types import MedrecError

mpl.use("agg")


@pytest.fixture
def closed():
    """A credentialed cohort of 40 patients: the running example, twenty times."""
    return replace(running_example().select(np.tile([0, 1], 20)), source="credentialed", name="mimic3")


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
    assert released["jaccard"].to_list() == [0.5, None, 0.4]
    assert privacy.release(running_example(), frame, counts=["patients"]).equals(frame)


def test_nine_patients_are_too_few_and_ten_are_enough(closed):
    with pytest.raises(MedrecError, match="Only 9 patients"):
        privacy.release(closed, 0.5, patients=9)
    assert privacy.release(closed, 0.5, patients=10) == 0.5
    few = closed.select(np.arange(5))
    with pytest.raises(MedrecError, match="Only 5 patients"):
        privacy.release(few, pl.DataFrame({"jaccard": [0.5]}))


@pytest.mark.parametrize(
    "frame", [{"subject_id": [1]}, {"HADM_ID": [1]}, {"codes": [["9:4019", "9:4280"]]}, {"patientunitstayid": [3]}]
)
def test_ids_and_lists_of_codes_are_refused(closed, frame):
    with pytest.raises(MedrecError, match="describes single patients"):
        privacy.release(closed, pl.DataFrame(frame))


def test_show_marks_what_it_lets_through(closed, shown):
    import matplotlib.pyplot as plt

    figure = plt.figure()
    privacy.show(closed, pl.DataFrame({"jaccard": [0.5]}))
    privacy.show(closed, figure, patients=12)
    assert [metadata for _, metadata in shown] == [{privacy.MARK: 40}, {privacy.MARK: 12}]
    assert not plt.get_fignums()  # or the notebook would show it again, unmarked
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
