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
# # Reading a history: attention over visits (RETAIN)
#
# A model famous for its attention stands in every comparison table, with attention weights that are all exactly one.
# What does a model gain from the order of visits, and does its code read them at all?
#
# ```{admonition} Objectives
# :class: objectives
# After this chapter you can
# - *compute* RETAIN's context vector and each visit's share of a logit,
# - *prove* that a softmax over an axis of length one has no gradient,
# - *detect* misaligned and padded attention with a three-visit toy,
# - *compare* what the model may see in its published protocol with what its neighbours see.
# ```
#
# **Prerequisites.** The metrics of {doc}`01_the_task`, the order of visits in {doc}`02_from_tables_to_visits`, the threshold rule of {doc}`06_classical`.

# %%
from dataclasses import replace
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import polars as pl
import torch

from medrec import plotting, protocol
from medrec.book import page
from medrec.data import load_cohort, privacy
from medrec.data.batch import VisitBatch
from medrec.models.retain import context_vector, logit_shares, visit_attention
from medrec.training import load_system, train

# %% tags=["parameters"]
seed: int = 0  # seed of model initialisation; the split has its own
cohort: str = "synthetic"  # any cohort that medrec.data.load_cohort knows
device: str = "cpu"  # where the model is trained
profile: str = "quick"  # quick: twenty epochs; full: until early stopping

# %% tags=["hide-input"]
plotting.use_style()
records = load_cohort(cohort)
show = partial(privacy.show, records)  # closed records: aggregates only
page.at_a_glance(
    {"seed": seed, "cohort": cohort, "device": device, "profile": profile},
    paper="RETAIN (Choi et al., 2016), a baseline of all three papers' tables for visits",
    data=page.cohort_line(records),
    learned="a RETAIN in its paper variant and one in its released variant",
    full_run="minutes on two cores at paper size",
)

# %% [markdown]
# ## The problem on one patient
#
# A patient has three past visits; visit $j$ is a vector $v_j$ of two numbers, the sum of the embeddings of its codes.
# One recurrent network reads them in *reversed time* and gives each visit a score $s_j$; a second one gives each visit a gate $\beta_j$ with one value per coordinate.
# Two medication classes are scored by a linear layer $(W, b)$, and a class is recommended when its probability reaches 0.4, the threshold of the released code.
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
            }
        ),
        caption="The toy of this chapter: one patient, three visits, written by hand.",
        digits=0,
    )
)

# %% [markdown]
# ## Two attentions and a context
#
# RETAIN weighs *visits* by $\alpha$ and *coordinates* by $\beta$, and sums {cite:p}`choi2016retain`:
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
page.glue(
    share_oldest=shares[0, 0].item(),
    share_latest=shares[0, 2].item(),
    logit_one=(W @ c + b)[0].item(),
)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Grouped bar chart of the share that each of three visits has in the logits of two medication classes. For class 1 the latest visit adds 0.51 and the middle one takes 0.23 away; for class 2 the middle visit adds most and the latest takes away more."}, "figure": {"name": "fig-retain-shares", "caption": "Share of each visit in the logit of each class, equation {eq}`eq-retain-share`. Toy numbers, exact. A visit can speak against a class."}}
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
# The latest visit carries {glue:text}`share_latest:.4f` of the first logit {glue:text}`logit_one:.4f`, the oldest {glue:text}`share_oldest:.4f`.
#
# ```{exercise}
# :label: ex-retain-equal
#
# Give all three visits the same score.
# Predict: which classes pass 0.4?
# ```
#
# ````{solution} ex-retain-equal
# :class: dropdown
#
# The context becomes the plain mean of $\beta_j \odot v_j$, and both classes pass; the next cell computes it.
# ````

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
# ## A softmax over one number
#
# The released code that all later tables build on takes the softmax of $\alpha$ over the *feature* axis.
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

# %% tags=["hide-input"] mystnb={"image": {"alt": "Line chart of the length of the context vector against the number of identical visits, from 1 to 20. With softmax over visits the line is flat; with softmax over features it rises in a straight line to twenty times the first value."}, "figure": {"name": "fig-retain-norm", "caption": "Length of the context when the same visit repeats. Toy numbers, exact. Without a softmax over visits long records shout."}}
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
ax.set(xlabel="identical visits", ylabel="norm of the context")
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
# Two more ways to spoil the same sum.
# A network that reads in reversed time gives its weights $\alpha$ in reversed order; they must be turned back before they meet the visits.
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

# %% tags=["hide-input"] mystnb={"image": {"alt": "Three strips of attention weights over visits. Right: weights grow towards the latest visit. Misaligned: the order is mirrored. Padded without mask: all real weights are smaller and a fourth, padded visit takes the rest."}, "figure": {"name": "fig-retain-strips", "caption": "The same scores used right, mirrored, and with one padded visit in the softmax. Toy numbers, exact."}}
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
# ## Putting it together
#
# {py:class}`~medrec.models.retain.RETAIN` embeds the codes of each visit, runs two GRUs, and applies the three equations above.
# The reversed sequence is another one for each target visit, so a batch holds one row for each pair of a patient and a target.
#
# In the published comparisons RETAIN predicts visit $t$ from the visits *before* it, with their medications, and does not see the diagnoses and procedures of visit $t$.
# First visits drop out.
# Its neighbours in the tables see today's codes and are scored on first visits too: one column, two tasks.

