"""Does CausalMed gain by the targets in its inputs? The same network, with the answers and with somebody else's.

Released CausalMed makes a graph for each visit from all codes of the visit, the medications to be predicted included
(``roles="official"``).  Whatever that is worth must vanish when, before the graphs of test visits are made, each visit
gets the medications of another one: nothing else of the inputs changes, neither do the weights.

``python -m medrec.experiments.causal_leak [--cohort NAME] [--seeds N]`` trains what the run store lacks and keeps
the rows (:mod:`medrec.lab.kept`).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from medrec.context import Context
from medrec.data import load_cohort
from medrec.data.batch import VisitBatch
from medrec.data.cohort import Cohort
from medrec.data.split import split_patients
from medrec.lab import kept
from medrec.models.causalmed import OFTEN, CausalMed
from medrec.runs import Run
from medrec.tasks.evaluation import Evaluation, paired_difference
from medrec.tasks.visits import COLUMNS, evaluate
from medrec.training import load_system, train

STUDY = "causal_leak"
COMMAND = f"python -m medrec.experiments.{STUDY}"
SYSTEMS = ("causalmed/paper",)
"""What is trained, with one graph for all patients and with a graph for each visit."""
COMPARISONS = {
    "targets in the graphs, against one graph": ("one graph", "own targets"),
    "others' targets in the graphs, against one graph": ("one graph", "others' targets"),
    "own targets, against others'": ("others' targets", "own targets"),
}
"""What is compared with what: base, then system."""


def exchanged(batch: VisitBatch, seed: int) -> VisitBatch:
    """The same visits, each with the medications of another one; padded visits stay empty."""
    b, t = batch.visit_mask.nonzero(as_tuple=True)
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(b)))
    # One step along a random circle: nobody keeps the own list.
    source = torch.empty_like(order)
    source[order] = order.roll(1)
    medications, target = batch.codes["medication"].clone(), batch.target.clone()
    medications[b, t] = medications[b[source], t[source]]
    target[b, t] = target[b[source], t[source]]
    return replace(batch, codes={**batch.codes, "medication": medications}, target=target)


def probabilities(network: CausalMed, batch: VisitBatch, context: Context, other: VisitBatch) -> NDArray[np.float32]:
    """What a network says about each visit when that visit's medications, and no other's, are those of ``other``.

    Medications of earlier visits are inputs of every variant and stay; so each visit number is asked by itself.

    Args:
        network: trained.
        batch: ``B`` patients.
        context: of the network.
        other: ``batch`` itself, or :func:`exchanged` visits.

    Returns:
        ``(B, T, M)``.
    """
    network.eval()
    found = []
    with torch.inference_mode():
        for t in range(batch.visit_mask.shape[1]):
            medications = batch.codes["medication"].clone()
            medications[:, t] = other.codes["medication"][:, t]
            asked = replace(batch, codes={**batch.codes, "medication": medications})
            found.append(network(asked, context)[:, t].sigmoid())
    return torch.stack(found, dim=1).numpy()


def judge(cohort: Cohort, run: Run, patients: NDArray[np.integer], *, seed: int | None) -> Evaluation:
    """Test results of a run; with a seed after :func:`exchanged` targets, at the run's own threshold.

    Args:
        cohort: all patients.
        run: of CausalMed.
        patients: to test.
        seed: of the exchange; None: everybody keeps the own list.
    """
    network, context = load_system(run)
    batch = VisitBatch.build(cohort, patients)
    prob = probabilities(network, batch, context, batch if seed is None else exchanged(batch, seed))
    scores = prob[batch.visit_mask.numpy()]
    sets = scores >= network.config.threshold
    return evaluate(cohort.select(patients), sets, context.ddi.numpy(), scores=scores, patients=patients)


def leak(cohort: Cohort, seeds: int) -> pl.DataFrame:
    """Differences of :data:`COMPARISONS`, resampled over patients and training seeds.

    Args:
        cohort: all patients.
        seeds: training seeds.

    Returns:
        One row for each comparison and metric: ``comparison``, ``metric``, ``delta``, ``low``, ``high``, ``seeds``,
        ``patients``.
    """
    test = split_patients(cohort.n_patients, 0).test
    results: dict[str, list[Evaluation]] = {"one graph": [], "own targets": [], "others' targets": []}
    for seed in range(seeds):
        one = train("causalmed", cohort, settings=OFTEN, seed=seed)
        official = train("causalmed", cohort, settings=OFTEN | {"roles": "official"}, seed=seed)
        results["one graph"].append(one.evaluation("own"))
        results["own targets"].append(judge(cohort, official, test, seed=None))
        results["others' targets"].append(judge(cohort, official, test, seed=seed))
    rows = []
    for name, (base, system) in COMPARISONS.items():
        change = paired_difference(results[base], results[system])
        rows += [
            {
                "comparison": name,
                "metric": metric,
                "delta": change[metric].value,
                "low": change[metric].low,
                "high": change[metric].high,
                "seeds": seeds,
                "patients": len(test),
            }
            for metric in COLUMNS
        ]
    return pl.DataFrame(rows).with_columns(pl.selectors.float().round(6))


def read(cohort: Cohort) -> kept.Kept:
    """The kept table ``differences`` of this cohort, or else of ``synthetic``.

    Raises:
        MedrecError: there is none of ``synthetic`` either.
    """
    return kept.read(STUDY, cohort, default="synthetic", command=f"{COMMAND} --cohort {cohort.name}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Train what is missing, write the rows."""
    parser = argparse.ArgumentParser(
        prog="python -m medrec.experiments.causal_leak", description="The leak of CausalMed's graphs."
    )
    parser.add_argument("--cohort", default="synthetic", help="as load_cohort knows it; default synthetic")
    parser.add_argument("--seeds", type=int, default=2, help="training seeds; default 2")
    options = parser.parse_args(arguments)
    cohort, start = load_cohort(options.cohort), time.perf_counter()
    folder = kept.save(
        STUDY,
        {"differences": leak(cohort, options.seeds)},
        cohort=cohort,
        command=f"{COMMAND} --cohort {cohort.name} --seeds {options.seeds}",
        code=kept.code_of("medrec.experiments.causal_leak", systems=SYSTEMS),
        systems=SYSTEMS,
        seconds=time.perf_counter() - start,
        more={"seeds": options.seeds},
    )
    print(folder)


if __name__ == "__main__":
    main()
