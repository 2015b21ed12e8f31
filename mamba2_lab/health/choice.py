"""Which device to compute on, and why: no silent choice, no silent fallback."""

from __future__ import annotations

import os
import platform
import sys
from dataclasses import dataclass
from typing import Any

import torch

from mamba2_lab import words
from mamba2_lab.checks import require
from mamba2_lab.machine import devices
from mamba2_lab.mamba2_lm import MambaLM

TOLERANCE = 1e-4  # of the self-test, relative: float32 rounds a hundred times finer, every published fault is larger


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
        device = devices.resolve(wanted)
        require(device.type != "meta", "device", devices.KNOWN, wanted)
        return DeviceChoice(device, "asked for")
    rejected = []
    for name in ("cuda", "mps"):
        if not devices.is_available(name):
            rejected.append(f"no {name}")
            continue
        try:
            error = self_test(name)
        except (RuntimeError, TypeError) as fault:  # an operation or a dtype that the device does not have
            rejected.append(f"{name} cannot run a small model: {str(fault).partition(chr(10))[0]}")
            continue
        if error <= TOLERANCE:
            return DeviceChoice(torch.device(name), f"{devices.describe(name)}; agrees with the CPU to {error:.0e}")
        rejected.append(f"{name} disagrees with the CPU by {error:.1e} on a small model (allowed: {TOLERANCE:.0e})")
    return DeviceChoice(torch.device("cpu"), f"{devices.describe('cpu')}; {', '.join(rejected)}")


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


def small_model(**fields: Any) -> MambaLM:
    """A fresh model on the CPU, in which a fault of the states can be seen: a Mamba-2, or one of other mixers."""
    mamba2 = {"d_state": 16, "headdim": 16, "ngroups": 2}
    model = MambaLM(**{"d_model": 32, "n_layer": 2, "vocab_size": 64, **(fields or mamba2)}, seed=0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("mixer.D"):
                weight.zero_()  # the skip outweighs a fresh model's states fifty times, and would hide their faults
    return model


def summary() -> str:
    """What this machine has and what will be used, in a few lines."""
    return words.table(described())


def described() -> list[tuple[str, str]]:
    """The same as rows of a name and its value."""
    return [
        ("computing on", str(choose())),
        ("system", f"{platform.system()} on {platform.machine()}, {os.cpu_count()} cores"),
        ("python", sys.version.split()[0]),
        ("torch", torch.__version__),
        ("cuda", devices.describe("cuda") if devices.is_available("cuda") else "not available"),
        (
            "mps",
            devices.describe("mps")
            if devices.is_available("mps")
            else "not available: it needs a Mac with Apple Silicon",
        ),
    ]
