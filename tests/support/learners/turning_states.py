"""Answers to notebook 13."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from support.learners.collect import right, wrong

from mamba2_lab import scan as scans
from mamba2_lab.course import exercises
from mamba2_lab.layers import turning
from mamba2_lab.layers.mamba3 import Mamba3, heavy_tail

NEEDED = ("rotate_pairs", "turn_onto", "trapezoid", "discretise_turning")
rotate_pairs, turn_onto, trapezoid, discretise_turning = (exercises.find(name).reference for name in NEEDED)

# refute


@wrong("refute", "Two presses do not refute them all")
def tries_two(decay, write, threshold):
    for presses in (1, 2):
        level = write * (1 + decay) if presses == 2 else write
        if (level > threshold) != bool(presses % 2):
            return presses
    return 2


@wrong("refute", "One number for all memories will not do")
def three_always(decay, write, threshold):
    return 2 + 1


@wrong("refute", "After so many presses the memory is right")
def the_first_right_one(decay, write, threshold):
    presses, h = 1, write
    while (h > threshold) != bool(presses % 2):
        presses, h = presses + 1, decay * h + write
    return presses


@right("refute")
def by_the_series(decay, write, threshold):
    for presses in range(1, 10):
        says = write * (1 - decay**presses) / (1 - decay) > threshold
        if says != bool(presses % 2):
            return presses
    return None


@right("refute")
def from_no_press_on(decay, write, threshold):
    h = presses = 0
    while (h > threshold) == (presses % 2 == 1):
        h, presses = decay * h + write, presses + 1
    return presses


@right("refute")
def by_cases(decay, write, threshold):
    if write <= threshold:
        return 1
    return 2 if write * (1 + decay) > threshold else 3


@right("refute")
def far_out(decay, write, threshold):
    end = write / (1 - decay) > threshold
    return 1000 if end else 1001


# rotate_pairs


@wrong("rotate_pairs", "It turns clockwise")
def the_other_sense(x, angle):
    s = angle.shape[-1]
    out = x.clone()
    for i in range(s):
        c, d = angle[..., i].cos(), angle[..., i].sin()
        out[..., 2 * i] = c * x[..., 2 * i] + d * x[..., 2 * i + 1]
        out[..., 2 * i + 1] = c * x[..., 2 * i + 1] - d * x[..., 2 * i]
    return out


@wrong("rotate_pairs", "The second channel is made from the first as it is after turning")
def in_place(x, angle):
    out = x.clone()
    for i in range(angle.shape[-1]):
        c, d = angle[..., i].cos(), angle[..., i].sin()
        out[..., 2 * i] = c * out[..., 2 * i] - d * out[..., 2 * i + 1]
        out[..., 2 * i + 1] = d * out[..., 2 * i] + c * out[..., 2 * i + 1]
    return out


@wrong("rotate_pairs", "Halves are paired here")
def halves(x, angle):
    half, s = x.shape[-1] // 2, angle.shape[-1]
    out = x.clone()
    out[..., :s] = angle.cos() * x[..., :s] - angle.sin() * x[..., half : half + s]
    out[..., half : half + s] = angle.sin() * x[..., :s] + angle.cos() * x[..., half : half + s]
    return out


@right("rotate_pairs")
def pair_by_pair(x, angle):
    out = x.clone()
    for i in range(angle.shape[-1]):
        a, b, c, d = x[..., 2 * i], x[..., 2 * i + 1], angle[..., i].cos(), angle[..., i].sin()
        out[..., 2 * i], out[..., 2 * i + 1] = a * c - b * d, a * d + b * c
    return out


@right("rotate_pairs")
def by_matrices(x, angle):
    s = angle.shape[-1]
    rows = [torch.stack([angle.cos(), -angle.sin()], -1), torch.stack([angle.sin(), angle.cos()], -1)]
    turned = torch.einsum("...sij,...sj->...si", torch.stack(rows, -2), x[..., : 2 * s].unflatten(-1, (s, 2)))
    return torch.cat([turned.flatten(-2), x[..., 2 * s :]], -1)


@right("rotate_pairs")
def by_numpy(x, angle):
    s, out = angle.shape[-1], x.numpy().astype(float)
    number = (out[..., 0 : 2 * s : 2] + 1j * out[..., 1 : 2 * s : 2]) * np.exp(1j * angle.numpy())
    out[..., 0 : 2 * s : 2], out[..., 1 : 2 * s : 2] = number.real, number.imag
    return out


# turn_onto


@wrong("turn_onto", "Both are turned forward")
def forward(B, C, angle):
    total = torch.cumsum(angle, -2)
    return rotate_pairs(B, total), rotate_pairs(C, total)


@wrong("turn_onto", "Each is turned by the angle of its own token alone")
def by_their_own(B, C, angle):
    return rotate_pairs(B, -angle), rotate_pairs(C, -angle)


@wrong("turn_onto", "Only C is turned")
def the_reader_alone(B, C, angle):
    return B, rotate_pairs(C, -angle.cumsum(-2))


@right("turn_onto")
def from_the_end(B, C, angle):
    rest = angle.sum(-2, keepdim=True) - angle.cumsum(-2)
    return rotate_pairs(B, rest), rotate_pairs(C, rest)


@right("turn_onto")
def by_a_loop(B, C, angle):
    total, Bs, Cs = torch.zeros_like(angle[..., 0, :]), [], []
    for t in range(angle.shape[-2]):
        total = total - angle[..., t, :]
        Bs.append(rotate_pairs(B[..., t, :], total))
        Cs.append(rotate_pairs(C[..., t, :], total))
    return torch.stack(Bs, -2), torch.stack(Cs, -2)


@right("turn_onto")
def since_the_first(B, C, angle):
    total = angle.cumsum(-2) - angle[..., :1, :]
    return [rotate_pairs(part, -total) for part in (B, C)]


# trapezoid


@wrong("trapezoid", "The two ends are exchanged")
def the_wrong_end(x, B, C, log_decay, dt, lam, scan):
    return trapezoid(x, B, C, log_decay, dt, 1 - lam, scan)


@wrong("trapezoid", "What the token before writes has not faded")
def not_faded(x, B, C, log_decay, dt, lam, scan):
    state, last, ys = 0, 0, []
    for t in range(x.shape[1]):
        new = x[:, t, ..., None] * B[:, t, :, None]
        step, own = dt[:, t, :, None, None], lam[:, t, :, None, None]
        state = log_decay[:, t, :, None, None].exp() * state + (1 - own) * step * last + own * step * new
        last = new
        ys.append((state @ C[:, t, ..., None])[..., 0])
    return torch.stack(ys, 1)


@wrong("trapezoid", "Each token writes when it comes, and not once more")
def euler(x, B, C, log_decay, dt, lam, scan):
    empty = torch.zeros(x.shape[0], x.shape[2], x.shape[3], B.shape[3])
    return scan(x * (lam * dt)[..., None], log_decay, B, C, empty, 64)[0]


@right("trapezoid")
def in_a_loop(x, B, C, log_decay, dt, lam, scan):
    state, last, ys = 0, 0, []
    for t in range(x.shape[1]):
        new = x[:, t, ..., None] * B[:, t, :, None]
        step, own = dt[:, t, :, None, None], lam[:, t, :, None, None]
        state = log_decay[:, t, :, None, None].exp() * (state + (1 - own) * step * last) + own * step * new
        last = new
        ys.append((state @ C[:, t, ..., None])[..., 0])
    return torch.stack(ys, 1)


@right("trapezoid")
def looking_ahead(x, B, C, log_decay, dt, lam, scan):
    ahead = F.pad(((1 - lam) * dt)[:, 1:], (0, 0, 0, 1))
    empty = torch.zeros(x.shape[0], x.shape[2], x.shape[3], B.shape[3])
    y, _ = scan(x * (lam * dt + ahead)[..., None], log_decay, B, C, empty, 16)
    return y - (ahead * (B * C).sum(-1))[..., None] * x


@right("trapezoid")
def by_the_package(x, B, C, log_decay, dt, lam, scan):
    b, _, h, p = x.shape
    before = scans.Written(
        torch.zeros(b, h, p, B.shape[-1]), torch.zeros(b, 1, h, p), torch.zeros(b, 1, h, B.shape[-1])
    )
    x, B, C = (part.unsqueeze(2) for part in (x, B, C))
    return scans.trapezoidal(x, log_decay, lam * dt, (1 - lam) * dt, B, C, before)[0].squeeze(2)


# discretise_turning


@wrong("discretise_turning", "A comes out positive, tiny and the same")
def the_minus_comes_last(dt, A, trap, angle, dt_bias, A_floor):
    dt, A = F.softplus(dt + dt_bias), -heavy_tail(A).clamp(max=-A_floor)
    return dt, A * dt, trap.sigmoid(), dt[..., None] * (math.pi * angle.tanh())[..., None, :]


@wrong("discretise_turning", "The raw angle turns as it is")
def raw_angles(dt, A, trap, angle, dt_bias, A_floor):
    dt, log_decay, lam, _ = discretise_turning(dt, A, trap, angle, dt_bias, A_floor)
    return dt, log_decay, lam, torch.einsum("...h,...s->...hs", dt, angle)


@wrong("discretise_turning", "Decays come from a softplus")
def a_softplus(dt, A, trap, angle, dt_bias, A_floor):
    dt, _, lam, turned = discretise_turning(dt, A, trap, angle, dt_bias, A_floor)
    return dt, -dt * F.softplus(A).clamp(min=A_floor), lam, turned


@right("discretise_turning")
def with_where(dt, A, trap, angle, dt_bias, A_floor):
    dt = (1 + (dt + dt_bias).exp()).log()
    rate = torch.where(A > 0, A + 1, 1 / (1 - A.clamp(max=0)))
    turned = dt[..., :, None] * math.pi * angle.tanh()[..., None, :]
    return dt, -(rate.clamp(min=A_floor) * dt), 1 / (1 + (-trap).exp()), turned


@right("discretise_turning")
def with_a_bound_from_above(dt, A, trap, angle, dt_bias, A_floor):
    dt = F.softplus(dt_bias + dt)
    A = (-heavy_tail(A)).clamp(max=-A_floor)
    return dt, A * dt, torch.sigmoid(trap), torch.einsum("...h,...s->...hs", dt, math.pi * torch.tanh(angle))


@right("discretise_turning")
def in_doubles(dt, A, trap, angle, dt_bias, A_floor):
    dt, A, trap, angle = (part.double() for part in (dt, A, trap, angle))
    step = F.softplus(dt + dt_bias.double())
    rate = torch.maximum(heavy_tail(A), torch.tensor(A_floor, dtype=torch.float64))
    return step, -step * rate, torch.sigmoid(trap), step.unsqueeze(-1) * torch.tanh(angle).unsqueeze(-2) * np.pi


# mamba3_mixer


def my_mixer(u, weights, config, scan, *, biased=True, turned=True, gated=F.silu):
    h, p, n = config.nheads, config.headdim, config.d_state
    made = u @ weights["in_proj.weight"].T
    z, x, B, C, *raw = made.split([h * p, h * p, n, n, h, h, h, config.angles], -1)
    dt, log_decay, lam, angle = discretise_turning(*raw, weights["dt_bias"], config.A_floor)
    factors = []
    for name, factor in (("B", B), ("C", C)):
        factor = factor * torch.rsqrt(factor.pow(2).mean(-1, keepdim=True) + 1e-5) * weights[f"{name}_norm.weight"]
        factor = factor.unsqueeze(2).expand(-1, -1, h, -1)
        factor = factor + weights[f"{name}_bias"].squeeze(1) if biased else factor
        factors.append(rotate_pairs(factor, angle.cumsum(1)) if turned else factor)
    x = x.unflatten(-1, (h, p))
    y = trapezoid(x, *factors, log_decay, dt, lam, scan) + x * weights["D"].view(-1, 1)
    return (y.flatten(2) * gated(z)) @ weights["out_proj.weight"].T


@wrong("mamba3_mixer", "The biases of B and C are left out")
def no_biases(u, weights, config, scan):
    return my_mixer(u, weights, config, scan, biased=False)


@wrong("mamba3_mixer", "Nothing turns")
def nothing_turns(u, weights, config, scan):
    return my_mixer(u, weights, config, scan, turned=False)


@wrong("mamba3_mixer", "The gate is a sigmoid here")
def a_sigmoid(u, weights, config, scan):
    return my_mixer(u, weights, config, scan, gated=torch.sigmoid)


@right("mamba3_mixer")
def turned_by_hand(u, weights, config, scan):
    return my_mixer(u, weights, config, scan)


@right("mamba3_mixer")
def the_package(u, weights, config, scan):
    fields = {name: getattr(config, name) for name in ("d_state", "headdim", "rope_fraction", "A_floor")}
    mixer = Mamba3(config.d_model, **fields).requires_grad_(False)
    mixer.load_state_dict(weights)
    return mixer(u)


@right("mamba3_mixer")
def in_complex_numbers(u, weights, config, scan):
    """By `layers.turning`, in which channels that stand still turn by 0: what is written twice, apart."""
    h, p, n, s = config.nheads, config.headdim, config.d_state, config.angles
    made = F.linear(u, weights["in_proj.weight"])
    z, x, B, C, *raw = made.split([h * p, h * p, n, n, h, h, h, s], -1)
    dt, log_decay, lam, angle = discretise_turning(*raw, weights["dt_bias"], config.A_floor)
    B, C = (
        F.rms_norm(part, (n,), weights[f"{name}_norm.weight"], 1e-5)[:, :, None] + weights[f"{name}_bias"][:, 0]
        for name, part in (("B", B), ("C", C))
    )
    x, turns = x.unflatten(-1, (h, p)), F.pad(-angle / (2 * math.pi), (0, n // 2 - s))
    y, _ = turning(x * (lam * dt)[..., None], log_decay, turns, B, C)
    last_x, last_B = (torch.cat([torch.zeros_like(part[:, :1]), part[:, :-1]], 1) for part in (x, B))
    last_B = rotate_pairs(last_B, 2 * math.pi * turns)  # it was written before the token turned
    more, _ = turning(last_x * ((1 - lam) * dt * log_decay.exp())[..., None], log_decay, turns, last_B, C)
    return F.linear((y + more + weights["D"][:, None] * x).flatten(2) * F.silu(z), weights["out_proj.weight"])
