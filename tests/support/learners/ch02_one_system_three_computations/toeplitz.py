"""Answers to `toeplitz`."""

import numpy as np
import torch
from support.learners.collect import right, wrong


@wrong("toeplitz", "Rows and columns are exchanged")
def upper_instead_of_lower(weights):
    l = len(weights)
    M = torch.zeros(l, l)
    for t in range(l):
        M[t, t:] = weights[: l - t]
    return M


@wrong("toeplitz", "Above the diagonal stand weights from the end of the")
def wraps_round(weights):
    l = len(weights)
    t = torch.arange(l)
    return weights[(t[:, None] - t) % l]


@wrong("toeplitz", "Every row holds the weights from the left")
def rows_not_turned_round(weights):
    l = len(weights)
    M = torch.zeros(l, l)
    for t in range(l):
        M[t, : t + 1] = weights[: t + 1]
    return M


@wrong("toeplitz", "It is symmetric: rain yet to come counts as much as rain gone by. Above")
def symmetric(weights):
    i = torch.arange(len(weights))
    return weights[(i[:, None] - i).abs()]


@wrong("toeplitz", "Above the diagonal stand weights from the end of the kernel: a negative")
def around_the_circle(weights):
    l = len(weights)
    i = torch.arange(l)
    return weights[(i[:, None] - i) % l]


@right("toeplitz")
def by_scipy_as_an_array(weights):
    from scipy.linalg import toeplitz

    return toeplitz(weights.numpy(), np.zeros(len(weights)))


@right("toeplitz")
def a_list_of_lists(weights):
    l = len(weights)
    return [[float(weights[t - s]) if s <= t else 0.0 for s in range(l)] for t in range(l)]


@right("toeplitz")
def columns_stacked(weights):
    l = len(weights)
    return torch.stack([torch.cat([weights.new_zeros(s), weights[: l - s]]) for s in range(l)], dim=1)
