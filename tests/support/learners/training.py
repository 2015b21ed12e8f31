"""Answers to notebook 08."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from support.learners.collect import right, wrong

# next_token_loss


@wrong("next_token_loss", "The logits are compared with the token that the model has")
def not_shifted(logits, ids):
    return F.cross_entropy(logits.flatten(0, 1), ids.flatten())


@wrong("next_token_loss", "Shifted the wrong way")
def shifted_the_other_way(logits, ids):
    return F.cross_entropy(logits[:, 1:].flatten(0, 1), ids[:, :-1].flatten())


@wrong("next_token_loss", "This is the sum over the tokens, not their mean")
def sum_for_the_mean(logits, ids):
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten(), reduction="sum")


@right("next_token_loss")
def by_log_softmax(logits, ids):
    log_p = torch.log_softmax(logits[:, :-1], -1)
    return -log_p.gather(-1, ids[:, 1:, None]).mean()


@right("next_token_loss")
def with_classes_second(logits, ids):
    return F.cross_entropy(logits[:, :-1].transpose(1, 2).double(), ids[:, 1:])


@right("next_token_loss")
def mean_of_row_losses(logits, ids):
    losses = [F.cross_entropy(row[:-1], target[1:]) for row, target in zip(logits, ids, strict=True)]
    return sum(losses) / len(losses)


# learning_rate


@wrong("learning_rate", "The way down ends at 0")
def cosine_to_zero(step, steps, peak, warmup):
    if step < warmup:
        return peak * (step + 1) / warmup
    done = (step - warmup) / (steps - warmup)
    return peak * 0.5 * (1 + math.cos(math.pi * done))


@wrong("learning_rate", "A whole wave of the cosine")
def a_whole_cosine(step, steps, peak, warmup):
    if step < warmup:
        return peak * (step + 1) / warmup
    done = (step - warmup) / (steps - warmup)
    return peak / 10 + 0.9 * peak * 0.5 * (1 + math.cos(2 * math.pi * done))


@wrong("learning_rate", "The cosine starts at step 0, so the rate jumps where the")
def cosine_from_step_zero(step, steps, peak, warmup):
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak / 10 + 0.9 * peak * 0.5 * (1 + math.cos(math.pi * step / steps))


@right("learning_rate")
def ends_on_the_last_step(step, steps, peak, warmup):
    if step < warmup:
        return peak * (step + 1) / warmup
    done = (step - warmup) / (steps - 1 - warmup)
    return peak * (0.55 + 0.45 * math.cos(math.pi * done))


@right("learning_rate")
def rate_by_numpy(step, steps, peak, warmup):
    if step < warmup:
        return np.float64(peak) * (step + 1) / warmup
    done = (step - warmup) / (steps - warmup)
    return peak * (0.1 + 0.9 * np.cos(np.pi * done / 2) ** 2)


@right("learning_rate")
def rate_in_a_tensor(step, steps, peak, warmup):
    done = torch.tensor(max(step - warmup, 0) / (steps - warmup), dtype=torch.float64)
    cosine = peak / 10 + 0.9 * peak * (1 + torch.cos(math.pi * done)) / 2
    return (
        torch.minimum(cosine, torch.tensor(peak * (step + 1) / warmup, dtype=torch.float64))
        if step < warmup
        else cosine
    )


# clip_gradients


@wrong("clip_gradients", "Each tensor is clipped by itself, which changes their")
def each_by_itself(gradients, max_norm):
    return [g * min(1.0, max_norm / g.norm().item()) for g in gradients]


@wrong("clip_gradients", "Short gradients are made longer")
def always_to_that_length(gradients, max_norm):
    total = math.sqrt(sum(g.square().sum().item() for g in gradients))
    return [g * max_norm / total for g in gradients]


@wrong("clip_gradients", "Each entry is cut at max_norm")
def clamps_each_entry(gradients, max_norm):
    return [g.clamp(-max_norm, max_norm) for g in gradients]


@right("clip_gradients")
def as_a_tuple(gradients, max_norm):
    norm = torch.cat([g.flatten() for g in gradients]).norm()
    return tuple(g * (max_norm / norm if norm > max_norm else 1.0) for g in gradients)


@right("clip_gradients")
def clipped_in_float64(gradients, max_norm):
    total = torch.stack([g.double().norm() for g in gradients]).norm()
    factor = (max_norm / total).clamp(max=1.0) if total > 0 else 1.0
    return [g * factor.item() if total > 0 else g.clone() for g in gradients]


@right("clip_gradients")
def clipped_by_numpy(gradients, max_norm):
    total = np.sqrt(sum((g.numpy().astype(float) ** 2).sum() for g in gradients))
    return [g.numpy() * (max_norm / max(total, max_norm)) for g in gradients]


# parameter_groups


@wrong("parameter_groups", "No weight was exempt")
def by_the_whole_name(named, weight_decay):
    exempt = [w for name, w in named.items() if name in ("dt_bias", "A_log", "D")]
    rest = [w for name, w in named.items() if name not in ("dt_bias", "A_log", "D")]
    return [{"params": rest, "weight_decay": weight_decay}, {"params": exempt, "weight_decay": 0.0}]


@wrong("parameter_groups", "This goes by shape")
def all_vectors_exempt(named, weight_decay):
    exempt = [w for w in named.values() if w.ndim < 2]
    rest = [w for w in named.values() if w.ndim >= 2]
    return [{"params": rest, "weight_decay": weight_decay}, {"params": exempt, "weight_decay": 0.0}]


@wrong("parameter_groups", "Every bias is exempt, that of the convolution too")
def by_a_last_letter(named, weight_decay):
    special = [name for name in named if name.endswith(("bias", "A_log", "D"))]
    return [
        {"params": [w for name, w in named.items() if name not in special], "weight_decay": weight_decay},
        {"params": [named[name] for name in special], "weight_decay": 0.0},
    ]


def _is_exempt(name):
    return name.split(".")[-1] in {"dt_bias", "A_log", "D"}


@right("parameter_groups")
def a_tuple_of_groups(named, weight_decay):
    rest = [w for name, w in named.items() if not _is_exempt(name)]
    exempt = [w for name, w in named.items() if _is_exempt(name)]
    return {"params": rest, "weight_decay": weight_decay}, {"params": exempt, "weight_decay": 0}


@right("parameter_groups")
def with_tuples_of_weights(named, weight_decay):
    rest = tuple(w for name, w in named.items() if not _is_exempt(name))
    exempt = tuple(w for name, w in named.items() if _is_exempt(name))
    return [{"params": rest, "weight_decay": weight_decay}, {"params": exempt, "weight_decay": 0.0}]


@right("parameter_groups")
def filled_in_a_loop(named, weight_decay):
    groups = [{"weight_decay": weight_decay, "params": []}, {"weight_decay": 0.0, "params": []}]
    for name, w in named.items():
        groups[_is_exempt(name)]["params"].append(w)
    return groups


# adamw


@wrong("adamw", "m and v start at 0 and are too small at first, and not by")
def no_correction(weight, gradient, m, v, step, rate, decay):
    m, v = 0.9 * m + 0.1 * gradient, 0.95 * v + 0.05 * gradient**2
    return weight - rate * (m / (v.sqrt() + 1e-8) + decay * weight), m, v


@wrong("adamw", "The decay went into the gradient, and is then divided by")
def decay_in_the_gradient(weight, gradient, m, v, step, rate, decay):
    gradient = gradient + decay * weight
    m, v = 0.9 * m + 0.1 * gradient, 0.95 * v + 0.05 * gradient**2
    moved = (m / (1 - 0.9**step)) / ((v / (1 - 0.95**step)).sqrt() + 1e-8)
    return weight - rate * moved, m, v


@wrong("adamw", "The corrected means are returned, and the next step would")
def returns_the_corrected(weight, gradient, m, v, step, rate, decay):
    m, v = 0.9 * m + 0.1 * gradient, 0.95 * v + 0.05 * gradient**2
    m, v = m / (1 - 0.9**step), v / (1 - 0.95**step)
    return weight - rate * (m / (v.sqrt() + 1e-8) + decay * weight), m, v


@right("adamw")
def a_list_of_three(weight, gradient, m, v, step, rate, decay):
    m, v = torch.lerp(gradient, m, 0.9), 0.95 * v + 0.05 * gradient * gradient
    first, second = m / (1 - 0.9**step), v / (1 - 0.95**step)
    return [(1 - rate * decay) * weight - rate * first / (torch.sqrt(second) + 1e-8), m, v]


@right("adamw")
def adamw_in_float64(weight, gradient, m, v, step, rate, decay):
    return tuple(a_list_of_three(*(part.double() for part in (weight, gradient, m, v)), step, rate, decay))


@right("adamw")
def adamw_by_numpy(weight, gradient, m, v, step, rate, decay):
    weight, gradient, m, v = (part.numpy() for part in (weight, gradient, m, v))
    m, v = 0.9 * m + 0.1 * gradient, 0.95 * v + 0.05 * gradient**2
    moved = m / (1 - 0.9**step) / (np.sqrt(v / (1 - 0.95**step)) + 1e-8)
    return weight - rate * (moved + decay * weight), m, v


# joined_loss


@wrong("joined_loss", "A mean of means")
def mean_of_means(means, counts):
    return means.mean()


@wrong("joined_loss", "It divides by the number of parts")
def divides_by_the_parts(means, counts):
    return (means * counts).sum() / len(means)


@wrong("joined_loss", "The means were added up, so a batch in k parts gets k")
def sums_the_parts(means, counts):
    return means.sum()


@right("joined_loss")
def a_python_float(means, counts):
    return sum(m * c for m, c in zip(means.tolist(), counts.tolist(), strict=True)) / counts.sum().item()


@right("joined_loss")
def by_np_average(means, counts):
    return np.average(means.numpy(), weights=counts.numpy())


@right("joined_loss")
def by_a_dot_product(means, counts):
    return means.double() @ counts.double() / counts.sum()
