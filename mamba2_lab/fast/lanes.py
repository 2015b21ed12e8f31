"""A product of numbers in 4 bits, eight at a time: what a compiler does not find in a loop by itself.

A group of 64 numbers is eight words of 32 bits, one in each lane of a vector, and each word holds eight numbers. To
take them out one by one costs more than to multiply them. So a number stays in its place: what a mask leaves of a word
is that number times 16^k, and its factor comes times 16^-k (`OPPOSITE`). Both are exact. The lanes are added up at the
end of a row, not of each group.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from mamba2_lab.fast.sharing import ANY_ORDER
from mamba2_lab.layers.stored import MIDDLE

LANES = PLACES = 8  # words in a group, and numbers in a word
LAST = PLACES - 1  # is moved, where it would be the sign of its word
OPPOSITE = np.array([16.0**-k for k in range(LAST)] + [1.0], np.float32)

FLOAT, INTEGER = ir.FloatType(), ir.IntType(64)
FLOATS, WORDS = ir.VectorType(FLOAT, LANES), ir.VectorType(ir.IntType(32), LANES)


@intrinsic
def multiply_row_int4(typingctx: Any, words: Any, scales: Any, x: Any, sums: Any, groups: Any) -> Any:
    """One row of a matrix times x: the sum over its groups of scale (numbers - 8) . x + zero sum(x).

    Args:
        words: address of (groups,8) words.
        scales: address of (groups,2) float32, scale and zero of each group.
        x: address of (groups,8,8) float32: the factor of place k in word w stands at [k,w], times OPPOSITE[k].
        sums: address of (groups,8) float32: the factors of each word, added up.
        groups: how many there are.
    """

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        words, scales, x, sums, groups = args
        total = cgutils.alloca_once(builder, FLOATS)
        builder.store(everywhere(FLOATS, 0.0), total)
        with cgutils.for_range(builder, groups, intp=INTEGER) as loop:
            word, x_sums = (_load(builder, kind, at, loop.index) for kind, at in ((WORDS, words), (FLOATS, sums)))
            part = builder.fmul(x_sums, everywhere(FLOATS, -float(MIDDLE)), flags=ANY_ORDER)
            for k in range(PLACES):
                factor = _load(builder, FLOATS, x, loop.index, PLACES, k)
                part = add_product(builder, part, _number(builder, word, k), factor)
            scale, zero = (in_all_lanes(builder, _load(builder, FLOAT, scales, loop.index, 2, k)) for k in (0, 1))
            so_far = add_product(builder, builder.load(total), scale, part)
            builder.store(add_product(builder, so_far, zero, x_sums), total)
        return _sum(builder, builder.load(total))

    return types.float32(*[types.int64] * 5), generate


def everywhere(kind: ir.VectorType, value: float) -> ir.Constant:
    return ir.Constant(kind, [value] * LANES)


def _load(builder: ir.IRBuilder, kind: Any, address: Any, group: Any, count: int = 1, k: int = 0) -> Any:
    """Number or vector k of the `count` that a group has, from the address of the first group on."""
    index = builder.add(builder.mul(group, INTEGER(count)), INTEGER(k))
    loaded = builder.load(builder.gep(builder.inttoptr(address, kind.as_pointer()), [index]))
    loaded.align = 4  # of a float or a word, and not of a vector
    return loaded


def _number(builder: ir.IRBuilder, word: Any, k: int) -> Any:
    """The numbers in place k, as floats, times 16^k; those in the last one as they are."""
    if k == LAST:
        return builder.sitofp(builder.lshr(word, everywhere(WORDS, 4 * LAST)), FLOATS)
    return builder.sitofp(builder.and_(word, everywhere(WORDS, 15 << 4 * k)), FLOATS)


def add_product(builder: ir.IRBuilder, total: Any, left: Any, right: Any) -> Any:
    return builder.fadd(total, builder.fmul(left, right, flags=ANY_ORDER), flags=ANY_ORDER)


def in_all_lanes(builder: ir.IRBuilder, number: Any) -> Any:
    first = builder.insert_element(ir.Constant(FLOATS, ir.Undefined), number, INTEGER(0))
    return builder.shuffle_vector(first, ir.Constant(FLOATS, ir.Undefined), everywhere(WORDS, 0))


def _sum(builder: ir.IRBuilder, vector: Any) -> Any:
    for half in (4, 2, 1):
        places = ir.Constant(WORDS, [(lane + half) % LANES for lane in range(LANES)])
        turned = builder.shuffle_vector(vector, ir.Constant(FLOATS, ir.Undefined), places)
        vector = builder.fadd(vector, turned, flags=ANY_ORDER)
    return builder.extract_element(vector, INTEGER(0))
