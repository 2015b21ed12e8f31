"""Caches saved and loaded, bit for bit; and files that hold none of this model, refused by name."""

from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from support.caches import MODEL, assert_identical, cache_after
from support.oracle.mamba2 import raises
from support.small_models import random_ids, small_model

from mamba2_lab import Mamba2LM
from mamba2_lab.inspect import load_cache, save_cache
from mamba2_lab.machine.untrusted import CheckpointError


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("d_conv", [1, 4])
def test_a_saved_cache_comes_back_bit_for_bit(tmp_path: Path, dtype: torch.dtype, d_conv: int) -> None:
    model = small_model(ngroups=2, d_conv=d_conv).cpu().to(dtype)
    for name, cache in (("new", model.new_cache(3)), ("read", cache_after(9, 3, model=model))):
        save_cache(cache, tmp_path / name, model.config)
        assert_identical(load_cache(tmp_path / name, model.config), cache)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "read"]


@torch.no_grad()
def test_a_cache_of_learned_initial_states_can_be_saved(tmp_path: Path) -> None:
    """Its rows are one and the same memory."""
    model = small_model(learnable_init_states=True)
    save_cache(model.new_cache(3), tmp_path / "cache", model.config)
    assert_identical(load_cache(tmp_path / "cache", model.config), model.new_cache(3).to("cpu"))


@torch.no_grad()
def test_a_cache_that_grows_comes_back_bit_for_bit_and_goes_on(tmp_path: Path) -> None:
    model = Mamba2LM(d_model=16, n_layer=2, mixers=["mamba2", "attention"], mamba2={"headdim": 8}, seed=0)
    ids, mask = random_ids(3, 9), torch.arange(9) < torch.tensor([[9], [4], [1]])
    _, read = model.prefill(ids, attention_mask=mask)
    _, stepped = model.step(ids[:, 0], read)
    for name, cache in (("new", model.new_cache(3)), ("read", read), ("stepped", stepped)):
        save_cache(cache, tmp_path / name, model.config)
        loaded = load_cache(tmp_path / name, model.config)
        assert [layer.tensors().keys() for layer in loaded.layers] == [layer.tensors().keys() for layer in cache.layers]
        for one, other in zip(loaded.layers, cache.layers, strict=True):
            assert all(map(torch.equal, one.tensors().values(), other.tensors().values()))
        assert torch.equal(model.step(ids[:, 1], loaded)[0], model.step(ids[:, 1], cache)[0])


@torch.no_grad()
def test_a_growing_cache_whose_parts_do_not_belong_together_is_refused(tmp_path: Path) -> None:
    path, model = tmp_path / "cache", Mamba2LM(d_model=16, n_layer=1, mixers="attention", seed=0)
    save_cache(model.prefill(random_ids(1, 5))[1], path, model.config)
    with safetensors.safe_open(path, framework="pt") as file:
        metadata, held = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}
    for change, said in (
        ({"layers.0.real": torch.ones(1, 4) > 0}, "layers.0.real: expected (1, 5); found (1, 4)"),
        ({"layers.0.keys": torch.ones(1, 5, 2, 4)}, "layers.0.keys: expected (1, 5, 4, 4); found (1, 5, 2, 4)"),
        ({"layers.0.keys": torch.ones(3)}, "layers.0.keys: expected (1, 4, 4); found (3,)"),
        ({"layers.0.values": torch.ones(2, 5, 4, 4)}, "layers.0.values: expected (1, 5, 4, 4); found (2, 5, 4, 4)"),
    ):
        safetensors.torch.save_file({**held, **change}, path, metadata=metadata)
        with raises(CheckpointError, said):
            load_cache(path, model.config)
    del held["layers.0.keys"]
    safetensors.torch.save_file(held, path, metadata=metadata)
    with raises(CheckpointError, "layers.0.keys: expected (1, 0, 4, 4); found none"):
        load_cache(path, model.config)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("n_layer", 3, ["3", "2"]),
        ("headdim", 16, ["16", "8"]),
        ("dt_limit", (0.0, 0.5), ["(0.0, 0.5)", "(0.0, inf)"]),
        ("norm_before_gate", True, ["True", "False"]),
        ("norm_eps", 1e-6, ["1e-06", "1e-05"]),
    ],
)
def test_a_cache_of_another_config_is_refused(tmp_path: Path, field: str, value: Any, said: list[str]) -> None:
    path = tmp_path / "cache"
    save_cache(cache_after(), path, MODEL.config)
    other = type(MODEL.config).from_dict({**MODEL.config.to_dict(), field: value})
    with raises(CheckpointError, str(path), f"{field}: expected a cache of a model with {said[0]}; found {said[1]}"):
        load_cache(path, other)
    with raises(ValueError, "cache must fit the config") if field in ("n_layer", "headdim") else raises(OSError):
        save_cache(cache_after(), tmp_path / "cache" / "in a file", other)


def test_files_that_hold_no_whole_cache_are_refused(tmp_path: Path) -> None:
    path, config = tmp_path / "cache", MODEL.config
    with raises(FileNotFoundError, "no cache at", str(path)):
        load_cache(path, config)
    with raises(CheckpointError, str(tmp_path), "found no regular file"):
        load_cache(tmp_path, config)
    safetensors.torch.save_file({"w": torch.ones(2)}, path)
    with raises(CheckpointError, "expected a cache that save_cache wrote"):
        load_cache(path, config)
    save_cache(cache_after(), path, config)
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    with raises(CheckpointError, str(path), "expected a cache, a safetensors file"):
        load_cache(path, config)
    path.write_bytes(whole)
    with safetensors.safe_open(path, framework="pt") as file:
        metadata, held = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}
    for change, said in (
        (
            {"layers.1.ssm_state": torch.ones(1, 4, 8, 7)},
            "layers.1.ssm_state: expected (1, 4, 8, 8); found (1, 4, 8, 7)",
        ),
        ({"layers.2.ssm_state": torch.ones(1)}, "layers.2.ssm_state: expected no such tensor; found (1,)"),
        ({"tokens_read": torch.ones(2)}, "expected (2, 3, 64); found (1, 3, 64)"),
    ):
        safetensors.torch.save_file({**held, **change}, path, metadata=metadata)
        with raises(CheckpointError, said):
            load_cache(path, config)
    safetensors.torch.save_file(
        {name: held[name] for name in held if name != "layers.0.conv_window"}, path, metadata=metadata
    )
    with raises(CheckpointError, "layers.0.conv_window: expected (1, 3, 64); found none"):
        load_cache(path, config)


def test_a_loaded_cache_does_not_hang_on_its_file(tmp_path: Path) -> None:
    """Which may be written again, or be removed: Windows removes none that is in use."""
    path, cache = tmp_path / "cache", cache_after()
    save_cache(cache, path, MODEL.config)
    loaded = load_cache(path, MODEL.config)
    with path.open("r+b") as file:
        file.write(bytes(path.stat().st_size))
    assert_identical(loaded, cache)
