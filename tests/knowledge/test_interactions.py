"""Interactions: the table, lifting to classes by hand, the published graphs, and chance."""

from __future__ import annotations

import gzip
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from medrec.data import load_cohort
from medrec.knowledge.drugs import drugs
from medrec.knowledge.interactions import (
    SEVERITIES,
    class_interactions,
    class_pairs,
    ddi_matrix,
    default_ddi,
    interactions,
    overlap_test,
    read_list,
    read_onc,
    read_reports,
    read_twosides,
    rewire,
    systemic_classes,
)
from medrec.metrics import ddi_counts
from medrec.types import MedrecError
from tests.conftest import demo_dir

TWOSIDES = "ddi_twosides_top40_atc3.csv.gz"
ONC = "ddi_onc_ndfrt.csv.gz"


@pytest.fixture(scope="module")
def published() -> list[str]:
    """The 131 classes in the order of the published matrix."""
    table = pl.read_csv(demo_dir("knowledge") / "ddi_twosides_top40_atc3_vocab.csv.gz")
    return table.drop_nulls("index_131").sort("index_131")["atc3"].to_list()


# -- the table -----------------------------------------------------------------------------------------------------


def test_every_pair_stands_once_in_alphabetical_order():
    table = interactions()
    assert len(table) >= 650
    assert (table["drug_a"] < table["drug_b"]).all()
    assert table.select("drug_a", "drug_b").is_unique().all()


def test_severities_are_of_the_vocabulary_and_all_are_used():
    assert set(interactions()["severity"]) == set(SEVERITIES)


def test_effect_mechanism_and_source_are_stated():
    table = interactions()
    for column in ("effect", "mechanism", "source"):
        assert (table[column].str.strip_chars().str.len_chars() > 0).all(), column
    assert table["source"].str.contains(r"prescribing information|drug facts|Ayvaz et al\. 2015|Circulation").all()


def test_every_interacting_drug_is_in_the_drug_table():
    table = interactions()
    assert set(table["drug_a"]) | set(table["drug_b"]) <= set(drugs()["name"])


TEXTBOOK = [
    ("aspirin", "warfarin"),
    ("fluconazole", "warfarin"),
    ("metronidazole", "warfarin"),
    ("amiodarone", "warfarin"),
    ("sulfamethoxazole", "warfarin"),
    ("rifampin", "warfarin"),
    ("carbamazepine", "warfarin"),
    ("ibuprofen", "warfarin"),
    ("digoxin", "verapamil"),
    ("amiodarone", "digoxin"),
    ("digoxin", "quinidine"),
    ("clarithromycin", "simvastatin"),
    ("itraconazole", "simvastatin"),
    ("gemfibrozil", "simvastatin"),
    ("amiodarone", "simvastatin"),
    ("lisinopril", "spironolactone"),
    ("potassium chloride", "spironolactone"),
    ("hydrochlorothiazide", "lithium"),
    ("lisinopril", "lithium"),
    ("ibuprofen", "lithium"),
    ("nitroglycerin", "sildenafil"),
    ("linezolid", "sertraline"),
    ("fluoxetine", "phenelzine"),
    ("fluoxetine", "tramadol"),
    ("allopurinol", "azathioprine"),
    ("methotrexate", "trimethoprim"),
    ("methotrexate", "sulfamethoxazole"),
    ("linezolid", "phenelzine"),
    ("ciprofloxacin", "tizanidine"),
    ("ciprofloxacin", "theophylline"),
    ("lorazepam", "morphine"),
    ("metoprolol", "verapamil"),
    ("clopidogrel", "omeprazole"),
    ("amiodarone", "sotalol"),
    ("calcium carbonate", "levothyroxine"),
    ("meropenem", "valproic acid"),
    ("clarithromycin", "colchicine"),
    ("ketoconazole", "tacrolimus"),
]


@pytest.mark.parametrize("pair", TEXTBOOK, ids="-".join)
def test_textbook_pairs_are_listed_and_not_minor(pair):
    a, b = sorted(pair)
    row = interactions().filter(pl.col("drug_a") == a, pl.col("drug_b") == b)
    assert len(row) == 1
    assert row["severity"][0] != "minor"


