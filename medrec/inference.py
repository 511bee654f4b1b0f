"""Ask a finished run about a new patient."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from medrec.context import Context
from medrec.data.batch import VisitBatch
from medrec.data.cohort import KINDS, Cohort, Kind, Vocabulary
from medrec.data.load import load_cohort
from medrec.data.mapping import map_medications
from medrec.folders import notice
from medrec.knowledge.drugs import drugs
from medrec.knowledge.interactions import class_interactions, read_list
from medrec.models import registry
from medrec.models.base import Estimator, Recommender
from medrec.runs import Run
from medrec.tasks.visits import predict
from medrec.training import load_system, look_up, train
from medrec.types import MedrecError, Ragged

Visit = Mapping[str, Sequence[str]]
"""Codes of a visit by kind, or by field of a history file."""
FIELDS: dict[str, Kind] = {
    "diagnoses": "diagnosis",
    "procedures": "procedure",
    "symptoms": "symptom",
    "medications": "medication",
}
"""What a visit of a history file may hold."""
DEFAULT = ("lr", "synthetic")
"""System and cohort that answer where no run is named."""
ATC = re.compile(r"[A-Z]\d\d[A-Z]([A-Z](\d\d)?)?")
"""An ATC code of level 3, 4 or 5."""
LEFT_OUT = {"kind": pl.String, "code": pl.String, "why": pl.String}


class UnknownCodeError(MedrecError):
    """A code that the run's vocabulary does not hold."""


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
        left_out: ``kind``, ``code``, ``why``: what was said of the patient and is unknown to the run.
        reasons: ``medication``, ``kind``, ``what``, ``weight`` of the recommended medications; ``None`` where the
            system cannot say.
    """

    run: Run
    medications: pl.DataFrame
    interactions: pl.DataFrame
    ddi: str
    threshold: float | None
    note: str
    left_out: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=LEFT_OUT))
    reasons: pl.DataFrame | None = None

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
            "left_out": self.left_out.to_dicts(),
            "reasons": None if self.reasons is None else self.reasons.to_dicts(),
            "note": self.note,
        }


def recommend(
    run: Run | None = None,
    *,
    diagnoses: Sequence[str] = (),
    procedures: Sequence[str] = (),
    symptoms: Sequence[str] = (),
    history: Sequence[Visit] = (),
    ddi: Path | None = None,
    strict: bool = False,
) -> Recommendation:
    """Medications for a visit, from a run's system at its tuned threshold.

    Args:
        run: a finished run; ``None``: :func:`default_run`, a logistic regression on synthetic records.
        diagnoses: codes of the visit, with or without dots; ``9:4280`` or ``10:I509`` says which ICD version is meant.
        procedures: codes of the visit.
        symptoms: codes of the visit.
        history: earlier visits, oldest first, each with lists of codes under the names of :data:`FIELDS`; medications
            may be ATC classes, finer ATC codes, which are cut to their class, or names of drugs.
        ddi: file of another interaction list by which interacting pairs are named; ``None``: the run's own. The system
            itself keeps the list that it was trained with.
        strict: refuse unknown codes instead of leaving them out.

    Raises:
        MedrecError: nothing is said of the patient, or nothing that the run knows; a code that could be two things; a
            system that needs a history and got none, or that ranks medications for the patients of its training.

    Example:
        >>> import medrec
        >>> medrec.recommend(diagnoses=["428.0"]).medications  # doctest: +SKIP
    """
    if ddi is not None:
        read_list(ddi)  # a mistake should not wait for a training
    run = default_run() if run is None else run
    entry = registry.get(run.config["system"])
    if entry.task != "visits":
        raise MedrecError(
            f"{entry.label} ranks medications for the patients that it was trained on and knows nothing of a new one. "
            "Ask a run of a system for visits; `medrec systems` lists them."
        )
    system, context = load_system(run)
    if system.needs_history and not history:
        raise MedrecError(f"{entry.label} sees {entry.sees}: give earlier visits with --history FILE.")
    now: Visit = {"diagnoses": diagnoses, "procedures": procedures, "symptoms": symptoms}
    vocab = context.vocab
    codes, left_out = _understood([_by_kind(visit) for visit in (*history, now)], vocab, strict=strict)
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
        (run.ddi(), run.config["context"]["ddi"]["source"])
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
        reasons=_reasons(system, patient, context, [medications.codes[i] for i in ids]),
    )


def default_run() -> Run:
    """Logistic regression on the synthetic cohort; the first time it is trained, which takes seconds and is said."""
    system, name = DEFAULT
    cohort = load_cohort(name)
    found = look_up(system, cohort)
    if found is None:
        notice(f"no run is named: logistic regression is trained on the cohort {name!r}, once; it takes seconds.")
        found = train(system, cohort)
    return found


def _by_kind(visit: Visit) -> dict[Kind, Sequence[str]]:
    """A visit by kind, whichever of the two names its codes have."""
    found: dict[Kind, Sequence[str]] = {}
    for name, codes in visit.items():
        kind = next((kind for field_name, kind in FIELDS.items() if name in (field_name, kind)), None)
        if kind is None or isinstance(codes, str):
            raise MedrecError(
                f"A visit has no {name!r} that is {codes!r}: it holds lists of codes, named {', '.join(FIELDS)}."
            )
        found[kind] = codes
    return found


def _understood(
    visits: Sequence[Mapping[Kind, Sequence[str]]], vocab: Mapping[Kind, Vocabulary], *, strict: bool
) -> tuple[dict[Kind, Ragged], pl.DataFrame]:
    """Codes of each visit as the run numbers them, and what it does not know.

    Raises:
        MedrecError: nothing is left; an unknown code where ``strict``; one that could be two things.
    """
    place: dict[Kind, Callable[[Vocabulary, str], int]] = {"medication": medication_id}
    unknown: dict[tuple[Kind, str], str] = {}
    codes: dict[Kind, Ragged] = {}
    for kind in KINDS:
        rows: list[list[int]] = []
        for visit in visits:
            ids: set[int] = set()
            for word in visit.get(kind, ()):
                try:
                    ids.add(place.get(kind, code_id)(vocab[kind], word))
                except UnknownCodeError as error:
                    if strict:
                        raise
                    unknown[kind, word] = str(error)
            rows.append(sorted(ids))
        codes[kind] = Ragged.from_lists(rows)
    if not any(len(rows.values) for rows in codes.values()):
        if unknown:
            raise MedrecError(f"The run knows none of the {len(unknown)} codes given. {next(iter(unknown.values()))}")
        raise MedrecError("Nothing is said of the patient: give diagnoses, procedures or earlier visits.")
    left_out = [(kind, word, why) for (kind, word), why in unknown.items()]
    return codes, pl.DataFrame(left_out, schema=LEFT_OUT, orient="row")


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
    order = pl.DataFrame({"medication": codes, "place": range(len(codes))}, schema_overrides={"medication": pl.String})
    chosen = reasons.join(order, on="medication").sort("place", "kind", "weight", descending=[False, False, True])
    return chosen.drop("place")


def read_history(path: Path) -> list[Visit]:
    """Earlier visits from a JSON file: a list, oldest first, of ``{"diagnoses": [...], "medications": [...], ...}``.

    Raises:
        MedrecError: no such file, no JSON, or another structure.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MedrecError(f"There is no file {path}. Give a JSON list of visits.") from None
    except OSError as error:
        raise MedrecError(f"{path} cannot be read: {error.strerror}. Give a JSON list of visits.") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise MedrecError(f"{path} is not JSON: {error}. Give a list of visits.") from None
    shape = 'a list of visits such as [{"diagnoses": ["428.0"], "procedures": [], "medications": ["C03C"]}]'
    if not isinstance(content, list) or not all(isinstance(visit, dict) for visit in content):
        raise MedrecError(f"{path} must hold {shape}.")
    for number, visit in enumerate(content, 1):
        for name, codes in visit.items():
            if name not in FIELDS:
                raise MedrecError(
                    f"{path}, visit {number}: there is no field {name!r}.{_hint(name, FIELDS)} "
                    f"Fields: {', '.join(FIELDS)}."
                )
            if not isinstance(codes, list) or not all(isinstance(code, str) for code in codes):
                raise MedrecError(f"{path}, visit {number}: {name!r} must be a list of codes in quotes.")
    return content


