"""The same diagnoses in other words: what an encoder of texts knows beyond which words there are.

Half of the titles of codes are renamed, for test patients alone: *heart failure* is *cardiac insufficiency* in the
hospital where the test is.  Training and validation patients have the old words.  A renamed code is another code, with
the other title: whoever knows codes has never met it, whoever counts words has met few of its words, and only what
knows that two words mean the same reads on.

Three encoders of one system, NLA-MMR without molecules, which have no part in the question, are asked about the same
test patients three times:

* ``plain``: in the old words;
* ``renamed``: half of the titles in other words;
* ``struck``: the codes whose title was renamed are left out, so that there is nothing to read.

``python -m medrec.experiments.synonyms [--cohort NAME] [--seeds N]`` trains what the run store lacks and keeps the rows
(:mod:`medrec.lab.kept`).  The words are ours, :data:`SYNONYMS`; a title in which none of them stands stays as it is.
"""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from medrec.data import load_cohort
from medrec.data.cohort import Cohort, Vocabulary
from medrec.data.split import split_patients
from medrec.lab import kept
from medrec.runs import Run
from medrec.tasks.evaluation import Evaluation, Interval, bootstrap, contrast, paired_difference
from medrec.tasks.visits import evaluate, predict
from medrec.text.templates import CLINICAL
from medrec.training import load_system, train
from medrec.types import Ragged

STUDY = "synonyms"
COMMAND = f"python -m medrec.experiments.{STUDY}"
SYSTEMS = ("nla-mmr/paper",)
"""What is trained."""
ENCODERS = ("small-bert", "tfidf", "random-code")
SETTINGS: dict[str, Any] = {"use_graph": False}
CONDITIONS = ("plain", "renamed", "struck")
SHARE = 0.5
"""Of the titles of each kind that are renamed, where so many can be."""
METRICS = ("jaccard", "prauc")

