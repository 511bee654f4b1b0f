"""Molecules in space: conformers from distance geometry and a force field, and the reasons where there is none.

ETKDGv3 (Riniker and Landrum, J. Chem. Inf. Model. 2015) draws coordinates that agree with the bonds, with known torsion
angles and with the stereo labels; MMFF94 (Halgren, J. Comput. Chem. 1996) relaxes them.  Both are RDKit's.  Hydrogens
take part and are stripped afterwards.

What happens to what is not one ordinary organic molecule is policy, and every result says which rule it met:

* **several parts** (salts): the drug is kept, and what only carries it gets no place. That is the organic part, unless
  every part is a metal or one of the common acids of mineral salts (:data:`MINERAL_ACIDS`): then the metal is the drug
  (lithium carbonate, ferrous gluconate); sodium is beside chloride alone, potassium not beside phosphate. Of parts that
  are left to choose from, organic ones come first, then the largest, then the first in alphabetical order;
* **one heavy atom** (lithium): one point at the origin;
* **no force field parameters** (metals, boron): the geometry of ETKDG stays, ``force_field`` is ``"none"``;
* **hard to embed** (large peptides, cages): random starting coordinates, then without the labels of nitrogens at
  bridgeheads, whose mirror form cannot be drawn, then without any stereo label; what was given up is noted;
* **fragments** with cut ends ``[16*]``: hydrogens take the place of the ends, which get no place themselves; a dummy
  atom with two neighbours is no end, and without it they would be strangers: no coordinates;
* **failed**: no coordinates, and the reason. Whoever asks for conformers goes on without this molecule's.

Embedding is bounded by work: at most :data:`STARTS` starts a conformer, or what ``MEDREC_CONFORMER_STARTS`` or the
argument ``starts`` says, so that a cage whose labels contradict each other ends, and ends alike on fast and slow
machines.  What lasts is told while it lasts.  One attempt also ends after :data:`SECONDS`, to which no drug of the book
comes near; as this depends on the machine, the note says so, and the result is not kept.

One seed gives one geometry, the same on every run; 0 is refused, because RDKit then returns the same conformer again
and again.  Results are kept in one file under ``MEDREC_CACHE_DIR``, by SMILES, seed, number and version of RDKit, each
with a checksum; what does not fit it is made again.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from medrec import keys
from medrec.chem.fragments import closed
from medrec.chem.graphs import parse
from medrec.folders import notice
from medrec.paths import cache_dir
from medrec.types import MedrecError

if TYPE_CHECKING:
    from rdkit.Chem import Atom, Mol

FORMAT = 2
"""Raised when the recipe changes, so that old results are not taken for new ones."""
PARTS_FORMAT = 3
"""The same for what is written with a dot: which part is kept was decided anew when the rest stayed as it was."""
LARGE = 100
"""Heavy atoms from which embedding starts from random coordinates."""
TRIES = 50
"""Starts of one attempt at embedding. A label that cannot be drawn fails in all of them: better give it up soon."""
STARTS = 24 * TRIES
"""Starts of all attempts together, where nobody asks for fewer."""
SECONDS = 300
"""After which one attempt is given up, however fast the machine."""
OUT_OF_TIME = f"an attempt was given up after {SECONDS} s"
STEPS = 2000
"""Of the force field, at most."""
ENOUGH = 32
"""Conformers for which starting other processes pays."""
PATIENCE = 30
"""Seconds after which a molecule that is not ready is named; again whenever the time has doubled."""

MINERAL_ACIDS = {
    "oxide": "O",
    "chloride": "Cl",
    "carbonate": "OC(=O)O",
    "sulfate": "OS(=O)(=O)O",
    "nitrate": "O=[N+]([O-])O",
    "acetate": "CC(=O)O",
    "citrate": "OC(=O)CC(O)(CC(=O)O)C(=O)O",
    "gluconate": "OCC(O)C(O)C(O)C(O)C(=O)O",
    "lactate": "CC(O)C(=O)O",
    "fumarate": "OC(=O)C=CC(=O)O",
    "succinate": "OC(=O)CCC(=O)O",
    "aspartate": "NC(CC(=O)O)C(=O)O",
    "orotate": "OC(=O)c1cc(=O)[nH]c(=O)[nH]1",
    "phosphate": "O=P(O)(O)O",
}
"""Acids that carry a metal and are not the drug; in any state of charge."""
NONMETALS = frozenset((0, 1, 2, 5, 6, 7, 8, 9, 10, 14, 15, 16, 17, 18, 32, 33, 34, 35, 36, 51, 52, 53, 54, 85, 86))
"""Atomic numbers of what is no metal; semi-metals are none."""


@dataclass(frozen=True)
class Conformers:
    """Places of the heavy atoms of one molecule.

    Args:
        smiles: what was asked for.
        atoms: ``(N,)`` numbers, in :func:`medrec.chem.graphs.molecular_graph`, of the atoms that have a place; all
            of them unless parts were left out.
        coordinates: ``(C, N, 3)`` ångström, lowest energy first; C = 0 where there is none.
        energies: ``(C,)`` kcal/mol of the force field; NaN without one.
        force_field: ``"MMFF94"``, or ``"none"``.
        converged: whether the force field came to rest in every conformer; False without one.
        note: what was done differently, and why; the reason where ``coordinates`` are empty.
    """

    smiles: str
    atoms: NDArray[np.int64]
    coordinates: NDArray[np.float32]
    energies: NDArray[np.float64]
    force_field: Literal["MMFF94", "none"] = "none"
    converged: bool = False
    note: str = ""

    @property
    def found(self) -> bool:
        """Whether there is at least one conformer."""
        return len(self.coordinates) > 0


def conformers(smiles: Sequence[str], *, n: int = 1, seed: int = 1, starts: int | None = None) -> list[Conformers]:
    """Conformers of each molecule, from the cache where they are, else made on all cores.

    Args:
        smiles: molecules or fragments; order and repetitions are kept.
        n: conformers asked for each; fewer where embedding finds fewer.
        seed: 1 or more.
        starts: bound on the work, at most so many starts a conformer; a molecule that needs more has no coordinates,
            and its ``note`` says so. None: ``MEDREC_CONFORMER_STARTS``, or :data:`STARTS`. A start of a molecule of
            forty atoms takes some hundredths of a second, of a cage tenths.

    Raises:
        MedrecError: seed 0, no start at all, or a SMILES that cannot be read.
    """
    if seed < 1:
        raise MedrecError(f"Conformers need a seed of 1 or more, not {seed}: with 0 all of a molecule would be equal.")
    starts = allowed_starts(starts)
    for s in smiles:
        parse(s)
    wanted = list(dict.fromkeys(smiles))
    known = _cached(wanted, n, seed, starts)
    missing = [s for s in wanted if s not in known]
    for made in _made(missing, n, seed, starts):
        known[made.smiles] = made
        if OUT_OF_TIME not in made.note:
            _store(made, n, seed, starts)
    return [known[s] for s in smiles]


def allowed_starts(asked: int | None = None) -> int:
    """How many starts a conformer may take: what is asked for, or ``MEDREC_CONFORMER_STARTS``, or :data:`STARTS`.

    Raises:
        MedrecError: not a whole number of 1 or more.
    """
    said: object = os.environ.get("MEDREC_CONFORMER_STARTS") or STARTS if asked is None else asked
    try:
        starts = int(str(said))
    except ValueError:
        starts = 0
    if starts < 1:
        raise MedrecError(
            f"Conformers may take a whole number of starts, 1 or more, not {said!r}. "
            f"Mend MEDREC_CONFORMER_STARTS or the argument `starts`, or leave both out ({STARTS})."
        )
    return starts


def recipe(smiles: Sequence[str], starts: int | None = None) -> list[int]:
    """What decides conformers beside molecule, number and seed: for the keys of what is made of them.

    Returns:
        :data:`FORMAT`, then what is not as it always was: the newer edition for parts, a bound on starts.
    """
    starts = allowed_starts(starts)
    return [
        FORMAT,
        *([PARTS_FORMAT] if any("." in s for s in smiles) else []),
        *([starts] if starts != STARTS else []),
    ]


def flat(smiles: Sequence[str]) -> list[Conformers]:
    """The drawing of each molecule as if it were a conformer: z = 0, drawn bonds of length 1.

    The molecule files released with BiMoRec are such drawings (PubChem 2D records).
    """
    return [_drawn(s) for s in smiles]


def report(found: Sequence[Conformers]) -> pl.DataFrame:
    """One row a molecule: ``smiles``, ``atoms``, ``conformers``, ``force_field``, ``converged``, ``note``.

    ``energy`` is the lowest, ``span`` the distance to the highest, kcal/mol; ``rmsd`` the largest distance of a
    conformer to the first, Å.
    """
    return pl.DataFrame(
        [
            {
                "smiles": one.smiles,
                "atoms": len(one.atoms),
                "conformers": len(one.coordinates),
                "energy": float(one.energies.min()) if one.force_field != "none" else None,
                "span": float(np.ptp(one.energies)) if one.force_field != "none" else None,
                "rmsd": float(rmsd(one.coordinates, one.coordinates[:1]).max()) if one.found else None,
                "force_field": one.force_field,
                "converged": one.converged,
                "note": one.note,
            }
            for one in found
        ],
        schema_overrides={"energy": pl.Float64, "span": pl.Float64, "rmsd": pl.Float64},
    )


def rmsd(a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.float64]:
    r"""Distance of conformers after the best rotation and shift, atom by atom.

    Source: Kabsch, Acta Crystallogr. A 1976.

    .. math:: \min_{R,\,t} \sqrt{\tfrac1N \sum_a \lVert R\,x_a + t - y_a \rVert^2}

    Args:
        a: ``(A, N, 3)`` Å.
        b: ``(B, N, 3)`` Å, the same atoms in the same order.

    Returns:
        ``(A, B)`` Å. Atoms that could change places by symmetry are not exchanged; mirror images are not superposed.
    """
    x, y = (c.astype(np.float64) - c.mean(axis=1, keepdims=True, dtype=np.float64) for c in (a, b))
    u, s, vt = np.linalg.svd(np.einsum("ani,bnj->abij", x, y))
    s[..., -1] *= np.sign(np.linalg.det(u) * np.linalg.det(vt))
    squares = (x**2).sum((1, 2))[:, None] + (y**2).sum((1, 2))[None] - 2 * s.sum(-1)
    return np.sqrt(np.maximum(squares, 0) / x.shape[1])


# -- making --------------------------------------------------------------------------------------------------------


def _made(smiles: Sequence[str], n: int, seed: int, starts: int) -> Iterator[Conformers]:
    """Conformers one after the other, in the given order; several cores where it pays."""
    from joblib import Parallel, cpu_count, delayed
    from tqdm import tqdm

    results = (_embedded(s, n, seed, starts) for s in smiles)
    if len(smiles) > 1 and len(smiles) * n >= ENOUGH:
        # One molecule a task: who waits can say for which.
        jobs = Parallel(n_jobs=cpu_count(), return_as="generator", batch_size=1)
        results = jobs(delayed(_embedded)(s, n, seed, starts) for s in smiles)
    told = _told(smiles, results)
    quiet = True if len(smiles) * n < 8 else None  # None: quiet where nobody looks at a terminal
    yield from tqdm(told, total=len(smiles), desc="conformers", unit="molecule", disable=quiet)


def _told(smiles: Sequence[str], results: Iterator[Conformers]) -> Iterator[Conformers]:
    """The results; a molecule that lets us wait is named on standard error."""

    def tell(one: str, ready: threading.Event) -> None:
        waited = pause = PATIENCE
        while not ready.wait(pause):
            name = one if len(one) <= 60 else f"{one[:57]}..."
            notice(f"conformers of {name}: {waited} s so far; a smaller MEDREC_CONFORMER_STARTS gives up earlier")
            waited, pause = 2 * waited, waited

    for one in smiles:
        ready = threading.Event()
        teller = threading.Thread(target=tell, args=(one, ready), daemon=True)
        teller.start()
        try:
            result = next(results)
        finally:
            ready.set()
            teller.join()
        yield result


def _embedded(smiles: str, n: int, seed: int, starts: int) -> Conformers:
    """One molecule, by the policy of the module."""
    from rdkit import Chem, rdBase

    with rdBase.BlockLogs():
        whole = parse(smiles)
        kept, notes = _kept_atoms(whole)
        if len(kept) == 0:
            return _none(smiles, "nothing but cut ends")
        if any(a.GetAtomicNum() == 0 and a.GetDegree() > 1 for i in kept for a in _around(whole, i)):
            return _none(smiles, "; ".join([*notes, "a dummy atom with two neighbours is no cut end"]))
        if len(kept) == 1:
            return Conformers(smiles, kept, np.zeros((1, 1, 3), np.float32), np.full(1, np.nan), note="; ".join(
                [*notes, "one heavy atom, a point at the origin"]))  # fmt: skip
        molecule = Chem.AddHs(_only(whole, kept))
        ids, more = _embed(molecule, n, seed, starts)
        notes += more
        if not ids:
            return _none(smiles, "; ".join(notes))
        energies, field, converged, more = _relaxed(molecule)
        notes += more
    places = np.stack([molecule.GetConformer(i).GetPositions()[: len(kept)] for i in ids]).astype(np.float32)
    order = np.argsort(energies, kind="stable")
    return Conformers(smiles, kept, places[order], energies[order], field, converged, "; ".join(notes))


def _none(smiles: str, reason: str) -> Conformers:
    return Conformers(smiles, np.empty(0, np.int64), np.empty((0, 0, 3), np.float32), np.empty(0), note=reason)


def _kept_atoms(molecule: Mol) -> tuple[NDArray[np.int64], list[str]]:
    """Atoms of the part that gets coordinates, and what is to be said about the others."""
    from rdkit import Chem

    parts = Chem.GetMolFrags(molecule)
    best = parts[0] if len(parts) == 1 else _drug(molecule, parts)
    kept = np.array([i for i in best if molecule.GetAtomWithIdx(i).GetAtomicNum() > 0], dtype=np.int64)
    ends = len(best) - len(kept)
    notes = [f"{len(parts) - 1} other part{'s' * (len(parts) > 2)} left out"] if len(parts) > 1 else []
    return kept, notes + ([f"{ends} cut end{'s' * (ends > 1)} closed with hydrogen"] if ends else [])


def _drug(molecule: Mol, parts: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """The part that is the drug, by the rule of the module; whatever the order of the parts."""
    from rdkit import Chem

    numbers = [[molecule.GetAtomWithIdx(i).GetAtomicNum() for i in part] for part in parts]
    metals = [len(found) == 1 and found[0] not in NONMETALS for found in numbers]
    acids = {_acid(molecule, part) for part, metal in zip(parts, metals, strict=True) if not metal}
    chosen: Sequence[int] = range(len(parts))
    if any(metals) and None not in acids:
        drugs = [k for k in chosen if metals[k] and acids <= _CARRIED.get(numbers[k][0], set(MINERAL_ACIDS))]
        chosen = drugs or chosen

    def rank(k: int) -> tuple[bool, int, str]:
        return 6 not in numbers[k], -sum(z > 0 for z in numbers[k]), Chem.MolFragmentToSmiles(molecule, parts[k])

    return parts[min(chosen, key=rank)]


_CARRIED = {11: {"chloride", "oxide"}, 19: set(MINERAL_ACIDS) - {"phosphate"}}
"""Acids beside which sodium and potassium are the drug; of other metals all are."""


def _acid(molecule: Mol, part: Sequence[int]) -> str | None:
    """Name of the acid that a part is, if it is one of :data:`MINERAL_ACIDS`."""
    return _acids().get(_bare(molecule, part))


@cache
def _acids() -> dict[str, str]:
    molecules = {name: parse(smiles) for name, smiles in MINERAL_ACIDS.items()}
    return {_bare(molecule, range(molecule.GetNumAtoms())): name for name, molecule in molecules.items()}


def _bare(molecule: Mol, part: Sequence[int]) -> str:
    """Spelling of a part without charges, hydrogens and stereo labels."""
    from rdkit import Chem

    bare = Chem.RWMol(molecule)
    for atom in bare.GetAtoms():
        atom.SetFormalCharge(0)
        atom.SetNumExplicitHs(0)
        atom.SetNoImplicit(True)
    return Chem.MolFragmentToSmiles(bare, list(part), isomericSmiles=False)


def _around(molecule: Mol, atom: int) -> tuple[Atom, ...]:
    return molecule.GetAtomWithIdx(int(atom)).GetNeighbors()


def _only(whole: Mol, kept: NDArray[np.int64]) -> Mol:
    """The part that is kept, without cut ends, its atoms in the order of ``kept``."""
    from rdkit import Chem

    if len(kept) == whole.GetNumAtoms():
        return Chem.Mol(whole)
    has_ends = any(a.GetAtomicNum() == 0 for i in kept for a in _around(whole, i))
    rest = [a.GetIdx() for a in whole.GetAtoms() if a.GetAtomicNum()]
    part = closed(whole)
    for place in sorted((place for place, i in enumerate(rest) if i not in set(kept.tolist())), reverse=True):
        part.RemoveAtom(place)
    if not has_ends:
        Chem.SanitizeMol(part)
        return part.GetMol()
    # Through its spelling, which puts hydrogens where the ends were; the spelling may name the atoms in another order.
    spelled = parse(Chem.MolToSmiles(part, canonical=False))
    named = list(part.GetPropsAsDict(True, True)["_smilesAtomOutputOrder"])
    return spelled if named == sorted(named) else Chem.RenumberAtoms(spelled, np.argsort(named).tolist())


def _embed(molecule: Mol, n: int, seed: int, starts: int) -> tuple[list[int], list[str]]:
    """Embed in place; numbers of the conformers, and what had to be given up."""
    from rdkit.Chem import rdDistGeom

    left, late = starts, False

    def attempt(random: bool, tries: int = TRIES) -> list[int]:
        nonlocal left, late
        tries = min(tries, left)
        if not tries:
            return []
        left -= tries
        parameters: Any = rdDistGeom.ETKDGv3()  # in the stubs every setting has the type of the whole
        parameters.randomSeed = seed
        parameters.useRandomCoords = random
        parameters.maxIterations = tries
        parameters.timeout = SECONDS
        ids = list(rdDistGeom.EmbedMultipleConfs(molecule, n, parameters))
        late = late or -1 in ids  # RDKit's answer when it runs out of time
        return [i for i in ids if i >= 0]

    found, notes = _attempts(molecule, attempt)
    if not found and not left and starts < STARTS:
        notes = [f"not embedded in {starts} starts, as many as were allowed"]
    return found, notes + ([OUT_OF_TIME] if late else [])


def _attempts(molecule: Mol, attempt: Callable[..., list[int]]) -> tuple[list[int], list[str]]:
    """One way after the other, until one of them gives conformers; what was given up on the way."""
    from rdkit import Chem

    large = molecule.GetNumHeavyAtoms() >= LARGE
    if found := attempt(random=large):
        return found, [f"{molecule.GetNumHeavyAtoms()} heavy atoms: random starting coordinates"] if large else []
    if not large and (found := attempt(random=True)):
        return found, ["random starting coordinates"]
    bridgeheads = Chem.MolFromSmarts("[NX3;R2,R3]")
    labelled = [
        i
        for (i,) in molecule.GetSubstructMatches(bridgeheads)
        if molecule.GetAtomWithIdx(i).GetChiralTag() != Chem.ChiralType.CHI_UNSPECIFIED
    ]
    for i in labelled:
        molecule.GetAtomWithIdx(i).SetChiralTag(Chem.ChiralType.CHI_UNSPECIFIED)
    if labelled and (found := attempt(random=True)):
        return found, ["label of a bridgehead nitrogen dropped: its mirror form cannot be drawn"]
    if found := attempt(random=True, tries=20 * TRIES):
        return found, [*(["label of a bridgehead nitrogen dropped"] if labelled else []), "random starting coordinates"]
    Chem.RemoveStereochemistry(molecule)
    if found := attempt(random=True):
        return found, ["all stereo labels dropped"]
    return [], ["not embedded, even without stereo labels"]


def _relaxed(molecule: Mol) -> tuple[NDArray[np.float64], Literal["MMFF94", "none"], bool, list[str]]:
    """Relax in place: energies, force field, whether it came to rest, notes."""
    from rdkit.Chem import rdForceFieldHelpers

    if not rdForceFieldHelpers.MMFFHasAllMoleculeParams(molecule):
        return np.full(molecule.GetNumConformers(), np.nan), "none", False, ["MMFF94 has no parameters"]
    results = rdForceFieldHelpers.MMFFOptimizeMoleculeConfs(molecule, maxIters=STEPS)
    moving = sum(code != 0 for code, _ in results)
    notes = [f"{moving} of {len(results)} still moving after {STEPS} steps"] if moving else []
    return np.array([energy for _, energy in results]), "MMFF94", moving == 0, notes


def _drawn(smiles: str) -> Conformers:
    from rdkit.Chem import rdDepictor

    molecule = parse(smiles)
    kept, notes = _kept_atoms(molecule)
    rdDepictor.Compute2DCoords(molecule)
    places = molecule.GetConformer().GetPositions()
    bonds = np.array([(b.GetBeginAtomIdx(), b.GetEndAtomIdx()) for b in molecule.GetBonds()], int).reshape(-1, 2)
    lengths = np.linalg.norm(places[bonds[:, 0]] - places[bonds[:, 1]], axis=1)
    scaled = places[kept] / (np.median(lengths) if len(lengths) else 1.0)
    notes = [note.replace("closed with hydrogen", "left out") for note in notes]
    return Conformers(
        smiles, kept, scaled[None].astype(np.float32), np.full(1, np.nan), note="; ".join([*notes, "a drawing, z = 0"])
    )


# -- files of other people -----------------------------------------------------------------------------------------


def write_sdf(path: Path, found: Sequence[Conformers]) -> None:
    """Write conformers as an SDF file, one record each; properties ``energy``, ``force_field``, ``note``.

    Molecules without conformers are left out. The file is written whole or not at all.
    """
    from rdkit import Chem

    path = Path(path)
    unfinished = path.with_name(path.name + ".tmp")
    with Chem.SDWriter(str(unfinished)) as writer:
        for one in found:
            for molecule in as_molecules(one):
                writer.write(molecule)
    unfinished.replace(path)


def as_molecules(one: Conformers) -> list[Mol]:
    """RDKit molecules, one a conformer, each with its place in space and its energy as a property."""
    from rdkit import Chem
    from rdkit.Geometry import Point3D

    base = Chem.RWMol(parse(one.smiles))
    for i in sorted(set(range(base.GetNumAtoms())) - set(one.atoms.tolist()), reverse=True):
        base.RemoveAtom(i)
    molecules = []
    for places, energy in zip(one.coordinates, one.energies, strict=True):
        molecule = base.GetMol()
        conformer = Chem.Conformer(molecule.GetNumAtoms())
        conformer.Set3D(True)
        for i, place in enumerate(places.tolist()):
            conformer.SetAtomPosition(i, Point3D(*place))
        molecule.AddConformer(conformer, assignId=True)
        molecule.SetProp("_Name", one.smiles)
        molecule.SetProp("energy", f"{energy:.4f}")
        molecule.SetProp("force_field", one.force_field)
        molecule.SetProp("note", one.note)
        molecules.append(molecule)
    return molecules


def read_sdf(path: Path, smiles: Sequence[str]) -> list[Conformers]:
    """Coordinates of the given molecules from an SDF file, e.g. of PubChem, in the order of their own atoms.

    Records are matched by connectivity, without charges moved or stereo labels; several records of one molecule
    become several conformers.  Energies are not read.

    Args:
        path: SDF, hydrogens present or not.
        smiles: the molecules wanted.

    Returns:
        One for each SMILES; ``note`` says where records are flat drawings, or that the file has none.

    Raises:
        MedrecError: no such file, or nothing in it can be read.
    """
    from rdkit import Chem, rdBase

    path = Path(path)
    if not path.exists():
        raise MedrecError(f"There is no file {path}. Give an SDF file with the molecules' coordinates.")
    with rdBase.BlockLogs(), path.open("rb") as file:
        records = [m for m in Chem.ForwardSDMolSupplier(file) if m is not None and m.GetNumConformers()]
    if not records:
        raise MedrecError(f"{path} holds no record that RDKit can read. Give an SDF file with coordinates.")
    by_graph: dict[str, list[Mol]] = {}
    for record in records:
        by_graph.setdefault(Chem.MolToSmiles(record, isomericSmiles=False), []).append(record)
    found = []
    for s in smiles:
        wanted = parse(s)
        matching = by_graph.get(Chem.MolToSmiles(wanted, isomericSmiles=False), [])
        if not matching:
            found.append(_none(s, f"not in {path.name}"))
            continue
        plain = Chem.Mol(wanted)
        Chem.RemoveStereochemistry(plain)
        orders = [list(record.GetSubstructMatch(plain)) for record in matching]
        places = np.stack(
            [m.GetConformer().GetPositions()[order] for m, order in zip(matching, orders, strict=True)]
        ).astype(np.float32)
        note = "a drawing, z = 0" if wanted.GetNumAtoms() > 1 and not places[..., 2].any() else ""
        found.append(Conformers(s, np.arange(wanted.GetNumAtoms()), places, np.full(len(places), np.nan), note=note))
    return found


# -- cache ---------------------------------------------------------------------------------------------------------


Result = TypeVar("Result")

NO_DAMAGE = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_READONLY,
}
"""Errors of the place, not of the file: making it again would not help."""


def _in_cache(work: Callable[[sqlite3.Connection], Result]) -> Result:
    """Do something with the open cache, and keep what was written; a damaged file is made again."""
    file = cache_dir() / "conformers.sqlite"
    file.parent.mkdir(parents=True, exist_ok=True)
    for is_new in (False, True):
        try:
            with closing(sqlite3.connect(file, timeout=60)) as connection, connection:
                # What is no text any more is for the checksum to find.
                connection.text_factory = lambda content: content.decode("utf-8", "replace")
                connection.execute(
                    "CREATE TABLE IF NOT EXISTS conformers (key TEXT PRIMARY KEY, facts TEXT, places BLOB)"
                )
                return work(connection)
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:  # names in its messages may be no text either
            if is_new or getattr(error, "sqlite_errorcode", 0) & 0xFF in NO_DAMAGE:
                raise MedrecError(
                    f"The cache {file} cannot be used ({error}). Free space, or choose another MEDREC_CACHE_DIR."
                ) from None
            notice(f"the stored conformers in {file} are damaged ({error}); they are made again")
            for part in (file, file.with_name(f"{file.name}-journal")):
                part.unlink(missing_ok=True)
    raise AssertionError("the second pass returns or raises")


def _key(smiles: str, n: int, seed: int, starts: int) -> str:
    import rdkit

    edition, *more = recipe([smiles], starts)
    return hashlib.sha256(json.dumps([edition, rdkit.__version__, smiles, n, seed, *more]).encode()).hexdigest()


def _cached(smiles: Sequence[str], n: int, seed: int, starts: int) -> dict[str, Conformers]:
    wanted = {_key(s, n, seed, starts): s for s in smiles}
    asked = list(wanted)

    def rows(connection: sqlite3.Connection) -> list[tuple[Any, Any, Any]]:
        found: list[tuple[Any, Any, Any]] = []
        for start in range(0, len(asked), 500):  # SQLite takes a limited number of values at once
            part = asked[start : start + 500]
            marks = ",".join("?" * len(part))
            found += connection.execute(f"SELECT key, facts, places FROM conformers WHERE key IN ({marks})", part)
        return found

    found, damaged = {}, 0
    for key, facts, places in _in_cache(rows):
        try:
            stored = json.loads(facts)
            fits = stored.pop("checksum") == keys.digest(key, stored, places)
        except (ValueError, TypeError, AttributeError, KeyError):
            fits = False
        if not fits:
            damaged += 1
            continue
        energies = np.array(stored.pop("energies"), dtype=np.float64)
        atoms = np.array(stored.pop("atoms"), dtype=np.int64)
        coordinates = np.frombuffer(places, dtype=np.float32).reshape(len(energies), len(atoms), 3)
        found[wanted[key]] = Conformers(wanted[key], atoms, coordinates, energies, **stored)
    if damaged:
        notice(f"conformers of {damaged} molecules do not fit their checksum; they are made again")
    return found


def _store(one: Conformers, n: int, seed: int, starts: int) -> None:
    facts = {
        "atoms": one.atoms.tolist(),
        "energies": [None if np.isnan(e) else e for e in one.energies.tolist()],
        "force_field": one.force_field,
        "converged": one.converged,
        "note": one.note,
    }
    key, places = _key(one.smiles, n, seed, starts), np.ascontiguousarray(one.coordinates).tobytes()
    row = (key, json.dumps(facts | {"checksum": keys.digest(key, facts, places)}), places)
    _in_cache(lambda connection: connection.execute("INSERT OR REPLACE INTO conformers VALUES (?, ?, ?)", row))
