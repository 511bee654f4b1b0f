r"""CDAE: a patient's row with holes in it, filled by an auto-encoder that has a node for each patient.

Wu et al., "Collaborative denoising auto-encoders for top-N recommender systems", WSDM 2016.  Formulas are those of the
released code in C++; the study that compares it on MIMIC-III cites another one, written in Keras.

.. math::
    \tilde x = \frac{k}{1 - q} \odot x, \quad k \sim \mathrm{Bernoulli}(1 - q), \qquad
    h = a\big(W^\top \tilde x + V_u + b\big), \qquad
    \hat x = f\big(W'^\top h + b'\big)

with ``x`` the row of zeros and ones of patient ``u``, :math:`V_u` a vector of his own, and ``f`` as the loss wants it.
Scores are what ``f`` is taken of, which has the same order.

**New patients** have no :math:`V_u`, and no score without an additional rule: :meth:`CDAE.scores_of_strangers` takes
nothing (``zero``) or the mean of all patients.

Losses, summed over entries :math:`i` with weights :math:`c_i`, mean over patients:

* ``logistic``: cross-entropy of :math:`\hat x_i = \sigma(z_i)`;
* ``square``: :math:`(x_i - z_i)^2`, with ``f`` the identity;
* ``absolute``: :math:`|x_i - \sigma(z_i)|`.  Its best constant is the median, for a medication that fewer than half of
  the patients have 0: it asks for an empty list.

:math:`c_i` is 1 for what was given; for the rest it is how often the medication is among ``negatives`` draws for each
given one, with repetition, from all that was not given; with ``negatives`` 0 it is 1 everywhere.

Switches (``paper`` → ``official``, the cited code in Keras):

* ``loss``: ``logistic`` → ``absolute``;
* ``tied``: :math:`W' = W^\top`, as the released code has it by default → two matrices;
* ``negatives``: 5 → 0, every zero is an answer;
* ``activation``, ``a``: ``sigmoid`` → ``relu``;
* ``weight_decay``: ours → .02, which is the gradient of .01 times all squares.

Deviations.  Adam on batches of patients takes the place of AdaGrad with .1, patient by patient, with a penalty of .01.
The Keras version chooses epochs on test patients; here validation patients choose them in both variants.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from medrec.arguments import Range
from medrec.context import Context, graph_of
from medrec.graphs.interactions import Interactions
from medrec.graphs.rows import given_to, row_batches
from medrec.models.base import Ranker, Row, System, TrainingConfig
from medrec.nn.dropout import Dropout

Loss = Literal["logistic", "square", "absolute"]


@dataclass(frozen=True)
class CDAEConfig(TrainingConfig):
    """Settings of CDAE."""

    size: int = 50  # width of h; released code 10 or 50, Keras version 50
    dropout: float = 0.5  # q, share of a row that is left out; released code
    loss: Loss = "logistic"  # released code logistic or square, Keras version "absolute"
    tied: bool = True  # released code; Keras version False
    negatives: Annotated[int, Range(0, 100)] = 5  # draws for each given one, 0: all; released code, Keras version 0
    activation: Literal["sigmoid", "relu"] = "sigmoid"  # of h; released code, Keras version "relu"
    batch_size: int = 128  # patients a step; Keras version (released code: one)
    learning_rate: float = 5e-3  # ours, of two on validation patients (Keras version: 1e-3, Adam's default)
    epochs: int = 200  # at most; ours (Keras version: 1 000)


VARIANTS = {
    "paper": {},
    "official": {
        "loss": "absolute",
        "tied": False,
        "negatives": 0,
        "activation": "relu",
        "weight_decay": 0.02,
    },
}
"""Switches of each variant."""


@dataclass(frozen=True)
class Corrected:
    """Some patients, what each was given, and how much each entry of the rows counts.

    Args:
        patients: ``(B,)`` int64.
        given: ``(B, M)`` float, 0 and 1.
        weight: ``(B, M)`` float, c.
    """

    patients: Tensor
    given: Tensor
    weight: Tensor

    def to(self, device: torch.device | str) -> Corrected:
        """The same on another device."""
        return Corrected(self.patients.to(device), self.given.to(device), self.weight.to(device))


# -- equations ---------------------------------------------------------------------------------------------------------


def entry_losses(logits: Tensor, given: Tensor, loss: Loss) -> Tensor:
    """Loss of each entry, the shape of both.

    Args:
        logits: z.
        given: x, 0 and 1.
        loss: which, see the module.
    """
    if loss == "logistic":
        return nn.functional.binary_cross_entropy_with_logits(logits, given, reduction="none")
    if loss == "square":
        return (given - logits).square()
    return (given - logits.sigmoid()).abs()


def drawn_negatives(given: NDArray[np.bool_], negatives: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """How often each medication is drawn as one that was not given.

    Args:
        given: ``(B, M)`` bool.
        negatives: draws for each given medication, with repetition, all that were not given being equally likely.
        rng: draws.

    Returns:
        ``(B, M)``; rows add up to ``negatives`` times the number of given ones, or to 0 where all were given.
    """
    others = ~given
    share = others / np.maximum(others.sum(1, keepdims=True), 1)
    n = np.where(others.any(1), negatives * given.sum(1), 0)
    # The last entry gets what rounding leaves over.
    counts: NDArray[np.int64] = rng.multinomial(n, share) * others
    return counts


# -- the network -------------------------------------------------------------------------------------------------------


class CDAE(Ranker):
    """One hidden layer, and a vector for each patient that is added inside.

    Learnt: ``encoder``, ``M`` to ``size``; ``nodes`` ``(U, size)``; ``bias`` ``(M,)`` of the output; ``decoder``,
    ``size`` to ``M``, where it is not the encoder's matrix.

    Args:
        config: its settings.
        context: its ``graph`` holds what everybody was given, and how many patients there are.
    """

    config: CDAEConfig

    def __init__(self, config: CDAEConfig, context: Context) -> None:
        super().__init__(config, context)
        M = context.sizes["medication"]
        self.dropout = Dropout(config.dropout)
        self.encoder = nn.Linear(M, config.size)
        self.nodes = nn.Embedding(graph_of(context).n_patients, config.size)
        self.bias = nn.Parameter(torch.empty(M))
        if not config.tied:
            self.decoder = nn.Linear(config.size, M, bias=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Uniform after Xavier, four times as wide for sigmoid units as released code has it; biases 0."""
        gain = 4.0 if self.config.activation == "sigmoid" else 1.0
        nn.init.xavier_uniform_(self.encoder.weight, gain=gain)
        nn.init.xavier_uniform_(self.nodes.weight, gain=gain)
        nn.init.zeros_(self.encoder.bias)
        nn.init.zeros_(self.bias)
        if not self.config.tied:
            nn.init.xavier_uniform_(self.decoder.weight, gain=gain)

    def batches(self, data: Interactions, rows: NDArray[np.integer], order: Sequence[int]) -> Iterator[Corrected]:
        """Batches of ``config.batch_size`` patients, with negatives drawn anew."""
        negatives = self.config.negatives
        rng = np.random.default_rng([*order, 1])  # another stream than the shuffle's
        for batch in row_batches(data, rows, self.config.batch_size, order):
            weight = torch.ones_like(batch.given)
            if negatives:
                drawn = drawn_negatives(batch.given.numpy() > 0, negatives, rng)
                weight = batch.given + torch.from_numpy(drawn.astype(np.float32))
            yield Corrected(batch.patients, batch.given, weight)

    def logits(self, given: Tensor, nodes: Tensor) -> Tensor:
        """z, ``(B, M)``, of rows ``(B, M)`` and the patients' vectors, ``(B, size)`` or one for all."""
        inside = self.encoder(self.dropout(given)) + nodes
        hidden = inside.sigmoid() if self.config.activation == "sigmoid" else inside.relu()
        weight = self.encoder.weight.T if self.config.tied else self.decoder.weight
        return nn.functional.linear(hidden, weight, self.bias)

    def loss(self, batch: Corrected, context: Context) -> Tensor:
        """Weighted sum over medications, mean over patients."""
        logits = self.logits(batch.given, self.nodes(batch.patients))
        return (batch.weight * entry_losses(logits, batch.given, self.config.loss)).sum(-1).mean()

    def scores(self, patients: NDArray[np.integer], context: Context) -> Tensor:
        """z of each patient's row, ``(U, M)``."""
        device = self.bias.device
        nodes = self.nodes(torch.from_numpy(patients.astype(np.int64)).to(device))
        return self.logits(given_to(graph_of(context), patients).to(device), nodes)

    def scores_of_strangers(self, given: Tensor, rule: Literal["zero", "mean"] = "zero") -> Tensor:
        """z of rows of patients who were not there in training, ``(B, M)``.

        Args:
            given: ``(B, M)``, 0 and 1.
            rule: what stands in for their vectors.
        """
        node = self.nodes.weight.mean(0)
        return self.logits(given, node if rule == "mean" else torch.zeros_like(node))


SYSTEM = System(
    name="cdae",
    label="CDAE",
    family="generative",
    cls=CDAE,
    config=CDAEConfig,
    task="ranking",
    sees="medications of earlier visits",
    small={"batch_size": 16},
    variants=VARIANTS,
    needs=("graph",),
    citation="wu2016cdae",
    seconds_per_epoch=3,
    rows=tuple(
        Row(key, label, "cdae", variant, changed)
        for key, label, variant, changed in (
            ("cdae", "CDAE", "paper", {}),
            ("official", "absolute error, untied (official)", "official", {}),
            ("absolute", "absolute error", "paper", {"loss": "absolute"}),
            ("square", "square error", "paper", {"loss": "square"}),
            ("untied", "two matrices", "paper", {"tied": False}),
            ("all-zeros", "every zero counts", "paper", {"negatives": 0}),
            ("relu", "rectified units", "paper", {"activation": "relu"}),
        )
    ),
)
