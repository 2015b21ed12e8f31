"""Answers to `as_mamba1`."""

import numpy as np
import torch
from support.learners.collect import right, wrong


@wrong("as_mamba1", "The heads alternate from channel to channel")
def heads_take_turns(dt, A, p, n):
    return dt.repeat(1, p), A.repeat(p)[:, None].expand(-1, n)


@wrong("as_mamba1", "`A` holds the right numbers once, in shape (6, 1) where")
def a_with_a_single_column(dt, A, p, n):
    return dt.repeat_interleave(p, dim=1), A.repeat_interleave(p)[:, None]


@wrong("as_mamba1", "The tokens are repeated, not the heads")
def repeats_tokens(dt, A, p, n):
    return dt.repeat_interleave(p, dim=0), A.repeat_interleave(p)[:, None].repeat(1, n)


@wrong("as_mamba1", "dt and A are both for heads; here dt was laid out by channels in the")
def rates_dealt_out(dt, A, p, n):
    return dt.repeat_interleave(p, -1), A.repeat(p)[:, None].expand(-1, n)


@wrong("as_mamba1", "Along axis 1, `A` is 1, 2 times what it should be.")
def rates_as_mamba1_starts(dt, A, p, n):
    return dt.repeat_interleave(p, -1), A.repeat_interleave(p)[:, None] * torch.arange(1, n + 1)


@wrong("as_mamba1", "dt is shared out among the channels. Time is not divided: it passes for")
def shares_dt(dt, A, p, n):
    return dt.repeat_interleave(p, 1) / p, A.repeat_interleave(p)[:, None].repeat(1, n)


@right("as_mamba1")
def a_list_of_repeats(dt, A, p, n):
    return [dt.repeat_interleave(p, -1), A.repeat_interleave(p).unsqueeze(1).repeat(1, n)]


@right("as_mamba1")
def mamba1_by_numpy(dt, A, p, n):
    return np.repeat(dt.numpy(), p, axis=1), np.tile(np.repeat(A.numpy(), p)[:, None], (1, n))


@right("as_mamba1")
def by_expand_and_flatten(dt, A, p, n):
    return dt[..., None].expand(*dt.shape, p).flatten(1), A[:, None, None].expand(len(A), p, n).reshape(-1, n).double()
