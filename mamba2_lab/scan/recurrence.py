"""READ FIRST. The recurrence, token by token.

    h_t = exp(log_decay_t) h_{t-1} + x_t B_t^T          the state: what is kept, plus what is written
    y_t = h_t C_t                                       the output: what is read

`step` is one turn of it, `sequential` all of them in order.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mamba2_lab.operation import operation
from mamba2_lab.scan.arguments import check_step, outside_autocast, prepare


@operation
def turn(x_t: Tensor, log_decay_t: Tensor, B_t: Tensor, C_t: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """x_t (b,h,p), log_decay_t (b,h), B_t and C_t (b,g,n), state (b,h,p,n) -> y_t (b,h,p), the new state (b,h,p,n)."""
    heads_per_group = x_t.shape[1] // B_t.shape[1]
    B_t, C_t = (factor.repeat_interleave(heads_per_group, dim=1) for factor in (B_t, C_t))  # (b,h,n)
    kept = torch.exp(log_decay_t)[:, :, None, None] * state
    written = torch.einsum("bhp,bhn->bhpn", x_t, B_t)
    new_state = kept + written
    y_t = torch.einsum("bhpn,bhn->bhp", new_state, C_t)
    return y_t, new_state


@outside_autocast
def sequential(
    x: Tensor,
    log_decay: Tensor,
    B: Tensor,
    C: Tensor,
    initial_state: Tensor | None = None,
    *,
    document_ids: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The recurrence as it is written: one token after another, O(l) steps.

    Args:
        x: (b,l,h,p) inputs. log_decay: (b,l,h), <= 0. B, C: (b,l,g,n).
        initial_state: (b,h,p,n), the state before the first token; None is zero.
        document_ids: (b,l) integers; the state restarts from zero wherever the id changes.

    Returns:
        y (b,l,h,p) in the dtype of x, and the final state (b,h,p,n) in float32 (float64 for float64 inputs).

    Raises:
        TypeError, ValueError: naming the argument, the shape or dtype expected, and what came.
    """
    given = x
    x, log_decay, B, C, state = prepare(x, log_decay, B, C, initial_state, document_ids)
    B, C = B.to(x.dtype), C.to(x.dtype)
    ys = []
    for t in range(x.shape[1]):
        y_t, state = turn(x[:, t], log_decay[:, t], B[:, t], C[:, t], state)
        ys.append(y_t)
    y = torch.stack(ys, dim=1) if ys else torch.empty_like(x)
    return y.to(given.dtype), state


@outside_autocast
def step(x_t: Tensor, log_decay_t: Tensor, B_t: Tensor, C_t: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """One token of the recurrence: O(1) in the length of what came before.

    Args:
        x_t: (b,h,p). log_decay_t: (b,h). B_t, C_t: (b,g,n). state: (b,h,p,n).

    Returns:
        y_t (b,h,p) in the dtype of x_t, and the new state (b,h,p,n). The given state is left as it was.

    Raises:
        TypeError, ValueError: as `sequential`.
    """
    check_step(x_t, log_decay_t, B_t, C_t, state)
    accumulate = torch.promote_types(x_t.dtype, torch.float32)
    arguments = (tensor.to(accumulate) for tensor in (x_t, log_decay_t, B_t, C_t, state))
    y_t, new_state = turn(*arguments)
    return y_t.to(x_t.dtype), new_state
