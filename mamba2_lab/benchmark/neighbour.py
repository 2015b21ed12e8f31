"""Another process that keeps torch busy, so that it can be measured what computing beside it costs."""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from typing import TypeVar

import torch

Result = TypeVar("Result")


class Neighbour:
    """A process that multiplies matrices, with as many threads as torch likes, while it is asked to; else it sleeps.

    It ends with this object, and with the process that made it.
    """

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        weakref.finalize(self, _end, self._process)
        self._listen()

    def beside(self, work: Callable[[], Result]) -> Result:
        """What the work returns, done while the other process is busy."""
        self._tell()
        try:
            return work()
        finally:
            self._tell()

    def _tell(self) -> None:
        """To begin, or to rest; when this returns it does."""
        assert self._process.stdin is not None
        print(file=self._process.stdin, flush=True)
        self._listen()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        if not self._process.stdout.readline():
            raise RuntimeError(f"the process to measure beside ended, with status {self._process.wait()}")


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def main() -> None:
    """The other process: every line from its parent sets it to work or to rest, and is answered when it does."""
    factor = torch.randn(1024, 1024)
    told: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_hear, args=(told,), daemon=True).start()
    print("ready", flush=True)
    while True:
        told.get()
        print("busy", flush=True)
        while told.empty():
            factor @ factor
        told.get()
        print("at rest", flush=True)


def _hear(told: queue.SimpleQueue[str]) -> None:
    for line in sys.stdin:
        told.put(line)
    os._exit(0)  # the parent is gone


if __name__ == "__main__":
    main()
