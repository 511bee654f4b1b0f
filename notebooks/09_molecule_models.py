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
#     rows: [safedrug, molerec]
# ---

# %% [markdown]
# # Drugs as structures: a random map, a masked attention, a brake (SafeDrug, MoleRec)
#
# When a model is given molecules, does it learn from them, and what does its safety brake really do?
#
# SafeDrug's molecular encoder has no trained weight in the released code.
# If the score stays the same with an encoder that does learn, what did the molecules contribute?
#
# *In short*, on {glue:text}`line_safedrug`, with the change of Jaccard or of the DDI rate and its 95 % interval.
# {glue:text}`random_answer`
# {glue:text}`free_answer`
# {glue:text}`matter_answer`
# {glue:text}`clip_answer`
#
# ```{admonition} Objectives
# :class: objectives
# After this chapter you can
# - *compute* SafeDrug's two branches on three medications, and name the medication that no patient can change,
# - *tabulate* the brake β as printed and as released,
# - *test* whether a molecular encoder learns,
# - *trace* MoleRec's masked attention for rows with many, one and no fragments,
# - *predict* which gate can change which medication,
# - *rank* the forces that act on one logit, and the brakes by what they do to a visit above the target.
# ```
#
# **Prerequisites.** Interactions and their loss in {doc}`03_drug_knowledge`; molecules, {term}`BRICS` fragments and the mask $H$ in {doc}`04_molecules_2d`; the threshold rule of {doc}`06_classical`.
#
# **Code.** {py:mod}`medrec.models.safedrug` and {py:mod}`medrec.models.molerec`.

# %% tags=["hide-input"]
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import polars as pl
import torch
from matplotlib.ticker import MaxNLocator
from torch import nn

from medrec import losses, plotting
from medrec.book import page
from medrec.book.pictures import plot_system
from medrec.chem.fragments import brics_fragments
from medrec.chem.similarity import tanimoto
from medrec.context import context_for
from medrec.data import load_cohort, privacy
from medrec.data.batch import VisitBatch
from medrec.lab import grids
from medrec.metrics import ddi_rate
from medrec.models import registry
from medrec.models.molerec import gather_fragments, masked_attention
from medrec.models.safedrug import brake, fragment_votes, match
from medrec.nn.ddi_target import PUBLISHED_RATE, DDITarget
from medrec.nn.set_attention import SetAttention
from medrec.tasks.evaluation import bootstrap
from medrec.tasks.visits import COLUMNS, GROUPS, predict
from medrec.training import load_system, train

# %% tags=["parameters", "hide-input"]
seed: int = 0  # of the small trainings on this page; kept rows carry their own
cohort: str = "synthetic"  # any cohort that medrec.data.load_cohort knows
device: str = "cpu"  # where the small trainings run
profile: str = "quick"  # quick: a few epochs; full: until early stopping
smallest: float = 0.005  # smallest difference of Jaccard, or of DDI rate, of interest

# %% tags=["hide-input"]
plotting.use_style()
records = load_cohort(cohort)
show = partial(privacy.show, records)  # closed records: aggregates only
entry = {name: registry.get(name) for name in ("safedrug", "molerec")}
knowledge = context_for(entry["safedrug"], entry["safedrug"].configure(), records)
minutes = {
    name: system.seconds_per_epoch * system.configure().epochs / 60
    for name, system in entry.items()
}
page.at_a_glance(
    {
        "seed": seed,
        "cohort": cohort,
        "device": device,
        "profile": profile,
        "smallest": smallest,
    },
    paper="SafeDrug (Yang et al., 2021) and MoleRec (Yang et al., 2023)",
    data=page.cohort_line(records),
    learned="two SafeDrugs (with molecules, with free vectors) and one MoleRec, briefly; the tables of the audit come from longer trainings, kept with the book",
    full_run=f"on two cores at 6 350 patients, at most: {minutes['safedrug']:.0f} minutes for a SafeDrug, {minutes['molerec']:.0f} for a MoleRec",
)

# %% tags=["hide-input"]
molecules = knowledge.molecules
mask = molecules.fragment_mask
M = records.n_medications
given = records.codes["medication"].multi_hot(M)
without = (~mask.any(1)).numpy()
own_target = DDITarget(entry["safedrug"].configure().target_ddi, "ratio")
own_target.count(given, knowledge.ddi)
page.glue(
    published_rate=PUBLISHED_RATE,
    given_rate=ddi_rate(given, knowledge.ddi.numpy()),
    own_target=float(own_target.rate),
    cohort_line=page.cohort_line(records),
    n_medications=M,
    n_molecules=len(molecules.smiles),
    n_fragments=mask.shape[1],
    n_without=int(without.sum()),
)

# %% [markdown]
# ## The problem on one visit
#
# One visit is a query $q$ of two numbers.
# There are three medications, each with a vector $E_m$ that stands for its molecules, and two fragments.
# The mask $H$ says which medication yields which fragment: the first has one of them, the second both, the third none.
# Insulins, vaccines and blood products have none: they are not small molecules.
# Multivitamins have none either: a mixture has no single structure.

# %%
q = torch.tensor([1.0, -1.0])
E = torch.tensor([[1.0, 0], [0, 1], [1, 1]])
H = torch.tensor([[True, False], [True, True], [False, False]])
show(
    page.table(
        pl.DataFrame(
            {
                "medication": ["1", "2", "3"],
                "E": [str(row.tolist()) for row in E],
                "fragments": ["a", "a, b", "none"],
            }
        ),
        caption="The toy of SafeDrug's half of this chapter, written by hand.",
    )
)

# %% [markdown]
# ## The systems in one picture each
#
# Inputs are round and have the colour of what they are; what comes out is filled.
# Thick green arrows come from earlier visits.

# %% tags=["hide-input"]
#| name: fig-flow-safedrug
#| alt: Diagnoses, procedures and past diagnoses and procedures into two GRUs over visits; two GRUs over visits into
#|   query; query into match and which fragments are asked for; molecules as atoms and bonds into message passing;
#|   message passing into match; match and which fragments are asked for into product; product into medications;
#|   molecules as fragments into which fragments are asked for. Trained by binary cross-entropy, margin and
#|   interactions by a controller.
#| caption: SafeDrug: what goes in where, what comes out, and what it is trained by. Drawn by
#|   {py:func}`medrec.book.pictures.plot_system`; no records. Notice that two answers are multiplied.
show(plot_system("safedrug"))

# %% tags=["hide-input"]
#| name: fig-flow-molerec
#| alt: Diagnoses, procedures and past diagnoses and procedures into two GRUs over visits; two GRUs over visits into
#|   query; query into gate of each fragment; gate of each fragment and attention into gathered fragments; gathered
#|   fragments into perceptron; molecules into graph network; graph network into attention; molecules as fragments
#|   into graph network of fragments; graph network of fragments into attention among fragments; attention among
#|   fragments into attention and gathered fragments; perceptron into medications. Trained by binary cross-entropy,
#|   margin and interactions by a controller.
#| caption: MoleRec: what goes in where, what comes out, and what it is trained by. Drawn by
#|   {py:func}`medrec.book.pictures.plot_system`; no records. Notice that all that is known of a medication goes
#|   through its gathered fragments.
show(plot_system("molerec"))

# %% [markdown]
# ## Whole molecules: a match, then a normalisation
#
# SafeDrug compares the patient with every medication as a whole, its *global* branch {cite:p}`yang2021safedrug`:
#
# $$
# r_m = \sigma\Big(\sum_d q_d\, E_{md}\Big), \qquad g = \operatorname{LayerNorm}(r + W_g\, r) .
# $$ (eq-safedrug-global)
#
# The formulas of this chapter are those of the released codes; letters are ours.
# We train two variants of each system.
# `official` does what the released code does.
# `paper` does what the article describes, with changes of ours, above all two: a target for interactions that fits the records, and a learnt vector for each medication without a fragment.
#
# $r$ is the *match*.
# $q$ comes from the diagnoses and procedures of all visits up to this one, through two recurrent networks.
# No earlier medication is seen.

# %%
r = torch.einsum("d,md->m", q, E).sigmoid()
g = nn.functional.layer_norm(r, (3,))  # W_g = 0 on the toy

# %% [markdown]
# **Check.** By hand, and against {py:func}`medrec.models.safedrug.match`.

# %%
close = {"atol": 5e-5, "rtol": 0}
torch.testing.assert_close(r, torch.tensor([0.7311, 0.2689, 0.5]), **close)
torch.testing.assert_close(g, torch.tensor([1.2246, -1.2246, 0]), **close)
torch.testing.assert_close(match(q, E), r)
show([round(x, 4) for x in g.tolist()])

# %% tags=["hide-input"]
#| name: fig-safedrug-global
#| alt: Bars of three medications before and after normalisation. Before, all lie between 0 and 1; after, they are
#|   plus 1.22, minus 1.22 and exactly zero.
#| caption: The match of the toy visit with its three medications, before and after the normalisation of
#|   {eq}`eq-safedrug-global`. Exact. Notice that a normalisation makes some medications negative, whatever the
#|   patient.
fig, ax = plt.subplots(figsize=(plotting.ONE_COLUMN, 2.4))
for shift, (name, values, hatch) in zip(
    (-0.2, 0.2), (("r", r, ""), ("g", g, "//")), strict=True
):
    ax.bar(
        np.arange(3) + shift,
        values,
        width=0.36,
        label=name,
        hatch=hatch,
        color=plotting.color("SafeDrug"),
        alpha=0.6 if hatch else 1,
    )
ax.axhline(0, color=plotting.INK, lw=0.8)
ax.set_xticks(range(3), ["medication 1", "2", "3"])
ax.legend()
show(fig)

# %% [markdown]
# ```{exercise}
# :label: ex-safedrug-norm
#
# Lower the match of medication 1 and leave those of the others as they are.
# What happens to $g_2$ and $g_3$?
# ```
#
# ```{solution-start} ex-safedrug-norm
# :class: dropdown
# ```

# %%
lower = {
    value: nn.functional.layer_norm(torch.tensor([value, r[1], r[2]]), (3,))
    for value in (0.55, 0.2)
}
assert (lower[0.2][1:] > g[1:]).all()
assert lower[0.55][2] > g[2]
assert lower[0.55][1] < g[1]
show({value: [round(x, 4) for x in row.tolist()] for value, row in lower.items()})

