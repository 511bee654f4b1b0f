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
# # What a number in this book is worth
#
# Two systems were tried on the same six patients.
# The second is better by one hundredth, and the bars around the two numbers overlap almost wholly.
# One reader says that nothing was found; another says that nothing on this page is more certain.
# When two numbers stand side by side, what must be true before one may be called better?
#
# ```{admonition} Objectives
# :class: objectives
# After this chapter you can
# - *trace* a printed number to its run, configuration and seed.
# - *compute* a bootstrap standard error by hand and say what it leaves out.
# - *tell apart* the spread between seeds and the spread between patients.
# - *decide* with a seven-point check-list whether two numbers may be compared.
# - *re-run* a chapter with another parameter.
# ```
#
# **Prerequisites.** Mean, standard deviation, reading a Python cell. No medicine, no deep learning.
#
# **Code.** {py:mod}`medrec.tasks.evaluation` and {py:mod}`medrec.lab.kept`.

# %% tags=["hide-input"]
from functools import partial

import numpy as np
import polars as pl
from matplotlib import pyplot as plt

from medrec import plotting
from medrec.book import page
from medrec.data import load_cohort, privacy
from medrec.experiments import reference_points
from medrec.knowledge.interactions import ddi_matrix
from medrec.lab import published
from medrec.tasks.evaluation import bootstrap
from medrec.tasks.visits import HOUSE

plotting.use_style()
np.set_printoptions(legacy="1.25")

# %% tags=["parameters", "hide-input"]
seed: int = 0  # seed of the resampling
cohort: str = "synthetic"  # any cohort that medrec.data.load_cohort knows
device: str = "cpu"  # cpu or cuda; nothing here needs more than cpu
profile: str = "quick"  # quick: minutes on a laptop; full: the sizes of the papers

# %% tags=["hide-input"]
records = load_cohort(cohort)
show = partial(privacy.show, records)  # closed records: aggregates only
page.at_a_glance(
    {"seed": seed, "cohort": cohort, "device": device, "profile": profile},
    paper="BiMoRec, table 2, and NLA-MMR, table 2: how to read their numbers",
    data=page.about(
        records,
        f"six patients written on this page; one result on {page.cohort_line(records)}",
    ),
    learned="nothing; a list of frequent classes is counted",
    full_run="the same as here",
)


# %% tags=["hide-input"]
def by_database(table, column):
    """Printed values of a table 2, by database and system."""
    return {
        database: dict(zip(rows["system"], rows[column], strict=True))
        for (database,), rows in table.group_by("database", maintain_order=True)
    }


table_bimorec, table_nlammr = (
    published.table("bimorec", 2),
    published.table("nlammr", 2),
)
jaccard, jaccard_nlammr = (
    by_database(table_bimorec, "Jaccard"),
    by_database(table_nlammr, "Jaccard"),
)
f1_bimorec = by_database(table_bimorec, "F1")["MIMIC-III"]["BiMoRec"]
deviations = by_database(table_nlammr, "Jaccard ±")["MIMIC-III"]
sizes = {
    "BiMoRec": published.table("bimorec", 1),
    "NLA-MMR": published.table("nlammr", 1),
}
sizes = {
    paper: table.row(by_predicate=pl.col("database") == "MIMIC-III", named=True)
    for paper, table in sizes.items()
}
cost = published.table("bimorec", 3)
safedrug_epoch = cost.filter(pl.col("system") == "SafeDrug")["convergence epoch"].item()

# %% [markdown]
# Two papers of the same year report the {term}`Jaccard` of a system on a database called MIMIC-III.
# {cite:t}`mu2024bimorec` print {glue:text}`j_bimorec:.4f`, {cite:t}`tan2024nlammr` print {glue:text}`j_nlammr:.4f`.
# Which system recommends better?
# Nobody can say.
# One paper has {glue:text}`m_bimorec` medication classes and {glue:text}`p_bimorec` patients, the other {glue:text}`m_nlammr` and {glue:text}`p_nlammr`.
# One keeps patients with a single {term}`visit`, the other drops them.
# One averages over patients, the other over batches of visits.
# One prints a ±, the other does not.
# The name of the database is the same; the exam is not.
#
# ## One result, label by label
#
# Every result of this book carries the labels of the next table.
# It is the answer to "where does this number come from?", so read one in full before you read many.

