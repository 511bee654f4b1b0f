"""Sentences for a language model: what is coded at a visit, and what a medication is.

Templates, version :data:`VERSION`.  A visit gives one text for each kind of code and one that joins the three kinds
that are known when medications are chosen; NLA-MMR prints none of its templates.  Codes stand in their own order, so
that the order of a table changes nothing, each by its title:

* ``diagnosis``: ``Diagnoses: Atrial fibrillation; Acute kidney failure, unspecified.``
* ``procedure``: ``Procedures: Venous catheterization.``
* ``symptom``: ``Symptoms: chest pain; dyspnoea.``
* ``medication``: ``Medications: high-ceiling diuretics; beta blocking agents.``
* ``joint``: those of diagnoses, procedures and symptoms, parted by a blank.

A stream without a code says ``none``; a kind that a cohort does not record at all has no stream (eICU: procedures).
A medication is its class name and the description of :mod:`medrec.knowledge.classes`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from medrec.data.cohort import Kind, Vocabulary
from medrec.knowledge.classes import atc3

VERSION = 1
"""Raised with every change of a template: part of the key of stored features."""
Stream = Literal["diagnosis", "procedure", "symptom", "medication", "joint"]
CLINICAL: tuple[Kind, ...] = ("diagnosis", "procedure", "symptom")
"""Kinds that make the joint text."""
HEADS: dict[Kind, str] = {
    "diagnosis": "Diagnoses",
    "procedure": "Procedures",
    "symptom": "Symptoms",
    "medication": "Medications",
}


def stream_text(kind: Kind, vocabulary: Vocabulary, ids: Iterable[int]) -> str:
    """What is coded of one kind, sorted by code.

    Args:
        kind: of the codes.
        vocabulary: their titles.
        ids: of the codes, in any order.

    Example:
        >>> stream_text("diagnosis", Vocabulary("diagnosis", ("9:2", "9:1"), ("Gout", "Cough")), [0, 1])
        'Diagnoses: Cough; Gout.'
    """
    named = sorted((vocabulary.codes[i], vocabulary.titles[i]) for i in ids)
    return f"{HEADS[kind]}: {'; '.join(title for _, title in named) or 'none'}."


def streams(vocab: Mapping[Kind, Vocabulary]) -> tuple[Kind, ...]:
    """Clinical kinds that the cohort records."""
    return tuple(kind for kind in CLINICAL if len(vocab[kind]))


def visit_text(stream: Stream, vocab: Mapping[Kind, Vocabulary], ids: Mapping[Kind, Sequence[int]]) -> str:
    """One text of a visit.

    Args:
        stream: which; ``"joint"`` holds the clinical kinds that the cohort records.
        vocab: titles.
        ids: codes of the visit, for each kind that the stream names.
    """
    if stream != "joint":
        return stream_text(stream, vocab[stream], ids[stream])
    return " ".join(stream_text(kind, vocab[kind], ids[kind]) for kind in streams(vocab))


def class_texts(codes: Sequence[str]) -> list[str]:
    """What each ATC class is, in the words of our table: ``Beta blocking agents. They slow the heart ...``.

    Args:
        codes: ATC classes of level 3; one that the table does not know is its code.
    """
    known = {row["code"]: f"{row['name']}. {row['description']}" for row in atc3().iter_rows(named=True)}
    return [known.get(code, code) for code in codes]
