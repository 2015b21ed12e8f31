"""The trapezoidal rule of one rank on a GPU, in kernels of its own."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mamba2_lab.fast.own_backward import backward_of, kernels_must_give_way
from mamba2_lab.fast.triton_ways import HAS_TRITON, launching, power_of_two, serves
from mamba2_lab.scan.trapezoid import read_of_one

if HAS_TRITON:
    from mamba2_lab.fast import triton_kernels as kernels

BLOCK = 64  # tokens that meet in one product
PROGRAMS = 512  # that keep a GPU busy: so many chunks at least, of a few blocks each
LARGEST_HEADDIM, LARGEST_STATE = 64, 128  # the backward pass keeps several matrices of them in a multiprocessor
LEAST_LOG_DECAY = -100.0  # exp of it is 0 in float32, and sums of it over a block keep their digits
STATE_BLOCK = 1024  # numbers of a state that one program passes on


def in_kernels(x: Tensor, log_decay: Tensor, own: Tensor, ahead: Tensor, B: Tensor, C: Tensor, *rest: object) -> bool:
    """Whether B and C come in bfloat16, on a GPU, and of a size for which the kernels are made."""
    fits = x.shape[-1] <= LARGEST_HEADDIM and B.shape[-1] <= LARGEST_STATE
    return fits and B.dtype == C.dtype == torch.bfloat16 and serves(x, log_decay, own, ahead, B, C, *rest)


@read_of_one.way("triton", serves=in_kernels, within=1e-2)
def _(
    x: Tensor, log_decay: Tensor, own: Tensor, ahead: Tensor, B: Tensor, C: Tensor, state: Tensor, chunk_size: int
) -> tuple[Tensor, Tensor]:
    """In blocks of 64, with the factors of products in bfloat16; scores and weights are never in memory."""
    l, p, n = x.shape[1], x.shape[-1], B.shape[-1]
    if l == 0:
        return x, state
    wanted = (x, log_decay, own, ahead, B, C, state)
    backward = torch.is_grad_enabled() and any(each.requires_grad for each in wanted)
    blocks = 1 if backward else _blocks_per_chunk(x)  # gradients need the state before each block
    padding = -l % (BLOCK * blocks)
    x, B, C = (_in_halves(each, padding) for each in (x, B, C))
    rows = (F.pad(row.mT, (0, padding)) for row in (log_decay.clamp(min=LEAST_LOG_DECAY), own, own + ahead))
    log_decay, own, later = (row.contiguous() for row in rows)  # (b h l)
    since_start = torch.cumsum(log_decay.unflatten(-1, (-1, BLOCK)), dim=-1).flatten(-2)
    state = F.pad(state, (0, B.shape[-1] - n, 0, x.shape[-1] - p))
    given = (x, B, C, since_start, own, later, state)
    y, state = _ReadOfOne.apply(*given) if backward else _read(blocks, *given)[:2]
    return y[:, :l, :, :p].unsqueeze(2), state[..., :p, :n]


def _blocks_per_chunk(x: Tensor) -> int:
    """Of (b,l,1,h,p). Fewer chunks are fewer states in memory; no chunk is longer than a quarter of the sequence."""
    b, l, _, h, _ = x.shape
    for blocks in (8, 4, 2):
        if b * h * l >= PROGRAMS * blocks * BLOCK and l >= 4 * blocks * BLOCK:
            return blocks
    return 1


def _in_halves(each: Tensor, padding: int) -> Tensor:
    """(b,l,1,h,d) -> (b,l,h,d) in bfloat16, with so many tokens of padding, and d filled up to a power of two."""
    d = each.shape[-1]
    each = each.to(torch.bfloat16).squeeze(2)  # first of all: a compiler drops float32 between two that are bfloat16
    whole = padding == 0 and d == power_of_two(d)
    return (each if whole else F.pad(each, (0, power_of_two(d) - d, 0, 0, 0, padding))).contiguous()


class _ReadOfOne(torch.autograd.Function):
    """`_read` with a backward pass of its own, which computes again what lies inside of a block."""

    @staticmethod
    def forward(ctx: Any, *given: Tensor) -> tuple[Tensor, Tensor]:
        y, final, before = _read(1, *given)
        ctx.save_for_backward(*given, before)
        return y, final

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        *given, before = ctx.saved_tensors
        if kernels_must_give_way(grads):
            return backward_of(_as_defined, given, grads)
        x, B, C, since_start, own, later, _ = given
        dy, kept = grads[0].contiguous(), torch.exp(since_start[..., BLOCK - 1 :: BLOCK]).contiguous()
        dbefore = _write_states(dy, C, torch.exp(since_start), kept, 1)
        dafter, dstate = _pass_states(dbefore, kept, grads[1], back=True)
        grads = tuple(torch.empty_like(each) for each in (x, B, C, since_start, own, later))
        with launching(x):
            kernels.read_backward[_grid(x, 1)](
                x, B, C, since_start, own, later, before, dy, dafter, *grads, *_sizes(x, B), num_warps=4
            )
        return *grads, dstate


def _read(
    blocks: int, x: Tensor, B: Tensor, C: Tensor, since_start: Tensor, own: Tensor, later: Tensor, state: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """x (b,l,h,p), B, C (b,l,h,n), three rows (b,h,l), state (b,h,p,n) -> y, the final state, and those before chunks.

    blocks: of a chunk. Rows: log decays summed since the start of each block; the weights with which a token reads
    itself, and is read by all later ones.
    """
    by_block = since_start.unflatten(-1, (-1, BLOCK))
    ends = by_block[..., -1:]
    to_end = torch.exp(ends - by_block).flatten(-2) * later
    kept = torch.exp(ends).squeeze(-1).contiguous()
    left_behind = _write_states(x, B, to_end, kept, blocks)
    kept_by_chunk = kept.unflatten(-1, (-1, blocks)).prod(dim=-1)
    before, final = _pass_states(left_behind, kept_by_chunk, state, back=False)
    y = torch.empty_like(x)
    with launching(x):
        kernels.read[_grid(x, blocks)](
            x, B, C, since_start, own, later, to_end, kept, before, y, *_sizes(x, B), blocks, num_stages=2
        )
    return y, final, before


def _as_defined(
    x: Tensor, B: Tensor, C: Tensor, since_start: Tensor, own: Tensor, later: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """The same, without kernels."""
    by_block = since_start.unflatten(-1, (-1, BLOCK))
    log_decay = torch.diff(by_block, prepend=torch.zeros_like(by_block[..., :1])).flatten(-2)
    log_decay, own, ahead = (row.mT for row in (log_decay, own, later - own))
    in_float32, B, C = (each.unsqueeze(2) for each in (x.float(), B, C))
    y, state = read_of_one.plain(in_float32, log_decay, own, ahead, B, C, state, BLOCK)
    return y.squeeze(2).to(x.dtype), state


def _write_states(x: Tensor, B: Tensor, weight: Tensor, kept: Tensor, blocks: int) -> Tensor:
    (b, l, h, p), n = x.shape, B.shape[-1]
    left_behind = x.new_empty(b, h, l // BLOCK // blocks, p, n)
    with launching(x):
        kernels.write_states[_grid(x, blocks)](x, B, weight, kept, left_behind, *_sizes(x, B), blocks, num_stages=2)
    return left_behind


def _pass_states(left_behind: Tensor, kept: Tensor, state: Tensor, back: bool) -> tuple[Tensor, Tensor]:
    b, h, c, p, n = left_behind.shape
    before, final, block = torch.empty_like(left_behind), state.new_empty(state.shape), min(STATE_BLOCK, p * n)
    with launching(state):
        grid, sizes = (b * h, p * n // block), (c, p * n, block, back)
        kernels.pass_states[grid](left_behind, kept, state.contiguous(), before, final, *sizes)
    return before, final


def _grid(x: Tensor, blocks: int) -> tuple[int, int]:
    b, l, h, _ = x.shape
    return l // BLOCK // blocks, b * h


def _sizes(x: Tensor, B: Tensor) -> tuple[int, ...]:
    """l, h and, for which a kernel is compiled, q, p, n."""
    return x.shape[1], x.shape[2], BLOCK, x.shape[3], B.shape[3]
