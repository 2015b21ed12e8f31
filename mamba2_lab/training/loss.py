"""What training makes small, and what tells whether it has learned: bits per byte of text that it has not seen."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm.auto import tqdm

from mamba2_lab.data import Document
from mamba2_lab.data.packing import encode
from mamba2_lab.machine.gradients import without_gradients
from mamba2_lab.mamba2_lm import MambaLM
from mamba2_lab.text import Tokenizer


def next_token_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy in nats per token: logits (b,l,v), targets (b,l)."""
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


@without_gradients
def bits_per_byte(
    model: MambaLM,
    documents: Sequence[Document],
    tokenizer: Tokenizer,
    *,
    segment: int = 4096,
    progress: bool = False,
) -> float:
    """How many bits the model needs per byte of text it has not seen: comparable across tokenizers.

    Each document is read from its beginning to its end, in segments joined by the cache, so no context is cut off.
    The end of the document is not counted.
    """
    if not documents:
        raise ValueError("documents must hold at least one document; got none")
    nats, size = 0.0, 0
    for document in tqdm(documents, desc="measuring", unit="file", disable=not progress):
        ids = torch.tensor([[tokenizer.end_of_text, *encode(document, tokenizer)]])
        cache = None
        for start in range(0, ids.shape[1] - 1, segment):
            inputs = ids[:, start : min(start + segment, ids.shape[1] - 1)]
            targets = ids[:, start + 1 : start + 1 + inputs.shape[1]].to(model.device)
            logits, cache = model.prefill(inputs, cache, all_positions=True)
            nats += float(F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum"))
        size += document.bytes
    if size == 0:
        raise ValueError("documents must hold text; got only empty ones")
    return nats / math.log(2) / size
