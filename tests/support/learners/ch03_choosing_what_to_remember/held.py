"""Answers to `held`."""

import numpy as np
import torch
import torch.nn.functional as F
from support.learners.collect import right, wrong


@wrong("held", "What a word writes has not faded yet at that word")
def fades_by_its_own_step_too(dt, A):
    total = dt.flip(-1).cumsum(-1).flip(-1)
    return dt * torch.exp(A * total)


@wrong("held", "It says what is left of a writing of 1")
def does_not_write_dt(dt, A):
    after = dt.sum(-1, keepdim=True) - dt.cumsum(-1)
    return torch.exp(A * after)


@wrong("held", "Each later word is counted as if it took as long as this")
def counts_words_for_time(dt, A):
    l = dt.shape[-1]
    return dt * torch.exp(A * dt * torch.arange(l - 1, -1, -1))


@wrong("held", "The time that passed before a word does it no harm. Sum the time from")
def faded_by_what_came_before(dt, A):
    return dt * torch.exp(A * (dt.cumsum(-1) - dt))


@wrong("held", "Each later word is counted as if it took as long as this one. What")
def as_if_dt_were_the_same(dt, A):
    l = dt.shape[-1]
    return dt * torch.exp(A * dt * (l - 1 - torch.arange(l)))


@wrong("held", "What a word writes has not faded yet at that word: only the time of the")
def fades_itself(dt, A):
    return dt * torch.exp(A * dt.flip(-1).cumsum(-1).flip(-1))


@wrong("held", "It counts the words after s. Time is what fades, and each word")
def fades_by_the_number_of_words(dt, A):
    l = dt.shape[-1]
    after = torch.arange(l - 1, -1, -1)
    return dt * torch.exp(A * after)


@wrong("held", "Each word is faded by the next one alone. All the words after")
def fades_by_the_next_word_alone(dt, A):
    nxt = F.pad(dt[..., 1:], (0, 1))
    return dt * torch.exp(A * nxt)


@wrong("held", "It comes out as if `dt.flip(-1).cumsum(-1).flip(-1)` were left out.")
def fades_by_its_own_time(dt, A):
    return dt * torch.exp(A * dt)


@wrong("held", "It makes shares of what is held, which add up to 1. A state")
def a_share_of_all(dt, A):
    later = dt.flip(-1).cumsum(-1).flip(-1) - dt
    kept = dt * torch.exp(A * later)
    return kept / kept.sum(-1, keepdim=True)


@right("held")
def held_by_a_loop(dt, A):
    state = torch.zeros_like(dt)
    for t in range(dt.shape[-1]):
        state = state * torch.exp(dt[..., t : t + 1] * A)
        state[..., t] = state[..., t] + dt[..., t]
    return state


@right("held")
def held_in_float64(dt, A):
    after = dt.double().sum(-1, keepdim=True) - dt.double().cumsum(-1)
    return dt.double() * torch.exp(A * after)


@right("held")
def held_by_numpy(dt, A):
    dt, A = dt.numpy(), np.asarray(A)
    after = dt.sum(-1, keepdims=True) - dt.cumsum(-1)
    return dt * np.exp(A * after)