MONOAMINE_OXIDASE = ("linezolid", "phenelzine", "rasagiline", "selegiline", "tranylcypromine")
CONTRAINDICATED = [
    *combinations(MONOAMINE_OXIDASE, 2),
    ("gemfibrozil", "simvastatin"),
    ("cyclosporine", "simvastatin"),
    ("danazol", "simvastatin"),
    ("clarithromycin", "simvastatin"),
]


@pytest.mark.parametrize("pair", CONTRAINDICATED, ids="-".join)
def test_what_labels_forbid_is_contraindicated(pair):
    row = interactions().filter(pl.col("drug_a") == pair[0], pl.col("drug_b") == pair[1])
    assert row["severity"].to_list() == ["contraindicated"]


SULFONAMIDES = ("sulfadiazine", "sulfamethoxazole", "trimethoprim")
PAIN_KILLERS = ("etodolac", "ibuprofen", "nabumetone", "naproxen", "oxaprozin", "piroxicam")
OTHERS = ("lansoprazole", "omeprazole", "pantoprazole", "probenecid")


@pytest.mark.parametrize("other", [*SULFONAMIDES, *PAIN_KILLERS, *OTHERS])
def test_what_keeps_methotrexate_in_the_body_is_major(other):
    a, b = sorted(["methotrexate", other])
    row = interactions().filter(pl.col("drug_a") == a, pl.col("drug_b") == b)
    assert row["severity"].to_list() == ["major"]


def test_innocent_pairs_are_not_listed():
    table = interactions()
    listed = set(zip(table["drug_a"], table["drug_b"], strict=True))
    for pair in [("acetaminophen", "cefazolin"), ("docusate", "heparin"), ("amlodipine", "metformin")]:
        assert pair not in listed


def test_severity_agrees_with_ndf_rt():
    """What NDF-RT calls critical is never below major here; what it calls significant is never minor."""
    listed = read_onc(demo_dir("knowledge") / ONC, sources=["NDF-RT"])
    both = interactions().join(listed.select("drug_a", "drug_b", level="severity"), on=["drug_a", "drug_b"])
    critical = both.filter(pl.col("level") == "Critical")["severity"]
    significant = both.filter(pl.col("level") == "Significant")["severity"]
    assert len(critical) > 100
    assert len(significant) > 100
    assert set(critical) <= {"contraindicated", "major"}
    assert "minor" not in set(significant)


def test_rows_that_name_the_expert_lists_stand_there():
    listed = read_onc(demo_dir("knowledge") / ONC)
    labels = {"NDF-RT": "NDF-RT", "ONC high-priority": "ONC-HighPriority", "ONC non-interruptive": "ONC-NonInteruptive"}
    for label, source in labels.items():
        named = interactions().filter(pl.col("source").str.contains(label, literal=True))
        missing = named.join(listed.filter(pl.col("source") == source), on=["drug_a", "drug_b"], how="anti")
        assert len(named) > 50
        assert missing.select("drug_a", "drug_b").rows() == [], label


# -- lifting -------------------------------------------------------------------------------------------------------

CLASSES = pl.DataFrame({"name": ["a", "b", "c", "d"], "atc3": ["X", "X", "Y", "Z"]})


@pytest.fixture
def reports(tmp_path: Path) -> Path:
    """Four kinds of reports on four drugs: nausea 5, headache 3, bleeding 2, torsades 1."""
    rows = {"nausea": "ac ad bc bd cd", "headache": "ac ad bd", "bleeding": "ad bc", "torsades": "bc"}
    lines = [f"{p[0]},{p[1]},C{i},{name}" for i, (name, pairs) in enumerate(rows.items()) for p in pairs.split()]
    path = tmp_path / "drug-DDI.csv"
    path.write_text("STITCH 1,STITCH 2,Polypharmacy Side Effect,Side Effect Name\n" + "\n".join(lines) + "\n")
    return path


