"""A residual layer, around any mixer: u + mixer(norm(u)), and the same again with an MLP where the model has them."""

from typing import Any

from torch import Tensor, nn

from mamba2_lab.config import StackFields
from mamba2_lab.layers.layer_norm import norm_of
from mamba2_lab.layers.mixers import MIXERS
from mamba2_lab.layers.mlp import GatedMLP


class Block(nn.Module):
    """Layer i of a model: u + mixer(norm(u)), then u + mlp(norm2(u)); u is float32, whatever the weights are."""

    def __init__(self, config: StackFields, i: int = 0) -> None:
        super().__init__()
        layer = config.layer(i)
        self.norm = norm_of(layer, config.d_model)
        self.mixer: Any = MIXERS[layer.mixer](**layer.fields.to_dict())
        self.norm2 = norm_of(layer, config.d_model) if layer.d_intermediate else None
        self.mlp = GatedMLP(config.d_model, layer.d_intermediate) if layer.d_intermediate else None

    def forward(
        self, u: Tensor, state: Any = None, *, lengths: Tensor | None = None, document_ids: Tensor | None = None
    ) -> tuple[Tensor, Any]:
        """(b,l,d_model) and a state -> (b,l,d_model) and the state after it; arguments as for `Mamba2.prefill`."""
        y, state = self.mixer.prefill(self.norm(u), state, lengths=lengths, document_ids=document_ids)
        return self.add_mlp(u + y), state

    def step(self, u_t: Tensor, state: Any) -> tuple[Tensor, Any]:
        """(b,d_model) and a state -> (b,d_model) and the state one token later."""
        y_t, state = self.mixer.step(self.norm(u_t), state)
        return self.add_mlp(u_t + y_t), state

    def add_mlp(self, u: Tensor) -> Tensor:
        """u + mlp(norm2(u)), (...,d_model), what each token makes of itself; u where there is no MLP."""
        return u if self.mlp is None or self.norm2 is None else u + self.mlp(self.norm2(u))
