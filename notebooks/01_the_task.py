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
# # The task: recommend a set, then count what was right and what collides
#
# A program that draws drugs blindly has a lower rate of known interactions than every system in a published table, and one fixed list for all patients comes close to them in accuracy.
# What is a recommender given, what must it return, and how must its answer be marked so that such empty programs are recognised?
#
# ```{admonition} Objectives
# :class: objectives
# After this chapter you can
# - *build* the instances of a {term}`cohort`: history, current codes, hidden target.
# - *compute* {term}`Jaccard`, {term}`DDI rate`, {term}`F1`, {term}`PRAUC` and the {term}`average number of medications` by hand.
# - *show* where an average over visits and an average over patients part ways.
# - *detect* a pair of printed numbers that cannot both be right.
# - *choose* reference points before you judge a system.
# ```
#
# **Prerequisites.** {doc}`00_how_to_read`; sets, and vectors of zeros and ones.
#
# **Code.** {py:mod}`medrec.tasks.visits` and {py:mod}`medrec.metrics`.

# %% tags=["hide-input"]
from dataclasses import replace
from functools import partial

import numpy as np
import polars as pl
from matplotlib import pyplot as plt
from scipy.stats import hypergeom
from sklearn.metrics import average_precision_score

from medrec import metrics, plotting
from medrec.book import page
from medrec.book.generated.evidence import edges
from medrec.data import example, load_cohort, privacy
from medrec.experiments import reference_points
from medrec.knowledge.interactions import ddi_matrix
from medrec.lab import published
from medrec.tasks.visits import COLUMNS, evaluate

plotting.use_style()
np.set_printoptions(legacy="1.25")

# %% tags=["parameters", "hide-input"]
seed: int = 0  # seed of the bootstrap
cohort: str = "synthetic"  # any cohort that medrec.data.load_cohort knows
device: str = "cpu"  # cpu or cuda; nothing here needs more than cpu
profile: str = "quick"  # quick or full; the same computation here

# %% tags=["hide-input"]
records = load_cohort(cohort)
show = partial(privacy.show, records)  # closed records: aggregates only
page.at_a_glance(
    {"seed": seed, "cohort": cohort, "device": device, "profile": profile},
    paper="BiMoRec, table 2; NLA-MMR, table 2",
    data=page.cohort_line(records),
    learned="nothing; classes are counted",
    full_run="the same as here",
)

# %% tags=["hide-input"]
ddi = ddi_matrix(records.vocab["medication"].codes)  # (M, M)
truth = reference_points.targets(records)  # (V, M)
frequency = truth.sum(0)
stored_curves, stored_points, stored_note = reference_points.stored()
curves = {records.name: reference_points.popularity_curve(records, ddi)}
curves |= {name: curve for name, curve in stored_curves.items() if name != records.name}
all_points = {records.name: reference_points.summary(records, ddi, seed=seed)}
all_points |= {
    name: points for name, points in stored_points.items() if name != records.name
}
printed = pl.concat(
    [published.table("bimorec", 2), published.table("nlammr", 2)], how="diagonal"
)
here = {
    (row["scored"], row["system"]): row
    for row in all_points[records.name].iter_rows(named=True)
}
programs = [
    ("a blind draw", "how long a prescription is", ("all visits", "random")),
    (
        "one list for everybody",
        "which classes are frequent",
        ("all visits", "popularity"),
    ),
    (
        "one list for everybody",
        "which classes are frequent",
        ("later visits", "popularity"),
    ),
    ("copy the last visit", "the visit before", ("later visits", "last visit")),
]
show(
    page.table(
        pl.DataFrame(
            [
                {
                    "program": program,
                    "what it knows": knows,
                    "marked on": key[0],
                    "Jaccard ↑": here[key]["Jaccard"],
                    "DDI rate ↓": here[key]["DDI rate"],
                }
                for program, knows, key in programs
                if key in here
            ]
        ),
        caption=f"Three programs that read no diagnosis, on {page.cohort_line(records)}. Jaccard is averaged over patients, "
        "the DDI rate pooled over visits. Later visits: all but the first of each patient; only rows that are marked on the "
        "same visits may be compared. Interactions: this book's own list. Result 1 below is under another list; the two "
        "rates of the blind draw must not be compared.",
    )
)

# %% [markdown]
# Jaccard says how well two sets agree: of all classes that were given or recommended, the share that were both.
# The DDI rate is the share of pairs of recommended classes that are known to interact.
# An arrow says which direction is better.
#
# This page reads the main tables of two recent papers, on BiMoRec {cite:p}`mu2024bimorec` and on NLA-MMR {cite:p}`tan2024nlammr`; later chapters build both systems.
# Keep three results in mind while you read.
#
# 1. Under the interaction list of the published systems, a program that draws medications blindly has a lower rate of known interactions than every system in BiMoRec's main table, on both of its databases: {glue:text}`random_ddi:.4f`, where the lowest printed rate is {glue:text}`lowest_ddi:.4f`, on {glue:text}`lowest_database`.
# 2. One list, handed to everybody, reaches a Jaccard of {glue:text}`j_popularity:.2f` on the {glue:text}`records_name` records of this page; the systems of that table print {glue:text}`j_low:.2f` to {glue:text}`j_high:.2f` on MIMIC-III.
# 3. Copying the last visit on the open MIMIC-III demo scores {glue:text}`m3_visits:.3f` averaged over visits and {glue:text}`m3_patients:.3f` averaged over patients; both are correctly computed ({numref}`tab-last-visit`).
#
# None of the three is a trick.
# At the end of this page you can derive each of them.
#
# ## The problem on two patients
#
# Two invented patients make three hospital stays, called {term}`visits <visit>` in this book.
# Five medication classes exist in their world.
# A class is a group of drugs with one use, written as a code of the Anatomical Therapeutic Chemical ({term}`ATC`) classification at level 3, four characters long.
# For example, B01A holds the antithrombotics, drugs against clots; drugs of one class may differ in mechanism.
# These two patients return in the next chapters.

# %% tags=["hide-input"]
toy = example.cohort()
M = toy.n_medications
Y = toy.codes["medication"].multi_hot(M).astype(int)  # targets, (V, M)
Yhat = example.RECOMMENDED.astype(int)  # recommended sets, (V, M)
classes = np.array(toy.vocab["medication"].codes)


def titled(kind, v):
    return ", ".join(toy.vocab[kind].titles[i] for i in toy.codes[kind][v])


show(
    page.table(
        pl.DataFrame(
            {
                "visit": ["v1 (patient 1)", "v2 (patient 1)", "v3 (patient 2)"],
                "diagnoses": [titled("diagnosis", v) for v in range(3)],
                "procedure": [titled("procedure", v) for v in range(3)],
                "target set Y": [", ".join(classes[row > 0]) for row in Y],
                "recommended set Ŷ": [", ".join(classes[row > 0]) for row in Yhat],
            }
        ),
        caption="The running example: 2 invented patients, 3 visits. Diagnoses and procedures are titles of real ICD-9-CM codes, "
        "the recommended sets are made up so that every metric has something to count.",
        name="tab-running-example",
    )
)

# %% tags=["hide-input"]
show(
    page.table(
        pl.DataFrame(
            {
                "class": classes.tolist(),
                "what it holds": list(toy.vocab["medication"].titles),
                "id": list(range(M)),
            }
        ),
        caption="The five medication classes of the running example.",
    )
)

# %% [markdown]
# At v1 the recommender names two of the three classes that were given, an antithrombotic and an anti-inflammatory drug; it misses the laxative and adds an opioid that was not given.
# At v2 it agrees with the record.
# What was given has changed since v1, {glue:text}`toy_days:.0f` days before, and the change is plausible within this five-class world: the protection against clots after the fracture has ended, and anti-inflammatory drugs should be avoided in heart failure.
# At v3 four classes were given, and the recommender names one of them.
# How good is this recommender, in one number?
# The answer depends on choices that this chapter takes up one by one.
#
# ### What is given, what is hidden
#
# A patient with visits $1, \dots, t$ gives one question for each visit:
#
# $$
# \underbrace{\mathcal{M}_1, \dots, \mathcal{M}_{t-1}}_{\text{earlier medications}},\;
# \underbrace{\mathcal{D}_1, \dots, \mathcal{D}_t}_{\text{diagnoses}},\;
# \underbrace{\mathcal{P}_1, \dots, \mathcal{P}_t}_{\text{procedures}}
# \;\longmapsto\; \hat Y_t \subseteq \{1, \dots, M\},
# \qquad Y_t = \mathcal{M}_t .
# $$ (eq-instance)
#
# This is how BiMoRec states the problem; the paper writes $\hat{\mathcal M}_t$ for $\hat Y_t$.
# The set $Y_t$ is the {term}`target set`, $\hat Y_t$ the {term}`recommended set`, and the whole question an {term}`instance`.
# The medications of visit $t$ are hidden; its diagnoses and procedures are not.
# Yet these codes are assigned after the patient has left hospital: when drugs are chosen at the bedside, they are not there yet.
# The audit takes this up.


