r"""What BiMoRec's pre-training puts into a 2D encoder, measured; data of its figures 2 and 6.

``python -m medrec.experiments.bimorec_pretraining`` trains all that is compared, once for each of :data:`SEEDS`, on the
molecules behind the medications of ``synthetic``, and keeps the tables that the chapter reads.  A fifth of the
structures is kept aside for retrieval; :func:`outsiders`, drugs of the same classes that no encoder was trained on,
serve for the test by classes.

The comparisons use the short setting :data:`~medrec.models.bimorec_pretraining.QUICK`; one run with the paper's 300
epochs on all molecules at once, :data:`FULL`, stands beside them.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr
from torch import Tensor

from medrec import keys
from medrec.chem.conformers import conformers
from medrec.chem.geometry import geometric_graph
from medrec.chem.graphs import batch_graphs
from medrec.chem.molecules import Molecules, build
from medrec.chem.similarity import tanimoto
from medrec.data import load_cohort
from medrec.knowledge.drugs import drug_atc
from medrec.lab import kept
from medrec.models.bimorec_pretraining import (
    QUICK,
    PretrainingConfig,
    Side,
    contrast,
    cosine_similarity,
    encode,
    kept_aside,
    measure,
    participation_ratio,
    pretrain,
    uniformity,
)
from medrec.nn.gin import GIN
from medrec.nn.gvp import GVPEncoder

STUDY = "bimorec_pretraining"
COMMAND = f"python -m medrec.experiments.{STUDY}"
SEEDS = (0, 1, 2)
HELD_OUT = 0.2
BASE = PretrainingConfig(**{**QUICK, "held_out": HELD_OUT})  # type: ignore[arg-type]  # of several types
"""Setting of the comparisons."""
FULL = PretrainingConfig(gvp_scalars=64, gvp_vectors=16)
"""The paper's epochs and batch, with a smaller 3D encoder (64 scalars and 16 vectors an atom instead of 128 and 64)."""
UNTRAINED, GAUSSIAN = "untrained", "Gaussian noise"
IN_PICTURE = 100
"""Molecules in the kept heat maps of figure 2."""
TABLES = ("contrasts", "conformers", "areas", "differences", "terrain", "terrain_map", "spectra", "maps", "history")


# -- molecules --------------------------------------------------------------------------------------------------------


@cache
def book_molecules() -> Molecules:
    """At most three molecules for each medication of the cohort ``synthetic``: what is trained on."""
    return build(load_cohort("synthetic").vocab["medication"].codes, per_class=3)


@cache
def outsiders() -> Molecules:
    """All other drugs of the same classes."""
    everything = build(load_cohort("synthetic").vocab["medication"].codes, per_class=0)
    inside = set(book_molecules().smiles)
    rows = [i for i, s in enumerate(everything.smiles) if s not in inside]
    smiles = tuple(everything.smiles[i] for i in rows)
    return replace(
        everything,
        smiles=smiles,
        names=tuple(everything.names[i] for i in rows),
        graphs=batch_graphs(smiles),
        average=everything.average[:, rows],
    )


def listed(molecules: Molecules) -> list[int]:
    """Rows of the molecules as the released list holds them: once for each medication that has them."""
    return [n for _, n in (molecules.average > 0).nonzero().tolist()]


def same_class(names: Sequence[str]) -> NDArray[np.bool_]:
    """Whether two drugs share an ATC level-4 class, ``(n, n)``."""
    codes = drug_atc().select("name", atc4=pl.col("atc5").str.head(5)).unique()
    rows = pl.DataFrame({"name": names, "row": range(len(names))}).join(codes, on="name")
    same = np.zeros((len(names), len(names)), dtype=bool)
    pairs = rows.join(rows, on="atc4", suffix="_other").select("row", "row_other").to_numpy()
    same[pairs[:, 0], pairs[:, 1]] = True
    return same


# -- X11.1 and X11.2 --------------------------------------------------------------------------------------------------

Setting = dict[str, Any]


