"""Generation against a plain loop over the whole forward pass, against transformers, and by scripted models."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.devices import EXACT, WIDEST
from support.small_models import random_ids, small_model
from torch import Tensor

from mamba2_lab import Mamba2LM, generate, stream
from mamba2_lab.config import tokens_per_piece
from mamba2_lab.generation import SamplingConfig, Stop, Stream, penalise_repetition, sample
from mamba2_lab.text import ByteTokenizer

TOKENIZER = ByteTokenizer()
END = TOKENIZER.end_of_text


def exact_model(**changes) -> Mamba2LM:
    """In float64, recomputing everything and going on from a cache agree to the last printed digit."""
    return small_model(**changes).to(WIDEST)


@torch.no_grad()
def recomputed(model: Mamba2LM, prompt: Tensor, count: int, choose=lambda logits, ids: logits.argmax()) -> list[int]:
    """The loop that generation must equal: read everything again for each token. prompt (l,) -> new ids."""
    ids = prompt.clone()
    for _ in range(count):
        logits = model(ids.unsqueeze(0))[0, -1].cpu()
        ids = torch.cat([ids, choose(logits, ids).reshape(1)])
    return ids[prompt.shape[0] :].tolist()


class ScriptedModel:
    """Stands in for a model: whatever it reads, its next tokens are those of the script, one script per row.

    Its cache holds which rows there are and the number of tokens given out, so the calls and what they were given can
    be checked.
    """

    class Cache(NamedTuple):
        rows: list[int]
        given: int = 0

        def select(self, rows):
            return self._replace(rows=[self.rows[i] for i in rows])

    def __init__(self, *scripts: list[int] | str, vocab_size: int = 257) -> None:
        self.scripts = [list(s.encode()) if isinstance(s, str) else s for s in scripts]
        self.config = SimpleNamespace(vocab_size=vocab_size)
        self.calls: list[tuple[str, list]] = []

    def prefill(self, input_ids, cache=None, *, attention_mask=None, on_progress=None):
        self.calls.append(("prefill", input_ids.tolist()))
        return self._logits(cache := self.Cache(list(range(len(self.scripts))))), cache

    def advance(self, tokens, cache, use_up=False):
        self.calls.append(("step", tokens.tolist()))
        return self._logits(cache := cache._replace(given=cache.given + 1)), cache

    def _logits(self, cache: Cache) -> Tensor:
        logits = torch.zeros(len(cache.rows), self.config.vocab_size)
        for row, script in enumerate(self.scripts[i] for i in cache.rows):
            logits[row, script[min(cache.given, len(script) - 1)]] = 10.0
        return logits


def scripted_stream(script: list[int] | str, stop: Stop | None = None, **options) -> Stream:
    model = ScriptedModel(script)
    options = {"max_new_tokens": len(model.scripts[0]), "tokenizer": TOKENIZER, **options}
    return stream(model, [0], temperature=0, stop=stop, **options)


def text_of(tokens: Stream) -> str:
    return "".join(token.text for token in tokens)


# The same as a plain loop


@pytest.mark.parametrize("changes", [{}, {"ngroups": 2}, {"learnable_init_states": True}, {"dt_limit": (0.1, 0.5)}])
def test_greedy_generation_equals_reading_everything_again_for_each_token(changes):
    model = exact_model(**changes)
    prompt = random_ids(3, 7)
    expected = [recomputed(model, row, 12) for row in prompt]
    ids = model.generate(prompt, max_new_tokens=12, temperature=0)
    assert torch.equal(ids[:, :7], prompt)
    assert ids[:, 7:].tolist() == expected
    assert len({token for row in expected for token in row}) > 10, "a model that repeats itself proves nothing"


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("tie_embeddings", [True, False])
def test_greedy_generation_equals_that_of_transformers(seed, tie_embeddings):
    pytest.importorskip("transformers")
    model = small_model(seed, ngroups=1, tie_embeddings=tie_embeddings, vocab_size=256)
    prompt = random_ids(2, 5, vocab_size=256, seed=seed)
    theirs = model.to_transformers().generate(prompt, max_new_tokens=10, do_sample=False)
    ours = model.generate(prompt, max_new_tokens=10, temperature=0)
    assert torch.equal(ours, theirs)
    assert len(set(ours[:, 5:].flatten().tolist())) > 5


SETTINGS = {"temperature": 1.3, "top_k": 50, "top_p": 0.95, "min_p": 0.01}


def test_sampled_generation_equals_a_plain_loop_with_the_same_draws():
    model, prompt = exact_model(), random_ids(6)
    config, generator = SamplingConfig(**SETTINGS), torch.Generator().manual_seed(5)
    expected = recomputed(model, prompt, 15, lambda logits, ids: sample(logits[None], config, generator)[0])
    assert model.generate(prompt[None], max_new_tokens=15, seed=5, **SETTINGS)[0, 6:].tolist() == expected


@pytest.mark.parametrize("settings", [{"temperature": 0}, SETTINGS], ids=["greedy", "sampled"])
def test_the_repetition_penalty_counts_prompt_and_new_tokens_as_a_plain_loop_does(settings):
    model, prompt = exact_model(), random_ids(6)
    config, generator = SamplingConfig(**settings), torch.Generator().manual_seed(5)

    def choose(logits: Tensor, ids: Tensor) -> Tensor:
        seen = torch.zeros(1, 257, dtype=torch.bool)
        seen[0, ids] = True
        return sample(penalise_repetition(logits[None].float(), seen, 1.5), config, generator)[0]

    options = {"max_new_tokens": 25, "seed": 5, **settings}
    penalised = model.generate(prompt[None], repetition_penalty=1.5, **options)[0, 6:].tolist()
    assert penalised == recomputed(model, prompt, 25, choose)
    assert penalised != model.generate(prompt[None], **options)[0, 6:].tolist()


def test_one_prefill_and_then_one_step_for_each_further_token():
    model = ScriptedModel([5, 6, 7, 8])
    generate(model, torch.tensor([[1, 2, 3]]), max_new_tokens=4)
    assert model.calls == [("prefill", [[1, 2, 3]]), ("step", [5]), ("step", [6]), ("step", [7])]


def test_a_stream_reads_a_token_only_when_the_next_is_asked_for():
    model = ScriptedModel([5, 6, 7, 8])
    tokens = stream(model, [1, 2, 3], max_new_tokens=4, temperature=0)
    assert model.calls == [("prefill", [[1, 2, 3]])]
    assert [next(tokens).id, next(tokens).id] == [5, 6]
    assert model.calls == [("prefill", [[1, 2, 3]]), ("step", [5])]


# Seeds


@pytest.mark.parametrize("settings", [{}, SETTINGS, {"repetition_penalty": 1.2}], ids=str)
def test_the_same_seed_gives_the_same_ids_on_every_run_and_another_seed_others(settings):
    model, prompt = small_model(), random_ids(2, 4)

    def ids(seed: int) -> list[list[int]]:
        return model.generate(prompt, max_new_tokens=20, seed=seed, **settings).tolist()

    assert ids(1) == ids(1)
    assert ids(1) != ids(2)


def test_a_seed_leaves_torchs_own_generator_alone_and_without_one_it_is_used():
    model, prompt = small_model(), random_ids(1, 4)
    before = torch.random.get_rng_state()
    model.generate(prompt, max_new_tokens=5, seed=1)
    assert torch.equal(torch.random.get_rng_state(), before)

    def unseeded() -> list[list[int]]:
        return model.generate(prompt, max_new_tokens=20).tolist()

    torch.manual_seed(3)
    first, second = unseeded(), unseeded()
    torch.manual_seed(3)
    assert unseeded() == first
    assert first != second


@pytest.mark.parametrize("settings", [{"temperature": 0}, SETTINGS, {"repetition_penalty": 1.5}], ids=str)
def test_stream_and_generate_make_the_same_ids_from_the_same_seed(settings):
    model, prompt = small_model(), random_ids(6)
    streamed = [token.id for token in stream(model, prompt, max_new_tokens=20, seed=3, **settings)]
    assert model.generate(prompt[None], max_new_tokens=20, seed=3, **settings)[0, 6:].tolist() == streamed


@pytest.mark.parametrize("as_given", [list, torch.tensor, lambda ids: torch.tensor([ids]), tuple])
def test_a_stream_takes_its_prompt_as_a_list_or_a_tensor(as_given):
    model, prompt = small_model(), [1, 2, 3]
    expected = [token.id for token in stream(model, torch.tensor(prompt), max_new_tokens=4, temperature=0)]
    assert [t.id for t in stream(model, as_given(prompt), max_new_tokens=4, temperature=0)] == expected


# What a stream tells


@pytest.mark.parametrize("settings", [{}, {**SETTINGS, "repetition_penalty": 1.5}], ids=["plain", "filtered"])
def test_the_log_probability_is_the_models_own_before_any_filter(settings):
    model, prompt = exact_model(), random_ids(6)
    tokens = list(stream(model, prompt, max_new_tokens=10, seed=1, **settings))
    ids = torch.cat([prompt, torch.tensor([token.id for token in tokens])])
    expected = model(ids[None])[0].log_softmax(dim=-1).tolist()
    for position, token in enumerate(tokens, start=5):
        assert token.logprob == pytest.approx(expected[position][token.id], abs=EXACT)


@given(st.lists(st.integers(0, 256), min_size=1, max_size=30))
def test_streamed_text_joins_to_the_text_of_all_ids(script):
    tokens = scripted_stream(script)
    text = text_of(tokens)
    assert text + tokens.rest == TOKENIZER.decode(script)
    assert set(tokens.rest) <= {"\ufffd"}


def test_streamed_text_never_holds_half_a_character():
    assert [token.text for token in scripted_stream("né🐍!")] == ["n", "", "é", "", "", "", "🐍", "!"]


def test_a_character_cut_by_the_end_is_the_rest_of_the_text():
    tokens = scripted_stream("aé", max_new_tokens=2)
    assert [token.text for token in tokens] == ["a", ""]
    assert tokens.rest == "\ufffd"


def test_without_a_tokenizer_the_text_is_empty():
    assert text_of(scripted_stream("abc", tokenizer=None)) == ""


@pytest.mark.parametrize(
    ("stop", "count", "reason"),
    [(None, 3, "length"), (ord("d"), 3, "length"), (ord("c"), 3, "stop"), ("b", 2, "stop"), ("cd", 3, "length")],
)
def test_a_stream_says_why_it_ended(stop, count, reason):
    tokens = scripted_stream("abcde", stop, max_new_tokens=3)
    assert tokens.finish_reason is None
    assert len(list(tokens)) == count
    assert tokens.finish_reason == reason
    assert list(tokens) == [], "a stream that ended stays ended"


def test_no_new_tokens_end_a_stream_before_it_begins():
    tokens = scripted_stream("abc", max_new_tokens=0)
    assert tokens.finish_reason == "length"
    assert list(tokens) == []
    assert tokens.last_token is None


@pytest.mark.parametrize("cut", [1, 4, 9])
def test_going_on_from_the_cache_of_a_stream_equals_one_long_generation(cut):
    model, prompt = exact_model(), random_ids(6)
    long = [token.id for token in stream(model, prompt, max_new_tokens=10, temperature=0)]

    first = stream(model, prompt, max_new_tokens=cut, temperature=0)
    ids = [token.id for token in first]
    assert first.last_token.tolist() == ids[-1:]
    assert first.cache.tokens_read.tolist() == [6 + cut - 1]
    ids += [t.id for t in stream(model, first.last_token, max_new_tokens=10 - cut, temperature=0, cache=first.cache)]

    assert ids == long


def test_generate_and_stream_tell_how_much_of_a_long_prompt_is_read():
    model, prompt, heard = small_model(n_layer=2), random_ids(1, 2500), {generate: [], stream: []}
    for function, shares in heard.items():
        function(model, prompt, max_new_tokens=1, seed=0, on_progress=shares.append)
    pieces = -(-2500 // tokens_per_piece(model.config))
    assert heard[generate] == heard[stream] == [(i + 1) / (2 * pieces) for i in range(2 * pieces)]
    assert pieces > 1


def test_generate_goes_on_from_a_cache():
    model, prompt = exact_model(), random_ids(2, 9)
    _, cache = model.prefill(prompt[:, :5])
    whole = model.generate(prompt, max_new_tokens=8, temperature=0)
    continued = model.generate(prompt[:, 5:], max_new_tokens=8, temperature=0, cache=cache)
    assert torch.equal(continued, whole[:, 5:])


def test_a_stream_can_be_made_in_one_thread_and_read_in_another():
    model, prompt = small_model(), random_ids(6)
    expected = list(stream(model, prompt, max_new_tokens=6, seed=1))
    tokens = stream(model, prompt, max_new_tokens=6, seed=1)
    got: list = [next(tokens)]
    worker = threading.Thread(target=lambda: got.extend(tokens))
    worker.start()
    worker.join(timeout=60)
    assert got == expected


def test_no_graph_is_kept_for_gradients_that_nobody_wants():
    model = small_model()
    assert all(parameter.requires_grad for parameter in model.parameters())
    tokens = stream(model, [1, 2], max_new_tokens=3, seed=0)
    list(tokens)
    kept = [state for layer in tokens.cache.layers for state in (layer.conv_window, layer.ssm_state)]
    assert not any(state.requires_grad for state in kept)
    assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled(), "the caller's mode is left as it was"


def test_a_cache_out_of_a_stream_may_go_into_training():
    model = small_model()
    tokens = stream(model, [1, 2], max_new_tokens=3, seed=0)
    list(tokens)
    logits, _ = model.prefill(tokens.last_token[None], tokens.cache)
    logits.sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


# Batches

RAGGED = [[7], [1, 2, 3, 4, 5], [250, 9, 30]]


def padded(side: str) -> tuple[Tensor, Tensor]:
    width, noise = max(map(len, RAGGED)), 77
    rows, masks = [], []
    for prompt in RAGGED:
        fill = width - len(prompt)
        row, mask = ([noise] * fill, prompt), ([0] * fill, [1] * len(prompt))
        rows.append(sum(row if side == "left" else row[::-1], []))
        masks.append(sum(mask if side == "left" else mask[::-1], []))
    return torch.tensor(rows), torch.tensor(masks)


@pytest.mark.parametrize("penalty", [1.0, 1.5])
@pytest.mark.parametrize("side", ["left", "right"])
def test_a_ragged_batch_equals_each_prompt_alone(side, penalty):
    model = exact_model()
    options = {"max_new_tokens": 7, "temperature": 0, "repetition_penalty": penalty}
    ids, mask = padded(side)
    together = model.generate(ids, attention_mask=mask, **options)
    assert torch.equal(together[:, :5], ids)
    for row, prompt in enumerate(RAGGED):
        alone = model.generate(torch.tensor([prompt]), **options)
        assert together[row, 5:].tolist() == alone[0, len(prompt) :].tolist()


@pytest.mark.parametrize(
    ("mask", "chosen"), [([0, 0, 1], 77), ([0, 1, 1], 5), (None, 5)], ids=["padding", "one of two real", "no mask"]
)
def test_the_repetition_penalty_does_not_count_padding(mask, chosen):
    model = ScriptedModel([77])
    logits = torch.zeros(1, 257)
    logits[0, 77], logits[0, 5] = 1.0, 0.9  # 77 wins unless it was seen
    model.prefill = lambda *_, **__: (logits, 0)
    mask = None if mask is None else torch.tensor([mask])
    ids = generate(
        model,
        torch.tensor([[77, 77, 8]]),
        attention_mask=mask,
        max_new_tokens=1,
        temperature=0,
        repetition_penalty=1.5,
    )
    assert ids[0, -1] == chosen


@pytest.mark.parametrize(
    ("options", "fill"),
    [
        ({"stop": 9}, 9),
        ({"stop": [300, 9]}, 300),
        ({"stop": 9, "pad_token_id": 4}, 4),
        ({"stop": "\t", "tokenizer": TOKENIZER}, 0),
    ],
    ids=["stop token", "first stop token", "given", "no stop token"],
)
def test_rows_that_end_early_are_filled_and_the_result_ends_with_the_longest(options, fill):
    model = ScriptedModel([5, 9, 6, 6, 6], [5, 5, 5, 9, 6], [9], vocab_size=301)
    ids = generate(model, torch.zeros(3, 2, dtype=torch.long), max_new_tokens=20, temperature=0, **options)
    new = [[5, 9, fill, fill], [5, 5, 5, 9], [9, fill, fill, fill]]
    assert ids.tolist() == [[0, 0, *row] for row in new]
    # and what has ended is read no further: all three, then the first two, then the second
    assert model.calls[1:] == [("step", [5, 5]), ("step", [5]), ("step", [5])]


def test_rows_that_go_on_are_as_if_alone_when_others_have_ended():
    model, prompts = exact_model(), random_ids(4, 6)
    alone = [generate(model, row[None], max_new_tokens=30, temperature=0)[0, 6:].tolist() for row in prompts]
    stop = alone[0][4]  # the first row ends with its fifth token, or before
    together = generate(model, prompts, max_new_tokens=30, temperature=0, stop=stop, pad_token_id=0)[:, 6:].tolist()
    for row, new in zip(alone, together, strict=True):
        end = row.index(stop) + 1 if stop in row else len(row)
        assert new[:end] == row[:end]
        assert not any(new[end:])


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32])
def test_the_result_has_the_prompt_in_front_and_its_dtype(dtype):
    prompt = random_ids(2, 5).to(dtype)
    ids = small_model().generate(prompt, max_new_tokens=3)
    assert ids.shape == (2, 8)
    assert ids.dtype == dtype
    assert torch.equal(ids[:, :5], prompt)


@pytest.mark.parametrize(
    ("options", "length"),
    [
        ({"max_new_tokens": 4}, 9),
        ({"max_length": 9}, 9),
        ({"max_new_tokens": 0}, 5),
        ({"max_length": 5}, 5),
    ],
    ids=str,
)
def test_max_length_counts_the_prompt_and_max_new_tokens_does_not(options, length):
    model, prompt = small_model(), random_ids(2, 5)
    assert model.generate(prompt, **options).shape == (2, length)
    assert len(list(stream(model, prompt[0], **options))) == length - 5


def test_no_rows_give_no_rows():
    assert small_model().generate(torch.zeros(0, 3, dtype=torch.long), max_new_tokens=2).shape == (0, 3)


# Stopping


@pytest.mark.parametrize(
    ("script", "stop", "text", "count"),
    [
        ("abcdef", ["d"], "abc", 4),
        ("abcdef", ["cde"], "ab", 5),
        ("abcdef", ["ab"], "", 2),
        ("abcdef", ["abcdef"], "", 6),
        ("aaab..", ["aab"], "a", 4),  # the stop begins inside what looked like one already
        ("ababac..", ["abac"], "ab", 6),
        ("abcdef", ["de", "bcd"], "a", 4),
        ("abcdef", ["cd", "bcd"], "a", 4),  # both complete at once: the text ends where the earlier begins
        ("abcdef", ["xyz"], "abcdef", 6),
        ("abcdef", ["efg"], "abcdef", 6),  # the end looks like a stop, and is none
        ("né🐍é!", ["🐍é"], "né", 9),
        ("né🐍é!", ["é"], "n", 3),
        ("abcdef", "cd", "ab", 4),
        ("abcdef", ["cd", ord("b")], "a", 2),
        ("abcdef", [ord("f"), "cd"], "ab", 4),
        ("ab\0cd", 0, "ab", 3),
    ],
)
def test_text_ends_where_the_first_stop_begins(script, stop, text, count):
    tokens = list(scripted_stream(script, stop))
    assert "".join(token.text for token in tokens) == text
    assert len(tokens) == count
    ids = generate(
        ScriptedModel(script),
        torch.tensor([[0]]),
        max_new_tokens=len(script.encode()),
        temperature=0,
        stop=stop,
        tokenizer=TOKENIZER,
    )
    assert ids[0, 1:].tolist() == [token.id for token in tokens]


@given(
    script=st.text("abé", min_size=1, max_size=20),
    stops=st.lists(st.text("abé", min_size=1, max_size=4), min_size=1, max_size=3),
)
def test_released_text_never_holds_a_stop_and_nothing_certain_is_withheld(script, stops):
    tokens = scripted_stream(script, stops)
    released, read = "", b""
    for token in tokens:
        read += bytes([token.id])
        released += token.text
        if tokens.finish_reason is None:
            whole = read.decode("utf-8", errors="ignore")
            could_begin_a_stop = [n for n in range(len(whole)) if any(s.startswith(whole[n:]) for s in stops)]
            assert released == whole[: min(could_begin_a_stop, default=len(whole))]
    # The plain rule: the shortest beginning of the script that holds a stop ends the text where that stop begins.
    ends = [n for n in range(len(script) + 1) if any(s in script[:n] for s in stops)]
    expected = script if not ends else script[: min(i for s in stops if (i := script[: ends[0]].find(s)) >= 0)]
    assert released == expected
    assert tokens.finish_reason == ("stop" if ends else "length")


def test_a_stop_string_in_the_prompt_does_not_stop():
    tokens = stream(ScriptedModel("cdab"), list(b"ab"), max_new_tokens=4, temperature=0, stop="ab", tokenizer=TOKENIZER)
    assert text_of(tokens) == "cd"


def test_a_stop_string_across_prompt_and_new_text_does_not_stop():
    tokens = stream(ScriptedModel("bc"), list(b"a"), max_new_tokens=2, temperature=0, stop="ab", tokenizer=TOKENIZER)
    assert text_of(tokens) == "bc"


def test_text_that_only_looked_like_a_stop_is_given_when_a_stop_token_comes():
    tokens = list(scripted_stream([*b"abc", END], ["bcd", END]))
    assert [token.text for token in tokens] == ["a", "", "", "bc"]


# Bad input

BAD_FOR_BOTH = [
    ({}, ValueError, "give exactly one of max_length and max_new_tokens; got max_length=None and max_new_tokens=None"),
    (
        {"max_length": 9, "max_new_tokens": 2},
        ValueError,
        "give exactly one of max_length and max_new_tokens; got max_length=9 and max_new_tokens=2",
    ),
    ({"max_length": 2}, ValueError, "max_length must be at least the prompt's length, 3; got 2"),
    ({"max_new_tokens": -1}, ValueError, "max_new_tokens must be 0 or more; got -1"),
    ({"max_new_tokens": 1.5}, TypeError, "max_new_tokens must be a whole number; got 1.5"),
    ({"max_new_tokens": True}, TypeError, "max_new_tokens must be a whole number; got True"),
    ({"max_length": "9"}, TypeError, "max_length must be a whole number; got '9'"),
    (
        {"max_new_tokens": 1, "temperature": -1},
        ValueError,
        "temperature must be a finite number, 0 (greedy) or more; got -1",
    ),
    ({"max_new_tokens": 1, "top_p": 0}, ValueError, "top_p must be in (0, 1], or None; got 0"),
    ({"max_new_tokens": 1, "top_k": 1.5}, TypeError, "top_k must be a whole number or None; got 1.5"),
    ({"max_new_tokens": 1, "min_p": 2}, ValueError, "min_p must be in [0, 1], or None; got 2"),
    (
        {"max_new_tokens": 1, "repetition_penalty": 0},
        ValueError,
        "repetition_penalty must be a finite number above 0; got 0",
    ),
    ({"max_new_tokens": 1, "stop": 257}, ValueError, "stop must be in 0..256 (vocab_size 257); got 257"),
    ({"max_new_tokens": 1, "stop": [3, -1]}, ValueError, "stop must be in 0..256 (vocab_size 257); got -1"),
    ({"max_new_tokens": 1, "stop": 1.5}, TypeError, "stop must be token ids or strings, or a list of them; got 1.5"),
    (
        {"max_new_tokens": 1, "stop": [None]},
        TypeError,
        "stop must be token ids or strings, or a list of them; got [None]",
    ),
    ({"max_new_tokens": 1, "stop": True}, TypeError, "stop must be a token id, a whole number; got True"),
    (
        {"max_new_tokens": 1, "stop": ["a", ""], "tokenizer": TOKENIZER},
        ValueError,
        "stop must not hold an empty string: it would stop everywhere",
    ),
    (
        {"max_new_tokens": 1, "stop": "end"},
        ValueError,
        "stop strings need a tokenizer to be found in the text; got stop='end' without one",
    ),
    ({"max_new_tokens": 1, "seed": 1.5}, TypeError, "seed must be a whole number or None; got 1.5"),
    ({"max_new_tokens": 1, "seed": "lucky"}, TypeError, "seed must be a whole number or None; got 'lucky'"),
    ({"max_new_tokens": 1, "seed": 2**64}, ValueError, f"seed must be in -2**63..2**64-1; got {2**64}"),
]


@pytest.mark.parametrize("function", [generate, stream])
@pytest.mark.parametrize(("options", "error", "message"), BAD_FOR_BOTH)
def test_a_bad_option_is_refused_with_its_name_the_expectation_and_the_value(function, options, error, message):
    with pytest.raises(error) as caught:
        function(small_model(), torch.tensor([[1, 2, 3]]), **options)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("input_ids", "error", "message"),
    [
        (torch.tensor([1, 2]), ValueError, "input_ids must have shape (b,l) with l >= 1; got (2,)"),
        (torch.zeros(2, 0, dtype=torch.long), ValueError, "input_ids must have shape (b,l) with l >= 1; got (2, 0)"),
        (torch.zeros(1, 2, 3, dtype=torch.long), ValueError, "input_ids must have shape (b,l) with l >= 1; got"),
        (torch.tensor([[1.0, 2.0]]), TypeError, "input_ids must be integers; got torch.float32"),
        (torch.tensor([[True]]), TypeError, "input_ids must be integers; got torch.bool"),
        (torch.tensor([[5, 257]]), ValueError, "input_ids must lie in 0..256 (vocab_size 257); got 257"),
        (torch.tensor([[-3, 5]]), ValueError, "input_ids must lie in 0..256 (vocab_size 257); got -3"),
        ([[1, 2]], TypeError, "input_ids must be a tensor of token ids, (b,l); got list"),
        ("text", TypeError, "input_ids must be a tensor of token ids, (b,l); got str"),
    ],
)
def test_bad_prompts_are_refused_by_generate(input_ids, error, message):
    with pytest.raises(error) as caught:
        generate(small_model(), input_ids, max_new_tokens=1)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("prompt", "error", "message"),
    [
        ([], ValueError, "prompt must be one sequence of at least one token, (l,) or (1,l); got shape (1, 0)"),
        (torch.zeros(2, 3, dtype=torch.long), ValueError, "prompt must be one sequence of at least one token, (l,)"),
        (5, ValueError, "prompt must be one sequence of at least one token, (l,) or (1,l); got shape ()"),
        ([1.5, 2.5], TypeError, "must be integers; got torch.float32"),
        ([True, False], TypeError, "must be integers; got torch.bool"),
        ([300], ValueError, "must lie in 0..256 (vocab_size 257); got 300"),
        ("def f", TypeError, "prompt must be token ids, as tokenizer.encode gives them; got the text 'def f'"),
    ],
)
def test_bad_prompts_are_refused_by_stream_before_the_first_token_is_asked_for(prompt, error, message):
    with pytest.raises(error) as caught:
        stream(small_model(), prompt, max_new_tokens=1)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"attention_mask": torch.ones(1, 2)}, ValueError, "attention_mask must have the shape of input_ids, (1, 3)"),
        ({"attention_mask": torch.zeros(1, 3)}, ValueError, "attention_mask must mark at least one real token per row"),
        ({"pad_token_id": 257}, ValueError, "pad_token_id must be in 0..256 (vocab_size 257); got 257"),
        ({"pad_token_id": "x"}, TypeError, "pad_token_id must be a token id, a whole number; got 'x'"),
    ],
)
def test_bad_masks_and_padding_are_refused(options, error, message):
    with pytest.raises(error) as caught:
        generate(small_model(), torch.tensor([[1, 2, 3]]), max_new_tokens=1, **options)
    assert message in str(caught.value)


def test_a_cache_of_another_batch_size_is_refused():
    model = small_model()
    with pytest.raises(ValueError, match="cache must hold 1 rows, as the tokens; got 2"):
        generate(model, torch.tensor([[1, 2, 3]]), max_new_tokens=1, cache=model.new_cache(2))


def test_a_model_that_broke_stops_the_generation_with_the_row():
    model = small_model()
    with torch.no_grad():
        model.norm_f.weight[3] = torch.nan
    with pytest.raises(ValueError, match="logits must be finite .* row 0 is nan"):
        model.generate(torch.tensor([[1, 2, 3]]), max_new_tokens=1)


def test_a_row_that_breaks_is_called_by_its_number_in_the_batch_when_others_have_ended(monkeypatch):
    model = ScriptedModel([9], [5, 5, 5], [9], [5, 5, 5])
    logits = model._logits

    def broken(cache):
        found = logits(cache)
        if cache.given == 2:
            found[cache.rows.index(3)] = torch.nan
        return found

    monkeypatch.setattr(model, "_logits", broken)
    with pytest.raises(ValueError, match="logits must be finite .* row 3 is nan"):
        generate(model, torch.zeros(4, 2, dtype=torch.long), max_new_tokens=5, temperature=0, stop=9)
    assert model.calls[-1] == ("step", [5, 5])
