"""The loop: resumable, repeatable, selected by rule, and it stops when there is nothing more to learn."""

import json
import re

import numpy as np
import pytest
import torch
from torch import nn

from medrec import fit as loop
from medrec.context import Context
from medrec.fit import Checkpoint, Progress, fit, seeded
from medrec.models.base import Judgement, Network, TrainingConfig
from medrec.types import Interrupted
from tests.toys import watched


class Line(Network):
    """Learns one number by heart, from batches of numbers."""

    def __init__(self, config, context):
        super().__init__(config, context)
        self.weight = nn.Parameter(torch.zeros(1))
        self.register_buffer("temperature", torch.tensor(8.0))
        self.seen, self.prepared = [], []

    def prepare(self, data, train, context):
        self.prepared.append(train.tolist())

    def batches(self, data, rows, order):
        drawn = np.random.default_rng(order).permutation(rows)
        for i in range(0, len(drawn), self.config.batch_size):
            yield torch.from_numpy(data[drawn[i : i + self.config.batch_size]])

    def loss(self, batch, context):
        self.seen.append(batch.tolist())
        return ((self.weight + torch.rand(1) * 1e-3 - batch) ** 2).mean() / self.temperature

    def before_epoch(self, epoch, context):
        self.epoch = epoch
        self.temperature.fill_(8.0 / (epoch + 1))

    def after_epoch(self, selected):
        self.temperature += selected


DATA = np.arange(12, dtype=np.float32)


def run(tmp_path, values, *, steps=0, folder="checkpoint", network=None, seed=0, **settings):
    """Train a line whose epochs the judge gives these values, in turn; more epochs get the last one."""
    config = TrainingConfig(**{"epochs": 10, "patience": 3, "patience_steps": steps, "batch_size": 5, **settings})
    context = Context({}, torch.zeros(1, 1, dtype=torch.bool))
    judged = []

    def judge(judged_network):
        judged.append(judged_network.weight.item())
        value = values[min(judged_network.epoch, len(values) - 1)]
        order = value if isinstance(value, tuple) else (value,)
        return Judgement(order, order[-1], {"value": order[-1]})

    with seeded(seed):
        network = Line(config, context) if network is None else network
        checkpoint = Checkpoint(tmp_path / folder, "key", fresh=False)
        progress = fit(
            network,
            data=DATA,
            train=np.arange(12),
            rows=np.arange(10),
            context=context,
            judge=judge,
            seed=seed,
            device=torch.device("cpu"),
            checkpoint=checkpoint,
            label="line",
        )
    network.resumed = progress.epoch - len(judged)
    return network, progress, judged


def test_the_best_epoch_is_kept_and_the_first_is_not_eligible(tmp_path):
    network, progress, judged = run(tmp_path, [0.9, 0.2, 0.6, 0.1], epochs=4)
    assert progress.best_epoch == 2
    assert network.weight.item() == judged[2] != judged[3]


def test_the_only_epoch_is_kept(tmp_path):
    network, progress, judged = run(tmp_path, [0.9], epochs=1)
    assert progress.best_epoch == 0
    assert network.weight.item() == judged[0]


def test_of_equal_epochs_the_earlier_one_is_kept(tmp_path):
    assert run(tmp_path, [0.1, 0.5, 0.5, 0.5], epochs=4)[1].best_epoch == 1


def test_order_is_compared_from_the_left(tmp_path):
    # A degenerate epoch, however high, stands below one that is not.
    assert run(tmp_path, [(0, 0.9), (0, 0.9), (1, 0.1), (0, 0.95)], epochs=4)[1].best_epoch == 2


def test_patience_counts_epochs(tmp_path):
    _, progress, _ = run(tmp_path, [0.0, 0.5, 0.4], epochs=30)
    assert progress.best_epoch == 1
    assert progress.epoch == 5
    assert progress.converged(TrainingConfig(patience=3, patience_steps=0))


def test_patience_counts_steps_too_and_the_longer_one_decides(tmp_path):
    # Two steps an epoch (ten patients in batches of five): 13 steps without a better value are seven epochs.
    _, progress, _ = run(tmp_path, [0.0, 0.5, 0.4], steps=13, epochs=30)
    assert (progress.best_epoch, progress.epoch, progress.steps) == (1, 9, 18)


def test_at_the_limit_of_epochs_it_has_not_converged(tmp_path):
    _, progress, _ = run(tmp_path, [0.1, 0.2, 0.3, 0.4, 0.5], epochs=5)
    assert progress.epoch == 5
    assert not progress.converged(TrainingConfig(patience=3, patience_steps=0))


def test_a_falling_rate_is_followed_to_its_end_and_no_shorter_than_patience(tmp_path):
    _, progress, _ = run(tmp_path, [0.0, 0.5, 0.4], epochs=12, schedule="cosine")
    assert (progress.best_epoch, progress.epoch) == (1, 12)
    for epochs, patience, steps, converged in (
        (12, 12, 24, True),
        (13, 3, 0, False),
        (12, 13, 0, False),
        (12, 3, 25, False),
    ):
        config = TrainingConfig(schedule="cosine", epochs=epochs, patience=patience, patience_steps=steps)
        assert progress.converged(config) == converged


