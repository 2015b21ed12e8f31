"""Answers to `mamba3_mixer`."""

import math

import torch
import torch.nn.functional as F
from support.learners.collect import right, wrong

from mamba2_lab.course.exercises.turning_states import discretise_turning, rotate_pairs, trapezoid, turn_onto
from mamba2_lab.layers import turning
from mamba2_lab.layers.mamba3 import Mamba3


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


def mixer(u, weights, config, scan, *, normed=True, exchange=False, sign=-1, skip=True, early=False, gate=F.silu):
    """Mamba-3's, as it should be but for what is asked for otherwise."""
    h, p, n = config.nheads, config.headdim, config.d_state
    widths = [h * p, h * p, n, n, h, h, h, config.angles]
    z, x, B, C, dt, A, trap, angle = F.linear(u, weights["in_proj.weight"]).split(widths, dim=-1)
    x, z = x.unflatten(-1, (h, p)), z.unflatten(-1, (h, p))
    dt, log_decay, lam, angle = discretise_turning(dt, A, trap, angle, weights["dt_bias"], config.A_floor)
    B, C = (C, B) if exchange else (B, C)
    if normed:
        B, C = (F.rms_norm(part, (n,), weights[f"{name}_norm.weight"], 1e-5) for part, name in ((B, "B"), (C, "C")))
    B, C = (part[:, :, None] + weights[f"{name}_bias"][:, 0] for part, name in ((B, "B"), (C, "C")))
    B, C = turn_onto(B.transpose(1, 2), C.transpose(1, 2), sign * angle.transpose(1, 2))
    y = trapezoid(x, B.transpose(1, 2), C.transpose(1, 2), log_decay, dt, lam, scan)
    passing = weights["D"][:, None] * x if skip else 0.0
    y = y * gate(z) + passing if early else (y + passing) * gate(z)
    return F.linear(y.flatten(-2), weights["out_proj.weight"])


@wrong("mamba3_mixer", "The biases of B and C are left out")
def no_biases(u, weights, config, scan):
    return my_mixer(u, weights, config, scan, biased=False)


@wrong("mamba3_mixer", "Nothing turns")
def nothing_turns(u, weights, config, scan):
    return my_mixer(u, weights, config, scan, turned=False)


@wrong("mamba3_mixer", "The gate is a sigmoid here")
def a_sigmoid(u, weights, config, scan):
    return my_mixer(u, weights, config, scan, gated=torch.sigmoid)


@wrong("mamba3_mixer", "Nothing passes by the state: D x is left out.")
def no_skip_with_d(u, weights, config, scan):
    return mixer(u, weights, config, scan, skip=False)


@wrong("mamba3_mixer", "It comes out as if `B` and `C` were exchanged.")
def b_and_c_exchanged(u, weights, config, scan):
    return mixer(u, weights, config, scan, exchange=True)


@wrong("mamba3_mixer", "It comes out as if `silu` were left out.")
def gates_without_silu(u, weights, config, scan):
    return mixer(u, weights, config, scan, gate=lambda z: z)


@wrong("mamba3_mixer", "B and C go into the state without their norms: `F.rms_norm`")
def b_and_c_not_normed(u, weights, config, scan):
    return mixer(u, weights, config, scan, normed=False)


@wrong("mamba3_mixer", "It turns the other way. Mamba-3 turns B and C forward;")
def turned_forwards(u, weights, config, scan):
    return mixer(u, weights, config, scan, sign=1)


@wrong("mamba3_mixer", "The gate comes before D x is added, so that D x passes")
def gated_before_the_skip(u, weights, config, scan):
    return mixer(u, weights, config, scan, early=True)


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
