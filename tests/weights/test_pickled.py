"""pytorch_model.bin from a stranger: the weights that torch.save wrote, or a refusal by name, and nothing is run."""

from __future__ import annotations

import json
import os
import pickle
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from support.forged_pickles import Called, Forged, Storage, honest, pickled, write_archive
from support.published import PUBLISHED, write_shards
from support.saved_models import assert_refused, assert_same
from support.small_models import small_model
from support.strange_files import needs_posix, of_strange_files, soon
from torch import Tensor, nn

from mamba2_lab import Mamba2LM
from mamba2_lab.machine.untrusted import CheckpointError
from mamba2_lab.weights import pickled as reader

NAME = "pytorch_model.bin"
BROKEN = "expected weights as torch.save writes them; found "
Weights = dict[str, Tensor]


# What torch.save writes


def as_parameters(weights: Weights) -> object:
    return {name: nn.Parameter(tensor) for name, tensor in weights.items()}


def in_one_buffer(weights: Weights) -> object:
    buffer = torch.cat([torch.ones(3), *(tensor.flatten() for tensor in weights.values())])
    parts = buffer[3:].split([tensor.numel() for tensor in weights.values()])
    return {name: part.view_as(weights[name]) for name, part in zip(weights, parts, strict=True)}


def transposed(weights: Weights) -> object:
    return {name: tensor.mT.contiguous().mT if tensor.ndim > 1 else tensor for name, tensor in weights.items()}


def every_second_row(weights: Weights) -> object:
    return {name: torch.repeat_interleave(tensor, 2, dim=0)[::2] for name, tensor in weights.items()}


