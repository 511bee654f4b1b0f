"""medrec: an executable, audited companion to the medication recommendation literature."""

import os

# Two threads that spin while they wait make small tensor operations ten times slower; must precede torch.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"
