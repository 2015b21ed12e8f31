"""The table of six architectures: what it takes from a record, what it leaves out, and that in the box it is whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mamba2_lab.pretrained import architecture_table, architectures, parity


def trained(seed: int, loss: float, **changes: Any) -> dict[str, Any]:
    row = {
        "what": "training",
        "architecture": "llama",
        "seed": seed,
        "ended": None,
        "loss": loss,
        "bits_per_byte": loss / 2,
        "parses": 0.5,
        "copied": {"64": {"first": 0.0, "again": 0.9}, "256": {"first": 0.1, "again": loss / 10}},
        "learning_rate": 4e-3,
        "tokens": 1000,
        "seconds": 10.0,
    }
    return row | changes


def counted(rate: float, right: float, steps: int = parity.STEPS) -> dict[str, Any]:
    return {"what": "parity", "architecture": "llama", "learning_rate": rate, "right": right, "steps": steps}


@pytest.fixture
def record(tmp_path: Path) -> Path:
    path = tmp_path / "record.jsonl"
    for row in (
        trained(1, 3.0, bits_per_byte_beyond=9.0),
        trained(0, 8.0),
        trained(0, 1.0, bits_per_byte_beyond=7.0),
        {"what": "training", "architecture": "llama", "seed": 2, "ended": "the loss is nan"},
        trained(0, 5.0, architecture="mamba1"),
        *(counted(1e-3, right) for right in (1.0, 0.5)),
        *(counted(1e-2, right) for right in (0.8, 0.9)),
        counted(1e-1, 1.0, steps=2),
        *({"what": "decoding", "architecture": "llama", "tokens_per_second": t, "bytes": 2000} for t in (1.0, 70.4)),
    ):
        architectures.note(path, row)
    return path


def test_the_newest_run_of_a_seed_counts_and_seeds_are_in_order(record):
    found = architecture_table.results(record)["llama"]
    assert found["loss"] == [1.0, 3.0] and found["bits_per_byte"] == [0.5, 1.5] and found["beyond"] == [7.0, 9.0]
    assert found["recall"] == [0.1, 0.3] and found["tokens"] == [1000, 1000] and found["seconds"] == [10.0, 10.0]


def test_parity_is_of_the_rate_that_is_best_on_average_and_of_whole_runs_alone(record):
    assert architecture_table.results(record)["llama"]["parity"] == [0.8, 0.9]


def test_the_last_measurement_of_decoding_counts(record):
    assert architecture_table.results(record)["llama"]["tokens_per_second"] == [70.4]


def test_a_line_is_the_mean_over_seeds_and_a_dash_where_nothing_was_measured(record):
    header, *lines = architecture_table.lines(record)
    by_name = {line[0]: dict(zip(header[1:], line[1:], strict=True)) for line in lines}
    assert by_name["Llama"] == {
        "seeds": "2",
        "loss": "2.00",
        "bits per byte": "1.000",
        "parses": "50%",
        "recall": "20%",
        "parity": "85%",
        "tokens/s": "70",
        "state": "2 kB",
    }
    assert by_name["Mamba-1"]["seeds"] == "1" and by_name["Mamba-1"]["parity"] == "-"
    assert set(by_name["hybrid"].values()) == {"-"}


def test_all_six_have_a_line_in_the_order_of_the_script():
    assert list(architecture_table.NAMES) == list(architectures.ARCHITECTURES)
    names = [line[0] for line in architecture_table.lines()[1:]]
    assert names == list(architecture_table.NAMES.values())


def test_nothing_is_missing_from_the_record_in_the_box():
    for name, found in architecture_table.results().items():
        attends = name in ("llama", "hybrid")
        seeds = dict.fromkeys(("loss", "bits_per_byte", "parses", "recall", "parity", "rate", "tokens", "seconds"), 3)
        expected = {**seeds, "beyond": 3 * attends, "tokens_per_second": 1, "state": 1}
        assert {key: len(values) for key, values in found.items()} == expected
        assert len(set(found["rate"])) == len(set(found["tokens"])) == 1
