"""Answers to `dt_to_hold`."""

import math

import numpy as np
import torch
from support.learners.collect import right, wrong


@wrong("dt_to_hold", "Every marked word is written alike, so the earlier ones")
def the_amount_at_each(marked, amount, A):
    return amount * marked.float()


@wrong("dt_to_hold", "The time that passes at a later marked word is its own dt")
def a_full_dt_at_each_later_word(marked, amount, A):
    later = marked.flip(0).cumsum(0).flip(0) - marked.long()
    return torch.where(marked, amount * torch.exp(-A * amount * later), 0.0)


@wrong("dt_to_hold", "It goes through the words forwards, and lets a word make")
def from_the_left(marked, amount, A):
    dt, passed = torch.zeros(len(marked)), 0.0
    for t in range(len(marked)):
        if marked[t]:
            dt[t] = amount * math.exp(-A * passed)
            passed += dt[t].item()
    return dt


@wrong("dt_to_hold", "It comes out as if `=` stood where `+=` belongs: each turn forgets")
def only_the_next_one_fades_it(marked, amount, A):
    dt, later = torch.zeros(len(marked)), 0.0
    for t in reversed(range(len(marked))):
        if marked[t]:
            dt[t] = amount * math.exp(-A * later)
            later = dt[t].item()
    return dt


@wrong("dt_to_hold", "The time that passes at a later marked word is its own dt, and that is")
def later_words_take_amount_each(marked, amount, A):
    later = marked.flip(0).cumsum(0).flip(0) - marked.long()
    return marked * amount * torch.exp(-A * amount * later)


@wrong("dt_to_hold", "The exponent has the wrong sign: an earlier word has to write")
def sign_lost(marked, amount, A):
    dt = torch.zeros(len(marked))
    later = 0.0
    for i in reversed(range(len(marked))):
        if marked[i]:
            dt[i] = amount * math.exp(A * later)
            later += float(dt[i])
    return dt


@right("dt_to_hold")
def a_list_from_the_right(marked, amount, A):
    dt, after = [], 0.0
    for mark in reversed(marked.tolist()):
        dt.insert(0, amount * math.exp(-A * after) if mark else 0.0)
        after += dt[0]
    return dt


@right("dt_to_hold")
def an_array_from_the_right(marked, amount, A):
    dt, after = np.zeros(len(marked)), 0.0
    for t in reversed(range(len(marked))):
        if marked[t]:
            dt[t] = amount * np.exp(-A * after)
            after += dt[t]
    return dt


@right("dt_to_hold")
def in_a_float64_tensor(marked, amount, A):
    dt = torch.zeros(len(marked), dtype=torch.float64)
    for t in range(len(marked) - 1, -1, -1):
        if marked[t]:
            dt[t] = amount * torch.exp(-A * dt[t + 1 :].sum())
    return dt
