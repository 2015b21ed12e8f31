"""What a layer remembers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class LayerState:
    """What one layer remembers.

    conv_window: (b, d_conv-1, conv_dim), the convolution's last inputs, oldest first, zero before the first token.
    ssm_state: (b,h,p,n), the state of the recurrence, float32 whatever the dtype of the weights.
    """

    conv_window: Tensor
    ssm_state: Tensor

    def map(self, change: Callable[[Tensor], Tensor]) -> LayerState:
        """The same change applied to both tensors."""
        return LayerState(change(self.conv_window), change(self.ssm_state))

    def for_backward(self) -> LayerState:
        """The same, fit to take part in a backward pass wherever it was made."""
        return self.map(for_backward)


def for_backward(tensor: Tensor) -> Tensor:
    """The tensor; or where gradients are asked for and it was made under inference_mode, a copy that allows them."""
    asked = torch.is_grad_enabled() and not torch.compiler.is_compiling()
    return tensor.clone() if asked and tensor.is_inference() else tensor
