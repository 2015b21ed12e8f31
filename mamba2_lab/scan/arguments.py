"""What every scan does with its arguments: check them, choose what to accumulate in, turn documents into restarts."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

# The log decay of a restart. exp(-1e4) is exactly 0 in float32 and float64, and unlike -inf it can be summed by any
# device's cumsum without a NaN.
RESTART = -1e4

# Asked once, here: torch before 2.13 cuts a compiled model in two where it asks.
AUTOCAST_DEVICES = frozenset(filter(torch.amp.is_autocast_available, ("cpu", "cuda", "mps", "xpu")))


def outside_autocast(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Autocast would run the matrix products here, and with them the states, in half precision: switch it off."""

    @functools.wraps(function)
    def call(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        device = next(arg.device.type for arg in (*args, *kwargs.values()) if isinstance(arg, Tensor))
        if device not in AUTOCAST_DEVICES or not torch.is_autocast_enabled(device):
            return function(*args, **kwargs)
        with torch.autocast(device, enabled=False):
            return function(*args, **kwargs)

    return call


def prepare(
    x: Tensor, log_decay: Tensor, B: Tensor, C: Tensor, state: Tensor | None, document_ids: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The arguments checked, x, log decays and state in the accumulating dtype, and document ids made into restarts.

    B and C stay in their dtype, for it may say how to multiply them.
    """
    _check(x, log_decay, B, C, state)
    if document_ids is not None:
        _check_shape("document_ids", document_ids, tuple(x.shape[:2]), "(b,l)")
        if document_ids.is_floating_point():
            raise TypeError(f"document_ids must be integers; got {document_ids.dtype}")
    accumulate = torch.promote_types(x.dtype, torch.float32)
    b, _, h, p = x.shape
    if state is None:
        state = torch.zeros(b, h, p, B.shape[-1], dtype=accumulate, device=x.device)
    log_decay = log_decay.to(accumulate).clamp(min=RESTART)  # -inf, too, is to forget everything
    if document_ids is not None:
        log_decay = log_decay.masked_fill(document_starts(document_ids).unsqueeze(-1), RESTART)
    return x.to(accumulate), log_decay, B, C, state.to(accumulate)


def document_starts(document_ids: Tensor) -> Tensor:
    """(b,l) -> (b,l) bool: True where the id differs from the one before. The first token never is: it goes on."""
    changes = document_ids[:, 1:] != document_ids[:, :-1]
    return torch.nn.functional.pad(changes, (1, 0))


def check_step(x_t: Tensor, log_decay_t: Tensor, B_t: Tensor, C_t: Tensor, state: Tensor) -> None:
    """TypeError or ValueError unless these are the arguments of `step`."""
    _check(x_t, log_decay_t, B_t, C_t, state, "state", tokens="b", suffix="_t")


def _check(
    x: Tensor,
    log_decay: Tensor,
    B: Tensor,
    C: Tensor,
    state: Tensor | None,
    state_name: str = "initial_state",
    *,
    tokens: str = "b,l",
    suffix: str = "",
) -> None:
    """Shapes and dtypes, for sequences (tokens "b,l") or for one token of each (tokens "b")."""
    arguments = (("x", x, "h,p"), ("log_decay", log_decay, "h"), ("B", B, "g,n"), ("C", C, "g,n"))
    for name, tensor, rest in arguments:
        dims = f"{tokens},{rest}"
        if tensor.ndim != dims.count(",") + 1:
            raise ValueError(f"{name}{suffix} must have shape ({dims}); got {tuple(tensor.shape)}")
        if not tensor.is_floating_point():
            raise TypeError(f"{name}{suffix} must be floating point; got {tensor.dtype}")
    *bl, h, p = x.shape
    g, n = B.shape[-2:]
    _check_shape(f"log_decay{suffix}", log_decay, (*bl, h), f"({tokens},h) to go with x{suffix}")
    _check_shape(f"B{suffix}", B, (*bl, g, n), f"({tokens},g,n) to go with x{suffix}")
    _check_shape(f"C{suffix}", C, (*bl, g, n), f"that of B{suffix}")
    if g == 0 or h % g:
        raise ValueError(
            f"B{suffix} must have a number of groups that divides the {h} heads of x{suffix}; got {g} groups"
        )
    if state is not None:
        _check_shape(state_name, state, (bl[0], h, p, n), "(b,h,p,n)")


def _check_shape(name: str, tensor: Tensor, shape: tuple[int, ...], what: str) -> None:
    if tuple(tensor.shape) != shape:
        raise ValueError(f"{name} must have shape {what}, {shape}; got {tuple(tensor.shape)}")
