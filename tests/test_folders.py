"""Stored folders: whole or not at all, also when two write to one place at once."""

import os

import pytest

from medrec import folders
from medrec.folders import SEAL, atomic_folder, damage
from medrec.types import MedrecError


def write(place, text):
    with atomic_folder(place, "a thing") as tmp:
        (tmp / "a.txt").write_text(text)


def test_a_folder_is_sealed_and_replaced_as_a_whole(tmp_path):
    place = tmp_path / "thing"
    write(place, "one")
    assert damage(place) is None
    write(place, "two")
    assert (place / "a.txt").read_text() == "two"
    assert sorted(p.name for p in place.iterdir()) == ["a.txt", SEAL]
    assert [p.name for p in tmp_path.iterdir()] == ["thing"]


def test_what_is_there_already_stays_for_those_who_are_reading_it(tmp_path):
    place = tmp_path / "thing"
    write(place, "one")
    before = (place / "a.txt").stat().st_ino
    write(place, "one")
    assert (place / "a.txt").stat().st_ino == before
    (place / "a.txt").write_text("harm")
    write(place, "one")
    assert damage(place) is None
    assert [p.name for p in tmp_path.iterdir()] == ["thing"]


def test_what_another_wrote_while_this_one_was_flushed_stays_too(tmp_path, monkeypatch):
    place = tmp_path / "thing"
    flush, inodes = folders._flush_all, []

    def flush_slowly(tmp):
        flush(tmp)
        if not inodes:
            inodes.append(0)
            write(place, "one")
            inodes.append((place / "a.txt").stat().st_ino)

    monkeypatch.setattr(folders, "_flush_all", flush_slowly)
    write(place, "one")
    assert inodes[1:] == [(place / "a.txt").stat().st_ino]
    assert [p.name for p in tmp_path.iterdir()] == ["thing"]


def test_a_failure_leaves_what_was_there(tmp_path):
    place = tmp_path / "thing"
    write(place, "one")

    def fails():
        with atomic_folder(place, "a thing") as tmp:
            (tmp / "a.txt").write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fails()
    assert (place / "a.txt").read_text() == "one"
    assert [p.name for p in tmp_path.iterdir()] == ["thing"]


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda p: (p / "a.txt").write_text("other"), "a.txt does not fit its checksum"),
        (lambda p: (p / "a.txt").unlink(), "a.txt is missing"),
        (lambda p: (p / SEAL).unlink(), f"{SEAL} is missing"),
        (lambda p: (p / SEAL).write_text("{"), f"{SEAL} cannot be read"),
        (lambda p: (p / SEAL).write_text("[]"), f"{SEAL} cannot be read"),
    ],
)
def test_damage_is_named(tmp_path, harm, said):
    place = tmp_path / "thing"
    write(place, "one")
    harm(place)
    assert damage(place) == said


@pytest.mark.parametrize("puts_its_own", [True, False])
def test_two_processes_that_write_to_one_place_both_succeed(tmp_path, monkeypatch, puts_its_own):
    """The other one takes the old folder away, and perhaps puts its own there, just when this one wants to."""
    place = tmp_path / "thing"
    write(place, "one")
    real, others = os.replace, []

    def interrupted(source, target):
        if str(source) == str(place) and not others:
            others.append(real(source, tmp_path / "taken"))
            if puts_its_own:
                place.mkdir()
                (place / "a.txt").write_text("of the other")
        return real(source, target)

    monkeypatch.setattr(folders.os, "replace", interrupted)
    write(place, "two")
    assert len(others) == 1
    assert (place / "a.txt").read_text() == "two"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["taken", "thing"]


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(MedrecError, match="Cannot write a thing"):
        write(tmp_path / "file" / "thing", "one")
