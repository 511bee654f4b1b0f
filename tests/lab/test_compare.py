"""Comparisons: same patients, same visits, paired; both tasks in either table; what stands beside the numbers."""

import re
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from medrec.data.split import split_patients
from medrec.lab.compare import PAST, TODAY, Comparison, check, compare, table
from medrec.lab.rows import rows_of
from medrec.models import registry
from medrec.models.base import Row
from medrec.tasks import ranking
from medrec.tasks.evaluation import Interval, bootstrap, paired_difference
from medrec.training import load_system, train
from medrec.types import MedrecError, Ragged
from tests.toys import random_cohort, watched

TOY = "tests.models.toy_system:SYSTEM"
TOY_RANKER = "tests.tasks.toy_ranker:SYSTEM"
FAST = {"epochs": 2, "size": 8}


@pytest.fixture(scope="module")
def cohort():
    return random_cohort(90, seed=1)


@pytest.fixture(autouse=True, scope="module")
def _store(tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setenv("MEDREC_RUNS_DIR", str(tmp_path_factory.mktemp("runs")))
    yield
    patch.undo()


@pytest.fixture(scope="module")
def visits(cohort):
    return compare(["lr", "last-visit", "popularity", TOY], cohort, settings=FAST)


@pytest.fixture(scope="module")
def mixed(cohort):
    return compare(["repeat", "lr", TOY_RANKER, "retain", TOY], cohort, settings=FAST, task="ranking")


# -- the visit table ---------------------------------------------------------------------------------------------------


def test_common_visits_are_those_of_the_pickiest_system(visits):
    assert visits.groups == ("second", "later")
    own, shared = visits.results(shared=False), visits.results()
    assert own["last visit"]["jaccard"] == shared["last visit"]["jaccard"]
    assert own["LR"]["jaccard"] != shared["LR"]["jaccard"]


def test_differences_are_to_the_first_system_on_common_visits(visits):
    shared, differences = visits.results(), visits.differences()
    assert list(differences) == ["last visit", "popularity", "Toy (epochs=2, size=8)"]
    for label, row in differences.items():
        for name in ("jaccard", "ddi_rate", "n_medications"):
            assert row[name].value == pytest.approx(shared[label][name].value - shared["LR"][name].value)
    assert np.isnan(differences["last visit"]["prauc"].value)


def test_numbers_are_those_of_the_runs(visits, cohort):
    run = train(TOY, cohort, settings=FAST)
    assert visits.results(shared=False)["Toy (epochs=2, size=8)"] == bootstrap(run.evaluation("tuned"))


@pytest.mark.parametrize("threshold", ["own", 0.4, None])
def test_the_threshold_is_the_one_that_is_asked_for(threshold, cohort):
    found = compare(["lr", "popularity"], cohort, threshold=threshold)
    assert found.results(shared=False)["LR"] == bootstrap(train("lr", cohort).evaluation(threshold))
    words = {"own": "each system's own threshold", 0.4: "threshold 0.4", None: "threshold tuned on validation Jaccard"}
    assert words[threshold] in found.text()


def test_a_protocol_says_split_threshold_and_bootstrap(cohort):
    found = compare(["lr", "popularity"], cohort, protocol="SafeDrug line")
    (run,) = found.runs["LR"]
    assert run.config["sees"]["split_seed"] is None, "file order"
    assert found.results(shared=False)["LR"] == bootstrap(run.evaluation(0.5), kind="field")
    assert "protocol SafeDrug line, threshold 0.5" in found.text()
    assert "one standard deviation to each side" in found.text()
    with pytest.raises(MedrecError, match="describes one training"):
        compare(["lr", "popularity"], cohort, protocol="SafeDrug line", seeds=2)


def test_another_interaction_list_is_named_under_every_rate(visits, cohort, tmp_path):
    assert visits.text().count("DDI rates: medrec's own interaction table.") == 3
    assert visits.frame()["interactions"].unique().to_list() == ["medrec's own interaction table"]
    listed = tmp_path / "pairs.csv"
    pl.DataFrame({"atc3_1": ["A00B", "A01B"], "atc3_2": ["A02B", "A02B"]}).write_csv(listed)
    found = compare(["lr", "popularity"], cohort, ddi=listed)
    assert found.text().count("DDI rates: the list pairs.csv.") == 2
    rates = [of.results()["LR"]["ddi_rate"].value for of in (visits, found)]
    assert rates[0] != rates[1]


def test_several_seeds_are_drawn_together(cohort):
    found = compare(["lr", TOY], cohort, settings=FAST, seeds=2)
    assert {label: [run.config["seed"] for run in runs] for label, runs in found.runs.items()} == {
        "LR": [0],
        "Toy (epochs=2, size=8)": [0, 1],
    }
    assert "of 2 training seeds and of patients together" in found.text()
    seeds = [train(TOY, cohort, settings=FAST, seed=seed).evaluation("tuned") for seed in (0, 1)]
    assert found.results()["Toy (epochs=2, size=8)"] == bootstrap(seeds)


# -- what is compared --------------------------------------------------------------------------------------------------


def test_variants_and_settings_have_labels():
    rows, *_ = check(["retain", "retain:official", "LR", f"{TOY}:paper"], settings={"retain.patience": 200})
    assert {label: (row.system, row.variant, dict(row.settings)) for label, row in rows.items()} == {
        "RETAIN (patience=200)": ("retain", "paper", {"patience": 200}),
        "RETAIN (official, patience=200)": ("retain", "official", {"patience": 200}),
        "LR": ("lr", "paper", {}),
        "Toy": (TOY, "paper", {}),
    }


def test_settings_that_are_named_win_over_a_variant():
    """As in ``medrec train --variant official --set ...``: they are what the user asks for."""
    rows, *_ = check(["retain:official"], settings={"reverse_time": True})
    (row,) = rows.values()
    assert registry.get("retain").configure(row.variant, row.settings).reverse_time is True


def test_rows_of_a_grid_keep_their_labels_and_settings():
    picked = [row for row in rows_of("retain") if row.key in ("retain", "official")]
    rows, *_ = check([*picked, Row("short", "short", "retain", settings={"epochs": 1})], settings={"retain.epochs": 3})
    assert {label: dict(row.settings) for label, row in rows.items()} == {
        "RETAIN": {"epochs": 3},
        "official": {"epochs": 3},
        "short": {"epochs": 1},
    }


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"models": []}, "nothing to compare"),
        ({"models": ["lr", "retian"]}, "Did you mean 'retain'"),
        ({"models": ["lr", "retian:official"]}, "Did you mean 'retain'"),
        ({"models": ["lr", "retain:oficial"]}, "Did you mean 'official'"),
        ({"models": ["lr", f"{TOY}:official"]}, "Toy has no variant 'official'"),
        ({"models": ["lr", "tests.nothing:SYSTEM"]}, "cannot be imported"),
        ({"models": ["lr", "repeat"]}, "of two tasks (ranking: repeat; visits: LR)"),
        ({"models": ["lr"], "task": "visit"}, "no task 'visit'"),
        ({"models": ["lr"], "protocol": "hous"}, "Did you mean 'house'"),
        ({"models": ["lr"], "settings": {"epochs": 3}}, "no system here has it"),
        ({"models": ["lr", "repeat"], "task": "ranking", "protocol": "hold-out"}, "asks about no visit"),
        ({"models": ["repeat"], "threshold": 0.4}, "no threshold"),
    ],
)
def test_mistakes_are_found_before_the_tables_are_read(asked, said):
    with pytest.raises(MedrecError) as error:
        check(**asked)
    assert said in str(error.value)


