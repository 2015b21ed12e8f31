"""Looking inside: what a model did, in numbers, ready to be plotted; and its memory, open to be edited.

tracing.py        everything that happened while a model read one prompt
layer.py          what one layer did, of whatever kind it is
of_mamba2.py, of_mamba3.py   and what only such a layer has: states, hidden attention, half-lives, turns
recurrent.py, tracer.py      what they have in common: to be asked, and to read
reach.py          how far back a token is heard
change.py         how much a state changed
surgery.py        caches erased, swapped, written to (and `weights.caches`: saved, loaded)
probe.py          what can be read off a state by a weighted sum
source_labels.py  what a memory of Python source should know after each byte
"""

from mamba2_lab.inspect.change import state_change
from mamba2_lab.inspect.layer import Contributions, LayerTrace
from mamba2_lab.inspect.of_mamba2 import Mamba2Trace
from mamba2_lab.inspect.of_mamba3 import Mamba3Trace
from mamba2_lab.inspect.probe import Probe, fit_probe
from mamba2_lab.inspect.reach import gradient_reach, mean_by_distance
from mamba2_lab.inspect.source_labels import PythonLabels, python_labels
from mamba2_lab.inspect.surgery import erase, erase_windows, inject, swap
from mamba2_lab.inspect.tracing import Trace, trace
from mamba2_lab.weights.caches import load_cache, save_cache

__all__ = [
    "Contributions",
    "LayerTrace",
    "Mamba2Trace",
    "Mamba3Trace",
    "Probe",
    "PythonLabels",
    "Trace",
    "erase",
    "erase_windows",
    "fit_probe",
    "gradient_reach",
    "inject",
    "load_cache",
    "mean_by_distance",
    "python_labels",
    "save_cache",
    "state_change",
    "swap",
    "trace",
]
