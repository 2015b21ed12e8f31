"""All mixers, by the names that configs have for them."""

from collections.abc import Mapping

from torch import nn

from mamba2_lab.layers.attention import Attention
from mamba2_lab.layers.mamba1 import Mamba1
from mamba2_lab.layers.mamba2 import Mamba2
from mamba2_lab.layers.mamba3 import Mamba3

MIXERS: Mapping[str, type[nn.Module]] = {
    "mamba1": Mamba1,
    "mamba2": Mamba2,
    "mamba3": Mamba3,
    "attention": Attention,
}
