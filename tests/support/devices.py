"""Where the tests of the model compute: on the CPU, or on the device that MAMBA2_LAB_DEVICE names.

    MAMBA2_LAB_DEVICE=mps python -m pytest tests/mps tests/fast/test_ways.py tests/model tests/layers

"emulated-mps" is an mps device made of CPU kernels, for Linux (tests/mps/emulation.py).
"""

import os

import torch

NAME = os.environ.get("MAMBA2_LAB_DEVICE", "cpu")
if NAME not in ("cpu", "cuda", "mps", "emulated-mps"):
    raise ValueError(f"MAMBA2_LAB_DEVICE must be 'cpu', 'cuda', 'mps' or 'emulated-mps'; got {NAME!r}")
if NAME == "emulated-mps":
    from mps import emulation

    emulation.load()

DEVICE = torch.device(NAME.removeprefix("emulated-"))
# The widest floats there are, and how far two ways to the same number may differ in them: mps has no float64.
WIDEST, EXACT = (torch.float32, 1e-5) if DEVICE.type == "mps" else (torch.float64, 1e-11)
