"""The devices of this machine: which there are, what they are called, and when they are done."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil

import torch

from mamba2_lab.checks import Refusal, require
from mamba2_lab.words import counted

Device = torch.device | str
KINDS = ("cpu", "cuda", "mps", "meta")  # meta has shapes but no numbers: enough to count parameters
KNOWN = "'cpu', 'cuda' or 'mps'"


def is_available(name: str) -> bool:
    """Whether this machine and this torch can compute on "cpu", "cuda" or "mps"."""
    if name == "cuda":
        return torch.cuda.is_available()
    return name == "cpu" or (name == "mps" and torch.backends.mps.is_available())


def can_compile(device: torch.device | str) -> bool:
    """Whether torch.compile finds what it needs: a C++ compiler on a CPU, Triton on cuda. On mps it was not tried."""
    match torch.device(device).type:
        case "cpu":
            return any(map(shutil.which, (os.environ.get("CXX", "c++"), "c++", "g++", "clang++", "cl")))
        case "cuda":
            return importlib.util.find_spec("triton") is not None
    return False


def describe(name: str) -> str:
    """The hardware behind a device name."""
    if name == "cuda":
        return torch.cuda.get_device_name()
    if name == "mps":
        return f"the GPU of this {platform.machine()} Mac"
    return f"the CPU, with {counted(torch.get_num_threads(), 'thread')}"


def synchronise(device: torch.device | str) -> None:
    """Wait until the device has done what was asked of it; needed before a clock is read."""
    kind = torch.device(device).type
    if kind == "cuda":
        torch.cuda.synchronize()
    elif kind == "mps":
        torch.mps.synchronize()


def resolve(name: torch.device | str) -> torch.device:
    """The device of that name.

    Raises:
        ValueError: if torch knows no such device, or this machine has no such hardware.
    """
    try:  # a bare number would name a graphics card, and True the second one
        device = torch.device(name) if isinstance(name, str | torch.device) else None
    except RuntimeError:
        device = None
    if device is None or device.type not in KINDS:
        raise ValueError(Refusal("device", KNOWN, name)) from None
    here = [kind for kind in ("cpu", "cuda", "mps") if is_available(kind)]
    is_here = device.type in here and (device.index or 0) < max(1, _count(device.type))
    require(is_here or device.type == "meta", "device", f"one that is here: {', '.join(here)}", str(device))
    return device


def _count(kind: str) -> int:
    return torch.cuda.device_count() if kind == "cuda" else 1
