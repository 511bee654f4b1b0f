"""Planted edges: worlds in which nothing but patients tells edges apart, arms, the oracle, and rows from end to end."""

import numpy as np
import polars as pl
import pytest

from medrec import paths
from medrec.experiments import planted_graph
from medrec.experiments.planted_graph import ITEMS, World


def test_a_world_has_a_thousand_edges_and_nothing_but_patients_tells_useful_ones_apart():
    world, other = World.draw(0), World.draw(1)
    head, _, tail = world.knowledge.triplets.T
    useful = world.useful[tail]
    assert (len(head), useful.sum()) == (1000, 200) == (planted_graph.N_EDGES, planted_graph.N_USEFUL)
    assert (np.bincount(head) == 10).all()
    assert (np.bincount(head[useful]) == 2).all()
    links = np.bincount(tail)
    of_useful, of_idle = (links[ITEMS:][which] for which in (world.useful[ITEMS:], ~world.useful[ITEMS:]))
    assert sorted(of_idle) == sorted(np.tile(of_useful, planted_graph.IDLE))
    assert world.knowledge.content == World.draw(0).knowledge.content != other.knowledge.content


def test_patients_are_given_what_useful_edges_say():
    """Two medications of one useful attribute go to the same patients; of an idle one no more often than any two."""
    world = World.draw(2)
    assert not (world.given & world.target).any()
    taken = (world.given | world.target).astype(float)
    together = np.corrcoef(taken.T)
    head, _, tail = world.knowledge.triplets.T
    mean = {}
    for name, which in (("useful", world.useful), ("idle", ~world.useful)):
        pairs = [together[np.ix_(head[tail == t], head[tail == t])] for t in np.flatnonzero(which) if t >= ITEMS]
        mean[name] = np.mean(np.concatenate([p[np.triu_indices(len(p), 1)] for p in pairs]))
    assert mean["useful"] > 0.15 > 0.05 > mean["idle"]


CHEAP = ("oracle", "filter", "add", "random", "frequent", "one view")


@pytest.fixture(scope="module")
def rows():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planted_graph, "TRIED", {name: planted_graph.TRIED[name] for name in CHEAP})
        return planted_graph.epochs(1, 2)


def test_the_oracle_keeps_useful_edges_alone_and_arms_with_one_view_keep_none(rows):
    oracle = rows.filter(arm="oracle")
    assert (oracle["kept"] == ITEMS).all()
    assert (oracle["useful"] == ITEMS).all()
    assert rows.filter(arm="one view")["kept"].null_count() == 3
    assert rows["ndcg_20"].is_between(0, 1).all()
    assert set(rows["epoch"]) == {0, 1, 2}


def test_controls_keep_as_many_edges_as_the_filter_and_only_one_arm_has_new_ones(rows):
    first = rows.filter(epoch=1, seed=0)
    kept, new = (dict(first.select("arm", column).iter_rows()) for column in ("kept", "new"))
    assert kept["random"] == kept["frequent"] == kept["filter"]
    assert new["add"] > 0
    assert kept["add"] + new["add"] <= ITEMS
    assert all(not count for name, count in new.items() if name != "add")


def test_same_seed_same_rows(rows):
    again = pl.DataFrame(planted_graph.arm("filter", World.draw(0), 0, 1)).with_columns(pl.selectors.float().round(6))
    before = rows.filter(pl.col("epoch") <= 1, arm="filter", seed=0).drop("arm", "seed")
    assert again.equals(before.cast(again.schema))


def test_enrichment_and_gain_by_hand():
    found = [
        {"arm": name, "seed": seed, "epoch": epoch, "kept": kept, "useful": useful, "new": 0, "above": 0.5}
        | {"ndcg_20": ndcg, "recall_20": 0.0}
        for name, seed, epoch, kept, useful, ndcg in (
            ("filter", 0, 0, 10, 10, 0.9),
            ("filter", 0, 1, 100, 60, 0.5),
            ("filter", 1, 1, 50, 10, 0.4),
            ("random", 0, 1, 100, 20, 0.4),
            ("random", 1, 1, 100, 20, 0.4),
            ("one view", 0, 1, None, None, 0.4),
            ("one view", 1, 1, None, None, 0.4),
        )
    ]
    rows = {row["arm"]: row for row in planted_graph.summary(pl.DataFrame(found)).to_dicts()}
    assert rows["filter"]["enrichment"] == pytest.approx((3 + 1) / 2)
    # Student's t with one degree of freedom is 12.706; the deviation of the mean of 3 and 1 is 1.
    assert rows["filter"]["enrichment_high"] == pytest.approx(2 + 12.706, abs=1e-3)
    assert rows["filter"]["gain"] == pytest.approx(0.05)
    assert (rows["random"]["enrichment"], rows["random"]["gain"]) == (1, 0)
    assert rows["one view"]["enrichment"] is None
    assert list(rows) == ["filter", "random", "one view"]


def test_chance():
    chance = planted_graph.chance()
    assert (chance.mean(), chance.std(), chance.sf(29)) == pytest.approx((20, 3.797, 0.00788), abs=5e-4)


def test_rows_from_end_to_end(monkeypatch, tmp_path):
    monkeypatch.setattr(paths, "base_dir", lambda: tmp_path)
    monkeypatch.setattr(planted_graph, "TRIED", {name: planted_graph.TRIED[name] for name in ("filter", "random")})
    monkeypatch.setattr(planted_graph, "epochs", lambda seeds, n=planted_graph.epochs: n(seeds, 1))
    planted_graph.main(["--seeds", "2"])
    found = planted_graph.read()
    assert (found.status, found.provenance["seeds"]) == ("current", 2)
    assert found.folder == tmp_path / "results" / "planted_graph"
    assert found.table("epochs").height == 2 * 2 * 2
