"""A tile of a matrix with a block of tokens: what a compiler does not keep in registers by itself.

A tile is 4 rows of 16 columns, which are the lanes of two vectors. It is loaded once for all tokens of a block, so that
it passes between memory and registers once for each block, and not once for each token.

    read_tile     values (tokens,columns) += factors (tokens,rows) @ tile (rows,columns)
    write_tile    tile (rows,columns) = left * tile + factors (tokens,rows)^T @ values (tokens,columns)
"""

from __future__ import annotations

from itertools import product
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from mamba2_lab.fast.lanes import FLOAT, FLOATS, INTEGER, LANES, add_product, everywhere, in_all_lanes

VECTORS, ROWS = 2, 4
COLUMNS = VECTORS * LANES
CELLS = list(product(range(ROWS), range(VECTORS)))

# Addresses of the first number of tile, factors and values; from one of their rows to the next; and how many tokens.
_ARGUMENTS = [types.int64] * 7


@intrinsic
def read_tile(
    typingctx: Any, tile: Any, factors: Any, values: Any, of_tile: Any, of_factors: Any, of_values: Any, tokens: Any
) -> Any:
    """Add to the values of each token what it reads of the tile. Addresses, and steps in float32 between rows."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        tile, factors, values, of_tile, of_factors, of_values, tokens = args
        cells = [_load(builder, FLOATS, tile, INTEGER(n), of_tile, v) for n, v in CELLS]
        with cgutils.for_range(builder, tokens, intp=INTEGER) as token:
            read = [_load(builder, FLOATS, values, token.index, of_values, v) for v in range(VECTORS)]
            for cell, (n, v) in zip(cells, CELLS, strict=True):
                factor = in_all_lanes(builder, _load(builder, FLOAT, factors, token.index, of_factors, n))
                read[v] = add_product(builder, read[v], factor, cell)
            for v in range(VECTORS):
                _store(builder, read[v], values, token.index, of_values, v)
        return context.get_dummy_value()

    return types.void(*_ARGUMENTS), generate


@intrinsic
def write_tile(
    typingctx: Any,
    tile: Any,
    factors: Any,
    values: Any,
    of_tile: Any,
    of_factors: Any,
    of_values: Any,
    tokens: Any,
    left: Any,
) -> Any:
    """Make of a tile `left` times what it was, and what all tokens write."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        tile, factors, values, of_tile, of_factors, of_values, tokens, left = args
        sums = [cgutils.alloca_once(builder, FLOATS) for _ in CELLS]
        for place in sums:
            builder.store(everywhere(FLOATS, 0.0), place)
        with cgutils.for_range(builder, tokens, intp=INTEGER) as token:
            written = [_load(builder, FLOATS, values, token.index, of_values, v) for v in range(VECTORS)]
            for place, (n, v) in zip(sums, CELLS, strict=True):
                factor = in_all_lanes(builder, _load(builder, FLOAT, factors, token.index, of_factors, n))
                builder.store(add_product(builder, builder.load(place), factor, written[v]), place)
        left = in_all_lanes(builder, left)
        for place, (n, v) in zip(sums, CELLS, strict=True):
            before = _load(builder, FLOATS, tile, INTEGER(n), of_tile, v)
            _store(builder, add_product(builder, builder.load(place), before, left), tile, INTEGER(n), of_tile, v)
        return context.get_dummy_value()

    return types.void(*_ARGUMENTS, types.float32), generate


def _place(builder: ir.IRBuilder, kind: Any, address: Any, row: Any, step: Any, k: int) -> Any:
    """The place of number k of a row, or of its vector k."""
    index = builder.add(builder.mul(row, step), INTEGER(k * LANES if kind is FLOATS else k))
    number = builder.gep(builder.inttoptr(address, FLOAT.as_pointer()), [index])
    return builder.bitcast(number, kind.as_pointer())


def _load(builder: ir.IRBuilder, kind: Any, *at: Any) -> Any:
    loaded = builder.load(_place(builder, kind, *at))
    loaded.align = 4  # of a float, and not of a vector
    return loaded


def _store(builder: ir.IRBuilder, vector: Any, *at: Any) -> None:
    builder.store(vector, _place(builder, FLOATS, *at)).align = 4
