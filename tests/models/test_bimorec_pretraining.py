"""Stage 1 of BiMoRec: the contrast by hand, what each second view is, and what travels to stage 2."""

import math
import random
from dataclasses import asdict, replace

import polars as pl
import pytest
import torch
from torch.testing import assert_close

from medrec import keys
from medrec.chem.conformers import conformers
from medrec.chem.graphs import batch_graphs
from medrec.chem.molecules import Molecules
from medrec.models import bimorec_pretraining as stage1
from medrec.models.bimorec_pretraining import (
    PretrainingConfig,
    alignment,
    contrast,
    cosine_similarity,
    encode,
    kept_aside,
    nt_xent,
    nt_xent_terms,
    participation_ratio,
    pretrain,
    retrieval,
    uniformity,
    wrong_partners,
)
from medrec.nn.gin import GIN
from medrec.types import Interrupted, MedrecError

SMALL = PretrainingConfig(width=16, gin_layers=2, gvp_scalars=8, gvp_vectors=4, gvp_layers=1, epochs=3)
SMILES = (
    "CC(=O)Oc1ccccc1C(=O)O",
    "CC(C)Cc1ccc(C(C)C(=O)O)cc1",
    "CC(N)=O",
    "CCO",
    "CN1CCC[C@H]1c1cccnc1",
    "Cn1c(=O)c2c(ncn2C)n(C)c1=O",
    "NCCc1ccc(O)c(O)c1",
    "OCC(O)CO",
    "[Li+]",
    "c1ccc2ccccc2c1",
)
FRAGMENTS = ("*C(C)=O", "*O", "*c1ccccc1", "*N1CCCC1", "CCO", "*CC*")


@pytest.fixture(scope="module")
def molecules():
    return Molecules(
        smiles=SMILES,
        names=tuple(f"drug {i}" for i in range(len(SMILES))),
        graphs=batch_graphs(SMILES),
        average=torch.eye(len(SMILES)),
        fragments=FRAGMENTS,
        fragment_graphs=batch_graphs(FRAGMENTS),
        fragment_mask=torch.zeros(len(SMILES), len(FRAGMENTS), dtype=torch.bool),
    )


def constant(n, own, other):
    return torch.full((n, n), other, dtype=torch.float64).fill_diagonal_(own)


# -- eqs. 7 and 8 -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("similarity", "printed", "with_positive"),
    [
        (constant(2, 1, 0), -10.0, 0.000045),
        (constant(3, 0.9, 0.3), -5.3069, 0.0049),
        (constant(3, 0.5, 0.5), 0.6931, 1.0986),
        (constant(284, 0.2, 0.2), 5.6454, 5.6490),
        (constant(435, 0.2, 0.2), 6.0730, 6.0753),
        (constant(284, 1, 0), -4.3546, 0.0128),
        (constant(2, 1, 1), 0.0, 0.6931),
    ],
)
def test_loss_by_hand(similarity, printed, with_positive):
    assert nt_xent(similarity).item() == pytest.approx(printed, abs=5e-5)
    tolerance = 5e-7 if with_positive < 1e-3 else 5e-5
    assert nt_xent(similarity, denominator="with_positive").item() == pytest.approx(with_positive, abs=tolerance)


def test_printed_loss_crosses_zero():
    for n, gap in ((3, 0.0693), (284, 0.5645), (435, 0.6073), (1000, 0.6907)):
        assert 0.1 * math.log(n - 1) == pytest.approx(gap, abs=5e-5)
        assert nt_xent(constant(n, 0.1 * math.log(n - 1), 0.0)).item() == pytest.approx(0, abs=1e-9)


def test_printed_loss_never_rests():
    pulls = {0.0: -9.757, 0.3: -6.667, 0.5: -2.130, 0.9: -0.049}
    for own, pull in pulls.items():
        similarity = constant(3, own, 0.3).requires_grad_()
        (printed,) = torch.autograd.grad(nt_xent_terms(similarity)[0], similarity)
        (usual,) = torch.autograd.grad(nt_xent_terms(similarity, denominator="with_positive")[0], similarity)
        assert printed[0, 0].item() == pytest.approx(-10)
        assert usual[0, 0].item() == pytest.approx(pull, abs=5e-4)


