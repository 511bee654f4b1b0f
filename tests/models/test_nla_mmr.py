"""NLA-MMR: toy numbers of its equations by hand, and the battery of every network."""

import pytest
import torch

from medrec.context import Context, text_of
from medrec.data.batch import VisitBatch
from medrec.losses import margin_loss
from medrec.models.nla_mmr import (
    NLAMMRConfig,
    fusion_weights,
    history_weights,
    matching_loss,
    readable_past,
)
from medrec.models.registry import get
from medrec.text.encoders import RandomVectors
from medrec.text.features import TextFeatures
from medrec.types import MedrecError
from tests.models.battery import Battery, Case, output
from tests.toys import random_cohort, toy_molecules

PATIENT = torch.tensor([1.0, 0.5])
MEDICATIONS = torch.tensor([[2.0, 0.0], [1.0, 1.0], [0.0, 1.0], [-1.0, 1.0], [-1.0, -2.0]])
TARGET = torch.tensor([True, True, False, False, False])


def close(actual, expected, atol=5e-5):
    torch.testing.assert_close(torch.as_tensor(actual), torch.tensor(expected), atol=atol, rtol=0)


# -- equations by hand -------------------------------------------------------------------------------------------------

D, P, S = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
JOINT = torch.tensor([2.0, 1.0])


def test_streams_that_are_like_the_joint_text_count_more():
    close(fusion_weights(torch.stack([D, P, S]), JOINT), [0.2840, 0.1400, 0.5760])
    close(fusion_weights(torch.stack([D, P]), JOINT), [0.6698, 0.3302])
    close(fusion_weights(D[None], JOINT), [1.0])
    close(fusion_weights(torch.stack([D, P, S]), torch.zeros(2)), [1 / 3, 1 / 3, 1 / 3])


def test_a_bias_of_the_keys_never_matters_and_one_of_the_query_does():
    keys = torch.stack([D, P, S]).double()
    moved = fusion_weights(keys + torch.tensor([3.0, -7.0]), JOINT.double())
    torch.testing.assert_close(moved, fusion_weights(keys, JOINT.double()), atol=1e-12, rtol=0)
    close(fusion_weights(keys.float(), JOINT + torch.tensor([1.0, -1.0])), [0.4717, 0.0565, 0.4717])


def test_past_visits_that_are_like_the_patient_count_more():
    keys = torch.tensor([[[1.0, 0.0], [0.0, 2.0], [9.0, 9.0]]])
    queries = torch.tensor([[[0.0, 0.0], [5.0, 5.0], [1.43, 0.858]]])
    weights = history_weights(keys, queries, readable_past(torch.ones(1, 3, dtype=torch.bool), 3))
    close(weights[0, 0], [0.0, 0.0, 0.0])
    close(weights[0, 1], [1.0, 0.0, 0.0])
    close(weights[0, 2], [0.4496, 0.5504, 0.0])


@pytest.mark.parametrize(
    ("most", "expected"), [(1, [[], [0], [1], []]), (2, [[], [0], [0, 1], []]), (9, [[], [0], [0, 1], []])]
)
def test_the_latest_past_visits_are_read_and_never_today_or_later(most, expected):
    mask = torch.tensor([[True, True, True, False]])
    readable = readable_past(mask, most)[0]
    assert [row.nonzero()[:, 0].tolist() for row in readable[:3]] == expected[:3]


def test_recommending_cuts_the_plane_through_the_origin():
    logits = MEDICATIONS @ PATIENT
    close(logits, [2.0, 1.5, 0.5, -0.5, -2.0])
    close(logits.sigmoid(), [0.8808, 0.8176, 0.6225, 0.3775, 0.1192])
    for scale in (0.5, 3.0):
        assert torch.equal((MEDICATIONS @ (scale * PATIENT)).sigmoid() >= 0.5, logits.sigmoid() >= 0.5)


def test_the_loss_as_printed_and_as_released():
    logits = torch.tensor([0.9, 0.6, 0.4, 0.2, 0.1]).logit()
    close(margin_loss(logits.sigmoid(), TARGET), 0.58)
    close(matching_loss(logits, TARGET, 1.0), 1.4555)
    close(matching_loss(logits, TARGET, 0.95), 1.4117)
    close(matching_loss(logits, TARGET, 0.95, "mean"), 0.3055)


# -- the network -------------------------------------------------------------------------------------------------------


class TestPaper(Battery):
    case = Case("nla-mmr", {"gin_dropout": 0.0}, sees_past=("medication",), learning_rate=0.003)


