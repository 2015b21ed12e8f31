"""Surgery on a cache: erase, swap, write. A cache is a value: every function returns a new one.

What is operated on is the state of the recurrence, of all heads or of those named by `layer` and `head`. A cache holds
the convolution's window too, the last d_conv-1 inputs of each layer. It is left alone: it is gone after d_conv-1 tokens
anyway, and it belongs to no one head (B and C pass through it as well). `erase_windows` empties it.

Every row of a batch is operated on alike; `cache.select([i])` takes one out. To write on from an edited cache:
`stream(model, tokens, cache=edited, ...)`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import torch
from torch import Tensor

from mamba2_lab.checks import require, require_number
from mamba2_lab.inspect.change import memory_of
from mamba2_lab.inspect.layer import check_index
from mamba2_lab.layers import State
from mamba2_lab.model import Mamba2Cache


def erase(cache: Mamba2Cache, layer: int | None = None, head: int | None = None) -> Mamba2Cache:
    """The cache with states of zero: of all heads, or of those of a layer, or of one head.

    All of them erased, reading on is reading afresh, but for the windows (see `erase_windows`) and for a model with
    learnable_init_states, which does not start from zero.

    Raises:
        TypeError, ValueError: naming the argument, what was expected and what came.
    """
    return _edit(cache, layer, head, torch.zeros_like)


def erase_windows(cache: Mamba2Cache, layer: int | None = None) -> Mamba2Cache:
    """The cache with empty convolution windows, as before a first token: in all layers, or in one."""
    for i in _layers(cache, layer):
        state = cache.layers[i]
        empty = {name: torch.zeros_like(state.tensors()[name]) for name in state.windows}
        cache = cache.replace_layer(i, dataclasses.replace(state, **empty))
    return cache


def swap(
    one: Mamba2Cache, other: Mamba2Cache, layer: int | None = None, head: int | None = None
) -> tuple[Mamba2Cache, Mamba2Cache]:
    """Both caches with each other's states: of all heads, or of those of a layer, or of one head.

    Raises:
        TypeError, ValueError: as `erase`; and if the caches are not of the same model shape and batch size.
    """
    return _combine(one, other, layer, head, lambda a, b: b), _combine(other, one, layer, head, lambda a, b: b)


def inject(cache: Mamba2Cache, layer: int, head: int, key: Tensor, value: Tensor, strength: float = 1.0) -> Mamba2Cache:
    """The cache with one more pair in a head: h + strength * value key^T, what a token with that B and dt x writes.

    Read with C at once, the pair adds strength (key . C) value to the head's output y; each token read before that
    multiplies it by its decay.

    Args:
        key: (n,) as B. value: (p,) as dt x.

    Raises:
        TypeError, ValueError: naming the argument, what was expected and what came.
    """
    check_index("layer", layer, len(cache.layers))
    memory_name, memory = memory_of(cache.layers[layer])
    h, p, n = memory.shape[1:]
    check_index("head", head, h)
    for name, vector, shape, symbol in (("key", key, (n,), "(n,)"), ("value", value, (p,), "(p,)")):
        if not isinstance(vector, Tensor) or not vector.is_floating_point():
            raise TypeError(f"{name} must be a tensor of floating point numbers; got {vector!r}")
        if tuple(vector.shape) != shape:
            raise ValueError(f"{name} must have shape {symbol}, {shape}; got {tuple(vector.shape)}")
    require_number("strength", strength)
    require(math.isfinite(strength), "strength", "finite", strength)
    written = strength * torch.outer(_like(value, memory), _like(key, memory))
    memory = memory.clone()
    memory[:, head] += written
    return cache.replace_layer(layer, dataclasses.replace(cache.layers[layer], **{memory_name: memory}))


def _edit(cache: Mamba2Cache, layer: int | None, head: int | None, change: Callable[[Tensor], Tensor]) -> Mamba2Cache:
    return _combine(cache, cache, layer, head, lambda state, _: change(state))


def _combine(
    one: Mamba2Cache,
    other: Mamba2Cache,
    layer: int | None,
    head: int | None,
    combine: Callable[[Tensor, Tensor], Tensor],
) -> Mamba2Cache:
    """The first cache, in each of the chosen heads the states that `combine` makes of both, (b,h',...) each."""
    _check_alike(one, other)
    if layer is None and head is not None:
        raise ValueError(f"layer must be given where a head is: heads are counted in each layer; got head={head!r}")
    result = one
    for i in _layers(one, layer):
        theirs, edited = _by_head(other.layers[i]), {}
        for name, ours in _by_head(one.layers[i]).items():
            heads = slice(None)
            if head is not None:
                check_index("head", head, ours.shape[1])
                heads = slice(head, head + 1)
            edited[name] = ours.clone()
            edited[name][:, heads] = combine(ours[:, heads], _like(theirs[name][:, heads], ours))
        result = result.replace_layer(i, dataclasses.replace(one.layers[i], **edited))
    return result


def _by_head(state: State) -> dict[str, Tensor]:
    return {name: state.tensors()[name] for name in state.by_head}


def _like(tensor: Tensor, state: Tensor) -> Tensor:
    """The tensor in the dtype and on the device of the state; by way of the CPU, since mps takes no float64."""
    return tensor.cpu().to(state.dtype).to(state.device)


def _layers(cache: Mamba2Cache, layer: int | None) -> list[int]:
    if layer is None:
        return list(range(len(cache.layers)))
    check_index("layer", layer, len(cache.layers))
    return [layer]


def _check_alike(one: Mamba2Cache, other: Mamba2Cache) -> None:
    expected, found = (
        [tuple(state.shape) for layer in cache.layers for state in _by_head(layer).values()] for cache in (one, other)
    )
    if expected != found:
        raise ValueError(f"other must have states of the same shapes as one, {_brief(expected)}; got {_brief(found)}")


def _brief(shapes: list[tuple[int, ...]]) -> str:
    return f"{len(shapes)} layers of {shapes[0]}" if shapes else "no layers"
