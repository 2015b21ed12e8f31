"""Looking inside: what a model did, in numbers, ready to be plotted; and its memory, open to be edited.

tracing.py        everything that happened while a model read one prompt
layer.py          what one layer did, of whatever kind it is
of_mamba1.py, of_mamba2.py, of_mamba3.py, of_attention.py   what only layers of that kind have
recurrent.py      states, and half-lives, which layers of several kinds have
tracer.py         how a layer is read
reach.py          how far back a token is heard
change.py         how much a state changed
surgery.py        caches erased, swapped, written to (and `weights.caches`: saved, loaded)
probe.py          what can be read off a state by a weighted sum
source_labels.py  what a memory of Python source should know after each byte
"""

from mamba2_lab.inspect.change import state_change
from mamba2_lab.inspect.layer import Contributions, LayerTrace
from mamba2_lab.inspect.of_attention import AttentionTrace
from mamba2_lab.inspect.of_mamba1 import Mamba1Trace
from mamba2_lab.inspect.of_mamba2 import Mamba2Trace
from mamba2_lab.inspect.of_mamba3 import Mamba3Trace
from mamba2_lab.inspect.probe import Probe, fit_probe
from mamba2_lab.inspect.reach import gradient_reach, mean_by_distance
from mamba2_lab.inspect.source_labels import PythonLabels, python_labels
from mamba2_lab.inspect.surgery import erase, erase_windows, inject, swap
from mamba2_lab.inspect.tracing import Trace, trace
from mamba2_lab.weights.caches import load_cache, save_cache

__all__ = [
    "AttentionTrace",
    "Contributions",
    "LayerTrace",
    "Mamba1Trace",
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
