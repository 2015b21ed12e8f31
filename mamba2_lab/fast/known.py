"""What the loops know of a model: where its weights lie, and whether it still is what it was.

They read the weights where they lie, and know their addresses alone. So before each token it is looked whether the
model has the same parts, parameters in the same place, nothing overridden or hooked. What was written into a parameter
is read at the next token, as always. A look is a few calls into C, over lists that were made once.
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable, Sequence
from itertools import chain, groupby
from typing import Any, NamedTuple, TypeGuard
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn

from mamba2_lab.fast.rows import KINDS, Matrix, fits, matrix, readable, vector
from mamba2_lab.layers import Block, CausalConv, GatedRMSNorm, Mamba1, Mamba2, Mamba3, Projection, RMSNorm
from mamba2_lab.layers.stored import StoredProjection
from mamba2_lab.machine import threads
from mamba2_lab.model import LanguageModel

PARTS = (Block, RMSNorm, Mamba2, CausalConv, GatedRMSNorm)  # of the parts that are gone through
KINDS_OF_PARTS = (*PARTS, Mamba1, Mamba3)
METHODS = frozenset(name for kind in KINDS_OF_PARTS for name, _ in inspect.getmembers(kind, inspect.isfunction))
SETTINGS = ("config", "eps", "ngroups", "norm_before_gate", "activation")  # of the parts, that the loops know


class Head(NamedTuple):
    """The last norm and the head."""

    places: np.ndarray  # as `loops` numbers them
    eps: np.float32
    vocab_size: int
    numbers: int


NO_HEAD = Head(np.zeros(7, np.int64), np.float32(0), 0, 0)


class Stretch:
    """Layers that follow one another and are gone through in one call: all by the loops, or each as it is written."""

    def __init__(self, blocks: Sequence[Block], are_known: bool) -> None:
        self.blocks = blocks
        self.table = np.array(list(map(_row, blocks))) if are_known else None  # (layers,places)
        if are_known:
            mixer = blocks[0].mixer
            config, norm = mixer.config, mixer.norm
            self.d_model, self.window_dtype = config.d_model, next(mixer.parameters()).dtype  # as in an initial state
            heads = (config.nheads, config.headdim, config.ngroups, config.d_state, config.d_conv)
            shapes = mixer.state_shapes(1)
            self.window_shape, self.memory_shape = shapes["conv_window"][1:], shapes["ssm_state"][1:]
            self.sizes = (*heads, norm.ngroups, KINDS[self.window_dtype], int(mixer.conv1d.activation))
            self.reals = tuple(np.float32(real) for real in (blocks[0].norm.eps, norm.eps, *config.dt_limit))
            self.widths = (config.d_inner + config.conv_dim + config.nheads, config.d_inner)
            self.memory_numbers = config.nheads * config.headdim * config.d_state  # of a layer
            self.numbers = len(blocks) * config.d_model * sum(self.widths)


class Known:
    """A model as it was when its addresses were written down. It does not hold the model, which may go at any time."""

    def __init__(self, model: LanguageModel) -> None:
        grouped = groupby(model.blocks, _alike)
        self.stretches = [Stretch(list(alike), shared is not None) for shared, alike in grouped]
        self.head = _head(model)
        stack = model.layers
        self.parts = [part for part in (*stack.modules(), *_ends(model)) if part is not stack]
        attributes = [part.__dict__ for part in self.parts]
        self.attributes, self.overridden = attributes, len(model.__dict__)
        self.children: list[dict[str, Any]] = [model._modules, stack._modules, *(part._modules for part in self.parts)]
        self.hooks = [hooks for part in self.parts for hooks in (part._forward_hooks, part._forward_pre_hooks)]
        self.parameters = [part._parameters for part in self.parts]
        settings = [(part, name) for part in attributes for name in SETTINGS if name in part]
        self.settings = [part for part, _ in settings], [name for _, name in settings]
        self.look, self.tensors = self._look(), self._tensors()
        self.there = [tensor for tensor in self.tensors if tensor is not None]
        self.places, self.shapes = list(map(Tensor.data_ptr, self.there)), list(map(_shape, self.there))

    @property
    def serves(self) -> bool:
        """Whether there is a layer that the loops know."""
        return any(stretch.table is not None for stretch in self.stretches)

    def is_true(self, model: LanguageModel) -> bool:
        """Whether the model looks the same: nothing exchanged, moved, hooked, overridden or set to something else."""
        tensors = self._tensors()
        return (
            len(model.__dict__) == self.overridden
            and len(tensors) == len(self.tensors)
            and all(map(operator.is_, tensors, self.tensors))
            and self.places == list(map(Tensor.data_ptr, self.there))
            and self.shapes == list(map(_shape, self.there))
            and self.look == self._look()
        )

    def _tensors(self) -> list[Tensor | None]:
        return list(chain.from_iterable(map(_values, self.parameters)))

    def _look(self) -> tuple[Any, ...]:
        return (
            list(map(type, self.parts)),
            list(chain.from_iterable(map(_values, self.children))),
            list(map(len, self.attributes)),  # what is overridden in a part is one more there
            any(self.hooks),
            list(map(operator.getitem, *self.settings)),
        )


_shape: Any = Tensor.shape.__get__  # type: ignore[attr-defined]
_values: Any = dict.values
_known: WeakKeyDictionary[LanguageModel, Known] = WeakKeyDictionary()


def look(model: LanguageModel) -> Known:
    """What is known of a model, and true now."""
    known = _known.get(model)
    if known is None or not known.is_true(model):
        known = _known[model] = Known(model)
    return known


def last_look(model: LanguageModel) -> Known:
    """What the last look has found."""
    return _known[model]


class CompiledStep:
    """Compiled code in the place of a model's step; while other processes take cores, it gives way."""

    def __init__(self, model: LanguageModel, step: Callable[..., Any]) -> None:
        self._model, self._step = model, step

    def __call__(self, tokens: Tensor, layers: tuple[Any, ...]) -> Any:
        return self._step(self._model, tokens, layers)

    def gives_way(self) -> bool:
        """Whether to step as it is written is sooner now."""
        return threads.are_taken(self._model.device)


