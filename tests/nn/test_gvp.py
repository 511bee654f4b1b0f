"""The 3D encoder: perceptrons by hand, two routes to a message, and the symmetries of space, each broken once."""

import math

import pytest
import torch
from torch.testing import assert_close
from torch_geometric.data import Batch, Data

from medrec.chem.conformers import conformers
from medrec.chem.geometry import geometric_graph
from medrec.nn.gvp import GVP, GVPEncoder, GVPLayer, Message, Norm, drop_vectors, gated, gvp, lengths, normalise_vectors

N_SCALARS = 5
N_MOTIONS = 20


@pytest.fixture(autouse=True)
def _double():
    """Symmetries are exact in exact arithmetic; double precision comes near enough to tell a bug from rounding."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def rotation(rng, reflect=False):
    """A random rotation matrix; with a reflection on request."""
    Q, R = torch.linalg.qr(torch.randn(3, 3, generator=rng))
    Q = Q * R.diagonal().sign()
    return Q if (torch.linalg.det(Q) > 0) != reflect else Q * torch.tensor([1.0, 1.0, -1.0])


def geometric(s, x, *, centered=True, cutoff=4.5):
    """A small stand-in for the graphs of the chemistry room: positions, radial basis, unit vectors."""
    v = x - x.mean(0) if centered else x
    distance = torch.cdist(x, x)
    source, target = ((distance < cutoff) & ~torch.eye(len(x), dtype=torch.bool)).nonzero().T
    d = distance[source, target][:, None]
    sigma = cutoff / 16
    return Data(
        s=s,
        v=v[:, None],
        edge_index=torch.stack([source, target]),
        edge_s=torch.exp(-(((d - torch.linspace(0, cutoff, 16)) / sigma) ** 2)),
        edge_v=((x[source] - x[target]) / d)[:, None],
        num_nodes=len(x),
    )


@pytest.fixture
def clouds():
    """Scalars and positions in Å of atoms of several molecules, the last a single atom."""
    rng = torch.Generator().manual_seed(1)
    return [(torch.rand(n, N_SCALARS, generator=rng), 2 * torch.randn(n, 3, generator=rng)) for n in (9, 14, 4, 2, 1)]


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    network = GVPEncoder(scalars=12, vectors=6, n_layers=2, out=7, node_scalars=N_SCALARS)
    for module in network.modules():  # biases and norms at their starting values could hide a mistake
        if isinstance(module, Norm):
            torch.nn.init.uniform_(module.weight, 0.5, 2)
            torch.nn.init.normal_(module.bias)
    return network.eval()


# -- one perceptron ---------------------------------------------------------------------------------------------------

HAND = {
    "s": torch.tensor([1.0, -1.0], dtype=torch.float64),
    "V": torch.tensor([[3.0, 4.0, 0.0]], dtype=torch.float64),
    "W_h": torch.tensor([[1.0], [2.0]], dtype=torch.float64),
    "W_s": torch.tensor([[0.1, 0.1, 0, 1], [0, 0.2, 1, 0]], dtype=torch.float64),
    "b": torch.tensor([0.0, -2.0], dtype=torch.float64),
    "W_mu": torch.tensor([[1.0, -0.25]], dtype=torch.float64),
}
QUARTER = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]], dtype=torch.float64)  # 90 degrees about z


def test_one_vector_by_hand():
    s, V = gvp(**HAND, activation=None)
    assert_close(s, torch.tensor([0.5, 1.0]))
    assert_close(V, torch.tensor([[1.3862, 1.8483, 0.0]]), atol=5e-5, rtol=0)
    assert_close(gvp(**HAND, gate=False)[1], torch.tensor([[1.5, 2.0, 0.0]]))
    turned_s, turned_V = gvp(**HAND | {"V": HAND["V"] @ QUARTER.T}, activation=None)
    assert_close(turned_s, s)
    assert_close(turned_V, torch.tensor([[-1.8483, 1.3862, 0.0]]), atol=5e-5, rtol=0)


def test_the_printed_form_loses_the_vector():
    s, number = gvp(**HAND, activation=None, form="printed")
    assert_close(s, torch.tensor([0.5, 1.0]))
    assert_close(number, torch.tensor([2.3104]), atol=5e-5, rtol=0)
    # It does not rotate with its input, and has the shape of no vector.
    assert_close(gvp(**HAND | {"V": HAND["V"] @ QUARTER.T}, form="printed")[1], number)
    assert gvp(**HAND, form="printed", gate=False)[1].item() == pytest.approx(2.5)
    first = GVP((2, 1), (2, 1), form="printed")
    with pytest.raises((RuntimeError, IndexError)):
        GVP((2, 1), (2, 1))(*first(HAND["s"], HAND["V"]))


def test_two_vectors_by_hand():
    V = torch.tensor([[3.0, 0, 0], [0, 4, 0]])
    weights = {
        "W_h": torch.tensor([[1.0, 0], [1, 1]]),
        "W_s": torch.tensor([[0.2, 0.1, -1]]),
        "b": torch.zeros(1),
        "W_mu": torch.tensor([[1.0, -1]]),
    }
    s, out = gvp(torch.ones(1), V, **weights, activation=torch.sigmoid)
    assert s.item() == pytest.approx(1 / (1 + math.exp(-0.1)))
    assert_close(out, torch.tensor([[0.0, -3.928, 0.0]]), atol=5e-4, rtol=0)
    turned = gvp(torch.ones(1), V @ QUARTER.T, **weights, activation=torch.sigmoid)
    assert_close(turned[0], s)
    assert_close(turned[1], torch.tensor([[3.928, 0.0, 0.0]]), atol=5e-4, rtol=0)
    printed = gvp(torch.ones(1), V, **weights, form="printed")[1]
    assert printed.item() == pytest.approx(3.928, abs=5e-4)
    # Norms of the mirrored toy are the same.
    mirrored = gvp(torch.ones(1), V * torch.tensor([1.0, -1, 1]), **weights, activation=torch.sigmoid)
    assert_close(mirrored[0], s)


def test_without_mixing_only_the_scalars_are_left():
    s, V = gvp(**HAND | {"W_h": torch.zeros(2, 1)}, activation=None)
    assert_close(s, HAND["W_s"][:, 2:] @ HAND["s"] + HAND["b"])
    assert_close(V, torch.zeros(1, 3))


def test_gradients_of_lengths_and_gate():
    vectors = torch.randn(4, 3, 5, requires_grad=True)
    assert torch.autograd.gradcheck(lengths, vectors)
    assert torch.autograd.gradcheck(gated, vectors)
    assert_close(lengths(vectors), torch.linalg.vector_norm(vectors, dim=-2))
    zero = torch.zeros(2, 3, 4, requires_grad=True)
    (lengths(zero).sum() + gated(zero).sum()).backward()
    assert_close(zero.grad, torch.full_like(zero, 0.5))  # of the gate at 0; the length adds nothing


def test_a_direction_is_divided_out_and_no_direction_stays_none():
    V = torch.tensor([[[3.0, 0, 0]], [[0.0, 0, 0]]])
    assert_close(normalise_vectors(V), torch.tensor([[[1.0, 0, 0]], [[0.0, 0, 0]]]), atol=1e-3, rtol=0)
    two = torch.tensor([[[3.0, 0, 0], [0, 4, 0]]])
    assert normalise_vectors(two).square().sum(-1).mean().item() == pytest.approx(1, abs=1e-3)
    # Released code: rounding decides where an atom on the origin points to.
    noise = 1e-7 * torch.randn(50, 1, 3)
    assert normalise_vectors(noise).abs().max() < 1e-5


def test_dropout_takes_whole_vectors_and_keeps_the_mean():
    torch.manual_seed(0)
    dropped = drop_vectors(torch.ones(4000, 5, 3), 0.25, training=True)
    zero = dropped == 0
    assert torch.equal(zero.any(-1), zero.all(-1))
    assert zero.double().mean().item() == pytest.approx(0.25, abs=0.02)
    assert dropped.mean().item() == pytest.approx(1, abs=0.02)
    assert torch.equal(drop_vectors(dropped, 0.25, training=False), dropped)


# -- messages ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("edge_vectors", [1, 2])
def test_split_message_equals_the_plain_one(edge_vectors):
    torch.manual_seed(0)
    message = Message((4, 3), (5, edge_vectors))
    s, V = torch.randn(7, 4, requires_grad=True), torch.randn(7, 3, 3, requires_grad=True)
    edge_index = torch.stack([torch.randint(0, 7, (20,)), torch.randint(0, 5, (20,))])  # atoms 5 and 6 hear nobody
    edge = torch.randn(20, 5, requires_grad=True), torch.randn(20, edge_vectors, 3, requires_grad=True)
    inputs = [s, V, *edge, *message.parameters()]
    results = []
    for route in (message, message.plain):
        out = route(s, V, edge_index, *edge)
        loss = (out[0] * torch.arange(28.0).view(7, 4)).sum() + (out[1] * torch.arange(63.0).view(7, 3, 3)).sin().sum()
        results.append((*out, *torch.autograd.grad(loss, inputs)))
    for one, other in zip(*results, strict=True):
        assert_close(one, other, atol=1e-10, rtol=1e-10)
    assert not results[0][0][5:].any()
    assert not results[0][1][5:].any()


def test_message_is_the_mean_over_neighbours():
    torch.manual_seed(0)
    message = Message((2, 2), (3, 1))
    s, V, edge_s, edge_V = torch.randn(3, 2), torch.randn(3, 2, 3), torch.randn(2, 3), torch.randn(2, 1, 3)
    both = message(s, V, torch.tensor([[0, 1], [2, 2]]), edge_s, edge_V)
    parts = [message(s, V, torch.tensor([[a], [2]]), edge_s[[a]], edge_V[[a]]) for a in (0, 1)]
    for k in (0, 1):
        assert_close(both[k][2], (parts[0][k][2] + parts[1][k][2]) / 2)


# -- symmetries -------------------------------------------------------------------------------------------------------


def moved(clouds, R, shift):
    return [(s, x @ R.T + shift) for s, x in clouds]


def encode(encoder, clouds, **options):
    graphs = Batch.from_data_list([geometric(s, x, **options) for s, x in clouds])
    return encoder(graphs), *encoder(graphs, nodes=True)


def largest(a, b):
    return (a - b).abs().max().item()


def test_scalars_stay_and_vectors_turn_under_rigid_motions(encoder, clouds):
    rng = torch.Generator().manual_seed(2)
    with torch.no_grad():
        pooled, s, V = encode(encoder, clouds)
        official = encode(encoder, clouds, centered=False)
        assert pooled.std() > 0.01
        for _ in range(N_MOTIONS):
            R, shift = rotation(rng), 10 * torch.randn(3, generator=rng)
            new_pooled, new_s, new_V = encode(encoder, moved(clouds, R, shift))
            assert largest(new_pooled, pooled) < 1e-5
            assert largest(new_s, s) < 1e-5
            assert largest(new_V, V @ R.T) < 1e-5
            assert largest(new_V, V) > 1e-2
            # Positions as they stand in the file: a turn about the origin is harmless, a shift is not.
            turned = encode(encoder, moved(clouds, R, 0), centered=False)
            assert largest(turned[0], official[0]) < 1e-5
            shifted = encode(encoder, moved(clouds, R, shift), centered=False)
            assert largest(shifted[0], official[0]) > 1e-4
            assert largest(shifted[1], official[1]) > 1e-3
            assert largest(shifted[2], official[2] @ R.T) > 1e-3


def test_renumbering_atoms_keeps_the_readout(encoder, clouds):
    """Wherever the file puts the renumbered molecule; without centring the place shows."""
    rng = torch.Generator().manual_seed(3)
    with torch.no_grad():
        pooled, s, _ = encode(encoder, clouds)
        for _ in range(N_MOTIONS):
            order = [torch.randperm(len(x), generator=rng) for _, x in clouds]
            shift = 5 * torch.randn(3, generator=rng)
            renumbered = [(s[o], x[o] + shift) for (s, x), o in zip(clouds, order, strict=True)]
            out = encode(encoder, renumbered)
            assert largest(out[0], pooled) < 1e-5
            assert largest(out[1][: len(order[0])], s[order[0]]) < 1e-5
            raw = [encode(encoder, c, centered=False)[0] for c in (clouds, renumbered)]
            assert largest(*raw) > 1e-4


def test_real_molecules_as_the_chemistry_room_makes_them():
    """Aspirin, atropine, ammonia: twenty motions and renumberings, with the graphs that the systems really read."""
    torch.manual_seed(0)
    encoder = GVPEncoder(scalars=16, vectors=8, n_layers=2, out=12).eval()
    rng = torch.Generator().manual_seed(5)
    found = conformers(["CC(=O)Oc1ccccc1C(=O)O", "CN1C2CCC1CC(C2)OC(=O)C(CO)c1ccccc1", "N"])

    def encoded(R, shift, centered):
        graphs = Batch.from_data_list(graphs_of(found, R, shift, centered))
        return encoder(graphs), *encoder(graphs, nodes=True)

    still = torch.eye(3), torch.zeros(3)
    with torch.no_grad():
        before = {centered: encoded(*still, centered) for centered in (True, False)}
        for _ in range(N_MOTIONS):
            motion = R, shift = rotation(rng), 10 * torch.randn(3, generator=rng)
            for centered, (pooled, s, V) in before.items():
                new = encoded(*motion, centered)
                gaps = largest(new[0], pooled), largest(new[1], s), largest(new[2], V @ R.T)
                assert max(gaps) < 1e-5 if centered else min(gaps) > 1e-4
            pooled = {}
            order = [torch.randperm(len(one.atoms), generator=rng) for one in found]
            for centered in (True, False):
                here, there = (graphs_of(found, *m, centered) for m in (still, (still[0], shift)))
                there = [permuted(graph, o) for graph, o in zip(there, order, strict=True)]
                pooled[centered] = largest(*(encoder(Batch.from_data_list(g)) for g in (here, there)))
            assert pooled[True] < 1e-5
            assert pooled[False] > 1e-4


def graphs_of(found, R, shift, centered):
    places = [torch.from_numpy(one.coordinates[0].astype(float)) @ R.T + shift for one in found]
    return [geometric_graph(one.smiles, x.numpy(), centered=centered) for one, x in zip(found, places, strict=True)]


def permuted(graph, order):
    """The same graph with its atoms in another order."""
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order))
    mixed = torch.randperm(graph.num_edges)
    return Data(
        s=graph.s[order],
        v=graph.v[order],
        edge_index=place[graph.edge_index][:, mixed],
        edge_s=graph.edge_s[mixed],
        edge_v=graph.edge_v[mixed],
        num_nodes=graph.num_nodes,
    )


def test_mirror_images_cannot_be_told_apart(encoder, clouds):
    rng = torch.Generator().manual_seed(4)
    with torch.no_grad():
        mirror = moved(clouds, rotation(rng, reflect=True), 0)
        assert largest(encode(encoder, mirror)[0], encode(encoder, clouds)[0]) < 1e-5


def test_shape_matters(encoder, clouds):
    with torch.no_grad():
        stretched = [(s, x * torch.tensor([1.2, 1, 1])) for s, x in clouds]
        assert largest(encode(encoder, stretched)[0][:4], encode(encoder, clouds)[0][:4]) > 1e-3


def test_single_atoms_and_far_atoms(encoder):
    one = torch.rand(1, N_SCALARS), torch.randn(1, 3)
    far = torch.rand(2, N_SCALARS), torch.tensor([[0.0, 0, 0], [50, 0, 0]])
    for group in ([one], [far], [one, far, one]):
        graphs = Batch.from_data_list([geometric(s, x) for s, x in group])
        assert graphs.edge_index.shape == (2, 0)
        out = encoder.train()(graphs)
        out.square().sum().backward()
        assert out.shape == (len(group), 7)
        assert all(p.grad is None or torch.isfinite(p.grad).all() for p in encoder.parameters())


def test_company_does_not_matter(encoder, clouds):
    with torch.no_grad():
        among = encode(encoder, clouds)[0]
        for k, cloud in enumerate(clouds):
            assert_close(encode(encoder, [cloud])[0][0], among[k])


def test_gradients_reach_every_parameter(encoder, clouds):
    graphs = Batch.from_data_list([geometric(s, x) for s, x in clouds])
    encoder.train()(graphs).square().sum().backward()
    assert [n for n, p in encoder.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_reset_draws_anew_and_training_drops(encoder, clouds):
    graphs = Batch.from_data_list([geometric(s, x) for s, x in clouds])
    before = encoder(graphs)
    assert not torch.equal(encoder.train()(graphs), encoder(graphs))
    encoder.eval().reset_parameters()
    assert largest(encoder(graphs), before) > 1e-3
    assert torch.equal(encoder.readout[0].weight, torch.ones(12))


def test_layer_keeps_shapes_in_single_precision():
    layer = GVPLayer((4, 3), (2, 1), 0.1).float()
    s, V = torch.randn(5, 4, dtype=torch.float32), torch.randn(5, 3, 3, dtype=torch.float32)
    edge = torch.randn(2, 2, dtype=torch.float32), torch.randn(2, 1, 3, dtype=torch.float32)
    out = layer(s, V, torch.tensor([[0, 1], [1, 0]]), *edge)
    assert out[0].shape == s.shape
    assert out[1].shape == V.shape
    assert out[1].dtype == torch.float32
