"""Grids of the chapter on the results of NLA-MMR: its tables 2 to 4, its figures 4 and 7, and controls of ours.

Rows are picked by key.  A grid's first row is what the others are compared with.  Grids name trainings; nothing here
makes any.  Below them stand the rules by which the chapter words what kept rows say.
"""

from __future__ import annotations

from typing import Any

from medrec.lab.grids import Grid, interval
from medrec.models.base import Row
from medrec.tasks.evaluation import Interval
from medrec.tasks.verdicts import SMALLEST_DIFFERENCE

REFERENCE = "NLA-MMR"
"""Label of the first row of every grid."""
FULL = Row("nla-mmr", REFERENCE, "nla-mmr")


def _changed(key: str, label: str, **settings: Any) -> Row:
    return Row(key, label, "nla-mmr", settings=settings)


WORDS = _changed("tfidf", "NLA-MMR, TF-IDF", encoder="tfidf")
"""The system without a language model: words are counted."""

COMPARISON = (
    FULL,
    Row("popularity", "popularity", "popularity"),
    Row("last-visit", "last visit", "last-visit"),
    Row("past-lr", "past LR", "past-lr"),
    Row("lr", "LR", "lr"),
    Row("lr-published", "LR, as published", "lr", "official"),
    Row("ecc", "ECC", "ecc"),
    Row("leap", "LEAP", "leap"),
    Row("retain", "RETAIN", "retain"),
    Row("gamenet", "GAMENet", "gamenet"),
    Row("micron", "MICRON", "micron"),
    Row("safedrug", "SafeDrug", "safedrug"),
    Row("cognet", "COGNet", "cognet"),
    Row("drugrec", "DrugRec", "drugrec"),
    Row("molerec", "MoleRec", "molerec"),
    WORDS,
)
"""Table 2: the ten printed rivals, three reference points that are not printed, and NLA-MMR on counted words.  LR
stands in it twice, as in table 2 of BiMoRec (:mod:`medrec.experiments.bimorec_grids`)."""

ABLATION = (
    FULL,
    _changed("no-graph", "(a) w/o E_s", use_graph=False),
    _changed("no-description", "(b) w/o E_f", use_description=False),
    _changed("no-fusion", "(c) w/o cross attention fusion", use_fusion=False),
    _changed("no-history", "(d) w/o historical information", use_history=False),
    _changed("no-diagnoses", "(e) fusion w/o h_d", streams="ps"),
    _changed("no-procedures", "(f) fusion w/o h_p", streams="ds"),
    _changed("no-symptoms", "(g) fusion w/o h_s", streams="dp"),
    _changed("last-visit", "(h) text of the last visit alone", history_visits=1),
    _changed("codes", "(i) history as codes", history_as="codes"),
    _changed("intercept", "(j) an intercept in the place of b_m", intercept=True),
    _changed("no-margin", "(k) no margin loss", bce_weight=1.0),
)
"""Table 3, (a) to (g), and four rows of ours; the last one is to be read at a tuned threshold."""
PRINTED = 7
"""Rows of :data:`ABLATION` after the first that the paper has."""

ENCODERS = (
    FULL,
    WORDS,
    _changed("random-code", "NLA-MMR, random by code", encoder="random-code"),
    _changed("random-text", "NLA-MMR, random by text", encoder="random-text"),
    _changed("no-language", "NLA-MMR, learnt vectors of codes", visits_as="codes", history_as="codes"),
)
"""Table 4, with encoders that everybody has.  Language models of a hub, a folder or an extra are a reader's own grid, a
file whose rows set ``encoder``."""


def _turned(knob: str, label: str, *values: float, **more: Any) -> tuple[Row, ...]:
    """One row for each value of a setting; ``more`` settings go with all of them, and into the name of the knob."""
    name = "".join([knob, *(f", {word}" for word in more.values())])
    return tuple(
        Row(f"{name}={v:g}", label.format(v), "nla-mmr", settings={knob: v} | more, knob=name, value=v) for v in values
    )


HISTORY = (
    FULL,
    Row(
        "history_visits=0", "no past visit", "nla-mmr", settings={"use_history": False}, knob="history_visits", value=0
    ),
    *_turned("history_visits", "the latest {} past visits", 1, 2),
    Row("drugrec", "DrugRec", "drugrec"),
    Row("molerec", "MoleRec", "molerec"),
)
"""Figure 4: the past capped, three visits in the first row; and the two rivals that the figure draws."""

