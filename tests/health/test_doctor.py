"""The doctor finds what is wrong, and nothing where nothing is. (On an emulated mps device: tests/mps.)"""

import math

import numpy as np
import pytest
import torch
from support.oracle.mamba2 import raises

from mamba2_lab.generation import sampling
from mamba2_lab.health import report
from mamba2_lab.health.choice import TOLERANCE, small_model
from mamba2_lab.health.report import Check, Finding
from mamba2_lab.machine import devices


def finding(expected: list[float], found: list[float], allowed: float = 1e-4) -> Finding:
    check = Check(
        "a thing", lambda: {"value": torch.tensor(expected)}, lambda name: {"value": torch.tensor(found)}, allowed
    )
    (one,) = check.on(["cpu"])
    return one


@pytest.mark.parametrize(
    ("expected", "found", "error"),
    [
        ([1.0, -4.0], [1.0, -4.0], 0.0),
        ([1.0, -4.0], [1.1, -4.0], 0.025),
        ([1.0, -4.0], [1.0, -4.4], 0.1),
        ([0.0, 0.0], [0.0, 2.0], 2.0),
        ([1.0, -4.0], [1.0, math.nan], math.inf),
        ([1.0, -4.0], [-math.inf, -4.0], math.inf),
    ],
)
def test_an_error_is_the_largest_difference_relative_to_the_largest_value(
    expected: list[float], found: list[float], error: float
) -> None:
    assert finding(expected, found).error == pytest.approx(error, rel=1e-6)
    assert finding(expected, found).agrees == (error <= 1e-4)


@pytest.mark.parametrize("error", [NotImplementedError, TypeError, ValueError, FloatingPointError])
def test_what_cannot_be_computed_is_a_finding_that_quotes_the_reason(error: type[Exception]) -> None:
    def fail(name: str) -> report.Values:
        raise error(f"no kernel on {name}\nand more")

    (one,) = Check("a thing", lambda: {"value": torch.ones(1)}, fail).on(["mps"])
    assert (one.error, one.where, one.agrees) == (math.inf, "no kernel on mps", False)


def test_the_worst_value_is_named() -> None:
    expected = {name: torch.ones(2) for name in ("logits", "state", "window")}
    check = Check("a thing", lambda: expected, lambda name: {**expected, "state": torch.tensor([1.0, 1.5])})
    assert check.on(["cpu"]) == [Finding("a thing", 0.5, TOLERANCE, "state")]


def test_the_cpu_is_well_and_the_report_says_what_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "is_available", lambda name: name == "cpu")
    monkeypatch.setattr(report, "MODEL_CHECKS", [check for check in report.MODEL_CHECKS if "50" not in check.what])
    texts, agree = zip(*report.examine(), strict=True)
    assert agree == (True, True, True)
    assert "cuda          not available" in texts[0]
    assert "mps           not available: it needs a Mac with Apple Silicon" in texts[0]
    assert f"- cpu: all {len(report.OPERATIONS)} agree with float64 on the CPU" in texts[1]
    assert f"- cpu: all {len(report.MODEL_CHECKS)} agree with float64 on the CPU" in texts[2]


def test_fifty_steps_of_training_lower_the_loss() -> None:
    """Else a comparison of them would show little."""
    losses = report.learn(small_model(), torch.arange(210).reshape(3, 70) % 64)["loss"]
    assert losses.shape == (50,) and losses[-1] < losses[0] - 0.3


def test_the_report_is_markdown_with_the_faults_in_bold() -> None:
    rows = [
        [Finding("exp", 3e-8, 1e-5, ""), Finding("exp", 0.01, 1e-5, "gradient 1, split views")],
        [Finding("cat", 0.0, 1e-5, ""), Finding("cat", math.inf, 1e-5, "no kernel")],
    ]
    assert report._table(["cpu", "mps"], rows).splitlines() == [
        "| largest relative difference | allowed |     cpu |         mps |",
        "| --------------------------- | ------: | ------: | ----------: |",
        "| exp                         |   1e-05 | 3.0e-08 | **1.0e-02** |",
        "| cat                         |   1e-05 |   exact |     **inf** |",
    ]
    assert report._verdicts(["cpu", "mps"], rows).splitlines() == [
        "- cpu: all 2 agree with float64 on the CPU",
        "- **mps is wrong at exp**, by 1.0e-02 where 1e-05 is allowed: gradient 1, split views",
        "- **mps is wrong at cat**, by inf where 1e-05 is allowed: no kernel",
    ]


