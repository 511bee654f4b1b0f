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
# # Your own data: closed tables, shared machines, a new system
#
# Every chapter of this book can be run on records that nobody else may see, and what it prints is what leaves the closed machine.
# One printed row is enough to break a promise that was signed.
# How do I run all this on records that I may not show, on machines that I share, with a model that does not exist yet?
#
# ```{admonition} Objectives
# :class: objectives
# After this chapter you can
# - *predict* what the privacy guard refuses, and *say* why masking one cell is not enough,
# - *measure* how much of one hospital a vocabulary from another hospital covers,
# - *add* a system in one file and *catch* a planted leak with one test,
# - *plan* a sweep by its cost, and *check* that a finished run is not repeated,
# - *read* the ledger of an import before believing any number made from it.
# ```
#
# **Prerequisites.** {doc}`01_the_task`, {doc}`02_from_tables_to_visits`, and one chapter on a system; {doc}`06_classical` is enough.
#
# **Code.** {py:mod}`medrec.data.build`, {py:mod}`medrec.models.base` and {py:mod}`medrec.lab.sweep`.

# %% tags=["hide-input"]
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
from matplotlib import pyplot as plt

from medrec import metrics, plotting, training
from medrec.book import page
from medrec.data import example, load_cohort, mimic4, privacy
from medrec.data.build import build_cohort
from medrec.data.split import split_patients
from medrec.data.synthetic import synthesize
from medrec.knowledge.interactions import class_interactions
from medrec.lab import published
from medrec.models import registry
from medrec.tasks.evaluation import bootstrap, shared_groups
from medrec.tasks.visits import COLUMNS, evaluate, tune_threshold
from medrec.types import Ragged

# %% tags=["parameters", "hide-input"]
seed: int = 0  # seed of the split, of the bootstrap and of the second hospital
cohort: str = "synthetic"  # any cohort that medrec.data.load_cohort knows
device: str = "cpu"  # nothing heavy is trained here
profile: str = "quick"  # quick or full: nothing here grows with the profile
ddi: str = ""  # file of another interaction list; empty: the book's own

# %% tags=["hide-input"]
plotting.use_style()
records = load_cohort(cohort)
show = partial(privacy.show, records)  # closed records: aggregates only
page.at_a_glance(
    {"seed": seed, "cohort": cohort, "device": device, "profile": profile},
    paper="none: this page turns the tables of the others from synthetic into yours",
    data=page.cohort_line(records),
    learned="a system of ten lines",
    full_run="the same as here",
)

# %% [markdown]
# ## The problem on one ward
#
# A ward reports 29 visits, 23 of women and 6 of men.
# A rule hides counts below ten, so the table prints 23, a dash, and the total 29.
# Whoever can subtract reads the six men back.
#
# The records of this book's papers are open to nobody but people with training and a signed data-use agreement of PhysioNet.
# There is no way around that agreement, and this chapter offers none.
# It shows how to keep it when a page is built.
#
# ## A guard that knows linear algebra
#
# A table with its row and column totals is a system of linear equations in the hidden cells $x_{rc}$:
#
# $$
# \sum_{c} x_{rc} = a_r, \qquad \sum_{r} x_{rc} = b_c .
# $$ (eq-own-margins)
#
# A hidden cell is safe if the equations leave it undetermined.
# So a second cell goes where the first could be solved for: {py:func}`medrec.data.privacy.mask_small_counts` hides more cells until no small one is determined.

# %%
ward = np.array([23, 6])
counts = np.array([[12, 30, 4], [25, 9, 40], [18, 22, 31]])
small = (counts > 0) & (counts < privacy.LIMIT)
hidden = privacy.mask_small_counts(counts)


def determined(table, mask):
    """Hidden cells that the totals of rows and columns give away."""
    r, c = np.nonzero(mask)
    lines = np.concatenate([np.eye(table.shape[0])[:, r], np.eye(table.shape[1])[:, c]])
    # A cell is solvable if its unit vector lies in the row space of the equations.
    projector = np.linalg.pinv(lines) @ lines
    return [
        (int(i), int(j))
        for k, (i, j) in enumerate(zip(r, c, strict=True))
        if projector[k, k] > 1 - 1e-9
    ]


