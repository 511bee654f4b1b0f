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
#     rows: [bimorec-ablation, bimorec-controls]
# ---

# %% [markdown]
# # Taking the machine apart (BiMoRec, table 4)
#
# Without pre-training and without enhancement the paper loses {glue:text}`loss_both:.4f` Jaccard.
# Which part earns the accuracy, and would a part without chemistry earn the same?
#
# ```{admonition} Objectives
# :class: objectives
# After this chapter you can
# - *decompose* a table of two switches into effects and an interaction, with its error,
# - *describe* an ablation so that another could build it, and *test* that it is what its name says,
# - *separate* a moved threshold from a better order,
# - *read* a damaged table with the consistency of its columns,
# - *design* a control that keeps everything but the claimed cause,
# - *prove* that a control has the power to find something.
# ```
#
# **Prerequisites.** The model of {doc}`12_bimorec`, intervals and verdicts as in {doc}`13_bimorec_results`.
#
# **Code.** {py:mod}`medrec.experiments.bimorec_grids` and {py:mod}`medrec.models.bimorec`.

# %% tags=["hide-input"]
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import polars as pl
import torch
from scipy.stats import t as student

from medrec import metrics, plotting
from medrec.book import page
from medrec.chem.molecules import build
from medrec.context import context_for
from medrec.data import load_cohort, privacy
from medrec.data.batch import VisitBatch
from medrec.data.synthetic.controls import ASKED, COMPACT, EXTENDED
from medrec.experiments import hidden_classes
from medrec.experiments.bimorec_grids import REFERENCE, SYNERGY
from medrec.lab import grids, published
from medrec.lab.grids import interval, words
from medrec.models import registry
from medrec.tasks.visits import evaluate, predict
from medrec.training import load_system, train

# %% tags=["parameters", "hide-input"]
seed: int = 0  # of the small trainings on this page; kept rows carry their own
cohort: str = "synthetic"  # its kept rows are shown, or those of the synthetic cohort
device: str = "cpu"  # where the small trainings run
profile: str = "quick"  # quick: narrow, few epochs; full: as in the rows
smallest: float = 0.005  # smallest difference of Jaccard of interest

# %% tags=["hide-input"]
plotting.use_style()
records = load_cohort(cohort)
show = partial(privacy.show, records)  # closed records: aggregates only
ablation = grids.read("bimorec-ablation", records, default="synthetic")
controls = grids.read("bimorec-controls", records, default="synthetic")
n_tested = int(ablation.scores["patients"].max())
spent = [
    grid.costs.select("label", "seconds", "seeds") for grid in (ablation, controls)
]
costs = pl.concat(spent).unique("label")
hours = (costs["seconds"] * costs["seeds"]).sum() / 3600
page.at_a_glance(
    {
        "seed": seed,
        "cohort": cohort,
        "device": device,
        "profile": profile,
        "smallest": smallest,
    },
    paper="BiMoRec (Mu, Li, Li and Liang, 2024), table 4",
    data=page.about(records, f"rows of {ablation.line}", patients=n_tested),
    learned="three narrow networks, to draw one picture; all results are kept rows",
    full_run=page.about(
        records,
        f"{hours:.1f} hours for the rows of tables and figures, on {ablation.provenance['device']}",
        patients=n_tested,
    ),
)

# %% tags=["hide-input"]
printed = published.table("bimorec", 4)
iii = {row["system"]: row for row in printed.filter(database="MIMIC-III").to_dicts()}
iv = {row["system"]: row for row in printed.filter(database="MIMIC-IV").to_dicts()}
J = {system: row["Jaccard"] for system, row in iii.items()}
fewest = min(grid.provenance["seeds"] for grid in (ablation, controls))
page.glue(
    size_gap=max(n["medications"] for n in iii.values())
    - min(n["medications"] for n in iii.values()),
    fewest=fewest,
    seed_share=1 - 1 / fewest,
    loss_both=J["BiMoRec"] - J["w/o T+E"],
    rows_line=page.about(records, ablation.line, patients=n_tested),
    controls_line=page.about(records, controls.line, patients=n_tested),
    elsewhere=page.about(
        records,
        page.elsewhere(14, records.name, (ablation.cohort, controls.cohort)),
        patients=n_tested,
    ),
)

# %% [markdown]
# ## The problem on four numbers
#
# Table 4 switches off the pre-training (T), the multi-step enhancement (E), and both.
# Printed Jaccard on MIMIC-III:

# %% tags=["hide-input"]
show(
    page.table(
        printed.filter(database="MIMIC-III").drop("paper", "database"),
        caption="BiMoRec's table 4, MIMIC-III, as printed. A dash is a cell that cannot be read, or not be given to a row, in the copy at hand.",
        digits=4,
    )
)

# %% [markdown]
# Each number is a single run as far as the paper says.
# "A synergistic effect", the text concludes.
# What does that claim amount to?
#
# ## Two switches, four cells
#
# Let $J_{te}$ be the mean with T on or off and E on or off.
# The effect of T is one number with E and another without; the difference of the two is the *interaction*:
#
# $$
# \Delta_T^{+} = J_{11} - J_{01}, \quad \Delta_T^{-} = J_{10} - J_{00}, \qquad
# I = \Delta_T^{+} - \Delta_T^{-} = J_{11} - J_{01} - J_{10} + J_{00} .
# $$ (eq-ablation-interaction)
#
# No equation of the paper.
# Four independent cells, each the mean of $r$ runs with a seed spread of $s$, give it the standard error
#
# $$
# \operatorname{se}(I) = \frac{2 s}{\sqrt r} ,
# $$ (eq-ablation-interaction-se)
#
# which is $\sqrt 2$ times that of a single effect.

# %%
full, no_t, no_e, neither = (J[k] for k in ("BiMoRec", "w/o T", "w/o E", "w/o T+E"))
effects = {
    "T, with E": full - no_t,
    "T, without E": no_e - neither,
    "E, with T": full - no_e,
    "E, without T": no_t - neither,
}
interaction = full - no_t - no_e + neither


def interaction_error(s, seeds):
    return 2 * s / np.sqrt(seeds)


# %% [markdown]
# **Check.** The printed effects; the interaction in both readings; its error for a seed spread of 0.002 and one, five and ten seeds; the smallest effect that five seeds show.

# %%
np.testing.assert_allclose(list(effects.values()), [0.0066, 0.0012, 0.0075, 0.0021])
np.testing.assert_allclose(interaction, 0.0054)
np.testing.assert_allclose(interaction, effects["E, with T"] - effects["E, without T"])
share = interaction / (full - neither)
np.testing.assert_allclose(share, 0.62, atol=5e-3)
errors = [interaction_error(0.002, r) for r in (1, 5, 10)]
np.testing.assert_allclose(errors, [0.004, 0.0018, 0.0013], atol=5e-5)
np.testing.assert_allclose(interaction / errors[0], 1.35, atol=5e-3)
np.testing.assert_allclose(interaction / errors[1], 3.0, atol=5e-2)
detectable = student.ppf(0.975, 8) * 0.002 * np.sqrt(2 / 5)
np.testing.assert_allclose(detectable, 0.0029, atol=5e-5)
page.glue(interaction=interaction, share=share, z_one=interaction / errors[0])
show({name: round(value, 4) for name, value in effects.items()})

