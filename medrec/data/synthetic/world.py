"""The knowledge tables as arrays: what the generator knows of medicine."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from medrec.data.synthetic.controls import PLANTED, plant
from medrec.data.synthetic.products import products
from medrec.knowledge.conditions import SUPPORTIVE, conditions, icd_titles, needs
from medrec.knowledge.interactions import ddi_matrix
from medrec.types import Ragged

PREVALENCE = {"very_common": 0.35, "common": 0.12, "uncommon": 0.04, "rare": 0.012}
"""Odds of the tiers of ``conditions.csv`` before they are shifted together to the wanted number of conditions."""

AGE_BANDS = {"child": (0, 17), "young": (18, 39), "adult": (40, 64), "old": (65, 120), "any": (0, 120)}

EXCLUSIVE_SEX = {"F": ("O", "N7", "N8", "N90", "N91", "N92", "N93", "N94", "N95", "N96", "N97", "N98", "C51", "C52",
                       "C53", "C54", "C55", "C56", "C57", "C58"),
                 "M": ("N40", "N41", "N42", "N43", "N44", "N45", "N46", "N47", "N48", "N49", "N50", "N51", "C60", "C61",
                       "C62", "C63")}  # fmt: skip
"""ICD-10 beginnings that only one sex can have; elsewhere ``sex`` in ``conditions.csv`` means *more frequent*."""

TAIL_EXCLUDED = ("63", "64", "65", "66", "67", "760", "761", "762", "763", "764", "765", "766", "767", "768", "769",
                 "77", "V3", "V22", "V23", "V24", "V27", "O", "P", "Z33", "Z34", "Z37", "Z38", "Z39")  # fmt: skip
"""Pregnancy and newborn codes: no business in the tail of an adult hospital."""

ROUTINE_PROCEDURES = (
    # ICD-9, ICD-10-PCS, probability in the most severe stay; it falls with the square of severity.
    ("3893", "02HV33Z", 0.70),  # central venous catheter
    ("9671", "5A1945Z", 0.45),  # ventilation
    ("9604", "0BH17EZ", 0.45),  # intubation
    ("3891", "02HW32Z", 0.40),  # arterial line
    ("966", "3E0G36Z", 0.40),  # tube feeding
    ("9904", "30233N1", 0.50),  # red cells
    ("8872", "B245ZZZ", 0.25),  # echocardiogram
    ("9907", "30233L1", 0.18),  # plasma
    ("3491", "0W9930Z", 0.12),  # thoracentesis
    ("9905", "30233R1", 0.12),  # platelets
    ("3324", "0B9J8ZX", 0.15),  # bronchoscopy with lavage
    ("4513", "0DJ08ZZ", 0.08),  # upper endoscopy
)


@dataclass(frozen=True)
class World:
    """Arrays over C conditions, N needs with at most K options, M classes, D diagnosis and Q procedure pairs.

    Column 0 of every condition array is the pseudo-condition of supportive needs, present in every stay.

    Args:
        ids: condition ids.
        chronic: ``(C,)``.
        odds: ``(C,)`` log-odds of the prevalence tier.
        age: ``(C, 2)`` band in which the condition is most frequent, years.
        sex_odds: ``(C, 2)`` added log-odds for F and M.
        parents: for each condition the conditions that raise its odds; ``order`` lists parents before children.
        diagnoses: ICD-9 and ICD-10 writing of one diagnosis, ``(D, 2)`` strings; the same for ``procedures``.
        diagnosis_of, procedure_of, symptom_of: ``Ragged`` over conditions, core code first.
        tail: rows of ``diagnoses`` that belong to no condition.
        routine: rows of ``procedures`` that come with severity, with ``routine_p``.
        need_of: ``Ragged`` over conditions into needs.
        need_p, need_severe: ``(N,)``.
        need_lasting: ``(N,)`` bool, whether it outlasts its condition: all later stays of the patient have it too.
        options: ``(N, K)`` class ids, 0 where padded; ``weights`` ``(N, K)`` are 0 there.
        contraindicated: ``(C, M)`` bool.
        ddi: ``(M, M)`` bool.
        planted: what a control planted, and where to look for it; see :func:`medrec.data.synthetic.controls.plant`.
    """

    ids: tuple[str, ...]
    chronic: NDArray[np.bool_]
    odds: NDArray[np.float64]
    age: NDArray[np.float64]
    sex_odds: NDArray[np.float64]
    parents: tuple[NDArray[np.int64], ...]
    order: NDArray[np.int64]
    diagnoses: NDArray[np.str_]
    diagnosis_of: Ragged
    tail: NDArray[np.int64]
    procedures: NDArray[np.str_]
    procedure_of: Ragged
    routine: NDArray[np.int64]
    routine_p: NDArray[np.float64]
    symptoms: tuple[str, ...]
    symptom_of: Ragged
    classes: tuple[str, ...]
    need_names: tuple[tuple[str, str], ...]
    need_of: Ragged
    need_p: NDArray[np.float64]
    need_severe: NDArray[np.bool_]
    need_lasting: NDArray[np.bool_]
    options: NDArray[np.int64]
    weights: NDArray[np.float64]
    contraindicated: NDArray[np.bool_]
    ddi: NDArray[np.bool_]
    planted: dict[str, Any]


def _pairs(rows9: list[list[str]], rows10: list[list[str]]) -> tuple[list[tuple[str, str]], Ragged]:
    """Pair the ICD-9 and ICD-10 codes of each condition; the shorter list repeats its last code."""
    index: dict[tuple[str, str], int] = {}
    rows = []
    for codes9, codes10 in zip(rows9, rows10, strict=True):
        n = max(len(codes9), len(codes10)) if codes9 and codes10 else 0
        pairs = [(codes9[min(i, len(codes9) - 1)], codes10[min(i, len(codes10) - 1)]) for i in range(n)]
        rows.append([index.setdefault(pair, len(index)) for pair in pairs])
    return list(index), Ragged.from_lists(rows)


def _topological(parents: list[list[int]]) -> NDArray[np.int64]:
    done: list[int] = []
    waiting = list(range(len(parents)))
    while waiting:
        ready = [c for c in waiting if all(p in done for p in parents[c])]
        if not ready:
            raise ValueError("conditions.csv: the arrows of `comorbidities` form a cycle.")
        done += ready
        waiting = [c for c in waiting if c not in ready]
    return np.array(done)


@cache
def world(control: str | None = None) -> World:
    """Build the arrays once from ``knowledge``, with the needs that a control plants."""
    table = conditions()
    ids = (SUPPORTIVE, *table["id"])
    position = {c: i for i, c in enumerate(ids)}
    empty: list[list[str]] = [[]]
    lists = {name: empty + table[name].to_list() for name in table.columns if table[name].dtype == pl.List(pl.String)}

    parents: list[list[int]] = [[] for _ in ids]
    for parent, children in enumerate(lists["comorbidities"]):
        for child in children:
            parents[position[child]].append(parent)

    core10 = [codes[0] if codes else "" for codes in lists["icd10"]]
    sex_odds = np.zeros((len(ids), 2))
    for c, sex in enumerate(["any", *table["sex"]]):
        if sex != "any":
            only = core10[c].startswith(EXCLUSIVE_SEX[sex])
            sex_odds[c, 1 if sex == "F" else 0] = -np.inf if only else -1.2

    dx, diagnosis_of = _pairs(lists["icd9"], lists["icd10"])
    used = {code for pair in dx for code in pair}
    titles = icd_titles().filter(kind="diagnosis").sort("version", "code")
    titles = titles.filter(
        ~pl.col("code").is_in(used), ~pl.any_horizontal(pl.col("code").str.starts_with(s) for s in TAIL_EXCLUDED)
    )
    tail9, tail10 = (titles.filter(version=v)["code"].to_list() for v in (9, 10))
    n_tail = max(len(tail9), len(tail10))
    tail_pairs = [(tail9[i * len(tail9) // n_tail], tail10[i * len(tail10) // n_tail]) for i in range(n_tail)]

    px, procedure_of = _pairs(lists["procedures_icd9"], lists["procedures_icd10"])
    routine = []
    for code9, code10, _ in ROUTINE_PROCEDURES:
        if (code9, code10) not in px:
            px.append((code9, code10))
        routine.append(px.index((code9, code10)))

    phrases = sorted({phrase for row in lists["symptoms"] for phrase in row})
    phrase_id = {phrase: i for i, phrase in enumerate(phrases)}

    # A class that no product carries cannot be ordered; its weight falls to the other options of the need.
    need_table = needs().filter(pl.col("option").is_in(products()["atc3"].implode()))
    planted: dict[str, Any] = {}
    if control is not None:
        need_table, planted = plant(need_table, table, control)
    keys = list(dict.fromkeys(need_table.select("condition", "need").iter_rows()))
    classes = tuple(sorted(need_table["option"].unique()))
    class_id = {code: i for i, code in enumerate(classes)}
    grouped = dict(need_table.group_by("condition", "need"))
    width = max(len(frame) for frame in grouped.values())
    options = np.zeros((len(keys), width), dtype=np.int64)
    weights = np.zeros((len(keys), width))
    for n, key in enumerate(keys):
        frame = grouped[key]
        options[n, : len(frame)] = [class_id[code] for code in frame["option"]]
        weights[n, : len(frame)] = frame["weight"].to_numpy() / frame["weight"].sum()
    rows: list[list[int]] = [[] for _ in ids]
    for n, (condition, _) in enumerate(keys):
        rows[position[condition]].append(n)

    contraindicated = np.zeros((len(ids), len(classes)), dtype=bool)
    for c, codes in enumerate(lists["contraindicated"]):
        contraindicated[c, [class_id[code] for code in codes if code in class_id]] = True

    tier = np.array([0.5, *(PREVALENCE[p] for p in table["prevalence"])])
    return World(
        ids=ids,
        chronic=np.array([False, *(table["kind"] == "chronic")]),
        odds=np.log(tier / (1 - tier)),
        age=np.array([AGE_BANDS["any"], *(AGE_BANDS[a] for a in table["age"])], dtype=float),
        sex_odds=sex_odds,
        parents=tuple(np.array(p, dtype=np.int64) for p in parents),
        order=_topological(parents),
        diagnoses=np.array(dx + tail_pairs),
        diagnosis_of=diagnosis_of,
        tail=np.arange(len(dx), len(dx) + n_tail),
        procedures=np.array(px),
        procedure_of=procedure_of,
        routine=np.array(routine),
        routine_p=np.array([p for _, _, p in ROUTINE_PROCEDURES]),
        symptoms=tuple(phrases),
        symptom_of=Ragged.from_lists([[phrase_id[s] for s in row] for row in lists["symptoms"]]),
        classes=classes,
        need_names=tuple(keys),
        need_of=Ragged.from_lists(rows),
        need_p=np.array([grouped[key]["probability"][0] for key in keys]),
        need_severe=np.array([grouped[key]["severe"][0] for key in keys]),
        need_lasting=np.array([control == "structure" and name.startswith(PLANTED) for _, name in keys]),
        options=options,
        weights=weights,
        contraindicated=contraindicated,
        ddi=np.asarray(ddi_matrix(classes), dtype=bool),
        planted=planted,
    )
