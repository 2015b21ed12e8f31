"""Answers to notebook 04."""

import math

import numpy as np
import torch
from support.learners.collect import right, wrong

from mamba2_lab.course import exercises

attention_matrix, segsum = (exercises.find(name).reference for name in ("attention_matrix", "segsum"))

# segsum


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


# decay_mask


@wrong("decay_mask", "Right on paper, but digits are lost")
def exp_of_a_difference(log_decay):
    total = log_decay.cumsum(-1)
    return torch.exp(total[..., :, None] - total[..., None, :]).tril()


@wrong("decay_mask", "It divides what is left of two tokens")
def quotient_of_two_exps(log_decay):
    kept = log_decay.cumsum(-1).exp()
    return (kept[..., :, None] / kept[..., None, :]).tril()


@wrong("decay_mask", "These are the logarithms of the mask")
def leaves_it_a_logarithm(log_decay):
    return segsum(log_decay)


@right("decay_mask")
def mask_by_products(log_decay):
    l, decay = log_decay.shape[-1], log_decay.exp()
    out = torch.zeros(*log_decay.shape, l)
    for t in range(l):
        for s in range(t + 1):
            out[..., t, s] = decay[..., s + 1 : t + 1].prod(-1)
    return out


@right("decay_mask")
def mask_by_numpy(log_decay):
    return np.exp(segsum(log_decay).numpy())


@right("decay_mask")
def mask_in_float64(log_decay):
    return segsum(log_decay.double()).exp()


# attention_matrix


@wrong("attention_matrix", "`B.T` turns all axes round, and with texts or heads in")
def transposes_every_axis(log_decay, B, C):
    return segsum(log_decay).exp() * (C @ B.T)


@wrong("attention_matrix", "B and C are exchanged")
def exchanges_b_and_c(log_decay, B, C):
    return segsum(log_decay).exp() * (B @ C.mT)


@wrong("attention_matrix", "This is the matrix product of mask and scores")
def a_product_of_matrices(log_decay, B, C):
    return segsum(log_decay).exp() @ (C @ B.mT)


@right("attention_matrix")
def matrix_by_einsum(log_decay, B, C):
    return torch.einsum("...ts,...tn,...sn->...ts", segsum(log_decay).exp(), C, B)


@right("attention_matrix")
def matrix_in_float64(log_decay, B, C):
    return segsum(log_decay.double()).exp() * (C.double() @ B.double().transpose(-1, -2))


@right("attention_matrix")
def matrix_by_numpy(log_decay, B, C):
    return np.exp(segsum(log_decay).numpy()) * (C.numpy() @ np.swapaxes(B.numpy(), -1, -2))


# factor_below


@wrong("factor_below", "The right factor is not transposed")
def right_not_transposed(log_decay, B, C, cut):
    total = log_decay.cumsum(-1)
    left = C[..., cut:, :] * torch.exp(total[..., cut:] - total[..., cut - 1 : cut])[..., None]
    right_ = B[..., :cut, :] * torch.exp(total[..., cut - 1 : cut] - total[..., :cut])[..., None]
    return left, right_


@wrong("factor_below", "The first decay after the cut is counted twice, on the")
def the_cut_fades_twice(log_decay, B, C, cut):
    total = log_decay.cumsum(-1)
    left = C[..., cut:, :] * torch.exp(total[..., cut:] - total[..., cut - 1 : cut])[..., None]
    right_ = B[..., :cut, :] * torch.exp(total[..., cut : cut + 1] - total[..., :cut])[..., None]
    return left, right_.mT


@wrong("factor_below", "This is the block of C B^T, without any fading")
def no_decay_at_all(log_decay, B, C, cut):
    return C[..., cut:, :], B[..., :cut, :].mT


@right("factor_below")
def a_list_of_factors(log_decay, B, C, cut):
    mask = segsum(log_decay).exp()
    left = C[..., cut:, :] * mask[..., cut:, cut - 1, None]
    return [left, (B[..., :cut, :] * mask[..., cut - 1, :cut, None]).mT]


