r"""Knowledge graphs: triplets (head, relation, tail) about medications, made of training visits and of drug facts.

Two constructions.

``house``
    Entities are medications, diagnoses, procedures, ATC groups and classes of diagnoses, in this order.  A medication
    *treats* a diagnosis, and goes *with* a procedure, where both stand in one visit more often than by chance,

    .. math:: \operatorname{lift}(d, m) = \frac{P(d, m)}{P(d)\,P(m)} > 1

    with probabilities counted over the visits that training sees.  Co-occurrence is no indication: what is given
    beside the treatment has a high lift as well.  Medications *interact* in both directions; a medication has its ATC
    level 2 as *ATC parent*, and that its level 1; a diagnosis is *in class*, the CCS category of the user's table
    where there is one (:func:`medrec.data.coding.ccs_map`), otherwise the category that its ICD code begins with.
``study``
    The third paper's: a patient *has diagnosis*, *has procedure*, *has medication*, and medications interact.
    Entities are medications, diagnoses, procedures, patients.

Medications come first among entities in both, because the released codes assume it.  An entity without triplets stays,
with an empty neighbourhood.  What training may see is handed over as :class:`SeenCodes`, which refuses visits at or
after a target, so that neither lift nor ``has medication`` can hold what is asked about.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

from medrec import keys
from medrec.data import coding
from medrec.data.cohort import Cohort, Kind, Vocabulary
from medrec.data.tables import find_table
from medrec.graphs import interactions
from medrec.knowledge.classes import cut
from medrec.knowledge.interactions import ATC_START
from medrec.paths import data_dir
from medrec.types import MedrecError, Ragged

Construction = Literal["house", "study"]
Control = Literal["full", "empty", "shuffled", "interacts"]
"""What is left of a graph: all; nothing; all with :func:`shuffled_tails`; interacting medications alone."""
KINDS: tuple[Kind, ...] = ("diagnosis", "procedure", "medication")
INTERACTS = "interacts"
HOUSE = ("treats", "with procedure", INTERACTS, "ATC parent", "in class")
STUDY = ("has diagnosis", "has procedure", "has medication", INTERACTS)
MIN_VISITS = 5
"""A lift of fewer visits is chance."""


# -- what training sees ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SeenCodes:
    """Codes of the visits that training sees; ``V`` of them.

    Args:
        patient: ``(V,)`` whose visit it is.
        n_patients: of the cohort, seen or not.
        codes: ``V`` rows for each of :data:`KINDS`.
    """

    patient: NDArray[np.int64]
    n_patients: int
    codes: Mapping[Kind, Ragged]

    @classmethod
    def of(
        cls,
        cohort: Cohort,
        seen: NDArray[np.bool_],
        targets: NDArray[np.bool_],
        held: NDArray[np.bool_] | None = None,
    ) -> SeenCodes:
        """From a cohort.

        Args:
            cohort: all patients.
            seen: ``(V,)`` bool, visits that training sees.
            targets: ``(V,)`` bool, visits that are asked about.
            held: ``(U, M)`` bool, medications that are held out of a patient's visits; ``None`` for none.

        Raises:
            MedrecError: a visit is seen that is a target, or comes after one of the same patient.
        """
        interactions.refuse_targets(cohort, seen, targets)
        rows = np.flatnonzero(seen)
        patient = cohort.patient_of_visit[rows]
        codes = {kind: cohort.codes[kind].take(rows) for kind in KINDS}
        if held is not None:
            given = codes["medication"]
            row = given.row_of_value
            kept = ~held[patient[row], given.values]
            lengths = np.bincount(row[kept], minlength=len(given))
            codes["medication"] = Ragged(np.concatenate([[0], lengths.cumsum()]), given.values[kept])
        return cls(patient, cohort.n_patients, codes)

    def matrix(self, kind: Kind, n: int) -> sparse.csr_array:
        """``(V, n)`` 0/1, which of ``n`` codes each visit has."""
        rows = self.codes[kind]
        return sparse.csr_array((np.ones(len(rows.values)), rows.values, rows.offsets), shape=(len(rows), n))


def lift(left: sparse.csr_array, right: sparse.csr_array) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    r"""How much more often than by chance two codes stand in one visit, :math:`P(a, b) / (P(a) P(b))`.

    Args:
        left: ``(V, A)`` 0/1.
        right: ``(V, B)`` 0/1.

    Returns:
        In how many visits they stand together, and their lift, both ``(A, B)``; 0 for a code that stands nowhere.
    """
    together = (left.T @ right).toarray()
    expected = np.outer(left.sum(0), right.sum(0)) / max(1, left.shape[0])
    found = np.divide(together, expected, out=np.zeros(together.shape), where=expected > 0)
    return together.astype(np.int64), found


# -- the graph ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class KnowledgeGraph:
    """Triplets over entities, of which the first are items; ``E`` triplets, ``N`` entities, ``R`` relations.

    Args:
        triplets: ``(E, 3)`` int64, head, relation and tail; kept sorted, each once.
        entities: ``N`` names, each with its kind in front: ``"medication:C03C"``, ``"diagnosis:9:4280"``.
        relations: ``R`` names.
        n_items: how many entities, from the first one on, are medications.

    Raises:
        MedrecError: a triplet names an entity or a relation that there is not, or there are more items than entities.
    """

    triplets: NDArray[np.int64]
    entities: tuple[str, ...]
    relations: tuple[str, ...]
    n_items: int

    def __post_init__(self) -> None:
        triplets = np.asarray(self.triplets, dtype=np.int64)
        if triplets.ndim != 2 or triplets.shape[1] != 3:
            raise MedrecError(
                f"A knowledge graph has rows of three numbers, head, relation and tail; these have the shape "
                f"{triplets.shape}."
            )
        n, r = len(self.entities), len(self.relations)
        if self.n_items > n:
            raise MedrecError(
                f"A knowledge graph of {n} entities cannot have {self.n_items} items: every item is an entity, with "
                "triplets or without. Add the missing ones."
            )
        wrong = np.flatnonzero(((triplets < 0) | (triplets >= np.array([n, r, n]))).any(1))
        if len(wrong):
            head, relation, tail = triplets[wrong[0]].tolist()
            raise MedrecError(
                f"Triplet {wrong[0]}, (head {head}, relation {relation}, tail {tail}), does not fit: there are {n} "
                f"entities and {r} relations, counted from 0. Add what is missing, or leave the triplet out."
            )
        key = np.unique((triplets[:, 0] * max(1, r) + triplets[:, 1]) * max(1, n) + triplets[:, 2])
        rest, tail = np.divmod(key, max(1, n))
        object.__setattr__(self, "triplets", np.stack([*np.divmod(rest, max(1, r)), tail], axis=1))

    @property
    def n_entities(self) -> int:
        return len(self.entities)

    @property
    def n_relations(self) -> int:
        return len(self.relations)

    @property
    def n_triplets(self) -> int:
        return len(self.triplets)

    @property
    def by_relation(self) -> dict[str, int]:
        """How many triplets each relation has."""
        count = np.bincount(self.triplets[:, 1], minlength=self.n_relations)
        return dict(zip(self.relations, count.tolist(), strict=True))

    def kind(self, name: str) -> NDArray[np.int64]:
        """Entities of a kind, e.g. ``"diagnosis"``, in ascending order."""
        return np.flatnonzero([entity.partition(":")[0] == name for entity in self.entities])

    def of(self, relations: Iterable[str]) -> KnowledgeGraph:
        """The same entities with the triplets of these relations alone.

        Raises:
            MedrecError: there is no such relation.
        """
        wanted = list(relations)
        unknown = [name for name in wanted if name not in self.relations]
        if unknown:
            raise MedrecError(f"The graph has no relation {unknown[0]!r}. It has {', '.join(self.relations)}.")
        numbers = [self.relations.index(name) for name in wanted]
        return self.with_triplets(self.triplets[np.isin(self.triplets[:, 1], numbers)])

    def with_triplets(self, triplets: NDArray[np.int64]) -> KnowledgeGraph:
        """The same entities and relations with other triplets."""
        return KnowledgeGraph(triplets, self.entities, self.relations, self.n_items)

    @cached_property
    def content(self) -> str:
        """Hash of all of it."""
        return keys.digest(self.triplets, self.entities, self.relations, self.n_items)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """For the run store; :meth:`from_arrays` takes them back."""
        names = "\n".join([str(self.n_items), str(self.n_relations), *self.relations, *self.entities])
        return {"triplets": self.triplets, "names": np.frombuffer(names.encode(), dtype=np.uint8)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> KnowledgeGraph:
        """What :meth:`arrays` gave."""
        n_items, n_relations, *names = arrays["names"].tobytes().decode().split("\n")
        r = int(n_relations)
        return cls(arrays["triplets"], tuple(names[r:]), tuple(names[:r]), int(n_items))

    def to(self, device: torch.device | str) -> KnowledgeGraph:
        """The same: nothing here lives on a device."""
        return self


def controlled(knowledge: KnowledgeGraph, control: Control, rng: np.random.Generator) -> NDArray[np.int64]:
    """Triplets under a control, ``(E, 3)``; as many for every seed.

    Args:
        knowledge: the graph.
        control: see :data:`Control`.
        rng: decides which tail a triplet gets.
    """
    if control == "empty":
        return knowledge.triplets[:0]
    if control == "interacts":
        return knowledge.of([INTERACTS]).triplets if INTERACTS in knowledge.relations else knowledge.triplets[:0]
    return shuffled_tails(knowledge.triplets, rng) if control == "shuffled" else knowledge.triplets


def shuffled_tails(triplets: NDArray[np.int64], rng: np.random.Generator, rounds: int = 200) -> NDArray[np.int64]:
    """Tails exchanged within each relation, so that nobody's degrees change and nothing else is as it was.

    A random order would leave some pairs that were there before, and make others twice; they are exchanged again with
    random ones until none is left, or ``rounds`` have passed: in a relation that links nearly all pairs some must stay.

    Args:
        triplets: ``(E, 3)``.
        rng: of the exchange.
        rounds: at most, for each relation.

    Returns:
        ``(E, 3)``, in the order of the old ones.
    """
    found = triplets.copy()
    n = int(triplets[:, 2].max(initial=0)) + 1
    for relation in np.unique(triplets[:, 1]):
        rows = np.flatnonzero(triplets[:, 1] == relation)
        base, tails = triplets[rows, 0] * n, triplets[rows, 2]
        known = np.unique(base + tails)

        def wrong(tried: NDArray[np.int64], base: NDArray[np.int64] = base, known: NDArray[np.int64] = known) -> Any:
            pair = base + tried
            order = pair.argsort(kind="stable")
            twice = np.zeros(len(pair), dtype=bool)
            twice[order[1:]] = pair[order[1:]] == pair[order[:-1]]
            return twice | contains(known, pair)

        new = tails[rng.permutation(len(tails))]
        bad = wrong(new)
        for _ in range(rounds):
            if not bad.any():
                break
            others = rng.integers(0, len(new), 2 * int(bad.sum()) + 2)
            chosen = np.union1d(np.flatnonzero(bad), others)
            tried = new.copy()
            tried[chosen] = new[rng.permutation(chosen)]
            still = wrong(tried)
            if still.sum() <= bad.sum():
                new, bad = tried, still
        found[rows, 2] = new
    return found


def contains(known: NDArray[np.int64], asked: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which of ``asked`` are among ``known``, which is sorted; both one-dimensional."""
    if len(known) == 0:
        return np.zeros(asked.shape, dtype=bool)
    place = np.searchsorted(known, asked).clip(max=len(known) - 1)
    found: NDArray[np.bool_] = known[place] == asked
    return found