# %% [markdown]
# **Check.** In both examples nothing can be solved for after masking; the block hides four cells, the two small ones and two more.
# **Break it:** with the small cells alone the equations give both back.

# %%
assert privacy.mask_small_counts(ward).all()
assert hidden.sum() == 4
assert (hidden & small).sum() == small.sum() == 2
assert determined(counts, hidden) == []
assert determined(counts, small) == [(0, 2), (1, 1)]
show("after masking nothing is solvable; with one mask a line both small cells are")

# %% tags=["hide-input"]
#| name: fig-own-mask
#| alt: Three tables of nine cells. Left: all counts are visible, two of them below ten. Middle: the two small ones
#|   are hatched, and an arrow-free note says that the totals give them back. Right: four cells in a block are
#|   hatched, and nothing can be solved for.
#| caption: Counts of patients of an invented table whose totals are known: as they are, with small cells hidden, and
#|   as the guard hides them. Hatched: hidden. Notice that two hidden cells in different lines protect nobody.
fig, axes = plt.subplots(1, 3, figsize=(plotting.FULL, 2.1))
masks = {
    "as counted": np.zeros_like(small),
    "small cells hidden": small,
    "as the guard hides": hidden,
}
for ax, (title, mask) in zip(axes, masks.items(), strict=True):
    for (i, j), n in np.ndenumerate(counts):
        ax.add_patch(
            plt.Rectangle(
                (j, -i),
                1,
                -1,
                fill=False,
                ec=plotting.INK,
                hatch="///" * int(mask[i, j]),
            )
        )
        if not mask[i, j]:
            ax.text(j + 0.5, -i - 0.5, n, ha="center", va="center", color=plotting.INK)
    ax.set(xlim=(-0.05, 3.05), ylim=(-3.05, 0.05), xlabel=title, xticks=[], yticks=[])
    ax.grid(False)
show(fig)

# %% [markdown]
# ### What the guard does
#
# A chapter that opens closed records is written only if every output went through {py:func}`medrec.data.privacy.show`, is a glued number, or is text that the cell spells out.
# This page hands out its own results that way, so it runs on closed tables as it stands.
#
# *What was opened decides*, not what a parameter or a folder is called.
# Closed are the tables of `mimic3`, `mimic4` and `eicu`, whatever lies in the folder of a demo without having the content that PhysioNet lists for it, cohorts made of them, and what runs said of their patients.
# Invented patients prove themselves too: their tables are, byte for byte, what the generator writes for the options beside them.
# The guard hears of records that are opened by the functions of this book, by Python's own `open` and by polars; renaming a cohort, or its field `source`, changes nothing.
#
# *Every route passes it*: `medrec chapter`, `papermill` on the command line and in Python, for a source here or elsewhere and for any notebook, and the build of this book.
# From the moment that closed records are opened until the whole notebook has been looked at, nothing is written, logged or printed, so that a killed execution leaves nothing either.
# A notebook that does not pass is not written; of a cell that fails you see the kind of error and the line, and the message only where it is one of ours.
#
# *Some things are refused even when they are handed out*: ids under any name, lists and other nested cells, a table or a figure with one row or mark for each patient or visit, a seal that is not of this execution, scripts, data behind a picture, the state of widgets.
# A column that counts fewer than ten patients, visits or orders must be named, `show(table, counts=["patients"])`, and is then masked as above; `nested=` does the same for groups of which each is a part of the next, and {py:func}`medrec.data.privacy.ledger` for a ledger.
#
# ### What no program can do
#
# | it cannot | so |
# |---|---|
# | look at a Jupyter session, at VS Code, at `jupyter execute` or `nbconvert --execute`, at another engine of papermill | there your own eyes are the guard; share what `medrec chapter` wrote |
# | know how many patients stand behind what you hand out, or what a glued number is a number of | state it truthfully; numbers can spell an id |
# | read pictures and sentences | a released figure or text must not tell of one person in other words |
# | see what a cell writes to files, to a terminal or to a network | write nothing there but what you would show |
# | recognise closed tables in a folder that it was not told of, read by a library that opens files behind Python's back | keep them in `MEDREC_DATA_DIR`, or import them |
# | compare this page with the one that you published last year | two large groups that differ by one person are that person |
# | hold out against code that runs beside the records and wants to get around it | the guard is against mistakes; the agreement is with people |
#
# ```{exercise}
# :label: ex-own-vocabulary
#
# A vocabulary file holds codes and titles, no patients.
# May it be published?
# ```
#
# ````{solution} ex-own-vocabulary
# :class: dropdown
#
# Only its frequent part.
# A code that one patient has is a record of that patient; the next cell counts such codes.
# ````

