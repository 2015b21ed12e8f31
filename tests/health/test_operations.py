"""A fault of a kernel is found, planted on the float32 side. (On an emulated mps device: tests/mps.)"""

import pytest
import torch

from mamba2_lab.health import operations


@pytest.mark.parametrize("only_for_views", [False, True])
def test_a_kernel_that_is_off_by_one_percent_is_found(only_for_views: bool) -> None:
    def wrong_exp(x: torch.Tensor) -> torch.Tensor:
        spared = x.dtype == torch.float64 or (only_for_views and x.is_contiguous())
        return torch.exp(x) * (1.0 if spared else 1.01)

    (one,) = operations.operation_check("exp", wrong_exp, torch.randn(4, 5)).on(["cpu"])
    assert one.error == pytest.approx(0.01, rel=1e-2) and not one.agrees
    assert one.where.endswith("split views" if only_for_views else "contiguous")


def test_a_gradient_that_is_wrong_is_found_and_named() -> None:
    def wrong_gradient(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return x + (y if y.dtype == torch.float64 else y.detach() + 1.01 * (y - y.detach()))

    (one,) = operations.operation_check("add", wrong_gradient, torch.randn(4, 5), torch.randn(4, 5)).on(["cpu"])
    assert one.error == pytest.approx(0.01, rel=1e-2)
    assert one.where == "gradient 2, contiguous"


def test_split_views_are_strided_and_hold_the_same_numbers() -> None:
    whole = torch.arange(12.0).reshape(3, 4)
    part = operations.inside_a_larger_one(whole, "cpu")
    assert torch.equal(part, whole)
    assert not part.is_contiguous() and part.storage_offset() > 0
