"""The run store: one folder for each training, written whole or not at all.

``runs/<cohort>/<model>/<variant>/seed<N>/`` holds

=======================  ========================================================================================
``config.json``          everything that decided the result: settings, seeds, cohort with its fingerprint
``metrics.json``         test results at the system's own and at the tuned threshold, best epoch
``per_patient.parquet``  sums of the metrics for each test patient and group of visits: all that intervals need
``history.csv``          one row for each epoch (networks only)
``weights.safetensors``  what was learnt
``vocabulary.json``      codes and titles, so that the run can be asked about new patients
``environment.json``     versions, device, commit of the checkout, wall time, peak memory
=======================  ========================================================================================

``<cohort>`` is the cohort's name, followed by the options that differ from their defaults
(``mimic4-demo+window=first_day``); ``<variant>`` is ``paper`` or ``official``, followed by the settings that differ
(``paper+dropout=0.3``).
"""

from __future__ import annotations

import hashlib
import json
import math
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from medrec.data.cohort import KINDS, Cohort, Kind, Vocabulary, atomic_folder
from medrec.paths import base_dir, runs_dir
from medrec.protocol import Evaluation
from medrec.types import MedrecError

Threshold = Literal["own", "tuned"]
PACKAGES = ("medrec", "numpy", "polars", "scikit-learn", "scipy", "torch")


@dataclass(frozen=True)
class Run:
    """A finished training, as it lies on disk.

    Args:
        folder: where it lies.
        config: contents of ``config.json``.
        metrics: contents of ``metrics.json``.
        environment: contents of ``environment.json``.
    """

    folder: Path
    config: dict[str, Any]
    metrics: dict[str, Any]
    environment: dict[str, Any]

    @classmethod
    def load(cls, folder: Path) -> Run:
        """Open a run.

        Raises:
            MedrecError: there is no run, or a file of it is damaged.
        """
        folder = Path(folder)
        contents = []
        for name in ("config.json", "metrics.json", "environment.json"):
            try:
                contents.append(json.loads((folder / name).read_text(encoding="utf-8")))
            except (FileNotFoundError, NotADirectoryError):
                raise MedrecError(
                    f"{folder} holds no run ({name} is missing). `medrec train` makes one and prints its folder."
                ) from None
            except json.JSONDecodeError:
                raise MedrecError(f"{folder / name} is damaged. Train again with --again.") from None
        return cls(folder, *contents)

    @property
    def key(self) -> str:
        """``cohort/model/variant/seedN``."""
        return "/".join(self.folder.parts[-4:])

    @cached_property
    def history(self) -> pl.DataFrame:
        """One row for each epoch; empty for systems that are fitted in one go."""
        path = self.folder / "history.csv"
        return pl.read_csv(path) if path.exists() else pl.DataFrame()

    def evaluation(self, threshold: Threshold = "tuned") -> Evaluation:
        """Results patient by patient, for intervals and comparisons.

        Args:
            threshold: ``"own"``, the system's published one; ``"tuned"`` on validation Jaccard.  Systems without a
                threshold give the same for both.
        """
        table = pl.read_parquet(self.folder / "per_patient.parquet").filter(pl.col("threshold") == threshold)
        return Evaluation(table.drop("threshold"), self.config["protocol"]["aggregation"])

    @property
    def threshold(self) -> float | None:
        """The tuned threshold; ``None`` for systems without one."""
        return self.metrics["tuned"]["threshold"]

    def state(self) -> dict[str, NDArray]:
        """What was learnt, by name."""
        from safetensors.numpy import load

        return load((self.folder / "weights.safetensors").read_bytes())

    def vocabulary(self) -> dict[Kind, Vocabulary]:
        """Codes that the system knows."""
        stored = json.loads((self.folder / "vocabulary.json").read_text(encoding="utf-8"))
        return {kind: Vocabulary(kind, tuple(stored[kind]["codes"]), tuple(stored[kind]["titles"])) for kind in KINDS}


def fingerprint(cohort: Cohort) -> str:
    """Hash of a cohort's visits and vocabularies: two cohorts with the same one train the same model."""
    digest = hashlib.sha256(cohort.visit_offsets.tobytes())
    for kind in KINDS:
        digest.update(cohort.codes[kind].offsets.tobytes())
        digest.update(cohort.codes[kind].values.tobytes())
        digest.update("\n".join(cohort.vocab[kind].codes).encode())
    return digest.hexdigest()[:16]


