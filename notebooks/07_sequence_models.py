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
#     rows: [retain, leap, micron]
# ---

# %% [markdown]
# # Reading a history: attention, sentences, changes (RETAIN, LEAP, MICRON)
#
# RETAIN is famous for its attention: it weighs the visits of a patient.
# In the code behind the published tables its attention weights are all exactly one.
# Does that cost anything, and does any of the three systems of this page use the order of visits?
#
# *In short.* {glue:text}`attention_costs`
# The order of visits: LEAP reads one visit and cannot use it; {glue:text}`order_words`.
#
# ```{admonition} Objectives
# :class: objectives
# After this chapter you can
# - *compute* RETAIN's context vector and each visit's share of a logit,
# - *prove* that a softmax over an axis of length one has no gradient, and *detect* mirrored and padded attention,
# - *show* why a linear score of state and diagnosis cannot look at the state,
# - *bound* Jaccard by a limit on the length of a list, and *show* why a list that is written greedily can be too long,
# - *follow* a carried medication set through two thresholds, and a change that is not zero where nothing changed,
# - *compare* what each of the three may see with what its neighbours see.
# ```
#
# **Prerequisites.** The metrics of {doc}`01_the_task`, the order of visits in {doc}`02_from_tables_to_visits`, the threshold rule of {doc}`06_classical`.
#
# **Code.** {py:mod}`medrec.models.retain`, {py:mod}`medrec.models.leap` and {py:mod}`medrec.models.micron`.

# %% tags=["hide-input"]
from dataclasses import replace
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import polars as pl
import torch

from medrec import metrics, plotting
from medrec.book import page
from medrec.book.pictures import plot_system
from medrec.data import load_cohort, privacy
from medrec.data.batch import VisitBatch
from medrec.data.split import split_patients
from medrec.lab import grids, published
from medrec.models import registry
from medrec.models.leap import additive_scores, attend, linear_scores
from medrec.models.micron import carried_sets, prescription
from medrec.models.retain import context_vector, logit_shares, visit_attention
from medrec.nn.lists import chances
from medrec.tasks.evaluation import bootstrap, paired_difference
from medrec.tasks.verdicts import (
    SMALLEST_DIFFERENCE,
    Verdict,
    verdict,
    verdict_of_equality,
)
from medrec.tasks.visits import FROM_SECOND, GROUPS, evaluate, in_columns, predict
from medrec.training import load_system, train

# %% tags=["parameters", "hide-input"]
seed: int = 0  # seed of model initialisation; the split has its own
cohort: str = "synthetic"  # any cohort that medrec.data.load_cohort knows
device: str = "cpu"  # where the model is trained
profile: str = "quick"  # quick: a few epochs; full: until early stopping

# %% tags=["hide-input"]
plotting.use_style()
records = load_cohort(cohort)
show = partial(privacy.show, records)  # closed records: aggregates only
page.at_a_glance(
    {"seed": seed, "cohort": cohort, "device": device, "profile": profile},
    paper="RETAIN (Choi et al., 2016), LEAP (Zhang et al., 2017), MICRON (Yang et al., 2021)",
    data=page.cohort_line(records),
    learned="the three systems as in their papers, and variants of them",
    full_run="minutes on two cores at 6 350 patients; LEAP about an hour",
)

# %% [markdown]
# ## The problem on one patient
#
# Three early systems read a patient in three ways: RETAIN *weighs* the visits of the past, LEAP *writes* a prescription word by word, MICRON *changes* the one before.
# They stand side by side in every table, and are given different things.

# %% tags=["hide-input"]
three = {name: registry.get(name) for name in ("retain", "leap", "micron")}
others = {name: registry.get(name) for name in ("lr", "last-visit")}
show(
    page.table(
        pl.DataFrame(
            {
                "system": [e.label for e in (three | others).values()],
                "what it sees": [e.sees for e in (three | others).values()],
            }
        ),
        caption="What each system is given in the published comparisons, beside two reference points.",
    )
)

# %% [markdown]
# *Released* on this page is the code that the published comparisons build on: for RETAIN and LEAP their re-implementations in the repositories of GAMENet and SafeDrug, for MICRON the repository of its authors.
# It differs from the papers in ways that the papers do not say; we call these its slips.
#
# The toy of RETAIN: a patient has three past visits; visit $j$ is a vector $v_j$ of two numbers, the sum of the embeddings of its codes.
# One recurrent network reads them in *reversed time*, the latest first, and gives each visit a score $s_j$; a second one gives each visit a gate $\beta_j$ with one value per coordinate.
# Two medication classes are scored by a linear layer $(W, b)$, and a class is recommended when its probability reaches 0.4, the released threshold.
# The numbers are typed here, oldest visit first.

# %%
v = torch.tensor([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]])
s = torch.tensor([0.0, 1.0, 2.0])
beta = torch.tanh(torch.tensor([[1.0, 0.0], [0.5, 0.5], [0.0, -1.0]]))
W = torch.tensor([[1.0, -1.0], [0.5, 2.0]])
b = torch.tensor([0.0, -0.5])
show(
    page.table(
        pl.DataFrame(
            {
                "visit": ["1 (oldest)", "2", "3 (latest)"],
                "v": [str(r.tolist()) for r in v],
                "s": s.numpy(),
                "β": [f"[{x:.2f}, {y:.2f}]" for x, y in beta.tolist()],
            }
        ),
        caption="The toy of RETAIN: one patient, three visits, written by hand.",
        digits=0,
    )
)

# %% [markdown]
# ## The systems in one picture each
#
# Inputs are round and have the colour of what they are; what comes out is filled.
# Thick green arrows come from earlier visits.

# %% tags=["hide-input"]
#| name: fig-flow-retain
#| alt: Past codes into embedding; embedding into weight of a visit, weights of its parts and weighted sum; weight of
#|   a visit and weights of its parts into weighted sum; weighted sum into linear map; linear map into medications.
#|   Trained by binary cross-entropy.
#| caption: RETAIN: what goes in where, what comes out, and what it is trained by. Drawn by
#|   {py:func}`medrec.book.pictures.plot_system`; no records. Notice the two kinds of weights.
show(plot_system("retain"))

# %% tags=["hide-input"]
#| name: fig-flow-leap
#| alt: Diagnoses into embedding; embedding into attention; attention into writer; writer into next word; next word
#|   into medications; list so far into attention and writer; prescribed list so far into list so far. Trained by
#|   cross-entropy of every word.
#| caption: LEAP: what goes in where, what comes out, and what it is trained by. Drawn by
#|   {py:func}`medrec.book.pictures.plot_system`; no records. Notice that what is written is read again.
show(plot_system("leap"))

# %% tags=["hide-input"]
#| name: fig-flow-micron
#| alt: Diagnoses and procedures into embedding; embedding and past diagnoses and procedures into change of the visit;
#|   change of the visit into change of scores; change of scores and past medications (first visit) into set carried
#|   on; set carried on into medications. Trained by binary cross-entropy, margin, interactions and agreement of both
#|   ways.
#| caption: MICRON: what goes in where, what comes out, and what it is trained by. Drawn by
#|   {py:func}`medrec.book.pictures.plot_system`; no records. Notice that medications enter once, as the set that is
#|   carried on.
show(plot_system("micron"))

# %% [markdown]
# ## Two attentions and a context
#
# RETAIN has two {term}`attentions <attention>`: it weighs *visits* by $\alpha$ and *coordinates* by $\beta$, and sums {cite:p}`choi2016retain`:
#
# $$
# \alpha_j = \frac{e^{s_j}}{\sum_{j'} e^{s_{j'}}},
# $$ (eq-retain-alpha)
#
# $$
# c_d = \sum_{j} \alpha_j\, \beta_{jd}\, v_{jd}, \qquad
# p = \sigma(W c + b) .
# $$ (eq-retain-context)
#
# The letters are ours; the original paper writes the same two attentions with matrices.


# %%
def context(alpha, beta, v):
    return torch.einsum("j,jd,jd->d", alpha, beta, v)


alpha = torch.softmax(s, dim=0)
c = context(alpha, beta, v)
p = torch.sigmoid(W @ c + b)

# %% [markdown]
# **Check.** By hand, to four decimals; only the first class passes 0.4.

# %%
close = {"atol": 5e-5, "rtol": 0}
torch.testing.assert_close(alpha, torch.tensor([0.0900, 0.2447, 0.6652]), **close)
torch.testing.assert_close(
    beta * v, torch.tensor([[0.7616, 0], [0, 0.9242], [0, -0.7616]]), **close
)
torch.testing.assert_close(c, torch.tensor([0.0686, -0.2805]), **close)
torch.testing.assert_close(p, torch.tensor([0.5864, 0.2637]), **close)
batch_of_one = (alpha[None], beta[None], v[None])
torch.testing.assert_close(
    visit_attention(s[None], torch.ones(1, 3, dtype=torch.bool))[0], alpha
)
torch.testing.assert_close(context_vector(*batch_of_one)[0], c)
show((p >= 0.4).tolist())

# %% [markdown]
# The last two lines compare with the functions that the real model calls, {py:func}`~medrec.models.retain.visit_attention` and {py:func}`~medrec.models.retain.context_vector`.
# Because everything after $\alpha$ and $\beta$ is linear, a logit is a sum of one share per visit,
#
# $$
# z_m = b_m + \sum_j \underbrace{\alpha_j \sum_d W_{md}\, \beta_{jd}\, v_{jd}}_{\text{share of visit } j} .
# $$ (eq-retain-share)

# %%
shares = torch.einsum("j,md,jd,jd->mj", alpha, W, beta, v)
torch.testing.assert_close(shares[0], torch.tensor([0.0686, -0.2262, 0.5066]), **close)
torch.testing.assert_close(shares.sum(1) + b, W @ c + b)
torch.testing.assert_close(logit_shares(*batch_of_one, W)[0].T, shares)
assert shares[0, 1] < 0 == b[0]
page.glue(
    share_oldest=shares[0, 0].item(),
    share_middle=-shares[0, 1].item(),
    share_latest=shares[0, 2].item(),
    logit_one=(W @ c + b)[0].item(),
)

# %% tags=["hide-input"]
#| name: fig-retain-shares
#| alt: Grouped bar chart of the share that each of three visits has in the logits of two medication classes. For
#|   class 1 the latest visit adds 0.51 and the middle one takes 0.23 away; for class 2 the middle visit adds most and
#|   the latest takes away more.
#| caption: Share of each visit in the logit of each class, equation {eq}`eq-retain-share`. Toy numbers, exact. A
#|   visit can speak against a class.
fig, ax = plt.subplots(figsize=(plotting.ONE_COLUMN, 2.6))
for j, name in enumerate(["visit 1 (oldest)", "visit 2", "visit 3 (latest)"]):
    ax.bar(
        np.arange(2) + (j - 1) * 0.25,
        shares[:, j],
        width=0.23,
        label=name,
        hatch=["", "//", ".."][j],
    )
ax.axhline(0, color="0.5", lw=0.8)
ax.set(xticks=[0, 1], xticklabels=["class 1", "class 2"], ylabel="share of the logit")
ax.legend()
show(fig)

# %% [markdown]
# To the first logit the latest visit adds {glue:text}`share_latest:.4f` and the oldest {glue:text}`share_oldest:.4f`; the middle one takes {glue:text}`share_middle:.4f` away.
# The bias of this class is zero, so {glue:text}`logit_one:.4f` is left.
#
# ```{exercise}
# :label: ex-retain-equal
#
# Give all three visits the same score.
# Predict: which classes pass 0.4?
# ```
#
# ```{solution-start} ex-retain-equal
# :class: dropdown
# ```
#
# The context becomes the plain mean of $\beta_j \odot v_j$, and both classes pass.

