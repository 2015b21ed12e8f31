"""Blocks stacked to a language model.

network   `LanguageModel`: embedding, blocks, norm, head; forward, prefill, step
rows      token ids in the one form that blocks know: padding, masks, documents, pieces of a long text
cache     what a model remembers of what it has read
"""

from mamba2_lab.model.cache import Mamba2Cache as Mamba2Cache
from mamba2_lab.model.network import LanguageModel as LanguageModel