# %%
rows = records.codes["diagnosis"]
owners = np.unique(
    np.stack([rows.values, records.patient_of_visit[rows.row_of_value]]), axis=1
)
patients_of_code = np.bincount(owners[0], minlength=len(records.vocab["diagnosis"]))
rare = int((patients_of_code < privacy.LIMIT).sum())
page.glue(
    n_codes=len(patients_of_code),
    n_rare=rare,
    limit=privacy.LIMIT,
    rare_share=rare / len(patients_of_code),
)

# %% [markdown]
# Of {glue:text}`n_codes:,` diagnosis codes of this page's cohort {glue:text}`n_rare:,` occur in fewer than {glue:text}`limit` patients: {glue:text}`rare_share:.0%` of the vocabulary describes small groups.
#
# *Differencing* defeats even large groups.
# A mean Jaccard of .50 over ten patients and of .48 over nine of them tells the tenth's: $10 \cdot .50 - 9 \cdot .48$.

# %%
tenth = 10 * 0.50 - 9 * 0.48
np.testing.assert_allclose(tenth, 0.68)
show(f"the tenth patient scores {tenth:.2f}")

# %% [markdown]
# ## What a vocabulary covers
#
# A model knows the codes of the hospital that it was trained in.
# The share of code occurrences of another hospital that it knows is
#
# $$
# \mathrm{coverage}(A \to B) = \frac{\sum_{v \in B} |\,\text{codes}_v \cap V_A\,|}{\sum_{v \in B} |\,\text{codes}_v\,|},
# $$ (eq-own-coverage)
#
# with $V_A$ the vocabulary of A and $v$ the visits of B.
# No paper of the three prints it, though all of them use two databases.


# %%
def coverage(known, vocabulary, rows):
    """Share of the occurrences in ``rows`` whose code is in ``known``."""
    is_known = np.array([code in known for code in vocabulary.codes], dtype=bool)
    return is_known[rows.values].mean()


with tempfile.TemporaryDirectory() as folder:
    tables = synthesize(600, seed=seed + 1).write(Path(folder), "mimic4")
    other = build_cohort(
        mimic4.read(tables), name="second hospital", source="synthetic"
    )

# %% [markdown]
# **Check.** A vocabulary covers its own hospital, an empty one covers nothing, and renaming all codes on both sides changes nothing.
# **Break it:** forget the version of the ICD and two different codes become one.

# %%
kind_rows, kind_vocab = other.codes["diagnosis"], other.vocab["diagnosis"]
assert coverage(set(kind_vocab.codes), kind_vocab, kind_rows) == 1
assert coverage(set(), kind_vocab, kind_rows) == 0
by_version = coverage(set(records.vocab["diagnosis"].codes), kind_vocab, kind_rows)
bare = {code.split(":", 1)[-1] for code in records.vocab["diagnosis"].codes}
without_version = np.array([c.split(":", 1)[-1] in bare for c in kind_vocab.codes])
assert without_version[kind_rows.values].mean() >= by_version
show("own vocabulary 1, empty 0; dropping the version never lowers the coverage")

# %%
old = np.array([code.startswith("9:") for code in kind_vocab.codes])
known_diagnosis = np.array(
    [c in set(records.vocab["diagnosis"].codes) for c in kind_vocab.codes]
)
in_old = old[kind_rows.values]
covered = {
    "medication classes (ATC level 3)": coverage(
        set(records.vocab["medication"].codes),
        other.vocab["medication"],
        other.codes["medication"],
    ),
    "procedures, all versions": coverage(
        set(records.vocab["procedure"].codes),
        other.vocab["procedure"],
        other.codes["procedure"],
    ),
    "diagnoses, all versions": by_version,
    "diagnoses, ICD-9 rows only": known_diagnosis[kind_rows.values][in_old].mean()
    if in_old.any()
    else np.nan,
}
page.glue(
    cohort_line=page.cohort_line(records),
    other_line=page.cohort_line(other),
    c_med=covered["medication classes (ATC level 3)"],
    c_all=covered["diagnoses, all versions"],
    c_old=covered["diagnoses, ICD-9 rows only"],
)

