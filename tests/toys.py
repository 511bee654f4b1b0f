"""Small random cohorts for tests: structured enough to be learnt, made in milliseconds."""

import numpy as np
import torch
from torch_geometric.data import Batch, Data

from medrec.chem.library import Molecules
from medrec.data.cohort import Cohort, Vocabulary
from medrec.types import Ragged


def random_cohort(n_patients=40, seed=0, *, n_diagnoses=12, n_procedures=6, n_medications=9, max_visits=5):
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
            "symptom": vocabulary("symptom", []),
            "medication": vocabulary("medication", [f"A{i:02d}B" for i in range(n_medications)]),
        },
        visit_offsets=offsets,
        codes={
            "diagnosis": ragged(diagnoses),
            "procedure": ragged(procedures),
            "symptom": Ragged(np.zeros(V + 1), np.empty(0)),
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


ATOMIC_NUMBER = {"C": 6, "N": 7, "O": 8}
VALENCE = {"C": 4, "N": 3, "O": 2}


def chain_graph(smiles):
    """Graph of an unbranched chain of single bonds such as ``CCO``, with the features that its atoms really have."""
    n = len(smiles)
    degree = [int(i > 0) + int(i < n - 1) for i in range(n)]
    # In the order of medrec.chem.graphs: element, chirality, degree, charge 0, hydrogens, radicals, sp3, aromatic, ring.
    atoms = [(ATOMIC_NUMBER[a] - 1, 0, degree[i], 5, VALENCE[a] - degree[i], 0, 2, 0, 0) for i, a in enumerate(smiles)]
    left = torch.arange(n - 1)
    return Data(
        x=torch.tensor(atoms),
        edge_index=torch.stack([torch.cat([left, left + 1]), torch.cat([left + 1, left])]),
        edge_attr=torch.zeros(2 * (n - 1), 3, dtype=torch.int64),
    )


def toy_molecules(n_medications, *, missing=1):
    """Chains of carbon, nitrogen and oxygen behind the medications, without RDKit.

    Medication m has one molecule, medication 0 a second one, the last ``missing`` medications none. Fragments are
    short chains; a medication has those that can be read in its molecules' SMILES.
    """
    n = n_medications - missing + 1
    chains = ("".join(atoms) for length in itertools.count(2) for atoms in itertools.product("CNO", repeat=length))
    smiles = sorted(itertools.islice((c for c in chains if "C" in c), n))
    fragments = ("CC", "CN", "CO", "NC", "OC")
    average, mask = torch.zeros(n_medications, n), torch.zeros(n_medications, len(fragments), dtype=torch.bool)
    for m in range(n_medications - missing):
        own = [0, n - 1] if m == 0 else [m]
        average[m, own] = 1 / len(own)
        mask[m] = torch.tensor([any(f in smiles[i] for i in own) for f in fragments])
    return Molecules(
        smiles=tuple(smiles),
        names=tuple(f"drug {i}" for i in range(n)),
        graphs=Batch.from_data_list([chain_graph(s) for s in smiles]),
        average=average,
        fragments=fragments,
        fragment_graphs=Batch.from_data_list([chain_graph(f) for f in fragments]),
        fragment_mask=mask,
    )
