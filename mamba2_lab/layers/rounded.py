"""How a matrix becomes whole numbers of 8 or 4 bits: each row, or each group of a row, by the scale that suits it best.

Scales are numbers that bfloat16 can hold, so that they are the same wherever they are kept.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mamba2_lab.layers.stored import GROUP, LARGEST, MIDDLE, Stored, packed

SHARES = torch.linspace(1.05, 0.7, 15).tolist()  # of a group's range, that its 16 numbers may span
ROUNDS = 3  # of fitting scale and zero to the numbers, and the numbers to these


def in_8_bits(weight: Tensor) -> Stored:
    """Each row from -127 to 127, symmetric, to the nearest; what is largest in a row is kept as 127."""
    weight = weight.to(torch.float32)
    scales = _in_bfloat16(weight.abs().amax(dim=-1) / LARGEST)
    numbers = (weight / _or_one(scales).unsqueeze(-1)).round().clamp(-LARGEST, LARGEST)
    return Stored(numbers.to(torch.int8), scales)


def in_4_bits(weight: Tensor) -> Stored:
    """Each group of 64 from 0 to 15, with a scale and a zero of its own: of several, those of the least squared error.

    The range of the numbers begins as that of the group, or some share of it about the middle, and rounding, and the
    best line through what was rounded, take turns from there (least squares, without any data).
    """
    columns = weight.shape[-1]
    groups = F.pad(weight.to(torch.float32), (0, -columns % GROUP)).unflatten(-1, (-1, GROUP))
    counted = F.pad(torch.ones_like(weight, dtype=torch.float32), (0, -columns % GROUP)).unflatten(-1, (-1, GROUP))
    low, high = (edge(groups, dim=-1, keepdim=True) for edge in (torch.amin, torch.amax))
    best, least = None, None
    for share in SHARES:
        scale, zero = share * (high - low) / 15, (high + low) / 2 + share * (high - low) / 30
        for _ in range(ROUNDS):
            scale, zero = _in_bfloat16(scale), _in_bfloat16(zero)
            numbers = ((groups - zero) / _or_one(scale) + MIDDLE).round().clamp(0, 15)
            error = (counted * ((numbers - MIDDLE) * scale + zero - groups).square()).sum(dim=-1, keepdim=True)
            if best is None or least is None:
                best, least = (numbers, scale, zero), error
            else:
                better = error < least
                best = tuple(map(torch.where, (better,) * 3, (numbers, scale, zero), best))
                least = torch.minimum(least, error)
            scale, zero = _line(numbers - MIDDLE, groups, counted)
    numbers, scale, zero = best
    return Stored(packed(numbers), torch.cat([scale, zero], dim=-1))


def _line(numbers: Tensor, weights: Tensor, counted: Tensor) -> tuple[Tensor, Tensor]:
    """The scale and the zero that make the best of these numbers."""
    count = counted.sum(dim=-1, keepdim=True)
    mean_number, mean_weight = ((counted * x).sum(dim=-1, keepdim=True) / count for x in (numbers, weights))
    apart = counted * (numbers - mean_number)
    scale = (apart * weights).sum(dim=-1, keepdim=True) / _or_one(apart.square().sum(dim=-1, keepdim=True))
    return scale, mean_weight - scale * mean_number


def _in_bfloat16(scales: Tensor) -> Tensor:
    return scales.to(torch.bfloat16).to(torch.float32)


def _or_one(scales: Tensor) -> Tensor:
    """To divide by: a scale of 0 belongs to zeros alone."""
    return torch.where(scales == 0, 1.0, scales)
