"""Answers to `dt_to_remember`."""

import math

import numpy as np
import torch
from support.learners.collect import right, wrong


@wrong("dt_to_remember", "The half-life is exactly `steps`")
def half_life_of_exactly_steps(steps, A):
    return math.log(2) / (-A * steps)


@wrong("dt_to_remember", "A is left out")
def forgets_a(steps, A):
    return math.log(2) / (steps + 0.5)


@wrong("dt_to_remember", "dt must be above 0, or time runs backwards and the level")
def negative_time(steps, A):
    return math.log(2) / (A * (steps + 0.5))


@wrong("dt_to_remember", "The time constant is not the half-life: after 1 / (-dt A) steps only")
def one_over_e(steps, A):
    return 1 / (-A * (steps + 0.5))


@wrong("dt_to_remember", "The half-life is exactly `steps` + 1: one step too many is remembered")
def half_after_one_more(steps, A):
    return math.log(2) / -A / (steps + 1)


@right("dt_to_remember")
def a_tensor_of_one(steps, A):
    return torch.tensor(math.log(2) / (-A * (steps + 0.3)))


@right("dt_to_remember")
def a_numpy_number(steps, A):
    return np.log(2) / (-A * (steps + 0.5))


@right("dt_to_remember")
def the_middle_of_both_ends(steps, A):
    longest, shortest = math.log(2) / (-A * steps), math.log(2) / (-A * (steps + 1))
    return (longest + shortest) / 2
