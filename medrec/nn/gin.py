r"""Graph isomorphism network over molecular graphs: the 2D view of BiMoRec, MoleRec and NLA-MMR.

Xu et al., "How powerful are graph neural networks?", ICLR 2019, with bond features as in Hu et al., "Strategies for
pre-training graph neural networks", ICLR 2020; BiMoRec, eqs. 1-2, which leave update and read-out open; NLA-MMR,
eqs. 5-7.  Book: :eq:`eq-gin-layer`.

.. math::
    m_{ab} = \operatorname{ReLU}(h_b + e_{ab}), \qquad
    h_a \leftarrow \operatorname{MLP}\bigl((1+\varepsilon)\,h_a + \textstyle\sum_{b \in \mathcal N(a)} m_{ab}\bigr),
    \qquad E_g = \frac{1}{|V|}\sum_{a \in V} h_a

Released code fills the gaps, and so does this module: nine atom features, each an index into its own table, summed;
three bond features likewise, with tables of their own in every layer; :math:`\varepsilon` learnt from 0; batch
normalisation inside the MLP and after each layer; ReLU and dropout after each layer, dropout alone after the last; the
mean over atoms as read-out; no residual connections.

Batch normalisation runs over the atoms of all molecules of a batch: while training, a molecule encoded alone and the
same one among others differ.  In evaluation mode they do not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from medrec.nn.dropout import dropout
from medrec.nn.segments import segment_sums

if TYPE_CHECKING:
    from torch_geometric.data import Batch

ATOM_CLASSES = (119, 5, 12, 12, 10, 6, 6, 2, 2)
"""Classes of each atom feature, in the order of :data:`medrec.chem.graphs.ATOM_FEATURES`."""
BOND_CLASSES = (5, 6, 2)
"""Classes of each bond feature, in the order of :data:`medrec.chem.graphs.BOND_FEATURES`."""


def gin_aggregate(h: Tensor, edge_index: Tensor, edge_emb: Tensor, eps: Tensor | float = 0.0) -> Tensor:
    r"""What an atom knows before the MLP: itself and its neighbours.

    Source: BiMoRec, eq. 1 with the sum of its code; book: :eq:`eq-gin-layer`.

    .. math:: (1+\varepsilon)\,h_a + \sum_{b \in \mathcal N(a)} \operatorname{ReLU}(h_b + e_{ab})

    Args:
        h: ``(N, d)``, one row an atom.
        edge_index: ``(2, E)``; column (b, a) sends atom b's message to atom a, so a bond is two columns.
        edge_emb: ``(E, d)``, embedding of each directed bond.
        eps: weight of the atom itself, less 1.

    Returns:
        ``(N, d)``.

    Example:
        >>> h, bond = torch.tensor([[1.0], [1.0], [2.0]]), torch.full((4, 1), 0.5)  # ethanol
        >>> gin_aggregate(h, torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]]), bond).T
        tensor([[2.5000, 5.0000, 3.5000]])
    """
    source, target = edge_index
    messages = (h.index_select(0, source) + edge_emb).relu()
    return (1 + eps) * h + torch.zeros_like(h).index_add(0, target, messages)


def mean_readout(h: Tensor, batch: Tensor, n_graphs: int) -> Tensor:
    """Mean over the atoms of each molecule; BiMoRec, eq. 2.

    Args:
        h: ``(N, d)``.
        batch: ``(N,)``, molecule of each atom; never falling.
        n_graphs: number of molecules ``n``.

    Returns:
        ``(n, d)``; 0 for a molecule without atoms.
    """
    return segment_sums(h, batch, n_graphs) / torch.bincount(batch, minlength=n_graphs).clamp(min=1)[:, None]


class FeatureEmbedding(nn.Module):
    """Sum of one embedding for each categorical feature.

    Args:
        classes: number of classes of each feature.
        width: ``d``.
    """

    starts: Tensor

    def __init__(self, classes: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.classes = classes
        # The tables stand on top of each other, so that one call looks up and sums.
        self.weight = nn.Parameter(torch.empty(sum(classes), width))
        starts = torch.tensor((0, *classes[:-1])).cumsum(0)
        self.register_buffer("starts", starts, persistent=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for table in self.weight.split(self.classes):
            nn.init.xavier_uniform_(table)

    def forward(self, features: Tensor) -> Tensor:
        """Class indices ``(n, f)`` int64 → ``(n, d)``."""
        return self.hot(features) @ self.weight

    def hot(self, features: Tensor) -> Tensor:
        """Class indices ``(n, f)`` as ``(n, sum of classes)``, a 1 in each row for each feature.

        Times ``weight`` they are what :meth:`forward` gives; all layers of a network share those of their bonds.
        """
        return torch.zeros(len(features), len(self.weight)).to(self.weight).scatter_(1, features + self.starts, 1.0)


class GINLayer(nn.Module):
    """One layer: :func:`gin_aggregate`, then Linear(d → 2d), BatchNorm, ReLU, Linear(2d → d).

    Args:
        width: ``d``.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.bonds = FeatureEmbedding(BOND_CLASSES, width)
        self.eps = nn.Parameter(torch.zeros(1))
        self.mlp = nn.Sequential(
            nn.Linear(width, 2 * width), nn.BatchNorm1d(2 * width), nn.ReLU(inplace=True), nn.Linear(2 * width, width)
        )

    def reset_parameters(self) -> None:
        nn.init.zeros_(self.eps)
        layers: tuple[Any, ...] = (self.bonds, self.mlp[0], self.mlp[1], self.mlp[3])
        for layer in layers:
            layer.reset_parameters()

    def forward(self, h: Tensor, edge_index: Tensor, hot: Tensor) -> Tensor:
        """``(N, d)``, bonds and their features, see :meth:`FeatureEmbedding.hot` → ``(N, d)``."""
        return self.mlp(gin_aggregate(h, edge_index, hot @ self.bonds.weight, self.eps))