# %% tags=["hide-input"]
ddi = ddi_matrix(records.vocab["medication"].codes)
result = reference_points.evaluations(records, ddi)["popularity"]
interval = bootstrap(result, seed=seed)["jaccard"]
counted = result.summary()
show(
    page.table(
        pl.DataFrame(
            [
                (
                    "the number",
                    f"Jaccard {interval.value:.3f}",
                    "three digits, because the interval leaves no more",
                ),
                (
                    "interval",
                    f"{interval.low:.3f} to {interval.high:.3f}",
                    "95 % bootstrap over patients; no spread of seeds, as nothing is trained",
                ),
                (
                    "system",
                    "popularity",
                    "one list of the most frequent classes, the same for everybody",
                ),
                (
                    "cohort",
                    records.name,
                    "the name under which anybody can load it",
                ),
                (
                    "source",
                    records.source,
                    "synthetic, demo (open), or credentialed",
                ),
                (
                    "scored",
                    f"{page.thousands(counted['patients'])} patients, {page.thousands(counted['visits'])} visits",
                    "every patient with the list of the others",
                ),
                (
                    "protocol",
                    HOUSE.name,
                    f"mean over {HOUSE.aggregation}: visits of a patient first, then patients",
                ),
                (
                    "run key",
                    "none: computed on this page",
                    "a trained system names its run: cohort/model/variant/seedN",
                ),
                ("cost", "below a second", "a trained system: minutes, machine"),
                (
                    "made with",
                    f"seed = {seed}",
                    "parameters and versions stand in the card at the top",
                ),
            ],
            schema=["label", "here", "what it tells"],
            orient="row",
        ),
        caption=f"One result with all its labels, on {page.cohort_line(records)}.",
    )
)

# %% [markdown]
# A run key is a folder: `runs/synthetic/retain/paper/seed0` holds the resolved configuration, the metrics, one row for each test patient, the history of the training, the weights, and the versions and machine that made them.
# A table that names its run key can be traced to the line of the configuration; one row for each patient lets anybody compute another interval.
#
# ```{exercise}
# :label: ex-read-trace
#
# Which of these labels would change if you trained the same system again, and which if the same system was tested on other patients?
# ```
#
# ```{solution} ex-read-trace
# :class: dropdown
#
# Training again changes the seed in the run key, the value, and with it the interval; patients, visits and the split stay.
# Other test patients change the patients and visits scored, the value and its interval; with another split the split seed changes too.
# ```
#
# ## The problem on six patients
#
# Six invented patients were scored by two systems, A and B.
# B does as well as A on two of them, and a little better on four.

# %%
A = np.array(
    [0.30, 0.45, 0.50, 0.60, 0.65, 0.80]
)  # Jaccard of each patient under system A
B = A + np.array([0.01, 0.02, 0.00, 0.01, 0.02, 0.00])
n = len(A)
seeds_a = np.array([0.548, 0.552, 0.550])  # mean Jaccard of A after three trainings
seeds_b = np.array([0.556, 0.560, 0.564])
show(
    page.table(
        pl.DataFrame(
            {
                "system": ["A", "B"],
                **{f"patient {i + 1}": [A[i], B[i]] for i in range(n)},
                "mean": [A.mean(), B.mean()],
            }
        ),
        caption="Jaccard of six invented patients, two systems, one training each.",
        digits=2,
    )
)

# %% [markdown]
# ## The spread of a mean
#
# With other patients the mean would have come out differently.
# How differently?
# The {term}`bootstrap` answers with the patients at hand: draw $m$ of the $n$ patients with replacement, average, and repeat {cite:p}`efron1993bootstrap`.
# The standard deviation of these averages has a closed form:
#
# $$
# \mathrm{SE}^{*} = \frac{s_n}{\sqrt{m}}, \qquad s_n^2 = \frac1n \sum_{i=1}^{n} (x_i - \bar x)^2 .
# $$ (eq-bootstrap-se)
#
# Note the divisor $n$, not $n - 1$: the bootstrap treats the six patients as the whole world.
# The equation is a textbook one; BiMoRec names the bootstrap without a formula, and NLA-MMR prints ± without naming it.

