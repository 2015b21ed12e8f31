"""Answers to `levels`."""

import numpy as np
import torch
from support.learners.collect import right, wrong


@wrong("levels", "The rain of an hour leaks away in that same hour")
def decays_the_rain_too(x, decay):
    h, out = 0.0, []
    for x_t in x:
        h = decay * (h + x_t)
        out.append(h)
    return torch.stack(out)


@wrong("levels", "Old and new share are exchanged")
def keeps_what_should_leak(x, decay):
    h, out = torch.tensor(0.0), []
    for x_t in x:
        h = (1 - decay) * h + x_t
        out.append(h)
    return torch.stack(out)


@wrong("levels", "It is one hour late")
def level_before_the_rain(x, decay):
    h, out = torch.tensor(0.0), []
    for x_t in x:
        out.append(h)
        h = decay * h + x_t
    return torch.stack(out)


@wrong("levels", "This is a moving average: the rain is scaled by 1 - decay. A barrel")
def an_average(x, decay):
    h, out = torch.tensor(0.0), []
    for x_t in x:
        h = decay * h + (1 - decay) * x_t
        out.append(h)
    return torch.stack(out)


@wrong("levels", "Old and new share are exchanged: `decay` is what is kept of the level,")
def the_share_is_lost(x, decay):
    h, out = torch.tensor(0.0), []
    for x_t in x:
        h = h - decay * h + x_t
        out.append(h)
    return torch.stack(out)


@wrong("levels", "It comes out as if `zeros_like` were left out.")
def counts_the_first_twice(x, decay):
    h, out = x[0], []
    for x_t in x:
        h = decay * h + x_t
        out.append(h)
    return torch.stack(out)


@wrong("levels", "It leaks only in the hours without rain. It leaks all the time:")
def loses_only_when_dry(x, decay):
    out, h = [], torch.tensor(0.0)
    for r in x:
        h = h + r if r > 0 else decay * h
        out.append(h)
    return torch.stack(out)


@wrong("levels", "Each level knows the rain of its own hour and of the hour")
def knows_one_hour_back(x, decay):
    before = torch.cat([x.new_zeros(1), x[:-1]])
    return x + decay * before


@right("levels")
def a_list_of_floats(x, decay):
    h, out = 0.0, []
    for x_t in x.tolist():
        h = decay * h + x_t
        out.append(h)
    return out


@right("levels")
def an_array_in_float64(x, decay):
    h, out = 0.0, np.zeros(len(x))
    for t in range(len(x)):
        h = decay * h + x[t].item()
        out[t] = h
    return out


@right("levels")
def levels_by_a_matrix(x, decay):
    t = torch.arange(len(x))
    lag = t[:, None] - t
    return torch.where(lag >= 0, decay ** lag.clamp(min=0), 0.0).to(x.dtype) @ x
