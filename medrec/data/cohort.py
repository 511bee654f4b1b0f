"""The cohort: what every room to the right of ``data`` sees of a hospital.

A cohort is immutable and holds no strings per visit: codes are integers into one vocabulary per kind,
visits stand in admission-time order within patients, patients in the order of their ids.
On disk it is a sealed folder of Parquet and JSON; there is no pickle anywhere.
The ids of the tables are no part of it: they lie beside it, in the user's own cache, for :meth:`Cohort.ids` alone.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from medrec import keys
from medrec.arguments import shown
from medrec.folders import atomic_folder, damage
from medrec.paths import announce_opened
from medrec.types import MedrecError, Ragged

Kind = Literal["diagnosis", "procedure", "symptom", "medication"]
Source = Literal["synthetic", "demo", "credentialed"]
KINDS: tuple[Kind, ...] = ("diagnosis", "procedure", "symptom", "medication")
FORMAT = 3
IDS = "ids.parquet"
"""File of a stored cohort that holds the ids of its tables."""
LIMIT = 10
"""Fewer patients of credentialed records than this are not shown; see :mod:`medrec.data.privacy`."""


def titled(name: str, source: str) -> str:
    """Name of a cohort with its source, said once: ``"synthetic-6350"``, ``"mine (synthetic)"``."""
    return name if name.startswith(source) else f"{name} ({source})"


@dataclass(frozen=True)
class Vocabulary:
    """Codes of one kind, with titles for people.

    Args:
        kind: what the codes are.
        codes: unique strings; diagnoses and procedures carry their coding, ``"9:4019"``, ``"10:I10"``,
            ``"ccs:98"``; medications are ATC level-3 classes, ``"C03C"``.
        titles: one for each code; the code itself where no dictionary names it.
    """

    kind: Kind
    codes: tuple[str, ...]
    titles: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.codes) != len(self.titles):
            raise ValueError(f"Vocabulary {self.kind}: {len(self.codes)} codes but {len(self.titles)} titles.")
        if len(set(self.codes)) != len(self.codes):
            raise ValueError(f"Vocabulary {self.kind}: codes are not unique.")

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def index(self) -> dict[str, int]:
        """Code → id."""
        return {code: i for i, code in enumerate(self.codes)}

    def ids(self, codes: list[str]) -> NDArray[np.int32]:
        """Ids of the given codes.

        Raises:
            MedrecError: a code is not in the vocabulary.
        """
        index = self.index
        unknown = [code for code in codes if code not in index]
        if unknown:
            raise MedrecError(
                f"{self.kind} code {unknown[0]!r} is not among the {len(self)} codes of this cohort "
                f"(for example {', '.join(self.codes[:3])}). Give codes as the cohort writes them."
            )
        return np.array([index[code] for code in codes], dtype=np.int32)


@dataclass(frozen=True)
class Step:
    """One line of the ledger: what a processing step kept of one kind of thing.

    ``before`` = ``kept`` + ``dropped``, always.
    """

    step: str
    unit: str
    before: int
    kept: int
    note: str = ""

    @property
    def dropped(self) -> int:
        return self.before - self.kept


@dataclass(frozen=True)
class Report:
    """The ledger of a cohort: every step's losses, and counts that a reader of the cohort should know.

    Args:
        steps: in the order of processing.
        facts: named counts that are no losses (rows per mapping route, undecidable visit orders, ...).
        tables: small tables for people, name → columns, e.g. the mapping report.
    """

    steps: tuple[Step, ...] = ()
    facts: dict[str, float] = field(default_factory=dict)
    tables: dict[str, dict[str, list[Any]]] = field(default_factory=dict)

    def frame(self) -> pl.DataFrame:
        """The steps as a table: step, unit, before, kept, dropped, note."""
        return pl.DataFrame(
            [
                {
                    "step": s.step,
                    "unit": s.unit,
                    "before": s.before,
                    "kept": s.kept,
                    "dropped": s.dropped,
                    "note": s.note,
                }
                for s in self.steps
            ],
            schema={
                "step": pl.String,
                "unit": pl.String,
                "before": pl.Int64,
                "kept": pl.Int64,
                "dropped": pl.Int64,
                "note": pl.String,
            },
        )

    def table(self, name: str) -> pl.DataFrame:
        """One of the small tables.

        Raises:
            MedrecError: no table of that name.
        """
        if name not in self.tables:
            raise MedrecError(f"The report has no table {name!r}; it has: {', '.join(self.tables) or 'none'}.")
        return pl.DataFrame(self.tables[name])


@dataclass(frozen=True)
class Cohort:
    """Visits of patients as lists of codes.

    Args:
        name: as the user asked for it, e.g. ``"mimic4-demo"``.
        source: ``synthetic``, ``demo`` or ``credentialed``; decides what may be shown (``data.privacy``).
        vocab: one vocabulary for each kind; a kind the database lacks has an empty one.
        visit_offsets: ``(n_patients + 1,)``; patient ``p`` has visits ``visit_offsets[p]:visit_offsets[p + 1]``.
        codes: for each kind, codes of each visit, unique within a visit: diagnoses and procedures in billing order,
            medications in the order of the vocabulary.
        admit_time: ``(n_visits,)`` ``datetime64[s]``; ``NaT`` where the database has no calendar (eICU).
        days_since_previous: ``(n_visits,)`` days from the previous admission of the patient; NaN for first visits.
        sex: ``(n_patients,)`` ``"F"``, ``"M"`` or ``""``.
        age_band: ``(n_patients,)`` age at the first visit, e.g. ``"60-69"``, ``"90+"`` or ``""``.
        options: everything that was chosen to make it (window, mapping, seed, ...).
        report: the ledger.
        planted: what a synthetic control planted, and where to look for it; empty for all other records.
        folder: where it was loaded from; ``None`` for one made by hand or by :meth:`select`.
    """

    name: str
    source: Source
    vocab: dict[Kind, Vocabulary]
    visit_offsets: NDArray[np.int64]
    codes: dict[Kind, Ragged]
    admit_time: NDArray[np.datetime64]
    days_since_previous: NDArray[np.float32]
    sex: NDArray[np.str_]
    age_band: NDArray[np.str_]
    options: dict[str, Any] = field(default_factory=dict)
    report: Report = field(default_factory=Report)
    planted: dict[str, Any] = field(default_factory=dict)
    folder: Path | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        n = self.n_visits
        for kind in KINDS:
            if len(self.codes[kind]) != n:
                raise ValueError(f"Cohort {self.name}: {len(self.codes[kind])} {kind} rows for {n} visits.")
        if len(self.admit_time) != n or len(self.days_since_previous) != n:
            raise ValueError(f"Cohort {self.name}: times do not fit {n} visits.")

    @property
    def n_patients(self) -> int:
        return len(self.visit_offsets) - 1

    @property
    def n_visits(self) -> int:
        return int(self.visit_offsets[-1])

    @property
    def n_medications(self) -> int:
        return len(self.vocab["medication"])

    @property
    def patient_of_visit(self) -> NDArray[np.int64]:
        """``(n_visits,)``."""
        return np.repeat(np.arange(self.n_patients), np.diff(self.visit_offsets))

    @property
    def visit_number(self) -> NDArray[np.int64]:
        """``(n_visits,)`` 0 for a patient's first visit."""
        return np.arange(self.n_visits) - self.visit_offsets[:-1][self.patient_of_visit]

    @cached_property
    def content(self) -> str:
        """Hash of everything that a system can see: codes, titles, order and times of visits, age and sex."""
        days = np.nan_to_num(self.days_since_previous, nan=-1.0)  # a NaN has many bit patterns
        parts: list[Any] = [self.visit_offsets, days, self.admit_time.astype("int64")]
        parts += [self.sex.tolist(), self.age_band.tolist()]
        for kind in KINDS:
            parts += [self.codes[kind].offsets, self.codes[kind].values]
            parts += [list(self.vocab[kind].codes), list(self.vocab[kind].titles)]
        return keys.digest(*parts)

    def select(self, patients: NDArray[np.integer]) -> Cohort:
        """The given patients, in the given order, with the vocabularies unchanged.

        Args:
            patients: ``(P,)`` places in the cohort, from 0.

        Raises:
            MedrecError: these are no such places.
        """
        try:
            chosen = np.asarray(patients)
        except ValueError:  # lists of different lengths
            chosen = np.empty((0, 0))
        whole = chosen.dtype.kind in "iu" or chosen.size == 0
        if chosen.ndim != 1 or not whole or ((chosen < 0) | (chosen >= self.n_patients)).any():
            mask = " A mask of truth values becomes places by np.flatnonzero." if chosen.dtype == bool else ""
            raise MedrecError(
                f"Patients are chosen by their places, from 0 to {self.n_patients - 1}, not by {shown(patients)}.{mask}"
            )
        patients = chosen.astype(np.int64)
        visits_of = Ragged(self.visit_offsets, np.arange(self.n_visits, dtype=np.int32)).take(patients)
        visits = visits_of.values
        return replace(
            self,
            visit_offsets=visits_of.offsets,
            codes={kind: rows.take(visits) for kind, rows in self.codes.items()},
            admit_time=self.admit_time[visits],
            days_since_previous=self.days_since_previous[visits],
            sex=self.sex[patients],
            age_band=self.age_band[patients],
            folder=None,
        )

    def ids(self) -> pl.DataFrame:
        """What patients and visits are called in the tables, to join results back to them.

        For your own use: of credentialed records no such frame may leave your machine, and
        :func:`medrec.data.privacy.show` refuses it.

        Returns:
            One row for each visit: ``patient`` and ``visit`` (places in the cohort, as in ``run.predictions``),
            ``patient_id`` and ``visit_id``: ``subject_id`` and ``hadm_id`` of MIMIC, ``uniquepid`` and
            ``patienthealthsystemstayid`` of eICU.

        Raises:
            MedrecError: the cohort did not come from :func:`medrec.data.load_cohort` as it is, or its store is damaged.

        Example:
            >>> run.predictions(cohort).join(cohort.ids(), on=["patient", "visit"])  # doctest: +SKIP
        """
        if self.folder is not None and (reason := damage(self.folder)):
            raise MedrecError(f"The ids of cohort {self.name!r} cannot be read: {reason}. Load the cohort again.")
        if self.folder is not None and (self.folder / IDS).is_file():
            ids = pl.read_parquet(self.folder / IDS, glob=False)
            if np.array_equal(ids["patient"].to_numpy(), self.patient_of_visit):
                return ids
        raise MedrecError(
            f"Cohort {self.name!r} has no ids: it was made by hand, or is a part of another one. "
            "Ask the cohort that load_cohort returned, before patients were selected."
        )

    def describe(self) -> dict[str, float]:
        """The row of the papers' Table 1, with true means: Σ codes / Σ visits.

        For each kind also ``<kind>_per_visit_distinct``: the published script's
        ``Σ_patients |union of codes| / Σ visits``, which forgets repeats (BiMoRec and NLA-MMR, table 1; see the chapter
        "From tables to visits").
        """
        row: dict[str, float] = {
            "patients": self.n_patients,
            "visits": self.n_visits,
            "visits_per_patient": self.n_visits / max(self.n_patients, 1),
            "max_visits": int(np.diff(self.visit_offsets).max(initial=0)),
        }
        for kind in KINDS:
            rows, size = self.codes[kind], len(self.vocab[kind])
            row[f"{kind}_codes"] = size
            row[f"{kind}_per_visit"] = len(rows.values) / max(self.n_visits, 1)
            row[f"{kind}_per_visit_max"] = int(rows.lengths.max(initial=0))
            keys = self.patient_of_visit[rows.row_of_value] * max(size, 1) + rows.values
            row[f"{kind}_per_visit_distinct"] = len(np.unique(keys)) / max(self.n_visits, 1)
        return row

    # -- storage -----------------------------------------------------------------------------------------------

    def save(self, folder: Path, ids: pl.DataFrame | None = None) -> None:
        """Write the cohort as one folder; on any failure nothing is left at ``folder``.

        Args:
            folder: where.
            ids: what :meth:`ids` will return; ``None``: nothing.

        Raises:
            MedrecError: the disk is full or the folder cannot be written.
        """
        with atomic_folder(folder, what=f"cohort {self.name!r}") as tmp:
            header = {
                "format": FORMAT,
                "name": self.name,
                "source": self.source,
                "options": self.options,
                "planted": self.planted,
                "report": {
                    "steps": [asdict(s) for s in self.report.steps],
                    "facts": self.report.facts,
                    "tables": self.report.tables,
                },
            }
            (tmp / "cohort.json").write_text(json.dumps(header, indent=1, default=str), encoding="utf-8")
            visits: dict[str, Any] = {
                "patient": self.patient_of_visit,
                "admit_time": self.admit_time.astype("datetime64[ms]"),
                "days_since_previous": self.days_since_previous,
            }
            for kind in KINDS:
                # As in memory: how many codes each visit has, and the codes end to end.
                visits[f"n_{kind}"] = self.codes[kind].lengths
                pl.DataFrame({"code": self.codes[kind].values}).write_parquet(tmp / f"codes_{kind}.parquet")
                pl.DataFrame({"code": self.vocab[kind].codes, "title": self.vocab[kind].titles}).write_parquet(
                    tmp / f"vocab_{kind}.parquet"
                )
            pl.DataFrame(visits).write_parquet(tmp / "visits.parquet")
            pl.DataFrame({"sex": self.sex.tolist(), "age_band": self.age_band.tolist()}).write_parquet(
                tmp / "patients.parquet"
            )
            if ids is not None:
                ids.write_parquet(tmp / IDS)

    @classmethod
    def load(cls, folder: str | Path) -> Cohort:
        """Read what :meth:`save` wrote.

        Raises:
            MedrecError: no cohort there, a damaged one, or one written by another version of the format.
        """
        if not isinstance(folder, str | Path):
            raise MedrecError(f"A cohort is read from its folder, not from {shown(folder)}.")
        folder = Path(folder)
        if not (folder / "cohort.json").is_file():
            raise MedrecError(f"{folder} holds no cohort (cohort.json is missing). Give a folder that save wrote.")
        if reason := damage(folder):
            raise MedrecError(f"The cohort in {folder} is damaged: {reason}. Make it again from its tables.")
        header = json.loads((folder / "cohort.json").read_text(encoding="utf-8"))
        announce_opened(f"the cohort {header['name']}", folder, header["source"])
        if header["format"] != FORMAT:
            raise MedrecError(f"{folder} was written in format {header['format']}, not {FORMAT}. Delete it and retry.")
        visits = pl.read_parquet(folder / "visits.parquet", glob=False)
        patients = pl.read_parquet(folder / "patients.parquet", glob=False)
        vocab: dict[Kind, Vocabulary] = {}
        codes: dict[Kind, Ragged] = {}
        for kind in KINDS:
            table = pl.read_parquet(folder / f"vocab_{kind}.parquet", glob=False)
            vocab[kind] = Vocabulary(kind, tuple(table["code"]), tuple(table["title"]))
            lengths = visits[f"n_{kind}"].to_numpy()
            values = pl.read_parquet(folder / f"codes_{kind}.parquet", glob=False)["code"].to_numpy()
            codes[kind] = Ragged(np.concatenate([[0], np.cumsum(lengths)]), values)
        counts = np.bincount(visits["patient"].to_numpy(), minlength=len(patients))
        report = header["report"]
        return cls(
            name=header["name"],
            source=header["source"],
            vocab=vocab,
            visit_offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            codes=codes,
            admit_time=visits["admit_time"].to_numpy().astype("datetime64[s]"),
            days_since_previous=visits["days_since_previous"].to_numpy(),
            sex=patients["sex"].to_numpy().astype(str),
            age_band=patients["age_band"].to_numpy().astype(str),
            options=header["options"],
            planted=header["planted"],
            report=Report(tuple(Step(**s) for s in report["steps"]), report["facts"], report["tables"]),
            folder=folder,
        )
