"""The Hugging Face Hub, asked for a repository by its id: "owner/name"."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path


def fetch(hub_id: str, what: str, *, only: list[str] | None = None, never: list[str] | None = None) -> Path:
    """The folder where the files of a repository lie, downloaded now or before.

    Args:
        what: is looked for there, as the error calls it.
        only: patterns of the names to download, "*.json" say; all, by default.
        never: of those not to download.

    Raises:
        FileNotFoundError: with what the Hub answered.
    """
    import huggingface_hub

    with _answering(f"no {what} at {hub_id!r}: no such folder, and the Hub answered"):
        return Path(huggingface_hub.snapshot_download(hub_id, allow_patterns=only, ignore_patterns=never))


def file_names(hub_id: str, otherwise: str) -> list[str]:
    """All files of a repository, those too that `fetch` was not to download.

    Raises:
        FileNotFoundError: that says `otherwise`, and what the Hub answered.
    """
    import huggingface_hub

    with _answering(otherwise):
        return huggingface_hub.list_repo_files(hub_id)


@contextlib.contextmanager
def _answering(otherwise: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # the Hub's client raises many kinds: offline, not found, gated
        raise FileNotFoundError(f"{otherwise}: {error}") from error