# -- both halves of the field in one table -----------------------------------------------------------------------------


def test_a_visit_system_enters_the_ranking_by_its_scores_at_last_visits(mixed, cohort):
    run = train("lr", cohort)
    answers = ranking.rank_visits(run, cohort)
    assert mixed.results()["LR"] == bootstrap(ranking.evaluation(answers, run.ddi(), None))
    repeat = train("repeat", cohort).evaluation()
    assert mixed.differences()["LR"] == paired_difference(repeat, ranking.evaluation(answers, run.ddi(), None))
    assert set(mixed.evaluations("LR")[0].per_patient["patient"]) == set(repeat.per_patient["patient"])


def test_the_ranking_stands_in_two_blocks(mixed):
    past, today = (
        ["repeat", "ToyRanker (epochs=2, size=8)", "RETAIN (epochs=2, size=8)"],
        ["LR", "Toy (epochs=2, size=8)"],
    )
    assert mixed.blocks() == {PAST: past, TODAY: today}
    lines = mixed.text().splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith(f"-- {PAST}"))
    second = next(i for i, line in enumerate(lines) if line.startswith(f"-- {TODAY}"))
    for start, labels in ((first, past), (second, today)):
        below = lines[start + 1 : start + 1 + len(labels)]
        assert all(line.startswith(label) for line, label in zip(below, labels, strict=True))
    assert dict(mixed.frame().select("label", "knows").unique().iter_rows()) == {
        **dict.fromkeys(past, PAST),
        **dict.fromkeys(today, TODAY),
    }


