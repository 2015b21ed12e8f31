"""Whether this machine computes the right numbers."""

from mamba2_lab.health.choice import choose as choose
from mamba2_lab.health.choice import summary as summary
