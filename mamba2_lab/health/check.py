"""One thing computed twice, and compared: in float64 on the CPU, and on a device."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mamba2_lab.health.choice import TOLERANCE

Values = dict[str, Tensor]  # what was computed, brought to the CPU, each under the name that a report gives it


@dataclass(frozen=True)
class Finding:
    """How one device does at one thing.

    error: the largest difference from what is right, relative to the largest value; infinite for a NaN, and for what
        the device could not compute.
    where: which of the values is the worst, or what the device said.
    """

    what: str
    error: float
    allowed: float
    where: str

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
            expected = self.expected()
            return [self._compare(name, expected) for name in names]

    def _compare(self, name: str, expected: Values) -> Finding:
        try:
            found = self.found(name)
        # An operation or a dtype that the device does not have; or NaN, which training and the sampler refuse.
        except (RuntimeError, TypeError, ValueError, FloatingPointError) as fault:
            return Finding(self.what, math.inf, self.allowed, str(fault).partition("\n")[0])
        errors = {value: _difference(found[value], expected[value]) for value in expected}
        worst = max(errors, key=lambda value: errors[value])
        return Finding(self.what, errors[worst], self.allowed, worst)


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
