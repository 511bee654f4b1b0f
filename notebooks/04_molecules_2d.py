# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A drug as a graph: molecules in two dimensions (BiMoRec, MoleRec, NLA-MMR, SafeDrug)
#
# Hyoscyamine is one of two mirror images, and atropine is both of them in equal parts.
# Give both to a network that reads atoms and bonds, as deep as you like: it will answer the same for the two.
# What does a graph network see of a molecule, and what can it not see?
#
# ```{admonition} Objectives
# :class: objectives
# After this chapter you can
# - *write* the nine atom and three bond features of a molecule by hand,
# - *compute* one layer of the graph network on ethanol,
# - *decide* by colour refinement whether two molecules can be told apart,
# - *show* which feature depends on how a molecule was typed,
# - *cut* a molecule into fragments and *fill* the mask $H$,
# - *repair* a fingerprint that loses salts,
# - *explain* why a similarity needs the name of its fingerprint.
# ```
#
# **Prerequisites.** The classes and drugs of {doc}`03_drug_knowledge`; {term}`SMILES`, {term}`BRICS`; graphs and matrices.
#
# **Code.** {py:mod}`medrec.chem.graphs`, {py:mod}`medrec.chem.fragments`, {py:mod}`medrec.chem.fingerprints` and {py:mod}`medrec.nn.gin`.

# %% tags=["hide-input"]
import itertools
import os
import subprocess
import sys
from collections import Counter, defaultdict
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import polars as pl
import torch
from rdkit import Chem
from rdkit.Chem import BRICS, rdDepictor, rdFingerprintGenerator

from medrec import plotting
from medrec.book import page
from medrec.chem.conformers import conformers
from medrec.chem.fingerprints import FILLING, wl_fingerprints
from medrec.chem.fragments import brics_fragments, completed, fragment_mask
from medrec.chem.graphs import (
    ATOM_FEATURES,
    BOND_FEATURES,
    batch_graphs,
    molecular_graph,
    parse,
)
from medrec.chem.molecules import build
from medrec.chem.similarity import FINGERPRINTS, tanimoto
from medrec.data import load_cohort, privacy
from medrec.knowledge.drugs import drug_atc, drugs
from medrec.lab import published
from medrec.nn.gin import GIN, FeatureEmbedding, gin_aggregate, mean_readout

# %% tags=["parameters", "hide-input"]
seed: int = 0  # seed of random spellings, renumberings and untrained encoders
cohort: str = "synthetic"  # gives the medications whose molecules are collected
device: str = "cpu"  # the page computes little
profile: str = "quick"  # quick: one random spelling a drug; full: five

# %% tags=["hide-input"]
plotting.use_style()
records = load_cohort(cohort)
show = partial(privacy.show, records)  # closed records: aggregates only
close = {"atol": 5e-5, "rtol": 0}
known = dict(
    drugs().filter(pl.col("smiles") != "").select("name", "smiles").iter_rows()
)
library = sorted(set(known.values()))  # every structure once
name_of = {known[name]: name for name in sorted(known, reverse=True)}
page.glue(n_drugs=len(known), n_structures=len(library))
page.at_a_glance(
    {"seed": seed, "cohort": cohort, "device": device, "profile": profile},
    paper="BiMoRec (2024), equations 1 and 2 and figure 1; NLA-MMR (2024), equations 5 to 7; MoleRec (2023); SafeDrug (2021)",
    data=page.about(
        records,
        f"{len(library)} structures of the book's drug table; the classes of {page.cohort_line(records)}",
    ),
    learned="nothing: encoders on this page are untrained",
    full_run="one minute on two cores (five spellings of each drug)",
)

# %% [markdown]
# ## The problem on two pairs of drugs
#
# {cite:t}`mu2024bimorec` open with a pair: atropine and ipratropium look alike on paper, with a Tanimoto similarity of more than {glue:text}`printed_tanimoto:.0%`, and a system that sees flat structures alone may therefore confuse them.
# Here they are.


# %%
def on_paper(smiles, like=None):
    molecule = parse(smiles)
    rdDepictor.Compute2DCoords(molecule, useRingTemplates=True)
    if like is not None:  # the same corners in the same places
        mine, theirs = molecule.GetConformer(), like.GetConformer()
        for i, k in enumerate(like.GetSubstructMatch(molecule)):
            mine.SetAtomPosition(i, theirs.GetAtomPosition(k))
    return molecule


def draw(ax, molecule, discs=None):
    molecule = Chem.Mol(molecule)
    Chem.Kekulize(molecule)  # single and double bonds to draw
    xy = molecule.GetConformer().GetPositions()[:, :2]
    for bond in molecule.GetBonds():
        ends = xy[[bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()]]
        aside = np.array([-1, 1]) * (ends[1] - ends[0])[::-1] * 0.06
        for k in {1: [0], 2: [-1, 1], 3: [-2, 0, 2]}[int(bond.GetBondTypeAsDouble())]:
            ax.plot(*(ends + k * aside).T, color=plotting.INK, lw=1.1, zorder=1)
    ax.set(aspect="equal")
    ax.margins(0.12)
    ax.axis("off")
    for a, (text, colour) in (heteroatoms(molecule) | (discs or {})).items():
        ax.scatter(*xy[a], s=125, color=colour, zorder=2)
        ax.text(*xy[a], text, color="w", size=6.5, ha="center", va="center", zorder=3)


def heteroatoms(molecule):
    colours = {"N": plotting.BLUE, "O": plotting.VERMILION}
    sign = {-1: "⁻", 0: "", 1: "⁺"}
    return {
        atom.GetIdx(): (
            atom.GetSymbol() + sign[atom.GetFormalCharge()],
            colours.get(atom.GetSymbol(), plotting.OCHRE),
        )
        for atom in molecule.GetAtoms()
        if atom.GetSymbol() != "C"
    }


# %% tags=["hide-input"]
#| name: fig-molecules-pair
#| alt: Two structural drawings side by side in the same orientation. Atropine: a bridged ring with a nitrogen, joined
#|   by an ester to a carbon with a hydroxymethyl group and a phenyl ring. Ipratropium: the same, but its nitrogen is
#|   charged and carries one more branch of three carbons.
#| caption: The pair of BiMoRec's figure 1, drawn flat and turned alike: atropine left, ipratropium right. Corners
#|   without a letter are carbons; hydrogens are not drawn. Notice the nitrogen: ipratropium's is charged and has four
#|   bonds, one of them to a branch of three carbons.
pair = ["atropine", "ipratropium"]
larger = on_paper(known["ipratropium"])
drawings = {"atropine": on_paper(known["atropine"], like=larger), "ipratropium": larger}
fig, axes = plt.subplots(1, 2, figsize=(plotting.FULL, 2.3), sharex=True, sharey=True)
for ax, (name, drawn) in zip(axes, drawings.items(), strict=True):
    draw(ax, drawn)
    ax.annotate(name, (0, 0.95), xycoords="axes fraction", fontsize=9)
show(fig)

# %% [markdown]
# How alike are they?
# Chemistry has many rulers, and each gives another number.
# Beside them a second pair, quinine against malaria and quinidine against disturbed rhythm of the heart.

# %%
rulers = {
    name: [
        float(tanimoto([known[a], known[b]], name)[0, 1])
        for a, b in (pair, ("quinine", "quinidine"))
    ]
    for name in FINGERPRINTS
}
by_pair = pl.DataFrame(
    [(name, *values) for name, values in rulers.items()],
    schema=["fingerprint", "atropine, ipratropium", "quinine, quinidine"],
    orient="row",
).sort("atropine, ipratropium", descending=True)
show(
    page.table(
        by_pair,
        caption=(
            "Tanimoto similarity of two pairs of drugs by seven fingerprints of RDKit; "
            "no cohort. Morgan: radius 2, 2048 bits; the others at their defaults."
        ),
    )
)

# %% [markdown]
# **Check.** The numbers, and what no reader should miss: the pair that *every* ruler takes for one molecule is the other one.

# %%
counted = {"path": 0.962, "layered": 0.899, "maccs": 0.882, "pattern": 0.822}
counted |= {"atom pairs": 0.662, "morgan": 0.633, "torsions": 0.536}
for name, value in counted.items():
    np.testing.assert_allclose(rulers[name][0], value, atol=2e-3)
    assert rulers[name][1] == 1
claimed = published.fact("bimorec_pair_tanimoto_percent") / 100
above = [name for name, (value, _) in rulers.items() if value > claimed]
page.glue(
    printed_tanimoto=claimed,
    highest=by_pair["atropine, ipratropium"][0],
    lowest=by_pair["atropine, ipratropium"][-1],
    n_above=len(above),
    n_rulers=len(rulers),
    which_above=page.about(records, ", ".join(above)),
    morgan_pair=rulers["morgan"][0],
    path_pair=rulers["path"][0],
)
show(above)

# %% [markdown]
# From {glue:text}`lowest:.3f` to {glue:text}`highest:.3f`, for the same two drugs.
# Keep three questions until the end of the chapter.
# Which of these numbers is the paper's?
# Does a graph network see the pair as these rulers do?
# And what about quinine and quinidine, which are bonded atom by atom in the same way and differ in space alone?
#
# ## Nine words for an atom, three for a bond
#
# The systems of this line read a molecule as a graph: heavy atoms are nodes, bonds are edges, hydrogens are counted.
# The papers speak of "9-dimensional" atom features and "3-dimensional" bond features.
# They are nine and three *class indices*, in the lists of the Open Graph Benchmark {cite:p}`hu2020ogb`, and each is looked up in a table of its own:
#
# $$
# x_a = \sum_{k=1}^{9} E_k\big[f_k(a)\big], \qquad e_{ab} = \sum_{k=1}^{3} E'_k\big[f'_k(a, b)\big] .
# $$ (eq-molecules-features)
#
# No paper prints this line; it is what the released codes of MoleRec, NLA-MMR and BiMoRec do.

