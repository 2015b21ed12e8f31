"""A model written as others read it: `mamba2-lab convert`, as a function."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch

from mamba2_lab.checks import Refusal, require
from mamba2_lab.machine.files import free_bytes, new_folder, replacing
from mamba2_lab.model import LanguageModel
from mamba2_lab.text import Tokenizer
from mamba2_lab.text.for_llama_cpp import for_llama_cpp
from mamba2_lab.weights.build import weights_of
from mamba2_lab.weights.layouts import WRITTEN, gguf
from mamba2_lab.weights.loading import load, save
from mamba2_lab.weights.tokenizer import load_tokenizer
from mamba2_lab.words import in_bytes

GGUF = "gguf"
TO = (*WRITTEN, GGUF)
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}  # of all but GGUF
GGUF_DTYPES = tuple(gguf.DTYPES)
BESIDE_WEIGHTS = 100_000_000  # bytes that a vocabulary and the rest may take: several times the largest


class Converted(NamedTuple):
    """What was written.

    path: a folder, or the file of a GGUF.
    parameters: number of weights, tied ones counted once.
    nbytes: of all files.
    losses: what could not be taken along, or is otherwise there, a sentence each.
    """

    path: Path
    parameters: int
    nbytes: int
    losses: tuple[str, ...]


def convert(
    source: str | Path,
    target: str | Path,
    to: str = "ours",
    *,
    dtype: str = "float32",
    tokenizer: str | Path | None = None,
    on_progress: Callable[[float], None] = lambda share: None,
) -> Converted:
    """Read a model, and write it for another program, with its tokenizer. Nothing is there until all of it is.

    A model whose tokenizer is not to be had is written without one, and `losses` says so.

    Args:
        source: as `Mamba2LM.from_pretrained` takes it.
        target: a new folder; for "gguf" a new file, NAME.gguf.
        to: "ours"; "transformers", for AutoModelForCausalLM and AutoTokenizer; "official", for state-spaces/mamba;
            "mlx", for mlx-lm; "gguf", for llama.cpp, a Mamba-1 or a Mamba-2.
        dtype: of the weights, "float32", "float16" or "bfloat16"; or "q8_0" of GGUF, where all but the matrices stays
            float32 in any case.
        tokenizer: for a model that comes without one: a folder or Hub id that has one, or "bytes".
        on_progress: called with the share of the weights that is written, 0 to 1.

    Raises:
        FileNotFoundError, CheckpointError: if there is no model at the source, or a damaged one; or no tokenizer where
            one was asked for.
        FileExistsError: if there is something at the target.
        ValueError: for an unknown `to` or `dtype`, and for a variant, a tokenizer or a weight that they have no place
            for, by its name.
        ModuleNotFoundError: for "gguf", if the package gguf is not installed.
        OSError: if the disk has no room.
    """
    require(to in TO, "to", f"one of {', '.join(TO)}", to)
    known = GGUF_DTYPES if to == GGUF else tuple(DTYPES)
    require(dtype in known, "dtype", f"one of {', '.join(known)} for {to}", dtype)
    target = Path(target).expanduser()
    _require_new(target, to)
    if to == GGUF:
        gguf.library()
    model = load(source, LanguageModel, dtype=DTYPES.get(dtype, torch.float32) if to != GGUF else torch.float32)
    its_tokenizer, losses = _tokenizer(source, tokenizer)
    if to == GGUF:
        losses += _write_gguf(target, model, its_tokenizer, dtype, on_progress)
    else:
        _write_folder(target, model, its_tokenizer, to, dtype)
    on_progress(1.0)
    files = [target] if target.is_file() else list(target.iterdir())
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return Converted(target, parameters, sum(file.stat().st_size for file in files), losses)


def _require_new(target: Path, to: str) -> None:
    """Nothing of anybody is written over."""
    if to == GGUF:
        require(target.suffix == ".gguf", "target", "the name of a file, NAME.gguf", str(target))
    if target.exists() if to == GGUF or not target.is_dir() else any(target.iterdir()):
        expected = (
            "new, for something is there" if to == GGUF else "a new folder or an empty one, for something is there"
        )
        raise FileExistsError(Refusal("target", expected, str(target)))


def _tokenizer(source: str | Path, wanted: str | Path | None) -> tuple[Tokenizer | None, tuple[str, ...]]:
    """The one that is wanted; or the model's, or why it is left out."""
    try:
        return load_tokenizer(source, wanted), ()
    except FileNotFoundError as error:
        if wanted is not None:
            raise
        return None, (f"without a tokenizer, for none was found: {error}",)


def _write_folder(target: Path, model: LanguageModel, tokenizer: Tokenizer | None, to: str, dtype: str) -> None:
    weights = weights_of(model)
    for name, tensor in weights.items() if dtype == "float16" else ():
        require(not tensor.isinf().any(), "dtype", f"one that holds every weight, those of {name} too", dtype)
    again = weights["embedding.weight"].nbytes if to == "official" else 0  # which stores a tied head twice
    _require_room(target, sum(tensor.nbytes for tensor in weights.values()) + again)
    with new_folder(target) as folder:
        save(model, folder, tokenizer=tokenizer, layout=to)


def _write_gguf(
    target: Path,
    model: LanguageModel,
    tokenizer: Tokenizer | None,
    dtype: str,
    on_progress: Callable[[float], None],
) -> tuple[str, ...]:
    """The file; and what its vocabulary loses."""
    tensors = gguf.stored(model.config, weights_of(model), dtype)
    vocabulary = None if tokenizer is None else for_llama_cpp(tokenizer, model.config.vocab_size)
    total, written = sum(one.nbytes for one in tensors), 0
    _require_room(target, total)

    def count(one: gguf.Stored) -> None:
        nonlocal written
        written += one.nbytes
        on_progress(written / total)

    with replacing(target) as temporary:
        gguf.write(temporary, model.config, tensors, vocabulary, dtype, count)
    return () if vocabulary is None else vocabulary.losses


def _require_room(target: Path, size: int) -> None:
    needed, free = size + BESIDE_WEIGHTS, free_bytes(target)
    if free < needed:
        raise OSError(Refusal("target", f"on a disk with {in_bytes(needed)} free", f"{target}, with {in_bytes(free)}"))
