"""Wrong words, over the whole public surface: one line that names the word, and nothing is done.

Commands run in this process; none of them may get so far as to train, fetch or start a kernel.
"""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import medrec
from medrec.cli import app
from medrec.data.load import name_synthetic
from medrec.types import MedrecError


@pytest.fixture(scope="module", autouse=True)
def places(tmp_path_factory):
    """Tables of the cohort *tiny*, a run on it, and files that are something else than what is asked for."""
    patch = pytest.MonkeyPatch()
    root = tmp_path_factory.mktemp("places")
    for name in ("data", "runs", "desk"):
        (root / name).mkdir()
    patch.setenv("MEDREC_DATA_DIR", str(root / "data"))
    patch.setenv("MEDREC_RUNS_DIR", str(root / "runs"))
    patch.chdir(root / "desk")
    name_synthetic("tiny", 80, seed=3)
    medrec.train("lr", "tiny")
    desk = root / "desk"
    (desk / "folder").mkdir()
    (desk / "folder.yaml").mkdir()
    (desk / "empty").write_bytes(b"")
    (desk / "bytes").write_bytes(bytes(range(256)))
    (desk / "text.csv").write_text("no,such,columns\n1,2,3\n")
    (desk / "run").symlink_to(next((root / "runs").rglob("config.json")).parent)
    yield root
    patch.undo()


def everything(root):
    return {str(path.relative_to(root)): path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()}


def refused(root, words):
    """The one line that a wrong command gives; nothing is written."""
    before = everything(root)
    result = CliRunner().invoke(app, [str(word) for word in words], prog_name="medrec")
    assert isinstance(result.exception, SystemExit), repr(result.exception)
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    assert re.fullmatch(r"medrec: [^\n]+\n", result.stderr), result.stderr
    assert "Traceback" not in result.stderr
    assert everything(root) == before
    return result.stderr