class GIN(nn.Module):
    r"""Encoder of 2D molecular graphs: layers of messages along bonds, and the mean over atoms.

    .. math::
        h_a \leftarrow \operatorname{MLP}\Big((1+\varepsilon)\,h_a + \sum_{b \in \mathcal N(a)}
        \operatorname{ReLU}(h_b + e_{ab})\Big), \qquad E_g = \frac{1}{|V|}\sum_{a \in V} h_a

    Of ``N`` atoms it holds ``(N, d)``; of ``n`` molecules it gives ``(n, d)``.  Learnt: tables of atom features, and in
    each layer tables of bond features, :math:`\varepsilon`, the MLP and two normalisations.

    Its state dict holds the running statistics of batch normalisation beside the parameters: whoever carries a
    pre-trained encoder on carries both.

    Args:
        width: ``d``.
        n_layers: number of layers.
        dropout: probability with which an entry is dropped after each layer.
    """

    def __init__(self, width: int = 128, n_layers: int = 4, dropout: float = 0.5) -> None:
        super().__init__()
        self.dropout = dropout
        self.atoms = FeatureEmbedding(ATOM_CLASSES, width)
        self.layers = nn.ModuleList(GINLayer(width) for _ in range(n_layers))
        self.norms = nn.ModuleList(nn.BatchNorm1d(width) for _ in range(n_layers))

    def reset_parameters(self) -> None:
        for part in (self.atoms, *self.layers, *self.norms):
            part.reset_parameters()

    def forward(self, graphs: Batch, nodes: bool = False) -> Tensor:
        """Encode molecules.

        Args:
            graphs: batch of graphs with ``x (N, 9)``, ``edge_index (2, E)``, ``edge_attr (E, 3)``.
            nodes: give the state of every atom instead of the mean over each molecule.

        Returns:
            ``(n, d)``, or ``(N, d)`` for ``nodes``.
        """
        h = self.atoms(graphs.x)
        hot = self._hot(graphs.edge_attr)
        for k, (layer, norm) in enumerate(zip(self.layers, self.norms, strict=True)):
            h = norm(layer(h, graphs.edge_index, hot))
            if k < len(self.layers) - 1:
                h = h.relu()
            h = dropout(h, self.dropout, self.training)
        return h if nodes else mean_readout(h, graphs.batch, graphs.num_graphs)

    def _hot(self, edge_attr: Tensor) -> Tensor:
        """Features of bonds, for all layers."""
        first = self.layers[0]
        assert isinstance(first, GINLayer)
        return first.bonds.hot(edge_attr)
