"""The measures that `mamba2-lab bench` runs, with their settings, and the table it prints."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch

from mamba2_lab.benchmark import measures
from mamba2_lab.benchmark.clock import measure, peak_bytes
from mamba2_lab.benchmark.record import Record, here

# About 4.5 million weights: a model that one would train on a laptop.
LAPTOP = {"d_model": 256, "n_layer": 8, "d_state": 64, "vocab_size": 4096}


@dataclass(frozen=True)
class Entry:
    """A measure with its settings. memory: whether its peak is worth a second look at each contestant."""

    measure: Callable[..., measures.Contestants]
    settings: dict[str, Any] = field(default_factory=dict)
    memory: bool = False


SUITE = {
    "scan": Entry(measures.scan_forward, {"b": 1, "l": 2048, "h": 24, "p": 64, "g": 1, "n": 128}, memory=True),
    "prefill": Entry(measures.prefill, {"preset": "130m", "l": 1024}),
    "decode": Entry(measures.decode, {"preset": "130m"}),
    "decode-laptop": Entry(measures.decode, {"preset": "small", **LAPTOP}),
    "training": Entry(measures.training_step, {"preset": "medium", "b": 4, "l": 512}, memory=True),
}


def run(names: list[str], device: torch.device | str, seconds: float = 5.0) -> Iterator[list[Record]]:
    """Run the measures of those names one by one: for each, a record per contestant.

    Raises:
        ValueError: for a name that no measure has; before any is run.
    """
    for name in names:
        if name not in SUITE:
            raise ValueError(f"measures must be among {', '.join(SUITE)}; got {name!r}")
    for name in names:
        entry = SUITE[name]
        contestants = entry.measure(device, **entry.settings)
        timings = measure(contestants, device, seconds)
        yield [
            Record(
                measure=name,
                contestant=contestant,
                settings=entry.settings,
                timing=timing,
                bytes=peak_bytes(contestants[contestant], device) if entry.memory else None,
                **here(device),
            )
            for contestant, timing in timings.items()
        ]


def table(records: list[Record]) -> str:
    """The records of one measure as lines: median, quartiles, how many times the first one's time, peak memory."""
    first = records[0]
    width = max(len(record.contestant) for record in records)
    lines = [f"{first.measure}: {', '.join(f'{name} {value}' for name, value in first.settings.items())}"]
    for record in records:
        assert record.timing is not None and first.timing is not None
        timing, ratio = record.timing, record.timing.median / first.timing.median
        spread = f"({1e3 * timing.low:.2f} to {1e3 * timing.high:.2f})"
        memory = "" if record.bytes is None else f"  {record.bytes / 2**20:7.0f} MiB"
        lines.append(
            f"  {record.contestant:<{width}}  {1e3 * timing.median:9.2f} ms {spread:<22} x {ratio:.2f}{memory}"
        )
    return "\n".join(lines)