def test_a_device_that_is_not_here_is_an_error() -> None:
    with raises(ValueError, "device must be 'cpu', 'cuda' or 'mps'; got 'tpu'"):
        next(report.examine("tpu"))


def test_a_fallback_that_torch_was_told_to_make_in_silence_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "PYTORCH_ENABLE_MPS_FALLBACK" not in next(report.examine("cpu"))[0]
    monkeypatch.setenv("PYTORCH_ENABLE_MPS_FALLBACK", "1")
    assert "PYTORCH_ENABLE_MPS_FALLBACK is set" in next(report.examine("cpu"))[0]


def test_the_report_says_how_many_threads_compute_and_what_becomes_of_freed_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(report.threads, "report", lambda: [("threads", "of cotton"), ("waiting", "for none")])
    monkeypatch.setattr(report.freed_memory, "report", lambda: ("freed memory", "is lost"))
    lines = next(report.examine("cpu"))[0].splitlines()
    at = lines.index("threads       of cotton")
    assert lines[at + 1 : at + 3] == ["waiting       for none", "freed memory  is lost"]


# Faults of a kernel, planted on the float32 side


@pytest.mark.parametrize("only_for_views", [False, True])
def test_a_kernel_that_is_off_by_one_percent_is_found(only_for_views: bool) -> None:
    def wrong_exp(x: torch.Tensor) -> torch.Tensor:
        spared = x.dtype == torch.float64 or (only_for_views and x.is_contiguous())
        return torch.exp(x) * (1.0 if spared else 1.01)

    (one,) = report._operation("exp", wrong_exp, torch.randn(4, 5)).on(["cpu"])
    assert one.error == pytest.approx(0.01, rel=1e-2) and not one.agrees
    assert one.where.endswith("split views" if only_for_views else "contiguous")


def test_a_gradient_that_is_wrong_is_found_and_named() -> None:
    def wrong_gradient(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return x + (y if y.dtype == torch.float64 else y.detach() + 1.01 * (y - y.detach()))

    (one,) = report._operation("add", wrong_gradient, torch.randn(4, 5), torch.randn(4, 5)).on(["cpu"])
    assert one.error == pytest.approx(0.01, rel=1e-2)
    assert one.where == "gradient 2, contiguous"


def test_split_views_are_strided_and_hold_the_same_numbers() -> None:
    whole = torch.arange(12.0).reshape(3, 4)
    part = report._inside_a_larger_one(whole, "cpu")
    assert torch.equal(part, whole)
    assert not part.is_contiguous() and part.storage_offset() > 0


# The sampler


def test_the_exact_distribution_is_that_of_its_definition() -> None:
    logits = report._LOGITS.double().numpy() / 0.8
    order = np.argsort(-logits)
    shares = np.zeros(64)
    likeliest = np.exp(logits[order[:20]]) / np.exp(logits[order[:20]]).sum()
    total = 0.0
    for token, share in zip(order[:20], likeliest, strict=True):
        if total < 0.95:
            shares[token], total = share, total + share
    shares /= shares.sum()
    assert 5 < (shares > 0).sum() < 20  # so top-p takes something that top-k left
    np.testing.assert_allclose(report._exact_shares()["shares"].numpy(), shares, rtol=1e-12)


@pytest.mark.parametrize("fault", ["another temperature", "a token that was filtered out", "none"])
def test_draws_from_another_distribution_are_found(monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    def wrong(logits: torch.Tensor, config: sampling.SamplingConfig, generator: torch.Generator) -> torch.Tensor:
        if fault == "another temperature":
            config = sampling.SamplingConfig(1.0, config.top_k, config.top_p)
        drawn = sampling.sample(logits, config, generator)
        if fault == "a token that was filtered out":
            drawn[7] = int(report._exact_shares()["shares"].argmin())
        return drawn

    monkeypatch.setattr(report, "sample", wrong)
    (one,) = report.MODEL_CHECKS[-1].on(["cpu"])
    assert one.what == "20,000 draws"
    assert one.agrees == (fault == "none")
    if fault.startswith("a token"):
        assert one.where == "draws of tokens that were filtered out"
