"""The clock, the records and what is timed. No test here depends on how fast this machine is."""

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from oracle import raises

from mamba2_lab import benchmark, cli
from mamba2_lab.benchmark import Record, Timing, clock, measures, suite
from mamba2_lab.config import PRESETS

TINY = {"d_model": 16, "n_layer": 2, "vocab_size": 40, "d_state": 8, "headdim": 8}


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
    [({}, 1.0, ("contestants must be at least one",)), ({"a": print}, 0, ("seconds must be above 0", "got 0"))],
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


def test_a_device_that_does_not_count_its_memory_is_refused() -> None:
    with raises(ValueError, "device must be cpu or cuda", "got 'mps'"):
        benchmark.peak_bytes(print, "mps")


# Records


def a_record(**changes: Any) -> Record:
    fields = {"measure": "scan", "contestant": "ours", "settings": {"l": 8}, "timing": Timing(2e-3, 1e-3, 3e-3, 9)}
    return Record(**{**fields, **benchmark.here("cpu"), **changes})


def test_records_come_back_as_they_were_written(tmp_path) -> None:
    records = [a_record(), a_record(timing=None, bytes=5)]
    benchmark.write(records, tmp_path / "r.jsonl")
    assert benchmark.read(tmp_path / "r.jsonl") == records


def test_a_record_says_what_it_ran_on() -> None:
    found = a_record()
    assert found.versions["torch"] == torch.__version__
    assert found.machine["threads"] == torch.get_num_threads()
    assert found.machine["device"] == "cpu"
    assert found.machine["name"] not in ("", "cpu")
    assert found.machine["process_peak_bytes"] > 10 * 2**20
    assert len(found.date) == len("2026-01-31")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "is no record"),
        ("[1]", "is no record"),
        ('{"measure": "scan", "timing": null}', "missing"),
        (json.dumps({**dataclasses.asdict(a_record()), "version": 2}), "must be of version 1; got 2"),
    ],
)
def test_a_line_that_is_no_record_is_named(tmp_path, line: str, words: str) -> None:
    path = tmp_path / "r.jsonl"
    benchmark.write([a_record()], path)
    path.write_text(path.read_text() + line + "\n")
    with raises(ValueError, "r.jsonl, line 2", words):
        benchmark.read(path)


# What is timed is the same thing


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRESETS, "130m", TINY)
    monkeypatch.setitem(PRESETS, "medium", TINY)


def test_all_scans_compute_the_same() -> None:
    works = measures.scan_forward("cpu", l=70, h=4, p=8, g=2, n=8)
    y, state = works.pop("ours")()
    assert len(works) == 2
    for work in works.values():
        theirs, their_state = work()
        torch.testing.assert_close(theirs, y, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(their_state, state, rtol=1e-4, atol=1e-5)


def test_both_models_read_the_same_prompt_to_the_same_end(tiny: None) -> None:
    works = measures.prefill("cpu", l=40)
    logits, _ = works["ours"]()
    theirs = works["transformers"]().logits
    assert theirs.shape == (1, 1, 40)
    torch.testing.assert_close(theirs[:, 0], logits, rtol=1e-4, atol=1e-5)
    assert not logits.requires_grad


def test_both_models_read_the_same_token_from_the_same_state(tiny: None) -> None:
    works = measures.decode("cpu")
    torch.testing.assert_close(works["transformers"]().logits[:, -1], works["ours"]()[0], rtol=1e-3, atol=1e-4)


def test_both_models_take_the_same_training_step(tiny: None, monkeypatch: pytest.MonkeyPatch) -> None:
    norms = []

    def note_norm(loss: torch.Tensor) -> None:
        backward(loss)
        norms.append((loss.item(), loss.grad_fn is not None))

    backward = torch.Tensor.backward
    monkeypatch.setattr(torch.Tensor, "backward", note_norm)
    for work in measures.training_step("cpu", b=2, l=20).values():
        work()
    (ours, _), (theirs, _) = norms
    assert theirs == pytest.approx(ours, rel=1e-5)


# The command


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"l": 20, "h": 2, "p": 4, "n": 4}
    monkeypatch.setattr(suite, "SUITE", {"scan": suite.Entry(measures.scan_forward, settings, memory=True)})


def test_the_command_prints_a_table_and_writes_records(quick: None, tmp_path, capsys) -> None:
    out = tmp_path / "records.jsonl"
    assert cli.main(["bench", "--device", "cpu", "--seconds", "0.01", "--out", str(out)]) == 0
    records = benchmark.read(out)
    assert [found.contestant for found in records] == list(measures.scan_forward("cpu", l=4))
    printed = capsys.readouterr().out
    assert "scan: l 20" in printed
    assert all(found.contestant in printed for found in records)
    assert all(found.timing and found.timing.rounds >= 5 and found.bytes for found in records)


def test_a_table_compares_with_the_first() -> None:
    slower = a_record(contestant="theirs", timing=Timing(5e-3, 4e-3, 6e-3, 9), bytes=3 * 2**20)
    lines = suite.table([a_record(), slower]).splitlines()
    assert lines[0] == "scan: l 8"
    assert lines[1].split()[:3] == ["ours", "2.00", "ms"]
    assert lines[1].split()[-1] == "1.00"
    assert lines[2].split()[-4:] == ["x", "2.50", "3", "MiB"]


def test_an_unknown_measure_is_refused_before_any_is_run(quick: None, capsys) -> None:
    assert cli.main(["bench", "scan", "speed", "--device", "cpu"]) == 1
    printed = capsys.readouterr()
    assert "measures must be among scan; got 'speed'" in printed.err
    assert "scan: l 20" not in printed.out