def settings() -> list[Setting]:
    """Every training that is compared, apart from its seed.

    Form of the loss (X11.1): denominator, symmetry, duplicates. Second view (X11.2): ``coords``, ``gvp_layers``.
    """
    forms = [
        {"nce_denominator": d, "symmetric": s, "duplicates": twice}
        for d in ("negatives", "with_positive")
        for s in (False, True)
        for twice in (False, True)
    ]
    views = [{"coords": c} for c in ("flat", "shuffled", "random", "none")] + [{"gvp_layers": 4}]
    return forms + views


def train(setting: Setting, seed: int = 0, config: PretrainingConfig = BASE) -> Side:
    """Encoders of molecules under one of :func:`settings`."""
    molecules = book_molecules()
    rows = listed(molecules) if setting.get("duplicates") else range(len(molecules.smiles))
    graphs = molecules.graphs.to_data_list()
    config = replace(config, **{k: v for k, v in setting.items() if k != "duplicates"})
    return contrast("molecule", [molecules.smiles[i] for i in rows], [graphs[i] for i in rows], config, seed=seed)


def describe(side: Side, setting: Setting, seed: int, config: PretrainingConfig = BASE) -> dict[str, Any]:
    """One row of ``contrasts``: the setting, retrieval and geometry on molecules kept aside, each counted once."""
    rows = listed(book_molecules()) if setting.get("duplicates") else list(range(len(book_molecules().smiles)))
    first = torch.tensor([rows.index(i) for i in sorted(set(rows))])
    chosen = first[side.held_out[first]]
    solid = side.embeddings.get("3d")
    values = measure(side.embeddings["2d"][chosen], None if solid is None else solid[chosen])
    config = replace(config, **{k: v for k, v in setting.items() if k != "duplicates"})
    return {
        "coords": config.coords,
        "gvp_layers": config.gvp_layers,
        "nce_denominator": config.nce_denominator,
        "symmetric": config.symmetric,
        "duplicates": bool(setting.get("duplicates")),
        "seed": seed,
        **values,
        "participation": participation_ratio(side.embeddings["2d"][chosen]),
        "first_loss": side.losses[0],
        "last_loss": side.losses[-1],
    }


# -- X11.3 ------------------------------------------------------------------------------------------------------------


@torch.no_grad()
def conformer_noise(side: Side, seed: int, n: int = 3, config: PretrainingConfig = BASE) -> pl.DataFrame:
    """How alike the 3D view finds conformers of one molecule, and of different ones, among those kept aside.

    Returns:
        ``pair`` ("one molecule", "two molecules"), ``similarity``: one row a pair of conformers. Molecules with a
        single conformer take part as partners of others only.
    """
    from torch_geometric.data import Batch

    smiles = [s for s, h in zip(book_molecules().smiles, side.held_out.tolist(), strict=True) if h]
    found = [one for one in conformers(smiles, n=n) if one.found]
    owner = np.repeat(np.arange(len(found)), [len(one.coordinates) for one in found])
    graphs = [geometric_graph(one.smiles, places, atoms=one.atoms) for one in found for places in one.coordinates]
    encoder = GVPEncoder(config.gvp_scalars, config.gvp_vectors, config.gvp_layers, config.width)
    encoder.load_state_dict(side.teacher)
    embedding = encoder.eval()(Batch.from_data_list(graphs))
    similarity = cosine_similarity(embedding, embedding).numpy()
    i, j = np.triu_indices(len(owner), 1)
    pair = np.where(owner[i] == owner[j], "one molecule", "two molecules")
    return pl.DataFrame({"seed": seed, "pair": pair, "similarity": similarity[i, j]})


# -- figure 2 ---------------------------------------------------------------------------------------------------------


def untrained(graphs: Any, seed: int) -> Tensor:
    """Embeddings by a 2D encoder as it is drawn."""
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        encoder = GIN(BASE.width, BASE.gin_layers, BASE.dropout)
    return encode(encoder.state_dict(), graphs, BASE)


def noise(n: int, seed: int) -> Tensor:
    """Embeddings that know nothing, ``(n, d)``."""
    return torch.randn(n, BASE.width, generator=torch.Generator().manual_seed(seed))


def cosine(embedding: Tensor) -> NDArray[np.float64]:
    """Similarity of each row to each, ``(n, n)``."""
    return cosine_similarity(embedding, embedding).double().numpy()


