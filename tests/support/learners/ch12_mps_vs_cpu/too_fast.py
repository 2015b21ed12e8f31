"""Answers to `too_fast`."""

import numpy as np
from support.learners.collect import right, wrong


@wrong("too_fast", "Only the arithmetic is looked at")
def arithmetic_alone(claims, peak, bandwidth):
    return [name for name, (operations, _, seconds) in claims.items() if seconds < operations / peak]


@wrong("too_fast", "A time is already impossible if it is below one of the two")
def only_if_both(claims, peak, bandwidth):
    return [name for name, (o, b, s) in claims.items() if s < o / peak and s < b / bandwidth]


@wrong("too_fast", "These are the slow ones")
def slower_ones(claims, peak, bandwidth):
    return [name for name, (o, b, s) in claims.items() if s > max(o / peak, b / bandwidth)]


@wrong("too_fast", "The two times are added, as if the machine computed only")
def one_after_the_other(claims, peak, bandwidth):
    return [n for n, (ops, size, s) in claims.items() if s < ops / peak + size / bandwidth]


@wrong("too_fast", "The result holds the right entries, in another order.")
def sorted_by_name(claims, peak, bandwidth):
    return sorted(n for n, (ops, size, s) in claims.items() if s < max(ops / peak, size / bandwidth))


@wrong("too_fast", "Only the arithmetic is looked at. Work with little")
def never_looks_at_the_memory(claims, peak, bandwidth):
    return [n for n, (ops, size, s) in claims.items() if ops / s > peak]


@wrong("too_fast", "Only the memory is looked at. Work with much arithmetic is")
def bandwidth_alone(claims, peak, bandwidth):
    return [name for name, (_, size, seconds) in claims.items() if seconds < size / bandwidth]


@wrong("too_fast", "It comes out as if the two sides of `/` were exchanged, at")
def divided_the_other_way(claims, peak, bandwidth):
    return [name for name, (ops, size, s) in claims.items() if s < max(peak / ops, bandwidth / size)]


@wrong("too_fast", "It comes out as if `operations` and `size` were exchanged.")
def operations_and_bytes_exchanged(claims, peak, bandwidth):
    return [name for name, (size, ops, s) in claims.items() if s < max(ops / peak, size / bandwidth)]


@wrong("too_fast", "A time is already impossible if it is below one of the two")
def slower_than_one_of_them(claims, peak, bandwidth):
    return [name for name, (ops, size, s) in claims.items() if s < min(ops / peak, size / bandwidth)]


@wrong("too_fast", "The two times are added, as if the machine computed only")
def sum_of_both(claims, peak, bandwidth):
    return [name for name, (ops, size, s) in claims.items() if s < ops / peak + size / bandwidth]


@wrong("too_fast", "It comes out as if `*` stood where `/` belongs, at each place.")
def multiplied_by_the_peak(claims, peak, bandwidth):
    return [name for name, (ops, size, s) in claims.items() if s < max(ops * peak, size * bandwidth)]


@wrong("too_fast", "The result holds the right entries, in another order.")
def fastest_first(claims, peak, bandwidth):
    return sorted(
        (n for n, (o, b, s) in claims.items() if s < max(o / peak, b / bandwidth)), key=lambda n: claims[n][2]
    )


@right("too_fast")
def names_in_a_tuple(claims, peak, bandwidth):
    return tuple(name for name, (o, b, s) in claims.items() if o / s > peak or b / s > bandwidth)


@right("too_fast")
def names_by_filter(claims, peak, bandwidth):
    return list(filter(lambda name: claims[name][2] < max(claims[name][0] / peak, claims[name][1] / bandwidth), claims))


@right("too_fast")
def names_in_an_array(claims, peak, bandwidth):
    return np.array(names_in_a_tuple(claims, peak, bandwidth))
