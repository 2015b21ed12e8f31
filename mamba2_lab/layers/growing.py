"""States that grow: memory in which the tokens of a state stand, with room behind them for more.

A state is a value, and yet not every token may cost a copy of all before it. So states that go on from one another
share their memory: who first goes on from one writes into the room behind it, where that state does not look. Who goes
on from it a second time finds the place taken, and copies.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from mamba2_lab.machine import transforms
from mamba2_lab.machine.shapes import Shape

SPARE = 32  # tokens for which there is room at first; later for half as many as there are


class Room:
    """Memory for tensors (b,t,...) that get longer together."""

    def __init__(self, parts: tuple[Tensor, ...], l: int, dtypes: tuple[torch.dtype, ...]) -> None:
        """Copies of the parts, with room for l tokens behind them and then some."""
        t = parts[0].shape[1]
        capacity = t + l + max(SPARE, (t + l) // 2)
        self.buffers = tuple(
            part.new_empty(part.shape[0], capacity, *part.shape[2:], dtype=dtype)
            for part, dtype in zip(parts, dtypes, strict=True)
        )
        for buffer, part in zip(self.buffers, parts, strict=True):
            buffer[:, :t] = part
        self._free = [t]  # where the next token goes; empty while somebody writes

    def take(self, t: int, l: int, dtypes: tuple[torch.dtype, ...]) -> bool:
        """Whether the place behind t tokens was free, has room for l, and may be written to: then it is the caller's.

        Of two threads that ask at once one gets it.
        """
        capacity, kept = self.buffers[0].shape[1], tuple(buffer.dtype for buffer in self.buffers)
        locked = self.buffers[0].is_inference() and not torch.is_inference_mode_enabled()
        if kept != dtypes or capacity < t + l or locked:
            return False
        try:
            self._free.remove(t)
        except ValueError:  # somebody went on from there before
            return False
        return True

    def write(self, t: int, more: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """What stands in the first t places and `more` behind it, (b,t+l,...). The place must have been taken."""
        end = t + more[0].shape[1]
        for buffer, tokens in zip(self.buffers, more, strict=True):
            buffer[:, t:end] = tokens
        self._free.append(end)
        return tuple(buffer[:, :end] for buffer in self.buffers)


def lengthened(
    parts: tuple[Tensor, ...], more: tuple[Tensor, ...], room: Room | None
) -> tuple[tuple[Tensor, ...], Room | None]:
    """Each part (b,t,...) with more (b,l,...) behind it, in the dtype of `more`, and the room where they now stand.

    room: that of the parts, if they stand in one.
    """
    dtypes = tuple(tokens.dtype for tokens in more)
    if not _may_write_in_place(*parts, *more):
        return tuple(
            torch.cat([part.to(tokens.dtype), tokens], 1) for part, tokens in zip(parts, more, strict=True)
        ), None
    t, l = parts[0].shape[1], more[0].shape[1]
    if room is None or not room.take(t, l, dtypes):
        room = Room(parts, l, dtypes)
        room.take(t, l, dtypes)
    return room.write(t, more), room


def _may_write_in_place(*tensors: Tensor) -> bool:
    """Not where gradients or torch.func follow what is done, or where a compiler would have to know who was first."""
    by_gradients = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
    return not (by_gradients or torch.compiler.is_compiling() or transforms.at_work(*tensors))


def with_tokens(shapes: Mapping[str, Shape], grows: tuple[str, ...], found: Mapping[str, Tensor]) -> dict[str, Shape]:
    """Shapes before the first token made those after as many as are found in the first tensor that grows."""
    if not grows or grows[0] not in found:
        return dict(shapes)
    tokens = tuple(found[grows[0]].shape[1:2])
    return {name: (shape[0], *tokens, *shape[2:]) if name in grows else shape for name, shape in shapes.items()}
