"""Names, routes and NDC of real orders to drugs and classes."""

from __future__ import annotations

import polars as pl
import pytest

from medrec.data import mapping
from medrec.data.mapping import agreement, map_medications, names_by_hicl, ndc_classes, route_group
from medrec.types import MedrecError
from tests.conftest import demo_dir


def one(name: str | None, route: str | None, **options) -> dict:
    frame = pl.DataFrame({"name": [name], "route": [route]}, schema={"name": pl.String, "route": pl.String})
    return map_medications(frame, **options).row(0, named=True)


@pytest.mark.parametrize(
    ("name", "route", "drug", "atc3"),
    [
        # One drug, several classes: the route decides.
        ("Aspirin EC", "PO", "aspirin", "B01A"),
        ("ASPIRIN 300 MG RE SUPP", "RE", "aspirin", "B01A"),
        ("Vancomycin", "IV", "vancomycin", "J01X"),
        ("Vancomycin Oral Liquid", "PO/NG", "vancomycin", "A07A"),
        ("Vancomycin Enema", "PR", "vancomycin", "A07A"),
        ("PredniSONE", "PO", "prednisone", "H02A"),
        ("Diltiazem Extended-Release", "PO", "diltiazem", "C08D"),
        ("Ipratropium Bromide Neb", "NEB", "ipratropium", "R03B"),
        ("ipratropium", "NU", "ipratropium", "R01A"),
        ("Ciprofloxacin IV", "IV", "ciprofloxacin", "J01M"),
        ("Ciprofloxacin 0.3% Ophth Soln", "BOTH EYES", "ciprofloxacin", "S01A"),
        ("Ciprofloxacin 0.3% Ophth Soln", "LEFT EAR", "ciprofloxacin", "S02A"),
        ("Hydrocortisone Na Succ.", "IV", "hydrocortisone", "H02A"),
        ("Hydrocortisone Cream 2.5%", "TP", "hydrocortisone", "D07A"),
        ("Hydrocortisone (Rectal) 2.5% Cream", "PR", "hydrocortisone", "C05A"),
        ("Lidocaine 1%", "SC", "lidocaine", "N01B"),
        ("Lidocaine 5% Patch", "TD", "lidocaine", "N01B"),
        ("Lidocaine Jelly 2%", "TP", "lidocaine", "D04A"),
        ("Fentanyl Citrate", "IV DRIP", "fentanyl", "N01A"),
        ("Fentanyl Patch", "TD", "fentanyl", "N02A"),
        ("Acetylcysteine 20%", "NEB", "acetylcysteine", "R05C"),
        ("Acetylcysteine 20%", "PO", "acetylcysteine", "V03A"),
        ("Metronidazole", "IV", "metronidazole", "J01X"),
        ("Metronidazole", "PO", "metronidazole", "P01A"),
        ("Phenylephrine", "IV DRIP", "phenylephrine", "C01C"),
        ("Fluticasone Propionate 110mcg", "IH", "fluticasone", "R03B"),
        ("Fluticasone Propionate NASAL", "NU", "fluticasone", "R01A"),
        ("Magnesium Sulfate", "IV", "magnesium sulfate", "B05X"),
        ("Epsom Salt (Magnesium Sulfate)", "PO", "magnesium sulfate", "A06A"),
        ("Magnesium Oxide", "PO", "magnesium oxide", "A12C"),
        ("POTASSIUM CHLORIDE CRYS ER 20 MEQ PO TBCR", "PO", "potassium chloride", "A12B"),
        ("potassium CHLORIDE 20 mEq in", "IVPB", "potassium chloride", "B05X"),
        ("POTASSIUM CHLORIDE 20 MEQ PO PACK", "PER NG TUBE", "potassium chloride", "A12B"),
        ("KLOR-CON", "See Instruct", "potassium chloride", "A12B"),
        ("100 ML - POTASSIUM CHLORIDE 20 MEQ/100ML IV SOLN", None, "potassium chloride", "B05X"),
        ("calcium chloride", "Intravenous", "calcium chloride", "B05X"),
        ("Calcium Gluconate", "IV", "calcium gluconate", "A12A"),
        ("magnesium chloride", "Oral", "magnesium chloride", "A12C"),
        ("Sodium Bicarbonate", "PO/NG", "sodium bicarbonate", "A02A"),
        ("Sodium Bicarbo", "NG", "sodium bicarbonate", "A02A"),
        ("SODIUM BICARBONATE 8.4 % (1 MEQ/ML) IV SYRINGE : 50 ML SYRINGE", "IV", "sodium bicarbonate", "B05X"),
        ("SODIUM BICARBONATE 8.4%", "DEVICE", "sodium bicarbonate", "B05X"),
        ("Glucose Gel", "PO", "glucose", "V06D"),
        ("GLUCOSE 40% 15 GRAM BQ GEL", None, "glucose", "V06D"),
        ("DEXTROSE 50%", "DEVICE", "glucose", "B05B"),
        ("D50", "IV", "glucose", "B05B"),
        ("Isotretinoin", "PO", "isotretinoin", "D10B"),
        ("Isotretinoin 0.05% Gel", "TP", "isotretinoin", "D10A"),
        ("Tretinoin 0.1% Cream", "TP", "tretinoin", "D10A"),
        ("Timolol Maleate 0.5%", "OU", "timolol", "S01E"),
        # The form in the name stands in for a missing route.
        ("10 ML VIAL : FLUTICASONE NASAL", ".ROUTE", "fluticasone", "R01A"),
        ("VANCOMYCIN 250 MG PO CAPS", "MISC", "vancomycin", "A07A"),
        ("FLONASE", None, "fluticasone", "R01A"),
        # Spelling of three databases: tall-man letters, brands, packages, salts, cut-off names.
        ("hydrALAZINE INJ", "IV", "hydralazine", "C02D"),
        ("LASIX", "PO", "furosemide", "C03C"),
        ("furosemide (LASIX) inj 40 mg", "IV", "furosemide", "C03C"),
        ("10 ML VIAL: INSULIN ASPART 100 UNIT/ML SC SOLN", "SC", "insulin aspart", "A10A"),
        ("INSULIN HUMALOG (PER UNIT)", "SC", "insulin lispro", "A10A"),
        ("Insulin", "SC", "insulin human regular", "A10A"),
        ("ATORVASTATIN CALCIUM 10 MG PO TABS", "PO", "atorvastatin", "C10A"),
        ("LOSARTAN POTASSIUM 50 MG PO TABS", "PO", "losartan", "C09C"),
        ("DEXAMETHASONE SODIUM PHOSPHATE 4 MG/ML IJ SOLN", "IV", "dexamethasone", "H02A"),
        ("15 ml vial : sodium phosphate 3 mmole/ml iv soln", "IV", "sodium phosphate", "B05X"),
        ("VANCOMYCIN HCL IN DEXTROSE 1 GM/200ML IV SOLN", "IVPB", "vancomycin", "J01X"),
        ("KCL IN DEXTROSE-NACL 20-5-0.45 MEQ/L-%-% IV SOLN", "IV", "potassium chloride", "B05X"),
        ("Propra", "PO", "propranolol", "C07A"),
        ("Heparin Flush (10 units/ml)", "IV", "heparin", "B01A"),
        ("Sodium Chloride", "PO", "sodium chloride", "A12C"),
        ("23.4% Sodium Chloride", "IV", "sodium chloride", "B05X"),
        ("DEXTROSE 50% VIAL", "IV", "glucose", "B05B"),
        # Combinations, in any order of their parts, have a class of their own.
        ("Ipratropium-Albuterol Neb", "NEB", "ipratropium/albuterol", "R03A"),
        ("ALBUTEROL/IPRATROPIUM NEB 3ML", "NEB", "ipratropium/albuterol", "R03A"),
        ("PERCOCET 5/325 TAB", "PO", "oxycodone/acetaminophen", "N02A"),
        ("HYDROCODONE-ACETAMINOPHEN 5-325 MG PO TABS", "PO", "hydrocodone/acetaminophen", "N02A"),
        ("LISINOPRIL-HYDROCHLOROTHIAZIDE", None, "lisinopril/hydrochlorothiazide", "C09B"),
        ("ZOSYN 3.375 GRAM in NS 100 mL IVPB", "IVPB", "piperacillin/tazobactam", "J01C"),
        ("Sulfameth/Trimethoprim DS", "PO", "sulfamethoxazole/trimethoprim", "J01E"),
        ("Neomycin-Polymyxin-Bacitracin", "TP", "neomycin/polymyxin/bacitracin", "D06A"),
        ("Neomycin-Polymyxin-Bacitracin", "OU", "neomycin/polymyxin/bacitracin ophthalmic", "S01A"),
        ("Maalox/Diphenhydramine/Lidocaine", "PO", "magic mouthwash", "A01A"),
    ],
)
def test_name_and_route_to_drug_and_class(name, route, drug, atc3):
    found = one(name, route)
    assert (found["status"], found["drug"], found["atc3"]) == ("mapped", drug, atc3)