def with_inverses(triplets: NDArray[np.int64], n_relations: int) -> NDArray[np.int64]:
    """The triplets and behind them the same read from their tails, as relations ``r + R``; ``(2E, 3)``."""
    head, relation, tail = triplets.T
    return np.concatenate([triplets, np.stack([tail, relation + n_relations, head], axis=1)])


# -- constructions -----------------------------------------------------------------------------------------------------


def diagnosis_classes(codes: Iterable[str]) -> list[str | None]:
    """The class of each diagnosis: its CCS category where the user has the table, else the category of its ICD code.

    Args:
        codes: as cohorts write them, ``"9:4280"``.

    Returns:
        ``"ccs:108"``, ``"9:428"``; ``None`` for a code that is a class already (``"ccs:98"``) or that no version says.
    """
    known: dict[str, str] = {}
    if find_table(data_dir() / "knowledge", coding.CCS_FILES["diagnosis"][0]) is not None:
        known = dict(coding.ccs_map("diagnosis").iter_rows())

    def category(code: str) -> str | None:
        version, _, plain = code.partition(":")
        if version not in ("9", "10"):
            return None
        return f"{version}:{plain[: 4 if version == '9' and plain.startswith('E') else 3]}"

    return [known.get(code) or category(code) for code in codes]


def _entities(vocab: Mapping[Kind, Vocabulary]) -> tuple[list[str], dict[Kind, int]]:
    """Names of medications, diagnoses and procedures, and where each kind begins."""
    names: list[str] = []
    start: dict[Kind, int] = {}
    order: tuple[Kind, ...] = ("medication", "diagnosis", "procedure")
    for kind in order:
        start[kind] = len(names)
        names += [f"{kind}:{code}" for code in vocab[kind].codes]
    return names, start


