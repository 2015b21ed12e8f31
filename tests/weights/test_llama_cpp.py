"""llama.cpp itself, where it is installed (pip install llama-cpp-python): it computes what we do.

What it refuses it may end the whole process for, so nothing is given to it here but what it should take.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.families import family_model
from support.small_models import random_ids, small_model

from mamba2_lab import MambaLM, convert, load_tokenizer
from mamba2_lab.text import BPETokenizer, prompt_ids

llama_cpp = pytest.importorskip("llama_cpp", reason="llama.cpp is not installed here")

PROMPT = "class Node:\n    def __init__(self"
WITHIN = {"float32": 1e-5, "float16": 2e-3, "bfloat16": 1e-2, "q8_0": 5e-2}  # of the largest logit


def theirs(path: Path) -> Any:
    return llama_cpp.Llama(model_path=str(path), n_ctx=256, logits_all=True, verbose=False, n_threads=1)


def logits(model: Any, ids: list[int], at_once: int | None = None) -> np.ndarray:
    """(l, vocab): the first tokens at once, the others one by one."""
    model.reset()
    at_once = len(ids) if at_once is None else at_once
    for part in (ids[:at_once], *([i] for i in ids[at_once:])):
        model.eval(part)
    return np.array(model.scores[: len(ids)])


@torch.no_grad()
def difference(model: MambaLM, found: np.ndarray, ids: list[int]) -> float:
    """The largest, in units of our largest logit."""
    ours = model(torch.tensor([ids]))[0].numpy()
    assert found.shape == ours.shape
    return float(np.abs(found - ours).max() / np.abs(ours).max())


@pytest.mark.parametrize("dtype", WITHIN)
@pytest.mark.parametrize("name", ["small", "medium"])
def test_a_model_in_the_box_computes_the_same(tmp_path: Path, name: str, dtype: str) -> None:
    convert(name, tmp_path / "model.gguf", "gguf", dtype=dtype)
    ours, ids = MambaLM.from_pretrained(name), prompt_ids(load_tokenizer(name), PROMPT)
    assert difference(ours, logits(theirs(tmp_path / "model.gguf"), ids), ids) <= WITHIN[dtype]


@pytest.mark.parametrize("name", ["small", "medium"])
def test_a_model_in_the_box_writes_the_same_greedy_text(tmp_path: Path, name: str) -> None:
    convert(name, tmp_path / "model.gguf", "gguf")
    model, ours, tokenizer = theirs(tmp_path / "model.gguf"), MambaLM.from_pretrained(name), load_tokenizer(name)
    ids = prompt_ids(tokenizer, PROMPT)
    assert model.tokenize(PROMPT.encode(), add_bos=True) == ids
    assert model.token_eos() == tokenizer.end_of_text and model.n_vocab() == tokenizer.vocab_size
    expected = ours.generate(torch.tensor([ids]), max_new_tokens=40, temperature=0.0)[0, len(ids) :].tolist()
    found: list[int] = []
    for token in model.generate(ids, temp=0.0):
        found.append(token)
        if len(found) == 40:
            break
    assert found == expected
    assert model.detokenize(found).decode() == tokenizer.decode(expected)


VARIANTS: list[Any] = [
    {},
    {"ngroups": 2},
    {"d_model": 64, "headdim": 16, "ngroups": 4},
    {"tie_embeddings": False, "conv_bias": False, "norm_eps": 1e-3},
    {"d_conv": 1, "expand": 3, "d_state": 5},
    "mamba1",
    "falcon",
]


@pytest.mark.parametrize("what", VARIANTS, ids=str)
def test_variants_compute_the_same_at_once_and_token_by_token(tmp_path: Path, what: Any) -> None:
    falcons = {"norm_eps": 1e-3} if what == "falcon" else {}
    model = (small_model(**what) if isinstance(what, dict) else family_model(what, **falcons)).cpu()
    model.save_pretrained(tmp_path / "ours")
    convert(tmp_path / "ours", tmp_path / "model.gguf", "gguf")
    ids = random_ids(37).tolist()
    assert difference(model, logits(theirs(tmp_path / "model.gguf"), ids, at_once=20), ids) <= WITHIN["float32"]


def test_text_of_any_kind_has_the_same_bytes(tmp_path: Path) -> None:
    convert("small", tmp_path / "small.gguf", "gguf")
    model, tokenizer = theirs(tmp_path / "small.gguf"), load_tokenizer("small")
    for text in ("", " a", "né\n\n\t x  ", "語🎉\u0301", "<|end_of_text|>", "1234567 don't"):
        ids = model.tokenize(text.encode(), add_bos=False, special=False)
        assert ids == tokenizer.encode(text)
        assert model.detokenize([*tokenizer.encode("x"), *ids]).decode() == f"x{text}"


def test_other_tokens_for_a_text_are_the_same_text_still(tmp_path: Path) -> None:
    """The pattern that cuts nearly as ours: what differs is told by `convert`, and no character is lost."""
    text = "def f(x):\n    return f(__name__, ('a', \"b\"))  # né 12\n" * 3
    tokenizer = BPETokenizer.train([text], 300)
    small_model(vocab_size=300).save_pretrained(tmp_path / "ours", tokenizer=tokenizer)
    assert convert(tmp_path / "ours", tmp_path / "model.gguf", "gguf").losses
    model = theirs(tmp_path / "model.gguf")
    assert model.detokenize(model.tokenize(text.encode(), add_bos=True)).decode() == text
