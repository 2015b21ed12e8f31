"""A text under way, put into a file: a long document is read once, and gone on with on another day.

It is a safetensors file, and holds what the model remembers (a cache, as in `weights.caches`), the logits behind what
was read, the token drawn from them, which tokens were seen, the generator of the draws, and the last tokens of the
text. It names the model and the tokenizer by digests, and means nothing to others.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from mamba2_lab.generation import Position
from mamba2_lab.machine.untrusted import CheckpointError
from mamba2_lab.model import LanguageModel
from mamba2_lab.text import REPLACEMENT, Tokenizer
from mamba2_lab.weights import caches
from mamba2_lab.weights.identity import digest_of_model

KIND = "mamba2_lab session"
RECENT = 512  # tokens of its end that a session keeps as such
LONGEST_UNSHOWN = 10_000  # characters


class Session(NamedTuple):
    """A text under way.

    position: where the model stands in it; one row.
    recent: its last tokens, the one drawn last included: behind them the text goes on.
    unshown: the end of their text that was held back, as a stop text is; whoever goes on shows it first.
    """

    position: Position
    recent: tuple[int, ...]
    unshown: str = ""


def save_session(session: Session, path: str | Path, model: LanguageModel, tokenizer: Tokenizer) -> None:
    """Write a session of this model and this tokenizer, whole.

    Raises:
        ValueError: for a session of a model of other sizes; and for more than one row.
    """
    at = session.position
    tensors = {**caches.tensors_of(at.cache), "logits": at.logits, "seen": at.seen}
    tensors |= {"generator": at.generator.get_state(), "recent": torch.tensor(session.recent[-RECENT:]).long()}
    if at.unread is not None:
        tensors["unread"] = at.unread
    if wrong := caches.wrong_in(tensors, _expected(model, tensors)):
        raise ValueError(f"session must be one of this model, and of one row: {wrong}")
    metadata = {"kind": KIND, **_owners(model, tokenizer), **caches.fingerprint(model.config)}
    caches.write(path, tensors, metadata | {"unshown": session.unshown[:LONGEST_UNSHOWN]})


def load_session(path: str | Path, model: LanguageModel, tokenizer: Tokenizer) -> Session:
    """Read a session, and put it where the model is. No tensor is read before all that the file says was looked at.

    Raises:
        FileNotFoundError: if there is no such file.
        CheckpointError: if it is damaged, or something else, or of another model or tokenizer.
    """

    def check(header: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
        if metadata.get("kind") != KIND:
            raise CheckpointError(f"{path}: expected a session that save_session wrote; found another safetensors file")
        caches.require_config(path, metadata, model.config, "a session")
        for name, digest in _owners(model, tokenizer).items():
            if metadata.get(name) != digest:
                raise CheckpointError(f"{path}: expected a session of this {name}; found one of another")
        if wrong := caches.wrong_in(header, _expected(model, header)):
            raise CheckpointError(f"{path}: {wrong}")
        if len(metadata.get("unshown", "")) > LONGEST_UNSHOWN:
            raise CheckpointError(f"{path}: unshown: expected at most {LONGEST_UNSHOWN:,} characters; found more")

    tensors, metadata = caches.read(Path(path), "session", check)
    for name in tensors.keys() & {"unread", "recent"}:
        if any(not 0 <= token < model.config.vocab_size for token in tensors[name].tolist()):
            raise CheckpointError(f"{path}: {name}: expected tokens of this model; found others")
    generator = torch.Generator("cpu")
    try:
        generator.set_state(tensors["generator"])
    except RuntimeError as error:
        raise CheckpointError(f"{path}: generator: expected the state of a generator; found {error}") from error
    cache = caches.cache_of(tensors, model.config).to(model.device)
    position = Position(tensors["logits"], cache, tensors["seen"], generator, tensors.get("unread"))
    return Session(position, tuple(tensors["recent"].tolist()), metadata.get("unshown", ""))


def may_be_written(path: str | Path) -> bool:
    """Whether there is no file, or one of a session: nothing else would be lost."""
    try:
        return not Path(path).exists() or caches.read_metadata(Path(path), "session").get("kind") == KIND
    except CheckpointError:
        return False


def text_behind(session: Session, tokenizer: Tokenizer) -> str:
    """The end of the text so far, without a character that is not finished."""
    return tokenizer.decode(session.recent).rstrip(REPLACEMENT)


def _owners(model: LanguageModel, tokenizer: Tokenizer) -> dict[str, str]:
    """Whose session it is."""
    description = json.dumps(tokenizer.to_dict(), sort_keys=True)
    return {"model": digest_of_model(model), "tokenizer": hashlib.sha256(description.encode()).hexdigest()}


def _expected(model: LanguageModel, found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What a session must hold, by name, on "meta"."""
    vocab_size = model.config.vocab_size
    shapes: dict[str, tuple[tuple[int, ...], torch.dtype]] = {
        "logits": ((1, vocab_size), torch.float32),
        "seen": ((1, vocab_size), torch.bool),
        "generator": (tuple(torch.Generator("cpu").get_state().shape), torch.uint8),
        "recent": ((min(found["recent"].numel(), RECENT) if "recent" in found else 0,), torch.int64),
    }
    if "unread" in found:  # none where nothing was drawn
        shapes["unread"] = (1,), torch.int64
    meta = {name: torch.empty(shape, dtype=dtype, device="meta") for name, (shape, dtype) in shapes.items()}
    return {**meta, **caches.expected_in_cache(model.config, 1, found)}
