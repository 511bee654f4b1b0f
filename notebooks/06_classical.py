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
#     rows: [safedrug]
# ---

# %% [markdown]
# # One regression per drug, and a vote among chains (LR, ECC)
#
# What does a linear look at today's codes already predict, and how much of its distance to deep systems is a threshold?
#
# In print, on MIMIC-III, logistic regression (LR) recommends {glue:text}`printed_lr_number:.1f` medication classes a visit and overlaps the prescribed ones with a Jaccard of {glue:text}`printed_lr:.4f`.
# The deep system BiMoRec, which reads earlier visits too, recommends {glue:text}`printed_best_number:.1f` and reaches {glue:text}`printed_best:.4f`.
# LR has no memory; but before that is blamed, one number can be moved: the .5 at which its probabilities are cut.
#
# *In short* (changes of Jaccard, 95 % intervals in brackets):
#
# - {glue:text}`threshold_answer`
# - {glue:text}`chains_answer`
# - {glue:text}`past_answer`
#
# How much of the printed gap this explains, only MIMIC-III can tell.
#
# ```{admonition} Objectives
# :class: objectives
# After this chapter you can
# - *compute* a one-code logistic regression from a 2×2 table,
# - *derive* its two optimum conditions and *check* them on a fitted model,
# - *trace* a classifier chain through all its orders, and the vote among them,
# - *choose* the set with the highest expected Jaccard, and *name* the threshold that comes near it,
# - *separate* protocol from model in a 2×2 of scores,
# - *tell* what a first visit can show about a system, and what only later visits can.
# ```
#
# **Prerequisites.** Metrics and reference points ({doc}`01_the_task`), multi-hot visits ({doc}`02_from_tables_to_visits`), the {term}`ATC` level-3 classes ({doc}`03_drug_knowledge`).
#
# **Code.** {py:mod}`medrec.models.lr` and {py:mod}`medrec.models.ecc`; the last section shows rows of {py:mod}`medrec.experiments.ladder`.

# %% tags=["hide-input"]
from functools import partial
from itertools import permutations, product

import matplotlib.pyplot as plt
import numpy as np
import polars as pl
import torch
from scipy import sparse
from sklearn.linear_model import LogisticRegression
from torch.nn.functional import (
    binary_cross_entropy_with_logits as bce_with_logits,
)

from medrec import metrics, plotting
from medrec.book import page
from medrec.book.pictures import plot_system
from medrec.data import load_cohort, privacy
from medrec.data.cohort import titled
from medrec.data.split import split_patients
from medrec.experiments import ladder as learnable
from medrec.knowledge.interactions import default_ddi
from medrec.lab import grids, published
from medrec.models import registry
from medrec.models.ecc import ECC, ask_chains
from medrec.models.last_visit import LastVisit
from medrec.models.lr import LR, current_codes
from medrec.models.popularity import Popularity
from medrec.tasks.evaluation import Interval, bootstrap, paired_difference
from medrec.tasks.verdicts import SMALLEST_DIFFERENCE, verdict, verdict_of_equality
from medrec.tasks.visits import Protocol, evaluate, in_columns, tune_threshold
from medrec.training import load_system, train

# %% tags=["parameters", "hide-input"]
seed: int = 0  # seed of the split and of the bootstrap
cohort: str = "synthetic"  # any cohort that medrec.data.load_cohort knows
device: str = "cpu"  # regressions run on the processor whatever stands here
profile: str = "quick"  # quick: a coarse grid of C; full: the whole grid

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
    },
    paper="none of this book's three; LR and ECC are baseline rows in BiMoRec and NLA-MMR",
    data=page.cohort_line(records),
    learned="a regression for each medication class, and ten chains of such regressions; rows of the last section are kept with the book",
    full_run="LR: seconds; ECC: minutes on two cores at 6 350 patients",
)

# %% tags=["hide-input"]
table2 = published.table("bimorec", 2).filter(pl.col("database") == "MIMIC-III")
printed = {row["system"]: row for row in table2.iter_rows(named=True)}
page.glue(
    cohort_line=page.cohort_line(records),
    printed_lr=printed["LR"]["Jaccard"],
    printed_lr_number=printed["LR"]["medications"],
    printed_best=printed["BiMoRec"]["Jaccard"],
    printed_best_number=printed["BiMoRec"]["medications"],
    printed_cut=printed["BiMoRec"]["Jaccard"] / (1 + printed["BiMoRec"]["Jaccard"]),
    printed_gap=printed["BiMoRec"]["Jaccard"] - printed["LR"]["Jaccard"],
)

# %% [markdown]
# ## The problem on one visit
#
# Two toys carry this chapter.
# The first: a hundred visits, one code $c$, one medication class $m$.
# Of thirty visits with the code, eighteen received the class; of seventy without it, fourteen did.

# %%
has_code = np.repeat([1.0, 0.0], [30, 70])
given = np.concatenate([np.repeat([1, 0], [18, 12]), np.repeat([1, 0], [14, 56])])
show(
    page.table(
        pl.DataFrame(
            {
                "visits": ["with the code", "without"],
                "class given": [18, 14],
                "not given": [12, 56],
            }
        ),
        caption="Toy A: 100 visits, written by hand.",
    )
)

# %% [markdown]
# The second: of three interchangeable classes exactly *one* is given, with probabilities $.40$, $.32$ and $.28$, and no code says which.
# One hundred patients, then, of whom 40 get class 1, 32 class 2 and 28 class 3.

# %%
share = np.array([0.40, 0.32, 0.28])
one_of_three = np.repeat(np.eye(3, dtype=bool), [40, 32, 28], axis=0)
np.testing.assert_allclose(one_of_three.mean(0), share)
show(one_of_three.sum(0).tolist())

# %% [markdown]
# ## One code, one class
#
# Logistic regression gives each class $m$ its own probability; $x_c$ is 1 when the visit carries code $c$:
#
# $$
# p_m = \sigma\Bigl(b_m + \sum_{c} w_{mc}\, x_c\Bigr), \qquad \sigma(z) = \frac{1}{1 + e^{-z}} .
# $$ (eq-lr)
#
# Diagnoses and procedures of the *current* visit are the whole input: no history, no earlier medication.
# A first visit is a visit like any other.
# Each class is fitted on its own, by minimising over visits $v$
#
# $$
# C \sum_v \ell(y_v, p_v) + \tfrac12 \lVert w \rVert^2 ,
# $$
#
# where $\ell$ is the log loss and $C$ the inverse strength of the penalty: a larger $C$ trusts the visits more.
# The intercept $b$ is not penalised.


# %%
def fit_lr(x, y, C):
    """One penalised logistic regression; returns intercept and weight."""
    model = LogisticRegression(C=C, tol=1e-12, max_iter=10_000).fit(x[:, None], y)
    return model.intercept_[0], model.coef_[0, 0]


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


b_free, w_free = fit_lr(has_code, given, C=1e10)
b_one, w_one = fit_lr(has_code, given, C=1.0)

# %% [markdown]
# **Check.** With a negligible penalty the model must return the two observed frequencies, so its weight is the log of the odds ratio: $b = \ln\frac{.2}{.8}$ and $w = \ln\frac{.6}{.4} - b = \ln 6$.
# With $C = 1$, the default of the library, both probabilities are pulled towards the base rate.

# %%
np.testing.assert_allclose([b_free, w_free], [np.log(0.25), np.log(6)], atol=5e-5)
np.testing.assert_allclose(
    [sigmoid(b_free + w_free), sigmoid(b_free)], [0.6, 0.2], atol=5e-5
)
np.testing.assert_allclose([b_one, w_one], [-1.2602, 1.4655], atol=5e-5)
np.testing.assert_allclose(
    [sigmoid(b_one + w_one), sigmoid(b_one)], [0.5511, 0.2209], atol=5e-5
)
for C, weight in [(1 / 1.1, 1.4398), (0.1, 0.5711)]:
    np.testing.assert_allclose(fit_lr(has_code, given, C)[1], weight, atol=5e-5)
b_tenth, w_tenth = fit_lr(has_code, given, 0.1)
np.testing.assert_allclose(
    [sigmoid(b_tenth + w_tenth), sigmoid(b_tenth)], [0.4096, 0.2816], atol=5e-5
)
show("weights and probabilities agree with the 2×2 table")

# %% [markdown]
# **Break it.** If the intercept is penalised too, the average prediction leaves the base rate.

# %%
both = LogisticRegression(C=1.0, fit_intercept=False, tol=1e-12, max_iter=10_000)
both.fit(np.column_stack([np.ones(100), has_code]), given)
mean_both = both.predict_proba(np.column_stack([np.ones(100), has_code]))[:, 1].mean()
mean_one = np.where(has_code == 1, sigmoid(b_one + w_one), sigmoid(b_one)).mean()
assert abs(mean_one - given.mean()) < 1e-6
assert abs(mean_both - given.mean()) > 1e-3
page.glue(
    mean_both=mean_both,
    base_rate=given.mean(),
    p_with=sigmoid(b_one + w_one),
    p_without=sigmoid(b_one),
)

# %% [markdown]
# The class was given in {glue:text}`base_rate:.2f` of the visits; penalising the intercept predicts {glue:text}`mean_both:.3f` on average.
# Without that mistake the average is right, and the penalty only blurs the difference: {glue:text}`p_with:.3f` with the code, {glue:text}`p_without:.3f` without.

# %% tags=["hide-input"]
#| name: fig-lr-c
#| alt: Line chart of predicted probability against the regularisation constant C on a log axis. The line for visits
#|   with the code and the line for visits without it start together at the base rate of 0.32 and part towards 0.6 and
#|   0.2 as C grows.
#| caption: Predicted probability against C. Toy A, 100 visits written by hand,
#|   no interval: the curve is exact.
grid = np.logspace(-4, 4, 60)
fits = np.array([fit_lr(has_code, given, C) for C in grid])
fig, ax = plt.subplots(figsize=(plotting.ONE_COLUMN, 2.8))
ax.semilogx(grid, sigmoid(fits[:, 0] + fits[:, 1]), label="with the code")
ax.semilogx(grid, sigmoid(fits[:, 0]), "--", label="without the code")
ax.axhline(given.mean(), color="0.5", lw=1, ls=":", label="base rate")
ax.set(xlabel="C (log scale)", ylabel="predicted probability")
ax.legend()
show(fig)

