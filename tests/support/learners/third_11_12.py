"""A second set for notebook 11, a third one for notebook 12."""

import math
import statistics

import torch
from support.learners.collect import wrong

# 11 Limits


@wrong("read_back", "It divides by the number of pairs. Writing adds, and takes no")
def a_mean_of_what_was_written(keys, values):
    state = values.T @ keys / len(keys)
    return keys @ state.T


@wrong("read_back", "It makes the keys unit vectors before they read. They read as")
def by_the_length_of_the_key(keys, values):
    return keys @ (keys.T @ values) / keys.norm(dim=1, keepdim=True)


@wrong("read_back", "What a key reads of its own value is left out. The state")
def without_its_own_value(keys, values):
    overlaps = keys @ keys.T
    overlaps.fill_diagonal_(0)
    return overlaps @ values


@wrong("expected_error", "It comes out as if `m` and `n` were exchanged.")
def columns_over_pairs(m, n):
    return (n - 1) / m


@wrong("expected_error", "It comes out as if `n` were one less.")
def one_column_less(m, n):
    return (m - 1) / (n - 1)


@wrong("expected_error", "It comes out as if it were multiplied by `m` once more.")
def of_all_pairs_together(m, n):
    return m * (m - 1) / n


@wrong("exact_queries", "The overlaps are multiplied where they have to be undone:")
def not_inverted(keys):
    return keys @ keys.T @ keys


@wrong("exact_queries", "It inverts the table entry by entry. The inverse of a matrix")
def one_over_each(keys):
    return (1 / (keys @ keys.T)) @ keys


@wrong("exact_queries", "It comes out as if `.mT` were left out.")
def lying_down(keys):
    return torch.linalg.pinv(keys)


@wrong("attend", "It comes out as if it were divided by `sharpness`.")
def divided_by_sharpness(queries, keys, values, sharpness):
    return (queries @ keys.T / sharpness).softmax(-1) @ values


@wrong("attend", "The sharpness comes after the softmax, so it only makes the")
def sharpened_too_late(queries, keys, values, sharpness):
    return sharpness * (queries @ keys.T).softmax(-1) @ values


@wrong("attend", "It comes out as if it were divided by the root of the width,")
def the_root_of_n_as_well(queries, keys, values, sharpness):
    weights = (sharpness * queries @ keys.T / math.sqrt(keys.shape[1])).softmax(-1)
    return weights @ values


@wrong("bits_by_position", "It averages the files' own bits per byte. Add up nats and")
def mean_over_files(nats, sizes, edges):
    rates = [(nats[:, a:b].sum(1) / sizes[:, a:b].sum(1)).mean() for a, b in zip(edges[:-1], edges[1:], strict=True)]
    return torch.stack(rates) / math.log(2)


@wrong("bits_by_position", "A stretch takes the token at its end as well, so neighbours")
def both_edges_count(nats, sizes, edges):
    rates = []
    for a, b in zip(edges[:-1], edges[1:], strict=True):
        rates.append(nats[:, a : b + 1].sum() / sizes[:, a : b + 1].sum())
    return torch.stack(rates) / math.log(2)


@wrong("bits_by_position", "It averages the bits per byte of single tokens, so a token of")
def mean_over_tokens(nats, sizes, edges):
    rates = [(nats[:, a:b] / sizes[:, a:b]).mean() for a, b in zip(edges[:-1], edges[1:], strict=True)]
    return torch.stack(rates) / math.log(2)


@wrong("stack_bytes", "It comes out as if `'mamba2'` and `'attention'` were")
def the_two_exchanged(l, mixers, state_bytes, token_bytes):
    return mixers.count("attention") * state_bytes + l * mixers.count("mamba2") * token_bytes


@wrong("stack_bytes", "Its attention keeps one token. It keeps a key and a value for")
def of_one_token(l, mixers, state_bytes, token_bytes):
    return mixers.count("mamba2") * state_bytes + mixers.count("attention") * token_bytes


