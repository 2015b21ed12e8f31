"""One token through a Mamba-2 on mps, in four kernels.

in_proj             by torch
between_matrices    convolution window, silu, softplus, decay, the state's update, what is read of it, the skip
gate_and_normalise  the gate and the norm, in either order
out_proj            by torch
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mamba2_lab.fast.known import are_unchanged
from mamba2_lab.fast.metal import shaders
from mamba2_lab.fast.metal.proof import by_metal
from mamba2_lab.fast.metal.rows import as_tried, drawn_like, fit, inside_a_larger_one, with_small_matrices
from mamba2_lab.layers import CausalConv, LayerState, Mamba2
from mamba2_lab.layers.norm import gate_and_normalise
from mamba2_lab.machine.seeds import seeded
from mamba2_lab.machine.strides import in_rows
from mamba2_lab.operation import operation
from mamba2_lab.scan.recurrence import advance

TEAMS = 8  # simdgroups that share the rows of a head's state


def is_as_written(mixer: Mamba2) -> bool:
    """Whether no part of it is exchanged, hooked or overridden. Projections and the norm may be anything."""
    return type(mixer.conv1d) is CausalConv and are_unchanged(mixer, mixer.conv1d)


def step(mixer: Mamba2, u: Tensor, state: LayerState) -> tuple[Tensor, LayerState]:
    """`Mamba2.step`."""
    projected = mixer.in_proj(u)
    y, state = between_matrices(mixer, projected, state)
    return mixer.out_proj(mixer.norm(y, projected[..., : mixer.config.d_inner])), state


# Between the matrices


@operation
def between_matrices(mixer: Mamba2, projected: Tensor, state: LayerState) -> tuple[Tensor, LayerState]:
    """What a Mamba-2 makes of a token from its first matrix on, up to the gate: (b,d_in_proj) and a state before it ->
    (b,d_inner) and the state after it."""
    config = mixer.config
    _, xBC, dt = projected.split([config.d_inner, config.conv_dim, config.nheads], dim=-1)
    convolved, window = mixer.conv1d.step(xBC, state.conv_window)
    terms = mixer.discretise(convolved, dt)
    y, ssm_state = advance(terms.x_dt, terms.log_decay, terms.B, terms.C, state.ssm_state)
    return mixer.skip(y, terms.x), LayerState(window, ssm_state)


def _lies_between(mixer: Mamba2, projected: Tensor, state: LayerState) -> bool:
    """Whether everything is as large as the config says, and a group of threads may share what it is to share."""
    config, conv, b = mixer.config, mixer.conv1d, projected.shape[0]
    given = mixer.state_shapes(b)
    shapes = [
        (projected, (b, config.d_inner + config.conv_dim + config.nheads)),
        (state.conv_window, given["conv_window"]),
        (conv.weight, (config.conv_dim, 1, config.d_conv)),
        *((each, (config.nheads,)) for each in (mixer.dt_bias, mixer.A_log, mixer.D)),
        *([] if conv.bias is None else [(conv.bias, (config.conv_dim,))]),
    ]
    return (
        b > 0
        and config.d_conv > 1
        and projected.dtype in shaders.NUMBERS
        and fit(shapes, projected.dtype)
        and fit([(state.ssm_state, given["ssm_state"])], torch.float32)
        and 4 * (config.headdim + 2 * config.d_state) <= shaders.MOST_TOGETHER
    )


def _compiled_for(mixer: Mamba2, dtype: torch.dtype) -> dict[str, str | int]:
    config, conv = mixer.config, mixer.conv1d
    return {
        "NUMBER": shaders.NUMBERS[dtype],
        "HEADS": config.nheads,
        "HEADDIM": config.headdim,
        "GROUPS": config.ngroups,
        "STATE": config.d_state,
        "WIDTH": config.d_conv,
        "BIAS": int(conv.bias is not None),
        "SILU": int(conv.activation),
    }


def _a_token(mixer: Mamba2, projected: Tensor, state: LayerState) -> tuple[Mamba2, Tensor, LayerState]:
    fields = {**with_small_matrices(mixer.config), "learnable_init_states": False}
    with seeded(0), torch.no_grad():
        drawn = Mamba2(**fields, device="cpu").to(projected.dtype)
        drawn.conv1d.activation = mixer.conv1d.activation
        drawn.D.normal_()
        return drawn, drawn_like(projected), state.map(drawn_like)


@by_metal(
    between_matrices,
    serves=_lies_between,
    key=lambda mixer, projected, state: tuple(_compiled_for(mixer, projected.dtype).values()),
    drawn=_a_token,
    within=1e-5,
)
def _(mixer: Mamba2, projected: Tensor, state: LayerState) -> tuple[Tensor, LayerState]:
    config, conv, b = mixer.config, mixer.conv1d, projected.shape[0]
    before = state.map(torch.Tensor.contiguous)
    after = before.map(torch.empty_like)
    y = projected.new_empty(b, config.d_inner, dtype=torch.float32)
    taps = conv.weight.contiguous()
    vectors = (taps if conv.bias is None else conv.bias, mixer.dt_bias, mixer.A_log, mixer.D)
    run = shaders.kernel("mamba2", "token_of_mamba2", **_compiled_for(mixer, projected.dtype))
    run(
        *(projected.contiguous(), before.conv_window, before.ssm_state, taps, *map(torch.Tensor.contiguous, vectors)),
        *(y, after.conv_window, after.ssm_state, *map(float, config.dt_limit)),
        **shaders.groups(b * config.nheads, shaders.LANES * min(TEAMS, config.headdim)),
    )
    return y, after


# The gate and its norm


def _normalises_by_group(
    y: Tensor, z: Tensor, weight: Tensor, eps: float, ngroups: int, norm_before_gate: bool
) -> bool:
    return (
        y.dtype == torch.float32
        and z.dtype in shaders.NUMBERS
        and weight.dtype in shaders.NUMBERS
        and y.shape == z.shape
        and weight.shape == y.shape[-1:]
        and y.shape[-1] % ngroups == 0
        and y.numel() > 0
    )


def _gated(y: Tensor, z: Tensor, weight: Tensor, eps: float, ngroups: int, norm_before_gate: bool) -> tuple[Any, ...]:
    """What it is compiled for, and whether it is one token: what is sooner for it is asked apart."""
    return z.dtype, weight.dtype, norm_before_gate, y.ndim == 2


def _rows_to_gate(y: Tensor, z: Tensor, weight: Tensor, *rest: Any) -> tuple[Any, ...]:
    with seeded(0):
        return drawn_like(as_tried(y)), inside_a_larger_one(as_tried(z)), drawn_like(weight), *rest


@by_metal(gate_and_normalise, serves=_normalises_by_group, key=_gated, drawn=_rows_to_gate, within=1e-5)
def _(y: Tensor, z: Tensor, weight: Tensor, eps: float, ngroups: int, norm_before_gate: bool) -> Tensor:
    y, weight, d = y.contiguous(), weight.contiguous(), y.shape[-1]
    normalised = torch.empty_like(y, dtype=weight.dtype)
    z, stride = in_rows(z)
    width, parts = d // ngroups, y.numel() // d * ngroups
    run = shaders.kernel(
        "gate",
        "gate_and_normalise",
        GATE=shaders.NUMBERS[z.dtype],
        NUMBER=shaders.NUMBERS[weight.dtype],
        NORM_FIRST=int(norm_before_gate),
    )
    run(y, z, weight, normalised, ngroups, width, stride, eps, **shaders.groups(parts, -(-width // 4)))
    return normalised