# %% tags=["hide-input"]
sizes = {
    name: len(classes) for name, classes in (ATOM_FEATURES | BOND_FEATURES).items()
}
show(
    page.table(
        pl.DataFrame(
            {
                "feature": list(sizes),
                "of": ["atom"] * 9 + ["bond"] * 3,
                "classes": list(sizes.values()),
                "first and last": [
                    f"{classes[0]} … {classes[-1]}"
                    for classes in (ATOM_FEATURES | BOND_FEATURES).values()
                ],
            }
        ),
        caption="The features; the last class stands for everything else. The degree counts hydrogens. No cohort.",
    )
)

# %%
torch.manual_seed(seed)
d = 4
f = molecular_graph(known["atropine"]).x  # (N, 9)
E = [torch.randn(n, d) for n in list(sizes.values())[:9]]
x = sum(E[k][f[:, k]] for k in range(9))  # (N, d)

# %% [markdown]
# **Check.** Nine look-ups are what {py:class}`~medrec.nn.gin.FeatureEmbedding` computes in one.
# Names of classes carry no meaning: shuffle the numbers of a table and its rows alike, and nothing changes.
# Then break it: whoever multiplies the nine indices with a matrix, as one does with nine numbers, gets another result after the same shuffle.

# %%
tables = FeatureEmbedding(tuple(len(table) for table in E), d)
with torch.no_grad():
    tables.weight.copy_(torch.cat(E))
torch.testing.assert_close(tables(f), x, atol=1e-5, rtol=0)

renamed = [torch.randperm(len(table)) for table in E]
f_new = torch.stack([renamed[k][f[:, k]] for k in range(9)], 1)
E_new = [table[name.argsort()] for table, name in zip(E, renamed, strict=True)]
torch.testing.assert_close(sum(E_new[k][f_new[:, k]] for k in range(9)), x)
as_numbers = torch.randn(9, d)
assert not torch.allclose(f_new.float() @ as_numbers, f.float() @ as_numbers)
show("look-ups survive a renaming of the classes, products with indices do not")

# %% [markdown]
# **Check.** Two nitrogens by hand.
# Atropine's has three bonds and no charge, ipratropium's four bonds and a positive charge.

# %%
nitrogens = {}
for name in pair:
    graph = molecular_graph(known[name])
    (nitrogens[name],) = graph.x[graph.x[:, 0] == 6].tolist()
assert nitrogens["atropine"] == [6, 0, 3, 5, 0, 0, 2, 0, 1]
assert nitrogens["ipratropium"] == [6, 0, 4, 6, 0, 0, 2, 0, 1]
show(nitrogens)

# %% tags=["hide-input"]
#| name: fig-molecules-nitrogens
#| alt: Two rows of nine boxes, one row for the nitrogen of atropine and one for that of ipratropium. Seven boxes hold
#|   the same word in both rows; degree, 3 against 4, and formal charge, 0 against 1, are filled because they differ.
#| caption: The nitrogens of atropine and ipratropium in words; filled: the two slots in which they differ. No cohort.
#|   A network parts the two drugs before its first layer.
fig, ax = plt.subplots(figsize=(plotting.FULL, 1.5))
for row, name in enumerate(pair):
    for k, (feature, classes) in enumerate(ATOM_FEATURES.items()):
        differs = len({nitrogens[n][k] for n in pair}) > 1
        word = str(classes[nitrogens[name][k]]).lower()
        ax.text(
            k,
            -row,
            {"unspecified": "none", "7": "7 (N)"}.get(word, word),
            ha="center",
            va="center",
            fontsize=7.5,
            color="w" if differs else plotting.INK,
            bbox={
                "boxstyle": "round",
                "facecolor": plotting.VERMILION if differs else "none",
                "edgecolor": plotting.INK,
                "linewidth": 0.8,
            },
        )
        ax.text(k, 0.75, feature.replace(" ", "\n"), ha="center", fontsize=7)
    ax.text(-0.7, -row, name, ha="right", va="center", fontsize=8)
ax.set(xlim=(-1.8, 8.5), ylim=(-1.5, 1.5))
ax.axis("off")
show(fig)

# %% [markdown]
# ```{exercise}
# :label: ex-molecules-oxygen
#
# Write the nine indices of the oxygen of ethanol, `CCO`.
# ```
#
# ```{solution-start} ex-molecules-oxygen
# :class: dropdown
# ```

# %%
assert molecular_graph("CCO").x[2].tolist() == [7, 0, 2, 5, 1, 0, 2, 0, 0]
show(dict(zip(ATOM_FEATURES, molecular_graph("CCO").x[2].tolist(), strict=True)))

# %% [markdown]
# Element 8 is index 7; no label; two bonds, one of them to hydrogen; charge 0 is index 5; one hydrogen; no radical; sp3 is index 2; neither aromatic nor in a ring.
#
# ```{solution-end}
# ```
#
# ## One layer of the graph network, by hand
#
# The network is a graph isomorphism network {cite:p}`xu2019gin` with bond features {cite:p}`hu2020pretraining`.
# Each atom adds what its neighbours send, and a small perceptron digests the sum:
#
# $$
# h_a \leftarrow \operatorname{MLP}\Big((1+\varepsilon)\, h_a + \sum_{b \in \mathcal N(a)} \operatorname{ReLU}\big(h_b + e_{ab}\big)\Big),
# \qquad E_n = \frac1N \sum_{a=1}^{N} h_a .
# $$ (eq-gin-layer)
#
# These are equations 1 and 2 of BiMoRec and 5 to 7 of NLA-MMR; BiMoRec leaves update and read-out open, and sum and mean are those of its code.
#
# The toy: ethanol C–C–O, the drinking alcohol, and dimethyl ether C–O–C, a gas, of the same atoms.
# Let a carbon start with 1 and an oxygen with 2; every bond adds 0.5; $\varepsilon = 0$, and the perceptron changes nothing.

# %%
b, a = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])  # b sends to a; each bond twice
e_ab = torch.full((4,), 0.5)


def layer(h, e_ab=e_ab, eps=0.0):
    messages = torch.relu(h[b] + e_ab)
    return (1 + eps) * h + torch.zeros(3).index_add(0, a, messages)


ethanol, ether = [torch.tensor([1.0, 1, 2])], [torch.tensor([1.0, 2, 1])]
for _ in range(2):
    ethanol.append(layer(ethanol[-1]))
    ether.append(layer(ether[-1]))

# %% [markdown]
# **Check.** By hand, and against {py:func}`~medrec.nn.gin.gin_aggregate` of the real model.
# Before the first layer both molecules have the mean 4/3, so nothing can part them; after it they differ.

# %%
by_hand = {
    "ethanol": [[1, 1, 2], [2.5, 5, 3.5], [8, 12, 9]],
    "ether": [[1, 2, 1], [3.5, 5, 3.5], [9, 13, 9]],
}
for rows, expected in zip((ethanol, ether), by_hand.values(), strict=True):
    torch.testing.assert_close(torch.stack(rows), torch.tensor(expected))
edge_index, column = torch.stack([b, a]), ethanol[0][:, None]
real = gin_aggregate(column, edge_index, e_ab[:, None])
torch.testing.assert_close(real[:, 0], ethanol[1])
means = torch.stack([torch.stack(rows).mean(1) for rows in (ethanol, ether)])
expected = torch.tensor([[1.3333, 3.6667, 9.6667], [1.3333, 4, 10.3333]])
torch.testing.assert_close(means, expected, **close)
assert [h.sum().item() for h in ethanol[1:] + ether[1:]] == [11, 29, 12, 31]
show([[round(value, 4) for value in row] for row in means.tolist()])

# %% tags=["hide-input"]
#| name: fig-molecules-layers
#| alt: Two rows of three chains of three discs. Ethanol: values 1, 1, 2, then 2.5, 5, 3.5, then 8, 12, 9. Dimethyl
#|   ether: 1, 2, 1, then 3.5, 5, 3.5, then 9, 13, 9. The means under the chains are equal in the first column and
#|   differ afterwards.
#| caption: Node values of ethanol (top) and dimethyl ether (bottom) before the first layer and after one and two,
#|   {eq}`eq-gin-layer`. Toy numbers, exact. The colour is the value; the read-outs part after one layer.
fig, axes = plt.subplots(2, 3, figsize=(plotting.FULL, 2.3))
for name, states, row in zip(by_hand, (ethanol, ether), axes, strict=True):
    for k, (h, ax) in enumerate(zip(states, row, strict=True)):
        ax.plot(range(3), [0] * 3, color=plotting.INK, lw=1.5, zorder=1)
        ax.scatter(
            range(3), [0] * 3, c=h, s=480, vmin=0, vmax=16, cmap="viridis", zorder=2
        )
        for place, value in enumerate(h.tolist()):
            ax.text(
                place, 0, f"{value:g}", color="w", ha="center", va="center", fontsize=8
            )
        ax.text(1, -1.1, f"mean {h.mean():.4f}", ha="center", fontsize=8)
        ax.set(xlim=(-0.6, 2.6), ylim=(-1.3, 1))
        ax.axis("off")
        if name == "ethanol":
            ax.text(1, 1, f"after {k} layers", ha="center", fontsize=8)
    row[0].text(-0.6, 0.6, name, fontsize=8)
show(fig)