def terrain(similarity: NDArray[np.float64], fingerprints: NDArray[np.float64]) -> dict[str, float]:
    """Figure 2 in numbers: :math:`|\\cos - \\text{Tanimoto}|` over pairs.

    Returns:
        ``mean``, ``sd``, ``p05``, ``p95``, and ``spearman``, the rank correlation of both similarities.
    """
    i, j = np.triu_indices(len(similarity), 1)
    gap = np.abs(similarity - fingerprints)[i, j]
    low, high = np.percentile(gap, [5, 95])
    rank = spearmanr(similarity[i, j], fingerprints[i, j]).statistic
    return {"mean": gap.mean(), "sd": gap.std(), "p05": low, "p95": high, "spearman": rank}


def clustered(fingerprints: NDArray[np.float64]) -> NDArray[np.intp]:
    """An order in which similar molecules stand together: leaves of average linkage."""
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    return leaves_list(linkage(squareform(1 - fingerprints, checks=False), "average"))


# -- do classes of drugs stand together? ------------------------------------------------------------------------------


class _Pairs:
    """Pairs of molecules in the order of their similarity: what the area needs, once for all weights."""

    def __init__(self, similarity: NDArray[np.float64], same: NDArray[np.bool_]) -> None:
        self.i, self.j = np.triu_indices(len(similarity), 1)
        values, self.group = np.unique(similarity[self.i, self.j], return_inverse=True)
        self.n, self.same = len(values), same[self.i, self.j]

    def area(self, weights: NDArray[np.float64]) -> float:
        w = weights[self.i] * weights[self.j]
        positive = np.bincount(self.group, w * self.same, self.n)
        negative = np.bincount(self.group, w * ~self.same, self.n)
        below = negative.cumsum() - negative / 2
        return float((positive * below).sum() / (positive.sum() * negative.sum()))


def class_area(similarity: NDArray[np.float64], same: NDArray[np.bool_]) -> float:
    """Area under the curve: how often a pair of one class is more similar than a pair of two; ties count half.

    Args:
        similarity: ``(n, n)``.
        same: ``(n, n)``.
    """
    return _Pairs(similarity, same).area(np.ones(len(similarity)))


def area_draws(
    similarity: NDArray[np.float64], same: NDArray[np.bool_], draws: int = 200, seed: int = 0
) -> NDArray[np.float64]:
    """:func:`class_area` on resamples of the molecules; the same resamples whatever the similarity."""
    n, pairs = len(similarity), _Pairs(similarity, same)
    weights = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), draws).astype(float)
    return np.array([pairs.area(w) for w in weights])


# -- figure 6 ---------------------------------------------------------------------------------------------------------


def spectrum(embedding: Tensor, components: int = 20) -> dict[str, Any]:
    """Explained variance of the first principal components, participation ratio, uniformity."""
    variances = torch.linalg.svdvals((embedding - embedding.mean(0)).double()).square()
    return {
        "participation": participation_ratio(embedding),
        "uniformity": uniformity(embedding),
        "explained": (variances / variances.sum())[:components].tolist(),
    }


