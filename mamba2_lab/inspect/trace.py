"""Everything that happened inside a model while it read one prompt.

`trace` runs the block's own named steps and keeps what each of them made, in tensors of the prompt's length. What would
take l^2 numbers, or a state for every token, is computed when it is asked for. Shapes: see `layer`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mamba2_lab import scan, threads
from mamba2_lab.cache import LayerState, Mamba2Cache
from mamba2_lab.inspect.layer import LayerTrace, Positions, check_index
from mamba2_lab.mamba2 import Block, Discretised, Mamba2
from mamba2_lab.model import Mamba2LM, check_ids, one_sequence


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
        storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
        return sum(storages.values())  # x, B and C are views of one tensor, z and xBC of another

    def states(self, layer: int, head: int, positions: Positions | None = None) -> Tensor:
        """(t,p,n): see `LayerTrace.states`."""
        return self._layer(layer).states(head, positions)

    def attention(self, layer: int, head: int, targets: Positions | None = None, *, with_dt: bool = True) -> Tensor:
        """(t,l): see `LayerTrace.attention`."""
        return self._layer(layer).attention(head, targets, with_dt=with_dt)

    def _layer(self, layer: int) -> LayerTrace:
        check_index("layer", layer, len(self.layers))
        return self.layers[layer]


@torch.no_grad()
def trace(model: Mamba2LM, input_ids: Tensor | Sequence[int], cache: Mamba2Cache | None = None) -> Trace:
    """Read one prompt and keep what happened.

    Args:
        input_ids: (l,) or (1,l), at least one token.
        cache: what was read before the prompt, a cache of one row; None is the beginning. It is left as it was.

    Raises:
        TypeError, ValueError: naming the argument, what was expected and what came.
    """
    ids = one_sequence("input_ids", input_ids)
    check_ids("input_ids", ids, model.config.vocab_size)
    cache = model.new_cache() if cache is None else cache
    model.check_cache(cache, 1)
    u = model.embed(ids.to(model.device))
    layers = []
    for block, before in zip(model.blocks, cache.layers, strict=True):
        layer, u = threads.on_free_cores(_trace_layer, block, u, before)
        layers.append(layer)
    return Trace(ids[0].cpu().clone(), tuple(layers), _kept(u[0]), _kept(model.unembed(u)[0]))


def _trace_layer(block: Block, u: Tensor, before: LayerState) -> tuple[LayerTrace, Tensor]:
    """The block's steps one by one: u (1,l,d) -> what they made, and the stream after the block."""
    mixer = block.mixer
    z, xBC, dt = mixer.project(block.norm(u))
    terms = mixer.discretise(mixer.convolve(xBC, before.conv_window), dt)
    y, checkpoints, spacing = _scan_with_checkpoints(mixer, terms, before.ssm_state)
    gated = mixer.gate(mixer.skip(y, terms.x), z)
    output = mixer.out(gated)
    heads = (mixer.config.nheads, mixer.config.headdim)
    layer = LayerTrace(
        u=_kept(u[0]),
        z=_kept(z[0].unflatten(-1, heads)),
        xBC=_kept(xBC[0]),
        window=_kept(before.conv_window[0]),
        x=_kept(terms.x[0]),
        dt=_kept(terms.dt[0]),
        log_decay=_kept(terms.log_decay[0]),
        B=_kept(terms.B[0]),
        C=_kept(terms.C[0]),
        y=_kept(y[0]),
        gated=_kept(gated[0].unflatten(-1, heads)),
        output=_kept(output[0]),
        D=_kept(mixer.D.clone()),
        taps=_kept(mixer.conv1d.weight.squeeze(1).t().clone()),
        conv_bias=_kept(_bias(mixer)),
        log_decay_at_rest=_kept(_at_rest(mixer).log_decay[0, 0]),
        checkpoints=_kept(checkpoints),
        spacing=spacing,
    )
    return layer, u + output


def _scan_with_checkpoints(mixer: Mamba2, terms: Discretised, state: Tensor) -> tuple[Tensor, Tensor, int]:
    """The scan in stretches of `spacing` tokens: y (1,l,h,p), and the states before each stretch (c,h,p,n).

    Stretches of d_state tokens or more: then the states take no more room than x.
    """
    spacing = max(mixer.config.chunk_size, mixer.config.d_state)
    x_dt = terms.x_dt
    ys, states = [], []
    for start in range(0, terms.dt.shape[1], spacing):
        part = slice(start, start + spacing)
        states.append(state)
        log_decay, B, C = terms.log_decay[:, part], terms.B[:, part], terms.C[:, part]
        y, state = scan.chunked(x_dt[:, part], log_decay, B, C, state, mixer.config.chunk_size)
        ys.append(y)
    return torch.cat(ys, dim=1), torch.cat(states), spacing


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
