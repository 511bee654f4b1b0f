"""The small BERT: a tokenizer that knows every word, weights that load without a network, and the same bytes again."""

import os
from collections import Counter

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medrec.knowledge.conditions import conditions
from medrec.text import small_bert
from medrec.text.encoders import SMALL_BERT, Sentence, encoder
from medrec.text.small_bert import SPECIAL, batches, corpus, masked, word_pieces, word_vectors

# -- the tokenizer -----------------------------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.text("abc", min_size=1, max_size=6), st.integers(1, 9), min_size=1), st.integers(1, 40))
def test_pieces_make_every_word_again_and_are_as_many_as_asked_for(words, size):
    pieces = word_pieces(Counter(words), size)
    assert len(pieces) == len(set(pieces))
    letters = {word[0] for word in words} | {f"##{letter}" for word in words for letter in word[1:]}
    assert letters <= set(pieces)
    assert len(pieces) <= max(size, len(letters))
    if len(pieces) < size:  # nothing was left to join
        assert set(words) <= set(pieces)


def test_the_most_frequent_pair_is_joined_first_and_ties_go_by_the_alphabet():
    assert word_pieces(Counter({"gout": 5, "goat": 1}), 8)[5:] == ["go", "##ut", "gout"]
    assert word_pieces(Counter({"xy": 1, "ab": 1}), 5)[4:] == ["ab"]


@pytest.fixture(scope="module")
def stored():
    return encoder("small-bert", ())


def test_no_word_of_the_package_is_unknown_and_frequent_ones_are_whole(stored):
    tokens = [token for text in corpus() for token in stored._tokenizer.tokenize(text)]
    assert "[UNK]" not in tokens
    assert stored._tokenizer.tokenize("Acute heart failure") == ["acute", "heart", "failure"]
    assert "[UNK]" not in stored._tokenizer.tokenize("zyxwv 0123456789 never-seen (words)?")


# -- what is read, and what is asked -----------------------------------------------------------------------------------


def test_lines_of_treatment_are_not_read(monkeypatch):
    """The synthetic records are drawn from them."""
    before, table = corpus(), conditions()
    other = table.with_columns(pl.col("first_line", "second_line", "contraindicated").reverse())
    assert not other.equals(table)
    monkeypatch.setattr(small_bert, "conditions", lambda: other)
    assert corpus() == before
    monkeypatch.setattr(small_bert, "conditions", lambda: table.with_columns(pl.col("symptoms").reverse()))
    assert corpus() != before


def test_thirty_in_a_hundred_tokens_are_asked_for_and_marks_never():
    ids = np.tile(np.array([SPECIAL.index("[CLS]"), SPECIAL.index("[SEP]"), *range(5, 103)]), (500, 1))
    read, asked = masked(ids, 3000, np.random.default_rng(0))
    assert not asked[:, :2].any()
    assert asked[:, 2:].mean() == pytest.approx(0.3, abs=0.01)
    assert np.array_equal(read[~asked], ids[~asked])
    assert (read == SPECIAL.index("[MASK]"))[asked].mean() == pytest.approx(0.8, abs=0.01)
    assert (read == ids)[asked].mean() == pytest.approx(0.1, abs=0.01)


def test_batches_hold_every_text_once_and_little_padding(monkeypatch):
    monkeypatch.setattr(small_bert, "TOKENS", 40)
    tokens = [[i + 5] * (1 + i % 7) for i in range(60)] + [[99] * 50]
    found = list(batches(tokens, np.random.default_rng(0)))
    rows = [row[row > 0].tolist() for part in found for row in part]
    assert sorted(rows) == sorted(tokens)
    assert all(part.size <= 40 or len(part) == 1 for part in found)
    assert sum(part.size for part in found) < 1.1 * sum(map(len, tokens))


def test_words_of_one_text_begin_with_one_direction(monkeypatch):
    monkeypatch.setattr(small_bert, "SIZE", 2)
    tokens = [[5, 6, 7], [5, 6, 7], [8, 9, 10], [8, 9, 10]]
    found = word_vectors(tokens, 12)
    assert found.shape == (12, 2)
    np.testing.assert_allclose(np.linalg.norm(found[5:11], axis=1), 1, atol=1e-6)
    assert not found[11].any()
    cosine = found @ found.T
    assert cosine[5, 6] > 0.99
    assert abs(cosine[5, 8]) < 0.01


# -- the weights -------------------------------------------------------------------------------------------------------


def test_weights_are_small_and_their_note_lies_beside_them():
    assert sum(path.stat().st_size for path in SMALL_BERT.iterdir()) < 2_500_000
    note = (SMALL_BERT / small_bert.PROVENANCE).read_text(encoding="utf-8")
    assert small_bert.keys.digest(corpus()) in note, "texts have changed: run python -m medrec.text.small_bert"


def test_words_that_stand_together_in_the_tables_lie_nearer_than_others(stored):
    """Related words with no word in common, for which TF-IDF has 0."""
    near = [("furosemide", "loop diuretic"), ("insulin", "diabetes"), ("heart failure", "cardiac insufficiency")]
    left, right = (stored.encode([Sentence(pair[side]) for pair in near]).astype(np.float64) for side in (0, 1))
    left, right = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (left, right))
    cosine = left @ right.T
    assert cosine.argmax(1).tolist() == [0, 1, 2]
    assert np.diag(cosine).min() > 0.5


def test_a_short_training_makes_the_same_bytes_twice(monkeypatch, tmp_path):
    some = corpus()[::25]
    monkeypatch.setattr(small_bert, "corpus", lambda: some)
    for name, value in {"WORDS": 400, "SIZE": 16, "LAYERS": 1, "HEADS": 2}.items():
        monkeypatch.setattr(small_bert, name, value)
    for place in ("one", "two"):
        model, reader, losses = small_bert.train(epochs=4, seed=3)
        assert losses[-1] < losses[0]
        small_bert.write(tmp_path / place, model, reader)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()
    other, _, _ = small_bert.train(epochs=1, seed=4)
    assert not torch.equal(other.embeddings.word_embeddings.weight, model.embeddings.word_embeddings.weight)
    read = encoder(str(tmp_path / "one"), ()).encode([Sentence("heart failure")])
    assert np.isfinite(read).all()


@pytest.mark.slow
@pytest.mark.skipif("MEDREC_REMAKE" not in os.environ, reason="minutes of training; MEDREC_REMAKE=1 asks for it")
def test_the_committed_weights_are_those_that_the_script_makes(tmp_path):
    """Minutes; on another machine rounding differs, so that vectors are compared and not bytes."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        model, reader, _ = small_bert.train()
    finally:
        torch.set_num_threads(threads)
    small_bert.write(tmp_path / "again", model, reader)
    sentences = [Sentence(text) for text in corpus()[::50]]
    again = encoder(str(tmp_path / "again"), ()).encode(sentences)
    np.testing.assert_allclose(again, encoder("small-bert", ()).encode(sentences), atol=0.02)
