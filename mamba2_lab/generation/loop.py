"""Writing on: read the prompt once, then one token at a time from a cache of constant size.

`stream` yields the tokens of one sequence as they come, `generate` continues a batch and returns token ids. Both draw
on the CPU from a seeded generator: same seed, same text, on every run. They run under `no_grad`, not
`inference_mode`: a cache that comes out of them may go into anything, training included.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mamba2_lab.checks import one_sequence, require, require_seed, require_token, require_whole
from mamba2_lab.generation.sampling import SamplingConfig, sample, stages
from mamba2_lab.generation.stops import Stop, StoppedText, Stops
from mamba2_lab.machine import threads
from mamba2_lab.machine.gradients import without_gradients
from mamba2_lab.model import LanguageModel, Mamba2Cache
from mamba2_lab.text import TextStream, Tokenizer


class GeneratedToken(NamedTuple):
    """One token of a stream."""

    id: int
    text: str  # what it adds to the text; may be empty while a character or a stop string is unfinished
    logprob: float  # natural logarithm of the model's own probability, before any filter


# `stream` and `generate` take the same settings, spelled out in both: that is what help() and editors show.


def stream(
    model: LanguageModel,
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
    on_progress: Callable[[float], None] | None = None,
) -> Stream:
    """Continue one sequence, token by token.

    Args:
        prompt: token ids, (l,) or (1,l), at least one.
        tokenizer: makes the `text` of the tokens; without it the text stays empty.
        on_progress: hears how much of the prompt is read, as for `Mamba2LM.prefill`.
        Everything else is as for `generate`.

    Returns:
        An iterator of `GeneratedToken`. The prompt is read before this returns, so bad input fails here.
    """
    ids = one_sequence("prompt", prompt)
    settings = SamplingConfig(temperature, top_k, top_p, min_p, repetition_penalty)
    stops = Stops.of(stop, tokenizer, model.config.vocab_size)
    budget = _budget(ids.shape[1], max_length, max_new_tokens)
    start = _begin(model, ids, seed, cache=cache, on_progress=on_progress)
    text = StoppedText(None if tokenizer is None else TextStream(tokenizer, ids[0].tolist()))
    return Stream(model, tokenizer, _Standing(start, text, settings, stops, budget, None if budget else "length"))


def go_on(
    model: LanguageModel,
    position: Position,
    prompt: Sequence[int] = (),
    *,
    max_new_tokens: int,
    settings: SamplingConfig,
    stop: Stop | None = None,
    seed: int | None = None,
    tokenizer: Tokenizer | None = None,
    before: Sequence[int] = (),
    on_progress: Callable[[float], None] | None = None,
) -> Stream:
    """Continue one sequence from where a stream stood, its `Stream.position`; nothing is read again.

    Args:
        prompt: token ids that come next, if any. Without them the tokens are those that the stream would have given.
        seed: of the draws from now on; None goes on with the draws as well.
        before: the last tokens in front of the prompt, for the text to go on where theirs ends.
        Everything else is as for `generate`.

    Raises:
        ValueError: for a position that is not one of this model, or of more than one sequence.
    """
    model.check_cache(position.cache, 1)
    stops = Stops.of(stop, tokenizer, model.config.vocab_size)
    budget = _budget(0, None, max_new_tokens)
    if seed is not None:
        position = position._replace(generator=_seeded(seed))
    if prompt:
        position = _read_on(model, position, prompt, on_progress)
    text = StoppedText(None if tokenizer is None else TextStream(tokenizer, [*before, *prompt]))
    return Stream(model, tokenizer, _Standing(position, text, settings, stops, budget, None if budget else "length"))


@without_gradients
def generate(
    model: LanguageModel,
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
    on_progress: Callable[[float], None] | None = None,
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
        seed: of the draws; None takes one from torch's own CPU generator.
        cache: what was read before the prompt.
        pad_token_id: fills rows that end early; by default the first stop token, else 0.
        on_progress: hears how much of the prompts is read, as for `Mamba2LM.prefill`.

    Returns:
        (b, l + new) on the device of input_ids, as transformers shapes it: the prompts as they came, then the new
        tokens, the stop token included. It ends with the longest row.

    Raises:
        TypeError, ValueError: as `checks` says it.
    """
    _check_prompts(input_ids)
    settings = SamplingConfig(temperature, top_k, top_p, min_p, repetition_penalty)
    stops = Stops.of(stop, tokenizer, model.config.vocab_size)
    budget = _budget(input_ids.shape[1], max_length, max_new_tokens)
    pad = _pad_token(pad_token_id, stops.ids, model.config.vocab_size)
    at = _begin(model, input_ids, seed, cache=cache, attention_mask=attention_mask, on_progress=on_progress)
    rows = [StoppedText(text) for text in _texts(input_ids, attention_mask, tokenizer if stops.strings else None)]

    columns: list[list[int]] = []
    running = list(range(len(rows)))  # a row that has ended is read no further
    while len(columns) < budget and running:
        at = _advance(model, at, settings, running, use_up=True)  # nobody else knows where it stands
        assert at.unread is not None
        columns.append([pad] * len(rows))
        for i, token in zip(running, at.unread.tolist(), strict=True):
            columns[-1][i] = token
            rows[i].push(token, stops)
        left = [place for place, i in enumerate(running) if not rows[i].reached]
        at = at.select(left) if 0 < len(left) < len(running) else at
        running = [running[place] for place in left]
    new = torch.tensor(columns, dtype=torch.long).view(len(columns), len(rows)).T
    return torch.cat([input_ids, new.to(input_ids)], dim=1)


