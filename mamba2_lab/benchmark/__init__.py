"""Honest timing: who is how fast, measured in turns on the same machine, with all that a number needs to be believed.

clock.py      wall time and peak memory of a call
record.py     a measurement with its machine, versions and date, as JSON lines
measures.py   what is timed: scan, prefill, decode, training step; against transformers with the same weights, against a
              transformer, against another device
suite.py      the measures with their settings, and sweeps over settings: what `mamba2-lab bench` runs
apart.py      a sweep in a process of its own
records/      records of other machines, a file each
"""

from mamba2_lab.benchmark.clock import Timing, measure, peak_bytes
from mamba2_lab.benchmark.record import Record, here, read, shipped, where, write

__all__ = ["Record", "Timing", "here", "measure", "peak_bytes", "read", "shipped", "where", "write"]