# %% [markdown]
# They move, though nothing about them has changed: each medication is judged against the others.
# The mean falls, which lifts both; the spread changes too, so that a little lowering pushes $g_2$ *down* and a larger one lifts it.
#
# ```{solution-end}
# ```
#
# ## Fragments: asked for, and multiplied
#
# The *local* branch asks for fragments.
# $u_s$ says how much the visit wants fragment $s$, and a weight says what that means for a medication that has it; the logit is a product of both branches:
#
# $$
# \ell_m = \sum_s u_s\, W_{sm}\, H_{ms}, \qquad z_m = g_m\, \ell_m, \qquad p_m = \sigma(z_m) .
# $$ (eq-safedrug-local)
#
# There is no bias anywhere.

# %%
u = torch.tensor([1.0, -1.0]).sigmoid()
W = torch.tensor([[0.5, -0.4, 0.3], [0.2, 0.6, -0.7]])
votes = torch.einsum("s,sm,ms->m", u, W, H.float())
z = g * votes
p = z.sigmoid()

# %% [markdown]
# **Check.** By hand, and against {py:func}`medrec.models.safedrug.fragment_votes`.
# Break it: with "more than one half" in the place of the released "at least one half", the third medication leaves every set.

# %%
torch.testing.assert_close(votes, torch.tensor([0.3655, -0.1311, 0]), **close)
torch.testing.assert_close(z, torch.tensor([0.4476, 0.1605, 0]), **close)
torch.testing.assert_close(p, torch.tensor([0.6101, 0.5400, 0.5]), **close)
torch.testing.assert_close(fragment_votes(u, W, H), votes)
assert (p >= 0.5).tolist() == [True, True, True]
assert (p > 0.5).tolist() == [True, True, False]
show([round(x, 4) for x in p.tolist()])

# %% tags=["hide-input"]
#| name: fig-safedrug-product
#| alt: Grid of three medications by four quantities, blue for positive and red for negative. Medication 2 has a
#|   negative g and a negative vote and a positive product; medication 3 is zero throughout, with probability one
#|   half.
#| caption: Both branches and their product, {eq}`eq-safedrug-local`, on the toy. Exact. Notice two traps: two
#|   negative factors recommend medication 2, and medication 3 stands exactly on the threshold.
columns = torch.stack([g, votes, z, p - 0.5], dim=1)
fig, ax = plt.subplots(figsize=(plotting.ONE_COLUMN, 2.2))
ax.imshow(columns, cmap="RdBu", vmin=-1.5, vmax=1.5, aspect="auto")
for (i, j), value in np.ndenumerate(columns.numpy()):
    text = f"{value + 0.5:.4f}" if j == 3 else f"{value:+.4f}"
    dark = abs(value) > 0.9
    ax.text(j, i, text, ha="center", va="center", color="white" if dark else "black")
ax.set_xticks(range(4), ["g", "votes", "logit", "probability"])
ax.set_yticks(range(3), ["medication 1", "2", "3"])
ax.grid(False)
show(fig)

# %% [markdown]
# The first trap: a medication that goes badly with the patient *and* is voted against gets recommended.
# The second: a row of $H$ without fragments gives logit 0 and probability one half, whatever the patient, and released code recommends from one half on.
# The published pipelines never meet this case: they leave every class without a structure out, insulins among them.
# We keep these classes, {glue:text}`n_without` of the {glue:text}`n_medications` of this page's cohort, so that here the question has to be answered.

# %% tags=["hide-input"]
share = given.mean(0)
rows = [m for m in np.argsort(-share) if without[m] and share[m] >= 0.05]
vocabulary = records.vocab["medication"]
show(
    page.table(
        pl.DataFrame(
            {
                "medication": [vocabulary.codes[m] for m in rows],
                "what it is": [vocabulary.titles[m] for m in rows],
                "share of visits": [float(share[m]) for m in rows],
            }
        ),
        caption=f"Medications without any fragment that at least one visit in twenty has, {page.cohort_line(records)}.",
    ),
    patients=records.n_patients,
)

# %% [markdown]
# **Check.** On all visits, with networks that were never trained: with these classes kept, `official` recommends each of them to everybody.
# In `paper` each has a learnt vector in the place of its molecules and listens to the votes of all fragments, so that its probability moves with the patient.


# %%
def untrained(name, variant="paper", **settings):
    torch.manual_seed(seed)
    chosen = entry[name].configure(variant, settings)
    return entry[name].cls(chosen, knowledge).eval()


networks = {v: untrained("safedrug", v) for v in ("paper", "official")}
said = {v: predict(net, records, knowledge) for v, net in networks.items()}
if without.any():
    assert said["official"].recommended[:, without].all()
    assert (said["paper"].scores[:, without].std(0) > 0).all()
    assert (said["official"].scores[:, without] == 0.5).all()
show({v: bool((x.scores[:, without] == 0.5).all()) for v, x in said.items()})

# %% [markdown]
# ```{exercise}
# :label: ex-safedrug-zero
#
# Give medication 3 of the toy one fragment, with weight 0.
# What is its probability, and what must happen before it can change?
# ```
#
# ```{solution-start} ex-safedrug-zero
# :class: dropdown
# ```

# %%
H_more = torch.tensor([[True, False], [True, True], [False, True]])
W_zero = W.clone()
W_zero[1, 2] = 0
assert (g * fragment_votes(u, W_zero, H_more)).sigmoid()[2] == 0.5
show("still one half")

# %% [markdown]
# Still one half, but the weight has a gradient now and can leave zero, as long as $g_3$ is not zero too; on the toy it is.
#
# ```{solution-end}
# ```
#
# ## A brake between accuracy and safety
#
# Both systems have a *brake*, which the papers call a controller: it looks at the set that has just been recommended.
# With $\rho$ its drug-drug interaction (DDI) rate, the share of its pairs that interact, and $\varphi = 0.06$ the rate that is put up with, SafeDrug mixes
#
# $$
# \mathcal L = \beta\, \mathcal L_{rec} + (1 - \beta)\, \mathcal L_{ddi}, \qquad
# \beta = \begin{cases} 1 & \rho \le \varphi \\ \max\big\{0,\ 1 + (\varphi - \rho) / K_p\big\} & \rho > \varphi . \end{cases}
# $$ (eq-safedrug-beta)
#
# This is the printed rule; released code has $\min$ in the place of $\max$.
# $K_p$, 0.05 unless said otherwise, is the width over which the printed β falls from 1 to 0.
# MoleRec replaces β by $\alpha = \min\{1,\ \exp(2.5\,(1 - \rho / \varphi))\}$, which BiMoRec takes over in {eq}`eq-alpha`.
#
# Take a visit with $\mathcal L_{rec} = 0.5866$ and $\mathcal L_{ddi} = 0.015$, hold both fixed and let its rate grow.

# %%
rate = torch.tensor([0.06, 0.07, 0.085, 0.10, 0.11, 0.12, 0.16], dtype=torch.float64)
L_rec, L_ddi = 0.5866, 0.015
weight = {
    "printed": brake(rate, 0.06, 0.05),
    "released": brake(rate, 0.06, 0.05, "min"),
    "MoleRec": losses.ddi_tolerance(rate, 0.06, 2.5),
}
loss = {name: w * L_rec + (1 - w) * L_ddi for name, w in weight.items()}

# %% [markdown]
# **Check.** All rows by hand; the printed rule is continuous at $\varphi$, the released one jumps there by the whole difference of the losses; beyond $\varphi$ released accuracy never has a positive weight.

# %%
expected = {
    "printed": [0.5866, 0.4723, 0.3008, 0.1293, 0.0150, 0.0150, 0.0150],
    "released": [0.5866, 0.0150, 0.0150, 0.0150, 0.0150, -0.0993, -0.5566],
    "MoleRec": [0.5866, 0.3918, 0.2167, 0.1230, 0.0862, 0.0619, 0.0239],
}
for name, values in expected.items():
    np.testing.assert_allclose(loss[name], values, atol=6e-5)
above = torch.linspace(0.0601, 1, 500, dtype=torch.float64)
assert (brake(above, 0.06, 0.05, "min") <= 0).all()
assert brake(above, 0.06, 0.05)[0] > 0.99
np.testing.assert_allclose(L_rec - L_ddi, 0.5716)
page.glue(jump=L_rec - L_ddi)
show(
    page.table(
        pl.DataFrame(
            {"ρ": [f"{r:g}" for r in rate.tolist()]}
            | {f"weight, {name}": w.numpy() for name, w in weight.items()}
            | {f"loss, {name}": v.numpy() for name, v in loss.items()}
        ),
        caption=(
            "Weight of accuracy and loss of one visit under three rules, K_p = 0.05. "
            "Exact."
        ),
        digits=4,
    )
)

# %% tags=["hide-input"]
prescribed = losses.visit_ddi_rate(torch.from_numpy(given), knowledge.ddi)
quarters = torch.quantile(prescribed, torch.tensor([0.25, 0.75])).tolist()
page.glue(
    share_above=privacy.share(records, prescribed > 0.06),
    share_negative=privacy.share(records, prescribed > 0.11),
    lower_quarter=quarters[0],
    upper_quarter=quarters[1],
)

# %% tags=["hide-input"]
#| name: fig-safedrug-brake
#| alt: Line chart of the weight of accuracy against the DDI rate of a visit. All rules are 1 up to 0.06. The printed
#|   one falls on a straight line to 0 at 0.11, MoleRec's exponentially; the released one drops to 0 at once and is
#|   negative beyond 0.11. A band shows the rates of prescribed sets.
#| caption: Weight of accuracy against the DDI rate of the recommended set: SafeDrug as printed and as released,
#|   {eq}`eq-safedrug-beta`, and MoleRec's $\alpha$. Band: middle half of the rates of the sets that were
#|   *prescribed*, {glue:text}`cohort_line`. Notice that only the released rule jumps, and that it alone goes below 0.
x = torch.linspace(0, 0.2, 401)
fig, ax = plt.subplots(figsize=(plotting.FULL, 2.9))
ax.axvspan(*quarters, color="0.5", alpha=0.15, lw=0)
for name, y, line in (
    ("SafeDrug, printed", brake(x, 0.06, 0.05), "-"),
    ("SafeDrug, released", brake(x, 0.06, 0.05, "min"), "--"),
    ("MoleRec", losses.ddi_tolerance(x, 0.06, 2.5), "-."),
):
    ax.plot(x, y, line, label=name, color=plotting.color(name.partition(",")[0]))