def test_keeping_the_last_type_leaves_one_edge(reports: Path):
    pairs = read_reports(reports, CLASSES, keep_types=1, order="rarest")
    assert pairs.rows() == [("X", "Y")]  # b with c; a patient on a and c is flagged all the same
    matrix = ddi_matrix(["X", "Y", "Z"], pairs)
    assert matrix[np.triu_indices(3, 1)].mean() == pytest.approx(1 / 3)


def test_keeping_the_first_type_joins_everything(reports: Path):
    pairs = read_reports(reports, CLASSES, keep_types=1, order="commonest")
    assert pairs.rows() == [("X", "Y"), ("X", "Z"), ("Y", "Z")]
    assert ddi_matrix(["X", "Y", "Z"], pairs)[np.triu_indices(3, 1)].mean() == 1


def test_keeping_all_types_makes_the_order_void_and_shuffling_changes_nothing(reports: Path):
    lines = reports.read_text().splitlines()
    shuffled = reports.with_name("shuffled.csv")
    shuffled.write_text("\n".join([lines[0], *reversed(lines[1:])]) + "\n")
    assert read_reports(shuffled, CLASSES, keep_types=1).equals(read_reports(reports, CLASSES, keep_types=1))
    every = read_reports(reports, CLASSES, keep_types=4, order="rarest")
    assert every.equals(read_reports(reports, CLASSES, keep_types=4, order="commonest"))


def test_two_drugs_of_one_class_can_never_be_joined():
    pairs = pl.DataFrame({"drug_a": ["a"], "drug_b": ["b"]})
    assert len(class_pairs(pairs, CLASSES)) == 0
    aspirin_warfarin = class_pairs(interactions().filter(pl.col("drug_a") == "aspirin", pl.col("drug_b") == "warfarin"))
    assert ("B01A", "B01A") not in aspirin_warfarin.rows()


def test_lifting_agrees_with_a_plain_loop():
    table = interactions().filter(pl.col("severity").is_in(["contraindicated", "major"]))
    of: dict[str, set[str]] = {}
    for name, code in systemic_classes().iter_rows():
        of.setdefault(name, set()).add(code)
    expected = {
        tuple(sorted((x, y)))
        for a, b in table.select("drug_a", "drug_b").iter_rows()
        for x in of[a]
        for y in of[b]
        if x != y
    }
    codes = sorted({code for pair in expected for code in pair})
    matrix = ddi_matrix(codes, at_least="major")
    found = {(codes[i], codes[j]) for i, j in combinations(range(len(codes)), 2) if matrix[i, j]}
    assert found == expected


def test_drugs_keep_their_own_class_beside_combinations():
    """Lisinopril is also sold with hydrochlorothiazide (C09B); eye drops of timolol count for nothing here."""
    of = systemic_classes().group_by("name").agg("atc3").to_dict(as_series=False)
    classes = dict(zip(of["name"], map(set, of["atc3"]), strict=True))
    assert {"C09A", "C09B"} <= classes["lisinopril"]
    assert {"C09C", "C09D"} <= classes["losartan"]
    assert {"J01X", "P01A"} == classes["metronidazole"]
    assert "N01B" not in classes["fentanyl"]
    assert "D07A" not in classes["dexamethasone"]
    assert set(classes) >= set(drugs()["name"])


def test_a_tablet_that_is_retained_must_have_been_swallowed():
    """Potassium chloride with anticholinergics: an ulcer under a tablet, and nothing in a vein or in the lungs."""
    anticholinergic = interactions().filter(mechanism="delayed transit")
    assert set(anticholinergic["drug_b"]) == {"potassium chloride"}
    joined = set(class_pairs(anticholinergic).rows())
    assert ("A03B", "A12B") in joined
    assert not {pair for pair in joined if "B05X" in pair or "R03B" in pair}
    load = class_pairs(interactions().filter(drug_a="potassium chloride", drug_b="spironolactone")).rows()
    assert {("A12B", "C03D"), ("B05X", "C03D")} <= set(load), "what potassium does to the blood, by every route"
    assert ("B05X", "M03A") in class_pairs(interactions()).rows(), "magnesium in a vein"