# %%
rng = np.random.default_rng(seed)
draws = rng.integers(0, n, size=(200_000, n))  # (b, i): the i-th draw of resample b
means = A[draws].mean(axis=1)
s_n = np.sqrt(np.mean((A - A.mean()) ** 2))
closed_form = s_n / np.sqrt(n)
show((closed_form, means.std()))

# %% [markdown]
# Check the simulation against the closed form, and a limit: identical patients have no spread.
# Then break the one word that matters.
# *Without* replacement, $m = n$ draws are the same six patients every time, and the spread is exactly zero.
# One released baseline of the field resamples in that way, with fewer draws than patients, and so prints a ± that is too small.

# %%
np.testing.assert_allclose(closed_form, 0.06455, atol=5e-6)
assert abs(means.std() - closed_form) < 1e-3
assert np.full(n, 0.55)[draws].mean(axis=1).std() < 1e-12

without = np.array([rng.permutation(A).mean() for _ in range(1000)])
assert without.std() < 1e-12
print("with replacement: simulation and closed form agree; without: no spread at all")

# %% tags=["hide-input"]
#| name: fig-bootstrap-means
#| alt: Histogram of 200 000 resampled means of six Jaccard values with a bell curve on top. The histogram follows the
#|   curve, is centred on 0.55, and has nearly all of its mass between 0.35 and 0.75.
#| caption: Resampled means of the six invented patients under system A. The curve is a normal density with the
#|   standard deviation of {eq}`eq-bootstrap-se`, {glue:text}`se_closed:.4f`. Notice how far apart the means of six
#|   patients can lie.
fig, ax = plt.subplots(figsize=(plotting.ONE_COLUMN, 2.7))
ax.hist(
    means,
    bins=np.arange(0.3, 0.81, 0.025) - 0.0125,
    density=True,
    color=plotting.SKY,
    label="200 000 resamples",
)
x = np.linspace(0.3, 0.8, 300)
ax.plot(
    x,
    np.exp(-(((x - A.mean()) / closed_form) ** 2) / 2)
    / (closed_form * np.sqrt(2 * np.pi)),
    color=plotting.VERMILION,
    label="normal, closed form",
)
ax.set(xlabel="mean Jaccard of a resample", ylabel="density")
ax.legend()
show(fig)

# %% [markdown]
# ```{exercise}
# :label: ex-read-bootstrap-size
#
# The released code of the field draws round(0.8 n) patients.
# Predict, before you compute, whether its ± is larger or smaller than that of a full-size bootstrap, and by which factor for six patients and for many.
# ```
#
# ```{solution-start} ex-read-bootstrap-size
# :class: dropdown
# ```

# %%
m = round(0.8 * n)
smaller_draw = s_n / np.sqrt(m)
np.testing.assert_allclose(
    [m, smaller_draw, smaller_draw / closed_form], [5, 0.07071, 1.0954], atol=1e-4
)
many = round(sizes["BiMoRec"]["patients"] / 6)
m_many = round(0.8 * many)
show(
    (
        m,
        smaller_draw,
        smaller_draw / closed_form,
        many,
        m_many,
        np.sqrt(many / m_many),
    )
)

# %% [markdown]
# Larger: fewer draws, more spread.
# The factor is $\sqrt{n/m}$, which tends to $\sqrt{1.25} \approx 1.118$.
#
# ```{solution-end}
# ```
#
# ## The spread of a difference
#
# Two systems that are scored on the same patients share the easy and the hard ones.
# So look at the difference of each patient, $d_i = B_i - A_i$, and resample that:
#
# $$
# \mathrm{SE}_{\text{pair}} = \frac{s_n(d)}{\sqrt n}
# \qquad\text{instead of}\qquad
# \mathrm{SE}_{\text{unpaired}} = \sqrt{\mathrm{SE}_A^2 + \mathrm{SE}_B^2} .
# $$ (eq-paired-se)
#
# Neither paper prints a paired difference, because that needs the values of each patient.

# %%
d = B - A
d_means = d[draws].mean(
    axis=1
)  # one index matrix for both systems: the pairs stay together
paired = d.std() / np.sqrt(n)
unpaired = np.sqrt((A.var() + B.var()) / n)
show((d.mean(), paired, unpaired, unpaired / paired))

# %% [markdown]
# Check by simulation, and by a probability that can be counted.
# A resample has a mean difference of zero when all six draws hit the two patients without a difference: $(2/6)^6$.
# Then break the pairing: shuffle the patients of B, and the advantage drowns although both lists of values are unchanged.