ax.axhline(0, color=plotting.INK, lw=0.8)
ax.set(xlabel="DDI rate of the recommended set", ylabel="weight of accuracy")
ax.legend(loc="lower left")
show(fig, patients=records.n_patients)

# %% [markdown]
# At the target the released loss falls by {glue:text}`jump:.4f`, which no gradient sees: a rate counts pairs of a thresholded set.
# So the *weight* can only turn a visit down; which medication to drop, only $\mathcal L_{ddi}$ can say.
# Beyond $\varphi + K_p = 0.11$ the released weight is negative, and a step makes the prediction worse on purpose.
#
# ```{exercise}
# :label: ex-safedrug-released
#
# On {glue:text}`share_above:.0%` of this cohort's visits the *prescribed* set exceeds 0.06, on {glue:text}`share_negative:.0%` it exceeds 0.11.
# A model recommends those very sets.
# What does released SafeDrug learn from these visits?
# ```
#
# ````{solution} ex-safedrug-released
# :class: dropdown
#
# Between 0.06 and 0.11, only to avoid pairs.
# Beyond 0.11, to avoid pairs and to be wrong.
# From no visit whose true treatment exceeds the target does it learn what was prescribed, once it gets close.
# ````
#
# ## An encoder that nothing trains
#
# Where does $E$ come from?
# Each atom gets the identifier of its environment of radius 2, hydrogens included, the Weisfeiler-Lehman colours of {eq}`eq-molecules-colours`, and starts as the vector $h_a$ of that identifier in an embedding table.
# Two rounds of messages follow, a molecule $n$ is the sum of its atoms, and a medication the mean of its molecules, at most three:
#
# $$
# h_a \leftarrow \operatorname{ReLU}(W_l\, h_a + b_l), \qquad h_a \leftarrow h_a + \sum_{a' \in \mathcal N(a)} h_{a'}, \qquad
# e_n = \sum_{a \in n} h_a, \qquad E_m = \operatorname*{mean}_{n \in m}\, e_n .
# $$ (eq-safedrug-message)
#
# The released code computes this once, when the model is made, with a module that is then thrown away.
# Its weights are in no list of parameters and in no saved file, so $E$ is a fixed random map of the molecules.
# That can be found out without reading a line of the code: ask autograd which parameters stand behind $E$, take one step, and look at $E$ again.


# %%
def behind(network):
    E = network.medications(knowledge)
    if not E.requires_grad:
        return set()
    names, values = zip(*network.named_parameters(), strict=True)
    slopes = torch.autograd.grad(E.square().sum(), values, allow_unused=True)
    paired = zip(names, slopes, strict=True)
    return {name.partition(".")[0] for name, slope in paired if slope is not None}


def one_step(network, batch):
    before = network.medications(knowledge).detach().clone()
    optimiser = torch.optim.Adam(network.parameters(), lr=0.01)
    network.loss(batch, knowledge).backward()
    optimiser.step()
    change = network.medications(knowledge).detach() - before
    return float(change.norm() / before.norm())


few = VisitBatch.build(records, np.arange(min(16, records.n_patients)))
stands_behind = {v: behind(networks[v]) for v in networks}
moved = {v: one_step(networks[v], few) for v in networks}

# %% [markdown]
# **Check.** Nothing stands behind the released $E$, and it does not move; the trained one does.
# Load the released weights into a fresh model *without* the map, as its files are, and it says something else.

# %%
assert stands_behind["paper"] - {"free"} == {"encoder"}  # free: without a structure
assert stands_behind["official"] == set()
assert moved["official"] == 0 < moved["paper"]
weights = networks["official"].state_dict()
lost = {name: value for name, value in weights.items() if name != "frozen"}
torch.manual_seed(seed + 1)
again = entry["safedrug"].cls(networks["official"].config, knowledge).eval()
again.load_state_dict(lost, strict=False)
with torch.inference_mode():
    told = networks["official"](few, knowledge)
    other = again(few, knowledge)
    again.load_state_dict(weights)
    whole = again(few, knowledge)
assert torch.equal(whole, told)
assert not torch.allclose(other, told, atol=1e-5)
page.glue(moved_paper=moved["paper"])
show({v: round(x, 4) for v, x in moved.items()})

# %% [markdown]
# The trained $E$ changes by {glue:text}`moved_paper:.0%` of its length in one step.
# Adam rescales even a tiny gradient, so that one step moves $E$ a long way; that it moves does not say that it moves in a useful direction.
#
# ```{exercise}
# :label: ex-safedrug-random
#
# Why can a random map work at all?
# {numref}`fig-safedrug-maps`, further below, has the answer in a picture.
# ```
#
# ````{solution} ex-safedrug-random
# :class: dropdown
#
# Equal environments get equal random vectors, so molecules that share most of their atoms' environments get nearly equal sums, and sums of random vectors keep angles roughly.
# A random map already says "similar molecule, similar row".
# ````
#
# ### A match that is out of scale
#
# Trained or not, does $E$ reach the patient at all?
# A sum over some forty atoms, hydrogens included, is long, and each round of {eq}`eq-safedrug-message` makes it longer.
# The match is a sigmoid of $q \cdot E_m$, and
#
# $$
# \frac{\partial r_m}{\partial q} = r_m (1 - r_m)\, E_m ,
# $$ (eq-safedrug-saturation)
#
# which vanishes once $|q \cdot E_m|$ is large: at 6 the product $r (1 - r)$ is a hundred times below its peak.


# %%
def dot_products(network):
    with torch.inference_mode():
        queries = network.queries(few)[few.visit_mask]
        rows = network.medications(knowledge)[molecules.average.any(1)]
        return (queries @ rows.T).abs()


starts = {
    "molecules, to be trained": untrained("safedrug"),
    "molecules, random": untrained("safedrug", "official"),
    "free vectors": untrained("safedrug", molecule_encoder="none"),
}
dots = {name: dot_products(network) for name, network in starts.items()}

# %% [markdown]
# **Check.** Before the first step the molecular products are an order of magnitude beyond those of free vectors of the same width.

# %%
six = torch.tensor(6.0).sigmoid()
np.testing.assert_allclose(0.25 / float(six * (1 - six)), 101, atol=1)
median = {name: float(x.median()) for name, x in dots.items()}
assert min(list(median.values())[:2]) > 5 * median["free vectors"]
page.glue(
    saturated=float((dots["molecules, to be trained"] > 6).float().mean()),
    saturated_free=float((dots["free vectors"] > 6).float().mean()),
    median_molecules=median["molecules, to be trained"],
    median_free=median["free vectors"],
)
show({name: round(x, 2) for name, x in median.items()}, patients=records.n_patients)

# %% tags=["hide-input"]
#| name: fig-safedrug-scale
#| alt: Three histograms on a logarithmic axis of the size of the product of query and medication before training.
#|   Free vectors lie below one; both molecular maps lie mostly between 3 and 100, beyond a line at 6 where the
#|   sigmoid is flat.
#| caption: Size of $q \cdot E_m$ in untrained networks, over visits and medications with a molecule; 16 patients of
#|   {glue:text}`cohort_line`, one seed. Right of the line the sigmoid of {eq}`eq-safedrug-global` is flat. Notice that
#|   {glue:text}`saturated:.0%` of the products with molecules to be trained start there, and
#|   {glue:text}`saturated_free:.0%` of those with free vectors.
bins = np.geomspace(1e-2, 300, 46)
fig, ax = plt.subplots(figsize=(plotting.ONE_COLUMN, 2.6))
for (name, x), line in zip(dots.items(), ("-", "--", ":"), strict=True):
    height, _ = np.histogram(x.flatten().clamp(min=1e-2), bins)
    ax.stairs(
        height / height.sum(),
        bins,
        label=name,
        linestyle=line,
        color=plotting.color("SafeDrug"),
        lw=1.6,
    )
ax.axvline(6, color=plotting.INK, lw=0.8)
ax.set(xscale="log", xlabel="size of q · E", ylabel="share", ylim=(0, None))
ax.legend(loc="upper left")
show(fig, patients=records.n_patients)

# %% [markdown]
# With molecules {glue:text}`saturated:.0%` of the products start beyond 6, with a median of {glue:text}`median_molecules:.1f` against {glue:text}`median_free:.2f` for free vectors.
# There the match says 0 or 1, and passes hardly any gradient to the query or to the molecules.
# What that leaves of the match after training is counted further below.
#
# ```{exercise}
# :label: ex-safedrug-scale
#
# Attention divides its products by $\sqrt d$.
# Would that be enough here, and what would atoms of length one do?
# ```
#
# ```{solution-start} ex-safedrug-scale
# :class: dropdown
# ```

# %%
width = entry["safedrug"].configure().size
raw = dots["molecules, to be trained"]
beyond = {
    "as it is": float((raw > 6).float().mean()),
    "divided by the root of d": float((raw / width**0.5 > 6).float().mean()),
}
assert beyond["divided by the root of d"] < beyond["as it is"] / 2
show({name: round(x, 3) for name, x in beyond.items()}, patients=records.n_patients)

# %% [markdown]
# It brings most products back to where a sigmoid has a slope.
# Atoms of length one, a line that stands in the released code but is switched off, would still be summed: forty of them with positive coordinates point the same way, and $|E|$ would be near forty.
# A mean over atoms, as in the graph network of {eq}`eq-gin-layer`, ends that as well.
#
# ```{solution-end}
# ```
#
# ## Whose fragments count: a masked attention
#
# MoleRec {cite:p}`yang2023molerec` has no global branch.
# Each medication attends to *its own* fragments, the visit opens or closes a gate for each fragment, and one perceptron scores what comes through:
#
# $$
# A_{ms} = \operatorname{softmax}_{s:\, H_{ms} = 1} \frac{E_m \cdot F_s}{\sqrt d}, \qquad
# Y_m = \sum_s A_{ms}\, w_s\, F_s, \qquad z_m = \operatorname{MLP}(Y_m) .
# $$ (eq-molerec-attention)
#
# $F_s$ are the fragments, $w_s = \sigma(\cdot)$ the gates of the visit; $E$ and $F$ pass a linear map each before they meet, left out here.
# Both are read by graph networks, {eq}`eq-gin-layer`.
# $A$ depends on no patient.
# The second toy: three medications with two, one and no fragments out of three.

