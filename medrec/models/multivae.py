r"""MultiVAE: a patient's row of medications, squeezed through a Gaussian and drawn again by a multinomial.

Liang et al., "Variational autoencoders for collaborative filtering", WWW 2018, there Mult-VAE^PR.  Formulas are those
of the released code.

.. math::
    (\mu, \log \sigma^2) &= W_2 \tanh\!\big(W_1\, \mathrm{drop}(x / \lVert x \rVert) + b_1\big) + b_2, \qquad
    z = \mu + \epsilon\, \sigma, \quad \epsilon \sim \mathcal N(0, s^2) \\
    \pi &= \operatorname{softmax}\!\big(W_4 \tanh(W_3 z + b_3) + b_4\big) \\
    \mathcal L &= - \sum_i x_i \ln \pi_i
        + \beta_k\, \mathrm{KL}\big(\mathcal N(\mu, \sigma^2) \,\|\, \mathcal N(0, 1)\big), \qquad
    \beta_k = \min(\beta, k / A)

with ``x`` the patient's row of zeros and ones and ``k`` the number of optimiser steps before this one.  Entries share
a probability of 1, so that there is no threshold from which a medication would be recommended; scores are the logits
of :math:`\pi` at :math:`z = \mu`.  It knows no patient by name: whoever has a row has scores (:meth:`MultiVAE.logits`).

Switches (``paper`` → ``official``):

* ``anneal_steps``, :math:`A`: scaled to the training, the cap is reached after 80 % of the steps of all epochs
  (setting 0) → 200 000, so that the cap of .2 is reached at step 40 000.  With 6 350 patients an epoch has 13 steps,
  and after 200 epochs :math:`\beta_k` is .013: nearly no KL term;
* ``noise``, :math:`s`: 1, and in the RecBole library .01.

Deviations.  Epochs are chosen by NDCG@20 of the house's questions (released: NDCG@100 of patients who were not trained
on, from four fifths of their row), and a training ends when patience has run out (released: after 200 epochs).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from medrec.arguments import Range, Scale, Weight
from medrec.context import Context, graph_of
from medrec.graphs.interactions import Interactions
from medrec.graphs.rows import PatientRows, given_to, row_batches
from medrec.models.base import Ranker, Row, System, TrainingConfig
from medrec.nn.dropout import Dropout

REACHED = 0.8
"""Share of all steps after which a scaled schedule has reached its cap."""


@dataclass(frozen=True)
class MultiVAEConfig(TrainingConfig):
    """Settings of MultiVAE."""

    hidden: int = 600  # width of the layer on either side; released code
    size: int = 200  # width of z; released code
    dropout: float = 0.5  # on the normalised row; released code
    beta: Weight = 0.2  # the cap; released code
    anneal_steps: Annotated[int, Range(0, 10**9)] = 0  # 0: scaled, see the module; released code 200 000
    noise: Scale = 1.0  # standard deviation of epsilon; released code (RecBole .01)
    batch_size: int = 500  # patients a step; released code
    learning_rate: float = 1e-3  # released code
    epochs: int = 200  # at most; released code, which runs all of them


VARIANTS = {"paper": {}, "official": {"anneal_steps": 200_000}}
"""Switches of each variant."""


# -- equations ---------------------------------------------------------------------------------------------------------


def multinomial_loss(logits: Tensor, given: Tensor) -> Tensor:
    r"""Negative log-likelihood of a row, :math:`-\sum_i x_i \ln \pi_i`, without the multinomial coefficient.

    Args:
        logits: ``(B, M)``; a number added to all of a row changes nothing.
        given: ``(B, M)``, 0 and 1.

    Returns:
        One value for each patient, ``(B,)``; with n medications at least :math:`n \ln n`.
    """
    return -(logits.log_softmax(-1) * given).sum(-1)


def kl_to_standard(mean: Tensor, log_variance: Tensor) -> Tensor:
    r"""How far a Gaussian is from the standard one.

    .. math:: \mathrm{KL} = \tfrac12 \sum_j (\mu_j^2 + \sigma_j^2 - 1 - \ln \sigma_j^2)

    Args:
        mean: ``(B, d)``.
        log_variance: ``(B, d)``, natural logarithm.

    Returns:
        One value for each patient, ``(B,)``.
    """
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(-1)


def weight_of_kl(step: int, anneal_steps: float, cap: float) -> float:
    r""":math:`\beta_k = \min(\beta, k / A)`.

    Args:
        step: k, optimiser steps before this one.
        anneal_steps: A, steps after which the weight would be 1.
        cap: :math:`\beta`.
    """
    return min(cap, step / anneal_steps)


def scaled_anneal_steps(all_steps: int, cap: float) -> float:
    """A with which the cap is reached after 80 % of a training.

    Args:
        all_steps: optimiser steps of all epochs.
        cap: of the weight; with 0 any A will do.
    """
    return REACHED * all_steps / cap if cap else 1.0


# -- the network -------------------------------------------------------------------------------------------------------


class MultiVAE(Ranker):
    """Four layers, of which the second gives mean and logarithm of the variance.

    Learnt: ``encoder``, ``M`` to ``hidden`` to ``2 size``, and ``decoder``, ``size`` to ``hidden`` to ``M``.

    Args:
        config: its settings.
        context: its ``graph`` holds what everybody was given.
    """

    config: MultiVAEConfig

    def __init__(self, config: MultiVAEConfig, context: Context) -> None:
        super().__init__(config, context)
        M = context.sizes["medication"]
        self.dropout = Dropout(config.dropout)
        self.encoder = nn.Sequential(nn.Linear(M, config.hidden), nn.Tanh(), nn.Linear(config.hidden, 2 * config.size))
        self.decoder = nn.Sequential(nn.Linear(config.size, config.hidden), nn.Tanh(), nn.Linear(config.hidden, M))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weights after Xavier, biases normal with standard deviation .001, cut at two of it; released code."""
        for layer in (*self.encoder, *self.decoder):
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.trunc_normal_(layer.bias, std=0.001, a=-0.002, b=0.002)

    def batches(self, data: Interactions, rows: NDArray[np.integer], order: Sequence[int]) -> Iterator[PatientRows]:
        """Batches of ``config.batch_size`` patients."""
        return row_batches(data, rows, self.config.batch_size, order)

    def encoded(self, given: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of z, both ``(B, size)``, of rows ``(B, M)``."""
        mean, log_variance = self.encoder(self.dropout(nn.functional.normalize(given))).chunk(2, dim=-1)
        return mean, log_variance

    def logits(self, given: Tensor) -> Tensor:
        """``(B, M)`` at the mean of z, of rows ``(B, M)``, whosever they are."""
        logits: Tensor = self.decoder(self.encoded(given)[0])
        return logits

    def loss(self, batch: PatientRows, context: Context) -> Tensor:
        """Likelihood and KL term, mean over patients; z is drawn in training, and otherwise its mean."""
        config = self.config
        mean, log_variance = self.encoded(batch.given)
        z = mean
        if self.training:
            z = mean + config.noise * torch.randn_like(mean) * (0.5 * log_variance).exp()
        anneal_steps = config.anneal_steps or scaled_anneal_steps(config.epochs * batch.n_steps, config.beta)
        weight = weight_of_kl(batch.step, anneal_steps, config.beta)
        return (multinomial_loss(self.decoder(z), batch.given) + weight * kl_to_standard(mean, log_variance)).mean()

    def scores(self, patients: NDArray[np.integer], context: Context) -> Tensor:
        """Logits of each patient's row, ``(U, M)``."""
        device = next(self.parameters()).device
        return self.logits(given_to(graph_of(context), patients).to(device))


SYSTEM = System(
    name="multivae",
    label="MultiVAE",
    family="generative",
    cls=MultiVAE,
    config=MultiVAEConfig,
    task="ranking",
    sees="medications of earlier visits",
    small={"batch_size": 16},
    variants=VARIANTS,
    needs=("graph",),
    citation="liang2018multivae",
    seconds_per_epoch=3,
    rows=(
        Row("multivae", "MultiVAE", "multivae"),
        Row("official", "schedule of 200 000 steps (official)", "multivae", "official"),
        *(
            Row(f"beta-{b}", f"beta {b}", "multivae", settings={"beta": b}, knob="beta", value=b)
            for b in (0.0, 0.05, 1.0)
        ),
        Row("noise", "noise .01", "multivae", settings={"noise": 0.01}),
    ),
)
