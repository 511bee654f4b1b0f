"""Vectors of visits and of medications, each distinct text read once.

A visit's vectors follow from its codes alone: ask with any batch, of stored records or of a new patient.  What a cohort
holds is read in one go and stored (:meth:`TextFeatures.read`); what comes later is read when it is asked for.  Vectors
are rounded to half precision as soon as they are made, so that a stored and a fresh one agree.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load, save
from torch import Tensor

from medrec import keys
from medrec.data.batch import VisitBatch
from medrec.data.cohort import Cohort, Kind, Vocabulary
from medrec.folders import atomic_folder, damage, notice
from medrec.paths import cache_dir
from medrec.text import encoders, templates
from medrec.text.encoders import Encoder, Sentence
from medrec.text.templates import Stream

STREAMS: tuple[Stream, ...] = ("diagnosis", "procedure", "symptom", "medication", "joint")
VECTORS, CUTS = "vectors.safetensors", "cuts.json"
"""Files of stored features."""
Named = tuple[tuple[int, ...], ...]
"""Sorted codes of a visit, for each kind that a stream speaks of."""


def corpus(vocab: Mapping[Kind, Vocabulary]) -> list[str]:
    """Texts that are no patient's: titles of codes, and what medications are."""
    titles = [title for vocabulary in vocab.values() for title in vocabulary.titles]
    return [*titles, *templates.class_texts(vocab["medication"].codes)]


def described(vocab: Mapping[Kind, Vocabulary], encoder: str) -> str:
    """Digest of all that decides the features of a vocabulary, without making any.

    Raises:
        MedrecError: there is no such encoder.
    """
    titles = {kind: [vocabulary.codes, vocabulary.titles] for kind, vocabulary in vocab.items()}
    texts = corpus(vocab)
    return keys.digest(templates.VERSION, titles, texts, encoders.described(encoder, texts))


@dataclass(frozen=True)
class Cuts:
    """How many texts were longer than what the encoder reads.

    Args:
        texts: distinct texts that were read.
        cut: those of them that were longer.
        longest: tokens of the longest.
    """

    texts: int = 0
    cut: int = 0
    longest: int = 0

    def __add__(self, other: Cuts) -> Cuts:
        return Cuts(self.texts + other.texts, self.cut + other.cut, max(self.longest, other.longest))


@dataclass
class _Known:
    """Texts that have been read."""

    table: Tensor  # (n, d) in half precision
    row: dict[tuple[Stream, Named], int] = field(default_factory=dict)
    cuts: Cuts = field(default_factory=Cuts)

    def add(self, asked: Iterable[tuple[Stream, Named]], vectors: NDArray[np.float16], cuts: Cuts) -> None:
        start = len(self.table)
        self.row |= {one: start + i for i, one in enumerate(asked)}
        self.table = torch.cat([self.table, torch.from_numpy(vectors)])
        self.cuts = self.cuts + cuts


