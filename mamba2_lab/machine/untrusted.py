"""Files that somebody else wrote: which of them are opened, how much of them is read, and the error that names them.

A folder from a stranger may hold links, pipes and devices in place of files, gigabytes in place of a page, and JSON
that no parser survives. Only a regular file that belongs to its folder is opened, after it was looked at.
"""

from __future__ import annotations

import json
import reprlib
import stat
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

LARGEST_JSON = 4_000_000  # bytes: an index that names tens of thousands of tensors
MOST_BRACKETS = 2_000_000  # lists and objects, of which Python makes fifty bytes from two
LONGEST_MESSAGE = 2000  # characters


class CheckpointError(ValueError):
    """A file that does not hold what it should: the message names the file, the key, what was expected and found."""

    def __init__(self, message: str) -> None:  # it quotes what was found, and that may be megabytes long
        super().__init__(message if len(message) <= LONGEST_MESSAGE else f"{message[:LONGEST_MESSAGE]} ...")


def require_own_file(path: Path, largest: int | None = None) -> None:
    """Look at a file without opening it.

    A link may lead to another file of its folder, and from a snapshot in the Hub's cache to the blobs of that cache,
    where huggingface_hub keeps what it has downloaded. It may lead nowhere else.

    Args:
        path: the file; its folder is the one that it must belong to.
        largest: its size in bytes at most.

    Raises:
        CheckpointError: unless it is there, regular, of its folder, and not too large.
    """
    try:
        found = path.stat()
        target, homes = path.resolve(), list(_homes(path.parent.resolve()))
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        raise CheckpointError(f"{path}: expected a file; found none: {error}") from error
    if not any(target.is_relative_to(home) for home in homes):
        raise CheckpointError(
            f"{path}: expected a file of this folder; found a link that leads out of it, to {target}. "
            "If that is the file you want, copy it into the folder"
        )
    if not stat.S_ISREG(found.st_mode):
        raise CheckpointError(f"{path}: expected a regular file; found {_kind(found.st_mode)}")
    if largest is not None and found.st_size > largest:
        raise CheckpointError(f"{path}: expected at most {largest:,} bytes; found {found.st_size:,}")


def _homes(folder: Path) -> Iterator[Path]:
    """Where the files of a folder may lie."""
    yield folder
    for parent in folder.parents:
        if parent.name == "snapshots" and parent.parent.name.startswith("models--"):  # .../models--a--b/snapshots/c1d2
            yield parent.parent / "blobs"
            yield parent.parent.parent / "blobs"  # what several models share


def _kind(mode: int) -> str:
    kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
    return kinds.get(stat.S_IFMT(mode), "a device")


def read_text(path: Path, largest: int = LARGEST_JSON) -> str:
    """The text of a file in UTF-8.

    Raises:
        CheckpointError: if `require_own_file` refuses it, it cannot be read, or is no UTF-8.
    """
    require_own_file(path, largest)
    try:
        with path.open("rb") as file:
            return file.read(largest).decode("utf-8")
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: expected text in UTF-8; found {error}") from error


def read_json(path: Path, largest: int = LARGEST_JSON) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        CheckpointError: if `read_text` refuses the file, or it holds something else, or one key twice.
    """
    text = read_text(path, largest)
    if (count := text.count("[") + text.count("{")) > MOST_BRACKETS:
        raise CheckpointError(f"{path}: expected at most {MOST_BRACKETS:,} lists and objects; found {count:,}")
    try:
        found = json.loads(text, object_pairs_hook=_object)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: expected JSON; found {error}") from error
    if not isinstance(found, dict):
        raise CheckpointError(f"{path}: expected a JSON object; found {type(found).__name__}")
    return found


def _object(pairs: list[tuple[str, Any]]) -> Any:
    """What stands between braces. transformers writes infinity as {"__float__": "Infinity"}."""
    found = dict(pairs)
    if len(found) < len(pairs):
        [(name, _)] = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"the key {name!r} more than once")
    if found.keys() == {"__float__"} and isinstance(found["__float__"], str):
        return float(found["__float__"])
    return found


def shown(value: object) -> str:
    """Its repr, cut short: what was found may be large, or nested too deep for Python to show."""
    return _brief.repr(value)


_brief = reprlib.Repr()
_brief.maxstring = 200
