"""Further wrong answers to notebook 08, written before its list of mistakes was read again."""

import math

import torch
import torch.nn.functional as F
from support.learners.collect import wrong


def _parts(config):
    d, d_in, h = config.d_model, config.d_inner, config.nheads
    gn = config.ngroups * config.d_state
    conv = d_in + 2 * gn
    rows = math.ceil(config.vocab_size / config.pad_vocab_size_multiple) * config.pad_vocab_size_multiple
    return d, d_in, h, gn, conv, rows


# next_token_loss


@wrong("next_token_loss", "`cross_entropy` takes logits and does the softmax itself.")
def softmax_twice(logits, ids):
    return F.cross_entropy(logits[:, :-1].softmax(dim=-1).mT, ids[:, 1:])


@wrong("next_token_loss", "Rows and time were joined first and shifted afterwards: the")
def shifted_after_flattening(logits, ids):
    return F.cross_entropy(logits.flatten(0, 1)[:-1], ids.flatten()[1:])


@wrong("next_token_loss", "The mean was taken of the probabilities, and then one")
def mean_of_probabilities(logits, ids):
    p = logits[:, :-1].softmax(-1).gather(2, ids[:, 1:, None])
    return -p.mean().log()


@wrong("next_token_loss", "The result is 1 / ln 2 times what it should be.")
def bits(logits, ids):
    return F.cross_entropy(logits[:, :-1].mT, ids[:, 1:]) / math.log(2)


# learning_rate


@wrong("learning_rate", "The cosine starts at step 0, so the rate jumps where the")
def cosine_over_all_steps(step, steps, peak, warmup):
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * (0.55 + 0.45 * math.cos(math.pi * step / steps))


@wrong("learning_rate", "The way down ends at 0. The last steps would do nothing;")
def cosine_to_zero_with_a_floor(step, steps, peak, warmup):
    if step < warmup:
        return peak * (step + 1) / warmup
    done = (step - warmup) / (steps - warmup)
    return max(peak / 10, peak * 0.5 * (1 + math.cos(math.pi * done)))


@wrong("learning_rate", "Step 0 has the rate 0: a whole batch is read, nothing is")
def warmup_by_steps(step, steps, peak, warmup):
    if step <= warmup:
        return peak * step / warmup
    done = (step - warmup) / (steps - warmup)
    return peak / 10 + 0.9 * peak * (1 + math.cos(math.pi * done)) / 2


@wrong("learning_rate", "This is a quarter of a wave: it falls fastest at the end.")
def sine_down(step, steps, peak, warmup):
    if step < warmup:
        return peak * (step + 1) / warmup
    done = (step - warmup) / (steps - warmup)
    return peak * (0.1 + 0.9 * math.cos(math.pi / 2 * done))


# clip_gradients


@wrong("clip_gradients", "The lengths of the parts were added. Lengths do not add up")
def by_the_sum_of_lengths(gradients, max_norm):
    total = sum(g.norm() for g in gradients)
    return [g * min(1.0, max_norm / total) for g in gradients]


@wrong("clip_gradients", "It comes out as if 1.0 stood where `max_norm` belongs.")
def always_to_one(gradients, max_norm):
    total = math.sqrt(sum(float(g.square().sum()) for g in gradients))
    return [g / total if total > max_norm else g for g in gradients]


@wrong("clip_gradients", "This is the root mean square, the size of a typical entry.")
def mean_square(gradients, max_norm):
    flat = torch.cat([g.flatten() for g in gradients])
    return [g * min(1.0, max_norm / float(flat.square().mean().sqrt())) for g in gradients]


@wrong("clip_gradients", "It comes out as if `max` stood where `sum` belongs.")
def largest_norm(gradients, max_norm):
    longest = max(float(g.norm()) for g in gradients)
    return [g * min(1.0, max_norm / longest) for g in gradients]


# parameter_groups