def test_least_value_is_the_regular_simplex():
    assert nt_xent(constant(284, 1, -1 / 283)).item() == pytest.approx(-4.3899, abs=5e-5)


def test_direction_matters():
    similarity = torch.tensor([[0.9, 0.6, 0], [0.1, 0.5, 0.2], [0.3, 0.4, 0.8]])
    assert nt_xent(similarity).item() == pytest.approx(-3.1237, abs=5e-5)
    assert nt_xent(similarity.T).item() == pytest.approx(-3.5397, abs=5e-5)
    assert retrieval(similarity) == 1
    assert retrieval(similarity.T) == pytest.approx(2 / 3)


def test_duplicates_learn_nothing_from_each_other():
    similarity = torch.eye(4, dtype=torch.float64)
    similarity[0, 1] = similarity[1, 0] = 1
    assert_close(
        nt_xent_terms(similarity), torch.tensor([0.0001, 0.0001, -8.9014, -8.9014]).double(), atol=5e-5, rtol=0
    )
    similarity.requires_grad_()
    (force,) = torch.autograd.grad(nt_xent_terms(similarity).sum(), similarity)
    # What pulls the first to its own conformer is what pushes it away from its twin's, which is the same place.
    assert (force[0, 0] + force[0, 1]).abs() < 2e-3


def test_similarity_is_the_cosine_and_a_zero_row_is_harmless():
    a = torch.tensor([[3.0, 4], [0, 0]], requires_grad=True)
    b = torch.tensor([[1.0, 0], [0, 2], [-3, -4]])
    assert_close(cosine_similarity(a, b), torch.tensor([[0.6, 0.8, -1], [0, 0, 0]]))
    cosine_similarity(a, b).sum().backward()
    assert torch.isfinite(a.grad).all()


def test_one_item_has_nothing_to_be_told_apart_from():
    with pytest.raises(MedrecError, match="at least two"):
        nt_xent(torch.ones(1, 1))


def test_geometry_of_embeddings():
    square = torch.tensor([[1.0, 0], [0, 1], [-1, 0], [0, -1]])
    assert uniformity(square) == pytest.approx(-4.3963, abs=5e-5)
    assert uniformity(square * torch.tensor([[1.0], [2], [3], [4]])) == pytest.approx(-4.3963, abs=5e-5)
    assert uniformity(torch.tensor([[1.0, 0], [1, 0], [-1, 0], [-1, 0]])) == pytest.approx(-1.0979, abs=1e-4)
    assert uniformity(torch.ones(4, 2)) == pytest.approx(0, abs=1e-6)
    assert alignment(square, 2 * square) == pytest.approx(0, abs=1e-6)
    assert alignment(square, square.roll(1, 0)) == pytest.approx(2)
    for variances, expected in (((1, 1, 1, 1), 4), ((10, 1, 1, 1), 1.6408), ((4, 3, 2, 1), 10 / 3)):
        axes = torch.diag(torch.tensor(variances, dtype=torch.float64).sqrt())
        assert participation_ratio(torch.cat([axes, -axes])) == pytest.approx(expected, abs=5e-5)


def test_a_tie_is_not_a_find():
    assert retrieval(torch.tensor([[0.5, 0.5], [0.1, 0.5]])) == 0.5


# -- running statistics -----------------------------------------------------------------------------------------------


def test_statistics_of_an_encoder_take_a_tenth_of_each_pass(molecules):
    """Fresh ones are 0 and 1, whatever the molecules; after 44 passes they have come within 1 % of them."""
    torch.manual_seed(0)
    encoder = GIN(8, n_layers=1, dropout=0.0)
    graphs, norm = molecules.graphs, encoder.norms[0]
    with torch.no_grad():
        atoms = encoder.atoms(graphs.x)
        layer = encoder.layers[0]
        before = layer(atoms, graphs.edge_index, layer.bonds.hot(graphs.edge_attr))
        seen = {}
        for step in range(1, 45):
            encoder(graphs)
            seen[step] = norm.running_mean.clone()
    for step, share in ((1, 0.1), (5, 0.4095), (10, 0.6513), (44, 0.9903)):
        assert_close(seen[step], share * before.mean(0), atol=1e-4, rtol=1e-3)