# %% [markdown]
# **Check.** Limits and invariances.
# With $\varepsilon = -1$ an atom forgets itself.
# Renumber the atoms, and rows move along while the read-out stays; renumber the atoms but not the bonds, and it does not.

# %%
torch.testing.assert_close(layer(ethanol[0], eps=-1.0), torch.tensor([1.5, 4, 1.5]))
order = torch.tensor([1, 2, 0])  # new place p holds the old atom order[p]
place = order.argsort()
moved = gin_aggregate(column[order], place[edge_index], e_ab[:, None])
torch.testing.assert_close(moved, real[order])
one = torch.zeros(3, dtype=torch.long)
torch.testing.assert_close(mean_readout(moved, one, 1), mean_readout(real, one, 1))
wrong = gin_aggregate(column[order], edge_index, e_ab[:, None])
assert abs(float(wrong.mean() - real.mean())) > 0.1
show([round(float(v), 4) for v in (real.mean(), moved.mean(), wrong.mean())])

# %% [markdown]
# Two things are lost on the way.
# The ReLU swallows whatever is negative: neighbours of −1 and of −3 send the same nothing.
# And the mean forgets size: in a ring of six equal atoms and in one of eight each atom sees the same, so the means agree, while the sums do not.

# %%
swallowed = [
    gin_aggregate(
        torch.tensor([[1.0], [v]]), torch.tensor([[1], [0]]), torch.tensor([[0.5]])
    )[0].item()
    for v in (-1.0, -3.0)
]


def ring(n):
    around = torch.arange(n)
    there = torch.stack([around, (around + 1) % n])
    both = torch.cat([there, there.flip(0)], 1)
    h = gin_aggregate(torch.ones(n, 1), both, torch.full((2 * n, 1), 0.5))
    return h.mean().item(), h.sum().item()


assert swallowed == [1, 1]
assert (ring(6), ring(8)) == ((4, 24), (4, 32))
show({"ring of 6": ring(6), "ring of 8": ring(8)})

# %% [markdown]
# ```{exercise}
# :label: ex-molecules-bond
#
# Let the bond between carbon and oxygen of ethanol add 1.0 instead of 0.5.
# Predict which atoms change, then compute the first layer.
# ```
#
# ```{solution-start} ex-molecules-bond
# :class: dropdown
# ```

# %%
stronger = layer(ethanol[0], e_ab=torch.tensor([0.5, 0.5, 1, 1]))
torch.testing.assert_close(stronger, torch.tensor([2.5, 5.5, 4]))
show(stronger.tolist())

# %% [markdown]
# The two ends of that bond; the first carbon hears of it one layer later.
#
# ```{solution-end}
# ```
#
# ### The real encoder
#
# {py:class}`~medrec.nn.gin.GIN` stacks four such layers, with a perceptron of two linear maps, batch normalisation inside it and after it, and tables of bond features of its own in every layer.
# The whole drug table is one batch.

# %%
torch.manual_seed(seed)
encoder = GIN(width=64, n_layers=4, dropout=0.0).eval()
graphs = batch_graphs(library)
with torch.no_grad():
    E_n = encoder(graphs)  # (n, 64)
page.glue(
    n_atoms=graphs.num_nodes,
    n_bonds=graphs.num_edges // 2,
    n_weights=sum(p.numel() for p in encoder.parameters()),
)
assert E_n.shape == (len(library), 64)
show(tuple(E_n.shape))

# %% [markdown]
# {glue:text}`n_structures` structures with {glue:text}`n_atoms:,` heavy atoms and {glue:text}`n_bonds:,` bonds go through {glue:text}`n_weights:,` weights.
# What batch normalisation does to a molecule among others, and what has to travel with pre-trained weights, is told in {doc}`11_bimorec_pretraining`.
#
# ## Colours: the most that such a network can tell
#
# However good its weights, a network of this kind cannot separate atoms that look alike at every depth.
# Give each atom a colour by its features, then again and again a new colour by its own and those around it {cite:p}`weisfeiler1968reduction`:
#
# $$
# c_a \leftarrow \operatorname{id}\Big(c_a,\; \big\{\!\big\{ (c_b, e_{ab}) : b \in \mathcal N(a) \big\}\!\big\}\Big) .
# $$ (eq-molecules-colours)
#
# Double braces are a set that counts how often; $\operatorname{id}$ gives every new combination a new number.
#
# ```{prf:theorem} A ceiling for message passing
# :label: thm-molecules-ceiling
#
# If two molecules have the same colours equally often after $k$ rounds of {eq}`eq-molecules-colours`, then every network of $k$ layers of {eq}`eq-gin-layer`, whatever its weights, gives them the same sum and the same mean {cite:p}`xu2019gin`.
# ```
#
# The reason fits in a line: the right side of {eq}`eq-gin-layer` is a function of the right side of {eq}`eq-molecules-colours`.


# %%
def refine(graph, numbers, rounds=4, atom=tuple(range(9)), bond=(0, 1, 2)):
    """Colours of each atom in every round; numbers is shared by all molecules."""
    c = [numbers.setdefault(tuple(f), len(numbers)) for f in graph.x[:, atom].tolist()]
    bonds = graph.edge_attr[:, bond].tolist()
    colours = [c]
    for k in range(rounds):
        around = [[] for _ in c]
        for b, a, e in zip(*graph.edge_index.tolist(), bonds, strict=True):
            around[a].append((c[b], tuple(e)))
        seen = [(k, c[a], tuple(sorted(near))) for a, near in enumerate(around)]
        c = [numbers.setdefault(s, len(numbers)) for s in seen]
        colours.append(c)
    return colours


rings = {"decalin": "C1CCC2CCCCC2C1", "bicyclopentyl": "C1CCC(C1)C1CCCC1"}
numbers = {}
histories = [refine(molecular_graph(s), numbers) for s in rings.values()]

# %% [markdown]
# **Check.** Decalin is two rings of six that share a bond, bicyclopentyl two rings of five joined by one: two different substances.
# Every atom of one has a twin in the other at every depth, so an untrained encoder of four layers gives them one vector; atropine and ipratropium get two.

# %%
for one_round, other in zip(*histories, strict=True):
    assert Counter(one_round) == Counter(other)
with torch.no_grad():
    double = GIN(width=16, dropout=0.0).double().eval()
    twins = double(batch_graphs(list(rings.values())))
    drugs_apart = double(batch_graphs([known[name] for name in pair]))
torch.testing.assert_close(twins[0], twins[1], atol=1e-9, rtol=0)
assert (drugs_apart[0] - drugs_apart[1]).abs().max() > 1e-4
ring_rulers = {
    name: tanimoto(list(rings.values()), name)[0, 1] for name in ("morgan", "path")
}
np.testing.assert_allclose(list(ring_rulers.values()), [1, 0.769], atol=2e-3)
page.glue(ring_path=ring_rulers["path"])
show([len(set(c)) for c in histories[0]])

# %% [markdown]
# A Morgan fingerprint takes the two for one as well, because it is refinement with another name; the path fingerprint, which walks along bonds for longer, says {glue:text}`ring_path:.3f`.
#
# Decalin is no drug.
# How often does it happen among drugs?
# The next cell colours all structures of the table with poorer and richer features, and looks for those that even a mean over atoms cannot part.

# %%
features = {  # which atom and which bond features
    "elements": ((0,), ()),
    "elements, bond types": ((0,), (0,)),
    "all but stereo": ((0, 2, 3, 4, 5, 6, 7, 8), (0, 2)),
    "with bond stereo": ((0, 2, 3, 4, 5, 6, 7, 8), (0, 1, 2)),
    "all (R and S labels)": (tuple(range(9)), (0, 1, 2)),
}
single = graphs.to_data_list()


def collisions(atom, bond):
    """For each round the groups of structures with the same shares of colours."""
    numbers, keys = {}, [defaultdict(list) for _ in range(5)]
    for smiles, graph in zip(library, single, strict=True):
        for key, c in zip(keys, refine(graph, numbers, 4, atom, bond), strict=True):
            shares = {colour: n / len(c) for colour, n in Counter(c).items()}
            key[tuple(sorted(shares.items()))].append(smiles)
    return [[group for group in key.values() if len(group) > 1] for key in keys]


groups = {name: collisions(*chosen) for name, chosen in features.items()}
n_groups = {name: [len(found) for found in each] for name, each in groups.items()}

# %% [markdown]
# **Check.** More rounds never join what was apart, richer features neither; and what is left without stereo features are stereoisomers throughout: their strings without stereo marks are one.

# %%
left = groups["all but stereo"][-1]
for name, each in groups.items():
    members = [{s for group in found for s in group} for found in each]
    assert all(later <= earlier for earlier, later in itertools.pairwise(members)), name
for group in left:
    flat = {Chem.MolToSmiles(parse(s), isomericSmiles=False) for s in group}
    assert len(flat) == 1
assert not groups["all (R and S labels)"][-1]
show(n_groups)

# %% tags=["hide-input"]
#| name: fig-molecules-collisions
#| alt: Line chart of the number of groups of indistinguishable structures against rounds of refinement, logarithmic.
#|   With elements alone about a hundred groups before the first round and thirty later; with all but stereo features
#|   about twenty throughout; with R and S labels four before the first round and none afterwards.
#| caption: Groups of structures that no encoder with mean read-out can part, by number of layers and by features.
#|   {glue:text}`n_structures` structures of the book's drug table; no cohort. Lowest line: no group. Layers help
#|   where features are poor; against stereoisomers only stereo features help.
fig, ax = plt.subplots(figsize=(plotting.ONE_COLUMN, 2.9))
looks = ["o-", "s--", "^-", "D:", "v-."]
for (name, counts), look in zip(n_groups.items(), looks, strict=True):
    ax.plot(range(5), [max(n, 0.5) for n in counts], look, ms=4, label=name)
