"""LayerNorm, which models of rms_norm=False have in the place of RMSNorm, and the choice between the two."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mamba2_lab.config import LayerFields, StackFields
from mamba2_lab.layers.norm import RMSNorm


class LayerNorm(RMSNorm):
    """(x - mean) / std * weight + bias, in the same way: what models of rms_norm=False have."""

    def __init__(self, d: int, eps: float = 1e-5) -> None:
        super().__init__(d, eps)
        self.bias = nn.Parameter(torch.zeros(d))

    def forward(self, x: Tensor) -> Tensor:
        x = x.to(torch.promote_types(self.weight.dtype, torch.float32))
        weight, bias = self.weight.to(x.dtype), self.bias.to(x.dtype)
        return F.layer_norm(x, self.weight.shape, weight, bias, self.eps).to(self.weight.dtype)


def norm_of(fields: LayerFields | StackFields, d: int) -> RMSNorm:
    """The norm that a layer or a model has before what reads the residual stream."""
    return (RMSNorm if fields.rms_norm else LayerNorm)(d, fields.norm_eps)
