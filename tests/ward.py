"""The toy ward: three patients, five visits, five medications; every ranking of it can be worked out by hand."""

import numpy as np

from medrec.data.cohort import Cohort, Vocabulary
from medrec.types import Ragged

MEDICATIONS = ("C03C", "C07A", "C10A", "J01X", "N02B")
LAST = np.array([False, True, False, True, False])
"""``(5,)`` visits that are asked about: the second ones of patients 0 and 1; patient 2 has one visit."""


def ward() -> Cohort:
    """Patient 0: loop diuretic, beta blocker, statin, then the first two and paracetamol. Patient 1: vancomycin and
    paracetamol, then vancomycin and statin. Patient 2: loop diuretic and paracetamol."""
    return Cohort(
        name="toy-ward",
        source="synthetic",
        vocab={
            "diagnosis": Vocabulary("diagnosis", ("HF", "LIP", "SEP"), ("heart failure", "lipids", "sepsis")),
            "procedure": Vocabulary("procedure", (), ()),
            "symptom": Vocabulary("symptom", (), ()),
            "medication": Vocabulary("medication", MEDICATIONS, MEDICATIONS),
        },
        visit_offsets=np.array([0, 2, 4, 5]),
        codes={
            "diagnosis": Ragged.from_lists([[0, 1], [0], [2], [2, 1], [0]]),
            "procedure": Ragged.from_lists([[]] * 5),
            "symptom": Ragged.from_lists([[]] * 5),
            "medication": Ragged.from_lists([[0, 1, 2], [0, 1, 4], [3, 4], [2, 3], [0, 4]]),
        },
        admit_time=np.datetime64("2100-01-01", "s") + np.arange(5).astype("timedelta64[D]"),
        days_since_previous=np.array([np.nan, 1, np.nan, 1, np.nan], dtype=np.float32),
        sex=np.array(["F", "M", "F"]),
        age_band=np.array(["60-69"] * 3),
    )