# %%
np.testing.assert_allclose(
    [d.mean(), paired, unpaired], [0.01, 0.00333, 0.0907], atol=5e-5
)
assert abs(d_means.std() - paired) < 1e-4
assert (d_means > -1e-12).all()
np.testing.assert_allclose((d_means > 1e-12).mean(), 1 - (2 / 6) ** 6, atol=5e-4)

shuffled = rng.permutation(B) - A
assert np.isclose(shuffled.mean(), d.mean())
assert shuffled.std() > 5 * d.std()
show(
    f"paired {paired:.4f}, unpaired {unpaired:.4f}, pairs shuffled "
    f"{shuffled.std() / np.sqrt(n):.4f}"
)

# %% tags=["hide-input"]
#| name: fig-paired
#| alt: Two panels of dots. Left: Jaccard of six patients under A and B, two strips that overlap almost completely,
#|   thin lines joining the same patient. Right: the six differences, all between 0 and 0.02, with their mean 0.01 and
#|   an interval that lies clear of zero.
#| caption: Left: six invented patients under A and B; bars are ± 2 standard errors of each mean. Right: the
#|   differences of the same patients; the bar is ± 2 paired standard errors. Notice the scales: strips that overlap
#|   on the left hide a difference that is clear on the right.
fig, axes = plt.subplots(1, 2, figsize=(plotting.FULL, 2.7), layout="constrained")
axes[0].plot([0, 1], [A, B], color=plotting.INK, linewidth=0.7)
for column, (values, colour, marker) in enumerate(
    [(A, plotting.BLUE, "o"), (B, plotting.VERMILION, "s")]
):
    axes[0].plot(np.full(n, column), values, marker, color=colour)
    axes[0].errorbar(
        column + 0.15,
        values.mean(),
        2 * values.std() / np.sqrt(n),
        fmt="_",
        color=colour,
        capsize=3,
    )
axes[0].set(xticks=[0, 1], xticklabels=["A", "B"], xlim=(-0.4, 1.5), ylabel="Jaccard ↑")
axes[1].axhline(0, color=plotting.INK, linestyle=":", linewidth=1)
axes[1].plot(np.linspace(-0.1, 0.1, n), d, "D", color=plotting.GREEN)
axes[1].errorbar(0.25, d.mean(), 2 * paired, fmt="_", color=plotting.GREEN, capsize=3)
axes[1].set(
    xticks=[0],
    xticklabels=["B − A"],
    xlim=(-0.4, 0.5),
    ylabel="difference of Jaccard",
    ylim=(-0.004, 0.024),
)
show(fig)

# %% [markdown]
# ```{exercise}
# :label: ex-read-clear-large
#
# Can B be clearly better without being much better for anybody?
# ```
#
# ```{solution} ex-read-clear-large
# :class: dropdown
#
# Yes.
# *Clear* says that the interval of the difference excludes zero; *large* says that the difference matters.
# Here the largest gain of any patient is {glue:text}`d_max:.2f`, and the mean gain lies {glue:text}`d_in_se:.0f` standard errors above zero.
# ```
#
# ## Two kinds of ±
#
# Train the same system again with another {term}`seed`, and the mean moves, on the same patients.
# Test the same trained system on other patients, and it moves for another reason.
# The two spreads add up:
#
# $$
# \operatorname{Var}(\bar J) = \frac{s^2_{\text{patients}}}{n} + \frac{s^2_{\text{seed}}}{R},
# $$ (eq-two-spreads)
#
# with $n$ test patients and $R$ trainings.
# Neither term can stand in for the other.
# The formula is ours; the papers print at most the first term.
# For the numbers take BiMoRec's test set on MIMIC-III, with the spread between its patients as {doc}`01_the_task` estimates it from a printed pair of means, and the three trainings of system A.

# %%
best, best_f1 = jaccard["MIMIC-III"]["BiMoRec"], f1_bimorec
gap = (
    2 * best / (1 + best) - best_f1
)  # the chapter on the task derives the spread from this gap
s_patients = np.sqrt(gap * (1 + best) ** 3 / 2)
n_test = round(sizes["BiMoRec"]["patients"] / 6)  # BiMoRec's test patients on MIMIC-III
s_seed = seeds_a.std(ddof=1)  # three trainings of A: .0020


