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
#   medrec:
#     rows: [gamenet, cognet]
# ---

# %% [markdown]
# # A memory of drugs: reading, copying, generating (GAMENet, COGNet)
#
# Does a graph of co-prescriptions tell a model something that the visits did not?
# Join every pair of medications in that graph, and its half of GAMENet's memory becomes one single vector.
# How far from complete is the graph of the training visits?
#
# *In short.* Training visits join {glue:text}`density_all:.0%` of all pairs ({glue:text}`of_whom`).
# {glue:text}`which_or_how_many`
# {glue:text}`graph_answer`
#
# Two things more on the way: what GAMENet's margin does to its threshold, and what becomes of a set that COGNet writes as a list.
#
# ```{admonition} Objectives
# :class: objectives
# After this chapter you can
# - *build* the normalised graph $D^{-1}(A + I)$ and *compare* it with the symmetric form,
# - *compute* what a visit reads from a memory, now and from earlier visits,
# - *test* whether a trained network hears which medications came before, or only how many,
# - *derive* the closed form of the margin loss, and the threshold that it hides,
# - *mix* the probabilities of copying and generating,
# - *explain* why a set needs a fixed order when it is written as a list, and why not every order will do.
# ```
#
# **Prerequisites.** The five metrics of {doc}`01_the_task`, the {term}`DDI graph` of {doc}`03_drug_knowledge`, thresholds in {doc}`06_classical`, lists and attention in {doc}`07_sequence_models`.
#
# **Code.** {py:mod}`medrec.models.gamenet` and {py:mod}`medrec.models.cognet`.

# %% tags=["hide-input"]
from dataclasses import replace
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import polars as pl
import torch
from matplotlib.ticker import MaxNLocator
from torch.nn.functional import binary_cross_entropy, multilabel_margin_loss

from medrec import losses, plotting
from medrec.book import page
from medrec.book.pictures import plot_system
from medrec.data import load_cohort, privacy
from medrec.data.batch import VisitBatch
from medrec.data.split import split_patients
from medrec.lab import grids, published
from medrec.models.cognet import (
    RELEASED,
    COGNetConfig,
    beam_step,
    copy_weights,
    gather_copies,
    log_mixture,
)
from medrec.models.gamenet import (
    GraphNetwork,
    co_prescription,
    dynamic_read,
    row_normalised,
    safety_probability,
    static_read,
    visit_weights,
)
from medrec.nn.lists import chances
from medrec.tasks.evaluation import Interval, bootstrap, paired_difference
from medrec.tasks.visits import GROUPS, in_columns
from medrec.training import load_system, train

# %% tags=["parameters", "hide-input"]
seed: int = 0  # seed of the trainings on this page; kept rows carry their own
cohort: str = "synthetic"  # any cohort that medrec.data.load_cohort knows
device: str = "cpu"  # where the two systems are trained
profile: str = "quick"  # quick: short trainings, narrow COGNet; full: as the rows
smallest: float = 0.005  # smallest difference of Jaccard of interest

# %% tags=["hide-input"]
plotting.use_style()
records = load_cohort(cohort)
show = partial(privacy.show, records)  # closed records: aggregates only
page.at_a_glance(
    {
        "seed": seed,
        "cohort": cohort,
        "device": device,
        "profile": profile,
        "smallest": smallest,
    },
    paper="GAMENet (Shang et al., 2019) and COGNet (Wu et al., 2022)",
    data=page.cohort_line(records),
    learned="three GAMENets and one small COGNet, a few epochs each; the tables of the audit come from longer trainings, kept with the book",
    full_run="minutes (GAMENet) and an hour (COGNet) on two cores at 6 350 patients",
)

# %% tags=["remove-cell"]
table_2 = published.table("bimorec", 2).filter(database="MIMIC-III")
printed = {row["system"]: row for row in table_2.to_dicts()}
longest = sorted(printed, key=lambda name: -printed[name]["medications"])[:2]
assert set(longest) == {"GAMENet", "COGNet"}
page.glue(
    cohort_line=page.cohort_line(records),
    printed_gamenet=printed["GAMENet"]["medications"],
    printed_cognet=printed["COGNet"]["medications"],
)

# %% [markdown]
# ## The problem on three medications
#
# Both systems of this chapter keep a *memory*: one vector for each medication, made from two graphs.
# In the {term}`EHR graph` an edge says that two medications were given at one visit.
# In the DDI (drug–drug interaction) graph an edge says that two interact.
# Our three medications have one edge of each kind: 1 and 2 are given together, 2 and 3 interact.

# %%
ehr = torch.tensor([[0, 1, 0], [1, 0, 0], [0, 0, 0]]).bool()
ddi = torch.tensor([[0, 0, 0], [0, 0, 1], [0, 1, 0]]).bool()
W1 = torch.tensor([[2.0, 0.0], [0.0, 2.0], [2.0, 2.0]])
W2 = torch.eye(2)
q = torch.tensor([1.0, 0.0])
show(
    page.table(
        pl.DataFrame(
            {
                "medication": ["1", "2", "3"],
                "given with": ["2", "1", "–"],
                "interacts with": ["–", "3", "2"],
                "own vector": [str(row.tolist()) for row in W1],
            }
        ),
        caption="The toy of this chapter, written by hand.",
    )
)

# %% [markdown]
# A visit asks with a *query* $q$, a vector that a recurrent network makes from diagnoses and procedures.
# What should it find?

# %% [markdown]
# ## The systems in one picture each
#
# Inputs are round and have the colour of what they are; what comes out is filled.
# Thick green arrows come from earlier visits.

# %% tags=["hide-input"]
#| name: fig-flow-gamenet
#| alt: Diagnoses, procedures and past diagnoses and procedures into two GRUs over visits; two GRUs over visits into
#|   query; query into read by today, read by the past and two layers; read by today and read by the past into two
#|   layers; two layers into medications; graph of joint use and graph of interactions into two graph convolutions;
#|   two graph convolutions into read by today and read by the past; past medications into read by the past. Trained
#|   by binary cross-entropy, margin and interactions by annealing.
#| caption: GAMENet: what goes in where, what comes out, and what it is trained by. Drawn by
#|   {py:func}`medrec.book.pictures.plot_system`; no records. Notice the two ways by which the past enters.
show(plot_system("gamenet"))

# %% tags=["hide-input"]
#| name: fig-flow-cognet
#| alt: Diagnoses and procedures into attention over codes; attention over codes, two graph convolutions and
#|   prescribed list so far into decoder; decoder into written anew and copied from the past; graph of joint use and
#|   graph of interactions into two graph convolutions; written anew and copied from the past into mixture; mixture
#|   into medications; past visits into copied from the past. Trained by cross-entropy of every word.
#| caption: COGNet: what goes in where, what comes out, and what it is trained by. Drawn by
#|   {py:func}`medrec.book.pictures.plot_system`; no records. Notice that the past enters where words are copied.
show(plot_system("cognet"))

# %% [markdown]
# ## A graph that averages
#
# A graph convolution mixes each node with its neighbours.
# GAMENet's released code divides every row by its sum:
#
# $$
# \tilde A = D^{-1} (A + I), \qquad D_{ii} = \sum_j (A + I)_{ij} .
# $$ (eq-gamenet-row)
#
# The usual form divides by the roots of both {term}`degrees <degree>`, $D^{-1/2} (A + I)\, D^{-1/2}$.
# Both systems of this chapter have the first one in their code.


# %%
def by_rows(A):
    joined = A.float() + torch.eye(len(A))
    return torch.einsum("i,ij->ij", 1 / joined.sum(1), joined)


def symmetric(A):
    joined = A.float() + torch.eye(len(A))
    root = joined.sum(1) ** -0.5
    return torch.einsum("i,ij,j->ij", root, joined, root)


star = torch.tensor([[0, 1, 1], [1, 0, 0], [1, 0, 0]]).bool()

# %% [markdown]
# **Check.** Rows of the toy by hand; a star whose hub is the first node, in both forms; the package's function.
# The wrong variant, which the check must notice, is the symmetric form: its rows no longer add up to one.

# %%
close = {"atol": 5e-5, "rtol": 0}
torch.testing.assert_close(
    by_rows(ehr), torch.tensor([[0.5, 0.5, 0], [0.5, 0.5, 0], [0, 0, 1]])
)
third = 1 / 3
torch.testing.assert_close(
    by_rows(star), torch.tensor([[third] * 3, [0.5, 0.5, 0], [0.5, 0, 0.5]])
)
torch.testing.assert_close(by_rows(star), row_normalised(star))
torch.testing.assert_close(by_rows(star).sum(1), torch.ones(3))
assert abs(symmetric(star)[0, 1].item() - 6**-0.5) < 1e-6
assert (symmetric(star).sum(1) - 1).abs().min() > 0.05
show([round(v, 4) for v in symmetric(star).sum(1).tolist()])

# %% tags=["hide-input"]
#| name: fig-gamenet-star
#| alt: Two heat maps of a star of three nodes. Left, normalised by rows: the hub's row holds three thirds, each
#|   leaf's row one half for itself and one half for the hub. Right, symmetric: hub and leaf share 0.41 in both
#|   directions, and the rows do not add up to one.
#| caption: A star whose hub is node 1, normalised by rows, {eq}`eq-gamenet-row`, and symmetrically. Toy, exact. Row
#|   $i$ says what node $i$ hears. Notice that on the left hub and leaf hear each other differently.
fig, axes = plt.subplots(1, 2, figsize=(plotting.ONE_COLUMN, 2.3))
for ax, name, matrix in zip(
    axes,
    ("by rows", "symmetric"),
    (by_rows(star), symmetric(star)),
    strict=True,
):
    ax.imshow(matrix, cmap="Greys", vmin=0, vmax=1)
    for (i, j), value in np.ndenumerate(matrix.numpy()):
        if value:
            shade = "white" if value > 0.45 else "black"
            ax.text(j, i, f"{value:.2f}", ha="center", va="center", color=shade)
    ax.set_xticks(range(3), ["1", "2", "3"])
    ax.set_yticks(range(3), ["1 (hub)", "2", "3"])
    ax.set_xlabel(name)
    ax.grid(False)
show(fig)

# %% [markdown]
# ```{exercise}
# :label: ex-gamenet-leaf
#
# What does a leaf of the star hear, and what does it hear of the other leaf after one more step?
# ```
#
# ```{solution-start} ex-gamenet-leaf
# :class: dropdown
# ```

# %%
twice = by_rows(star) @ by_rows(star)
torch.testing.assert_close(twice[1], torch.tensor([5 / 12, 5 / 12, 1 / 6]))
show([round(v, 4) for v in twice[1].tolist()])

# %% [markdown]
# Half itself, half the hub.
# After two steps a sixth comes from the other leaf, through the hub.
#
# ```{solution-end}
# ```
#
# ## Two graphs, one memory
#
# Each graph gets two convolutions; the interactions are then taken away with a learned share $\lambda$:
#
# $$
# B = \tilde A^{ehr}\, \sigma(\tilde A^{ehr} W_1)\, W_2 \;-\; \lambda\, \tilde A^{ddi}\, \sigma(\tilde A^{ddi} W_3)\, W_4 , \qquad \sigma = \max(0, \cdot) .
# $$ (eq-gamenet-memory)
#
# This is the memory bank of both papers; GAMENet has four tables of weights, COGNet shares the first between its graphs.
# Nodes have no features: $W_1$ *is* the table of medications.


# %%
def convolve(A, W1, W2):
    A = by_rows(A)
    hidden = torch.einsum("mn,nd->md", A, W1).relu()
    return torch.einsum("mn,nd,de->me", A, hidden, W2)


def memory(share):
    return convolve(ehr, W1, W2) - share * convolve(ddi, W1, W2)


B = memory(0.5)

# %% [markdown]
# **Check.** Both parts and their difference by hand; the package's network with the same weights.

