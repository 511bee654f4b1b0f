"""Files of graphs: what is written is read again, and what does not fit is named with its line."""

from typing import get_args

import numpy as np
import pytest

from medrec.data.cohort import Vocabulary
from medrec.graphs.formats import (
    Format,
    flat_list,
    read,
    read_interactions,
    read_names,
    read_recbole,
    read_triplets,
    write,
    write_interactions,
    write_recbole,
    write_triplets,
)
from medrec.graphs.interactions import Interactions
from medrec.graphs.knowledge import KnowledgeGraph, SeenCodes, study
from medrec.types import MedrecError
from tests.ward import LAST, ward

MATRIX = Interactions.of(ward(), ~LAST, LAST).matrix
DDI = np.zeros((5, 5), dtype=bool)
DDI[0, 2] = DDI[2, 0] = True


def graph():
    return study(ward().vocab, SeenCodes.of(ward(), ~LAST, LAST), DDI)


def test_users_with_their_items(tmp_path):
    write_interactions(tmp_path / "train.txt", MATRIX)
    assert (tmp_path / "train.txt").read_text() == "0 0 1 2\n1 3 4\n2 0 4\n"
    np.testing.assert_array_equal(read_interactions(tmp_path / "train.txt", 3, 5), MATRIX)
    np.testing.assert_array_equal(read_interactions(tmp_path / "train.txt"), MATRIX)
    # A user without items has no line, and is still there where the number is given.
    write_interactions(tmp_path / "test.txt", np.array([[0, 1], [0, 0]], dtype=bool))
    assert read_interactions(tmp_path / "test.txt", 2, 2).tolist() == [[False, True], [False, False]]
    (tmp_path / "empty.txt").write_text("")
    assert read_interactions(tmp_path / "empty.txt", 2, 3).shape == (2, 3)


def test_triplets(tmp_path):
    write_triplets(tmp_path / "kg_final.txt", graph())
    again = read_triplets(tmp_path / "kg_final.txt", 5)
    np.testing.assert_array_equal(again.triplets, graph().triplets)
    assert (again.n_entities, again.n_relations, again.n_items) == (11, 4, 5)
    assert again.entities[4:6] == ("medication:4", "entity:5")
    # Items that no triplet names are entities all the same.
    (tmp_path / "kg.txt").write_text("0 0 1\n")
    assert read_triplets(tmp_path / "kg.txt", 7).n_entities == 7
    (tmp_path / "none.txt").write_text("")
    assert read_triplets(tmp_path / "none.txt", 7).triplets.shape == (0, 3)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0 0 1\n0 0\n", "line 2: 2 ids"),
        ("0 0 1\n\n0 9 1\n", "line 3: there is no relation 9; there are 2"),
        ("0 0 6\n", "line 1: there is no entity 6; there are 6"),
        ("0 treats 1\n", "line 1: 'treats' is no id"),
        ("0 -1 1\n", "line 1: '-1' is no id"),
    ],
)
def test_triplets_that_do_not_fit(tmp_path, text, words):
    (tmp_path / "kg.txt").write_text(text)
    with pytest.raises(MedrecError, match=words):
        read_triplets(tmp_path / "kg.txt", 3, n_entities=6, n_relations=2)


@pytest.mark.parametrize(
    ("text", "words"),
    [("0 1\n3 1\n", "line 2: there is no user 3"), ("0 1 5\n", "there is no item 5; there are 5"), ("0 x\n", "'x'")],
)
def test_interactions_that_do_not_fit(tmp_path, text, words):
    (tmp_path / "train.txt").write_text(text)
    with pytest.raises(MedrecError, match=words):
        read_interactions(tmp_path / "train.txt", 3, 5)


def test_what_is_no_text_or_is_not_there(tmp_path):
    (tmp_path / "trnMat.pkl").write_bytes(b"\x80\x04\x95\xff")
    with pytest.raises(MedrecError, match="no pickle"):
        read_triplets(tmp_path / "trnMat.pkl", 3)
    with pytest.raises(MedrecError, match="cannot be read: No such file"):
        read_interactions(tmp_path / "train.txt")


def named(g):
    """Triplets by names, which do not depend on numbers."""
    return {(g.entities[h], g.relations[r], g.entities[t]) for h, r, t in g.triplets.tolist()}


def test_atomic_files(tmp_path):
    write_recbole(tmp_path, "ward", {"train": MATRIX}, graph())
    assert (tmp_path / "ward.inter").read_text().splitlines()[:2] == ["user_id:token\titem_id:token", "0\tC03C"]
    assert (tmp_path / "ward.link").read_text().splitlines()[1] == "C03C\tmedication:C03C"
    again = read_recbole(tmp_path, "ward")
    np.testing.assert_array_equal(again.matrix("train"), MATRIX)
    assert again.users == ("0", "1", "2")
    assert again.knowledge.n_items == 5
    assert named(again.knowledge) == named(graph())
    # Without a list of users they stand in the order in which they are met.
    (tmp_path / "ward.user").unlink()
    (tmp_path / "ward.inter").write_text("item_id:token\tuser_id:token\nN02B\tx\nC03C\t0\nA\tx\n")
    others = read_recbole(tmp_path, "ward")
    assert others.users == ("x", "0")
    assert others.knowledge.entities[5] == "medication:A"  # no link names it: an item without triplets
    assert others.pairs["train"].tolist() == [[0, 4], [0, 5], [1, 0]]