def test_severity_filters_nest():
    classes = sorted(set(systemic_classes()["atc3"]))
    matrices = [ddi_matrix(classes, at_least=severity) for severity in SEVERITIES]
    counts = [int(m.sum()) for m in matrices]
    assert counts == sorted(counts)
    assert counts[0] < counts[-1]
    for tighter, wider in pairwise(matrices):
        assert not (tighter & ~wider).any()


def test_the_matrix_is_symmetric_with_a_zero_diagonal_and_follows_the_order_of_classes():
    classes = ["B01A", "M01A", "C09A", "C03D", "Q99Z"]
    matrix, source = default_ddi(classes)
    assert matrix.dtype == bool
    assert (matrix == matrix.T).all()
    assert not matrix.diagonal().any()
    assert not matrix[4].any()
    assert matrix[0, 1]
    assert matrix[2, 3]
    assert "medrec" in source
    order = [3, 1, 4, 0, 2]
    assert (ddi_matrix([classes[i] for i in order]) == matrix[np.ix_(order, order)]).all()


# -- the published graphs -------------------------------------------------------------------------------------------


def test_the_published_graph_has_448_pairs_over_131_classes(published: list[str]):
    matrix = ddi_matrix(published, read_twosides(demo_dir("knowledge") / TWOSIDES))
    assert len(published) == 131
    assert int(matrix.sum()) == 2 * 448
    assert (matrix == matrix.T).all()
    assert not matrix.diagonal().any()
    assert matrix[np.triu_indices(131, 1)].mean() == pytest.approx(0.0526, abs=5e-5)
    degree = dict(zip(published, matrix.sum(1).tolist(), strict=True))
    assert [degree[code] for code in ("M01A", "L01X", "L04A", "B01A")] == [34, 31, 28, 26]
    assert sum(d == 0 for d in degree.values()) == 40


def test_our_graph_is_neither_empty_nor_full(published: list[str]):
    matrix, _ = default_ddi(published)
    assert 0.05 <= matrix[np.triu_indices(131, 1)].mean() <= 0.12
    index = {code: i for i, code in enumerate(published)}
    hubs = [published[i] for i in np.argsort(-matrix.sum(1))[:10]]
    assert "B01A" in hubs
    for a, b in [("C01A", "C08D"), ("C09A", "C03D"), ("N02A", "N05B"), ("C10A", "J01F"), ("C09A", "C09C")]:
        assert matrix[index[a], index[b]], (a, b)


def test_the_expert_list_gives_812_pairs_by_plain_names(published: list[str]):
    """Names taken as they stand, all routes: 146 of 567 find no class. Synonyms bring more pairs."""
    folder = demo_dir("knowledge")
    classes = (
        pl.read_csv(folder / "ingredient2atc.csv.gz", infer_schema=False)
        .select(name=pl.col("ingredient_name").str.to_lowercase(), atc3=pl.col("atc4").str.slice(0, 4))
        .drop_nulls()
        .unique()
    )
    raw = pl.read_csv(folder / ONC, infer_schema=False).select(drug_a="name_1", drug_b="name_2")
    names = set(raw["drug_a"]) | set(raw["drug_b"])
    assert len(names) == 567
    assert len(names - set(classes["name"])) == 146
    plain = ddi_matrix(published, class_pairs(raw, classes))
    assert int(plain.sum()) == 2 * 812
    twosides = ddi_matrix(published, read_twosides(folder / TWOSIDES))
    assert int((plain & twosides).sum()) == 2 * 112
    synonyms = ddi_matrix(published, class_pairs(read_onc(folder / ONC), classes))
    assert synonyms.sum() > plain.sum()
    assert not (plain & ~synonyms).any()


def test_the_expert_list_speaks_our_names():
    listed = read_onc(demo_dir("knowledge") / ONC)
    assert listed.select("drug_a", "drug_b").unique().height == 4910
    names = set(listed["drug_a"]) | set(listed["drug_b"])
    assert {"aspirin", "glyburide", "rifampin"} <= names
    assert not {"acetylsalicylic acid", "glibenclamide", "rifampicin"} & names


# -- a list of the user's --------------------------------------------------------------------------------------------


