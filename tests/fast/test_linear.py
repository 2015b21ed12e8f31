"""The projections against products in float64, and where oneDNN computes them."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
import torch
from support.small_models import random_ids, small_model
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from mamba2_lab.fast import linear as fast_linear
from mamba2_lab.fast.linear import HAS_ONEDNN
from mamba2_lab.layers import Projection

needs_onednn = pytest.mark.skipif(not HAS_ONEDNN, reason="this torch was built without oneDNN")

INPUTS = {
    "a row": lambda: torch.randn(1, 48),
    "rows": lambda: torch.randn(7, 48),
    "a sequence": lambda: torch.randn(2, 5, 48),
    "a vector": lambda: torch.randn(48),
    "columns": lambda: torch.randn(48, 9).t(),
    "part of a tensor": lambda: torch.randn(3, 6, 100)[:, 1::2, 17:65],
    "one row again and again": lambda: torch.randn(1, 1, 48).expand(2, 4, 48),
    "no row": lambda: torch.randn(0, 48),
    "no token": lambda: torch.randn(2, 0, 48),
}


class Products(TorchDispatchMode):
    """Counts products that are left to oneDNN."""

    count = 0

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += operation is torch.ops.mamba2_lab.product.default
        return operation(*args, **(kwargs or {}))


def gradients(layer: torch.nn.Linear, input: Tensor) -> list[Tensor]:
    """y, the gradients of a loss that is not linear in y, and those of a penalty on the input's gradient."""
    input = input.detach().requires_grad_()
    wanted = [input, *layer.parameters()]
    y = layer(input)
    first = torch.autograd.grad(y.sin().sum(), wanted, create_graph=True)
    second = torch.autograd.grad(first[0].square().sum(), wanted, allow_unused=True)
    return [y, *first, *second]


@pytest.mark.parametrize("bias", [False, True], ids=["no bias", "bias"])
@pytest.mark.parametrize("name", INPUTS)
def test_products_and_gradients_are_those_in_float64(name: str, bias: bool) -> None:
    torch.manual_seed(0)
    layer, exact = Projection(48, 31, bias=bias), torch.nn.Linear(48, 31, bias=bias, dtype=torch.float64)
    exact.load_state_dict(layer.state_dict())
    input = INPUTS[name]()
    for found, expected in zip(gradients(layer, input), gradients(exact, input.double()), strict=True):
        torch.testing.assert_close(found, expected.float(), rtol=1e-5, atol=1e-5)


@needs_onednn
@pytest.mark.parametrize("frozen", ["input", "weight", "bias"])
def test_gradients_that_nobody_asked_for_are_not_computed(frozen: str) -> None:
    layer, input = Projection(48, 31), torch.randn(5, 48, requires_grad=True)
    {"input": input, "weight": layer.weight, "bias": layer.bias}[frozen].requires_grad_(False)
    with Products() as products:
        layer(input).sum().backward()
    given = {"input": input.grad, "weight": layer.weight.grad, "bias": layer.bias.grad}
    assert [name for name, grad in given.items() if grad is None] == [frozen]
    assert products.count == (1 if frozen == "input" else 2)


@needs_onednn
def test_onednn_computes_all_projections_of_a_model_on_a_cpu() -> None:
    model, ids = small_model(n_layer=2).cpu(), random_ids(2, 9)
    with torch.no_grad(), Products() as products:
        _, cache = model.prefill(ids)
        assert products.count == 5  # two in each layer, and the head
        model.step(ids[:, 0], cache)
        assert products.count == 10
    with Products() as products:
        model(ids).sum().backward()
    assert products.count == 10  # and as many on the way back, but for gradients of weights


@needs_onednn
@pytest.mark.filterwarnings("ignore:TF32")  # torch says so when the switch is used
@pytest.mark.parametrize(
    ("dtype", "context"),
    [
        (torch.float64, nullcontext()),
        (torch.bfloat16, nullcontext()),
        (torch.float32, torch.autocast("cpu", torch.bfloat16)),
        (torch.float32, torch.backends.mkldnn.flags(enabled=False)),
    ],
    ids=["float64", "bfloat16", "autocast", "switched off"],
)
def test_elsewhere_it_is_nn_linear(
    dtype: torch.dtype, context: AbstractContextManager[None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fast_linear, "ONE_BY_ONE", set())
    layer, input = Projection(48, 31, dtype=dtype), torch.randn(5, 48, dtype=dtype)
    with Products() as products, context:
        assert torch.equal(layer(input), torch.nn.functional.linear(input, layer.weight, layer.bias))
    assert products.count == 0


class Factors(TorchDispatchMode):
    """Keeps the dtypes of what is multiplied as matrices."""

    def __init__(self) -> None:
        super().__init__()
        self.dtypes = set[torch.dtype]()

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if operation.overloadpacket.__name__ in ("mm", "addmm", "bmm", "product"):
            self.dtypes |= {arg.dtype for arg in args if isinstance(arg, Tensor)}
        return operation(*args, **(kwargs or {}))


@pytest.mark.parametrize("bias", [False, True], ids=["no bias", "bias"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_16_bits_are_multiplied_as_floats_where_a_processor_has_no_instructions_for_them(
    dtype: torch.dtype, bias: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    layer, input = Projection(48, 31, bias=bias, dtype=dtype), torch.randn(7, 48, dtype=dtype)
    exact = torch.nn.functional.linear(input.double(), layer.weight.double(), None if not bias else layer.bias.double())
    monkeypatch.setattr(fast_linear, "ONE_BY_ONE", {dtype})
    with Factors() as factors:
        found = gradients(layer, input)
    assert factors.dtypes == {torch.float32}
    assert all(tensor.dtype == dtype for tensor in found)
    torch.testing.assert_close(found[0], exact.to(dtype), rtol=torch.finfo(dtype).eps, atol=0)  # once, to the nearest


@needs_onednn
def test_an_input_of_another_width_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="5x47 and 48x31"):
        Projection(48, 31)(torch.randn(5, 47))
