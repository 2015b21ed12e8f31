"""What the model promises, on the device that MAMBA2_LAB_DEVICE names, against the CPU.

On Linux tests/mps/test_emulated.py runs this on an emulated mps device. Not run on Apple hardware.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from mps.metal_cases import CASES, by_definition, error, moved, results
from mps.test_operations import MODELS, PATHS, SHRUNK, applies, distinct, make_model, some_ids
from support.devices import DEVICE
from support.oracle.mamba2 import largest_difference, perturb, raises, relative_error

from mamba2_lab import Mamba2LM
from mamba2_lab.data import PackedTokens
from mamba2_lab.health import whole_model
from mamba2_lab.health.choice import TOLERANCE, choose, self_test
from mamba2_lab.layers import Mamba3, turning, turning_in_reals
from mamba2_lab.machine import verdicts
from mamba2_lab.training import Record, TrainingConfig, fit


@pytest.mark.parametrize("path", PATHS)
def test_every_path_of_every_model_gives_the_numbers_of_the_cpu(path: str) -> None:
    ids = some_ids()
    for fields in distinct(MODELS):
        if not applies(path, fields):
            continue
        expected = PATHS[path](make_model(fields), ids)
        found = PATHS[path](make_model(fields).to(DEVICE), ids)
        assert found.keys() == expected.keys()
        for name in expected:
            assert relative_error(found[name], expected[name]) <= 1e-5, (fields, name)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_weights_give_the_numbers_of_the_cpu(dtype: torch.dtype) -> None:
    ids = some_ids()
    expected = whole_model.read_in_pieces(make_model(SHRUNK).to(dtype), ids)
    found = whole_model.read_in_pieces(make_model(SHRUNK).to(dtype).to(DEVICE), ids)
    assert max(relative_error(found[name], expected[name]) for name in expected) <= 2e-2
    assert found["ssm_state"].dtype == torch.float32


@pytest.mark.skipif(
    DEVICE.type != "mps" or not hasattr(torch.mps, "compile_shader"), reason="kernels in Metal need mps, and torch 2.7"
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", CASES)
def test_a_kernel_of_ours_gives_the_numbers_of_its_definition(
    name: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAMBA2_LAB_METAL", "1")
    operation, draw = CASES[name]
    for args in draw(dtype):
        with torch.no_grad():
            found = list(results(operation(*(moved(arg, DEVICE) for arg in args))))
        assert error(found, by_definition(operation, args), dtype) <= 1
        told = [verdict for verdict in verdicts.report() if verdict.what == name]
        assert told and all(verdict.is_taken for verdict in told), told


def train(model: Mamba2LM, **settings: Any) -> list[Record]:
    ids = torch.randint(0, 64, (500,), dtype=torch.int32, generator=torch.Generator().manual_seed(0))
    tokens = PackedTokens(ids, torch.arange(500, dtype=torch.int32) // 50)
    config = TrainingConfig(steps=4, batch_size=4, length=24, warmup_steps=2, **settings)
    return fit(model, tokens, config, progress=False)


@pytest.mark.parametrize("settings", [{}, {"accumulation": 2}, {"checkpoint_blocks": True}], ids=str)
def test_training_gives_the_losses_and_weights_of_the_cpu(settings: dict[str, Any]) -> None:
    here, there = make_model(SHRUNK), make_model(SHRUNK).to(DEVICE)
    expected, found = train(here, **settings), train(there, **settings)
    for one, other in zip(found, expected, strict=True):
        assert one.loss == pytest.approx(other.loss, rel=1e-5)
        assert one.gradient_norm == pytest.approx(other.gradient_norm, rel=1e-3)
    assert largest_difference(there.state_dict().values(), here.state_dict().values()) <= 1e-4
    assert there.device.type == DEVICE.type


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_training_in_half_precision_stays_near_that_in_float32(precision: str) -> None:
    expected = train(make_model(SHRUNK))
    for one, other in zip(train(make_model(SHRUNK).to(DEVICE), precision=precision), expected, strict=True):
        assert one.loss == pytest.approx(other.loss, rel=2e-2)


@pytest.mark.parametrize("settings", [{"temperature": 0}, {"seed": 3, "top_k": 20}, {"seed": 3, "top_p": 0.9}], ids=str)
def test_text_is_that_of_the_cpu(settings: dict[str, Any]) -> None:
    prompts, mask = some_ids(3, 9), torch.ones(3, 9, dtype=torch.long)
    mask[1, :4] = 0
    texts = [
        make_model(SHRUNK).to(where).generate(prompts, max_new_tokens=12, attention_mask=mask, **settings)
        for where in ("cpu", DEVICE)
    ]
    assert texts[0].tolist() == texts[1].tolist()


def test_a_model_saved_on_the_device_is_the_same_when_loaded_to_it(tmp_path: Path) -> None:
    model, ids = make_model(MODELS["groups"]).to(DEVICE), some_ids()
    model.save_pretrained(tmp_path)
    again = Mamba2LM.from_pretrained(tmp_path, device=DEVICE)
    assert again.device.type == DEVICE.type
    assert torch.equal(again(ids), model(ids))
    assert relative_error(Mamba2LM.from_pretrained(tmp_path)(ids), model(ids)) <= 1e-5


def test_a_cache_moves_to_the_cpu_and_goes_on_there() -> None:
    model, ids = make_model(SHRUNK).to(DEVICE), some_ids(2, 20)
    with torch.no_grad():
        expected, _ = model.prefill(ids)
        _, cache = model.prefill(ids[:, :12])
        found, _ = model.cpu().prefill(ids[:, 12:], cache.to("cpu"))
    assert relative_error(found, expected) <= 1e-5


@pytest.mark.parametrize("fields", [{}, {"is_mimo": True, "is_outproj_norm": True}], ids=["siso", "mimo"])
def test_a_mamba3_gives_the_numbers_of_the_cpu(fields: dict[str, Any]) -> None:
    mixer = perturb(Mamba3(d_model=32, d_state=16, headdim=16, chunk_size=16, **fields))
    u, ids, lengths = torch.randn(2, 70, 32), (torch.arange(70) // 30).expand(2, 70), torch.tensor([70, 41])

    def compute(device: torch.device | str) -> list[torch.Tensor]:
        mixer.to(device)
        y, state = mixer.prefill(u.to(device), lengths=lengths.to(device), document_ids=ids.to(device))
        y_t, state = mixer.step(u[:, 0].to(device), state)
        loss = y.square().sum() + y_t.square().sum()
        return [y, y_t, state.ssm_state, *torch.autograd.grad(loss, list(mixer.parameters()))]

    for expected, found in zip(compute("cpu"), compute(DEVICE), strict=True):
        assert relative_error(found, expected) <= 1e-5


@pytest.mark.skipif(DEVICE.type != "mps", reason="elsewhere complex numbers are computed")
def test_complex_numbers_are_refused_in_one_sentence_and_real_ones_turn_as_well() -> None:
    x, log_decay, turns, B, C = (torch.randn(1, 9, 2, d) for d in (3, 1, 2, 4, 4))
    log_decay = -log_decay.abs().squeeze(-1)
    there = [part.to(DEVICE) for part in (x, log_decay, turns, B, C)]
    with raises(ValueError, "turning needs complex numbers, which mps has only in part: compute it on the CPU"):
        turning(*there)
    expected, _ = turning(x, log_decay, turns, B, C)
    assert relative_error(turning_in_reals(*there)[0], expected) <= 1e-5


def test_the_device_passes_the_self_test_and_is_chosen() -> None:
    assert self_test(DEVICE) <= TOLERANCE
    choice = choose()
    assert choice.device.type == DEVICE.type
    assert "agrees with the CPU" in choice.reason
