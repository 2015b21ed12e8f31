"""A text as it is being written, with the reasons for each of its tokens."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

from torch import Tensor

from mamba2_lab.generation import Explanation, GeneratedToken, SamplingConfig, explain, stream
from mamba2_lab.mamba2_lm import MambaLM
from mamba2_lab.text import REPLACEMENT, TextStream, Tokenizer, prompt_ids
from mamba2_lab.weights import precision_of
from mamba2_lab.words import counted, in_bytes

PLAIN = "float32"  # weights as most models are loaded
EXPLAINED = 4096  # tokens whose explanations are kept, a kilobyte or two each
ROOM = 2**25  # bytes, for what explanations are made of: to make one takes as long as to write half a token
ENDLESS = 2**62  # tokens; how many are made is for the caller to count, and the text at the end of a run stays open


class Loaded(NamedTuple):
    """A model that is ready to write, and what it is called."""

    name: str
    model: MambaLM
    tokenizer: Tokenizer
    weights: str = PLAIN  # how they were asked for, a name of `PRECISIONS`

    @property
    def called(self) -> str:
        """Its name, and how its weights are stored, which need not be as they were asked for: int8 stays int8."""
        stored = precision_of(self.model)
        return self.name if stored == PLAIN else f"{self.name} in {stored}"

    @property
    def device(self) -> str:
        return self.model.device.type


class Unexplained(NamedTuple):
    """What an explanation is made of, if anybody asks for it."""

    stages: Iterator[tuple[str, Tensor]]  # (1,v), float32 logits and whether each token was seen, until then
    token: int


class Writing:
    """A text that a model writes: begun from a prompt, ended after so many tokens or at a stop, and taken up again.

    Args:
        on_progress: hears how much of the prompt is read; what it raises ends the reading.

    Attributes:
        tokens: those of all runs, each with its own text: that of a stop is there too, for the model has written it.
    """

    def __init__(
        self,
        loaded: Loaded,
        prompt: str,
        settings: SamplingConfig,
        stop: Sequence[str],
        seed: int,
        on_progress: Callable[[float], None] | None = None,
    ) -> None:
        self.loaded, self.prompt, self.seed = loaded, prompt, seed
        self.tokens: list[GeneratedToken] = []
        self._reasons: deque[Explanation | Unexplained] = deque(maxlen=EXPLAINED)
        self._explaining = threading.Lock()  # the page asks while the text goes on
        tokenizer = loaded.tokenizer
        ids = prompt_ids(tokenizer, prompt)
        # The stream holds back what may begin a stop, where here each token shows its own text at once.
        self._text = TextStream(tokenizer, ids)
        self._stream = stream(
            loaded.model, ids, max_new_tokens=0, seed=seed, tokenizer=tokenizer, on_progress=on_progress
        )
        self.change(settings, stop)

    def change(self, settings: SamplingConfig, stop: Sequence[str]) -> None:
        """Go on with these settings, from the state as it is, past the stop if it has come to one."""
        self.settings, self.stop = settings, tuple(stop)
        self._stream.resume(ENDLESS, settings, [self.loaded.tokenizer.end_of_text, *stop])

    def run(self, count: int) -> Iterator[GeneratedToken]:
        """So many more tokens, or as many as there are before a stop."""
        for number, token in enumerate(islice(self._stream, count), start=1):
            text = self._text.push(token.id)
            if number == count or self.at_stop:
                text += self._text.settle()
            with self._explaining:
                self.tokens.append(token._replace(text=text))
                self._reasons.append(Unexplained(self._stream.stages(), token.id))
                crowded_out = len(self._reasons) - 1 - ROOM // (5 * self.loaded.model.config.vocab_size)
                if crowded_out >= 0:
                    self._explained(crowded_out)
            yield self.tokens[-1]

    def _explained(self, i: int) -> Explanation:
        reason = self._reasons[i]
        if isinstance(reason, Unexplained):
            reason = self._reasons[i] = explain(*reason)
        return reason

    @property
    def at_stop(self) -> bool:
        """Whether it has come to a stop string or to the end of the text."""
        return self._stream.finish_reason == "stop"

    @property
    def tokens_read(self) -> int:
        """How many tokens the state stands for: all but the newest, which is read when the next one is asked for."""
        return int(self._stream.cache.tokens_read)

    @property
    def state(self) -> str:
        """How little is kept of how much."""
        size = in_bytes(self._stream.cache.nbytes)
        return f"{size} of state stands for {counted(self.tokens_read, 'token')}"

    def text(self, since: int = 0) -> str:
        """What it wrote, from token `since` on, and as far as its characters are whole."""
        return "".join(token.text for token in self.tokens[since:])

    @property
    def rest(self) -> str:
        """The end of the text that is not certain yet, as it reads now: each unfinished character as U+FFFD."""
        return self._text.rest

    def explanation(self, index: int) -> Explanation:
        """Why a token was chosen.

        Raises:
            IndexError: if there is none, or no longer.
        """
        with self._explaining:
            gone, count = len(self.tokens) - len(self._reasons), len(self.tokens)
            if gone <= index < count:
                return self._explained(index - gone)
        raise IndexError(f"token must lie in {gone}..{count - 1}, the ones that are explained; got {index}")

    def name(self, token: int) -> str:
        """What a token is called beside a bar: its text, if it has one of its own."""
        if token == self.loaded.tokenizer.end_of_text:
            return "(end of text)"
        text = self.loaded.tokenizer.decode([token])
        return f"(token {token})" if not text or REPLACEMENT in text else text


class Pace:
    """Counts the tokens of a run against the clock, from `began`, a time of time.perf_counter."""

    def __init__(self, began: float) -> None:
        self.began = self.last = began
        self.first: float | None = None
        self.count = 0

    def add(self, count: int) -> None:
        """So many tokens have just come."""
        self.last = time.perf_counter()
        if self.first is None:
            self.first = self.last
        self.count += count

    def __str__(self) -> str:
        if self.first is None:
            return ""
        after = f"the first after {1000 * (self.first - self.began):.0f} ms"
        if self.count < 2 or self.last <= self.first:
            return after
        return f"{(self.count - 1) / (self.last - self.first):,.0f} tokens/s, {after}"
