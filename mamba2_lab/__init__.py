"""Mamba-2 on a laptop: the model, the scans, the sampler, and the tools to look inside.

Read the modules from the bottom up: `scan` (the recurrence), `mamba2` (the block), `model` (the language model),
`generation`. Everything else stands around these.
"""

from mamba2_lab import fast as fast  # registers the faster ways
from mamba2_lab.config import Mamba2Config
from mamba2_lab.generation import SamplingConfig, generate, stream
from mamba2_lab.layers import LayerState, Mamba2
from mamba2_lab.machine.freed_memory import keep_freed_memory
from mamba2_lab.mamba2_lm import Mamba2LM
from mamba2_lab.model import Mamba2Cache
from mamba2_lab.weights import load_tokenizer

__version__ = "0.1.0"

__all__ = [
    "LayerState",
    "Mamba2",
    "Mamba2Cache",
    "Mamba2Config",
    "Mamba2LM",
    "SamplingConfig",
    "generate",
    "keep_freed_memory",
    "load_tokenizer",
    "stream",
]