# %% tags=["hide-input"]
#| name: fig-ablation-interaction
#| alt: Two lines over two positions, without and with pre-training: with enhancement the line climbs from 0.5356 to
#|   0.5422, without it the line is almost flat near 0.534. Shaded bands around both lines overlap on the left.
#| caption: The printed cells of MIMIC-III as two lines; their difference in slope is {eq}`eq-ablation-interaction`.
#|   No interval is printed: the bands are what a seed spread of 0.002 and a single run would give, ± 1.96 standard
#|   deviations. Notice how far the bands overlap.
fig, ax = plt.subplots(figsize=(plotting.ONE_COLUMN, 2.8))
for name, ends, style in (
    ("with enhancement", (no_t, full), "-o"),
    ("without", (no_e, neither), "--s"),
):
    ends = ends if name.startswith("with ") else ends[::-1]
    (line,) = ax.plot([0, 1], ends, style, label=name, color=plotting.color("BiMoRec"))
    low, high = np.array(ends) - 1.96 * 0.002, np.array(ends) + 1.96 * 0.002
    ax.fill_between([0, 1], low, high, color=line.get_color(), alpha=0.12, lw=0)
ax.set_xticks([0, 1], ["from scratch", "pre-trained"])
ax.set(xlim=(-0.2, 1.2), ylabel="Jaccard ↑")
ax.legend(loc="upper left")
show(fig)

# %% [markdown]
# {glue:text}`interaction:.4f`, or {glue:text}`share:.0%` of the whole loss, is "synergy".
# With single runs and a seed spread of 0.002, itself a guess, that is {glue:text}`z_one:.2f` standard errors.
#
# ```{exercise}
# :label: ex-ablation-seeds
#
# How many seeds would bring that interaction to two standard errors if the seed spread is 0.003?
# ```
#
# ```{solution-start} ex-ablation-seeds
# :class: dropdown
# ```

# %%
seeds_needed = (2 * 2 * 0.003 / interaction) ** 2
np.testing.assert_allclose(seeds_needed, 4.9, atol=0.05)
show(int(np.ceil(seeds_needed)))

# %% [markdown]
# ```{solution-end}
# ```
#
# ## What each ablation takes out
#
# The paper describes its {term}`ablations <ablation>` in words, and its code does not hold them.
# Another reader would build other networks, so here are ours:
#
# `wo_T`
# : The two-dimensional encoders start untrained and learn with everything else. Nothing else changes.
#
# `wo_E`
# : One recurrent network reads the sums of the codes of all past visits and of the visit at hand; its state selects the fragments once. No attention among molecules, no gate, no loop over visits; the logit of the visit at hand is added as before.
#
# `wo_TE`
# : The same patient vector goes straight to one logit a medication. No molecule at all.
#
# The wording leaves the heads open, so a number of this table is a number of *our* reading.
#
# A network can be asked what it holds.

# %%
entry = registry.get("bimorec")
narrow = {"width": 16, "gin_layers": 1, "pretrain": False}
knowledge = context_for(entry, entry.configure("paper", narrow), records)


def untrained(variant):
    torch.manual_seed(seed)
    return entry.cls(entry.configure(variant, narrow), knowledge).eval()


def parts(network):
    sizes = {}
    for name, values in network.named_parameters():
        part = name.partition(".")[0]
        sizes[part] = sizes.get(part, 0) + values.numel()
    return sizes


names = ["paper", "wo_T", "wo_E", "wo_TE", "no_gse", "no_gate", "free_table"]
names += ["shuffled_molecules", "flat", "current_only"]
networks = {name: untrained(name) for name in names}
held = {name: parts(network) for name, network in networks.items()}

# %% [markdown]
# **Check.** Each name takes out what it says and nothing more; sizes by formula.
# The mutant is a switch that changes a part it does not name: compare sets, and it cannot hide.

# %%
whole = held["paper"]


def taken_out(name):
    return set(whole) - set(held[name])


for same in ("wo_T", "shuffled_molecules", "flat"):
    assert held[same] == whole
assert taken_out("no_gse") == {"molecule_attention"}
assert taken_out("no_gate") == {"gate"}
assert {"gate", "molecule_attention", "past"} <= taken_out("wo_E")
assert {"molecule_encoder", "fragment_encoder"} <= taken_out("wo_TE")
assert not any("encoder" in part for part in held["free_table"])
M, d = records.n_medications, narrow["width"]
assert whole["past"] == 6 * M * M + 6 * M
assert held["wo_TE"]["patient"] == 12 * d * d + 6 * d
assert set(held["current_only"]) == {"embedding", "current"}
show({name: sum(sizes.values()) for name, sizes in held.items()})

# %% tags=["hide-input"]
#| name: fig-ablation-parts
#| alt: Grid of parts of the network against variants; filled dots mark what is there. The columns paper, wo_T,
#|   shuffled molecules and flat are filled alike; wo_E and wo_TE lose gate and attention and gain a patient network;
#|   current_only keeps embeddings and the current-visit perceptron.
#| caption: Parts (rows) of each variant (columns), read off untrained networks. Filled: there. Notice the columns
#|   that are filled alike: they differ in what the same parts are given or start from.
all_parts = list(dict.fromkeys(part for sizes in held.values() for part in sizes))
fig, ax = plt.subplots(figsize=(plotting.FULL, 3.4))
for x, name in enumerate(names):
    for y, part in enumerate(all_parts):
        if part in held[name]:
            ax.plot(x, y, "o", color=plotting.color("BiMoRec"), ms=7)
        else:
            ax.plot(x, y, "o", mfc="none", color="0.7", ms=7)
ax.set_xticks(range(len(names)), names, rotation=30, ha="right")
ax.set_yticks(range(len(all_parts)), [part.replace("_", " ") for part in all_parts])
ax.invert_yaxis()
ax.grid(False)
show(fig)

# %% [markdown]
# **Check.** What is common to all variants is the perceptron of the visit at hand.
# Give them the full model's values for the parts that they share: first visits get the same logits from all of them, later visits from those alone that hold the same parts.

# %%
batch = VisitBatch.build(records, np.arange(min(20, records.n_patients)))
model = networks["paper"]
values = model.state_dict()
shift = {}
for name in ("wo_T", "no_gate", "wo_E", "wo_TE", "current_only"):
    network = networks[name]
    own = network.state_dict()
    shared = {k: v for k, v in values.items() if k in own and v.shape == own[k].shape}
    network.load_state_dict(own | shared)
    with torch.inference_mode():
        moved = (network(batch, knowledge) - model(batch, knowledge)).abs()
    later = moved[:, 1:][batch.visit_mask[:, 1:]]
    shift[name] = (float(moved[:, 0].max()), float(later.max()))
