"""What a training run keeps on disk, so that it can be stopped at any moment and goes on as if it had not been.

    records.jsonl     a line per step, for the plots
    step-000200/      the newest checkpoint: config and weights as `weights.save` writes them, or adapters as peft does
                      (`load` reads both), optimizer.safetensors, run.json

A checkpoint is written under another name and renamed as a folder: it is there in whole or not at all. Then the one
before it is removed; a kill in between leaves both. No pickle.

run.json holds the settings, what the model was loaded from, and digests: of the files beside it, so that damage is
found; of the tokens, and of the texts to measure on, so that a run goes on with its own; of the weights that adapters
are learned for; and of the records so far. Their times make these the mark of a run: a checkpoint belongs to the folder
whose records it was saved with. Whatever else stands in a folder is somebody's, and stays as it is: a copy of a
checkpoint under another name, a link, notes, a file that was put into a checkpoint.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from mamba2_lab import text, weights
from mamba2_lab.machine.files import replacing, to_disk
from mamba2_lab.machine.untrusted import CheckpointError
from mamba2_lab.mamba2_lm import MambaLM
from mamba2_lab.text import Tokenizer
from mamba2_lab.training import lora
from mamba2_lab.weights import CONFIG_NAME, WEIGHTS_NAME
from mamba2_lab.weights.adapters import ADAPTER_CONFIG_NAME, ADAPTER_WEIGHTS_NAME
from mamba2_lab.weights.runs import OPTIMIZER_NAME, RUN_NAME, is_real_folder, read_facts, write_facts
from mamba2_lab.weights.runs import checkpoints as checkpoints

RECORDS_NAME = "records.jsonl"
_NEEDED = (CONFIG_NAME, WEIGHTS_NAME, OPTIMIZER_NAME)  # where run.json does not say what was written
_FILES = (*_NEEDED, ADAPTER_CONFIG_NAME, ADAPTER_WEIGHTS_NAME, text.FILE_NAME)  # of a checkpoint, beside run.json
_UNFINISHED = ".mamba2-lab.unfinished"
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")  # what AdamW keeps for each parameter


@dataclass(frozen=True)
class Saved:
    """A checkpoint that was read and found whole.

    facts: those that `write` was given, and the step. records: the lines of records.jsonl up to it.
    """

    path: Path
    facts: dict[str, Any]
    records: bytes
    weights: dict[str, Tensor]
    moments: dict[str, Tensor]

    def put_into(self, model: MambaLM, optimizer: torch.optim.Optimizer) -> None:
        """Give the model these weights, and the optimiser these moments."""
        model.load_state_dict(self.weights, strict=not lora.has_adapters(model))
        # AdamW keeps its moments beside the parameter, and its step counter on the CPU unless it is fused.
        on_cpu = () if optimizer.defaults.get("fused") else ("step",)
        for name, parameter in model.named_parameters():
            state = {key: self.moments[f"{name}/{key}"] for key in _MOMENTS if f"{name}/{key}" in self.moments}
            if state:
                optimizer.state[parameter] = {
                    key: tensor if key in on_cpu else tensor.to(parameter.device) for key, tensor in state.items()
                }


def write(
    folder: Path,
    step: int,
    model: MambaLM,
    tokenizer: Tokenizer | None,
    optimizer: torch.optim.Optimizer,
    facts: Mapping[str, Any],
    older: Path | None = None,
) -> Path:
    """Write the checkpoint after `step` steps, and then remove the older one. Where it is.

    Args:
        facts: what else the run needs, ready for JSON.

    Raises:
        OSError: if it cannot be written, on a full disk say; the checkpoint before it is whole.
    """
    unfinished = folder / _UNFINISHED
    if is_real_folder(unfinished):
        shutil.rmtree(unfinished)  # what a kill left
    unfinished = _free(unfinished)
    target = folder / f"step-{step:06d}"
    try:
        _save_model(model, tokenizer, unfinished)
        with replacing(unfinished / OPTIMIZER_NAME) as temporary:
            safetensors.torch.save_file(_optimizer_tensors(model, optimizer), temporary)
        files = {name: _describe(unfinished / name) for name in _FILES if (unfinished / name).exists()}
        target = _free(target)
        facts = {"step": step, "name": target.name, **facts, "files": files}
        write_facts(unfinished, facts)
        to_disk(folder / RECORDS_NAME)
        to_disk(unfinished)
        os.rename(unfinished, target)
        to_disk(folder)
    except BaseException as error:
        shutil.rmtree(unfinished, ignore_errors=True)
        if isinstance(error, OSError | safetensors.SafetensorError):
            stands = "and there is none before it" if older is None else f"{older.name} is whole"
            raise OSError(f"{target}: the checkpoint could not be written, {stands}: {error}") from error
        raise
    if older is not None:
        _remove(older)
    return target


def newest(folder: Path) -> Path | None:
    """The newest checkpoint of the run whose records the folder holds; None if no checkpoint is there.

    Raises:
        CheckpointError: if one is damaged that is newer, or if the records are, or of another run: it names the file.
    """
    error = None
    for path in reversed(checkpoints(folder)):
        facts = read_facts(path)
        try:
            _records_of(path, facts)
        except CheckpointError as unfit:  # a checkpoint that somebody put here from elsewhere
            error = error or unfit
        else:
            return path
    if error is not None:
        raise error
    return None


def verify(path: Path) -> dict[str, Any]:
    """Hold every file of a checkpoint against the digest that was written with it: its facts.

    Raises:
        CheckpointError: naming the file that is damaged or missing.
    """
    facts = read_facts(path)
    expected = facts.get("files", {})
    for name in _FILES:
        file = path / name
        if not file.is_file():
            if name in (expected or _NEEDED):
                raise CheckpointError(f"{file}: expected a file of the checkpoint; found none")
            continue
        if name not in expected:
            continue
        wanted, found = expected[name], _describe(file)
        if found["bytes"] != wanted["bytes"]:
            raise CheckpointError(f"{file}: expected {wanted['bytes']:,} bytes; found {found['bytes']:,}")
        if found["sha256"] != wanted["sha256"]:
            raise CheckpointError(
                f"{file}: expected what the run wrote, with SHA-256 {wanted['sha256']}; found {found['sha256']}"
            )
    return facts


def read(path: Path, model: MambaLM) -> Saved:
    """Read a checkpoint that was verified, for this model; nothing is changed.

    Raises:
        CheckpointError: naming the file and what is wrong with it.
    """
    found = lora.read(path, model) if lora.has_adapters(model) else _read_whole(path, model)
    moments = weights.read_tensors(path / OPTIMIZER_NAME)
    _check_moments(path / OPTIMIZER_NAME, moments, model)
    facts = read_facts(path)
    return Saved(path, facts, _records_of(path, facts), found, moments)


def _save_model(model: MambaLM, tokenizer: Tokenizer | None, folder: Path) -> None:
    """All that a training changes of it."""
    if not lora.has_adapters(model):
        weights.save(model, folder, tokenizer=tokenizer)
        return
    lora.save(model, folder)
    if tokenizer is not None:
        text.save(tokenizer, folder)


def _read_whole(path: Path, model: MambaLM) -> dict[str, Tensor]:
    """The weights of a checkpoint that holds all of them."""
    saved = MambaLM.from_pretrained(path, dtype=model.dtype)
    if saved.config != model.config:
        ours, theirs = model.config.to_dict(), saved.config.to_dict()
        differ = [name for name in {**ours, **theirs} if name not in theirs or ours.get(name, ...) != theirs[name]]
        wanted, found = (
            ", ".join(f"{name}={fields[name]!r}" for name in differ if name in fields) for fields in (ours, theirs)
        )
        raise CheckpointError(f"{path}: expected a checkpoint of this model, with {wanted}; found {found}")
    return saved.state_dict()


def append_record(folder: Path, record: Mapping[str, Any]) -> bytes:
    """Add a line to records.jsonl: that line.

    Raises:
        OSError: naming the file.
    """
    path, line = folder / RECORDS_NAME, f"{json.dumps(record)}\n".encode()
    try:
        with path.open("ab") as file:
            file.write(line)
    except OSError as error:
        raise OSError(f"{path}: the record of step {record['step']} could not be written: {error}") from error
    return line


def cut_records(folder: Path, records: bytes) -> None:
    """Cut off what a kill left behind the records of a checkpoint: steps that will be made again, half a line."""
    os.truncate(folder / RECORDS_NAME, len(records))


def set_aside_records(folder: Path) -> Path | None:
    """Give the records of a run that left no checkpoint another name, and say which; None if there are none."""
    path = folder / RECORDS_NAME
    if path.is_dir():
        raise IsADirectoryError(f"{path}: expected a file of records; found a folder")
    if not path.exists() or path.stat().st_size == 0:
        return None
    aside = _free(path.with_stem(f"{path.stem}-without-checkpoint"))
    os.rename(path, aside)
    return aside


def _records_of(path: Path, facts: Mapping[str, Any]) -> bytes:
    """The records of the steps before a checkpoint, from the folder where it stands."""
    records, step = path.parent / RECORDS_NAME, facts["step"]
    lines = records.read_bytes().splitlines(keepends=True)[:step] if records.is_file() else []
    whole = [line for line in lines if line.endswith(b"\n")]
    if len(whole) < step:
        raise CheckpointError(
            f"{records}: expected a record of each of the checkpoint's {step} steps; found {len(whole)}"
        )
    for i, line in enumerate(whole):
        try:
            found = json.loads(line)["step"]
        except (ValueError, TypeError, LookupError):
            found = line[:80].decode(errors="replace").rstrip()
        if found != i:
            raise CheckpointError(f"{records}: line {i + 1}: expected the record of step {i}; found {found!r}")
    history = b"".join(whole)
    if "records" in facts and hashlib.sha256(history).hexdigest() != facts["records"]:
        raise CheckpointError(
            f"{records}: expected the records that {path.name} was saved with; found others: one was changed, or "
            f"{path.name} is of another run"
        )
    return history


def _remove(path: Path) -> None:
    """Take a checkpoint away. What somebody else put into it stays, and a training does not end if it cannot go."""
    if not is_real_folder(path):
        return
    try:
        for name in (*_FILES, RUN_NAME):
            (path / name).unlink(missing_ok=True)
        if not any(path.iterdir()):
            path.rmdir()
    except OSError as error:
        warnings.warn(f"{path}: the checkpoint is no longer needed, but could not be removed: {error}", stacklevel=2)


def _free(path: Path) -> Path:
    """The path, or that with a number behind it: one where nothing stands."""
    numbered = (path.with_stem(f"{path.stem}-{number}") for number in itertools.count(2))
    return next(free for free in itertools.chain([path], numbered) if not os.path.lexists(free))


def _describe(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _check_moments(path: Path, moments: Mapping[str, Tensor], model: MambaLM) -> None:
    """AdamW's state of each parameter, or none of one that was not trained."""
    parameters = dict(model.named_parameters())
    expected = {f"{name}/{key}": (p, key) for name, p in parameters.items() for key in _MOMENTS}
    for name in sorted(moments.keys() - expected.keys()):
        raise CheckpointError(f"{path}: {name}: expected a state of every parameter and no other; found this one")
    for name, (parameter, key) in expected.items():
        if name not in moments:
            if parameter.requires_grad:
                raise CheckpointError(f"{path}: {name}: expected a state of every parameter and no other; found none")
            continue
        shape = () if key == "step" else tuple(parameter.shape)
        if tuple(moments[name].shape) != shape or (key != "step" and moments[name].dtype != parameter.dtype):
            raise CheckpointError(
                f"{path}: {name}: expected shape {shape}, {parameter.dtype}; found {tuple(moments[name].shape)}, "
                f"{moments[name].dtype}"
            )


def _optimizer_tensors(model: MambaLM, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    return {
        f"{name}/{key}": value.detach().cpu().contiguous()
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state[parameter].items()
    }
