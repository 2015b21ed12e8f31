"""The sweep runner through its controls, without a browser; here it measures in this process, point after point."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest
import torch

from mamba2_lab import benchmark
from mamba2_lab.benchmark import Measurement, apart, suite
from mamba2_lab.widgets.explorers import timing
from mamba2_lab.widgets.explorers.timing import SweepRunner

SOON = 60  # seconds; nothing waits so long unless it hangs


class Steps:
    """A measure whose contestant counts its calls, and may be told what to do at one of them."""

    def __init__(self) -> None:
        self.seen: list[int] = []
        self.threads: set[int] = set()
        self.at: dict[int, Callable[[], None]] = {}

    def __call__(self, device: object, *, l: int) -> dict[str, Callable[[], None]]:
        self.seen.append(l)
        self.at.get(l, lambda: None)()
        return {"ours": lambda: self.threads.add(torch.get_num_threads())}


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Steps:
    steps = Steps()
    entries = {
        "counting": suite.Entry(steps, over={"l": [1, 2, 4]}, memory=True),
        "two ways": suite.Entry(steps, over={"l": [1], "b": [2]}),
        "words": suite.Entry(steps, over={"dtype": ["float32"]}),
        "once": suite.Entry(steps, {"l": 1}),
    }
    monkeypatch.setattr(suite, "SUITE", entries)
    monkeypatch.setattr(apart, "run", run_here)
    monkeypatch.setattr(benchmark, "shipped", lambda: [])
    return steps


def run_here(
    name: str, device: torch.device, seconds: float, threads: int, stop: threading.Event
) -> Iterator[list[Measurement]]:
    torch.set_num_threads(threads)
    for point in suite.SUITE[name].points():
        records = suite.run_point(name, point, device, seconds, memory=False)
        if stop.is_set():
            return
        yield records


def runner() -> SweepRunner:
    return SweepRunner("counting", seconds=0.001)


def run(found: SweepRunner) -> None:
    found.controls["run"].click()
    assert found.wait(SOON)


def shown(found: SweepRunner) -> str:
    return found._status.value + found._figure.value


def test_only_sweeps_over_one_number_are_offered(steps: Steps) -> None:
    assert timing.sweeps() == ["counting"]
    with pytest.raises(ValueError, match="measure must be one of counting; got 'once'"):
        SweepRunner("once")


def test_the_suite_has_sweeps_to_offer() -> None:
    assert {"scan-ways", "length", "batch", "state"} <= set(timing.sweeps())
    assert SweepRunner().last_error is None


def test_a_run_measures_every_point_and_draws_them(steps: Steps, tmp_path) -> None:
    found = runner()
    assert not found.running and "<img" not in shown(found)
    run(found)
    assert found.last_error is None
    assert steps.seen == [1, 2, 4]
    assert [record.settings["l"] for record in found.records] == [1, 2, 4]
    assert all(record.bytes is None for record in found.records), "peaks are left to the command"
    assert "all 3 of 3 points" in shown(found) and "3 records" in shown(found) and "<img" in shown(found)
    assert found._progress.value == found._progress.max == 3
    assert not found.controls["run"].disabled and found.controls["stop"].disabled
    found.save(tmp_path / "r.jsonl")
    assert benchmark.read(tmp_path / "r.jsonl") == found.records


def test_stop_keeps_what_is_measured(steps: Steps) -> None:
    found = runner()
    steps.at[2] = lambda: found.controls["stop"].click()
    run(found)
    assert [record.settings["l"] for record in found.records] == [1]
    assert "stopped: 1 of 3 points" in shown(found)
    run(found)  # the next run begins anew; it is stopped at the same place
    assert steps.seen == [1, 2, 1, 2] and len(found.records) == 1


def test_buttons_say_that_it_runs(steps: Steps) -> None:
    found, at_work, go_on = runner(), threading.Event(), threading.Event()
    steps.at[1] = lambda: (at_work.set(), go_on.wait(SOON))
    found.controls["run"].click()
    assert at_work.wait(SOON)
    assert found.running and found.controls["run"].disabled and not found.controls["stop"].disabled
    assert "timing at l 1" in shown(found)
    go_on.set()
    assert found.wait(SOON)


def test_it_computes_with_the_threads_of_the_notebook(steps: Steps) -> None:
    found, before = runner(), torch.get_num_threads()
    torch.set_num_threads(3)
    another = threading.Thread(target=torch.set_num_threads, args=(2,))  # as the playground does in its own
    another.start()
    another.join()
    try:
        run(found)
    finally:
        torch.set_num_threads(before)
    assert steps.threads == {3}
    assert {record.machine["threads"] for record in found.records} == {3}


def test_an_error_is_shown_and_kept_and_a_new_run_clears_it(steps: Steps) -> None:
    def fail() -> None:
        raise RuntimeError("no memory left")

    found = runner()
    steps.at[2] = fail
    run(found)
    assert isinstance(found.last_error, RuntimeError)
    assert 'role="alert"' in shown(found) and "no memory left" in shown(found)
    assert not found.controls["run"].disabled
    del steps.at[2]
    run(found)
    assert found.last_error is None and 'role="alert"' not in shown(found)


def test_no_time_at_all_is_refused(steps: Steps) -> None:
    found = runner()
    found.controls["seconds"].value = 0
    found.controls["run"].click()
    assert "seconds a point must be above 0; got 0.0" in shown(found) and not steps.seen


def test_records_in_the_package_stand_beside(steps: Steps, monkeypatch: pytest.MonkeyPatch) -> None:
    found = runner()
    assert found.controls["beside"].disabled
    here = benchmark.here("cpu")
    here["machine"] = {**here["machine"], "name": "another chip"}
    other = Measurement("counting", "ours", {"l": 2}, benchmark.Timing(1.0, 1.0, 1.0, 5), **here)
    monkeypatch.setattr(benchmark, "shipped", lambda: [other])
    found = runner()
    run(found)
    assert not found.controls["beside"].disabled and "another chip" not in shown(found)
    found.controls["beside"].value = True
    assert "4 records" in shown(found) and "another chip" in shown(found)


def test_closing_ends_what_runs(steps: Steps) -> None:
    found, at_work = runner(), threading.Event()
    steps.at[1] = lambda: (at_work.set(), found._worker._stopped.wait(SOON))
    found.controls["run"].click()
    assert at_work.wait(SOON)
    found.close()
    assert not found.running and steps.seen == [1]