@pytest.fixture
def published_reports(reports: Path) -> Path:
    """:func:`reports` with the pipelines' list of ATC codes beside it, which gives the classes of ``CLASSES``."""
    reports.with_name("drug-atc.csv").write_text("a,A01AA01\nb,A01AA02,A01AB03\nc,B01AA01\nd,C01AA01\n")
    return reports


def test_three_forms_are_told_apart_by_their_columns(tmp_path: Path, published_reports: Path):
    lifted = tmp_path / "lifted.csv"
    lifted.write_text("atc3_1,atc3_2,in_131\nB01A,A01A,1\nA01A,C01A,0\n")
    assert read_list(lifted).rows() == [("A01A", "B01A")]
    names = tmp_path / "names.csv"
    names.write_text("drug_a,drug_b\n Fluconazole ,glibenclamide\n")
    by_hand = class_pairs(pl.DataFrame({"drug_a": ["fluconazole"], "drug_b": ["glyburide"]}))
    assert len(by_hand) > 0
    assert read_list(names).equals(by_hand)
    # Four kinds of reports are fewer than the forty rarest: all of them join classes.
    assert read_list(published_reports).rows() == [("A01A", "B01A"), ("A01A", "C01A"), ("B01A", "C01A")]
    assert len({id(read_list(path)) for path in (lifted, names, published_reports)}) == 3


def test_a_list_may_be_compressed_and_reports_may_begin_with_a_hash(published_reports: Path):
    plain = read_list(published_reports)
    text = published_reports.read_text()
    packed = published_reports.with_name("drug-DDI.csv.gz")
    packed.write_bytes(gzip.compress(f"# {text}".encode()))
    assert read_list(packed).equals(plain)


def test_codes_of_reports_are_looked_for_in_the_data_folder_too(published_reports: Path, tmp_path: Path, monkeypatch):
    before = read_list(published_reports)
    folder = tmp_path / "data" / "knowledge"
    folder.mkdir(parents=True)
    codes = published_reports.with_name("drug-atc.csv").rename(folder / "drug-atc.csv")
    monkeypatch.setenv("MEDREC_DATA_DIR", str(tmp_path / "data"))
    assert read_list(published_reports).equals(before)
    codes.write_text("b,A01AA01\nc,B01AA01\n")  # others: the list is lifted again
    assert read_list(published_reports).rows() == [("A01A", "B01A")]
    codes.unlink()
    with pytest.raises(MedrecError, match=r"put the published pipelines' drug-atc\.csv beside it, or into"):
        read_list(published_reports)


@pytest.mark.parametrize(
    "text",
    [
        "atc3_1,atc3_2\nB01A,A01A\nA01A,C01A\n",
        "atc3_2,atc3_1\nB01A,A01A\nA01A,C01A\n",  # the other way round
        "atc3_1,atc3_2\nb01a,a01a\nA01a,c01A\n",
        "atc3_1,atc3_2\n B01A ,A01A\nA01A, C01A\n",
        "atc3_1,atc3_2\nB01AA,A01AB\nA01AA,C01AA\n",  # level 4
        "atc4_1,atc4_2\nB01AA,A01AB\nA01AA,C01AA\n",
        "atc3_1,atc3_2\nB01AA03,A01AB03\nA01AA01,C01AA05\nC01AA04,A01AA01\n",  # level 5
        "ATC5_1,ATC5_2\nb01aa03,a01ab03\na01aa01,c01aa05\n",
        "atc_1,atc_2\nB01A A03,A01A B03\nA01AA01,C01AA\n",  # levels side by side
        "drug_a,drug_b\nB01AA03,A01AB03\nA01AA01,C01AA05\n",
        "drug_b,drug_a,comment\nb01aa03,a01ab03,x\nA01AA01,C01AA05,y\n",
        "\ufeffatc3_1,atc3_2\nB01A,A01A\nA01A,C01A\n",
        "ATC3_1;ATC3_2\r\nB01A;A01A\r\nA01A;C01A\r\n",
        "Atc3-1\tAtc3 2\nB01A\tA01A\nA01A\tC01A\n",
        '"atc3_1"|"atc3_2"\n"B01A"|"A01A"\nA01A|C01A\n',
        ",atc3_1,atc3_2\n0,B01A,A01A\n1,A01A,C01A\n",  # pandas writes an index
        "atc3_1,atc3_2,in_131\nB01A,A01A,1\nA01A,C01A,1\nB01A,C01A,0\n",
        "atc3_1,atc3_2,in_131\nB01A,A01A,1.0\nA01A,C01A,1.0\nB01A,C01A,0.0\n",
        "atc3_1,atc3_2,in_131\nB01A,A01A,True\nA01A,C01A,TRUE\nB01A,C01A,False\n",
        "atc3_1,atc3_2,IN_131\nB01A,A01A, yes\nA01A,C01A,y\nB01A,C01A,\n",
        "atc3_1,atc3_2\nB01A,A01A\nA01A,C01A\n,\nA01A,A01A\n",  # nothing, and a class with itself
    ],
)
def test_one_list_in_many_spellings(tmp_path: Path, text: str, capsys):
    path = tmp_path / "mine.csv"
    path.write_text(text, encoding="utf-8", newline="")
    assert read_list(path).rows() == [("A01A", "B01A"), ("A01A", "C01A")]
    matrix, _ = class_interactions(["B01A", "A01A", "C01A"], path)
    assert matrix.tolist() == [[False, True, False], [True, False, True], [False, True, False]]
    assert capsys.readouterr().err == ""


