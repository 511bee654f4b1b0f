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
# # Draw the row again: three auto-encoders of a patient (MultiVAE, CDAE, DiffRec)
#
# What do three models that rebuild a patient's row of medications learn, and how much of it is a matter of loss and schedule?
#
# Take all that a patient was ever given as one row of zeros and ones, hide a part of it, and ask a network for the whole.
# Whatever it writes where nothing stood is a recommendation.
# One of the three calls this a variational auto-encoder, one a denoising auto-encoder and one a diffusion.
# One word in the configuration of the second decides whether it learns to answer with nothing.
#
# ```{admonition} Objectives
# :class: objectives
# After this chapter you can
# - *compute* a multinomial likelihood, a KL term and its weight after any number of steps,
# - *derive* what an absolute, a square and a logistic error make of a rare medication,
# - *compute* the noise, the signal-to-noise ratio and the way back of a schedule,
# - *reduce* fifty steps of a flat schedule to one,
# - *convert* between three definitions of Recall@K.
# ```
#
# **Prerequisites.** Binary cross-entropy and the task in {doc}`01_the_task`; logistic regression as a row to beat in {doc}`06_classical`.
#
# **Code.** {py:mod}`medrec.models.multivae`, {py:mod}`medrec.models.cdae`, {py:mod}`medrec.models.diffrec` and {py:mod}`medrec.nn.noise`.

# %% tags=["hide-input"]
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import polars as pl
import torch

from medrec import plotting
from medrec.book import page
from medrec.book.pictures import plot_system
from medrec.data import load_cohort, privacy
from medrec.metrics import recall_at_k
from medrec.models.cdae import entry_losses
from medrec.models.diffrec import chances_of_steps, weights_of_steps
from medrec.models.ease import item_weights
from medrec.models.multivae import (
    kl_to_standard,
    multinomial_loss,
    scaled_anneal_steps,
    weight_of_kl,
)
from medrec.nn.dropout import dropout
from medrec.nn.noise import NoiseSchedule
from medrec.tasks.evaluation import bootstrap
from medrec.tasks.ranking import COLUMNS
from medrec.training import train

# %% tags=["parameters", "hide-input"]
seed: int = 0  # of the small trainings on this page
cohort: str = "synthetic"  # any cohort that medrec.data.load_cohort knows
device: str = "cpu"  # where the small trainings run
profile: str = "quick"  # quick: a few epochs; full: until patience has run out

# %% tags=["hide-input"]
plotting.use_style()
records = load_cohort(cohort)
show = partial(privacy.show, records)  # closed records: aggregates only
page.at_a_glance(
    {"seed": seed, "cohort": cohort, "device": device, "profile": profile},
    paper="MultiVAE (Liang et al., 2018), CDAE (Wu et al., 2016), DiffRec (Wang et al., 2023)",
    data=page.cohort_line(records),
    learned="the three, with their controls, in small trainings on this page",
    full_run="on two cores at 6 350 patients: about a minute for each",
)

# %% [markdown]
# ## The problem on one patient
#
# There are five medications, and the patient was given the first, the second and the last.
# A ranker of this chapter sees this row and nothing else: no diagnosis, no visit, no order in time.

# %%
x = torch.tensor([[1.0, 1, 0, 0, 1]], dtype=torch.float64)
z = torch.tensor([[2.0, 1, 0, -1, 1]], dtype=torch.float64)
show({"row": x[0].tolist(), "logits": z[0].tolist()})

# %% [markdown]
# ## The systems in one picture each
#
# Inputs are round and have the colour of what they are; what comes out is filled.
# Thick green arrows come from earlier visits.

# %% tags=["hide-input"]
#| name: fig-flow-multivae
#| alt: Past medications (one row) into encoder; encoder into mean and spread; mean and spread and noise into draw;
#|   draw into decoder; decoder into softmax over all; softmax over all into order of medications. Trained by
#|   multinomial likelihood and KL term with a rising weight.
#| caption: MultiVAE: what goes in where, what comes out, and what it is trained by. Drawn by
#|   {py:func}`medrec.book.pictures.plot_system`; no records. Notice where noise enters.
show(plot_system("multivae"))

