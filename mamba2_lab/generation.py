"""Writing on: read the prompt once, then one token at a time from a cache of constant size.

`stream` yields the tokens of one sequence as they come, `generate` continues a batch and returns token ids. Both draw
on the CPU from a seeded generator: same seed, same text, on every run. They run under `no_grad`, not
`inference_mode`: a cache that comes out of them may go into anything, training included.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mamba2_lab.cache import Mamba2Cache
from mamba2_lab.checks import require, require_whole
from mamba2_lab.model import Mamba2LM, one_sequence
from mamba2_lab.sampling import SamplingConfig, draw, stages
from mamba2_lab.tokenizer import TextStream, Tokenizer

Stop = int | str | Sequence[int | str]


class GeneratedToken(NamedTuple):
    """One token of a stream."""

    id: int
    text: str  # what it adds to the text; may be empty while a character or a stop string is unfinished
    logprob: float  # natural logarithm of the model's own probability, before any filter


def stream(
    model: Mamba2LM,
    prompt: Tensor | Sequence[int],
    max_length: int | None = None,
    max_new_tokens: int | None = None,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    repetition_penalty: float = 1.0,
    stop: Stop | None = None,
    seed: int | None = None,
    *,
    tokenizer: Tokenizer | None = None,
    cache: Mamba2Cache | None = None,
) -> Stream:
    """Continue one sequence, token by token.

    Args:
        prompt: token ids, (l,) or (1,l), at least one.
        tokenizer: makes the `text` of the tokens; without it the text stays empty.
        Everything else is as for `generate`.

    Returns:
        An iterator of `GeneratedToken`. The prompt is read before this returns, so bad input fails here.
    """
    ids = one_sequence("prompt", prompt)
    settings = SamplingConfig(temperature, top_k, top_p, min_p, repetition_penalty)
    stops = _Stops(stop, tokenizer, model.config.vocab_size)
    budget = _budget(ids.shape[1], max_length, max_new_tokens)
    return Stream(_Continuation(model, ids, None, settings, seed, cache), budget, stops)


@torch.no_grad()
def generate(
    model: Mamba2LM,
    input_ids: Tensor,
    max_length: int | None = None,
    max_new_tokens: int | None = None,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    repetition_penalty: float = 1.0,
    stop: Stop | None = None,
    seed: int | None = None,
    *,
    attention_mask: Tensor | None = None,
    tokenizer: Tokenizer | None = None,
    cache: Mamba2Cache | None = None,
    pad_token_id: int | None = None,
) -> Tensor:
    """Continue each row of a batch.

    Args:
        input_ids: (b,l) prompts. attention_mask: (b,l), 1 where a token is real, for prompts of different lengths,
            padded on whichever side.
        max_length: columns of the result, the prompt's included; max_new_tokens: new ones. Give exactly one.
        temperature, top_k, top_p, min_p, repetition_penalty: see `SamplingConfig`; temperature 0 is greedy. The
            penalty counts prompt and new tokens, as in transformers, but not padding.
        stop: token ids or strings, or a list of both, at which a row ends. Strings need the tokenizer and are looked
            for in the new text only.
        seed: of the draws; None draws from torch's own CPU generator.
        cache: what was read before the prompt.
        pad_token_id: fills rows that end early; by default the first stop token, else 0.

    Returns:
        (b, l + new) on the device of input_ids, as transformers shapes it: the prompts as they came, then the new
        tokens, the stop token included. It ends with the longest row.

    Raises:
        TypeError, ValueError: naming the argument, what was expected and what came.
    """
    if not isinstance(input_ids, Tensor):
        raise TypeError(f"input_ids must be a tensor of token ids, (b,l); got {type(input_ids).__name__}")
    if input_ids.ndim != 2 or input_ids.shape[1] == 0:
        raise ValueError(f"input_ids must have shape (b,l) with l >= 1; got {tuple(input_ids.shape)}")
    settings = SamplingConfig(temperature, top_k, top_p, min_p, repetition_penalty)
    rows = [_Stops(stop, tokenizer, model.config.vocab_size) for _ in range(input_ids.shape[0])]
    budget = _budget(input_ids.shape[1], max_length, max_new_tokens)
    pad = _pad_token(pad_token_id, rows[0].ids if rows else [], model.config.vocab_size)
    steps = _Continuation(model, input_ids, attention_mask, settings, seed, cache)

    columns: list[Tensor] = []
    running = torch.ones(len(rows), dtype=torch.bool)
    while len(columns) < budget and running.any():
        tokens, _ = steps.next()
        columns.append(torch.where(running, tokens, pad))
        for i in running.nonzero().flatten().tolist():
            rows[i].push(int(tokens[i]))
            running[i] = not rows[i].reached
    new = torch.stack(columns, dim=1) if columns else input_ids.new_empty(len(rows), 0, device="cpu")
    return torch.cat([input_ids, new.to(input_ids)], dim=1)


class Stream(Iterator[GeneratedToken]):
    """Tokens of one sequence as they are made; see `stream`.

    Attributes:
        finish_reason: None while running, then "stop" or "length".
        last_token: (1,) the last token yielded, None before the first.

    To go on later without reading anything twice: `resume`. To go on from the same place in another way:
    `stream(model, s.last_token, ..., cache=s.cache)`.
    """

    def __init__(self, steps: _Continuation, budget: int, stops: _Stops) -> None:
        self.finish_reason: str | None = None if budget else "length"
        self.last_token: Tensor | None = None
        self._steps, self._budget, self._stops = steps, budget, stops

    @property
    def cache(self) -> Mamba2Cache:
        """What the model has read: the prompt and every token yielded but the last."""
        return self._steps.cache

    def stages(self) -> list[tuple[str, Tensor]]:
        """What the last token was drawn from, filter by filter; see `sampling.stages` and `sampling.explain`.

        Raises:
            ValueError: before the first token.
        """
        if self.last_token is None:
            raise ValueError("a token must have come before its stages can be told; this stream has given none")
        return self._steps.stages

    def resume(self, max_new_tokens: int, settings: SamplingConfig, stop: Stop | None = None) -> None:
        """Make so many more tokens, whether it has ended or not, from where it stands.

        The state, the tokens seen and the generator of the draws are kept, and nothing is read again: with the same
        settings the tokens are those that one long run makes.

        Args:
            settings, stop: from now on.
        """
        stops = _Stops(stop, self._stops.tokenizer, self._steps.vocab_size)
        self._budget = _budget(0, None, max_new_tokens)
        self._stops = stops.taking_over(self._stops)
        self._steps.settings = settings
        self.finish_reason = None if self._budget else "length"

    @torch.no_grad()  # entered for each token, in whichever thread asks for it: the mode is per thread
    def __next__(self) -> GeneratedToken:
        if self.finish_reason is not None:
            raise StopIteration
        self.last_token, logits = self._steps.next()
        self._budget -= 1
        token = int(self.last_token)
        text = self._stops.push(token)
        if self._stops.reached:
            self.finish_reason = "stop"
        elif self._budget == 0:
            self.finish_reason = "length"
            text += self._stops.flush()
        return GeneratedToken(token, text, float(logits[0].log_softmax(dim=-1)[token]))


class _Continuation:
    """The loop that both share: choose a token per row, read it, choose the next."""

    @torch.no_grad()
    def __init__(
        self,
        model: Mamba2LM,
        input_ids: Tensor,
        attention_mask: Tensor | None,
        settings: SamplingConfig,
        seed: int | None,
        cache: Mamba2Cache | None,
    ) -> None:
        self._model, self.settings, self.vocab_size = model, settings, model.config.vocab_size
        self._generator = _seeded(seed)
        self._logits, self.cache = model.prefill(input_ids, cache, attention_mask=attention_mask)
        self._seen = _tokens_in(input_ids.cpu(), attention_mask, self.vocab_size)
        self._unread: Tensor | None = None
        self.stages: list[tuple[str, Tensor]] = []  # what the last tokens were drawn from

    def next(self) -> tuple[Tensor, Tensor]:
        """The next token of each row (b,), and the logits (b,v) it was chosen from, both on the CPU."""
        if self._unread is not None:
            self._logits, self.cache = self._model.step(self._unread, self.cache)
            self._seen.scatter_(1, self._unread.unsqueeze(1), True)
        self._logits = self._logits.cpu()  # the one copy from the device per token
        self.stages = list(stages(self._logits, self.settings, self._seen))
        self._unread = draw(self.stages[-1][1], self.settings, self._generator)
        return self._unread, self._logits


class _Stops:
    """Where one row ends: at a stop token, or where its text holds a stop string.

    `push` returns the text that is certain: up to the stop, and without what may be the beginning of one.
    """

    def __init__(self, stop: Stop | None, tokenizer: Tokenizer | None, vocab_size: int) -> None:
        given: list[object] = []
        if isinstance(stop, Iterable) and not isinstance(stop, str):
            given = list(stop)
        elif stop is not None:
            given = [stop]
        self.ids = [item for item in given if isinstance(item, int)]
        self.strings = [item for item in given if isinstance(item, str)]
        if len(self.ids) + len(self.strings) != len(given):
            raise TypeError(f"stop must be token ids or strings, or a list of them; got {stop!r}")
        for token in self.ids:
            _check_token("stop", token, vocab_size)
        if "" in self.strings:
            raise ValueError("stop must not hold an empty string: it would stop everywhere")
        if self.strings and tokenizer is None:
            raise ValueError(f"stop strings need a tokenizer to be found in the text; got stop={stop!r} without one")
        self.reached = False
        self.tokenizer = tokenizer
        self._text = None if tokenizer is None else TextStream(tokenizer)
        self._withheld = ""

    def taking_over(self, other: _Stops) -> _Stops:
        """The same stops, for a text of which the other has seen the beginning."""
        self._text, self._withheld = other._text, other._withheld
        return self

    def push(self, token: int) -> str:
        if token in self.ids:
            self.reached = True
            return self.flush()
        return "" if self._text is None else self._release(self._text.push(token))

    def flush(self) -> str:
        """The end of the text: nothing is coming that could complete a stop string."""
        if self._text is None:
            return ""
        text = self._release(self._text.flush()) + self._withheld
        self._withheld = ""
        return text

    def _release(self, piece: str) -> str:
        text = self._withheld + piece
        found = [start for start in (text.find(string) for string in self.strings) if start >= 0]
        if found:
            self.reached, self._withheld = True, ""
            return text[: min(found)]
        held = max((_overlap(text, string) for string in self.strings), default=0)
        self._withheld = text[len(text) - held :]
        return text[: len(text) - held]


def _overlap(text: str, string: str) -> int:
    """Length of the longest end of text that begins string."""
    longest = min(len(text), len(string) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(string[:n])), 0)


def _tokens_in(ids: Tensor, attention_mask: Tensor | None, vocab_size: int) -> Tensor:
    """(b,l) -> (b,v) bool: which tokens occur in each row, padding left out."""
    if attention_mask is not None:
        ids = ids.masked_fill(~attention_mask.cpu().bool(), vocab_size)  # one column too many, dropped below
    seen = torch.zeros(ids.shape[0], vocab_size + 1, dtype=torch.bool)
    return seen.scatter_(1, ids.long(), True)[:, :vocab_size]


def _budget(prompt_length: int, max_length: int | None, max_new_tokens: int | None) -> int:
    """How many tokens to make."""
    if (max_length is None) == (max_new_tokens is None):
        raise ValueError(
            "give exactly one of max_length and max_new_tokens; "
            f"got max_length={max_length!r} and max_new_tokens={max_new_tokens!r}"
        )
    name, value = ("max_length", max_length) if max_new_tokens is None else ("max_new_tokens", max_new_tokens)
    require_whole(name, value)
    assert value is not None
    least = prompt_length if max_new_tokens is None else 0
    expected = f"at least the prompt's length, {least}" if max_new_tokens is None else "0 or more"
    require(value >= least, name, expected, value)
    return value - least


def _seeded(seed: int | None) -> torch.Generator | None:
    """A generator of its own for each seed: torch's own is neither read nor moved."""
    if seed is None:
        return None
    require_whole("seed", seed, "a whole number or None")
    if not -(2**63) <= seed < 2**64:
        raise ValueError(f"seed must lie in -2**63..2**64-1; got {seed}")
    return torch.Generator("cpu").manual_seed(seed)


def _pad_token(pad_token_id: int | None, stop_ids: list[int], vocab_size: int) -> int:
    if pad_token_id is None:
        return stop_ids[0] if stop_ids else 0
    _check_token("pad_token_id", pad_token_id, vocab_size)
    return pad_token_id


def _check_token(name: str, token: int, vocab_size: int) -> None:
    require_whole(name, token, "a token id, a whole number")
    if not 0 <= token < vocab_size:
        raise ValueError(f"{name} must lie in 0..{vocab_size - 1} (vocab_size {vocab_size}); got {token}")
