"""Published models, each as its repository holds it: files, their names and what stands in them, sizes made small.

    PUBLISHED["state-spaces/mamba2-130m"].write(folder)     a folder as the Hub would give it; returns the tensors in it
    PUBLISHED["state-spaces/mamba2-130m"].config            its config.json, with the true sizes

Nothing here is taken from the package: what it makes of such a folder is compared with what was written.
"""

from __future__ import annotations

import json
import math
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from support.many_tokenizers import byte_level, sentencepiece_like
from support.published_configs import (
    CODESTRAL,
    FALCON,
    HYBRID,
    SMALL,
    SMALL_CODESTRAL,
    SMALL_FALCON,
    SMALL_HYBRID,
    SMALL_MAMBA,
    SMALL_MAMBA2,
    SMALL_TRANSFORMER,
    TRANSFORMER,
    mamba2_hf,
    mamba_hf,
    official,
    official2,
    official3,
    small3,
)
from support.published_shapes import Fields, Shape, official_shapes, transformers_shapes
from torch import Tensor

# Numbers


def drawn(shapes: Mapping[str, Shape], seed: int) -> dict[str, Tensor]:
    """Weights of a model that remembers and speaks: a fresh one has ones and zeros, which hide mistakes."""
    generator = torch.Generator().manual_seed(seed)
    return {name: _draw(name.removesuffix(".weight"), shape, generator) for name, shape in shapes.items()}


def _draw(name: str, shape: Shape, generator: torch.Generator) -> Tensor:
    normal, last = torch.randn(shape, generator=generator), name.rpartition(".")[2]
    if last == "A_log":
        return (1 + 15 * torch.rand(shape, generator=generator)).log()
    if last in ("dt_bias", "bias"):
        return -1 + normal if "dt_" in name else 0.2 * normal
    if len(shape) == 1 or last in ("B_bias", "C_bias", "mimo_x", "mimo_z", "mimo_o"):
        return 1 + 0.2 * normal
    return normal if "embedding" in last else normal / math.sqrt(math.prod(shape[1:]))


# Files


def write_bin(folder: Path, tensors: Mapping[str, Tensor], name: str = "pytorch_model.bin") -> None:
    """As `MambaLMHeadModel.save_pretrained` of the official code writes it: torch.save of the state dict."""
    state = OrderedDict(tensors)
    modules = ["", *dict.fromkeys(name.rpartition(".")[0] for name in tensors)]
    state._metadata = OrderedDict((module, {"version": 1}) for module in modules)  # type: ignore[attr-defined]
    torch.save(state, folder / name)


def write_safetensors(folder: Path, tensors: Mapping[str, Tensor], name: str = "model.safetensors") -> None:
    """As transformers writes it."""
    safetensors.torch.save_file(dict(tensors), folder / name, metadata={"format": "pt"})


def write_shards(folder: Path, tensors: Mapping[str, Tensor], count: int, *, pickled: bool = False) -> None:
    """As transformers writes a large model: files in the order of the tensors, and an index of them."""
    stem, ending, write = (
        ("pytorch_model", "bin", write_bin) if pickled else ("model", "safetensors", write_safetensors)
    )
    names = list(tensors)
    each = -(-len(names) // count)
    file_of = {}
    for i in range(count):
        part = names[i * each : (i + 1) * each]
        file = f"{stem}-{i + 1:05d}-of-{count:05d}.{ending}"
        write(folder, {name: tensors[name] for name in part}, file)
        file_of |= dict.fromkeys(part, file)
    total = sum(tensor.nbytes for tensor in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(file_of.items()))}
    _write_json(folder / f"{stem}.{ending}.index.json", index)


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def _write_neox_tokenizer(folder: Path) -> None:
    byte_level().save(str(folder / "tokenizer.json"))
    named = dict.fromkeys(("bos_token", "eos_token", "unk_token"), "<|endoftext|>")
    _write_json(folder / "special_tokens_map.json", named)
    more = {"add_prefix_space": False, "clean_up_tokenization_spaces": True, "model_max_length": 10**30}
    _write_json(folder / "tokenizer_config.json", {**more, **named, "tokenizer_class": "GPTNeoXTokenizer"})