def test_atomic_files_that_do_not_fit(tmp_path):
    write_recbole(tmp_path, "ward", {"train": MATRIX}, graph())
    kg = tmp_path / "ward.kg"
    kg.write_text(kg.read_text() + "a\tb\n")
    with pytest.raises(MedrecError, match=r"ward.kg, line \d+: 2 cells under a header of 3"):
        read_recbole(tmp_path, "ward")
    kg.write_text("head_id:token\ttail_id:token\n")
    with pytest.raises(MedrecError, match="no column 'relation_id'"):
        read_recbole(tmp_path, "ward")
    kg.write_text("")
    with pytest.raises(MedrecError, match="no column 'head_id'\\. It has none"):
        read_recbole(tmp_path, "ward")
    kg.unlink()
    with pytest.raises(MedrecError, match=r"ward\.kg cannot be read"):
        read_recbole(tmp_path, "ward")


HELD = np.array([[0, 0, 0, 0, 1], [0, 0, 1, 0, 0], [0, 0, 0, 0, 0]], dtype=bool)


@pytest.mark.parametrize("form", get_args(Format))
def test_a_folder_is_read_as_it_was_written(tmp_path, form):
    parts = {"train": MATRIX, "valid": ~HELD & ~MATRIX, "test": HELD}
    write(tmp_path / "ward", form, parts, graph(), "ward")
    again = read(tmp_path / "ward", form)
    assert again.pairs.keys() == parts.keys()
    for part, matrix in parts.items():
        np.testing.assert_array_equal(again.matrix(part), matrix)
    assert again.users == ("0", "1", "2")
    assert again.knowledge.entities[:5] == graph().entities[:5]
    assert named(again.knowledge) == named(graph())
    if form != "recbole":  # which has no numbers
        assert again.knowledge.content == graph().content


@pytest.mark.parametrize("form", get_args(Format))
def test_what_cannot_be_written(tmp_path, form):
    with pytest.raises(MedrecError, match="4 items and the graph 5"):
        write(tmp_path, form, {"train": MATRIX[:, :4]}, graph(), "ward")
    cut = KnowledgeGraph(np.zeros((0, 3)), ("medication:a\tb",), (), 1)
    with pytest.raises(MedrecError, match="has a tab"):
        write(tmp_path, form, {"train": np.ones((1, 1), bool)}, cut, "x")
    assert not (tmp_path / "x.inter").exists()


def test_files_of_others(tmp_path):
    # No list of names: users and items are as many as are named, and the items are the first entities.
    (tmp_path / "train.txt").write_text("0 0 3\n")
    (tmp_path / "test.txt").write_text("2 1\n")
    (tmp_path / "kg_final.txt").write_text("0 0 5\n")
    found = read(tmp_path, "kgin")
    assert (len(found.users), found.knowledge.n_items, found.knowledge.n_entities) == (3, 4, 6)
    # KGAT's lists are cut by blanks, and may have a column more.
    (tmp_path / "item_list.txt").write_text("org_id remap_id freebase_id\nd 3 m.3\na 0 m.0\nb 1 m.1\nc 2 m.2\n")
    (tmp_path / "entity_list.txt").write_text("org_id remap_id\na 0\nb 1\nc 2\nd 3\ne 4\n")
    with pytest.raises(MedrecError, match=r"kg_final.txt, line 1: there is no entity 5; there are 5"):
        read(tmp_path, "kgat")
    (tmp_path / "kg_final.txt").write_text("0 0 4\n")
    assert read(tmp_path, "kgat").knowledge.entities == ("a", "b", "c", "d", "e")
    # The matrices of DiffKG are pickles.
    (tmp_path / "train.txt").unlink()
    (tmp_path / "test.txt").unlink()
    (tmp_path / "item_list.txt").unlink()
    (tmp_path / "kg.txt").write_text("0 0 4\n")
    found = read(tmp_path, "diffkg")
    assert (found.pairs, found.users, found.knowledge.n_items) == ({}, (), 0)
    with pytest.raises(MedrecError, match=r"train.txt cannot be read"):
        read(tmp_path, "kgin")
    with pytest.raises(MedrecError, match="nowhere is not a folder"):
        read(tmp_path / "nowhere", "kgin")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no header with org_id and remap_id"),
        ("a 0\n", "no header with org_id and remap_id"),
        ("org_id remap_id\na\n", "line 2: 1 cells under a header of 2"),
        ("org_id remap_id\na 0\n\nb 0\n", "line 4: id 0 stands there twice"),
        ("org_id remap_id\na 0\nb 2\n", "line 3: id 2 is too high for a list of 2"),
        ("org_id remap_id\na x\n", "line 2: 'x' is no id"),
    ],
)
def test_lists_of_names_that_do_not_fit(tmp_path, text, words):
    (tmp_path / "item_list.txt").write_text(text)
    with pytest.raises(MedrecError, match=words):
        read_names(tmp_path / "item_list.txt")
    assert read_names(tmp_path / "user_list.txt") is None


def test_the_list_of_the_study():
    rows = flat_list(graph())
    assert rows.shape == (graph().n_triplets, 3)
    assert {*rows[:, 2]} == {1}
    tails = {tuple(row) for row in rows[:, :2].tolist()}
    # Patient 0 has diagnoses 0 and 1 and medications 6000 to 6002; the interacting pair stands in both directions.
    assert {t for h, t in tails if h == 0} == {0, 1, 6000, 6001, 6002}
    assert {(6000, 6002), (6002, 6000)} <= tails
    many = tuple(map(str, range(3001)))
    vocab = {**ward().vocab, "procedure": Vocabulary("procedure", many, many)}
    with pytest.raises(MedrecError, match="procedure:3000 would be read as another kind"):
        flat_list(study(vocab, SeenCodes.of(ward(), ~LAST, LAST), DDI))
