"""The gated MLP, against one in float64 written independently, and against that of transformers."""

import pytest
import torch
from support.oracle import attention as oracle
from support.oracle.mamba2 import perturb, raises, relative_error
from torch import Tensor

from mamba2_lab.layers import GatedMLP


@pytest.mark.parametrize("bias", [False, True], ids=["no bias", "bias"])
@torch.no_grad()
def test_the_mlp_equals_that_in_float64(bias: bool) -> None:
    mlp = perturb(GatedMLP(12, 40, bias=bias))
    for shape in ((2, 7, 12), (3, 12), (0, 12)):
        x = torch.randn(shape)
        expected = oracle.mlp(mlp.state_dict(), x)
        assert relative_error(mlp(x), expected) <= 2e-6
        assert relative_error(mlp.double()(x.double()), expected) <= 1e-12
        mlp.float()


@pytest.mark.parametrize(("given", "hidden"), [(1, 128), (128, 128), (129, 256), (6912, 6912), (1264, 1280)])
def test_names_and_shapes_are_official_and_the_hidden_size_is_a_multiple_of_128(given: int, hidden: int) -> None:
    mlp = GatedMLP(12, given, device="meta")
    assert {name: tuple(weight.shape) for name, weight in mlp.state_dict().items()} == {
        "fc1.weight": (2 * hidden, 12),
        "fc2.weight": (12, hidden),
    }
    assert {*GatedMLP(12, given, bias=True, device="meta").state_dict()} == {
        f"{layer}.{part}" for layer in ("fc1", "fc2") for part in ("weight", "bias")
    }


@torch.no_grad()
def test_the_mlp_equals_that_of_transformers_llama_whose_gate_comes_first() -> None:
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaMLP

    llama = perturb(LlamaMLP(LlamaConfig(hidden_size=32, intermediate_size=256)))
    mlp, x = GatedMLP(32, 256), torch.randn(2, 9, 32)
    mlp.fc1.weight.copy_(torch.cat([llama.up_proj.weight, llama.gate_proj.weight]))
    mlp.fc2.weight.copy_(llama.down_proj.weight)
    assert relative_error(mlp(x), llama(x)) <= 1e-6
    mlp.fc1.weight.copy_(torch.cat([llama.gate_proj.weight, llama.up_proj.weight]))
    assert relative_error(mlp(x), llama(x)) > 0.1  # as a port of Mamba-3 has it


def test_derivatives_are_those_of_finite_differences() -> None:
    mlp = perturb(GatedMLP(2, 128)).double()
    with torch.no_grad():  # a few of the hidden channels, for the sake of time
        mlp.fc1.weight, mlp.fc2.weight = (
            torch.nn.Parameter(weight) for weight in (mlp.fc1.weight[:6].clone(), mlp.fc2.weight[:, :3].clone())
        )

    def compute(x: Tensor, fc1: Tensor, fc2: Tensor) -> Tensor:
        return torch.func.functional_call(mlp, {"fc1.weight": fc1, "fc2.weight": fc2}, (x,))

    given = (torch.randn(3, 2).double().requires_grad_(), mlp.fc1.weight, mlp.fc2.weight)
    assert torch.autograd.gradcheck(compute, given, check_batched_grad=True, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(compute, given)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@torch.no_grad()
def test_half_precision_weights_and_autocast_stay_near_float32(dtype: torch.dtype) -> None:
    mlp = perturb(GatedMLP(32, 128)).to(dtype).float()
    x = torch.randn(5, 32).to(dtype).float()
    expected = mlp(x)
    with torch.autocast("cpu", dtype):
        assert mlp(x).dtype == dtype
        assert relative_error(mlp(x), expected) <= 2e-2
    assert relative_error(mlp.to(dtype)(x.to(dtype)), expected) <= 2e-2


@pytest.mark.parametrize(
    ("sizes", "error", "said"),
    [
        ((12, 0), ValueError, "d_intermediate must be at least 1; got 0"),
        ((12, 2.5), TypeError, "d_intermediate must be a whole number; got 2.5"),
        ((0, 12), ValueError, "d_model must be at least 1; got 0"),
    ],
)
def test_sizes_that_cannot_be_are_refused(sizes: tuple[int, int], error: type[Exception], said: str) -> None:
    with raises(error, said):
        GatedMLP(*sizes)
