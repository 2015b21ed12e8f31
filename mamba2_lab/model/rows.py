"""Token ids in the one form that blocks know: real tokens first, then padding."""

import copy
from typing import Self

import torch
from torch import Tensor

from mamba2_lab.machine import transforms
from mamba2_lab.machine.gradients import for_backward


class Rows:
    """Rows of token ids, the real ones in front. To slide them together changes nothing: no mixer counts the others.
    So padding on the left and holes become padding on the right here, and results are put back afterwards."""

    order: Tensor | None  # which of the given tokens stands where
    lengths: Tensor | None  # of real tokens; None: all are

    def __init__(
        self, input_ids: Tensor, attention_mask: Tensor | None, document_ids: Tensor | None, device: torch.device
    ) -> None:
        for name, given in (("attention_mask", attention_mask), ("document_ids", document_ids)):
            if given is not None and given.shape != (shape := input_ids.shape):
                raise ValueError(f"{name} must have the shape of input_ids, {tuple(shape)}; got {tuple(given.shape)}")
        self.input_ids = for_backward(input_ids.to(device))
        self.document_ids = None if document_ids is None else document_ids.to(device)
        self.order, self.lengths = None, None
        self.start = 0  # of a piece, in the rows that it was cut from
        if attention_mask is not None:
            self._real_tokens_first(attention_mask.to(device).bool())

    def _real_tokens_first(self, real: Tensor) -> None:
        self.order = torch.argsort((~real).to(torch.int32), dim=1, stable=True)
        self.lengths = real.sum(dim=1)
        self.input_ids = self.input_ids.gather(1, self.order)
        if self.document_ids is not None:
            self.document_ids = self.document_ids.gather(1, self.order)

    def in_given_order(self, u: Tensor) -> Tensor:
        """(b,l,d) with each token back where it was given."""
        return u if self.order is None else torch.zeros_like(u).scatter(1, self.order.unsqueeze(-1).expand_as(u), u)

    def cut(self, size: int) -> list[Self]:
        """Pieces of so many tokens. Documents are not cut: if one began with a piece, nobody would see it."""
        l = self.input_ids.shape[1]
        if l <= size or self.document_ids is not None:
            return [self]
        return [self._piece(start, size) for start in range(0, l, size)]

    def _piece(self, start: int, size: int) -> Self:
        piece = copy.copy(self)
        piece.start, piece.input_ids = start, self.input_ids[:, start : start + size]
        if self.lengths is not None:
            piece.lengths = (self.lengths - start).clamp(0, piece.input_ids.shape[1])
        return piece

    def at_last_real_token(self, u: Tensor, last: Tensor, otherwise: Tensor | None) -> Tensor:
        """u (b,l,d) of this piece at `last` (b,), counted over all pieces -> (b,d); `otherwise` if elsewhere."""
        index = last - self.start
        found = u.gather(1, index.clamp(0, u.shape[1] - 1)[:, None, None].expand(-1, 1, u.shape[-1])).squeeze(1)
        here = (0 <= index) & (index < u.shape[1])
        return found if otherwise is None else torch.where(here[:, None], found, otherwise)

    def last_real_token(self) -> Tensor:
        """(b,) the index of each row's last real token; ValueError if a row has none."""
        b, l = self.input_ids.shape
        if l == 0:
            raise ValueError(f"input_ids must hold at least one token per row; got shape {(b, l)}")
        if self.lengths is None:
            return torch.full((b,), l - 1, device=self.input_ids.device)
        looked_at = not transforms.by_torch_func()  # a mapped tensor has no values to look at
        if looked_at and (empty := (self.lengths == 0).nonzero().flatten().tolist()):
            raise ValueError(f"attention_mask must mark at least one real token per row; row {empty[0]} has none")
        return self.lengths - 1