def test_codes_that_are_too_coarse_are_left_out_aloud(tmp_path: Path, capsys):
    path = tmp_path / "mixed.csv"
    path.write_text("atc3_1,atc3_2\nB01A,A01A\nC10,A01A\nstatins,A01A\n")
    assert read_list(path).rows() == [("A01A", "B01A")]
    said = capsys.readouterr().err
    assert "mixed.csv: 1 ATC level 2 (C10), 1 other words (STATINS) of 4 are left out" in said


def test_a_list_that_meets_few_classes_says_so_once(tmp_path: Path, capsys, published: list[str]):
    few = tmp_path / "only-few.csv"
    few.write_text("atc3_1,atc3_2\nC09A,C03D\nB01A,M01A\n")
    for _ in range(3):
        class_interactions(published, few)
    said = capsys.readouterr().err
    assert said.count("only-few.csv names interactions of 4 of the cohort's 131 classes only") == 1
    class_interactions(published, demo_dir("knowledge") / TWOSIDES)
    assert capsys.readouterr().err == "", "the published list meets most of its own"


@pytest.mark.parametrize(
    "spelled",
    ["CID000002173", "CID100002173", "cid000002173", "CIDs00002173", "CIDm00002173", "CID2173", "2173", "2173.0"],
)
def test_stitch_identifiers_in_every_spelling_meet(tmp_path: Path, spelled: str):
    header = "stitch 1,STITCH 2,Polypharmacy side effect,Side Effect Name\n"
    (tmp_path / "drug-atc.csv").write_text("CID000002173,j01ca01\nCID000003015,G03HA01\n")
    reports = tmp_path / "drug-DDI.csv"
    reports.write_text(f"{header}{spelled},CID000003015,C0001,nausea\n")
    assert read_list(reports).rows() == [("G03H", "J01C")]
    reports.write_text(f"{header.replace(',', ';')}CID000003015;{spelled};C0001;nausea, vomiting\n")
    assert read_list(reports).rows() == [("G03H", "J01C")], "columns changed, another separator"


def test_reports_and_codes_of_different_sources_are_named(tmp_path: Path):
    (tmp_path / "drug-atc.csv").write_text("CID000002173,J01CA01\nCID000003015,G03HA01\n")
    reports = tmp_path / "drug-DDI.csv"
    reports.write_text("STITCH 1,STITCH 2,Polypharmacy Side Effect\nDB00682,DB00945,C0001\n")
    with pytest.raises(MedrecError, match=r"it has 1 DrugBank identifiers \(DB00682\).* 2 STITCH identifiers \(CID0"):
        read_list(reports)


def test_a_changed_file_is_read_again(tmp_path: Path):
    path = tmp_path / "list.csv"
    path.write_text("atc3_1,atc3_2\nA01A,B01A\n")
    assert read_list(path) is read_list(path)
    path.write_text("atc3_1,atc3_2\nA01A,B01A\nA01A,C01A\n")
    assert len(read_list(path)) == 2