@wrong("stack_bytes", "Every layer keeps both. A Mamba layer keeps a state, an")
def both_in_every_layer(l, mixers, state_bytes, token_bytes):
    return len(mixers) * (state_bytes + l * token_bytes)


# 12 MPS vs CPU


def seconds_of(machine, work, rounds):
    """Each round by itself, as it should be."""
    machine.ask(work)
    machine.wait()
    seconds = []
    for _ in range(rounds):
        start = machine.now()
        machine.ask(work)
        machine.wait()
        seconds.append(machine.now() - start)
    return seconds


@wrong("median_seconds", "It comes out as if `max` stood where `median` belongs.")
def the_slowest(machine, work, rounds):
    return max(seconds_of(machine, work, rounds))


@wrong("median_seconds", "It comes out as if `began = machine.now()` stood before the")
def a_clock_set_once(machine, work, rounds):
    machine.ask(work)
    machine.wait()
    seconds, start = [], machine.now()
    for _ in range(rounds):
        machine.ask(work)
        machine.wait()
        seconds.append(machine.now() - start)
    return statistics.median(seconds)


@wrong("median_seconds", "That is the round in the middle of the run. For the median")
def the_middle_without_sorting(machine, work, rounds):
    return seconds_of(machine, work, rounds)[rounds // 2]


@wrong("crossover", "That is the place in the list. Return the size that stands")
def its_index(sizes, first, second):
    found = None
    for i in reversed(range(len(sizes))):
        if second[i] >= first[i]:
            break
        found = i
    return found


@wrong("crossover", "At that size both take the same time: the second is not")
def a_tie_is_a_win(sizes, first, second):
    found = None
    for size, one, other in zip(sizes[::-1], first[::-1], second[::-1], strict=True):
        if other > one:
            break
        found = size
    return found


@wrong("crossover", "That is the largest size at which the second is faster. Go on")
def every_size_that_wins(sizes, first, second):
    wins = [size for size, one, other in zip(sizes, first, second, strict=True) if other < one]
    return wins[-1] if wins else None


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


@wrong("too_fast", "Only the memory is looked at. Work with much arithmetic is")
def bandwidth_alone(claims, peak, bandwidth):
    return [name for name, (_, size, seconds) in claims.items() if seconds < size / bandwidth]


@wrong("too_fast", "It comes out as if the two sides of `/` were exchanged, at")
def divided_the_other_way(claims, peak, bandwidth):
    return [name for name, (ops, size, s) in claims.items() if s < max(peak / ops, bandwidth / size)]


@wrong("too_fast", "It comes out as if `operations` and `size` were exchanged.")
def operations_and_bytes_exchanged(claims, peak, bandwidth):
    return [name for name, (size, ops, s) in claims.items() if s < max(ops / peak, size / bandwidth)]


@wrong("bytes_kept", "It comes out as if `config.n_layer` were left out.")
def one_layer_of_states(l, config, number_bytes):
    kv = 2 * config.n_layer * l * config.d_model * number_bytes
    state = config.nheads * config.headdim * config.d_state * 4
    return kv, state + (config.d_conv - 1) * config.conv_dim * number_bytes


@wrong("bytes_kept", "It comes out as if `config.d_model` stood where")
def a_state_as_wide_as_the_stream(l, config, number_bytes):
    kv = 2 * config.n_layer * l * config.d_model * number_bytes
    state = config.d_model * config.d_state * 4
    return kv, config.n_layer * (state + (config.d_conv - 1) * config.conv_dim * number_bytes)


@wrong("bytes_kept", "It comes out as if `config.n_layer` multiplied one term")
def the_window_once(l, config, number_bytes):
    kv = 2 * config.n_layer * l * config.d_model * number_bytes
    state = config.nheads * config.headdim * config.d_state * 4
    return kv, config.n_layer * state + (config.d_conv - 1) * config.conv_dim * number_bytes
