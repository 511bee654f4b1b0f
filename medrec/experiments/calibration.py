r"""The generator beside the open demos, like for like: real value, synthetic value, and how far chance moves it.

A demo has few patients, few visits and its own habits of coding.  A large synthetic cohort beside it would mislead:
regressions learn more from more visits and more codes, and what they leave unexplained shrinks.  So the synthetic side
is cut to the demo: as many patients with as many visits each, no more codes a visit than there, and in MIMIC-IV the
same versions of the classification.  It is drawn :data:`DRAWS` times from other seeds; the spread of the draws says
how far a real value may lie from the synthetic one by chance alone.

``medrec data calibrate`` measures, prints and keeps the rows (:mod:`medrec.lab.kept`).
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

from medrec import keys
from medrec.data import load_cohort
from medrec.data.calibration import calibrate, jaccard
from medrec.data.cohort import KINDS, Cohort, Kind, Vocabulary
from medrec.data.synthetic import SyntheticRecords, synthesize
from medrec.experiments.ladder import given, last_given, mean_before, out_of_fold
from medrec.lab import kept
from medrec.models.lr import current_codes
from medrec.types import Ragged

STUDY = "calibration"
COMMAND = "medrec data calibrate"
DEMOS = ("mimic4-demo", "mimic3-demo", "eicu-demo")
DRAWS = 16
POOL = 2
"""Synthetic patients for each patient of a demo, to find those with enough visits among."""
PENALTY = 0.1
"""C of the regressions: what validation patients choose on ``synthetic``."""
FREQUENT = 0.05
"""Share of the visits from which on a class takes part in the correlations."""
FEWEST = 50
"""Later visits below which nothing is said about the past."""

LINES = {
    "diagnoses per visit": "mean number of codes; the synthetic side has been cut to at most those of the demo",
    "procedures per visit": "as diagnoses",
    "medication classes per visit": "mean; not matched",
    "DDI rate": "interacting pairs / all pairs, pooled over visits; not matched",
    "Jaccard of the most popular": "mean over visits of the k most frequent classes, best k",
    "Jaccard of LR": "on patients that it has not seen, best cut",
    "correlation of classes after LR": f"√(mean r² − 1/V) of y − p, pairs of classes given in {FREQUENT:.0%} of visits",
    "overdispersion of set sizes after LR": "Σ (size − Σ p)² / Σ p (1 − p)",
    "correlation of set sizes": "of consecutive visits",
    "log-odds ratio of carry-over": "of having had the class at the visit before, beside the log-odds of LR",
    "Jaccard of consecutive visits": "mean over later visits of repeating the visit before",
    "gain by the past": "Jaccard of later visits: LR and one model of the past for all classes, less LR",
}
"""Line of the comparison → what it is. ``p`` are out-of-fold probabilities of LR on codes."""


# -- the synthetic side ----------------------------------------------------------------------------------------------


def like(demo: Cohort, records: SyntheticRecords, rng: np.random.Generator) -> Cohort:
    """A synthetic cohort cut to a demo.

    Args:
        demo: whose numbers of visits, numbers of codes and, in MIMIC-IV, versions are taken over.
        records: with history, of more patients than the demo has.
        rng: which patients.

    Returns:
        As many patients with as many visits.  Stays that the pipeline would drop are dropped first.  Among patients
        with equal numbers of visits those with many diagnoses stand for those with many; of each visit the codes that
        stand last in billing order are cut off.
    """
    stays = records.stays
    there: dict[Kind, Ragged] = {
        "diagnosis": stays.diagnoses,
        "procedure": stays.procedures,
        "medication": stays.medications,
    }
    keep = np.all([there[kind].lengths > 0 for kind in demo.options["require"]], axis=0)
    of_patient = np.repeat(np.arange(records.n_patients), np.diff(stays.visit_offsets))
    mine = [np.flatnonzero(keep[a:b]) + a for a, b in zip(stays.visit_offsets, stays.visit_offsets[1:], strict=False)]
    has = np.bincount(of_patient[keep], minlength=records.n_patients)
    wanted, size = np.diff(demo.visit_offsets), demo.codes["diagnosis"].lengths
    chosen = np.zeros(demo.n_visits, dtype=np.int64)
    for n in np.unique(wanted)[::-1]:
        patients = np.flatnonzero(wanted == n)
        able = np.flatnonzero(has >= n)
        if len(able) < len(patients):
            raise ValueError(f"{len(patients)} patients with {n} visits are wanted, and {len(able)} drawn.")
        picked = rng.choice(able, len(patients), replace=False)
        has[picked] = 0
        rows = np.array([mine[p][:n] for p in picked])
        places = demo.visit_offsets[patients][:, None] + np.arange(n)
        by_demo, by_draw = np.argsort(size[places].sum(1)), np.argsort(stays.diagnoses.lengths[rows].sum(1))
        chosen[places[by_demo]] = rows[by_draw]
    ten = np.zeros(demo.n_visits, dtype=np.int64)
    if demo.options["layout"] == "mimic4":
        version = np.array([code.startswith("10:") for code in demo.vocab["diagnosis"].codes])
        ten = version[demo.codes["diagnosis"].values[demo.codes["diagnosis"].offsets[:-1]]].astype(np.int64)

    vocab: dict[Kind, Vocabulary] = {}
    codes: dict[Kind, Ragged] = {}
    for kind in KINDS:
        names: tuple[str, ...] = ()
        codes[kind] = Ragged.from_lists([[]] * demo.n_visits)
        if kind == "medication":
            names, codes[kind] = records.classes, stays.medications.take(chosen)
        elif kind in there and len(demo.vocab[kind]):
            pairs = getattr(records.world, "diagnoses" if kind == "diagnosis" else "procedures")
            names, codes[kind] = _written(there[kind].take(chosen), pairs, ten, demo.codes[kind].lengths)
        vocab[kind] = Vocabulary(kind, names, names)
    return Cohort(
        name=f"like {demo.name}",
        source="synthetic",
        vocab=vocab,
        visit_offsets=demo.visit_offsets,
        codes=codes,
        admit_time=demo.admit_time,
        days_since_previous=demo.days_since_previous,
        sex=demo.sex,
        age_band=demo.age_band,
    )


def _written(
    rows: Ragged, pairs: NDArray[np.str_], ten: NDArray[np.int64], most: NDArray[np.int64]
) -> tuple[tuple[str, ...], Ragged]:
    """Codes as ICD-9 or ICD-10 writes them, at most ``most`` a visit; equal writings in a visit are one code."""
    place = np.arange(len(rows.values)) - rows.offsets[:-1][rows.row_of_value]
    kept_codes = place < most[rows.row_of_value]
    visit, version = rows.row_of_value[kept_codes], ten[rows.row_of_value[kept_codes]]
    text = np.char.add(np.where(version == 1, "10:", "9:"), pairs[rows.values[kept_codes], version])
    names, number = np.unique(text, return_inverse=True)
    cells = np.unique(visit * len(names) + number)
    lengths = np.bincount(cells // len(names), minlength=len(ten))
    return tuple(names.tolist()), Ragged(
        np.concatenate([[0], np.cumsum(lengths)]), (cells % len(names)).astype(np.int32)
    )


# -- what is compared ------------------------------------------------------------------------------------------------


def measured(cohort: Cohort, seed: int = 0) -> dict[str, float | None]:
    """The :data:`LINES` of one cohort.

    Args:
        cohort: a demo, or what :func:`like` cut to it.
        seed: of the folds.

    Returns:
        ``None`` where there is nothing to measure.
    """
    table = calibrate(cohort)
    usual = dict(zip(table["quantity"], table[cohort.name], strict=True))
    y = given(cohort)
    p = out_of_fold(cohort, current_codes(cohort), np.arange(cohort.n_patients), PENALTY, seed=seed)
    p = p.clip(1e-3, 1 - 1e-3)
    later = cohort.visit_number > 0
    size = y.sum(1)
    frequent = y.mean(0) >= FREQUENT
    together = np.asarray(np.corrcoef((y - p)[:, frequent].T))[np.triu_indices(frequent.sum(), 1)]
    found = {name: usual[name] for name in LINES if name in usual}
    found |= {
        "Jaccard of LR": _best(p, y),
        "correlation of classes after LR": float(
            np.sqrt(max((together**2).mean() - 1 / len(y), 0.0))  # chance alone gives 1 / V
        ),
        "overdispersion of set sizes after LR": float(((size - p.sum(1)) ** 2).sum() / (p * (1 - p)).sum()),
    }
    if later.sum() >= FEWEST:
        rows = np.flatnonzero(later)
        found |= {
            "correlation of set sizes": float(np.corrcoef(size[rows - 1], size[rows])[0, 1]),
            "log-odds ratio of carry-over": carry_over(logit(p[rows]), last_given(cohort)[rows], y[rows]),
            "Jaccard of consecutive visits": usual["Jaccard of the last visit"],
            "gain by the past": gain_by_the_past(cohort, p, seed),
        }
    return {name: found.get(name) for name in LINES}


def _best(probability: NDArray[np.floating], y: NDArray[np.bool_]) -> float:
    """Mean Jaccard at the best cut."""
    return max(float(jaccard(probability >= cut, y).mean()) for cut in np.arange(0.2, 0.6, 0.02))


def carry_over(offset: NDArray[np.floating], before: NDArray[np.bool_], y: NDArray[np.bool_]) -> float:
    r"""Log-odds ratio of a class for having been given before, all classes together.

    The ``b`` of :math:`P(y) = \sigma(o + a + b x)`, by Newton's method.

    Args:
        offset: ``(n, M)`` log-odds ``o`` without the past.
        before: ``(n, M)`` bool ``x``.
        y: ``(n, M)`` bool.
    """
    x = np.stack([np.ones(y.size), before.ravel()], axis=1).astype(float)
    weights, answer = np.zeros(2), y.ravel()
    for _ in range(25):
        p = expit(offset.ravel() + x @ weights)
        weights += np.linalg.solve((x * (p * (1 - p))[:, None]).T @ x, x.T @ (answer - p))
    return float(weights[1])


def gain_by_the_past(cohort: Cohort, p: NDArray[np.floating], seed: int = 0, folds: int = 5) -> float:
    """What one logistic model of the past, the same for all classes, adds to the Jaccard of later visits.

    It is told the log-odds of LR; whether the class was given at the visit before and how often at all earlier ones,
    and by how much both depart from what LR expected; and by how much earlier visits had more medications than that.

    Args:
        cohort: with later visits.
        p: ``(V, M)`` out-of-fold probabilities of LR.
        seed: of the folds over patients.
        folds: how many.
    """
    rows = np.flatnonzero(cohort.visit_number > 0)
    y = given(cohort)
    surprise = y - p
    expected = mean_before(cohort, surprise)
    features = np.stack(
        [
            logit(p)[rows],
            y[rows - 1],
            surprise[rows - 1],
            mean_before(cohort, y.astype(float))[rows],
            expected[rows],
            np.broadcast_to(expected.sum(1, keepdims=True), y.shape)[rows] / 10,
        ],
        axis=-1,
    )
    fold = (np.random.default_rng(seed).permutation(cohort.n_patients) % folds)[cohort.patient_of_visit[rows]]
    found = np.zeros((len(rows), y.shape[1]))
    for f in range(folds):
        seen = fold != f
        shared = LogisticRegression(max_iter=1000).fit(
            features[seen].reshape(-1, features.shape[2]), y[rows][seen].ravel()
        )
        found[~seen] = shared.predict_proba(features[~seen].reshape(-1, features.shape[2]))[:, 1].reshape(
            -1, y.shape[1]
        )
    return _best(found, y[rows]) - _best(p[rows], y[rows])


# -- the table -------------------------------------------------------------------------------------------------------


def comparison(demos: dict[str, Cohort], draws: int = DRAWS) -> pl.DataFrame:
    """Demos and synthetic cohorts cut to them.

    Args:
        demos: name → cohort.
        draws: of synthetic patients.

    Returns:
        One row for each demo and line: ``demo``, ``line``, ``what``, ``real``, ``synthetic`` (mean of the draws),
        ``spread`` (their standard deviation), ``draws``.
    """
    patients = POOL * max(demo.n_patients for demo in demos.values())
    drawn: dict[str, list[dict[str, float | None]]] = {name: [] for name in demos}
    for seed in range(draws):
        records = synthesize(patients, seed)
        for name, demo in demos.items():
            drawn[name].append(measured(like(demo, records, np.random.default_rng(seed)), seed))
    rows: list[dict[str, Any]] = []
    for name, demo in demos.items():
        for line, real in measured(demo).items():
            values = np.array([found[line] for found in drawn[name]], dtype=float)
            if real is not None:
                rows.append(
                    {
                        "demo": name,
                        "line": line,
                        "what": LINES[line],
                        "real": real,
                        "synthetic": float(values.mean()),
                        "spread": float(values.std(ddof=1)),
                        "draws": draws,
                    }
                )
    return pl.DataFrame(rows).with_columns(pl.selectors.float().round(6))


def text(table: pl.DataFrame) -> str:
    """The table for people: real and synthetic ± spread, one column a demo."""
    names = table["demo"].unique(maintain_order=True).to_list()
    rows = [["", *names]]
    for line in LINES:
        cells = {
            row["demo"]: f"{row['real']:.3f} / {row['synthetic']:.3f} ± {row['spread']:.3f}"
            for row in table.filter(line=line).iter_rows(named=True)
        }
        rows.append([line, *(cells.get(name, "-") for name in names)])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows)


# -- the kept rows ---------------------------------------------------------------------------------------------------


def read() -> kept.Kept:
    """The kept table ``comparison``."""
    return kept.read(STUDY, command=COMMAND)


def main() -> None:
    """Measure, print and keep the rows; the demos must lie in ``MEDREC_DATA_DIR``."""
    start = time.perf_counter()
    demos = {name: load_cohort(name) for name in DEMOS}
    table = comparison(demos)
    folder = kept.save(
        STUDY,
        {"comparison": table},
        cohort=None,
        command=COMMAND,
        code=kept.code_of(f"medrec.experiments.{STUDY}", "experiments")
        | keys.codes(
            [
                "medrec.models.lr",
                "medrec.data.calibration",
                *(f"medrec.data.synthetic.{part}" for part in ("model", "world", "controls")),
            ]
        ),
        seconds=time.perf_counter() - start,
        more={"records": {name: cohort.content for name, cohort in demos.items()}},
    )
    print(text(table))
    print(f"Real / synthetic ± spread of {DRAWS} draws, the synthetic side cut to the demo. Kept in {folder}")


if __name__ == "__main__":
    main()
