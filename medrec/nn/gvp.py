r"""Geometric vector perceptrons: the 3D view of BiMoRec.

Jing et al., "Learning from protein structure with geometric vector perceptrons", ICLR 2021; BiMoRec, eqs. 3-6.
Book: :eq:`eq-gvp`.  A perceptron turns scalars :math:`f_s` and vectors :math:`f_v` (rows) into new ones:

.. math::
    f_{sv} &= [\,\lVert W_h f_v \rVert_{row} \,\|\, f_s\,], &
    f_s' &= \sigma(W_v f_{sv} + b) && (3, 4)\\
    f_\mu &= W_\mu W_h f_v, &
    f_v' &= \sigma(\lVert f_\mu \rVert_{row}) \odot f_\mu && (5, 6)

Weights mix vectors and never coordinates, so a rotation of the input leaves :math:`f_s'` alone and rotates
:math:`f_v'`.  **As printed**, eq. 5 already takes the norm, so eq. 6 returns numbers: vectors would be lost and a
second layer would have none to read.  The standard form above, which the released code has too, is the default;
``"printed"`` is there to be looked at.  Only norms reach the scalars, so mirror images get the same scalars.

The encoder follows the released code: embedding of nodes and edges; layers of a message (three perceptrons on
[neighbour, edge, atom], mean over neighbours) and a feed-forward part (two perceptrons), each with residual and
normalisation; a perceptron without vectors; the sum over atoms; two linear layers.  The text gives three layers, the
code four.

Deviations.  Vectors are normalised by :math:`\sqrt{\text{mean}_k \lVert v_k \rVert^2 + 10^{-2}}`: the single input
vector of an atom is its position, and an atom that lies on the origin has no direction for rounding errors to choose.
Where positions are not taken from the centre of the molecule, moving it changes its embedding:
:func:`medrec.chem.geometry.geometric_graph` centres them.

Speed.  Eq. 3 on a message is linear in its three parts, :math:`W_h [v_j, e, v_i] = W_1 v_j + W_2 e + W_3 v_i`, so atoms
are multiplied before they are copied to their edges; and the last perceptron of a message has no activation, so its two
output maps are applied to means instead of edges.  :class:`Message` does both and equals the plain form.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import layer_norm, linear

from medrec.nn.dropout import Dropout, dropout, scaled_mask

if TYPE_CHECKING:
    from torch_geometric.data import Batch

Form = Literal["standard", "printed"]
Activation = Callable[[Tensor], Tensor] | None

TINY = 1e-12
"""What the length of a vector is held above where it divides."""
EDGE_SCALARS, EDGE_VECTORS = 32, 1
"""Hidden width of edges; BiMoRec, sec. 5.4.2."""


def gvp(
    s: Tensor,
    V: Tensor,
    W_h: Tensor,
    W_s: Tensor,
    b: Tensor,
    W_mu: Tensor | None = None,
    *,
    activation: Activation = torch.relu,
    gate: bool = True,
    form: Form = "standard",
) -> tuple[Tensor, Tensor | None]:
    r"""One geometric vector perceptron.

    Source: BiMoRec, eqs. 3-6; book: :eq:`eq-gvp`.

    Args:
        s: scalars ``(..., n)``.
        V: vectors ``(..., nu, 3)``; any unit.
        W_h: ``(h, nu)``, mixes vectors.
        W_s: ``(n', h + n)``, called :math:`W_v` in the paper; reads the ``h`` norms first, then the ``n`` scalars.
        b: ``(n',)``.
        W_mu: ``(nu', h)``; ``None``: no vectors come out.
        activation: of the scalars, :math:`\sigma` of eq. 4; ``None``: none.
        gate: whether vectors are gated by the sigmoid of their length, :math:`\sigma` of eq. 6, or left as they are.
        form: ``"standard"``, or ``"printed"`` for eqs. 5-6 to the letter.

    Returns:
        Scalars ``(..., n')`` and vectors ``(..., nu', 3)``.  For ``"printed"`` the second are numbers ``(..., nu')``:
        there is no vector left.

    Example:
        >>> W_h, W_s, W_mu = torch.tensor([[1.0], [2]]), torch.ones(1, 4), torch.tensor([[1, -0.25]])
        >>> s, V = torch.tensor([1.0, -1]), torch.tensor([[3.0, 4, 0]])
        >>> gvp(s, V, W_h, W_s, torch.zeros(1), W_mu)[1]
        tensor([[1.3862, 1.8483, 0.0000]])
    """
    # Inside, coordinates stand before channels: every map over channels is one matrix product.
    hidden = linear(V.mT, W_h)
    scalars = _scalars(lengths(hidden), linear(s, W_s[:, len(W_h) :]), W_s, b, activation)
    if W_mu is None:
        return scalars, None
    if form == "printed":
        norms = lengths(linear(hidden, W_mu))
        return scalars, norms.sigmoid() * norms if gate else norms
    vectors = linear(hidden, W_mu)
    return scalars, (gated(vectors) if gate else vectors).mT


def _lengths(vectors: Tensor) -> Tensor:
    x, y, z = vectors.unbind(-2)
    return (x * x).addcmul_(y, y).addcmul_(z, z).sqrt_()


class _Lengths(torch.autograd.Function):
    """The general norm of the library takes ten times as long over an axis of three."""

    @staticmethod
    def forward(ctx, vectors: Tensor) -> Tensor:
        length = _lengths(vectors)
        ctx.save_for_backward(vectors, length)
        return length

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> Tensor:
        vectors, length = ctx.saved_tensors
        # A zero vector points nowhere: its gradient is 0, not 0 / 0.
        return vectors * (grad / length.clamp(min=TINY))[..., None, :]


class _Gated(torch.autograd.Function):
    """Keeps vectors and lengths for the backward pass, and nothing that is made of them."""

    @staticmethod
    def forward(ctx, vectors: Tensor) -> Tensor:
        length = _lengths(vectors)
        ctx.save_for_backward(vectors, length)
        return vectors * length.sigmoid()[..., None, :]

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> Tensor:
        vectors, length = ctx.saved_tensors
        gate = length.sigmoid()
        along = sum(g * v for g, v in zip(grad.unbind(-2), vectors.unbind(-2), strict=True))
        along = along * gate * (1 - gate) / length.clamp(min=TINY)
        return (vectors * along[..., None, :]).addcmul_(grad, gate[..., None, :])


def lengths(vectors: Tensor) -> Tensor:
    """Lengths ``(..., nu)`` of vectors whose coordinates stand before channels, ``(..., 3, nu)``."""
    return _Lengths.apply(vectors)


def gated(vectors: Tensor) -> Tensor:
    """Vectors ``(..., 3, nu)`` times the sigmoid of their lengths; eq. 6 in its standard form."""
    return _Gated.apply(vectors)


def _scalars(norms: Tensor, rest: Tensor, W_s: Tensor, b: Tensor, activation: Activation) -> Tensor:
    """Eq. 4 from norms ``(..., h)`` and what the other scalars contribute, ``rest (..., n')``, without joining them."""
    out = linear(norms, W_s[:, : norms.shape[-1]], b) + rest
    return out if activation is None else activation(out)


class GVP(nn.Module):
    """Parameters of :func:`gvp`.

    Args:
        inputs: numbers of scalars and vectors that come in, ``(n, nu)``.
        outputs: that go out; the second may be 0.
        active: whether scalars go through a ReLU and vectors through the gate.
        form: see :func:`gvp`; ``"printed"`` gives numbers instead of vectors.
    """

    def __init__(
        self,
        inputs: tuple[int, int],
        outputs: tuple[int, int],
        active: bool = True,
        form: Form = "standard",
    ) -> None:
        super().__init__()
        (n, nu), (n_out, nu_out) = inputs, outputs
        hidden = max(nu, nu_out)  # released code
        self.activation, self.gate, self.form = torch.relu if active else None, active, form
        self.W_h = nn.Parameter(torch.empty(hidden, nu))
        self.W_s = nn.Parameter(torch.empty(n_out, hidden + n))
        self.b = nn.Parameter(torch.empty(n_out))
        self.W_mu = nn.Parameter(torch.empty(nu_out, hidden)) if nu_out else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for weight in (self.W_h, self.W_s, self.b, self.W_mu):
            if weight is not None:
                # As linear layers start; the bias goes by the fan-in of its weight.
                bound = (self.W_s if weight is self.b else weight).shape[1] ** -0.5
                nn.init.uniform_(weight, -bound, bound)

    def forward(self, s: Tensor, V: Tensor) -> tuple[Tensor, Tensor | None]:
        """``(..., n)``, ``(..., nu, 3)`` → ``(..., n')``, ``(..., nu', 3)``."""
        return gvp(
            s, V, self.W_h, self.W_s, self.b, self.W_mu, activation=self.activation, gate=self.gate, form=self.form
        )


def normalise_vectors(V: Tensor, eps: float = 1e-2) -> Tensor:
    r"""Vectors of each row divided by their common size :math:`\sqrt{\text{mean}_k \lVert v_k\rVert^2 + \epsilon}`.

    Args:
        V: ``(..., nu, 3)``.
        eps: the squared size below which a row counts as having no direction; see the module.

    Returns:
        ``(..., nu, 3)``.
    """
    return V * (V.square().sum((-2, -1), keepdim=True) / V.shape[-2] + eps).rsqrt()


def drop_vectors(V: Tensor, p: float, training: bool) -> Tensor:
    """Dropout of whole vectors ``(..., nu, 3)``: dropping single coordinates would favour the axes."""
    if not training or p == 0:
        return V
    return V * scaled_mask(V.shape[:-1], p, V)[..., None]


class Norm(nn.Module):
    """Layer normalisation of scalars, and :func:`normalise_vectors`."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n))
        self.bias = nn.Parameter(torch.empty(n))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.ones_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, s: Tensor, V: Tensor) -> tuple[Tensor, Tensor]:
        """``(..., n)``, ``(..., nu, 3)`` → the same shapes."""
        return layer_norm(s, self.weight.shape, self.weight, self.bias), normalise_vectors(V)


def mean_over_neighbours(x: Tensor, target: Tensor, degree: Tensor) -> Tensor:
    """Mean of ``x (E, ...)`` over the edges that end in each atom; ``degree (N,)``, 0 where none does."""
    total = x.new_zeros(len(degree), x.shape[1:].numel())
    total = total.index_add(0, target, x.flatten(1))
    return (total / degree.clamp(min=1)[:, None]).view(len(degree), *x.shape[1:])


class Message(nn.Module):
    """Message to an atom: three perceptrons on [neighbour, edge, atom], and the mean over neighbours.

    Args:
        node: numbers of scalars and vectors of an atom.
        edge: of an edge.
    """

    def __init__(self, node: tuple[int, int], edge: tuple[int, int]) -> None:
        super().__init__()
        self.first = GVP((2 * node[0] + edge[0], 2 * node[1] + edge[1]), node)
        self.second = GVP(node, node)
        self.third = GVP(node, node, active=False)
        # Columns of the first weights: neighbour, edge, the atom itself.
        self.scalar_parts = (len(self.first.W_h), node[0], edge[0], node[0])
        self.vector_parts = (node[1], edge[1], node[1])

    def reset_parameters(self) -> None:
        for part in (self.first, self.second, self.third):
            part.reset_parameters()

    def plain(self, s: Tensor, V: Tensor, edge_index: Tensor, edge_s: Tensor, edge_V: Tensor) -> tuple[Tensor, Tensor]:
        """:meth:`forward` as one would write it: join the parts on every edge, apply three perceptrons, average."""
        source, target = edge_index
        message = torch.cat([s[source], edge_s, s[target]], 1), torch.cat([V[source], edge_V, V[target]], 1)
        for perceptron in (self.first, self.second, self.third):
            message = perceptron(*message)
        degree = torch.bincount(target, minlength=len(s))
        scalars, vectors = (mean_over_neighbours(x, target, degree) for x in message)
        return scalars, vectors

    def forward(
        self, s: Tensor, V: Tensor, edge_index: Tensor, edge_s: Tensor, edge_V: Tensor
    ) -> tuple[Tensor, Tensor]:
        """``(N, n)``, ``(N, nu, 3)``, ``(2, E)``, ``(E, n_e)``, ``(E, nu_e, 3)`` → ``(N, n)``, ``(N, nu, 3)``.

        Atoms without neighbours receive 0.
        """
        source, target = edge_index
        first, second, third = self.first, self.second, self.third
        assert first.W_mu is not None
        assert third.W_mu is not None
        _, S_neighbour, S_edge, S_self = first.W_s.split(self.scalar_parts, 1)
        H_neighbour, H_edge, H_self = first.W_h.split(self.vector_parts, 1)
        X = V.mT  # (N, 3, nu)

        hidden = _to_edges(linear(X, H_neighbour), linear(X, H_self), linear(edge_V.mT, H_edge), source, target)
        rest = _to_edges(linear(s, S_neighbour), linear(s, S_self), linear(edge_s, S_edge), source, target)
        scalars = _scalars(lengths(hidden), rest, first.W_s, first.b, first.activation)
        vectors = gated(linear(hidden, first.W_mu))
        scalars, vectors = second(scalars, vectors.mT)

        degree = torch.bincount(target, minlength=len(s))
        norms = lengths(linear(vectors.mT, third.W_h))
        norms, scalars, vectors = (mean_over_neighbours(x, target, degree) for x in (norms, scalars, vectors.mT))
        # The mean of a constant over no neighbours is 0, not the constant.
        bias = third.b * (degree > 0)[:, None]
        message = linear(norms, third.W_s[:, : norms.shape[1]]) + linear(scalars, third.W_s[:, norms.shape[1] :]) + bias
        return message, linear(linear(vectors, third.W_h), third.W_mu).mT


def _to_edges(neighbour: Tensor, self_: Tensor, edge: Tensor, source: Tensor, target: Tensor) -> Tensor:
    """Sum on every edge of what its two atoms ``(N, ...)`` and the edge itself ``(E, ...)`` contribute."""
    out = neighbour.flatten(1).index_select(0, source)
    # In place on a fresh tensor that nobody else reads; on a view it would be copied in the backward pass.
    return out.add_(self_.flatten(1).index_select(0, target)).add_(edge.flatten(1)).view(edge.shape)


class GVPLayer(nn.Module):
    """Message and feed-forward part, each with dropout, residual and normalisation.

    Args:
        node: numbers of scalars and vectors of an atom.
        edge: of an edge.
        dropout: probability with which a scalar, or a whole vector, is dropped.
    """

    def __init__(self, node: tuple[int, int], edge: tuple[int, int], dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.message = Message(node, edge)
        self.norms = nn.ModuleList(Norm(node[0]) for _ in range(2))
        wide = 4 * node[0], 2 * node[1]
        self.feed_forward = nn.ModuleList([GVP(node, wide), GVP(wide, node, active=False)])

    def reset_parameters(self) -> None:
        for part in (self.message, *self.norms, *self.feed_forward):
            part.reset_parameters()

    def forward(
        self, s: Tensor, V: Tensor, edge_index: Tensor, edge_s: Tensor, edge_V: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Shapes as in :class:`Message`."""
        s, V = self.norms[0](*self._add(s, V, self.message(s, V, edge_index, edge_s, edge_V)))
        change = s, V
        for perceptron in self.feed_forward:
            change = perceptron(*change)
        return self.norms[1](*self._add(s, V, change))

    def _add(self, s: Tensor, V: Tensor, change: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        scalars = dropout(change[0], self.dropout, self.training)
        return s + scalars, V + drop_vectors(change[1], self.dropout, self.training)


class GVPEncoder(nn.Module):
    r"""Encoder of molecules in space: perceptrons on nodes and edges, layers of messages, and the sum over atoms.

    .. math:: E_g = \operatorname{MLP}\Big(\sum_{a \in g} s_a\Big)

    with :math:`s_a` the scalars of an atom after the last layer.  Of ``N`` atoms and ``E`` edges it holds scalars
    ``(N, scalars)`` and vectors ``(N, vectors, 3)``; scalars stay as they are when a molecule is turned, vectors turn
    with it.  Learnt: all perceptrons and norms, and the two linear layers of the MLP.

    Args:
        scalars: of an atom inside the network; BiMoRec, sec. 5.4.2.
        vectors: likewise.
        n_layers: number of layers; 3 in the text, 4 in the released code.
        out: width of the embedding.
        dropout: in the layers; released code.
        node_scalars: scalar features of an atom.
        edge_scalars: scalar features of an edge.
    """

    def __init__(
        self,
        scalars: int = 128,
        vectors: int = 64,
        n_layers: int = 3,
        out: int = 128,
        dropout: float = 0.1,
        *,
        node_scalars: int = 66,
        edge_scalars: int = 16,
    ) -> None:
        super().__init__()
        node, edge = (scalars, vectors), (EDGE_SCALARS, EDGE_VECTORS)
        self.nodes = nn.ModuleList([Norm(node_scalars), GVP((node_scalars, 1), node, active=False)])
        self.edges = nn.ModuleList([Norm(edge_scalars), GVP((edge_scalars, 1), edge, active=False)])
        self.layers = nn.ModuleList(GVPLayer(node, edge, dropout) for _ in range(n_layers))
        self.readout = nn.ModuleList([Norm(scalars), GVP(node, (scalars, 0))])
        self.mlp = nn.Sequential(  # widths, slope and rate of the released code
            nn.Linear(scalars, 1024), nn.LeakyReLU(inplace=True), Dropout(0.25), nn.Linear(1024, out)
        )

    def reset_parameters(self) -> None:
        for part in (*self.nodes, *self.edges, *self.layers, *self.readout, self.mlp[0], self.mlp[3]):
            part.reset_parameters()

    def forward(self, graphs: Batch, nodes: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        """Encode molecules.

        Args:
            graphs: batch of geometric graphs with ``s (N, n)``, ``v (N, 1, 3)`` in Å, ``edge_index (2, E)``,
                ``edge_s (E, n_e)``, ``edge_v (E, 1, 3)``.
            nodes: give scalars ``(N, scalars)`` and vectors ``(N, vectors, 3)`` of every atom after the last layer.

        Returns:
            ``(n, out)``: invariant under rotations.
        """
        s, V = graphs.s, graphs.v
        for part in self.nodes:
            s, V = part(s, V)
        edge_s, edge_V = graphs.edge_s, graphs.edge_v
        for part in self.edges:
            edge_s, edge_V = part(edge_s, edge_V)
        for layer in self.layers:
            s, V = layer(s, V, graphs.edge_index, edge_s, edge_V)
        if nodes:
            return s, V
        for part in self.readout:
            s, V = part(s, V)
        total = s.new_zeros(graphs.num_graphs, s.shape[1]).index_add(0, graphs.batch, s)
        return self.mlp(total)
