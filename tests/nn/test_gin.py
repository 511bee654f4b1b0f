"""The 2D encoder: hand-computed layers, symmetries, and what batch normalisation does to a molecule among others."""

import pytest
import torch
from torch.testing import assert_close
from torch_geometric.data import Batch, Data

from medrec.nn.gin import ATOM_CLASSES, BOND_CLASSES, GIN, FeatureEmbedding, gin_aggregate, mean_readout

PATH = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])  # three atoms in a row


def random_molecule(rng, n_atoms):
    """A tree of atoms with random features; a single atom has no bonds."""
    parent = [int(torch.randint(0, a, (1,), generator=rng)) for a in range(1, n_atoms)]
    one_way = torch.tensor([parent, range(1, n_atoms)], dtype=torch.long).reshape(2, -1)
    bonds = torch.stack([torch.randint(0, c, (n_atoms - 1,), generator=rng) for c in BOND_CLASSES], 1)
    return Data(
        x=torch.stack([torch.randint(0, c, (n_atoms,), generator=rng) for c in ATOM_CLASSES], 1),
        edge_index=torch.cat([one_way, one_way.flip(0)], 1),
        edge_attr=torch.cat([bonds, bonds]),
    )


@pytest.fixture
def molecules():
    rng = torch.Generator().manual_seed(1)
    return [random_molecule(rng, n) for n in (1, 2, 5, 9, 14, 20, 7, 3, 11, 6)]


@pytest.fixture
def gin():
    torch.manual_seed(0)
    network = GIN(width=16, n_layers=3)
    with torch.no_grad():  # running statistics other than the initial 0 and 1
        for norm in network.norms:
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)
    return network


def layers(h, bond=0.5):
    rows = [torch.tensor(h)[:, None]]
    bond = torch.full((4, 1), bond) if isinstance(bond, float) else bond
    for _ in range(2):
        rows.append(gin_aggregate(rows[-1], PATH, bond))
    return torch.cat(rows, 1).T


def test_two_layers_on_ethanol_and_its_isomer():
    ethanol, ether = layers([1.0, 1.0, 2.0]), layers([1.0, 2.0, 1.0])
    assert_close(ethanol, torch.tensor([[1, 1, 2], [2.5, 5, 3.5], [8, 12, 9]]))
    assert_close(ether, torch.tensor([[1, 2, 1], [3.5, 5, 3.5], [9, 13, 9]]))
    assert_close(ethanol.mean(1), torch.tensor([4 / 3, 11 / 3, 29 / 3]))
    assert_close(ether.mean(1), torch.tensor([4 / 3, 4, 31 / 3]))
    # A C-O bond of 1.0 instead of 0.5.
    assert_close(layers([1.0, 1.0, 2.0], torch.tensor([[0.5], [0.5], [1], [1]]))[1], torch.tensor([2.5, 5.5, 4]))


def test_epsilon_of_minus_one_drops_the_atom_itself():
    h = torch.tensor([[1.0], [1.0], [2.0]])
    assert_close(gin_aggregate(h, PATH, torch.full((4, 1), 0.5), -1.0)[:, 0], torch.tensor([1.5, 4.0, 1.5]))


def test_relu_swallows_negative_neighbours():
    for value in (-1.0, -3.0):
        out = gin_aggregate(torch.tensor([[1.0], [value]]), torch.tensor([[1], [0]]), torch.full((1, 1), 0.5))
        assert_close(out[0], torch.tensor([1.0]))


def test_mean_readout_divides_by_the_atoms_of_each_molecule():
    h = torch.tensor([[4.0], [8.0], [3.0]])
    assert_close(mean_readout(h, torch.tensor([0, 0, 2]), 3), torch.tensor([[6.0], [0.0], [3.0]]))


def test_embedding_is_the_sum_of_one_row_of_each_table():
    torch.manual_seed(0)
    embedding = FeatureEmbedding((3, 2), 4)
    first, second = embedding.weight.split((3, 2))
    assert_close(embedding(torch.tensor([[2, 1], [0, 0]])), torch.stack([first[2] + second[1], first[0] + second[0]]))
    # Xavier's bound of each table alone: that of the wide one is exceeded by the narrow one.
    assert second.abs().max() <= (6 / (2 + 4)) ** 0.5


