"""One token through layers of Mamba-2 on a CPU, as loops that numba compiles for the processor at hand.

What a token costs is reading the weights once, and a handful of numbers for each layer. torch reads them well, but for
a single row it pays for every operation that is called, for every result that is laid down, and for weights in 16, 8
or 4 bits with instructions that many processors do not have. Here a matrix is read once, row by row, its numbers are
made floats in registers, and everything is multiplied and added in float32.

Several threads may go through one token together. Each phase of a layer is cut into chunks; who is free takes the next
one, and all wait until a phase is done. Nobody is waited for who has not taken a chunk, so a thread that comes late, or
never, costs nothing.

Numba keeps what it compiled beside this file, and looks at this file alone to see whether that is still true.
"""

from __future__ import annotations

import math

import numpy as np
from numba import carray

from mamba2_lab.fast.elementary import silu
from mamba2_lab.fast.lanes import OPPOSITE, multiply_row_int4
from mamba2_lab.fast.sharing import in_any_order, in_order, pointer, take, wait

FLOAT32, BFLOAT16, INT8, INT4 = range(4)  # how the numbers of a matrix are kept
GROUP = 64  # columns that share a scale in 4 bits
CHUNK = 2**16  # numbers of a matrix that a thread takes at a time

f32, u32 = np.float32, np.uint32


# -- Numbers of other kinds ------------------------------------------------------------------------------------------


@in_order
def _softplus(v):
    return v if v > f32(20) else f32(math.log1p(math.exp(v)))


@in_order
def _of_bfloat16(bits):
    return u32(u32(bits) << u32(16)).view(np.float32)


@in_order
def _in_bfloat16(v):
    """The nearest, and of two as near the even one."""
    bits = f32(v).view(np.uint32)
    return np.uint16(u32(bits + u32(0x7FFF) + u32(u32(bits >> u32(16)) & u32(1))) >> u32(16))


@in_any_order
def _number(kind, address, i):
    """Number i of a vector; 0, where there is none."""
    if address == 0:
        return f32(0)
    if kind == FLOAT32:
        return carray(pointer(address), i + 1, f32)[i]
    return _of_bfloat16(carray(pointer(address), i + 1, np.uint16)[i])


@in_any_order
def _numbers(kind, address, first, out):
    """The numbers of a vector from `first` on, as floats; zeros, where there is none."""
    for i in range(len(out)):
        out[i] = _number(kind, address, first + i)


# -- A matrix times rows ---------------------------------------------------------------------------------------------


@in_any_order
def _multiply_float32(weights, first, last, x, y):
    matrix = carray(pointer(weights), (last, x.shape[1]), f32)
    for i in range(first, last):
        for row in range(len(x)):
            total = f32(0)
            for j in range(x.shape[1]):
                total += matrix[i, j] * x[row, j]
            y[row, i] += total


@in_any_order
def _multiply_bfloat16(weights, first, last, x, y):
    matrix = carray(pointer(weights), (last, x.shape[1]), np.uint16)
    for i in range(first, last):
        for row in range(len(x)):
            total = f32(0)
            for j in range(x.shape[1]):
                total += _of_bfloat16(matrix[i, j]) * x[row, j]
            y[row, i] += total


@in_any_order
def _multiply_int8(weights, scales, first, last, x, y):
    matrix = carray(pointer(weights), (last, x.shape[1]), np.int8)
    scale = carray(pointer(scales), last, f32)
    for i in range(first, last):
        for row in range(len(x)):
            total = f32(0)
            for j in range(x.shape[1]):
                total += f32(matrix[i, j]) * x[row, j]
            y[row, i] += total * scale[i]


@in_any_order
def _multiply_int4(weights, scales, first, last, x, sums, y):
    """x as `_in_words` lays it, and its sums."""
    groups = sums.shape[1]
    for row in range(len(x)):
        of_x, of_sums = x[row].ctypes.data, sums[row].ctypes.data
        for i in range(first, last):
            words, of_groups = weights + i * groups * 32, scales + i * groups * 8
            y[row, i] += multiply_row_int4(words, of_groups, of_x, of_sums, groups)


