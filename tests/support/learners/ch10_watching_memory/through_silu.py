"""Answers to `through_silu`."""

import numpy as np
import torch
import torch.nn.functional as F
from support.learners.collect import right, wrong


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


@wrong("through_silu", "Each term is multiplied by silu of the sum, so the sum")
def times_silu(inputs, taps, bias):
    terms = torch.cat([inputs * taps, bias[None]])
    return terms * F.silu(terms.sum(0))


@wrong("through_silu", "The bias stands first. The inputs come first, in their")
def bias_in_front(inputs, taps, bias):
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


@wrong("through_silu", "The bias is missing inside the sigmoid: the convolution adds")
def gate_without_the_bias(inputs, taps, bias):
    terms = taps * inputs
    return torch.cat([terms, bias[None]]) * torch.sigmoid(terms.sum(0))


@wrong("through_silu", "The bias is shared out among the inputs. It is a part of its")
def bias_shared_out(inputs, taps, bias):
    terms = taps * inputs + bias / len(inputs)
    return terms * torch.sigmoid(terms.sum(0))


@wrong("through_silu", "It comes out as if `dim=0` were left out.")
def one_gate_for_all_channels(inputs, taps, bias):
    terms = torch.cat([taps * inputs, bias[None]])
    return terms * torch.sigmoid(terms.sum())


@wrong("through_silu", "It comes out as if `taps` were left out.")
def taps_forgotten(inputs, taps, bias):
    total = (taps * inputs).sum(0) + bias
    return torch.cat([inputs, bias[None]]) * torch.sigmoid(total)


@wrong("through_silu", "The result ends too early: it has 2 of 3 entries along axis")
def without_a_row_for_the_bias(inputs, taps, bias):
    total = (taps * inputs).sum(0) + bias
    return taps * inputs * torch.sigmoid(total)


@wrong("through_silu", "It comes out as if `tanh` stood where `sigmoid` belongs.")
def tanh_for_sigmoid(inputs, taps, bias):
    terms = torch.cat([taps * inputs, bias[None]])
    return terms * torch.tanh(terms.sum(0))


@wrong("through_silu", "Each one gets all of silu(v). Together they should add up to")
def silu_of_the_total(inputs, taps, bias):
    total = (taps * inputs).sum(0) + bias
    silu = total * torch.sigmoid(total)
    return silu.expand(len(inputs) + 1, -1)


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
