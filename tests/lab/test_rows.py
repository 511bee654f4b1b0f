"""What grids consist of: rows of systems, of papers and of files, the settings that they share, and what was chosen."""

from dataclasses import replace

import pytest

from medrec import paths
from medrec.lab import tune
from medrec.lab.rows import declared, grid_names, rows_of, settings_by_system, with_shared
from medrec.models import registry
from medrec.models.base import SMALL, Row
from medrec.types import MedrecError
from tests.models import toy_system

TOY = "tests.models.toy_system:SYSTEM"


@pytest.mark.parametrize("name", grid_names())
def test_rows_of_the_house_are_trainings_that_exist_and_differ(name):
    rows = rows_of(name)
    assert len({row.key for row in rows}) == len({row.label for row in rows}) == len(rows)
    # The sweep is of the narrow model of small cohorts; one of its widths is the usual one on large ones.
    for n_train in (SMALL - 1, SMALL) if name != "bimorec-sensitivity" else (SMALL - 1,):
        trained = [
            (row.system, registry.get(row.system).configure(row.variant, row.settings, n_train=n_train)) for row in rows
        ]
        assert len(set(trained)) == len(trained), "two rows are one and the same training"


@pytest.mark.parametrize("name", grid_names())
def test_a_row_without_changes_is_called_like_its_system(name):
    for row in rows_of(name):
        if row.variant == "paper" and not row.settings and not row.knob:
            assert (row.key, row.label) == (row.system, registry.get(row.system).label)


def test_a_system_without_switches_is_a_grid_of_one_row():
    assert rows_of("last-visit") == (Row("last-visit", "last visit", "last-visit"),)


def test_rows_of_a_system_from_elsewhere_are_found_from_anywhere(monkeypatch):
    assert rows_of(TOY) == (Row("toy", "Toy", TOY),)
    switches = (Row("toy", "Toy", "toy"), Row("wide", "wide", "toy", settings={"size": 64}), Row("lr", "LR", "lr"))
    monkeypatch.setattr(toy_system, "SYSTEM", replace(toy_system.SYSTEM, rows=switches))
    assert [row.system for row in rows_of(TOY)] == [TOY, TOY, "lr"]


def test_a_row_is_picked_by_its_key():
    controls = declared("bimorec-controls")
    assert controls.row("flat").variant == "flat"
    with pytest.raises(MedrecError, match=r"no row 'falt'\. Did you mean 'flat'"):
        controls.row("falt")


def test_sensitivity_turns_one_knob_at_a_time():
    plain = registry.get("bimorec").configure(n_train=SMALL - 1)
    for row in rows_of("bimorec-sensitivity")[1:]:
        config = registry.get("bimorec").configure(row.variant, row.settings, n_train=SMALL - 1)
        changed = [name for name in vars(plain) if getattr(plain, name) != getattr(config, name)]
        if row.value == 0:
            assert changed == ["pretrain"]
        else:
            assert changed == [row.knob]
            assert getattr(config, row.knob) == row.value


def test_the_interaction_of_the_ablation_is_made_of_its_rows():
    ablation = declared("bimorec-ablation")
    (beyond,) = ablation.contrasts
    assert set(beyond.signs) == {row.key for row in ablation.rows}
    assert sum(beyond.signs.values()) == 0
    # Of what is switched off at a time: T alone, E alone, both.
    off = {"bimorec": "", "wo_T": "T", "wo_E": "E", "wo_TE": "TE"}
    for switch in "TE":
        assert sum(sign for key, sign in beyond.signs.items() if switch in off[key]) == 0
    assert declared("bimorec-controls").contrasts == ()


# -- settings that rows share ------------------------------------------------------------------------------------------


def settings_of(rows):
    return {row.key: dict(row.settings) for row in rows}


def test_a_rows_own_settings_win_over_shared_ones():
    rows = (
        Row("plain", "plain", "retain"),
        Row("short", "short", "retain", settings={"epochs": 1}),
        Row("lr", "LR", "lr"),
    )
    found = settings_of(with_shared(rows, {"epochs": 7, "dropout": 0.1}))
    assert found == {"plain": {"epochs": 7, "dropout": 0.1}, "short": {"epochs": 1, "dropout": 0.1}, "lr": {}}


def test_a_rows_own_variant_wins_over_shared_settings():
    rows = (Row("plain", "plain", "retain"), Row("official", "official", "retain", "official"))
    found = settings_of(with_shared(rows, {"reverse_time": True, "size": 8}))
    assert found == {"plain": {"reverse_time": True, "size": 8}, "official": {"size": 8}}


def test_what_is_said_of_one_system_wins_over_what_is_said_of_all():
    systems = {name: registry.get(name) for name in ("retain", "leap", "lr")}
    for told in ({"retain.epochs": 2, "epochs": 9}, {"epochs": 9, "retain.epochs": 2}):
        assert settings_by_system(systems, told) == {"retain": {"epochs": 2}, "leap": {"epochs": 9}, "lr": {}}


