"""What the grids of the book train: which systems, with which settings, under which label.

The first row of a grid is its reference: the others are compared with it, paired by patient.  Grids named after a
system turn its switches one at a time, from what its paper says to what its released code does, and add the controls
that its chapter asks for.  :mod:`medrec.experiments.grids` trains them and makes their scores.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from medrec.types import MedrecError

REFERENCE = "BiMoRec"
"""First row of every grid of BiMoRec."""


@dataclass(frozen=True)
class Row:
    """One system of a grid: how a page calls it, and what is trained.

    Args:
        label: as tables and figures print it.
        variant: of the system.
        settings: that differ from the variant's.
        model: the system.
        knob: for sweeps, the setting that is turned.
        value: and what it is set to.
    """

    label: str
    variant: str = "paper"
    settings: dict[str, Any] = field(default_factory=dict)
    model: str = "bimorec"
    knob: str = ""
    value: float | None = None


LONG = {"batch_size": 64, "epochs": 10}
"""Of the networks whose epoch at 6 350 patients takes half a minute: as many optimiser steps as BiMoRec has there."""
SETTINGS = {
    "synthetic-6350": {"bimorec": {"batch_size": 128}} | dict.fromkeys(("leap", "cognet", "molerec", "drugrec"), LONG),
    "synthetic": {
        "bimorec": {"width": 64, "batch_size": 32, "patience": 20},
        "retain": {"learning_rate": 4e-3},
        "leap": {"learning_rate": 4e-3},
        "micron": {"learning_rate": 1e-3},
        "cognet": {"learning_rate": 1e-3},
        "safedrug": {"learning_rate": 5e-4, "batch_size": 32},
        "molerec": {"learning_rate": 2e-3, "batch_size": 32},
    },
}
"""Of these systems in every row of a grid on cohorts of these names, ``synthetic+structure`` and the like included;
others take their defaults, which validation chose at 6 350 patients.  On ``synthetic``, a tenth of it, higher or lower
rates serve, and BiMoRec is narrower, so that a grid is an afternoon on two cores and not a week."""


def settings_for(cohort: str, model: str = "bimorec") -> dict[str, Any]:
    """Settings that a system has in every row of a grid on this cohort."""
    return dict(SETTINGS.get(cohort.partition("+")[0], {}).get(model, {}))


FULL = Row(REFERENCE)
ABLATION = (FULL, Row("w/o T", "wo_T"), Row("w/o E", "wo_E"), Row("w/o T+E", "wo_TE"))
"""Table 4 of the paper; what each variant takes out is fixed in :data:`medrec.models.bimorec.VARIANTS`."""
SYNERGY = "T and E beyond their sum"
"""One more row of the ablation's scores, without a value of its own: the interaction of its two switches as ``delta``,
full - w/o T - w/o E + w/o T+E."""

CONTROLS = (
    FULL,
    Row("current visit alone", "current_only"),
    Row("shuffled molecules", "shuffled_molecules"),
    Row("free vectors", "free_table"),
    Row("flat drawings", "flat"),
    Row("shuffled 3D partners", "shuffled_partners"),
    Row("encoders frozen", "frozen"),
    Row("encoders random, frozen", "frozen", {"pretrain": False}),
    Row("no attention among molecules", "no_gse"),
    Row("no gate", "no_gate"),
    Row("mean of past visits", "mean_past"),
)
"""What keeps everything but the claimed cause; the paper has none of them."""

SWITCHES = (
    FULL,
    Row("one perceptron for gate and logit", settings={"share_current_mlp": True}),
    Row("mean cross-entropy", settings={"bce_reduction": "mean"}),
    Row("DDI factor 1", settings={"ddi_scale": 1.0}),
    Row("mean, DDI factor 1", settings={"bce_reduction": "mean", "ddi_scale": 1.0}),
    Row("linear set attention", settings={"sab_feedforward": False}),
    Row("positive in the denominator", settings={"nce_denominator": "with_positive"}),
    Row("raw positions", settings={"center_coords": False}),
    Row("official", "official"),
)
"""Paper against released code: some switches one at a time, then everything that the released code does otherwise
("official").  ``gvp_layers``, ``no_fragment_rows`` and ``tau_schedule`` are turned only there; ``coords`` is turned
there, and alone among the :data:`CONTROLS` ("flat drawings").  The DDI factor and the denominator are the same in the
first row and in "official": their rows take eq. 29 as printed, also with the mean cross-entropy, and eq. 7 with its
positive."""

SENSITIVITY = (
    FULL,
    *(Row(f"width {d}", settings={"width": d}, knob="width", value=d) for d in (32, 128, 256)),
    *(Row(f"{n} GIN layers", settings={"gin_layers": n}, knob="gin_layers", value=n) for n in (2, 3, 5)),
    Row("pre-trained 0 epochs", "wo_T", knob="pretraining_epochs", value=0),
    *(
        Row(f"pre-trained {n} epochs", settings={"pretraining_epochs": n}, knob="pretraining_epochs", value=n)
        for n in (5, 60)
    ),
    *(
        Row(f"pre-training rate {r:g}", settings={"pretraining_rate": r}, knob="pretraining_rate", value=r)
        for r in (2e-4, 5e-4, 5e-3)
    ),
    *(Row(f"dropout {p:g}", settings={"dropout": p}, knob="dropout", value=p) for p in (0.2, 0.7)),
    *(Row(f"rate {r:g}", settings={"learning_rate": r}, knob="learning_rate", value=r) for r in (5e-4, 8e-3)),
)
"""Figure 5, four knobs, and two that the paper did not turn."""

PAST = (FULL, *(row for row in CONTROLS if row.label in ("current visit alone", "mean of past visits")))
"""What a patient's past is worth, read by a GRU over score vectors (eq. 25) or by their mean."""

