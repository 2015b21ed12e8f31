"""Does what a model writes parse? Function headers that it never saw, completed, and given to Python's own parser."""

from __future__ import annotations

import ast
import hashlib
import textwrap
from collections.abc import Iterable, Sequence

import torch

from mamba2_lab.data import Document
from mamba2_lab.mamba2_lm import MambaLM
from mamba2_lab.text import Tokenizer
from mamba2_lab.yardsticks.ngram import NGram

COUNT, LENGTH, TEMPERATURE = 100, 400, 0.7  # prompts, characters written for each, and how boldly


def headers(documents: Iterable[Document], count: int) -> list[str]:
    """Up to `count` function headers, from `def` to the colon, flush left, no two alike.

    They are taken in the order of a hash of their text, so a count takes a fair sample that does not change.
    """
    found = {header for document in documents for header in _headers_of(document.text)}
    return sorted(found, key=lambda header: hashlib.sha256(header.encode()).digest())[:count]


def _headers_of(text: str) -> list[str]:
    lines = text.splitlines(keepends=True)
    functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)]
    spans = [(node.lineno - 1, node.body[0].lineno - 1) for node in functions]
    headers = [textwrap.dedent("".join(lines[start:stop])).rstrip() for start, stop in spans]
    return [header for header in headers if header.endswith(":")]  # none with its body on the same line


def body(completion: str) -> str:
    """The part of a completion that belongs to the function: up to the first line that is not indented.

    A last line that was cut off by the length is left out with it.
    """
    lines = completion.splitlines(keepends=True)
    end = next((i for i, line in enumerate(lines) if line.strip() and not line[0].isspace()), None)
    if end is None and lines and not lines[-1].endswith("\n"):
        end = len(lines) - 1
    return "".join(lines[:end])


def parses(header: str, completion: str) -> bool:
    """Whether the header and the body that was written for it are a Python function."""
    try:
        ast.parse(header + body(completion))
    except (SyntaxError, ValueError):  # ValueError: a NUL byte
        return False
    return True


def share_that_parses(prompts: Sequence[str], completions: Sequence[str]) -> float:
    """Of all prompts, how many became a Python function."""
    return sum(parses(*pair) for pair in zip(prompts, completions, strict=True)) / len(prompts)


def completions_of(model: MambaLM, tokenizer: Tokenizer, prompts: Sequence[str], seed: int = 0) -> list[str]:
    """What a model writes after each prompt, all of them at once: `LENGTH` characters, or fewer if the text ends.

    Prompts end at the colon, where no token of a text goes on: a subword tokenizer has tokens such as a line's end and
    the next line's indentation in one, and half of one at the end of a prompt is a text it never saw.
    """
    encoded = [[tokenizer.end_of_text, *tokenizer.encode(prompt)] for prompt in prompts]
    longest = max(map(len, encoded))
    ids = torch.tensor([[0] * (longest - len(row)) + row for row in encoded])
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in encoded])
    end = tokenizer.end_of_text
    written = model.generate(
        ids, attention_mask=mask, max_new_tokens=LENGTH, temperature=TEMPERATURE, stop=end, seed=seed
    )[:, longest:]
    return [_text_before(end, row, tokenizer)[:LENGTH] for row in written.tolist()]


def _text_before(end: int, ids: list[int], tokenizer: Tokenizer) -> str:
    return tokenizer.decode(ids[: ids.index(end)] if end in ids else ids)


def ngram_completions(ngram: NGram, prompts: Sequence[str]) -> list[str]:
    """The same of an n-gram model, the i-th prompt from seed i."""
    texts = [ngram.sample(prompt, LENGTH, seed, TEMPERATURE) for seed, prompt in enumerate(prompts)]
    return [text[len(prompt) :] for prompt, text in zip(prompts, texts, strict=True)]
