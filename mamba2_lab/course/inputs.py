"""Random inputs of exercises, the same in every run."""

from __future__ import annotations

import torch
from torch import Tensor


class Draws:
    """Numbers of any shape, one after another from a generator of their own.

    draw = Draws(7).normal
    given(draw(2, 3), draw(4))
    """

    def __init__(self, seed: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)

    def normal(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Of mean 0 and variance 1."""
        return torch.randn(shape, generator=self._generator, dtype=dtype)

    def uniform(self, *shape: int) -> Tensor:
        """From 0 to 1."""
        return torch.rand(shape, generator=self._generator)

    def signed(self, *shape: int) -> Tensor:
        """From -1 to 1, all alike."""
        return 2 * self.uniform(*shape) - 1
