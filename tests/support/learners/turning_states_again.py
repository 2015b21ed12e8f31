"""A second set for notebook 13."""

import math

import torch
import torch.nn.functional as F
from support.learners.collect import unexplained, wrong
from support.learners.turning_states import discretise_turning, rotate_pairs, trapezoid, turn_onto

from mamba2_lab.layers.mamba3 import heavy_tail

# 13 Turning states


@wrong("refute", "After so many presses the memory is right. Look for a number")
def even_for_odd(decay, write, threshold):
    h = 0.0
    for presses in (1, 2, 3):
        h = decay * h + write
        if (h > threshold) == (presses % 2 == 1):
            return presses


@wrong("refute", "The number is one too small: the first press brings the")
def counts_from_zero(decay, write, threshold):
    h = 0.0
    for presses in range(3):
        h = decay * h + write
        if (h > threshold) != ((presses + 1) % 2 == 1):
            return presses


@unexplained("refute")
def written_before_the_first(decay, write, threshold):
    h = write
    for presses in range(1, 4):
        h = decay * h + write
        if (h > threshold) != (presses % 2 == 1):
            return presses


@wrong("rotate_pairs", "The result ends too early: it has 4 of 8 entries along axis")
def loses_the_rest(x, angle):
    s = angle.shape[-1]
    a, b = x[..., 0 : 2 * s : 2], x[..., 1 : 2 * s : 2]
    cos, sin = angle.cos(), angle.sin()
    return torch.stack([a * cos - b * sin, a * sin + b * cos], dim=-1).flatten(-2)


@wrong("rotate_pairs", "The pairs are turned, but come out as all first channels,")
def not_put_back_in_pairs(x, angle):
    s = angle.shape[-1]
    a, b = x[..., 0 : 2 * s : 2], x[..., 1 : 2 * s : 2]
    cos, sin = angle.cos(), angle.sin()
    return torch.cat([a * cos - b * sin, a * sin + b * cos, x[..., 2 * s :]], dim=-1)


@wrong("rotate_pairs", "The second channel is made from the first as it is after")
def uses_what_was_turned(x, angle):
    s = angle.shape[-1]
    y = x.clone()
    y[..., 0 : 2 * s : 2] = x[..., 0 : 2 * s : 2] * angle.cos() - x[..., 1 : 2 * s : 2] * angle.sin()
    y[..., 1 : 2 * s : 2] = y[..., 0 : 2 * s : 2] * angle.sin() + x[..., 1 : 2 * s : 2] * angle.cos()
    return y


@wrong("turn_onto", "It comes out as if a minus sign were left out.")
def against_each_other(B, C, angle):
    since_start = angle.cumsum(-2)
    return rotate_pairs(B, -since_start), rotate_pairs(C, since_start)


@wrong("turn_onto", "C is turned by the angles of the tokens before it alone. What")
def without_the_tokens_own(B, C, angle):
    before = angle.cumsum(-2) - angle
    return rotate_pairs(B, -angle.cumsum(-2)), rotate_pairs(C, -before)


@wrong("turn_onto", "Angles are added up over the pairs of a token. Each pair")
def added_up_over_the_pairs(B, C, angle):
    total = angle.cumsum(-1)
    return rotate_pairs(B, -total), rotate_pairs(C, -total)


@wrong("trapezoid", "The x of the token before is written under the B of the token")
def the_key_of_now(x, B, C, log_decay, dt, lam, scan):
    empty = x.new_zeros(len(x), *x.shape[2:], B.shape[-1])
    last_x = F.pad(x[:, :-1], (0, 0, 0, 0, 1, 0))
    y, _ = scan((lam * dt)[..., None] * x, log_decay, B, C, empty, 64)
    more, _ = scan(((1 - lam) * dt * log_decay.exp())[..., None] * last_x, log_decay, B, C, empty, 64)
    return y + more


@wrong("trapezoid", "What the token before wrote is weighed with its own dt and")
def the_step_of_before(x, B, C, log_decay, dt, lam, scan):
    empty = x.new_zeros(len(x), *x.shape[2:], B.shape[-1])
    y, _ = scan((lam * dt)[..., None] * x, log_decay, B, C, empty, 64)
    wrote = F.pad((((1 - lam) * dt)[..., None] * x)[:, :-1], (0, 0, 0, 0, 1, 0)) * log_decay.exp()[..., None]
    more, _ = scan(wrote, log_decay, F.pad(B[:, :-1], (0, 0, 0, 0, 1, 0)), C, empty, 64)
    return y + more


@wrong("trapezoid", "It comes out as if `dt` were left out.")
def dt_only_once(x, B, C, log_decay, dt, lam, scan):
    empty = x.new_zeros(len(x), *x.shape[2:], B.shape[-1])
    y, _ = scan((lam * dt)[..., None] * x, log_decay, B, C, empty, 64)
    last_x, last_B = F.pad(x[:, :-1], (0, 0, 0, 0, 1, 0)), F.pad(B[:, :-1], (0, 0, 0, 0, 1, 0))
    more, _ = scan(((1 - lam) * log_decay.exp())[..., None] * last_x, log_decay, last_B, C, empty, 64)
    return y + more


@wrong("discretise_turning", "An angle is at most one radian here, less than a sixth of a")
def tanh_without_pi(dt, A, trap, angle, dt_bias, A_floor):
    dt = F.softplus(dt + dt_bias)
    log_decay = -dt * heavy_tail(A).clamp(min=A_floor)
    return dt, log_decay, trap.sigmoid(), dt[..., None] * angle.tanh()[..., None, :]


@wrong("discretise_turning", "The speed of turning is not multiplied by the time that")
def an_angle_not_a_speed(dt, A, trap, angle, dt_bias, A_floor):
    dt = F.softplus(dt + dt_bias)
    log_decay = -dt * heavy_tail(A).clamp(min=A_floor)
    turned = (math.pi * angle.tanh())[..., None, :].expand(*dt.shape, angle.shape[-1])
    return dt, log_decay, trap.sigmoid(), turned


@wrong("discretise_turning", "It comes out as if `max=` stood where `min=` belongs.")
def floor_taken_as_a_ceiling(dt, A, trap, angle, dt_bias, A_floor):
    dt = F.softplus(dt + dt_bias)
    log_decay = -dt * heavy_tail(A).clamp(max=A_floor)
    return dt, log_decay, trap.sigmoid(), dt[..., None] * math.pi * angle.tanh()[..., None, :]


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


@wrong("mamba3_mixer", "Nothing passes by the state: D x is left out.")
def no_skip_with_d(u, weights, config, scan):
    return mixer(u, weights, config, scan, skip=False)


@wrong("mamba3_mixer", "It comes out as if `B` and `C` were exchanged.")
def b_and_c_exchanged(u, weights, config, scan):
    return mixer(u, weights, config, scan, exchange=True)


@wrong("mamba3_mixer", "It comes out as if `silu` were left out.")
def gates_without_silu(u, weights, config, scan):
    return mixer(u, weights, config, scan, gate=lambda z: z)