SYNONYMS = {
    "abdominal": "belly",
    "abscess": "collection of pus",
    "acidosis": "excess of acid",
    "acute": "sudden",
    "alcohol": "ethanol",
    "anemia": "low red cell count",
    "aneurysm": "bulging vessel",
    "anxiety": "nervousness",
    "artery": "arterial vessel",
    "arteries": "arterial vessels",
    "arthropathy": "joint illness",
    "atherosclerosis": "hardened vessels",
    "benign": "harmless",
    "bilateral": "on both sides",
    "bladder": "vesical organ",
    "bleeding": "hemorrhage",
    "body mass index": "weight for height",
    "bone": "osseous",
    "brain": "cerebral",
    "calculus": "stone",
    "cancer": "malignant neoplasm",
    "carcinoma": "epithelial cancer",
    "cardiac": "heart",
    "cellulitis": "skin infection",
    "cerebral": "brain",
    "chronic": "long-standing",
    "cirrhosis": "scarring",
    "confusion": "disorientation",
    "congestive": "fluid-retaining",
    "contusion": "bruise",
    "cough": "tussis",
    "deficiency": "lack",
    "dehydration": "loss of body water",
    "delirium": "acute confusion",
    "dementia": "cognitive decline",
    "depressive": "low mood",
    "diabetes mellitus": "sugar disease",
    "diabetes": "sugar disease",
    "diarrhea": "loose stools",
    "disease": "illness",
    "disorder": "disturbance",
    "disorders": "disturbances",
    "dizziness": "giddiness",
    "dysphagia": "difficulty in swallowing",
    "edema": "swelling",
    "effusion": "collected fluid",
    "embolism": "travelled clot",
    "esophageal": "gullet",
    "essential hypertension": "high blood pressure without a known cause",
    "failure": "insufficiency",
    "fatigue": "tiredness",
    "female": "woman",
    "fever": "raised temperature",
    "fibrillation": "irregular rhythm",
    "fluid overload": "excess of water",
    "fracture": "broken bone",
    "gastric": "stomach",
    "gastrointestinal": "digestive tract",
    "headache": "cephalalgia",
    "heart": "cardiac",
    "hematemesis": "vomiting of blood",
    "hemorrhage": "bleeding",
    "hepatic": "liver",
    "hepatitis": "liver inflammation",
    "hypercholesterolemia": "high cholesterol",
    "hyperglycemia": "high blood sugar",
    "hyperlipidemia": "raised blood fats",
    "hyperpotassemia": "high potassium",
    "hypertension": "high blood pressure",
    "hypertensive": "with high blood pressure",
    "hypoglycemia": "low blood sugar",
    "hyponatremia": "low sodium",
    "hyposmolality": "dilute blood",
    "hypopotassemia": "low potassium",
    "hypotension": "low blood pressure",
    "hypothyroidism": "underactive thyroid",
    "hypoxemia": "low blood oxygen",
    "infarction": "tissue death",
    "infection": "microbial invasion",
    "injury": "damage",
    "insomnia": "sleeplessness",
    "insufficiency": "failure",
    "intestinal": "bowel",
    "kidney": "renal",
    "leg": "lower limb",
    "liver": "hepatic",
    "long-term": "lasting",
    "lung": "pulmonary",
    "malignant neoplasm": "cancer",
    "malnutrition": "poor nourishment",
    "myocardial": "heart muscle",
    "nausea": "feeling sick",
    "necrosis": "dead tissue",
    "neoplasm": "tumor",
    "neuropathy": "nerve illness",
    "obesity": "excess weight",
    "obstruction": "blockage",
    "obstructive": "blocking",
    "occlusion": "blocked vessel",
    "osteomyelitis": "bone infection",
    "osteoporosis": "brittle bones",
    "pain": "ache",
    "palpitations": "pounding heart",
    "personal history of": "earlier",
    "pneumonia": "inflamed lung",
    "pressure ulcer": "bed sore",
    "prostate": "gland below the bladder",
    "pulmonary": "lung",
    "pure hypercholesterolemia": "high cholesterol alone",
    "renal": "kidney",
    "respiratory": "breathing",
    "retention": "holding back",
    "secondary": "following another",
    "seizure": "fit",
    "seizures": "fits",
    "sepsis": "blood poisoning",
    "septic": "blood poisoning",
    "septicemia": "blood poisoning",
    "shock": "circulatory collapse",
    "shortness of breath": "dyspnea",
    "sleep apnea": "pauses of breath at night",
    "spinal": "backbone",
    "stenosis": "narrowing",
    "stomach": "gastric",
    "stroke": "brain attack",
    "swelling": "edema",
    "syncope": "fainting",
    "syndrome": "set of signs",
    "tachycardia": "rapid pulse",
    "thrombocytopenia": "low platelet count",
    "thrombosis": "clot in a vessel",
    "tobacco use": "smoking",
    "toxic": "poisonous",
    "traumatic": "accidental",
    "ulcer": "open sore",
    "unspecified": "not further named",
    "upper": "higher",
    "lower": "deeper",
    "urinary tract": "water passage",
    "urinary": "urine",
    "valve": "flap",
    "venous": "vein",
    "ventricular": "heart chamber",
    "vomiting": "emesis",
    "weakness": "loss of strength",
    "wound": "open injury",
}
"""Words and what else they are called; loose where nobody would say so, so that few words stay."""
_KNOWN = re.compile(r"\b(" + "|".join(sorted(map(re.escape, SYNONYMS), key=len, reverse=True)) + r")\b", re.IGNORECASE)


def in_other_words(title: str) -> str:
    """A title with each known phrase replaced once, the longest first.

    Example:
        >>> in_other_words("Acute kidney failure, unspecified")
        'sudden renal insufficiency, not further named'
    """
    return _KNOWN.sub(lambda found: SYNONYMS[found[0].lower()], title)


def renamed(cohort: Cohort, patients: NDArray[np.integer], seed: int) -> Cohort:
    """The cohort in which half of the titles are in other words at the visits of some patients.

    Args:
        cohort: all patients.
        patients: whose visits.
        seed: of the draw of titles.

    Returns:
        Each clinical vocabulary has one more code for each that is renamed, ``"9:4280~"``, with the other title; it
        takes the place of the old one at the visits of these patients.
    """
    draw = np.random.default_rng(seed)
    theirs = np.isin(cohort.patient_of_visit, patients)
    vocab, codes = dict(cohort.vocab), dict(cohort.codes)
    for kind in CLINICAL:
        old, rows = cohort.vocab[kind], cohort.codes[kind]
        titles = [in_other_words(title) for title in old.titles]
        able = np.flatnonzero([a != b for a, b in zip(old.titles, titles, strict=True)])
        drawn = np.sort(draw.permutation(able)[: round(SHARE * len(old))])
        place = np.arange(len(old), dtype=rows.values.dtype)
        place[drawn] = len(old) + np.arange(len(drawn))
        moved = np.where(theirs[rows.row_of_value], place[rows.values], rows.values)
        vocab[kind] = Vocabulary(
            kind,
            (*old.codes, *(f"{old.codes[i]}~" for i in drawn)),
            (*old.titles, *(titles[i] for i in drawn)),
        )
        codes[kind] = Ragged(rows.offsets, moved.astype(rows.values.dtype))
    return replace(cohort, name=f"{cohort.name} in other words", vocab=vocab, codes=codes, folder=None)


