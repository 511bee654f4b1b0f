"""Ask a finished run about a new patient."""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from medrec.arguments import checked_file, near, shown
from medrec.context import Asked, Context, build
from medrec.data.batch import VisitBatch
from medrec.data.cohort import KINDS, Cohort, Kind, Vocabulary
from medrec.data.load import load_cohort
from medrec.data.mapping import map_medications
from medrec.data.spelling import filled, plain_code, version
from medrec.folders import notice
from medrec.knowledge.classes import atc3
from medrec.knowledge.drugs import combinations, drugs
from medrec.knowledge.interactions import class_interactions, read_list
from medrec.models import registry
from medrec.models.base import Estimator, Recommender, System
from medrec.runs import Run
from medrec.tasks.visits import predict
from medrec.training import load_system, look_up, train
from medrec.types import MedrecError, Ragged

Visit = Mapping[str, Iterable[str] | None]
"""Codes of a visit by field."""
FIELDS: dict[str, Kind] = {
    "diagnoses": "diagnosis",
    "procedures": "procedure",
    "symptoms": "symptom",
    "medications": "medication",
}
"""What a visit may hold, in a history file as in Python. The name of the kind says the same."""
KIND_OF: dict[str, Kind] = FIELDS | {kind: kind for kind in KINDS}
SHAPE = '[{"diagnoses": ["428.0"], "procedures": ["96.71"], "medications": ["furosemide"]}]'
"""A history, in messages."""
DEFAULT = ("lr", "synthetic")
"""System and cohort that answer where no run is named."""
ATC = re.compile(r"[A-Z]\d\d[A-Z]([A-Z](\d\d)?)?")
"""An ATC code of level 3, 4 or 5."""
MAYBE_DRUG = re.compile(r"(?!.*[:|]).*([A-Za-z]{3}|[A-Za-z]\d\d[A-Za-z])")
"""What no code of a diagnosis looks like: three letters in a row, or the beginning of an ATC code."""
CODINGS = {"9": "ICD-9", "10": "ICD-10", "ccs": "CCS"}
"""Codings in words."""
NEAR = 3
"""Codes that are suggested for an unknown one."""
LEFT_OUT = {"kind": pl.String, "code": pl.String, "why": pl.String}
UNDERSTOOD = {"visit": pl.Int64, "kind": pl.String, "given": pl.String, "code": pl.String, "title": pl.String}
NEW = {"code": pl.String, "title": pl.String, "probability": pl.Float64, "place": pl.Int64}
REASONS = {"medication": pl.String, "kind": pl.String, "what": pl.String, "weight": pl.Float64}


class UnknownCodeError(MedrecError):
    """A word that the run's vocabulary does not hold, or that could be two of its codes."""


@dataclass(frozen=True)
class Recommendation:
    """A recommended set, and what speaks for and against it.

    Args:
        run: the run that was asked.
        medications: ``code``, ``title``, ``probability`` (null for systems without scores), most probable first.
        interactions: ``first``, ``second``: recommended medications that interact.
        ddi: the list of interactions by which they do, in words.
        threshold: probability from which a medication is on the list; ``None`` for systems without one.
        note: what the system did not look at.
        left_out: ``kind``, ``code``, ``why``: what was said of the patient and is unknown to the run. A ``visit`` of
            the history of which nothing is left is one of these, with its number for a code.
        understood: ``visit`` (of the history, 1 being the oldest; 0 is the one asked about), ``kind``, ``given`` (a
            word as it was written), ``code``, ``title``: what the words were taken for.
        reasons: ``medication``, ``kind``, ``what``, ``weight`` of the recommended medications; ``None`` where the
            system cannot say.
        new: ``code``, ``title``, ``probability``, ``place`` among all medications (1 is the most probable) of the
            classes that were asked for and that training never had; they are among ``medications`` only where they
            reach the threshold.
    """

    run: Run
    medications: pl.DataFrame
    interactions: pl.DataFrame
    ddi: str
    threshold: float | None
    note: str
    left_out: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=LEFT_OUT))
    understood: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=UNDERSTOOD))
    reasons: pl.DataFrame | None = None
    new: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=NEW))

    def frame(self) -> pl.DataFrame:
        """The medications, with the codes of those that they interact with, parted by blanks."""
        others: dict[str, list[str]] = {code: [] for code in self.medications["code"]}
        for first, second in self.interactions.iter_rows():
            others[first].append(second)
            others[second].append(first)
        found = [" ".join(codes) or None for codes in others.values()]
        return self.medications.with_columns(pl.Series("interacts_with", found, dtype=pl.String))

    def write_csv(self, path: Path) -> Path:
        """Write :meth:`frame`.

        Raises:
            MedrecError: the file cannot be written.
        """
        try:
            Path(path).write_text(self.frame().write_csv(), encoding="utf-8")
        except OSError as error:
            raise MedrecError(f"Cannot write {path}: {error.strerror}. Choose another file.") from None
        return Path(path)

    def plain(self) -> dict[str, Any]:
        """All of it as lists and mappings, for JSON."""
        config = self.run.config
        return {
            "system": config["system"],
            "run": str(self.run.folder),
            "cohort": {name: config["cohort"][name] for name in ("name", "source")},
            "older_code": self.run.changed_code,
            "threshold": self.threshold,
            "medications": self.medications.to_dicts(),
            "interactions": self.interactions.to_dicts(),
            "interactions_by": self.ddi,
            "understood": self.understood.to_dicts(),
            "left_out": self.left_out.to_dicts(),
            "reasons": None if self.reasons is None else self.reasons.to_dicts(),
            "new": self.new.to_dicts(),
            "note": self.note,
        }


