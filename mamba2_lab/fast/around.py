"""What lies around the scan of a sequence on a CPU, as loops that numba compiles: the convolution, the gate, the norm.

Each reads a token's numbers where they lie, among all that a matrix has made of it, and is done with the token before
the next one. torch goes through the whole sequence once for each multiplication and each sum.
"""

from __future__ import annotations

import math

import numpy as np
from numba import carray

from mamba2_lab.fast.elementary import silu
from mamba2_lab.fast.sharing import in_any_order, pointer, take, wait

TOKENS = 16  # that a thread takes at a time

f32 = np.float32


@in_any_order
def convolve(x, step, window, taps, bias, activated, y, counters):
    """`mamba2_lab.layers.convolution.convolve` of sequences that are one document each.

    Args:
        x, step: address of (b,l,channels) float32, and how many lie from one token to the next.
        window, taps, bias: as there. activated: whether silu comes behind.
        y: (b,l,channels) room for what comes out.
        counters: (2,) pieces that are taken, and pieces that are done.
    """
    b, l, channels = y.shape
    width, pieces = len(taps), -(-l // TOKENS)
    while True:
        piece = take(counters, 0)
        if piece >= b * pieces:
            break
        row, first = piece // pieces, piece % pieces * TOKENS
        for t in range(first, min(l, first + TOKENS)):
            y[row, t] = bias
            for i in range(width):
                before = t + i - (width - 1)
                if before < 0:
                    _add_product(taps[i], window[row, width - 1 + before], y[row, t])
                else:
                    at = pointer(x + 4 * step * (row * l + before))
                    _add_product(taps[i], carray(at, channels, f32), y[row, t])
            if activated:
                _activate(y[row, t])
        take(counters, 1)
    wait(counters, 1, b * pieces)


@in_any_order
def _add_product(left, right, total):
    for i in range(len(total)):
        total[i] += left[i] * right[i]


@in_any_order
def _activate(numbers):
    for i in range(len(numbers)):
        numbers[i] = silu(numbers[i])


@in_any_order
def gate_and_normalise(y, z, step, weight, eps, groups, norm_before_gate, out, counters):
    """`mamba2_lab.layers.norm.gate_and_normalise` of rows.

    Args:
        y: (rows,d). z, step: address of (rows,d) float32, and how many lie from one row to the next.
        weight: (d,), of as many groups as is said.
        out: (rows,d) room for what comes out.
        counters: (2,) pieces that are taken, and pieces that are done.
    """
    (rows, d), gate = y.shape, np.empty(y.shape[1], f32)
    width, pieces = d // groups, -(-rows // TOKENS)
    while True:
        piece = take(counters, 0)
        if piece >= pieces:
            break
        for row in range(piece * TOKENS, min(rows, (piece + 1) * TOKENS)):
            _silu(carray(pointer(z + 4 * step * row), d, f32), gate)
            if norm_before_gate:
                out[row] = y[row]
            else:
                _multiply(y[row], gate, out[row])
            for first in range(0, d, width):
                group = slice(first, first + width)
                _normalise(out[row, group], weight[group], f32(eps))
            if norm_before_gate:
                _multiply(out[row], gate, out[row])
        take(counters, 1)
    wait(counters, 1, pieces)


@in_any_order
def _silu(numbers, out):
    for i in range(len(out)):
        out[i] = silu(numbers[i])


@in_any_order
def _multiply(left, right, out):
    for i in range(len(out)):
        out[i] = left[i] * right[i]


@in_any_order
def _normalise(numbers, weight, eps):
    squares = f32(0)
    for i in range(len(numbers)):
        squares += numbers[i] * numbers[i]
    scale = f32(1) / f32(math.sqrt(squares / f32(len(numbers)) + eps))
    for i in range(len(numbers)):
        numbers[i] *= scale * weight[i]
