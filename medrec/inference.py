"""Ask a finished run about a new patient."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import torch

from medrec.context import Context
from medrec.data.batch import VisitBatch
from medrec.data.cohort import KINDS, Cohort, Kind, Vocabulary
from medrec.models import registry
from medrec.models.base import Estimator, Recommender
from medrec.runs import Run
from medrec.tasks.visits import predict
from medrec.training import load_system
from medrec.types import MedrecError, Ragged

Visit = Mapping[Kind, Sequence[str]]
FIELDS: dict[str, Kind] = {
    "diagnoses": "diagnosis",
    "procedures": "procedure",
    "symptoms": "symptom",
    "medications": "medication",
}
"""What a visit of a history file may hold."""


@dataclass(frozen=True)
class Recommendation:
    """A recommended set, and what speaks for and against it.

    Args:
        medications: ``code``, ``title``, ``probability`` (null for systems without scores), most probable first.
        interactions: ``first``, ``second``: recommended medications that interact.
        threshold: probability from which a medication is on the list; ``None`` for systems without one.
        note: what the system did not look at.
        reasons: ``medication``, ``kind``, ``what``, ``weight`` of the recommended medications; ``None`` where the
            system cannot say.
    """

    medications: pl.DataFrame
    interactions: pl.DataFrame
    threshold: float | None
    note: str
    reasons: pl.DataFrame | None = None


def recommend(
    run: Run,
    *,
    diagnoses: Sequence[str] = (),
    procedures: Sequence[str] = (),
    symptoms: Sequence[str] = (),
    history: Sequence[Visit] = (),
) -> Recommendation:
    """Medications for a visit, from a run's system at its tuned threshold.

    Args:
        run: a finished run.
        diagnoses: codes of the visit, with or without dots; ``9:4280`` or ``10:I509`` says which ICD version is meant.
        procedures: codes of the visit.
        symptoms: codes of the visit.
        history: earlier visits, oldest first, each with lists of codes by kind.

    Raises:
        MedrecError: a code that the run does not know, or a system that needs a history and got none.
    """
    system, context = load_system(run)
    entry = registry.get(run.config["system"])
    if system.needs_history and not history:
        raise MedrecError(f"{entry.label} sees {entry.sees}: give earlier visits with --history FILE.")
    now: Visit = {"diagnosis": diagnoses, "procedure": procedures, "symptom": symptoms, "medication": ()}
    visits = [*history, now]
    vocab = context.vocab
    codes = {
        kind: Ragged.from_lists([sorted({code_id(vocab[kind], code) for code in v.get(kind, ())}) for v in visits])
        for kind in KINDS
    }
    n = len(visits)
    patient = Cohort(
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
    said = predict(system, patient, context)
    chosen = said.recommended[-1]
    if run.threshold is not None and said.tunable:
        chosen = said.at(run.threshold)[-1]
    ids = np.flatnonzero(chosen)
    scores = None if said.scores is None else said.scores[-1]
    if scores is not None:
        ids = ids[np.argsort(-scores[ids], kind="stable")]
    medications = vocab["medication"]
    pairs = [(a, b) for i, a in enumerate(ids) for b in ids[i + 1 :] if context.ddi[a, b]]
    return Recommendation(
        medications=pl.DataFrame(
            {
                "code": [medications.codes[i] for i in ids],
                "title": [medications.titles[i] for i in ids],
                "probability": [None if scores is None else float(scores[i]) for i in ids],
            },
            schema={"code": pl.String, "title": pl.String, "probability": pl.Float64},
        ),
        interactions=pl.DataFrame(
            [(medications.codes[a], medications.codes[b]) for a, b in pairs],
            schema={"first": pl.String, "second": pl.String},
            orient="row",
        ),
        threshold=run.threshold,
        note=f"{entry.label} sees {entry.sees}.",
        reasons=_reasons(system, patient, context, [medications.codes[i] for i in ids]),
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
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise MedrecError(f"{path} is not JSON: {error}. Give a list of visits.") from None
    shape = 'a list of visits such as [{"diagnoses": ["428.0"], "procedures": [], "medications": ["C03C"]}]'
    if not isinstance(content, list) or not all(isinstance(visit, dict) for visit in content):
        raise MedrecError(f"{path} must hold {shape}.")
    visits = []
    for number, visit in enumerate(content, 1):
        for name, codes in visit.items():
            if name not in FIELDS:
                raise MedrecError(
                    f"{path}, visit {number}: there is no field {name!r}.{_hint(name, FIELDS)} "
                    f"Fields: {', '.join(FIELDS)}."
                )
            if not isinstance(codes, list) or not all(isinstance(code, str) for code in codes):
                raise MedrecError(f"{path}, visit {number}: {name!r} must be a list of codes in quotes.")
        visits.append({FIELDS[name]: codes for name, codes in visit.items()})
    return visits


def code_id(vocabulary: Vocabulary, code: str) -> int:
    """Place of a code in a vocabulary; the dot, the case and a unique coding prefix may be left out.

    Raises:
        MedrecError: the code is unknown, or stands for different things in two codings.
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
    raise MedrecError(f"The run knows no {vocabulary.kind} code {code!r} among its {len(vocabulary)}.{near}")


def _hint(word: str, known: Mapping[str, object]) -> str:
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else ""
