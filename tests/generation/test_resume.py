"""A stream that is taken up again makes the tokens of one long run, and reads nothing twice."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.small_models import random_ids, small_model

from mamba2_lab import Mamba2LM, stream
from mamba2_lab.generation import SamplingConfig
from mamba2_lab.text import ByteTokenizer

MODEL, PROMPT = small_model(), random_ids(6).tolist()
DRAWN = SamplingConfig(temperature=1.1, top_k=50, top_p=0.95, repetition_penalty=1.4)


def options(settings: SamplingConfig) -> dict:
    return {name: getattr(settings, name) for name in SamplingConfig.__dataclass_fields__}


@pytest.mark.parametrize("settings", [SamplingConfig(temperature=0), DRAWN], ids=["greedy", "drawn"])
@given(pieces=st.lists(st.integers(0, 6), min_size=1, max_size=5))
def test_pieces_are_one_long_run(settings, pieces):
    whole = MODEL.generate(torch.tensor([PROMPT]), max_new_tokens=sum(pieces), seed=9, **options(settings))
    tokens = stream(MODEL, PROMPT, max_new_tokens=0, seed=9, **options(settings))
    made = []
    for count in pieces:
        tokens.resume(count, settings)
        made += [token.id for token in tokens]
        assert tokens.finish_reason == "length"
    assert made == whole[0, len(PROMPT) :].tolist()


def test_nothing_is_read_again(monkeypatch):
    calls: list[str] = []
    for name in ("prefill", "advance"):
        method = getattr(Mamba2LM, name)
        monkeypatch.setattr(
            Mamba2LM, name, lambda *a, name=name, method=method, **k: (calls.append(name), method(*a, **k))[1]
        )
    tokens = stream(MODEL, PROMPT, max_new_tokens=3, temperature=0)
    list(tokens)
    tokens.resume(3, SamplingConfig(temperature=0))
    list(tokens)
    assert calls == ["prefill"] + 5 * ["advance"]
    assert int(tokens.cache.tokens_read) == len(PROMPT) + 5


def test_new_settings_hold_from_there_on():
    tokens = stream(MODEL, PROMPT, max_new_tokens=5, seed=2, temperature=1.5)
    made = [token.id for token in tokens]
    tokens.resume(6, SamplingConfig(temperature=0))
    greedy = [token.id for token in tokens]
    read = PROMPT + made
    for token in greedy:  # the likeliest after reading everything again
        assert token == int(MODEL(torch.tensor([read]))[0, -1].argmax())
        read.append(token)


def test_a_penalty_that_is_switched_on_later_knows_all_tokens():
    tokens = stream(Scripted(b"77777"), [0], max_new_tokens=3, temperature=0)
    assert [token.id for token in tokens] == [ord("7")] * 3
    tokens.resume(1, SamplingConfig(temperature=0, repetition_penalty=1e9))
    assert next(tokens).id not in (0, ord("7"))


class Scripted:
    """A model that writes one text, whatever it reads."""

    def __init__(self, text: bytes) -> None:
        self.text, self.config = text, MODEL.config

    def prefill(self, input_ids, cache=None, *, attention_mask=None, on_progress=None):
        return self._logits(0), 0

    def advance(self, tokens, cache, use_up=False):
        return self._logits(cache + 1), cache + 1

    def _logits(self, position: int) -> torch.Tensor:
        return torch.nn.functional.one_hot(torch.tensor([self.text[position]]), 257) * 100.0 + 1


def test_it_goes_on_behind_a_stop_to_the_next_one():
    tokens = stream(Scripted(b"one\n\ntwo. three;"), [0], max_new_tokens=50, stop="\n\n", tokenizer=ByteTokenizer())
    text = "".join(token.text for token in tokens)
    assert (text, tokens.rest, tokens.finish_reason) == ("one", "\n\n", "stop")
    tokens.resume(50, SamplingConfig(), stop=";")
    text = "".join(token.text for token in tokens)
    assert (text, tokens.rest, tokens.finish_reason) == ("\n\ntwo. three", ";", "stop")


def test_a_character_that_was_cut_and_a_stop_that_began_are_finished():
    """What was held back is given out as soon as it is certain."""
    tokens = stream(Scripted("aé; b".encode()), [0], max_new_tokens=9, stop="; b!", tokenizer=ByteTokenizer())
    pieces = [next(tokens).text for _ in range(2)]  # the second token is half a character
    tokens.resume(9, SamplingConfig(), stop=["; b!"])
    pieces += [next(tokens).text for _ in range(2)]  # now "; b!" may have begun
    assert pieces == ["a", "", "é", ""]
    tokens.resume(1, SamplingConfig(), stop=[])
    assert next(tokens).text == "; "


def test_bad_counts_are_refused():
    tokens = stream(MODEL, PROMPT, max_new_tokens=1)
    with pytest.raises(ValueError, match="max_new_tokens must be 0 or more; got -1"):
        tokens.resume(-1, SamplingConfig())