# %%
torch.testing.assert_close(
    convolve(ehr, W1, W2), torch.tensor([[1.0, 1], [1, 1], [2, 2]])
)
torch.testing.assert_close(
    convolve(ddi, W1, W2), torch.tensor([[2.0, 0], [1, 2], [1, 2]])
)
torch.testing.assert_close(B, torch.tensor([[0, 1], [0.5, 0], [1.5, 1]]))
network = GraphNetwork(3, 2, 0.0)
with torch.no_grad():
    for parameter, value in zip(
        (network.nodes, network.second, network.first_bias, network.second_bias),
        (W1, W2, torch.zeros(2), torch.zeros(2)),
        strict=True,
    ):
        parameter.copy_(value)
    torch.testing.assert_close(network(row_normalised(ehr)), convolve(ehr, W1, W2))
show(B.tolist())

# %% tags=["hide-input"]
#| name: fig-gamenet-lambda
#| alt: Three lines of arrows in the plane, one for each row of the memory, as lambda grows from 0 to 1. Rows 1 and 2
#|   start at the same point (1, 1) and part: row 1 moves left, row 2 down and left. Row 3 starts at (2, 2) and moves
#|   like row 2.
#| caption: Rows of the memory as $\lambda$ goes from 0 (open) to 1 (arrow head) in steps of a quarter,
#|   {eq}`eq-gamenet-memory`. Toy, exact. Notice which rows start together.
fig, ax = plt.subplots(figsize=(plotting.ONE_COLUMN, 2.8))
paths = torch.stack([memory(share) for share in np.linspace(0, 1, 5)])
for row, (style, color) in enumerate(
    zip(("-", "--", ":"), (plotting.OCHRE, plotting.BLUE, plotting.GREEN), strict=True)
):
    x, y = paths[:, row].T + 0.02 * row
    ax.plot(x, y, style, marker=".", color=color, label=f"medication {row + 1}")
    ax.plot(x[0], y[0], "o", mfc="none", mec=color, ms=8)
    ax.annotate(
        "",
        xy=(x[-1], y[-1]),
        xytext=(x[-2], y[-2]),
        arrowprops={"arrowstyle": "-|>", "color": color},
    )
ax.set(xlabel="first coordinate", ylabel="second coordinate")
ax.legend()
show(fig)

# %% [markdown]
# ```{exercise}
# :label: ex-gamenet-lambda
#
# Set $\lambda = 0$.
# Which two medications become one, and why can no query part them?
# ```
#
# ```{solution-start} ex-gamenet-lambda
# :class: dropdown
# ```

# %%
without = memory(0.0)
assert torch.equal(without[0], without[1])
show(without.tolist())

# %% [markdown]
# The pair that is given together: with no other neighbours both rows of $\tilde A$ are equal, and so is everything made from them.
#
# ```{solution-end}
# ```
#
# ## Reading now, reading the past
#
# The *static* read asks which medications fit the query.
# The *dynamic* read asks which earlier visits resemble this one, and takes the medications that were given there:
#
# $$
# f_1 = \operatorname{softmax}(q B^\top)\, B, \qquad
# f_2 = \big(\operatorname{softmax}(q\, Q_{<t}^\top)\, X^M_{<t}\big)\, B .
# $$ (eq-gamenet-reads)
#
# $Q_{<t}$ holds the queries of earlier visits, $X^M_{<t}$ their medications as {term}`multi-hot vectors <multi-hot vector>`.
# At a first visit the code sets $f_2 = f_1$.

# %%
Q = torch.tensor([[1.0, 1.0], [0.0, 1.0]])
X = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
now = torch.softmax(torch.einsum("d,md->m", q, B), dim=0)
f1 = torch.einsum("m,md->d", now, B)
of_visits = torch.softmax(torch.einsum("d,jd->j", q, Q), dim=0)
of_medications = torch.einsum("j,jm->m", of_visits, X)
f2 = torch.einsum("m,md->d", of_medications, B)

# %% [markdown]
# **Check.** By hand, and by the functions of the package, which read a whole record at once.
# If the first of the earlier sets had been {1} alone, its second medication would be missing from the sum.

# %%
torch.testing.assert_close(now, torch.tensor([0.1402, 0.2312, 0.6285]), **close)
torch.testing.assert_close(f1, torch.tensor([1.0584, 0.7688]), **close)
torch.testing.assert_close(of_visits, torch.tensor([0.7311, 0.2689]), **close)
torch.testing.assert_close(
    of_medications, torch.tensor([0.7311, 0.7311, 0.2689]), **close
)
torch.testing.assert_close(f2, torch.tensor([0.7689, 1.0]), **close)
record, given = torch.cat([Q, q[None]])[None], torch.cat([X, torch.ones(1, 3)])[None]
torch.testing.assert_close(static_read(q, B), f1)
torch.testing.assert_close(dynamic_read(visit_weights(record), given, B)[0, 2], f2)
given[0, 0, 1] = 0
shorter = dynamic_read(visit_weights(record), given, B)[0, 2]
torch.testing.assert_close(shorter, torch.tensor([0.4034, 1.0]), **close)
total = of_medications.sum().item()
assert abs(total - 1.7311) < 5e-5
page.glue(
    read_total=total,
    read_first=of_visits[0].item(),
    read_second=of_visits[1].item(),
)

# %% tags=["hide-input"]
#| name: fig-gamenet-reads
#| alt: Two bar charts of weights over three medications. Static read: 0.14, 0.23, 0.63, adding up to 1. Dynamic read:
#|   0.73, 0.73, 0.27, adding up to 1.73.
#| caption: Weights of the two reads of {eq}`eq-gamenet-reads`, their sums above. Toy, exact. Notice that the second
#|   adds up to more than one: to a number of medications.
fig, axes = plt.subplots(1, 2, figsize=(plotting.ONE_COLUMN, 2.2), sharey=True)
for ax, name, weights in zip(
    axes, ("static", "dynamic"), (now, of_medications), strict=True
):
    ax.bar(["1", "2", "3"], weights, color=plotting.color("GAMENet"))
    ax.set_xlabel(f"medication, {name} read")
    ax.text(1, 0.8, f"sum {weights.sum():.2f}", ha="center")
axes[0].set(ylabel="weight", ylim=(0, 0.9))
show(fig)

# %% [markdown]
# The weights of the dynamic read add up to {glue:text}`read_total:.4f`: to the numbers of medications at earlier visits, 2 and 1, averaged with the weights {glue:text}`read_first:.4f` and {glue:text}`read_second:.4f`.
# At twenty medications a visit $f_2$ is about twenty times as long as $f_1$, and the layer behind has to live with that.
#
# **Break it.** Feed a history that is always zero.
# Nothing fails: shapes fit, and gradients flow through everything else.

# %%
dead = dynamic_read(visit_weights(record), torch.zeros_like(given), B)[0, 2]
assert not dead.any()
assert torch.isfinite(static_read(q, B)).all()
show(dead.tolist())

# %% [markdown]
# ```{exercise}
# :label: ex-gamenet-first
#
# At a first visit the package's `visit_weights` gives a row of zeros.
# What would $f_2$ be without the rule $f_2 = f_1$, and which two kinds of visits would then look alike?
# ```
#
# ````{solution} ex-gamenet-first
# :class: dropdown
#
# Zero: the same as after earlier visits at which nothing was given.
# ````
#
# ## When the graph is full
#
# Let every pair be joined, and leave the interactions out ($\lambda = 0$).
# Then each row of $\tilde A$ is $1/M$ everywhere, and all rows of $B$ are the same vector $b$.
# With $w = \operatorname{softmax}(q\, Q_{<t}^\top)\, X^M_{<t}$, the weights of the dynamic read,
#
# $$
# A_{ij} = 1\ (i \ne j) \;\Rightarrow\; \tilde A = \tfrac1M \mathbf 1 \mathbf 1^\top, \quad
# B_m = b, \quad f_1 = b, \quad f_2 = \Big(\sum_m w_m\Big)\, b \ \text{ for all } q .
# $$ (eq-gamenet-complete)
#
# The dynamic read still says *how many* medications were given before, and nothing about *which*.
# With $\lambda > 0$ the rows still differ, but by their interactions alone.

# %%
complete = ~torch.eye(3).bool()
flat = convolve(complete, W1, W2)
read = torch.stack([static_read(query, flat) for query in torch.randn(5, 2)])
given = torch.cat([X, torch.ones(1, 3)])[None]
past = dynamic_read(visit_weights(record), given, flat)[0, 2]

# %% [markdown]
# **Check.** The memory, five static reads and a dynamic one; the graph that the package calls complete.
# The symmetric form passes this check as well: in a complete graph all degrees are equal, so the two forms are one.

# %%
b = torch.full((2,), 4 / 3)
torch.testing.assert_close(by_rows(complete), torch.full((3, 3), 1 / 3))
torch.testing.assert_close(flat, b.expand(3, 2))
torch.testing.assert_close(read, b.expand(5, 2))
torch.testing.assert_close(past, total * b)
torch.testing.assert_close(symmetric(complete), by_rows(complete))
kept = co_prescription(np.ones((1, 3), dtype=bool), "complete")
assert torch.equal(torch.from_numpy(kept), complete)
show(read[0].tolist())

# %% [markdown]
# How full is the graph of the training visits?
# Two medications are joined when they were *ever* given together, so every visit can only add edges.

# %% tags=["hide-input"]
split = split_patients(records.n_patients, 0)  # as the trainings split
training = records.select(split.train)
prescribed = training.codes["medication"].multi_hot(records.n_medications)
M = records.n_medications


def density(graph):
    return graph.sum() / (M * (M - 1))


def spread(graph):
    """How far rows of an untrained memory lie from their mean, in lengths of the mean."""
    torch.manual_seed(seed)
    rows = GraphNetwork(M, 64, 0.0)(row_normalised(torch.from_numpy(graph))).detach()
    return float((rows - rows.mean(0)).norm(dim=1).mean() / rows.mean(0).norm())