# %% tags=["hide-input"]
#| name: fig-own-coverage
#| alt: Four horizontal bars of coverage from 0 to 1. Medication classes are nearly fully covered; diagnoses and
#|   procedures over both versions of the ICD are covered about half; diagnoses of ICD-9 rows alone are covered far
#|   better.
#| caption: Share of the code occurrences of a second synthetic hospital ({glue:text}`other_line`, MIMIC-IV layout,
#|   both ICD versions) that the vocabulary of {glue:text}`cohort_line` knows. Exact counts, no interval. Notice which
#|   coding travels.
fig, ax = plt.subplots(figsize=(plotting.FULL, 2.2))
bars = ax.barh(
    list(covered), list(covered.values()), color=plotting.color("LR"), height=0.6
)
ax.bar_label(bars, fmt="%.2f", padding=3)
ax.set(xlim=(0, 1.12), xlabel="share of occurrences covered")
ax.invert_yaxis()
show(fig)

# %% [markdown]
# Medication classes travel ({glue:text}`c_med:.3f`), diagnoses do not ({glue:text}`c_all:.3f`, and {glue:text}`c_old:.3f` where the version is the same).
# {doc}`02_from_tables_to_visits` shows what grouping codes into CCS categories saves.
#
# ```{exercise}
# :label: ex-own-freeze
#
# Which two codings would you freeze before training a model that shall move to another hospital, and what is lost?
# ```
#
# ````{solution} ex-own-freeze
# :class: dropdown
#
# ATC level 3 for medications and CCS categories for diagnoses and procedures (`load_cohort(..., coding="ccs")`).
# Lost are the site and the stage of a disease, which share a category, and the drug within a class.
# ````
#
# ## A new system in one file
#
# A system is a docstring with its source, a configuration, a class with one of the faces of {py:mod}`medrec.models.base`, and a declaration, `SYSTEM = System(...)`.
# It may lie outside the package: wherever a name of a system is taken, `my_package.my_module:SYSTEM` is taken too, on the command line, in grids and in Python, and the battery, the store and the tables treat it like one of the book's.
# {py:class}`~medrec.models.base.Estimator` asks for a few lines more than stand here, by which the run store saves and loads what was learnt; {py:mod}`medrec.models.popularity` shows them.
# *Popular and last* has no paper; it is here because ten lines hold it:
#
# $$
# p_m = \tfrac12\, [\,m \in Y_{t-1}\,] + \tfrac12\, \frac{\#\{v \in \text{train}: m \in Y_v\}}{\#\text{train}} .
# $$ (eq-own-system)


# %%
class PopularAndLast:
    """Half the last visit, half the frequency among training visits."""

    def fit(self, cohort):
        self.frequency_ = medications(cohort).mean(0)
        return self

    def predict_proba(self, cohort):
        last = np.roll(medications(cohort), 1, axis=0)
        last[cohort.visit_offsets[:-1]] = False
        return 0.5 * last + 0.5 * self.frequency_


def medications(cohort):
    return cohort.codes["medication"].multi_hot(cohort.n_medications)


# %% [markdown]
# **Check.** On the running example, visit v2, by hand: with frequencies from all three visits, and from the *other* patient only.
# One leak and one tie rule make three scores of the same ten lines.

# %%
toy = example.cohort()
leaky = PopularAndLast().fit(toy).predict_proba(toy)[1]
honest = PopularAndLast().fit(toy.select([1])).predict_proba(toy)[1]
np.testing.assert_allclose(leaky, [1, 5 / 6, 1 / 3, 2 / 3, 1 / 6])
np.testing.assert_allclose(honest, [1, 1, 0.5, 0.5, 0.5])
truth = toy.codes["medication"].multi_hot(5)[1:2]
scores = [
    metrics.jaccard(truth, p[None])[0]
    for p in (leaky >= 0.5, honest >= 0.5, honest > 0.5)
]
np.testing.assert_allclose(scores, [0.25, 0.4, 1 / 3])
show(
    f"with the leak {scores[0]:.2f}; without {scores[1]:.2f}; with > instead of ≥ "
    f"{scores[2]:.2f}"
)

