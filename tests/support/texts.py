"""Texts to read, and a tokenizer that has learned from some of them."""

from __future__ import annotations

import argparse
import functools
import inspect
import textwrap

from hypothesis import strategies as st

from mamba2_lab.text import BPETokenizer

texts = st.text(st.characters(exclude_categories=["Cs"]))  # no surrogates: they have no UTF-8
SOURCE = [inspect.getsource(argparse), inspect.getsource(textwrap), "<|end_of_text|> " * 500, "naïve café 2024\n" * 50]


@functools.cache
def bpe() -> BPETokenizer:
    return BPETokenizer.train(SOURCE, 700)


parts = "<|end_of_text|>", "def ", "\n", "    ", "\t", " ", "é", "🐍", "\r\n", "12", "self._x", "\0", "\ufffd", "日本"
snippets = st.lists(st.sampled_from(parts) | texts, max_size=12).map("".join)
