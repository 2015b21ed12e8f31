"""The causal convolution: each channel is mixed with its own last few values."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mamba2_lab.layers.documents import number_documents, of_own_document
from mamba2_lab.operation import operation


class CausalConv(nn.Module):
    """A depthwise convolution over the last `width` tokens of each channel, followed by silu unless told otherwise.

    Written as shift, multiply, add: that reads token-major data (b,l,channels) in order, and stays clear of the faults
    that published versions of MPS have in `conv1d` of split views (pytorch issue 169342).
    """

    def __init__(self, channels: int, width: int, bias: bool = True, activation: bool = True) -> None:
        super().__init__()
        self.width, self.activation = width, activation
        bound = 1 / math.sqrt(width)  # that of nn.Conv1d, which the official code uses
        self.weight = nn.Parameter(torch.empty(channels, 1, width).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(channels).uniform_(-bound, bound)) if bias else None

    def forward(self, x: Tensor, window: Tensor, document_ids: Tensor | None = None) -> Tensor:
        """x (b,l,channels), window (b,width-1,channels) the inputs before it -> (b,l,channels)."""
        taps = self.weight.squeeze(1).t().contiguous()  # (width, channels)
        bias = torch.zeros_like(taps[0]) if self.bias is None else self.bias
        documents = None if document_ids is None else number_documents(document_ids, self.width - 1)
        y = convolve(x, window.to(x.dtype), taps, bias, documents, self.activation)
        return y.to(x.dtype)  # under autocast y is float32, and x is not

    def step(self, x_t: Tensor, window: Tensor) -> tuple[Tensor, Tensor]:
        """x_t (b,channels), window (b,width-1,channels) -> (y_t (b,channels), the window one token later)."""
        inputs = torch.cat([window.to(x_t.dtype), x_t.unsqueeze(1)], dim=1)
        y_t = convolve_last(inputs, self.weight, self.bias)
        following = inputs[:, 1:]
        if torch.compiler.is_compiling():  # laid out as `last_inputs` does, or the next step would be compiled anew
            following = following.clone(memory_format=torch.contiguous_format)
        return (F.silu(y_t) if self.activation else y_t).to(x_t.dtype), following

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
            documents = number_documents(document_ids, self.width - 1)
            own = documents.gather(1, (lengths[:, None] + self.width - 2).clamp(min=0))
            last = last * (documents.gather(1, index) == own).unsqueeze(-1).to(x.dtype)
        return last


@operation
def convolve(x: Tensor, window: Tensor, taps: Tensor, bias: Tensor, documents: Tensor | None, silu: bool) -> Tensor:
    """y_t = bias + sum over i of taps_i * input_{t-width+1+i}, of the token's own document; or silu of that.

    x (b,l,channels), window (b,width-1,channels) the inputs before it, taps (width,channels), bias (channels,),
    documents (b,width-1+l) from `number_documents`, or None -> (b,l,channels)
    """
    inputs, y = torch.cat([window, x], dim=1), bias
    for i, tap in enumerate(taps):
        y = y + tap * of_own_document(inputs[:, i : i + x.shape[1]], documents, i)
    return F.silu(y) if silu else y


@operation
def convolve_last(inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`convolve` for the last of `width` tokens: (b,width,channels), weight (channels,1,width) -> (b,channels)."""
    y_t = (inputs * weight.squeeze(1).t()).sum(dim=1)
    return y_t if bias is None else y_t + bias
