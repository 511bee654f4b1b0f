"""Text files of graphs as the released codes and libraries read them: KGIN and KGAT, DiffKG, RecBole, the third paper.

Users are patients, items are medications; ids are numbers from 0, and items are the first entities.

KGIN, KGAT
    A folder with ``train.txt`` and ``test.txt``, a user a line with his items behind him, and ``kg_final.txt``, a
    triplet a line: head, relation, tail.
DiffKG
    ``kg.txt``, as ``kg_final.txt``.  Its matrices are pickles, which we neither write nor read; the text files of KGIN
    hold the same.
RecBole
    Atomic files with a typed header, separated by tabs: ``NAME.inter``, ``NAME.kg``, and ``NAME.link``, which entity an
    item is.  Ids are names.
The third paper
    Its figure 4: rows (head, tail, 1), diagnoses from 0, procedures from 3 000, medications from 6 000.

What does not fit, an id beyond its range, a word where a number belongs, is an error that names file, line and value.
An item that no triplet names is none: it keeps an empty neighbourhood.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medrec.graphs.knowledge import KnowledgeGraph
from medrec.types import MedrecError

OFFSETS = {"diagnosis": 0, "procedure": 3000, "medication": 6000}
"""Where the ids of each kind begin in the third paper's list; each range ends where the next begins."""
LAST = 9000
"""Where the last range ends."""


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Number and words of each line that has any.

    Raises:
        MedrecError: there is no such file, or it is no text.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise MedrecError(f"{path} cannot be read: {error.strerror}. Give the file of the graph.") from None
    except UnicodeDecodeError:
        raise MedrecError(f"{path} is no text in UTF-8. Give the text files of the graph, no pickle.") from None
    for number, line in enumerate(text.splitlines(), 1):
        if words := line.split():
            yield number, words


def _ids(path: Path, number: int, words: Sequence[str]) -> list[int]:
    for word in words:
        if not (word.isascii() and word.isdigit()):
            raise MedrecError(f"{path}, line {number}: {word!r} is no id. Ids are whole numbers from 0.")
    return [int(word) for word in words]