assert all(first == 0 for first, _ in shift.values())
assert shift["wo_T"][1] == 0
assert shift["wo_TE"][1] > 0
show({name: round(later, 3) for name, (_, later) in shift.items()})

# %% [markdown]
# A seed number does not pair two variants with different parts: initial values are drawn part by part, so a part more shifts all the others.
# Seeds are therefore resampled for each variant by itself, and only *patients* are paired.
#
# ```{exercise}
# :label: ex-ablation-first
#
# Which of these variants start with the same first-visit predictions as the full model, *without* copying anything?
# ```
#
# ```{solution-start} ex-ablation-first
# :class: dropdown
# ```

# %%
fresh = {name: untrained(name) for name in ("paper", "wo_T", "no_gate", "wo_TE")}
start = {name: network.current[1].weight for name, network in fresh.items()}
assert torch.equal(start["paper"], start["wo_T"])
assert not torch.equal(start["paper"], start["no_gate"])
assert not torch.equal(start["paper"], start["wo_TE"])
show({name: round(float(weight[0, 0].detach()), 4) for name, weight in start.items()})

# %% [markdown]
# Those with the same parts in the same order, such as `wo_T`; in the others the perceptron that all share starts from other numbers.
#
# ```{solution-end}
# ```
#
# ## At equal size
#
# A part that moves all probabilities up or down changes the sets at a threshold of one half without changing the *order* of the medications at all.

# %%
scores = np.array([[0.9, 0.7, 0.6, 0.3]])
truth = np.array([[True, True, True, False]])
squared = scores**2  # the same order

# %% [markdown]
# **Check.** At one half the squared scores look worse by two thirds; in order and at equal size nothing has changed.

# %%
at_half = [float(metrics.jaccard(truth, s >= 0.5)[0]) for s in (scores, squared)]
np.testing.assert_allclose(at_half, [1, 1 / 3])
order = [float(metrics.average_precision(truth, s)[0]) for s in (scores, squared)]
np.testing.assert_allclose(order[0], order[1])
cut = np.sort(squared)[:, -3:-2]  # three medications, as the other system
np.testing.assert_allclose(metrics.jaccard(truth, squared >= cut), at_half[0])
show([round(x, 3) for x in at_half])

# %% [markdown]
# The printed ablations recommend {glue:text}`size_T:.2f`, {glue:text}`size_E:.2f` and {glue:text}`size_TE:.2f` medications, the full model {glue:text}`size_full:.2f`.
# So part of a difference may be the threshold's.
# The remedy is a curve of Jaccard against size, one point for each threshold, or a tuned threshold for every variant, as in all our rows.
#
# The picture needs scores, so three narrow networks are trained here; nothing is pre-trained, so the first of them is a `wo_T`.

# %% tags=["remove-cell"]
page.glue(
    size_T=iii["w/o T"]["medications"],
    size_E=iii["w/o E"]["medications"],
    size_TE=iii["w/o T+E"]["medications"],
    size_full=iii["BiMoRec"]["medications"],
)

# %%
small = {"pretrain": False, "width": 32, "batch_size": 32, "epochs": 5}
if profile == "full":
    small = {"pretrain": False}
runs = {
    variant: train(
        "bimorec", records, variant=variant, settings=small, seed=seed, device=device
    )
    for variant in ("paper", "wo_E", "wo_TE")
}
cuts = np.linspace(0.05, 0.9, 18)


def sizes_and_jaccard(run):
    system, context = load_system(run)
    patients = run.evaluation("own").per_patient["patient"].unique().sort()
    tested = records.select(patients.to_numpy())
    said, ddi = predict(system, tested, context), context.ddi.numpy()
    at = [evaluate(tested, said.at(cut), ddi).summary() for cut in (0.5, *cuts)]
    return [(row["n_medications"], row["jaccard"]) for row in at]


curves = {variant: sizes_and_jaccard(run) for variant, run in runs.items()}

# %% tags=["hide-input"]
#| name: fig-ablation-size
#| alt: Three curves of mean Jaccard against mean number of recommended medications, one for each of three narrow
#|   variants, each with a dot where the threshold is one half. The curves rise to a broad top and fall; the dots lie
#|   at different sizes.
#| caption: Jaccard (↑ better) against mean size of the sets over all thresholds, for three narrow variants without
#|   pre-training; dots: threshold one half. {glue:text}`cohort_line`, one seed of a few epochs, no interval: the
#|   picture shows the method, not a result. Notice how much of a difference between dots is a difference in size.
fig, ax = plt.subplots(figsize=(plotting.ONE_COLUMN, 3.0))
labels = {"paper": "w/o T", "wo_E": "w/o T, w/o E, molecules", "wo_TE": "w/o T+E"}
for (variant, points), line, marker in zip(
    curves.items(), ("-", "--", ":"), "osD", strict=True
):
    size, jaccard = np.array(points[1:]).T
    ax.plot(size, jaccard, line, color=plotting.color("BiMoRec"), label=labels[variant])
    ax.plot(*points[0], marker, color=plotting.color("BiMoRec"))
ax.set(xlabel="medications a visit", ylabel="Jaccard ↑", xlim=(0, None))
ax.legend()
show(fig)


# %% tags=["remove-cell"]
def at_size(points, size):
    x, y = np.array(sorted(points[1:])).T
    return float(np.interp(size, x, y))


target_size, reached = curves["paper"][0]
page.glue(
    cohort_line=page.cohort_line(records),
    dots=curves["wo_TE"][0][1] - reached,
    same_size=at_size(curves["wo_TE"], target_size)
    - at_size(curves["paper"], target_size),
)

# %% [markdown]
# Between the first and the last of these networks the dots differ by {glue:text}`dots:+.3f`, the curves at the size of the first dot by {glue:text}`same_size:+.3f`.
#
# ```{exercise}
# :label: ex-ablation-size
#
# Suppose that the curves of all printed ablations coincided.
# Which of the printed differences would be left?
# ```
#
# ````{solution} ex-ablation-size
# :class: dropdown
#
# None in the order of medications; the part would have moved the threshold, which costs one number to mend.
# ````
#
# ## Reading a damaged table
#
# Some cells of table 4 are lost in the copy at hand.
# Mean Jaccard and mean F1 of one system bind each other, {eq}`eq-results-gap`, and in this family of systems the gap is always the same.
# So a lost F1 follows from its Jaccard:
#
# $$
# \bar F = \frac{2 (\bar J - g)}{1 + \bar J - g} .
# $$ (eq-ablation-f1)

