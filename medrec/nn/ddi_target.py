r"""The rate of interactions that a system may reach before it is held back.

The papers ask for a DDI rate :math:`\varphi` such as .06 where prescriptions of MIMIC-III have .087 by their list.  By
another list, or in other records, prescriptions have another rate, and the same number is a harder or an easier demand:
.06 asks for 31 % fewer interactions there, and by this book's list for more than 40 %.
"""

from __future__ import annotations

from typing import Literal

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from medrec.metrics import ddi_rate

DDITargetRule = Literal["ratio", "absolute"]
PUBLISHED_RATE = 0.087
"""Pooled DDI rate of the prescriptions of the MIMIC-III demo by the interaction list of the papers."""
LEAST = 1e-6
"""Below it a rate divides by next to nothing."""


class DDITarget(nn.Module):
    r"""The target rate :math:`\varphi`, as a share of what training prescriptions have, or as it is printed.

    .. math:: \varphi' = \varphi\, \rho_{train} / 0.087

    with :math:`\rho_{train}` the pooled rate of the training prescriptions.  Fixed once training begins, in ``rate``,
    which is saved with the weights; before :meth:`count` it is the printed number.

    Args:
        published: :math:`\varphi` of the paper or the released code.
        rule: ``"ratio"``, or ``"absolute"`` for the printed number in all records.
    """

    rate: Tensor

    def __init__(self, published: float, rule: DDITargetRule) -> None:
        super().__init__()
        self.published, self.rule = published, rule
        self.register_buffer("rate", torch.tensor(float(published)))

    def count(self, prescribed: ArrayLike, ddi: Tensor) -> None:
        """Set the target by what training visits hold.

        Args:
            prescribed: ``(V, M)`` bool, medications of the training visits.
            ddi: ``(M, M)`` bool.
        """
        if self.rule == "ratio":
            found = ddi_rate(prescribed, ddi.cpu().numpy())
            self.rate.fill_(max(self.published * found / PUBLISHED_RATE, LEAST if self.published else 0.0))
