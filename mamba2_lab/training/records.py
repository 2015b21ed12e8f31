"""What is kept of each training step."""

from __future__ import annotations

import json
from dataclasses import dataclass

from mamba2_lab.machine.untrusted import CheckpointError
from mamba2_lab.training import run_folder


@dataclass(frozen=True)
class Record:
    """One training step.

    loss: nats per token. gradient_norm: before clipping. seconds: since the run began, stops not counted.
    bits_per_byte: on the held-out documents after this step, where it was measured.
    bits_per_byte_before: the same before this step: measured at the first one only, where it was asked for.
    """

    step: int
    loss: float
    learning_rate: float
    gradient_norm: float
    seconds: float
    bits_per_byte: float | None = None
    bits_per_byte_before: float | None = None


def records_of(saved: run_folder.Saved) -> list[Record]:
    """The records of the steps before a checkpoint.

    Raises:
        CheckpointError: if a line holds something else.
    """
    try:
        return [Record(**json.loads(line)) for line in saved.records.splitlines()]
    except TypeError as error:
        path = saved.path.parent / run_folder.RECORDS_NAME
        raise CheckpointError(f"{path}: expected records; found {error}") from error
