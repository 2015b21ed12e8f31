"""What a block is made of."""

from mamba2_lab.layers.block import Block as Block
from mamba2_lab.layers.convolution import CausalConv as CausalConv
from mamba2_lab.layers.linear import Projection as Projection
from mamba2_lab.layers.mamba2 import Discretised as Discretised
from mamba2_lab.layers.mamba2 import Mamba2 as Mamba2
from mamba2_lab.layers.mamba2 import Projected as Projected
from mamba2_lab.layers.mixer import LayerState as LayerState
from mamba2_lab.layers.mixer import for_backward as for_backward
from mamba2_lab.layers.norm import GatedRMSNorm as GatedRMSNorm
from mamba2_lab.layers.norm import RMSNorm as RMSNorm
