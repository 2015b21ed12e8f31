"""Completions are cut where the function ends, and judged by Python's own parser."""

import pytest

from mamba2_lab.data import Document
from mamba2_lab.pretrained.completions import body, headers, parses, share_that_parses

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
    assert sorted(found) == ["def inner(y):\n", "def one(a, b=2):\n", "def two(\n    self,\n    x,\n):\n"]


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


def test_the_share_counts_each_prompt_once_with_a_seed_of_its_own() -> None:
    seen = []

    def complete(prompt: str, seed: int) -> str:
        seen.append((prompt, seed))
        return "    pass\n" if seed % 4 else "    pass pass\n"

    prompts = [f"def f{i}():\n" for i in range(8)]
    assert share_that_parses(complete, prompts) == 0.75
    assert seen == [(prompt, seed) for seed, prompt in enumerate(prompts)]
