"""Folders to load, and what must not happen while they are."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support.published_configs import official2
from support.published_shapes import official_shapes
from support.saved_models import read, write, write_config
from support.small_models import small_model
from torch import Tensor

from mamba2_lab import Mamba2LM
from mamba2_lab.weights import loading


@pytest.fixture
def official_folder(tmp_path) -> Path:
    """As the official code writes it, but for the file's name: that of state-spaces/mamba2-130m, made small."""
    config = official2(64, 2, vocab_size=27)
    generator = torch.Generator().manual_seed(0)
    weights = {name: torch.rand(shape, generator=generator) - 0.5 for name, shape in official_shapes(config).items()}
    weights["lm_head.weight"] = weights["backbone.embedding.weight"].clone()
    write(tmp_path, weights)
    write_config(tmp_path, config)
    return tmp_path


@pytest.fixture
def folder(tmp_path) -> Path:
    small_model().save_pretrained(tmp_path)
    return tmp_path


@pytest.fixture
def unbuilt(monkeypatch) -> None:
    """Whoever builds a model or reads a tensor in this test fails."""

    def built(*_, **__) -> None:
        raise AssertionError("built, or read, before shapes and files agreed")

    monkeypatch.setattr(Mamba2LM, "__init__", built)
    monkeypatch.setattr(loading, "tensors_in", built)


@pytest.fixture
def weights(folder) -> dict[str, Tensor]:
    """Those of the small model, in whose folder no file of weights is left."""
    found = read(folder)
    (folder / "model.safetensors").unlink()
    return found


@pytest.fixture
def unread(monkeypatch) -> None:
    """torch reads no pickle in this test."""

    def load(*_, **__) -> None:
        raise AssertionError("read before it was looked at")

    monkeypatch.setattr(torch, "load", load)