def test_a_system_from_elsewhere_is_told_by_its_name_or_by_where_it_is():
    rows = (Row("toy", "Toy", TOY), Row("lr", "LR", "lr"))
    for named in ("toy.size", f"{TOY}.size", "size"):
        assert settings_of(with_shared(rows, {named: 5})) == {"toy": {"size": 5}, "lr": {}}


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"epoch": 3}, "no system here has it. Did you mean 'epochs'"),
        ({"retian.epochs": 3}, "no 'retian' here. Did you mean 'retain'"),
        ({"lr.epochs": 3}, "no system here has it. They have C, threshold"),
        ({"epochs": "many"}, "RETAIN: epochs is 'many'; it must be a whole number"),
    ],
)
def test_a_shared_setting_that_nobody_has_is_an_error(told, said):
    with pytest.raises(MedrecError) as error:
        with_shared((Row("retain", "RETAIN", "retain"), Row("lr", "LR", "lr")), told)
    assert said in str(error.value)


# -- files of the user's -----------------------------------------------------------------------------------------------


def test_a_file_says_what_is_trained(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(
        "cohort: mimic3\n"
        "rows:\n"
        "  - {key: lr, system: lr}\n"
        "  - {key: narrow, label: 'RETAIN, narrow', system: retain, variant: official, settings: {size: 16},\n"
        "     knob: size, value: 16}\n"
        f"  - {{key: toy, system: '{TOY}', settings: {{epochs: 2}}}}\n"
    )
    found = declared(file)
    assert (found.name, found.cohort, found.house) == ("mine", "mimic3", False)
    assert found.rows == (
        Row("lr", "lr", "lr"),
        Row("narrow", "RETAIN, narrow", "retain", "official", {"size": 16}, "size", 16),
        Row("toy", "toy", TOY, settings={"epochs": 2}),
    )
    assert declared(str(file)) == found
    file.write_text("rows: [{key: lr, system: lr}]")
    assert declared(file).cohort is None


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("cohort: synthetic", "the key 'rows' is missing"),
        ("rows: []", "rows must be a list with one entry or more"),
        ("row: [{key: a, system: lr}]", "unknown key 'row'. Did you mean 'rows'"),
        ("rows: [{key: a, system: lr, setings: {C: 1}}]", "row 1: unknown key 'setings'. Did you mean 'settings'"),
        ("rows: [{key: a}]", "row 1: the key 'system' is missing"),
        ("rows: [{system: lr}]", "row 1: the key 'key' is missing"),
        ("rows: [{key: a, system: lr}, {key: b, system: retian}]", "row 2: There is no system 'retian'"),
        ("rows: [{key: a, system: retain, variant: oficial}]", "Did you mean 'official'"),
        ("rows: [{key: a, system: retain, settings: {dropot: 1}}]", "Did you mean 'dropout'"),
        ("rows: [{key: a, system: retain, settings: [dropout]}]", "settings is ['dropout']; it must hold keys"),
        ("rows: [{key: a, system: lr}, {key: a, label: b, system: lr}]", "two rows have the key 'a'"),
        ("rows: [{key: a, label: x, system: lr}, {key: b, label: x, system: lr}]", "two rows have the label 'x'"),
        ("rows: [{key: 1, system: lr}]", "key is 1; it must be a word"),
        ("rows: [{key: a, system: lr, knob: C, value: high}]", "value is 'high'; it must be a number"),
        ("cohort: [a]\nrows: [{key: a, system: lr}]", "cohort is ['a']; it must be a name"),
        ("- a\n- b", "must hold keys and values"),
        ("a: [", "is not YAML"),
    ],
)
def test_mistakes_in_a_file_are_named(tmp_path, content, said):
    file = tmp_path / "a.yaml"
    file.write_text(content)
    with pytest.raises(MedrecError) as error:
        rows_of(file)
    assert said in str(error.value)
    assert str(file) in str(error.value)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("bimorec-ablations", "Did you mean 'bimorec-ablation'"),
        ("/nowhere.yaml", "There is no file /nowhere.yaml"),
        ("no.such:SYSTEM", "cannot be imported"),
    ],
)
def test_a_grid_that_does_not_exist(name, said):
    with pytest.raises(MedrecError) as error:
        rows_of(name)
    assert said in str(error.value)


# -- what was chosen on validation patients, and is then used ----------------------------------------------------------

SEARCHED = sorted(folder.parent.name for folder in (paths.results_dir() / "tune").glob("*/synthetic-6350"))
"""Systems whose search is kept."""


@pytest.mark.parametrize("name", SEARCHED)
def test_what_the_search_found_is_what_is_declared(name):
    declared, winner = registry.get(name).configure(), dict(tune.read(name, "synthetic-6350").winner)
    epochs = winner.pop("epochs", None)
    assert {setting: getattr(declared, setting) for setting in winner} == winner
    # A falling rate comes to its end after as many epochs as in the search; a constant one may take longer to converge.
    if epochs is not None:
        assert declared.epochs == epochs if declared.schedule == "cosine" else declared.epochs >= epochs


def test_lr_of_the_table_has_the_penalty_that_validation_chose():
    row = declared("bimorec-table2").row("lr")
    assert registry.get("lr").configure(row.variant, row.settings) == registry.get("lr").configure()