# %%
c_equal = context(torch.full((3,), 1 / 3), beta, v)
torch.testing.assert_close(c_equal, torch.tensor([0.2539, 0.0542]), **close)
torch.testing.assert_close(
    torch.sigmoid(W @ c_equal + b),
    torch.tensor([0.5498, 0.4342]),
    atol=1e-4,
    rtol=0,
)
show((torch.sigmoid(W @ c_equal + b) >= 0.4).tolist())

# %% [markdown]
# ```{solution-end}
# ```
#
# ## A softmax over one number
#
# The released RETAIN takes the softmax of $\alpha$ over the *feature* axis.
# The scores have one feature per visit, so that axis has length one, and
#
# $$
# \alpha_j = \frac{e^{s_j}}{e^{s_j}} = 1, \qquad \frac{\partial \alpha_j}{\partial s_j} = 0 .
# $$ (eq-retain-dead)


# %%
def first_logit(scores, axis):
    alpha = torch.softmax(scores[:, None], dim=axis)[:, 0]
    return (W @ context(alpha, beta, v) + b)[0]


gradients = {}
for name, axis in {"visits": 0, "features": 1}.items():
    scores = s.clone().requires_grad_()
    first_logit(scores, axis).backward()
    gradients[name] = scores.grad

# %% [markdown]
# **Check.** Over visits the scores receive a gradient; over features it is exactly zero, so the network that makes the scores is never trained.

# %%
torch.testing.assert_close(
    gradients["visits"], torch.tensor([0.0371, -0.3116, 0.2745]), **close
)
assert (gradients["features"] == 0).all()
c_dead = context(torch.ones(3), beta, v)
torch.testing.assert_close(c_dead, torch.tensor([0.7616, 0.1626]), **close)
torch.testing.assert_close(
    torch.sigmoid(W @ c_dead + b), torch.tensor([0.6454, 0.5513]), **close
)
show("with α ≡ 1 both classes are recommended, and the scores learn nothing")

# %% tags=["hide-input"]
#| name: fig-retain-norm
#| alt: Line chart of the length of the context vector against the number of identical visits, from 1 to 20. With
#|   softmax over visits the line is flat; with softmax over features it rises in a straight line to twenty times the
#|   first value.
#| caption: Length of the context when the same visit repeats. Toy numbers, exact. Without a softmax over visits the
#|   context grows with the number of visits.
counts = np.arange(1, 21)
paper = [
    context(torch.full((n,), 1 / n), beta[:1].expand(n, 2), v[:1].expand(n, 2)).norm()
    for n in counts
]
coded = [
    context(torch.ones(n), beta[:1].expand(n, 2), v[:1].expand(n, 2)).norm()
    for n in counts
]
fig, ax = plt.subplots(figsize=(plotting.ONE_COLUMN, 2.6))
ax.plot(counts, paper, "-o", ms=3, label="softmax over visits (paper)")
ax.plot(counts, coded, "--s", ms=3, label="softmax over features (released)")
ax.set(
    xlabel="identical visits", ylabel="norm of the context", xticks=[1, 5, 10, 15, 20]
)
ax.legend()
show(fig)

# %% [markdown]
# ```{exercise}
# :label: ex-retain-twenty
#
# A patient has twenty equal visits with equal gates.
# By what factor does the released context exceed that of a patient with one such visit?
# ```
#
# ````{solution} ex-retain-twenty
# :class: dropdown
#
# By twenty, as the right end of {numref}`fig-retain-norm` shows.
# ````
#
# ## Alignment and padding
#
# The released RETAIN has a second slip: both of its networks read the oldest visit first, where the paper reads the latest first.
# Its weights still meet their own visits; but each visit is weighed by what came before it, not by what came after.
#
# Who reads backwards, as the paper does, can go wrong in two more ways.
# The weights $\alpha$ come out in reversed order; they must be turned back before they meet the visits.
# And patients in one batch are padded to one length; a padded visit must not take part in the softmax:
#
# $$
# \alpha_j = \frac{\mathbb 1[j \text{ real}]\; e^{s_j}}{\sum_{j'} \mathbb 1[j' \text{ real}]\; e^{s_{j'}}} .
# $$ (eq-retain-mask)


# %%
def masked_softmax(scores, real):
    return torch.softmax(scores.masked_fill(~real, -torch.inf), dim=0)


misaligned = context(alpha.flip(0), beta, v)
padded_scores = torch.cat([s, torch.zeros(1)])
real = torch.tensor([True, True, True, False])

# %% [markdown]
# **Check.** With the mask nothing changes; without it one padded visit takes its share; misalignment changes the context.

# %%
torch.testing.assert_close(masked_softmax(padded_scores, real)[:3], alpha)
torch.testing.assert_close(
    visit_attention(padded_scores[None], real[None])[0, :3], alpha
)
left_over = torch.softmax(padded_scores, dim=0)[:3].sum()
torch.testing.assert_close(left_over, torch.tensor(0.9174), **close)
torch.testing.assert_close(misaligned, torch.tensor([0.5066, 0.1576]), **close)
page.glue(left_over=left_over.item())

# %% tags=["hide-input"]
#| name: fig-retain-strips
#| alt: Heat map of attention weights, three rows over the same visits. Right: weights grow towards the latest visit.
#|   Misaligned: the order is mirrored. Padded without mask: all real weights are smaller and a fourth, padded visit
#|   takes the rest.
#| caption: The same scores used right, mirrored, and with one padded visit in the softmax. Toy numbers, exact. Neither
#|   mistake raises an error: each row adds up to one.
strips = torch.stack(
    [
        torch.cat([alpha, torch.zeros(1)]),
        torch.cat([alpha.flip(0), torch.zeros(1)]),
        torch.softmax(padded_scores, dim=0),
    ]
)
fig, ax = plt.subplots(figsize=(plotting.ONE_COLUMN, 2.0))
ax.imshow(strips, cmap="Greys", vmin=0, vmax=1, aspect="auto")
for (i, j), value in np.ndenumerate(strips.numpy()):
    ax.text(
        j,
        i,
        f"{value:.2f}",
        ha="center",
        va="center",
        color="white" if value > 0.5 else "black",
    )
ax.set(
    xticks=range(4),
    xticklabels=["visit 1", "visit 2", "visit 3", "padding"],
    yticks=range(3),
    yticklabels=["right", "mirrored", "no mask"],
)
ax.grid(False)
show(fig)

# %% [markdown]
# Without the mask the real visits keep {glue:text}`left_over:.4f` of the attention.
#
# ```{exercise}
# :label: ex-retain-palindrome
#
# For which records is misalignment invisible?
# ```
#
# ````{solution} ex-retain-palindrome
# :class: dropdown
#
# For records that read the same in both directions, and for patients with one visit.
# ````

# %% [markdown]
# ## A score that cannot look
#
# LEAP {cite:p}`zhang2017leap` forgets the past and looks at the diagnoses of the visit at hand, again before every word.
# With $e_i$ the embedded diagnoses and $h_{k-1}$ the state of the decoder after $k-1$ words,
#
# $$
# a_{ki} = \operatorname{softmax}_i\, r(h_{k-1}, e_i), \qquad g_k = \sum_i a_{ki}\, e_i .
# $$ (eq-leap-attention)
#
# The context $g_k$ and the last word move the state on, and the state chooses the next word.
# The score $r$ of the paper is additive; the released code has one linear layer instead, with the same arguments:
#
# $$
# r_{\text{additive}} = o^\top \tanh\bigl(U\, [\,h \,\|\, e_i\,]\bigr), \qquad
# r_{\text{linear}} = w^\top [\,h \,\|\, e_i\,] = w_h^\top h + w_e^\top e_i .
# $$ (eq-leap-scores)
#
# Here $[h \,\|\, e_i]$ is one vector behind the other; the matrix $U$ and the vectors $o$ and $w$ are learnt, and $w_h$ and $w_e$ are the two parts of $w$.

# %%
e = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
w = torch.tensor([0.7, -0.3, 1.0, 0.5])
U = torch.tensor([[1.0, 0.0, 1.0, 0.0], [0.0, 1.0, 0.0, 1.0]])
o = torch.tensor([2.0, 1.0])


def linear(h, e, w=w):
    return torch.stack([w @ torch.cat([h, e_i]) for e_i in e])


def additive(h, e):
    return torch.stack([o @ torch.tanh(U @ torch.cat([h, e_i])) for e_i in e])


states = {"calm": torch.tensor([1.0, 0.0]), "wild": torch.tensor([-2.0, 3.0])}
looks = {
    (kind.__name__, name): torch.softmax(kind(h, e), dim=0)
    for kind in (linear, additive)
    for name, h in states.items()
}

# %% [markdown]
# **Check.** Under the linear score two very different states give the same weights; under the additive one they do not.
# The gradient for $w_h$ is zero.
# {py:func}`~medrec.models.leap.linear_scores`, {py:func}`~medrec.models.leap.additive_scores` and {py:func}`~medrec.models.leap.attend` of the real system agree.

# %%
for name, h in states.items():
    torch.testing.assert_close(
        looks["linear", name], torch.tensor([0.3072, 0.1863, 0.5065]), **close
    )
    torch.testing.assert_close(
        looks["linear", name] @ e, torch.tensor([0.8137, 0.6928]), **close
    )
    real_codes = torch.ones(1, 3, dtype=torch.bool)
    for key, scored in {
        "linear": linear_scores(h[None], e[None], w),
        "additive": additive_scores(h[None], e[None], U, o),
    }.items():
        weights, seen = attend(scored, e[None], real_codes)
        torch.testing.assert_close(weights[0], looks[key, name])
        torch.testing.assert_close(seen[0], looks[key, name] @ e)
torch.testing.assert_close(
    looks["additive", "calm"], torch.tensor([0.2188, 0.3126, 0.4686]), **close
)
torch.testing.assert_close(
    looks["additive", "wild"], torch.tensor([0.3739, 0.2505, 0.3755]), **close
)
w_free = w.clone().requires_grad_()
(torch.softmax(linear(states["wild"], e, w_free), dim=0) @ e).sum().backward()
assert w_free.grad[:2].abs().max() < 1e-6 < w_free.grad[2:].abs().max()
show("a linear score cannot look at the state")

# %% [markdown]
# The released code holds a second slip: after the first word the variable with the diagnoses is overwritten by the context, so from the second word on attention runs over a single vector.
# What does that change?


# %%
def four_steps(score, keep):
    """Contexts and weights of four words; tanh(h + c) stands for the recurrent cell."""
    h, memory, contexts, weights = states["calm"], e, [], []
    for _ in range(4):
        a = torch.softmax(score(h, memory), dim=0)
        contexts.append(a @ memory)
        weights.append(a)
        h = torch.tanh(h + contexts[-1])
        memory = memory if keep else contexts[-1][None]
    return torch.stack(contexts), weights


kept = {score.__name__: four_steps(score, True) for score in (linear, additive)}
lost = {score.__name__: four_steps(score, False) for score in (linear, additive)}

# %% [markdown]
# **Check.** Under the linear score nothing, to rounding: the weights never change, so the first context is every context.
# Under the additive score the contexts differ, because after the overwrite nothing is left to choose from.

# %%
torch.testing.assert_close(kept["linear"][0], lost["linear"][0], atol=1e-6, rtol=0)
assert (kept["additive"][0] - lost["additive"][0]).abs().max() > 1e-2
show("a slip hidden behind another")

