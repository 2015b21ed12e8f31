"""The trapezoidal rule: a token writes once when it comes, and once more when the next one does (Mamba-3).

    h_t = alpha_t (h_{t-1} + delta_t U_{t-1}) + gamma_t U_t        U_t = sum over r of x_{t,r} B_{t,r}^T
    y_{t,r} = h_t C_{t,r}

alpha_t = exp(log_decay_t); delta and gamma are the weights of the two ends of a time step. A head has R pairs (B, C) of
its own: R = 1 is SISO, more is MIMO. `trapezoidal_step` is one turn of it. `trapezoidal` looks ahead: the state

    s_t = h_t + delta_{t+1} U_t = alpha_t s_{t-1} + (gamma_t + delta_{t+1}) U_t

holds already what a token will write when the next one comes, and so obeys the recurrence that all scans here compute.
Only the token itself must not read that: it reads U_t with the weight gamma_t alone.

The paper is Lahoti et al. 2026, "Mamba-3", arXiv:2603.15569. Shapes, beside those of this package: r ranks,
x (b,l,r,h,p), B, C (b,l,r,h,n), gamma and delta (b,l,h), as log_decay.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from mamba2_lab.checks import require, require_whole
from mamba2_lab.machine.autocast import outside_autocast
from mamba2_lab.machine.shapes import check_shapes
from mamba2_lab.machine.stretches import stretch_by_stretch
from mamba2_lab.operation import operation
from mamba2_lab.scan.arguments import RESTART, document_starts
from mamba2_lab.scan.chunks import chunked, decay_inside, pass_between_chunks

# Rows of a chunk's matrices, a token having a row for each rank; and chunks at a time, as for `chunked`.
ROWS_PER_CHUNK, CHUNKS_PER_STRETCH = 64, 16


class Written(NamedTuple):
    """What stands written when a token comes: the state, and the last token, which will write once more."""

    state: Tensor  # (b,h,p,n)
    x: Tensor  # (b,r,h,p)
    B: Tensor  # (b,r,h,n)


@outside_autocast
def trapezoidal_step(
    x_t: Tensor, log_decay_t: Tensor, gamma_t: Tensor, delta_t: Tensor, B_t: Tensor, C_t: Tensor, before: Written
) -> tuple[Tensor, Tensor]:
    """One token: x_t (b,r,h,p), B_t and C_t (b,r,h,n), the others (b,h) -> y_t (b,r,h,p), the new state (b,h,p,n)."""
    given = (x_t, log_decay_t, gamma_t, delta_t, B_t, C_t, *before)
    x, log_decay, gamma, delta, B, C, state, last_x, last_B = _accumulating(x_t, given)
    # The token before and this one write together, in twice as many ranks.
    beta = torch.exp(log_decay) * delta
    both = torch.cat([beta[:, None, :, None] * last_x, gamma[:, None, :, None] * x], dim=1)
    y_t, new_state = turn_in_ranks(both, log_decay, torch.cat([last_B, B], dim=1), C, state)
    return y_t.to(x_t.dtype), new_state


@operation
def turn_in_ranks(x_t: Tensor, log_decay_t: Tensor, B_t: Tensor, C_t: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """One turn with as many pairs (x, B) to write, and as many C to read with, as there are: y_t and the new state."""
    new_state = torch.exp(log_decay_t)[..., None, None] * state + _outer(x_t, B_t)
    return torch.einsum("bhpn,brhn->brhp", new_state, C_t), new_state


@outside_autocast
def trapezoidal(
    x: Tensor,
    log_decay: Tensor,
    gamma: Tensor,
    delta: Tensor,
    B: Tensor,
    C: Tensor,
    before: Written,
    chunk_size: int = 64,
    *,
    document_ids: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """A sequence of any length, by looking ahead, in O(l) time.

    Args:
        before: what stands written before the first token.
        chunk_size: tokens per chunk; fewer where ranks would make its matrices large.
        document_ids: (b,l) integers; nothing is kept, and nothing written once more, where the id changes.

    Returns:
        y (b,l,r,h,p) in the dtype of x, and the final state (b,h,p,n) in float32 (float64 for float64 inputs).

    Raises:
        TypeError, ValueError: naming the argument, the shape or dtype expected, and what came.
    """
    named = {"x": x, "log_decay": log_decay, "gamma": gamma, "delta": delta, "B": B, "C": C}
    named |= {f"before.{name}": tensor for name, tensor in before._asdict().items()}
    letters = ("blrhp", "blh", "blh", "blh", "blrhn", "blrhn", "bhpn", "brhp", "brhn")
    check_shapes(dict(zip(named, zip(named.values(), letters, strict=True), strict=True)), "bl", document_ids)
    require_whole("chunk_size", chunk_size)
    require(chunk_size >= 1, "chunk_size", "at least 1", chunk_size)
    inputs, (state, last_x, last_B) = x, _accumulating(x, before)
    x, log_decay, gamma, delta = _accumulating(x, (x, log_decay, gamma, delta))
    if document_ids is not None:
        log_decay = log_decay.masked_fill(document_starts(document_ids).unsqueeze(-1), RESTART)
    ahead = F.pad(delta[:, 1:], (0, 0, 0, min(1, delta.shape[1])))  # delta_{t+1}, and 0 behind the last token
    state = state + delta[:, :1].sum(dim=1)[..., None, None] * _outer(last_x, last_B)
    if x.shape[2] == 1:
        y, state = read_of_one(x, log_decay, gamma, ahead, B, C, state, chunk_size)
    else:
        B, C, log_decay = B.to(x.dtype), C.to(x.dtype), log_decay.clamp(min=RESTART)
        y, state = read_in_ranks(x, log_decay, gamma, ahead, B, C, state, chunk_size)
    return y.to(inputs.dtype), state


@operation
def read_of_one(
    x: Tensor, log_decay: Tensor, own: Tensor, ahead: Tensor, B: Tensor, C: Tensor, state: Tensor, chunk_size: int
) -> tuple[Tensor, Tensor]:
    """One rank: the scan as it is, and from what a token reads of itself, what it will write later is taken away.

    own and ahead (b,l,h): the weights with which a token reads itself, and those that are added for all later ones.
    """
    x, B, C = x.squeeze(2), B.squeeze(2), C.squeeze(2)
    y, state = chunked(x * (own + ahead).unsqueeze(-1), log_decay, B, C, state, chunk_size)
    too_much = ahead * (B.to(x.dtype) * C.to(x.dtype)).sum(dim=-1)
    return torch.addcmul(y, x, too_much.unsqueeze(-1), value=-1).unsqueeze(2), state


@operation
def read_in_ranks(
    x: Tensor, log_decay: Tensor, own: Tensor, ahead: Tensor, B: Tensor, C: Tensor, state: Tensor, chunk_size: int
) -> tuple[Tensor, Tensor]:
    """Several ranks: all rows of a chunk's tokens in one product, and a weight of their own where a token meets itself.

    own and ahead (b,l,h): the weights with which a token reads itself, and those that are added for all later ones.
    """
    chunk_size = max(1, min(chunk_size, ROWS_PER_CHUNK // x.shape[2]))
    return stretch_by_stretch(_ssd_in_ranks, CHUNKS_PER_STRETCH, (x, log_decay, own, ahead, B, C), state, chunk_size)


def _ssd_in_ranks(
    x: Tensor, log_decay: Tensor, own: Tensor, ahead: Tensor, B: Tensor, C: Tensor, state: Tensor, chunk_size: int
) -> tuple[Tensor, Tensor]:
    """Whole chunks, all at once: the four steps of SSD, with R rows for each token."""
    r = x.shape[2]
    x, B, C = (rearrange(rows, "b (c q) r h d -> b c h (q r) d", q=chunk_size) for rows in (x, B, C))
    log_decay, own, ahead = (rearrange(row, "b (c q) h -> b c h q", q=chunk_size) for row in (log_decay, own, ahead))
    M, to_end, since_start = weights_inside(log_decay, own, ahead, r)

    # 1. Diagonal blocks.
    y = (M * (C @ B.mT)) @ x  # (b c h qr p)

    # 2. What each chunk alone leaves behind.
    left_behind = (x * to_end).mT @ B  # (b c h p n)

    # 3. States before each chunk, and after the last.
    states, final_state = pass_between_chunks(left_behind, log_decay.sum(dim=-1, keepdim=True), state)

    # 4. What each chunk reads of the state that came in.
    y = torch.addcmul(y, C @ states.mT, since_start)
    return rearrange(y, "b c h (q r) p -> b (c q) r h p", r=r), final_state


def weights_inside(log_decay: Tensor, own: Tensor, ahead: Tensor, r: int) -> tuple[Tensor, Tensor, Tensor]:
    """Of a chunk: what is read of source s at target t, what is left of s at the end, and of the state before it at t.

    (...,q) three times -> (...,qr,qr), [target, source], zero above the diagonal; (...,qr,1); (...,qr,1)
    """
    L, to_end = decay_inside(log_decay)
    later = own + ahead
    M = (L * later.unsqueeze(-2)).tril(-1) + torch.diag_embed(own)
    since_start = torch.exp(torch.cumsum(log_decay, dim=-1))
    M, to_end, since_start = (each.repeat_interleave(r, dim=-1) for each in (M, to_end * later, since_start))
    return M.repeat_interleave(r, dim=-2), to_end.unsqueeze(-1), since_start.unsqueeze(-1)


def _outer(x: Tensor, B: Tensor) -> Tensor:
    """The sum over ranks of x_r B_r^T: (b,r,h,p), (b,r,h,n) -> (b,h,p,n)."""
    return torch.einsum("brhp,brhn->bhpn", x, B)


def _accumulating(x: Tensor, tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """In float32, or float64 if x is."""
    accumulate = torch.promote_types(x.dtype, torch.float32)
    return tuple(tensor.to(accumulate) for tensor in tensors)
