"""Grids of NLA-MMR's results: each row turns what it names, and the rule on encoders."""

import pytest

from medrec.experiments.nla_mmr_grids import ABLATION, GRIDS, HISTORY, PRINTED, REFERENCE, SENSITIVITY, what_carries
from medrec.lab import published
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
