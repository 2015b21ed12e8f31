"""Models in folders: what is there, what is changed there, and whether two models are the same in every bit."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

from mamba2_lab import Mamba2LM, MambaLM
from mamba2_lab.config import StackFields
from mamba2_lab.machine.untrusted import CheckpointError

WEIGHTS = "model.safetensors"
COMMON_VARIANTS = [
    {},
    {"tie_embeddings": False},
    {"ngroups": 2},
    {"bias": True, "conv_bias": False},
    {"dt_limit": (0.01, 0.2)},
    {"dt_limit": (0.01, math.inf)},
    {"d_conv": 2, "expand": 1, "n_layer": 3, "pad_vocab_size_multiple": 16},
]
OFFICIAL_VARIANTS = [*COMMON_VARIANTS, {"norm_before_gate": True}]
ALL_VARIANTS = [*OFFICIAL_VARIANTS, {"learnable_init_states": True}, {"norm_eps": 1e-6, "dt_min": 0.01}]


def assert_same(one: Mamba2LM, two: Mamba2LM) -> None:
    """Every weight equal in every bit, NaN included, and the same configuration."""
    assert one.config == two.config
    assert_same_weights(one, two)


def assert_same_weights(one: Mamba2LM, two: Mamba2LM) -> None:
    first, second = one.state_dict(), two.state_dict()
    assert first.keys() == second.keys()
    for name in first:
        assert_same_bits(first[name], second[name], name)


def assert_same_but_for_padding(back: MambaLM, model: MambaLM) -> None:
    """The same in every bit, but for the rows that only pad the vocabulary, and fields that matter to new models alone:
    what other layouts hold."""
    first, second, rows = back.state_dict(), model.state_dict(), model.config.vocab_size
    assert first.keys() == second.keys()
    for name in first:
        padded = name in ("embedding.weight", "lm_head.weight")
        assert_same_bits(first[name], second[name][:rows] if padded else second[name], name)
    kept = [_that_matter(config) for config in (back.config, model.config)]
    assert kept[0] == kept[1]


def _that_matter(config: StackFields) -> dict[str, Any]:
    """By name; a rank of "auto" as the number that it stands for."""
    lost = ("pad_vocab_size_multiple", "A_init_range")
    fields = {name: value for name, value in config.to_dict().items() if name not in lost}
    if (mixer := config.mixer_fields_by_name.get("mamba1")) is not None:
        fields["mamba1"] = {**fields["mamba1"], "dt_rank": mixer.rank}
    return fields


def assert_same_bits(one: Tensor, two: Tensor, name: str) -> None:
    assert (one.dtype, one.shape) == (two.dtype, two.shape), name
    bits = {2: torch.int16, 4: torch.int32}[one.element_size()]
    assert torch.equal(one.contiguous().view(bits), two.contiguous().view(bits)), name


def assert_refused(folder: Path, beginning: str) -> str:
    """It is no model of ours, which is said in words that begin so: what is said."""
    with pytest.raises(CheckpointError) as caught:
        Mamba2LM.from_pretrained(folder)
    said = str(caught.value)
    assert said.startswith(beginning), said
    return said


def read(folder: Path, name: str = WEIGHTS) -> dict[str, Tensor]:
    return safetensors.torch.load_file(folder / name)


def write(folder: Path, weights: dict[str, Tensor]) -> None:
    safetensors.torch.save_file(weights, folder / WEIGHTS)


def read_config(folder: Path) -> dict:
    return json.loads((folder / "config.json").read_text(encoding="utf-8"))


def write_config(folder: Path, config: object) -> None:
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")


def change_weights(change: Callable[[dict[str, Tensor]], object]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        weights = read(folder)
        change(weights)
        write(folder, weights)

    return damage


def change_config(**changes) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        config = {**read_config(folder), **changes}
        write_config(folder, {name: value for name, value in config.items() if value is not ...})

    return damage
