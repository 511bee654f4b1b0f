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
# # From a bottle to a class, from a report to an edge: drug knowledge
#
# The same prescriptions of the same patients have a rate of interactions of {glue:text}`lot_low:.3f`, or of {glue:text}`lot_high:.3f`.
# Nothing differs but which of its classes each product was filed under, drawn by lot and kept.
# What are the {glue:text}`tw_classes:.0f` things that the published systems recommend, and what does an edge between two of them mean?
#
# ```{admonition} Objectives
# :class: objectives
# After this chapter you can
# - *read* an {term}`ATC` code at five levels.
# - *measure* how the choice of one class for each product moves the {term}`DDI rate`.
# - *build* a class matrix from drug pairs, and *explain* what the published choice of report types did.
# - *compute* the DDI loss, and say how often a pair counts in it.
# - *test* whether two interaction lists agree beyond chance.
# - *count* how many class alarms have an interacting pair of drugs behind them.
# ```
#
# **Prerequisites.** {doc}`01_the_task`; {term}`visit`, {term}`carrier`, {term}`drug-drug interaction`.
#
# **Code.** {py:mod}`medrec.knowledge.drugs`, {py:mod}`medrec.knowledge.classes` and {py:mod}`medrec.knowledge.interactions`.

# %% tags=["hide-input"]
import tempfile
import textwrap
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import torch
from matplotlib import pyplot as plt
from scipy.stats import spearmanr

from medrec import metrics, plotting
from medrec.book import page
from medrec.data import example, load_cohort, privacy
from medrec.data.mapping import map_medications
from medrec.experiments import drug_tables, reference_points, table_traps
from medrec.knowledge.classes import atc3, cut, level
from medrec.knowledge.drugs import combinations, drug_atc, drugs
from medrec.knowledge.interactions import (
    REPORT_COLUMNS,
    class_pairs,
    ddi_matrix,
    overlap_test,
    read_reports,
    rewire,
)
from medrec.lab import published
from medrec.losses import ddi_loss

plotting.use_style()

# %% tags=["parameters", "hide-input"]
seed: int = 0  # seed of random class choices and of rewired graphs
cohort: str = "synthetic"  # synthetic, mimic3-demo, mimic4-demo, eicu-demo
device: str = "cpu"  # where tensors live; five numbers need no accelerator
profile: str = "quick"  # quick: 300 rewired graphs; full: 2000

# %% tags=["hide-input"]
records = load_cohort(cohort)
show = partial(privacy.show, records)  # closed records: aggregates only
page.at_a_glance(
    {"seed": seed, "cohort": cohort, "device": device, "profile": profile},
    paper="the drug tables behind SafeDrug, BiMoRec and NLA-MMR; BiMoRec, eq. 29 and figure 7; NLA-MMR, figure 3",
    data=page.cohort_line(records),
    learned="nothing; tables are joined and counted",
    full_run="one minute on two cores (2000 rewired graphs)",
)

# %% [markdown]
# {cite:t}`mu2024bimorec` open with aspirin and warfarin: taken together they raise the risk of bleeding.
# That is right, and it is the textbook example of a {term}`drug-drug interaction`.
# Yet the matrix with which the systems of this line are trained and scored cannot show this pair.
# Both drugs hinder clotting, one through platelets and one through clotting factors, so both belong to one class of medications, B01A, and a class does not interact with itself.
# File aspirin under its other two codes, A01A or N02B, and there is no edge to B01A either.
#
# What the same matrix does flag, in {glue:text}`m3_flagged:.0f` of {glue:text}`m3_visits:.0f` visits of the open MIMIC-III demo, is the pair R01A and R03A: nose preparations with inhaled adrenergics.
# In these records that means ipratropium with albuterol, two drugs that widen the airways, are given together on purpose, and are sold mixed in one vial for the nebuliser.
#
# This chapter follows two paths that meet in that matrix.
# One leads from the bottle on the ward to a class, the other from a report of a side effect to an edge.
# Each path takes decisions that no paper prints.
#
# ## The problem on four drugs and four complaints
#
# Four drugs, `a` and `b` of class X, `c` of class Y, `d` of class Z.
# Reports have come in that name two drugs and a complaint.

# %%
drug_names = ["a", "b", "c", "d"]
toy_classes = pl.DataFrame({"name": drug_names, "atc3": ["X", "X", "Y", "Z"]})
reported = {
    "nausea": ["ac", "ad", "bc", "bd", "cd"],
    "headache": ["ac", "ad", "bd"],
    "bleeding": ["ad", "bc"],
    "torsades": ["bc"],
}
toy_reports = pl.DataFrame(
    [
        (pair[0], pair[1], complaint)
        for complaint, pairs in reported.items()
        for pair in pairs
    ],
    schema=list(REPORT_COLUMNS),
    orient="row",
)
show(
    page.table(
        pl.DataFrame(
            {
                "complaint": list(reported),
                "drug pairs": [", ".join(pairs) for pairs in reported.values()],
            }
        ),
        caption="Invented reports: four complaints, each with the drugs that were "
        "named together. "
        "Torsades is short for torsades de pointes, a dangerous rhythm of the heart.",
    )
)

# %% [markdown]
# The published recipe counts the reports of each complaint, sorts the complaints from frequent to rare, and keeps the *last* ones.
# Keep the last one here, torsades, and one edge is left: X with Y, because `b` and `c` were reported.
# Keep the *first* one, nausea, and all three classes are joined.
# A patient on `a` and `c` is now flagged by the edge X–Y, although torsades was reported for `b` with `c` only.
#
# Hold on to three questions.
# Who decided that `a` is an X?
# Why the last complaint?
# And who says that the edge means anything for `a` and `c`?
#
# ## Which lists this chapter speaks of
#
# The book carries its own table of interacting drugs, with a source for each row.
# The list behind the published matrix and an expert-made list are facts that we may use but that the book does not pass on; the open demos of two hospital databases are no part of it either.
# {py:mod}`medrec.experiments.drug_tables` counts where their files lie, and what it counted is kept; all that this chapter says of them is read from there.
# With the files in `knowledge/` of your `MEDREC_DATA_DIR`, two figures below show the published list beside ours.

# %% tags=["hide-input"]
stored = drug_tables.read()
counted = dict(stored.table("facts").iter_rows())  # name: number
note = page.notes(stored)
own = drug_tables.our_pairs()  # drug pairs; minor ones make no edge
show(
    page.table(
        pl.DataFrame(
            {
                "list": ["medrec's own", "TWOSIDES, published", "ONC and NDF-RT"],
                "an entry says": [
                    "these two drugs interact: effect, severity, source",
                    "some drugs of these two classes stood together in reports of a rare complaint",
                    "experts or an agency named these two drugs",
                ],
                "made by": [
                    "this book, from labels and expert lists",
                    "an algorithm, from reports",
                    "panels and an agency",
                ],
                "class pairs": [
                    len(class_pairs(own)),
                    int(counted["tw_pairs"]),
                    int(counted["expert_pairs"]),
                ],
            }
        ),
        caption="Three interaction lists, and how many pairs of ATC level-3 classes each joins. "
        "ONC: lists made for the US Office of the National Coordinator for Health IT; "
        f"NDF-RT: a drug file of the US Department of Veterans Affairs. {note}",
    )
)

# %% [markdown]
# One warning before the first number.
# Our own table took part of its rows from the expert lists and the rest from prescribing information, so it is no independent witness for or against them.
#
# ## A code with five levels
#
# The Anatomical Therapeutic Chemical classification {cite:p}`whocc2024atc` files each drug by organ, use, mechanism, chemical group and substance.
# Cutting the code of a substance climbs the tree:
#
# $$
# \ell(c) = \begin{cases} 1 & |c| = 1 \\ 2 & |c| = 3 \\ 3 & |c| = 4 \\ 4 & |c| = 5 \\ 5 & |c| = 7 \end{cases}
# \qquad
# \operatorname{cut}_k(c) = c_{1} c_{2} \dots c_{n_k}, \quad n = (1, 3, 4, 5, 7).
# $$ (eq-atc-level)
#
# Level and length agree only at level 1.
# The rule is that of the ATC index; the papers use it without printing it.

# %%
n_k = {1: 1, 2: 3, 3: 4, 4: 5, 5: 7}
metformin = "A10BA02"
show({k: metformin[:n] for k, n in n_k.items()})

# %% [markdown]
# Check against the package, and the invariance that makes a tree a tree: cutting twice is cutting once.
# Then break it, with the misreading that the field's own words invite.
# Tables and papers call the same four characters "ATC-3", "third level" or "ATC-4"; whoever takes "ATC-4" at its word cuts at level 4 and gets another vocabulary.

# %%
for k, n in n_k.items():
    assert cut(metformin, k) == metformin[:n]
    assert level(metformin[:n]) == k
assert cut(cut(metformin, 4), 3) == cut(metformin, 3) == "A10B"
default = drug_atc().filter("is_default").select("name", "atc5", "atc3")
level_3, level_4 = (
    default["atc5"].str.slice(0, 4).n_unique(),
    default["atc5"].str.slice(0, 5).n_unique(),
)
assert level_4 > level_3
show(
    f"cut at four characters: {level_3} classes of our drug table; cut at five: "
    f"{level_4}"
)

