"""What a training will need is told before it begins: weights and the like to the byte, and the whole near its peak."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from support.families import each_family, family_model
from support.small_models import small_model

from mamba2_lab import MambaLM
from mamba2_lab.data import PackedTokens
from mamba2_lab.machine import facts
from mamba2_lab.training import TrainingConfig, fit, memory
from mamba2_lab.training.memory import Memory, needed

WITHIN = 2  # the peak of the process is at most that many times what was told, and no smaller than its half
OF_TENSORS = 1.25  # the same of all tensors together

# Prints what was told, and by how much the peak of the process rose. A small training first: libraries that are loaded
# then are no part of it.
APART = r"""
import re, resource, sys
import torch
from mamba2_lab import Mamba2LM
from mamba2_lab.data import PackedTokens
from mamba2_lab.training import TrainingConfig, fit, memory

def train(shape, **settings):
    model = Mamba2LM(**shape, seed=0)
    config = TrainingConfig(steps=2, **settings)
    told = memory.needed(model, config).total
    tokens = PackedTokens(torch.arange(3000) % 200, torch.zeros(3000, dtype=torch.long))
    fit(model, tokens, config, progress=False)
    return told

def peak():
    if sys.platform == "darwin":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Of this program alone: what Linux calls ru_maxrss begins with that of the process which started it.
    (kibibytes,) = re.findall(r"VmHWM:\s+(\d+) kB", open("/proc/self/status").read())
    return int(kibibytes) * 1024

small = {"d_model": 64, "n_layer": 1, "d_state": 16, "headdim": 32, "vocab_size": 257}
train(small, batch_size=1, length=16)
before = peak()
print(train(SHAPE, SETTINGS), peak() - before)
"""
MANY_WEIGHTS = ({"d_model": 640, "n_layer": 8, "vocab_size": 8192}, {"batch_size": 1, "length": 32})
MANY_TOKENS = ({"d_model": 128, "n_layer": 4, "headdim": 32, "vocab_size": 257}, {"batch_size": 16, "length": 256})
MANY_WORDS = ({"d_model": 64, "n_layer": 2, "headdim": 32, "vocab_size": 16384}, {"batch_size": 4, "length": 256})


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no resource module")
@pytest.mark.parametrize("shape, settings", [MANY_WEIGHTS, MANY_TOKENS], ids=["many weights", "many tokens"])
def test_the_peak_of_the_process_is_near_what_was_told(shape: dict[str, int], settings: dict[str, int]) -> None:
    code = APART.replace("SHAPE, SETTINGS", f"{shape}, **{settings}")
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300
    ).stdout
    told, peak = map(int, output.split())
    assert told > 100_000_000, "too little to be told from what a process takes anyway"
    assert told / WITHIN < peak < told * WITHIN


@pytest.mark.parametrize("changes", [{}, {"lora": 4}, {"checkpoint_blocks": True}], ids=str)
@pytest.mark.parametrize("shape, settings", [MANY_WEIGHTS, MANY_TOKENS, MANY_WORDS], ids=["weights", "tokens", "words"])
def test_the_peak_of_all_tensors_is_what_was_told(
    tmp_path: Path, shape: dict[str, int], settings: dict[str, int], changes: dict[str, int]
) -> None:
    """Followed by torch's profiler, which sees each tensor come and go."""
    model = MambaLM(**{**shape, "n_layer": 4}, seed=0, device="cpu")
    config = TrainingConfig(steps=2, **settings, **changes)
    told = needed(model, config).total
    held = sum(parameter.nbytes for parameter in model.parameters())
    tokens = PackedTokens(torch.arange(5000) % 200, torch.zeros(5000, dtype=torch.long))
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as followed:
        fit(model, tokens, config, progress=False)
    followed.export_chrome_trace(str(tmp_path / "trace.json"))
    trace = json.loads((tmp_path / "trace.json").read_text(encoding="utf-8"))["traceEvents"]
    changed = [event["args"]["Bytes"] for event in trace if event["name"] == "[memory]"]
    peak = held + max(itertools.accumulate(changed))
    assert told / OF_TENSORS < peak < told * OF_TENSORS


def test_weights_gradients_and_optimiser_are_told_to_the_byte() -> None:
    model = small_model()
    size = sum(parameter.nbytes for parameter in model.parameters())
    told = needed(model, TrainingConfig(batch_size=1, length=8))
    assert (told.weights, told.gradients, told.optimiser) == (size, size, 2 * size)
    lora = needed(model, TrainingConfig(batch_size=1, length=8, lora=2))
    matrices = [m.weight for m in model.layers.modules() if isinstance(m, torch.nn.Linear)]
    adapters = 4 * sum(2 * sum(weight.shape) for weight in matrices)
    assert (lora.weights, lora.gradients, lora.optimiser) == (size + adapters, adapters, 2 * adapters)


@each_family
def test_activations_are_those_of_the_batch_that_is_trained(family: str) -> None:
    """Told from one window and two, for eight: what eight really keep, and nothing of the model has changed."""
    model = family_model(family)
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    told = needed(model, TrainingConfig(batch_size=8, length=24)).activations
    whole = memory._activations(model, TrainingConfig(batch_size=8, length=24), rows=8)
    assert told == pytest.approx(whole, rel=0.02)
    assert all(torch.equal(weight, before[name]) for name, weight in model.named_parameters())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_each_way_to_save_memory_is_told() -> None:
    model = small_model(n_layer=8)
    whole, *saving = (
        needed(model, TrainingConfig(batch_size=8, length=64, **changes))
        for changes in ({}, {"accumulation": 4}, {"checkpoint_blocks": True}, {"lora": 1})
    )
    for less in saving:
        assert less.total < whole.total
    assert saving[0].activations == pytest.approx(whole.activations / 4, rel=0.05)
    assert not model.checkpoint_blocks


def test_it_reads_as_a_line() -> None:
    told = Memory(2**20, 3 * 2**20, 6 * 2**20, 2**30)
    assert str(told) == (
        "about 1.01 GiB of memory: 1 MiB of weights, 3 MiB of gradients, 6 MiB of optimiser state, 1 GiB of activations"
    )


def test_what_cannot_fit_is_refused_and_what_may_not_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu, told = torch.device("cpu"), Memory(2**20, 2**20, 2**21, 2**30)
    monkeypatch.setattr(memory, "_free", lambda device: 2**40)
    assert told.warning(cpu) is None
    monkeypatch.setattr(memory, "_free", lambda device: 2**30)
    assert "may be too much: 1 GiB are free" in str(told.warning(cpu))
    monkeypatch.setattr(facts, "memory", lambda name: 2**21)
    with pytest.raises(ValueError, match=r"need 4 MiB of memory, and cpu has 2 MiB"):
        told.warning(cpu)
