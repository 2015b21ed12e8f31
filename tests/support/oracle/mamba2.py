"""Mamba-2 in float64, written from the formulas: what the package is measured against.

Plain numpy, one token after another, nothing imported from the package. Weights come as a state dict (the official
names), sizes are read off their shapes. Below it: inputs to try things on, and the measure of errors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Array = NDArray[np.float64]
Module = TypeVar("Module", bound=nn.Module)


# The recurrence


def recurrence(
    x: Tensor, log_decay: Tensor, B: Tensor, C: Tensor, initial_state: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """h_t = exp(log_decay_t) h_{t-1} + x_t B_t^T and y_t = h_t C_t, for each head by itself."""
    y, state = _recurrence(*map(array, (x, log_decay, B, C)), None if initial_state is None else array(initial_state))
    return torch.from_numpy(y), torch.from_numpy(state)


def _recurrence(
    x: Array, log_decay: Array, B: Array, C: Array, initial_state: Array | None = None
) -> tuple[Array, Array]:
    b, l, h, p = x.shape
    heads_per_group = h // B.shape[2]
    B, C = (np.repeat(factor, heads_per_group, axis=2) for factor in (B, C))  # head i reads group i // heads_per_group
    state = np.zeros((b, h, p, B.shape[3])) if initial_state is None else initial_state.copy()
    y = np.zeros((b, l, h, p))
    for t in range(l):
        written = x[:, t, :, :, None] * B[:, t, :, None, :]
        state = np.exp(log_decay[:, t])[:, :, None, None] * state + written
        y[:, t] = (state * C[:, t, :, None, :]).sum(-1)
    return y, state


# The block and the model


class Memory(NamedTuple):
    """What one layer leaves behind: the last inputs of the convolution (b,width-1,channels), the state (b,h,p,n)."""

    window: Tensor
    state: Tensor


def mixer(
    weights: Mapping[str, Tensor],
    u: Tensor,
    before: Memory | None = None,
    *,
    ngroups: int = 1,
    dt_limit: tuple[float, float] = (0.0, math.inf),
    norm_before_gate: bool = False,
    norm_eps: float = 1e-5,
) -> tuple[Tensor, Memory]:
    """The mixer, from u (b,l,d_model) to the same shape, and what it leaves behind."""
    w = {name: array(weight) for name, weight in weights.items()}
    b, l, _ = u.shape
    h, d_inner = w["A_log"].size, w["out_proj.weight"].shape[1]
    channels, _, width = w["conv1d.weight"].shape
    n = (channels - d_inner) // (2 * ngroups)

    projected = array(u) @ w["in_proj.weight"].T + w.get("in_proj.bias", 0.0)
    z, xBC, dt = np.split(projected, [d_inner, d_inner + channels], axis=-1)

    window = np.zeros((b, width - 1, channels)) if before is None else array(before.window)
    inputs = np.concatenate([window, xBC], axis=1)
    convolved = np.zeros((b, l, channels)) + w.get("conv1d.bias", 0.0)
    for t in range(l):
        for i in range(width):  # the last tap meets the token itself
            convolved[:, t] += w["conv1d.weight"][:, 0, i] * inputs[:, t + i]
    x, B, C = np.split(_silu(convolved), [d_inner, d_inner + ngroups * n], axis=-1)
    x, B, C = x.reshape(b, l, h, d_inner // h), B.reshape(b, l, ngroups, n), C.reshape(b, l, ngroups, n)

    dt = np.clip(np.logaddexp(0.0, dt + w["dt_bias"]), *dt_limit)
    state = _first_state(w, b, x.shape[-1], n) if before is None else array(before.state)
    y, state = _recurrence(x * dt[..., None], -dt * np.exp(w["A_log"]), B, C, state)
    y = (y + w["D"][:, None] * x).reshape(b, l, d_inner)

    if norm_before_gate:
        gated = _group_rms_norm(y, ngroups, norm_eps) * w["norm.weight"] * _silu(z)
    else:
        gated = _group_rms_norm(y * _silu(z), ngroups, norm_eps) * w["norm.weight"]
    out = gated @ w["out_proj.weight"].T + w.get("out_proj.bias", 0.0)
    return torch.from_numpy(out), Memory(*map(torch.from_numpy, (inputs[:, l:], state)))


def language_model(
    weights: Mapping[str, Tensor],
    input_ids: Tensor,
    *,
    vocab_size: int,
    before: Sequence[Memory] | None = None,
    norm_eps: float = 1e-5,
    **mixer_settings: Any,
) -> tuple[Tensor, list[Memory]]:
    """Logits (b,l,vocab_size) and what each layer leaves behind."""
    w = {name: array(weight) for name, weight in weights.items()}
    u = w["embedding.weight"][input_ids.numpy()]
    memories = []
    for i in range(1 + max(int(name.split(".")[1]) for name in weights if name.startswith("layers."))):
        normed = _rms_norm(u, norm_eps) * w[f"layers.{i}.norm.weight"]
        prefix = f"layers.{i}.mixer."
        own = {name.removeprefix(prefix): weight for name, weight in weights.items() if name.startswith(prefix)}
        y, memory = mixer(
            own, torch.from_numpy(normed), before[i] if before else None, norm_eps=norm_eps, **mixer_settings
        )
        u = u + y.numpy()
        memories.append(memory)
    logits = (_rms_norm(u, norm_eps) * w["norm_f.weight"]) @ w["lm_head.weight"].T
    return torch.from_numpy(logits[..., :vocab_size]), memories


def _first_state(w: Mapping[str, Array], b: int, p: int, n: int) -> Array:
    learned = w.get("init_states", np.zeros((w["A_log"].size, p, n)))
    return np.stack([learned] * b)


def _silu(v: Array) -> Array:
    return v / (1.0 + np.exp(-v))


def _rms_norm(v: Array, eps: float) -> Array:
    return v / np.sqrt((v**2).mean(-1, keepdims=True) + eps)


def _group_rms_norm(v: Array, groups: int, eps: float) -> Array:
    return _rms_norm(v.reshape(*v.shape[:-1], groups, v.shape[-1] // groups), eps).reshape(v.shape)


def array(tensor: Tensor) -> Array:
    """A float64 copy."""
    return tensor.detach().cpu().double().numpy().copy()


# Inputs


class ScanInputs(NamedTuple):
    """Arguments of a scan, in the order in which all of them take it."""

    x: Tensor
    log_decay: Tensor
    B: Tensor
    C: Tensor
    initial_state: Tensor | None

    def map(self, change: Any) -> ScanInputs:
        """The same change applied to every tensor."""
        return ScanInputs(*(None if part is None else change(part) for part in self))

    def tokens(self, start: int, stop: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """x, log_decay, B and C of the tokens start..stop-1."""
        return tuple(part[:, start:stop] for part in self[:4])  # type: ignore[return-value]


def scan_inputs(
    l: int,
    *,
    b: int = 2,
    h: int = 4,
    p: int = 8,
    g: int = 1,
    n: int = 16,
    initial: bool = True,
    dt_per_head: bool = False,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> ScanInputs:
    """What Mamba-2 gives a scan at its official initialisation: dt log-uniform in 0.001..0.1, A uniform in -16..-1.

    dt is drawn for each token and head; with dt_per_head only for each head, the same for all tokens.
    """
    generator = torch.Generator().manual_seed(1000 * seed + l)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(*shape, generator=generator, dtype=torch.float64)

    low, high = math.log(0.001), math.log(0.1)
    dt = uniform(low, high, 1, 1, h).exp().expand(b, l, h) if dt_per_head else uniform(low, high, b, l, h).exp()
    A = -uniform(1.0, 16.0, h)
    state = normal(b, h, p, n) if initial else None
    inputs = ScanInputs(normal(b, l, h, p) * dt.unsqueeze(-1), dt * A, normal(b, l, g, n), normal(b, l, g, n), state)
    return inputs.map(lambda tensor: tensor.to(dtype))


@torch.no_grad()
def perturb(module: Module, seed: int = 0, size: float = 1.0) -> Module:
    """Move every weight away from where it starts, so that no 0 or 1 hides a forgotten term."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        fan_in = parameter.shape[-1] if parameter.ndim > 1 else 10
        parameter += size / math.sqrt(fan_in) * torch.randn(parameter.shape, generator=generator).to(parameter.dtype)
    return module


