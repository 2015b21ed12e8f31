"""Kernels in Metal: their sources, compiled where there is a compiler for them, and whether they are wanted at all."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

VARIABLE = "MAMBA2_LAB_METAL"  # "0": no kernel of ours is taken; "1": right ones are, without asking which is sooner
NUMBERS = {torch.float32: "float", torch.bfloat16: "bfloat", torch.float16: "half"}
LANES, MOST_THREADS = 32, 1024  # of a simdgroup, and of a group
TEAMS = 4  # simdgroups to a group, where each works for itself
MOST_IN_GRID = 2**31  # threads in all, which kernels number in 32 bits
MOST_TOGETHER = 2**15  # bytes that a group's threads may share

FOLDER = Path(__file__).parent


def are_wanted() -> bool:
    """Whether the environment allows kernels, and this torch could compile them (2.7 was the first that could)."""
    return os.environ.get(VARIABLE) != "0" and hasattr(torch.mps, "compile_shader")


def kernel(file: str, name: str, **meanings: str | int) -> Callable[..., None]:
    """A kernel of a source, compiled with what its capital words mean. To be called with buffers and numbers in their
    order, `threads` in all, and `group_size` of them in a group.

    Raises:
        RuntimeError, SyntaxError: where it cannot be compiled.
    """
    return _kernel(file, name, tuple(meanings.items()))


@functools.cache
def _kernel(file: str, name: str, meanings: tuple[tuple[str, str | int], ...]) -> Callable[..., None]:
    found: Callable[..., None] = getattr(torch.mps.compile_shader(source(file, **dict(meanings))), name)
    return found


def source(file: str, **meanings: Any) -> str:
    """The text that is compiled."""
    lines = [f"#define {word} {meaning}" for word, meaning in meanings.items()]
    texts = ((FOLDER / part).with_suffix(".metal").read_text(encoding="utf-8") for part in ("common", file))
    return "\n".join([*lines, *texts])


def groups(count: int, threads: int) -> dict[str, list[int]]:
    """The grid of so many groups, of so many threads each if a group may be so large: whole simdgroups."""
    size = min(MOST_THREADS, -(-threads // LANES) * LANES)
    return {"threads": [count * size], "group_size": [size]}


def simdgroups(count: int) -> dict[str, list[int]]:
    """The grid of so many simdgroups, or a few more, which have nothing to do with one another."""
    return groups(-(-count // TEAMS), LANES * TEAMS)
