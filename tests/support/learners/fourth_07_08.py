"""A fourth set for notebooks 07 and 08."""

import math

import torch
import torch.nn.functional as F
from support.learners.collect import unexplained, wrong

# 07 The language model


@wrong("residual_block", "It comes out as if `norm` were applied to `u` as well.")
def normed_twice(u, norm, mixer):
    return u + mixer(norm(norm(u)))


@wrong("residual_block", "The result is 1/2 times what it should be.")
def halves_the_sum(u, norm, mixer):
    return (u + mixer(norm(u))) / 2


@wrong("residual_block", "It comes out as if `-` stood where `+` belongs.")
def takes_the_change_away(u, norm, mixer):
    return u - mixer(norm(u))


@wrong("next_token_logits", "The result is the last one alone, in shape (1, 5) where (1,")
def last_position_only(u, norm, table, vocab_size):
    return norm(u[..., -1, :]) @ table[:vocab_size].T


@wrong("next_token_logits", "The result ends too early: it has 4 of 5 entries along axis")
def one_row_short(u, norm, table, vocab_size):
    return norm(u) @ table[: vocab_size - 1].T


@unexplained("next_token_logits")
def norm_of_the_logits(u, norm, table, vocab_size):
    logits = u @ norm(table)[:vocab_size].T
    return logits


@unexplained("merge_pair")
def reports_the_old_id(ids, pair, new_id):
    merged, i = [], 0
    while i < len(ids):
        if i + 1 < len(ids) and (ids[i], ids[i + 1]) == pair:
            merged.append(ids[i])
            i += 2
        else:
            merged.append(ids[i])
            i += 1
    return merged


@wrong("merge_pair", "Both of a pair became the new id. It stands for the two")
def each_of_both_becomes_new(ids, pair, new_id):
    merged = list(ids)
    for i in range(len(ids) - 1):
        if (ids[i], ids[i + 1]) == pair:
            merged[i] = merged[i + 1] = new_id
    return merged


@wrong("merge_pair", "A pair at the very end is overlooked. The last place where")
def not_at_the_end(ids, pair, new_id):
    merged, i = [], 0
    while i < len(ids):
        if i < len(ids) - 2 and (ids[i], ids[i + 1]) == pair:
            merged.append(new_id)
            i += 2
        else:
            merged.append(ids[i])
            i += 1
    return merged


@wrong("as_bits_per_byte", "The bytes go the other way: a token of 3.5 bytes shares its")
def bits_times_bytes(nats_per_token, bytes_per_token):
    return nats_per_token / math.log(2) * bytes_per_token


@unexplained("as_bits_per_byte")
def powers_of_two(nats_per_token, bytes_per_token):
    return 2 ** (nats_per_token / bytes_per_token)


@wrong("as_bits_per_byte", "These are still nats. A bit is ln 2 nats: divide by it.")
def log2_for_ln2(nats_per_token, bytes_per_token):
    return nats_per_token / math.log2(2) / bytes_per_token


@unexplained("count_parameters")
def biases_in_the_projections(config):
    d, inner, heads = config.d_model, config.d_inner, config.nheads
    width = inner + config.conv_dim + heads
    conv = config.conv_dim * (config.d_conv + 1)
    mixer = d * width + width + conv + 3 * heads + inner + inner * d + d
    return config.padded_vocab_size * d + config.n_layer * (d + mixer) + d


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


@wrong("scale_for_depth", "The result is `weight` as it was given: nothing was done to")
def not_scaled(weight, n_layer):
    return weight.clone()


@wrong("scale_for_depth", "Every number of the result is 1.414 times what it should be.")
def root_of_the_weight(weight, n_layer):
    return weight / math.sqrt(weight.shape[0])


@wrong("scale_for_depth", "It comes out as if `n_layer` were one more.")
def one_layer_more(weight, n_layer):
    return weight / math.sqrt(n_layer + 1)


# 08 Training


@unexplained("next_token_loss")
def the_last_token_alone(logits, ids):
    return F.cross_entropy(logits[:, -2], ids[:, -1])


@wrong("next_token_loss", "It comes out as if 2 stood where 1 belongs.")
def two_tokens_ahead(logits, ids):
    return F.cross_entropy(logits[:, :-2].flatten(0, 1), ids[:, 2:].flatten())


@wrong("next_token_loss", "The result has shape (3,) where () is expected: the mean")
def a_loss_for_each_token(logits, ids):
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten(), reduction="none")


@wrong("learning_rate", "There is no warmup: the cosine begins with the first step. At")
def no_warmup(step, steps, peak, warmup):
    done = step / steps
    return peak * (0.1 + 0.9 * (1 + math.cos(math.pi * done)) / 2)


