"""The worker runs one job at a time, ends it when asked, and hides no error; batches lose nothing and are few."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mamba2_lab.widgets.worker import Worker, in_batches

SOON = 60  # seconds; nothing waits so long unless it hangs


class Gate:
    """A job that says when it has begun, and ends when it is told to stop."""

    def __init__(self, log: list[str], name: str) -> None:
        self.log, self.name = log, name
        self.begun, self.thread = threading.Event(), None

    def __call__(self, stop: threading.Event) -> None:
        self.thread = threading.current_thread()
        self.log.append(f"{self.name} begins")
        self.begun.set()
        assert stop.wait(SOON)
        self.log.append(f"{self.name} ends")


def no_errors(error: Exception) -> None:
    raise AssertionError(error)


def test_a_job_ends_when_it_is_stopped_and_leaves_no_thread():
    worker, gate = Worker(), Gate([], "a")
    assert not worker.running
    worker.start(gate, no_errors)
    assert gate.begun.wait(SOON)
    assert worker.running and not worker.wait(0)
    worker.stop()
    assert worker.wait(SOON)
    assert not gate.thread.is_alive()
    assert not worker.running and worker.error is None


@pytest.mark.parametrize("another_worker", [False, True])
def test_a_new_job_stops_the_one_before_it_and_begins_when_that_has_ended(another_worker):
    log: list[str] = []
    worker, first, second = Worker(), Gate(log, "first"), Gate(log, "second")
    worker.start(first, no_errors)
    assert first.begun.wait(SOON)
    newer = Worker() if another_worker else worker
    newer.start(second, no_errors)
    assert second.begun.wait(SOON)
    assert log == ["first begins", "first ends", "second begins"]
    assert not first.thread.is_alive()
    newer.stop()
    assert newer.wait(SOON)


def test_an_error_is_handed_out_in_the_end_and_forgotten_with_the_next_job():
    worker, failures = Worker(), []

    def fail(stop: threading.Event) -> None:
        raise ValueError("no such thing")

    worker.start(fail, failures.append)
    assert worker.wait(SOON)
    assert failures == [worker.error]
    assert str(worker.error) == "no such thing"
    worker.start(lambda stop: None, no_errors)
    assert worker.wait(SOON)
    assert worker.error is None


class Clock:
    """Stands still between items, and then jumps."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def timed(gaps: list[float], clock: Clock):
    for i, gap in enumerate(gaps):
        clock.now += gap
        yield i


@given(st.lists(st.floats(0, 0.2), max_size=60))
def test_batches_hold_every_item_once_in_order_and_come_no_faster_than_asked(gaps):
    clock, times, items = Clock(), [], []
    for batch in in_batches(timed(gaps, clock), threading.Event(), 0.05, clock):
        times.append(clock.now)
        items += batch
    assert items == list(range(len(gaps)))
    apart = [later - sooner for sooner, later in zip(times[:-1], times[1:-1], strict=False)]  # the last is what is left
    assert all(gap >= 0.05 - 1e-9 for gap in apart)


def test_the_first_item_comes_at_once_and_the_others_together():
    clock = Clock()
    batches = in_batches(timed([0.0, 0.01, 0.01, 0.04, 0.01], clock), threading.Event(), 0.05, clock)
    assert list(batches) == [[0], [1, 2, 3], [4]]


def test_after_a_stop_no_item_is_asked_for():
    asked, stop = [], threading.Event()

    def items():
        for i in range(100):
            asked.append(i)
            if i == 3:
                stop.set()
            yield i

    assert [i for batch in in_batches(items(), stop, 1000, Clock()) for i in batch] == [0, 1, 2, 3]
    assert asked == [0, 1, 2, 3]