mixed = np.random.default_rng(seed).permutation(len(prescribed))
sizes = np.unique(np.geomspace(min(10, len(mixed)), len(mixed), 9).astype(int))
grown = [co_prescription(prescribed[mixed[:n]]) for n in sizes]
graphs = {
    name: co_prescription(prescribed, name)
    for name in ("observed", "lift", "empty", "complete")
}
spreads = {name: spread(graph) for name, graph in graphs.items()}
everything = co_prescription(
    records.codes["medication"].multi_hot(records.n_medications)
)
new_pairs = int((everything & ~graphs["observed"]).sum() // 2)
n_learners = len(split.train)

# %% tags=["hide-input"]
#| name: fig-gamenet-density
#| alt: Two panels against the number of training visits on a log axis. Left: the share of joined pairs climbs
#|   steadily. Right: the relative spread of memory rows falls as the graph fills; lines mark the graph without edges,
#|   which has the largest spread, the graph of pairs above chance, which keeps some of it, and the complete graph,
#|   which has none.
#| caption: Share of joined pairs (left), and how far the rows of an untrained memory, without its interaction part,
#|   lie from their mean (right), as visits are added in random order. Training patients of {glue:text}`cohort_line`;
#|   one order, no interval. Dashed: pairs given together at least half again as often as by chance; dash-dotted: no
#|   edge; dotted: the complete graph. Notice how edges draw the rows of the memory together.
fig, (left, right) = plt.subplots(
    1, 2, figsize=(plotting.FULL, 2.5), layout="constrained"
)
look = {"color": plotting.color("GAMENet"), "ms": 4}
left.plot(sizes, [density(graph) for graph in grown], "-o", **look)
right.plot(sizes, [spread(graph) for graph in grown], "-o", **look)
left.axhline(density(graphs["lift"]), ls="--", color=plotting.INK, lw=1)
lines = {"empty": "-.", "lift": "--", "complete": ":"}
for name, ls in lines.items():
    right.axhline(spreads[name], ls=ls, color=plotting.INK, lw=1, clip_on=False)
left.set(ylabel="joined pairs / all pairs", ylim=(0, 1))
right.set(ylabel="spread / length of mean", ylim=(0, None))
for ax in (left, right):
    ax.set(xscale="log", xlabel="training visits")
show(fig, patients=n_learners)

# %% tags=["remove-cell"]
seen = prescribed.any(0)
OF_WHOM = {
    "synthetic": "synthetic records: how full a hospital's graph is, they cannot say",
    "demo": "the few patients of a demo",
    "credentialed": "records of a hospital",
}
page.glue(
    of_whom=page.about(records, OF_WHOM[records.source]),
    density_all=density(graphs["observed"]),
    density_seen=graphs["observed"].sum() / max(seen.sum() * (seen.sum() - 1), 1),
    spread_observed=spreads["observed"],
    spread_empty=spreads["empty"],
    spread_complete=spreads["complete"],
    new_pairs=new_pairs,
    new_share=new_pairs / max(everything.sum() // 2, 1),
)

# %% [markdown]
# Training visits join {glue:text}`density_all:.0%` of all pairs here ({glue:text}`of_whom`), and {glue:text}`density_seen:.0%` of the pairs of medications that were given at all.
# The spread of the rows is {glue:text}`spread_empty:.2f` without any edge, {glue:text}`spread_observed:.2f` in the graph of the training visits, and {glue:text}`spread_complete:.2f` in the complete one.
# Training $W_1$ can pull rows apart only where rows of $\tilde A$ differ, and the fuller the graph, the less they do.
#
# ```{exercise}
# :label: ex-gamenet-lift
#
# Propose a rule for edges that keeps information as visits are added.
# ```
#
# ````{solution} ex-gamenet-lift
# :class: dropdown
#
# Ask for more than one meeting: a *lift*, the number of common visits over the number that two independent medications would have, of at least 1.5; or the ten closest neighbours of each medication.
# Count in training visits only.
# The first rule is a switch of the model, and one of the rows below.
# ````
#
# ## A margin that is a threshold
#
# Most systems of these chapters add a margin to their cross-entropy.
# For each pair of a prescribed and another medication it asks that their probabilities differ by one; with $n_+$ prescribed medications and $n_-$ others,
#
# $$
# \begin{aligned}
# \mathcal L_{multi} &= \frac1M \sum_{i \in pos}\ \sum_{j \in neg} \max\big(0,\, 1 - (p_i - p_j)\big) \\
# &= \frac1M \Big[ n_- \sum_{i \in pos} (1 - p_i) + n_+ \sum_{j \in neg} p_j \Big] .
# \end{aligned}
# $$ (eq-gamenet-margin)
#
# Probabilities never differ by more than one.
# The hinge is never switched off, and the double sum falls apart into two.


# %%
def closed_form(p, y):
    positive, negative = (1 - p)[y].sum(), p[~y].sum()
    return ((~y).sum() * positive + y.sum() * negative) / len(p)


p = torch.tensor([0.9, 0.6, 0.3, 0.2])
y = torch.tensor([True, False, True, False])

# %% [markdown]
# **Check.** Pair by pair, in closed form, by the package and by PyTorch, which wants *indices* of the prescribed ones, padded with −1.
# Three wrong ways follow, none of which raises an error; the last line is the third one done right.

# %%
pairs = [1 - (p[i] - p[j]).item() for i in (0, 2) for j in (1, 3)]
np.testing.assert_allclose(pairs, [0.7, 0.3, 1.3, 0.9], atol=1e-6)
np.testing.assert_allclose(sum(pairs) / 4, 0.8, atol=1e-6)
torch.testing.assert_close(closed_form(p, y), torch.tensor(0.8))
torch.testing.assert_close(losses.margin_loss(p, y), torch.tensor(0.8))
torch.testing.assert_close(
    multilabel_margin_loss(p, torch.tensor([0, 2, -1, -1])), torch.tensor(0.8)
)
fed = {
    "multi-hot in the place of indices": (p, [1, 0, 1, 0]),
    "−1 in the middle": (p, [0, -1, 2, -1]),
    "logits": (torch.tensor([3.0, -3, 2, -2]), [0, 2, -1, -1]),
    "their probabilities": (torch.tensor([3.0, -3, 2, -2]).sigmoid(), [0, 2, -1, -1]),
}
wrong = {
    name: multilabel_margin_loss(values, torch.tensor(target)).item()
    for name, (values, target) in fed.items()
}
np.testing.assert_allclose(list(wrong.values()), [1.0, 0.35, 0.0, 0.1666], atol=5e-5)
show({name: round(value, 4) for name, value in wrong.items()})

# %% [markdown]
# The term is linear in every probability, and it is not small.
# At twenty medications of 131, with probabilities of 0.6 and 0.1:

# %%
y20 = torch.arange(131) < 20
p20 = torch.where(y20, 0.6, 0.1)
large = losses.margin_loss(p20, y20).item()
small = binary_cross_entropy(p20, y20.float()).item()
np.testing.assert_allclose([small, large], [0.1673, 8.4733], atol=5e-5)
page.glue(bce_20=0.95 * small, margin_20=0.05 * large)
show({"cross-entropy": round(small, 4), "margin": round(large, 4)})

# %% [markdown]
# Weighted by 0.05 and 0.95, the margin still counts {glue:text}`margin_20:.2f` and the cross-entropy {glue:text}`bce_20:.2f`.
# What does it do to a probability?
# Take a medication whose true frequency, given what the model knows, is $\pi$, at visits with $n = n_+$ medications of $M$.
# The expected loss $w_b \mathcal L_{bce} + w_m \mathcal L_{multi}$ is smallest where its derivative vanishes; with $k = w_m / w_b$,
#
# $$
# \frac{1 - \pi}{1 - p} - \frac{\pi}{p} + k\,(n - M\pi) = 0
# \quad\Rightarrow\quad
# p = \tfrac12 \ \text{ at } \ \pi^* = \frac{2 + k n}{4 + k M} .
# $$ (eq-gamenet-threshold)
#
# No paper prints this; it follows from {eq}`eq-gamenet-margin` in two lines.


# %%
def hidden_threshold(w_bce, w_multi, n=20, size=131):
    k = w_multi / w_bce
    return (2 + k * n) / (4 + k * size)


def trained_probability(pi, w_bce, w_multi, n=20, size=131):
    """Root in (0, 1) of c p² - (1 + c) p + π = 0."""
    c = w_multi / w_bce * (n - size * np.asarray(pi))
    return 2 * pi / (1 + c + np.sqrt((1 + c) ** 2 - 4 * c * pi))


# %% [markdown]
# **Check.** The cut for three sets of weights, and where cross-entropy is summed over the 131 medications instead of averaged: there it is one half again, nearly; the trained probability at four frequencies; and the 131 independent medications of {doc}`06_classical`, where the cut says how many are recommended at one half.

# %%
weights = {
    "0.95 / 0.05": (0.95, 0.05),
    "0.9 / 0.1": (0.9, 0.1),
    "0.9 / 0.01": (0.9, 0.01),
}
cuts = {name: hidden_threshold(*pair) for name, pair in weights.items()}
np.testing.assert_allclose(list(cuts.values()), [0.2802, 0.2275, 0.4073], atol=5e-5)
np.testing.assert_allclose(hidden_threshold(0.95 * 131, 0.05), 0.4955, atol=5e-5)
frequencies = np.array([0.1, 0.2, 0.3, 0.5])
np.testing.assert_allclose(
    trained_probability(frequencies, 0.95, 0.05),
    [0.0749, 0.2633, 0.5513, 0.8331],
    atol=5e-5,
)
pi = 0.9 * np.exp(-np.arange(131) / 22)
numbers = [
    int((trained_probability(pi, *pair) >= 0.5).sum()) for pair in weights.values()
]
assert numbers == [26, 31, 18]
flips = [(pi[n], pi[n - 1]) for n in numbers]
assert all(
    low < cut < high for (low, high), cut in zip(flips, cuts.values(), strict=True)
)
page.glue(
    cut_95=cuts["0.95 / 0.05"], cut_90=cuts["0.9 / 0.1"], cut_99=cuts["0.9 / 0.01"]
)
show(dict(zip(weights, numbers, strict=True)))

# %% tags=["hide-input"]
#| name: fig-gamenet-threshold
#| alt: Line chart of the trained probability against the true frequency. The curve for weights 0.95 and 0.05 is
#|   S-shaped: below the diagonal at small frequencies, through it near 0.15, and far above it from there; it crosses
#|   one half at 0.28. The curve for 0.9 and 0.01 lies closer to the diagonal.
#| caption: Probability that minimises the loss against true frequency, {eq}`eq-gamenet-threshold`, for twenty
#|   medications of 131. Formula, no records. Diagonal: cross-entropy alone. Notice the frequency at which each curve
#|   crosses one half, and that all cross the diagonal at 20/131.
fig, ax = plt.subplots(figsize=(plotting.ONE_COLUMN, 2.8))
axis = np.linspace(0.001, 0.999, 400)
for (name, pair), style in zip(weights.items(), ("-", "--", ":"), strict=True):
    ax.plot(
        axis,
        trained_probability(axis, *pair),
        style,
        color=plotting.color("GAMENet"),
        label=f"{name}: cut {cuts[name]:.2f}",
    )
ax.plot([0, 1], [0, 1], color=plotting.INK, lw=0.8, dashes=(4, 4))
ax.axhline(0.5, color=plotting.INK, lw=0.8)
ax.plot(20 / 131, 20 / 131, "o", color=plotting.INK, ms=4)
ax.set(xlabel="true frequency π", ylabel="trained probability p")
ax.legend(title="weights of BCE / margin")
show(fig)

# %% tags=["remove-cell"]
n_mean = float(prescribed.sum(1).mean())
cut_here = hidden_threshold(0.9, 0.1, n_mean, M)
page.glue(
    n_mean=n_mean,
    n_vocabulary=M,
    cut_here=cut_here,
)

# %% [markdown]
# Training with five per cent margin and cutting at one half is cutting at {glue:text}`cut_95:.2f`.
# With GAMENet's weights in the copy that later papers use, 0.9 and 0.1, it is {glue:text}`cut_90:.2f`: everything above that is recommended, and its printed lists are the longest of BiMoRec's table 2, {glue:text}`printed_gamenet:.1f` medications on MIMIC-III.
# On the cohort of this page, {glue:text}`n_mean:.1f` of {glue:text}`n_vocabulary` medications at a training visit, the cut is {glue:text}`cut_here:.2f`.
# A comparison at one half is then a comparison of thresholds, and each row that can be tuned must be.
#
# ```{exercise}
# :label: ex-gamenet-eleven
#
# Visits of another cohort have eleven medications of 131.
# Where is the cut for 0.95 and 0.05?
# ```
#
# ```{solution-start} ex-gamenet-eleven
# :class: dropdown
# ```

# %%
np.testing.assert_allclose(hidden_threshold(0.95, 0.05, n=11), 0.2367, atol=5e-5)
show(round(hidden_threshold(0.95, 0.05, n=11), 4))

# %% [markdown]
# ```{solution-end}
# ```
#
# ## Accuracy or safety, by chance
#
# GAMENet does not add an interaction loss; it *draws* which loss a visit is trained on.
# A visit whose recommended set has a {term}`DDI rate` $\rho$ above the target $\varphi$ is trained on interactions alone with probability
#
# $$
# P(\text{safety}) = \exp\Big(\frac{\varphi - \rho}{\tau}\Big), \qquad \tau \leftarrow 0.85\, \tau \ \text{ after each epoch},
# $$ (eq-gamenet-annealing)
#
# and otherwise, like every visit below the target, on accuracy alone.
# So safety belongs to the first epochs, when the temperature $\tau$ is high, and later to visits that are nearly safe.


# %%
def safety(rate, epoch, start=0.5, target=0.06):
    if rate <= target:
        return 0.0
    return float(np.exp((target - rate) / (start * 0.85**epoch)))


# %% [markdown]
# **Check.** Four epochs at $\rho = 0.09$, $\varphi = 0.06$; the package's function; below the target nothing is drawn, and the further above it, the rarer is safety.

# %%
safe_at = [safety(0.09, epoch) for epoch in (0, 10, 20, 30)]
np.testing.assert_allclose(safe_at, [0.9418, 0.7373, 0.2127, 0.0004], atol=5e-5)
np.testing.assert_allclose(
    [
        safety_probability(torch.tensor(0.09), 0.06, 0.5 * 0.85**epoch)
        for epoch in (0, 10, 20, 30)
    ],
    safe_at,
    atol=1e-6,
)
assert safety(0.05, 0) == 0
assert safety(0.20, 20) < safety(0.09, 20)
assert max(safety(0.09, 30), safety(0.09, 40, start=2.0)) < 5e-4
show([round(value, 4) for value in safe_at])

# %% tags=["hide-input"]
#| name: fig-gamenet-annealing
#| alt: Two falling curves of the probability of training for safety against epoch, for starting temperatures 0.5 and
#|   2. The first falls from 0.94 to nearly zero between epochs 10 and 30, the second about nine epochs later.
#| caption: Probability that a visit with a DDI rate of 0.09 is trained on interactions alone,
#|   {eq}`eq-gamenet-annealing`. The temperature τ starts at 0.5 in GAMENet's own repository and at 2 in the copy that
#|   later papers use. Formula, no records. Notice that by epoch 30 (0.5) or 40 (2) nothing is trained for safety any
#|   more.
fig, ax = plt.subplots(figsize=(plotting.ONE_COLUMN, 2.4))
for start, style in ((0.5, "-"), (2.0, "--")):
    ax.plot(
        [safety(0.09, epoch, start) for epoch in range(51)],
        style,
        color=plotting.color("GAMENet"),
        label=f"τ starts at {start:g}",
    )
ax.set(xlabel="epoch", ylabel="P(safety)")
ax.legend()
show(fig)

# %% [markdown]
# ```{exercise}
# :label: ex-gamenet-drawn
#
# At epoch 20, 64 % of the visits lie at $\rho = 0.09$ and the others below the target.
# Which share of all visits is trained on interactions alone?
# ```
#
# ```{solution-start} ex-gamenet-drawn
# :class: dropdown
# ```

# %%
drawn = 0.64 * safety(0.09, 20)
np.testing.assert_allclose(drawn, 0.136, atol=5e-4)
show(round(drawn, 3))

# %% [markdown]
# One in seven; ten epochs later it is one in four thousand.
#
# ```{solution-end}
# ```
#
# ## Copying or generating
#
# COGNet writes a list, medication after medication, with a decoder whose state is $h$.
# Each word is either *generated* from all medications and the end sign, or *copied* from the patient's past:
#
# $$
# \begin{aligned}
# P(m) &= g\, P_{gen}(m) + (1 - g)\, P_{copy}(m), \\
# P_{copy}(m) &\propto \sum_{i:\, m_i = m} \operatorname{softmax}_i(a)\ \operatorname{softmax}_{j(i)}(s) .
# \end{aligned}
# $$ (eq-cognet-mixture)
#
# Here $i$ runs over the medications of all earlier visits, $a_i$ says how well one fits the state, $s_j$ how much its visit $j$ resembles this one, and $g$ is a gate between 0 and 1.
# This is the paper's combination of its two modes, with our letters.
# At a first visit there is nothing to copy, and $g$ is not used.
# In code the softmax over visits holds one slot more, with score 0, for "no earlier visit".

# %%
tokens = torch.tensor([0, 1, 0])  # earlier visits {a, b} and {a}
visit_of = torch.tensor([0, 0, 1])
a = torch.tensor([1.0, 0.0, 1.0])
s = torch.tensor([0.5, 1.5])
generate = torch.tensor([0.0826, 0.0826, 0.6103, 0.2245])  # a, b, c, end


def copy(a, s, slots):
    visits = torch.softmax(torch.cat([torch.zeros(slots), s]), dim=0)
    shares = torch.softmax(a, dim=0) * visits[visit_of + slots]
    return torch.zeros(4).index_add(0, tokens, shares / shares.sum()), visits


copied, visits = copy(a, s, slots=1)


def mixed_with(g):
    return g * generate + (1 - g) * copied


# %% [markdown]
# **Check.** Visit weights, the copy distribution and two mixtures by hand.
# Two softmaxes, a product and a normalisation are *one* softmax of $a_i + s_{j(i)}$: the empty slot drops out, and the package computes it that way.

# %%
torch.testing.assert_close(visits, torch.tensor([0.1402, 0.2312, 0.6285]), **close)
torch.testing.assert_close(copied, torch.tensor([0.9100, 0.0900, 0, 0]), **close)
torch.testing.assert_close(copy(a, s, slots=0)[0], copied)
shares = copy_weights(a[None], s[visit_of][None], torch.ones(1, 3).bool())
ours = gather_copies(shares[:, None], tokens[None], 3)[0, 0]
torch.testing.assert_close(ours, copied[:3])
for g, expected in (
    (0.25, [0.7031, 0.0882, 0.1526, 0.0561]),
    (0.75, [0.2894, 0.0845, 0.4577, 0.1684]),
):
    np.testing.assert_allclose(mixed_with(g), expected, atol=1e-4)
    gate, past = torch.tensor(g).logit(), torch.tensor(True)
    spoken = log_mixture(generate.log(), ours, gate, past).exp()
    torch.testing.assert_close(spoken, mixed_with(g), atol=1e-4, rtol=0)
    assert mixed_with(g)[3] <= g
show([round(v, 4) for v in mixed_with(0.25).tolist()])

# %% tags=["hide-input"]
#| name: fig-cognet-mixture
#| alt: Stacked areas of the probabilities of a, b, c and the end sign against the gate from 0, all copied, to 1, all
#|   generated. At 0 almost everything is a; c overtakes a at 0.63; the end sign grows from zero in a straight line.
#| caption: Probabilities of {eq}`eq-cognet-mixture` against the gate. Toy, exact. Line: where c overtakes a. Notice
#|   that the end sign has nothing at $g = 0$.
fig, ax = plt.subplots(figsize=(plotting.ONE_COLUMN, 2.6))
gates = np.linspace(0, 1, 21)
stack = np.array([mixed_with(float(g)).numpy() for g in gates]).T
ax.stackplot(
    gates,
    stack,
    labels=["a", "b", "c", "end"],
    colors=[plotting.OCHRE, plotting.GREEN, plotting.BLUE, plotting.INK],
    alpha=0.75,
)
ax.axvline(0.633, color="black", lw=0.8)
ax.set(xlabel="gate g (0: copied, 1: generated)", ylabel="probability", ylim=(0, 1))
ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
show(fig)

# %% [markdown]
# The end sign is in no earlier set, so that $P(\text{end}) \le g$: at $g = 0$ a list cannot stop.
# Whether this bound matters in a trained network is asked below.
#
# ```{exercise}
# :label: ex-cognet-gate
#
# From which gate on does the newcomer c beat the copy a?
# ```
#
# ```{solution-start} ex-cognet-gate
# :class: dropdown
# ```

# %%
crossing = 0.91 / (0.91 + 0.6103 - 0.0826)
np.testing.assert_allclose(crossing, 0.633, atol=5e-4)
assert mixed_with(crossing - 0.002)[0] > mixed_with(crossing - 0.002)[2]
assert mixed_with(crossing + 0.002)[0] < mixed_with(crossing + 0.002)[2]
show(round(crossing, 3))

# %% [markdown]
# $0.0826\, g + 0.91\, (1 - g) = 0.6103\, g$.
#
# ```{solution-end}
# ```
#
# ## Writing a set
#
# A set of $n$ medications is $n!$ lists.
# A model that may write them in any order spreads the mass of a set over all of them:
#
# $$
# P(S) = \sum_{\text{orders } \omega} P(\omega_1)\, P(\omega_2 \mid \omega_1) \cdots P(\text{end} \mid \omega) .
# $$ (eq-cognet-order)
#
# Search finds the best *list*.
# The example has three medications and eight lists.

# %%
free = {"ab": 0.18, "ba": 0.18, "a": 0.12, "b": 0.12}
free |= {"c": 0.25, "ca": 0.07, "cb": 0.03, "": 0.05}
fixed = {}
for written, mass in free.items():
    key = "".join(sorted(written))
    fixed[key] = fixed.get(key, 0) + mass


def expected_jaccard(chosen):
    chosen = set(chosen)
    each = [(set(s), mass) for s, mass in free.items()]
    return sum(
        mass * (len(chosen & s) / len(chosen | s) if chosen | s else 1)
        for s, mass in each
    )


def next_word(lists, written):
    mass = [
        sum(v for k, v in lists.items() if k[: len(written) + 1] == written + m)
        for m in "abc"
    ]
    mass.append(lists.get(written, 0))
    return torch.tensor(mass) / max(sum(mass), 1e-9)


# %% [markdown]
# **Check.** The best list and the best set, and what each is worth; then the same sets in a fixed order, $a < b < c$, where each has one list and greedy steps find the best.

# %%
assert max(free, key=free.get) == "c"
assert max(fixed, key=fixed.get) == "ab"
np.testing.assert_allclose([free["c"], fixed["ab"]], [0.25, 0.36])
np.testing.assert_allclose(
    [expected_jaccard("ab"), expected_jaccard("c")], [0.5133, 0.30], atol=5e-5
)
first, second = next_word(fixed, ""), next_word(fixed, "a")
np.testing.assert_allclose([first[0], second[1]], [0.55, 0.6545], atol=5e-5)
assert first.argmax() == 0
assert second.argmax() == 1
worth_set, worth_list = expected_jaccard("ab"), expected_jaccard("c")
page.glue(worth_set=worth_set, worth_list=worth_list)
show({"set ab": round(worth_set, 4), "list c": round(worth_list, 4)})

# %% [markdown]
# **Check.** A wider beam changes nothing: {py:func}`~medrec.models.cognet.beam_step`, the step of the real model, follows up to eight lists at once and ends with the best list all the same.


# %%
def search(lists, width):
    total = torch.tensor([[0.0] + [-torch.inf] * (width - 1)])
    beams, ended = [""] * width, torch.zeros(1, width).bool()
    for _ in range(4):
        words = torch.stack([next_word(lists, b) for b in beams])[None].log()
        used = torch.tensor([[[m in b for m in "abc"] for b in beams]])
        total, origin, word = beam_step(total, words, used, ended)
        over = ended[0, origin[0]]
        beams = [
            beams[o] + ("" if w == 3 else "abc"[w])
            for o, w in zip(origin[0], word[0], strict=True)
        ]
        ended = (over | (word[0] == 3))[None]
    return beams[0]


assert {search(free, width) for width in (1, 2, 4, 8)} == {"c"}
assert {search(fixed, width) for width in (1, 2, 4, 8)} == {"ab"}
show({"any order": search(free, 8), "fixed order": search(fixed, 8)})

# %% tags=["hide-input"]
#| name: fig-cognet-tree
#| alt: Two trees of lists side by side. Left, any order: the first words a and b hold 0.30 each and c 0.35; the leaf
#|   c alone is largest with 0.25. Right, fixed order: a holds 0.55 and its leaf ab 0.36, the largest of all.
#| caption: All lists of the example as trees, in any order and in a fixed one. Toy, exact; thickness of a branch: its
#|   probability, and number at each node: probability of ending there. Bold: the best leaf. Notice where the mass of
#|   {a, b} is.
fig, axes = plt.subplots(1, 2, figsize=(plotting.FULL, 2.8), layout="constrained")
for ax, name, lists in zip(
    axes, ("any order", "fixed order"), (free, fixed), strict=True
):
    leaves = sorted(set(lists) | {k[:1] for k in lists}, key=lambda k: (k == "", k))
    height = {k: -i for i, k in enumerate(leaves)}
    best = max(lists, key=lists.get)
    for k in leaves:
        parent = k[:-1]
        mass = sum(v for other, v in lists.items() if other.startswith(k))
        if k:
            ax.plot(
                [len(parent), len(k)],
                [height[parent], height[k]],
                color=plotting.color("COGNet"),
                lw=0.5 + 8 * mass,
                solid_capstyle="round",
                alpha=0.5,
            )
        ends = lists.get(k, 0)
        ax.text(
            len(k) + 0.04,
            height[k] + (0.12 if k else -0.12),
            f"{k or 'start'}  {ends:.2f}",
            va="bottom" if k else "top",
            weight="bold" if k == best else "normal",
        )
    ax.set(xlim=(-0.1, 2.6), xlabel=name, xticks=[], yticks=[])
    ax.margins(y=0.16)
    ax.grid(False)
show(fig)

# %% [markdown]
# The best list is worth {glue:text}`worth_list:.2f` Jaccard, the best set {glue:text}`worth_set:.2f`.
# COGNet, as released, fixes the order by frequency, the rarest medication first.
#
# ```{exercise}
# :label: ex-cognet-rare
#
# Any fixed order pools the mass of a set.
# What might speak for rare medications first?
# ```
#
# ````{solution} ex-cognet-rare
# :class: dropdown
#
# Rare medications are judged while the list is short, before errors pile up and before a beam of lists, which are not divided by their length, prefers to end.
# What speaks against it follows; whether it helps is a row of the audit.
# ````

# %% [markdown]
# ### Why lists with rare medications first are too long
#
# In a fixed order a greedy step compares one word with the end, and the end wins only when no more than one or two medications are still expected: {eq}`eq-next-word` in {doc}`07_sequence_models`.
# With rare medications in front it is the first sure one that plays the part of the end.
# A beam shortens such a list and does not cure it: it looks for the most probable *list*, and asks of none of its words whether it belongs there.
# The *chain* of {eq}`eq-chain-chance` asks: from the probabilities of the next word it recovers each medication's own, and it writes those of at least 0.4.

# %%
rare_first = np.array([0.2] * 30 + [0.9] * 10)


def words_from(p, k):
    """Next words of a perfect writer that is at medication k, then the end."""
    absent = np.cumprod([1, *(1 - p[k:])])
    return np.concatenate([np.zeros(k), p[k:] * absent[:-1], absent[-1:]])


def best_list(p, width):
    """What the real model's search finds in lists of independent medications."""
    n, total = len(p), torch.tensor([[0.0] + [-torch.inf] * (width - 1)])
    beams, ended = [[]] * width, torch.zeros(1, width).bool()
    used = torch.zeros(1, width, n).bool()  # what lies in front cannot come again
    for _ in range(n + 1):
        words = [words_from(p, b[-1] + 1 if b else 0) for b in beams]
        words = torch.from_numpy(np.stack(words))[None].log()
        total, origin, word = beam_step(total, words, used, ended)
        ended = ended[:, origin[0]] | (word == n)
        come = zip(origin[0], word[0], ended[0], strict=True)
        beams = [beams[o] + [int(w)] * (not stop) for o, w, stop in come]
    return beams[0]


def worth(chosen):
    """Expected Jaccard of a set of independent medications."""
    hits = misses = np.ones(1)  # how many of the chosen, and of the others, are there
    for i, chance in enumerate(rare_first):
        if i in chosen:
            hits = np.convolve(hits, [1 - chance, chance])
        else:
            misses = np.convolve(misses, [1 - chance, chance])
    union = np.maximum(len(chosen) + np.arange(len(misses)), 1)
    return float(hits @ np.arange(len(hits)) * (misses @ (1 / union)))


# %% [markdown]
# **Check.** Of thirty medications of .2 and ten of .9 fifteen are expected.
# A rare word is written as long as $.2 > .9 \cdot .8^m$ with $m$ rare ones left, which holds down to $m = 7$: greedy search writes 24 of the thirty, and then the ten.
# Four lists at once drop one word, 64 drop two; the chain of questions needs no search.
# Its ten are the best of all sets, whatever number of rare and of sure ones another set holds.

# %%
assert 0.9 * 0.8**7 < 0.2 < 0.9 * 0.8**6
found = {width: best_list(rare_first, width) for width in (1, 4, 64)}
assert [len(words) for words in found.values()] == [34, 33, 32]
first = torch.from_numpy(words_from(rare_first, 0))
asked = chances(first[:-1], first[-1])
np.testing.assert_allclose(asked, rare_first)
by_questions = np.flatnonzero(asked >= 0.4).tolist()
assert by_questions == list(range(30, 40))
values = {
    (rare, sure): worth({*range(rare), *range(30, 30 + sure)})
    for rare in range(31)
    for sure in range(11)
}
assert max(values, key=values.get) == (0, 10)
page.glue(toy_greedy=len(found[1]), toy_beam=len(found[4]), toy_chain=len(by_questions))
page.glue(worth_greedy=worth(found[1]), worth_chain=worth(by_questions))
show({"greedy": len(found[1]), "four": len(found[4]), "64": len(found[64])})

# %% [markdown]
# Greedy search writes {glue:text}`toy_greedy` words, four lists at once {glue:text}`toy_beam`, the chain {glue:text}`toy_chain`.
# The greedy list is worth {glue:text}`worth_greedy:.2f` Jaccard, the ten of the chain {glue:text}`worth_chain:.2f`, and no other set more.
#
# **Break it.** A sure medication behind every third rare one, as can be when medications are sorted by their class code: now one of them always wins over those in front of it, and greedy search, beam and chain write the same.

# %%
spread = np.array(([0.2] * 3 + [0.9]) * 10)
turned = torch.from_numpy(words_from(spread, 0))
again = np.flatnonzero(chances(turned[:-1], turned[-1]) >= 0.4).tolist()
assert best_list(spread, 1) == best_list(spread, 4) == again
show({"greedy": len(best_list(spread, 1)), "chain": len(again)})

# %% [markdown]
# ```{exercise}
# :label: ex-cognet-end
#
# The beam's total is a product of probabilities and is not divided by the length of a list.
# Does that make lists longer or shorter than greedy ones?
# ```
#
# ````{solution} ex-cognet-end
# :class: dropdown
#
# Shorter: each further word multiplies the total by less than one, so that among whole lists a short one needs fewer factors.
# In the toy the effect is one word in thirty-four: dividing nothing by the length does not make up for asking the wrong question.
# ````

# %% [markdown]
# ## Putting it together
#
# {py:class}`~medrec.models.gamenet.GAMENet` makes the queries with two recurrent networks and ends in a perceptron of $[q \,\|\, f_1 \,\|\, f_2]$.
# {py:class}`~medrec.models.cognet.COGNet` encodes the codes of each visit as sets, adds a row of the drug memory to each medication on the list so far, and mixes its two modes by {eq}`eq-cognet-mixture`; interactions reach it through that memory alone; its loss has no term for them.
# Both see diagnoses and procedures up to the visit itself and medications of earlier visits; both recommend at every visit, the first included.
#
# COGNet's lists are ordered and read here as released: rare medications first, and a {term}`beam search` of four lists in the place of a threshold.
# The probability of a medication, for PRAUC, is the one with which its word was written; of a medication that is not on the list, its highest along the list.
#
# Two more GAMENets get other graphs; nothing else differs.
# One has no edges, the other those of *lift*: two medications are joined only if they were given together at least 1.5 times as often as if they were independent.

# %%
short = profile == "quick"
how = {"seed": seed, "device": device}
few = {"epochs": 10, "batch_size": 8, "learning_rate": 4e-3} if short else {}
narrow = RELEASED | ({"epochs": 6, "feedforward": 128} if short else {})
runs = {
    "GAMENet": train("gamenet", records, settings=few, **how),
    "COGNet": train("cognet", records, settings=narrow, **how),
}
other_graphs = {
    graph: train("gamenet", records, settings={**few, "graph": graph}, **how)
    for graph in ("lift", "empty")
}
references = {
    "last visit": train("last-visit", records),
    "popularity": train("popularity", records),
    "LR": train("lr", records),
    "LR, as published": train("lr", records, variant="official"),
}
n_tested = len(split.test)
test = records.select(split.test)

# %% tags=["hide-input"]
#| name: fig-memory-curves
#| alt: Two panels against epoch for GAMENet and COGNet. Left, Jaccard of validation patients: both rise steeply;
#|   COGNet peaks after few epochs and then falls. Right, medications a visit: GAMENet starts with long lists, COGNet
#|   with short ones that grow past the line of what was prescribed.
#| caption: Jaccard (left, ↑ better) and mean length of the recommended sets (right) of the validation patients
#|   against epoch; dotted: mean length prescribed. One training seed each, GAMENet at one half, COGNet by beam search,
#|   {glue:text}`cohort_line`. No interval: the curves show the training, not a comparison. Notice whether Jaccard rises
#|   where lengths do.
fig, (left, right) = plt.subplots(
    1, 2, figsize=(plotting.FULL, 2.6), layout="constrained"
)
for name, run in runs.items():
    look = plotting.look(name)
    style = {"color": look.color, "ls": look.linestyle, "marker": look.marker, "ms": 3}
    left.plot(run.history["epoch"], run.history["jaccard"], label=name, **style)
    right.plot(run.history["epoch"], run.history["n_medications"], **style)
judges = records.select(split.validation)
right.axhline(
    judges.codes["medication"].lengths.mean(), ls=":", color=plotting.INK, lw=1
)
left.set(ylabel="Jaccard of validation patients ↑")
right.set(ylabel="medications a visit")
for ax in (left, right):
    ax.set_xlabel("epoch")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
left.legend()
show(fig, patients=len(split.validation))


# %% tags=["remove-cell"]
def course(name):
    """Where lengths and Jaccard of validation patients start, turn and end."""
    length, jaccard = (
        runs[name].history[column].to_list() for column in ("n_medications", "jaccard")
    )
    best = int(np.argmax(jaccard))
    return (
        f"lists of {name} go from {length[0]:.1f} to {length[-1]:.1f} medications, "
        f"and its Jaccard is highest after epoch {best + 1} of {len(jaccard)}"
    )


page.glue(
    course_gamenet=page.about(records, course("GAMENet"), patients=n_tested),
    course_cognet=page.about(records, course("COGNet"), patients=n_tested),
    epochs_gamenet=runs["GAMENet"].history.height,
    epochs_cognet=runs["COGNet"].history.height,
)

# %% [markdown]
# The trainings have {glue:text}`epochs_gamenet` (GAMENet) and {glue:text}`epochs_cognet` epochs (COGNet).
# On validation patients the {glue:text}`course_gamenet`; the {glue:text}`course_cognet`.
#
# ### Scores on this page's test patients

# %% tags=["hide-input"]
PARTS = {"all": GROUPS, "first": ("first",), "later": ("second", "later")}


def strip(name, run, threshold):
    evaluation = run.evaluation(threshold)
    for label, groups in PARTS.items():
        present = evaluation.per_patient["group"].is_in(list(groups))
        if present.any() and (label != "all" or name != "last visit"):
            found = bootstrap(evaluation, groups=groups, seed=seed)
            tuned = ", tuned" if threshold == "tuned" else ""
            row = {"system": name + tuned, "visits": label}
            yield row | in_columns(found)


shown = [("GAMENet", "own"), ("GAMENet", "tuned"), ("COGNet", "own")]
shown += [("last visit", "own"), ("popularity", "own"), ("LR", "tuned")]
shown += [("LR, as published", "own")]
in_truth = test.codes["medication"].lengths
is_first = np.zeros(test.n_visits, dtype=bool)
is_first[test.visit_offsets[:-1]] = True
n_true = {"all": in_truth, "first": in_truth[is_first], "later": in_truth[~is_first]}
prescribed_line = ", ".join(f"{k} {v.mean():.1f}" for k, v in n_true.items() if len(v))
show(
    page.table(
        pl.DataFrame(
            [
                row
                for name, threshold in shown
                for row in strip(name, (runs | references)[name], threshold)
            ]
        ),
        caption=f"Test patients ({n_tested}) of {page.cohort_line(records)}; one training seed, short trainings. "
        f"GAMENet, COGNet: diagnoses and procedures up to the visit, medications of earlier visits; all visits. Prescribed medications a visit: {prescribed_line}. "
        "Jaccard, F1 and PRAUC: means over patients of each patient's mean, so that “all” need not lie between “first” and “later”: who came once has a first visit only. Brackets: 95 % bootstrap intervals over patients. No system is ranked before chapter 13.",
        name="tab-memory-scores",
    ),
    patients=n_tested,
)

# %% tags=["remove-cell"]
at_half = runs["GAMENet"].metrics["own"]
at_tuned = runs["GAMENet"].metrics["tuned"]
n_true_mean = float(in_truth.mean())
length_half, length_tuned = (
    metrics["n_medications"] - n_true_mean for metrics in (at_half, at_tuned)
)
pulled = (
    "Tuning hardly changes the length of this short training's sets."
    if abs(length_tuned - length_half) < 1
    else "The tuned threshold makes the sets longer still."
    if length_tuned > length_half > 0
    else "The tuned threshold pulls the sets back to the length that was prescribed."
    if length_half > 0 and abs(length_tuned) < 1
    else "The tuned threshold pulls the sets back, but not to the length that was prescribed."
    if length_half > length_tuned > 0
    else "The tuned threshold changes the length of the sets."
)
against = {
    label: paired_difference(
        references["popularity"].evaluation("own"),
        runs[name].evaluation(threshold),
        seed=seed,
    )["jaccard"]
    for label, name, threshold in (
        ("GAMENet", "GAMENet", "tuned"),
        ("COGNet", "COGNet", "own"),
    )
}
ahead = [label for label, found in against.items() if found.low > 0]
standing = (
    "both beat a list that is the same for everybody"
    if len(ahead) == 2
    else f"{ahead[0]} alone beats a list that is the same for everybody"
    if ahead
    else "neither is shown to beat a list that is the same for everybody"
)
heights = {
    name + ", tuned" * (threshold == "tuned"): (runs | references)[name].metrics[
        threshold
    ]["jaccard"]
    for name, threshold in shown
    if name != "last visit"
}
page.glue(
    size_half=at_half["n_medications"],
    size_tuned=at_tuned["n_medications"],
    tuned_cut=at_tuned["threshold"],
    pulled=page.about(records, pulled, patients=n_tested),
    n_true_mean=page.about(records, f"{n_true_mean:.1f}", patients=n_tested),
    over_gamenet=page.about(records, against["GAMENet"].format(3), patients=n_tested),
    over_cognet=page.about(records, against["COGNet"].format(3), patients=n_tested),
    standing=page.about(records, standing, patients=n_tested),
    leader=page.about(records, max(heights, key=heights.get), patients=n_tested),
    tuned_gain=page.about(
        records,
        paired_difference(
            runs["GAMENet"].evaluation("own"),
            runs["GAMENet"].evaluation("tuned"),
            seed=seed,
        )["jaccard"].format(4),
        patients=n_tested,
    ),
)

# %% [markdown]
# At one half GAMENet recommends {glue:text}`size_half:.1f` medications a visit, at the threshold tuned on validation patients, {glue:text}`tuned_cut:.2f`, it recommends {glue:text}`size_tuned:.1f`, and Jaccard changes by {glue:text}`tuned_gain`; {glue:text}`n_true_mean` are prescribed.
# {glue:text}`pulled`
#
# Against popularity Jaccard of the tuned GAMENet changes by {glue:text}`over_gamenet`, of COGNet by {glue:text}`over_cognet`: {glue:text}`standing`.
# The highest mean is that of {glue:text}`leader`.
# What follows describes these short trainings, not the published systems.
#
# ## Which medications, or how many
#
# Now the question of this chapter can be put to trained networks.
# Change the records of the test patients in one of three ways and leave everything else as it is:
#
# - *others*: every earlier medication becomes another one, half the vocabulary away, so that each visit holds as many as before, and the wrong ones;
# - *half*: every second medication is struck out, so that all that remain are right, and half as many;
# - *diagnoses*: all of them, today's and earlier ones, are replaced by others. This is the yardstick: a network that hears nothing else must hear these.

# %%
batch = VisitBatch.build(test, np.arange(test.n_patients))
real = batch.visit_mask
ids, size = batch.codes["medication"], batch.sizes["medication"]
every_second = torch.arange(ids.shape[-1]) % 2 == 0


def neighbours(ids, size):
    return torch.where(ids < size, (ids + size // 2) % size, ids)


def with_codes(kind, ids):
    changed = replace(batch, codes={**batch.codes, kind: ids})
    return replace(changed, target=changed.multi_hot("medication"))


asked = {
    "others": with_codes("medication", neighbours(ids, size)),
    "half": with_codes("medication", torch.where(every_second, ids, size)),
    "diagnoses": with_codes(
        "diagnosis", neighbours(batch.codes["diagnosis"], batch.sizes["diagnosis"])
    ),
}


asked_twice = {
    "GAMENet": runs["GAMENet"],
    "GAMENet, lift graph": other_graphs["lift"],
    "GAMENet, empty graph": other_graphs["empty"],
    "COGNet": runs["COGNet"],
}
moved, exchanged, trained_spread = {}, {}, {}
for name, run in asked_twice.items():
    model, knowledge = load_system(run)
    with torch.inference_mode():
        as_it_is, recommended = model.decide(batch, knowledge)
        for what, changed in asked.items():
            prob, sets = model.decide(changed, knowledge)
            moved[name, what] = (prob - as_it_is).abs().mean(-1)
            exchanged[name, what] = (sets != recommended).sum(-1).float()
        if name != "COGNet":
            rows = model.memory(knowledge)
            distance = (rows - rows.mean(0)).norm(dim=1).mean()
            trained_spread[name] = float(distance / rows.mean(0).norm())

# %% [markdown]
# **Check.** A first visit has no past, so other medications change nothing there; at later visits every network must notice that something did.

# %%
later_visits = real.clone()
later_visits[:, 0] = False
for (_, what), change in moved.items():
    assert what == "diagnoses" or change[:, 0].max() < 1e-5
    assert not later_visits.any() or change[later_visits].max() > 1e-6
show({k: round(v, 3) for k, v in trained_spread.items()}, patients=n_tested)

# %% tags=["hide-input"]
#| name: fig-memory-past
#| alt: Dots on a log axis: mean change of the probabilities at later visits for four networks. Other diagnoses and
#|   half of the past medications move all of them. Other past medications move GAMENet with its observed graph by far
#|   less than that, with a lift graph by little more, with an empty graph by much more, and COGNet most.
#| caption: Mean change of all probabilities at a later visit when the earlier medications are others (filled), when
#|   half of them are gone (open), and when all diagnoses are others (crosses). Logarithmic axis. Networks trained
#|   above, test patients of {glue:text}`cohort_line`; one training seed. Bars: ± 1.96 standard errors over visits.
#|   Notice on which side of its cross a filled mark lies: on the left of it less is heard of which medications were
#|   given than of diagnoses.
fig, ax = plt.subplots(figsize=(plotting.FULL, 2.4))
for y, name in enumerate(asked_twice):
    look = plotting.look(name.partition(",")[0])
    for what in asked:
        change = moved[name, what][later_visits].numpy()
        ax.errorbar(
            change.mean(),
            y,
            xerr=1.96 * change.std() / max(len(change), 1) ** 0.5,
            fmt="x" if what == "diagnoses" else look.marker,
            color=plotting.INK if what == "diagnoses" else look.color,
            mfc="none" if what == "half" else look.color,
            ms=7,
            label=what if y == 0 else None,
        )
ax.set(xscale="log", xlabel="mean change of a probability")
ax.set_yticks(range(len(asked_twice)), list(asked_twice))
ax.invert_yaxis()
ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
show(fig, patients=n_tested)

# %% tags=["hide-input"]
show(
    page.table(
        pl.DataFrame(
            [
                {
                    "network": name,
                    "replaced or struck out": what,
                    "change of a probability": change[later_visits].mean().item(),
                    "medications exchanged": exchanged[name, what][later_visits]
                    .mean()
                    .item(),
                }
                for (name, what), change in moved.items()
            ]
        ),
        caption=f"Means over the later visits of {n_tested} test patients of {page.cohort_line(records)}; one training seed. "
        "Exchanged: medications of the recommended set that come or go, at one half for GAMENet, by beam search for COGNet.",
        digits={"change of a probability": 5, "medications exchanged": 2},
        name="tab-memory-past",
    ),
    patients=n_tested,
)

# %% tags=["remove-cell"]
shift = {k: float(v[later_visits].mean()) for k, v in moved.items()}
swapped = {k: float(v[later_visits].mean()) for k, v in exchanged.items()}
by_identity = shift["GAMENet", "others"]
freed = shift["GAMENet, empty graph", "others"] / by_identity
deaf = shift["GAMENet", "diagnoses"] < 1e-3
heard = (
    "The GAMENet trained on this page has learnt too little to be asked: it hardly hears diagnoses."
    if deaf
    else "The GAMENet trained on this page knows how many medications were given before, and hardly which."
    if 10 * by_identity < shift["GAMENet", "half"]
    else "The GAMENet trained on this page reacts to which medications were given before as well as to how many."
)
in_sets = (
    "in the recommended sets hardly"
    if swapped["GAMENet, empty graph", "others"] < 0.5
    else "in the recommended sets, too"
)
edges = (
    "From such networks nothing follows."
    if deaf
    else f"Without edges the exchange is heard in the probabilities, {in_sets}; that the edges are the cause is what the algebra suggests, not what one training can show."
    if freed > 2
    else "Taking the edges away does not change that."
)
page.glue(
    others_empty=swapped["GAMENet, empty graph", "others"],
    others_cognet=swapped["COGNet", "others"],
    half_cognet=swapped["COGNet", "half"],
    shift_empty=shift["GAMENet, empty graph", "others"],
    shift_diagnoses=shift["GAMENet", "diagnoses"],
    shift_others=by_identity,
    shift_half=shift["GAMENet", "half"],
    freed=freed,
    spread_trained=trained_spread["GAMENet"],
    spread_trained_empty=trained_spread["GAMENet, empty graph"],
    which_or_how_many=page.about(records, heard, patients=n_tested),
    what_edges_do=page.about(records, edges, patients=n_tested),
)

# %% [markdown]
# With other medications in the same number, GAMENet's probabilities move by {glue:text}`shift_others:.5f` on average, with half of the right ones by {glue:text}`shift_half:.5f`, with other diagnoses by {glue:text}`shift_diagnoses:.5f`.
# {glue:text}`which_or_how_many`
#
# {numref}`fig-gamenet-density` showed before training why that can happen.
# After training the rows of the memory, interactions included, lie {glue:text}`spread_trained:.3f` of a length from their mean: the smaller this number, the closer the sum over earlier medications is to their number times one vector.
# Without any edge they lie {glue:text}`spread_trained_empty:.3f` from it, and the same exchange of medications moves probabilities by {glue:text}`shift_empty:.5f`, {glue:text}`freed:.0f` times as far, and {glue:text}`others_empty:.2f` medications.
# {glue:text}`what_edges_do`
#
# COGNet copies medications, not rows of a memory: it exchanges {glue:text}`others_cognet:.1f` when they are others and {glue:text}`half_cognet:.1f` when half of them are gone.
#
# Does the graph change a score?
# {glue:text}`graph_answer`
# The rows are in {numref}`tab-gamenet-switches`.
#
# ## What the gate does
#
# How long are COGNet's lists where it can copy, and does the gate explain them?
# The trained network is asked twice: along the lists that it writes, and along the true ones, where the last word should be the end.

# %%
model, knowledge = load_system(runs["COGNet"])
with torch.inference_mode():
    known = model.remember(batch, knowledge)
    lists, truth = model.write(known), model.lists(batch)
    own, told = model.read(lists, known), model.read(truth, known)
there = lists >= 0
gate = (own.gate.sigmoid() * there).sum(1) / there.sum(1)
size_written = model.sets(lists).sum(1)
size_true = batch.target[real].sum(1)
ends = truth == model.end
p_end = told.log_prob[..., model.end].exp()[ends]
g_end = told.gate.sigmoid()[ends]
word = (truth >= 0) & ~ends
g_word = (told.gate.sigmoid() * word).sum(1) / word.sum(1)
number = real.nonzero()[:, 1]

# %% [markdown]
# **Check.** At no later visit does the end get more than the gate, however sure the network is.

# %%
later = number > 0
assert (p_end[later] <= g_end[later] + 1e-6).all()
assert (gate[later] < 1).all()
assert len(p_end) == int(real.sum())

# %% tags=["hide-input"]
#| name: fig-cognet-gate
#| alt: Two panels by visit number, first to fourth and later. Left: mean probability of the end sign after the true
#|   list, and mean gate at that place; at first visits the gate is not used. Right: mean number of medications
#|   written minus prescribed, with intervals.
#| caption: COGNet after the training above, test patients of {glue:text}`cohort_line`, by visit number. Left: mean
#|   probability of the end after the true list (bars), and the mean gate there (dots), which is its ceiling; no dot at
#|   first visits, where no gate is used. Right: medications written minus prescribed. Bars of error: ± 1.96 standard
#|   errors over visits. Notice whether the ceiling is what binds.
fig, (left, right) = plt.subplots(
    1, 2, figsize=(plotting.FULL, 2.5), layout="constrained"
)
place = number.clamp(max=3)
names = ["first", "second", "third", "later"]
groups = [k for k in range(4) if (place == k).sum() > 1]
surplus = (size_written - size_true).float()
for k in groups:
    at = place == k
    left.bar(k, p_end[at].mean(), color=plotting.color("COGNet"), alpha=0.6)
    if k:
        left.plot(k, g_end[at].mean(), "o", color=plotting.INK)
    error = 1.96 * surplus[at].std() / at.sum() ** 0.5
    right.errorbar(
        k,
        surplus[at].mean(),
        yerr=error,
        fmt="s",
        color=plotting.color("COGNet"),
        capsize=3,
    )
right.axhline(0, color=plotting.INK, lw=0.8, ls=":")
left.set(ylabel="P(end) after the true list", ylim=(0, 1))
right.set(ylabel="written − prescribed")
for ax in (left, right):
    ax.set_xticks(groups, [names[k] for k in groups])
    ax.set_xlabel("visit")
show(fig, patients=n_tested)


# %% tags=["remove-cell"]
def rank_correlation(x, y):
    ranks = [pl.Series(v).rank().to_numpy() for v in (x, y)]
    return float(np.corrcoef(*ranks)[0, 1])


def over_patients(x, y, patient, rounds=500):
    """Rank correlation, and its 95 % bootstrap interval over patients."""
    visits = [np.flatnonzero(patient == p) for p in np.unique(patient)]
    if len(visits) < 8:
        return Interval(*[float("nan")] * 4)
    rng, found = np.random.default_rng(seed), []
    for _ in range(rounds):
        chosen = rng.integers(len(visits), size=len(visits))
        at = np.concatenate([visits[i] for i in chosen])
        found.append(rank_correlation(x[at], y[at]))
    ends = np.quantile(found, [0.025, 0.975]).tolist()
    return Interval(rank_correlation(x, y), *ends, float(np.std(found)))


patient = real.nonzero()[:, 0]
tie = over_patients(*(v[later].numpy() for v in (gate, surplus, patient)))
rise = (g_end - g_word)[later & word.any(1)]
error = 1.96 * rise.std() / max(len(rise), 1) ** 0.5
opens = (
    "the network turns to generating when it is time to stop"
    if rise.mean() > error
    else "the network turns to copying when it is time to stop"
    if rise.mean() < -error
    else "the gate says nothing of the end"
)
means = {
    "gate_words": g_word[later & word.any(1)],
    "end_first": p_end[~later],
    "end_later": p_end[later],
    "gate_later": g_end[later],
    "surplus_first": surplus[~later],
    "surplus_later": surplus[later],
}
explained = (
    "Long lists go with small gates, as the formula leads one to expect."
    if tie.high < 0
    else "Long lists go with large gates: copying does not make them long here."
    if tie.low > 0
    else "Long lists do not visibly go with small gates."
)
where = (
    "no longer than"
    if surplus[later].mean() <= surplus[~later].mean()
    else "longer than"
)
page.glue(
    tie=page.about(records, tie.format(2), patients=n_tested),
    explained=page.about(records, explained, patients=n_tested),
    where=page.about(records, where, patients=n_tested),
    opens=page.about(records, opens, patients=n_tested),
    **{name: float(values.mean()) for name, values in means.items()},
)

# %% [markdown]
# After the true list the end gets {glue:text}`end_first:.2f` at first visits and {glue:text}`end_later:.2f` at later ones, where its ceiling, the gate, is {glue:text}`gate_later:.2f` on average.
# At the words before, the gate is {glue:text}`gate_words:.2f`: {glue:text}`opens`.
# Written lists exceed the prescribed ones by {glue:text}`surplus_first:.1f` medications at first visits, where nothing is copied, and by {glue:text}`surplus_later:.1f` at later ones; measured so, lists that can copy are {glue:text}`where` those that cannot.
# Rank correlation of the surplus and the mean gate along a list, over later visits, with a 95 % bootstrap interval over patients: {glue:text}`tie`.
# {glue:text}`explained`
# A bound that holds need not be the one that binds.
#
# ## The audit
#
# ### Paper and code, switch by switch
#
# Rows of longer trainings than those of this page, kept with the book: GAMENet in batches of four patients, COGNet with narrow encoders, its lists as released ({py:data}`medrec.models.gamenet.OFTEN`, {py:data}`medrec.models.cognet.SHORT`).
# How many training seeds stand behind them, the captions say.{glue:text}`elsewhere`
#
# The setting `writing` of COGNet has four values: `beam` (released), `greedy`, `chain`, and `samples` (sixteen drawn lists).
# The search on validation patients at the papers' size, {doc}`13_bimorec_results`, decides what the package declares there: {glue:text}`declared`.
# Rows of this chapter, small cohorts and the variant `official` keep the released way, {glue:text}`released`.
#
# Predictions before the numbers:
#
# - X08.1, `ehr_from`: a graph of all records changes Jaccard by less than .002, because the graph of training visits is nearly the same.
# - X08.2, `graph`: if the graph of training visits ties with the complete one and with one of shuffled medications, the graph carried nothing here.
# - X08.3, weights: sizes at one half follow $\pi^*$ of {eq}`eq-gamenet-threshold`; at tuned thresholds Jaccard is nearly equal.
# - X08.4, COGNet: an unset $\lambda$ hurts, greedy writing costs little, and the order matters more than the beam.

# %%
kept_rows = {
    system: grids.read(system.lower(), records, default="synthetic")
    for system in ("GAMENet", "COGNet")
}
at_own = {"metric": "n_medications", "threshold": "own"}

# %% tags=["remove-cell"]
ORDERS = {
    "rare_first": "rare medications first",
    "frequency": "frequent medications first",
    "class_code": "an order by class code",
    "record": "the order of the record",
}
WRITINGS = {
    "beam": "written by beam search",
    "greedy": "written greedily",
    "chain": "written by the chain",
    "samples": "drawn",
}


def way(order, writing):
    return f"{ORDERS[order]}, {WRITINGS[writing]}"


declared = COGNetConfig()
page.glue(
    declared=page.about(records, way(declared.order, declared.writing)),
    released=page.about(records, way(**RELEASED)),
)

# %% tags=["hide-input"]
RULE = {"GAMENet": "at one half", "COGNet": "on the written lists"}


def of_other_patients(grid):
    """Whether rows are of the page's cohort, but of another version of it."""
    return grid.cohort == records.name and grid.n_patients != n_tested


for system, grid in kept_rows.items():
    jaccard, prauc = grid.by_label(), grid.by_label(metric="prauc")
    size = grid.by_label(**at_own)
    epoch = dict(grid.costs.select("label", "best_epoch").iter_rows())
    table = {
        "variant": list(jaccard),
        "Jaccard": [grids.words(row) for row in jaccard.values()],
        "change": [grids.words(row, "delta", 4) for row in jaccard.values()],
        "change of PRAUC": [grids.words(row, "delta", 4) for row in prauc.values()],
        "medications": [grids.words(row, digits=1) for row in size.values()],
        "best epoch": [epoch[label] for label in jaccard],
    }
    show(
        page.table(
            pl.DataFrame(table),
            caption=f"{system}, switch by switch: {grid.line}; all visits, tuned thresholds where there is one. Changes: against the first row, our paper variant. "
            f"Medications: {RULE[system]}. Brackets: 95 % of 1000 resamples of seeds and patients together, paired by patient."
            + " The patients are not those of this page: the rows are of an earlier version of these records."
            * of_other_patients(grid),
            digits=0,
            name=f"tab-{system.lower()}-switches",
        ),
        patients=int(grid.scores["patients"].max()),
    )

# %% tags=["hide-input"]
n_kept = int(min(grid.scores["patients"].max() for grid in kept_rows.values()))
common = references["popularity"].metrics["own"]["jaccard"]


def start_of(system):
    """How far from popularity the rows of a system start."""
    if kept_rows[system].cohort != records.name:
        return "are of another cohort than this page's popularity"
    if of_other_patients(kept_rows[system]):
        return "are of other patients than this page's popularity"
    lead = kept_rows[system].by_label()[system]["value"] - common
    few = ", so that a switch has little to turn" if lead < 2 * smallest else ""
    return f"start {lead:+.3f} from popularity{few}"


lines = {f"{name.lower()}_line": grid.line for name, grid in kept_rows.items()}
lines |= {f"learnt_{name.lower()}": start_of(name) for name in kept_rows}
lines["elsewhere"] = page.elsewhere(
    8, records.name, (grid.cohort for grid in kept_rows.values())
)
page.glue(**{k: page.about(records, v, patients=n_kept) for k, v in lines.items()})

# %% tags=["hide-input"]
#| name: fig-memory-switches
#| alt: Panels of dots with horizontal 95 percent intervals for the change of Jaccard of each switch against the paper
#|   variant, GAMENet first and then COGNet, with a line at zero and a band of the smallest difference of interest.
#| caption: Change of Jaccard against the paper variant (→ better), all visits, tuned thresholds where there is one.
#|   GAMENet: {glue:text}`gamenet_line`; COGNet: {glue:text}`cognet_line`. Bars: 95 % of 1000 resamples of seeds and
#|   patients together, paired by patient. Band: smallest difference of interest. Notice which bars leave the band.
fig, axes = plt.subplots(1, 2, figsize=(plotting.FULL, 2.8), layout="constrained")
for ax, (system, grid) in zip(axes, kept_rows.items(), strict=True):
    plotting.plot_changes(ax, grid.changes(), smallest=smallest, systems=system)
    ax.set_xlabel(f"{system}: change of Jaccard →")
show(fig)

# %% [markdown]
# A warning before the verdicts: a switch can only matter in a network that has learnt something.
# In Jaccard, GAMENet's rows {glue:text}`learnt_gamenet`; COGNet's {glue:text}`learnt_cognet`.

# %%
found = {system: grid.by_label() for system, grid in kept_rows.items()}


def alike(system, label):
    """Whether a row is worth the same as the paper variant."""
    return kept_rows[system].judge(found[system][label], equal=True, sdi=smallest)


of_graphs = found["GAMENet"]
answers = {
    "X08.2: the graph gains over an empty one": kept_rows["GAMENet"].judge(
        of_graphs["empty graph"],
        -1,
        sdi=smallest,
        control=of_graphs["shuffled graph"]["delta"]
        - of_graphs["empty graph"]["delta"],
        control_name="a graph of shuffled medications",
    ),
    "X08.2: a lift gains over any meeting": kept_rows["GAMENet"].judge(
        of_graphs["lift graph"], sdi=smallest
    ),
}
numbers = {"graph of all records": 1, "complete graph": 2, "shuffled graph": 2}
numbers |= {"margin weight 0.01": 3, "no margin loss": 3}
answers |= {
    f"X08.{number}: GAMENet, {label}, is worth the same": alike("GAMENet", label)
    for label, number in numbers.items()
}
answers |= {
    f"X08.4: COGNet, {label}, is worth the same": alike("COGNet", label)
    for label in list(found["COGNet"])[1:]
}

# %% tags=["hide-input"]
show(
    page.table(
        pl.DataFrame(
            {
                "claim": sorted(answers),
                "verdict": [answers[claim].word for claim in sorted(answers)],
                "why": [answers[claim].sentence for claim in sorted(answers)],
            }
        ),
        caption="Verdicts by rule from the kept rows; the words change with the numbers. "
        "Differences: row minus our paper variant, as in the tables above; only the gain over an empty graph is turned, with edges minus without. "
        f"{page.notes(*kept_rows.values())}",
    ),
    patients=n_kept,
)

# %% tags=["remove-cell"]
carried = [
    answers[f"X08.2: GAMENet, {name} graph, is worth the same"].word
    for name in ("complete", "shuffled")
]
graph_sentence = (
    "It ties with the complete and with the shuffled one: the graph carried nothing here."
    if carried == ["holds", "holds"]
    else "It parts from the complete or from the shuffled one: see the rows for the direction."
    if "does not hold" in carried
    else "Not all of these trainings had converged: no verdict."
    if "no verdict" in carried
    else "These runs cannot tell it from the complete and the shuffled one."
)
GAINS = {
    "holds": "Longer trainings, with the graph and without an edge: the graph gains Jaccard, ",
    "other cause": "Longer trainings, with the graph and without an edge: it gains Jaccard, but so does one of shuffled medications, ",
    "does not hold": "Longer trainings, with the graph and without an edge: the graph gains no Jaccard that matters, ",
    "not decided": "Whether the graph gains Jaccard, in longer trainings and against one without edges, is not decided: ",
    "no verdict": "Whether the graph gains Jaccard against one without edges, these trainings cannot say: ",
}
gain = answers["X08.2: the graph gains over an empty one"]
orders = {
    label: kept_rows["COGNet"].judge(found["COGNet"][label], sdi=smallest)
    for label in ("frequent first", "order of the record")
}
NAMED = {
    "frequent first": "frequent medications first",
    "order of the record": "an order by class code",
}
better = [NAMED[label] for label, judged in orders.items() if judged.word == "holds"]
order_answer = (
    f"Over rare medications first, {' and '.join(better)} "
    f"gain{'s' * (len(better) == 1)} Jaccard on {kept_rows['COGNet'].source} records."
    if better
    else f"Whether another fixed order gains Jaccard on {kept_rows['COGNet'].source} records, these trainings cannot say."
    if "no verdict" in {judged.word for judged in orders.values()}
    else f"Whether another fixed order gains Jaccard is not decided on {kept_rows['COGNet'].source} records."
    if "not decided" in {judged.word for judged in orders.values()}
    else f"No other fixed order gains Jaccard that matters on {kept_rows['COGNet'].source} records."
)
shorter_lists = (
    "As in the toy, the beam's are shorter."
    if grids.interval(kept_rows["COGNet"].by_label(**at_own)["greedy"], "delta").low > 0
    else "That the beam's are shorter, as in the toy, these rows do not show."
)
sizes = {system: grid.by_label(**at_own) for system, grid in kept_rows.items()}
margins = ("GAMENet", "margin weight 0.01", "no margin loss")
in_order = [sizes["GAMENet"][label]["value"] for label in margins]
size_sentence = (
    "As predicted, they shrink in this order."
    if in_order == sorted(in_order, reverse=True)
    else "They do not shrink in this order."
)


def change(system, label):
    return grids.words(found[system][label], "delta", 4)


def listed(system, label):
    return grids.words(sizes[system][label], digits=1)


said = {
    "graph_sentence": graph_sentence,
    "graph_answer": GAINS[gain.word] + gain.sentence,
    "order_answer": order_answer,
    "shorter_lists": shorter_lists,
    "size_sentence": size_sentence,
    "leak_delta": change("GAMENet", "graph of all records"),
    "by_empty": change("GAMENet", "empty graph"),
    "by_lift": change("GAMENet", "lift graph"),
    "tuned_99": change("GAMENet", "margin weight 0.01"),
    "tuned_none": change("GAMENet", "no margin loss"),
    "size_90": listed("GAMENet", "GAMENet"),
    "size_99": listed("GAMENet", "margin weight 0.01"),
    "size_none": listed("GAMENet", "no margin loss"),
    "order_frequent": change("COGNet", "frequent first"),
    "order_record": change("COGNet", "order of the record"),
    "greedy": change("COGNet", "greedy"),
    "unset": change("COGNet", "weight of interactions unset"),
    "listed": listed("COGNet", "COGNet"),
    "listed_greedy": listed("COGNet", "greedy"),
}
page.glue(**{k: page.about(records, v, patients=n_kept) for k, v in said.items()})

# %% [markdown]
# :::{admonition} X08.1. "The graph of all records leaks"
# :class: verdict
# It does: on this page's records, test and validation visits add {glue:text}`new_pairs` pairs, {glue:text}`new_share:.1%` of all edges.
# What the leak is worth is another question: Jaccard changes by {glue:text}`leak_delta`.
# :::
#
# :::{admonition} X08.2. "The graph of co-prescriptions helps"
# :class: verdict
# {glue:text}`graph_sentence`
# Without any edge Jaccard changes by {glue:text}`by_empty`, with pairs above chance alone by {glue:text}`by_lift`.
# :::
#
# :::{admonition} X08.3. "The margin makes better sets"
# :class: verdict
# It makes other thresholds.
# Sets at one half hold {glue:text}`size_90` medications with a margin weight of 0.1, {glue:text}`size_99` with 0.01, and {glue:text}`size_none` with none. {glue:text}`size_sentence`
# At tuned thresholds Jaccard changes by {glue:text}`tuned_99` with a weight of 0.01, and by {glue:text}`tuned_none` without.
# :::
#
# :::{admonition} X08.4. "The order and the beam decide what a list is worth"
# :class: verdict
# Against rare medications first and four lists at once, Jaccard changes by {glue:text}`order_frequent` with frequent ones first, by {glue:text}`order_record` in the order of the record, by {glue:text}`greedy` with one list, and by {glue:text}`unset` if $\lambda$ starts from what was in memory.
# The order of the record is a fixed one, too: in the cohorts of this book the codes of a visit are sorted, so that it is that of class codes.
# {glue:text}`order_answer`
# Lists hold {glue:text}`listed` medications, greedy ones {glue:text}`listed_greedy`; {glue:text}`n_mean:.1f` are prescribed at a training visit of this page.
# {glue:text}`shorter_lists`
# :::
#
# ### What the papers do not say
#
# - **Which normalisation.** Graph convolutions are usually written with the symmetric form; both codes divide rows, and in a dense graph the two hardly differ.
# - **Whose visits make the graph.** All records in both codes, those of the test patients included; here training visits.
# - **The weights of the loss.** 0.9 and 0.01 in GAMENet's repository, 0.9 and 0.1 in the copy that later tables use; neither pair adds up to one, and the cut moves from {glue:text}`cut_99:.2f` to {glue:text}`cut_90:.2f`.
# - **That safety is a draw.** A visit above the target is trained on interactions alone, by chance, ever more rarely: what is learnt of safety early may be forgotten.
# - **What an epoch is.** The temperature falls with epochs; in the released code an epoch has one step for each visit, here one for each batch of patients, so that few and large batches see little of it.
# - **COGNet's $\lambda$.** It is allocated and never set, so a training starts from whatever was in memory.
# - **What is rare.** Frequencies for COGNet's order come from all records in its code; here from training visits.
# - **What its ± means.** Ten draws of four fifths of the patients *without* replacement: half the true standard error; see {doc}`13_bimorec_results`.
# - **How lists are chosen in training.** COGNet's validation writes greedily and strikes out repeats, its test uses four lists.
#
# ### Misconceptions
#
# "More edges, more knowledge."
# : Each edge mixes two rows; the complete graph parts no medication from another, {eq}`eq-gamenet-complete`.
#
# "The margin loss ranks, so it cannot move a threshold."
# : On probabilities it is linear and moves nothing but the threshold, {eq}`eq-gamenet-threshold`.
#
# "Beam search finds the best set."
# : It looks for the best list; with a free order that is another thing, {eq}`eq-cognet-order`.
#
# ## Summary
#
# - $D^{-1}(A + I)$ averages over a node and its neighbours; rows add up to one, and hub and leaf hear each other differently.
# - The static read is a mean of memory rows, the dynamic one a sum as long as earlier lists; in a full graph all rows are one, and only the length of that sum is left.
# - Training visits join {glue:text}`density_all:.0%` of all pairs here. {glue:text}`which_or_how_many` {glue:text}`graph_answer`
# - The margin on probabilities has a closed form, and with weights 0.95 and 0.05 one half means {glue:text}`cut_95:.2f`.
# - Copying and generating are mixed by a gate; the end is never copied, so the gate bounds it; at a first visit there is no gate.
# - A fixed order gives each set one list; otherwise the mass of a set is spread and the best list may be a poor set. With rare medications first, greedy and beam search write lists that are too long. {glue:text}`order_answer`
#
# ## Exercises
#
# ```{exercise}
# :label: ex-cognet-count
#
# A system writes twenty medications and the end, and its code counts words.
# What does it print, and in which direction does that bias a comparison?
# ```
#
# ```{solution-start} ex-cognet-count
# :class: dropdown
# ```

# %%
counted = (lists >= 0).sum(1)
finished = (lists == model.end).any(1)
assert torch.equal(counted - finished.long(), size_written)
page.glue(
    printed_count=counted.float().mean().item(),
    true_count=size_written.float().mean().item(),
)

# %% [markdown]
# Twenty-one.
# COGNet's lists on this page: {glue:text}`printed_count:.1f` words, {glue:text}`true_count:.1f` medications.
# It makes lists look longer than they are, and touches no other column.
#
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-gamenet-sum
#
# Replace the sum of the dynamic read by a mean over medications.
# What is $f_2$ of the toy?
# ```
#
# ```{solution-start} ex-gamenet-sum
# :class: dropdown
# ```

# %%
mean_read = f2 / of_medications.sum()
torch.testing.assert_close(mean_read, torch.tensor([0.4442, 0.5777]), **close)
show([round(v, 4) for v in mean_read.tolist()])

# %% [markdown]
# As long as $f_1$ now; but it no longer tells how much was given.
#
# ```{solution-end}
# ```
#
# ```{dropdown} Quiz: what do the rows of the normalised graph add up to?
# One, by {eq}`eq-gamenet-row`.
# ```
#
# ```{dropdown} Quiz: what is the margin loss if every probability equals its target?
# Zero: every pair differs by one.
# ```
#
# ```{dropdown} Quiz: can COGNet copy at a first visit?
# No. There is no past, and the gate is not used.
# ```
#
# ## References
#
# - {cite:t}`shang2019gamenet`: memory, reads and the annealed loss.
# - {cite:t}`wu2022cognet`: copying and generating, and the order of rare medications first.
# - {cite:t}`yang2021safedrug`: the copy of GAMENet, with other weights, that later tables build on.
# - {cite:t}`mu2024bimorec`: the printed rows of both systems.
