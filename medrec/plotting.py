"""One look for every figure of the book: style, widths, and a fixed colour and marker for each system.

Every system of the book has a colour of its own, a shade of the hue of its family, and within the family a marker and
a line style of its own, so that no figure has to be read by colour alone.  Reference points are grey.  Figures stand
on a light ground in both modes of the page, since words about what is dark or bright in one must hold in the other.
A system from elsewhere takes the colour of its family and a free marker.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from medrec.types import MedrecError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from medrec.models.base import System
    from medrec.tasks.evaluation import Interval

ONE_COLUMN = 4.8
"""Width of a figure in one column, inches."""
FULL = 7.2
"""Width of a figure over the full text, inches."""

BLUE, GREEN, OCHRE, PURPLE, VERMILION, SKY = "#0072b2", "#009e73", "#ad8200", "#c9709f", "#c8480f", "#3c90c6"
INK = "#4b5563"
"""Text, axes and reference points."""


@dataclass(frozen=True)
class Look:
    """How a system is drawn, everywhere."""

    label: str
    color: str
    marker: str
    linestyle: str | tuple


_DASHES = (
    "-",
    "--",
    ":",
    "-.",
    (0, (5, 1)),
    (0, (3, 1, 1, 1)),
    (0, (1, 3)),
    (0, (8, 2)),
    (0, (2, 2)),
    (0, (6, 1, 2, 1)),
    (0, (4, 4)),
)
_FAMILIES: tuple[tuple[tuple[str, str, str], ...], ...] = (
    (("LR", "o", BLUE), ("ECC", "s", "#00497a")),
    (("RETAIN", "o", GREEN), ("LEAP", "s", "#00614a"), ("MICRON", "^", "#5f9231")),
    (("GAMENet", "o", OCHRE), ("COGNet", "s", "#7a5200")),
    (
        ("SafeDrug", "o", PURPLE),
        ("MoleRec", "s", "#7b2d8b"),
        ("CausalMed", "^", "#a8124f"),
        ("DrugRec", "D", "#9a79c4"),
    ),
    (("BiMoRec", "*", VERMILION), ("NLA-MMR", "P", "#e0663c"), ("DiffKG", "X", "#7d2406")),
    (
        ("KGCN", "o", SKY),
        ("KGAT", "s", "#2b4fb0"),
        ("KGIN", "^", "#0f8896"),
        ("MultiVAE", "D", "#6672d9"),
        ("CDAE", "v", "#1b6070"),
        ("DiffRec", "<", "#7d8aa0"),
    ),
    (
        ("popularity", "s", INK),
        ("last visit", "D", INK),
        ("random", "x", INK),
        ("prescribed", "+", INK),
        ("most popular", "^", INK),
        ("repeat", "v", INK),
        ("EASE", "o", INK),
        ("past LR", "P", INK),
        ("item cosine", "<", INK),
        ("LightGCN", "X", INK),
        ("BPR-MF", ">", INK),
    ),
)
_COLOR_OF_FAMILY = {
    "reference": INK,
    "classical": BLUE,
    "sequence": GREEN,
    "graph": OCHRE,
    "molecule": PURPLE,
    "causal": PURPLE,
    "language": VERMILION,
    "generative": SKY,
}
_MARKERS = "osD^v<>Xphd8H*P"


def _key(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


LOOKS: dict[str, Look] = {
    _key(label): Look(label, color, marker, _DASHES[i])
    for members in _FAMILIES
    for i, (label, marker, color) in enumerate(members)
}
COLORS: dict[str, str] = {look.label: look.color for look in LOOKS.values()}
"""Colour of each system, by the name printed in the book."""


def look(system: str) -> Look:
    """Colour, marker, line style and printed name of a system.

    Args:
        system: as in the papers or on the command line; case, spaces and hyphens do not matter
            (``"BiMoRec"``, ``"bimorec"``, ``"last-visit"``); settings in brackets or after a comma
            do not matter (``"LR (C = 0.1)"``, ``"LR, as published"``).  A system from elsewhere:
            ``package.module:SYSTEM``, or its label once it has been used.

    Raises:
        MedrecError: a name that neither the book nor this process knows.
    """
    name = system.partition(" (")[0]
    for known in (name, name.partition(", ")[0]):
        if _key(known) in LOOKS:
            return LOOKS[_key(known)]
    found = _declared(name)
    return LOOKS.get(_key(found.label)) or _ELSEWHERE.setdefault(_key(found.label), _free_look(found))


_ELSEWHERE: dict[str, Look] = {}


def _declared(name: str) -> System:
    """The system of a name that has no place in the table."""
    # Imported here: the registry loads PyTorch, which no figure needs.
    from medrec.models import registry

    if ":" in name or name in registry.NAMES:
        return registry.get(name)
    for system in registry.from_elsewhere():
        if _key(name) in (_key(system.label), _key(system.name)):
            return system
    known = ", ".join(entry.label for entry in (*LOOKS.values(), *_ELSEWHERE.values()))
    raise MedrecError(
        f"No colour is kept for the system {name!r}. Known are {known}; one of your own is named package.module:SYSTEM."
    )


def _free_look(system: System) -> Look:
    """Colour of the family, with the first marker and dashes that nobody in it has."""
    color = _COLOR_OF_FAMILY.get(system.family, INK)
    family = next(members for members in _FAMILIES if members[0][2] == color)
    alike = [LOOKS[_key(label)] for label, *_ in family] + [x for x in _ELSEWHERE.values() if x.color == color]
    markers, dashes = {entry.marker for entry in alike}, {str(entry.linestyle) for entry in alike}
    return Look(
        system.label,
        color,
        next((marker for marker in _MARKERS if marker not in markers), _MARKERS[len(alike) % len(_MARKERS)]),
        next((dash for dash in _DASHES if str(dash) not in dashes), _DASHES[len(alike) % len(_DASHES)]),
    )


def color(system: str) -> str:
    """Colour of a system, the same in every figure of the book."""
    return look(system).color


def use_style() -> None:
    """Apply the book's style: bundled fonts, vector output, transparent ground, no titles inside axes."""
    import matplotlib.pyplot as plt

    plt.style.use(Path(__file__).with_name("book.mplstyle"))
    try:
        from IPython import get_ipython
    except ImportError:
        return
    if get_ipython() is not None:
        from matplotlib_inline.backend_inline import set_matplotlib_formats

        # A fixed date and identifier salt: the same figure gives the same file.
        set_matplotlib_formats("svg", metadata={"Date": None})


