"""What a system may reach follows the prescriptions, unless the printed number is asked for."""

import numpy as np
import pytest
import torch

from medrec.models import registry
from medrec.nn.ddi_target import PUBLISHED_RATE, DDITarget

DDI = torch.tensor([[0, 1, 0], [1, 0, 0], [0, 0, 0]], dtype=torch.bool)
PRESCRIBED = np.array([[1, 1, 1], [1, 1, 0]], dtype=bool)
"""Four pairs, two of which interact."""


def test_the_same_share_of_what_is_prescribed():
    target = DDITarget(0.06, "ratio")
    assert float(target.rate) == pytest.approx(0.06), "before anything was counted"
    target.count(PRESCRIBED, DDI)
    assert float(target.rate) == pytest.approx(0.06 / PUBLISHED_RATE * 2 / 4)
    target.count(PRESCRIBED, DDI)
    assert float(target.rate) == pytest.approx(0.06 / PUBLISHED_RATE * 2 / 4), "counting twice is counting once"


def test_the_printed_number_stays():
    target = DDITarget(0.06, "absolute")
    target.count(PRESCRIBED, DDI)
    assert float(target.rate) == pytest.approx(0.06)


@pytest.mark.parametrize("prescribed", [PRESCRIBED & False, PRESCRIBED[:0]])
def test_where_nothing_interacts_the_target_can_still_be_divided_by(prescribed):
    target = DDITarget(0.06, "ratio")
    target.count(prescribed, DDI)
    assert 0 < float(target.rate) < 1e-5


def test_it_is_saved_with_the_weights():
    target, other = DDITarget(0.06, "ratio"), DDITarget(0.06, "ratio")
    target.count(PRESCRIBED, DDI)
    other.load_state_dict(target.state_dict())
    assert torch.equal(other.rate, target.rate)


def test_every_system_with_a_target_takes_it_by_ratio_and_its_released_form_as_printed():
    found = {}
    for system in registry.systems():
        if hasattr(system.config, "target_ddi"):
            found[system.name] = tuple(system.configure(variant).ddi_target for variant in ("paper", "official"))
    assert len(found) == 7
    assert set(found.values()) == {("ratio", "absolute")}
