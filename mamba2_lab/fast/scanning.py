"""A sequence through the recurrence on a CPU, as loops that numba compiles: a head from its first token to its last.

Blocks of a few tokens, and in each the four steps of SSD (see `mamba2_lab.scan.chunks`): tokens read one another inside
of the block, and the state before it; and what they leave behind at its end is added to what is left of that state. The
shorter the block, the less is multiplied inside of it, and the more often the state passes between memory and
registers. No matrix of decays is ever larger than a block.
"""

from __future__ import annotations

import math

import numpy as np
from numba import carray

from mamba2_lab.fast.elementary import exp
from mamba2_lab.fast.sharing import in_any_order, pointer, take, wait
from mamba2_lab.fast.tiles import COLUMNS, ROWS, read_tile, write_tile

BLOCK = 16  # tokens

f32 = np.float32
NOTHING = f32(-87)  # a log decay that leaves nothing: the end of what `exp` knows
BEFORE = f32(-1e4)  # that of a token which is still to come


@in_any_order
def scan(x, step, dt, log_decay, B, C, scores, D, state, y, counters):
    """A whole sequence, from state to state, and what passes by the state. Who is free takes the next head of a row.

    Args:
        x, step: address of (b,l,h,p) float32, and how many lie from one token to the next.
        dt: (b,l,h) by how much x is scaled before it is written.
        log_decay: (b,l,h). B, C: (b,l,g,n). Whole blocks, and whole tiles.
        scores: (b,g,blocks,BLOCK,BLOCK) C B^T of each block, [target, source], 0 above the diagonal.
        D: (h,) by how much x is scaled that passes by.
        state: (b,h,n,p), what is there before, and then after. Whole tiles.
        y: (b,l,h,p) room for what is read, and what passes by.
        counters: (2,) heads that are taken, and heads that are done.
    """
    b, l, h, p = y.shape
    while True:
        chunk = take(counters, 0)
        if chunk >= b * h:
            break
        row, head = chunk // h, chunk % h
        group = head // (h // B.shape[2])
        at, sizes = x + 4 * (step * l * row + p * head), (dt[row, :, head], log_decay[row, :, head])
        factors = B[row, :, group], C[row, :, group], scores[row, group]
        _scan_head(at, step, *sizes, *factors, D[head], state[row, head], y[row, :, head])
        take(counters, 1)
    wait(counters, 1, b * h)


@in_any_order
def _scan_head(x, step, dt, log_decay, B, C, scores, D, state, y):
    """One head of a row: what `scan` has, without the axes b, h and g."""
    (l, p), columns = y.shape, state.shape[1]
    # Rows of x and y lie so far apart that a cache keeps few of them: a block of each is held close together. What is
    # left there behind the last token is multiplied by a B of 0; behind the last column are zeros.
    written = np.zeros((BLOCK, columns), f32)
    faded, read = np.empty_like(written), np.empty_like(written)
    weights, since_start, to_end = np.empty((BLOCK, BLOCK), f32), np.empty(BLOCK, f32), np.empty(BLOCK, f32)
    for first in range(0, l, BLOCK):
        block, tokens = slice(first, first + BLOCK), min(BLOCK, l - first)
        left = _decays(log_decay[block], scores[first // BLOCK], weights, since_start, to_end)
        for t in range(tokens):
            _scale(_token(x, step, first + t, p), dt[first + t], written[t, :p])
        read[:] = 0
        for t in range(BLOCK):
            _scale(written[t], to_end[t], faded[t])
        _read(state, C[block], read)
        for t in range(BLOCK):
            _scale(read[t], since_start[t], read[t])
        _read(written, weights, read)
        _write(state, B[block], faded, left)
        for t in range(tokens):
            _add_product(read[t, :p], _token(x, step, first + t, p), D, y[first + t])


@in_any_order
def _decays(log_decay, scores, weights, since_start, to_end):
    """Through a block, how much is left: of what was there before it, at each token; of what each wrote, at its end.

    weights: room for what a token reads of another: (BLOCK,BLOCK) scores that have faded. Returns how much is left at
    the end of what was there before.
    """
    total, since = f32(0), np.full(BLOCK, BEFORE, f32)
    for t in range(BLOCK):
        total += log_decay[t]
        since_start[t] = total
        for s in range(BLOCK):
            since[s] += log_decay[t]
        since[t] = 0
        for s in range(BLOCK):
            weights[t, s] = scores[t, s] * _exp(since[s])
    for t in range(BLOCK):
        since_start[t], to_end[t] = _exp(since_start[t]), _exp(since[t])
    return f32(math.exp(total))


@in_any_order
def _read(matrix, factors, values):
    """Add factors (tokens,rows) @ matrix (rows,columns) to values (tokens,columns)."""
    rows, columns = len(matrix), values.shape[1]
    (tile, of_tile), (factor, of_factors), (value, of_values) = _rows(matrix), _rows(factors), _rows(values)
    for i in range(0, columns, COLUMNS):
        for j in range(0, rows, ROWS):
            at = tile + 4 * (j * of_tile + i)
            read_tile(at, factor + 4 * j, value + 4 * i, of_tile, of_factors, of_values, BLOCK)


@in_any_order
def _write(matrix, factors, values, left):
    """Let a matrix (rows,columns) fade, and add factors^T (rows,tokens) @ values (tokens,columns)."""
    rows, columns = len(matrix), values.shape[1]
    (tile, of_tile), (factor, of_factors), (value, of_values) = _rows(matrix), _rows(factors), _rows(values)
    for i in range(0, columns, COLUMNS):
        for j in range(0, rows, ROWS):
            at = tile + 4 * (j * of_tile + i)
            write_tile(at, factor + 4 * j, value + 4 * i, of_tile, of_factors, of_values, BLOCK, left)


@in_any_order
def _rows(matrix):
    """The address of the first row, and how many float32 lie from one to the next."""
    return matrix.ctypes.data, matrix.strides[0] // 4


@in_any_order
def _token(x, step, t, p):
    return carray(pointer(x + 4 * step * t), p, f32)


@in_any_order
def _add_product(numbers, others, factor, out):
    for i in range(len(out)):
        out[i] = numbers[i] + others[i] * factor


@in_any_order
def _scale(numbers, factor, out):
    for i in range(len(out)):
        out[i] = numbers[i] * factor


@in_any_order
def _exp(log_decay):
    return exp(log_decay) if log_decay > NOTHING else f32(0)
