"""What every mixer of tokens offers, and what it remembers.

A mixer is a module with `prefill(u, state=None, *, lengths=None, document_ids=None)` and `step(u_t, state)`, which give
an output and the state after it; with `initial_state` and `state_shapes` of a batch size, and with `no_weight_decay`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from mamba2_lab.layers.growing import with_tokens
from mamba2_lab.machine.gradients import for_backward
from mamba2_lab.machine.shapes import Shape


@dataclass(frozen=True)
class State:
    """What one layer remembers of b sequences: a value, made of tensors (b,...) that have names.

    A mixer's own state is a dataclass of such tensors, and tells what they are. So whoever carries, saves, compares or
    edits states knows no mixer.
    """

    memory: ClassVar[str | None] = None  # the name of what a recurrence carries: (b,h,p,n), or (b,h,n) of channels
    by_head: ClassVar[tuple[str, ...]] = ()  # the names of all that is carried for each head, (b,h,...)
    windows: ClassVar[tuple[str, ...]] = ()  # the names of the last inputs of convolutions
    grows: ClassVar[tuple[str, ...]] = ()  # the names of what gets longer with each token, (b,t,...)

    def tensors(self) -> dict[str, Tensor]:
        """All that it holds, by name."""
        return {name: part for name, part in vars(self).items() if isinstance(part, Tensor)}

    def map(self, change: Callable[[Tensor], Tensor]) -> Self:
        """The same change applied to every tensor."""
        return type(self)(*map(change, self.tensors().values()))

    def for_backward(self) -> Self:
        """The same, fit to take part in a backward pass wherever it was made."""
        asked = torch.is_grad_enabled() and not torch.compiler.is_compiling()
        return self.map(for_backward) if asked else self


def check_state(state: State, shapes: Mapping[str, Shape], device: torch.device, name: str = "state") -> None:
    """ValueError, naming the tensor, unless a state has these shapes and lies on this device.

    shapes: those before the first token, by name. What grows may have any number of tokens, the same for all of it.
    """
    tensors = state.tensors()
    if tensors.keys() != shapes.keys():
        raise ValueError(f"{name} must hold {', '.join(shapes)}; got {', '.join(tensors)}")
    shapes = with_tokens(shapes, state.grows, tensors)
    for part, tensor in tensors.items():
        if tensor.shape != shapes[part]:
            raise ValueError(f"{name}.{part} must have shape {shapes[part]}; got {tuple(tensor.shape)}")
        if tensor.device != device:
            raise ValueError(f"{name}.{part} must be on {device}, as the weights; got {tensor.device}")