@pytest.mark.parametrize(
    ("name", "route", "status"),
    [
        ("D5W", "IV", "carrier"),
        ("SW", "IV", "carrier"),
        ("0.9% Sodium Chloride (Mini Bag Plus)", "IV", "carrier"),
        ("Sodium Chloride 0.9%  Flush", "IV", "carrier"),
        ("SODIUM CHLORIDE", None, "carrier"),
        ("1000 ML FLEX CONT : SODIUM CHLORIDE 0.9 % IV SOLN", "IV", "carrier"),
        ("Iso-Osmotic Dextrose", "IV", "carrier"),
        ("LACTATED RINGER'S 1,000 ML BAG.", "IV", "carrier"),
        ("Vial", "IV", "carrier"),
        ("Syringe (IV Room)", "IV", "carrier"),
        ("VANCOMYCIN CONSULT TO PHARMACY", None, "carrier"),
        ("Wondermycin Vial", "IV", "unmapped"),  # a container excuses nothing that stands beside it
        ("adde", "PO", "unmapped"),
        ("Ny", "PO", "unmapped"),
        ("Prop", "PO", "unmapped"),  # too short to tell propofol from propranolol
        ("", "PO", "unmapped"),
        (None, "PO", "unmapped"),
    ],
)
def test_what_is_no_drug(name, route, status):
    found = one(name, route)
    assert found["status"] == status
    assert found["drug"] is None
    assert found["atc3"] is None


