"""Answers to `gated_rms_norm`."""

import numpy as np
import torch
import torch.nn.functional as F
from support.learners.collect import right, wrong

from mamba2_lab.course.exercises.the_whole_block import gated_rms_norm


def _norm(v, weight, ngroups, eps):
    runs = v.unflatten(-1, (ngroups, -1))
    return (runs / torch.sqrt(runs.square().mean(-1, keepdim=True) + eps)).flatten(-2) * weight


@wrong("gated_rms_norm", "One root mean square is taken over all channels")
def one_norm_for_all_groups(y, z, weight, ngroups, norm_before_gate, eps):
    if norm_before_gate:
        return _norm(y, weight, 1, eps) * F.silu(z)
    return _norm(y * F.silu(z), weight, 1, eps)


@wrong("gated_rms_norm", "The gate always comes first here")
def always_gates_first(y, z, weight, ngroups, norm_before_gate, eps):
    return _norm(y * F.silu(z), weight, ngroups, eps)


@wrong("gated_rms_norm", "The gate here is sigmoid(z)")
def gates_with_sigmoid(y, z, weight, ngroups, norm_before_gate, eps):
    if norm_before_gate:
        return _norm(y, weight, ngroups, eps) * torch.sigmoid(z)
    return _norm(y * torch.sigmoid(z), weight, ngroups, eps)


@wrong("gated_rms_norm", "The mean is subtracted, as a LayerNorm does. An RMSNorm divides by the")
def takes_the_mean_away(y, z, weight, ngroups, norm_before_gate, eps):
    if not norm_before_gate:
        y = y * F.silu(z)
    groups = y.unflatten(-1, (ngroups, -1))
    groups = groups - groups.mean(-1, keepdim=True)
    y = (groups * (groups.square().mean(-1, keepdim=True) + eps).rsqrt()).flatten(-2) * weight
    return y * F.silu(z) if norm_before_gate else y


@wrong("gated_rms_norm", "The order is exchanged: with norm_before_gate = False the gate comes")
def the_flag_turned_round(y, z, weight, ngroups, norm_before_gate, eps):
    return gated_rms_norm(y, z, weight, ngroups, not norm_before_gate, eps)


@wrong("gated_rms_norm", "The gate always comes last here. With norm_before_gate = False,")
def gates_the_weight(y, z, weight, ngroups, norm_before_gate, eps):
    g = y.unflatten(-1, (ngroups, -1))
    y = (g * (g.square().mean(-1, keepdim=True) + eps).rsqrt()).flatten(-2)
    return y * (weight * F.silu(z))


@wrong("gated_rms_norm", "It divides by the length, the root of the sum of squares. A")
def length_not_mean(y, z, weight, ngroups, norm_before_gate, eps):
    if not norm_before_gate:
        y = y * F.silu(z)
    g = y.unflatten(-1, (ngroups, -1))
    y = (g / (g.norm(dim=-1, keepdim=True) + eps)).flatten(-2) * weight
    return y * F.silu(z) if norm_before_gate else y


@wrong("gated_rms_norm", "It gates twice, before the norm and after it.")
def gates_twice(y, z, weight, ngroups, norm_before_gate, eps):
    y = y * F.silu(z)
    g = y.unflatten(-1, (ngroups, -1))
    y = (g * (g.square().mean(-1, keepdim=True) + eps).rsqrt()).flatten(-2) * weight
    return y * F.silu(z)


@right("gated_rms_norm")
def by_rms_norm(y, z, weight, ngroups, norm_before_gate, eps):
    gate = z * torch.sigmoid(z)
    runs = (y if norm_before_gate else y * gate).reshape(*y.shape[:-1], ngroups, -1)
    normed = F.rms_norm(runs, runs.shape[-1:], eps=eps).reshape(y.shape) * weight
    return normed * gate if norm_before_gate else normed


@right("gated_rms_norm")
def chunk_by_chunk(y, z, weight, ngroups, norm_before_gate, eps):
    v = y if norm_before_gate else y * F.silu(z)
    parts = [part * torch.rsqrt(part.pow(2).mean(-1, keepdim=True) + eps) for part in v.chunk(ngroups, -1)]
    out = torch.cat(parts, -1) * weight
    return (out * F.silu(z) if norm_before_gate else out).double()


@right("gated_rms_norm")
def norm_by_numpy(y, z, weight, ngroups, norm_before_gate, eps):
    y, z, weight = y.numpy(), z.numpy(), weight.numpy()
    gate = z / (1 + np.exp(-z))
    v = y if norm_before_gate else y * gate
    runs = v.reshape(*v.shape[:-1], ngroups, -1)
    runs = runs / np.sqrt((runs**2).mean(-1, keepdims=True) + eps)
    out = runs.reshape(v.shape) * weight
    return out * gate if norm_before_gate else out
