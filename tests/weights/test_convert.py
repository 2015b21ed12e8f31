"""`convert`: whole folders for others, there and back bit for bit, and what is refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from support.families import family_model
from support.oracle.mamba2 import raises
from support.saved_models import (
    COMMON_VARIANTS,
    OFFICIAL_VARIANTS,
    assert_same,
    assert_same_bits,
    assert_same_but_for_padding,
    assert_same_weights,
    read,
)
from support.small_models import small_model

from mamba2_lab import MambaLM, convert, load_tokenizer
from mamba2_lab.machine import files
from mamba2_lab.text import BPETokenizer, ByteTokenizer, Tokenizer, prompt_ids
from mamba2_lab.weights import loading
from mamba2_lab.weights.convert import TO

PROMPT = "class Node:\n    def __init__(self"


def saved(model: MambaLM, folder: Path, tokenizer: Tokenizer | None = None) -> Path:
    model.save_pretrained(folder, tokenizer=tokenizer)
    return folder


# There and back


@pytest.mark.parametrize("what", [*COMMON_VARIANTS, "mamba1", "falcon"], ids=str)
def test_to_transformers_and_back_bit_for_bit(tmp_path: Path, what: Any) -> None:
    model = (small_model(**what) if isinstance(what, dict) else family_model(what)).cpu()
    convert(saved(model, tmp_path / "ours"), tmp_path / "theirs", "transformers")
    convert(tmp_path / "theirs", tmp_path / "back", "ours")
    assert_same_but_for_padding(MambaLM.from_pretrained(tmp_path / "back"), model)


def test_the_tokenizer_goes_there_and_back(tmp_path: Path) -> None:
    convert("small", tmp_path / "theirs", "transformers")
    convert(tmp_path / "theirs", tmp_path / "back", "ours")
    back, own = load_tokenizer(tmp_path / "back"), load_tokenizer("small")
    assert (back.vocab_size, back.end_of_text, back.opening) == (own.vocab_size, own.end_of_text, own.opening)
    assert back.encode("né\n") == own.encode("né\n")


@pytest.mark.parametrize("what", [*OFFICIAL_VARIANTS, "mamba1", "mamba3-mimo", "attention"], ids=str)
def test_to_the_official_layout_and_back_bit_for_bit(tmp_path: Path, what: Any) -> None:
    model = (small_model(**what) if isinstance(what, dict) else family_model(what)).cpu()
    convert(saved(model, tmp_path / "ours"), tmp_path / "theirs", "official")
    convert(tmp_path / "theirs", tmp_path / "back", "ours")
    assert_same(MambaLM.from_pretrained(tmp_path / "back"), model)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("to", [to for to in TO if to != "gguf"])
def test_every_layout_is_written_in_every_dtype(tmp_path: Path, to: str, dtype: str) -> None:
    model = small_model().cpu()
    done = convert(saved(model, tmp_path / "ours", ByteTokenizer()), tmp_path / "out", to, dtype=dtype)
    kind = getattr(torch, dtype)
    assert {tensor.dtype for tensor in read(done.path).values()} == {kind}
    back, expected = MambaLM.from_pretrained(done.path, dtype=kind).state_dict(), model.to(kind).state_dict()
    for name, tensor in back.items():
        assert_same_bits(tensor, expected[name][: len(tensor)], name)
    assert done.parameters == model.num_parameters()
    assert done.nbytes == sum(file.stat().st_size for file in done.path.iterdir()) and done.losses == ()


# For transformers


@pytest.fixture
def transformers() -> Any:
    return pytest.importorskip("transformers")


@pytest.mark.parametrize("name", ["small", "medium"])
def test_transformers_writes_the_same_greedy_text(tmp_path: Path, transformers: Any, name: str) -> None:
    convert(name, tmp_path / name, "transformers")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / name)
    their_tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / name)
    ours, tokenizer = MambaLM.from_pretrained(name), load_tokenizer(name)
    given = their_tokenizer(PROMPT, return_tensors="pt")
    assert given.input_ids.tolist() == [prompt_ids(tokenizer, PROMPT)]
    found = theirs.generate(**given, max_new_tokens=24, do_sample=False)
    expected = ours.generate(given.input_ids, max_new_tokens=24, temperature=0.0)
    assert found.tolist() == expected.tolist()
    assert their_tokenizer.decode(found[0], skip_special_tokens=True) == tokenizer.decode(expected[0].tolist())
    assert theirs.generation_config.eos_token_id == tokenizer.end_of_text
    assert theirs.config.vocab_size == tokenizer.vocab_size  # no token that nothing stands for can be drawn


@pytest.mark.parametrize("what", [*COMMON_VARIANTS, "mamba1", "falcon"], ids=str)
def test_transformers_reads_what_its_own_model_would_write(tmp_path: Path, transformers: Any, what: Any) -> None:
    model = (small_model(**what) if isinstance(what, dict) else family_model(what)).cpu()
    model.save_pretrained(tmp_path, layout="transformers")
    theirs, expected = transformers.AutoModelForCausalLM.from_pretrained(tmp_path), model.to_transformers()
    assert type(theirs) is type(expected)
    told = {"_name_or_path", "dtype", "torch_dtype", "transformers_version", "architectures"}
    fields, expected_fields = theirs.config.to_dict(), expected.config.to_dict()
    assert {name for name in fields | expected_fields if fields.get(name) != expected_fields.get(name)} <= told
    assert_same_weights(theirs, expected)


def test_a_folder_for_transformers_is_plain_json(tmp_path: Path) -> None:
    def no_constant(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    small_model().save_pretrained(tmp_path, layout="transformers")
    json.loads((tmp_path / "config.json").read_text(encoding="utf-8"), parse_constant=no_constant)


# What is said, and what is refused


def test_a_model_without_a_tokenizer_is_written_and_it_is_said(tmp_path: Path) -> None:
    small_model().save_pretrained(tmp_path / "ours")
    for to, target in (("transformers", "theirs"), ("gguf", "theirs.gguf")):
        [loss] = convert(tmp_path / "ours", tmp_path / target, to).losses
        assert loss.startswith("without a tokenizer, for none was found: ")
    assert sorted(path.name for path in (tmp_path / "theirs").iterdir()) == ["config.json", "model.safetensors"]


def test_a_damaged_tokenizer_is_an_error_and_not_left_out(tmp_path: Path) -> None:
    small_model().save_pretrained(tmp_path / "ours")
    (tmp_path / "ours" / "mamba2_lab_tokenizer.json").write_text("{", encoding="utf-8")
    with raises(ValueError, "mamba2_lab_tokenizer.json: expected JSON"):
        convert(tmp_path / "ours", tmp_path / "theirs", "transformers")
    assert not (tmp_path / "theirs").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"to": "onnx"}, "to must be one of ours, official, transformers, mlx, gguf; got 'onnx'"),
        ({"to": "mlx", "dtype": "q8_0"}, "dtype must be one of float32, float16, bfloat16 for mlx; got 'q8_0'"),
        ({"to": "gguf", "dtype": "q4_0"}, "dtype must be one of float32, float16, bfloat16, q8_0 for gguf; got 'q4_0'"),
        ({"to": "gguf"}, "target must be the name of a file, NAME.gguf; got "),
    ],
)
def test_a_wrong_setting_is_refused_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, str], message: str
) -> None:
    monkeypatch.setattr(loading, "locate", lambda source: pytest.fail("the model was looked for"))
    with raises(ValueError, message):
        convert("small", tmp_path / "out", **changes)


@pytest.mark.parametrize("to", TO)
def test_nothing_is_written_over(tmp_path: Path, to: str) -> None:
    target = tmp_path / "out.gguf"
    if to == "gguf":
        target.write_text("mine", encoding="utf-8")
    else:
        target.mkdir()
        (target / "mine.txt").write_text("mine", encoding="utf-8")
    expected = "new, for something is there" if to == "gguf" else "a new folder or an empty one, for something is there"
    with raises(FileExistsError, f"target must be {expected}; got {str(target)!r}"):
        convert("small", target, to)
    mine = target if to == "gguf" else target / "mine.txt"
    assert mine.read_text(encoding="utf-8") == "mine"
    assert [path.name for path in tmp_path.rglob("*")] == ["out.gguf", *([] if to == "gguf" else ["mine.txt"])]


def test_a_file_is_no_folder_and_a_folder_no_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    (tmp_path / "folder.gguf").mkdir()
    for target, to in (("file", "ours"), ("folder.gguf", "gguf")):
        with raises(FileExistsError, "target must be "):
            convert("small", tmp_path / target, to)


def test_an_empty_folder_is_as_good_as_none(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    convert("small", tmp_path / "out", "ours")
    assert_same(MambaLM.from_pretrained(tmp_path / "out"), MambaLM.from_pretrained("small"))


@pytest.mark.parametrize("to", TO)
def test_what_breaks_off_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to: str) -> None:
    """Ctrl-C, say, while the last of it is written."""

    def breaking_off(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    if to == "gguf":
        gguf = pytest.importorskip("gguf")
        monkeypatch.setattr(gguf.GGUFWriter, "write_tensor_data", breaking_off)
    else:
        monkeypatch.setattr(loading.text, "save", breaking_off)
        monkeypatch.setattr(loading.text, "save_for_transformers", breaking_off)
    with pytest.raises(KeyboardInterrupt):
        convert("small", tmp_path / "out.gguf", to)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("to", TO)
def test_a_disk_without_room_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to: str) -> None:
    usage = files.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(files.shutil, "disk_usage", lambda path: usage._replace(free=1_000_000))
    with raises(OSError, "target must be on a disk with 10"):
        convert("small", tmp_path / "new" / "out.gguf", to)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("to", ["ours", "transformers"])
def test_a_weight_that_float16_does_not_hold_is_refused_by_name(tmp_path: Path, to: str) -> None:
    model = small_model()
    with torch.no_grad():
        model.layers[1].mixer.in_proj.weight[3, 5] = 1e6
    model.save_pretrained(tmp_path / "ours")
    message = "dtype must be one that holds every weight, those of layers.1.mixer.in_proj.weight too; got 'float16'"
    with raises(ValueError, message):
        convert(tmp_path / "ours", tmp_path / "out", to, dtype="float16")
    assert not (tmp_path / "out").exists()
    convert(tmp_path / "ours", tmp_path / "out", to, dtype="bfloat16")


@pytest.mark.parametrize("family", ["mamba3-siso", "attention", "hybrid"])
@pytest.mark.parametrize("to", ["transformers", "mlx", "gguf"])
def test_a_family_that_others_do_not_have_is_refused_by_name(tmp_path: Path, family: str, to: str) -> None:
    family_model(family).save_pretrained(tmp_path / "ours")
    with raises(ValueError, "a Mamba-1 or a Mamba-2 alone"):
        convert(tmp_path / "ours", tmp_path / "out.gguf", to)
    assert not (tmp_path / "out.gguf").exists()


def test_without_its_package_a_file_for_llama_cpp_is_refused_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "gguf", None)
    monkeypatch.setattr(loading, "locate", lambda source: pytest.fail("the model was looked for"))
    with raises(ModuleNotFoundError, "files for llama.cpp need the package gguf: pip install gguf"):
        convert("small", tmp_path / "out.gguf", "gguf")


def test_progress_comes_to_its_end(tmp_path: Path) -> None:
    pytest.importorskip("gguf")
    shares: list[float] = []
    convert("small", tmp_path / "out.gguf", "gguf", on_progress=shares.append)
    assert shares == sorted(shares) and shares[-1] == 1.0 and len(shares) > 50


def test_a_tokenizer_that_llama_cpp_has_no_place_for_is_refused(tmp_path: Path) -> None:
    model = small_model(vocab_size=300)
    tokenizer = BPETokenizer.train(["a rose is a rose"], 270)
    described = tokenizer.to_dict()
    described["tokenizer"]["pre_tokenizer"]["pretokenizers"][0]["pattern"] = {"Regex": r"\w+|\W+"}
    model.save_pretrained(tmp_path / "ours", tokenizer=BPETokenizer.from_dict(described))
    with raises(ValueError, "tokenizer must cut text in a way that llama.cpp knows; got {"):
        convert(tmp_path / "ours", tmp_path / "out.gguf", "gguf")
