"""Answers to `expected_error`."""

import math

import numpy as np
import torch
from support.learners.collect import right, wrong


@wrong("expected_error", "It counts the pair itself")
def pairs_over_columns(m, n):
    return m / n


@wrong("expected_error", "This is a length")
def its_root(m, n):
    return ((m - 1) / n) ** 0.5


@wrong("expected_error", "It says that up to n pairs nothing is disturbed")
def none_up_to_n(m, n):
    return 0.0 if m <= n else (m - n) / n


@wrong("expected_error", "It comes out as if `m` and `n` were exchanged.")
def columns_over_pairs(m, n):
    return (n - 1) / m


@wrong("expected_error", "It comes out as if `n` were smaller by 1.")
def one_column_less(m, n):
    return (m - 1) / (n - 1)


@wrong("expected_error", "It comes out as if it were multiplied by `m` once more.")
def of_all_pairs_together(m, n):
    return m * (m - 1) / n


@wrong("expected_error", "It says that up to n pairs nothing is disturbed. That is so")
def pairs_minus_columns(m, n):
    return max(0, m - n) / n


@wrong("expected_error", "It comes out as if `m` stood where `n` belongs.")
def divided_by_the_pairs(m, n):
    return (m - 1) / m


@wrong("expected_error", "The result is `(m - 1) / n` times what it should be.")
def squared_once_more(m, n):
    return ((m - 1) / n) ** 2


@wrong("expected_error", "1 / √n is the usual size of an overlap. What adds up are")
def n_for_n_squared(m, n):
    return (m - 1) / math.sqrt(n)


@right("expected_error")
def expected_error_as_a_tensor(m, n):
    return torch.tensor(m - 1.0) / n


@right("expected_error")
def expected_error_pair_by_pair(m, n):
    return math.fsum(1 / n for _ in range(m - 1))


@right("expected_error")
def expected_error_by_numpy(m, n):
    return np.float64(m - 1) / n
