"""What a model is built from.

mamba1        the mixer of Mamba-1: project, convolve, select, scan, gate, out
mamba2        the mixer: project, convolve, discretise, scan, gate, out
mamba3        one whose memory turns: project, discretise, turn, scan, skip, gate, out
attention     the other kind of mixer, whose memory grows
block         a residual layer around a mixer
turning_states   states that turn: with complex numbers, and with real ones that give the same
mixer         what every mixer offers, and what it remembers: a `State`
norm, convolution, linear   the parts of a mixer
documents     which tokens belong together: packed documents, and padding
rotary        pairs of channels that turn
growing       memory for states that get longer
mlp           what stands between mixers in some models
"""

from mamba2_lab.layers.attention import Attention as Attention
from mamba2_lab.layers.attention import AttentionState as AttentionState
from mamba2_lab.layers.block import Block as Block
from mamba2_lab.layers.convolution import CausalConv as CausalConv
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
from mamba2_lab.layers.norm import norm_of as norm_of
from mamba2_lab.layers.turning_states import turning as turning
from mamba2_lab.layers.turning_states import turning_in_reals as turning_in_reals
