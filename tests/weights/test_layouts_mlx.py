"""Folders for mlx-lm: it loads them as they stand, and computes and writes what we do. (Its build for the CPU.)"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.families import family_model
from support.oracle.mamba2 import raises
from support.saved_models import assert_same_but_for_padding, read
from support.small_models import random_ids, small_model

from mamba2_lab import MambaLM, convert, load_tokenizer
from mamba2_lab.text import prompt_ids

PROMPT = "class Node:\n    def __init__(self"


@pytest.fixture(scope="module")
def mlx_lm() -> Any:
    pytest.importorskip("mlx.core", reason="MLX is not installed here")
    return pytest.importorskip("mlx_lm", reason="mlx-lm is not installed here")


def their_logits(model: Any, ids: torch.Tensor) -> np.ndarray:
    import mlx.core as mx

    return np.array(model(mx.array(ids.numpy())).astype(mx.float32))


@torch.no_grad()
def assert_agrees(model: MambaLM, theirs: Any, ids: torch.Tensor) -> None:
    """To 1e-4 of the largest logit."""
    ours, found = model(ids).numpy(), their_logits(theirs, ids)
    assert np.abs(found - ours).max() <= 1e-4 * np.abs(ours).max()


def test_a_model_in_the_box_computes_and_writes_the_same(tmp_path: Path, mlx_lm: Any) -> None:
    convert("medium", tmp_path / "medium", "mlx")
    theirs, tokenizer = mlx_lm.load(str(tmp_path / "medium"))
    ours, own = MambaLM.from_pretrained("medium"), load_tokenizer("medium")
    ids = prompt_ids(own, PROMPT)
    assert tokenizer.encode(PROMPT) == ids
    assert tokenizer.eos_token_ids == {own.end_of_text}
    assert_agrees(ours, theirs, torch.tensor([ids]))
    written = ours.generate(torch.tensor([ids]), max_new_tokens=24, temperature=0.0)[0, len(ids) :].tolist()
    assert mlx_lm.generate(theirs, tokenizer, PROMPT, max_tokens=24) == own.decode(written)


VARIANTS: list[Any] = [
    {},
    {"tie_embeddings": False, "bias": True, "conv_bias": False},
    {"dt_limit": (0.01, 0.2), "d_conv": 2, "expand": 3},
    "mamba1",
    "falcon",
]


def model_of(what: Any) -> MambaLM:
    return (small_model(**what) if isinstance(what, dict) else family_model(what)).cpu()


@pytest.mark.parametrize("what", VARIANTS, ids=str)
def test_variants_compute_the_same(tmp_path: Path, mlx_lm: Any, what: Any) -> None:
    model = model_of(what)
    model.save_pretrained(tmp_path, layout="mlx")
    theirs, _ = mlx_lm.utils.load_model(tmp_path)
    assert_agrees(model, theirs, random_ids(2, 37))


@pytest.mark.parametrize("what", VARIANTS, ids=str)
def test_there_and_back_bit_for_bit(tmp_path: Path, what: Any) -> None:
    model = model_of(what)
    model.save_pretrained(tmp_path, layout="mlx")
    assert_same_but_for_padding(MambaLM.from_pretrained(tmp_path), model)


@pytest.mark.parametrize("what", [{}, "mamba1"], ids=str)
def test_what_older_versions_ask_for_is_there(tmp_path: Path, what: Any) -> None:
    model_of(what).save_pretrained(tmp_path, layout="mlx")
    found = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    assert (found["intermediate_size"], found["rms_norm"], found["dtype"]) == (32, True, "float32")
    if what == {}:
        assert found["time_step_limit"] == [0.0, float("inf")]


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ({"ngroups": 2}, "mlx-lm's norm has no ngroups; it must be 1 to convert, got 2"),
        ({"norm_eps": 1e-6}, "mlx-lm has no norm_eps; it must be 1e-05 to convert, got 1e-06"),
        ({"d_conv": 1}, "mlx-lm has no convolution of one token; d_conv must be at least 2 to convert, got 1"),
        ({"norm_before_gate": True}, "transformers' Mamba2 has no norm_before_gate"),
        ("mamba3-siso", "a Mamba-1 or a Mamba-2 alone can be made a transformers model; got one of mamba3"),
        ("hybrid", "a Mamba-1 or a Mamba-2 alone can be made a transformers model"),
    ],
)
def test_what_mlx_lm_would_compute_otherwise_is_refused(tmp_path: Path, what: Any, message: str) -> None:
    with raises(ValueError, message):
        model_of(what).save_pretrained(tmp_path / "out", layout="mlx")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("changes", [{"ngroups": 2}, {"norm_eps": 1e-2}], ids=str)
def test_what_is_refused_would_be_wrong_there(tmp_path: Path, mlx_lm: Any, changes: dict[str, Any]) -> None:
    """Or the refusal could go. mlx-lm reads what transformers' layout says of it."""
    model = small_model(**changes).cpu()
    model.save_pretrained(tmp_path, layout="transformers")
    found = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    more = {"intermediate_size": 32, "time_step_rank": "auto", "time_step_limit": [0.0, 1e9]}
    (tmp_path / "config.json").write_text(json.dumps({**found, **more}), encoding="utf-8")
    theirs, _ = mlx_lm.utils.load_model(tmp_path)
    ids = random_ids(1, 9)
    with torch.no_grad():
        ours = model(ids).numpy()
    assert np.abs(their_logits(theirs, ids) - ours).max() > 1e-3 * np.abs(ours).max()


def test_half_precision_is_written_and_said(tmp_path: Path) -> None:
    convert("small", tmp_path / "small", "mlx", dtype="bfloat16")
    assert {tensor.dtype for tensor in read(tmp_path / "small").values()} == {torch.bfloat16}
    assert json.loads((tmp_path / "small" / "config.json").read_text(encoding="utf-8"))["dtype"] == "bfloat16"
