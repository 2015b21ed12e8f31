"""Text to learn from: what every user already has, and how it is cut into batches."""

from mamba2_lab.data.packing import Batch, PackedTokens, pack
from mamba2_lab.data.python_source import Corpus, Document, standard_library

__all__ = ["Batch", "Corpus", "Document", "PackedTokens", "pack", "standard_library"]
