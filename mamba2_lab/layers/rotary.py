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
TOKENS_PER_BLOCK = 32  # of a running sum


def rotate(x: Tensor, turns: Tensor, pairs: Pairs) -> Tensor:
    """Turn the first s pairs of channels, (a, b) -> (a cos - b sin, a sin + b cos): (...,d), turns (...,s) -> (...,d).

    pairs: "neighbours" are the channels 2i and 2i+1, "halves" are i and i + d/2, for i < s. The other pairs stay.
    """
    s, half = turns.shape[-1], x.shape[-1] // 2
    angle = 2 * math.pi * turns
    cos, sin = torch.cos(angle), torch.sin(angle)
    if pairs == "neighbours":
        a, b = x[..., : 2 * s].unflatten(-1, (s, 2)).unbind(-1)
        turned = torch.stack([a * cos - b * sin, a * sin + b * cos], dim=-1).flatten(-2)
        return torch.cat([turned, x[..., 2 * s :]], dim=-1)
    a, b = x[..., :s], x[..., half : half + s]
    return torch.cat([a * cos - b * sin, x[..., s:half], a * sin + b * cos, x[..., half + s :]], dim=-1)


def accumulate(turns: Tensor, before: Tensor) -> Tensor:
    """Angles since the start: the running sum of turns, without whole turns, and what was `before` the first.

    turns (b,l,h,s), before (b,h,s) -> (b,l,h,s), in -1/2..1/2

    Summed in blocks, then over blocks, and whole turns are dropped at each stage, which costs no rounding: so numbers
    stay small, and the sum of ten thousand turns is as exact as that of a few.
    """
    return drop_whole_turns(_running_sum(turns.flatten(2)).view(turns.shape) + before.unsqueeze(1))


def drop_whole_turns(turns: Tensor) -> Tensor:
    """What is left of angles without whole turns, in -1/2..1/2."""
    return turns - torch.round(turns)


def _running_sum(turns: Tensor) -> Tensor:
    """(b,l,s) -> (b,l,s), without whole turns."""
    b, l, s = turns.shape
    if l <= TOKENS_PER_BLOCK:
        return drop_whole_turns(torch.cumsum(drop_whole_turns(turns), dim=1))
    blocks = torch.nn.functional.pad(turns, (0, 0, 0, -l % TOKENS_PER_BLOCK)).reshape(-1, TOKENS_PER_BLOCK, s)
    inside = _running_sum(blocks).view(b, -1, TOKENS_PER_BLOCK, s)
    before = torch.nn.functional.pad(_running_sum(inside[:, :, -1]), (0, 0, 1, 0))[:, :-1].unsqueeze(2)
    return drop_whole_turns(inside + before).view(b, -1, s)[:, :l]


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
    traced = torch.compiler.is_compiling() or transforms.by_torch_func()  # what is made there belongs to a transform
    return (_made_parts if traced else _kept_parts)(width, base, device)


def _made_parts(width: int, base: float, device: torch.device) -> Tensor:
    turns = [base ** (-2 * i / width) / (2 * math.pi) for i in range(width // 2)]
    return torch.tensor([round(PARTS * part) for part in turns], dtype=torch.long, device=device)


_kept_parts = functools.lru_cache(_made_parts)
