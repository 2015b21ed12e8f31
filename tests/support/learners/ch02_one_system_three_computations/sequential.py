"""Answers to `sequential`."""

import numpy as np
import torch
from support.learners.collect import right, wrong

from mamba2_lab.course.exercises.one_system_three_computations import step


@wrong("sequential", "It begins with empty barrels")
def starts_empty(x, log_decay, B, C, initial_state):
    state, y = torch.zeros_like(initial_state), []
    for t in range(len(x)):
        state = log_decay[t].exp() * state + x[t] * B[t]
        y.append(C[t] @ state)
    return torch.stack(y), state


@wrong("sequential", "Row 0 of the decays is used in every hour")
def the_first_rule_for_all(x, log_decay, B, C, initial_state):
    state, y = initial_state, []
    for t in range(len(x)):
        state = log_decay[0].exp() * state + x[t] * B[0]
        y.append(C[0] @ state)
    return torch.stack(y), state


@wrong("sequential", "The final state holds all of them, in shape (3, 1) where")
def returns_every_state(x, log_decay, B, C, initial_state):
    state, y, states = initial_state, [], []
    for t in range(len(x)):
        state = log_decay[t].exp() * state + x[t] * B[t]
        y.append(C[t] @ state)
        states.append(state)
    return torch.stack(y), torch.stack(states)


@wrong("sequential", "Every hour begins with the initial state: carry the new state that")
def always_from_the_beginning(x, log_decay, B, C, initial_state):
    ys = []
    for t in range(len(x)):
        y_t, state = step(x[t], log_decay[t], B[t], C[t], initial_state)
        ys.append(y_t)
    return torch.stack(ys), state


@wrong("sequential", "It begins with empty barrels: the first state is `initial_state`,")
def from_empty_barrels(x, log_decay, B, C, initial_state):
    state, ys = torch.zeros_like(initial_state), []
    for t in range(len(x)):
        y_t, state = step(x[t], log_decay[t], B[t], C[t], state)
        ys.append(y_t)
    return torch.stack(ys), state


@right("sequential")
def a_list_of_outputs(x, log_decay, B, C, initial_state):
    state, y = initial_state, []
    for x_t, a_t, B_t, C_t in zip(x, log_decay, B, C, strict=True):
        state = a_t.exp() * state + x_t * B_t
        y.append((C_t * state).sum())
    return y, state


@right("sequential")
def sequential_by_numpy(x, log_decay, B, C, initial_state):
    x, a, B, C, h = (part.numpy() for part in (x, log_decay, B, C, initial_state))
    y = np.zeros(len(x))
    for t in range(len(x)):
        h = np.exp(a[t]) * h + x[t] * B[t]
        y[t] = C[t] @ h
    return y, h


@right("sequential")
def into_an_empty_tensor(x, log_decay, B, C, initial_state):
    y, h = torch.empty(len(x), dtype=torch.float64), initial_state.double()
    for t in range(len(x)):
        h = torch.exp(log_decay[t]) * h + x[t] * B[t]
        y[t] = torch.sum(C[t] * h)
    return (y, h)
