"""Many trainings from the files in ``configs/``: one YAML for each experiment, holding differences only.

.. code-block:: yaml

    cohort: synthetic        # required
    options: {history: 0.0}  # of the cohort
    model: retain            # required; or a list
    variant: paper           # or a list
    settings: {dropout: 0.3}
    seeds: [0, 1, 2, 3, 4]   # default: 0
    split_seed: 0            # or null for file order
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from joblib import Parallel, delayed
from tqdm import tqdm

from medrec.models import registry
from medrec.types import MedrecError

KEYS = ("cohort", "options", "model", "variant", "settings", "seeds", "split_seed")


@dataclass(frozen=True)
class Task:
    """One training of a sweep."""

    cohort: str
    model: str
    variant: str = "paper"
    seed: int = 0
    split_seed: int | None = 0
    options: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.cohort}/{self.model}/{self.variant}/seed{self.seed}"


@dataclass(frozen=True)
class Outcome:
    """What became of a task: the run's folder, or the reason why there is none."""

    task: Task
    folder: str = ""
    error: str = ""


def read_tasks(files: Sequence[Path]) -> list[Task]:
    """All trainings that the files ask for, each once.

    Raises:
        MedrecError: a file cannot be read, or holds an unknown key, system, variant or setting.
    """
    tasks: dict[str, Task] = {}
    for file in files:
        for task in _tasks_of(file):
            tasks[repr(task)] = task
    return list(tasks.values())


def _tasks_of(file: Path) -> Iterator[Task]:
    try:
        content = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MedrecError(f"There is no file {file}.") from None
    except yaml.YAMLError as error:
        raise MedrecError(f"{file} is not YAML: {' '.join(str(error).split())}.") from None
    if not isinstance(content, dict):
        raise MedrecError(f"{file} must hold keys and values; it may hold {', '.join(KEYS)}.")
    for key in content:
        if key not in KEYS:
            close = difflib.get_close_matches(str(key), KEYS, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise MedrecError(f"{file}: unknown key {key!r}.{hint} It may hold {', '.join(KEYS)}.")
    for key in ("cohort", "model"):
        if key not in content:
            raise MedrecError(f"{file}: the key {key!r} is missing.")
    for model in _listed(content["model"]):
        for variant in _listed(content.get("variant", "paper")):
            registry.get(model).configure(variant, content.get("settings"))
            for seed in _listed(content.get("seeds", 0)):
                yield Task(
                    cohort=content["cohort"],
                    model=registry.get(model).name,
                    variant=variant,
                    seed=seed,
                    split_seed=content.get("split_seed", 0),
                    options=content.get("options") or {},
                    settings=content.get("settings") or {},
                )


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def sweep(tasks: Sequence[Task], *, jobs: int = 1, device: str = "cpu") -> list[Outcome]:
    """Train what is not in the store yet; a task that fails does not stop the others.

    Args:
        tasks: what to train.
        jobs: processes at once; each takes its share of the cores.
        device: of every training.
    """
    done = Parallel(n_jobs=jobs, return_as="generator")(delayed(_run)(task, device) for task in tasks)
    return list(tqdm(done, total=len(tasks), desc="sweep", unit="run", disable=None))


def _run(task: Task, device: str) -> Outcome:
    from medrec.data import load_cohort
    from medrec.training import train

    try:
        run = train(
            task.model,
            load_cohort(task.cohort, **task.options),
            variant=task.variant,
            settings=task.settings,
            seed=task.seed,
            split_seed=task.split_seed,
            device=device,
        )
    except MedrecError as error:
        return Outcome(task, error=str(error))
    return Outcome(task, folder=str(run.folder))
