"""One token through a model of Mamba-2 layers on a CPU, by the loops that numba compiles.

Layers that the loops know, and behind them the last norm and the head, are gone through in one call. For more rows than
a few the products are torch's, which share the arithmetic better, and the loops do what lies between. Layers of other
kinds, and those that somebody changed, are gone through as they are written. `known` tells what the loops know.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from mamba2_lab.fast.known import NO_HEAD, Head, Stretch, has_its_own_step, last_look, look
from mamba2_lab.fast.rows import MOST_ROWS, among_operations, asks_for_gradients, nobody_asks, together
from mamba2_lab.layers import Block, LayerState
from mamba2_lab.layers.norm import normalise
from mamba2_lab.model import LanguageModel
from mamba2_lab.model.network import one_token


def nobody_looks_on(model: LanguageModel, tokens: Tensor, states: tuple[Any, ...], use_up: bool) -> bool:
    """Whether it is one token in each row, of a model with a layer that the loops know."""
    return (
        tokens.numel() > 0
        and nobody_asks(tokens)
        and isinstance(model.layers, nn.ModuleList)
        and has_its_own_step(model)
        and not asks_for_gradients(chain(model.parameters(), _tensors(states)))
        and not nn.modules.module._has_any_global_hook()
        and look(model).serves
    )


def _tensors(states: tuple[Any, ...]) -> Iterator[Tensor]:
    return (tensor for state in states for tensor in state.tensors().values())


@one_token.way("loops", serves=nobody_looks_on, within=2e-6)
def _(model: LanguageModel, tokens: Tensor, states: tuple[Any, ...], use_up: bool) -> tuple[Tensor, tuple[Any, ...]]:
    known, u = last_look(model), model.embed(tokens)
    logits: Tensor | None = None
    after: list[Any] = []
    sheets: dict[int, Sheet] = {}  # by the first layer whose state is there
    for stretch in known.stretches:
        first = len(after)
        before = states[first : first + len(stretch.blocks)]
        sheet = states.sheets.get(first) if type(states) is Left else None
        mine = use_up
        if sheet is None or not sheet.is_of(stretch, len(u)):
            sheet, mine = Sheet.copied(stretch, before, len(u)), True
        if sheet is None or u.dtype != torch.float32 or u.shape[1] != stretch.d_model:
            u, left_behind = model._on_free_cores(_one_by_one, stretch.blocks, u, before)
        else:
            head = known.head if stretch is known.stretches[-1] else None
            sheets[first] = sheet.after(stretch, len(u), mine)
            places = np.concatenate([sheet.places, sheets[first].places], axis=1)
            if len(u) <= MOST_ROWS:
                u, logits = _by_loops(stretch, u, places, head or NO_HEAD)
            else:
                u = model._on_free_cores(_with_products, stretch, u, places)
            left_behind = sheets[first].states
        after.extend(left_behind)
    if logits is None or logits.shape[1] == 0:  # somebody else's head
        logits = model._on_free_cores(model.unembed, u)
    return logits, Left.of(after, sheets)


class Sheet:
    """The states of a stretch as the loops leave them, side by side in two tensors: what is there need not be asked."""

    def __init__(self, stretch: Stretch, b: int, memories: Tensor | None = None) -> None:
        layers = len(stretch.blocks)
        windows = torch.empty(layers, b, *stretch.window_shape, dtype=stretch.window_dtype)
        self._memories = torch.empty(layers, b, *stretch.memory_shape) if memories is None else memories
        self._shape = _shape(stretch, b)
        self._other: Sheet | None = None  # which has the same memories, and windows of its own
        self._tensors = [*windows.unbind(), *self._memories.unbind()]
        self._pointers = list(map(Tensor.data_ptr, self._tensors))
        self.places = np.array(self._pointers).reshape(2, layers).T  # (layers,2)
        self.states = list(map(LayerState, self._tensors[:layers], self._tensors[layers:]))

    @classmethod
    def copied(cls, stretch: Stretch, states: Sequence[Any], b: int) -> Self | None:
        """A copy of states from elsewhere; None, if they are not those of layers that the loops know."""
        if stretch.table is None or not all(_fits(state, stretch, b) for state in states):
            return None
        sheet = cls(stretch, b)
        for new, old in zip(sheet.states, states, strict=True):
            new.conv_window.copy_(old.conv_window)
            new.ssm_state.copy_(old.ssm_state)
        return sheet

    def after(self, stretch: Stretch, b: int, use_up: bool) -> Sheet:
        """Room for the states one token later; two sheets take turns where the states before may be lost.

        Windows need their own in any case: several heads read the same.
        """
        if not use_up:
            return Sheet(stretch, b)
        if self._other is None or not self._other.is_of(stretch, b):
            self._other = Sheet(stretch, b, self._memories)
            self._other._other = self
        return self._other

    def is_of(self, stretch: Stretch, b: int) -> bool:
        """Whether it is of such a stretch, and its tensors are where they were."""
        return self._shape == _shape(stretch, b) and self._pointers == list(map(Tensor.data_ptr, self._tensors))


class Left(tuple[Any, ...]):
    """The states that a token leaves behind, with the sheets on which they lie."""

    sheets: dict[int, Sheet]

    @classmethod
    def of(cls, states: Sequence[Any], sheets: dict[int, Sheet]) -> Self:
        """These states."""
        left = cls(states)
        left.sheets = sheets
        return left


def _shape(stretch: Stretch, b: int) -> tuple[Any, ...]:
    if stretch.table is None:
        return ()
    return len(stretch.blocks), b, stretch.window_shape, stretch.memory_shape, stretch.window_dtype


def _fits(state: Any, stretch: Stretch, b: int) -> bool:
    if type(state) is not LayerState:
        return False
    window, memory = state.conv_window, state.ssm_state
    return (
        window.shape == (b, *stretch.window_shape)
        and memory.shape == (b, *stretch.memory_shape)
        and window.dtype == stretch.window_dtype
        and memory.dtype == torch.float32
        and window.is_cpu
        and memory.is_cpu
    )


def _by_loops(stretch: Stretch, u: Tensor, states: np.ndarray, head: Head) -> tuple[Tensor, Tensor]:
    """One token: the residual stream (b,d_model) -> the same after these layers, and logits (b,vocab_size).

    Args:
        states: (layers,4) where they lie, before and after.
    """
    from mamba2_lab.fast import loops  # which imports numba, when a token is written first

    u = u.clone(memory_format=torch.contiguous_format)
    projected, y, logits = (np.empty((len(u), width), np.float32) for width in (*stretch.widths, head.vocab_size))
    counters = np.zeros((len(states) + 1, loops.PHASES, 2), np.int64)
    layers = (stretch.table, states, stretch.sizes, stretch.reals)
    numbers = stretch.numbers + head.numbers
    together(numbers, loops.go_through, *layers, head.places, head.eps, u.numpy(), projected, y, logits, counters)
    return u, torch.from_numpy(logits)


def _with_products(stretch: Stretch, u: Tensor, states: np.ndarray) -> Tensor:
    """One token: the residual stream (b,d_model) -> the same after these layers."""
    from mamba2_lab.fast import loops

    assert stretch.table is not None
    y = torch.empty(len(u), stretch.widths[1])
    for block, parts, places in zip(stretch.blocks, stretch.table, states, strict=True):
        mixer, norm = block.mixer, block.mixer.norm
        projected = mixer.in_proj(block.norm(u)).float().contiguous().numpy()
        layer, numbers = (parts, places, stretch.sizes, stretch.reals), len(u) * stretch.memory_numbers
        among_operations(numbers, loops.turn_heads, *layer, projected, y.numpy())
        normed = normalise(y, norm.weight.float(), norm.eps, norm.ngroups)
        u = u + mixer.out_proj(normed.to(norm.weight.dtype))
    return u


def _one_by_one(blocks: Sequence[Block], u: Tensor, states: Sequence[Any]) -> tuple[Tensor, list[Any]]:
    after = []
    for block, state in zip(blocks, states, strict=True):
        u, state = block.step(u, state)
        after.append(state)
    return u, after