# %%
def instance(cohort, v):
    """What a system is given at visit v, and what is hidden from it."""
    first = cohort.visit_offsets[cohort.patient_of_visit[v]]

    def codes(kind, visits):
        name, rows = cohort.vocab[kind].codes, cohort.codes[kind]
        return " | ".join(", ".join(name[i] for i in rows[u]) for u in visits)

    return {
        "visit": f"v{v + 1}",
        "earlier medications": codes("medication", range(first, v)) or "none",
        "diagnoses up to now": codes("diagnosis", range(first, v + 1)),
        "procedures up to now": codes("procedure", range(first, v + 1)),
        "hidden target": codes("medication", [v]),
    }


show(
    page.table(
        pl.DataFrame([instance(toy, v) for v in range(toy.n_visits)]),
        caption="The three instances of the example. A first visit has no history. "
        "A bar divides visits; 9: says that a code is of ICD-9-CM.",
    )
)

# %% [markdown]
# Check: every visit is one instance, every patient has exactly one without history, and the target never stands among the inputs.
# Then break the last rule on purpose.
# If the history reaches up to and *including* visit $t$, a program that repeats the newest medications becomes perfect without knowing anything.

# %%
is_first = toy.visit_number == 0
assert toy.n_visits == len(Y) == 3
assert is_first.sum() == toy.n_patients == 2
assert instance(toy, 1)["earlier medications"] == instance(toy, 0)["hidden target"]

honest_copy = np.where(
    is_first[:, None], 0, np.roll(Y, 1, axis=0)
)  # repeats visit t - 1
leaking_copy = Y  # repeats visit t, which it must not see
assert metrics.jaccard(Y, leaking_copy).mean() == 1
assert metrics.jaccard(Y, honest_copy)[1] == 0.25
print(
    "3 visits, 3 instances, 2 of them first visits; the leak scores 1, the honest "
    "copy of v1 scores 0.25 at v2"
)

# %% tags=["hide-input"]
#| name: fig-instance
#| alt: Grid with two columns, visits v1 and v2 of patient 1, and three rows, diagnoses, procedures and medications.
#|   All cells are marked as given except the medications of v2, which are hatched and marked as hidden.
#| caption: The instance of visit v2 of the running example (1 patient, 2 visits). Everything is given except the
#|   medications of the visit itself.
fig, ax = plt.subplots(figsize=(plotting.ONE_COLUMN, 2.2))
rows = [
    ("diagnosis", "diagnoses"),
    ("procedure", "procedures"),
    ("medication", "medications"),
]
for r, (kind, label) in enumerate(rows):
    for v in range(2):
        hidden = kind == "medication" and v == 1
        ax.add_patch(
            plt.Rectangle(
                (v, -r),
                0.94,
                0.9,
                fill=False,
                hatch="///" if hidden else None,
                linewidth=1.2,
                edgecolor=plotting.INK,
            )
        )
        codes = (
            "hidden"
            if hidden
            else ", ".join(
                toy.vocab[kind].codes[i].split(":")[-1] for i in toy.codes[kind][v]
            )
        )
        ax.text(
            v + 0.47,
            -r + 0.45,
            codes,
            ha="center",
            va="center",
            fontsize=8,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 2}
            if hidden
            else None,
        )
    ax.text(-0.05, -r + 0.45, label, ha="right", va="center")
for v in range(2):
    ax.text(v + 0.47, 1.0, f"v{v + 1}", ha="center")
ax.set(xlim=(-0.6, 2), ylim=(-2.1, 1.3))
ax.axis("off")
show(fig)
# %% [markdown]
# ```{exercise}
# :label: ex-task-instances
#
# A patient has four visits.
# Before you count: how many instances does this patient give, and how many of them have a history?
# What would change if first visits were left out, as some systems do?
# ```
#
# ```{solution-start} ex-task-instances
# :class: dropdown
# ```
#
# Four instances, three of them with a history.
# Leaving first visits out drops one instance per patient, so it drops a large share of a cohort in which most people come once or twice.

# %%
visits_of_patient = np.array([4])
show(
    f"instances: {visits_of_patient.sum()}, "
    f"with history: {(visits_of_patient - 1).sum()}"
)
bimorec_data = published.table("bimorec", 1)
shares = dict(
    zip(
        bimorec_data["database"],
        bimorec_data["patients"] / bimorec_data["visits"],
        strict=True,
    )
)
show(shares)

# %% [markdown]
# In BiMoRec's two cohorts first visits are {glue:text}`first_iii:.0%` and {glue:text}`first_iv:.0%` of all instances (patients divided by visits of its table 1).
#
# ```{solution-end}
# ```

# %% [markdown]
# ## Jaccard: what is shared among all that is named
#
# $$
# J_v = \frac{|Y_v \cap \hat Y_v|}{|Y_v \cup \hat Y_v|}
#     = \frac{\sum_i y_{vi}\, \hat y_{vi}}{\sum_i y_{vi} + \sum_i \hat y_{vi} - \sum_i y_{vi}\, \hat y_{vi}}
# $$ (eq-jaccard)
#
# Of all medications that were given or recommended, Jaccard is the share that were both; the papers define it in words like these.
# Here $y_{vi}$ is 1 when medication $i$ belongs to the target set of visit $v$, and $\hat y_{vi}$ is 1 when it is recommended.

# %%
shared = np.einsum("vi,vi->v", Y, Yhat)  # |Y ∩ Ŷ|
J = shared / (Y.sum(1) + Yhat.sum(1) - shared)
show(J)

# %% [markdown]
# Check by hand: two of four, two of two, one of four.
# Check the package's function, the limits, and the one invariance that a set metric must have: medications carry numbers, and the numbers must not matter.
# Then break it, by renumbering the recommended set alone.

# %%
np.testing.assert_allclose(J, [2 / 4, 2 / 2, 1 / 4])
np.testing.assert_allclose(metrics.jaccard(Y, Yhat), J)
assert (
    metrics.jaccard(Y, np.zeros_like(Y)).sum() == 0
)  # an empty recommendation is worth nothing
assert (
    metrics.jaccard(np.zeros((1, M)), np.zeros((1, M))) == 0
)  # house rule where both sets are empty

renumber = np.array([1, 2, 3, 4, 0])
np.testing.assert_allclose(metrics.jaccard(Y[:, renumber], Yhat[:, renumber]), J)
broken = metrics.jaccard(Y, Yhat[:, renumber])
assert not np.allclose(broken, J)
show(f"renumbered together: equal; renumbered on one side only: {broken}")

# %% [markdown]
# A set metric needs no model to be put to use.
# Take one list of the $k$ most frequent classes, hand it to every patient, and let $k$ grow.
# A patient's own visits never count towards the list that is used on that patient.

# %% tags=["hide-input"]
#| name: fig-popularity-jaccard
#| alt: Line chart of Jaccard, averaged over patients, against the length k of one list of the most frequent classes,
#|   one line for each cohort. Every line climbs from near 0, has one flat top at a list of about the usual length of
#|   a prescription, and falls slowly after it.
#| caption: Jaccard of one constant list against its length k. {glue:text}`caption_curve`. Averaged over patients. The
#|   list is counted on all other patients. Notice how wide the top is, and how high for a program that knows nothing
#|   about the patient.
fig, ax = plt.subplots(figsize=(plotting.ONE_COLUMN, 2.9))
for line, (name, curve) in zip(["-", "--", ":"], curves.items(), strict=False):
    ax.plot(
        curve["k"],
        curve["jaccard"],
        line,
        color=plotting.INK if name != records.name else plotting.BLUE,
        label=name,
    )
    best = curve.row(curve["jaccard"].arg_max(), named=True)
    ax.plot(
        best["k"],
        best["jaccard"],
        "o",
        color=plotting.INK if name != records.name else plotting.BLUE,
        markersize=4,
    )
ax.set(xlabel="length k of the list (classes)", ylabel="Jaccard ↑", ylim=(0, 0.6))
ax.legend()
show(fig)

# %% [markdown]
# ```{exercise}
# :label: ex-task-jaccard
#
# One wrong medication is added to the recommendation of visit v2, which had none.
# Predict its Jaccard.
# ```
#
# ```{solution-start} ex-task-jaccard
# :class: dropdown
# ```
#
# The intersection stays, the union grows by one: two of three.

# %%
worse = Yhat[1:2].copy()
worse[0, classes == "N02A"] = 1
assert metrics.jaccard(Y[1:2], worse) == 2 / 3
show(metrics.jaccard(Y[1:2], worse))

# %% [markdown]
# ```{solution-end}
# ```
#
# ## Two averages of one list of values
#
# Three visits have three values.
# There are two ways to make one number of them:
#
# $$
# \bar J_{\text{visits}} = \frac{1}{V} \sum_{v} J_v ,
# \qquad
# \bar J_{\text{patients}} = \frac{1}{U} \sum_{u} \frac{1}{|V_u|} \sum_{v \in V_u} J_v ,
# $$ (eq-two-means)
#
# where $V_u$ are the visits of patient $u$.
# The papers do not say in their text which of the two they print.
# This book averages Jaccard, F1 and PRAUC over patients; DDI rate and number of medications are pooled over visits.


# %%
def patient_mean(J, patient):
    """Visits of a patient first, then patients."""
    V_u = np.bincount(patient)  # visits of each patient u
    return np.mean(np.bincount(patient, weights=J) / V_u)


