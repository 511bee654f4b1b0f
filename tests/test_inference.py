"""Asking a run about a new patient."""

import dataclasses
import json

import numpy as np
import polars as pl
import pytest

import medrec.inference
from medrec import cli
from medrec.data import load_cohort
from medrec.data.cohort import KINDS, Vocabulary
from medrec.data.spelling import plain_code
from medrec.inference import FIELDS, Codes, UnknownCodeError, read_history, recommend
from medrec.lab import behaviour
from medrec.models.registry import get, systems
from medrec.tasks.visits import predict
from medrec.training import load_system, train
from medrec.types import MedrecError
from tests.conftest import demo_dir
from tests.toys import random_cohort, real_classes


def codes_of(kind, *codes):
    """Ways to write the given codes are looked for; each has its own letter for a title."""
    return Codes(Vocabulary(kind, codes, tuple("abcdefghijk"[: len(codes)])))


PATH = "path:heart|valve repair"
DIAGNOSES = codes_of(
    "diagnosis", "9:4280", "10:I509", "9:V103", "10:V103", "ccs:98", PATH, "9:E8889", "10:E8889",
    "9:0389",
)  # fmt: skip
PROCEDURES = codes_of("procedure", "9:9604", "9:966", "10:0BH17EZ")
CLASSES = Codes(
    Vocabulary("medication", ("B01A", "C03C", "N02B"), ("antithrombotics", "loop diuretics", "paracetamol"))
)
SYSTEMS = {
    "lr": None,
    "retain": {"epochs": 2, "size": 8},
    "last-visit": None,
    "popularity": None,
    "tests.models.toy_system:SYSTEM": None,
}


@pytest.fixture(scope="module")
def cohort():
    return random_cohort(60, seed=1)


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDREC_RUNS_DIR", str(tmp_path / "runs"))


def visit_of(cohort, visit, *kinds):
    """What a visit of the cohort looks like to somebody who asks."""
    return {kind: [cohort.vocab[kind].codes[i] for i in cohort.codes[kind][visit]] for kind in kinds}


def asked(run, cohort, patient):
    """The recommendation for the last visit of one of the cohort's patients, and the place of that visit."""
    *before, now = range(*cohort.visit_offsets[[patient, patient + 1]])
    history = [visit_of(cohort, visit, "diagnosis", "procedure", "medication") for visit in before]
    current = visit_of(cohort, now, "diagnosis", "procedure")
    answer = recommend(run, diagnoses=current["diagnosis"], procedures=current["procedure"], history=history)
    return answer, now


def listed(cohort, chosen):
    return {cohort.vocab["medication"].codes[i] for i in np.flatnonzero(chosen)}


# -- codes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("codes", "written", "code"),
    [
        *((DIAGNOSES, written, "9:4280") for written in ("428.0", "4280", " 428.0 ", "'4280'", "9:428.0", "4280.0")),
        *((DIAGNOSES, written, "9:4280") for written in ("ICD9:4280", "icd-9: 428.0", "ICD-9 428.0", "9.0:4280")),
        *((DIAGNOSES, written, "10:I509") for written in ("i50.9", "I509", "ICD10CM:I50.9", "ICD-10 i50.9", "10:i509")),
        *((DIAGNOSES, written, "10:V103") for written in ("10:V10.3", "icd10:v103", "ICD 10 V10.3")),
        *((DIAGNOSES, written, "9:V103") for written in ("9:v103", "9: V10.3")),
        *((DIAGNOSES, written, "ccs:98") for written in ("CCS:98", "ccs: 98", "98")),
        *((DIAGNOSES, written, PATH) for written in ("Heart|Valve repair", "PATH:heart|valve REPAIR")),
        # ICD-9 writes the dot of an external cause after four characters, ICD-10 after three.
        (DIAGNOSES, "E888.9", "9:E8889"),
        (DIAGNOSES, "E88.89", "10:E8889"),
        *((PROCEDURES, written, "9:9604") for written in ("96.04", "9604", "9:96.04", "9604.0")),
        *((PROCEDURES, written, "9:966") for written in ("96.6", "966", "966.0")),
        *((PROCEDURES, written, "10:0BH17EZ") for written in ("0bh17ez", "10:0BH17EZ", "ICD10PCS:0bh17ez")),
    ],
)  # fmt: skip
def test_codes_as_people_write_them(codes, written, code):
    assert codes.vocabulary.codes[codes.find(written)] == code


