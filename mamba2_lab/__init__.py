"""Mamba-2 on a laptop: the model, the scans, the sampler, and the tools to look inside.

Read the modules from the bottom up: `scan` (the recurrence), `mamba2` (the block), `model` (the language model),
`generation`. Everything else stands around these.
"""

from mamba2_lab.allocator import keep_freed_memory
from mamba2_lab.cache import LayerState, Mamba2Cache
from mamba2_lab.checkpoint import load_tokenizer
from mamba2_lab.config import Mamba2Config
from mamba2_lab.generation import generate, stream
from mamba2_lab.mamba2 import Mamba2
from mamba2_lab.model import Mamba2LM
from mamba2_lab.sampling import SamplingConfig

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