patient = toy.patient_of_visit  # (V,)
J_visits, J_patients = J.mean(), patient_mean(J, patient)
show((J_visits, J_patients))

# %% [markdown]
# Check by hand: $(.5 + 1 + .25)/3$ against $(.75 + .25)/2$.
# The two agree when every patient has the same number of visits.
# Break that: give patient 1 the same good visit again and again.

# %%
np.testing.assert_allclose(J_visits, (0.5 + 1 + 0.25) / 3)
np.testing.assert_allclose(J_patients, (0.75 + 0.25) / 2)

often = np.concatenate([np.repeat(J[1], 20), J])  # patient 1 returns twenty times
who = np.concatenate([np.zeros(20, int), patient])
show(f"over visits: {often.mean():.3f}, over patients: {patient_mean(often, who):.3f}")

# %% [markdown]
# The figure uses numbers of the size that occur in practice.
# Twelve patients have one scored visit each, at a Jaccard of .41; one patient has $n$ visits at .68.

# %% tags=["hide-input"]
#| name: fig-two-means
#| alt: Line chart of average Jaccard against the number of visits of one returning patient. The average over patients
#|   stays flat near 0.43; the average over visits climbs from the same point towards 0.6.
#| caption: One patient with n visits at Jaccard .68, twelve patients with one visit at .41 (made-up values). The mean
#|   over patients does not move; the mean over visits follows the patient who returns most often.
n = np.arange(1, 31)
fig, ax = plt.subplots(figsize=(plotting.ONE_COLUMN, 2.6))
ax.plot(
    n,
    (12 * 0.41 + n * 0.68) / (12 + n),
    "--",
    color=plotting.VERMILION,
    label="mean over visits",
)
ax.plot(
    n,
    np.full(30, (12 * 0.41 + 0.68) / 13),
    color=plotting.BLUE,
    label="mean over patients",
)
ax.set(
    xlabel="visits of the patient who returns",
    ylabel="mean Jaccard ↑",
    ylim=(0.4, 0.65),
)
ax.legend()
show(fig)

# %% [markdown]
# ```{exercise}
# :label: ex-task-two-means
#
# The returning patient of {numref}`fig-two-means` has 14 scored visits.
# Estimate both means before you compute them.
# ```
#
# ```{solution-start} ex-task-two-means
# :class: dropdown
# ```

# %%
values = np.array([0.68] * 14 + [0.41] * 12)
owner = np.array([0] * 14 + list(range(1, 13)))
over_visits, over_patients = values.mean(), patient_mean(values, owner)
assert round(over_visits, 3) == 0.555
assert round(over_patients, 3) == 0.431
show((over_visits, over_patients))
in_print = printed.filter(
    (pl.col("paper") == "BiMoRec") & (pl.col("database") == "MIMIC-III")
)["Jaccard"]
assert over_visits - over_patients > in_print.max() - in_print.min()

# %% [markdown]
# Both are correct, and they differ by more than the highest and the lowest Jaccard of BiMoRec's table on MIMIC-III.
# These values are made up; {numref}`tab-last-visit` has such a pair of the MIMIC-III demo.
#
# ```{solution-end}
# ```
#
# ## F1, and an inequality that finds misprints
#
# {term}`Precision` is the share of the recommended set that is right, {term}`recall` the share of the target set that was found.
# F1 is their harmonic mean *in one visit*, and that makes it a function of Jaccard:
#
# $$
# F_v = \frac{2\,|Y_v \cap \hat Y_v|}{|Y_v| + |\hat Y_v|} = f(J_v), \qquad f(J) = \frac{2J}{1 + J} .
# $$ (eq-f1)
#
# So in a single visit F1 adds nothing to Jaccard.
# In averages it adds one thing.
# The function $f$ bends downwards, so by Jensen's inequality every average with common weights $w_v$ obeys
#
# $$
# \bar F = \sum_v w_v\, f(J_v) \;\le\; f\Bigl(\sum_v w_v J_v\Bigr) = f(\bar J),
# \qquad
# f(\bar J) - \bar F \approx \frac{2 \operatorname{Var}(J)}{(1 + \bar J)^3} .
# $$ (eq-jensen)
#
# The papers print neither relation.
# Both follow from their definitions, and the second one turns two printed means into an estimate of the unprinted spread.


# %%
def f(J):
    return 2 * J / (1 + J)


F = 2 * shared / (Y.sum(1) + Yhat.sum(1))
F_patients = patient_mean(F, patient)
show((F_patients, f(J_patients)))

# %% [markdown]
# Check: F1 of each visit from the definition and from Jaccard, the inequality under both averages, and equality when Jaccard is constant.
# Then break it with a formula that is easily mistaken for F1: the harmonic mean of *averaged* precision and recall.

# %%
np.testing.assert_allclose(metrics.f1(Y, Yhat), F)
np.testing.assert_allclose(F, f(J))
np.testing.assert_allclose(F, [2 / 3, 1, 2 / 5])
assert F_patients <= f(J_patients)
assert F.mean() <= f(J.mean())
constant = np.full(3, 0.4)
np.testing.assert_allclose(patient_mean(f(constant), patient), f(0.4))

mean_precision = patient_mean(metrics.precision(Y, Yhat), patient)
mean_recall = patient_mean(metrics.recall(Y, Yhat), patient)
F_of_means = 2 * mean_precision * mean_recall / (mean_precision + mean_recall)
assert F_of_means > f(J_patients)
show(
    f"mean of F1 {F_patients:.4f} ≤ f(mean J) {f(J_patients):.4f} < F1 of the "
    f"means {F_of_means:.4f}"
)

# %% [markdown]
# The gap estimates a spread.
# On the constant list of {numref}`fig-popularity-jaccard`, where every value is known, the estimate can be compared with the truth.

# %% tags=["hide-input"]
J_list = metrics.jaccard(truth, reference_points.popularity(records)[0])
owner = records.patient_of_visit
weight = 1 / (
    records.n_patients * np.bincount(owner)[owner]
)  # of each visit in the mean over patients
J_mean, F_mean = weight @ J_list, weight @ f(J_list)
gap = f(J_mean) - F_mean
assert gap >= 0
spread = pl.DataFrame(
    {
        "quantity": [
            "mean Jaccard",
            "mean F1",
            "gap",
            "spread from the gap",
            "spread, directly",
        ],
        "value": [
            J_mean,
            F_mean,
            gap,
            np.sqrt(gap * (1 + J_mean) ** 3 / 2),
            np.sqrt(weight @ (J_list - J_mean) ** 2),
        ],
    }
)
show(
    page.table(
        spread,
        digits=4,
        caption=f"Spread of Jaccard over visits (weights of the mean over patients), from the gap between the "
        f"averages of F1 and of Jaccard, and computed directly. Best constant list. {page.cohort_line(records)}.",
    )
)

# %% [markdown]
# Now turn the inequality on print.
# The main tables of BiMoRec and NLA-MMR hold {glue:text}`n_pairs` pairs of Jaccard and F1.

# %% tags=["hide-input"]
#| name: fig-f1-law
#| alt: Scatter plot of printed F1 against printed Jaccard with the curve f(J) = 2J/(1+J). All points lie slightly
#|   below the curve except one, circled, near J 0.43 and F1 0.61, which lies above it.
#| caption: All {glue:text}`n_pairs` printed pairs of Jaccard and F1 of the two main tables, on the test patients of
#|   five cohorts, and the curve that no average can cross. No interval is drawn: a point above the curve is out of
#|   reach of any sampling error. Circled: {glue:text}`above_system` on {glue:text}`above_database`, printed by
#|   {glue:text}`above_paper`.
fig, ax = plt.subplots(figsize=(plotting.ONE_COLUMN, 3.2))
grid = np.linspace(0.34, 0.56, 100)
ax.plot(grid, f(grid), color=plotting.INK, label="f(J) = 2J / (1 + J)")
for paper, marker, colour in (
    ("BiMoRec", "o", plotting.VERMILION),
    ("NLA-MMR", "s", plotting.BLUE),
):
    rows = printed.filter(pl.col("paper") == paper)
    ax.plot(
        rows["Jaccard"],
        rows["F1"],
        marker,
        color=colour,
        markersize=4,
        linestyle="none",
        label=f"{paper}, table 2",
    )
above = printed.filter(pl.col("F1") > f(pl.col("Jaccard")))
ax.plot(
    above["Jaccard"],
    above["F1"],
    "o",
    markersize=12,
    fillstyle="none",
    color=plotting.INK,
)
ax.set(xlabel="printed Jaccard ↑", ylabel="printed F1 ↑")
ax.legend(loc="lower right")
show(fig)

# %% tags=["hide-input"]
show(
    page.table(
        above.select(
            "system",
            "database",
            "paper",
            "Jaccard",
            "F1",
            pl.Series("highest possible F1", f(above["Jaccard"])),
        ),
        digits=4,
        caption="Printed pairs above the ceiling of the inequality.",
    )
)