# %% tags=["hide-input"]
#| name: fig-leap-attention
#| alt: Two heat maps of attention weights, four steps by three diagnoses. With the linear score all four rows are the
#|   same; with the additive score they differ from step to step.
#| caption: Attention over three diagnoses before each of four words, with the linear score (left) and the additive
#|   one (right), memory kept. Toy numbers, exact. Identical rows: the decoder cannot ask for another diagnosis.
fig, axes = plt.subplots(1, 2, figsize=(plotting.FULL, 2.4), sharey=True)
for ax, (name, (_, weights)) in zip(axes, kept.items(), strict=True):
    grid = torch.stack(weights)
    ax.imshow(grid, cmap="Greys", vmin=0, vmax=0.8, aspect="auto")
    for (k, i), value in np.ndenumerate(grid.numpy()):
        ink = "white" if value > 0.45 else "black"
        ax.text(i, k, f"{value:.2f}", ha="center", va="center", color=ink)
    ax.set_xticks(range(3), ["diagnosis 1", "2", "3"])
    ax.set_xlabel(name)
    ax.grid(False)
axes[0].set_yticks(range(4), [f"word {k}" for k in range(1, 5)])
show(fig)

# %% [markdown]
# ```{exercise}
# :label: ex-leap-shift
#
# Prove it: why do the weights not depend on $h$, and why does attending to the one vector $g$ give $g$ again?
# ```
#
# ````{solution} ex-leap-shift
# :class: dropdown
#
# $w_h^\top h$ is the same number in every exponent, and a softmax ignores a common shift: $e^{w_h^\top h}$ stands above and below the line.
# A softmax over one element is one, so the context of the single vector $g$ is $g$, the value that every later step would have computed anyway.
# ````
#
# ## A list of at most K words
#
# The released LEAP stops after twenty words.
# A list of at most $K$ medications has a ceiling, however good its words are: with $n_+$ medications prescribed,
#
# $$
# J \;\le\; \min\Bigl(1, \frac{K}{n_+}\Bigr), \qquad F_1 \;\le\; \min\Bigl(1, \frac{2K}{K + n_+}\Bigr) .
# $$ (eq-leap-ceiling)

# %%
K = 20
sizes = records.codes["medication"].lengths
ceiling = np.minimum(1, K / sizes)

# %% [markdown]
# **Check.** The best possible list of twenty, for visits of 18 to 40 medications, and the metric itself on such lists.

# %%
for n, bound in zip([18, 20, 25, 30, 40], [1, 1, 0.8, 2 / 3, 0.5], strict=True):
    prescribed = (np.arange(40) < n)[None]
    listed = (np.arange(40) < min(n, K))[None]
    np.testing.assert_allclose(metrics.jaccard(prescribed, listed), [bound])
    np.testing.assert_allclose(min(1, K / n), bound)
page.glue(
    over_limit=page.about(records, f"{privacy.share(records, sizes > K):.1%}"),
    mean_ceiling=float(ceiling.mean()),
)
show({n: round(min(1, K / n), 3) for n in (18, 20, 25, 30, 40)})

# %% tags=["hide-input"]
#| name: fig-leap-ceiling
#| alt: Step histogram of the number of medications of a visit, with the part above twenty shaded and the ceiling on
#|   Jaccard as a falling line on a second axis.
#| caption: Medications of a visit, all visits of {glue:text}`cohort_line`; shaded: more than twenty, out of reach of
#|   the released LEAP. Line: ceiling on Jaccard of a list of twenty, {eq}`eq-leap-ceiling`. No interval: a count.
#|   Notice how much of the mass lies right of the edge.
fig, ax = plt.subplots(figsize=(plotting.ONE_COLUMN, 2.8))
bins = np.arange(0.5, 62, 2)
share_of = privacy.counts_of(records, np.histogram(sizes.clip(max=60), bins)[0])
share_of /= len(sizes)
ax.stairs(share_of, bins, color=plotting.color("LEAP"), lw=1.5)
ax.stairs(share_of[10:], bins[10:], fill=True, color=plotting.color("LEAP"), alpha=0.35)
ax.set(xlabel="medications of a visit", ylabel="share of visits")
above = ax.twinx()
n = np.arange(1, 61)
above.plot(n, np.minimum(1, K / n), "--", color=plotting.INK)
above.set(ylabel="ceiling on Jaccard", ylim=(0, 1.05))
above.grid(False)
show(fig)

# %% [markdown]
# Of these visits {glue:text}`over_limit` hold more than twenty classes; a perfect writer of twenty words would reach a mean Jaccard of {glue:text}`mean_ceiling:.3f`.
#
# ```{exercise}
# :label: ex-leap-ceiling
#
# What is the ceiling on Jaccard at $n_+ = 25$, and on F1 at $n_+ = 30$?
# ```
#
# ````{solution} ex-leap-ceiling
# :class: dropdown
#
# $20/25 = .8$, and $2 \cdot 20 / 50 = .8$.
# ````
#
# ## Why a greedy list can be too long
#
# LEAP's lists have a fixed order, and at each step the decoder says how probable every *next word* is, the end among them.
# Let the medications of a visit be there independently, medication $i$ with probability $p_i$.
# A perfect writer that stands before medication $k$ of the order then says
#
# $$
# P(i) = p_i \prod_{k \le j < i} (1 - p_j), \qquad P(\text{end}) = \prod_{j \ge k} (1 - p_j) .
# $$ (eq-next-word)
#
# Written greedily, the list ends only when the end beats the best *single* word.
# With $n$ medications left of probability $p$ each, that is $(1 - p)^n > p$.
# At that moment $np$ more are expected: {glue:text}`ends_rare:.1f` where $p = .05$, {glue:text}`ends_even:.1f` where $p = .5$ ({numref}`fig-list-ends`).
# The question that Jaccard asks is another one: is *this* medication there?
# Its answer stands in the same numbers:
#
# $$
# q_i = \frac{P(i)}{1 - \sum_{j < i} P(j)} .
# $$ (eq-chain-chance)
#
# A *chain* asks this question of one medication after the other, in the order of the list, and writes those whose $q_i$ reaches a threshold.


# %%
def next_word(p, k=0):
    """Probabilities of medications k, k + 1, ... as the next word, and of the end."""
    absent = np.cumprod([1, *(1 - p[k:])])
    return p[k:] * absent[:-1], absent[-1]


def greedy(p):
    """What is written if the most probable next word is."""
    listed, k = [], 0
    while k < len(p):
        word, end = next_word(p, k)
        if end >= word.max():
            break
        listed.append(k + int(word.argmax()))
        k = listed[-1] + 1
    return listed


# %% [markdown]
# **Check.** Thirty medications of probability .2: six are expected, and greed writes 23, because $.8^8 < .2 < .8^7$.
# By {eq}`eq-chain-chance`, {py:func}`~medrec.nn.lists.chances` of the real writers, each of them has its .2 back, whoever was passed over.

# %%
thirty = np.full(30, 0.2)
word, end = next_word(thirty)
np.testing.assert_allclose(word.sum() + end, 1)
assert greedy(thirty) == list(range(23))
assert 0.8**8 < 0.2 < 0.8**7
mixed = np.array([0.9, 0.3, 0.5, 0.05, 0.3])
for p in (thirty, mixed):
    word, end = next_word(p)
    q = chances(torch.from_numpy(word), torch.tensor(end))
    np.testing.assert_allclose(q, p)
show({"expected": round(thirty.sum(), 1), "written": len(greedy(thirty))})

# %% [markdown]
# **Break it.** The order of the list decides which words compete.
# Put ten sure medications, of probability .9, beside the thirty of .2.
# With the frequent ones first, greed writes the ten and then 23 of the others, as before.
# With the rare ones first, the list is no shorter.
# In the order of class codes frequent and rare ones are mixed; let a sure one stand behind every three others.
# Then the next sure one is always more probable as the next word than each of the three, these are passed over, and greed writes the right ten.
# The chain writes the right ten in all three orders.


# %%
def counts_of(p):
    """Distribution of how many independent medications are there."""
    mass = np.ones(1)
    for x in p:
        mass = np.convolve(mass, [1 - x, x])
    return mass


def expected_jaccard(p, listed):
    """Mean Jaccard of a list over all sets that independent medications make."""
    chosen = np.isin(np.arange(len(p)), listed)
    hits, missed = counts_of(p[chosen]), counts_of(p[~chosen])
    size = chosen.sum() + np.arange(len(missed))
    return float(hits @ (np.arange(len(hits))[:, None] / size) @ missed)


sure, other = [0.9] * 10, [0.2] * 30
orders = {
    "frequency": np.array(sure + other),
    "rare first": np.array(other + sure),
    "class code": np.array(([0.2] * 3 + [0.9]) * 10),
}
toy_lists = pl.DataFrame(
    [
        {
            "order": name,
            "writing": way,
            "words": len(listed),
            "expected Jaccard": expected_jaccard(p, listed),
        }
        for name, p in orders.items()
        for way, listed in (
            ("greedy", greedy(p)),
            ("chain, threshold .4", np.flatnonzero(p >= 0.4)),
        )
    ]
)
by_greed = toy_lists.filter(writing="greedy")
by_chain = toy_lists.filter(pl.col("writing") != "greedy")
assert by_greed["words"].to_list() == [33, 34, 10]
assert by_chain["words"].to_list() == [10, 10, 10]
np.testing.assert_allclose(
    by_chain["expected Jaccard"], by_greed["expected Jaccard"][2]
)
assert by_chain["expected Jaccard"][0] > by_greed["expected Jaccard"][0] + 0.1
words_by_greed = dict(by_greed.select("order", "words").iter_rows())
page.glue(
    words_frequency=words_by_greed["frequency"],
    words_rare=words_by_greed["rare first"],
    words_code=words_by_greed["class code"],
    worth_chain=by_chain["expected Jaccard"][0],
    worth_frequency=by_greed["expected Jaccard"][0],
)
show(
    page.table(
        toy_lists,
        caption=(
            "Forty independent medications in three orders, fifteen of them expected: "
            "what a perfect writer's lists are worth. Toy, exact."
        ),
        digits=3,
        name="tab-toy-lists",
    )
)


# %% tags=["hide-input"]
#| name: fig-list-ends
#| alt: Line chart with the probability of each medication that is left on the horizontal axis and, on the vertical
#|   axis, how many more medications are expected at the moment a greedy list ends. The curve falls from four at small
#|   probabilities through one near 0.3 to one half at 0.5; a dotted line marks one.
#| caption: How many more medications are expected when a greedy list ends, if all that are left have the same
#|   probability: the $n p$ at which $(1 - p)^n = p$. Toy, exact. Dotted: one medication. The less probable the
#|   medications that are left, the more of them are expected behind the end.
def expected_at_end(p):
    return p * np.log(p) / np.log1p(-p)


page.glue(ends_rare=float(expected_at_end(0.05)), ends_even=float(expected_at_end(0.5)))
single = np.linspace(0.02, 0.5, 97)
left = expected_at_end(single)
fig, ax = plt.subplots(figsize=(plotting.ONE_COLUMN, 2.6))
ax.plot(single, left, color=plotting.color("LEAP"))
ax.axhline(1, ls=":", color=plotting.INK)
ax.set(xlabel="probability of each medication", ylabel="expected behind the end")
ax.set(ylim=(0, None))
show(fig)