PLANTED = (
    FULL,
    *CONTROLS[2:5],
    Row("w/o T+E", "wo_TE"),
    Row("mean of past visits", "mean_past"),
    Row("LR", model="lr"),
)
"""On cohorts with a planted molecular effect, and on the plain one: a molecular path must find it, and only it."""
PLANTED_MEAN = (
    Row(REFERENCE, "mean_past"),
    *(Row(row.label, row.variant, {**row.settings, "past_visits": "mean"}) for row in CONTROLS[2:4]),
)
"""The same question to BiMoRec with a mean in the place of the GRU of eq. 25, which has weights of its own for each
medication: what fragments say about a rarely given class must pass through the few that this class could train."""

RATES = (1e-3, 2e-3, 4e-3, 8e-3)
"""Learning rates among which validation chooses, the same for every network."""
TUNED = {
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
"""Networks, and how pages call them."""

LEARNING_RATES = (
    *(Row(f"LR with C = {c:g}", model="lr", settings={"C": c}, knob="C", value=c) for c in (0.01, 0.1, 1.0, 10.0)),
    *(
        Row(
            f"{label} at {rate:g}",
            model=model,
            settings={"learning_rate": rate} | ({"epochs": 3} if settings_for("synthetic-6350", model) == LONG else {}),
            knob="learning_rate",
            value=rate,
        )
        for model, label in TUNED.items()
        for rate in RATES
    ),
)
"""The choice is by ``validation`` among the costs; the scores of test patients play no part in it.  Networks whose
training is long are compared after its first third; LR has a penalty where they have a rate."""

RETAIN = (
    Row("RETAIN", model="retain"),
    Row("softmax over features", model="retain", settings={"alpha_axis": "features"}),
    Row("visits read forward", model="retain", settings={"reverse_time": False}),
    Row("official", "official", model="retain"),
    Row("with the visit itself", model="retain", settings={"inputs": "with_current"}),
)
LEAP = (
    Row("LEAP", model="leap"),
    Row("linear attention", model="leap", settings={"attention": "linear"}),
    Row("memory overwritten", model="leap", settings={"keep_attention": False}),
    Row("rare first", model="leap", settings={"order": "rare_first"}),
    Row("order of the record", model="leap", settings={"order": "record"}),
    Row("official", "official", model="leap"),
)
MICRON = (
    Row("MICRON", model="micron"),
    Row("bias in the residual", model="micron", settings={"residual_bias": True}),
    Row("states overwritten", model="micron", settings={"copy_states": False}),
    Row("fixed weights", model="micron", settings={"adaptive_weights": False}),
    Row("start from an estimate", model="micron", settings={"start": "base"}),
    Row("official", "official", model="micron"),
)
OFTEN = {"batch_size": 4, "learning_rate": 2e-3}
"""Of GAMENet and CausalMed in their grids.  Released code takes a step a visit; with the few steps an epoch of larger
batches they end near popularity, a handful of lists for everybody, and there is nothing that a switch could change."""
GAMENET = tuple(
    Row(label, variant, OFTEN | changed, model="gamenet")
    for label, variant, changed in (
        ("GAMENet", "paper", {}),
        ("graph of all records", "paper", {"ehr_from": "all"}),
        ("empty graph", "paper", {"graph": "empty"}),
        ("lift graph", "paper", {"graph": "lift"}),
        ("complete graph", "paper", {"graph": "complete"}),
        ("shuffled graph", "paper", {"graph": "shuffled"}),
        ("margin weight 0.01", "paper", {"multi_weight": 0.01}),
        ("no margin loss", "paper", {"bce_weight": 1.0, "multi_weight": 0.0}),
        ("official", "official", {}),
    )
)
SHORT = {"feedforward": 128, "epochs": 20, "batch_size": 8}
"""Of COGNet in its grid: encoders as narrow as its decoder, which is where most of its time goes."""
COGNET = tuple(
    Row(label, variant, SHORT | changed, model="cognet")
    for label, variant, changed in (
        ("COGNet", "paper", {}),
        ("graph of all records", "paper", {"ehr_from": "all"}),
        ("rare in all records", "paper", {"rare_first_from": "all"}),
        ("frequent first", "paper", {"order": "frequency"}),
        ("order of the record", "paper", {"order": "record"}),
        ("weight of interactions unset", "paper", {"lambda_init": "garbage"}),
        ("greedy", "paper", {"beam": 1}),
        ("official", "official", {}),
    )
)
SAFEDRUG = (
    Row("SafeDrug", model="safedrug"),
    Row("random molecules", model="safedrug", settings={"molecule_encoder": "frozen_random"}),
    Row("no molecules", model="safedrug", settings={"molecule_encoder": "none"}),
    Row("shuffled molecules", model="safedrug", settings={"molecules": "shuffled"}),
    Row("one half without a fragment", model="safedrug", settings={"no_fragment": "half"}),
    Row("slope 0.2", model="safedrug", settings={"correction": 0.2}),
    Row("clipped from above", model="safedrug", settings={"beta_clip": "min"}),
    Row("clipped from above, slope 0.2", model="safedrug", settings={"beta_clip": "min", "correction": 0.2}),
    Row("official", "official", model="safedrug"),
)
THIN = {"size": 32, "gin_layers": 2, "epochs": 15}
"""Of MoleRec in its grid: a training of half a minute instead of several."""
MOLEREC = tuple(
    Row(label, variant, THIN | changed, model="molerec")
    for label, variant, changed in (
        ("MoleRec", "paper", {}),
        ("linear set attention (official)", "official", {}),
        ("zero without a fragment", "paper", {"no_fragment_rows": "zero"}),
        ("free fragments", "paper", {"fragments": "free"}),
        ("shuffled fragments", "paper", {"mask": "shuffled"}),
        ("turn down only", "paper", {"brake": "turn_down"}),
        ("interactions always", "paper", {"brake": "ddi_always"}),
        ("no brake", "paper", {"brake": "none"}),
    )
)
CAUSALMED = tuple(
    Row(label, variant, OFTEN | changed, model="causalmed")
    for label, variant, changed in (
        ("CausalMed", "paper", {}),
        ("no roles", "paper", {"roles": "none"}),
        ("roles with targets", "paper", {"roles": "official"}),
        ("effects above 0.2", "paper", {"effects_min": 0.2}),
        ("adjusted effects", "paper", {"effects": "adjusted"}),
        ("shuffled effects", "paper", {"effects": "shuffled"}),
        ("official", "official", {}),
    )
)
NARROW = {
    "n_layers": 1,
    "gin_layers": 2,
    "molecules_per_class": 1,
    "batch_size": 16,
    "learning_rate": 3e-3,
    "epochs": 12,
}
"""Of DrugRec in its grid: a training of half a minute instead of ten, in more and larger steps."""
DRUGREC = tuple(
    Row(label, variant, NARROW | changed, model="drugrec")
    for label, variant, changed in (
        ("DrugRec", "paper", {}),
        ("pairs by position", "paper", {"pair_targets": "positions"}),
        ("interactions by position", "paper", {"ddi_test": "visit_numbers"}),
        ("no symptoms", "paper", {"symptoms": "none"}),
        ("no repair", "paper", {"repair": "none"}),
        ("greedy repair", "paper", {"repair": "greedy"}),
        ("exact repair", "paper", {"repair": "exact"}),
        ("official", "official", {}),
    )
)


COMPARISON = (
    FULL,
    Row("popularity", model="popularity"),
    Row("last visit", model="last-visit"),
    Row("LR", model="lr"),
    Row("LR (C = 0.1)", model="lr", settings={"C": 0.1}),
    Row("ECC", model="ecc"),
    *(Row(label, model=model) for model, label in TUNED.items()),
)
"""Table 2: BiMoRec, the reference points, and every system that it is compared with.  LR stands in it twice,
because its penalty decides more than most architectures do: the library's default, and the C that validation prefers
among those of :data:`LEARNING_RATES`."""


GRIDS = {
    "table2": COMPARISON,
    "ablation": ABLATION,
    "controls": CONTROLS,
    "past": PAST,
    "switches": SWITCHES,
    "sensitivity": SENSITIVITY,
    "planted": PLANTED,
    "planted-mean": PLANTED_MEAN,
    "rates": LEARNING_RATES,
    "retain": RETAIN,
    "leap": LEAP,
    "micron": MICRON,
    "gamenet": GAMENET,
    "cognet": COGNET,
    "safedrug": SAFEDRUG,
    "molerec": MOLEREC,
    "causalmed": CAUSALMED,
    "drugrec": DRUGREC,
}
"""Grids by name."""


def rows_of(grid: str) -> tuple[Row, ...]:
    """The systems of a grid.

    Raises:
        MedrecError: there is no such grid.
    """
    if grid not in GRIDS:
        raise MedrecError(f"There is no grid {grid!r}. There are {', '.join(GRIDS)}.")
    return GRIDS[grid]
