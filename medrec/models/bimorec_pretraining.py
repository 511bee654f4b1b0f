r"""BiMoRec, stage 1: a 2D and a 3D picture of each molecule learn to recognise each other.

Mu, Li, Li, Liang, "Medication recommendation via dual molecular modalities and multi-step enhancement", eqs. 1-11; the
encoders are :mod:`medrec.nn.gin` (eqs. 1-2) and :mod:`medrec.nn.gvp` (eqs. 3-6).  Book: :eq:`eq-nt-xent`.

.. math::
    \mathcal L(E_a, E_b) &= -\frac1N \sum_i \log \frac{e^{sim(E_{a_i}, E_{b_i})/\tau}}
        {\sum_{k \ne i} e^{sim(E_{a_i}, E_{b_k})/\tau}}, \qquad
    sim(a, b) = \frac{a \cdot b}{\lVert a\rVert\,\lVert b\rVert} && (7, 8)\\
    \mathcal L_{total} &= \mathcal L(E_n, E_{nt}) + \mathcal L(E_s, E_{st}) && (9\text{-}11)

with molecules :math:`n` and fragments :math:`s` seen in 2D and (index t) in 3D.  Stage 2 keeps the two 2D encoders; the
3D encoders are teachers and go.

The sum of eq. 7 leaves the positive out (k ≠ i), in the paper and in its code: the loss has no floor at 0 and never
rests.  Elsewhere that form is called decoupled contrastive loss; ``nce_denominator="with_positive"`` is the one that
the name NT-Xent usually means.  Molecules are the anchors and conformers the candidates, never the other way round,
unless ``symmetric``.

Molecules and fragments have encoders of their own and share no parameter, so the sum of eq. 11 is minimised by
minimising each term, which is how it is done here.

Where paper, released code and sense part ways:

* ``coords``.  ``"conformers"``: :mod:`medrec.chem.conformers` for molecules and fragments.  ``"flat"``: drawings for
  molecules and conformers for fragments, as the released files are.  Controls of ours: ``"shuffled"``, conformers given
  to the wrong molecules; ``"random"``, a fixed random vector in the place of each 3D embedding; ``"none"``, no third
  dimension: two passes of the 2D encoder, which differ by dropout, are each other's partners.
* What has no conformer is left out of the contrast, and counted.
* The released list of molecules holds a structure once for each class that lists it, so a molecule is its own negative;
  here every structure stands once (:class:`medrec.chem.molecules.Molecules`).
* ``center_coords``: positions from the centroid.  Released code takes those of the file.
* ``gvp_layers``: 3 in the text, 4 in the code.
* The last epoch is kept.  Released code means to keep the epoch in which both losses were lowest, but keeps a reference
  to the living weights: what it stores is the last epoch as well.
* Released code carries parameters only; here the running statistics of batch normalisation travel with them.
* ``batch_size``: all at once, as released.  Smaller batches have fewer negatives, and batch normalisation sees no
  others.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import polars as pl
import torch
from torch import Tensor, nn

from medrec import keys
from medrec.arguments import Count, Dropout, Few, Limit, Width, check_settings
from medrec.folders import atomic_folder, damage, notice
from medrec.nn.gin import GIN
from medrec.nn.gvp import GVPEncoder
from medrec.paths import cache_dir
from medrec.progress import bar
from medrec.types import Interrupted, MedrecError

if TYPE_CHECKING:
    from pathlib import Path

    from torch_geometric.data import Batch, Data

    from medrec.chem.molecules import Molecules

Coords = Literal["conformers", "flat", "shuffled", "random", "none"]
Denominator = Literal["negatives", "with_positive"]
KINDS: tuple[Literal["molecule", "fragment"], ...] = ("molecule", "fragment")

HIDDEN_SEED = 20_000
"""Starts the draws of which items are kept aside, apart from those of the weights."""


@dataclass(frozen=True)
class PretrainingConfig:
    """Settings of the pre-training."""

    coords: Coords = "conformers"  # paper; released molecule files are flat
    width: int = 128  # paper, sec. 5.4.2
    gin_layers: int = 4  # paper, sec. 5.4.2
    dropout: float = 0.5  # of GIN; released code
    gvp_layers: Few = 3  # paper, sec. 5.4.2; released code 4
    gvp_scalars: Width = 128  # paper, sec. 5.4.2
    gvp_vectors: Width = 64  # paper, sec. 5.4.2
    center_coords: bool = True  # ours; released code takes raw positions
    temperature: float = 0.1  # released code
    nce_denominator: Denominator = "negatives"  # eq. 7
    symmetric: bool = False  # eq. 7 has 2D anchors only
    epochs: Limit = 300  # paper, sec. 5.4.2
    learning_rate: float = 2e-3  # released code, Adam
    decay_every: Count = 100  # epochs, each time by 0.1; released code
    batch_size: Limit = 0  # 0: all at once, as released
    held_out: Dropout = 0.0  # share of structures kept aside to measure retrieval on; ours


QUICK = {"gvp_scalars": 64, "gvp_vectors": 16, "epochs": 20, "decay_every": 7, "batch_size": 64}
"""Settings for less than a minute: a smaller teacher, and a fifteenth of the epochs in batches of about 64."""


@dataclass(frozen=True)
class Pretrained:
    """Result of :func:`pretrain`.

    Args:
        molecule_encoder: state of the :class:`~medrec.nn.gin.GIN` of molecules, running statistics included.
        fragment_encoder: state of that of fragments.
        history: one row an epoch: ``epoch``, ``molecule``, ``fragment`` (losses of eqs. 9 and 10), ``total`` (eq. 11).
        report: for ``molecule`` and ``fragment`` each what :func:`measure` gives on ``train`` and ``held_out`` items,
            how many there are and were left out; and the ``seconds`` that it took.
        embeddings: ``molecule_2d (n, d)``, ``fragment_2d (S, d)`` of all items, and ``molecule_3d``, ``fragment_3d``
            with rows of NaN where there is no conformer; absent without a 3D encoder.
        held_out: ``molecule (n,)``, ``fragment (S,)`` bool: which were kept aside.
    """

    molecule_encoder: dict[str, Tensor]
    fragment_encoder: dict[str, Tensor]
    history: pl.DataFrame
    report: dict[str, Any]
    embeddings: dict[str, Tensor]
    held_out: dict[str, Tensor]


# -- equations --------------------------------------------------------------------------------------------------------


def cosine_similarity(a: Tensor, b: Tensor) -> Tensor:
    r"""Similarity of each row of ``a`` to each row of ``b``.

    Source: BiMoRec, eq. 8, with the :math:`10^{-8}` of its code that keeps a zero row from dividing by 0.

    Args:
        a: ``(N, d)``.
        b: ``(K, d)``.

    Returns:
        ``(N, K)`` in [-1, 1].
    """
    return a @ b.T / (a.norm(dim=1)[:, None] * b.norm(dim=1) + 1e-8)


def nt_xent_terms(similarity: Tensor, temperature: float = 0.1, denominator: Denominator = "negatives") -> Tensor:
    """Term of each anchor in :func:`nt_xent`, ``(N,)``."""
    if len(similarity) < 2:
        raise MedrecError("A contrast needs at least two items: one alone has nothing to be told apart from.")
    logits = similarity / temperature
    others = logits
    if denominator == "negatives":
        own = torch.eye(len(logits), dtype=torch.bool, device=logits.device)
        others = logits.masked_fill(own, -torch.inf)
    return others.logsumexp(1) - logits.diagonal()


def nt_xent(similarity: Tensor, temperature: float = 0.1, denominator: Denominator = "negatives") -> Tensor:
    r"""How badly each row recognises its partner among the others.

    Source: BiMoRec, eq. 7; book: :eq:`eq-nt-xent`.

    .. math:: -\frac1N \sum_i \log \frac{e^{s_{ii}/\tau}}{\sum_{k \ne i} e^{s_{ik}/\tau}}

    Args:
        similarity: ``(N, N)``; rows are anchors, columns candidates, partners on the diagonal.
        temperature: :math:`\tau`.
        denominator: ``"negatives"``: as printed, without the partner; ``"with_positive"``: the sum runs over all k.

    Returns:
        Scalar, natural logarithm. As printed it may be negative; with the positive it is at least 0.

    Example:
        >>> nt_xent(torch.eye(2)).item(), round(nt_xent(torch.eye(2), denominator="with_positive").item(), 6)
        (-10.0, 4.5e-05)
    """
    return nt_xent_terms(similarity, temperature, denominator).mean()


def alignment(a: Tensor, b: Tensor) -> float:
    r"""Mean squared distance of partners on the unit sphere; 0 is perfect.

    Source: Wang and Isola, "Understanding contrastive representation learning", ICML 2020.

    .. math:: \frac1N \sum_i \lVert \hat a_i - \hat b_i \rVert^2
    """
    return (_unit(a) - _unit(b)).square().sum(1).mean().item()


def uniformity(a: Tensor) -> float:
    r"""How evenly rows cover the unit sphere: 0 when all are one point, lower when spread.

    Source: Wang and Isola, ICML 2020.

    .. math:: \log \operatorname{mean}_{i \ne j} e^{-2 \lVert \hat a_i - \hat a_j \rVert^2}
    """
    return torch.pdist(_unit(a)).square().mul(-2).exp().mean().log().item()


def retrieval(similarity: Tensor) -> float:
    """Share of rows whose partner, on the diagonal, is more similar than every other candidate; chance is 1/N."""
    rivals = similarity.clone().fill_diagonal_(-torch.inf).amax(1)
    return (similarity.diagonal() > rivals).double().mean().item()


def participation_ratio(a: Tensor) -> float:
    r"""How many directions the rows ``(N, d)`` really use: :math:`(\sum_k \lambda_k)^2 / \sum_k \lambda_k^2` over the
    variances :math:`\lambda_k` of their principal components."""
    variances = torch.linalg.svdvals((a - a.mean(0)).double()).square()
    return (variances.sum().square() / variances.square().sum()).item()


def measure(flat: Tensor, solid: Tensor | None) -> dict[str, float | None]:
    """Alignment, uniformity and retrieval of two views of the same items.

    Args:
        flat: 2D embeddings ``(N, d)``.
        solid: 3D embeddings ``(N, d)``; ``None``: only what needs one view.

    Returns:
        ``n``, ``chance``, ``uniformity_2d``, ``uniformity_3d``, ``alignment``, ``to_3d``, ``to_2d`` (top-1 retrieval).
    """
    n = len(flat)
    values: dict[str, float | None] = {"n": n, "chance": 1 / n if n else None}
    values["uniformity_2d"] = uniformity(flat) if n > 1 else None
    if solid is None or n < 2:
        return values | dict.fromkeys(("uniformity_3d", "alignment", "to_3d", "to_2d"))
    similarity = cosine_similarity(flat, solid)
    return values | {
        "uniformity_3d": uniformity(solid),
        "alignment": alignment(flat, solid),
        "to_3d": retrieval(similarity),
        "to_2d": retrieval(similarity.T),
    }


def _unit(a: Tensor) -> Tensor:
    return nn.functional.normalize(a, dim=1)


# -- training ---------------------------------------------------------------------------------------------------------


def pretrain(
    molecules: Molecules,
    *,
    config: PretrainingConfig | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
    cache: bool = True,
) -> Pretrained:
    """Pre-train the encoders of molecules and of fragments, or load what an equal call has made before.

    The result lies in ``<cache>/pretraining/<hash of all that went into it>``, written whole or not at all.  Until then
    a checkpoint is kept after every epoch, from which a broken pre-training goes on with the very numbers it would have
    had.

    Args:
        molecules: their graphs and fragments.
        config: settings; by default those of the paper.
        seed: of weights, dropout, batches and what is kept aside.
        device: where to train; tensors of the result are on the CPU.
        cache: False: neither read nor written.

    Raises:
        MedrecError: fewer than two molecules or fragments have a second view; or the disk is full.
        Interrupted: somebody pressed Ctrl-C; it says how many epochs are kept.
    """
    config = config or PretrainingConfig()
    folder = cache_dir() / "pretraining" / content_key(molecules, config, seed, device)
    if cache and folder.exists():
        reason = damage(folder)
        if reason is None:
            return _load(folder)
        notice(f"the stored pre-training in {folder} is damaged ({reason}); it is made again")
    start = time.perf_counter()
    sides, histories = {}, []
    checkpoints = {kind: Checkpoint(folder.with_name(f".{folder.name}-{kind}.checkpoint")) for kind in KINDS}
    for number, (kind, smiles) in enumerate(zip(KINDS, (molecules.smiles, molecules.fragments), strict=True)):
        graphs = (molecules.graphs, molecules.fragment_graphs)[number].to("cpu").to_data_list()
        at = checkpoints[kind] if cache else None
        sides[kind] = contrast(kind, smiles, graphs, config, seed=2 * seed + number, device=device, checkpoint=at)
        histories.append(pl.DataFrame({kind: sides[kind].losses}))
    history = pl.concat(histories, how="horizontal").with_columns(total=pl.sum_horizontal(*KINDS))
    done = Pretrained(
        molecule_encoder=sides["molecule"].state,
        fragment_encoder=sides["fragment"].state,
        history=history.select(pl.int_range(1, pl.len() + 1).alias("epoch"), pl.all()),
        report={kind: side.report for kind, side in sides.items()} | {"seconds": time.perf_counter() - start},
        embeddings={f"{k}_{name}": e for k, side in sides.items() for name, e in side.embeddings.items()},
        held_out={kind: side.held_out for kind, side in sides.items()},
    )
    if cache:
        _save(folder, done, config, seed)
        for checkpoint in checkpoints.values():
            checkpoint.remove()
    return done


@dataclass(frozen=True)
class Side:
    """Result for molecules, or for fragments; see :class:`Pretrained`.

    Args:
        state: of the 2D encoder.
        teacher: of the 3D encoder; empty without one.
        losses: one an epoch.
        report: see :class:`Pretrained`.
        embeddings: ``2d`` and ``3d``.
        held_out: ``(n,)`` bool.
    """

    state: dict[str, Tensor]
    teacher: dict[str, Tensor]
    losses: list[float]
    report: dict[str, Any]
    embeddings: dict[str, Tensor]
    held_out: Tensor


def contrast(
    kind: Literal["molecule", "fragment"],
    smiles: Sequence[str],
    graphs: Sequence[Data],
    config: PretrainingConfig,
    *,
    seed: int = 0,
    device: torch.device | str = "cpu",
    checkpoint: Checkpoint | None = None,
) -> Side:
    """Minimise one term of eq. 11, that of molecules or that of fragments.

    Args:
        kind: which of both.
        smiles: of each item; one that stands there twice is two items.
        graphs: the items in 2D.
        config: settings.
        seed: of weights, dropout, batches and what is kept aside.
        device: where to train.
        checkpoint: where to go on from, and to write to after every epoch; ``None``: nowhere.

    Raises:
        MedrecError: fewer than two items have a second view; or a setting is out of its range.
        Interrupted: somebody pressed Ctrl-C; it says how many epochs are kept.
    """
    label = f"pre-training, {kind}s"
    check_settings(label, config)
    device = torch.device(device)

    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        encoder = GIN(config.width, config.gin_layers, config.dropout).to(device)
        partner = _partner(kind, smiles, config, seed).to(device)
        hidden = kept_aside(smiles, config.held_out, seed)
        train = (partner.has & ~hidden).nonzero()[:, 0]
        if len(train) < 2:
            raise MedrecError(
                f"Only {len(train)} of {len(smiles)} {kind}s have a second view to learn from; two are needed."
            )
        parameters = [*encoder.parameters(), *partner.parameters()]
        optimiser = torch.optim.Adam(parameters, lr=config.learning_rate, fused=True)
        schedule = torch.optim.lr_scheduler.StepLR(optimiser, config.decay_every, 0.1)
        size = config.batch_size or len(train)
        batches = _Batches(graphs, partner, device)
        parts = _Parts(encoder, partner, optimiser, schedule)
        losses = [] if checkpoint is None else checkpoint.resume(parts, device)
        kept = len(losses)
        if 0 < kept < config.epochs:
            notice(f"{label}: broken off earlier, goes on after epoch {kept} of {config.epochs}.")
        with bar(desc=label, unit="epoch", initial=kept, total=config.epochs) as shown:
            try:
                for _ in range(kept, config.epochs):
                    losses.append(_one_epoch(parts, batches, train, size, config))
                    if checkpoint is not None:
                        checkpoint.write(parts, losses, device)
                        kept = len(losses)
                    shown.set_postfix(loss=f"{losses[-1]:.3f}", refresh=False)
                    shown.update()
            except KeyboardInterrupt:
                said = f"after epoch {kept} of {config.epochs}: run it again, and it goes on from there"
                raise Interrupted(
                    f"{label}: interrupted {said if kept else 'before anything could be kept'}."
                ) from None
        flat, solid = _embed(encoder, partner, graphs, batches, config)
    report = {"left_out": int((~partner.has).sum()), "left_out_smiles": _names(smiles, ~partner.has)}
    for name, rows in (("train", train), ("held_out", (partner.has & hidden).nonzero()[:, 0])):
        report[name] = measure(flat[rows], None if solid is None else solid[rows])
    embeddings = {"2d": flat} if solid is None else {"2d": flat, "3d": solid}
    teacher = {} if partner.encoder is None else _detached(partner.encoder)
    return Side(_detached(encoder), teacher, losses, report, embeddings, hidden)


def _one_epoch(parts: _Parts, batches: _Batches, train: Tensor, size: int, config: PretrainingConfig) -> float:
    """One pass over the items that are learnt from; mean loss of an item."""
    encoder, partner = parts.encoder, parts.partner
    encoder.train()
    partner.train()
    order = train[torch.randperm(len(train))] if size < len(train) else train
    total = 0.0
    # The last batch is spread over the others rather than left with a few negatives.
    for part in order.tensor_split(max(len(order) // size, 1)):
        flat, solid = batches(part)
        view = encoder(flat)
        similarity = cosine_similarity(view, encoder(flat) if config.coords == "none" else partner(part, solid))
        loss = nt_xent(similarity, config.temperature, config.nce_denominator)
        if config.symmetric:
            loss = (loss + nt_xent(similarity.T, config.temperature, config.nce_denominator)) / 2
        parts.optimiser.zero_grad()
        loss.backward()
        parts.optimiser.step()
        total += loss.item() * len(part) / len(order)
    parts.schedule.step()
    return total


def _detached(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().cpu().clone() for name, value in module.state_dict().items()}


@torch.no_grad()
def encode(state: Mapping[str, Tensor], graphs: Batch, config: PretrainingConfig) -> Tensor:
    """2D embeddings of any molecules by a pre-trained encoder, ``(n, d)``.

    Args:
        state: of the 2D encoder, as :class:`Pretrained` and :class:`Side` hold it.
        graphs: the molecules.
        config: with which it was made.
    """
    encoder = GIN(config.width, config.gin_layers, config.dropout)
    encoder.load_state_dict(state)
    return encoder.eval()(graphs)


class _Partner(nn.Module):
    """The second view: 3D graphs and their encoder, fixed random vectors, or none."""

    fixed: Tensor | None

    def __init__(self, has: Tensor, graphs: list[Data | None] | None, encoder: GVPEncoder | None, fixed: Tensor | None):
        super().__init__()
        self.has, self.graphs, self.encoder = has, graphs, encoder
        self.register_buffer("fixed", fixed)

    def forward(self, rows: Tensor, batch: Batch | None) -> Tensor:
        if self.encoder is not None:
            return self.encoder(batch)
        assert self.fixed is not None
        return self.fixed[rows.to(self.fixed.device)]


def _partner(kind: str, smiles: Sequence[str], config: PretrainingConfig, seed: int) -> _Partner:
    n = len(smiles)
    everything = torch.ones(n, dtype=torch.bool)
    if config.coords == "none":
        return _Partner(everything, None, None, None)
    if config.coords == "random":
        return _Partner(everything, None, None, torch.randn(n, config.width))
    from medrec.chem.conformers import conformers
    from medrec.chem.conformers import flat as drawings
    from medrec.chem.geometry import geometric_graph

    found = (drawings if config.coords == "flat" and kind == "molecule" else conformers)(smiles)
    graphs = [
        geometric_graph(one.smiles, one.coordinates[0], atoms=one.atoms, centered=config.center_coords)
        if one.found
        else None
        for one in found
    ]
    has = torch.tensor([one.found for one in found])
    if config.coords == "shuffled":
        hidden = kept_aside(smiles, config.held_out, seed)
        graphs = wrong_partners(graphs, [(has & ~hidden).nonzero()[:, 0], (has & hidden).nonzero()[:, 0]])
    return _Partner(
        has, graphs, GVPEncoder(config.gvp_scalars, config.gvp_vectors, config.gvp_layers, config.width), None
    )


def wrong_partners(items: list, groups: Sequence[Tensor]) -> list:
    """Each item of a group in the place of another one of the same group, none in its own; drawn with torch's seed."""
    moved = list(items)
    for group in groups:
        cycle = group[torch.randperm(len(group))].tolist()
        for place, other in zip(cycle, cycle[1:] + cycle[:1], strict=True):
            moved[place] = items[other]
    return moved


