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
# # One regression per drug: what today's codes already say (LR)
#
# What does a linear look at today's codes predict, and how much of its distance to deep systems is a threshold?
#
# ```{admonition} Objectives
# :class: objectives
# After this chapter you can
# - *compute* a one-code logistic regression from a 2×2 table,
# - *derive* its two optimum conditions and *check* them on a fitted model,
# - *choose* the set with the highest expected Jaccard, and name the threshold that does so,
# - *separate* protocol from model in a 2×2 of scores.
# ```
#
# **Prerequisites.** The metrics and reference points of {doc}`01_the_task`, the multi-hot visits of {doc}`02_from_tables_to_visits`, the {term}`ATC` level-3 classes of {doc}`03_drug_knowledge`.

# %%
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import polars as pl
import torch
from sklearn.linear_model import LogisticRegression
from torch.nn.functional import (
    binary_cross_entropy_with_logits as bce_with_logits,
)

from medrec import metrics, plotting, protocol
from medrec.book import page
from medrec.data import load_cohort, privacy
from medrec.data.split import split_patients
from medrec.experiments import published
from medrec.knowledge.interactions import default_ddi
from medrec.models.baselines import LastVisit, Popularity
from medrec.models.lr import LR

# %% tags=["parameters"]
seed: int = 0  # seed of the split and of the bootstrap
cohort: str = "synthetic"  # any cohort that medrec.data.load_cohort knows
device: str = "cpu"  # LR runs on the processor whatever stands here
profile: str = "quick"  # quick: a coarse grid of C; full: the whole grid

# %% tags=["hide-input"]
plotting.use_style()
records = load_cohort(cohort)
show = partial(privacy.show, records)  # closed records: aggregates only
page.at_a_glance(
    {"seed": seed, "cohort": cohort, "device": device, "profile": profile},
    paper="none of the three; LR is a row in the tables of two of them",
    data=page.cohort_line(records),
    learned="one weight for each pair of a code and a medication class",
    full_run="seconds on two cores at 600 patients",
)

# %% [markdown]
# ## The problem on one visit
#
# A hundred visits, one code $c$, one medication class $m$.
# Of thirty visits with the code, eighteen received the class; of seventy without it, fourteen did.
# These counts are data written on this page, so no seed and no library can move them.

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
        caption="The toy of this chapter: 100 visits, written by hand.",
    )
)

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
# No paper of the three prints this formula; it is what their baseline scripts fit.


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
# With the default $C = 1$ both probabilities are pulled towards the base rate.

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

# %% tags=["hide-input"] mystnb={"image": {"alt": "Line chart of predicted probability against the regularisation constant C on a log axis. The line for visits with the code and the line for visits without it start together at the base rate of 0.32 and part towards 0.6 and 0.2 as C grows."}, "figure": {"name": "fig-lr-c", "caption": "Predicted probability against C, the inverse strength of the penalty. Toy of this chapter, 100 visits written by hand, no interval: the curve is exact."}}
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
# The fit minimises $C \sum_v \ell(y_v, p_v) + \tfrac12 \lVert w \rVert^2$ over visits $v$.
# Setting its two derivatives to zero gives
#
# $$
# \sum_{v} (y_v - p_v) = 0, \qquad w_c = C \sum_{v} x_{vc}\,(y_v - p_v) .
# $$ (eq-lr-optimum)
#
# The first says that the model recommends a class, in expectation, as often as it was given.
# The second says that a weight *is* the total surprise that its code leaves behind.

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

# %% tags=["hide-input"] mystnb={"image": {"alt": "Bar chart of predicted probability for a code seen 1, 3, 10 and 100 times, always with the class. The bars rise from 0.44 to 0.60, 0.79 and 0.96: few sightings are not certainty."}, "figure": {"name": "fig-lr-rare", "caption": "Probability that LR with C = 1 gives to a class that was present every time the code was seen. Toy numbers, exact. Three sightings are not certainty."}}
sightings = [1, 3, 10, 100]
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
# ```{exercise}
# :label: ex-lr-sightings
#
# From how many sightings on does LR with $C = 1$ say more than one half?
# ```
#
# ````{solution} ex-lr-sightings
# :class: dropdown
#
# From two on, as the assertions above show.
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
# The paper does not discuss the threshold; the rule is a first-order argument, so its check is an exact computation.
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
# **Check.** A cut at one half keeps 13 classes, though 20.2 are given on average; the best $k$ lies where {eq}`eq-threshold-rule` puts it, for both metrics.

# %%
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

