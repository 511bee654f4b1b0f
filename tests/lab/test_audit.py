"""The audit: which row turns which switch, effects and their sum, corrections, and the ledger of claims."""

import re
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from medrec import paths
from medrec.book.chapters import find_chapter
from medrec.lab import audit, grids
from medrec.lab.grids import Grid
from medrec.lab.kept import NotKeptError
from medrec.lab.rows import declared
from medrec.models import registry
from medrec.tasks.evaluation import Interval
from medrec.tasks.verdicts import Verdict
from medrec.types import MedrecError

SWITCHES = audit.switches()
CLAIMS = audit.claims()
MEASURABLE = SWITCHES.filter(pl.col("key").is_not_null()).to_dicts()


def rows_of(name, changes, *, skips_first=False, not_converged=(), seeds=3, note=""):
    """A grid as kept rows give it; ``changes`` by key, Jaccard's with an interval of ±.01."""
    task = registry.get(declared(name).rows[0].system).task
    views = [{"protocol": "house"}]
    if task == "visits":
        groups = ("all visits", "later visits") if skips_first else ("all visits", "first visits", "later visits")
        views = [{"threshold": "tuned", "visits": group} for group in groups]
    metrics = ("jaccard", "ddi_rate", "n_medications") if task == "visits" else ("ndcg_20",)
    scores = [
        {"key": key, **view, "metric": metric, "value": 0.5 + change, "delta": change, "patients": 90}
        | {"delta_low": change - 0.01 * (change != 0), "delta_high": change + 0.01 * (change != 0)}
        for key, change in changes.items()
        for view in views
        for metric in metrics
    ]
    costs = pl.DataFrame(
        [
            {"key": key, "label": key, "converged": key not in not_converged, "degenerate": None, "seconds": 2.0 + i}
            for i, key in enumerate(key for key in changes if key in {row.key for row in declared(name).rows})
        ],
        schema_overrides={"degenerate": pl.String},
    )
    provenance = {"cohort": {"name": "synthetic", "source": "synthetic"}, "seeds": seeds, "key": "0123"}
    return Grid(name, "synthetic", pl.DataFrame(scores), costs, provenance, note)


@pytest.fixture
def store(monkeypatch):
    """Grids that are kept, by name; whatever is not in it has no rows."""
    kept = {}

    def read(grid, cohort, source="synthetic", *, default=None):
        if grid not in kept:
            raise NotKeptError(f"No rows of grids/{grid} are kept for cohort {cohort!r}.")
        return kept[grid]

    monkeypatch.setattr(grids, "read", read)
    return kept


# -- the table of switches ---------------------------------------------------------------------------------------------


def test_the_table_has_every_switch_and_each_system_once():
    assert SWITCHES["number"].unique().sort().to_list() == list(range(1, 40))
    assert SWITCHES.select("number", "system", "switch").is_duplicated().sum() == 0
    assert set(SWITCHES["kind"]) == set(audit.KINDS)
    assert set(SWITCHES["sign"]) == {"+", "-", "0", "?"}
    assert set(SWITCHES["system"]) - {"all"} <= set(registry.NAMES)
    assert SWITCHES.select("paper", "official", "expected", "chapter").null_count().sum_horizontal()[0] == 0


def test_a_switch_has_a_row_or_says_why_there_is_none():
    assert (SWITCHES["key"].is_null() == SWITCHES["why"].is_not_null()).all()
    assert (SWITCHES["key"].is_null() == SWITCHES["grid"].is_null()).all()
    assert all(find_chapter(chapter).stem == chapter for chapter in SWITCHES["chapter"])


@pytest.mark.parametrize("switch", MEASURABLE, ids=lambda switch: f"{switch['number']}-{switch['system']}")
def test_the_row_of_a_switch_turns_it_and_nothing_else(switch):
    row, other = audit.turned(switch["grid"], switch["key"])
    assert row.system == other.system == switch["system"]
    ((setting, values),) = audit.differing(row, other).items()
    assert setting == switch["switch"]
    assert {str(value) for value in values} == {switch["paper"], switch["official"]}
    assert audit.direction(switch) == (1 if str(values[0]) == switch["official"] else -1)


def test_a_row_that_turns_something_else_is_found_out():
    (switch,) = (x for x in MEASURABLE if x["system"] == "retain" and x["switch"] == "reverse_time")
    for wrong in ({"key": "official"}, {"key": "features"}, {"official": "None"}):
        with pytest.raises(MedrecError, match="Mend audit_switches"):
            audit.direction(switch | wrong)


def test_leaks_and_defects_have_a_test_and_every_test_exists():
    told = SWITCHES.filter(pl.col("kind").is_in(["leak", "defect"]))
    assert told["test"].null_count() == 0
    for place in SWITCHES["test"].drop_nulls().unique():
        file, _, name = place.partition("::")
        assert f"def {name}(" in (paths.base_dir() / file).read_text(encoding="utf-8"), place


