"""What a text costs a model, held against its logits summed up by hand; in stretches, blocks and windows."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.families import NAMES, each_family, family_model
from support.many_tokenizers import (
    codestral_like,
    every_tokenizer,
    gpt_like,
    llama_like,
    metaspace_with_bytes,
    our_bpe,
    sentencepiece_like,
)
from support.small_models import small_model
from tokenizers import processors
from torch import Tensor

from mamba2_lab import Mamba2LM, MambaLM
from mamba2_lab.data import Document
from mamba2_lab.evaluation import Reading, reading
from mamba2_lab.evaluation.blocks import blocks
from mamba2_lab.text import ByteTokenizer, HuggingFaceTokenizer, Tokenizer

TEXT = "Naïve texts, 日本 and 🐍,\n    of several lines:\n" + "the end is near. " * 9
SHORT = TEXT[:40]
ATTENDS = [name for name in NAMES if name in ("attention", "hybrid")]


def read_whole(model: MambaLM, tokenizer: Tokenizer, text: str, segment: int | None = None) -> Reading:
    read = Reading(model, tokenizer, segment)
    read.read(Document("text", text))
    return read


@torch.no_grad()
def nats_step_by_step(model: MambaLM, ids: list[int], first: int = 1) -> float:
    """One token after another through `step`, probabilities and their logarithms in float64; of the `first` on."""
    nats, cache = 0.0, model.new_cache()
    for i, token in enumerate(ids[:-1]):
        logits, cache = model.step(torch.tensor([token]), cache)
        if i + 1 >= first:
            nats -= math.log(float(logits[0].double().softmax(dim=-1)[ids[i + 1]]))
    return nats


@each_family
def test_a_text_costs_what_its_tokens_cost_one_by_one(family: str) -> None:
    model, tokenizer = family_model(family).cpu(), ByteTokenizer()
    expected = nats_step_by_step(model, [tokenizer.end_of_text, *tokenizer.encode(SHORT)])
    found = read_whole(model, tokenizer, SHORT)
    assert found.tokens == len(SHORT.encode())
    assert found.nats == pytest.approx(expected, rel=1e-6)
    assert found.bits == pytest.approx(expected / math.log(2), rel=1e-6)


@each_family
def test_stretches_of_any_length_give_the_same(family: str) -> None:
    model = family_model(family).cpu()
    expected = read_whole(model.double(), ByteTokenizer(), SHORT).nats
    for segment in (1, 3, 16):
        assert read_whole(model, ByteTokenizer(), SHORT, segment).nats == pytest.approx(expected, rel=1e-9)
        assert read_whole(model.float(), ByteTokenizer(), SHORT, segment).nats == pytest.approx(expected, rel=1e-6)
        model.double()


def test_stretches_have_few_lengths_however_long_a_part_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one frees then serves another: of any length, memory that is kept would be full of holes."""
    model = small_model(d_model=8, n_layer=1).cpu()
    prefill, read = model.prefill, []
    monkeypatch.setattr(model, "prefill", lambda ids, *a, **o: read.append(ids.shape[1]) or prefill(ids, *a, **o))
    for length in (1, 255, 4096, 5000, 8191):
        read.clear()
        assert read_whole(model, ByteTokenizer(), "a" * length).tokens == sum(read) == length
        assert all(found in (4096, 2048, 1024, 512, 256) or found < 256 for found in read) and len(read) <= 7


@pytest.mark.parametrize("tokenizer", [ByteTokenizer(), our_bpe(), gpt_like()], ids=lambda kind: type(kind).__name__)
def test_a_model_that_knows_nothing_needs_the_logarithm_of_its_vocabulary(tokenizer: Tokenizer) -> None:
    model = small_model(vocab_size=tokenizer.vocab_size + 3).cpu()
    with torch.no_grad():
        model.embedding.weight.zero_()  # the head is tied to it: every logit is 0
    found = read_whole(model, tokenizer, TEXT)
    assert found.tokens == len(tokenizer.encode(TEXT))
    assert found.bits == pytest.approx(math.log2(tokenizer.vocab_size + 3) * found.tokens, rel=1e-6)


def opened_by_two() -> HuggingFaceTokenizer:
    """Whose files put two tokens before every text."""
    made = sentencepiece_like()
    made.post_processor = processors.TemplateProcessing("<s> <unk> $A", "<s> $A $B", [("<s>", 1), ("<unk>", 0)])
    return HuggingFaceTokenizer(made, "</s>")