# Errors


def gradients(compute: Callable[..., tuple[Tensor, Tensor]], inputs: ScanInputs) -> list[Tensor]:
    """Of a loss in which every output and every entry of the final state has its own weight."""
    given = inputs.map(lambda tensor: tensor.detach().clone().requires_grad_())
    y, state = compute(*given)
    weights = [torch.linspace(-1, 1, part.numel(), dtype=part.dtype).view_as(part) for part in (y, state)]
    ((y * weights[0]).sum() + (state * weights[1]).sum()).backward()
    return [part.grad for part in given]


def relative_error(found: Tensor, expected: Tensor, dim: int | tuple[int, ...] | None = None) -> float:
    """||found - expected|| / ||expected||; with dim, the norms are over these axes and the worst ratio counts.

    Where nothing is expected, the norm of what is found. NaN stays NaN, and so is below no tolerance.
    """
    assert found.shape == expected.shape, (found.shape, expected.shape)
    if expected.numel() == 0:
        return 0.0
    expected = expected.detach().cpu().double()
    difference = torch.linalg.vector_norm(found.detach().cpu().double() - expected, dim=dim)
    size = torch.linalg.vector_norm(expected, dim=dim)
    return float((difference / torch.where(size > 0, size, 1.0)).max())


def largest_difference(found: Iterable[Tensor], expected: Iterable[Tensor]) -> float:
    """The largest absolute difference over pairs of tensors of equal shapes."""
    worst = [0.0]
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape, (one.shape, other.shape)
        if one.numel():
            worst.append(float((one.detach().cpu().double() - other.detach().cpu().double()).abs().max()))
    return math.nan if any(map(math.isnan, worst)) else max(worst)


@contextmanager
def raises(error: type[Exception], *parts: str) -> Iterator[None]:
    """What is inside raises this error, and all these parts stand in its message."""
    with pytest.raises(error) as caught:
        yield
    message = str(caught.value)
    missing = [part for part in parts if part not in message]
    assert not missing, f"{missing} not in {message!r}"
