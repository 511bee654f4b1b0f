r"""SafeDrug: a patient compared with whole molecules, and asking for fragments; a brake on interactions.

Yang et al., "SafeDrug: dual molecular graph encoders for recommending effective and safe drug combinations", IJCAI
2021.  Formulas are those of the released code.

.. math::
    q_t &= W_q \operatorname{ReLU}[\operatorname{GRU}(d)_t \,\|\, \operatorname{GRU}(p)_t], \\
    s_t &= \sigma(q_t E^\top), \qquad g_t = \operatorname{LayerNorm}(s_t + W_g s_t), \\
    u_t &= \sigma(W_u q_t), \qquad \ell_t = u_t\,(W \odot H^\top), \qquad z_t = g_t \odot \ell_t

with :math:`d, p` the summed embeddings of a visit's diagnoses and procedures, :math:`E` one row for each medication,
the mean of its molecules, and :math:`H` which fragments its molecules yield.  A molecule is the sum of its atoms after
two rounds of :math:`h \leftarrow \operatorname{ReLU}(W_l h),\ h \leftarrow h + A h`; atoms start from their
Weisfeiler-Lehman numbers (:mod:`medrec.chem.fingerprints`), hydrogens included.

The logit is a product.  Two negative factors make a positive one, and a medication without a structure has
:math:`\ell = 0` as released, hence probability one half for everybody.

Switches (``paper`` → ``official``):

* ``molecule_encoder``: ``trained`` → ``frozen_random``.  Released code computes :math:`E` once, by a module that is in
  no list of parameters and in no saved file: a fixed random map of the molecules.  Here the buffer that holds it is
  saved with the weights; there another one is drawn when a model is loaded.  ``none`` (ours): free vectors in the
  place of molecules.
* ``beta_clip``: accuracy's weight beyond the target rate is at least 0 → at most 0, so that the brake first shuts
  accuracy off and then pays for errors; see :func:`brake`.
* ``fingerprints``: every molecule → most salts are left out or filled up, see :mod:`medrec.chem.fingerprints`.
* ``without_structure``: ``learnt``, a vector in the place of molecules, and votes of all fragments → ``zero``, no
  vector and no votes: probability one half.
* ``molecules`` (ours): ``shuffled`` between medications, vectors and fragments alike.

Deviations.  Hidden state and last output of a GRU of one layer are the same vector and stand here once.  One dropout
mask serves all prefixes of a patient, and an optimiser step takes a batch of patients (released: one visit).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from medrec.arguments import Range, Scale, Share, Weight
from medrec.chem.fingerprints import wl_fingerprints
from medrec.context import Context, molecules_of
from medrec.data.batch import VisitBatch
from medrec.data.cohort import Cohort, Kind
from medrec.losses import ddi_loss, margin_loss, visit_ddi_rate
from medrec.models.base import Recommender, Row, System, TrainingConfig
from medrec.nn.ddi_target import DDITarget, DDITargetRule
from medrec.nn.derangement import derangement
from medrec.nn.dropout import Dropout
from medrec.nn.free_rows import FreeRows
from medrec.nn.segments import Links, Segments, linked_sums, segment_sums

Clip = Literal["max", "min"]


@dataclass(frozen=True)
class SafeDrugConfig(TrainingConfig):
    """Settings of SafeDrug."""

    size: int = 64  # width of embeddings, GRUs and atoms; released code
    dropout: float = 0.5  # on each code's embedding; released code
    n_layers: int = 2  # rounds of messages between atoms; released code
    radius: Annotated[int, Range(0, 64)] = 2  # of the fingerprints; released code
    molecule_encoder: Literal["trained", "frozen_random", "none"] = "trained"  # paper; see the module
    beta_clip: Clip = "max"  # paper; released code "min"
    fingerprints: Literal["all", "official"] = "all"  # ours; see the module
    without_structure: Literal["learnt", "zero"] = "learnt"  # ours; released code "zero", probability one half
    molecules: Literal["own", "shuffled"] = "own"  # ours
    bce_weight: Share = 0.95  # released code
    ddi_scale: Weight = 5e-4  # released code
    target_ddi: float = 0.06  # released code
    ddi_target: DDITargetRule = "ratio"  # ours; released code "absolute", see medrec.nn.ddi_target
    correction: Scale = 0.05  # K_p; released code
    batch_size: int = 64  # patients per step, which encodes each molecule once; `medrec tune`, released code one visit
    learning_rate: float = 2.5e-4  # `medrec tune`; released 5e-4, paper 2e-4, one visit a step
    epochs: int = 200  # at most; ours: after the 63 of `medrec tune` it was still rising


VARIANTS = {
    "paper": {},
    "official": {
        "molecule_encoder": "frozen_random",
        "beta_clip": "min",
        "fingerprints": "official",
        "without_structure": "zero",
        "ddi_target": "absolute",
    },
}
"""Switches of each variant."""

KINDS: tuple[Kind, ...] = ("diagnosis", "procedure")


# -- equations ---------------------------------------------------------------------------------------------------------


def match(query: Tensor, medications: Tensor) -> Tensor:
    r"""How a patient goes with each medication, :math:`s = \sigma(q E^\top)`.

    Source: SafeDrug, global branch.

    Args:
        query: ``(..., d)``.
        medications: ``(M, d)``.

    Returns:
        ``(..., M)`` in (0, 1).
    """
    return (query @ medications.T).sigmoid()


def fragment_votes(asked: Tensor, weight: Tensor, mask: Tensor) -> Tensor:
    r"""What the wanted fragments say of each medication, :math:`\ell = u\,(W \odot H^\top)`.

    Source: SafeDrug, bipartite branch.

    Args:
        asked: ``(..., S)`` in (0, 1).
        weight: ``(S, M)``.
        mask: ``(M, S)`` bool, :math:`H`.

    Returns:
        ``(..., M)``; 0 for medications without fragments.
    """
    return asked @ (weight * mask.T)


def brake(rate: Tensor, target_ddi: float | Tensor, correction: float, clip: Clip = "max") -> Tensor:
    r"""Weight of accuracy against safety, :math:`\beta`.

    Source: SafeDrug, controller of the loss.

    .. math:: \beta = 1 \text{ up to } \varphi, \qquad \beta = \max\{0,\ 1 + (\varphi - \rho) / K_p\} \text{ beyond}

    Released code has ``min`` in the place of ``max``: from the target on the weight jumps to 0, and beyond
    :math:`\varphi + K_p` it is negative: a step *increases* the error.

    Args:
        rate: :math:`\rho`, DDI rate of each recommended set, ``(...)``.
        target_ddi: :math:`\varphi`.
        correction: :math:`K_p`.
        clip: ``"max"`` as printed, ``"min"`` as released.

    Returns:
        ``(...)``; in [0, 1] for ``"max"``.
    """
    beta = 1 + (target_ddi - rate) / correction
    beta = beta.clamp(min=0) if clip == "max" else beta.clamp(max=0)
    return torch.where(rate <= target_ddi, 1.0, beta)


def messages(h: Tensor, edge_index: Tensor) -> Tensor:
    r"""What atoms hold after each has told its neighbours, :math:`(I + A)\, h`.

    Source: SafeDrug, message passing, where :math:`h = \operatorname{ReLU}(W h' + b)`; kinds of bonds speak through the
    fingerprints alone.

    Args:
        h: ``(N, d)``.
        edge_index: ``(2, 2E)``, each bond in both directions.

    Returns:
        ``(N, d)``.
    """
    return linked_sums(h, neighbourhoods(edge_index, len(h)))


def neighbourhoods(edge_index: Tensor, n_atoms: int) -> Links:
    """Each atom itself and its neighbours; the same there and back, since a bond goes both ways."""
    itself = torch.arange(n_atoms, device=edge_index.device)
    told, by = torch.cat([itself, edge_index[1]]), torch.cat([itself, edge_index[0]])
    members = Segments.of(told, n_atoms)
    members = Segments(by[members.order], members.starts)
    return Links(members, members)


class MoleculeEncoder(nn.Module):
    r"""Molecules from the numbers of their atoms: two rounds of messages, and the sum over atoms.

    .. math:: h \leftarrow \operatorname{ReLU}(W_l h), \qquad h \leftarrow h + A h, \qquad e = \sum_a h_a

    with :math:`A` the bonds.  Learnt: a table with a row for each number that an atom can have, and a linear layer
    ``(d, d)`` for each round.  It has no other input than its molecules, whose ``N`` atoms it holds.

    Args:
        smiles: molecules, in a fixed order.
        config: of the system.
    """

    atoms: Tensor
    bonds: Tensor
    owners: Tensor
    told: Tensor
    read: Tensor

    def __init__(self, smiles: tuple[str, ...], config: SafeDrugConfig) -> None:
        super().__init__()
        prints = wl_fingerprints(smiles, config.radius, official=config.fingerprints == "official")
        atoms, bonds, owners = [], [], []
        start = 0
        for n, (ids, edges) in enumerate(zip(prints.ids, prints.edge_index, strict=True)):
            if ids is None:
                continue
            atoms.append(torch.from_numpy(ids))
            bonds.append(torch.from_numpy(edges) + start)
            owners.append(torch.full((len(ids),), n))
            start += len(ids)
        self.n_molecules = len(smiles)
        self.register_buffer("atoms", torch.cat(atoms), persistent=False)
        self.register_buffer("bonds", torch.cat(bonds, dim=1), persistent=False)
        self.register_buffer("owners", torch.cat(owners), persistent=False)
        self.register_buffer("told", 1.0 + self.bonds[0].bincount(minlength=start), persistent=False)
        read = torch.tensor([ids is not None for ids in prints.ids])
        self.register_buffer("read", read, persistent=False)
        self.table = nn.Embedding(prints.size, config.size)
        self.layers = nn.ModuleList(nn.Linear(config.size, config.size) for _ in range(config.n_layers))

    def reset_parameters(self) -> None:
        """As PyTorch has it."""
        layers: tuple[Any, ...] = (self.table, *self.layers)
        for layer in layers:
            layer.reset_parameters()

    def forward(self) -> Tensor:
        """``(n, d)``, sums over atoms; 0 for molecules that the fingerprints leave out."""
        first, *rest = self.layers
        # Atoms with equal numbers start equal, and the dictionary is a fraction of the atoms.
        h = linked_sums(first(self.table.weight).relu(), Links.of(self.atoms[:, None], len(self.table.weight)))
        near = neighbourhoods(self.bonds, len(h))
        for layer in rest:
            h = layer(linked_sums(h, near)).relu()
        # Only the sum over atoms is read, in which each atom counts once and once more for each neighbour.
        return segment_sums(h * self.told[:, None], self.owners, self.n_molecules)


# -- the network -------------------------------------------------------------------------------------------------------


class SafeDrug(Recommender):
    r"""How well a patient goes with each whole molecule, times what his wanted fragments say of it.

    .. math::
        q_t &= W_q \operatorname{ReLU}[\operatorname{GRU}(d)_t \,\|\, \operatorname{GRU}(p)_t], \qquad
        s_t = \sigma(q_t E^\top), \\
        z_t &= \operatorname{LayerNorm}(s_t + W_g s_t) \odot \big(\sigma(W_u q_t)\,(W \odot H^\top)\big)

    Queries are ``(B, T, d)``, medications :math:`E` ``(M, d)``, wanted fragments ``(B, T, S)``, the mask :math:`H`
    ``(M, S)``, logits ``(B, T, M)``.

    Learnt: embeddings of diagnoses and procedures, with a row for padding, and a GRU each; :math:`W_q` ``(d, 2 d)``;
    a :class:`MoleculeEncoder`, or a free table ``(M, d)`` in its place; :math:`W_g` ``(M, M)`` and the norm;
    :math:`W_u` ``(S, d)``; votes :math:`W` ``(S, M)``; :class:`medrec.nn.free_rows.FreeRows`.  Fixed: ``order``, whose
    molecules each medication has (its own, or where they are shuffled another one's), and the frozen map of the
    ``official`` variant.

    Args:
        config: its settings.
        context: sizes of the vocabularies, molecules, and interactions for the loss.
    """

    config: SafeDrugConfig
    order: Tensor
    frozen: Tensor

    def __init__(self, config: SafeDrugConfig, context: Context) -> None:
        super().__init__(config, context)
        sizes, d, molecules = context.sizes, config.size, molecules_of(context)
        M, S = molecules.fragment_mask.shape
        # The last row of every table stands for padding.
        self.embedding = nn.ModuleDict(
            {kind: nn.Embedding(sizes[kind] + 1, d, padding_idx=sizes[kind]) for kind in KINDS}
        )
        self.gru = nn.ModuleDict({kind: nn.GRU(d, d, batch_first=True) for kind in KINDS})
        self.query = nn.Linear(2 * d, d)
        if config.molecule_encoder == "none":
            self.table = nn.Parameter(torch.empty(M, d))
        else:
            self.encoder = MoleculeEncoder(molecules.smiles, config)
        if config.molecule_encoder == "frozen_random":
            self.register_buffer("frozen", torch.zeros(len(molecules.smiles), d))
        self.mix = nn.Linear(M, M)
        self.norm = nn.LayerNorm(M)
        self.asked = nn.Linear(d, S)
        self.votes = nn.Parameter(torch.empty(S, M))
        self.dropout = Dropout(config.dropout)
        self.ddi_target = DDITarget(config.target_ddi, config.ddi_target)
        self.register_buffer("order", derangement(M) if config.molecules == "shuffled" else torch.arange(M))
        average = molecules.average[self.order.to(molecules.average.device)]
        self.free = FreeRows(average, d, config.without_structure == "learnt")
        self.reset_parameters()
        if config.molecule_encoder == "frozen_random":
            with torch.no_grad():
                self.frozen.copy_(self.encoder())
            del self.encoder

    def reset_parameters(self) -> None:
        """Embeddings uniform in (-0.1, 0.1), votes in ±1/sqrt(M), as in released code; the rest as PyTorch has it."""
        for module in self.modules():
            reset = getattr(module, "reset_parameters", None)
            if module is not self and reset is not None:
                reset()
        with torch.no_grad():
            for table in self.embedding.values():
                assert isinstance(table, nn.Embedding)
                table.weight.uniform_(-0.1, 0.1)
                table.weight[table.padding_idx] = 0
            self.votes.uniform_(-(self.votes.shape[1] ** -0.5), self.votes.shape[1] ** -0.5)
            if self.config.molecule_encoder == "none":
                self.table.normal_()

    def prepare(self, cohort: Cohort, train: NDArray[np.integer], context: Context) -> None:
        """The rate of interactions that training prescriptions have."""
        self.ddi_target.count(cohort.select(train).codes["medication"].multi_hot(cohort.n_medications), context.ddi)

    def medications(self, context: Context) -> Tensor:
        """``E``, one row for each medication, ``(M, d)``; free or 0 for medications without a molecule."""
        kind = self.config.molecule_encoder
        if kind == "none":
            return self.free(self.table)
        average = molecules_of(context).average[self.order]
        if kind == "frozen_random":
            molecules, read = self.frozen, self.frozen.abs().sum(1) > 0
        else:
            molecules, read = self.encoder(), self.encoder.read
        average = average * read  # what is left out does not count
        return self.free(average @ molecules / average.sum(1, keepdim=True).clamp(min=1e-8))

    def queries(self, batch: VisitBatch) -> Tensor:
        """The patient up to each visit, ``(B, T, d)``."""
        states = [self.gru[kind](self.dropout(self.embedding[kind](batch.codes[kind])).sum(2))[0] for kind in KINDS]
        return self.query(torch.cat(states, dim=-1).relu())

    def _branches(self, batch: VisitBatch, context: Context) -> tuple[Tensor, Tensor, Tensor]:
        """``g`` and ``u`` of every visit, ``(B, T, M)`` and ``(B, T, S)``, and who votes for whom, ``(M, S)``."""
        query = self.queries(batch)
        matched = match(query, self.medications(context))
        return (
            self.norm(matched + self.mix(matched)),
            self.asked(query).sigmoid(),
            self.free.opened(molecules_of(context).fragment_mask[self.order]),
        )

    def forward(self, batch: VisitBatch, context: Context) -> Tensor:
        """Logits ``(B, T, M)``."""
        whole, asked, mask = self._branches(batch, context)
        return whole * fragment_votes(asked, self.votes, mask)

    def explain(self, batch: VisitBatch, context: Context) -> pl.DataFrame | None:
        """Each fragment's share of the logit of each medication, at one patient's last visit.

        Returns:
            ``medication`` (code), ``kind`` (``fragment``), ``what`` (SMILES), ``weight``; shares of a medication add up
            to its logit.  A medication without a structure has no fragment of its own.
        """
        last = int(batch.visit_mask[0].sum()) - 1
        whole, asked, _ = self._branches(batch, context)
        mask = molecules_of(context).fragment_mask[self.order]
        shares = whole[0, last, :, None] * asked[0, last] * self.votes.T
        codes, fragments = context.vocab["medication"].codes, molecules_of(context).fragments
        found = [(codes[m], "fragment", fragments[s], shares[m, s].item()) for m, s in mask.nonzero().tolist()]
        frame = pl.DataFrame(
            found,
            schema={"medication": pl.String, "kind": pl.String, "what": pl.String, "weight": pl.Float64},
            orient="row",
        )
        return frame.sort("medication", "weight", descending=[False, True])

    # -- loss

    def loss(self, batch: VisitBatch, context: Context) -> Tensor:
        """Accuracy and safety, mixed by the brake of each visit; mean over visits."""
        config, scored = self.config, self.scored(batch)
        logits, target = self(batch, context)[scored], batch.target[scored]
        prob = logits.sigmoid()
        bce = nn.functional.binary_cross_entropy_with_logits(logits, target.to(logits.dtype), reduction="none").mean(-1)
        accuracy = config.bce_weight * bce + (1 - config.bce_weight) * margin_loss(prob, target)
        safety = ddi_loss(prob, context.ddi, config.ddi_scale)
        with torch.no_grad():
            rate = visit_ddi_rate(prob >= config.threshold, context.ddi)
            beta = brake(rate, self.ddi_target.rate, config.correction, config.beta_clip)
        return (beta * accuracy + (1 - beta) * safety).mean()


SYSTEM = System(
    name="safedrug",
    label="SafeDrug",
    family="molecule",
    cls=SafeDrug,
    config=SafeDrugConfig,
    sees="diagnoses and procedures up to the visit itself, molecules in 2D",
    small={"learning_rate": 0.0005, "batch_size": 32, "epochs": 400},
    variants=VARIANTS,
    needs=("molecules",),
    citation="yang2021safedrug",
    seconds_per_epoch=4,
    rows=(
        Row("safedrug", "SafeDrug", "safedrug"),
        Row("random", "random molecules", "safedrug", settings={"molecule_encoder": "frozen_random"}),
        Row("none", "no molecules", "safedrug", settings={"molecule_encoder": "none"}),
        Row("shuffled", "shuffled molecules", "safedrug", settings={"molecules": "shuffled"}),
        Row("half", "one half without a fragment", "safedrug", settings={"without_structure": "zero"}),
        Row("slope", "slope 0.2", "safedrug", settings={"correction": 0.2}),
        Row("clipped", "clipped from above", "safedrug", settings={"beta_clip": "min"}),
        Row(
            "clipped-slope",
            "clipped from above, slope 0.2",
            "safedrug",
            settings={"beta_clip": "min", "correction": 0.2},
        ),
        Row("official", "official", "safedrug", "official"),
    ),
)
