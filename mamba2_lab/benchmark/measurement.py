"""A measurement: one number with all that it takes to believe it. A record is one on file, as a line of JSON."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import distributions, version
from pathlib import Path
from typing import Any

import torch

from mamba2_lab.benchmark.clock import Timing
from mamba2_lab.machine.devices import describe
from mamba2_lab.machine.facts import processor
from mamba2_lab.machine.files import write_text
from mamba2_lab.words import counted

SHIPPED = Path(__file__).with_name("records")
VERSION = 1  # of the schema: raised whenever a field changes its meaning


@dataclass(frozen=True)
class Measurement:
    """What was measured, on what, and when.

    measure: the question, "prefill" for one. contestant: who was timed, "ours" or "transformers" for two.
    settings: shapes, dtype, threads and whatever else the time depends on.
    timing: seconds; None where only memory was measured. bytes: at the peak; None where it was not measured.
    machine, versions, date: what it ran on; made by `here`.
    tokens: how many the timing is of, and parameters: how many weights the contestant has; None where none asks.
    """

    measure: str
    contestant: str
    settings: dict[str, Any]
    timing: Timing | None
    machine: dict[str, Any]
    versions: dict[str, str]
    date: str
    bytes: int | None = None
    tokens: int | None = None
    parameters: int | None = None
    version: int = field(default=VERSION, kw_only=True)


def here(device: torch.device | str, *packages: str) -> dict[str, Any]:
    """The fields of a measurement that say what it ran on.

    packages: whose versions are kept too, where they are installed.
    """
    kind = torch.device(device).type
    return {
        "machine": {
            "device": kind,
            "name": describe(kind) if kind != "cpu" else processor(),
            "processor": processor(),
            "system": f"{platform.system()} {platform.machine()}",
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "process_peak_bytes": process_peak_bytes(),
        },
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": version("transformers"),
            **{name: version(name) for name in packages if any(distributions(name=name))},
        },
        "date": datetime.now(UTC).date().isoformat(),
    }


def shipped() -> list[Measurement]:
    """The records that come with the package, those of all machines: `records/*.jsonl` beside this file."""
    return [record for path in sorted(SHIPPED.glob("*.jsonl")) for record in read(path)]


def where(record: Measurement) -> str:
    """The machine of a measurement, in a few words: "AMD EPYC, 2 threads", "NVIDIA H200"."""
    machine = record.machine
    return machine["name"] + (f", {counted(machine['threads'], 'thread')}" if machine["device"] == "cpu" else "")


def process_peak_bytes() -> int | None:
    """The most memory that this process ever had, in bytes; None on Windows, which does not tell."""
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes, Linux kibibytes


def write(records: Iterable[Measurement], path: str | Path) -> None:
    """One line of JSON for each record, the file whole."""
    lines = [json.dumps(dataclasses.asdict(record)) for record in records]
    write_text(Path(path), "\n".join(lines) + "\n")


def read(path: str | Path) -> list[Measurement]:
    """The records of a file.

    Raises:
        ValueError: names file and line, if one is no record or is of another version of the schema.
    """
    records = []
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), start=1):
        try:
            fields = json.loads(line)
            timing = fields.pop("timing")
            record = Measurement(timing=None if timing is None else Timing(**timing), **fields)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"{path}, line {number}, is no record: {error}") from None
        if record.version != VERSION:
            raise ValueError(f"{path}, line {number}, must be of version {VERSION}; got {record.version!r}")
        records.append(record)
    return records