# %% tags=["hide-input"]
#| name: fig-atc-branch
#| alt: Ladder of five boxes for metformin: A, A10, A10B, A10BA, A10BA02, from digestive tract and metabolism down to
#|   metformin. The third box, A10B, is marked as the medication of the papers, which they call ATC-3, third level or
#|   ATC-4.
#| caption: The branch of metformin, a drug for diabetes, in the ATC tree. Filled: the level at which the papers
#|   recommend, whatever they call it. Notice that its name has four characters and its level is three.
steps = [
    "digestive tract and metabolism",
    "drugs for diabetes",
    "blood-glucose-lowering, without insulin",
    "biguanides",
    "metformin",
]
fig, ax = plt.subplots(figsize=(plotting.FULL, 2.5))
for k, (n, words) in enumerate(zip(n_k.values(), steps, strict=True)):
    at_level_3 = k + 1 == 3
    ax.text(
        0.9 * k,
        -k,
        metformin[:n],
        ha="left",
        va="center",
        family="monospace",
        color="white" if at_level_3 else plotting.INK,
        bbox={
            "boxstyle": "round",
            "facecolor": plotting.BLUE if at_level_3 else "none",
            "edgecolor": plotting.INK,
            "linewidth": 1,
        },
    )
    ax.text(
        0.9 * k + 1.25,
        -k,
        f"level {k + 1}, {n} character{'s' if n > 1 else ''}: {words}",
        va="center",
    )
ax.annotate(
    "the medication of the papers:\n“ATC-3”, “third level”, “ATC-4”",
    (1.7, -2.3),
    (0, -4.1),
    va="center",
    arrowprops={"arrowstyle": "->", "color": plotting.INK, "linewidth": 1},
)
ax.set(xlim=(-0.2, 9), ylim=(-4.7, 0.6))
ax.axis("off")
show(fig)

# %% [markdown]
# On the MIMIC-IV demo the published route gives {glue:text}`m4_level3:.0f` classes at level 3 and {glue:text}`m4_level4:.0f` at level 4.
#
# ```{exercise}
# :label: ex-drug-level
#
# A paper says that it works at "ATC level 4, for example B01A".
# Which level is it?
# ```
#
# ```{solution-start} ex-drug-level
# :class: dropdown
# ```

# %%
assert level("B01A") == 3
show(level("B01A"))

# %% [markdown]
# Level 3.
# The example decides, because the word does not.
#
# ```{solution-end}
# ```
#
# ## One product, several classes
#
# A code belongs to a use, not to a molecule.
# Vancomycin into the vein fights bacteria in the blood (J01X, other antibacterials); the same molecule swallowed stays in the gut and is filed there (A07A, intestinal anti-infectives).
# So a drug can have several codes, and whoever wants one class for each order needs a rule.
#
# ```{prf:algorithm} One class for an ordered product
# :label: alg-class-rule
#
# **Input** drug $m$ with codes $c_1 < c_2 < \dots < c_n$ in the order of the index, {term}`route of administration` $r$ of the order, a rule.
#
# 1. *First code*: return $\operatorname{cut}_3(c_1)$.
# 2. *Last code*: return $\operatorname{cut}_3(c_n)$.
# 3. *All codes*: return the set of all $\operatorname{cut}_3(c_i)$.
# 4. *By route*: return the class that the table of the drug names for $r$; without a match, its default class.
# ```
#
# The published pipelines go from the number of the product to its first code: in the table they share, one row is kept for each product, and the order of the rows decides.
# Nobody chose A01A for aspirin; it comes first in the alphabet.
# This book decides by route.

# %%
choices = drug_tables.choices()  # each drug and its classes, in the order of its codes


def by_rule(drug, route):
    """The four answers of the algorithm for one order."""
    options = choices.filter(pl.col("name") == drug)["atc3"][0].to_list()
    table = drug_atc().filter(pl.col("name") == drug)
    match = table.filter(pl.col("routes").list.contains(route))
    chosen = match if len(match) else table.filter("is_default")
    return {
        "drug": drug,
        "route": route,
        "first": options[0],
        "last": options[-1],
        "all": ", ".join(options),
        "by route": chosen["atc3"][0],
    }


orders_to_show = [
    ("aspirin", "oral"),
    ("vancomycin", "parenteral"),
    ("vancomycin", "oral"),
    ("ipratropium", "inhaled"),
    ("prednisone", "oral"),
    ("metformin", "oral"),
]
show(
    page.table(
        pl.DataFrame([by_rule(*order) for order in orders_to_show]),
        caption="Six orders under four rules. A01A mouth, B01A antithrombotics, "
        "N02B pain and fever, A07A and A07E gut, J01X other antibacterials, "
        "R01A nose, R03B other inhaled drugs, H02A corticosteroids, A10B diabetes, "
        "S01A eye.",
    )
)

# %% [markdown]
# Check the two rules of the package against the table above, and that a rule is a function: the same order gives the same class every time.
# Then break the first-code rule by turning its list around.
# The class changes although nothing about the patient did; the rule by route does not notice.

# %%
one_of_each = pl.DataFrame(
    {
        "name": ["aspirin", "vancomycin", "vancomycin", "ipratropium"],
        "route": ["PO", "IV", "PO", "IH"],
    }
)
by_route_3 = map_medications(one_of_each)["atc3"].to_list()
first_3 = map_medications(one_of_each, class_rule="first_code")["atc3"].to_list()
assert by_route_3 == ["B01A", "J01X", "A07A", "R03B"]
assert first_3 == ["A01A", "A07A", "A07A", "R01A"]
assert map_medications(one_of_each)["atc3"].to_list() == by_route_3
assert by_rule("aspirin", "oral")["last"] != by_rule("aspirin", "oral")["first"]
show(f"by route: {', '.join(by_route_3)}; first code: {', '.join(first_3)}")

# %% [markdown]
# Four orders prove nothing about a hospital.
# So map every order behind the records of this page twice.

# %%
tables = table_traps.raw_tables(cohort)
orders = tables.orders.filter(
    ~pl.col("cancelled"), pl.col("name").is_not_null()
).collect()
by_route = map_medications(orders).filter(pl.col("status") == "mapped")
first = map_medications(orders, class_rule="first_code").filter(
    pl.col("status") == "mapped"
)
several = by_route.join(
    choices.filter(pl.col("atc3").list.len() > 1).select("name"),
    left_on="drug",
    right_on="name",
    how="semi",
)
moved = (
    by_route.select("drug", "visit_id", route_class="atc3")
    .with_columns(first_class=first["atc3"])
    .filter(pl.col("route_class") != pl.col("first_class"))
)
assert by_route["drug"].equals(
    first["drug"]
)  # the rules disagree about the class, never about the drug
moves = (
    moved.group_by("drug", "route_class", "first_class")
    .len()
    .sort(["len", "drug"], descending=[True, False])
)
if records.source == "credentialed":  # a drug that few have is a record of theirs
    people = tables.visits.select("visit_id", "patient_id").unique().collect()
    had = moved.join(people, on="visit_id").group_by("drug")
    common = had.agg(pl.col("patient_id").n_unique()).filter(
        pl.col("patient_id") >= privacy.LIMIT
    )
    moves = moves.filter(pl.col("len") >= privacy.LIMIT)
    moves = moves.join(common, on="drug", how="semi", maintain_order="left")

# %% tags=["hide-input"]
#| name: fig-drug-moves
#| alt: Horizontal bars: the ten drugs of which most orders change class between the two rules, by number of orders.
#|   Each bar names the class by route and the class by first code; the list is led by hospital staples such as
#|   intravenous magnesium, vancomycin and aspirin.
#| caption: Orders that change class with the rule, the ten largest moves; first the class by route, then the class by
#|   first code. Orders of {glue:text}`cohort_line`; {glue:text}`n_orders:,` orders have a class,
#|   {glue:text}`moved_share:.0%` of them move. Counts, no interval. Notice that the drugs are no rarities.
top = moves.head(10)
class_name = dict(atc3().select("code", "name").iter_rows())
short = {
    code: textwrap.shorten(name.split(",")[0], 38, placeholder=" …")
    for code, name in class_name.items()
}
fig, ax = plt.subplots(figsize=(plotting.FULL, 3.6))
ax.barh(np.arange(len(top)), top["len"], color=plotting.BLUE, height=0.55)
for r, (_, a, b, n) in enumerate(top.iter_rows()):
    ax.text(n, r, f"  {a} {short[a]} → {b} {short[b]}", va="center", fontsize=7.5)
ax.set_yticks(np.arange(len(top)), top["drug"].to_list())
ax.set(xlabel="orders", xlim=(0, 3.2 * top["len"].max()), ylim=(len(top) - 0.4, -0.6))
ax.grid(axis="y", visible=False)
show(fig)

