"""Verdicts on published claims, by rule, so that the word changes with the numbers."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Literal

from medrec.data.cohort import Source
from medrec.tasks.evaluation import Interval

SMALLEST_DIFFERENCE = {"jaccard": 0.005, "ddi_rate": 0.005, "n_medications": 1.0}
"""Smallest differences of interest, fixed before any run."""

Word = Literal["holds", "holds in part", "does not hold", "undecided", "cannot be tested here", "not testable at all"]


@dataclass(frozen=True)
class Verdict:
    """A judgement on a published claim: one of six words, and the sentence that says why."""

    word: Word
    sentence: str

    def __str__(self) -> str:
        return f"**{self.word}.** {self.sentence}"


def verdict(
    delta: Interval | None,
    *,
    cohort: str,
    source: Source,
    published: float | None = None,
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
        published: the gain that the paper prints.
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
            "not testable at all", f"The paper does not say enough to test this: {missing or 'no measurable form'}."
        )
    if source == "synthetic" and mechanism is not None:
        return Verdict(
            "cannot be tested here",
            f"The default cohort was written without {mechanism}: a gain here would be regularisation, a missing gain "
            "would be no evidence. Run this chapter on credentialed tables.",
        )
    number = f"{delta.value:+.4f} [{delta.low:+.4f}, {delta.high:+.4f}]"
    basis = f"{number} over {n_seeds} seed{'s' * (n_seeds != 1)} and {n_patients} patients"
    if delta.low > 0:
        small = f" It is smaller than {sdi}." if delta.high < sdi else ""
        if only_for or not_for:
            return Verdict(
                "holds in part",
                f"On {cohort} the claim holds for {only_for or 'some'} and not for {not_for or 'others'}: {basis}."
                f"{small}",
            )
        if control is not None and control >= delta.value / 2:
            share = max(0.0, (delta.value - control) / delta.value)
            return Verdict(
                "holds in part",
                f"On {cohort} there is a gain, {basis}, but {control_name} gains {control:+.4f}: "
                f"{share:.0%} of it is the claim's own.{small}",
            )
        against = f"; {control_name} gains {control:+.4f}" if control is not None else ""
        return Verdict("holds", f"On {cohort} the claim holds: {basis}{against}.{small}")
    if delta.high < sdi:
        return Verdict(
            "does not hold", f"On {cohort} the difference is smaller than {sdi}, or of the other sign: {basis}."
        )
    wanted = published if published else sdi
    # The half-width shrinks with the square root of what is counted; it has to fall below the difference in question.
    factor = ((delta.high - delta.low) / 2 / wanted) ** 2
    return Verdict(
        "undecided",
        f"On {cohort} these runs cannot tell {wanted:+.4f} from none: {basis}; about "
        f"{ceil(n_patients * max(factor, 1))} patients would, if patients are what varies, or "
        f"{ceil(n_seeds * max(factor, 1))} seeds, if seeds are.",
    )


def verdict_of_equality(
    delta: Interval, *, cohort: str, sdi: float = SMALLEST_DIFFERENCE["jaccard"], n_seeds: int = 1, n_patients: int = 0
) -> Verdict:
    """Judge a claim that two systems are alike: their difference has to lie, with its interval, within ±``sdi``.

    An interval over zero does not show equality: it may be as wide as ignorance.

    Args:
        delta: difference of the two.
        cohort: its name.
        sdi: smallest difference of interest.
        n_seeds: training seeds.
        n_patients: test patients.
    """
    basis = (
        f"{delta.value:+.4f} [{delta.low:+.4f}, {delta.high:+.4f}] over {n_seeds} seed{'s' * (n_seeds != 1)} and "
        f"{n_patients} patients"
    )
    if -sdi < delta.low and delta.high < sdi:
        return Verdict("holds", f"On {cohort} the two are alike, within {sdi}: {basis}.")
    if delta.low >= sdi or delta.high <= -sdi:
        return Verdict("does not hold", f"On {cohort} the two differ by at least {sdi}: {basis}.")
    return Verdict("undecided", f"On {cohort} the interval reaches beyond {sdi} on one side at least: {basis}.")
