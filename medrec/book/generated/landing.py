"""The picture of the first page: the ladder from a regression as tables run it to what nobody can know.

It is drawn from the kept rows of :mod:`medrec.experiments.ladder` whenever the book is built, once for wide and once
for narrow windows, with words in the colour of the page. Systems of the literature stand in its last row when rows of
the *same records* are kept for them; other rows would mislead, and the caption says that they are missing.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from html import escape

import polars as pl

from medrec import plotting
from medrec.book import page
from medrec.book.generated import html
from medrec.experiments import ladder as learnable
from medrec.lab import kept

COHORT = learnable.STORED[-1]
SCORED = "later"
"""On a first visit there is no past, so that the steps could not part."""
SYSTEMS = "grids/bimorec-table2"
"""Kept rows of the systems, task of visits."""
REFERENCES = ("popularity", "last visit", "LR", "ECC")
"""Rows of that table that are no system of the literature on medications, by the beginning of their label."""

BY_TABLE, BY_INPUT, BY_FORM, BY_NOBODY = "who runs the table", "what it is told", "form of the model", "nobody"
COLORS = {
    BY_TABLE: plotting.VERMILION,
    BY_INPUT: plotting.BLUE,
    BY_FORM: plotting.PURPLE,
    BY_NOBODY: "#7a8291",  # a grey that stands out on both pages
}
LEFT, RIGHT = 0.40, 0.70
"""Ends of the axis, Jaccard."""


@dataclass(frozen=True)
class Rung:
    """One bar, from what was reached before it to what is reached with it.

    Args:
        words: what is done.
        start: Jaccard before.
        end: Jaccard with it.
        choice: whose choice it is, a key of :data:`COLORS`.
    """

    words: str
    start: float
    end: float
    choice: str

    @property
    def gain(self) -> str:
        return f"{self.end - self.start:+.3f}".replace("-", "−")

    @property
    def gained(self) -> str:
        """What stands beside the bar: the first one is no gain over anything."""
        return f"{self.end:.3f}" if self.start == LEFT else self.gain


@cache
def kept_rows() -> kept.Kept:
    """The kept ladder of :data:`COHORT`."""
    return learnable.read(COHORT)


def reached() -> dict[str, float]:
    """Step of the ladder → Jaccard on later visits."""
    table = kept_rows().table("ladder").filter(scored=SCORED)
    return dict(table.select("step", "Jaccard").iter_rows())


def rungs() -> list[Rung]:
    """The bars, from the regression as tables run it upward."""
    at = reached()
    published, tuned, last, past = (at[s] for s in ("LR as published", "LR", "LR, last visit", "LR, trees on the past"))
    known = at[learnable.GENERATOR[-1]]
    return [
        Rung("a logistic regression, run as published tables run it", LEFT, published, BY_NOBODY),
        Rung("its penalty and its cut chosen on validation patients", published, tuned, BY_TABLE),
        Rung("told the medications of the visit before", tuned, last, BY_INPUT),
        Rung("told each class’s own past, read by trees", last, past, BY_INPUT),
        Rung("a neural layer over the whole past instead", past, at["one hidden layer"], BY_FORM),
        Rung("what no record shows, known to the generator alone", past, known, BY_NOBODY),
    ]


def systems() -> pl.DataFrame:
    """Systems of the literature on the same records and visits, where there are such rows that have learnt.

    Returns:
        ``label``, ``value`` (Jaccard); no row where the kept rows are of other records, or do not say of which.
    """
    empty = pl.DataFrame(schema={"label": pl.String, "value": pl.Float64})
    if not kept_of_same_records():
        return empty
    rows = kept.read(SYSTEMS, COHORT)
    scores = rows.table("scores").filter(visits=f"{SCORED} visits", metric="jaccard", threshold="tuned")
    if "trained" in rows.table("costs").columns:
        scores = scores.join(rows.table("costs").filter("trained").select("label"), on="label", how="semi")
    named = ~pl.any_horizontal(*(pl.col("label").str.starts_with(name) for name in REFERENCES))
    return scores.filter(named).select("label", "value").unique().sort("value", "label")


def kept_of_same_records() -> bool:
    """Whether the systems' kept rows are of the very records of the ladder."""
    rows = [found for found in kept.all_kept() if found.study == SYSTEMS and found.cohort == COHORT]
    content = kept_rows().provenance["cohort"]["content"]
    return any(content is not None and found.provenance["cohort"]["content"] == content for found in rows)


