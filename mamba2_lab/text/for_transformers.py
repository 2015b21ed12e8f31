"""A tokenizer in the files that transformers reads, and with it all who build upon it, mlx-lm say.

    tokenizer.json           how text is cut, and every token
    tokenizer_config.json    which tokens begin and end a text
    generation_config.json   their numbers: where a text that is written ends

They hold no code, and ask for none.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from mamba2_lab.machine.files import write_text
from mamba2_lab.text.subwords import Subwords, opened_by
from mamba2_lab.text.tokenizer import ByteTokenizer, Tokenizer

END_OF_TEXT = "<|end_of_text|>"  # what the one token of `ByteTokenizer` that is no byte is called there


def save_for_transformers(tokenizer: Tokenizer, folder: str | Path) -> None:
    """Write a tokenizer so that `transformers.AutoTokenizer.from_pretrained(folder)` gives the same ids and texts.

        theirs.encode(text)                                 == [*tokenizer.opening, *tokenizer.encode(text)]
        theirs.decode(ids, skip_special_tokens=True)        == tokenizer.decode(ids)

    The name of a special token is text there as it is here. One exception: where the vocabulary of a published
    tokenizer has that name as a word or a piece (WordLevel, Unigram), text that spells it comes out as the token.

    What pads is the end of text too: it is what `generate` pads with.

    Raises:
        TypeError: for a tokenizer of another kind.
    """
    plain = as_library(tokenizer)
    backend = opened_by(plain, [str(plain.id_to_token(i)) for i in tokenizer.opening])
    begin = (*tokenizer.opening, tokenizer.end_of_text)[0]
    ids = {"bos": begin, "eos": tokenizer.end_of_text, "pad": tokenizer.end_of_text}
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",  # or the model's type would choose one, which cuts otherwise
        **{f"{name}_token": backend.id_to_token(i) for name, i in ids.items()},
        "add_bos_token": bool(tokenizer.opening),
        "split_special_tokens": True,  # their names are text
        "clean_up_tokenization_spaces": False,
        "model_input_names": ["input_ids", "attention_mask"],  # all that a Mamba takes
    }
    folder = Path(folder)
    write_text(folder / "tokenizer.json", backend.to_str(pretty=True) + "\n")
    _write_json(folder / "tokenizer_config.json", config)
    _write_json(folder / "generation_config.json", {f"{name}_token_id": i for name, i in ids.items()})


def as_library(tokenizer: Tokenizer) -> tokenizers.Tokenizer:
    """The same tokenizer as one of the `tokenizers` library, whose tokens have names.

    Raises:
        TypeError: for a tokenizer of another kind.
    """
    if isinstance(tokenizer, ByteTokenizer):
        return _of_bytes()
    if isinstance(tokenizer, Subwords):
        return tokenizers.Tokenizer.from_str(json.dumps(tokenizer.to_dict()["tokenizer"]))
    raise TypeError(f"tokenizer must be one of mamba2_lab.text; got {type(tokenizer).__name__}")


def _of_bytes() -> tokenizers.Tokenizer:
    """Byte-level BPE that has learned no merges. Each byte has the name that GPT-2's `bytes_to_unicode` gave it: its
    character in Latin-1 where that can be seen, else one from U+0100 on."""
    seen = {byte for first, last in ("!~", "¡¬", "®ÿ") for byte in range(ord(first), ord(last) + 1)}
    others = itertools.count(0x100)
    vocabulary = {chr(byte if byte in seen else next(others)): byte for byte in range(256)}
    made = tokenizers.Tokenizer(models.BPE(vocabulary, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([tokenizers.AddedToken(END_OF_TEXT, special=True, normalized=False)])
    return made


def _write_json(path: Path, content: dict[str, Any]) -> None:
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
