"""Answers that live on: an answer that passed is a file of the reader's, and later notebooks use it.

    my-course/answers/decay_mask.py

        import torch

        from mamba2_lab.course import answer

        segsum = answer("segsum")


        def decay_mask(log_decay):
            return torch.exp(segsum(log_decay))

The file holds the reader's function, as it stands in the cell, and what it takes from the notebook: imports, answers to
other exercises, small functions and numbers. Whoever uses it runs it as Python runs any module, so it is the reader's
own code and nothing else; it is judged again, because it may have been edited since.
"""

from __future__ import annotations

import inspect
import symtable
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from mamba2_lab.course.folder import ANSWERS, readers_folder
from mamba2_lab.course.source import source_of
from mamba2_lab.machine.files import write_text

ASKED_FOR = "asked_for"  # what an answer that `answer` or `exercise` gave back has as an attribute: its exercise's name


class BrokenError(Exception):
    """A kept answer cannot be used. The message says why."""


class UnkeptError(Exception):
    """An answer cannot be kept. The message says why."""


def place(name: str) -> Path | None:
    """The file of an answer, there or not; None where nothing is kept."""
    folder = readers_folder()
    return folder / ANSWERS / f"{name}.py" if folder else None


def shown(path: Path) -> str:
    """A file of the reader's as messages name it."""
    return f"{path.parent.name}/{path.name}"


def keep(name: str, function: Callable[..., Any]) -> Path | None:
    """Write an answer into its file, and return which; None where nothing is kept.

    Raises:
        UnkeptError: if it uses what cannot be written down, or cannot be written.
    """
    path = place(name)
    if path is None:
        return None
    text = f"# Your answer to the exercise {name}. It passed its check, and passes it again wherever it is used.\n"
    try:
        write_text(path, text + written(function))
    except OSError as error:
        raise UnkeptError(f"its file cannot be written: {error}") from error
    return path


def load(name: str) -> Callable[..., Any] | None:
    """The function in the file of an answer; None if there is none.

    Raises:
        BrokenError: if the file does not give a function of that name.
    """
    path = place(name)
    if path is None or not path.is_file():
        return None
    names: dict[str, Any] = {"__name__": f"{ANSWERS}.{name}"}
    try:
        exec(compile(path.read_text(encoding="utf-8"), str(path), "exec", dont_inherit=True), names)
    except (Exception, SystemExit) as error:  # whatever is wrong with it, the notebook goes on
        line = f" in line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        raise BrokenError(f"running it raised `{type(error).__name__}: {error}`{line}.") from error
    function = names.get(name)
    if not isinstance(function, FunctionType):
        raise BrokenError(f"it defines no function `{name}`.")
    return function


# A function, with what it takes from around it


def written(function: Callable[..., Any]) -> str:
    """A module that defines the function, as text.

    Raises:
        UnkeptError: if it uses something that is neither an import, nor a function of the notebook, nor a plain value.
    """
    imports: set[str] = set()
    before: dict[str, str] = {}
    _collect(function, imports, before, seen=set())
    if any("answer(" in line for line in before.values()):
        imports.add("from mamba2_lab.course import answer")
    values = [line for line in before.values() if not line.startswith("def ")]
    functions = [text for text in before.values() if text.startswith("def ")]
    parts = ["\n".join(sorted(imports, key=lambda line: (line.startswith("from"), line))), "\n".join(values)]
    head = "\n\n".join(part for part in parts if part)
    return "\n\n\n".join(filter(None, [head, *functions, source_of(function)])) + "\n"


def _collect(function: Callable[..., Any], imports: set[str], before: dict[str, str], seen: set[str]) -> None:
    """Add what a function needs to the imports, and to the lines that stand before it."""
    for name, value in _taken(function):
        if name in seen or name == getattr(function, "__name__", ""):
            continue
        seen.add(name)
        module, called = getattr(value, "__module__", ""), getattr(value, "__name__", "")
        if isinstance(value, ModuleType):
            whole = value.__name__
            package, _, last = whole.rpartition(".")
            plain = f"import {whole}" if whole == name else f"import {whole} as {name}"
            imports.add(f"from {package} import {name}" if package and last == name else plain)
        elif asked_for := getattr(value, ASKED_FOR, ""):
            before[name] = f'{name} = answer("{asked_for}")'
        elif isinstance(value, FunctionType) and module == function.__module__:
            _collect(value, imports, before, seen)
            before[name] = source_of(value, name=name)
        elif isinstance(value, int | float | str | bool | None):
            before[name] = f"{name} = {value!r}"
        elif module != function.__module__ and getattr(sys.modules.get(module), called or name, None) is value:
            imports.add(f"from {module} import {called}" + ("" if called == name else f" as {name}"))
        else:
            what = f"`{name}` of this notebook, a {type(value).__name__}"
            raise UnkeptError(f"it uses {what}. Take it as a parameter, or make it inside.")


def _taken(function: Callable[..., Any]) -> Iterator[tuple[str, Any]]:
    """The names that a function takes from its module, in order, with what they stand for there."""
    try:
        source = source_of(function)
    except (OSError, TypeError, SyntaxError, StopIteration) as error:
        raise UnkeptError("its source is not to be found.") from error
    tables, names = [symtable.symtable(source, "answer", "exec")], set()
    for table in tables:
        tables += table.get_children()
        if table.get_type() == "function":
            names |= {symbol.get_name() for symbol in table.get_symbols() if symbol.is_global()}
    if not isinstance(function, FunctionType):
        raise UnkeptError("it is no plain function.")
    around = inspect.unwrap(function).__globals__
    return ((name, around[name]) for name in sorted(names) if name in around)