class Stream(Iterator[GeneratedToken]):
    """Tokens of one sequence as they are made; see `stream`.

    Its text is what decoding all tokens gives, the prompt's included, from where the prompt ends:

        the `text` of the tokens so far, joined, + `rest`

    While it runs, `rest` is what may begin a stop string, and an unfinished character. A run that ends by its length
    gives all but the latter. After a stop, `rest` begins with the text of the stop. When the stream is resumed, `rest`
    comes first: nothing is lost, and no character is broken, where two runs meet.

    An exception, KeyboardInterrupt included, leaves it where it was: the next token is the one that would have come.

    To go on later without reading anything twice: `resume`. To go on from the same place in another way:
    `stream(model, s.last_token, ..., cache=s.cache)`.
    """

    def __init__(self, model: LanguageModel, tokenizer: Tokenizer | None, at: _Standing) -> None:
        self._model, self._tokenizer = model, tokenizer
        self._at = at  # all that changes, in one place: it changes at once

    @property
    def finish_reason(self) -> str | None:
        """None while running, then "stop" or "length"."""
        return self._at.finish_reason

    @property
    def last_token(self) -> Tensor | None:
        """(1,) the last token, None before the first."""
        return self._at.steps.unread

    @property
    def cache(self) -> Mamba2Cache:
        """What the model has read: the prompt and every token but the last."""
        return self._at.steps.cache

    @property
    def position(self) -> Position:
        """Where it stands: `go_on` continues from there, in another process too (see `sessions`)."""
        return self._at.steps

    @property
    def rest(self) -> str:
        """The end of the text that no token has given, as it reads now: an unfinished character is U+FFFD."""
        return self._at.text.rest

    def stages(self) -> Iterator[tuple[str, Tensor]]:
        """What the last token was drawn from, filter by filter; see `sampling.stages`. `explain` takes it.

        It is computed as it is gone through, then or later: until then it holds the logits and no more.

        Raises:
            ValueError: before the first token.
        """
        steps = self._at.steps
        if steps.drawn_by is None:
            raise ValueError("a token must have come before its stages can be told; this stream has given none")
        return stages(steps.logits, steps.drawn_by, steps.seen)

    def resume(self, max_new_tokens: int, settings: SamplingConfig, stop: Stop | None = None) -> None:
        """Make so many more tokens, whether it has ended or not, from where it stands.

        The state, the tokens seen and the generator of the draws are kept, and nothing is read again: with the same
        settings tokens and text are those that one long run makes.

        Args:
            settings, stop: from now on. A stop that was reached is passed. A stop string may lie across two runs.
        """
        stops = Stops.of(stop, self._tokenizer, self._model.config.vocab_size)
        budget = _budget(0, None, max_new_tokens)
        reason = None if budget else "length"
        self._at = self._at._replace(settings=settings, stops=stops, budget=budget, finish_reason=reason)

    def __next__(self) -> GeneratedToken:
        if self.finish_reason is not None:
            raise StopIteration
        # Outside of any context manager: an interrupt comes before this token is there or when the caller has it.
        self._at, token = self._following()
        return token

    @without_gradients  # entered for each token, in whichever thread asks for it: the mode is per thread
    def _following(self) -> tuple[_Standing, GeneratedToken]:
        at = self._at
        steps, text, budget = _advance(self._model, at.steps, at.settings), at.text.copy(), at.budget - 1
        assert steps.unread is not None
        token = int(steps.unread)
        piece = text.push(token, at.stops)
        if not text.reached and budget == 0:
            piece += text.settle(at.stops)
        reason = "stop" if text.reached else "length" if budget == 0 else None
        logprob = float(steps.logits[0].log_softmax(dim=-1)[token])
        after = at._replace(steps=steps, text=text, budget=budget, finish_reason=reason)
        return after, GeneratedToken(token, piece, logprob)


