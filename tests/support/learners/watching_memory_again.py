"""Further wrong answers to notebook 10, written before its list of mistakes was read again."""

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


# half_life_here


@wrong("half_life_here", "This is the time after which 1/e is left, about 37 %. For")
def time_constant(log_decay):
    return -1 / log_decay.mean(0)


@wrong("half_life_here", "It comes out as if `median` stood where `mean` belongs.")
def of_the_median(log_decay):
    return -math.log(2) / log_decay.median(0).values


@wrong("half_life_here", "It comes out as if `dim=0` were left out.")
def decays_themselves(log_decay):
    return math.log(0.5) / log_decay.mean()


# overlap


@wrong("overlap", "It comes out as if the running sum began at the end.")
def fades_from_the_end(log_decay, C, key):
    return log_decay.flip(0).cumsum(0).flip(0).exp() * (C @ key)


@wrong("overlap", "It takes the angle between C and key, but their lengths")
def by_cosine(log_decay, C, key):
    return log_decay.cumsum(0).exp() * F.cosine_similarity(C, key[None], dim=-1)


@wrong("overlap", "It comes out as if `.exp(...)` were left out.")
def fades_the_key_once(log_decay, C, key):
    return (C @ key) * log_decay.cumsum(0)


@wrong("overlap", "It comes out as if the running sum were of what comes")
def without_key_lengths(log_decay, C, key):
    return (log_decay.sum() - log_decay.cumsum(0)).exp() * (C @ key)


# shares


@wrong("shares", "The shares were made to add up to 1 in size. With their")
def made_to_add_up_in_size(parts, whole):
    dots = parts @ whole
    return dots / dots.abs().sum()


@wrong("shares", "The numbers of each part were added up. That is how far it")
def sums_of_entries(parts, whole):
    return parts.sum(-1) / whole.sum()


@wrong("shares", "Each part was divided by its own length, so this says how")
def along_the_parts(parts, whole):
    return parts @ whole / parts.square().sum(-1)


@wrong("shares", "Squares have no sign. A part that points against the whole")
def squared(parts, whole):
    dots = parts @ whole
    return dots.square() / dots.square().sum()


# through_silu


@wrong("through_silu", "Each term is multiplied by silu of the sum, so the sum")
def times_silu(inputs, taps, bias):
    terms = torch.cat([inputs * taps, bias[None]])
    return terms * F.silu(terms.sum(0))


@wrong("through_silu", "The bias stands first. The inputs come first, in their")
def bias_first(inputs, taps, bias):
    terms = torch.cat([bias[None], inputs * taps])
    return terms * torch.sigmoid(terms.sum(0))


@wrong("through_silu", "These are shares of v, which add up to 1. They have to add")
def shares_of_v(inputs, taps, bias):
    v = (inputs * taps).sum(0) + bias
    terms = torch.cat([inputs * taps, bias[None]])
    return terms / v


@wrong("through_silu", "It comes out as if `mean` stood where `sum` belongs.")
def sigmoid_of_each_input(inputs, taps, bias):
    terms = torch.cat([inputs * taps, bias[None]])
    return terms * torch.sigmoid(terms.sum(0, keepdim=True) / len(terms))


# resampled


@wrong("resampled", "It divides by the bytes of all files. Each row of `picks`")
def over_all_bytes(sums, counts, picks):
    return sums[picks].sum(1) / counts.sum()


@wrong("resampled", "A file that was drawn twice counts once here. It has to")
def each_file_once(sums, counts, picks):
    return torch.stack([sums[row.unique()].sum() / counts[row.unique()].sum() for row in picks])