def medication_id(vocabulary: Vocabulary, word: str) -> int:
    """Place of a medication in a vocabulary of classes: an ATC class, a finer ATC code, or the name of a drug.

    A name means the class that the drug has by its usual route, see :mod:`medrec.knowledge.drugs`.

    Raises:
        UnknownCodeError: the run has no such class, or we have no such drug.
    """
    index = vocabulary.index
    try:
        return code_id(vocabulary, word)
    except UnknownCodeError as error:
        unknown = error
    if ATC.fullmatch(word.strip().upper()):
        code = word.strip().upper()[:4]
    else:
        found = map_medications(pl.DataFrame({"name": [word], "route": [None]})).row(0, named=True)
        if found["status"] == "carrier":
            raise UnknownCodeError(f"{word!r} is a fluid or an order without a drug; no class stands for it.")
        if found["method"] != "name":
            # Only a whole name counts: what is guessed of the orders in a hospital's tables is too little here.
            close = difflib.get_close_matches(word.lower(), _names(), n=1, cutoff=0.8)
            raise UnknownCodeError(f"There is no drug {word!r}. Did you mean {close[0]!r}?") if close else unknown
        code = found["atc3"]
    if code not in index:
        raise UnknownCodeError(f"{word!r} is of class {code}, which is not among the run's {len(index)} medications.")
    return index[code]


@cache
def _names() -> list[str]:
    return drugs()["name"].to_list()


def code_id(vocabulary: Vocabulary, code: str) -> int:
    """Place of a code in a vocabulary; the dot, the case and a unique coding prefix may be left out.

    Raises:
        UnknownCodeError: the vocabulary does not hold it.
        MedrecError: it stands for different things in two codings.
    """
    index = vocabulary.index
    if code in index:
        return index[code]
    plain = re.sub(r"[.\s]", "", code).upper()
    if ":" in plain:
        coding, _, rest = plain.partition(":")
        candidates = [f"{coding.lower()}:{rest}"]
    else:
        codings = dict.fromkeys(c.partition(":")[0] for c in vocabulary.codes if ":" in c)
        candidates = [plain, *(f"{coding}:{plain}" for coding in codings)]
    found = [c for c in candidates if c in index]
    if len(found) == 1:
        return index[found[0]]
    if found:
        raise MedrecError(f"The {vocabulary.kind} code {code!r} exists as {' and '.join(found)}: write one of these.")
    bare = {c.partition(":")[2] or c: c for c in vocabulary.codes}
    close = difflib.get_close_matches(plain.partition(":")[2] or plain, list(bare), n=3, cutoff=0.6)
    near = f" Near it: {', '.join(f'{bare[c]} ({vocabulary.titles[index[bare[c]]]})' for c in close)}." if close else ""
    raise UnknownCodeError(f"The run knows no {vocabulary.kind} code {code!r} among its {len(vocabulary)}.{near}")


def _hint(word: str, known: Mapping[str, object]) -> str:
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else ""
