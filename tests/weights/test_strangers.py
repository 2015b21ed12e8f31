"""Folders from strangers, damaged in hundreds of ways: the right model or a refusal, soon, and nothing else opened."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.families import family_model
from support.loading_apart import TEXT, Apart
from support.many_tokenizers import codestral_like
from support.published import PUBLISHED
from support.small_models import small_model
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

from mamba2_lab import text
from mamba2_lab.text import BPETokenizer

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/statm").exists(), reason="bounds the memory of a process: on Linux"
)
SOON = 6  # seconds: a tokenizer is tried for two of the processor's, which a busy machine may make more
REFUSALS = ("CheckpointError", "FileNotFoundError")
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"


@pytest.fixture(scope="module")
def apart() -> Iterator[Apart]:
    process = Apart()
    yield process
    process.close()


# Whole folders, one of each kind


def write_sharded(folder: Path) -> None:
    """As transformers writes a large model, and a tokenizer with expressions of its own."""
    small_model(n_layer=1).save_pretrained(folder, layout="official")
    header, data = halves((folder / WEIGHTS).read_bytes())
    names = sorted(header.keys() - {"__metadata__"})
    file_of = {}
    for i, part in enumerate((names[::2], names[1::2]), start=1):
        content, offset, parts = {}, 0, []
        for name in part:
            begin, end = header[name]["data_offsets"]
            parts.append(data[begin:end])
            content[name] = {**header[name], "data_offsets": [offset, offset := offset + end - begin]}
            file_of[name] = f"model-{i}.safetensors"
        (folder / f"model-{i}.safetensors").write_bytes(joined(content, b"".join(parts)))
    (folder / WEIGHTS).unlink()
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": file_of}))


def write_third_generation(folder: Path) -> None:
    """As the official code writes a Mamba-3 with attention, MLPs between them."""
    changes = {"mixers": ["mamba3", "attention"], "attention": {"num_heads": 2}}
    family_model("mamba3-mimo", **changes).save_pretrained(folder, layout="official")


def write_pickle(folder: Path) -> None:
    """As the official code writes a model."""
    PUBLISHED["state-spaces/mamba-130m"].write(folder, d_model=16, n_layer=1, ssm_cfg={"d_state": 4})


def write_pieces(folder: Path) -> None:
    """As transformers writes a tokenizer."""
    tokens = ["<unk>", "<s>", "</s>", *"▁abdefr", "▁a", "de"]
    made = Tokenizer(
        models.BPE({token: i for i, token in enumerate(tokens)}, [("▁", "a"), ("d", "e")], unk_token="<unk>")
    )
    made.normalizer = normalizers.Replace(" ", "▁")
    made.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    made.decoder = decoders.Replace("▁", " ")
    made.add_special_tokens(["<unk>", "<s>", "</s>"])
    made.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": {"content": "</s>"}}))


def write_mistral(folder: Path) -> None:
    """As Codestral has it: runs of bytes, and a template that opens a text."""
    text.save_for_transformers(codestral_like(), folder)
    (folder / "config.json").write_text(json.dumps({"vocab_size": 300, "eos_token_id": 2}))


def halves(content: bytes) -> tuple[dict[str, Any], bytes]:
    """The header of a safetensors file, and its data."""
    end = 8 + struct.unpack("<Q", content[:8])[0]
    return json.loads(content[8:end]), content[end:]


def joined(header: dict[str, Any], data: bytes) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


KINDS: dict[str, Callable[[Path], object]] = {
    "ours": lambda folder: small_model(n_layer=1).save_pretrained(folder),
    "sharded": write_sharded,
    "third generation": write_third_generation,
    "pickled": write_pickle,
    "first generation": lambda folder: family_model("falcon", n_layer=1).to_transformers().save_pretrained(folder),
    "pairs": lambda folder: text.save(BPETokenizer.train([TEXT] * 9, 300), folder),
    "pieces": write_pieces,
    "mistral": write_mistral,
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Callable[[str], Path]:
    """The folder of a kind, written once."""

    @functools.cache
    def written(kind: str) -> Path:
        KINDS[kind](folder := tmp_path_factory.mktemp(kind))
        return folder

    return written


# What may be wrong with them

DEEP = "[" * 900 + "]" * 900
ODD = [
    *("null", "true", "false", "0", "-1", "1", "2", "4", "64", "2.5", "1e9", "1000000000", "200000", "2147483648"),
    *("1e400", "NaN", "-Infinity", "1" * 400, "1" * 5000, '""', '"a"', '"</s>"', '"../x"', '"/etc/passwd"', '"."'),
    *('"model.safetensors"', f'"{INDEX}"', '"pipe.safetensors"', '"out.safetensors"', '"zero.safetensors"'),
    *('"\\ud800"', '"a\\u0000b"', "[]", "{}", "[1, 2]", '{"__float__": "Infinity"}', '{"__float__": [1]}', '{"a": 1}'),
    *(DEEP, "[" * 100_000, '"' + "x" * 100_000 + '"', '{"Regex": "(a+)+$"}', '{"Regex": "\\\\s+$"}', '{"String": ""}'),
]


def paths_in(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Of everything inside a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inside in items:
        yield (*path, key)
        yield from paths_in(inside, (*path, key))


def set_value(draw: Any, path: Path) -> None:
    """Another value, or none, or two, somewhere in a JSON file."""
    found = json.loads(path.read_text())
    where = draw(st.sampled_from(list(paths_in(found))))
    parent = found
    for key in where[:-1]:
        parent = parent[key]
    odd = draw(st.sampled_from(ODD))
    if draw(st.booleans()) or not isinstance(parent, dict):
        parent[where[-1]] = "@"
        text = json.dumps(found).replace('"@"', odd, 1)
    else:
        del parent[where[-1]]
        text = json.dumps(found) if draw(st.booleans()) else json.dumps(found)[:-1] + f', "{where[-1]}": {odd}}}'
    path.write_text(text, encoding="utf-8")


def set_tensor(draw: Any, path: Path) -> None:
    """Another entry in the header of a safetensors file."""
    header, data = halves(path.read_bytes())
    name = draw(st.sampled_from(sorted(header.keys() - {"__metadata__"})))
    size = header[name]["data_offsets"][1]
    changes = [
        {"dtype": draw(st.sampled_from(["F64", "F16", "BF16", "I32", "F4", "X"]))},
        {
            "shape": draw(
                st.sampled_from([[], [0], [-1], [2**62, 4], [10**30], [1] * 1000, header[name]["shape"][::-1]])
            )
        },
        {"data_offsets": draw(st.sampled_from([[0, 4], [0, 2**63], [8, 0], [size, size + 4]]))},
    ]
    header[name] |= draw(st.sampled_from(changes))
    if draw(st.booleans()):
        header[draw(st.sampled_from(["", "lm_head.weight", "backbone.norm_f.weight", "x" * 10_000]))] = header.pop(name)
    path.write_bytes(joined(header, data))


def set_record(draw: Any, path: Path) -> None:
    """Another byte in the pickle or in the directory of an archive, or one record in the place of another."""
    content = bytearray(path.read_bytes())
    code, directory = content.index(b"\x80\x02"), content.index(b"PK\x01\x02")
    start, end = draw(st.sampled_from([(code, code + 1500), (directory, len(content))]))
    at = draw(st.integers(start, end - 1))
    old, new = draw(
        st.sampled_from([(b"", b""), (b"FloatStorage", b"HalfStorage\n"), (b"/0", b"/1"), (b"data", b"DATA")])
    )
    if old:
        content[:] = content.replace(old, new)
    else:
        content[at] = draw(st.sampled_from([0, 1, 255, *b"(.RcbQ}us"]))
    path.write_bytes(bytes(content))


def set_bytes(draw: Any, path: Path) -> None:
    """Cut, flipped, or with more between."""
    content = bytearray(path.read_bytes())
    at = draw(st.integers(0, min(len(content), draw(st.sampled_from([9, 500, 10**9])))))
    change = draw(st.sampled_from(["cut", "flip", "insert"]))
    if change == "cut":
        del content[at:]
    elif change == "flip" and at < len(content):
        content[at] ^= draw(st.integers(1, 255))
    else:
        content[at:at] = draw(st.sampled_from([b"\xff", b"{", b"\0" * 8, b"\xef\xbb\xbf"]))
    path.write_bytes(bytes(content))


def replace(draw: Any, path: Path) -> None:
    """Something else in the place of the file."""
    outside, content = path.parent.parent / "outside" / path.name, path.read_bytes()
    outside.parent.mkdir(exist_ok=True)
    outside.write_bytes(content)
    path.unlink()
    kind = draw(
        st.sampled_from(["nothing", "pipe", "folder", "out", "zero", "itself", "empty", "sparse", "inside", "utf-16"])
    )
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind in ("out", "zero", "itself"):
        path.symlink_to({"out": outside, "zero": "/dev/zero", "itself": path}[kind])
    elif kind == "inside":
        (path.parent / f"{path.name}.elsewhere").write_bytes(content)
        path.symlink_to(f"{path.name}.elsewhere")
    elif kind == "utf-16":
        path.write_bytes(content.decode("latin-1").encode("utf-16"))
    elif kind != "nothing":
        path.write_bytes(b"" if kind == "empty" else content)
        os.truncate(path, 0 if kind == "empty" else 2**40)


@st.composite
def damaged(draw: Any, whole: Path, folder: Path) -> Path:
    """A copy of a folder, with one or two things wrong."""
    for old in (folder, folder.parent / "outside"):
        shutil.rmtree(old, ignore_errors=True)
    shutil.copytree(whole, folder)
    os.mkfifo(folder / "pipe.safetensors")
    (folder / "out.safetensors").symlink_to(folder.parent / "outside" / WEIGHTS)
    (folder / "zero.safetensors").symlink_to("/dev/zero")
    for _ in range(draw(st.integers(1, 2))):
        files = sorted(
            path
            for path in folder.iterdir()
            if path.is_file() and not path.is_symlink() and path.lstat().st_size < 10**7
        )
        if not files:
            break
        path = draw(st.sampled_from(files))
        own = {".json": set_value, ".bin": set_record}.get(path.suffix, set_tensor)
        ways = [set_bytes, replace, own]
        try:
            draw(st.sampled_from([ways[2], *ways]))(draw, path)
        except (
            ValueError,
            KeyError,
            struct.error,
            TypeError,
            RecursionError,
        ):  # damaged before, so that it cannot be taken apart
            set_bytes(draw, path)
    return folder


# What must come of it


def weights_by_hand(folder: Path) -> dict[str, str]:
    """SHA-256 of each weight as float32 under our names, read without the package: headers, offsets, numbers."""
    files = [folder / WEIGHTS] if (folder / WEIGHTS).exists() else sorted(folder.glob("model-*.safetensors"))
    found = {}
    for path in files:
        header, data = halves(path.read_bytes())
        for name in header.keys() - {"__metadata__"}:
            begin, end = header[name]["data_offsets"]
            dtype = {"F32": "<f4", "F64": "<f8", "F16": "<f2"}[header[name]["dtype"]]
            numbers = np.frombuffer(data[begin:end], dtype=dtype)
            name = name.removeprefix("backbone.").replace("embeddings.", "embedding.")
            found[name] = hashlib.sha256(numbers.astype("<f4").tobytes()).hexdigest()
    return {"lm_head.weight": found["embedding.weight"], **found}


def pickled_by_hand(whole: Path, folder: Path) -> dict[str, str]:
    """The same of a pickle: the numbers that stand where the undamaged file has each tensor's."""
    name = "pytorch_model.bin"
    content, was = (folder / name).read_bytes(), (whole / name).read_bytes()
    assert len(content) == len(was), "cut or longer, and read all the same"
    found = {}
    for tensor, value in torch.load(whole / name, weights_only=True).items():
        begin = was.index(value.numpy().tobytes())
        numbers = np.frombuffer(content[begin : begin + value.nbytes], "<f4")
        found[tensor.removeprefix("backbone.")] = hashlib.sha256(numbers.tobytes()).hexdigest()
    return found


