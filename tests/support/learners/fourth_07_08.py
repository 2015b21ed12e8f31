"""A fourth set for notebooks 07 and 08."""

import math

import torch
import torch.nn.functional as F
from support.learners.collect import wrong

# 07 The language model


@wrong("residual_block", "")
def normed_twice(u, norm, mixer):
    return u + mixer(norm(norm(u)))


@wrong("residual_block", "")
def halves_the_sum(u, norm, mixer):
    return (u + mixer(norm(u))) / 2


@wrong("residual_block", "")
def takes_the_change_away(u, norm, mixer):
    return u - mixer(norm(u))


@wrong("next_token_logits", "")
def last_position_only(u, norm, table, vocab_size):
    return norm(u[..., -1, :]) @ table[:vocab_size].T


@wrong("next_token_logits", "")
def one_row_short(u, norm, table, vocab_size):
    return norm(u) @ table[: vocab_size - 1].T


@wrong("next_token_logits", "")
def norm_of_the_logits(u, norm, table, vocab_size):
    logits = u @ norm(table)[:vocab_size].T
    return logits


@wrong("merge_pair", "")
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


@wrong("merge_pair", "")
def each_of_both_becomes_new(ids, pair, new_id):
    merged = list(ids)
    for i in range(len(ids) - 1):
        if (ids[i], ids[i + 1]) == pair:
            merged[i] = merged[i + 1] = new_id
    return merged


@wrong("merge_pair", "")
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


@wrong("as_bits_per_byte", "")
def bits_times_bytes(nats_per_token, bytes_per_token):
    return nats_per_token / math.log(2) * bytes_per_token


@wrong("as_bits_per_byte", "")
def powers_of_two(nats_per_token, bytes_per_token):
    return 2 ** (nats_per_token / bytes_per_token)


@wrong("as_bits_per_byte", "")
def log2_for_ln2(nats_per_token, bytes_per_token):
    return nats_per_token / math.log2(2) / bytes_per_token


@wrong("count_parameters", "")
def biases_in_the_projections(config):
    d, inner, heads = config.d_model, config.d_inner, config.nheads
    width = inner + config.conv_dim + heads
    conv = config.conv_dim * (config.d_conv + 1)
    mixer = d * width + width + conv + 3 * heads + inner + inner * d + d
    return config.padded_vocab_size * d + config.n_layer * (d + mixer) + d


@wrong("count_parameters", "")
def convolves_across_channels(config):
    d, inner, heads = config.d_model, config.d_inner, config.nheads
    in_proj = d * (inner + config.conv_dim + heads)
    conv = config.conv_dim * config.conv_dim * config.d_conv + config.conv_dim
    mixer = in_proj + conv + 3 * heads + inner + inner * d
    return config.padded_vocab_size * d + config.n_layer * (d + mixer) + d


@wrong("count_parameters", "")
def a_single_layer(config):
    d, inner, heads = config.d_model, config.d_inner, config.nheads
    in_proj = d * (inner + config.conv_dim + heads)
    conv = config.conv_dim * (config.d_conv + 1)
    return config.padded_vocab_size * d + d + in_proj + conv + 3 * heads + inner + inner * d + d


@wrong("scale_for_depth", "")
def not_scaled(weight, n_layer):
    return weight.clone()


@wrong("scale_for_depth", "")
def root_of_the_weight(weight, n_layer):
    return weight / math.sqrt(weight.shape[0])


@wrong("scale_for_depth", "")
def one_layer_more(weight, n_layer):
    return weight / math.sqrt(n_layer + 1)


# 08 Training


@wrong("next_token_loss", "")
def the_last_token_alone(logits, ids):
    return F.cross_entropy(logits[:, -2], ids[:, -1])


@wrong("next_token_loss", "")
def two_tokens_ahead(logits, ids):
    return F.cross_entropy(logits[:, :-2].flatten(0, 1), ids[:, 2:].flatten())


@wrong("next_token_loss", "")
def a_loss_for_each_token(logits, ids):
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten(), reduction="none")