# %% [markdown]
# Of the circled row, {glue:text}`above_system` on {glue:text}`above_database`, the Jaccard of {glue:text}`above_j:.4f` allows an F1 of at most {glue:text}`above_limit:.4f`, and {glue:text}`above_f:.4f` is printed.
# Of the points below the curve, the gap also says how exact a printed mean is; the audit works that out for BiMoRec's own row.
#
# ```{exercise}
# :label: ex-task-misprint
#
# What may and what may not be concluded from the circled row?
# ```
#
# ```{solution} ex-task-misprint
# :class: dropdown
#
# Rounding to four digits cannot explain it.
# By the stated definitions, the two columns are not averages of the same visits with the same weights.
# They may come from different averages, from an F1 of averaged precision and recall, or from a slip in copying; which one, the paper does not let us see.
# A public file of per-visit values of that run would settle it.
# ```
#
# ## PRAUC: the ranking behind the set
#
# Most systems compute a score $p_i$ for each medication and recommend those above a threshold.
# PRAUC marks the scores without choosing one.
# Go down the distinct scores; at the $n$-th of them let $P_n$ be precision and $R_n$ recall of the set of all medications that score at least as high.
#
# $$
# \mathrm{AP}_v = \sum_n (R_n - R_{n-1})\, P_n
# $$ (eq-prauc)
#
# The papers call it the area under the precision-recall curve; the released code of the GAMENet line computes this step-wise sum, per visit, over the $M$ medications.
# A trapezoid under the same points is larger and is a different metric.

# %% tags=["hide-input"]
show(
    page.table(
        pl.DataFrame(
            {"class": classes, "score": example.SCORES, "given": Y[0] > 0}
        ).sort("score", descending=True, maintain_order=True),
        digits=1,
        caption="Visit v1 of the running example: the scores behind its recommended set, made up like the set itself.",
    )
)

# %% [markdown]
# Go down this table.
# B01A was given: precision one, recall one third.
# M01A was given, too: precision one, recall two thirds.
# N02A was not: recall stays where it is, so this step adds nothing.
# The last two share a score and enter together, one of them given: precision three fifths, recall one.
# PRAUC adds up the gains in recall, each times the precision at its step.

# %%
p, y = example.SCORES, Y[0]
levels = np.unique(p)[::-1]  # distinct scores, from high to low
chosen = p >= levels[:, None]  # (n, i): the set at each level
P_n = np.einsum("ni,i->n", chosen, y) / chosen.sum(1)
R_n = np.einsum("ni,i->n", chosen, y) / y.sum()
AP = np.sum(np.diff(R_n, prepend=0) * P_n)
show(AP)

# %% [markdown]
# Check by hand: $\tfrac13 + \tfrac13 + 0 + \tfrac13 \cdot \tfrac35$.
# Compare with the package, with scikit-learn, and with three relatives that give other numbers.
# Any increasing map of the scores leaves the value alone.
# Then break it: round the scores, so that two of them become equal and their order is lost.

# %%
np.testing.assert_allclose(AP, 1 / 3 + 1 / 3 + 0 + (1 / 3) * (3 / 5))
np.testing.assert_allclose(metrics.average_precision(Y[:1], p[None]), AP)
np.testing.assert_allclose(average_precision_score(y, p), AP)
np.testing.assert_allclose(
    average_precision_score(y, np.exp(5 * p)), AP
)  # an increasing map
np.testing.assert_allclose(
    average_precision_score(y, np.ones(M)), y.mean()
)  # no ranking: the share of targets
hit_first = average_precision_score(
    y, p + 0.01 * y
)  # the tie broken in favour of the hit
trapezoid = np.trapezoid(np.r_[1, P_n], np.r_[0, R_n])
np.testing.assert_allclose([hit_first, trapezoid], [11 / 12, 79 / 90])

sharp = np.array([0.44, 0.9, 0.41, 0.7, 0.6])
assert average_precision_score(y, sharp) == hit_first
assert (
    average_precision_score(y, sharp.round(1))
    == average_precision_score(y, p)
    < hit_first
)
show(
    f"step-wise {AP:.4f}, tie broken by luck {hit_first:.4f}, trapezoid {trapezoid:.4f}"
)

# %% tags=["hide-input"]
#| name: fig-prauc-steps
#| alt: Precision against recall for visit v1. A solid step line goes down from precision 1 to 0.67 and 0.6; a dashed
#|   straight-line version lies above it at the right end. The last point is marked as shared by two medications with
#|   score 0.4.
#| caption: Precision and recall of visit v1 of the running example at each distinct score (1 visit, 5 medications, no
#|   interval). The area under the steps is {glue:text}`ap_toy:.4f`, under the dashed trapezoid
#|   {glue:text}`ap_trapezoid:.4f`. Two medications share the score .4, so they enter together.
fig, ax = plt.subplots(figsize=(plotting.ONE_COLUMN, 2.8))
ax.step(
    np.r_[0, R_n],
    np.r_[P_n[0], P_n],
    where="pre",
    color=plotting.BLUE,
    label="steps: average precision",
)
ax.plot(
    np.r_[0, R_n],
    np.r_[1, P_n],
    "--",
    color=plotting.VERMILION,
    label="trapezoid",
)
for level, r, q in zip(levels, R_n, P_n, strict=True):
    ax.plot(r, q, "o", color=plotting.BLUE)
    ax.annotate(
        f"p ≥ {level:.1f}",
        (r, q),
        xytext=(-4, -12),
        textcoords="offset points",
        ha="right",
        fontsize=8,
    )
ax.set(xlabel="recall ↑", ylabel="precision ↑", xlim=(0, 1.05), ylim=(0, 1.1))
ax.legend(loc="lower left")
show(fig)

# %% [markdown]
# ```{exercise}
# :label: ex-task-prauc
#
# A program copies the last visit: its scores are 0 and 1.
# Which PRAUC should a table print for it?
# Compute the value for the recommended set of v1 used as its own scores, and decide.
# ```
#
# ```{solution-start} ex-task-prauc
# :class: dropdown
# ```

# %%
from_set = metrics.average_precision(Y[:1], Yhat[:1].astype(float))
np.testing.assert_allclose(from_set, 29 / 45)
show(from_set)

# %% [markdown]
# The formula gives a number, but it marks a ranking that does not exist: all recommended medications are tied, and so are all others.
# The book prints a dash.
#
# ```{solution-end}
# ```
#
# ## DDI rate: pairs that are known to interact
#
# A {term}`drug-drug interaction` is an effect of one drug on another that can harm.
# The field keeps known ones in a matrix $A$ over medication classes: $A_{ij} = 1$ when some drug of class $i$ interacts with some drug of class $j$.
# The papers take theirs from reports of adverse events; this book takes its own list of interacting drugs unless it says otherwise.
# Rates under different lists must not be compared.
# The rate counts pairs, pooled over all visits:
#
# $$
# \mathrm{DDI} = \frac{\sum_v \tfrac12 \sum_{i,j} \hat y_{vi}\, A_{ij}\, \hat y_{vj}}{\sum_v \tfrac12\, |\hat Y_v| \bigl(|\hat Y_v| - 1\bigr)}
# $$ (eq-ddi-rate)
#
# BiMoRec names the metric without a formula; this is the one of the released code.
# A pair counts once, and a set of fewer than two medications has no pair.

# %%
A = example.DDI.astype(int)
interacting = np.einsum("vi,ij,vj->v", Yhat, A, Yhat) / 2
n = Yhat.sum(1)
pairs_of = n * (n - 1) / 2
rate = interacting.sum() / pairs_of.sum()
show((interacting, pairs_of, rate))

# %% tags=["hide-input"]
show(
    page.table(
        edges(example.MEDICATIONS),
        caption="The interacting class pairs of the running example, as the book's own list has them (chapter 03): how many pairs of drugs stand behind each, and the gravest of them.",
        name="tab-running-edges",
    )
)

# %% [markdown]
# One interacting pair of drugs is enough to mark two classes, and above a minimum of severity it does not matter how grave the effect is.
# The prescribed set of v1 itself holds one of these pairs, B01A and M01A.
# So agreeing with the record and avoiding interactions can pull apart.
#
# Check by hand: 2 of 3 pairs, 0 of 1, and 0 of 0; pooled, 2 of 4.
# It is *not* the mean of the visits' rates, whether a visit without a pair counts as zero or is left out, or the visits of a patient are averaged first.
# Renumbering medications in $A$ and $\hat Y$ together changes nothing; renumbering $A$ alone breaks it.
# And a fact that the rest of this book leans on: a random set has the density of $A$ as its expected rate, whatever its size.

# %%
assert rate == metrics.ddi_rate(Yhat, A) == 2 / 4
each = np.array([2 / 3, 0 / 1, 0])  # v3 has no pair: call it 0, or leave it out
means = [each.mean(), each[:2].mean(), patient_mean(each, patient)]
np.testing.assert_allclose(means, [2 / 9, 1 / 3, 1 / 6])
assert metrics.ddi_rate(Y, A) == 2 / 10  # the targets themselves
assert metrics.ddi_rate(Y[:1], A) == 1 / 3  # those of v1: B01A and M01A

assert metrics.ddi_rate(Yhat[:, renumber], A[np.ix_(renumber, renumber)]) == rate
assert metrics.ddi_rate(Yhat, A[np.ix_(renumber, renumber)]) != rate

