"""What the book was made of: every chapter as it was executed, and every kept row beside the code of today."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from medrec import paths
from medrec.book import footprint
from medrec.book.chapters import all_chapters, parameters_of, read_chapter
from medrec.book.generated import box, table
from medrec.book.runner import book_copy
from medrec.data.cohort import titled
from medrec.lab import kept
from medrec.types import MedrecError

CHAPTER_HEAD = ("Chapter", "Executed", "Seconds", "Device", "Cohort", "Seed", "Versions", "Key", "Since then")
KEPT_HEAD = ("Rows", "Records", "Status", "Made", "Seconds", "Device", "Command")


def chapters() -> str:
    """One row a chapter, from its executed copy in the book."""
    return box(table(CHAPTER_HEAD, [_chapter(source) for source in all_chapters()]), "Chapters", sortable=True)


def _chapter(source: Path) -> tuple[str, ...]:
    link = f"{{doc}}`chapters/{source.stem}`"
    copy = book_copy(source)
    made = footprint.read(copy)
    if made is None:
        return (f"{int(source.stem[:2])}. {link}", "not executed", *[""] * (len(CHAPTER_HEAD) - 2))
    notebook = json.loads(copy.read_text(encoding="utf-8"))["metadata"]
    values = _parameters(source) | made.get("parameters", {})
    # A copy of before does not say when it was made and with what; its file and its kernel do.
    when = made.get("made") or datetime.fromtimestamp(copy.stat().st_mtime, UTC).date().isoformat()
    versions = {"Python": notebook.get("language_info", {}).get("version", ""), **made.get("versions", {})}
    seconds = notebook.get("papermill", {}).get("duration")
    return (
        f"{int(source.stem[:2])}. {link}",
        when,
        "" if seconds is None else f"{seconds:.0f}",
        *(str(values.get(name, "")) for name in ("device", "cohort", "seed")),
        ", ".join(f"{name} {number}" for name, number in versions.items() if number),
        f"`{made['key']}`" if made.get("key") else "",
        _changes(made),
    )


def _parameters(source: Path) -> dict[str, Any]:
    """Default parameters of a chapter as it stands."""
    try:
        declared = parameters_of(read_chapter(source))
    except MedrecError:
        return {}
    return {name: parameter.default for name, parameter in declared.items()}


def _changes(made: dict[str, Any]) -> str:
    """What of the things that an executed chapter rests on is no longer what it was."""
    try:
        found = [name.removeprefix("medrec.") for name in footprint.changed(made)]
    except (KeyError, TypeError, AttributeError):  # a copy that says less
        return "unknown"
    if not found:
        return "nothing changed"
    return f"changed: {found[0]}" + (f" and {len(found) - 1} more" if len(found) > 1 else "")


def kept_rows() -> str:
    """One row for each study that is kept with the book; rows of credentialed records are no part of it."""
    found = [rows for rows in kept.all_kept() if rows.folder.is_relative_to(paths.results_dir())]
    return box(table(KEPT_HEAD, [_kept(rows) for rows in found]), "Kept rows", sortable=True)


def _kept(rows: kept.Kept) -> tuple[str, ...]:
    about = rows.provenance
    seconds = about.get("wall_seconds")
    source: Any = rows.source
    return (
        rows.study,
        "" if rows.cohort is None else titled(rows.cohort, source),
        rows.status,
        str(about["made"]),
        "" if seconds is None else f"{seconds:.0f}",
        str(about.get("device", "")),
        f"`{about['command']}`",
    )
