"""What kernels read where it lies: rows that may be parts of longer ones. And what they are tried with."""

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


def in_rows(tensor: Tensor) -> tuple[Tensor, int]:
    """A tensor (...,d) whose rows lie apart by one stride, and that stride; itself, if they do already."""
    *outer, d = tensor.shape
    strides, even = tensor.stride(), tensor.stride(-1) == 1 or d == 1
    stride, rows = d, 1
    for size, step in zip(reversed(outer), reversed(strides[:-1]), strict=True):
        if size > 1:
            stride = step if rows == 1 else stride
            even = even and step == stride * rows
            rows *= size
    return (tensor, stride) if even else (tensor.contiguous(), d)


def drawn_like(tensor: Tensor) -> Tensor:
    """Drawn numbers in its shape and dtype."""
    return torch.randn(tensor.shape).to(tensor.dtype)


def with_small_matrices(config: Any) -> dict[str, Any]:
    """The fields of a mixer that has the same sizes between its matrices, which have one column: nobody uses them."""
    return {**config.to_dict(), "d_model": 1, "expand": config.d_inner}


def inside_a_larger_one(z: Tensor) -> Tensor:
    """Drawn numbers in its shape: a part of longer rows, as the gate is of what a matrix makes."""
    return torch.randn(*z.shape[:-1], 2 * z.shape[-1]).to(z.dtype)[..., z.shape[-1] :]
