"""What every scan does with its arguments: check them, choose what to accumulate in, turn documents into restarts."""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mamba2_lab.machine.autocast import outside_autocast
from mamba2_lab.machine.shapes import check_shapes

# The log decay of a restart. exp(-1e4) is exactly 0 in float32 and float64, and unlike -inf it can be summed by any
# device's cumsum without a NaN.
RESTART = -1e4


def on_sequences(scan: Callable[..., tuple[Tensor, Tensor]]) -> Callable[..., tuple[Tensor, Tensor]]:
    """Let a scan that is written for prepared arguments take what callers have.

    Args:
        x: (b,l,h,p) inputs, any l >= 0. log_decay: (b,l,h), <= 0. B, C: (b,l,g,n).
        initial_state: (b,h,p,n), the state before the first token; None is zero.
        document_ids: (b,l) integers, by name; the state restarts from zero wherever the id changes.
        options: the scan's own.

    Returns:
        y (b,l,h,p) in the dtype of x, and the final state (b,h,p,n) in float32 (float64 for float64 inputs).

    Raises:
        TypeError, ValueError: naming the argument, the shape or dtype expected, and what came.
    """

    @functools.wraps(scan)
    def call(
        x: Tensor,
        log_decay: Tensor,
        B: Tensor,
        C: Tensor,
        initial_state: Tensor | None = None,
        *options: Any,
        document_ids: Tensor | None = None,
        **named: Any,
    ) -> tuple[Tensor, Tensor]:
        y, state = scan(*prepare(x, log_decay, B, C, initial_state, document_ids), *options, **named)
        return y.to(x.dtype), state

    del call.__wrapped__  # help shows what may be given here, and not what the scan itself takes
    return outside_autocast(call)


def prepare(
    x: Tensor, log_decay: Tensor, B: Tensor, C: Tensor, state: Tensor | None, document_ids: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The arguments checked, x, log decays and state in the accumulating dtype, and document ids made into restarts.

    B and C stay in their dtype, for it may say how to multiply them.
    """
    check("bl", {"x": x, "log_decay": log_decay, "B": B, "C": C, "initial_state": state}, document_ids)
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


def check(tokens: str, given: dict[str, Tensor | None], document_ids: Tensor | None = None) -> None:
    """TypeError or ValueError unless these are arguments of a scan, for `tokens` "bl" or for one token of each, "b".

    given: x, log_decay, B, C and a state, in this order, by the names that the caller has for them.
    """
    dims = (f"{tokens}hp", f"{tokens}h", f"{tokens}gn", f"{tokens}gn", "bhpn")
    arguments = {name: (tensor, letters) for (name, tensor), letters in zip(given.items(), dims, strict=True)}
    sizes = check_shapes(arguments, tokens, document_ids)
    if sizes["g"] == 0 or sizes["h"] % sizes["g"]:
        x, _, B, *_ = given
        heads = f"the {sizes['h']} heads of {x}"
        raise ValueError(f"{B} must have a number of groups that divides {heads}; got {sizes['g']} groups")
