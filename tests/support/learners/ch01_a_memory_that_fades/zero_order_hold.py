"""Answers to `zero_order_hold`."""

import numpy as np
import torch
from support.learners.collect import right, wrong


@wrong("zero_order_hold", "The gain has the wrong sign")
def gain_with_the_sign_flipped(dt, A):
    decay = torch.exp(dt * A)
    return decay, (1 - decay) / A


@wrong("zero_order_hold", "The gain is dt itself")
def gain_is_dt(dt, A):
    return torch.exp(dt * A), dt


@wrong("zero_order_hold", "The gain is multiplied by A where it must be divided by")
def gain_multiplied_by_a(dt, A):
    return torch.exp(dt * A), (torch.exp(dt * A) - 1) * A


@wrong("zero_order_hold", "The gain is divided by dt * A, so it does not grow with the length of")
def gain_over_dt_as_well(dt, A):
    decay = torch.exp(dt * A)
    return decay, torch.expm1(dt * A) / (dt * A)


@wrong("zero_order_hold", "`gain` is `-A` times what it should be.")
def the_share_that_is_new(dt, A):
    decay = torch.exp(dt * A)
    return decay, 1 - decay


@wrong("zero_order_hold", "The gain is multiplied by A where it must be divided by it: the faster")
def gain_times_the_rate(dt, A):
    return torch.exp(dt * A), torch.expm1(dt * A) * A


@right("zero_order_hold")
def a_list_of_two(dt, A):
    return [torch.exp(dt * A), torch.expm1(dt * A) / A]


@right("zero_order_hold")
def hold_by_numpy(dt, A):
    dt, A = dt.numpy(), A.numpy()
    return np.exp(dt * A), np.expm1(dt * A) / A


@right("zero_order_hold")
def hold_in_float64(dt, A):
    dt, A = dt.double(), A.double()
    decay = (dt * A).exp()
    return decay, (decay - 1) / A
