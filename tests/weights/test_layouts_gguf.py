"""Files for llama.cpp, as the reader of the gguf package finds them: every field, every number."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.families import family_model
from support.oracle.mamba2 import raises
from support.small_models import small_model

from mamba2_lab import MambaLM, convert
from mamba2_lab.machine.untrusted import CheckpointError
from mamba2_lab.text import BPETokenizer, ByteTokenizer

gguf = pytest.importorskip("gguf")

WIDE = {"d_model": 64, "n_layer": 2, "headdim": 16}  # rows of 64 and 128: whole blocks of q8_0
MAMBA2 = [
    {},
    {**WIDE, "ngroups": 2, "d_state": 16},
    {"tie_embeddings": False, "norm_eps": 1e-6},
    {"conv_bias": False, "expand": 3, "d_conv": 2},
]
MAMBA1 = ["mamba1", "falcon"]


def written(model: MambaLM, folder: Path, dtype: str = "float32", tokenizer: Any = None) -> Any:
    """What the reader finds in the file of a model."""
    model.save_pretrained(folder / "model", tokenizer=tokenizer)
    convert(folder / "model", folder / "model.gguf", "gguf", dtype=dtype)
    return gguf.GGUFReader(folder / "model.gguf")


def fields_of(reader: Any) -> dict[str, Any]:
    return {name: field.contents() for name, field in reader.fields.items() if not name.startswith("GGUF.")}


def tensors_of(reader: Any) -> dict[str, Any]:
    return {tensor.name: tensor for tensor in reader.tensors}


def numbers(tensor: Any) -> np.ndarray:
    return gguf.quants.dequantize(tensor.data, tensor.tensor_type)


def expected_tensors(model: MambaLM) -> dict[str, torch.Tensor]:
    """By their names there, in their shapes there, the slowest axis first."""
    config, weights = model.config, model.state_dict()
    mixer = model.config.layer(0).fields
    rows = config.vocab_size
    found = {
        "token_embd.weight": weights["embedding.weight"][:rows],
        "output_norm.weight": weights["norm_f.weight"],
    }
    if not config.tie_embeddings:
        found["output.weight"] = weights["lm_head.weight"][:rows]
    for i in range(config.n_layer):
        ours, theirs = f"layers.{i}.mixer", f"blk.{i}"
        conv = weights[f"{ours}.conv1d.weight"]
        found |= {
            f"{theirs}.attn_norm.weight": weights[f"layers.{i}.norm.weight"],
            f"{theirs}.ssm_in.weight": weights[f"{ours}.in_proj.weight"],
            f"{theirs}.ssm_conv1d.weight": conv.reshape(len(conv), mixer.d_conv),
            f"{theirs}.ssm_conv1d.bias": weights.get(f"{ours}.conv1d.bias", torch.zeros(len(conv))),
            f"{theirs}.ssm_out.weight": weights[f"{ours}.out_proj.weight"],
        }
        A, D = -torch.exp(weights[f"{ours}.A_log"]), weights[f"{ours}.D"]
        if config.layer(i).mixer == "mamba1":
            found |= {
                f"{theirs}.ssm_x.weight": weights[f"{ours}.x_proj.weight"],
                f"{theirs}.ssm_dt.weight": weights[f"{ours}.dt_proj.weight"],
                f"{theirs}.ssm_dt.bias": weights[f"{ours}.dt_proj.bias"],
                f"{theirs}.ssm_a": A,
                f"{theirs}.ssm_d": D,
            }
        else:
            found |= {
                f"{theirs}.ssm_dt.bias": weights[f"{ours}.dt_bias"],
                f"{theirs}.ssm_a": A.reshape(-1, 1),
                f"{theirs}.ssm_d": D.reshape(-1, 1),
                f"{theirs}.ssm_norm.weight": weights[f"{ours}.norm.weight"].reshape(mixer.ngroups, -1),
            }
    return found


def model_of(what: Any) -> MambaLM:
    if isinstance(what, dict):
        return small_model(**what).cpu()
    falcons = {"norm_eps": 1e-3} if what == "falcon" else {}  # the one eps that its mixers have
    return family_model(what, **falcons).cpu()


@pytest.mark.parametrize("what", [*MAMBA2, *MAMBA1], ids=str)
def test_every_number_is_there_bit_for_bit(tmp_path: Path, what: Any) -> None:
    model = model_of(what)
    found, expected = tensors_of(written(model, tmp_path)), expected_tensors(model)
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].tensor_type == gguf.GGMLQuantizationType.F32, name
        assert found[name].data.shape == tuple(tensor.shape), name
        np.testing.assert_array_equal(found[name].data.view(np.int32), tensor.numpy().view(np.int32), name)


@pytest.mark.parametrize("what", [{}, "mamba1"], ids=str)
def test_the_names_are_those_of_the_architecture(tmp_path: Path, what: Any) -> None:
    """By the tables of the package gguf, which llama.cpp's own converter goes by."""
    reader = written(model_of(what), tmp_path)
    arch = gguf.MODEL_ARCH.MAMBA2 if what == {} else gguf.MODEL_ARCH.MAMBA
    assert fields_of(reader)["general.architecture"] == gguf.MODEL_ARCH_NAMES[arch]
    known = {gguf.TENSOR_NAMES[kind].format(bid=i) for kind in gguf.MODEL_TENSORS[arch] for i in range(2)}
    found = {name.removesuffix(".weight").removesuffix(".bias") for name in tensors_of(reader)}
    assert found == known - {"output"}


