"""A difference is measured, and named, and what cannot be computed is one. A wrong way is no wrong device."""

import math
from typing import Any

import pytest
import torch

from mamba2_lab.fast.stored import FEW_ROWS
from mamba2_lab.health.check import Check, Finding, Values, normal, whole
from mamba2_lab.health.choice import TOLERANCE
from mamba2_lab.health.whole_model import OTHER_MIXERS, model_check, read_in_pieces
from mamba2_lab.layers.stored import multiply_stored
from mamba2_lab.operation import OPERATIONS, Way


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


# A wrong way, and a wrong device

READING = model_check("reading in pieces and steps", read_in_pieces)
EVERY_MIXER = {  # so that it takes nearly every operation
    "n_layer": 4,
    "mixers": ["mamba1", "mamba3", "attention", "mamba2"],
    **{name: OTHER_MIXERS[what][name] for name, what in (("mamba1", "Mamba-1"), ("attention", "attention and MLPs"))},
    "mamba2": {"d_state": 16, "headdim": 16},
    "mamba3": OTHER_MIXERS["Mamba-3 in two ranks"]["mamba3"],
}
READING_EVERY_MIXER = model_check("reading in pieces and steps", read_in_pieces, **EVERY_MIXER)
READING_MAMBA_3 = model_check("reading in one rank", read_in_pieces, **OTHER_MIXERS["Mamba-3"])


def product_of_stored(dtype: torch.dtype) -> Values:
    """Of more rows than are rounded to bfloat16."""
    rows, numbers = normal(FEW_ROWS + 1, 32), whole(256, 8, 32) - 128
    return {"product": multiply_stored(rows.to(dtype), numbers.to(torch.int8), normal(8), None)}


MULTIPLYING_STORED = Check(
    "a stored matrix", lambda: product_of_stored(torch.float64), lambda name: product_of_stored(torch.float32)
)
CHECK_OF = {  # the operations that `READING_EVERY_MIXER` does not take
    **dict.fromkeys(("read_of_one", "turn_of_heads", "turns_since_start"), READING_MAMBA_3),
    "multiply_stored": MULTIPLYING_STORED,
}


# Between the kernels for mps lie operations that are met there alone: tests/mps finds what is wrong with them.
MET_ON_A_CPU = [name for name, it in OPERATIONS.items() if not it.plain.__module__.startswith("mamba2_lab.fast.metal")]


def plant(monkeypatch: pytest.MonkeyPatch, name: str, raised: Exception | None = None) -> None:
    """The operation has one way, which is off by one percent, or raises; its definition is as it was."""

    def compute(*args: Any) -> Any:
        if raised is not None:
            raise raised
        found = OPERATIONS[name].plain(*args)
        return tuple(part * 1.01 for part in found) if isinstance(found, tuple) else found * 1.01

    monkeypatch.setattr(OPERATIONS["one_token"], "ways", [])  # which take the place of the operations within
    monkeypatch.setattr(OPERATIONS[name], "ways", [Way("wrong", lambda *args: True, 0.0, compute)])


@pytest.mark.parametrize("name", MET_ON_A_CPU)
def test_a_way_that_is_wrong_is_found_and_named_and_the_device_is_not(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    check = CHECK_OF.get(name, READING_EVERY_MIXER)
    assert check.on(["cpu"])[0].agrees
    plant(monkeypatch, name)
    (one,) = check.on(["cpu"])
    assert not one.agrees and one.wrong_ways == (name,)


def test_a_way_that_cannot_be_computed_is_wrong_too(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, "turn", RuntimeError("no kernel"))
    (one,) = READING.on(["cpu"])
    assert (one.error, one.where, one.wrong_ways) == (math.inf, "no kernel", ("turn",))


def test_where_no_single_way_is_to_blame_none_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, "turn")
    plant(monkeypatch, "linear")
    (one,) = READING.on(["cpu"])
    assert not one.agrees and set(one.wrong_ways) == set(OPERATIONS)


def test_a_kernel_that_is_wrong_is_the_fault_of_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    softplus = torch.nn.functional.softplus
    off = lambda x: softplus(x) * (1.0 if x.dtype == torch.float64 else 1.01)  # noqa: E731
    monkeypatch.setattr(torch.nn.functional, "softplus", off)
    (one,) = READING.on(["cpu"])
    assert not one.agrees and one.wrong_ways == ()


def test_ways_are_back_after_a_look_without_them(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, "turn")
    before = {name: list(operation.ways) for name, operation in OPERATIONS.items()}
    READING.on(["cpu"])
    assert {name: operation.ways for name, operation in OPERATIONS.items()} == before