def spread(n, R):
    return np.sqrt(s_patients**2 / n + s_seed**2 / R)


show((s_patients / np.sqrt(n_test), s_seed / np.sqrt(3), spread(n_test, 3)))

# %% [markdown]
# Check the numbers, the limit of many trainings, and the limit of many patients.
# Break it: a table that prints the seeds' ± alone looks three times as certain as it is.

# %%
np.testing.assert_allclose(seeds_a.std(ddof=1), 0.0020)
np.testing.assert_allclose(seeds_b.std(ddof=1), 0.0040)
assert round(s_patients, 3) == 0.127
np.testing.assert_allclose(
    [spread(n_test, np.inf), s_seed / np.sqrt(3), spread(n_test, 3)],
    [0.0039, 0.0012, 0.0041],
    atol=5e-5,
)
np.testing.assert_allclose(spread(np.inf, 3), s_seed / np.sqrt(3))
show(
    "seeds alone understate the spread "
    f"{spread(n_test, 3) / (s_seed / np.sqrt(3)):.1f} times"
)

# %% tags=["hide-input"]
#| name: fig-two-spreads
#| alt: Stacked bars of the variance of a mean Jaccard for 1, 3, 5 and 10 trainings. The patients' part is the same in
#|   all four; the seeds' part is a fifth of the bar for one training and almost vanishes for ten.
#| caption: Parts of the variance of a mean Jaccard, for {glue:text}`n_test` test patients and R trainings (patients'
#|   spread estimated from BiMoRec's table 2, seeds' spread from the invented system A). Notice that more trainings
#|   cannot lower the first part.
R = np.array([1, 3, 5, 10])
fig, ax = plt.subplots(figsize=(plotting.ONE_COLUMN, 2.7))
part_patients, part_seeds = np.full(4, s_patients**2 / n_test), s_seed**2 / R
ax.bar(np.arange(4), 1e6 * part_patients, color=plotting.BLUE, label="patients")
ax.bar(
    np.arange(4),
    1e6 * part_seeds,
    bottom=1e6 * part_patients,
    color=plotting.OCHRE,
    hatch="//",
    label="seeds",
)
ax.set(
    xticks=np.arange(4),
    xticklabels=R,
    xlabel="trainings R",
    ylabel="variance of the mean (10⁻⁶)",
)
ax.set_ylim(0, 25)
ax.legend(loc="upper right", ncols=2)
show(fig)

# %% [markdown]
# ```{exercise}
# :label: ex-read-budget
#
# You have three trainings.
# Which narrows the interval more: ten times as many trainings, or four times as many test patients?
# ```
#
# ```{solution-start} ex-read-budget
# :class: dropdown
# ```

# %%
more_seeds, more_patients = spread(n_test, 30), spread(4 * n_test, 3)
assert more_patients < more_seeds
show((more_seeds, more_patients))

# %% [markdown]
# Patients: the seeds were never the bottleneck.
#
# ```{solution-end}
# ```
#
# ## Relative and absolute
#
# A gain from $a$ to $b$ can be printed in two ways:
#
# $$
# \text{absolute: } b - a, \qquad \text{relative: } \frac{b - a}{a} .
# $$ (eq-relative)
#
# Both are in use, and the word "improves by" does not say which.
# The abstract of BiMoRec says that it improves accuracy by 0.61 %; NLA-MMR prints 2.86, 7.01 and 4.29 %, and their mean 4.72 %.

# %%
best, second = (
    jaccard["MIMIC-III"][name] for name in ("BiMoRec", "CausalMed")
)  # from BiMoRec's table 2
absolute, relative = best - second, (best - second) / second
gains = {  # NLA-MMR's table 2, against the best of the others on each database
    database: (
        rows["NLA-MMR"] - max(rest := [v for k, v in rows.items() if k != "NLA-MMR"])
    )
    / max(rest)
    for database, rows in jaccard_nlammr.items()
}
show((absolute, relative, gains))

# %% [markdown]
# Check that the printed percentages follow from the printed tables, and that all of them are relative.
# Then break it: read as an absolute gain, 0.61 % would be nearly twice what the table shows.

