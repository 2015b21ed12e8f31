"""What a model is built from.

mamba2        READ FIRST. The mixer: project, convolve, discretise, scan, gate, out
mamba1, mamba3, attention   the generations before and after, and the mixer whose memory grows
block         a residual layer around a mixer; mixers: all of them by name; mlp: what some blocks add
mixer         what every mixer offers, and what it remembers: a `State`; growing: one that gets longer
norm, layer_norm, convolution, linear, rotary, step_size   the parts of a mixer; stored, rounded: in 8 and 4 bits
documents     which tokens belong together: packed documents, and padding
turning_states   states that turn: with complex numbers, and with real ones that give the same
"""

from mamba2_lab.layers.attention import Attention as Attention
from mamba2_lab.layers.attention import AttentionState as AttentionState
from mamba2_lab.layers.block import Block as Block
from mamba2_lab.layers.convolution import CausalConv as CausalConv
from mamba2_lab.layers.layer_norm import norm_of as norm_of
from mamba2_lab.layers.linear import Projection as Projection
from mamba2_lab.layers.mamba1 import Mamba1 as Mamba1
from mamba2_lab.layers.mamba1 import Mamba1State as Mamba1State
from mamba2_lab.layers.mamba2 import Discretised as Discretised
from mamba2_lab.layers.mamba2 import LayerState as LayerState
from mamba2_lab.layers.mamba2 import Mamba2 as Mamba2
from mamba2_lab.layers.mamba2 import Projected as Projected
from mamba2_lab.layers.mamba3 import Mamba3 as Mamba3
from mamba2_lab.layers.mamba3 import Mamba3State as Mamba3State
from mamba2_lab.layers.mixer import State as State
from mamba2_lab.layers.mixer import check_state as check_state
from mamba2_lab.layers.mlp import GatedMLP as GatedMLP
from mamba2_lab.layers.norm import GatedRMSNorm as GatedRMSNorm
from mamba2_lab.layers.norm import RMSNorm as RMSNorm
from mamba2_lab.layers.turning_states import turning as turning
from mamba2_lab.layers.turning_states import turning_in_reals as turning_in_reals
