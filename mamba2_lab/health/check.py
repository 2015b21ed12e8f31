"""One thing computed twice, and compared: in float64 on the CPU, and on a device.

What is right is computed as it is defined, without a faster way (`mamba2_lab.operation`). A device computes as a model
does. Where it disagrees it does so once more as everything is defined: if it agrees then, the device computes that
right, and a faster way goes wrong.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mamba2_lab.health.choice import TOLERANCE
from mamba2_lab.operation import OPERATIONS, Operation, plainly

Values = dict[str, Tensor]  # what was computed, brought to the CPU, each under the name that a report gives it


@dataclass(frozen=True)
class Finding:
    """How one device does at one thing.

    error: the largest difference from what is right, relative to the largest value; infinite for a NaN, and for what
        the device could not compute.
    where: which of the values is the worst, or what the device said.
    wrong_ways: the operations of which a faster way goes wrong; none where it is the device.
    """

    what: str
    error: float
    allowed: float
    where: str
    wrong_ways: tuple[str, ...] = ()

    @property
    def agrees(self) -> bool:
        """Whether the difference is small enough."""
        return self.error <= self.allowed


@dataclass(frozen=True)
class Check:
    """One thing to compute: what is right, from float64 on the CPU, and what a device finds."""

    what: str
    expected: Callable[[], Values]
    found: Callable[[str], Values]
    allowed: float = TOLERANCE

    def on(self, names: Sequence[str]) -> list[Finding]:
        """A finding for each of the devices."""
        with torch.inference_mode(False), torch.enable_grad():  # whatever the caller has switched off
            with plainly():
                expected = self.expected()
            return [self._examine(name, expected) for name in names]

    def _examine(self, name: str, expected: Values) -> Finding:
        finding = self._compare(name, expected)
        if finding.agrees:
            return finding
        with plainly():
            if not self._compare(name, expected).agrees:
                return finding
        wrong = [operation for operation in OPERATIONS if self._agrees_without(operation, name, expected)]
        return replace(finding, wrong_ways=tuple(wrong or OPERATIONS))  # of several, where no single one is to blame

    def _agrees_without(self, operation: str, name: str, expected: Values) -> bool:
        """Whether it does where this operation alone is computed as it is defined."""
        with without_ways(OPERATIONS[operation]):
            return self._compare(name, expected).agrees

    def _compare(self, name: str, expected: Values) -> Finding:
        try:
            found = self.found(name)
        # An operation or a dtype that the device does not have; or NaN, which training and the sampler refuse.
        except (RuntimeError, TypeError, ValueError, FloatingPointError) as fault:
            return Finding(self.what, math.inf, self.allowed, str(fault).partition("\n")[0])
        errors = {value: _difference(found[value], expected[value]) for value in expected}
        worst = max(errors, key=lambda value: errors[value])
        return Finding(self.what, errors[worst], self.allowed, worst)


@contextmanager
def without_ways(operation: Operation) -> Iterator[None]:
    """Within, this operation is computed as it is defined."""
    before, operation.ways = operation.ways, []
    try:
        yield
    finally:
        operation.ways = before


def _difference(found: Tensor, expected: Tensor) -> float:
    largest = float((found.double() - expected.double()).abs().max())
    size = float(expected.double().abs().max())
    relative = largest / size if size > 0 else largest
    return math.inf if math.isnan(relative) else relative


def normal(*shape: int, seed: int = 0) -> Tensor:
    """Numbers to compute with, the same ones each time."""
    return torch.randn(shape, generator=torch.Generator("cpu").manual_seed(seed + sum(shape)))


def whole(high: int, *shape: int) -> Tensor:
    """Whole numbers below `high`, the same ones each time."""
    return torch.randint(0, high, shape, generator=torch.Generator("cpu").manual_seed(high))
