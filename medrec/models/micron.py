r"""MICRON: what changed since the last visit changes the prescription.

Yang et al., "Change matters: medication change prediction with recurrent residual networks", IJCAI 2021; losses and
thresholds are those of the released code.  Book: :eq:`eq-micron-residual`, :eq:`eq-micron-carried`.

.. math::
    h_t = W_h \Big[\textstyle\sum_{i \in D_t} e_i \,\Big\|\, \sum_{i \in P_t} e_i\Big] + b_h, \qquad
    N(x) = W_2 \operatorname{ReLU}(W_1 x + b_1) + b_2, \qquad
    \Delta_t = N(h_t - h_{t-1}), \qquad
    \tilde z_1 = N(h_1), \quad \tilde z_t = \tilde z_{t-1} + \Delta_t

The recommended set is carried from visit to visit: medications with :math:`\sigma(\tilde z_t) \ge \delta_1` are added,
those below :math:`\delta_2` dropped, all others stay as they were.  Visit 1 is not scored.  The carried set starts
from the **true** medications of visit 1 (``start = "true"``), as published, or from :math:`\sigma(\tilde z_1)` at
one half (``"base"``), so that nothing true is ever seen.

Loss of a visit t > 1, with :math:`z_t = N(h_t)` and the previous visit's :math:`z_{t-1}`:

.. math::
    \lambda_1 \big(\tfrac34 \mathcal L_{bce}(z_t, y_t) + \tfrac14 \mathcal L_{bce}(z_{t-1}, y_{t-1})\big)
    + 0.05\,\lambda_2 \big(\tfrac34 \mathcal L_{multi}(z_t, y_t) + \tfrac14 \mathcal L_{multi}(z_{t-1}, y_{t-1})\big)
    + \lambda_3 [\rho_t > 0.08] \frac{\sigma(z_t)^\top A\, \sigma(z_t)}{M}
    + \lambda_4 \frac{\lVert \sigma(z_t) - \sigma(z_{t-1} + \Delta_t) \rVert^2}{M}

Switches (``paper`` → ``official``):

* ``residual_bias``: :math:`\Delta_t` without :math:`b_1, b_2`, so that no change of the codes is no change of the
  prescription → with them: :math:`N(0) \ne 0`, and a patient whose codes stay the same drifts.
* ``adaptive_weights``: :math:`\lambda` follows the losses relative to their running means, :func:`relative_weights`
  → all stay at 1/4 (the released counter of samples is never increased).
* ``copy_states``: each visit keeps its own set → all visits of a patient share one array, and all are scored with
  the set of the last visit.  (Released code takes the DDI rate and the number of medications from copies; here all
  five columns follow the set.)

Deviations: the mean over scored visits is minimised (released: a sum over one patient's) with Adam (released:
RMSprop); one dropout mask serves a visit as current and as previous one; running means are taken over optimiser
steps of an epoch (released: meant over visits).  Released scripts tune both thresholds on validation patients:
:func:`roc_thresholds`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_curve
from torch import Tensor, nn

from medrec.arguments import Share, Weight
from medrec.context import Context
from medrec.data.batch import VisitBatch
from medrec.data.cohort import Cohort, Kind
from medrec.losses import ddi_loss, margin_loss, visit_ddi_rate
from medrec.models.base import Recommender, Row, System, TrainingConfig
from medrec.nn.ddi_target import DDITarget, DDITargetRule
from medrec.nn.dropout import Dropout
from medrec.nn.segments import segment_sums


@dataclass(frozen=True)
class MICRONConfig(TrainingConfig):
    """Settings of MICRON."""

    size: int = 64  # width of embeddings and of the health state; released code
    hidden: int = 256  # inner width of the prescription network; released code
    dropout: float = 0.5  # on each code's embedding; released code
    residual_bias: bool = False  # see the module; paper
    copy_states: bool = True  # see the module; ours
    adaptive_weights: bool = True  # see the module; paper
    start: Literal["true", "base"] = "true"  # where the carried set starts; released code
    add_threshold: Share = 0.8  # from which a medication is added; released code, validation
    drop_threshold: Share = 0.2  # below which it is dropped; released code, validation
    current_share: Share = 0.75  # of the visit itself in both accuracy terms; released code
    margin_weight: Weight = 0.05  # of the margin term; released code
    target_ddi: float = 0.08  # DDI rate of a visit up to which its DDI term is left out; released code
    ddi_target: DDITargetRule = "ratio"  # ours; released code "absolute", see medrec.nn.ddi_target
    weight_decay: float = 1e-5  # released code
    learning_rate: float = 4e-3  # `medrec tune`; released code 2e-4, one patient a step
    epochs: int = 100  # at most; ours


VARIANTS = {
    "paper": {},
    "official": {"residual_bias": True, "copy_states": False, "adaptive_weights": False, "ddi_target": "absolute"},
}
"""Switches of each variant."""

KINDS: tuple[Kind, ...] = ("diagnosis", "procedure")


def prescription(x: Tensor, w1: Tensor, b1: Tensor | None, w2: Tensor, b2: Tensor | None) -> Tensor:
    r"""Health state to medications, :math:`N(x) = W_2 \operatorname{ReLU}(W_1 x + b_1) + b_2`.

    Source: MICRON, prescription network.

    Args:
        x: ``(..., d)``.
        w1: ``(k, d)``.
        b1: ``(k,)``, or ``None`` for the residual that is 0 where nothing changed.
        w2: ``(M, k)``.
        b2: ``(M,)`` or ``None``.

    Returns:
        ``(..., M)``.
    """
    return nn.functional.linear(nn.functional.linear(x, w1, b1).relu(), w2, b2)


def carried_sets(prob: Tensor, start: Tensor, add: float, drop: float) -> Tensor:
    r"""Sets that are carried on: add what reaches :math:`\delta_1`, drop what falls below :math:`\delta_2`.

    Source: MICRON, inference.

    Args:
        prob: ``(B, T, M)`` probabilities of visits in order of time.
        start: ``(B, M)`` bool, set before the first of them.
        add: :math:`\delta_1`.
        drop: :math:`\delta_2`, not above ``add``.

    Returns:
        ``(B, T, M)`` bool.
    """
    held, sets = start, []
    for p in prob.unbind(1):
        held = (held | (p >= add)) & ~(p < drop)
        sets.append(held)
    return torch.stack(sets, dim=1) if sets else prob.bool()


def relative_weights(losses: Tensor, means: Tensor, previous: Tensor, share: float = 0.75) -> Tensor:
    r"""Weights that grow with a loss's excess over its mean so far.

    Source: MICRON, as its released code was meant to run.

    .. math:: \lambda = s \operatorname{softmax}\Big(\frac{L - \bar L}{\bar L}\Big) + (1 - s)\, \lambda_{previous}

    Args:
        losses: ``(n,)`` :math:`L`, not negative.
        means: ``(n,)`` :math:`\bar L`; where it is 0 the excess is taken as 0.
        previous: ``(n,)`` weights of the step before, adding up to 1.
        share: :math:`s`.

    Returns:
        ``(n,)``, adding up to 1.
    """
    excess = torch.where(means > 0, losses / torch.where(means > 0, means, 1.0) - 1, 0.0)
    return share * excess.softmax(0) + (1 - share) * previous


def roc_thresholds(target: NDArray[np.bool_], prob: NDArray) -> tuple[float, float]:
    """Thresholds for adding and dropping, read off the ROC curve of every medication and averaged.

    Source: released scripts.  Of a medication's thresholds from high to low, the one a twentieth down the list, kept
    within [0.5, 0.9], is its threshold for adding; the one a twentieth from the end, within [0.1, 0.5], for dropping.

    Args:
        target: ``(V, M)`` bool, medications of validation visits; each needs visits with and without it to count.
        prob: ``(V, M)``.

    Returns:
        Means over medications; 0.8 and 0.2 where none counts.
    """
    pairs = []
    share = target.mean(0)
    for m in np.flatnonzero((share > 0) & (share < 1)):
        cuts = roc_curve(target[:, m], prob[:, m])[2]
        high = cuts[max(0, round(len(cuts) * 0.05) - 1)]
        low = cuts[min(round(len(cuts) * 0.95), len(cuts) - 1)]
        pairs.append((np.clip(high, 0.5, 0.9), np.clip(low, 0.1, 0.5)))
    if not pairs:
        return 0.8, 0.2
    add, drop = np.mean(pairs, axis=0)
    return float(add), float(drop)


@dataclass(frozen=True)
class _Reading:
    """What is said of ``V`` real visits, patient behind patient, and of the ``n`` of them that are not the first."""

    b: Tensor  # (V,) whose visit
    t: Tensor  # (V,) which one
    later: Tensor  # (n,) places in V; the visit before stands in front of it
    direct: Tensor  # (V, M) logits from the visit alone
    change: Tensor  # (n, M) residual


class MICRON(Recommender):
    r"""A prescription network for the first visit, and for the difference of each later one to the visit before.

    .. math::
        h_t = W_h \Big[\textstyle\sum_{i \in D_t} e_i \,\Big\|\, \sum_{i \in P_t} e_i\Big] + b_h, \qquad
        \tilde z_1 = N(h_1), \quad \tilde z_t = \tilde z_{t-1} + N(h_t - h_{t-1})

    with :math:`N` two linear layers and a ReLU between them.  Health states are ``(B, T, d)``, logits
    :math:`\tilde z` ``(B, T, M)``; :meth:`decide` carries a set from visit to visit (:func:`carried_sets`).

    Learnt: embeddings of diagnoses and procedures ``(D + P, d)``; :math:`W_h` ``(d, 2 d)``; :math:`W_1`
    ``(hidden, d)`` and :math:`W_2` ``(M, hidden)``, which serve visits and differences alike.  Followed while training,
    in buffers: weights of the four losses, their running means and over how many steps these go.

    Args:
        config: its settings.
        context: sizes of the vocabularies, and interactions for the loss.
    """

    config: MICRONConfig
    loss_weights: Tensor
    loss_means: Tensor
    n_losses: Tensor
    needs_history = True
    tunable = False

    def __init__(self, config: MICRONConfig, context: Context) -> None:
        super().__init__(config, context)
        sizes, d = context.sizes, config.size
        self.embedding = nn.Embedding(sum(sizes[kind] for kind in KINDS), d)
        self.health = nn.Linear(2 * d, d)
        self.inner = nn.Linear(d, config.hidden)
        self.output = nn.Linear(config.hidden, sizes["medication"])
        self.dropout = Dropout(config.dropout)
        self.ddi_target = DDITarget(config.target_ddi, config.ddi_target)
        self.register_buffer("loss_weights", torch.full((4,), 0.25))
        self.register_buffer("loss_means", torch.zeros(4))
        self.register_buffer("n_losses", torch.zeros(()))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Embeddings uniform in (-0.1, 0.1), as in released code; everything else as PyTorch has it."""
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        for layer in (self.health, self.inner, self.output):
            layer.reset_parameters()

    def prepare(self, cohort: Cohort, train: NDArray[np.integer], context: Context) -> None:
        """The rate of interactions that training prescriptions have."""
        self.ddi_target.count(cohort.select(train).codes["medication"].multi_hot(cohort.n_medications), context.ddi)

    # -- output

    def forward(self, batch: VisitBatch, context: Context) -> Tensor:
        """Logits ``(B, T, M)``: those of the first visit, and the changes since."""
        found = self._read(batch)
        first = found.t == 0
        parts = torch.where(first[:, None], found.direct, 0.0).index_copy(0, found.later, found.change)
        grid = parts.new_zeros(*batch.visit_mask.shape, parts.shape[-1])
        return grid.index_put((found.b, found.t), parts).cumsum(1)

    def _read(self, batch: VisitBatch) -> _Reading:
        b, t = batch.visit_mask.nonzero(as_tuple=True)
        health = self.health(self._embed(batch))
        later = t.nonzero()[:, 0]
        change = health.index_select(0, later) - health.index_select(0, later - 1)
        direct = self._prescribe(health, bias=True)
        return _Reading(b, t, later, direct, self._prescribe(change, bias=self.config.residual_bias))

    def _prescribe(self, health: Tensor, *, bias: bool) -> Tensor:
        b1, b2 = (self.inner.bias, self.output.bias) if bias else (None, None)
        return prescription(health, self.inner.weight, b1, self.output.weight, b2)

    def _embed(self, batch: VisitBatch) -> Tensor:
        """Sums of the dropped-out embeddings of diagnoses and of procedures of each real visit, ``(V, 2 d)``."""
        at, start, ids, owners = batch.visit_mask, 0, [], []
        V = int(at.sum())
        for number, kind in enumerate(KINDS):
            codes = batch.codes[kind][at]
            real = codes < batch.sizes[kind]
            ids.append(codes[real] + start)
            owners.append(real.nonzero()[:, 0] + number * V)
            start += batch.sizes[kind]
        # One look-up for both kinds, of real codes alone.
        rows = self.dropout(self.embedding(torch.cat(ids)))
        return torch.cat(segment_sums(rows, torch.cat(owners), len(KINDS) * V).split(V), dim=-1)

    def decide(self, batch: VisitBatch, context: Context) -> tuple[Tensor, Tensor]:
        """Probabilities and carried sets, both ``(B, T, M)``."""
        config = self.config
        prob = self(batch, context).sigmoid()
        start = batch.target[:, 0] if config.start == "true" else prob[:, 0] >= config.threshold
        sets = carried_sets(prob[:, 1:], start, config.add_threshold, config.drop_threshold)
        sets = torch.cat([torch.zeros_like(start)[:, None], sets], dim=1)
        if not config.copy_states:
            last = batch.visit_mask.sum(1) - 1
            sets = sets[torch.arange(len(sets), device=sets.device), last][:, None].expand_as(sets)
        return prob, sets & self.scored(batch)[..., None]

    def explain(self, batch: VisitBatch, context: Context) -> pl.DataFrame:
        """Shares of the logits of one patient's last visit: the first visit's, and each change since.

        Returns:
            ``medication`` (code), ``kind`` (``first visit`` or ``change``), ``what`` (which visit), ``weight``; they
            add up to the logit.
        """
        reading = self._read(batch)
        T = int(batch.visit_mask[0].sum())
        shares = torch.cat([reading.direct[:1], reading.change[: T - 1]]).cpu().numpy()
        codes = context.vocab["medication"].codes
        return pl.DataFrame(
            {
                "medication": np.tile(np.array(codes), T),
                "kind": np.repeat(["first visit"] + ["change"] * (T - 1), len(codes)),
                "what": np.repeat([f"visit {t + 1}" for t in range(T)], len(codes)),
                "weight": shares.reshape(-1).astype(np.float64),
            }
        )

    # -- loss

    def loss(self, batch: VisitBatch, context: Context) -> Tensor:
        """Mean over scored visits of the four terms of the module's text."""
        reading, config = self._read(batch), self.config
        later = reading.later
        if not len(later):
            return reading.direct.sum() * 0
        target, prob = batch.target[reading.b, reading.t], reading.direct.sigmoid()
        bce = nn.functional.binary_cross_entropy_with_logits(
            reading.direct, target.to(prob.dtype), reduction="none"
        ).mean(-1)
        margin = margin_loss(prob, target)
        now = prob.index_select(0, later)
        rebuilt = (reading.direct.index_select(0, later - 1) + reading.change).sigmoid()
        difference = (now - rebuilt).square().mean(-1)
        interacting = ddi_loss(now, context.ddi, 1 / prob.shape[-1])
        unsafe = visit_ddi_rate(now.detach() >= config.threshold, context.ddi) > self.ddi_target.rate

        def with_previous(term: Tensor) -> Tensor:
            return config.current_share * term[later] + (1 - config.current_share) * term[later - 1]

        terms = [with_previous(bce), config.margin_weight * with_previous(margin), interacting, difference]
        weights = self._weigh(torch.stack([term.mean() for term in terms]).detach())
        terms[2] = interacting * unsafe
        return weights @ torch.stack([term.mean() for term in terms])

    def _weigh(self, losses: Tensor) -> Tensor:
        """Weights of the four terms; while training they follow the losses."""
        if self.training and self.config.adaptive_weights:
            if self.n_losses > 0:
                self.loss_weights.copy_(relative_weights(losses, self.loss_means, self.loss_weights))
            self.n_losses += 1
            self.loss_means += (losses - self.loss_means) / self.n_losses
        return self.loss_weights.clone()

    def after_epoch(self, selected: float) -> None:
        """Running means start anew; weights are kept."""
        self.loss_means.zero_()
        self.n_losses.zero_()


SYSTEM = System(
    name="micron",
    label="MICRON",
    family="sequence",
    cls=MICRON,
    config=MICRONConfig,
    sees="diagnoses and procedures up to the visit itself, medications of the first visit; skips first visits",
    small={"learning_rate": 0.001, "epochs": 400},
    variants=VARIANTS,
    citation="yang2021micron",
    seconds_per_epoch=1,
    rows=(
        Row("micron", "MICRON", "micron"),
        Row("bias", "bias in the residual", "micron", settings={"residual_bias": True}),
        Row("overwritten", "states overwritten", "micron", settings={"copy_states": False}),
        Row("fixed", "fixed weights", "micron", settings={"adaptive_weights": False}),
        Row("estimate", "start from an estimate", "micron", settings={"start": "base"}),
        Row("official", "official", "micron", "official"),
    ),
)