def test_the_fields_of_a_mamba2(tmp_path: Path) -> None:
    reader = written(small_model(**{**WIDE, "ngroups": 2, "d_state": 24, "d_conv": 3, "norm_eps": 1e-6}), tmp_path)
    fields = fields_of(reader)
    eps = fields.pop("mamba2.attention.layer_norm_rms_epsilon")
    assert eps == pytest.approx(1e-6, rel=1e-6)
    assert fields == {
        "general.architecture": "mamba2",
        "general.type": "model",
        "general.file_type": 0,
        "general.quantization_version": 2,
        "mamba2.context_length": 2**20,
        "mamba2.vocab_size": 257,
        "mamba2.embedding_length": 64,
        "mamba2.block_count": 2,
        "mamba2.feed_forward_length": 0,
        "mamba2.attention.head_count": 0,
        "mamba2.ssm.conv_kernel": 3,
        "mamba2.ssm.inner_size": 128,
        "mamba2.ssm.state_size": 24,
        "mamba2.ssm.time_step_rank": 8,  # the number of heads
        "mamba2.ssm.group_count": 2,
        "tokenizer.ggml.model": "none",
    }


@pytest.mark.parametrize(("family", "normed"), [("mamba1", False), ("falcon", True)])
def test_the_fields_of_a_mamba1(tmp_path: Path, family: str, normed: bool) -> None:
    fields = fields_of(written(model_of(family), tmp_path))
    eps = fields.pop("mamba.attention.layer_norm_rms_epsilon")
    assert eps == pytest.approx(1e-3 if normed else 1e-5, rel=1e-6)
    sizes = {name: value for name, value in fields.items() if name.startswith("mamba.")}
    assert sizes == {
        "mamba.context_length": 2**20,
        "mamba.vocab_size": 257,
        "mamba.embedding_length": 16,
        "mamba.block_count": 2,
        "mamba.feed_forward_length": 0,
        "mamba.attention.head_count": 0,
        "mamba.ssm.conv_kernel": 4,
        "mamba.ssm.inner_size": 32,
        "mamba.ssm.state_size": 4,
        "mamba.ssm.time_step_rank": 3,
        "mamba.ssm.dt_b_c_rms": normed,
    }


KINDS = {"float16": ("F16", 1, 2**-11), "bfloat16": ("BF16", 32, 2**-8), "q8_0": ("Q8_0", 7, 0)}
IN_FLOAT32 = {"attn_norm", "ssm_conv1d", "ssm_a", "ssm_d", "ssm_norm", "output_norm"}


@pytest.mark.parametrize("what", [WIDE, {}, "mamba1"], ids=str)
@pytest.mark.parametrize("dtype", KINDS)
def test_matrices_have_the_dtype_and_all_else_is_float32(tmp_path: Path, what: Any, dtype: str) -> None:
    model, (kind, number, error) = model_of(what), KINDS[dtype]
    reader = written(model, tmp_path, dtype)
    assert fields_of(reader)["general.file_type"] == number
    found, stored = tensors_of(reader), set()
    for name, tensor in expected_tensors(model).items():
        values, expected = numbers(found[name]).reshape(tensor.shape), tensor.numpy()
        stored.add(found[name].tensor_type.name)
        if name.split(".")[-2 if name.endswith(("weight", "bias")) else -1] in IN_FLOAT32 or name.endswith("bias"):
            np.testing.assert_array_equal(values, expected, name)
            assert found[name].tensor_type.name == "F32", name
        elif dtype == "q8_0" and tensor.shape[-1] % 32:
            np.testing.assert_array_equal(values, expected.astype(np.float16), name)
        elif dtype == "q8_0":
            blocks = np.abs(expected.reshape(-1, 32)).max(axis=1, keepdims=True)
            off = np.abs(values - expected).reshape(-1, 32)
            assert (off <= blocks * (0.5 / 127 + 2**-11)).all(), name  # half a step, and the scale's own rounding
            assert found[name].tensor_type.name == "Q8_0", name
        else:
            assert np.abs(values - expected).max() <= error * np.abs(expected).max(), name
            assert found[name].tensor_type.name == kind, name
    assert kind in stored or {"F32", "F16"} == stored  # in q8_0 the narrow model has no row of whole blocks


