"""Gradients switched off so that an interrupt cannot leave them off, and tensors that can take part in them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def without_gradients(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Do without gradients what the function does, and leave the mode as it was whatever happens.

    An interrupt that comes inside of torch's own context managers, which are Python code, leaves gradients switched off
    for all that follows in a notebook. A call into C is done or not begun.
    """

    @functools.wraps(function)
    def call(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        before = torch.is_grad_enabled()
        try:
            torch._C._set_grad_enabled(False)
            return function(*args, **kwargs)
        finally:
            torch._C._set_grad_enabled(before)

    return call


def for_backward(tensor: Tensor) -> Tensor:
    """The tensor; or where gradients are asked for and it was made under inference_mode, a copy that allows them."""
    asked = torch.is_grad_enabled() and not torch.compiler.is_compiling()
    return tensor.clone() if asked and tensor.is_inference() else tensor