# %% [markdown]
# ```{exercise}
# :label: ex-lr-c-zero
#
# Predict before running: where do $w$, $b$ and both probabilities of {numref}`fig-lr-c` go when $C \to 0$?
# ```
#
# ````{solution} ex-lr-c-zero
# :class: dropdown
#
# The weight goes to zero and both probabilities to the base rate; the intercept, which is free, becomes $\ln\frac{.32}{.68}$.
# The next cell checks it.
# ````

# %%
b_tiny, w_tiny = fit_lr(has_code, given, C=1e-7)
np.testing.assert_allclose([b_tiny, w_tiny], [np.log(0.32 / 0.68), 0], atol=1e-4)
show("C → 0: one probability for everybody")

# %% [markdown]
# ## What holds at the optimum
#
# Setting the two derivatives of what the fit minimises to zero gives
#
# $$
# \sum_{v} (y_v - p_v) = 0, \qquad w_c = C \sum_{v} x_{vc}\,(y_v - p_v) .
# $$ (eq-lr-optimum)
#
# The first says that the model recommends a class, in expectation, as often as it was given.
# The second says that a weight *is* $C$ times the sum of the residuals of the visits that carry its code.

# %%
p = sigmoid(b_one + w_one * has_code)
balance = (given - p).sum()
weight_from_residuals = 1.0 * np.einsum("v,v->", has_code, given - p)

# %% [markdown]
# **Check.** Both conditions hold on the toy, where the second reads $w = 18 - 30\,p$.
# A gradient descent on the *mean* loss reaches the same weight only if its penalty is $1/(Cn)$.

# %%
np.testing.assert_allclose(balance, 0, atol=1e-6)
np.testing.assert_allclose(weight_from_residuals, w_one, atol=1e-6)
np.testing.assert_allclose(18 - 30 * sigmoid(b_one + w_one), w_one, atol=1e-6)


def torch_weight(penalty):
    """Weight that minimises mean log-loss + penalty/2 · w²."""
    x, y = torch.tensor(has_code), torch.tensor(given, dtype=torch.float64)
    theta = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([theta], max_iter=200, tolerance_grad=1e-12)

    def loss():
        optimiser.zero_grad()
        nll = bce_with_logits(theta[0] + theta[1] * x, y)
        (total := nll + penalty / 2 * theta[1] ** 2).backward()
        return total

    optimiser.step(loss)
    return theta[1].item()


np.testing.assert_allclose(torch_weight(1 / (1.0 * 100)), w_one, atol=1e-4)
assert abs(torch_weight(1.0) - w_one) > 0.5  # break it: the penalty C itself
show("both optimum conditions hold, and a second optimiser agrees")

# %% [markdown]
# A rare code shows what the penalty is for.
# Suppose a code was seen $k$ times, each time with the class, among 97 other visits of which 29 had it.
#
# ```{exercise}
# :label: ex-lr-sightings
#
# Predict before running: from how many sightings on does LR with $C = 1$ say more than one half?
# ```
#
# ````{solution} ex-lr-sightings
# :class: dropdown
#
# From two on, as {numref}`fig-lr-rare` shows.
# ````


# %%
def p_rare(k, C=1.0):
    x = np.repeat([1.0, 0.0], [k, 97])
    y = np.concatenate([np.ones(k), np.ones(29), np.zeros(68)])
    b, w = fit_lr(x, y, C)
    return sigmoid(b + w)


np.testing.assert_allclose(
    [p_rare(1), p_rare(2), p_rare(3)], [0.4354, 0.5322, 0.6001], atol=5e-5
)
np.testing.assert_allclose(p_rare(3, C=10), 0.8992, atol=5e-5)
page.glue(p_three=p_rare(3), p_three_ten=p_rare(3, C=10))

# %% tags=["hide-input"]
#| name: fig-lr-rare
#| alt: Bar chart of predicted probability for a code seen 1, 2, 3, 10 and 100 times, always with the class. The bars
#|   rise from 0.44 to 0.53, 0.60, 0.79 and 0.96: few sightings are not certainty.
#| caption: Probability that LR with C = 1 gives to a class that was present every time the code was seen. Toy
#|   numbers, exact. Three sightings are not certainty.
sightings = [1, 2, 3, 10, 100]
fig, ax = plt.subplots(figsize=(plotting.ONE_COLUMN, 2.4))
bars = ax.bar([str(k) for k in sightings], [p_rare(k) for k in sightings], width=0.6)
ax.bar_label(bars, fmt="%.2f")
ax.axhline(0.5, color="0.5", lw=1, ls=":")
ax.set(
    xlabel="sightings of the code, all with the class",
    ylabel="predicted probability",
    ylim=(0, 1.08),
)
show(fig)

# %% [markdown]
# Three sightings give {glue:text}`p_three:.2f` at $C = 1$ and {glue:text}`p_three_ten:.2f` at $C = 10$: the larger $C$, the weaker the penalty.
#
# ## A chain asks one after another
#
# LR answers every question alone.
# On toy B it says $.40$, $.32$, $.28$ and, cut at one half, recommends nothing, though everybody got something.
# A {term}`classifier chain` {cite:p}`read2011chains` asks about the classes in an order $o$ and hears its earlier answers:
#
# $$
# P(y \mid x) = \prod_{k} P\bigl(y_{o(k)} \mid x,\, y_{o(1)}, \dots, y_{o(k-1)}\bigr),
# $$ (eq-ecc-chain)
#
# $$
# \hat y_{o(k)} = \bigl[\, P\bigl(y_{o(k)} = 1 \mid x,\, \hat y_{o(1)}, \dots, \hat y_{o(k-1)}\bigr) \ge \tfrac12 \,\bigr] .
# $$ (eq-ecc-greedy)
#
# The first equation is true of any order; the greedy second one does not look for its maximum, and depends on the order.


# %%
def chain(share, order):
    """Greedy answers about 'exactly one of them': probabilities and set."""
    p, chosen, left = np.zeros(len(share)), np.zeros(len(share), dtype=bool), 1.0
    for m in order:
        p[m] = 0 if chosen.any() else share[m] / left
        chosen[m] = p[m] >= 0.5 - 1e-12
        left -= share[m]
    return p, chosen


orders = np.array(list(permutations(range(3))))
walks = [chain(share, order) for order in orders]
p_chain, sets_chain = (np.stack(part) for part in zip(*walks, strict=True))

# %% [markdown]
# **Check.** Asked first, class 1 is refused at .40 and cannot be given any more: the two orders that begin with the best candidate end in $\{2\}$, the four others in $\{1\}$.
# The mutant that uses marginals in the place of conditionals ends in $\varnothing$ whatever the order.
# {py:func}`~medrec.models.ecc.ask_chains`, which asks in the real system, gives the same numbers when a yes adds $-50$ to the log odds of every later class.

# %%
for order, chosen in zip(orders, sets_chain, strict=True):
    assert np.flatnonzero(chosen).tolist() == ([1] if order[0] == 0 else [0])
np.testing.assert_allclose(p_chain[0], [0.40, 0.5333, 0], atol=5e-5)
assert not (share >= 0.5).any()  # the mutant: marginals
in_order = share[orders]
alone = np.empty((6, 3))  # probability after nothing but refusals
np.put_along_axis(alone, orders, in_order / (1 - in_order.cumsum(1) + in_order), axis=1)
evidence = np.log(alone / (1 - alone).clip(1e-12))
place = orders.argsort(1)
links = -50.0 * (place[:, :, None] > place[:, None, :])
asked = ask_chains(evidence[:, None, :], links, orders)[:, 0]
np.testing.assert_allclose(asked, p_chain, atol=1e-8)
learned = ECC(C=1e7).fit_matrix(sparse.csr_matrix((100, 1)), one_of_three, orders)
fitted = learned.chain_proba_matrix(sparse.csr_matrix((1, 1)))[:, 0]
np.testing.assert_allclose(fitted, p_chain, atol=2e-3)
show("six orders: class 2 twice, class 1 four times")

# %% tags=["hide-input"]
#| name: fig-ecc-tree
#| alt: Decision tree for the order class 1, class 2, class 3. Class 1 is asked first and refused at 0.40; class 2 is
#|   then accepted at 0.53; class 3 gets 0. Branches not taken are dashed.
#| caption: The chain with order 1, 2, 3 on toy B. Solid: the path taken, cut at one half at every question. Toy
#|   numbers, exact. Asking about the best candidate first is the way to lose it.
nodes = {
    "1?": (0, 2),
    "2?": (1, 1),
    "3?": (2, 0),
    "{1}": (-0.9, 1),
    "{2}": (0.1, 0),
    "{3}": (1.3, -1),
    "∅": (2.7, -1),
}
edges = [
    ("1?", "{1}", "yes .40", False),
    ("1?", "2?", "no .60", True),
    ("2?", "{2}", "yes .53", True),
    ("2?", "3?", "no .47", False),
    ("3?", "{3}", "yes 1", False),
    ("3?", "∅", "no 0", False),
]
fig, ax = plt.subplots(figsize=(plotting.ONE_COLUMN, 2.8))
for start, end, text, taken in edges:
    (x0, y0), (x1, y1) = nodes[start], nodes[end]
    color = plotting.color("ECC") if taken else plotting.INK
    ax.plot([x0, x1], [y0, y1], "-" if taken else "--", color=color, zorder=0)
    side = "right" if x1 < x0 else "left"
    shift = -0.12 if x1 < x0 else 0.12
    ax.text((x0 + x1) / 2 + shift, (y0 + y1) / 2 + 0.08, text, ha=side)
for name, (x, y) in nodes.items():
    shape = {"boxstyle": "round" if "?" in name else "square", "fc": "white"}
    ax.text(x, y, name, ha="center", va="center", bbox=shape, color="black")
ax.set(xlim=(-1.5, 3.4), ylim=(-1.4, 2.4))
ax.axis("off")
show(fig)

# %% [markdown]
# ```{exercise}
# :label: ex-ecc-orders
#
# Now the probabilities are $.45$, $.35$ and $.20$.
# Predict: in which of the six orders does class 1 win?
# ```
#
# ```{solution-start} ex-ecc-orders
# :class: dropdown
# ```

