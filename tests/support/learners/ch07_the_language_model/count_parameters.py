"""Answers to `count_parameters`."""

import math

import numpy as np
from support.learners.collect import right, wrong


def _block(config):
    per_head = 3 * config.nheads  # dt_bias, A_log, D
    in_proj = config.d_model * (config.d_inner + config.conv_dim + config.nheads)
    conv = config.conv_dim * (config.d_conv + 1)
    return config.d_model + in_proj + conv + per_head + config.d_inner + config.d_inner * config.d_model


def _parts(config):
    d, d_in, h = config.d_model, config.d_inner, config.nheads
    gn = config.ngroups * config.d_state
    conv = d_in + 2 * gn
    rows = math.ceil(config.vocab_size / config.pad_vocab_size_multiple) * config.pad_vocab_size_multiple
    return d, d_in, h, gn, conv, rows


@wrong("count_parameters", "The table has more rows than there are tokens")
def without_the_padding_rows(config):
    return config.vocab_size * config.d_model + config.n_layer * _block(config) + config.d_model


@wrong("count_parameters", "The last norm is missing")
def without_the_last_norm(config):
    return config.padded_vocab_size * config.d_model + config.n_layer * _block(config)


@wrong("count_parameters", "The table was counted twice")
def counts_the_head_too(config):
    return 2 * config.padded_vocab_size * config.d_model + config.n_layer * _block(config) + config.d_model


@wrong("count_parameters", "D is counted for each channel. It has one number for each")
def a_skip_for_each_channel(config):
    d, d_in, h, gn, conv, rows = _parts(config)
    block = d + d * (2 * d_in + 2 * gn + h) + conv * (config.d_conv + 1) + 2 * h + d_in + d_in + d_in * d
    return rows * d + config.n_layer * block + d


@wrong("count_parameters", "It comes out as if a term or a factor were left out.")
def no_norm_before_the_mixers(config):
    d, d_in, h, gn, conv, rows = _parts(config)
    block = d * (2 * d_in + 2 * gn + h) + conv * (config.d_conv + 1) + 3 * h + d_in + d_in * d
    return rows * d + config.n_layer * block + d


@wrong("count_parameters", "The convolution has a bias: d_conv weights for each of its")
def one_convolution_bias(config):
    d, d_in, h = config.d_model, config.d_inner, config.nheads
    conv = d_in + 2 * config.ngroups * config.d_state
    m = config.pad_vocab_size_multiple
    rows = -(-config.vocab_size // m) * m
    block = d + d * (d_in + conv + h) + conv * config.d_conv + 3 * h + d_in + d_in * d
    return rows * d + config.n_layer * block + d


@wrong("count_parameters", "It comes out as if a term or a factor were left out.")
def d_state_for_d_inner(config):
    d, inner, heads = config.d_model, config.d_inner, config.nheads
    mixer = d * (inner + config.conv_dim + heads) + config.conv_dim * (config.d_conv + 1) + 3 * heads + inner * d
    return config.padded_vocab_size * d + config.n_layer * (d + mixer) + d


@wrong("count_parameters", "It comes out as if a term or a factor were left out.")
def no_dt_in_the_projection(config):
    d, inner, heads = config.d_model, config.d_inner, config.nheads
    mixer = d * (inner + config.conv_dim) + config.conv_dim * (config.d_conv + 1) + 3 * heads + inner + inner * d
    return config.padded_vocab_size * d + config.n_layer * (mixer + d) + d


@wrong("count_parameters", "The result is too large by `config.nheads * config.n_layer *")
def a_decay_for_each_state(config):
    d, inner, heads = config.d_model, config.d_inner, config.nheads
    in_proj = d * (inner + config.conv_dim + heads)
    conv = config.conv_dim * (config.d_conv + 1)
    mixer = in_proj + conv + heads * config.d_state + 2 * heads + inner + inner * d
    return config.padded_vocab_size * d + config.n_layer * (mixer + d) + d


@wrong("count_parameters", "It comes out as if `config.d_inner` stood where")
def convolves_x_alone(config):
    d, inner, heads = config.d_model, config.d_inner, config.nheads
    in_proj = d * (inner + config.conv_dim + heads)
    conv = inner * config.d_conv + inner
    mixer = in_proj + conv + 3 * heads + inner + inner * d
    return config.padded_vocab_size * d + config.n_layer * (mixer + d) + d


@wrong("count_parameters", "The result is too large by `config.conv_dim * config.d_conv *")
def convolves_across_channels(config):
    d, inner, heads = config.d_model, config.d_inner, config.nheads
    in_proj = d * (inner + config.conv_dim + heads)
    conv = config.conv_dim * config.conv_dim * config.d_conv + config.conv_dim
    mixer = in_proj + conv + 3 * heads + inner + inner * d
    return config.padded_vocab_size * d + config.n_layer * (d + mixer) + d


@wrong("count_parameters", "The result is too large by `config.d_model * config.n_layer`")
def two_norms_a_layer(config):
    d, inner, heads = config.d_model, config.d_inner, config.nheads
    conv = config.conv_dim * (config.d_conv + 1)
    mixer = d * (inner + config.conv_dim + heads) + conv + 3 * heads + inner + inner * d
    return config.padded_vocab_size * d + config.n_layer * (2 * d + mixer) + d


@wrong("count_parameters", "It comes out as if `config.n_layer` were left out.")
def a_single_layer(config):
    d, inner, heads = config.d_model, config.d_inner, config.nheads
    in_proj = d * (inner + config.conv_dim + heads)
    conv = config.conv_dim * (config.d_conv + 1)
    return config.padded_vocab_size * d + d + in_proj + conv + 3 * heads + inner + inner * d + d


@wrong("count_parameters", "It gives the projections a bias. They have none here; only the")
def biases_in_the_projections(config):
    d, inner, heads = config.d_model, config.d_inner, config.nheads
    width = inner + config.conv_dim + heads
    conv = config.conv_dim * (config.d_conv + 1)
    mixer = d * width + width + conv + 3 * heads + inner + inner * d + d
    return config.padded_vocab_size * d + config.n_layer * (d + mixer) + d


@right("count_parameters")
def as_a_float(config):
    return float(config.padded_vocab_size * config.d_model + config.n_layer * _block(config) + config.d_model)


@right("count_parameters")
def as_a_numpy_integer(config):
    return np.sum([config.padded_vocab_size * config.d_model, config.n_layer * _block(config), config.d_model])


@right("count_parameters")
def sum_of_a_list(config):
    return sum([config.d_model * (config.padded_vocab_size + 1)] + [_block(config)] * config.n_layer)
