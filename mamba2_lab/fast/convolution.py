"""The causal convolution with fewer tensors, and with fewer kernels."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mamba2_lab.fast.own_backward import not_transformed, with_own_backward
from mamba2_lab.layers.convolution import convolve, convolve_last
from mamba2_lab.layers.documents import of_own_document


@convolve.way("own backward pass", serves=not_transformed, within=1e-6)
def _(x: Tensor, window: Tensor, taps: Tensor, bias: Tensor, documents: Tensor | None, silu: bool) -> Tensor:
    y = with_own_backward(_ShiftMultiplyAdd, x, window, taps, bias, documents)
    return F.silu(y) if silu else y


class _ShiftMultiplyAdd(torch.autograd.Function):
    """The definition, with its own backward pass, because autograd would keep a copy of x with the window in front, and
    make a tensor for each tap to add it to the others."""

    @staticmethod
    def forward(x: Tensor, window: Tensor, taps: Tensor, bias: Tensor, documents: Tensor | None) -> Tensor:
        inputs, y = torch.cat([window, x], dim=1), bias
        for i, tap in enumerate(taps):
            shifted = of_own_document(inputs[:, i : i + x.shape[1]], documents, i)
            y = torch.addcmul(y, shifted, tap) if i == 0 else y.addcmul_(shifted, tap)
        return y

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, window, taps, _, documents = inputs
        ctx.save_for_backward(x, window, taps, documents)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, window, taps, documents = ctx.saved_tensors
        (grad,), l = grads, x.shape[1]
        inputs = torch.cat([window, x], dim=1)
        grad_inputs = grad.new_zeros(inputs.shape)
        grad_taps = []
        for i, tap in enumerate(taps):
            of_tap = of_own_document(grad, documents, i)
            grad_inputs[:, i : i + l].addcmul_(of_tap, tap)
            grad_taps.append((of_tap * inputs[:, i : i + l]).sum(dim=(0, 1)))
        grad_window, grad_x = grad_inputs.to(x.dtype).split([window.shape[1], l], dim=1)
        return grad_x, grad_window, torch.stack(grad_taps).to(taps.dtype), grad.sum(dim=(0, 1)), None


@convolve_last.way(
    "a product per channel",
    serves=lambda inputs, *rest: inputs.device.type != "cpu" and not torch.compiler.is_compiling(),
    within=1e-6,
)
def _(inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """One kernel in place of three, which counts where each is launched by itself."""
    per_channel = inputs.permute(2, 0, 1)  # (channels, b, width)
    taps = weight.mT  # (channels, width, 1)
    if bias is None:
        y_t = torch.bmm(per_channel, taps)
    else:
        y_t = torch.baddbmm(bias[:, None, None], per_channel, taps)
    return y_t.squeeze(-1).t()
