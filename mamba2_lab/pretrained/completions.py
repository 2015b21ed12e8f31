"""Does what a model writes parse? Function headers that it never saw, completed, and given to Python's own parser."""

from __future__ import annotations

import ast
import hashlib
import textwrap
from collections.abc import Callable, Iterable

from mamba2_lab.data import Document

Complete = Callable[[str, int], str]  # (prompt, seed) -> what follows it


def headers(documents: Iterable[Document], count: int) -> list[str]:
    """Up to `count` function headers, from `def` to the colon and the line's end, flush left, no two alike.

    They are taken in the order of a hash of their text, so a count takes a fair sample that does not change.
    """
    found = {header for document in documents for header in _headers_of(document.text)}
    return sorted(found, key=lambda header: hashlib.sha256(header.encode()).digest())[:count]


def _headers_of(text: str) -> list[str]:
    lines = text.splitlines(keepends=True)
    functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)]
    spans = [(node.lineno - 1, node.body[0].lineno - 1) for node in functions]
    headers = [textwrap.dedent("".join(lines[start:stop])) for start, stop in spans]
    return [header for header in headers if header.rstrip().endswith(":")]  # none with its body on the same line


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


def share_that_parses(complete: Complete, prompts: list[str]) -> float:
    """Complete each prompt, the i-th from seed i, and count."""
    return sum(parses(prompt, complete(prompt, seed)) for seed, prompt in enumerate(prompts)) / len(prompts)