def recommend(
    run: Run | Path | str | None = None,
    *,
    diagnoses: Iterable[str] | None = (),
    procedures: Iterable[str] | None = (),
    symptoms: Iterable[str] | None = (),
    history: Iterable[Visit] | None = (),
    ddi: Path | None = None,
    strict: bool = False,
    new: Iterable[str] | None = (),
) -> Recommendation:
    """Medications for a visit, from a run's system at its tuned threshold.

    Args:
        run: a finished run, or its folder; ``None``: :func:`default_run`, a logistic regression on synthetic records.
        diagnoses: codes of the visit, with or without dots; ``9:4280`` or ``10:I509`` says which ICD version is meant.
        procedures: codes of the visit.
        symptoms: codes of the visit.
        history: earlier visits, oldest first, each with lists of codes under the names of :data:`FIELDS`, as a history
            file holds them; medications may be ATC classes, finer ATC codes, which are cut to their class, or names of
            drugs. A visit of which the run knows nothing is left out, and so reported.
        ddi: file of another interaction list by which interacting pairs are named; ``None``: the run's own. The system
            itself keeps the list that it was trained with.
        strict: refuse unknown codes instead of leaving them out.
        new: ATC classes (or drugs) that were never in training and are to be scored too, by their text and structure;
            for systems that can, such as NLA-MMR. Earlier visits may name them as well.

    Raises:
        MedrecError: nothing is said of the patient, or nothing that the run knows; a new class that the run knows, that
            does not exist, or that the system cannot score; another structure than that of a
            history file; a system that needs a history and got none, or that ranks medications for the patients of
            its training; no run.

    Example:
        >>> import medrec
        >>> medrec.recommend(diagnoses=["428.0"]).medications  # doctest: +SKIP
    """
    # A mistake should not wait for a training.
    ddi = checked_file("ddi", ddi)
    if ddi is not None:
        read_list(ddi)
    given = {"diagnoses": diagnoses, "procedures": procedures, "symptoms": symptoms}
    visits = [*_visits(history, "The history"), _visit(given, "The visit")]
    run = None if run is None else _run(run)
    if not any(words for visit in visits for words in visit.values()):
        raise MedrecError(
            "Nothing is said of the patient. Give codes of the visit, e.g. --diagnoses 428.0 584.9 --procedures 96.71, "
            "or earlier visits with --history FILE."
        )
    run = run or default_run()
    entry = registry.get(run.config["system"])
    if entry.task != "visits":
        raise MedrecError(
            f"{entry.label} ranks medications for the patients that it was trained on and knows nothing of a new one. "
            "Ask a run of a system for visits; `medrec systems` lists them."
        )
    classes = _new_classes(_words(new, "new"), run)
    system, context = load_system(run)
    if classes:
        system, context = with_classes(run, context, classes)
    if system.needs_history and len(visits) == 1:
        raise MedrecError(f"{entry.label} sees {entry.sees}: give earlier visits with --history FILE.")
    vocab = context.vocab
    codes, understood, left_out = _understood(visits, vocab, strict=strict)
    if system.needs_history and len(codes["diagnosis"]) == 1:
        raise MedrecError(f"{entry.label} sees {entry.sees}, and the run knows nothing of the earlier visits given.")
    patient = _one_patient(codes, vocab, run)
    prediction = predict(system, patient, context)
    chosen = prediction.recommended[-1]
    if run.threshold is not None and prediction.tunable:
        chosen = prediction.at(run.threshold)[-1]
    ids = np.flatnonzero(chosen)
    scores = None if prediction.scores is None else prediction.scores[-1]
    if scores is not None:
        ids = ids[np.argsort(-scores[ids], kind="stable")]
    medications = vocab["medication"]
    matrix, source = (
        (context.ddi.numpy(), run.config["context"]["ddi"]["source"])
        if ddi is None
        else class_interactions(medications.codes, ddi)
    )
    return Recommendation(
        run=run,
        medications=pl.DataFrame(
            {
                "code": [medications.codes[i] for i in ids],
                "title": [medications.titles[i] for i in ids],
                "probability": [None if scores is None else float(scores[i]) for i in ids],
            },
            schema={"code": pl.String, "title": pl.String, "probability": pl.Float64},
        ),
        interactions=_pairs(ids, matrix, medications),
        ddi=source,
        threshold=run.threshold,
        note=f"{entry.label} sees {entry.sees}.",
        left_out=left_out,
        understood=understood,
        reasons=_reasons(system, patient, context, [medications.codes[i] for i in ids]),
        new=_scored(classes, medications, scores),
    )