# %%
main = published.table("bimorec", 2).filter(database="MIMIC-III")
family = main.filter(pl.col("system").is_in(["MoleRec", "CausalMed", "BiMoRec"]))
g = float((family["Jaccard"] - family["F1"] / (2 - family["F1"])).mean())
predicted = {
    system: 2 * (J[system] - g) / (1 + J[system] - g)
    for system in ("w/o T", "w/o E", "w/o T+E")
}

# %% [markdown]
# **Check.** The two legible values fall into the rows that they are kept in, and exchanged they would not; the full model's own F1 is met.

# %%
np.testing.assert_allclose(
    list(predicted.values()), [0.6888, 0.6880, 0.6870], atol=1e-4
)
for system in ("w/o T", "w/o E"):
    np.testing.assert_allclose(predicted[system], iii[system]["F1"], atol=3e-4)
assert abs(predicted["w/o T"] - iii["w/o E"]["F1"]) > 5e-4
check = 2 * (full - g) / (1 + full - g)
np.testing.assert_allclose(check, iii["BiMoRec"]["F1"], atol=1e-4)
assert iii["w/o T+E"]["F1"] is None
page.glue(lost_f1=predicted["w/o T+E"])
show({system: round(value, 4) for system, value in predicted.items()})

# %% [markdown]
# The lost F1 of `w/o T+E` on MIMIC-III is near {glue:text}`lost_f1:.3f`.
#
# A second slip needs no reconstruction.
# The full model's PRAUC on MIMIC-IV is {glue:text}`prauc_here:.4f` in table 4 and {glue:text}`prauc_there:.4f` in table 2.
# Two ablations whose PRAUC is legible have {glue:text}`prauc_upper:.4f` and {glue:text}`prauc_lower:.4f`: by table 4 they would both be better than the whole.

# %% tags=["remove-cell"]
there = published.table("bimorec", 2).filter(database="MIMIC-IV", system="BiMoRec")
page.glue(
    prauc_here=iv["BiMoRec"]["PRAUC"],
    prauc_there=there["PRAUC"][0],
    prauc_upper=published.fact("bimorec_table4_prauc_mimic4_upper"),
    prauc_lower=published.fact("bimorec_table4_prauc_mimic4_lower"),
)

# %% [markdown]
# ```{exercise}
# :label: ex-ablation-slip
#
# Which of the two printed values is more likely the slip?
# ```
#
# ````{solution} ex-ablation-slip
# :class: dropdown
#
# The one in table 4: it would make the full model the worst of the legible column that the text calls improved.
# ````
#
# ## Table 4, ours
#
# From here on, rows of our own: {glue:text}`rows_line`.{glue:text}`elsewhere`
# Prediction before the numbers: on the default cohort medications are chosen by indication, history and safety, not by structure, so pre-training should change nothing; enhancement carries history and may.

# %%
here, later_here = ablation.by_label(), ablation.by_label(visits="later visits")
prauc = ablation.by_label(metric="prauc")
size = ablation.by_label(metric="n_medications")

# %% tags=["hide-input"]
labels = list(here)
show(
    page.table(
        pl.DataFrame(
            {
                "variant": labels,
                "printed Jaccard": [J.get(s) for s in labels],
                "ours": [words(here[s]) for s in labels],
                "change": [None, *(words(here[s], "delta") for s in labels[1:])],
                "change, later visits": [
                    None,
                    *(words(later_here[s], "delta") for s in labels[1:]),
                ],
                "change of PRAUC": [
                    None,
                    *(words(prauc[s], "delta") for s in labels[1:]),
                ],
                "size": [words(size[s], digits=1) for s in labels],
            }
        ),
        caption=f"Table 4, ours. Printed: MIMIC-III. Ours: {ablation.line}, tuned thresholds; change against the full model. "
        "Brackets: 95 % of 1000 resamples of seeds and patients together, paired by patient. Size: medications a visit. The last row is the interaction.",
        digits=4,
    ),
    patients=n_tested,
)

# %% [markdown]
# First visits meet none of these parts: what a change moves there, it moves through the training of what they share with later visits, and by luck.
# They dilute an effect of a part; the column of later visits shows it undiluted.
# And every variant has a threshold of its own, so that a change is not one of size; PRAUC knows no threshold at all.
# Resampling {glue:text}`fewest` seeds shows on average only {glue:text}`seed_share:.0%` of the variance between seeds, so that brackets are narrower than the 95 % after which they are named.
#
# ## Controls
#
# A part that is removed takes its parameters, its noise and its regularisation along.
# A *control* keeps all of that and removes the claimed cause alone.

# %% tags=["hide-input"]
reasons = {
    "current visit alone": "the perceptron of the visit at hand and nothing else",
    "shuffled molecules": "each medication gets another one's molecules and fragments; same network, same size",
    "free vectors": "one learned vector a molecule and fragment in the place of the encoders",
    "flat drawings": "the second view in pre-training is the drawing, z = 0",
    "shuffled 3D partners": "in pre-training each drawing meets another molecule's shape",
    "encoders frozen": "pre-trained encoders that no longer learn",
    "encoders random, frozen": "encoders that never learn anything",
    "no attention among molecules": "equation 18 left out",
    "no gate": "equation 23 left out: W_n = 1",
    "mean of past visits": "the mean of the past score vectors in the place of the GRU of equation 25",
}
against = controls.by_label()
against_later = controls.by_label(visits="later visits")
show(
    page.table(
        pl.DataFrame(
            {
                "control": list(reasons),
                "what it is": list(reasons.values()),
                "change": [words(against[s], "delta") for s in reasons],
                "change, later visits": [
                    words(against_later[s], "delta") for s in reasons
                ],
            }
        ),
        caption=f"Controls that the paper does not have: change of Jaccard against the full model, {controls.line}, tuned thresholds. Brackets as above.",
    ),
    patients=n_tested,
)

# %% tags=["hide-input"]
#| name: fig-ablation-forest
#| alt: Forest plot of the change of Jaccard on later visits against the full model for three ablations and ten
#|   controls, with 95 percent intervals, a line at zero and a band of the smallest difference of interest. Open
#|   markers are variants whose molecules are wrong or missing.
#| caption: Change of Jaccard against the full model (← the part earned something), later visits, tuned thresholds.
#|   {glue:text}`controls_line`. Bars: 95 % of 1000 resamples of seeds and patients together, paired by patient. Band:
#|   smallest difference of interest. Filled: molecules intact; open: wrong or none. Notice on which side of the band
#|   each bar ends.
forest = {s: later_here[s] for s in ("w/o T", "w/o E", "w/o T+E")}
forest |= {s: against_later[s] for s in reasons}
forest = {s: interval(row, "delta") for s, row in forest.items()}
broken = {
    "w/o T+E",
    "current visit alone",
    "shuffled molecules",
    "free vectors",
    "encoders random, frozen",
}
fig, ax = plt.subplots(figsize=(plotting.FULL, 0.6 + 0.3 * len(forest)))
plotting.plot_changes(ax, forest, smallest=smallest)
for i, (name, change) in enumerate(forest.items()):
    if name in broken:
        ax.plot(change.value, i, "o", mfc="white", mec=plotting.INK, ms=6)
