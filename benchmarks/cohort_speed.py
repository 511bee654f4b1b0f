"""Time and memory of tables → cohort at the size of the full MIMIC-III, and whether memory follows the order table.

    python benchmarks/cohort_speed.py [--folder FOLDER] [--factors 1 3]

Writes synthetic tables in MIMIC-III layout (46 520 patients, about 59 000 admissions), repeats orders on later days
until there are 4.2 million prescription rows (``--factors 3``: three times as many for the same visits), compressed as
PhysioNet ships them, and builds the cohort in a fresh process that reports its wall time and its peak memory.
Budget: 15 s and 2 GiB on two cores.
"""

from __future__ import annotations

import argparse
import gzip
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import polars as pl

from medrec.data.synthetic import synthesize

PATIENTS, ADMISSIONS, PRESCRIPTIONS = 46_520, 58_976, 4_156_450
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


def write_tables(folder: Path, factor: int) -> None:
    """Synthetic tables of full size with ``factor`` times the prescription rows of MIMIC-III."""
    synthesize(PATIENTS, visits_per_patient=ADMISSIONS / PATIENTS).write(folder, "mimic3")
    path = folder / "PRESCRIPTIONS.csv.gz"
    orders = pl.read_csv(path, infer_schema=False, glob=False)
    # A row more is an order repeated on a later day of the stay: the cohort stays what it was.
    wanted = PRESCRIPTIONS * factor
    with gzip.open(path, "wb", compresslevel=1) as stream:
        for day in range(-(-wanted // len(orders))):
            part = orders.head(min(len(orders), wanted - day * len(orders)))
            stream.write(part.write_csv(include_header=day == 0).encode())


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
