"""The dual: the recurrence as attention with a decay mask in place of a softmax (paper, section 5)."""

import math

import torch
from einops import rearrange
from torch import Tensor

from mamba2_lab.scan.arguments import on_sequences


@on_sequences
def quadratic(x: Tensor, log_decay: Tensor, B: Tensor, C: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """y = (L o C B^T) x, in O(l^2) time and memory. Arguments as for `on_sequences`."""
    g = B.shape[2]
    x = rearrange(x, "b l (g r) p -> b g r l p", g=g)  # r: heads per group
    log_decay = rearrange(log_decay, "b l (g r) -> b g r l", g=g)
    B, C = (rearrange(factor.to(x.dtype), "b l g n -> b g 1 l n") for factor in (B, C))
    initial = rearrange(state, "b (g r) p n -> b g r p n", g=g)

    L = torch.exp(segsum(log_decay))  # the mask (b,g,r,l,l)
    from_start = torch.exp(torch.cumsum(log_decay, dim=-1)).unsqueeze(-1)  # (b,g,r,l,1)
    M = L * (C @ B.mT)
    y = M @ x + from_start * (C @ initial.mT)

    if x.shape[3] > 0:
        to_end = L[..., -1, :].unsqueeze(-1)  # (b,g,r,l,1)
        state = from_start[..., -1:, :] * initial + (x * to_end).mT @ B
        state = rearrange(state, "b g r p n -> b (g r) p n")
    return rearrange(y, "b g r l p -> b l (g r) p"), state


def segsum(log_decay: Tensor) -> Tensor:
    """Segment sums: (..., l) -> (..., l, l), the summed log decay from source s to target t; -inf above the diagonal.

    Entry (t, s) is log_decay_{s+1} + ... + log_decay_t: a token's own decay is not applied to what it writes, so the
    diagonal is 0. Each column is summed afresh from its own start. The shorter formula cumsum_t - cumsum_s subtracts
    two large numbers to get a small one, and loses the digits that matter (paper, section 6.2 and `ssd_minimal.py`).
    """
    l = log_decay.shape[-1]
    after_source = torch.ones(l, l, dtype=torch.bool, device=log_decay.device).tril(-1)  # t > s
    terms = torch.where(after_source, log_decay.unsqueeze(-1), 0.0)  # terms[t, s] = log_decay_t
    one_batch_axis = terms.reshape(math.prod(log_decay.shape[:-1]), l, l)  # of many, mps makes wrong sums
    sums = torch.cumsum(one_batch_axis, dim=-2).view(terms.shape)
    return sums.masked_fill(after_source.mT, -math.inf)