# -- training ---------------------------------------------------------------------------------------------------------


def test_trained_encoders_load_into_fresh_ones_and_give_the_same_embeddings(molecules):
    done = pretrain(molecules, config=SMALL, cache=False)
    for state, graphs, kind in (
        (done.molecule_encoder, molecules.graphs, "molecule"),
        (done.fragment_encoder, molecules.fragment_graphs, "fragment"),
    ):
        fresh = GIN(SMALL.width, SMALL.gin_layers, SMALL.dropout).eval()
        fresh.load_state_dict(state)
        assert_close(fresh(graphs), done.embeddings[f"{kind}_2d"], atol=1e-5, rtol=1e-5)
        assert_close(encode(state, graphs, SMALL), done.embeddings[f"{kind}_2d"], atol=1e-5, rtol=1e-5)
        assert fresh.norms[0].running_mean.abs().max() > 0
        assert int(fresh.norms[0].num_batches_tracked) == SMALL.epochs
        assert not any(value.requires_grad for value in state.values())
    assert done.history.columns == ["epoch", "molecule", "fragment", "total"]
    assert done.history["epoch"].to_list() == [1, 2, 3]
    total = done.history["molecule"] + done.history["fragment"]
    assert done.history["total"].to_list() == pytest.approx(total.to_list())


def test_molecules_learn_to_recognise_their_conformers(molecules):
    config = replace(SMALL, epochs=60, dropout=0.0, learning_rate=1e-2)
    graphs = molecules.graphs.to_data_list()
    side = contrast("molecule", SMILES, graphs, config)
    assert side.losses[-1] < 0 < side.losses[0]
    assert side.report["train"]["to_3d"] >= 0.8
    assert side.report["train"]["chance"] == 0.1


def test_same_seed_same_weights_and_the_outside_is_left_alone(molecules):
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    one, same = (pretrain(molecules, config=SMALL, seed=3, cache=False) for _ in range(2))
    assert_close(torch.rand(1), expected)
    other = pretrain(molecules, config=SMALL, seed=4, cache=False)
    for name, value in one.molecule_encoder.items():
        assert torch.equal(value, same.molecule_encoder[name])
    assert not torch.equal(one.molecule_encoder["atoms.weight"], other.molecule_encoder["atoms.weight"])


@pytest.mark.parametrize("change", [
    {"coords": "flat"}, {"coords": "shuffled"}, {"coords": "random"}, {"coords": "none"}, {"center_coords": False},
    {"nce_denominator": "with_positive"}, {"symmetric": True}, {"temperature": 0.2}, {"gvp_layers": 2},
    {"batch_size": 4}, {"decay_every": 1}, {"held_out": 0.3}, {"dropout": 0.1}, {"gvp_vectors": 5},
])  # fmt: skip
def test_every_setting_changes_the_result(molecules, change):
    graphs = molecules.graphs.to_data_list()
    base, changed = (contrast("molecule", SMILES, graphs, c) for c in (SMALL, replace(SMALL, **change)))
    assert not torch.equal(base.state["atoms.weight"], changed.state["atoms.weight"])
    assert all(torch.isfinite(v).all() for v in changed.state.values())


def test_flat_means_drawn_molecules_and_fragments_in_space(molecules):
    flat = replace(SMALL, coords="flat")
    for kind, smiles, z in (("molecule", SMILES, False), ("fragment", FRAGMENTS, True)):
        partner = stage1._partner(kind, smiles, flat, 0)
        assert any(graph.v[..., 2].abs().max() > 0.1 for graph in partner.graphs) == z
    solid = stage1._partner("molecule", SMILES, SMALL, 0)
    assert sum(graph.v[..., 2].abs().max() > 0.1 for graph in solid.graphs) >= 7