# %%
E_m = torch.tensor([[1.0, 0], [0, 2], [1, 1]])
F_s = torch.tensor([[2.0, 0], [0, 1], [1, 1]])
owns = torch.tensor([[True, True, False], [False, True, False], [False, False, False]])
gates = torch.tensor([[0.9, 0.5, 0.1]])
score = torch.einsum("md,sd->ms", E_m, F_s) / 2**0.5
A = score.masked_fill(~owns, torch.finfo(score.dtype).min).softmax(-1)
Y = torch.einsum("ms,bs,sd->bmd", A, gates, F_s)[0]

# %% [markdown]
# **Check.** By hand, against the functions of the model, and against the sum written as a loop.
# All scores of the last row are masked to the same number, and a softmax of equal numbers is uniform: the medication without fragments attends to *all* of them.
# Break it: masking *after* the softmax leaves rows that do not sum to one.

# %%
third = 1 / 3
uniform = [[0.8044, 0.1956, 0], [0, 1, 0], [third, third, third]]
torch.testing.assert_close(A, torch.tensor(uniform), **close)
torch.testing.assert_close(masked_attention(E_m, F_s, owns), A)
by_hand = [[1.4480, 0.0978], [0, 0.5], [0.6333, 0.2]]
torch.testing.assert_close(Y, torch.tensor(by_hand), **close)
torch.testing.assert_close(gather_fragments(A, gates, F_s)[0], Y)
zero = masked_attention(E_m, F_s, owns, "zero")
torch.testing.assert_close(zero[:2], A[:2])
assert not zero[2].any()
loop = sum(A[0, s] * gates[0, s] * F_s[s] for s in range(3))
torch.testing.assert_close(loop, Y[0])
late = score.softmax(-1) * owns
assert (late.sum(-1) < 0.95).all()
show([round(x, 4) for x in late.sum(-1).tolist()])

# %% tags=["hide-input"]
#| name: fig-molerec-attention
#| alt: Two heat maps of three medications by three fragments with the medication's own fragments outlined. Left,
#|   released: the third medication, which has none, spreads a third on each. Right, with empty rows: it has zeros.
#| caption: The attention of {eq}`eq-molerec-attention` on the toy as released (left) and with empty rows (right);
#|   outlined: fragments that the medication has. Exact. Notice the row without an outline.
fig, axes = plt.subplots(
    1, 2, figsize=(plotting.ONE_COLUMN, 2.1), sharey=True, layout="constrained"
)
for ax, (name, values) in zip(axes, {"uniform": A, "zero": zero}.items(), strict=True):
    ax.imshow(values, cmap="Purples", vmin=0, vmax=1)
    for (i, j), value in np.ndenumerate(values.numpy()):
        ink = "white" if value > 0.6 else "black"
        ax.text(j, i, f"{value:.2f}", ha="center", va="center", color=ink)
        if owns[i, j]:
            ax.add_patch(
                plt.Rectangle((j - 0.46, i - 0.46), 0.92, 0.92, fill=False, lw=1.6)
            )
    ax.set_xticks(range(3), ["a", "b", "c"])
    ax.set(xlabel=f"fragment, rows {name}")
    ax.grid(False)
axes[0].set_yticks(range(3), ["medication 1", "2", "3"])
show(fig)

# %% [markdown]
# Open gate c: who moves?
# As released only medication 3, through a fragment that it does not have: for a row without fragments masking forbids nothing.

# %%
wide = torch.tensor([[0.9, 0.5, 0.9]])
after = gather_fragments(A, wide, F_s)[0]
torch.testing.assert_close(after[:2], Y[:2])
torch.testing.assert_close(after[2], torch.tensor([0.9, 0.4667]), **close)
torch.testing.assert_close(
    gather_fragments(zero, wide, F_s), gather_fragments(zero, gates, F_s)
)
show([round(x, 4) for x in after[2].tolist()])

# %% [markdown]
# ```{exercise}
# :label: ex-molerec-one
#
# For which medications do the two linear maps of the attention matter?
# ```
#
# ```{solution-start} ex-molerec-one
# :class: dropdown
# ```

# %%
n_own = mask.sum(1)
pieces = torch.tensor([len(brics_fragments(smiles)) for smiles in molecules.smiles])
single = masked_attention(torch.randn(1, 8), torch.randn(4, 8), torch.eye(4).bool()[:1])
assert single[0, 0] == 1
page.glue(one_fragment=int((n_own == 1).sum()), one_piece=int((pieces == 1).sum()))
show({"medications with one": int((n_own == 1).sum())})

# %% [markdown]
# For those with two fragments or more: a softmax over one number is one.
# {glue:text}`one_piece` of the {glue:text}`n_molecules` molecules have a single fragment, but classes pool up to three molecules; classes with a single fragment here: {glue:text}`one_fragment`.
#
# ```{solution-end}
# ```
#
# ### One number for all that is silent
#
# It seems cleaner to leave the rows of such medications empty.
# But the perceptron of {eq}`eq-molerec-attention` is the same for all medications, and sees nothing of them except $Y_m$.
# Where $Y_m = 0$ the logit is $\operatorname{MLP}(0)$: for all empty rows, and for every medication whose gates are closed.

# %%
molerec, emptied, quiet = (
    untrained("molerec", **rows)
    for rows in (
        {"without_structure": "uniform"},
        {"without_structure": "zero"},
        {"without_structure": "zero"},
    )
)
with torch.inference_mode():
    quiet.wanted.weight.zero_()
    quiet.wanted.bias.fill_(-200.0)  # all gates closed
    nothing = emptied.score(torch.zeros(emptied.config.size))[0]
    of_all = emptied(few, knowledge)[few.visit_mask]
    of_closed = quiet(few, knowledge)[few.visit_mask]
    as_released = molerec(few, knowledge)[few.visit_mask]

# %% [markdown]
# **Check.** On real molecules, before any training: with empty rows silent medications share one logit over all patients, and with all gates closed everything does.
# With uniform rows they move with the patient, but together.

# %%
silent = torch.from_numpy(without)
torch.testing.assert_close(of_closed, nothing.expand_as(of_closed))
torch.testing.assert_close(of_all[:, silent], nothing.expand_as(of_all[:, silent]))
if without.any():
    together = as_released[:, silent]
    torch.testing.assert_close(together, together[:, :1].expand_as(together))
    assert together[:, 0].std() > 0
silent_share = share[without] if without.any() else np.zeros(1)
page.glue(most_silent=float(silent_share.max()))
show("one logit for all that is silent")

# %% [markdown]
# The medications without fragments are given at up to {glue:text}`most_silent:.0%` of the visits, and MoleRec can only recommend all of them or none: visit by visit with uniform rows, at every visit alike with empty ones.
# So the uniform row, though it is no mask, is the one path by which a patient reaches these medications.
# Our `paper` variant gives each of these medications a vector of its own, by which it attends to the fragments of all; `official` keeps the uniform row.
#
# ## Attention among fragments, and what can be switched off
#
# Before they meet the medications, fragments look at each other, as in a Set Transformer {cite:p}`lee2019set`.
# With $\tilde F$ the fragments after that attention and its normalisation, print and code differ in the last step:
#
# $$
# \begin{aligned}
# F &= \operatorname{LN}\big(\tilde F + \operatorname{MLP}(\tilde F)\big) & &\text{Set Transformer,} \\
# F &= \operatorname{LN}\big(W \tilde F + b\big) & &\text{released code.}
# \end{aligned}
# $$ (eq-molerec-sab)
#
# The second has neither a residual nor an activation.
# A limit case tells them apart: let training drive the last maps to zero.

# %%
torch.manual_seed(seed)
blocks = {"set transformer": SetAttention(8), "released": SetAttention(8, 2, False)}
X = torch.randn(5, 8)
with torch.inference_mode():
    for name, block in blocks.items():
        last = block.out if name == "set transformer" else block.linear
        last.weight.zero_()
        last.bias.fill_(0)
    off = {name: block(X) for name, block in blocks.items()}

# %% [markdown]
# **Check.** Switched off, the first hands its input on; the second makes all five fragments one.

# %%
apart = {name: float(rows.std(0).sum()) for name, rows in off.items()}
assert apart["set transformer"] > 0.5
assert apart["released"] == 0
show({name: round(x, 4) for name, x in apart.items()})

# %% [markdown]
# ```{exercise}
# :label: ex-molerec-off
#
# Which of the two blocks can training switch off, if it does not help?
# ```
#
# ````{solution} ex-molerec-off
# :class: dropdown
#
# The first.
# The released one has to carry everything through its linear map: zero would merge all fragments.
# ````
#
# ## What the interaction loss pushes
#
# The loss of {eq}`eq-ddi-loss`, $\mathcal L_{ddi} = c\, p^\top A^{ddi} p$ with $c = 5 \cdot 10^{-4}$, has the gradient
#
# $$
# \frac{\partial \mathcal L_{ddi}}{\partial p_m} = 2 c \sum_{m'} A^{ddi}_{mm'}\, p_{m'} , \qquad
# \frac{\partial \mathcal L_{ddi}}{\partial z_m} = p_m (1 - p_m)\, \frac{\partial \mathcal L_{ddi}}{\partial p_m} .
# $$ (eq-molerec-gradient)
#
# $A^{ddi}$ is the matrix of interactions, no attention.

# %%
prob = torch.tensor([0.9, 0.8, 0.5], requires_grad=True)
pairs = torch.tensor([[0, 1, 0], [1, 0, 1], [0, 1, 0]]).bool()
total = losses.ddi_loss(prob, pairs)
total.backward()

# %% [markdown]
# **Check.** Every pair counts twice; the rate of the thresholded set is two pairs of three.

# %%
torch.testing.assert_close(total.detach(), torch.tensor(2.24), **close)
torch.testing.assert_close(prob.grad, torch.tensor([1.6, 2.8, 1.6]), **close)
rate_toy = losses.visit_ddi_rate(prob.detach() >= 0.5, pairs)
torch.testing.assert_close(rate_toy, torch.tensor(2 / 3))
show([round(x, 2) for x in prob.grad.tolist()])

# %% [markdown]
# How hard is that push beside those of accuracy?
# Take 131 candidate medications, the number in the papers, of which the visit has 20, and one medication at probability one half that interacts with three recommended for certain.
# For accuracy both systems take $\mathcal L_{rec} = 0.95\,\mathcal L_{bce} + 0.05\,\mathcal L_{multi}$.
# The first is the mean cross-entropy; the second is $\frac1n \sum_{i, j} \max(0,\ 1 - (p_i - p_j))$ over all pairs of a prescribed $i$ and another $j$, the margin of {eq}`eq-margin-loss`, with $n$ the number of candidates.

