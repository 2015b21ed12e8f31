"""All mixers, by the names that configs have for them."""

from collections.abc import Mapping
from typing import Any

from mamba2_lab.layers.attention import Attention
from mamba2_lab.layers.mamba1 import Mamba1
from mamba2_lab.layers.mamba2 import Mamba2
from mamba2_lab.layers.mamba3 import Mamba3
from mamba2_lab.layers.mixer import Mixer

MIXERS: Mapping[str, type[Mixer[Any]]] = {
    "mamba1": Mamba1,
    "mamba2": Mamba2,
    "mamba3": Mamba3,
    "attention": Attention,
}