density = A.sum() / (M * (M - 1))
every_subset = (np.arange(2**M)[:, None] >> np.arange(M)) & 1
for k in range(2, M + 1):
    np.testing.assert_allclose(
        metrics.ddi_rate(every_subset[every_subset.sum(1) == k], A), density
    )
show(
    f"pooled {rate:.3f}; means of rates {np.round(means, 3)}; density = random = "
    f"{density:.2f}"
)

# %% [markdown]
# A subset can have a higher rate than the set it is taken from: {B01A, M01A, N02A} has two interacting pairs of three, by {numref}`tab-running-edges`, while all five classes have {glue:text}`toy_edges` of {glue:text}`toy_pairs`.
# So a shorter list is not safer by itself, in this metric.

# %% tags=["hide-input"]
#| name: fig-popularity-ddi
#| alt: Line chart of DDI rate against the number k of most frequent classes in one constant list, one line for each
#|   cohort, with a dotted horizontal line at the rate of a random set and a dash-dotted one at the rate of the
#|   prescribed sets. The rate jumps for short lists, lies above the line of the random set at the length of an
#|   ordinary prescription, and meets that line when the list holds every class.
#| caption: DDI rate of the k most frequent classes, from k = 8 on. {glue:text}`caption_curve`. Horizontal lines: a
#|   random set (the density of the interaction matrix) and the prescribed sets of {glue:text}`records_name`; read
#|   them against its curve alone, because every cohort has its own classes and so its own density. Notice that there,
#|   at the length of an ordinary prescription, frequent classes interact {glue:text}`frequent_word` random ones.
fig, ax = plt.subplots(figsize=(plotting.ONE_COLUMN, 2.9))
for line, (name, curve) in zip(["-", "--", ":"], curves.items(), strict=False):
    curve = curve.filter(pl.col("k") >= 8)  # a handful of pairs makes a wild rate
    ax.plot(
        curve["k"],
        curve["ddi_rate"],
        line,
        color=plotting.INK if name != records.name else plotting.BLUE,
        label=name,
    )
ax.axhline(
    here["all visits", "random"]["DDI rate"],
    color=plotting.VERMILION,
    linestyle=(0, (1, 1)),
    linewidth=1.2,
    label=f"random set, {records.name}",
)
ax.axhline(
    here["all visits", "prescribed"]["DDI rate"],
    color=plotting.GREEN,
    linestyle="-.",
    linewidth=1.2,
    label=f"prescribed sets, {records.name}",
)
ax.set(
    xlabel="length k of the list (classes)",
    ylabel="DDI rate ↓ (fraction of pairs)",
    ylim=(0, None),
)
ax.legend()
show(fig)

# %% [markdown]
# ```{exercise}
# :label: ex-task-conflict-free
#
# Go down the list of frequent classes and skip every class that interacts with one already taken, until you hold 20.
# This constant list has a DDI rate of 0 for everybody.
# Guess what that safety costs in Jaccard, against the plain list of 20.
# ```
#
# ```{solution-start} ex-task-conflict-free
# :class: dropdown
# ```

# %%
free = reference_points.conflict_free(frequency, ddi, 20)
plain = (
    np.argsort(np.argsort(-frequency, kind="stable")) < free.sum()
)  # as many classes, without the rule
j_free, j_plain = (
    patient_mean(
        metrics.jaccard(truth, np.tile(chosen, (len(truth), 1))),
        records.patient_of_visit,
    )
    for chosen in (free, plain)
)
assert metrics.ddi_rate(free[None], ddi) == 0
show(
    {
        "classes": free.sum(),
        "Jaccard, plain": j_plain,
        "Jaccard, conflict-free": j_free,
        "DDI rate, plain": metrics.ddi_rate(plain[None], ddi),
    }
)

# %% [markdown]
# On this cohort Jaccard falls from {glue:text}`j_plain:.2f` to {glue:text}`j_free:.2f` (nobody is left out when the classes are counted, so both are slightly too good).
# A DDI rate of zero is cheap to print; what it takes away from patients stands in another column.
#
# ```{solution-end}
# ```
#
# ## Threshold and number of medications
#
# A score becomes a recommendation through a {term}`threshold` $\delta$:
#
# $$
# \hat Y_v(\delta) = \{\, i : p_{vi} \ge \delta \,\}, \qquad
# \overline{|\hat Y|} = \frac{1}{V} \sum_v |\hat Y_v| .
# $$ (eq-threshold)
#
# BiMoRec and NLA-MMR both set $\delta = 0.5$.
# The average number of medications is pooled over visits, like the DDI rate.

# %%
deltas = np.array([0.35, 0.5, 0.65, 0.8, 0.95])
sets = (p >= deltas[:, None]).astype(int)  # (n, i): one set for each threshold
number = sets.sum(1)
jaccards = metrics.jaccard(np.tile(y, (5, 1)), sets)
hits, of = metrics.ddi_counts(sets, A)
show(
    page.table(
        pl.DataFrame(
            {
                "threshold δ": deltas,
                "medications": number,
                "Jaccard ↑": jaccards,
                "interacting pairs": hits,
                "pairs": of,
            }
        ),
        caption="Visit v1 of the running example under five thresholds.",
        digits={"threshold δ": 2},
    )
)

# %% [markdown]
# Check: raising $\delta$ never adds a medication, while Jaccard goes both ways.
# At $\delta = .5$ the set is the one that {numref}`tab-running-example` shows.

# %%
assert (np.diff(number) <= 0).all()
assert not (np.diff(jaccards) <= 0).all()
assert not (np.diff(jaccards) >= 0).all()
np.testing.assert_allclose(jaccards, [3 / 5, 2 / 4, 2 / 3, 1 / 3, 0])
assert hits.tolist() == [3, 2, 1, 0, 0]
assert of.tolist() == [10, 3, 1, 0, 0]
assert (sets[1] == Yhat[0]).all()
print("number falls with δ; Jaccard peaks inside")

# %% tags=["hide-input"]
#| name: fig-threshold
#| alt: Three step charts over the threshold from 0 to 1 for visit v1: the number of medications falls from 5 to 0;
#|   Jaccard rises and falls with its peak 0.67 between 0.6 and 0.7; the DDI rate rises to 1 in the same interval and
#|   is 0 above it.
#| caption: Number of medications, Jaccard and DDI rate of visit v1 of the running example over the threshold (1
#|   visit, no interval). Notice that the best Jaccard and the worst DDI rate share a threshold.
delta = np.linspace(0, 1, 501)
swept = p >= delta[:, None]
hits_swept, of_swept = metrics.ddi_counts(swept, A)
panels = {
    "medications": swept.sum(1),
    "Jaccard ↑": metrics.jaccard(np.tile(y, (501, 1)), swept),
    "DDI rate ↓": hits_swept / np.maximum(of_swept, 1),
}
fig, axes = plt.subplots(1, 3, figsize=(plotting.FULL, 2.3), layout="constrained")
for ax, (label, values), colour in zip(
    axes,
    panels.items(),
    [plotting.INK, plotting.BLUE, plotting.VERMILION],
    strict=True,
):
    ax.step(delta, values, color=colour, where="post")
    ax.axvline(0.5, color=plotting.INK, linestyle=":", linewidth=1)
    ax.set(xlabel="threshold δ", ylabel=label)
show(fig)

# %% [markdown]
# ```{exercise}
# :label: ex-task-threshold
#
# You choose the threshold of v1 by Jaccard.
# Which of the five do you take, and what happens to safety?
# ```
#
# ```{solution-start} ex-task-threshold
# :class: dropdown
# ```

# %%
best = jaccards.argmax()
assert deltas[best] == 0.65
assert hits[best] / of[best] == max(h / o for h, o in zip(hits, of, strict=True) if o)
show((deltas[best], jaccards[best], hits[best] / of[best]))

# %% [markdown]
# The threshold .65 has the best Jaccard and the worst rate: its only pair interacts.
# One column cannot be tuned without a look at the others.
#
# ```{solution-end}
# ```

# %% [markdown]
# ## Putting it together
#
# {py:mod}`medrec.metrics` holds the functions of this page, one value per visit.
# {py:func}`medrec.evaluate` applies them to the recommended sets of any system and keeps sums for each patient.
# From these sums follow the five columns, under either average, and {term}`bootstrap` intervals over patients ({py:func}`medrec.bootstrap`).

# %%
evaluation = evaluate(toy, Yhat, A)
over_patients = evaluation.summary()
over_visits = replace(evaluation, aggregation="visits").summary()
np.testing.assert_allclose(
    [over_patients[name] for name in ("jaccard", "ddi_rate", "f1", "n_medications")],
    [J_patients, rate, F_patients, 2],
)
np.testing.assert_allclose(
    [over_visits["jaccard"], over_visits["f1"]], [J_visits, F.mean()]
)
heads = {"precision": "precision", "recall": "recall"} | COLUMNS
show(
    page.table(
        pl.DataFrame(
            [
                {"average": average}
                | {
                    head: summary[name]
                    for name, head in heads.items()
                    if name != "prauc"
                }
                for average, summary in (
                    ("over patients", over_patients),
                    ("over visits", over_visits),
                )
            ]
        ),
        caption=(
            "The running example under both averages, 2 patients, 3 visits. DDI rate "
            "and number are pooled in both."
        ),
        digits=4,
    )
)

