"""The calculator of metrics: twelve classes, a list that the reader ticks, and the numbers that the book would print.

The page works without a network and without a server. Python writes the first state of it, so that there is something
to read where scripts are switched off; from then on ``book/_vendor/calculator.js`` counts. Both are held together by a
test.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from html import escape

import numpy as np

from medrec import metrics
from medrec.book import page
from medrec.book.generated import html
from medrec.book.generated.evidence import edges
from medrec.knowledge.classes import atc3
from medrec.knowledge.interactions import ddi_matrix

CLASSES = ("A02B", "A06A", "B01A", "C01B", "C03C", "C07A", "C09A", "C10A", "J01F", "M01A", "N02A", "N05B")
"""The five of the running example, and seven that an elderly patient of a medical ward often has or had better not."""
PRESCRIBED = ("A02B", "B01A", "C03C", "C07A", "C09A", "N02A")
"""What the page begins with: an invented patient with atrial fibrillation and heart failure, after a broken hip."""
RECOMMENDED = ("A02B", "B01A", "C03C", "C07A", "M01A", "N02A")
"""A list with one omission and one addition, and the addition interacts."""
RESULTS = {
    "jaccard": "Jaccard",
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "medications": "number of medications",
    "ddi": "DDI rate",
}
"""Name in the script → name in the book."""


def names() -> dict[str, str]:
    """Class → its name in the book's table of classes."""
    known = dict(atc3().select("code", "name").iter_rows())
    return {code: known[code] for code in CLASSES}


def pairs() -> list[tuple[str, str]]:
    """Pairs of :data:`CLASSES` that the book's own list joins, each once."""
    matrix = ddi_matrix(CLASSES)
    return [(CLASSES[i], CLASSES[j]) for i, j in zip(*np.nonzero(np.triu(matrix)), strict=True)]


def measure(prescribed: Iterable[str], recommended: Iterable[str]) -> dict[str, float]:
    """What the calculator shows for two lists, by :mod:`medrec.metrics`.

    Args:
        prescribed: codes among :data:`CLASSES`, the target set.
        recommended: codes among :data:`CLASSES`, the recommended set.

    Returns:
        The keys of :data:`RESULTS`.
    """
    y, listed = (np.isin(CLASSES, list(codes))[None] for codes in (prescribed, recommended))
    return {
        "jaccard": float(metrics.jaccard(y, listed)[0]),
        "precision": float(metrics.precision(y, listed)[0]),
        "recall": float(metrics.recall(y, listed)[0]),
        "f1": float(metrics.f1(y, listed)[0]),
        "medications": float(listed.sum()),
        "ddi": metrics.ddi_rate(listed, ddi_matrix(CLASSES)),
    }


def edges_table() -> str:
    """:func:`edges`, for the page."""
    return html(
        page.table(
            edges(CLASSES),
            caption=f"The {len(pairs())} interacting pairs among the twelve classes: how many pairs of drugs of the "
            "book's list stand behind each, and the gravest of them.",
        )
    )


def widget() -> str:
    """The calculator in its first state, for the page."""
    interacting = pairs()
    data = escape(json.dumps({"classes": CLASSES, "pairs": interacting}, separators=(",", ":")))
    rows = []
    for code, name in names().items():
        boxes = "".join(
            f'<td><input type="checkbox" data-list="{which}" value="{code}" '
            f'aria-label="{code} {escape(name)}: {which}"{" checked" if code in chosen else ""}></td>'
            for which, chosen in (("prescribed", PRESCRIBED), ("recommended", RECOMMENDED))
        )
        rows.append(f'<tr><th scope="row"><code>{code}</code> {escape(name)}</th>{boxes}</tr>')
    first = measure(PRESCRIBED, RECOMMENDED)
    results = "".join(
        f'<div><dt>{label}</dt><dd data-result="{key}">{first[key]:.{0 if key == "medications" else 3}f}</dd></div>'
        for key, label in RESULTS.items()
    )
    return html(f"""
<div class="medrec-calculator" data-knowledge="{data}">
<div class="medrec-scroll" role="region" tabindex="0" aria-label="The two lists">
<table class="medrec-table">
<caption>Tick what was prescribed, and what a system recommends.</caption>
<thead><tr><th scope="col">class</th>
<th scope="col">pre&shy;scribed</th><th scope="col">recom&shy;mended</th></tr></thead>
<tbody>{"".join(rows)}</tbody>
</table>
</div>
<p class="medrec-calculator-buttons" hidden>
<button type="button" data-act="example">The example again</button>
<button type="button" data-act="copy">Recommend what was prescribed</button>
<button type="button" data-act="clear">Clear both lists</button>
</p>
<div class="medrec-calculator-results" role="status" aria-live="polite" aria-atomic="true">
<dl>{results}</dl>
<p data-result="words">{escape(words(PRESCRIBED, RECOMMENDED))}</p>
</div>
<noscript><p>Scripts are switched off: these are the numbers of the example, and ticking changes nothing.</p></noscript>
</div>
""")


def words(prescribed: Iterable[str], recommended: Iterable[str]) -> str:
    """One sentence on what was missed and added, and one on what interacts in the recommended list."""
    prescribed, recommended = set(prescribed), set(recommended)
    missed, added = sorted(prescribed - recommended), sorted(recommended - prescribed)
    found = [f"{a} with {b}" for a, b in pairs() if {a, b} <= recommended]
    return (
        f"Missed: {', '.join(missed) or 'none'}. Added: {', '.join(added) or 'none'}. "
        f"Interacting pairs in the recommended list: {', '.join(found) or 'none'}."
    )