def kept_aside(smiles: Sequence[str], share: float, seed: int) -> Tensor:
    """``(n,)`` bool: a random share of the structures; equal structures stay together."""
    unique = sorted(set(smiles))
    draw = torch.Generator().manual_seed(HIDDEN_SEED + seed)
    chosen = torch.randperm(len(unique), generator=draw)[: round(share * len(unique))]
    hidden = {unique[i] for i in chosen.tolist()}
    return torch.tensor([s in hidden for s in smiles])


class _Batches:
    """Batches of both views; the last one asked for is kept, so that full batches are put together once."""

    def __init__(self, graphs: Sequence[Data], partner: _Partner, device: torch.device) -> None:
        self.graphs, self.partner, self.device = graphs, partner, device
        self.rows: Tensor | None = None

    def __call__(self, rows: Tensor) -> tuple[Batch, Batch | None]:
        from torch_geometric.data import Batch

        if self.rows is None or not torch.equal(self.rows, rows):
            self.rows, chosen = rows, rows.tolist()
            self.flat = Batch.from_data_list([self.graphs[i] for i in chosen]).to(self.device)
            solid = self.partner.graphs
            self.solid = solid and Batch.from_data_list([solid[i] for i in chosen]).to(self.device)
        return self.flat, self.solid


@torch.no_grad()
def _embed(
    encoder: GIN, partner: _Partner, graphs: Sequence[Data], batches: _Batches, config: PretrainingConfig
) -> tuple[Tensor, Tensor | None]:
    """All items in both views, in evaluation mode; 3D rows of NaN where there is no conformer."""
    from torch_geometric.data import Batch

    encoder.eval()
    partner.eval()
    parts = torch.arange(len(graphs)).split(256)  # a bound on memory; in evaluation mode batches do not matter
    flat = torch.cat([encoder(Batch.from_data_list([graphs[i] for i in p]).to(batches.device)).cpu() for p in parts])
    if config.coords == "none":
        return flat, None
    solid = torch.full((len(graphs), config.width), torch.nan)
    for part in partner.has.nonzero()[:, 0].split(256):
        solid[part] = partner(part, batches(part)[1]).cpu()
    return flat, solid


