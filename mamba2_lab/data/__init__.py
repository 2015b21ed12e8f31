"""Text to learn from: what every user already has, what they bring, and how it is cut into batches."""

from mamba2_lab.data.licences import Package, permissive_packages
from mamba2_lab.data.overlaps import Overlap, decontaminate
from mamba2_lab.data.packing import Batch, PackedTokens, pack
from mamba2_lab.data.python_source import Corpus, Document, installed_packages, standard_library
from mamba2_lab.data.user_text import text_files

__all__ = [
    "Batch",
    "Corpus",
    "Document",
    "Overlap",
    "Package",
    "PackedTokens",
    "decontaminate",
    "installed_packages",
    "pack",
    "permissive_packages",
    "standard_library",
    "text_files",
]
