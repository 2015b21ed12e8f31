"""One token through a stack of Mamba-2 layers on a CPU, by the loops that numba compiles.

The loops read the weights where they lie, and know their addresses alone. So before each token it is looked whether the
stack is still what it was when its addresses were written down: the same parts, parameters in the same place, nothing
overridden or hooked. What was written into a parameter is read at the next token, as always. Layers of other kinds, and
those that somebody changed, are gone through as they are written.
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Sequence
from itertools import chain, groupby
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn

from mamba2_lab.fast.rows import KINDS, Matrix, by_loops, fits, matrix, readable, together, vector
from mamba2_lab.layers import Block, CausalConv, GatedRMSNorm, LayerState, Mamba2, Projection, RMSNorm
from mamba2_lab.layers.stored import StoredProjection
from mamba2_lab.model.network import through

SETTINGS = ("config", "eps", "ngroups", "norm_before_gate", "activation")  # of the parts, that the loops know


def nobody_looks_on(blocks: Sequence[Block], u: Tensor, states: tuple[Any, ...]) -> bool:
    """Whether it is one token, in a few rows, of a stack with a layer that the loops know."""
    return (
        isinstance(blocks, nn.ModuleList)
        and u.dtype == torch.float32
        and by_loops(u, u)
        and not nn.modules.module._has_any_global_hook()
        and any(stretch.table is not None for stretch in _know(blocks).stretches)
    )


@through.way("loops", serves=nobody_looks_on, within=2e-6)
def _(blocks: nn.ModuleList, u: Tensor, states: tuple[Any, ...]) -> tuple[Tensor, tuple[Any, ...]]:
    after: list[Any] = []
    for stretch in _known[blocks].stretches:  # which `serves` has looked at
        before = states[len(after) : len(after) + len(stretch.blocks)]
        u, left_behind = stretch.go_through(u, before)
        after.extend(left_behind)
    return u, tuple(after)


class Stretch:
    """Layers that follow one another and are gone through in one call: all by the loops, or each as it is written."""

    def __init__(self, blocks: Sequence[Block], table: np.ndarray | None) -> None:
        self.blocks, self.table = blocks, table
        if table is not None:
            mixer = blocks[0].mixer
            config, norm = mixer.config, mixer.norm
            kept_in = next(mixer.parameters()).dtype  # that of an initial state
            heads = (config.nheads, config.headdim, config.ngroups, config.d_state, config.d_conv)
            shapes = mixer.state_shapes(1)
            self.window_shape, self.memory_shape = shapes["conv_window"][1:], shapes["ssm_state"][1:]
            self.window_dtype = kept_in
            self.sizes = (*heads, norm.ngroups, KINDS[kept_in], int(mixer.conv1d.activation))
            self.reals = tuple(np.float32(real) for real in (blocks[0].norm.eps, norm.eps, *config.dt_limit))
            self.widths = (config.d_inner + config.conv_dim + config.nheads, config.d_inner)
            self.numbers = len(blocks) * config.d_model * sum(self.widths)

    def go_through(self, u: Tensor, states: tuple[Any, ...]) -> tuple[Tensor, list[Any]]:
        """One token: (b,d_model) and the states of these layers -> the same after it."""
        known = self.table is not None and u.shape[1] == self.blocks[0].mixer.config.d_model
        if not known or not all(self._fits(state, len(u)) for state in states):
            return _one_by_one(self.blocks, u, states)
        return self._by_loops(u, states)

    def _fits(self, state: Any, b: int) -> bool:
        """Whether the loops may read and write where it lies: they look at nothing but addresses."""
        if type(state) is not LayerState:
            return False
        window, memory = state.conv_window, state.ssm_state
        return (
            window.shape == (b, *self.window_shape)
            and memory.shape == (b, *self.memory_shape)
            and window.dtype == self.window_dtype
            and memory.dtype == torch.float32
            and window.is_cpu
            and memory.is_cpu
        )

    def _by_loops(self, u: Tensor, states: tuple[LayerState, ...]) -> tuple[Tensor, list[LayerState]]:
        from mamba2_lab.fast import loops  # which imports numba, when a token is written first

        before = [LayerState(state.conv_window.contiguous(), state.ssm_state.contiguous()) for state in states]
        after = [LayerState(*map(torch.empty_like, state.tensors().values())) for state in before]
        places = [
            (old.conv_window.data_ptr(), new.conv_window.data_ptr(), old.ssm_state.data_ptr(), new.ssm_state.data_ptr())
            for old, new in zip(before, after, strict=True)
        ]
        assert self.table is not None
        table = np.concatenate([self.table, np.array(places)], axis=1)
        u = u.clone(memory_format=torch.contiguous_format)
        projected, y = (np.empty((len(u), width), np.float32) for width in self.widths)
        counters = np.zeros((len(states), loops.PHASES, 2), np.int64)
        together(self.numbers, loops.go_through, table, self.sizes, self.reals, u.numpy(), projected, y, counters)
        return u, after


def _one_by_one(blocks: Sequence[Block], u: Tensor, states: tuple[Any, ...]) -> tuple[Tensor, list[Any]]:
    after = []
    for block, state in zip(blocks, states, strict=True):
        u, state = block.step(u, state)
        after.append(state)
    return u, after


class _Known:
    """The stretches of a stack, and what it looked like when they were written down."""

    def __init__(self, stack: nn.ModuleList) -> None:
        blocks: Sequence[Block] = stack  # type: ignore[assignment]
        self.stretches = [
            Stretch(alike, None if shared is None else _table(alike))
            for shared, alike in ((shared, list(group)) for shared, group in groupby(blocks, _alike))
        ]
        # Lists, so that a look is a few calls into C. The stack is not among the parts: it may go when nobody needs it.
        self.parts = [part for part in stack.modules() if part is not stack]
        self.attributes = [part.__dict__ for part in self.parts]
        self.children: list[dict[str, Any]] = [stack._modules, *(part._modules for part in self.parts)]
        self.hooks = [hooks for part in self.parts for hooks in (part._forward_hooks, part._forward_pre_hooks)]
        self.parameters = [part._parameters for part in self.parts]
        self.settings = [(name, part) for part in self.attributes for name in SETTINGS if name in part]
        self.look, self.tensors = self._look(), self._tensors()
        self.there = [tensor for tensor in self.tensors if tensor is not None]
        self.places = list(map(Tensor.data_ptr, self.there))
        self.shapes = [tensor.shape for tensor in self.there]

    def is_true(self) -> bool:
        """Whether the stack looks the same: nothing exchanged, moved, hooked, overridden or set to something else."""
        tensors = self._tensors()
        return (
            len(tensors) == len(self.tensors)
            and all(map(operator.is_, tensors, self.tensors))
            and self.places == list(map(Tensor.data_ptr, self.there))
            and self.shapes == [tensor.shape for tensor in self.there]
            and self.look == self._look()
        )

    def _tensors(self) -> list[Tensor | None]:
        return list(chain.from_iterable(part.values() for part in self.parameters))

    def _look(self) -> tuple[Any, ...]:
        return (
            list(map(type, self.parts)),
            list(chain.from_iterable(part.values() for part in self.children)),
            list(map(len, self.attributes)),  # what is overridden in a part is one more there
            any(self.hooks),
            [part[name] for name, part in self.settings],
        )


_known: WeakKeyDictionary[nn.ModuleList, _Known] = WeakKeyDictionary()


def _know(stack: nn.ModuleList) -> _Known:
    known = _known.get(stack)
    if known is None or not known.is_true():
        known = _known[stack] = _Known(stack)
    return known


PARTS = (Block, RMSNorm, Mamba2, CausalConv, GatedRMSNorm)  # of the parts that are gone through
METHODS = frozenset(name for kind in PARTS for name, _ in inspect.getmembers(kind, inspect.isfunction))


def is_as_written(block: Block) -> bool:
    """Whether a block is a Mamba-2 of ours, with no part exchanged, hooked or overridden.

    Projections and an MLP may be anything.
    """
    if type(block) is not Block or type(block.mixer) is not Mamba2:
        return False
    mixer = block.mixer
    parts = (block, block.norm, mixer, mixer.conv1d, mixer.norm)
    if tuple(map(type, parts)) != PARTS or mixer.norm.norm_before_gate:
        return False
    return not any(
        part._forward_hooks or part._forward_pre_hooks or not METHODS.isdisjoint(part.__dict__) for part in parts
    )


def _alike(block: Block) -> tuple[Any, ...] | None:
    """What layers of a stretch share; None for a layer that the loops do not know."""
    if not is_as_written(block) or block.mlp is not None:
        return None
    mixer: Mamba2 = block.mixer
    projections, parameters = (mixer.in_proj, mixer.out_proj), list(block.parameters())
    known = all(
        type(projection) in (Projection, StoredProjection)
        and not (projection._forward_hooks or projection._forward_pre_hooks or "forward" in projection.__dict__)
        for projection in projections
    )
    in_place = readable(*parameters) and all(type(parameter) is nn.Parameter for parameter in parameters)
    scales = [projection.scales for projection in projections if isinstance(projection, StoredProjection)]
    if not known or not in_place or any(scale.dtype != torch.float32 for scale in scales):
        return None
    if not _has_its_shapes(block):
        return None
    settings = (block.norm.eps, mixer.norm.eps, mixer.norm.ngroups, mixer.conv1d.activation)
    return mixer.config, *settings, next(mixer.parameters()).dtype


def _has_its_shapes(block: Block) -> bool:
    """Whether each parameter is as large as the config says: the loops know addresses, and no ends."""
    mixer: Mamba2 = block.mixer
    config, conv = mixer.config, mixer.conv1d
    widths = (config.d_inner + config.conv_dim + config.nheads, config.d_inner)
    shapes: list[tuple[Tensor | None, tuple[int, ...]]] = [
        (block.norm.weight, (config.d_model,)),
        (conv.weight, (config.conv_dim, 1, config.d_conv)),
        (conv.bias, (config.conv_dim,)),
        *((vector, (config.nheads,)) for vector in (mixer.dt_bias, mixer.A_log, mixer.D)),
        (mixer.norm.weight, (config.d_inner,)),
    ]
    fit = all(tensor is None or (tensor.shape == shape and tensor.is_floating_point()) for tensor, shape in shapes)
    return fit and all(
        fits(*_kept(projection), rows=rows, columns=columns)
        for projection, rows, columns in (
            (mixer.in_proj, widths[0], config.d_model),
            (mixer.out_proj, config.d_model, config.d_inner),
        )
    )


def _table(blocks: Sequence[Block]) -> np.ndarray:
    """Where the parts of each layer lie: (layers,places), as `loops` numbers them."""
    return np.array([_row(block) for block in blocks])


def _row(block: Block) -> list[int]:
    mixer = block.mixer
    matrices = (_matrix(mixer.in_proj), _matrix(mixer.out_proj))
    convolution = (mixer.conv1d.weight, mixer.conv1d.bias)
    vectors = (block.norm.weight, *convolution, mixer.dt_bias, mixer.A_log, mixer.D, mixer.norm.weight)
    return [place for part in (*matrices, *map(vector, vectors)) for place in part]


def _matrix(projection: nn.Linear | StoredProjection) -> Matrix:
    return matrix(*_kept(projection))


def _kept(projection: nn.Linear | StoredProjection) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Numbers, scales and bias."""
    if isinstance(projection, StoredProjection):
        return projection.numbers, projection.scales, projection.bias
    return projection.weight, None, projection.bias
