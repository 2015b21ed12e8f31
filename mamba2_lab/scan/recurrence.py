"""READ FIRST. The recurrence, token by token.

    h_t = exp(log_decay_t) h_{t-1} + x_t B_t^T          the state: what is kept, plus what is written
    y_t = h_t C_t                                       the output: what is read

`step` is one turn of it, `sequential` all of them in order.
"""

import torch
from torch import Tensor

from mamba2_lab.machine.autocast import outside_autocast
from mamba2_lab.operation import operation
from mamba2_lab.scan.arguments import check, on_sequences


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


@on_sequences
def sequential(x: Tensor, log_decay: Tensor, B: Tensor, C: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """The recurrence as it is written: one token after another, O(l) steps. Arguments as for `on_sequences`."""
    B, C = B.to(x.dtype), C.to(x.dtype)
    ys = []
    for t in range(x.shape[1]):
        y_t, state = turn(x[:, t], log_decay[:, t], B[:, t], C[:, t], state)
        ys.append(y_t)
    return (torch.stack(ys, dim=1) if ys else x), state


def step(x_t: Tensor, log_decay_t: Tensor, B_t: Tensor, C_t: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """One token of the recurrence: O(1) in the length of what came before. Errors as of `on_sequences`.

    Args:
        x_t: (b,h,p). log_decay_t: (b,h). B_t, C_t: (b,g,n). state: (b,h,p,n).

    Returns:
        y_t (b,h,p) in the dtype of x_t, and the new state (b,h,p,n). The given state is left as it was.
    """
    check("b", {"x_t": x_t, "log_decay_t": log_decay_t, "B_t": B_t, "C_t": C_t, "state": state})
    return advance(x_t, log_decay_t, B_t, C_t, state)


@outside_autocast
def advance(x_t: Tensor, log_decay_t: Tensor, B_t: Tensor, C_t: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """`step` for a caller who has made its arguments, token after token."""
    accumulate = torch.promote_types(x_t.dtype, torch.float32)
    arguments = (tensor.to(accumulate) for tensor in (x_t, log_decay_t, B_t, C_t, state))
    y_t, new_state = turn(*arguments)
    return y_t.to(x_t.dtype), new_state
