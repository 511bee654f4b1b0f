"""Seconds of BiMoRec's pre-training in its short setting, on the molecules of the cohort ``synthetic``.

    python benchmarks/pretraining.py

At most 60 s with conformers at hand; ``benchmarks/conformers.py`` measures those. Results and conformers go to a
temporary cache, so that nothing is read that an earlier run made. The 300 epochs of the paper are a stored run
(``results/bimorec_pretraining``), which says how long it took.
"""

from __future__ import annotations

import os
import sys
import tempfile

BUDGET = 60.0
"""Seconds."""


def main() -> int:
    # medrec before torch: it keeps idle threads from spinning.
    from medrec.experiments.bimorec_pretraining import book_molecules
    from medrec.models.bimorec_pretraining import QUICK, PretrainingConfig, pretrain

    import torch  # isort: skip

    molecules, config = book_molecules(), PretrainingConfig(**QUICK)
    # The first run makes the conformers; the second, with another seed, finds them and trains anew.
    cold, warm = (pretrain(molecules, config=config, seed=seed).report["seconds"] for seed in (0, 1))
    print(
        f"{len(molecules.smiles)} molecules, {len(molecules.fragments)} fragments, {config.epochs} epochs, "
        f"{torch.get_num_threads()} threads: {warm:.1f} s (budget {BUDGET:.0f} s), {cold:.1f} s with conformers"
    )
    return int(warm > BUDGET)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MEDREC_CACHE_DIR"] = folder
        sys.exit(main())