# %% [markdown]
# The greedy lists hold {glue:text}`words_frequency`, {glue:text}`words_rare` and {glue:text}`words_code` words; the one in the order of frequency is worth an expected Jaccard of {glue:text}`worth_frequency:.3f`, the chain {glue:text}`worth_chain:.3f`.
# So LEAP can be read in three ways, the setting `writing`: `greedy` as published, `chain`, or `samples`, the share of sixteen drawn lists that hold a medication.
# The last two give every medication a probability, which is cut at a threshold as that of any other system.
#
# ```{exercise}
# :label: ex-leap-halves
#
# All medications that are left have probability one half.
# How many of them does a greedy list write, and how many a chain with threshold .4?
# ```
#
# ````{solution} ex-leap-halves
# :class: dropdown
#
# The first has $P = .5$, the end $.5^n$: with two or more left the word wins, with one left they tie, and the list ends.
# So all but one are written; the chain writes all, as each is asked alone.
# ````
#
# ## A change of nothing
#
# MICRON {cite:p}`yang2021micron` predicts what *changes*.
# Visit $t$ becomes a health state $h_t$, a prescription network $N$ turns states into logits, and the same network is applied to the difference of two states:
#
# $$
# \Delta_t = N(h_t - h_{t-1}), \qquad \tilde z_1 = N(h_1), \qquad \tilde z_t = \tilde z_{t-1} + \Delta_t,
# $$ (eq-micron-residual)
#
# $$
# N(x) = W_2 \operatorname{ReLU}(W_1 x + b_1) + b_2 .
# $$ (eq-micron-network)
#
# The logits $\tilde z_t$ give probabilities $p_t = \sigma(\tilde z_t)$.
# A medication is added to the prescription when its probability reaches $\delta_1$ and dropped when it falls below $\delta_2$; in released trainings these are .8 and .2.
#
# The idea of the paper: no change of the codes, no change of the prescription.
# In the released code $N$ keeps its biases inside the difference too.
# The toy patient starts from logits of zero, so from $p_1 = (.5, .5)$, and keeps the same codes.

# %%
W1, b1 = torch.tensor([[1.0], [-1.0]]), torch.tensor([0.5, 0.5])
W2, b2 = torch.tensor([[1.0, 0.5], [-1.0, 1.0]]), torch.tensor([0.05, -0.2])


def net(x, bias=1.0):
    return W2 @ torch.relu(W1 @ torch.tensor([float(x)]) + bias * b1) + bias * b2


drift = torch.sigmoid(torch.arange(5)[:, None] * net(0))

# %% [markdown]
# **Check.** $N(0) \ne 0$: the toy patient drifts; without the biases nothing moves.
# And as $N$ is not linear, $N(h_2) - N(h_1)$ is not $N(h_2 - h_1)$.
# {py:func}`~medrec.models.micron.prescription` agrees.

# %%
torch.testing.assert_close(net(0), torch.tensor([0.8, -0.2]))
expected = [
    [0.5, 0.5],
    [0.69, 0.4502],
    [0.832, 0.4013],
    [0.9168, 0.3543],
    [0.9608, 0.31],
]
torch.testing.assert_close(drift, torch.tensor(expected), **close)
assert not net(0, bias=0.0).any()
torch.testing.assert_close(net(2) - net(1), torch.tensor([1.0, -1.0]))
torch.testing.assert_close(net(2 - 1), torch.tensor([1.55, -1.70]))
for x in (-1.0, 0.0, 2.0):
    at = torch.tensor([x])
    torch.testing.assert_close(prescription(at, W1, b1, W2, b2), net(x))
    torch.testing.assert_close(prescription(at, W1, None, W2, None), net(x, bias=0.0))
show([[round(float(q), 4) for q in row] for row in drift])

# %% tags=["hide-input"]
#| name: fig-micron-drift
#| alt: Line chart of the probabilities of two medications over ten unchanged visits. With biases the first climbs
#|   from 0.5 towards 1 and crosses 0.8 at the third visit, the second falls and crosses 0.2 later; without biases
#|   both stay at 0.5.
#| caption: Probability of two medications of a patient whose codes never change, with biases in the difference
#|   (released, solid) and without (paper, dotted). Toy numbers, exact. Dashed: thresholds for adding and dropping.
#|   With biases a medication is added and another dropped although nothing has changed.
steps = torch.arange(10)
fig, ax = plt.subplots(figsize=(plotting.ONE_COLUMN, 2.6))
for m, marker in enumerate("os"):
    line = torch.sigmoid(steps * net(0)[m])
    ax.plot(steps + 1, line, "-" + marker, ms=4, label=f"medication {m + 1}")
ax.plot(steps + 1, torch.full((10,), 0.5), ":", color=plotting.INK, label="no biases")
for cut in (0.8, 0.2):
    ax.axhline(cut, ls="--", lw=0.8, color=plotting.INK)
ax.set(xlabel="visit", ylabel="probability", ylim=(0, 1))
ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)
show(fig)

# %% [markdown]
# ```{exercise}
# :label: ex-micron-drift
#
# At which visit is medication 1 added at $\delta_1 = .8$, and after how many unchanged steps is medication 2 dropped at $\delta_2 = .2$?
# ```
#
# ```{solution-start} ex-micron-drift
# :class: dropdown
# ```

# %%
logits = torch.arange(1, 12)[:, None] * net(0)
added = int((torch.sigmoid(logits[:, 0]) >= 0.8).nonzero()[0]) + 2
dropped = int((torch.sigmoid(logits[:, 1]) < 0.2).nonzero()[0]) + 1
assert (added, dropped) == (3, 7)
show((added, dropped))

# %% [markdown]
# At the third visit, since $\operatorname{logit} .8 = 1.386 < 1.6$; and after seven steps.
#
# ```{solution-end}
# ```
#
# ## A set that is carried
#
# The recommended set $S_t$ is carried from visit to visit and only changed by the two thresholds:
#
# $$
# S_t = \bigl( S_{t-1} \cup \{m : p_{tm} \ge \delta_1\} \bigr) \setminus \{m : p_{tm} < \delta_2\} .
# $$ (eq-micron-carried)
#
# In the paper's setting $S_1$ is the *true* set of the first visit; that visit is not scored.

# %%
z = torch.tensor([[2.0, 0, -2], [1, 1.6, -1], [-1, 1, 2], [-1.6, 0.2, 1.2]])
p = torch.sigmoid(z)


def carry(start, p, add, drop):
    held, sets = set(start), []
    for row in p.tolist():
        held |= {m + 1 for m, q in enumerate(row) if q >= add}
        held -= {m + 1 for m, q in enumerate(row) if q < drop}
        sets.append(sorted(held))
    return sets


# %% [markdown]
# **Check.** From the true set, from a guess at one half, and with one threshold in the place of two, where the start is forgotten at once; {py:func}`~medrec.models.micron.carried_sets` agrees.

# %%
guessed = [m + 1 for m in range(3) if p[0, m] >= 0.5]
assert guessed == [1, 2]
timelines = {
    "true start": carry([1, 3], p[1:], 0.8, 0.2),
    "start from an estimate": carry(guessed, p[1:], 0.8, 0.2),
    "one threshold": carry([1, 3], p[1:], 0.5, 0.5),
}
assert timelines["true start"] == [[1, 2, 3], [1, 2, 3], [2, 3]]
assert timelines["start from an estimate"] == [[1, 2], [1, 2, 3], [2, 3]]
assert timelines["one threshold"] == [[1, 2], [2, 3], [2, 3]]
assert timelines["one threshold"] == carry(guessed, p[1:], 0.5, 0.5)
for start, cuts, name in [
    ([True, False, True], (0.8, 0.2), "true start"),
    ([True, True, False], (0.8, 0.2), "start from an estimate"),
    ([True, False, True], (0.5, 0.5), "one threshold"),
]:
    sets = carried_sets(p[None, 1:], torch.tensor([start]), *cuts)[0]
    assert [(row.nonzero()[:, 0] + 1).tolist() for row in sets] == timelines[name]
show(timelines)

# %% tags=["hide-input"]
#| name: fig-micron-carried
#| alt: Three timelines of three medications over four visits, filled squares where a medication is in the set. True
#|   start and start from an estimate differ at the second visit and agree from the third on; with one threshold
#|   medication 1 is gone at the third visit.
#| caption: Carried sets of the toy over four visits; the first column is the start. Filled: in the set. Toy numbers,
#|   exact. With two thresholds the start still shows at visit 2 and is forgotten at visit 3; with one threshold it is
#|   forgotten at visit 2.
starts = {
    "true start": [1, 3],
    "start from an estimate": guessed,
    "one threshold": [1, 3],
}
fig, axes = plt.subplots(1, 3, figsize=(plotting.FULL, 2.0), sharey=True)
for ax, (name, sets) in zip(axes, timelines.items(), strict=True):
    for t, held in enumerate([starts[name], *sets]):
        for m in (1, 2, 3):
            face = plotting.color("MICRON") if m in held else "none"
            ax.plot(t + 1, m, "s", ms=11, mfc=face, mec=plotting.color("MICRON"))
    ax.set(xlim=(0.4, 4.6), ylim=(3.6, 0.4), xlabel=name, xticks=range(1, 5))
    ax.grid(False)
axes[0].set_yticks([1, 2, 3], ["medication 1", "2", "3"])
show(fig)

# %% [markdown]
# ```{exercise}
# :label: ex-micron-hysteresis
#
# What do two thresholds buy, $\delta_1 > \delta_2$, that one does not?
# ```
#
# ````{solution} ex-micron-hysteresis
# :class: dropdown
#
# Hysteresis: a medication whose probability wavers between the two stays where it is, in the set or out of it, and does not flicker from visit to visit.
# ````

# %% [markdown]
# ## Putting it together
#
# {py:class}`~medrec.models.retain.RETAIN` embeds the codes of each visit, runs two GRUs, and applies {eq}`eq-retain-alpha` and {eq}`eq-retain-context`.
# The reversed sequence is another one for each target visit, so a batch holds one row for each pair of a patient and a target.
# {py:class}`~medrec.models.leap.LEAP` writes with a GRU cell that reads the context and the word before, never a word twice, until it writes the end sign.
# {py:class}`~medrec.models.micron.MICRON` applies {eq}`eq-micron-residual` and {eq}`eq-micron-carried` to all visits of a batch at once.
#
# The trainings of this page have one seed{glue:text}`cut_short`; they show how the systems work.

# %%
quick = profile == "quick"
few = {"epochs": 12, "learning_rate": 4e-3} if quick else {}
runs = {
    "RETAIN": train("retain", records, seed=seed, settings=few, device=device),
    "RETAIN, released": train(
        "retain", records, variant="official", seed=seed, settings=few, device=device
    ),
    "LEAP": train(
        "leap",
        records,
        seed=seed,
        settings={**few, "epochs": 3} if quick else {},
        device=device,
    ),
    "MICRON": train("micron", records, seed=seed, settings=few, device=device),
    "MICRON, released": train(
        "micron", records, variant="official", seed=seed, settings=few, device=device
    ),
}
papers = {name: run for name, run in runs.items() if "released" not in name}
references = {
    "last visit": train("last-visit", records),
    "popularity": train("popularity", records),
    "LR": train("lr", records),
    "LR, as published": train("lr", records, variant="official"),
}

# %% tags=["hide-input"]
#| name: fig-sequence-curve
#| alt: Line chart of validation Jaccard against epoch for RETAIN and MICRON, each in its paper and released variant,
#|   and LEAP with fewer epochs. All rise and flatten.
#| caption: Jaccard (↑ better) of the validation patients against epoch, one training seed each, on
#|   {glue:text}`cohort_line`. LEAP was trained for {glue:text}`leap_epochs` epochs, RETAIN for
#|   {glue:text}`retain_epochs`, MICRON for {glue:text}`micron_epochs`. No interval, and no comparison: the systems
#|   score different visits. Dashed: released variants.
page.glue(
    cohort_line=page.cohort_line(records),
    cut_short=page.about(records, ", cut short after a few epochs" if quick else ""),
    **{f"{name.lower()}_epochs": runs[name].metrics["epochs"] for name in papers},
)
fig, ax = plt.subplots(figsize=(plotting.ONE_COLUMN, 2.8))
for name, run in runs.items():
    look = plotting.look(name.partition(",")[0])
    ax.plot(
        run.history["epoch"],
        run.history["jaccard"],
        "--" if "released" in name else "-",
        marker=look.marker,
        ms=3,
        label=name,
        color=look.color,
        alpha=0.6 if "released" in name else 1,
    )
