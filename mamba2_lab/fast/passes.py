"""The convolution, and gate and norm, in one pass over memory: loops that numba compiles for a CPU.

torch computes them operation by operation. Each writes a tensor as large as a layer is wide and its text long, which
the next one reads again from memory; for a training step that takes a third as long as the products of all matrices.
Here a token's channels stay in the nearest cache until they are done.

Tokens are cut into chunks, which threads share as `loops` says. Sums over tokens are made for each chunk by itself and
added in order, so that they are the same bits with any number of threads.
"""

from __future__ import annotations

import math

import numpy as np
from numba import carray

from mamba2_lab.fast.elementary import exp
from mamba2_lab.fast.sharing import in_any_order, pointer, take, wait

TOKENS = 32  # in a chunk

f32, i32 = np.float32, np.int32


@in_any_order
def _floats(address, first, count):
    """So many floats from the `first` on."""
    return carray(pointer(address + 4 * first), count, f32)


@in_any_order
def _add_product(a, b, out):
    for c in range(len(out)):
        out[c] += a[c] * b[c]


@in_any_order
def _add(a, out):
    for c in range(len(out)):
        out[c] += a[c]


# A sequence (b,l,channels) is given as its address, and how many numbers lie from row to row and from token to token.


@in_any_order
def _input(x, window, width, channels, row, e):
    """Input `e` of a row, counted from the first one in the window (b,width-1,channels)."""
    if e < width - 1:
        return _floats(window, (row * (width - 1) + e) * channels, channels)
    return _floats(x[0], row * x[1] + (e - width + 1) * x[2], channels)


@in_any_order
def _same(documents, inputs, row, e, other):
    """Whether two of so many inputs of a row belong to one document, where there are documents (b,inputs) in int32."""
    if documents == 0:
        return True
    numbers = carray(pointer(documents + 4 * row * inputs), inputs, i32)
    return numbers[e] == numbers[other]


