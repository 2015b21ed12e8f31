"""What is said of a device is what torch and the system say."""

import sys

import pytest
import torch

from mamba2_lab.machine import devices


@pytest.mark.parametrize(("cuda", "mps"), [(True, False), (False, True), (False, False)])
def test_what_is_available_is_what_torch_says(monkeypatch: pytest.MonkeyPatch, cuda: bool, mps: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    found = {name: devices.is_available(name) for name in ("cpu", "cuda", "mps", "tpu")}
    assert found == {"cpu": True, "cuda": cuda, "mps": mps, "tpu": False}


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_torch_compile_wants_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CXX", raising=False)
    found: set[str] = set()
    monkeypatch.setattr(devices.shutil, "which", lambda name: name if name in found else None)
    monkeypatch.setattr(devices.importlib.util, "find_spec", lambda name: name if name in found else None)
    assert not any(map(devices.can_compile, ("cpu", "cuda", "mps")))
    found |= {"clang++", "triton"}
    assert [devices.can_compile(kind) for kind in ("cpu", "cuda", "mps")] == [True, True, False]
    found -= {"clang++"}
    assert not devices.can_compile("cpu")
    monkeypatch.setenv("CXX", "my-c++")
    found |= {"my-c++"}
    assert devices.can_compile("cpu")


def test_the_cpu_is_described_by_its_threads() -> None:
    threads = torch.get_num_threads()
    assert devices.describe("cpu").startswith(f"the CPU, with {threads} thread")


@pytest.mark.parametrize(("name", "waits"), [("cuda", ["cuda"]), ("mps", ["mps"]), ("cuda:0", ["cuda"]), ("cpu", [])])
def test_synchronising_waits_for_the_device_that_is_meant(
    monkeypatch: pytest.MonkeyPatch, name: str, waits: list[str]
) -> None:
    waited: list[str] = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: waited.append("cuda"))
    monkeypatch.setattr(torch.mps, "synchronize", lambda: waited.append("mps"))
    devices.synchronise(name)
    assert waited == waits