@pytest.mark.parametrize("family", ["mamba2", "hybrid"])
@pytest.mark.parametrize(
    ("tokenizer", "opening"),
    [(codestral_like(), [1]), (opened_by_two(), [1, 0]), (llama_like(), [2]), (gpt_like(), [258])],
    ids=["codestral", "two", "llama", "gpt"],
)
def test_before_the_first_token_stands_what_opens_a_text(
    monkeypatch: pytest.MonkeyPatch, family: str, tokenizer: Tokenizer, opening: list[int]
) -> None:
    model = family_model(family, vocab_size=tokenizer.vocab_size).cpu().double()
    text = "hello ab\nab wörld\n" * 2
    ids = tokenizer.encode(text)
    read = Reading(model, tokenizer, 5)
    for part in ("", *blocks(text, 16)):
        read.read(Document("text", part))
        assert (read.nats > 0) == (part != "")
    expected = nats_step_by_step(model, [*opening, *ids], len(opening))
    assert read.tokens == len(ids) and read.nats == pytest.approx(expected, rel=1e-9)
    if family in ATTENDS:
        monkeypatch.setattr(reading, "WINDOW", 12)
        expected = nats_in_windows(model, [*opening, *ids], 12, len(opening))
        assert read_whole(model, tokenizer, text).nats == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("text", ["", "a"])
def test_a_text_of_no_byte_or_of_one(text: str) -> None:
    model = small_model().cpu().double()
    found = read_whole(model, ByteTokenizer(), text)
    assert found.tokens == len(text)
    assert found.nats == pytest.approx(nats_step_by_step(model, [256, *text.encode()]), rel=1e-12)


def test_a_converted_model_has_the_loss_of_transformers() -> None:
    model = small_model().cpu()
    theirs = model.to_transformers().eval()
    ids = torch.tensor([[256, *TEXT.encode()]])
    with torch.no_grad():
        loss = float(theirs(ids, labels=ids).loss)
    found = read_whole(model, ByteTokenizer(), TEXT)
    assert found.nats / found.tokens == pytest.approx(loss, rel=1e-5)


# Windows


@torch.no_grad()
def nats_in_windows(model: MambaLM, ids: list[int], window: int, begin: int = 1) -> float:
    """Each token after those that its window holds: a new forward pass for every one."""
    half, nats = window // 2, 0.0
    for i in range(begin, len(ids)):
        first = 0 if i <= window else (i - 1 - half) // half * half
        logits: Tensor = model(torch.tensor([ids[first:i]]))[0, -1]
        nats -= float(logits.double().log_softmax(dim=-1)[ids[i]])
    return nats


@pytest.mark.parametrize("family", ATTENDS)
def test_where_a_layer_attends_windows_overlap_by_half(monkeypatch: pytest.MonkeyPatch, family: str) -> None:
    monkeypatch.setattr(reading, "WINDOW", 12)
    model = family_model(family).cpu().double()
    for text, segment in (("a" * 12, 1000), ("b" * 13, 5), ("c" * 19, 1000), (SHORT, 5), (SHORT, 1000)):
        expected = nats_in_windows(model, [256, *text.encode()], 12)
        assert read_whole(model, ByteTokenizer(), text, segment).nats == pytest.approx(expected, rel=1e-9)


@each_family
def test_the_window_that_is_asked_for_counts_and_only_where_a_layer_attends(family: str) -> None:
    model = family_model(family).cpu().double()
    asked = Reading(model, ByteTokenizer(), window=8)
    asked.read(Document("text", SHORT))
    ids = [256, *SHORT.encode()]
    expected = nats_in_windows(model, ids, 8) if family in ATTENDS else nats_step_by_step(model, ids)
    assert asked.nats == pytest.approx(expected, rel=1e-9)
    assert read_whole(model, ByteTokenizer(), SHORT).nats == pytest.approx(nats_step_by_step(model, ids), rel=1e-9)


@pytest.mark.parametrize("window", [1, 0, -4])
def test_a_window_that_does_not_hold_two_tokens_is_refused(window: int) -> None:
    with pytest.raises(ValueError, match=f"window must be at least 2; got {window}"):
        Reading(family_model("attention").cpu(), ByteTokenizer(), window=window)


@pytest.mark.parametrize("family", ATTENDS)
def test_attention_never_keeps_more_than_a_window(monkeypatch: pytest.MonkeyPatch, family: str) -> None:
    monkeypatch.setattr(reading, "WINDOW", 32)
    model = family_model(family).cpu()
    prefill, kept = model.prefill, []

    def watched(*arguments: Any, **options: Any) -> Any:
        logits, cache = prefill(*arguments, **options)
        kept.extend(layer.tensors()[name].shape[1] for layer in cache.layers for name in layer.grows)
        return logits, cache

    monkeypatch.setattr(model, "prefill", watched)
    read_whole(model, ByteTokenizer(), TEXT)
    assert max(kept) == 32