@in_any_order
def convolve(sizes, x, window, taps, bias, documents, y, counters):
    """y_t = bias + sum over i of taps_i * input_{t-width+1+i}, of the token's own document.

    Args:
        sizes: (b, l, width, channels). x: (b,l,channels) in any order of tokens; y: where it goes, in order.
        window (b,width-1,channels), taps (width,channels), bias (channels,), documents (b,width-1+l): addresses.
        counters: (2,) zeros.
    """
    b, l, width, channels = sizes
    per_row = -(-l // TOKENS)
    while True:
        chunk = take(counters, 0)
        if chunk >= b * per_row:
            break
        row, first = chunk // per_row, chunk % per_row * TOKENS
        start = _floats(bias, 0, channels)
        for t in range(first, min(l, first + TOKENS)):
            out = _floats(y, (row * l + t) * channels, channels)
            out[:] = start
            for i in range(width):
                if _same(documents, l + width - 1, row, t + i, t + width - 1):
                    given = _input(x, window, width, channels, row, t + i)
                    _add_product(_floats(taps, i * channels, channels), given, out)
        take(counters, 1)
    wait(counters, 1, b * per_row)


@in_any_order
def convolve_backward(sizes, x, window, taps, documents, grad, grad_x, grad_window, grad_taps, counters):
    """From the gradient (b,l,channels) of what `convolve` makes to those of all that it takes.

    Args:
        grad: in any order of tokens. grad_x (b,l,channels), grad_window (b,width-1,channels): where they go.
        grad_taps: (b * chunks of a row, width+1, channels) zeros, for the sums of each chunk; the last is the bias's.
    """
    b, l, width, channels = sizes
    per_row = -(-l // TOKENS)
    while True:
        chunk = take(counters, 0)
        if chunk >= b * per_row:
            break
        row, first = chunk // per_row, chunk % per_row * TOKENS
        last = min(l, first + TOKENS)
        sums = chunk * (width + 1)
        for t in range(first, last):
            given = _floats(grad[0], row * grad[1] + t * grad[2], channels)
            for i in range(width):
                if _same(documents, l + width - 1, row, t + i, t + width - 1):
                    of_tap = _floats(grad_taps, (sums + i) * channels, channels)
                    _add_product(given, _input(x, window, width, channels, row, t + i), of_tap)
            _add(given, _floats(grad_taps, (sums + width) * channels, channels))
        # Inputs of this chunk, and before the first of a row those of its window.
        for e in range(0 if first == 0 else first + width - 1, last + width - 1):
            if e < width - 1:
                out = _floats(grad_window, (row * (width - 1) + e) * channels, channels)
            else:
                out = _floats(grad_x, (row * l + e - width + 1) * channels, channels)
            out[:] = f32(0)
            for i in range(max(0, e - l + 1), min(width, e + 1)):
                if _same(documents, l + width - 1, row, e, e - i + width - 1):
                    of_output = _floats(grad[0], row * grad[1] + (e - i) * grad[2], channels)
                    _add_product(_floats(taps, i * channels, channels), of_output, out)
        take(counters, 1)
    wait(counters, 1, b * per_row)


@in_any_order
def _mean_square(v):
    total = f32(0)
    for c in range(len(v)):
        total += v[c] * v[c]
    return total / f32(len(v))


@in_any_order
def _gate(y, z, share, out):
    """y * silu(z), and how far each gate is open, which is sigmoid(z)."""
    for c in range(len(out)):
        share[c] = f32(1) / (f32(1) + exp(-z[c]))
        out[c] = y[c] * z[c] * share[c]


@in_any_order
def gate_and_normalise(sizes, y, z, weight, eps, out, counters):
    """norm(y * silu(z)) * weight, each group of channels by its own rms.

    Args:
        sizes: (b, l, groups, channels of a group). y and z: (b,l,groups * channels) in any order of tokens.
    """
    b, l, groups, width = sizes
    chunks, channels = -(-b * l // TOKENS), groups * width
    share = np.empty(width, f32)
    while True:
        chunk = take(counters, 0)
        if chunk >= chunks:
            break
        for token in range(chunk * TOKENS, min(b * l, (chunk + 1) * TOKENS)):
            row, t = token // l, token % l
            for first in range(0, channels, width):
                here = _floats(out, token * channels + first, width)
                y_here = _floats(y[0], row * y[1] + t * y[2] + first, width)
                _gate(y_here, _floats(z[0], row * z[1] + t * z[2] + first, width), share, here)
                _scale(here, f32(1) / f32(math.sqrt(_mean_square(here) + eps)), _floats(weight, first, width))
        take(counters, 1)
    wait(counters, 1, chunks)


@in_any_order
def _scale(v, scale, weight):
    for c in range(len(v)):
        v[c] *= scale * weight[c]


@in_any_order
def gate_and_normalise_backward(sizes, y, z, weight, eps, grad, grad_y, grad_z, grad_weight, counters):
    """From the gradient of what `gate_and_normalise` makes to those of all that it takes.

    Args:
        grad: (b,l,groups * channels) in any order of tokens. grad_y, grad_z: where they go, in order.
        grad_weight: (chunks, groups * channels) zeros, for the sums of each chunk.
    """
    b, l, groups, width = sizes
    chunks, channels = -(-b * l // TOKENS), groups * width
    gated, share = np.empty(width, f32), np.empty(width, f32)
    while True:
        chunk = take(counters, 0)
        if chunk >= chunks:
            break
        for token in range(chunk * TOKENS, min(b * l, (chunk + 1) * TOKENS)):
            row, t = token // l, token % l
            for first in range(0, channels, width):
                y_here = _floats(y[0], row * y[1] + t * y[2] + first, width)
                z_here = _floats(z[0], row * z[1] + t * z[2] + first, width)
                given = _floats(grad[0], row * grad[1] + t * grad[2] + first, width)
                of_weight = _floats(grad_weight, chunk * channels + first, width)
                to_y = _floats(grad_y, token * channels + first, width)
                to_z = _floats(grad_z, token * channels + first, width)
                _gate(y_here, z_here, share, gated)
                scale = f32(1) / f32(math.sqrt(_mean_square(gated) + eps))
                _through_norm(gated, scale, _floats(weight, first, width), given, of_weight)
                _through_gate(y_here, z_here, share, gated, to_y, to_z)
        take(counters, 1)
    wait(counters, 1, chunks)


@in_any_order
def _through_norm(gated, scale, weight, grad, grad_weight):
    """The gradient of what was normalised, in its place.

    n = v / rms(v): a change of v along n itself only changes the length, which is normalised away.
    """
    along = f32(0)
    for c in range(len(gated)):
        normalised = gated[c] * scale
        grad_weight[c] += grad[c] * normalised
        along += grad[c] * weight[c] * normalised
    along /= f32(len(gated))
    for c in range(len(gated)):
        gated[c] = (grad[c] * weight[c] - gated[c] * scale * along) * scale


@in_any_order
def _through_gate(y, z, share, grad, to_y, to_z):
    for c in range(len(grad)):
        to_y[c] = grad[c] * z[c] * share[c]
    for c in range(len(grad)):  # in a loop of its own: a compiler takes many at a time where few arrays might overlap
        to_z[c] = grad[c] * y[c] * share[c] * (f32(1) + z[c] * (f32(1) - share[c]))