@wrong("parameter_groups", "This goes by shape: every vector is exempt. A common rule")
def every_vector_is_exempt(named, weight_decay):
    decay = [w for w in named.values() if w.ndim >= 2]
    no_decay = [w for w in named.values() if w.ndim < 2]
    return [{"params": decay, "weight_decay": weight_decay}, {"params": no_decay, "weight_decay": 0.0}]


@wrong("parameter_groups", "No weight was exempt. The full names have a path in front,")
def whole_names_compared(named, weight_decay):
    exempt = {"dt_bias", "A_log", "D"}
    return [
        {"params": [w for n, w in named.items() if n not in exempt], "weight_decay": weight_decay},
        {"params": [w for n, w in named.items() if n in exempt], "weight_decay": 0.0},
    ]


@wrong("parameter_groups", "The groups are exchanged: the memory is pulled towards")
def decay_for_the_exempt(named, weight_decay):
    exempt = ("dt_bias", "A_log", "D")
    yes = [w for n, w in named.items() if n.split(".")[-1] in exempt]
    no = [w for n, w in named.items() if n.split(".")[-1] not in exempt]
    return [{"params": yes, "weight_decay": weight_decay}, {"params": no, "weight_decay": 0.0}]


@wrong("parameter_groups", "It comes out as if `'D'` were left out.")
def forgets_d(named, weight_decay):
    exempt = [w for n, w in named.items() if n.endswith(("dt_bias", "A_log"))]
    rest = [w for n, w in named.items() if not n.endswith(("dt_bias", "A_log"))]
    return [{"params": rest, "weight_decay": weight_decay}, {"params": exempt, "weight_decay": 0.0}]


# adamw


@wrong("adamw", "The corrected means are returned, and the next step would")
def hands_on_the_corrected_means(weight, gradient, m, v, step, rate, decay):
    m = (0.9 * m + 0.1 * gradient) / (1 - 0.9**step)
    v = (0.95 * v + 0.05 * gradient**2) / (1 - 0.95**step)
    return weight - rate * (m / (v.sqrt() + 1e-8) + decay * weight), m, v


@wrong("adamw", "The decay went into the gradient, and is then divided by")
def decay_in_the_gradient(weight, gradient, m, v, step, rate, decay):
    gradient = gradient + decay * weight
    m = 0.9 * m + 0.1 * gradient
    v = 0.95 * v + 0.05 * gradient**2
    corrected = (m / (1 - 0.9**step)) / ((v / (1 - 0.95**step)).sqrt() + 1e-8)
    return weight - rate * corrected, m, v


@wrong("adamw", "It comes out as if `step` were one more.")
def step_counted_from_zero(weight, gradient, m, v, step, rate, decay):
    m = 0.9 * m + 0.1 * gradient
    v = 0.95 * v + 0.05 * gradient.square()
    up = (m / (1 - 0.9 ** (step + 1))) / ((v / (1 - 0.95 ** (step + 1))).sqrt() + 1e-8)
    return weight - rate * (up + decay * weight), m, v


@wrong("adamw", "It comes out as if `1e-08` stood inside `sqrt`.")
def epsilon_under_the_root(weight, gradient, m, v, step, rate, decay):
    m = 0.9 * m + 0.1 * gradient
    v = 0.95 * v + 0.05 * gradient**2
    up = (m / (1 - 0.9**step)) / ((v / (1 - 0.95**step)) + 1e-8).sqrt()
    return weight - rate * (up + decay * weight), m, v


# joined_loss


@wrong("joined_loss", "It divides by the number of parts. The losses were")
def divided_by_the_parts(means, counts):
    return (means * counts).sum() / len(counts)


@wrong("joined_loss", "It comes out as if `counts` were left out.")
def means_over_tokens(means, counts):
    return means.sum() / counts.sum()


@wrong("joined_loss", "It comes out as if `means` stood where `counts` belongs.")
def shares_of_losses(means, counts):
    return (means * means / means.sum()).sum()