@pytest.mark.parametrize(
    ("raw", "group"),
    [
        ("PO/NG", "oral"),
        ("PO (oral)                      ", "oral"),
        ("NG- NasoGast", "oral"),
        ("IV DRIP", "parenteral"),
        ("SubQ", "parenteral"),
        ("SUB-Q", "parenteral"),
        ("ED", "parenteral"),
        ("DWELL", "parenteral"),
        ("IV - brief infusion (intravenous)", "parenteral"),
        ("IH", "inhaled"),
        ("NEBULIZATION", "inhaled"),
        ("NU", "nasal"),
        ("Both Nostril", "nasal"),
        ("OU", "ophthalmic"),
        ("Each affected eye", "ophthalmic"),
        ("RT EAR", "otic"),
        ("PR", "rectal"),
        ("TP", "topical"),
        ("TD", "transdermal"),
        ("SL", "mouth"),
        ("Swish and Spit", "mouth"),
        ("VG", "vaginal"),
        ("IRR", "irrigation"),
        ("MISC", None),
        (None, None),
    ],
)
def test_route_groups(raw, group):
    assert route_group(raw) == group


def test_first_code_reproduces_the_published_misplacements():
    for name, route, atc3 in [
        ("Aspirin", "PO", "A01A"),
        ("Vancomycin", "IV", "A07A"),
        ("PredniSONE", "PO", "A07E"),
        ("Diltiazem", "PO", "C05A"),
        ("Ipratropium Bromide Neb", "NEB", "R01A"),
    ]:
        assert one(name, route, class_rule="first_code")["atc3"] == atc3


def test_frame_keeps_rows_order_columns_and_laziness():
    frame = pl.DataFrame({"row": [3, 1, 2], "name": ["Lasix", None, "Lasix"], "route": ["IV", "PO", None]})
    found = map_medications(frame)
    assert found["row"].to_list() == [3, 1, 2]
    assert found["drug"].to_list() == ["furosemide", None, "furosemide"]
    assert isinstance(map_medications(frame.lazy()), pl.LazyFrame)
    assert map_medications(frame.lazy()).collect().equals(found)
    assert map_medications(found).equals(found)


