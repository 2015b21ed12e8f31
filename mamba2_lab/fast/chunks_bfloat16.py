"""Blocks of chunks whose products are in bfloat16, for GPUs."""

from __future__ import annotations

import math

import torch
from einops import rearrange
from torch import Tensor

from mamba2_lab.fast.chunks import differences, in_turn
from mamba2_lab.machine.stretches import stretch_by_stretch
from mamba2_lab.scan.chunks import in_stretches

# A GPU wants large products and many at once: chunks of at least so many tokens, so many of them at a time, and states
# passed on through groups of so many chunks.
CHUNK_SIZE = 128
CHUNKS_PER_STRETCH = 256
CHUNKS_PER_GROUP = 16


def multiplies_in_bfloat16(x: Tensor, log_decay: Tensor, B: Tensor, C: Tensor, *rest: object) -> bool:
    """Whether the factors of products are rounded to bfloat16: where B and C come so, on cuda.

    There it pays. A CPU multiplies such small matrices more slowly in bfloat16 than in float32, and on mps nobody has
    measured it. Not in float16, where a state above 65,504 would be infinite.
    """
    return B.device.type == "cuda" and B.dtype == C.dtype == torch.bfloat16


@in_stretches.way("cuda, bfloat16", serves=multiplies_in_bfloat16, within=1e-2)
def _(x: Tensor, log_decay: Tensor, B: Tensor, C: Tensor, state: Tensor, chunk_size: int) -> tuple[Tensor, Tensor]:
    """In large chunks, and many of them at a time."""
    return stretch_by_stretch(_ssd, CHUNKS_PER_STRETCH, (x, log_decay, B, C), state, max(chunk_size, CHUNK_SIZE))


def _ssd(x: Tensor, log_decay: Tensor, B: Tensor, C: Tensor, state: Tensor, chunk_size: int) -> tuple[Tensor, Tensor]:
    """`scan.chunks.ssd` with the factors of products in bfloat16, arranged for torch.compile on cuda.

    Each product is over the same (b g r c), so that a compiler can let it take its factors straight from x, B, C and
    the decays, and make one kernel of the two that add up to y; inductor's option triton.native_matmul does that. Only
    scores and the states of chunks are in memory in between, in bfloat16; states are carried on from chunk to chunk in
    float32. In the order (b g r c) the heads of y come apart without a copy.
    """
    g, half = B.shape[2], torch.bfloat16
    x = rearrange(x, "b (c q) (g r) p -> b g r c q p", q=chunk_size, g=g)
    log_decay = rearrange(log_decay, "b (c q) (g r) -> b g r c q", q=chunk_size, g=g)
    B, C = (rearrange(factor.to(half), "b (c q) g n -> b g 1 c q n", q=chunk_size) for factor in (B, C))
    cumulated = torch.cumsum(log_decay.double(), dim=-1)  # (b g r c q)

    # 1. Diagonal blocks.
    scores = C @ B.mT  # (b g 1 c q q)
    y = (scores * _decay_from_cumulated(cumulated)).to(half) @ x.to(half)  # (b g r c q p)

    # 2. What each chunk leaves behind.
    to_end = torch.exp((cumulated[..., -1:] - cumulated).float()).unsqueeze(-1)  # (b g r c q 1)
    left_behind = (x * to_end).to(half).mT @ B  # (b g r c p n)

    # 3. States before each chunk.
    initial = rearrange(state, "b (g r) p n -> b g r p n", g=g)
    before, final = _pass_in_groups(left_behind, cumulated[..., -1].float(), initial)

    # 4. What each chunk reads of the state that came in.
    since_start = torch.exp(cumulated.float()).unsqueeze(-1)  # (b g r c q 1)
    y = y + (C * since_start).to(half) @ before.mT

    return rearrange(y, "b g r c q p -> b (c q) (g r) p"), rearrange(final, "b g r p n -> b (g r) p n")


def _decay_from_cumulated(cumulated: Tensor) -> Tensor:
    """L = exp(segsum) in float32, from float64 sums of log decays since the start of a chunk: (...,q) -> (...,q,q)."""
    q = cumulated.shape[-1]
    above = torch.ones(q, q, dtype=torch.bool, device=cumulated.device).triu(1)
    return torch.exp(differences(cumulated).masked_fill(above, -math.inf))


def _pass_in_groups(left_behind: Tensor, chunk_log_decay: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """States before each chunk in the dtype of left_behind, and the last in float32.

    left_behind (...,c,p,n), chunk_log_decay (...,c), state (...,p,n) -> (...,c,p,n) and (...,p,n)

    Many chunks are passed in groups, all at once: first what each group alone leaves behind; then from group to group;
    then through each group again, from what came in.
    """
    c = left_behind.shape[-3]
    if c <= 2 * CHUNKS_PER_GROUP:
        return _pass_chunk_by_chunk(left_behind, chunk_log_decay, state)
    padding = -c % CHUNKS_PER_GROUP  # with chunks that write nothing and keep everything
    left_behind = torch.nn.functional.pad(left_behind, (0, 0, 0, 0, 0, padding))
    chunk_log_decay = torch.nn.functional.pad(chunk_log_decay, (0, padding))
    left_behind = left_behind.unflatten(-3, (-1, CHUNKS_PER_GROUP))  # (..., groups, chunks, p, n)
    chunk_log_decay = chunk_log_decay.unflatten(-1, (-1, CHUNKS_PER_GROUP))
    nothing = torch.zeros_like(left_behind[..., 0, :, :], dtype=state.dtype)
    _, left_by_groups = _pass_chunk_by_chunk(left_behind, chunk_log_decay, nothing)
    before_groups, final = _pass_chunk_by_chunk(left_by_groups, chunk_log_decay.sum(dim=-1), state)
    before, _ = _pass_chunk_by_chunk(left_behind, chunk_log_decay, before_groups)
    return before.flatten(-4, -3)[..., :c, :, :], final


def _pass_chunk_by_chunk(left_behind: Tensor, chunk_log_decay: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    return in_turn(left_behind, torch.exp(chunk_log_decay)[..., None, None], state, dim=-3)
