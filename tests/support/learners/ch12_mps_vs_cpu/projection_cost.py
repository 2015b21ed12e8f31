"""Answers to `projection_cost`."""

import numpy as np
from support.learners.collect import right, unexplained, wrong


@wrong("projection_cost", "Only the products are counted")
def one_operation_each(l, d_in, d_out, number_bytes):
    return l * d_in * d_out, number_bytes * (l * d_in + d_in * d_out + l * d_out)


@wrong("projection_cost", "The matrix is read again for each token")
def weights_for_each_token(l, d_in, d_out, number_bytes):
    return 2 * l * d_in * d_out, number_bytes * (l * d_in + l * d_in * d_out + l * d_out)


@wrong("projection_cost", "These are numbers, not bytes")
def numbers_for_bytes(l, d_in, d_out, number_bytes):
    return 2 * l * d_in * d_out, l * d_in + d_in * d_out + l * d_out


@wrong("projection_cost", "A sum of d_in products takes one addition fewer. By custom")
def one_addition_fewer(l, d_in, d_out, number_bytes):
    return l * d_out * (2 * d_in - 1), number_bytes * (l * d_in + d_in * d_out + l * d_out)


@wrong("projection_cost", "The matrix is read again for each token. A good product")
def the_matrix_for_each_token(l, d_in, d_out, number_bytes):
    return 2 * l * d_in * d_out, number_bytes * (l * d_in + l * d_in * d_out + l * d_out)


@wrong("projection_cost", "What comes out is not counted: it has to be written to")
def read_only(l, d_in, d_out, number_bytes):
    return 2 * l * d_in * d_out, number_bytes * d_in * (l + d_out)


@wrong("projection_cost", "The number of bytes is 8 times what it should be.")
def bits_not_bytes(l, d_in, d_out, number_bytes):
    return 2 * l * d_in * d_out, 8 * number_bytes * (l * d_in + d_in * d_out + l * d_out)


@wrong("projection_cost", "The number of bytes is too small by `l * d_out *")
def nothing_is_written(l, d_in, d_out, number_bytes):
    return 2 * l * d_in * d_out, (l * d_in + d_in * d_out) * number_bytes + l * d_out


@wrong("projection_cost", "The number of operations is too large by `l * d_out`.")
def with_a_bias(l, d_in, d_out, number_bytes):
    numbers = l * d_in + (d_in + 1) * d_out + l * d_out
    return 2 * l * d_in * d_out + l * d_out, numbers * number_bytes


@wrong("projection_cost", "The number of bytes comes out as `l * d_in * d_out *")
def all_multiplied(l, d_in, d_out, number_bytes):
    return 2 * l * d_in * d_out, l * d_in * d_out * number_bytes


@wrong("projection_cost", "The matrix is missing from the bytes. For a single token it")
def the_matrix_forgotten(l, d_in, d_out, number_bytes):
    return 2 * l * d_in * d_out, (l * d_in + l * d_out) * number_bytes


@wrong("projection_cost", "The number of bytes is 2 times what it should be.")
def everything_read_and_written(l, d_in, d_out, number_bytes):
    return 2 * l * d_in * d_out, 2 * (l * d_in + d_in * d_out + l * d_out) * number_bytes


@wrong("projection_cost", "The number of bytes comes out as `2 * l * d_in * d_out *")
def bytes_of_the_operations(l, d_in, d_out, number_bytes):
    return 2 * l * d_in * d_out, 2 * l * d_in * d_out * number_bytes


@unexplained("projection_cost")
def a_sum_of_sizes(l, d_in, d_out, number_bytes):
    return 2 * l * (d_in + d_out), (l * d_in + d_in * d_out + l * d_out) * number_bytes


@right("projection_cost")
def cost_as_a_list(l, d_in, d_out, number_bytes):
    return [2 * l * d_in * d_out, number_bytes * (l * (d_in + d_out) + d_in * d_out)]


@right("projection_cost")
def cost_in_floats(l, d_in, d_out, number_bytes):
    return 2.0 * l * d_in * d_out, float(number_bytes * (l * (d_in + d_out) + d_in * d_out))


@right("projection_cost")
def cost_by_numpy(l, d_in, d_out, number_bytes):
    numbers = np.array([l * d_in, d_in * d_out, l * d_out])
    return 2 * numbers[0] * d_out, number_bytes * numbers.sum()
