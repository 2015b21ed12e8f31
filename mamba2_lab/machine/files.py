"""Files are written whole: under a temporary name first, then renamed. A reader never sees half a file."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; when the block ends well it becomes `path`, else it is removed.

    A new file may be read and written by whom the user's umask lets; one that takes the place of another has the
    permissions of that one. It is on the disk before it has the name, so a power cut leaves the old file or the new.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))  # the system applies the umask
        permissions = stat.S_IMODE((path if path.is_file() else temporary).stat().st_mode)
        yield temporary
        to_disk(temporary)
        temporary.chmod(permissions)  # safetensors writes a file of its own there, which only its owner may read
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def new_folder(path: str | Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; when the block ends well it becomes `path`, else it is removed.

    Raises:
        OSError: if there is something at `path` by then, other than an empty folder.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    temporary.mkdir()
    try:
        yield temporary
        if path.is_dir():
            path.rmdir()  # which must be empty; Windows renames nothing over it
        temporary.rename(path)
        to_disk(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def free_bytes(path: str | Path) -> int:
    """How many bytes are free on the disk of `path`, which need not be there yet."""
    absolute = Path(path).absolute()
    return shutil.disk_usage(next(folder for folder in (absolute, *absolute.parents) if folder.is_dir())).free


def write_text(path: str | Path, text: str) -> None:
    """Write a text file, whole."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def to_disk(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk itself."""
    if not path.is_dir():
        _synchronise(path, os.O_RDWR)
    elif os.name == "posix":  # Windows opens no folders
        with contextlib.suppress(OSError):  # nor do some network file systems wait for names: they come when they come
            _synchronise(path, os.O_RDONLY)


def _synchronise(path: Path, mode: int) -> None:
    handle = os.open(path, mode)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
