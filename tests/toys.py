"""Small random cohorts for tests: structured enough to be learnt, made in milliseconds."""

import io
import sys
from dataclasses import replace

import numpy as np
import torch
from torch_geometric.data import Batch, Data

from medrec.chem.molecules import Molecules
from medrec.data.cohort import Cohort, Vocabulary
from medrec.types import Ragged


def random_cohort(
    n_patients=40, seed=0, *, n_diagnoses=12, n_procedures=6, n_medications=9, n_symptoms=0, max_visits=5
):
    """Patients with 1 to ``max_visits`` visits; medication ``m`` goes with some diagnoses, and tends to be repeated."""
    rng = np.random.default_rng(seed)
    n_visits = rng.integers(1, max_visits + 1, n_patients)
    offsets = np.concatenate([[0], np.cumsum(n_visits)])
    V = int(offsets[-1])
    first = np.isin(np.arange(V), offsets[:-1])
    diagnoses = rng.random((V, n_diagnoses)) < 0.25
    diagnoses[np.arange(V), rng.integers(0, n_diagnoses, V)] = True
    procedures = rng.random((V, n_procedures)) < 0.2
    needed = (np.add.outer(np.arange(n_diagnoses), np.arange(n_medications)) % 4) == 0
    medications = (diagnoses.astype(int) @ needed > 0) & (rng.random((V, n_medications)) < 0.9)
    for v in np.flatnonzero(~first):
        medications[v] |= medications[v - 1] & (rng.random(n_medications) < 0.5)
    medications[np.arange(V), rng.integers(0, n_medications, V)] = True
    symptoms = rng.random((V, n_symptoms)) < 0.3

    def ragged(dense):
        return Ragged(np.concatenate([[0], dense.sum(1).cumsum()]), np.nonzero(dense)[1])

    def vocabulary(kind, codes):
        return Vocabulary(kind, tuple(codes), tuple(f"title of {code}" for code in codes))

    return Cohort(
        name="random-toy",
        source="synthetic",
        vocab={
            "diagnosis": vocabulary("diagnosis", [f"9:{100 + i}" for i in range(n_diagnoses)]),
            "procedure": vocabulary("procedure", [f"9:{10 + i}" for i in range(n_procedures)]),
            "symptom": vocabulary("symptom", [f"symptom:{i}" for i in range(n_symptoms)]),
            "medication": vocabulary("medication", [f"A{i:02d}B" for i in range(n_medications)]),
        },
        visit_offsets=offsets,
        codes={
            "diagnosis": ragged(diagnoses),
            "procedure": ragged(procedures),
            "symptom": ragged(symptoms),
            "medication": ragged(medications),
        },
        admit_time=np.datetime64("2100-01-01", "s") + np.arange(V).astype("timedelta64[D]"),
        days_since_previous=np.where(first, np.nan, 1).astype(np.float32),
        sex=np.array(["F"] * n_patients),
        age_band=np.array(["60-69"] * n_patients),
        options={"seed": seed},
    )


def toy_molecules(n_medications=9, seed=0):
    """Molecules with random atoms: chains of 3 to 6, the last medication without any, one molecule in two medications.

    The SMILES are real (carbon chains with one oxygen), so that what parses them can; the features are not theirs.
    """
    rng = np.random.default_rng(seed)
    n, S = n_medications, n_medications + 3

    def graph():
        atoms = int(rng.integers(3, 7))
        bonds = np.stack([np.arange(atoms - 1), np.arange(1, atoms)])
        features = np.stack([rng.integers(0, k, atoms) for k in (119, 5, 12, 12, 10, 6, 6, 2, 2)], axis=1)
        kinds = np.stack([rng.integers(0, k, atoms - 1) for k in (5, 6, 2)], axis=1)
        return Data(
            x=torch.from_numpy(features),
            edge_index=torch.from_numpy(np.concatenate([bonds, bonds[::-1]], axis=1)),
            edge_attr=torch.from_numpy(np.concatenate([kinds, kinds])),
        )

    average = torch.eye(n_medications)[:, :n]
    average[0, :2] = 0.5
    average[-1] = 0
    mask = torch.from_numpy(rng.random((n_medications, S)) < 0.3)
    mask[torch.arange(n_medications), torch.arange(n_medications)] = True
    mask[-1] = False
    return Molecules(
        smiles=tuple("C" * (i + 1) + "O" for i in range(n)),
        names=tuple(f"drug {i}" for i in range(n)),
        graphs=Batch.from_data_list([graph() for _ in range(n)]),
        average=average,
        fragments=tuple(f"[{i + 1}*]C" for i in range(S)),
        fragment_graphs=Batch.from_data_list([graph() for _ in range(S)]),
        fragment_mask=mask,
    )


def real_classes(n_patients=40, seed=0, **shape):
    """:func:`random_cohort` with ATC classes that have molecules and interact."""
    cohort = random_cohort(n_patients, seed, **shape)
    codes = ("A02B", "B01A", "C03C", "C10A", "N02A", "C07A", "J01D", "A06A", "N05B")[: cohort.n_medications]
    return replace(cohort, vocab={**cohort.vocab, "medication": Vocabulary("medication", codes, codes)})


def with_titles(cohort, ending=" (changed)"):
    """The cohort with one diagnosis called otherwise."""
    diagnoses = cohort.vocab["diagnosis"]
    titles = (diagnoses.titles[0] + ending, *diagnoses.titles[1:])
    return replace(cohort, vocab={**cohort.vocab, "diagnosis": Vocabulary("diagnosis", diagnoses.codes, titles)})


class _Terminal(io.StringIO):
    def isatty(self):
        return True


def watched(monkeypatch):
    """Let standard error be a terminal, and return what takes down what is written to it.

    To be called in the test itself: between setting up and calling a test pytest puts its own stream there.
    """
    found = _Terminal()
    monkeypatch.setattr(sys, "stderr", found)
    return found