def test_each_distinct_product_is_read_once(monkeypatch):
    seen = []
    resolve = mapping._resolve
    monkeypatch.setattr(mapping, "_resolve", lambda *product: seen.append(product) or resolve(*product))
    frame = pl.DataFrame({"name": ["Lasix", "Heparin"] * 5000, "route": ["IV", "SC"] * 5000})
    assert map_medications(frame)["status"].eq("mapped").all()
    assert len(seen) == 2


def test_names_by_hicl_takes_the_majority_and_leaves_carriers_carriers():
    products = pl.DataFrame(
        {
            "name": ["Lasix", "furosemide", "Heparin", "D5W", "DEXTROSE 50% VIAL", None, "nonsense"],
            "route": ["IV"] * 7,
            "hicl": ["1", "1", "1", "2", "2", "1", "3"],
            "rows": [3, 2, 4, 9, 1, 50, 7],
        }
    )
    votes = {row["hicl"]: row for row in names_by_hicl(products).iter_rows(named=True)}
    assert set(votes) == {"1", "2"}
    assert votes["1"]["name"] == "furosemide"
    assert votes["1"]["rows"] == 5
    assert votes["1"]["share"] == pytest.approx(5 / 9)
    assert one(votes["2"]["name"], "IV")["status"] == "carrier"


@pytest.fixture
def ndc_folder(tmp_path):
    tables = {
        "ndc2rxcui_gamenet": {"ndc": ["00000000001", "00000000002"], "rxcui": ["1", "9"]},
        "ndc2rxcui_fda2020": {"ndc": ["a", "b"], "ndc11": ["00000000002", "00000000003"], "rxcui": ["2", "3"]},
        "rxcui2atc4": {
            "rxcui": ["1", "1", "1", "2", "2", "3"],
            "atc4": ["N02BA", "B01AC", "A01AD", "J01XA", "A07AA", "C07AB"],
            "source_order": ["2", "1", "0", "1", "0", "0"],
        },
    }
    for name, table in tables.items():
        pl.DataFrame(table).write_csv(tmp_path / f"{name}.csv.gz", compression="gzip")
    return tmp_path


def test_ndc_route(ndc_folder):
    classes = ndc_classes(pl.Series(["00000000001", "00000000002", "0", None]), ndc_folder)
    assert dict(classes.iter_rows()) == {"00000000001": ["A01AD", "B01AC", "N02BA"], "00000000002": ["A07AA", "J01XA"]}
    orders = pl.DataFrame(
        {
            "name": ["Aspirin", "Nonsense", "Nonsense", "Metoprolol", "D5W", "Nonsense"],
            "route": ["PO", "PO", "IV", "PO", "IV", "PO"],
            "ndc": ["00000000001", "00000000001", "00000000002", "0", "0", "00000000003"],
        }
    )

    def classes_of(**options):
        found = map_medications(orders, folder=ndc_folder, **options)
        return found["atc3"].to_list(), found["status"].to_list()

    first = classes_of(mapping="ndc", class_rule="first_code")
    assert first[0] == ["A01A", "A01A", "A07A", None, None, "C07A"]
    assert first[1] == ["mapped", "mapped", "mapped", "unmapped", "carrier", "mapped"]
    # By route: what acts where it is put is not meant by another route.
    assert classes_of(mapping="ndc")[0] == ["B01A", "B01A", "J01X", None, None, "C07A"]
    assert classes_of(mapping="name+ndc")[0] == ["B01A", "B01A", "J01X", "C07A", None, "C07A"]
    result = agreement(orders.with_columns(rows=pl.lit(2)), ndc_folder)
    assert (result.both, result.among, result.first) == (2, 2, 0)
    assert result.differences.row(0, named=True) == {"drug": "aspirin", "first_code": "A01A", "ours": "B01A", "rows": 2}


@pytest.mark.parametrize("spelling", ["0000-0000-01", "00000-0000-1", "00000-000-01", "1", "1.0", " 00000000001"])
def test_an_ndc_is_found_in_any_spelling(ndc_folder, spelling):
    assert ndc_classes(pl.Series([spelling]), ndc_folder).rows() == [(spelling, ["A01AD", "B01AC", "N02BA"])]


