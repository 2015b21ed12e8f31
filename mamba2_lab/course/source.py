"""The source of a function: shown, pasted into a cell, or edited to give another function."""

from __future__ import annotations

import ast
import functools
import inspect
import itertools
import linecache
import textwrap
from collections.abc import Callable, Mapping
from typing import Any


def source_of(function: Callable[..., Any], name: str | None = None) -> str:
    """The source of a function from its `def` on, without decorators, as it would stand in a cell.

    Args:
        name: what the function is to be called there; None keeps its own.
    """
    text = textwrap.dedent(inspect.getsource(function))
    node = next(node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef))
    lines = text.splitlines()[node.lineno - 1 : node.end_lineno]
    if name is not None:
        lines[0] = lines[0].replace(f"def {node.name}(", f"def {name}(", 1)
    return "\n".join(lines)


def edited(function: Callable[..., Any], name: str, edits: Mapping[str, str]) -> Callable[..., Any]:
    """The same function under another name, without its docstring and with other texts in its body.

    `inspect` and tracebacks know its source as if it stood in a file.

    Args:
        edits: what stands in the body, and what is to stand there instead. They are made at once: none sees another.

    Raises:
        ValueError: if a text does not stand there exactly once, if two overlap, if one changes nothing, or if what
            comes out is no Python.
    """
    head, body = _head_and_body(function)
    if not edits or any(old == new for old, new in edits.items()):
        raise ValueError(f"{name} must replace texts by others; got {dict(edits)}")
    for old in edits:
        if (count := body.count(old)) != 1:
            what = f"replace what stands once in the body of {function.__name__}"
            raise ValueError(f"{name} must {what}; got {old!r}, which stands there {count} times")
    places = sorted((body.index(old), old) for old in edits)
    if any(start + len(old) > after for (start, old), (after, _) in itertools.pairwise(places)):
        raise ValueError(f"{name} must replace texts that do not overlap; got {', '.join(map(repr, edits))}")
    for start, old in reversed(places):
        body = body[:start] + edits[old] + body[start + len(old) :]
    return compiled(f"def {name}{head}{body}", name, function)


def compiled(source: str, name: str, like: Callable[..., Any]) -> Callable[..., Any]:
    """The function of that name that a source defines, among the globals of another function."""
    file = f"<{like.__module__}.{like.__name__}, {name}>"
    try:
        code = compile(source, file, "exec", dont_inherit=True)
    except SyntaxError as error:
        line = (error.text or "").strip()
        raise ValueError(f"{name} must be valid Python; got {error.msg} in line {error.lineno}, `{line}`") from error
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)  # without a time: it stays
    defined: dict[str, Any] = {}
    exec(code, like.__globals__, defined)
    return defined[name]


@functools.cache  # a reference has many edits
def _head_and_body(function: Callable[..., Any]) -> tuple[str, str]:
    """What stands between the name of a function and its docstring, and what stands below."""
    source = source_of(function)
    (node,) = ast.parse(source).body
    assert isinstance(node, ast.FunctionDef)
    lines, first = source.splitlines(keepends=True), node.body[0]
    start = first.lineno - 1
    head = "".join(lines[:start]).removeprefix(f"def {node.name}")
    return head, "".join(lines[first.end_lineno if ast.get_docstring(node) else start :])
