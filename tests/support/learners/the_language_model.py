"""Answers to notebook 07."""

import math

import numpy as np
import torch
from support.learners.collect import right, wrong

# residual_block


@wrong("residual_block", "The stream is lost")
def no_skip(u, norm, mixer):
    return mixer(norm(u))


@wrong("residual_block", "Here the norm takes the straight way too")
def adds_the_normed(u, norm, mixer):
    normed = norm(u)
    return normed + mixer(normed)


@wrong("residual_block", "The norm stands behind the mixer")
def norm_after_the_mixer(u, norm, mixer):
    return u + norm(mixer(u.to(next(mixer.parameters()).dtype)))


@right("residual_block")
def added_in_float(u, norm, mixer):
    return mixer(norm(u)).float() + u


@right("residual_block")
def cast_to_the_weight(u, norm, mixer):
    change = mixer(norm(u).to(next(mixer.parameters()).dtype))
    return torch.add(u, change)


@right("residual_block")
def block_in_float64(u, norm, mixer):
    return u.double() + mixer(norm(u)).double()


# next_token_logits


@wrong("next_token_logits", "The final norm is missing")
def without_the_norm(u, norm, table, vocab_size):
    return u @ table[:vocab_size].T


@wrong("next_token_logits", "The rows of the table beyond `vocab_size` are padding and")
def padding_rows_kept(u, norm, table, vocab_size):
    return norm(u) @ table.T


@wrong("next_token_logits", "These are probabilities already")
def gives_probabilities(u, norm, table, vocab_size):
    return torch.softmax(norm(u) @ table[:vocab_size].T, -1)


@right("next_token_logits")
def logits_by_einsum(u, norm, table, vocab_size):
    return torch.einsum("...d,vd->...v", norm(u), table)[..., :vocab_size]


@right("next_token_logits")
def logits_by_linear(u, norm, table, vocab_size):
    return torch.nn.functional.linear(norm(u), table[:vocab_size]).double()


@right("next_token_logits")
def logits_by_numpy(u, norm, table, vocab_size):
    return norm(u).detach().numpy() @ table.detach().numpy()[:vocab_size].T


# merge_pair


@wrong("merge_pair", "A token was used twice")
def merges_overlapping(ids, pair, new_id):
    out = []
    for i, one in enumerate(ids):
        if i + 1 < len(ids) and (one, ids[i + 1]) == tuple(pair):
            out.append(new_id)
        elif not (i and (ids[i - 1], one) == tuple(pair)):
            out.append(one)
    return out


@wrong("merge_pair", "The second token of the pair is still there")
def keeps_the_second(ids, pair, new_id):
    out = []
    for i, one in enumerate(ids):
        out.append(new_id if tuple(ids[i : i + 2]) == tuple(pair) else one)
    return out


@wrong("merge_pair", "The last token got lost")
def loses_the_last(ids, pair, new_id):
    out, i = [], 0
    while i < len(ids) - 1:
        if (ids[i], ids[i + 1]) == tuple(pair):
            out.append(new_id)
            i += 2
        else:
            out.append(ids[i])
            i += 1
    return out


@right("merge_pair")
def as_a_tuple(ids, pair, new_id):
    out, rest = [], list(ids)
    while rest:
        if rest[:2] == list(pair):
            out.append(new_id)
            rest = rest[2:]
        else:
            out.append(rest.pop(0))
    return tuple(out)


@right("merge_pair")
def by_looking_back(ids, pair, new_id):
    out, free = [], False
    for one in ids:
        if free and (out[-1], one) == tuple(pair):
            out[-1], free = new_id, False
        else:
            out.append(one)
            free = True
    return out


@right("merge_pair")
def as_a_tensor(ids, pair, new_id):
    return torch.tensor(as_a_tuple(ids, pair, new_id), dtype=torch.long)


# as_bits_per_byte


@wrong("as_bits_per_byte", "These are still nats")
def nats_per_byte(nats_per_token, bytes_per_token):
    return nats_per_token / bytes_per_token


@wrong("as_bits_per_byte", "The bytes go the other way")
def times_the_bytes(nats_per_token, bytes_per_token):
    return nats_per_token / math.log(2) * bytes_per_token


@wrong("as_bits_per_byte", "From nats to bits the number grows")
def times_ln_2(nats_per_token, bytes_per_token):
    return nats_per_token * math.log(2) / bytes_per_token


@right("as_bits_per_byte")
def by_log2_of_e(nats_per_token, bytes_per_token):
    return nats_per_token * math.log2(math.e) / bytes_per_token


@right("as_bits_per_byte")
def bits_by_numpy(nats_per_token, bytes_per_token):
    return np.float64(nats_per_token) / np.log(2) / bytes_per_token


@right("as_bits_per_byte")
def bits_in_a_tensor(nats_per_token, bytes_per_token):
    return torch.tensor(nats_per_token) / (bytes_per_token * torch.log(torch.tensor(2.0)))


# count_parameters


def _block(config):
    per_head = 3 * config.nheads  # dt_bias, A_log, D
    in_proj = config.d_model * (config.d_inner + config.conv_dim + config.nheads)
    conv = config.conv_dim * (config.d_conv + 1)
    return config.d_model + in_proj + conv + per_head + config.d_inner + config.d_inner * config.d_model


@wrong("count_parameters", "The table has more rows than there are tokens")
def without_the_padding_rows(config):
    return config.vocab_size * config.d_model + config.n_layer * _block(config) + config.d_model


@wrong("count_parameters", "The last norm is missing")
def without_the_last_norm(config):
    return config.padded_vocab_size * config.d_model + config.n_layer * _block(config)


@wrong("count_parameters", "The table was counted twice")
def counts_the_head_too(config):
    return 2 * config.padded_vocab_size * config.d_model + config.n_layer * _block(config) + config.d_model


@right("count_parameters")
def as_a_float(config):
    return float(config.padded_vocab_size * config.d_model + config.n_layer * _block(config) + config.d_model)


@right("count_parameters")
def as_a_numpy_integer(config):
    return np.sum([config.padded_vocab_size * config.d_model, config.n_layer * _block(config), config.d_model])


@right("count_parameters")
def sum_of_a_list(config):
    return sum([config.d_model * (config.padded_vocab_size + 1)] + [_block(config)] * config.n_layer)


# scale_for_depth


@wrong("scale_for_depth", "Divided by n, the sum of n blocks shrinks as the model")
def divides_by_n(weight, n_layer):
    return weight / n_layer


@wrong("scale_for_depth", "This makes the sum grow even faster")
def multiplies_by_the_root(weight, n_layer):
    return weight * math.sqrt(n_layer)


@wrong("scale_for_depth", "A layer of a transformer adds twice to the stream, after")
def as_for_two_parts_a_layer(weight, n_layer):
    return weight / math.sqrt(2 * n_layer)


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