def test_a_recurrence_hears_the_whole_text_however_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "WINDOW", 32)
    model = small_model().cpu().double()
    expected = nats_step_by_step(model, [256, *TEXT.encode()])
    assert read_whole(model, ByteTokenizer(), TEXT, 16).nats == pytest.approx(expected, rel=1e-9)


# Blocks

LINES = st.lists(
    st.lists(st.sampled_from(["ab", "a", "hello", "é", "日", "    ", " ", ".", "12"]), max_size=6), max_size=9
)


def tokens_of(text: str, tokenizer: Tokenizer, size: int) -> list[int]:
    """What a reading predicts of a text that comes in blocks."""

    class Model:
        """Takes note of what it is given."""

        device = "cpu"

        def __init__(self) -> None:
            self.read: list[int] = []
            self.config = SimpleNamespace(vocab_size=tokenizer.vocab_size)

        def prefill(self, ids: Tensor, cache: Any, all_positions: bool) -> tuple[Tensor, None]:
            self.read += ids[0].tolist()
            return torch.zeros(1, ids.shape[1], tokenizer.vocab_size), None

    model: Any = Model()
    read = Reading(model, tokenizer)
    for block in blocks(text, size):
        read.read(Document("text", block))
    return [*model.read, read._last][1:] if model.read else []


@given(LINES, st.integers(16, 40))
def test_blocks_have_the_tokens_of_the_whole_text(lines: list[list[str]], size: int) -> None:
    """As long as lines are short and end in letters, as nearly all do in a block of thousands of characters."""
    text = "".join("".join(line)[:6].rstrip(" ") + "a\n" for line in lines)
    assert "".join(blocks(text, size)) == text
    for name, tokenizer in every_tokenizer().items():
        assert tokens_of(text, tokenizer, size) == tokenizer.encode(text), name


@given(st.text(st.sampled_from("ab_. \n日"), max_size=99), st.integers(2, 20))
def test_blocks_are_the_text_none_too_long_and_cut_where_it_is_best(text: str, size: int) -> None:
    found = list(blocks(text, size))
    assert "".join(found) == text
    assert all(0 < len(block) <= size for block in found) or text == ""
    for block, following in zip(found, found[1:], strict=False):
        assert len(block) > size // 2
        half = (block + following)[size // 2 : size + 1]
        if any(half[i - 1] in "ab日" and half[i] == "\n" for i in range(1, len(half))):
            assert block[-1] in "ab日" and following[0] == "\n"


@pytest.mark.parametrize("tokenizer", [llama_like(), metaspace_with_bytes()], ids=["llama", "gemma"])
def test_the_blank_before_every_text_is_read_at_its_beginning_alone(tokenizer: Tokenizer) -> None:
    text = "ab ab\nab\n" * 9
    assert len(list(blocks(text, 16))) > 3
    assert tokens_of(text, tokenizer, 16) == tokenizer.encode(text)


def test_what_a_tokenizer_loses_is_told() -> None:
    model = small_model(vocab_size=600).cpu()
    assert not read_whole(model, llama_like(), " ab 日\n ab").lossy
    assert read_whole(model, every_tokenizer()["whole_words"], "hello  a").lossy
    read = Reading(model, llama_like())
    for block in blocks("ab ab\n  ab\n" * 9, 16):
        read.read(Document("text", block))
    assert not read.lossy


# What cannot be measured


def test_a_token_that_the_model_does_not_have_is_refused() -> None:
    tokenizer = our_bpe()
    with pytest.raises(ValueError, match=r"tokens must lie in 0..9 \(vocab_size 10\)"):
        read_whole(small_model(vocab_size=10).cpu(), tokenizer, "hello")


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_model_that_gives_no_probability_is_refused(value: float) -> None:
    model = small_model().cpu()
    with torch.no_grad():
        model.norm_f.weight.fill_(value)
    with pytest.raises(FloatingPointError, match="text: the model gives a token no probability; got"):
        read_whole(model, ByteTokenizer(), "hello")


def test_reading_changes_neither_the_model_nor_its_mode() -> None:
    model = Mamba2LM(d_model=16, n_layer=1, headdim=8, seed=0).train()
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    read_whole(model, ByteTokenizer(), TEXT)
    assert model.training and torch.is_grad_enabled()
    assert all(torch.equal(weight, before[name]) for name, weight in model.named_parameters())
