"""Reading a layer: run the named steps of its mixer on piece after piece of a prompt, and keep what each made."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mamba2_lab.inspect.layer import LayerTrace
from mamba2_lab.layers import Block


class Tracer:
    """What reads one layer; every kind of mixer has its own.

    Args:
        index: which layer of the model it is. block: the layer.
        before: its state before the prompt. l: tokens of the prompt.
        spacing: tokens between two states that are kept.
    """

    def __init__(self, index: int, block: Block, before: Any, l: int, spacing: int) -> None:
        self.index, self.block, self.state, self.spacing = index, block, before, spacing
        self.mixer: Any = block.mixer
        self.tokens, self.stretches = Rows(l), Rows(-(-l // spacing))

    @staticmethod
    def least_spacing(mixer: Any) -> int:
        """Tokens between two states that are kept: enough for them to take no more room than what is kept of tokens."""
        raise NotImplementedError

    def mix(self, start: int, u: Tensor) -> Tensor:
        """What the mixer makes of normed tokens u (1,t,d), from number `start` on; it is kept, and so is the state."""
        raise NotImplementedError

    def trace(self) -> LayerTrace:
        """All that was kept."""
        raise NotImplementedError

    def read(self, start: int, u: Tensor) -> Tensor:
        """u (1,t,d) of the tokens from `start` on -> the stream after the layer, and after the MLP behind it."""
        output = self.mix(start, self.block.norm(u))
        self.tokens.put(start, u=u[0], output=output[0])
        return self.block.add_mlp(u + output)

    @property
    def kept(self) -> dict[str, Any]:
        """What every kind keeps, by the names of fields."""
        return {"index": self.index, **self.tokens.tensors, **self.stretches.tensors}


class Rows:
    """Tensors of so many rows, filled piece by piece. On the CPU, in float32 or, if they come in that, float64."""

    def __init__(self, count: int) -> None:
        self._count = count
        self.tensors: dict[str, Tensor] = {}

    def put(self, start: int, **pieces: Tensor) -> None:
        """Rows from `start` on, by the name of their tensor."""
        for name, piece in pieces.items():
            if name not in self.tensors:
                self.tensors[name] = kept(piece[:0]).new_empty(self._count, *piece.shape[1:])
            self.tensors[name][start : start + len(piece)] = piece


def kept(tensor: Tensor) -> Tensor:
    """On the CPU, in float32 or, if it is that, float64."""
    return tensor.detach().cpu().to(torch.promote_types(tensor.dtype, torch.float32))
