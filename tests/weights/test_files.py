"""Weights files that are damaged, foreign or pickles: refused by name, and nothing in them run."""

from __future__ import annotations

import json
import pickle
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from support.saved_models import WEIGHTS, assert_refused, assert_same, change_weights
from support.small_models import small_model

from mamba2_lab import Mamba2LM
from mamba2_lab.machine.untrusted import CheckpointError


def change_bytes(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        path = folder / WEIGHTS
        path.write_bytes(change(path.read_bytes()))

    return damage


def header_that_lies(content: bytes) -> bytes:
    """One tensor longer than the file."""
    header = json.dumps({"norm_f.weight": {"dtype": "F32", "shape": [1000], "data_offsets": [0, 4000]}}).encode()
    return struct.pack("<Q", len(header)) + header + b"\0" * 16


BROKEN = "expected a whole safetensors file; found one that cannot be read: "
DAMAGE = {
    "cut in the tensors": (change_bytes(lambda content: content[:-10]), BROKEN),
    "cut in the header": (change_bytes(lambda content: content[:100]), BROKEN),
    "cut in the length": (change_bytes(lambda content: content[:5]), BROKEN),
    "empty": (change_bytes(lambda _: b""), BROKEN),
    "text": (change_bytes(lambda _: b"<html>404: not found</html>"), BROKEN),
    "a header that lies": (change_bytes(header_that_lies), BROKEN),
    "bytes added": (change_bytes(lambda content: content + b"more"), BROKEN),
    "integers": (
        change_weights(lambda w: w.update({"norm_f.weight": torch.ones(16, dtype=torch.int64)})),
        "norm_f.weight: expected a dtype of F64, F32, F16, BF16; found I64",
    ),
    "one byte a number": (
        change_weights(lambda w: w.update({"layers.0.mixer.D": torch.ones(4, dtype=torch.uint8)})),
        "layers.0.mixer.D: expected a dtype of F64, F32, F16, BF16; found U8",
    ),
    "another shape": (
        change_weights(lambda w: w.update({"norm_f.weight": torch.ones(17)})),
        "norm_f.weight: expected shape (16,); found (17,)",
    ),
    "another rank": (
        change_weights(lambda w: w.update({"layers.1.mixer.A_log": torch.ones(4, 1)})),
        "layers.1.mixer.A_log: expected shape (4,); found (4, 1)",
    ),
    "transposed": (
        change_weights(
            lambda w: w.update({"layers.0.mixer.out_proj.weight": w["layers.0.mixer.out_proj.weight"].T.contiguous()})
        ),
        "layers.0.mixer.out_proj.weight: expected shape (16, 32); found (32, 16)",
    ),
    "a tensor missing": (
        change_weights(lambda w: w.pop("layers.1.mixer.conv1d.bias")),
        "layers.1.mixer.conv1d.bias: expected a tensor of shape (48,); found none",
    ),
    "a tensor too many": (
        change_weights(lambda w: w.update({"layers.2.norm.weight": torch.ones(16)})),
        "layers.2.norm.weight: expected no such tensor for this config; found one",
    ),
    "a head that is not tied": (
        change_weights(lambda w: w.update({"lm_head.weight": w["embedding.weight"] + 1})),
        "lm_head.weight: expected the embedding's weights, as the config ties them; found others",
    ),
    "no tensors": (
        change_weights(lambda w: w.clear()),
        "embedding.weight: expected a tensor of shape (264, 16); found none",
    ),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_weights_file_is_refused_with_file_key_expectation_and_finding(folder, damage, message):
    damage(folder)
    assert_refused(folder, f"{folder / WEIGHTS}: {message}")


def test_a_checkpoint_error_is_a_value_error():
    assert issubclass(CheckpointError, ValueError)


def test_a_header_is_read_only_if_it_is_short(folder, unbuilt):
    entries = {f"t{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(100_000)}
    header = json.dumps(entries).encode()
    (folder / WEIGHTS).write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(CheckpointError, match="expected a header of at most 4,000,000 bytes; found 6,"):
        Mamba2LM.from_pretrained(folder)


class Trap:
    """Unpickling this makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_the_trap_works(tmp_path):
    pickle.loads(pickle.dumps(Trap(tmp_path / "sprung")))
    assert (tmp_path / "sprung").exists()


@pytest.mark.parametrize("name", ["model.bin", "model.pt", "model.pth", "last.ckpt", "weights.pkl"])
def test_a_pickle_of_another_name_is_refused_with_the_reason_and_is_never_opened(folder, tmp_path_factory, name):
    sprung = tmp_path_factory.mktemp("trap") / "sprung"
    (folder / WEIGHTS).unlink()
    (folder / name).write_bytes(pickle.dumps(Trap(sprung)))
    expected = f"{folder / name}: expected {WEIGHTS} or pytorch_model.bin; found a pickle of another name"
    said = assert_refused(folder, expected)
    assert "unpickling runs whatever code the file holds" in said
    if name != "model.bin":  # which may be asked for by its name
        assert assert_refused(folder / name, expected) == said
    assert not sprung.exists()


def test_a_pickle_that_calls_itself_safetensors_is_refused_and_not_unpickled(folder, tmp_path_factory):
    sprung = tmp_path_factory.mktemp("trap") / "sprung"
    (folder / WEIGHTS).write_bytes(pickle.dumps(Trap(sprung)))
    assert_refused(folder, f"{folder / WEIGHTS}: {BROKEN}")
    assert not sprung.exists()


def test_a_pickle_beside_the_weights_is_ignored(folder):
    (folder / "pytorch_model.bin").write_bytes(b"whatever")
    assert_same(Mamba2LM.from_pretrained(folder), small_model())
