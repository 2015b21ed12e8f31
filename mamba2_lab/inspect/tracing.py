"""Everything that happened inside a model while it read one prompt.

`trace` runs the block's own named steps and keeps what each of them made, in tensors of the prompt's length. What would
take l^2 numbers, or a state for every token, is computed when it is asked for. Shapes: see `layer`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mamba2_lab import scan
from mamba2_lab.checks import check_ids, one_sequence
from mamba2_lab.config import tokens_per_piece
from mamba2_lab.inspect.layer import LayerTrace, Positions, check_index
from mamba2_lab.layers import Block, Discretised, LayerState, Mamba2, State
from mamba2_lab.machine import threads
from mamba2_lab.machine.gradients import without_gradients
from mamba2_lab.machine.progress import Progress
from mamba2_lab.model import LanguageModel, Mamba2Cache


@dataclass(frozen=True, eq=False, repr=False)
class Trace:
    """What a model did while it read one prompt.

    input_ids: (l,). layers: one `LayerTrace` each.
    residual: (l,d) the stream after the last layer: layers[0].u plus each layer's output.
    logits: (l,v).
    """

    input_ids: Tensor
    layers: tuple[LayerTrace, ...]
    residual: Tensor
    logits: Tensor

    def __repr__(self) -> str:
        return f"Trace({len(self.input_ids)} tokens, {len(self.layers)} layers of {self.layers[0].dt.shape[1]} heads)"

    @property
    def nbytes(self) -> int:
        """Bytes held by all tensors."""
        tensors = [self.input_ids, self.residual, self.logits]
        tensors += [field for layer in self.layers for field in vars(layer).values() if isinstance(field, Tensor)]
        return sum(tensor.nbytes for tensor in tensors)

    def states(self, layer: int, head: int, positions: Positions | None = None) -> Tensor:
        """(t,p,n): see `LayerTrace.states`."""
        return self._layer(layer).states(head, positions)

    def attention(self, layer: int, head: int, targets: Positions | None = None, *, with_dt: bool = True) -> Tensor:
        """(t,l): see `LayerTrace.attention`."""
        return self._layer(layer).attention(head, targets, with_dt=with_dt)

    def _layer(self, layer: int) -> LayerTrace:
        check_index("layer", layer, len(self.layers))
        return self.layers[layer]


@without_gradients
def trace(
    model: LanguageModel,
    input_ids: Tensor | Sequence[int],
    cache: Mamba2Cache | None = None,
    on_progress: Callable[[float], None] | None = None,
) -> Trace:
    """Read one prompt and keep what happened; a long one in pieces, so that it can be interrupted.

    Args:
        input_ids: (l,) or (1,l), at least one token.
        cache: what was read before the prompt, a cache of one row; None is the beginning. It is left as it was.
        on_progress: called after each layer of each piece with the share of the work that is done, 0 to 1. What it
            raises ends the reading.

    Raises:
        TypeError, ValueError: naming the argument, what was expected and what came.
    """
    ids = one_sequence("input_ids", input_ids)
    check_ids("input_ids", ids, model.config.vocab_size)
    cache = model.new_cache() if cache is None else cache
    model.check_cache(cache, 1)
    layers = [_Tracer(block, state, ids.shape[1]) for block, state in zip(model.blocks, cache.layers, strict=True)]
    ends = _Rows(ids.shape[1])
    size = _piece(model)
    work = Progress(on_progress, -(-ids.shape[1] // size) * (len(layers) + 1), model.device)
    for start in range(0, ids.shape[1], size):
        u = model.embed(ids[:, start : start + size].to(model.device))
        for layer in layers:
            u = threads.on_free_cores(layer.read, start, u)
            work.go_on()
        ends.put(start, residual=u[0], logits=model.unembed(u)[0])
        work.go_on()
    return Trace(ids[0].cpu().clone(), tuple(layer.trace() for layer in layers), **ends.tensors)


def _piece(model: LanguageModel) -> int:
    """Tokens that are read at once, in whole stretches of the scan."""
    spacing = _spacing(model.blocks[0].mixer)
    return max(1, tokens_per_piece(model.config) // spacing) * spacing


class _Rows:
    """Tensors of so many rows, filled piece by piece. On the CPU, in float32 or, if they come in that, float64."""

    def __init__(self, count: int) -> None:
        self._count = count
        self.tensors: dict[str, Tensor] = {}

    def put(self, start: int, **pieces: Tensor) -> None:
        for name, piece in pieces.items():
            if name not in self.tensors:
                self.tensors[name] = _kept(piece[:0]).new_empty(self._count, *piece.shape[1:])
            self.tensors[name][start : start + len(piece)] = piece


class _Tracer:
    """Runs the steps of one block on piece after piece, and keeps what each of them made."""

    def __init__(self, block: Block, before: State, l: int) -> None:
        assert isinstance(before, LayerState)
        self._block, self._state, self._spacing = block, before, _spacing(block.mixer)
        self._window = before.conv_window[0]
        self._tokens, self._stretches = _Rows(l), _Rows(-(-l // self._spacing))

    def read(self, start: int, u: Tensor) -> Tensor:
        """u (1,t,d) of the tokens from `start` on -> the stream after the block."""
        mixer = self._block.mixer
        z, xBC, dt = mixer.project(self._block.norm(u))
        terms = mixer.discretise(mixer.convolve(xBC, self._state.conv_window), dt)
        y, checkpoints, state = _scan_with_checkpoints(mixer, terms, self._state.ssm_state)
        gated = mixer.gate(mixer.skip(y, terms.x), z)
        output = mixer.out(gated)
        heads = (mixer.config.nheads, mixer.config.headdim)
        self._tokens.put(
            start,
            u=u[0],
            z=z[0].unflatten(-1, heads),
            xBC=xBC[0],
            x=terms.x[0],
            dt=terms.dt[0],
            log_decay=terms.log_decay[0],
            B=terms.B[0],
            C=terms.C[0],
            y=y[0],
            gated=gated[0].unflatten(-1, heads),
            output=output[0],
        )
        self._stretches.put(start // self._spacing, checkpoints=checkpoints)
        self._state = LayerState(mixer.conv1d.last_inputs(xBC, self._state.conv_window), state)
        return u + output

    def trace(self) -> LayerTrace:
        """All that was kept."""
        mixer = self._block.mixer
        return LayerTrace(
            **self._tokens.tensors,
            **self._stretches.tensors,
            spacing=self._spacing,
            window=_kept(self._window),
            D=_kept(mixer.D.clone()),
            taps=_kept(mixer.conv1d.weight.squeeze(1).t().clone()),
            conv_bias=_kept(_bias(mixer)),
            log_decay_at_rest=_kept(_at_rest(mixer).log_decay[0, 0]),
        )


def _spacing(mixer: Mamba2) -> int:
    """Tokens between two states that are kept: d_state or more, for the states to take no more room than x."""
    return max(mixer.config.chunk_size, mixer.config.d_state)


def _scan_with_checkpoints(mixer: Mamba2, terms: Discretised, state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The scan in stretches: y (1,l,h,p), the states before each stretch (c,h,p,n), and the state after the last."""
    spacing, x_dt = _spacing(mixer), terms.x_dt
    ys, states = [], []
    for start in range(0, terms.dt.shape[1], spacing):
        part = slice(start, start + spacing)
        states.append(state)
        log_decay, B, C = terms.log_decay[:, part], terms.B[:, part], terms.C[:, part]
        y, state = scan.chunked(x_dt[:, part], log_decay, B, C, state, mixer.config.chunk_size)
        ys.append(y)
    return torch.cat(ys, dim=1), torch.cat(states), state


def _at_rest(mixer: Mamba2) -> Discretised:
    """What the block makes of a token whose projection is 0."""
    config, weight = mixer.config, mixer.in_proj.weight
    return mixer.discretise(weight.new_zeros(1, 1, config.conv_dim), weight.new_zeros(1, 1, config.nheads))


def _bias(mixer: Mamba2) -> Tensor:
    conv = mixer.conv1d
    return conv.weight.new_zeros(mixer.config.conv_dim) if conv.bias is None else conv.bias.clone()


def _kept(tensor: Tensor) -> Tensor:
    """On the CPU, in float32 or, if it is that, float64."""
    return tensor.detach().cpu().to(torch.promote_types(tensor.dtype, torch.float32))
