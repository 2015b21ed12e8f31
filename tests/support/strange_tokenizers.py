"""Descriptions of tokenizers by their parts, and folders with one, as a stranger may write them."""

from __future__ import annotations

import json

import tokenizers as library
from support.many_tokenizers import byte_level
from tokenizers import models


def whole_words() -> library.Tokenizer:
    vocabulary = {"[UNK]": 0, "[MASK]": 1, "[END]": 2, "a": 3, "b": 4, "[": 5}
    return library.Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))


def described(**changes) -> dict:
    """What the library writes of whole words, and something else in it."""
    made = whole_words()
    made.add_special_tokens(["[END]"])
    return {**json.loads(made.to_str()), **changes}


def split_at(expression: str) -> dict:
    return {"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated", "invert": False}


def in_place_of(pattern: dict, content: str) -> dict:
    return {"type": "Replace", "pattern": pattern, "content": content}


def folder_with(tmp_path, **files: object):
    byte_level().save(str(tmp_path / "tokenizer.json"))
    for name, content in files.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    return tmp_path