# %%
winners = [int(chain(np.array([0.45, 0.35, 0.20]), o)[1].argmax()) + 1 for o in orders]
assert winners == [2, 2, 1, 1, 1, 1]
show(dict(zip([tuple(int(i) + 1 for i in o) for o in orders], winners, strict=True)))

# %% [markdown]
# In the four that do not ask about it first; the two others end in $\{2\}$ again.
#
# ```{solution-end}
# ```
#
# ## A vote among chains
#
# ECC, the *ensemble of classifier chains*, draws $L$ orders and lets the chains vote.
# Its score, which PRAUC reads, is another quantity than its label:
#
# $$
# s_m = \frac1L \sum_{l} p^{(l)}_m, \qquad
# \text{include } m \iff \frac1L \sum_{l} \bigl[\, p^{(l)}_m \ge \tfrac12 \,\bigr] \ge \tfrac12 .
# $$ (eq-ecc-vote)

# %%
votes, scores_toy = sets_chain.mean(0), p_chain.mean(0)

# %% [markdown]
# **Check.** The six orders vote $\tfrac23, \tfrac13, 0$: the ensemble recommends $\{1\}$, LR nothing.
# For every one of the eight sets the expected metrics over the hundred patients of toy B follow from {py:func}`medrec.metrics.jaccard` and {py:func}`medrec.metrics.f1`.

# %%
np.testing.assert_allclose(votes, [0.6667, 0.3333, 0], atol=5e-5)
np.testing.assert_allclose(scores_toy, [0.6573, 0.4363, 0.2397], atol=5e-5)
np.testing.assert_array_equal(votes >= 0.5, [True, False, False])
every_set = np.array(list(product([False, True], repeat=3)))


def expected(metric, chosen):
    return metric(one_of_three, np.broadcast_to(chosen, one_of_three.shape)).mean()


gained = np.array(
    [[expected(m, s) for m in (metrics.jaccard, metrics.f1)] for s in every_set]
)
ladder = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [1, 1, 1]], dtype=bool)
found = [gained[(every_set == step).all(1)][0] for step in ladder]
np.testing.assert_allclose(
    found, [[0, 0], [0.40, 0.40], [0.36, 0.48], [1 / 3, 0.50]], atol=1e-12
)
assert every_set[gained[:, 0].argmax()].tolist() == [True, False, False]
assert every_set[gained[:, 1].argmax()].all()
show("best for Jaccard: {1}; best for F1: all three")

# %% tags=["hide-input"]
#| name: fig-ecc-sets
#| alt: Paired bars of expected Jaccard and expected F1 for the eight sets of three classes. Jaccard is highest, 0.40,
#|   for the set with class 1 alone; F1 is highest, 0.50, for all three classes.
#| caption: Expected Jaccard and F1 (↑ better) of each of the eight sets on toy B, exact. LR recommends ∅, the
#|   ensemble {1}. Notice that the two metrics want different sets.
rank = np.argsort(every_set.sum(1), kind="stable")
names = [
    "{" + ", ".join(str(i + 1) for i in np.flatnonzero(s)) + "}" if s.any() else "∅"
    for s in every_set[rank]
]
fig, ax = plt.subplots(figsize=(plotting.FULL, 2.6))
for i, (name, hatch) in enumerate(
    {"expected Jaccard": "", "expected F1": "//"}.items()
):
    ax.bar(np.arange(8) + 0.4 * i - 0.2, gained[rank, i], 0.36, label=name, hatch=hatch)
ax.set_xticks(range(8), names)
ax.set_ylabel("expected value ↑")
ax.legend()
show(fig)

# %% [markdown]
# ```{exercise}
# :label: ex-ecc-f1
#
# Which set has the best expected F1, and why not the one with the best expected Jaccard?
# ```
#
# ````{solution} ex-ecc-f1
# :class: dropdown
#
# All three classes, with .50.
# A wrong extra costs F1 less than Jaccard: with one hit among $n$ recommended and one true class, F1 is $2/(n+1)$ and Jaccard $1/n$.
# ````
#
# ## The threshold that serves Jaccard
#
# A probability is no recommendation yet.
# The field cuts at one half.
# Ask instead when adding a class of probability $\pi$ raises the expected {term}`Jaccard` of a set that scores $J$ already.
# A right extra raises the intersection by one and leaves the union; a wrong extra raises the union by one:
#
# $$
# \text{include } m \iff \pi_m \;>\; \frac{J}{1 + J} \;=\; \frac{F_1}{2} .
# $$ (eq-threshold-rule)
#
# The rule is an approximation for many classes that are nearly independent.
# On toy B, where exactly one of three is given, it fails: $\{1\}$ scores .40, so the rule would cut at .286 and add class 2 (.32), and the expected Jaccard would fall to .36.
# ($F_1$ is that of a single set, $2J/(1+J)$.)
#
# For many independent classes the check is an exact computation.
# Let 131 classes be given independently with probabilities $\pi_i = .9\, e^{-(i-1)/22}$, and recommend the $k$ most probable.
# Hits $X$ among the recommended and misses $Z$ among the rest are independent sums of coins, so
#
# $$
# \mathbb E\,J_k = \mathbb E[X]\;\mathbb E\Bigl[\frac{1}{k + Z}\Bigr] .
# $$ (eq-expected-jaccard)

# %%
pi = 0.9 * np.exp(-np.arange(131) / 22)


def distribution(probabilities):
    """Distribution of a sum of independent coins, by convolution."""
    pmf = np.ones(1)
    for q in probabilities:
        pmf = np.convolve(pmf, [1 - q, q])
    return pmf


def expected_jaccard(k):
    z = distribution(pi[k:])
    return pi[:k].sum() * (z / (k + np.arange(len(z)))).sum()


def expected_f1(k):
    x, z = distribution(pi[:k]), distribution(pi[k:])
    size = k + np.arange(len(x))[:, None] + np.arange(len(z))[None, :]
    return (np.einsum("x,z->xz", x * np.arange(len(x)), z) * 2 / size).sum()


ks = np.arange(1, 60)
jaccards = np.array([expected_jaccard(k) for k in ks])
f1s = np.array([expected_f1(k) for k in ks])

# %% [markdown]
# **Check.** On toy B the rule breaks.
# Among 131 classes a cut at one half keeps 13, though 20.2 are given on average; the best $k$ lies where {eq}`eq-threshold-rule` puts it, for both metrics.

# %%
only_1, also_2 = (expected(metrics.jaccard, step) for step in ladder[1:3])
assert only_1 / (1 + only_1) < share[1]  # the rule says: add class 2
assert also_2 < only_1  # which loses

best = ks[jaccards.argmax()]
assert best == ks[f1s.argmax()] == 24
np.testing.assert_allclose(
    [expected_jaccard(13), expected_jaccard(26), jaccards.max()],
    [0.3794, 0.4388, 0.4400],
    atol=5e-5,
)
np.testing.assert_allclose(f1s.max(), 0.6066, atol=5e-5)
cut = jaccards.max() / (1 + jaccards.max())
assert pi[best] < cut < pi[best - 1]
assert (pi >= 0.5).sum() == 13
simulated = np.random.default_rng(seed).random((20_000, 131)) < pi
top = np.arange(131) < 24
np.testing.assert_allclose(
    metrics.jaccard(simulated, np.broadcast_to(top, simulated.shape)).mean(),
    jaccards.max(),
    atol=3e-3,
)
page.glue(
    cut=cut,
    mean_size=pi.sum(),
    j_half=expected_jaccard(13),
    j_best=jaccards.max(),
    k_half=13,
    k_best=int(best),
)

# %% tags=["hide-input"]
#| name: fig-lr-threshold
#| alt: Two panels over the probability threshold. Expected Jaccard rises from the left to a peak near threshold 0.31
#|   and falls to 0.38 at 0.5; the size of the set falls steadily and crosses the true mean of 20 near threshold 0.36.
#| caption: Expected Jaccard (↑ better) and size of the recommended set against the threshold, for 131 independent
#|   classes with known probabilities. Exact values, no interval. Orange: the threshold of {eq}`eq-threshold-rule`;
#|   dashed: one half, which recommends too little.
fig, (left, right) = plt.subplots(1, 2, figsize=(plotting.FULL, 2.8))
left.plot(pi[ks - 1], jaccards)
right.plot(pi[ks - 1], ks)
right.axhline(pi.sum(), color="0.5", lw=1, ls=":", label="mean true size")
for ax in (left, right):
    ax.axvline(0.5, color="0.5", lw=1, ls="--", label="one half")
    ax.axvline(cut, color="C1", lw=1, label=f"the rule, {cut:.2f}")
    ax.set_xlabel("probability threshold")
left.set_ylabel("expected Jaccard ↑")
right.set_ylabel("recommended classes")
right.legend()
show(fig)

# %% [markdown]
# One half recommends {glue:text}`k_half` classes and scores {glue:text}`j_half:.3f`; the rule's {glue:text}`cut:.3f` recommends {glue:text}`k_best` and scores {glue:text}`j_best:.3f`, with the same probabilities.
# Nothing was learned between the two.
#
# ```{exercise}
# :label: ex-lr-rule
#
# Derive {eq}`eq-threshold-rule`.
# Write $J = X/U$; add one class that is right with probability $\pi$.
# ```
#
# ````{solution} ex-lr-rule
# :class: dropdown
#
# A right extra turns $X/U$ into $(X+1)/U$: a gain of $1/U$.
# A wrong one turns it into $X/(U+1)$: a loss of $X/(U(U+1)) \approx J/U$.
# Treat $J$ as the same in both cases, as independence nearly allows.
# The expected change is $\bigl(\pi - (1-\pi) J\bigr)/U$, positive when $\pi > J/(1+J)$; and $F_1 = 2J/(1+J)$.
# ````

# %% [markdown]
# ## Putting it together
#
# The systems of the tables are {py:class}`~medrec.models.lr.LR`, one regression for each medication class on a sparse multi-hot matrix of diagnoses and procedures, and {py:class}`~medrec.models.ecc.ECC`, ten chains of such regressions with the earlier classes as further columns.
# A chain is *trained* with the true earlier answers and *asked* with its own; so all its regressions are independent of each other while training.
# Fitting sees training patients only; the threshold is tuned on validation patients only ({py:func}`~medrec.tune_threshold`).

