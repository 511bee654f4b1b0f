"""Grids of the chapters on rankers: Table 3 of the third paper with what it leaves out, and the arms of DiffKG.

Rows are picked by key.  A grid's first row is what the others are compared with.  The switches of each system between
its paper and its released code are the grid of the system itself, ``diffkg``, ``kgat`` and so on.
"""

from __future__ import annotations

from typing import Any

from medrec.experiments.bimorec_grids import NETWORKS
from medrec.lab.rows import Contrast
from medrec.models.base import Row
from medrec.models.diffkg import ARMS, LABELS

RANKERS = {
    "kgcn": "KGCN",
    "kgat": "KGAT",
    "kgin": "KGIN",
    "multivae": "MultiVAE",
    "cdae": "CDAE",
    "diffrec": "DiffRec",
}
"""What DiffKG is compared with in Table 3."""
REFERENCES = {
    "most-popular": "most popular",
    "repeat": "repeat",
    "item-cosine": "item cosine",
    "ease": "EASE",
    "lightgcn": "LightGCN",
    "past-lr": "past LR",
}
"""What the paper leaves out: nothing of the patient, his past alone, the patients' matrix without a graph."""
BPR_MF = Row("bpr-mf", "BPR-MF", "lightgcn", settings={"n_layers": 0})
SILENT = ("leap", "cognet")
"""Write a list and give no scores, so that they order nothing."""
TODAY = {"lr": "LR", "bimorec": "BiMoRec"} | {name: label for name, label in NETWORKS.items() if name not in SILENT}
"""Visit systems, by the order of their scores at the same last visits, of which most see the codes."""
DIFFKG = Row("diffkg", "DiffKG", "diffkg")
COMPARISON = (DIFFKG, *(Row(name, label, name) for name, label in (RANKERS | REFERENCES).items()), BPR_MF)
"""Table 3: the seven, and what they leave out."""
VISITS = (DIFFKG, *(Row(name, label, name) for name, label in TODAY.items()))
"""The other half of the field at the same last visits, below a line, since it sees the codes of the day."""

SCHEDULES: dict[str, dict[str, Any]] = {
    "study": {"n_steps": 50, "noise_scale": 1e-3, "noise_max": 1e-3},
    "strong": {"noise_scale": 1.0, "noise_max": 0.5},
}
"""Of the noise, beside the default of the released code: that of the study on MIMIC-III, and one that leaves half of
the variance of a row to the noise."""
DIFFUSING = ("released", "filter", "add")
"""Arms in which the diffusion decides anything."""
DECISIVE = "B - D"
"""Key of the contrast on which the claim hangs: edges chosen by diffusion against edges chosen by chance."""


def _arm(key: str, schedule: str = "") -> Row:
    named = (f"{key}-{schedule}", f"{LABELS[key]}, {schedule} noise") if schedule else (key, LABELS[key])
    return Row(*named, "diffkg", settings=ARMS[key] | SCHEDULES.get(schedule, {}))


SEVEN = (_arm("random"), *(_arm(key) for key in ARMS if key != "random"))
"""D first: the changes of the others are what choosing edges otherwise than by chance is worth."""
CROSSED = (*SEVEN, *(_arm(key, schedule) for schedule in SCHEDULES for key in DIFFUSING))

GRIDS = {"diffkg-table3": COMPARISON, "diffkg-visits": VISITS, "diffkg-arms": CROSSED}
"""Grids by name."""
CONTRASTS = {
    "diffkg-arms": (
        Contrast(DECISIVE, "B over D: chosen by diffusion", {"filter": 1, "random": -1}),
        Contrast("B - A", "B over A: reaches training", {"filter": 1, "released": -1}),
        Contrast("C - B", "C over B: new edges", {"add": 1, "filter": -1}),
        Contrast("B - F", "B over F: a second view", {"filter": 1, "one-view": -1}),
        Contrast("B - G", "B over G: a true graph", {"filter": 1, "shuffled": -1}),
    )
}
"""Claims of the paper as differences of arms, the decisive one first."""
