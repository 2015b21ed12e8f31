"""How many kernels the emulated mps device is asked for, how many bytes they move, and where the host waits.

Runs where MAMBA2_LAB_DEVICE is emulated-mps, with the kernels of our own compiled for the CPU. What it refuses is a
fallback: an operation without a kernel for mps, and float64. Not run on Apple hardware.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from mps.emulation import Work, recording
from mps.test_operations import MODELS, SHRUNK, STACK, make_model, some_ids
from support.families import FAMILIES
from support.oracle.mamba2 import relative_error

from mamba2_lab import stream
from mamba2_lab.config import PRESETS, Mamba2Config
from mamba2_lab.fast.metal import sequence
from mamba2_lab.layers import Block
from mamba2_lab.operation import plainly
from mamba2_lab.scan.chunks import in_stretches
from mamba2_lab.training import next_token_loss
from mamba2_lab.weights import with_weights
from mamba2_lab.weights.stored import ROUNDED

# Kernels per layer and decoded token: with those of our own, and without at most. As torch computes it, the norm is one
# kernel on mps; by group it has no weight to take along, and mps makes it of six.
OF_MAMBA2 = (5, 23)
KERNELS = {
    "groups": (5, 27),
    "norm before gate": (5, 27),
    "mamba1": (6, 23),
    "falcon": (6, 38),
    "mamba3-siso": (4, 68),
    "mamba3-mimo": (9, 85),  # with an MLP
    "attention": (35, 36),  # and here
}
# of 1,024 tokens, per layer, likewise
OF_A_PROMPT = {"small": (23, 62), "groups": (23, 72), "norm before gate": (23, 72)}
OF_TRAINING = {
    "mamba2": 205,
    "mamba1": 440,
    "mamba3-siso": 720,
}  # at most, per layer, both passes
MOST_BYTES = 1.15  # that a token moves through a layer, in units of the least possible
LARGE: dict[str, dict[str, Any]] = {
    **{name: {**PRESETS[name], "vocab_size": 64} for name in ("small", "medium", "130m")},
    "Mamba-1, 130m": {"d_model": 768, "vocab_size": 64, "mixers": "mamba1"},
    "Mamba-3, 130m": {"d_model": 768, "vocab_size": 64, "mixers": "mamba3"},
}
BY_FAMILY = {name: {**STACK, **FAMILIES[name]} for name in ("mamba1", "mamba3-siso", "mamba3-mimo", "attention")}
EVERY_FAMILY = {"mamba2": SHRUNK, **BY_FAMILY, "hybrid": STACK | FAMILIES["hybrid"]}
NAMES = [name for name, fields in MODELS.items() if name == next(n for n in MODELS if MODELS[n] == fields)]

with_and_without = pytest.mark.parametrize("without", [0, 1], ids=["with kernels of our own", "without"])
WITH = ("with those of our own", "without those of our own")


def on_mps(fields: dict[str, Any], depth: int = 2) -> Any:
    return make_model({**fields, "n_layer": depth}).to("mps")


def wanted(monkeypatch: pytest.MonkeyPatch, without: int) -> None:
    monkeypatch.setenv("MAMBA2_LAB_METAL", "0" if without else "1")


# Kernels


def assert_few(counted: int, few: tuple[int, int], without: int) -> None:
    """With ours exactly so many: fewer would mean that some are not counted. Without about as many, and no more."""
    assert (0.9 if without else 1) * few[without] <= counted <= few[without]


def decoding(fields: dict[str, Any], dtype: torch.dtype = torch.float32) -> list[Work]:
    """A token by a model of one layer, and by one of two."""
    works = []
    for depth in (1, 2):
        model = on_mps(fields, depth).to(dtype)
        with torch.no_grad():
            _, cache = model.prefill(some_ids(1, 5))
            model.step(torch.tensor([3]), cache)  # in which kernels of our own prove themselves
            with recording() as work:
                model.step(torch.tensor([3]), cache)
        works.append(work)
    return works


@with_and_without
@pytest.mark.parametrize("name", NAMES)
def test_a_decoded_token_takes_few_kernels_per_layer(name: str, without: int, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted(monkeypatch, without)
    one, two = decoding(MODELS[name])
    per_layer = len(two.kernels) - len(one.kernels)
    besides = len(one.kernels) - per_layer
    print(f"{name}: {per_layer} kernels per layer and decoded token, {besides} besides, {WITH[without]}")
    assert_few(per_layer, KERNELS.get(name, OF_MAMBA2), without)
    assert two.to_host == []
    assert two.to_device == ["copy_"]  # the token's id


@pytest.mark.parametrize("weights", ROUNDED)
def test_a_token_of_stored_weights_takes_as_few(weights: str) -> None:
    counts, token = [], torch.tensor([3])
    for depth in (1, 2):
        model = with_weights(make_model({**MODELS["small"], "n_layer": depth}), weights)
        with torch.no_grad():
            with plainly():
                _, cache = model.prefill(some_ids(1, 5))
                expected, _ = model.step(token, cache)
            model, cache = model.to("mps"), cache.to("mps")
            model.step(token, cache)
            with recording() as work:
                found, _ = model.step(token, cache)
        assert relative_error(found.cpu(), expected) <= 1e-5
        counts.append(len(work.kernels))
    print(f"small, {weights}: {counts[1] - counts[0]} kernels per layer and decoded token, {WITH[0]}")
    assert counts[1] - counts[0] == OF_MAMBA2[0], work.kernels


@with_and_without
@pytest.mark.parametrize("name", OF_A_PROMPT)
def test_a_prompt_takes_few_kernels_per_layer(name: str, without: int, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted(monkeypatch, without)
    counts, ids = [], some_ids(1, 1024)
    for depth in (1, 2):
        model = on_mps({**MODELS[name], "chunk_size": 64}, depth)
        with torch.no_grad():
            model.prefill(ids)  # in which kernels of our own prove themselves
            with recording() as work:
                model.prefill(ids)
        counts.append(len(work.kernels))
    print(f"{name}: {counts[1] - counts[0]} kernels per layer and prompt of 1,024 tokens, {WITH[without]}")
    assert_few(counts[1] - counts[0], OF_A_PROMPT[name], without)
    assert work.to_host == []


@pytest.mark.parametrize("name", OF_TRAINING)
def test_a_training_step_takes_so_many_kernels_per_layer(name: str) -> None:
    counts, ids = [], some_ids(1, 257)
    fields = {**SHRUNK, "chunk_size": 64} if name == "mamba2" else BY_FAMILY[name]
    for depth in (1, 2):
        model = on_mps(fields, depth)
        with recording() as work:
            loss = next_token_loss(model(ids[:, :-1]), ids[:, 1:].to("mps"))
            loss.backward()
        counts.append(len(work.kernels))
    print(f"{name}, training: {counts[1] - counts[0]} kernels per layer of a step's forward and backward pass")
    assert 0.9 * OF_TRAINING[name] <= counts[1] - counts[0] <= OF_TRAINING[name]


# Bytes


def least_bytes(layer: Block) -> int:
    """Every weight read once, the state read and written, and a row of the residual stream, too."""
    weights = sum(weight.nbytes for weight in layer.parameters())
    state = sum(tensor.nbytes for tensor in layer.mixer.initial_state(1).tensors().values())
    return weights + 2 * state + 2 * 4 * layer.mixer.config.d_model


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", LARGE)
def test_a_decoded_token_moves_few_bytes(name: str, dtype: torch.dtype) -> None:
    one, two = (sum(work.bytes) for work in decoding(LARGE[name], dtype))
    least = least_bytes(on_mps(LARGE[name], 1).to(dtype).blocks[0])
    print(
        f"{name}, {str(dtype).removeprefix('torch.')}: {two - one:,} bytes moved per layer and decoded token, "
        f"{least:,} at least: {(two - one) / least:.3f}"
    )
    assert 1 <= (two - one) / least <= MOST_BYTES


BANDWIDTHS = {"M1": 68e9, "M4": 120e9}  # bytes per second, as Apple gives them


def test_the_scan_of_a_prompt_is_chosen_by_the_counts_that_its_docstring_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    config: Any = Mamba2Config(**PRESETS["130m"]).layer(0).fields
    h, p, n, length = config.nheads, config.headdim, config.d_state, 1024

    def scan(l: int) -> Work:
        shapes = (1, l, h, p), (1, l, h), (1, l, 1, n), (1, l, 1, n), (1, h, p, n)
        x, log_decay, B, C, state = (-torch.rand(shape).to("mps") for shape in shapes)
        with torch.no_grad(), recording() as work:
            in_stretches(x, log_decay, B, C, state, 64)
        return work

    monkeypatch.setenv("MAMBA2_LAB_METAL", "0")
    chunks = scan(length)
    products = [size for name, size in zip(chunks.kernels, chunks.bytes, strict=True) if name == "bmm.out"]
    monkeypatch.setenv("MAMBA2_LAB_METAL", "1")
    scan(8)  # in which it proves itself
    shorter = scan(8)
    assert shorter.kernels == ["scan"]
    by_token = 4 * (2 * h * p + h + 2 * n)
    state = 2 * 4 * h * p * n
    assert sum(shorter.bytes) == 8 * by_token + state
    said = " ".join(str(sequence.__doc__).split())
    for what, launches, moved in (
        ("chunk by chunk", len(chunks.kernels), sum(chunks.bytes)),
        ("its products, if all else were free", len(products), sum(products)),
        ("token by token", 1, length * by_token + state),
    ):
        m1, m4 = (f"{1e3 * moved / bandwidth:.1f} ms" for bandwidth in BANDWIDTHS.values())
        row = f"{what} {launches} {moved / 1e6:.0f} MB {m1} {m4}"
        print(f"130m, the scan of 1,024 tokens: {row}")
        assert row in said
    least, most = (1e-3 * each * len(chunks.kernels) for each in (5, 20))
    assert f"{len(chunks.kernels)} such launches take {least:.1f} to {most:.1f} ms" in said
    from_cache = length * 2 * n * 4 * h * p // sequence.ROWS
    m1, m4 = (f"{1e3 * from_cache / bandwidth:.1f}" for bandwidth in BANDWIDTHS.values())
    assert f"{from_cache / 1e6:.0f} MB in all, which from memory would take {m1} and {m4} ms" in said


# Where the host waits


def written(fields: dict[str, Any], **settings: Any) -> Work:
    """Ten tokens of a text."""
    tokens = stream(make_model(fields).to("mps"), [1, 2, 3], max_new_tokens=20, **settings)
    next(tokens), next(tokens)  # in which kernels of our own prove themselves
    with recording() as work:
        for _ in range(10):
            next(tokens)
    return work


@with_and_without
@pytest.mark.parametrize("name", EVERY_FAMILY)
def test_a_decoded_token_makes_the_host_wait_once_and_needs_nothing_that_a_mac_lacks(
    name: str, without: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted(monkeypatch, without)
    work = written(EVERY_FAMILY[name], temperature=0)
    assert work.to_host == ["copy_"] * 10  # for the logits
    assert work.to_device == ["copy_"] * 10
    assert work.dtypes <= {"Float", "Long", "Int", "Bool"}


def test_what_draws_a_token_does_not_wait_for_the_device() -> None:
    work = written(SHRUNK, seed=0, top_k=9, repetition_penalty=1.2)
    assert (work.to_host, work.to_device) == (["copy_"] * 10, ["copy_"] * 10)
