"""An interrupt leaves nothing half changed: what was interrupted goes on as if it had not been."""

from __future__ import annotations

import itertools
import random
import signal
import sys
import threading

import pytest
import torch
from support.interrupts import interrupted
from support.small_models import random_ids, small_model

from mamba2_lab import generate, stream
from mamba2_lab.generation import SamplingConfig, Stream
from mamba2_lab.text import ByteTokenizer

PROMPT = random_ids(6).tolist()
DRAWN = {"temperature": 1.1, "top_k": 50, "top_p": 0.95, "repetition_penalty": 1.4}
# A signal is looked for when a call returns: never between the last assignment of __next__ and the caller's own.
DELIVERY = (Stream.__next__.__code__, "return")


def tensors(cache) -> list[torch.Tensor]:
    return [cache.tokens_read, *(part for layer in cache.layers for part in (layer.conv_window, layer.ssm_state))]


def the_same(cache, other) -> bool:
    return all(map(torch.equal, tensors(cache), tensors(other)))


@pytest.mark.parametrize(("seed", "every"), [(4, 1), (None, 5)])
def test_a_stream_interrupted_before_any_line_goes_on_with_the_tokens_it_would_have_made(seed, every):
    model = small_model()
    options = {"tokenizer": ByteTokenizer(), "seed": seed, "stop": ["\0\0", "a"], **DRAWN}
    torch.manual_seed(1)
    quiet = stream(model, PROMPT, max_new_tokens=500, **options)
    torch.manual_seed(1)
    tokens = stream(model, PROMPT, max_new_tokens=500, **options)
    for at in itertools.count(step=every):
        if quiet.finish_reason is not None:
            for each in (quiet, tokens):
                each.resume(500, SamplingConfig(**DRAWN), options["stop"])
        came, got = interrupted(lambda: next(tokens), at, DELIVERY)
        assert torch.is_grad_enabled()
        expected = next(quiet)
        assert (next(tokens) if came else got) == expected
        assert (tokens.finish_reason, tokens.rest) == (quiet.finish_reason, quiet.rest)
        assert the_same(tokens.cache, quiet.cache)
        if not came:
            break
    assert at > 200, "there are more lines than that in a token"


def test_a_resume_interrupted_before_any_line_has_happened_or_has_not():
    model = small_model()
    for at in itertools.count():
        tokens = stream(model, PROMPT, max_new_tokens=1, seed=1)
        list(tokens)
        came, _ = interrupted(lambda: tokens.resume(3, SamplingConfig(temperature=0), stop=[7]), at)  # noqa: B023
        if not came:
            break
        assert (tokens.finish_reason, list(tokens)) == ("length", [])
    assert at > 10
    assert len(list(tokens)) == 3


def test_generating_from_a_cache_leaves_it_as_it_was_wherever_it_is_interrupted():
    model = small_model()
    _, cache = model.prefill(torch.tensor([PROMPT, PROMPT]))
    before, weights = cache.clone(), [parameter.clone() for parameter in model.parameters()]
    ids = random_ids(2, 3)
    for at in range(0, 100_000, 7):
        came, _ = interrupted(lambda: generate(model, ids, max_new_tokens=2, cache=cache, seed=0), at)
        assert torch.is_grad_enabled()
        assert the_same(cache, before)
        if not came:
            break
    assert at > 500
    assert all(map(torch.equal, weights, model.parameters()))


def test_reading_in_pieces_can_be_stopped_in_between_and_leaves_the_cache_as_it_was():
    model, ids = small_model(chunk_size=64), random_ids(1, 2500)
    _, cache = model.prefill(ids[:, :10])
    before = cache.clone()
    shares: list[float] = []

    def stop_at_half(share: float) -> None:
        shares.append(share)
        if share >= 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        model.prefill(ids, cache, on_progress=stop_at_half)
    assert shares == [1 / 6, 2 / 6, 3 / 6], "three pieces of two layers"
    assert the_same(cache, before)
    with pytest.raises(KeyboardInterrupt):
        stream(model, ids, max_new_tokens=1, on_progress=stop_at_half)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no timer of signals")
def test_real_interrupts_lose_no_token():
    assert threading.current_thread() is threading.main_thread()
    model, draws = small_model(), random.Random(0)
    options = {"tokenizer": ByteTokenizer(), "seed": 3, **DRAWN}
    expected = list(stream(model, PROMPT, max_new_tokens=250, **options))
    tokens, got, interrupts = stream(model, PROMPT, max_new_tokens=250, **options), [], 0
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        while tokens.finish_reason is None:
            try:
                signal.setitimer(signal.ITIMER_REAL, draws.uniform(0.0005, 0.01))
                for token in tokens:
                    got.append(token)
            except KeyboardInterrupt:
                interrupts += 1
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert got == expected
    assert interrupts > 20
    assert torch.is_grad_enabled()
