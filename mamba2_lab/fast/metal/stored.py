"""A matrix stored in 8 or 4 bits times a few rows on mps, in one kernel that reads its bytes once.

The definition makes floats of the whole matrix first. torch has kernels for such products on mps, too: in 8 bits for
rows that follow one another and without a bias, in 4 bits for another layout. This one takes all as it lies.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mamba2_lab.fast.metal import shaders
from mamba2_lab.fast.metal.proof import by_metal
from mamba2_lab.fast.metal.rows import drawn_like, inside_a_larger_one
from mamba2_lab.layers.stored import multiply_stored
from mamba2_lab.machine.seeds import seeded
from mamba2_lab.machine.strides import in_rows

FEW_ROWS = 8  # for which a lane adds up side by side


def _multiplies(input: Tensor, numbers: Tensor, scales: Tensor, bias: Tensor | None) -> bool:
    return (
        input.dtype in shaders.NUMBERS
        and scales.dtype in shaders.NUMBERS
        and 0 < input.numel() <= FEW_ROWS * input.shape[-1]
        and numbers.numel() > 0
        and (bias is None or bias.dtype == input.dtype)
    )


def _sizes(input: Tensor, numbers: Tensor, scales: Tensor, bias: Tensor | None) -> dict[str, str | int]:
    in_8_bits = numbers.dtype == torch.int8
    return {
        "NUMBER": shaders.NUMBERS[input.dtype],
        "SCALE": shaders.NUMBERS[scales.dtype],
        "STORED": "char" if in_8_bits else "uchar",
        "BITS": 8 if in_8_bits else 4,
        "ROWS": input.numel() // input.shape[-1],
        "BIAS": int(bias is not None),
    }


def _rows_to_multiply(
    input: Tensor, numbers: Tensor, scales: Tensor, bias: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    with seeded(0):
        of_its_kind = torch.iinfo(numbers.dtype)
        drawn = torch.randint(of_its_kind.min, of_its_kind.max + 1, numbers.shape).to(numbers.dtype)
        return inside_a_larger_one(input), drawn, drawn_like(scales), None if bias is None else drawn_like(bias)


@by_metal(
    multiply_stored,
    serves=_multiplies,
    key=lambda *args: tuple(_sizes(*args).values()),
    drawn=_rows_to_multiply,
    within=1e-5,
)
def _(input: Tensor, numbers: Tensor, scales: Tensor, bias: Tensor | None) -> Tensor:
    height, bytes = numbers.shape
    y = input.new_empty(*input.shape[:-1], height)
    rows, stride = in_rows(input)
    run = shaders.kernel("stored", "multiply", **_sizes(input, numbers, scales, bias))
    run(
        *(rows, numbers.contiguous(), scales.contiguous(), rows if bias is None else bias.contiguous(), y),
        *(height, input.shape[-1], bytes, stride),
        **shaders.simdgroups(height),
    )
    return y
