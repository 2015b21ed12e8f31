"""A third set for notebooks 07 and 08."""

import math

import torch
import torch.nn.functional as F
from support.learners.collect import unexplained, wrong

# 07 The language model


@wrong("residual_block", "It comes out as if `*` stood where `+` belongs.")
def multiplies_the_stream(u, norm, mixer):
    return u * mixer(norm(u))


@wrong("residual_block", "This normalises after the sum, as the first transformers did.")
def norm_of_the_sum(u, norm, mixer):
    return norm(u + mixer(u))


@wrong("residual_block", "It changes its input `u` in place, which its caller may still")
def adds_in_place(u, norm, mixer):
    u += mixer(norm(u))
    return u


@wrong("next_token_logits", "The wrong end was cut: the padding rows are the last ones of")
def rows_from_the_end(u, norm, table, vocab_size):
    return norm(u) @ table[-vocab_size:].T


@wrong("next_token_logits", "The result has 8 entries along axis 2, and the first 5 are")
def padding_at_minus_infinity(u, norm, table, vocab_size):
    logits = norm(u) @ table.T
    logits[..., vocab_size:] = -torch.inf
    return logits


@wrong("next_token_logits", "It comes out as if it were divided by the root of the width,")
def scaled_as_in_attention(u, norm, table, vocab_size):
    return norm(u) @ table[:vocab_size].T / math.sqrt(u.shape[-1])


@wrong("merge_pair", "Only the first pair was merged. One merge replaces the pair")
def first_pair_only(ids, pair, new_id):
    for i in range(len(ids) - 1):
        if (ids[i], ids[i + 1]) == pair:
            return ids[:i] + [new_id] + ids[i + 2 :]
    return ids


@wrong("merge_pair", "After a pair one id too many is skipped. A pair is two: go on")
def skips_one_too_many(ids, pair, new_id):
    out, i = [], 0
    while i < len(ids):
        if tuple(ids[i : i + 2]) == pair:
            out.append(new_id)
            i += 3
        else:
            out.append(ids[i])
            i += 1
    return out


@wrong("merge_pair", "The first of the pair stays in front of the new id. Both make")
def keeps_the_first(ids, pair, new_id):
    out = ids[:1]
    for before, i in zip(ids, ids[1:], strict=False):
        out.append(new_id if (before, i) == pair else i)
    return out


@wrong("as_bits_per_byte", "The result is 1 divided by what is asked for.")
def bytes_per_bit(nats_per_token, bytes_per_token):
    return bytes_per_token * math.log(2) / nats_per_token


@wrong("as_bits_per_byte", "The result is 1/8 times what it should be.")
def eight_bits_a_byte(nats_per_token, bytes_per_token):
    return nats_per_token / math.log(2) / (8 * bytes_per_token)


@wrong("as_bits_per_byte", "This is bits per token. Divide by the bytes of a token, or")
def bits_of_a_token(nats_per_token, bytes_per_token):
    return nats_per_token / math.log(2)


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


@wrong("scale_for_depth", "It changes its input `weight` in place, which its caller may")
def scaled_in_place(weight, n_layer):
    weight /= math.sqrt(n_layer)
    return weight


@wrong("scale_for_depth", "Every number of the result is 0.2169 times what it should be.")
def made_one_long(weight, n_layer):
    return weight / weight.norm() / math.sqrt(n_layer)


@wrong("scale_for_depth", "Every number of the result is 0.125 times what it should be.")
def divides_by_n_squared(weight, n_layer):
    return weight / n_layer**2


# 08 Training


@wrong("next_token_loss", "`roll` brings the first token round to the end, and the last")
def rolled(logits, ids):
    return F.cross_entropy(logits.flatten(0, 1), ids.roll(-1, dims=1).flatten())


@wrong("next_token_loss", "The result is `(logits.shape[1] - 1) / logits.shape[1]` times")
def divided_by_all_tokens(logits, ids):
    losses = F.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten(), reduction="sum")
    return losses / ids.numel()


@wrong("next_token_loss", "The result has the wrong sign: every number is minus what it")
def log_probability(logits, ids):
    logs = logits[:, :-1].log_softmax(-1)
    return logs.gather(2, ids[:, 1:, None]).mean()


@wrong("learning_rate", "This falls in a straight line. The cosine stays near the peak")
def a_line_down(step, steps, peak, warmup):
    if step < warmup:
        return peak * (step + 1) / warmup
    done = (step - warmup) / (steps - warmup)
    return peak * (1 - 0.9 * done)