def _new_classes(words: Sequence[str], run: Run) -> list[str]:
    """Classes that are asked for and that the run's cohort did not have, each once.

    Raises:
        MedrecError: there is no such class or drug, or the run has it.
    """
    known = Codes(run.vocabulary()["medication"])
    found: dict[str, None] = {}
    for word in words:
        try:
            code = known.vocabulary.codes[known.find(word)]
        except OutsideError as error:
            found[error.code] = None
            continue
        raise MedrecError(f"{shown(word)} is of class {code}, which the run has: it is scored anyway. Leave it out.")
    return list(found)


def with_classes(run: Run, context: Context, classes: Sequence[str]) -> tuple[Any, Context]:
    """System and context of a run with more medications, behind those that it has.

    What interacts with the new ones says the book's own list.

    Raises:
        MedrecError: the system has weights for each medication, or we have no structure of a drug of a new class.
    """
    entry = registry.get(run.config["system"])
    config = entry.config(**run.config["settings"])
    if not _scores_new(entry, config):
        able = [system.name for system in registry.systems("visits") if _scores_new(system, system.configure())]
        raise MedrecError(
            f"{entry.label}, as it was trained, has weights for each medication and cannot score a new one. "
            f"Ask a run of {', '.join(able)}, as it is declared."
        )
    names, had = dict(atc3().select("code", "name").iter_rows()), context.vocab["medication"]
    titles = (*had.titles, *(names[code] for code in classes))
    more = context.vocab | {"medication": Vocabulary("medication", (*had.codes, *classes), titles)}
    asked = Asked(more, config, run.config["planted"])
    ddi = torch.from_numpy(class_interactions(asked.classes)[0].copy())
    ddi[: len(had), : len(had)] = context.ddi
    wider = build(entry.needs, asked, ddi)
    bare = [] if wider.molecules is None else (wider.molecules.average[len(had) :].sum(1) == 0).nonzero()[:, 0].tolist()
    if bare:
        raise MedrecError(
            f"We have no structure of a drug of class {classes[bare[0]]}, and {entry.label} has learnt no vector in "
            "its place. Leave it out."
        )
    return entry.restore(config, wider, run.state()), wider


def _scores_new(system: System, config: Any) -> bool:
    asked = getattr(system.cls, "scores_new", None)
    return asked is not None and bool(asked(config))


