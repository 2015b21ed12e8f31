"""A difference is measured, and named, and what cannot be computed is one."""

import math

import pytest
import torch

from mamba2_lab.health.check import Check, Finding, Values
from mamba2_lab.health.choice import TOLERANCE


def finding(expected: list[float], found: list[float], allowed: float = 1e-4) -> Finding:
    check = Check(
        "a thing", lambda: {"value": torch.tensor(expected)}, lambda name: {"value": torch.tensor(found)}, allowed
    )
    (one,) = check.on(["cpu"])
    return one


@pytest.mark.parametrize(
    ("expected", "found", "error"),
    [
        ([1.0, -4.0], [1.0, -4.0], 0.0),
        ([1.0, -4.0], [1.1, -4.0], 0.025),
        ([1.0, -4.0], [1.0, -4.4], 0.1),
        ([0.0, 0.0], [0.0, 2.0], 2.0),
        ([1.0, -4.0], [1.0, math.nan], math.inf),
        ([1.0, -4.0], [-math.inf, -4.0], math.inf),
    ],
)
def test_an_error_is_the_largest_difference_relative_to_the_largest_value(
    expected: list[float], found: list[float], error: float
) -> None:
    assert finding(expected, found).error == pytest.approx(error, rel=1e-6)
    assert finding(expected, found).agrees == (error <= 1e-4)


@pytest.mark.parametrize("error", [NotImplementedError, TypeError, ValueError, FloatingPointError])
def test_what_cannot_be_computed_is_a_finding_that_quotes_the_reason(error: type[Exception]) -> None:
    def fail(name: str) -> Values:
        raise error(f"no kernel on {name}\nand more")

    (one,) = Check("a thing", lambda: {"value": torch.ones(1)}, fail).on(["mps"])
    assert (one.error, one.where, one.agrees) == (math.inf, "no kernel on mps", False)


def test_the_worst_value_is_named() -> None:
    expected = {name: torch.ones(2) for name in ("logits", "state", "window")}
    check = Check("a thing", lambda: expected, lambda name: {**expected, "state": torch.tensor([1.0, 1.5])})
    assert check.on(["cpu"]) == [Finding("a thing", 0.5, TOLERANCE, "state")]
