"""The run store: one folder for each training, written whole or not at all, found by what it was made of.

``runs/<cohort>/<system>/<variant>/seed<N>/`` holds

========================  =======================================================================================
``config.json``           everything that decided the result, and ``key``, the hash of it
``metrics.json``          test results at the system's own and at the tuned threshold, best epoch
``answers.safetensors``   what the system said about validation and test patients: evaluation is a function of it
``history.csv``           one row for each epoch (networks only)
``weights.safetensors``   what was learnt
``vocabulary.json``       codes and titles, so that the run can be asked about new patients
``environment.json``      versions, device, threads, commit of the checkout, wall time, peak memory
``checksums.json``        hashes of all of them
========================  =======================================================================================

``<cohort>`` is the cohort's name, followed by the options that differ from their defaults
(``mimic4-demo+window=first_day``); ``<variant>`` is ``paper`` or ``official``, followed by the settings that differ
(``paper+dropout=0.3``).  Names are for people: where one is taken by a run with another key, both stay, and the folder
of the second ends in the first letters of its key (``seed0-1f3a9c20``).
"""

from __future__ import annotations

import json
import math
import platform
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from safetensors.numpy import load as read_arrays
from safetensors.numpy import save as array_bytes

from medrec import keys, tasks
from medrec.arguments import shown
from medrec.data.cohort import KINDS, Cohort, Kind, Vocabulary
from medrec.data.load import given_cohort
from medrec.folders import atomic_folder, damage, notice
from medrec.graphs.interactions import Interactions
from medrec.graphs.knowledge import KnowledgeGraph
from medrec.paths import announce_opened, base_dir, runs_dir
from medrec.tasks.evaluation import Evaluation
from medrec.types import MedrecError

FORMAT = 2
PACKAGES = ("medrec", "numpy", "polars", "scikit-learn", "scipy", "torch")
LETTERS = 8
"""Of a key, in the name of a folder."""


@dataclass(frozen=True)
class Place:
    """Where a run lies, or will lie.

    Args:
        cohort: see :func:`cohort_key`.
        system: its name.
        variant: see :func:`with_changes`.
        seed: of the training.
        key: of the run's content.
    """

    cohort: str
    system: str
    variant: str
    seed: int
    key: str

    @property
    def _parent(self) -> Path:
        return runs_dir() / self.cohort / self.system / self.variant

    @property
    def _names(self) -> tuple[str, str]:
        """Folders in which the run can lie."""
        return f"seed{self.seed}", f"seed{self.seed}-{self.key[:LETTERS]}"

    @property
    def checkpoint(self) -> Path:
        """Folder of the state of a training that is not finished."""
        return self._parent / f".{self._names[1]}.checkpoint"

    def find(self) -> Run | None:
        """The run with this key, where it is whole; a damaged one is reported and counts as missing."""
        for name in self._names:
            folder = self._parent / name
            if _key_in(folder) != self.key:
                continue
            if reason := damage(folder):
                notice(f"the run {folder} is damaged ({reason}) and is made again.")
                continue
            # Whoever was killed after the run was written and before this: a whole run needs no checkpoint.
            shutil.rmtree(self.checkpoint, ignore_errors=True)
            return Run.load(folder)
        return None

    def free(self) -> Path:
        """Folder to write to: the plain name, unless a run with another key has it."""
        plain, own = (self._parent / name for name in self._names)
        taken = _key_in(plain)
        return own if taken is not None and taken != self.key and damage(plain) is None else plain


