"""Mamba on a laptop: the models, the scans, the sampler, and the tools to look inside.

Read `scan/recurrence.py` first, then `layers/mamba2.py` (the mixer), `model/network.py` (the language model) and
`generation/loop.py`. From the ground up:

    checks, words, machine, operation         what everything stands on
    config, scan, layers, model               what a Mamba is
    fast                                      the same numbers, sooner
    text, weights, generation, mamba2_lm      the model in use: loaded, saved, made to write
    sessions                                  a text put away, to go on with another day
    data, evaluation, training                measured on texts, and taught by them
    inspect, yardsticks                       taken apart, measured against others
    health, benchmark, plots, course, pretrained, widgets, cli
"""

from mamba2_lab import interrupts as interrupts  # first: the others take seconds

# isort: split
from mamba2_lab import fast as fast  # registers the faster ways
from mamba2_lab.config import Mamba2Config, MambaConfig
from mamba2_lab.generation import SamplingConfig, generate, stream
from mamba2_lab.layers import Attention, LayerState, Mamba1, Mamba2, Mamba3
from mamba2_lab.machine.freed_memory import keep_freed_memory
from mamba2_lab.mamba2_lm import Mamba2LM, MambaLM
from mamba2_lab.model import Mamba2Cache
from mamba2_lab.weights import load_tokenizer
from mamba2_lab.weights.convert import convert

__version__ = "0.1.0"

__all__ = [
    "Attention",
    "LayerState",
    "Mamba1",
    "Mamba2",
    "Mamba2Cache",
    "Mamba2Config",
    "Mamba2LM",
    "Mamba3",
    "MambaConfig",
    "MambaLM",
    "SamplingConfig",
    "convert",
    "generate",
    "keep_freed_memory",
    "load_tokenizer",
    "stream",
]