# %% tags=["hide-input"] mystnb={"image": {"alt": "Two panels over the probability threshold. Expected Jaccard rises from the left to a peak near threshold 0.31 and falls to 0.38 at 0.5; the size of the set falls steadily and crosses the true mean of 20 near threshold 0.36."}, "figure": {"name": "fig-lr-threshold", "caption": "Expected Jaccard (↑ better) and size of the recommended set against the threshold, for 131 independent classes with known probabilities. Exact values, no interval. A cut at one half recommends too little."}}
fig, (left, right) = plt.subplots(1, 2, figsize=(plotting.FULL, 2.8))
left.plot(pi[ks - 1], jaccards)
right.plot(pi[ks - 1], ks)
right.axhline(pi.sum(), color="0.5", lw=1, ls=":", label="mean size of the true set")
for ax in (left, right):
    ax.axvline(0.5, color="0.5", lw=1, ls="--")
    ax.axvline(cut, color="C1", lw=1)
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
# The expected change is $\bigl(\pi - (1-\pi) J\bigr)/U$, positive when $\pi > J/(1+J)$; and $F_1 = 2J/(1+J)$.
# ````

# %% [markdown]
# ## Putting it together
#
# The system of every table is {py:class}`~medrec.models.lr.LR`: one regression for each medication class, on a sparse multi-hot matrix of diagnoses and procedures.
# {py:meth}`~medrec.models.lr.LR.fit` sees training patients only, {py:func}`~medrec.protocol.tune_threshold` validation patients only.

# %%
split = split_patients(records.n_patients, seed)
train, validation, test = (
    records.select(p) for p in (split.train, split.validation, split.test)
)
ddi, ddi_name = default_ddi(records.vocab["medication"].codes)
lr = LR().fit(train)
scores = lr.predict_proba(test)
tuned = protocol.tune_threshold(validation, lr.predict_proba(validation))
show(
    pl.DataFrame(
        {
            "patients": [
                train.n_patients,
                validation.n_patients,
                test.n_patients,
            ],
            "visits": [train.n_visits, validation.n_visits, test.n_visits],
        }
    )
)

# %% [markdown]
# **Check.** The fitted model obeys both conditions of {eq}`eq-lr-optimum` for every class with something to regress, up to the tolerance of its optimiser.

# %%
residual = train.codes["medication"].multi_hot(
    records.n_medications
) - lr.predict_proba(train)
fitted = np.isfinite(lr.intercept_)
assert np.abs(residual[:, fitted].sum(0)).max() < 1
x = np.hstack(
    [
        train.codes[kind].multi_hot(len(records.vocab[kind]))
        for kind in ("diagnosis", "procedure")
    ]
)
np.testing.assert_allclose(
    lr.C * x.T.astype(float) @ residual[:, fitted], lr.coef_[fitted].T, atol=0.1
)
show(int(fitted.sum()))

# %% [markdown]
# ## Results
#
# Three thresholds for one fitted model, beside two reference points that read no diagnosis.
# The margin term in the loss of the SafeDrug line acts as a threshold: with weights .95 and .05, $n$ medications of $M$, and $k = .05/.95$, a trained probability of one half stands for a true frequency of $(2 + k n)/(4 + k M)$.
# LR is cut there too, because the published tables compare LR at one half with systems trained on that loss.

# %%
k = 0.05 / 0.95
margin_cut = (2 + k * 20) / (4 + k * 131)
np.testing.assert_allclose(margin_cut, 0.280, atol=5e-4)
systems = {
    "LR at .5": (scores >= 0.5, scores),
    f"LR at {margin_cut:.2f}": (scores >= margin_cut, scores),
    "LR, tuned": (scores >= tuned, scores),
}
popularity = Popularity().fit(train)
systems["popularity"] = (popularity.predict(test), popularity.predict_proba(test))
results = {
    name: protocol.evaluate(test, sets, ddi, scores=p, patients=split.test)
    for name, (sets, p) in systems.items()
}
repeat = LastVisit().fit(train)
has_past = repeat.scored(test).any()
if has_past:
    results["last visit"] = protocol.evaluate(
        test,
        repeat.predict(test),
        ddi,
        scored=repeat.scored(test),
        patients=split.test,
    )
intervals = {
    name: protocol.bootstrap(result, seed=seed) for name, result in results.items()
}
show(
    page.table(
        pl.DataFrame(
            [
                {"system": name, "visits": int(results[name].summary()["visits"])}
                | {
                    label: interval[key].format(3)
                    for key, label in protocol.COLUMNS.items()
                }
                for name, interval in intervals.items()
            ]
        ),
        caption=f"Test patients of {page.cohort_line(records)}; one split. Brackets: 95 % bootstrap intervals over patients. "
        f"DDI rate with {ddi_name}. Last visit skips first visits, so its row is not comparable with the others.",
    )
)