def _write_llama_tokenizer(folder: Path) -> None:
    sentencepiece_like().save(str(folder / "tokenizer.json"))
    named = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    _write_json(folder / "special_tokens_map.json", named)
    more = {"add_bos_token": True, "add_eos_token": False, "legacy": False, "model_max_length": 10**30}
    _write_json(folder / "tokenizer_config.json", {**more, **named, "tokenizer_class": "LlamaTokenizer"})


# Repositories


@dataclass(frozen=True)
class Published:
    """One published model.

    config: its config.json, with the true sizes.
    small: what of it is made small.
    files: writes weights under their names into a folder.
    dtype: of a tensor, by its name and shape.
    tokenizer: writes its tokenizer files; None: it has none.
    generation: its generation_config.json, if it has one.
    """

    config: Fields
    small: Fields
    files: Callable[[Path, Mapping[str, Tensor]], None]
    dtype: Callable[[str, Shape], torch.dtype] = lambda name, shape: torch.float32
    tokenizer: Callable[[Path], None] | None = None
    generation: Fields | None = None

    @property
    def of_transformers(self) -> bool:
        """Whether `AutoModelForCausalLM` reads it; else the official code alone does."""
        return "model_type" in self.config

    def shapes(self, config: Fields | None = None) -> dict[str, Shape]:
        """Names and shapes of its tensors, of the true sizes if no other config is given."""
        return (transformers_shapes if self.of_transformers else official_shapes)(config or self.config)

    def parameters(self) -> int:
        """How many numbers its true sizes come to, a tied head counted once."""
        tied = not self.of_transformers and self.config.get("tie_embeddings", True)
        return sum(math.prod(shape) for name, shape in self.shapes().items() if not (tied and name == "lm_head.weight"))

    def write(self, folder: Path, seed: int = 0, **changes: Any) -> dict[str, Tensor]:
        """The repository made small, in a folder that may have to be made; `changes` to its config.json.

        Returns:
            Its tensors under their names in the files, in the dtype that they have there.
        """
        folder.mkdir(parents=True, exist_ok=True)
        config = {**self.config, **self.small, **changes}
        _write_json(folder / "config.json", config)
        shapes = self.shapes(config)
        tensors = {name: w.to(self.dtype(name, w.shape)) for name, w in drawn(shapes, seed).items()}
        if config.get("tie_embeddings", True) and not self.of_transformers:  # one storage under two names, as theirs
            tensors["lm_head.weight"] = tensors["backbone.embedding.weight"]
        self.files(folder, tensors)
        if self.tokenizer is not None:
            self.tokenizer(folder)
        if self.generation is not None:
            _write_json(folder / "generation_config.json", self.generation)
        return tensors


def _half_and_float(name: str, shape: Shape) -> torch.dtype:
    return torch.float16 if len(shape) > 1 else torch.float32


def _bfloat16(name: str, shape: Shape) -> torch.dtype:
    return torch.bfloat16