def _scored(classes: Sequence[str], medications: Vocabulary, scores: NDArray[np.floating] | None) -> pl.DataFrame:
    """What is said of the new classes, which stand behind all others; most probable first."""
    if scores is None or not classes:
        return pl.DataFrame(schema=NEW)
    ids = [medications.index[code] for code in classes]
    place = (-scores).argsort(kind="stable").argsort()
    rows = [(medications.codes[i], medications.titles[i], float(scores[i]), int(place[i]) + 1) for i in ids]
    return pl.DataFrame(rows, schema=NEW, orient="row").sort("place")


def _run(run: Any) -> Run:
    """A run, or that of a folder."""
    if isinstance(run, str | os.PathLike):
        return Run.load(Path(run).expanduser())
    if not isinstance(run, Run):
        raise MedrecError(f"A run is what `medrec.train` gives, or its folder, not {shown(run)}.")
    return run


def default_run() -> Run:
    """Logistic regression on the synthetic cohort; the first time it is trained, which takes seconds and is said."""
    system, name = DEFAULT
    cohort = load_cohort(name)
    found = look_up(system, cohort)
    if found is None:
        notice(f"no run is named: logistic regression is trained on the cohort {name!r}, once; it takes seconds.")
        found = train(system, cohort)
    return found


# -- what is said of a patient -----------------------------------------------------------------------------------------


def read_history(path: Path) -> list[Visit]:
    """Earlier visits from a JSON file: a list, oldest first, of ``{"diagnoses": [...], "medications": [...], ...}``.

    Raises:
        MedrecError: no such file, no JSON, or another structure.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8-sig"), object_pairs_hook=_once)
    except FileNotFoundError:
        raise MedrecError(f"There is no file {path}. Give a JSON list of visits: {SHAPE}.") from None
    except OSError as error:
        raise MedrecError(f"{path} cannot be read: {error.strerror}. Give a JSON list of visits: {SHAPE}.") from None
    except UnicodeDecodeError:
        raise MedrecError(f"{path} is not written in UTF-8. Save it in this encoding.") from None
    except (ValueError, RecursionError) as error:
        raise MedrecError(f"{path} is not JSON: {error}. Give a list of visits: {SHAPE}.") from None
    _visits(content, str(path))
    found: list[Visit] = content or []
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, of which Python would keep the last of two fields with one name."""
    names = [name for name, _ in pairs]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"the field {twice!r} stands twice in one object")
    return dict(pairs)


def _visits(content: Any, what: str) -> list[dict[Kind, list[str]]]:
    """A history by kind, from a file as from Python.

    Args:
        content: its visits.
        what: it is, in messages.

    Raises:
        MedrecError: another structure.
    """
    if content is None:
        return []
    if isinstance(content, Mapping) and set(content) & set(KIND_OF):
        raise MedrecError(f"{what} is one visit. It must be a list of visits, in brackets: {SHAPE}.")
    if isinstance(content, str | bytes | Mapping) or not isinstance(content, Iterable):
        raise MedrecError(f"{what} is {shown(content)}. It must be a list of visits: {SHAPE}.")
    return [_visit(visit, f"{what}, visit {number}") for number, visit in enumerate(content, 1)]


def _visit(content: Any, what: str) -> dict[Kind, list[str]]:
    if not isinstance(content, Mapping):
        raise MedrecError(f"{what} is {shown(content)}. It must hold lists of codes by name: {SHAPE[1:-1]}.")
    found: dict[Kind, list[str]] = {}
    for name, words in content.items():
        if name not in KIND_OF:
            raise MedrecError(
                f"{what}: there is no field {shown(name)}.{near(str(name), FIELDS)} Fields: {', '.join(FIELDS)}."
            )
        found.setdefault(KIND_OF[name], []).extend(_words(words, f"{what}: {name}"))
    return found


def _words(content: Any, what: str) -> list[str]:
    if content is None:
        return []
    if isinstance(content, str | bytes | Mapping) or not isinstance(content, Iterable):
        raise MedrecError(f'{what} must be a list of codes in quotes, e.g. ["428.0"], not {shown(content)}.')
    words = list(content)
    for word in words:
        if not isinstance(word, str):
            raise MedrecError(f"{what}: put {shown(word)} in quotes, since a number loses the zeros at its ends.")
        if not word.isascii() and any("\ud800" <= letter <= "\udfff" for letter in word):
            raise MedrecError(f"{what}: {shown(word)} is no text in UTF-8.")
    return words


