"""What is timed beside a busy process is beside one, and the process rests and ends when it should."""

from __future__ import annotations

import time

import psutil
import pytest

from mamba2_lab.benchmark import child, measures, suite
from mamba2_lab.benchmark.measures import models
from mamba2_lab.benchmark.neighbour import Neighbour
from mamba2_lab.config import PRESETS


def work_of(process: psutil.Process) -> float:
    return sum(process.cpu_times()[:2])


def test_a_neighbour_works_only_while_it_is_asked_to_and_ends_with_its_maker() -> None:
    other = Neighbour()
    process = psutil.Process(other._child.process.pid)
    at_rest = work_of(process)
    time.sleep(0.3)
    assert work_of(process) <= at_rest + 0.05

    def until_it_has_worked() -> str:
        while work_of(process) < at_rest + 0.2:
            time.sleep(0.01)
        return "done"

    assert other.beside(until_it_has_worked) == "done"
    with pytest.raises(ZeroDivisionError):
        other.beside(lambda: 1 / 0)
    time.sleep(0.1)  # its threads wait, spinning, for a moment
    at_rest = work_of(process)
    time.sleep(0.3)
    assert work_of(process) <= at_rest + 0.05
    del other
    assert not process.is_running()


def test_a_neighbour_that_does_not_begin_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child.sys, "executable", "/bin/false")
    with pytest.raises(RuntimeError, match="the process of mamba2_lab.benchmark.neighbour ended, with status 1"):
        Neighbour()


class Silent:
    """A neighbour that does nothing but say when it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    def beside(self, work):
        self.asked += 1
        return work()


def test_decoding_is_timed_alone_beside_it_and_there_with_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = {"d_model": 16, "n_layer": 2, "vocab_size": 40, "d_state": 8, "headdim": 8}
    monkeypatch.setitem(PRESETS, "medium", tiny)
    silent = Silent()
    monkeypatch.setattr(models, "Neighbour", lambda: silent)
    numbers: list[int] = []

    def at_most(most, work, *args):
        numbers.extend([] if args else [most])  # a small model's own limit, which has arguments, is another matter
        return work(*args)

    monkeypatch.setattr(models.threads, "at_most", at_most)
    monkeypatch.setattr(models.MambaLM, "_on_free_cores", lambda self, function, *args: function(*args))
    works = measures.beside("cpu")
    read = [int(works[name]()[1].tokens_read) for name in works]
    assert list(works) == ["alone", "beside a busy process", "there, one thread"]
    assert read == [8 + n * measures.MANY_STEPS for n in (1, 2, 3)]
    assert (silent.asked, numbers) == (2, [1])
    assert suite.SUITE["beside"].calls == measures.MANY_STEPS
    assert "beside" not in suite.names_for("cuda")