def plot_intervals(
    ax: Axes,
    labels: Sequence[str],
    values: Sequence[float],
    intervals: Sequence[tuple[float, float]],
    *,
    systems: Sequence[str] | None = None,
    reference: float | None = None,
) -> None:
    """Values with their intervals, one row each, first row on top.

    Args:
        ax: where to draw.
        labels: names of the rows.
        values: one for each row.
        intervals: lower and upper end for each row, absolute.
        systems: system of each row, which fixes colour and marker; grey dots without it.
        reference: position of a thin vertical line, e.g. 0 for differences.
    """
    rows = range(len(labels))
    if reference is not None:
        ax.axvline(reference, color=INK, linewidth=0.8, linestyle=":", zorder=0)
    for row, value, (low, high) in zip(rows, values, intervals, strict=True):
        style = look(systems[row]) if systems is not None else Look("", INK, "o", "-")
        ax.plot([low, high], [row, row], color=style.color, linewidth=1.6, solid_capstyle="butt")
        ax.plot([value], [row], color=style.color, marker=style.marker, markersize=6, linestyle="none")
    ax.set_yticks(list(rows), list(labels))
    ax.set_ylim(len(labels) - 0.5, -0.5)
    ax.grid(axis="y", visible=False)


def plot_changes(
    ax: Axes, changes: Mapping[str, Interval], *, smallest: float, systems: str | Sequence[str] | None = None
) -> None:
    """Changes with their intervals, around zero and a band of the smallest difference of interest.

    Args:
        ax: where to draw.
        changes: by name of the row.
        smallest: half the width of the band.
        systems: of all rows, or of each, as in :func:`plot_intervals`.
    """
    if isinstance(systems, str):
        systems = [systems] * len(changes)
    ax.axvspan(-smallest, smallest, color="0.5", alpha=0.15, lw=0)
    values, ends = [c.value for c in changes.values()], [(c.low, c.high) for c in changes.values()]
    plot_intervals(ax, list(changes), values, ends, systems=systems, reference=0)
    ax.locator_params(axis="x", nbins=5)  # signs and three decimals are wide
