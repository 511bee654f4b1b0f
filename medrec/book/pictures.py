"""A picture of each system, drawn from a few lines in ``flows.yaml``: what goes in, where, and what comes out.

.. code-block:: text

    diagnoses, procedures > embedding > GRU over visits > patient
    past medications > memory > patient
    patient > medications
    loss: binary cross-entropy

In every line each part leads to the next one; parts with a comma between them lead there together.  What nothing leads
to is an input, what leads nowhere is what the system says, or a loss that is named as one.  Inputs have the colour of
what they are, see :data:`INPUTS`; arrows from earlier visits are thick, so that one sees where history enters.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import yaml

from medrec import paths, plotting
from medrec.models import registry
from medrec.types import MedrecError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LOSS = "loss:"
ARROW = ">"
INPUTS = {
    "past": ("earlier visits", plotting.GREEN),
    "diagnoses": ("codes of the visit", plotting.BLUE),
    "procedures": ("codes of the visit", plotting.BLUE),
    "symptoms": ("codes of the visit", plotting.BLUE),
    "texts": ("language", plotting.OCHRE),
    "molecules": ("molecules", plotting.PURPLE),
    "conformers": ("molecules", plotting.PURPLE),
    "graph": ("a graph of knowledge", plotting.SKY),
    "prescribed": ("prescriptions of training", plotting.INK),
    "answers": ("true in training, its own in use", plotting.INK),
    "noise": ("noise", plotting.VERMILION),
}
"""First word of an input: what it is, and its colour."""
HEIGHT, PITCH, GAP = 0.4, 0.5, 0.28
"""Of a box, from row to row, and between two columns, inches."""
MOST = 1.3
"""Width of a box where there are few columns."""
FONT = 7
"""Points; a letter is 0.62 of it wide."""


@dataclass(frozen=True)
class Flow:
    """How a system gets from its inputs to what it says.

    Args:
        arrows: pairs of parts, in the order of the declaration.
        losses: what it is trained by.
    """

    arrows: tuple[tuple[str, str], ...]
    losses: tuple[str, ...]

    @classmethod
    def of(cls, declaration: str) -> Flow:
        """Read the lines of a declaration.

        Raises:
            MedrecError: a line leads nowhere, parts lead in a circle, an input is of no kind, or several parts lead
                nowhere.
        """
        arrows: dict[tuple[str, str], None] = {}
        losses: list[str] = []
        for line in filter(None, map(str.strip, declaration.splitlines())):
            if line.startswith(LOSS):
                losses += _parts(line.removeprefix(LOSS))
                continue
            stops = [_parts(stop) for stop in line.split(ARROW)]
            if len(stops) < 2 or not all(stops):
                raise MedrecError(f"The line {line!r} of a flow leads nowhere; write `diagnoses > embedding`.")
            for start, end in pairwise(stops):
                arrows |= dict.fromkeys((a, b) for a in start for b in end)
        flow = cls(tuple(arrows), tuple(losses))
        unknown = [name for name in flow.inputs if name.split()[0] not in INPUTS]
        if unknown:
            raise MedrecError(f"The input {unknown[0]!r} of a flow begins with none of {', '.join(INPUTS)}.")
        if len(flow.outputs) != 1:
            raise MedrecError(f"A flow has one output, and this one {', '.join(flow.outputs) or 'none'}.")
        return flow

    @cached_property
    def parts(self) -> tuple[str, ...]:
        """All of them, in the order of the declaration."""
        return tuple(dict.fromkeys(part for arrow in self.arrows for part in arrow))

    @property
    def inputs(self) -> tuple[str, ...]:
        """Parts that nothing leads to."""
        return tuple(part for part in self.parts if all(end != part for _, end in self.arrows))

    @property
    def outputs(self) -> tuple[str, ...]:
        """Parts that lead nowhere and are no loss."""
        ends = [part for part in self.parts if all(start != part for start, _ in self.arrows)]
        return tuple(part for part in ends if part not in self.losses)

    @cached_property
    def columns(self) -> dict[str, int]:
        """Column of each part: right of all that leads to it; inputs directly before what they lead to.

        Raises:
            MedrecError: parts lead in a circle.
        """
        found = dict.fromkeys(self.parts, 0)
        for _ in range(len(found) + 1):
            before = dict(found)
            for start, end in self.arrows:
                found[end] = max(found[end], found[start] + 1)
            if found == before:
                break
        else:
            raise MedrecError("The parts of a flow lead in a circle.")
        for part in self.inputs:
            found[part] = min(found[end] for start, end in self.arrows if start == part) - 1
        return found

    @property
    def words(self) -> str:
        """The picture in words, for those who do not see it."""
        leads = {part: [end for start, end in self.arrows if start == part] for part in self.parts}
        into = [
            f"{_listed([p for p in self.parts if leads[p] == ends])} into {_listed(ends)}" for ends in _distinct(leads)
        ]
        said = f"{into[0][0].upper()}{into[0][1:]}" if into else ""
        trained = f" Trained by {_listed(self.losses)}." if self.losses else ""
        return "; ".join([said, *into[1:]]) + f".{trained}"


@cache
def flows() -> dict[str, Flow]:
    """All flows, by the name of the system."""
    text = paths.record_read(paths.PACKAGE / "book" / "flows.yaml").read_text(encoding="utf-8")
    return {name: Flow.of(lines) for name, lines in yaml.safe_load(text).items()}


def plot_system(name: str) -> Figure:
    """The picture of a system.

    Args:
        name: of the system.

    Raises:
        MedrecError: there is no such system, or no picture of it.
    """
    import matplotlib.pyplot as plt

    system = registry.get(name)
    if system.name not in flows():
        raise MedrecError(f"There is no picture of {system.label}. There is one of {', '.join(flows())}.")
    flow = flows()[system.name]
    place, ways = _places(flow)
    columns, rows = (int(max(p[i] for p in place.values())) + 1 for i in (0, 1))
    box = min(MOST, (plotting.FULL + GAP) / columns - GAP)
    width, height = columns * (box + GAP) - GAP, max(rows, 2) * PITCH
    fig = plt.figure(figsize=(width + 0.1, height + 0.6), layout="none")
    ax = fig.add_axes((0, 0, 1, 1), xlim=(-0.05, width + 0.05), ylim=(-height - 0.55, 0.05))
    ax.axis("off")
    at = {part: (column * (box + GAP) + box / 2, -(row + 0.5) * PITCH) for part, (column, row) in place.items()}
    for way in ways:
        _draw_way(ax, [at[part] for part in way], box, past=way[0].split()[0] == "past")
    for part in flow.parts:
        _draw_box(ax, part, at[part], box, flow)
    _draw_legend(ax, flow, -height - 0.12)
    return fig


# -- where things stand ------------------------------------------------------------------------------------------------


def _places(flow: Flow) -> tuple[dict[str, tuple[float, float]], list[list[str]]]:
    """Column and row of each part and of each bend of a long arrow, and the arrows as ways from part to part."""
    column = dict(flow.columns)
    ways = []
    for start, end in flow.arrows:
        bends = [f"{start} {ARROW} {end} {ARROW} {c}" for c in range(column[start] + 1, column[end])]
        column |= {bend: column[start] + 1 + i for i, bend in enumerate(bends)}
        ways.append([start, *bends, end])
    steps = [(a, b) for way in ways for a, b in pairwise(way)]
    by_column = [[part for part, c in column.items() if c == i] for i in range(max(column.values()) + 1)]
    row = {part: float(i) for parts in by_column for i, part in enumerate(parts)}
    for sweep in range(8):  # towards the mean of the neighbours, from the left and from the right in turn
        for parts in by_column if sweep % 2 == 0 else by_column[::-1]:
            wish = {part: np.mean([row[a if b == part else b] for a, b in steps if part in (a, b)]) for part in parts}
            for i, part in enumerate(sorted(parts, key=lambda part: (wish[part], parts.index(part)))):
                row[part] = i
    most = max(map(len, by_column))
    for parts in by_column:  # each column in the middle
        for part in parts:
            row[part] += (most - len(parts)) / 2
    return {part: (column[part], row[part]) for part in column}, ways


# -- drawing -----------------------------------------------------------------------------------------------------------


def _draw_way(ax: Axes, points: Sequence[tuple[float, float]], box: float, *, past: bool) -> None:
    """An arrow from the right end of a box to the left end of another, past the bends between them."""
    (x, y), *bends, (end, height) = points
    line = [(x + box / 2, y)]
    for x, y in bends:
        line += [(x - box / 2, y), (x + box / 2, y)]
    color, width = (INPUTS["past"][1], 2.2) if past else (plotting.INK, 1.0)
    ax.plot(*zip(*line, strict=True), color=color, linewidth=width, solid_joinstyle="round")
    style = {"arrowstyle": "-|>", "color": color, "linewidth": width, "shrinkA": 0, "shrinkB": 0}
    ax.annotate("", (end - box / 2, height), line[-1], arrowprops=style)


def _draw_box(ax: Axes, part: str, at: tuple[float, float], box: float, flow: Flow) -> None:
    from matplotlib.patches import FancyBboxPatch

    inside, outside = part in flow.inputs, part in flow.outputs
    color = INPUTS[part.split()[0]][1] if inside else plotting.INK
    ax.add_patch(
        FancyBboxPatch(
            (at[0] - box / 2, at[1] - HEIGHT / 2),
            box,
            HEIGHT,
            boxstyle=f"round,pad=0,rounding_size={0.18 if inside else 0.04}",
            facecolor=color if outside else "#ffffff",
            edgecolor=color,
            linewidth=2.0 if inside or outside else 1.0,
            linestyle="--" if part in flow.losses else "-",
        )
    )
    letters = int(box / (0.62 * FONT / 72))
    ink = "#ffffff" if outside else "#1f2933"
    words = textwrap.fill(part, letters, break_long_words=False)
    ax.text(*at, words, ha="center", va="center", fontsize=FONT, linespacing=1.05, color=ink)


def _draw_legend(ax: Axes, flow: Flow, y: float) -> None:
    """What colours of inputs mean, and what the system is trained by."""
    x = 0.0
    for kind, color in dict(INPUTS[part.split()[0]] for part in flow.inputs).items():
        ax.plot([x + 0.05, x + 0.22], [y, y], color=color, linewidth=4, solid_capstyle="round")
        ax.text(x + 0.3, y, kind, va="center", fontsize=FONT, color=plotting.INK)
        x += 0.5 + 0.058 * len(kind)
    if flow.losses:
        ax.text(0.05, y - 0.24, f"trained by {_listed(flow.losses)}", va="center", fontsize=FONT, color=plotting.INK)


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _listed(words: Sequence[str]) -> str:
    return ", ".join(words[:-1]) + " and " * (len(words) > 1) + words[-1]


def _distinct(leads: dict[str, list[str]]) -> list[list[str]]:
    found: list[list[str]] = []
    for ends in leads.values():
        if ends and ends not in found:
            found.append(ends)
    return found