# %% tags=["remove-cell"]
gain = protocol.paired_difference(results["LR at .5"], results["LR, tuned"], seed=seed)[
    "jaccard"
]
table2 = published.table("bimorec", 2).filter(pl.col("database") == "MIMIC-III")
printed = {row["system"]: row for row in table2.iter_rows(named=True)}
true_size = test.describe()["medication_per_visit"]
page.glue(
    cohort_line=page.cohort_line(records),
    tuned=tuned,
    j_at_half=intervals["LR at .5"]["jaccard"].value,
    j_tuned=intervals["LR, tuned"]["jaccard"].value,
    n_at_half=intervals["LR at .5"]["n_medications"].value,
    n_tuned=intervals["LR, tuned"]["n_medications"].value,
    gain=page.about(records, gain.format(4), patients=test.n_patients),
    true_size=true_size,
    printed_lr=printed["LR"]["Jaccard"],
    printed_lr_number=printed["LR"]["medications"],
    printed_best=printed["BiMoRec"]["Jaccard"],
    printed_best_number=printed["BiMoRec"]["medications"],
    printed_gap=printed["BiMoRec"]["Jaccard"] - printed["LR"]["Jaccard"],
)

# %% [markdown]
# At one half LR recommends {glue:text}`n_at_half:.1f` classes where {glue:text}`true_size:.1f` were given; tuned on validation patients, to {glue:text}`tuned:.2f`, it recommends {glue:text}`n_tuned:.1f`.
# Its Jaccard goes from {glue:text}`j_at_half:.3f` to {glue:text}`j_tuned:.3f`, a paired difference of {glue:text}`gain`, and nothing but one number changed.
#
# BiMoRec's table prints LR with {glue:text}`printed_lr_number:.1f` classes and a Jaccard of {glue:text}`printed_lr:.4f`, BiMoRec with {glue:text}`printed_best_number:.1f` and {glue:text}`printed_best:.4f`: a gap of {glue:text}`printed_gap:.4f` between a system cut at one half and one whose loss sets its own threshold.
# How much of *that* gap is a threshold can only be measured on MIMIC-III; this page measures it on {glue:text}`cohort_line`.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Line chart of the Jaccard of LR on test patients against its threshold, with a shaded 95 % band. The curve rises to a broad top near threshold 0.3 to 0.4 and falls towards 0.5 and beyond; vertical lines mark .5 and the tuned threshold."}, "figure": {"name": "fig-lr-tuned", "caption": "Jaccard (↑ better) of one fitted LR against its threshold, on the test patients of {glue:text}`cohort_line`. Band: 95 % bootstrap interval over patients. The tuned threshold was chosen on other patients. Notice how flat the top is, and that one half lies beside it."}}
grid = np.arange(0.05, 0.81, 0.025)
curve = [
    protocol.bootstrap(
        protocol.evaluate(test, scores >= t, ddi, patients=split.test),
        resamples=200,
        seed=seed,
    )["jaccard"]
    for t in grid
]
fig, ax = plt.subplots(figsize=(plotting.ONE_COLUMN, 2.8))
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
ax.legend()
show(fig)

# %% [markdown]
# ### Protocol noise
#
# The released scripts shuffle the patients of LR with a seed of their own and average over visits, while the other systems take patients in file order and average over patients.
# One model, four scores:

# %%
rows = []
for name, other in {
    "shuffled by seed": split,
    "file order": split_patients(records.n_patients, None),
}.items():
    fitted_lr = lr if other is split else LR().fit(records.select(other.train))
    held_out = records.select(other.test)
    p = fitted_lr.predict_proba(held_out)
    row = {"split": name}
    for aggregation in ("patients", "visits"):
        rules = protocol.Protocol("this table", aggregation=aggregation)
        row[f"mean over {aggregation}"] = protocol.evaluate(
            held_out, p >= 0.5, ddi, protocol=rules
        ).summary()["jaccard"]
    rows.append(row)
noise = pl.DataFrame(rows)
cells = noise.select(pl.exclude("split")).to_numpy()
page.glue(noise=float(cells.max() - cells.min()))
show(
    page.table(
        noise,
        caption=f"Jaccard of LR at threshold .5 on {page.cohort_line(records)}, by split and by average. No interval: the table shows the spread of protocols, not of patients.",
    )
)

