"""The models in the box are what their cards say, and come out of the script beside them."""

import hashlib
import json

import pytest
import torch

from mamba2_lab import Mamba2LM, checkpoint, load_tokenizer
from mamba2_lab.data import standard_library
from mamba2_lab.pretrained import train
from mamba2_lab.training import bits_per_byte

BOX = checkpoint.models_in_the_box()


def record_of(name: str) -> dict:
    return json.loads((checkpoint.BOX / name / "record.json").read_text(encoding="utf-8"))


def test_there_is_a_small_model_in_the_box() -> None:
    assert "small" in BOX


@pytest.mark.parametrize("name", BOX)
def test_the_weights_are_those_of_the_record(name: str) -> None:
    weights = (checkpoint.BOX / name / checkpoint.WEIGHTS_NAME).read_bytes()
    record = record_of(name)
    assert hashlib.sha256(weights).hexdigest() == record["sha256"]
    assert len(weights) == record["bytes"]


@pytest.mark.parametrize("name", BOX)
def test_the_card_is_made_from_the_record(name: str) -> None:
    assert (checkpoint.BOX / name / "README.md").read_text(encoding="utf-8") == train.card(record_of(name))


def test_the_small_model_is_small() -> None:
    assert record_of("small")["bytes"] <= 3_000_000
    assert Mamba2LM.from_pretrained("small").num_parameters() == record_of("small")["parameters"]


def test_the_small_model_predicts_files_it_never_saw_about_as_well_as_its_card_says() -> None:
    """This machine's library is not quite that of the card, so the bound is loose; untrained it would be 8 bits."""
    names = ("operator.py", "runpy.py", "asyncio/locks.py")
    documents = [document for document in standard_library().held_out if document.name in names]
    model, tokenizer = Mamba2LM.from_pretrained("small"), load_tokenizer("small")
    assert abs(bits_per_byte(model, documents, tokenizer) - record_of("small")["bits_per_byte"]) < 0.25


def test_the_script_writes_a_model_that_loads_with_a_record_of_how_it_was_made(tmp_path, capsys, monkeypatch) -> None:
    one_file = standard_library().held_out[:1]
    corpus = type(standard_library())(one_file, one_file)
    monkeypatch.setattr(train, "standard_library", lambda: corpus)
    monkeypatch.setitem(train.RECIPES, "small", train.TrainingConfig(batch_size=2, length=16))
    train.main(["small", "--steps", "3", "--device", "cpu", "--folder", str(tmp_path)])
    record = json.loads((tmp_path / "record.json").read_text(encoding="utf-8"))
    assert record["tokens"] == 3 * 2 * 16
    assert [point["step"] for point in record["curve"]] == [0, 1, 2]
    assert record["command"] == "python -m mamba2_lab.pretrained.train small --steps 3"
    model = Mamba2LM.from_pretrained(tmp_path)
    measured = bits_per_byte(model, one_file, load_tokenizer(tmp_path))
    assert round(measured, 4) == record["bits_per_byte"]
    assert f"{measured:.4f} bits per byte" in capsys.readouterr().out
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
