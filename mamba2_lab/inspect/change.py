"""How much a state changed."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from mamba2_lab.layers import State
from mamba2_lab.model import Mamba2Cache


def state_change(before: Mamba2Cache, after: Mamba2Cache, row: int = 0) -> Tensor:
    """How much of each head's state is new: |after - before| / (|after| + |before|), norms over (p,n).

    0: nothing faded and nothing was written. 1: what was there is gone, or there was nothing. Of Mamba-1 each channel
    is a head. Mamba-3's state is taken as it is kept, standing still: to turn is no change.

    Returns:
        (n_layer, h) on the CPU, in 0..1; h is that of the layer with most heads. NaN where a layer has no such head,
        and all through an attention layer, which has no state.
    """
    changes = [_changes(*layers, row) for layers in zip(before.layers, after.layers, strict=True)]
    most = max(len(change) for change in changes)
    return torch.stack([F.pad(change, (0, most - len(change)), value=math.nan) for change in changes]).cpu()


def _changes(before: State, after: State, row: int) -> Tensor:
    """(h,), none of a layer without a state."""
    if before.memory is None:
        return next(iter(before.tensors().values())).new_empty(0)
    old, new = (state.tensors()[before.memory][row].flatten(1) for state in (before, after))  # (h, pn)
    size = (old.norm(dim=1) + new.norm(dim=1)).clamp(min=torch.finfo(old.dtype).tiny)
    return (new - old).norm(dim=1) / size
