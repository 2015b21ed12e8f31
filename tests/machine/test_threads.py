"""A computation takes no more threads than there are free cores, and leaves every setting as it was."""

from __future__ import annotations

import _thread
import ctypes
import itertools
import os
import subprocess
import sys
import threading
import time
from collections import namedtuple
from collections.abc import Callable, Iterator
from functools import partial

import pytest
import torch
from support.interrupts import interrupted
from support.small_models import random_ids, small_model

from mamba2_lab.data import PackedTokens
from mamba2_lab.inspect import trace
from mamba2_lab.machine import threads
from mamba2_lab.training import TrainingConfig, fit


@pytest.fixture
def four() -> Iterator[None]:
    """torch has four threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*threads.NUMBER_SET_BY, *threads.WAITING_SET_BY):
        monkeypatch.delenv(name, raising=False)


def others_take(cores: float, monkeypatch: pytest.MonkeyPatch, of: int = 4) -> None:
    monkeypatch.setattr(threads.os, "cpu_count", lambda: of)
    monkeypatch.setattr(threads.others, "cores", lambda: cores)


@pytest.mark.parametrize(
    ("taken", "of", "expected"),
    [(0, 4, 4), (0.4, 4, 4), (0.6, 4, 3), (2, 4, 2), (3.8, 4, 1), (4, 4, 1), (9, 4, 1), (3, 16, 4), (13, 16, 3)],
)
def test_as_many_threads_as_free_cores(four, no_settings, monkeypatch, taken: float, of: int, expected: int) -> None:
    others_take(taken, monkeypatch, of)
    assert threads.number() == expected


@pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "MKL_NUM_THREADS"])
def test_a_number_that_the_user_set_stands(four, no_settings, monkeypatch, name: str) -> None:
    others_take(3, monkeypatch)
    monkeypatch.setenv(name, "4")
    assert threads.number() == 4


def test_one_thread_asks_for_nothing(no_settings, monkeypatch) -> None:
    monkeypatch.setattr(threads.others, "cores", None)
    assert torch.get_num_threads() == 1 == threads.number()


# The clocks

Busy = namedtuple("Busy", "user nice system idle")  # as macOS tells it


def test_work_of_all_kinds_is_counted_and_idleness_is_not(monkeypatch) -> None:
    monkeypatch.setattr(threads.psutil, "cpu_times", lambda: Busy(5.0, 1.0, 2.0, 100.0))
    assert threads.read_clocks().everybody == 8.0
    linux = namedtuple("linux", "user nice system idle iowait irq softirq steal guest guest_nice")
    monkeypatch.setattr(threads.psutil, "cpu_times", lambda: linux(5, 1, 2, 100, 30, 0.5, 0.25, 4, 3, 1))
    assert threads.read_clocks().everybody == 12.75  # what a guest does is in user and nice


def test_the_clocks_run() -> None:
    before = threads.read_clocks()
    while (now := threads.read_clocks()).ours < before.ours + 0.3:
        pass
    assert now.wall >= before.wall + 0.29
    assert now.everybody >= before.everybody + 0.15, "this process's work is in everybody's"


class Time:
    """Clocks that a test sets; sleeping moves them, while others work as told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.wall = self.everybody = self.ours = 100.0
        self.taken = 0.0
        monkeypatch.setattr(threads, "read_clocks", lambda: threads.Clocks(self.wall, self.everybody, self.ours))
        monkeypatch.setattr(threads.time, "perf_counter", lambda: self.wall)
        monkeypatch.setattr(threads.time, "sleep", lambda seconds: self.go_on(seconds, own=0))
        monkeypatch.setattr(threads, "nobody_else_runs", lambda: self.taken == 0)

    def go_on(self, seconds: float, own: float) -> None:
        self.wall += seconds
        self.ours += own * seconds
        self.everybody += (own + self.taken) * seconds


def test_the_cores_of_others_are_those_not_ours(monkeypatch) -> None:
    clock = Time(monkeypatch)
    others = threads.Others()
    clock.taken = 1.5
    clock.go_on(0.5, own=2)
    assert others.cores() == pytest.approx(1.5)
    clock.taken = 0
    clock.go_on(0.1, own=2)
    assert others.cores() == pytest.approx(1.5), "too soon to tell"
    clock.go_on(0.2, own=2)
    assert others.cores() == pytest.approx(0)


def test_after_a_pause_only_what_is_now_counts(monkeypatch) -> None:
    clock = Time(monkeypatch)
    others = threads.Others()
    clock.go_on(60, own=0)
    clock.taken = 2
    assert others.cores() == pytest.approx(2)
    assert clock.wall == pytest.approx(160.05), "a twentieth of a second to look"


