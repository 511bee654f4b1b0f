"""The clinical generative model: patients, stays, codes and medications as arrays.

Stages 1-5 of the generator; :mod:`medrec.data.synthetic.tables` writes the result as hospital tables (stage 6).
Every stage draws from a stream of its own, spawned from the seed, so that a change to one stage leaves the random
numbers of the others as they were. Patients are made in blocks, which bounds memory; within a block everything is
vectorised over patients, and Python loops run only over conditions, visit numbers and ranks of needs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.special import expit, ndtr, ndtri

from medrec.data.synthetic.controls import similarity
from medrec.data.synthetic.world import World
from medrec.progress import bar
from medrec.types import Ragged

BLOCK = 8192
STAGES = ("patient", "preference", "visit", "code", "medication", "noise", "exchange", "table")

# Targets and strengths. Where they come from: `medrec.data.calibration` puts the cohort beside the open demos.
CHRONIC_PER_PATIENT = 5.5
ACUTE_PER_STAY = 3.2
PARENT_ODDS = 0.8
FRAILTY_ODDS = 0.5
RECURRENCE_ODDS = 1.0
PROGRESSION = 0.06
VISITS_SPREAD, VISITS_FRAILTY = 0.85, 0.25
"""Spread of the log of the further stays that a patient can expect, and what frailty adds to it."""

VARIANT_SHARE = 0.14
OMITTED = {True: 0.25, False: 0.16}
"""Chance that a chronic (``True``) or an acute condition is not coded, unless the patient came for it."""
MISCODED = 0.03
SECOND_CODE = 0.22
TAIL_PER_STAY = 4.0
PROCEDURE_P = 0.45
SYMPTOM_P = {True: 0.18, False: 0.45}

PREFERENCE = 1.0
"""Standard deviation of a patient's log preference over classes."""
NEED_SHARPNESS, NEED_ODDS, SUPPORTIVE_ODDS = 1.9, 0.6, 1.0
"""Log-odds of a need = sharpness × log-odds in ``condition_needs.csv`` + shift: how consistently needs are met."""
NEED_PERSISTENCE = 0.45
"""Correlation, over the stays of one patient, of the propensity behind each need."""
INTENSITY = 0.18
"""Correlation of all needs of a stay, through its severity: sicker patients get more of everything."""
CONTINUATION = 0.65
"""Probability that a need met before is met by the same class again."""
CONTRAINDICATION = -2.5
AVOIDANCE = 0.3
"""Factor by which a class that interacts with what is already given loses weight: 1 − AVOIDANCE."""
EXCLUDED = (("C09A", "C09C"),)
EXCLUDED_AVOIDANCE = 0.97
NOISE_PER_STAY = 0.6


@dataclass(frozen=True)
class Stays:
    """Everything drawn for P patients with V stays.

    Args:
        female: ``(P,)``; age: ``(P,)`` years at the first stay; visit_offsets: ``(P + 1,)``.
        severity: ``(V,)`` in (0, 1); length: ``(V,)`` days; gap: ``(V,)`` days since the last discharge.
        conditions: ``(V, C)`` bool, column 0 true everywhere; main: ``(V,)`` condition for which the patient came.
        diagnoses, procedures, symptoms, medications: ``Ragged`` over stays, most important first.
        oracle: ``(V, M)`` float32, probability of each class given all that the generator knows before it draws.
        last: ``(V, N)`` sparse, 1 + the class that met each need when it was last met, before this stay; 0: never met.
    """

    female: NDArray[np.bool_]
    age: NDArray[np.float64]
    visit_offsets: NDArray[np.int64]
    severity: NDArray[np.float64]
    length: NDArray[np.float64]
    gap: NDArray[np.float64]
    died: NDArray[np.bool_]
    conditions: NDArray[np.bool_]
    main: NDArray[np.int64]
    diagnoses: Ragged
    procedures: Ragged
    symptoms: Ragged
    medications: Ragged
    oracle: NDArray[np.float32]
    last: sparse.csr_matrix