def _understood(
    visits: Sequence[Mapping[Kind, Sequence[str]]], vocab: Mapping[Kind, Vocabulary], *, strict: bool
) -> tuple[dict[Kind, Ragged], pl.DataFrame, pl.DataFrame]:
    """Codes of each visit as the run numbers them, what words were taken for, and what the run does not know.

    Raises:
        MedrecError: nothing is left; an unknown code where ``strict``.
    """
    codes = {kind: Codes(vocab[kind]) for kind in KINDS}
    places: dict[tuple[Kind, str], int] = {}
    unknown: dict[tuple[Kind, str], str] = {}
    kept: list[dict[Kind, list[int]]] = []
    rows: list[tuple[int, str, str, str, str]] = []
    empty: list[tuple[str, str, str]] = []
    for number, visit in enumerate(visits, 1):
        here: dict[Kind, list[int]] = {}
        for kind in KINDS:
            for word in dict.fromkeys(visit.get(kind, ())):
                if (kind, word) not in places and (kind, word) not in unknown:
                    try:
                        places[kind, word] = codes[kind].find(word)
                    except UnknownCodeError as error:
                        unknown[kind, word] = f"{error}{_elsewhere(word, kind, codes)}"
                if (i := places.get((kind, word))) is not None:
                    here.setdefault(kind, []).append(i)
                    rows.append((number % len(visits), kind, word, vocab[kind].codes[i], vocab[kind].titles[i]))
        if here or number == len(visits):
            kept.append(here)
        else:
            why = "The run knows none of its codes." if any(visit.values()) else "It holds no codes."
            empty.append(("visit", str(number), why))
    if unknown and (strict or not places):
        words = [shown(word) for _, word in unknown]
        said = f"Unknown: {', '.join(words[:10])}{', ...' * (len(words) > 10)}. " if words[1:] else ""
        if not places:
            said = f"The run knows none of the {len(words)} codes given. "
        raise UnknownCodeError(said + next(iter(unknown.values())))
    left_out = pl.DataFrame(
        [*((kind, word, why) for (kind, word), why in unknown.items()), *empty], schema=LEFT_OUT, orient="row"
    )
    ragged = {kind: Ragged.from_lists([sorted(set(here.get(kind, ()))) for here in kept]) for kind in KINDS}
    return ragged, pl.DataFrame(rows, schema=UNDERSTOOD, orient="row"), left_out


def _elsewhere(word: str, kind: Kind, codes: Mapping[Kind, Codes]) -> str:
    """Whether a word that is unknown as one kind is known as another."""
    for field_name, other in FIELDS.items():
        if other == kind or (other == "medication" and not MAYBE_DRUG.match(word)):
            continue
        try:
            codes[other].find(word)
        except OutsideError as error:
            return f" It is a medication, of class {error.code}."
        except UnknownCodeError:
            continue
        return f" It is a {other}: give it among the {field_name}{' of earlier visits' * (other == 'medication')}."
    return ""


def _one_patient(codes: dict[Kind, Ragged], vocab: dict[Kind, Vocabulary], run: Run) -> Cohort:
    n = len(codes["diagnosis"])
    return Cohort(
        name="one patient",
        source=run.config["cohort"]["source"],
        vocab=vocab,
        visit_offsets=np.array([0, n]),
        codes=codes,
        admit_time=np.full(n, np.datetime64("NaT"), dtype="datetime64[s]"),
        days_since_previous=np.full(n, np.nan, dtype=np.float32),
        sex=np.array([""]),
        age_band=np.array([""]),
    )


def _pairs(ids: NDArray[np.integer], matrix: NDArray[np.bool_], medications: Vocabulary) -> pl.DataFrame:
    """Interacting pairs among the chosen medications, in their order."""
    pairs = [(a, b) for i, a in enumerate(ids) for b in ids[i + 1 :] if matrix[a, b]]
    return pl.DataFrame(
        [(medications.codes[a], medications.codes[b]) for a, b in pairs],
        schema={"first": pl.String, "second": pl.String},
        orient="row",
    )


