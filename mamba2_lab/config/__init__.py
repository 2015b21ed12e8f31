"""What a model is made of, in numbers.

mamba1    the fields of a Mamba-1 mixer
mamba2    the fields of a Mamba-2 mixer
mamba3    the fields of a Mamba-3 mixer
attention the fields of an attention layer
stack     the model around its mixers
presets   shapes that have a name
fields, heads   what configurations have in common: fields that are checked and known by name; heads in groups
"""

from mamba2_lab.config.attention import AttentionFields as AttentionFields
from mamba2_lab.config.mamba1 import Mamba1Fields as Mamba1Fields
from mamba2_lab.config.mamba2 import Mamba2Fields as Mamba2Fields
from mamba2_lab.config.mamba3 import Mamba3Fields as Mamba3Fields
from mamba2_lab.config.presets import PRESETS as PRESETS
from mamba2_lab.config.stack import MIXERS as MIXERS
from mamba2_lab.config.stack import LayerFields as LayerFields
from mamba2_lab.config.stack import Mamba2Config as Mamba2Config
from mamba2_lab.config.stack import MambaConfig as MambaConfig
from mamba2_lab.config.stack import StackFields as StackFields
from mamba2_lab.config.stack import config_of as config_of
from mamba2_lab.config.stack import longest_chunk as longest_chunk
from mamba2_lab.config.stack import tokens_per_piece as tokens_per_piece
