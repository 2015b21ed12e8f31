"""What notebook 13 asks for is what the package's own pieces are made of."""

import math

import pytest
import torch
from support.oracle.mamba2 import perturb

from mamba2_lab import scan
from mamba2_lab.course.exercises.chunks import chunked
from mamba2_lab.course.exercises.turning_states import (
    discretise_turning,
    mamba3_mixer,
    refute,
    rotate_pairs,
    trapezoid,
    turn_onto,
)
from mamba2_lab.layers import Mamba3, turning
from mamba2_lab.layers.rotary import rotate


@pytest.fixture
def draw() -> torch.Generator:
    return torch.Generator().manual_seed(13)


def test_every_memory_that_fades_is_refuted(draw):
    for decay, write, threshold in torch.randn(500, 3, generator=draw).double().tolist():
        decay = 1 / (1 + math.exp(-decay))
        h, presses = 0.0, refute(decay, write, threshold)
        for _ in range(presses):
            h = decay * h + write
        assert (h > threshold) != (presses % 2 == 1)


def test_pairs_turn_as_those_of_the_package(draw):
    x, turns = torch.randn(3, 8, generator=draw), torch.randn(3, 2, generator=draw)
    torch.testing.assert_close(rotate_pairs(x, 2 * math.pi * turns), rotate(x, turns, "neighbours"))


def test_factors_that_turn_are_a_state_that_turns(draw):
    x, B, C = (torch.randn(2, 20, 3, size, generator=draw, dtype=torch.float64) for size in (4, 6, 6))
    log_decay, turns = (torch.rand(2, 20, 3, *size, generator=draw, dtype=torch.float64) for size in ((), (3,)))
    expected, _ = turning(x, -log_decay, turns, B, C)
    k, q = turn_onto(B.transpose(1, 2), C.transpose(1, 2), 2 * math.pi * turns.transpose(1, 2))
    found, _ = scan.sequential(x, -log_decay, k.transpose(1, 2), q.transpose(1, 2))
    torch.testing.assert_close(found, expected)


def test_writing_twice_is_the_trapezoid_of_the_package(draw):
    x, B, C = (torch.randn(2, 70, 3, size, generator=draw) for size in (4, 6, 6))
    dt, lam = torch.rand(2, 2, 70, 3, generator=draw)
    before = scan.Written(torch.zeros(2, 3, 4, 6), torch.zeros(2, 1, 3, 4), torch.zeros(2, 1, 3, 6))
    in_ranks = (part.unsqueeze(2) for part in (x, B, C))
    x_, B_, C_ = in_ranks
    expected, _ = scan.trapezoidal(x_, -dt, lam * dt, (1 - lam) * dt, B_, C_, before)
    torch.testing.assert_close(trapezoid(x, B, C, -dt, dt, lam, chunked), expected.squeeze(2), rtol=1e-4, atol=1e-5)


def mixer_of(**fields) -> Mamba3:
    torch.manual_seed(0)
    return perturb(Mamba3(12, d_state=8, headdim=6, **fields)).requires_grad_(False)


def test_a_step_is_that_of_the_package(draw):
    mixer = mixer_of()
    projected = mixer.project(torch.randn(2, 9, 12, generator=draw))
    terms = mixer.discretise(projected)
    found = discretise_turning(*projected[4:], mixer.dt_bias, mixer.config.A_floor)
    for one, other in zip(found, (terms.dt, terms.log_decay, terms.lam, 2 * math.pi * terms.turns), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("rope_fraction", [0.5, 1.0])
@pytest.mark.parametrize("l", [1, 70])
def test_the_answers_together_are_the_mixer_of_the_package(draw, rope_fraction, l):
    mixer = mixer_of(rope_fraction=rope_fraction)
    u = torch.randn(2, l, 12, generator=draw)
    found = mamba3_mixer(u, mixer.state_dict(), mixer.config, chunked)
    torch.testing.assert_close(found, mixer(u), rtol=1e-4, atol=1e-5)
