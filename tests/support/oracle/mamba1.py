"""Mamba-1 in float64, written from the formulas: what the package is measured against.

Plain numpy, one token after another, nothing imported from the package. Weights come as a state dict (the official
names), sizes are read off their shapes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from support.oracle.mamba2 import Array, array
from torch import Tensor


def selective(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    initial_state: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """h_t = exp(dt_t A) h_{t-1} + dt_t x_t B_t^T and y_t = h_t C_t + D x_t, for each channel by itself."""
    state = None if initial_state is None else array(initial_state)
    D = torch.zeros(A.shape[0]) if D is None else D
    y, state = _selective(*map(array, (x, dt, A, B, C, D)), state)
    return torch.from_numpy(y), torch.from_numpy(state)


def _selective(
    x: Array, dt: Array, A: Array, B: Array, C: Array, D: Array, before: Array | None
) -> tuple[Array, Array]:
    b, l, d = x.shape
    h = np.zeros((b, d, A.shape[1])) if before is None else before.copy()
    y = np.zeros((b, l, d))
    for t in range(l):
        for i in range(d):
            step = dt[:, t, i, None]  # (b,1)
            h[:, i] = np.exp(step * A[i]) * h[:, i] + step * x[:, t, i, None] * B[:, t]
            y[:, t, i] = (h[:, i] * C[:, t]).sum(-1) + D[i] * x[:, t, i]
    return y, h


class Memory(NamedTuple):
    """What one layer leaves behind: the last inputs of the convolution (b,width-1,d_inner), the state (b,d_inner,n)."""

    window: Tensor
    state: Tensor


def mixer(
    weights: Mapping[str, Tensor], u: Tensor, before: Memory | None = None, *, b_c_dt_rms_eps: float | None = None
) -> tuple[Tensor, Memory]:
    """The mixer, from u (b,l,d_model) to the same shape, and what it leaves behind.

    b_c_dt_rms_eps: dt, B and C are divided by their root mean square before they are used, with this epsilon.
    """
    w = {name: array(weight) for name, weight in weights.items()}
    b, l, _ = u.shape
    d_inner, n = w["A_log"].shape
    rank = w["dt_proj.weight"].shape[1]
    width = w["conv1d.weight"].shape[2]

    projected = array(u) @ w["in_proj.weight"].T + w.get("in_proj.bias", 0.0)
    x, z = projected[..., :d_inner], projected[..., d_inner:]

    window = np.zeros((b, width - 1, d_inner)) if before is None else array(before.window)
    inputs = np.concatenate([window, x], axis=1)
    convolved = np.zeros((b, l, d_inner)) + w.get("conv1d.bias", 0.0)
    for t in range(l):
        for i in range(width):  # the last tap meets the token itself
            convolved[:, t] += w["conv1d.weight"][:, 0, i] * inputs[:, t + i]
    x = _silu(convolved)

    selected = x @ w["x_proj.weight"].T
    dt, B, C = selected[..., :rank], selected[..., rank : rank + n], selected[..., rank + n :]
    if b_c_dt_rms_eps is not None:
        dt, B, C = (part / np.sqrt((part**2).mean(-1, keepdims=True) + b_c_dt_rms_eps) for part in (dt, B, C))
    dt = np.logaddexp(0.0, dt @ w["dt_proj.weight"].T + w["dt_proj.bias"])

    y, state = _selective(x, dt, -np.exp(w["A_log"]), B, C, w["D"], None if before is None else array(before.state))
    out = (y * _silu(z)) @ w["out_proj.weight"].T + w.get("out_proj.bias", 0.0)
    return torch.from_numpy(out), Memory(*map(torch.from_numpy, (inputs[:, l:], state)))


def _silu(v: Array) -> Array:
    return v / (1.0 + np.exp(-v))
