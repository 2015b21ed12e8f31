"""Several ranks on a CPU: one chunk after another."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor

from mamba2_lab.fast.own_backward import not_transformed
from mamba2_lab.machine.stretches import stretch_by_stretch
from mamba2_lab.scan.trapezoid import CHUNKS_PER_STRETCH, ROWS_PER_CHUNK, read_in_ranks, weights_inside


def alone_on_a_cpu(x: Tensor, *rest: object) -> bool:
    """Whether torch computes it as it stands, on a CPU: a compiler would unroll the loop."""
    return x.device.type == "cpu" and not_transformed(x, *rest) and not torch.compiler.is_compiling()


@read_in_ranks.way("one chunk after another", serves=alone_on_a_cpu, within=2e-6)
def _(
    x: Tensor, log_decay: Tensor, own: Tensor, ahead: Tensor, B: Tensor, C: Tensor, state: Tensor, chunk_size: int
) -> tuple[Tensor, Tensor]:
    chunk_size = max(1, min(chunk_size, ROWS_PER_CHUNK // x.shape[2]))
    # Stretches bound the memory of weights. For gradients all of them are kept anyway.
    chunks = max(1, x.shape[1]) if torch.is_grad_enabled() else CHUNKS_PER_STRETCH
    return stretch_by_stretch(_in_turn, chunks, (x, log_decay, own, ahead, B, C), state, chunk_size)


def _in_turn(
    x: Tensor, log_decay: Tensor, own: Tensor, ahead: Tensor, B: Tensor, C: Tensor, state: Tensor, chunk_size: int
) -> tuple[Tensor, Tensor]:
    """The four steps for one chunk before the next is looked at: all that it makes, and the states, stay in cache."""
    (b, _, r, h, _), q = x.shape, chunk_size
    chunks = [rearrange(rows, "b (c q) r h d -> c (b h) (q r) d", q=q).unbind() for rows in (x, B, C)]
    log_decay, own, ahead = (rearrange(row, "b (c q) h -> c (b h) q", q=q) for row in (log_decay, own, ahead))
    weights = [each.unbind() for each in weights_inside(log_decay, own, ahead, r)]
    state, ys = state.flatten(0, 1), []
    for x_, B_, C_, M, to_end, since_start in zip(*chunks, *weights, strict=True):
        read = torch.bmm(C_, state.mT) * since_start
        y = torch.baddbmm(read, torch.bmm(C_, B_.mT) * M, x_)
        state = torch.baddbmm(state * since_start[:, -1:], (x_ * to_end).mT, B_)
        ys.append(rearrange(y, "(b h) (q r) p -> b q r h p", b=b, r=r))
    return torch.cat(ys, dim=1), state.unflatten(0, (b, h))
