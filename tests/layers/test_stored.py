"""Matrices in 8 and 4 bits: what is kept of them, as numpy unpacks it, and how near it is to what they were."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.func import functional_call

from mamba2_lab.fast import stored as fast
from mamba2_lab.fast.rows import MOST_ROWS
from mamba2_lab.layers import Projection
from mamba2_lab.layers.rounded import in_4_bits, in_8_bits
from mamba2_lab.layers.stored import Stored, StoredEmbedding, StoredProjection, multiply_stored, whole
from mamba2_lab.operation import plainly

SHAPES = [(1, 1), (3, 5), (16, 64), (33, 96), (80, 200), (24, 320)]


def matrix(rows: int, columns: int, seed: int = 0) -> Tensor:
    """Rows of very different sizes, one of zeros and one of the same number everywhere."""
    weight = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))
    weight *= torch.logspace(-4, 2, rows).unsqueeze(1)
    if rows > 2:
        weight[1], weight[2] = 0, 0.3
    return weight


def by_numpy(stored: Stored, columns: int) -> np.ndarray:
    """The weights in float64, number by number, as the docstring of layers/stored.py says it."""
    numbers, scales = stored.numbers.numpy(), stored.scales.double().numpy()
    weight = np.empty((len(numbers), columns))
    for i, j in np.ndindex(*weight.shape):
        if numbers.dtype == np.int8:
            weight[i, j] = numbers[i, j] * scales[i]
        else:
            group, place = divmod(j, 64)
            byte = int(numbers[i, 32 * group + place % 32])
            number = byte // 16 if place >= 32 else byte % 16
            weight[i, j] = (number - 8) * scales[i, group, 0] + scales[i, group, 1]
    return weight


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("store", [in_8_bits, in_4_bits])
def test_what_is_kept_is_what_the_page_says(store, shape) -> None:
    weight = matrix(*shape)
    stored = store(weight)
    expected = by_numpy(stored, shape[1])
    np.testing.assert_allclose(whole(*stored, shape[1]).double(), expected, rtol=1e-6, atol=1e-7 * abs(expected).max())
    assert torch.equal(stored.scales, stored.scales.bfloat16().float())


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_in_8_bits_each_weight_is_off_by_half_a_step_and_the_largest_by_what_its_scale_is_rounded(shape) -> None:
    weight = matrix(*shape)
    largest = weight.abs().amax(dim=1, keepdim=True)
    error = (whole(*in_8_bits(weight), shape[1]) - weight).abs()
    assert (error <= largest / 127 * 0.51 + largest / 2**8).all()  # bfloat16 has 8 bits
    assert (error.square().mean(dim=1) <= (largest.squeeze(1) / 127) ** 2 / 8).all()  # a twelfth, if all are alike


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_in_4_bits_no_group_is_worse_than_rounded_between_its_ends(shape) -> None:
    weight = matrix(*shape)
    found = (whole(*in_4_bits(weight), shape[1]) - weight).square()
    for group in range(0, shape[1], 64):
        part = weight[:, group : group + 64].double()
        low, high = part.amin(dim=1, keepdim=True), part.amax(dim=1, keepdim=True)
        step = torch.where(high == low, 1.0, (high - low) / 15)
        plain = (((part - low) / step).round() * step + low - part).square().sum(dim=1)
        rounding = len(part[0]) * (part.abs().amax(dim=1) * 2**-8) ** 2
        assert (found[:, group : group + 64].sum(dim=1) <= plain + rounding).all()
    if shape[1] >= 64:
        relative = found[3:].sum() / weight[3:].square().sum()
        assert relative <= 0.0080  # of normal numbers, between their ends 0.0085


@pytest.mark.parametrize("store", [in_8_bits, in_4_bits])
def test_a_group_of_one_number_and_one_of_zeros_stay_what_they_are(store) -> None:
    for value in (0.0, 0.25, -3.0):
        weight = torch.full((2, 70), value)
        torch.testing.assert_close(whole(*store(weight), 70), weight, rtol=2**-8, atol=0)


@pytest.mark.parametrize("rows", [0, 1, 3, 40])
@pytest.mark.parametrize("store", [in_8_bits, in_4_bits])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_a_projection_multiplies_with_what_is_kept(store, rows, dtype) -> None:
    weight, bias, input = matrix(40, 128), torch.randn(40), torch.randn(2, rows, 128)
    stored = store(weight)
    projection = StoredProjection(Stored(stored.numbers, stored.scales.to(dtype)), 128, bias.to(dtype))
    expected = input.to(dtype).double().numpy() @ by_numpy(stored, 128).T + bias.to(dtype).double().numpy()
    found = projection(input.to(dtype))
    assert found.dtype == dtype and found.shape == (2, rows, 40)
    within = 1e-6 if dtype == torch.float64 or (rows > 32 and dtype == torch.float32) else 2e-2
    if rows:
        assert np.abs(found.double().numpy() - expected).max() <= within * np.abs(expected).max()
    torch.testing.assert_close(projection.weight, whole(*stored, 128).to(dtype))


@pytest.mark.parametrize("store", [in_8_bits, in_4_bits])
def test_many_rows_meet_a_part_of_the_matrix_at_a_time(store, monkeypatch) -> None:
    monkeypatch.setattr(fast, "AT_ONCE", 7 * 128)
    stored, bias, input = store(matrix(40, 128)), torch.randn(40), torch.randn(100, 128)
    expected = input.double().numpy() @ by_numpy(stored, 128).T + bias.double().numpy()
    found = multiply_stored(input, *stored, bias).double().numpy()
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("store", [in_8_bits, in_4_bits])
def test_an_embedding_looks_up_rows_of_what_is_kept(store) -> None:
    stored = store(matrix(40, 96))
    ids = torch.tensor([[0, 39], [5, 5]])
    assert torch.equal(StoredEmbedding(stored, 96)(ids), whole(*stored, 96)[ids])


@pytest.mark.parametrize("store", [in_8_bits, in_4_bits])
def test_gradients_of_what_goes_in_are_those_of_the_weights_that_are_kept(store) -> None:
    projection = StoredProjection(store(matrix(8, 64)), 64, torch.zeros(8))
    input = torch.randn(3, 64, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(projection, input)
    few = input.detach()[:1].float().requires_grad_()
    projection(few).sum().backward()
    torch.testing.assert_close(few.grad, projection.weight.sum(dim=0, keepdim=True))


@pytest.mark.parametrize("store", [in_8_bits, in_4_bits])
def test_what_is_prepared_for_the_kernel_follows_what_is_written(store) -> None:
    """In place, by torch.func, and by moving: an old matrix is never multiplied with."""
    first, second = store(matrix(32, 64)), store(matrix(32, 64, seed=1))
    projection, input = StoredProjection(first, 64), torch.randn(MOST_ROWS + 1, 64)
    before = projection(input)
    by_func = functional_call(projection, second._asdict(), input)
    projection.load_state_dict(second._asdict())
    assert torch.equal(projection(input), by_func) and not torch.equal(before, by_func)
    projection.scales.mul_(2)
    torch.testing.assert_close(projection(input), 2 * by_func)
    projection.numbers.data = store(matrix(32, 64)).numbers
    projection.scales.data = store(matrix(32, 64)).scales
    assert torch.equal(projection(input), before)
    with torch.inference_mode():
        assert torch.equal(projection(input), before)


def test_nothing_prepared_outlives_its_matrix() -> None:
    projection = StoredProjection(in_4_bits(matrix(32, 64)), 64)
    held = len(fast._matrices)
    projection(torch.randn(MOST_ROWS + 1, 64))  # for fewer, loops read the numbers where they lie
    assert len(fast._matrices) == held + 1
    del projection
    assert len(fast._matrices) == held


def test_rows_of_another_width_are_refused() -> None:
    for projection in (StoredProjection(store(matrix(8, 64)), 64) for store in (in_8_bits, in_4_bits)):
        with pytest.raises(ValueError, match=r"^input must have shape \(\.\.\.,64\); got \(2, 60\)$"):
            projection(torch.randn(2, 60))


def test_plainly_takes_the_definition() -> None:
    stored, input = in_8_bits(matrix(8, 64)), torch.randn(MOST_ROWS + 1, 64)
    with plainly():
        exact = multiply_stored(input, *stored, None)
    assert torch.equal(exact, torch.nn.functional.linear(input, whole(*stored, 64)))
    assert not torch.equal(exact, multiply_stored(input, *stored, None))  # the kernel rounds to bfloat16


def test_a_projection_in_floats_is_one_that_can_be_stored() -> None:
    whole_one = Projection(64, 8)
    stored = StoredProjection(in_8_bits(whole_one.weight.detach()), 64, whole_one.bias.detach())
    assert (stored.in_features, stored.out_features) == (whole_one.in_features, whole_one.out_features)
    assert str(stored) == "StoredProjection(8 x 64, 8 bits)"
