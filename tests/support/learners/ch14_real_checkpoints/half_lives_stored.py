"""Answers to `half_lives_stored`."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from support.learners.collect import right, unexplained, wrong


@wrong("half_lives_stored", "The result has the wrong sign: every number is minus what it")
def a_half_life_below_zero(A_log, dt_bias):
    A = -A_log.exp()
    return math.log(2) / (F.softplus(dt_bias) * A)


@wrong("half_lives_stored", "It comes out as if `/` stood where `*` belongs.")
def dt_over_a(A_log, dt_bias):
    return math.log(2) * F.softplus(dt_bias) / A_log.exp()


@wrong("half_lives_stored", "That is what is left after one token. The question is after")
def left_after_a_step(A_log, dt_bias):
    return torch.exp(-A_log.exp() * F.softplus(dt_bias))


@wrong("half_lives_stored", "The result is 1/2 times what it should be.")
def half_as_long(A_log, dt_bias):
    return math.log(2) / (2 * A_log.exp() * F.softplus(dt_bias))


@wrong("half_lives_stored", "It comes out as if `+` stood where `*` belongs.")
def sum_of_both_for_a_product(A_log, dt_bias):
    return math.log(2) / (A_log.exp() + F.softplus(dt_bias))


@wrong("half_lives_stored", "It comes out as if `sigmoid` stood where `softplus` belongs.")
def sigmoid_for_softplus(A_log, dt_bias):
    return math.log(2) / (A_log.exp() * torch.sigmoid(dt_bias))


@wrong("half_lives_stored", "It comes out as if `log10` stood where `log` belongs.")
def base_ten(A_log, dt_bias):
    return math.log10(2) / (A_log.exp() * F.softplus(dt_bias))


@wrong("half_lives_stored", "A comes through a softplus here. Only dt does: the checkpoint")
def twice_softplus(A_log, dt_bias):
    return math.log(2) / (F.softplus(A_log) * F.softplus(dt_bias))


@unexplained("half_lives_stored")
def with_the_decay_of_one_step(A_log, dt_bias):
    return 0.5 / (1 - torch.exp(-A_log.exp() * F.softplus(dt_bias)))


@unexplained("half_lives_stored")
def bias_as_a_time(A_log, dt_bias):
    return math.log(2) / (A_log.exp() * dt_bias.abs())


@unexplained("half_lives_stored")
def a_power_of_ten(A_log, dt_bias):
    return math.log(2) / (10**A_log * F.softplus(dt_bias))


@wrong("half_lives_stored", "It adds the two numbers and takes one softplus. They are a")
def sum_of_logs(A_log, dt_bias):
    return math.log(2) / F.softplus(A_log + dt_bias)


@right("half_lives_stored")
def in_two_lines(A_log, dt_bias):
    log_decay = F.softplus(dt_bias) * -torch.exp(A_log)
    return math.log(0.5) / log_decay


@right("half_lives_stored")
def half_lives_by_numpy(A_log, dt_bias):
    dt = np.logaddexp(0, dt_bias.double().numpy())
    return np.log(2) / np.exp(A_log.double().numpy()) / dt


@right("half_lives_stored")
def head_by_head(A_log, dt_bias):
    pairs = zip(A_log.tolist(), dt_bias.tolist(), strict=True)
    return [math.log(2) / math.exp(a) / math.log1p(math.exp(bias)) for a, bias in pairs]