# %% [markdown]
# The largest gap between two cells is {glue:text}`noise:.4f`.
# Later chapters quote it as *protocol noise*: a difference of that size between rows with different protocols needs no better model.
#
# The average matters because patients with many visits count more in one of the two.

# %%
values, owner = np.array([0.2, 0.6, 0.6, 0.6, 0.6]), np.array([0, 1, 1, 1, 1])
over_patients = np.mean([values[owner == patient].mean() for patient in (0, 1)])
np.testing.assert_allclose([values.mean(), over_patients], [0.52, 0.40])
show((values.mean(), over_patients))

# %% [markdown]
# ### Does the penalty matter?

# %%
penalties = (
    [0.01, 0.1, 1.0, 10.0]
    if profile == "quick"
    else [0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0]
)
sweep = []
for C in penalties:
    model = lr if C == lr.C else LR(C=C).fit(train)
    best = protocol.tune_threshold(validation, model.predict_proba(validation))
    result = protocol.evaluate(
        test, model.predict_proba(test) >= best, ddi, patients=split.test
    )
    sweep.append(protocol.bootstrap(result, seed=seed)["jaccard"])

# %% tags=["hide-input"] mystnb={"image": {"alt": "Dots with vertical intervals: Jaccard of LR at its tuned threshold for C from 0.01 to 10 on a log axis. Intervals overlap for all values between 0.1 and 10."}, "figure": {"name": "fig-lr-sweep", "caption": "Jaccard (↑ better) of LR at its own tuned threshold against C, on the test patients of {glue:text}`cohort_line`. Bars: 95 % bootstrap intervals over patients. Notice that the choice of C moves less than the width of a bar over most of the range."}}
fig, ax = plt.subplots(figsize=(plotting.ONE_COLUMN, 2.6))
mid = np.array([c.value for c in sweep])
ends = np.array([[c.value - c.low, c.high - c.value] for c in sweep]).T
ax.errorbar(
    penalties,
    mid,
    yerr=ends,
    color=look.color,
    marker=look.marker,
    ls="none",
    capsize=3,
)
ax.set(xscale="log", xlabel="C (log scale)", ylabel="Jaccard ↑")
show(fig)

# %% tags=["remove-cell"]
page.glue(
    sweep_range=float(mid.max() - mid.min()),
    sdi=protocol.SMALLEST_DIFFERENCE["jaccard"],
)

# %% [markdown]
# Over this grid the tuned Jaccard moves by {glue:text}`sweep_range:.4f`; the smallest difference of interest, fixed before any run, is {glue:text}`sdi`.
#
# ## What the papers do not say
#
# - **The threshold of LR.** One half, in the released scripts; no table says so, and no other system is tuned either.
# - **Its split and its average.** Another seed and another mean than the rows beside it; see the table on protocol noise.
# - **The penalty.** scikit-learn's default in SafeDrug's repository, C = 1/1.1 in GAMENet's.
# - **Classes that training never shows.** The scripts let the library warn; here their probability is 0, and a class that every training visit holds has probability 1.
# - **Not a choice of ours, but a limit of all systems:** the "current" diagnoses are billing codes written after discharge, as {doc}`01_the_task` explains.
#
# ## Misconceptions
#
# "A probability of .3 means: leave it out."
# : At the Jaccard of today's systems the rule {eq}`eq-threshold-rule` includes it.
#
# "A larger C regularises more."
# : C multiplies the loss; a larger one trusts the data more. See {numref}`fig-lr-c`.
#
# "The mean F1 is the F1 of the means."
# : {doc}`01_the_task` shows both and the gap between them.
#
# ## Summary
#
# - A one-code LR reproduces the two frequencies of its 2×2 table, pulled together by the penalty.
# - At the optimum predictions balance, and every weight equals C times the residuals of its code; a second optimiser agrees.
# - The set with the highest expected Jaccard cuts at $J/(1+J)$, well below one half.
# - Split and average alone move LR's score; that spread is protocol, not model.
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
show((shared, lucky))

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-lr-unseen
#
# A class occurs in no training visit.
# What does LR recommend, and can any threshold change that?
# ```
#
# ```{solution} ex-lr-unseen
# :class: dropdown
#
# Its probability is 0, below every threshold: it is never recommended, and each visit that holds it loses recall.
# ```
#
# ```{dropdown} Quiz: does LR use the last visit's medications?
# No. It sees the diagnoses and procedures of the visit itself.
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
# - {cite:t}`mu2024bimorec`: the printed rows of its table 2.