# %%
settings = {"epochs": 20} if profile == "quick" else {}
runs = {
    "paper": train("retain", records, seed=seed, settings=settings, device=device),
    "softmax over features": train(
        "retain",
        records,
        seed=seed,
        settings={**settings, "alpha_axis": "features"},
        device=device,
    ),
    "forward time": train(
        "retain",
        records,
        seed=seed,
        settings={**settings, "reverse_time": False},
        device=device,
    ),
    "official (both)": train(
        "retain",
        records,
        variant="official",
        seed=seed,
        settings=settings,
        device=device,
    ),
    "paper, with current codes": train(
        "retain",
        records,
        seed=seed,
        settings={**settings, "inputs": "with_current"},
        device=device,
    ),
}
references = {
    "last visit": train("last-visit", records),
    "LR": train("lr", records),
    "popularity": train("popularity", records),
}

# %% tags=["hide-input"] mystnb={"image": {"alt": "Line chart of validation Jaccard against epoch for the paper variant and the released variant of RETAIN. Both rise steeply for about ten epochs and flatten at nearly the same height."}, "figure": {"name": "fig-retain-curve", "caption": "Jaccard (↑ better) of the validation patients against epoch, one training seed each, on {glue:text}`cohort_line`. No interval: the curves show the training, not a comparison. Notice how close they end."}}
page.glue(cohort_line=page.cohort_line(records))
fig, ax = plt.subplots(figsize=(plotting.ONE_COLUMN, 2.6))
for (name, run), line in zip(
    {k: runs[k] for k in ("paper", "official (both)")}.items(),
    ("-o", "--s"),
    strict=True,
):
    ax.plot(
        run.history["epoch"],
        run.history["jaccard"],
        line,
        ms=3,
        label=name,
        color=plotting.color("RETAIN"),
    )
ax.set(xlabel="epoch", ylabel="Jaccard of validation patients ↑")
ax.legend()
show(fig)

# %% [markdown]
# **Check.** In the trained paper variant the weights of two visits differ, and a gradient reaches the network that scores visits; in the released variant all weights are one and that network's gradient is zero.

# %%
longest = np.argsort(np.diff(records.visit_offsets))[-32:]
batch = VisitBatch.build(records, longest)
gradient = {}
for name in ("paper", "official (both)"):
    model, knowledge = load_system(runs[name])
    model.eval()
    model.loss(batch, model(batch, knowledge), knowledge).backward()
    gradient[name] = sum(float(w.grad.norm()) for w in model.alpha_gru.parameters())
    weights = model.attention(batch, knowledge).detach()
    last = int(batch.visit_mask[-1].sum()) - 1
    of_last = weights[-1, last, :last]
    assert (of_last.std() > 0) == (name == "paper")
assert gradient["paper"] > 0
assert gradient["official (both)"] == 0
show(gradient)

# %% [markdown]
# **Check.** Shares of visits and the bias add up to the logits of the trained model, as {eq}`eq-retain-share` says, and the codes of the target visit itself change nothing.

# %%
model, knowledge = load_system(runs["paper"])
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
show(float((parts - logits)[speaks].abs().max()))

# %% tags=["hide-input"] mystnb={"image": {"alt": "Bar chart of mean attention weight by how many visits back a visit lies, for the trained paper variant and the released one. The released weights are all one; the paper's add up to one and are spread over the visits."}, "figure": {"name": "fig-retain-weights", "caption": "Mean weight α of a past visit by its distance from the target, for targets with at least three past visits of the 32 longest records of {glue:text}`cohort_line`. One training seed. Notice that the released weights carry no information."}}
fig, ax = plt.subplots(figsize=(plotting.ONE_COLUMN, 2.6))
for offset, (name, hatch) in enumerate({"paper": "", "official (both)": "//"}.items()):
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

# %% [markdown]
# ## Results
#
# Prediction before the number: the two switches matter little, because $\beta$ can do what $\alpha$ does not.
# The table scores second and later visits, which all rows can speak about.

# %%
later = ("second", "later")
rows = []
for name, run in {
    **{f"RETAIN, {k}": v for k, v in runs.items()},
    **references,
}.items():
    evaluation = run.evaluation("tuned")
    interval = protocol.bootstrap(evaluation, groups=later, seed=seed)
    rows.append(
        {"system": name}
        | {label: interval[key].format(3) for key, label in protocol.COLUMNS.items()}
    )
