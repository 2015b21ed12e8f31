"""The language model: embedding, a stack of blocks on a float32 residual stream, a norm, and the head."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mamba2_lab.checks import check_ids
from mamba2_lab.config import StackFields, config_of, tokens_per_piece
from mamba2_lab.layers import Block, Projection, State, check_state, norm_of
from mamba2_lab.machine import threads, transforms
from mamba2_lab.machine.devices import Device, resolve
from mamba2_lab.machine.gradients import for_backward
from mamba2_lab.machine.progress import Progress
from mamba2_lab.machine.seeds import seeded
from mamba2_lab.model.cache import Mamba2Cache
from mamba2_lab.model.rows import Rows
from mamba2_lab.operation import operation


class LanguageModel(nn.Module):
    """Token ids -> logits of the next token. `Mamba2LM` says what it is made from, and adds what is done with one."""

    def __init__(
        self, config: StackFields | None = None, *, device: Device = "cpu", seed: int | None = None, **fields: Any
    ) -> None:
        super().__init__()
        self.config = config_of(config, fields)
        self.checkpoint_blocks = False  # training sets it: keep no block's insides, compute them again when needed
        device = resolve(device)
        # Weights made under inference_mode could never be trained.
        with torch.inference_mode(False), seeded(seed), torch.device("meta" if device.type == "meta" else "cpu"):
            self._build(self.config)
        self.to(device)

    def _build(self, config: StackFields) -> None:
        self.embedding = nn.Embedding(config.padded_vocab_size, config.d_model)
        self.layers = nn.ModuleList([Block(config, i) for i in range(config.n_layer)])
        self.norm_f = norm_of(config, config.d_model)
        self.lm_head = Projection(config.d_model, config.padded_vocab_size, bias=False)
        self._initialise()
        if config.tie_embeddings:
            self.lm_head.weight = self.embedding.weight

    @torch.no_grad()
    def _initialise(self) -> None:
        """What the official `_init_weights` adds to the initialisation of each mixer."""
        nn.init.normal_(self.embedding.weight, std=0.02)
        named = dict(self.layers.named_parameters())
        writers = [weight for name, weight in named.items() if name.endswith(("out_proj.weight", "fc2.weight"))]
        for weight in writers:  # each adds to the residual stream: scaled so, the sum of all keeps its size (GPT-2)
            weight.div_(math.sqrt(len(writers)))
        for bias in (named[name] for name in named if name.endswith(("in_proj.bias", "out_proj.bias"))):
            nn.init.zeros_(bias)

    @property
    def blocks(self) -> Sequence[Block]:
        """The layers, typed."""
        return self.layers  # type: ignore[return-value]

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.norm_f.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the weights that are floats; states and the residual stream are float32 all the same."""
        return self.norm_f.weight.dtype

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
        """
        rows = self._rows(input_ids, attention_mask, document_ids)
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
        rows = self._rows(input_ids, attention_mask, document_ids)
        last = rows.last_real_token()
        cache = self.new_cache(input_ids.shape[0]) if cache is None else cache
        self.check_cache(cache, input_ids.shape[0])
        pieces = rows.cut(tokens_per_piece(self.config, self.device.type))
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
        return self.advance(for_backward(tokens), cache.for_backward() if torch.is_grad_enabled() else cache)

    def advance(self, tokens: Tensor, cache: Mamba2Cache, *, use_up: bool = False) -> tuple[Tensor, Mamba2Cache]:
        """`step` for a caller who has made its arguments, token after token. `use_up`: the old cache may be lost."""
        logits, states = one_token(self, tokens.to(self.device), cache.layers, use_up)
        return logits, Mamba2Cache(states, cache.tokens_read + 1)

    def _step(self, tokens: Tensor, layers: tuple[State, ...]) -> tuple[Tensor, tuple[State, ...]]:
        u, after = self.embed(tokens), []
        for block, before in zip(self.blocks, layers, strict=True):
            u, state = block.step(u, before)
            after.append(state)
        return self.unembed(u), tuple(after)

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

    def _rows(self, input_ids: Tensor, attention_mask: Tensor | None, document_ids: Tensor | None) -> Rows:
        if input_ids.ndim != 2:
            raise ValueError(f"input_ids must have shape (b,l); got {tuple(input_ids.shape)}")
        check_ids("input_ids", input_ids, self.config.vocab_size)
        return Rows(input_ids, attention_mask, document_ids, self.device)

    def check_cache(self, cache: Mamba2Cache, batch_size: int) -> None:
        """TypeError or ValueError unless it is a cache of this model's layers, and has that many rows."""
        if not isinstance(cache, Mamba2Cache):
            raise TypeError(f"cache must be a Mamba2Cache, as prefill and step give it; got {type(cache).__name__}")
        if len(cache.layers) != self.config.n_layer:
            raise ValueError(f"cache must have {self.config.n_layer} layers, as the model; got {len(cache.layers)}")
        if cache.batch_size != batch_size:
            raise ValueError(f"cache must hold {batch_size} rows, as the tokens; got {cache.batch_size}")
        for i, (layer, state) in enumerate(zip(self.blocks, cache.layers, strict=True)):
            check_state(state, layer.mixer.state_shapes(batch_size), self.device, f"cache.layers[{i}]")

    def _on_free_cores(self, function: Callable[..., Any], *args: Any) -> Any:
        """What the function returns, computed with the threads that `machine/threads.py` chooses for a CPU."""
        keeps = self.device.type != "cpu" or torch.compiler.is_compiling()
        return function(*args) if keeps else threads.on_free_cores(function, *args)

    def _read(
        self, rows: Rows, states: tuple[State, ...], after_layer: Callable[[], None] = lambda: None
    ) -> tuple[Tensor, tuple[State, ...]]:
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


@operation
def one_token(model: LanguageModel, tokens: Tensor, states: tuple[State, ...], use_up: bool) -> tuple[Tensor, Any]:
    """One token in each row: ids (b,) and what each layer remembers -> logits (b,vocab_size), and the same after it."""
    return model._on_free_cores(model._step, tokens, states)