@pytest.mark.parametrize(
    ("codes", "written", "said"),
    [
        (DIAGNOSES, "V10.3", "The diagnosis code 'V10.3' exists as 9:V103 and 10:V103: write one of these."),
        (DIAGNOSES, "E8889", "exists as 9:E8889 and 10:E8889"),
        (DIAGNOSES, "428.9", "code '428.9' among its 9, which are ICD-9 and ICD-10 and CCS. Near it: 9:4280 (a)"),
        (DIAGNOSES, "38.9", "Near it: 9:0389 (i)"),
        (DIAGNOSES, "10:4280", "no diagnosis code '10:4280'"),
        (DIAGNOSES, "I21.4", "no diagnosis code 'I21.4' among its 9, which are ICD-9 and ICD-10 and CCS."),
        (PROCEDURES, "96.05", "Near it: 9:9604 (a), 9:966 (b)"),
        (codes_of("procedure"), "96.05", "The run knows no procedure codes at all."),
        *((DIAGNOSES, nothing, "says nothing") for nothing in ("", " ", "NULL", "nan", "\\N")),
    ],
)  # fmt: skip
def test_codes_that_cannot_be_placed(codes, written, said):
    with pytest.raises(UnknownCodeError) as raised:
        codes.find(written)
    assert said in str(raised.value)


@pytest.mark.parametrize(
    "word", ["4280", "I509", "E8889", "0BH17EZ", "V103", "4280.0", "i509", "NA", "NULL", "٤٢", "NA1"]
)
@pytest.mark.parametrize("kind", ["diagnosis", "procedure"])
def test_codes_are_spelled_as_readers_spell_them(word, kind):
    assert medrec.inference._plain(word, kind) == (plain_code(word, kind) or "")


@pytest.mark.parametrize(
    ("code", "written"),
    [
        ("C03C", ("C03C", "c03c", " C03C ", "C03CA", "c03ca", "C03CA01", "C03 CA01", "c03ca99")),
        ("C03C", ("furosemide", "Furosemide", "FUROSEMIDE 40 mg", "frusemide", "Lasix", "lasix®")),
        ("B01A", ("warfarin", "warfarin sodium", "Coumadin", "ASA", "acetylsalicylic acid", "xarelto")),
        ("N02B", ("paracetamol", "acetaminophen", "APAP", "Tylenol", "N02BE01")),
    ],
)
def test_medications_as_people_write_them(code, written):
    for word in written:
        assert CLASSES.vocabulary.codes[CLASSES.find(word)] == code


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("spironolactone", "'spironolactone' is of class C03D (potassium-sparing"),
        ("C03DA01", "'C03DA01' is of class C03D (potassium-sparing"),
        ("c03d", "which is not among the run's 3 medications"),
        ("X99Z", "There is no ATC class X99Z"),
        ("C03", "'C03' is a group of ATC classes. Give one of them"),
        ("c", "'c' is a group of ATC classes"),
        ("warfrin", "There is no drug 'warfrin'. Did you mean 'warfarin'?"),
        ("coumadine", "Did you mean 'coumadin'?"),
        ("furosem", "There is no drug 'furosem'. Did you mean 'furosemide'?"),
        ("furosemide, warfarin", "names several drugs. Give each of them by itself."),
        ("normal saline", "'normal saline' is a fluid"),
        ("qqq", "There is no drug 'qqq'. Give an ATC class such as C03C, or a drug's name."),
        ("428.0", "There is no drug '428.0'."),
        ("", "says nothing"),
        ("nan", "says nothing"),
    ],
)
def test_medications_that_cannot_be_placed(written, said):
    with pytest.raises(UnknownCodeError) as raised:
        CLASSES.find(written)
    assert said in str(raised.value)


