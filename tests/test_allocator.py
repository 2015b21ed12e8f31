"""Memory that was freed is there for the next call, counted in page faults."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from mamba2_lab import allocator

needs_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")

# A prefill with 81 MiB of temporaries again and again, and how many pages the system had to give for the last two.
PAGES_FOR_PREFILLS = """
import resource
import torch
from mamba2_lab import Mamba2LM

model = Mamba2LM(d_model=256, n_layer=2, d_state=128, vocab_size=64, seed=0).eval()
ids = torch.zeros(1, 4096, dtype=torch.long)
for turn in range(6):
    if turn == 4:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    with torch.no_grad():
        model.prefill(ids)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def pages_for_prefills(**settings: str) -> int:
    inherited = {name: value for name, value in os.environ.items() if name not in allocator.SET_BY_USER}
    command = [sys.executable, "-c", PAGES_FOR_PREFILLS]
    return int(subprocess.run(command, env=inherited | settings, capture_output=True, text=True, check=True).stdout)


@needs_glibc
def test_a_prompt_is_read_in_memory_that_the_one_before_left() -> None:
    assert pages_for_prefills() < 20_000


@needs_glibc
def test_what_the_environment_says_of_the_allocator_stands() -> None:
    assert pages_for_prefills(MALLOC_TRIM_THRESHOLD_="131072") > 100_000


@pytest.mark.parametrize("name", allocator.SET_BY_USER)
def test_a_setting_of_the_user_is_left_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "1")
    assert not allocator.keep_freed_memory()


def test_systems_without_such_an_allocator_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: object())  # musl has no mallopt
    assert not allocator.keep_freed_memory()
    monkeypatch.setattr(allocator.sys, "platform", "darwin")
    monkeypatch.setattr(allocator.ctypes, "CDLL", None)
    assert not allocator.keep_freed_memory()
