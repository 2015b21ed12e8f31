"""Answers to `numerical_rank`."""

import numpy as np
import torch
from support.learners.collect import right, unexplained, wrong


@wrong("numerical_rank", "A fixed threshold")
def tolerance_is_absolute(matrix, tolerance):
    return (torch.linalg.svdvals(matrix) > tolerance).sum(-1)


@wrong("numerical_rank", "In a batch, each matrix is measured by its own largest")
def counts_over_the_batch(matrix, tolerance):
    values = torch.linalg.svdvals(matrix)
    return (values > tolerance * values.max()).sum(-1)


@wrong("numerical_rank", "This counts what rounding left behind too")
def counts_nonzero(matrix, tolerance):
    return (torch.linalg.svdvals(matrix) > 0).sum(-1)


@wrong("numerical_rank", "It comes out as if `<` stood where `>` belongs.")
def counts_the_small_ones(matrix, tolerance):
    values = torch.linalg.svdvals(matrix)
    return (values < tolerance * values[..., :1]).sum(-1)


@wrong("numerical_rank", "A fixed threshold: in other units the same matrix would have another")
def an_absolute_tolerance(matrix, tolerance):
    return torch.linalg.matrix_rank(matrix, atol=tolerance)


@wrong("numerical_rank", "It compares with all of them together, by their sum or the norm")
def beside_the_norm(matrix, tolerance):
    s = torch.linalg.svdvals(matrix)
    return (s > tolerance * matrix.norm(dim=(-2, -1))[..., None]).sum(-1)


@wrong("numerical_rank", "It compares with all of them together, by their sum or the norm")
def beside_the_sum(matrix, tolerance):
    s = torch.linalg.svdvals(matrix)
    return (s > tolerance * s.sum(-1, keepdim=True)).sum(-1)


@unexplained("numerical_rank")
def entries_above(matrix, tolerance):
    return (matrix.abs() > tolerance * matrix.abs().amax((-2, -1), keepdim=True)).sum((-2, -1))


@wrong("numerical_rank", "The threshold has nothing of `tolerance` in it. Whoever asks")
def exact_rank(matrix, tolerance):
    return torch.linalg.matrix_rank(matrix)


@right("numerical_rank")
def rank_by_torch(matrix, tolerance):
    return torch.linalg.matrix_rank(matrix, rtol=tolerance, atol=0.0)


@right("numerical_rank")
def rank_by_numpy(matrix, tolerance):
    values = np.linalg.svd(matrix.numpy(), compute_uv=False)
    return (values > tolerance * values.max(-1, keepdims=True)).sum(-1)


@right("numerical_rank")
def a_float_count(matrix, tolerance):
    values = torch.linalg.svdvals(matrix)
    return torch.where(values > tolerance * values[..., :1], 1.0, 0.0).sum(-1)
