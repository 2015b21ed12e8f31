"""GGUF, the one file that llama.cpp runs a model from: fields, vocabulary and weights. It is written here, not read.

Names, shapes and what stays in float32 are as llama.cpp's converter has them (its conversion/mamba.py and base.py), for
the architectures "mamba" and "mamba2":

    A is stored, -exp(A_log), and not its logarithm; the convolution without its middle axis; of Mamba-2, A and D are
    (h,1), and the norm's weight is (g, d_inner/g)
    vectors, the convolution, A and D stay float32 in every dtype; and float16 is what a row of a matrix is stored in
    that q8_0, which works on blocks of 32, does not divide

One thing is ours: a convolution without a bias gets one of zeros, for llama.cpp asks for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mamba2_lab.checks import require
from mamba2_lab.config import Mamba1Fields, Mamba2Fields, StackFields
from mamba2_lab.text.for_llama_cpp import Vocabulary
from mamba2_lab.weights.layouts.fields import require_unset, without_padding

if TYPE_CHECKING:
    from gguf import GGUFWriter

ARCHITECTURES = {"mamba1": "mamba", "mamba2": "mamba2"}  # by the name of our mixer
DTYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16", "q8_0": "Q8_0"}  # and what GGUF calls them
LONGEST_CONTEXT = 2**20  # tokens: llama.cpp wants a limit, and a Mamba has none
BLOCK = 32  # numbers that q8_0 stores with one scale

_BYTES = {"F32": 4.0, "F16": 2.0, "BF16": 2.0, "Q8_0": (BLOCK + 2) / BLOCK}  # of a number
_LARGEST = {"F16": 65504.0, "Q8_0": 127 * 65504.0}  # number; the scale of a block of q8_0 is float16
_NAMES = {
    "embedding.weight": "token_embd.weight",
    "norm_f.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}
_NAMES_IN_A_LAYER = {
    "norm.weight": "attn_norm.weight",
    "mixer.in_proj.weight": "ssm_in.weight",
    "mixer.conv1d.weight": "ssm_conv1d.weight",
    "mixer.conv1d.bias": "ssm_conv1d.bias",
    "mixer.A_log": "ssm_a",
    "mixer.D": "ssm_d",
    "mixer.out_proj.weight": "ssm_out.weight",
    # Mamba-1
    "mixer.x_proj.weight": "ssm_x.weight",
    "mixer.dt_proj.weight": "ssm_dt.weight",
    "mixer.dt_proj.bias": "ssm_dt.bias",
    # Mamba-2
    "mixer.dt_bias": "ssm_dt.bias",
    "mixer.norm.weight": "ssm_norm.weight",
}
_UNWRITTEN: Mapping[str, Mapping[str, Any]] = {  # what our mixers have and llama.cpp's have not
    "mamba1": {"expand": 2, "bias": False},
    "mamba2": {"bias": False, "norm_before_gate": False, "learnable_init_states": False, "dt_limit": (0.0, math.inf)},
}


class Stored(NamedTuple):
    """A tensor as it lies in the file."""

    name: str
    tensor: Tensor  # float32
    kind: str  # what GGUF calls its dtype

    @property
    def nbytes(self) -> int:
        return int(self.tensor.numel() * _BYTES[self.kind])


def library() -> ModuleType:
    """The package gguf; ModuleNotFoundError, saying how to get it, where it is not installed."""
    try:
        import gguf
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("files for llama.cpp need the package gguf: pip install gguf") from error
    return gguf


def stored(config: StackFields, weights: Mapping[str, Tensor], dtype: str) -> list[Stored]:
    """What the file will hold.

    Args:
        weights: under our names, float32, a tied head left out.
        dtype: of the matrices, one of DTYPES.

    Raises:
        ValueError: for a model that llama.cpp does not compute, naming what it has no place for.
    """
    _require_place(config)
    tensors = [Stored(name, tensor, _kind(name, tensor, DTYPES[dtype])) for name, tensor in _theirs(config, weights)]
    for one in tensors:
        if one.kind in _LARGEST:
            largest = one.tensor.abs().max().item()
            holds = not largest > _LARGEST[one.kind]  # NaN is held by all of them
            require(holds, "dtype", f"one that holds every weight, {largest:.4g} in {one.name} too", dtype)
    return tensors


def write(
    path: Path,
    config: StackFields,
    tensors: list[Stored],
    vocabulary: Vocabulary | None,
    dtype: str,
    after: Callable[[Stored], None] = lambda tensor: None,
) -> None:
    """Write the file.

    Args:
        tensors: those of `stored`.
        vocabulary: None writes none; llama.cpp then takes and gives ids alone.
        after: called with each tensor once it is written.

    Raises:
        ModuleNotFoundError: as `library`.
    """
    gguf = library()
    [mixer] = config.mixer_fields_by_name
    writer = gguf.GGUFWriter(path, ARCHITECTURES[mixer])
    try:
        _add_fields(writer, config, gguf.LlamaFileType[f"{'ALL' if dtype == 'float32' else 'MOSTLY'}_{DTYPES[dtype]}"])
        _add_vocabulary(writer, vocabulary)
        for one in tensors:
            kind = gguf.GGMLQuantizationType[one.kind]
            writer.add_tensor_info(one.name, tuple(one.tensor.shape), np.dtype(np.float32), one.nbytes, kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for one in tensors:
            writer.write_tensor_data(gguf.quants.quantize(one.tensor.numpy(), gguf.GGMLQuantizationType[one.kind]))
            after(one)
    finally:
        writer.close()


def _require_place(config: StackFields) -> None:
    kinds = [*config.mixer_fields_by_name]
    if len(kinds) > 1 or kinds[0] not in ARCHITECTURES:
        raise ValueError(f"llama.cpp has a Mamba-1 or a Mamba-2 alone; got a model of {', '.join(kinds)}")
    [(name, fields)] = config.mixer_fields_by_name.items()
    layer, mixer = config.layer(0), fields.to_dict()
    around = {"d_intermediate": layer.d_intermediate, "rms_norm": layer.rms_norm}
    whose = f"llama.cpp's {ARCHITECTURES[name]}"
    require_unset({**around, **mixer}, {"d_intermediate": 0, "rms_norm": True, **_UNWRITTEN[name]}, whose)
    inside = mixer["norm_eps"] if name == "mamba2" else mixer["b_c_dt_rms_eps"] if mixer["b_c_dt_rms"] else None
    if inside not in (None, config.norm_eps):
        raise ValueError(
            f"{whose} has one norm_eps for all its norms; got {config.norm_eps}, and {inside} in its mixers"
        )


def _theirs(config: StackFields, weights: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Every tensor under its name there, in its shape there."""
    for name, tensor in without_padding(config, weights).items():
        if name in _NAMES:
            yield _NAMES[name], tensor
        else:
            _, i, inside = name.split(".", 2)
            yield f"blk.{i}.{_NAMES_IN_A_LAYER[inside]}", _shaped(inside, tensor, config)
            if inside == "mixer.conv1d.weight" and f"layers.{i}.mixer.conv1d.bias" not in weights:
                yield f"blk.{i}.ssm_conv1d.bias", torch.zeros(len(tensor))