ax.set_xlabel("change of Jaccard →")
show(fig)

# %% tags=["remove-cell"]
outside = [s for s, change in forest.items() if change.high < 0]
above = [s for s, change in forest.items() if change.low > 0]
page.glue(
    outside=page.about(records, ", ".join(outside) or "none", patients=n_tested),
    above=page.about(records, ", ".join(above) or "none", patients=n_tested),
)

# %% [markdown]
# Intervals entirely below zero, where taking out costs Jaccard: {glue:text}`outside`.
# Entirely above, where it helps: {glue:text}`above`.
#
# ## Positive controls
#
# A {term}`positive control` is a case in which the answer is known to be yes.
# The default cohort was written without any role for molecular structure.
# There a model that finds nothing is right, and one that finds something fits noise.
# Whether it *could* find a role needs cohorts that have one; and a gain on such a cohort counts only if the plain one does not show it as well.
# In `synthetic+structure` some conditions ask for a building block ({glue:text}`blocks`): from that stay on the patient gets most of the classes that have it, and no others for this need.
# No clinician would prescribe by such a block; that is the point, for no other knowledge of medicine gives the answer away.
# In `synthetic+shape` two classes with nearly the same drawing differ in their shape in space.

# %%
planted = {
    name: grids.read("bimorec-planted", name)
    for name in ("synthetic", "synthetic+structure", "synthetic+shape")
}
page.glue(planted_note=page.about(records, page.notes(*planted.values())))

# %% tags=["hide-input"]
#| name: fig-ablation-planted
#| alt: Three panels side by side, for the plain cohort and the two with a planted effect: change of Jaccard against
#|   the full model for shuffled molecules, free vectors, flat drawings, without T and E, a mean of past visits, and
#|   LR, with 95 percent intervals and a line at zero.
#| caption: Change of Jaccard against the full model, later visits, tuned thresholds, on the plain synthetic cohort
#|   and on two with a planted effect. Bars: 95 % of 1000 resamples of seeds and patients together. Where a planted
#|   effect is used, and matters for the sets, shuffled molecules stand left of zero in the middle, and flat drawings
#|   on the right. Notice whether they do. {glue:text}`planted_note`
fig, axes = plt.subplots(
    1, 3, figsize=(plotting.FULL, 2.6), layout="constrained", sharey=True, sharex=True
)
later = {"visits": "later visits"}
everywhere = {name: grid.by_label(**later) for name, grid in planted.items()}
common = [
    label
    for label in everywhere["synthetic"]
    if label != REFERENCE and all(label in rows for rows in everywhere.values())
]
for ax, (name, rows) in zip(axes, everywhere.items(), strict=True):
    changes = {label: interval(rows[label], "delta") for label in common}
    plotting.plot_changes(ax, changes, smallest=smallest)
    ax.set_xlabel(name)
fig.supxlabel("change of Jaccard →", size="medium")
show(fig)

# %%
asked = {
    "synthetic+structure": "shuffled molecules",
    "synthetic+shape": "flat drawings",
}
plain = everywhere["synthetic"]
detected = {
    name: planted[name].judge(
        everywhere[name][control],
        -1,
        sdi=smallest,
        control=-plain[control]["delta"],
        control_name="the same comparison on the plain cohort",
    )
    for name, control in asked.items()
}
nothing = {
    control: planted["synthetic"].judge(plain[control], -1, sdi=smallest)
    for control in asked.values()
}

# %% tags=["hide-input"]
cases = [
    *((name, control, detected[name]) for name, control in asked.items()),
    *(("synthetic", control, result) for control, result in nothing.items()),
]
show(
    page.table(
        pl.DataFrame(
            {
                "cohort": [name for name, _, _ in cases],
                "the full model is ahead of": [control for _, control, _ in cases],
                "verdict": [result.word for _, _, result in cases],
                "why": [result.sentence for _, _, result in cases],
            }
        ),
        caption=f"Does the model find a molecular effect where one was planted, and none where none was? Later visits of the synthetic cohorts, tuned thresholds, brackets as above. {page.notes(*planted.values())}",
    )
)

# %% [markdown]
# ### Which door is closed?
#
# A planted fragment that is missed can be lost in three places: the history does not reach the output, the fragments do not reach the history, or nobody needs to be told which classes share one.
# Equation {eq}`eq-bimorec-output` is a suspect.
# Its recurrent network has weights of its own for every medication, so that what a shared fragment says about a rarely given class must pass through the few weights that this class could train.
# The control `mean_past` puts the mean of the past score vectors in its place and adds it to the logit: no weights, every class treated alike.

# %%
means = {
    name: grids.read("bimorec-planted-mean", name)
    for name in ("synthetic", "synthetic+structure")
}
page.glue(
    means_note=page.about(records, page.notes(*planted.values(), *means.values()))
)
of_mean = {name: grid.by_label(**later) for name, grid in means.items()}
of_gru = {name: everywhere[name] for name in means}
doors = {
    "mean of past visits - GRU": {n: of_gru[n]["mean of past visits"] for n in means},
    "GRU, own - shuffled molecules": {
        n: of_gru[n]["shuffled molecules"] for n in means
    },
    "mean, own - shuffled molecules": {
        n: of_mean[n]["shuffled molecules"] for n in means
    },
    "mean, molecules - free vectors": {n: of_mean[n]["free vectors"] for n in means},
}


def as_gain(question, row):
    """Rows hold the change of the second against the first; only here, the lead."""
    return interval(row, "delta", 1 if question == "mean of past visits - GRU" else -1)


leads = {
    question: {name: as_gain(question, row) for name, row in rows.items()}
    for question, rows in doors.items()
}

# %% tags=["hide-input"]
#| name: fig-ablation-doors
#| alt: Two panels, the plain cohort and the one with a planted building block, with four rows each: the lead of a
#|   mean over the GRU, of own over shuffled molecules with either, and of molecules over free vectors with the mean,
#|   with 95 percent intervals and a line at zero.
#| caption: Leads in Jaccard on later visits of the cohorts `synthetic` (plain) and `synthetic+structure` (planted
#|   building blocks), tuned thresholds. Bars: 95 % of 1000 resamples of seeds and patients together. Right of zero:
#|   the system named first is ahead. Band: smallest difference of interest. Notice where the first row stands in both
#|   panels, and whether any other row needs own molecules. {glue:text}`means_note`
fig, axes = plt.subplots(
    1, 2, figsize=(plotting.FULL, 2.2), layout="constrained", sharey=True, sharex=True
)
for ax, name in zip(axes, means, strict=True):
    here_lead = {question: lead[name] for question, lead in leads.items()}
    plotting.plot_changes(ax, here_lead, smallest=smallest)
    ax.set_xlabel(name)
