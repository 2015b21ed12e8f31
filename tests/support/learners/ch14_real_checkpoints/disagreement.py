"""Answers to `disagreement`."""

import math

import numpy as np
import torch
from support.learners.collect import right, wrong


@wrong("disagreement", "It comes out as if `var` stood where `std` belongs.")
def variance_for_deviation(ours, theirs, vocab_size):
    a, b = ours[:, :vocab_size], theirs[:, :vocab_size]
    return (a - b).abs().max() / b.var()


@wrong("disagreement", "That is the spread of the differences. The question is how")
def spread_of_the_differences(ours, theirs, vocab_size):
    off = ours[:, :vocab_size] - theirs[:, :vocab_size]
    return off.abs().max() / off.std()


@wrong("disagreement", "Each difference is divided by its own logit. One that happens")
def entry_by_entry(ours, theirs, vocab_size):
    a, b = ours[:, :vocab_size], theirs[:, :vocab_size]
    return ((a - b) / b).abs().max()


@wrong("disagreement", "Divided by the largest logit, a difference looks small where")
def by_the_largest_logit(ours, theirs, vocab_size):
    a, b = ours[:, :vocab_size], theirs[:, :vocab_size]
    return (a - b).abs().max() / b.abs().max()


@wrong("disagreement", "It comes out as if -1 stood where `:` belongs, at each place.")
def in_the_last_row(ours, theirs, vocab_size):
    a, b = ours[-1, :vocab_size], theirs[-1, :vocab_size]
    return (a - b).abs().max() / b.std()


@wrong("disagreement", "That is the root of the mean square. One wrong logit in a")
def root_of_mean_squares(ours, theirs, vocab_size):
    a, b = ours[:, :vocab_size], theirs[:, :vocab_size]
    return (a - b).square().mean().sqrt() / b.std()


@wrong("disagreement", "It comes out as if `[:, :vocab_size]` were left out.")
def spread_of_ours(ours, theirs, vocab_size):
    a, b = ours[:, :vocab_size], theirs[:, :vocab_size]
    return (a - b).abs().max() / theirs.std()


@wrong("disagreement", "One wrong logit in a thousand hides in a mean. Take the largest.")
def the_mean_difference(ours, theirs, vocab_size):
    a, b = ours[:, :vocab_size], theirs[:, :vocab_size]
    return (a - b).abs().mean() / b.std()


@wrong("disagreement", "It compares probabilities. What is asked for is the difference")
def of_probabilities(ours, theirs, vocab_size):
    a, b = ours[:, :vocab_size].softmax(-1), theirs[:, :vocab_size].softmax(-1)
    return (a - b).abs().max() / b.std()


@right("disagreement")
def in_double(ours, theirs, vocab_size):
    a, b = (each.narrow(1, 0, vocab_size).double() for each in (ours, theirs))
    return torch.max(torch.abs(a - b)) / torch.std(b)


@right("disagreement")
def disagreement_by_numpy(ours, theirs, vocab_size):
    a, b = ours.numpy()[:, :vocab_size], theirs.numpy()[:, :vocab_size]
    return np.abs(a - b).max() / b.std(ddof=1)


@right("disagreement")
def as_a_distance(ours, theirs, vocab_size):
    a, b = ours[:, :vocab_size].flatten(), theirs[:, :vocab_size].flatten()
    return float(torch.dist(a, b, p=math.inf) / b.var().sqrt())