# %% tags=["hide-input"]
#| name: fig-flow-cdae
#| alt: Past medications (one row) into holes at random; holes at random and past medications (a node) into hidden
#|   layer; hidden layer into output layer; output layer into order of medications. Trained by cross-entropy against
#|   drawn zeros.
#| caption: CDAE: what goes in where, what comes out, and what it is trained by. Drawn by
#|   {py:func}`medrec.book.pictures.plot_system`; no records. Notice that a patient has a node of his own.
show(plot_system("cdae"))

# %% tags=["hide-input"]
#| name: fig-flow-diffrec
#| alt: Past medications (one row) into noised row; noised row into network; network into guess of the row; guess of
#|   the row into order of medications; noise by step into noised row and network. Trained by squared error weighted
#|   by step.
#| caption: DiffRec: what goes in where, what comes out, and what it is trained by. Drawn by
#|   {py:func}`medrec.book.pictures.plot_system`; no records. Notice that without noise an auto-encoder is left.
show(plot_system("diffrec"))

# %% [markdown]
# ## Shares of one: a multinomial likelihood
#
# MultiVAE {cite:p}`liang2018multivae` lets all medications share a probability of 1, and asks that those of the row get it:
#
# $$
# \pi_i = \frac{e^{z_i}}{\sum_j e^{z_j}}, \qquad \ell = - \sum_i x_i \ln \pi_i .
# $$ (eq-multivae-likelihood)
#
# The formulas of this chapter are those of the released codes; letters are ours.

# %%
pi = z.softmax(-1)
loss = -(x * pi.log()).sum()

# %% [markdown]
# **Check.** By hand, against {py:func}`medrec.models.multivae.multinomial_loss`, and against the floor: thirds for the three medications.
# A number added to all logits changes nothing.

# %%
close = {"atol": 5e-5, "rtol": 0}
expected = torch.tensor([[0.5206, 0.1915, 0.0705, 0.0259, 0.1915]])
torch.testing.assert_close(pi, expected.double(), **close)
np.testing.assert_allclose(loss, 3.9584, atol=5e-5)
torch.testing.assert_close(multinomial_loss(z, x)[0], loss)
torch.testing.assert_close(multinomial_loss(z + 7, x)[0], loss)
np.testing.assert_allclose(3 * np.log(3), 3.2958, atol=5e-5)
show(round(float(loss), 4))

# %% tags=["hide-input"]
#| name: fig-multivae-likelihood
#| alt: Bars of five medications beside the floor. The first has .52, the second and last .19 each, and the two that
#|   were not given .07 and .03; the floor has thirds for the three that were given and nothing else.
#| caption: Shares of {eq}`eq-multivae-likelihood` on the toy row, beside those with the lowest loss. Exact. Notice
#|   that the first medication takes what the second and the last lack.
fig, ax = plt.subplots(figsize=(plotting.ONE_COLUMN, 2.4))
for shift, label, values, hatch in (
    (-0.2, "the network", pi[0], ""),
    (0.2, "floor", x[0] / 3, "//"),
):
    ax.bar(
        np.arange(5) + shift,
        values,
        width=0.36,
        label=label,
        hatch=hatch,
        color=plotting.color("MultiVAE"),
        alpha=0.6 if hatch else 1,
    )
ax.set_xticks(range(5), [f"medication {i}" if i == 1 else str(i) for i in range(1, 6)])
ax.set_ylabel("share")
ax.legend()
show(fig)

# %% [markdown]
# ```{exercise}
# :label: ex-multivae-half
#
# Why is there no set of medications with a probability above one half?
# ```
#
# ````{solution} ex-multivae-half
# :class: dropdown
#
# All entries share 1, so that at most one of them can have more than one half, however many are right.
# A set needs a rule for its size; here validation patients choose one size for everybody.
# ````
#
# ## A weight that never arrives
#
# Between encoder and decoder stands a Gaussian, and a KL term keeps it near the standard one.
# Its weight grows with the number $k$ of optimiser steps:
#
# $$
# \mathrm{KL} = \tfrac12 \sum_j (\mu_j^2 + \sigma_j^2 - 1 - \ln \sigma_j^2), \qquad \beta_k = \min\Big(0.2,\ \frac{k}{200\,000}\Big) .
# $$ (eq-multivae-beta)

