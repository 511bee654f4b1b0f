r"""Lists with a promise: so many of what is prescribed stand in them, for at least so many patients.

Split conformal prediction, Vovk et al., "Algorithmic learning in a random world", 2005.  A list of all medications with
a probability of at least θ holds a share s of the n that were prescribed when θ is at most the ⌈s n⌉-th highest of
their probabilities, :func:`needed`.  Among N patients who are like the next one, that number is as likely to come
from any place in their order, so that with

.. math::
    \theta = \text{the } \lfloor (N + 1)(1 - c) \rfloor \text{-th smallest of what was needed}

the next patient's list holds the share with a probability of at least ``c``: whatever the system, and whether it is
right or not.  The promise is one over patients, one visit each, and for patients like those it was made with; for
others, older ones say, coverage has to be measured.
"""

from __future__ import annotations

from math import floor

import numpy as np
from numpy.typing import NDArray


def needed(prob: NDArray[np.floating], target: NDArray[np.bool_], share: float = 1.0) -> NDArray[np.float64]:
    """The highest threshold at which a list still holds a share of what was prescribed.

    Args:
        prob: ``(V, M)`` probabilities.
        target: ``(V, M)`` bool, what was prescribed; at least one medication a visit.
        share: of the prescribed medications, above 0 and at most 1.

    Returns:
        ``(V,)``.

    Raises:
        ValueError: a share out of its range, or a visit without a medication.
    """
    if not 0 < share <= 1:
        raise ValueError(f"A share of {share} is no share; give a number above 0 and at most 1.")
    if not target.any(1).all():
        raise ValueError("Somebody was prescribed nothing, so that no list can hold a share of it. Leave him out.")
    ordered = -np.sort(-np.where(target, prob, -np.inf).astype(np.float64), axis=1)
    place = np.ceil(share * target.sum(1) - 1e-9).astype(np.int64) - 1
    return np.take_along_axis(ordered, place[:, None], axis=1)[:, 0]


def promised_threshold(needed_by: NDArray[np.float64], coverage: float) -> float:
    """The threshold that keeps the promise for the next patient.

    Args:
        needed_by: ``(N,)`` of :func:`needed`, one visit for each of N patients who had no part in training.
        coverage: c, above 0 and below 1.

    Returns:
        θ; 0 where there are too few patients for the promise, so that every medication is listed.

    Raises:
        ValueError: a coverage out of its range.
    """
    if not 0 < coverage < 1:
        raise ValueError(f"A coverage of {coverage} cannot be promised; give a number between 0 and 1.")
    place = floor((len(needed_by) + 1) * (1 - coverage) + 1e-9)
    return float(np.sort(needed_by)[place - 1]) if place >= 1 else 0.0


def covered(needed_by: NDArray[np.float64], threshold: float) -> NDArray[np.bool_]:
    """Whose lists at this threshold hold the share, ``(V,)``."""
    return needed_by >= threshold