# %%
assert round(100 * relative, 2) == published.fact("bimorec_gain_percent")
for database, name in (
    ("MIMIC-III", "mimic3"),
    ("MIMIC-IV", "mimic4"),
    ("eICU", "eicu"),
):
    assert round(100 * gains[database], 2) == published.fact(
        f"nlammr_gain_percent_{name}"
    )
assert round(100 * np.mean(list(gains.values())), 2) == published.fact(
    "nlammr_gain_percent_mean"
)
assert round(absolute, 4) == 0.0033
show(f"0.61 % is relative; absolute it is {100 * absolute:.2f} points of Jaccard")

# %% tags=["hide-input"]
#| name: fig-zoom
#| alt: The Jaccard values of eleven systems as dots on two axes. On the left axis, from 0 to 1, they huddle between
#|   0.45 and 0.54; on the right axis, zoomed to that range, they look far apart.
#| caption: The eleven Jaccard values that BiMoRec prints for MIMIC-III, on an axis from 0 to 1 and on the axis that
#|   tables invite one to imagine. No interval is printed in that table. Notice that both pictures show the same
#|   numbers.
rows = sorted(jaccard["MIMIC-III"].items(), key=lambda item: item[1])
fig, axes = plt.subplots(
    1, 2, figsize=(plotting.FULL, 3.0), sharey=True, layout="constrained"
)
for ax in axes:
    for place, (system, value) in enumerate(rows):
        look = plotting.look(system)
        ax.plot(value, place, look.marker, color=look.color, markersize=6)
    ax.set(xlabel="printed Jaccard ↑")
axes[0].set(
    xlim=(0, 1),
    yticks=range(len(rows)),
    yticklabels=[system for system, _ in rows],
)
axes[1].set(xlim=(0.44, 0.55))
show(fig)

# %% [markdown]
# ```{exercise}
# :label: ex-read-hits
#
# A visit has 20 true medications and 20 are recommended.
# How many more hits does it take to go from the runner-up's printed Jaccard to the best one?
# Guess first: one, a half, a tenth?
# ```
#
# ```{solution-start} ex-read-hits
# :class: dropdown
# ```

# %%
hits = {name: 40 * j / (1 + j) for name, j in (("best", best), ("second", second))}
np.testing.assert_allclose(list(hits.values()), [14.06, 14.01], atol=0.005)
show(hits)

# %% [markdown]
# With $h$ hits the union is $40 - h$, so $J = h/(40 - h)$ and $h = 40J/(1 + J)$.
# The difference is about {glue:text}`extra_hits:.2f` of one medication.
#
# ```{solution-end}
# ```
#
# ## From the papers
#
# A protocol is the list of decisions that turn predictions into a printed number.
# The next table puts those of the papers beside the book's own, called *house*.
# Entries marked with an asterisk do not stand in the paper; they were read in the released code.

# %% tags=["hide-input"]
protocols = pl.DataFrame(
    {
        "decision": [
            "cohort",
            "classes M",
            "who is scored",
            "split by patient",
            "selection of the epoch",
            "threshold",
            "average",
            "±",
        ],
        "BiMoRec": [
            f"MIMIC-III, {page.thousands(sizes['BiMoRec']['patients'])} patients",
            str(sizes["BiMoRec"]["medications"]),
            "every visit, single-visit patients kept*",
            "2/3, 1/6, 1/6, in file order*",
            "best validation Jaccard, first epoch excluded*",
            "0.5",
            "visits of a patient, then patients*",
            "bootstrap named, none printed",
        ],
        "NLA-MMR": [
            f"MIMIC-III, {page.thousands(sizes['NLA-MMR']['patients'])} patients",
            str(sizes["NLA-MMR"]["medications"]),
            "patients with two visits or more that name a symptom*",
            "2/3, 1/6, 1/6, in file order*",
            "best validation Jaccard*",
            "0.5",
            "batches of visits*",
            "printed, not defined; ten bootstrap draws of one trained model*",
        ],
        "house": [
            f"{page.cohort_line(records)}",
            str(records.n_medications),
            "every visit; systems that skip first visits stand in a block of their own",
            "2/3, 1/6, 1/6, shuffled with a seed of its own",
            "best validation Jaccard",
            "tuned on validation patients for every system; 0.5 where it says so",
            "visits of a patient, then patients",
            "95 % bootstrap interval over patients; spread over seeds in its own column",
        ],
    }
)
show(
    page.table(
        protocols,
        caption="Protocols of the two printed tables and of this book. An asterisk marks what only the released code tells.",
    )
)

