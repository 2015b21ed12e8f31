"""Answers to `mamba2_block`."""

import torch
import torch.nn.functional as F
from support.learners.collect import right, wrong

from mamba2_lab.course.exercises.the_whole_block import causal_conv, gated_rms_norm, skip, split_projection, step_size


def _block(
    u, weights, config, scan, *, swap=False, silu=True, limit=True, skips=True, biases=True, late=False, twice=False
):
    projected = F.linear(u, weights["in_proj.weight"], weights.get("in_proj.bias") if biases else None)
    z, xBC, dt = split_projection(projected, config.d_inner, config.nheads)
    window = u.new_zeros(u.shape[0], config.d_conv - 1, config.conv_dim)
    weight, bias = weights["conv1d.weight"], weights.get("conv1d.bias")
    if silu:
        xBC = causal_conv(xBC, weight, bias, window)
    else:
        xBC = F.conv1d(torch.cat([window, xBC], 1).mT, weight, bias, groups=config.conv_dim).mT
    width = config.ngroups * config.d_state
    x, B, C = xBC.split([config.d_inner, width, width], -1)
    x = x.unflatten(-1, (config.nheads, config.headdim))
    B, C = (part.unflatten(-1, (config.ngroups, config.d_state)) for part in (B, C))
    if swap:
        B, C = C, B
    delta = step_size(dt, weights["dt_bias"], config.dt_limit) if limit else F.softplus(dt + weights["dt_bias"])
    A = -torch.exp(weights["A_log"])
    empty = u.new_zeros(u.shape[0], config.nheads, config.headdim, config.d_state)
    y, _ = scan(x * delta[..., None], delta * A, B, C, empty, config.chunk_size)
    y = skip(y, x * delta[..., None] if late else x, weights["D"]) if skips else y.flatten(2)
    z = F.silu(z) if twice else z
    y = gated_rms_norm(y, z, weights["norm.weight"], config.ngroups, config.norm_before_gate, config.norm_eps)
    return F.linear(y, weights["out_proj.weight"], weights.get("out_proj.bias"))


@wrong("mamba2_block", "B and C are exchanged on the way to the scan")
def b_and_c_exchanged(u, weights, config, scan):
    return _block(u, weights, config, scan, swap=True)


@wrong("mamba2_block", "The silu after the convolution is missing")
def forgets_silu(u, weights, config, scan):
    return _block(u, weights, config, scan, silu=False)


@wrong("mamba2_block", "dt_limit is forgotten")
def forgets_dt_limit(u, weights, config, scan):
    return _block(u, weights, config, scan, limit=False)


@wrong("mamba2_block", "What passes by the state is scaled by dt here. Only what is written is")
def skips_what_the_scan_gets(u, weights, config, scan):
    return _block(u, weights, config, scan, late=True)


@wrong("mamba2_block", "It comes out as if `silu` were taken twice: `gated_rms_norm` takes it already")
def silu_of_z_twice(u, weights, config, scan):
    return _block(u, weights, config, scan, twice=True)


@right("mamba2_block")
def block_in_float64(u, weights, config, scan):
    return _block(u.double(), {name: weight.double() for name, weight in weights.items()}, config, scan)


@right("mamba2_block")
def block_at_one_go(u, weights, config, scan):
    return _block(u, weights, config, lambda *inputs: scan(*inputs[:-1], u.shape[1]))


@right("mamba2_block")
def block_token_by_token(u, weights, config, scan):
    def one_by_one(x, a, B, C, state, chunk_size):
        ys = []
        for t in range(x.shape[1]):
            y, state = scan(x[:, t : t + 1], a[:, t : t + 1], B[:, t : t + 1], C[:, t : t + 1], state, 1)
            ys.append(y)
        return torch.cat(ys, 1), state

    return _block(u, weights, config, one_by_one)