# -- what is recommended -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(SYSTEMS))
def test_a_patient_of_the_cohort_gets_what_the_test_gave(cohort, store, name):
    run = train(name, cohort, settings=SYSTEMS[name])
    system, context = load_system(run)
    prediction = predict(system, cohort, context)
    patient = int(np.flatnonzero(np.diff(cohort.visit_offsets) >= 3)[0])
    answer, now = asked(run, cohort, patient)
    expected = prediction.at(run.threshold)[now] if run.threshold is not None else prediction.recommended[now]
    assert set(answer.medications["code"]) == listed(cohort, expected)
    if prediction.scores is not None:
        p = dict(zip(cohort.vocab["medication"].codes, prediction.scores[now], strict=True))
        for code, probability in answer.medications.select("code", "probability").iter_rows():
            assert probability == pytest.approx(float(p[code]), abs=1e-6)
    assert answer.left_out.is_empty()


@pytest.mark.parametrize("name", ["lr", "retain", "tests.models.toy_system:SYSTEM"])
def test_the_set_is_that_of_the_tuned_threshold_and_not_of_the_systems_own(cohort, store, name):
    """An own threshold of .9 recommends next to nothing, so that the two sets can be told apart."""
    run = train(name, cohort, settings={**(SYSTEMS[name] or {}), "threshold": 0.9})
    assert run.own_threshold == 0.9
    assert run.threshold < 0.8
    system, context = load_system(run)
    prediction = predict(system, cohort, context)
    tuned, own = prediction.at(run.threshold), prediction.recommended
    last = cohort.visit_offsets[1:] - 1
    differ = np.flatnonzero(((tuned != own) & prediction.scored[:, None])[last].any(1))
    assert len(differ) > 10
    for patient in differ[:5]:
        answer, now = asked(run, cohort, patient)
        assert answer.threshold == run.threshold
        assert set(answer.medications["code"]) == listed(cohort, tuned[now]) != listed(cohort, own[now])


def test_interacting_pairs_are_named_by_the_list_that_is_asked_for(store, tmp_path):
    cohort = real_classes(60, seed=1)
    run = train("popularity", cohort)
    answer = recommend(run, diagnoses=["100"])
    codes = answer.medications["code"].to_list()
    matrix, index = run.ddi(), cohort.vocab["medication"].index
    expected = {frozenset((a, b)) for a in codes for b in codes if matrix[index[a], index[b]]}
    assert expected
    assert {frozenset(pair) for pair in answer.interactions.iter_rows()} == expected
    assert "medrec's own" in answer.ddi
    mine = tmp_path / "mine.csv"
    mine.write_text(f"atc3_1,atc3_2\n{codes[0]},{codes[1]}\n")
    other = recommend(run, diagnoses=["100"], ddi=mine)
    assert other.interactions.rows() == [(codes[0], codes[1])]
    assert other.ddi == "the list mine.csv"


def test_a_history_is_asked_for(cohort, store):
    run = train("last-visit", cohort)
    with pytest.raises(MedrecError, match="--history"):
        recommend(run, diagnoses=["9:100"])
    for nothing in ({}, {"medications": ["warfrin"]}):
        with pytest.raises(MedrecError, match="knows nothing of the earlier visits given"):
            recommend(run, diagnoses=["9:100"], history=[nothing])


def test_a_visit_of_which_nothing_is_known_is_left_out_and_said(cohort, store):
    run = train("last-visit", cohort)
    known = {"medications": ["A01B"]}
    plain = recommend(run, diagnoses=["10.0"], history=[known])
    answer = recommend(run, diagnoses=["10.0"], history=[{}, known, {"diagnoses": ["99.9"]}])
    assert plain.medications["code"].to_list() == ["A01B"]
    assert answer.medications.equals(plain.medications)
    assert answer.left_out.rows() == [
        ("diagnosis", "99.9", answer.left_out["why"][0]),
        ("visit", "1", "It holds no codes."),
        ("visit", "3", "The run knows none of its codes."),
    ]
    assert answer.understood.select("visit", "kind", "given", "code").rows() == [
        (2, "medication", "A01B", "A01B"),
        (0, "diagnosis", "10.0", "9:100"),
    ]


def test_plural_and_singular_say_the_same_and_nobodys_list_is_lost(cohort, store):
    run = train("last-visit", cohort)
    for visit in (
        {"medications": ["A01B", "A03B"]},
        {"medication": ("A01B", "A03B")},
        {"medications": np.array(["A03B", "A01B"])},
        {"medication": ["A01B"], "medications": pl.Series(["A03B"])},
    ):
        assert set(recommend(run, history=[visit]).medications["code"]) == {"A01B", "A03B"}


