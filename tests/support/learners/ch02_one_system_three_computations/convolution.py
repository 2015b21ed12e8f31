"""Answers to `convolution`."""

import numpy as np
import torch
import torch.nn.functional as F
from support.learners.collect import right, wrong


@wrong("convolution", "weights[s] meets x[s]")
def weights_not_turned_round(x, weights):
    return torch.stack([(weights[: t + 1] * x[: t + 1]).sum() for t in range(len(x))])


@wrong("convolution", "It looks ahead")
def correlates_with_the_future(x, weights):
    l = len(x)
    return torch.stack([(weights[: l - t] * x[t:]).sum() for t in range(l)])


@wrong("convolution", "The rain of the hour itself is missing")
def leaves_out_the_hour_itself(x, weights):
    return torch.stack(
        [sum((weights[k] * x[t - k] for k in range(1, t + 1)), torch.tensor(0.0)) for t in range(len(x))]
    )


@wrong("convolution", "The weights lie the wrong way round: weights[0] belongs to the newest")
def conv1d_as_it_is(x, weights):
    padded = F.pad(x, (len(x) - 1, 0))
    return F.conv1d(padded[None, None], weights[None, None])[0, 0]


@wrong("convolution", "It comes an hour late: the rain of hour t counts at hour t")
def one_late(x, weights):
    return torch.stack([(weights[:t].flip(0) * x[:t]).sum() if t else x.new_zeros(()) for t in range(len(x))])


@right("convolution")
def by_np_convolve(x, weights):
    return np.convolve(x.numpy(), weights.numpy())[: len(x)]


@right("convolution")
def convolution_in_lists(x, weights):
    return [sum(float(weights[k] * x[t - k]) for k in range(t + 1)) for t in range(len(x))]


@right("convolution")
def by_conv1d(x, weights):
    l = len(x)
    padded = torch.nn.functional.pad(x[None, None], (l - 1, 0))
    return torch.nn.functional.conv1d(padded, weights.flip(0)[None, None])[0, 0]