TINY = ("--cohort", "tiny")
COMMANDS = [
    ("train", "Missing argument 'system'. `medrec train --help` says what there is."),
    ("train lr --sede 3", "No such option: --sede"),
    ("train lr --seed", "--seed"),
    # system, variant, settings
    ("train retian", "Did you mean 'retain'?"),
    ("train ''", "no system ''"),
    ("train :", "':' cannot be imported"),
    ("train .toy:SYSTEM", "'.toy:SYSTEM' cannot be imported"),
    ("train nowhere.at:SYSTEM", "'nowhere.at:SYSTEM' cannot be imported"),
    ("train medrec.models.lr:LR", "medrec.models.lr:LR is a "),
    ("train medrec.models.lr:NOTHING", "declares no 'NOTHING'"),
    ("train retain --variant offical", "Did you mean 'official'?"),
    ("train retain --set dropout", "--set dropout: give KEY=VALUE"),
    ("train retain --set =3", "--set =3: give KEY=VALUE"),
    ("train retain --set dropuot=.3", "Did you mean 'dropout'?"),
    ("train retain --set dropout=5", "dropout is '5'; it must be a number from 0 to below 1"),
    ("train retain --set dropout=-0.1", "dropout is '-0.1'"),
    ("train retain --set dropout=[0.1,0.2]", "dropout is '[0.1,0.2]'"),
    ("train retain --set dropout=", "dropout is ''"),
    ("train retain --set epochs=0", "epochs is '0'; it must be a whole number from 1 to 100000"),
    ("train retain --set epochs=-3", "epochs is '-3'"),
    ("train retain --set epochs=2.5", "epochs is '2.5'"),
    ("train retain --set epochs=1e400", "epochs is '1e400'"),
    ("train retain --set batch_size=0", "batch_size is '0'"),
    ("train retain --set size=0", "size is '0'"),
    ("train retain --set learning_rate=nan", "learning_rate is 'nan'"),
    ("train retain --set learning_rate=inf", "learning_rate is 'inf'"),
    ("train retain --set learning_rate=0", "learning_rate is '0'; it must be a number from above 0 to 1"),
    ("train retain --set learning_rate=1000", "learning_rate is '1000'"),
    ("train retain --set threshold=7", "threshold is '7'; it must be a number from 0 to 1"),
    ("train retain --set weight_decay=-1", "weight_decay is '-1'"),
    ("train retain --set reverse_time=perhaps", "it must be true or false"),
    ("train retain --set alpha_axis=visit", "Did you mean 'visits'?"),
    ("train lr --set C=0", "C is '0'"),
    ("train ecc --set n_chains=-1", "n_chains is '-1'"),
    ("train cognet --set n_heads=3", "a multiple of 3"),
    ("train popularity --set epochs=3", "It has none"),
    # numbers, device, protocol, files
    ("train lr --seed -1", "seed is -1; it must be a whole number from 0 to 4294967295"),
    ("train lr --seed 9999999999", "seed is 9999999999"),
    ("train lr --seed three", "Invalid value for '--seed'"),
    ("train lr --seed 1.5", "Invalid value for '--seed'"),
    ("train lr --split-seed 9999999999", "split_seed is 9999999999"),
    ("train lr --device tpu", "no device 'tpu'"),
    ("train lr --device mps", "no device 'mps'"),
    ("train lr --device ''", "no device ''"),
    ("train lr --device cpu:3", "no device 'cpu:3'"),
    ("train lr --device cuda:x", "no device 'cuda:x'"),
    ("train lr --device cuda:99", "cuda:99"),
    ("train lr --protocol houze", "Did you mean 'house'?"),
    ("train lr --protocol hold-out", "no protocol 'hold-out'"),
    ("train repeat --protocol hold-out --split-seed -1", "give a split seed"),
    ("train lr --ddi nowhere.csv", "nowhere.csv does not exist"),
    ("train lr --ddi folder", "folder is a folder"),
    ("train lr --ddi empty", "empty"),
    ("train lr --ddi bytes", "bytes"),
    ("train lr --ddi text.csv", "text.csv"),
    # cohort and options
    ("train lr --cohort sinthetic", "Did you mean 'synthetic'?"),
    ("train lr --cohort ''", "no cohort ''"),
    ("train lr --cohort quick", "is called 'synthetic' now"),
    ("train lr --cohort mimic3", "no tables of 'mimic3'"),
    ("train lr --cohort folder", "no cohort 'folder'"),
    ("train lr --cohort ../data/tiny", "no cohort '../data/tiny'"),
    ("train lr --cohort synthetic+nothing", "no cohort 'synthetic+nothing'"),
    ("train lr --option widow=first_day", "Did you mean 'window'?"),
    ("train lr --option window", "--option window: give KEY=VALUE"),
    ("train lr --option window=[first_day]", "window=['first_day']"),
    ("train lr --option window=[", "--option window=["),
    ("train lr --option min_visits=0", "min_visits=0"),
    ("train lr --option min_visits=.inf", "min_visits=inf must be a whole number"),
    ("train lr --option seed=-1", "seed=-1"),
    ("train lr --option require=5", "require=[5]"),
    ("train lr --option history=.nan --cohort synthetic", "history=nan"),
    # compare
    ("compare", "Missing argument"),
    ("compare lr last-vist", "Did you mean 'last-visit'?"),
    ("compare lr retain:offical", "Did you mean 'official'?"),
    ("compare lr :", "no system ''"),
    ("compare lr .x:y", "no system '.x'"),
    ("compare lr retain --seeds 0", "--seeds"),
    ("compare lr retain --seeds abc", "--seeds"),
    ("compare lr retain --threshold 7", "threshold is '7'; it must be 'tuned', 'own' or a number from 0 to 1"),
    ("compare lr retain --threshold nan", "threshold is 'nan'"),
    ("compare lr retain --threshold half", "threshold is 'half'"),
    ("compare lr retain --task rank", "no task 'rank'. Did you mean 'ranking'?"),
    ("compare lr repeat", "--task ranking or --task visits"),
    ("compare lr repeat --task ranking --protocol hold-out", "asks about no visit"),
    ("compare lr retain --seeds 3 --protocol LR", "Leave --seeds out"),
    ("compare lr retain --set retain.patiense=3", "Did you mean 'patience'?"),
    ("compare lr retain --set reatin.patience=3", "Did you mean 'retain'?"),
    ("compare lr retain --set retain.epochs=0", "epochs is '0'"),
    ("compare lr --set retain.size=8", "no 'retain' here"),
    ("compare lr retain --protocol hous", "Did you mean 'house'?"),
    ("compare lr retain --ddi nowhere.csv", "nowhere.csv does not exist"),
    ("compare lr retain --device tpu", "no device 'tpu'"),
    ("compare lr retain --split-seed 9999999999", "split_seed is 9999999999"),
    ("compare lr retain --cohort sinthetic", "Did you mean 'synthetic'?"),
    ("compare lr retain --csv nowhere/out.csv", "nowhere/out.csv cannot be written"),
    ("compare lr retain --csv folder", "--csv folder is a folder"),
    ("compare lr retain --plot out.xyz", "--plot out.xyz must be a file ending in .svg or .pdf or .png"),
    ("compare lr retain --plot empty/out.svg", "empty/out.svg cannot be written"),
    # recommend
    ("recommend --run nowhere --diagnoses 428.0", "nowhere holds no run"),
    ("recommend --run folder --diagnoses 428.0", "folder holds no run"),
    ("recommend --run empty --diagnoses 428.0", "empty holds no run"),
    ("recommend --run run", "Nothing is said of the patient"),
    ("recommend --run run --diagnoses", "--diagnoses"),
    ("recommend --run run --history nowhere.json", "nowhere.json"),
    ("recommend --run run --history folder", "folder"),
    ("recommend --run run --history empty", "empty"),
    ("recommend --run run --history bytes", "bytes"),
    ("recommend --run run --diagnoses 428.0 --ddi nowhere.csv", "nowhere.csv does not exist"),
    ("recommend --run run --diagnoses nonsense", "nonsense"),
    ("recommend --diagnoses 428.0 --ddi nowhere.csv", "nowhere.csv does not exist"),
    # tune
    ("tune", "Missing argument"),
    ("tune retian", "Did you mean 'retain'?"),
    ("tune popularity", "no setting that could be searched"),
    ("tune retain --variant offical", "Did you mean 'official'?"),
    ("tune retain --trials 0", "trials is 0"),
    ("tune retain --trials abc", "--trials"),
    ("tune retain --steps -5", "steps is -5"),
    ("tune retain --seed -1", "seed is -1"),
    ("tune retain --device tpu", "no device 'tpu'"),
    ("tune retain --cohort sinthetic", "Did you mean 'synthetic'?"),
    ("tune retain --option widow=first_day", "Did you mean 'window'?"),
    # sweep
    ("sweep", "Missing argument"),
    ("sweep bimorec-tabel2", "Did you mean 'bimorec-table2'?"),
    ("sweep nowhere.yaml", "no file nowhere.yaml"),
    ("sweep folder", "folder"),
    ("sweep folder.yaml", "folder.yaml"),
    ("sweep .", "'.'"),
    ("sweep empty", "'empty'"),
    ("sweep retain --cohort sinthetic", "Did you mean 'synthetic'?"),
    ("sweep retain --jobs 0", "--jobs"),
    ("sweep retain --seeds 0", "--seeds"),
    ("sweep retain --device tpu", "no device 'tpu'"),
    ("sweep retain --split-seed 9999999999", "split_seed is 9999999999"),
    ("sweep retain --set epochs=0", "epochs is '0'"),
    ("sweep retain --set sice=3", "Did you mean 'size'?"),
    ("sweep retain --ddi nowhere.csv", "nowhere.csv does not exist"),
    ("sweep retain --keep --set epochs=3", "Leave out --set"),
    # what there is
    ("trian lr", "Did you mean 'train'?"),
    ("systems retian", "Did you mean 'retain'?"),
    ("systems ''", "no system ''"),
    ("cohorts tiny", "tiny"),
    ("runs --stael", "--stael"),
    ("kept lst", "Did you mean 'list'?"),
    ("kept verify nonsense", "'nonsense' names no kept grid"),
    ("kept verify grids/nonsense/synthetic", "nonsense"),
    ("kept verify grids/retain/synthetic --row nonsense", "'nonsense'"),
    ("kept verify grids/retain/synthetic --device tpu", "no device 'tpu'"),
    # chapters
    ("chapter nonsense", "'nonsense'"),
    ("chapter 99", "'99'"),
    ("chapter 00 -p sede 3", "Did you mean 'seed'?"),
    ("chapter 00 -p seed three", "'three'"),
    ("chapter 00 -p seed -1", "seed is -1"),
    ("chapter 00 -p seed", "give a name and a value"),
    ("chapter 00 -p cohort sinthetic", "Did you mean 'synthetic'?"),
    ("chapter 00 -p cohort mimic3", "no tables of 'mimic3'"),
    ("chapter 00 -p device tpu", "no device 'tpu'"),
    ("chapter 00 -p profile fast", "'fast'"),
    ("chapter 00 -o out.html", "out.html"),
    ("chapter 00 -o empty/out.ipynb", "empty/out.ipynb"),
    ("chapter 00 -o folder", "folder"),
    # data
    ("data fecth mimic4-demo", "Did you mean 'fetch'?"),
    ("data fetch mimic3", "mimic3"),
    ("data fetch ''", "''"),
    ("data import mimic3 nowhere", "not a folder"),
    ("data import mimic3 empty", "not a folder"),
    ("data import mimic3 folder", "folder"),
    ("data import mimic5 folder", "'mimic5'"),
    ("data describe mimic5", "Did you mean"),
    ("data describe tiny --option nothing=1", "'nothing'"),
    ("data synthesize --patients 0", "--patients"),
    ("data synthesize --patients 5 --seed -1", "seed is -1"),
    ("data synthesize --patients 5 --layout mimic5", "mimic5"),
    ("data synthesize --patients 5 --history 2", "history=2"),
    ("data synthesize --patients 5 --text nan", "text=nan"),
    ("data synthesize --name mimic3", "is taken"),
    ("data synthesize --name 'no name'", "'no name' cannot name a cohort"),
    ("data synthesize --name ../out", "'../out' cannot name a cohort"),
    ("data synthesize --name mine -o folder", "give one of them"),
    ("data synthesize --patients 5 -o empty/out", "empty/out"),
    # graph
    ("graph exprot out", "Did you mean 'export'?"),
    ("graph export", "Missing argument"),
    ("graph export folder --cohort tiny", "folder exists already"),
    ("graph export empty --cohort tiny", "empty exists already"),
    ("graph export empty/out --cohort tiny", "empty/out cannot be written"),
    ("graph export out --cohort sinthetic", "Did you mean 'synthetic'?"),
    ("graph export out --cohort tiny --format kgni", "no format 'kgni'. Did you mean 'kgin'?"),
    ("graph export out --cohort tiny --construction studdy", "Did you mean 'study'?"),
    ("graph export out --cohort tiny --protocol holdout", "Did you mean 'hold-out'?"),
    ("graph export out --cohort tiny --protocol hold-out --split-seed -1", "give a split seed"),
    ("graph export out --cohort tiny --split-seed 9999999999", "split_seed is 9999999999"),
    ("graph export out --cohort tiny --ddi nowhere.csv", "nowhere.csv does not exist"),
    ("graph export out --cohort tiny --option widow=first_day", "Did you mean 'window'?"),
    ("graph check nowhere", "nowhere is not a folder"),
    ("graph check empty", "empty is not a folder"),
    ("graph check folder", "train.txt cannot be read"),
    ("graph check folder --format recbole", "folder.inter cannot be read"),
    ("graph check folder --format diffkg", "kg.txt cannot be read"),
    ("graph check folder --format pickle", "no format 'pickle'"),
]


