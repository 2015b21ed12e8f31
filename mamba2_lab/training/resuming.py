"""Going on with a run, or beginning one: what a folder holds, and whether it is the run that is asked for.

Nothing is changed here, and all that could be refused is refused here.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mamba2_lab import text
from mamba2_lab.checks import Refusal, require
from mamba2_lab.data import Document, PackedTokens
from mamba2_lab.mamba2_lm import MambaLM
from mamba2_lab.text import Tokenizer
from mamba2_lab.training import run_folder
from mamba2_lab.training.settings import MAY_CHANGE, TrainingConfig


def find_checkpoint(folder: Path, resume: bool) -> Path | None:
    """The checkpoint to resume from; None if the run begins.

    Raises:
        ValueError: if there is one, and it is not to be resumed.
        CheckpointError: if it, or the records, are damaged.
    """
    if resume:
        return run_folder.newest(folder)
    if found := run_folder.checkpoints(folder):
        wanted = f"new, or `resume` asked for: it holds a run, at {found[-1].name}"
        raise ValueError(Refusal("folder", wanted, str(folder)))
    return None


def read_saved(
    folder: Path,
    resume: bool,
    model: MambaLM,
    tokens: PackedTokens,
    config: TrainingConfig,
    tokenizer: Tokenizer | None,
    held_out: Sequence[Document],
    begun_with: Mapping[str, str | None],
) -> run_folder.Saved | None:
    """What to resume, once all of it is found to be whole, and this run's. None if the run begins.

    Args:
        begun_with: what the model was loaded from, under "origin"; under "frozen" SHA-256 of the weights that adapters
            are learned for.
    """
    path = find_checkpoint(folder, resume)
    if path is None:
        return None
    facts = run_folder.verify(path)
    origin, frozen = facts.get("origin"), facts.get("frozen")
    wanted = f"{'left out' if origin is None else repr(origin)}, as in the run to resume at {path}"
    require(origin == begun_with["origin"], "origin", wanted, begun_with["origin"])
    _require_its_settings(config, facts, path)
    wanted = f"the one that the run to resume at {path} began with, as it was then, with SHA-256 {frozen}"
    require(frozen == begun_with["frozen"], "model", wanted, begun_with["frozen"])
    _require_its_tokenizer(tokenizer, path)
    saved, digest = facts.get("data"), tokens.digest()
    wanted = f"those of the run to resume at {path}, cut in the same way, with SHA-256 {saved}"
    require(saved in (None, digest), "tokens", wanted, digest)
    measured, texts = facts.get("held_out"), texts_digest(held_out)
    wanted = f"documents of those texts that the run to resume at {path} was measured on, with SHA-256 {measured}"
    require(measured is None or texts in (None, measured), "held_out", wanted, texts)
    return run_folder.read(path, model)


def texts_digest(documents: Sequence[Document]) -> str | None:
    """SHA-256 of the texts, in hexadecimal; None of no documents."""
    texts = [document.text for document in documents]
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest() if texts else None


def _require_its_settings(config: TrainingConfig, facts: Mapping[str, Any], path: Path) -> None:
    saved = dataclasses.asdict(TrainingConfig()) | facts["training"]  # one younger than the run: its default
    for name, value in dataclasses.asdict(config).items():
        before = tuple(saved[name]) if isinstance(saved[name], list) else saved[name]
        require(before == value or name in MAY_CHANGE, name, f"{before!r}, as in the run to resume at {path}", value)
    made = facts["step"]
    require(config.steps >= made, "steps", f"at least {made}, which the run to resume at {path} has made", config.steps)


def _require_its_tokenizer(tokenizer: Tokenizer | None, path: Path) -> None:
    """A tokenizer learned anew from a changed text would give the ids other meanings."""
    saved = text.load(path).to_dict() if (path / text.FILE_NAME).exists() else None
    given = None if tokenizer is None else tokenizer.to_dict()
    wanted = f"{'None, as in' if saved is None else 'that of'} the run to resume at {path}"
    require(saved == given, "tokenizer", wanted, tokenizer and f"another {type(tokenizer).__name__}")
