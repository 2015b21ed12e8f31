"""The language model: embedding, a stack of blocks on a float32 residual stream, a norm, and the head."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mamba2_lab import threads, transforms
from mamba2_lab.cache import LayerState, Mamba2Cache, for_backward
from mamba2_lab.checks import require_seed
from mamba2_lab.config import Mamba2Config
from mamba2_lab.device import resolve, synchronise
from mamba2_lab.mamba2 import Block, RMSNorm
from mamba2_lab.projection import Projection

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedModel

    from mamba2_lab.tokenizer import Tokenizer

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

# For torch.compile's own backend on a CPU. A step multiplies matrices with one vector each; a short chain of operations
# that made the vector would be computed again for every row, so let a chain be 8 operations at most. The sizes of a
# thousand tensors need not be asserted in each step: they were guarded when it was called. And loops are vectorised
# even where one of their inputs, such as the taps of the convolution, is not read in order: 0.93 of 130m's prefill.
CPU_OPTIONS = {"realize_opcount_threshold": 8, "size_asserts": False, "cpp.enable_tiling_heuristics": False}


class Mamba2LM(nn.Module):
    """A Mamba-2 language model.

    >>> model = Mamba2LM(d_model=256, n_layer=4, d_state=16, vocab_size=100)
    >>> model(torch.tensor([[1, 2, 3]])).shape
    torch.Size([1, 3, 100])

    Args:
        config: the shape of the model; or give the fields of `Mamba2Config` as keywords instead.
        device: where the weights go. They are drawn on the CPU first, so a seed gives the same model everywhere.
        seed: draw the weights from this seed; None draws from torch's own CPU generator.
        fields: fields of `Mamba2Config`.

    Raises:
        TypeError: if both a config and fields are given.
        ValueError: for an unknown field or a value that does not fit, as `Mamba2Config` says it.
    """

    def __init__(
        self,
        config: Mamba2Config | None = None,
        *,
        device: torch.device | str = "cpu",
        seed: int | None = None,
        **fields: Any,
    ) -> None:
        super().__init__()
        if config is not None and fields:
            raise TypeError(f"give a config or its fields, not both; got a config and {', '.join(fields)}")
        if not isinstance(config, Mamba2Config | None):
            raise TypeError(f"config must be a Mamba2Config; got {type(config).__name__}")
        self.config = config = config or Mamba2Config.from_dict(fields)
        self.checkpoint_blocks = False  # training sets it: keep no block's insides, compute them again when needed
        device = resolve(device)
        if seed is not None:
            require_seed(seed)
        # Weights made under inference_mode could never be trained.
        with torch.inference_mode(False), torch.random.fork_rng(devices=[], enabled=seed is not None):
            if seed is not None:
                torch.default_generator.manual_seed(seed)
            self._build(config, "meta" if device.type == "meta" else "cpu")
        self.to(device)

    def _build(self, config: Mamba2Config, device: str) -> None:
        self.embedding = nn.Embedding(config.padded_vocab_size, config.d_model, device=device)
        self.layers = nn.ModuleList([Block(config, device=device) for _ in range(config.n_layer)])
        self.norm_f = RMSNorm(config.d_model, config.norm_eps, device=device)
        self.lm_head = Projection(config.d_model, config.padded_vocab_size, bias=False, device=device)
        self._initialise()
        if config.tie_embeddings:
            self.lm_head.weight = self.embedding.weight

    @torch.no_grad()
    def _initialise(self) -> None:
        """What the official `_init_weights` adds to the initialisation of each mixer."""
        nn.init.normal_(self.embedding.weight, std=0.02)
        for layer in self.blocks:
            # Each layer adds to the residual stream; scaled so, the sum of n_layer of them keeps its size (GPT-2).
            layer.mixer.out_proj.weight /= math.sqrt(self.config.n_layer)
            for projection in (layer.mixer.in_proj, layer.mixer.out_proj):
                if projection.bias is not None:
                    nn.init.zeros_(projection.bias)

    @property
    def blocks(self) -> Sequence[Block]:
        """The layers, typed."""
        return self.layers  # type: ignore[return-value]

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.embedding.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the weights; states and the residual stream are float32 all the same."""
        return self.embedding.weight.dtype

    def num_parameters(self) -> int:
        """Number of weights, tied ones counted once."""
        return sum(parameter.numel() for parameter in self.parameters())

    def forward(
        self, input_ids: Tensor, *, attention_mask: Tensor | None = None, document_ids: Tensor | None = None
    ) -> Tensor:
        """Next-token logits at every position.

        Args:
            input_ids: (b,l) integers, on any device.
            attention_mask: (b,l), 1 or True where a token is real. Padding may be left, right or in between: it
                changes nothing for the real tokens. Logits at padding mean nothing.
            document_ids: (b,l) integers; nothing passes from one document to the next.

        Returns:
            (b,l,vocab_size), in float32.

        Raises:
            TypeError, ValueError: naming the argument, what was expected and what came.
        """
        rows = _Rows(self, input_ids, attention_mask, document_ids)
        u, _ = self._read(rows, self.new_cache(input_ids.shape[0]).layers)
        return self.unembed(rows.in_given_order(u))

    def prefill(
        self,
        input_ids: Tensor,
        cache: Mamba2Cache | None = None,
        *,
        attention_mask: Tensor | None = None,
        document_ids: Tensor | None = None,
        all_positions: bool = False,
        on_progress: Callable[[float], None] | None = None,
    ) -> tuple[Tensor, Mamba2Cache]:
        """Read tokens, from the beginning or from a cache: all at once, or a long text in pieces.

        Args:
            cache: what was read before; None is the beginning. It is left as it was.
            input_ids, attention_mask, document_ids: as for `forward`; each row needs at least one real token.
            all_positions: return logits at every position, as `forward` does. A large vocabulary makes them large.
            on_progress: called after each layer of each piece with the share of the work that is done, 0 to 1. What it
                raises ends the reading, and leaves everything as it was.

        Returns:
            Logits after the last real token of each row (b,vocab_size), or (b,l,vocab_size) for all positions; and the
            cache that continues from there.
        """
        rows = _Rows(self, input_ids, attention_mask, document_ids)
        last = rows.last_real_token()
        cache = self.new_cache(input_ids.shape[0]) if cache is None else cache
        self.check_cache(cache, input_ids.shape[0])
        pieces = rows.cut(tokens_per_piece(self.config))
        work = Progress(on_progress, len(pieces) * self.config.n_layer, self.device)
        states, read, at_last = cache.for_backward().layers, [], None
        for piece in pieces:
            u, states = self._read(piece, states, work.go_on)
            if all_positions:
                read.append(u)
            else:
                at_last = piece.at_last_real_token(u, last, at_last)
        cache = Mamba2Cache(states, cache.tokens_read + last + 1)
        return self.unembed(rows.in_given_order(torch.cat(read, dim=1)) if at_last is None else at_last), cache

    def step(self, tokens: Tensor, cache: Mamba2Cache) -> tuple[Tensor, Mamba2Cache]:
        """Read one token per row: tokens (b,) and a cache -> logits (b,vocab_size) and the cache one token later."""
        if tokens.ndim != 1:
            raise ValueError(f"tokens must have shape (b,); got {tuple(tokens.shape)}")
        check_ids("tokens", tokens, self.config.vocab_size)
        self.check_cache(cache, tokens.shape[0])
        tokens, layers = for_backward(tokens.to(self.device)), cache.for_backward().layers
        logits, states = self._on_free_cores(self._step, tokens, layers)
        return logits, Mamba2Cache(states, cache.tokens_read + 1)

    def _step(self, tokens: Tensor, layers: tuple[LayerState, ...]) -> tuple[Tensor, tuple[LayerState, ...]]:
        u = self.embed(tokens)
        states = []
        for layer, before in zip(self.blocks, layers, strict=True):
            u, after = layer.step(u, before)
            states.append(after)
        return self.unembed(u), tuple(states)

    def new_cache(self, batch_size: int = 1) -> Mamba2Cache:
        """What stands before the first token of each of `batch_size` sequences."""
        layers = tuple(layer.mixer.initial_state(batch_size) for layer in self.blocks)
        return Mamba2Cache(layers, torch.zeros(batch_size, dtype=torch.long, device=self.device))

    def embed(self, input_ids: Tensor) -> Tensor:
        """The residual stream before the first block: (b,l) -> (b,l,d_model)."""
        u = self.embedding(input_ids.long())  # bytes are welcome as uint8; a lookup takes int32 and int64 only
        return u.to(torch.promote_types(u.dtype, torch.float32))

    def unembed(self, u: Tensor) -> Tensor:
        """Logits from the residual stream after the last block: (...,d_model) -> (...,vocab_size)."""
        logits = self.lm_head(self.norm_f(u))[..., : self.config.vocab_size]
        return logits.to(torch.promote_types(logits.dtype, torch.float32))

    def check_cache(self, cache: Mamba2Cache, batch_size: int) -> None:
        """TypeError or ValueError unless it is a cache of this model's layers, and has that many rows."""
        if not isinstance(cache, Mamba2Cache):
            raise TypeError(f"cache must be a Mamba2Cache, as prefill and step give it; got {type(cache).__name__}")
        if len(cache.layers) != self.config.n_layer:
            raise ValueError(f"cache must have {self.config.n_layer} layers, as the model; got {len(cache.layers)}")
        if cache.batch_size != batch_size:
            raise ValueError(f"cache must hold {batch_size} rows, as the tokens; got {cache.batch_size}")
        for i, (layer, state) in enumerate(zip(self.blocks, cache.layers, strict=True)):
            layer.mixer.check_state(state, batch_size, f"cache.layers[{i}]")

    def compile(self, **options: Any) -> None:
        """From now on let torch.compile fuse what `forward`, `prefill` and `step` do.

        The first call of each kind takes a minute or so. For sequences one block is compiled and all use it, in a third
        of the time that the whole stack would take; but a step does so little that going in and out of each block
        would be a tenth to a third of it, so that one is compiled whole. `uncompile` takes it back.

        Args:
            options: those of `torch.compile`; without any, `CPU_OPTIONS` go to its backend on a CPU.
        """
        if not options and self.device.type == "cpu":
            options = {"options": CPU_OPTIONS}
        read = torch.compile(Block.forward, **options)
        # For sizes left open torch 2.13 writes loops on a CPU that, with gradients, write outside of their tensors.
        learn = torch.compile(Block.forward, **{"dynamic": False, **options})

        def forward(block: Block, *args: Any, **kwargs: Any) -> tuple[Tensor, LayerState]:
            return (learn if torch.is_grad_enabled() else read)(block, *args, **kwargs)

        for block in self.blocks:
            block.forward = functools.partial(forward, block)  # type: ignore[method-assign]
        self._step = functools.partial(torch.compile(Mamba2LM._step, **options), self)  # type: ignore[method-assign]

    def uncompile(self) -> None:
        """Back to the code as it is written."""
        self.__dict__.pop("_step", None)
        for block in self.blocks:
            block.__dict__.pop("forward", None)

    def generate(self, input_ids: Tensor, **options: Any) -> Tensor:
        """Continue each row; see `mamba2_lab.generation.generate` for the options."""
        from mamba2_lab.generation import generate

        return generate(self, input_ids, **options)

    @classmethod
    def from_pretrained(
        cls, source: str | Path, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
    ) -> Mamba2LM:
        """A model in the box ("small"), a folder, or a Hub id; see `mamba2_lab.checkpoint.load`."""
        from mamba2_lab.checkpoint import load

        return load(source, device=device, dtype=dtype)

    def save_pretrained(self, folder: str | Path, *, tokenizer: Tokenizer | None = None) -> None:
        """Write config and weights into a folder; see `mamba2_lab.checkpoint.save`."""
        from mamba2_lab.checkpoint import save

        save(self, folder, tokenizer=tokenizer)

    @classmethod
    def from_transformers(cls, hf_model: PreTrainedModel) -> Mamba2LM:
        """The same model from a transformers `Mamba2ForCausalLM`."""
        from mamba2_lab.checkpoint import from_transformers

        return from_transformers(hf_model)

    def to_transformers(self) -> PreTrainedModel:
        """The same model as a transformers `Mamba2ForCausalLM`."""
        from mamba2_lab.checkpoint import to_transformers

        return to_transformers(self)

    def _on_free_cores(
        self, function: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> Result:
        """What the function returns, computed on a CPU with no more threads than there are free cores: see `threads`.

        Compiled code keeps its number of threads: for each other one torch.compile would begin anew.
        """
        compiled = torch.compiler.is_compiling() or "_step" in self.__dict__
        if compiled or self.device.type != "cpu":
            return function(*args, **kwargs)
        return threads.on_free_cores(function, *args, **kwargs)

    def _read(
        self, rows: _Rows, states: tuple[LayerState, ...], after_layer: Callable[[], None] = lambda: None
    ) -> tuple[Tensor, tuple[LayerState, ...]]:
        """The residual stream after the last block (b,l,d_model), real tokens first, and the states left behind."""
        u = self.embed(rows.input_ids)
        # torch.func knows no way to compute again in a backward pass.
        recompute = self.checkpoint_blocks and torch.is_grad_enabled() and not transforms.by_torch_func()
        left_behind = []
        for layer, before in zip(self.blocks, states, strict=True):
            call: Callable[..., Any] = functools.partial(layer, lengths=rows.lengths, document_ids=rows.document_ids)
            if recompute:
                call = functools.partial(checkpoint, call, use_reentrant=False)
            u, after = self._on_free_cores(call, u, before)
            left_behind.append(after)
            after_layer()
        return u, tuple(left_behind)


class _Rows:
    """Token ids in the one form the blocks know: real tokens first, then padding.

    Mamba-2 has no positions: sliding the real tokens of a row together changes nothing for them. So left padding,
    right padding and holes all become right padding here, and the results are put back afterwards.
    """

    def __init__(
        self, model: Mamba2LM, input_ids: Tensor, attention_mask: Tensor | None, document_ids: Tensor | None
    ) -> None:
        if input_ids.ndim != 2:
            raise ValueError(f"input_ids must have shape (b,l); got {tuple(input_ids.shape)}")
        check_ids("input_ids", input_ids, model.config.vocab_size)
        for name, given in (("attention_mask", attention_mask), ("document_ids", document_ids)):
            if given is not None and given.shape != input_ids.shape:
                raise ValueError(
                    f"{name} must have the shape of input_ids, {tuple(input_ids.shape)}; got {tuple(given.shape)}"
                )
        self.input_ids = for_backward(input_ids.to(model.device))
        self.document_ids = None if document_ids is None else document_ids.to(model.device)
        self.start = 0  # of a piece, in the rows that it was cut from
        self.order: Tensor | None = None
        self.lengths: Tensor | None = None
        if attention_mask is not None:
            self._real_tokens_first(attention_mask.to(model.device).bool())

    def _real_tokens_first(self, real: Tensor) -> None:
        self.order = torch.argsort((~real).to(torch.int32), dim=1, stable=True)
        self.lengths = real.sum(dim=1)
        self.input_ids = self.input_ids.gather(1, self.order)
        if self.document_ids is not None:
            self.document_ids = self.document_ids.gather(1, self.order)

    def in_given_order(self, u: Tensor) -> Tensor:
        """(b,l,d) with each token back where it was given."""
        if self.order is None:
            return u
        index = self.order.unsqueeze(-1).expand_as(u)
        return torch.zeros_like(u).scatter(1, index, u)

    def cut(self, size: int) -> list[_Rows]:
        """Pieces of so many tokens. Documents are not cut: if one began with a piece, nobody would see it."""
        l = self.input_ids.shape[1]
        if l <= size or self.document_ids is not None:
            return [self]
        return [self._piece(start, size) for start in range(0, l, size)]

    def _piece(self, start: int, size: int) -> _Rows:
        piece = copy.copy(self)
        piece.start, piece.input_ids = start, self.input_ids[:, start : start + size]
        if self.lengths is not None:
            piece.lengths = (self.lengths - start).clamp(0, piece.input_ids.shape[1])
        return piece

    def at_last_real_token(self, u: Tensor, last: Tensor, otherwise: Tensor | None) -> Tensor:
        """u (b,l,d) of this piece at `last` (b,), counted over all pieces -> (b,d); `otherwise` if elsewhere."""
        index = last - self.start
        found = u.gather(1, index.clamp(0, u.shape[1] - 1)[:, None, None].expand(-1, 1, u.shape[-1])).squeeze(1)
        here = (0 <= index) & (index < u.shape[1])
        return found if otherwise is None else torch.where(here[:, None], found, otherwise)

    def last_real_token(self) -> Tensor:
        """(b,) the index of each row's last real token.

        Raises:
            ValueError: if a row has none.
        """
        b, l = self.input_ids.shape
        if l == 0:
            raise ValueError(f"input_ids must hold at least one token per row; got shape {(b, l)}")
        if self.lengths is None:
            return torch.full((b,), l - 1, device=self.input_ids.device)
        if not transforms.by_torch_func():  # a mapped tensor has no values to look at
            empty = (self.lengths == 0).nonzero().flatten().tolist()
            if empty:
                raise ValueError(f"attention_mask must mark at least one real token per row; row {empty[0]} has none")
        return self.lengths - 1


def tokens_per_piece(config: Mamba2Config) -> int:
    """How many tokens of a long prompt are read at once, in whole chunks.

    The scan takes a thousand at once anyway, so pieces of as many cost nothing. Wide models take fewer: a layer of a
    piece has to end before somebody who asks to stop is heard.
    """
    most = min(1024, max(256, 2**30 // config.d_model**2))
    return max(1, most // config.chunk_size) * config.chunk_size


class Progress:
    """Tells a listener which share of the work is done, once it really is: a GPU works behind the program."""

    def __init__(self, listener: Callable[[float], None] | None, total: int, device: torch.device) -> None:
        self._listener, self._total, self._device = listener, total, device
        self._done = 0

    def go_on(self) -> None:
        """One part more is done."""
        if self._listener is not None:
            self._done += 1
            synchronise(self._device)
            self._listener(self._done / self._total)


def check_ids(name: str, ids: Tensor, vocab_size: int) -> None:
    """Integers inside the vocabulary. Values are read only on the CPU: elsewhere it would stall the device. Under a
    compiler or torch.func there are none to read."""
    if ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool:
        raise TypeError(f"{name} must be integers; got {ids.dtype}")
    if torch.compiler.is_compiling() or transforms.by_torch_func() or ids.device.type != "cpu" or ids.numel() == 0:
        return
    low, high = int(ids.min()), int(ids.max())
    if low < 0 or high >= vocab_size:
        raise ValueError(
            f"{name} must lie in 0..{vocab_size - 1} (vocab_size {vocab_size}); got {low if low < 0 else high}"
        )


def one_sequence(name: str, ids: Tensor | Sequence[int]) -> Tensor:
    """Token ids of one sequence, (l,) or (1,l) -> (1,l); TypeError for a text, ValueError for anything else."""
    if isinstance(ids, str):
        raise TypeError(f"{name} must be token ids, as tokenizer.encode gives them; got the text {ids!r}")
    rows = torch.as_tensor(ids)
    rows = rows.unsqueeze(0) if rows.ndim == 1 else rows
    if rows.ndim != 2 or rows.shape[0] != 1 or rows.shape[1] == 0:
        raise ValueError(
            f"{name} must be one sequence of at least one token, (l,) or (1,l); got shape {tuple(rows.shape)}"
        )
    return rows
