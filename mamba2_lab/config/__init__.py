"""What a model is made of, in numbers."""

from mamba2_lab.config.mamba2 import Mamba2Config as Mamba2Config
from mamba2_lab.config.presets import PRESETS as PRESETS