class Position(NamedTuple):
    """Where a batch of sequences stands: all that the tokens to come depend on. A value: to go on makes another."""

    logits: Tensor  # (b,v) after the last token read
    cache: Mamba2Cache
    seen: Tensor  # (b,v) bool, the tokens read
    generator: torch.Generator  # of the draws to come
    unread: Tensor | None = None  # (b,) the tokens drawn last, on the CPU
    drawn_by: SamplingConfig | None = None  # what they were drawn by, from these logits

    def select(self, rows: list[int]) -> Position:
        """Where these of the sequences stand."""
        assert self.unread is not None
        logits, unread = self.logits[rows], self.unread[rows]
        return Position(logits, self.cache.select(rows), self.seen[rows], self.generator, unread)


class _Standing(NamedTuple):
    """Where a stream stands."""

    steps: Position
    text: StoppedText
    settings: SamplingConfig
    stops: Stops
    budget: int  # tokens until the end of the run
    finish_reason: str | None


@without_gradients
def _begin(model: LanguageModel, input_ids: Tensor, seed: int | None, **options: Any) -> Position:
    """Read the prompts. Options are those of `Mamba2LM.prefill`."""
    generator = _seeded(seed)
    logits, cache = model.prefill(input_ids, **options)
    seen = _tokens_in(input_ids.cpu(), options.get("attention_mask"), model.config.vocab_size)
    return Position(logits, cache, seen, generator)


@without_gradients
def _read_on(
    model: LanguageModel, at: Position, prompt: Sequence[int], on_progress: Callable[[float], None] | None
) -> Position:
    """Read the token drawn last, and the prompt behind it."""
    ids = torch.tensor([[*([] if at.unread is None else at.unread.tolist()), *prompt]])
    logits, cache = model.prefill(ids, at.cache, on_progress=on_progress)
    return Position(logits, cache, at.seen | _tokens_in(ids, None, model.config.vocab_size), at.generator)


def _advance(
    model: LanguageModel,
    at: Position,
    settings: SamplingConfig,
    rows: Sequence[int] | None = None,
    *,
    use_up: bool = False,
) -> Position:
    """The loop that both share: read the token of each row, choose the next.

    Args:
        rows: as for `sample`.
        use_up: let the old position be lost.
    """
    logits, cache, seen = at.logits, at.cache, at.seen
    if at.unread is not None:  # looked at when the prompt was read
        logits, cache = model.advance(at.unread, cache, use_up=use_up)
        seen = seen.scatter(1, at.unread.unsqueeze(1), True)
    logits, generator = logits.cpu(), at.generator  # the one copy from the device per token
    if not settings.greedy:  # a draw moves it
        generator = torch.Generator("cpu").set_state(generator.get_state())
    # There is too little to do in a row for two threads to share.
    unread = threads.at_most(len(logits), sample, logits, settings, generator, seen, rows)
    return Position(logits, cache, seen, generator, unread, settings)


def _texts(
    input_ids: Tensor, attention_mask: Tensor | None, tokenizer: Tokenizer | None
) -> Iterator[TextStream | None]:
    """The text that follows each prompt; None without a tokenizer."""
    for i, row in enumerate(input_ids.cpu()):
        real = row if attention_mask is None else row[attention_mask[i].cpu().bool()]
        yield None if tokenizer is None else TextStream(tokenizer, real.tolist())


def _tokens_in(ids: Tensor, attention_mask: Tensor | None, vocab_size: int) -> Tensor:
    """(b,l) -> (b,v) bool: which tokens occur in each row, padding left out."""
    if attention_mask is not None:
        ids = ids.masked_fill(~attention_mask.cpu().bool(), vocab_size)  # one column too many, dropped below
    seen = torch.zeros(ids.shape[0], vocab_size + 1, dtype=torch.bool)
    return seen.scatter_(1, ids.long(), True)[:, :vocab_size]


def _check_prompts(input_ids: object) -> None:
    if not isinstance(input_ids, Tensor):
        raise TypeError(f"input_ids must be a tensor of token ids, (b,l); got {type(input_ids).__name__}")
    if input_ids.ndim != 2 or input_ids.shape[1] == 0:
        raise ValueError(f"input_ids must have shape (b,l) with l >= 1; got {tuple(input_ids.shape)}")


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


def _seeded(seed: int | None) -> torch.Generator:
    """A generator of its own for each seed: torch's own is not moved, but to find a seed where none is given."""
    if seed is None:
        return torch.Generator("cpu").manual_seed(int(torch.randint(2**63 - 1, (), device="cpu")))
    require_seed(seed)
    return torch.Generator("cpu").manual_seed(seed)


def _pad_token(pad_token_id: int | None, stop_ids: Sequence[int], vocab_size: int) -> int:
    if pad_token_id is None:
        return stop_ids[0] if stop_ids else 0
    require_token("pad_token_id", pad_token_id, vocab_size)
    return pad_token_id