def has_its_own_step(model: LanguageModel) -> bool:
    """Whether it steps as it is written: nobody has overridden that, nor compiled it to code that holds now."""
    step = model.__dict__.get("_step")
    instead = step is not None and not (isinstance(step, CompiledStep) and step.gives_way())
    return type(model)._step is LanguageModel._step and not instead


# Layers


def is_as_written(block: Block) -> bool:
    """Whether a block is a Mamba-2 of ours, with no part exchanged, hooked or overridden.

    Projections and an MLP may be anything.
    """
    if type(block) is not Block or type(block.mixer) is not Mamba2:
        return False
    mixer = block.mixer
    parts = (block, block.norm, mixer, mixer.conv1d, mixer.norm)
    return tuple(map(type, parts)) == PARTS and not mixer.norm.norm_before_gate and are_unchanged(*parts)


def are_unchanged(*parts: nn.Module) -> bool:
    """Whether nothing is hooked to any of these, and nothing overridden in it."""
    return not any(map(_is_changed, parts))


def _is_changed(part: nn.Module) -> bool:
    overridden = METHODS & part.__dict__.keys()
    if type(part) is Block:  # whose forward no step calls: what was compiled for sequences may stand there
        overridden -= {"forward"}
    return bool(part._forward_hooks or part._forward_pre_hooks or overridden)


def _is_known(projection: nn.Module) -> TypeGuard[Projection | StoredProjection]:
    """Whether it is a matrix that the loops can multiply with, where it lies."""
    if type(projection) not in (Projection, StoredProjection) or _is_changed(projection):
        return False
    scales = getattr(projection, "scales", None)
    return _are_readable(projection) and (scales is None or scales.dtype == torch.float32)


def _are_readable(part: nn.Module) -> bool:
    parameters = list(part.parameters())
    return readable(*parameters) and all(type(parameter) is nn.Parameter for parameter in parameters)


def _alike(block: Block) -> tuple[Any, ...] | None:
    """What layers of a stretch share; None for a layer that the loops do not know."""
    if not is_as_written(block) or block.mlp is not None or not _are_readable(block):
        return None
    mixer: Mamba2 = block.mixer
    if not (_is_known(mixer.in_proj) and _is_known(mixer.out_proj) and _has_its_shapes(block)):
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


def _row(block: Block) -> list[int]:
    """Where the parts of a layer lie, as `loops` numbers them."""
    mixer = block.mixer
    matrices = (_matrix(mixer.in_proj), _matrix(mixer.out_proj))
    convolution = (mixer.conv1d.weight, mixer.conv1d.bias)
    vectors = (block.norm.weight, *convolution, mixer.dt_bias, mixer.A_log, mixer.D, mixer.norm.weight)
    return [place for part in (*matrices, *map(vector, vectors)) for place in part]


# What comes behind them


def _ends(model: LanguageModel) -> tuple[nn.Module, nn.Module]:
    return model.norm_f, model.lm_head


def _head(model: LanguageModel) -> Head | None:
    """Where the last norm and the head lie; None if the loops do not know them."""
    norm, head = _ends(model)
    overridden = type(model).unembed is not LanguageModel.unembed or "unembed" in model.__dict__
    if overridden or type(norm) is not RMSNorm or _is_changed(norm) or not _are_readable(norm) or not _is_known(head):
        return None
    config, floats = model.config, norm.weight.is_floating_point()
    shapes = fits(*_kept(head), rows=config.padded_vocab_size, columns=config.d_model)
    if not shapes or not floats or norm.weight.shape != (config.d_model,):
        return None
    places = np.array([*_matrix(head), *vector(norm.weight)])
    return Head(places, np.float32(norm.eps), config.vocab_size, config.vocab_size * config.d_model)


def _matrix(projection: nn.Linear | StoredProjection) -> Matrix:
    return matrix(*_kept(projection))


def _kept(projection: nn.Linear | StoredProjection) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Numbers, scales and bias."""
    if isinstance(projection, StoredProjection):
        return projection.numbers, projection.scales, projection.bias
    return projection.weight, None, projection.bias
