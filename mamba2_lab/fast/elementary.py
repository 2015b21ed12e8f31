"""exp and silu in float32, for loops that numba compiles: written out, for a library's take one number at a time.

Numba looks at the file of a loop alone to see whether what it has kept is still true: who edits this one removes
`__pycache__`.
"""

from __future__ import annotations

import math

import numpy as np

from mamba2_lab.fast.sharing import in_order

f32, i32 = np.float32, np.int32

_LOG2_E, _LN2_HIGH, _LN2_LOW = f32(1 / math.log(2)), f32(355 / 512), f32(math.log(2) - 355 / 512)
_SERIES = tuple(f32(1 / math.factorial(n)) for n in range(8))
_LEAST, _MOST = f32(-87), f32(88)
_UP = i32(1000)  # what makes a number positive, before its fraction is cut off


@in_order
def exp(v):
    """exp, between e^-87 and e^88, to about 1e-7: a power of two, and a series for the rest.

    A processor computes many of them at a time, if every number on the way has 32 bits.
    """
    v = _LEAST if v < _LEAST else v
    v = _MOST if v > _MOST else v
    twos = i32(i32(v * _LOG2_E + f32(1000.5)) - _UP)  # the nearest whole number
    r = (v - f32(twos) * _LN2_HIGH) - f32(twos) * _LN2_LOW
    series = _SERIES[7] * r + _SERIES[6]
    series = series * r + _SERIES[5]
    series = series * r + _SERIES[4]
    series = series * r + _SERIES[3]
    series = series * r + _SERIES[2]
    series = series * r + _SERIES[1]
    series = series * r + _SERIES[0]
    return series * i32(i32(twos + i32(127)) << i32(23)).view(np.float32)


@in_order
def silu(v):
    """v / (1 + exp(-v))."""
    return v / (f32(1) + exp(-v))
