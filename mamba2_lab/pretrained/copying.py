"""Does a model copy? Tokens of a text in random order, read twice: the second time each stands where it stood before.

What a model of text knows does not help it with the first reading, for the order is random; so the second measures what
it recalls, and how far back. Nothing was trained for it: whoever has learned from text to go on as it went the last
time (Olsson et al. 2022, "In-context learning and induction heads", arXiv:2209.11895) can do it with any tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mamba2_lab.checks import require
from mamba2_lab.data import Document, pack
from mamba2_lab.mamba2_lm import MambaLM
from mamba2_lab.text import Tokenizer

ROWS, ROWS_AT_ONCE = 64, 16


@torch.no_grad()
def shares_copied(
    model: MambaLM, documents: Sequence[Document], tokenizer: Tokenizer, length: int, *, rows: int = ROWS, seed: int = 0
) -> dict[str, float]:
    """Of the tokens read for the first time, and for the second, the share that the model held the likeliest.

    Args:
        documents: whose tokens are read; the most common ones are the most common here.
        length: tokens of a text, and so between a token and its answer.
        rows: texts.

    Raises:
        ValueError: if the documents hold fewer tokens than a text.
    """
    given = twice(documents, tokenizer, length, rows, seed)
    right = torch.cat([_right(model, part) for part in given.split(ROWS_AT_ONCE)])
    first, again = right.float().split(length, dim=1)
    return {"first": round(first.mean().item(), 4), "again": round(again.mean().item(), 4)}


def twice(documents: Sequence[Document], tokenizer: Tokenizer, length: int, rows: int, seed: int) -> Tensor:
    """`end_of_text`, then the tokens of a stretch of the documents in random order, then the same again:
    (rows, 1 + 2 * length)."""
    ids = pack(documents, tokenizer).ids.long()
    ids = ids[ids != tokenizer.end_of_text]
    require(1 <= length <= len(ids), "length", f"1..{len(ids)}, the tokens of the documents", length)
    generator = torch.Generator().manual_seed(seed)
    starts = torch.randint(len(ids) - length + 1, (rows,), generator=generator)
    order = torch.rand(rows, length, generator=generator).argsort(dim=1)
    text = ids[starts[:, None] + order]
    return torch.cat([torch.full_like(text[:, :1], tokenizer.end_of_text), text, text], dim=1)


def _right(model: MambaLM, given: Tensor) -> Tensor:
    """(b,l) -> (b,l-1) bool: whether the likeliest token is the one that follows."""
    return model(given)[:, :-1].argmax(dim=-1).cpu() == given[:, 1:]