fig.supxlabel("lead in Jaccard →", size="medium")
show(fig)

# %% tags=["hide-input"]
there = {question: lead["synthetic+structure"] for question, lead in leads.items()}


def with_interval(lead):
    return f"{lead.value:+.3f} [{lead.low:+.3f}, {lead.high:+.3f}]"


def by_cohort(head, found, caption):
    """A table of intervals, one column for each cohort."""
    columns = {
        name: [*map(with_interval, rows.values())] for name, rows in found.items()
    }
    frame = pl.DataFrame({head: list(next(iter(found.values()))), **columns})
    return page.table(frame, caption=caption)


mean_lead, _, own_lead, _ = there.values()
at_paper = grids.read("bimorec-past", "synthetic-6350")
at_paper_later = at_paper.by_label(**later)
paper_lead = interval(at_paper_later["mean of past visits"], "delta")
alone = interval(at_paper_later["current visit alone"], "delta", -1)
door = (
    f"On the planted cohort the mean leads the GRU by {with_interval(mean_lead)}"
    + (
        ": the history was there, and the recurrent network brings less of it to the output."
        if mean_lead.low > 0
        else ", which does not tell them apart."
    )
    + f" On the plain cohort, where nothing is planted, the lead is {with_interval(leads['mean of past visits - GRU']['synthetic'])},"
    + f" and on the plain cohort of 6 350 patients, at the published width, {with_interval(paper_lead)} ({at_paper.line});"
    + f" there the whole history, read by the GRU, is worth {with_interval(alone)} over a network that sees the visit alone."
    + f" With the mean, own molecules lead shuffled ones by {with_interval(own_lead)}"
    + (
        ": the planted fragment is found."
        if own_lead.low > 0
        else ": shuffled molecules serve as well."
    )
)
held = knowledge.molecules.fragment_mask
page.glue(
    tagged=100 * float(held[:, held.sum(0) == 1].any(1).float().mean()),
    door=page.about(records, door, patients=n_tested),
)

# %% [markdown]
# {glue:text}`door`
#
# Why can shuffled molecules serve as well?
# Of the medications, {glue:text}`tagged:.0f` % hold a fragment that no other medication has.
# Whatever molecules it is given, the masked attention can pick these and the selector can learn a gate for them: the fragments are a name tag, and chemistry is not needed to read it.
# Sharing a fragment could only save examples, where a class has too few of its own.
#
# ### Is there anything to be found?
#
# A test that finds nothing owes a proof that there was something to find, for somebody.
# The simplest finder is a regression on the diagnoses and procedures of the visit and of all earlier ones, with weights that the holders of a group share:
#
# $$
# z_{vm} = b_m + x_v \cdot \Big(w_m + \tfrac{1}{\sqrt{|G_m|}} \sum_{g \in G_m} u_g\Big).
# $$ (eq-ablation-shared)
#
# *Told*, its groups are the planted blocks themselves, which no network is told.
# *Own*, they are all fragments with two holders or more; *shuffled*, the same of other classes.

# %% tags=["hide-input"]
blind = {
    name: hidden_classes.read(name) for name in ("synthetic+structure", "synthetic")
}
worth = {
    name: {
        row["molecules"]: interval(row, "delta")
        for row in kept.gains.filter(visits="later visits").iter_rows(named=True)
    }
    for name, kept in blind.items()
}
blind_patients = blind["synthetic+structure"].gains["patients"][0]
blind_table = blind["synthetic+structure"].table
blind_seeds = [kept.provenance["seeds"] for kept in blind.values()]
blind_note = page.notes(*blind.values())
blind_line = f"{blind_table['patients'][0]} patients outside training, {blind_seeds[0]} training seeds on the planted cohort and {blind_seeds[1]} on the plain one"
caption = f"What sharing weights is worth: Jaccard of the regression with groups minus the one without, later visits, tuned thresholds, synthetic cohorts with {blind_patients} test patients. Brackets: 95 % of 1000 resamples of patients. {blind_note}"
show(by_cohort("groups", worth, caption))

# %% tags=["remove-cell"]
told = worth["synthetic+structure"]["told"]
page.glue(
    blocks=page.about(records, ", ".join(ASKED), patients=n_tested),
    n_holders=blind["synthetic+structure"].table["classes"][0],
    told=page.about(records, with_interval(told), patients=n_tested),
    blind_line=page.about(records, blind_line, patients=n_tested),
    blind_note=page.about(records, blind_note, patients=n_tested),
    told_means=page.about(
        records,
        "So there is a gain of this size to be found, by a finder as good as this one."
        if told.low > 0
        else f"So a finder as good as this one, told where to look, gains at most {told.high:+.3f}: where nothing is hidden, the figures above cannot tell a network that uses the blocks from one that does not.",
        patients=n_tested,
    ),
)

# %% [markdown]
# Being told the blocks is worth {glue:text}`told`.
# {glue:text}`told_means`
#
# ### Hidden classes
#
# Knowledge of molecules must pay where a class cannot be learnt by heart.
# So a class is *hidden*: struck from every list that a system reads, and left out of its loss.
# What the system then says of it must come from the classes that are like it, in molecules or in fragments.
# Hidden are, one half after the other, the {glue:text}`n_holders` holders of the planted blocks; the other half of the holders shows which patients will get a hidden one.
#
# The measure is the area under the ROC curve: the chance that of two later visits, one with the hidden class and one without, the first has the higher logit.
# Each visit's mean over the hidden classes is taken off first, so that it does not count that some patients get more of everything.
# One half is chance.
# *Shuffled*, each class has the molecules of another one, in every system alike.
#
# **Check.** Three visits and two hidden classes: the second visit has the highest logits of both, which is as good as chance; without its mean the order is right.

# %%
logits = np.array([[0.2, 1.0], [0.4, 3.0], [0.1, 2.0]])
given = np.array([[True, False], [False, True], [True, False]])
by_hand = hidden_classes.centred(logits)
np.testing.assert_allclose(by_hand.sum(0), 0, atol=1e-12)
np.testing.assert_allclose(by_hand.sum(1), 0, atol=1e-12)
everybody = np.ones((1, 3))
np.testing.assert_allclose(hidden_classes.sorting(logits, given, everybody), 0.5)
np.testing.assert_allclose(hidden_classes.sorting(by_hand, given, everybody), 1.0)

