"""Answers to `bytes_kept`."""

import numpy as np
from support.learners.collect import right, wrong


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


@wrong("bytes_kept", "It comes out as if `config.d_inner` stood where")
def window_without_b_and_c(l, config, number_bytes):
    kv = 2 * l * config.d_model * config.n_layer * number_bytes
    state = config.nheads * config.headdim * config.d_state * 4
    window = (config.d_conv - 1) * config.d_inner * number_bytes
    return kv, config.n_layer * (state + window)


@wrong("bytes_kept", "It comes out as if 4 stood where `number_bytes` belongs.")
def windows_in_four_bytes(l, config, number_bytes):
    kv = 2 * l * config.d_model * config.n_layer * number_bytes
    state = config.nheads * config.headdim * config.d_state
    window = (config.d_conv - 1) * config.conv_dim
    return kv, config.n_layer * (state + window) * 4


@wrong("bytes_kept", "It comes out as if it were multiplied by `l` once more.")
def cache_grows_too(l, config, number_bytes):
    kv = 2 * l * config.d_model * config.n_layer * number_bytes
    state = config.nheads * config.headdim * config.d_state * 4
    window = (config.d_conv - 1) * config.conv_dim * number_bytes
    return kv, l * config.n_layer * (state + window)


@wrong("bytes_kept", "It comes out as if `config.d_inner` stood where `config.d_model` belongs.")
def keys_as_wide_as_inside(l, config, number_bytes):
    kv = 2 * l * config.d_inner * config.n_layer * number_bytes
    state = config.nheads * config.headdim * config.d_state * 4
    window = (config.d_conv - 1) * config.conv_dim * number_bytes
    return kv, config.n_layer * (state + window)


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


@wrong("bytes_kept", "It comes out as if `config.d_model` stood where")
def window_of_the_stream(l, config, number_bytes):
    kv = 2 * config.n_layer * l * config.d_model * number_bytes
    state = config.nheads * config.headdim * config.d_state * 4
    return kv, config.n_layer * (state + (config.d_conv - 1) * config.d_model * number_bytes)


@wrong("bytes_kept", "This is one layer. Each layer keeps its own.")
def one_layer(l, config, number_bytes):
    state = config.nheads * config.headdim * config.d_state * 4
    window = config.conv_dim * (config.d_conv - 1) * number_bytes
    return 2 * l * config.d_model * number_bytes, state + window


@wrong("bytes_kept", "It comes out as if 3 stood where 2 belongs.")
def queries_too(l, config, number_bytes):
    state = config.nheads * config.headdim * config.d_state * 4
    window = config.conv_dim * (config.d_conv - 1) * number_bytes
    return 3 * l * config.d_model * number_bytes * config.n_layer, (state + window) * config.n_layer


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
