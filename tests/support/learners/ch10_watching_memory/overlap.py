"""Answers to `overlap`."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from support.learners.collect import right, wrong


@wrong("overlap", "The first token does not fade what it finds")
def not_faded_at_the_first(log_decay, C, key):
    return torch.exp(log_decay.cumsum(0) - log_decay) * (C @ key)


@wrong("overlap", "Nothing fades")
def does_not_fade(log_decay, C, key):
    return C @ key


@wrong("overlap", "Each token applies its own decay alone")
def one_decay_each(log_decay, C, key):
    return log_decay.exp() * (C @ key)


@wrong("overlap", "It comes out as if the running sum began at the end.")
def fades_from_the_end(log_decay, C, key):
    return log_decay.flip(0).cumsum(0).flip(0).exp() * (C @ key)


@wrong("overlap", "It takes the angle between C and key, but their lengths")
def by_cosine(log_decay, C, key):
    return log_decay.cumsum(0).exp() * F.cosine_similarity(C, key[None], dim=-1)


@wrong("overlap", "It comes out as if `.exp(...)` were left out.")
def fades_the_key_once(log_decay, C, key):
    return (C @ key) * log_decay.cumsum(0)


@wrong("overlap", "It comes out as if the running sum were of what comes")
def without_key_lengths(log_decay, C, key):
    return (log_decay.sum() - log_decay.cumsum(0)).exp() * (C @ key)


@wrong("overlap", "It comes out as if `.exp(...)` were left out.")
def sums_not_exponentials(log_decay, C, key):
    return log_decay.cumsum(0) * (C @ key)


@wrong("overlap", "It comes out as if `exp` were taken before `cumsum`, not")
def adds_the_decays(log_decay, C, key):
    return log_decay.exp().cumsum(0) * (C @ key)


@wrong("overlap", "It comes out as if `sum` stood where `cumsum` belongs.")
def all_of_the_fading(log_decay, C, key):
    return log_decay.sum().exp() * (C @ key)


@wrong("overlap", "The result has shape (4, 3) where (4,) is expected: the sum")
def by_each_ones_key(log_decay, C, key):
    return log_decay.cumsum(0).exp()[:, None] * C * key


@wrong("overlap", "It comes out as if it were divided by")
def divided_by_the_fading(log_decay, C, key):
    return (C @ key) / log_decay.cumsum(0).exp()


@wrong("overlap", "The result is added up, entry after entry: leave that out.")
def faded_and_summed(log_decay, C, key):
    return (log_decay.cumsum(0).exp() * (C @ key)).cumsum(0)


@wrong("overlap", "It comes out as if it were divided by")
def fades_backwards_in_time(log_decay, C, key):
    return (-log_decay.cumsum(dim=0)).exp() * (C @ key)


@right("overlap")
def overlap_by_a_loop(log_decay, C, key):
    left, out = 1.0, []
    for a, c in zip(log_decay.tolist(), C, strict=True):
        left *= math.exp(a)
        out.append(left * float(c @ key))
    return out


@right("overlap")
def overlap_by_einsum(log_decay, C, key):
    return torch.einsum("l,ln,n->l", log_decay.cumsum(0).exp(), C, key).double()


@right("overlap")
def overlap_by_numpy(log_decay, C, key):
    return np.exp(np.cumsum(log_decay.numpy())) * (C.numpy() @ key.numpy())
