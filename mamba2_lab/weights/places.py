"""Where a model lies: in the box, in a folder, in the folder of a training, or in a repository of the Hub."""

from __future__ import annotations

import fnmatch
from pathlib import Path
from typing import NamedTuple

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
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle")


class Place(NamedTuple):
    """Where a model lies, the id that it was fetched by, and which file of weights was asked for by its name."""

    folder: Path
    hub_id: str | None = None
    named: str | None = None


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
    if folder.is_file():  # of a model's folder: its config stands for all of it
        return Place(folder.parent, named=None if folder.name == CONFIG_NAME else folder.name)
    if isinstance(source, str) and source.count("/") == 1 and not source.startswith((".", "/", "~")):
        return Place(hub.fetch(source, "model", never=list(PICKLES)), source)
    box = ", ".join(models_in_the_box()) or "none"
    raise FileNotFoundError(f"no model at {str(source)!r}: it is no folder, and the models in the box are: {box}")


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
        return _named(place.folder / place.named)
    for name in WEIGHTS_NAMES:
        if (place.folder / name).exists():
            return place.folder / name
    called = place.hub_id or place.folder
    for name in sorted(_file_names(place)):
        _require_no_pickle(name, f"{called}/{name}")
    raise FileNotFoundError(f"{called} has no weights: expected {WEIGHTS_NAME} or {PICKLED_NAME}")


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


def _file_names(place: Place) -> list[str]:
    """What lies there; of a repository what lies there at the Hub, where pickles are left."""
    if place.hub_id is None:
        return [path.name for path in place.folder.iterdir()]
    without = f"{place.hub_id} has no weights here: expected {WEIGHTS_NAME}"
    return hub.file_names(place.hub_id, f"{without}; and what else it has, the Hub did not say")
