"""Synthetic hospital records with known causes: the cohort of every page that has no credentialed tables.

``synthesize`` draws patients from a clinical generative model whose facts come from :mod:`medrec.knowledge`, and
``SyntheticRecords.write`` writes them as MIMIC-III, MIMIC-IV or eICU tables, so that the whole pipeline runs on them as
on real files. What such records can and cannot show is said in the chapter "From tables to visits".
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from medrec.arguments import checked_seed
from medrec.data.synthetic import tables
from medrec.data.synthetic.model import STAGES, Stays, simulate, stream
from medrec.data.synthetic.world import World, world
from medrec.data.tables import MARKER
from medrec.folders import atomic_folder
from medrec.knowledge.conditions import icd_titles
from medrec.types import MedrecError, Ragged

SIZES = {"synthetic": 600, "synthetic-6350": 6_350, "synthetic-60125": 60_125}
"""Patients of the named cohorts; two have the sizes of BiMoRec's table 1."""

ICD9_CHAPTER_ENDS = (139, 239, 279, 289, 319, 389, 459, 519, 579, 629, 679, 709, 739, 759, 779, 799)
"""Last three-digit category of each chapter of ICD-9-CM but the last."""

Layout = Literal["mimic3", "mimic4", "eicu"]
Control = Literal["structure", "shape"]


@dataclass(frozen=True)
class SyntheticRecords:
    """Patients as arrays, before they become tables.

    Args:
        stays: everything that was drawn; see :class:`medrec.data.synthetic.model.Stays`.
        world: what it was drawn from.
        titles: columns ``version``, ``kind``, ``code``, ``title``; what the dictionaries will say.
        options: the knobs.
    """

    stays: Stays
    world: World
    titles: pl.DataFrame
    options: dict[str, Any]

    @property
    def planted(self) -> dict[str, Any]:
        """What a control planted and where to look for it; empty without a control."""
        return self.world.planted

    @property
    def n_patients(self) -> int:
        return len(self.stays.age)

    @property
    def n_visits(self) -> int:
        return int(self.stays.visit_offsets[-1])

    @property
    def classes(self) -> tuple[str, ...]:
        """ATC level-3 classes behind the columns of :attr:`oracle`."""
        return self.world.classes

    @property
    def medications(self) -> Ragged:
        """Classes of each visit."""
        return self.stays.medications

    @property
    def oracle(self) -> NDArray[np.float32]:
        """``(n_visits, M)`` probability of each class, as the generator knows it before it draws."""
        return self.stays.oracle

    def write(self, folder: Path | str, layout: Layout = "mimic4") -> Path:
        """Write the records as gzip-compressed CSV tables; the same records always give the same bytes.

        Args:
            folder: made, or replaced as a whole when it exists.
            layout: ``mimic3`` (upper-case headers), ``mimic4`` (tables under ``hosp/``) or ``eicu``.

        Returns:
            The folder; :data:`medrec.data.tables.MARKER` in it says that these patients are invented, and how.

        Raises:
            MedrecError: no such layout, or the folder cannot be written.
        """
        if layout not in ("mimic3", "mimic4", "eicu"):
            raise MedrecError(f"No layout {layout!r}: choose mimic3, mimic4 or eicu.")
        folder = Path(folder)
        with atomic_folder(folder, what=f"synthetic {layout} tables") as tmp:
            tables.write(tmp, layout, self.world, self.stays, self.titles, stream(self.options["seed"], "table", 0))
            (tmp / MARKER).write_text(json.dumps({"layout": layout} | self.options, indent=1) + "\n", encoding="utf-8")
        return folder


def synthesize(
    n_patients: int,
    seed: int = 0,
    *,
    history: float = 1.0,
    structure: float = 0.0,
    text: float = 1.0,
    control: Control | None = None,
    visits_per_patient: float = 2.45,
) -> SyntheticRecords:
    """Draw synthetic patients.

    Args:
        n_patients: how many; :data:`SIZES` has the usual numbers.
        seed: same seed, same records.
        history: 1, what one stay tells about the next is kept; 0, later stays change places between patients, so that
            a patient's past tells nothing beyond age, sex and visit number. All marginals stay.
        structure: 1, a patient's preferences run along molecular similarity of classes; 0 (the default), along a
            similarity that has nothing to do with molecules. Strength and marginals are the same.
        text: 1, codes bear their titles; 0, titles are permuted within chapters of the classification.
        control: plant an effect of molecular ``structure`` or of three-dimensional ``shape``.
        visits_per_patient: mean. The default leaves 2.37 (the published cohort) once the pipeline has dropped stays
            without a procedure; full MIMIC-III has 1.27.

    Raises:
        MedrecError: a knob lies outside [0, 1], or no such control.
    """
    checked_seed(seed)
    for name, value in (("history", history), ("structure", structure), ("text", text)):
        if not 0 <= value <= 1:
            raise MedrecError(f"{name}={value} lies outside [0, 1]: 0 takes the signal away, 1 leaves it.")
    if visits_per_patient <= 1:
        raise MedrecError(f"visits_per_patient={visits_per_patient}: everybody has one visit, give more than 1.")
    if n_patients < 1:
        raise MedrecError(f"n_patients={n_patients}: give at least one patient.")
    if control not in (None, "structure", "shape"):
        raise MedrecError(f"control={control!r}: choose 'structure', 'shape' or None.")
    base = world(control)
    stays = simulate(
        base, n_patients, seed, history=history, structure=structure, visits_per_patient=visits_per_patient
    )
    titles = _permuted_titles(icd_titles(), 1 - text, np.random.default_rng([seed, len(STAGES)]))
    options = {
        "n_patients": n_patients,
        "seed": seed,
        "history": history,
        "structure": structure,
        "text": text,
        "control": control,
        "visits_per_patient": visits_per_patient,
    }
    return SyntheticRecords(stays, base, titles, options)


def _permuted_titles(titles: pl.DataFrame, share: float, rng: np.random.Generator) -> pl.DataFrame:
    """A ``share`` of the titles change places within version, kind and chapter."""
    code = pl.col("code")
    category = code.str.head(3).cast(pl.Int64, strict=False)
    chapter = (
        pl.when(pl.col("version") == 10)
        .then(code.str.head(pl.when(pl.col("kind") == "diagnosis").then(1).otherwise(2)))
        .when(code.str.contains("^[VE]"))
        .then(code.str.head(1))
        .when(pl.col("kind") == "procedure")
        .then(code.str.head(1))
        .otherwise(pl.sum_horizontal(category > end for end in ICD9_CHAPTER_ENDS).cast(pl.String))
    )
    titles = titles.with_columns(chapter=chapter, moves=pl.Series(rng.random(len(titles)) < share))
    order = (
        titles.with_row_index("row").filter("moves").with_columns(key=pl.Series(rng.random(int(titles["moves"].sum()))))
    )
    group = ["version", "kind", "chapter"]
    source = order.sort(*group, "key")["row"].to_numpy()
    target = order.sort(*group, "row")["row"].to_numpy()
    text = titles["title"].to_numpy().copy()
    text[target] = text[source]
    return titles.with_columns(title=pl.Series(text, dtype=pl.String)).drop("chapter", "moves")
