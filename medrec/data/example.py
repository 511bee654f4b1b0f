"""The running example: 2 patients, 3 visits, 5 diagnoses, 3 procedures, 5 medication classes.

Small enough to print, and every number of it can be worked out by hand.  The people are invented; codes and
titles are ICD-9-CM, classes are ATC level 3, and interactions are those of the book's own list among these classes.

=======  ===========================================================  ======================  ============  ===========
visit    diagnoses                                                    procedure               target        recommended
=======  ===========================================================  ======================  ============  ===========
p1, v1   824.8 fracture of the ankle, 564.00 constipation             79.36 plate and screws  A06A B01A     B01A M01A
                                                                                              M01A          N02A
p1, v2   428.0 heart failure, 564.00                                  89.64 wedge pressure    A06A C03C     A06A C03C
p2, v1   427.31 atrial fibrillation, 428.0, 564.00, 820.8 hip         81.52 hip replacement   A06A B01A     N02A
         fracture                                                                             C03C N02A
=======  ===========================================================  ======================  ============  ===========

The second visit of patient 1, 100 days after the first, is plausible within this world of five classes: the weeks in
which a fresh fracture is protected against thrombosis are over, and anti-inflammatory drugs should be avoided in heart
failure.
"""

from __future__ import annotations

import numpy as np

from medrec.data.cohort import Cohort, Vocabulary
from medrec.types import Ragged

MEDICATIONS = ("A06A", "B01A", "C03C", "M01A", "N02A")
MEDICATION_TITLES = ("laxatives", "antithrombotics", "loop diuretics", "anti-inflammatory drugs", "opioids")

RECOMMENDED = np.array([[0, 1, 0, 1, 1], [1, 0, 1, 0, 0], [0, 0, 0, 0, 1]], dtype=bool)
"""``(3, 5)`` recommended sets of the three visits."""

SCORES = np.array([0.4, 0.9, 0.4, 0.7, 0.6])
"""``(5,)`` probabilities of the first visit; its recommended set is ``SCORES >= 0.5``.  The tie at 0.4 is meant."""

DDI = np.zeros((5, 5), dtype=bool)
"""``(5, 5)`` interactions: anti-inflammatory drugs with antithrombotics and with loop diuretics, antithrombotics with
opioids.  A test holds them against the book's own list."""
for _i, _j in ((1, 3), (1, 4), (2, 3)):
    DDI[_i, _j] = DDI[_j, _i] = True


def cohort() -> Cohort:
    """The example as a :class:`~medrec.data.cohort.Cohort`."""
    diagnoses = {
        "9:8248": "Unspecified fracture of ankle, closed",
        "9:56400": "Constipation, unspecified",
        "9:4280": "Congestive heart failure, unspecified",
        "9:42731": "Atrial fibrillation",
        "9:8208": "Closed fracture of unspecified part of neck of femur",
    }
    procedures = {
        "9:7936": "Open reduction of fracture with internal fixation, tibia and fibula",
        "9:8964": "Pulmonary artery wedge monitoring",
        "9:8152": "Partial hip replacement",
    }
    return Cohort(
        name="running-example",
        source="synthetic",
        vocab={
            "diagnosis": Vocabulary("diagnosis", tuple(diagnoses), tuple(diagnoses.values())),
            "procedure": Vocabulary("procedure", tuple(procedures), tuple(procedures.values())),
            "symptom": Vocabulary("symptom", (), ()),
            "medication": Vocabulary("medication", MEDICATIONS, MEDICATION_TITLES),
        },
        visit_offsets=np.array([0, 2, 3]),
        codes={
            "diagnosis": Ragged.from_lists([[0, 1], [2, 1], [3, 2, 1, 4]]),
            "procedure": Ragged.from_lists([[0], [1], [2]]),
            "symptom": Ragged.from_lists([[], [], []]),
            "medication": Ragged.from_lists([[0, 1, 3], [0, 2], [0, 1, 2, 4]]),
        },
        admit_time=np.array(["2101-03-01", "2101-06-09", "2102-01-15"], dtype="datetime64[s]"),
        days_since_previous=np.array([np.nan, 100, np.nan], dtype=np.float32),
        sex=np.array(["M", "F"]),
        age_band=np.array(["60-69", "80-89"]),
    )