def struck(cohort: Cohort) -> Cohort:
    """A renamed cohort without the codes whose title was renamed."""
    codes = dict(cohort.codes)
    for kind in CLINICAL:
        rows = cohort.codes[kind]
        new = np.array([code.endswith("~") for code in cohort.vocab[kind].codes], dtype=bool)
        stays = ~new[rows.values]
        lengths = np.bincount(rows.row_of_value[stays], minlength=len(rows))
        codes[kind] = Ragged(np.concatenate([[0], np.cumsum(lengths)]), rows.values[stays])
    return replace(cohort, codes=codes)


def facts(cohort: Cohort, other: Cohort, patients: NDArray[np.integer]) -> pl.DataFrame:
    """How much is renamed.

    Args:
        cohort: in the old words.
        other: from :func:`renamed`.
        patients: whose visits were renamed.

    Returns:
        One row for each clinical kind that is recorded: ``kind``, ``titles``, ``able`` (a phrase of the table stands in
        them), ``renamed``, ``share`` (of the codes at the visits of these patients), ``words`` (share of the words of
        the renamed titles that stay).
    """
    rows = []
    for kind in CLINICAL:
        old, new = cohort.vocab[kind], other.vocab[kind]
        if not len(old):
            continue
        title = dict(zip(new.codes, new.titles, strict=True))
        pairs = [(title[code[:-1]], title[code]) for code in new.codes[len(old) :]]
        values = other.select(patients).codes[kind].values
        stay = [len(_words(a) & _words(b)) / len(_words(a)) for a, b in pairs]
        rows.append(
            {
                "kind": kind,
                "titles": len(old),
                "able": sum(in_other_words(one) != one for one in old.titles),
                "renamed": len(pairs),
                "share": float((values >= len(old)).mean()) if len(values) else 0.0,
                "words": float(np.mean(stay)) if stay else None,
            }
        )
    return pl.DataFrame(rows, schema_overrides={"words": pl.Float64})


def _words(title: str) -> set[str]:
    return set(re.findall(r"[a-z0-9]+", title.lower()))


# -- the study ---------------------------------------------------------------------------------------------------------


def judge(run: Run, cohort: Cohort, patients: NDArray[np.integer], device: str = "cpu") -> Evaluation:
    """Results of a run on patients as a cohort describes them, at the threshold of its validation patients.

    Args:
        run: trained on a cohort with the same vocabularies.
        cohort: whose descriptions.
        patients: to test.
        device: where the system answers.
    """
    system, context = load_system(run)
    asked = cohort.select(patients)
    found = predict(system, asked, context, device)
    assert found.scores is not None
    assert run.threshold is not None
    return evaluate(asked, found.at(run.threshold), context.ddi.numpy(), scores=found.scores, patients=patients)