# %% [markdown]
# Three lines of the behaviour battery that every system of the book has to pass.
# The system declares that it does not look at diagnoses; so taking them all away must change nothing.
# Earlier medications must matter.
# And a visit's own target must not reach its own prediction.

# %%
split = split_patients(records.n_patients, seed)
train, validation, test = (
    records.select(p) for p in (split.train, split.validation, split.test)
)
system = PopularAndLast().fit(train)
p_test = system.predict_proba(test)


def own_target_leaks(make):
    """Whether changing a visit's target changes its own prediction."""
    visit = test.n_visits - 1
    meds = [list(test.codes["medication"][v]) for v in range(test.n_visits)]
    meds[visit] = [(m + 1) % records.n_medications for m in meds[visit]]
    codes = {**test.codes, "medication": Ragged.from_lists(meds)}
    changed = replace(test, codes=codes)
    return not np.allclose(make(test)[visit], make(changed)[visit])


assert not own_target_leaks(lambda c: PopularAndLast().fit(train).predict_proba(c))
assert own_target_leaks(lambda c: PopularAndLast().fit(c).predict_proba(c))  # break it
no_diagnoses = {**test.codes, "diagnosis": Ragged.from_lists([[]] * test.n_visits)}
without = replace(test, codes=no_diagnoses)
np.testing.assert_array_equal(system.predict_proba(without), p_test)
has_past = test.visit_number > 0
if has_past.any():
    assert not np.allclose(p_test[has_past], 0.5 * system.frequency_)
show("past medications matter, the visit's own do not; the planted leak is caught")

# %% [markdown]
# Under the house protocol, with the threshold tuned on validation patients, beside systems of earlier chapters:

# %%
interactions = ddi or None
matrix, ddi_name = class_interactions(records.vocab["medication"].codes, interactions)
tuned = tune_threshold(validation, system.predict_proba(validation))
results = {
    "popular and last": evaluate(
        test, p_test >= tuned, matrix, scores=p_test, patients=split.test
    )
}
for name in ("popularity", "last-visit", "lr"):
    run = training.train(name, records, split_seed=seed, ddi=interactions)
    results[name] = run.evaluation("tuned")
run = training.train(
    "lr", records, variant="official", split_seed=seed, ddi=interactions
)
results["lr, as published"] = run.evaluation("own")
groups = shared_groups(list(results.values()))
intervals = {
    name: bootstrap(result, groups=groups, seed=seed)
    for name, result in results.items()
}
show(
    page.table(
        pl.DataFrame(
            [
                {"system": name}
                | {label: i[key].format(3) for key, label in COLUMNS.items()}
                for name, i in intervals.items()
            ]
        ),
        caption="Visits that all five score, test patients of "
        f"{page.cohort_line(records)}; one split, thresholds tuned on validation "
        "patients, LR as published at one half. "
        f"Brackets: 95 % bootstrap intervals over patients. DDI rate with {ddi_name}.",
    ),
    patients=test.n_patients,
)

# %% tags=["hide-input"]
#| name: fig-own-system
#| alt: Dots with horizontal 95 percent intervals: Jaccard of five rows on the same visits, popular and last,
#|   popularity, last visit, LR and LR as published. Popular and last lies above both of its halves.
#| caption: Jaccard (→ better) of five rows on the visits that all of them score, test patients of
#|   {glue:text}`cohort_line`. Bars: 95 % bootstrap intervals over patients. Notice where the new row stands against
#|   its two halves.
fig, ax = plt.subplots(figsize=(plotting.FULL, 2.0))
plotting.plot_intervals(
    ax,
    list(intervals),
    [i["jaccard"].value for i in intervals.values()],
    [(i["jaccard"].low, i["jaccard"].high) for i in intervals.values()],
)
ax.set_xlabel("Jaccard →")
show(fig, patients=test.n_patients)