# %% tags=["hide-input"]
#| name: fig-flow-lr
#| alt: Diagnoses and procedures into one linear map per class; one linear map per class into medications.
#|   Trained by cross-entropy and squared weights.
#| caption: LR: what goes in where, what comes out, and what it is trained by. Drawn by
#|   {py:func}`medrec.book.pictures.plot_system`; no records. Notice that nothing of the past goes in.
show(plot_system("lr"))

# %% tags=["hide-input"]
#| name: fig-flow-ecc
#| alt: Diagnoses, procedures and answers earlier in the chain into chains in random orders; chains in random orders
#|   into votes; votes into medications. Trained by cross-entropy and squared weights.
#| caption: ECC: what goes in where, what comes out, and what it is trained by. Drawn by
#|   {py:func}`medrec.book.pictures.plot_system`; no records. Notice that a chain's answers about earlier classes come
#|   back in as inputs.
show(plot_system("ecc"))

# %%
split = split_patients(records.n_patients, seed)
train_part, validation, test = (
    records.select(p) for p in (split.train, split.validation, split.test)
)
ddi, ddi_name = default_ddi(records.vocab["medication"].codes)
as_published = registry.get("lr").configure("official")
lr = LR(as_published.C).fit(train_part)
scores = lr.predict_proba(test)
tuned = tune_threshold(validation, lr.predict_proba(validation))
plain = {"C": as_published.C}
ecc, _ = load_system(train("ecc", records, settings=plain, seed=seed, split_seed=seed))
said, said_before = ecc.chain_proba(test), ecc.chain_proba(validation)
ecc_tuned = tune_threshold(validation, said_before.mean(0))
parts = {"training": train_part, "validation": validation, "test": test}
show(
    page.table(
        pl.DataFrame(
            {
                "part": list(parts),
                "patients": [part.n_patients for part in parts.values()],
                "visits": [part.n_visits for part in parts.values()],
            }
        ),
        caption=f"The split of {page.cohort_line(records)}.",
    ),
    counts=("patients", "visits"),
)

# %% [markdown]
# **Check.** The fitted model obeys both conditions of {eq}`eq-lr-optimum` for every class with something to regress, up to the tolerance of its optimiser.

# %%
residual = train_part.codes["medication"].multi_hot(
    records.n_medications
) - lr.predict_proba(train_part)
fitted = np.isfinite(lr.intercept_)
assert np.abs(residual[:, fitted].sum(0)).max() < 1
x = np.hstack(
    [
        train_part.codes[kind].multi_hot(len(records.vocab[kind]))
        for kind in ("diagnosis", "procedure")
    ]
)
np.testing.assert_allclose(
    lr.C * x.T.astype(float) @ residual[:, fitted], lr.coef_[fitted].T, atol=0.1
)
np.testing.assert_allclose(said.mean(0), ecc.predict_proba(test))
np.testing.assert_array_equal((said >= 0.5).mean(0) >= 0.5, ecc.predict(test))
regressions = len(ecc.orders_) * int(fitted.sum())
page.glue(regressions=page.thousands(regressions), chains=len(ecc.orders_))
show({"LR": int(fitted.sum()), "ECC": regressions})

# %% [markdown]
# So ECC is {glue:text}`regressions` regressions in {glue:text}`chains` chains.
# The check above also states how its two outputs come from what the chains say, {eq}`eq-ecc-vote`.

# %% [markdown]
# ## Results
#
# Three thresholds for one fitted LR, three decisions for one fitted ECC, both with $C = $ {glue:text}`published_c:g`, beside two reference points that read no diagnosis.
# One of LR's thresholds is {glue:text}`margin_cut:.2f`: the margin in the loss of SafeDrug, and of most systems after it, lowers theirs to about that ({doc}`08_graph_memory` derives it).

# %% tags=["hide-input"]
k, mean_given = 0.05 / 0.95, train_part.describe()["medication_per_visit"]
margin_cut = (2 + k * mean_given) / (4 + k * records.n_medications)
target = test.codes["medication"].multi_hot(records.n_medications)
systems = {
    "LR at .5": (scores >= 0.5, scores),
    "LR, margin": (scores >= margin_cut, scores),
    "LR, tuned": (scores >= tuned, scores),
    "ECC, vote": (ecc.predict(test), said.mean(0)),
    "ECC, mean at .5": (said.mean(0) >= 0.5, said.mean(0)),
    "ECC, mean, tuned": (said.mean(0) >= ecc_tuned, said.mean(0)),
}
popularity = Popularity().fit(train_part)
systems["popularity"] = (popularity.predict(test), popularity.predict_proba(test))
results = {
    name: evaluate(test, sets, ddi, scores=p, patients=split.test)
    for name, (sets, p) in systems.items()
}
repeat = LastVisit().fit(train_part)
has_past = repeat.scored(test).any()
if has_past:
    results["last visit"] = evaluate(
        test,
        repeat.predict(test),
        ddi,
        scored=repeat.scored(test),
        patients=split.test,
    )
results["prescribed"] = evaluate(test, target, ddi, patients=split.test)
intervals = {name: bootstrap(result, seed=seed) for name, result in results.items()}
cuts = {"LR, margin": margin_cut, "LR, tuned": tuned, "ECC, mean, tuned": ecc_tuned}


def signed(difference):
    """A difference with its interval, three digits."""
    low, high = difference.low, difference.high
    return f"{difference.value:+.3f} [{low:+.3f}, {high:+.3f}]"


shown = [
    {
        "system": f"{name} ({cuts[name]:.2f})" if name in cuts else name,
        "visits": int(results[name].summary()["visits"]),
    }
    | in_columns(found)
    for name, found in intervals.items()
]
shown[-1] |= dict.fromkeys(("Jaccard", "F1", "PRAUC"))  # prescribed: 1 by definition
show(
    page.table(
        pl.DataFrame(shown),
        caption=f"Test patients of {page.cohort_line(records)}; one split. In round brackets: the cut. "
        "Jaccard, F1 and PRAUC: means over patients of their visits' means; in square brackets 95 % bootstrap intervals over patients. "
        f"DDI rate: share of recommended pairs that are known to interact ({ddi_name}). "
        "Last visit skips first visits, so its row is not comparable with the others.",
    ),
    nested=("visits",),
)

# %% tags=["hide-input"]
gain = paired_difference(results["LR at .5"], results["LR, tuned"], seed=seed)[
    "jaccard"
]
ranking = paired_difference(results["popularity"], results["LR at .5"], seed=seed)[
    "prauc"
]
j_tuned = intervals["LR, tuned"]["jaccard"].value
true_size = intervals["prescribed"]["n_medications"].value
n_tested = test.n_patients
raised = verdict(
    gain,
    cohort=records.name,
    source=records.source,
    n_patients=n_tested,
)
page.glue(
    raised_word=page.about(records, raised.word, patients=n_tested),
    raised_sentence=page.about(records, raised.sentence, patients=n_tested),
    ranked=page.about(
        records,
        f"The paired difference is {signed(ranking)}."
        if ranking.low > 0 or ranking.high < 0
        else f"The paired difference is {signed(ranking)}: with this penalty the diagnoses buy no better ranking that these patients can show.",
        patients=n_tested,
    ),
    prauc_lr=intervals["LR at .5"]["prauc"].value,
    prauc_popularity=intervals["popularity"]["prauc"].value,
    tuned=tuned,
    margin_cut=margin_cut,
    j_margin=intervals["LR, margin"]["jaccard"].value,
    rule_cut=j_tuned / (1 + j_tuned),
    j_at_half=intervals["LR at .5"]["jaccard"].value,
    j_tuned=j_tuned,
    n_at_half=intervals["LR at .5"]["n_medications"].value,
    n_tuned=intervals["LR, tuned"]["n_medications"].value,
    gain=page.about(records, signed(gain), patients=n_tested),
    true_size=true_size,
)

# %% [markdown]
# At one half LR recommends {glue:text}`n_at_half:.1f` classes where {glue:text}`true_size:.1f` were prescribed.
# Tuned on validation patients, to {glue:text}`tuned:.2f`, it recommends {glue:text}`n_tuned:.1f`; the rule {eq}`eq-threshold-rule` would say {glue:text}`rule_cut:.2f`.
# Its Jaccard goes from {glue:text}`j_at_half:.3f` to {glue:text}`j_tuned:.3f`, a paired difference of {glue:text}`gain`, and nothing but one number changed.
# Cut at {glue:text}`margin_cut:.2f` it scores {glue:text}`j_margin:.3f`.
#
# As a ranking, LR has a PRAUC of {glue:text}`prauc_lr:.3f`, and popularity, which reads no diagnosis, one of {glue:text}`prauc_popularity:.3f`.
# {glue:text}`ranked`
# With the penalty chosen below, LR reaches {glue:text}`prauc_penalised:.3f`.
#
# Verdicts go by one rule: a claimed gain *holds* when its 95 % interval lies above 0; it *does not hold* when the interval lies below the smallest difference of interest, {glue:text}`sdi`; else it is *not decided*.
#
# :::{admonition} "A tuned threshold raises LR's Jaccard"
# :class: verdict
# {glue:text}`raised_word`. {glue:text}`raised_sentence`
# :::
#
# In print BiMoRec stands {glue:text}`printed_gap:.4f` above LR, on MIMIC-III.
# Whether a threshold explains any of that, only those records can tell; {doc}`13_bimorec_results` shows LR both ways.

# %% tags=["hide-input"]
#| name: fig-lr-tuned
#| alt: Line chart of the Jaccard of LR on test patients against its threshold, with a shaded 95 % band. The curve
#|   rises to a broad top near threshold 0.3 to 0.4 and falls towards 0.5 and beyond; vertical lines mark .5 and the
#|   tuned threshold.
#| caption: Jaccard (↑ better) of one fitted LR against its threshold, on the test patients of
#|   {glue:text}`cohort_line`. Band: 95 % bootstrap interval over patients. The tuned threshold was chosen on other
#|   patients. {glue:text}`top_line`
grid = np.arange(0.05, 0.81, 0.025)
curve = [
    bootstrap(
        evaluate(test, scores >= t, ddi, patients=split.test),
        resamples=200,
        seed=seed,
    )["jaccard"]
    for t in grid
]
fig, ax = plt.subplots(figsize=(plotting.ONE_COLUMN, 2.8), layout="constrained")
look = plotting.look("LR")
ax.fill_between(
    grid,
    [c.low for c in curve],
    [c.high for c in curve],
    color=look.color,
    alpha=0.2,
    lw=0,
)
ax.plot(grid, [c.value for c in curve], color=look.color)
ax.axvline(0.5, color=plotting.INK, lw=1, ls="--", label="one half")
ax.axvline(tuned, color=plotting.INK, lw=1, label="tuned on validation patients")
ax.set(xlabel="threshold", ylabel="Jaccard ↑")
ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
show(fig)

