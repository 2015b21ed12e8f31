"""Answers to `scale_for_depth`."""

import math

import numpy as np
from support.learners.collect import right, wrong


@wrong("scale_for_depth", "Divided by n, the sum of n blocks shrinks as the model")
def divides_by_n(weight, n_layer):
    return weight / n_layer


@wrong("scale_for_depth", "This makes the sum grow even faster")
def multiplies_by_the_root(weight, n_layer):
    return weight * math.sqrt(n_layer)


@wrong("scale_for_depth", "A layer of a transformer adds twice to the stream, after")
def as_for_two_parts_a_layer(weight, n_layer):
    return weight / math.sqrt(2 * n_layer)


@wrong("scale_for_depth", "A layer of a transformer adds twice to the stream, after")
def two_additions_a_block(weight, n_layer):
    return weight / math.sqrt(2 * n_layer)


@wrong("scale_for_depth", "Every number of the result is 0.4061 times what it should")
def of_the_variance(weight, n_layer):
    return weight / weight.std() / math.sqrt(n_layer)


@wrong("scale_for_depth", "Every number of the result is 0.125 times what it should be.")
def log_of_depth(weight, n_layer):
    return weight / n_layer**2


@wrong("scale_for_depth", "It changes its input `weight` in place, which its caller may")
def scaled_in_place(weight, n_layer):
    weight /= math.sqrt(n_layer)
    return weight


@wrong("scale_for_depth", "Every number of the result is 0.2169 times what it should be.")
def made_one_long(weight, n_layer):
    return weight / weight.norm() / math.sqrt(n_layer)


@wrong("scale_for_depth", "Every number of the result is 0.125 times what it should be.")
def divides_by_n_squared(weight, n_layer):
    return weight / n_layer**2


@wrong("scale_for_depth", "The result is `weight` as it was given: nothing was done to")
def not_scaled(weight, n_layer):
    return weight.clone()


@wrong("scale_for_depth", "Every number of the result is 1.414 times what it should be.")
def root_of_the_weight(weight, n_layer):
    return weight / math.sqrt(weight.shape[0])


@wrong("scale_for_depth", "It comes out as if `n_layer` were larger by 1.")
def one_layer_more(weight, n_layer):
    return weight / math.sqrt(n_layer + 1)


@wrong("scale_for_depth", "Every number of the result is 1.26 times what it should be.")
def cube_root(weight, n_layer):
    return weight / n_layer ** (1 / 3)


@wrong("scale_for_depth", "Every number of the result is 0.125 times what it should be.")
def by_a_power(weight, n_layer):
    return weight * 0.5**n_layer


@right("scale_for_depth")
def a_power(weight, n_layer):
    return weight * n_layer**-0.5


@right("scale_for_depth")
def scaled_by_numpy(weight, n_layer):
    return weight.detach().numpy() / np.sqrt(n_layer)


@right("scale_for_depth")
def scaled_copy(weight, n_layer):
    new = weight.detach().clone().double()
    new /= n_layer**0.5
    return new
