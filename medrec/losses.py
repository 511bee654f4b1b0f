"""Loss terms shared by several systems: pure functions of tensors."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor


def ddi_loss(prob: Tensor, ddi: Tensor, scale: float = 1.0) -> Tensor:
    r"""Expected number of interacting ordered pairs if recommendations were independent, times a scale.

    Source: BiMoRec, eq. 29; book: :eq:`eq-ddi-loss`.

    .. math:: \mathcal L_{ddi} = c \sum_{i}\sum_{j} M^{ddi}_{ij}\,\hat m_i\,\hat m_j

    The papers do not print :math:`c`, and released codes differ: ``5e-4`` (SafeDrug, MoleRec, CausalMed, BiMoRec),
    ``1 / M**2`` (GAMENet: the mean over the matrix), ``1 / M`` (MICRON, DrugRec).

    Args:
        prob: recommendation probabilities, ``(B, M)``, in [0, 1]; any number of leading dimensions.
        ddi: symmetric interaction matrix, ``(M, M)``, 0/1 or bool, zero diagonal.
        scale: the factor :math:`c`.

    Returns:
        One value per visit, ``(B,)``. Each interaction counts twice, as (i, j) and as (j, i).

    Raises:
        ValueError: the matrix does not fit the probabilities.
    """
    if ddi.shape != (prob.shape[-1], prob.shape[-1]):
        raise ValueError(f"ddi_loss: matrix of shape {tuple(ddi.shape)} for {prob.shape[-1]} medications.")
    return scale * torch.einsum("...i,ij,...j->...", prob, ddi.to(prob.dtype), prob)


def margin_loss(prob: Tensor, target: Tensor) -> Tensor:
    r"""Multi-label margin loss on probabilities, without a loop over pairs.

    Source: BiMoRec, eq. 28 (the same in SafeDrug, MoleRec, CausalMed, NLA-MMR, eq. 16); book: :eq:`eq-margin-loss`.

    .. math::
        \mathcal L_{multi} = \frac1M \sum_{i:\,m_i=1}\ \sum_{j:\,m_j=0} \max(0,\, 1 - (\hat m_i - \hat m_j))
        = \frac1M \Big[\, n_- \sum_{i:\,m_i=1} (1 - \hat m_i) + n_+ \sum_{j:\,m_j=0} \hat m_j \Big]

    Probabilities lie in [0, 1], so no difference exceeds 1, the hinge never switches off and the double sum falls
    apart into the two on the right.

    Args:
        prob: ``(..., M)`` in [0, 1].
        target: ``(..., M)`` bool, True where prescribed.

    Returns:
        One value per visit, ``(...)``; 0 where nothing or everything is prescribed.
    """
    positive = target.to(prob.dtype)
    negative = 1 - positive
    missed = ((1 - prob) * positive).sum(-1)
    added = (prob * negative).sum(-1)
    return (negative.sum(-1) * missed + positive.sum(-1) * added) / prob.shape[-1]


def visit_ddi_rate(recommended: Tensor, ddi: Tensor) -> Tensor:
    r"""Share of interacting pairs among all pairs of each set, :math:`\rho`.

    Source: models with a safety controller (SafeDrug, MoleRec, CausalMed, BiMoRec).

    Args:
        recommended: ``(..., M)`` bool.
        ddi: ``(M, M)`` bool, symmetric, zero diagonal.

    Returns:
        ``(...)`` in [0, 1]; 0 for sets of fewer than two medications.
    """
    chosen = recommended.to(torch.get_default_dtype())
    size = chosen.sum(-1)
    pairs = torch.einsum("...i,ij,...j->...", chosen, ddi.to(chosen.dtype), chosen)
    return pairs / (size * (size - 1)).clamp(min=1)


def ddi_tolerance(rate: Tensor, target_ddi: float | Tensor, temperature: float | Tensor) -> Tensor:
    r"""Weight of accuracy against safety, :math:`\alpha`.

    Source: BiMoRec, eq. 31 (MoleRec and CausalMed use the same); book: :eq:`eq-alpha`.

    .. math:: \alpha = \min\{1,\ \exp(\tau (1 - \rho / \varphi))\}

    Args:
        rate: :math:`\rho`, DDI rate of each recommended set, ``(...)``.
        target_ddi: :math:`\varphi`, the rate up to which only accuracy counts.
        temperature: :math:`\tau`.

    Returns:
        ``(...)`` in (0, 1]; 1 up to the target, continuous there, then falling.
    """
    return torch.exp(temperature * (1 - rate / target_ddi)).clamp(max=1)


def safe_recommendation_loss(
    logits: Tensor,
    target: Tensor,
    ddi: Tensor,
    *,
    bce_weight: float = 0.95,
    target_ddi: float | Tensor = 0.06,
    temperature: float | Tensor = 2.5,
    ddi_scale: float = 5e-4,
    bce_reduction: Literal["sum", "mean"] = "mean",
    threshold: float = 0.5,
) -> Tensor:
    r"""Accuracy and safety in one value: what MoleRec, CausalMed and BiMoRec minimise.

    Source: BiMoRec, eqs. 27-31; book: :eq:`eq-bimorec-loss`.

    .. math::
        \mathcal L = \alpha\,\big(\beta\,\mathcal L_{bce} + (1 - \beta)\,\mathcal L_{multi}\big)
        + (1 - \alpha)\,\mathcal L_{ddi}

    :math:`\alpha` follows the set that the probabilities give at the threshold; no gradient flows through it.

    Args:
        logits: ``(..., M)``.
        target: ``(..., M)`` bool.
        ddi: ``(M, M)`` bool.
        bce_weight: :math:`\beta`.
        target_ddi: :math:`\varphi`.
        temperature: :math:`\tau`.
        ddi_scale: factor of the DDI loss; not printed in the papers.
        bce_reduction: ``"sum"`` over medications as printed, or ``"mean"`` as released; at the same ``ddi_scale`` the
            two are different objectives.
        threshold: probability from which a medication counts as recommended.

    Returns:
        One value per visit, ``(...)``.

    Raises:
        ValueError: there is no such reduction.
    """
    if bce_reduction not in ("sum", "mean"):
        raise ValueError(f"safe_recommendation_loss: bce_reduction {bce_reduction!r}; choose 'sum' or 'mean'.")
    prob = logits.sigmoid()
    bce = torch.nn.functional.binary_cross_entropy_with_logits(logits, target.to(logits.dtype), reduction="none")
    bce = bce.sum(-1) if bce_reduction == "sum" else bce.mean(-1)
    accuracy = bce_weight * bce + (1 - bce_weight) * margin_loss(prob, target)
    with torch.no_grad():
        alpha = ddi_tolerance(visit_ddi_rate(prob >= threshold, ddi), target_ddi, temperature)
    return alpha * accuracy + (1 - alpha) * ddi_loss(prob, ddi, ddi_scale)
