"""The calculator counts as the package does, with the package's interactions; without a browser."""

import json
import random
import re
import shutil
import subprocess
from html import unescape

import numpy as np
import pytest

from medrec.book.generated import SCRIPTS, calculator, evidence
from medrec.data import example
from medrec.knowledge.interactions import class_pairs, ddi_matrix, interactions
from medrec.paths import PACKAGE

SCRIPT = PACKAGE.parent / "book" / "_vendor" / SCRIPTS["medrec-calculator"]


def some_lists(n=40, seed=0):
    """Pairs of lists, with both empty and one of each empty among them."""
    draw = random.Random(seed)
    lists = [[], list(calculator.CLASSES)]
    lists += [draw.sample(calculator.CLASSES, draw.randint(1, len(calculator.CLASSES))) for _ in range(n)]
    return [(a, b) for a, b in zip(lists, [*lists[1:], []], strict=True)] + [([], [])]


def test_the_script_counts_as_the_package_does():
    node = shutil.which("node")
    if node is None:
        pytest.skip("there is no node; tests/browser tries the same in Chromium")
    lists = some_lists()
    program = (
        f"const c = require({json.dumps(str(SCRIPT))}); const [lists, pairs] = JSON.parse(process.argv[1]);"
        "console.log(JSON.stringify(lists.map(([y, r]) => ({...c.measure(y, r, pairs), words: c.words(y, r, pairs)}))))"
    )
    given = json.dumps([lists, calculator.pairs()])
    told = json.loads(subprocess.run([node, "-e", program, given], capture_output=True, check=True, text=True).stdout)
    assert len(told) == len(lists) > 40
    for (prescribed, recommended), found in zip(lists, told, strict=True):
        words = found.pop("words")
        wanted = calculator.measure(prescribed, recommended)
        assert found.keys() == wanted.keys()
        np.testing.assert_allclose(list(found.values()), [wanted[key] for key in found], rtol=1e-12)
        assert words == calculator.words(prescribed, recommended)


def test_by_hand():
    numbers = calculator.measure(calculator.PRESCRIBED, calculator.RECOMMENDED)
    assert numbers["jaccard"] == 5 / 7
    assert numbers["precision"] == numbers["recall"] == numbers["f1"] == 5 / 6
    assert numbers["ddi"] == 4 / 15
    assert set(calculator.measure([], []).values()) == {0.0}


def test_the_classes_are_those_of_the_running_example_and_more():
    assert set(example.MEDICATIONS) < set(calculator.CLASSES)
    assert len(calculator.CLASSES) == 12


def test_the_page_carries_the_packages_own_matrix():
    told = json.loads(unescape(re.search(r'data-knowledge="([^"]+)"', calculator.widget())[1]))
    assert told["classes"] == list(calculator.CLASSES)
    place = {code: i for i, code in enumerate(told["classes"])}
    matrix = np.zeros((12, 12), dtype=bool)
    for a, b in told["pairs"]:
        matrix[place[a], place[b]] = matrix[place[b], place[a]] = True
    np.testing.assert_array_equal(matrix, ddi_matrix(calculator.CLASSES))


def test_each_edge_has_a_source_in_the_list():
    edges = evidence.edges(calculator.CLASSES)
    assert [tuple(words.split(" and ")) for words in edges["classes"]] == calculator.pairs()
    known = {(a, b): source for a, b, source in interactions().select("drug_a", "drug_b", "source").iter_rows()}
    for words, source in edges.select("gravest", "source").iter_rows():
        assert known[tuple(words.split(" and "))] == source


def test_what_stands_behind_all_edges_is_what_the_matrix_is_lifted_from():
    counted = interactions().filter(interactions()["severity"].is_in(evidence.COUNTED))
    assert evidence.behind().select("atc3_1", "atc3_2").unique().sort("atc3_1", "atc3_2").equals(class_pairs(counted))


def test_the_first_state_is_written_before_any_script_runs():
    text = calculator.widget()
    numbers = calculator.measure(calculator.PRESCRIBED, calculator.RECOMMENDED)
    assert f'data-result="jaccard">{numbers["jaccard"]:.3f}<' in text
    assert text.count(" checked>") == len(calculator.PRESCRIBED) + len(calculator.RECOMMENDED)
    assert 'aria-live="polite"' in text
    for code in calculator.CLASSES:
        assert text.count(f'aria-label="{code} ') == 2
