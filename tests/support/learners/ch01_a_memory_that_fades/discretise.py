"""Answers to `discretise`."""

import torch
from support.learners.collect import right, wrong


@wrong("discretise", "The second result is the decay itself")
def decay_for_its_log(x, dt, A):
    return x * dt, torch.exp(dt * A)


@wrong("discretise", "x is written as it came")
def writes_x_as_it_is(x, dt, A):
    return x, dt * A


@wrong("discretise", "This is the exact gain of the zero-order hold")
def writes_by_the_exact_gain(x, dt, A):
    return x * (torch.exp(dt * A) - 1) / A, dt * A


@wrong("discretise", "It comes out as if `-A.exp()` stood where `A` belongs.")
def rate_from_its_log(x, dt, A):
    return x * dt, -torch.exp(A) * dt


@wrong("discretise", "This is the exact gain of the zero-order hold. Mamba-2 leaves it out")
def the_exact_gain(x, dt, A):
    return x * torch.expm1(dt * A) / A, dt * A


@wrong("discretise", "`x_dt` is `-A` times what it should be.")
def writes_with_the_rate(x, dt, A):
    return x * dt * -A, dt * A


@right("discretise")
def a_list_of_products(x, dt, A):
    return [x * dt, A * dt]


@right("discretise")
def log_of_the_exp(x, dt, A):
    return dt * x, torch.log(torch.exp((dt * A).double())).float()


@right("discretise")
def discretise_by_numpy(x, dt, A):
    return x.numpy() * dt.numpy(), dt.numpy() * A.numpy()
