"""Memory that was freed is there for the next call, counted in page faults."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from types import SimpleNamespace

import pytest

from mamba2_lab.machine import freed_memory

has_glibc = platform.libc_ver()[0] == "glibc"
takes_large_blocks = has_glibc and tuple(map(int, platform.libc_ver()[1].split("."))) >= (2, 35)
needs_glibc = pytest.mark.skipif(not takes_large_blocks, reason="the C library is not glibc, or one before 2.35")

# A prefill with large temporaries again and again, and how many pages the system had to give for the last two.
PAGES_FOR_PREFILLS = """
import resource
import torch
from mamba2_lab import Mamba2LM
from mamba2_lab.machine import freed_memory

FIRST
model = Mamba2LM(d_model=256, n_layer=2, d_state=128, vocab_size=64, seed=0).eval()
ids = torch.zeros(1, 4096, dtype=torch.long)
for turn in range(6):
    if turn == 4:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    with torch.no_grad():
        model.prefill(ids)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


KEEPING = "print('kept', freed_memory.keep_freed_memory())"


def pages_for_prefills(first: str = "", **settings: str) -> tuple[int, str]:
    """Pages; and what was printed before."""
    inherited = {name: value for name, value in os.environ.items() if name not in freed_memory.SET_BY_USER}
    command = [sys.executable, "-c", PAGES_FOR_PREFILLS.replace("FIRST", first)]
    run = subprocess.run(command, env=inherited | settings, capture_output=True, text=True, check=True)
    *printed, pages = run.stdout.splitlines()
    return int(pages), " ".join(printed)


@needs_glibc
def test_a_prompt_is_read_in_memory_that_the_one_before_left_where_that_was_asked_for() -> None:
    pages, printed = pages_for_prefills(KEEPING)
    assert pages < 20_000 and printed == "kept True"


@needs_glibc
def test_what_the_environment_says_of_the_allocator_stands() -> None:
    pages, printed = pages_for_prefills(KEEPING, MALLOC_TRIM_THRESHOLD_="131072")
    assert pages > 50_000 and printed == "kept False"


def test_what_can_be_refused_is_asked_first_and_nothing_after_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    """glibc before 2.35 refuses; with one option of the two it would ask for more pages than with none."""
    asked: list[int] = []
    refused = 0

    def mallopt(option: int, value: int) -> int:
        asked.append(option)
        return option != refused

    clear(monkeypatch)
    monkeypatch.setattr(freed_memory.ctypes, "CDLL", lambda name: SimpleNamespace(mallopt=mallopt))
    refused = freed_memory.M_MMAP_THRESHOLD
    assert not freed_memory.keep_freed_memory()
    assert asked == [freed_memory.M_MMAP_THRESHOLD]
    assert freed_memory.report() == ("freed memory", "goes back to the system, as the C library does it")
    refused = 0
    assert freed_memory.keep_freed_memory()
    assert asked[1:] == [freed_memory.M_MMAP_THRESHOLD, freed_memory.M_TRIM_THRESHOLD]
    assert freed_memory.report() == ("freed memory", "about 1 GiB is kept")


def clear(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in freed_memory.SET_BY_USER:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(freed_memory.sys, "platform", "linux")
    monkeypatch.setattr(freed_memory, "_kept", False)


@pytest.mark.parametrize("name", freed_memory.SET_BY_USER)
def test_a_setting_of_the_user_is_left_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "1")
    assert not freed_memory.keep_freed_memory()


def test_systems_without_such_an_allocator_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(freed_memory.ctypes, "CDLL", lambda name: object())  # musl has no mallopt
    assert not freed_memory.keep_freed_memory()
    monkeypatch.setattr(freed_memory.sys, "platform", "darwin")
    monkeypatch.setattr(freed_memory.ctypes, "CDLL", None)
    assert not freed_memory.keep_freed_memory()
