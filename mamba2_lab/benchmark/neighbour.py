"""Another process that keeps torch busy, so that it can be measured what computing beside it costs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

from mamba2_lab.benchmark.child import Child, told

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
    factor, lines = torch.randn(1024, 1024), told()
    print("ready", flush=True)
    while True:
        lines.get()
        print("busy", flush=True)
        while lines.empty():
            factor @ factor
        lines.get()
        print("at rest", flush=True)


if __name__ == "__main__":
    main()