def check(answer: dict[str, Any], right: Callable[[], Any]) -> None:
    assert answer["outside"] == []
    assert answer["seconds"] < SOON, answer
    assert len(answer["message"]) < 3000
    if answer["error"] is None:
        assert answer["result"] == right()
    else:
        assert answer["error"] in REFUSALS, answer


@pytest.mark.parametrize("kind", ["ours", "sharded", "third generation", "first generation"])
def test_a_damaged_folder_gives_its_model_or_a_refusal(apart, whole, tmp_path_factory, kind):
    folder = tmp_path_factory.mktemp(f"damaged-{kind}") / "model"

    @settings(max_examples=120)
    @given(damaged(whole(kind), folder))
    def holds(folder: Path) -> None:
        check(apart.load("model", folder), lambda: weights_by_hand(folder))

    check(apart.load("model", whole(kind)), lambda: weights_by_hand(whole(kind)))
    holds()


def test_a_damaged_pickle_gives_its_model_or_a_refusal(apart, whole, tmp_path_factory):
    folder = tmp_path_factory.mktemp("damaged-pickled") / "model"

    @settings(max_examples=120)
    @given(damaged(whole("pickled"), folder))
    def holds(folder: Path) -> None:
        check(apart.load("model", folder), lambda: pickled_by_hand(whole("pickled"), folder))

    check(apart.load("model", whole("pickled")), lambda: pickled_by_hand(whole("pickled"), whole("pickled")))
    holds()


@pytest.mark.parametrize("kind", ["pairs", "pieces", "mistral"])
def test_a_damaged_folder_gives_its_tokenizer_or_a_refusal(apart, whole, tmp_path_factory, kind):
    folder = tmp_path_factory.mktemp(f"damaged-{kind}") / "model"

    @settings(max_examples=30)
    @given(damaged(whole(kind), folder))
    def holds(folder: Path) -> None:
        answer = apart.load("tokenizer", folder)
        check(answer, lambda: answer["result"])

    assert apart.load("tokenizer", whole(kind))["error"] is None
    holds()