# %%
mu, sigma = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.5, 1.0]])
kl = 0.5 * (mu**2 + sigma**2 - 1 - (sigma**2).log()).sum()
steps_of_an_epoch = -(-6350 // 500)
beta = min(0.2, 200 * steps_of_an_epoch / 200_000)

# %% [markdown]
# **Check.** Of 6 350 patients an epoch has 13 batches of 500; after all 200 epochs the weight is .013, and the cap would be reached in epoch 3 077.
# The book's default scales the schedule, so that the cap is reached after four fifths of the training.

# %%
torch.testing.assert_close(kl_to_standard(mu, (sigma**2).log())[0], kl)
np.testing.assert_allclose(kl, 0.8181, atol=5e-5)
assert (steps_of_an_epoch, beta) == (13, 0.013)
assert -(-40_000 // 13) == 3077
np.testing.assert_allclose(scaled_anneal_steps(2600, 0.2), 10_400)
show({"KL": round(float(kl), 4), "weight at the end": beta})

# %% tags=["hide-input"]
#| name: fig-multivae-beta
#| alt: Line chart of the weight of the KL term against the epoch, logarithmic from .0001 to 1. The scaled schedule
#|   reaches .2 at epoch 160 of 200; the default is at .013 when the training ends.
#| caption: Weight of the KL term over 200 epochs of 13 steps, {eq}`eq-multivae-beta` and the scaled schedule. Exact.
#|   Notice that the released schedule ends at a fifteenth of its cap.
fig, ax = plt.subplots(figsize=(plotting.ONE_COLUMN, 2.6))
epochs = np.arange(1, 201)
for label, total, dashes in (
    ("200 000 steps", 200_000, "--"),
    ("scaled", scaled_anneal_steps(2600, 0.2), "-"),
):
    weights = [weight_of_kl(13 * e, total, 0.2) for e in epochs]
    ax.plot(epochs, weights, dashes, label=label, color=plotting.color("MultiVAE"))
ax.set_yscale("log")
ax.set_xlabel("epoch")
ax.set_ylabel("weight of the KL term")
ax.legend()
show(fig)

# %% [markdown]
# ```{exercise}
# :label: ex-multivae-beta
#
# What is the weight at step 40 000, and at step 100 000?
# ```
#
# ````{solution} ex-multivae-beta
# :class: dropdown
#
# .2 at both: there the cap is reached, and it stays.
# ````
#
# ## Holes in the row, and a node for each patient
#
# CDAE {cite:p}`wu2016cdae` leaves out each entry with probability $q$ and scales up the rest; inside it adds a vector $V_u$ of the patient's own:
#
# $$
# \tilde x = \frac{k}{1 - q} \odot x, \quad k \sim \mathrm{Bernoulli}(1 - q), \qquad z = W\, a\big(W^\top \tilde x + V_u + b\big) + b' .
# $$ (eq-cdae-corruption)

# %%
torch.manual_seed(seed)
corrupted = dropout(x.expand(4000, 5), 0.5, training=True)

# %% [markdown]
# **Check.** Survivors count twice, and the mean over many masks is the row.

# %%
assert set(corrupted.unique().tolist()) == {0.0, 2.0}
torch.testing.assert_close(corrupted.mean(0), x[0], atol=0.06, rtol=0)
show([round(v, 2) for v in corrupted.mean(0).tolist()])

# %% tags=["hide-input"]
#| name: fig-cdae-corruption
#| alt: Bars of how often a corrupted row of three medications adds up to 0, 2, 4 and 6: about an eighth, three
#|   eighths, three eighths and an eighth of 4 000 masks.
#| caption: Sums of the toy row after {eq}`eq-cdae-corruption` with q = .5, over 4 000 masks. Notice that the mean is
#|   3, the sum of the row itself, and that no single mask has it.
fig, ax = plt.subplots(figsize=(plotting.ONE_COLUMN, 2.2))
sums, counts = corrupted.sum(1).unique(return_counts=True)
ax.bar(sums, counts / 4000, width=0.8, color=plotting.color("CDAE"))
ax.axvline(3, color=plotting.INK, ls="--", label="sum of the row")
ax.set_xlabel("sum of the corrupted row")
ax.set_ylabel("share of masks")
ax.legend()
show(fig)

# %% [markdown]
# ```{exercise}
# :label: ex-cdae-stranger
#
# What does $V_u$ say of a patient who was not there in training?
# ```
#
# ````{solution} ex-cdae-stranger
# :class: dropdown
#
# Nothing: there is no such vector, and a rule must stand in, zero or the mean of all patients.
# {py:meth}`medrec.models.cdae.CDAE.scores_of_strangers` has both; the other two systems need none.
# ````
#
# ## An error that prefers nothing
#
# The version of CDAE that the third paper cites trains on the absolute error.
# Let a medication be given to a share $q$ of the patients, and guess the constant $c$:
#
# $$
# \mathbb E\,|y - c| = q\,(1 - c) + (1 - q)\, c = q + (1 - 2q)\, c .
# $$ (eq-absolute-error)
#
# Below one half this grows with $c$: the best guess is 0.

# %%
grid = torch.linspace(0.001, 0.999, 999, dtype=torch.float64)
kinds = ("absolute", "square", "logistic")


def risk(kind, q):
    guess = grid if kind == "square" else grid.logit()
    ones, zeros = torch.ones_like(grid), torch.zeros_like(grid)
    right, wrong = (entry_losses(guess, y, kind) for y in (ones, zeros))
    return q * right + (1 - q) * wrong


best = {kind: float(grid[risk(kind, 0.2).argmin()]) for kind in kinds}

# %% [markdown]
# **Check.** At $q = .2$ the square and the logistic error are right about the share, and the absolute one says nothing.
# From $q = .5$ on it says *everybody*.

# %%
torch.testing.assert_close(risk("absolute", 0.2), 0.2 + 0.6 * grid)
np.testing.assert_allclose([best[k] for k in kinds], [0, 0.2, 0.2], atol=2e-3)
np.testing.assert_allclose(float(grid[risk("absolute", 0.6).argmin()]), 1, atol=2e-3)
show(best)

# %% tags=["hide-input"]
#| name: fig-absolute-error
#| alt: Three curves of risk against the guess at a share of .2. The square and the logistic risk have their lowest
#|   point at .2; the absolute risk rises in a straight line from .2 at guess 0.
#| caption: Risk of a constant guess for a medication of one patient in five, under three losses, each less its own
#|   minimum. Exact. Notice that the straight line of {eq}`eq-absolute-error` has its minimum at the end.
fig, ax = plt.subplots(figsize=(plotting.ONE_COLUMN, 2.6))
for kind, dashes in zip(kinds, ("-", "--", ":"), strict=True):
    curve = risk(kind, 0.2)
    ax.plot(grid, curve - curve.min(), dashes, label=kind, color=plotting.color("CDAE"))
ax.set_ylim(0, 0.5)
ax.set_xlabel("guess")
ax.set_ylabel("risk above its minimum")
ax.legend()
show(fig)

# %% [markdown]
# ```{exercise}
# :label: ex-absolute-density
#
# The third paper's matrix is filled to .4 %.
# What is the absolute error of an empty list there, and what does it tell?
# ```
#
# ````{solution} ex-absolute-density
# :class: dropdown
#
# .004, which looks excellent; it is what a list of nothing gets.
# ````
#
# ## A schedule with hardly any noise
#
# DiffRec {cite:p}`wang2023diffrec` blurs the row by noise and lets a network guess what it was before.
# With $v_t$ rising evenly, the variance of the noise after step $t$ is
#
# $$
# 1 - \bar\alpha_t = 1 - (1 - \beta_1)\, \frac{1 - v_t}{1 - v_1}, \qquad v_t = s\Big(\beta_{\min} + \frac{t - 1}{T - 1}(\beta_{\max} - \beta_{\min})\Big) .
# $$ (eq-diffrec-schedule)

# %%
five = NoiseSchedule.linear(5, 0.1, 1e-4, 0.02, 1e-4)  # DiffKG's default
flat = NoiseSchedule.linear(50, 1e-3, 1e-4, 1e-3, 1e-4)  # of the third paper
v = 0.1 * torch.linspace(1e-4, 0.02, 5, dtype=torch.float64)
noise = 1 - (1 - 1e-4) * (1 - v) / (1 - v[0])

# %% [markdown]
# **Check.** In double precision, step by step; the flat schedule of the third paper has the same noise at step 50 as at step 1, to two digits.
# Break it: in single precision most of the differences of neighbouring signal-to-noise ratios, which weigh the loss, are 0.

# %%
torch.testing.assert_close(1 - five.kept, noise)
np.testing.assert_allclose(
    noise, [1.000e-4, 5.975e-4, 1.095e-3, 1.592e-3, 2.090e-3], atol=5e-7
)
np.testing.assert_allclose(
    1 - flat.kept[[0, 24, 49]], [1e-4, 1.0044e-4, 1.0090e-4], atol=1e-8
)
single = (1 - flat.beta.float()).cumprod(0)
ratio = single / (1 - single)
assert ((ratio[:-1] - ratio[1:]) == 0).sum() >= 30
show([f"{value:.3e}" for value in noise.tolist()])

# %% tags=["hide-input"]
#| name: fig-diffrec-schedule
#| alt: Line chart of the variance of the noise against the share of all steps, logarithmic. The schedule of five
#|   steps rises from .0001 to .002, that of the third paper is a flat line at .0001.
#| caption: Variance of the noise, {eq}`eq-diffrec-schedule`, for five steps and for the fifty of the third paper.
#|   Exact. Notice that entries are 0 and 1: even the upper end is a standard deviation of .046.
fig, ax = plt.subplots(figsize=(plotting.ONE_COLUMN, 2.6))
for label, schedule, marker in (("five steps", five, "o"), ("third paper", flat, ".")):
    T = len(schedule.beta)
    ax.plot(
        np.arange(1, T + 1) / T,
        1 - schedule.kept,
        marker=marker,
        label=label,
        color=plotting.color("DiffRec" if T == 5 else "DiffKG"),
    )
ax.set_yscale("log")
ax.set_xlabel("share of the steps")
ax.set_ylabel("variance of the noise")
ax.legend()
show(fig)

# %% [markdown]
# ```{exercise}
# :label: ex-diffrec-spread
#
# What is the standard deviation of the noise where its variance is .0021?
# ```
#
# ````{solution} ex-diffrec-spread
# :class: dropdown
#
# .0458: a 1 that noise pushes below one half would be eleven deviations away.
# The row is never in doubt.
# ````
#
# ## One step back, and fifty that are one
#
# From $x_t$ and a guess $\hat x_0$ the mean of the step before is
#
# $$
# \mu_t = \frac{\sqrt{\bar\alpha_{t-1}}\, \beta_t}{1 - \bar\alpha_t}\, \hat x_0 + \frac{\sqrt{1 - \beta_t}\,(1 - \bar\alpha_{t-1})}{1 - \bar\alpha_t}\, x_t .
# $$ (eq-diffrec-back)

# %%
x0 = torch.tensor([1.0, 0, 1, 0], dtype=torch.float64)
eps = torch.tensor([0.5, -1, 1.5, 0.2], dtype=torch.float64)
guess = torch.tensor([0.9, 0.1, 0.8, 0.3], dtype=torch.float64)
row = five.signal[-1] * x0 + five.spread[-1] * eps
clean, noisy = five.back
rows = [row]
for t in range(4, -1, -1):
    rows.append(clean[t] * guess + noisy[t] * rows[-1])

# %% [markdown]
# **Check.** The coefficient of the row is 0 at the last step: whatever happened before, the output is the last guess.
# And of a flat schedule nearly nothing happens before: after 49 of the 50 steps 99 % of the row is still there, so that the fifty steps are one.

# %%
np.testing.assert_allclose(rows[0], [1.0218, -0.0457, 1.0675, 0.0091], atol=5e-5)
np.testing.assert_allclose(rows[1], [0.9928, -0.0110, 1.0038, 0.0784], atol=5e-5)
np.testing.assert_allclose(rows[4], [0.9058, 0.0930, 0.8128, 0.2861], atol=5e-5)
torch.testing.assert_close(rows[5], guess)
left = {"flat": float(flat.back[1][1:].prod()), "five": float(noisy[1:].prod())}
np.testing.assert_allclose([left["flat"], left["five"]], [0.9911, 0.0478], atol=5e-5)
show({name: round(value, 4) for name, value in left.items()})

# %% tags=["hide-input"]
#| name: fig-diffrec-back
#| alt: Four lines of a row's entries over six states, from the noisy row to the last guess. The entry that begins
#|   near 1.07 ends at .8, that near 1.02 at .9, that near .01 at .3 and that near minus .05 at .1.
#| caption: The toy row on its way back, {eq}`eq-diffrec-back`, with one guess at every step. Exact. Notice that it
#|   stands at the guess before the last step has been taken.
fig, ax = plt.subplots(figsize=(plotting.ONE_COLUMN, 2.6))
for entry, marker in zip(range(4), "osD^", strict=True):
    ax.plot(
        range(6),
        [r[entry] for r in rows],
        marker=marker,
        label=f"entry {entry + 1}",
        color=plotting.color("DiffRec"),
    )
ax.set_xticks(range(6), ["$x_5$", "$x_4$", "$x_3$", "$x_2$", "$x_1$", "$x_0$"])
ax.set_ylabel("value")
ax.legend(ncols=2)
show(fig)

# %% [markdown]
# ```{exercise}
# :label: ex-diffrec-none
#
# The released examples read without any noise: they begin with the row itself.
# What is DiffRec then?
# ```
#
# ````{solution} ex-diffrec-none
# :class: dropdown
#
# An auto-encoder that is applied $T$ times, each time to a blend of the row and its own guess.
# ````
#
# ## Which step is drawn, and which one is read
#
# Steps with large losses are drawn more often, $p_t \propto \sqrt{\overline{\ell_t^2}}$ mixed with a thousandth of even chances, and a loss is divided by its chance, so that the mean stays what it was:
#
# $$
# \mathcal L = \frac{\ell_t}{T\, p_t}, \qquad \ell_t = w_t\, \lVert \hat x_0 - x_0 \rVert^2, \qquad w_1 = 1,\quad w_t = \tfrac12 (\mathrm{SNR}_{t-1} - \mathrm{SNR}_t) .
# $$ (eq-diffrec-chance)

# %%
last = torch.tensor([4.0, 2, 1, 1, 0], dtype=torch.float64)
size = last / last.sum()
chance = 0.999 * size + 0.001 / 5
released = NoiseSchedule.linear(5, 0.1, 1e-4, 0.02, 1e-5)  # DiffRec's
weight = weights_of_steps(released, "elbo")

# %% [markdown]
# **Check.** By hand, and against {py:func}`medrec.models.diffrec.chances_of_steps`; the weighted mean is the plain one.
# With DiffRec's own schedule the second step weighs 49 000 and the first one 1, and the guess at the first step is the one that is read.

# %%
ten = last[:, None].expand(5, 10)
torch.testing.assert_close(chances_of_steps(ten, torch.full((5,), 10)), chance)
np.testing.assert_allclose(chance, [0.4997, 0.25, 0.1251, 0.1251, 0.0002], atol=5e-5)
torch.testing.assert_close((chance * last / (5 * chance)).sum(), last.mean())
np.testing.assert_allclose(weight, [1, 49_015, 488, 165, 83], rtol=5e-3)
show([round(value) for value in weight.tolist()])

# %% tags=["hide-input"]
#| name: fig-diffrec-weights
#| alt: Bars of the weights of five steps, logarithmic. The first weighs 1, the second about 49 000, the others
#|   between 80 and 500.
#| caption: Weights of the steps in DiffRec's loss, {eq}`eq-diffrec-chance`, with the settings of its examples. Exact.
#|   Notice that step 1, whose guess becomes the scores, weighs least.
fig, ax = plt.subplots(figsize=(plotting.ONE_COLUMN, 2.2))
ax.bar(range(1, 6), weight, color=plotting.color("DiffRec"))
ax.set_yscale("log")
ax.set_xlabel("step")
ax.set_ylabel("weight")
show(fig)

# %% [markdown]
# ```{exercise}
# :label: ex-diffrec-chance
#
# What would happen to a step whose chance is 0?
# ```
#
# ````{solution} ex-diffrec-chance
# :class: dropdown
#
# It would never be drawn again, and its remembered losses would stay what they are: a loss that once was 0 could not rise.
# ````
#
# ## Three recalls
#
# $$
# \frac{\text{hits}}{n} \qquad \frac{\text{hits}}{\min(K, n)} \qquad \text{mean over all patients, or over those with targets}
# $$ (eq-three-recalls)
#
# The first is the book's, the second MultiVAE's; DiffRec's released code counts patients without targets as zeros.

# %%
order = torch.arange(20, 0, -1)[None].numpy()  # medication 1 first
wanted = np.zeros((1, 20), dtype=bool)
wanted[0, [*range(8), *range(13, 20)]] = True  # 15 targets, 8 among the first ten
ways = {
    way: float(recall_at_k(wanted, order, 10, denominator=way)[0])
    for way in ("targets", "reachable")
}

# %% [markdown]
# **Check.** Fifteen targets, eight hits among ten: .533 or .8.
# If 200 of 1 000 patients have no target, a mean of .30 becomes .24.

# %%
np.testing.assert_allclose([ways["targets"], ways["reachable"]], [8 / 15, 0.8])
np.testing.assert_allclose(0.30 * 800 / 1000, 0.24)
show({way: round(value, 3) for way, value in ways.items()})

# %% tags=["hide-input"]
#| name: fig-three-recalls
#| alt: Two lines of recall against the length of the list. Hits over targets never falls and ends at 1; hits over the
#|   smaller of length and targets begins at 1, falls to .62 at length 13 and ends at 1.
#| caption: Recall of the toy list by its length, in two definitions of {eq}`eq-three-recalls`. Exact. Notice that
#|   only one of them can fall.
fig, ax = plt.subplots(figsize=(plotting.ONE_COLUMN, 2.6))
lengths = range(1, 21)
for way, dashes in (("targets", "-"), ("reachable", "--")):
    values = [recall_at_k(wanted, order, k, denominator=way)[0] for k in lengths]
    ax.plot(lengths, values, dashes, label=f"hits / {way}", color=plotting.INK)
ax.set_xticks([1, 5, 10, 15, 20])
ax.set_xlabel("length K of the list")
ax.set_ylabel("Recall@K")
ax.legend()
show(fig)

# %% [markdown]
# ```{exercise}
# :label: ex-three-recalls
#
# What is the recall with min(K, n) for 5 hits, K = 20 and 8 targets?
# ```
#
# ````{solution} ex-three-recalls
# :class: dropdown
#
# 5 / 8 = .625.
# ````
#
# ## A closed form to compare with
#
# EASE {cite:p}`steck2019ease` predicts each medication from all others by one linear map, with a penalty $\lambda$ and nothing on the diagonal:
#
# $$
# P = (X^\top X + \lambda I)^{-1}, \qquad B_{ij} = -\frac{P_{ij}}{P_{jj}} \ (i \ne j) .
# $$ (eq-ease)

# %%
X = np.array([[1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [1, 1, 0, 0, 1], [1, 0, 0, 1, 0]])
P = np.linalg.inv(X.T @ X + np.eye(5))
B = -P / np.diag(P)
np.fill_diagonal(B, 0)

# %% [markdown]
# **Check.** Scores of the first of four patients, and {py:func}`medrec.models.ease.item_weights`.

# %%
np.testing.assert_allclose(B, item_weights(X.astype(bool), 1.0))
np.testing.assert_allclose(
    X[0] @ B, [0.6667, 0.5714, 0.3226, 0.1250, 0.3226], atol=5e-5
)
show([round(value, 4) for value in (X[0] @ B).tolist()])

# %% [markdown]
# ## Putting it together
#
# The three stand in {py:class}`medrec.models.multivae.MultiVAE`, {py:class}`medrec.models.cdae.CDAE` and {py:class}`medrec.models.diffrec.DiffRec`.
# All are asked for the medications of each patient's last visit, from what was given at earlier ones; known medications are listed too.
# The trainings of this page are short and of one seed: they show how something works and bear no verdict.

# %% tags=["hide-input"]
SHORT = {"epochs": 12} if profile == "quick" else {}
tried = {
    "most popular": ("most-popular", {}),
    "repeat": ("repeat", {}),
    "EASE": ("ease", {}),
    "MultiVAE": ("multivae", SHORT),
    "CDAE": ("cdae", SHORT),
    "CDAE, absolute error": ("cdae", SHORT | {"loss": "absolute"}),
    "DiffRec": ("diffrec", SHORT),
    "DiffRec, one step": ("diffrec", SHORT | {"n_steps": 1}),
}
runs = {
    label: train(name, records, settings=settings, seed=seed, device=device)
    for label, (name, settings) in tried.items()
}
found = {label: bootstrap(run.evaluation()) for label, run in runs.items()}
asked = runs["repeat"].evaluation().summary()["patients"]
page.glue(
    n_asked=privacy.count(records, asked),
    multivae_ndcg=found["MultiVAE"]["ndcg_20"].value,
    repeat_ndcg=found["repeat"]["ndcg_20"].value,
)
show(
    page.table(
        pl.DataFrame(
            [
                {"system": label}
                | {head: result[column].value for column, head in COLUMNS.items()}
                | {
                    "95 %": f"{result['ndcg_20'].low:.3f} to {result['ndcg_20'].high:.3f}"
                }
                for label, result in found.items()
            ]
        ),
        caption=f"Short trainings of one seed, {page.cohort_line(records)}; temporal, all medications of the last visit count. The interval is that of NDCG@20, over patients.",
    )
)

# %% [markdown]
# On this page MultiVAE has an NDCG@20 of {glue:text}`multivae_ndcg:.3f` and the patient's own list, repeated, {glue:text}`repeat_ndcg:.3f`, for {glue:text}`n_asked` patients.

# %% tags=["hide-input"]
#| name: fig-generative-small
#| alt: Dots with intervals of NDCG at 20 for eight systems of this page, one below the other. All intervals overlap
#|   but that of the absolute error, which lies lowest.
#| caption: NDCG@20 of the short trainings of this page, with 95 % intervals over patients. Notice how wide they are:
#|   the order of these rows is no finding.
fig, ax = plt.subplots(figsize=(plotting.ONE_COLUMN, 3.0))
plotting.plot_intervals(
    ax,
    list(found),
    [result["ndcg_20"].value for result in found.values()],
    [(result["ndcg_20"].low, result["ndcg_20"].high) for result in found.values()],
    systems=[name for name, _ in tried.values()],
)
ax.set_xlabel("NDCG@20 (higher is better)")
show(fig)

# %% [markdown]
# ## The audit
#
# **Switches.** MultiVAE's `anneal_steps`; CDAE's `loss`, `tied` and `negatives`; DiffRec's `reweight` and `t_inference`.
# `medrec systems cdae` lists each with its source, and the variant `official` is the released behaviour.
#
# **What the papers do not say.** How many steps a schedule is made for; which error a released auto-encoder minimises; that the guess which is read is the one that the loss hardly asks about.
#
# **The control for diffusion.** DiffRec with one step is the same network, trained as an auto-encoder with dropout on its input.
# Whatever is attributed to diffusion must be gained beside this row.
#
# ```{dropdown} What these runs cannot tell
# They are short, on one seed and few patients; which system is better stands in no table of this page.
# ```
#
# ## Summary
#
# - A multinomial likelihood shares 1 among all medications; the KL term has a weight that follows from the number of steps, and in the released schedule it stays near nothing at this size.
# - An absolute error says 0 of whatever fewer than half of the patients are given; square and logistic errors say the share.
# - Noise, ratio and way back are three vectors in double precision; at the last step the row has coefficient 0.
# - A flat schedule keeps 99 % of the row until the last step: its fifty steps are one.
# - Recall over targets cannot fall with K; recall over the smaller of K and targets can, and patients without targets may count as zeros.
#
# ## Exercises
#
# ```{exercise}
# :label: ex-generative-one
#
# What is the coefficient of $\hat x_0$ at $t = 1$?
# ```
#
# ````{solution} ex-generative-one
# :class: dropdown
#
# 1: the output is the guess.
# ````
#
# ```{exercise}
# :label: ex-generative-half
#
# Which constant is best under the absolute error for a medication of exactly half of the patients?
# ```
#
# ````{solution} ex-generative-half
# :class: dropdown
#
# Any: the slope $1 - 2q$ is 0.
# ````
#
# ```{dropdown} Quiz: which loss yields an empty list at a prevalence of 5 %?
# The absolute error.
# ```
#
# ```{dropdown} Quiz: who cannot score a new patient without a rule?
# CDAE.
# ```
#
# ## References
#
# - {cite:t}`liang2018multivae`: the multinomial likelihood and the weight of the KL term.
# - {cite:t}`wu2016cdae`: corrupted rows and a node for each patient.
# - {cite:t}`wang2023diffrec`: a row as what noise has blurred.
# - {cite:t}`steck2019ease`: the linear auto-encoder in closed form.