def stream(seed: int, stage: str, block: int) -> np.random.Generator:
    """The random numbers of one stage in one block of patients."""
    return np.random.default_rng([seed, STAGES.index(stage), block])


def simulate(
    world: World, n_patients: int, seed: int, *, history: float, structure: float, visits_per_patient: float
) -> Stays:
    """Draw ``n_patients`` patients block by block."""
    blocks = [
        _block(world, min(BLOCK, n_patients - start), seed, start // BLOCK, history, structure, visits_per_patient)
        for start in range(0, n_patients, BLOCK)
    ]
    return _concatenate(blocks)


def _block(
    world: World, n: int, seed: int, block: int, history: float, structure: float, visits_per_patient: float
) -> Stays:
    rng = {stage: stream(seed, stage, block) for stage in STAGES}
    patient = _patients(world, n, visits_per_patient, rng["patient"])
    preference = _preferences(world, n, rng["preference"], structure)
    offsets = np.concatenate([[0], np.cumsum(patient["visits"])]).astype(np.int64)
    total, M, C = int(offsets[-1]), len(world.classes), len(world.ids)

    conditions = np.zeros((total, C), dtype=bool)
    main = np.zeros(total, dtype=np.int64)
    severity = np.zeros(total)
    given = np.zeros((total, M), dtype=bool)
    oracle = np.zeros((total, M), dtype=np.float32)
    order = np.full((total, M), np.iinfo(np.int16).max, dtype=np.int16)
    last = np.full((total, len(world.need_p)), -1, dtype=np.int16)

    present = patient["chronic"].copy()
    before = np.zeros((n, C), dtype=bool)
    so_far = np.zeros((n, C), dtype=bool)
    last_choice = np.full((n, len(world.need_p)), -1, dtype=np.int16)
    for t in bar(range(int(patient["visits"].max(initial=0))), desc=f"inventing {n} patients", unit="visit"):
        who = np.flatnonzero(patient["visits"] > t)
        rows = offsets[who] + t
        if t:
            grow = rng["visit"].random((len(who), C)) < PROGRESSION * patient["chronic_p"][who]
            present[who] |= grow & world.chronic
        x, m, s = _stay(world, patient, who, present, before, rng["visit"])
        before[who] = x
        so_far[who] |= x
        conditions[rows], main[rows], severity[rows], last[rows] = x, m, s, last_choice[who]
        drawn = _medications(
            world,
            x,
            so_far[who],
            s,
            preference["class"][who],
            preference["need"][who],
            last_choice[who],
            rng["medication"],
        )
        given[rows], oracle[rows], order[rows], last_choice[who] = drawn

    _noise(world, given, oracle, order, rng["noise"])

    if history < 1:
        source = _exchange(offsets, patient["female"], patient["age"], 1 - history, rng["exchange"])
        conditions, main, severity = conditions[source], main[source], severity[source]
        given, oracle, order, last = given[source], oracle[source], order[source], last[source]

    visit, medication = np.nonzero(given)
    first = np.lexsort((medication, order[visit, medication], visit))
    medications = Ragged(np.concatenate([[0], np.cumsum(given.sum(1))]), medication[first].astype(np.int32))

    code = _codes(world, conditions, main, severity, rng["code"])
    length = np.exp(0.9 + 1.7 * severity + 0.45 * rng["visit"].standard_normal(total))
    gap = np.exp(4.9 + 1.4 * rng["visit"].standard_normal(total)) + 1
    final = np.zeros(total, dtype=bool)
    final[offsets[1:] - 1] = True
    died = final & (rng["visit"].random(total) < 0.35 * severity**2)
    return Stays(
        patient["female"],
        patient["age"],
        offsets,
        severity,
        length,
        gap,
        died,
        conditions,
        main,
        *code,
        medications,
        oracle,
        sparse.csr_matrix(last + 1),
    )


# -- stage 1: patients ------------------------------------------------------------------------------------------------


def _patients(world: World, n: int, visits_per_patient: float, rng: np.random.Generator) -> dict[str, Any]:
    """Age, sex, frailty, number of stays, latent chronic conditions."""
    female = rng.random(n) < 0.45
    age = np.clip(rng.normal(65, 16, n), 18, 97)
    frailty = rng.standard_normal(n)
    wanted = np.log(visits_per_patient - 1) - (VISITS_SPREAD**2 + VISITS_FRAILTY**2) / 2
    further = np.exp(wanted + VISITS_SPREAD * rng.standard_normal(n) + VISITS_FRAILTY * frailty)
    visits = 1 + np.minimum(rng.poisson(further), 28)

    distance = np.maximum(world.age[:, 0] - age[:, None], age[:, None] - world.age[:, 1]).clip(0)
    logit = world.odds - distance / 14 + world.sex_odds[:, np.where(female, 0, 1)].T
    chronic, acute = world.chronic, ~world.chronic
    acute[0] = False
    logit[:, chronic] += FRAILTY_ODDS * frailty[:, None]
    logit[:, chronic] += _shift(logit[:2000, chronic], CHRONIC_PER_PATIENT)
    logit[:, acute] += _shift(logit[:2000, acute], ACUTE_PER_STAY)
    p = expit(logit)

    expected = p.mean(0)
    present = np.zeros((n, len(world.ids)), dtype=bool)
    for c in world.order[chronic[world.order]]:
        parents = world.parents[c]
        raised = logit[:, c] + PARENT_ODDS * (present[:, parents] - expected[parents]).sum(1)
        present[:, c] = rng.random(n) < expit(raised)
    return {"female": female, "age": age, "frailty": frailty, "visits": visits, "chronic": present,
            "chronic_p": p * chronic, "acute_logit": logit, "expected": expected}  # fmt: skip


def _shift(logit: NDArray[np.float64], wanted: float) -> float:
    """Common shift of log-odds after which ``wanted`` conditions are expected, however many the table lists."""
    low, high = -8.0, 8.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if expit(logit + middle).sum(1).mean() > wanted else (middle, high)
    return low


# -- stage 2: preference ----------------------------------------------------------------------------------------------


def _preferences(world: World, n: int, rng: np.random.Generator, structure: float) -> dict[str, Any]:
    """What distinguishes patients beyond their diagnoses, and stays with them.

    A patient who does well on one class does so on similar ones. With ``structure`` = 1 the similarity is molecular;
    with 0 its rows and columns are permuted: the same strength, and nothing to do with molecules.
    """
    M, N = len(world.classes), len(world.need_p)
    molecular = similarity(world.classes)
    shuffle = np.random.default_rng(0).permutation(M)
    permuted = molecular[np.ix_(shuffle, shuffle)]
    like = np.zeros((n, M), dtype=np.float32)
    for share, matrix in ((structure, molecular), (1 - structure, permuted)):
        values, vectors = np.linalg.eigh(matrix)
        root = (vectors * np.sqrt(values.clip(0))).astype(np.float32)
        like += np.float32(np.sqrt(share)) * (rng.standard_normal((n, M), dtype=np.float32) @ root.T)

    # Who does well on the options of a need is treated for it more readily: half of the propensity's variance.
    weights = np.zeros((M, N))
    np.add.at(weights, (world.options.T, np.arange(N)), world.weights.T)
    matrix = structure * molecular + (1 - structure) * permuted
    spread = np.sqrt(np.einsum("mn,mk,kn->n", weights, matrix, weights, optimize=True))
    need = np.sqrt(0.5) * like @ (weights / spread).astype(np.float32)
    need += np.float32(np.sqrt(0.5)) * rng.standard_normal((n, N), dtype=np.float32)
    return {"class": PREFERENCE * like, "need": need}


# -- stage 3: the stay ------------------------------------------------------------------------------------------------


def _stay(
    world: World,
    patient: dict[str, Any],
    who: NDArray[np.int64],
    present: NDArray[np.bool_],
    before: NDArray[np.bool_],
    rng: np.random.Generator,
) -> tuple[NDArray[np.bool_], NDArray[np.int64], NDArray[np.float64]]:
    """Conditions, main condition and severity of one stay for each patient in ``who``."""
    n, C = len(who), len(world.ids)
    x = present[who].copy()
    acute = ~world.chronic
    acute[0] = False
    uniform = rng.random((n, C))
    logit = patient["acute_logit"][who] + RECURRENCE_ODDS * before[who]
    for c in world.order[acute[world.order]]:
        parents = world.parents[c]
        raised = logit[:, c] + PARENT_ODDS * (x[:, parents] - patient["expected"][parents]).sum(1)
        x[:, c] = uniform[:, c] < expit(raised)

    # The reason to come: a rare acute condition before a common one, a chronic one only where nothing is acute.
    urgency = np.where(acute, 3.0 - world.odds, 0.0) + rng.gumbel(size=(n, C))
    urgency[:, 0] = -50.0
    main = np.where(x, urgency, -np.inf)
    main[:, 0] = -50.0
    main = main.argmax(1)

    x[:, 0] = True
    return x, main, _severity(world, x, rng)


def _severity(world: World, conditions: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.float64]:
    """Drawn anew for each stay, ``(n,)`` in (0, 1), higher where more is acute.

    Frailty has no part in it: sizes of consecutive prescriptions would go together more than in the open records.
    """
    acute = ~world.chronic
    acute[0] = False
    burden = (conditions & acute).sum(1)
    severity: NDArray[np.float64] = ndtr(0.35 * (burden - ACUTE_PER_STAY) + 0.86 * rng.standard_normal(len(conditions)))
    return severity


# -- stage 4: codes ---------------------------------------------------------------------------------------------------


def _codes(
    world: World,
    conditions: NDArray[np.bool_],
    main: NDArray[np.int64],
    severity: NDArray[np.float64],
    rng: np.random.Generator,
) -> tuple[Ragged, Ragged, Ragged]:
    """Diagnoses, procedures and symptoms that are written down, in billing order."""
    V = len(conditions)
    visit, condition = np.nonzero(conditions[:, 1:])
    condition += 1
    chronic = world.chronic[condition]
    is_main = condition == main[visit]

    kept = is_main | (rng.random(len(visit)) >= np.where(chronic, OMITTED[True], OMITTED[False]))
    rank = np.where(is_main, 0.0, np.where(chronic, 2.0, 1.0) + 1.5 * rng.random(len(visit)))
    wrong = rng.random(len(visit)) < MISCODED
    coded = np.where(wrong & ~is_main, rng.integers(1, len(world.ids), len(visit)), condition)
    code = _variant(world.diagnosis_of, coded, rng)
    second = kept & (rng.random(len(visit)) < SECOND_CODE)
    code2 = _variant(world.diagnosis_of, condition, rng, rare=True)

    n_tail = rng.poisson(TAIL_PER_STAY, V)
    tail_visit = np.repeat(np.arange(V), n_tail)
    tail = world.tail[_zipf(len(world.tail), len(tail_visit), rng)]
    diagnoses = _ragged(
        V,
        np.concatenate([visit[kept], visit[second], tail_visit]),
        np.concatenate([code[kept], code2[second], tail]),
        np.concatenate([rank[kept], rank[second] + 0.5, 2.2 + 1.5 * rng.random(len(tail_visit))]),
    )

    # Procedures of the conditions: the first of the list most often, each further one at half the chance; then routine.
    lengths = world.procedure_of.lengths[condition]
    row = np.repeat(np.arange(len(visit)), lengths)
    place = np.arange(len(row)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    chance = PROCEDURE_P * 0.5**place * np.where(is_main, 1.5, np.where(chronic, 0.35, 1.0))[row]
    done = rng.random(len(row)) < chance
    procedure = world.procedure_of.values[world.procedure_of.offsets[condition[row]] + place]
    routine_visit, routine = np.nonzero(rng.random((V, len(world.routine))) < severity[:, None] ** 2 * world.routine_p)
    procedures = _ragged(
        V,
        np.concatenate([visit[row][done], routine_visit]),
        np.concatenate([procedure[done], world.routine[routine]]),
        np.concatenate([rank[row][done], 1.5 + rng.random(len(routine_visit))]),
    )

    lengths = world.symptom_of.lengths[condition]
    row = np.repeat(np.arange(len(visit)), lengths)
    place = np.arange(len(row)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    told = rng.random(len(row)) < np.where(chronic, SYMPTOM_P[True], SYMPTOM_P[False])[row]
    symptom = world.symptom_of.values[world.symptom_of.offsets[condition[row]] + place]
    symptoms = _ragged(V, visit[row][told], symptom[told], rank[row][told])
    return diagnoses, procedures, symptoms


def _variant(
    lists: Ragged, condition: NDArray[np.int64], rng: np.random.Generator, rare: bool = False
) -> NDArray[np.int64]:
    """The core code of each condition, or, with probability ``VARIANT_SHARE``, a rarer one by Zipf's law."""
    n = lists.lengths[condition]
    uniform = rng.random(len(condition))
    take_rare = (n > 1) & (rare | (rng.random(len(condition)) < VARIANT_SHARE))
    # Inverse of the continuous Zipf law with exponent 1 on 1..n-1: place = (n)^u.
    place = np.where(take_rare, np.minimum(np.maximum(n, 2) ** uniform, n - 1).astype(np.int64), 0)
    return lists.values[lists.offsets[condition] + place].astype(np.int64)


def _zipf(n: int, size: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """``size`` draws from 0..n-1 with probability ∝ 1 / (rank + 5), in a fixed shuffled order of the ranks."""
    weight = 1 / (np.arange(n) + 6.0)
    rank = np.searchsorted(np.cumsum(weight / weight.sum()), rng.random(size)).clip(0, n - 1)
    drawn: NDArray[np.int64] = np.random.default_rng(0).permutation(n)[rank]
    return drawn


def _ragged(n: int, visit: NDArray[Any], code: NDArray[Any], rank: NDArray[Any]) -> Ragged:
    """Codes by visit and rank, each once in a visit."""
    code = code.astype(np.int64)
    order = np.lexsort((code, rank, visit))
    visit, code = visit[order], code[order]
    _, first = np.unique(visit * (code.max(initial=0) + 1) + code, return_index=True)
    first.sort()
    return Ragged(np.concatenate([[0], np.cumsum(np.bincount(visit[first], minlength=n))]), code[first])


# -- stage 5: medications ---------------------------------------------------------------------------------------------


def _medications(
    world: World,
    conditions: NDArray[np.bool_],
    so_far: NDArray[np.bool_],
    severity: NDArray[np.float64],
    preference: NDArray[np.float32],
    propensity: NDArray[np.float32],
    last_choice: NDArray[np.int16],
    rng: np.random.Generator,
) -> tuple[NDArray[np.bool_], NDArray[np.float32], NDArray[np.int16], NDArray[np.int16]]:
    """Meet the needs of each stay, one after another, avoiding most interactions with what is already given.

    Returns:
        given ``(n, M)`` bool, its probabilities ``(n, M)``, rank of each given class ``(n, M)``, last choices
        ``(n, N)``.
    """
    n, M = len(conditions), len(world.classes)
    v, need, option, p, choice = _needs(world, conditions, so_far, severity, preference, propensity, last_choice)
    oracle = _marginals(world, v, option, p, choice, n)

    given = np.zeros((n, M), dtype=bool)
    order = np.full((n, M), np.iinfo(np.int16).max, dtype=np.int16)
    last_choice = last_choice.copy()
    avoid = _avoidance(world)
    factor = np.ones((n, M), dtype=np.float32)
    u_need, u_choice = rng.random(len(v)), rng.random(len(v))
    starts = np.searchsorted(v, np.arange(n))
    rank = np.arange(len(v)) - starts[v]
    by_rank = np.argsort(rank, kind="stable")
    bounds = np.searchsorted(rank[by_rank], np.arange(rank.max(initial=-1) + 2))
    for r in range(len(bounds) - 1):
        e = by_rank[bounds[r] : bounds[r + 1]]
        ve, oe = v[e], option[e]
        f = factor[ve[:, None], oe]
        w = choice[e] * f
        felt = u_need[e] < p[e] * np.where(choice[e] > 0, f, 0).max(1)
        ve, oe, w, e = ve[felt], oe[felt], w[felt], e[felt]
        cumulative = np.cumsum(w, axis=1)
        pick = (u_choice[e, None] * cumulative[:, -1:] >= cumulative).sum(1)
        taken = oe[np.arange(len(e)), np.minimum(pick, oe.shape[1] - 1)]
        new = ~given[ve, taken]
        given[ve, taken] = True
        order[ve[new], taken[new]] = r
        last_choice[ve, need[e]] = taken
        factor[ve] = np.minimum(factor[ve], avoid[taken])
    return given, oracle, order, last_choice


def _needs(
    world: World,
    conditions: NDArray[np.bool_],
    so_far: NDArray[np.bool_],
    severity: NDArray[np.float64],
    preference: NDArray[np.float32],
    propensity: NDArray[np.float32],
    last_choice: NDArray[np.int16],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[Any], NDArray[np.float64], NDArray[np.float64]]:
    """The needs of all stays, E in all, in the order in which they are met.

    Returns:
        stay ``(E,)``, need ``(E,)``, its options ``(E, K)``, the probability that it is felt ``(E,)`` and, if so, of
        each option ``(E, K)``, interactions aside.
    """
    # Supportive needs come last in a stay: turn column 0 to the end. Lasting needs stay when their condition is gone.
    lasting = np.zeros(conditions.shape[1], dtype=bool)
    lasting[np.repeat(np.arange(len(lasting)), world.need_of.lengths)[world.need_lasting[world.need_of.values]]] = True
    visit, condition = np.nonzero(np.roll(conditions | so_far & lasting, -1, axis=1))
    condition = (condition + 1) % conditions.shape[1]
    lengths = world.need_of.lengths[condition]
    row = np.repeat(np.arange(len(visit)), lengths)
    place = np.arange(len(row)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    need = world.need_of.values[world.need_of.offsets[condition[row]] + place].astype(np.int64)
    v = visit[row]
    here = conditions[v, condition[row]] | world.need_lasting[need]
    v, need = v[here], need[here]

    # Is the need felt? A Gaussian copula over the stays of a patient keeps the marginal probability of each need.
    odds = np.log(world.need_p / (1 - world.need_p).clip(1e-3)) * NEED_SHARPNESS + NEED_ODDS
    odds[world.need_of[0]] += SUPPORTIVE_ODDS
    p = expit(odds)[need] * np.where(world.need_severe[need], severity[v], 1.0)
    p = ndtri(np.clip(p, 1e-6, 1 - 1e-6)) + np.sqrt(NEED_PERSISTENCE) * propensity[v, need]
    p = ndtr(
        (p + np.sqrt(INTENSITY) * ndtri(severity.clip(1e-6, 1 - 1e-6))[v]) / np.sqrt(1 - NEED_PERSISTENCE - INTENSITY)
    )

    # By what? Weights × preference × contraindication, then continuation of what served before.
    option, weight = world.options[need], world.weights[need]
    forbidden = (conditions.astype(np.float32) @ world.contraindicated.astype(np.float32)) > 0
    with np.errstate(divide="ignore"):
        logit = np.log(weight) + preference[v[:, None], option] + CONTRAINDICATION * forbidden[v[:, None], option]
    logit -= logit.max(1, keepdims=True)
    choice = np.exp(logit)
    choice /= choice.sum(1, keepdims=True)
    last = last_choice[v, need]
    again = (option == last[:, None]) & (weight > 0)
    keep = np.where(last >= 0, CONTINUATION, 0.0)[:, None]
    choice = (1 - keep) * choice + keep * again
    # What is contraindicated outright and has no substitute is mostly left out.
    p = p * (1 - 0.8 * (choice * forbidden[v[:, None], option]).sum(1))
    return v, need, option, p, choice


def _avoidance(world: World) -> NDArray[np.float32]:
    """``(M, M)`` factor that class j keeps once class i is given."""
    avoid = np.where(world.ddi, 1 - AVOIDANCE, 1.0).astype(np.float32)
    for a, b in EXCLUDED:
        if a in world.classes and b in world.classes:
            i, j = world.classes.index(a), world.classes.index(b)
            avoid[i, j] = avoid[j, i] = 1 - EXCLUDED_AVOIDANCE
    return avoid


def _marginals(
    world: World, v: NDArray[Any], option: NDArray[Any], p: NDArray[Any], choice: NDArray[Any], n: int
) -> NDArray[np.float32]:
    """Probability of each class in the set, ``(n, M)``: one minus the product over needs, interactions in mean field.

    The needs of a stay are met in turn, so at a share ``u`` of the way a class meets each partner with ``u`` times the
    partner's probability.
    """
    M = len(world.classes)

    def either(probability: NDArray[Any]) -> NDArray[np.float64]:
        log_miss = np.log1p(-probability.clip(0, 1 - 1e-9)).ravel()
        return -np.expm1(np.bincount((v[:, None] * M + option).ravel(), log_miss, minlength=n * M).reshape(n, M))

    counts = np.bincount(v, minlength=n)
    u = ((np.arange(len(v)) - (np.cumsum(counts) - counts)[v] + 0.5) / counts[v])[:, None]
    partners = np.log1p(-either(p[:, None] * choice).clip(0, 1 - 1e-6))
    strength = 1 - _avoidance(world)
    factor = np.ones_like(choice)
    for s in np.unique(strength[strength > 0]):
        factor *= 1 - s * -np.expm1(u * (partners @ (strength == s))[v[:, None], option])
    thinned = choice * factor
    felt = p * np.where(choice > 0, factor, 0).max(1)
    return either(felt[:, None] * thinned / thinned.sum(1, keepdims=True)).astype(np.float32)


def _unexplained(given: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probability of an order that nothing explains, in proportion to the square root of a class's popularity."""
    popularity = np.sqrt(given + 1e-4)
    p: NDArray[np.float64] = -np.expm1(-NOISE_PER_STAY * popularity / popularity.sum())
    return p


def _noise(
    world: World,
    given: NDArray[np.bool_],
    oracle: NDArray[np.float32],
    order: NDArray[np.int16],
    rng: np.random.Generator,
) -> None:
    """Orders that nothing explains; changes its arguments."""
    p = _unexplained(given.mean(0))
    extra = rng.random(given.shape) < p
    order[extra & ~given] = np.iinfo(np.int16).max - 1
    given |= extra
    oracle[:] = 1 - (1 - oracle) * (1 - p.astype(np.float32))


def expected(
    world: World,
    stays: Stays,
    rows: NDArray[np.integer],
    *,
    severity: bool,
    last: bool,
    structure: float = 0.0,
    draws: int = 24,
    seed: int = 0,
) -> NDArray[np.float32]:
    """Probability of each class for somebody who knows the generator and the true conditions of a patient so far.

    What is not known (preference and propensity always) is drawn anew, ``draws`` times, and averaged over.

    Args:
        world: what the stays were drawn from.
        stays: with ``history`` = 1.
        rows: ``(n,)`` which stays.
        severity: of the stay is known too.
        last: what met each need when it was last met is known too.
        structure: as the stays were drawn.
        draws: how many.
        seed: of the draws.

    Returns:
        ``(n, M)``; with everything known it would be :attr:`Stays.oracle`.
    """
    rng = np.random.default_rng([seed, len(STAGES) + 1])
    of_patient = np.repeat(np.arange(len(stays.age)), np.diff(stays.visit_offsets))
    ever = np.cumsum(stays.conditions, axis=0, dtype=np.int32)
    start = stays.visit_offsets[:-1][of_patient[rows]]
    so_far = ever[rows] > np.where(start[:, None] > 0, ever[start - 1], 0)
    x = stays.conditions[rows]
    last_choice = stays.last[rows].toarray() * np.int16(last) - np.int16(1)
    total = np.zeros((len(rows), len(world.classes)))
    for _ in range(draws):
        latent = _preferences(world, len(rows), rng, structure)
        how_ill = stays.severity[rows] if severity else _severity(world, x, rng)
        v, _, option, p, choice = _needs(world, x, so_far, how_ill, latent["class"], latent["need"], last_choice)
        total += _marginals(world, v, option, p, choice, len(rows))
    given = np.bincount(stays.medications.values, minlength=total.shape[1]) / len(stays.severity)
    found: NDArray[np.float32] = (1 - (1 - total / draws) * (1 - _unexplained(given))).astype(np.float32)
    return found


# -- the history knob -------------------------------------------------------------------------------------------------


def _exchange(
    offsets: NDArray[np.int64],
    female: NDArray[np.bool_],
    age: NDArray[np.float64],
    share: float,
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """For each stay the stay whose content it receives.

    A ``share`` of the stays change places, content for content, with stays of *other* patients of the same sex, similar
    age and same visit number. All marginals stay as they are; what one stay tells about the next does not.
    """
    counts = np.diff(offsets)
    patient = np.repeat(np.arange(len(counts)), counts)
    number = np.minimum(np.arange(offsets[-1]) - offsets[:-1][patient], 5)
    moving = np.flatnonzero(rng.random(len(patient)) < share)
    noisy_age = age[patient[moving]] + 8 * rng.standard_normal(len(moving))
    line = moving[np.lexsort((noisy_age, number[moving], female[patient[moving]]))]
    source = np.arange(len(patient))
    stratum = number[line] * 2 + female[patient[line]]
    for s in np.unique(stratum):
        members = line[stratum == s]
        source[members] = np.roll(members, rng.integers(1, 8) if len(members) > 8 else 1)
    return source


def _concatenate(blocks: list[Stays]) -> Stays:
    def ragged(name: str) -> Ragged:
        parts = [getattr(b, name) for b in blocks]
        lengths = np.concatenate([p.lengths for p in parts])
        return Ragged(np.concatenate([[0], np.cumsum(lengths)]), np.concatenate([p.values for p in parts]))

    fields: dict[str, Any] = {}
    for name, value in vars(blocks[0]).items():
        if isinstance(value, Ragged):
            fields[name] = ragged(name)
        elif name == "visit_offsets":
            fields[name] = np.concatenate([[0], np.cumsum(np.concatenate([np.diff(b.visit_offsets) for b in blocks]))])
        elif sparse.issparse(value):
            fields[name] = sparse.vstack([getattr(b, name) for b in blocks], format="csr")
        elif isinstance(value, np.ndarray):
            fields[name] = np.concatenate([getattr(b, name) for b in blocks])
    return Stays(**fields)
