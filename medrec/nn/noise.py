r"""A noise schedule with few steps and little noise: how a row of zeros and ones is blurred, and sharpened again.

.. math::
    v_t &= s\Big(\beta_{\min} + \frac{t - 1}{T - 1}(\beta_{\max} - \beta_{\min})\Big), \qquad
    \beta_t = 1 - \frac{1 - v_t}{1 - v_{t-1}} \le .999, \qquad \bar\alpha_t = \prod_{u \le t} (1 - \beta_u) \\
    x_t &= \sqrt{\bar\alpha_t}\, x_0 + \sqrt{1 - \bar\alpha_t}\, \epsilon \\
    \mu_t &= \frac{\sqrt{\bar\alpha_{t-1}}\, \beta_t}{1 - \bar\alpha_t}\, \hat x_0
            + \frac{\sqrt{1 - \beta_t}\,(1 - \bar\alpha_{t-1})}{1 - \bar\alpha_t}\, x_t

with :math:`\beta_1` fixed and :math:`\bar\alpha_0 = 1`.  Source: the released code of DiffRec, whose schedule is called
linear in the variance, and of DiffKG, which took it over.

All of it is computed in float64.  The signal-to-noise ratios of neighbouring steps are alike to seven digits where
noise hardly grows, so that in float32 most of their differences would be 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from medrec.types import MedrecError

MOST = 0.999
"""Above which no beta rises."""


@dataclass(frozen=True)
class NoiseSchedule:
    r"""What follows from :math:`\beta_1, \dots, \beta_T`; step t stands at place t - 1 of every vector.

    Args:
        beta: ``(T,)`` float64, variance that each step adds.
    """

    beta: Tensor

    @classmethod
    def linear(cls, n_steps: int, scale: float, low: float, high: float, first: float) -> NoiseSchedule:
        r"""The schedule above.

        Args:
            n_steps: T.
            scale: s.
            low: :math:`\beta_{\min}`.
            high: :math:`\beta_{\max}`.
            first: :math:`\beta_1`.

        Raises:
            MedrecError: noise would fall from step to step.
        """
        if low > high:
            raise MedrecError(f"Noise would fall from {low:g} to {high:g}. Set noise_min to at most noise_max.")
        nominal = scale * torch.linspace(low, high, n_steps, dtype=torch.float64)
        beta = torch.full((n_steps,), first, dtype=torch.float64)
        beta[1:] = (1 - (1 - nominal[1:]) / (1 - nominal[:-1])).clamp(max=MOST)
        return cls(beta)

    @property
    def kept(self) -> Tensor:
        r""":math:`\bar\alpha_t`, ``(T,)``: share of the variance that is still signal."""
        return (1 - self.beta).cumprod(0)

    @property
    def kept_before(self) -> Tensor:
        r""":math:`\bar\alpha_{t-1}`, ``(T,)``, beginning with 1."""
        return torch.cat([self.beta.new_ones(1), self.kept[:-1]])

    @property
    def signal(self) -> Tensor:
        r""":math:`\sqrt{\bar\alpha_t}`, ``(T,)``."""
        return self.kept.sqrt()

    @property
    def spread(self) -> Tensor:
        r""":math:`\sqrt{1 - \bar\alpha_t}`, ``(T,)``: standard deviation of the noise."""
        return (1 - self.kept).sqrt()

    @property
    def signal_to_noise(self) -> Tensor:
        r""":math:`\bar\alpha_t / (1 - \bar\alpha_t)`, ``(T,)``."""
        return self.kept / (1 - self.kept)

    @property
    def back(self) -> tuple[Tensor, Tensor]:
        r"""Coefficients of :math:`\hat x_0` and of :math:`x_t` in :math:`\mu_t`, ``(T,)`` each; first 1 and 0."""
        clean = self.kept_before.sqrt() * self.beta / (1 - self.kept)
        noisy = (1 - self.beta).sqrt() * (1 - self.kept_before) / (1 - self.kept)
        return clean, noisy
