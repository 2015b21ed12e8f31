"""Models saved and loaded: they compute what they did, in the dtype asked for; a save that fails spoils nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support.saved_models import assert_same, read_config
from support.small_models import random_ids, small_model

from mamba2_lab import Mamba2LM, load_tokenizer
from mamba2_lab.text import ByteTokenizer
from mamba2_lab.weights.layouts import LAYOUTS


def test_a_loaded_model_computes_what_the_saved_one_did_and_can_be_trained(tmp_path):
    model, ids = small_model(), random_ids(2, 9)
    model.save_pretrained(tmp_path)
    loaded = Mamba2LM.from_pretrained(str(tmp_path))
    assert torch.equal(loaded(ids), model(ids))
    loaded(ids).sum().backward()
    assert all(parameter.grad is not None for parameter in loaded.parameters())


def test_what_is_done_to_a_loaded_model_does_not_reach_the_file(tmp_path):
    model = small_model()
    model.save_pretrained(tmp_path)
    loaded = Mamba2LM.from_pretrained(tmp_path)
    with torch.no_grad():
        for parameter in loaded.parameters():
            parameter.zero_()
    assert_same(Mamba2LM.from_pretrained(tmp_path), model)


def test_weights_are_read_in_the_dtype_that_is_asked_for(tmp_path):
    model = small_model().to(torch.bfloat16)
    model.save_pretrained(tmp_path)
    assert_same(Mamba2LM.from_pretrained(tmp_path), model.float())  # exact: float32 holds every bfloat16
    small = Mamba2LM.from_pretrained(tmp_path, dtype=torch.float16)
    assert {parameter.dtype for parameter in small.parameters()} == {torch.float16}


def test_a_tokenizer_travels_with_the_model(tmp_path):
    small_model().save_pretrained(tmp_path, tokenizer=ByteTokenizer())
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.decode(tokenizer.encode("né")) == "né"


def test_a_model_saved_without_a_tokenizer_says_so(tmp_path):
    small_model().save_pretrained(tmp_path)
    with pytest.raises(FileNotFoundError, match="has no tokenizer: expected a file"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("layout", ["ours", "official"])
def test_a_model_is_of_the_class_that_asks_for_it(tmp_path, layout):
    class Own(Mamba2LM):
        pass

    small_model().save_pretrained(tmp_path, layout=layout)
    own = Own.from_pretrained(tmp_path)
    assert type(own) is Own
    assert_same(own, small_model())


def test_every_folder_is_of_one_layout(tmp_path, official_folder):
    """Whichever of them is asked first."""
    small_model().save_pretrained(tmp_path / "ours")
    folders = {"ours": tmp_path / "ours", "official": official_folder}
    found = {name: read_config(folder) for name, folder in folders.items()}
    found["transformers"] = {"model_type": "mamba2", "hidden_size": 16}
    for name, config in found.items():
        assert [layout.__name__.rpartition(".")[2] for layout in LAYOUTS if layout.recognises(config)] == [name]


def no_space(*_, **__) -> None:
    raise OSError("disk full")


def half_a_file(_, path, **__) -> None:
    Path(path).write_bytes(b"half")
    no_space()


@pytest.mark.parametrize(
    ("function", "failing"),
    [("safetensors.torch.save_file", half_a_file), ("mamba2_lab.weights.loading.write_text", no_space)],
    ids=["in the weights", "in the config"],
)
def test_a_save_that_fails_leaves_the_old_model_whole_and_no_other_file(tmp_path, monkeypatch, function, failing):
    old = small_model(seed=1)
    old.save_pretrained(tmp_path)
    before = sorted(path.name for path in tmp_path.iterdir())

    monkeypatch.setattr(function, failing)
    with pytest.raises(OSError, match="disk full"):
        small_model(seed=2, n_layer=1).save_pretrained(tmp_path)

    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert_same(Mamba2LM.from_pretrained(tmp_path), old)