def _two_shards(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    write_shards(folder, tensors, 2)


def _codestral_files(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Shards of transformers, and beside them the same in one file as Mistral's own code has it."""
    write_shards(folder, tensors, 3)
    write_safetensors(
        folder,
        {f"model.{name.replace('embeddings', 'embedding')}": tensor for name, tensor in tensors.items()},
        "consolidated.safetensors",
    )
    _write_json(folder / "params.json", {"dim": 4096, "n_layers": 64, "n_groups": 8, "vocab_size": 32768})


_GENERATION = {"_from_model_config": True, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}


def _hf(config: Fields, small: Fields, *, shards: bool = False) -> Published:
    """One of transformers that has GPT-NeoX's tokenizer."""
    files = _two_shards if shards else write_safetensors
    return Published(config, small, files, tokenizer=_write_neox_tokenizer, generation=_GENERATION)


def _mamba3(d_model: int, n_layer: int, d_intermediate: int, *, is_mimo: bool) -> Published:
    config = official3(d_model, n_layer, d_intermediate, is_mimo=is_mimo)
    return Published(config, small3(config), write_bin, _bfloat16)


def _all() -> Iterator[tuple[str, Published]]:
    sizes = {"130m": (768, 24), "370m": (1024, 48), "790m": (1536, 48), "1.4b": (2048, 48), "2.8b": (2560, 64)}
    for name, size in {**sizes, "2.8b-slimpj": sizes["2.8b"]}.items():
        yield f"state-spaces/mamba-{name}", Published(official(*size), SMALL, write_bin)
    sizes2 = {"130m": (768, 24), "370m": (1024, 48), "780m": (1536, 48), "1.3b": (2048, 48)}
    for name, size in sizes2.items():
        yield f"state-spaces/mamba2-{name}", Published(official2(*size), SMALL, write_bin)
    yield "state-spaces/mamba2-2.7b", Published(official2(2560, 64), SMALL, write_bin, _half_and_float)
    yield "state-spaces/mamba2attn-2.7b", Published(HYBRID, SMALL_HYBRID, write_bin)
    yield "state-spaces/transformerpp-2.7b", Published(TRANSFORMER, SMALL_TRANSFORMER, write_bin)
    siso = {"187m": (768, 12, 1536), "443m": (1024, 24, 2048), "893m": (1536, 24, 3072), "1.5b": (2048, 24, 4096)}
    mimo = {"187m": (768, 12, 1264), "444m": (1024, 24, 1792), "894m": (1536, 24, 2800), "1.5b": (2048, 24, 3824)}
    for name, (d_model, n_layer, width) in siso.items():
        yield f"state-spaces/mamba3-siso-{name}", _mamba3(d_model, n_layer, width, is_mimo=False)
    for name, (d_model, n_layer, width) in mimo.items():
        yield f"state-spaces/mamba3-mimo-{name}", _mamba3(d_model, n_layer, width, is_mimo=True)
    wrong = {"370m": {"d_inner": 160}, "790m": {"d_model": 2048}}  # what the old keys say there
    for name, size in sizes.items():
        old = wrong.get(name, {})
        yield (
            f"state-spaces/mamba-{name}-hf",
            _hf(mamba_hf(*size, **old), {**SMALL_MAMBA, **old}, shards=name == "2.8b"),
        )
    for name, size in {**sizes2, "2.7b": (2560, 64)}.items():
        yield f"AntonV/mamba2-{name}-hf", _hf(mamba2_hf(*size), SMALL_MAMBA2, shards=name == "2.7b")
    yield (
        "tiiuae/falcon-mamba-7b",
        Published(FALCON, SMALL_FALCON, _two_shards, _bfloat16, _write_neox_tokenizer, _GENERATION),
    )
    yield (
        "mistralai/Mamba-Codestral-7B-v0.1",
        Published(CODESTRAL, SMALL_CODESTRAL, _codestral_files, _bfloat16, _write_llama_tokenizer, _GENERATION),
    )


PUBLISHED: dict[str, Published] = dict(_all())

# One of each layout, the smallest of its family where all of it are alike.
ONE_OF_EACH = [
    "state-spaces/mamba-130m",
    "state-spaces/mamba2-130m",
    "state-spaces/mamba2-2.7b",
    "state-spaces/mamba2attn-2.7b",
    "state-spaces/transformerpp-2.7b",
    "state-spaces/mamba3-siso-187m",
    "state-spaces/mamba3-mimo-187m",
    "state-spaces/mamba-130m-hf",
    "state-spaces/mamba-370m-hf",
    "state-spaces/mamba-790m-hf",
    "state-spaces/mamba-2.8b-hf",
    "AntonV/mamba2-130m-hf",
    "AntonV/mamba2-2.7b-hf",
    "tiiuae/falcon-mamba-7b",
    "mistralai/Mamba-Codestral-7B-v0.1",
]
