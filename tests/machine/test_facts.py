"""The processor and its memory, as the system tells."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest

from mamba2_lab.machine import facts


def test_the_processor_and_its_memory_are_those_that_linux_tells() -> None:
    assert facts.processor() in Path("/proc/cpuinfo").read_text(encoding="utf-8") + platform.machine()
    total = Path("/proc/meminfo").read_text(encoding="utf-8").split()[1]
    assert facts.memory("cpu") == pytest.approx(1024 * int(total), rel=1e-3)


def test_on_a_mac_the_processor_is_what_sysctl_says(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def run(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        asked.append(command[1:])
        return subprocess.CompletedProcess(command, 0, stdout="Apple M2 Pro\n")

    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(subprocess, "run", run)
    assert facts.processor() == "Apple M2 Pro"
    assert asked == [["-n", "machdep.cpu.brand_string"]]