def test_unknown_codes_are_left_out_and_said_or_refused(cohort, store):
    run = train("lr", cohort)
    plain = recommend(run, diagnoses=["10.0"])
    answer = recommend(run, diagnoses=["10.0", "99.9", "99.9"], history=[{"medications": ["warfrin"]}])
    assert answer.medications.equals(plain.medications)
    assert answer.left_out.select("kind", "code").rows() == [
        ("medication", "warfrin"),
        ("diagnosis", "99.9"),
        ("visit", "1"),
    ]
    assert "Did you mean 'warfarin'?" in answer.left_out["why"][0]
    for code in ({"diagnoses": ["99.9"]}, {"history": [{"medications": ["warfrin"]}]}):
        with pytest.raises(MedrecError, match=r"99\.9|warfrin"):
            recommend(run, procedures=["1.1"], strict=True, **code)
    with pytest.raises(MedrecError, match=r"^Unknown: '99\.9', 'Q1'\. The run knows no diagnosis code '99\.9'"):
        recommend(run, diagnoses=["99.9", "10.0", "Q1"], strict=True)


def test_what_is_given_as_the_wrong_kind_gets_a_hint(store):
    run = train("popularity", real_classes(60, seed=1))
    now = {"diagnoses": ["furosemide", "C03CA01", "c03d", "1.1"], "procedures": ["100", "warfarin"]}
    answer = recommend(run, **now, history=[{"medications": ["10.2", "furosemide"]}])
    why = {(kind, code): why for kind, code, why in answer.left_out.iter_rows()}
    assert why["diagnosis", "furosemide"].endswith(
        "It is a medication: give it among the medications of earlier visits."
    )
    assert why["diagnosis", "C03CA01"].endswith("It is a medication: give it among the medications of earlier visits.")
    assert why["diagnosis", "c03d"].endswith("It is a medication, of class C03D.")
    assert why["diagnosis", "1.1"].endswith("It is a procedure: give it among the procedures.")
    assert why["procedure", "100"].endswith("It is a diagnosis: give it among the diagnoses.")
    assert why["procedure", "warfarin"].endswith("medications of earlier visits.")
    assert why["medication", "10.2"].endswith("It is a diagnosis: give it among the diagnoses.")


def test_a_code_twice_and_among_two_kinds_counts_once_in_each(cohort, store):
    """9:100 is a diagnosis, 9:10 a procedure; ``10.0`` could be either and is what its list says."""
    run = train("lr", cohort)
    once = recommend(run, diagnoses=["100"], procedures=["1.0"])
    often = recommend(run, diagnoses=["10.0", "100", "9:100"] * 1000, procedures=["1.0", "10.0", "10"])
    assert often.medications.equals(once.medications)
    assert often.understood.rows() == [
        (0, "diagnosis", "10.0", "9:100", "title of 9:100"),
        (0, "diagnosis", "100", "9:100", "title of 9:100"),
        (0, "diagnosis", "9:100", "9:100", "title of 9:100"),
        (0, "procedure", "1.0", "9:10", "title of 9:10"),
        (0, "procedure", "10", "9:10", "title of 9:10"),
    ]
    assert often.left_out["code"].to_list() == ["10.0"]


def test_nothing_is_recommended_for_nobody(cohort, store, monkeypatch):
    run = train("lr", cohort)
    monkeypatch.setattr(medrec.inference, "default_run", None)  # a mistake should not wait for a training
    for nothing in ({}, {"history": []}, {"history": None, "diagnoses": None}, {"history": [{}, {"medications": []}]}):
        for asked_run in (run, None):
            with pytest.raises(
                MedrecError, match=r"Nothing is said of the patient. Give codes of the visit, e.g. --diagn"
            ):
                recommend(asked_run, **nothing)
    with pytest.raises(MedrecError, match=r"none of the 2 codes given\. .*'99\.9'"):
        recommend(run, diagnoses=["99.9", "98.9"])


def test_a_run_is_an_object_or_a_folder(cohort, store, tmp_path):
    run = train("lr", cohort)
    answers = [recommend(given, diagnoses=["100"]).plain() for given in (run, run.folder, str(run.folder))]
    assert answers[0] == answers[1] == answers[2]
    (tmp_path / "file").write_text("x")
    for wrong in (tmp_path, tmp_path / "file", tmp_path / "none", str(run.folder.parent)):
        with pytest.raises(MedrecError, match="holds no run"):
            recommend(wrong, diagnoses=["100"])
    with pytest.raises(MedrecError, match=r"A run is what `medrec.train` gives, or its folder, not 7"):
        recommend(7, diagnoses=["100"])


