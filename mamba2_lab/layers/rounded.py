"""How a matrix becomes whole numbers of 8 or 4 bits: each row, or each group of a row, by the scale that suits it best.

Scales are numbers that bfloat16 can hold, so that they are the same wherever they are kept.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mamba2_lab.layers.stored import GROUP, LARGEST, MIDDLE, Stored, packed

SHARES = (1.0, 0.93, 0.86, 0.79)  # of a group's range, that its 16 numbers may span
ROUNDS = 3  # of fitting scale and zero to the numbers, and the numbers to these
AT_ONCE = 2**17  # weights, that a processor keeps at hand meanwhile


def in_8_bits(weight: Tensor) -> Stored:
    """Each row from -127 to 127, symmetric, to the nearest; what is largest in a row is kept as 127."""
    weight = weight.to(torch.float32)
    scales = _in_bfloat16(weight.abs().amax(dim=-1) / LARGEST)
    numbers = (weight / _or_one(scales).unsqueeze(-1)).round().clamp(-LARGEST, LARGEST)
    return Stored(numbers.to(torch.int8), scales)


def in_4_bits(weight: Tensor) -> Stored:
    """Each group of 64 from 0 to 15, with a scale and a zero of its own: of several, those of the least squared error.

    The range of the numbers begins as that of the group, or some share of it about the middle. From there rounding, and
    the best line through what was rounded, take turns: least squares, without any data.
    """
    parts = [_rows_in_4_bits(rows) for rows in weight.split(max(1, AT_ONCE // weight.shape[-1]))]
    return Stored(*map(torch.cat, zip(*parts, strict=True)))


def _rows_in_4_bits(weight: Tensor) -> Stored:
    # The last group of a row is filled up with its last weight: its ends stay, and what is not there does not count.
    columns = weight.shape[-1]
    missing = -columns % GROUP
    weight = F.pad(weight.to(torch.float32).unsqueeze(0), (0, missing), mode="replicate").squeeze(0)
    groups = weight.unflatten(-1, (-1, GROUP))
    there = F.pad(torch.ones(columns, device=weight.device), (0, missing)).unflatten(-1, (-1, GROUP))  # (g,64)

    def total(x: Tensor) -> Tensor:
        return (there * x).sum(dim=-1, keepdim=True)

    low, high = groups.aminmax(dim=-1, keepdim=True)
    count = there.sum(dim=-1, keepdim=True)
    mean = total(groups) / count
    best: list[Tensor] = []
    least = torch.full_like(low, torch.inf)
    for share in SHARES:
        scale, zero = share * (high - low) / 15, (high + low) / 2 + share * (high - low) / 30
        for _ in range(ROUNDS):
            scale, zero = _in_bfloat16(scale), _in_bfloat16(zero)
            numbers = ((groups - zero) / _or_one(scale)).round().clamp(-MIDDLE, 15 - MIDDLE)
            error = total((numbers * scale).add(zero).sub(groups).square())
            tried = [numbers, scale, zero]
            if best:
                tried = [torch.where(error < least, *pair) for pair in zip(tried, best, strict=True)]
            best = tried
            least = torch.minimum(error, least)
            mean_number = total(numbers) / count
            apart = numbers - mean_number
            scale = total(apart * groups) / _or_one(total(apart.square()))
            zero = mean - scale * mean_number
    numbers, scale, zero = best
    return Stored(packed(numbers + MIDDLE), torch.cat([scale, zero], dim=-1))


def _in_bfloat16(scales: Tensor) -> Tensor:
    return scales.to(torch.bfloat16).to(torch.float32)


def _or_one(scales: Tensor) -> Tensor:
    """To divide by: a scale of 0 belongs to what is the same everywhere."""
    return torch.where(scales == 0, 1.0, scales)