ax.set_yscale("log")
ax.set_yticks([0.5, 1, 10, 100], ["none", "1", "10", "100"])
ax.minorticks_off()
ax.set(xticks=range(5), xlabel="layers", ylabel="groups that collide")
ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
show(fig)

# %% tags=["hide-input"]
classes_of = defaultdict(set)
for name, code in drug_atc().select("name", "atc3").iter_rows():
    if name in known:
        classes_of[known[name]].add(code)


def apart(one, other):
    """Whether two structures have classes, and none in common."""
    here, there = classes_of[one], classes_of[other]
    return bool(here and there) and not here & there


crossing = [
    group
    for group in left
    if any(apart(*couple) for couple in itertools.combinations(group, 2))
]
page.glue(
    n_left=len(left),
    n_crossing=len(crossing),
    n_labels=n_groups["all (R and S labels)"][0],
)
show(
    page.table(
        pl.DataFrame(
            {
                "one graph": [
                    ", ".join(name_of[s] for s in group) for group in crossing
                ],
                "ATC level-3 classes": [
                    " | ".join(", ".join(sorted(classes_of[s])) for s in group)
                    for group in crossing
                ],
            }
        ),
        caption="Stereoisomers with one flat graph that have no ATC level-3 class in common. The book's drug table; no cohort.",
    )
)

# %% [markdown]
# Without stereo features {glue:text}`n_left` groups among {glue:text}`n_structures` structures share a graph, and {glue:text}`n_crossing` of them reach across classes.
# That is the full extent of confusion by flatness here.
# With labels of stereo none is left: the remedy is a feature of the *flat* graph.
#
# ```{exercise}
# :label: ex-molecules-rounds
#
# How many layers does it take until all is apart that will ever be, with elements alone and with all features?
# Read it off {numref}`fig-molecules-collisions`, then compute it.
# ```
#
# ```{solution-start} ex-molecules-rounds
# :class: dropdown
# ```

# %%
settled = {name: counts.index(counts[-1]) for name, counts in n_groups.items()}
assert settled["all (R and S labels)"] <= settled["elements"] < 4
show(settled)

# %% [markdown]
# Poor features need a few layers, rich ones one; the fourth layer of the published encoder parts nothing that was not apart before.
#
# ```{solution-end}
# ```
#
# ## The feature that depends on how you typed
#
# One of the nine features is not what it seems.
# The published codes read an atom's *chirality tag*, clockwise or counter-clockwise.
#
# ```{prf:algorithm} What a chirality tag says
# :label: alg-molecules-tag
#
# **Input** an atom with four different neighbours, and the order in which the SMILES string names them.
#
# 1. Look at the atom from the first neighbour.
# 2. If the others, in the order of the string, turn counter-clockwise, the string has `@`, otherwise `@@`.
# 3. The tag follows from the mark and from the order in which the bonds are stored.
# ```
#
# Another order, another tag, for the same atom of the same molecule.
# The label R or S of {cite:t}`cahn1966specification` ranks the neighbours by what they *are*, and belongs to the molecule.

# %%
alanine = {
    "L, written from its methyl": "C[C@H](N)C(=O)O",
    "L, written from its nitrogen": "N[C@@H](C)C(=O)O",
    "D, written from its methyl": "C[C@@H](N)C(=O)O",
    "D, written from its nitrogen": "N[C@H](C)C(=O)O",
}
words = ATOM_FEATURES["chirality"]
read = pl.DataFrame(
    [
        (
            form,
            s,
            words[int(molecular_graph(s, chirality="tag").x[1, 1])].split(" or ")[0],
            words[int(molecular_graph(s).x[1, 1])].split(" or ")[1],
        )
        for form, s in alanine.items()
    ],
    schema=["alanine", "SMILES", "tag", "label"],
    orient="row",
)
show(page.table(read, caption="One amino acid, two forms, four spellings. No cohort."))

# %% [markdown]
# **Check.** L and D can have the same tag, and L has both; labels part them, whatever the spelling.

# %%
ccw, cw = "counter-clockwise", "clockwise"
assert read["tag"].to_list() == [ccw, cw, cw, ccw]
assert read["label"].to_list() == ["S", "S", "R", "R"]
show("tags follow the pen, labels follow the molecule")

# %% [markdown]
# How much of the input is that?
# Write every drug anew, its atoms in random order, and compare each atom with itself.


# %%
def respelled(smiles, rng):
    """Another spelling, and for each of its atoms the place in the first one."""
    molecule = parse(smiles)
    order = [int(i) for i in rng.permutation(molecule.GetNumAtoms())]
    turned = Chem.RenumberAtoms(molecule, order)
    text = Chem.MolToSmiles(turned, canonical=False)
    written = turned.GetProp("_smilesAtomOutputOrder").strip("[],").split(",")
    return text, torch.tensor([order[int(i)] for i in written])


rng = np.random.default_rng(seed)
tagged = {s: molecular_graph(s, chirality="tag").x for s in library}
labelled = {s: graph.x for s, graph in zip(library, single, strict=True)}
chiral = [s for s in library if (tagged[s][:, 1] > 0).any()]
tags = flipped = drugs_flipped = spellings = 0
for s in chiral * {"quick": 1, "full": 5}[profile]:
    text, back = respelled(s, rng)
    other = molecular_graph(text, chirality="tag").x
    changed = (other != tagged[s][back])[:, 1]
    tags += int((tagged[s][:, 1] > 0).sum())
    flipped += int(changed.sum())
    drugs_flipped += bool(changed.any())
    spellings += 1
    assert (other[:, 2:] == tagged[s][back][:, 2:]).all(), s
    assert (molecular_graph(text).x == labelled[s][back]).all(), s

# %% [markdown]
# **Check.** The two assertions of the loop are the finding: in no spelling of any drug does another feature change, and with labels in place of tags nothing changes at all.
# The tag is a coin.

# %%
assert 0.4 < flipped / tags < 0.6
page.glue(
    n_tags=tags,
    n_flipped=flipped,
    flip_share=flipped / tags,
    n_chiral=len(chiral),
    drug_share=drugs_flipped / spellings,
)
show({"tags": tags, "flipped": flipped, "drugs changed": drugs_flipped})

# %% [markdown]
# {glue:text}`n_flipped:,` of {glue:text}`n_tags:,` tags flip ({glue:text}`flip_share:.0%`), and {glue:text}`drug_share:.0%` of the {glue:text}`n_chiral` drugs that have any give the network another input.
#
# Writing every string in one canonical way freezes the coin, and does not make it speak.
# Steroids show it: they share a skeleton with a methyl group on one corner (number 13), which points the same way in all of them.

# %%
skeleton = (
    "[CH3][{}]12~[#6]~[#6]~[#6]3~[#6](~[#6]1~[#6]~[#6]~[#6]2)~[#6"
    "]~[#6]~[#6]4~[#6]~[#6]~[#6]~[#6]~[#6]34"
)
corner, same_way = (Chem.MolFromSmarts(skeleton.format(c)) for c in ("#6", "C@"))
steroids = {
    s: parse(s).GetSubstructMatch(corner)[1]
    for s in library
    if parse(s).HasSubstructMatch(corner)
}
votes = pl.DataFrame(
    [
        (rule, side, sum(int(x[s][i, 1]) == k for s, i in steroids.items()))
        for rule, x in (("tag", tagged), ("label", labelled))
        for k, side in enumerate(["first (clockwise, R)", "second (counter-cl., S)"], 1)
    ],
    schema=["feature", "class", "steroids"],
    orient="row",
)

# %% [markdown]
# **Check.** One and the same corner in space, by a pattern that sees handedness; both classes of the tag, on canonical strings.

# %%
for s in steroids:
    assert parse(s).HasSubstructMatch(same_way, useChirality=True)
assert votes["steroids"][:2].min() > 0.2 * len(steroids)
assert votes["steroids"][2:].min() < 0.1 * len(steroids)
page.glue(
    n_steroids=len(steroids),
    tag_minority=votes["steroids"][:2].min(),
    label_minority=votes["steroids"][2:].min(),
)
show(
    page.table(
        votes,
        caption=(
            "Carbon 13 of the steroids of the drug table, canonical SMILES: one "
            "arrangement in space, two tags. No cohort."
        ),
    )
)

# %% tags=["hide-input"]
#| name: fig-molecules-flips
#| alt: Stacked horizontal bars of four shares. Tags of chiral atoms: about half flip under another spelling. Drugs
#|   with tags: about three quarters change. Carbon 13 of steroids by tag: about a third in the smaller class. Carbon
#|   13 by label: a few percent.
#| caption: What the chirality tag says and what the label says. Vermilion: the share that contradicts. First two
#|   rows: all tags, and all drugs with tags, of the book's drug table, written anew in random order; no cohort. With
#|   labels both are 0. Last two rows: the same corner of all steroids, share in the smaller class.
fig, ax = plt.subplots(figsize=(plotting.FULL, 1.9))
bars = {
    "tags that flip": flipped / tags,
    "drugs whose input changes": drugs_flipped / spellings,
    "steroid corner, by tag": votes["steroids"][:2].min() / len(steroids),
    "steroid corner, by label": votes["steroids"][2:].min() / len(steroids),
}
ax.barh(list(bars), list(bars.values()), color=plotting.VERMILION, height=0.6)
ax.barh(
    list(bars),
    [1 - v for v in bars.values()],
    left=list(bars.values()),
    color=plotting.INK,
    alpha=0.25,
    height=0.6,
)
ax.invert_yaxis()
ax.grid(axis="y", visible=False)
ax.set(xlim=(0, 1), xlabel="share")
show(fig)

