"""Reading the clock so that the numbers mean something.

What goes wrong when one does it carelessly: the first call pays for what is set up once; a GPU has only been asked when
the clock is read, and has done nothing yet; and two things timed one after the other see a different machine, which
has become warm, or busy, in between.
"""

from __future__ import annotations

import math
import os
import re
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from mamba2_lab.checks import require, require_number
from mamba2_lab.machine.devices import synchronise

Work = Callable[[], object]
LEAST_ROUNDS = 5
STANDARD_ERROR = 2
PROGRESS_OF_THE_PROFILER = re.compile(rb"(USDT|STAGE):[\d :-]+ \w*Profiler\w*\.cpp:")


@dataclass(frozen=True)
class Timing:
    """Seconds of wall time for one call, over many.

    median; low and high: the quartiles, between which half of all calls lie. rounds: how many calls.
    """

    median: float
    low: float
    high: float
    rounds: int

    def shared_by(self, count: int) -> Timing:
        """The time of each of so many that a call was about."""
        return Timing(self.median / count, self.low / count, self.high / count, self.rounds)


def measure(contestants: dict[str, Work], device: torch.device | str, seconds: float = 2.0) -> dict[str, Timing]:
    """Time each of them, in turns: a round calls every one once, so what disturbs the machine disturbs all alike.

    One call of each goes before, uncounted. Before every reading of the clock the device is waited for.

    Args:
        contestants: what to time, by name.
        device: where they compute.
        seconds: no new round begins after so long, but there are at least five.

    Raises:
        TypeError, ValueError: if there is nothing to time, or seconds is no finite number above 0.
    """
    require(bool(contestants), "contestants", "at least one", contestants)
    require_seconds(seconds)
    for work in contestants.values():
        _seconds_of(work, device)
    times: dict[str, list[float]] = {name: [] for name in contestants}
    began = time.perf_counter()
    rounds = 0
    while rounds < LEAST_ROUNDS or time.perf_counter() - began < seconds:
        for name, work in contestants.items():
            times[name].append(_seconds_of(work, device))
        rounds += 1
    return {name: summarise(found) for name, found in times.items()}


def require_seconds(seconds: float) -> None:
    """TypeError, ValueError unless so long can be measured."""
    require_number("seconds", seconds)
    require(0 < seconds < math.inf, "seconds", "a finite number above 0", seconds)


def _seconds_of(work: Work, device: torch.device | str) -> float:
    synchronise(device)
    began = time.perf_counter()
    work()
    synchronise(device)
    return time.perf_counter() - began


def summarise(times: list[float]) -> Timing:
    """Median and quartiles of at least two times."""
    low, median, high = statistics.quantiles(times, n=4, method="inclusive")
    return Timing(median, low, high, len(times))


def peak_bytes(work: Work, device: torch.device | str) -> int:
    """The most memory that tensors made by the call take at one moment, in bytes.

    On cuda the allocator tells. On the CPU the profiler's list of allocations is added up: the size of the process
    would not do, it counts what was freed and not given back. On mps nothing tells: a call there is refused.

    Raises:
        ValueError: for a device whose allocator keeps no such count.
    """
    kind = torch.device(device).type
    if kind == "cuda":
        synchronise(device)
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        work()
        synchronise(device)
        return torch.cuda.max_memory_allocated() - before
    if kind != "cpu":
        raise ValueError(f"device must be cpu or cuda, whose allocators count what they give; got {kind!r}")
    profile: Any = torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True)
    with _without_its_progress():
        profile.start()
    try:
        work()
    finally:
        with _without_its_progress():
            profile.stop()
    in_use = peak = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            in_use += event.nbytes()
            peak = max(peak, in_use)
    return peak


@contextmanager
def _without_its_progress() -> Iterator[None]:
    """Keep from standard error that the profiler has started or stopped.

    Torch 2.13 writes that past Python, and no level of its log is too high for it. Whatever else comes meanwhile is
    passed on.
    """
    terminal = os.dup(STANDARD_ERROR)
    with tempfile.TemporaryFile() as caught:
        os.dup2(caught.fileno(), STANDARD_ERROR)
        try:
            yield
        finally:
            os.dup2(terminal, STANDARD_ERROR)
            os.close(terminal)
            caught.seek(0)
            for line in caught:
                if not PROGRESS_OF_THE_PROFILER.match(line):
                    os.write(STANDARD_ERROR, line)
