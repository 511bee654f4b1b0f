"""How long synthetic records take: drawn, written, read back as a cohort.

Usage: ``python benchmarks/synthetic_speed.py [synthetic|synthetic-6350|synthetic-60125|mimic3]``.
``mimic3`` has the size of full MIMIC-III:
46 520 patients, 58 976 admissions, 4.2 million orders.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from pathlib import Path

from medrec.data import mimic3, mimic4
from medrec.data.build import Options, build_cohort
from medrec.data.synthetic import synthesize

SIZES = {
    # patients, visits per patient, layout
    "synthetic": (600, 2.45, mimic3),
    "synthetic-6350": (6_350, 2.45, mimic3),
    "synthetic-60125": (60_125, 2.61, mimic4),
    "mimic3": (46_520, 1.27, mimic3),
}


def main(size: str = "synthetic-6350") -> None:
    patients, visits, reader = SIZES[size]
    layout = reader.__name__.rpartition(".")[2]
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        records = synthesize(patients, visits_per_patient=visits)
        drawn = time.perf_counter()
        tables = records.write(Path(folder) / size, layout)
        written = time.perf_counter()
        cohort = build_cohort(reader.read(tables), Options(), name=size, source="synthetic")
        read = time.perf_counter()
        mebibytes = sum(path.stat().st_size for path in tables.rglob("*.gz")) / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{size}: {records.n_patients} patients, {records.n_visits} visits; {mebibytes:.0f} MiB of tables")
    steps = {"drawn": drawn - start, "written": written - drawn, "read": read - written}
    took = ", ".join(f"{step} {seconds:.1f} s" for step, seconds in steps.items())
    print(f"{took}; peak {peak:.2f} GiB")
    print(f"cohort: {cohort.n_patients} patients, {cohort.n_visits} visits")


if __name__ == "__main__":
    main(*sys.argv[1:])