@right("factor_below")
def all_decay_on_the_left_of_cut(log_decay, B, C, cut):
    mask = segsum(log_decay.double()).exp()
    left = C[..., cut:, :] * mask[..., cut:, cut, None]
    return left, (B[..., :cut, :] * mask[..., cut, :cut, None]).transpose(-1, -2)


@right("factor_below")
def factors_by_numpy(log_decay, B, C, cut):
    mask = np.exp(segsum(log_decay).numpy())
    left = C.numpy()[..., cut:, :] * mask[..., cut:, cut - 1][..., None]
    right_ = B.numpy()[..., :cut, :] * mask[..., cut - 1, :cut][..., None]
    return left, np.swapaxes(right_, -1, -2)


# numerical_rank


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


# quadratic


@wrong("quadratic", "The initial state never fades here, neither in y nor in")
def initial_state_unfaded(x, log_decay, B, C, initial_state):
    a, B, C, x = log_decay.mT, B.transpose(1, 2), C.transpose(1, 2), x.transpose(1, 2)
    total = a.cumsum(-1)
    y = attention_matrix(a, B, C) @ x + C @ initial_state.mT
    left = torch.exp(total[..., -1:] - total)[..., None]
    return y.transpose(1, 2), (x * left).mT @ B + initial_state


@wrong("quadratic", "The initial state is left out of y and of final_state, as")
def initial_state_forgotten(x, log_decay, B, C, initial_state):
    a, B, C, x = log_decay.mT, B.transpose(1, 2), C.transpose(1, 2), x.transpose(1, 2)
    total = a.cumsum(-1)
    y = attention_matrix(a, B, C) @ x
    left = torch.exp(total[..., -1:] - total)[..., None]
    return y.transpose(1, 2), (x * left).mT @ B


@wrong("quadratic", "The output is right, the final state is not")
def final_state_does_not_fade(x, log_decay, B, C, initial_state):
    a, B, C, x = log_decay.mT, B.transpose(1, 2), C.transpose(1, 2), x.transpose(1, 2)
    total = a.cumsum(-1)
    y = attention_matrix(a, B, C) @ x + (C * total.exp()[..., None]) @ initial_state.mT
    return y.transpose(1, 2), x.mT @ B + total[..., -1].exp()[..., None, None] * initial_state


@right("quadratic")
def quadratic_by_einsum(x, log_decay, B, C, initial_state):
    a = log_decay.transpose(1, 2)
    M = attention_matrix(a, B.transpose(1, 2), C.transpose(1, 2))
    faded = a.cumsum(-1).exp()
    y = torch.einsum("bhts,bshp->bthp", M, x) + torch.einsum("bht,bthn,bhpn->bthp", faded, C, initial_state)
    left = segsum(a)[..., -1, :].exp()
    state = torch.einsum("bhs,bshp,bshn->bhpn", left, x, B) + faded[..., -1, None, None] * initial_state
    return [y, state]


@right("quadratic")
def quadratic_head_by_head(x, log_decay, B, C, initial_state):
    y, state = torch.zeros_like(x), torch.zeros_like(initial_state)
    for b in range(x.shape[0]):
        for h in range(x.shape[2]):
            a = log_decay[b, :, h]
            kept = a.cumsum(0).exp()[:, None]
            y[b, :, h] = attention_matrix(a, B[b, :, h], C[b, :, h]) @ x[b, :, h]
            y[b, :, h] += kept * (C[b, :, h] @ initial_state[b, h].T)
            left = segsum(a)[-1].exp()[:, None]
            state[b, h] = (x[b, :, h] * left).T @ B[b, :, h] + kept[-1] * initial_state[b, h]
    return y, state


@right("quadratic")
def quadratic_in_float64(x, log_decay, B, C, initial_state):
    return quadratic_by_einsum(*(part.double() for part in (x, log_decay, B, C, initial_state)))