def test_patients_with_one_visit_are_left_out_and_counted(mixed, cohort):
    test = split_patients(cohort.n_patients, 0).test
    single = int((np.diff(cohort.visit_offsets)[test] == 1).sum())
    assert single > 0
    assert f"Left out of the test patients: {single} with one visit, who have no past." in mixed.text()
    assert mixed.frame().filter(label="LR")["patients"].to_list()[0] == len(test) - single


def test_new_medications_are_a_table_of_their_own(mixed):
    anew = mixed.anew
    assert anew.protocol.name == "new medications"
    assert anew.results()["LR"] != mixed.results()["LR"]
    assert "The same for new medications" in mixed.text()
    assert set(mixed.frame()["protocol"].str.split(",").list.first()) == {"house", "new medications"}
    assert anew.anew is None


def test_a_ranker_enters_the_visit_table_by_a_tuned_number(mixed, cohort):
    found = Comparison(cohort, "visits", check(["lr"])[3], mixed.runs, 0)
    n_test = len(found.evaluations("repeat")[0].per_patient)
    for label in found.runs:
        counts = found.evaluations(label)[0].summary()
        assert (counts["patients"], counts["visits"]) == (n_test, n_test), "last visits alone"
    run = train("repeat", cohort)
    size = run.answers["validation"].best_size()
    assert found.results()["repeat"]["n_medications"].value == size
    assert "The last visit of every patient with an earlier one" in found.text()
    assert "with one visit, who have no past" in found.text()


def test_rankers_alone_are_compared_in_their_task(cohort):
    found = compare(["repeat", "most-popular"], cohort, protocol="hold-out")
    assert found.task == "ranking"
    assert found.runs["repeat"][0].config["sees"]["kind"] == "hold-out"
    assert "known ones are not listed" in found.text()
    assert found.anew is None
    assert "--" not in found.text().replace("---", ""), "one block needs no line"


def test_who_gives_no_scores_has_no_place_in_a_ranking(cohort):
    with pytest.raises(MedrecError, match=r"last-visit.* gives no scores"):
        compare(["repeat", "last-visit"], cohort, task="ranking")


# -- what systems say of the day that is asked about -------------------------------------------------------------------


def recoded(cohort):
    """Other diagnoses and procedures at each patient's last visit."""
    last, codes = cohort.visit_offsets[1:] - 1, {}
    for kind in ("diagnosis", "procedure"):
        dense = cohort.codes[kind].multi_hot(len(cohort.vocab[kind]))
        dense[last] = np.roll(dense[last], 1, axis=1)
        codes[kind] = Ragged(np.concatenate([[0], dense.sum(1).cumsum()]), np.nonzero(dense)[1])
    return replace(cohort, codes={**cohort.codes, **codes})


