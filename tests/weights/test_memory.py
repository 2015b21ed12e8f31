"""How much memory loading takes: the weights as they are kept, and one file of them as the system maps it."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from support.memory_apart import memory_of_loading
from support.published import PUBLISHED
from support.published_shapes import Shape

pytestmark = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads the memory of a process: on Linux")
SLACK = 30_000_000  # bytes: what Python and torch make on the way


def write_config(folder: Path) -> dict[str, Shape]:
    """That of mamba2-130m with fewer layers and tokens: 130 MB in float32. The shapes of its tensors."""
    published = PUBLISHED["state-spaces/mamba2-130m"]
    config = {**published.config, "n_layer": 8, "vocab_size": 4096}
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    return published.shapes(config)


def write_hollow_pickle(folder: Path) -> int:
    """One whose numbers are all zero, and take no room on the disk: its size."""
    tensors = {name: torch.empty(shape) for name, shape in write_config(folder).items()}
    tensors["lm_head.weight"] = tensors["backbone.embedding.weight"]
    with torch.serialization.skip_data():
        torch.save(tensors, folder / "pytorch_model.bin")
    return (folder / "pytorch_model.bin").stat().st_size


def write_hollow_shards(folder: Path) -> int:
    """The same as safetensors, a file for each layer and one for the rest: the size of the largest."""
    shapes = write_config(folder)
    del shapes["lm_head.weight"]
    parts: dict[str, dict[str, Shape]] = {}
    for name, shape in shapes.items():
        layer = name.split(".")[2] if ".layers." in name else "rest"
        parts.setdefault(f"model-{layer}.safetensors", {})[name] = shape
    for file, part in parts.items():
        write_hollow_safetensors(folder / file, part)
    index = {name: file for file, part in parts.items() for name in part}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    return max((folder / file).stat().st_size for file in parts)


def write_hollow_safetensors(path: Path, shapes: Mapping[str, Shape]) -> None:
    end, header = 0, {}
    for name, shape in shapes.items():
        begin, end = end, end + 4 * math.prod(shape)
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)


def test_loading_takes_the_weights_as_they_are_kept_and_one_file(tmp_path: Path) -> None:
    """What is mapped counts as resident, though the system may take it back at any time; the rest is the weights."""
    files = [write_hollow_pickle(tmp_path / "pickle"), write_hollow_shards(tmp_path / "shards")]
    for taken, file in zip(memory_of_loading("bfloat16", tmp_path / "pickle", tmp_path / "shards"), files, strict=True):
        assert taken.weights > 2 * SLACK
        assert taken.resident <= taken.weights + file + SLACK
        assert taken.anonymous <= taken.weights + SLACK
