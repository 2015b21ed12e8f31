"""Stored matrices as floats, in one pass: loops that numba compiles. Many rows are multiplied with what they leave."""

from __future__ import annotations

import numpy as np

from mamba2_lab.fast.sharing import in_any_order, take, wait
from mamba2_lab.layers.stored import GROUP, MIDDLE

HALF = GROUP // 2  # a byte holds the number of one column, and that of the column so far on
ROWS = 16  # that a thread takes at a time

f32 = np.float32


@in_any_order
def of_int8(numbers, scales, out, counters):
    """`mamba2_lab.layers.stored.whole` of numbers in 8 bits.

    Args:
        numbers: (r,f) int8. scales: (r,).
        out: (r,f) room for the weights.
        counters: (2,) pieces that are taken, and pieces that are done.
    """
    pieces = -(-len(out) // ROWS)
    while True:
        piece = take(counters, 0)
        if piece >= pieces:
            break
        for i in range(piece * ROWS, min(len(out), (piece + 1) * ROWS)):
            scale = scales[i]
            for j in range(out.shape[1]):
                out[i, j] = f32(numbers[i, j]) * scale
        take(counters, 1)
    wait(counters, 1, pieces)


@in_any_order
def of_int4(numbers, scales, out, counters):
    """The same of numbers in 4 bits: (r,32g) uint8, and scales (r,g,2)."""
    pieces, columns, group = -(-len(out) // ROWS), out.shape[1], np.empty(GROUP, f32)
    while True:
        piece = take(counters, 0)
        if piece >= pieces:
            break
        for i in range(piece * ROWS, min(len(out), (piece + 1) * ROWS)):
            for g in range(scales.shape[1]):
                _group(numbers[i, g * HALF : (g + 1) * HALF], scales[i, g, 0], scales[i, g, 1], group)
                first = g * GROUP
                out[i, first : first + GROUP] = group[: min(GROUP, columns - first)]  # the last may be filled up
        take(counters, 1)
    wait(counters, 1, pieces)


@in_any_order
def _group(bytes, scale, zero, out):
    for j in range(HALF):
        out[j] = f32(np.int32(bytes[j] & 15) - MIDDLE) * scale + zero
        out[j + HALF] = f32(np.int32(bytes[j] >> 4) - MIDDLE) * scale + zero
