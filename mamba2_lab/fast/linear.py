"""A matrix times rows, by what serves a CPU best.

On a CPU torch hands a float32 product to MKL. It ships oneDNN too, which took less time for most products on the AMD
EPYC (Zen 4, torch 2.13) where the two were compared, above all for the single row of a token that is being written and
a large matrix, which MKL reads with one thread. Two kinds are left to MKL: a single row times a small matrix, for which
one thread is enough, and gradients of weights. On processors of other makers nobody has measured it.

Many laptops have no instructions for products in 16 bits. There torch multiplies number by number, several times as
slowly as in float32; so such numbers are made floats first.

Where no gradients are asked for, a few rows are left to none of these: see `fast/rows.py`, which is asked first.

`torch.backends.mkldnn.flags(enabled=False)` leaves everything to MKL.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mamba2_lab.layers.linear import linear
from mamba2_lab.machine import transforms

LEAST_TO_SHARE = 2**20  # numbers of a matrix: to read fewer once, for a single row, MKL needs one thread and less time

# Not there in a torch that was built without oneDNN, as those for Macs are.
HAS_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
# What this processor has no instructions for, as far as oneDNN knows; without it nobody has measured.
ONE_BY_ONE = {
    dtype
    for dtype, has in ((torch.bfloat16, "_is_mkldnn_bf16_supported"), (torch.float16, "_is_mkldnn_fp16_supported"))
    if HAS_ONEDNN and hasattr(torch.ops.mkldnn, has) and not getattr(torch.ops.mkldnn, has)()
}


def in_float32_on_a_cpu(input: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Whether it is a product that oneDNN may take."""
    return (
        HAS_ONEDNN
        and bool(torch.backends.mkldnn.enabled)
        and input.device.type == "cpu"
        and input.dtype == weight.dtype == torch.float32
        and type(weight) in (nn.Parameter, Tensor)  # and none that has its own way to be multiplied
        and not torch.is_autocast_enabled("cpu")
        and input.shape[-1:] == weight.shape[1:]  # or torch will say what is wrong
        and input.numel() > 0
        and not transforms.at_work(input, bias)
    )


def one_row_compiled(input: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Whether a compiler meets one row of such a product, and no gradients are asked for."""
    return (
        torch.compiler.is_compiling()
        and not torch.is_grad_enabled()
        and input.numel() == weight.shape[1]
        and in_float32_on_a_cpu(input, weight, bias)
    )


def shared_by_threads(input: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Whether it is such a product, and of a single row only if the matrix is large."""
    large = input.numel() > weight.shape[-1] or weight.numel() >= LEAST_TO_SHARE
    return large and in_float32_on_a_cpu(input, weight, bias)


@linear.way("a loop for the compiler", serves=one_row_compiled, within=1e-6)
def _(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """A single row takes as long as reading the matrix: a compiler makes a loop of it, and spares the call."""
    y = (weight * input.flatten()).sum(dim=-1)
    y = y if bias is None else y + bias
    return y.view(*input.shape[:-1], weight.shape[0])


@linear.way("oneDNN", serves=shared_by_threads, within=1e-6)
def _(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return torch.ops.mamba2_lab.product(input, weight, bias)


def one_by_one(input: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Whether it is a product of numbers in 16 bits that this processor has no instructions for."""
    return (
        input.device.type == "cpu"
        and input.dtype == weight.dtype
        and input.dtype in ONE_BY_ONE
        and type(weight) in (nn.Parameter, Tensor)
        and not torch.is_autocast_enabled("cpu")
    )


@linear.way("as floats", serves=one_by_one, within=1e-2)
def _(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Factors as floats, which is exact; the sums are rounded once."""
    return linear(input.float(), weight.float(), None if bias is None else bias.float()).to(input.dtype)


# As an operation of its own, because a compiler insists that weights given to torch's are constants.
_library = torch.library.Library("mamba2_lab", "DEF")
_library.define("product(Tensor input, Tensor weight, Tensor? bias) -> Tensor")


@torch.library.impl(_library, "product", "CPU")
def _product(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(input, weight, bias, "none", [], "")


@torch.library.register_fake("mamba2_lab::product", lib=_library)
def _empty_product(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return input.new_empty(*input.shape[:-1], weight.shape[0])


def _keep_factors(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:2])


def _gradients(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    input, weight = ctx.saved_tensors
    of_input, of_weight, of_bias = ctx.needs_input_grad
    rows = grad.reshape(-1, grad.shape[-1])
    return (
        torch.ops.mamba2_lab.product(grad, weight.t(), None) if of_input else None,
        rows.t() @ input.reshape(-1, input.shape[-1]) if of_weight else None,
        rows.sum(dim=0) if of_bias else None,
    )


torch.library.register_autograd("mamba2_lab::product", _gradients, setup_context=_keep_factors, lib=_library)
