"""One token through a stack of Mamba-2 on mps, in five kernels a layer.

    add_and_normalise   what the layer before leaves, added to the residual stream, and the norm of the sum
    in_proj             by torch
    between_matrices    convolution window, silu, softplus, decay, the state's update, what is read of it, the skip
    gate                the gate and the norm after it
    out_proj            by torch

A launch costs a Mac about as much as what a kernel computes here, so their number is what counts at batch 1. Each of
ours is an operation with a plain definition and proves itself apart from the others (`proof.py`).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mamba2_lab.fast.known import has_its_own_step, is_as_written
from mamba2_lab.fast.metal import shaders
from mamba2_lab.fast.metal.proof import by_metal
from mamba2_lab.fast.metal.rows import as_tried, in_rows, inside_a_larger_one
from mamba2_lab.layers import Block, GatedRMSNorm, LayerState, Mamba2, RMSNorm
from mamba2_lab.layers.norm import gate_and_normalise
from mamba2_lab.machine import transforms
from mamba2_lab.machine.seeds import seeded
from mamba2_lab.model import LanguageModel
from mamba2_lab.model.network import one_token
from mamba2_lab.operation import operation
from mamba2_lab.scan.recurrence import advance

TEAMS = 8  # simdgroups that share the rows of a head's state


# Through the model


def for_reading_on_mps(model: LanguageModel, tokens: Tensor, states: tuple[Any, ...], use_up: bool) -> bool:
    """Whether it is a token that is being written on mps, nothing looks on, and a layer is one that kernels know."""
    return (
        tokens.device.type == "mps"
        and shaders.are_wanted()
        and tokens.numel() > 0
        and not torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
        and not torch.is_autocast_enabled("mps")
        and not transforms.at_work(tokens)
        and not nn.modules.module._has_any_global_hook()
        and has_its_own_step(model)
        and any(map(is_as_written, model.blocks))
    )


@one_token.way("few kernels", serves=for_reading_on_mps, within=1e-5)
def _(model: LanguageModel, tokens: Tensor, states: tuple[Any, ...], use_up: bool) -> tuple[Tensor, tuple[Any, ...]]:
    u, after = model.embed(tokens), []
    left: Tensor | None = None  # what the layer before leaves to add to u, which the next norm takes along
    for block, state in zip(model.blocks, states, strict=True):
        if is_as_written(block) and isinstance(state, LayerState):
            u, left, state = _step(block, u, left, state)
        else:
            u, state = block.step(u if left is None else u + left, state)
            left = None
        after.append(state)
    return model.unembed(u if left is None else u + left), tuple(after)


def _step(block: Block, u: Tensor, left: Tensor | None, state: LayerState) -> tuple[Tensor, Tensor, LayerState]:
    """`Block.step` of the sum of u and what is left to add, but for the last addition."""
    mixer: Mamba2 = block.mixer
    u, normed = (u, block.norm(u)) if left is None else add_and_normalise(block.norm, u, left)
    projected = mixer.in_proj(normed)
    y, state = between_matrices(mixer, projected, state)
    left = mixer.out_proj(gate(mixer.norm, y, projected[..., : mixer.config.d_inner]))
    if block.mlp is not None and block.norm2 is not None:
        u, normed = add_and_normalise(block.norm2, u, left)
        left = block.mlp(normed)
    return u, left, state


# The residual stream and its norm


@operation
def add_and_normalise(norm: RMSNorm, u: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """u + y, and its norm: u (...,d) float32, y (...,d) -> (...,d) float32 and (...,d) in the dtype of the weight."""
    u = u + y
    return u, norm(u)


def _normalises(norm: RMSNorm, u: Tensor, y: Tensor) -> bool:
    weight = norm.weight
    return (
        type(norm) is RMSNorm
        and not (norm._forward_hooks or norm._forward_pre_hooks or "forward" in norm.__dict__)
        and u.dtype == torch.float32
        and u.shape == y.shape
        and weight.shape == u.shape[-1:]
        and weight.dtype == y.dtype
        and weight.dtype in shaders.NUMBERS
        and u.numel() > 0
    )


def _a_sum_to_normalise(norm: RMSNorm, u: Tensor, y: Tensor) -> tuple[RMSNorm, Tensor, Tensor]:
    drawn = RMSNorm(u.shape[-1], norm.eps).to(y.dtype)
    with seeded(0), torch.no_grad():
        drawn.weight.normal_()
        return drawn, torch.randn(u.shape), torch.randn(y.shape).to(y.dtype)


@by_metal(
    add_and_normalise,
    serves=_normalises,
    key=lambda norm, u, y: y.dtype,
    drawn=_a_sum_to_normalise,
    within=1e-5,
)
def _(norm: RMSNorm, u: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    u, y, weight = u.contiguous(), y.contiguous(), norm.weight.contiguous()
    d = u.shape[-1]
    total, normalised = torch.empty_like(u), torch.empty_like(y)
    size = shaders.whole_simdgroups(-(-d // 4))
    run = shaders.kernel("norm", "add_and_normalise", NUMBER=shaders.NUMBERS[y.dtype])
    run(u, y, weight, total, normalised, d, norm.eps, threads=[u.numel() // d * size], group_size=[size])
    return total, normalised


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
    """Whether everything is as large as the config says: a kernel knows addresses, and no ends."""
    config, conv, b = mixer.config, mixer.conv1d, projected.shape[0]
    shapes = [
        (projected, (b, config.d_inner + config.conv_dim + config.nheads)),
        (state.conv_window, (b, config.d_conv - 1, config.conv_dim)),
        (conv.weight, (config.conv_dim, 1, config.d_conv)),
        *((each, (config.nheads,)) for each in (mixer.dt_bias, mixer.A_log, mixer.D)),
        *([] if conv.bias is None else [(conv.bias, (config.conv_dim,))]),
    ]
    return (
        b > 0
        and config.d_conv > 1
        and projected.dtype in shaders.NUMBERS
        and all(each.shape == shape and each.dtype == projected.dtype for each, shape in shapes)
        and state.ssm_state.shape == (b, config.nheads, config.headdim, config.d_state)
        and state.ssm_state.dtype == torch.float32
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
    """As the given, with numbers of their own, and matrices of one column, which nobody multiplies with."""
    fields = {**mixer.config.to_dict(), "d_model": 1, "expand": mixer.config.d_inner, "learnable_init_states": False}
    with seeded(0), torch.no_grad():
        drawn = Mamba2(**fields, device="cpu").to(projected.dtype)
        drawn.conv1d.activation = mixer.conv1d.activation
        drawn.D.normal_()
        states = state.map(lambda tensor: torch.randn(tensor.shape).to(tensor.dtype))
        return drawn, torch.randn(projected.shape).to(projected.dtype), states


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
    size = shaders.LANES * min(TEAMS, config.headdim)
    run = shaders.kernel("token", "token", **_compiled_for(mixer, projected.dtype))
    run(
        *(projected.contiguous(), before.conv_window, before.ssm_state, taps, *map(torch.Tensor.contiguous, vectors)),
        *(y, after.conv_window, after.ssm_state, *map(float, config.dt_limit)),
        threads=[b * config.nheads * size],
        group_size=[size],
    )
    return y, after


# The gate and its norm


@operation
def gate(norm: GatedRMSNorm, y: Tensor, z: Tensor) -> Tensor:
    """Normalise and gate: (...,d) twice -> (...,d) in the dtype of the weight."""
    return norm(y, z)


def _gates(norm: GatedRMSNorm, y: Tensor, z: Tensor) -> bool:
    return (
        type(norm) is GatedRMSNorm
        and not norm.norm_before_gate
        and norm.weight.dtype == z.dtype
        and _normalises_by_group(y, z, norm.weight, norm.eps, norm.ngroups)
    )


def _something_to_gate(norm: GatedRMSNorm, y: Tensor, z: Tensor) -> tuple[GatedRMSNorm, Tensor, Tensor]:
    drawn = GatedRMSNorm(y.shape[-1], norm.eps, norm.ngroups).to(z.dtype)
    with seeded(0), torch.no_grad():
        drawn.weight.normal_()
        return drawn, torch.randn(y.shape), inside_a_larger_one(z)


@by_metal(gate, serves=_gates, key=lambda norm, y, z: z.dtype, drawn=_something_to_gate, within=1e-5)
def _(norm: GatedRMSNorm, y: Tensor, z: Tensor) -> Tensor:
    return _launch_gate(y, z, norm.weight, norm.eps, norm.ngroups)


def _normalises_by_group(y: Tensor, z: Tensor, weight: Tensor, eps: float, ngroups: int) -> bool:
    return (
        y.dtype == torch.float32
        and z.dtype in shaders.NUMBERS
        and weight.dtype in shaders.NUMBERS
        and y.shape == z.shape
        and weight.shape == y.shape[-1:]
        and y.shape[-1] % ngroups == 0
        and y.numel() > 0
    )


def _rows_to_gate(y: Tensor, z: Tensor, weight: Tensor, *rest: Any) -> tuple[Any, ...]:
    with seeded(0):
        y, z = as_tried(y), as_tried(z)
        return torch.randn(y.shape), inside_a_larger_one(z), torch.randn(weight.shape).to(weight.dtype), *rest


@by_metal(
    gate_and_normalise,
    serves=_normalises_by_group,
    key=lambda y, z, weight, eps, ngroups: (z.dtype, weight.dtype),
    drawn=_rows_to_gate,
    within=1e-5,
)
def _(y: Tensor, z: Tensor, weight: Tensor, eps: float, ngroups: int) -> Tensor:
    return _launch_gate(y, z, weight, eps, ngroups)


def _launch_gate(y: Tensor, z: Tensor, weight: Tensor, eps: float, ngroups: int) -> Tensor:
    y, weight, d = y.contiguous(), weight.contiguous(), y.shape[-1]
    normalised = torch.empty_like(y, dtype=weight.dtype)
    z, stride = in_rows(z)
    width, parts = d // ngroups, y.numel() // d * ngroups
    size = shaders.whole_simdgroups(-(-width // 4))
    numbers = {"GATE": shaders.NUMBERS[z.dtype], "NUMBER": shaders.NUMBERS[weight.dtype]}
    run = shaders.kernel("gate", "gate_and_normalise", **numbers)
    run(y, z, weight, normalised, ngroups, width, stride, eps, threads=[parts * size], group_size=[size])
    return normalised
