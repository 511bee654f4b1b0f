"""Time and memory of tables → cohort at the size of the full MIMIC-III, and whether memory follows the order table.

    python benchmarks/cohort_speed.py [--folder FOLDER] [--factors 1 3]

Writes tables in MIMIC-III layout (46 520 patients, 58 976 admissions, 4.2 million prescription rows; ``--factors 3``
has three times the rows for the same visits), compressed as PhysioNet ships them, and builds the cohort in a fresh
process that reports its wall time and its peak memory. Budget: 15 s and 2 GiB on two cores. The drugs are ours,
drawn by a power law; no record of a real patient is involved.
"""

from __future__ import annotations

import argparse
import gzip
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import polars as pl

PATIENTS, ADMISSIONS, PRESCRIPTIONS = 46_520, 58_976, 4_156_450
DIAGNOSES, PROCEDURES = 651_047, 240_095
BUDGET_SECONDS, BUDGET_MIB = 15.0, 2048.0

CHILD = """
import json, sys, time
from pathlib import Path
from medrec.data import build, mimic3
def peak():  # getrusage would count the parent's memory at the fork
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return int(status["VmHWM"].split()[0]) / 1024
before, start, cpu = peak(), time.perf_counter(), time.process_time()
options = build.Options(**json.loads(sys.argv[2]))
cohort = build.build_cohort(mimic3.read(Path(sys.argv[1])), options, name="benchmark", source="synthetic")
print(json.dumps({"seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - cpu,
    "peak_mib": peak(), "before_mib": before,
    "visits": cohort.n_visits, "medications": cohort.n_medications,
    "pairs": len(cohort.codes["medication"].values), "orders": cohort.report.facts["orders_read"]}))
"""


def write_tables(folder: Path, factor: int, seed: int = 0) -> None:
    """Tables of full size with ``factor`` times the prescription rows."""
    from medrec.knowledge.drugs import drugs

    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    subject = np.arange(PATIENTS) + 2
    admission = rng.permutation(100_000)[:ADMISSIONS] + 100_000
    owner = np.concatenate([subject, rng.choice(subject, ADMISSIONS - PATIENTS)])
    day = np.datetime64("2100-01-01") + rng.integers(0, 36_500, ADMISSIONS)
    write_csv(
        folder / "PATIENTS.csv.gz",
        {
            "ROW_ID": subject,
            "SUBJECT_ID": subject,
            "GENDER": rng.choice(["F", "M"], PATIENTS),
            "DOB": stamp(np.datetime64("2030-01-01") + rng.integers(0, 20_000, PATIENTS)),
        },
    )
    write_csv(
        folder / "ADMISSIONS.csv.gz",
        {"ROW_ID": admission, "SUBJECT_ID": owner, "HADM_ID": admission, "ADMITTIME": stamp(day)},
    )
    for name, n, n_codes in (("DIAGNOSES_ICD", DIAGNOSES, 6_984), ("PROCEDURES_ICD", PROCEDURES, 2_009)):
        visit = rng.integers(0, ADMISSIONS, n)
        write_csv(
            folder / f"{name}.csv.gz",
            {
                "ROW_ID": np.arange(n),
                "SUBJECT_ID": owner[visit],
                "HADM_ID": admission[visit],
                "SEQ_NUM": rng.integers(1, 20, n),
                "ICD9_CODE": (power_law(rng, n_codes, n) + 10_000).astype(str),
            },
        )
    # About 4 000 products: a name as ordered, a form, a route, an NDC.
    names = np.array([name.title() for name in drugs()["name"]])
    forms = np.array(["", " HCl", " Sodium", " (Immediate Release)", " 10mg", " 50mg/mL", " XR", " (Liquid)"])
    product = {
        "drug": np.char.add(rng.choice(names, 4_000), rng.choice(forms, 4_000)),
        "ndc": np.char.zfill(rng.integers(0, 10**10, 4_000).astype(str), 11),
        "route": rng.choice(["PO", "IV", "IV DRIP", "SC", "PO/NG", "IH", "PR", "TP"], 4_000),
    }
    product["ndc"][rng.random(4_000) < 0.14] = "0"
    with gzip.open(folder / "PRESCRIPTIONS.csv.gz", "wb", compresslevel=1) as stream:
        for start in range(0, PRESCRIPTIONS, 400_000):
            rows = min(400_000, PRESCRIPTIONS - start)
            visit, which = rng.integers(0, ADMISSIONS, rows), power_law(rng, 4_000, rows)
            begin = day[visit] + rng.integers(0, 10, rows)
            # More rows are repeats of the same orders on later days: the cohort stays what it was.
            begin = (begin[None] + np.arange(factor)[:, None]).ravel()
            visit, which, rows = np.tile(visit, factor), np.tile(which, factor), rows * factor
            drug = product["drug"][which]
            frame = pl.DataFrame(
                {
                    "ROW_ID": np.arange(start, start + rows),
                    "SUBJECT_ID": owner[visit],
                    "HADM_ID": admission[visit],
                    "ICUSTAY_ID": admission[visit] + 100_000,
                    "STARTDATE": stamp(begin),
                    "ENDDATE": stamp(begin + 2),
                    "DRUG_TYPE": rng.choice(["MAIN", "BASE", "ADDITIVE"], rows, p=[0.75, 0.24, 0.01]),
                    "DRUG": drug,
                    "DRUG_NAME_POE": drug,
                    "DRUG_NAME_GENERIC": drug,
                    "FORMULARY_DRUG_CD": which.astype(str),
                    "GSN": which.astype(str),
                    "NDC": product["ndc"][which],
                    "PROD_STRENGTH": "10 mg Tablet",
                    "DOSE_VAL_RX": "10",
                    "DOSE_UNIT_RX": "mg",
                    "FORM_VAL_DISP": "1",
                    "FORM_UNIT_DISP": "TAB",
                    "ROUTE": product["route"][which],
                }
            )
            stream.write(frame.write_csv(include_header=start == 0).encode())


