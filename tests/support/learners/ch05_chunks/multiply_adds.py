"""Answers to `multiply_adds`."""

import numpy as np
import torch
from support.learners.collect import right, wrong


@wrong("multiply_adds", "The squares are counted as triangles")
def counts_triangles(l, chunk_size, p, n):
    c = -(-l // chunk_size)
    pairs = chunk_size * (chunk_size + 1) // 2
    return c * (pairs * n + pairs * p + 2 * chunk_size * p * n + p * n)


@wrong("multiply_adds", "The padding is not counted")
def without_the_padding(l, chunk_size, p, n):
    q = chunk_size
    return l * q * n + l * q * p + 2 * l * p * n + l // q * p * n


@wrong("multiply_adds", "To pass the state on is left out")
def forgets_to_pass_on(l, chunk_size, p, n):
    c, q = -(-l // chunk_size), chunk_size
    return c * (q * q * n + q * q * p + 2 * q * p * n)


@wrong("multiply_adds", "To pass the state on is left out: another p * n for each chunk.")
def never_passes_on(l, chunk_size, p, n):
    c = -(-l // chunk_size)
    return c * (chunk_size**2 * (n + p) + 2 * chunk_size * p * n)


@wrong("multiply_adds", "The ragged end is left out: 10 tokens in chunks of 4 are three chunks,")
def full_chunks_only(l, chunk_size, p, n):
    c = l // chunk_size
    return c * (chunk_size**2 * (n + p) + 2 * chunk_size * p * n + p * n)


@wrong("multiply_adds", "C @ B.mT is missing: before M can be multiplied with x, its q x q")
def without_the_scores(l, chunk_size, p, n):
    return -(-l // chunk_size) * (chunk_size**2 * p + 2 * chunk_size * p * n + p * n)


@wrong("multiply_adds", "A chunk that is not full is counted by its share. It is filled")
def counts_a_fraction_of_a_chunk(l, chunk_size, p, n):
    c = l / chunk_size
    return c * (chunk_size**2 * (n + p) + 2 * chunk_size * p * n + p * n)


@wrong("multiply_adds", "The result is 2 times what it should be.")
def two_for_each(l, chunk_size, p, n):
    c = -(-l // chunk_size)
    return 2 * c * (chunk_size**2 * (n + p) + 2 * chunk_size * p * n + p * n)


@wrong("multiply_adds", "This is attention over the whole text, without chunks or")
def attention_over_all(l, chunk_size, p, n):
    return l * l * (n + p)


@wrong("multiply_adds", "The last chunk is counted as a smaller one. It is filled up")
def the_rest_by_its_own_size(l, chunk_size, p, n):
    def chunk(q):
        return q * q * (n + p) + 2 * q * p * n + p * n

    full, rest = divmod(l, chunk_size)
    return full * chunk(chunk_size) + (chunk(rest) if rest else 0)


@right("multiply_adds")
def a_float_of_a_sum(l, chunk_size, p, n):
    q = chunk_size
    c = np.ceil(l / q)
    return c * (q * q * (n + p) + 2 * q * p * n + p * n)


@right("multiply_adds")
def a_tensor_of_a_sum(l, chunk_size, p, n):
    c, q = torch.tensor((l + chunk_size - 1) // chunk_size), chunk_size
    return c * (q * n * q + q * q * p + p * q * n + q * n * p + p * n)


@right("multiply_adds")
def counted_chunk_by_chunk(l, chunk_size, p, n):
    count = 0
    for _ in range(0, l, chunk_size):
        count += chunk_size * n * chunk_size + chunk_size * chunk_size * p
        count += p * chunk_size * n + chunk_size * n * p + p * n
    return count
