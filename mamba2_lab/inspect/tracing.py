"""Everything that happened inside a model while it read one prompt.

`trace` runs the named steps of every block and keeps what each of them made, in tensors of the prompt's length. What
would take l^2 numbers, or a state for every token, is computed when it is asked for. Shapes: see `layer`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from mamba2_lab.checks import check_ids, one_sequence
from mamba2_lab.config import tokens_per_piece
from mamba2_lab.inspect.layer import LayerTrace, Positions, check_index
from mamba2_lab.inspect.of_attention import AttentionTracer
from mamba2_lab.inspect.of_mamba1 import Mamba1Tracer
from mamba2_lab.inspect.of_mamba2 import Mamba2Tracer
from mamba2_lab.inspect.of_mamba3 import Mamba3Tracer
from mamba2_lab.inspect.tracer import Rows, Tracer
from mamba2_lab.machine import threads
from mamba2_lab.machine.gradients import without_gradients
from mamba2_lab.machine.progress import Progress
from mamba2_lab.model import LanguageModel, Mamba2Cache
from mamba2_lab.words import counted

TRACERS: Mapping[str, type[Tracer]] = {  # by the name of the mixer
    "mamba1": Mamba1Tracer,
    "mamba2": Mamba2Tracer,
    "mamba3": Mamba3Tracer,
    "attention": AttentionTracer,
}


@dataclass(frozen=True, eq=False, repr=False)
class Trace:
    """What a model did while it read one prompt.

    input_ids: (l,). layers: one `LayerTrace` each, of the kind of its mixer.
    residual: (l,d) the stream after the last layer: layers[0].u plus each layer's output, and what its MLP adds.
    logits: (l,v).
    """

    input_ids: Tensor
    layers: tuple[LayerTrace, ...]
    residual: Tensor
    logits: Tensor

    def __repr__(self) -> str:
        return f"Trace({len(self.input_ids)} tokens, {self._kinds()})"

    @property
    def nbytes(self) -> int:
        """Bytes held by all tensors."""
        tensors = [self.input_ids, self.residual, self.logits]
        tensors += [field for layer in self.layers for field in vars(layer).values() if isinstance(field, Tensor)]
        return sum(tensor.nbytes for tensor in tensors)

    def states(self, layer: int, head: int, positions: Positions | None = None) -> Tensor:
        """(t,p,n): see `states` of the layer's trace."""
        return self._layer(layer).states(head, positions)

    def attention(self, layer: int, head: int, targets: Positions | None = None, *, with_dt: bool = True) -> Tensor:
        """(t,l): see `attention` of the layer's trace."""
        return self._layer(layer).attention(head, targets, with_dt=with_dt)

    def _layer(self, layer: int) -> LayerTrace:
        check_index("layer", layer, len(self.layers))
        return self.layers[layer]

    def _kinds(self) -> str:
        """Of what layers there are: how many of each kind, and of how many heads."""
        kinds = Counter((layer.mixer, layer.heads) for layer in self.layers)
        if len(kinds) == 1:
            return f"{len(self.layers)} layers of {self.layers[0].heads} heads"
        return ", ".join(f"{counted(n, f'{mixer} layer')} of {heads} heads" for (mixer, heads), n in kinds.items())


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
    layers = _tracers(model, cache, ids.shape[1])
    ends = Rows(ids.shape[1])
    size = _piece(model, layers[0].spacing)
    work = Progress(on_progress, -(-ids.shape[1] // size) * (len(layers) + 1), model.device)
    for start in range(0, ids.shape[1], size):
        u = model.embed(ids[:, start : start + size].to(model.device))
        for layer in layers:
            u = threads.on_free_cores(layer.read, start, u)
            work.go_on()
        ends.put(start, residual=u[0], logits=model.unembed(u)[0])
        work.go_on()
    return Trace(ids[0].cpu().clone(), tuple(layer.trace() for layer in layers), **ends.tensors)


def _tracers(model: LanguageModel, cache: Mamba2Cache, l: int) -> list[Tracer]:
    """One for each layer, by the name of its mixer; all with the same spacing, so that pieces suit all."""
    kinds = [TRACERS[model.config.layer(i).mixer] for i in range(len(model.blocks))]
    spacing = max(kind.least_spacing(block.mixer) for kind, block in zip(kinds, model.blocks, strict=True))
    each = enumerate(zip(kinds, model.blocks, cache.layers, strict=True))
    return [kind(i, block, state, l, spacing) for i, (kind, block, state) in each]


def _piece(model: LanguageModel, spacing: int) -> int:
    """Tokens that are read at once, in whole stretches of the scan."""
    return max(1, tokens_per_piece(model.config) // spacing) * spacing