def house(
    vocab: Mapping[Kind, Vocabulary],
    seen: SeenCodes,
    ddi: NDArray[np.bool_],
    *,
    min_lift: float = 1.0,
    min_visits: int = MIN_VISITS,
    per_medication: int = 0,
) -> KnowledgeGraph:
    """The house's graph, see the module.

    Args:
        vocab: one vocabulary for each kind of code.
        seen: what training sees.
        ddi: ``(M, M)`` bool, which medications interact.
        min_lift: a pair needs more.
        min_visits: a pair needs as many visits with both.
        per_medication: at most so many diagnoses, and procedures, of each medication, those with the greatest lift, of
            equals the first ids; 0: all.
    """
    names, start = _entities(vocab)
    M = len(vocab["medication"])
    given = seen.matrix("medication", M)
    parts = []
    for relation, kind in enumerate(KINDS[:2]):
        together, found = lift(given, seen.matrix(kind, len(vocab[kind])))
        found[together < min_visits] = 0
        if per_medication and found.shape[1] > per_medication:
            last = np.argsort(-found, axis=1, kind="stable")[:, per_medication:]
            np.put_along_axis(found, last, 0, axis=1)
        parts.append(_rows(np.argwhere(found > min_lift), relation, start[kind]))
    parts.append(_rows(np.argwhere(ddi), 2, 0))
    number = {name: i for i, name in enumerate(names)}

    def entity(name: str) -> int:
        if name not in number:
            number[name] = len(names)
            names.append(name)
        return number[name]

    parents = set()
    for m, code in enumerate(vocab["medication"].codes):
        if ATC_START.match(code):
            group, top = entity(f"ATC:{cut(code, 2)}"), entity(f"ATC:{cut(code, 1)}")
            parents |= {(m, 3, group), (group, 3, top)}
    codes = vocab["diagnosis"].codes
    classes = [
        (start["diagnosis"] + d, 4, entity(f"class:{name}"))
        for d, name in enumerate(diagnosis_classes(codes))
        if name is not None and name != codes[d]
    ]
    parts += [np.array(sorted(rows), dtype=np.int64).reshape(-1, 3) for rows in (parents, classes)]
    return KnowledgeGraph(np.concatenate(parts), tuple(names), HOUSE, M)


