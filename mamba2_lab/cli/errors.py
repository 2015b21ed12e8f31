"""What ends a command before its time: the status it ends with, and one line on standard error."""

from __future__ import annotations

import os
import sys

import torch

# What messages call a setting is its flag, --top-k for top_k, or else:
OTHER_NAMES = {
    "prompt": "the prompt",
    "target": "the target",
    "measures": "measure",
    "path": "--data",
    "origin": "--from",
    "hub_id": "--push",
    "private": "no --public",
    "tokens": "the text of --data and --packages",
    "held_out": "the held-out text of --data",
}

# How a shell counts a command that a signal has ended, SIGINT or SIGPIPE (which Windows does not have).
INTERRUPTED, CLOSED_PIPE = 128 + 2, 128 + 13


def refuse(place: str, text: str) -> int:
    """Say it in one line on standard error."""
    print(f"{place}: {' '.join(text.splitlines())}", file=sys.stderr)
    let_go_of_output()
    return 1


def let_go_of_output() -> None:
    """Drop what standard output does not take any more: Python's own last attempt would end in a traceback."""
    try:
        print(end="", flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def is_lack_of_memory(error: Exception) -> bool:
    """Whether the machine has no memory left, rather than the program a fault."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)
