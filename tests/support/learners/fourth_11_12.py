"""A third set for notebook 11, a fourth one for notebook 12."""

import math
import statistics

import torch
from support.learners.collect import unexplained, wrong
from support.learners.third_11_12 import seconds_of

# 11 Limits


@wrong("read_back", "A softmax makes the overlaps shares that add up to 1. A state")
def softmax_over_pairs(keys, values):
    return (keys @ keys.T).softmax(-1) @ values


@unexplained("read_back")
def the_last_pair_alone(keys, values):
    state = torch.outer(values[-1], keys[-1])
    return keys @ state.T


@wrong("read_back", "It comes out as if `values` stood where `keys` belongs.")
def values_read_by_values(keys, values):
    return values @ values.T @ values


@wrong("expected_error", "It says that up to n pairs nothing is disturbed. That is so")
def pairs_minus_columns(m, n):
    return max(0, m - n) / n


@wrong("expected_error", "It comes out as if `m` stood where `n` belongs.")
def divided_by_the_pairs(m, n):
    return (m - 1) / m


@wrong("expected_error", "The result is `(m - 1) / n` times what it should be.")
def squared_once_more(m, n):
    return ((m - 1) / n) ** 2


@unexplained("exact_queries")
def inverse_of_columns(keys):
    return keys @ torch.linalg.inv(keys.T @ keys + 1e-6 * torch.eye(keys.shape[1]))


@wrong("exact_queries", "Each query finds its own key rightly, and something of the")
def divided_by_own_overlap(keys):
    return keys / (keys * keys).sum(1, keepdim=True)


@unexplained("exact_queries")
def identity(keys):
    return torch.eye(len(keys), keys.shape[1])


@wrong("attend", "The sharpness is left out.")
def sharpness_added(queries, keys, values, sharpness):
    return (queries @ keys.T + sharpness).softmax(-1) @ values


@wrong("attend", "It takes the best match and nothing else. That is what a")
def nearest_alone(queries, keys, values, sharpness):
    return values[(queries @ keys.T).argmax(-1)]


@wrong("attend", "It comes out as if `keys` stood where `values` belongs.")
def values_and_keys_exchanged(queries, keys, values, sharpness):
    return (sharpness * queries @ keys.T).softmax(-1) @ keys


@wrong("bits_by_position", "It comes out as if `*` stood where `/` belongs.")
def multiplied_by_ln_2(nats, sizes, edges):
    parts = [(nats[:, a:b].sum() / sizes[:, a:b].sum()) * math.log(2) for a, b in zip(edges, edges[1:], strict=False)]
    return torch.stack(parts)


@wrong("bits_by_position", "It comes out as if the two sides of `/` were exchanged.")
def bytes_over_nats(nats, sizes, edges):
    parts = [sizes[:, a:b].sum() / nats[:, a:b].sum() for a, b in zip(edges, edges[1:], strict=False)]
    return torch.stack(parts) / math.log(2)


@wrong("bits_by_position", "It comes out as if `:` and `part` were exchanged, at each")
def cut_by_files(nats, sizes, edges):
    parts = [nats[a:b].sum() / sizes[a:b].sum() for a, b in zip(edges, edges[1:], strict=False)]
    return torch.stack(parts) / math.log(2)


@wrong("stack_bytes", "It comes out as if it were `l * token_bytes` in every case.")
def only_attention_layers(l, mixers, state_bytes, token_bytes):
    return l * len(mixers) * token_bytes


@wrong("stack_bytes", "It comes out as if `mixers.count('mamba2')` were left out.")
def one_state_for_all(l, mixers, state_bytes, token_bytes):
    return state_bytes + l * mixers.count("attention") * token_bytes


@wrong("stack_bytes", "It comes out as if `l * mixers.count('attention') *")
def keys_and_values_twice(l, mixers, state_bytes, token_bytes):
    return mixers.count("mamba2") * state_bytes + 2 * l * mixers.count("attention") * token_bytes


# 12 MPS vs CPU


