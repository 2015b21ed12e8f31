"""Stored matrices made floats by loops, beside what their description says, number by number."""

from __future__ import annotations

import pytest
import torch
from support.oracle.mamba2 import relative_error
from torch import Tensor

from mamba2_lab.fast import stored
from mamba2_lab.layers.stored import multiply_stored
from mamba2_lab.machine import helpers

pytest.importorskip("numba")

SHAPES = [(1, 1), (3, 63), (16, 64), (17, 65), (40, 130), (5, 192)]


def of_int8(rows: int, columns: int) -> tuple[Tensor, Tensor, Tensor]:
    """Numbers, scales, and the weights that are meant, in float64."""
    numbers, scales = torch.randint(-127, 128, (rows, columns), dtype=torch.int8), torch.randn(rows)
    weights = [[float(numbers[i, j]) * float(scales[i]) for j in range(columns)] for i in range(rows)]
    return numbers, scales, torch.tensor(weights, dtype=torch.float64)


def of_int4(rows: int, columns: int) -> tuple[Tensor, Tensor, Tensor]:
    """The same: byte j of a group holds column j in its lower half, and column j + 32 in its upper half."""
    groups = -(-columns // 64)
    numbers, scales = torch.randint(0, 256, (rows, 32 * groups), dtype=torch.uint8), torch.randn(rows, groups, 2)
    weights = torch.empty(rows, columns, dtype=torch.float64)
    for i in range(rows):
        for column in range(columns):
            group, j = divmod(column, 64)
            byte = int(numbers[i, 32 * group + j % 32])
            scale, zero = scales[i, group].tolist()
            weights[i, column] = ((byte >> 4 if j >= 32 else byte & 15) - 8) * scale + zero
    return numbers, scales, weights


@pytest.fixture(autouse=True)
def however_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "LEAST", 0)


@pytest.mark.parametrize("kind", [of_int8, of_int4])
@pytest.mark.parametrize(("rows", "columns"), SHAPES)
def test_they_are_the_weights_that_are_meant(kind, rows, columns, monkeypatch) -> None:
    numbers, scales, weights = kind(rows, columns)
    monkeypatch.setattr(stored, "whole", None)  # which would serve as well
    found = stored._floats(numbers, scales, columns)
    assert found.dtype == torch.float32 and found.shape == (rows, columns)
    assert relative_error(found, weights) <= 1e-6


@pytest.mark.parametrize("kind", [of_int8, of_int4])
def test_threads_share_them(kind, monkeypatch) -> None:
    if not helpers.CAN_SLEEP:
        pytest.skip("threads of our own are not used here")
    numbers, scales, weights = kind(1100, 520)
    for several in (1, 2, 3):
        monkeypatch.setattr("mamba2_lab.machine.threads.most", lambda several=several: several)
        assert relative_error(stored._floats(numbers, scales, 520), weights) <= 1e-6


@pytest.mark.parametrize("kind", [of_int8, of_int4])
@pytest.mark.parametrize("at_once", [1, 300, 2**22])
def test_many_rows_are_multiplied_a_part_at_a_time(kind, at_once, monkeypatch) -> None:
    numbers, scales, weights = kind(37, 130)
    monkeypatch.setattr(stored, "AT_ONCE", at_once)
    x, bias = torch.randn(2, 70, 130), torch.randn(37)
    (way,) = (way for way in multiply_stored.ways if way.name == "a part at a time")
    assert way.serves(x, numbers, scales, bias)
    assert relative_error(way.compute(x, numbers, scales, bias), x.double() @ weights.T + bias.double()) <= 2e-6


def test_scales_of_another_kind_are_left_to_the_definition() -> None:
    numbers, scales, weights = of_int8(6, 20)
    assert relative_error(stored._floats(numbers, scales.bfloat16(), 20), weights) <= 1e-2
    assert torch.equal(stored._floats(numbers.T.contiguous().T, scales, 20), weights.float())
