"""BiMoRec, stages 2 and 3: eqs. 12-14 and 18-26 by hand, batched against one visit at a time, switches, ablations.

Eqs. 15-17 are in ``tests/nn/test_set_attention.py``, 27-31 in ``tests/test_losses.py``, stage 1 in
``test_bimorec_pretraining.py``.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from medrec.context import Context
from medrec.data.batch import VisitBatch
from medrec.models.bimorec import VARIANTS, aggregate, gated_linear, prescribed_rows, write_back
from medrec.models.registry import get
from medrec.nn.set_attention import fragment_slots
from medrec.types import MedrecError
from tests.models.battery import Battery, Case, Whole, output, recode
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
    W, b = torch.tensor([[1.0, -1], [0.5, 2]]), torch.tensor([0.1, -0.1])
    # Two medications, two past visits; the pairs read visits 1, 0, 1.
    rows = torch.tensor([[[0.0, 0], [1, 2]], [[3, 1], [0, 1]]])
    gates, visit = torch.tensor([[0.25, 0.5], [0.25, 0.5], [1, 0]]), torch.tensor([1, 0, 1])
    hidden = gated_linear(gates, rows, visit, W, b)
    # W (1/4 y) + b = (1/4 (1 - 2) + 0.1, 1/4 (0.5 + 4) - 0.1); with the bias scaled it would be (-0.225, 1.1).
    close(hidden[0], [[-0.15, 1.025], [0.1, -0.1], [-0.9, 4.4]], atol=1e-6)
    close(hidden[1], [[-0.4, 0.9], [1.1, 1.65], [0.1, -0.1]], atol=1e-6)
    close(hidden, torch.stack([(gates[p, :, None] * rows[:, visit[p]]) @ W.T + b for p in range(3)], 1), atol=1e-6)


# The rest with a small network's own weights: what goes into a layer and comes out of it is recorded while the network
# runs, and made again here code by code, medication by medication and visit by visit.


class Recorded:
    """One patient with three visits, and what the layers of a small network saw and said."""

    def __init__(self):
        cohort = random_cohort(20, seed=4, max_visits=3)
        patient = int(np.flatnonzero(np.diff(cohort.visit_offsets) == 3)[0])
        self.one = cohort.select(np.array([patient]))
        self.network = case().build(cohort, width=8, gin_layers=1).eval()
        with torch.no_grad():  # as in the battery: an untrained network passes on little
            for parameter in self.network.parameters():
                parameter.mul_(2)
        self.context, self.batch = case().context(cohort), VisitBatch.build(self.one, np.array([0]))
        self.into, self.out, hooks = {}, {}, []
        for name in ("selector", "gate", "current", "past", "output"):
            hooks.append(getattr(self.network, name).register_forward_hook(self._keep(name)))
        with torch.no_grad():
            self.logits = self.network(self.batch, self.context)[0].numpy()
        for hook in hooks:
            hook.remove()

    def _keep(self, name):
        def hook(_layer, inputs, output):
            self.into[name] = inputs[0].numpy()
            self.out[name] = (output[0] if isinstance(output, tuple) else output).numpy()

        return hook

    def embedded(self, kind, visit):
        """Sum over the codes of a visit, one by one."""
        table, total = self.network.embedding[kind].weight.detach().numpy(), np.zeros(8)
        for code in self.one.codes[kind][visit]:
            total = total + table[code]
        return total

    def visit(self, visit, *kinds):
        return np.concatenate([self.embedded(kind, visit) for kind in kinds])


@pytest.fixture(scope="module")
def run():
    return Recorded()


ALL = ("diagnosis", "procedure", "medication")


def by_hand(actual, expected, atol=1e-6):
    np.testing.assert_allclose(actual, expected, atol=atol, rtol=0)


def linear(layer, x):
    return layer.weight.detach().numpy().astype(float) @ x + layer.bias.detach().numpy()


def relu(x):
    return np.maximum(x, 0)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def perceptron(layers, x):
    """Of the codes of a visit, eqs. 23 and 26: ReLU, linear, ReLU, linear."""
    return linear(layers[3], relu(linear(layers[1], relu(x))))


def test_codes_of_a_visit_by_hand(run):
    # Eqs. 12 and 13 for the two past visits; the ReLU is the first of the perceptron of eq. 14.
    by_hand(run.into["selector"], [relu(run.visit(j, *ALL)) for j in (0, 1)])
    # Eqs. 21 and 22.
    for name in ("gate", "current"):
        by_hand(run.into[name], [run.visit(t, *ALL[:2]) for t in (0, 1, 2)])


def test_selection_of_fragments_by_hand(run):
    # Eq. 14. Each medication has one fragment here, so its attention is 1 and its part is the selection.
    network, M, S = run.network, run.one.n_medications, run.context.molecules.fragment_mask.shape[1]
    visits = torch.tensor(np.stack([run.visit(j, *ALL) for j in (0, 1)]), dtype=torch.float32)
    with torch.no_grad():
        _, parts = network._aggregated(torch.randn(2, M, 8), torch.randn(S, 8), visits, torch.eye(M, S).bool())
    selected = [sigmoid(linear(network.selector[1], linear(network.selector[0], relu(v)))) for v in visits.numpy()]
    by_hand(parts[:, :, 0].T, np.array(selected)[:, :M])


def test_gated_scores_by_hand(run):
    # Eqs. 23 and 24; what goes into the GRU: targets 1 and 2, the first of which has one past visit.
    network, molecules, score = run.network, run.context.molecules, run.network.score
    with torch.no_grad():
        table, fragments = network._encode(molecules)
        medications = network._medications(run.batch.target[0, :2], table, molecules.average)
        visits = torch.tensor(np.stack([run.visit(j, *ALL) for j in (0, 1)]), dtype=torch.float32)
        Y = network._aggregated(medications, fragments, visits, molecules.fragment_mask)[0].numpy()
    for k, t in enumerate((1, 2)):
        W_n = sigmoid(perceptron(network.gate, run.visit(t, *ALL[:2])))
        for j in range(t):
            for m in range(run.one.n_medications):
                hidden = relu(linear(score[2], relu(linear(score[0], W_n[m] * Y[m, j]))))
                by_hand(run.into["past"][k, j, m], linear(score[4], hidden)[0])
    assert not run.into["past"][0, 1].any()
    # Both targets read the same past visit; their gates tell them apart.
    assert np.abs(run.into["past"][0, 0] - run.into["past"][1, 0]).max() > 0.01


def test_recurrence_by_hand(run):
    # Eq. 25, gate by gate.
    gru, M = run.network.past, run.one.n_medications
    W_x, W_h, b_x, b_h = (
        getattr(gru, f"{n}_l0").detach().numpy() for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    for k, t in enumerate((1, 2)):
        h = np.zeros(M)
        for j in range(t):
            x_r, x_z, x_n = np.split(W_x @ run.into["past"][k, j] + b_x, 3)
            h_r, h_z, h_n = np.split(W_h @ h + b_h, 3)
            reset, keep = sigmoid(x_r + h_r), sigmoid(x_z + h_z)
            h = (1 - keep) * np.tanh(x_n + reset * h_n) + keep * h
            by_hand(run.out["past"][k, j], h)
        # Eq. 26 reads the state after the last past visit, twice.
        by_hand(run.into["output"][k], relu(np.concatenate([h, h])))


def test_logits_by_hand(run):
    # Eq. 26; a first visit has the second term alone.
    r = [perceptron(run.network.current, run.visit(t, *ALL[:2])) for t in (0, 1, 2)]
    by_hand(run.logits[0], r[0])
    for k, t in enumerate((1, 2)):
        by_hand(run.logits[t], linear(run.network.output, run.into["output"][k]) + r[t])


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
    network = get("bimorec").create(get("bimorec").configure("official"), paper_sized())
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


class PretrainedCase(Case):
    """A network after :meth:`prepare`, as training starts with it."""

    def build(self, cohort, seed=0, **settings):
        network = super().build(cohort, seed, **settings)
        network.prepare(cohort, np.arange(cohort.n_patients), self.context(cohort))
        return network


TINY = {
    "pretrain": True, "pretraining_epochs": 1, "gvp_layers": 1, "gvp_scalars": 8, "gvp_vectors": 4,
    "ddi_target": "absolute",  # that of the toy prescriptions would leave little to learn
}  # fmt: skip


def case(kind=Case, **more):
    return kind("bimorec", {**SMALL, **more.pop("settings", {})}, uses_ddi_in_loss=True, steps=300, gain=2.0, **more)


class TestPaper(Battery):
    case = case()


class TestPretrained(Battery):
    case = case(PretrainedCase, settings=TINY)


class TestFlatDrawings(Battery):
    case = case(PretrainedCase, settings={**TINY, **VARIANTS["flat"]})


class TestShuffledPartners(Battery):
    case = case(PretrainedCase, settings={**TINY, **VARIANTS["shuffled_partners"]})


class TestPaperScale(Battery):
    case = case(PretrainedCase, settings={**TINY, **VARIANTS["paper_scale"], "pretraining_epochs": 1})


class TestFrozen(Battery):
    case = case(PretrainedCase, settings={**TINY, **VARIANTS["frozen"]}, idle=("molecule_encoder", "fragment_encoder"))


class TestShuffledMolecules(Battery):
    # Who is left without a fragment would be the shuffle's choice.
    case = case(Whole, settings={**VARIANTS["shuffled_molecules"], "pretrain": False})


class TestOfficial(Battery):
    case = case(settings={**VARIANTS["official"], "pretrain": False}, schedule=("temperature",))


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


def embedded(network, cohort, kind, visit):
    ids = torch.as_tensor(np.array(cohort.codes[kind][visit]), dtype=torch.long)
    return network.embedding[kind].weight[ids].sum(0)


def attended(network, medications, fragments, W_s, mask):
    """Dense attention and aggregation, eqs. 19 and 20: ``(M, S)`` and ``(M, d)``."""
    if network.config.without_structure == "learnt":
        bare, mask = network.free.rows, mask.clone()
        medications[bare], mask[bare] = network.free.vectors, True
    scores = network.query(medications) @ network.key(fragments).T / network.config.width**0.5
    A = scores.masked_fill(~mask, -torch.inf).softmax(-1)
    A[~mask.any(1)] = 1 / len(fragments) if network.config.without_structure == "uniform" else 0.0
    return A, A @ torch.diag(W_s) @ fragments


def read_past_visit(network, cohort, context, past):
    """A past visit with a fresh molecule table: what it selects, what medications attend to, ``Y``; eqs. 12-20."""
    table, fragments = network._encode(context.molecules)
    average, mask = context.molecules.average[network.order], context.molecules.fragment_mask[network.order]
    e = torch.cat([embedded(network, cohort, kind, past) for kind in network.embedding])
    E_n = table.clone()
    if network.config.gse:
        taken = average[torch.as_tensor(cohort.codes["medication"][past], dtype=torch.long)].sum(0)
        chosen = taken.nonzero()[:, 0].tolist()
        if chosen:
            E_n[chosen] = network.molecule_attention(table[chosen])
    W_s = torch.sigmoid(network.selector(torch.relu(e)))
    return W_s, *attended(network, average @ E_n, fragments, W_s, mask)


def read_plain_history(network, cohort, context, visits):
    """The past visits and the codes of the last one read to one vector, with neither gate nor attention, ``(M,)``."""
    seen = [torch.cat([embedded(network, cohort, kind, visit) for kind in network.embedding]) for visit in visits]
    seen[-1][2 * network.config.width :] = 0
    patient = network.patient(torch.stack(seen)[None])[1][0, 0]
    if network.config.molecules == "none":
        return network.output(torch.relu(patient))
    table, fragments = network._encode(context.molecules)
    average, mask = context.molecules.average[network.order], context.molecules.fragment_mask[network.order]
    W_s = torch.sigmoid(network.selector(torch.relu(patient)))
    return network.score(attended(network, average @ table, fragments, W_s, mask)[1])[:, 0]


def one_visit_at_a_time(network, cohort, context):
    """The route of the published code: for every visit its prefix, for every past visit a fresh molecule table."""
    config, logits = network.config, []
    for p in range(cohort.n_patients):
        visits = list(range(cohort.visit_offsets[p], cohort.visit_offsets[p + 1]))
        for t, visit in enumerate(visits):
            codes = torch.cat([embedded(network, cohort, kind, visit) for kind in ("diagnosis", "procedure")])
            r = network.current(codes)
            if t == 0 or config.history == "none":
                logits.append(r)
                continue
            if config.history == "plain":
                logits.append(read_plain_history(network, cohort, context, visits[: t + 1]) + r)
                continue
            gate_logits = r if config.share_current_mlp else (network.gate(codes) if config.gate else r)
            W_n = torch.sigmoid(gate_logits) if config.gate else torch.ones_like(r)
            scores = []
            for past in visits[:t]:
                _, _, Y = read_past_visit(network, cohort, context, past)
                scores.append(network.score(torch.diag(W_n) @ Y)[:, 0])
            if config.past_visits == "mean":
                logits.append(torch.stack(scores).mean(0) + r)
                continue
            outputs, hidden = network.past(torch.stack(scores)[None])
            logits.append(network.output(torch.relu(torch.cat([hidden[0, 0], outputs[0, -1]]))) + r)
    return torch.stack(logits)


OFFICIAL = VARIANTS["official"]


def compare_routes(settings, change=lambda context: context):
    cohort = random_cohort(10, seed=2, max_visits=6)
    network, context = case().build(cohort, **settings).eval(), change(case().context(cohort))
    together, _ = output(network, cohort, context)
    batch = VisitBatch.build(cohort, np.arange(cohort.n_patients))
    with torch.no_grad():
        alone = one_visit_at_a_time(network, cohort, context)
    assert torch.isfinite(together).all()
    torch.testing.assert_close(together[batch.visit_mask], alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        OFFICIAL,
        {"gse": False},
        {"gate": False},
        {"molecules": "shuffled"},
        {"molecules": "free"},
        {"past_visits": "mean"},
        VARIANTS["wo_E"],
        VARIANTS["wo_TE"],
        VARIANTS["current_only"],
    ],
)
def test_batched_equals_one_visit_at_a_time(settings):
    compare_routes({**settings, "pretrain": False})


def without_fragments(context):
    molecules = context.molecules
    return replace(context, molecules=replace(molecules, fragment_mask=torch.zeros_like(molecules.fragment_mask)))


@pytest.mark.parametrize("settings", [{}, OFFICIAL, {"past_visits": "mean"}, VARIANTS["wo_E"]])
def test_routes_agree_where_no_medication_has_a_fragment(settings):
    compare_routes({**settings, "pretrain": False}, without_fragments)


def test_no_fragments_at_all_leave_zero_rows_or_uniform_attention():
    cohort = random_cohort(20, seed=4, max_visits=3)
    batch = VisitBatch.build(cohort, np.arange(cohort.n_patients))
    zero, uniform = (case().build(cohort, without_structure=rows).eval() for rows in ("zero", "uniform"))
    context = without_fragments(case().context(cohort))
    M, S = context.molecules.fragment_mask.shape
    visits, medications, fragments = torch.randn(2, 48), torch.randn(2, M, 16), torch.randn(S, 16)
    with torch.no_grad():
        Y, parts = zero._aggregated(medications, fragments, visits, context.molecules.fragment_mask)
        assert not Y.any()
        assert not parts.any()
        Y, _ = uniform._aggregated(medications, fragments, visits, context.molecules.fragment_mask)
        W_s = torch.sigmoid(uniform.selector(torch.relu(visits)))
        torch.testing.assert_close(Y, (W_s[:, :, None] * fragments).mean(1).expand(M, -1, -1), atol=1e-6, rtol=1e-5)
        # Zero rows: each past visit is the score of nothing, and only how many there were reaches the logits.
        codes = torch.cat([zero._sum(batch, kind) for kind in ALL[:2]], 1)
        logits = zero(batch, context)
        history = logits - zero.current(codes).reshape(batch.target.shape)
        nothing = zero.score(torch.zeros(16)).expand(1, 2, M)
        states = zero.past(nothing)[0][0]
        expected = zero.output(torch.relu(torch.cat([states, states], 1)))
    for t in (1, 2):
        there = batch.visit_mask[:, t]
        torch.testing.assert_close(history[there, t], expected[t - 1].expand(int(there.sum()), -1), atol=1e-5, rtol=0)
    with torch.no_grad():
        reasons = zero.explain(
            VisitBatch.build(cohort, np.flatnonzero(np.diff(cohort.visit_offsets) == 3)[:1]), context
        )
    assert set(reasons["kind"]) == {"molecule"}


def first_and_later(network, cohort, context):
    logits, scored = output(network, cohort, context)
    return logits[:, 0], logits[:, 1:][scored[:, 1:]]


def test_first_visits_never_touch_a_molecule():
    cohort = random_cohort(12, seed=3)
    network, context = case().build(cohort), case().context(cohort)
    with torch.no_grad():
        # Molecules only decide how a medication shares its attention among its fragments: little, before training.
        network.query.weight.mul_(10)
    molecules = context.molecules
    turned = replace(context, molecules=replace(molecules, average=molecules.average.roll(1, 0)))
    (first, later), (first_turned, later_turned) = (first_and_later(network, cohort, c) for c in (context, turned))
    assert torch.equal(first, first_turned)
    assert (later - later_turned).abs().max() > 1e-6


def test_a_batch_of_first_visits_gives_the_encoders_no_gradient():
    cohort = random_cohort(12, seed=3, max_visits=1)
    network, context = case().build(cohort).train(), case().context(cohort)
    batch = VisitBatch.build(cohort, np.arange(cohort.n_patients))
    network.loss(batch, context).backward()
    assert all(p.grad is None for p in network.molecule_encoder.parameters())
    assert all(p.grad is not None for p in network.current.parameters())


def test_order_of_past_visits_matters():
    cohort = random_cohort(20, seed=4, max_visits=3)
    patient = int(np.flatnonzero(np.diff(cohort.visit_offsets) == 3)[0])
    one = cohort.select(np.array([patient]))
    swapped = replace(one, codes={kind: rows.take(np.array([1, 0, 2])) for kind, rows in one.codes.items()})
    network, context = case().build(cohort), case().context(cohort)
    with torch.no_grad():
        network.past.weight_ih_l0.mul_(10)  # an untrained GRU hardly tells its inputs apart
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
    network = get("bimorec").create(config, case().context(cohort))
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
          "fragment_attention", "selector", "query", "key", "score", "free"}, set()),
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
    network.loss(batch, context).backward()
    assert all(p.grad is None for p in network.molecule_encoder.parameters())
    assert network.selector[0].weight.grad.abs().sum() > 0


def test_prepared_encoders_are_the_pretrained_ones_with_their_statistics():
    cohort = random_cohort(12, seed=3)
    system = case(PretrainedCase, settings={**TINY, "train_encoders": False})
    fresh, ready = case().build(cohort), system.build(cohort)
    other = system.build(cohort, seed=1)
    for name in ("molecule_encoder", "fragment_encoder"):
        before, after, again = (getattr(n, name).state_dict() for n in (fresh, ready, other))
        assert all(torch.equal(after[k], again[k]) for k in after)
        assert not torch.equal(before["atoms.weight"], after["atoms.weight"])
        assert after["norms.0.running_mean"].any()
    # Everything else is what the seed gave.
    rest = {k: v for k, v in ready.state_dict().items() if "_encoder" not in k}
    assert all(torch.equal(v, fresh.state_dict()[k]) for k, v in rest.items())
    # Frozen encoders keep their weights; their statistics go on.
    kept = {k: v.clone() for k, v in ready.molecule_encoder.state_dict().items()}
    context, batch = system.context(cohort), VisitBatch.build(cohort, np.arange(cohort.n_patients))
    optimiser = torch.optim.Adam(ready.parameters(), lr=0.01)
    ready.train()
    ready.loss(batch, context).backward()
    optimiser.step()
    parameters = {k for k, _ in ready.molecule_encoder.named_parameters()}
    now = ready.molecule_encoder.state_dict()
    assert all(torch.equal(now[k], kept[k]) for k in parameters)
    assert not torch.equal(now["norms.0.running_mean"], kept["norms.0.running_mean"])


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


def attention_by_hand(layer, x):
    """Weights ``(L, L)`` of a set attention, mean over its two heads."""
    q, k = layer.query(x).chunk(2, 1), layer.key(x).chunk(2, 1)
    return sum((q[h] @ k[h].T / (x.shape[1] / 2) ** 0.5).softmax(1) for h in (0, 1)) / 2


def test_reasons_are_attention_times_selection_of_the_last_past_visit():
    cohort = random_cohort(20, seed=4, max_visits=3)
    patient = int(np.flatnonzero(np.diff(cohort.visit_offsets) == 3)[0])
    one = cohort.select(np.array([patient]))
    network, context = case().build(cohort).eval(), case().context(cohort)
    molecules, codes = context.molecules, context.vocab["medication"].codes
    with torch.no_grad():
        reasons = network.explain(VisitBatch.build(one, np.array([0])), context)
        W_s, A, _ = read_past_visit(network, one, context, 1)
        parts = (A * W_s).numpy()
    assert parts[molecules.fragment_mask].std() > 0.01
    expected = {(codes[m], molecules.fragments[s]): parts[m, s] for m, s in molecules.fragment_mask.nonzero().tolist()}
    found = {
        (medication, what.split(" of ")[0]): weight
        for medication, what, weight in reasons.filter(kind="fragment").select("medication", "what", "weight").rows()
    }
    assert found == pytest.approx(expected, abs=1e-6)
    # What a molecule received from those of its visit, over the share that each would get if all were alike.
    given = np.array(one.codes["medication"][1])
    rows = molecules.average[given].sum(0).nonzero()[:, 0].tolist()
    with torch.no_grad():
        received = attention_by_hand(network.molecule_attention, network._encode(molecules)[0][rows]).sum(0)
    share = dict(zip(rows, received.tolist(), strict=True))
    expected = {(codes[m], f"drug {n}"): share[n] for m in given for n in molecules.average[m].nonzero()[:, 0].tolist()}
    found = {row[:2]: row[2] for row in reasons.filter(kind="molecule").select("medication", "what", "weight").rows()}
    assert found == pytest.approx(expected, abs=1e-5)
    assert sum(share.values()) == pytest.approx(len(rows), abs=1e-5)


def test_reasons_depend_on_the_last_past_visit_alone():
    cohort = random_cohort(20, seed=4, max_visits=3)
    patient = int(np.flatnonzero(np.diff(cohort.visit_offsets) == 3)[0])
    one = cohort.select(np.array([patient]))
    network, context = case().build(cohort).eval(), case().context(cohort)

    def explained(visit=None):
        changed = one
        if visit is not None:
            changed = recode(one, "diagnosis", lambda rows: np.roll(rows, 1, axis=1), np.array([visit]))
        with torch.no_grad():
            return network.explain(VisitBatch.build(changed, np.array([0])), context)

    assert explained().equals(explained(0))
    assert explained().equals(explained(2))
    assert not explained().equals(explained(1))


def test_no_reasons_without_a_past_or_without_enhancement():
    cohort = random_cohort(20, seed=4, max_visits=3)
    context, length = case().context(cohort), np.diff(cohort.visit_offsets)
    first, third = (VisitBatch.build(cohort, np.flatnonzero(length == n)[:1]) for n in (1, 3))
    with torch.no_grad():
        assert case().build(cohort).eval().explain(first, context) is None
        for variant in ("wo_E", "wo_TE", "current_only"):
            settings = {**VARIANTS[variant], "pretrain": False}
            assert case().build(cohort, **settings).eval().explain(third, context) is None
        reasons = case().build(cohort, gse=False).eval().explain(third, context)
    assert set(reasons["kind"]) == {"fragment"}


def test_context_without_molecules_needs_none_only_without_them():
    cohort = random_cohort(4)
    bare = Context(cohort.vocab, case().context(cohort).ddi)
    assert get("bimorec").create(get("bimorec").configure("wo_TE"), bare)
