"""Answers to `fft_convolution`."""

import numpy as np
import torch
from support.learners.collect import right, wrong


@wrong("fft_convolution", "The end runs into the beginning")
def without_padding(x, weights):
    return torch.fft.irfft(torch.fft.rfft(x) * torch.fft.rfft(weights), n=len(x))


@wrong("fft_convolution", "The result has 8 entries, and the first 4 are right")
def does_not_cut(x, weights):
    l = len(x)
    return torch.fft.irfft(torch.fft.rfft(x, n=2 * l) * torch.fft.rfft(weights, n=2 * l), n=2 * l)


@wrong("fft_convolution", "The numbers are right, but the work grows as the square of")
def a_double_loop(x, weights):
    return torch.stack([sum(weights[k] * x[t - k] for k in range(t + 1)) for t in range(len(x))])


@wrong("fft_convolution", "Zeros belong behind x")
def zeros_in_front(x, weights):
    l = len(x)
    x, weights = torch.cat([torch.zeros(l), x]), torch.cat([weights, torch.zeros(l)])
    return torch.fft.irfft(torch.fft.rfft(x) * torch.fft.rfft(weights), n=2 * l)[:l]


@wrong("fft_convolution", "One of the two is turned round in time: a conjugate makes a correlation")
def a_conjugate(x, weights):
    n = 2 * len(x)
    return torch.fft.irfft(torch.fft.rfft(x, n) * torch.fft.rfft(weights, n).conj(), n)[: len(x)]


@wrong("fft_convolution", "The result has lost its signs: what should be below 0 is above it.")
def the_size_of_what_comes_back(x, weights):
    n = 2 * len(x)
    return torch.fft.ifft(torch.fft.fft(x, n) * torch.fft.fft(weights, n)).abs()[: len(x)]


@right("fft_convolution")
def complex_transforms(x, weights):
    l = len(x)
    return torch.fft.ifft(torch.fft.fft(x, 2 * l) * torch.fft.fft(weights, 2 * l)).real[:l]


@right("fft_convolution")
def fft_by_numpy(x, weights):
    l = len(x)
    return np.fft.irfft(np.fft.rfft(x.numpy(), 4 * l) * np.fft.rfft(weights.numpy(), 4 * l))[:l]


@right("fft_convolution")
def pads_itself(x, weights):
    l = len(x)
    zeros = torch.zeros(l)
    together = torch.fft.rfft(torch.cat([x, zeros])) * torch.fft.rfft(torch.cat([weights, zeros]))
    return torch.fft.irfft(together, n=2 * l)[:l].double()
