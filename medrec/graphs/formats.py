"""Text files of graphs as the released codes and libraries read them: KGIN and KGAT, DiffKG, RecBole, the third paper.

Users are patients, items are medications; ids are numbers from 0, and items are the first entities.

KGIN, KGAT
    A folder with ``train.txt`` and ``test.txt``, a user a line with his items behind him, and ``kg_final.txt``, a
    triplet a line: head, relation, tail.  Names stand in ``user_list.txt``, ``item_list.txt``, ``entity_list.txt`` and
    ``relation_list.txt``, under a header with ``org_id`` and ``remap_id``.  ``valid.txt`` is ours: the released codes
    choose their epoch on test items and know no such file.
DiffKG
    ``kg.txt``, as ``kg_final.txt``.  Its matrices are pickles, which we neither write nor read; the text files of KGIN
    hold the same and stand beside it.
RecBole
    Atomic files with a typed header, separated by tabs: ``NAME.inter``, ``NAME.kg``, and ``NAME.link``, which entity an
    item is.  Ids are names.  Interactions that are split already are ``NAME.train.inter`` and so on, for its option
    ``benchmark_filename``; ``NAME.user`` lists the users.
The third paper
    Its figure 4: rows (head, tail, 1), diagnoses from 0, procedures from 3 000, medications from 6 000.

:func:`write` and :func:`read` take the first three by name.  What does not fit, an id beyond its range, a word where a
number belongs, is an error that names file, line and value.
An item that no triplet names is none: it keeps an empty neighbourhood.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from medrec.graphs.knowledge import KnowledgeGraph
from medrec.paths import announce_opened
from medrec.types import MedrecError

Format = Literal["kgin", "kgat", "diffkg", "recbole"]
"""Formats that :func:`write` and :func:`read` know; ``kgin`` and ``kgat`` are one."""
PARTS = ("train", "valid", "test")
"""What interactions are for, as files are called."""
OFFSETS = {"diagnosis": 0, "procedure": 3000, "medication": 6000}
"""Where the ids of each kind begin in the third paper's list; each range ends where the next begins."""
LAST = 9000
"""Where the last range ends."""


@dataclass(frozen=True)
class GraphFiles:
    """What a folder of files holds; ``U`` users, ``M`` items.

    Args:
        pairs: for each of :data:`PARTS` that there is, ``(n, 2)`` int64, user and item, sorted, each once.
        users: ``U`` names.
        knowledge: its first ``M`` entities are the items.
    """

    pairs: Mapping[str, NDArray[np.int64]]
    users: tuple[str, ...]
    knowledge: KnowledgeGraph

    def matrix(self, part: str) -> NDArray[np.bool_]:
        """``(U, M)`` bool, the interactions of a part."""
        return _matrix(self.pairs[part], len(self.users), self.knowledge.n_items)


def _matrix(pairs: NDArray[np.int64], n_patients: int, n_items: int) -> NDArray[np.bool_]:
    found = np.zeros((n_patients, n_items), dtype=bool)
    found[pairs[:, 0], pairs[:, 1]] = True
    return found


def _count(ids: NDArray[np.int64]) -> int:
    """How many there are where the highest id is the last."""
    return int(ids.max(initial=-1)) + 1


