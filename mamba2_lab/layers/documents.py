"""Which tokens belong together: packed documents, and padding.

A row may hold several documents, told apart by ids (b,l), and end in padding, behind `lengths` (b,) real tokens.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from mamba2_lab.scan import document_starts


def is_padding(lengths: Tensor, l: int) -> Tensor:
    """(b,) -> (b,l) bool: True behind the real tokens."""
    return torch.arange(l, device=lengths.device) >= lengths[:, None]


def through_padding(document_ids: Tensor, lengths: Tensor) -> Tensor:
    """Ids with padding given to the row's last document: another id there would restart the state left behind."""
    position = torch.arange(document_ids.shape[1], device=document_ids.device)
    last = (lengths - 1).clamp(min=0)
    return document_ids.gather(1, torch.minimum(position, last[:, None]))


def number_documents(document_ids: Tensor, width: int) -> Tensor:
    """(b,l) -> (b,width+l): documents counted from 0, those of the window in front: it belongs to the first document.

    Ids themselves will not do: one may come back, and a document between may be shorter than the window.
    """
    numbers = torch.cumsum(document_starts(document_ids), dim=1, dtype=torch.int32)
    return F.pad(numbers, (width, 0))


def of_own_document(values: Tensor, documents: Tensor | None, i: int) -> Tensor:
    """values (b,l,channels), zero at the tokens whose i-th input belongs to another document."""
    if documents is None:
        return values
    l = values.shape[1]
    same = documents[:, i : i + l] == documents[:, documents.shape[1] - l :]
    return values * same.unsqueeze(-1).to(values.dtype)