@pytest.mark.parametrize(("words", "said"), COMMANDS, ids=[words for words, _ in COMMANDS])
def test_a_wrong_command_is_one_line(places, words, said):
    import shlex

    words = shlex.split(words)
    taken = words[0] in ("train", "compare", "tune") and "--cohort" not in words and len(words) > 1
    more = TINY if taken and not any(word.startswith("seed=") for word in words) else ()
    assert said in refused(places, [*words, *more])


# -- Python ------------------------------------------------------------------------------------------------------------

CALLS = [
    # train
    (lambda: medrec.train("retian", "tiny"), "Did you mean 'retain'?"),
    (lambda: medrec.train(None, "tiny"), "A system is named by a word, e.g. 'retain', not by None"),
    (lambda: medrec.train(medrec.systems()[0], "tiny"), "A system is named by a word"),
    (lambda: medrec.train("lr", "sinthetic"), "Did you mean 'synthetic'?"),
    (lambda: medrec.train("lr", None), "A cohort is named by a word, e.g. 'mimic4-demo', not by None"),
    (lambda: medrec.train("lr", Path("tiny")), "A cohort is named by a word"),
    (lambda: medrec.train("lr", [1, 2, 3]), "not by [1, 2, 3]"),
    (lambda: medrec.train("retain", "tiny", settings={"epochs": 0}), "epochs is 0"),
    (lambda: medrec.train("retain", "tiny", settings={"dropout": float("nan")}), "dropout is nan"),
    (lambda: medrec.train("retain", "tiny", settings={"dropout": np.zeros((9, 9))}), "dropout is array("),
    (lambda: medrec.train("retain", "tiny", settings={"epochs": True}), "epochs is True"),
    (lambda: medrec.train("retain", "tiny", settings={"reverse_time": "perhaps"}), "must be true or false"),
    (lambda: medrec.train("retain", "tiny", settings=["epochs", 5]), "settings is ['epochs', 5]"),
    (lambda: medrec.train("retain", "tiny", settings="epochs=5"), "settings is 'epochs=5'"),
    (lambda: medrec.train("retain", "tiny", settings={3: 5}), "settings is {3: 5}"),
    (lambda: medrec.train("retain", "tiny", variant="offical"), "Did you mean 'official'?"),
    (lambda: medrec.train("retain", "tiny", variant=None), "A variant is named by a word"),
    (lambda: medrec.train("retain", "tiny", variant=["official"]), "A variant is named by a word"),
    (lambda: medrec.train("lr", "tiny", seed=-1), "seed is -1"),
    (lambda: medrec.train("lr", "tiny", seed=1.5), "seed is 1.5"),
    (lambda: medrec.train("lr", "tiny", seed=None), "seed is None"),
    (lambda: medrec.train("lr", "tiny", seed=[0, 1]), "seed is [0, 1]"),
    (lambda: medrec.train("lr", "tiny", split_seed=-1), "split_seed is -1"),
    (lambda: medrec.train("lr", "tiny", split_seed="file order"), "split_seed is 'file order'"),
    (lambda: medrec.train("lr", "tiny", device="tpu"), "no device 'tpu'"),
    (lambda: medrec.train("lr", "tiny", device=torch.device("mps")), "no device 'mps'"),
    (lambda: medrec.train("lr", "tiny", device=None), "no device 'None'"),
    (lambda: medrec.train("lr", "tiny", protocol="houze"), "Did you mean 'house'?"),
    (lambda: medrec.train("lr", "tiny", protocol=5), "A protocol of the task 'visits' is named by a word"),
    (lambda: medrec.train("lr", "tiny", ddi="nowhere.csv"), "nowhere.csv does not exist"),
    (lambda: medrec.train("lr", "tiny", ddi=5), "ddi is 5; it must be the path of a file"),
    # load_cohort, Cohort
    (lambda: medrec.load_cohort("sinthetic"), "Did you mean 'synthetic'?"),
    (lambda: medrec.load_cohort(Path("folder")), "A cohort is named by a word"),
    (lambda: medrec.load_cohort(None), "A cohort is named by a word"),
    (lambda: medrec.load_cohort(3), "A cohort is named by a word"),
    (lambda: medrec.load_cohort(["tiny"]), "A cohort is named by a word"),
    (lambda: medrec.load_cohort("tiny", widow="first_day"), "Did you mean 'window'?"),
    (lambda: medrec.load_cohort("tiny", window=["first_day"]), "window=['first_day']"),
    (lambda: medrec.load_cohort("tiny", min_visits=float("inf")), "min_visits=inf"),
    (lambda: medrec.load_cohort("tiny", min_visits=float("nan")), "min_visits=nan"),
    (lambda: medrec.load_cohort("tiny", require=5), "require=[5]"),
    (lambda: medrec.load_cohort("tiny", require=[["medication"]]), "require=[['medication']]"),
    (lambda: medrec.load_cohort("synthetic", seed=-1), "seed=-1"),
    # compare
    (lambda: medrec.compare([], "tiny"), "nothing to compare"),
    (lambda: medrec.compare(None, "tiny"), "Systems are named by words"),
    (lambda: medrec.compare(5, "tiny"), "Systems are named by words"),
    (lambda: medrec.compare(["lr", 5], "tiny"), "Systems are named by words"),
    (lambda: medrec.compare("lr retain", "tiny"), "no system 'lr retain'"),
    (lambda: medrec.compare(["lr", "retian"], "tiny"), "Did you mean 'retain'?"),
    (lambda: medrec.compare(["lr", "retain"], "sinthetic"), "Did you mean 'synthetic'?"),
    (lambda: medrec.compare(["lr", "retain"], None), "A cohort is named by a word"),
    (lambda: medrec.compare(["lr", "retain"], "tiny", seeds="abc"), "seeds is 'abc'"),
    (lambda: medrec.compare(["lr", "retain"], "tiny", seeds=0), "seeds is 0"),
    (lambda: medrec.compare(["lr", "retain"], "tiny", seeds=[0, 1]), "seeds is [0, 1]"),
    (lambda: medrec.compare(["lr", "retain"], "tiny", split_seed=-1), "split_seed is -1"),
    (lambda: medrec.compare(["lr", "retain"], "tiny", threshold=7), "threshold is 7; it must be"),
    (lambda: medrec.compare(["lr", "retain"], "tiny", threshold=[0.5]), "threshold is [0.5]"),
    (lambda: medrec.compare(["repeat"], "tiny", threshold=0.5), "A ranker has no threshold"),
    (lambda: medrec.compare(["lr", "retain"], "tiny", task="rank"), "Did you mean 'ranking'?"),
    (lambda: medrec.compare(["lr", "retain"], "tiny", task=5), "no task 5"),
    (lambda: medrec.compare(["lr", "retain"], "tiny", protocol={"name": "house"}), "is named by a word"),
    (lambda: medrec.compare(["lr", "retain"], "tiny", settings={"retian.epochs": 3}), "Did you mean 'retain'?"),
    (lambda: medrec.compare(["lr", "retain"], "tiny", settings=[]), "settings is []"),
    (lambda: medrec.compare(["lr", "retain"], "tiny", device="tpu"), "no device 'tpu'"),
    # sweep
    (lambda: medrec.sweep("bimorec-tabel2"), "Did you mean 'bimorec-table2'?"),
    (lambda: medrec.sweep(None), "Grids are names or YAML files"),
    (lambda: medrec.sweep([]), "Grids are names or YAML files"),
    (lambda: medrec.sweep([5]), "A grid is named by a word"),
    (lambda: medrec.sweep(Path("folder")), "folder cannot be read"),
    (lambda: medrec.sweep(Path("nowhere.yaml")), "no file nowhere.yaml"),
    (lambda: medrec.sweep("retain", "sinthetic"), "Did you mean 'synthetic'?"),
    (lambda: medrec.sweep("retain", 5), "A cohort is named by a word"),
    (lambda: medrec.sweep("retain", "tiny", seeds="abc"), "seeds is 'abc'"),
    (lambda: medrec.sweep("retain", "tiny", jobs=0), "jobs is 0"),
    (lambda: medrec.sweep("retain", "tiny", jobs="many"), "jobs is 'many'"),
    (lambda: medrec.sweep("retain", "tiny", split_seed=-1), "split_seed is -1"),
    (lambda: medrec.sweep("retain", "tiny", settings={"epochs": -1}), "epochs is -1"),
    (lambda: medrec.sweep("retain", "tiny", settings="epochs"), "settings is 'epochs'"),
    (lambda: medrec.sweep("retain", "tiny", device="mps"), "no device 'mps'"),
    (lambda: medrec.sweep("retain", "tiny", ddi=3), "ddi is 3"),
    # systems, Run
    (lambda: medrec.systems("rank"), "no task 'rank'"),
    (lambda: medrec.systems(5), "no task 5"),
    (lambda: medrec.Run.load("nowhere"), "nowhere holds no run"),
    (lambda: medrec.Run.load(5), "A run is opened by its folder, not by 5"),
    (lambda: medrec.Run.load(None), "A run is opened by its folder, not by None"),
    (lambda: medrec.Run.load("run").evaluation(7), "threshold is 7; it must be"),
    (lambda: medrec.Run.load("run").evaluation("tune"), "threshold is 'tune'"),
    (lambda: medrec.Run.load("run").evaluation(protocol="houze"), "Did you mean 'house'?"),
    (lambda: medrec.Run.load("run").predictions("sinthetic"), "Did you mean 'synthetic'?"),
    (lambda: medrec.Run.load("run").predictions(None), "A cohort is named by a word"),
    (lambda: medrec.Run.load("run").predictions("tiny", threshold=-1), "threshold is -1"),
    (lambda: medrec.Cohort.load(Path("nowhere")), "nowhere"),
    (lambda: medrec.Cohort.load("folder"), "folder"),
    # recommend
    (lambda: medrec.recommend(5, diagnoses=["428.0"]), "5"),
    (lambda: medrec.recommend("nowhere", diagnoses=["428.0"]), "nowhere"),
    (lambda: medrec.recommend("run", diagnoses="428.0"), "'428.0'"),
    (lambda: medrec.recommend("run", diagnoses=[428.0]), "428.0"),
    (lambda: medrec.recommend("run", diagnoses=None, history=5), "5"),
    (lambda: medrec.recommend("run", diagnoses=["428.0"], history=[{"meds": ["C03C"]}]), "'meds'"),
    (lambda: medrec.recommend("run", diagnoses=["428.0"], history=["C03C"]), "C03C"),
    (lambda: medrec.recommend("run", diagnoses=["428.0"], ddi=["nowhere.csv"]), "ddi is ['nowhere.csv']"),
    (lambda: medrec.recommend("run"), "Nothing is said of the patient"),
]


