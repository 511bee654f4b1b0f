"""Grids of the chapters on BiMoRec: its tables, its ablation, controls of ours, its sweeps, planted effects.

Rows are picked by key.  A grid's first row is what the others are compared with.  The switches of BiMoRec between its
paper and its released code are the grid of the system itself, ``bimorec``.
"""

from __future__ import annotations

from typing import Any

from medrec.lab.rows import Contrast
from medrec.models.base import Row

REFERENCE = "BiMoRec"
"""Label of the first row of every grid of BiMoRec."""
FULL = Row("bimorec", REFERENCE, "bimorec")


def _bimorec(key: str, label: str, variant: str = "paper", **settings: Any) -> Row:
    return Row(key, label, "bimorec", variant, settings)


ABLATION = (
    FULL,
    _bimorec("wo_T", "w/o T", "wo_T"),
    _bimorec("wo_E", "w/o E", "wo_E"),
    _bimorec("wo_TE", "w/o T+E", "wo_TE"),
)
"""Table 4 of the paper; what each variant takes out is fixed in :data:`medrec.models.bimorec.VARIANTS`."""
SYNERGY = "T and E beyond their sum"
"""Label of one more row of the ablation, without a value of its own: the interaction of its two switches."""
CONTRASTS = {
    "bimorec-ablation": (Contrast("beyond", SYNERGY, {"bimorec": 1, "wo_T": -1, "wo_E": -1, "wo_TE": 1}),),
}

CURRENT_ONLY = _bimorec("current_only", "current visit alone", "current_only")
SHUFFLED = _bimorec("shuffled_molecules", "shuffled molecules", "shuffled_molecules")
FREE = _bimorec("free_table", "free vectors", "free_table")
FLAT = _bimorec("flat", "flat drawings", "flat")
MEAN_PAST = _bimorec("mean_past", "mean of past visits", "mean_past")
CONTROLS = (
    FULL,
    CURRENT_ONLY,
    SHUFFLED,
    FREE,
    FLAT,
    _bimorec("shuffled_partners", "shuffled 3D partners", "shuffled_partners"),
    _bimorec("frozen", "encoders frozen", "frozen"),
    _bimorec("frozen-random", "encoders random, frozen", "frozen", pretrain=False),
    _bimorec("no_gse", "no attention among molecules", "no_gse"),
    _bimorec("no_gate", "no gate", "no_gate"),
    MEAN_PAST,
)
"""What keeps everything but the claimed cause; the paper has none of them."""

PAST = (FULL, CURRENT_ONLY, MEAN_PAST)
"""What a patient's past is worth, read by a GRU over score vectors (eq. 25) or by their mean."""


def _turned(knob: str, label: str, *values: float) -> tuple[Row, ...]:
    return tuple(
        Row(f"{knob}={v:g}", label.format(v), "bimorec", settings={knob: v}, knob=knob, value=v) for v in values
    )


SENSITIVITY = (
    FULL,
    *_turned("width", "width {}", 32, 128, 256),
    *_turned("gin_layers", "{} GIN layers", 2, 3, 5),
    Row("pretraining_epochs=0", "pre-trained 0 epochs", "bimorec", "wo_T", knob="pretraining_epochs", value=0),
    *_turned("pretraining_epochs", "pre-trained {} epochs", 5, 60),
    *_turned("pretraining_rate", "pre-training rate {:g}", 2e-4, 5e-4, 5e-3),
    *_turned("dropout", "dropout {:g}", 0.2, 0.7),
    *_turned("learning_rate", "rate {:g}", 5e-4, 8e-3),
)
"""Figure 5, four knobs, and two that the paper did not turn; on cohorts of the size of ``synthetic``."""

PLANTED = (
    FULL,
    SHUFFLED,
    FREE,
    FLAT,
    _bimorec("wo_TE", "w/o T+E", "wo_TE"),
    MEAN_PAST,
    Row("lr", "LR", "lr"),
)
"""On cohorts with a planted molecular effect, and on the plain one: a molecular path must find it, and only it."""
PLANTED_MEAN = (
    _bimorec("bimorec", REFERENCE, "mean_past"),
    _bimorec("shuffled_molecules", SHUFFLED.label, SHUFFLED.variant, past_visits="mean"),
    _bimorec("free_table", FREE.label, FREE.variant, past_visits="mean"),
)
"""The same question to BiMoRec with a mean in the place of the GRU of eq. 25, which has weights of its own for each
medication: what fragments say about a rarely given class must pass through the few that this class could train."""

NETWORKS = {
    "gamenet": "GAMENet",
    "retain": "RETAIN",
    "leap": "LEAP",
    "micron": "MICRON",
    "cognet": "COGNet",
    "safedrug": "SafeDrug",
    "molerec": "MoleRec",
    "causalmed": "CausalMed",
    "drugrec": "DrugRec",
}
"""Networks that BiMoRec is compared with, and their labels; written out so that no system is imported for a name."""
COMPARISON = (
    FULL,
    Row("popularity", "popularity", "popularity"),
    Row("last-visit", "last visit", "last-visit"),
    Row("lr", "LR", "lr"),
    Row("lr-published", "LR, as published", "lr", "official"),
    Row("ecc", "ECC", "ecc"),
    *(Row(system, label, system) for system, label in NETWORKS.items()),
)
"""Table 2: BiMoRec, the reference points, and every system that it is compared with.  LR stands in it twice,
because its penalty and its cut decide more than most architectures do: with the C that validation prefers, at the
threshold that its readers choose, and as published, with the library's C, to be read at its own threshold of one half.
"""
FORMER = {"bimorec-table2": {"LR": "LR, as published", "LR (C = 0.1)": "LR"}}
"""Labels under which kept rows have the same trainings, by grid; they are read under those of today."""

GRIDS = {
    "bimorec-table2": COMPARISON,
    "bimorec-ablation": ABLATION,
    "bimorec-controls": CONTROLS,
    "bimorec-past": PAST,
    "bimorec-sensitivity": SENSITIVITY,
    "bimorec-planted": PLANTED,
    "bimorec-planted-mean": PLANTED_MEAN,
}
"""Grids by name."""
WORLDS = ("bimorec-planted", "bimorec-planted-mean")
"""Those that mean something where a molecular effect is planted, and beside such a cohort."""