@in_any_order
def _in_words(x, words, sums):
    """Lay x (b,columns) as numbers in 4 bits lie in words of 32 bits, see `multiply_row_int4`; zeros fill it up.

    Byte 4 w + k of a group holds column 4 w + k in its lower half, and that 32 columns on in its upper half.
    """
    b, groups = sums.shape[:2]
    filled_up = np.zeros((b, groups * GROUP), f32)
    filled_up[:, : x.shape[1]] = x
    columns = filled_up.reshape(b, groups, 2, 8, 4)  # half of the byte, word, byte of the word
    for row in range(b):
        for g in range(groups):
            sums[row, g] = 0
            for place in range(8):
                for w in range(8):
                    value = columns[row, g, place % 2, w, place // 2]
                    words[row, g, place, w] = value * OPPOSITE[place]
                    sums[row, g, w] += value


@in_any_order
def _multiply(matrix, first, last, x, words, sums, y):
    """Add rows first..last of a matrix times x (b,columns) to y (b,rows)."""
    kind, weights, scales = matrix[0], matrix[1], matrix[2]
    if kind == FLOAT32:
        _multiply_float32(weights, first, last, x, y)
    elif kind == BFLOAT16:
        _multiply_bfloat16(weights, first, last, x, y)
    elif kind == INT8:
        _multiply_int8(weights, scales, first, last, x, y)
    else:
        _multiply_int4(weights, scales, first, last, words, sums, y)


@in_any_order
def _normalise(u, norm, groups, eps, x):
    """RMSNorm of rows (b,d), each group of channels by its own rms; u as it is, where there is no norm."""
    width = u.shape[1] // groups
    for row in range(len(u)):
        for first in range(0, u.shape[1], width):
            squares, scale = f32(0), f32(1)
            if norm[1] != 0:
                for j in range(first, first + width):
                    squares += u[row, j] * u[row, j]
                scale = f32(1) / f32(math.sqrt(squares / f32(width) + eps))
            for j in range(first, first + width):
                x[row, j] = u[row, j] * scale * (_number(norm[0], norm[1], j) if norm[1] != 0 else f32(1))


@in_any_order
def multiply(matrix, norm, groups, eps, given, y, adding, counters):
    """A matrix times rows: given (b,columns) -> y (b,rows), or added to what stands there.

    Args:
        matrix: kind of the weights, addresses of weights and scales, kind and address of the bias.
        norm: kind and address of the weight of an RMSNorm that the rows go through first, in so many groups.
        counters: (2,) chunks that are taken, and chunks that are done. An address of 0 stands for what is not there.
    """
    b, columns = given.shape
    rows, height = y.shape[1], max(1, CHUNK // columns)
    chunks, groups_of_columns, prepared = -(-rows // height), -(-columns // GROUP), False
    x = np.empty((b, columns), f32)
    words, sums = np.empty((b, groups_of_columns, 8, 8), f32), np.empty((b, groups_of_columns, 8), f32)
    while True:
        chunk = take(counters, 0)
        if chunk >= chunks:
            break
        if not prepared:  # by each thread for itself, which takes less time than to wait for another
            prepared = True
            _normalise(given, norm, groups, eps, x)
            if matrix[0] == INT4:
                _in_words(x, words, sums)
        first, last = chunk * height, min(rows, (chunk + 1) * height)
        for row in range(b):
            for i in range(first, last):
                y[row, i] = _number(matrix[3], matrix[4], i) + (y[row, i] if adding else f32(0))
        _multiply(matrix, first, last, x, words, sums, y)
        take(counters, 1)
    wait(counters, 1, chunks)


# -- A layer of Mamba-2 ----------------------------------------------------------------------------------------------


@in_any_order
def _write(kind, address, first, values):
    """`values` into the numbers of a vector from `first` on."""
    floats = carray(pointer(address), first + len(values), f32)
    bits = carray(pointer(address), first + len(values), np.uint16)
    for i in range(len(values)):
        if kind == FLOAT32:
            floats[first + i] = values[i]
        else:
            bits[first + i] = _in_bfloat16(values[i])


@in_any_order
def _convolve(window, weight, activated, out):
    """Add the convolution at the last of its inputs (width,channels) to its bias; a channel's taps are neighbours."""
    width = len(window)
    for c in range(len(out)):
        for k in range(width):
            out[c] += window[k, c] * weight[c * width + k]
    if activated:
        for c in range(len(out)):
            out[c] = silu(out[c])


@in_any_order
def _turn(x, dt, log_decay, B, C, D, z, state, y):
    """One turn of the recurrence in one head: state (p,n), what was and what is, and y (p,) with skip and gate."""
    change = f32(math.expm1(log_decay))  # a decay near 1 would be rounded by more than what it changes
    for p in range(len(x)):
        written, read = x[p] * dt, f32(0)
        for n in range(len(B)):
            state[p, n] += state[p, n] * change + written * B[n]
            read += state[p, n] * C[n]
        y[p] = read + D * x[p]
    for p in range(len(x)):
        y[p] *= silu(z[p])


# Where a layer's parts stand in its row of the table: matrices take five places, vectors two, a kind and an address.
IN_PROJ, OUT_PROJ = 0, 5
NORM, CONV_WEIGHT, CONV_BIAS, DT_BIAS, A_LOG, SKIP, GATED_NORM, END = range(10, 26, 2)
WINDOW, STATE, WINDOW_AFTER, STATE_AFTER = range(4)  # in its row of the states

PHASES = 3  # of a layer: project, turn, write


@in_any_order
def go_through(layers, states, sizes, reals, head, head_eps, u, projected, y, logits, counters):
    """One token through layers of Mamba-2: u (b,d_model), what goes in and what comes out; and the head, if there is.

    Args:
        layers: (layers,END) where the parts of each stand.
        states: (layers,4) where window and state of each lie before, and then after; the state may stay in its place.
        sizes: (nheads, headdim, ngroups, d_state, d_conv, groups of the gated norm, kind of the window, whether the
            convolution is activated).
        reals: (eps of the norm, eps of the gated norm, lower and upper bound of Delta).
        head, head_eps: its matrix and the norm before it, as they stand in a layer; the eps of the norm.
        projected, y: (b,d_in_proj) and (b,d_inner), room that all threads share.
        logits: (b,vocab_size), or (b,0), where there is no head.
        counters: (layers + 1,PHASES,2) as of `multiply`, zeros when the first thread begins.
    """
    for layer in range(len(layers)):
        parts, counts = layers[layer], counters[layer]
        multiply(parts[IN_PROJ:OUT_PROJ], parts[NORM:CONV_WEIGHT], 1, f32(reals[0]), u, projected, 0, counts[0])
        turn_heads(parts, states[layer], sizes, reals, projected, y, counts[1])
        multiply(parts[OUT_PROJ:NORM], parts[GATED_NORM:END], sizes[5], f32(reals[1]), y, u, 1, counts[2])
    if logits.shape[1] > 0:
        multiply(head[:5], head[5:], 1, f32(head_eps), u, logits, 0, counters[len(layers), 0])


@in_any_order
def turn_heads(parts, states, sizes, reals, projected, y, counters):
    """From what in_proj made (b,d_in_proj) to y (b,d_inner), gated: a head of a row is a chunk.

    Args: as of `go_through`, those of a layer; counters (2,).
    """
    nheads, headdim, ngroups, d_state, d_conv, _, window_kind, activated = sizes
    d_inner, channels, chunks = nheads * headdim, nheads * headdim + 2 * ngroups * d_state, len(y) * nheads
    x, B, C = np.empty(headdim, f32), np.empty(d_state, f32), np.empty(d_state, f32)
    done = -1  # the group whose B and C are there
    while True:
        chunk = take(counters, 0)
        if chunk >= chunks:
            break
        row, head = chunk // nheads, chunk % nheads
        group = head // (nheads // ngroups)
        inputs = projected[row, d_inner : d_inner + channels]
        if done != row * ngroups + group:
            done = row * ngroups + group
            first = d_inner + group * d_state
            _convolve_part(parts, states, d_conv, window_kind, activated, row, inputs, first, B)
            _convolve_part(parts, states, d_conv, window_kind, activated, row, inputs, first + ngroups * d_state, C)
        _convolve_part(parts, states, d_conv, window_kind, activated, row, inputs, head * headdim, x)
        dt = _softplus(projected[row, d_inner + channels + head] + _number(parts[DT_BIAS], parts[DT_BIAS + 1], head))
        dt = min(max(dt, f32(reals[2])), f32(reals[3]))
        log_decay = -dt * f32(math.exp(_number(parts[A_LOG], parts[A_LOG + 1], head)))
        at, size = slice(head * headdim, (head + 1) * headdim), headdim * d_state
        before = carray(pointer(states[STATE] + 4 * chunk * size), (headdim, d_state), f32)
        after = carray(pointer(states[STATE_AFTER] + 4 * chunk * size), (headdim, d_state), f32)
        if states[STATE] != states[STATE_AFTER]:
            after[:] = before
        skip = _number(parts[SKIP], parts[SKIP + 1], head)
        _turn(x, dt, log_decay, B, C, skip, projected[row, at], after, y[row, at])
        take(counters, 1)
    wait(counters, 1, chunks)


@in_any_order
def _convolve_part(parts, states, d_conv, window_kind, activated, row, inputs, first, out):
    """The convolution in the channels from `first` on, as many as there is room for; and their window moves on."""
    count, channels = len(out), len(inputs)
    window, weight = np.empty((d_conv, count), f32), np.empty(count * d_conv, f32)
    for k in range(d_conv):
        at = (row * (d_conv - 1) + k) * channels + first
        if k < d_conv - 1:
            _numbers(window_kind, states[WINDOW], at, window[k])
        else:
            for c in range(count):
                window[k, c] = inputs[first + c]
        if k > 0:
            _write(window_kind, states[WINDOW_AFTER], at - channels, window[k])
    _numbers(parts[CONV_WEIGHT], parts[CONV_WEIGHT + 1], first * d_conv, weight)
    _numbers(parts[CONV_BIAS], parts[CONV_BIAS + 1], first, out)
    _convolve(window, weight, activated, out)
