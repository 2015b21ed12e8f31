"""The convolution, and gate and norm, of a text on a CPU: each in one pass over memory, by the loops of `passes`.

Their backward passes keep what goes in, and no more.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mamba2_lab.fast.own_backward import backward_of, kernels_must_give_way, with_own_backward
from mamba2_lab.fast.rows import HAS_NUMBA, PLAIN, together
from mamba2_lab.layers.convolution import convolve
from mamba2_lab.layers.norm import gate_and_normalise
from mamba2_lab.machine import transforms

LEAST = 2**16  # numbers: for fewer it does not pay to have the loops compiled, where that was never done


def in_float32_on_a_cpu(*tensors: Tensor) -> bool:
    """Whether the loops can read these, and torch has to know of none of it. The first is the largest."""
    return (
        not torch.compiler.is_compiling()
        and HAS_NUMBA
        and tensors[0].numel() >= LEAST
        and all(type(tensor) in PLAIN and tensor.is_cpu and tensor.dtype == torch.float32 for tensor in tensors)
        and not torch._C._len_torch_dispatch_stack()
        and not transforms.at_work(*tensors)
    )


def _rows(tensor: Tensor) -> Tensor:
    """(...,d) -> (b,l,d), with the numbers of a token side by side."""
    *outer, d = tensor.shape
    rows = tensor.reshape(math.prod(outer[:-1]), *outer[-1:] or (1,), d)
    return rows if rows.stride(-1) == 1 else rows.contiguous()


def _place(rows: Tensor) -> tuple[int, int, int]:
    return rows.data_ptr(), rows.stride(0), rows.stride(1)


def _counters() -> np.ndarray:
    return np.zeros(2, np.int64)


@convolve.way(
    "one pass",
    serves=lambda x, window, taps, bias, documents: in_float32_on_a_cpu(x, window, taps, bias),
    within=1e-6,
)
def _(x: Tensor, window: Tensor, taps: Tensor, bias: Tensor, documents: Tensor | None) -> Tensor:
    return with_own_backward(_Convolve, x, window, taps, bias, documents)


class _Convolve(torch.autograd.Function):
    """The definition, with a backward pass of its own."""

    @staticmethod
    def forward(x: Tensor, window: Tensor, taps: Tensor, bias: Tensor, documents: Tensor | None) -> Tensor:
        from mamba2_lab.fast import passes  # which imports numba, when a text is read first

        (width, channels), (b, l, _), x = taps.shape, x.shape, _rows(x)
        window, taps, bias = window.contiguous(), taps.contiguous(), bias.contiguous()
        numbers, y = _numbers(documents), x.new_empty(x.shape)
        places = window.data_ptr(), taps.data_ptr(), bias.data_ptr(), _address(numbers), y.data_ptr()
        together(width * x.numel(), passes.convolve, (b, l, width, channels), _place(x), *places, _counters())
        return y

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        if kernels_must_give_way(grads):
            return backward_of(convolve.plain, ctx.saved_tensors, grads)
        from mamba2_lab.fast import passes

        x, window, taps, _, documents = ctx.saved_tensors
        (width, channels), (b, l, _), x, grad = taps.shape, x.shape, _rows(x), _rows(grads[0])
        window, taps, numbers = window.contiguous(), taps.contiguous(), _numbers(documents)
        grad_x, grad_window = x.new_empty(x.shape), window.new_empty(window.shape)
        sums = x.new_zeros(b * -(-l // passes.TOKENS), width + 1, channels)
        places = window.data_ptr(), taps.data_ptr(), _address(numbers), _place(grad)
        results = grad_x.data_ptr(), grad_window.data_ptr(), sums.data_ptr()
        loop, sizes = passes.convolve_backward, (b, l, width, channels)
        together(2 * width * x.numel(), loop, sizes, _place(x), *places, *results, _counters())
        of_taps = sums.sum(dim=0)
        return grad_x, grad_window, of_taps[:-1], of_taps[-1], None


def _numbers(documents: Tensor | None) -> Tensor | None:
    return None if documents is None else documents.to(torch.int32).contiguous()


def _address(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()


@gate_and_normalise.way("one pass", serves=lambda y, z, weight, *rest: in_float32_on_a_cpu(y, z, weight), within=1e-6)
def _(y: Tensor, z: Tensor, weight: Tensor, eps: float, ngroups: int) -> Tensor:
    return with_own_backward(_GateAndNormalise, y, z, weight, eps, ngroups)


class _GateAndNormalise(torch.autograd.Function):
    """The definition, with a backward pass of its own."""

    @staticmethod
    def forward(y: Tensor, z: Tensor, weight: Tensor, eps: float, ngroups: int) -> Tensor:
        from mamba2_lab.fast import passes

        shape, y, z, weight = y.shape, _rows(y), _rows(z), weight.contiguous()
        out = y.new_empty(y.shape)
        places = _place(y), _place(z), weight.data_ptr(), np.float32(eps), out.data_ptr()
        together(4 * y.numel(), passes.gate_and_normalise, _sizes(y, ngroups), *places, _counters())
        return out.view(shape)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        *tensors, ctx.eps, ctx.ngroups = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        if kernels_must_give_way(grads):
            return backward_of(gate_and_normalise.plain, (*ctx.saved_tensors, ctx.eps, ctx.ngroups), grads)
        from mamba2_lab.fast import passes

        y, z, weight = ctx.saved_tensors
        shape, y, z, weight, grad = y.shape, _rows(y), _rows(z), weight.contiguous(), _rows(grads[0])
        grad_y, grad_z = y.new_empty(y.shape), y.new_empty(y.shape)
        sums = y.new_zeros(-(-y.shape[:-1].numel() // passes.TOKENS), y.shape[-1])
        places = _place(y), _place(z), weight.data_ptr(), np.float32(ctx.eps), _place(grad)
        results = grad_y.data_ptr(), grad_z.data_ptr(), sums.data_ptr()
        loop, sizes = passes.gate_and_normalise_backward, _sizes(y, ctx.ngroups)
        together(8 * y.numel(), loop, sizes, *places, *results, _counters())
        return grad_y.view(shape), grad_z.view(shape), sums.sum(dim=0), None, None


def _sizes(y: Tensor, ngroups: int) -> tuple[int, ...]:
    b, l, d = y.shape
    return b, l, ngroups, d // ngroups
