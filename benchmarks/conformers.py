"""Seconds for the conformers of all drugs, cold and cached, on two cores.

    python benchmarks/conformers.py

Cold: one conformer of every structure of the drug table, into an empty temporary cache; at most 3 minutes. Cached: the
same call again in a process of its own; at most 1 s without the imports, which are reported beside it. The two answers
must be equal to the last digit.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time

COLD, CACHED = 180.0, 1.0
"""Budgets, seconds."""
REPEATS = 3
"""Times that the cache is read; the fastest counts, as others may use the machine. Cold is measured once."""


def measure() -> dict[str, float | int | str]:
    """Ask for all conformers and time it; where they come from is up to the cache."""
    start = time.perf_counter()
    from joblib import cpu_count
    from rdkit import Chem  # noqa: F401  # loaded now, so that it is no part of the work

    from medrec.chem.conformers import conformers
    from medrec.knowledge.drugs import drugs

    smiles = sorted(set(drugs()["smiles"]) - {""})
    imports = time.perf_counter() - start
    start = time.perf_counter()
    made = conformers(smiles)
    seconds = time.perf_counter() - start
    digest = hashlib.sha256(b"".join(one.coordinates.tobytes() for one in made)).hexdigest()
    return {
        "seconds": seconds,
        "imports": imports,
        "molecules": len(smiles),
        "found": sum(one.found for one in made),
        "relaxed": sum(one.converged for one in made),
        "atoms": sum(len(one.atoms) for one in made),
        "cores": cpu_count(),
        "digest": digest,
    }


def main() -> int:
    with tempfile.TemporaryDirectory() as cache:
        runs = []
        for _ in range(1 + REPEATS):
            out = subprocess.run(
                [sys.executable, __file__, "measure"],
                check=True,
                stdout=subprocess.PIPE,
                text=True,
                env=os.environ | {"MEDREC_CACHE_DIR": cache},
            ).stdout
            runs.append(json.loads(out.splitlines()[-1]))
    cold, again = runs[0], min(runs[1:], key=lambda run: run["seconds"])
    same = all(run["digest"] == cold["digest"] for run in runs)
    size = f"{cold['molecules']} molecules, {cold['atoms']} heavy atoms, {cold['cores']} cores"
    print(f"cold ({size}): {cold['seconds']:.1f} s (budget {COLD:.0f} s)")
    print(f"  {cold['found']} with a conformer, {cold['relaxed']} at rest in MMFF94")
    print(f"cached: {again['seconds']:.2f} s (budget {CACHED:.0f} s), imports {again['imports']:.1f} s before")
    if not same:
        print("The cache does not give back what was made.")
    return int(cold["seconds"] > COLD or again["seconds"] > CACHED or not same)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(measure()))
    else:
        sys.exit(main())
