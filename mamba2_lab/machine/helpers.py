"""Threads that lend a hand, for work that is cut into pieces which nobody has to take."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from queue import SimpleQueue

Job = Callable[[], object]

CAN_SLEEP = os.name == "posix"  # whether compiled loops can: elsewhere a thread that waits would burn its core


class Helpers:
    """Threads that wait for jobs; made when they are first asked, and never in the way of the end of the program."""

    def __init__(self) -> None:
        self._forget()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forget)  # threads do not follow into a child

    def _forget(self) -> None:
        self._queues: list[SimpleQueue[Job]] = []

    def ask(self, count: int, job: Job) -> None:
        """Have so many threads do a job, as soon as they can. It must come to an end whether they come or not."""
        while len(self._queues) < count:
            queue: SimpleQueue[Job] = SimpleQueue()
            threading.Thread(target=_work, args=(queue,), name="mamba2_lab helper", daemon=True).start()
            self._queues.append(queue)
        for queue in self._queues[:count]:
            queue.put(job)


def _work(queue: SimpleQueue[Job]) -> None:
    while True:
        queue.get()()


helpers = Helpers()