def _key_in(folder: Path) -> str | None:
    """Key of the run in a folder; ``None`` where there is none, ``""`` for one without a readable key."""
    try:
        return str(json.loads((folder / "config.json").read_text(encoding="utf-8"))["key"])
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError):
        return ""


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
    def load(cls, folder: str | Path) -> Run:
        """Open a run.

        Raises:
            MedrecError: there is no run, or a file of it is damaged.
        """
        if not isinstance(folder, str | Path):
            raise MedrecError(f"A run is opened by its folder, not by {shown(folder)}. `medrec train` prints it.")
        folder = Path(folder)
        if (folder / "config.json").exists() and (reason := damage(folder)):
            raise MedrecError(f"{folder} is damaged: {reason}. Train again with --again.")
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
        """``cohort/system/variant/seedN``."""
        return "/".join(self.folder.parts[-4:])

    @property
    def content_key(self) -> str:
        """Hash of everything that decided the result."""
        return str(self.config["key"])

    @property
    def changed_code(self) -> list[str]:
        """Modules that are not what they were when the run was made; empty for a run that is up to date."""
        return keys.changed_modules(self.config["code"])

    @cached_property
    def history(self) -> pl.DataFrame:
        """One row for each epoch; empty for systems that are fitted in one go."""
        path = self.folder / "history.csv"
        return pl.read_csv(path, glob=False) if path.exists() else pl.DataFrame()

    def _announce(self) -> None:
        """Scores of single patients, and codes that few of them have, are as closed as the records behind them."""
        announce_opened(f"the run {self.key}", self.folder, self.config["cohort"]["source"])

    @cached_property
    def _arrays(self) -> dict[str, NDArray[Any]]:
        self._announce()
        return read_arrays((self.folder / "answers.safetensors").read_bytes())

    @cached_property
    def answers(self) -> dict[str, Any]:
        """What the system said about ``"validation"`` and ``"test"`` patients, see ``Answers`` of the task."""
        task = tasks.get(self.config["task"])
        parts: dict[str, dict[str, NDArray[Any]]] = {}
        for name, array in self._arrays.items():
            part, _, what = name.partition(".")
            if what and part in ("validation", "test"):
                parts.setdefault(part, {})[what] = array
        return {part: task.Answers.from_arrays(found) for part, found in parts.items()}

    def ddi(self) -> NDArray[np.bool_]:
        """The interaction matrix that the system knew, ``(M, M)``."""
        return self._arrays["ddi"]

    def graph(self) -> Interactions | None:
        """Who was given what at the visits that training saw, for systems that need it."""
        if "graph.visits" not in self._arrays:
            return None
        return Interactions(self._arrays["graph.visits"], self._arrays["graph.last"])

    def knowledge(self) -> KnowledgeGraph | None:
        """Triplets that the system knew, for systems that need them."""
        prefix = "knowledge."
        found = {k.removeprefix(prefix): v for k, v in self._arrays.items() if k.startswith(prefix)}
        return KnowledgeGraph.from_arrays(found) if found else None

    def evaluation(self, threshold: Any = None, protocol: Any = None) -> Evaluation:
        """Results patient by patient, for intervals and comparisons: a function of the stored scores.

        Args:
            threshold: ``"own"``, the system's published one; ``"tuned"`` on validation Jaccard; a number; ``None``: the
                protocol's.  Systems without a threshold give the same for all.
            protocol: of the run's task, or its name; ``None``: the house's.

        Raises:
            MedrecError: no such threshold or protocol.
        """
        task = tasks.get(self.config["task"])
        house = task.house(self.config["sees"])
        protocol = house if protocol is None else tasks.protocol(self.config["task"], protocol)
        if threshold is not None:
            protocol = task.with_threshold(protocol, threshold)
        found: Evaluation = task.evaluation(self.answers, self.ddi(), self.own_threshold, protocol)
        return found

    @property
    def ending(self) -> str:
        """One line on why the training ended and what the system recommends on average."""
        found, settings = self.metrics, self.config["settings"]
        said = []
        if found["epochs"] is not None:
            done = f"after {found['epochs']} epochs ({found['steps']} steps)"
            patience = f"{settings['patience']} epochs and {settings['patience_steps']} steps"
            if not found["converged"]:
                why = f"at the limit of {settings['epochs']} epochs, not converged"
            elif settings["schedule"] == "cosine":
                why = "its learning rate at nothing"
            else:
                why = f"no better validation value for {patience}"
            said.append(f"Stopped {done}, {why}; epoch {found['best_epoch']} is kept.")
        if "n_medications" in found["tuned"]:
            test = self.answers["test"]
            prescribed = test.target[test.counted()].sum(1).mean()
            at = "" if self.threshold is None else " at the tuned threshold"
            said.append(
                f"Recommends {found['tuned']['n_medications']:.1f} medications a visit on average{at} "
                f"(prescribed: {prescribed:.1f})."
            )
        return " ".join(said)

    @property
    def warning(self) -> str:
        """One line that a reader of the results must know, or nothing: what the system has not learnt, and why.

        A run whose training had not converged, or whose answers are degenerate, bears no verdict; one that stands
        below popularity after training is a finding.
        """
        found = self.metrics
        said = []
        if not found["converged"]:
            said.append(f"its training had not converged after {found['epochs']} epochs ({found['steps']} steps)")
        if found["degenerate"]:
            said.append(f"it recommends {found['degenerate']}")
        if found["below_popularity"]:
            said.append("it stands below popularity")
        return "; ".join(said)

    @property
    def threshold(self) -> float | None:
        """The tuned threshold; ``None`` for systems without one."""
        found: float | None = self.metrics["tuned"]["threshold"]
        return found

    @property
    def own_threshold(self) -> float | None:
        """The system's own threshold; ``None`` for systems without one."""
        found: float | None = self.metrics["own"]["threshold"]
        return found

    def predictions(self, cohort: Cohort | str, threshold: Any = None) -> pl.DataFrame:
        """What the system said about the test patients, one row for each visit and medication.

        Args:
            cohort: the one that the run was trained on, or its name.
            threshold: as in :meth:`evaluation`.

        Returns:
            ``patient`` and ``visit`` (places in the cohort; :meth:`~medrec.data.cohort.Cohort.ids` joins them to the
            tables), ``class``, ``score`` (null where the system has none), ``recommended``, ``prescribed``.

        Raises:
            MedrecError: the run was trained on other records.
        """
        cohort = given_cohort(cohort)
        if cohort.content != self.config["cohort"]["content"]:
            raise MedrecError(f"{self.key} was trained on other records than this cohort {cohort.name!r}.")
        task = tasks.get(self.config["task"])
        protocol = task.with_threshold(task.house(self.config["sees"]), threshold)
        found: pl.DataFrame = task.predictions(self.answers, cohort, self.own_threshold, protocol)
        return found

    def state(self) -> dict[str, NDArray[Any]]:
        """What was learnt, by name."""
        return read_arrays((self.folder / "weights.safetensors").read_bytes())

    def vocabulary(self) -> dict[Kind, Vocabulary]:
        """Codes that the system knows."""
        self._announce()
        stored = json.loads((self.folder / "vocabulary.json").read_text(encoding="utf-8"))
        return {kind: Vocabulary(kind, tuple(stored[kind]["codes"]), tuple(stored[kind]["titles"])) for kind in KINDS}


