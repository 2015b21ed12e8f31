"""The Python standard library as a corpus: megabytes of real text on every machine that runs this package."""

from __future__ import annotations

import hashlib
import sysconfig
import tokenize
from dataclasses import dataclass
from pathlib import Path

# Folders of the library that are not on every machine, or hold other people's packages.
SKIPPED_FOLDERS = frozenset({"site-packages", "dist-packages", "__pycache__", "test", "tests", "idle_test", "idlelib"})
HELD_OUT_ONE_IN = 20


@dataclass(frozen=True)
class Document:
    """One source file: its path inside the library, and its text."""

    name: str
    text: str

    @property
    def bytes(self) -> int:
        """Size of the text in UTF-8."""
        return len(self.text.encode("utf-8"))


@dataclass(frozen=True)
class Corpus:
    """Documents to train on, documents kept back to measure with, and the files that could not be read."""

    train: tuple[Document, ...]
    held_out: tuple[Document, ...]
    unreadable: tuple[str, ...] = ()


def standard_library(root: str | Path | None = None) -> Corpus:
    """The standard library of this Python, in a fixed order, duplicates left out.

    One file in twenty is held out, chosen by a hash of its name: the same files on every machine and version.

    Args:
        root: the folder to read; by default the standard library of the running Python.

    Raises:
        FileNotFoundError: if there is no Python source under root.
    """
    root = Path(sysconfig.get_paths()["stdlib"] if root is None else root)
    train: list[Document] = []
    held_out: list[Document] = []
    unreadable: list[str] = []
    seen: set[str] = set()
    for path in _source_files(root):
        name = path.relative_to(root).as_posix()
        text = _read(path)
        if text is None:
            unreadable.append(name)
        elif text and text not in seen:
            seen.add(text)
            (held_out if is_held_out(name) else train).append(Document(name, text))
    if not train and not held_out:
        raise FileNotFoundError(f"root must hold Python source files; found none under {root}")
    return Corpus(tuple(train), tuple(held_out), tuple(unreadable))


def is_held_out(name: str) -> bool:
    """Whether the file of that name is kept back from training."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") % HELD_OUT_ONE_IN == 0


def _source_files(root: Path) -> list[Path]:
    """Python files below root, sorted by name, folders that differ between machines left out."""
    return sorted(
        (path for path in root.rglob("*.py") if SKIPPED_FOLDERS.isdisjoint(path.relative_to(root).parts)),
        key=lambda path: path.relative_to(root).as_posix(),
    )


def _read(path: Path) -> str | None:
    """The text in its declared encoding; None if it does not hold to it, or cannot be opened (a broken link, say)."""
    try:
        with tokenize.open(path) as file:
            return file.read()
    except (OSError, SyntaxError, UnicodeDecodeError, LookupError):  # LookupError: an encoding, but not of text
        return None
