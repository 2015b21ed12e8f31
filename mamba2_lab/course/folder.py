"""The reader's own folder: copies of the notebooks, the answers that passed, and the guesses.

A kernel works in the folder of its notebook. If that is one which `mamba2-lab course` made, it has a folder `answers`
in it, and what the reader does is kept there. Elsewhere, as where the notebooks of this repository are run, nothing is
kept.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from mamba2_lab.machine.files import write_text

ANSWERS = "answers"  # a file for each answer
GUESSES = "guesses.json"


def readers_folder() -> Path | None:
    """The reader's folder that this process works in; None if it works elsewhere."""
    here = Path.cwd()
    return here if (here / ANSWERS).is_dir() else None


def read_guesses() -> dict[str, str]:
    """The guesses that are kept, by the names of the questions. A file that cannot be read holds none."""
    folder = readers_folder()
    with contextlib.suppress(OSError, ValueError):
        found = json.loads((folder / GUESSES).read_text(encoding="utf-8")) if folder else {}
        return {str(name): str(guess) for name, guess in found.items()} if isinstance(found, dict) else {}
    return {}


def write_guess(name: str, guess: str) -> None:
    """Keep a guess. Where that is impossible, it lives as long as the kernel does."""
    if folder := readers_folder():
        guesses = read_guesses() | {name: guess}
        with contextlib.suppress(OSError):
            write_text(folder / GUESSES, json.dumps(guesses, indent=1, ensure_ascii=False) + "\n")
