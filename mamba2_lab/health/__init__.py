"""Whether this machine computes the right numbers.

choice.py       which device to compute on, by a short self-test: `choose`, `summary`
check.py        one thing computed twice and compared
operations.py   what is checked of the operations, torch's and ours, one by one
whole_model.py  what is checked of a whole model: reading, learning, drawing
report.py       what comes of it, in Markdown: `mamba2-lab doctor`
"""

from mamba2_lab.health.choice import choose as choose
from mamba2_lab.health.choice import summary as summary
