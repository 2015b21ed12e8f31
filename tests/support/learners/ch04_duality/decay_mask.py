"""Answers to `decay_mask`."""

import numpy as np
import torch
from support.learners.collect import right, wrong

from mamba2_lab.course.exercises.duality import segsum


@wrong("decay_mask", "Right on paper, but digits are lost")
def exp_of_a_difference(log_decay):
    total = log_decay.cumsum(-1)
    return torch.exp(total[..., :, None] - total[..., None, :]).tril()


@wrong("decay_mask", "It divides what is left of two tokens")
def quotient_of_two_exps(log_decay):
    kept = log_decay.cumsum(-1).exp()
    return (kept[..., :, None] / kept[..., None, :]).tril()


@wrong("decay_mask", "These are the logarithms of the mask")
def leaves_it_a_logarithm(log_decay):
    return segsum(log_decay)


@wrong("decay_mask", "The result is 0 where it should not be, all on the diagonal; the other")
def nothing_on_the_diagonal(log_decay):
    return segsum(log_decay).exp().tril(-1)


@wrong("decay_mask", "It comes out as if `exp` were taken before `segsum`, not after.")
def exp_before_the_sum(log_decay):
    return segsum(log_decay.exp())


@right("decay_mask")
def mask_by_products(log_decay):
    l, decay = log_decay.shape[-1], log_decay.exp()
    out = torch.zeros(*log_decay.shape, l)
    for t in range(l):
        for s in range(t + 1):
            out[..., t, s] = decay[..., s + 1 : t + 1].prod(-1)
    return out


@right("decay_mask")
def mask_by_numpy(log_decay):
    return np.exp(segsum(log_decay).numpy())


@right("decay_mask")
def mask_in_float64(log_decay):
    return segsum(log_decay.double()).exp()