def _shaped(name: str, tensor: Tensor, config: StackFields) -> Tensor:
    [fields] = config.mixer_fields_by_name.values()
    match name, fields:
        case "mixer.conv1d.weight", _:
            return tensor.squeeze(1)
        case "mixer.A_log", Mamba1Fields():
            return -torch.exp(tensor)
        case "mixer.A_log", _:
            return -torch.exp(tensor).unsqueeze(1)
        case "mixer.D", Mamba2Fields():
            return tensor.unsqueeze(1)
        case "mixer.norm.weight", Mamba2Fields():
            return tensor.view(fields.ngroups, -1)
    return tensor


def _kind(name: str, tensor: Tensor, kind: str) -> str:
    if tensor.ndim < 2 or not name.endswith(".weight") or name.endswith(("_norm.weight", "ssm_conv1d.weight")):
        return "F32"
    return "F16" if kind == "Q8_0" and tensor.shape[-1] % BLOCK else kind


def _add_fields(writer: GGUFWriter, config: StackFields, file_type: int) -> None:
    fields: Any
    [fields] = config.mixer_fields_by_name.values()
    writer.add_type("model")
    writer.add_file_type(file_type)
    writer.add_quantization_version(2)
    writer.add_context_length(LONGEST_CONTEXT)
    writer.add_vocab_size(config.vocab_size)
    writer.add_embedding_length(config.d_model)
    writer.add_block_count(config.n_layer)
    writer.add_feed_forward_length(0)  # there is none, nor are there heads; llama.cpp asks for both numbers
    writer.add_head_count(0)
    writer.add_layer_norm_rms_eps(config.norm_eps)
    writer.add_ssm_conv_kernel(fields.d_conv)
    writer.add_ssm_inner_size(fields.d_inner)
    writer.add_ssm_state_size(fields.d_state)
    if isinstance(fields, Mamba1Fields):
        writer.add_ssm_time_step_rank(fields.rank)
        writer.add_ssm_dt_b_c_rms(fields.b_c_dt_rms)
    else:
        writer.add_ssm_time_step_rank(fields.nheads)
        writer.add_ssm_group_count(fields.ngroups)


def _add_vocabulary(writer: GGUFWriter, vocabulary: Vocabulary | None) -> None:
    if vocabulary is None:
        writer.add_tokenizer_model("none")
        return
    writer.add_tokenizer_model("gpt2")  # byte-level byte-pair encoding, whoever trained it
    writer.add_tokenizer_pre(vocabulary.pre)
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(vocabulary.types)
    writer.add_token_merges(vocabulary.merges)
    writer.add_eos_token_id(vocabulary.end_of_text)
    writer.add_bos_token_id((vocabulary.opening or (vocabulary.end_of_text,))[0])
    writer.add_add_bos_token(bool(vocabulary.opening))