# %% [markdown]
# {glue:text}`several_share:.0%` of the orders with a class are of a drug with more than one class in the index, and {glue:text}`moved_share:.0%` change class with the rule.
# On the two open demos {glue:text}`m3_several:.0%` and {glue:text}`m4_several:.0%` of the orders with a known product are of one with several classes.
# There the published route files all {glue:text}`aspirin_a01a:.0f` aspirin orders with a known product under A01A, mouth and dental preparations, and all {glue:text}`vancomycin_a07a:.0f` vancomycin orders under A07A, the gut, though {glue:text}`vancomycin_vein:.0%` of them go into a vein.
# In the records as the published systems see them, "mouth and dental preparations" are given in {glue:text}`m3_a01a:.0%` and {glue:text}`m4_a01a:.0%` of the visits.
#
# ### What it does to a metric
#
# Suppose a rule is arbitrary but consistent: each drug draws one of its classes by lot and keeps it for all its orders.
# The prescriptions stay what they were; their {term}`DDI rate` does not.

# %%
# Lifted over *all* codes, as the published matrix is: no choice of class is favoured.
any_code = drug_tables.any_code()
classes = sorted(any_code["atc3"].unique())
lists = {"medrec's own": (classes, ddi_matrix(classes, class_pairs(own, any_code)))}
if drug_tables.at_hand():
    lists["TWOSIDES, published"] = drug_tables.published()


def rate(rows, classes, A):
    """DDI rate of the prescribed sets under one list."""
    return metrics.ddi_rate(drug_tables.sets(rows, classes), A)


lots = {
    name: drug_tables.by_lot(by_route, *matrix, seed=seed)
    for name, matrix in lists.items()
}
fixed = {
    name: {"by route": rate(by_route, *matrix), "first code": rate(first, *matrix)}
    for name, matrix in lists.items()
}
show({name: np.round([v.min(), v.max()], 4) for name, v in lots.items()})

# %% tags=["hide-input"]
#| name: fig-drug-lots
#| alt: Strips of dots on an axis of DDI rate. Each strip is one interaction list, each dot the rate of the same
#|   prescriptions under another consistent choice of classes. A strip is wider than the bar that spans the systems of
#|   a published table.
#| caption: DDI rate of the *same* prescriptions under {glue:text}`n_draws` random but consistent choices of class
#|   (dots), by route (square) and by first code (triangle). Orders of {glue:text}`cohort_line`, each list lifted over
#|   all codes of a drug. Grey bar, for its width only: lowest to highest of the {glue:text}`n_systems` systems in
#|   BiMoRec's table 2 on MIMIC-III, other records and another list. No interval: nothing is sampled but the rule.
printed = published.table("bimorec", 2).filter(pl.col("database") == "MIMIC-III")
system_range = printed["DDI rate"].min(), printed["DDI rate"].max()
fig, ax = plt.subplots(figsize=(plotting.FULL, 1.1 + 0.6 * len(lots)))
jitter = np.random.default_rng(0)
for r, (name, values) in enumerate(lots.items()):
    ax.plot(
        values,
        r + jitter.uniform(-0.18, 0.18, len(values)),
        "o",
        color=plotting.SKY,
        markersize=3.5,
        label="by lot" if r == 0 else None,
    )
    ax.plot(
        fixed[name]["by route"],
        r,
        "s",
        color=plotting.BLUE,
        label="by route" if r == 0 else None,
    )
    ax.plot(
        fixed[name]["first code"],
        r,
        "^",
        color=plotting.VERMILION,
        markersize=7,
        label="first code" if r == 0 else None,
    )
ax.plot(
    system_range,
    [len(lots)] * 2,
    color=plotting.INK,
    linewidth=5,
    solid_capstyle="butt",
    alpha=0.6,
)
ax.set_yticks(range(len(lots) + 1), [*lots, "systems, printed"])
ax.set(xlabel="DDI rate (fraction of pairs)", ylim=(len(lots) + 0.5, -0.5))
ax.grid(axis="y", visible=False)
ax.legend(ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0))
show(fig)

# %% [markdown]
# Under our own list the rate of these prescriptions runs from {glue:text}`lot_low:.3f` to {glue:text}`lot_high:.3f`.
# On the demos, under the published list, it runs from {glue:text}`m3_low:.3f` to {glue:text}`m3_high:.3f` (MIMIC-III) and from {glue:text}`m4_low:.3f` to {glue:text}`m4_high:.3f` (MIMIC-IV).
# The {glue:text}`n_systems` systems of BiMoRec's table 2 span {glue:text}`systems_low:.3f` to {glue:text}`systems_high:.3f` on MIMIC-III.
# A table of DDI rates without its rule for classes is a table without a unit.
#
# ```{exercise}
# :label: ex-drug-vancomycin
#
# In the published matrix A07A has {glue:text}`tw_a07a:.0f` edges and J01X has {glue:text}`tw_j01x:.0f`.
# A visit holds intravenous vancomycin, filed under A07A.
# Predict the sign of the change in its number of interacting pairs when vancomycin moves to J01X, and the one case in which it stays the same although a partner of J01X is in the set.
# ```
#
# ```{solution} ex-drug-vancomycin
# :class: dropdown
#
# The number cannot fall: A07A contributed nothing.
# It rises by the number of partners of J01X in the set, unless J01X was in the set already through another drug; then the pairs were counted before, and only the set gets smaller.
# That can raise the *rate* too, because pairs without interaction disappear from the denominator.
# ```
#
# ## From drug pairs to a class matrix
#
# {term}`Lifting <lifting>` carries an interaction from drugs to their classes.
# Let $C_{ai} = 1$ if drug $a$ has a code in class $i$, and $R_{ab} = 1$ if drugs $a$ and $b$ were named together in a report of a kept type.
# Then
#
# $$
# A_{ij} = \mathbb{1}\Bigl[\, \sum_a \sum_b C_{ai}\, R_{ab}\, C_{bj} > 0 \Bigr] \quad (i \neq j), \qquad A_{ii} = 0 .
# $$ (eq-ddi-lift)
#
# One pair of drugs is enough for an edge between two classes.
# The papers describe this in half a sentence; equation and zero diagonal are read off the released code of the line of {cite:t}`shang2019gamenet`.
# Which types are kept is a step before: count the reports of each type, sort downward, take the last 40.


# %%
def lift(complaint):
    """Class matrix of the pairs that were reported with one complaint."""
    R = np.zeros((4, 4), dtype=int)
    for a, b in reported[complaint]:
        R[drug_names.index(a), drug_names.index(b)] = R[
            drug_names.index(b), drug_names.index(a)
        ] = 1
    A = np.einsum("ai,ab,bj->ij", C, R, C) > 0
    np.fill_diagonal(A, False)
    return A


C = (toy_classes["atc3"].to_numpy()[:, None] == np.array(["X", "Y", "Z"])).astype(
    int
)  # (a, i)
rarest, commonest = lift("torsades"), lift("nausea")
show((rarest.astype(int), commonest.astype(int)))

# %% [markdown]
# Check by hand: torsades leaves one of three pairs, nausea all three.
# Check against {py:func}`medrec.knowledge.interactions.read_reports`, which does the same with a file of any size.
# The order of the reports must not matter; the direction of the sort is what breaks the result.

# %%
with tempfile.TemporaryDirectory() as scratch:
    file = Path(scratch) / "reports.csv"
    found = {}
    for name, table in {
        "as written": toy_reports,
        "shuffled": toy_reports.sample(fraction=1, shuffle=True, seed=seed),
    }.items():
        table.write_csv(file)
        found[name] = read_reports(file, toy_classes, keep_types=1)
    reversed_sort = read_reports(file, toy_classes, keep_types=1, order="commonest")
assert found["as written"].rows() == found["shuffled"].rows() == [("X", "Y")]
np.testing.assert_array_equal(ddi_matrix(["X", "Y", "Z"], found["as written"]), rarest)
np.testing.assert_array_equal(ddi_matrix(["X", "Y", "Z"], reversed_sort), commonest)
assert rarest.sum() / 6 == 1 / 3
assert commonest.sum() / 6 == 1
print("shuffled reports: same matrix; reversed sort: density 1 instead of 1/3")

# %% tags=["hide-input"]
#| name: fig-ddi-matrix
#| alt: Left: one square for each interaction list, classes sorted by number of edges, an edge as a dark dot; the dots
#|   crowd into the upper left corner, the last rows are empty. Right: scatter of edges against number of listed drugs
#|   for each class of our own list; classes with more drugs tend to have more edges.
#| caption: Left: class matrices of the lists that this page has, classes sorted by {term}`degree`. Right: degree of a
#|   class against the number of its drugs, our own list, {glue:text}`n_classes` classes of {glue:text}`cohort_line`;
#|   Spearman {glue:text}`own_spearman:.2f`. Notice the few hubs and the classes without any edge.
codes = list(records.vocab["medication"].codes)
square = ddi_matrix(codes)
squares = {"medrec's own": square} | {
    name: A for name, (_, A) in lists.items() if name != "medrec's own"
}
n_drugs = dict(drug_atc().group_by("atc3").agg(pl.col("name").n_unique()).iter_rows())
degree, size = square.sum(1), np.array([n_drugs.get(code, 0) for code in codes])
fig, axes = plt.subplots(
    1, len(squares) + 1, figsize=(plotting.FULL, 7.2 / (len(squares) + 1))
)
for ax, (name, A) in zip(axes, squares.items(), strict=False):
    order = np.argsort(-A.sum(1), kind="stable")
    i, j = np.nonzero(A[np.ix_(order, order)])
    ax.plot(j, i, "s", color=plotting.BLUE, markersize=1.3)
    ax.set(
        xlim=(-1, len(A)),
        ylim=(len(A), -1),
        aspect="equal",
        xlabel=f"classes, {name}",
    )
    ax.grid(visible=False)
