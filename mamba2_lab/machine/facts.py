"""What this machine is made of."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import torch


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