def flattened(embedding: Tensor, method: str, seed: int = 0) -> NDArray[np.float64]:
    """Two dimensions of an embedding, ``(n, 2)``.

    Args:
        embedding: ``(n, d)``.
        method: ``"PCA"`` or ``"t-SNE"`` (perplexity 30).
        seed: of t-SNE.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    if method == "PCA":
        return PCA(2).fit_transform(embedding.double().numpy())
    return TSNE(2, perplexity=30, init="random", random_state=seed).fit_transform(embedding.numpy()).astype(float)


# -- store ------------------------------------------------------------------------------------------------------------


def read() -> kept.Kept:
    """The kept tables: :data:`TABLES`, and ``facts``."""
    return kept.read(STUDY, command=COMMAND)


def facts() -> dict[str, float]:
    """Kept numbers by name."""
    return dict(read().table("facts").iter_rows())


def name_of(setting: Setting) -> str:
    """Short name of a second view, as the kept tables call an encoder."""
    return {"conformers": "2D+3D", "flat": "2D+flat", "shuffled": "2D+shuffled", "random": "2D+random", "none": "2D"}[
        setting.get("coords", "conformers")
    ]


def _is_view(setting: Setting) -> bool:
    """Whether only the second view differs from the base setting."""
    changed = setting.get("symmetric") or setting.get("duplicates") or setting.get("nce_denominator") == "with_positive"
    return not changed


def main() -> None:
    """Train, measure, write: about a quarter of an hour on one core, most of it for the 300 epochs of :data:`FULL`."""
    start = time.perf_counter()
    torch.set_num_threads(1)
    molecules, others = book_molecules(), outsiders()
    contrasts, noises, encoders = [], [], {}
    for setting in settings():
        # Forms of the loss are compared on one seed, second views on all.
        for seed in SEEDS if _is_view(setting) else SEEDS[:1]:
            side = train(setting, seed)
            contrasts.append(describe(side, setting, seed))
            if _is_view(setting) and "gvp_layers" not in setting:
                encoders[name_of(setting), seed] = side.state
                if "coords" not in setting:
                    noises.append(conformer_noise(side, seed))
    full = pretrain(molecules, config=FULL)
    tables = {
        "contrasts": pl.DataFrame(contrasts),
        "conformers": _noise_table(pl.concat(noises)),
        "history": full.history,
        **_areas(encoders, full.molecule_encoder, others),
        **_terrain(encoders, full.molecule_encoder, molecules),
        **_figure_6(full, molecules),
    }
    held = kept_aside(molecules.smiles, HELD_OUT, 0)
    report = {k: full.report[k] for k in ("molecule", "fragment")}
    numbers = {
        "molecules": len(molecules.smiles),
        "listed": len(listed(molecules)),
        "fragments": len(molecules.fragments),
        "held out": int(held.sum()),
        "outsiders": len(others.smiles),
        "outsider pairs of one class": int(np.triu(same_class(others.names), 1).sum()),
        "full/seconds": full.report["seconds"],
        **{
            f"full/{kind}/{name}": value
            for kind, found in report.items()
            for name, value in (found["train"] | {"left_out": found["left_out"]}).items()
        },
        "seconds": time.perf_counter() - start,
    }
    tables["facts"] = pl.DataFrame({"name": list(numbers), "value": [float(v) for v in numbers.values()]})
    folder = kept.save(
        STUDY,
        {name: table.with_columns(pl.selectors.float().round(4)) for name, table in tables.items()},
        cohort=None,
        command=COMMAND,
        code=kept.code_of("medrec.experiments.bimorec_pretraining", "models", "nn", "chem", "losses"),
        seconds=time.perf_counter() - start,
        more={"molecules": keys.digest(molecules.smiles, molecules.fragments), "outsiders": keys.digest(others.smiles)},
    )
    print(folder)


def _noise_table(pairs: pl.DataFrame) -> pl.DataFrame:
    """Shares of pairs in twentieths of similarity, with mean and quantiles repeated beside them."""
    edges = np.linspace(-1, 1, 41)
    rows = []
    for (seed, pair), part in pairs.group_by("seed", "pair", maintain_order=True):
        values = part["similarity"].to_numpy().clip(-1, 1)  # a cosine of 1 can be rounded to a little more
        share = np.histogram(values, edges)[0] / len(values)
        low, middle, high = np.percentile(values, [5, 50, 95])
        rows += [
            {"seed": seed, "pair": pair, "from": a, "share": s, "n": len(values), "mean": values.mean()}
            | {"p05": low, "median": middle, "p95": high}
            for a, s in zip(edges, share, strict=False)
        ]
    return pl.DataFrame(rows)


def _areas(
    encoders: Mapping[tuple[str, int], Mapping[str, Tensor]], full: Mapping[str, Tensor], others: Molecules
) -> dict[str, pl.DataFrame]:
    same = same_class(others.names)
    similarities = {
        (name, seed): cosine(encode(state, others.graphs, BASE)) for (name, seed), state in encoders.items()
    }
    similarities["2D+3D, 300 epochs", 0] = cosine(encode(full, others.graphs, FULL))
    for seed in SEEDS:
        similarities[UNTRAINED, seed] = cosine(untrained(others.graphs, seed))
        similarities[GAUSSIAN, seed] = cosine(noise(len(others.smiles), seed))
    similarities["Tanimoto", 0] = tanimoto(others.smiles)
    draws = {key: area_draws(s, same) for key, s in similarities.items()}
    rows: list[dict[str, Any]] = [
        {"encoder": name, "seed": seed, "area": class_area(s, same)} | _interval(draws[name, seed])
        for (name, seed), s in similarities.items()
    ]
    area = {(r["encoder"], r["seed"]): r["area"] for r in rows}
    differences = []
    for against in ("2D", "2D+flat", "2D+shuffled", "2D+random", UNTRAINED):
        # Seeds are drawn with the molecules: an interval over both.
        gaps = {seed: draws["2D+3D", seed] - draws[against, seed] for seed in SEEDS}
        picked = np.random.default_rng(0).choice(SEEDS, size=(len(gaps[0]), len(SEEDS)))
        mixed = np.stack([gaps[s] for s in SEEDS])[picked, np.arange(len(picked))[:, None]].mean(1)
        value = np.mean([area["2D+3D", s] - area[against, s] for s in SEEDS])
        differences.append({"encoder": "2D+3D", "against": against, "difference": value} | _interval(mixed))
    return {"areas": pl.DataFrame(rows), "differences": pl.DataFrame(differences)}


def _interval(draws: NDArray[np.float64]) -> dict[str, float]:
    low, high = np.percentile(draws, [2.5, 97.5])
    return {"low": low, "high": high}


def _terrain(
    encoders: Mapping[tuple[str, int], Mapping[str, Tensor]], full: Mapping[str, Tensor], molecules: Molecules
) -> dict[str, pl.DataFrame]:
    fingerprints = tanimoto(molecules.smiles)
    similarities = {
        UNTRAINED: cosine(untrained(molecules.graphs, 0)),
        **{name: cosine(encode(encoders[name, 0], molecules.graphs, BASE)) for name in ("2D", "2D+flat", "2D+3D")},
        "2D+3D, 300 epochs": cosine(encode(full, molecules.graphs, FULL)),
        GAUSSIAN: cosine(noise(len(molecules.smiles), 0)),
    }
    rows = [{"encoder": name} | terrain(s, fingerprints) for name, s in similarities.items()]
    order = clustered(fingerprints)
    order = order[np.linspace(0, len(order) - 1, IN_PICTURE).round().astype(int)]
    i, j = np.triu_indices(IN_PICTURE, 1)
    columns = {name: np.abs(s - fingerprints)[np.ix_(order, order)][i, j] for name, s in similarities.items()}
    names = np.array(molecules.names)[order]
    picture = pl.DataFrame({"i": i, "j": j, "drug_i": names[i], "drug_j": names[j], **columns})
    return {"terrain": pl.DataFrame(rows), "terrain_map": picture}


def _figure_6(full: Any, molecules: Molecules) -> dict[str, pl.DataFrame]:
    spectra, maps = [], []
    for kind, graphs in (("molecule", molecules.graphs), ("fragment", molecules.fragment_graphs)):
        names = molecules.names if kind == "molecule" else molecules.fragments
        views = {
            "pre-trained": full.embeddings[f"{kind}_2d"],
            UNTRAINED: untrained(graphs, 0),
            GAUSSIAN: noise(len(names), 0),
        }
        for encoder, embedding in views.items():
            found = spectrum(embedding)
            spectra += [
                {"kind": kind, "encoder": encoder, "component": k + 1, "explained": share}
                | {"participation": found["participation"], "uniformity": found["uniformity"]}
                for k, share in enumerate(found["explained"])
            ]
            ways = [("PCA", 0), *(("t-SNE", seed) for seed in (SEEDS if encoder != UNTRAINED else SEEDS[:1]))]
            for method, seed in ways:
                x, y = flattened(embedding, method, seed).round(2).T
                maps.append(
                    pl.DataFrame({"item": names, "x": x, "y": y}).select(
                        pl.lit(kind).alias("kind"),
                        pl.lit(encoder).alias("encoder"),
                        pl.lit(method).alias("method"),
                        pl.lit(seed).alias("seed"),
                        pl.all(),
                    )
                )
    return {"spectra": pl.DataFrame(spectra), "maps": pl.concat(maps)}


if __name__ == "__main__":
    main()
