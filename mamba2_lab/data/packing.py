"""Documents laid end to end, and windows cut out of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mamba2_lab.checks import require
from mamba2_lab.data.python_source import Document
from mamba2_lab.text import Tokenizer, prompt_ids

AT_ONCE = 256  # documents given to a tokenizer together: enough for all cores, few enough to hold as lists


@dataclass(frozen=True)
class Batch:
    """Windows of tokens, the tokens that follow them, and whose they are: each (b,l)."""

    input_ids: Tensor
    targets: Tensor
    document_ids: Tensor

    def split(self, parts: int) -> list[Batch]:
        """The rows cut into `parts` batches of the same size."""
        size = self.input_ids.shape[0] // parts
        columns = (self.input_ids.split(size), self.targets.split(size), self.document_ids.split(size))
        return [Batch(*row) for row in zip(*columns, strict=True)]


@dataclass(frozen=True)
class PackedTokens:
    """Documents end to end, each as the model is to read it alone, up to its end: see `pack`. What follows the last
    token of one is the first of the next.

    ids, document_ids: (tokens,)
    """

    ids: Tensor
    document_ids: Tensor

    def __len__(self) -> int:
        return self.ids.shape[0]

    def to(self, device: torch.device | str) -> PackedTokens:
        """The same tokens on another device, where their windows will be cut.

        Cut on the CPU, a batch of 65,536 tokens kept an H200 waiting for 9 to 56 ms, as long as it computed.
        """
        return PackedTokens(self.ids.to(device), self.document_ids.to(device))

    def digest(self) -> str:
        """SHA-256 of the tokens and of where documents begin, in hexadecimal: the same on every device and machine."""
        document_ids = self.document_ids.cpu()
        begins = torch.ones_like(document_ids, dtype=torch.bool)
        begins[1:] = document_ids[1:] != document_ids[:-1]
        digest = hashlib.sha256(self.ids.cpu().numpy().astype("<i4", copy=False).data)
        digest.update(begins.numpy().data)
        return digest.hexdigest()

    def windows(self, starts: Tensor, length: int) -> Batch:
        """The windows of `length` tokens that begin at `starts` (b,)."""
        device = self.ids.device
        index = starts.to(device)[:, None] + torch.arange(length, device=device)
        return Batch(self.ids[index].long(), self.ids[index + 1].long(), self.document_ids[index])

    def require_longer_than(self, length: int) -> None:
        """ValueError unless there is a window of that length, and a target behind it."""
        require(length < len(self), "length", f"less than the {len(self)} tokens there are", length)

    def random_batch(self, batch_size: int, length: int, generator: torch.Generator) -> Batch:
        """Windows from anywhere, each start equally likely. The generator is one of the CPU, wherever the tokens are.

        Raises:
            ValueError: if there are not enough tokens for one window and its last target.
        """
        self.require_longer_than(length)
        return self.windows(torch.randint(0, len(self) - length, (batch_size,), generator=generator), length)


def pack(documents: Iterable[Document], tokenizer: Tokenizer) -> PackedTokens:
    """Tokenise documents and lay them end to end.

    Each begins as a text does that the model reads later (`prompt_ids`): with `end_of_text` where that, or nothing,
    opens a text for this tokenizer. It then stands between two documents, the end of one and the beginning of the next.
    Where another token opens a text, <s> say, a document is that, the text and `end_of_text`.

    A document that the tokenizer refuses ends it: what is left out of a corpus is for its owner to choose.

    Raises:
        ValueError: if there are none; naming the document, if a text has no UTF-8 or comes out as the end of text.
    """
    ids: list[Tensor] = []
    documents = list(documents)
    opening, end = prompt_ids(tokenizer, ""), [tokenizer.end_of_text]
    closing = [] if opening[:1] == end else end
    for start in range(0, len(documents), AT_ONCE):
        for encoded in _encode(documents[start : start + AT_ONCE], tokenizer):
            ids.append(torch.from_numpy(np.array([*opening, *encoded, *closing], dtype=np.int32)))
    if not ids:
        raise ValueError("documents must hold at least one document; got none")
    lengths = torch.tensor([len(part) for part in ids])
    return PackedTokens(torch.cat(ids), torch.arange(len(ids), dtype=torch.int32).repeat_interleave(lengths))


def _encode(documents: list[Document], tokenizer: Tokenizer) -> list[list[int]]:
    try:
        return tokenizer.encode_batch([document.text for document in documents])
    except ValueError:
        for document in documents:
            encode(document, tokenizer)  # raises at the one that is refused
        raise


def encode(document: Document, tokenizer: Tokenizer) -> list[int]:
    """Token ids of one document, without `end_of_text`.

    Raises:
        ValueError: what the tokenizer says, and the name of the document.
    """
    try:
        return tokenizer.encode(document.text)
    except ValueError as error:
        raise ValueError(f"{document.name}: {error}") from error