def test_drugs_that_have_no_class_are_left_out_aloud(tmp_path: Path, capsys):
    path = tmp_path / "names.csv"
    path.write_text("drug_a,drug_b\nfluconazole,warfarin\nwarfarin,moonshine\n")
    assert len(read_list(path)) > 0
    said = capsys.readouterr().err
    assert "names.csv: 1 of 3 drugs are not known here and are left out (moonshine)" in said


def test_a_list_says_its_name_and_the_books_own_says_it_too(tmp_path: Path):
    path = tmp_path / "mine.csv"
    path.write_text("atc3_1,atc3_2\nC03D,C09A\n")
    matrix, source = class_interactions(["B01A", "C09A", "C03D"], path)
    assert source == "the list mine.csv"
    assert [(int(i), int(j)) for i, j in zip(*np.nonzero(np.triu(matrix)), strict=True)] == [(1, 2)]
    assert "medrec's own" in class_interactions(["B01A", "C09A"])[1]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("other.csv", b"first,second\nA01A,B01A\n", r"columns first, second .* atc3_1.*drug_a.*STITCH 1"),
        ("half.csv", b"drug_a,other\na,b\n", "is no list that we know"),
        ("empty.csv", b"", "cannot be read as CSV"),
        ("cut.csv.gz", gzip.compress(bytes(range(256)) * 99, mtime=0)[:90], "cannot be read as CSV"),
        ("none.csv", None, "does not exist"),
        ("strange.csv", b"atc3_1,atc3_2\nX,Y\n", r"names no ATC class: seen were 2 ATC level 1 \(X\)"),
        ("coarse.csv", b"atc3_1,atc3_2\nA01,B01\nA01,C10\n", r"seen were 3 ATC level 2 \(A01\)\. Wanted are ATC codes"),
        ("bank.csv", b"drug_a,drug_b\nDB00682,DB00945\n", r"no drug that we know: seen were 2 DrugBank identifiers"),
        ("numbers.csv", b"drug_a,drug_b\n11289,1191\n", r"seen were 2 numbers \(11289\)\. Wanted are generic names"),
        ("nobody.csv", b"drug_a,drug_b\n", "names no drug that we know: seen were nothing"),
        (
            "others.csv",
            b"atc3_1,atc3_2\nC03D,C09A\n",
            r"no pair of this cohort's 2 classes: it has 1 pairs of 2 classes",
        ),
        ("within.csv", b"atc3_1,atc3_2\nA01AA01,A01AB03\n", "names no pair of this cohort's 2 classes: it has 0 pairs"),
        ("unmarked.csv", b"atc3_1,atc3_2,in_131\nA01A,B01A,0\n", "no row is marked in in_131"),
        ("doubtful.csv", b"atc3_1,atc3_2,in_131\nA01A,B01A,perhaps\n", "in_131 is 'perhaps' in one row"),
        ("wide.csv", "atc3_1,atc3_2\nA01A,B01A\n".encode("utf-16"), "not text in UTF-8"),
        ("blank.csv", b"\natc3_1,atc3_2\nA01A,B01A\n", "its first line is empty"),
    ],
)
def test_what_is_no_list_is_refused(tmp_path: Path, name: str, content: bytes | None, said: str):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(MedrecError, match=said):
        class_interactions(["A01A", "B01A"], path)


def test_codes_of_reports_must_be_atc(published_reports: Path):
    published_reports.with_name("drug-atc.csv").write_text("a,A01AA01\nb;A01AA01,nausea\n")
    with pytest.raises(MedrecError, match="line 2"):
        read_list(published_reports)


