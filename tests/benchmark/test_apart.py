"""A sweep in a process of its own: what it measures arrives point by point, and it ends when nobody wants it."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import psutil
import pytest

from mamba2_lab.benchmark import apart, suite

SOON = 60  # seconds; nothing waits so long unless it hangs
LONG = "scan-length"  # a sweep whose last points take many seconds


def children() -> set[psutil.Process]:
    """Processes that this one has started: other tests of the session keep some."""
    return set(psutil.Process().children())


def test_points_come_one_by_one_from_a_process_with_the_threads_asked_for() -> None:
    others = children()
    run = apart.run("scan-ways", "cpu", 0.001, 1, threading.Event())
    for point in suite.SUITE["scan-ways"].points()[:2]:
        records = next(run)
        assert [record.contestant for record in records] == ["sequential", "quadratic", "chunked"]
        for record in records:
            assert record.settings == point and record.bytes is None
            assert record.timing is not None and record.timing.rounds >= 5
            assert record.machine["threads"] == 1
    run.close()
    assert children() == others


def test_stop_ends_it_in_the_middle_of_a_call_also_while_nobody_asks_for_records() -> None:
    others, stop = children(), threading.Event()
    points = apart.run(LONG, "cpu", 1000.0, 1, stop)
    threading.Timer(3, stop.set).start()
    began = time.perf_counter()
    assert list(points) == [], "a point takes a thousand seconds"
    assert time.perf_counter() - began < 10
    assert children() == others

    stop = threading.Event()
    points = apart.run(LONG, "cpu", 0.001, 1, stop)
    assert len(next(points)) == 1
    (process,) = children() - others
    stop.set()  # while the one who takes the records does something else
    process.wait(timeout=SOON)
    points.close()


def test_what_the_process_ended_in_is_told() -> None:
    with pytest.raises(RuntimeError, match="cuda:99|CUDA|HIP"):
        list(apart.run("scan-ways", "cuda:99", 0.001, 1, threading.Event()))


def test_it_does_not_outlive_the_process_that_asked_for_it() -> None:
    script = f"""
import threading, os
from mamba2_lab.benchmark import apart
points = apart.run({LONG!r}, "cpu", 0.001, 1, threading.Event())
next(points)
print(os.getpid(), flush=True)
input()
"""
    asker = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert asker.stdout is not None and int(asker.stdout.readline()) == asker.pid
    (process,) = psutil.Process(asker.pid).children()
    asker.kill()
    asker.communicate()
    process.wait(timeout=SOON)