def test_ten_digits_are_what_the_table_holds_and_nothing_where_it_holds_two(tmp_path, ndc_folder):
    assert ndc_classes(pl.Series(["0000000003"]), ndc_folder)["classes"].to_list() == [["C07AB"]]
    folder = tmp_path / "two"
    folder.mkdir()
    for path in ndc_folder.glob("*.gz"):
        table = pl.read_csv(path, infer_schema=False)
        if "fda" in path.name:
            table = table.with_columns(ndc11=pl.Series(["01234567890", "12345067890"]))
        elif "gamenet" in path.name:
            table = table.clear()
        table.write_csv(folder / path.name, compression="gzip")
    assert ndc_classes(pl.Series(["1234567890"]), folder).is_empty()
    assert len(ndc_classes(pl.Series(["1234-5678-90", "12345-678-90"]), folder)) == 2


def test_missing_tables_columns_and_misspelt_options_are_named(tmp_path):
    orders = pl.DataFrame({"name": ["Aspirin"], "route": ["PO"], "ndc": ["1"]})
    with pytest.raises(MedrecError, match=r"ndc2rxcui_gamenet\.csv\.gz"):
        map_medications(orders, mapping="ndc", folder=tmp_path)
    with pytest.raises(MedrecError, match="'ndc'"):
        map_medications(orders.drop("ndc"), mapping="ndc")
    with pytest.raises(MedrecError, match="mapping='nmae'"):
        map_medications(orders, mapping="nmae")
    with pytest.raises(MedrecError, match="class_rule='last'"):
        map_medications(orders, class_rule="last")


# -- real orders ------------------------------------------------------------------------------------------------------


def orders_of(database: str) -> pl.DataFrame:
    folder = demo_dir(database)
    path = folder / ("PRESCRIPTIONS.csv.gz" if database == "mimic3-demo" else "hosp/prescriptions.csv.gz")
    return pl.read_csv(path, infer_schema=False).select("route", "ndc", "drug_type", name="drug")


@pytest.mark.parametrize(
    ("database", "main", "mapped", "carriers"),
    [("mimic3-demo", 7709, 7482, 226), ("mimic4-demo", 14391, 13773, 616)],
)
def test_main_rows_of_the_demos_get_a_class(database, main, mapped, carriers):
    """By name alone 97.1 % and 95.7 % of the MAIN rows, carriers counted as failures; 99.9 % of the others."""
    rows = map_medications(orders_of(database).filter(pl.col("drug_type") == "MAIN"))
    count = dict(rows.group_by("status").len().iter_rows())
    assert len(rows) == main
    assert count["mapped"] >= mapped
    assert count["carrier"] <= carriers
    assert count["mapped"] / main >= 0.95
    assert count["mapped"] / (main - count["carrier"]) >= 0.999


@pytest.mark.parametrize("database", ["mimic3-demo", "mimic4-demo"])
def test_class_is_among_those_of_the_product(database):
    """Measured: 99.4 % and 99.6 %; the product's first code is ours in 75 % and 79 % only.

    Without glucose in a vein and bicarbonate by mouth: these codes are of groups, which the table of products lacks.
    """
    products = orders_of(database).group_by("name", "route", "ndc").len("rows")
    result = agreement(products, demo_dir("knowledge"))
    assert result.both >= 5000
    of_groups = result.outside.filter(pl.col("ours").is_in(["A02A", "B05B"]))
    assert set(of_groups["drug"]) <= {"glucose", "sodium bicarbonate", "amino acids"}
    assert result.share + of_groups["rows"].sum() / result.both >= 0.99
    assert 0.73 <= result.first / result.both <= 0.85
    assert result.differences["rows"].sum() == result.both - result.first
    assert result.outside["rows"].sum() == result.both - result.among
    aspirin = result.differences.filter(pl.col("drug") == "aspirin")
    assert set(aspirin["first_code"]) == {"A01A"}


