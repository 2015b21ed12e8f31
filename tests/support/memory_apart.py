"""Loads models in a process of its own, and watches how much memory that takes.

python memory_apart.py DTYPE FOLDER ...     writes a line for each folder: bytes of the weights, and at the worst
                                            moment of loading, beyond what was there before, of all memory that is
                                            resident and of that without mapped files
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import NamedTuple


class Taken(NamedTuple):
    """Bytes."""

    weights: int
    resident: int
    anonymous: int


def memory_of_loading(dtype: str, *folders: Path) -> list[Taken]:
    """How much each takes."""
    command = [sys.executable, __file__, dtype, *map(str, folders)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return [Taken(*map(int, line.split())) for line in done.stdout.splitlines()]


def _now() -> tuple[int, int]:
    """Resident pages: all of them, and without files and what is shared."""
    _, resident, shared, *_ = map(int, Path("/proc/self/statm").read_text().split())
    return resident, resident - shared


def _measure(dtype: str, folder: str) -> Taken:
    import torch

    from mamba2_lab import MambaLM

    gc.collect()
    before, worst, done = _now(), _now(), threading.Event()

    def watch() -> None:
        nonlocal worst
        while not done.wait(0.001):
            worst = tuple(map(max, worst, _now()))  # type: ignore[assignment]

    watching = threading.Thread(target=watch)
    watching.start()
    model = MambaLM.from_pretrained(folder, dtype=getattr(torch, dtype))
    done.set()
    watching.join()
    page = os.sysconf("SC_PAGE_SIZE")
    weights = sum(parameter.nbytes for parameter in model.parameters())
    return Taken(weights, *((most - least) * page for most, least in zip(worst, before, strict=True)))


if __name__ == "__main__":
    from mamba2_lab import MambaLM

    MambaLM.from_pretrained("small")  # what torch loads the first time is not the folder's doing
    for folder in sys.argv[2:]:
        print(*_measure(sys.argv[1], folder), flush=True)
