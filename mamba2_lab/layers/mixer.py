"""What every mixer of tokens offers, and what it remembers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Generic, Self, TypeVar

import torch
from torch import Tensor, nn

from mamba2_lab.layers.growing import with_tokens
from mamba2_lab.machine.gradients import for_backward
from mamba2_lab.machine.shapes import Shape, check_input, check_tensors


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
        return {f.name: getattr(self, f.name) for f in fields(self) if isinstance(getattr(self, f.name), Tensor)}

    def map(self, change: Callable[[Tensor], Tensor]) -> Self:
        """The same change applied to every tensor."""
        return type(self)(*map(change, self.tensors().values()))

    def for_backward(self) -> Self:
        """The same, fit to take part in a backward pass wherever it was made."""
        asked = torch.is_grad_enabled() and not torch.compiler.is_compiling()
        return self.map(for_backward) if asked else self


def check_state(state: State, shapes: Mapping[str, Shape], device: torch.device, name: str = "state") -> None:
    """ValueError, naming the tensor, unless a state has these shapes, those before the first token, and lies on this
    device. What grows may have any number of tokens, the same for all of it."""
    tensors = state.tensors()
    check_tensors(tensors, with_tokens(shapes, state.grows, tensors), device, name)


Kept = TypeVar("Kept", bound=State)


class Mixer(nn.Module, Generic[Kept]):
    """A mixer has `prefill(u, state=None, *, lengths=None, document_ids=None)` and `step(u_t, state)`, which give an
    output and the state after it, `initial_state` and `state_shapes` of a batch size, and `no_weight_decay`."""

    config: Any
    in_proj: nn.Linear
    prefill: Callable[..., tuple[Tensor, Kept]]
    initial_state: Callable[[int], Kept]
    state_shapes: Callable[[int], dict[str, Shape]]

    def forward(self, u: Tensor, *, lengths: Tensor | None = None, document_ids: Tensor | None = None) -> Tensor:
        """The whole sequence at once: u (b,l,d_model) -> (b,l,d_model). Arguments as for `prefill`."""
        return self.prefill(u, lengths=lengths, document_ids=document_ids)[0]

    def _checked(self, u: Tensor, tokens: str, state: Kept | None) -> Kept:
        """The state to read this input on from, (b,l,d_model) if `tokens` is "b,l"; None is the first token's."""
        check_input(u, tokens, self.config.d_model)
        if state is None:
            return self.initial_state(u.shape[0])
        check_state(state, self.state_shapes(u.shape[0]), u.device)
        return state.for_backward()
