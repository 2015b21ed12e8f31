"""What training makes small, and what tells whether it has learned: bits per byte of text that it has not seen."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor
from tqdm.auto import tqdm

from mamba2_lab.data import Document
from mamba2_lab.evaluation import Reading
from mamba2_lab.evaluation.blocks import blocks
from mamba2_lab.mamba2_lm import MambaLM
from mamba2_lab.text import Tokenizer


def next_token_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy in nats per token: logits (b,l,v), targets (b,l)."""
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def bits_per_byte(
    model: MambaLM,
    documents: Sequence[Document],
    tokenizer: Tokenizer,
    *,
    segment: int | None = None,
    window: int | None = None,
    progress: bool = False,
) -> float:
    """How many bits the model needs per byte of text it has not seen: comparable across tokenizers.

    Each document is read from its beginning to its end, as `evaluation.Reading` says. The end of the document is not
    counted.

    Args:
        segment: tokens read at once; None leaves it to the reading.
        window: tokens that attention looks back at, at most; None leaves it to the reading.
    """
    if not documents:
        raise ValueError("documents must hold at least one document; got none")
    bits, size = 0.0, 0
    for document in tqdm(documents, desc="measuring", unit="file", disable=not progress):
        reading = Reading(model, tokenizer, segment, window)
        for text in blocks(document.text):
            reading.read(Document(document.name, text))
        bits += reading.bits
        size += document.bytes
    if size == 0:
        raise ValueError("documents must hold text; got only empty ones")
    return bits / size
