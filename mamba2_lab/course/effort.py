"""Count what an answer does, to tell work that grows as the square of a length from work that grows as the length.

Counted, not timed: a clock says something else each time.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

SHORT, LONG = 32, 128  # four times as long
TOO_STEEP = 8  # l log l grows to 5 or 6 times, l * l to 16


def grows_too_fast(answer: Callable[..., Any], call: Callable[[int], Any]) -> str:
    """What to say of an answer whose work grows much faster than the length of its input; nothing if it does not.

    Args:
        call: calls the answer with an input of a length.
    """
    few, many = (counted(answer, functools.partial(call, length)) for length in (SHORT, LONG))
    if many <= TOO_STEEP * few:
        return ""
    longer = f"{LONG // SHORT} times as long, {many / few:.0f} times as much work"
    return f"With {SHORT} entries it makes about {few:,} steps, with {LONG} entries {many:,}: {longer}."


def counted(answer: Callable[..., Any], call: Callable[[], Any]) -> int:
    """The numbers that torch makes and adds up during a call, and the lines of the answer's own cell that run."""
    lines, file = 0, inspect.unwrap(answer).__code__.co_filename

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal lines
        if frame.f_code.co_filename != file:
            return None
        lines += 1
        return trace

    before = sys.gettrace()
    numbers = _Numbers()
    try:
        with numbers:
            sys.settrace(trace)
            call()
    finally:
        sys.settrace(before)
    return lines + numbers.made


class _Numbers(TorchDispatchMode):
    """Counts the entries of every tensor that an operation makes, and in products those that are added up for each."""

    made = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        entries = max((leaf.numel() for leaf in tree_leaves(result) if isinstance(leaf, Tensor)), default=0)
        self.made += entries * _summed(function.overloadpacket.__name__, args)
        return result


def _summed(operation: str, args: Any) -> int:
    """How many products each entry of the result is the sum of."""
    if operation in ("mm", "bmm", "mv", "dot"):
        return args[0].shape[-1]
    if operation == "convolution":
        return args[1][0].numel()
    return 1
