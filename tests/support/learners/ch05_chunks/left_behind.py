"""Answers to `left_behind`."""

import numpy as np
import torch
from support.learners.collect import right, wrong

from mamba2_lab.course.exercises.chunks import left_behind
from mamba2_lab.course.exercises.duality import segsum


@wrong("left_behind", "Each token's own decay is applied to what it writes")
def own_decay_too(x, log_decay, B):
    after = log_decay.flip(-1).cumsum(-1).flip(-1)
    return (x * after.exp()[..., None]).mT @ B


@wrong("left_behind", "These are the fades from the chunk's start to each token")
def decay_since_the_start(x, log_decay, B):
    return (x * log_decay.cumsum(-1).exp()[..., None]).mT @ B


@wrong("left_behind", "Rows and columns of the state are exchanged")
def state_transposed(x, log_decay, B):
    left = segsum(log_decay)[..., -1, :].exp()
    return (B * left[..., None]).mT @ x


@wrong("left_behind", "These are the fades from the chunk's start to each token. What a token")
def fade_from_the_start(x, log_decay, B):
    return (x * log_decay.cumsum(-1).exp()[..., None]).mT @ B


@wrong("left_behind", "Rows and columns of the state are exchanged: it is (p, n), channels")
def rows_for_states(x, log_decay, B):
    return left_behind(x, log_decay, B).mT


@wrong("left_behind", "Every token is faded by all decays of the chunk. A token is")
def faded_by_the_whole_chunk(x, log_decay, B):
    total = log_decay.sum(-1)[..., None, None].exp()
    return total * (x.mT @ B)


@wrong("left_behind", "Two mistakes at once. Right on paper, but digits are lost:")
def both_sides_faded(x, log_decay, B):
    f = (log_decay.sum(-1, keepdim=True) - log_decay.cumsum(-1)).exp()[..., None]
    return (f * x).mT @ (f * B)


@wrong("left_behind", "It comes out as if `-1` and `:` were exchanged.")
def of_the_last_token(x, log_decay, B):
    return x[..., -1, :, None] * B[..., -1, None, :]


@right("left_behind")
def left_by_einsum(x, log_decay, B):
    return torch.einsum("...q,...qp,...qn->...pn", segsum(log_decay)[..., -1, :].exp(), x, B)


@right("left_behind")
def left_by_the_loop(x, log_decay, B):
    state = x.new_zeros(*x.shape[:-2], x.shape[-1], B.shape[-1])
    for t in range(x.shape[-2]):
        state = log_decay[..., t, None, None].exp() * state + x[..., t, :, None] * B[..., t, None, :]
    return state


@right("left_behind")
def left_by_numpy(x, log_decay, B):
    left = np.exp(segsum(log_decay.double())[..., -1, :].numpy())
    return np.swapaxes(x.numpy() * left[..., None], -1, -2) @ B.numpy()
