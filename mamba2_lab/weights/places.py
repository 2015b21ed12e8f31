"""Where a model lies: in the box, in a folder, in the folder of a training, or in a repository of the Hub."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from mamba2_lab import text
from mamba2_lab.machine import hub
from mamba2_lab.machine.untrusted import CheckpointError
from mamba2_lab.weights.files import INDEX_NAME, WEIGHTS_NAME
from mamba2_lab.weights.runs import checkpoints

CONFIG_NAME = "config.json"
BOX = Path(__file__).parent.parent / "pretrained"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle")
WEIGHTS_NAMES = (WEIGHTS_NAME, INDEX_NAME, "pytorch_model.bin", "pytorch_model.bin.index.json")  # the first one counts


class Place(NamedTuple):
    """Where a model lies, and the id that it was fetched by."""

    folder: Path
    hub_id: str | None = None


def locate(source: str | Path, only_tokenizer: bool = False) -> Place:
    """In the box, on this disk, or fetched from the Hub: as much of it as a model or a tokenizer needs.

    Raises:
        FileNotFoundError: if it is nowhere.
        OSError: if it cannot be fetched, for want of room on the disk say.
    """
    if isinstance(source, str) and source in models_in_the_box():
        return Place(BOX / source)
    folder = Path(source).expanduser()
    if folder.is_dir():  # without a config it may be that of a training
        return Place(folder if (folder / CONFIG_NAME).exists() else [folder, *checkpoints(folder)][-1])
    if isinstance(source, str) and _is_hub_id(source):
        if only_tokenizer:
            return Place(hub.fetch(source, "tokenizer", text.files_among), source)
        return Place(hub.fetch(source, "model", lambda names: _needed(source, names)), source)
    box = ", ".join(models_in_the_box()) or "none"
    raise FileNotFoundError(f"no model at {str(source)!r}: it is no folder, and the models in the box are: {box}")


def _is_hub_id(source: str) -> bool:
    """Whether it may be one: "owner/name", or "owner/name@revision"."""
    return source.partition("@")[0].count("/") == 1 and not source.startswith((".", "/", "~"))


def _needed(hub_id: str, names: Collection[str]) -> list[str]:
    """Of the files of a repository those that make a model and its tokenizer: one set of weights, no other formats.

    Raises:
        FileNotFoundError: if there is no config, or are no weights.
    """
    if CONFIG_NAME not in names:
        raise FileNotFoundError(f"{hub_id} has no model: expected a file {CONFIG_NAME}")
    weights = weights_name(names)
    if weights is None:
        raise FileNotFoundError(f"{hub_id} has no weights: expected one of {', '.join(WEIGHTS_NAMES)}")
    stem, suffix = weights.removesuffix(".index.json").rsplit(".", 1)
    shard = re.compile(rf"{stem}-\d{{5}}-of-\d{{5}}\.{suffix}")
    shards = [name for name in names if shard.fullmatch(name)] if weights.endswith(".json") else []
    return [CONFIG_NAME, weights, *sorted(shards), *text.files_among(set(names) - {CONFIG_NAME})]


def weights_name(names: Collection[str]) -> str | None:
    """Of the files of a model the one with the weights, or with the index of them; None if there is none."""
    return next((name for name in WEIGHTS_NAMES if name in names), None)


def models_in_the_box() -> list[str]:
    """Names of the models that come with the package."""
    return sorted(path.parent.name for path in BOX.glob(f"*/{CONFIG_NAME}"))


def weights_path(place: Place) -> Path:
    """The weights file, or the index of a sharded one.

    Raises:
        FileNotFoundError: if there is none.
        CheckpointError: if there is a pickle in its place.
    """
    for name in (WEIGHTS_NAME, INDEX_NAME):
        if (place.folder / name).exists():
            return place.folder / name
    called = place.hub_id or place.folder
    for name in sorted(path.name for path in place.folder.iterdir()):
        if any(fnmatch.fnmatch(name, pattern) for pattern in PICKLES):
            raise CheckpointError(
                f"{called}/{name}: expected {WEIGHTS_NAME}; found a pickle file, which is never loaded here: "
                "unpickling runs whatever code the file holds. Convert it to safetensors where you trust it."
            )
    raise FileNotFoundError(f"{called} has no weights: expected {WEIGHTS_NAME}")
