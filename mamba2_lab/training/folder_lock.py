"""One owner at a time for a folder, by a lock of the system, which ends with the process that holds it."""

from __future__ import annotations

import errno
import os
import platform
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from mamba2_lab.checks import Refusal

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

LOCK_NAME = ".mamba2-lab.lock"
_HELD = (errno.EAGAIN, errno.EACCES, errno.EDEADLK)  # what systems answer where another holds the lock
_FAR = 1 << 30  # Windows locks bytes, and nobody may read those: one far behind what the file holds


@contextmanager
def owned(folder: Path) -> Iterator[None]:
    """Make the folder if it is not there, and own it as long as the block runs.

    It is owned against other processes, and against other threads and notebook cells of this one. Some network file
    systems keep no locks; there the folder is unguarded, and a warning says so.

    Raises:
        ValueError: if another owns it.
        OSError: if it is no folder, or cannot be written to.
    """
    path = folder / LOCK_NAME
    while True:
        with _open(path) as file:
            _lock(file, folder)
            if not _is_at(file, path):  # its owner removed it after we had opened it
                continue
            file.truncate(0)
            file.write(f"process {os.getpid()} on {platform.node()}\n".encode())
            file.flush()
            try:
                yield
            finally:
                if sys.platform != "win32" and _is_at(file, path):  # Windows removes no open files, and there it stays
                    path.unlink()
            return


def _open(path: Path) -> BinaryIO:
    folder = path.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return path.open("a+b")
    except OSError as error:
        raise type(error)(Refusal("folder", f"one to write in ({error.strerror})", str(folder))) from error


def _lock(file: BinaryIO, folder: Path) -> None:
    try:
        if sys.platform == "win32":
            os.lseek(file.fileno(), _FAR, os.SEEK_SET)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _HELD:
            file.seek(0)
            owner = file.read(200).decode(errors="replace").strip() or "another process"
            raise ValueError(Refusal("folder", f"free, but is in use by {owner}", str(folder))) from None
        warnings.warn(
            f"{folder} is on a file system without locks ({error.strerror}): a second training there would not be "
            "noticed, and would mix its records with these",
            stacklevel=3,
        )


def _is_at(file: BinaryIO, path: Path) -> bool:
    return path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat())
