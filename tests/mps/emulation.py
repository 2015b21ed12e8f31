"""An mps device on a machine that has none: `load()` builds emulated_mps.cpp, once, and gives torch the device.

It cannot be taken away again, so tests that need it run in a process of their own, which starts with
MAMBA2_LAB_DEVICE=emulated-mps (see tests/conftest.py).
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch
from mps import metal_on_host, operations

SOURCE = Path(__file__).with_name("emulated_mps.cpp")
CACHE = Path(__file__).resolve().parents[2] / ".pytest_cache" / "emulated_mps"

# Calls that the emulation answers itself, or that on Linux lack what they need on a Mac.
ITS_OWN = {
    "empty.memory_format",
    "empty_strided",
    "_local_scalar_dense",
    "set_.source_Storage_storage_offset",
    "set_.source_Storage",
    "linear_backward",
}


def why_not() -> str | None:
    """Why an mps device cannot be emulated here; None if it can."""
    if torch.backends.mps.is_built():
        return "this torch has the real mps backend"
    if sys.platform != "linux":
        return f"the emulation is built for Linux; this is {sys.platform}"
    if shutil.which("g++") is None:
        return "the emulation needs the compiler g++, which is not on the PATH"
    if not torch.__version__.startswith("2.13."):
        return f"the emulation is written for the headers of torch 2.13; this is {torch.__version__}"
    return None


def build() -> Path:
    """The library for this source and this torch, compiled if it is not there yet (about 20 s)."""
    torch_folder = Path(torch.__file__).parent
    key = hashlib.sha256(SOURCE.read_bytes() + torch.__version__.encode()).hexdigest()[:16]
    library = CACHE / f"{key}.so"
    if not library.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        unfinished = library.with_suffix(f".{os.getpid()}")
        headers = [torch_folder / "include", torch_folder / "include/torch/csrc/api/include"]
        command = ["g++", "-O1", "-shared", "-fPIC", "-std=c++20", "-w", *(f"-I{header}" for header in headers)]
        command += [str(SOURCE), f"-L{torch_folder / 'lib'}", "-ltorch_cpu", "-lc10", "-o", str(unfinished)]
        subprocess.run(command, check=True)
        unfinished.rename(library)  # a whole library or none, whoever else builds at the same time
    return library


def load() -> None:
    """Give this process an mps device. It must come before anything asks whether there is one: the answer is kept."""
    torch.ops.load_library(str(build()))
    with_kernel = {name for name in operations.functions() if operations.has_kernel(name)}
    torch.ops.emulated_mps.allow(" ".join(with_kernel))
    composite = {name for name in with_kernel if operations.is_composite(name) or name in operations.BRANCH_INSIDE}
    torch.ops.emulated_mps.keep_whole(" ".join(composite - ITS_OWN - {"_fused_rms_norm"}))
    os.environ.setdefault("MAMBA2_LAB_METAL", "1")  # which is sooner here says nothing about a Mac
    metal_on_host.listeners.append(torch.ops.emulated_mps.note_kernel)
    torch.mps.compile_shader = metal_on_host.compile_shader  # type: ignore[assignment]
    torch._C._has_mps = True
    # One thread for everything: autograd's thread for the device may still be at work when Python ends, and abort it.
    torch.autograd.set_multithreading_enabled(False)


@dataclass
class Work:
    """What the device was asked to do: kernels, copies to it, and waits of the host for it, each by name."""

    kernels: list[str] = field(default_factory=list)
    bytes: list[int] = field(default_factory=list)  # that each of the kernels reads and writes, every tensor once
    to_device: list[str] = field(default_factory=list)
    to_host: list[str] = field(default_factory=list)
    views: list[str] = field(default_factory=list)
    dtypes: set[str] = field(default_factory=set)  # that were met, by the names that C++ has for them


class Fault(NamedTuple):
    """A kernel that is wrong by a factor, everywhere or only where an input is not contiguous."""

    operation: str
    factor: float
    only_for_views: bool = False


@contextmanager
def recording() -> Iterator[Work]:
    """Notes what the device does inside; filled in at the end."""
    work = Work()
    kinds = {"kernel": work.kernels, "to device": work.to_device, "to host": work.to_host, "view": work.views}
    torch.ops.emulated_mps.start_recording()
    try:
        yield work
    finally:
        for line in torch.ops.emulated_mps.stop_recording():
            kind, name, dtypes, size = line.split("\t")
            kinds[kind].append(name)
            work.dtypes.update(dtypes.split(", ") if dtypes else ())
            if kind == "kernel":
                work.bytes.append(int(size))


@contextmanager
def planted(fault: Fault) -> Iterator[None]:
    """Breaks a kernel inside."""
    torch.ops.emulated_mps.plant_fault(*fault)
    try:
        yield
    finally:
        torch.ops.emulated_mps.remove_faults()
