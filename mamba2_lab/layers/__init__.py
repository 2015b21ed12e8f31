"""What a model is built from.

mamba1        the mixer of Mamba-1: project, convolve, select, scan, gate, out
mamba2        the mixer: project, convolve, discretise, scan, gate, out
block         a residual layer around a mixer
mixer         what every mixer offers, and what it remembers: a `State`
norm, convolution, linear   the parts of a mixer
documents     which tokens belong together: packed documents, and padding
"""

from mamba2_lab.layers.block import Block as Block
from mamba2_lab.layers.convolution import CausalConv as CausalConv
from mamba2_lab.layers.linear import Projection as Projection
from mamba2_lab.layers.mamba1 import Mamba1 as Mamba1
from mamba2_lab.layers.mamba1 import Mamba1State as Mamba1State
from mamba2_lab.layers.mamba2 import Discretised as Discretised
from mamba2_lab.layers.mamba2 import LayerState as LayerState
from mamba2_lab.layers.mamba2 import Mamba2 as Mamba2
from mamba2_lab.layers.mamba2 import Projected as Projected
from mamba2_lab.layers.mixer import State as State
from mamba2_lab.layers.mixer import check_state as check_state
from mamba2_lab.layers.norm import GatedRMSNorm as GatedRMSNorm
from mamba2_lab.layers.norm import RMSNorm as RMSNorm