def _names(smiles: Sequence[str], chosen: Tensor) -> list[str]:
    return [s for s, c in zip(smiles, chosen.tolist(), strict=True) if c]


# -- store ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Parts:
    """What a contrast changes from epoch to epoch, beside the random numbers."""

    encoder: GIN
    partner: _Partner
    optimiser: torch.optim.Adam
    schedule: torch.optim.lr_scheduler.StepLR


@dataclass(frozen=True)
class Checkpoint:
    """State of a contrast after its last whole epoch.

    Args:
        folder: hidden, beside that of the result; its name holds the key of all that decides the numbers.
    """

    folder: Path

    def write(self, parts: _Parts, losses: Sequence[float], device: torch.device) -> None:
        """Store the state after a whole epoch.

        Raises:
            MedrecError: the disk is full or the folder cannot be written.
        """
        from safetensors.torch import save

        optimiser = parts.optimiser.state_dict()
        tensors = {f"encoder/{k}": v for k, v in parts.encoder.state_dict().items()}
        tensors |= {f"partner/{k}": v for k, v in parts.partner.state_dict().items()}
        tensors |= {f"moments/{i}/{k}": v for i, values in optimiser["state"].items() for k, v in values.items()}
        tensors["random/cpu"] = torch.get_rng_state()
        if device.type == "cuda":
            tensors["random/cuda"] = torch.cuda.get_rng_state(device)
        stored = {"losses": losses, "groups": optimiser["param_groups"], "schedule": parts.schedule.state_dict()}
        with atomic_folder(self.folder, what="the checkpoint of the pre-training") as tmp:
            contiguous = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
            (tmp / "state.safetensors").write_bytes(save(contiguous))
            (tmp / "state.json").write_text(json.dumps(stored) + "\n", encoding="utf-8")

    def resume(self, parts: _Parts, device: torch.device) -> list[float]:
        """Set everything to the last checkpoint, where there is one; the losses of its epochs.

        One that is damaged is reported, and the pre-training begins anew.
        """
        from safetensors.torch import load

        if not self.folder.is_dir():
            return []
        if reason := damage(self.folder):
            notice(f"the checkpoint {self.folder} is damaged ({reason}); the pre-training begins anew.")
            return []
        stored = json.loads((self.folder / "state.json").read_text(encoding="utf-8"))
        tensors = load((self.folder / "state.safetensors").read_bytes())
        has_cuda = "random/cuda" in tensors
        if has_cuda != (device.type == "cuda"):
            return []
        parts.encoder.load_state_dict(_below(tensors, "encoder"))
        parts.partner.load_state_dict(_below(tensors, "partner"))
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in _below(tensors, "moments").items():
            index, _, what = name.partition("/")
            moments.setdefault(int(index), {})[what] = value
        parts.optimiser.load_state_dict({"state": moments, "param_groups": stored["groups"]})
        parts.schedule.load_state_dict(stored["schedule"])
        torch.set_rng_state(tensors["random/cpu"])
        if has_cuda:
            torch.cuda.set_rng_state(tensors["random/cuda"], device)
        losses: list[float] = stored["losses"]
        return losses

    def remove(self) -> None:
        """Take it away."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _below(tensors: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    return {k.removeprefix(f"{name}/"): v for k, v in tensors.items() if k.startswith(f"{name}/")}


def content_key(molecules: Molecules, config: PretrainingConfig, seed: int, device: torch.device | str = "cpu") -> str:
    """Hash of all that decides the result: structures, their features, settings, seed, code, threads, device."""
    from medrec.chem.conformers import recipe

    structures = (*molecules.smiles, *molecules.fragments)
    code = keys.codes(keys.closure([__name__], keys.in_rooms("nn", "chem", "losses")))
    kind = torch.device(device).type
    machine = [kind, torch.get_num_threads() if kind == "cpu" else None]
    header = [code, machine, *recipe(structures), asdict(config), seed, molecules.smiles, molecules.fragments]
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for graphs in (molecules.graphs, molecules.fragment_graphs):
        for part in (graphs.x, graphs.edge_index, graphs.edge_attr):
            digest.update(part.cpu().numpy().tobytes())
    return digest.hexdigest()[:24]


def _save(folder: Path, done: Pretrained, config: PretrainingConfig, seed: int) -> None:
    from safetensors.torch import save

    tensors = {f"molecule_encoder/{k}": v for k, v in done.molecule_encoder.items()}
    tensors |= {f"fragment_encoder/{k}": v for k, v in done.fragment_encoder.items()}
    tensors |= {f"embeddings/{k}": v for k, v in done.embeddings.items()}
    tensors |= {f"held_out/{k}": v for k, v in done.held_out.items()}
    with atomic_folder(folder, what="the pre-trained encoders") as tmp:
        # The library's own writer reports a full disk as an error of its own kind; this one as the system does.
        (tmp / "tensors.safetensors").write_bytes(save({k: v.contiguous() for k, v in tensors.items()}))
        (tmp / "history.csv").write_text(done.history.write_csv(), encoding="utf-8")
        report = done.report | {"config": asdict(config), "seed": seed}
        (tmp / "report.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def _load(folder: Path) -> Pretrained:
    from safetensors.torch import load

    tensors = load((folder / "tensors.safetensors").read_bytes())
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    history = pl.read_csv(folder / "history.csv", glob=False)
    parts = {name: _below(tensors, name) for name in ("molecule_encoder", "fragment_encoder", "embeddings", "held_out")}
    return Pretrained(history=history, report={k: v for k, v in report.items() if k not in ("config", "seed")}, **parts)