def test_layer_matches_a_loop_over_bonds(gin, molecules):
    gin.eval()
    graphs = Batch.from_data_list(molecules)
    layer, norm = gin.layers[0], gin.norms[0]
    h = gin.atoms(graphs.x)
    total = 1.0 * h
    tables = layer.bonds.weight.split(BOND_CLASSES)
    for (source, target), features in zip(graphs.edge_index.T, graphs.edge_attr, strict=True):
        bond = sum(table[f] for table, f in zip(tables, features, strict=True))
        total[target] = total[target] + (h[source] + bond).clamp(min=0)
    linear, inner, _, last = layer.mlp
    inside = (total @ linear.weight.T + linear.bias - inner.running_mean) / (inner.running_var + inner.eps).sqrt()
    expected = inside.clamp(min=0) @ last.weight.T + last.bias
    assert_close(layer(h, graphs.edge_index, layer.bonds.hot(graphs.edge_attr)), expected, atol=1e-5, rtol=1e-5)
    expected = (expected - norm.running_mean) / (norm.running_var + norm.eps).sqrt()
    one = GIN(16, n_layers=1).eval()
    shared = {k: v for k, v in gin.state_dict().items() if k in one.state_dict()}
    one.load_state_dict(shared)
    # The only layer is the last one: no ReLU after it.
    assert_close(one(graphs, nodes=True), expected, atol=1e-5, rtol=1e-5)


def test_renumbering_atoms_permutes_states_and_keeps_the_readout(gin, molecules):
    gin.eval()
    molecule = molecules[5]
    order = torch.randperm(molecule.num_nodes, generator=torch.Generator().manual_seed(3))
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order))
    moved = Data(x=molecule.x[order], edge_index=place[molecule.edge_index], edge_attr=molecule.edge_attr)
    one, other = Batch.from_data_list([molecule]), Batch.from_data_list([moved])
    assert_close(gin(other, nodes=True), gin(one, nodes=True)[order], atol=1e-5, rtol=0)
    assert_close(gin(other), gin(one), atol=1e-5, rtol=0)
    wrong = Batch.from_data_list(
        [Data(x=molecule.x[order], edge_index=molecule.edge_index, edge_attr=molecule.edge_attr)]
    )
    assert (gin(wrong) - gin(one)).abs().max() > 1e-3


def test_company_matters_while_training_only(gin, molecules):
    alone, among = Batch.from_data_list(molecules[:4]), Batch.from_data_list(molecules)
    gin.dropout = 0.0
    assert (gin.train()(alone) - gin(among)[:4]).abs().max() > 0.05
    gin.eval()
    assert_close(gin(alone), gin(among)[:4], atol=1e-5, rtol=0)


def test_every_feature_and_every_bond_matters(gin, molecules):
    gin.eval()
    base = gin(Batch.from_data_list(molecules))[4]
    for name, classes in (("x", ATOM_CLASSES), ("edge_attr", BOND_CLASSES)):
        for f, n in enumerate(classes):
            changed = [m.clone() for m in molecules]
            changed[4][name][2, f] = (changed[4][name][2, f] + 1) % n
            assert (gin(Batch.from_data_list(changed))[4] - base).abs().max() > 1e-5, (name, f)
    changed = [m.clone() for m in molecules]
    changed[4].edge_index = changed[4].edge_index[:, 1:]
    changed[4].edge_attr = changed[4].edge_attr[1:]
    assert (gin(Batch.from_data_list(changed))[4] - base).abs().max() > 1e-5


def test_gradients_reach_every_parameter(gin, molecules):
    gin.train()(Batch.from_data_list(molecules)).square().sum().backward()
    # A bias in front of a batch normalisation is taken away by it: its gradient is rounding, so it is not asked for.
    free = [name for name, p in gin.named_parameters() if not name.endswith(("mlp.0.bias", "mlp.3.bias"))]
    grads = {name: gin.get_parameter(name).grad for name in free}
    assert [name for name, grad in grads.items() if grad is None or grad.abs().max() < 1e-6] == []


def test_single_atoms_alone_have_no_bonds_and_still_an_embedding(gin):
    rng = torch.Generator().manual_seed(0)
    atoms = Batch.from_data_list([random_molecule(rng, 1) for _ in range(3)])
    assert atoms.edge_index.shape == (2, 0)
    assert gin.eval()(atoms).shape == (3, 16)
    assert torch.isfinite(gin(atoms)).all()
    assert torch.isfinite(gin.train()(atoms)).all()


def test_state_holds_running_statistics_and_reset_clears_them(gin, molecules):
    graphs = Batch.from_data_list(molecules)
    other = GIN(16, n_layers=3)
    other.load_state_dict(gin.state_dict())
    assert_close(other.eval()(graphs), gin.eval()(graphs))
    # Carrying parameters alone is not enough.
    bare = GIN(16, n_layers=3)
    bare.load_state_dict(dict(gin.named_parameters()), strict=False)
    assert (bare.eval()(graphs) - gin(graphs)).abs().max() > 0.1
    before = {k: v.clone() for k, v in gin.state_dict().items()}
    torch.manual_seed(5)
    gin.reset_parameters()
    torch.manual_seed(5)
    fresh = GIN(16, n_layers=3)
    assert_close(gin.norms[0].running_mean, torch.zeros(16))
    assert not torch.equal(gin.atoms.weight, before["atoms.weight"])
    assert gin.state_dict().keys() == fresh.state_dict().keys()
