"""Answers to `clip_gradients`."""

import math

import numpy as np
import torch
from support.learners.collect import right, unexplained, wrong


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


@wrong("clip_gradients", "It comes out as if `gradients[:1]` stood where `gradients`")
def clipped_by_the_first(gradients, max_norm):
    factor = min(1.0, max_norm / gradients[0].norm())
    return [g * factor for g in gradients]


@unexplained("clip_gradients")
def by_the_mean_length(gradients, max_norm):
    total = torch.stack([g.norm() for g in gradients]).mean()
    return [g * min(1.0, max_norm / total) for g in gradients]


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
