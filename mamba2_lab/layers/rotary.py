"""Rotation: pairs of channels turned like hands of clocks.

Angles are counted in turns, 1 being the whole way round: whole turns can then be dropped from a sum without an error.
"""

import math
from typing import Literal

import torch
from torch import Tensor

Pairs = Literal["neighbours", "halves"]


def rotate(x: Tensor, turns: Tensor, pairs: Pairs) -> Tensor:
    """Turn the first s pairs of channels, (a, b) -> (a cos - b sin, a sin + b cos): (...,d), turns (...,s) -> (...,d).

    pairs: "neighbours" are the channels 2i and 2i+1, "halves" are i and i + d/2, for i < s. The other pairs stay.
    """
    s = turns.shape[-1]
    apart = x.unflatten(-1, (-1, 2) if pairs == "neighbours" else (2, -1))
    axis = -1 if pairs == "neighbours" else -2
    a, b = apart.unbind(axis)  # (...,d/2)
    angle = 2 * math.pi * turns
    cos, sin = torch.cos(angle), torch.sin(angle)
    turned_a = torch.cat([a[..., :s] * cos - b[..., :s] * sin, a[..., s:]], dim=-1)
    turned_b = torch.cat([a[..., :s] * sin + b[..., :s] * cos, b[..., s:]], dim=-1)
    return torch.stack([turned_a, turned_b], dim=axis).flatten(-2)