# %% [markdown]
# By tag {glue:text}`tag_minority` of {glue:text}`n_steroids` steroids are in the smaller class, by label {glue:text}`label_minority`.
# Labels are no direction in space either: they rank neighbours, and where a substituent changes the ranking, the label changes while the atoms stay.
# But they are a property of the drug and not of its typist, so this book uses them; `chirality="tag"` gives the published feature.
#
# Quinine and quinidine, then: in the flat graph they differ by the labels of two atoms, and by nothing else.
# And mirror images: swap all marks of a drug, and colour it and its image.

# %%
isomers = ["quinine", "quinidine"]
onto = parse(known["quinine"]).GetSubstructMatch(parse(known["quinidine"]))
differing = labelled[known["quinine"]][list(onto)] != labelled[known["quinidine"]]


def mirrored(smiles):
    swapped = smiles.replace("@@", "!").replace("@", "@@").replace("!", "@")
    return Chem.CanonSmiles(swapped) if "@" in smiles else smiles


images = {s: image for s in library if (image := mirrored(s)) != s}
parted = 0
for s, image in images.items():
    numbers = {}
    one, other = (Counter(refine(molecular_graph(x), numbers)[-1]) for x in (s, image))
    parted += one != other

# %% [markdown]
# **Check.** Two atoms, in the slot of chirality; swapping twice is the beginning; every drug with a mirror image is parted from it.

# %%
assert differing.sum(0).tolist() == [0, 2, 0, 0, 0, 0, 0, 0, 0]
assert mirrored("C[C@H](N)C(=O)O") == Chem.CanonSmiles("C[C@@H](N)C(=O)O")
assert all(mirrored(image) == s for s, image in images.items())
assert parted == len(images)
page.glue(n_images=len(images))
show({"with a mirror image": len(images), "parted from it": parted})

# %% tags=["hide-input"]
#| name: fig-molecules-quinine
#| alt: Structural drawings of quinine and quinidine, turned alike, their chiral atoms marked R or S. Two of the
#|   marks, on the carbon with the hydroxyl group and on the carbon next to it in the bridged ring, are exchanged
#|   between the two drugs; everything else is the same.
#| caption: Quinine (left) and quinidine (right), drawn alike, with the labels that the graph carries (green R, purple
#|   S; NR: a nitrogen, R). No cohort. Take the labels away and one graph is left; with them, two atoms differ.
plain = on_paper(known["quinine"])
fig, axes = plt.subplots(1, 2, figsize=(plotting.FULL, 2.8))
for ax, name in zip(axes, isomers, strict=True):
    drawn = on_paper(known[name], like=plain)
    marks = {1: ("R", plotting.GREEN), 2: ("S", plotting.PURPLE)}
    discs = {}
    for atom, k in zip(
        drawn.GetAtoms(), labelled[known[name]][:, 1].tolist(), strict=True
    ):
        if k:  # a nitrogen keeps its letter before the label
            letter = atom.GetSymbol().replace("C", "")
            discs[atom.GetIdx()] = (letter + marks[k][0], marks[k][1])
    draw(ax, drawn, discs)
    ax.annotate(name, (0, 0.95), xycoords="axes fraction", fontsize=9)
show(fig)

# %% [markdown]
# The same drug in space, to turn; how such coordinates come about is the matter of {doc}`05_molecules_3d`.

# %% tags=["hide-input"]
show(
    page.molecule3d(
        conformers([known["quinine"]])[0],
        name="quinine",
        note="Look at the carbon with the hydroxyl group between the two ring systems: in quinidine it and its neighbour point the other way.",
    )
)

# %% [markdown]
# ```{exercise}
# :label: ex-molecules-memory
#
# Renumber the atoms of L-alanine in memory, without writing and reading a string.
# Predict: does its tag flip?
# ```
#
# ```{solution-start} ex-molecules-memory
# :class: dropdown
# ```

# %%
here = parse("C[C@H](N)C(=O)O")
there = Chem.RenumberAtoms(here, [2, 1, 0, 3, 4, 5])
tag_here, tag_there = (m.GetAtomWithIdx(1).GetChiralTag() for m in (here, there))
assert tag_here == tag_there
show(str(tag_here))

# %% [markdown]
# No: the tag refers to the order in which the *bonds* are stored, and that is kept.
# Writing the string and reading it again changes that order.
#
# ```{solution-end}
# ```
#
# ## A medication is an average
#
# What is recommended is a class of level 3, not a molecule.
# Each class $m$ takes the mean over its molecules,
#
# $$
# \bar E_m = \sum_{n} A_{mn} E_n, \qquad A_{mn} = \begin{cases} 1 / |\mathcal M_m| & n \in \mathcal M_m \\ 0 & \text{otherwise,} \end{cases}
# $$ (eq-molecules-average)
#
# with at most three molecules in $\mathcal M_m$ in the released codes of MoleRec and BiMoRec.
# {py:func}`~medrec.chem.molecules.build` takes those with the most marketed products, and lists every structure once.

# %%
codes = records.vocab["medication"].codes
molecules = build(codes)
A = molecules.average  # (M, n)
with torch.no_grad():
    E_n = encoder(molecules.graphs)
    E_m = torch.einsum("mn,nd->md", A, E_n)

# %% [markdown]
# **Check.** Rows sum to one or are empty; a class with one molecule *is* that molecule; the order of molecules does not matter.

# %%
total = A.sum(1)
empty = total == 0
torch.testing.assert_close(total[~empty], torch.ones(int((~empty).sum())))
alone = (A == 1).any(1)
torch.testing.assert_close(E_m[alone], E_n[A[alone].argmax(1)])
shuffled = torch.randperm(len(E_n))
torch.testing.assert_close(A[:, shuffled] @ E_n[shuffled], E_m, atol=1e-5, rtol=1e-5)
shared = ((A > 0).float() @ (A > 0).float().T).fill_diagonal_(0) > 0
page.glue(
    n_classes=len(codes),
    n_molecules=len(molecules.smiles),
    n_empty=int(empty.sum()),
    n_alone=int(alone.sum()),
    n_sharing=int(shared.sum()) // 2,
)
show({"classes": len(codes), "without a molecule": int(empty.sum())})

# %% tags=["hide-input"]
#| name: fig-molecules-average
#| alt: Dot plot of the matrix A: medication classes downwards, molecules to the right, a dot where a class holds a
#|   molecule; larger dots for larger weights. Each row has at most three dots, a few rows are empty, and some columns
#|   have two or more dots.
#| caption: The matrix $A$ of {eq}`eq-molecules-average`, molecules ordered by the first class that holds them. The
#|   larger a dot, the larger the weight: 1, 1/2 or 1/3. {glue:text}`cohort_line`. Dots away from the diagonal are
#|   molecules that stand for several classes.
fig, ax = plt.subplots(figsize=(plotting.FULL, 3.2))
held = np.argwhere(A[:, (A > 0).int().argmax(0).argsort()].numpy() > 0)
weight = A[:, (A > 0).int().argmax(0).argsort()].numpy()[tuple(held.T)]
ax.scatter(held[:, 1], held[:, 0], s=8 * weight, color=plotting.PURPLE)
ax.invert_yaxis()
ax.set(xlabel="molecule", ylabel="class (ATC level 3)")
show(fig)

# %% [markdown]
# {glue:text}`n_classes` classes stand on {glue:text}`n_molecules` molecules; {glue:text}`n_empty` have none, because insulins, vaccines and enzymes are no small molecules, and their row is zero.
# {glue:text}`n_sharing` pairs of classes share at least one molecule.
# Compare the {glue:text}`n_crossing` groups above, in the whole drug table: classes are confused because they *are* partly the same drugs, rather than because two drugs look alike on paper.
#
# ```{exercise}
# :label: ex-molecules-empty
#
# A class without a molecule gets a vector of zeros.
# What does an inner product with it say, and what would a trainable bias repair?
# ```
#
# ````{solution} ex-molecules-empty
# :class: dropdown
#
# It is zero for every patient, so the class has one score for all: whatever the rest of the network adds.
# A bias of its own gives it at least its frequency.
# ````
#
# ## Fragments, and the mask $H$
#
# {cite:t}`yang2023molerec` and BiMoRec also look at parts.
# BRICS {cite:p}`degen2008brics` cuts a molecule at bonds that chemists know how to make, and marks each end with a number from 1 to 16 for its surroundings.
# The medication holds a fragment if any of its molecules yields it:
#
# $$
# H_{ms} = 1 \iff s \in \bigcup_{n \in \mathcal M_m} \operatorname{BRICS}(n) .
# $$ (eq-molecules-mask)

# %% tags=["hide-input"]
#| name: fig-molecules-cuts
#| alt: The drawings of atropine and ipratropium again, with short red strokes across the bonds that BRICS cuts: three
#|   in atropine, four in ipratropium, the additional one between the charged nitrogen and its branch of three
#|   carbons.
#| caption: Where BRICS cuts atropine (left) and ipratropium (right): the strokes. No cohort. The additional cut at
#|   the charged nitrogen makes the bridged ring of ipratropium another fragment than that of atropine.
fig, axes = plt.subplots(1, 2, figsize=(plotting.FULL, 2.3), sharex=True, sharey=True)
for ax, (name, drawn) in zip(axes, drawings.items(), strict=True):
    draw(ax, drawn)
    xy = drawn.GetConformer().GetPositions()[:, :2]
    for ends, _ in BRICS.FindBRICSBonds(parse(known[name])):
        one_end, other_end = xy[list(ends)]
        across = (other_end - one_end)[::-1] * [-0.4, 0.4]
        middle = (one_end + other_end) / 2
        ax.plot(
            *np.stack([middle - across, middle + across]).T,
            color=plotting.VERMILION,
            lw=2.5,
        )
    ax.annotate(name, (0, 0.95), xycoords="axes fraction", fontsize=9)
