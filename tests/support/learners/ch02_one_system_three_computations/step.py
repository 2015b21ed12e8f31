"""Answers to `step`."""

import numpy as np
import torch
from support.learners.collect import right, wrong


@wrong("step", "The state is multiplied by the log decay itself, a")
def log_decay_for_the_decay(x_t, log_decay_t, B_t, C_t, state):
    state = log_decay_t * state + x_t[..., None] * B_t
    return (C_t * state).sum(-1), state


@wrong("step", "The gauge is read too early")
def reads_before_it_writes(x_t, log_decay_t, B_t, C_t, state):
    y_t = (C_t * state).sum(-1)
    return y_t, torch.exp(log_decay_t) * state + x_t[..., None] * B_t


@wrong("step", "`y_t` is summed over too many axes")
def sums_every_axis(x_t, log_decay_t, B_t, C_t, state):
    state = torch.exp(log_decay_t) * state + x_t[..., None] * B_t
    return (C_t * state).sum(), state


@wrong("step", "It comes out as if `x_t[..., None] * B_t` alone were used where the")
def reads_what_it_wrote_only(x_t, log_decay_t, B_t, C_t, state):
    new = x_t[..., None] * B_t
    state = log_decay_t.exp() * state + new
    return (C_t * new).sum(-1), state


@wrong("step", "`y_t` is summed over too many axes: it has shape () where (2,) is")
def sums_over_all(x_t, log_decay_t, B_t, C_t, state):
    state = log_decay_t.exp() * state + B_t * x_t[..., None]
    return (C_t * state).sum(), state


@wrong("step", "What has just been written has not faded yet: the decay")
def fades_after_writing(x_t, log_decay_t, B_t, C_t, state):
    state = log_decay_t.exp() * (state + B_t * x_t[..., None])
    return (C_t * state).sum(-1), state


@wrong("step", "It comes out as if `B_t` and `C_t` were exchanged.")
def reads_with_b(x_t, log_decay_t, B_t, C_t, state):
    state = log_decay_t.exp() * state + C_t * x_t[..., None]
    return (B_t * state).sum(-1), state


@right("step")
def a_list_by_einsum(x_t, log_decay_t, B_t, C_t, state):
    state = torch.exp(log_decay_t) * state + torch.einsum("...,...n->...n", x_t, B_t)
    return [torch.einsum("...n,...n->...", C_t, state), state]


@right("step")
def step_by_numpy(x_t, log_decay_t, B_t, C_t, state):
    x_t, log_decay_t, B_t, C_t, state = (part.numpy() for part in (x_t, log_decay_t, B_t, C_t, state))
    state = np.exp(log_decay_t) * state + x_t[..., None] * B_t
    return (C_t * state).sum(-1), state


@right("step")
def step_in_float64(x_t, log_decay_t, B_t, C_t, state):
    state = log_decay_t.double().exp() * state.double() + (x_t.unsqueeze(-1) * B_t).double()
    return torch.sum(state * C_t, dim=-1), state
