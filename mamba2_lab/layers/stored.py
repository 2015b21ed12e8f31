"""Matrices stored in 8 or 4 bits: whole numbers, and the scales that make weights of them again.

    int8   weight[i, j] = number[i, j] scale[i]                        numbers -127..127, a scale for each row
    int4   weight[i, j] = (number[i, j] - 8) scale[i, g] + zero[i, g]  numbers 0..15; column j is of group g

A group is 64 neighbours in a row. Its numbers lie in 32 bytes: byte j holds that of column j in its lower half, and
that of column j + 32 in its upper half. The last group of a row is filled up. The numbers have no gradients: such
matrices are for reading and writing text, not for training.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mamba2_lab.operation import operation

GROUP = 64
LARGEST = 127  # of the numbers in 8 bits
MIDDLE = 8  # of those in 4 bits


class Stored(NamedTuple):
    """A matrix of f columns as it is stored."""

    numbers: Tensor  # (r,f) int8; or (r,32g) uint8, g groups to a row, two numbers to a byte
    scales: Tensor  # (r,); or (r,g,2), scale and zero of each group


def empty(weights: str, rows: int, columns: int) -> Stored:
    """The place of a matrix (rows,columns) that is stored in "int8" or "int4", without numbers."""
    if weights == "int8":
        return Stored(torch.empty(rows, columns, dtype=torch.int8), torch.empty(rows))
    groups = -(-columns // GROUP)
    return Stored(torch.empty(rows, groups * GROUP // 2, dtype=torch.uint8), torch.empty(rows, groups, 2))


def whole(numbers: Tensor, scales: Tensor, columns: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """The weights that are meant, as floats: (...,columns). Leading dimensions may be any: one row is a matrix, too."""
    scales = scales.to(dtype)
    if numbers.dtype == torch.int8:
        return numbers.to(dtype) * scales.unsqueeze(-1)
    scale, zero = scales.unbind(-1)
    groups = unpacked(numbers).unflatten(-1, (-1, GROUP)).to(dtype) - MIDDLE
    return (groups * scale.unsqueeze(-1) + zero.unsqueeze(-1)).flatten(-2)[..., :columns]


def packed(groups: Tensor) -> Tensor:
    """Numbers 0..15 in their groups, two to a byte: (r,g,64) -> (r,32g) uint8."""
    low, high = groups.to(torch.uint8).chunk(2, dim=-1)
    return (low | high << 4).flatten(-2)


def unpacked(numbers: Tensor) -> Tensor:
    """One to a byte, groups side by side: (...,32g) -> (...,64g) uint8."""
    bytes = numbers.unflatten(-1, (-1, GROUP // 2))
    return torch.cat([bytes & 15, bytes >> 4], dim=-1).flatten(-2)


@operation
def multiply_stored(input: Tensor, numbers: Tensor, scales: Tensor, bias: Tensor | None) -> Tensor:
    """A stored matrix times rows, in float32: (...,in_features) -> (...,out_features), in the dtype of the rows."""
    accumulate = torch.promote_types(input.dtype, torch.float32)
    weight = whole(numbers, scales, input.shape[-1], accumulate)
    bias = None if bias is None else bias.to(accumulate)
    return F.linear(input.to(accumulate), weight, bias).to(input.dtype)


class StoredMatrix(nn.Module):
    """What is kept of a matrix (rows,columns). Its parameters ask for no gradients, and could have none.

    Args:
        stored: numbers and scales. The dtype of the scales is that of the model, and moves with it.
        columns: of the matrix.
    """

    scales: nn.Parameter
    numbers: nn.Parameter

    def __init__(self, stored: Stored, columns: int) -> None:
        super().__init__()
        self.columns = columns
        self.scales = nn.Parameter(stored.scales, requires_grad=False)  # first: it tells the dtype of a mixer
        self.numbers = nn.Parameter(stored.numbers, requires_grad=False)

    @property
    def weight(self) -> Tensor:
        """The weights that are meant, made anew each time: (rows,columns)."""
        return whole(self.numbers, self.scales, self.columns).to(self.scales.dtype)

    def extra_repr(self) -> str:
        """What print shows."""
        bits = 8 if self.numbers.dtype == torch.int8 else 4
        return f"{self.numbers.shape[0]} x {self.columns}, {bits} bits"


class StoredProjection(StoredMatrix):
    """Takes the place of a `Projection`: (...,columns) -> (...,rows)."""

    def __init__(self, stored: Stored, columns: int, bias: Tensor | None = None) -> None:
        super().__init__(stored, columns)
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)

    @property
    def in_features(self) -> int:
        """As nn.Linear calls it."""
        return self.columns

    @property
    def out_features(self) -> int:
        """As nn.Linear calls it."""
        return self.numbers.shape[0]

    def forward(self, input: Tensor) -> Tensor:
        if input.shape[-1:] != (self.columns,):
            raise ValueError(f"input must have shape (...,{self.columns}); got {tuple(input.shape)}")
        return multiply_stored(input, self.numbers, self.scales, self.bias)


class StoredEmbedding(StoredMatrix):
    """Takes the place of an nn.Embedding: looks up rows, and makes floats of these alone: (...) -> (...,columns)."""

    def forward(self, ids: Tensor) -> Tensor:
        return whole(self.numbers[ids], self.scales[ids], self.columns)
