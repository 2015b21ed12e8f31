"""Further wrong answers to notebook 07, written before its list of mistakes was read again."""

import math

from support.learners.collect import wrong


def _parts(config):
    d, d_in, h = config.d_model, config.d_inner, config.nheads
    gn = config.ngroups * config.d_state
    conv = d_in + 2 * gn
    rows = math.ceil(config.vocab_size / config.pad_vocab_size_multiple) * config.pad_vocab_size_multiple
    return d, d_in, h, gn, conv, rows


# residual_block


@wrong("residual_block", "The stream was rounded to the dtype of the weights on the")
def stream_in_the_dtype_of_the_weights(u, norm, mixer):
    x = u.to(norm.weight.dtype)
    return (x + mixer(norm(x))).float()


@wrong("residual_block", "The mixer got the stream and its normalised copy in a sum.")
def mixer_reads_the_sum(u, norm, mixer):
    return mixer(u + norm(u)).float()


@wrong("residual_block", "The stream is lost: the block must add to what came in, not")
def only_the_mixer(u, norm, mixer):
    return mixer(norm(u.to(norm.weight.dtype))).float()


@wrong("residual_block", "It comes out as if `mixer(norm(u))` were added twice.")
def twice_the_mixer(u, norm, mixer):
    y = mixer(norm(u))
    return u + y + y


# next_token_logits


@wrong("next_token_logits", "The result has gone through a softmax: give what goes into")
def probabilities(u, norm, table, vocab_size):
    return (norm(u) @ table.T).softmax(dim=-1)[..., :vocab_size]


@wrong("next_token_logits", "It comes out as if `norm` were applied to `table` as well.")
def normed_on_both_sides(u, norm, table, vocab_size):
    return norm(u) @ norm(table[:vocab_size]).T


@wrong("next_token_logits", "The result ends too early: it has 4 of 5 entries along axis")
def cut_from_the_stream(u, norm, table, vocab_size):
    logits = norm(u) @ table.T
    return logits[..., : vocab_size - 1]


# merge_pair


@wrong("merge_pair", "The last token got lost. It has no neighbour to its right,")
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


@wrong("merge_pair", "The result is in reversed order.")
def from_the_right(ids, pair, new_id):
    out, i = [], len(ids) - 1
    while i >= 0:
        if i > 0 and (ids[i - 1], ids[i]) == tuple(pair):
            out.insert(0, new_id)
            i -= 2
        else:
            out.insert(0, ids[i])
            i -= 1
    return out


@wrong("merge_pair", "Only the first pair was merged. One merge replaces the pair")
def merges_again_and_again(ids, pair, new_id):
    out = list(ids)
    while tuple(pair) in zip(out, out[1:], strict=False):
        i = list(zip(out, out[1:], strict=False)).index(tuple(pair))
        out[i : i + 2] = [new_id]
        break
    return out


@wrong("merge_pair", "The two were merged in the wrong order as well: 2 1 is")
def merges_in_either_order(ids, pair, new_id):
    out, i = [], 0
    while i < len(ids):
        if i + 1 < len(ids) and {ids[i], ids[i + 1]} == set(pair):
            out.append(new_id)
            i += 2
        else:
            out.append(ids[i])
            i += 1
    return out


# as_bits_per_byte


@wrong("as_bits_per_byte", "It comes out as if a logarithm were taken where a division")
def log2_of_the_nats(nats_per_token, bytes_per_token):
    return math.log2(nats_per_token) / bytes_per_token


@wrong("as_bits_per_byte", "It comes out as if `log10` stood where `log` belongs.")
def log10(nats_per_token, bytes_per_token):
    return nats_per_token / math.log10(2) / bytes_per_token


@wrong("as_bits_per_byte", "This is a perplexity, exp of the nats: among how many")
def perplexity(nats_per_token, bytes_per_token):
    return math.exp(nats_per_token) / bytes_per_token


# count_parameters


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


# scale_for_depth


@wrong("scale_for_depth", "A layer of a transformer adds twice to the stream, after")
def two_additions_a_block(weight, n_layer):
    return weight / math.sqrt(2 * n_layer)


@wrong("scale_for_depth", "Every number of the result is 0.4061 times what it should")
def of_the_variance(weight, n_layer):
    return weight / weight.std() / math.sqrt(n_layer)


@wrong("scale_for_depth", "Every number of the result is 0.125 times what it should be.")
def log_of_depth(weight, n_layer):
    return weight / n_layer**2