@wrong("learning_rate", "")
def no_warmup(step, steps, peak, warmup):
    done = step / steps
    return peak * (0.1 + 0.9 * (1 + math.cos(math.pi * done)) / 2)


@wrong("learning_rate", "")
def the_cosine_grows(step, steps, peak, warmup):
    if step < warmup:
        return peak * (step + 1) / warmup
    done = (step - warmup) / (steps - warmup)
    return peak * (0.1 + 0.9 * (1 - math.cos(math.pi * done)) / 2)


@wrong("learning_rate", "")
def a_cosine_without_pi(step, steps, peak, warmup):
    if step < warmup:
        return peak * (step + 1) / warmup
    done = (step - warmup) / (steps - warmup)
    return peak * (0.1 + 0.9 * (1 + math.cos(done)) / 2)


@wrong("parameter_groups", "")
def no_decay_anywhere(named, weight_decay):
    free = [w for name, w in named.items() if name.split(".")[-1] in ("dt_bias", "A_log", "D")]
    rest = [w for name, w in named.items() if name.split(".")[-1] not in ("dt_bias", "A_log", "D")]
    return [{"params": rest, "weight_decay": 0.0}, {"params": free, "weight_decay": 0.0}]


@wrong("parameter_groups", "")
def all_in_the_first_group(named, weight_decay):
    free = [w for name, w in named.items() if name.split(".")[-1] in ("dt_bias", "A_log", "D")]
    return [{"params": list(named.values()), "weight_decay": weight_decay}, {"params": free, "weight_decay": 0.0}]


@wrong("parameter_groups", "")
def forgets_a_log(named, weight_decay):
    free = [w for name, w in named.items() if name.split(".")[-1] in ("dt_bias", "D")]
    rest = [w for name, w in named.items() if name.split(".")[-1] not in ("dt_bias", "D")]
    return [{"params": rest, "weight_decay": weight_decay}, {"params": free, "weight_decay": 0.0}]


@wrong("clip_gradients", "")
def divided_by_the_norm(gradients, max_norm):
    norm = torch.cat([g.flatten() for g in gradients]).norm()
    return [g / norm for g in gradients]


@wrong("clip_gradients", "")
def cut_off_when_too_long(gradients, max_norm):
    norm = torch.cat([g.flatten() for g in gradients]).norm()
    return [torch.zeros_like(g) if norm > max_norm else g for g in gradients]


@wrong("clip_gradients", "")
def norm_over_max(gradients, max_norm):
    norm = torch.cat([g.flatten() for g in gradients]).norm()
    return [g * min(1.0, float(norm / max_norm)) for g in gradients]


@wrong("adamw", "")
def decays_towards_the_direction(weight, gradient, m, v, step, rate, decay):
    m = 0.9 * m + 0.1 * gradient
    v = 0.95 * v + 0.05 * gradient**2
    direction = m / (1 - 0.9**step) / ((v / (1 - 0.95**step)).sqrt() + 1e-8)
    return weight - rate * direction - decay * weight, m, v


@wrong("adamw", "")
def divides_by_v_without_root(weight, gradient, m, v, step, rate, decay):
    m = 0.9 * m + 0.1 * gradient
    v = 0.95 * v + 0.05 * gradient**2
    direction = m / (1 - 0.9**step) / (v / (1 - 0.95**step) + 1e-8)
    return weight - rate * (direction + decay * weight), m, v


@wrong("adamw", "")
def v_without_the_square(weight, gradient, m, v, step, rate, decay):
    m = 0.9 * m + 0.1 * gradient
    v = 0.95 * v + 0.05 * gradient.abs()
    direction = m / (1 - 0.9**step) / ((v / (1 - 0.95**step)).sqrt() + 1e-8)
    return weight - rate * (direction + decay * weight), m, v


@wrong("joined_loss", "")
def the_largest_part_alone(means, counts):
    return means[counts.argmax()]


@wrong("joined_loss", "")
def weighed_the_other_way(means, counts):
    return (means / counts).sum() / (1 / counts).sum()


@wrong("joined_loss", "")
def of_the_sum(means, counts):
    return means.sum() * counts.sum() / len(counts)
