"""Answers to `discretise_turning`."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from support.learners.collect import right, unexplained, wrong

from mamba2_lab.course.exercises.turning_states import discretise_turning
from mamba2_lab.layers.mamba3 import heavy_tail


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


@wrong("discretise_turning", "It comes out as if `dt_bias` were left out.")
def dt_without_its_bias(dt, A, trap, angle, dt_bias, A_floor):
    dt = F.softplus(dt)
    log_decay = -dt * heavy_tail(A).clamp(min=A_floor)
    return dt, log_decay, trap.sigmoid(), dt[..., None] * (math.pi * angle.tanh())[..., None, :]


@wrong("discretise_turning", "It comes out as if `sigmoid` were left out.")
def lam_left_raw(dt, A, trap, angle, dt_bias, A_floor):
    dt = F.softplus(dt + dt_bias)
    log_decay = -dt * heavy_tail(A).clamp(min=A_floor)
    return dt, log_decay, trap, dt[..., None] * (math.pi * angle.tanh())[..., None, :]


@wrong("discretise_turning", "It comes out as if `.clamp(...)` were left out.")
def no_floor(dt, A, trap, angle, dt_bias, A_floor):
    dt = F.softplus(dt + dt_bias)
    return dt, -dt * heavy_tail(A), trap.sigmoid(), dt[..., None] * (math.pi * angle.tanh())[..., None, :]


@wrong("discretise_turning", "tanh is taken of dt times the angle. It limits the speed, and a")
def tanh_of_the_product(dt, A, trap, angle, dt_bias, A_floor):
    dt = F.softplus(dt + dt_bias)
    log_decay = -dt * heavy_tail(A).clamp(min=A_floor)
    return dt, log_decay, trap.sigmoid(), math.pi * torch.tanh(dt[..., None] * angle[..., None, :])


@wrong("discretise_turning", "The floor is held against dt times A. It is a floor of the")
def floor_on_the_product(dt, A, trap, angle, dt_bias, A_floor):
    dt = F.softplus(dt + dt_bias)
    log_decay = -(dt * heavy_tail(A)).clamp(min=A_floor)
    return dt, log_decay, trap.sigmoid(), dt[..., None] * (math.pi * angle.tanh())[..., None, :]


@unexplained("discretise_turning")
def lam_from_dt(dt, A, trap, angle, dt_bias, A_floor):
    dt = F.softplus(dt + dt_bias)
    log_decay = -dt * heavy_tail(A).clamp(min=A_floor)
    return dt, log_decay, (trap * dt).sigmoid(), dt[..., None] * (math.pi * angle.tanh())[..., None, :]


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
