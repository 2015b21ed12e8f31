"""What the emulated mps device refuses, and that a fault planted in it, or in the code, is found.

Runs where MAMBA2_LAB_DEVICE is emulated-mps. Not run on Apple hardware: a Mac cannot be made wrong on purpose.
"""

from __future__ import annotations

import functools
import re
from typing import Any

import pytest
import torch
from mps.emulation import Fault, Work, planted, recording
from mps.metal_cases import CASES
from torch import Tensor

from mamba2_lab import cli
from mamba2_lab.fast import chunks
from mamba2_lab.health import operations, whole_model
from mamba2_lab.health.choice import choose
from mamba2_lab.scan.recurrence import turn


def recorded(compute: Any) -> Work:
    x = torch.arange(6.0).reshape(2, 3).to("mps")
    with recording() as work:
        compute(x)
    return work


def test_what_is_counted_is_what_was_asked_for() -> None:
    assert recorded(lambda x: (x.exp() + x).t()[0]).kernels == ["exp.out", "add.out"]
    assert recorded(lambda x: x[:1].t().view(3)).kernels == []
    assert recorded(lambda x: x.sum().item()).to_host == ["_local_scalar_dense"]
    assert recorded(lambda x: x.cpu()).to_host == ["copy_"]
    assert recorded(lambda x: x.nonzero()).to_host == ["nonzero"]
    assert recorded(lambda x: x[x > 2]).to_host == ["nonzero"]
    assert recorded(lambda x: torch.tensor([1.0]).to(x.device)).to_device == ["copy_"]
    assert recorded(lambda x: torch.complex(x, x).abs()).dtypes == {"Float", "ComplexFloat"}


# What it refuses, as a Mac does


