"""Completions are cut where the function ends, and judged by Python's own parser."""

import pytest
import torch

from mamba2_lab.data import Document
from mamba2_lab.pretrained.completions import (
    LENGTH,
    TEMPERATURE,
    body,
    completions_of,
    headers,
    ngram_completions,
    parses,
    share_that_parses,
)
from mamba2_lab.text import ByteTokenizer
from mamba2_lab.yardsticks.ngram import NGram

SOURCE = """
def one(a, b=2):
    return a


class Box:
    def two(
        self,
        x,
    ):
        def inner(y):
            return y

        return x

    def same_line(self): pass
"""


def test_headers_are_whole_and_flush_left_and_end_before_the_body() -> None:
    found = headers([Document("a.py", SOURCE), Document("b.py", SOURCE)], 10)
    assert sorted(found) == ["def inner(y):", "def one(a, b=2):", "def two(\n    self,\n    x,\n):"]


def test_a_count_takes_the_first_of_an_order_that_does_not_depend_on_the_files() -> None:
    documents = [Document(f"{i}.py", f"def f{i}():\n    pass\n") for i in range(20)]
    assert headers(documents[::-1], 7) == headers(documents, 20)[:7]


@pytest.mark.parametrize(
    ("completion", "expected"),
    [
        ("    x = 1\n    return x\n\n\ndef g():\n    pass\n", "    x = 1\n    return x\n\n\n"),
        ("    x = 1\n    retu", "    x = 1\n"),
        ("    x = 1\n", "    x = 1\n"),
        ("\n\tx = 1\n)\n", "\n\tx = 1\n"),
        ("return\n", ""),
        ("", ""),
    ],
)
def test_a_body_ends_at_the_first_line_that_is_not_indented(completion: str, expected: str) -> None:
    assert body(completion) == expected


@pytest.mark.parametrize(
    ("completion", "verdict"),
    [
        ("    return x\n", True),
        ("    return x\nthis is no python", True),  # behind the function
        ("    if x:\n        return x\n", True),
        ("    if x:\n    return x\n", False),
        ("    return (x\n", False),
        ("    '''never closed\n", False),
        ("    x = '\0'\n", False),
        ("x = 1\n", False),
        ("", False),
    ],
)
def test_a_function_parses_or_does_not(completion: str, verdict: bool) -> None:
    assert parses("def f(x):\n", completion) is verdict


def test_the_share_counts_the_prompts_that_became_functions() -> None:
    completions = ["\n    pass\n" if i % 4 else "\n    pass pass\n" for i in range(8)]
    assert share_that_parses([f"def f{i}():" for i in range(8)], completions) == 0.75


class Scripted:
    """Stands for a model: writes each prompt's own last byte, its number of tokens, and the end of the text."""

    def generate(self, input_ids, attention_mask, max_new_tokens, temperature, stop, seed):
        assert (temperature, seed) == (TEMPERATURE, 5)
        lengths = attention_mask.sum(dim=1)
        new = torch.full((len(input_ids), max_new_tokens), ord("z"))
        new[:, 0], new[:, 1] = input_ids[:, -1], lengths + ord("0")
        new[0, 2] = stop
        return torch.cat([input_ids, new], dim=1)


def test_a_model_completes_all_prompts_at_once_each_after_its_own_text() -> None:
    first, second = completions_of(Scripted(), ByteTokenizer(), ["ab", "cdefg"], seed=5)
    assert first == "b3"  # the end of text in front is a token too
    assert second == "g6" + "z" * (LENGTH - 2)


def test_the_n_gram_completes_each_prompt_with_a_seed_of_its_own() -> None:
    ngram = NGram(["abcabdabe" * 30], order=2)
    first, second, again = ngram_completions(ngram, ["ab", "ab", "ab"])
    assert len({first, second, again}) == 3
    assert first == ngram.sample("ab", LENGTH, 0, TEMPERATURE)[2:] and set(first) <= set("abcde")