def _reasons(
    system: Estimator | Recommender, patient: Cohort, context: Context, codes: list[str]
) -> pl.DataFrame | None:
    """What the system says of the recommended medications, in their order."""
    with torch.inference_mode():
        reasons = system.explain(VisitBatch.build(patient, np.array([0])), context)
    if reasons is None:
        return None
    # A system that found nothing may not say of what type its columns would have been.
    reasons = reasons.select(pl.col(name).cast(kind) for name, kind in REASONS.items())
    order = pl.DataFrame({"medication": codes, "place": range(len(codes))}, schema_overrides={"medication": pl.String})
    chosen = reasons.join(order, on="medication").sort("place", "kind", "weight", descending=[False, False, True])
    return chosen.drop("place")


# -- codes as people write them ----------------------------------------------------------------------------------------


class OutsideError(UnknownCodeError):
    """A medication of a class that the run does not have.

    Args:
        word: as it was written.
        code: of the class.
        n: classes of the run.
    """

    def __init__(self, word: str, code: str, n: int) -> None:
        names = dict(atc3().select("code", "name").iter_rows())
        named = f" ({names[code]})" if code in names else ""
        super().__init__(f"{shown(word)} is of class {code}{named}, which is not among the run's {n} medications.")
        self.code = code


class Codes:
    """The codes of one kind that a run knows, found in whatever way people write them.

    Args:
        vocabulary: of the run.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self.index = vocabulary.index

    def find(self, word: str) -> int:
        """Place of a code in the vocabulary.

        Dots, blanks, quotes and the case of an ICD code do not matter, nor how its version is written (``9:4280``,
        ``ICD-9: 428.0``); it may be left out where one version alone has the code. Medications are ATC classes, finer
        ATC codes, or names of drugs, each of which means the class that the drug has by its usual route, see
        :mod:`medrec.knowledge.drugs`.

        Raises:
            UnknownCodeError: the run has no such code or class, the code exists in two versions, or we have no such
                drug.
        """
        if word in self.index:
            return self.index[word]
        return self._medication(word) if self.vocabulary.kind == "medication" else self._code(word)

    # -- codes of diagnoses, procedures and symptoms

    @cached_property
    def _by_letters(self) -> dict[str, list[str]]:
        """Codes by their letters and digits, without their coding."""
        bare = pl.Series([_split(code)[1] for code in self.vocabulary.codes], dtype=pl.String)
        plain = pl.DataFrame({"code": bare}).select(plain_code(pl.col("code"), self._spelling)).to_series()
        found: dict[str, list[str]] = {}
        for code, key in zip(self.vocabulary.codes, plain, strict=True):
            found.setdefault(key or "", []).append(code)
        return found

    @cached_property
    def _codings(self) -> list[str]:
        return list(dict.fromkeys(_split(code)[0] for code in self.vocabulary.codes))

    @property
    def _spelling(self) -> Any:
        return "procedure" if self.vocabulary.kind == "procedure" else "diagnosis"

    def _code(self, word: str) -> int:
        coding, bare = self._coding(word)
        plain = _plain(bare, self._spelling)
        if not plain:
            raise UnknownCodeError(f"{shown(word)} says nothing.")
        codings = [coding] if coding else _codings_of_dot(bare, self.vocabulary.kind)
        found = [code for code in self._by_letters.get(plain, ()) if not codings or _split(code)[0] in codings]
        if len(found) == 1:
            return self.index[found[0]]
        kind = self.vocabulary.kind
        if found:
            raise UnknownCodeError(
                f"The {kind} code {shown(word)} exists as {' and '.join(found)}: write one of these."
            )
        if not len(self.vocabulary):
            raise UnknownCodeError(f"The run knows no {kind} codes at all.")
        said = f"The run knows no {kind} code {shown(word)} among its {len(self.vocabulary)}"
        if words := " and ".join(CODINGS[coding] for coding in self._codings if coding in CODINGS):
            said += f", which are {words}"
        if close := [f"{code} ({self.vocabulary.titles[self.index[code]]})" for code in self._near(plain)]:
            said += f". Near it: {', '.join(close)}"
        raise UnknownCodeError(f"{said}.")

    def _coding(self, word: str) -> tuple[str | None, str]:
        """The coding that a word names, and the rest; ``None`` where it names none."""
        parts = word.split(":", 1) if ":" in word else word.rsplit(None, 1)
        if len(parts) == 2 and (number := version(parts[0])):
            return number, parts[1]
        if ":" in word and (coding := parts[0].strip().lower()) in self._codings:
            return coding, parts[1]
        return None, word

    def _near(self, plain: str) -> list[str]:
        """Codes of the same category, and those that have lost a zero in front."""
        category = plain[: 2 if self.vocabulary.kind == "procedure" else 3]
        if len(category) < 2 or len(plain) > 60:
            return []
        zero = [f"0{plain}"] if f"0{plain}" in self._by_letters else []
        same = [key for key in self._by_letters if key.startswith(category)]
        close = [*zero, *difflib.get_close_matches(plain, same, n=NEAR, cutoff=0.5)]
        return [code for key in close for code in self._by_letters[key]][:NEAR]

    # -- medications

    def _medication(self, word: str) -> int:
        if filled(word) is None:
            raise UnknownCodeError(f"{shown(word)} says nothing.")
        code = re.sub(r"[\s.]", "", word).upper()
        if ATC.fullmatch(code):
            code = code[:4]
            if code not in self.index and code not in set(atc3()["code"]):
                raise UnknownCodeError(f"There is no ATC class {code}, as which {shown(word)} is read.")
        elif re.fullmatch(r"[A-Z](\d\d)?", code):
            raise UnknownCodeError(f"{shown(word)} is a group of ATC classes. Give one of them, four characters.")
        else:
            code = self._class_of_drug(word)
        if code not in self.index:
            raise OutsideError(word, code, len(self.index))
        return self.index[code]

    def _class_of_drug(self, name: str) -> str:
        order = pl.DataFrame({"name": [name], "route": [None]}, schema={"name": pl.String, "route": pl.String})
        found = map_medications(order).row(0, named=True)
        if found["status"] == "carrier":
            raise UnknownCodeError(f"{shown(name)} is a fluid or an order without a drug; no class stands for it.")
        # Only a whole name counts: what is guessed of the orders in a hospital's tables is too little here.
        if found["method"] == "name (first of several)":
            raise UnknownCodeError(f"{shown(name)} names several drugs. Give each of them by itself.")
        if found["method"] != "name":
            close = [found["drug"]] if found["drug"] else []
            if not close and len(name) <= 60:
                close = difflib.get_close_matches(name.strip().lower(), _names(), n=1, cutoff=0.8)
            hint = f" Did you mean {close[0]!r}?" if close else " Give an ATC class such as C03C, or a drug's name."
            raise UnknownCodeError(f"There is no drug {shown(name)}.{hint}")
        return str(found["atc3"])


@lru_cache(10_000)
def _plain(word: str, spelling: Any) -> str:
    """:func:`plain_code` of a word; empty for one that says nothing."""
    if re.fullmatch(r"[A-Z]*\d[\dA-Z]*", word, re.ASCII):
        return word  # it is plain; polars needs milliseconds to say so
    return plain_code(word, spelling) or ""


def _split(code: str) -> tuple[str, str]:
    """Coding and rest of a code as vocabularies write it; a code without a coding has an empty one."""
    coding, colon, rest = code.partition(":")
    return (coding, rest) if colon else ("", code)


def _codings_of_dot(bare: str, kind: Kind) -> list[str]:
    """Versions that a dot tells apart: external causes of ICD-9, ``E888.9``, and chapter E of ICD-10, ``E88.89``."""
    before, dot, _ = bare.strip().partition(".")
    if kind != "diagnosis" or not dot or not re.fullmatch(r"[eE]\d+", before):
        return []
    return ["9"] if len(before) == 4 else ["10"]


@cache
def _names() -> list[str]:
    """Names of drugs, small letters: ours, synonyms and brands."""
    tables = (drugs(), combinations())
    columns = [table[column].explode() for table in tables for column in ("name", "synonyms", "brands")]
    return sorted({name.lower() for column in columns for name in column.drop_nulls()})
