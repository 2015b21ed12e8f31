"""Answers to notebook 10."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from support.learners.collect import right, wrong

# half_life_here


@wrong("half_life_here", "It averages half-lives of single tokens")
def mean_of_half_lives(log_decay):
    return (-math.log(2) / log_decay).mean(0)


@wrong("half_life_here", "The log decays are added up over the text, so this counts")
def from_the_sum(log_decay):
    return -math.log(2) / log_decay.sum(0)


@wrong("half_life_here", "It averages the decays")
def from_the_mean_decay(log_decay):
    return -math.log(2) / log_decay.exp().mean(0).log()


@right("half_life_here")
def half_life_by_numpy(log_decay):
    with np.errstate(divide="ignore"):
        return np.log(0.5) / log_decay.numpy().mean(0)


@right("half_life_here")
def half_life_in_float64(log_decay):
    return len(log_decay) * math.log(0.5) / log_decay.double().sum(0)


@right("half_life_here")
def half_life_by_a_list(log_decay):
    means = log_decay.mean(0).tolist()
    return [math.log(0.5) / mean if mean else math.inf for mean in means]


# overlap


@wrong("overlap", "The first token does not fade what it finds")
def not_faded_at_the_first(log_decay, C, key):
    return torch.exp(log_decay.cumsum(0) - log_decay) * (C @ key)


@wrong("overlap", "Nothing fades")
def does_not_fade(log_decay, C, key):
    return C @ key


@wrong("overlap", "Each token applies its own decay alone")
def one_decay_each(log_decay, C, key):
    return log_decay.exp() * (C @ key)


@right("overlap")
def overlap_by_a_loop(log_decay, C, key):
    left, out = 1.0, []
    for a, c in zip(log_decay.tolist(), C, strict=True):
        left *= math.exp(a)
        out.append(left * float(c @ key))
    return out


@right("overlap")
def overlap_by_einsum(log_decay, C, key):
    return torch.einsum("l,ln,n->l", log_decay.cumsum(0).exp(), C, key).double()


@right("overlap")
def overlap_by_numpy(log_decay, C, key):
    return np.exp(np.cumsum(log_decay.numpy())) * (C.numpy() @ key.numpy())


# shares


@wrong("shares", "This compares lengths")
def by_length(parts, whole):
    return parts.norm(dim=-1) / whole.norm()


@wrong("shares", "This is the cosine")
def by_cosine(parts, whole):
    return F.cosine_similarity(parts, whole[None], dim=-1)


@wrong("shares", "It divides by the length of the whole once")
def not_squared(parts, whole):
    return parts @ whole / whole.norm()


@right("shares")
def shares_by_einsum(parts, whole):
    return torch.einsum("kp,p->k", parts, whole) / whole.square().sum()


@right("shares")
def shares_as_a_list(parts, whole):
    return [float(part @ whole / (whole @ whole)) for part in parts]


@right("shares")
def shares_by_numpy(parts, whole):
    parts, whole = parts.numpy(), whole.numpy()
    return parts @ whole / np.dot(whole, whole)


# through_silu


@wrong("through_silu", "It bends each term by itself, and bent terms do not add up")
def silu_of_each(inputs, taps, bias):
    return torch.cat([F.silu(inputs * taps), F.silu(bias)[None]])


@wrong("through_silu", "These are the terms of v, before silu")
def without_silu(inputs, taps, bias):
    return torch.cat([inputs * taps, bias[None]])


@wrong("through_silu", "The bias stands first")
def bias_first(inputs, taps, bias):
    parts = torch.cat([bias[None], inputs * taps])
    return parts * torch.sigmoid(parts.sum(0))


@right("through_silu")
def silu_by_ratio(inputs, taps, bias):
    parts = torch.cat([inputs * taps, bias[None]])
    v = parts.sum(0)
    return parts * torch.where(v == 0, 0.5, F.silu(v) / v)


@right("through_silu")
def silu_by_numpy(inputs, taps, bias):
    parts = np.concatenate([inputs.numpy() * taps.numpy(), bias.numpy()[None]])
    return parts / (1 + np.exp(-parts.sum(0)))


@right("through_silu")
def silu_as_a_list(inputs, taps, bias):
    gate = torch.sigmoid((inputs * taps).sum(0) + bias)
    return [*(u * k * gate for u, k in zip(inputs, taps, strict=True)), bias * gate]


# resampled


@wrong("resampled", "It averages the files' means, so that a file of ten bytes")
def mean_of_file_means(sums, counts, picks):
    return (sums / counts)[picks].mean(1)


@wrong("resampled", "It divides by the bytes of all files")
def all_counts(sums, counts, picks):
    return sums[picks].sum(1) / counts.sum()


@wrong("resampled", "It divides by the number of files picked")
def per_file(sums, counts, picks):
    return sums[picks].mean(1)


@right("resampled")
def resampled_by_loops(sums, counts, picks):
    return [float(sums[row].sum() / counts[row].sum()) for row in picks]


@right("resampled")
def resampled_by_numpy(sums, counts, picks):
    sums, counts, picks = sums.numpy(), counts.numpy(), picks.numpy()
    return sums[picks].sum(1) / counts[picks].sum(1)


@right("resampled")
def resampled_by_bincount(sums, counts, picks):
    times = torch.stack([torch.bincount(row, minlength=len(sums)) for row in picks]).double()
    return times @ sums.double() / (times @ counts.double())
