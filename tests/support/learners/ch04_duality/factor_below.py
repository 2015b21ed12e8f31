"""Answers to `factor_below`."""

import numpy as np
import torch
from support.learners.collect import right, wrong

from mamba2_lab.course.exercises.duality import segsum


@wrong("factor_below", "The right factor is not transposed")
def right_not_transposed(log_decay, B, C, cut):
    total = log_decay.cumsum(-1)
    left = C[..., cut:, :] * torch.exp(total[..., cut:] - total[..., cut - 1 : cut])[..., None]
    right_ = B[..., :cut, :] * torch.exp(total[..., cut - 1 : cut] - total[..., :cut])[..., None]
    return left, right_


@wrong("factor_below", "The first decay after the cut is counted twice, on the")
def the_cut_fades_twice(log_decay, B, C, cut):
    total = log_decay.cumsum(-1)
    left = C[..., cut:, :] * torch.exp(total[..., cut:] - total[..., cut - 1 : cut])[..., None]
    right_ = B[..., :cut, :] * torch.exp(total[..., cut : cut + 1] - total[..., :cut])[..., None]
    return left, right_.mT


@wrong("factor_below", "This is the block of C B^T, without any fading")
def no_decay_at_all(log_decay, B, C, cut):
    return C[..., cut:, :], B[..., :cut, :].mT


@wrong("factor_below", "On the right, a source's own decay is applied to what it writes. It")
def right_fades_by_its_own(log_decay, B, C, cut):
    left = C[..., cut:, :] * log_decay[..., cut:].cumsum(-1).exp()[..., None]
    fade = log_decay[..., :cut].flip(-1).cumsum(-1).flip(-1).exp()
    return left, (B[..., :cut, :] * fade[..., None]).mT


@wrong("factor_below", "It comes out as if the running sum left out the entry itself.")
def left_skips_the_first(log_decay, B, C, cut):
    after = log_decay[..., cut:]
    left = C[..., cut:, :] * (after.cumsum(-1) - after).exp()[..., None]
    before = log_decay[..., :cut]
    fade = (before.sum(-1, keepdim=True) - before.cumsum(-1)).exp()
    return left, (B[..., :cut, :] * fade[..., None]).mT


@right("factor_below")
def a_list_of_factors(log_decay, B, C, cut):
    mask = segsum(log_decay).exp()
    left = C[..., cut:, :] * mask[..., cut:, cut - 1, None]
    return [left, (B[..., :cut, :] * mask[..., cut - 1, :cut, None]).mT]


@right("factor_below")
def all_decay_on_the_left_of_cut(log_decay, B, C, cut):
    mask = segsum(log_decay.double()).exp()
    left = C[..., cut:, :] * mask[..., cut:, cut, None]
    return left, (B[..., :cut, :] * mask[..., cut, :cut, None]).transpose(-1, -2)


@right("factor_below")
def factors_by_numpy(log_decay, B, C, cut):
    mask = np.exp(segsum(log_decay).numpy())
    left = C.numpy()[..., cut:, :] * mask[..., cut:, cut - 1][..., None]
    right_ = B.numpy()[..., :cut, :] * mask[..., cut - 1, :cut][..., None]
    return left, np.swapaxes(right_, -1, -2)
