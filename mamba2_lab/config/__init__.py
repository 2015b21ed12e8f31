"""What a model is made of, in numbers.

mamba1    the fields of a Mamba-1 mixer
mamba2    the fields of a Mamba-2 mixer
stack     the model around its mixers
presets   shapes that have a name
fields    what every configuration has in common: fields that are checked, and known by name
"""

from mamba2_lab.config.mamba1 import Mamba1Fields as Mamba1Fields
from mamba2_lab.config.mamba2 import Mamba2Fields as Mamba2Fields
from mamba2_lab.config.presets import PRESETS as PRESETS
from mamba2_lab.config.stack import Mamba2Config as Mamba2Config
from mamba2_lab.config.stack import tokens_per_piece as tokens_per_piece
