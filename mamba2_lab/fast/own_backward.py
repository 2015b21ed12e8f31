"""Functions with a backward pass of their own, and where they may be used."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

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


def kernels_must_give_way(grads: tuple[Tensor, ...]) -> bool:
    """Whether a backward pass is itself to be differentiated, or computes many gradients at once.

    A kernel of ours does not know how. In a compiled graph neither happens: torch refuses it.
    """
    if torch.compiler.is_compiling():
        return False
    return torch.is_grad_enabled() or any(map(torch._C._functorch.is_legacy_batchedtensor, grads))


def backward_of(
    definition: Callable[..., Any], given: Sequence[Any], grads: tuple[Tensor, ...]
) -> tuple[Tensor | None, ...]:
    """What a backward pass returns, by torch: the gradients of what the definition makes of these saved arguments."""
    with torch.enable_grad():
        outputs = definition(*given)
    wanted = [isinstance(each, Tensor) and each.requires_grad for each in given]
    leaves = [each for each, want in zip(given, wanted, strict=True) if want]
    found = iter(torch.autograd.grad(outputs, leaves, grads, create_graph=torch.is_grad_enabled(), allow_unused=True))
    return tuple(next(found) if want else None for want in wanted)
