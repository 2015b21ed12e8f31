"""The text of a stream is what decoding all of its tokens gives, with every tokenizer, and in every order of run, stop
and resume."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.many_tokenizers import every_tokenizer, llama_like, metaspace, wordpiece
from support.small_models import small_model

from mamba2_lab import Mamba2LM, generate, stream
from mamba2_lab.generation import SamplingConfig
from mamba2_lab.text import REPLACEMENT, TextStream, Tokenizer

GREEDY = SamplingConfig(temperature=0)
BYTE_RUNS = (
    "llama_like",
    "codestral_like",
    "metaspace_with_bytes",
)  # a broken byte takes back the whole run that it ends
NAMES = list(every_tokenizer())
SOME = st.integers(0, 10_000)  # an id, once it is taken modulo the vocabulary


class Scripted:
    """A model that writes one list of tokens, whatever it reads."""

    def __init__(self, script: Sequence[int], vocab_size: int) -> None:
        self.script, self.config = script, small_model(vocab_size=vocab_size).config

    def prefill(self, input_ids, cache=None, *, attention_mask=None, on_progress=None):
        return self._logits(0), 0

    def advance(self, tokens, cache, use_up=False):
        return self._logits(cache + 1), cache + 1

    def _logits(self, position: int) -> torch.Tensor:
        token = self.script[min(position, len(self.script) - 1)]
        return torch.nn.functional.one_hot(torch.tensor([token]), self.config.vocab_size) * 100.0


def whole(text: str) -> str:
    """Without what is unfinished at the end."""
    return text.rstrip(REPLACEMENT)


def text_behind(tokenizer: Tokenizer, prompt: Sequence[int], ids: Sequence[int]) -> str:
    """The oracle: everything decoded at once, cut where the whole characters of the prompt end."""
    return tokenizer.decode([*prompt, *ids])[len(whole(tokenizer.decode(prompt))) :]


# Pieces


@pytest.mark.parametrize(
    ("tokenizer", "prompt", "text", "behind"),
    [
        (llama_like(), "ab", "ab a", " a"),
        (llama_like(), "ab", "ab é日🐍", " é日🐍"),
        (metaspace(), "hello", "hello wor", " wor"),
        (metaspace(), "hello wor", "hello world", "ld"),
        (wordpiece(), "hello", "hello world", " world"),
        (wordpiece(), "hello wor", "hello world", "ld"),
        (wordpiece(), "hello", "hello.", "."),
    ],
)
def test_a_text_goes_on_from_its_prompt_with_the_space_between(tokenizer, prompt, text, behind):
    start, ids = tokenizer.encode(prompt), tokenizer.encode(text)
    if ids[: len(start)] != start:
        pytest.fail("the text must begin with the tokens of the prompt, or this shows nothing")
    new = ids[len(start) :]
    tokens = stream(
        Scripted(new, tokenizer.vocab_size), start, max_new_tokens=len(new), tokenizer=tokenizer, temperature=0
    )
    assert "".join(token.text for token in tokens) == behind
    assert tokens.rest == ""


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=60, deadline=None, derandomize=True)
@given(prompt=st.lists(SOME, max_size=8), ids=st.lists(SOME, max_size=30), broken=st.booleans())
@example(prompt=[5], ids=[0xE6 + 3, 0x97 + 3, 0xA5 + 3, 0xFF + 3], broken=True)
@example(prompt=[], ids=[0xE6 + 3, 1, 0x97 + 3, 0xA5 + 3, 2, 260], broken=True)
def test_pieces_and_rest_are_the_text_of_all_tokens_at_every_token(name, prompt, ids, broken):
    tokenizer = every_tokenizer()[name]
    if not broken:  # of a real text
        text = "".join(["hello", " a", "b", "é", " 日", "🐍", ".", "ld", " wor", "don't"][i % 10] for i in prompt + ids)
        encoded = tokenizer.encode(text)
        prompt, ids = encoded[: len(prompt)], encoded[len(prompt) :]
    prompt, ids = ([i % tokenizer.vocab_size for i in part] for part in (prompt, ids))
    if name in BYTE_RUNS and prompt and prompt[-1] in tokenizer.fallback_bytes and broken:
        prompt = []  # the prompt's own text might be taken back, and a stream cannot do that
    text, given_so_far = TextStream(tokenizer, prompt), ""
    for n, token in enumerate(ids, start=1):
        given_so_far += text.push(token)
        assert given_so_far + text.rest == text_behind(tokenizer, prompt, ids[:n])
    settled = given_so_far + text.settle()
    assert settled + text.rest == text_behind(tokenizer, prompt, ids)
    assert set(text.rest) <= {REPLACEMENT}


@pytest.mark.parametrize("name", NAMES)
def test_a_long_prompt_costs_no_more_than_its_end(name, monkeypatch):
    tokenizer, asked = every_tokenizer()[name], []
    decode = type(tokenizer).decode
    monkeypatch.setattr(type(tokenizer), "decode", lambda self, ids: (asked.append(len(ids)), decode(self, ids))[1])
    prompt = tokenizer.encode("hello a b " * 2000)
    text = TextStream(tokenizer, prompt)
    assert (
        "".join(map(text.push, prompt[:20])) + text.rest
        == decode(tokenizer, prompt[-50:] + prompt[:20])[len(decode(tokenizer, prompt[-50:])) :]
    )
    assert max(asked) < 100


# Runs, stops and resumes


class Run(NamedTuple):
    """A part of a stream: that many tokens, at most, to these stops."""

    count: int
    stops: list[str]


STOPS = st.lists(st.sampled_from(["a", " a", "ab", "b", "é", "日🐍", "o wor", "ld", ". ", "\n", "hello"]), max_size=3)
RUNS = st.lists(st.builds(Run, st.integers(0, 7), STOPS), min_size=1, max_size=6)
TEXTS = st.lists(
    st.sampled_from(["hello", " a", "b", "é", " 日", "🐍", ".", "ld", " wor", "\n"]), min_size=1, max_size=25
)


def plain_end(text: str, seen: int, since: int, stops: Sequence[str]) -> int | None:
    """Where the first stop begins that ends behind `seen`, looked for from `since` on; None if there is none."""
    begins = [i for s in stops for i in range(since, len(text)) if text.startswith(s, i) and i + len(s) > seen]
    return min(begins, default=None)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=40, deadline=None, derandomize=True)
@given(parts=TEXTS, cut=st.integers(0, 12), runs=RUNS)
def test_every_order_of_runs_stops_and_resumes_gives_the_text_of_all_tokens(name, parts, cut, runs):
    tokenizer = every_tokenizer()[name]
    ids = tokenizer.encode("".join(parts))
    prompt, script = [tokenizer.end_of_text, *ids[:cut]], [*ids[cut:], tokenizer.end_of_text]
    tokens = stream(
        Scripted(script, tokenizer.vocab_size), prompt, max_new_tokens=0, tokenizer=tokenizer, temperature=0
    )
    made, pieces, passed, seen = [], "", 0, 0
    for run in runs:
        tokens.resume(run.count, GREEDY, run.stops)
        for token in tokens:
            made.append(token.id)
            pieces += token.text
            text = text_behind(tokenizer, prompt, made)
            taken_back = (
                name in BYTE_RUNS and REPLACEMENT in text
            )  # of what an earlier run gave, until the run is whole
            assert taken_back or pieces + tokens.rest == text, "something was lost, broken, or said twice"
            certain = text if tokens.finish_reason == "length" else text[: len(pieces)] + whole(tokens.rest)
            if name in BYTE_RUNS:
                continue  # what is certain there is another test's matter
            end = plain_end(whole(certain), seen, passed, run.stops)
            assert (tokens.finish_reason == "stop") == (end is not None)
            if end is not None:
                assert len(pieces) == max(end, len(pieces) - len(token.text)), "more was given than stands before it"
                passed = len(text)
            seen = len(whole(certain))
    expected = script + [script[-1]] * len(made)
    assert made == expected[: len(made)]


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=30, deadline=None, derandomize=True)
@given(parts=TEXTS, counts=st.lists(st.integers(0, 6), min_size=1, max_size=6), stops=STOPS)
def test_a_run_cut_into_parts_says_what_one_long_run_says(name, parts, counts, stops):
    tokenizer = every_tokenizer()[name]
    script = tokenizer.encode("".join(parts)) or [tokenizer.end_of_text]
    options = {"tokenizer": tokenizer, "temperature": 0, "stop": stops}
    model, prompt = Scripted(script, tokenizer.vocab_size), [tokenizer.end_of_text]
    long = stream(model, prompt, max_new_tokens=sum(counts), **options)
    expected = list(long)
    parted = stream(model, prompt, max_new_tokens=0, **options)
    found = []
    for count in counts:
        if parted.finish_reason == "stop":
            break
        parted.resume(count, GREEDY, stops)
        found += parted
    assert [token.id for token in found] == [token.id for token in expected]
    said, of_long = "".join(token.text for token in found), "".join(token.text for token in expected)
    if name in BYTE_RUNS and REPLACEMENT in text_behind(tokenizer, prompt, [token.id for token in found]):
        return  # a broken byte cannot take back what the run before it has given
    assert said + parted.rest == of_long + long.rest
    # Where a stop lies across two runs its beginning was given with the first: a run cannot know what follows it.
    assert said.startswith(of_long)


def test_a_character_across_the_end_of_a_run_comes_whole():
    tokenizer = every_tokenizer()["bytes"]
    script = list("naïve".encode())
    tokens = stream(Scripted(script, 257), [256], max_new_tokens=3, tokenizer=tokenizer, temperature=0)
    first = [token.text for token in tokens]
    assert (first, tokens.rest) == (["n", "a", ""], REPLACEMENT)
    tokens.resume(3, GREEDY)
    assert [token.text for token in tokens] == ["ï", "v", "e"]
    assert tokens.rest == ""


def test_a_stop_is_found_behind_the_space_of_its_first_token():
    tokenizer = metaspace()
    prompt = tokenizer.encode("hello")
    script = tokenizer.encode("hello wor")[len(prompt) :]
    options = {"max_new_tokens": len(script), "temperature": 0, "tokenizer": tokenizer, "stop": " wor"}
    model = Scripted(script, tokenizer.vocab_size)
    tokens = stream(model, prompt, **options)
    assert "".join(token.text for token in tokens) == ""
    assert (tokens.finish_reason, tokens.rest) == ("stop", " wor")
    assert generate(model, torch.tensor([prompt]), **options)[0].tolist() == [*prompt, *script]


def test_a_stop_token_is_said_when_the_stream_goes_on():
    tokenizer = every_tokenizer()["bytes"]
    tokens = stream(Scripted(b"abcd", 257), [256], max_new_tokens=4, tokenizer=tokenizer, temperature=0, stop=ord("b"))
    assert ("".join(token.text for token in tokens), tokens.rest) == ("a", "b")
    tokens.resume(1, GREEDY)
    assert ("".join(token.text for token in tokens), tokens.rest) == ("bc", "")


def test_a_real_model_says_the_text_of_its_tokens():
    model = Mamba2LM.from_pretrained("small")
    tokenizer = every_tokenizer()["bytes"]
    tokens = stream(model, list(b"def f("), max_new_tokens=60, tokenizer=tokenizer, seed=1, temperature=1.5)
    made = list(tokens)
    ids = [token.id for token in made]
    assert "".join(token.text for token in made) + tokens.rest == tokenizer.decode(ids)
