"""Answers to `step_size`."""

import numpy as np
import torch
import torch.nn.functional as F
from support.learners.collect import right, wrong


@wrong("step_size", "Right on paper, but exp overflows and 1 + a tiny number is")
def log_of_one_plus_exp(raw_dt, dt_bias, dt_limit):
    return torch.log(1 + torch.exp(raw_dt + dt_bias)).clamp(*dt_limit)


@wrong("step_size", "The bias is added after softplus")
def bias_after_softplus(raw_dt, dt_bias, dt_limit):
    return (F.softplus(raw_dt) + dt_bias).clamp(*dt_limit)


@wrong("step_size", "The lower limit is left out")
def the_upper_limit_only(raw_dt, dt_bias, dt_limit):
    return F.softplus(raw_dt + dt_bias).clamp(max=dt_limit[1])


@wrong("step_size", "The lower limit is left out: dt_limit is a pair, and a step may not be")
def upper_limit_only(raw_dt, dt_bias, dt_limit):
    return F.softplus(raw_dt + dt_bias).clamp(max=dt_limit[1])


@wrong("step_size", "The raw numbers are clamped, and softplus is taken afterwards. The")
def limits_first(raw_dt, dt_bias, dt_limit):
    return F.softplus((raw_dt + dt_bias).clamp(*dt_limit))


@right("step_size")
def by_logaddexp(raw_dt, dt_bias, dt_limit):
    return torch.logaddexp(raw_dt + dt_bias, torch.zeros(())).clip(dt_limit[0], dt_limit[1])


@right("step_size")
def step_size_by_numpy(raw_dt, dt_bias, dt_limit):
    return np.clip(np.logaddexp(0, raw_dt.numpy() + dt_bias.numpy()), *dt_limit)


@right("step_size")
def step_size_in_float64(raw_dt, dt_bias, dt_limit):
    low, high = dt_limit
    soft = F.softplus((raw_dt + dt_bias).double())
    return torch.minimum(torch.maximum(soft, torch.tensor(low)), torch.tensor(high))
