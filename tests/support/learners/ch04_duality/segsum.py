"""Answers to `segsum`."""

import math

import numpy as np
import torch
from support.learners.collect import right, wrong


@wrong("segsum", "These are sums from s to t - 1, one token too early")
def from_s_to_t_minus_1(log_decay):
    l = log_decay.shape[-1]
    before = torch.cat([torch.zeros_like(log_decay[..., :1]), log_decay.cumsum(-1)[..., :-1]], -1)
    sums = before[..., :, None] - before[..., None, :]
    return sums.masked_fill(~torch.ones(l, l).tril().bool(), -math.inf)


@wrong("segsum", "The sign is turned")
def source_and_target_exchanged(log_decay):
    l, total = log_decay.shape[-1], log_decay.cumsum(-1)
    sums = total[..., None, :] - total[..., :, None]
    return sums.masked_fill(~torch.ones(l, l).tril().bool(), -math.inf)


@wrong("segsum", "Above the diagonal it must be -inf")
def zeros_above_the_diagonal(log_decay):
    total = log_decay.cumsum(-1)
    return torch.tril(total[..., :, None] - total[..., None, :])


@wrong("segsum", "Above the diagonal it must be -inf. A 0 there becomes exp(0) = 1: every")
def zero_above(log_decay):
    total = log_decay.cumsum(-1)
    return (total[..., :, None] - total[..., None, :]).tril()


@wrong("segsum", "The diagonal must be 0: a token's own decay is not applied to what it")
def own_decay_too(log_decay):
    l = log_decay.shape[-1]
    rows = log_decay[..., :, None].expand(*log_decay.shape, l).tril()
    return rows.cumsum(-2).masked_fill(torch.ones(l, l, dtype=torch.bool).triu(1), -torch.inf)


@right("segsum")
def segsum_by_loops(log_decay):
    l = log_decay.shape[-1]
    out = torch.full((*log_decay.shape, l), -math.inf, dtype=torch.float64)
    for t in range(l):
        for s in range(t + 1):
            out[..., t, s] = log_decay[..., s + 1 : t + 1].sum(-1)
    return out


@right("segsum")
def segsum_row_by_row(log_decay):
    l, rows = log_decay.shape[-1], []
    row = torch.full_like(log_decay, -math.inf)
    for t in range(l):
        row = row + log_decay[..., t : t + 1]
        row[..., t] = 0.0
        rows.append(row.clone())
    return torch.stack(rows, dim=-2)


@right("segsum")
def segsum_by_numpy(log_decay):
    a = log_decay.numpy()
    l = a.shape[-1]
    repeated = np.where(np.tril(np.ones((l, l)), -1) > 0, a[..., :, None], 0.0)
    return np.where(np.tril(np.ones((l, l))) > 0, repeated.cumsum(-2), -np.inf)
