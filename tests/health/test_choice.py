"""No silent choice: a device that computes something else is left aside, and the reason is said."""

import math
import platform
from collections.abc import Callable

import pytest
import torch
from support.oracle.mamba2 import raises
from torch import Tensor

from mamba2_lab import Mamba2LM, scan
from mamba2_lab.health import choice
from mamba2_lab.health.choice import TOLERANCE, choose, self_test, summary
from mamba2_lab.machine import devices
from mamba2_lab.operation import OPERATIONS

Fault = Callable[[list[Tensor]], list[Tensor]]


def machine_with(monkeypatch: pytest.MonkeyPatch, faults: dict[str, Fault]) -> None:
    """Pretend that these devices are there, and that each computes what the CPU does with a fault."""
    run = choice._small_model_run

    def run_with_fault(name: torch.device | str) -> list[Tensor]:
        values = run("cpu")
        return faults[str(name)](values) if str(name) in faults else values

    monkeypatch.setattr(choice, "_small_model_run", run_with_fault)
    monkeypatch.setattr(devices, "is_available", lambda name: name == "cpu" or name in faults)
    monkeypatch.setattr(devices, "describe", lambda name: f"a pretended {name}")


def scaled(factor: float) -> Fault:
    return lambda values: [value * factor for value in values]


def none(values: list[Tensor]) -> list[Tensor]:
    return values


# The self-test


def test_the_cpu_agrees_with_itself_exactly() -> None:
    assert self_test("cpu") == 0.0


def test_the_self_test_reads_a_prompt_takes_a_step_and_computes_a_gradient() -> None:
    values = choice._small_model_run("cpu")
    assert [tuple(value.shape) for value in values] == [(2, 64), (2, 64), (64, 32)]
    assert all(value.isfinite().all() and value.norm() > 0 for value in values)


@pytest.mark.parametrize("which", [0, 1, 2], ids=["prefill", "step", "gradient"])
@pytest.mark.parametrize("size", [1e-3, 0.5])
def test_the_self_test_gives_the_size_of_the_worst_disagreement(
    monkeypatch: pytest.MonkeyPatch, which: int, size: float
) -> None:
    def fault(values: list[Tensor]) -> list[Tensor]:
        return [value * (1 + size) if i == which else value * (1 + 1e-6) for i, value in enumerate(values)]

    machine_with(monkeypatch, {"mps": fault})
    assert self_test("mps") == pytest.approx(size, rel=1e-3)


@pytest.mark.parametrize("which", [0, 1, 2], ids=["prefill", "step", "gradient"])
def test_a_single_nan_counts_as_infinitely_wrong(monkeypatch: pytest.MonkeyPatch, which: int) -> None:
    def fault(values: list[Tensor]) -> list[Tensor]:
        values[which] = values[which].clone()  # it is no inference tensor then
        values[which][-1, -1] = math.nan
        return values

    machine_with(monkeypatch, {"mps": fault})
    assert self_test("mps") == math.inf


@pytest.mark.parametrize("name", ["chunked", "advance"])
@pytest.mark.parametrize("rows", [slice(None), slice(1, None)], ids=["every row", "the second row"])
def test_a_scan_that_is_off_by_one_in_a_thousand_does_not_pass(
    monkeypatch: pytest.MonkeyPatch, name: str, rows: slice
) -> None:
    """What the small model computes must depend on what may be broken. Some published faults spare the first row."""
    right, run = getattr(scan, name), choice._small_model_run

    def wrong(*args: Tensor, **options: Tensor) -> tuple[Tensor, Tensor]:
        y, state = right(*args, **options)
        off = torch.ones_like(y)
        off[rows, ..., ::2] += 1e-3  # every second channel: the norm would undo a factor common to all
        return y * off, state

    def run_with_fault(where: torch.device | str) -> list[Tensor]:
        with monkeypatch.context() as patch:
            if where == "mps":
                patch.setattr(OPERATIONS["one_token"], "ways", [])  # those are a CPU's
                patch.setattr(scan, name, wrong)
            return run("cpu")

    monkeypatch.setattr(choice, "_small_model_run", run_with_fault)
    assert self_test("mps") > 3 * TOLERANCE


# The choice


def test_without_another_device_the_choice_is_the_cpu_and_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine_with(monkeypatch, {})
    chosen = choose()
    assert chosen.device == torch.device("cpu")
    assert chosen.reason == "a pretended cpu; no cuda, no mps"
    assert str(chosen) == "cpu: a pretended cpu; no cuda, no mps"


