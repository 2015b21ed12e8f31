"""Where models come from: the box, a folder, the folder of a training, the Hub and its cache."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from support.saved_models import WEIGHTS, assert_same
from support.small_models import small_model
from support.strange_files import needs_posix

from mamba2_lab import Mamba2LM, load_tokenizer
from mamba2_lab.machine.untrusted import CheckpointError
from mamba2_lab.text import ByteTokenizer
from mamba2_lab.weights import models_in_the_box, places


def test_a_folder_without_weights_or_config_says_which_file_is_missing(folder):
    (folder / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"has no model: expected a file config\.json"):
        Mamba2LM.from_pretrained(folder)
    (folder / WEIGHTS).unlink()
    with pytest.raises(FileNotFoundError, match=r"has no weights: expected model\.safetensors"):
        Mamba2LM.from_pretrained(folder)


@pytest.fixture
def box(tmp_path, monkeypatch) -> Path:
    small_model(seed=7).save_pretrained(tmp_path / "tiny", tokenizer=ByteTokenizer())
    small_model(seed=8).save_pretrained(tmp_path / "mini")
    (tmp_path / "no model").mkdir()
    monkeypatch.setattr(places, "BOX", tmp_path)
    return tmp_path


def test_a_model_in_the_box_is_found_by_its_name(box, hub):
    assert models_in_the_box() == ["mini", "tiny"]
    assert_same(Mamba2LM.from_pretrained("tiny"), small_model(seed=7))
    assert load_tokenizer("tiny").vocab_size == 257
    assert hub.requests == []


@pytest.mark.parametrize("source", ["tinny", "./tiny", "/no/such/folder", "~/no/such/folder", "a/b/c", Path("no/such")])
def test_an_unknown_model_is_refused_with_the_names_in_the_box_and_without_asking_the_hub(box, hub, source):
    with pytest.raises(FileNotFoundError) as caught:
        Mamba2LM.from_pretrained(source)
    assert str(caught.value) == (
        f"no model at {str(source)!r}: it is no folder, and the models in the box are: mini, tiny"
    )
    assert hub.requests == []


@needs_posix
@pytest.mark.parametrize("shared", [False, True], ids=["of one repository", "shared"])
def test_the_cache_of_the_hub_keeps_its_files_behind_links(tmp_path, shared):
    """cache/models--owner--name/snapshots/revision/file -> ../../blobs/hash, and that -> ../../blobs/0a/hash."""
    repository = tmp_path / "cache" / "models--owner--name"
    snapshot, blobs = repository / "snapshots" / "c1d2", repository / "blobs"
    small_model().save_pretrained(snapshot, tokenizer=ByteTokenizer())
    blobs.mkdir()
    for file in list(snapshot.iterdir()):
        file.rename(blobs / f"hash-of-{file.name}")
        file.symlink_to(Path("..", "..", "blobs", f"hash-of-{file.name}"))
    if shared:
        (tmp_path / "cache" / "blobs" / "0a").mkdir(parents=True)
        for blob in list(blobs.iterdir()):
            blob.rename(tmp_path / "cache" / "blobs" / "0a" / blob.name)
            blob.symlink_to(Path("..", "..", "blobs", "0a", blob.name))
    assert_same(Mamba2LM.from_pretrained(snapshot), small_model())
    assert load_tokenizer(snapshot).vocab_size == 257


@needs_posix
def test_a_link_from_a_snapshot_leads_to_blobs_and_nowhere_else(tmp_path):
    for place in ("models--owner--name/snapshots/c1d2", "snapshots/c1d2", "models--owner--name/c1d2"):
        small_model().save_pretrained(tmp_path / place)
    weights = tmp_path / "models--owner--name" / "snapshots" / "c1d2" / WEIGHTS
    for target in ("models--owner--name", "models--owner--name/snapshots", "models--owner--name/blobs-not", "."):
        elsewhere = tmp_path / target / "elsewhere.safetensors"
        elsewhere.parent.mkdir(exist_ok=True)
        weights.replace(elsewhere)
        weights.symlink_to(elsewhere)
        with pytest.raises(CheckpointError, match="found a link that leads out of it"):
            Mamba2LM.from_pretrained(weights.parent)
        elsewhere.replace(weights)
    (tmp_path / "blobs").mkdir()
    for place in ("snapshots/c1d2", "models--owner--name/c1d2"):  # no cache, though it has a folder of that name
        (tmp_path / place / WEIGHTS).rename(tmp_path / "blobs" / "x")
        (tmp_path / place / WEIGHTS).symlink_to(tmp_path / "blobs" / "x")
        with pytest.raises(CheckpointError, match="found a link that leads out of it"):
            Mamba2LM.from_pretrained(tmp_path / place)


def test_a_folder_that_looks_like_a_hub_id_is_a_folder(folder, hub, monkeypatch):
    shutil.copytree(folder, folder / "owner" / "name")
    monkeypatch.chdir(folder)
    assert_same(Mamba2LM.from_pretrained("owner/name"), small_model())
    assert hub.requests == []


def test_the_folder_of_a_training_stands_for_its_newest_checkpoint(tmp_path, monkeypatch):
    for step in (1, 2):
        Mamba2LM(d_model=16, n_layer=1, headdim=8, d_state=4, seed=step).save_pretrained(tmp_path / f"step-{step}")
    monkeypatch.setattr(places, "checkpoints", lambda folder: [folder / "step-1", folder / "step-2"])
    newest = Mamba2LM.from_pretrained(tmp_path)
    assert torch.equal(newest.embedding.weight, Mamba2LM.from_pretrained(tmp_path / "step-2").embedding.weight)
    Mamba2LM(d_model=16, n_layer=1, headdim=8, d_state=4, seed=3).save_pretrained(tmp_path)
    own = Mamba2LM.from_pretrained(tmp_path)  # a model of the folder's own comes first
    assert not torch.equal(own.embedding.weight, newest.embedding.weight)
    monkeypatch.setattr(places, "checkpoints", lambda folder: [])
    (tmp_path / "begun").mkdir()
    with pytest.raises(FileNotFoundError, match="begun has no"):
        Mamba2LM.from_pretrained(tmp_path / "begun")


@pytest.mark.parametrize("read", [Mamba2LM.from_pretrained, load_tokenizer])
def test_a_file_of_another_program_is_refused_by_its_name(tmp_path, read):
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF")
    with pytest.raises(CheckpointError, match=r"model\.gguf: expected a folder, its config\.json, or weights in it"):
        read(path)