def test_a_ranker_says_why_it_cannot(cohort, store):
    for name in ("most-popular", "tests.tasks.toy_ranker:SYSTEM"):
        run = train(name, cohort)
        with pytest.raises(MedrecError, match="ranks medications for the patients that it was trained on"):
            recommend(run, diagnoses=["10.0"])


# -- without a run -------------------------------------------------------------------------------------------------


@pytest.fixture
def small_default(monkeypatch, cohort, store):
    """The toy behind the name of the default cohort."""
    monkeypatch.setattr(medrec.inference, "load_cohort", lambda name: {"synthetic": cohort}[name])


def test_without_a_run_a_regression_is_trained_once_and_said(small_default, cohort, capsys):
    first = recommend(diagnoses=["10.0"])
    assert "logistic regression is trained on the cohort 'synthetic'" in capsys.readouterr().err
    second = recommend(diagnoses=["10.0"])
    assert capsys.readouterr().err == ""
    named = recommend(train("lr", cohort), diagnoses=["10.0"])
    assert first.run.content_key == second.run.content_key == named.run.content_key
    assert first.plain() == second.plain() == named.plain()


def test_an_answer_fits_into_json(small_default):
    answer = recommend(diagnoses=["10.0", "99.9"])
    found = json.loads(json.dumps(answer.plain()))
    assert found["system"] == "lr"
    assert found["cohort"]["source"] == "synthetic"
    assert found["threshold"] == answer.run.threshold
    assert [m["code"] for m in found["medications"]] == answer.medications["code"].to_list()
    assert set(found["medications"][0]) == {"code", "title", "probability"}
    assert [entry["code"] for entry in found["left_out"]] == ["99.9"]
    assert found["older_code"] == []


def test_an_answer_as_a_table(store, tmp_path):
    run = train("popularity", real_classes(60, seed=1))
    answer = recommend(run, diagnoses=["100"])
    frame = answer.frame()
    assert frame.columns == ["code", "title", "probability", "interacts_with"]
    assert frame.drop("interacts_with").equals(answer.medications)
    found = {
        frozenset((a, b))
        for a, others in frame.select("code", "interacts_with").iter_rows()
        for b in (others or "").split()
    }
    assert found == {frozenset(pair) for pair in answer.interactions.iter_rows()}
    assert pl.read_csv(answer.write_csv(tmp_path / "out.csv")).equals(frame)
    with pytest.raises(MedrecError, match=r"Cannot write .*: No such file or directory. Choose another file"):
        answer.write_csv(tmp_path / "nowhere" / "out.csv")


# -- every system, whatever is said of the patient -----------------------------------------------------------------

KNOWN = {
    "diagnosis": ["9:100", "100", "10.1", "102", " 10.3", "'104'", "ICD-9 10.5"],
    "procedure": ["9:10", "1.1", "12"],
    "symptom": ["symptom:0", "SYMPTOM:1"],
    "medication": ["C03C", "furosemide", "c10aa05", "n02a", "Coumadin", " b01a "],
}
UNKNOWN = ["99.9", "spironolactone", "", "NULL", "x" * 200, "9:", ":", "I10", "1" * 50, "Ünbekannt", "10:100"]


NOW = ("diagnoses", "procedures", "symptoms")
PARTS = [
    ({"diagnoses": ["100"]}, [{"diagnoses": ["10.1"]}]),  # earlier visits without medications
    ({"diagnoses": ["100"]}, [{"procedures": ["1.1"]}, {"symptoms": ["symptom:0"]}]),
    ({"procedures": ["1.1"]}, [{"medications": ["furosemide"]}]),
    ({}, [{"medications": ["furosemide"]}, {}]),
    ({"diagnoses": ["100"]}, [{}]),
    ({"diagnoses": ["100"], "procedures": None}, None),
    ({"symptoms": ["symptom:0"]}, []),
    ({"diagnoses": ["99.9"]}, [{"medications": ["warfrin"]}]),
    ({}, []),
]


