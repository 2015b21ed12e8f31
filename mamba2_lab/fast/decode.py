"""One token through a model, in few small operations.

For a single token of a small model, to call an operation costs as much as what it computes. So a block of Mamba-2 is
gone through in one function: what `Block.step`, `Mamba2.step` and the layers that they call do, without looking at
shapes again, and with fewer conversions. Nothing is kept from token to token but the state: weights may change at any
time. Blocks of other kinds, and those that somebody changed, are gone through as they are written.

Layers in float32 or bfloat16 go another way, if numba is there (`token`).
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mamba2_lab.fast.known import has_its_own_step, is_as_written
from mamba2_lab.fast.linear import LEAST_TO_SHARE
from mamba2_lab.layers import Block, CausalConv, LayerState, RMSNorm
from mamba2_lab.layers.convolution import convolve_last
from mamba2_lab.machine import threads, transforms
from mamba2_lab.model import LanguageModel
from mamba2_lab.model.network import one_token
from mamba2_lab.scan.recurrence import turn


def on_a_cpu_without_gradients(model: LanguageModel, tokens: Tensor, states: tuple[Any, ...], use_up: bool) -> bool:
    """Whether it is a token that is being written, on a CPU, and nothing looks on."""
    return (
        tokens.device.type == "cpu"
        and not torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
        and not torch.is_autocast_enabled("cpu")
        and not transforms.at_work(tokens)
        and not nn.modules.module._has_any_global_hook()
        and has_its_own_step(model)
    )


@one_token.way("few operations", serves=on_a_cpu_without_gradients, within=1e-6)
def _(model: LanguageModel, tokens: Tensor, states: tuple[Any, ...], use_up: bool) -> tuple[Tensor, tuple[Any, ...]]:
    # A thread that waits for a second one loses more than that one gives, where a layer is read in microseconds.
    small = 4 * model.config.d_model**2 < LEAST_TO_SHARE  # about the numbers of in_proj, whatever stands in its place
    most = 1 if small else threads.most()
    return model._on_free_cores(threads.at_most, most, _go_through, model, tokens, states)


def _go_through(model: LanguageModel, tokens: Tensor, states: tuple[Any, ...]) -> tuple[Tensor, tuple[Any, ...]]:
    u, after = model.embed(tokens), []
    for block, state in zip(model.blocks, states, strict=True):
        u, state = _step(block, u, state) if is_as_written(block) else block.step(u, state)
        after.append(state)
    return model.unembed(u), tuple(after)


def _step(block: Block, u: Tensor, state: LayerState) -> tuple[Tensor, LayerState]:
    """`Block.step`: u (b,d_model) and a state -> the same after one token. The numbers are those of u, float32."""
    mixer, config = block.mixer, block.mixer.config
    projected = mixer.in_proj(_normalise(u, block.norm))
    z, xBC, dt = projected.split([config.d_inner, config.conv_dim, config.nheads], dim=-1)
    inputs = torch.cat([state.conv_window.to(xBC.dtype), xBC.unsqueeze(1)], dim=1)  # (b,d_conv,conv_dim)
    x, B, C = _convolve(inputs, mixer.conv1d, u.dtype).split(
        [config.d_inner, config.ngroups * config.d_state, config.ngroups * config.d_state], dim=-1
    )
    x = x.unflatten(-1, (config.nheads, config.headdim))
    dt = F.softplus(dt + mixer.dt_bias.to(u.dtype))
    if config.dt_limit != (0.0, math.inf):
        dt = dt.clamp(*config.dt_limit)
    x_dt, log_decay = x * dt.unsqueeze(-1), dt * -torch.exp(mixer.A_log.to(u.dtype))
    B, C = (part.unflatten(-1, (config.ngroups, config.d_state)) for part in (B, C))
    y, ssm_state = turn(x_dt, log_decay, B, C, state.ssm_state.to(u.dtype))
    y = torch.addcmul(y, x, mixer.D.to(u.dtype).view(-1, 1)).flatten(-2).mul_(F.silu(z.to(u.dtype)))
    y = mixer.out_proj(_normalise(y, mixer.norm, mixer.norm.ngroups))
    return block.add_mlp(u + y), LayerState(inputs[:, 1:], ssm_state)


def _normalise(u: Tensor, norm: RMSNorm, ngroups: int = 1) -> Tensor:
    """`RMSNorm`, each group of channels by its own rms: (b,d), in the numbers of u -> (b,d), in those of the weight."""
    if u.shape[0] == ngroups == 1:  # one number, so Python takes it
        row = u.view(-1)
        scale = (float(row.dot(row)) / row.shape[0] + norm.eps) ** -0.5
        return (u * scale).mul_(norm.weight).to(norm.weight.dtype)
    grouped = u.unflatten(-1, (ngroups, -1))
    scale = torch.linalg.vector_norm(grouped, dim=-1, keepdim=True).square_().div_(grouped.shape[-1])
    return (grouped * scale.add_(norm.eps).rsqrt_()).flatten(-2).mul_(norm.weight).to(norm.weight.dtype)


def _convolve(inputs: Tensor, conv: CausalConv, dtype: torch.dtype) -> Tensor:
    """silu of the convolution at the last of its inputs (b,width,channels), in this dtype -> (b,channels)."""
    y = convolve_last(inputs.to(dtype), conv.weight.to(dtype), None if conv.bias is None else conv.bias.to(dtype))
    return F.silu(y, inplace=True) if conv.activation else y