@pytest.mark.parametrize("name", ["cuda", "mps"])
def test_a_device_that_agrees_with_the_cpu_is_chosen_and_says_how_well(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    machine_with(monkeypatch, {name: scaled(1 + 2e-5)})
    chosen = choose()
    assert chosen.device == torch.device(name)
    assert chosen.reason == f"a pretended {name}; agrees with the CPU to 2e-05"


def test_cuda_comes_before_mps(monkeypatch: pytest.MonkeyPatch) -> None:
    machine_with(monkeypatch, {"cuda": none, "mps": none})
    assert choose().device == torch.device("cuda")


@pytest.mark.parametrize("name", ["cuda", "mps"])
@pytest.mark.parametrize(
    ("fault", "size"),
    [(scaled(1.05), "5.0e-02"), (scaled(1 + 2e-4), "2.0e-04"), (scaled(math.nan), "inf")],
    ids=["wrong by 5 %", "just too far off", "NaN"],
)
def test_a_device_that_disagrees_is_left_aside_and_the_reason_names_it_and_the_size(
    monkeypatch: pytest.MonkeyPatch, name: str, fault: Fault, size: str
) -> None:
    machine_with(monkeypatch, {name: fault})
    chosen = choose()
    assert chosen.device == torch.device("cpu")
    assert f"{name} disagrees with the CPU by {size} on a small model (allowed: 1e-04)" in chosen.reason


def test_after_a_faulty_device_the_next_one_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    machine_with(monkeypatch, {"cuda": scaled(2.0), "mps": none})
    assert choose().device == torch.device("mps")


@pytest.mark.parametrize("error", [NotImplementedError, TypeError])  # for an operation, and for a dtype
def test_a_device_that_cannot_run_the_small_model_is_left_aside_and_the_reason_quotes_it(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def fault(values: list[Tensor]) -> list[Tensor]:
        raise error("The operator 'aten::softplus' is not implemented for MPS\nand much more")

    machine_with(monkeypatch, {"mps": fault})
    chosen = choose()
    assert chosen.device == torch.device("cpu")
    assert "mps cannot run a small model: The operator 'aten::softplus' is not implemented for MPS" in chosen.reason
    assert "much more" not in chosen.reason


@pytest.mark.parametrize("wanted", ["cpu", torch.device("cpu")], ids=repr)
def test_a_device_asked_for_is_taken(wanted: torch.device | str) -> None:
    chosen = choose(wanted)
    assert chosen.device == torch.device("cpu")
    assert chosen.reason == "asked for"


@pytest.mark.parametrize("name", ["cuda", "mps", "cuda:1"])
@pytest.mark.parametrize("use", [choose, devices.resolve, lambda name: Mamba2LM(device=name)])
def test_a_device_that_is_not_here_is_an_error_that_says_what_is(
    monkeypatch: pytest.MonkeyPatch, name: str, use: Callable[[str], object]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with raises(ValueError, f"device must be one that is here: cpu; got '{name}'"):
        use(name)


def test_a_device_of_a_number_that_is_not_here_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert devices.resolve("cuda") == torch.device("cuda") and devices.resolve("cuda:1") == torch.device("cuda:1")
    for name in ("cuda:2", "cpu:1"):
        with raises(ValueError, f"device must be one that is here: cpu, cuda; got '{name}'"):
            devices.resolve(name)


def test_meta_counts_parameters_and_is_no_device_to_compute_on() -> None:
    assert devices.resolve("meta") == torch.device("meta")
    with raises(ValueError, "device must be 'cpu', 'cuda' or 'mps'; got 'meta'"):
        choose("meta")


@pytest.mark.parametrize("name", ["tpu", "xpu", "vulkan", "CPU", "", 3, 1.5], ids=repr)
@pytest.mark.parametrize("use", [choose, devices.resolve])
def test_an_unknown_device_is_an_error_that_says_which_there_are(name: object, use: Callable[[object], object]) -> None:
    with raises(ValueError, f"device must be 'cpu', 'cuda' or 'mps'; got {name!r}"):
        use(name)


# The report


def test_the_report_names_choice_system_python_torch_and_every_device(monkeypatch: pytest.MonkeyPatch) -> None:
    machine_with(monkeypatch, {"mps": scaled(1.05)})
    lines = dict(line.split(maxsplit=1) for line in summary().replace("computing on", "choice").splitlines())
    assert lines["choice"].startswith("cpu: a pretended cpu; no cuda, mps disagrees with the CPU by 5.0e-02")
    assert platform.system() in lines["system"] and "cores" in lines["system"]
    assert lines["python"] == platform.python_version()
    assert lines["torch"] == torch.__version__
    assert lines["cuda"] == "not available"
    assert lines["mps"] == "a pretended mps"


@pytest.mark.parametrize("off", [torch.no_grad, torch.inference_mode])
def test_the_self_test_works_where_gradients_are_switched_off(off):
    """Else a notebook that only generates would be told that its graphics card is broken."""
    with off():
        assert self_test("cpu") == 0
        assert not torch.is_grad_enabled()