# -- effects -----------------------------------------------------------------------------------------------------------


def test_an_effect_is_official_minus_paper_in_both_directions(store):
    store["retain"] = rows_of("retain", {"retain": 0.0, "features": -0.03, "forward": 0.001}, skips_first=True)
    store["bimorec"] = rows_of("bimorec", {"bimorec": 0.0, "positive": -0.02, "mean": 0.004})
    found = audit.effects("synthetic")
    by_switch = {row["switch"]: row for row in found.to_dicts()}
    assert found["delta"].abs().is_sorted(descending=True)
    assert set(by_switch) == {"alpha_axis", "reverse_time", "nce_denominator", "bce_reduction"}
    assert by_switch["alpha_axis"]["delta"] == -0.03
    assert by_switch["alpha_axis"]["visits"] == "later visits"
    # The reference has what was released here, so that the row is the paper's side.
    turned = by_switch["nce_denominator"]
    assert (turned["delta"], turned["low"], turned["high"]) == pytest.approx((0.02, 0.01, 0.03))
    assert (turned["visits"], turned["metric"]) == ("all visits", "jaccard")
    assert turned["ddi_rate"] == 0.02
    assert [by_switch[name]["cost"] for name in ("alpha_axis", "nce_denominator")] == pytest.approx([3 / 2, 2 / 3])
    assert [by_switch[name]["verdict"] for name in ("alpha_axis", "reverse_time")] == ["does not hold", "not decided"]


def test_rankers_have_their_own_metric_and_contrasts_their_own_rows(store):
    store["kgcn"] = rows_of("kgcn", {"kgcn": 0.0, "score": 0.02})
    store["diffkg-arms"] = rows_of("diffkg-arms", {"random": 0.0, "filter": 0.1, "released": 0.2, "B - A": -0.1})
    by_switch = {row["switch"]: row for row in audit.effects("synthetic").to_dicts()}
    assert by_switch["score"]["metric"] == "ndcg_20"
    assert by_switch["score"]["ddi_rate"] is None
    assert by_switch["diffusion_in_training"]["delta"] == pytest.approx(0.1)  # A over B: what was released


def test_what_has_not_learnt_has_an_effect_and_no_verdict(store):
    changes = {"retain": 0.0, "features": -0.03, "forward": -0.03}
    store["retain"] = rows_of("retain", changes, not_converged=("features",), note="made by older code")
    by_switch = {row["switch"]: row for row in audit.effects("synthetic").to_dicts()}
    assert by_switch["alpha_axis"]["verdict"] == "no verdict"
    assert "had not converged" in by_switch["alpha_axis"]["not_learnt"]
    assert by_switch["reverse_time"]["not_learnt"] == ""
    assert by_switch["reverse_time"]["note"] == "made by older code"
    store["retain"] = rows_of("retain", changes, not_converged=("retain",))
    assert set(audit.effects("synthetic")["verdict"]) == {"no verdict"}


def test_the_largest_change_of_a_kind_in_words(store):
    store["retain"] = rows_of("retain", {"retain": 0.0, "features": -0.03, "forward": 0.004})
    store["micron"] = rows_of("micron", {"micron": 0.0, "bias": 0.001})
    measured = audit.effects("synthetic")
    numbers = "-0.030 (95 % -0.040 to -0.020; 3 seeds, 90 patients)"
    said = audit.largest(measured, "defect")
    assert said == f"The largest of 2, RETAIN's alpha_axis, lowers Jaccard on synthetic records: {numbers}."
    assert audit.largest(measured, "choice").startswith("The only one, MICRON's residual_bias, is not decided: +0.001")
    assert audit.largest(measured, "leak") == "No row of this kind is kept."
    store["retain"] = rows_of("retain", {"retain": 0.0, "features": -0.03}, not_converged=["features"])
    assert "has no verdict: features's training" in audit.largest(audit.effects("synthetic"), "defect")


def test_without_rows_there_is_nothing_but_what_makes_them(store):
    for found in (audit.effects("synthetic"), audit.additivity("synthetic")):
        assert found.is_empty()
        assert "system" in found.columns
    missing = audit.missing("synthetic")
    assert len(missing) == len(SWITCHES)
    assert missing["why"].null_count() == 0
    (said,) = missing.filter(system="RETAIN", switch="alpha_axis")["why"]
    assert said.endswith("medrec sweep retain --cohort synthetic --seeds 3 --keep")


