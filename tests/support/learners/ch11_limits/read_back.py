"""Answers to `read_back`."""

import numpy as np
import torch
import torch.nn.functional as F
from support.learners.collect import right, unexplained, wrong


@wrong("read_back", "It gives back what was written")
def nothing_is_lost(keys, values):
    return values


@wrong("read_back", "Each key reads when only the pairs up to its own are written")
def writes_and_reads_in_turn(keys, values):
    state, read = torch.zeros(values.shape[1], keys.shape[1]), []
    for key, value in zip(keys, values, strict=True):
        state = state + torch.outer(value, key)
        read.append(state @ key)
    return torch.stack(read)


@wrong("read_back", "A softmax makes the overlaps shares")
def as_in_attention(keys, values):
    return F.softmax(keys @ keys.T, dim=1) @ values


@wrong("read_back", "It divides by the number of pairs. Writing adds, and takes no")
def a_mean_of_what_was_written(keys, values):
    state = values.T @ keys / len(keys)
    return keys @ state.T


@wrong("read_back", "It makes the keys unit vectors before they read. They read as")
def by_the_length_of_the_key(keys, values):
    return keys @ (keys.T @ values) / keys.norm(dim=1, keepdim=True)


@wrong("read_back", "What a key reads of its own value is left out. The state")
def without_its_own_value(keys, values):
    overlaps = keys @ keys.T
    overlaps.fill_diagonal_(0)
    return overlaps @ values


@wrong("read_back", "A softmax makes the overlaps shares that add up to 1. A state")
def softmax_over_pairs(keys, values):
    return (keys @ keys.T).softmax(-1) @ values


@wrong("read_back", "It comes out as if `values` stood where `keys` belongs.")
def values_read_by_values(keys, values):
    return values @ values.T @ values


@wrong("read_back", "The state holds the last pair alone: each one was written over")
def the_last_pair_alone(keys, values):
    state = torch.outer(values[-1], keys[-1])
    return keys @ state.T


@unexplained("read_back")
def signs_of_overlaps(keys, values):
    return (keys @ keys.T).abs() @ values


@right("read_back")
def read_back_by_overlaps(keys, values):
    return keys @ keys.T @ values


@right("read_back")
def read_back_by_a_loop(keys, values):
    state = torch.zeros(values.shape[1], keys.shape[1])
    for key, value in zip(keys, values, strict=True):
        state += torch.outer(value, key)
    return [state @ key for key in keys]


@right("read_back")
def read_back_by_numpy(keys, values):
    keys, values = keys.numpy(), values.numpy()
    return np.einsum("tn,sn,sp->tp", keys, keys, values)
