"""One token through a stack on mps: the residual stream and its norms here, and each mixer where it stands.

At batch 1 each kernel computes so little that their number is what counts. What a layer leaves is added to the residual
stream and the sum normalised in one kernel, which makes of a layer

    5 kernels for a Mamba-2     6 for a Mamba-1     4 for a Mamba-3

two of them products by torch, or three in a Mamba-1. Each of ours is an operation with a plain definition and proves
itself apart from the others (`proof.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mamba2_lab.fast.known import are_unchanged, has_its_own_step
from mamba2_lab.fast.metal import mamba1, mamba2, mamba3, shaders
from mamba2_lab.fast.metal.proof import by_metal, for_reading_on_mps
from mamba2_lab.fast.metal.rows import drawn_like
from mamba2_lab.layers import Block, LayerState, Mamba1, Mamba1State, Mamba2, Mamba3, Mamba3State, RMSNorm, State
from mamba2_lab.machine.seeds import seeded
from mamba2_lab.model import LanguageModel
from mamba2_lab.model.network import one_token
from mamba2_lab.operation import operation

# Through the model


class InFewKernels(NamedTuple):
    """A mixer's step: what it remembers, whether nobody has changed it, and the step."""

    state: type[State]
    serves: Callable[[Any], bool]
    step: Callable[..., tuple[Tensor, Any]]


MIXERS: dict[type[nn.Module], InFewKernels] = {
    Mamba1: InFewKernels(Mamba1State, mamba1.is_as_written, mamba1.step),
    Mamba2: InFewKernels(LayerState, mamba2.is_as_written, mamba2.step),
    Mamba3: InFewKernels(Mamba3State, mamba3.is_as_written, mamba3.step),
}


def nobody_looks_on(model: LanguageModel, tokens: Tensor, states: tuple[Any, ...], use_up: bool) -> bool:
    """Whether it is a token that is being written on mps."""
    return (
        for_reading_on_mps(tokens)
        and tokens.numel() > 0
        and not nn.modules.module._has_any_global_hook()
        and has_its_own_step(model)
    )


@one_token.way("few kernels", serves=nobody_looks_on, within=1e-5)
def _(model: LanguageModel, tokens: Tensor, states: tuple[Any, ...], use_up: bool) -> tuple[Tensor, tuple[Any, ...]]:
    u, after = model.embed(tokens), []
    left: Tensor | None = None  # what the layer before leaves to add to u, which the next norm takes along
    for block, state in zip(model.blocks, states, strict=True):
        if type(block) is Block and are_unchanged(block):
            u, left, state = _step(block, u, left, state)
        else:
            u, state = block.step(u if left is None else u + left, state)
            left = None
        after.append(state)
    return model.unembed(u if left is None else u + left), tuple(after)


def _step(block: Block, u: Tensor, left: Tensor | None, state: Any) -> tuple[Tensor, Tensor, Any]:
    """`Block.step` of the sum of u and what is left to add, but for the last addition."""
    u, normed = (u, block.norm(u)) if left is None else add_and_normalise(block.norm, u, left)
    few = MIXERS.get(type(block.mixer))
    if few is not None and type(state) is few.state and few.serves(block.mixer):
        left, state = few.step(block.mixer, normed, state)
    else:
        left, state = block.mixer.step(normed, state)
    if block.mlp is not None and block.norm2 is not None:
        u, normed = add_and_normalise(block.norm2, u, left)
        left = block.mlp(normed)
    return u, left, state


# The residual stream and its norm


@operation
def add_and_normalise(norm: RMSNorm, u: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """u + y, and its norm: u (...,d) float32, y (...,d) -> (...,d) float32 and (...,d) in the dtype of the weight."""
    u = u + y
    return u, norm(u)


def _normalises(norm: RMSNorm, u: Tensor, y: Tensor) -> bool:
    weight = norm.weight
    return (
        type(norm) is RMSNorm
        and not (norm._forward_hooks or norm._forward_pre_hooks or "forward" in norm.__dict__)
        and u.dtype == torch.float32
        and u.shape == y.shape
        and weight.shape == u.shape[-1:]
        and weight.dtype == y.dtype
        and weight.dtype in shaders.NUMBERS
        and u.numel() > 0
    )


def _a_sum_to_normalise(norm: RMSNorm, u: Tensor, y: Tensor) -> tuple[RMSNorm, Tensor, Tensor]:
    drawn = RMSNorm(u.shape[-1], norm.eps).to(y.dtype)
    with seeded(0), torch.no_grad():
        drawn.weight.normal_()
        return drawn, drawn_like(u), drawn_like(y)


@by_metal(
    add_and_normalise,
    serves=_normalises,
    key=lambda norm, u, y: y.dtype,
    drawn=_a_sum_to_normalise,
    within=1e-5,
)
def _(norm: RMSNorm, u: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    u, y, weight = u.contiguous(), y.contiguous(), norm.weight.contiguous()
    d = u.shape[-1]
    total, normalised = torch.empty_like(u), torch.empty_like(y)
    run = shaders.kernel("norm", "add_and_normalise", NUMBER=shaders.NUMBERS[y.dtype])
    run(u, y, weight, total, normalised, d, norm.eps, **shaders.groups(u.numel() // d, -(-d // 4)))
    return total, normalised