# %% tags=["remove-cell"]
smallest = SMALLEST_DIFFERENCE["jaccard"]
top = max(c.value for c in curve)
near = grid[[c.value >= top - smallest for c in curve]]
inside = [
    "is" if intervals[name]["jaccard"].value >= top - smallest else "is not"
    for name in ("LR at .5", "LR, tuned")
]
page.glue(
    top_line=page.about(
        records,
        f"Thresholds from {near.min():.2f} to {near.max():.2f} come within {smallest} of the top; "
        f"one half {inside[0]} among them, and the tuned threshold {inside[1]}.",
        patients=n_tested,
    )
)

# %% [markdown]
# ### Another split, another average
#
# The released scripts shuffle the patients of LR with a seed of their own and average over visits, while the other systems take patients in file order and average over patients.
# Prediction before the numbers: the average moves more than the split, because it changes who counts, while the split only changes who is drawn.
# One model, four scores:

# %% tags=["hide-input"]
rows = []
for name, other in {
    "shuffled by seed": split,
    "file order": split_patients(records.n_patients, None),
}.items():
    fitted_lr = lr if other is split else LR(lr.C).fit(records.select(other.train))
    held_out = records.select(other.test)
    p = fitted_lr.predict_proba(held_out)
    row = {"split": name}
    for aggregation in ("patients", "visits"):
        rules = Protocol("this table", aggregation=aggregation)
        row[f"mean over {aggregation}"] = evaluate(
            held_out, p >= 0.5, ddi, protocol=rules
        ).summary()["jaccard"]
    rows.append(row)
noise = pl.DataFrame(rows)
cells = noise.select(pl.exclude("split")).to_numpy()
by_average = np.abs(np.diff(cells, axis=1)).max()
by_split = np.abs(np.diff(cells, axis=0)).max()
at_half = intervals["LR at .5"]["jaccard"]
page.glue(
    noise=float(cells.max() - cells.min()),
    by_average=by_average,
    by_split=by_split,
    half_width=(at_half.high - at_half.low) / 2,
    prediction=page.about(
        records,
        "The prediction was right."
        if by_average > by_split
        else "The prediction was wrong: with so few patients, who is drawn matters "
        "more than how they are averaged.",
        patients=n_tested,
    ),
)
show(
    page.table(
        noise,
        caption=f"Jaccard of LR at threshold .5 on {page.cohort_line(records)}, by "
        "split and by average. No interval. The columns differ by protocol, the rows "
        "also by the patients drawn.",
    )
)

# %% [markdown]
# Changing the average moves the score by at most {glue:text}`by_average:.4f`, changing the split by at most {glue:text}`by_split:.4f`.
# {glue:text}`prediction`
# Which patients are tested is chance, not protocol: the interval of one such mean has a half-width of {glue:text}`half_width:.3f`.
# But in print nobody sees which of the two it was, and a difference of {glue:text}`noise:.4f`, the largest between two cells, needs no better model on a cohort of this size.
#
# The average matters because patients with many visits count more in one of the two.

# %%
values, owner = np.array([0.2, 0.6, 0.6, 0.6, 0.6]), np.array([0, 1, 1, 1, 1])
over_patients = np.mean([values[owner == patient].mean() for patient in (0, 1)])
np.testing.assert_allclose([values.mean(), over_patients], [0.52, 0.40])
show((round(float(values.mean()), 2), round(float(over_patients), 2)))

# %% [markdown]
# ### Does the penalty matter?
#
# Prediction before the numbers: hardly; a grid of $C$ is the kind of tuning that papers leave out because it changes nothing.

# %% tags=["hide-input"]
penalties = [0.01, 0.03, 0.1, 0.3, 1.0, 10.0]
if profile == "full":
    penalties = [0.003, *penalties[:-1], 3.0, 10.0]
sweep, on_validation = {}, {}
for C in penalties:
    model = lr if C == lr.C else LR(C=C).fit(train_part)
    before = model.predict_proba(validation)
    best = tune_threshold(validation, before)
    sweep[C] = evaluate(
        test, model.predict_proba(test) >= best, ddi, patients=split.test
    )
    judged = evaluate(validation, before >= best, ddi)
    on_validation[C] = judged.summary()["jaccard"]
best_c = max(on_validation, key=on_validation.get)
heights = [bootstrap(r, seed=seed)["jaccard"] for r in sweep.values()]
against = {
    C: paired_difference(sweep[1.0], result, seed=seed)["jaccard"]
    for C, result in sweep.items()
    if C != 1.0
}
base = {
    "cohort": records.name,
    "source": records.source,
    "n_patients": n_tested,
}
alike = {C: verdict_of_equality(d, **base) for C, d in against.items()}

# %% tags=["hide-input"]
#| name: fig-lr-sweep
#| alt: Dots with vertical intervals: Jaccard of LR at its tuned threshold for C from 0.01 to 10 on a log axis. The
#|   dots rise to a top near 0.1 and fall from there to 10.
#| caption: Jaccard (↑ better) of LR at its own tuned threshold against C, on the test patients of
#|   {glue:text}`cohort_line`. Bars: 95 % bootstrap intervals over patients. They overlap, but the patients are the
#|   same: the next table has the paired differences. Line: the published C = 1. The top lies at C =
#|   {glue:text}`top_c:g`.
fig, ax = plt.subplots(figsize=(plotting.ONE_COLUMN, 2.6))
mid = np.array([c.value for c in heights])
ends = np.array([[c.value - c.low, c.high - c.value] for c in heights]).T
look = plotting.look("LR")
ax.errorbar(
    list(sweep),
    mid,
    yerr=ends,
    color=look.color,
    marker=look.marker,
    ls="none",
    capsize=3,
)
ax.axvline(1, color=plotting.INK, lw=1, ls=":")
ax.set(xscale="log", xlabel="C (log scale)", ylabel="Jaccard ↑")
show(fig)

# %% tags=["hide-input"]
show(
    page.table(
        pl.DataFrame(
            {
                "C": [f"{C:g}" for C in against],
                "change of Jaccard against C = 1": [
                    d.format(4) for d in against.values()
                ],
                "alike to C = 1?": [str(v.word) for v in alike.values()],
            }
        ),
        caption=f"LR on the test patients of {page.cohort_line(records)}, every threshold tuned. Brackets: 95 % bootstrap intervals over patients, paired. "
        f"Alike holds when the whole interval lies within ±{SMALLEST_DIFFERENCE['jaccard']}, the smallest difference of interest, and does not hold when it lies wholly beyond.",
    )
)

# %% tags=["remove-cell"]
differ = [f"{C:g}" for C, v in alike.items() if v.word == "does not hold"]
flat = [f"{C:g}" for C, v in alike.items() if v.word == "holds"]
if differ:
    penalty_word = "does not hold"
elif len(flat) == len(alike):
    penalty_word = "holds"
else:
    penalty_word = "not decided"
chosen_change = against.get(best_c)
both_change = paired_difference(results["LR at .5"], sweep[best_c], seed=seed)[
    "jaccard"
]
page.glue(
    best_c=best_c,
    top_c=list(sweep)[int(mid.argmax())],
    both_change=page.about(records, signed(both_change), patients=n_tested),
    house_c=registry.get("lr").configure(n_train=train_part.n_patients).C,
    published_c=as_published.C,
    sdi=SMALLEST_DIFFERENCE["jaccard"],
    penalty_word=page.about(records, penalty_word, patients=n_tested),
    differ=page.about(records, ", ".join(differ) or "none", patients=n_tested),
    flat=page.about(records, ", ".join(flat) or "none", patients=n_tested),
    chosen_change=page.about(
        records,
        signed(chosen_change) if chosen_change else "0, being the published one itself",
        patients=n_tested,
    ),
)

# %% [markdown]
# :::{admonition} "The choice of C changes nothing"
# :class: verdict
# {glue:text}`penalty_word`.
# Values of $C$ shown to differ from $C = 1$ by {glue:text}`sdi` or more: {glue:text}`differ`; shown to be alike: {glue:text}`flat`.
# Chosen on validation patients, $C$ is {glue:text}`best_c:g`, and the Jaccard on test patients changes by {glue:text}`chosen_change`.
# :::
#
# Compare that with the change that a threshold makes, {glue:text}`gain`: a default of a library is a choice like any other.
# Both together, against the published LR on the same patients: {glue:text}`both_change`.
#
# The fewer visits there are for so many codes, the stronger the penalty that they ask for.
# With more visits a weaker one may do; on {glue:text}`ladder_cohort`, in the last section, validation patients chose $C = $ {glue:text}`ladder_c:g`.
# In the tables of later chapters *LR* has a penalty that validation patients chose, $C = $ {glue:text}`house_c:g`, and a tuned threshold; *LR, as published* has $C = $ {glue:text}`published_c:g` and is cut at one half.
#
# ### What do chains buy?
#
# In print, ECC's Jaccard lies below LR's in every block of the two tables.

# %% tags=["hide-input"]
blocks = {"BiMoRec, table 2": "bimorec", "NLA-MMR, table 2": "nlammr"}
rows = []
for name, paper in blocks.items():
    both = published.table(paper, 2).filter(pl.col("system").is_in(["LR", "ECC"]))
    rows += [
        {"table": name, "database": database}
        | {row["system"]: row["Jaccard"] for row in block.iter_rows(named=True)}
        | {
            f"medications, {row['system']}": row.get("medications")
            for row in block.iter_rows(named=True)
        }
        for (database,), block in both.group_by("database", maintain_order=True)
    ]
in_print = pl.DataFrame(rows).select(
    "table",
    "database",
    "LR",
    "ECC",
    (pl.col("ECC") - pl.col("LR")).alias("ECC − LR"),
    "medications, LR",
    "medications, ECC",
)
assert (in_print["ECC − LR"] < 0).all()
show(
    page.table(
        in_print,
        caption="Jaccard of LR and ECC as printed, at one half, and medications a visit where the paper prints them.",
        digits={
            "LR": 4,
            "ECC": 4,
            "ECC − LR": 4,
            "medications, LR": 1,
            "medications, ECC": 1,
        },
    )
)

