"""The model on an mps device, as far as Linux can show it: on an emulated one, in a process of its own.

Checked by emulation on Linux; not run on Apple hardware.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mps import emulation
from support.devices import NAME

TESTS = Path(__file__).resolve().parents[1]
# The model's own suite, but for what compares it with transformers or takes long: it reads in the same ways.
SUITE = [
    "mps/test_emulated_counts.py",
    "mps/test_emulated_faults.py",
    "mps/test_emulated_inductor.py",
    "mps/test_emulated_proofs.py",
    "mps/test_on_device.py",
    "fast/test_ways.py",
    "model",
]
SUITE += [
    "generation/test_generation.py",
    "generation/test_families.py",
    "layers/test_mamba1.py::test_the_device_gives_the_numbers_of_the_cpu",
]
WITHOUT_KERNELS = ["mps/test_on_device.py"]
LEFT_OUT = "transformers or official or float32_steps or any_masks or any_documents or cut_anywhere or kernels_give_way"
LEFT_OUT += " or no_more_memory"  # which nothing counts there
OF_KERNELS = "kernel_of_ours"  # which are switched on there in any case

WHY_NOT = f"MAMBA2_LAB_DEVICE={NAME} is tested already" if NAME != "cpu" else emulation.why_not()


@pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))
@pytest.mark.parametrize(
    ("suite", "kernels"), [(SUITE, "1"), (WITHOUT_KERNELS, "0")], ids=["with kernels of our own", "without"]
)
def test_the_suite_passes_on_an_emulated_mps_device(suite: list[str], kernels: str) -> None:
    left_out = LEFT_OUT if kernels == "1" else f"{LEFT_OUT} or {OF_KERNELS}"
    command = [sys.executable, "-m", "pytest", "-q", "-rP", "-p", "no:cacheprovider", "-k", f"not ({left_out})"]
    run = subprocess.run(
        [*command, *(str(TESTS / file) for file in suite)],
        cwd=TESTS.parent,
        env={**os.environ, "MAMBA2_LAB_DEVICE": "emulated-mps", "MAMBA2_LAB_METAL": kernels, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    print("\n".join(re.findall(r".*(?:kernels|bytes moved) per layer.*", run.stdout)))
    assert run.returncode == 0, f"{run.stdout[-6000:]}\n{run.stderr[-2000:]}"
    assert "skipped" not in run.stdout.splitlines()[-1]


@pytest.mark.parametrize(
    ("where", "name", "value", "reason"),
    [
        (shutil, "which", lambda command: None, "needs the compiler g++, which is not on the PATH"),
        (sys, "platform", "win32", "built for Linux; this is win32"),
        (torch, "__version__", "2.6.0", "written for the headers of torch 2.13; this is 2.6.0"),
        (torch.backends.mps, "is_built", lambda: True, "this torch has the real mps backend"),
    ],
)
def test_where_it_cannot_be_emulated_the_reason_is_said(
    monkeypatch: pytest.MonkeyPatch, where: object, name: str, value: object, reason: str
) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_built", lambda: False)
    monkeypatch.setattr(shutil, "which", lambda command: f"/usr/bin/{command}")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(torch, "__version__", "2.13.0+cpu")
    assert emulation.why_not() is None
    monkeypatch.setattr(where, name, value)
    assert reason in str(emulation.why_not())
