"""Answers to `joined_loss`."""

import numpy as np
from support.learners.collect import right, unexplained, wrong


@wrong("joined_loss", "A mean of means")
def mean_of_means(means, counts):
    return means.mean()


@wrong("joined_loss", "It divides by the number of parts")
def divides_by_the_parts(means, counts):
    return (means * counts).sum() / len(means)


@wrong("joined_loss", "The means were added up, so a batch in k parts gets k")
def sums_the_parts(means, counts):
    return means.sum()


@wrong("joined_loss", "It divides by the number of parts. The losses were")
def divided_by_the_parts(means, counts):
    return (means * counts).sum() / len(counts)


@wrong("joined_loss", "It comes out as if `counts` were left out.")
def means_over_tokens(means, counts):
    return means.sum() / counts.sum()


@wrong("joined_loss", "It comes out as if `means` stood where `counts` belongs.")
def shares_of_losses(means, counts):
    return (means * means / means.sum()).sum()


@wrong("joined_loss", "The result has shape (3,) where () is expected: the sum along")
def not_added_up(means, counts):
    return means * counts / counts.sum()


@wrong("joined_loss", "This is the sum over all tokens. Divide it by how many there")
def never_divided(means, counts):
    return (means * counts).sum()


@wrong("joined_loss", "It comes out as if `max` stood where `sum` belongs, at each")
def the_largest_part_alone(means, counts):
    return means[counts.argmax()]


@wrong("joined_loss", "It comes out as if `1 / counts` stood where `counts` belongs.")
def weighed_the_other_way(means, counts):
    return (means / counts).sum() / (1 / counts).sum()


@unexplained("joined_loss")
def weighed_by_the_largest(means, counts):
    return (means * counts / counts.max()).mean()


@unexplained("joined_loss")
def of_the_sum(means, counts):
    return means.sum() * counts.sum() / len(counts)


@wrong("joined_loss", "It comes out as if `counts.sqrt()` stood where `counts` belongs.")
def weighed_by_roots(means, counts):
    w = counts.sqrt()
    return (means * w).sum() / w.sum()


@right("joined_loss")
def a_python_float(means, counts):
    return sum(m * c for m, c in zip(means.tolist(), counts.tolist(), strict=True)) / counts.sum().item()


@right("joined_loss")
def by_np_average(means, counts):
    return np.average(means.numpy(), weights=counts.numpy())


@right("joined_loss")
def by_a_dot_product(means, counts):
    return means.double() @ counts.double() / counts.sum()
