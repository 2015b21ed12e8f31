"""Text to learn from: what every user already has, and how it is cut into batches."""

from mamba2_lab.data.packing import PackedTokens, pack
from mamba2_lab.data.python_source import Corpus, Document, standard_library

__all__ = ["Corpus", "Document", "PackedTokens", "pack", "standard_library"]