axes[-1].plot(size, degree, "o", color=plotting.VERMILION, markersize=3.5, alpha=0.7)
for k in np.argsort(-degree)[:4]:
    axes[-1].annotate(
        codes[k],
        (size[k], degree[k]),
        textcoords="offset points",
        xytext=(4, 2),
        fontsize=7,
    )
axes[-1].set(xlabel="drugs listed in the class", ylabel="edges of the class")
show(fig)

# %% [markdown]
# Our own list joins {glue:text}`own_pairs` of {glue:text}`own_all_pairs:,` pairs of the classes of this page, a density of {glue:text}`own_density:.4f`; {glue:text}`own_no_edge` classes have no edge.
# The published matrix joins {glue:text}`tw_pairs:.0f` of the pairs of {glue:text}`tw_classes:.0f` classes, a density of {glue:text}`tw_density:.4f`, and {glue:text}`tw_pairs_112:.0f` pairs in a later list of {glue:text}`tw_classes_112:.0f` classes.
# Its hubs are M01A (anti-inflammatory pain killers, {glue:text}`tw_m01a:.0f` edges), L01X (other cancer drugs, {glue:text}`tw_l01x:.0f`), L04A (immunosuppressants, {glue:text}`tw_l04a:.0f`) and B01A (antithrombotics, {glue:text}`tw_b01a:.0f`).
# How many edges a class has follows how many of its drugs stand in the source (Spearman {glue:text}`tw_spearman:.2f`): a class with more drugs has more chances.
#
# {glue:text}`tw_no_edge:.0f` of its classes have no edge at all, and {glue:text}`tw_no_edge_with_drugs:.0f` of these although their drugs *are* in the source.
# Among them are fluoroquinolones (J01M), aminoglycosides (J01G) and the drugs that hold up blood pressure (C01C).
# A clinician would name interactions of each: ciprofloxacin, a fluoroquinolone, raises the levels of tizanidine and theophylline, and aminoglycosides add to the kidney damage that other drugs do {cite:p}`dailymed`.
# No system trained on this matrix can be scored down for them.
#
# ```{exercise}
# :label: ex-drug-neighbours
#
# In the published matrix H02A (corticosteroids for the whole body) and A07E (anti-inflammatory drugs for the gut) together have {glue:text}`tw_h02a_or_a07e:.0f` partners, and share {glue:text}`tw_h02a_shared:.0f` of them.
# Do these classes act alike?
# ```
#
# ```{solution-start} ex-drug-neighbours
# :class: dropdown
# ```

# %%
holds = {
    code: set(any_code.filter(pl.col("atc3") == code)["name"])
    for code in ("H02A", "A07E")
}
same_molecules = sorted(holds["H02A"] & holds["A07E"])
assert "prednisone" in same_molecules
show(same_molecules)

# %% [markdown]
# They hold the same molecules: each of these drugs has a code in both.
# The matrix is lifted over all codes, so one report about prednisone gives both classes the same edge.
#
# ```{solution-end}
# ```
#
# ## The DDI loss: a pair counts twice
#
# During training a system has probabilities, not sets.
# The loss that punishes interactions is the expected number of interacting pairs if medications were drawn independently:
#
# $$
# \mathcal{L}_{\mathrm{ddi}} = c \sum_{i} \sum_{j} A_{ij}\, p_i\, p_j = c\; p^{\top} A\, p .
# $$ (eq-ddi-loss)
#
# This is BiMoRec's equation 29, which writes $\hat m$ for $p$ and no $c$.
# The sum runs over ordered pairs, so each interaction counts as $(i, j)$ and as $(j, i)$.
# The factor $c$ is in no paper; released code has $5 \cdot 10^{-4}$ (SafeDrug, MoleRec, CausalMed, BiMoRec), $1/M^2$ (GAMENet) or $1/M$ (MICRON, DrugRec).
# Take the scores of the first visit of the running example, and its three edges.

# %%
p = torch.tensor(example.SCORES, dtype=torch.float64, device=device)  # (M,)
A_toy = torch.tensor(example.DDI, dtype=torch.float64, device=device)  # (M, M)
M = len(p)
ordered = torch.einsum("i,ij,j->", p, A_toy, p)
conventions = {"5e-4": 5e-4 * ordered, "1 / M²": ordered / M**2, "1 / M": ordered / M}
show((ordered, conventions))

# %% [markdown]
# Check by hand, against {py:func}`medrec.losses.ddi_loss`, and under a renumbering of the medications.
# The gradient is $2 c A p$: a medication is pushed down by the probabilities of its partners, and by nothing else.
# Break it: a matrix with ones on its diagonal punishes every medication for being likely at all.

# %%
by_hand = 2 * (0.9 * 0.7 + 0.9 * 0.6 + 0.4 * 0.7)
torch.testing.assert_close(ordered.cpu(), torch.tensor(by_hand, dtype=torch.float64))
for convention, c in {"5e-4": 5e-4, "1 / M²": 1 / M**2, "1 / M": 1 / M}.items():
    torch.testing.assert_close(ddi_loss(p[None], A_toy, c)[0], conventions[convention])
renumber = torch.tensor([3, 0, 4, 1, 2], device=device)
torch.testing.assert_close(
    ddi_loss(p[renumber][None], A_toy[renumber][:, renumber])[0], ordered
)
leaf = p.clone().requires_grad_()
ddi_loss(leaf[None], A_toy).sum().backward()
torch.testing.assert_close(leaf.grad, 2 * A_toy @ p)

broken = ddi_loss(p[None], A_toy + torch.eye(M, dtype=torch.float64, device=device))[0]
torch.testing.assert_close(broken - ordered, (p**2).sum())
show(
    f"three edges: {ordered:.2f} ordered; ones on the diagonal add "
    f"{broken - ordered:.2f}"
)

# %% tags=["hide-input"]
#| name: fig-ddi-loss
#| alt: Heat map of five medication classes by five. Six cells carry a number, three interactions each appearing on
#|   both sides of the diagonal: 0.63 for B01A with M01A, 0.54 for B01A with N02A, 0.28 for C03C with M01A. All other
#|   cells and the diagonal are empty.
#| caption: The terms of {eq}`eq-ddi-loss` for the first visit of the running example: $A_{ij}\, p_i\, p_j$. Their sum
#|   is {glue:text}`loss_ordered:.2f`. Notice that every interaction stands there twice, and that the diagonal is
#|   empty.
terms = (p[:, None] * A_toy * p[None, :]).cpu().numpy()
fig, ax = plt.subplots(figsize=(plotting.ONE_COLUMN, 3.2))
image = ax.imshow(np.where(terms > 0, terms, np.nan), cmap="cividis", vmin=0, vmax=0.7)
for i, j in zip(*np.nonzero(terms), strict=True):
    ax.text(
        j,
        i,
        f"{terms[i, j]:.2f}",
        ha="center",
        va="center",
        color="white" if terms[i, j] < 0.4 else "black",
    )
rows_named = [
    f"{code}  p = {value}"
    for code, value in zip(example.MEDICATIONS, example.SCORES, strict=True)
]
ax.set_yticks(range(M), rows_named)
ax.set_xticks(range(M), example.MEDICATIONS)
ax.grid(visible=False)
fig.colorbar(image, label="expected ordered pairs")
show(fig)

# %% [markdown]
# ```{exercise}
# :label: ex-drug-halve
#
# Halve all probabilities.
# Predict the loss, the recommended set at a {term}`threshold` of 0.5, and its DDI rate.
# ```
#
# ```{solution-start} ex-drug-halve
# :class: dropdown
# ```

# %%
halved = p / 2
torch.testing.assert_close(ddi_loss(halved[None], A_toy)[0], ordered / 4)
chosen = (halved >= 0.5).cpu().numpy()[None]
assert chosen.sum() == 0
assert metrics.ddi_rate(chosen, example.DDI) == 0
show(float(ddi_loss(halved[None], A_toy)[0]))

