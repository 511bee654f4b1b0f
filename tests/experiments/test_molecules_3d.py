"""Numbers about drugs in space, on a few small molecules; the stored tables speak of the drugs that we have."""

import numpy as np
import polars as pl
import pytest

from medrec.chem.conformers import Conformers, conformers, flat
from medrec.experiments import molecules_3d as study
from tests.chem.test_conformers import FLAT_DRUGS


def test_a_row_describes_a_molecule_and_its_drawing():
    smiles = ["CC(C)(C)C(=O)O", "[Li+]"]
    one, ion = (study.describe("x", *pair) for pair in zip(conformers(smiles), flat(smiles), strict=True))
    assert one["flatness"] > 1 > one["flatness_drawing"] == 0
    assert one["neighbours"] == 6, "seven atoms, all within 4.5 Å"
    assert one["bond_error"] < 0.05
    assert (ion["neighbours"], ion["bond_error"], ion["atoms"]) == (0, None, 1)
    assert "one heavy atom" in ion["note"]


def test_kinds_of_bonds_are_counted_over_molecules():
    table = study.bond_table(conformers(["CCO", "CC=O", "[Li+]"]))
    counts = {(bond, order): n for bond, order, n in table.select("bond", "order", "n").iter_rows()}
    assert counts == {("C-C", 1): 2, ("C-O", 1): 1, ("C-O", 2): 1}
    assert (table["low"] <= table["median"]).all()
    assert (table["median"] <= table["high"]).all()


def test_pairs_of_one_drug_leave_a_conformer_alone_with_itself(monkeypatch):
    monkeypatch.setattr(study, "PAIRS", (("a", "a"), ("a", "b")))
    monkeypatch.setattr(study, "SEEDS", (1,))
    monkeypatch.setattr(study, "DRAWN", 3)
    table = study.shapes({"a": "CCCCO", "b": "CCCCN"})
    within, across = table.filter(pl.col("b") == "a"), table.filter(pl.col("b") == "b")
    n = within["j"].max() + 1
    assert within.height == n * (n - 1) // 2
    assert (within["i"] < within["j"]).all()
    assert across.height == n * (across["j"].max() + 1)
    assert within["overlap"].max() <= study.SAME


def test_one_shape_counts_once():
    (one,) = conformers(["CCCCO"], n=4)
    twice = np.repeat(one.coordinates, 2, axis=0)
    copies = Conformers(one.smiles, one.atoms, twice, np.repeat(one.energies, 2))
    alone = study.different(one, most=9)
    np.testing.assert_array_equal(study.different(copies, most=9).coordinates, alone.coordinates)
    np.testing.assert_array_equal(alone.coordinates[0], one.coordinates[0])
    assert len(study.different(copies, most=1).coordinates) == 1


def test_stored_tables_are_those_of_the_drug_table():
    drugs = study.read().table("drugs")
    assert set(drugs["name"]) == set(study.structures()), "run python -m medrec.experiments.molecules_3d again"
    unexplained = drugs.filter(~pl.col("converged"), pl.col("note").is_null())
    assert unexplained.is_empty()
    name = "aspirin" if "aspirin" in drugs["name"] else drugs.sort("atoms")["name"][40]
    smiles = study.structures()[name]
    now = study.describe(name, conformers([smiles])[0], flat([smiles])[0])
    row = drugs.row(by_predicate=pl.col("name") == name, named=True)
    assert row["flatness"] == pytest.approx(now["flatness"], abs=0.02)
    np.testing.assert_allclose(row["neighbours"], now["neighbours"], atol=0.01)


def test_of_all_drugs_few_did_not_come_to_rest_and_only_flat_molecules_are_flat():
    drugs = study.read().table("drugs")
    assert drugs["flatness"].is_not_null().all(), "every drug has a conformer"
    assert drugs["converged"].mean() >= 0.95
    flat_ones = drugs.filter(pl.col("atoms") >= 5, pl.col("flatness") < 0.15)["name"]
    assert set(flat_ones) == FLAT_DRUGS
    assert drugs["flatness_drawing"].max() == 0
    assert drugs["bond_error"].median() < 0.05