@wrong("learning_rate", "It ends at 0.1, whatever the peak is. A tenth of the peak is")
def a_tenth_for_a_tenth_of_the_peak(step, steps, peak, warmup):
    if step < warmup:
        return peak * (step + 1) / warmup
    done = (step - warmup) / (steps - warmup)
    return 0.1 + (peak - 0.1) * (1 + math.cos(math.pi * done)) / 2


@wrong("learning_rate", "It comes out as if `0.9` were left out.")
def a_tenth_too_high(step, steps, peak, warmup):
    if step < warmup:
        return peak * (step + 1) / warmup
    done = (step - warmup) / (steps - warmup)
    return peak / 10 + peak * (1 + math.cos(math.pi * done)) / 2


@wrong("parameter_groups", "It comes out as if `{'params': decayed, 'weight_decay':")
def exempt_first(named, weight_decay):
    groups = ([], [])
    for name, weight in named.items():
        groups[name.split(".")[-1] not in ("dt_bias", "A_log", "D")].append(weight)
    return [{"params": groups[0], "weight_decay": 0.0}, {"params": groups[1], "weight_decay": weight_decay}]


@wrong("parameter_groups", "It comes out as if `name` stood where `weight` belongs, at")
def names_for_weights(named, weight_decay):
    free = [name for name in named if name.split(".")[-1] in ("dt_bias", "A_log", "D")]
    rest = [name for name in named if name not in free]
    return [{"params": rest, "weight_decay": weight_decay}, {"params": free, "weight_decay": 0.0}]


@wrong("parameter_groups", "This goes by shape: every vector is exempt. A common rule")
def biases_and_norms_too(named, weight_decay):
    def is_free(name):
        return name.endswith(("dt_bias", "A_log", ".D", "bias")) or "norm" in name or name == "D"

    return [
        {"params": [w for name, w in named.items() if not is_free(name)], "weight_decay": weight_decay},
        {"params": [w for name, w in named.items() if is_free(name)], "weight_decay": 0.0},
    ]


@wrong("clip_gradients", "It comes out as if `.sqrt(...)` were left out.")
def without_the_root(gradients, max_norm):
    norm = sum((g**2).sum() for g in gradients)
    return [g * min(1.0, max_norm / norm) for g in gradients]


@wrong("clip_gradients", "It comes out as if `max` stood where `min` belongs.")
def only_made_longer(gradients, max_norm):
    norm = torch.cat([g.flatten() for g in gradients]).norm()
    return [g * max(1.0, max_norm / norm) for g in gradients]


@wrong("clip_gradients", "That is the sum of the sizes of all entries. The length of a")
def by_absolute_values(gradients, max_norm):
    norm = sum(g.abs().sum() for g in gradients)
    return [g * min(1.0, max_norm / norm) for g in gradients]


@wrong("adamw", "`m` comes out as if `0.9` and `0.1` were exchanged.")
def betas_the_other_way_round(weight, gradient, m, v, step, rate, decay):
    m = 0.1 * m + 0.9 * gradient
    v = 0.05 * v + 0.95 * gradient**2
    direction = m / (1 - 0.1**step) / ((v / (1 - 0.05**step)).sqrt() + 1e-8)
    return weight - rate * (direction + decay * weight), m, v


@wrong("adamw", "The decay is not scaled by the rate: each step would take")
def decays_without_the_rate(weight, gradient, m, v, step, rate, decay):
    m = 0.9 * m + 0.1 * gradient
    v = 0.95 * v + 0.05 * gradient**2
    direction = m / (1 - 0.9**step) / ((v / (1 - 0.95**step)).sqrt() + 1e-8)
    return weight * (1 - decay) - rate * direction, m, v


@wrong("adamw", "It comes out as if 0.9 stood where 0.95 belongs.")
def corrected_by_one_beta(weight, gradient, m, v, step, rate, decay):
    m = 0.9 * m + 0.1 * gradient
    v = 0.95 * v + 0.05 * gradient**2
    direction = m / (1 - 0.9**step) / ((v / (1 - 0.9**step)).sqrt() + 1e-8)
    return weight - rate * (direction + decay * weight), m, v


@wrong("joined_loss", "The result has shape (3,) where () is expected: the sum along")
def not_added_up(means, counts):
    return means * counts / counts.sum()


@wrong("joined_loss", "This is the sum over all tokens. Divide it by how many there")
def never_divided(means, counts):
    return (means * counts).sum()


@unexplained("joined_loss")
def weighed_by_the_largest(means, counts):
    return (means * counts / counts.max()).mean()
