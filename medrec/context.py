"""What a system may know besides the records: one provider for each need.

A system declares its needs (``System.needs``).  Interactions are for everybody; ``"molecules"``, ``"text"``,
``"graph"`` and ``"knowledge"`` are made for those that ask.  :func:`describe` says what a context would be made of
without making it, so that a run can be looked up in milliseconds; :func:`build` makes it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from medrec import keys
from medrec.data.cohort import Cohort, Kind, Vocabulary
from medrec.knowledge.interactions import class_interactions
from medrec.types import MedrecError

if TYPE_CHECKING:
    from medrec.chem.molecules import Molecules
    from medrec.graphs.interactions import Interactions
    from medrec.graphs.knowledge import Construction, KnowledgeGraph, SeenCodes
    from medrec.text.features import TextFeatures


@dataclass(frozen=True)
class Context:
    """All that a system may know besides the records.

    Args:
        vocab: one vocabulary for each kind of code.
        ddi: ``(M, M)`` bool, symmetric, zero diagonal: which medications interact.
        molecules: for systems that need ``"molecules"``, otherwise ``None``.
        text: for systems that need ``"text"``: vectors of visits and of medications.
        graph: for systems that need ``"graph"``: who was given what at the visits that training sees.
        knowledge: for systems that need ``"knowledge"``: triplets about medications, from the same visits.
    """

    vocab: dict[Kind, Vocabulary]
    ddi: Tensor
    molecules: Molecules | None = None
    text: TextFeatures | None = None
    graph: Interactions | None = None
    knowledge: KnowledgeGraph | None = None

    @property
    def sizes(self) -> dict[Kind, int]:
        """Size of each vocabulary."""
        return {kind: len(vocabulary) for kind, vocabulary in self.vocab.items()}

    def to(self, device: torch.device | str) -> Context:
        """The same on another device."""
        molecules = None if self.molecules is None else self.molecules.to(device)
        graph = None if self.graph is None else self.graph.to(device)
        text = None if self.text is None else self.text.to(device)
        knowledge = None if self.knowledge is None else self.knowledge.to(device)
        return replace(self, ddi=self.ddi.to(device), molecules=molecules, text=text, graph=graph, knowledge=knowledge)


@dataclass(frozen=True)
class Asked:
    """What is asked of the providers.

    Args:
        vocab: one vocabulary for each kind of code.
        config: settings of the system; a provider reads those that concern it.
        planted: what a synthetic control planted, see :attr:`medrec.data.cohort.Cohort.planted`.
        ddi: file of another interaction list; ``None``: the book's own.
        graph: gives who was given what at the visits that training sees, for those that need it; the task knows.
        seen: gives all codes of these visits.
        knowledge: gives the triplets that a stored run was trained with.
    """

    vocab: Mapping[Kind, Vocabulary]
    config: Any = None
    planted: Mapping[str, Any] | None = None
    ddi: Path | None = None
    graph: Callable[[], Interactions | None] | None = None
    seen: Callable[[], SeenCodes | None] | None = None
    knowledge: Callable[[], KnowledgeGraph | None] | None = None

    @property
    def classes(self) -> Sequence[str]:
        return self.vocab["medication"].codes

    @property
    def molecules_per_class(self) -> int:
        return getattr(self.config, "molecules_per_class", 3)

    @property
    def encoder(self) -> str:
        return getattr(self.config, "encoder", "tfidf")

    @property
    def construction(self) -> Construction:
        return getattr(self.config, "construction", "house")

    @property
    def per_medication(self) -> int:
        return getattr(self.config, "per_medication", 0)

    @property
    def stand_ins(self) -> Mapping[str, list[str]] | None:
        """Drugs that alone stand for a class, where a control planted a shape."""
        return (self.planted or {}).get("molecules") or None


@dataclass(frozen=True)
class Provider:
    """Makes one part of a context.

    Args:
        modules: whose code decides what comes out; part of a run's key.
        describe: content of the sources, a digest, without making anything.
        build: makes it.
    """

    modules: tuple[str, ...]
    describe: Callable[[Asked], str]
    build: Callable[[Asked], Any]


def _describe_molecules(asked: Asked) -> str:
    from medrec.chem.conformers import STARTS, allowed_starts
    from medrec.knowledge.structures import structures

    # Fewer starts than usual leave hard molecules without coordinates.
    bound = [] if (starts := allowed_starts()) == STARTS else [starts]
    return keys.digest(structures(asked.classes, per_class=asked.molecules_per_class, only=asked.stand_ins), *bound)


def _build_molecules(asked: Asked) -> Molecules:
    # RDKit is loaded for those who need it.
    from medrec.chem.molecules import build

    return build(asked.classes, per_class=asked.molecules_per_class, only=asked.stand_ins)


def _describe_text(asked: Asked) -> str:
    from medrec.text import features

    return features.described(asked.vocab, asked.encoder)


def _build_text(asked: Asked) -> TextFeatures:
    # Language models are loaded for those who need them.
    from medrec.text.encoders import encoder
    from medrec.text.features import TextFeatures, corpus

    return TextFeatures(asked.vocab, encoder(asked.encoder, corpus(asked.vocab)))


def _describe_graph(asked: Asked) -> str:
    # It follows from the cohort and from what training sees of it, and both are part of a run's key.
    return ""


def _graph(asked: Asked) -> Interactions:
    graph = None if asked.graph is None else asked.graph()
    if graph is None:
        raise MedrecError("A graph of patients and medications belongs to the ranking task; train with that task.")
    return graph


def _describe_knowledge(asked: Asked) -> str:
    from medrec.graphs.knowledge import diagnosis_classes

    # The rest follows from the cohort, from what training sees of it, from interactions and settings; all are part of
    # a run's key.
    return keys.digest(diagnosis_classes(asked.vocab["diagnosis"].codes))


def _knowledge(asked: Asked) -> KnowledgeGraph:
    from medrec.graphs.knowledge import build

    if asked.knowledge is not None and (stored := asked.knowledge()) is not None:
        return stored
    seen = None if asked.seen is None else asked.seen()
    if seen is None:
        raise MedrecError("A knowledge graph of training visits belongs to the ranking task; train with that task.")
    ddi = class_interactions(asked.classes, asked.ddi)[0]
    return build(asked.construction, asked.vocab, seen, ddi, asked.per_medication)


PROVIDERS: dict[str, Provider] = {
    "molecules": Provider(("medrec.chem.molecules",), _describe_molecules, _build_molecules),
    "text": Provider(("medrec.text.features",), _describe_text, _build_text),
    "graph": Provider(("medrec.graphs.interactions",), _describe_graph, _graph),
    "knowledge": Provider(("medrec.graphs.knowledge",), _describe_knowledge, _knowledge),
}
"""One for each need."""


def provider(need: str) -> Provider:
    """The provider of a need.

    Raises:
        MedrecError: nothing provides it.
    """
    if need not in PROVIDERS:
        raise MedrecError(f"Nothing provides {need!r}; a system can need {', '.join(PROVIDERS)}.")
    return PROVIDERS[need]


def describe(needs: Sequence[str], asked: Asked) -> dict[str, dict[str, str]]:
    """Source and content of each part of a context, without making any but the interactions.

    Returns:
        For ``"ddi"`` and each need its ``content``, a digest; for ``"ddi"`` also the ``source``, in words.
    """
    matrix, source = class_interactions(asked.classes, asked.ddi)
    found = {"ddi": {"source": source, "content": keys.digest(matrix)}}
    return found | {need: {"content": provider(need).describe(asked)} for need in needs}


def build(needs: Sequence[str], asked: Asked, ddi: Tensor | None = None) -> Context:
    """Everything that the needs name.

    Args:
        needs: of a system.
        asked: what of.
        ddi: ``(M, M)`` bool, where the matrix is at hand already.

    Raises:
        MedrecError: a need that nothing provides, or an interaction list that cannot be read.
    """
    if ddi is None:
        ddi = torch.from_numpy(class_interactions(asked.classes, asked.ddi)[0])
    return Context(dict(asked.vocab), ddi, **{need: provider(need).build(asked) for need in needs})


def molecules_of(context: Context) -> Molecules:
    """The molecules of a context, for systems that cannot do without.

    Raises:
        MedrecError: it holds none.
    """
    if context.molecules is None:
        raise MedrecError("This context holds no molecules, which the system needs; make it with context_for(...).")
    return context.molecules


def text_of(context: Context) -> TextFeatures:
    """The texts of a context, for systems that cannot do without.

    Raises:
        MedrecError: it holds none.
    """
    if context.text is None:
        raise MedrecError("This context holds no texts, which the system needs; make it with context_for(...).")
    return context.text


def graph_of(context: Context) -> Interactions:
    """Who was given what, for systems that cannot do without.

    Raises:
        MedrecError: the context does not hold it.
    """
    if context.graph is None:
        raise MedrecError("This context holds no interactions of patients and medications; train in the ranking task.")
    return context.graph


def knowledge_of(context: Context) -> KnowledgeGraph:
    """The knowledge graph of a context, for systems that cannot do without.

    Raises:
        MedrecError: it holds none.
    """
    if context.knowledge is None:
        raise MedrecError("This context holds no knowledge graph, which the system needs; train in the ranking task.")
    return context.knowledge


def context_for(system: Any, config: Any, cohort: Cohort, ddi: Path | None = None) -> Context:
    """The context of a system on a cohort, for a look inside; :func:`medrec.training.train` makes its own.

    Args:
        system: a :class:`medrec.models.base.System`.
        config: its settings.
        cohort: whose vocabularies.
        ddi: file of another interaction list than the book's own.
    """
    return build(system.needs, Asked(cohort.vocab, config, cohort.planted, ddi))