def test_raw_positions_are_those_of_the_file(molecules):
    places = [torch.tensor(one.coordinates[0]) for one in conformers(SMILES)]
    raw = stage1._partner("molecule", SMILES, replace(SMALL, center_coords=False), 0).graphs
    centred = stage1._partner("molecule", SMILES, SMALL, 0).graphs
    for graph, middle, x in zip(raw, centred, places, strict=True):
        assert_close(graph.v[:, 0], x)
        assert middle.v.mean(0).abs().max() < 1e-5


def test_no_molecule_keeps_its_own_conformer_when_shuffled():
    torch.manual_seed(0)
    items = list(range(10))
    groups = [torch.tensor([0, 2, 3, 5, 7]), torch.tensor([1, 4, 9])]
    moved = wrong_partners(items, groups)
    for group in groups:
        chosen = group.tolist()
        assert all(moved[i] != i for i in chosen)
        assert sorted(moved[i] for i in chosen) == chosen
    assert [moved[i] for i in (6, 8)] == [6, 8]


def test_equal_structures_are_kept_aside_together():
    smiles = [*SMILES, *SMILES[:4]]
    hidden = kept_aside(smiles, 0.3, 0)
    assert hidden[:10].sum() == 3
    assert torch.equal(hidden[10:], hidden[:4])
    assert torch.equal(hidden[:10], kept_aside(SMILES, 0.3, 0))
    assert not kept_aside(smiles, 0.0, 0).any()


def test_what_has_no_conformer_is_left_out_and_counted(molecules, monkeypatch):
    from medrec.chem import conformers as room

    whole = room.conformers(SMILES)
    without = [room._none(c.smiles, "cannot be") if i in (2, 6) else c for i, c in enumerate(whole)]
    monkeypatch.setattr(room, "conformers", lambda smiles, **_: without)
    side = contrast("molecule", SMILES, molecules.graphs.to_data_list(), SMALL)
    assert side.report["left_out"] == 2
    assert side.report["left_out_smiles"] == [SMILES[2], SMILES[6]]
    assert side.report["train"]["n"] == 8
    assert torch.isnan(side.embeddings["3d"][[2, 6]]).all()
    assert torch.isfinite(side.embeddings["2d"]).all()
    monkeypatch.setattr(room, "conformers", lambda smiles, **_: [room._none(s, "cannot be") for s in smiles])
    with pytest.raises(MedrecError, match="Only 0 of 10 molecules"):
        contrast("molecule", SMILES, molecules.graphs.to_data_list(), SMALL)


def test_held_out_items_do_not_take_part(molecules):
    config = replace(SMALL, held_out=0.3, coords="random", batch_size=3)
    graphs = molecules.graphs.to_data_list()
    hidden = kept_aside(SMILES, 0.3, 0)
    changed = [g.clone() for g in graphs]
    for i in hidden.nonzero()[:, 0].tolist():
        changed[i].x = changed[i].x.flip(0)
        changed[i].x[:, 0] = 1
    one, other = (contrast("molecule", SMILES, g, config) for g in (graphs, changed))
    assert torch.equal(one.state["atoms.weight"], other.state["atoms.weight"])
    assert torch.equal(one.held_out, hidden)
    assert one.report["held_out"]["n"] == 3
    changed[int((~hidden).nonzero()[0])].x[:, 0] = 1
    third = contrast("molecule", SMILES, changed, config)
    assert not torch.equal(one.state["atoms.weight"], third.state["atoms.weight"])


# -- store ------------------------------------------------------------------------------------------------------------


