"""BiMoRec, stages 2 and 3: every equation by hand, batched against one visit at a time, switches, ablations."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from medrec.data.batch import VisitBatch
from medrec.models.base import Context
from medrec.models.bimorec import VARIANTS, aggregate, fragment_slots, prescribed_rows, write_back
from medrec.models.registry import get
from medrec.types import MedrecError
from tests.models.battery import Battery, Case, output
from tests.toys import random_cohort


def close(actual, expected, atol=5e-5):
    torch.testing.assert_close(actual, torch.as_tensor(expected), atol=atol, rtol=0)


# -- equations by hand ---------------------------------------------------------------------------------------------

MOLECULES = torch.tensor([[2.0, 0, 1, 1], [0, 2, 0, 0], [1, 1, 0, 2]])


def enhance(x):
    """Attention with the identity as queries, keys and values, and the first normalisation."""
    attended = (x @ x.transpose(-1, -2) / x.shape[-1] ** 0.5).softmax(-1) @ x
    return nn.functional.layer_norm(x + attended, (x.shape[-1],))


def test_only_molecules_that_were_prescribed_together_are_enhanced():
    prescribed = torch.tensor([[True, False, True], [True, False, False]])
    rows, real = prescribed_rows(prescribed, torch.eye(3))
    assert rows[0].tolist() == [0, 2]
    assert real.tolist() == [[True, True], [True, False]]
    enhanced = torch.zeros(2, 2, 4)
    enhanced[0] = enhance(MOLECULES[rows[0]])
    enhanced[1, :1] = enhance(MOLECULES[rows[1, :1]])
    after = write_back(MOLECULES, rows, real, enhanced, torch.eye(3))
    close(after[0, 0], [1.3974, -1.3974, -0.2171, 0.2171])
    close(after[0, 1], MOLECULES[1])
    close(after[0, 2], [0.2171, -0.2171, -1.3974, 1.3974])
    close(after[1], torch.stack([torch.tensor([1.4142, -1.4142, 0, 0]), MOLECULES[1], MOLECULES[2]]))


def test_a_molecule_of_two_medications_changes_both():
    average = torch.tensor([[0.5, 0.5, 0], [0, 1, 0], [0, 0, 1]])
    prescribed = torch.tensor([[False, True, False]])
    rows, real = prescribed_rows(prescribed, average)
    after = write_back(MOLECULES, rows, real, torch.full((1, 1, 4), 9.0), average)
    close(after[0, 1], [9.0] * 4)
    close(after[0, 0], (MOLECULES[0] + 9) / 2)
    close(after[0, 2], MOLECULES[2])


def test_attention_over_own_fragments_only():
    mask = torch.tensor([[1, 0, 1], [0, 1, 0], [0, 0, 0]]).bool()
    keys = torch.tensor([[1.0, 0], [0, 1], [1, 1]])
    values = torch.tensor([[1.0, 2], [3, 4], [5, 6]])
    queries = torch.tensor([[[1.0, 0], [0, 1], [1, 1]], [[0, 2], [1, 0], [3, 1]]])
    weights = torch.tensor([[0.5, 1, 0.25], [1, 0.1, 1]])
    slots, real = fragment_slots(mask)
    Y, attention = aggregate(queries, keys, values, weights, slots, real)
    # The equation without a loop: the dense masked softmax, values weighted and keys not.
    scores = (queries @ keys.T / 2**0.5).masked_fill(~mask, -torch.inf)
    dense = torch.nan_to_num(scores.softmax(-1))
    close(Y.transpose(0, 1), torch.einsum("vms,vs,sd->vmd", dense, weights, values), atol=1e-6)
    assert not Y[2].any()
    close(attention[:2].sum(-1), torch.ones(2, 2), atol=1e-6)
    weighted_keys = torch.nan_to_num((scores * weights[:, None]).masked_fill(~mask, -torch.inf).softmax(-1))
    assert not torch.allclose(dense, weighted_keys)


def test_gate_times_linear():
    y, W, b, w = torch.tensor([1.0, 2]), torch.tensor([[1.0, -1], [0.5, 2]]), torch.tensor([0.1, -0.1]), 0.25
    close(W @ (w * y) + b, [-0.15, 1.025])
    close(w * (W @ y) + b, [-0.15, 1.025])
    close(w * (W @ y + b), [-0.225, 1.1])


# -- the whole -----------------------------------------------------------------------------------------------------


def paper_sized():
    """A context of the published sizes; the molecules are not looked at."""
    cohort = random_cohort(2, n_diagnoses=1958, n_procedures=1430, n_medications=131)
    context = Case("bimorec").context(cohort)
    mask = torch.zeros(131, 435, dtype=torch.bool)
    return replace(context, molecules=replace(context.molecules, fragment_mask=mask))


def count(module):
    return sum(p.numel() for p in module.parameters())


def test_parameters_of_the_released_network():
    network = get("bimorec").cls(get("bimorec").configure("official"), paper_sized())
    assert count(network.past) == 103_752
    assert count(network.embedding) == 450_432
    assert count(network.molecule_encoder) == count(network.fragment_encoder) == 295_684
    assert count(network.selector) == 105_395
    assert count(network.current) == 49_795
    assert count(network.output) == 34_453
    assert count(network.fragment_attention) == count(network.molecule_attention) == 66_560
    assert count(network) == 1_511_708
    alone = count(network.current) + count(network.embedding["diagnosis"]) + count(network.embedding["procedure"])
    assert alone == 483_459


SMALL = {"width": 16, "gin_layers": 2, "pretrain": False}


def case(**more):
    return Case("bimorec", {**SMALL, **more.pop("settings", {})}, uses_ddi_in_loss=True, steps=300, gain=2.0, **more)


class TestPaper(Battery):
    case = case()


class TestOfficial(Battery):
    case = case(settings={**VARIANTS["official"], "tau_schedule": "fixed"})


class TestWithoutEnhancement(Battery):
    case = case(settings={"history": "plain"})


class TestCodesAndHistory(Battery):
    case = case(settings=VARIANTS["wo_TE"])


class TestCurrentVisitAlone(Battery):
    case = case(settings=VARIANTS["current_only"], sees_past=())


class TestFreeVectors(Battery):
    case = case(settings={"molecules": "free"})


class TestNoGlobalSelection(Battery):
    case = case(settings={"gse": False})


class TestNoGate(Battery):
    case = case(settings={"gate": False})


class TestMeanOfPastVisits(Battery):
    case = case(settings={"past_visits": "mean"})


def one_visit_at_a_time(network, cohort, context):
    """The route of the published code: for every visit its prefix, for every past visit a fresh molecule table."""
    config, logits = network.config, []
    table, fragments = network._encode(context.molecules)
    average, mask = context.molecules.average[network.order], context.molecules.fragment_mask[network.order]

    def embedded(kind, ids):
        return network.embedding[kind].weight[torch.as_tensor(np.array(ids), dtype=torch.long)].sum(0)

    for p in range(cohort.n_patients):
        visits = range(cohort.visit_offsets[p], cohort.visit_offsets[p + 1])
        for t, visit in enumerate(visits):
            d, pr = (embedded(kind, cohort.codes[kind][visit]) for kind in ("diagnosis", "procedure"))
            r = network.current(torch.cat([d, pr]))
            if t == 0:
                logits.append(r)
                continue
            gate_logits = r if config.share_current_mlp else (network.gate(torch.cat([d, pr])) if config.gate else r)
            W_n = torch.sigmoid(gate_logits) if config.gate else torch.ones_like(r)
            scores = []
            for past in list(visits)[:t]:
                e = torch.cat([embedded(kind, cohort.codes[kind][past]) for kind in network.embedding])
                W_s = torch.sigmoid(network.selector(torch.relu(e)))
                E_n = table.clone()
                if config.gse:
                    taken = average[torch.as_tensor(cohort.codes["medication"][past], dtype=torch.long)].sum(0)
                    chosen = taken.nonzero()[:, 0].tolist()
                    if chosen:
                        E_n[chosen] = network.molecule_attention(table[chosen])
                medications = average @ E_n
                S = network.query(medications) @ network.key(fragments).T / config.width**0.5
                A = S.masked_fill(~mask, -torch.inf).softmax(-1)
                empty = ~mask.any(1)
                A[empty] = 1 / len(fragments) if config.no_fragment_rows == "uniform" else 0.0
                Y = A @ torch.diag(W_s) @ fragments
                scores.append(network.score(torch.diag(W_n) @ Y)[:, 0])
            if config.past_visits == "mean":
                logits.append(torch.stack(scores).mean(0) + r)
                continue
            outputs, hidden = network.past(torch.stack(scores)[None])
            logits.append(network.output(torch.relu(torch.cat([hidden[0, 0], outputs[0, -1]]))) + r)
    return torch.stack(logits)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {**VARIANTS["official"], "tau_schedule": "fixed"},
        {"gse": False},
        {"gate": False},
        {"molecules": "shuffled"},
        {"past_visits": "mean"},
    ],
)
def test_batched_equals_one_visit_at_a_time(settings):
    cohort = random_cohort(10, seed=2, max_visits=6)
    network, context = case().build(cohort, **settings).eval(), case().context(cohort)
    together, _ = output(network, cohort, context)
    batch = VisitBatch.build(cohort, np.arange(cohort.n_patients))
    with torch.no_grad():
        alone = one_visit_at_a_time(network, cohort, context)
    torch.testing.assert_close(together[batch.visit_mask], alone, atol=1e-5, rtol=1e-5)


def first_and_later(network, cohort, context):
    logits, scored = output(network, cohort, context)
    return logits[:, 0], logits[:, 1:][scored[:, 1:]]


def test_first_visits_never_touch_a_molecule():
    cohort = random_cohort(12, seed=3)
    network, context = case().build(cohort), case().context(cohort)
    molecules = context.molecules
    turned = replace(context, molecules=replace(molecules, average=molecules.average.roll(1, 0)))
    (first, later), (first_turned, later_turned) = (first_and_later(network, cohort, c) for c in (context, turned))
    assert torch.equal(first, first_turned)
    # Molecules only decide how a medication shares its attention among its fragments: little, before training.
    assert (later - later_turned).abs().max() > 1e-6


def test_a_batch_of_first_visits_gives_the_encoders_no_gradient():
    cohort = random_cohort(12, seed=3, max_visits=1)
    network, context = case().build(cohort).train(), case().context(cohort)
    batch = VisitBatch.build(cohort, np.arange(cohort.n_patients))
    network.loss(batch, network(batch, context), context).backward()
    assert all(p.grad is None for p in network.molecule_encoder.parameters())
    assert all(p.grad is not None for p in network.current.parameters())


def test_order_of_past_visits_matters():
    cohort = random_cohort(20, seed=4, max_visits=3)
    patient = int(np.flatnonzero(np.diff(cohort.visit_offsets) == 3)[0])
    one = cohort.select(np.array([patient]))
    swapped = replace(one, codes={kind: rows.take(np.array([1, 0, 2])) for kind, rows in one.codes.items()})
    network, context = case().build(cohort), case().context(cohort)
    before, after = (output(network, c, context)[0][0, 2] for c in (one, swapped))
    assert not torch.allclose(before, after, atol=1e-6)


def test_the_shared_perceptron_shuts_the_history_of_what_the_visit_makes_unlikely():
    cohort = random_cohort(20, seed=4)
    network, context = case().build(cohort, share_current_mlp=True).eval(), case().context(cohort)
    assert not hasattr(network, "gate")
    with torch.no_grad():
        network.current[-1].bias.fill_(-60.0)
    # Gates are 0 and every score is the perceptron's constant: what was given does not matter.
    batch = VisitBatch.build(cohort, np.arange(cohort.n_patients))
    with torch.no_grad():
        later = batch.visit_mask[:, 1]
        codes = torch.cat([network._sum(batch, kind) for kind in ("diagnosis", "procedure")], 1)
        added = (network(batch, context) - network.current(codes).reshape(batch.target.shape))[:, 1][later]
    torch.testing.assert_close(added, added[:1].expand_as(added), atol=1e-4, rtol=0)


def names(variant):
    cohort = random_cohort(4)
    config = get("bimorec").configure(variant, {"width": 16, "gin_layers": 2})
    network = get("bimorec").cls(config, case().context(cohort))
    return {name: tuple(p.shape) for name, p in network.named_parameters()}


@pytest.mark.parametrize("variant", ["wo_T", "flat", "shuffled_partners", "shuffled_molecules", "frozen"])
def test_variants_that_keep_every_parameter(variant):
    assert names(variant) == names("paper")


@pytest.mark.parametrize(
    ("variant", "gone", "new"),
    [
        ("no_gse", {"molecule_attention"}, set()),
        ("no_gate", {"gate"}, set()),
        ("mean_past", {"past", "output"}, set()),
        ("wo_E", {"molecule_attention", "gate", "past", "output"}, {"patient"}),
        ("current_only",
         {"molecule_attention", "gate", "past", "output", "molecule_encoder", "fragment_encoder",
          "fragment_attention", "selector", "query", "key", "score"}, set()),
        ("free_table", {"molecule_encoder", "fragment_encoder"}, {"molecule_table", "fragment_table"}),
    ],
)  # fmt: skip
def test_ablations_take_out_what_they_name(variant, gone, new):
    def parts(variant):
        return {name.partition(".")[0] for name in names(variant)}

    assert parts("paper") - parts(variant) == gone
    assert parts(variant) - parts("paper") == new


def test_without_both_there_is_no_molecule():
    parts = {name.partition(".")[0] for name in names("wo_TE")}
    assert parts == {"embedding", "current", "patient", "output"}


def test_nothing_to_enhance_is_an_error():
    with pytest.raises(MedrecError, match="history='plain'"):
        case().build(random_cohort(4), molecules="none")


def test_frozen_encoders_get_no_gradient():
    cohort = random_cohort(12, seed=3)
    network, context = case().build(cohort, train_encoders=False).train(), case().context(cohort)
    batch = VisitBatch.build(cohort, np.arange(cohort.n_patients))
    network.loss(batch, network(batch, context), context).backward()
    assert all(p.grad is None for p in network.molecule_encoder.parameters())
    assert network.selector[0].weight.grad.abs().sum() > 0


def test_the_temperature_moves_only_where_asked_for():
    cohort = random_cohort(4)
    fixed, moving = case().build(cohort), case().build(cohort, tau_schedule="validation")
    for jaccard, expected in ((0.6, 2.75), (0.6, 3.025), (0.5, 2.7225), (0.5, 2.5), (0.5, 2.5)):
        fixed.after_epoch(jaccard)
        moving.after_epoch(jaccard)
        assert float(moving.temperature) == pytest.approx(expected)
    assert float(fixed.temperature) == 2.5


def test_shuffled_molecules_stay_shuffled_after_loading():
    cohort = random_cohort(6)
    one, other = (case().build(cohort, seed=s, molecules="shuffled") for s in (1, 2))
    assert sorted(one.order.tolist()) == list(range(cohort.n_medications))
    assert one.order.tolist() != other.order.tolist()
    other.load_state_dict(one.state_dict())
    assert one.order.tolist() == other.order.tolist()


def test_reasons_are_the_parts_of_the_aggregation():
    cohort = random_cohort(20, seed=4, max_visits=3)
    patient = int(np.flatnonzero(np.diff(cohort.visit_offsets) == 3)[0])
    network, context = case().build(cohort).eval(), case().context(cohort)
    batch = VisitBatch.build(cohort, np.array([patient]))
    with torch.no_grad():
        reasons = network.explain(batch, context)
        first = network.explain(
            VisitBatch.build(cohort, np.flatnonzero(np.diff(cohort.visit_offsets) == 1)[:1]), context
        )
    assert first is None
    fragments, molecules = (reasons.filter(kind=kind) for kind in ("fragment", "molecule"))
    assert set(fragments["medication"]) == {
        code
        for code, row in zip(context.vocab["medication"].codes, context.molecules.fragment_mask, strict=True)
        if row.any()
    }
    assert ((fragments["weight"] > 0) & (fragments["weight"] < 1)).all()
    given = batch.target[0, 1] & (context.molecules.average.sum(1) > 0)
    codes = [code for code, yes in zip(context.vocab["medication"].codes, given, strict=True) if yes]
    assert set(molecules["medication"]) == set(codes)
    # An equal share is 1.
    unique = molecules.unique("what")
    assert unique["weight"].mean() == pytest.approx(1, abs=1e-5)


def test_context_without_molecules_needs_none_only_without_them():
    cohort = random_cohort(4)
    bare = Context(cohort.vocab, case().context(cohort).ddi)
    assert get("bimorec").cls(get("bimorec").configure("wo_TE"), bare)