def _written(path: Path, lines: Iterator[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


# -- KGIN, KGAT, DiffKG ------------------------------------------------------------------------------------------------


def write_interactions(path: Path, matrix: NDArray[np.bool_]) -> None:
    """A user a line with his items behind him; users without any have no line.

    Args:
        path: of the file, ``train.txt`` or ``test.txt``.
        matrix: ``(U, M)``.
    """
    rows = ((user, np.flatnonzero(row)) for user, row in enumerate(matrix))
    _written(path, (" ".join(map(str, [user, *items])) for user, items in rows if len(items)))


def read_interactions(path: Path, n_patients: int | None = None, n_items: int | None = None) -> NDArray[np.bool_]:
    """What :func:`write_interactions` wrote.

    Args:
        path: of the file.
        n_patients: how many users there are; ``None``: as many as are named.
        n_items: how many items there are; ``None`` likewise.

    Raises:
        MedrecError: a word that is no id, or an id that is not below the number given.
    """
    pairs = []
    for number, words in _lines(path):
        user, *items = _ids(path, number, words)
        for what, found, bound in (("user", [user], n_patients), ("item", items, n_items)):
            beyond = [i for i in found if bound is not None and i >= bound]
            if beyond:
                raise MedrecError(f"{path}, line {number}: there is no {what} {beyond[0]}; there are {bound}.")
        pairs += [(user, item) for item in items]
    users, chosen = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    shape = (
        int(users.max(initial=-1)) + 1 if n_patients is None else n_patients,
        int(chosen.max(initial=-1)) + 1 if n_items is None else n_items,
    )
    matrix = np.zeros(shape, dtype=bool)
    matrix[users, chosen] = True
    return matrix


def write_triplets(path: Path, knowledge: KnowledgeGraph) -> None:
    """A triplet a line: head, relation, tail; ``kg_final.txt`` of KGIN and KGAT, ``kg.txt`` of DiffKG."""
    _written(path, (" ".join(map(str, row)) for row in knowledge.triplets.tolist()))


def read_triplets(
    path: Path, n_items: int, n_entities: int | None = None, n_relations: int | None = None
) -> KnowledgeGraph:
    """What :func:`write_triplets` wrote; entities and relations are called by their numbers.

    Args:
        path: of the file.
        n_items: how many items there are; all are entities, in a triplet or not.
        n_entities: how many entities there are; ``None``: the items, and as many as are named.
        n_relations: how many relations there are; ``None``: as many as are named.

    Raises:
        MedrecError: a line without three ids, or an id that is not below the number given.
    """
    rows = []
    for number, words in _lines(path):
        row = _ids(path, number, words)
        if len(row) != 3:
            raise MedrecError(f"{path}, line {number}: {len(row)} ids, and a triplet has three: head, relation, tail.")
        bounds = (("entity", n_entities), ("relation", n_relations), ("entity", n_entities))
        for i, (what, bound) in zip(row, bounds, strict=True):
            if bound is not None and i >= bound:
                raise MedrecError(f"{path}, line {number}: there is no {what} {i}; there are {bound}.")
        rows.append(row)
    triplets = np.array(rows, dtype=np.int64).reshape(-1, 3)
    N = max(n_items, int(triplets[:, [0, 2]].max(initial=-1)) + 1) if n_entities is None else n_entities
    R = int(triplets[:, 1].max(initial=-1)) + 1 if n_relations is None else n_relations
    names = tuple(f"{'medication' if i < n_items else 'entity'}:{i}" for i in range(N))
    return KnowledgeGraph(triplets, names, tuple(map(str, range(R))), n_items)


# -- RecBole -----------------------------------------------------------------------------------------------------------


def write_recbole(folder: Path, name: str, matrix: NDArray[np.bool_], knowledge: KnowledgeGraph) -> None:
    """Three atomic files in a folder of the data set's name, as the library expects them.

    Args:
        folder: in which the folder ``name`` is made.
        name: of the data set.
        matrix: ``(U, M)``.
        knowledge: its first ``M`` entities are the items.

    Raises:
        MedrecError: there are other items in the matrix than in the graph, or a name has a tab in it.
    """
    if matrix.shape[1] != knowledge.n_items:
        raise MedrecError(
            f"The matrix has {matrix.shape[1]} items and the graph {knowledge.n_items}. Give those of one cohort."
        )
    tabs = [entity for entity in (*knowledge.entities, *knowledge.relations) if "\t" in entity or "\n" in entity]
    if tabs:
        raise MedrecError(f"{tabs[0]!r} has a tab or a new line in it, by which the files are cut. Rename it.")
    items = [entity.partition(":")[2] for entity in knowledge.entities[: knowledge.n_items]]
    users, chosen = np.nonzero(matrix)
    place = folder / name

    def table(ending: str, header: Sequence[str], rows: Iterator[Sequence[str]]) -> None:
        head = "\t".join(f"{column}:token" for column in header)
        _written(place / f"{name}.{ending}", iter([head, *("\t".join(row) for row in rows)]))

    pairs = zip(users.tolist(), chosen.tolist(), strict=True)
    table("inter", ("user_id", "item_id"), ((str(u), items[i]) for u, i in pairs))
    named = (
        (knowledge.entities[h], knowledge.relations[r], knowledge.entities[t])
        for h, r, t in knowledge.triplets.tolist()
    )
    table("kg", ("head_id", "relation_id", "tail_id"), named)
    table("link", ("item_id", "entity_id"), zip(items, knowledge.entities[: knowledge.n_items], strict=True))


def read_recbole(folder: Path, name: str) -> tuple[NDArray[np.bool_], KnowledgeGraph, tuple[str, ...]]:
    """What :func:`write_recbole` wrote, or other atomic files with these columns.

    Returns:
        The matrix ``(U, M)``, the graph, and the names of users.  Items stand in the order of ``NAME.link``, then
        those without a link; other entities, relations and users in the order in which they are met.

    Raises:
        MedrecError: a file or a column is missing, or a row is shorter than the header.
    """
    place = folder / name

    def table(ending: str, *wanted: str) -> list[list[str]]:
        path = place / f"{name}.{ending}"
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except OSError as error:
            raise MedrecError(
                f"{path} cannot be read: {error.strerror}. RecBole needs .inter, .kg and .link."
            ) from None
        header = [cell.partition(":")[0] for cell in lines[0].split("\t")] if lines else []
        missing = [column for column in wanted if column not in header]
        if missing:
            raise MedrecError(f"{path} has no column {missing[0]!r}. It has {', '.join(header) or 'none'}.")
        places = [header.index(column) for column in wanted]
        found = []
        for number, line in enumerate(lines[1:], 2):
            cells = line.split("\t")
            if len(cells) != len(header):
                raise MedrecError(f"{path}, line {number}: {len(cells)} cells under a header of {len(header)}.")
            found.append([cells[i] for i in places])
        return found

    inter, link = table("inter", "user_id", "item_id"), dict(table("link", "item_id", "entity_id"))
    items = dict.fromkeys([*link, *(item for _, item in inter)])
    entities = {link.get(item, f"medication:{item}"): i for i, item in enumerate(items)}
    if len(entities) < len(items):
        raise MedrecError(f"{place / name}.link: two items are one entity. Give each its own.")
    relations: dict[str, int] = {}
    triplets = [
        (
            entities.setdefault(h, len(entities)),
            relations.setdefault(r, len(relations)),
            entities.setdefault(t, len(entities)),
        )
        for h, r, t in table("kg", "head_id", "relation_id", "tail_id")
    ]
    users = {user: i for i, user in enumerate(dict.fromkeys(user for user, _ in inter))}
    column = {item: i for i, item in enumerate(items)}
    matrix = np.zeros((len(users), len(items)), dtype=bool)
    for user, item in inter:
        matrix[users[user], column[item]] = True
    rows = np.array(triplets, dtype=np.int64).reshape(-1, 3)
    return matrix, KnowledgeGraph(rows, tuple(entities), tuple(relations), len(items)), tuple(users)


# -- the third paper ---------------------------------------------------------------------------------------------------


def flat_list(knowledge: KnowledgeGraph) -> NDArray[np.int64]:
    """The graph of :func:`medrec.graphs.knowledge.study` as the third paper's figure 4 shows it: (head, tail, 1).

    Heads are patients by their number; in rows of interactions they are medications, as the tails.  One value stands
    for all relations, so that only the range of a tail tells what it is.

    Args:
        knowledge: with patients among its entities.

    Returns:
        ``(E, 3)``.

    Raises:
        MedrecError: a kind has more codes than its range, so that two ids would be one.
    """
    number = np.zeros(knowledge.n_entities, dtype=np.int64)
    ends = [*list(OFFSETS.values())[1:], LAST]
    for kind, end in zip(OFFSETS, ends, strict=True):
        ids = knowledge.kind(kind)
        room = end - OFFSETS[kind]
        if len(ids) > room:
            raise MedrecError(
                f"The list of the study has room for {room} codes of a kind, and there are {len(ids)} {kind} codes: "
                f"{knowledge.entities[ids[room]]} would be read as another kind. Use the text files of KGIN."
            )
        number[ids] = OFFSETS[kind] + np.arange(len(ids))
    patients = knowledge.kind("patient")
    number[patients] = np.arange(len(patients))
    head, _, tail = knowledge.triplets.T
    return np.stack([number[head], number[tail], np.ones(len(head), dtype=np.int64)], axis=1)
