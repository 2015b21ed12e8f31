"""Mamba-3 in float64 and complex128, written from the formulas: what the package is measured against.

Plain numpy, one token after another, nothing imported from the package. Pairs of channels are complex numbers here, and
the state itself turns: h_t = alpha e^(-i Delta theta) (h_{t-1} + delta x_{t-1} k_{t-1}) + gamma x_t k_t, read as the
real part of h_t conj(q_t), with k and q as they come. The package turns k and q instead, and lets the state stand;
`Memory` is what both mean, seen from the last token. Weights come as a state dict (the official names).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from support.oracle.mamba2 import array
from torch import Tensor

Complex = NDArray[np.complex128]


class Memory(NamedTuple):
    """What a layer leaves behind, seen from its last token: as if that had turned by nothing."""

    state: Tensor  # (b,h,p,n/2) complex
    k: Tensor  # (b,r,h,n/2) complex, of the last token
    x: Tensor  # (b,h,p) of the last token


def mixer(
    weights: Mapping[str, Tensor],
    u: Tensor,
    before: Memory | None = None,
    *,
    rope_fraction: float = 0.5,
    ngroups: int = 1,
    A_floor: float = 1e-4,
    A_activation: str = "heavy_tail",
) -> tuple[Tensor, Memory]:
    """The mixer, from u (b,l,d_model) to the same shape, and what it leaves behind."""
    w = {name: array(weight) for name, weight in weights.items()}
    b, l, _ = u.shape
    h, r, n = w["B_bias"].shape
    is_mimo = "mimo_x" in w
    d_inner = w["out_proj.weight"].shape[1]
    p, s, bc = d_inner // h, int(n * rope_fraction) // 2, r * ngroups * n

    projected = array(u) @ w["in_proj.weight"].T
    z, x, B, C, dt, A, trap, angle = np.split(projected, np.cumsum([d_inner, d_inner, bc, bc, h, h, h]), axis=-1)
    assert angle.shape[-1] == s
    z, x = z.reshape(b, l, h, p), x.reshape(b, l, h, p)
    k = _paired(_with_bias(_rms_norm(B.reshape(b, l, r, ngroups, n)) * w["B_norm.weight"], w["B_bias"]), is_mimo)
    q = _paired(_with_bias(_rms_norm(C.reshape(b, l, r, ngroups, n)) * w["C_norm.weight"], w["C_bias"]), is_mimo)

    delta_t = np.logaddexp(0.0, dt + w["dt_bias"])  # (b,l,h)
    if A_activation == "softplus":
        f = np.logaddexp(0.0, A)
    else:
        f = np.where(A >= 0, 1 + A, 1 / (1 - np.minimum(A, 0)))
    alpha = np.exp(delta_t * -np.maximum(f, A_floor))
    now = delta_t / (1 + np.exp(-trap))  # gamma
    past = delta_t - now  # delta
    theta = np.zeros((b, l, n // 2))
    theta[..., :s] = np.pi * np.tanh(angle)

    x_in, z_in, out = (w[name] if is_mimo else np.ones((h, r, p)) for name in ("mimo_x", "mimo_z", "mimo_o"))
    state, last_k, last_x = map(np.copy, _zero(b, h, p, r, n) if before is None else (part.numpy() for part in before))
    y = np.zeros((b, l, d_inner))
    for t in range(l):
        turn = np.exp(-1j * delta_t[:, t, :, None] * theta[:, t, None, :])  # (b,h,n/2)
        carried = state + past[:, t, :, None, None] * _write(last_x, last_k, x_in)
        state = alpha[:, t, :, None, None] * turn[:, :, None, :] * carried
        state = state + now[:, t, :, None, None] * _write(x[:, t], k[:, t], x_in)
        last_k, last_x = k[:, t], x[:, t]
        for i in range(r):
            read = (state * q[:, t, i, :, None, :].conj()).sum(-1).real  # (b,h,p)
            y_i = read + w["D"][:, None] * x[:, t] * x_in[:, i]
            if "norm.weight" in w:
                y_i = _rms_norm(y_i) * w["norm.weight"].reshape(h, p)
            gate = z[:, t] * z_in[:, i]
            y[:, t] += (y_i * gate / (1 + np.exp(-gate)) * out[:, i]).reshape(b, d_inner)
    return torch.from_numpy(y @ w["out_proj.weight"].T), Memory(*map(torch.from_numpy, (state, last_k, last_x)))


def memory_of(turns: Tensor, state: Tensor, last_k: Tensor, last_x: Tensor, *, is_mimo: bool) -> Memory:
    """A state of the package, turned back by its angle: turns (b,h,s), state (b,h,p,n), last_k (b,h,r,n), last_x."""
    whole = np.zeros((*turns.shape[:2], state.shape[-1] // 2))
    whole[..., : turns.shape[-1]] = array(turns)
    back = np.exp(-2j * np.pi * whole)[:, :, None, :]
    seen = _paired(array(state), is_mimo) * back
    k = (_paired(array(last_k), is_mimo) * back).swapaxes(1, 2)
    return Memory(torch.from_numpy(seen), torch.from_numpy(k), torch.from_numpy(array(last_x)))


def _write(x: NDArray[Any], k: Complex, x_in: NDArray[Any]) -> Complex:
    """The sum over ranks of x_r k_r^T: (b,h,p), (b,r,h,n/2), (h,r,p) -> (b,h,p,n/2)."""
    return sum(  # type: ignore[no-any-return]
        (x * x_in[:, i])[..., None] * k[:, i, :, None, :] for i in range(k.shape[1])
    )


def _zero(b: int, h: int, p: int, r: int, n: int) -> tuple[NDArray[Any], ...]:
    return (
        np.zeros((b, h, p, n // 2), np.complex128),
        np.zeros((b, r, h, n // 2), np.complex128),
        np.zeros((b, h, p)),
    )


def _paired(v: NDArray[Any], is_mimo: bool) -> Complex:
    """Channels as complex numbers: neighbours (2i, 2i+1), or under MIMO halves (i, i + n/2)."""
    half = v.shape[-1] // 2
    return v[..., :half] + 1j * v[..., half:] if is_mimo else v[..., 0::2] + 1j * v[..., 1::2]


def _with_bias(v: NDArray[Any], bias: NDArray[Any]) -> NDArray[Any]:
    """(b,l,r,g,n) and (h,r,n) -> (b,l,r,h,n); head i reads group i // (h/g)."""
    return np.repeat(v, bias.shape[0] // v.shape[3], axis=3) + bias.swapaxes(0, 1)


def _rms_norm(v: NDArray[Any]) -> NDArray[Any]:
    return v / np.sqrt((v**2).mean(-1, keepdims=True) + 1e-5)