def test_every_epoch_shuffles_otherwise_and_sees_every_row_once(tmp_path):
    network, _, _ = run(tmp_path, [0.1], epochs=3)
    epochs = [[x for batch in network.seen[2 * e : 2 * e + 2] for x in batch] for e in range(3)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs), "rows alone are trained on"
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert all(epoch != sorted(epoch) for epoch in epochs)
    assert network.prepared == [list(range(12))]


def test_schedules_move_before_and_after_each_epoch_and_are_stored(tmp_path):
    moved = []

    class Watched(Line):
        def before_epoch(self, epoch, context):
            moved.append(("before", epoch, len(self.seen)))
            super().before_epoch(epoch, context)

        def after_epoch(self, selected):
            moved.append(("after", selected, len(self.seen)))
            super().after_epoch(selected)

    config = TrainingConfig(epochs=2, batch_size=5, patience_steps=0)
    watched = Watched(config, Context({}, torch.zeros(1, 1)))
    run(tmp_path, [0.3, 0.7], epochs=2, network=watched)
    assert moved == [("before", 0, 0), ("after", 0.3, 2), ("before", 1, 2), ("after", 0.7, 4)]
    # The checkpoint was written after the schedule had moved.
    from safetensors.torch import load

    stored = load((tmp_path / "checkpoint" / "state.safetensors").read_bytes())
    assert stored["network.temperature"] == pytest.approx(8.0 / 2 + 0.7)


def test_weight_decay_and_learning_rate_are_those_of_the_settings():
    config = TrainingConfig(learning_rate=0.25, weight_decay=0.125)
    (optimiser,) = Line(config, Context({}, torch.zeros(1, 1))).optimisers()
    (group,) = optimiser.param_groups
    assert (group["lr"], group["weight_decay"]) == (0.25, 0.125)


def test_all_optimisers_step_and_come_back(tmp_path):
    class Two(Line):
        def __init__(self, config, context):
            super().__init__(config, context)
            self.other = nn.Parameter(torch.zeros(1))

        def loss(self, batch, context):
            return super().loss(batch, context) + (self.other - 3).square().sum()

        def optimisers(self):
            return [torch.optim.Adam([self.weight], lr=0.1), torch.optim.SGD([self.other], lr=0.1, momentum=0.9)]

    config = TrainingConfig(epochs=4, batch_size=5, patience_steps=0)
    context = Context({}, torch.zeros(1, 1))
    whole, _, _ = run(tmp_path, [0.1, 0.2, 0.3, 0.4], epochs=4, network=Two(config, context), folder="whole")
    assert whole.other.item() != 0
    assert whole.weight.item() != 0
    broken = Two(config, context)
    broken.batches = dies_in(broken, 2)
    with pytest.raises(Killed):
        run(tmp_path, [0.1, 0.2, 0.3, 0.4], epochs=4, network=broken)
    again, _, _ = run(tmp_path, [0.1, 0.2, 0.3, 0.4], epochs=4, network=Two(config, context))
    assert again.resumed == 2
    assert (again.other.item(), again.weight.item()) == (whole.other.item(), whole.weight.item())


class Killed(BaseException):
    """As a process that dies: nothing in the package catches it."""


def dies_in(network, epoch):
    real = network.batches

    def batches(data, rows, order):
        if order[1] == epoch:
            raise Killed
        return real(data, rows, order)

    return batches


def test_a_killed_training_goes_on_with_the_same_numbers(tmp_path):
    values = [0.1, 0.4, 0.3, 0.2, 0.5, 0.1]
    whole, expected, _ = run(tmp_path, values, epochs=6, folder="whole")
    config = TrainingConfig(epochs=6, patience=3, patience_steps=0, batch_size=5)
    broken = Line(config, Context({}, torch.zeros(1, 1)))
    broken.batches = dies_in(broken, 3)
    with pytest.raises(Killed):
        run(tmp_path, values, epochs=6, network=broken)
    resumed, found, _ = run(tmp_path, values, epochs=6)
    assert resumed.resumed == 3
    assert resumed.prepared == [], "prepared once, before the first step"
    assert resumed.weight.item() == whole.weight.item()
    strip = [{k: v for k, v in row.items() if k != "seconds"} for row in found.history]
    assert strip == [{k: v for k, v in row.items() if k != "seconds"} for row in expected.history]
    assert (found.best_epoch, found.steps, found.best_steps) == (expected.best_epoch, expected.steps, 10)


# -- what is seen of it ------------------------------------------------------------------------------------------------


def last_bar(terminal):
    """What a bar that is done has left on the screen."""
    return [line for line in re.split(r"[\r\n]", terminal.getvalue()) if line.strip()][-1]


def test_a_bar_counts_epochs_to_the_end(tmp_path, monkeypatch):
    terminal = watched(monkeypatch)
    run(tmp_path, [0.1, 0.2, 0.3, 0.4], epochs=4)
    assert re.match(r"line: 100%\|[█#]+\| 4/4 ", last_bar(terminal))
    assert "validation=0.4000" in last_bar(terminal)