class TestOfficial(Battery):
    case = Case(
        "nla-mmr",
        {"fusion_activation": "gelu", "loss_reduction": "mean", "without_structure": "zero"},
        sees_past=("medication",),
        n_symptoms=5,
        sees_now=("diagnosis", "procedure", "symptom"),
    )


class TestCodesAndIntercept(Battery):
    case = Case("nla-mmr", {"history_as": "codes", "intercept": True, "use_graph": False}, sees_past=("medication",))


class TestNoLanguage(Battery):
    """A visit and its past by learnt vectors of codes; the descriptions of medications stay."""

    case = Case(
        "nla-mmr",
        {"visits_as": "codes", "history_as": "codes", "gin_dropout": 0.0},
        sees_past=("medication",),
        learning_rate=0.003,
    )


class TestTextAlone(Battery):
    case = Case("nla-mmr", {"use_fusion": False, "use_history": False, "use_description": True}, sees_past=())


def built(cohort, **settings):
    context = Context(
        cohort.vocab,
        torch.zeros(cohort.n_medications, cohort.n_medications, dtype=torch.bool),
        toy_molecules(cohort.n_medications),
        TextFeatures(cohort.vocab, RandomVectors("code")),
    )
    torch.manual_seed(0)
    system = get("nla-mmr")
    return system.create(system.configure(settings=settings), context), context


def test_weights_are_as_many_as_the_equations_have_and_none_is_of_the_number_of_medications():
    cohort = random_cohort(5, seed=0, n_symptoms=4)
    network, _ = built(cohort, without_structure="zero")
    own = {name: p for name, p in network.named_parameters() if not name.startswith("molecule_encoder")}
    # Those of the released code but for two biases of keys.
    assert sum(p.numel() for p in own.values()) == 2_706_432 - 2 * 256
    assert not [name for name, p in own.items() if cohort.n_medications in p.shape]


def test_a_patient_a_medication_and_the_past_by_hand():
    """Eqs. 4, 8, 9 and 14, in plain matrices, for the second visit of one patient."""
    cohort = random_cohort(6, seed=3)
    network, context = built(cohort)
    network.eval()
    patient = int(torch.tensor(cohort.visit_offsets).diff().argmax())
    batch = VisitBatch.build(cohort, torch.tensor([patient]).numpy())
    text, t = context.text, 1

    def mapped(layer, x):
        return layer.weight.double() @ x + layer.bias.double()

    def projected(perceptron, x):
        hidden = mapped(perceptron.first, x)
        return hidden + mapped(perceptron.second, torch.nn.functional.gelu(hidden))

    with torch.no_grad():
        patients, weights = network.patients(batch, context)
        streams = [text.visits(batch, kind)[0, t].double() for kind in network.streams]
        fused = sum(w * h for w, h in zip(weights[0, t].double(), streams, strict=True))
        p = mapped(network.patient, torch.cat([fused, text.visits(batch, "joint")[0, t].double()]))
        close(patients[0, t], p.tolist(), atol=1e-5)

        past, by_visit = network.history(batch, patients, context)
        read = sum(
            w * h for w, h in zip(by_visit[0, t].double(), text.visits(batch, "medication")[0].double(), strict=True)
        )
        close(past[0, t], mapped(network.past, read).tolist(), atol=1e-5)

        molecules = context.molecules
        structure = network.free(molecules.average @ network.molecule_encoder(molecules.graphs))
        medications = network.medications(context)
        for m in range(cohort.n_medications):
            E_m = torch.cat([structure[m], text.medications[m]]).double()
            close(medications[m], projected(network.project_medication, E_m).tolist(), atol=1e-5)
        close(network.project_patient(patients[0, t]), projected(network.project_patient, p).tolist(), atol=1e-5)


def test_a_first_visit_has_the_bias_for_its_past_and_one_past_visit_trains_no_attention():
    cohort = random_cohort(12, seed=1)
    network, context = built(cohort, dropout=0.0)
    every = VisitBatch.build(cohort, torch.arange(12).numpy())
    patients, _ = network.patients(every, context)
    past, _ = network.history(every, patients, context)
    torch.testing.assert_close(past[:, 0], network.past.bias.expand(12, -1), atol=1e-6, rtol=0)
    network.config = get("nla-mmr").configure(settings={"history_visits": 1})
    network.loss(every, context).backward()
    for layer in (network.past_key, network.past_query):
        assert layer.weight.grad.abs().max() < 1e-9
    assert network.past.weight.grad.abs().max() > 0