def study(cohort: Cohort, seeds: int, device: str = "cpu") -> dict[str, pl.DataFrame]:
    """Train each encoder with each seed, and ask three times.

    Args:
        cohort: all patients.
        seeds: training seeds; each also draws its own titles.
        device: of the trainings.

    Returns:
        ``levels``: ``encoder``, ``condition``, ``metric``, ``value``, ``low``, ``high``; ``changes``: ``encoder``,
        ``change`` (renamed or struck against plain, and ``spared``: what renaming costs less than striking), the same
        columns; one more block with the name ``A - B`` of two encoders, change against change; ``runs``: ``encoder``,
        ``seed``, ``converged``, ``degenerate``; ``facts``: of the first draw, :func:`facts`.  Intervals: 95 % of 1000
        resamples of seeds and test patients together; seeds are drawn anew for each condition, though its trainings
        are the same, so that intervals of changes are too wide rather than too narrow.
    """
    test = split_patients(cohort.n_patients, 0).test
    results: dict[str, dict[str, list[Evaluation]]] = {one: {c: [] for c in CONDITIONS} for one in ENCODERS}
    runs = []
    for seed in range(seeds):
        other = renamed(cohort, test, seed)
        described = {
            "plain": replace(cohort, vocab=other.vocab, folder=None),
            "renamed": other,
            "struck": struck(other),
        }
        for encoder in ENCODERS:
            run = train("nla-mmr", other, settings=SETTINGS | {"encoder": encoder}, seed=seed, device=device)
            for condition in CONDITIONS:
                results[encoder][condition].append(judge(run, described[condition], test, device))
            told = {name: run.metrics[name] for name in ("converged", "degenerate")}
            runs.append({"encoder": encoder, "seed": seed, **told})
    levels = [
        {"encoder": encoder, "condition": condition, "metric": metric, **_ends(value)}
        for encoder in ENCODERS
        for condition in CONDITIONS
        for metric, value in bootstrap(results[encoder][condition]).items()
        if metric in METRICS
    ]
    tables = {
        "levels": pl.DataFrame(levels),
        "changes": pl.DataFrame(_changes(results)),
        "runs": pl.DataFrame(runs, schema_overrides={"degenerate": pl.String}),
        "facts": facts(cohort, renamed(cohort, test, 0), test),
    }
    return {name: table.with_columns(pl.selectors.float().round(6)) for name, table in tables.items()}


PARTS = {
    "renamed": {"renamed": 1, "plain": -1},
    "struck": {"struck": 1, "plain": -1},
    "spared": {"renamed": 1, "struck": -1},
}
"""Changes, by the signs of their conditions."""


def _changes(results: dict[str, dict[str, list[Evaluation]]]) -> list[dict[str, Any]]:
    rows = []
    for encoder in ENCODERS:
        for change, signs in PARTS.items():
            (plus, minus) = sorted(signs, key=lambda name: -signs[name])
            delta = paired_difference(results[encoder][minus], results[encoder][plus])
            rows += [
                {"encoder": encoder, "change": change, "metric": metric, **_ends(delta[metric])} for metric in METRICS
            ]
    for first, second in ((ENCODERS[0], other) for other in ENCODERS[1:]):
        for change, signs in PARTS.items():
            parts = [
                (results[encoder][condition], sign * side)
                for encoder, side in ((first, 1), (second, -1))
                for condition, sign in signs.items()
            ]
            delta = contrast(parts)
            name = f"{first} - {second}"
            rows += [{"encoder": name, "change": change, "metric": m, **_ends(delta[m])} for m in METRICS]
    return rows


def _ends(value: Interval) -> dict[str, float]:
    return {"value": value.value, "low": value.low, "high": value.high}


def read(cohort: Cohort) -> kept.Kept:
    """The kept tables ``levels``, ``changes``, ``runs`` and ``facts`` of this cohort, or else of ``synthetic``.

    Raises:
        MedrecError: there are none of ``synthetic`` either.
    """
    return kept.read(STUDY, cohort, default="synthetic", command=f"{COMMAND} --cohort {cohort.name}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Train what is missing, write the rows."""
    parser = argparse.ArgumentParser(prog=COMMAND, description="Half of the titles in other words.")
    parser.add_argument("--cohort", default="synthetic", help="as load_cohort knows it; default synthetic")
    parser.add_argument("--seeds", type=int, default=3, help="training seeds; default 3")
    parser.add_argument("--device", default="cpu", help="of the trainings; default cpu")
    options = parser.parse_args(arguments)
    cohort, start = load_cohort(options.cohort), time.perf_counter()
    folder = kept.save(
        STUDY,
        study(cohort, options.seeds, options.device),
        cohort=cohort,
        command=f"{COMMAND} --cohort {cohort.name} --seeds {options.seeds}",
        code=kept.code_of("medrec.experiments.synonyms", "tasks", "metrics", systems=SYSTEMS),
        systems=SYSTEMS,
        seconds=time.perf_counter() - start,
        device=options.device,
        more={"seeds": options.seeds},
    )
    print(folder)


if __name__ == "__main__":
    main()