@pytest.mark.parametrize(("call", "said"), CALLS, ids=[f"{number}-{said}" for number, (_, said) in enumerate(CALLS)])
def test_a_wrong_call_is_an_error_of_one_line(places, call, said):
    before = everything(places)
    with pytest.raises(MedrecError) as raised:
        call()
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 700
    assert everything(places) == before


def test_a_cohort_may_be_given_by_its_name(places):
    run = medrec.train("lr", "tiny")
    assert run.folder == medrec.train("lr", medrec.load_cohort("tiny")).folder
    assert run.predictions("tiny").equals(run.predictions(medrec.load_cohort("tiny")))
    found = medrec.compare("lr", "tiny")
    assert [one.folder for one in found.runs["LR"]] == [run.folder]


# -- files ------------------------------------------------------------------------------------------------------------

GOOD = {"cohort": "tiny", "rows": [{"key": "a", "system": "lr", "settings": {"C": 0.5}, "value": 1}]}
FILES = [
    ("rows: [{key: a, system: [retain]}]", "row 1: system is ['retain']; it must be a word"),
    ("rows: [{key: [a], system: lr}]", "row 1: key is ['a']"),
    ("rows: [{key: 3, system: lr}]", "row 1: key is 3"),
    ("rows: [{key: a, system: lr, label: {b: c}}]", "row 1: label is {'b': 'c'}"),
    ("rows: [{key: a, system: lr, variant: }]", "row 1: variant is None"),
    ("rows: [{key: a, system: lr, settings: 5}]", "row 1: settings is 5"),
    ("rows: [{key: a, system: lr, settings: [C]}]", "row 1: settings is ['C']"),
    ("rows: [{key: a, system: lr, settings: {3: 5}}]", "row 1: settings is {3: 5}"),
    ("rows: [{key: a, system: lr, settings: {C: [1, 2]}}]", "row 1: LR: C is [1, 2]"),
    ("rows: [{key: a, system: lr, settings: {C: .nan}}]", "row 1: LR: C is nan"),
    ("rows: [{key: a, system: lr, settings: {C: }}]", "row 1: LR: C is None"),
    ("rows: [{key: a, system: ecc, settings: {order: [random]}}]", "row 1: ECC: order is ['random']"),
    ("rows: [{key: a, system: retain, settings: {epochs: 2020-01-01}}]", "row 1: RETAIN: epochs is datetime.date("),
    ("rows: [{key: a, system: retain, settings: {epochs: true}}]", "row 1: RETAIN: epochs is True"),
    ("rows: [{key: a, system: lr, value: .inf}]", "row 1: value is inf"),
    ("rows: [{key: a, system: lr, value: [1]}]", "row 1: value is [1]"),
    ("rows: [{key: a, system: lr, seeds: abc}]", "row 1: unknown key 'seeds'"),
    ("{rows: [{key: a, system: lr}], seeds: abc}", "unknown key 'seeds'"),
    ("{rows: [{key: a, system: lr}], [1, 2]: 3}", "is not YAML"),
    ("{rows: [{key: a, system: lr}], 2020-01-01: 3}", "unknown key datetime.date("),
    ("{cohort: [tiny], rows: [{key: a, system: lr}]}", "cohort is ['tiny']"),
    ("{cohort: sinthetic, rows: [{key: a, system: lr}]}", "Did you mean 'synthetic'?"),
    ("rows: [{key: a, system: retian}]", "row 1: There is no system 'retian'. Did you mean 'retain'?"),
    ("rows: [{key: a, system: lr}, {key: a, system: ecc}]", "two rows have the key 'a'"),
    ("rows: []", "rows must be a list"),
    ("rows: 5", "rows must be a list"),
    ("rows: [5]", "row 1 must hold keys and values"),
    ("rows: [[key, a]]", "row 1 must hold keys and values"),
    ("[1, 2]", "must hold keys and values"),
    ("just words", "must hold keys and values"),
    ("", "must hold keys and values"),
    ("rows: [", "is not YAML"),
    ("rows: 2020-99-99", "is not YAML|rows must be a list"),
    ("rows: &a [*a]", "row 1 must hold keys and values"),
    ("rows: !!python/object:os.system {}", "is not YAML"),
    ("\x00", "is not YAML"),
]


@pytest.mark.parametrize(("content", "said"), FILES, ids=[content for content, _ in FILES])
def test_a_wrong_grid_file_is_one_line(places, content, said):
    (places / "desk" / "mine.yaml").write_text(content, encoding="utf-8")
    message = refused(places, ["sweep", "mine.yaml"])
    assert "mine.yaml" in message or "cohort" in message
    assert any(words in message for words in said.split("|"))


def test_there_are_enough_of_them():
    assert len({words for words, _ in COMMANDS}) == len(COMMANDS) > 100
    assert len(CALLS) > 60
