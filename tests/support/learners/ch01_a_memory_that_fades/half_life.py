"""Answers to `half_life`."""

import math

import numpy as np
import torch
from support.learners.collect import right, wrong


@wrong("half_life", "A negative number of steps")
def forgets_the_sign(log_decay):
    return math.log(2) / log_decay


@wrong("half_life", "The result is rounded")
def rounds_up(log_decay):
    return torch.ceil(-math.log(2) / log_decay)


@wrong("half_life", "This takes log_decay for the decay itself")
def takes_it_for_the_decay(log_decay):
    return math.log(0.5) / torch.log(-log_decay)


@wrong("half_life", "That is the time after which 1/e, about 37 %, is left. For a half,")
def the_time_constant(log_decay):
    return -1 / log_decay


@wrong("half_life", "It comes out as if `-log_decay.exp()` stood where `log_decay` belongs.")
def by_the_decay(log_decay):
    return -math.log(0.5) / log_decay.exp()


@wrong("half_life", "It comes out as if `*` stood where `/` belongs.")
def multiplies(log_decay):
    return math.log(2) * -log_decay


@right("half_life")
def half_life_by_numpy(log_decay):
    return np.log(0.5) / log_decay.numpy()


@right("half_life")
def half_life_by_log2(log_decay):
    return -1 / (log_decay * math.log2(math.e))


@right("half_life")
def half_life_in_float64(log_decay):
    return torch.log(torch.tensor(0.5, dtype=torch.float64)) / log_decay.double()
