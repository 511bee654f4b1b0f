"""The running example: 2 patients, 3 visits, 5 diagnoses, 3 procedures, 5 medication classes.

Small enough to print, and every number of it can be worked out by hand.  The people are invented; codes and
titles are ICD-9-CM, classes are ATC level 3.

=======  ===========================================================  ======================  ============  ===========
visit    diagnoses                                                    procedure               target        recommended
=======  ===========================================================  ======================  ============  ===========
p1, v1   410.71 infarction, 530.81 reflux                             36.07 stent             A02B B01A     B01A C10A
                                                                                              C10A          N02A
p1, v2   428.0 heart failure, 530.81                                  89.64 wedge pressure    A02B C03C     A02B C03C
p2, v1   427.31 atrial fibrillation, 428.0, 530.81, 820.8 hip         81.52 hip replacement   A02B B01A     N02A
         fracture                                                                             C03C N02A
=======  ===========================================================  ======================  ============  ===========
"""

from __future__ import annotations

import numpy as np

from medrec.data.cohort import Cohort, Vocabulary
from medrec.types import Ragged

MEDICATIONS = ("A02B", "B01A", "C03C", "C10A", "N02A")
MEDICATION_TITLES = ("acid reducers", "antithrombotics", "loop diuretics", "lipid reducers", "opioids")

RECOMMENDED = np.array([[0, 1, 0, 1, 1], [1, 0, 1, 0, 0], [0, 0, 0, 0, 1]], dtype=bool)
"""``(3, 5)`` recommended sets of the three visits."""

SCORES = np.array([0.4, 0.9, 0.4, 0.7, 0.6])
"""``(5,)`` probabilities of the first visit; its recommended set is ``SCORES >= 0.5``.  The tie at 0.4 is meant."""

DDI = np.zeros((5, 5), dtype=bool)
"""``(5, 5)`` interactions: antithrombotics with lipid reducers and with opioids, loop diuretics with lipid reducers."""
for _i, _j in ((1, 3), (1, 4), (2, 3)):
    DDI[_i, _j] = DDI[_j, _i] = True


def cohort() -> Cohort:
    """The example as a :class:`~medrec.data.cohort.Cohort`."""
    diagnoses = {
        "9:41071": "Subendocardial infarction, initial episode of care",
        "9:53081": "Esophageal reflux",
        "9:4280": "Congestive heart failure, unspecified",
        "9:42731": "Atrial fibrillation",
        "9:8208": "Closed fracture of unspecified part of neck of femur",
    }
    procedures = {
        "9:3607": "Insertion of drug-eluting coronary artery stent(s)",
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
