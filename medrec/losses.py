"""Loss terms shared by several systems: pure functions of tensors."""

from __future__ import annotations

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