# %% [markdown]
# A quarter of the loss; an empty set; a rate of 0 by convention, because there is no pair.
# The loss is satisfied with doubt, the metric with silence.
#
# ```{solution-end}
# ```
#
# ## Do two lists agree beyond chance?
#
# Two lists of interactions over the same classes share some edges.
# Is that agreement, or would any two lists with the same hubs share as many?
# Count the shared edges,
#
# $$
# O(A, B) = \tfrac12 \sum_{i} \sum_{j} A_{ij}\, B_{ij}, \qquad
# P = \frac{1 + \#\{\,n : O(A^{(n)}, B) \ge O(A, B)\,\}}{1 + N},
# $$ (eq-ddi-overlap)
#
# and compare with $N$ random graphs $A^{(n)}$ in which every class keeps its number of edges.
# They are made by swapping {cite:p}`maslov2002specificity`:
#
# ```{prf:algorithm} Rewiring that keeps degrees
# :label: alg-rewire
#
# **Input** a graph, a number of attempts.
#
# 1. Draw two edges $i$–$j$ and $k$–$l$.
# 2. If $i, j, k, l$ are four different classes and neither $i$–$l$ nor $k$–$j$ exists, replace the two edges by $i$–$l$ and $k$–$j$.
# 3. Repeat until the attempts are used up.
# ```
#
# Neither the equation nor the test is in the papers: none of them compares its list with another.
# The test belongs to this book, and so does its one-sided direction.
# On this page it can always be tried on two parts of our own list: pairs taken from prescribing information, and pairs taken from expert lists.

# %%
n_rewired = {"quick": 300, "full": 2000}[profile]
from_labels = pl.col("source").str.starts_with("US prescribing information")
A = ddi_matrix(codes, class_pairs(own.filter(from_labels)))
B = ddi_matrix(codes, class_pairs(own.filter(~from_labels)))
shared = np.einsum("ij,ij->", A.astype(int), B.astype(int)) // 2
rewired = np.stack([rewire(A, seed + n) for n in range(n_rewired)])  # (n, i, j)
null = np.einsum("nij,ij->n", rewired.astype(np.int32), B.astype(np.int32)) // 2
P = (1 + (null >= shared).sum()) / (1 + n_rewired)
show((shared, null.mean(), null.std(), P))

# %% [markdown]
# Check that degrees are kept, that {py:func}`medrec.knowledge.interactions.overlap_test` counts the same, and that the test can say both yes and no.
# A graph with half of the edges of $A$ planted in it must be recognised.
# Graphs that share nothing with $A$ but its degrees must not be.
# Then break the null model: compare with graphs of the same *number* of edges, thrown anywhere.
# Now two graphs that only share their hubs look as if they agreed.

# %%
assert (rewired.sum(2) == A.sum(1)).all()
observed, short_null, _ = overlap_test(A, B, n=20, seed=seed)
assert observed == shared
np.testing.assert_array_equal(short_null, null[:20])


def p_value(other, graphs):
    """P of the overlap of A with another graph, against a stack of random graphs."""
    return (1 + ((graphs & other).sum((1, 2)) >= (A & other).sum()).sum()) / (
        1 + len(graphs)
    )


def thrown(n_edges, rng):
    """A graph with edges anywhere."""
    i, j = np.triu_indices(len(A), 1)
    pick = rng.choice(len(i), n_edges, replace=False)
    graph = np.zeros_like(A)
    graph[i[pick], j[pick]] = graph[j[pick], i[pick]] = True
    return graph


