"""Derivatives of every kind: twice, forward, of many rows at once. Held against a recurrence in torch's own operations,
or against ordinary gradients, which other tests hold against finite differences."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator

import pytest
import torch
from support.oracle.mamba2 import ScanInputs, relative_error, scan_inputs
from support.small_models import random_ids, small_model
from torch import Tensor
from torch.autograd import forward_ad
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, vjp, vmap

from mamba2_lab import Mamba2LM, scan
from mamba2_lab.layers import CausalConv, GatedRMSNorm
from mamba2_lab.training import next_token_loss

SMALL = {"b": 2, "h": 2, "p": 2, "n": 3}
Scan = Callable[..., tuple[Tensor, Tensor]]


def plain_recurrence(x: Tensor, log_decay: Tensor, B: Tensor, C: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """The definition, of one group, in operations that torch can transform; nothing of the package."""
    ys = []
    for t in range(x.shape[1]):
        written = torch.einsum("bhp,bn->bhpn", x[:, t], B[:, t, 0])
        state = torch.exp(log_decay[:, t])[..., None, None] * state + written
        ys.append(torch.einsum("bhpn,bn->bhp", state, C[:, t, 0]))
    return torch.stack(ys, dim=1), state


def stepwise(x: Tensor, log_decay: Tensor, B: Tensor, C: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    ys = []
    for t in range(x.shape[1]):
        y, state = scan.step(x[:, t], log_decay[:, t], B[:, t], C[:, t], state)
        ys.append(y)
    return torch.stack(ys, dim=1), state


SCANS = {
    "sequential": scan.sequential,
    "step": stepwise,
    "quadratic": scan.quadratic,
    "chunked": functools.partial(scan.chunked, chunk_size=3),
}
each_scan = pytest.mark.parametrize("compute", SCANS.values(), ids=SCANS)
each_dtype = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])


def score(compute: Scan, *inputs: Tensor) -> Tensor:
    y, state = compute(*inputs)
    return y.square().sum() + state.sin().sum()


def tangents(inputs: ScanInputs) -> tuple[Tensor, ...]:
    return tuple(torch.cos(torch.arange(part.numel(), dtype=part.dtype)).view_as(part) for part in inputs)


def gradients_by_func(compute: Scan, inputs: ScanInputs) -> tuple[Tensor, ...]:
    return grad(functools.partial(score, compute), tuple(range(5)))(*inputs)


def gradients_by_vjp(compute: Scan, inputs: ScanInputs) -> tuple[Tensor, ...]:
    outputs, back = vjp(compute, *inputs)
    return back(tuple(torch.ones_like(part) for part in outputs))


def forward_by_jvp(compute: Scan, inputs: ScanInputs) -> tuple[Tensor, ...]:
    return jvp(compute, tuple(inputs), tangents(inputs))[1]


def forward_by_dual_numbers(compute: Scan, inputs: ScanInputs) -> tuple[Tensor, ...]:
    with forward_ad.dual_level():
        outputs = compute(*map(forward_ad.make_dual, inputs, tangents(inputs)))
        return tuple(forward_ad.unpack_dual(part).tangent for part in outputs)


def jacobians(compute: Scan, inputs: ScanInputs) -> tuple[Tensor, ...]:
    return *jacrev(compute, 1)(*inputs), *jacfwd(compute, 1)(*inputs)


def second_by_hessian(compute: Scan, inputs: ScanInputs) -> tuple[Tensor, ...]:
    return (hessian(functools.partial(score, compute), 1)(*inputs),)


def second_by_backward(compute: Scan, inputs: ScanInputs) -> tuple[Tensor, ...]:
    given = [part.clone().requires_grad_() for part in inputs]
    first = torch.autograd.grad(score(compute, *given), given, create_graph=True)
    return torch.autograd.grad(sum(part.square().sum() for part in first), given)


def second_by_functional(compute: Scan, inputs: ScanInputs) -> tuple[Tensor, ...]:
    return torch.autograd.functional.hvp(functools.partial(score, compute), tuple(inputs), tangents(inputs))[1]


def many_at_once(compute: Scan, inputs: ScanInputs) -> tuple[Tensor, ...]:
    found: list[Tensor] = []
    for output in (0, 1):
        given = [part.clone().requires_grad_() for part in inputs]
        y = compute(*given)[output]
        directions = torch.cos(torch.arange(3 * y.numel(), dtype=y.dtype)).view(3, *y.shape)
        grads = torch.autograd.grad(y, given, directions, is_grads_batched=True, allow_unused=True)
        found += [part for part in grads if part is not None]
    return tuple(found)


WAYS = [
    gradients_by_func, gradients_by_vjp, forward_by_jvp, forward_by_dual_numbers, jacobians,
    second_by_hessian, second_by_backward, second_by_functional, many_at_once,
]  # fmt: skip


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@each_scan
@each_dtype
def test_every_derivative_of_a_scan_is_that_of_the_plain_recurrence(dtype: torch.dtype, compute: Scan, way) -> None:
    inputs = scan_inputs(7, **SMALL, dtype=torch.float64)
    expected = way(plain_recurrence, inputs)
    found = way(compute, inputs.map(lambda part: part.to(dtype)))
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == dtype
        assert relative_error(one, other) <= (1e-11 if dtype == torch.float64 else 2e-5)


@pytest.mark.parametrize("mapped", range(6))
@each_scan
def test_a_scan_maps_over_any_of_its_arguments_without_a_loop(compute: Scan, mapped: int) -> None:
    """Over all of them (5), or over one: what is not mapped has no room for results in place."""
    first, second = (scan_inputs(7, **SMALL, seed=seed, dtype=torch.float32) for seed in (0, 1))
    over = tuple(0 if mapped in (i, 5) else None for i in range(5))
    given = [
        torch.stack(pair) if axis == 0 else pair[0]
        for pair, axis in zip(zip(first, second, strict=True), over, strict=True)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # torch warns where it loops over what it cannot map
        found = vmap(grad(functools.partial(score, compute), tuple(range(5))), in_dims=over)(*given)
    for row in (0, 1):
        alone = [part[row] if axis == 0 else part for part, axis in zip(given, over, strict=True)]
        expected = gradients_by_func(plain_recurrence, ScanInputs(*(part.double() for part in alone)))
        for one, other in zip(found, expected, strict=True):
            assert relative_error(one[row], other) <= 2e-5


@pytest.mark.parametrize("ngroups", [1, 3])
def test_second_derivatives_of_the_gated_norm_are_those_of_finite_differences(ngroups: int) -> None:
    norm = GatedRMSNorm(6, eps=1e-2, ngroups=ngroups).double()
    y, z = torch.randn(2, 2, 3, 6, generator=torch.Generator().manual_seed(1)).double().requires_grad_()
    weight = torch.linspace(0.5, 1.5, 6).double().requires_grad_()
    compute = lambda y, z, weight: functional_call(norm, {"weight": weight}, (y, z))  # noqa: E731
    assert torch.autograd.gradgradcheck(compute, (y, z, weight))
    assert torch.autograd.gradcheck(compute, (y, z, weight), check_batched_grad=True, check_forward_ad=True)


@pytest.mark.parametrize("documents", [None, [4, 4, 1, 1, 1, 4, 2]], ids=["one document", "documents"])
def test_second_derivatives_of_the_convolution_are_those_of_finite_differences(documents: list[int] | None) -> None:
    conv, draw = CausalConv(3, 4).double(), torch.Generator().manual_seed(2)
    x, window = (torch.randn(2, l, 3, generator=draw).double().requires_grad_() for l in (7, 3))
    ids = None if documents is None else torch.tensor(documents).expand(2, 7)

    def compute(x: Tensor, window: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return functional_call(conv, {"weight": weight, "bias": bias}, (x, window, ids))

    given = (x, window, conv.weight, conv.bias)
    assert torch.autograd.gradgradcheck(compute, given)
    assert torch.autograd.gradcheck(compute, given, check_batched_grad=True, check_forward_ad=True)


# The model


def parts_of(model: Mamba2LM) -> tuple[dict[str, Tensor], Callable[..., Tensor]]:
    """Its weights, and its loss on one text as a function of them."""
    weights = {name: weight.detach().clone() for name, weight in model.named_parameters()}

    def loss(weights: dict[str, Tensor], ids: Tensor, **more: Tensor) -> Tensor:
        rows = {name: value[None] for name, value in more.items()}
        return next_token_loss(functional_call(model, weights, (ids[None, :-1],), rows), ids[None, 1:])

    return weights, loss


def ordinary_gradients(model: Mamba2LM, loss: Callable[..., Tensor], ids: Tensor, **more: Tensor) -> Iterator[Tensor]:
    weights = {name: weight.detach().clone().requires_grad_() for name, weight in model.named_parameters()}
    yield from torch.autograd.grad(loss(weights, ids, **more), list(weights.values()))


@pytest.mark.parametrize("recomputing", [False, True], ids=["keeping", "recomputing"])
@pytest.mark.parametrize("more", ["nothing", "attention_mask", "document_ids"])
def test_gradients_of_each_text_by_itself(more: str, recomputing: bool) -> None:
    model = small_model(d_model=8)
    weights, loss = parts_of(model)
    ids = random_ids(3, 8)
    rows = {
        "nothing": {},
        "attention_mask": {"attention_mask": (torch.arange(7) >= torch.arange(3)[:, None]).int()},
        "document_ids": {"document_ids": (torch.arange(7) // 3).expand(3, 7)},
    }[more]
    model.checkpoint_blocks = recomputing
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = vmap(grad(lambda weights, ids, rows: loss(weights, ids, **rows)), in_dims=(None, 0, 0))(
            weights, ids, rows
        )
    model.checkpoint_blocks = False
    for i in range(3):
        own = {name: value[i] for name, value in rows.items()}
        for one, other in zip(found.values(), ordinary_gradients(model, loss, ids[i], **own), strict=True):
            assert relative_error(one[i], other) <= 2e-4


@torch.no_grad()
def test_reading_and_stepping_map_over_texts() -> None:
    model, ids = small_model(), random_ids(3, 6)
    logits, cache = model.prefill(ids)
    torch.testing.assert_close(vmap(lambda row: model.prefill(row[None])[0][0])(ids), logits)
    mask = torch.ones(3, 6, dtype=torch.long)
    mapped = vmap(lambda row, real: model.prefill(row[None], attention_mask=real[None])[0][0])(ids, mask)
    torch.testing.assert_close(mapped, logits)
    fresh = model.new_cache(1)
    expected, _ = model.step(ids[:, 0], model.new_cache(3))
    torch.testing.assert_close(vmap(lambda token: model.step(token[None], fresh)[0][0])(ids[:, 0]), expected)


@pytest.mark.parametrize("recomputing", [False, True], ids=["keeping", "recomputing"])
def test_curvature_of_the_loss_is_the_change_of_its_gradient(recomputing: bool) -> None:
    """Forward over the gradient, and backward twice, against a difference of two gradients."""
    model = small_model(d_model=8).double()
    weights, loss = parts_of(model)
    ids, size = random_ids(1, 7)[0], 1e-5
    direction = {name: torch.cos(torch.arange(w.numel()).double()).view_as(w) for name, w in weights.items()}

    def moved(by: float) -> dict[str, Tensor]:
        return {name: weight + by * direction[name] for name, weight in weights.items()}

    ahead, behind = (grad(loss)(moved(by), ids) for by in (size, -size))
    expected = {name: (ahead[name] - behind[name]) / (2 * size) for name in weights}
    model.checkpoint_blocks = recomputing
    forward = jvp(lambda weights: grad(loss)(weights, ids), (weights,), (direction,))[1]
    given = {name: weight.clone().requires_grad_() for name, weight in weights.items()}
    first = torch.autograd.grad(loss(given, ids), list(given.values()), create_graph=True)
    along = sum((one * other).sum() for one, other in zip(first, direction.values(), strict=True))
    twice = dict(zip(given, torch.autograd.grad(along, list(given.values())), strict=True))
    for name in weights:
        assert relative_error(forward[name], expected[name]) <= 1e-6, name
        assert relative_error(twice[name], expected[name]) <= 1e-6, name
