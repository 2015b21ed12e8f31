"""Another process that keeps torch busy, so that it can be measured what computing beside it costs."""

from __future__ import annotations

import os
import queue
import sys
import threading
from collections.abc import Callable
from typing import TypeVar

import torch

from mamba2_lab.benchmark.child import Child

Result = TypeVar("Result")


class Neighbour:
    """A process that multiplies matrices, with as many threads as torch likes, while it is asked to; else it sleeps.

    It ends with this object, and with the process that made it.
    """

    def __init__(self) -> None:
        self._child = Child(__name__)

    def beside(self, work: Callable[[], Result]) -> Result:
        """What the work returns, done while the other process is busy."""
        self._child.tell()  # to begin
        try:
            return work()
        finally:
            self._child.tell()  # to rest


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
