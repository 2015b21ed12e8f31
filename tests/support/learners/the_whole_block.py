"""Answers to notebook 06."""

import numpy as np
import torch
import torch.nn.functional as F
from support.learners.collect import right, wrong

from mamba2_lab.course import exercises

NEEDED = ("split_projection", "causal_conv", "step_size", "discretise", "skip", "gated_rms_norm")
split_projection, causal_conv, step_size, discretise, skip, gated_rms_norm = (
    exercises.find(name).reference for name in NEEDED
)

# split_projection


@wrong("split_projection", "z and xBC are exchanged")
def xbc_first(projected, d_inner, nheads):
    conv_dim = projected.shape[-1] - d_inner - nheads
    xBC, z, dt = projected.split([conv_dim, d_inner, nheads], -1)
    return z, xBC, dt


@wrong("split_projection", "The step sizes are taken from the front")
def dt_in_front(projected, d_inner, nheads):
    dt, z, xBC = projected.split([nheads, d_inner, projected.shape[-1] - d_inner - nheads], -1)
    return z, xBC, dt


@wrong("split_projection", "xBC is made as wide as z, and raw_dt gets what is left")
def xbc_as_wide_as_z(projected, d_inner, nheads):
    return projected[..., :d_inner], projected[..., d_inner : 2 * d_inner], projected[..., 2 * d_inner :]


@right("split_projection")
def a_list_of_pieces(projected, d_inner, nheads):
    return [projected[..., :d_inner], projected[..., d_inner:-nheads], projected[..., -nheads:]]


@right("split_projection")
def by_tensor_split(projected, d_inner, nheads):
    return projected.tensor_split([d_inner, projected.shape[-1] - nheads], dim=-1)


@right("split_projection")
def split_by_numpy(projected, d_inner, nheads):
    return np.split(projected.numpy(), [d_inner, projected.shape[-1] - nheads], axis=-1)


# causal_conv


@wrong("causal_conv", "The weighted sum is right, the activation is missing")
def without_silu(x, weight, bias, window):
    return F.conv1d(torch.cat([window, x], 1).mT, weight, bias, groups=x.shape[-1]).mT


@wrong("causal_conv", "The window is forgotten")
def ignores_the_window(x, weight, bias, window):
    l, width = x.shape[1], weight.shape[-1]
    return F.silu(F.conv1d(x.mT, weight, bias, padding=width - 1, groups=x.shape[-1])[..., :l].mT)


@wrong("causal_conv", "The taps are turned around")
def weights_turned_round(x, weight, bias, window):
    return F.silu(F.conv1d(torch.cat([window, x], 1).mT, weight.flip(-1), bias, groups=x.shape[-1]).mT)


@right("causal_conv")
def conv_by_a_loop(x, weight, bias, window):
    inputs, width = torch.cat([window, x], 1), weight.shape[-1]
    total = sum(inputs[:, k : k + x.shape[1]] * weight[:, 0, k] for k in range(width))
    total = total if bias is None else total + bias
    return total * torch.sigmoid(total)


@right("causal_conv")
def conv_by_unfold(x, weight, bias, window):
    inputs = torch.cat([window, x], 1).unfold(1, weight.shape[-1], 1)  # (b,l,channels,width)
    total = torch.einsum("blcw,cw->blc", inputs.double(), weight[:, 0].double())
    return F.silu(total + (0 if bias is None else bias))


@right("causal_conv")
def conv_by_numpy(x, weight, bias, window):
    inputs = np.concatenate([window.numpy(), x.numpy()], axis=1)
    total = np.zeros(x.shape)
    for k in range(weight.shape[-1]):
        total += inputs[:, k : k + x.shape[1]] * weight[:, 0, k].numpy()
    if bias is not None:
        total += bias.numpy()
    return total / (1 + np.exp(-total))


# step_size


@wrong("step_size", "Right on paper, but exp overflows and 1 + a tiny number is")
def log_of_one_plus_exp(raw_dt, dt_bias, dt_limit):
    return torch.log(1 + torch.exp(raw_dt + dt_bias)).clamp(*dt_limit)


@wrong("step_size", "The bias is added after softplus")
def bias_after_softplus(raw_dt, dt_bias, dt_limit):
    return (F.softplus(raw_dt) + dt_bias).clamp(*dt_limit)


@wrong("step_size", "The lower limit is left out")
def the_upper_limit_only(raw_dt, dt_bias, dt_limit):
    return F.softplus(raw_dt + dt_bias).clamp(max=dt_limit[1])


@right("step_size")
def by_logaddexp(raw_dt, dt_bias, dt_limit):
    return torch.logaddexp(raw_dt + dt_bias, torch.zeros(())).clip(dt_limit[0], dt_limit[1])


@right("step_size")
def step_size_by_numpy(raw_dt, dt_bias, dt_limit):
    return np.clip(np.logaddexp(0, raw_dt.numpy() + dt_bias.numpy()), *dt_limit)


@right("step_size")
def step_size_in_float64(raw_dt, dt_bias, dt_limit):
    low, high = dt_limit
    soft = F.softplus((raw_dt + dt_bias).double())
    return torch.minimum(torch.maximum(soft, torch.tensor(low)), torch.tensor(high))


# skip


@wrong("skip", "D scales what was read from the state, and x is added as")
def d_of_the_output(y, x, D):
    return (x + D[:, None] * y).flatten(2)


@wrong("skip", "The channels of different heads are shuffled into each")
def channels_before_heads(y, x, D):
    return (y + D[:, None] * x).transpose(2, 3).flatten(2)


@wrong("skip", "The result holds the right numbers in the right order")
def heads_kept_apart(y, x, D):
    return y + D[:, None] * x


@right("skip")
def skip_by_einsum(y, x, D):
    return (y + torch.einsum("blhp,h->blhp", x, D)).reshape(*y.shape[:2], -1)


@right("skip")
def skip_by_cat(y, x, D):
    return torch.cat([y[:, :, h] + D[h] * x[:, :, h] for h in range(len(D))], dim=-1).double()


@right("skip")
def skip_by_numpy(y, x, D):
    out = y.numpy() + D.numpy()[:, None] * x.numpy()
    return out.reshape(*out.shape[:2], -1)


# gated_rms_norm


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


# mamba2_block


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