def test_rates_by_the_published_list_need_the_published_mapping(monkeypatch, published: list[str]):
    """Pooled DDI rate of what was prescribed in the MIMIC-III demo.

    By the papers' list these 100 patients have about .087 where classes come from the NDC, the first code of each, and
    only the 131 classes count. The same list over our own classes by route says .055: a rate has a unit.
    """
    monkeypatch.setenv("MEDREC_DATA_DIR", str(demo_dir("mimic3-demo").parent))
    path = demo_dir("knowledge") / TWOSIDES

    def rate(cohort, matrix, counted=None):
        given = cohort.codes["medication"].multi_hot(cohort.n_medications)
        interacting, pairs = ddi_counts(given if counted is None else given & counted, matrix)
        return interacting.sum() / pairs.sum()

    by_route = load_cohort("mimic3-demo")
    classes = by_route.vocab["medication"].codes
    assert rate(by_route, class_interactions(classes)[0]) == pytest.approx(0.139, abs=0.002)
    assert rate(by_route, class_interactions(classes, path)[0]) == pytest.approx(0.0545, abs=0.002)
    as_published = load_cohort("mimic3-demo", mapping="ndc", class_rule="first_code")
    classes = as_published.vocab["medication"].codes
    of_131 = np.isin(classes, published)
    assert rate(as_published, class_interactions(classes, path)[0], of_131) == pytest.approx(0.085, abs=0.002)


# -- chance --------------------------------------------------------------------------------------------------------


def _random_graph(n: int, edges: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    i, j = np.triu_indices(n, 1)
    chosen = rng.choice(len(i), size=edges, replace=False)
    matrix = np.zeros((n, n), dtype=bool)
    matrix[i[chosen], j[chosen]] = True
    return matrix | matrix.T


def test_rewiring_keeps_degrees_and_moves_edges():
    graph = _random_graph(40, 120, seed=0)
    other = rewire(graph, seed=1)
    assert (other.sum(0) == graph.sum(0)).all()
    assert (other == other.T).all()
    assert not other.diagonal().any()
    assert (other & graph).sum() < 0.6 * graph.sum()
    assert (rewire(graph, seed=1) == other).all()
    assert (rewire(graph, seed=2) != other).any()


def test_a_star_has_no_other_graph_with_its_degrees():
    star = np.zeros((6, 6), dtype=bool)
    star[0, 1:] = star[1:, 0] = True
    assert (rewire(star, seed=0) == star).all()


def test_a_planted_overlap_is_found_and_a_rewired_graph_is_not():
    graph = _random_graph(40, 100, seed=3)
    planted = graph & np.triu(np.random.default_rng(0).random((40, 40)) < 0.6)
    planted |= planted.T
    observed, null, p = overlap_test(graph, planted, n=150, seed=0)
    assert observed == planted.sum() // 2
    assert p < 0.01
    assert null.max() < observed
    innocent = rewire(graph, seed=99)
    _, _, p = overlap_test(graph, innocent, n=150, seed=0)
    assert p > 0.01


def test_shared_edges_of_two_known_graphs():
    a = np.zeros((4, 4), dtype=bool)
    b = np.zeros((4, 4), dtype=bool)
    for i, j in [(0, 1), (2, 3)]:
        a[i, j] = a[j, i] = True
    for i, j in [(0, 1), (0, 2)]:
        b[i, j] = b[j, i] = True
    observed, null, p = overlap_test(a, b, n=300, seed=0)
    # The three perfect matchings of four nodes share 1, 1 and 0 edges with b: p(≥ 1) is about 2/3.
    assert observed == 1
    assert set(null.tolist()) == {0, 1}
    assert p == pytest.approx(2 / 3, abs=0.1)


# -- messages ------------------------------------------------------------------------------------------------------


def test_mistakes_are_named(tmp_path: Path):
    wrong = tmp_path / "wrong.csv"
    wrong.write_text("first,second\nA01A,B01A\n")
    for read in (read_twosides, read_onc, lambda path: read_reports(path, CLASSES)):
        with pytest.raises(MedrecError, match="is missing"):
            read(wrong)
        with pytest.raises(MedrecError, match="does not exist"):
            read(tmp_path / "absent.csv")
    with pytest.raises(MedrecError, match="fatal"):
        ddi_matrix(["A01A"], at_least="fatal")
    with pytest.raises(MedrecError, match="alphabetical"):
        read_reports(wrong, CLASSES, order="alphabetical")
    with pytest.raises(MedrecError, match="atc3_2"):
        ddi_matrix(["A01A"], pl.DataFrame({"atc3_1": ["A01A"]}))