# %%
n, n_true = 131, 20


def push(term, position):
    """Size of the gradient on one logit of 0, with three certain partners."""
    logit = torch.zeros(n, requires_grad=True)
    certain = torch.full((n,), -40.0)
    certain[[20, 21, 22]] = 40.0
    mine = torch.arange(n) == position
    term(torch.where(mine, logit, certain)).backward()
    return float(logit.grad.abs()[position])


target = torch.arange(n) < n_true
partners = torch.zeros(n, n, dtype=torch.bool)
for m in range(20, 23):
    partners[m, [0, 130]] = partners[[0, 130], m] = True
terms = {
    "DDI": lambda z: losses.ddi_loss(z.sigmoid(), partners, 5e-4),
    "cross-entropy": lambda z: (
        0.95 * nn.functional.binary_cross_entropy_with_logits(z, target.float())
    ),
    "margin, prescribed": lambda z: 0.05 * losses.margin_loss(z.sigmoid(), target),
    "margin, not": lambda z: 0.05 * losses.margin_loss(z.sigmoid(), target),
}
at = {"margin, not": n - 1}
pushes = {name: push(term, at.get(name, 0)) for name, term in terms.items()}

# %% [markdown]
# **Check.** By formula: $2 c \cdot 3 / 4$, $0.95 \cdot \tfrac12 / 131$, $0.05 \cdot \tfrac{111}{131} / 4$ and $0.05 \cdot \tfrac{20}{131} / 4$.
# Then the weight of accuracy at which the interactions win, and the rate at which each brake gets there.

# %%
np.testing.assert_allclose(
    list(pushes.values()), [0.00075, 0.00363, 0.01059, 0.00191], atol=6e-6
)
against = pushes["cross-entropy"] + pushes["margin, prescribed"]
even = pushes["DDI"] / (pushes["DDI"] + against)  # weight of accuracy at a draw
wins = {
    "printed": 0.06 + 0.05 * (1 - even),
    "alpha": 0.06 * (1 - float(np.log(even)) / 2.5),
}
at_even = {name: torch.tensor(x, dtype=torch.float64) for name, x in wins.items()}
np.testing.assert_allclose(brake(at_even["printed"], 0.06, 0.05), even)
np.testing.assert_allclose(losses.ddi_tolerance(at_even["alpha"], 0.06, 2.5), even)
page.glue(
    outweighed=against / pushes["DDI"],
    even=even,
    wins_printed=wins["printed"],
    wins_alpha=wins["alpha"],
)
show({name: round(x, 5) for name, x in pushes.items()})

# %% tags=["hide-input"]
#| name: fig-molerec-pushes
#| alt: Four horizontal bars: the push of the DDI loss on one logit is 0.00075, the smallest; cross-entropy 0.0036,
#|   margin on a prescribed medication 0.0106, margin on another 0.0019.
#| caption: Size of the gradient of each term on one logit at probability one half, at published sizes and before a
#|   brake weighs them; exact. Notice that the interactions push least.
fig, ax = plt.subplots(figsize=(plotting.ONE_COLUMN, 1.9))
names = list(pushes)[::-1]
ax.barh(names, [pushes[name] for name in names], color=plotting.color("MoleRec"))
ax.set_xlabel("gradient on one logit")
show(fig)

# %% [markdown]
# At equal weights three certain interactions push a prescribed medication down {glue:text}`outweighed:.0f` times less than accuracy pushes it up.
# The brake changes the weights.
# Once that of accuracy is below {glue:text}`even:.3f`, the interactions win: above a rate of {glue:text}`wins_printed:.3f` with the printed β, above {glue:text}`wins_alpha:.3f` with α, and with the released β as soon as the target is passed.
#
# A prediction from the first number alone: α and β act mostly by *turning the visit down*; visits that interact teach less, whatever they contain.
# The last experiment of this page tests it.
#
# ```{exercise}
# :label: ex-molerec-arithmetic
#
# One interacting pair among 2, 5, 10 and 20 recommended medications.
# Compute $\rho$ and $\alpha$: which visits are turned down?
# ```
#
# ```{solution-start} ex-molerec-arithmetic
# :class: dropdown
# ```

# %%
sizes = np.array([2, 5, 10, 20])
one_pair = 2 / (sizes * (sizes - 1))
np.testing.assert_allclose(one_pair, [1, 0.1, 0.0222, 0.0053], atol=5e-5)
kept = losses.ddi_tolerance(torch.from_numpy(one_pair), 0.06, 2.5)
np.testing.assert_allclose(kept, [0, 0.1889, 1, 1], atol=5e-5)
assert 0 < kept[0] < 1e-16
show([f"{x:.2g}" for x in kept.tolist()])

# %% [markdown]
# Those with small sets: the same single pair that a set of ten may hold all but removes a set of two from training, by arithmetic and not by danger.
#
# ```{solution-end}
# ```

# %% [markdown]
# ## Putting it together
#
# {py:class}`~medrec.models.safedrug.SafeDrug` and {py:class}`~medrec.models.molerec.MoleRec` see the diagnoses and procedures of visits $1..t$ and no medication; a first visit is a sequence of one, so all visits are scored.
# Short trainings, for their curves: fifteen epochs of SafeDrug and of its twin with free vectors in the place of molecules, five epochs of a narrow MoleRec with one graph layer; the profile `full` trains all to the end.

# %%
short = {"epochs": 15, "patience": 15, "batch_size": 32}
narrow = {"epochs": 5, "batch_size": 8, "size": 32, "gin_layers": 1, "dropout": 0.2}
narrow |= {"learning_rate": 2e-3}
learn = partial(train, cohort=records, seed=seed, device=device)
if profile == "full":
    short, narrow = {}, {}
runs = {
    "SafeDrug": learn("safedrug", settings=short),
    "free vectors": learn("safedrug", settings={**short, "molecule_encoder": "none"}),
    "MoleRec": learn("molerec", settings=narrow),
}
references = {
    "LR": train("lr", records),
    "LR, as published": train("lr", records, variant="official"),
    "popularity": train("popularity", records),
    "last visit": train("last-visit", records),
}

# %% tags=["hide-input"]
#| name: fig-molecule-curve
#| alt: Line chart of validation Jaccard against epoch for SafeDrug with molecules, SafeDrug with free vectors and
#|   MoleRec, each with a marker and a line style of its own.
#| caption: Jaccard (↑ better) of the validation patients against epoch, one short training each,
#|   {glue:text}`cohort_line`. No interval: the curves show the training, not a comparison. {glue:text}`still_rising`
fig, ax = plt.subplots(figsize=(plotting.ONE_COLUMN, 2.5))
for (name, run), line in zip(runs.items(), ("-o", "--^", "-.s"), strict=True):
    system = "MoleRec" if name == "MoleRec" else "SafeDrug"
    ax.plot(
        run.history["epoch"],
        run.history["jaccard"],
        line,
        color=plotting.color(system),
        ms=4,
        label=name,
    )
ax.set(xlabel="epoch", ylabel="Jaccard of validation patients ↑")
ax.legend()
rising = [
    name
    for name, run in runs.items()
    if np.argmax(run.history["jaccard"]) == len(run.history["jaccard"]) - 1
]
still_rising = f"Highest in their last epoch: {', '.join(rising) or 'none'}."
page.glue(still_rising=page.about(records, still_rising))
show(fig, patients=records.n_patients)


# %% tags=["hide-input"]
def strip(name, run, threshold, visits, groups):
    found = bootstrap(run.evaluation(threshold), groups=groups, seed=seed)
    values = {head: found[key].value for key, head in COLUMNS.items()}
    values["PRAUC"] = None if np.isnan(values["PRAUC"]) else values["PRAUC"]
    values["Jaccard"] = found["jaccard"].format(3)
    values["medications"] = found["n_medications"].format(1)
    return {"system": name, "visits": visits, "threshold": threshold} | values


parts = [("own", "all", GROUPS), ("own", "first", GROUPS[:1])]
parts += [("own", "later", GROUPS[1:]), ("tuned", "all", GROUPS)]
lines = [strip(name, run, *part) for name, run in runs.items() for part in parts]
for name, cut in (
    ("LR", "tuned"),
    ("LR, as published", "own"),
    ("popularity", "tuned"),
):
    lines.append(strip(name, references[name], cut, "all", GROUPS))
lines.append(strip("last visit", references["last visit"], "own", "later", GROUPS[1:]))
tested = int(runs["SafeDrug"].evaluation("own").summary()["patients"])
show(
    page.table(
        pl.DataFrame(lines),
        caption=f"Short trainings beside the reference points, {tested} test patients of {page.cohort_line(records)}. Own threshold: one half; tuned: what was best on the validation patients. Visits are averaged within a patient, then over patients, so that a mean over all visits need not lie between those of first and of later ones. Brackets: 95 % bootstrap intervals over patients, one training seed. The last visit leaves first visits out.",
    ),
    patients=tested,
)

# %% tags=["remove-cell"]
reached = {
    row["system"]: row["Jaccard"]
    for row in lines
    if (row["visits"], row["threshold"]) == ("all", "tuned")
}
page.glue(
    **{
        f"reached_{name.lower()}": page.about(records, reached[name], patients=tested)
        for name in ("SafeDrug", "popularity", "LR")
    }
)

# %% [markdown]
# These are few steps, far fewer than one for each visit as in the released code: the curves show training and rank nothing.
# At tuned thresholds the SafeDrug of this page reaches a Jaccard of {glue:text}`reached_safedrug`, popularity {glue:text}`reached_popularity` and LR {glue:text}`reached_lr`.
#
# How much does the match of {eq}`eq-safedrug-global` still move from visit to visit?


# %%
some = VisitBatch.build(records, np.arange(min(64, records.n_patients)))


def moves(network, context):
    """Standard deviation of the match over visits, mean over medications."""
    with torch.inference_mode():
        queries = network.queries(some)[some.visit_mask]
        return float(match(queries, network.medications(context)).std(0).mean())


