"""A state that turns: with complex numbers, and with real ones that give the same.

    h_t = exp(log_decay_t + 2 pi i turns_t) h_{t-1} + x_t B_t^T        y_t = Re(h_t C_t*)

A complex number is a pair of neighbouring channels, in B, in C and in the state: of the first, channel 0 is the real
part, channel 1 the imaginary part, and so on. C* is the conjugate, so that the real part of a product is what it is for
real channels, their dot product. (The Mamba-3 paper, arXiv:2603.15569, writes Re(C^T h): its C is the conjugate of this
one.) The decay shortens a number, the turn rotates it.

`turning` computes this as it is written. `turning_in_reals` lets the state stand, and turns B and C back by the angle
since the start instead, for only the difference of two angles counts: what is left is the recurrence of `scan`, and
`Mamba3` is made so. (It turns B and C forward, the state thus by -turns: a matter of sign, which the weights learn.)
"""

import math

import torch
from torch import Tensor

from mamba2_lab import scan
from mamba2_lab.layers.rotary import accumulate, rotate
from mamba2_lab.machine.autocast import outside_autocast
from mamba2_lab.machine.shapes import check_shapes


@outside_autocast
def turning(
    x: Tensor, log_decay: Tensor, turns: Tensor, B: Tensor, C: Tensor, initial_state: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """With complex numbers, token by token: the definition.

    Args:
        x: (b,l,h,p). log_decay: (b,l,h), <= 0. turns: (b,l,h,n/2), how far each number turns, 1 being the whole way.
        B, C: (b,l,h,n), pairs of channels. initial_state: (b,h,p,n), pairs; None is zero.

    Returns:
        y (b,l,h,p), and the final state (b,h,p,n), pairs.

    Raises:
        TypeError, ValueError: naming the argument, the shape or dtype expected, and what came.
    """
    state = _checked(x, log_decay, turns, B, C, initial_state)
    if x.device.type == "mps":
        raise ValueError("turning needs complex numbers, which mps has only in part: compute it on the CPU")
    dtype = state.dtype
    h = _as_complex(state)  # (b,h,p,n/2)
    B_, C_ = _as_complex(B.to(dtype)), _as_complex(C.to(dtype))
    factor = torch.exp(
        torch.complex(log_decay.to(dtype).unsqueeze(-1).expand(turns.shape), 2 * math.pi * turns.to(dtype))
    )
    ys = []
    for t in range(x.shape[1]):
        h = factor[:, t, :, None, :] * h + x[:, t, :, :, None].to(dtype) * B_[:, t, :, None, :]
        ys.append((h * C_[:, t, :, None, :].conj()).sum(dim=-1).real)
    y = torch.stack(ys, dim=1).to(x.dtype) if ys else x
    return y, torch.view_as_real(h).flatten(-2)


def turning_in_reals(
    x: Tensor, log_decay: Tensor, turns: Tensor, B: Tensor, C: Tensor, initial_state: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The same with a state that stands, and B and C that turn: arguments and results as for `turning`, any device."""
    state = _checked(x, log_decay, turns, B, C, initial_state)
    angle = accumulate(turns.to(state.dtype), state.new_zeros(*turns.shape[:1], *turns.shape[2:]))
    B, C = (rotate(factor.to(state.dtype), -angle, "neighbours") for factor in (B, C))
    y, state = scan.chunked(x, log_decay, B, C, state)
    now = angle[:, -1:].sum(dim=1).unsqueeze(-2)  # (b,h,1,n/2), of the last token; 0 if there is none
    return y, rotate(state, now, "neighbours")


def _as_complex(pairs: Tensor) -> Tensor:
    """(...,n) -> (...,n/2)."""
    return torch.view_as_complex(pairs.unflatten(-1, (-1, 2)).contiguous())


def _checked(x: Tensor, log_decay: Tensor, turns: Tensor, B: Tensor, C: Tensor, state: Tensor | None) -> Tensor:
    """The initial state, once all arguments are found to fit; in float32, or float64 if x is."""
    shapes = {"x": (x, "blhp"), "log_decay": (log_decay, "blh"), "turns": (turns, "blhm")}
    sizes = check_shapes(shapes | {"B": (B, "blhn"), "C": (C, "blhn"), "initial_state": (state, "bhpn")}, "bl")
    if sizes["n"] != 2 * sizes["m"]:
        raise ValueError(f"turns must have one angle for each pair of the {sizes['n']} channels of B; got {sizes['m']}")
    b, _, h, p = x.shape
    dtype = torch.promote_types(x.dtype, torch.float32)
    return torch.zeros(b, h, p, sizes["n"], dtype=dtype, device=x.device) if state is None else state.to(dtype)
