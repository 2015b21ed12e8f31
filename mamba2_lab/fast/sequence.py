"""A sequence through a layer on a CPU, by the loops that numba compiles: see `scanning` and `around`.

Where nobody asks for gradients: a training step goes through its chunks as they are defined, or by `chunks`.
"""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from mamba2_lab.fast.rows import among_operations, nobody_asks
from mamba2_lab.layers.convolution import convolve
from mamba2_lab.layers.mamba2 import Discretised, Mamba2, scan_and_skip
from mamba2_lab.layers.norm import gate_and_normalise
from mamba2_lab.machine.strides import in_rows
from mamba2_lab.scan.arguments import RESTART
from mamba2_lab.scan.chunks import in_stretches

LEAST = 2**18  # numbers that are gone through: for fewer, what a call costs counts, and nobody waits for a compiler


def _long(numbers: int, dtype: torch.dtype, *given: Tensor) -> bool:
    """Whether there is much to do, all of it in this dtype, and nobody asks for gradients."""
    return numbers >= LEAST and all(each.dtype == dtype for each in given) and nobody_asks(*given)


# -- The scan --------------------------------------------------------------------------------------------------------


def _scans(x: Tensor, log_decay: Tensor, B: Tensor, C: Tensor, state: Tensor, chunk_size: int) -> bool:
    return _long(x.shape[1] * state.numel(), torch.float32, x, log_decay, state) and nobody_asks(B, C)


@in_stretches.way("loops", serves=_scans, within=2e-6)
def _(x: Tensor, log_decay: Tensor, B: Tensor, C: Tensor, state: Tensor, chunk_size: int) -> tuple[Tensor, Tensor]:
    return _scan(x, torch.ones_like(log_decay), log_decay, B, C, torch.zeros(x.shape[2]), state)


def _scans_and_skips(mixer: Mamba2, terms: Discretised, state: Tensor, ids: Tensor | None) -> bool:
    x, dt, log_decay, B, C = terms
    return (
        ids is None
        and type(mixer).skip is Mamba2.skip
        and "skip" not in vars(mixer)
        and x.dtype in (torch.float32, torch.bfloat16)
        and nobody_asks(x, B, C, mixer.D)
        and _long(x.shape[1] * state.numel(), torch.float32, dt, log_decay, state)
    )


@scan_and_skip.way("loops", serves=_scans_and_skips, within=2e-6)
def _(mixer: Mamba2, terms: Discretised, state: Tensor, ids: Tensor | None) -> tuple[Tensor, Tensor]:
    x, dt, log_decay, B, C = terms
    y, state = _scan(x, dt, log_decay.clamp(min=RESTART), B, C, mixer.D, state)
    return y.flatten(2), state


def _scan(
    x: Tensor, dt: Tensor, log_decay: Tensor, B: Tensor, C: Tensor, D: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    from mamba2_lab.fast.scanning import BLOCK, scan  # which imports numba, when a prompt is read first
    from mamba2_lab.fast.tiles import COLUMNS, ROWS

    (b, l, h, p), n = x.shape, state.shape[-1]
    tokens, rows, columns = -l % BLOCK, -n % ROWS, -p % COLUMNS  # that are missing
    B, C = (_padded(factors.float(), rows, 0, tokens) for factors in (B, C))
    B_of_blocks, C_of_blocks = (each.unflatten(1, (-1, BLOCK)).permute(0, 3, 1, 2, 4) for each in (B, C))
    scores = (C_of_blocks @ B_of_blocks.mT).tril()  # (b g c q q)
    turned = _padded(state.mT.clone(memory_format=torch.contiguous_format), columns, rows)
    (heads, step), y = in_rows(x.float().flatten(2)), torch.empty(b, l, h, p)
    log_decay, dt, D = _padded(log_decay, 0, tokens), dt.contiguous(), D.float().contiguous()
    given = (each.numpy() for each in (dt, log_decay, B, C, scores, D, turned, y))
    among_operations(y.numel() * n, scan, heads.data_ptr(), step, *given)
    return y, turned[..., :n, :p].mT.contiguous()


def _padded(tensor: Tensor, *missing: int) -> Tensor:
    """Contiguous, with so many zeros behind its last axis, the one before it, and so on."""
    if any(missing):
        tensor = F.pad(tensor, [width for end in missing for width in (0, end)])
    return tensor.contiguous()


# -- Around it -------------------------------------------------------------------------------------------------------
#
# In float32; and from bfloat16 to bfloat16, for which numbers are made floats on their way in, and are rounded once.


def _convolves(
    dtype: torch.dtype,
    x: Tensor,
    window: Tensor,
    taps: Tensor,
    bias: Tensor,
    documents: Tensor | None,
    silu: bool,
) -> bool:
    return documents is None and _long(x.numel(), dtype, x, window, taps, bias)


@convolve.way("loops", serves=partial(_convolves, torch.float32), within=1e-6)
@convolve.way("loops, bfloat16", serves=partial(_convolves, torch.bfloat16), within=1e-2)
def _(x: Tensor, window: Tensor, taps: Tensor, bias: Tensor, documents: Tensor | None, silu: bool) -> Tensor:
    from mamba2_lab.fast import around

    (rows, step), y = in_rows(x.float()), torch.empty(x.shape)
    given = (each.float().contiguous().numpy() for each in (window, taps, bias))
    among_operations(x.numel() * len(taps), around.convolve, rows.data_ptr(), step, *given, silu, y.numpy())
    return y.to(x.dtype)


def _gates(
    dtype: torch.dtype, y: Tensor, z: Tensor, weight: Tensor, eps: float, ngroups: int, norm_before_gate: bool
) -> bool:
    return z.shape == y.shape and _long(y.numel(), dtype, z, weight) and _long(y.numel(), torch.float32, y)


@gate_and_normalise.way("loops", serves=partial(_gates, torch.float32), within=1e-6)
@gate_and_normalise.way("loops, bfloat16", serves=partial(_gates, torch.bfloat16), within=1e-2)
def _(y: Tensor, z: Tensor, weight: Tensor, eps: float, ngroups: int, norm_before_gate: bool) -> Tensor:
    from mamba2_lab.fast import around

    (gates, step), out = in_rows(z.float()), torch.empty(y.shape)
    rows, room = (each.contiguous().flatten(0, -2).numpy() for each in (y, out))
    given = (rows, gates.data_ptr(), step, weight.float().contiguous().numpy(), eps, ngroups, norm_before_gate, room)
    among_operations(4 * y.numel(), around.gate_and_normalise, *given)
    return out.to(weight.dtype)
