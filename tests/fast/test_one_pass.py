"""Convolution, gate and norm by loops of our own: in a model, with threads, and where they are left to torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from support.devices import DEVICE
from support.oracle.mamba2 import relative_error
from support.small_models import random_ids, small_model
from torch import Tensor

from mamba2_lab import Mamba2LM
from mamba2_lab.fast import one_pass, rows
from mamba2_lab.layers.convolution import convolve
from mamba2_lab.layers.norm import gate_and_normalise
from mamba2_lab.operation import plainly

pytestmark = pytest.mark.skipif(DEVICE.type != "cpu" or not rows.HAS_NUMBA, reason="loops that numba compiles")


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """However few numbers there are, and with as many threads as torch has, which are three."""
    monkeypatch.setattr(one_pass, "LEAST", 1)
    monkeypatch.setattr(rows, "LEAST_TO_SHARE", 1)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def learned(model: Mamba2LM, ids: Tensor, **packed: Any) -> list[Tensor]:
    """Logits, and the gradients of a sum that weighs each of them otherwise."""
    logits = model(ids, **packed)
    weights = torch.linspace(-1, 1, logits.numel(), dtype=logits.dtype).view_as(logits)
    return [logits.detach(), *torch.autograd.grad((logits * weights).sum(), list(model.parameters()))]


@pytest.mark.parametrize("fields", [{}, {"ngroups": 2, "conv_bias": False, "d_conv": 2}])
def test_a_model_learns_from_the_gradients_of_the_definition(always: None, fields: dict[str, Any]) -> None:
    model, ids, documents = small_model(**fields), random_ids(3, 70), torch.arange(70).expand(3, 70) // 23
    for packed in ({}, {"document_ids": documents}, {"attention_mask": documents > 0}):
        found, again = learned(model, ids, **packed), learned(model, ids, **packed)
        with plainly():
            expected = learned(small_model(**fields).double(), ids, **packed)
        for value, same, exact in zip(found, again, expected, strict=True):
            assert relative_error(value, exact) <= 1e-5
            assert torch.equal(value, same)


@torch.no_grad()
def test_a_sequence_goes_on_from_its_window(always: None) -> None:
    model, ids = small_model(), random_ids(2, 70)
    _, cache = model.prefill(ids[:, :33])
    with plainly():
        expected = model.double()(ids)[:, -1]
    assert relative_error(model.float().prefill(ids[:, 33:], cache)[0], expected) <= 1e-5


def test_it_does_not_matter_how_arguments_lie(always: None) -> None:
    whole, taps, bias = torch.randn(2, 50, 30), torch.randn(6, 4).t(), torch.randn(6)
    y, z, weight = whole[..., 1:7], whole[..., 11:17], torch.randn(6)
    for compute, arguments in (
        (convolve, (y, whole[:, :3, 20:26], taps, bias, None)),
        (convolve, (y.flip(1).mT.contiguous().mT, z[:, :3], taps, bias, None)),
        (gate_and_normalise, (y, z, weight, 1e-5, 2)),
        (gate_and_normalise, (y[0], z[0, :1].expand(50, 6), weight, 1e-5, 1)),
        (gate_and_normalise, (y[0, 0], z[0, 0], weight, 1e-5, 1)),
    ):
        assert relative_error(compute(*arguments), compute.plain(*arguments).double()) <= 1e-6


def test_what_torch_has_to_see_is_left_to_it(always: None) -> None:
    x, window, taps, bias = torch.randn(1, 9, 6), torch.zeros(1, 3, 6), torch.randn(4, 6), torch.randn(6)
    serves = convolve.ways[0].serves
    assert convolve.ways[0].name == gate_and_normalise.ways[0].name == "one pass"
    assert serves(x, window, taps, bias, None)
    for other in (x.double(), x.bfloat16(), x.to("meta")):
        assert not serves(other, window, taps, bias, None)
    seen = []
    torch.func.vmap(lambda x: seen.append(serves(x, window, taps, bias, None)) or x)(x[None])
    torch.compile(lambda x: seen.append(serves(x, window, taps, bias, None)) or x, backend="eager")(x)
    assert seen == [False, False]