WAYS: dict[str, Callable[[Weights], object]] = {
    "a dict": dict,
    "a state dict, with a head of the same numbers": lambda weights: small_model().state_dict(),
    "parameters": as_parameters,
    "of gradients": lambda weights: {name: tensor.requires_grad_() for name, tensor in weights.items()},
    "views of one buffer": in_one_buffer,
    "transposed": transposed,
    "strided": every_second_row,
    "in another precision": lambda weights: {name: tensor.double() for name, tensor in weights.items()},
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
def test_whatever_weights_are_saved_as_they_are_read_bit_for_bit(
    folder: Path, weights: Weights, way: Callable[[Weights], object]
) -> None:
    torch.save(way(weights), folder / NAME)
    loaded = Mamba2LM.from_pretrained(folder)
    assert_same(loaded, small_model())
    assert all(parameter.is_contiguous() and parameter.is_leaf for parameter in loaded.parameters())


@pytest.mark.parametrize("place", ["cuda:0", "cuda:7", "mps", "xla:0"])
def test_weights_that_were_saved_on_another_device_are_read_on_the_cpu(
    folder: Path, weights: Weights, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(torch.serialization, "location_tag", lambda storage: place)
        torch.save(weights, folder / NAME)
    assert_same(Mamba2LM.from_pretrained(folder), small_model())


def test_what_is_written_over_the_file_does_not_reach_the_model(folder: Path, weights: Weights) -> None:
    """It is no longer mapped: else the weights would change with the file, or the process end with it."""
    torch.save(weights, folder / NAME)
    model = Mamba2LM.from_pretrained(folder)
    os.truncate(folder / NAME, 0)
    assert_same(model, small_model())


# What is no weights


def without(name: str) -> Callable[[Weights], object]:
    return lambda weights: {key: tensor for key, tensor in weights.items() if key != name}


D = "layers.0.mixer.D"
NOT_WEIGHTS: dict[str, tuple[Callable[[Weights], object], str]] = {
    "integers": (
        lambda w: {**w, D: w[D].long()},
        f"{D}: expected a DoubleStorage, FloatStorage, HalfStorage, BFloat16",
    ),
    "switches": (lambda w: {**w, D: w[D] > 0}, f"{D}: expected a DoubleStorage"),
    "complex numbers": (lambda w: {**w, D: w[D].to(torch.complex64)}, f"{D}: expected a DoubleStorage"),
    "numbers of 8 bits": (lambda w: {**w, D: w[D].to(torch.float8_e4m3fn)}, BROKEN),
    "a sparse tensor": (
        lambda w: {**w, D: w[D].to_sparse()},
        f"{BROKEN}'torch._utils._rebuild_sparse_tensor', which is",
    ),
    "a step": (lambda w: {**w, "step": 3}, "step: expected a tensor; found int"),
    "a rate": (lambda w: {**w, "rate": 0.1}, "rate: expected a tensor; found float"),
    "a name": (lambda w: {**w, "name": "x"}, "name: expected a tensor; found str"),
    "nothing": (lambda w: {**w, "nothing": None}, "nothing: expected a tensor; found NoneType"),
    "a model inside": (lambda w: {"model": w, "step": 3}, "model: expected a tensor; found dict"),
    "an optimiser": (lambda w: {**w, "optimizer": {"state": {0: w[D]}}}, "optimizer: expected a tensor; found dict"),
    "a list": (lambda w: {**w, "history": [1, 2]}, "history: expected a tensor; found list"),
    "a pair": (lambda w: {**w, "betas": (0.9, 0.95)}, "betas: expected a tensor; found tuple"),
    "tensors in a list": (lambda w: list(w.values()), "expected a dict of tensors; found list"),
    "one tensor": (lambda w: w[D], "expected a dict of tensors; found Tensor"),
    "names that are none": (lambda w: dict(enumerate(w.values())), "expected the name of a tensor; found 0"),
    "a tensor missing": (without(D), f"{D}: expected a tensor of shape (4,); found none"),
    "a tensor too many": (lambda w: {**w, "more": w[D]}, "more: expected no such tensor for this config; found one"),
    "another shape": (lambda w: {**w, D: torch.ones(5)}, f"{D}: expected shape (4,); found (5,)"),
}


@pytest.mark.parametrize(("change", "said"), NOT_WEIGHTS.values(), ids=NOT_WEIGHTS.keys())
def test_whatever_else_stands_in_the_file_is_refused_with_its_name(
    folder: Path, weights: Weights, unread: None, change: Callable[[Weights], object], said: str
) -> None:
    torch.save(change(weights), folder / NAME)
    assert_refused(folder, f"{folder / NAME}: {said}")


# What would be run


def test_no_code_is_run_and_what_it_would_be_is_said(folder: Path, weights: Weights, tmp_path_factory) -> None:
    """Neither by us nor, should we fail, by torch; the same pickle runs where it is just unpickled."""
    sprung = tmp_path_factory.mktemp("trap") / "sprung"
    trap = Called(os.mkdir, str(sprung))
    torch.save({**weights, D: trap}, folder / NAME)
    said = assert_refused(
        folder, f"{folder / NAME}: {BROKEN}'{os.mkdir.__module__}.mkdir', which is not needed for tensors"
    )
    assert said.endswith("may run code; nothing was run")
    assert not sprung.exists()
    pickle.loads(pickle.dumps(trap))
    assert sprung.exists()


def test_torch_refuses_it_too_in_the_same_form(folder: Path, weights: Weights, tmp_path_factory, monkeypatch) -> None:
    sprung = tmp_path_factory.mktemp("trap") / "sprung"
    torch.save({**weights, D: Called(os.mkdir, str(sprung))}, folder / NAME)
    monkeypatch.setattr(reader, "_declared_in", lambda path: {})
    with pytest.raises(CheckpointError, match=f"{NAME}: {BROKEN}Weights only load failed"):
        list(reader.tensors_in(folder / NAME))
    assert not sprung.exists()


def test_what_torch_reads_must_be_what_was_declared(folder: Path, weights: Weights, monkeypatch) -> None:
    """Two readers of an archive may not agree on what is in it."""
    torch.save(weights, folder / NAME)
    monkeypatch.setattr(torch, "load", lambda *_, **__: {**weights, D: weights[D].half()})
    assert_refused(folder, f"{folder / NAME}: {BROKEN}{D} is read as torch.float16 of shape")


GREEDY = {  # names that torch itself allows
    "an empty tensor as large as it likes": lambda: Called(torch.FloatTensor, 2**40),
    "a sparse one": lambda: torch.sparse_coo_tensor(size=(2**20, 2**20)),
    "a counter": lambda: Counter("ab"),
    "a set": lambda: {1, 2},
    "bytes": lambda: bytearray(b"ab"),
    "a size": lambda: torch.Size([1]),
    "a dtype": lambda: torch.float32,
    "a device": lambda: torch.device("cpu"),
    "a tensor on meta": lambda: torch.empty(2**40, device="meta"),
}


@pytest.mark.parametrize("make", GREEDY.values(), ids=GREEDY.keys())
def test_what_torch_would_allow_is_refused_unless_tensors_need_it(
    folder: Path, weights: Weights, unread: None, make: Callable[[], object]
) -> None:
    write_archive(folder / NAME, pickled({**honest(weights)[0], D: make()}), honest(weights)[1])
    assert_refused(folder, f"{folder / NAME}: {BROKEN}")


CODE: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "an item set in a tensor": (
        lambda code: pickled(Forged(Storage("0", 4), 0, (4,), (1,)))[:-1] + b"K\x00K\x01s.",
        "'_Tensor' object does not support item assignment",
    ),
    "room for things to remember without end": (
        lambda code: code[:-1] + b"r\xff\xff\xff\x7f.",
        "2,147,483,647 things to remember in ",
    ),
    "an instruction of another protocol": (
        lambda code: b"\x80\x04" + b"\x8c\x01a\x94.",
        "an instruction SHORT_BINUNICODE",
    ),
    "bytes without end": (lambda code: b"\x80\x02" + b"B\xff\xff\xff\x7f.", ""),
    "a text without end": (lambda code: b"\x80\x02" + b"X\xff\xff\xff\x7f.", ""),
    "an older class": (lambda code: b"\x80\x02(ios\nsystem\n.", "an instruction INST"),
    "no end": (lambda code: code[:-1], ""),
    "no beginning": (lambda code: code[9:], ""),
    "nothing": (lambda code: b"", ""),
    "text": (lambda code: b"hello", ""),
    "a stack that is too short": (lambda code: b"\x80\x02s.", ""),
    "a mark without an end": (lambda code: b"\x80\x02(((((.", ""),
    "a deep nest": (
        lambda code: b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".",
        "expected a dict of tensors; found list",
    ),
    "a megabyte of names": (
        lambda code: pickled(dict.fromkeys(map(str, range(50_000)), 1)),
        "0: expected a tensor; found int",
    ),
    "an attribute of a class": (
        lambda code: b"\x80\x02ccollections\nOrderedDict\n)R}X\x09\x00\x00\x00__class__N" + b"s\x86b.",
        "",
    ),
}


@pytest.mark.parametrize(("change", "said"), CODE.values(), ids=CODE.keys())
def test_a_pickle_that_torch_did_not_write_is_refused(
    folder: Path, weights: Weights, unread: None, change: Callable[[bytes], bytes], said: str
) -> None:
    content, records = honest(weights)
    write_archive(folder / NAME, change(pickled(content)), records)
    with soon():
        found = assert_refused(folder, f"{folder / NAME}: ")
    assert said in found


# The folder


@needs_posix
@of_strange_files
@pytest.mark.parametrize("name", [NAME, f"{NAME}.index.json", "pytorch_model-00001-of-00002.bin"])
def test_what_is_no_file_of_the_folder_is_refused_in_its_place(
    tmp_path: Path, unread: None, name: str, put, said
) -> None:
    folder = tmp_path / "model"
    tensors = PUBLISHED["state-spaces/mamba2-130m"].write(folder)
    if name != NAME:
        (folder / NAME).unlink()
        write_shards(folder, tensors, 2, pickled=True)
    put(folder / name)
    with soon():
        assert_refused(folder, f"{folder / name}: {said}")


@pytest.mark.parametrize(
    "named",
    ["../outside.bin", "/outside.bin", "..\\outside.bin", "C:outside.bin", "a.safetensors", "a.pt", "", 3, ["a.bin"]],
)
def test_an_index_leads_to_pickles_of_its_folder_and_nowhere_else(tmp_path: Path, unread: None, named: object) -> None:
    folder = tmp_path / "model"
    tensors = PUBLISHED["state-spaces/mamba2-130m"].write(folder)
    (folder / NAME).rename(tmp_path / "outside.bin")
    (folder / f"{NAME}.index.json").write_text(json.dumps({"weight_map": dict.fromkeys(tensors, named)}))
    name = next(iter(tensors))
    assert_refused(
        folder, f"{folder / NAME}.index.json: {name}: expected the name of a .bin file in this folder; found "
    )


def test_the_same_tensor_in_two_files_is_refused(tmp_path: Path, unread: None) -> None:
    tensors = PUBLISHED["state-spaces/mamba2-130m"].write(tmp_path)
    (tmp_path / NAME).unlink()
    write_shards(tmp_path, tensors, 2, pickled=True)
    one, two = sorted(tmp_path.glob("pytorch_model-*"))
    torch.save(tensors, two)
    name = min(reader.shapes_in(one))
    assert_refused(tmp_path, f"{two}: {name}: expected none, as {NAME}.index.json says; found one")
