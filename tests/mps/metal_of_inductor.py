"""What torch.compile writes for Metal, turned into what metal_on_host runs: kernels with their buffers in order, over a
grid of one axis.

Of torch's own headers, which want more of Metal than the shim has, only what such kernels call is here, as
torch/include/c10/metal/ defines it.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable
from typing import Any

from mps import metal_on_host
from mps.metal_cases import Call
from torch import Tensor

from mamba2_lab.fast.metal import shaders

HEADER = """
#define HUGE_VALF __builtin_inff()
namespace c10 { namespace metal {
template <typename T> inline T max(T a, T b) { return a > b ? a : b; }
inline long floor_divide(long a, long b) { return a / b - (a % b != 0 && (a < 0) != (b < 0)); }
inline float threadgroup_sum(threadgroup float* partial, float value, uint i, uint size)
{
    return sum_of_group(value, partial, i % 32, i / 32, (size + 31) / 32);
}
} }
"""


class Library:
    """The kernels of a generated source, as its attributes. The body of each is as it was written. What they are called
    with is noted in `calls`."""

    def __init__(self, source: str, calls: list[Call]) -> None:
        common = (shaders.FOLDER / "common.metal").read_text(encoding="utf-8")
        self._source, self._calls = f"{common}{HEADER}{in_our_words(source)}", calls
        self._library = metal_on_host.compile_shader(self._source)

    def __getattr__(self, name: str) -> Callable[..., None]:
        def run(*args: Any, threads: list[int], group_size: list[int] | None = None) -> None:
            all_threads = math.prod(threads)
            # The second axis is that of a sum, and a group is as long as it.
            size = min(256, all_threads) if group_size is None else group_size[-1]
            kept = tuple(metal_on_host.span(arg).cpu() if isinstance(arg, Tensor) else arg for arg in args)
            self._calls.append(Call(self._source, name, kept, [all_threads], [size]))
            getattr(self._library, name)(*args, threads=[all_threads], group_size=[size])

        return run


def in_our_words(source: str) -> str:
    """Headings with a place for each buffer, and literals that are floats in C++, too, as all are in Metal."""
    source = re.sub(r"#include.*|\[\[max_total_threads_per_threadgroup\(\d+\)\]\]", "", source)
    source = re.sub(r"(?<![\w.])(\d+\.\d*(?:e[+-]?\d+)?)(?![\w.])", r"\1f", source)
    source = re.sub(r"kernel void \w+\((.*?)\) \{", _with_places, source, flags=re.DOTALL)
    return source.replace("thread_pos.x", "group").replace("thread_pos.y", "at")


def _with_places(heading: re.Match[str]) -> str:
    places = itertools.count()
    text = re.sub(r"(?<!\])(,|\n\s*\))", lambda end: f" [[buffer({next(places)})]]{end[0]}", heading[0])
    text = re.sub(r"constant (\w+\*)", r"device const \1", text)
    text = text.replace("uint2 thread_pos [[thread_position_in_grid]]", "uint group [[threadgroup_position_in_grid]]")
    return text.replace("uint2 group_pos", "uint at")
