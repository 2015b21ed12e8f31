"""How many threads a computation takes: as many as there are free cores, and never more than torch was given.

torch shares the work of an operation among threads, by default one for each core, and at the end of each they wait for
one another, spinning. Where another process takes a core, one of them waits there for its turn while the others burn
theirs, hundreds of times a token. So while a model reads, writes or learns on a CPU, the cores that other processes
take are counted now and then, and it does with fewer threads until they are free again.

Where loops of our own share the work, each thread takes the next piece when it is free, and one that waits sleeps: they
take as many as torch was given, also beside another process (`most`). Among operations of torch, whose threads look for
the next one for milliseconds, others would get half a core each; so there these very threads do it (`torch_does`).

A caller's settings stand. Only the computation itself sees fewer threads, and torch's number is put back after it.
`torch.set_num_threads` says how many there may be at most; OMP_NUM_THREADS or MKL_NUM_THREADS, how many there are.
Sums may be rounded otherwise with another number of threads: who needs the same bits on a busy machine sets one.

How threads wait (OMP_WAIT_POLICY, GOMP_SPINCOUNT, KMP_BLOCKTIME) is left as it is: waits that are short enough to help
beside another process cost much of the speed where there is none. Besides, these variables count only where they are
set before torch is imported, and then for the whole process and for all that it starts.
"""

from __future__ import annotations

import ctypes
import os
import sys
import time
from collections.abc import Callable
from contextvars import ContextVar, copy_context
from functools import partial
from pathlib import Path
from typing import NamedTuple, ParamSpec, TypeVar

import psutil
import torch

NUMBER_SET_BY = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
WAITING_SET_BY = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")

LEAST_SECONDS = 0.25  # between two looks at the clocks, which are too coarse for less
MOST_SECONDS = 2.0  # an average over more says little about now
SECONDS_FOR_A_NEW_LOOK = 0.05  # after such a pause

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class Clocks(NamedTuple):
    """Seconds on the wall; and of work, added over all cores, for everybody and for this process."""

    wall: float
    everybody: float
    ours: float


def read_clocks() -> Clocks:
    """The clocks now. What the host of a virtual machine takes from it counts as somebody's work."""
    times = psutil.cpu_times()
    names = ("user", "nice", "system", "irq", "softirq", "steal")  # a system has some of them
    return Clocks(time.perf_counter(), sum(getattr(times, name, 0.0) for name in names), time.process_time())


def nobody_else_runs() -> bool:
    """Whether no thread but this one has or wants a core at this instant, as Linux tells; False where nobody tells."""
    try:
        running = Path("/proc/loadavg").read_text().split()[3]  # 1/234: threads that run, and all that there are
        return running.partition("/")[0] == "1"
    except (OSError, IndexError):
        return False


class Others:
    """The other processes, and how many cores they take."""

    def __init__(self) -> None:
        self._seen, self._cores = read_clocks(), 0.0

    def cores(self) -> float:
        """How many cores they took on average since the last look, which lies a quarter of a second back or more."""
        age = time.perf_counter() - self._seen.wall
        if age < LEAST_SECONDS:
            return self._cores
        if age > MOST_SECONDS:
            self._seen = read_clocks()
            if nobody_else_runs():  # and who would wait for a look that finds nothing
                self._cores = 0.0
                return self._cores
            time.sleep(SECONDS_FOR_A_NEW_LOOK)
        before, self._seen = self._seen, read_clocks()
        wall, everybody, ours = (after - earlier for after, earlier in zip(self._seen, before, strict=True))
        self._cores = max(0.0, everybody - ours) / wall
        return self._cores


others = Others()


def number() -> int:
    """How many threads to compute with now."""
    most = torch.get_num_threads()
    if most == 1 or any(name in os.environ for name in NUMBER_SET_BY):
        return most
    free = (os.cpu_count() or most) - others.cores()
    return max(1, min(most, round(free)))


def at_most(
    most: int, function: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs
) -> Result:
    """What the function returns, called with no more threads than so many; torch's number is left as it was."""
    before = torch.get_num_threads()
    if most >= before:
        return function(*args, **kwargs)
    try:
        torch.set_num_threads(most)
        return function(*args, **kwargs)
    finally:
        torch.set_num_threads(before)  # by one call into C, which an interrupt does not cut in half


_most: ContextVar[int] = ContextVar("_most")


def most() -> int:
    """How many threads the caller of a computation allows, also where `on_free_cores` gives torch fewer."""
    return _most.get(None) or torch.get_num_threads()


_Job = ctypes.CFUNCTYPE(None)


def torch_does(job: Callable[[], object]) -> bool:
    """Let the threads that torch keeps ready for this one do a job, this one with them: whether they have done it.

    They do not where torch has them not from libgomp, and where it was given fewer than the caller allows: others want
    the cores then, and these threads do not sleep while they wait for one another.

    Args:
        job: of compiled code alone. Nobody is told what it raises, and an interrupt in its Python would be lost.
    """
    count = torch.get_num_threads()
    if _in_parallel is None or count == 1 or count < most():
        return False
    _in_parallel(_Job(job), None, count, 0)
    return True


def _parallel_of_libgomp() -> Callable[..., None] | None:
    """A parallel region of OpenMP as compilers call it, in the libgomp that torch has brought along, if it has.

    void GOMP_parallel(void (*function)(void *), void *data, unsigned threads, unsigned flags)
    """
    if sys.platform != "linux":
        return None
    try:
        found = ctypes.CDLL("libgomp.so.1", os.RTLD_NOLOAD).GOMP_parallel  # none is loaded for this
    except (OSError, AttributeError):
        return None
    found.argtypes, found.restype = (_Job, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint), None
    return found


_in_parallel = _parallel_of_libgomp()


def are_taken(device: torch.device) -> bool:
    """Whether it is the CPU, and other processes leave fewer cores than the caller allows threads."""
    return device.type == "cpu" and number() < most()


def on_free_cores(function: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
    """What the function returns, called with no more threads than there are free cores."""
    context = copy_context()
    context.run(_most.set, most())
    return at_most(number(), partial(context.run, function, *args, **kwargs))


def report() -> list[tuple[str, str]]:
    """What is set, and by whom: rows of a name and its value."""
    threads = torch.get_num_threads()
    fixed = [f"{name}={os.environ[name]}" for name in NUMBER_SET_BY if name in os.environ]
    waiting = [f"{name}={os.environ[name]}" for name in WAITING_SET_BY if name in os.environ]
    free = max(0.0, (os.cpu_count() or threads) - others.cores())
    how = f"fixed by {', '.join(fixed)}" if fixed else "fewer while other processes take cores"
    return [
        ("threads", f"{threads}, {how}; {free:.1f} of {os.cpu_count()} cores are free"),
        ("waiting", ", ".join(waiting) if waiting else "as OpenMP does by itself; nothing is set"),
    ]