moving, n_sets = [], {}
for start, name in (
    ("molecules, to be trained", "SafeDrug"),
    ("free vectors", "free vectors"),
):
    network, context = load_system(runs[name])
    before, after = moves(starts[start], knowledge), moves(network, context)
    moving.append({"match with": start.partition(",")[0]})
    moving[-1] |= {"before the first step": before, "after training": after}
    sets = predict(network, records, context).recommended
    n_sets[name] = len(np.unique(sets, axis=0))

# %% tags=["hide-input"]
page.glue(
    sets_molecules=n_sets["SafeDrug"],
    sets_free=n_sets["free vectors"],
    left_molecules=moving[0]["after training"] / moving[0]["before the first step"],
    left_free=moving[1]["after training"] / moving[1]["before the first step"],
)
show(
    page.table(
        pl.DataFrame(moving),
        caption=f"Standard deviation of the match over the visits of {len(some.visit_mask)} patients, mean over medications; {page.cohort_line(records)}, one training seed.",
        digits=4,
    ),
    patients=records.n_patients,
)

# %% [markdown]
# Saturated is not constant: a match of 0 at one visit and 1 at another moves a lot.
# Training left {glue:text}`left_molecules:.0%` of that movement with molecules; with free vectors it is {glue:text}`left_free:.0%` of what it was.
# Over all visits of the cohort {glue:text}`sets_molecules:,` different sets are recommended with molecules, and {glue:text}`sets_free:,` with free vectors.
# Where the match is stuck, what a patient has to say goes through the fragments alone.
#
# **Check.** In the trained SafeDrug the medications without fragments move with the patient, each in its own way.

# %%
trained, context = load_system(runs["SafeDrug"])
spoken = predict(trained, records, context)
if without.any():
    silent_scores = spoken.scores[:, without]
    assert (silent_scores.std(0) > 0).all()
    assert len({column.tobytes() for column in silent_scores.T}) == without.sum()
show("each moves on its own")

# %% tags=["hide-input"]
#| name: fig-safedrug-maps
#| alt: Two panels of the cosine between the vectors of two molecules against their fingerprint similarity, left for a
#|   random untrained map, right for the trained one; dots for pairs and a line of means. Both lines rise to one.
#| caption: Cosine of two molecules' vectors, after their mean is taken off, against their Tanimoto similarity; a
#|   random map (left) and the map trained on {glue:text}`cohort_line` (right). Dots: pairs, one in twenty of the
#|   dissimilar ones; line: means of tenths. Notice how much of the right picture is on the left already; whether
#|   because molecules arrange themselves, or because a saturated match taught the trained map little, it cannot tell.
with torch.inference_mode():
    maps = {
        "random": starts["molecules, to be trained"].encoder(),
        "trained": trained.encoder(),
    }
i, j = np.triu_indices(len(molecules.smiles), 1)
alike = tanimoto(molecules.smiles)[i, j]
shown = (alike > 0.3) | (np.arange(len(i)) % 20 == 0)
edges = np.linspace(0, 1, 11)
fig, axes = plt.subplots(
    1, 2, figsize=(plotting.FULL, 2.6), sharey=True, layout="constrained"
)
follows = {}
for ax, (name, rows) in zip(axes, maps.items(), strict=True):
    unit = nn.functional.normalize(rows - rows.mean(0), dim=1)
    cosine = (unit @ unit.T).numpy()[i, j]
    follows[name] = float(np.corrcoef(alike, cosine)[0, 1])
    ax.plot(alike[shown], cosine[shown], ".", ms=2, color=plotting.INK, alpha=0.4)
    bins = np.digitize(alike, edges[1:-1])
    middle = [
        cosine[bins == b].mean() if (bins == b).any() else np.nan for b in range(10)
    ]
    ax.plot(edges[:-1] + 0.05, middle, "-o", ms=4, color=plotting.color("SafeDrug"))
    ax.set(xlabel=f"Tanimoto similarity, {name} map", ylim=(-1, 1.05))
axes[0].set_ylabel("cosine")
show(fig, patients=records.n_patients)

# %% tags=["remove-cell"]
page.glue(follows_random=follows["random"], follows_trained=follows["trained"])

# %% [markdown]
# Over all pairs the correlation of cosine with Tanimoto similarity is {glue:text}`follows_random:.2f` for the random map and {glue:text}`follows_trained:.2f` for the trained one: most molecules are alike in nothing, and their angle is chance, but the few that share structure lie together from the start.
#
# ## The audit
#
# ### What the switches do
#
# From here on, rows that were trained once and kept: {glue:text}`line_safedrug` for SafeDrug, {glue:text}`line_molerec` for MoleRec.{glue:text}`elsewhere`
# The first row of a grid is the variant `paper`; each other row turns one switch, `official` all of them.
# Differences are paired by patient; an experiment's prediction stands before its number.

# %% tags=["hide-input"]
kept = {name: grids.read(name, records, default="synthetic") for name in entry}
shown_as = {
    "slope 0.2": "printed brake (0.2)",
    "clipped from above": "released brake (0.05)",
    "clipped from above, slope 0.2": "released brake (0.2)",
    "official": "official (every switch)",
    "linear set attention (official)": "official (every switch)",
}
n_tested = min(int(grid.scores["patients"].max()) for grid in kept.values())
about = partial(page.about, records, patients=n_tested)
page.glue(
    line_safedrug=about(kept["safedrug"].line),
    line_molerec=about(kept["molerec"].line),
    elsewhere=about(
        page.elsewhere(9, records.name, (grid.cohort for grid in kept.values()))
    ),
)


# %% tags=["hide-input"]
def rows_of(name, metric="jaccard", threshold="tuned"):
    return kept[name].by_label(metric=metric, threshold=threshold)


def changes(rows):
    return [None] + [grids.words(row, "delta") for row in list(rows.values())[1:]]


def overview(name):
    tuned, sets = rows_of(name), rows_of(name, "ddi_rate", "own")
    size = rows_of(name, "n_medications", "own")
    return pl.DataFrame(
        {
            "row": [shown_as.get(label, label) for label in tuned],
            "Jaccard": [grids.words(row) for row in tuned.values()],
            "change": changes(tuned),
            "DDI rate": [grids.words(row) for row in sets.values()],
            "change of DDI rate": changes(sets),
            "medications": [grids.words(row, digits=1) for row in size.values()],
        }
    )


def labels_with(name, column):
    """Rows of a grid with a mark in a column of its costs, as they are shown."""
    costs = kept[name].costs
    marks = costs[column] if column in costs.columns else []
    labels = zip(costs["label"], marks, strict=False)
    found = [shown_as.get(label, label) for label, mark in labels if mark]
    return ", ".join(found)


def outside(name):
    """Which intervals of a figure lie wholly outside of its band."""
    found = [
        shown_as.get(label, label)
        for label, change in kept[name].changes().items()
        if change.low > smallest or change.high < -smallest
    ]
    return ", ".join(found) or "none"


# %% tags=["hide-input"]
note = "Jaccard at the tuned threshold; DDI rate and medications at one half, the threshold that the brake sees. Change: against the first row, paired by patient. Brackets: 95 % of 1000 resamples of seeds and patients together."
show(
    page.table(
        overview("safedrug"),
        caption=f"SafeDrug and its switches, {kept['safedrug'].line}. {note}",
    ),
    patients=n_tested,
)

# %% tags=["hide-input"]
show(
    page.table(
        overview("molerec"),
        caption=f"MoleRec and its switches, {kept['molerec'].line}. {note}",
    ),
    patients=n_tested,
)

# %% tags=["remove-cell"]
sizes, sets = (rows_of("safedrug", m, "own") for m in ("n_medications", "ddi_rate"))
everybody = ("one half without a fragment", "official")
edges_of = knowledge.ddi.numpy()[np.triu_indices(M, 1)]
with_silent = (without[:, None] | without)[np.triu_indices(M, 1)]
thinner = without.any() and all(
    sizes[x]["delta"] > 0 and sets[x]["delta"] < 0 for x in everybody
)
thinned = (
    f"A lower rate is no safety in the rows {' and '.join(shown_as.get(x, x) for x in everybody)}: "
    "both give the medications without a fragment to everybody, and recommend "
    f"{' and '.join(format(sizes[x]['value'], '.1f') for x in everybody)} medications in the place of "
    f"{sizes['SafeDrug']['value']:.1f}. Of the pairs with such a medication {edges_of[with_silent].mean():.1%} interact, "
    f"of the others {edges_of[~with_silent].mean():.1%}, so that a longer list has a thinner rate."
    if thinner
    else "The rows one half without a fragment and official give the medications without a fragment to everybody."
)
states = [
    (
        "One list for everybody at the tuned threshold, with a training or more, and so no verdict",
        "degenerate",
    ),
    (
        "Below popularity, with a training or more",
        "below_popularity",
    ),
]
said = []
for words, column in states:
    found = {entry[x].label: labels_with(x, column) for x in kept}
    listed = "; ".join(f"of {x}: {rows}" for x, rows in found.items() if rows)
    if listed:
        said.append(f"{words}: {listed}.")
page.glue(
    thinned=about(thinned),
    unlearnt=about(" ".join(said)),
    outside_safedrug=about(outside("safedrug")),
    outside_molerec=about(outside("molerec")),
)

# %% [markdown]
# {glue:text}`thinned`
# {glue:text}`unlearnt`

# %% tags=["hide-input"]
#| name: fig-molecule-switches
#| alt: Two forest plots of the change of Jaccard against the paper variant, SafeDrug's switches on the left and
#|   MoleRec's on the right, with 95 percent intervals, a line at zero and a band of the smallest difference of
#|   interest.
#| caption: Change of Jaccard at the tuned threshold against the paper variant (→ better), paired by patient.
#|   SafeDrug: {glue:text}`line_safedrug`; MoleRec: {glue:text}`line_molerec`. Bars: 95 % of 1000 resamples of seeds
#|   and patients together; band: smallest difference of interest. Wholly outside of the band, on the left:
#|   {glue:text}`outside_safedrug`; on the right: {glue:text}`outside_molerec`.
fig, axes = plt.subplots(1, 2, figsize=(plotting.FULL, 3.2), layout="constrained")
for ax, name in zip(axes, kept, strict=True):
    moved_by = {shown_as.get(x, x): y for x, y in kept[name].changes().items()}
    system = entry[name].label
    plotting.plot_changes(ax, moved_by, smallest=smallest, systems=system)
    ax.xaxis.set_major_locator(MaxNLocator(4))
    ax.set_xlabel(f"change of Jaccard, {system} →")
show(fig, patients=n_tested)

