"""A measurement says what it ran on, and comes back from a file as it was."""

import dataclasses
import json

import pytest
import torch
import transformers
from support.measurements import a_record
from support.oracle.mamba2 import raises

from mamba2_lab import benchmark
from mamba2_lab.benchmark import measurement, suite


def test_records_come_back_as_they_were_written(tmp_path) -> None:
    records = [a_record(), a_record(timing=None, bytes=5)]
    benchmark.write(records, tmp_path / "r.jsonl")
    assert benchmark.read(tmp_path / "r.jsonl") == records


def test_a_record_says_what_it_ran_on() -> None:
    found = a_record()
    assert found.versions["torch"] == torch.__version__
    assert found.versions["transformers"] == transformers.__version__
    assert found.machine["threads"] == torch.get_num_threads()
    assert found.machine["device"] == "cpu"
    assert found.machine["name"] == found.machine["processor"] not in ("", "cpu")
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


def test_shipped_records_are_those_of_every_file(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measurement, "SHIPPED", tmp_path)
    assert benchmark.shipped() == []
    first, second = a_record(measure="a"), a_record(measure="b")
    benchmark.write([second], tmp_path / "b.jsonl")
    benchmark.write([first], tmp_path / "a.jsonl")
    assert benchmark.shipped() == [first, second]


def test_records_in_the_package_can_be_read_and_were_all_timed() -> None:
    for found in benchmark.shipped():
        assert found.measure in suite.SUITE and found.timing is not None
        assert found.machine["device"] != "mps", "none is shipped until a Mac made one, and the notebook says so"


def test_a_machine_is_named_in_a_few_words() -> None:
    machine = {"device": "cpu", "name": "some chip", "threads": 2}
    assert benchmark.where(a_record(machine=machine)) == "some chip, 2 threads"
    assert benchmark.where(a_record(machine={**machine, "threads": 1})) == "some chip, 1 thread"
    assert benchmark.where(a_record(machine={**machine, "device": "cuda"})) == "some chip"