rng = np.random.default_rng(seed)
planted = rewire(A, 10_000 + seed)
half = np.triu(A) & (rng.random(A.shape) < 0.5)
planted |= half | half.T
strangers = [rewire(A, 20_000 + seed + k) for k in range(20)]
anywhere = np.stack([thrown(A.sum() // 2, rng) for _ in range(n_rewired)])
p_strangers, p_broken = (
    [p_value(g, graphs) for g in strangers] for graphs in (rewired, anywhere)
)
assert p_value(planted, rewired) < 0.01
assert 0.2 < np.median(p_strangers) < 0.9
assert np.median(p_broken) < 0.01
show(
    f"P: planted {p_value(planted, rewired):.3f}, strangers "
    f"{np.median(p_strangers):.2f}"
)
show(f"with the broken null model strangers have P = {np.median(p_broken):.3f}")

# %% [markdown]
# Now the lists themselves.
# To compare like with like, the expert list must be lifted as the published matrix was, over all codes of a drug; lifted by route, as this book does, it gives fewer edges.

# %% tags=["hide-input"]
labels = {
    "all": "expert list, all codes",
    "spelt": "… names as spelt, no synonyms",
    "route": "… classes by route",
    "critical": "NDF-RT, critical",
    "high": "ONC, high priority",
    "own": "medrec's own, classes by route",
}
overlap = stored.table("overlaps").rows_by_key("list", named=True, unique=True)
overlap_table = pl.DataFrame(
    [
        {
            "list": words,
            "its edges": overlap[name]["edges"],
            "shared": overlap[name]["shared"],
            "uniform chance": overlap[name]["uniform"],
            "same hubs": overlap[name]["mean"],
            "SD": overlap[name]["sd"],
            "P": overlap[name]["p"],
        }
        for name, words in labels.items()
    ]
)
show(
    page.table(
        overlap_table,
        caption=f"Edges that the published matrix ({counted['tw_classes']:.0f} classes) shares with other lists, and how many it "
        f"would share by chance: edges thrown anywhere, and {page.thousands(stored.provenance['rewired'])} graphs with the "
        f"same hubs (mean, SD over graphs). {note}",
        digits={"uniform chance": 1, "same hubs": 1, "SD": 1, "P": 2},
    )
)

# %% tags=["hide-input"]
#| name: fig-ddi-overlap
#| alt: Left: histogram of shared edges between two parts of our own list after rewiring, with the observed number as
#|   a line far to its right. Right: for six lists, the number of edges shared with the published matrix, as a
#|   difference from graphs with the same hubs in standard deviations; the points lie between about minus one and plus
#|   two.
#| caption: Left: shared edges of two parts of our own list, prescribing information against expert lists; histogram
#|   of {glue:text}`n_rewired:,` rewired graphs, line: observed, {glue:text}`n_classes` classes of
#|   {glue:text}`cohort_line`. Right: the published matrix against other lists, in standard deviations of graphs with
#|   the same hubs (shaded: two SD). Notice that the first test says yes clearly, and how close to the hubs the points
#|   on the right stay. {glue:text}`kept_note`
fig, axes = plt.subplots(1, 2, figsize=(plotting.FULL, 2.9), width_ratios=[1, 1.15])
axes[0].hist(
    null,
    bins=np.arange(null.min() - 0.5, null.max() + 1.5, 1),
    color=plotting.SKY,
    label="rewired",
)
axes[0].axvline(shared, color=plotting.VERMILION, label="observed")
axes[0].set(xlabel="shared edges", ylabel="rewired graphs")
axes[0].legend(loc="upper center")
z = (overlap_table["shared"] - overlap_table["same hubs"]) / overlap_table["SD"]
assert z.is_between(-1, 2).all()  # as the text of this figure says
axes[1].axvspan(-2, 2, color=plotting.INK, alpha=0.15)
axes[1].axvline(0, color=plotting.INK, linestyle=":", linewidth=1)
axes[1].plot(z, np.arange(len(z)), "o", color=plotting.VERMILION)
axes[1].set_yticks(np.arange(len(z)), overlap_table["list"].to_list())
axes[1].set(
    xlabel="shared edges beyond same hubs (SD)",
    xlim=(-3.5, 3.5),
    ylim=(len(z) - 0.5, -0.5),
)
show(fig)

# %% [markdown]
# On these tables: the expert list and the published matrix share {glue:text}`all_shared:.0f` edges.
# Thrown anywhere, {glue:text}`all_uniform:.0f` would be expected; with the same hubs, {glue:text}`all_mean:.0f` ± {glue:text}`all_sd:.0f`.
# So the two lists agree on *which classes* have many interactions, and hardly more than rewired graphs do on *which pairs* interact.
# The lists of severe interactions share no more than the hubs explain.
# The smallest value of $P$ is {glue:text}`smallest_p:.2f`; as many tests on overlapping lists produce one such value easily.
# Two parts of our own list share {glue:text}`own_parts_shared` edges where {glue:text}`own_parts_mean:.0f` would be expected: the test can say yes.
# That comparison is friendly, because whoever compiled both parts knew both.
# The lift matters: with classes by route instead of all codes the lead of {glue:text}`all_lead:.0f` edges shrinks to {glue:text}`route_lead:.1f`.
#
# ### Thirty pairs from the textbook
#
# A second way to ask uses no statistics.
# These thirty interactions stand in prescribing information or expert lists, and any hospital pharmacist knows them; they were picked by hand, and {ref}`the audit <textbook-pairs>` prints them.
# The published matrix has an edge for {glue:text}`tw_textbook:.0f` of the thirty, even if each drug may use any of its codes.
# {glue:text}`n_hidden` of them hide on the diagonal of *every* class matrix, ours included: {glue:text}`hidden_pairs`.
#
# ```{exercise}
# :label: ex-drug-truth
#
# Is the expert list then the truth against which the published matrix fails?
# Name two reasons against it before you open the solution.
# ```
#
# ```{solution} ex-drug-truth
# :class: dropdown
#
# No.
# It has no row with digoxin, whose prescribing information names many.
# Its rows with warfarin come from the list of interactions that *need not* interrupt a prescriber {cite:p}`phansalkar2013noninterruptive`: a list made against too many alarms, not a list of harm.
# And names must be matched: without synonyms (acetylsalicylic acid for aspirin) it gives {glue:text}`spelt_edges:.0f` class pairs instead of {glue:text}`all_edges:.0f`.
# A list of interactions is an opinion with a purpose; two opinions are better than one.
# ```
#
# ## How many alarms have a pair of drugs behind them?
#
# An edge flags every patient who has *some* drug of each class.
# Call a flag backed if two drugs that this patient really has interact:
#
# $$
# q = \frac{\sum_v \sum_{i<j} A_{ij}\, y_{vi}\, y_{vj}\, b_{vij}}{\sum_v \sum_{i<j} A_{ij}\, y_{vi}\, y_{vj}},
# \qquad b_{vij} = \mathbb{1}\bigl[\exists\, a \in i,\, b \in j \text{ given in } v : R_{ab} = 1\bigr].
# $$ (eq-ddi-backed)
#
# The share $q$ is this book's; the papers count the denominator.
# Numerator and denominator come from one list, so nothing but the lift can part them.

# %%
parts = pl.concat(  # a fixed combination is all of its ingredients
    [
        choices.select(drug="name", part="name"),
        combinations().select(drug="name", part="ingredients").explode("part"),
    ]
).filter(
    ~(
        pl.col("drug").is_in(combinations()["name"].implode())
        & (pl.col("drug") == pl.col("part"))
    )
)


def backed_pairs(rows, drug_pairs):
    """Visit and classes i < j where two drugs of the visit are a pair of the list."""
    given = rows.join(parts, on="drug").select("visit_id", "part", "atc3").unique()
    a = given.rename({"part": "drug_a", "atc3": "i"})
    b = given.rename({"part": "drug_b", "atc3": "j"})
    both = ["drug_a", "drug_b"]
    hits = a.join(drug_pairs.select(both), on="drug_a").join(
        b, on=["visit_id", "drug_b"]
    )
    i, j = pl.min_horizontal("i", "j"), pl.max_horizontal("i", "j")
    return hits.select("visit_id", i=i, j=j).unique()


def flags(rows, drug_pairs):
    """Class flags of visits (visit_id, i, j), and whether drugs stand behind each."""
    pair = class_pairs(drug_pairs).rename({"atc3_1": "i", "atc3_2": "j"})
    given = rows.select("visit_id", "atc3").unique()
    flagged = (
        given.rename({"atc3": "i"})
        .join(pair, on="i")
        .join(given.rename({"atc3": "j"}), on=["visit_id", "j"])
    )
    backed = backed_pairs(rows, drug_pairs).with_columns(backed=True)
    return flagged.join(backed, on=["visit_id", "i", "j"], how="left").with_columns(
        pl.col("backed").fill_null(False)
    )


alarms = flags(by_route, own)
q = alarms["backed"].mean()
show((len(alarms), q))

# %% [markdown]
# Check on the four drugs of the first page, where the answer is known: the patient on `a` and `c` is flagged and not backed, a patient on `b` and `c` is both.
# Check the number of flags against {py:func}`medrec.metrics.ddi_counts`.
# Break it: let every drug be a class of its own, and all flags are backed by definition.

# %%
given = by_route.select("visit_id", "atc3").unique()
all_classes = sorted(given["atc3"].unique())
assert metrics.ddi_counts(
    drug_tables.sets(given, all_classes), ddi_matrix(all_classes)
)[0].sum() == len(alarms)

toy_visits = pl.DataFrame(
    {
        "visit_id": [1, 1, 2, 2],
        "drug": ["a", "c", "b", "c"],
        "atc3": ["X", "Y", "X", "Y"],
    }
)
torsades = pl.DataFrame({"drug_a": ["b"], "drug_b": ["c"]})
edge = class_pairs(torsades, toy_classes)
A_xy = ddi_matrix(["X", "Y"], edge)
flagged = metrics.ddi_counts(drug_tables.sets(toy_visits, ["X", "Y"]), A_xy)[0]
both_given = [
    len(torsades.filter(pl.col("drug_a").is_in(v) & pl.col("drug_b").is_in(v)))
    for v in (["a", "c"], ["b", "c"])
]
assert flagged.tolist() == [1, 1]
assert both_given == [0, 1]

each_its_own = ddi_matrix(
    drug_names, torsades.rename({"drug_a": "atc3_1", "drug_b": "atc3_2"})
)
assert (
    metrics.ddi_counts(
        drug_tables.sets(toy_visits.with_columns(atc3="drug"), drug_names), each_its_own
    )[0].tolist()
    == both_given
)
print("two toy patients flagged, one backed; drugs as classes: one flagged")

# %% tags=["hide-input"]
#| name: fig-ddi-alarms
#| alt: Horizontal stacked bars: the twelve most frequent class flags, each split into flags with an interacting pair
#|   of drugs behind them and flags without. The share with a pair differs widely between class pairs, from nearly
#|   none to nearly all.
#| caption: The twelve most frequent class flags under medrec's own list, split by whether two drugs of the visit
#|   interact. Orders of {glue:text}`cohort_line`; {glue:text}`n_alarms:,` flags, {glue:text}`backed_share:.0%`
#|   backed. Counts, no interval. Notice how differently the same metric must be read for different pairs.
by_pair = (
    alarms.group_by("i", "j")
    .agg(pl.len(), pl.col("backed").sum())
    .sort(["len", "i", "j"], descending=[True, False, False])
)
told = [privacy.count(records, *row) for row in by_pair.select("backed", "len").rows()]
by_pair = by_pair.filter(pl.Series(np.isfinite(told), dtype=pl.Boolean)).head(12)
rows = np.arange(len(by_pair))
fig, ax = plt.subplots(figsize=(plotting.FULL, 3.8))
ax.barh(
    rows,
    by_pair["backed"],
    color=plotting.BLUE,
    height=0.6,
    label="two of the drugs interact",
)
ax.barh(
    rows,
    by_pair["len"] - by_pair["backed"],
    left=by_pair["backed"],
    color=plotting.OCHRE,
    height=0.6,
    hatch="///",
    label="the classes only",
)
ax.set_yticks(
    rows,
    [
        f"{short[i]} ({i})\nand {short[j]} ({j})"
        for i, j in by_pair.select("i", "j").iter_rows()
    ],
    fontsize=6.5,
)
ax.set(xlabel="visits with the flag", ylim=(len(rows) - 0.4, -0.6))
ax.grid(axis="y", visible=False)
ax.legend(loc="lower right")
show(fig)

# %% [markdown]
# Of {glue:text}`n_alarms:,` class flags on the orders of this page, {glue:text}`backed_share:.0%` have an interacting pair of drugs behind them.
# The rest are raised by the lift.
# Prescribers override most drug-safety alerts {cite:p}`vandersijs2006overriding`; the expert lists were kept short with that in mind {cite:p}`phansalkar2012high,phansalkar2013noninterruptive`.
#
# ```{exercise}
# :label: ex-drug-alarms
#
# Predict: keep only interactions that are contraindicated, the most serious ones.
# Will the share of backed flags rise or fall?
# ```
#
# ```{solution-start} ex-drug-alarms
# :class: dropdown
# ```

# %%
serious = flags(by_route, own.filter(pl.col("severity") == "contraindicated"))
serious_share = serious["backed"].mean() if len(serious) else float("nan")
show((len(serious), serious_share))

# %% [markdown]
# {glue:text}`serious_words` {glue:text}`serious_share:.1%` of {glue:text}`n_serious:,` flags on this page.
# Contraindicated pairs are few, so an edge rests on few drug pairs; and drugs that must not be combined are mostly not combined, while their classmates are.
# In synthetic records that avoidance is written into the generator; run the page on a demo to see it in a hospital.
#
# ```{solution-end}
# ```
#
# ## The audit
#
# ### From the papers
#
# {cite:t}`tan2024nlammr` print the DDI rate of the *prescribed* sets beside their figure 3: {glue:text}`nla_iii:.5f` on MIMIC-III, {glue:text}`nla_iv:.5f` on MIMIC-IV.
# A rate of what was prescribed depends on no model.
# It does depend on everything in this chapter.

# %% tags=["hide-input"]
nla = {
    f"MIMIC-{number}": published.fact(f"nlammr_true_ddi_rate_mimic{k}")
    for number, k in (("III", 3), ("IV", 4))
}
in_demos = {
    row[:3]: row[3] for row in stored.table("rates").iter_rows()
}  # records, rule, list: rate
pairs_of = {"TWOSIDES": "published", "medrec's own": "own"}
rates = pl.DataFrame(
    [
        ("printed by NLA-MMR, full databases", "TWOSIDES", *nla.values()),
        *(
            (
                f"demos: {rule}",
                which,
                in_demos["mimic3-demo", rule, pairs_of[which]],
                in_demos["mimic4-demo", rule, pairs_of[which]],
            )
            for rule, which in (
                ("product, first code", "TWOSIDES"),
                ("name, first code", "TWOSIDES"),
                ("name and route", "TWOSIDES"),
                ("name and route", "medrec's own"),
            )
        ),
    ],
    schema=["records and mapping", "list", *nla],
    orient="row",
)
show(
    page.table(
        rates,
        caption="DDI rate of the prescribed sets (fraction of pairs, pooled over visits, whole stay). "
        f"Demos: {counted['m3_patients']:.0f} and {counted['m4_patients']:.0f} patients; rates against the published list "
        f"over its {counted['tw_classes']:.0f} classes. No interval, the rows of one column are the same prescriptions. {note}",
        digits=4,
    )
)

# %% tags=["hide-input"]
#| name: fig-ddi-true-rates
#| alt: Slope chart of DDI rate from MIMIC-III to MIMIC-IV, one line for each mapping and list. The printed line and
#|   the demos by first code of the product fall; the demos by name and route under the published list rise; under our
#|   own list the line lies higher and falls.
#| caption: The rates of the table above. Solid: printed, full databases; broken: the open demos under four
#|   combinations of mapping and list. Notice that the rule decides which database looks safer. {glue:text}`kept_note`
fig, ax = plt.subplots(figsize=(plotting.FULL, 3.1))
looks = [
    ("+", "-", plotting.INK),
    ("o", "--", plotting.BLUE),
    ("s", ":", plotting.GREEN),
    ("^", "--", plotting.VERMILION),
    ("D", "-.", plotting.OCHRE),
]
for (marker, line, colour), (mapping, which, iii, iv) in zip(
    looks, rates.iter_rows(), strict=True
):
    ax.plot(
        [0, 1],
        [iii, iv],
        marker=marker,
        linestyle=line,
        color=colour,
        label=f"{mapping}; {which}",
    )
ax.set_xticks([0, 1], ["MIMIC-III", "MIMIC-IV"])
ax.set(xlim=(-0.1, 1.1), ylabel="DDI rate (fraction of pairs)", ylim=(0, None))
ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
show(fig)

# %% [markdown]
# :::{admonition} Do the kept report types measure severity?
# :class: verdict
# No.
# SafeDrug and its successors keep the "top-40" types of TWOSIDES, and {cite:t}`zhao2024diffkg` speaks of the "top-40 severity types".
# No severity enters: the released scripts sort types by their number of reports and take the last 40, which are the 40 *rarest*.
# A reader asked about this in GAMENet's repository in January 2024; the question stands open.
# TWOSIDES has no severity and no dose to sort by {cite:p}`tatonetti2012twosides`.
# A script that ranks types by outcome would overturn this; none is released.
# :::
#
# :::{admonition} Whose rate is lower, MIMIC-III's or MIMIC-IV's?
# :class: verdict
# It depends on the rule, on the same demo patients: by first code of the product MIMIC-III is higher ({glue:text}`m3_ndc_tw:.4f` against {glue:text}`m4_ndc_tw:.4f`), by name and route MIMIC-IV is ({glue:text}`m3_route_tw:.4f` against {glue:text}`m4_route_tw:.4f`).
# So few patients cannot say how the full databases compare.
# They do show that a difference of this size is within reach of the mapping alone.
# :::
#
# :::{admonition} Do the ticks of BiMoRec's figure 7 fit the classes?
# :class: verdict
# As we read that figure, it ticks R01A for atropine, and N07A and A03B for ipratropium.
# In the ATC index atropine is A03B (or S01F, as eye drops) and ipratropium is R01A or R03B; R03B is not among the {glue:text}`tw_classes:.0f` classes, so there ipratropium can only be R01A.
# Of {glue:text}`r01a:.0f` orders in R01A on the two demos {glue:text}`r01a_ipratropium:.0f` are ipratropium, alone or with albuterol; of {glue:text}`a03b:.0f` in A03B {glue:text}`a03b_atropine:.0f` are atropine; all {glue:text}`n07a_neostigmine:.0f` in N07A are neostigmine, which acts opposite to both.
# The two columns look swapped for R01A and A03B, and N07A belongs to neither drug.
# The dictionary of classes with which the figure was drawn would settle it.
# :::
#
# :::{admonition} Does atropine treat depression, as the caption of BiMoRec's figure 1 says?
# :class: verdict
# No.
# Atropine is given for a slow heart beat, against secretions before surgery and as an antidote to nerve agents and certain insecticides; as eye drops it widens the pupil {cite:p}`dailymed`.
# The paper's own Section 6.5 names other uses, blurred vision among them, which is one of its side effects.
# The point about similar molecules with different uses stands without it.
# :::
#
# ### What the papers do not say
#
# - **Which class a product gets.**
#   The rule "first code of the product" is in no paper.
#   What such a rule can move is in {numref}`fig-drug-lots`.
# - **Which molecule a class is.**
#   In SafeDrug's released script a class is represented by up to three drugs whose names were found, in no stated order.
#   In our own table {glue:text}`n_several` of {glue:text}`n_drugs:,` drugs have codes in more than one class, and {glue:text}`n_class_pairs` pairs of classes share a molecule.
#   No encoder of molecules can tell such classes apart by that molecule.
# - **What a missing edge means.**
#   {glue:text}`tw_no_edge_without:.0f` of the {glue:text}`tw_no_edge:.0f` classes without an edge have no drug in the source.
#   That is absence of evidence.
# - **Whether its list is like any other.**
#   What would overturn the comparison above is a lift at drug level, before classes blur the pairs; another cut of the report types; or a null model that lets hubs vary, since being a hub is knowledge too.
# - **What a report means.**
#   TWOSIDES is mined from spontaneous reports, with statistics against confounding; a report names drugs taken together, no dose, no cause {cite:p}`tatonetti2012twosides`.
# - **What the graph of co-prescription was built from.**
#   The released code of GAMENet and COGNet builds it from all records, test patients included.
#
# (textbook-pairs)=
# ### The thirty pairs
#
# The default classes of the two drugs stand beside each pair; where they are the same, no class matrix can show it.

# %% tags=["hide-input"]
default_class = dict(default.select("name", "atc3").iter_rows())
textbook = pl.DataFrame(
    [sorted(pair) for pair in drug_tables.TEXTBOOK],
    schema=["drug_a", "drug_b"],
    orient="row",
)
textbook = textbook.join(
    own, on=["drug_a", "drug_b"], how="left", maintain_order="left"
).with_columns(
    class_a=pl.col("drug_a").replace_strict(default_class),
    class_b=pl.col("drug_b").replace_strict(default_class),
)
assert textbook["source"].null_count() == 0
hidden = textbook.filter(pl.col("class_a") == pl.col("class_b"))
show(
    page.table(
        textbook.select(
            pair=pl.concat_str("drug_a", "drug_b", separator=" + "),
            classes=pl.concat_str("class_a", "class_b", separator=" + "),
            effect="effect",
            severity="severity",
            source="source",
        ),
        caption="Known interactions, picked by hand: each is a row of medrec's own table and has its source.",
    )
)

# %% [markdown]
# ### Misconceptions
#
# "An edge is a contraindication."
# : R01A–R03A is an edge, and its drugs share a vial.
#
# "No edge, no risk."
# : Fluoroquinolones have no edge in the published matrix, and any pair within a class has none in any.
#
# "An ATC class is a drug."
# : One drug can sit in several classes, and one class holds drugs that act differently.
#
# "Top-40 means the worst 40."
# : It means the rarest 40.
#
# "Two lists that share many edges confirm each other."
# : Two lists with the same hubs share many edges anyway.
#
# ## Summary
#
# - An ATC code has 1, 3, 4, 5 or 7 characters at levels 1 to 5; the papers recommend at level 3, four characters, whatever they call it.
# - One class for each product needs a rule; the same prescriptions had DDI rates from {glue:text}`lot_low:.3f` to {glue:text}`lot_high:.3f` under different consistent choices.
# - A class matrix joins two classes when one pair of their drugs is listed, and its diagonal is zero; the published one rests on the 40 rarest report types.
# - The DDI loss is $c\, p^\top A\, p$ over ordered pairs, so each interaction counts twice; $c$ is in no paper, and released choices differ by a factor of up to $M$.
# - Shared edges must be compared with graphs that keep the hubs; on these tables the published matrix and expert lists share hardly more than that.
# - Of the class flags on this page {glue:text}`backed_share:.0%` have an interacting pair of drugs behind them.
#
# ## Exercises
#
# ```{exercise}
# :label: ex-drug-number
#
# Do the two class rules also change the {term}`average number of medications`?
# Predict the direction, then compute it for the orders of this page.
# ```
#
# ```{solution-start} ex-drug-number
# :class: dropdown
# ```

# %%
per_visit = {
    rule: rows.select("visit_id", "atc3").unique().height / rows["visit_id"].n_unique()
    for rule, rows in {"by route": by_route, "first code": first}.items()
}
show(per_visit)

# %% [markdown]
# A drug that is given by two routes can count as two classes under the first rule and as one under the second; against that, two drugs that share a class by use may be parted by their first codes.
# The two effects nearly cancel.
#
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-drug-levels
#
# Build the matrix of our own list at level 3 and at level 4.
# Where do the new edges come from?
# ```
#
# ```{solution-start} ex-drug-levels
# :class: dropdown
# ```

# %%
code_of = default.select("name", "atc5")
edges_at = {}
for k in (3, 4):
    classes_at = code_of.select("name", atc3=pl.col("atc5").str.slice(0, n_k[k]))
    both_ends = own.join(
        classes_at.rename({"name": "drug_a", "atc3": "i"}), on="drug_a"
    ).join(classes_at.rename({"name": "drug_b", "atc3": "j"}), on="drug_b")
    edges_at[k] = {
        "class pairs": len(class_pairs(own, classes_at)),
        "drug pairs on the diagonal": both_ends.filter(
            pl.col("i") == pl.col("j")
        ).height,
        "drug pairs": len(own),
    }
assert edges_at[4]["class pairs"] > edges_at[3]["class pairs"]
assert (
    edges_at[4]["drug pairs on the diagonal"]
    < edges_at[3]["drug pairs on the diagonal"]
)
show(
    page.table(
        pl.DataFrame([{"level": k, **row} for k, row in edges_at.items()]),
        caption="medrec's own list at two levels, default class of each drug.",
    )
)

# %% [markdown]
# From two places: edges of level 3 split into several, and pairs that hid on the diagonal come to light.
#
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-drug-diagonal
#
# How many interacting drug pairs of our own list can a level-3 matrix never show, and which classes hide most of them?
# ```
#
# ```{solution-start} ex-drug-diagonal
# :class: dropdown
# ```

# %%
on_diagonal = (
    own.with_columns(
        pl.col(c).replace_strict(default_class, default=None).alias(f"{c}_class")
        for c in ("drug_a", "drug_b")
    )
    .filter(pl.col("drug_a_class") == pl.col("drug_b_class"))
    .group_by(code="drug_a_class")
    .len("hidden pairs")
    .sort(["hidden pairs", "code"], descending=[True, False])
)
assert on_diagonal["hidden pairs"].sum() == edges_at[3]["drug pairs on the diagonal"]
show(
    page.table(
        on_diagonal.head(6).select(
            "code",
            name=pl.col("code").replace_strict(class_name),
            **{"hidden pairs": "hidden pairs"},
        ),
        caption="Classes that hide most of the "
        f"{page.thousands(on_diagonal['hidden pairs'].sum())} pairs of medrec's "
        "own list "
        "whose two drugs have the same default class.",
    )
)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-drug-ranking
#
# Rank the prescribed sets, the last visit and a popularity list by DDI rate, once with severe interactions only and once with moderate ones only.
# Is the ranking the same?
# ```
#
# ```{solution-start} ex-drug-ranking
# :class: dropdown
# ```

# %%
programs = {
    "prescribed": reference_points.targets(records),
    "last visit": reference_points.last_visit(records),
    "popularity": reference_points.popularity(records)[0],
}
severe = pl.col("severity").is_in(["contraindicated", "major"])
squares_by = {
    "severe": ddi_matrix(codes, class_pairs(own.filter(severe))),
    "moderate": ddi_matrix(codes, class_pairs(own.filter(~severe))),
}
later = records.visit_number > 0
show(
    page.table(
        pl.DataFrame(
            [
                {
                    "program": name,
                    **{
                        kind: metrics.ddi_rate(sets_[later], square)
                        for kind, square in squares_by.items()
                    },
                }
                for name, sets_ in programs.items()
            ]
        ),
        caption="DDI rate of three programs, later visits of "
        + page.cohort_line(records)
        + ", pooled; no interval.",
        digits=4,
    )
)

# %% [markdown]
# Read the two columns against each other.
# Where they rank the programs differently, "safer" means "safer by this list".
#
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-drug-row
#
# Add one interaction to the matrix of our own list by hand, and make the symmetry test fail.
# Then add it properly.
# ```
#
# ```{solution-start} ex-drug-row
# :class: dropdown
# ```

# %%
i, j = next(
    (i, j)
    for i in range(len(codes))
    for j in range(i + 1, len(codes))
    if not square[i, j]
)
by_force = square.copy()
by_force[i, j] = True
assert not (by_force == by_force.T).all()  # the test fails, as it should

row = pl.DataFrame({"atc3_1": [codes[i]], "atc3_2": [codes[j]]})
properly = ddi_matrix(codes, pl.concat([class_pairs(own), row]))
assert (properly == properly.T).all()
assert (properly != square).sum() == 2
print("by force: not symmetric; through the table: symmetric, and two cells differ")

# %% [markdown]
# In `interactions.csv` such a row also needs its effect, severity and source; tests refuse a row without them.
#
# ```{solution-end}
# ```
#
# ### Quiz
#
# ```{dropdown} What does the zero diagonal hide?
# All interactions between two drugs of one class: aspirin with warfarin, both against clotting, is one of them.
# ```
#
# ```{dropdown} Which classes can never be flagged?
# Those without an edge; in the published matrix, fluoroquinolones and aminoglycosides among them.
# ```
#
# ```{dropdown} Why must the null model keep degrees?
# Because hubs meet hubs: two lists that agree on nothing but which classes are well studied share many edges.
# ```

# %% tags=["remove-cell"]
n_pairs_all = len(codes) * (len(codes) - 1) // 2
shared_molecules = (
    any_code.join(any_code, on="name", suffix="_2")
    .filter(pl.col("atc3") < pl.col("atc3_2"))
    .select("atc3", "atc3_2")
    .unique()
)
single = choices.join(drugs().select("name"), on="name", how="semi")
page.glue(
    cohort_line=page.cohort_line(records),
    kept_note=page.about(records, note),
    n_orders=len(by_route),
    several_share=len(several) / len(by_route),
    moved_share=len(moved) / len(by_route),
    lot_low=lots["medrec's own"].min(),
    lot_high=lots["medrec's own"].max(),
    systems_low=system_range[0],
    systems_high=system_range[1],
    n_systems=len(printed),
    n_draws=drug_tables.DRAWS,
    n_classes=len(codes),
    own_pairs=square.sum() // 2,
    own_all_pairs=n_pairs_all,
    own_density=square.sum() / 2 / n_pairs_all,
    own_no_edge=(square.sum(1) == 0).sum(),
    own_spearman=spearmanr(size, degree).statistic,
    loss_ordered=float(ordered),
    n_rewired=n_rewired,
    own_parts_shared=shared,
    own_parts_mean=null.mean(),
    smallest_p=overlap_table["P"].min(),
    **{
        f"all_{key}": overlap["all"][key] for key in ("shared", "uniform", "mean", "sd")
    },
    all_edges=overlap["all"]["edges"],
    spelt_edges=overlap["spelt"]["edges"],
    all_lead=overlap["all"]["shared"] - overlap["all"]["mean"],
    route_lead=overlap["route"]["shared"] - overlap["route"]["mean"],
    n_hidden=len(hidden),
    hidden_pairs=page.about(
        records,
        ", ".join(
            f"{a} with {b}" for a, b in hidden.select("drug_a", "drug_b").iter_rows()
        ),
    ),
    n_alarms=len(alarms),
    backed_share=q,
    n_serious=privacy.count(records, len(serious), of=len(alarms)),
    serious_share=serious_share,
    serious_words=page.about(
        records, "It falls, to" if serious_share < q else "Here it does not fall:"
    ),
    nla_iii=nla["MIMIC-III"],
    nla_iv=nla["MIMIC-IV"],
    n_several=(single["atc3"].list.len() > 1).sum(),
    n_drugs=len(single),
    n_class_pairs=len(shared_molecules),
    tw_no_edge_without=counted["tw_no_edge"] - counted["tw_no_edge_with_drugs"],
    **counted,
    **{
        f"{short}_{words}_tw": in_demos[name, rule, "published"]
        for name, short in drug_tables.SHORT.items()
        for rule, words in (("product, first code", "ndc"), ("name and route", "route"))
    },
)

# %% [markdown]
# ## References
#
# - {cite:t}`mu2024bimorec`: the opening example, equation 29, figures 1 and 7.
# - {cite:t}`tan2024nlammr`: the DDI rate of the prescribed sets.
# - {cite:t}`zhao2024diffkg`: its description of the kept report types.
# - {cite:t}`shang2019gamenet` and {cite:t}`yang2021safedrug`: the drug tables, the published matrix and how it was made.
# - {cite:t}`tatonetti2012twosides` and {cite:t}`zitnik2018decagon`: the reports, and the version of them in use.
# - {cite:t}`ayvaz2015pddi`, {cite:t}`phansalkar2012high` and {cite:t}`phansalkar2013noninterruptive`: the expert lists.
# - {cite:t}`whocc2024atc`: the classification.
# - {cite:t}`dailymed`: prescribing information, the source of clinical statements.
# - {cite:t}`maslov2002specificity`: rewiring that keeps degrees.
# - {cite:t}`vandersijs2006overriding`: what too many alarms do.
# - {cite:t}`johnson2019mimic3demo` and {cite:t}`johnson2023mimic4demo`: the open demos.