# %% [markdown]
# ## Results: three reference points
#
# A system deserves attention when it beats programs that could not possibly understand the patient.
# This book uses three.
#
# - *Random*: $k$ of the $M$ classes, drawn blindly, with $k$ the average length of a prescription.
# - *Popularity*: one constant list of the $k$ most frequent classes; a patient's own visits count neither for the list nor for $k$.
# - *Last visit*: the medications of the visit before; it cannot answer first visits.
#
# For the random program no random number is needed.
# The number of hits $h$ among $k$ drawn of $M$ classes, $n$ of them true, is hypergeometric, and so
#
# $$
# \mathbb{E}[J] = \sum_{h} \frac{h}{k + n - h}\, \frac{\binom{n}{h}\binom{M - n}{k - h}}{\binom{M}{k}},
# \qquad
# \mathbb{E}[\mathrm{AP}] = \frac{1}{M}\Bigl[H_M + \frac{n - 1}{M - 1}\,(M - H_M)\Bigr],
# $$ (eq-random)
#
# with $H_M = \sum_{r=1}^{M} 1/r$.
# The second formula is for scores in random order {cite:p}`bestgen2015exact`.


# %%
def expected_jaccard(k, n, M):
    h = np.arange(max(0, k + n - M), min(k, n) + 1)
    return np.sum(hypergeom.pmf(h, M, n, k) * h / (k + n - h))


def expected_average_precision(n, M):
    H = np.sum(1 / np.arange(1, M + 1))
    return (H + (n - 1) / (M - 1) * (M - H)) / M


rng = np.random.default_rng(seed)
scores = rng.random((20_000, 131))
true_sets = np.tile(np.arange(131) < 19, (20_000, 1))
drawn = np.argsort(np.argsort(-scores, axis=1), axis=1) < 20
np.testing.assert_allclose(
    metrics.jaccard(true_sets, drawn).mean(),
    expected_jaccard(20, 19, 131),
    atol=0.001,
)
np.testing.assert_allclose(
    metrics.average_precision(true_sets, scores).mean(),
    expected_average_precision(19, 131),
    atol=0.002,
)
assert expected_jaccard(131, 19, 131) == 19 / 131  # recommend everything
random_published = expected_jaccard(20, 19, 131)
show(random_published)

# %% [markdown]
# Check passed: the closed forms agree with 20 000 simulated draws.
# So a random list of 20 of 131 classes, scored against 19 true ones, reaches a Jaccard of {glue:text}`random_published:.3f`.
# There are 131 classes in BiMoRec's tables; BiMoRec recommends {glue:text}`n_bimorec:.1f` of them on MIMIC-III, which is rounded here; and 19 is our guess at the true number, whose printed average is too low ({doc}`02_from_tables_to_visits`).


# %% tags=["hide-input"]
def with_interval(row, name, digits):
    """Value and interval in one cell that does not break."""
    if row[name] is None:
        return None
    return f"{row[name]:.{digits}f} [{row[f'{name} low']:.{digits}f},\u00a0{row[f'{name} high']:.{digits}f}]".replace(
        " ", "\u00a0"
    )


def block(names, digits):
    """One row for each program and kind of visit."""
    return pl.DataFrame(
        [
            {"program": f"{row['system']}, {row['scored']}"}
            | {name: with_interval(row, name, digits) for name in names}
            for row in here.values()
        ]
    )


show(
    page.table(
        block(["Jaccard", "F1", "PRAUC"], 3).filter(pl.col("Jaccard").is_not_null()),
        caption=f"Accuracy of the reference points on {page.cohort_line(records)}, averaged over patients. In brackets: 95 % "
        "bootstrap interval over patients. Later visits: all but the first of each patient. A dash: no ranking to mark.",
    )
)

# %% tags=["hide-input"]
show(
    page.table(
        block(["DDI rate", "medications"], 3),
        caption=f"DDI rate (fraction of pairs) and average number of medications of the reference points, and of what was "
        f"prescribed, on {page.cohort_line(records)}, pooled over visits. In brackets: 95 % bootstrap interval over patients. "
        "Interactions: this book's own list.",
    )
)

# %% [markdown]
# Read the two kinds of visits apart.
# A program that skips first visits is marked on other visits, so its row may only be compared with rows of the same kind.
# Read the two averages of {eq}`eq-two-means` apart, too.

# %% tags=["hide-input"]
copies = {
    name: row
    for name, points in all_points.items()
    for row in points.filter(system="last visit").iter_rows(named=True)
}
returning = {name: (row["patients"], row["visits"]) for name, row in copies.items()}
if records.name in copies:  # closed records: no small number of people
    returning[records.name] = (
        privacy.count(records, returning[records.name][0], of=records.n_patients),
        privacy.count(records, returning[records.name][1], of=records.n_visits),
    )
show(
    page.table(
        pl.DataFrame(
            [
                {
                    "records": name,
                    "patients who return": page.thousands(returning[name][0]),
                    "their later visits": page.thousands(returning[name][1]),
                    "over patients": row["Jaccard"],
                    "over visits": row["Jaccard over visits"],
                }
                for name, row in copies.items()
            ]
        ),
        caption="Jaccard of the last visit under both averages, later visits only; no intervals. "
        f"{stored_note}",
        name="tab-last-visit",
    )
)

# %% [markdown]
# On the MIMIC-III demo the average over visits is the {glue:text}`m3_order` one, by {glue:text}`m3_gap:.3f`.
# The two part only where patients with many visits score otherwise than patients with few: there, copying works {glue:text}`m3_success` for those who return often.
# Who they are the kept rows do not show; the records of the demo do.
# {glue:text}`own_averages`

# %% tags=["hide-input"]
#| name: fig-reference-points
#| alt: Dot chart with one panel for each cohort and one row for each reference point, Jaccard on the horizontal axis
#|   with intervals. In every panel the blind draw lies near 0.1, far left of popularity and last visit, which lie
#|   between 0.3 and 0.6; the panels of the two demos have much wider intervals.
#| caption: Jaccard of the reference points, {glue:text}`caption_points`. Bars: 95 % bootstrap intervals over
#|   patients. On later visits the intervals of popularity and of the last visit {glue:text}`apart`. Both
#|   programs are marked on the same visits, so that overlap alone does not show that they are alike.
fig, axes = plt.subplots(
    1,
    len(all_points),
    figsize=(plotting.FULL, 2.6),
    sharey=True,
    layout="constrained",
    squeeze=False,
)
for ax, (name, points) in zip(axes[0], all_points.items(), strict=True):
    drawn = points.filter(pl.col("system") != "prescribed").sort("scored", "system")
    plotting.plot_intervals(
        ax,
        [f"{row['system']}, {row['scored']}" for row in drawn.iter_rows(named=True)],
        drawn["Jaccard"].to_list(),
        list(zip(drawn["Jaccard low"], drawn["Jaccard high"], strict=True)),
    )
    ax.set(xlabel=f"Jaccard ↑, {name}", xlim=(0, 0.75))
show(fig)

# %% [markdown]
# ## From the papers
#
# The two main tables print these columns for the systems that the later chapters build.
# This page looks at the columns and leaves the systems alone; they are discussed one by one from chapter 06 on.

# %%
M_published = published.fact(
    "safedrug_medications"
)  # classes of SafeDrug's matrix, and of BiMoRec's tables
all_pairs = M_published * (M_published - 1) / 2
random_ddi = published.fact("safedrug_ddi_pairs") / all_pairs
show(random_ddi)

# %% tags=["hide-input"]
DECIMALS = {"Jaccard": 4, "DDI rate": 4, "F1": 4, "PRAUC": 4, "medications": 1}
ranges = pl.DataFrame(
    [
        {"printed": f"{paper}, {database}"}
        | {
            name: None
            if rows[name].null_count() == len(rows)
            else f"{rows[name].min():.{digits}f}\u2060–\u2060{rows[name].max():.{digits}f}"
            for name, digits in DECIMALS.items()
        }
        for (paper, database), rows in printed.group_by(
            "paper", "database", maintain_order=True
        )
    ]
)
show(
    page.table(
        ranges,
        caption="Lowest and highest printed value of each column over the eleven systems of BiMoRec's and of NLA-MMR's table 2. "
        "Test patients of cohorts that differ between the papers; NLA-MMR prints neither DDI rate nor number there, and shows "
        "its DDI rates in a figure, as differences to the prescribed rate.",
    )
)