@wrong("median_seconds", "The clock is read when the work has been handed over, not")
def wait_outside_the_clock(machine, work, rounds):
    machine.ask(work)
    machine.wait()
    seconds = []
    for _ in range(rounds):
        start = machine.now()
        machine.ask(work)
        end = machine.now()
        machine.wait()
        seconds.append(end - start)
    return statistics.median(seconds)


@wrong("median_seconds", "The result has the wrong sign: every number is minus what it")
def end_minus_start_turned(machine, work, rounds):
    return -statistics.median(seconds_of(machine, work, rounds))


@wrong("median_seconds", "It comes out as if it were divided by `rounds` once more.")
def divided_by_the_rounds(machine, work, rounds):
    return statistics.median(seconds_of(machine, work, rounds)) / rounds


@unexplained("crossover")
def none_for_always(sizes, first, second):
    for i in range(1, len(sizes)):
        if second[i - 1] >= first[i - 1] and all(b < a for a, b in zip(first[i:], second[i:], strict=True)):
            return sizes[i]
    return None


@wrong("crossover", "It comes out as if `second` stood where `sizes` belongs.")
def seconds_for_a_size(sizes, first, second):
    found = None
    for one, other in zip(reversed(first), reversed(second), strict=True):
        if other >= one:
            break
        found = other
    return found


@wrong("crossover", "That is the largest size at which the second is faster. Go on")
def looks_at_the_last_alone(sizes, first, second):
    return sizes[-1] if second[-1] < first[-1] else None


@unexplained("projection_cost")
def a_sum_of_sizes(l, d_in, d_out, number_bytes):
    return 2 * l * (d_in + d_out), (l * d_in + d_in * d_out + l * d_out) * number_bytes


@wrong("projection_cost", "The matrix is missing from the bytes. For a single token it")
def the_matrix_forgotten(l, d_in, d_out, number_bytes):
    return 2 * l * d_in * d_out, (l * d_in + l * d_out) * number_bytes


@wrong("projection_cost", "The number of bytes is 2 times what it should be.")
def everything_read_and_written(l, d_in, d_out, number_bytes):
    return 2 * l * d_in * d_out, 2 * (l * d_in + d_in * d_out + l * d_out) * number_bytes


@wrong("too_fast", "A time is already impossible if it is below one of the two")
def slower_than_one_of_them(claims, peak, bandwidth):
    return [name for name, (ops, size, s) in claims.items() if s < min(ops / peak, size / bandwidth)]


@wrong("too_fast", "The two times are added, as if the machine computed only")
def sum_of_both(claims, peak, bandwidth):
    return [name for name, (ops, size, s) in claims.items() if s < ops / peak + size / bandwidth]


@wrong("too_fast", "It comes out as if `*` stood where `/` belongs, at each place.")
def multiplied_by_the_peak(claims, peak, bandwidth):
    return [name for name, (ops, size, s) in claims.items() if s < max(ops * peak, size * bandwidth)]


@wrong("bytes_kept", "This is one layer. Each layer keeps its own.")
def keys_for_one_layer(l, config, number_bytes):
    state = config.nheads * config.headdim * config.d_state * 4
    window = (config.d_conv - 1) * config.conv_dim * number_bytes
    return 2 * l * config.d_model * number_bytes, config.n_layer * (state + window)


@wrong("bytes_kept", "The convolution's window is missing: d_conv - 1 inputs of")
def no_window(l, config, number_bytes):
    kv = 2 * config.n_layer * l * config.d_model * number_bytes
    return kv, config.n_layer * config.nheads * config.headdim * config.d_state * 4


@wrong("bytes_kept", "It comes out as if `config.headdim` were left out.")
def a_state_of_one_channel_a_head(l, config, number_bytes):
    kv = 2 * config.n_layer * l * config.d_model * number_bytes
    state = config.nheads * config.d_state * 4
    return kv, config.n_layer * (state + (config.d_conv - 1) * config.conv_dim * number_bytes)
