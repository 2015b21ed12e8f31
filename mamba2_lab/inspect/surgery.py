"""Surgery on a cache: erase, swap, write. A cache is a value: every function returns a new one.

What is operated on is the state of the recurrence, of all heads or of those named by `layer` and `head`; with it goes
all that a head keeps, as its angles in Mamba-3. In Mamba-1 each channel is a head. A layer of attention has no states,
but a key and a value for every token: it can be operated on as a whole, and no head of it by itself.

A cache holds the convolution's window too, the last d_conv-1 inputs of each layer. It is left alone: it is gone after
d_conv-1 tokens anyway, and it belongs to no one head (B and C pass through it as well). `erase_windows` empties it.

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
from mamba2_lab.inspect.layer import check_index
from mamba2_lab.layers import State
from mamba2_lab.model import Mamba2Cache


def erase(cache: Mamba2Cache, layer: int | None = None, head: int | None = None) -> Mamba2Cache:
    """The cache with states of zero: of all heads, or of those of a layer, or of one head. Attention keeps no token.

    All of them erased, reading on is reading afresh, but for the windows (see `erase_windows`) and for a model with
    learnable_init_states, which does not start from zero.

    Raises:
        TypeError, ValueError: naming the argument, what was expected and what came.
    """
    return _combine(cache, cache, layer, head, lambda state, _: torch.zeros_like(state), lambda kept, _: kept[:, :0])


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
    return _combine(one, other, layer, head, _second, _second), _combine(other, one, layer, head, _second, _second)


def inject(cache: Mamba2Cache, layer: int, head: int, key: Tensor, value: Tensor, strength: float = 1.0) -> Mamba2Cache:
    """The cache with one more pair in a head: h + strength * value key^T, what a token with that B and dt x writes.

    Read with C at once, the pair adds strength (key . C) value to the head's output y; each token read before that
    multiplies it by its decay. In Mamba-3, k and q stand for B and C, turned as a trace from this cache has them.

    Args:
        key: (n,) as B. value: (p,) as dt x; (1,) for a channel of Mamba-1.

    Raises:
        TypeError, ValueError: naming the argument, what was expected and what came.
    """
    check_index("layer", layer, len(cache.layers))
    state = cache.layers[layer]
    if state.memory is None:
        raise ValueError(f"layer must be one with states of heads; got {layer}, which keeps an {type(state).__name__}")
    memory = state.tensors()[state.memory].clone()
    of_heads = memory if memory.ndim == 4 else memory.unsqueeze(2)  # (b,h,p,n); a channel is a head of p = 1
    h, p, n = of_heads.shape[1:]
    check_index("head", head, h)
    for name, vector, shape, symbol in (("key", key, (n,), "(n,)"), ("value", value, (p,), "(p,)")):
        if not isinstance(vector, Tensor) or not vector.is_floating_point():
            raise TypeError(f"{name} must be a tensor of floating point numbers; got {vector!r}")
        if tuple(vector.shape) != shape:
            raise ValueError(f"{name} must have shape {symbol}, {shape}; got {tuple(vector.shape)}")
    require_number("strength", strength)
    require(math.isfinite(strength), "strength", "finite", strength)
    of_heads[:, head] += strength * torch.outer(_like(value, memory), _like(key, memory))
    return cache.replace_layer(layer, dataclasses.replace(state, **{state.memory: memory}))


Combine = Callable[[Tensor, Tensor], Tensor]


def _second(_ours: Tensor, theirs: Tensor) -> Tensor:
    return theirs


def _combine(
    one: Mamba2Cache, other: Mamba2Cache, layer: int | None, head: int | None, states: Combine, tokens: Combine
) -> Mamba2Cache:
    """The first cache with what is made of both: of the chosen heads' states, (b,h',...) each, and of tokens kept."""
    _check_alike(one, other)
    if layer is None and head is not None:
        raise ValueError(f"layer must be given where a head is: heads are counted in each layer; got head={head!r}")
    result = one
    for i in _layers(one, layer):
        ours, theirs, edited = one.layers[i].tensors(), other.layers[i].tensors(), {}
        heads = _heads(one.layers[i], i, head)
        for name in one.layers[i].by_head:
            edited[name] = ours[name].clone()
            edited[name][:, heads] = states(ours[name][:, heads], _like(theirs[name][:, heads], ours[name]))
        for name in one.layers[i].grows:
            edited[name] = tokens(ours[name], _like(theirs[name], ours[name])).clone()
        result = result.replace_layer(i, dataclasses.replace(one.layers[i], **edited))
    return result


def _heads(state: State, layer: int, head: int | None) -> slice:
    """The head that is named, or all of them."""
    if head is None:
        return slice(None)
    if not state.by_head:
        kind = type(state).__name__
        raise ValueError(f"head must be None for layer {layer}, whose {kind} has no states of heads; got {head!r}")
    check_index("head", head, state.tensors()[state.by_head[0]].shape[1])
    return slice(head, head + 1)


def _like(tensor: Tensor, state: Tensor) -> Tensor:
    """The tensor in the dtype and on the device of the state; by way of the CPU, since mps takes no float64."""
    return tensor.cpu().to(state.dtype).to(state.device)


def _layers(cache: Mamba2Cache, layer: int | None) -> list[int]:
    if layer is None:
        return list(range(len(cache.layers)))
    check_index("layer", layer, len(cache.layers))
    return [layer]


def _check_alike(one: Mamba2Cache, other: Mamba2Cache) -> None:
    expected, found = ([_shapes(layer) for layer in cache.layers] for cache in (one, other))
    if len(expected) != len(found):
        raise ValueError(
            f"other must have states of the same shapes as one, of {len(expected)} layers; got {len(found)} layers"
        )
    for i, (ours, theirs) in enumerate(zip(expected, found, strict=True)):
        if ours != theirs:
            raise ValueError(f"other must have states of the same shapes as one, in layer {i} {ours}; got {theirs}")


def _shapes(state: State) -> str:
    """Of what is operated on; however many tokens are kept."""
    tensors = state.tensors()
    shapes = [str(tuple(tensors[name].shape)) for name in state.by_head]
    for name in state.grows:
        b, _, *rest = tensors[name].shape
        shapes.append(f"({', '.join(map(str, (b, 't', *rest)))})")
    return " and ".join(shapes)