def test_measured_and_missing_switches_are_all_switches(store):
    store["retain"] = rows_of("retain", {"retain": 0.0, "features": -0.03})  # older rows lack one
    measured, missing = audit.effects("synthetic"), audit.missing("synthetic")
    assert len(measured) + len(missing) == len(SWITCHES)
    assert missing.filter(switch="reverse_time")["why"][0].startswith("its kept rows lack this one")


def test_rows_that_cannot_be_read_are_no_missing_rows(monkeypatch):
    def read(*_, **__):
        raise MedrecError("scores.csv: it is not as it was written")

    monkeypatch.setattr(grids, "read", read)
    with pytest.raises(MedrecError, match="not as it was written"):
        audit.effects("synthetic")


def test_kept_rows_of_this_checkout_give_effects():
    measured = audit.effects("synthetic")
    assert len(measured) + len(audit.missing("synthetic")) == len(SWITCHES)
    assert (measured["low"] <= measured["delta"]).all()
    assert (measured["delta"] <= measured["high"]).all()
    assert measured["p"].is_between(0, 1).all()


# -- one at a time, and all at once ------------------------------------------------------------------------------------


def test_two_switches_of_a_toy_do_more_together():
    paper, a, b, both = 0.50, 0.48, 0.51, 0.46
    assert audit.remainder([a - paper, b - paper], both - paper) == pytest.approx(-0.03)
    assert audit.remainder([], 0.2) == 0.2


def test_a_sum_takes_the_rows_that_turn_one_switch_of_the_released_variant(store):
    changes = {"retain": 0.0, "features": -0.02, "forward": 0.01, "official": -0.04, "current": 0.3}
    store["retain"] = rows_of("retain", changes, skips_first=True)
    store["molerec"] = rows_of("molerec", {"molerec": 0.0, "official": -0.02, "uniform": 0.01, "zero": 0.5})
    store["kgat"] = rows_of("kgat", {"kgat": 0.0, "official": 0.1})  # one switch: no sum
    retain, molerec = audit.additivity("synthetic").to_dicts()
    assert retain["switches"] == ["alpha_axis", "reverse_time"]
    assert retain["others"] == []
    assert [retain[name] for name in ("total", "joint", "remainder")] == pytest.approx([-0.01, -0.04, -0.03])
    assert molerec["switches"] == ["without_structure"]
    assert set(molerec["others"]) == {"sab_feedforward", "ddi_target"}
    assert molerec["remainder"] == pytest.approx(-0.03)


def test_a_sum_with_a_row_that_has_not_learnt_says_so(store):
    store["retain"] = rows_of(
        "retain", {"retain": 0.0, "features": -0.02, "official": -0.04}, not_converged=["official"]
    )
    (found,) = audit.additivity("synthetic").to_dicts()
    assert found["not_learnt"] == "official's training had not converged"


# -- many comparisons --------------------------------------------------------------------------------------------------


def test_five_probabilities_by_hand():
    found = audit.corrected([0.001, 0.008, 0.039, 0.041, 0.6])
    assert (found["benjamini_hochberg"] <= audit.LEVEL).sum() == 2
    assert (found["holm"] <= audit.LEVEL).sum() == 2
    np.testing.assert_allclose(found["benjamini_hochberg"], [0.005, 0.02, 0.05125, 0.05125, 0.6])
    np.testing.assert_allclose(found["holm"], [0.005, 0.032, 0.117, 0.117, 0.6])


def test_corrections_follow_their_p_and_never_help():
    p = np.random.default_rng(0).uniform(size=39) ** 3
    found, order = audit.corrected(p), np.random.default_rng(1).permutation(39)
    for name in ("benjamini_hochberg", "holm"):
        assert (found[name] >= p).all()
        assert (found[name] <= 1).all()
        np.testing.assert_allclose(audit.corrected(p[order])[name], found[name].to_numpy()[order])
    assert (found["holm"] >= found["benjamini_hochberg"]).all()
    assert audit.corrected([]).is_empty()
    assert audit.corrected([0.03])["holm"].to_list() == [0.03]


def test_probability_of_an_interval():
    assert audit.two_sided(Interval(0.0, -0.01, 0.01, 0.01 / 1.96)) == 1
    assert audit.two_sided(Interval(0.01, 0.0, 0.02, 0.01 / 1.96)) == pytest.approx(0.05, abs=1e-4)
    assert audit.two_sided(Interval(-0.01, -0.02, 0.0, 0.01 / 1.96)) == pytest.approx(0.05, abs=1e-4)
    assert audit.two_sided(Interval(0.0, 0.0, 0.0, 0.0)) == 1
    assert audit.two_sided(Interval(0.1, 0.1, 0.1, 0.0)) == 0


# -- the ledger --------------------------------------------------------------------------------------------------------


