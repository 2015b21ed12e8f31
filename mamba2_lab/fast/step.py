"""One turn of a recurrence in fewer passes over the state."""

from __future__ import annotations

import torch
from torch import Tensor

from mamba2_lab.machine import transforms
from mamba2_lab.scan.recurrence import turn
from mamba2_lab.scan.trapezoid import turn_in_ranks


@turn.way("in place", serves=lambda *args: not transforms.by_torch_func(), within=1e-6)
def _(x_t: Tensor, log_decay_t: Tensor, B_t: Tensor, C_t: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    (b, h, p, n), g = state.shape, B_t.shape[1]
    # state + state * (exp(a) - 1), not state * exp(a). A decay near 1 is rounded by the same amount in each step, which
    # adds up over the thousand tokens that a slow head remembers. exp(a) - 1 is small there, and so is its rounding.
    kept = torch.addcmul(state, state, torch.expm1(log_decay_t).view(b, h, 1, 1))
    new_state = kept.reshape(b * g, h // g * p, n)  # the heads of a group lie side by side and share its B and C
    new_state.addcmul_(x_t.reshape(b * g, h // g * p, 1), B_t.reshape(b * g, 1, n))  # `kept` is ours alone
    y_t = torch.bmm(new_state, C_t.reshape(b * g, n, 1))
    return y_t.view(b, h, p), new_state.view(b, h, p, n)


@turn_in_ranks.way("in place", serves=lambda *args: not transforms.by_torch_func(), within=1e-6)
def _(x_t: Tensor, log_decay_t: Tensor, B_t: Tensor, C_t: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    kept = torch.addcmul(state, state, torch.expm1(log_decay_t)[..., None, None]).flatten(0, 1)  # as above
    written, read = (factor.transpose(1, 2).flatten(0, 1) for factor in (B_t, C_t))  # (bh,r,n)
    new_state = kept.baddbmm_(x_t.permute(0, 2, 3, 1).flatten(0, 1), written)
    y_t = torch.bmm(read, new_state.mT).unflatten(0, state.shape[:2])  # (b,h,r,p)
    return y_t.transpose(1, 2), new_state.view(state.shape)