# -- drawing ---------------------------------------------------------------------------------------------------------


def _svg(width: int, *, narrow: bool, name: str) -> str:
    """The picture at one width; words above the bars where it is narrow, beside them where it is wide."""
    bars, dots = rungs(), systems()
    margin, x0, x1 = 10, (18 if narrow else 320), width - (64 if narrow else 116)
    row, bar, size = (56, 20, 14) if narrow else (44, 24, 14)
    top = 22

    def x(value: float) -> float:
        return x0 + (value - LEFT) / (RIGHT - LEFT) * (x1 - x0)

    parts: list[str] = []
    for k, one in enumerate(bars):
        y = top + k * row
        at = y + (row - bar - 8 if narrow else (row - bar) / 2)
        low, high = sorted((one.start, one.end))
        first, beyond = k == 0, k == len(bars) - 1
        fill = 'fill="none" stroke-dasharray="5 3"' if beyond else f'fill="{COLORS[one.choice]}"'
        parts += [
            f'<rect x="{x(low):.1f}" y="{at:.1f}" width="{max(x(high) - x(low), 2):.1f}" height="{bar}" {fill} '
            f'stroke="{COLORS[one.choice]}" stroke-width="1.5"/>',
            *_words(one.words, margin, y + 14 if narrow else y + row / 2, size, 0 if narrow else 38),
            f'<text x="{x(high) + 6:.1f}" y="{at + bar / 2 + (5 if narrow or first or beyond else 0):.1f}" '
            f'font-size="{size}"><tspan font-weight="600">{one.gained}</tspan>'
            + ("" if narrow else f" → {one.end:.3f}" if not first else "")
            + (f" {one.choice}" if narrow and not first and not beyond else "")
            + "</text>",
        ]
        if not (narrow or first or beyond):
            parts.append(f'<text x="{x(high) + 6:.1f}" y="{at + bar / 2 + 15:.1f}" font-size="12">{one.choice}</text>')
        if not narrow and not beyond and k != len(bars) - 2:  # from the end of a bar to the next
            parts.append(
                f'<line x1="{x(one.end):.1f}" x2="{x(one.end):.1f}" y1="{at + bar:.1f}" '
                f'y2="{at + row:.1f}" stroke="currentColor" stroke-width="1" stroke-dasharray="2 2"/>'
            )
    y = top + len(bars) * row
    if len(dots):
        parts += _words("systems of the literature, one dot each", margin, y + (14 if narrow else row / 2), size, 38)
        at = y + (row - 16 if narrow else row / 2)
        for label, value in dots.iter_rows():
            parts.append(
                f'<circle cx="{x(value):.1f}" cy="{at:.1f}" r="6" fill="{plotting.INK}" fill-opacity=".55">'
                f"<title>{escape(label)} {value:.3f}</title></circle>"
            )
        y += row
    parts.append(f'<line x1="{x0}" x2="{x1}" y1="{y}" y2="{y}" stroke="currentColor" stroke-width="1"/>')
    for tick in (0.40, 0.50, 0.60, 0.70):
        parts.append(
            f'<line x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{y}" y2="{y + 5}" stroke="currentColor"/>'
            f'<text x="{x(tick):.1f}" y="{y + 20}" font-size="13" text-anchor="middle">{tick:.2f}</text>'
        )
    parts.append(
        f'<text x="{(x0 + x1) / 2:.0f}" y="{y + 40}" font-size="13" text-anchor="middle">'
        "Jaccard on later visits →</text>"
    )
    height = y + 50
    return (
        f'<svg class="medrec-ladder-{name}" viewBox="0 0 {width} {height:.0f}" role="img" '
        f'aria-labelledby="ladder-title-{name} ladder-words-{name}">'
        f'<title id="ladder-title-{name}">Where the gains come from</title>'
        f'<desc id="ladder-words-{name}">{escape(described())}</desc>{"".join(parts)}</svg>'
    )


