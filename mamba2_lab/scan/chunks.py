"""SSD: attention inside chunks, a recurrence of states between them (paper, section 6).

Linear in the length, and nearly all of it in matrix products. The four steps stand in `ssd`.
"""

import torch
from einops import rearrange
from torch import Tensor

from mamba2_lab.checks import require, require_whole
from mamba2_lab.machine.stretches import stretch_by_stretch
from mamba2_lab.operation import operation
from mamba2_lab.scan.arguments import on_sequences
from mamba2_lab.scan.dual import segsum

# So many at a time: temporaries are small enough to be reused from cache, and do not grow with the length.
CHUNKS_PER_STRETCH = 16


@on_sequences
def chunked(
    x: Tensor, log_decay: Tensor, B: Tensor, C: Tensor, state: Tensor, chunk_size: int = 64
) -> tuple[Tensor, Tensor]:
    """The recurrence in chunks, O(l) time. Arguments as for `on_sequences`; then `chunk_size`, 64 tokens.

    The last chunk is as long as it is. `chunk_size` trades attention work for state work and changes nothing in the
    result. On cuda, where B and C come in bfloat16, the factors of all products are rounded to it, which costs about
    5e-3 of the largest y and of the largest state; and chunks are as long as serves such products, 128 at least.
    """
    require_whole("chunk_size", chunk_size)
    require(chunk_size >= 1, "chunk_size", "at least 1", chunk_size)
    return in_stretches(x, log_decay, B, C, state, chunk_size)


@operation
def in_stretches(
    x: Tensor, log_decay: Tensor, B: Tensor, C: Tensor, state: Tensor, chunk_size: int
) -> tuple[Tensor, Tensor]:
    """A whole sequence, from state to state. Arguments are those that `prepare` returns."""
    sequence = (x, log_decay, B.to(x.dtype), C.to(x.dtype))
    return stretch_by_stretch(ssd, CHUNKS_PER_STRETCH, sequence, state, chunk_size)


def ssd(x: Tensor, log_decay: Tensor, B: Tensor, C: Tensor, state: Tensor, chunk_size: int) -> tuple[Tensor, Tensor]:
    """Whole chunks, all at once: the four steps of SSD."""
    g = B.shape[2]
    x = rearrange(x, "b (c q) (g r) p -> b c g r q p", q=chunk_size, g=g)  # c chunks of q tokens, r heads per group
    log_decay = rearrange(log_decay, "b (c q) (g r) -> b c g r q", q=chunk_size, g=g)
    B = rearrange(B, "b (c q) g n -> b c g q n", q=chunk_size)
    C = rearrange(C, "b (c q) g n -> b c g q n", q=chunk_size)
    since_start = torch.cumsum(log_decay, dim=-1)  # (b c g r q)
    L, to_end = decay_inside(log_decay)  # (b c g r q q), on and below the diagonal; (b c g r q)

    # 1. Diagonal blocks: inside a chunk, masked attention. C B^T is shared by the heads of a group, and so is the mask.
    scores = (C @ B.mT).tril()  # (b c g q q)
    y = (L * scores.unsqueeze(3)) @ x  # (b c g r q p)

    # 2. Low-rank blocks, the right factor: what each chunk alone leaves behind at its end.
    left_behind = rearrange(x * to_end.unsqueeze(-1), "b c g r q p -> b c g (r p) q") @ B  # (b c g rp n)

    # 3. The middle factor: the same recurrence one level up, over chunks instead of tokens.
    states, final_state = pass_between_chunks(left_behind, since_start[..., -1], state)  # (b c g rp n)

    # 4. The left factor: what each chunk reads of the state that came in.
    read = rearrange(C @ states.mT, "b c g q (r p) -> b c g r q p", p=x.shape[-1])
    y = torch.addcmul(y, read, torch.exp(since_start).unsqueeze(-1))

    return rearrange(y, "b c g r q p -> b (c q) (g r) p"), final_state


@operation
def decay_inside(log_decay: Tensor) -> tuple[Tensor, Tensor]:
    """L of a chunk, how much of what a token wrote is left at another, and its last row, what is left at the end.

    (...,q) -> (...,q,q), [target, source], and (...,q). What stands above the diagonal is not used.
    """
    L = torch.exp(segsum(log_decay))
    return L, L[..., -1, :]


@operation
def pass_between_chunks(left_behind: Tensor, chunk_log_decay: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """States before each chunk, and after the last: from what each leaves behind and how much it lets through.

    left_behind (b,c,g,rp,n), chunk_log_decay (b,c,g,r), state (b,h,p,n) -> (b,c,g,rp,n) and (b,h,p,n)
    """
    p = state.shape[2]
    decay = torch.exp(chunk_log_decay).repeat_interleave(p, dim=-1).unsqueeze(-1)  # (b c g rp 1)
    running, before = state.reshape(left_behind[:, 0].shape), []
    for chunk in range(left_behind.shape[1]):
        before.append(running)
        running = decay[:, chunk] * running + left_behind[:, chunk]
    return torch.stack(before, dim=1), running.reshape(state.shape)