def drug_orders(database: str, drug: str) -> dict[tuple[str, str], int]:
    """Orders of a drug in a demo by route group and class."""
    if database == "eicu-demo":
        file = demo_dir(database) / "medication.csv.gz"
        orders = pl.read_csv(file, infer_schema=False).select(name="drugname", route="routeadmin")
    else:
        orders = orders_of(database).select("name", "route")
    found = map_medications(orders.drop_nulls("name")).filter(pl.col("drug") == drug)
    group = pl.col("route").map_elements(lambda route: route_group(route) or "unknown", return_dtype=pl.String)
    counted = found.with_columns(group=group).group_by("group", "atc5").len()
    return {(group, atc5): n for group, atc5, n in counted.iter_rows()}


@pytest.mark.parametrize(
    ("database", "drug", "orders"),
    [
        ("mimic3-demo", "potassium chloride", {("parenteral", "B05XA01"): 294, ("oral", "A12BA01"): 295}),
        ("mimic4-demo", "potassium chloride", {("parenteral", "B05XA01"): 336, ("oral", "A12BA01"): 515}),
        ("mimic3-demo", "glucose", {("parenteral", "B05BA03"): 28}),
        ("mimic4-demo", "glucose", {("parenteral", "B05BA03"): 182, ("oral", "V06DC01"): 116}),
        ("mimic3-demo", "sodium bicarbonate", {("parenteral", "B05XA02"): 86, ("oral", "A02AH"): 8}),
        ("mimic4-demo", "sodium bicarbonate", {("parenteral", "B05XA02"): 37, ("oral", "A02AH"): 9}),
        ("mimic3-demo", "magnesium sulfate", {("parenteral", "B05XA05"): 206}),
        ("mimic4-demo", "magnesium sulfate", {("parenteral", "B05XA05"): 402}),
        ("mimic3-demo", "calcium chloride", {("parenteral", "B05XA07"): 7}),
        ("mimic4-demo", "calcium chloride", {("parenteral", "B05XA07"): 2}),
        ("mimic3-demo", "calcium gluconate", {("parenteral", "A12AA03"): 147}),
    ],
)
def test_the_route_decides_where_the_index_has_two_codes(database, drug, orders):
    assert drug_orders(database, drug) == orders


@pytest.mark.parametrize(
    ("drug", "vein", "mouth"),
    [
        ("potassium chloride", "B05XA01", "A12BA01"),
        ("glucose", "B05BA03", "V06DC01"),
        ("sodium bicarbonate", "B05XA02", "A02AH"),
        ("magnesium chloride", "B05XA11", "A12CC01"),
        ("magnesium sulfate", "B05XA05", "A06AD04"),
    ],
)
def test_no_order_of_the_third_demo_is_swallowed_into_a_vein(drug, vein, mouth):
    for (group, atc5), n in drug_orders("eicu-demo", drug).items():
        if group in ("parenteral", "oral"):
            assert atc5 == {"parenteral": vein, "oral": mouth}[group], (drug, group, n)


def test_first_code_by_ndc_sends_every_aspirin_to_the_mouth():
    orders = orders_of("mimic4-demo").filter(pl.col("name").str.to_lowercase().str.starts_with("aspirin"))
    found = map_medications(orders, mapping="ndc", class_rule="first_code", folder=demo_dir("knowledge"))
    assert set(found["atc3"].drop_nulls()) == {"A01A"}
    assert set(map_medications(orders)["atc3"]) == {"B01A"}


def test_eicu_rows_get_a_class():
    """78.1 % of all 75,604 rows, carriers and cancelled orders counted; 86.4 % without carriers."""
    rows = pl.read_csv(demo_dir("eicu-demo") / "medication.csv.gz", infer_schema=False).select(
        name="drugname", route="routeadmin", hicl=pl.col("drughiclseqno").replace("0", None)
    )
    assert len(rows) == 75604
    named = map_medications(rows.filter(pl.col("name").is_not_null()))
    assert len(named) == 44943
    assert named["status"].ne("unmapped").all()
    votes = names_by_hicl(rows.group_by("name", "route", "hicl").len("rows"))
    restored = rows.join(votes.select("hicl", voted="name"), on="hicl", how="left").with_columns(
        name=pl.coalesce("name", "voted")
    )
    count = dict(map_medications(restored).group_by("status").len().iter_rows())
    assert count["mapped"] / len(rows) >= 0.78
    assert count["mapped"] / (len(rows) - count["carrier"]) >= 0.86
