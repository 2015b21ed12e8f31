"""Answers to `kernel`."""

import math

import torch
from support.learners.collect import right, unexplained, wrong


@wrong("kernel", "It begins one hour late")
def one_step_too_old(log_decay, B, C, l):
    t = torch.arange(1, l + 1)[:, None]
    return (C * torch.exp(t * log_decay) * B).sum(1)


@wrong("kernel", "B is left out")
def leaves_out_b(log_decay, B, C, l):
    t = torch.arange(l)[:, None]
    return (C * torch.exp(t * log_decay)).sum(1)


@wrong("kernel", "The log decays of all barrels are added up")
def sums_before_the_power(log_decay, B, C, l):
    return (C @ B) * torch.exp(torch.arange(l) * log_decay.sum())


@wrong("kernel", "It comes out as if `torch.arange(l)[:, None]` were multiplied after")
def decay_times_t(log_decay, B, C, l):
    t = torch.arange(l)[:, None]
    return (C * t * log_decay.exp() * B).sum(-1)


@wrong("kernel", "It comes out as if each factor had a sum of its own, where the products")
def two_sums_apart(log_decay, B, C, l):
    t = torch.arange(l)[:, None]
    return torch.exp(t * log_decay).sum(-1) * (C @ B)


@wrong("kernel", "Each barrel has a decay of its own. Their sum or mean in the")
def adds_the_barrels_before_fading(log_decay, B, C, l):
    t = torch.arange(l)
    return (B * C).sum() * torch.exp(log_decay.mean() * t)


@unexplained("kernel")
def linear_fading(log_decay, B, C, l):
    t = torch.arange(l)[:, None]
    return ((1 + log_decay * t) * B * C).sum(1)


@wrong("kernel", "The result is added up, entry after entry: leave that out.")
def all_rain_so_far(log_decay, B, C, l):
    t = torch.arange(l)[:, None]
    return ((log_decay * t).exp() * B * C).sum(1).cumsum(0)


@wrong("kernel", "The result has shape (2, 3) where (3,) is expected: the sum")
def one_row_for_each_barrel(log_decay, B, C, l):
    t = torch.arange(l)
    return C[:, None] * (log_decay[:, None] * t).exp() * B[:, None]


@right("kernel")
def a_list_of_numbers(log_decay, B, C, l):
    rows = list(zip(log_decay.tolist(), B.tolist(), C.tolist(), strict=True))
    return [sum(c * b * math.exp(t * a) for a, b, c in rows) for t in range(l)]


@right("kernel")
def kernel_by_einsum(log_decay, B, C, l):
    powers = torch.exp(torch.outer(torch.arange(l, dtype=torch.float64), log_decay.double()))
    return torch.einsum("n,tn,n->t", C.double(), powers, B.double())


@right("kernel")
def kernel_by_the_loop(log_decay, B, C, l):
    state, out = B, torch.zeros(l)
    for t in range(l):
        out[t] = C @ state
        state = state * log_decay.exp()
    return out
