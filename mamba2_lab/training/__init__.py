"""Training."""

from mamba2_lab.training.loop import Record as Record
from mamba2_lab.training.loop import bits_per_byte as bits_per_byte
from mamba2_lab.training.loop import fit as fit
from mamba2_lab.training.loop import is_main_process as is_main_process
from mamba2_lab.training.loop import learning_rate as learning_rate
from mamba2_lab.training.loop import next_token_loss as next_token_loss
from mamba2_lab.training.loop import parameter_groups as parameter_groups
from mamba2_lab.training.loop import require_a_compiler as require_a_compiler
from mamba2_lab.training.settings import PRECISIONS as PRECISIONS
from mamba2_lab.training.settings import TrainingConfig as TrainingConfig
