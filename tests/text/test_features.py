"""Features: each text once, the same cached and fresh, for stored visits and for new ones."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from medrec.data.batch import VisitBatch
from medrec.text import features, templates
from medrec.text.encoders import CONTROLS, Cuts, RandomVectors, TfIdf
from medrec.text.features import STREAMS, TextFeatures, corpus, described
from tests.models.battery import recode
from tests.toys import random_cohort


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDREC_CACHE_DIR", str(tmp_path))
    return tmp_path / "text"


class Counting(RandomVectors):
    """Knows what it was asked to read, and reads four words of a text."""

    def __init__(self):
        super().__init__("text")
        self.read = []

    def encode(self, sentences, device="cpu"):
        self.read += [sentence.text for sentence in sentences]
        return super().encode(sentences)

    def cuts(self, sentences):
        lengths = [len(sentence.text.split()) for sentence in sentences]
        return Cuts(len(lengths), sum(n > 4 for n in lengths), max(lengths))


@pytest.fixture
def cohort():
    return random_cohort(30, seed=1, n_symptoms=4)


def whole(cohort):
    return VisitBatch.build(cohort, np.arange(cohort.n_patients))


def vectors(of, cohort):
    return {stream: of.visits(whole(cohort), stream) for stream in STREAMS}


def test_every_distinct_text_is_read_once_and_the_second_time_none(cohort, cache):
    first = TextFeatures(cohort.vocab, Counting())
    first.read(cohort)
    assert len(first.encoder.read) == len(set(first.encoder.read)) > 0
    before = list(first.encoder.read)
    made = vectors(first, cohort)
    first.read(cohort)
    assert first.encoder.read == before
    medications = first.medications
    second = TextFeatures(cohort.vocab, Counting())
    second.read(cohort)
    assert torch.equal(second.medications, medications)
    assert second.encoder.read == [], "they come from the disk"
    assert len(list(cache.iterdir())) == len(STREAMS) + 1
    for stream, value in vectors(second, cohort).items():
        assert torch.equal(value, made[stream])
    assert second.cuts == first.cuts
    assert first.cuts.cut == sum(len(text.split()) > 4 for text in before)


def test_texts_that_are_not_read_to_the_end_are_reported(cohort, capsys):
    of = TextFeatures(cohort.vocab, Counting())
    of.read(cohort)
    assert f"{of.cuts.cut} of {of.cuts.texts} texts are longer than what the encoder" in capsys.readouterr().err
    TextFeatures(cohort.vocab, RandomVectors("code")).read(cohort)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("encoder", [lambda vocab: RandomVectors("code"), lambda vocab: TfIdf(corpus(vocab))])
def test_a_fresh_vector_is_the_stored_one_to_the_last_bit(cohort, encoder):
    stored, fresh = (TextFeatures(cohort.vocab, encoder(cohort.vocab)) for _ in range(2))
    stored.read(cohort)
    for stream, value in vectors(stored, cohort).items():
        assert torch.equal(value, fresh.visits(whole(cohort), stream))
        assert torch.equal(value, value.half().float())
    assert torch.equal(stored.medications, fresh.medications)


def test_padding_is_zero_and_order_of_codes_does_not_matter(cohort):
    of = TextFeatures(cohort.vocab, RandomVectors("code"))
    batch = whole(cohort)
    turned = replace(batch, codes={kind: ids.flip(-1) for kind, ids in batch.codes.items()})
    for stream in STREAMS:
        value = of.visits(batch, stream)
        assert not value[~batch.visit_mask].any()
        assert torch.equal(value, of.visits(turned, stream))


def test_a_visit_is_read_by_its_own_codes(cohort):
    """Another stream, another visit and another cohort change nothing."""
    of = TextFeatures(cohort.vocab, RandomVectors("text"))
    of.read(cohort)
    before = vectors(of, cohort)
    changed = recode(cohort, "procedure", lambda rows: np.roll(rows, 1, axis=1), np.array([3]))
    after = vectors(of, changed)
    place = (whole(cohort).visits == 3).nonzero()[0]
    moved = {
        stream: sorted(map(tuple, (before[stream] != after[stream]).any(-1).nonzero().tolist())) for stream in STREAMS
    }
    assert moved["diagnosis"] == moved["medication"] == moved["symptom"] == []
    assert moved["procedure"] == moved["joint"] == [tuple(place.tolist())]


def test_what_one_device_has_read_the_other_knows(cohort):
    of = TextFeatures(cohort.vocab, Counting())
    moved = of.to("cpu")
    moved.read(cohort)
    before = list(of.encoder.read)
    vectors(of, cohort)
    assert of.encoder.read == before


@pytest.mark.parametrize("harm", ["cut", "flip", "missing"])
def test_damaged_vectors_are_read_again_with_one_line(cohort, cache, capsys, harm):
    TextFeatures(cohort.vocab, RandomVectors("code")).read(cohort)
    file = next(cache.rglob(features.VECTORS))
    content = file.read_bytes()
    if harm == "missing":
        file.unlink()
    else:
        file.write_bytes(content[:-9] if harm == "cut" else content[:-9] + b"\0" * 9)
    of = TextFeatures(cohort.vocab, RandomVectors("code"))
    of.read(cohort)
    assert "are damaged" in capsys.readouterr().err
    assert file.read_bytes() == content
    assert json.loads(file.with_name(features.CUTS).read_text())["cut"] == 0


def test_titles_and_encoder_are_part_of_what_they_are(cohort):
    titles = ("another title", *cohort.vocab["diagnosis"].titles[1:])
    other = {**cohort.vocab, "diagnosis": replace(cohort.vocab["diagnosis"], titles=titles)}
    known = {described(cohort.vocab, "tfidf"), described(cohort.vocab, "random-code"), described(other, "random-code")}
    assert len(known) == 3


def test_a_changed_description_of_a_class_is_noticed_by_every_encoder(cohort, monkeypatch):
    before = {name: described(cohort.vocab, name) for name in CONTROLS}
    monkeypatch.setattr(templates, "class_texts", lambda codes: [f"{code}, in other words" for code in codes])
    assert [name for name in CONTROLS if described(cohort.vocab, name) == before[name]] == []


def test_vectors_of_other_code_are_not_taken(cohort, cache, monkeypatch):
    TextFeatures(cohort.vocab, RandomVectors("code")).read(cohort)
    monkeypatch.setattr(features.keys, "codes", lambda modules: {"medrec.text.encoders": "other"})
    TextFeatures(cohort.vocab, RandomVectors("code")).read(cohort)
    assert len(list(cache.iterdir())) == 2 * len(STREAMS)
