"""Honest timing: who is how fast, measured in turns on the same machine, with all that a number needs to be believed.

clock.py        wall time and peak memory of a call
measurement.py  a number with its machine, versions and date, and records of them as JSON lines
measures/       what is timed: scans, mixers, whole models, a training step; against transformers with the same weights,
                against llama.cpp and mlx-lm, against a transformer, against another device; and the generations of
                Mamba, against one another
programs.py     ours and others that run the same weights, each in a process of its own
suite.py        the measures with their settings, and sweeps over settings: what `mamba2-lab bench` runs
apart.py        a sweep in a process of its own
child.py        a process that does what it is told
neighbour.py    one that keeps the cores busy, to measure beside
records/        records of other machines, a file each
"""

from mamba2_lab.benchmark.clock import Timing, measure, peak_bytes
from mamba2_lab.benchmark.measurement import Measurement, here, read, shipped, where, write

__all__ = ["Measurement", "Timing", "here", "measure", "peak_bytes", "read", "shipped", "where", "write"]
