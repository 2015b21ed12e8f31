"""Answers to `bits_by_position`."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from support.learners.collect import right, unexplained, wrong


@wrong("bits_by_position", "These are nats per byte")
def in_nats(nats, sizes, edges):
    return torch.stack([nats[:, a:b].sum() / sizes[:, a:b].sum() for a, b in zip(edges, edges[1:], strict=False)])


@wrong("bits_by_position", "It divides by the number of tokens")
def per_token(nats, sizes, edges):
    return torch.stack([nats[:, a:b].mean() for a, b in zip(edges, edges[1:], strict=False)]) / math.log(2)


@wrong("bits_by_position", "Every stretch begins at the beginning")
def from_the_first_token(nats, sizes, edges):
    found = [nats[:, edges[0] : b].sum() / sizes[:, edges[0] : b].sum() for b in edges[1:]]
    return torch.stack(found) / math.log(2)


@wrong("bits_by_position", "It averages the files' own bits per byte. Add up nats and")
def mean_over_files(nats, sizes, edges):
    rates = [(nats[:, a:b].sum(1) / sizes[:, a:b].sum(1)).mean() for a, b in zip(edges[:-1], edges[1:], strict=True)]
    return torch.stack(rates) / math.log(2)


@wrong("bits_by_position", "A stretch takes the token at its end as well, so neighbours")
def both_edges_count(nats, sizes, edges):
    rates = []
    for a, b in zip(edges[:-1], edges[1:], strict=True):
        rates.append(nats[:, a : b + 1].sum() / sizes[:, a : b + 1].sum())
    return torch.stack(rates) / math.log(2)


@wrong("bits_by_position", "It averages the bits per byte of single tokens, so a token of")
def mean_over_tokens(nats, sizes, edges):
    rates = [(nats[:, a:b] / sizes[:, a:b]).mean() for a, b in zip(edges[:-1], edges[1:], strict=True)]
    return torch.stack(rates) / math.log(2)


@wrong("bits_by_position", "It comes out as if `*` stood where `/` belongs.")
def multiplied_by_ln_2(nats, sizes, edges):
    parts = [(nats[:, a:b].sum() / sizes[:, a:b].sum()) * math.log(2) for a, b in zip(edges, edges[1:], strict=False)]
    return torch.stack(parts)


@wrong("bits_by_position", "It comes out as if the two sides of `/` were exchanged.")
def bytes_over_nats(nats, sizes, edges):
    parts = [sizes[:, a:b].sum() / nats[:, a:b].sum() for a, b in zip(edges, edges[1:], strict=False)]
    return torch.stack(parts) / math.log(2)


@wrong("bits_by_position", "It comes out as if `:` and `part` were exchanged, at each")
def cut_by_files(nats, sizes, edges):
    parts = [nats[a:b].sum() / sizes[a:b].sum() for a, b in zip(edges, edges[1:], strict=False)]
    return torch.stack(parts) / math.log(2)


@unexplained("bits_by_position")
def everything_up_to_the_edge(nats, sizes, edges):
    sums = [nats[:, :b].sum() / sizes[:, a:b].sum() for a, b in zip(edges, edges[1:], strict=False)]
    return torch.stack(sums) / math.log(2)


@right("bits_by_position")
def by_running_sums(nats, sizes, edges):
    nats, sizes = (F.pad(part.sum(0).double().cumsum(0), (1, 0))[edges] for part in (nats, sizes))
    return nats.diff() / sizes.diff() / math.log(2)


@right("bits_by_position")
def by_numpy(nats, sizes, edges):
    stretches = [slice(*pair) for pair in zip(edges, edges[1:], strict=False)]
    return [float(np.log2(np.e) * nats.numpy()[:, s].sum() / sizes.numpy()[:, s].sum()) for s in stretches]


@right("bits_by_position")
def in_bits_at_once(nats, sizes, edges):
    bits = nats / math.log(2)
    found = []
    for i in range(len(edges) - 1):
        inside = slice(edges[i], edges[i + 1])
        found.append(bits[:, inside].sum() / sizes[:, inside].sum())
    return torch.stack(found)
