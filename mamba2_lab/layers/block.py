"""A residual layer: u + mixer(norm(u)), for any mixer."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from mamba2_lab.config import StackFields
from mamba2_lab.layers.attention import Attention
from mamba2_lab.layers.mamba2 import Mamba2
from mamba2_lab.layers.mamba3 import Mamba3
from mamba2_lab.layers.norm import norm_of

MIXERS: Mapping[str, type[nn.Module]] = {"mamba2": Mamba2, "mamba3": Mamba3, "attention": Attention}


class Block(nn.Module):
    """u + mixer(norm(u)), the residual stream u in float32 whatever the dtype of the weights.

    Args:
        config: of the whole model. i: which of its layers this is.
    """

    def __init__(self, config: StackFields, i: int = 0) -> None:
        super().__init__()
        layer = config.layer(i)
        self.norm = norm_of(layer, config.d_model)
        self.mixer: Any = MIXERS[layer.mixer](**layer.fields.to_dict())

    def forward(
        self, u: Tensor, state: Any = None, *, lengths: Tensor | None = None, document_ids: Tensor | None = None
    ) -> tuple[Tensor, Any]:
        """(b,l,d_model) and a state -> (b,l,d_model) and the state after it; arguments as for `Mamba2.prefill`."""
        y, state = self.mixer.prefill(self.norm(u), state, lengths=lengths, document_ids=document_ids)
        return u + y, state

    def step(self, u_t: Tensor, state: Any) -> tuple[Tensor, Any]:
        """(b,d_model) and a state -> (b,d_model) and the state one token later."""
        y_t, state = self.mixer.step(self.norm(u_t), state)
        return u_t + y_t, state
