"""The n-gram model against plain counting with dictionaries."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mamba2_lab.yardsticks.ngram import NGram

TEXTS = ["def f(x):\n    return x\n", "def g(y):\n    return y + 1\n", "x = f(g(2))\n"]


def plain_probability(texts: list[str], order: int, context: bytes, byte: int) -> float:
    """Witten-Bell by the formula, from counts in dictionaries."""
    data = b"\0" * (order - 1) + b"\0".join(text.encode() for text in texts)
    context = (b"\0" * (order - 1) + context)[len(context) :] if order > 1 else b""
    probability = 1 / 256
    for k in range(1, order + 1):
        history = context[len(context) - (k - 1) :]
        followers = Counter(data[i] for i in range(order - 1, len(data)) if data[i - (k - 1) : i] == history)
        if followers:
            kinds, total = len(followers), sum(followers.values())
            probability = (followers[byte] + kinds * probability) / (total + kinds)
    return probability


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_probabilities_are_those_of_plain_counting(order: int) -> None:
    model = NGram(TEXTS, order)
    for context in (b"", b"d", b"def ", b"return ", b"never seen", b"x\n"):
        expected = [plain_probability(TEXTS, order, context, byte) for byte in range(256)]
        assert model.next_byte(context) == pytest.approx(expected, rel=1e-12)


@given(context=st.binary(max_size=8))
def test_probabilities_sum_to_one_after_any_context(context: bytes) -> None:
    probabilities = NGram(TEXTS).next_byte(context)
    assert probabilities.sum() == pytest.approx(1, rel=1e-12)
    assert probabilities.min() > 0


@pytest.mark.parametrize("text", ["def h(z):\n", "é", "return x + 1\n"])
def test_bits_of_a_text_are_those_of_its_bytes_one_after_another(text: str) -> None:
    model, data = NGram(TEXTS), text.encode()
    expected = -sum(math.log2(model.next_byte(data[:i])[data[i]]) for i in range(len(data)))
    assert model.bits(text) == pytest.approx(expected, rel=1e-10)


def test_a_sample_is_drawn_from_the_probabilities_and_repeats_with_its_seed() -> None:
    model = NGram(TEXTS, 2)
    assert model.sample("de", 30, seed=1) == model.sample("de", 30, seed=1) != model.sample("de", 30, seed=2)
    drawn = Counter(model.sample("(", 1, seed=seed)[1:] for seed in range(3000))
    expected = model.next_byte(b"(")
    for letter in "xyg":
        assert drawn[letter] / 3000 == pytest.approx(expected[ord(letter)], abs=0.03)


def test_a_low_temperature_takes_the_likeliest_byte() -> None:
    model = NGram(TEXTS)
    assert model.sample("retu", 1, seed=0, temperature=0.01) == "retur"
    assert int(np.argmax(model.next_byte(b"retu"))) == ord("r")


def test_an_order_that_does_not_fit_and_an_empty_text_are_refused() -> None:
    with pytest.raises(ValueError, match=r"order must be 1\.\.8, .*; got 9"):
        NGram(TEXTS, 9)
    with pytest.raises(ValueError, match="texts must be some text; got 'none'"):
        NGram([])
