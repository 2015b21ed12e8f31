"""Turning k and q on a GPU: how far, in a running sum of blocks; and both, with their biases, in one pass."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mamba2_lab.fast.own_backward import backward_of, kernels_must_give_way
from mamba2_lab.fast.triton_ways import HAS_TRITON, launching, power_of_two, serves
from mamba2_lab.layers.mamba3 import turn_of_heads, turns_since_start
from mamba2_lab.layers.rotary import Pairs

if HAS_TRITON:
    from mamba2_lab.fast import triton_kernels as kernels

ROWS = 32  # tokens of a program
ROWS_BACK = 8  # of one that turns gradients of all heads back
BLOCKS = 32  # whose sums are passed on at a time
WARPS = 4  # that turn so many; to sum them one is enough
LARGEST_STATE = 256


def sums_in_kernels(before: Tensor, dt: Tensor, speed: Tensor) -> bool:
    """Whether all are float32, on a GPU, and there is anything to sum."""
    is_float32 = before.dtype == dt.dtype == speed.dtype == torch.float32
    return is_float32 and dt.numel() > 0 and speed.shape[-1] > 0 and serves(before, dt, speed)


@turns_since_start.way("triton", serves=sums_in_kernels, within=1e-5)
def _(before: Tensor, dt: Tensor, speed: Tensor) -> Tensor:
    """Whole turns are dropped from each sum of two, and what one token turns is never in memory."""
    return _TurnsSinceStart.apply(before.contiguous(), dt.contiguous(), speed.contiguous())


class _TurnsSinceStart(torch.autograd.Function):
    """With its own backward pass: a token turns all behind it, so gradients are summed from the last token back."""

    @staticmethod
    def forward(ctx: Any, before: Tensor, dt: Tensor, speed: Tensor) -> Tensor:
        (b, l, h), s = dt.shape, speed.shape[-1]
        sums, turns = dt.new_empty(b, -(-l // ROWS), h, s), dt.new_empty(b, l, h, s)
        grid, sizes = (sums.shape[1], b * h), (l, h, s, ROWS, power_of_two(s))
        with launching(dt):
            kernels.sum_turns[grid](dt, speed, sums, *sizes, num_warps=1)
            passed, _ = _pass_turns(sums, before, back=False)
            kernels.add_turns[grid](dt, speed, passed, turns, *sizes, num_warps=1)
        ctx.save_for_backward(before, dt, speed)
        return turns

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        before, dt, speed = ctx.saved_tensors
        if kernels_must_give_way(grads):
            return backward_of(turns_since_start.plain, (before, dt, speed), grads)
        (b, l, h), s, dturns = dt.shape, speed.shape[-1], grads[0].contiguous()
        sums, ddt, dspeed = dt.new_empty(b, -(-l // ROWS), h, s), torch.empty_like(dt), torch.empty_like(speed)
        blocks, sizes = sums.shape[1], (l, h, s, ROWS, power_of_two(s))
        with launching(dt):
            kernels.sum_gradients[(blocks, b * h)](dturns, sums, *sizes, num_warps=1)
            behind, dbefore = _pass_turns(sums, torch.zeros_like(before), back=True)
            kernels.speed_backward[(blocks, b)](dturns, behind, dt, speed, ddt, dspeed, *sizes, num_warps=1)
        return dbefore, ddt, dspeed


def _pass_turns(sums: Tensor, given: Tensor, back: bool) -> tuple[Tensor, Tensor]:
    """Sums (b,blocks,h,s), and what is given before the first (b,h,s) -> sums before each block, and of all."""
    b, blocks, h, s = sums.shape
    passed, final = torch.empty_like(sums), torch.empty_like(given)
    kernels.pass_turns[(b * h,)](sums, given, passed, final, blocks, h, s, BLOCKS, power_of_two(s), back)
    return passed, final


def in_kernels(
    B: Tensor, C: Tensor, B_bias: Tensor, C_bias: Tensor, turns: Tensor, pairs: Pairs, dtype: torch.dtype
) -> bool:
    """Whether bfloat16 is wanted, on a GPU, and of a size for which the kernels are made."""
    n = B.shape[-1]
    fits = n == power_of_two(n) and n <= LARGEST_STATE and dtype == torch.bfloat16
    return fits and serves(B, C, B_bias, C_bias, turns)


@turn_of_heads.way("triton", serves=in_kernels, within=1e-2)
def _(
    B: Tensor, C: Tensor, B_bias: Tensor, C_bias: Tensor, turns: Tensor, pairs: Pairs, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """In float32, and rounded to bfloat16 at the end."""
    factors = (factor.flatten(0, -4) for factor in (B, C))
    given = *factors, B_bias.float(), C_bias.float(), turns.float().flatten(0, -3)
    k, q = _Turn.apply(*(each.contiguous() for each in given), pairs)
    shape = *B.shape[:-2], *B_bias.shape[::2]
    return k.view(shape).to(dtype), q.view(shape).to(dtype)


class _Turn(torch.autograd.Function):
    """B, C (t,r,g,n), biases (h,r,n), turns (t,h,s) -> k, q (t,r,h,n), with its own backward pass; keeps no angle."""

    @staticmethod
    def forward(ctx: Any, *given: Any) -> tuple[Tensor, Tensor]:
        *tensors, ctx.pairs = given
        B, *_, turns = tensors
        (t, r, g, n), (h, s) = B.shape, turns.shape[1:]
        k, q = (B.new_empty(t, r, h, n, dtype=torch.bfloat16) for _ in range(2))
        with launching(B):
            sizes = (t, r, g, h, s, n, ROWS, ctx.pairs == "neighbours")
            kernels.turn[(-(-t // ROWS), r * h)](*tensors, k, q, *sizes, num_warps=WARPS)
        ctx.save_for_backward(*tensors)
        return k, q

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        B, C, *biases, turns = ctx.saved_tensors
        if kernels_must_give_way(grads):
            return backward_of(turn_of_heads.plain, (*ctx.saved_tensors, ctx.pairs, torch.bfloat16), grads)[:6]
        (t, r, g, n), (h, s) = B.shape, turns.shape[1:]
        blocks = -(-t // ROWS_BACK)
        dB, dC, dturns = torch.empty_like(B), torch.empty_like(C), turns.new_empty(r, t, h, s)
        dbiases = [bias.new_empty(blocks, h, r, n) for bias in biases]
        with launching(B):
            sizes = (t, r, g, h, s, n, ROWS_BACK, ctx.pairs == "neighbours")
            tensors = (B, C, *biases, turns, *(grad.contiguous() for grad in grads), dB, dC, *dbiases, dturns)
            kernels.turn_backward[(blocks, r * g)](*tensors, *sizes, num_warps=1)
        dturns = dturns.sum(dim=0) if r > 1 else dturns.squeeze(0)
        return dB, dC, *(dbias.sum(dim=0) for dbias in dbiases), dturns, None