@pytest.mark.parametrize(
    ("system", "settings"),
    [
        ("popularity", {}),
        ("last-visit", {}),
        ("lr", {}),
        ("past-lr", {}),
        ("ecc", {"n_chains": 1}),
        ("retain", FAST),
        ("retain", FAST | {"inputs": "with_current"}),
        ("micron", FAST),
        (TOY, FAST),
    ],
)
def test_a_system_declares_whether_it_sees_the_codes_of_that_day(system, settings, cohort):
    """Networks are also held to their declaration by the battery."""
    run = train(system, cohort, settings=settings)
    fitted, context = load_system(run)
    said = [fitted.predict_visits(of, context) for of in (cohort, recoded(cohort))]
    last = cohort.visit_offsets[1:] - 1
    moved = (said[0].recommended != said[1].recommended)[last].any()
    if said[0].scores is not None:
        moved |= (np.abs(said[0].scores - said[1].scores)[last] > 1e-6).any()
    declared = registry.get(system)
    assert declared.past_only(declared.configure("paper", settings)) == (not moved)


def test_rankers_know_the_past_only():
    for system in registry.systems("ranking"):
        assert system.past_only(system.configure())


# -- showing -----------------------------------------------------------------------------------------------------------


def test_what_a_training_has_not_learnt_is_said(cohort):
    text = compare(["lr", "retain"], cohort, settings={"retain.epochs": 1}).text()
    assert re.search(r"^RETAIN \(epochs=1\): its training had not converged after 1 epochs", text, flags=re.M)


def test_the_frame_says_what_the_text_says(visits):
    frame = visits.frame()
    row = frame.filter(label="LR", visits="own", metric="jaccard").row(0, named=True)
    assert row["value"] == visits.results(shared=False)["LR"]["jaccard"].value
    row = frame.filter(label="popularity", visits="scored by all", metric="jaccard").row(0, named=True)
    assert (row["delta"], row["delta_low"]) == (
        visits.differences()["popularity"]["jaccard"].value,
        visits.differences()["popularity"]["jaccard"].low,
    )
    assert frame.filter(label="last visit", metric="prauc")["value"].to_list() == [None, None]
    assert frame.filter(label="LR")["delta"].null_count() == 10, "nothing is compared with itself"
    assert set(frame["system"]) == {"lr", "last-visit", "popularity", TOY}
    assert frame["source"].unique().to_list() == ["synthetic"]


def test_files_hold_the_frame_and_the_figure(visits, tmp_path):
    again = pl.read_csv(visits.write_csv(tmp_path / "out.csv"))
    assert again.shape == visits.frame().shape
    assert visits.write_plot(tmp_path / "out.svg").read_text().startswith("<?xml")
    for wrong in (tmp_path / "none" / "out.csv", tmp_path):
        with pytest.raises(MedrecError, match="cannot be written"):
            visits.write_csv(wrong)
    with pytest.raises(MedrecError, match="cannot be written"):
        visits.write_plot(tmp_path / "out.unknown")


def test_the_figure_has_a_row_for_each_system(visits, mixed):
    left, right = visits.plot().axes
    assert [tick.get_text() for tick in left.get_yticklabels()] == list(visits.runs)
    assert left.get_xlabel() == "Jaccard, random-toy"
    assert right.get_xlabel() == "difference to LR"
    left, _ = mixed.plot("recall_10").axes
    assert [tick.get_text() for tick in left.get_yticklabels()] == [
        x for block in mixed.blocks().values() for x in block
    ]
    with pytest.raises(MedrecError, match="no metric 'jaccard'"):
        mixed.plot("jaccard")


def test_table_is_aligned():
    interval = Interval(0.5, 0.4, 0.6, 0.05)
    row = dict.fromkeys(("jaccard", "ddi_rate", "f1", "n_medications"), interval)
    row["prauc"] = Interval(np.nan, np.nan, np.nan, np.nan)
    lines = table({"LR": row, "a longer name": row}).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert "0.500 [0.400, 0.600]" in lines[1]
    assert "0.5 [0.4, 0.6]" in lines[1]
    assert lines[1].split()[-4] == "-"


def test_what_a_comparison_computes_is_shown_on_a_terminal(cohort, monkeypatch):
    terminal = watched(monkeypatch)
    compare(["popularity", "lr"], cohort).text()
    assert all(f"{what}:" in terminal.getvalue() for what in ("results", "intervals", "differences"))