show(fig)

# %%
five = ["ranitidine", "warfarin", "furosemide", "simvastatin", "morphine"]
cut = {name: brics_fragments(known[name]) for name in (*pair, *five, "codeine")}
S = sorted(set().union(*(cut[name] for name in five)))
H = np.array([[s in cut[name] for s in S] for name in five])  # H_ms

# %% [markdown]
# **Check.** The pair shares three of six fragments; five common drugs have 6, 3, 5, 5 and 1, with one shared column; and {py:func}`~medrec.chem.fragments.fragment_mask` gives the same.

# %%
common, either = set(cut[pair[0]]) & set(cut[pair[1]]), set(cut[pair[0]] + cut[pair[1]])
assert [len(cut[name]) for name in pair] == [4, 5]
assert (len(common), len(either)) == (3, 6)
assert H.sum(1).tolist() == [6, 3, 5, 5, 1]
assert H.shape == (5, 19)
assert [s for s, n in zip(S, H.sum(0), strict=True) if n > 1] == ["[4*]C[8*]"]
columns, mask = fragment_mask([[known[name]] for name in five])
assert list(columns) == S
np.testing.assert_array_equal(mask, H)
show(cut["atropine"])

# %% [markdown]
# A fragment is not a functional group.
# Morphine cannot be cut at all, so it is its own only fragment.
# Codeine is morphine with one methyl group more, on an oxygen; there BRICS finds a bond to cut, and what is left of the ring system carries a cut end.

# %%
assert not set(cut["morphine"]) & set(cut["codeine"])
assert cut["morphine"] == (known["morphine"],)
of_all = {s: brics_fragments(s) for s in library}
uses = Counter(fragment for each in of_all.values() for fragment in each)
as_phenyl = [f for f in uses if Chem.CanonSmiles(completed(f)) == "c1ccccc1"]
page.glue(
    n_fragments=len(uses),
    used_once=sum(n == 1 for n in uses.values()) / len(uses),
    uncut=sum(each == (s,) for s, each in of_all.items()),
    n_phenyl=len(as_phenyl),
    morphine_codeine=len(set(cut["morphine"] + cut["codeine"])),
)
show({"morphine": cut["morphine"], "codeine": cut["codeine"]})

# %% [markdown]
# They share none of their {glue:text}`morphine_codeine` fragments.
# Over the whole table {glue:text}`n_structures` structures give {glue:text}`n_fragments:,` fragments; {glue:text}`used_once:.0%` of them occur in one structure only, {glue:text}`uncut` structures cannot be cut, and the plain benzene ring comes in {glue:text}`n_phenyl` versions, by where its cut ends are.

# %% tags=["hide-input"]
#| name: fig-molecules-mask
#| alt: Two panels. Left: the mask H of the cohort's classes as dots, fragments sorted by how many classes hold them;
#|   a dense band on the left thins out quickly to single dots. Right: number of classes per fragment against rank,
#|   logarithmic: a few fragments in dozens of classes, most in one.
#| caption: Left: the mask $H$ of {eq}`eq-molecules-mask`, a dot where a class holds a fragment, fragments sorted by
#|   use. Right: how many classes hold the fragment of that rank. {glue:text}`cohort_line`. Most columns belong to one
#|   class: they name it rather than describe it.
mask_all = molecules.fragment_mask.numpy()
held_by = mask_all.sum(0)
by_use = np.argsort(-held_by, kind="stable")
fig, (left_ax, right_ax) = plt.subplots(
    1, 2, figsize=(plotting.FULL, 2.7), width_ratios=[2, 1]
)
rows, places = np.nonzero(mask_all[:, by_use])
left_ax.scatter(places, rows, s=1.2, color=plotting.PURPLE)
left_ax.invert_yaxis()
left_ax.set(xlabel="fragment, most used first", ylabel="class (ATC level 3)")
right_ax.plot(np.arange(1, len(held_by) + 1), held_by[by_use], color=plotting.PURPLE)
right_ax.set(xscale="log", yscale="log", xlabel="rank", ylabel="classes that hold it")
show(fig)

# %% tags=["remove-cell"]
page.glue(
    cohort_line=page.cohort_line(records),
    S_here=mask_all.shape[1],
    S_once=(held_by == 1).mean(),
)

# %% [markdown]
# For this page's classes $S = {}${glue:text}`S_here`, and {glue:text}`S_once:.0%` of the fragments belong to one class.
#
# The mask enters a softmax: scores of fragments that a medication does not hold are replaced by a huge negative number, $-2^{32}$ in the released codes.
# A medication that holds none then has equal scores everywhere, and attends to *all* fragments alike.

# %%
scores = torch.tensor([[0.5, 0.2, 0.1], [0.5, 0.2, 0.1]])
holds = torch.tensor([[True, False, True], [False, False, False]])
attention = torch.softmax(scores.masked_fill(~holds, -(2.0**32)), 1)

# %% [markdown]
# **Check.** The first row leaves the second fragment out, the second row is uniform.
# Permute the fragments and everything moves along.

# %%
torch.testing.assert_close(attention[1], torch.full((3,), 1 / 3))
torch.testing.assert_close(attention[0], torch.tensor([0.5987, 0, 0.4013]), **close)
turn = [2, 0, 1]
turned = torch.softmax(scores[:, turn].masked_fill(~holds[:, turn], -(2.0**32)), 1)
torch.testing.assert_close(turned, attention[:, turn])
show([[round(value, 4) for value in row] for row in attention.tolist()])

# %% [markdown]
# ```{exercise}
# :label: ex-molecules-set
#
# The released codes keep the fragments in a Python set and make a list of it.
# Do that in two fresh Python processes.
# What happens to a stored matrix $H$, or to pre-trained embeddings of fragments?
# ```
#
# ```{solution-start} ex-molecules-set
# :class: dropdown
# ```