def any_part(rng):
    """A visit and a history of which any part may be missing, empty or unknown."""

    def words(name):
        pool = np.array([*KNOWN[FIELDS[name]], *UNKNOWN], dtype=object)
        return None if rng.random() < 0.1 else rng.choice(pool, rng.integers(0, 5)).tolist()

    def visit(names):
        return {name: words(name) for name in names if rng.random() < 0.6}

    return visit(NOW), [visit(FIELDS) for _ in range(rng.integers(0, 4))]


@pytest.fixture(scope="module", params=[system.name for system in systems("visits")])
def trained(request, tmp_path_factory):
    """A run of each system on the toy cohort, held in memory."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDREC_RUNS_DIR", str(tmp_path_factory.mktemp("runs")))
        known = {field.name for field in dataclasses.fields(get(request.param).config)}
        small = {key: value for key, value in behaviour.TOY.items() if key in known}
        run = train(request.param, behaviour.toy_cohort(), settings=small)
        loaded = load_system(run)

        def this_one(asked):
            """The fixture outlives its tests: others of this module ask for runs of their own."""
            return loaded if asked.folder == run.folder else load_system(asked)

        patch.setattr(medrec.inference, "load_system", this_one)
        yield run


@pytest.mark.parametrize("parts", [*PARTS, "drawn"], ids=str)
def test_every_system_answers_whatever_part_of_a_record_is_given(trained, parts):
    rng = np.random.default_rng(5)
    for now, history in [any_part(rng) for _ in range(15)] if parts == "drawn" else [parts]:
        check_answer(trained, now, history)


def check_answer(trained, now, history):
    """An answer in which every word is accounted for; or an error, where there is nothing to answer."""
    system, _ = medrec.inference.load_system(trained)
    said = [{(FIELDS[name], w) for name, ws in visit.items() for w in ws or ()} for visit in (now, *(history or ()))]
    words, past = set().union(*said), set().union(*said[1:])
    known = {(kind, word) for kind, word in words if word in KNOWN[kind]}
    if not known or (system.needs_history and not past & known):
        with pytest.raises(MedrecError):
            recommend(trained, **now, history=history)
        return
    answer = recommend(trained, **now, history=history)
    plain = json.loads(json.dumps(answer.plain(), allow_nan=False))
    listed = [medication["code"] for medication in plain["medications"]]
    assert len(set(listed)) == len(listed)
    assert set(listed) <= set(behaviour.CLASSES)
    assert {pair[side] for pair in plain["interactions"] for side in ("first", "second")} <= set(listed)
    assert {reason["medication"] for reason in plain["reasons"] or ()} <= set(listed)
    assert {(row["kind"], row["given"]) for row in plain["understood"]} == known
    assert {(row["kind"], row["code"]) for row in plain["left_out"] if row["kind"] != "visit"} == words - known
    # What was understood, written as the run writes it, is the same patient.
    again = [{} for _ in range(len(history or ()) + 1)]
    for row in plain["understood"]:
        again[row["visit"]].setdefault(row["kind"], []).append(row["code"])
    today = {name: again[0].get(FIELDS[name]) for name in NOW}
    assert recommend(trained, **today, history=again[1:]).medications.equals(answer.medications)


# -- classes that training never had -----------------------------------------------------------------------------------

TOY_NLAMMR = {"encoder": "random-code", "size": 8, "molecule_size": 8, "gin_layers": 2, "epochs": 2}


@pytest.fixture(scope="module")
def open_run(tmp_path_factory):
    """An NLA-MMR trained on classes among which there is no calcium channel blocker."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDREC_RUNS_DIR", str(tmp_path_factory.mktemp("runs")))
        patch.setenv("MEDREC_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        cohort = real_classes(30, seed=2)
        assert "C08C" not in cohort.vocab["medication"].codes
        yield train("nla-mmr", cohort, settings=TOY_NLAMMR), cohort


def test_a_class_that_was_never_in_training_is_scored_and_the_others_stay_as_they_are(open_run):
    run, cohort = open_run
    words = visit_of(cohort, 0, "diagnosis")
    before = recommend(run, diagnoses=words["diagnosis"])
    after = recommend(run, diagnoses=words["diagnosis"], new=["amlodipine", "C08C"])
    (row,) = after.new.to_dicts()
    assert row["code"] == "C08C"
    assert row["title"] == "dihydropyridine calcium channel blockers"
    assert 0 < row["probability"] < 1
    assert 1 <= row["place"] <= cohort.n_medications + 1
    assert before.new.is_empty()
    old = after.medications.filter(pl.col("code") != "C08C")
    assert old["code"].to_list() == before.medications["code"].to_list()
    np.testing.assert_allclose(old["probability"], before.medications["probability"], atol=1e-6)
    assert ("C08C" in after.medications["code"]) == (row["probability"] >= run.threshold)
    assert after.plain()["new"] == [row]
    printed = cli._recommended(after)
    assert f"Never in training: C08C {row['title']}, probability {row['probability']:.3f}" in printed
    assert "Never in training" not in cli._recommended(before)


def test_earlier_visits_may_name_the_new_class(open_run):
    run, cohort = open_run
    now, past = visit_of(cohort, 0, "diagnosis")["diagnosis"], [{"medications": ["C08C", "C03C"]}]
    assert "C08C" in recommend(run, diagnoses=now, history=past).left_out["code"]
    answer = recommend(run, diagnoses=now, history=past, new=["C08C"])
    assert answer.left_out.is_empty()
    other = recommend(run, diagnoses=now, history=[{"medications": ["C03C"]}], new=["C08C"])
    assert answer.new["probability"][0] != other.new["probability"][0]


@pytest.mark.parametrize(
    ("new", "message"),
    [
        (["C03C"], "which the run has: it is scored anyway"),
        (["Z99Z"], "There is no ATC class Z99Z"),
        (["nosuchdrug"], "There is no drug"),
        (["B05A"], "no structure of a drug of class B05A"),
        ("C08C", "must be a list of codes in quotes"),
    ],
)
def test_a_new_class_that_cannot_be_scored_is_refused(open_run, new, message):
    run, _ = open_run
    with pytest.raises(MedrecError, match=message):
        recommend(run, diagnoses=["4280"], new=new)


def test_systems_with_weights_for_each_medication_say_who_can(store):
    cohort = real_classes(30, seed=2)
    with pytest.raises(MedrecError, match=r"LR.*cannot score a new one. Ask a run of nla-mmr"):
        recommend(train("lr", cohort), diagnoses=visit_of(cohort, 0, "diagnosis")["diagnosis"], new=["C08C"])


@pytest.fixture(scope="module")
def run_on_invented_patients(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDREC_RUNS_DIR", str(tmp_path_factory.mktemp("runs")))
        yield train("lr", load_cohort("synthetic"))


@pytest.mark.parametrize("database", ["mimic3-demo", "mimic4-demo", "eicu-demo"])
def test_a_run_made_elsewhere_answers_for_real_visits(database, run_on_invented_patients, monkeypatch):
    """Nearly all of them hold a code that the run has never seen."""
    monkeypatch.setenv("MEDREC_DATA_DIR", str(demo_dir(database).parent))
    records = load_cohort(database)
    run = run_on_invented_patients
    loaded = load_system(run)
    monkeypatch.setattr(medrec.inference, "load_system", lambda _: loaded)
    vocabulary = run.vocabulary()
    rng = np.random.default_rng(0)
    partly = 0
    for visit in rng.permutation(records.n_visits)[:25]:
        patient = records.patient_of_visit[visit]
        earlier = [visit_of(records, v, *KINDS) for v in range(records.visit_offsets[patient], visit)]
        now = visit_of(records, visit, "diagnosis", "procedure", "symptom")
        words = {name: now[kind] for name, kind in FIELDS.items() if kind in now}
        known = {
            (kind, c)
            for there in (now, *earlier)
            for kind, codes in there.items()
            for c in codes
            if c in vocabulary[kind].index
        }
        if not known:
            with pytest.raises(MedrecError, match="The run knows none of the"):
                recommend(run, **words, history=earlier)
            continue
        answer = recommend(run, **words, history=earlier)
        assert set(answer.understood.select("kind", "code").iter_rows()) == known
        partly += not answer.left_out.is_empty()
    assert partly > 10


# -- history, from a file as from Python ---------------------------------------------------------------------------


def from_python(history, _):
    return recommend("no run is reached", diagnoses=["100"], history=history)


def from_file(history, folder):
    path = folder / "visits.json"
    path.write_text(json.dumps(history), encoding="utf-8")
    return read_history(path)


@pytest.mark.parametrize("read", [from_python, from_file])
@pytest.mark.parametrize(
    ("history", "said"),
    [
        ({"diagnoses": ["428.0"]}, "is one visit. It must be a list of visits, in brackets: [{"),
        ({"visits": []}, "It must be a list of visits: [{"),
        ("428.0", "is '428.0'. It must be a list of visits"),
        (7, "is 7. It must be a list of visits"),
        (["428.0"], "visit 1 is '428.0'. It must hold lists of codes by name"),
        ([{}, None], "visit 2 is None. It must hold lists of codes by name"),
        ([{}, [["428.0"]]], "visit 2 is [['428.0']]. It must hold lists"),
        ([{"diagnose": []}], "visit 1: there is no field 'diagnose'. Did you mean 'diagnoses'? Fields: diagnoses, "),
        ([{"drugs": ["A01B"]}], "there is no field 'drugs'. Fields: diagnoses, procedures, symptoms, medications."),
        ([{"Diagnoses": []}], "Did you mean 'diagnoses'?"),
        ([{"diagnoses": "428.0"}], "diagnoses must be a list of codes in quotes, e.g. [\"428.0\"], not '428.0'"),
        ([{"medications": {"C03C": 1}}], "medications must be a list of codes in quotes"),
        ([{"procedures": 9604}], "procedures must be a list of codes in quotes"),
        ([{"diagnoses": ["100", 428.0]}], "visit 1: diagnoses: put 428.0 in quotes, since a number loses the zeros"),
        ([{"diagnoses": [4280]}], "put 4280 in quotes"),
        ([{"diagnoses": [None]}], "put None in quotes"),
        ([{"diagnoses": [["428.0"]]}], "put ['428.0'] in quotes"),
        ([{"diagnoses": [True]}], "put True in quotes"),
        ([{"diagnoses": ["\ud800"]}], "is no text in UTF-8"),
    ],
)  # fmt: skip
def test_a_wrong_structure_is_the_same_mistake_in_a_file_and_in_python(read, history, said, tmp_path):
    with pytest.raises(MedrecError) as raised:
        read(history, tmp_path)
    assert said in str(raised.value)


@pytest.mark.parametrize("wrong", ["428.0", [428.0], {"428.0": 1}, 428])
@pytest.mark.parametrize("name", ["diagnoses", "procedures", "symptoms"])
def test_codes_of_the_visit_are_lists_of_text(name, wrong):
    with pytest.raises(MedrecError, match=f"The visit: {name}"):
        recommend("no run is reached", **{name: wrong})


@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["plain", "byte-order mark"])
def test_history_files_say_what_python_says(cohort, store, tmp_path, mark):
    run, path = train("last-visit", cohort), tmp_path / "visits.json"
    for history in ([{"diagnoses": ["10.0"], "medications": ["A01B", "A03B"]}, {"medications": ["A02B"]}], []):
        path.write_text(mark + json.dumps(history), encoding="utf-8")
        assert read_history(path) == history
        if history:
            assert recommend(run, history=read_history(path)).plain() == recommend(run, history=history).plain()
    path.write_text(mark + "null")
    assert read_history(path) == []


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is not JSON"),
        (b"[", "is not JSON"),
        (b"diagnoses: [428.0]", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"[" + b"9" * 5000 + b"]", "is not JSON"),
        ("[]".encode("utf-16"), "is not written in UTF-8. Save it in this encoding"),
        (b"[\xe4]", "is not written in UTF-8"),
        (b'[{"diagnoses": ["100"], "diagnoses": ["101"]}]', "the field 'diagnoses' stands twice in one object"),
    ],
    ids=lambda value: "" if isinstance(value, bytes) and len(value) > 100 else None,
)
def test_files_that_are_no_history(content, said, tmp_path):
    path = tmp_path / "visits.json"
    path.write_bytes(content)
    with pytest.raises(MedrecError) as raised:
        read_history(path)
    assert said in str(raised.value)
    assert str(path) in str(raised.value)


def test_places_that_hold_no_history(tmp_path):
    with pytest.raises(MedrecError, match=r"There is no file .* Give a JSON list of visits: "):
        read_history(tmp_path / "none.json")
    with pytest.raises(MedrecError, match="cannot be read: Is a directory"):
        read_history(tmp_path)