# %% tags=["hide-input"]
#| name: fig-ablation-hidden
#| alt: Two panels, the cohort with planted building blocks and the plain one: areas under the ROC curve of hidden
#|   classes for a regression, for BiMoRec with three ways to read the past, with and without fragments of one holder,
#|   and for MoleRec, filled dots with their own molecules and open ones with shuffled molecules, with 95 percent
#|   intervals and a line at one half.
#| caption: How well hidden classes are sorted: area under the ROC curve over later visits of patients outside
#|   training, mean over hidden classes, cohorts `synthetic+structure` (planted building blocks) and `synthetic`
#|   (plain), {glue:text}`blind_line`. Filled: own molecules; open: those of other classes. Line: chance. Bars: 95 %
#|   of 1000 resamples of seeds and patients together. *No name tags*: without fragments that one medication alone
#|   holds. Notice where filled and open part, and whether they do so on the left only. {glue:text}`blind_note`
systems = [name for name in hidden_classes.ARMS if name != hidden_classes.YARDSTICK]
rows = [
    ("regression that sees them", hidden_classes.YARDSTICK, "seen"),
    ("regression, told", hidden_classes.YARDSTICK, "told"),
    ("regression", hidden_classes.YARDSTICK, "own"),
    *((name, name, "own") for name in systems),
]
fig, axes = plt.subplots(
    1, 2, figsize=(plotting.FULL, 3.4), layout="constrained", sharey=True, sharex=True
)
for ax, (name, kept) in zip(axes, blind.items(), strict=True):
    filled = [kept.interval(system, molecules) for _, system, molecules in rows]
    labels = [label for label, _, _ in rows]
    plotting.plot_intervals(
        ax,
        labels,
        [found.value for found in filled],
        [(found.low, found.high) for found in filled],
        reference=0.5,
    )
    for row, (_, system, _) in enumerate(rows):
        other = kept.interval(system, "shuffled")
        ax.plot([other.low, other.high], [row + 0.3] * 2, color=plotting.INK, lw=0.8)
        ax.plot(other.value, row + 0.3, "o", mfc="none", mec=plotting.INK, markersize=5)
    ax.set_xlabel(name)
fig.supxlabel("area under the ROC curve of hidden classes →", size="medium")
show(fig)

# %% tags=["hide-input"]
apart = {
    name: {
        "regression, told": kept.interval(hidden_classes.YARDSTICK, "told - shuffled"),
        "regression": kept.interval(hidden_classes.YARDSTICK, "own - shuffled"),
        **{system: kept.interval(system, "own - shuffled") for system in systems},
    }
    for name, kept in blind.items()
}
n_plain = blind["synthetic"].table["classes"][0]
caption = f"What own molecules are worth for {blind_table['classes'][0]} hidden classes of the planted cohort, and for the {n_plain} of them that the plain one has: area with own molecules (told: with the planted blocks as groups) minus area with shuffled ones. Synthetic cohorts, {blind_line}. Brackets as above. {blind_note}"
show(by_cohort("system", apart, caption))

# %% tags=["remove-cell"]
structure, plain_blind = apart["synthetic+structure"], apart["synthetic"]


def listed(names):
    return ", ".join(names) or "none"


finders = [name for name in systems if structure[name].low > 0]
false_alarms = [name for name in systems if plain_blind[name].low > 0]
powerful = structure["regression"].low > 0
hidden_power = (
    f"{'The control has power' if powerful else 'The control has no power'}: the regression that is told the blocks gains {with_interval(structure['regression, told'])}"
    + f" on the planted cohort and {with_interval(plain_blind['regression, told'])} on the plain one;"
    + f" the one that is given all fragments, as the networks are, {with_interval(structure['regression'])} and {with_interval(plain_blind['regression'])}."
    + f" Networks whose own molecules lead shuffled ones on the planted cohort: {listed(finders)}; on the plain one: {listed(false_alarms)}."
)
page.glue(hidden_power=page.about(records, hidden_power, patients=n_tested))

# %% [markdown]
# {glue:text}`hidden_power`
#
# Only the distance from shuffled molecules counts: an area on either side of one half that shuffled molecules reach as well comes from elsewhere.
#
# That BiMoRec as published stands at chance is no finding: it follows from its equation 25.
# The map behind the recurrent network has weights of its own for each medication, and those of a hidden one are never trained.
# So nothing that its molecules say can reach a class that the records do not show.
# With the mean of the past, or with one patient vector, a perceptron that all medications share makes the scores, and the way is open.

# %% tags=["hide-input"]
#| name: fig-ablation-hidden-epochs
#| alt: Curves of the area under the ROC curve of hidden classes over training epochs on the planted cohort, solid
#|   with own molecules and dashed with shuffled ones, one panel each for three ways to read the past and MoleRec,
#|   with and without name tags.
#| caption: The same area epoch by epoch on `synthetic+structure` (synthetic), mean over training seeds and hidden
#|   classes, no intervals. Solid: own molecules; dashed: shuffled. Thick: all fragments; thin: without name tags.
#|   Notice whether what was found early is kept. {glue:text}`blind_note`
families = {
    REFERENCE: (REFERENCE,),
    "mean of past visits": ("mean of past visits", "mean of past visits, no name tags"),
    "w/o E": ("w/o E", "w/o E, no name tags"),
    "MoleRec": ("MoleRec", "MoleRec, no name tags"),
}
curves = blind["synthetic+structure"].curves
fig, axes = plt.subplots(
    1, 4, figsize=(plotting.FULL, 2.2), layout="constrained", sharey=True
)
for ax, (title, members) in zip(axes, families.items(), strict=True):
    ax.axhline(0.5, color=plotting.INK, lw=0.8, ls=":")
    for member, width in zip(members, (2.0, 0.8), strict=False):
        for molecules, style in (("own", "-"), ("shuffled", "--")):
            curve = curves.filter(system=member, molecules=molecules)
            ax.plot(
                curve["epoch"] + 1, curve["area"], style, color=plotting.INK, lw=width
            )
    ax.set_xlabel(title)
axes[0].set_ylabel("area, hidden classes")
fig.supxlabel("epoch", size="medium")
show(fig)

# %% [markdown]
# ### What the planted shape can show
#
# Less than it seems.
# BiMoRec meets coordinates in pre-training only; when it recommends, a molecule is its graph.
# The planted twins differ there in the label of one double bond.
# Both are seen often, so the label is a name tag as good as any, and no network needs a third dimension to tell them apart.
#
# **Check.** The same atoms, the same edges, no coordinates; one bond differs.

# %%
pair = (EXTENDED, COMPACT)
twins = build([code for code, _ in pair], only={code: [drug] for code, drug in pair})
one, other = (twins.graphs.get_example(i) for i in range(2))
assert "pos" not in twins.graphs  # no coordinates
assert torch.equal(one.x, other.x)
assert torch.equal(one.edge_index, other.edge_index)
differing = (one.edge_attr != other.edge_attr).any(1).sum()
assert differing == 2  # one bond, in both directions

# %% tags=["remove-cell"]
open_ways = listed([name for name in finders if name != REFERENCE])
power = (
    f"In classes that the records do not show, a regression {'finds' if powerful else 'does not find'} the planted blocks by their fragments; BiMoRec as published cannot, by construction."
    + f" Of the networks whose way is open, these do: {open_ways}."
    + " For the planted shape there is no such test: the graphs of the twins differ already."
    + (
        ""
        if told.low > 0
        else " In classes that are all shown, as in table 4, even being told the blocks is worth nothing that can be measured."
    )
)
page.glue(power=page.about(records, power, patients=n_tested))

