"""Which device to compute on, and why: no silent choice, no silent fallback."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from mamba2_lab.checks import Refusal, require

if TYPE_CHECKING:
    from mamba2_lab.model import Mamba2LM

TOLERANCE = 1e-4  # of the self-test, relative: float32 rounding gives 1e-6, every published fault far more
KINDS = ("cpu", "cuda", "mps", "meta")  # meta has shapes but no numbers: enough to count parameters
KNOWN = "'cpu', 'cuda' or 'mps'"


@dataclass(frozen=True)
class DeviceChoice:
    """A device, and the reason for it in one sentence."""

    device: torch.device
    reason: str

    def __str__(self) -> str:
        return f"{self.device}: {self.reason}"


def choose(wanted: torch.device | str | None = None) -> DeviceChoice:
    """The device to use: the one wanted, or else the fastest that passes a short self-test.

    Automatic choice tries cuda, then mps, then falls to the cpu; each must give the CPU's numbers on a small model.
    A device asked for by name is taken without the test, and is an error if it is not there.

    Raises:
        ValueError: if `wanted` names no device, or one that this machine does not have.
    """
    if wanted is not None:
        device = resolve(wanted)
        require(device.type != "meta", "device", KNOWN, wanted)
        return DeviceChoice(device, "asked for")
    rejected = []
    for name in ("cuda", "mps"):
        if not is_available(name):
            rejected.append(f"no {name}")
            continue
        try:
            error = self_test(name)
        except (RuntimeError, TypeError) as fault:  # an operation or a dtype that the device does not have
            rejected.append(f"{name} cannot run a small model: {str(fault).partition(chr(10))[0]}")
            continue
        if error <= TOLERANCE:
            return DeviceChoice(torch.device(name), f"{describe(name)}; agrees with the CPU to {error:.0e}")
        rejected.append(f"{name} disagrees with the CPU by {error:.1e} on a small model (allowed: {TOLERANCE:.0e})")
    return DeviceChoice(torch.device("cpu"), f"{describe('cpu')}; {', '.join(rejected)}")


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


def self_test(device: torch.device | str) -> float:
    """The largest relative difference from the CPU over a small model's prefill, steps and gradients.

    A NaN counts as infinitely wrong.
    """
    with torch.inference_mode(False), torch.enable_grad():  # a notebook may have switched gradients off
        expected = _small_model_run("cpu")
        found = _small_model_run(device)
    worst = 0.0
    for reference, value in zip(expected, found, strict=True):
        error = float((value - reference).norm() / reference.norm())
        worst = max(worst, error if error == error else float("inf"))
    return worst


def _small_model_run(device: torch.device | str) -> list[torch.Tensor]:
    """Logits of a prefill, of a step after it, and the gradient of a loss, all on the CPU. Batch 2: some published
    faults show only there."""
    model = small_model().to(device)
    ids = torch.randint(0, 64, (2, 70), generator=torch.Generator("cpu").manual_seed(0))
    with torch.inference_mode():
        prefilled, cache = model.prefill(ids)
        stepped, _ = model.step(ids[:, 0], cache)
    logits = model(ids)
    torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten().to(device)).backward()
    gradient = model.embedding.weight.grad
    assert gradient is not None
    return [prefilled.cpu(), stepped.cpu(), gradient.cpu()]


def small_model() -> Mamba2LM:
    """A fresh model on the CPU, in which a fault of the states can be seen."""
    from mamba2_lab.model import Mamba2LM

    model = Mamba2LM(d_model=32, n_layer=2, d_state=16, headdim=16, ngroups=2, vocab_size=64, seed=0)
    with torch.no_grad():
        for layer in model.blocks:
            layer.mixer.D.zero_()  # the skip outweighs a fresh model's states fifty times, and would hide their faults
    return model


def describe(name: str) -> str:
    """The hardware behind a device name."""
    if name == "cuda":
        return torch.cuda.get_device_name()
    if name == "mps":
        return f"the GPU of this {platform.machine()} Mac"
    threads = torch.get_num_threads()
    return f"the CPU, with {threads} thread{'s' if threads != 1 else ''}"


def processor() -> str:
    """What the maker calls this machine's processor, as far as the system tells."""
    if sys.platform == "darwin":
        command = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    if sys.platform == "linux":
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        return names[0] if names else platform.machine()
    return platform.processor() or platform.machine()


def memory(name: str) -> int | None:
    """Bytes of memory that "cpu", "cuda" (or "cuda:1") or "mps" may use; None where Windows would have to tell."""
    if name.startswith("cuda"):
        return torch.cuda.get_device_properties(name).total_memory
    if name == "mps":
        return torch.mps.recommended_max_memory()
    return None if sys.platform == "win32" else os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def report() -> str:
    """What this machine has and what will be used, in a few lines."""
    choice = choose()
    rows = [
        ("computing on", str(choice)),
        ("system", f"{platform.system()} on {platform.machine()}, {os.cpu_count()} cores"),
        ("python", sys.version.split()[0]),
        ("torch", torch.__version__),
        ("cuda", describe("cuda") if is_available("cuda") else "not available"),
        (
            "mps",
            describe("mps") if is_available("mps") else "not available: it needs a Mac with Apple Silicon",
        ),
    ]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)


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