ax.set(xlabel="epoch", ylabel="Jaccard of validation patients ↑")
ax.legend()
show(fig)

# %% [markdown]
# ### What the trained networks attend to
#
# The checks of the toys hold in the trained networks too; they stand in the audit.

# %% tags=["hide-input"]
#| name: fig-retain-weights
#| alt: Bar chart of mean attention weight by how many visits back a visit lies, for the trained paper variant and the
#|   released one. The released weights are all one; the paper's add up to one and are spread over the visits.
#| caption: Mean weight α of a past visit by its distance from the target, for targets with at least three past visits
#|   of the {glue:text}`n_longest` longest records of {glue:text}`cohort_line`. One training seed. The released weights
#|   are all one; the weights of the paper's variant are {glue:text}`closeness`.
longest = np.argsort(np.diff(records.visit_offsets))[-32:]
batch = VisitBatch.build(records, longest)
fig, ax = plt.subplots(figsize=(plotting.ONE_COLUMN, 2.6))
for offset, (name, hatch) in enumerate(
    {"RETAIN": "", "RETAIN, released": "//"}.items()
):
    network, knowledge = load_system(runs[name])
    with torch.inference_mode():
        weights = network.attention(batch, knowledge)
    back = [
        [
            float(weights[p, t, t - d])
            for p, t in network.scored(batch).nonzero().tolist()
            if t >= 3
        ]
        for d in (1, 2, 3)
    ]
    ax.bar(
        np.arange(3) + (offset - 0.5) * 0.38,
        [np.mean(x) for x in back],
        width=0.36,
        label=name,
        hatch=hatch,
        color=plotting.color("RETAIN"),
        alpha=1 - 0.45 * offset,
    )
ax.set(
    xticks=range(3),
    xticklabels=["1", "2", "3"],
    xlabel="visits back from the target",
    ylabel="mean α",
)
ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
show(fig)

# %% tags=["remove-cell"]
network, knowledge = load_system(runs["RETAIN"])
with torch.inference_mode():
    weights = network.attention(batch, knowledge)
long = network.scored(batch) & (torch.arange(weights.shape[1]) >= 3)
even = torch.arange(weights.shape[1]).expand_as(long)[long].float().log()
entropy = float((torch.special.entr(weights[long]).sum(-1) / even).mean())
page.glue(
    n_longest=len(longest),
    entropy_paper=entropy,
    closeness=page.about(
        records,
        "close to equal" if entropy > 0.9 else "not equal",
        patients=len(longest),
    ),
)

# %% [markdown]
# The weights of the paper's variant have {glue:text}`entropy_paper:.0%` of the entropy of equal weights.

# %% tags=["hide-input"]
#| name: fig-leap-moved
#| alt: Line chart of the mean share of attention that has moved away from where it was before the first word, by
#|   word. It starts at zero and lies above it from the second word on; a flat line at zero marks the linear score.
#| caption: Share of LEAP's attention that has moved since the first word, mean over visits of the
#|   {glue:text}`n_longest` longest records of {glue:text}`cohort_line` that write so many words. One training seed, no
#|   interval. Dashed: what a linear score can do. At no word has more than {glue:text}`most_moved:.0%` of it moved.
leap, knowledge = load_system(runs["LEAP"])
with torch.inference_mode():
    lists = leap.write(batch, batch.visit_mask).lists
    attended = leap.attention(batch, batch.visit_mask, lists)
listed = lists < records.n_medications
shift = (attended - attended[:, :1]).abs().sum(-1) / 2
shown_words = min(15, int((listed.sum(0) >= 10).sum()))
mean_shift = [float(shift[:, k][listed[:, k]].mean()) for k in range(shown_words)]
page.glue(most_moved=max(mean_shift, default=0.0))
fig, ax = plt.subplots(figsize=(plotting.ONE_COLUMN, 2.4))
ax.plot(np.arange(shown_words) + 1, mean_shift, "-s", color=plotting.color("LEAP"))
ax.axhline(0, ls="--", color=plotting.INK)
ax.set(xlabel="word", ylabel="share of attention moved")
show(fig)

# %% [markdown]
# ## Results
#
# In print the three do not all stand above LR, a regression on today's codes alone:

# %% tags=["hide-input"]
shown = ["LR", "RETAIN", "LEAP", "MICRON"]
in_print = pl.concat(
    [
        published.table(paper, 2)
        .filter(pl.col("system").is_in(shown))
        .select("paper", "database", "system", "Jaccard")
        for paper in ("bimorec", "nlammr")
    ]
).pivot("system", index=["paper", "database"], values="Jaccard")
show(
    page.table(
        in_print.select("paper", "database", *shown),
        caption="Jaccard in table 2 of two papers, as printed.",
        digits=4,
        name="tab-sequence-print",
    )
)

# %% [markdown]
# {numref}`tab-sequence-rows` holds the trainings of this page, beside reference points.
# It shows how much hangs on which visits count and on the threshold, and ranks nobody; {doc}`13_bimorec_results` does that, with seeds.
# MICRON keeps its published thresholds, .8 and .2; LEAP {glue:text}`leap_read`.
# Whoever knows the first prescription may also repeat it at every later visit: *first visit again*.

# %%
_, knowledge = load_system(runs["LEAP"])
split = split_patients(records.n_patients, 0)  # the split of the trainings
test = records.select(split.test)
ddi = knowledge.ddi.numpy()
given = test.codes["medication"].multi_hot(test.n_medications)
first_again = given[test.visit_offsets[:-1]][test.patient_of_visit]
if (test.visit_number > 0).any():
    first_repeated = evaluate(
        test, first_again, ddi, scored=test.visit_number > 0, patients=split.test
    )
n_tested = test.n_patients
n_later = int((np.diff(test.visit_offsets) > 1).sum())

# %% tags=["hide-input"]
counted = {
    "all": GROUPS,
    "first": GROUPS[:1],
    "later": FROM_SECOND,
}


def few_columns(interval):
    """What is worth a column here."""
    columns = in_columns(interval)
    return {name: columns[name] for name in ("Jaccard", "PRAUC", "medications")}


def system_rows(name, run):
    """Rows of one system, for each threshold and group of visits."""
    history = not run.evaluation("own").per_patient["group"].eq("first").any()
    for cut in ("own", "tuned") if run.threshold is not None else ("none",):
        evaluation = run.evaluation("tuned" if cut == "none" else cut)
        for visits, groups in list(counted.items())[2 if history else 0 :]:
            interval = bootstrap(evaluation, groups=groups, seed=seed)
            label = name if cut == "none" else f"{name}, {cut}"
            yield {"system": label, "visits": visits} | few_columns(interval)


rows = [row for name, run in papers.items() for row in system_rows(name, run)]
for name, run in references.items():
    left_out = ", tuned" if name == "LR, as published" else ", own"
    rows += [
        row for row in system_rows(name, run) if not row["system"].endswith(left_out)
    ]
last_row = {"system": "first visit again", "visits": "later"}
interval = bootstrap(first_repeated, seed=seed)
rows.append(last_row | few_columns(interval))
tested, with_later = (
    page.thousands(privacy.count(records, n)) for n in (n_tested, n_later)
)
show(
    page.table(
        pl.DataFrame(rows),
        caption=f"{page.cohort_line(records)}: {tested} test patients, {with_later} of them with a second visit; "
        f"trainings of one seed{', cut short after a few epochs' if quick else ''}. "
        "Own: at the published threshold; tuned: at one chosen on validation patients. Later: second and later visits. "
        "Brackets: 95 % bootstrap intervals over patients; they do not show the spread between seeds.",
        name="tab-sequence-rows",
    )
)

# %% tags=["remove-cell"]
micron_again = runs["MICRON"].evaluation("own")
beyond_first = paired_difference(first_repeated, micron_again, seed=seed)["jaccard"]
last_repeated = references["last visit"].evaluation("own")
beyond_last = paired_difference(last_repeated, micron_again, seed=seed)["jaccard"]


def unless_cut_short(result, name, converged):
    """A verdict on a training of this page, if it was long enough to bear one."""
    if converged:
        return result
    return Verdict("no verdict", f"{name}'s training had not converged.")


learns = unless_cut_short(
    verdict(
        beyond_first, cohort=records.name, source=records.source, n_patients=n_later
    ),
    "MICRON",
    runs["MICRON"].metrics["converged"],
)
leap_said = runs["LEAP"].metrics
if not leap_said["converged"] or leap_said["degenerate"]:
    leap_standing = f" No verdict on LEAP: {runs['LEAP'].warning}."
elif leap_said["below_popularity"]:
    leap_standing = " This LEAP stands below popularity."
else:
    leap_standing = ""
written_sets = predict(leap, test, knowledge).recommended
different, how_often = np.unique(written_sets, axis=0, return_counts=True)
page.glue(
    learns=page.about(records, str(learns), patients=n_later),
    beyond_first=page.about(records, beyond_first.format(3), patients=n_later),
    beyond_last=page.about(records, beyond_last.format(3), patients=n_later),
    leap_read=page.about(
        records,
        "is read greedily, which has no threshold"
        if runs["LEAP"].threshold is None
        else "is read as a chain, whose threshold is tuned",
    ),
    leap_standing=page.about(records, leap_standing, patients=n_tested),
    n_lists=len(different),
    n_test_visits=privacy.count(records, test.n_visits),
    commonest_list=float(how_often.max() / test.n_visits),
)

# %% [markdown]
# After {glue:text}`leap_epochs` epochs LEAP writes {glue:text}`n_lists` different lists for {glue:text}`n_test_visits` visits, and gives the commonest one to {glue:text}`commonest_list:.0%` of them.
# A writer that has learnt to use the diagnoses writes almost as many lists as there are visits.{glue:text}`leap_standing`
#
# MICRON's Jaccard less that of the first visit repeated is {glue:text}`beyond_first`, less that of the last visit repeated {glue:text}`beyond_last`.
#
# :::{admonition} "MICRON predicts better than the first visit repeated"
# :class: verdict
# {glue:text}`learns`
# :::
#
# ### Switches, one at a time
#
# {numref}`tab-retain-switches`, {numref}`tab-leap-switches` and {numref}`tab-micron-switches`, with the figures below them, show longer trainings of several seeds, kept with the book.{glue:text}`elsewhere`
# Everything else on this page comes from its own trainings.
# The first row of each table follows the paper, and each other row turns one switch; *released* turns at once all that the released code does otherwise.
# Differences are paired by patient.
#
# The rule of the verdicts: a claimed gain *holds* where its whole 95 % interval lies above zero, it *does not hold* where the interval stays below {glue:text}`smallest`, the smallest difference that matters, and else it is *not decided*.
# Where a training had not converged there is *no verdict*.
# The band in the figures is that smallest difference; for PRAUC none is fixed, so PRAUC bears no verdict.

# %% tags=["hide-input"]
kept_rows = {
    name: grids.read(name, records, default="synthetic")
    for name in ("retain", "leap", "micron")
}
visits_of = {"retain": "later visits", "leap": "all visits", "micron": "later visits"}
n_kept = {name: int(grid.scores["patients"].max()) for name, grid in kept_rows.items()}
smallest = SMALLEST_DIFFERENCE["jaccard"]


def rows_of(name, metric="jaccard"):
    return kept_rows[name].by_key(visits=visits_of[name], metric=metric)