def _words(text: str, x: float, y: float, size: int, limit: int) -> list[str]:
    """A label in one or two lines, centred on y where it may be broken."""
    if not limit or len(text) <= limit:
        return [f'<text x="{x}" y="{y + (5 if limit else 0):.1f}" font-size="{size}">{escape(text)}</text>']
    cut = text.rfind(" ", 0, limit)
    return [
        f'<text x="{x}" y="{y + shift:.1f}" font-size="{size}">{escape(line)}</text>'
        for shift, line in ((-4, text[:cut]), (13, text[cut + 1 :]))
    ]


def described() -> str:
    """The picture in words."""
    published, *steps, beyond = rungs()
    sentences = [f"Bars of a waterfall on the axis of Jaccard. {published.words.capitalize()}: {published.end:.3f}."]
    sentences += [f"{step.words.capitalize()}: {step.gain}, to {step.end:.3f}." for step in steps]
    sentences.append(f"{beyond.words.capitalize()}: {beyond.gain}, to {beyond.end:.3f}, a dashed bar out of reach.")
    dots = systems()
    if len(dots):
        low, high = dots["value"][0], dots["value"][-1]
        sentences.append(f"{len(dots)} systems of the literature, as dots, from {low:.3f} to {high:.3f}.")
    return " ".join(sentences)


# -- parts of the page -----------------------------------------------------------------------------------------------


def ladder() -> str:
    """The picture with its caption, and the same in numbers, folded."""
    rows = kept_rows()
    later = rows.table("ladder").filter(scored=SCORED)
    counted = later.row(0, named=True)
    dots = (
        "Each dot is a system that has learnt, on the same visits."
        if len(systems())
        else "Rows of the systems that are kept were made from earlier records; they will stand below the bars as soon "
        "as they are made again."
    )
    caption = (
        f"Jaccard on later visits (↑ better): {page.thousands(counted['patients'])} test patients, "
        f"{page.thousands(counted['visits'])} visits of {rows.cohort}, <em>synthetic</em> records. "
        f"Colours and small words: whose choice a bar is. The axis begins at {LEFT:.2f}. {dots} "
        f"{escape(page.notes(rows))}"
    )
    table = page.table(
        later.select(
            "step",
            "told",
            Jaccard=pl.format("{} to {}", pl.col("Jaccard low").round(3), pl.col("Jaccard high").round(3)),
        ),
        caption="The steps of the ladder on later visits: 95 % bootstrap intervals of Jaccard over patients.",
    )
    picture = html(
        f'<figure class="medrec-ladder">{_svg(760, narrow=False, name="wide")}{_svg(380, narrow=True, name="narrow")}'
        f"<figcaption>{caption.strip()}</figcaption></figure>"
    )
    return f"{picture}\n\n````{{dropdown}} The same in numbers\n{html(table)}\n````"


def words() -> str:
    """The answer in two sentences, from the same rows."""
    at = reached()
    way = at["LR, trees on the past"] - at["LR as published"]
    tuning = (at["LR"] - at["LR as published"]) / way
    past = (at["LR, trees on the past"] - at["LR"]) / way
    layer = at["one hidden layer"] - at["LR, last visit"]
    better = "adds" if layer > 0.005 else "adds nothing"
    much = f" {layer:.3f}" if layer > 0.005 else ""
    return (
        f"**On these records {tuning:.0%} of the way from the printed regression to the best that learns is nobody’s "
        f"method: it is a penalty and a cut, chosen on validation patients.** The other {past:.0%} is what the system "
        f"is *told* of the past. A neural layer {better}{much} to a regression that is told the last visit."
    )