# %%
listed = [
    subprocess.run(
        [sys.executable, "-c", f"print(list(set({cut['ranitidine']!r})))"],
        env={**os.environ, "PYTHONHASHSEED": str(start)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    for start in (1, 2)
]
assert listed[0] != listed[1]
show(listed)

# %% [markdown]
# The columns stand in another order each time, so a mask or an embedding stored by one process is read with the wrong names by the next.
# Sorting costs one word.
#
# ```{solution-end}
# ```
#
# ## Fingerprints that forget the salt
#
# SafeDrug {cite:p}`yang2021safedrug` numbers neighbourhoods instead of cutting: refinement as in {eq}`eq-molecules-colours`, after {cite:t}`tsubaki2019compound`, where hydrogens are atoms and bonds are renumbered too,
#
# $$
# c_a \leftarrow \operatorname{id}\big(c_a,\ \operatorname{sorted}\{(c_b, e_{ab})\}\big), \qquad
# e_{ab} \leftarrow \operatorname{id}\big(\operatorname{sorted}(c_a, c_b),\ e_{ab}\big) .
# $$ (eq-molecules-wl)
#
# The toy at radius one, heavy atoms only: ethanol has C(C), C(C,O) and O(C), the ether C(O), O(C,C) and C(O).
#
# The released rule walks over the atoms *that have bonds*.
# In a salt the lone ion has none, and the list of numbers is shorter than the molecule.
# Where the ion stands in front, the next round fails, and the molecule is left out without a word.
# Where all lone ions stand behind, or nothing has a bond, the missing places get the number 1, which is some neighbourhood of another molecule.

# %%
toys = {
    "ethanol": "CCO",
    "dimethyl ether": "COC",
    "acetic acid": "CC(=O)O",
    "sodium acetate": "[Na+].CC(=O)[O-]",
    "sodium chloride": "[Na+].[Cl-]",
}
right = wl_fingerprints(list(toys.values()), radius=1)
released = wl_fingerprints(list(toys.values()), radius=2, official=True)
lost = [name for name, ids in zip(toys, released.ids, strict=True) if ids is None]
salts = [s for s in library if "." in s]
on_all = {
    official: wl_fingerprints(library, official=official) for official in (False, True)
}
dropped = [s for s, ids in zip(library, on_all[True].ids, strict=True) if ids is None]
filled = [
    s
    for s, ids, bonds in zip(
        library, on_all[True].ids, on_all[True].edge_index, strict=True
    )
    if ids is not None and len(ids) > max(len(np.unique(bonds)), 1)
]

# %% [markdown]
# **Check.** Three neighbourhoods against two, none in common; every valid molecule must have a number for every atom, which the released rule fails on salts.
# In the repaired rule the sodium of both salts is one and the same.

# %%
ethanol_ids, ether_ids = (ids[:3].tolist() for ids in right.ids[:2])
assert (len(set(ethanol_ids)), len(set(ether_ids))) == (3, 2)
assert not set(ethanol_ids) & set(ether_ids)
assert lost == ["sodium acetate"]
assert released.ids[4].tolist() == [FILLING, FILLING]
assert right.ids[3][0] == right.ids[4][0]
assert all(ids is not None for ids in on_all[False].ids)
assert dropped
assert filled
assert {*dropped, *filled} <= set(salts)
page.glue(n_salts=len(salts), n_dropped=len(dropped), n_filled=len(filled))
page.glue(wl_rows=on_all[False].size, wl_rows_official=on_all[True].size)
show(lost)

# %% tags=["hide-input"]
#| name: fig-molecules-salts
#| alt: Two horizontal bars for the structures of the drug table with a dot in their SMILES. Under the released rule
#|   some are left out and some have atoms that are filled in, under the repaired rule none.
#| caption: Structures with several parts in the book's drug table, and what becomes of them under the two rules; no
#|   cohort. What passes the released rule has no lone atom, and its numbers go to the wrong atoms.
fig, ax = plt.subplots(figsize=(plotting.ONE_COLUMN, 1.4))
rules = ["released rule", "repaired rule"]
whole = len(salts) - len(dropped) - len(filled)
parts = {
    "a number for each atom": ([whole, len(salts)], plotting.PURPLE, ""),
    "lone atoms filled with 1": ([len(filled), 0], plotting.INK, ".."),
    "left out silently": ([len(dropped), 0], plotting.INK, "//"),
}
start = np.zeros(2)
for name, (numbers, color, hatch) in parts.items():
    faint = 0.3 if hatch else 1
    ax.barh(
        rules, numbers, left=start, color=color, alpha=faint, hatch=hatch, label=name
    )
    start += numbers
ax.invert_yaxis()
ax.grid(axis="y", visible=False)
ax.set_xlabel("structures of several parts")
ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
show(fig)

# %% [markdown]
# Of {glue:text}`n_salts` structures of several parts the released rule drops {glue:text}`n_dropped` and fills up {glue:text}`n_filled`.
# The others have bonds in every part; they pass, with numbers given to the wrong atoms.
# A third defect costs memory only: one dictionary serves all rounds, so the table of embeddings has {glue:text}`wl_rows_official:,` rows where {glue:text}`wl_rows:,` are ever looked up.
#
# ```{exercise}
# :label: ex-molecules-salt-test
#
# Write a test of two lines that the released rule fails and the repaired one passes, for a hydrochloride, in which every part has bonds.
# ```
#
# ```{solution-start} ex-molecules-salt-test
# :class: dropdown
# ```

# %%
outcome = {}
for official in (False, True):
    free, salt = wl_fingerprints(["CN", "CN.Cl"], official=official).ids
    outcome[official] = salt[:3].tolist() == [*free[:2].tolist(), salt[2]] and (
        salt[2] not in salt[3:]
    )
assert outcome == {False: True, True: False}
show({"repaired": outcome[False], "released": outcome[True]})

# %% [markdown]
# Methylamine must have the same numbers with and without its hydrogen chloride, and chlorine a number that no hydrogen has.
# Under the released rule chlorine gets that of a hydrogen.
#
# ```{solution-end}
# ```
#
# ## Tanimoto, by which fingerprint?
#
# A fingerprint is the set of features that a molecule has, and the similarity is the share that two sets have in common:
#
# $$
# T(A, B) = \frac{|A \cap B|}{|A \cup B|} .
# $$ (eq-molecules-tanimoto)
#
# That is the Jaccard similarity of {doc}`01_the_task`, under another name.
# Everything hangs on what counts as a feature: circles around atoms (Morgan, {cite:t}`rogers2010ecfp`), paths along bonds (RDKit's own), 166 questions (MACCS), pairs of atoms with their distance, chains of four.


# %%
def share(A, B):
    return len(A & B) / len(A | B)


def bits(smiles, radius=2):
    generator = rdFingerprintGenerator.GetMorganGenerator(radius=radius, fpSize=2048)
    return set(generator.GetFingerprint(parse(smiles)).GetOnBits())


radii = {r: share(*(bits(known[name], r) for name in pair)) for r in (1, 2, 3)}

# %% [markdown]
# **Check.** Two sets by hand; sets of bits against {py:func}`~medrec.chem.similarity.tanimoto`; a larger radius asks for more, and the similarity of the pair falls.

# %%
np.testing.assert_allclose(share(set(range(1, 7)), {1, 2, 3, 4, 7, 8, 9}), 4 / 9)
np.testing.assert_allclose(radii[2], tanimoto([known[n] for n in pair])[0, 1])
np.testing.assert_allclose(list(radii.values()), [0.71, 0.63, 0.58], atol=5e-3)
page.glue(
    radius_1=radii[1],
    radius_2=radii[2],
    radius_3=radii[3],
)
show({r: round(value, 3) for r, value in radii.items()})

# %% [markdown]
# A number alone does not say whether it is large.
# The next cell measures all pairs of structures with three rulers, and asks where the pair of figure 1 ranks.

# %%
i, j = np.triu_indices(len(library), 1)
here = [library.index(known[name]) for name in pair]
distinct = np.array([apart(library[p], library[q]) for p, q in zip(i, j, strict=True)])
ranks = []
for name in ("path", "maccs", "morgan"):
    values = tanimoto(library, name)
    upper = values[i, j]
    ranks.append(
        {
            "fingerprint": name,
            "this pair": values[here[0], here[1]],
            "pairs at least as alike": int((upper >= values[here[0], here[1]]).sum()),
            "pairs from .95": int((upper >= claimed).sum()),
            "no class in common": int(((upper >= claimed) & distinct).sum()),
            "pairs at 1": int((upper == 1).sum()),
        }
    )
ranked = pl.DataFrame(ranks)
antidote = {
    name: tanimoto([known["naloxone"], known["oxycodone"]], name)[0, 1]
    for name in ("path", "morgan")
}

# %% [markdown]
# **Check.** By the usual fingerprint few pairs are that alike, and the pair of figure 1 is not among them; every collision of the stereo-blind graph is a pair at 1.

# %%
assert ranked["pairs from .95"][2] < ranked["pairs from .95"][0]
assert ranked["this pair"][2] < claimed < ranked["this pair"][0]
assert ranked["pairs at 1"].min() >= len(left)
assert antidote["path"] > claimed > antidote["morgan"]
page.glue(
    n_pairs=len(i),
    path_95=ranked["pairs from .95"][0],
    path_95_cross=ranked["no class in common"][0],
    morgan_95=ranked["pairs from .95"][2],
    morgan_95_cross=ranked["no class in common"][2],
    antidote_path=antidote["path"],
    antidote_morgan=antidote["morgan"],
)
show(
    page.table(
        ranked,
        caption=(
            "All pairs of structures of the drug table by three rulers; “this pair” is "
            "atropine and ipratropium. No cohort."
        ),
    )
)

# %% tags=["hide-input"]
#| name: fig-molecules-rulers
#| alt: Horizontal dots of the similarity of atropine and ipratropium by seven fingerprints, from torsions at 0.54 to
#|   path at 0.96, with a vertical line at 0.95. Only the path fingerprint lies to the right of the line. Crosses for
#|   quinine and quinidine all lie at 1.
#| caption: BiMoRec's figure 1(b) in seven numbers: similarity of atropine and ipratropium (stars) and of quinine and
#|   quinidine (crosses) by seven fingerprints. Dotted: the printed value. No cohort. One ruler of seven agrees with
#|   the paper; all agree on the pair that the paper does not show.
fig, ax = plt.subplots(figsize=(plotting.FULL, 2.4))
names = by_pair["fingerprint"].to_list()
ax.plot(
    by_pair["atropine, ipratropium"],
    names,
    "*",
    ms=9,
    color=plotting.color("BiMoRec"),
    label="atropine, ipratropium",
)
ax.plot(
    by_pair["quinine, quinidine"],
    names,
    "x",
    ms=6,
    color=plotting.INK,
    label="quinine, quinidine",
)
ax.axvline(claimed, color=plotting.INK, lw=0.8, ls=":")
ax.invert_yaxis()
ax.set(xlim=(0.45, 1.03), xlabel="Tanimoto similarity")
ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
show(fig)

# %% [markdown]
# By path fingerprint {glue:text}`path_95` of {glue:text}`n_pairs:,` pairs reach {glue:text}`printed_tanimoto`, {glue:text}`path_95_cross` of them without a class in common; by Morgan {glue:text}`morgan_95`, and {glue:text}`morgan_95_cross`.
# Some are salts of one acid with different metals.
# Others are warnings: naloxone, the antidote, and oxycodone, the opioid that it is given against, are {glue:text}`antidote_path:.3f` alike by paths and {glue:text}`antidote_morgan:.3f` by Morgan.
#
# ## What the encoder makes of the pair
#
# A fingerprint is not the encoder.
# Does the graph network confuse what the path fingerprint confuses?
# Before any training: take encoders with random weights, subtract the mean over all structures, and ask how many pairs have a larger cosine.


# %%
def share_closer(encoder, names):
    """Share of all pairs of structures with a larger cosine than these two."""
    with torch.no_grad():
        for _ in range(3):  # running statistics of batch normalisation
            encoder.train()(graphs)
        z = encoder.eval()(graphs)
    z = torch.nn.functional.normalize(z - z.mean(0))
    p, q = (library.index(known[name]) for name in names)
    return float(((z @ z.T)[i, j] > z[p] @ z[q]).float().mean())


closer = {"atropine, ipratropium": [], "quinine, quinidine": []}
for draw_of in range(seed, seed + 3):
    torch.manual_seed(draw_of)
    untrained = GIN(width=64, n_layers=4, dropout=0.0)
    for couple, found in closer.items():
        found.append(share_closer(untrained, couple.split(", ")))

# %% [markdown]
# **Check.** Both pairs are neighbours, among the nearest few percent of all; no pair is identical.

# %%
assert max(closer["atropine, ipratropium"]) < 0.1
assert max(closer["quinine, quinidine"]) < max(closer["atropine, ipratropium"])
page.glue(
    closer_low=min(closer["atropine, ipratropium"]),
    closer_high=max(closer["atropine, ipratropium"]),
    closer_quinine=max(closer["quinine, quinidine"]),
)
show({couple: [f"{share:.2%}" for share in found] for couple, found in closer.items()})

# %% [markdown]
# Between {glue:text}`closer_low:.1%` and {glue:text}`closer_high:.1%` of all pairs are closer to each other than atropine and ipratropium, in three random encoders; for quinine and quinidine at most {glue:text}`closer_quinine:.2%`.
# So the flat encoder puts the pair of figure 1 near each other, as it should with two drugs that block the same receptors {cite:p}`dailymed`, and apart: charge and degree of one atom are in its input, and training can make of that what the records ask for.
#
# ## The audit
#
# ### The claims of figure 1, flat half
#
# :::{admonition} Are atropine and ipratropium more than 95 % alike?
# :class: verdict
# **Holds in part.**
# By {glue:text}`n_above` of {glue:text}`n_rulers` fingerprints ({glue:text}`which_above`, {glue:text}`path_pair:.3f`), not by the others; by the Morgan fingerprint, the usual choice, it is {glue:text}`morgan_pair:.3f`.
# The paper cites RDKit {cite:p}`landrum2013rdkit` and does not name the fingerprint.
# With that name the number can be checked, without it not.
# :::
#
# :::{admonition} Can the flat graph mix these two drugs up?
# :class: verdict
# **Does not hold here**, as a statement about what can be seen.
# The two graphs differ before the first layer, in the charge and the degree of the nitrogen.
# Whether a trained recommender confuses them is a question for its predictions; {doc}`12_bimorec` looks there.
# What flat graphs without stereo features do mix up are {glue:text}`n_left` groups of stereoisomers, {glue:text}`n_crossing` of them across classes.
# :::
#
# :::{admonition} Does it take three dimensions to part stereoisomers?
# :class: verdict
# **Does not hold here.**
# The text beside the figure says that stereoisomers, such as mirror images, look identical in two dimensions and that spatial structures part them.
# Flat graphs with labels of stereo part all {glue:text}`n_structures` structures of our table, and each of the {glue:text}`n_images` that have a mirror image from that image.
# A spatial encoder that works with distances and lengths parts quinine from quinidine, which are no mirror images, and *not* a drug from its mirror image: {doc}`05_molecules_3d` shows it.
# The published chirality slot does less than it could, since it holds tags.
# :::
#
# The spatial half of the figure, and the word on both halves together, stand in {doc}`05_molecules_3d` and {doc}`11_bimorec_pretraining`.
#
# ### What the papers do not say
#
# - **Which fingerprint** stands behind "over 95 %". By our count it can be RDKit's path fingerprint.
# - **Update and read-out** of the flat encoder. BiMoRec's equations leave both open; sum and mean come from the code.
# - **How batch normalisation is meant.** It runs over the atoms of all molecules at once, so in training a molecule's vector depends on the others.
# - **Which form of the drug.** Atropine is the racemate, equal parts of two mirror images; its graph leaves the one free centre unlabelled, and hyoscyamine, one of the halves, is a drug of its own in our table.
# - **What atropine is for.** The introduction says depression, the case study arrhythmia; {doc}`03_drug_knowledge` has the labels.
# - **How many fragments.** $S$ depends on filters: 491 in the files of MoleRec, 435 in those of BiMoRec, which keep only fragments that RDKit can place in space; {glue:text}`S_here` here.
# - **What cannot be cut.** BRICS returns such a molecule whole, as a fragment that belongs to one drug.
# - **What an empty string is.** RDKit reads it as a molecule without atoms and reports nothing; {py:func}`~medrec.chem.graphs.parse` refuses it.
#
# ### Misconceptions
#
# "Similar fingerprint, similar drug."
# : Quinine and quinidine are one molecule to seven fingerprints and two drugs to a patient; naloxone undoes what oxycodone does.
#
# "A graph network sees rings."
# : It sees colours. Decalin and bicyclopentyl have the same; only the feature "in ring" knows of rings, and it is true in both.
#
# "Deeper separates more."
# : Until colours are stable, which takes few rounds here.
#
# "Fragments are functional groups."
# : Morphine and codeine share a skeleton, an effect and a pathway, and no fragment.
#
# ## Summary
#
# - Nine features of an atom and three of a bond are indices into tables that are summed; a product with the indices would depend on how classes are numbered.
# - One layer adds to each atom the rectified sum of neighbour and bond; on ethanol it gives (2.5, 5, 3.5), on its isomer (3.5, 5, 3.5).
# - Colour refinement bounds every such network; in our table it leaves {glue:text}`n_left` groups of stereoisomers without stereo features, and none with them.
# - The published chirality tag flips for {glue:text}`flip_share:.0%` of the atoms when drugs are written anew; labels R and S do not.
# - BRICS cuts define $H$; {glue:text}`S_once:.0%` of its columns belong to one class, and a row without fragments attends to all.
# - The released fingerprints drop {glue:text}`n_dropped` of {glue:text}`n_salts` structures of several parts; numbering by atom keeps them.
# - Atropine and ipratropium are {glue:text}`lowest:.2f` to {glue:text}`highest:.2f` alike, by seven rulers; a similarity without a ruler is no number.
#
# ## Exercises
#
# ```{exercise}
# :label: ex-molecules-acetic
#
# Acetic acid, `CC(=O)O`: start carbon at 1, oxygen at 2; single bonds add 0.5, the double bond adds 1.
# Compute one layer and the mean.
# ```
#
# ```{solution-start} ex-molecules-acetic
# :class: dropdown
# ```

# %%
acid = molecular_graph("CC(=O)O")
start = torch.tensor([[1.0], [1], [2], [2]])
bond = torch.tensor([0.5, 1.0])[acid.edge_attr[:, 0]][:, None]
after = gin_aggregate(start, acid.edge_index, bond)[:, 0]
torch.testing.assert_close(after, torch.tensor([2.5, 8.0, 4.0, 3.5]))
show({"atoms": after.tolist(), "mean": float(after.mean())})

# %% [markdown]
# The carbon in the middle hears 1.5, 3 and 2.5 and adds them to its own 1.
#
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-molecules-mean
#
# Find two molecules that a mean read-out confuses at every depth and a sum does not.
# ```
#
# ```{solution-start} ex-molecules-mean
# :class: dropdown
# ```

# %%
with torch.no_grad():
    sizes_apart = double(batch_graphs(["C1CCCCC1", "C1CCCCCCC1"]))
    atoms_of = double(batch_graphs(["C1CCCCC1", "C1CCCCCCC1"]), nodes=True)
torch.testing.assert_close(sizes_apart[0], sizes_apart[1], atol=1e-9, rtol=0)
assert (atoms_of[:6].sum(0) - atoms_of[6:].sum(0)).abs().max() > 1e-4
show("cyclohexane and cyclooctane")

# %% [markdown]
# Rings of different size, all atoms alike.
#
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-molecules-radius
#
# Why does the Morgan similarity of the pair fall with the radius, from {glue:text}`radius_1:.2f` over {glue:text}`radius_2:.2f` to {glue:text}`radius_3:.2f`?
# ```
#
# ````{solution} ex-molecules-radius
# :class: dropdown
#
# The two drugs differ around one nitrogen.
# The larger the circle, the more atoms have that nitrogen in their circle, and the more features differ; none that differed at a small radius becomes common at a larger one.
# ````
#
# ```{exercise}
# :label: ex-molecules-hyoscyamine
#
# How many patterns of tags do 200 spellings of hyoscyamine give, and how many patterns of labels?
# Predict from its number of tagged atoms.
# ```
#
# ```{solution-start} ex-molecules-hyoscyamine
# :class: dropdown
# ```

# %%
patterns = {"tag": set(), "cip": set()}
for _ in range(200):
    text, back = respelled(known["hyoscyamine"], rng)
    for rule, found in patterns.items():
        slot = molecular_graph(text, chirality=rule).x[:, 1]
        found.add(tuple(slot[back.argsort()].tolist()))
tagged_atoms = int((tagged[known["hyoscyamine"]][:, 1] > 0).sum())
assert len(patterns["cip"]) == 1
assert len(patterns["tag"]) == 2**tagged_atoms
show({rule: len(found) for rule, found in patterns.items()})

# %% [markdown]
# Every tagged atom is a coin of its own; the label pattern is one.
#
# ```{solution-end}
# ```
#
# ### Quiz
#
# ```{dropdown} What does ε do?
# It weighs the atom itself against its neighbours; at −1 the atom forgets itself.
# ```
#
# ```{dropdown} Name two drugs with one flat graph.
# Quinine and quinidine; ephedrine and pseudoephedrine; any racemate and its pure half, without stereo features.
# ```
#
# ```{dropdown} Which feature depends on how the SMILES was typed?
# The chirality tag, and no other.
# ```
#
# ## References
#
# - {cite:t}`mu2024bimorec`: equations 1 and 2, figure 1 and its claims.
# - {cite:t}`tan2024nlammr`: the same encoder, equations 5 to 7.
# - {cite:t}`yang2023molerec`: fragments, the mask, and the code that BiMoRec builds on.
# - {cite:t}`yang2021safedrug` and {cite:t}`tsubaki2019compound`: numbered neighbourhoods.
# - {cite:t}`xu2019gin` and {cite:t}`hu2020pretraining`: the network, and its bond features.
# - {cite:t}`weisfeiler1968reduction`: colour refinement.
# - {cite:t}`hu2020ogb`: the lists of classes.
# - {cite:t}`cahn1966specification`: R and S.
# - {cite:t}`degen2008brics`: BRICS.
# - {cite:t}`rogers2010ecfp` and {cite:t}`landrum2013rdkit`: fingerprints.
# - {cite:t}`dailymed`: what the drugs are for.
