"""A model's folder as a repository of the Hub: first what would be uploaded, and that alone if it is really meant."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mamba2_lab.checks import require
from mamba2_lab.machine import hub
from mamba2_lab.machine.untrusted import require_own_file
from mamba2_lab.weights.card import CARD_NAME, RECORDS_NAME, card
from mamba2_lab.weights.places import CONFIG_NAME, Place, locate
from mamba2_lab.weights.runs import OPTIMIZER_NAME, RUN_NAME
from mamba2_lab.words import counted, in_bytes, table

_OF_TRAINING = (OPTIMIZER_NAME, RUN_NAME, RECORDS_NAME)  # of no use to who has the model


@dataclass(frozen=True)
class Plan:
    """What goes to the Hub, or went there.

    files: their sizes in bytes, by name. card: what README.md says. url: where it lies; None if nothing was uploaded.
    """

    hub_id: str
    private: bool
    files: Mapping[str, int]
    card: str
    url: str | None = None

    def __str__(self) -> str:
        kind = "private" if self.private else "public"
        size = f"{counted(len(self.files), 'file')}, {in_bytes(sum(self.files.values()))}"
        if self.url is None:
            said = f"would go to {self.hub_id} ({kind}): {size}; nothing was uploaded"
        else:
            said = f"uploaded to {self.url} ({kind}): {size}"
        return f"{said}\n{table([(f'  {name}', in_bytes(size)) for name, size in self.files.items()], '<>')}"


def publish(
    folder: str | Path,
    hub_id: str,
    *,
    really: bool = False,
    private: bool = True,
    licence: str | None = None,
    record: str | Path | None = None,
) -> Plan:
    """Upload the files of a folder, as they are, with a card of the model as README.md.

    Not what a training keeps for itself, no folders in it, nothing whose name begins with a dot.

    Args:
        folder: of a model in any layout, or what else `Mamba2LM.from_pretrained` takes: of a training the newest
            checkpoint. Of a file, "mine.gguf", that alone.
        hub_id: "owner/name"; made if it is not there.
        really: upload. Otherwise nothing leaves this machine.
        private: for the owner alone. A public repository is refused then.
        licence: of the weights, for the card: "apache-2.0".
        record: the folder of the training, or of the model, that the card speaks of, if it is another.

    Returns:
        What was uploaded, or would be.

    Raises:
        FileNotFoundError: if there is nothing to upload.
        PermissionError: if nobody is logged in.
        ValueError: for an id that is none, and if `private` and the repository is public.
        OSError: if the upload fails, with what is there and what is not.
    """
    require_destination(hub_id, really)
    path = Path(folder).expanduser()
    alone = path.is_file() and path.name != CONFIG_NAME  # whichever program reads it
    place = Place(path.parent, named=path.name) if alone else locate(folder)
    paths = [place.folder / place.named] if place.named is not None else _files_in(place.folder)
    files: dict[str, Path | bytes] = {path.name: path for path in paths}
    if not files.keys() - {CARD_NAME}:
        raise FileNotFoundError(f"{folder} has nothing to upload")
    for path in paths:
        require_own_file(path)
    model = place.folder if place.named is None else None  # what else lies beside a file need not be of its model
    text = card(hub_id, model, locate(record).folder if record is not None else model, licence)
    files[CARD_NAME] = text.encode()
    sizes = {name: len(file) if isinstance(file, bytes) else file.stat().st_size for name, file in files.items()}
    return Plan(hub_id, private, sizes, text, hub.upload(hub_id, files, private) if really else None)


def require_destination(hub_id: str, really: bool) -> None:
    """What can be refused before there are files: a large model would be written in vain.

    Raises:
        ValueError: unless it is the id of a repository.
        PermissionError: if it is really meant, and nobody is logged in.
    """
    expected = "the id of a repository, owner/name"
    require(re.fullmatch(r"[\w.-]+/[\w.-]+", hub_id) is not None, "hub_id", expected, hub_id)
    if really:
        hub.require_login()


def _files_in(folder: Path) -> list[Path]:
    """Those that go along."""
    paths = [path for path in sorted(folder.iterdir()) if path.is_file() and not path.name.startswith(".")]
    return [path for path in paths if path.name not in _OF_TRAINING]
