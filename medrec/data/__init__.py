"""From raw tables to cohorts."""

from medrec.data.load import load_cohort

__all__ = ["load_cohort"]