# %% [markdown]
# {glue:text}`power`
# So on our records neither a gain nor its absence in the rows of table 4 says anything about chemistry; it takes the shuffled control to see it, and hidden classes to give that control power.
#
# ## Verdicts

# %%
mechanism = "a role for molecular structure or shape"
c4 = ablation.judge(
    here["w/o T"],
    -1,
    sdi=smallest,
    mechanism=mechanism,
    control=against["flat drawings"]["delta"] - here["w/o T"]["delta"],
    control_name="pre-training on flat drawings",
)
single = {
    "the attention among molecules": interval(
        against["no attention among molecules"], "delta", -1
    ),
    "the gate": interval(against["no gate"], "delta", -1),
}
holds_for = [name for name, found in single.items() if found.low > 0]
not_for = [name for name in single if name not in holds_for]
c5 = ablation.judge(
    here["w/o E"],
    -1,
    sdi=smallest,
    only_for=", ".join(holds_for) if holds_for and not_for else None,
    not_for=", ".join(not_for) if holds_for and not_for else None,
)
beyond = here[SYNERGY]
c6 = ablation.judge(beyond, sdi=smallest)
np.testing.assert_allclose(
    beyond["delta"],
    here["w/o T+E"]["delta"] - here["w/o T"]["delta"] - here["w/o E"]["delta"],
    atol=5e-6,
)

# %% tags=["remove-cell"]
said = {
    "c4_word": c4.word,
    "c4_sentence": c4.sentence,
    "c4_change": words(here["w/o T"], "delta", 4),
    "c4_flat": words(against["flat drawings"], "delta", 4),
    "c5_word": c5.word,
    "c5_sentence": c5.sentence,
    "c5_gse": single["the attention among molecules"].format(4),
    "c5_gate": single["the gate"].format(4),
    "c6_word": c6.word,
    "c6_sentence": c6.sentence,
}
page.glue(**{k: page.about(records, v, patients=n_tested) for k, v in said.items()})

# %% [markdown]
# :::{admonition} C4. "Pre-training on the third dimension raises accuracy"
# :class: verdict
# {glue:text}`c4_word`. {glue:text}`c4_sentence`
# For the record: taking the pre-training out changes Jaccard by {glue:text}`c4_change`, flat drawings in the place of shapes by {glue:text}`c4_flat`.
# {glue:text}`power`
# :::
#
# :::{admonition} C5. "The multi-step enhancement raises accuracy"
# :class: verdict
# {glue:text}`c5_word`. {glue:text}`c5_sentence`
# History has a mechanism in these records, so this claim can be tested on them.
# One part at a time, the full model gains {glue:text}`c5_gse` by the attention among molecules and {glue:text}`c5_gate` by the gate.
# :::
#
# :::{admonition} C6. "The two act together"
# :class: verdict
# {glue:text}`c6_word`. {glue:text}`c6_sentence`
# :::
#
# ## The audit
#
# ### What the paper does not say
#
# - **What the ablations are.** Words only; ours are fixed configurations, {py:data}`medrec.models.bimorec.VARIANTS`, and another reading may give other numbers.
# - **How many runs a cell is.** No seed and no interval is named.
# - **At which threshold.** One half for all, as far as the text says; sizes then differ by up to {glue:text}`size_gap:.1f` medications.
# - **What else could have done it.** There is no control: neither shuffled molecules, nor flat coordinates, nor free vectors.
# - **Which PRAUC is right** for the full model on MIMIC-IV.
#
# ### Misconceptions
#
# "Removing a part and losing score proves the part's story."
# : Only against a twin that keeps everything but the story.
#
# "Ablations have the same size."
# : Printed ones differ by up to {glue:text}`size_gap:.1f` medications; compare orders, or tune every threshold.
#
# "An interaction is as sure as an effect."
# : Its error is larger by $\sqrt 2$, {eq}`eq-ablation-interaction-se`, and it is usually smaller.
#
# "Nothing found is nothing there."
# : Not before the same test has found what was planted.
#
# ## Summary
#
# - Four cells give four effects and an interaction; most of the printed loss is interaction, and single runs cannot carry it.
# - Three ablations need three definitions; untrained networks can be asked whether a name takes out what it says.
# - A moved threshold looks like a lost part; curves over size, tuned thresholds and PRAUC tell them apart.
# - Columns that bind each other restore a lost F1 and expose a PRAUC that contradicts another table.
# - Shuffled molecules keep everything but chemistry, flat drawings everything but the third dimension; planted effects tell whether the test has power.
# - Somebody must be able to find what was planted: a regression that is told where to look is the proof, and hiding classes is how chemistry comes to matter.
#
# ## Exercises
#
# ```{exercise}
# :label: ex-ablation-dilution
#
# A part changes Jaccard by 0.006 on later visits and not at all on first ones, which are 42.2 % of the visits.
# What is the change over all visits, if visits weigh equally?
# ```
#
# ```{solution-start} ex-ablation-dilution
# :class: dropdown
# ```

# %%
diluted = 0.006 * (1 - 0.422)
np.testing.assert_allclose(diluted, 0.0035, atol=5e-5)
show(round(diluted, 4))

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-ablation-control
#
# Design the control for "attention among the molecules of a visit".
# ```
#
# ````{solution} ex-ablation-control
# :class: dropdown
#
# Replace the attention weights by equal shares: each molecule then hears the mean of its visit, through the same layers.
# `no_gse` takes out more, the layers as well.
# ````
#
# ```{exercise}
# :label: ex-ablation-flat
#
# Suppose that flat drawings are as good as conformers, and both better than no pre-training.
# Which of the six words fits "3D pre-training raises accuracy"?
# ```
#
# ````{solution} ex-ablation-flat
# :class: dropdown
#
# *Holds in part*: pre-training helps, its third dimension does not.
# ````
#
# ```{exercise}
# :label: ex-ablation-power
#
# A regression that is told which building blocks were planted gains nothing.
# A network gains nothing either.
# What does that say about the network?
# ```
#
# ````{solution} ex-ablation-power
# :class: dropdown
#
# Nothing: there was nothing to gain.
# Hide the classes from both, and the regression shows how much there is.
# ````
#
# ```{dropdown} Quiz: does shuffling molecules keep the number of parameters?
# Yes.
# ```
#
# ```{dropdown} Quiz: which ablation has no molecule encoder?
# `wo_TE`.
# ```
#
# ```{dropdown} Quiz: a planted effect is missed. Conclusion?
# The test has no power, so there is no verdict.
# ```
#
# ## References
#
# - {cite:t}`mu2024bimorec`: table 4 and its claims.
# - {cite:t}`yang2023molerec`: the head that remains without enhancement.
