"""What a training writes while it runs: a record of each step, and checkpoints, each in the place of the one before."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from mamba2_lab.mamba2_lm import MambaLM
from mamba2_lab.text import Tokenizer
from mamba2_lab.training import run_folder
from mamba2_lab.training.records import Record


class Keeper:
    """Writes into the folder of a run.

    Args:
        folder: None writes nothing: in processes beside the main one, and where nothing is to be kept.
        saved: what the run goes on from; None if it begins.
        facts: what stands in every checkpoint of the run, for those who resume it.
    """

    def __init__(self, folder: Path | None, saved: run_folder.Saved | None, facts: Mapping[str, Any]) -> None:
        self.folder, self._saved, self._facts = folder, saved, facts
        self._history = hashlib.sha256(b"" if saved is None else saved.records)  # of the records in the folder
        self._checkpoint = None if saved is None else saved.path

    def begin(self) -> str | None:
        """Leave those records in the folder that the run goes on from. Where others were put, to be told."""
        if self.folder is None:
            return None
        if self._saved is not None:
            run_folder.cut_records(self.folder, self._saved.records)
        elif aside := run_folder.set_aside_records(self.folder):
            return f"the records of a run that left no checkpoint are now in {aside}"
        return None

    def note(self, record: Record) -> None:
        """Keep the record of a step."""
        if self.folder is not None:
            self._history.update(run_folder.append_record(self.folder, dataclasses.asdict(record)))

    def save(
        self,
        step: int,
        model: MambaLM,
        tokenizer: Tokenizer | None,
        optimizer: torch.optim.Optimizer,
        scaler: dict[str, Any],
    ) -> None:
        """Write a checkpoint, whole, and then remove the one before it."""
        if self.folder is not None:
            facts = {**self._facts, "scaler": scaler, "records": self._history.hexdigest()}
            self._checkpoint = run_folder.write(self.folder, step, model, tokenizer, optimizer, facts, self._checkpoint)