# %% [markdown]
# ```{exercise}
# :label: ex-own-diagnoses
#
# Add the diagnoses of the visit to this system with one matrix product.
# Which of the three battery lines must change?
# ```
#
# ````{solution} ex-own-diagnoses
# :class: dropdown
#
# The declaration: shuffling diagnoses must now change the output.
# The other two stay as they are.
# ````
#
# ## What a sweep costs
#
# $$
# \text{runs} = \text{systems} \times \text{seeds} \times \text{cohorts} \times \text{variants}, \qquad
# \text{time} = \sum_{\text{runs}} \text{epochs} \times \text{seconds per epoch} .
# $$ (eq-own-cost)
#
# BiMoRec's table 3 prints epochs and seconds for seven systems on one GPU; beside it stands the budget that each system of this book declares for two processor cores.

# %%
cost = published.table("bimorec", 3)
budget = {system.label: system.seconds_per_epoch for system in registry.systems()}
epochs, seconds = (
    cost["convergence epoch"].to_numpy(),
    cost["seconds per epoch"].to_numpy(),
)
printed_total = cost["seconds of training"].to_numpy()
ours = epochs * np.array([budget[name] for name in cost["system"]])

# %% [markdown]
# **Check.** Every printed product is right, and the budget is below a fifth of the printed sum.

# %%
np.testing.assert_allclose(epochs * seconds, printed_total, rtol=2e-3)
assert ours.sum() <= printed_total.sum() / 5
page.glue(hours=printed_total.sum() / 3600, minutes=ours.sum() / 60, runs=11 * 5 * 2)
show(f"{printed_total.sum():.0f} s printed, {ours.sum()} s budgeted")

# %% [markdown]
# One seed of these seven systems takes {glue:text}`hours:.1f` hours as printed and {glue:text}`minutes:.0f` minutes in the book's budget.
# Eleven systems, five seeds and two cohorts are {glue:text}`runs` runs.

# %% tags=["hide-input"]
#| name: fig-own-gantt
#| alt: Two horizontal strips, one for each worker, filled with coloured blocks for the seven systems, longest first.
#|   Both strips end at nearly the same time.
#| caption: The seven systems of BiMoRec's table 3 on two workers, longest first, at this book's budget (seconds, one
#|   seed; budgeted, not measured). Notice that the order decides how long the second worker idles.
fig, ax = plt.subplots(figsize=(plotting.FULL, 1.8))
free = np.zeros(2)
for k in np.argsort(-ours):
    worker = int(free.argmin())
    name = cost["system"][int(k)]
    ax.barh(
        worker,
        ours[k],
        left=free[worker],
        height=0.7,
        color=plotting.color(name),
        ec="white",
    )
    if ours[k] > 200:
        ax.text(
            free[worker] + ours[k] / 2,
            worker,
            name,
            ha="center",
            va="center",
            fontsize=8,
            color="white",
        )
    free[worker] += ours[k]
ax.set(yticks=[0, 1], yticklabels=["worker 1", "worker 2"], xlabel="seconds")
ax.grid(axis="y", visible=False)
show(fig)

# %% [markdown]
# A training is never repeated: the second call below reads the store.
# What it looks for is a *content key*: a hash of settings, seeds, records, interactions, structures, and of the code that makes the system's numbers.
# A comment in that code changes no key; a learning rate multiplied by zero does, and the training is made anew.
# So the store cannot return a run that today's code would not make.
#
# `medrec sweep retain --jobs 2` trains every row of a grid that the store lacks; killed and started again it goes on where it stopped, and `--dry-run` says first how many trainings are missing and how long they will take.
# A grid of your own is a file anywhere:
#
# ```yaml
# cohort: mimic3            # optional; --cohort wins
# rows:
#   - {key: plain, label: RETAIN, system: retain}
#   - {key: wide, label: RETAIN 128 wide, system: retain, settings: {size: 128}}
#   - {key: mine, label: my own, system: "my_package.my_module:SYSTEM"}
# ```
#
# ```bash
# medrec sweep my-grid.yaml --seeds 3 --jobs 2 --dry-run
# medrec sweep my-grid.yaml --seeds 3 --jobs 2
# ```
#
# The whole book on records of your own is four commands, each of which can be broken off and goes on where it was:
#
# ```bash
# medrec tune everything --cohort mimic3                                    # settings that suit them
# medrec sweep everything --cohort mimic3 --seeds 3 --tuned --keep --dry-run  # says how many hours
# medrec sweep everything --cohort mimic3 --seeds 3 --tuned --keep
# medrec chapter 23 -p cohort mimic3                                        # and 24: the report
# ```
#
# Rows of closed records stay in the run store.
# What may leave the machine are the pages: each of their outputs has passed the guard ({doc}`23_one_benchmark`, {doc}`24_paper_and_code`).
#
# **The same numbers again.**
# One machine, one number of threads and one seed give the same weights, scores and metrics, byte for byte; only files that hold times and dates differ.
# The number of threads stands in `environment.json` of each run.
# With another number of threads, another processor or another version of PyTorch, sums are made in another order: weights differ in their last digits after the first steps, and after some epochs by as much as another seed would make them differ.
# Compare such runs like seeds: by intervals, never by equality.

