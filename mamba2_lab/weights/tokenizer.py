"""The tokenizer that belongs to a model: its own, or the one that it was published without."""

from __future__ import annotations

from pathlib import Path

from mamba2_lab import text
from mamba2_lab.checks import Refusal
from mamba2_lab.machine.untrusted import CheckpointError, read_json
from mamba2_lab.text import Tokenizer
from mamba2_lab.weights.adapters import base_of, is_adapter
from mamba2_lab.weights.places import CONFIG_NAME, locate

_NEOX = "EleutherAI/gpt-neox-20b"
_LLAMA = "meta-llama/Llama-3.1-8B"
PUBLISHED_WITHOUT = {  # whose tokenizer a model has that came without one, by its vocabulary; some count padding
    **dict.fromkeys((50277, 50280, 50288), _NEOX),  # official mamba, mamba2, mamba2attn, transformerpp
    128256: _LLAMA,  # official mamba3
}


def load_tokenizer(source: str | Path, tokenizer: str | Path | None = None) -> Tokenizer:
    """The tokenizer that belongs to a model.

    That is the one in its folder. The official models come without one and use that of another model on the Hub, which
    is downloaded, then cached: "EleutherAI/gpt-neox-20b" for all but Mamba-3, and "meta-llama/Llama-3.1-8B" for
    Mamba-3. The latter is gated: the Hub gives it to those who have accepted its licence.

    Args:
        source: as `Mamba2LM.from_pretrained` takes it.
        tokenizer: another one in its place: a folder or Hub id that has one, or "bytes".

    Raises:
        FileNotFoundError: if there is nothing at the source, or no tokenizer.
        CheckpointError: if it is damaged, explodes when it is tried, is of an unknown type, or has more tokens than
            the model.
        ValueError: if the one that was asked for has more tokens than the model.
    """
    folder = locate(source, only_tokenizer=True).folder
    vocab_size = _vocab_size(folder)
    found = _own(source, folder, vocab_size) if tokenizer is None else text.find(tokenizer)
    if vocab_size is None or found.vocab_size <= vocab_size:
        return found
    if tokenizer is not None:
        raise ValueError(Refusal("tokenizer", f"of at most {vocab_size} tokens, as the model is", found.vocab_size))
    raise CheckpointError(f"{folder}: expected a tokenizer of at most {vocab_size} tokens; found {found.vocab_size}")


def _own(source: str | Path, folder: Path, vocab_size: int | None) -> Tokenizer:
    """The one in the folder, or else the one that models of this vocabulary are published without."""
    if text.has_tokenizer(folder):
        return text.load(folder)
    if is_adapter(folder):
        return load_tokenizer(base_of(folder))
    try:
        return text.find(PUBLISHED_WITHOUT[vocab_size] if vocab_size in PUBLISHED_WITHOUT else folder)
    except OSError as error:
        expected = f"given, as a folder or Hub id, for a model that comes without one ({error})"
        raise FileNotFoundError(Refusal("tokenizer", expected, str(source))) from error


def _vocab_size(folder: Path) -> int | None:
    """Of the model in the folder, whichever layout it has; None if there is none, or it does not say."""
    path = folder / CONFIG_NAME
    size = read_json(path).get("vocab_size") if path.exists() else None
    return size if type(size) is int else None