# %% tags=["hide-input"]
#| name: fig-published-columns
#| alt: Scatter plot of DDI rate against Jaccard. The eleven printed systems form two clusters, at Jaccard 0.45 to
#|   0.54 for MIMIC-III and 0.42 to 0.49 for MIMIC-IV, with DDI rates between 0.06 and 0.094. A blind draw lies far
#|   left and lower than every one of them. Systems of MIMIC-III whose marks touch are named beside them. Two vertical
#|   lines mark the Jaccard of popularity on all visits and of the last visit on later visits of this page's cohort;
#|   they stand just left of the cluster of MIMIC-III.
#| caption: Printed Jaccard and DDI rate of BiMoRec's table 2 (filled: MIMIC-III; hollow: MIMIC-IV; no intervals are
#|   printed), with a blind draw of 20 of 131 classes under the same interaction list. Names stand beside systems of
#|   MIMIC-III whose marks touch. The axis of the DDI rate does not start at 0. Vertical lines: Jaccard of two
#|   reference points on {glue:text}`cohort_line`; bands: 95 % bootstrap intervals over patients. The last visit is
#|   marked on later visits alone, where popularity reaches {glue:text}`pop_later`; most of the printed systems are
#|   marked on all visits. Rates of the two, under another list, are left out. Cohorts differ, so only the order of
#|   magnitude may be read across.
fig, ax = plt.subplots(figsize=(plotting.FULL, 3.6), layout="constrained")
for row in printed.filter(pl.col("paper") == "BiMoRec").iter_rows(named=True):
    look = plotting.look(row["system"])
    third = row["database"] == "MIMIC-III"
    ax.plot(
        row["Jaccard"],
        row["DDI rate"],
        look.marker,
        color=look.color,
        linestyle="none",
        fillstyle="full" if third else "none",
        label=look.label if third else None,
    )
for names, at in (("MICRON, MoleRec", 1), ("CausalMed, BiMoRec", -6)):
    last = printed.row(
        by_predicate=(pl.col("paper") == "BiMoRec")
        & (pl.col("database") == "MIMIC-III")
        & (pl.col("system") == names.split(", ")[1]),
        named=True,
    )
    ax.annotate(
        names,
        (last["Jaccard"], last["DDI rate"]),
        xytext=(7, at),
        textcoords="offset points",
        fontsize=7,
    )
ax.plot(random_published, random_ddi, "x", color=plotting.INK)
ax.annotate(
    "blind draw of 20 of 131",
    (random_published, random_ddi),
    xytext=(6, 4),
    textcoords="offset points",
    fontsize=8,
)
for key, style in (
    (("all visits", "popularity"), "--"),
    (("later visits", "last visit"), "-."),
):
    if key in here:
        row = here[key]
        ax.axvspan(
            row["Jaccard low"],
            row["Jaccard high"],
            color=plotting.INK,
            alpha=0.2,
            linewidth=0,
        )
        ax.axvline(
            row["Jaccard"],
            color=plotting.INK,
            linestyle=style,
            linewidth=1,
            label=f"{key[1]},\n{key[0]}, this page",
        )
ax.set(
    xlabel="Jaccard ↑",
    ylabel="DDI rate ↓ (fraction of pairs)",
    xlim=(0, 0.7),
    ylim=(0.045, 0.1),
)
fig.legend(loc="outside right center", fontsize=8)
show(fig)


# %% tags=["remove-cell"]
bimorec_iii = printed.filter(
    (pl.col("paper") == "BiMoRec") & (pl.col("database") == "MIMIC-III")
)
odd = above.row(0, named=True)
assert len(above) == 1
assert (odd["system"], odd["database"]) == ("ECC", "MIMIC-IV")
lone, several = metrics.ddi_counts(truth, ddi)
lowest = printed.filter(pl.col("DDI rate") == printed["DDI rate"].min())
m3 = stored_points["mimic3-demo"].row(
    by_predicate=pl.col("system") == "last visit", named=True
)
m3_gap = m3["Jaccard over visits"] - m3["Jaccard"]
if records.name not in copies:
    own_averages = f"On {records.name}, nobody returns."
else:
    a, b = (
        f"{copies[records.name][k]:.3f}" for k in ("Jaccard", "Jaccard over visits")
    )
    own_averages = f"On {records.name}, the two averages " + (
        "agree to three digits." if a == b else f"differ: {a} and {b}."
    )
pairs_apart = {"lie apart on": [], "overlap on": []}
for name, points in all_points.items():
    later = {
        row["system"]: row
        for row in points.filter(scored="later visits").iter_rows(named=True)
    }
    if later:
        one, two = later["popularity"], later["last visit"]
        disjoint = (
            one["Jaccard high"] < two["Jaccard low"]
            or two["Jaccard high"] < one["Jaccard low"]
        )
        pairs_apart["lie apart on" if disjoint else "overlap on"].append(name)
apart = " and ".join(
    f"{verb} {' and '.join(names)}" for verb, names in pairs_apart.items() if names
)
printed_truths = [
    published.fact("bimorec_true_ddi_rate"),
    published.fact("nlammr_true_ddi_rate_mimic3"),
]
assert random_ddi < min(*printed_truths, lowest["DDI rate"][0])
pop = {
    name: points.row(
        by_predicate=(pl.col("system") == "popularity")
        & (pl.col("scored") == "all visits"),
        named=True,
    )
    for name, points in (all_points | stored_points).items()
}
older = {}
if stored_note:
    older = dict.fromkeys(stored_points, f", {stored_note.rstrip('.').lower()}")
    older.pop(records.name, None)  # counted just now
page.glue(
    cohort_line=page.cohort_line(records),
    caption_curve=page.about(
        records,
        "; ".join(
            f"{name} ({page.thousands(pop[name]['patients'])} patients, {page.thousands(pop[name]['visits'])} visits{older.get(name, '')})"
            for name in curves
        ),
    ),
    caption_points=page.about(
        records,
        "; ".join(
            f"{name} ({page.thousands(pop[name]['patients'])} patients, {page.thousands(returning[name][0]) if name in returning else 'none'} of them with later visits{older.get(name, '')})"
            for name in all_points
        ),
    ),
    first_iii=shares["MIMIC-III"],
    first_iv=shares["MIMIC-IV"],
    n_pairs=len(printed),
    above_system=page.about(records, odd["system"]),
    above_database=page.about(records, odd["database"]),
    above_paper=page.about(records, odd["paper"]),
    above_j=odd["Jaccard"],
    above_f=odd["F1"],
    above_limit=f(odd["Jaccard"]),
    ap_toy=AP,
    ap_trapezoid=trapezoid,
    toy_edges=A.sum() // 2,
    toy_pairs=M * (M - 1) // 2,
    j_plain=j_plain,
    j_free=j_free,
    n_free=free.sum(),
    random_published=random_published,
    j_random=here["all visits", "random"]["Jaccard"],
    j_popularity=here["all visits", "popularity"]["Jaccard"],
    j_low=bimorec_iii["Jaccard"].min(),
    j_high=bimorec_iii["Jaccard"].max(),
    j_pop_mimic3=pop["mimic3-demo"]["Jaccard"],
    j_pop_mimic4=pop["mimic4-demo"]["Jaccard"],
    m3_visits=m3["Jaccard over visits"],
    m3_patients=m3["Jaccard"],
    m3_gap=abs(m3_gap),
    m3_order=page.about(records, "higher" if m3_gap > 0 else "lower"),
    m3_success=page.about(records, "better" if m3_gap > 0 else "worse"),
    own_averages=page.about(records, own_averages),
    apart=page.about(records, apart),
    records_name=page.about(records, records.name),
    frequent_word=page.about(
        records,
        "more often than"
        if here["all visits", "popularity"]["DDI rate"]
        > here["all visits", "random"]["DDI rate"]
        else "no more often than",
    ),
    pop_later=page.about(
        records,
        f"{here[key]['Jaccard']:.3f}"
        if (key := ("later visits", "popularity")) in here
        else "nothing, because nobody returns",
    ),
    n_bimorec=bimorec_iii.row(by_predicate=pl.col("system") == "BiMoRec", named=True)[
        "medications"
    ],
    toy_days=float(toy.days_since_previous[1]),
    ddi_pairs=int(published.fact("safedrug_ddi_pairs")),
    all_pairs=page.thousands(int(all_pairs)),
    random_ddi=random_ddi,
    lowest_ddi=lowest["DDI rate"][0],
    lowest_database=page.about(records, lowest["database"][0]),
    bimorec_truth=printed_truths[0],
    nla_truth=printed_truths[1],
    true_rate=here["all visits", "prescribed"]["DDI rate"],
    above_phi=(
        lone[several > 0] / several[several > 0]
        > published.fact("bimorec_accepted_ddi_rate")
    ).mean(),
    above_20=privacy.share(records, truth.sum(1) > 20),
)

# %% [markdown]
# :::{admonition} Is a DDI rate below the prescribed one evidence of safety?
# :class: verdict
# No.
# SafeDrug's published matrix joins {glue:text}`ddi_pairs` of {glue:text}`all_pairs` pairs of 131 classes {cite}`yang2021safedrug`, so a blind draw has an expected rate of {glue:text}`random_ddi:.4f`.
# The lowest rate in BiMoRec's table is {glue:text}`lowest_ddi:.4f`; for what was prescribed on MIMIC-III, BiMoRec names about {glue:text}`bimorec_truth:.0%`, and NLA-MMR prints {glue:text}`nla_truth:.4f`.
# The blind draw lies below all three, though the papers do not say under which list the two prescribed rates were counted.
# A rate says something about a system only beside its Jaccard, its number of medications, and the rate of the prescribed sets.
# :::
#
# :::{admonition} How far is a Jaccard of {glue:text}`j_high:.2f` from a constant list?
# :class: verdict
# The papers do not print a constant list, and numbers of two cohorts must not be subtracted.
# On the cohort of this page the constant list reaches {glue:text}`j_popularity:.2f` and a blind draw {glue:text}`j_random:.2f`; on the two open MIMIC demos the list reaches {glue:text}`j_pop_mimic3:.2f` and {glue:text}`j_pop_mimic4:.2f`.
# If the full cohorts resemble their demos, most of the way from nothing to the best printed value is covered without reading the diagnosis.
# The way to know is to run the list on the same test patients, which {doc}`13_bimorec_results` does.
# :::
#
# :::{admonition} Which row cannot be right?
# :class: verdict
# {glue:text}`above_system` on {glue:text}`above_database` in the table of {glue:text}`above_paper`: F1 {glue:text}`above_f:.4f` above the ceiling {glue:text}`above_limit:.4f`.
# This is a result on the printed tables; per-visit values of that run would overturn or explain it.
# :::
#
# ## The audit
#
# ### How exact a printed mean is
#
# The gap between $f(\bar J)$ and $\bar F$ of a printed row estimates how far Jaccard spreads between visits, by {eq}`eq-jensen`, and so the standard error of its mean.