# %% tags=["remove-cell"]
pm_low, pm_high = min(deviations.values()), max(deviations.values())
page.glue(
    j_bimorec=best,
    j_nlammr=jaccard_nlammr["MIMIC-III"]["NLA-MMR"],
    j_causalmed=second,
    m_bimorec=sizes["BiMoRec"]["medications"],
    m_nlammr=sizes["NLA-MMR"]["medications"],
    p_bimorec=page.thousands(sizes["BiMoRec"]["patients"]),
    p_nlammr=page.thousands(sizes["NLA-MMR"]["patients"]),
    se_closed=closed_form,
    d_max=d.max(),
    d_in_se=d.mean() / paired,
    n_test=page.thousands(n_test),
    extra_hits=hits["best"] - hits["second"],
    absolute_gain=absolute,
    pm_low=pm_low,
    pm_high=pm_high,
    gain_in_se_low=absolute / (np.sqrt(2) * pm_high),
    gain_in_se_high=absolute / (np.sqrt(2) * pm_low),
    sd_error=1 / np.sqrt(18),
    pm_own=deviations["NLA-MMR"],
    sd_low=deviations["NLA-MMR"] * (1 - 1 / np.sqrt(18)),
    sd_high=deviations["NLA-MMR"] * (1 + 1 / np.sqrt(18)),
    safedrug_epoch=safedrug_epoch,
)

# %% [markdown]
# The third paper of this book {cite:p}`zhao2024diffkg` ranks medications instead of choosing a set; its protocol is taken apart in the chapters on knowledge graphs.
#
# :::{admonition} "Improves accuracy by 0.61 %": of what, and is it outside the noise?
# :class: verdict
# Of the runner-up's Jaccard: {glue:text}`absolute_gain:.4f` in absolute terms.
# BiMoRec prints no interval.
# The deviations that NLA-MMR prints for its own Jaccard column on MIMIC-III run from {glue:text}`pm_low:.4f` to {glue:text}`pm_high:.4f`.
# With a deviation of that size on both sides, an *unpaired* comparison puts the gain at {glue:text}`gain_in_se_low:.1f` to {glue:text}`gain_in_se_high:.1f` standard errors of a difference.
# A paired comparison could still be clear, as {numref}`fig-paired` shows, but it needs the values of each patient, and those are not published.
# So the printed material cannot decide it.
# :::
#
# ## The audit
#
# ### What the papers do not say
#
# - **What ± means.** NLA-MMR's text does not define it. In the released code it is the standard deviation of ten bootstrap draws of one trained model, so it holds no training spread.
# - **How exact the ± itself is.** A standard deviation from ten draws has a relative error of about $1/\sqrt{18}$, {glue:text}`sd_error:.0%`. A printed {glue:text}`pm_own:.4f` may as well be {glue:text}`sd_low:.4f` or {glue:text}`sd_high:.4f`.
# - **Which interval BiMoRec has.** It says that bootstrapping is used in testing and prints none.
# - **Which epoch is tested.** In the released code the epoch with the best validation Jaccard, the first one excluded. BiMoRec's table 3 lets SafeDrug converge at epoch {glue:text}`safedrug_epoch`, while SafeDrug's released code stops at 50.
# - **Which patients are tested.** In the released code the *middle* sixth of the file. That is harmless where patient numbers are random, and a drift in time where they are not.
#
# The book makes these choices once, in {py:mod}`medrec.protocol`, and prints them in the card and the captions.
#
# ### Misconceptions
#
# "The ± is the spread over re-trainings."
# : In this literature it is a bootstrap over patients, {eq}`eq-two-spreads`.
#
# "Overlapping intervals mean no difference."
# : Not for systems scored on the same patients, {numref}`fig-paired`.
#
# "Four digits are printed, so four digits are known."
# : The fourth digit of a printed Jaccard is smaller than its own standard error by a factor of ten or more.
#
# "Same name of the data set, same data."
# : Two rows of the protocol table say otherwise.
#
# "Building the book trains the models."
# : Only where it takes seconds. Everything else is read from stored runs, and the label says which.
#
# ## Summary
#
# - A number is traced by its labels: cohort and source, who is scored, protocol, run key `cohort/model/variant/seedN`, kind of interval.
# - The bootstrap standard error of a mean is $s_n/\sqrt m$, {eq}`eq-bootstrap-se`; it leaves out re-training, the choice of the epoch, and other hospitals.
# - Patients' spread shrinks with more test patients, seeds' spread with more trainings; they add up in {eq}`eq-two-spreads`, and neither replaces the other.
# - Two numbers may be compared when cohort, classes, scored visits, threshold, average, selection and interval agree; the last exercise applies the seven points to two printed numbers.
# - `medrec chapter 00 -p seed 3` runs this chapter with another seed; a misspelt parameter is an error.
#
# ## Exercises
#
# ```{exercise}
# :label: ex-read-smallest
#
# A test set has as many patients as BiMoRec's on MIMIC-III, and the difference of two systems has a standard deviation of .05 between patients.
# What is the smallest mean difference beyond two standard errors?
# ```
#
# ```{solution-start} ex-read-smallest
# :class: dropdown
# ```

