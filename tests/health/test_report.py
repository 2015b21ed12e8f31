"""The doctor says what is wrong, and nothing where nothing is. (On an emulated mps device: tests/mps.)"""

import math

import pytest
from support.oracle.mamba2 import raises

from mamba2_lab.health import operations, report, whole_model
from mamba2_lab.health.check import Finding
from mamba2_lab.machine import devices


def test_the_cpu_is_well_and_the_report_says_what_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "is_available", lambda name: name == "cpu")
    monkeypatch.setattr(whole_model, "CHECKS", [check for check in whole_model.CHECKS if "50" not in check.what])
    texts, agree = zip(*report.examine(), strict=True)
    assert agree == (True, True, True)
    assert "cuda          not available" in texts[0]
    assert "mps           not available: it needs a Mac with Apple Silicon" in texts[0]
    assert f"- cpu: all {len(operations.CHECKS)} agree with float64 on the CPU" in texts[1]
    assert f"- cpu: all {len(whole_model.CHECKS)} agree with float64 on the CPU" in texts[2]


def test_the_report_is_markdown_with_the_faults_in_bold() -> None:
    rows = [
        [Finding("exp", 3e-8, 1e-5, ""), Finding("exp", 0.01, 1e-5, "gradient 1, split views")],
        [Finding("cat", 0.0, 1e-5, ""), Finding("cat", math.inf, 1e-5, "no kernel")],
        [Finding("scan", 0.0, 1e-5, ""), Finding("scan", 0.5, 1e-5, "gradient 1", ("turn", "convolve"))],
    ]
    assert report.table(["cpu", "mps"], rows).splitlines() == [
        "| largest relative difference | allowed |     cpu |         mps |",
        "| --------------------------- | ------: | ------: | ----------: |",
        "| exp                         |   1e-05 | 3.0e-08 | **1.0e-02** |",
        "| cat                         |   1e-05 |   exact |     **inf** |",
        "| scan                        |   1e-05 |   exact | **5.0e-01** |",
    ]
    assert report.verdicts(["cpu", "mps"], rows).splitlines() == [
        "- cpu: all 3 agree with float64 on the CPU",
        "- **mps is wrong at exp**, by 1.0e-02 where 1e-05 is allowed: gradient 1, split views",
        "- **mps is wrong at cat**, by inf where 1e-05 is allowed: no kernel",
        "- **a faster way goes wrong on mps at scan**, by 5.0e-01 where 1e-05 is allowed: gradient 1. As it is defined "
        "mps computes it right: the fault is in a way of turn or convolve, or in what that alone asks of mps",
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
