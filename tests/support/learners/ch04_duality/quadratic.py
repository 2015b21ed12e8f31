"""Answers to `quadratic`."""

import torch
from support.learners.collect import right, wrong

from mamba2_lab.course.exercises.duality import attention_matrix, segsum


def _quadratic(x, log_decay, B, C, initial_state, came, own):
    x, log_decay, B, C = (part.transpose(1, 2) for part in (x, log_decay, B, C))
    total = log_decay.cumsum(-1)
    y = attention_matrix(log_decay, B, C) @ x + came(log_decay).exp()[..., None] * (C @ initial_state.mT)
    fade = (total[..., -1:] - total + (log_decay if own else 0)).exp()
    final = total[..., -1].exp()[..., None, None] * initial_state + (x * fade[..., None]).mT @ B
    return y.transpose(1, 2), final


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


@wrong("quadratic", "It comes out as if `.cumsum(...)` were left out.")
def came_fades_by_one_decay(x, log_decay, B, C, initial_state):
    return _quadratic(x, log_decay, B, C, initial_state, lambda a: a, False)


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
