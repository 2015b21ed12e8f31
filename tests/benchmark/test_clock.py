"""Times and peaks are what a clock and an allocator that are known say. No test depends on how fast this machine is."""

import os
from collections.abc import Callable
from typing import Any

import pytest
import torch
from support.oracle.mamba2 import raises

from mamba2_lab import benchmark
from mamba2_lab.benchmark import Timing, clock


class FakeClock:
    """Time passes only when work says so; `log` tells in which order things happened."""

    def __init__(self) -> None:
        self.now, self.log = 0.0, list[str]()

    def read(self) -> float:
        self.log.append("read")
        return self.now

    def work(self, name: str, *seconds: float) -> Callable[[], None]:
        """Work that takes the given times, one after another; the last one again and again."""
        times = list(seconds)

        def call() -> None:
            self.log.append(name)
            self.now += times.pop(0) if len(times) > 1 else times[0]

        return call


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    fake = FakeClock()
    monkeypatch.setattr(clock.time, "perf_counter", fake.read)
    monkeypatch.setattr(clock, "synchronise", lambda device: fake.log.append(f"wait for {device}"))
    return fake


def test_the_first_call_of_each_is_not_counted_and_the_rest_give_median_and_quartiles(fake: FakeClock) -> None:
    found = benchmark.measure({"a": fake.work("a", 100, 1, 2, 3, 4, 5), "b": fake.work("b", 50, 7)}, "cpu", seconds=1)
    assert found == {"a": Timing(3, 2, 4, 5), "b": Timing(7, 7, 7, 5)}


def test_contestants_take_turns(fake: FakeClock) -> None:
    benchmark.measure({"a": fake.work("a", 1), "b": fake.work("b", 1)}, "cpu", seconds=1)
    assert [name for name in fake.log if name in "ab"] == ["a", "b"] * 6


def test_the_device_is_waited_for_before_each_reading_of_the_clock(fake: FakeClock) -> None:
    benchmark.measure({"a": fake.work("a", 1)}, "mps", seconds=1)
    around_work = " ".join(fake.log).split(" a ")
    assert len(around_work) == 7
    assert all(part.endswith("wait for mps read") for part in around_work[:-1])
    assert all(part.startswith("wait for mps read") for part in around_work[1:])


def test_rounds_go_on_until_the_time_is_up(fake: FakeClock) -> None:
    assert benchmark.measure({"a": fake.work("a", 1)}, "cpu", seconds=30)["a"].rounds == 30
    assert benchmark.measure({"a": fake.work("a", 100)}, "cpu", seconds=30)["a"].rounds == clock.LEAST_ROUNDS


@pytest.mark.parametrize(
    ("contestants", "seconds", "words"),
    [
        ({}, 1.0, ("contestants must be at least one",)),
        ({"a": print}, 0, ("seconds must be a finite number above 0", "got 0")),
    ],
)
def test_nothing_to_time_is_an_error(contestants: dict[str, Any], seconds: float, words: tuple[str, ...]) -> None:
    with raises(ValueError, *words):
        benchmark.measure(contestants, "cpu", seconds)


def test_the_peak_is_what_is_alive_at_one_moment() -> None:
    def one_after_another() -> None:
        for _ in range(3):
            torch.empty(4 * 2**20, dtype=torch.uint8)

    def together() -> list[torch.Tensor]:
        return [torch.empty(4 * 2**20, dtype=torch.uint8) for _ in range(3)]

    assert benchmark.peak_bytes(one_after_another, "cpu") == pytest.approx(4 * 2**20, abs=4096)
    assert benchmark.peak_bytes(together, "cpu") == pytest.approx(12 * 2**20, abs=4096)


def test_the_profiler_is_not_heard_and_everything_else_is(capfd: pytest.CaptureFixture[str]) -> None:
    def work() -> None:
        os.write(2, b"the work\n")

    with clock._without_its_progress():
        os.write(
            2, b"USDT:2026-03-24 10:21:48 6508:6508 SyncActivityProfilerHandler.cpp:52] profiler_start\na warning\n"
        )
        os.write(
            2, b"STAGE:2026-03-24 10:21:48 6508:6508 ActivityProfilerController.cpp:314] Completed Stage: Warm Up\n"
        )
    benchmark.peak_bytes(work, "cpu")
    assert capfd.readouterr().err == "a warning\nthe work\n"
    with pytest.raises(KeyError):  # what the work raises comes through, and the profiler has stopped
        benchmark.peak_bytes(lambda: {}["gone"], "cpu")
    benchmark.peak_bytes(work, "cpu")
    assert capfd.readouterr().err == "the work\n"


def test_a_device_that_does_not_count_its_memory_is_refused() -> None:
    with raises(ValueError, "device must be cpu or cuda", "got 'mps'"):
        benchmark.peak_bytes(print, "mps")
