"""Attention in float64, token by token, as the formulas say it: a softmax, and rotation by complex numbers.

An oracle: numpy alone, nothing imported from the package. Weights come as a state dict (the official names); sizes are
read off their shapes, once the number of heads is known.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from support.oracle.mamba2 import Array, array
from torch import Tensor


class Memory(NamedTuple):
    """What one layer leaves behind of rows of the same length: turned keys and values (b,t,g,p), and the last inputs of
    the convolution (b,width-1,channels)."""

    keys: Tensor
    values: Tensor
    window: Tensor


def mixer(
    weights: Mapping[str, Tensor],
    u: Tensor,
    before: Memory | None = None,
    *,
    num_heads: int,
    softmax_scale: float | None = None,
    rotary_emb_dim: int = 0,
    rotary_emb_base: float = 10000.0,
    rotary_emb_interleaved: bool = False,
    position: int | None = None,
) -> tuple[Tensor, Memory]:
    """From u (b,l,d_model) to the same shape, and what it leaves behind. position: of the first token."""
    w = {name: array(weight) for name, weight in weights.items()}
    b, l, _ = u.shape
    h = num_heads
    p = w["out_proj.weight"].shape[1] // h
    channels = w["in_proj.weight"].shape[0]
    g = (channels // p - h) // 2
    width = w["conv1d.weight"].shape[2] if "conv1d.weight" in w else 0

    qkv = array(u) @ w["in_proj.weight"].T + w.get("in_proj.bias", 0.0)
    keys, values, window = (
        (np.zeros((b, 0, g, p)), np.zeros((b, 0, g, p)), np.zeros((b, max(width - 1, 0), channels)))
        if before is None
        else map(array, before)
    )
    start = keys.shape[1] if position is None else position
    scale = 1 / math.sqrt(p) if softmax_scale is None else softmax_scale
    turn: dict[str, Any] = {"dim": rotary_emb_dim, "base": rotary_emb_base, "neighbours": rotary_emb_interleaved}

    y = np.zeros((b, l, h, p))
    for t in range(l):
        token = qkv[:, t]
        if width:
            inputs = np.concatenate([window, token[:, None]], axis=1)
            token = np.zeros((b, channels)) + w["conv1d.bias"]
            for i in range(width):
                token = token + w["conv1d.weight"][:, 0, i] * inputs[:, i]
            window = inputs[:, 1:]
        q, k, v = np.split(token, [h * p, (h + g) * p], axis=1)
        q, k = (_turned(part.reshape(b, -1, p), start + t, **turn) for part in (q, k))
        keys = np.concatenate([keys, k[:, None]], axis=1)
        values = np.concatenate([values, v.reshape(b, 1, g, p)], axis=1)
        for head in range(h):
            group = head // (h // g)
            scores = scale * np.einsum("bp,btp->bt", q[:, head], keys[:, :, group])
            y[:, t, head] = np.einsum("bt,btp->bp", _softmax(scores), values[:, :, group])
    out = y.reshape(b, l, h * p) @ w["out_proj.weight"].T + w.get("out_proj.bias", 0.0)
    return torch.from_numpy(out), Memory(*map(torch.from_numpy, (keys, values, window)))


def mlp(weights: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """Value times silu of the gate: the first and the second half of what the first matrix makes."""
    w = {name: array(weight) for name, weight in weights.items()}
    both = array(x) @ w["fc1.weight"].T + w.get("fc1.bias", 0.0)
    half = both.shape[-1] // 2
    value, gate = both[..., :half], both[..., half:]
    return torch.from_numpy((value * gate / (1 + np.exp(-gate))) @ w["fc2.weight"].T + w.get("fc2.bias", 0.0))


def _turned(x: Array, position: int, *, dim: int, base: float, neighbours: bool) -> Array:
    """The first `dim` channels as complex numbers, each times e^(i position frequency)."""
    pairs = np.arange(dim // 2)
    first, second = (2 * pairs, 2 * pairs + 1) if neighbours else (pairs, pairs + dim // 2)
    z = x[..., first] + 1j * x[..., second]
    z = z * np.exp(1j * position * base ** (-2.0 * pairs / max(dim, 1)))
    turned = x.copy()
    turned[..., first], turned[..., second] = z.real, z.imag
    return turned


def _softmax(scores: Array) -> Array:
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)
