"""A case by rule, and marks that can be checked."""

from types import SimpleNamespace

import numpy as np

from medrec.data.cohort import Vocabulary
from medrec.experiments import diffkg_case
from medrec.knowledge.conditions import conditions, needs
from medrec.tasks.ranking import Questions
from medrec.types import Ragged


def test_those_who_share_most_are_chosen_then_those_who_have_least_else():
    rows = np.array([[1, 1, 0, 0], [1, 1, 1, 1], [1, 1, 0, 1], [0, 0, 1, 1]], dtype=bool)
    assert diffkg_case.closest(rows) == (1, 2)
    assert diffkg_case.closest(rows[[0, 2, 3]]) == (0, 1)
    tie = np.array([[1, 1, 0], [1, 0, 1], [1, 0, 0]], dtype=bool)
    assert diffkg_case.closest(tie) == (0, 2)  # a half, where the first two have a third


def ward(codes, medications):
    """Visits with diagnosis codes, and a vocabulary of medications; what :mod:`diffkg_case` reads of a cohort."""
    number = {code: i for i, code in enumerate(sorted({c for row in codes for c in row}))}
    vocab = {
        "diagnosis": Vocabulary("diagnosis", tuple(number), tuple(number)),
        "medication": Vocabulary("medication", medications, medications),
    }
    rows = Ragged.from_lists([[number[c] for c in row] for row in codes])
    return SimpleNamespace(vocab=vocab, codes={"diagnosis": rows}, n_visits=len(codes))


def test_conditions_of_visits_in_both_versions():
    found = diffkg_case.conditions_of(ward([["9:4019"], ["10:I10", "9:25000"], ["9:99999"]], ("C09A",)))
    ids = conditions()["id"].to_numpy()
    assert set(ids[found[0]]) == {"hypertension"}
    assert "hypertension" in set(ids[found[1]])
    assert found[1].sum() == 2
    assert not found[2].any()


def test_marks_by_hand():
    meant = needs().filter(condition="hypertension")["option"].to_list()
    medications = ("J01X", meant[0], "N02B")
    cohort = ward([["9:4019"], ["9:4019"]], medications)
    asked = Questions(
        patient=np.array([0]),
        visit=np.array([1]),
        target=np.array([[False, True, True]]),
        seen=np.array([[True, False, False]]),
    )
    ddi = np.zeros((3, 3), dtype=bool)
    ddi[0, 2] = ddi[2, 0] = True
    run = SimpleNamespace(answers={"test": asked.answered(np.array([[0.2, 0.9, 0.1]]))}, ddi=lambda: ddi)
    rows = diffkg_case.marked(cohort, run, 0, length=2)
    assert [row["class"] for row in rows] == [meant[0], "J01X"]
    first, second = ({k: row[k] for k in ("indicated", "repeated", "interacts", "given")} for row in rows)
    assert first == {"indicated": True, "repeated": False, "interacts": False, "given": True}
    # The class that J01X interacts with is third, and not in a list of two.
    assert second == {"indicated": False, "repeated": True, "interacts": False, "given": False}
    assert diffkg_case.marked(cohort, run, 0, length=3)[1]["interacts"]
