"""Work that takes long, beside a notebook that stays usable: a thread that can be stopped, and batches of results."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from mamba2_lab.widgets.still import Still

Item = TypeVar("Item")
Job = Callable[[threading.Event], None]

_lock = threading.Lock()
_newest: Worker | None = None  # whose job runs or waits; the cores are shared, so one job runs at a time in a kernel


class StoppedError(Exception):
    """A job was asked to end, and did."""


class Worker:
    """Runs one job at a time, in a thread that lives as long as the job.

    A new job stops the one before it and begins when that has ended, also when the two belong to different workers: a
    cell that is run again makes a new widget, and what the old one was doing must not go on unseen.

    Attributes:
        error: the exception that the last job ended in, or None.
    """

    def __init__(self) -> None:
        self.error: Exception | None = None
        self._thread: threading.Thread | None = None
        self._stopped = threading.Event()
        self._asked_to_stop: float | None = None

    @property
    def running(self) -> bool:
        """Whether a job runs, or waits for its turn."""
        return self._thread is not None and self._thread.is_alive()

    def start(self, job: Job, failed: Callable[[Exception], None]) -> None:
        """Begin a job soon; returns at once.

        Args:
            job: is given an Event, and ends soon after that is set.
            failed: is called in the thread with the exception that the job ended in.
        """
        global _newest
        with _lock:
            former = _newest
            if former is not None:
                former.stop()
            waiting_for = None if former is None else former._thread
            self._stopped = stopped = threading.Event()
            self._asked_to_stop = None
            self._thread = threading.Thread(
                target=self._run, args=(job, failed, stopped, waiting_for), name="mamba2-lab worker", daemon=True
            )
            _newest = self
            self._thread.start()

    def stop(self) -> None:
        """Ask the job to end; returns at once."""
        if not self._stopped.is_set():
            self._asked_to_stop = time.perf_counter()
        self._stopped.set()

    def seconds_since_stop(self) -> float | None:
        """How long ago the job was asked to end; None if it was not."""
        return None if self._asked_to_stop is None else time.perf_counter() - self._asked_to_stop

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until the job has ended, at most so long: whether it has."""
        if self._thread is not None:
            self._thread.join(seconds)
        return not self.running

    def _run(
        self,
        job: Job,
        failed: Callable[[Exception], None],
        stopped: threading.Event,
        waiting_for: threading.Thread | None,
    ) -> None:
        if waiting_for is not None:
            waiting_for.join()
        self.error = None
        try:
            job(stopped)
        except Exception as error:  # a thread has nobody above it who would see the exception
            self.error = error
            failed(error)


class WorkingBox(Still):
    """A widget that lets a worker do what takes long. `_worker` is made first: what cannot be made is closed, too."""

    _worker: Worker

    @property
    def running(self) -> bool:
        """Whether something is under way."""
        return self._worker.running

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until all is done that was asked for, at most so long: whether it is."""
        return self._worker.wait(seconds)

    def close(self) -> None:
        """End what runs, and remove the widget."""
        self._worker.stop()
        self._worker.wait()
        super().close()


def in_batches(
    items: Iterable[Item],
    stopped: threading.Event,
    seconds: float = 0.1,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[list[Item]]:
    """Items in lists, at most one list in so many seconds; the first item comes at once.

    A message to the page costs more than a token: a long text, token by token, would keep the page busy for a minute.
    Each lets the page lay out and paint the text that is seen, on a core that the model needs too.

    Args:
        stopped: looked at after each item; once it is set, what is there is given out, and no item is asked for.
    """
    batch: list[Item] = []
    due = clock()
    for item in items:
        batch.append(item)
        if clock() >= due or stopped.is_set():
            yield batch
            batch, due = [], clock() + seconds
        if stopped.is_set():
            return
    if batch:
        yield batch