# %% [markdown]
# A chain could still be worth its regressions by *coherence*: by not recommending together what is not given together.
# Call two classes an *exclusive pair* when, among training visits, chance alone would bring them together at least ten times and they meet at most half as often.
# The first chain of the fitted ten is compared with all ten, and with ten chains that have the penalty chosen for LR above; more chains are in the audit.

# %%
given_train = train_part.codes["medication"].multi_hot(records.n_medications)
n_given = given_train.sum(0).astype(float)
by_chance = np.outer(n_given, n_given) / len(given_train)
together = np.einsum("vm,vn->mn", given_train.astype(float), given_train)
pairs = np.argwhere(np.triu((by_chance >= 10) & (together <= by_chance / 2), 1))


def exclusive_pairs(sets):
    """How many exclusive pairs each visit holds."""
    return (sets[:, pairs[:, 0]] & sets[:, pairs[:, 1]]).sum(1)


# %% tags=["hide-input"]
def examine(label, now, before):
    """A row at one half and one at the threshold tuned for it."""
    cut = tune_threshold(validation, before)
    for name, at in (("at .5", 0.5), ("tuned", cut)):
        chosen[label, name] = now >= at, now


chosen = {}
sizes = {1: "1 chain", 2: "2 chains", 5: "5 chains", 10: "10 chains"}
for n, label in sizes.items():
    votes_now, votes_before = said[:n] >= 0.5, said_before[:n] >= 0.5
    examine(f"{label}, vote", votes_now.mean(0), votes_before.mean(0))
    examine(f"{label}, mean", said[:n].mean(0), said_before[:n].mean(0))
others = {
    "1 chain, commonest first": {**plain, "order": "frequency", "n_chains": 1},
    f"10 chains, mean, C = {best_c:g}": {"C": best_c},
}
for label, changed in others.items():
    run = train("ecc", records, settings=changed, seed=seed, split_seed=seed)
    system, _ = load_system(run)
    examine(label, system.predict_proba(test), system.predict_proba(validation))
examine("LR", scores, lr.predict_proba(validation))
stronger = LR(C=best_c).fit(train_part)
examine(
    f"LR, C = {best_c:g}",
    stronger.predict_proba(test),
    stronger.predict_proba(validation),
)
chosen["prescribed", ""] = target, target.astype(float)


# %% tags=["hide-input"]
def row_of(label, name):
    """One row of a table of chains; keeps the evaluation."""
    sets, p = chosen[label, name]
    kept[label, name] = evaluate(test, sets, ddi, scores=p, patients=split.test)
    interval = bootstrap(kept[label, name], seed=seed)
    itself = label == "prescribed"
    return {
        "system": label,
        "cut": name,
        "Jaccard": None if itself else interval["jaccard"].format(3),
        "PRAUC": None if itself or "vote" in label else interval["prauc"].format(3),
        "medications": interval["n_medications"].format(1),
        "exclusive pairs": float(100 * exclusive_pairs(sets).mean()),
    }


# A share of ten votes has ten thresholds, and one chain one vote.
kept = {}
rows = [
    row_of(label, name)
    for label, name in chosen
    if label != "1 chain, vote" and not ("vote" in label and name == "tuned")
]
shown_first = ("1 chain, mean", "10 chains", "LR", "prescribed")
about_pairs = f"Test patients of {page.cohort_line(records)}. Exclusive pairs: per 100 visits. Brackets: 95 % bootstrap intervals over patients. "
show(
    page.table(
        pl.DataFrame([row for row in rows if row["system"].startswith(shown_first)]),
        caption="Chains and LR, cut at one half and at a tuned threshold; C = 1 where none is named. "
        + about_pairs
        + "The share of votes orders classes too coarsely for PRAUC.",
        digits={"exclusive pairs": 1},
    )
)

# %% tags=["hide-input"]
#| name: fig-ecc-chains
#| alt: Two panels against the number of chains, 1, 2, 5, 10. Left: Jaccard of the mean probability cut at one half
#|   and at a tuned threshold, with LR as horizontal lines; the tuned rows lie above the rows at one half and change
#|   little with the number of chains. Right: exclusive pairs per 100 visits; at one half few, tuned many.
#| caption: Jaccard (↑ better) and exclusive pairs per 100 visits (↓ more coherent) of the first 1, 2, 5 and 10
#|   chains, and of LR (horizontal), on the test patients of {glue:text}`cohort_line`. Bars: 95 % bootstrap intervals
#|   over patients. Notice that the threshold moves both panels more than the number of chains does.
fig, (left, right) = plt.subplots(
    1, 2, figsize=(plotting.FULL, 2.8), layout="constrained"
)
for offset, (kind, name, line) in enumerate(
    [("mean", "at .5", "--s"), ("mean", "tuned", "-o")]
):
    found = [
        bootstrap(kept[f"{n}, {kind}", name], seed=seed)["jaccard"]
        for n in sizes.values()
    ]
    ends = np.array([[c.value - c.low, c.high - c.value] for c in found]).T
    place = np.arange(4) + 0.12 * offset
    look = {"color": plotting.color("ECC"), "fmt": line, "ms": 4, "capsize": 3}
    left.errorbar(
        place, [c.value for c in found], yerr=ends, label=f"{kind} {name}", **look
    )
    coherence = [
        100 * exclusive_pairs(chosen[f"{n}, {kind}", name][0]).mean()
        for n in sizes.values()
    ]
    right.plot(place, coherence, line, ms=4, color=plotting.color("ECC"))
    style = line.rstrip("so")
    left.axhline(
        kept["LR", name].summary()["jaccard"], ls=style, color=plotting.INK, lw=1
    )
    right.axhline(
        100 * exclusive_pairs(chosen["LR", name][0]).mean(),
        ls=style,
        color=plotting.INK,
        lw=1,
        label=f"LR {name}",
    )
for ax in (left, right):
    ax.set_xticks(range(4), [str(n) for n in sizes])
    ax.set_xlabel("chains")
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
left.set_ylabel("Jaccard ↑")
right.set_ylabel("pairs per 100 visits ↓")
show(fig)

# %% tags=["remove-cell"]
more = paired_difference(
    kept["LR", "tuned"], kept["10 chains, mean", "tuned"], seed=seed
)
by_votes = paired_difference(
    kept["LR", "at .5"], kept["10 chains, vote", "at .5"], seed=seed
)["jaccard"]
penalised = paired_difference(
    kept[f"LR, C = {best_c:g}", "tuned"],
    kept[f"10 chains, mean, C = {best_c:g}", "tuned"],
    seed=seed,
)
per_patient = np.zeros((2, n_tested))
saved = exclusive_pairs(chosen["10 chains, mean", "tuned"][0]) - exclusive_pairs(
    chosen["LR", "tuned"][0]
)
np.add.at(per_patient[0], test.patient_of_visit, saved)
np.add.at(per_patient[1], test.patient_of_visit, 1)
drawn = np.random.default_rng(seed).multinomial(
    n_tested, np.full(n_tested, 1 / n_tested), 1000
)
resampled = 100 * np.divide(*np.einsum("rp,kp->kr", drawn, per_patient))
coherent = Interval(
    float(100 * saved.mean()),
    *np.quantile(resampled, [0.025, 0.975]).tolist(),
    float(resampled.std()),
)
chains_verdict = verdict(more["jaccard"], **base)
pairs_of = {
    (who, cut): 100 * exclusive_pairs(chosen[who, cut][0]).mean()
    for who in ("LR", "10 chains, mean")
    for cut in ("at .5", "tuned")
}
worth = (
    "So the chains' sets are more coherent than LR's"
    if coherent.high < 0
    else "So the chains' sets are less coherent than LR's"
    if coherent.low > 0
    else "So no difference in coherence can be seen"
)
coherence = (
    f"Tuned, at C = {as_published.C:g}, ten chains recommend {pairs_of['10 chains, mean', 'tuned']:.1f} exclusive pairs per 100 visits and LR {pairs_of['LR', 'tuned']:.1f}, "
    f"a difference of {coherent.format(1)}. {worth}; at one half they hold {pairs_of['10 chains, mean', 'at .5']:.1f} against {pairs_of['LR', 'at .5']:.1f}."
)
penalised_verdict = verdict(penalised["jaccard"], **base)
strongest = (
    pairs[np.argmin((together / by_chance.clip(1e-9))[tuple(pairs.T)])]
    if len(pairs)
    else []
)
titles = records.vocab["medication"].titles
said_of_chains = {
    "chains_word": chains_verdict.word,
    "chains_sentence": chains_verdict.sentence,
    "chains_prauc": signed(more["prauc"]),
    "chains_half": signed(by_votes),
    "coherence": coherence,
    "penalty_prauc": signed(
        paired_difference(
            kept["LR", "tuned"], kept[f"LR, C = {best_c:g}", "tuned"], seed=seed
        )["prauc"]
    ),
    "chains_penalised": f"{penalised_verdict.word}, {signed(penalised['jaccard'])}",
    "chains_penalised_prauc": signed(penalised["prauc"]),
    "strongest": " with ".join(titles[m] for m in strongest) or "none",
}
right_sets = max(
    privacy.share(records, (sets == target).all(1))
    for (label, _), (sets, _) in chosen.items()
    if label != "prescribed"
)
page.glue(
    n_pairs=len(pairs),
    prauc_penalised=kept[f"LR, C = {best_c:g}", "tuned"].summary()["prauc"],
    exact_sets=page.about(
        records,
        f"At best {right_sets:.0%} of the visits are exactly right."
        if right_sets > 0.01
        else "Hardly a visit is exactly right, so subset accuracy separates nothing here.",
        patients=n_tested,
    ),
    **{k: page.about(records, v, patients=n_tested) for k, v in said_of_chains.items()},
)