def power_law(rng: np.random.Generator, n: int, size: int) -> np.ndarray:
    """Numbers below ``n``, the k-th with weight 1/k."""
    weight = 1 / np.arange(1, n + 1)
    return rng.choice(n, size, p=weight / weight.sum())


def stamp(day: np.ndarray) -> np.ndarray:
    """Days as MIMIC-III writes them."""
    return np.char.add(day.astype("datetime64[D]").astype(str), " 00:00:00")


def write_csv(path: Path, columns: dict[str, np.ndarray]) -> None:
    """One compressed table."""
    path.write_bytes(gzip.compress(pl.DataFrame(columns).write_csv().encode(), 1))


def main() -> int:
    """Print a line for each case; 1 if one of those at full size is over the budget or memory follows the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, help="where the tables are kept for the next time (default: temporary)")
    parser.add_argument("--factors", type=int, nargs="+", default=[1, 3])
    args = parser.parse_args()
    failed = False
    with tempfile.TemporaryDirectory() as temporary:
        base = args.folder or Path(temporary)
        peaks: dict[str, dict[int, float]] = {}
        for factor in args.factors:
            folder = base / f"x{factor}"
            if not (folder / "PRESCRIPTIONS.csv.gz").exists():
                write_tables(folder, factor)
            for options in ({}, {"window": "first_day"}):
                label = json.dumps(options)
                out = subprocess.run(
                    [sys.executable, "-c", CHILD, str(folder), label], check=True, capture_output=True, text=True
                )
                result = json.loads(out.stdout.splitlines()[-1])
                peaks.setdefault(label, {})[factor] = result["peak_mib"]
                over = factor == 1 and (result["seconds"] > BUDGET_SECONDS or result["peak_mib"] > BUDGET_MIB)
                failed |= over
                print(f"x{factor} {label}: " + ", ".join(f"{k} {v:,.1f}" for k, v in result.items()) + " OVER" * over)
        for label, peak in peaks.items():
            if {1, 3} <= set(peak):
                grown = peak[3] / peak[1]
                failed |= grown > 1.5
                print(f"{label}: three times the rows, {grown:.2f} times the memory" + " TOO MUCH" * (grown > 1.5))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