n_later = int(runs["paper"].evaluation("tuned").summary()["visits"])
show(
    page.table(
        pl.DataFrame(rows),
        caption=f"Second and later visits ({n_later}) of the test patients of {page.cohort_line(records)}; one training seed, thresholds tuned on validation patients. "
        "Brackets: 95 % bootstrap intervals over patients; they do not show the spread between seeds.",
    )
)

# %% tags=["remove-cell"]
base = runs["paper"].evaluation("tuned")
switch = {
    name: protocol.paired_difference(base, runs[name].evaluation("tuned"), seed=seed)[
        "jaccard"
    ]
    for name in ("softmax over features", "forward time", "official (both)")
}
handicap = protocol.paired_difference(
    base,
    runs["paper, with current codes"].evaluation("tuned"),
    groups=later,
    seed=seed,
)["jaccard"]
against_last = protocol.paired_difference(
    references["last visit"].evaluation("tuned"), base, groups=later, seed=seed
)["jaccard"]
sees = protocol.verdict(
    against_last,
    cohort=records.name,
    source=records.source,
    n_patients=base.summary()["patients"],
    n_seeds=1,
)
words = {
    "d_alpha": switch["softmax over features"].format(4),
    "d_time": switch["forward time"].format(4),
    "d_both": switch["official (both)"].format(4),
    "handicap": handicap.format(4),
    "against_last": against_last.format(4),
    "beats_last": str(sees.word),
    "sentence": sees.sentence,
}
n_scored = base.summary()["patients"]
page.glue(**{k: page.about(records, v, patients=n_scored) for k, v in words.items()})

# %% [markdown]
# Changes of Jaccard against the paper variant, paired by patient: softmax over features {glue:text}`d_alpha`, forward time {glue:text}`d_time`, both {glue:text}`d_both`.
# An interval over zero reads: on these records, attention over visits explains, it does not improve.
# One seed cannot separate a switch from the luck of initialisation; the comparison with seeds belongs to the chapter on paper and code.
#
# What does the published row lose by not seeing today's codes?
# With them the same model changes by {glue:text}`handicap` on the same visits: the size of the handicap on this cohort.
#
# *Does RETAIN beat repeating the last visit?* {glue:text}`beats_last`: {glue:text}`sentence`

# %% tags=["hide-input"] mystnb={"image": {"alt": "Dots with horizontal 95 percent intervals for four differences in Jaccard against the paper variant of RETAIN: softmax over features, forward time, both, and with current codes. The first three lie near zero."}, "figure": {"name": "fig-retain-switches", "caption": "Change of Jaccard against the paper variant (→ better), paired by patient, second and later visits of the test patients of {glue:text}`cohort_line`; one training seed. Bars: 95 % bootstrap intervals over patients. Notice which intervals touch zero."}}
fig, ax = plt.subplots(figsize=(plotting.FULL, 2.2))
shown = {**switch, "with current codes": handicap}
plotting.plot_intervals(
    ax,
    list(shown),
    [d.value for d in shown.values()],
    [(d.low, d.high) for d in shown.values()],
    systems=["RETAIN"] * 4,
    reference=0,
)
ax.set_xlabel("change of Jaccard →")
show(fig)

# %% [markdown]
# ## What the papers do not say
#
# - **Which visits are scored.** BiMoRec and NLA-MMR print RETAIN beside systems that also speak about first visits; the released code skips them.
# - **What is seen.** The codes of the visit itself are withheld in that code; the original paper leaves the choice to the task.
# - **The threshold.** 0.4 in SafeDrug's repository, 0.3 in GAMENet's, one half for most neighbours; here each row is tuned with the same effort.
# - **The softmax.** Over visits in the paper, over an axis of length one in the code; see {eq}`eq-retain-dead`.
# - **The step.** One patient at a time in the code; here a batch of patients, with a learning rate of our own, stated in {py:class}`~medrec.models.retain.RETAINConfig`.
#
# ## Misconceptions
#
# "Attention weights are explanations."
# : Set $\beta$ to zero and $\alpha$ still looks wise. The share of {eq}`eq-retain-share` is what adds up to the logit.
#
# "A mended bug must change the score."
# : It must change the model; whether the score follows is a measurement.
#
# "History models see the present."
# : The published RETAIN does not.
#
# ## Summary
#
# - The context is a sum over visits, gated by α and β; every logit splits into shares of visits and a bias.
# - A softmax over one number is one, and its gradient is exactly zero.
# - Mirrored weights and unmasked padding change the context without raising an error; three visits are enough to notice.
# - The published protocol hides today's codes and skips first visits; the same model with them solves another task.
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
show((alpha.tolist(), torch.sigmoid(b).tolist()))

# %% [markdown]
# The weights stay as wise as before, and the probabilities fall back to those of the bias.
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
model, knowledge = load_system(runs["paper"])
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
# ```{dropdown} Quiz: what is the gradient of a softmax over one element?
# Zero, whatever the element.
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
# - {cite:t}`choi2016retain`: the model.
# - {cite:t}`shang2019gamenet`: RETAIN as a baseline for medication, and the released code that later tables build on.