def called(row):
    return "released" if row["key"] == "official" else row["label"]


def others_of(name, metric="jaccard"):
    """All rows but the first, by what they are called."""
    rows = list(rows_of(name, metric).values())[1:]
    return {called(row): row for row in rows if row["delta"] is not None}


def judge(name, key, sign=-1, **more):
    """Whether the paper's row is better than another; with sign 1, the other way."""
    return kept_rows[name].judge(rows_of(name)[key], sign, **more)


def line(name):
    """Whose rows these are, and who of them counts."""
    counted = max(row["patients"] for row in rows_of(name).values())
    who = "all" if counted == n_kept[name] else counted
    which = f", which {who} of the patients have" * (visits_of[name] == "later visits")
    return f"{kept_rows[name].line}; {visits_of[name]}{which}"


CUT = {
    "retain": "thresholds tuned on validation patients",
    "leap": "greedy lists have no threshold",
    "micron": "at the published thresholds",
}
HOW = (
    "change against the first row, paired by patient. "
    "Brackets: 95 % of 1000 resamples of seeds and patients together."
)


def switch_columns(name):
    """What the table says of each row."""
    jaccard, prauc = rows_of(name), rows_of(name, "prauc")
    size, turned = rows_of(name, "n_medications"), list(jaccard)[1:]
    return {
        "row": [called(row) for row in jaccard.values()],
        "Jaccard": [grids.words(row) for row in jaccard.values()],
        "change": [None, *(grids.words(jaccard[x], "delta") for x in turned)],
        "change of PRAUC": [None, *(grids.words(prauc[x], "delta") for x in turned)],
        "medications": [round(row["value"], 1) for row in size.values()],
        "first row better?": [None, *(judge(name, x).word for x in turned)],
    }


def switch_table(name):
    """One row for each switch of a system."""
    return page.table(
        pl.DataFrame(switch_columns(name)),
        caption=f"{registry.get(name).label}, switch by switch: {line(name)}; {CUT[name]}; {HOW}",
        digits={"medications": 1},
        name=f"tab-{name}-switches",
    )


def changes_of(name):
    """Change of Jaccard of each row but the first, with its interval."""
    return {x: grids.interval(row, "delta") for x, row in others_of(name).items()}


# %% tags=["remove-cell"]
def outside(name):
    """Which intervals of a figure lie wholly outside of its band, in words."""
    found = [
        x
        for x, row in others_of(name).items()
        if row["delta_low"] > smallest or row["delta_high"] < -smallest
    ]
    if not found:
        return "No interval lies wholly outside of the band"
    return f"Wholly outside of the band: {'; '.join(found)}"


def apart(name):
    """Which rows' PRAUC differs from the first one's by more than its interval."""
    found = [
        f"{x}, {grids.words(row, 'delta')}"
        for x, row in others_of(name, "prauc").items()
        if row["delta_low"] > 0 or row["delta_high"] < 0
    ]
    if not found:
        return "In PRAUC the interval of every change holds zero"
    return f"In PRAUC the interval of the change excludes zero for {'; '.join(found)}"


def outweighs(name, some, rest):
    """Whether a row of some moves Jaccard by more than all of the rest do."""
    grid, rows = kept_rows[name], rows_of(name)
    if any(grid.not_learnt(key) for key in (grid.reference, *some, *rest)):
        return "no verdict"

    def most(keys):
        """Least and most that the one that moves it most may move it by."""
        ends = [(rows[key]["delta_low"], rows[key]["delta_high"]) for key in keys]
        least = max(max(0.0, low, -high) for low, high in ends)
        return least, max(max(-low, high) for low, high in ends)

    (low, high), (low_rest, high_rest) = most(some), most(rest)
    decided = "does not hold" if low_rest > high else "not decided"
    return "holds" if low > high_rest else decided


def glue_about(name, **words):
    page.glue(
        **{
            k: page.about(records, str(v), patients=n_kept[name])
            for k, v in words.items()
        }
    )


for name in kept_rows:
    glue_about(
        name,
        **{
            f"{name}_line": line(name),
            f"{name}_outside": outside(name),
            f"{name}_apart": apart(name),
        },
    )
page.glue(
    smallest=smallest,
    elsewhere=page.about(
        records,
        page.elsewhere(7, records.name, (grid.cohort for grid in kept_rows.values())),
        patients=n_kept["retain"],
    ),
)

# %% [markdown]
# #### RETAIN: does attention earn anything?
#
# - *Softmax over features*: every α is one, {eq}`eq-retain-dead`.
# - *Visits read forward*: both networks read the oldest visit first.
# - *Released*: both of these slips.
# - *With the visit itself*: its diagnoses and procedures are read as the latest step, its medications stay hidden.
#
# Prediction before the numbers: the two slips of the released code cost little, because $\beta$ can do what $\alpha$ does not.
# And seeing the codes of the visit itself, which the published protocol withholds, is worth more than either.

# %% tags=["hide-input"]
show(switch_table("retain"), patients=n_kept["retain"])

# %% tags=["hide-input"]
#| name: fig-retain-switches
#| alt: Forest plot of the change of Jaccard against the paper's RETAIN for a softmax over features, visits read
#|   forward, the released variant, and with the codes of the visit itself, with 95 percent intervals and a band of
#|   the smallest difference of interest.
#| caption: Change of Jaccard against the paper's RETAIN (→ better). {glue:text}`retain_line`. Bars: 95 % of 1000
#|   resamples of seeds and patients together, paired by patient. Band: smallest difference that matters.
#|   {glue:text}`retain_outside`.
fig, ax = plt.subplots(figsize=(plotting.FULL, 2.2))
plotting.plot_changes(ax, changes_of("retain"), smallest=smallest, systems="RETAIN")
ax.set_xlabel("change of Jaccard →")
show(fig, patients=n_kept["retain"])

# %% tags=["remove-cell"]
attention = judge("retain", "features")
released = judge("retain", "official", 1, equal=True)
present = judge("retain", "current", 1)
worth_more = outweighs("retain", ["current"], ["features", "forward"])
if present.word == "does not hold" or (
    worth_more == "holds" and present.word != "holds"
):
    worth_more = present.word
glue_about(
    "retain",
    attention=attention,
    reversed=judge("retain", "forward"),
    released=released,
    present=present,
    little=released.word,
    worth_more=worth_more,
)

# %% [markdown]
# The prediction that the two slips cost little: {glue:text}`little`.
# That the codes of the visit are worth more than either: {glue:text}`worth_more`.
# {glue:text}`retain_apart`.
#
# :::{admonition} "Attention over visits raises RETAIN's score"
# :class: verdict
# {glue:text}`attention`
# :::
#
# :::{admonition} "Reading the latest visit first raises RETAIN's score"
# :class: verdict
# {glue:text}`reversed`
# :::
#
# :::{admonition} "With both slips, weights of one and visits read forward, RETAIN scores as it does without them"
# :class: verdict
# {glue:text}`released`
# :::
#
# :::{admonition} "The published row of RETAIN is handicapped by not seeing the visit itself"
# :class: verdict
# {glue:text}`present`
# :::
#
# #### LEAP: which slip costs, and does the order matter?
#
# - *Linear attention*: the linear score of {eq}`eq-leap-scores`, which does not follow the writer.
# - *Memory overwritten*: after the first word only its context can be attended to; the score stays additive.
# - *Rare first* and *order of the record*: the order of the lists, in the first row frequent medications first. In our cohorts the record has the order of class codes.
# - *Released*: linear attention, overwritten memory, the order of the record, and at most twenty words.
#
# These are read greedily.{glue:text}`chain_rows`
#
# Prediction before the numbers: under the linear score the overwritten memory changes nothing.
# The order of the words is arbitrary, so it should matter less than what is looked at.

# %% tags=["hide-input"]
show(switch_table("leap"), patients=n_kept["leap"])

# %% tags=["hide-input"]
#| name: fig-leap-switches
#| alt: Forest plot of the change of Jaccard against the paper's LEAP for linear attention, overwritten memory, rare
#|   medications first, the order of the record, and the released variant, with 95 percent intervals and a band of the
#|   smallest difference of interest.
#| caption: Change of Jaccard against LEAP with additive attention and frequent medications first (→ better).
#|   {glue:text}`leap_line`. Bars and band as in {numref}`fig-retain-switches`. {glue:text}`leap_outside`.
changes = changes_of("leap")
fig, ax = plt.subplots(figsize=(plotting.FULL, 0.8 + 0.28 * len(changes)))
plotting.plot_changes(ax, changes, smallest=smallest, systems="LEAP")
ax.set_xlabel("change of Jaccard →")
show(fig, patients=n_kept["leap"])

# %% tags=["remove-cell"]
leap_rows, leap_sizes = rows_of("leap"), rows_of("leap", "n_medications")
by_order, by_looking = ["rare-first", "record"], ["linear", "overwritten"]
words_in_order = {
    "frequency": leap_sizes["leap"]["value"],
    "rare first": leap_sizes["rare-first"]["value"],
    "class code": leap_sizes["record"]["value"],
}
as_in_toy = sorted(words_in_order, key=words_in_order.get) == sorted(
    words_by_greed, key=words_by_greed.get
)
if "chain" in leap_rows:
    chain_rows = " A row called chain is read by the questions of the section on greedy lists, at a tuned threshold."
    chain_or_not = (
        f"Does a chain score higher than a greedy list? {judge('leap', 'chain', 1)}"
    )
else:
    chain_rows = ""
    chain_or_not = "Whether a chain scores higher than a greedy list is not measured in these rows."
glue_about(
    "leap",
    follow=judge("leap", "linear"),
    frequent=judge("leap", "record"),
    moved_by_order=f"{max(abs(leap_rows[x]['delta']) for x in by_order):.3f}",
    moved_by_looking=f"{max(abs(leap_rows[x]['delta']) for x in by_looking):.3f}",
    order_matters_less=outweighs("leap", by_looking, by_order),
    **{
        f"length_{key}": f"{leap_sizes[row]['value']:.1f}"
        for key, row in {
            "first": "leap",
            "rare": "rare-first",
            "record": "record",
        }.items()
    },
    as_in_toy="as" if as_in_toy else "otherwise than",
    chain_rows=chain_rows,
    chain_or_not=chain_or_not,
)

# %% [markdown]
# The prediction that the overwritten memory changes nothing under the linear score: holds, by the check of every gradient in the audit.
# That the order of the words matters less than what is looked at: {glue:text}`order_matters_less`; the one moves Jaccard by up to {glue:text}`moved_by_order`, the other by up to {glue:text}`moved_by_looking`.
# {glue:text}`leap_apart`.
#
# The order also moves the length: the lists hold {glue:text}`length_first` medications with the frequent ones first, {glue:text}`length_rare` with the rare ones first, {glue:text}`length_record` in the order of the record.
# By length the three orders rank {glue:text}`as_in_toy` in {numref}`tab-toy-lists`.
# {glue:text}`chain_or_not`
#
# :::{admonition} "Attention that follows the writer raises LEAP's score"
# :class: verdict
# {glue:text}`follow`
# :::
#
# :::{admonition} "A prescription is better written by frequency than in the order of the record"
# :class: verdict
# {glue:text}`frequent`
# :::
#
# #### MICRON: what is the first prescription worth?
#
# MICRON is trained by four losses: cross-entropy, a margin between what was and what was not given, the interactions of what is recommended, and the agreement of $N(h_t)$ with the logits before plus the change.
#
# - *Bias in the residual*: $N$ keeps its biases inside the difference.
# - *States overwritten*: all visits of a patient share one array, so each is scored with the last set.
# - *Fixed weights*: each loss weighs a quarter; in the first row the weights follow the losses.
# - *Start from an estimate*: the carried set starts from what the network says of the first visit, not from what was prescribed.
# - *Released*: the first three, and the rate above which interactions count as it is printed, not scaled to these records.
#
# Prediction before the numbers: of the four switches the start is the largest, because a true prescription is worth more than any repair.

