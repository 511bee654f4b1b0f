"""Grids of NLA-MMR's results: each row turns what it names, and the rule on encoders."""

import polars as pl
import pytest

from medrec.experiments.nla_mmr_grids import (
    ABLATION,
    GRIDS,
    HISTORY,
    PRINTED,
    REFERENCE,
    SENSITIVITY,
    lead,
    sentence,
    what_carries,
)
from medrec.lab import published
from medrec.lab.grids import Grid
from medrec.lab.rows import PAPERS, declared, grid_names
from medrec.models import registry
from medrec.tasks.evaluation import Interval

PLAIN = registry.get("nla-mmr").configure()


def changed(row):
    config = registry.get(row.system).configure(row.variant, row.settings)
    return {name: getattr(config, name) for name in vars(PLAIN) if getattr(PLAIN, name) != getattr(config, name)}


def test_the_grids_are_found_by_name_and_start_with_the_system():
    assert "medrec.experiments.nla_mmr_grids" in PAPERS
    assert set(GRIDS) <= set(grid_names())
    for name in GRIDS:
        assert declared(name).rows[0].label == REFERENCE
        assert changed(declared(name).rows[0]) == {}


def test_every_printed_system_has_a_row_of_table_2():
    labels = {row.label for row in GRIDS["nla-mmr-table2"]}
    assert set(published.table("nlammr", 2)["system"]) <= labels


def test_the_printed_ablations_are_the_first_and_switch_what_they_name():
    assert [row.label for row in ABLATION[1 : 1 + PRINTED]] == published.table("nlammr", 3)["system"].to_list()[:-1]
    assert [changed(row) for row in ABLATION[1:]] == [
        {"use_graph": False},
        {"use_description": False},
        {"use_fusion": False},
        {"use_history": False},
        {"streams": "ps"},
        {"streams": "ds"},
        {"streams": "dp"},
        {"history_visits": 1},
        {"history_as": "codes"},
        {"intercept": True},
        {"bce_weight": 1.0},
    ]


@pytest.mark.parametrize("rows", [HISTORY, SENSITIVITY])
def test_a_turned_knob_is_turned_alone(rows):
    for row in rows:
        if not row.knob:
            continue
        knob, _, reduction = row.knob.partition(", ")
        expected = {knob: row.value} if row.value != getattr(PLAIN, knob) else {}
        if reduction:
            expected["loss_reduction"] = reduction
        assert changed(row) == ({"use_history": False} if row.key == "history_visits=0" else expected)


def between(low, high):
    return Interval((low + high) / 2, low, high, 0.0)


@pytest.mark.parametrize(
    ("words", "codes", "expected"),
    [
        (between(0.01, 0.03), between(0.02, 0.04), "meaning"),
        (between(-0.004, 0.004), between(0.02, 0.04), "words"),
        (between(-0.004, 0.004), between(-0.004, 0.004), "codes"),
        (between(0.01, 0.03), between(-0.004, 0.003), "codes"),
        (between(-0.03, -0.01), between(0.02, 0.04), "behind"),
        (between(0.01, 0.03), between(-0.03, -0.01), "behind"),
        (between(-0.01, 0.03), between(0.02, 0.04), "not decided"),
        (between(0.01, 0.03), between(-0.01, 0.04), "not decided"),
    ],
)
def test_what_a_language_model_brings_goes_by_two_controls(words, codes, expected):
    assert what_carries(words, codes) == expected


# -- what rows say -----------------------------------------------------------------------------------------------------


def small_grid(**other):
    """Rows of the system and of one other, which trails it by .03 at all visits and by .01 at later ones."""
    told = {"delta": -0.03, "low": -0.04, "high": -0.02, "converged": True, "degenerate": None, "sunk": False}
    told |= {"source": "synthetic", "all_visits": True} | other
    scores = []
    for key, label in (("nla-mmr", REFERENCE), ("lr", "LR")):
        for visits in ("all visits", "later visits")[key == "lr" and not told["all_visits"] :]:
            of_row = (told["delta"], told["low"], told["high"]) if key == "lr" else (0.0, 0.0, 0.0)
            change = of_row if visits == "all visits" else tuple(end / 3 for end in of_row)
            row = {"key": key, "label": label, "threshold": "tuned", "visits": visits, "metric": "jaccard"}
            row |= {"value": 0.4, "low": 0.39, "high": 0.41, "patients": 1009}
            scores.append(row | dict(zip(("delta", "delta_low", "delta_high"), change, strict=True)))
    costs = pl.DataFrame(
        {
            "key": ["nla-mmr", "lr"],
            "label": [REFERENCE, "LR"],
            "converged": [True, told["converged"]],
            "degenerate": pl.Series([None, told["degenerate"]], dtype=pl.String),
            "below_popularity": [False, told["sunk"]],
        }
    )
    about = {"cohort": {"source": told["source"]}, "seeds": 3}
    return Grid("nla-mmr-table2", "mine", pl.DataFrame(scores), costs, about)


def test_a_lead_is_of_the_first_row_and_of_later_visits_where_the_other_has_no_others():
    assert (lead(small_grid(), "lr").value, lead(small_grid(), "lr").low) == pytest.approx((0.03, 0.02))
    assert lead(small_grid(all_visits=False), "lr").value == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (
            {},
            "On synthetic records NLA-MMR leads LR by 0.030 Jaccard "
            "(95 % 0.020 to 0.040; 3 seeds, 1\u202f009 patients).",
        ),
        (
            {"delta": 0.03, "low": 0.02, "high": 0.04, "source": "demo"},
            "On the open demo mine NLA-MMR trails LR by 0.030 Jaccard "
            "(95 % 0.020 to 0.040; 3 seeds, 1\u202f009 patients).",
        ),
        ({"delta": -0.001, "low": -0.02, "high": 0.018}, "Not decided: +0.001 (95 % -0.018 to 0.020)."),
        ({"converged": False}, "LR's training had not converged; no verdict."),
        ({"degenerate": "one list to everybody"}, "LR says one list to everybody; no verdict."),
    ],
)
def test_rows_are_worded_in_three_forms(told, expected):
    assert sentence(small_grid(**told), "lr") == expected


def test_a_row_below_popularity_is_named_so():
    assert sentence(small_grid(sunk=True), "lr").endswith("patients). Below popularity: LR.")
