"""Verdicts on published claims, by rule, so that the word changes with the numbers.

One vocabulary for the whole book.  A claimed gain *holds*, *holds in part*, has an *other cause*, where a control
without what is claimed comes within the smallest difference of interest, *does not hold*, is *not decided*, or *cannot
be tested here*; of a system that has not learnt there is *no verdict*.  Arithmetic on printed numbers *follows* or
*does not follow*, which needs no rule.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from medrec.data.cohort import Source
from medrec.tasks.evaluation import Interval

SMALLEST_DIFFERENCE = {
    "jaccard": 0.005,
    "ddi_rate": 0.005,
    "recall_10": 0.005,
    "recall_20": 0.005,
    "ndcg_10": 0.005,
    "ndcg_20": 0.005,
    "n_medications": 1.0,
}
"""Smallest differences of interest, fixed before any run."""

Word = Literal[
    "holds", "holds in part", "other cause", "does not hold", "not decided", "cannot be tested here", "no verdict"
]


@dataclass(frozen=True)
class Verdict:
    """A judgement on a published claim: one of seven words, and the sentence that says why."""

    word: Word
    sentence: str

    def __str__(self) -> str:
        return f"{self.word[0].upper()}{self.word[1:]}: {self.sentence}"


def verdict(
    delta: Interval | None,
    *,
    cohort: str,
    source: Source,
    sdi: float = SMALLEST_DIFFERENCE["jaccard"],
    mechanism: str | None = None,
    control: float | None = None,
    control_name: str = "the control",
    only_for: str | None = None,
    not_for: str | None = None,
    n_seeds: int = 1,
    n_patients: int = 0,
    missing: str | None = None,
) -> Verdict:
    """Judge a claimed gain by rule, so that the word changes with the numbers.

    Args:
        delta: the gain measured, oriented so that the claim says "positive"; ``None`` when the claim has no
            measurable form.
        cohort: its name.
        source: its source.
        sdi: smallest difference of interest.
        mechanism: what the synthetic cohort lacks and the claim needs; ``None`` when it lacks nothing.  On real
            records it is ignored.
        control: gain of the matching control (e.g. the same system with its source of information shuffled).
        control_name: how the sentence calls it.
        only_for: where the lower end is positive, when that is not everywhere.
        not_for: where it is not.
        n_seeds: training seeds.
        n_patients: test patients.
        missing: what the paper does not say, for ``delta=None``.
    """
    if delta is None:
        return Verdict(
            "cannot be tested here", f"the paper does not say enough: {missing or 'the claim has no measurable form'}."
        )
    if source == "synthetic" and mechanism is not None:
        return Verdict(
            "cannot be tested here",
            f"the synthetic records were written without {mechanism}, so that neither a gain nor its absence would say "
            "anything.",
        )
    basis = _basis(delta, cohort, source, n_seeds, n_patients)
    if delta.low > 0:
        if only_for or not_for:
            return Verdict("holds in part", f"{basis}, for {only_for or 'some'} and not for {not_for or 'others'}.")
        beside = "" if control is None else f"; {control_name} gains {control:+.3f}"
        if control is not None and control > delta.value - sdi:
            return Verdict("other cause", f"{basis}{beside}, which lacks what is claimed.")
        small = f", less than the {sdi} that would matter" if delta.high < sdi else ""
        return Verdict("holds", f"{basis}{small}{beside}.")
    if delta.high < sdi:
        return Verdict("does not hold", f"{basis}, below the {sdi} that would matter.")
    return Verdict("not decided", f"{basis}.")


def verdict_of_equality(
    delta: Interval,
    *,
    cohort: str,
    source: Source,
    sdi: float = SMALLEST_DIFFERENCE["jaccard"],
    n_seeds: int = 1,
    n_patients: int = 0,
) -> Verdict:
    """Judge a claim that two systems are alike: their difference has to lie, with its interval, within ±``sdi``.

    An interval over zero does not show equality: it may be as wide as ignorance.

    Args:
        delta: difference of the two.
        cohort: its name.
        source: its source.
        sdi: smallest difference of interest.
        n_seeds: training seeds.
        n_patients: test patients.
    """
    basis = _basis(delta, cohort, source, n_seeds, n_patients)
    if -sdi < delta.low and delta.high < sdi:
        return Verdict("holds", f"{basis}, within ±{sdi}.")
    if delta.low >= sdi or delta.high <= -sdi:
        return Verdict("does not hold", f"{basis}, at least {sdi} apart.")
    return Verdict("not decided", f"{basis}.")


def _basis(delta: Interval, cohort: str, source: Source, n_seeds: int, n_patients: int) -> str:
    """A number with its interval, and what it rests on."""
    where = cohort if source == "credentialed" else f"{source} records"
    return (
        f"{delta.value:+.3f} on {where} (95 % {delta.low:+.3f} to {delta.high:+.3f}; "
        f"{n_seeds} seed{'s' * (n_seeds != 1)}, {n_patients} patients)"
    )