def _lines(path: Path, remedy: str = "Give the file of the graph.") -> Iterator[tuple[int, str]]:
    """Number and text of each line that holds more than blanks.

    Raises:
        MedrecError: there is no such file, or it is no text.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise MedrecError(f"{path} cannot be read: {error.strerror}. {remedy}") from None
    except UnicodeDecodeError:
        raise MedrecError(f"{path} is no text in UTF-8. Give the text files of the graph, no pickle.") from None
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            yield number, line


def _rows(path: Path) -> Iterator[tuple[int, list[int]]]:
    """Number and ids of each line."""
    for number, line in _lines(path):
        yield number, _ids(path, number, line.split())


def _ids(path: Path, number: int, words: Sequence[str]) -> list[int]:
    for word in words:
        if not (word.isascii() and word.isdigit()):
            raise MedrecError(f"{path}, line {number}: {word!r} is no id. Ids are whole numbers from 0.")
    return [int(word) for word in words]


def _refuse_tabs(names: Iterable[str]) -> None:
    tabs = [name for name in names if "\t" in name or "\n" in name]
    if tabs:
        raise MedrecError(f"{tabs[0]!r} has a tab or a new line in it, by which the files are cut. Rename it.")


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


def read_pairs(path: Path, n_patients: int | None = None, n_items: int | None = None) -> NDArray[np.int64]:
    """What :func:`write_interactions` wrote, as pairs of a user and an item.

    Args:
        path: of the file.
        n_patients: how many users there are; ``None``: as many as are named.
        n_items: how many items there are; ``None`` likewise.

    Returns:
        ``(n, 2)``, sorted, each once.

    Raises:
        MedrecError: a word that is no id, or an id that is not below the number given.
    """
    pairs = []
    for number, (user, *items) in _rows(path):
        for what, found, bound in (("user", [user], n_patients), ("item", items, n_items)):
            beyond = [i for i in found if bound is not None and i >= bound]
            if beyond:
                raise MedrecError(f"{path}, line {number}: there is no {what} {beyond[0]}; there are {bound}.")
        pairs += [(user, item) for item in items]
    return np.unique(np.array(pairs, dtype=np.int64).reshape(-1, 2), axis=0)


def read_interactions(path: Path, n_patients: int | None = None, n_items: int | None = None) -> NDArray[np.bool_]:
    """The matrix ``(U, M)`` of :func:`read_pairs`, which says what is taken and refused."""
    pairs = read_pairs(path, n_patients, n_items)
    users = _count(pairs[:, 0]) if n_patients is None else n_patients
    return _matrix(pairs, users, _count(pairs[:, 1]) if n_items is None else n_items)


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
    for number, row in _rows(path):
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


def write_names(path: Path, names: Sequence[str]) -> None:
    """The list of names of KGAT, in the order of their ids: ``org_id`` and ``remap_id`` under this header.

    Ours is separated by tabs, since names of relations have spaces in them.

    Raises:
        MedrecError: a name has a tab in it.
    """
    _refuse_tabs(names)
    _written(path, iter(["org_id\tremap_id", *(f"{name}\t{i}" for i, name in enumerate(names))]))


def read_names(path: Path) -> tuple[str, ...] | None:
    """What :func:`write_names` wrote, or another list with these columns; ``None`` where there is no such file.

    Raises:
        MedrecError: a column is missing, a row is too short, or ids are not the numbers from 0, each once.
    """
    if not path.exists():
        return None
    (_, head), *lines = list(_lines(path)) or [(1, "")]
    separator = "\t" if "\t" in head else None
    header = head.split(separator)
    if not {"org_id", "remap_id"} <= set(header):
        raise MedrecError(f"{path} has no header with org_id and remap_id. Add it, or take the list away.")
    name, place = header.index("org_id"), header.index("remap_id")
    found: dict[int, str] = {}
    for number, line in lines:
        cells = line.split(separator)
        if len(cells) <= max(name, place):
            raise MedrecError(f"{path}, line {number}: {len(cells)} cells under a header of {len(header)}.")
        (i,) = _ids(path, number, [cells[place]])
        if i in found or i >= len(lines):
            why = "stands there twice" if i in found else f"is too high for a list of {len(lines)}"
            raise MedrecError(f"{path}, line {number}: id {i} {why}. Ids are the numbers from 0, each once.")
        found[i] = cells[name]
    return tuple(found[i] for i in range(len(found)))


def _read_numbered(folder: Path, form: Format) -> GraphFiles:
    """Files of KGIN, KGAT and DiffKG; the lists bound the ids where they are there."""
    users, items, entities, relations = (
        read_names(folder / f"{what}_list.txt") for what in ("user", "item", "entity", "relation")
    )
    if entities is not None and items is not None and len(items) > len(entities):
        raise MedrecError(
            f"{folder / 'item_list.txt'} has {len(items)} items, and entity_list.txt {len(entities)} entities. Every "
            "item is an entity: add the missing ones."
        )
    bounds = [None if names is None else len(names) for names in (users, items)]
    needed = ("train", "test") if form != "diffkg" else ()
    paths = {part: folder / f"{part}.txt" for part in PARTS}
    pairs = {part: read_pairs(path, *bounds) for part, path in paths.items() if part in needed or path.exists()}
    n_users, n_items = (
        max((_count(found[:, side]) for found in pairs.values()), default=0) if bound is None else bound
        for side, bound in enumerate(bounds)
    )
    knowledge = read_triplets(
        folder / ("kg.txt" if form == "diffkg" else "kg_final.txt"),
        n_items,
        None if entities is None else max(n_items, len(entities)),
        None if relations is None else len(relations),
    )
    if entities is not None and len(entities) == knowledge.n_entities:
        knowledge = KnowledgeGraph(knowledge.triplets, entities, knowledge.relations, n_items)
    if relations is not None:
        knowledge = KnowledgeGraph(knowledge.triplets, knowledge.entities, relations, n_items)
    return GraphFiles(pairs, users or tuple(map(str, range(n_users))), knowledge)


# -- RecBole -----------------------------------------------------------------------------------------------------------


def write_recbole(folder: Path, name: str, parts: Mapping[str, NDArray[np.bool_]], knowledge: KnowledgeGraph) -> None:
    """Atomic files in a folder, which the library expects to bear the data set's name.

    Args:
        folder: of the files.
        name: of the data set.
        parts: ``(U, M)`` each, named by :data:`PARTS`; training interactions alone are ``NAME.inter``.
        knowledge: its first ``M`` entities are the items.

    Raises:
        MedrecError: a name has a tab in it.
    """
    _refuse_tabs((*knowledge.entities, *knowledge.relations))
    items = [entity.partition(":")[2] for entity in knowledge.entities[: knowledge.n_items]]

    def table(ending: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        head = "\t".join(f"{column}:token" for column in header)
        _written(folder / f"{name}.{ending}", iter([head, *("\t".join(row) for row in rows)]))

    for part, matrix in parts.items():
        ending = "inter" if list(parts) == ["train"] else f"{part}.inter"
        table(ending, ("user_id", "item_id"), ((str(u), items[i]) for u, i in np.argwhere(matrix).tolist()))
    table("user", ("user_id",), ([str(u)] for u in range(len(next(iter(parts.values()))))))
    named = (
        (knowledge.entities[h], knowledge.relations[r], knowledge.entities[t])
        for h, r, t in knowledge.triplets.tolist()
    )
    table("kg", ("head_id", "relation_id", "tail_id"), named)
    table("link", ("item_id", "entity_id"), zip(items, knowledge.entities[: knowledge.n_items], strict=True))


def read_recbole(folder: Path, name: str) -> GraphFiles:
    """What :func:`write_recbole` wrote, or other atomic files with these columns.

    Users stand in the order of ``NAME.user`` where there is one, items in that of ``NAME.link``, then those that the
    file leaves out; other entities and relations in the order in which they are met.

    Raises:
        MedrecError: a file or a column is missing, or a row is shorter than the header.
    """

    def table(ending: str, *wanted: str) -> list[list[str]]:
        path = folder / f"{name}.{ending}"
        remedy = "RecBole needs .inter, .kg and .link, called by the name of the folder."
        (_, head), *lines = list(_lines(path, remedy)) or [(1, "")]
        header = [cell.partition(":")[0] for cell in head.split("\t")]
        missing = [column for column in wanted if column not in header]
        if missing:
            raise MedrecError(
                f"{path} has no column {missing[0]!r}. It has {', '.join(filter(None, header)) or 'none'}."
            )
        places = [header.index(column) for column in wanted]
        found = []
        for number, line in lines:
            cells = line.split("\t")
            if len(cells) != len(header):
                raise MedrecError(f"{path}, line {number}: {len(cells)} cells under a header of {len(header)}.")
            found.append([cells[i] for i in places])
        return found

    there = [part for part in PARTS if (folder / f"{name}.{part}.inter").exists()]
    endings = {part: f"{part}.inter" for part in dict.fromkeys(["train", *there])} if there else {"train": "inter"}
    inter = {part: table(ending, "user_id", "item_id") for part, ending in endings.items()}
    met = [pair for rows in inter.values() for pair in rows]
    link = dict(table("link", "item_id", "entity_id"))
    items = dict.fromkeys([*link, *(item for _, item in met)])
    entities = {link.get(item, f"medication:{item}"): i for i, item in enumerate(items)}
    if len(entities) < len(items):
        raise MedrecError(f"{folder / name}.link: two items are one entity. Give each its own.")
    relations: dict[str, int] = {}
    triplets = [
        (
            entities.setdefault(h, len(entities)),
            relations.setdefault(r, len(relations)),
            entities.setdefault(t, len(entities)),
        )
        for h, r, t in table("kg", "head_id", "relation_id", "tail_id")
    ]
    listed = table("user", "user_id") if (folder / f"{name}.user").exists() else []
    names = dict.fromkeys([*(user for (user,) in listed), *(user for user, _ in met)])
    row, column = ({key: i for i, key in enumerate(ids)} for ids in (names, items))
    pairs = {
        part: np.unique(np.array([(row[u], column[i]) for u, i in rows], dtype=np.int64).reshape(-1, 2), axis=0)
        for part, rows in inter.items()
    }
    graph = np.array(triplets, dtype=np.int64).reshape(-1, 3)
    return GraphFiles(pairs, tuple(names), KnowledgeGraph(graph, tuple(entities), tuple(relations), len(items)))


# -- by name -----------------------------------------------------------------------------------------------------------


def write(
    folder: Path, form: Format, parts: Mapping[str, NDArray[np.bool_]], knowledge: KnowledgeGraph, name: str
) -> None:
    """All files of a format; users are called by their row.

    Args:
        folder: of the files.
        form: of them.
        parts: interactions for each of :data:`PARTS`, ``(U, M)``.
        knowledge: its first ``M`` entities are the items.
        name: of the data set, by which RecBole calls its files.

    Raises:
        MedrecError: there are other items in a matrix than in the graph, or a name has a tab in it.
    """
    for matrix in parts.values():
        if matrix.shape[1] != knowledge.n_items:
            raise MedrecError(
                f"The matrix has {matrix.shape[1]} items and the graph {knowledge.n_items}. Give those of one cohort."
            )
    if form == "recbole":
        write_recbole(folder, name, parts, knowledge)
        return
    for part, matrix in parts.items():
        write_interactions(folder / f"{part}.txt", matrix)
    write_triplets(folder / ("kg.txt" if form == "diffkg" else "kg_final.txt"), knowledge)
    items = [entity.partition(":")[2] for entity in knowledge.entities[: knowledge.n_items]]
    users = [str(u) for u in range(len(next(iter(parts.values()))))]
    lists = {"user": users, "item": items, "entity": knowledge.entities, "relation": knowledge.relations}
    for what, names in lists.items():
        write_names(folder / f"{what}_list.txt", names)


def read(folder: Path, form: Format) -> GraphFiles:
    """What :func:`write` wrote, or files of others.

    Lists of names are not needed; where they are there, ids are checked against them.  A folder of DiffKG may have no
    text files of interactions, since its own are pickles: then there are no users, and no entity is an item.

    Args:
        folder: of the files; RecBole's are called by the name of the folder.
        form: of them.

    Raises:
        MedrecError: a file is missing, or something in one does not fit, named with its line.
    """
    if not folder.is_dir():
        raise MedrecError(f"{folder} is not a folder. Give the one that holds the files of the graph.")
    announce_opened(f"the graph in {folder}", folder)  # each line of the interactions is of one patient
    return read_recbole(folder, folder.absolute().name) if form == "recbole" else _read_numbered(folder, form)


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
