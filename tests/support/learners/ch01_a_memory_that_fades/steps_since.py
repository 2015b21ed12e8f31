"""Answers to `steps_since`."""

import math

import numpy as np
import torch
from support.learners.collect import right, wrong


@wrong("steps_since", "One barrel alone is used, as if the shower had filled it")
def trusts_the_first_barrel(levels, log_decay):
    return torch.log(levels[0]) / log_decay[0]


@wrong("steps_since", "The log decays are added up")
def divides_by_the_sum(levels, log_decay):
    ratio = torch.log(levels[0] / levels[1])
    return ratio / (log_decay[0] + log_decay[1])


@wrong("steps_since", "The sign is turned")
def difference_turned_round(levels, log_decay):
    return torch.log(levels[0] / levels[1]) / (log_decay[1] - log_decay[0])


@wrong("steps_since", "The line is forced through the origin, as if the shower had size 1.")
def a_line_through_zero(levels, log_decay):
    return (levels.log() * log_decay).sum() / log_decay.square().sum()


@wrong("steps_since", "The result is 1 divided by what is asked for.")
def slope_of_the_other_axis(levels, log_decay):
    L = levels.log() - levels.log().mean()
    return (L * log_decay).sum() / L.square().sum()


@right("steps_since")
def a_float(levels, log_decay):
    top, low = levels[0].item(), levels[-1].item()
    return math.log(top / low) / (log_decay[0] - log_decay[-1]).item()


@right("steps_since")
def by_polyfit(levels, log_decay):
    slope, _ = np.polyfit(log_decay.double().numpy(), np.log(levels.double().numpy()), 1)
    return slope


@right("steps_since")
def by_least_squares(levels, log_decay):
    columns = torch.stack([log_decay, torch.ones_like(log_decay)], dim=1)
    return torch.linalg.lstsq(columns.double(), levels.log().double()[:, None]).solution[0, 0]