@pytest.mark.parametrize(
    ("compute", "error", "words"),
    [
        (lambda x: torch.linalg.eig(x @ x.t()), NotImplementedError, "aten::linalg_eig' is not currently implemented"),
        (lambda x: x.double(), TypeError, "MPS framework does not have it"),
        (lambda x: x.sum(dtype=torch.float64), TypeError, "MPS framework does not have it"),
        (lambda x: torch.zeros(3, dtype=torch.float64, device="mps"), TypeError, "MPS framework does not have it"),
        (lambda x: x.to("cpu", torch.float64), TypeError, "MPS framework does not have it"),
        (lambda x: x + torch.ones(3), RuntimeError, "CPU tensor|same device"),
        (lambda x: x.masked_fill(torch.ones(2, 3, dtype=torch.bool), 0.0), RuntimeError, "CPU tensor|same device"),
        (lambda x: torch.nn.functional.embedding(torch.tensor([1]), x), RuntimeError, "CPU tensor|same device"),
        (lambda x: torch.cat([x, torch.ones(2, 3)]), RuntimeError, "CPU tensor|same device"),
    ],
)
def test_what_a_mac_refuses_is_refused(compute: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        recorded(compute)


def mask_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fault that ports have most often: a factory call without a device."""
    ones = torch.ones
    monkeypatch.setattr(torch, "ones", lambda *shape, device=None, **rest: ones(*shape, **rest))


def float64_in_the_scan(monkeypatch: pytest.MonkeyPatch) -> None:
    segsum = chunks.segsum
    monkeypatch.setattr(chunks, "segsum", lambda log_decay: segsum(log_decay.double()).float())


def operation_without_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    softplus = torch.nn.functional.softplus
    monkeypatch.setattr(torch.nn.functional, "softplus", lambda x: softplus(x) + 0 * torch.special.log_ndtr(x))


def ids_left_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    look_up = torch.nn.Embedding.forward
    monkeypatch.setattr(torch.nn.Embedding, "forward", lambda module, ids: look_up(module, ids.cpu()))


@pytest.mark.parametrize(
    ("plant", "words"),
    [
        (mask_on_the_cpu, "CPU tensor"),
        (float64_in_the_scan, "MPS framework does not have it"),
        (operation_without_kernel, "special_log_ndtr"),
        (ids_left_on_the_cpu, "CPU tensor"),
    ],
)
def test_a_fault_of_the_code_leaves_the_device_aside_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, plant: Any, words: str
) -> None:
    plant(monkeypatch)
    choice = choose()
    assert choice.device.type == "cpu"
    assert "mps cannot run a small model" in choice.reason and words in choice.reason


# What is found when it computes wrong numbers


def test_a_wrong_kernel_leaves_the_device_aside_with_the_reason() -> None:
    with planted(Fault("exp", 1.01)):
        choice = choose()
    assert choice.device.type == "cpu"
    assert "mps disagrees with the CPU by" in choice.reason
    assert choose().device.type == "mps"


def test_the_doctor_finds_nothing_wrong_with_the_device(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = functools.partial(whole_model.learn, steps=5)  # fifty take long here, where every kernel is a detour
    checks = [*whole_model.CHECKS, whole_model.model_check("5 training steps", steps, whole_model.TRAINING)]
    monkeypatch.setattr(whole_model, "CHECKS", [check for check in checks if check.what != "50 training steps"])
    assert cli.main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "- mps: all" in out and "computing on  mps" in out and "wrong" not in out
    told = out.partition("### Kernels of our own")[2]
    for name in CASES.keys() - {"multiply_stored"}:  # of which no check asks
        assert re.search(rf"{name} +\|[^|]+\| +yes \| agrees with the CPU to", told), told


@pytest.mark.parametrize(
    ("fault", "named", "where"),
    [
        (Fault("exp", 1.01), "exp", ""),
        (Fault("softplus", 1.01, only_for_views=True), "softplus", "split views"),
        (Fault("silu_backward", 0.99), "silu", "gradient 1"),
        (Fault("_fused_rms_norm", 1.001), "rms_norm", "without gradients"),
        (Fault("bmm", float("nan")), "batched matmul", ""),
    ],
    ids=str,
)
def test_the_doctor_names_a_wrong_kernel_and_ends_with_status_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], fault: Fault, named: str, where: str
) -> None:
    monkeypatch.setattr(whole_model, "CHECKS", whole_model.CHECKS[:2])
    with planted(fault):
        assert cli.main(["doctor", "--device", "mps"]) == 1
    wrong = [line for line in capsys.readouterr().out.splitlines() if f"mps is wrong at {named}**" in line]
    assert len(wrong) == 1 and where in wrong[0]


def test_the_doctor_tells_a_wrong_way_from_a_wrong_device(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MAMBA2_LAB_METAL", "0")  # a kernel of ours takes a turn within what else it does
    (way,) = turn.ways

    def wrong_on_mps(x_t: Tensor, *rest: Tensor) -> tuple[Tensor, Tensor]:
        y_t, state = way.compute(x_t, *rest)
        return y_t * (1.01 if x_t.device.type == "mps" else 1.0), state

    checked = [check for check in operations.CHECKS if check.what in ("exp", "scan, one step")]
    monkeypatch.setattr(turn, "ways", [way._replace(compute=wrong_on_mps)])
    monkeypatch.setattr(operations, "CHECKS", checked)
    monkeypatch.setattr(whole_model, "CHECKS", whole_model.CHECKS[2:3])
    assert cli.main(["doctor", "--device", "mps"]) == 1
    out = capsys.readouterr().out
    for what in ("scan, one step", "reading in pieces and steps"):
        assert f"- **a faster way goes wrong on mps at {what}**" in out
    assert out.count("the fault is in a way of turn, or") == 2 and "mps is wrong" not in out
    with planted(Fault("exp", 1.01)):
        assert cli.main(["doctor", "--device", "mps"]) == 1
    assert "- **mps is wrong at exp**" in capsys.readouterr().out


def test_the_doctor_names_what_the_device_cannot_compute(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    operation_without_kernel(monkeypatch)
    monkeypatch.setattr(operations, "CHECKS", [check for check in operations.CHECKS if check.what == "scan, one step"])
    monkeypatch.setattr(whole_model, "CHECKS", whole_model.CHECKS[:1])
    assert cli.main(["doctor"]) == 1
    assert "special_log_ndtr" in capsys.readouterr().out
