"""The checkpoints that a training leaves in a folder, and how the newest is told from whatever else stands there.

A checkpoint is a folder step-000200 with a model in it, the state of the optimiser, and run.json: the facts of the run.
`training.run_folder` says how they come there. Whoever loads a model from the folder of a run gets the newest.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mamba2_lab.machine.files import write_text
from mamba2_lab.machine.untrusted import CheckpointError, read_json

OPTIMIZER_NAME = "optimizer.safetensors"
RUN_NAME = "run.json"
_STEP = re.compile(r"step-(\d{6,})(?:-(\d+))?")  # the second number where something else had the name


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in a folder, the oldest first, damaged ones too."""
    numbered = [(match, path) for path in folder.glob("step-*") if (match := _STEP.fullmatch(path.name))]
    ours = [((int(match[1]), int(match[2] or 1)), path) for match, path in numbered if _is_checkpoint(path)]
    return [path for _, path in sorted(ours)]


def write_facts(path: Path, facts: Mapping[str, Any]) -> None:
    """Write run.json into a checkpoint: the facts, ready for JSON, with their digest."""
    write_text(path / RUN_NAME, json.dumps({**facts, "sha256": _digest(facts)}, indent=1) + "\n")


def read_facts(path: Path) -> dict[str, Any]:
    """The step, and the facts that `write_facts` was given; no "data" and "files" from versions that wrote none.

    Raises:
        CheckpointError: if the file that holds them is damaged.
    """
    found = read_json(path / RUN_NAME)
    digest = found.pop("sha256", None)
    older = found.keys() == {"step", "training", "scaler"}
    if (not older and digest != _digest(found)) or not isinstance(found["step"], int):
        raise CheckpointError(f"{path / RUN_NAME}: expected what the run wrote, by its SHA-256; found something else")
    return found


def is_real_folder(path: Path) -> bool:
    """Whether it is a folder, and no link to one."""
    return path.is_dir() and not path.is_symlink()


def _is_checkpoint(path: Path) -> bool:
    """Whether this was written here, under this name: no link, no copy, nothing of the same name."""
    if not is_real_folder(path):
        return False
    if not (path / RUN_NAME).exists():
        return (path / OPTIMIZER_NAME).exists()  # it was one, and is damaged
    try:
        facts = read_facts(path)
    except CheckpointError:
        return True  # damaged, which whoever reads it is told
    return facts.get("name", f"step-{facts['step']:06d}") == path.name


def _digest(facts: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()
