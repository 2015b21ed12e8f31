"""How much a state changed."""

from __future__ import annotations

import torch
from torch import Tensor

from mamba2_lab.layers import State
from mamba2_lab.model import Mamba2Cache


def state_change(before: Mamba2Cache, after: Mamba2Cache, row: int = 0) -> Tensor:
    """How much of each head's state is new: |after - before| / (|after| + |before|), norms over (p,n).

    0: nothing faded and nothing was written. 1: what was there is gone, or there was nothing.

    Returns:
        (n_layer, h) on the CPU, in 0..1.
    """
    changes = []
    for old_layer, new_layer in zip(before.layers, after.layers, strict=True):
        old, new = (memory_of(layer)[1][row].flatten(1) for layer in (old_layer, new_layer))  # (h, pn)
        size = (old.norm(dim=1) + new.norm(dim=1)).clamp(min=torch.finfo(old.dtype).tiny)
        changes.append((new - old).norm(dim=1) / size)
    return torch.stack(changes).cpu()


def memory_of(state: State) -> tuple[str, Tensor]:
    """The memory (b,h,p,n) that a layer's recurrence carries, and its name.

    Raises:
        ValueError: for a layer that carries none.
    """
    if state.memory is None:
        raise ValueError(f"state must be that of a recurrence; got a {type(state).__name__}, which has no memory")
    return state.memory, state.tensors()[state.memory]
