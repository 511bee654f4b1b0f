"""A symptom field that names what was given: the leak of discharge summaries, planted on purpose.

Released code of NLA-MMR and DrugRec takes symptoms from discharge summaries.  They are written when a stay is over and
list the medications of the stay.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from medrec.data.cohort import Cohort, Vocabulary
from medrec.types import Ragged


def with_summary(cohort: Cohort, share: float, seed: int) -> Cohort:
    """The cohort with symptoms that name prescribed classes.

    Args:
        cohort: whose symptoms, where it has any, stay beside them.
        share: of the prescriptions that are named, drawn one by one.
        seed: of the draw.

    Returns:
        Symptoms have one more code for each medication, ``"summary:C03C"``, with the title ``"discharged on ..."``.
    """
    rows, old, classes = cohort.codes["medication"], cohort.vocab["symptom"], cohort.vocab["medication"]
    told = np.random.default_rng(seed).random(len(rows.values)) < share
    symptoms = cohort.codes["symptom"]
    visit = np.concatenate([symptoms.row_of_value, rows.row_of_value[told]])
    code = np.concatenate([symptoms.values, len(old) + rows.values[told]]).astype(symptoms.values.dtype)
    order = np.argsort(visit, kind="stable")
    lengths = np.bincount(visit, minlength=len(rows))
    named = Vocabulary(
        "symptom",
        (*old.codes, *(f"summary:{code}" for code in classes.codes)),
        (*old.titles, *(f"discharged on {title}" for title in classes.titles)),
    )
    return replace(
        cohort,
        name=f"{cohort.name} with summaries",
        vocab={**cohort.vocab, "symptom": named},
        codes={**cohort.codes, "symptom": Ragged(np.concatenate([[0], np.cumsum(lengths)]), code[order])},
        folder=None,
    )
