"""Functions with a backward pass of their own, and where they may be used."""

from __future__ import annotations

from typing import Any

import torch

from mamba2_lab.machine import transforms


def not_transformed(*args: Any) -> bool:
    """Whether torch transforms none of these arguments: see `machine.transforms`."""
    return not transforms.at_work(*args)


def with_own_backward(function: type[torch.autograd.Function], *args: Any) -> Any:
    """Apply a function that has a backward pass of its own.

    Where no gradient is asked for it is its forward pass alone: to apply it costs as much as several small operations.
    So it is in a compiled graph: a compiler that sees both passes plans better what to keep.

    To be differentiated once more, or for many gradients at once, a backward pass is written with operations that torch
    knows how to differentiate and to map, and writes in place only to what is made from its gradients.
    """
    if torch.compiler.is_compiling() or not torch.is_grad_enabled():
        return function.forward(*args)
    return function.apply(*args)


def to_be_differentiated_again() -> bool:
    """Whether a backward pass is itself to be differentiated. In a compiled graph none is: torch refuses."""
    return torch.is_grad_enabled() and not torch.compiler.is_compiling()
