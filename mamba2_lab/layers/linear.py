"""A matrix times rows."""

import torch.nn.functional as F
from torch import Tensor, nn

from mamba2_lab.operation import operation


@operation
def linear(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """(...,in_features), (out_features,in_features), (out_features,) -> (...,out_features)."""
    return F.linear(input, weight, bias)


class Projection(nn.Linear):
    """nn.Linear: the same weights and, to rounding, the same numbers (...,in_features) -> (...,out_features)."""

    def forward(self, input: Tensor) -> Tensor:
        return linear(input, self.weight, self.bias)