def test_the_ledger_is_complete():
    ids = [f"{letter}{n}" for letter, count in (("B", 13), ("N", 18), ("D", 10)) for n in range(1, count + 1)]
    assert CLAIMS["id"].to_list() == ids
    told = CLAIMS.select("claim", "place", "evidence", "confirms", "refutes", "chapter")
    assert told.null_count().sum_horizontal()[0] == 0
    assert all(set(kinds.split(", ")) <= {"i", "ii", "iii", "iv"} for kinds in CLAIMS["evidence"])
    assert (CLAIMS["arithmetic"] == CLAIMS["evidence"].str.split(", ").list.contains("i")).all()
    assert all(find_chapter(chapter).stem == chapter for chapter in CLAIMS["chapter"])


@pytest.mark.parametrize("claim", CLAIMS.filter(pl.col("grid").is_not_null()).to_dicts(), ids=lambda x: x["id"])
def test_rows_of_a_claim_are_declared(claim):
    grid = declared(claim["grid"])
    keys, signs = claim["keys"].split(";"), claim["sign"].split(";")
    assert set(keys) <= {row.key for row in grid.rows[1:]} | {row.key for row in grid.contrasts}
    assert len(signs) in (1, len(keys))
    assert set(signs) <= {"-1", "0", "1"}
    assert claim["reason"] is None


def test_every_claim_gets_a_verdict_somewhere():
    page = find_chapter("24").read_text(encoding="utf-8")
    for claim in CLAIMS.to_dicts():
        judged, _ = audit.judged(claim, "synthetic")
        if claim["arithmetic"]:
            assert re.search(rf'^arithmetic\["{claim["id"]}"\] = \($', page, re.MULTILINE), claim["id"]
        elif judged is None:
            assert re.search(rf'^by_page\["{claim["id"]}"\] = ', page, re.MULTILINE), claim["id"]


def test_a_claim_without_rows_says_what_makes_them(store):
    (claim,) = CLAIMS.filter(id="N1").to_dicts()
    found, key = audit.judged(claim, "synthetic")
    assert (found.word, key) == ("no verdict", None)
    assert "medrec sweep nla-mmr-table2 --cohort synthetic-6350" in found.sentence
    (claim,) = CLAIMS.filter(id="N14").to_dicts()
    assert audit.judged(claim, "synthetic")[0].word == "cannot be tested here"


def test_rows_judge_a_claim(store):
    b7, b8, b6, b9 = (CLAIMS.filter(id=name).to_dicts()[0] for name in ("B7", "B8", "B6", "B9"))
    changes = {"bimorec": 0.0, "wo_T": -0.1, "wo_E": -0.1, "wo_TE": -0.3, "beyond": -0.1}
    store["bimorec-ablation"] = rows_of("bimorec-ablation", changes)
    assert audit.judged(b7, "synthetic")[0].word == "holds"  # less without it
    assert audit.judged(b8, "synthetic")[0].word == "does not hold"
    assert audit.judged(b6, "synthetic")[0].word == "cannot be tested here"  # nothing molecular in the records
    assert audit.judged(b7, "synthetic")[1] == "0123"
    store["bimorec-ablation"] = rows_of("bimorec-ablation", changes, not_converged=["wo_E"])
    assert audit.judged(b7, "synthetic")[0].word == "no verdict"
    store["bimorec-table2"] = rows_of("bimorec-table2", {"bimorec": 0.0, "causalmed": 0.2})
    assert audit.judged(b9, "synthetic")[0].word == "does not hold"
    store["bimorec-table2"] = rows_of("bimorec-table2", {"bimorec": 0.0, "lr": 0.2})
    assert str(audit.judged(b9, "synthetic")[0]) == "No verdict: there is no such row."


@pytest.mark.parametrize(
    ("words", "word"),
    [
        (["holds", "holds"], "holds"),
        (["holds", "not decided"], "holds in part"),
        (["holds", "does not hold"], "holds in part"),
        (["does not hold", "not decided"], "not decided"),
        (["holds", "no verdict"], "no verdict"),
        (["does not hold"], "does not hold"),
    ],
)
def test_several_rows_bear_one_verdict(words, word):
    assert audit.together([Verdict(each, "x.") for each in words]) == Verdict(word, " ".join("x." for _ in words))


def test_rows_of_later_visits_stand_in_for_systems_without_first_visits(store):
    (claim,) = CLAIMS.filter(id="N2").to_dicts()
    keys = claim["keys"].split(";")
    grid = rows_of("nla-mmr-table2", {"nla-mmr": 0.0} | dict.fromkeys(keys, -0.1))
    skips = (pl.col("key") == "retain") & (pl.col("visits") != "later visits")
    store["nla-mmr-table2"] = replace(grid, scores=grid.scores.filter(~skips))
    found, _ = audit.judged(claim, "synthetic")
    assert found.word == "holds"
    assert all(f"{key}: " in found.sentence for key in keys)