# %%
smallest = 2 * 0.05 / np.sqrt(n_test)
np.testing.assert_allclose(smallest, 0.0031, atol=5e-5)
show(smallest)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-read-caption
#
# A table prints {glue:text}`j_bimorec:.4f` in bold over {glue:text}`j_causalmed:.4f`, with the caption "Best results in bold".
# Rewrite the caption so that it claims what the table can carry.
# ```
#
# ```{solution} ex-read-caption
# :class: dropdown
#
# For example: "Means over the test patients of MIMIC-III, one training per system, threshold 0.5, no interval; the highest mean is in bold, and no test of the difference was made."
# ```
#
# ```{exercise}
# :label: ex-read-seed
#
# You type `medrec chapter 00 -p seed 3`.
# Which numbers of this page may change, and which must not?
# ```
#
# ```{solution} ex-read-seed
# :class: dropdown
#
# Whatever is drawn may change: simulated spreads, in their last digits.
# Closed forms, printed values of papers and counts of the cohort must not.
# ```
#
# ```{exercise}
# :label: ex-read-typo
#
# You type `medrec chapter 00 -p sede 3`.
# What must happen, and what would happen if the chapter was run by papermill alone?
# ```
#
# ```{solution} ex-read-typo
# :class: dropdown
#
# It must stop with an error that names the parameters that exist.
# Papermill without the runner warns and runs the defaults, so that you would read the old numbers under a new name.
# ```
#
# ```{exercise}
# :label: ex-read-checklist
#
# Apply the seven points (cohort, classes, scored visits, threshold, average, selection, interval) to {glue:text}`j_bimorec:.4f` and {glue:text}`j_nlammr:.4f`.
# How many differ or are unknown?
# ```
#
# ```{solution-start} ex-read-checklist
# :class: dropdown
# ```

# %%
agrees = {
    "cohort": sizes["BiMoRec"]["patients"] == sizes["NLA-MMR"]["patients"],
    "classes": sizes["BiMoRec"]["medications"] == sizes["NLA-MMR"]["medications"],
    "scored visits": False,  # single-visit patients kept in one, dropped in the other
    "threshold": True,  # 0.5 in both
    "average": False,  # patients in one, batches of visits in the other
    "selection": True,  # validation Jaccard in both, as far as the released code tells
    "interval": False,  # printed in one only
}
assert len(agrees) == 7
assert sum(not same for same in agrees.values()) == 5
show([point for point, same in agrees.items() if not same])

# %% [markdown]
# Five of seven.
# The two numbers may not be compared.
#
# ```{solution-end}
# ```
#
# ### Quiz
#
# ```{dropdown} Which ± shrinks with more test patients?
# The bootstrap over patients.
# ```
#
# ```{dropdown} Which one changes with re-training?
# The spread over seeds.
# ```
#
# ```{dropdown} Where does a figure say that its records are synthetic?
# In its caption, and the card at the top of the page names the cohort and its source.
# ```
#
# ## References
#
# - {cite:t}`mu2024bimorec`: the printed Jaccard values of eleven systems, and the 0.61 %.
# - {cite:t}`tan2024nlammr`: the printed deviations, and the relative gains.
# - {cite:t}`efron1993bootstrap`: the bootstrap.
# - {cite:t}`zhao2024diffkg`: the third paper of the book.
