"""What every record of the box says of how it was made: when, on what, by which command, and how the loss fell."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from datetime import UTC, datetime

import torch

from mamba2_lab.machine.devices import describe
from mamba2_lab.training import Record, number_of_processes

CURVE_POINTS = 100


def today() -> str:
    """The date in UTC, as 2026-01-31."""
    return datetime.now(UTC).date().isoformat()


def machine(device: torch.device) -> dict[str, str]:
    """What a number was made on."""
    processes = number_of_processes()
    count = f"{processes} x " if processes > 1 else ""
    return {"device": count + describe(device.type), "python": platform.python_version(), "torch": torch.__version__}


def launcher() -> list[str]:
    """The words that begin the command of this run."""
    processes = number_of_processes()
    return ["torchrun", "--nproc_per_node", str(processes)] if processes > 1 else ["python"]


def thin(curve: Sequence[Record]) -> list[dict[str, float]]:
    """About a hundred points, each the mean loss since the point before."""
    stride = max(1, len(curve) // CURVE_POINTS)
    groups = [curve[start : start + stride] for start in range(0, len(curve), stride)]
    return [
        {
            "step": group[-1].step,
            "loss": round(sum(record.loss for record in group) / len(group), 4),
            "learning_rate": round(group[-1].learning_rate, 8),
        }
        for group in groups
    ]