def test_nobody_waits_for_a_look_at_a_machine_where_nobody_else_runs(monkeypatch) -> None:
    clock = Time(monkeypatch)
    others = threads.Others()
    clock.taken = 2
    clock.go_on(1, own=0)
    assert others.cores() == pytest.approx(2)
    clock.taken = 0
    clock.go_on(60, own=0)
    assert others.cores() == 0 and clock.wall == 161
    clock.taken = 2
    clock.go_on(0.25, own=0)
    assert others.cores() == pytest.approx(2), "it counts from there"


@pytest.mark.parametrize(
    ("told", "expected"),
    [("0.5 0.4 0.3 1/234 99", True), ("0.5 0.4 0.3 2/234 99", False), ("0.0 0.0 0.0 11/23 9", False), ("", False)],
)
def test_whether_somebody_else_runs_is_what_linux_tells(told: str, expected: bool, tmp_path, monkeypatch) -> None:
    (tmp_path / "loadavg").write_text(told)
    monkeypatch.setattr(threads, "Path", lambda path: tmp_path / path.rpartition("/")[2])
    assert threads.nobody_else_runs() is expected
    (tmp_path / "loadavg").unlink()
    assert threads.nobody_else_runs() is False, "on other systems"


def test_clocks_that_stand_still_take_no_threads(monkeypatch) -> None:
    """A sandbox may tell nothing of the system."""
    clock = Time(monkeypatch)
    others = threads.Others()
    clock.wall, clock.ours = 101.0, 102.0
    assert others.cores() == 0


# What computes


def numbers_seen(monkeypatch: pytest.MonkeyPatch, compute: Callable[[], object]) -> set[int]:
    """How many threads the layers of a model had."""
    seen: set[int] = set()

    def noting(function: Callable[..., object]) -> Callable[..., object]:
        return lambda *args, **kwargs: seen.add(torch.get_num_threads()) or function(*args, **kwargs)

    for name in ("project", "step"):
        method = getattr(type(small_model().blocks[0].mixer), name)
        monkeypatch.setattr(type(small_model().blocks[0].mixer), name, noting(method))
    compute()
    return seen


def learn() -> None:
    tokens = PackedTokens(random_ids(200), torch.zeros(200, dtype=torch.int32))
    fit(small_model(), tokens, TrainingConfig(steps=1, batch_size=2, length=8), progress=False)


WORK = {
    "prefill": lambda: small_model().prefill(random_ids(1, 5)),
    "forward": lambda: small_model()(random_ids(1, 5)),
    "step": lambda: small_model().step(random_ids(1), small_model().new_cache()),
    "trace": lambda: trace(small_model(), random_ids(5)),
    "fit": learn,
}


@pytest.mark.parametrize("name", WORK)
def test_a_model_computes_on_free_cores_and_puts_the_number_back(four, no_settings, monkeypatch, name: str) -> None:
    others_take(1, monkeypatch)
    assert numbers_seen(monkeypatch, WORK[name]) == {3}
    assert torch.get_num_threads() == 4


def test_the_backward_pass_is_computed_on_free_cores_too(four, no_settings, monkeypatch) -> None:
    others_take(1, monkeypatch)
    seen = []
    real = torch.Tensor.backward
    monkeypatch.setattr(
        torch.Tensor, "backward", lambda *args, **kwargs: seen.append(torch.get_num_threads()) or real(*args, **kwargs)
    )
    learn()
    assert seen == [3]


def test_the_number_is_put_back_after_an_error_and_after_an_interrupt_before_any_line(four, no_settings, monkeypatch):
    others_take(2, monkeypatch)
    with pytest.raises(ZeroDivisionError):
        threads.on_free_cores(lambda: 1 / 0)
    assert torch.get_num_threads() == 4
    model, ids, cache = small_model(), random_ids(1), small_model().new_cache()
    for at in itertools.count(step=3):
        came, _ = interrupted(lambda: model.step(ids, cache), at)
        assert torch.get_num_threads() == 4
        if not came:
            break
    assert at > 50


def test_at_most_never_raises_the_number() -> None:
    assert torch.get_num_threads() == 1
    assert threads.at_most(3, torch.get_num_threads) == 1


# What an import changes: nothing