def test_second_call_loads_what_the_first_one_made(molecules, monkeypatch, tmp_path):
    monkeypatch.setenv("MEDREC_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(stage1, "contrast", _counted(stage1.contrast, calls := []))
    config = replace(SMALL, coords="random")
    first = pretrain(molecules, config=config)
    again = pretrain(molecules, config=config)
    assert len(calls) == 2  # molecules and fragments
    for name in ("molecule_encoder", "fragment_encoder", "embeddings", "held_out"):
        one, other = getattr(first, name), getattr(again, name)
        assert one.keys() == other.keys()
        assert all(torch.equal(one[k], other[k]) for k in one)
    assert again.report == first.report
    assert again.history.select(pl.all().round(6)).equals(first.history.select(pl.all().round(6)))
    for change in ({"epochs": 2}, {"temperature": 0.2}):
        pretrain(molecules, config=replace(config, **change))
    pretrain(molecules, config=config, seed=1)
    pretrain(replace(molecules, fragments=FRAGMENTS[::-1]), config=config)
    assert len(calls) == 10
    assert len(list((tmp_path / "pretraining").iterdir())) == 5


def _counted(function, calls):
    def wrapped(*args, **kwargs):
        calls.append(args[0])
        return function(*args, **kwargs)

    return wrapped


def test_features_take_part_in_the_key(molecules):
    key = stage1.content_key(molecules, SMALL, 0)
    graphs = batch_graphs(SMILES)
    graphs.x[0, 0] += 1
    assert stage1.content_key(replace(molecules, graphs=graphs), SMALL, 0) != key
    assert stage1.content_key(replace(molecules, graphs=batch_graphs(SMILES)), SMALL, 0) == key
    for name, value in asdict(SMALL).items():
        changed = {"coords": "flat", "nce_denominator": "with_positive"}.get(name)
        changed = changed or (not value if isinstance(value, bool) else value + 1)
        assert stage1.content_key(molecules, replace(SMALL, **{name: changed}), 0) != key, name


def test_code_threads_and_device_take_part_in_the_key(molecules, monkeypatch):
    """What was made by other code, or rounded otherwise, is never taken for what would be made now."""
    key, threads = stage1.content_key(molecules, SMALL, 0), torch.get_num_threads()
    assert stage1.content_key(molecules, SMALL, 0, "cuda") != key
    try:
        torch.set_num_threads(threads + 1)
        assert stage1.content_key(molecules, SMALL, 0) != key
        # An accelerator does not care.
        cuda = stage1.content_key(molecules, SMALL, 0, "cuda")
    finally:
        torch.set_num_threads(threads)
    assert stage1.content_key(molecules, SMALL, 0, "cuda") == cuda
    of = keys.codes
    for module, matters in (
        ("medrec.models.bimorec_pretraining", True), ("medrec.nn.gvp", True), ("medrec.nn.dropout", True),
        ("medrec.chem.geometry", True), ("medrec.models.leap", False), ("medrec.plotting", False),
    ):  # fmt: skip

        def edited(modules, module=module):
            return {m: "?" if m == module else code for m, code in of(modules).items()}

        monkeypatch.setattr(keys, "codes", edited)
        assert (stage1.content_key(molecules, SMALL, 0) != key) == matters, module


class Killed(BaseException):
    """As a process that dies: nothing in the package catches it."""


def dies_after(monkeypatch, steps, error):
    """The optimiser's step after so many raises."""
    real, done = torch.optim.Adam.step, []

    def step(self, *args, **more):
        done.append(1)
        if len(done) > steps:
            raise error
        return real(self, *args, **more)

    monkeypatch.setattr(torch.optim.Adam, "step", step)


def same(one, other):
    for name in ("molecule_encoder", "fragment_encoder", "embeddings", "held_out"):
        a, b = getattr(one, name), getattr(other, name)
        if a.keys() != b.keys() or not all(torch.equal(a[k].nan_to_num(), b[k].nan_to_num()) for k in a):
            return False
    reports = [{k: v for k, v in found.report.items() if k != "seconds"} for found in (one, other)]
    return one.history.equals(other.history) and reports[0] == reports[1]


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"coords": "none", "batch_size": 4},
        {"coords": "random", "batch_size": 4, "held_out": 0.2},
        {"coords": "shuffled", "batch_size": 4, "symmetric": True, "decay_every": 2},
    ],
    ids=str,
)
def test_killed_at_any_step_it_goes_on_with_the_same_numbers(molecules, monkeypatch, tmp_path, capsys, change):
    config = replace(SMALL, **{"epochs": 5, "dropout": 0.3, **change})
    whole = pretrain(molecules, config=config, cache=False)
    monkeypatch.setattr(stage1, "cache_dir", lambda: tmp_path)
    draw, kills = random.Random(str(change)), 0
    while True:
        with monkeypatch.context() as patch:
            dies_after(patch, draw.randint(1, 9), Killed)
            try:
                broken = pretrain(molecules, config=config)
                break
            except Killed:
                kills += 1
    assert kills > 0
    assert same(broken, whole)
    assert "goes on after epoch" in capsys.readouterr().err
    assert list(tmp_path.rglob("*checkpoint*")) == []


