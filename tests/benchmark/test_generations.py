"""The generations are timed on models that compute what they should, at one size, and counted as they are."""

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mamba2_lab.benchmark import Timing, measures, suite
from mamba2_lab.benchmark.measures import contestants, generations
from mamba2_lab.config import PRESETS

NAMES = ["Mamba-2", "Mamba-1", "Mamba-3", "Mamba-3 MIMO", "transformer"]


@pytest.fixture
def few_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """Layers as they are, and a vocabulary that costs nothing."""
    monkeypatch.setitem(PRESETS, "130m", {"d_model": 768, "vocab_size": 40})


def tokens(l: int) -> Tensor:
    return contestants.random_ids("130m", (1, l), "cpu")


@torch.no_grad()
def logits_after(name: str, ids: Tensor) -> Tensor:
    return generations.new_generation(name, "cpu", 1)(ids)[:, -1]


def test_every_generation_reads_the_prompt(few_words: None) -> None:
    works: dict[str, Any] = measures.generations_prefill("cpu", n_layer=1, l=9)
    assert list(works) == NAMES
    for name, work in works.items():
        logits, cache = work()
        torch.testing.assert_close(logits, logits_after(name, tokens(9)), rtol=1e-4, atol=1e-5)
        assert not logits.requires_grad and cache.tokens_read.tolist() == [9]


def test_mixers_are_those_that_their_names_say() -> None:
    kinds = {}
    for name in NAMES:
        block = generations.new_generation(name, "meta", 1).blocks[0]
        kinds[name] = (type(block.mixer).__name__, getattr(block.mixer.config, "rank", None), block.mlp is not None)
    assert kinds == {
        "Mamba-2": ("Mamba2", None, False),
        "Mamba-1": ("Mamba1", 48, False),  # of the step sizes: d_model / 16
        "Mamba-3": ("Mamba3", 1, False),
        "Mamba-3 MIMO": ("Mamba3", 4, False),
        "transformer": ("Attention", None, True),
    }


def test_writing_goes_on_and_now_and_then_goes_back(few_words: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generations, "CALLS_IN_A_ROW", 2)
    works, ids = measures.generations_decode("cpu", n_layer=1, l=3), tokens(3)
    for name, work in works.items():
        for steps in (8, 16, 8):
            written = torch.cat([ids, ids[:, :1].expand(1, steps)], dim=1)
            torch.testing.assert_close(work(), logits_after(name, written), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("dtype", "within"), [("float32", 1e-4), ("bfloat16", 3e-2)])
def test_every_generation_learns(few_words: None, dtype: str, within: float) -> None:
    works: dict[str, Any] = measures.generations_training("cpu", n_layer=1, b=2, l=9, dtype=dtype)
    ids = contestants.random_ids("130m", (2, 10), "cpu")
    for name, work in works.items():
        with torch.no_grad():
            logits = generations.new_generation(name, "cpu", 1)(ids[:, :-1])
        first, second = work(), work()
        assert float(first) == pytest.approx(float(F.cross_entropy(logits.mT, ids[:, 1:])), rel=within), name
        assert second < first and not second.requires_grad


def test_in_bfloat16_weights_are_rounded_for_reading_and_kept_for_learning(few_words: None) -> None:
    read: dict[str, Any] = measures.generations_prefill("cpu", n_layer=1, l=9, dtype="bfloat16")
    for name, work in read.items():
        logits, cache = work()
        exact = logits_after(name, tokens(9))
        assert 1e-4 < float((logits - exact).norm() / exact.norm()) < 0.1, name
        assert cache.layers[0].tensors()["keys" if name == "transformer" else "ssm_state"].dtype == (
            torch.bfloat16 if name == "transformer" else torch.float32
        )


def test_all_have_about_as_many_weights() -> None:
    weights = measures.generations_parameters("cpu", n_layer=24, l=1)
    assert list(weights) == NAMES
    assert weights["Mamba-2"] == 128_989_632 and weights["Mamba-1"] == 129_135_360 + 8 * 768  # as published
    for name in ("Mamba-1", "Mamba-3", "transformer"):
        assert abs(weights[name] / weights["Mamba-2"] - 1) < 0.02, name
    assert 1.1 < weights["Mamba-3 MIMO"] / weights["Mamba-2"] < 1.15


@pytest.mark.parametrize("l", [1, 7])
def test_what_is_kept_is_counted_and_grows_for_attention_alone(few_words: None, l: int) -> None:
    window, head, step = 3, 24 * 64 * 128, 24 * 32  # of a convolution; states (h,p,n) and turns (h,s)
    numbers = {
        "Mamba-2": window * (1536 + 2 * 128) + head,
        "Mamba-1": window * 1536 + 1536 * 16,
        "Mamba-3": head + step + 24 * 128 + 1536,
        "Mamba-3 MIMO": head + step + 24 * 4 * 128 + 1536,
        "transformer": l * 2 * 768,
    }
    expected = {name: 2 * 4 * count for name, count in numbers.items()}
    expected["transformer"] += 2 * l  # whether a token is real: a byte
    assert measures.generations_state("cpu", n_layer=2, l=l) == expected


def test_records_tell_tokens_and_weights_and_so_does_the_table(
    few_words: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    short: dict[str, Any] = {"generations-prefill": {"l": 5}, "generations-training": {"b": 2, "l": 3}}
    for name, entry in suite.GENERATIONS.items():
        changes: Any = {"settings": {"n_layer": 1, **short.get(name, {})}, "over": {"l": [2, 3]} if entry.over else {}}
        monkeypatch.setitem(suite.SUITE, name, replace(entry, **changes))
    monkeypatch.setattr(suite, "measure", lambda works, *_: dict.fromkeys(works, Timing(2.0, 1.0, 3.0, 5)))
    found = list(suite.run([*suite.GENERATIONS], "cpu"))
    assert [records[0].tokens for records in found] == [5, 1, 6]
    counts = measures.generations_parameters("cpu", n_layer=1)
    for records in found:
        assert {record.contestant: record.parameters for record in records} == counts
        assert all(record.settings["n_layer"] == 1 for record in records)
    assert found[0][0].bytes is None and found[2][0].bytes
    kept = [record.bytes for record in found[1]]
    assert kept == [size for l in (2, 3) for size in measures.generations_state("cpu", n_layer=1, l=l).values()]
    reading, writing = suite.table(found[0]).splitlines(), suite.table(found[1]).splitlines()
    assert reading[0] == "generations-prefill: n_layer 1, l 5" and len(reading) == 1 + len(NAMES)
    assert reading[1].split() == [*"Mamba-2 2000.00 ms (1000.00 to 3000.00) x 1.00 2 tokens/s 3.8 M weights".split()]
    assert [line for line in writing if line.startswith("generations")] == [
        f"generations-decode: n_layer 1, l {l}" for l in (2, 3)
    ]
    assert writing[1].split()[-2:] == ["0.8", "MiB"] and writing[1].split()[1:3] == ["250.00", "ms"]


def test_half_precision_is_measured_on_cuda_alone_as_written_and_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"{name}-bfloat16" for name in suite.GENERATIONS]
    monkeypatch.setattr(suite, "can_compile", lambda kind: True)
    assert set(names) <= set(suite.names_for("cuda")) and not set(names) & set(suite.names_for("cpu"))
    for name in names:
        points = suite.SUITE[name].points()
        assert {point["dtype"] for point in points} == {"bfloat16"}
        assert {point["compiled"] for point in points} == {False, True}
    monkeypatch.setattr(suite, "can_compile", lambda kind: False)
    assert not set(names) & set(suite.names_for("cuda"))