@wrong("learning_rate", "It begins at a tenth of the peak and grows. The cosine goes")
def the_cosine_grows(step, steps, peak, warmup):
    if step < warmup:
        return peak * (step + 1) / warmup
    done = (step - warmup) / (steps - warmup)
    return peak * (0.1 + 0.9 * (1 - math.cos(math.pi * done)) / 2)


@wrong("learning_rate", "It comes out as if `math.pi` were left out.")
def a_cosine_without_pi(step, steps, peak, warmup):
    if step < warmup:
        return peak * (step + 1) / warmup
    done = (step - warmup) / (steps - warmup)
    return peak * (0.1 + 0.9 * (1 + math.cos(done)) / 2)


@wrong("parameter_groups", "It comes out as if 0.0 stood where `weight_decay` belongs.")
def no_decay_anywhere(named, weight_decay):
    free = [w for name, w in named.items() if name.split(".")[-1] in ("dt_bias", "A_log", "D")]
    rest = [w for name, w in named.items() if name.split(".")[-1] not in ("dt_bias", "A_log", "D")]
    return [{"params": rest, "weight_decay": 0.0}, {"params": free, "weight_decay": 0.0}]


@wrong("parameter_groups", "No weight was exempt. The full names have a path in front, as")
def all_in_the_first_group(named, weight_decay):
    free = [w for name, w in named.items() if name.split(".")[-1] in ("dt_bias", "A_log", "D")]
    return [{"params": list(named.values()), "weight_decay": weight_decay}, {"params": free, "weight_decay": 0.0}]


@wrong("parameter_groups", "It comes out as if `'A_log'` were left out.")
def forgets_a_log(named, weight_decay):
    free = [w for name, w in named.items() if name.split(".")[-1] in ("dt_bias", "D")]
    rest = [w for name, w in named.items() if name.split(".")[-1] not in ("dt_bias", "D")]
    return [{"params": rest, "weight_decay": weight_decay}, {"params": free, "weight_decay": 0.0}]


@wrong("clip_gradients", "Short gradients are made longer: every step would be of the")
def divided_by_the_norm(gradients, max_norm):
    norm = torch.cat([g.flatten() for g in gradients]).norm()
    return [g / norm for g in gradients]


@wrong("clip_gradients", "What is too long is thrown away. It only has to be made")
def cut_off_when_too_long(gradients, max_norm):
    norm = torch.cat([g.flatten() for g in gradients]).norm()
    return [torch.zeros_like(g) if norm > max_norm else g for g in gradients]


@wrong("clip_gradients", "The quotient is upside down: what is twice too long has to be")
def norm_over_max(gradients, max_norm):
    norm = torch.cat([g.flatten() for g in gradients]).norm()
    return [g * min(1.0, float(norm / max_norm)) for g in gradients]


@wrong("adamw", "The decay is not scaled by the rate: each step would take")
def decays_towards_the_direction(weight, gradient, m, v, step, rate, decay):
    m = 0.9 * m + 0.1 * gradient
    v = 0.95 * v + 0.05 * gradient**2
    direction = m / (1 - 0.9**step) / ((v / (1 - 0.95**step)).sqrt() + 1e-8)
    return weight - rate * direction - decay * weight, m, v


@wrong("adamw", "v is the mean of the square: take its root before dividing.")
def divides_by_v_without_root(weight, gradient, m, v, step, rate, decay):
    m = 0.9 * m + 0.1 * gradient
    v = 0.95 * v + 0.05 * gradient**2
    direction = m / (1 - 0.9**step) / (v / (1 - 0.95**step) + 1e-8)
    return weight - rate * (direction + decay * weight), m, v


@wrong("adamw", "It comes out as if `abs` stood where the square belongs.")
def v_without_the_square(weight, gradient, m, v, step, rate, decay):
    m = 0.9 * m + 0.1 * gradient
    v = 0.95 * v + 0.05 * gradient.abs()
    direction = m / (1 - 0.9**step) / ((v / (1 - 0.95**step)).sqrt() + 1e-8)
    return weight - rate * (direction + decay * weight), m, v


@wrong("joined_loss", "It comes out as if `max` stood where `sum` belongs, at each")
def the_largest_part_alone(means, counts):
    return means[counts.argmax()]


@wrong("joined_loss", "It comes out as if `1 / counts` stood where `counts` belongs.")
def weighed_the_other_way(means, counts):
    return (means / counts).sum() / (1 / counts).sum()


@unexplained("joined_loss")
def of_the_sum(means, counts):
    return means.sum() * counts.sum() / len(counts)