class TextFeatures:
    """Vectors of visits by their codes, and of medications by their descriptions.

    Args:
        vocab: titles of the codes.
        encoder: that reads.

    Attributes:
        streams: clinical kinds that the cohort records.
        width: d of a vector.
    """

    def __init__(self, vocab: Mapping[Kind, Vocabulary], encoder: Encoder) -> None:
        self.vocab, self.encoder = dict(vocab), encoder
        self.streams, self.width = templates.streams(vocab), encoder.width
        self.device = torch.device("cpu")
        self._known = _Known(torch.zeros(0, self.width, dtype=torch.float16))
        codes = self.vocab["medication"].codes
        texts = templates.class_texts(codes)
        sentences = [Sentence(text, (f"medication/{code}",)) for text, code in zip(texts, codes, strict=True)]
        self._medications = torch.from_numpy(self._encoded(sentences)[0])

    def to(self, device: torch.device | str) -> TextFeatures:
        """The same, which gives its vectors on another device; what either reads both know."""
        moved = copy(self)
        moved.device = torch.device(device)
        return moved

    @property
    def cuts(self) -> Cuts:
        """What the encoder did not read to the end, of visits."""
        return self._known.cuts

    @property
    def medications(self) -> Tensor:
        """What each medication is, ``(M, d)``."""
        return self._medications.float().to(self.device)

    def visits(self, batch: VisitBatch, stream: Stream) -> Tensor:
        """Vectors of one stream, ``(B, T, d)``; 0 at padding.

        Args:
            batch: of any records with the vocabularies of these features.
            stream: which text.
        """
        B, T = batch.visit_mask.shape
        real = batch.visit_mask.flatten().nonzero()[:, 0]
        parts = self._kinds(stream)
        rows = [batch.codes[kind].flatten(0, 1)[real].cpu().numpy() for kind in parts]
        named = [
            tuple(tuple(sorted(one[one < batch.sizes[kind]].tolist())) for kind, one in zip(parts, visit, strict=True))
            for visit in zip(*rows, strict=True)
        ]
        place = torch.tensor(self._places(stream, named), dtype=torch.long)
        found = torch.zeros(B * T, self.width, device=self.device)
        found[real.to(self.device)] = self._known.table[place].float().to(self.device)
        return found.reshape(B, T, self.width)

    def read(self, cohort: Cohort) -> None:
        """Read all texts of a cohort, or fetch what an earlier call has stored.

        Args:
            cohort: with the vocabularies of these features.
        """
        wanted: dict[tuple[Stream, Named], None] = {}
        for stream in STREAMS:
            lists = [_rows(cohort, kind) for kind in self._kinds(stream)]
            wanted |= {
                (stream, named): None for named in zip(*lists, strict=True) if (stream, named) not in self._known.row
            }
        if not wanted:
            return
        sentences = [self._sentence(stream, named) for stream, named in wanted]
        texts = keys.digest([[sentence.text, sentence.codes] for sentence in sentences])
        code = keys.codes(keys.closure([encoders.__name__], keys.in_rooms("text")))
        folder = cache_dir() / "text" / keys.digest(code, self.encoder.content, texts)
        found = _stored(folder)
        if found is None:
            found = self._encoded(sentences)
            with atomic_folder(folder, what="the vectors of texts") as tmp:
                (tmp / VECTORS).write_bytes(save({"vectors": found[0]}))
                (tmp / CUTS).write_text(json.dumps(asdict(found[1])) + "\n", encoding="utf-8")
        self._known.add(list(wanted), *found)

    # -- inside

    def _kinds(self, stream: Stream) -> tuple[Kind, ...]:
        return self.streams if stream == "joint" else (cast(Kind, stream),)

    def _places(self, stream: Stream, named: Sequence[Named]) -> list[int]:
        """Row of each visit's text; what is not there yet is read."""
        missing = list(dict.fromkeys((stream, one) for one in named if (stream, one) not in self._known.row))
        if missing:
            self._known.add(missing, *self._encoded([self._sentence(*one) for one in missing]))
        return [self._known.row[stream, one] for one in named]

    def _sentence(self, stream: Stream, named: Named) -> Sentence:
        kinds = self._kinds(stream)
        text = templates.visit_text(stream, self.vocab, dict(zip(kinds, named, strict=True)))
        codes = [
            f"{kind}/{code}"
            for kind, ids in zip(kinds, named, strict=True)
            for code in sorted(self.vocab[kind].codes[i] for i in ids)
        ]
        return Sentence(text, tuple(codes))

    def _encoded(self, sentences: Sequence[Sentence]) -> tuple[NDArray[np.float16], Cuts]:
        """Distinct sentences read once, rounded, ``(n, d)``; and what was cut of them."""
        distinct = list(dict.fromkeys(sentences))
        vectors = self.encoder.encode(distinct).astype(np.float16)
        place = {sentence: i for i, sentence in enumerate(distinct)}
        table: NDArray[np.float16] = vectors[[place[sentence] for sentence in sentences]]
        if not (self.encoder.longest and distinct):
            return table, Cuts()
        lengths = self.encoder.lengths(distinct)
        return table, Cuts(len(distinct), int((lengths > self.encoder.longest).sum()), int(lengths.max()))


def _rows(cohort: Cohort, kind: Kind) -> list[tuple[int, ...]]:
    """Sorted codes of every visit."""
    rows = cohort.codes[kind]
    return [tuple(sorted(part.tolist())) for part in np.split(rows.values, rows.offsets[1:-1])]


def _stored(folder: Path) -> tuple[NDArray[np.float16], Cuts] | None:
    """What an earlier call has read; None where there is nothing, or something damaged."""
    if not folder.is_dir():
        return None
    if reason := damage(folder):
        notice(f"the vectors of texts in {folder} are damaged ({reason}); the texts are read again")
        return None
    return load((folder / VECTORS).read_bytes())["vectors"], Cuts(**json.loads((folder / CUTS).read_text("utf-8")))
