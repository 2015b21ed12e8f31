"""What a sequence leaves behind: per layer, a few tokens for the convolution and one state for the recurrence.

Its size does not depend on how much was read; only layers that attend keep something of each token. A cache is a
value: reading on makes a new one and leaves the old one as it was, so a kept cache can be continued twice, compared, or
put back.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from mamba2_lab.layers import State
from mamba2_lab.machine.gradients import for_backward


@dataclass(frozen=True)
class Mamba2Cache:
    """What a model remembers of a batch of sequences.

    layers: what each layer remembers, in its own kind of `State`.
    tokens_read: (b,) how many real tokens each row stands for.
    """

    layers: tuple[State, ...]
    tokens_read: Tensor

    @property
    def batch_size(self) -> int:
        """Number of sequences."""
        return self.tokens_read.shape[0]

    @property
    def nbytes(self) -> int:
        """Bytes held by the states of all layers and rows, without the spare room of those that grow."""
        return sum(tensor.nbytes for layer in self.layers for tensor in layer.tensors().values())

    def map(self, change: Callable[[Tensor], Tensor]) -> Self:
        """The same change applied to every tensor."""
        return type(self)(tuple(layer.map(change) for layer in self.layers), change(self.tokens_read))

    def clone(self) -> Self:
        """A copy that shares no memory."""
        return self.map(torch.clone)

    def for_backward(self) -> Self:
        """The same cache, fit to take part in a backward pass wherever it was made."""
        return type(self)(tuple(layer.for_backward() for layer in self.layers), for_backward(self.tokens_read))

    def to(self, device: torch.device | str) -> Self:
        """The same cache on another device."""
        return self.map(lambda tensor: tensor.to(device))

    def select(self, rows: Sequence[int] | Tensor) -> Self:
        """The given rows, in the given order; a row may appear more than once (beam search does that).

        Raises:
            IndexError: if a row lies outside the batch.
        """
        index = torch.as_tensor(rows, dtype=torch.long, device="cpu").reshape(-1)
        if index.numel() and not (0 <= int(index.min()) and int(index.max()) < self.batch_size):
            raise IndexError(f"rows must lie in 0..{self.batch_size - 1}; got {index.tolist()}")
        return self.map(lambda tensor: tensor.index_select(0, index.to(tensor.device)))

    def replace_layer(self, i: int, layer: State) -> Self:
        """The same cache with another state in layer i."""
        layers = list(self.layers)
        layers[i] = layer
        return replace(self, layers=tuple(layers))