# %% [markdown]
# These records hold {glue:text}`n_pairs` exclusive pairs; the most exclusive is {glue:text}`strongest`.
# {glue:text}`exact_sets`
#
# The dashed lines of {numref}`fig-ecc-chains` show chains where they are at home, at one half: answers are hard, and a yes silences its rivals.
# Cut lower, where Jaccard wants it, a class that was refused at .45 is recommended after all, beside the rival whose chances rose *because* it was refused.
# The chain never answered the question that the threshold puts.
#
# :::{admonition} "Chains recommend better sets than separate regressions"
# :class: verdict
# {glue:text}`chains_word`. {glue:text}`chains_sentence`
# That is with $C = $ {glue:text}`published_c:g`; with $C = $ {glue:text}`best_c:g` for both: {glue:text}`chains_penalised`.
# Both thresholds are tuned.
# :::
#
# {glue:text}`coherence`
#
# A mean over ten chains smooths, and so does a penalty: before a gain is put down to the chains, the cheaper way to it has to be tried.
#
# (what-can-be-learnt)=
# ## What can be learnt from these records at all
#
# Before any network is praised or blamed: how far could anybody get?
# {glue:text}`which_records`
# The ladder of {numref}`fig-lr-ladder` has two parts.
# Its lower steps learn from training patients: LR, then LR that is also told the medications of the visit before, boosted trees on each class's own past, one hidden layer over everything.
# Its upper steps learn nothing.
# These records were drawn by a program, and a program can be asked what it would say, told first the true conditions of a patient (coded or not), then also how ill the patient was, then also what served last time, then everything except the final draw.
# What it is not told it averages over ({py:func}`medrec.data.synthetic.model.expected`).

# %% tags=["hide-input"]
#| name: fig-lr-ladder
#| alt: Dot chart of a ladder of nine steps, Jaccard on the horizontal axis, one marker for first and one for later
#|   visits on each step, with 95 % intervals. Steps that read today's codes have both markers close together; the
#|   boosted trees on the past move the later visits to the right, far more than the first ones. The steps of the
#|   generator stand apart on the right, the last one far ahead.
#| caption: What each step of the ladder is worth (Jaccard, ↑ better), for a patient's first visit and for later ones.
#|   Test patients of {glue:text}`ladder_line`; bars: 95 % bootstrap intervals over patients. Lower part: learnt from
#|   training patients. Upper part: the generator's own probabilities. {glue:text}`only_later` {glue:text}`ladder_note`
kept_rungs = learnable.read(
    records if records.source != "synthetic" else learnable.STORED[-1]
)
rungs = kept_rungs.table("ladder")
steps = rungs["step"].unique(maintain_order=True).to_list()
fig, ax = plt.subplots(figsize=(plotting.FULL, 3.4))
for visits, marker, color, shift in (
    ("first", "o", plotting.BLUE, 0.14),
    ("later", "s", plotting.INK, -0.14),
):
    part = rungs.filter(scored=visits)
    ax.errorbar(
        part["Jaccard"],
        [steps.index(step) + shift for step in part["step"]],
        xerr=[
            part["Jaccard"] - part["Jaccard low"],
            part["Jaccard high"] - part["Jaccard"],
        ],
        fmt=marker,
        color=color,
        ms=4,
        lw=1,
        label=f"{visits} visits",
    )
if learnt := [name for name in steps if name not in learnable.GENERATOR]:
    ax.axhline(len(learnt) - 0.5, color=plotting.INK, lw=0.8, ls=":")
ax.set(xlabel="Jaccard ↑", yticks=range(len(steps)), yticklabels=steps)
ax.legend(loc="lower right")
show(fig)

# %% tags=["hide-input"]
rung_of = {(row["step"], row["scored"]): row for row in rungs.iter_rows(named=True)}


def over_lr(step, visits):
    """Difference of Jaccard to the tuned LR, with its interval."""
    row = rung_of[step, visits]
    return Interval(*(row[f"over LR{end}"] for end in ("", " low", " high")), np.nan)


def above_lr(step, visits):
    """The same in words for the text."""
    return signed(over_lr(step, visits))


learners = [name for name in learnt if name not in ("LR", "LR as published")]
best_first, best_later = (
    max(learners, key=lambda name: rung_of[name, visits]["Jaccard"])
    for visits in ("first", "later")
)
trees = "LR, trees on the past"
only_later = [
    name
    for name in learners
    if abs(over_lr(name, "first").value) < SMALLEST_DIFFERENCE["jaccard"]
    and over_lr(name, "later").low > 0
]
tested = page.thousands(rung_of["LR", "all"]["patients"])
ladder_name = titled(kept_rungs.cohort, kept_rungs.source)
loss = over_lr("LR as published", "all")
back = Interval(-loss.value, -loss.high, -loss.low, np.nan)

# %% tags=["remove-cell"]
aggregate = partial(page.about, records)
page.glue(
    ladder_line=aggregate(
        f"{ladder_name}, {tested} patients, {page.thousands(rung_of['LR', 'all']['visits'])} visits"
    ),
    ladder_cohort=aggregate(ladder_name),
    ladder_c=rung_of["LR", "all"]["C"],
    ladder_note=aggregate(kept_rungs.note),
    which_records=aggregate(
        f"This section uses a larger cohort, {ladder_name}, of which {tested} patients are tested; so its numbers are not those above."
        if kept_rungs.cohort != records.name
        else f"{tested} patients are tested."
    ),
    only_later=aggregate(
        f"Learnt steps within {SMALLEST_DIFFERENCE['jaccard']} of LR on first visits and above it on later ones: {', '.join(only_later)}."
        if only_later
        else "No learnt step stays at LR on first visits and gains on later ones."
    ),
    published_loss=aggregate(signed(loss)),
    both_ladder=aggregate(signed(back)),
    best_first=aggregate(best_first),
    best_first_gain=aggregate(above_lr(best_first, "first")),
    best_later=aggregate(best_later),
    best_later_gain=aggregate(above_lr(best_later, "later")),
    best_later_first=aggregate(above_lr(best_later, "first")),
    hidden_first=aggregate(above_lr("one hidden layer", "first")),
    hidden_later=aggregate(above_lr("one hidden layer", "later")),
    recalibrated=aggregate(
        "Its trees know no more there than LR's log-odds, the class, and that nothing came before: they can only recalibrate, class by class."
        if best_first == trees
        else "A first visit has no past to tell it."
    ),
    threshold_answer=page.about(
        records,
        f"A tuned threshold alone changes LR by {signed(gain)}: {raised.word}. "
        f"With a penalty chosen on validation patients too, the change is {signed(both_change)} ({n_tested} test patients; {page.cohort_line(records)}), "
        f"and {signed(back)} on {tested} test patients of {ladder_name}.",
        patients=n_tested,
    ),
    chains_answer=page.about(
        records,
        f"Ten chains of regressions, with the same penalty as LR, change it by {signed(penalised['jaccard'])}; that they recommend better sets: {penalised_verdict.word}.",
        patients=n_tested,
    ),
    past_answer=aggregate(
        f"What a system makes of earlier visits shows on later ones: the best learner ({best_later}) gains {above_lr(best_later, 'later')} over the tuned LR there, and {above_lr(best_later, 'first')} on first visits ({ladder_name})."
    ),
)
upper = [name for name in steps if name in learnable.GENERATOR]


def step_up(high, low, visits):
    """Difference of Jaccard between two steps of the generator."""
    ends = (rung_of[upper[at], visits]["Jaccard"] for at in (high, low))
    return f"{np.subtract(*ends):+.3f}"


page.glue(
    upper_lines=aggregate(
        "The records of this page have no generator that could be asked, so the ladder ends here."
        if not upper
        else f"Told the true conditions, the generator stands {above_lr(upper[0], 'first')} above LR on first visits: conditions that nobody coded, and rare ones that training shows too seldom. "
        f"How ill the patient was adds {step_up(1, 0, 'first')} on first visits; with what served last time, too, {step_up(2, 0, 'later')} on later ones. "
        f"The last step, to {rung_of[upper[3], 'all']['Jaccard']:.3f} over all visits, is what stays with a patient and shows in no code: a long past hints at it, a first visit says nothing of it. "
        f"The distance from there to 1 is chance."
    ),
)

# %% [markdown]
# In one minute:
#
# - **A first visit shows how well a system reads today's codes, and hardly anything else.** The best step that learns more than LR is *{glue:text}`best_first`*, {glue:text}`best_first_gain` from the tuned LR. {glue:text}`recalibrated` One hidden layer, free to combine the codes, changes LR's score by {glue:text}`hidden_first`. Where a system leads here by much, look for a threshold or a leak first.
# - **A later visit shows whether a system uses the past.** *{glue:text}`best_later`* is worth {glue:text}`best_later_gain` over LR there; one hidden layer {glue:text}`hidden_later`. A system that sees past medications and does not get this far has left them lying.
# - **Some of the distance is protocol.** LR as published tables run it differs from the tuned LR by {glue:text}`published_loss` on all visits, threshold and penalty together.
# - **Much of the rest is out of reach.** {glue:text}`upper_lines`
#
# The rungs are the reference lines of later chapters.
# They describe these records; on real ones the lower part can be measured (`python -m medrec.experiments.ladder --cohort mimic3`), and the upper part nobody knows.

# %% tags=["hide-input"]
show(
    page.table(
        pl.DataFrame(
            [
                {
                    "step": name,
                    "is told": learnable.STEPS[name],
                    **{
                        f"{visits} visits": Interval(
                            *(
                                rung_of[name, visits][f"Jaccard{end}"]
                                for end in ("", " low", " high")
                            ),
                            np.nan,
                        ).format(3)
                        for visits in ("all", "first", "later")
                    },
                    "PRAUC, all": f"{rung_of[name, 'all']['PRAUC']:.3f}",
                    "C": "–" if (C := rung_of[name, "all"]["C"]) is None else f"{C:g}",
                }
                for name in steps
            ]
        ),
        caption="The ladder in numbers: Jaccard with 95 % bootstrap intervals over patients, PRAUC, and C of the regression. "
        f"Test patients of {ladder_name}, {tested} patients; cut and penalty from validation patients in all rows but the first. "
        f"The text takes differences before rounding. {kept_rungs.note}",
    )
)

