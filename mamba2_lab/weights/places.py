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
from mamba2_lab.weights.files import INDEX_ENDING, PICKLED_NAME, WEIGHTS_NAME
from mamba2_lab.weights.runs import checkpoints

CONFIG_NAME = "config.json"
BOX = Path(__file__).parent.parent / "pretrained"
WEIGHTS_NAMES = (  # the first that is there is read
    WEIGHTS_NAME,
    WEIGHTS_NAME + INDEX_ENDING,
    PICKLED_NAME,
    PICKLED_NAME + INDEX_ENDING,
    "consolidated.safetensors",  # of Mistral, as its own code reads it
)
_NO_WEIGHTS = f"has no weights: expected {WEIGHTS_NAME} or {PICKLED_NAME}"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle")


class Place(NamedTuple):
    """Where a model lies, the id that it was fetched by, and which file of weights was asked for by its name."""

    folder: Path
    hub_id: str | None = None
    named: str | None = None


def locate(source: str | Path, only_tokenizer: bool = False) -> Place:
    """In the box, on this disk, or fetched from the Hub: as much of it as a model or a tokenizer needs.

    Raises:
        FileNotFoundError: if it is nowhere.
        CheckpointError: for a file that is neither a config nor weights as they are read here.
        OSError: if it cannot be fetched, for want of room on the disk say.
    """
    if isinstance(source, str) and source in models_in_the_box():
        return Place(BOX / source)
    folder = Path(source).expanduser()
    if folder.is_dir():  # without a config it may be that of a training
        return Place(folder if (folder / CONFIG_NAME).exists() else [folder, *checkpoints(folder)][-1])
    if folder.is_file():  # of a model's folder: its config stands for all of it
        return Place(folder.parent, named=None if folder.name == CONFIG_NAME else _named(folder).name)
    if isinstance(source, str) and is_hub_id(source):
        if only_tokenizer:
            return Place(hub.fetch(source, "tokenizer", text.files_among), source)
        return Place(hub.fetch(source, "model", lambda names: _needed(source, names)), source)
    box = ", ".join(models_in_the_box()) or "none"
    raise FileNotFoundError(f"no model at {str(source)!r}: it is no folder, and the models in the box are: {box}")


def is_hub_id(source: str) -> bool:
    """Whether it may be one: "owner/name", or "owner/name@revision"."""
    return source.partition("@")[0].count("/") == 1 and not source.startswith((".", "/", "~"))


def _needed(hub_id: str, names: Collection[str]) -> list[str]:
    """Of the files of a repository those that make a model and its tokenizer: one set of weights, no other formats.

    Raises:
        FileNotFoundError: if there is no config, or are no weights.
    """
    if CONFIG_NAME not in names:
        raise FileNotFoundError(f"{hub_id} has no model: expected a file {CONFIG_NAME}")
    if (weights := _weights_name(names)) is None:
        raise FileNotFoundError(f"{hub_id} {_NO_WEIGHTS}")
    stem, suffix = weights.removesuffix(INDEX_ENDING).rsplit(".", 1)
    shard = re.compile(rf"{stem}-\d{{5}}-of-\d{{5}}\.{suffix}")
    shards = [name for name in names if shard.fullmatch(name)] if weights.endswith(INDEX_ENDING) else []
    return [CONFIG_NAME, weights, *sorted(shards), *text.files_among(set(names) - {CONFIG_NAME})]


def _weights_name(names: Collection[str]) -> str | None:
    """Of the files of a model the one with the weights, or with the index of them; None if there is none."""
    return next((name for name in WEIGHTS_NAMES if name in names), None)


def models_in_the_box() -> list[str]:
    """Names of the models that come with the package."""
    return sorted(path.parent.name for path in BOX.glob(f"*/{CONFIG_NAME}"))


def weights_path(place: Place) -> Path:
    """The weights file, or the index of a sharded one: safetensors, where both kinds lie there.

    Raises:
        FileNotFoundError: if there is none.
        CheckpointError: if there is a pickle under another name than torch.save's weights have.
    """
    if place.named is not None:
        return place.folder / place.named
    names = sorted(path.name for path in place.folder.iterdir())
    if (weights := _weights_name(names)) is not None:
        return place.folder / weights
    called = place.hub_id or place.folder
    for name in names:
        _require_no_pickle(name, f"{called}/{name}")
    raise FileNotFoundError(f"{called} {_NO_WEIGHTS}")


def _named(path: Path) -> Path:
    """The same, if by its name it is a file of weights."""
    if not path.name.removesuffix(INDEX_ENDING).endswith((".safetensors", ".bin")):
        _require_no_pickle(path.name, str(path))
        raise CheckpointError(
            f"{path}: expected a folder, its {CONFIG_NAME}, or weights in it (.safetensors, .bin, or the index of such "
            "files); found another file"
        )
    return path


def _require_no_pickle(name: str, where: str) -> None:
    if any(fnmatch.fnmatch(name, pattern) for pattern in PICKLES):
        raise CheckpointError(
            f"{where}: expected {WEIGHTS_NAME} or {PICKLED_NAME}; found a pickle of another name, which is not read: "
            "unpickling runs whatever code the file holds. Convert it to safetensors where you trust it."
        )
