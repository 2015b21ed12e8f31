"""Answers to notebook 12."""

import statistics

import numpy as np
import torch
from support.learners.collect import right, wrong

# median_seconds


def _seconds(machine, work, rounds, *, warm=True, waits=True):
    if warm:
        machine.ask(work)
        machine.wait()
    seconds = []
    for _ in range(rounds):
        began = machine.now()
        machine.ask(work)
        if waits:
            machine.wait()
        seconds.append(machine.now() - began)
        machine.wait()
    return seconds


@wrong("median_seconds", "The first call counts")
def counts_the_first(machine, work, rounds):
    return statistics.median(_seconds(machine, work, rounds, warm=False))


@wrong("median_seconds", "The clock is read when the work has been handed over, not")
def does_not_wait(machine, work, rounds):
    return statistics.median(_seconds(machine, work, rounds, waits=False))


@wrong("median_seconds", "This is the mean")
def takes_the_mean(machine, work, rounds):
    return statistics.mean(_seconds(machine, work, rounds))


@right("median_seconds")
def median_by_numpy(machine, work, rounds):
    return np.median(_seconds(machine, work, rounds))


@right("median_seconds")
def median_in_a_tensor(machine, work, rounds):
    return torch.tensor(_seconds(machine, work, rounds), dtype=torch.float64).quantile(0.5)


@right("median_seconds")
def all_but_the_first(machine, work, rounds):
    return statistics.median(_seconds(machine, work, rounds + 1, warm=False)[1:])


# projection_cost


@wrong("projection_cost", "Only the products are counted")
def one_operation_each(l, d_in, d_out, number_bytes):
    return l * d_in * d_out, number_bytes * (l * d_in + d_in * d_out + l * d_out)


@wrong("projection_cost", "The matrix is read again for each token")
def weights_for_each_token(l, d_in, d_out, number_bytes):
    return 2 * l * d_in * d_out, number_bytes * (l * d_in + l * d_in * d_out + l * d_out)


@wrong("projection_cost", "These are numbers, not bytes")
def numbers_for_bytes(l, d_in, d_out, number_bytes):
    return 2 * l * d_in * d_out, l * d_in + d_in * d_out + l * d_out


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


# too_fast


@wrong("too_fast", "Only the arithmetic is looked at")
def arithmetic_alone(claims, peak, bandwidth):
    return [name for name, (operations, _, seconds) in claims.items() if seconds < operations / peak]


@wrong("too_fast", "A time is already impossible if it is below one of the two")
def only_if_both(claims, peak, bandwidth):
    return [name for name, (o, b, s) in claims.items() if s < o / peak and s < b / bandwidth]


@wrong("too_fast", "These are the slow ones")
def slower_ones(claims, peak, bandwidth):
    return [name for name, (o, b, s) in claims.items() if s > max(o / peak, b / bandwidth)]


@right("too_fast")
def names_in_a_tuple(claims, peak, bandwidth):
    return tuple(name for name, (o, b, s) in claims.items() if o / s > peak or b / s > bandwidth)


@right("too_fast")
def names_by_filter(claims, peak, bandwidth):
    return list(filter(lambda name: claims[name][2] < max(claims[name][0] / peak, claims[name][1] / bandwidth), claims))


@right("too_fast")
def names_in_an_array(claims, peak, bandwidth):
    return np.array(names_in_a_tuple(claims, peak, bandwidth))


# crossover


@wrong("crossover", "That is the first size at which the second is faster")
def the_first_time_it_is_faster(sizes, first, second):
    for size, a, b in zip(sizes, first, second, strict=True):
        if b < a:
            return size
    return None


@wrong("crossover", "That is where the first is faster")
def ways_exchanged(sizes, first, second):
    found = None
    for size, a, b in reversed(list(zip(sizes, first, second, strict=True))):
        if not a < b:
            break
        found = size
    return found


@wrong("crossover", "That is the size before")
def the_last_slow_one(sizes, first, second):
    found = None
    for size, a, b in zip(sizes, first, second, strict=True):
        if b >= a:
            found = size
    return found


@right("crossover")
def from_the_end(sizes, first, second):
    found = None
    for size, a, b in zip(reversed(sizes), reversed(first), reversed(second), strict=True):
        if b >= a:
            return found
        found = size
    return found


@right("crossover")
def by_all_that_follow(sizes, first, second):
    faster = [b < a for a, b in zip(first, second, strict=True)]
    return next((size for i, size in enumerate(sizes) if all(faster[i:])), None)


@right("crossover")
def as_a_float(sizes, first, second):
    found = from_the_end(sizes, first, second)
    return None if found is None else float(found)


# bytes_kept


def _kept(config, windows=True, layers=True):
    state = config.nheads * config.headdim * config.d_state
    window = (config.d_conv - 1) * config.conv_dim if windows else 0
    return (config.n_layer if layers else 1), state, window


@wrong("bytes_kept", "The states are counted in the dtype of the weights")
def state_in_the_weights_dtype(l, config, number_bytes):
    layers, state, window = _kept(config)
    return 2 * layers * l * config.d_model * number_bytes, layers * (state + window) * number_bytes


@wrong("bytes_kept", "A key is kept for each token and a value as well")
def keys_without_values(l, config, number_bytes):
    layers, state, window = _kept(config)
    return layers * l * config.d_model * number_bytes, layers * (4 * state + number_bytes * window)


@wrong("bytes_kept", "The window is one input too wide")
def a_window_of_d_conv(l, config, number_bytes):
    layers, state, _ = _kept(config)
    window = config.d_conv * config.conv_dim
    return 2 * layers * l * config.d_model * number_bytes, layers * (4 * state + number_bytes * window)


@right("bytes_kept")
def kept_as_a_list(l, config, number_bytes):
    layers, state, window = _kept(config)
    return [2 * layers * l * config.d_model * number_bytes, layers * (4 * state + number_bytes * window)]


@right("bytes_kept")
def kept_in_floats(l, config, number_bytes):
    cache, kept = kept_as_a_list(l, config, number_bytes)
    return float(cache), float(kept)


@right("bytes_kept")
def kept_by_numpy(l, config, number_bytes):
    cache, kept = kept_as_a_list(l, config, number_bytes)
    return np.int64(cache), np.int64(kept)
