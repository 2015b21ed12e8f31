"""The recurrence of Mamba-1, token by token: channels in the place of heads.

    h_t = exp(dt_t A) h_{t-1} + dt_t x_t B_t^T          each channel keeps n numbers, each with a decay of its own
    y_t = h_t C_t + D x_t                               what is read of them, and what passes by

Mamba-2 has one decay for all p n numbers of a head, so that a chunk of its recurrence is a product of matrices. Here
there is none to be had (Gu & Dao 2023, arXiv:2312.00752, section 3.3.2): what can be saved is memory.

Shapes: x, dt (b,l,d), d channels; A (d,n), negative; B, C (b,l,n), shared by all channels; D (d,); state (b,d,n).
"""

import torch
from torch import Tensor

from mamba2_lab.machine.autocast import outside_autocast
from mamba2_lab.machine.shapes import check_shapes
from mamba2_lab.operation import operation
from mamba2_lab.scan.arguments import document_starts


@outside_autocast
def selective(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    initial_state: Tensor | None = None,
    *,
    document_ids: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The selective scan of Mamba-1, for any length l >= 0.

    Args:
        x: (b,l,d). dt: (b,l,d), the step sizes, after softplus; where dt is 0 time stands still. A: (d,n), negative.
        B, C: (b,l,n). D: (d,), the weight of what passes by the state; None is zero.
        initial_state: (b,d,n), the state before the first token; None is zero.
        document_ids: (b,l) integers, by name; the state restarts from zero wherever the id changes.

    Returns:
        y (b,l,d) in the dtype of x, and the final state (b,d,n) in float32 (float64 for float64 inputs).

    Raises:
        TypeError, ValueError: naming the argument, the shape or dtype expected, and what came.
    """
    given = {"x": (x, "bld"), "dt": (dt, "bld"), "A": (A, "dn"), "B": (B, "bln"), "C": (C, "bln")}
    check_shapes({**given, "D": (D, "d"), "initial_state": (initial_state, "bdn")}, "bl", document_ids)
    accumulate = torch.promote_types(x.dtype, torch.float32)
    if initial_state is None:
        initial_state = torch.zeros(x.shape[0], *A.shape, dtype=accumulate, device=x.device)
    starts = None if document_ids is None else document_starts(document_ids)
    arguments = (tensor.to(accumulate) for tensor in (x, dt, A, B, C, initial_state))
    y, state = scan_channels(*arguments, starts)  # type: ignore[call-arg]
    return _skip(y, x, D).to(x.dtype), state


@outside_autocast
def selective_advance(
    x_t: Tensor, dt_t: Tensor, A: Tensor, B_t: Tensor, C_t: Tensor, D: Tensor | None, state: Tensor
) -> tuple[Tensor, Tensor]:
    """One token of `selective`, for a caller who has made its arguments: x_t, dt_t (b,d), B_t, C_t (b,n)."""
    accumulate = torch.promote_types(x_t.dtype, torch.float32)
    y_t, state = turn_channels(*(tensor.to(accumulate) for tensor in (x_t, dt_t, A, B_t, C_t, state)))
    return _skip(y_t, x_t, D).to(x_t.dtype), state


@operation
def turn_channels(
    x_t: Tensor, dt_t: Tensor, A: Tensor, B_t: Tensor, C_t: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """x_t, dt_t (b,d), A (d,n), B_t, C_t (b,n), state (b,d,n) -> y_t (b,d) without D x_t, the new state (b,d,n)."""
    kept = torch.exp(dt_t.unsqueeze(-1) * A) * state
    written = torch.einsum("bd,bn->bdn", dt_t * x_t, B_t)
    new_state = kept + written
    y_t = torch.einsum("bdn,bn->bd", new_state, C_t)
    return y_t, new_state


@operation
def scan_channels(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor, starts: Tensor | None
) -> tuple[Tensor, Tensor]:
    """All turns in order: y (b,l,d) without D x, and the last state. starts: (b,l) bool, where a document begins."""
    ys = []
    for t in range(x.shape[1]):
        if starts is not None:
            state = state.masked_fill(starts[:, t, None, None], 0.0)
        y_t, state = turn_channels(x[:, t], dt[:, t], A, B[:, t], C[:, t], state)
        ys.append(y_t)
    return (torch.stack(ys, dim=1) if ys else x), state


def _skip(y: Tensor, x: Tensor, D: Tensor | None) -> Tensor:
    """y + D x, what passes by the state."""
    return y if D is None else torch.addcmul(y, x.to(y.dtype), D.to(y.dtype))