SETTINGS = """
import gc, logging, os, signal, sys, warnings
import torch, numpy, accelerate, tokenizers, transformers, ipywidgets, matplotlib.figure, nbformat, tqdm, psutil

def settings():
    return {
        "environment": dict(os.environ),
        "threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "torch": (torch.is_grad_enabled(), torch.get_default_dtype(), torch.get_rng_state().tolist()),
        "signals": [signal.getsignal(number) for number in signal.valid_signals()],
        "garbage": (gc.isenabled(), gc.get_threshold()),
        "log": (logging.root.level, logging.root.handlers[:]),
        "warnings": warnings.filters[:],
        "pictures": dict(matplotlib.rcParams),
        "python": (sys.path[:], sys.getrecursionlimit(), sys.excepthook, sys.displayhook, sys.stdout, sys.stderr),
    }

before = settings()
import ctypes
mallopt, load = [], ctypes.CDLL
ctypes.CDLL = lambda name, *rest, **options: mallopt.append(name) if name is None else load(name, *rest, **options)
import mamba2_lab, mamba2_lab.cli, mamba2_lab.course, mamba2_lab.widgets, mamba2_lab.inspect, mamba2_lab.plots
import mamba2_lab.health.report, mamba2_lab.benchmark.suite
after = settings()
print([name for name in before if before[name] != after[name]], mallopt)
"""


def test_importing_the_package_changes_no_setting_of_the_process() -> None:
    run = subprocess.run([sys.executable, "-c", SETTINGS], capture_output=True, text=True)
    assert run.stdout.endswith("[] []\n"), run.stdout + run.stderr


def test_the_users_settings_reach_torch_when_this_package_is_imported_first() -> None:
    settings = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
    inherited = {name: value for name, value in os.environ.items() if "OMP" not in name and "MKL" not in name}
    code = (
        "import os, mamba2_lab, torch\n"
        "print(torch.get_num_threads(), {name: os.environ[name] for name in os.environ if 'OMP' in name})"
    )
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, env=inherited | settings, capture_output=True, text=True, check=True)
    assert run.stdout == f"1 {settings}\n"


# What is told


def test_the_report_says_what_is_set_and_by_whom(no_settings, monkeypatch) -> None:
    others_take(1.25, monkeypatch, of=8)
    assert threads.report() == [
        ("threads", "1, fewer while other processes take cores; 6.8 of 8 cores are free"),
        ("waiting", "as OpenMP does by itself; nothing is set"),
    ]
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
    assert threads.report() == [
        ("threads", "1, fixed by OMP_NUM_THREADS=1; 6.8 of 8 cores are free"),
        ("waiting", "OMP_WAIT_POLICY=passive"),
    ]


def test_looking_is_cheap() -> None:
    """Counted in looks, not in seconds: a thousand questions in a row look at the clocks once or not at all."""
    looks = []
    real = threads.read_clocks
    others = threads.Others()
    began = time.perf_counter()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threads, "read_clocks", lambda: looks.append(1) or real())
        for _ in range(1000):
            others.cores()
    assert len(looks) <= 1 + (time.perf_counter() - began) / threads.LEAST_SECONDS


@pytest.mark.skipif(threads._in_parallel is None, reason="torch has no libgomp here")
class TestTorchDoes:
    def test_a_job_is_done_by_each_of_its_threads_once_and_all_have_ended(self, four) -> None:
        left, right, done = torch.randn(300, 300), torch.randn(300, 300), []
        before = left @ right
        for count in (4, 2, 3):
            torch.set_num_threads(count)
            assert threads.torch_does(lambda: done.append(threading.get_ident()))
            assert len(done) == len(set(done)) == count and threading.get_ident() in done
            assert torch.equal(left @ right, before), "torch goes on with them"
            done.clear()

    def test_they_are_left_alone_where_there_is_one_or_others_want_the_cores(self, four, no_settings) -> None:
        done: list[bool] = []
        assert not threads.at_most(1, threads.torch_does, lambda: done.append(True))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(threads, "number", lambda: 3)
            assert not threads.on_free_cores(threads.torch_does, lambda: done.append(True))
            patch.setattr(threads, "_in_parallel", None)
            assert not threads.torch_does(lambda: done.append(True))
        assert not done

    def test_an_interrupt_comes_when_the_job_is_done(self, four) -> None:
        """In a job of Python it would be lost."""
        sleep = partial(ctypes.CDLL(None).usleep, 300_000)
        threading.Timer(0.1, _thread.interrupt_main).start()
        began = time.perf_counter()
        with pytest.raises(KeyboardInterrupt):
            threads.torch_does(sleep)
            time.sleep(5)
        assert 0.3 <= time.perf_counter() - began < 3