# %% [markdown]
# #### Do SafeDrug's molecules matter?
#
# Prediction: a random map, no molecules and shuffled molecules all stay within {glue:text}`sdi` of the trained encoder; a match that does not move cannot matter.
# To say that molecules matter here, the trained encoder would have to beat *both* free vectors and shuffled molecules.


# %%
def gains(name, label, metric="jaccard", threshold="tuned", sign=-1, **more):
    row = rows_of(name, metric, threshold)[label]
    return kept[name].judge(row, sign, sdi=smallest, **more)


alike = partial(gains, sign=1, equal=True)


others = ("random molecules", "no molecules", "shuffled molecules")
close_to = {label: alike("safedrug", label) for label in others}
mechanism = "a role for molecular structure"
matter = [gains("safedrug", label, mechanism=mechanism) for label in others[1:]]
order = ["no verdict", "does not hold", "not decided"]
order += ["cannot be tested here", "other cause", "holds in part", "holds"]
least = min(matter, key=lambda found: order.index(found.word))
freed = gains("safedrug", "no molecules", sign=1)

# %% tags=["remove-cell"]
page.glue(
    sdi=smallest,
    matter_word=about(str(least.word)),
    matter_sentence=about(least.sentence[0].upper() + least.sentence[1:]),
    freed_word=about(str(freed.word)),
    freed_sentence=about(freed.sentence),
    more_steps=registry.get("safedrug").small["batch_size"]
    * records.n_visits
    / records.n_patients,
)

# %% tags=["hide-input"]
show(
    page.table(
        pl.DataFrame(
            {
                "alike: trained molecules and": list(close_to),
                "verdict": [v.word for v in close_to.values()],
                "why": [v.sentence for v in close_to.values()],
            }
        ),
        caption=f"The prediction, row by row: that row minus trained molecules, Jaccard at the tuned threshold, on {kept['safedrug'].line}.",
    ),
    patients=n_tested,
)

# %% [markdown]
# :::{admonition} "SafeDrug learns from its molecules"
# :class: verdict
# {glue:text}`matter_word`. {glue:text}`matter_sentence`
# :::
#
# :::{admonition} "Free vectors in the place of molecules do better"
# :class: verdict
# Free vectors minus molecules: {glue:text}`freed_word`. {glue:text}`freed_sentence`
# :::
#
# Molecules and free vectors differ in scale, {numref}`fig-safedrug-scale`, as well as in chemistry, and this comparison cannot part the two.
# The released code takes one step for each visit, {glue:text}`more_steps:.0f` times as many as these batches; whether more steps would help was not tried.
#
# #### Which brake?
#
# The printed rule against the released one, each with a width $K_p$ of 0.05 and 0.2.
# Prediction: the released rule lowers the rate, because it learns from interacting visits only to avoid pairs, and pays in Jaccard.

# %%
brakes = {
    "SafeDrug": "printed, 0.05",
    "slope 0.2": "printed, 0.2",
    "clipped from above": "released, 0.05",
    "clipped from above, slope 0.2": "released, 0.2",
}
plane = {
    label: [
        grids.interval(rows_of("safedrug", m, "own")[label])
        for m in ("jaccard", "ddi_rate")
    ]
    for label in brakes
}
safer = gains("safedrug", "clipped from above", "ddi_rate", "own")
costs = gains("safedrug", "clipped from above")

# %% tags=["remove-cell"]
RANDOM = {
    "holds": "A random map of the molecules scores as a trained encoder does",
    "does not hold": "A random map of the molecules does not score as a trained encoder does",
    "not decided": "Whether a random map of the molecules scores as a trained encoder does is not decided",
    "no verdict": "Whether a random map of the molecules scores as a trained encoder does, these trainings cannot say",
}
FREE = {
    "holds": "Free vectors in the place of molecules do better",
    "does not hold": "Free vectors in the place of molecules do not do better",
    "not decided": "Whether free vectors in the place of molecules do better is not decided",
    "no verdict": "Whether free vectors in the place of molecules do better, these trainings cannot say",
}
MATTER = {
    "holds": "Molecules matter: they beat both free vectors and shuffled molecules.",
    "does not hold": "Molecules do not beat both free vectors and shuffled molecules.",
    "cannot be tested here": "Whether chemistry helps cannot be tested on these records, which were written without a role for it.",
}
MATTER |= dict.fromkeys(
    ("holds in part", "other cause", "not decided", "no verdict"),
    "Whether chemistry helps is not decided.",
)
CLIP = {
    "holds": "The released brake lowers the DDI rate",
    "does not hold": "The released brake does not lower the DDI rate",
    "not decided": "Whether the released brake lowers the DDI rate is not decided",
    "no verdict": "Whether the released brake lowers the DDI rate, these trainings cannot say",
}


def front(said, found, row):
    """A finding for the head of the page: the words of its verdict, and the change."""
    if found.word == "no verdict":
        return f"{said[found.word]}: {found.sentence}"
    return f"{said[found.word]} ({grids.words(row, 'delta')})."


changed, rated = rows_of("safedrug"), rows_of("safedrug", "ddi_rate", "own")
random, no_molecules = (changed[x] for x in ("random molecules", "no molecules"))
answers = {
    "random_answer": front(RANDOM, close_to["random molecules"], random),
    "free_answer": front(FREE, freed, no_molecules),
    "matter_answer": MATTER[least.word],
    "clip_answer": front(CLIP, safer, rated["clipped from above"]),
}
page.glue(**{name: about(text) for name, text in answers.items()})

# %% tags=["hide-input"]
#| name: fig-safedrug-plane
#| alt: Scatter of DDI rate against Jaccard for four brakes with intervals in both directions, and a dotted line at
#|   the printed target of 0.06.
#| caption: Jaccard (→ better) and DDI rate (↓ better) under four brakes, each with its width, at the threshold one
#|   half, {glue:text}`line_safedrug`. Bars: 95 % of 1000 resamples of seeds and patients together. Dotted: the
#|   printed target 0.06. From the lowest rate to the highest: {glue:text}`ranked_clips`.
fig, ax = plt.subplots(figsize=(plotting.ONE_COLUMN, 3.0))
for (label, (j, d)), marker in zip(plane.items(), "os^D", strict=True):
    ink = plotting.color("SafeDrug" if "printed" in brakes[label] else "GAMENet")
    ax.plot([j.low, j.high], [d.value, d.value], color=ink, lw=1.4)
    ax.plot([j.value, j.value], [d.low, d.high], color=ink, lw=1.4)
    ax.plot(j.value, d.value, marker, color=ink, ls="none", label=brakes[label])
ax.axhline(0.06, color=plotting.INK, lw=0.8, ls=":")
ax.set(xlabel="Jaccard →", ylabel="DDI rate ↓")
ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
show(fig, patients=n_tested)

# %% tags=["remove-cell"]
words = {
    "ranked_clips": "; ".join(
        brakes[label] for label in sorted(plane, key=lambda x: plane[x][1].value)
    ),
    "safer_word": str(safer.word),
    "safer_sentence": safer.sentence,
    "costs_word": str(costs.word),
    "costs_sentence": costs.sentence,
}
page.glue(**{name: about(text) for name, text in words.items()})

# %% [markdown]
# :::{admonition} "The released clip lowers the DDI rate" … "and costs Jaccard"
# :class: verdict
# Printed minus released, both with a width of 0.05.
#
# Rate: {glue:text}`safer_word`. {glue:text}`safer_sentence`
#
# Jaccard: {glue:text}`costs_word`. {glue:text}`costs_sentence`
# :::
#
# #### Is MoleRec's mask chemistry?
#
# First a warning: to be affordable, the MoleRec of these rows is {glue:text}`thin_width` wide in the place of {glue:text}`full_width`, with {glue:text}`thin_layers` graph layers in the place of {glue:text}`full_layers`.
# Its first row took {glue:text}`molerec_epochs:.0f` epochs (median), and was best in epoch {glue:text}`molerec_best:.0f`, counted from 0, with a Jaccard of {glue:text}`molerec_jaccard`.
# {glue:text}`molerec_stopped`
#
# Prediction: exchanging the rows of $H$ between medications costs less than {glue:text}`sdi`; empty rows for medications without fragments cost more than that, against rows that say something.

# %%
shuffled = alike("molerec", "shuffled fragments")
page.glue(molerec_jaccard=about(grids.words(rows_of("molerec")["MoleRec"])))
empty_rows = gains("molerec", "zero without a fragment")
free = alike("molerec", "free fragments")
official = alike("molerec", "linear set attention (official)")

# %% tags=["remove-cell"]
first = kept["molerec"].costs.row(0, named=True)
usual = entry["molerec"].configure()
thin = vars(usual) | kept["molerec"].provenance["rows"][first["key"]]["settings"]
unfinished = [
    shown_as.get(row["label"], row["label"])
    for row in kept["molerec"].costs.iter_rows(named=True)
    if row.get("converged") is False
]
stopped = (
    f"Still rising when they were stopped: {', '.join(unfinished)}; they bear no verdict."
    if unfinished
    else "All rows were trained until validation rose no more."
)
page.glue(
    thin_width=thin["size"],
    full_width=usual.size,
    thin_layers=thin["gin_layers"],
    full_layers=usual.gin_layers,
    molerec_epochs=first["epochs"],
    molerec_best=first["best_epoch"],
    molerec_stopped=about(stopped),
)

# %% tags=["hide-input"]
questions = {
    "shuffled H changes nothing": ("shuffled minus own", shuffled),
    "rows that say something beat empty ones": ("learnt minus empty", empty_rows),
    "free vectors for fragments change nothing": ("free minus graph network", free),
    "the switches of official change nothing": ("official minus paper", official),
}
show(
    page.table(
        pl.DataFrame(
            {
                "statement": list(questions),
                "difference": [of for of, _ in questions.values()],
                "verdict": [v.word for _, v in questions.values()],
                "why": [v.sentence for _, v in questions.values()],
            }
        ),
        caption=f"Four statements on MoleRec's rows, Jaccard at the tuned threshold, on {kept['molerec'].line}. The variant official has a linear step in set attention, uniform rows and the printed target.",
    ),
    patients=n_tested,
)

# %% tags=["remove-cell"]
pattern = (
    "So the mask acts as a pattern of who may share with whom, and not as chemistry."
    if shuffled.word == "holds"
    else "So these runs show neither that the mask is a mere pattern nor that it is chemistry."
    if shuffled.word in ("not decided", "no verdict")
    else "So the rows differ; one permutation and so few seeds cannot tell chemistry from luck."
)
page.glue(pattern=about(pattern))

