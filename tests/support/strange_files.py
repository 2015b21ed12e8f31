"""What may lie in a folder in the place of a file, and a limit to how long a test may wait for it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

needs_posix = pytest.mark.skipif(os.name != "posix", reason="pipes, links and signals are of POSIX")


def put_out(path: Path) -> None:
    """A link to a file of the same content, outside."""
    outside = path.parent.parent / f"outside-{path.name}"
    path.rename(outside)
    path.symlink_to(outside)


def put_up_and_out(path: Path) -> None:
    """The same, by a relative path that begins in the folder."""
    put_out(path)
    outside = path.resolve()
    path.unlink()
    path.symlink_to(Path("..", path.parent.name, "..", outside.name))


def instead(put: Callable[[Path], object]) -> Callable[[Path], object]:
    """The same, after the file is gone."""
    return lambda path: (path.unlink(), put(path))


OUT = "expected a file of this folder; found a link that leads out of it"
STRANGE_FILES: dict[str, tuple[Callable[[Path], object], str]] = {  # how to put it there, and what is said of it
    "a pipe": (instead(os.mkfifo if os.name == "posix" else Path.touch), "expected a regular file; found a pipe"),
    "a folder": (instead(Path.mkdir), "expected a regular file; found a folder"),
    "a device": (instead(lambda path: path.symlink_to("/dev/zero")), OUT),
    "a link out": (put_out, OUT),
    "a link up and out": (put_up_and_out, OUT),
}
of_strange_files = pytest.mark.parametrize(("put", "said"), STRANGE_FILES.values(), ids=STRANGE_FILES.keys())


@contextmanager
def soon(seconds: int = 5) -> Iterator[None]:
    """TimeoutError where this takes longer: opening a pipe would wait for ever."""

    def ring(*_: object) -> None:
        raise TimeoutError(f"took more than {seconds} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