def test_a_bar_that_ends_early_is_full_and_says_why(tmp_path, monkeypatch):
    terminal = watched(monkeypatch)
    run(tmp_path, [0.0, 0.5, 0.4], epochs=30)
    assert re.match(r"line: 100%\|[█#]+\| 5/5 ", last_bar(terminal))
    assert "converged, epoch 1 is kept" in last_bar(terminal)


def test_nothing_is_shown_where_nobody_watches(tmp_path, capsys):
    run(tmp_path, [0.1, 0.2], epochs=2)
    assert capsys.readouterr().err == ""


def interrupted(tmp_path, epoch, values, **settings):
    """What is said when Ctrl-C is pressed in this epoch."""
    network = Line(TrainingConfig(**{"patience_steps": 0, "batch_size": 5, **settings}), Context({}, torch.zeros(1, 1)))
    real = network.batches

    def batches(data, rows, order):
        if order[1] == epoch:
            raise KeyboardInterrupt
        return real(data, rows, order)

    network.batches = batches
    with pytest.raises(Interrupted) as raised:
        run(tmp_path, values, network=network, **settings)
    return str(raised.value)


@pytest.mark.parametrize("epoch", [1, 2, 5])
def test_an_interrupt_says_what_is_kept_and_the_next_run_that_it_goes_on(tmp_path, capsys, epoch):
    values = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    whole, expected, _ = run(tmp_path, values, epochs=6, folder="whole")
    said = interrupted(tmp_path, epoch, values, epochs=6)
    assert said == f"line: interrupted after epoch {epoch} of 6: run it again, and it goes on from there."
    assert capsys.readouterr().err == ""
    again, found, _ = run(tmp_path, values, epochs=6)
    assert capsys.readouterr().err == f"medrec: line: broken off earlier, goes on after epoch {epoch} of 6 at most.\n"
    assert again.weight.item() == whole.weight.item()
    assert found.steps == expected.steps


def test_an_interrupt_before_the_first_epoch_is_over_says_so(tmp_path, capsys):
    assert interrupted(tmp_path, 0, [0.1], epochs=3) == "line: interrupted before anything could be kept."
    network, _, _ = run(tmp_path, [0.1], epochs=3)
    assert network.resumed == 0
    assert capsys.readouterr().err == ""


def test_an_interrupt_ends_the_line_of_the_bar(tmp_path, monkeypatch):
    terminal = watched(monkeypatch)
    interrupted(tmp_path, 2, [0.1, 0.2, 0.3], epochs=6)
    assert terminal.getvalue().endswith("\n")


DAMAGE = {
    "truncated": lambda b: b[: len(b) // 2],
    "flipped": lambda b: b[:-1] + bytes([b[-1] ^ 1]),
    "empty": lambda b: b"",
    "missing": None,
}


@pytest.mark.parametrize("how", DAMAGE)
@pytest.mark.parametrize("file", ["state.json", "state.safetensors", "checksums.json"])
def test_a_damaged_checkpoint_is_reported_and_the_training_begins_anew(tmp_path, capsys, file, how):
    run(tmp_path, [0.1, 0.2], epochs=2)
    path = tmp_path / "checkpoint" / file
    if DAMAGE[how] is None:
        path.unlink()
    else:
        path.write_bytes(DAMAGE[how](path.read_bytes()))
    network, progress, _ = run(tmp_path, [0.1, 0.2], epochs=2)
    assert network.prepared
    assert progress.epoch == 2
    assert "begins anew" in capsys.readouterr().err


def test_a_state_of_one_epoch_with_tensors_of_the_next_is_damage(tmp_path, capsys):
    run(tmp_path, [0.1, 0.2], epochs=2)
    kept = (tmp_path / "checkpoint" / "state.json").read_bytes()
    run(tmp_path, [0.1, 0.2, 0.3], epochs=3)
    assert json.loads(kept)["epoch"] == 2
    (tmp_path / "checkpoint" / "state.json").write_bytes(kept)
    network, _, _ = run(tmp_path, [0.1, 0.2, 0.3], epochs=3)
    assert network.resumed == 0
    assert "begins anew" in capsys.readouterr().err


def test_a_checkpoint_of_another_key_is_not_used(tmp_path):
    run(tmp_path, [0.1, 0.2], epochs=2)
    other = Checkpoint(tmp_path / "checkpoint", "another key", fresh=False)
    network = Line(TrainingConfig(), Context({}, torch.zeros(1, 1)))
    assert other.resume(network, network.optimisers(), torch.device("cpu")) == Progress()


def test_the_callers_random_numbers_go_on(tmp_path):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    run(tmp_path, [0.1, 0.2], epochs=2)
    assert torch.equal(torch.rand(3), expected)
    assert not torch.are_deterministic_algorithms_enabled()


def test_the_loop_names_no_system_and_no_metric():
    text = loop.__loader__.get_source(loop.__name__).lower()
    words = ["jaccard", "ndcg", "recall", "prauc", "threshold", "isinstance", "bimorec", "retain", "visits", "ranking"]
    assert [word for word in words if word in text] == []
