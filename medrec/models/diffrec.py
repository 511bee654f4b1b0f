r"""DiffRec: a patient's row, blurred a little by noise, and a network that says what it was before.

Wang et al., "Diffusion recommender model", SIGIR 2023.  Formulas are those of the released code; schedule, forward and
reverse step stand in :mod:`medrec.nn.noise`.

.. math::
    \hat x_0(x_t, t) &= W_2 \tanh\!\big(W_1 [\mathrm{drop}(x_t) \,\|\, W_e\, s(t) + b_e] + b_1\big) + b_2 \\
    \ell_t &= \frac{w_t}{M} \lVert \hat x_0(x_t, t) - x_0 \rVert^2, \qquad
    w_1 = 1, \quad w_t = \tfrac12\big(\mathrm{SNR}_{t-1} - \mathrm{SNR}_t\big) \\
    \mathcal L &= \frac{\ell_t}{T\, p_t}, \qquad
    p_t = .999 \frac{\sqrt{\overline{\ell_t^2}}}{\sum_u \sqrt{\overline{\ell_u^2}}} + \frac{.001}{T}

with :math:`x_0` the row of zeros and ones, ``s`` sines and cosines of the step, and :math:`\overline{\ell_t^2}` the
mean over the last ten losses of step ``t``; until every step has ten, :math:`p_t = 1 / T`.  One step is drawn for each
patient of a batch.

What is read is the guess at step 1, and step 1 weighs 1: with the settings below :math:`w_2` is 49 000, since so little
noise is added at step 1, and the other steps weigh 490 and less.  So the guess that is read is the one that the loss
hardly asks about; ``reweight`` ``none`` and ``n_steps`` 1 show what that costs.

**Reading.**  From :math:`x_{T'}`, in both variants T' = 0 and therefore the row itself, the mean of the posterior is
taken through all ``T`` steps.  At the last one the coefficient of :math:`x_t` is 0: scores are the network's last
guess.  With ``n_steps`` 1 and T' = 0 what remains is an auto-encoder with dropout on its input, the control for
everything that is attributed to diffusion.  It knows no patient by name: whoever has a row has scores
(:meth:`DiffRec.reversed`).

Switches (``paper`` → ``official``):

* ``reweight``: ``elbo``, with the half that the derivation has → ``without_half``, so that the first step counts half
  as much beside the others.  ``none`` (:math:`w_t = 1`) is not to be had of the released code, whose loss is then
  undefined;
* ``t_inference``: T', 0 in both, as the released examples have it; with more, noise is drawn once for each patient, so
  that the same patient has the same scores every time.

Deviations.  The released code counts patients without a target in its means; here they are left out.  Rows are not
normalised, for which the released code has an option.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from medrec.arguments import Range, Rate, Width
from medrec.context import Context, graph_of
from medrec.graphs.interactions import Interactions
from medrec.graphs.rows import PatientRows, given_to, row_batches
from medrec.models.base import Ranker, Row, System, TrainingConfig
from medrec.nn.dropout import Dropout
from medrec.nn.noise import NoiseSchedule
from medrec.types import MedrecError

LOSSES = 10
"""Of each step that are remembered."""
EVEN = 0.001
"""Share of draws in which all steps are equally likely."""
FIRST = 1e-5
"""Variance of the noise of step 1; released code."""

Small = Annotated[float, Range(0, 1, above=True, below=True)]
"""A variance below that of the signal."""
Steps = Annotated[int, Range(1, 1000)]
Reweight = Literal["elbo", "without_half", "none"]


@dataclass(frozen=True)
class DiffRecConfig(TrainingConfig):
    """Settings of DiffRec."""

    size: int = 1000  # of the hidden layer; released code
    time_size: Width = 10  # of a step's embedding; released code
    dropout: float = 0.5  # on the row; released code
    n_steps: Steps = 5  # T; examples of the released code, whose default is 100
    noise_scale: Rate = 0.1  # s; released code
    noise_min: Small = 1e-4  # released code
    noise_max: Small = 0.02  # released code
    reweight: Reweight = "elbo"  # paper; released code "without_half"
    t_inference: Annotated[int, Range(0, 1000)] = 0  # T', steps of noise before reading; released code
    batch_size: int = 400  # patients a step; released code
    learning_rate: float = 1e-3  # ours, of three with equal validation scores (released code: 5e-5 to 1e-4 by data set)
    epochs: int = 200  # at most; ours (released code: 1 000)


VARIANTS = {"paper": {}, "official": {"reweight": "without_half"}}
"""Switches of each variant."""


# -- equations ---------------------------------------------------------------------------------------------------------


def weights_of_steps(schedule: NoiseSchedule, reweight: Reweight) -> Tensor:
    r""":math:`w_t`, ``(T,)`` float64.

    Args:
        schedule: of the noise.
        reweight: see the module.
    """
    ratio, weight = schedule.signal_to_noise, torch.ones_like(schedule.beta)
    if reweight != "none":
        weight[1:] = (ratio[:-1] - ratio[1:]) * (0.5 if reweight == "elbo" else 1.0)
    return weight


def chances_of_steps(losses: Tensor, count: Tensor) -> Tensor:
    r""":math:`p_t`, ``(T,)``: the larger the last losses of a step, the more often it is drawn.

    Args:
        losses: ``(T, 10)``, the last ones of each step.
        count: ``(T,)``, how many there have been; before all have ten, every step is equally likely.
    """
    even = torch.full_like(losses[:, 0], 1 / len(losses))
    size = losses.square().mean(1).sqrt()
    # Losses that are all 0 say nothing.
    if (count < losses.shape[1]).any() or not size.any():
        return even
    return (1 - EVEN) * size / size.sum() + EVEN * even


def remember(losses: Tensor, count: Tensor, t: Tensor, new: Tensor) -> tuple[Tensor, Tensor]:
    """The last ten losses of each step after a batch, and how many there have been.

    The same as writing one loss after the other into a ring of ten places, the oldest being overwritten.

    Args:
        losses: ``(T, 10)`` before.
        count: ``(T,)`` int64 before.
        t: ``(B,)`` int64, place of each patient's step, from 0.
        new: ``(B,)`` their losses.
    """
    losses, count = losses.clone(), count.clone()
    places = losses.shape[1]
    order = t.argsort(stable=True)
    step, n = t[order], t.bincount(minlength=len(count))
    rank = torch.arange(len(t), device=t.device) - (n.cumsum(0) - n)[step]
    # What the same batch would overwrite is not written: every place is written once.
    last = rank >= n[step] - places
    step, rank = step[last], rank[last]
    losses[step, (count[step] + rank) % places] = new[order][last]
    return losses, count + n


def waves(n_steps: int, width: int) -> Tensor:
    r"""Cosines and sines of the steps 0, 1, ..., ``(T, width)``, at rates :math:`10^{-4 j / \lfloor d/2 \rfloor}`.

    Args:
        n_steps: T.
        width: d; an odd one has a column of zeros at the end.
    """
    half = width // 2
    rate = torch.exp(-math.log(10_000) * torch.arange(half, dtype=torch.float64) / max(half, 1))
    angle = torch.arange(n_steps, dtype=torch.float64)[:, None] * rate
    found = torch.cat([angle.cos(), angle.sin()], dim=1)
    return nn.functional.pad(found, (0, width - 2 * half)).float()


# -- the network -------------------------------------------------------------------------------------------------------


class DiffRec(Ranker):
    """Two layers that are told how much noise there is.

    Learnt: ``time``, ``time_size`` to itself; ``inner``, ``M + time_size`` to ``size``; ``outer``, ``size`` to ``M``.
    Fixed: vectors of the schedule and ``waves``.  Counted: ``losses`` ``(T, 10)`` and ``count`` ``(T,)``.

    Args:
        config: its settings.
        context: its ``graph`` holds what everybody was given.

    Raises:
        MedrecError: noise falls from step to step, or T' is more than T.
    """

    config: DiffRecConfig
    signal: Tensor
    spread: Tensor
    weight: Tensor
    clean: Tensor
    noisy: Tensor
    waves: Tensor
    losses: Tensor
    count: Tensor

    def __init__(self, config: DiffRecConfig, context: Context) -> None:
        super().__init__(config, context)
        if config.t_inference > config.n_steps:
            raise MedrecError(
                f"DiffRec: t_inference is {config.t_inference}, but there are {config.n_steps} steps; "
                "it must be at most n_steps."
            )
        M, T = context.sizes["medication"], config.n_steps
        self.dropout = Dropout(config.dropout)
        self.time = nn.Linear(config.time_size, config.time_size)
        self.inner = nn.Linear(M + config.time_size, config.size)
        self.outer = nn.Linear(config.size, M)
        schedule = NoiseSchedule.linear(T, config.noise_scale, config.noise_min, config.noise_max, FIRST)
        clean, noisy = schedule.back
        weight = weights_of_steps(schedule, config.reweight)
        for name, vector in (
            ("signal", schedule.signal),
            ("spread", schedule.spread),
            ("weight", weight),
            ("clean", clean),
            ("noisy", noisy),
        ):
            # Rounded after it was computed.
            self.register_buffer(name, vector.float())
        self.register_buffer("waves", waves(T, config.time_size))
        self.register_buffer("losses", torch.zeros(T, LOSSES))
        self.register_buffer("count", torch.zeros(T, dtype=torch.int64))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weights normal after Xavier, biases normal with standard deviation .001; released code."""
        for layer in (self.time, self.inner, self.outer):
            nn.init.xavier_normal_(layer.weight)
            nn.init.normal_(layer.bias, std=0.001)

    def batches(self, data: Interactions, rows: NDArray[np.integer], order: Sequence[int]) -> Iterator[PatientRows]:
        """Batches of ``config.batch_size`` patients."""
        return row_batches(data, rows, self.config.batch_size, order)

    def guess(self, row: Tensor, t: Tensor) -> Tensor:
        r""":math:`\hat x_0`, ``(B, M)``.

        Args:
            row: ``(B, M)``, with the noise of step t.
            t: ``(B,)`` int64, place of the step, from 0.
        """
        inner = self.inner(torch.cat([self.dropout(row), self.time(self.waves[t])], dim=-1))
        guessed: Tensor = self.outer(inner.tanh())
        return guessed

    def loss(self, batch: PatientRows, context: Context) -> Tensor:
        """Weighted square error at one step for each patient, mean over medications and patients."""
        given = batch.given
        chance = chances_of_steps(self.losses, self.count)
        t = chance.multinomial(len(given), replacement=True)
        row = self.signal[t, None] * given + self.spread[t, None] * torch.randn_like(given)
        losses = self.weight[t] * (self.guess(row, t) - given).square().mean(-1)
        if self.training:
            now, counted = remember(self.losses, self.count, t, losses.detach())
            self.losses.copy_(now)
            self.count.copy_(counted)
        return (losses / (len(chance) * chance[t])).mean()

    def reversed(self, row: Tensor) -> Tensor:
        """From rows with or without noise through all steps to the last guess, ``(B, M)``."""
        for place in range(self.config.n_steps - 1, -1, -1):
            t = torch.full((len(row),), place, device=row.device)
            row = self.clean[place] * self.guess(row, t) + self.noisy[place] * row
        return row

    def scores(self, patients: NDArray[np.integer], context: Context) -> Tensor:
        """The last guess of each patient's row, ``(U, M)``."""
        graph = graph_of(context)
        row = given_to(graph, patients)
        if last := self.config.t_inference:
            # Drawn for everybody and always alike: a patient's scores do not depend on who else is asked about.
            chance = torch.Generator().manual_seed(0)
            noise = torch.randn((graph.n_patients, graph.n_medications), generator=chance)
            noise = noise[torch.from_numpy(patients.astype(np.int64))]
            row = self.signal[last - 1].cpu() * row + self.spread[last - 1].cpu() * noise
        return self.reversed(row.to(self.waves.device))


SYSTEM = System(
    name="diffrec",
    label="DiffRec",
    family="generative",
    cls=DiffRec,
    config=DiffRecConfig,
    task="ranking",
    sees="medications of earlier visits",
    small={"batch_size": 16},
    variants=VARIANTS,
    needs=("graph",),
    citation="wang2023diffrec",
    seconds_per_epoch=3,
    rows=tuple(
        Row(key, label, "diffrec", variant, changed)
        for key, label, variant, changed in (
            ("diffrec", "DiffRec", "paper", {}),
            ("official", "without the half (official)", "official", {}),
            ("one-step", "one step: an auto-encoder", "paper", {"n_steps": 1}),
            ("unweighted", "all steps weigh the same", "paper", {"reweight": "none"}),
            ("noise-first", "noise before reading", "paper", {"t_inference": 5}),
            ("much-noise", "ten times the noise", "paper", {"noise_scale": 1.0}),
        )
    ),
)
