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
# When two numbers stand side by side, what must be true before one may be called better?
#
# ```{admonition} Objectives
# :class: objectives
# After this chapter you can
# - *compute* a bootstrap standard error by hand and say what it leaves out.
# ```
#
# **Prerequisites.** Mean, standard deviation, reading a Python cell.

# %%
import numpy as np
from matplotlib import pyplot as plt

from medrec.book import page
from medrec.plotting import ONE_COLUMN, use_style

# %% tags=["parameters"]
seed: int = 0  # seed of the resampling
cohort: str = "synthetic"  # cohort that is scored
device: str = "cpu"  # where tensors live; nothing heavy is computed here
profile: str = "quick"  # quick: minutes on a laptop; full: paper size

# %% tags=["hide-input"]
page.at_a_glance(
    {"seed": seed, "cohort": cohort, "device": device, "profile": profile},
    paper="none: this chapter is about reading the others",
    data="six patients written on this page",
    learned="nothing",
    full_run="the same as here",
)
# %% [markdown]
# ## The spread of a mean
#
# Draw $m$ of the $n$ patients with replacement and average; do so again and again.
# The standard deviation of these averages has a closed form,
#
# $$
# \mathrm{SE}^{*} = \frac{s_n}{\sqrt{m}},
# $$ (eq-bootstrap-se)
#
# where $s_n$ is the standard deviation of the $n$ values with divisor $n$.

# %%
jaccards = np.array([0.30, 0.45, 0.50, 0.60, 0.65, 0.80])
rng = np.random.default_rng(seed)
means = jaccards[rng.integers(0, 6, size=(50_000, 6))].mean(axis=1)
closed_form = jaccards.std() / np.sqrt(6)
assert abs(closed_form - 0.06455) < 1e-5
assert abs(means.std() - closed_form) < 1e-3
print("simulated and closed form agree to three decimals")

# %% tags=["remove-cell"]
page.glue(se_closed=closed_form, se_simulated=means.std())

# %% [markdown]
# The closed form {eq}`eq-bootstrap-se` gives {glue:text}`se_closed:.5f`, the simulation {glue:text}`se_simulated:.5f`.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Histogram of 50 000 resampled means of six Jaccard values, centred on 0.55 and bell-shaped, with nearly all of its mass between 0.35 and 0.75."}, "figure": {"name": "fig-bootstrap-means", "caption": "Resampled means of six patients written on this page. The standard deviation of the histogram is the bootstrap standard error, {glue:text}`se_simulated:.4f`."}}
use_style()
fig, ax = plt.subplots(figsize=(ONE_COLUMN, 2.6))
ax.hist(means, bins=40)
ax.set(xlabel="mean Jaccard of a resample", ylabel="resamples")
plt.show()

# %% [markdown]
# In {numref}`fig-bootstrap-means` the means scatter less than the patients do.
#
# ```{exercise}
# :label: ex-bootstrap-size
#
# The field draws 80 % of the patients.
# Predict whether its standard error is larger or smaller than {eq}`eq-bootstrap-se` with $m = n$.
# ```
#
# ```{solution} ex-bootstrap-size
# :class: dropdown
#
# Larger by $\sqrt{1.25}$: fewer draws, more spread.
# ```
#
# ## Summary
#
# - The bootstrap standard error of a mean is $s_n / \sqrt{m}$; it says nothing about re-training.
