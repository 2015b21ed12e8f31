"""One text as a model reads it: a stretch at a time, the state carried on, so that memory is bounded whatever its
length; and what each token costs the model."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from mamba2_lab.checks import check_ids, require
from mamba2_lab.data import Document
from mamba2_lab.data.packing import encode
from mamba2_lab.machine.gradients import without_gradients
from mamba2_lab.model import LanguageModel, Mamba2Cache
from mamba2_lab.text import Tokenizer, prompt_ids

WINDOW = 2048  # tokens that attention looks back at, if nothing else is said
LARGEST_LOGITS = 2**25  # numbers: 128 MiB
SMALLEST = 256  # tokens of a stretch that is worth a prefill


class Reading:
    """A text under way, from its beginning on. Before its first token stands what opens a text for the tokenizer, or
    else `end_of_text` (see `prompt_ids`), which is not predicted.

    What a recurrence remembers is carried from stretch to stretch: the figures are those of the whole text in one
    piece. What attention remembers would grow with the text. So a model in which any layer attends reads in windows
    that overlap by half: every token is predicted from at least half a window, or all there is.

    Args:
        segment: tokens read at once; by default as many as keep the logits of a large vocabulary small.
        window: tokens that attention looks back at, at most; by default `WINDOW`. Beyond the length that a model was
            trained on its attention may fail.

    Attributes:
        nats: the sum over all tokens so far of -log(probability). tokens: how many these are.
        lossy: whether the tokenizer has lost something: the text that it gives back is another.
    """

    def __init__(
        self, model: LanguageModel, tokenizer: Tokenizer, segment: int | None = None, window: int | None = None
    ) -> None:
        window = WINDOW if window is None else window
        require(window >= 2, "window", "at least 2", window)
        self.nats, self.tokens, self.lossy = 0.0, 0, False
        self._model, self._tokenizer = model, tokenizer
        self._segment = segment or max(SMALLEST, min(4096, LARGEST_LOGITS // tokenizer.vocab_size // 256 * 256))
        self._cache: Mamba2Cache | None = None
        *self._unread, self._last = prompt_ids(tokenizer, "")
        # A yardstick that is no model of ours cuts windows of its own.
        self._windowed = isinstance(model, LanguageModel) and any(state.grows for state in model.new_cache().layers)
        self._window, self._kept = window, 0  # tokens in the cache, at most and now
        self._recent: deque[int] = deque(maxlen=window // 2)  # the last that were read

    @property
    def bits(self) -> float:
        """Bits for all that was read."""
        return self.nats / math.log(2)

    def read(self, part: Document, on_progress: Callable[[float], None] = lambda share: None) -> None:
        """Read on: the next part of the text, which bears its name.

        Args:
            on_progress: hears after each stretch which share of this part it was.

        Raises:
            ValueError: for a text that the tokenizer refuses, or a token that the model does not have.
            FloatingPointError: if the model gives a token no probability.
        """
        ids = encode(part, self._tokenizer)
        self.lossy |= self._tokenizer.decode(ids) != part.text
        if self.tokens and ids and self._begins_with_a_blank_too_many(ids, part.text):
            del ids[0]  # this is no beginning
        check_ids("tokens", torch.tensor(ids, dtype=torch.long), self._model.config.vocab_size)
        for inputs, targets in self._stretches(ids):
            nats = self._cost_of(inputs, targets)
            if not math.isfinite(nats):
                raise FloatingPointError(f"{part.name}: the model gives a token no probability; got {nats} nats")
            self.nats, self.tokens = self.nats + nats, self.tokens + len(targets)
            on_progress(len(targets) / len(ids))

    def _begins_with_a_blank_too_many(self, ids: list[int], text: str) -> bool:
        """Whether the first of these is what some tokenizers put before every text: a blank, and at a beginning
        nothing; and no blank of the text itself, before which Mistral's put none."""
        decode, token = self._tokenizer.decode, ids[0]
        if decode([token]) or decode([self._last, token]) != decode([self._last]) + " ":
            return False
        return decode([self._last, *ids]) != decode([self._last]) + text

    def _stretches(self, ids: list[int]) -> Iterator[tuple[list[int], list[int]]]:
        """Tokens to read at once, and those that follow them."""
        start, inputs = 0, [self._last, *ids]
        if self._unread and ids:
            self._begin_with(self._unread)
        while start < len(ids):
            if self._windowed and self._kept == self._window:
                self._begin_with(list(self._recent))
            room = self._window - self._kept if self._windowed else self._segment
            stop = start + self._length(min(room, len(ids) - start))
            yield inputs[start:stop], ids[start:stop]
            self._kept += stop - start
            self._recent.extend(inputs[start:stop])
            self._last, start = ids[stop - 1], stop

    def _length(self, most: int) -> int:
        """Of the next stretch, in tokens: a segment, or what is left of it after halving, so that lengths are few. What
        one stretch frees then serves another, where memory that is freed is kept; any length would leave holes."""
        length = self._segment
        while length > most and length > SMALLEST:
            length //= 2
        return min(length, most)

    @without_gradients
    def _cost_of(self, inputs: list[int], targets: list[int]) -> float:
        """Nats for the targets, summed in float64 on the CPU."""
        logits, self._cache = self._model.prefill(torch.tensor([inputs]), self._cache, all_positions=True)
        return float(_nats(logits[0], torch.tensor(targets, device=logits.device)).cpu().double().sum())

    @without_gradients
    def _begin_with(self, ids: list[int]) -> None:
        """Read these first, as what opens a text, or again, as the last half of a window, and predict none."""
        _, self._cache = self._model.prefill(torch.tensor([ids]))
        self._kept, self._unread = len(ids), []


def _nats(logits: Tensor, targets: Tensor) -> Tensor:
    """(l,v), (l,) -> (l,)"""
    return F.cross_entropy(logits, targets, reduction="none")
