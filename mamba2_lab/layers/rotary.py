"""Rotation: pairs of channels turned like hands of clocks.

Angles are counted in turns, 1 being the whole way round: whole turns can then be dropped from a sum without an error.
"""

import functools
import math
from typing import Literal

import torch
from torch import Tensor

from mamba2_lab.machine import transforms

Pairs = Literal["neighbours", "halves"]
PARTS = 2**46  # of a turn


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


def turns_at(position: Tensor, width: int, base: float, dtype: torch.dtype) -> Tensor:
    """How far the pairs of `width` channels are turned at a position, whole turns left out: (...) -> (...,width/2).

    A pair i turns by base^(-2i/width) radians a token (Su et al. 2021, "RoFormer", arXiv:2104.09864). Counted in whole
    numbers, of parts of a turn, no digit of an angle is lost however long the text; a product in float32 would be off
    by a hundredth of a radian after a hundred thousand tokens.
    """
    parts = position.unsqueeze(-1) * _parts_per_token(width, base, position.device) & (PARTS - 1)
    return parts.to(dtype) / PARTS


def _parts_per_token(width: int, base: float, device: torch.device) -> Tensor:
    """(width/2,) whole numbers. Kept from call to call, since to bring them to a device makes it wait."""
    traced = torch.compiler.is_compiling() or transforms.by_torch_func()
    return (_made_parts if traced else _kept_parts)(width, base, device)


def _made_parts(width: int, base: float, device: torch.device) -> Tensor:
    turns = [base ** (-2 * i / width) / (2 * math.pi) for i in range(width // 2)]
    return torch.tensor([round(PARTS * part) for part in turns], dtype=torch.long, device=device)


@functools.lru_cache
def _kept_parts(width: int, base: float, device: torch.device) -> Tensor:
    with torch.inference_mode(False):
        return _made_parts(width, base, device)