# %% tags=["hide-input"]
show(switch_table("micron"), patients=n_kept["micron"])

# %% tags=["hide-input"]
#| name: fig-micron-switches
#| alt: Forest plot of the change of Jaccard against the paper's MICRON for a bias in the residual, overwritten
#|   states, fixed loss weights, a start from an estimate, and the released variant, with 95 percent intervals and a
#|   band of the smallest difference of interest.
#| caption: Change of Jaccard against the paper's MICRON (→ better). {glue:text}`micron_line`. Bars and band as in
#|   {numref}`fig-retain-switches`. {glue:text}`micron_outside`.
fig, ax = plt.subplots(figsize=(plotting.FULL, 2.2))
plotting.plot_changes(ax, changes_of("micron"), smallest=smallest, systems="MICRON")
ax.set_xlabel("change of Jaccard →")
show(fig, patients=n_kept["micron"])

# %% tags=["remove-cell"]
four = ["bias", "overwritten", "fixed", "estimate"]
micron_rows = rows_of("micron")
largest = max(four, key=lambda key: abs(micron_rows[key]["delta"]))
glue_about(
    "micron",
    first_worth=judge("micron", "estimate"),
    largest=called(micron_rows[largest]),
    largest_change=grids.words(micron_rows[largest], "delta"),
    start_largest=outweighs("micron", ["estimate"], four[:3]),
)

# %% [markdown]
# The prediction that the start is the largest: {glue:text}`start_largest`; the largest change is that of *{glue:text}`largest`*, {glue:text}`largest_change`.
# {glue:text}`micron_apart`.
#
# :::{admonition} "Knowing the first prescription raises MICRON's score"
# :class: verdict
# {glue:text}`first_worth`
# This is no leak: at the second visit the first prescription is known.
# But LEAP and LR are not given it, and no table that prints MICRON says that it is.
# :::
#
# ### The order of visits
#
# Published scripts order a patient's visits by admission id, which is random ({doc}`02_from_tables_to_visits`).
# If a model uses the order of visits, a wrong one must cost it; LEAP reads one visit and cannot.
# Prediction before the numbers: MICRON loses, since its carried set starts at a first visit that was not the first; RETAIN hardly, since its gates carry the work.

# %%
calendar = not np.isnat(records.admit_time).any()
by_id = load_cohort(cohort, visit_order="id") if calendar else records
in_time = np.lexsort((by_id.admit_time, by_id.patient_of_visit))
if calendar:
    for kind in ("diagnosis", "medication"):
        size = len(records.vocab[kind])
        back = by_id.codes[kind].take(in_time).multi_hot(size)
        np.testing.assert_array_equal(back, records.codes[kind].multi_hot(size))
moved = by_id.visit_number[in_time] != records.visit_number
wrong = np.zeros(records.n_patients, dtype=bool)
np.logical_or.at(wrong, records.patient_of_visit, moved)
several = np.diff(records.visit_offsets) > 1
page.glue(
    wrong_share=page.about(
        records,
        f"{privacy.share(records, wrong[several]):.0%}" if several.any() else "no part",
    )
)

# %% [markdown]
# One split has few test patients with two orders.
# So RETAIN and MICRON are trained on more splits than one, and GAMENet, a later system for comparison, on one; a patient counts in the first split that puts him or her among the test patients.
# These trainings have one seed{glue:text}`cut_short`.

# %%
splits = {"retain": range(2), "micron": range(2), "gamenet": range(1)}
in_doubt = wrong[records.patient_of_visit]
in_doubt &= (records.visit_number > 0) & (by_id.visit_number[in_time] > 0)


def left_out(name, source, order):
    """Sets for visits of test patients, and which visits those are."""
    sets = np.zeros((records.n_visits, records.n_medications), dtype=bool)
    done = np.zeros(records.n_visits, dtype=bool)
    for k in splits[name]:
        run = train(name, source, seed=seed, split_seed=k, settings=few, device=device)
        order_runs[name].append(run)
        system, context = load_system(run)
        said = predict(system, source, context).recommended
        tested = split_patients(records.n_patients, k).test
        mine = np.isin(records.patient_of_visit, tested) & ~done
        sets[mine] = (said[in_time] if order == "id" else said)[mine]
        done |= mine
    return sets, done


order_gains, n_wrong, order_runs = {}, {}, {name: [] for name in splits}
for name in splits:
    by_order = {}
    for order, source in {"id": by_id, "time": records}.items():
        sets, done = left_out(name, source, order)
        n_wrong[name] = len(np.unique(records.patient_of_visit[done & in_doubt]))
        if n_wrong[name] >= privacy.LIMIT:
            by_order[order] = evaluate(records, sets, ddi, scored=done & in_doubt)
    if by_order:
        order_gains[name] = paired_difference(*by_order.values(), seed=seed)


# %% tags=["hide-input"]
def order_verdict(name, judged):
    """A verdict on what the right order gains, unless a training was cut short."""
    about = {"cohort": records.name, "source": records.source}
    result = judged(order_gains[name]["jaccard"], n_patients=n_wrong[name], **about)
    for run in order_runs[name]:
        if not run.metrics["converged"]:
            label = registry.get(name).label
            return Verdict("no verdict", f"{label}'s training had not converged.")
    return result


order_verdicts = {name: order_verdict(name, verdict) for name in order_gains}
if order_gains:
    least = min(n_wrong[name] for name in order_gains)
    frame = pl.DataFrame(
        {
            "system": [registry.get(name).label for name in order_gains],
            "patients": [n_wrong[name] for name in order_gains],
            "by time minus by id": [
                gain["jaccard"].format(4) for gain in order_gains.values()
            ],
            "does the wrong order cost?": [v.word for v in order_verdicts.values()],
        }
    )
    show(
        page.table(
            frame,
            caption=f"Jaccard of systems trained and asked with visits in order of time, minus the same with visits in order of admission ids; test patients of {page.cohort_line(records)} whose two orders differ, visits that are first in neither. "
            "Brackets: 95 % bootstrap intervals over patients, paired.",
            name="tab-order-of-visits",
        ),
        patients=least,
        counts=("patients",),
    )
else:
    least = records.n_patients
    show("no calendar, or too few test patients with two orders to compare")

# %% tags=["remove-cell"]
ORDER = {
    "holds": "the wrong order costs, so that they use it",
    "does not hold": "the wrong order costs nothing that matters",
    "not decided": "it is not decided",
    "no verdict": "there is no verdict, as the trainings of this page had not converged",
    "cannot be tested here": "these records do not tell",
}
order_found = {
    name: order_verdicts[name].word if name in order_gains else "cannot be tested here"
    for name in ("retain", "micron")
}
order_words = "; ".join(
    f"for {' and '.join(same)} {ORDER[word]}"
    for word in dict.fromkeys(order_found.values())
    for same in [[registry.get(n).label for n, w in order_found.items() if w == word]]
)
alike = "cannot be tested here"
if "retain" in order_gains:
    alike = order_verdict("retain", verdict_of_equality).word
page.glue(
    order_words=page.about(records, order_words, patients=least),
    order_micron=page.about(records, order_found["micron"], patients=least),
    order_retain=page.about(records, alike, patients=least),
)
COSTS = {
    "holds": "Weights of one cost Jaccard; with the paper's softmax instead: ",
    "does not hold": "Weights of one cost no Jaccard that matters; with the paper's softmax instead: ",
    "not decided": "Whether weights of one cost Jaccard is not decided; with the paper's softmax instead: ",
    "no verdict": "Whether weights of one cost Jaccard cannot be said: ",
}
glue_about("retain", attention_costs=COSTS[attention.word] + attention.sentence)

# %% [markdown]
# Of the patients with several visits, {glue:text}`wrong_share` have theirs in another order by id than by time.
# The prediction that the wrong order costs MICRON: {glue:text}`order_micron`.
# That it costs RETAIN hardly anything: {glue:text}`order_retain`.
# A model that loses nothing by a wrong order has not used the order; an interval wider than what matters leaves that open.
#
# ## The audit
#
# ### The checks of the toys, on trained networks
#
# **RETAIN.** In the trained paper variant the weights of two visits differ, and a gradient reaches the network that scores visits; in the released variant all weights are one and that network's gradient is zero.

# %%
gradient = {}
for name in ("RETAIN", "RETAIN, released"):
    model, knowledge = load_system(runs[name])
    model.eval()
    model.loss(batch, knowledge).backward()
    gradient[name] = sum(float(w.grad.norm()) for w in model.alpha_gru.parameters())
    weights = model.attention(batch, knowledge).detach()
    last = int(batch.visit_mask[-1].sum()) - 1
    of_last = weights[-1, last, :last]
    assert (of_last.std() > 0) == (name == "RETAIN")
assert gradient["RETAIN"] > 0
assert gradient["RETAIN, released"] == 0
show({name: round(value, 5) for name, value in gradient.items()})

# %% [markdown]
# **RETAIN.** Shares of visits and the bias add up to the logits of the trained model, as {eq}`eq-retain-share` says, and the codes of the target visit itself change nothing.

# %%
model, knowledge = load_system(runs["RETAIN"])
with torch.inference_mode():
    logits = model(batch, knowledge)
    parts = model.contributions(batch, knowledge).sum(2) + model.output.bias
speaks = model.scored(batch)
torch.testing.assert_close(parts[speaks], logits[speaks], atol=1e-4, rtol=0)
n_visits = batch.visit_mask.sum(1)
final = torch.arange(batch.visit_mask.shape[1]) == n_visits[:, None] - 1
ids, size = batch.codes["diagnosis"], batch.sizes["diagnosis"]
other = torch.where(final[..., None] & (ids < size), (ids + 1) % size, ids)
with torch.inference_mode():
    changed = model(
        replace(batch, codes={**batch.codes, "diagnosis": other}), knowledge
    )
torch.testing.assert_close(changed[final & speaks], logits[final & speaks])
show("shares add up to logits, and the visit itself is not seen")

# %% [markdown]
# **LEAP.** Two LEAPs with the same numbers, one of which overwrites its memory: with the linear score their outputs and all their gradients are the same, so they would learn the same; with the additive one they are not.


# %%
def twins(attention):
    """Logits and gradients with the memory kept and overwritten."""
    entry, found = registry.get("leap"), []
    plain = {"attention": attention, "dropout": 0.0, "writing": "greedy"}
    for keep in (True, False):
        changed = plain | {"keep_attention": keep}
        torch.manual_seed(seed)
        twin = entry.cls(entry.configure("paper", changed), knowledge)
        twin.train()
        output = twin(batch, knowledge)
        twin.loss(batch, knowledge).backward()
        parts = [w.grad.flatten() for w in twin.parameters() if w.grad is not None]
        found.append((output.detach(), torch.cat(parts)))
    return found


for attention, same in (("linear", True), ("additive", False)):
    (kept_out, kept_grad), (lost_out, lost_grad) = twins(attention)
    assert torch.allclose(kept_out, lost_out, atol=1e-5) == same
    assert torch.allclose(kept_grad, lost_grad, atol=1e-5) == same
show("overwriting the memory changes nothing that could not see it")

# %% [markdown]
# **LEAP.** Lists of the trained model hold no word twice, and its attention moves: the weights before a later word are not those before the first.

# %%
with torch.inference_mode():
    sets_written = leap.recommend(batch, knowledge)[batch.visit_mask]
