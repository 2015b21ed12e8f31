"""Interrupts at any place: the package's code is left between any two lines, as a kernel's interrupt may leave it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import torch

import mamba2_lab
from mamba2_lab.machine import threads
from mamba2_lab.machine.gradients import without_gradients

# The package's code, and torch's that switches gradients off and on.
PLACES = (str(Path(mamba2_lab.__file__).parent), torch.autograd.grad_mode.__file__)
# A signal is looked for when a call returns: what a call has left is put back, by one call into C, before the next.
NEVER = (
    (without_gradients(print).__code__, "torch._C._set_grad_enabled(before)"),
    (threads.at_most.__code__, "torch.set_num_threads(before)"),
)


def interrupted(call: Callable[[], Any], at: int, *spared: tuple[CodeType, str]) -> tuple[bool, Any]:
    """Run `call` and raise KeyboardInterrupt before the `at`-th line of these places that it comes to.

    Args:
        spared: code, and the beginning of a line of it, where no interrupt comes, beside those of `NEVER`.

    Returns:
        Whether the interrupt came; and if not, what the call returned.
    """
    lines = 0

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal lines
        if not frame.f_code.co_filename.startswith(PLACES):
            return None
        if event == "line" and not _is_spared(frame, (*NEVER, *spared)):
            lines += 1
            if lines > at:
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        result = call()
    except KeyboardInterrupt:
        return True, None
    finally:
        sys.settrace(before)
    return False, result


def _is_spared(frame: FrameType, spared: Iterable[tuple[CodeType, str]]) -> bool:
    beginnings = [beginning for code, beginning in spared if frame.f_code is code]
    if not beginnings:
        return False
    line = Path(frame.f_code.co_filename).read_text(encoding="utf-8").splitlines()[frame.f_lineno - 1]
    return line.strip().startswith(tuple(beginnings))