# %%
first = training.train("lr", records, split_seed=seed)
begin = time.perf_counter()
second = training.train("lr", records, split_seed=seed)
again = time.perf_counter() - begin
assert second.config == first.config
assert second.folder == first.folder
assert (
    second.environment == first.environment
)  # wall time included: nothing was trained
page.glue(again=again)

# %% [markdown]
# The second call took {glue:text}`again:.2f` s and returned the same run, its wall time included.
#
# ```{exercise}
# :label: ex-own-sweep
#
# Halve a sweep of two variants, five seeds and two cohorts without losing the comparison of variants.
# ```
#
# ````{solution} ex-own-sweep
# :class: dropdown
#
# Drop seeds before patients: three seeds instead of five on both cohorts is not half, so run the second variant on one cohort only.
# The comparison stays paired by patient there; what it can no longer tell is whether the difference travels.
# ````
#
# ## Reading an import
#
# {glue:text}`cohort_line` came from tables through the same ledger as yours will.
# For every step and unit, before = kept + dropped.

# %%
whole = records.report.frame()
assert (whole["before"] == whole["kept"] + whole["dropped"]).all()
ledger = privacy.ledger(records)  # without losses of a few people of closed records
visits = ledger.filter(pl.col("unit") == "visits")
show(
    page.table(
        visits.select("step", "before", "kept", "dropped", "note"),
        caption=f"Visits in the ledger of {page.cohort_line(records)}; exact counts."
        + " A dash: too few were lost to tell." * bool(visits["dropped"].null_count()),
    )
)

# %% tags=["hide-input"]
#| name: fig-own-ledger
#| alt: Step line of the share of visits that is left after each step of the import, for this page's cohort and for
#|   the synthetic default. Most visits stay; the join takes the largest part.
#| caption: Share of visits left after each step of the import: {glue:text}`cohort_line` and, where that is another
#|   one, the synthetic default. Exact counts, no interval. Notice the step at which most visits leave.
fig, ax = plt.subplots(figsize=(plotting.FULL, 2.4))
for c, marker in {records.name: "o", "synthetic": "s"}.items():
    steps = (
        load_cohort(c).report.frame().filter(pl.col("unit") == "visits")
        if c != records.name
        else visits
    )
    # Where the first number is hidden, shares are of the first one that is not.
    left = pl.concat([steps["before"].head(1), steps["kept"]]).to_numpy() + 0.0
    left /= left[np.isfinite(left)][0]
    ax.plot(steps["step"], left[1:], marker=marker, label=c)
ax.set(ylabel="share of visits left", ylim=(0, 1.05))
ax.legend()
show(fig)

