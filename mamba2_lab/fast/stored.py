"""Stored matrices times rows, by torch's own kernels for 8 and 4 bits.

For a few rows the time is that of reading the matrix, and these read a quarter and an eighth of the bytes. They pay
with rows in bfloat16 alone: whatever the model computes in, rows are rounded to bfloat16 on their way in, and products
on their way out. For many rows arithmetic takes longer than reading. There a part of the matrix at a time is made
floats, and multiplied as any other.

A few rows are multiplied by loops of our own instead, which round nothing: see `fast/rows.py`, which is asked first.

On other devices than a CPU the definition serves. torch 2.13 has such kernels for cuda and mps too, those for 4 bits
with other layouts; they have not been measured against it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from mamba2_lab.fast.rows import among_operations, nobody_asks, readable
from mamba2_lab.fast.sequence import LEAST
from mamba2_lab.layers.linear import linear
from mamba2_lab.layers.stored import GROUP, multiply_stored, unpacked, whole
from mamba2_lab.machine import transforms

FEW_ROWS = 64  # for which reading the numbers anew for each takes less time than making floats of the matrix once
AT_ONCE = 2**22  # numbers that are made floats at a time
STEP = 32  # bytes of a row that the kernels may read at once
COLUMNS = 16  # of its result that the kernel for 4 bits computes together


def for_reading(input: Tensor, numbers: Tensor, scales: Tensor, bias: Tensor | None) -> bool:
    """Whether it is a product on a CPU of which no derivative is asked for."""
    asked = torch.is_grad_enabled() and (input.requires_grad or (bias is not None and bias.requires_grad))
    return (
        input.device.type == numbers.device.type == "cpu"
        and input.dtype in (torch.float32, torch.bfloat16, torch.float16)
        and input.numel() > 0
        and not asked
        and not transforms.at_work(input, bias)
    )


def few_rows(input: Tensor, numbers: Tensor, scales: Tensor, bias: Tensor | None) -> bool:
    """Whether it is such a product of a few rows, in steps that the kernels read whole: they look at no remainder."""
    few, in_steps = input.numel() <= FEW_ROWS * input.shape[-1], numbers.shape[1] % STEP == 0
    return few and in_steps and for_reading(input, numbers, scales, bias)


@multiply_stored.way("8 or 4 bits", serves=few_rows, within=1e-2)
def _(input: Tensor, numbers: Tensor, scales: Tensor, bias: Tensor | None) -> Tensor:
    # For a compiler an operation of its own: it must not look for what is prepared, nor prepare it in every call.
    multiply = torch.ops.mamba2_lab.product_of_stored if torch.compiler.is_compiling() else _by_torch
    return _with_bias(multiply(input, numbers, scales), bias)


@multiply_stored.way("a part at a time", serves=for_reading, within=1e-5)
def _(input: Tensor, numbers: Tensor, scales: Tensor, bias: Tensor | None) -> Tensor:
    rows, columns = numbers.shape[0], input.shape[-1]
    height = max(1, AT_ONCE // columns)
    parts = [slice(start, start + height) for start in range(0, rows, height)]
    products = [linear(input, _floats(numbers[part], scales[part], columns).to(input.dtype), None) for part in parts]
    return _with_bias(products[0] if len(products) == 1 else torch.cat(products, dim=-1), bias)


def _floats(numbers: Tensor, scales: Tensor, columns: int) -> Tensor:
    """`whole`, by loops in one pass where there is much of it and they can read it."""
    by_loops = numbers.numel() >= LEAST and scales.dtype == torch.float32 and readable(numbers, scales)
    if not (by_loops and nobody_asks(numbers, scales)):
        return whole(numbers, scales, columns)
    from mamba2_lab.fast import floats  # which imports numba, when a stored matrix meets many rows first

    out = torch.empty(len(numbers), columns)
    loop = floats.of_int8 if numbers.dtype == torch.int8 else floats.of_int4
    given = (each.numpy() for each in (numbers, scales, out))
    among_operations(out.numel(), loop, *given)
    return out


def _with_bias(product: Tensor, bias: Tensor | None) -> Tensor:
    return product if bias is None else product + bias.to(product.dtype)


def _by_torch(input: Tensor, numbers: Tensor, scales: Tensor) -> Tensor:
    matrix = _prepared(numbers, scales)
    rows = input.reshape(-1, input.shape[-1]).to(torch.bfloat16)
    if numbers.dtype == torch.int8:
        product = torch.ops.aten._weight_int8pack_mm(rows, matrix.numbers, matrix.scales)
    else:
        rows = F.pad(rows, (0, 2 * numbers.shape[1] - rows.shape[1]))
        product = torch.ops.aten._weight_int4pack_mm_for_cpu(rows, matrix.numbers, GROUP, matrix.scales)
        product = product[:, : numbers.shape[0]]
    return product.to(input.dtype).view(*input.shape[:-1], numbers.shape[0])


_library = torch.library.Library("mamba2_lab", "FRAGMENT")
_library.define("product_of_stored(Tensor input, Tensor numbers, Tensor scales) -> Tensor")
_library.impl("product_of_stored", _by_torch, "CPU")


@torch.library.register_fake("mamba2_lab::product_of_stored", lib=_library)
def _empty_product(input: Tensor, numbers: Tensor, scales: Tensor) -> Tensor:
    return input.new_empty(*input.shape[:-1], numbers.shape[0])


class _Matrix(NamedTuple):
    """A stored matrix as torch's kernel wants it."""

    of: tuple[int, ...]  # what tells whether it is still that of its numbers and scales
    numbers: Tensor
    scales: Tensor


_matrices = WeakIdKeyDictionary()  # by the numbers that they were made of, for as long as these live


def _prepared(numbers: Tensor, scales: Tensor) -> _Matrix:
    """Made at the first product, and again when something else was written into the numbers or the scales."""
    of = (*_identity(numbers), *_identity(scales))
    kept: _Matrix | None = _matrices.get(numbers)
    if kept is None or kept.of != of:
        make = _as_it_is if numbers.dtype == torch.int8 else _in_tiles
        with torch.inference_mode(False), torch.no_grad():
            kept = _matrices[numbers] = make(of, numbers.detach(), scales.detach().to(torch.bfloat16))
    return kept


def _identity(tensor: Tensor) -> tuple[int, int]:
    return tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version


def _as_it_is(of: tuple[int, ...], numbers: Tensor, scales: Tensor) -> _Matrix:
    return _Matrix(of, numbers, scales)


def _in_tiles(of: tuple[int, ...], numbers: Tensor, scales: Tensor) -> _Matrix:
    """As the processor at hand reads them best, which torch knows; rows of zeros fill up the last tile."""
    missing = -numbers.shape[0] % COLUMNS
    numbers, scales = F.pad(numbers, (0, 0, 0, missing)), F.pad(scales, (0, 0, 0, 0, 0, missing))
    tiles = torch.ops.aten._convert_weight_to_int4pack_for_cpu(unpacked(numbers).to(torch.int32), 1)
    return _Matrix(of, tiles, scales.transpose(0, 1).contiguous())
