"""A system for visits from outside the package: two layers on the codes of the visit and on what was given before."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from medrec.context import Context
from medrec.data.batch import VisitBatch
from medrec.models.base import Recommender, System, TrainingConfig


@dataclass(frozen=True)
class ToyConfig(TrainingConfig):
    """It has no dropout, and a share of a loss that grows from epoch to epoch."""

    learning_rate: float = 0.02
    epochs: int = 4
    size: int = 32
    growth: float = 0.01  # of the weight of long lists, an epoch


class Toy(Recommender):
    """Learns what goes with the codes of a visit and with the medications of the visit before."""

    config: ToyConfig
    weight: Tensor

    def __init__(self, config: ToyConfig, context: Context) -> None:
        super().__init__(config, context)
        inputs = sum(context.sizes[kind] for kind in ("diagnosis", "procedure", "medication"))
        self.layers = nn.Sequential(
            nn.Linear(inputs, config.size), nn.ReLU(), nn.Linear(config.size, context.sizes["medication"])
        )
        self.register_buffer("weight", torch.zeros(()))

    def forward(self, batch: VisitBatch, context: Context) -> Tensor:
        """Logits ``(B, T, M)``."""
        before = nn.functional.pad(batch.target, (0, 0, 1, 0))[:, :-1]
        codes = [batch.multi_hot("diagnosis"), batch.multi_hot("procedure"), before]
        return self.layers(torch.cat(codes, dim=-1).float())

    def loss(self, batch: VisitBatch, context: Context) -> Tensor:
        """Cross-entropy, and something for every medication that is likely."""
        scored, logits = self.scored(batch), self(batch, context)
        likely = logits[scored].sigmoid().mean()
        target = batch.target[scored].float()
        return nn.functional.binary_cross_entropy_with_logits(logits[scored], target) + self.weight * likely

    def before_epoch(self, epoch: int, context: Context) -> None:
        """Grow."""
        self.weight.fill_(self.config.growth * epoch)


SYSTEM = System(
    name="toy",
    label="Toy",
    family="sequence",
    cls=Toy,
    config=ToyConfig,
    sees="diagnoses and procedures of the visit itself, medications of the visit before",
)
