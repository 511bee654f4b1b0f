"""Molecules in space: conformers from distance geometry and a force field, and the reasons where there is none.

ETKDGv3 (Riniker and Landrum, J. Chem. Inf. Model. 2015) draws coordinates that agree with the bonds, with known torsion
angles and with the stereo labels; MMFF94 (Halgren, J. Comput. Chem. 1996) relaxes them.  Both are RDKit's.  Hydrogens
take part and are stripped afterwards.

What happens to what is not one ordinary organic molecule is policy, and every result says which rule it met:

* **several parts** (salts): the part with most heavy atoms is kept, organic parts first; counter-ions get no place;
* **one heavy atom** (lithium): one point at the origin;
* **no force field parameters** (metals, boron): the geometry of ETKDG stays, ``force_field`` is ``"none"``;
* **hard to embed** (large peptides, cages): random starting coordinates, then without the labels of nitrogens at
  bridgeheads, whose mirror form cannot be drawn, then without any stereo label; what was given up is noted;
* **fragments** with cut ends ``[16*]``: hydrogens take the place of the ends, which get no place themselves;
* **failed**: no coordinates, and the reason.

One seed gives one geometry, the same on every run; 0 is refused, because RDKit then returns the same conformer again
and again.  Results are kept in one file under ``MEDREC_CACHE_DIR``, by SMILES, seed, number and version of RDKit, each
with a checksum; what does not fit it is made again.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from medrec import keys
from medrec.chem.fragments import completed
from medrec.chem.graphs import parse
from medrec.folders import notice
from medrec.paths import cache_dir
from medrec.types import MedrecError

if TYPE_CHECKING:
    from rdkit.Chem import Mol

FORMAT = 2
"""Raised when the recipe changes, so that old results are not taken for new ones."""
LARGE = 100
"""Heavy atoms from which embedding starts from random coordinates."""
TRIES = 50
"""Starts of one attempt at embedding. A label that cannot be drawn fails in all of them: better give it up soon."""
SECONDS = 300
"""After which one attempt is given up, however fast the machine."""
STEPS = 2000
"""Of the force field, at most."""


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


def conformers(smiles: Sequence[str], *, n: int = 1, seed: int = 1) -> list[Conformers]:
    """Conformers of each molecule, from the cache where they are, else made on all cores.

    Args:
        smiles: molecules or fragments; order and repetitions are kept.
        n: conformers asked for each; fewer where embedding finds fewer.
        seed: 1 or more.

    Raises:
        MedrecError: seed 0, or a SMILES that cannot be read.
    """
    if seed < 1:
        raise MedrecError(f"Conformers need a seed of 1 or more, not {seed}: with 0 all of a molecule would be equal.")
    wanted = list(dict.fromkeys(smiles))
    for s in wanted:
        parse(s)
    known = _cached(wanted, n, seed)
    missing = [s for s in wanted if s not in known]
    for made in _made(missing, n, seed):
        known[made.smiles] = made
        _store(made, n, seed)
    return [known[s] for s in smiles]


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


def _made(smiles: Sequence[str], n: int, seed: int):
    """Conformers one after the other, in the given order; several cores where it pays."""
    if len(smiles) * n < 8:
        yield from (_embedded(s, n, seed) for s in smiles)
        return
    from joblib import Parallel, cpu_count, delayed
    from tqdm import tqdm

    jobs = Parallel(n_jobs=cpu_count(), return_as="generator", batch_size=4)
    results = jobs(delayed(_embedded)(s, n, seed) for s in smiles)
    yield from tqdm(results, total=len(smiles), desc="conformers", unit="molecule", disable=None)


def _embedded(smiles: str, n: int, seed: int) -> Conformers:
    """One molecule, by the policy of the module."""
    from rdkit import Chem, rdBase

    with rdBase.BlockLogs():
        whole = parse(smiles)
        kept, notes = _kept_atoms(whole)
        if len(kept) == 0:
            return _none(smiles, "nothing but cut ends")
        if len(kept) == 1:
            return Conformers(smiles, kept, np.zeros((1, 1, 3), np.float32), np.full(1, np.nan), note="; ".join(
                [*notes, "one heavy atom, a point at the origin"]))  # fmt: skip
        molecule = Chem.AddHs(_only(whole, smiles, kept))
        ids, more = _embed(molecule, n, seed)
        if not ids:
            return _none(smiles, "; ".join([*notes, "not embedded, even without stereo labels"]))
        notes += more
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

    def rank(part: tuple[int, ...]) -> tuple[bool, int]:
        numbers = [molecule.GetAtomWithIdx(i).GetAtomicNum() for i in part]
        return 6 in numbers, sum(number > 0 for number in numbers)

    parts = Chem.GetMolFrags(molecule)
    best = max(parts, key=rank)
    kept = np.array([i for i in best if molecule.GetAtomWithIdx(i).GetAtomicNum() > 0], dtype=np.int64)
    ends = len(best) - len(kept)
    notes = [f"{len(parts) - 1} other part{'s' * (len(parts) > 2)} left out"] if len(parts) > 1 else []
    return kept, notes + ([f"{ends} cut end{'s' * (ends > 1)} closed with hydrogen"] if ends else [])


def _only(whole: Mol, smiles: str, kept: NDArray[np.int64]) -> Mol:
    """The part that is kept, its heavy atoms in the order of ``kept``."""
    from rdkit import Chem

    if "*" in smiles:
        return parse(completed(smiles))
    if len(kept) == whole.GetNumAtoms():
        return Chem.Mol(whole)
    part = Chem.RWMol(whole)
    for i in sorted(set(range(whole.GetNumAtoms())) - set(kept.tolist()), reverse=True):
        part.RemoveAtom(i)
    Chem.SanitizeMol(part)
    return part.GetMol()


def _embed(molecule: Mol, n: int, seed: int) -> tuple[list[int], list[str]]:
    """Embed in place; numbers of the conformers, and what had to be given up."""
    from rdkit import Chem
    from rdkit.Chem import rdDistGeom

    def attempt(random: bool, tries: int = TRIES) -> list[int]:
        parameters: Any = rdDistGeom.ETKDGv3()  # in the stubs every setting has the type of the whole
        parameters.randomSeed = seed
        parameters.useRandomCoords = random
        parameters.maxIterations = tries
        parameters.timeout = SECONDS
        # Out of time, RDKit answers with the one number -1.
        return [i for i in rdDistGeom.EmbedMultipleConfs(molecule, n, parameters) if i >= 0]

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
    return attempt(random=True), ["all stereo labels dropped"]


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


def _key(smiles: str, n: int, seed: int) -> str:
    import rdkit

    return hashlib.sha256(json.dumps([FORMAT, rdkit.__version__, smiles, n, seed]).encode()).hexdigest()


def _cached(smiles: Sequence[str], n: int, seed: int) -> dict[str, Conformers]:
    wanted = {_key(s, n, seed): s for s in smiles}
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


def _store(one: Conformers, n: int, seed: int) -> None:
    facts = {
        "atoms": one.atoms.tolist(),
        "energies": [None if np.isnan(e) else e for e in one.energies.tolist()],
        "force_field": one.force_field,
        "converged": one.converged,
        "note": one.note,
    }
    key, places = _key(one.smiles, n, seed), np.ascontiguousarray(one.coordinates).tobytes()
    row = (key, json.dumps(facts | {"checksum": keys.digest(key, facts, places)}), places)
    _in_cache(lambda connection: connection.execute("INSERT OR REPLACE INTO conformers VALUES (?, ?, ?)", row))
