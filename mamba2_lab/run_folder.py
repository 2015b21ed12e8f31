"""What a training run keeps on disk, so that it can be stopped at any moment and goes on as if it had not been.

    records.jsonl     a line per step, for the plots
    step-000200/      the newest checkpoint: config and weights as `checkpoint.save` writes them (so `load` reads them),
                      optimizer.safetensors, run.json

A checkpoint is written under another name and renamed as a folder: it is there in whole or not at all. No pickle.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from mamba2_lab import checkpoint
from mamba2_lab.checkpoint import CheckpointError
from mamba2_lab.files import write_text
from mamba2_lab.model import Mamba2LM
from mamba2_lab.tokenizer import Tokenizer

RECORDS_NAME = "records.jsonl"
OPTIMIZER_NAME = "optimizer.safetensors"
RUN_NAME = "run.json"


def write(
    folder: Path,
    step: int,
    model: Mamba2LM,
    tokenizer: Tokenizer | None,
    optimizer: torch.optim.Optimizer,
    facts: dict[str, Any],
) -> None:
    """Write the checkpoint after `step` steps, then remove the ones before it.

    Args:
        facts: what else the run needs, ready for JSON.

    Raises:
        OSError: if it cannot be written, on a full disk say; the checkpoint before it is whole.
    """
    target = folder / f"step-{step:06d}"
    unfinished = folder / f".{target.name}.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        checkpoint.save(model, unfinished, tokenizer=tokenizer)
        safetensors.torch.save_file(_optimizer_tensors(model, optimizer), unfinished / OPTIMIZER_NAME)
        write_text(unfinished / RUN_NAME, json.dumps({"step": step, **facts}, indent=1) + "\n")
        shutil.rmtree(target, ignore_errors=True)
        os.replace(unfinished, target)
    except BaseException as error:
        shutil.rmtree(unfinished, ignore_errors=True)
        if isinstance(error, OSError | safetensors.SafetensorError):
            raise OSError(f"{target}: the checkpoint could not be written, {_what_stands(folder)}: {error}") from error
        raise
    for older in checkpoints(folder):
        if older != target:
            shutil.rmtree(older)


def read_facts(path: Path) -> dict[str, Any]:
    """The step, and the facts that `write` was given.

    Raises:
        CheckpointError: if the file that holds them is damaged.
    """
    return checkpoint.read_json(path / RUN_NAME)


def read(path: Path, model: Mamba2LM, optimizer: torch.optim.Optimizer) -> None:
    """Put weights and optimiser back as the checkpoint at `path` has them; both stay as they are if it is damaged.

    Raises:
        CheckpointError: naming the file and what is wrong with it.
    """
    saved = checkpoint.load(path, dtype=model.dtype)
    if saved.config != model.config:
        raise CheckpointError(f"{path}: expected a checkpoint of this model, {model.config}; found {saved.config}")
    tensors = checkpoint.read_tensors(path / OPTIMIZER_NAME)
    expected = {name for name, _ in model.named_parameters()}
    found = {name.rpartition("/")[0] for name in tensors}
    if found != expected:
        raise CheckpointError(
            f"{path / OPTIMIZER_NAME}: expected a state of every parameter and no other; "
            f"found a difference at {sorted(found ^ expected)[0]}"
        )
    model.load_state_dict(saved.state_dict())
    for name, parameter in model.named_parameters():
        state = {key.rpartition("/")[2]: tensor for key, tensor in tensors.items() if key.rpartition("/")[0] == name}
        # AdamW keeps its moments beside the parameter, and its step counter on the CPU unless it is fused.
        on_cpu = () if optimizer.defaults.get("fused") else ("step",)
        optimizer.state[parameter] = {
            key: tensor if key in on_cpu else tensor.to(parameter.device) for key, tensor in state.items()
        }


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of a run, the oldest first. There is one, or two if a kill came between write and removal."""
    return sorted(path for path in folder.glob("step-*") if path.is_dir())


def append_record(folder: Path, record: dict[str, Any]) -> None:
    """Add a line to records.jsonl."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / RECORDS_NAME).open("a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")


def keep_records(folder: Path, count: int) -> list[dict[str, Any]]:
    """The first `count` records; what came after them, or was cut short by a kill, is removed from the file.

    Raises:
        CheckpointError: if the file holds fewer.
    """
    path = folder / RECORDS_NAME
    lines = path.read_text(encoding="utf-8").splitlines()[:count] if path.exists() else []
    if len(lines) < count:
        raise CheckpointError(
            f"{path}: expected a record of each of the checkpoint's {count} steps; found {len(lines)}"
        )
    write_text(path, "".join(f"{line}\n" for line in lines))
    return [json.loads(line) for line in lines]


def _optimizer_tensors(model: Mamba2LM, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    return {
        f"{name}/{key}": value.detach().cpu().contiguous()
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state[parameter].items()
    }


def _what_stands(folder: Path) -> str:
    whole = checkpoints(folder)
    return f"{whole[-1].name} is whole" if whole else "and there is none before it"