def study(vocab: Mapping[Kind, Vocabulary], seen: SeenCodes, ddi: NDArray[np.bool_]) -> KnowledgeGraph:
    """The graph of the third paper, see the module; a patient of whom nothing is seen is an entity without triplets."""
    names, start = _entities(vocab)
    first = len(names)
    parts = []
    for relation, kind in enumerate(KINDS):
        rows = seen.codes[kind]
        pairs = np.stack([seen.patient[rows.row_of_value] + first, rows.values.astype(np.int64)], axis=1)
        parts.append(_rows(pairs, relation, start[kind]))
    parts.append(_rows(np.argwhere(ddi), 3, 0))
    names += [f"patient:{p}" for p in range(seen.n_patients)]
    return KnowledgeGraph(np.concatenate(parts), tuple(names), STUDY, len(vocab["medication"]))


def build(
    construction: Construction,
    vocab: Mapping[Kind, Vocabulary],
    seen: SeenCodes,
    ddi: NDArray[np.bool_],
    per_medication: int = 0,
) -> KnowledgeGraph:
    """One of the two constructions.

    Raises:
        MedrecError: there is no such construction.
    """
    if construction == "study":
        return study(vocab, seen, ddi)
    if construction == "house":
        return house(vocab, seen, ddi, per_medication=per_medication)
    raise MedrecError(f"There is no construction {construction!r} of a knowledge graph. There are house, study.")


def _rows(pairs: NDArray[np.int64], relation: int, first_tail: int) -> NDArray[np.int64]:
    """Triplets from pairs of a head and a tail whose numbers begin at ``first_tail``."""
    head, tail = pairs[:, 0], pairs[:, 1] + first_tail
    return np.stack([head, np.full(len(pairs), relation), tail], axis=1).astype(np.int64)