def cohort_key(cohort: Cohort) -> str:
    """Name of the cohort in the store: its name, and the options that differ from their defaults."""
    from medrec.data.build import Options
    from medrec.data.load import Knobs

    # "require" is resolved from what the database has, so it is no choice of the user's.
    defaults = {k: v for k, v in (asdict(Options()) | asdict(Knobs())).items() if k != "require"}
    changed = {k: v for k, v in sorted(cohort.options.items()) if k in defaults and v != defaults[k]}
    return with_changes(cohort.name, changed)


def with_changes(name: str, changed: Mapping[str, Any]) -> str:
    """``name+key=value,key=value``, fit for a folder."""
    return "+".join([name, ",".join(f"{k}={v}" for k, v in sorted(changed.items()))]) if changed else name


def run_folder(cohort: str, model: str, variant: str, seed: int) -> Path:
    """Where a run lies, or will lie."""
    return runs_dir() / cohort / model / variant / f"seed{seed}"


def find(cohort: Cohort, model: str, variant: str = "paper", seed: int = 0) -> Run | None:
    """A finished run on exactly these records, or ``None``."""
    folder = run_folder(cohort_key(cohort), model, variant, seed)
    if not (folder / "config.json").exists():
        return None
    run = Run.load(folder)
    return run if run.config["cohort"]["fingerprint"] == fingerprint(cohort) else None


def save(
    folder: Path,
    *,
    config: dict[str, Any],
    metrics: dict[str, Any],
    per_patient: pl.DataFrame,
    history: pl.DataFrame | None,
    state: Mapping[str, NDArray],
    vocab: Mapping[Kind, Vocabulary],
    environment: dict[str, Any],
) -> Run:
    """Write a run; on any failure nothing is left at ``folder``.

    Raises:
        MedrecError: the disk is full or the folder cannot be written.
    """
    from safetensors.numpy import save as serialise

    with atomic_folder(folder, what="the run") as tmp:
        write_json(tmp / "config.json", config)
        write_json(tmp / "metrics.json", metrics)
        write_json(tmp / "environment.json", environment)
        write_json(tmp / "vocabulary.json", {k: {"codes": v.codes, "titles": v.titles} for k, v in vocab.items()})
        per_patient.write_parquet(tmp / "per_patient.parquet")
        if history is not None:
            (tmp / "history.csv").write_text(history.write_csv(), encoding="utf-8")
        # The library's own writer reports a full disk as an error of its own kind; this one as the system does.
        (tmp / "weights.safetensors").write_bytes(serialise({k: np.ascontiguousarray(v) for k, v in state.items()}))
    return Run.load(folder)


def write_json(path: Path, content: Any) -> None:
    """Write readable, standard JSON: numbers that do not exist become ``null``."""
    path.write_text(json.dumps(_plain(content), indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _plain(content: Any) -> Any:
    if isinstance(content, Mapping):
        return {str(k): _plain(v) for k, v in content.items()}
    if isinstance(content, (list, tuple)):
        return [_plain(v) for v in content]
    if isinstance(content, np.generic):
        content = content.item()
    if isinstance(content, float) and not math.isfinite(content):
        return None
    return content


def environment(device: str, seconds: float) -> dict[str, Any]:
    """What the run was made with.

    Args:
        device: as PyTorch calls it.
        seconds: wall time of the training.
    """
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "versions": versions,
        "device": _device_name(device),
        "commit": _commit(),
        "wall_seconds": round(seconds, 2),
        "peak_memory_mib": _peak_memory(),
    }


def _device_name(device: str) -> str:
    if not device.startswith("cuda"):
        return f"cpu ({platform.machine()})"
    import torch

    return f"{device} ({torch.cuda.get_device_name(device)})"


def _commit() -> str | None:
    """Commit of the checkout, with ``+`` when files differ from it; ``None`` outside of one."""
    try:
        said = [
            subprocess.run(
                ["git", "-C", str(base_dir()), *words], capture_output=True, text=True, check=True, timeout=10
            ).stdout.strip()
            for words in (["rev-parse", "--short=12", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
        ]
    except (OSError, subprocess.SubprocessError):
        return None
    return said[0] + ("+" if said[1] else "")


def _peak_memory() -> int | None:
    """Largest resident size of this process so far, MiB; ``None`` where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak // (1024 * 1024 if platform.system() == "Darwin" else 1024)
