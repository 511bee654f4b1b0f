"""Colours are fixed, few, readable on both pages, and never the only difference."""

import itertools
from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from medrec import plotting
from medrec.models import registry
from medrec.paths import base_dir
from medrec.tasks.evaluation import Interval
from medrec.types import MedrecError


def _luminance(color):
    c = np.array(to_rgb(color))
    c = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    return c @ [0.2126, 0.7152, 0.0722]


def _contrast(a, b):
    low, high = sorted((_luminance(a), _luminance(b)))
    return (high + 0.05) / (low + 0.05)


SYSTEMS = [look for look in plotting.LOOKS.values() if look.color != plotting.INK]
GROUND = ("#ffffff", "#f4f5f7")
"""The light page, and the plate that lies under figures on the dark one."""


def _lab(color):
    """CIE L*a*b*, in which distances are about what an eye sees."""
    c = np.array(to_rgb(color))
    c = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    x, y, z = np.cbrt(to_xyz @ c / [0.9505, 1, 1.089])
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def test_twenty_systems_have_twenty_colours_that_can_be_told_apart():
    assert len(SYSTEMS) == 20
    for a, b in itertools.combinations(SYSTEMS, 2):
        assert np.linalg.norm(_lab(a.color) - _lab(b.color)) > 10, (a.label, b.label)


def test_colour_is_never_alone():
    for members in plotting._FAMILIES:
        looks = [plotting.look(label) for label, *_ in members]
        for a, b in itertools.combinations(looks, 2):
            assert a.marker != b.marker
            assert a.linestyle != b.linestyle


@pytest.mark.parametrize("ground", GROUND)
def test_lines_and_text_read_in_both_modes(ground):
    for look in plotting.LOOKS.values():
        assert _contrast(look.color, ground) >= 3, look.label
    assert _contrast(plotting.INK, ground) >= 4.5


def test_the_plate_of_dark_mode_is_the_one_that_is_tested():
    style = (base_dir() / "book" / "_vendor" / "medrec.css").read_text()
    assert f"background-color: {GROUND[1]}" in style


def test_names_are_forgiving_but_not_blind():
    assert plotting.color("bimorec") == plotting.color("BiMoRec") == plotting.COLORS["BiMoRec"]
    assert plotting.look("last-visit").label == "last visit"
    assert plotting.look("LR (C = 0.1)") == plotting.look("LR") != plotting.look("ECC")
    assert plotting.look("LR, as published") == plotting.look("LR")
    with pytest.raises(MedrecError, match="bimorek"):
        plotting.color("bimorek")


@pytest.fixture
def elsewhere(monkeypatch, tmp_path):
    """A module of three systems that are not the book's."""
    (tmp_path / "palette_toys.py").write_text(
        "from medrec.models.base import System\n"
        "class Toy: pass\n"
        "def toy(name, family):\n"
        "    return System(name=name, label=f'Toy {name}', family=family, cls=Toy, config=dict, sees='nothing')\n"
        "A, B, C = toy('a', 'graph'), toy('b', 'graph'), toy('c', 'of its own')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(plotting, "_ELSEWHERE", {})
    monkeypatch.setattr(registry, "_outside", {})


def test_a_system_from_elsewhere_looks_like_its_family_and_like_no_other_system(elsewhere):
    a, b, c = (plotting.look(f"palette_toys:{name}") for name in "ABC")
    assert (a.label, a.color) == ("Toy a", plotting.color("GAMENet"))
    family = [a, b, plotting.look("GAMENet"), plotting.look("COGNet")]
    assert len({look.marker for look in family}) == len({str(look.linestyle) for look in family}) == len(family)
    assert c.color == plotting.INK
    assert plotting.look("toy A") is plotting.look("Toy a (dropout = 0.1)") is a, "by its label too, and for good"


def test_a_label_is_known_only_where_its_system_was_asked_for(elsewhere):
    with pytest.raises(MedrecError, match=r"package\.module:SYSTEM"):
        plotting.look("Toy a")
    registry.get("palette_toys:A")
    assert plotting.look("Toy a").color == plotting.color("GAMENet")


def test_markers_may_run_out_but_looks_do_not(elsewhere):
    palette = plotting.look("palette_toys:A")
    for i in range(40):
        system = replace(registry.get("palette_toys:A"), label=f"Toy {i}")
        registry._outside[f"toy{i}"] = system
        assert plotting.look(system.label).color == palette.color


def test_every_system_of_the_book_has_its_place_in_the_table():
    for name in registry.NAMES:
        assert plotting.look(name) is plotting.LOOKS[plotting._key(name)]


def test_style_and_intervals():
    import matplotlib.pyplot as plt

    with mpl.rc_context():
        plotting.use_style()
        assert mpl.rcParams["figure.facecolor"] == "none"
        figure, ax = plt.subplots(figsize=(plotting.ONE_COLUMN, 2))
        plotting.plot_intervals(
            ax, ["LR", "RETAIN"], [0.4, 0.5], [(0.3, 0.5), (0.45, 0.55)], systems=["lr", "retain"], reference=0.45
        )
        assert [t.get_text() for t in ax.get_yticklabels()] == ["LR", "RETAIN"]
        assert len(ax.lines) == 5
        assert ax.lines[1].get_color() == plotting.color("LR")
        np.testing.assert_allclose(ax.lines[1].get_xdata(), [0.3, 0.5])
        plt.close(figure)


def test_changes_lie_around_zero_and_the_band_of_no_interest():
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots()
    changes = {"a": Interval(0.02, 0.01, 0.04, 0), "b": Interval(-0.01, -0.02, 0.0, 0)}
    plotting.plot_changes(ax, changes, smallest=0.005, systems="LEAP")
    (band,) = ax.patches
    assert (band.get_x(), band.get_width()) == (-0.005, 0.01)
    zero, *lines = ax.lines
    assert list(zero.get_xdata()) == [0, 0]
    assert [list(line.get_xdata()) for line in lines] == [[0.01, 0.04], [0.02], [-0.02, 0.0], [-0.01]]
    assert {line.get_color() for line in lines} == {plotting.color("LEAP")}
    assert [t.get_text() for t in ax.get_yticklabels()] == ["a", "b"]
    plt.close(figure)
