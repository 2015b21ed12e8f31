"""Where a model lies: in the box, in a folder, in the folder of a training, or in a repository of the Hub."""

from __future__ import annotations

import fnmatch
from pathlib import Path
from typing import NamedTuple

from mamba2_lab.machine import hub
from mamba2_lab.machine.untrusted import CheckpointError
from mamba2_lab.weights.files import INDEX_NAME, WEIGHTS_NAME
from mamba2_lab.weights.runs import checkpoints

CONFIG_NAME = "config.json"
BOX = Path(__file__).parent.parent / "pretrained"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle")


class Place(NamedTuple):
    """Where a model lies, and the id that it was fetched by."""

    folder: Path
    hub_id: str | None = None


def locate(source: str | Path) -> Place:
    """In the box, on this disk, or fetched from the Hub.

    Raises:
        FileNotFoundError: if it is nowhere.
    """
    if isinstance(source, str) and source in models_in_the_box():
        return Place(BOX / source)
    folder = Path(source).expanduser()
    if folder.is_dir():  # without a config it may be that of a training
        return Place(folder if (folder / CONFIG_NAME).exists() else [folder, *checkpoints(folder)][-1])
    if isinstance(source, str) and source.count("/") == 1 and not source.startswith((".", "/", "~")):
        return Place(hub.fetch(source, "model", never=list(PICKLES)), source)
    box = ", ".join(models_in_the_box()) or "none"
    raise FileNotFoundError(f"no model at {str(source)!r}: it is no folder, and the models in the box are: {box}")


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
    for name in sorted(_file_names(place)):
        if any(fnmatch.fnmatch(name, pattern) for pattern in PICKLES):
            raise CheckpointError(
                f"{called}/{name}: expected {WEIGHTS_NAME}; found a pickle file, which is never loaded here: "
                "unpickling runs whatever code the file holds. Convert it to safetensors where you trust it."
            )
    raise FileNotFoundError(f"{called} has no weights: expected {WEIGHTS_NAME}")


def _file_names(place: Place) -> list[str]:
    """What lies there; of a repository what lies there at the Hub, where pickles are left."""
    if place.hub_id is None:
        return [path.name for path in place.folder.iterdir()]
    without = f"{place.hub_id} has no weights here: expected {WEIGHTS_NAME}"
    return hub.file_names(place.hub_id, f"{without}; and what else it has, the Hub did not say")
