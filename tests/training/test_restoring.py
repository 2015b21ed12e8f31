"""What a training uses of the process and the model is as it was afterwards."""

from __future__ import annotations

import os

import pytest
import torch
from support.small_models import random_ids, small_model
from support.trainings import failing_at, quick_fit, without_time

from mamba2_lab.data import PackedTokens
from mamba2_lab.training import (
    TrainingConfig,
    fit,
    process,
)
from mamba2_lab.training.restoring import MPS_FALLBACK
from mamba2_lab.training.step import Learner


def test_training_leaves_torchs_own_generator_alone():
    before = torch.random.get_rng_state()
    quick_fit(small_model())
    assert torch.equal(torch.random.get_rng_state(), before)


def test_it_trains_where_a_notebook_has_switched_gradients_off_and_leaves_them_off():
    expected = without_time(quick_fit(small_model()))
    with torch.no_grad():
        assert without_time(quick_fit(small_model())) == expected
        assert not torch.is_grad_enabled()


@pytest.mark.parametrize("fails", [False, True])
def test_modes_and_compiled_functions_are_those_that_were_found(monkeypatch, fails):
    monkeypatch.setattr(process, "can_compile", lambda device: True)
    torch_compile = torch.compile
    monkeypatch.setattr(torch, "compile", lambda function, **_: torch_compile(function, backend="eager"))
    model = small_model()
    model.compile()
    model.train()
    model.layers[1].eval()
    model.checkpoint_blocks = True

    def found() -> list:
        names = ("training", "forward", "_step", "checkpoint_blocks")
        return [{name: vars(module).get(name) for name in names} for module in model.modules()]

    before = found()
    if fails:
        monkeypatch.setattr(Learner, "update", failing_at(1, RuntimeError("out of memory")))
        with pytest.raises(RuntimeError, match="out of memory"):
            quick_fit(model, compile=True, steps=2)
    else:
        quick_fit(model, compile=True, steps=2)
    assert found() == before
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_training_leaves_what_accelerate_keeps_for_the_process_as_it_was(monkeypatch):
    """A caller's own Accelerator works on, and no process that is started later falls back from mps in silence."""
    monkeypatch.delenv(MPS_FALLBACK, raising=False)
    tokens = PackedTokens(random_ids(200), torch.zeros(200, dtype=torch.int32))

    def learn():
        fit(small_model(), tokens, TrainingConfig(steps=1, batch_size=1, length=8), progress=False)

    theirs = process.Accelerator(cpu=True, mixed_precision="bf16", gradient_accumulation_steps=4)

    def as_on_a_mac(**options):
        os.environ[MPS_FALLBACK] = "1"
        return accelerator(**options)

    accelerator = process.Accelerator
    monkeypatch.setattr(process, "Accelerator", as_on_a_mac)
    learn()
    assert MPS_FALLBACK not in os.environ
    assert (theirs.mixed_precision, theirs.num_processes, theirs.gradient_accumulation_steps) == ("bf16", 1, 4)
    monkeypatch.setenv(MPS_FALLBACK, "0")
    learn()
    assert os.environ[MPS_FALLBACK] == "0"
