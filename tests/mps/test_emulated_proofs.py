"""How a kernel of ours proves itself on mps, and what becomes of one that does not.

Runs where MAMBA2_LAB_DEVICE is emulated-mps, with the kernels compiled for the CPU. Not run on Apple hardware.
"""

from __future__ import annotations

import itertools
import re
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from mps.emulation import Work, recording
from mps.metal_cases import CASES, in_float64, moved, results
from mps.test_operations import MODELS, SHRUNK, STACK, make_model, some_ids
from support.families import FAMILIES
from support.oracle.mamba2 import relative_error

from mamba2_lab.fast import metal
from mamba2_lab.fast.metal import proof, rows, shaders
from mamba2_lab.health import report
from mamba2_lab.layers.mixer import State
from mamba2_lab.machine import verdicts
from mamba2_lab.machine.verdicts import Verdict
from mamba2_lab.operation import plainly

OURS = {"token_of_mamba2", "gate_and_normalise", "add_and_normalise"}  # kernels of a token, by their names in Metal
ALL = {*re.findall(r"kernel void (\w+)", "".join(path.read_text() for path in shaders.FOLDER.glob("*.metal")))}


@pytest.fixture(autouse=True)
def nobody_has_asked_yet() -> Iterator[None]:
    verdicts.forget()
    yield
    verdicts.forget()


def kernels_of_a_token() -> set[str]:
    """Which of ours run for one; and its numbers are the CPU's, whichever do."""
    with torch.no_grad():
        with plainly():
            _, cache = make_model(SHRUNK).prefill(some_ids(2, 5))
            expected, _ = make_model(SHRUNK).step(torch.tensor([3, 4]), cache)
        model = make_model(SHRUNK).to("mps")
        for _ in range(2):
            with recording() as work:
                found, _ = model.step(torch.tensor([3, 4]), cache.to("mps"))
            assert relative_error(found.cpu(), expected) <= 1e-5
    return OURS & set(work.kernels)


def told() -> dict[str, Verdict]:
    return {verdict.what: verdict for verdict in verdicts.report()}


def test_all_are_taken_that_are_right_where_nobody_asks_for_their_time() -> None:
    assert kernels_of_a_token() == OURS
    for verdict in told().values():
        assert verdict.is_taken and "agrees with the CPU to" in verdict.reason and "=1 says" in verdict.reason