# %% tags=["hide-input"]
iii = printed.filter(
    (pl.col("paper") == "BiMoRec") & (pl.col("database") == "MIMIC-III")
)
J_of = dict(zip(iii["system"], iii["Jaccard"], strict=True))
gap_of = dict(zip(iii["system"], f(iii["Jaccard"]) - iii["F1"], strict=True))
sd = np.sqrt(gap_of["BiMoRec"] * (1 + J_of["BiMoRec"]) ** 3 / 2)
n_test = round(bimorec_data["patients"][0] / 6)
assert abs(sd - 0.127) < 0.0005
others = [gap for system, gap in gap_of.items() if system != "COGNet"]
show(
    page.table(
        pl.DataFrame(
            {
                "quantity": [
                    "BiMoRec: gap",
                    "BiMoRec: standard deviation between visits",
                    "BiMoRec: standard error of the mean, at most",
                    "BiMoRec: lead over CausalMed",
                    "COGNet: gap",
                    "median gap of the other ten",
                ],
                "value": [
                    gap_of["BiMoRec"],
                    sd,
                    sd / np.sqrt(n_test),
                    J_of["BiMoRec"] - J_of["CausalMed"],
                    gap_of["COGNet"],
                    np.median(others),
                ],
            }
        ),
        digits=4,
        caption=f"What the gap tells of BiMoRec's table 2 on MIMIC-III, with {page.thousands(n_test)} test patients, one "
        f"sixth of {page.thousands(bimorec_data['patients'][0])}. Computed from printed values.",
    )
)

# %% [markdown]
# {doc}`00_how_to_read` says what follows from such a standard error beside such a lead, and what does not.
# A wide gap, like COGNet's, says that Jaccard differs more between visits, or that the two columns were averaged differently.
#
# ### What the papers do not say
#
# - **Which average is printed.**
#   The released code of the GAMENet line, BiMoRec included, averages over patients; the code of LR and ECC in that line averages over visits, and NLA-MMR over batches of visits.
# - **When the "current" diagnoses are known.**
#   ICD codes are assigned for billing after the patient has left hospital {cite}`johnson2016mimic3,omalley2005measuring`.
#   At the moment of prescribing, the list of diagnoses that every system here reads as input does not exist yet.
#   All systems of this book share this, but those that lean on the codes most may gain most, so that even their ranking may be disturbed.
#   And none of them has been tested as a tool at the bedside.
# - **Which rate practice has.**
#   BiMoRec puts the true rate of MIMIC-III at about {glue:text}`bimorec_truth:.0%`, citing SafeDrug; NLA-MMR prints {glue:text}`nla_truth:.4f`.
#   BiMoRec's accepted rate is $\phi = 0.06$, so training pushes below what NLA-MMR measures in practice.
#   On the cohort of this page, with this book's own list of interactions, the prescribed sets have a rate of {glue:text}`true_rate:.3f`, and {glue:text}`above_phi:.0%` of the visits that hold a pair lie above .06.
#   A rate depends on the list as much as on the prescriptions, so a fixed $\phi$ means little without its list.
# - **What the target is.**
#   Whole-stay prescriptions include drugs that were given because of something that happened later in the stay.
#   Chapter 02 compares the first day with the whole stay.
# - **Who is scored.**
#   In the released code, RETAIN and MICRON are not scored on first visits, and LEAP stops after 20 medications; on this cohort {glue:text}`above_20:.0%` of the visits hold more than 20 classes.
# - **What counts as a medication.**
#   Saline that carries another drug maps to mineral supplements (A12C) in the published mapping.
#   This book excludes such carriers, and chapter 02 counts them.
#
# ### Misconceptions
#
# "F1 adds information to Jaccard."
# : In one visit it adds none, {eq}`eq-f1`; between averages it adds the spread, {eq}`eq-jensen`.
#
# "A Jaccard near .5 is a coin toss."
# : A blind draw of the usual length reaches {glue:text}`random_published:.2f`.
#
# "The average of the rates is the rate."
# : On the running example the mean over visits, the mean over visits with a pair, the mean over patients and the pooled rate are four different numbers.
#
# "The target set is the best therapy."
# : It is what was prescribed; the records do not say what would have been better.
#
# ## Summary
#
# - An instance is a visit: earlier medications, and the diagnoses and procedures up to now, are given; the medications of the visit are hidden. First visits have no history.
# - Jaccard, F1 and PRAUC have one value per visit; DDI rate and average number of medications are pooled. All five can be computed by hand with a few sums over 0/1 vectors.
# - An average over visits follows the patients who return most often; an average over patients does not. The same predictions on the MIMIC-III demo score {glue:text}`m3_visits:.3f` under one and {glue:text}`m3_patients:.3f` under the other.
# - No average of F1 exceeds $2\bar J/(1 + \bar J)$. One printed row does.
# - A blind draw, a constant list and the last visit belong beside every system, on the same visits, with an interval.
#
# ## Exercises
#
# ```{exercise}
# :label: ex-task-drop
#
# Drop visit v3 from the running example.
# Compute Jaccard, F1, DDI rate and average number of medications over patients (or pooled) by hand.
# ```
#
# ```{solution-start} ex-task-drop
# :class: dropdown
# ```

# %%
two = slice(0, 2)
dropped = {
    "Jaccard": patient_mean(metrics.jaccard(Y[two], Yhat[two]), patient[two]),
    "F1": patient_mean(metrics.f1(Y[two], Yhat[two]), patient[two]),
    "DDI rate": metrics.ddi_rate(Yhat[two], A),
    "average number": Yhat[two].sum(1).mean(),
}
np.testing.assert_allclose(list(dropped.values()), [0.75, 5 / 6, 0.5, 2.5])
show(dropped)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-task-same-jaccard
#
# Find a recommended set for v1 with the same Jaccard as the given one and no interacting pair.
# ```
#
# ```{solution-start} ex-task-same-jaccard
# :class: dropdown
# ```

# %%
other = np.isin(classes, ["A06A", "B01A", "C03C"])[None]
assert metrics.jaccard(Y[:1], other) == metrics.jaccard(Y[:1], Yhat[:1]) == 0.5
show(metrics.ddi_counts(other, A))

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-task-proof
#
# Prove that F1 is never below Jaccard, and that the inequality {eq}`eq-jensen` holds.
# ```
#
# ```{solution} ex-task-proof
# :class: dropdown
#
# For $0 \le J \le 1$ we have $1 + J \le 2$, so $f(J) = 2J/(1+J) \ge J$; averaging keeps the sign.
# The second derivative is $f''(J) = -4/(1+J)^3 < 0$, so $f$ is concave and Jensen's inequality gives $\sum_v w_v f(J_v) \le f(\sum_v w_v J_v)$ for weights that are non-negative and sum to 1.
# The second-order term of a Taylor expansion around $\bar J$ is $\tfrac12 f''(\bar J) \operatorname{Var}(J)$, which is the stated gap.
# ```
#
# ```{exercise}
# :label: ex-task-order
#
# Which of the five columns notices the order in which the medications of $\hat Y$ are listed?
# ```
#
# ```{solution} ex-task-order
# :class: dropdown
#
# None: four of them see a set.
# PRAUC sees the scores, so it notices their order, and it does not notice which threshold made the set.
# ```
#
# ### Quiz
#
# ```{dropdown} What is hidden in instance t?
# The medications of visit $t$, and everything that comes after it.
# ```
#
# ```{dropdown} Why can a subset have a higher DDI rate than the whole set?
# The rate is a quotient of pair counts; leaving out medications that interact with nothing removes pairs from the denominator only.
# ```
#
# ```{dropdown} Which average gives a patient with 20 visits more weight?
# The average over visits: 20 times the weight of a patient with one visit.
# ```
#
# ## References
#
# - {cite:t}`mu2024bimorec`: the problem definition, and the printed columns of its table 2.
# - {cite:t}`tan2024nlammr`: the printed columns of its table 2, and the rate of the prescribed sets.
# - {cite:t}`yang2021safedrug`: the number of interacting pairs among 131 classes, and the metrics as released.
# - {cite:t}`bestgen2015exact`: the expected average precision of a random ranking.
# - {cite:t}`johnson2016mimic3` and {cite:t}`omalley2005measuring`: when and why ICD codes are assigned.
