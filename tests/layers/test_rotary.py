"""Angles: pairs turned by them, and their sums over a sequence, against complex numbers and float64."""

from __future__ import annotations

import math

import pytest
import torch
from support.oracle.mamba2 import relative_error
from torch import Tensor

from mamba2_lab.layers import rotary
from mamba2_lab.layers.rotary import Pairs, accumulate, drop_whole_turns, rotate

both_pairings = pytest.mark.parametrize("pairs", ["neighbours", "halves"])


def as_complex(x: Tensor, pairs: Pairs) -> Tensor:
    a, b = (x[..., 0::2], x[..., 1::2]) if pairs == "neighbours" else x.chunk(2, dim=-1)
    return torch.complex(a, b)


@both_pairings
@pytest.mark.parametrize("s", [0, 1, 3, 4])
def test_pairs_are_complex_numbers_multiplied_by_a_phase(pairs: Pairs, s: int) -> None:
    x, turns = torch.randn(2, 5, 8).double(), 3 * torch.randn(2, 5, s).double()
    phase = torch.nn.functional.pad(turns, (0, 4 - s))
    expected = as_complex(x, pairs) * torch.exp(2j * math.pi * phase)
    found = as_complex(rotate(x, turns, pairs), pairs)
    assert relative_error(torch.view_as_real(found), torch.view_as_real(expected)) <= 1e-14


@both_pairings
def test_a_rotation_keeps_lengths_and_its_opposite_takes_it_back(pairs: Pairs) -> None:
    x, turns = torch.randn(7, 6).double(), torch.randn(7, 2).double()
    turned = rotate(x, turns, pairs)
    assert relative_error(turned.norm(dim=-1), x.norm(dim=-1)) <= 1e-15
    assert relative_error(rotate(turned, -turns, pairs), x) <= 1e-15
    assert torch.autograd.gradcheck(lambda x, t: rotate(x, t, pairs), (x.requires_grad_(), turns.requires_grad_()))


def apart(found: Tensor, expected: Tensor) -> float:
    """The largest difference of two angles, in turns, whole turns aside."""
    difference = found.double() - expected
    return float((difference - difference.round()).abs().max()) if difference.numel() else 0.0


@pytest.mark.parametrize("l", [0, 1, 2, 31, 32, 33, 64, 1023, 1024, 1025, 2100])
def test_angles_add_up_whatever_the_length(l: int) -> None:
    turns, before = 2 * torch.randn(2, l, 3, 5).double(), torch.randn(2, 3, 5).double()
    found = accumulate(turns, before)
    assert found.shape == turns.shape
    assert apart(found, turns.cumsum(1) + before.unsqueeze(1)) <= 1e-12
    assert not l or float(found.abs().max()) <= 0.5


@pytest.mark.parametrize(("turns_per_token", "within"), [(0.05, 5e-6), (1.0, 5e-6), (30.0, 5e-6)])
def test_a_long_sum_in_float32_is_as_exact_as_a_short_one(turns_per_token: float, within: float) -> None:
    """In turns: a plain sum of 32,768 is wrong by a thousandth of a turn, or by more than a whole one."""
    turns = turns_per_token * (1 + 0.1 * torch.randn(1, 32_768, 2, 3))
    exact = turns.double().cumsum(1)
    assert apart(accumulate(turns, torch.zeros(1, 2, 3)), exact) <= within
    assert apart(turns.cumsum(1), exact) > 10 * within


def test_gradients_of_a_sum_are_those_of_finite_differences(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rotary, "TOKENS_PER_BLOCK", 3)
    turns, before = torch.randn(2, 11, 2, 1).double().requires_grad_(), torch.randn(2, 2, 1).double().requires_grad_()
    as_point = lambda *args: torch.polar(torch.ones(2, 11, 2, 1).double(), 2 * math.pi * accumulate(*args))  # noqa: E731
    assert torch.autograd.gradcheck(lambda *args: torch.view_as_real(as_point(*args)), (turns, before))


def test_whole_turns_are_dropped() -> None:
    turns = torch.tensor([0.0, 0.25, 1.25, -3.0, 7.75])
    assert drop_whole_turns(turns).tolist() == [0.0, 0.25, 0.25, 0.0, -0.25]