def all_runs() -> Iterator[Run]:
    """Every whole run in the store, in the order of names; damaged ones are reported and left out."""
    for config in sorted(runs_dir().glob("*/*/*/*/config.json")):
        if config.parent.name.startswith("."):
            continue
        if reason := damage(config.parent):
            notice(f"the run {config.parent} is damaged: {reason}.")
            continue
        yield Run.load(config.parent)


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


def save(
    folder: Path,
    *,
    config: dict[str, Any],
    metrics: dict[str, Any],
    answers: Mapping[str, Mapping[str, NDArray[Any]]],
    ddi: NDArray[np.bool_],
    graph: Interactions | None,
    knowledge: KnowledgeGraph | None,
    history: Sequence[Mapping[str, Any]] | None,
    state: Mapping[str, NDArray[Any]],
    vocab: Mapping[Kind, Vocabulary],
    environment: dict[str, Any],
) -> Run:
    """Write a run; on any failure nothing is left at ``folder``.

    Raises:
        MedrecError: the disk is full or the folder cannot be written.
    """
    arrays = {f"{part}.{name}": array for part, found in answers.items() for name, array in found.items()}
    arrays["ddi"] = ddi
    if graph is not None:
        arrays |= {"graph.visits": graph.visits, "graph.last": graph.last}
    if knowledge is not None:
        arrays |= {f"knowledge.{name}": array for name, array in knowledge.arrays().items()}
    with atomic_folder(folder, what="the run") as tmp:
        write_json(tmp / "config.json", config)
        write_json(tmp / "metrics.json", metrics)
        write_json(tmp / "environment.json", environment)
        write_json(tmp / "vocabulary.json", {k: {"codes": v.codes, "titles": v.titles} for k, v in vocab.items()})
        if history is not None:
            (tmp / "history.csv").write_text(pl.DataFrame(history).write_csv(), encoding="utf-8")
        # The library's own writer reports a full disk as an error of its own kind; this one as the system does.
        for name, content in (("answers", arrays), ("weights", state)):
            contiguous = {k: np.ascontiguousarray(v) for k, v in content.items()}
            (tmp / f"{name}.safetensors").write_bytes(array_bytes(contiguous))
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
        "threads": torch.get_num_threads(),
        "commit": _commit(),
        "wall_seconds": round(seconds, 2),
        "peak_memory_mib": _peak_memory(),
    }


def _device_name(device: str) -> str:
    if not device.startswith("cuda"):
        return f"cpu ({platform.machine()})"
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
