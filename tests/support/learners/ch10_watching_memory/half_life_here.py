"""Answers to `half_life_here`."""

import math

import numpy as np
from support.learners.collect import right, unexplained, wrong


@wrong("half_life_here", "It averages half-lives of single tokens")
def mean_of_half_lives(log_decay):
    return (-math.log(2) / log_decay).mean(0)


@wrong("half_life_here", "The log decays are added up over the text, so this counts")
def from_the_sum(log_decay):
    return -math.log(2) / log_decay.sum(0)


@wrong("half_life_here", "It averages the decays")
def from_the_mean_decay(log_decay):
    return -math.log(2) / log_decay.exp().mean(0).log()


@wrong("half_life_here", "This is the time after which 1/e is left, about 37 %. For")
def time_constant(log_decay):
    return -1 / log_decay.mean(0)


@wrong("half_life_here", "It comes out as if `median` stood where `mean` belongs.")
def of_the_median(log_decay):
    return -math.log(2) / log_decay.median(0).values


@wrong("half_life_here", "It comes out as if `dim=0` were left out.")
def decays_themselves(log_decay):
    return math.log(0.5) / log_decay.mean()


@wrong("half_life_here", "It comes out as if 1 stood where 0 belongs.")
def over_the_heads(log_decay):
    return math.log(2) / -log_decay.mean(dim=1)


@wrong("half_life_here", "A half-life is a time that passes, so it is positive. Log")
def below_zero(log_decay):
    return math.log(2) / log_decay.mean(0)


@wrong("half_life_here", "The result is 1 divided by what is asked for.")
def halvings_per_token(log_decay):
    return -log_decay.mean(0) / math.log(2)


@wrong("half_life_here", "It comes out as if the last one stood where `mean` belongs.")
def of_the_last_token(log_decay):
    return math.log(2) / -log_decay[-1]


@wrong("half_life_here", "It comes out as if `dim=0` were left out.")
def mean_over_everything(log_decay):
    return math.log(2) / -log_decay.mean()


@wrong("half_life_here", "It comes out as if 0.5 stood where `math.log(2)` belongs.")
def half_and_not_ln(log_decay):
    return 0.5 / -log_decay.mean(dim=0)


@wrong("half_life_here", "The result is 2 times what it should be.")
def twice_the_half_life(log_decay):
    return math.log(4) / -log_decay.mean(dim=0)


@wrong("half_life_here", "This is the half-life of the one token that faded most. A")
def of_the_fastest(log_decay):
    return math.log(2) / -log_decay.min(0).values


@wrong("half_life_here", "It takes the mean over all heads, so each gets the same")
def over_all_heads(log_decay):
    return math.log(2) / -log_decay.mean().expand(log_decay.shape[1])


@unexplained("half_life_here")
def of_the_root_mean_square(log_decay):
    return math.log(2) / log_decay.square().mean(0).sqrt()


@right("half_life_here")
def half_life_by_numpy(log_decay):
    with np.errstate(divide="ignore"):
        return np.log(0.5) / log_decay.numpy().mean(0)


@right("half_life_here")
def half_life_in_float64(log_decay):
    return len(log_decay) * math.log(0.5) / log_decay.double().sum(0)


@right("half_life_here")
def half_life_by_a_list(log_decay):
    means = log_decay.mean(0).tolist()
    return [math.log(0.5) / mean if mean else math.inf for mean in means]
