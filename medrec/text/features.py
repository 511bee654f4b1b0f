"""Vectors of visits and of medications, each distinct text read once.

A visit's vectors follow from its codes alone: ask with any batch, of stored records or of a new patient.  What a cohort
holds is read in one go and stored (:meth:`TextFeatures.read`); what comes later is read when it is asked for.  Vectors
are rounded to half precision as soon as they are made, so that a stored and a fresh one agree.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from dataclasses import asdict, dataclass, field, replace
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
from medrec.text.encoders import Cuts, Encoder, Sentence
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


@dataclass
class _Known:
    """Texts that have been read."""

    table: Tensor  # (n, d) in half precision
    row: dict[tuple[Stream, Named], int] = field(default_factory=dict)
    cuts: Cuts = field(default_factory=Cuts)
    medications: Tensor | None = None  # (M, d) in half precision

    def add(self, asked: Iterable[tuple[Stream, Named]], vectors: NDArray[np.float16], cuts: Cuts) -> None:
        start = len(self.table)
        # A new one, since a copy may share the old.
        self.row = self.row | {one: start + i for i, one in enumerate(asked)}
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

    def to(self, device: torch.device | str) -> TextFeatures:
        """The same, which reads and gives its vectors on another device; what either reads both know."""
        moved = copy(self)
        moved.device = torch.device(device)
        return moved

    def described_as(self, others: Tensor) -> TextFeatures:
        """The same, in which each medication is what another one is: a control of what descriptions say.

        Args:
            others: ``(M,)`` whose description each medication has.
        """
        changed = copy(self)
        changed._known = replace(self._known, medications=self.medications.cpu().half()[others])
        return changed

    @property
    def cuts(self) -> Cuts:
        """What the encoder did not read to the end, of the visits that it was asked for."""
        return self._known.cuts

    @property
    def medications(self) -> Tensor:
        """What each medication is, ``(M, d)``."""
        if self._known.medications is None:
            codes = self.vocab["medication"].codes
            texts = templates.class_texts(codes)
            sentences = [Sentence(text, (f"medication/{code}",)) for text, code in zip(texts, codes, strict=True)]
            self._known.medications = torch.from_numpy(self._fetched(sentences)[0])
        return self._known.medications.float().to(self.device)

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
        before = len(self._known.row)
        for stream in STREAMS:
            lists = zip(*(_rows(cohort, kind) for kind in self._kinds(stream)), strict=True)
            wanted = [(stream, one) for one in dict.fromkeys(lists) if (stream, one) not in self._known.row]
            if wanted:
                self._known.add(wanted, *self._fetched([self._sentence(*one) for one in wanted]))
        if len(self._known.row) == before:
            return
        if cuts := self.cuts.cut:
            notice(
                f"{cuts} of {self.cuts.texts} texts are longer than what the encoder {self.encoder.name} reads, the "
                f"longest {self.cuts.longest} tokens; their ends are not read."
            )

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

    def _fetched(self, sentences: Sequence[Sentence]) -> tuple[NDArray[np.float16], Cuts]:
        """:meth:`_encoded`, or what an earlier call has stored of it."""
        texts = keys.digest([[sentence.text, sentence.codes] for sentence in sentences])
        code = keys.codes(keys.closure([encoders.__name__], keys.in_rooms("text")))
        folder = cache_dir() / "text" / keys.digest(code, self.encoder.content, texts)
        found = _stored(folder)
        if found is None:
            found = self._encoded(sentences)
            with atomic_folder(folder, what="the vectors of texts") as tmp:
                (tmp / VECTORS).write_bytes(save({"vectors": found[0]}))
                (tmp / CUTS).write_text(json.dumps(asdict(found[1])) + "\n", encoding="utf-8")
        return found

    def _encoded(self, sentences: Sequence[Sentence]) -> tuple[NDArray[np.float16], Cuts]:
        """Distinct sentences read once, rounded, ``(n, d)``; and what was cut of them."""
        distinct = list(dict.fromkeys(sentences))
        vectors = self.encoder.encode(distinct, self.device).astype(np.float16)
        place = {sentence: i for i, sentence in enumerate(distinct)}
        table: NDArray[np.float16] = vectors[[place[sentence] for sentence in sentences]]
        return table, self.encoder.cuts(distinct)


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
