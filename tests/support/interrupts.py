"""Interrupts at any place: the package's code is left between any two lines, as a kernel's interrupt may leave it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import torch

import mamba2_lab
from mamba2_lab.machine.gradients import without_gradients

# The package's code, and torch's that switches gradients off and on.
PLACES = (str(Path(mamba2_lab.__file__).parent), torch.autograd.grad_mode.__file__)
# Python looks for a signal when a call returns: when the function has, which is inside of `try`, and when the mode is
# back. So no interrupt comes between the two.
RESTORING = (without_gradients(torch.is_grad_enabled).__code__, "torch._C._set_grad_enabled(before)")


def interrupted(call: Callable[[], Any], at: int, spared: tuple[CodeType, str] | None = None) -> tuple[bool, Any]:
    """Run `call` and raise KeyboardInterrupt before the `at`-th line of these places that it comes to.

    Args:
        spared: code, and the beginning of a line of it, where no interrupt comes.

    Returns:
        Whether the interrupt came; and if not, what the call returned.
    """
    lines = 0

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal lines
        if not frame.f_code.co_filename.startswith(PLACES):
            return None
        if event == "line" and not _is_spared(frame, spared):
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


def _is_spared(frame: FrameType, spared: tuple[CodeType, str] | None) -> bool:
    beginnings = [line for code, line in filter(None, (RESTORING, spared)) if code is frame.f_code]
    if not beginnings:
        return False
    line = Path(frame.f_code.co_filename).read_text(encoding="utf-8").splitlines()[frame.f_lineno - 1]
    return line.strip().startswith(tuple(beginnings))