REFUSED = [
    ({"norm_before_gate": True}, "llama.cpp's mamba2 has no norm_before_gate; it must be False to convert, got True"),
    ({"learnable_init_states": True}, "llama.cpp's mamba2 has no learnable_init_states"),
    ({"dt_limit": (0.0, 0.5)}, "llama.cpp's mamba2 has no dt_limit; it must be (0.0, inf) to convert, got (0.0, 0.5)"),
    ({"bias": True}, "llama.cpp's mamba2 has no bias; it must be False to convert, got True"),
    ("falcon", "llama.cpp's mamba has one norm_eps for all its norms; got 1e-05, and 0.001 in its mixers"),
    ("mamba3-siso", "llama.cpp has a Mamba-1 or a Mamba-2 alone; got a model of mamba3"),
    ("attention", "llama.cpp has a Mamba-1 or a Mamba-2 alone; got a model of attention"),
    ("hybrid", "llama.cpp has a Mamba-1 or a Mamba-2 alone; got a model of mamba1, mamba2, mamba3, attention"),
    (("mamba2", {"d_intermediate": 24}), "llama.cpp's mamba2 has no d_intermediate; it must be 0 to convert, got 24"),
    (("mamba2", {"rms_norm": False}), "llama.cpp's mamba2 has no rms_norm; it must be True to convert, got False"),
    (("mamba1", {"mamba1": {"expand": 3}}), "llama.cpp's mamba has no expand; it must be 2 to convert, got 3"),
]


@pytest.mark.parametrize(("what", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_what_llama_cpp_has_no_place_for_is_refused_by_name(tmp_path: Path, what: Any, message: str) -> None:
    match what:
        case dict():
            model = small_model(**what)
        case (family, changes):
            model = family_model(family, **changes)
        case family:
            model = family_model(family)
    with raises(ValueError, message):
        written(model, tmp_path)
    assert not (tmp_path / "model.gguf").exists()


@pytest.mark.parametrize("dtype", ["float16", "q8_0"])
def test_a_weight_that_a_dtype_does_not_hold_is_refused_by_name(tmp_path: Path, dtype: str) -> None:
    model = small_model(**WIDE)
    with torch.no_grad():
        model.layers[1].mixer.in_proj.weight[3, 5] = -1e7
    with raises(
        ValueError, f"dtype must be one that holds every weight, 1e+07 in blk.1.ssm_in.weight too; got {dtype!r}"
    ):
        written(model, tmp_path, dtype)


# The vocabulary


def test_the_vocabulary_of_bytes(tmp_path: Path) -> None:
    fields = fields_of(written(small_model(), tmp_path, tokenizer=ByteTokenizer()))
    tokens, types = fields["tokenizer.ggml.tokens"], fields["tokenizer.ggml.token_type"]
    assert (tokens[ord("a")], tokens[ord(" ")], tokens[ord("\n")], tokens[0xFF]) == ("a", "Ġ", "Ċ", "ÿ")
    assert len(tokens) == len(set(tokens)) == len(types) == 257
    assert set(types[:256]) == {gguf.TokenType.NORMAL} and types[256] == gguf.TokenType.CONTROL
    assert fields["tokenizer.ggml.model"] == "gpt2"
    assert fields["tokenizer.ggml.eos_token_id"] == fields["tokenizer.ggml.bos_token_id"] == 256
    assert fields["tokenizer.ggml.add_bos_token"] is True
    [merge] = fields["tokenizer.ggml.merges"]
    assert merge.split(" ") == [tokens[256]] * 2  # of which none ever comes out of a text


def test_the_vocabulary_of_pieces_and_tokens_that_only_the_model_has(tmp_path: Path) -> None:
    tokenizer = BPETokenizer.train(["a rose is a rose is a rose"], 270)
    fields = fields_of(written(small_model(vocab_size=280), tmp_path, tokenizer=tokenizer))
    described = tokenizer.to_dict()["tokenizer"]["model"]
    tokens, types = fields["tokenizer.ggml.tokens"], fields["tokenizer.ggml.token_type"]
    named = {token: i for i, token in enumerate(tokens[: tokenizer.vocab_size])}
    assert named == described["vocab"]
    assert {tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"]} == {*map(tuple, described["merges"])}
    assert types[0] == gguf.TokenType.CONTROL and set(types[1 : tokenizer.vocab_size]) == {gguf.TokenType.NORMAL}
    assert set(types[tokenizer.vocab_size :]) == {gguf.TokenType.UNUSED} and len(set(tokens)) == len(types) == 280
    assert fields["tokenizer.ggml.eos_token_id"] == 0


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path) -> None:
    model = small_model(vocab_size=200)
    with raises(CheckpointError, "model: expected a tokenizer of at most 200 tokens; found 257"):
        written(model, tmp_path, tokenizer=ByteTokenizer())
