"""A second set for notebook 11, a third one for notebook 12."""

import math
import statistics

import torch
from support.learners.collect import wrong

# 11 Limits


@wrong("read_back", "")
def a_mean_of_what_was_written(keys, values):
    state = values.T @ keys / len(keys)
    return keys @ state.T


@wrong("read_back", "")
def by_the_length_of_the_key(keys, values):
    return keys @ (keys.T @ values) / keys.norm(dim=1, keepdim=True)


@wrong("read_back", "")
def without_its_own_value(keys, values):
    overlaps = keys @ keys.T
    overlaps.fill_diagonal_(0)
    return overlaps @ values


@wrong("expected_error", "")
def columns_over_pairs(m, n):
    return (n - 1) / m


@wrong("expected_error", "")
def one_column_less(m, n):
    return (m - 1) / (n - 1)


@wrong("expected_error", "")
def of_all_pairs_together(m, n):
    return m * (m - 1) / n


@wrong("exact_queries", "")
def not_inverted(keys):
    return keys @ keys.T @ keys


@wrong("exact_queries", "")
def one_over_each(keys):
    return (1 / (keys @ keys.T)) @ keys


@wrong("exact_queries", "")
def lying_down(keys):
    return torch.linalg.pinv(keys)


@wrong("attend", "")
def divided_by_sharpness(queries, keys, values, sharpness):
    return (queries @ keys.T / sharpness).softmax(-1) @ values


@wrong("attend", "")
def sharpened_too_late(queries, keys, values, sharpness):
    return sharpness * (queries @ keys.T).softmax(-1) @ values


@wrong("attend", "")
def the_root_of_n_as_well(queries, keys, values, sharpness):
    weights = (sharpness * queries @ keys.T / math.sqrt(keys.shape[1])).softmax(-1)
    return weights @ values


@wrong("bits_by_position", "")
def mean_over_files(nats, sizes, edges):
    rates = [(nats[:, a:b].sum(1) / sizes[:, a:b].sum(1)).mean() for a, b in zip(edges[:-1], edges[1:], strict=True)]
    return torch.stack(rates) / math.log(2)


@wrong("bits_by_position", "")
def both_edges_count(nats, sizes, edges):
    rates = []
    for a, b in zip(edges[:-1], edges[1:], strict=True):
        rates.append(nats[:, a : b + 1].sum() / sizes[:, a : b + 1].sum())
    return torch.stack(rates) / math.log(2)


@wrong("bits_by_position", "")
def mean_over_tokens(nats, sizes, edges):
    rates = [(nats[:, a:b] / sizes[:, a:b]).mean() for a, b in zip(edges[:-1], edges[1:], strict=True)]
    return torch.stack(rates) / math.log(2)


@wrong("stack_bytes", "")
def the_two_exchanged(l, mixers, state_bytes, token_bytes):
    return mixers.count("attention") * state_bytes + l * mixers.count("mamba2") * token_bytes


@wrong("stack_bytes", "")
def of_one_token(l, mixers, state_bytes, token_bytes):
    return mixers.count("mamba2") * state_bytes + mixers.count("attention") * token_bytes


@wrong("stack_bytes", "")
def both_in_every_layer(l, mixers, state_bytes, token_bytes):
    return len(mixers) * (state_bytes + l * token_bytes)


# 12 MPS vs CPU


@wrong("median_seconds", "")
def the_slowest(machine, work, rounds):
    machine.ask(work)
    machine.wait()
    seconds = []
    for _ in range(rounds):
        start = machine.now()
        machine.ask(work)
        machine.wait()
        seconds.append(machine.now() - start)
    return max(seconds)


@wrong("median_seconds", "")
def a_clock_set_once(machine, work, rounds):
    machine.ask(work)
    machine.wait()
    seconds, start = [], machine.now()
    for _ in range(rounds):
        machine.ask(work)
        machine.wait()
        seconds.append(machine.now() - start)
    return statistics.median(seconds)


@wrong("median_seconds", "")
def the_middle_without_sorting(machine, work, rounds):
    machine.ask(work)
    machine.wait()
    seconds = []
    for _ in range(rounds):
        start = machine.now()
        machine.ask(work)
        machine.wait()
        seconds.append(machine.now() - start)
    return seconds[rounds // 2]


@wrong("crossover", "")
def its_index(sizes, first, second):
    found = None
    for i in reversed(range(len(sizes))):
        if second[i] >= first[i]:
            break
        found = i
    return found


@wrong("crossover", "")
def a_tie_is_a_win(sizes, first, second):
    found = None
    for size, one, other in zip(sizes[::-1], first[::-1], second[::-1], strict=True):
        if other > one:
            break
        found = size
    return found


@wrong("crossover", "")
def every_size_that_wins(sizes, first, second):
    wins = [size for size, one, other in zip(sizes, first, second, strict=True) if other < one]
    return wins[-1] if wins else None


@wrong("projection_cost", "")
def nothing_is_written(l, d_in, d_out, number_bytes):
    return 2 * l * d_in * d_out, (l * d_in + d_in * d_out) * number_bytes + l * d_out


@wrong("projection_cost", "")
def with_a_bias(l, d_in, d_out, number_bytes):
    numbers = l * d_in + (d_in + 1) * d_out + l * d_out
    return 2 * l * d_in * d_out + l * d_out, numbers * number_bytes


@wrong("projection_cost", "")
def all_multiplied(l, d_in, d_out, number_bytes):
    return 2 * l * d_in * d_out, l * d_in * d_out * number_bytes


@wrong("too_fast", "")
def bandwidth_alone(claims, peak, bandwidth):
    return [name for name, (_, size, seconds) in claims.items() if seconds < size / bandwidth]


@wrong("too_fast", "")
def divided_the_other_way(claims, peak, bandwidth):
    return [name for name, (ops, size, s) in claims.items() if s < max(peak / ops, bandwidth / size)]


@wrong("too_fast", "")
def operations_and_bytes_exchanged(claims, peak, bandwidth):
    return [name for name, (size, ops, s) in claims.items() if s < max(ops / peak, size / bandwidth)]


@wrong("bytes_kept", "")
def one_layer_of_states(l, config, number_bytes):
    kv = 2 * config.n_layer * l * config.d_model * number_bytes
    state = config.nheads * config.headdim * config.d_state * 4
    return kv, state + (config.d_conv - 1) * config.conv_dim * number_bytes


@wrong("bytes_kept", "")
def a_state_as_wide_as_the_stream(l, config, number_bytes):
    kv = 2 * config.n_layer * l * config.d_model * number_bytes
    state = config.d_model * config.d_state * 4
    return kv, config.n_layer * (state + (config.d_conv - 1) * config.conv_dim * number_bytes)


@wrong("bytes_kept", "")
def the_window_once(l, config, number_bytes):
    kv = 2 * config.n_layer * l * config.d_model * number_bytes
    state = config.nheads * config.headdim * config.d_state * 4
    return kv, config.n_layer * state + (config.d_conv - 1) * config.conv_dim * number_bytes