@pytest.mark.parametrize("cache", [True, False])
def test_an_interrupt_says_what_is_kept_and_a_damaged_checkpoint_is_reported(
    molecules, monkeypatch, tmp_path, capsys, cache
):
    monkeypatch.setenv("MEDREC_CACHE_DIR", str(tmp_path))
    config = replace(SMALL, coords="random")
    with monkeypatch.context() as patch:
        dies_after(patch, 2, KeyboardInterrupt)
        with pytest.raises(Interrupted) as raised:
            pretrain(molecules, config=config, cache=cache)
    kept = "after epoch 2 of 3: run it again, and it goes on from there"
    assert str(raised.value) == (
        f"pre-training, molecules: interrupted {kept if cache else 'before anything could be kept'}."
    )
    assert bool(list(tmp_path.rglob("state.json"))) == cache
    for file in tmp_path.rglob("state.json"):
        file.write_text(file.read_text().replace("0", "1", 1))
    again = pretrain(molecules, config=config, cache=cache)
    assert ("the pre-training begins anew" in capsys.readouterr().err) == cache
    assert same(again, pretrain(molecules, config=config, cache=False))


def test_a_killed_run_leaves_nothing_and_a_damaged_one_is_made_again(molecules, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("MEDREC_CACHE_DIR", str(tmp_path))
    config = replace(SMALL, coords="random", epochs=1)

    def killed(*_args, **_kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(stage1.Pretrained, "__init__", killed)
        with pytest.raises(KeyboardInterrupt):
            pretrain(molecules, config=config)
    with monkeypatch.context() as patch:
        patch.setattr(stage1.json, "dumps", _only_short(stage1.json.dumps))
        with pytest.raises(KeyboardInterrupt):
            pretrain(molecules, config=config)
    assert [p for p in tmp_path.rglob("*") if p.is_file() and "checkpoint" not in str(p)] == []
    whole = pretrain(molecules, config=config)
    assert [p for p in tmp_path.rglob("*") if "checkpoint" in str(p)] == []
    for name in ("tensors.safetensors", "history.csv", "report.json"):
        (file,) = tmp_path.rglob(name)
        content = file.read_bytes()
        middle = len(content) // 2
        file.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
        capsys.readouterr()
        again = pretrain(molecules, config=config)
        (line,) = capsys.readouterr().err.splitlines()
        assert f"{name} does not fit its checksum" in line
        assert all(torch.equal(whole.embeddings[k], again.embeddings[k]) for k in whole.embeddings)
    pretrain(molecules, config=config)
    assert capsys.readouterr().err == ""


def _only_short(dumps):
    """As if the process were killed while the last file is written."""

    def wrapped(content, **options):
        if isinstance(content, dict) and "molecule" in content:
            raise KeyboardInterrupt
        return dumps(content, **options)

    return wrapped


@pytest.mark.parametrize(
    "change",
    [{"epochs": -3}, {"learning_rate": math.nan}, {"dropout": 1.0}, {"width": 0}, {"coords": "flatt"}],
    ids=str,
)
def test_a_setting_out_of_its_range_is_refused(molecules, change):
    (name,) = change
    with pytest.raises(MedrecError, match=f"{name} is "):
        pretrain(molecules, config=replace(SMALL, **change), cache=False)
