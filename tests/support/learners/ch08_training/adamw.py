"""Answers to `adamw`."""

import numpy as np
import torch
from support.learners.collect import right, wrong


@wrong("adamw", "m and v start at 0 and are too small at first, and not by")
def no_correction(weight, gradient, m, v, step, rate, decay):
    m, v = 0.9 * m + 0.1 * gradient, 0.95 * v + 0.05 * gradient**2
    return weight - rate * (m / (v.sqrt() + 1e-8) + decay * weight), m, v


@wrong("adamw", "The decay went into the gradient, and is then divided by")
def decay_in_the_gradient(weight, gradient, m, v, step, rate, decay):
    gradient = gradient + decay * weight
    m, v = 0.9 * m + 0.1 * gradient, 0.95 * v + 0.05 * gradient**2
    moved = (m / (1 - 0.9**step)) / ((v / (1 - 0.95**step)).sqrt() + 1e-8)
    return weight - rate * moved, m, v


@wrong("adamw", "The corrected means are returned, and the next step would")
def returns_the_corrected(weight, gradient, m, v, step, rate, decay):
    m, v = 0.9 * m + 0.1 * gradient, 0.95 * v + 0.05 * gradient**2
    m, v = m / (1 - 0.9**step), v / (1 - 0.95**step)
    return weight - rate * (m / (v.sqrt() + 1e-8) + decay * weight), m, v


@wrong("adamw", "The corrected means are returned, and the next step would")
def hands_on_the_corrected_means(weight, gradient, m, v, step, rate, decay):
    m = (0.9 * m + 0.1 * gradient) / (1 - 0.9**step)
    v = (0.95 * v + 0.05 * gradient**2) / (1 - 0.95**step)
    return weight - rate * (m / (v.sqrt() + 1e-8) + decay * weight), m, v


@wrong("adamw", "The decay went into the gradient, and is then divided by")
def gradient_with_decay(weight, gradient, m, v, step, rate, decay):
    gradient = gradient + decay * weight
    m = 0.9 * m + 0.1 * gradient
    v = 0.95 * v + 0.05 * gradient**2
    corrected = (m / (1 - 0.9**step)) / ((v / (1 - 0.95**step)).sqrt() + 1e-8)
    return weight - rate * corrected, m, v


@wrong("adamw", "It comes out as if `step` were larger by 1.")
def step_counted_from_zero(weight, gradient, m, v, step, rate, decay):
    m = 0.9 * m + 0.1 * gradient
    v = 0.95 * v + 0.05 * gradient.square()
    up = (m / (1 - 0.9 ** (step + 1))) / ((v / (1 - 0.95 ** (step + 1))).sqrt() + 1e-8)
    return weight - rate * (up + decay * weight), m, v


@wrong("adamw", "It comes out as if `1e-08` stood inside `sqrt`.")
def epsilon_under_the_root(weight, gradient, m, v, step, rate, decay):
    m = 0.9 * m + 0.1 * gradient
    v = 0.95 * v + 0.05 * gradient**2
    up = (m / (1 - 0.9**step)) / ((v / (1 - 0.95**step)) + 1e-8).sqrt()
    return weight - rate * (up + decay * weight), m, v


@wrong("adamw", "`m` comes out as if `0.9` and `0.1` were exchanged.")
def betas_the_other_way_round(weight, gradient, m, v, step, rate, decay):
    m = 0.1 * m + 0.9 * gradient
    v = 0.05 * v + 0.95 * gradient**2
    direction = m / (1 - 0.1**step) / ((v / (1 - 0.05**step)).sqrt() + 1e-8)
    return weight - rate * (direction + decay * weight), m, v


@wrong("adamw", "The decay is not scaled by the rate: each step would take")
def decays_without_the_rate(weight, gradient, m, v, step, rate, decay):
    m = 0.9 * m + 0.1 * gradient
    v = 0.95 * v + 0.05 * gradient**2
    direction = m / (1 - 0.9**step) / ((v / (1 - 0.95**step)).sqrt() + 1e-8)
    return weight * (1 - decay) - rate * direction, m, v


@wrong("adamw", "It comes out as if 0.9 stood where 0.95 belongs.")
def corrected_by_one_beta(weight, gradient, m, v, step, rate, decay):
    m = 0.9 * m + 0.1 * gradient
    v = 0.95 * v + 0.05 * gradient**2
    direction = m / (1 - 0.9**step) / ((v / (1 - 0.9**step)).sqrt() + 1e-8)
    return weight - rate * (direction + decay * weight), m, v


@wrong("adamw", "The decay is not scaled by the rate: each step would take")
def decays_towards_the_direction(weight, gradient, m, v, step, rate, decay):
    m = 0.9 * m + 0.1 * gradient
    v = 0.95 * v + 0.05 * gradient**2
    direction = m / (1 - 0.9**step) / ((v / (1 - 0.95**step)).sqrt() + 1e-8)
    return weight - rate * direction - decay * weight, m, v


@wrong("adamw", "v is the mean of the square: take its root before dividing.")
def divides_by_v_without_root(weight, gradient, m, v, step, rate, decay):
    m = 0.9 * m + 0.1 * gradient
    v = 0.95 * v + 0.05 * gradient**2
    direction = m / (1 - 0.9**step) / (v / (1 - 0.95**step) + 1e-8)
    return weight - rate * (direction + decay * weight), m, v


@wrong("adamw", "It comes out as if `abs` stood where the square belongs.")
def v_without_the_square(weight, gradient, m, v, step, rate, decay):
    m = 0.9 * m + 0.1 * gradient
    v = 0.95 * v + 0.05 * gradient.abs()
    direction = m / (1 - 0.9**step) / ((v / (1 - 0.95**step)).sqrt() + 1e-8)
    return weight - rate * (direction + decay * weight), m, v


@wrong("adamw", "It comes out as if `+` stood where `-` belongs.")
def climbs(weight, gradient, m, v, step, rate, decay):
    m = 0.9 * m + 0.1 * gradient
    v = 0.95 * v + 0.05 * gradient**2
    direction = m / (1 - 0.9**step) / ((v / (1 - 0.95**step)).sqrt() + 1e-8)
    return weight + rate * (direction + decay * weight), m, v


@right("adamw")
def a_list_of_three(weight, gradient, m, v, step, rate, decay):
    m, v = torch.lerp(gradient, m, 0.9), 0.95 * v + 0.05 * gradient * gradient
    first, second = m / (1 - 0.9**step), v / (1 - 0.95**step)
    return [(1 - rate * decay) * weight - rate * first / (torch.sqrt(second) + 1e-8), m, v]


@right("adamw")
def adamw_in_float64(weight, gradient, m, v, step, rate, decay):
    return tuple(a_list_of_three(*(part.double() for part in (weight, gradient, m, v)), step, rate, decay))


@right("adamw")
def adamw_by_numpy(weight, gradient, m, v, step, rate, decay):
    weight, gradient, m, v = (part.numpy() for part in (weight, gradient, m, v))
    m, v = 0.9 * m + 0.1 * gradient, 0.95 * v + 0.05 * gradient**2
    moved = m / (1 - 0.9**step) / (np.sqrt(v / (1 - 0.95**step)) + 1e-8)
    return weight - rate * (moved + decay * weight), m, v