# %% [markdown]
# {glue:text}`pattern`
# On synthetic records structure could only matter through classes that share drugs and indications; on hospital records the same cells may say something else.
#
# #### A brake taken apart
#
# Four losses: the full brake; *turn down only*, $\alpha \mathcal L_{rec}$ without the interaction loss; the interaction loss *always*, beside an unweighted $\mathcal L_{rec}$; and none.
# Prediction, from {numref}`fig-molerec-pushes`: turning down does all that is done, the interaction loss nothing.

# %%
quartet = ["MoleRec", "turn down only", "interactions always", "no brake"]
rates = rows_of("molerec", "ddi_rate", "own")
counts = rows_of("molerec", "n_medications", "own")
decoration = alike("molerec", "turn down only", "ddi_rate", "own")
braking = gains("molerec", "no brake", "ddi_rate", "own", sign=1)

# %% tags=["hide-input"]
#| name: fig-molerec-brakes
#| alt: Two interval plots for the full brake, turning down only, interactions always and no brake: the DDI rate with
#|   the target 0.06 as a line, and the number of medications a visit.
#| caption: DDI rate (← safer; dotted: the printed target) and number of medications under four losses of MoleRec at
#|   the threshold one half, {glue:text}`line_molerec`. Bars: 95 % of 1000 resamples of seeds and patients together.
#|   From the lowest rate to the highest: {glue:text}`ranked`.
fig, axes = plt.subplots(
    1, 2, figsize=(plotting.FULL, 2.1), sharey=True, layout="constrained"
)
for ax, rows, head in zip(
    axes, (rates, counts), ("DDI rate", "medications"), strict=True
):
    plotting.plot_intervals(
        ax,
        ["full", *quartet[1:]],
        [rows[label]["value"] for label in quartet],
        [(rows[label]["low"], rows[label]["high"]) for label in quartet],
        systems=["MoleRec"] * 4,
        reference=0.06 if head == "DDI rate" else None,
    )
    ax.set_xlabel(head)
show(fig, patients=n_tested)

# %% tags=["remove-cell"]
PARTED = {
    "holds": "As predicted, turning down does what is done: without the interaction loss the rate is the same.",
    "does not hold": "That turning down does all, as predicted, does not hold: without the interaction loss the rate is another one.",
    "not decided": "Whether turning down does all, as predicted, these runs do not decide.",
    "no verdict": "Whether turning down does all, as predicted, these runs cannot say.",
}
page.glue(
    decoration_word=about(str(decoration.word)),
    decoration_sentence=about(decoration.sentence),
    braking_word=about(str(braking.word)),
    braking_sentence=about(braking.sentence),
    ranked=about(
        ", ".join(
            label.replace("MoleRec", "full")
            for label in sorted(quartet, key=lambda label: rates[label]["value"])
        )
    ),
    parted=about(PARTED[decoration.word]),
)

# %% [markdown]
# :::{admonition} "The brake lowers the DDI rate" … "and its interaction loss is decoration"
# :class: verdict
# No brake minus the full one: {glue:text}`braking_word`. {glue:text}`braking_sentence`
#
# Turning down only minus the full one, claimed to be alike: {glue:text}`decoration_word`. {glue:text}`decoration_sentence`
# :::
#
# {glue:text}`parted`
# Bars over so few seeds know little of the luck of initialisation, and the sizes of the sets differ, which moves a rate by itself.
#
# ### What the papers do not say
#
# - **Which encoder.** SafeDrug describes one that is trained; its code trains none, see {eq}`eq-safedrug-message`.
# - **How hard a demand φ is.** That depends on the list of interactions and on the records. By the papers' list the prescriptions of the MIMIC-III demo have a rate of {glue:text}`published_rate`, by the list and on the records of this page {glue:text}`given_rate:.3f`. So `paper` asks for the same *share* of what the training prescriptions have, $\varphi' = \varphi\, \rho_{train} / \rho_{papers}$; on all prescriptions of this page it would be {glue:text}`own_target:.3f`. `official` asks for 0.06, as do the examples above.
# - **What happens without a fragment.** {glue:text}`n_without` of {glue:text}`n_medications` medications here are concerned; a learnt vector for each is ours, what the codes do and empty rows are switches.
# - **Which molecules.** At most three a class, in an order that depends on the run; molecules with a counter-ion are dropped by SafeDrug's fingerprints without a word. Here none is.
# - **What the query is.** MoleRec's joins the last hidden state and the last output of each recurrent network, which are the same vector; here once.
# - **The factor of the interaction loss**, $5 \cdot 10^{-4}$ in both codes, and its size beside the rest.
# - **The step.** One visit a step in both codes, at $5 \cdot 10^{-4}$; here a batch of patients. Its size, the learning rate and MoleRec's dropout and schedule are those that a search found, others on small cohorts, see {py:class}`~medrec.models.safedrug.SafeDrugConfig` and {py:class}`~medrec.models.molerec.MoleRecConfig`. Prefixes share one pass through the recurrent networks, and molecules are encoded once a step; tests hold both against the route of one prefix, one molecule and one medication at a time.
# - **Where the random map is kept.** In no file of the released code; here with the weights of `official`, so that a stored run can be scored again.
#
# ### Misconceptions
#
# "A molecular model uses molecules."
# : Ask which parameters stand behind them, and shuffle them.
#
# "A lower DDI rate means fewer interactions."
# : It means a smaller share of pairs; the number of pairs goes with the square of the size of the sets.
#
# "A brake tells the model which medication to drop."
# : Its weight has no gradient and scales the lesson of a whole visit; which medication to drop, only $\mathcal L_{ddi}$ says.
#
# ## Summary
#
# - SafeDrug's logit is a normalised match times a sum of votes; two negatives recommend, and as released the logit of a medication without fragments is the same for everybody.
# - The printed β falls gently from 1 to 0; the released one drops to 0 at the target and is negative beyond 0.11.
# - Autograd, one optimiser step and a reload tell a trained encoder from a random map; the random one already places similar molecules close together.
# - MoleRec's attention is a softmax over a medication's own fragments; with one fragment the weight is 1, whatever is learnt, and with none the row is empty or uniform.
# - A gate moves the medications that have its fragment, and as released those that have none; all silent medications share one logit.
# - At equal weights the interaction loss pushes {glue:text}`outweighed:.0f` times less than accuracy; the brake reverses that above a rate of {glue:text}`wins_printed:.3f` (printed β) or {glue:text}`wins_alpha:.3f` (α). {glue:text}`parted`
#
# What was found, on {glue:text}`line_safedrug`: {glue:text}`random_answer` {glue:text}`free_answer` {glue:text}`matter_answer` {glue:text}`clip_answer`
#
# ## Exercises
#
# ```{exercise}
# :label: ex-safedrug-sign
#
# Medication 2 of the toy goes badly with the patient, and the fragments speak against it.
# Which one of its two weights has to change its sign so that it is *not* recommended?
# ```
#
# ```{solution-start} ex-safedrug-sign
# :class: dropdown
# ```

# %%
turned = {}
for fragment in range(2):
    other = W.clone()
    other[fragment, 1] *= -1
    turned[fragment] = float((g * fragment_votes(u, other, H)).sigmoid()[1])
assert turned[0] < 0.5 < turned[1]
show({f"weight {'ab'[k]}": round(v, 4) for k, v in turned.items()})

# %% [markdown]
# That of fragment a: the votes become positive, the match stays negative, and their product recommends no longer.
# The fragments now speak *for* the medication, which is why it goes.
#
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-safedrug-row
#
# Add the row $\rho = 0.09$ to the table of brakes.
# ```
#
# ```{solution-start} ex-safedrug-row
# :class: dropdown
# ```

# %%
at_nine = torch.tensor(0.09, dtype=torch.float64)
three = [
    brake(at_nine, 0.06, 0.05),
    brake(at_nine, 0.06, 0.05, "min"),
    losses.ddi_tolerance(at_nine, 0.06, 2.5),
]
np.testing.assert_allclose(three, [0.4, 0, 0.2865], atol=5e-5)
row = [float(w * L_rec + (1 - w) * L_ddi) for w in three]
np.testing.assert_allclose(row[:2], [0.2436, 0.0150], atol=5e-5)
show([round(x, 4) for x in row])

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-molerec-gate
#
# In MoleRec's toy, which medications move when gate b closes, with uniform and with empty rows?
# ```
#
# ```{solution-start} ex-molerec-gate
# :class: dropdown
# ```

# %%
shut = torch.tensor([[0.9, 0.0, 0.1]])
who = {
    name: (gather_fragments(a, shut, F_s) - gather_fragments(a, gates, F_s))[0]
    .abs()
    .sum(1)
    .gt(0)
    .tolist()
    for name, a in {"uniform": A, "empty": zero}.items()
}
assert who == {"uniform": [True, True, True], "empty": [True, True, False]}
show(who)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-molerec-partners
#
# At equal weights, how many certain partners would a prescribed medication at probability one half need before the interaction loss outweighs accuracy?
# ```
#
# ```{solution-start} ex-molerec-partners
# :class: dropdown
# ```

# %%
needed = 3 * against / pushes["DDI"]
np.testing.assert_allclose(needed, 56.9, atol=0.1)
show(round(needed, 1))

# %% [markdown]
# More than a set holds; it is the brake that lets three of them win.
#
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-safedrug-constant
#
# What is the best constant probability for a medication without fragments, under the loss of cross-entropy alone?
# From which frequency on is it recommended to everybody?
# ```
#
# ````{solution} ex-safedrug-constant
# :class: dropdown
#
# Its frequency among the training visits; from one half on.
# Under the loss used here, with its margin, everybody gets it from a lower frequency on.
# ````
#
# ```{dropdown} Quiz: what is the released β at ρ = .08?
# 0.
# ```
#
# ```{dropdown} Quiz: which medications react to the gate of fragment s?
# Those with $H = 1$ in column s; with uniform rows also those without any fragment.
# ```
#
# ## References
#
# - {cite:t}`yang2021safedrug`: two branches, the brake β.
# - {cite:t}`yang2023molerec`: masked attention of medications to their fragments.
# - {cite:t}`lee2019set`: attention within a set.
# - {cite:t}`degen2008brics`: where molecules are cut.