assert (listed.sum(1) == sets_written.sum(1)).all()
assert shift[:, 0].max() == 0 < shift[:, 1:][listed[:, 1:]].max()
show("no word twice; attention moves")

# %% [markdown]
# **MICRON.** Give every visit the codes of the first: the paper's network stays where it was, the released one drifts.

# %%
frozen = replace(
    batch,
    codes={kind: ids[:, :1].expand_as(ids) for kind, ids in batch.codes.items()},
)
drifted = {}
for name in ("MICRON", "MICRON, released"):
    model, knowledge = load_system(runs[name])
    with torch.inference_mode():
        z = model(frozen, knowledge)
    drifted[name] = (z - z[:, :1])[model.scored(batch)].abs().max()
assert drifted["MICRON"] < 1e-4 < drifted["MICRON, released"]
show({name: round(float(value), 4) for name, value in drifted.items()})

# %% [markdown]
# **MICRON.** {py:func}`~medrec.models.micron.carried_sets` makes the sets of the trained model, from the true set of the first visit; and the first visit itself gets none.

# %%
model, knowledge = load_system(runs["MICRON"])
config = model.config
with torch.inference_mode():
    prob, sets = model.decide(batch, knowledge)
    again = carried_sets(
        prob[:, 1:], batch.target[:, 0], config.add_threshold, config.drop_threshold
    )
speaks = model.scored(batch)
assert torch.equal(sets[:, 1:][speaks[:, 1:]], again[speaks[:, 1:]])
assert not sets[:, 0].any()
from_start = batch.target[:, :1] & sets
page.glue(
    kept_share=float(from_start.sum() / sets.sum()),
    first_share=float(
        (batch.target[:, :1] & batch.target & speaks[..., None]).sum()
        / (batch.target & speaks[..., None]).sum()
    ),
)
show("the set is carried")

# %% [markdown]
# Of the medications that MICRON recommends at the later visits of the {glue:text}`n_longest` longest records, {glue:text}`kept_share:.0%` stood in the true set of the first visit; of those that were prescribed there, {glue:text}`first_share:.0%` did.
#
# ### One array for all visits
#
# In MICRON's released evaluation all visits of a patient share *one array*: what is appended at visit 2 is changed at visit 3, because it is the same object.

# %%
truths, shared, copied = [{"a"}, {"a", "b"}], [], []
held = set()
for new in ("a", "b"):
    held.add(new)
    shared.append(held)
    copied.append(set(held))


def mean_jaccard(sets):
    return np.mean([len(x & y) / len(x | y) for x, y in zip(sets, truths, strict=True)])


np.testing.assert_allclose([mean_jaccard(copied), mean_jaccard(shared)], [1, 0.75])
show({"copies": float(mean_jaccard(copied)), "one array": float(mean_jaccard(shared))})

# %% [markdown]
# ### A limit of twenty words
#
# A limit acts in writing only, so one LEAP of this page can be asked with several.
# Prediction before the numbers: recall rises with the limit, precision falls, and Jaccard follows where twenty words were too few.

# %%
learnt_limit = int(leap.longest)
limits = {"20 words": 20, "95th percentile": learnt_limit, "none": test.n_medications}
limited, lengths = {}, {}
for name, limit in limits.items():
    leap.longest.fill_(limit)
    said = predict(leap, test, knowledge)
    lengths[name] = said.recommended.sum(1)
    limited[name] = evaluate(
        test,
        said.recommended,
        knowledge.ddi.numpy(),
        scores=said.scores,
        patients=split.test,
    )

# %% tags=["hide-input"]
rows = []
for name, evaluation in limited.items():
    interval = bootstrap(evaluation, seed=seed)
    digits = {"recall": 3, "precision": 3, "jaccard": 3, "n_medications": 1}
    rows.append(
        {"limit": name, "words": limits[name]}
        | {
            "reached by": f"{privacy.share(records, lengths[name] >= limits[name]):.0%}",
        }
        | {key: interval[key].format(places) for key, places in digits.items()}
    )
show(
    page.table(
        pl.DataFrame(rows).rename(
            {"jaccard": "Jaccard", "n_medications": "medications"}
        ),
        caption=f"One LEAP of this page, writing with three limits; all visits of the {tested} test patients of {page.cohort_line(records)}. "
        "Reached by: share of lists that are as long as the limit. Brackets: 95 % bootstrap intervals over patients.",
    )
)

# %% tags=["remove-cell"]
regained = paired_difference(limited["20 words"], limited["95th percentile"], seed=seed)
reached = privacy.share(records, lengths["none"] >= 20)
as_said = (
    regained["recall"].low > 0,
    regained["precision"].high < 0,
    regained["jaccard"].low > 0,
)
if leap.config.writing != "greedy":
    limit_words = "This LEAP is read as a chain, which has no limit: the prediction cannot be tested here."
elif reached == 0:
    limit_words = "No list reached the limit: the prediction cannot be tested here."
else:
    word = (
        "holds" if all(as_said) else "holds in part" if any(as_said) else "not decided"
    )
    limit_words = (
        f"Going from a limit of twenty to {learnt_limit} changes recall by {regained['recall'].format(4)}, "
        f"precision by {regained['precision'].format(4)} and Jaccard by {regained['jaccard'].format(4)}. "
    )
    limit_words += (
        f"The prediction: {word}."
        if runs["LEAP"].metrics["converged"]
        else "LEAP's training had not converged; no verdict."
    )
page.glue(
    reached=reached, limit_words=page.about(records, limit_words, patients=n_tested)
)

# %% [markdown]
# Left alone, the network writes twenty words or more for {glue:text}`reached:.0%` of the visits.
# {glue:text}`limit_words`
#
# ### What the papers do not say
#
# - **Which visits are scored.** BiMoRec and NLA-MMR print RETAIN and MICRON beside systems that also speak about first visits; the released code skips them.
# - **What is seen.** The original RETAIN leaves to the task whether the codes of the visit itself are read.
# - **The threshold.** For RETAIN .4 in SafeDrug's repository, .3 in GAMENet's. MICRON's two thresholds are read off validation ROC curves of every medication and averaged in released test scripts ({py:func}`~medrec.models.micron.roc_thresholds`), and are .8 and .2 in their training; here they are .8 and .2.
# - **The softmax.** Over visits in RETAIN's paper, over an axis of length one in the code; see {eq}`eq-retain-dead`.
# - **The order of the words.** LEAP's targets are the medications in the order of the record, which in our cohorts is the order of class codes; here by falling frequency among training visits.
# - **How a list is read.** Greedily in the published comparisons; {eq}`eq-chain-chance` reads the same decoder as a chain of questions.
# - **What else is left out.** LEAP's second stage, a reward for safe lists, is off in the published comparisons and left out here.
# - **The weights of MICRON's four losses.** Meant to follow the losses; a counter that is never increased keeps them at one quarter in the code.
# - **The step.** One patient or visit at a time in the code; here a batch of patients, at the papers' size with settings that a search on validation patients found ({doc}`13_bimorec_results`), stated in {py:class}`~medrec.models.retain.RETAINConfig`, {py:class}`~medrec.models.leap.LEAPConfig` and {py:class}`~medrec.models.micron.MICRONConfig`.
#
# ### Misconceptions
#
# "Attention weights are explanations."
# : Set $\beta$ to zero: $\alpha$ stays as it was, and no visit adds anything. The share of {eq}`eq-retain-share` is what adds up to the logit.
#
# "A mended bug must change the score."
# : As long as LEAP's score is linear, mending the overwritten memory changes nothing at all; elsewhere whether the score follows is a measurement.
#
# ```{dropdown} What these runs cannot tell
# The trainings of this page have one seed and few patients; they are no ranking, and where they were cut short they bear no verdict.
# The kept rows pair each system with its own variants; no kept row pairs MICRON with the last visit repeated, or LEAP with its second stage, a reward for safe lists.
# Records in which the order of visits carries more, or less, than in these may answer otherwise, and nothing here speaks of MIMIC.
# ```
#
# ## Summary
#
# {glue:text}`attention_costs`
# LEAP cannot use the order of visits; {glue:text}`order_words`.
#
# - The context is a sum over visits, gated by α and β; every logit splits into shares of visits and a bias.
# - A softmax over one number is one and its gradient exactly zero; mirrored weights and unmasked padding raise no error, and three visits are enough to notice.
# - A linear score adds the state to all exponents alike, so it cancels; overwriting what could not be looked at changes nothing.
# - A list of at most $K$ words cannot have a higher Jaccard than $K/n_+$; a greedy list goes on until the end beats the best single word, however improbable that word is, while a chain asks of each medication alone.
# - With biases a change of nothing is a change; a set is carried by adding above one threshold and dropping below another.
# - RETAIN hides today's codes, LEAP all of the past, MICRON starts from a true set: three tasks under one column.
#
# ## Exercises
#
# ```{exercise}
# :label: ex-retain-zero-beta
#
# Set all gates $\beta$ of the toy to zero.
# What do $\alpha$ and the probabilities become?
# ```
#
# ```{solution-start} ex-retain-zero-beta
# :class: dropdown
# ```

# %%
empty = context(alpha, torch.zeros_like(beta), v)
torch.testing.assert_close(empty, torch.zeros(2))
torch.testing.assert_close(torch.sigmoid(W @ empty + b), torch.sigmoid(b))
show([round(float(q), 4) for q in torch.sigmoid(b)])

# %% [markdown]
# The weights stay as they were, and the probabilities fall back to those of the bias.
#
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-retain-first
#
# What does the published RETAIN say at a patient's first visit?
# Check it on the trained model.
# ```
#
# ```{solution-start} ex-retain-first
# :class: dropdown
# ```

# %%
model, knowledge = load_system(runs["RETAIN"])
with torch.inference_mode():
    sets = model.recommend(batch, knowledge)
assert not sets[:, 0].any()
show(int(sets[:, 1:].sum()))

# %% [markdown]
# Nothing: the set is empty, and the visit is not scored.
#
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-micron-unchanged
#
# MICRON without biases, a patient whose codes never change, a true start.
# Which set does it recommend at visit 9?
# Check it on the trained model.
# ```
#
# ```{solution-start} ex-micron-unchanged
# :class: dropdown
# ```

# %%
model, knowledge = load_system(runs["MICRON"])
with torch.inference_mode():
    _, sets = model.decide(frozen, knowledge)
    nine = model.scored(frozen)[:, 2:]
assert torch.equal(sets[:, 2:][nine], sets[:, 1:2].expand_as(sets[:, 2:])[nine])
show("the set of visit 2, for ever")

# %% [markdown]
# The true set of visit 1, with everything added whose probability is at least $\delta_1$ and everything dropped below $\delta_2$: the same since visit 2.
#
# ```{solution-end}
# ```
#
# ```{dropdown} Quiz: what is the gradient of a softmax over one element?
# Zero, whatever the element.
# ```
#
# ```{dropdown} Quiz: what does RETAIN say at visit 1?
# Nothing: it does not speak.
# ```
#
# ```{dropdown} Quiz: which of α and β can turn a visit against a class?
# β: it is signed, while α is not negative. The sign of the share also depends on the visit and on W.
# ```
#
# ```{dropdown} Quiz: why is one row a (patient, target) pair?
# Because the sequence is read backwards from each target, and a recurrent network that has read later visits first cannot serve an earlier target.
# ```
#
# ## References
#
# - {cite:t}`choi2016retain`: RETAIN.
# - {cite:t}`zhang2017leap`: LEAP.
# - {cite:t}`yang2021micron`: MICRON.
# - {cite:t}`shang2019gamenet`: RETAIN as a baseline for medication, and the released code that later tables build on.
