"""What kernels are tried with, and whether it fits them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

SEQUENCES, TOKENS = 4, 1024  # that a kernel is tried on, at most: the CPU computes as many, in float64


def as_tried(tensor: Tensor) -> Tensor:
    """Of (b,l,...) no more than a kernel is tried on; a row for each sequence, (b,d), as it is."""
    return tensor[:SEQUENCES, :TOKENS] if tensor.ndim > 2 else tensor


def fit(said: Iterable[tuple[Tensor, tuple[int, ...]]], dtype: torch.dtype) -> bool:
    """Whether each tensor has its shape, and this dtype: a kernel knows addresses, and no ends."""
    return all(tensor.shape == shape and tensor.dtype == dtype for tensor, shape in said)


def drawn_like(tensor: Tensor) -> Tensor:
    """Drawn numbers in its shape and dtype."""
    return torch.randn(tensor.shape).to(tensor.dtype)


def with_small_matrices(config: Any) -> dict[str, Any]:
    """The fields of a mixer that has the same sizes between its matrices, which have one column: nobody uses them."""
    return {**config.to_dict(), "d_model": 1, "expand": config.d_inner}


def inside_a_larger_one(z: Tensor) -> Tensor:
    """Drawn numbers in its shape: a part of longer rows, as the gate is of what a matrix makes."""
    return torch.randn(*z.shape[:-1], 2 * z.shape[-1]).to(z.dtype)[..., z.shape[-1] :]
