"""Blocks stacked to a language model."""

from mamba2_lab.model.cache import Mamba2Cache as Mamba2Cache
from mamba2_lab.model.network import LanguageModel as LanguageModel
from mamba2_lab.model.network import Progress as Progress
from mamba2_lab.model.network import tokens_per_piece as tokens_per_piece
from mamba2_lab.model.rows import check_ids as check_ids
from mamba2_lab.model.rows import one_sequence as one_sequence