# %% [markdown]
# Before you believe a number, read your own ledger in this order:
#
# | look at | because |
# |---|---|
# | header case, codes as text | `0389` read as a number loses its zero |
# | NDC 0 | a missing value, not a product |
# | version column | one string, two meanings |
# | order in time | admission ids are random |
# | share of single-visit patients | they return after a filter that was meant to remove them |
# | sets without a pair | they have no DDI rate of their own |
# | cells below ten | they may not be shown |
#
# ```{exercise}
# :label: ex-own-future
#
# In your hospital ids grow with time, and the split follows file order: first two thirds train, the next sixth tests, the last sixth validates.
# What does the test set measure?
# ```
#
# ````{solution} ex-own-future
# :class: dropdown
#
# The near future, while thresholds are tuned on the far future.
# Say so, or split by seed as the house protocol does.
# ````
#
# ## From the papers
#
# This page regenerates no printed table.
# It is the page that turns each table of the book from synthetic into yours by one parameter:
#
# ```bash
# export MEDREC_DATA_DIR=/path/to/folder        # holds mimic3/, mimic4/hosp/, eicu/
# medrec data import mimic3 /path/to/tables     # or name a folder that lies elsewhere
# medrec chapter 02 -p cohort mimic3            # your own table 1 and mapping report
# medrec compare last-visit lr retain --cohort mimic3
# medrec compare lr retain --cohort mimic3 --ddi drug-DDI.csv --option mapping=ndc --option class_rule=first_code
# papermill jupytext://notebooks/07_sequence_models.py out.ipynb -p cohort mimic3
# ```
#
# `--ddi` takes the interaction list of the published pipelines, or one of yours; it stands under every DDI rate.
# The list alone makes no rate comparable: the published pipelines also take the classes from the product code, the first one of each, hence the two options.
#
# What will still differ from print: the number of classes, the window, the order of visits, the year of the mapping.
#
# *Your rerun gives .51 where .5422 is printed: who are the first five suspects?*
# The mapping table, the level at which visits are averaged, the order of visits, the window, and the epoch that was selected.
#
# ## The audit
#
# ### What the papers do not say
#
# - Public repositories carry patient records and co-prescription matrices that were computed from closed records. Do not fetch, load or pass them on: they are derived data.
# - Vocabularies with rare codes and EHR graphs are derived data too.
# - Printed baselines were trained on another number of classes than the systems beside them.
# - eICU needs a rule for stays whose order nobody can know; {doc}`02_from_tables_to_visits` counts them.
#
# ### Misconceptions
#
# "De-identified means public."
# : A handful of diagnosis codes singles most patients of a small cohort out.
#
# "Aggregates are harmless."
# : Two of them, subtracted, are a person.
#
# "Same schema, same vocabulary."
# : See {numref}`fig-own-coverage`.
#
# "It runs, so it is right."
# : The ledger says what was thrown away.
#
# ## Summary
#
# - The guard hides small cells and as many others as the totals would need to give them back; one mask a line protects nobody.
# - Coverage is the share of code occurrences that a vocabulary knows; medication classes travel, raw diagnoses do not.
# - A system is one file behind a common face; the line "a visit's own target does not reach its prediction" catches a leak that a score would celebrate.
# - Runs multiply; the store returns a finished one without training it again, and only if today's code and records would make the same.
# - In a ledger, before = kept + dropped at every step, and the reasons stand beside.
#
# ## Exercises
#
# ```{exercise}
# :label: ex-own-block
#
# Mask the table (12, 30, 4 / 25, 9, 40 / 18, 22, 31), whose totals are known, so that nothing can be solved for.
# ```
#
# ```{solution-start} ex-own-block
# :class: dropdown
# ```

# %%
show([counts[i, j].item() for i, j in np.argwhere(hidden)])

# %% [markdown]
# The block of these four cells.
#
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-own-statement
#
# Write the five-line data statement of your cohort: source and version, who is in, what was mapped, what was dropped, what may be shown.
# ```
#
# ```{solution} ex-own-statement
# :class: dropdown
#
# `medrec data describe NAME` prints the numbers for all five lines.
# ```
#
# ```{dropdown} Quiz: what does the guard do with a group of nine?
# It refuses a figure or number of nine patients, and hides a count of nine together with a second one where totals are known.
# ```
#
# ```{dropdown} Quiz: a chapter asks for the synthetic cohort and loads `mimic3` in its fourth cell. What is written?
# Nothing, if any cell shows more than aggregates: what was opened decides.
# ```
#
# ```{dropdown} Quiz: which coding travelled worst, and why?
# Raw diagnoses: the second hospital codes many visits in the other version of the ICD.
# ```
#
# ```{dropdown} Quiz: name two files that must never be committed.
# Tables of patients, and an EHR graph counted from them.
# ```
#
# ## References
#
# - {cite:t}`mu2024bimorec`: epochs and seconds of its table 3.
