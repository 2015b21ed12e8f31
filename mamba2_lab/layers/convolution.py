"""The causal convolution."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mamba2_lab import scan
from mamba2_lab.machine import transforms


class CausalConv(nn.Module):
    """A depthwise convolution over the last `width` tokens of each channel, followed by silu.

    Written as shift, multiply, add: on token-major data (b,l,channels) that reads memory in order, several times
    faster on a CPU than `conv1d` with a group per channel, and it stays clear of the faults that published versions
    of MPS have in convolutions of split views (pytorch issue 169342).
    """

    def __init__(
        self, channels: int, width: int, bias: bool = True, *, device: torch.device | str | None = None
    ) -> None:
        super().__init__()
        self.width = width
        bound = 1 / math.sqrt(width)  # that of nn.Conv1d, which the official code uses
        self.weight = nn.Parameter(torch.empty(channels, 1, width, device=device).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(channels, device=device).uniform_(-bound, bound)) if bias else None

    def forward(self, x: Tensor, window: Tensor, document_ids: Tensor | None = None) -> Tensor:
        """x (b,l,channels), window (b,width-1,channels) the inputs before it -> (b,l,channels)."""
        taps = self.weight.squeeze(1).t().contiguous()  # (width, channels)
        bias = torch.zeros_like(taps[0]) if self.bias is None else self.bias
        documents = None if document_ids is None else _document_numbers(document_ids, self.width - 1)
        y = scan.with_own_backward(_ShiftMultiplyAdd, x, window.to(x.dtype), taps, bias, documents)
        return F.silu(y).to(x.dtype)  # under autocast y is float32, and x is not

    def step(self, x_t: Tensor, window: Tensor) -> tuple[Tensor, Tensor]:
        """x_t (b,channels), window (b,width-1,channels) -> (y_t (b,channels), the window one token later)."""
        inputs = torch.cat([window.to(x_t.dtype), x_t.unsqueeze(1)], dim=1)
        if inputs.device.type == "cpu" or torch.compiler.is_compiling():
            y_t = self._multiply_and_add(inputs)
        else:
            y_t = self._product_per_channel(inputs)
        following = inputs[:, 1:]
        if torch.compiler.is_compiling():  # laid out as `last_inputs` does, or the next step would be compiled anew
            following = following.clone(memory_format=torch.contiguous_format)
        return F.silu(y_t), following

    def _multiply_and_add(self, inputs: Tensor) -> Tensor:
        """(b,width,channels) -> (b,channels), in two thirds of the time on a CPU; and a compiler fuses it."""
        y_t = (inputs * self.weight.squeeze(1).t()).sum(dim=1)
        return y_t if self.bias is None else y_t + self.bias

    def _product_per_channel(self, inputs: Tensor) -> Tensor:
        """The same as one kernel in place of three, which counts where each is launched by itself."""
        per_channel = inputs.permute(2, 0, 1)  # (channels, b, width)
        taps = self.weight.mT  # (channels, width, 1)
        if self.bias is None:
            y_t = torch.bmm(per_channel, taps)
        else:
            y_t = torch.baddbmm(self.bias[:, None, None], per_channel, taps)
        return y_t.squeeze(-1).t()

    def last_inputs(
        self, x: Tensor, window: Tensor, lengths: Tensor | None = None, document_ids: Tensor | None = None
    ) -> Tensor:
        """The window that a following token will see: the last width-1 real inputs of its own document."""
        if lengths is None:
            x, document_ids = x[:, -self.width :], None if document_ids is None else document_ids[:, -self.width :]
            lengths = torch.full((x.shape[0],), x.shape[1], device=x.device)
        inputs = torch.cat([window.to(x.dtype), x], dim=1)
        index = lengths[:, None] + torch.arange(self.width - 1, device=x.device)  # (b, width-1)
        last = inputs.gather(1, index.unsqueeze(-1).expand(-1, -1, inputs.shape[-1]))
        if document_ids is not None and x.shape[1] > 0:
            documents = _document_numbers(document_ids, self.width - 1)
            own = documents.gather(1, (lengths[:, None] + self.width - 2).clamp(min=0))
            last = last * (documents.gather(1, index) == own).unsqueeze(-1).to(x.dtype)
        return last


class _ShiftMultiplyAdd(torch.autograd.Function):
    """y_t = bias + sum over i of taps_i * input_{t-width+1+i}, of the token's own document.

    x (b,l,channels), window (b,width-1,channels) the inputs before it, taps (width,channels), bias (channels,),
    documents (b,width-1+l) or None -> (b,l,channels). Its own backward pass, because autograd would keep a copy of x
    with the window in front, and make a tensor for each tap to add it to the others.
    """

    @staticmethod
    def forward(x: Tensor, window: Tensor, taps: Tensor, bias: Tensor, documents: Tensor | None) -> Tensor:
        inputs, y = torch.cat([window, x], dim=1), bias
        for i, tap in enumerate(taps):
            shifted = _of_own_document(inputs[:, i : i + x.shape[1]], documents, i)
            y = torch.addcmul(y, shifted, tap) if i == 0 else transforms.add_product(y, shifted, tap)
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
            of_tap = _of_own_document(grad, documents, i)
            grad_inputs[:, i : i + l].addcmul_(of_tap, tap)
            grad_taps.append((of_tap * inputs[:, i : i + l]).sum(dim=(0, 1)))
        grad_window, grad_x = grad_inputs.to(x.dtype).split([window.shape[1], l], dim=1)
        return grad_x, grad_window, torch.stack(grad_taps).to(taps.dtype), grad.sum(dim=(0, 1)), None


def _of_own_document(values: Tensor, documents: Tensor | None, i: int) -> Tensor:
    """values (b,l,channels), zero at the tokens whose i-th input belongs to another document."""
    if documents is None:
        return values
    l = values.shape[1]
    same = documents[:, i : i + l] == documents[:, documents.shape[1] - l :]
    return values * same.unsqueeze(-1).to(values.dtype)


def _document_numbers(document_ids: Tensor, width: int) -> Tensor:
    """(b,l) -> (b,width+l): documents counted from 0, those of the window in front: it belongs to the first document.

    Ids themselves will not do: one may come back, and a document between may be shorter than the window.
    """
    numbers = torch.cumsum(scan.document_starts(document_ids), dim=1, dtype=torch.int32)
    return F.pad(numbers, (width, 0))
