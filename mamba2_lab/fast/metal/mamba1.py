"""One token through a Mamba-1 on mps, in five kernels.

in_proj             by torch
convolve_token      convolution window, silu
x_proj              by torch
select_and_turn     step sizes from their few numbers, softplus, decay, the state's update, the skip, the gate
out_proj            by torch
"""

from __future__ import annotations

import torch
from torch import Tensor

from mamba2_lab.fast.known import are_unchanged
from mamba2_lab.fast.metal import shaders
from mamba2_lab.fast.metal.proof import by_metal
from mamba2_lab.fast.metal.rows import drawn_like, fit, inside_a_larger_one, with_small_matrices
from mamba2_lab.layers import CausalConv, Mamba1, Mamba1State
from mamba2_lab.layers.mamba1 import StepSizes
from mamba2_lab.machine.seeds import seeded
from mamba2_lab.machine.strides import in_rows
from mamba2_lab.operation import operation
from mamba2_lab.scan.per_channel import selective_advance


def is_as_written(mixer: Mamba1) -> bool:
    """Whether no part of it is exchanged, hooked or overridden. The other projections may be anything."""
    conv, dt_proj = mixer.conv1d, mixer.dt_proj
    return type(conv) is CausalConv and type(dt_proj) is StepSizes and are_unchanged(mixer, conv, dt_proj)


def step(mixer: Mamba1, u: Tensor, state: Mamba1State) -> tuple[Tensor, Mamba1State]:
    """`Mamba1.step`."""
    inputs, z = mixer.project(u)
    x, window = convolve_token(mixer.conv1d, inputs, state.conv_window)
    y, memory = select_and_turn(mixer, x, mixer.x_proj(x), z, state.ssm_state)
    return mixer.out_proj(y), Mamba1State(window, memory)


# The convolution


@operation
def convolve_token(conv: CausalConv, x: Tensor, window: Tensor) -> tuple[Tensor, Tensor]:
    """x (b,channels), and a window (b,width-1,channels) before it -> (b,channels), and the window after it."""
    return conv.step(x, window)


def _convolves(conv: CausalConv, x: Tensor, window: Tensor) -> bool:
    b, channels = x.shape
    shapes = [
        (window, (b, conv.width - 1, channels)),
        (conv.weight, (channels, 1, conv.width)),
        *([] if conv.bias is None else [(conv.bias, (channels,))]),
    ]
    return (
        0 < x.numel() < shaders.MOST_IN_GRID and conv.width > 1 and x.dtype in shaders.NUMBERS and fit(shapes, x.dtype)
    )


def _meanings(conv: CausalConv, x: Tensor) -> dict[str, str | int]:
    return {
        "NUMBER": shaders.NUMBERS[x.dtype],
        "WIDTH": conv.width,
        "BIAS": int(conv.bias is not None),
        "SILU": int(conv.activation),
    }


def _a_token_to_convolve(conv: CausalConv, x: Tensor, window: Tensor) -> tuple[CausalConv, Tensor, Tensor]:
    with seeded(0):
        drawn = CausalConv(x.shape[1], conv.width, conv.bias is not None, conv.activation).to(x.dtype)
        return drawn, inside_a_larger_one(x), drawn_like(window)


@by_metal(
    convolve_token,
    serves=_convolves,
    key=lambda conv, x, window: tuple(_meanings(conv, x).values()),
    drawn=_a_token_to_convolve,
    within=1e-5,
)
def _(conv: CausalConv, x: Tensor, window: Tensor) -> tuple[Tensor, Tensor]:
    taps = conv.weight.contiguous()
    bias = taps if conv.bias is None else conv.bias.contiguous()
    given, stride = in_rows(x)
    window = window.contiguous()
    y, after = torch.empty(x.shape, dtype=x.dtype, device=x.device), torch.empty_like(window)
    run = shaders.kernel("window", "convolve_token", **_meanings(conv, x))
    run(given, window, taps, bias, y, after, x.shape[1], stride, threads=[x.numel()], group_size=[256])
    return y, after


# Behind the second matrix


@operation
def select_and_turn(mixer: Mamba1, x: Tensor, few: Tensor, z: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
    """x, convolved, and the gate z (b,d_inner), few (b,dt_rank+2n) that x_proj makes of x, and the state before it
    (b,d_inner,n) -> (b,d_inner) and the state after it."""
    dt, B, C = mixer.select_from(few)
    y, memory = selective_advance(x, dt, mixer.decay_rates(), B, C, mixer.D, memory)
    return mixer.gate(y, z), memory


def _turns(mixer: Mamba1, x: Tensor, few: Tensor, z: Tensor, memory: Tensor) -> bool:
    """Whether everything is as large as the config says."""
    config, b = mixer.config, x.shape[0]
    channels, n = config.d_inner, config.d_state
    shapes = [
        *((each, (b, channels)) for each in (x, z)),
        (few, (b, config.rank + 2 * n)),
        (mixer.dt_proj.weight, (channels, config.rank)),
        (mixer.A_log, (channels, n)),
        *((each, (channels,)) for each in (mixer.dt_proj.bias, mixer.D)),
    ]
    return (
        0 < x.numel() < shaders.MOST_IN_GRID // shaders.LANES
        and x.dtype in shaders.NUMBERS
        and fit(shapes, x.dtype)
        and fit([(memory, (b, channels, n))], torch.float32)
    )


def _compiled_for(mixer: Mamba1, dtype: torch.dtype) -> dict[str, str | int]:
    config = mixer.config
    return {
        "NUMBER": shaders.NUMBERS[dtype],
        "CHANNELS": config.d_inner,
        "RANK": config.rank,
        "STATE": config.d_state,
        "RMS": int(config.b_c_dt_rms),
    }


def _a_token_to_select(
    mixer: Mamba1, x: Tensor, few: Tensor, z: Tensor, memory: Tensor
) -> tuple[Mamba1, Tensor, Tensor, Tensor, Tensor]:
    fields = {**with_small_matrices(mixer.config), "dt_rank": mixer.config.rank}
    with seeded(0), torch.no_grad():
        drawn = Mamba1(**fields, device="cpu").to(x.dtype)
        drawn.D.normal_()
        return drawn, drawn_like(x), drawn_like(few), inside_a_larger_one(z), drawn_like(memory)


@by_metal(
    select_and_turn,
    serves=_turns,
    key=lambda mixer, x, *rest: tuple(_compiled_for(mixer, x.dtype).values()),
    drawn=_a_token_to_select,
    within=1e-5,
)
def _(mixer: Mamba1, x: Tensor, few: Tensor, z: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
    config, dt_proj = mixer.config, mixer.dt_proj
    x, memory = x.contiguous(), memory.contiguous()
    weights = (dt_proj.weight, dt_proj.bias, mixer.A_log, mixer.D)
    y, after = torch.empty_like(x), torch.empty_like(memory)
    z, stride = in_rows(z)
    run = shaders.kernel("mamba1", "token_of_mamba1", **_compiled_for(mixer, x.dtype))
    run(
        *(x, z, few.contiguous(), memory, *map(torch.Tensor.contiguous, weights), y, after),
        *(x.shape[0], stride, config.b_c_dt_rms_eps),
        **shaders.simdgroups(x.numel()),
    )
    return y, after