# %% [markdown]
# ## The audit
#
# ### What the papers do not say
#
# - **The formula of LR.** No paper prints {eq}`eq-lr`; it is what the released baseline scripts fit.
# - **The threshold of LR.** One half, in the released scripts; no table says so, and no other system is tuned either.
# - **Its split and its average.** Another seed and another mean than the rows beside it; see *Another split, another average*. ECC has a third seed, and no bootstrap.
# - **What ECC recommends.** The majority of votes, while its PRAUC ranks by the mean probability.
# - **The penalty.** scikit-learn's default in SafeDrug's repository, C = 1/1.1 in GAMENet's.
# - **Classes that training never shows.** The scripts let the library warn; for ECC they take such classes out and recommend them never. Here their probability is 0 in both systems, and a class that every training visit holds has probability 1.
# - **Not a choice of ours, but a limit of all systems:** the "current" diagnoses are billing codes written after discharge, as {doc}`01_the_task` explains.
#
# ### Beside the printed gaps
#
# The tables in print compare LR, cut at one half, with systems whose loss sets another threshold.
# With weights .95 and .05 of cross-entropy and margin, $n$ medications of $M$, and $k = .05/.95$, a trained probability of one half stands for a true frequency of $(2 + k n)/(4 + k M)$.
# With the $n$ and $M$ of these records that is {glue:text}`margin_cut:.3f`, with 20 of 131, about those of MIMIC-III, .280.
# A gap there and a gain here are of different records, so neither is divided by the other.

# %% tags=["hide-input"]
np.testing.assert_allclose((2 + k * 20) / (4 + k * 131), 0.280, atol=5e-4)
safedrug = grids.read("safedrug", records, default="synthetic")
own_kept = safedrug.cohort == records.name and seed == 0
here = {name: intervals[name]["jaccard"].value for name in ("LR at .5", "LR, tuned")}
if own_kept:
    rival = safedrug.by_key(threshold="own")["safedrug"]["value"]
    here["SafeDrug, own threshold"] = rival
there = {name: printed[name]["Jaccard"] for name in ("LR", "SafeDrug", "BiMoRec")}
show(
    page.table(
        pl.DataFrame(
            [
                {"records": where, "system": name, "Jaccard": value}
                | {"from LR at one half": value - next(iter(scored.values()))}
                for where, scored in (
                    ("MIMIC-III, printed", there),
                    (records.name, here),
                )
                for name, value in scored.items()
            ]
        ),
        caption=f"LR at one half beside other systems, printed (BiMoRec, table 2) and on the test patients of {page.cohort_line(records)}. "
        + (
            f"SafeDrug: kept rows. {safedrug.note}"
            if own_kept
            else f"No rows of SafeDrug are kept for these patients; medrec chapter 06 -p cohort {records.name} -p profile full trains them."
        ),
        digits=4,
    )
)

# %% [markdown]
# ### What a chain is taught, and more chains
#
# While it is trained, a chain hears true answers; when asked, it hears its own.
# Break it: teach one chain with its own answers instead.


# %%
def taught(X, Y, order, *, own):
    """Weights of a chain that hears its own answers, or the true ones."""
    F, M = X.shape[1], Y.shape[1]
    coef, links, heard = np.zeros((M, F)), np.zeros((M, M)), Y.astype(float)
    start = np.where(Y.mean(0) > 0.5, np.inf, -np.inf)
    for k, m in enumerate(order):
        if 0 < Y[:, m].mean() < 1:
            columns = sparse.hstack([X, sparse.csr_matrix(heard[:, order[:k]])], "csr")
            fit = LogisticRegression(C=ecc.C, max_iter=1000).fit(columns, Y[:, m])
            coef[m], links[m, order[:k]] = fit.coef_[0, :F], fit.coef_[0, F:]
            start[m] = fit.intercept_[0]
            heard[:, m] = fit.predict(columns) if own else Y[:, m]
    return coef, links, start


def ask_one(weights, cohort):
    coef, links, start = weights
    evidence = np.asarray(current_codes(cohort) @ coef.T) + start
    return ask_chains(evidence[None], links[None], ecc.orders_[:1])[0]


own = taught(current_codes(train_part), given_train, ecc.orders_[0], own=True)
examine("1 chain, own answers", ask_one(own, test), ask_one(own, validation))

# %% [markdown]
# **Check.** The same loop with true answers gives the first chain of the fitted ensemble.
# Fitting it takes as long again, so the page compares the first twenty questions.

# %%
first = ecc.orders_[0][:20]
part = taught(current_codes(train_part), given_train, first, own=False)
np.testing.assert_allclose(part[0][first], ecc.coef_[0][first], atol=2e-3)
np.testing.assert_allclose(part[1][first], ecc.links_[0][first], atol=2e-3)
taught_rows = [row_of("1 chain, own answers", at) for at in ("at .5", "tuned")]
changes = {
    name: paired_difference(
        kept["1 chain, mean", name], kept["1 chain, own answers", name], seed=seed
    )["jaccard"]
    for name in ("at .5", "tuned")
}
unheard = all(d.low <= 0 <= d.high for d in changes.values())
page.glue(
    own_half=page.about(records, signed(changes["at .5"]), patients=n_tested),
    own_tuned=page.about(records, signed(changes["tuned"]), patients=n_tested),
    own_words=page.about(
        records,
        "What a chain hears while it learns makes no difference "
        "that these patients can show."
        if unheard
        else "So what a chain hears while it learns makes a difference.",
        patients=n_tested,
    ),
)

# %% [markdown]
# Taught with its own answers, the chain changes its Jaccard by {glue:text}`own_half` at one half and by {glue:text}`own_tuned` at tuned thresholds.
# {glue:text}`own_words`
#
# Chains of one fit are a nested family, since the first two of ten are an ensemble of two; so one fit gives four ensembles.
# Two chains recommend longer lists than one, because half of two votes is one: the vote is a union.
# One more chain asks about the commonest class first.

# %% tags=["hide-input"]
others = [row for row in rows if not row["system"].startswith(shown_first)]
show(
    page.table(
        pl.DataFrame(others + taught_rows),
        caption="Further chains, cut at one half and at a tuned threshold. "
        + about_pairs,
        digits={"exclusive pairs": 1},
    )
)

# %% [markdown]
# At one half, by votes, ten chains change LR's Jaccard by {glue:text}`chains_half`.
# They change its PRAUC by {glue:text}`chains_prauc`; with $C = $ {glue:text}`best_c:g` for both, by {glue:text}`chains_penalised_prauc`, and that penalty alone changes the PRAUC of LR by {glue:text}`penalty_prauc`.
#
# ### Misconceptions
#
# "A probability of .4 means: leave it out."
# : At the Jaccard that BiMoRec prints, {glue:text}`printed_best:.4f`, the rule {eq}`eq-threshold-rule` cuts at {glue:text}`printed_cut:.2f` and includes it.
#
# "A larger C regularises more."
# : C multiplies the loss; a larger one trusts the data more. See {numref}`fig-lr-c`.
#
# "Chains know interactions, so they win."
# : The order decides what they can say, {numref}`fig-ecc-tree`, and a lower threshold undoes their refusals, {numref}`fig-ecc-chains`.
#
# "The mean F1 is the F1 of the means."
# : {doc}`01_the_task` shows both; two visits are enough, as the next cell shows.

# %%
precision_recall = np.array([[1.0, 0.2], [0.2, 1.0]])
f1_each = 2 * precision_recall.prod(1) / precision_recall.sum(1)
mean_p, mean_r = precision_recall.mean(0)
np.testing.assert_allclose(f1_each.mean(), 1 / 3)
np.testing.assert_allclose(2 * mean_p * mean_r / (mean_p + mean_r), 0.6)
show((round(float(f1_each.mean()), 4), 0.6))

# %% [markdown]
# ## Summary
#
# - A one-code LR reproduces the two frequencies of its 2×2 table, pulled together by the penalty.
# - At the optimum predictions balance, and every weight equals C times the residuals of its code; a second optimiser agrees.
# - A chain that asks for the best candidate first can lose it; six orders of three classes give two answers, and a vote hides the choice.
# - For many nearly independent classes the set with the highest expected Jaccard is cut near $J/(1+J)$, well below one half.
# - Split and average alone move LR's score, and so do its threshold and its penalty, together by {glue:text}`both_ladder` on {glue:text}`ladder_cohort`; none of that is a better system.
# - First visits measure how today's codes are read; what a system makes of the past shows on later visits: *{glue:text}`best_later`* gains {glue:text}`best_later_gain` there, {glue:text}`best_later_first` on first ones.
#
# ## Exercises
#
# ```{exercise}
# :label: ex-lr-ap
#
# Scores (.9, .5, .5, 0, 0), truth (1, 0, 1, 0, 0).
# Compute the average precision by hand.
# What would a lucky order of the tie print?
# ```
#
# ```{solution-start} ex-lr-ap
# :class: dropdown
# ```

# %%
shared = metrics.average_precision([[1, 0, 1, 0, 0]], [[0.9, 0.5, 0.5, 0, 0]])[0]
lucky = metrics.average_precision([[1, 0, 1, 0, 0]], [[0.9, 0.5, 0.51, 0, 0]])[0]
np.testing.assert_allclose([shared, lucky], [1 * 0.5 + 2 / 3 * 0.5, 1.0])
show((round(float(shared), 4), float(lucky)))

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-lr-unseen
#
# A class occurs in no training visit.
# What do LR, ECC and the released scripts recommend, and can any threshold change that?
# ```
#
# ```{solution} ex-lr-unseen
# :class: dropdown
#
# Here its probability is 0 in both systems, below every threshold; the scripts get there by a warning in LR, where the library predicts a constant, and by taking the class out in ECC.
# The same set in all cases: it is never recommended, and each visit that holds it loses recall.
# ```
#
# ```{dropdown} Quiz: does LR use the last visit's medications?
# No. It sees the diagnoses and procedures of the visit itself.
# ```
#
# ```{dropdown} Quiz: five of ten chains vote yes. Is the class recommended?
# Yes: half of the votes is enough.
# ```
#
# ```{dropdown} Quiz: which metric prefers longer lists in toy B?
# F1.
# ```
#
# ```{dropdown} Quiz: which condition fails when the intercept is penalised?
# The first of {eq}`eq-lr-optimum`: predictions no longer add up to the number of times the class was given.
# ```
#
# ```{dropdown} Quiz: why does a tuned threshold need validation patients?
# The threshold that is best on the test patients fits their noise; a system tuned there would be compared unfairly.
# ```
#
# ## References
#
# - {cite:t}`shang2019gamenet`: LR as a baseline, and the previous visit as a reference point.
# - {cite:t}`read2011chains`: classifier chains and their ensemble.
# - {cite:t}`mu2024bimorec`, {cite:t}`tan2024nlammr`: the printed rows of LR and ECC.
