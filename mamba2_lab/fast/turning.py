"""Turning k and q on a GPU: normalised, with their biases and turned in one pass over what comes out."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mamba2_lab.fast.own_backward import backward_of, kernels_must_give_way
from mamba2_lab.fast.triton_ways import HAS_TRITON, launching, power_of_two, serves
from mamba2_lab.layers.mamba3 import turn_of_heads
from mamba2_lab.layers.rotary import Pairs

if HAS_TRITON:
    from mamba2_lab.fast import triton_kernels as kernels

ROWS = 32  # tokens of a program
WARPS = 2
LARGEST_STATE = 256


def in_kernels(factor: Tensor, bias: Tensor, turns: Tensor, pairs: Pairs, dtype: torch.dtype) -> bool:
    """Whether bfloat16 is wanted, on a GPU, and of a size for which the kernels are made."""
    n = factor.shape[-1]
    return n == power_of_two(n) and n <= LARGEST_STATE and serves(factor, bias, turns, dtype=dtype)


@turn_of_heads.way("triton", serves=in_kernels, within=1e-2)
def _(factor: Tensor, bias: Tensor, turns: Tensor, pairs: Pairs, dtype: torch.dtype) -> Tensor:
    """In float32, and rounded to bfloat16 at the end."""
    given = factor.flatten(0, -4), bias.float(), turns.float().flatten(0, -3)
    turned = _Turn.apply(*(each.contiguous() for each in given), pairs)
    return turned.view(*factor.shape[:-2], *bias.shape[::2]).to(dtype)


class _Turn(torch.autograd.Function):
    """factor (t,r,g,n), bias (h,r,n), turns (t,h,s) -> (t,r,h,n), with its own backward pass, which keeps no angle."""

    @staticmethod
    def forward(ctx: Any, factor: Tensor, bias: Tensor, turns: Tensor, pairs: Pairs) -> Tensor:
        (t, r, g, n), (h, s) = factor.shape, turns.shape[1:]
        out = factor.new_empty(t, r, h, n, dtype=torch.bfloat16)
        with launching(factor):
            sizes = (t, r, g, h, s, n, ROWS, pairs == "neighbours")
            kernels.turn[(-(-t // ROWS), r * h)](factor, bias, turns, out, *sizes, num_warps=WARPS)
        ctx.save_for_backward(factor, bias, turns)
        ctx.pairs = pairs
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        factor, bias, turns = ctx.saved_tensors
        if kernels_must_give_way(grads):
            return backward_of(turn_of_heads.plain, (factor, bias, turns, ctx.pairs, torch.bfloat16), grads)[:4]
        (t, r, g, n), (h, s) = factor.shape, turns.shape[1:]
        blocks = -(-t // ROWS)
        dfactor, dbias, dturns = torch.empty_like(factor), bias.new_empty(blocks, h, r, n), turns.new_empty(r, t, h, s)
        with launching(factor):
            sizes = (t, r, g, h, s, n, ROWS, ctx.pairs == "neighbours")
            tensors = (factor, bias, turns, grads[0].contiguous(), dfactor, dbias, dturns)
            kernels.turn_backward[(blocks, r * g)](*tensors, *sizes, num_warps=WARPS)
        return dfactor, dbias.sum(dim=0), dturns.sum(dim=0), None
