"""The lab: grids of trainings, kept results, comparisons."""