@pytest.mark.parametrize(("ours", "taken"), [(0.5, True), (2.0, False)])
def test_one_is_taken_where_it_is_sooner(monkeypatch: pytest.MonkeyPatch, ours: float, taken: bool) -> None:
    monkeypatch.delenv(shaders.VARIABLE)
    times = itertools.cycle([ours, 1.0])  # of one of ours, then of what else there is
    monkeypatch.setattr(proof, "seconds", lambda compute: (compute(), next(times))[1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # one that is only slower is no fault
        assert kernels_of_a_token() == (OURS if taken else set())
    assert {verdict.is_taken for verdict in told().values()} == {taken}
    assert f"takes {ours:.2f} of the time of torch's own kernels" in told()["gate_and_normalise"].reason


def test_what_a_call_takes_is_measured_with_the_work_of_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    monkeypatch.setattr(torch.mps, "synchronize", lambda: done.append("waited"))
    assert proof.seconds(lambda: done.append("called")) >= 0
    assert done == (["waited"] + ["called"] * proof.CALLS + ["waited"]) * (proof.ROUNDS + 1)


def test_one_that_was_interrupted_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*args: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(proof, "_worst", interrupted)
        with pytest.raises(KeyboardInterrupt):
            kernels_of_a_token()
    assert verdicts.report() == [] and kernels_of_a_token() == OURS


def test_a_long_prompt_is_tried_on_its_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes: list[torch.Size] = []
    tried = proof._tried

    def noted(operation: Any, compute: Any, args: tuple[Any, ...], *rest: Any) -> Verdict:
        shapes.extend(tensor.shape for tensor in proof.tensors(args) if tensor.ndim > 2)
        return tried(operation, compute, args, *rest)

    monkeypatch.setattr(proof, "_tried", noted)
    monkeypatch.setattr(rows, "SEQUENCES", 2)
    monkeypatch.setattr(rows, "TOKENS", 20)
    with torch.no_grad():
        make_model(SHRUNK).to("mps").prefill(some_ids(2, 50))
    assert {"convolve", "in_stretches", "gate_and_normalise"} <= set(told())
    assert shapes and max(shape[1] for shape in shapes) <= 20


def test_one_variable_leaves_all_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(shaders.VARIABLE, "0")
    assert kernels_of_a_token() == set() and verdicts.report() == []


def test_a_torch_that_cannot_compile_any_does_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.mps, "compile_shader")
    assert kernels_of_a_token() == set()


@pytest.mark.parametrize(
    ("mutation", "reason"),
    [
        (("sum_of_group(squares", "2.0f * sum_of_group(squares"), "differs from the CPU by"),
        (("float squares", "double squares"), "metal_has_no_double"),
    ],
    ids=["wrong", "not compiled"],
)
def test_one_that_is_wrong_or_does_not_compile_is_left_aside_and_the_reason_is_said_once(
    mutation: tuple[str, str], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = shaders.source

    def changed(file: str, **meanings: Any) -> str:
        text = original(file, **meanings)
        return text.replace(*mutation) if file == "gate" else text

    shaders._kernel.cache_clear()
    with monkeypatch.context() as patch, warnings.catch_warnings(record=True) as said:
        patch.setattr(shaders, "source", changed)
        warnings.simplefilter("always")
        left = kernels_of_a_token()
    shaders._kernel.cache_clear()
    assert "gate_and_normalise" not in left
    verdict = told()["gate_and_normalise"]
    assert not verdict.is_taken and reason in verdict.reason
    texts = [str(warning.message) for warning in said if "for gate_and_normalise is left aside" in str(warning.message)]
    assert len(texts) == 1 and reason in texts[0] and "MAMBA2_LAB_METAL=0" in texts[0]


def raising(error: Exception) -> Any:
    def broken(*args: Any, **meanings: Any) -> Any:
        raise error

    return broken


@pytest.mark.parametrize(
    ("where", "name"),
    [(shaders, "source"), (rows, "drawn_like"), (proof, "_moved"), (proof, "_worst"), (proof, "seconds")],
)
def test_whatever_fails_while_one_is_tried_leaves_it_aside_with_the_reason(
    where: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(shaders.VARIABLE)
    monkeypatch.setattr(where, name, raising(OSError("No such file")))
    for module in (metal.mamba2, metal.token):
        monkeypatch.setattr(module, "drawn_like", rows.drawn_like)
    shaders._kernel.cache_clear()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert kernels_of_a_token() == set()
    assert {verdict.reason for verdict in told().values()} == {"failed: No such file"}
    assert len(said) == len(verdicts.report()) >= len(OURS)  # each once
    assert all("left aside, and torch's own are used: No such file" in str(warning.message) for warning in said)


@pytest.mark.parametrize("error", [RuntimeError("the command buffer was lost\nand more"), KeyError(), MemoryError()])
def test_one_that_fails_later_is_left_aside_from_then_on(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    assert kernels_of_a_token() == OURS
    reason = str(error).partition("\n")[0] or type(error).__name__
    with monkeypatch.context() as patch:
        patch.setattr(shaders, "kernel", raising(error))
        with pytest.warns(UserWarning, match=reason):
            assert kernels_of_a_token() == set()
    assert kernels_of_a_token() == set()  # also when it would work again
    verdict = told()["between_matrices"]
    assert (verdict.is_taken, verdict.reason) == (False, f"failed: {reason}")


def test_with_gradients_under_autocast_or_when_somebody_looks_on_torch_computes() -> None:
    model = make_model(MODELS["groups"]).to("mps")
    with torch.no_grad():
        _, cache = model.prefill(some_ids(1, 5))

    def kernels(step: Any) -> set[str]:
        with recording() as work:
            step(torch.tensor([3]), cache)
        return OURS & set(work.kernels)

    assert kernels(torch.no_grad()(model.step)) == OURS
    assert kernels(torch.enable_grad()(model.step)) == set()
    with torch.autocast("mps", torch.bfloat16):
        assert kernels(torch.no_grad()(model.step)) == set()


@pytest.mark.parametrize(
    ("family", "part", "kernel"),
    [
        ("mamba1", "dt_proj", "token_of_mamba1"),
        ("mamba1", "conv1d", "token_of_mamba1"),
        ("mamba2", "conv1d", "token_of_mamba2"),
        ("mamba3-siso", "B_norm", "token_of_mamba3"),
        ("mamba3-mimo", "norm", "token_of_mamba3"),
    ],
)
def test_of_a_layer_on_which_somebody_looks_torch_computes(family: str, part: str, kernel: str) -> None:
    model = make_model({**STACK, **FAMILIES[family]}).to("mps")
    looked: list[Any] = []
    with torch.no_grad():
        _, cache = model.prefill(some_ids(1, 5))
        expected, _ = model.step(torch.tensor([3]), cache)
        getattr(model.layers[1].mixer, part).register_forward_hook(lambda *args: looked.append(part))
        with recording() as work:
            found, _ = model.step(torch.tensor([3]), cache)
    assert work.kernels.count(kernel) == 1  # of the other layer
    assert bool(looked) == (part != "conv1d")  # a convolution's step is a method of its own, to which nothing hooks
    assert relative_error(found.cpu(), expected.cpu()) <= 1e-5


@pytest.mark.parametrize("name", CASES)
def test_with_gradients_a_kernel_gives_way_and_they_are_those_of_the_definition(name: str) -> None:
    operation, draw = CASES[name]
    *_, drawn = draw(torch.float32)

    def gradients(args: tuple[Any, ...]) -> tuple[list[torch.Tensor], Work]:
        given = [each for arg in args for each in leaves(arg)]
        with recording() as work:
            found = list(results(operation(*args)))
            generator = torch.Generator().manual_seed(0)
            loss = sum((part * torch.randn(part.shape, generator=generator).to(part)).sum() for part in found)
            return list(torch.autograd.grad(loss, given, materialize_grads=True)), work  # type: ignore[arg-type]

    with plainly():
        expected, _ = gradients(tuple(map(in_float64, drawn)))
    found, work = gradients(tuple(moved(arg, "mps") for arg in drawn))
    assert ALL.isdisjoint(work.kernels) and len(found) == len(expected) > 0
    for one, other in zip(found, expected, strict=True):
        assert relative_error(one.cpu(), other) <= 1e-5


def leaves(arg: Any) -> list[torch.Tensor]:
    """What a gradient can be asked for, and now is."""
    if isinstance(arg, torch.nn.Module):
        return list(arg.parameters())
    tensors = arg.tensors().values() if isinstance(arg, State) else [arg] if isinstance(arg, torch.Tensor) else []
    return [tensor.requires_grad_() for tensor in tensors if tensor.is_floating_point()]


def test_the_report_says_which_are_taken_and_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report.operations, "CHECKS", report.operations.CHECKS[:1])
    whole = [check for check in report.whole_model.CHECKS if check.what == "reading in pieces and steps"]
    monkeypatch.setattr(report.whole_model, "CHECKS", whole)
    *_, (text, agrees) = report.examine("mps")
    assert agrees and text.startswith("### Kernels of our own")
    assert len(re.findall(r"\| +yes \| agrees with the CPU", text)) == len(verdicts.report()) >= 3
    assert re.search(r"between_matrices +\| +\d+ x \d+, float32 \|", text)