def test_batched_it_says_what_it_says_visit_by_visit():
    """Each visit alone with the visits before it, one after the other."""
    cohort = random_cohort(8, seed=2)
    network, context = built(cohort)
    together, _ = output(network, cohort, context)
    for patient in range(8):
        n = int(cohort.visit_offsets[patient + 1] - cohort.visit_offsets[patient])
        whole = VisitBatch.build(cohort, torch.tensor([patient]).numpy())
        for t in range(n):
            cut = {kind: ids[:, : t + 1] for kind, ids in whole.codes.items()}
            part = VisitBatch(
                cut,
                whole.sizes,
                whole.target[:, : t + 1],
                whole.visit_mask[:, : t + 1],
                whole.visits[:, : t + 1],
                whole.days_since_previous[:, : t + 1],
                whole.patients,
            )
            with torch.no_grad():
                alone = network(part, context)[0, t]
            torch.testing.assert_close(alone, together[patient, t], atol=1e-5, rtol=1e-5)


def test_a_cohort_without_procedures_has_one_stream_less():
    cohort = random_cohort(6, seed=3)
    network, context = built(cohort)
    assert network.streams == ["diagnosis", "procedure"]
    assert text_of(context).streams == ("diagnosis", "procedure")
    _, weights = network.patients(VisitBatch.build(cohort, torch.arange(6).numpy()), context)
    assert weights.shape[-1] == 2


def test_learnt_vectors_of_codes_are_averaged_and_no_text_of_a_visit_is_read():
    cohort = random_cohort(6, seed=3)
    network, context = built(cohort, visits_as="codes", history_as="codes")
    batch = VisitBatch.build(cohort, torch.arange(6).numpy())
    found = network.clinical(batch, ("diagnosis",), context)
    ids = torch.tensor(cohort.codes["diagnosis"][int(cohort.visit_offsets[2])].tolist(), dtype=torch.long)
    torch.testing.assert_close(found[2, 0], network.codes["diagnosis"][ids].mean(0))
    both = network.clinical(batch, ("diagnosis", "procedure"), context)
    more = torch.tensor(cohort.codes["procedure"][int(cohort.visit_offsets[2])].tolist(), dtype=torch.long)
    rows = torch.cat([network.codes["diagnosis"][ids], network.codes["procedure"][more]])
    torch.testing.assert_close(both[2, 0], rows.mean(0))
    network.prepare(cohort, torch.arange(6).numpy(), context)
    network(batch, context)
    assert text_of(context).cuts.texts == 0


def test_an_intercept_stands_in_the_place_of_the_bias_of_the_past():
    network, _ = built(random_cohort(6, seed=3), intercept=True)
    assert network.past.bias is None
    assert network.base.shape == (network.base.numel(),)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, True),
        ({"intercept": True}, False),
        ({"history_as": "codes"}, False),
        ({"history_as": "codes", "use_history": False}, True),
    ],
)
def test_it_scores_new_classes_where_no_weight_is_for_one_medication(settings, expected):
    system = get("nla-mmr")
    config = system.configure(settings=settings)
    assert system.cls.scores_new(config) == expected
    cohort = random_cohort(6, seed=3)
    network, _ = built(cohort, without_structure="zero", **settings)
    assert (cohort.n_medications not in {n for p in network.parameters() for n in p.shape}) == expected


ROWS = {  # as storyboards letter them: what the row switches
    "a": {"use_graph": False},
    "b": {"use_description": False},
    "c": {"use_fusion": False},
    "d": {"use_history": False},
    "e": {"streams": "ps"},
    "f": {"streams": "ds"},
    "g": {"streams": "dp"},
    "h": {"history_visits": 1},
    "i": {"history_as": "codes"},
    "j": {"intercept": True},
    "k": {"bce_weight": 1.0},
    "no language": {"visits_as": "codes", "history_as": "codes"},
}


@pytest.mark.parametrize("letter", ROWS)
def test_every_ablation_of_table_3_and_of_ours_is_a_row(letter):
    assert ROWS[letter] in [dict(row.settings) for row in get("nla-mmr").rows]


def test_parts_of_the_logits_add_up_to_them():
    cohort = random_cohort(6, seed=4)
    network, context = built(cohort)
    network.eval()
    batch = VisitBatch.build(cohort, torch.tensor([2]).numpy())
    with torch.no_grad():
        parts = network.explain(batch, context).select("medication", "weight")
        last = network(batch, context)[0, int(batch.visit_mask[0].sum()) - 1]
    total = dict(parts.group_by("medication").sum().iter_rows())
    close([total[code] for code in context.vocab["medication"].codes], last.tolist(), atol=1e-4)


def test_a_medication_needs_a_graph_or_a_description():
    with pytest.raises(MedrecError, match="use_graph or use_description"):
        NLAMMRConfig(use_graph=False, use_description=False)