SENSITIVITY = (
    FULL,
    *_turned("batch_size", "{} patients a step", 4, 8, 32, 64),
    *_turned("learning_rate", "rate {:g}", 1e-5, 5e-5, 1e-4, 1e-3, 5e-3, 1e-2),
    *_turned("bce_weight", "alpha {:g}", 0.0, 0.9, 0.925, 0.975, 1.0),
    *_turned("bce_weight", "mean loss, alpha {:g}", 0.0, 0.9, 0.925, 0.95, 0.975, 1.0, loss_reduction="mean"),
)
"""Figure 7.  The paper counts visits a step, we count patients.  Alpha is turned twice: with the printed sum of
eq. 15, beside which the margin hardly counts, and with the released mean."""

GRIDS = {
    "nla-mmr-table2": COMPARISON,
    "nla-mmr-ablation": ABLATION,
    "nla-mmr-encoders": ENCODERS,
    "nla-mmr-history": HISTORY,
    "nla-mmr-sensitivity": SENSITIVITY,
}
"""Grids by name."""


def what_carries(words: Interval, codes: Interval, smallest: float = SMALLEST_DIFFERENCE["jaccard"]) -> str:
    """What a language model brings, by its lead over counted words and over random vectors of codes.

    Args:
        words: Jaccard of the language model minus that of TF-IDF.
        codes: minus that of random vectors by code.
        smallest: difference that matters.

    Returns:
        ``"meaning"``: it leads both; ``"words"``: it is level with counted words and leads random vectors;
        ``"codes"``: it is level with random vectors, a fixed hash of the codes; ``"behind"``: it trails one of them;
        ``"not decided"`` otherwise.  Level: the whole interval is inside what matters.
    """

    def level(lead: Interval) -> bool:
        return -smallest < lead.low and lead.high < smallest

    if level(codes):
        return "codes"
    if words.high < 0 or codes.high < 0:
        return "behind"
    if level(words) and codes.low > 0:
        return "words"
    return "meaning" if words.low > 0 and codes.low > 0 else "not decided"


def lead(rows: Grid, key: str, *, visits: str = "all visits", threshold: str = "tuned") -> Interval:
    """Jaccard of the first row minus that of another.

    Args:
        rows: of a grid.
        key: of the other row.
        visits: group of visits; where a row has none, later visits stand in.
        threshold: ``"own"`` or ``"tuned"``.
    """
    found = rows.by_key(visits=visits, threshold=threshold)
    if key not in found:
        found = rows.by_key(visits="later visits", threshold=threshold)
    return interval(found[key], "delta", -1)


def sentence(rows: Grid, key: str, *, visits: str = "all visits", threshold: str = "tuned") -> str:
    """What the rows say of the first one and another, in one of three forms: decided, not decided, not trained.

    Args:
        rows: of a grid.
        key: of the other row.
        visits: as in :func:`lead`.
        threshold: as in :func:`lead`.

    Returns:
        For example ``"On synthetic records NLA-MMR leads LR by 0.010 Jaccard (95 % 0.006 to 0.014; 3 seeds, 1 009
        patients)."``
    """
    labels = dict(rows.costs.select("key", "label").iter_rows())
    for one in (rows.reference, key):
        if rows.not_learnt(one):
            return f"{rows.not_learnt(one)}; no verdict."
    delta = lead(rows, key, visits=visits, threshold=threshold)
    if delta.low <= 0 <= delta.high:
        return f"Not decided: {delta.value:+.3f} (95 % {delta.low:.3f} to {delta.high:.3f})."
    low, high = sorted((abs(delta.low), abs(delta.high)))
    where = {"synthetic": "synthetic records", "demo": f"the open demo {rows.cohort}"}.get(rows.source, rows.cohort)
    below = dict(rows.costs.select("key", "below_popularity").iter_rows())
    sunk = " and ".join(labels[one] for one in (rows.reference, key) if below.get(one))
    patients = f"{rows.n_patients:,}".replace(",", "\u202f")
    return (
        f"On {where} {REFERENCE} {'leads' if delta.value > 0 else 'trails'} {labels[key]} by {abs(delta.value):.3f} "
        f"Jaccard (95 % {low:.3f} to {high:.3f}; {rows.provenance['seeds']} seeds, {patients} patients)."
        + (f" Below popularity: {sunk}." if sunk else "")
    )
