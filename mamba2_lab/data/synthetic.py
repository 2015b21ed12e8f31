"""Small tasks that ask one thing of a memory each. A model of a few thousand weights learns them in seconds, or cannot.

Each generator returns a `TaskBatch`: inputs (b,l), and targets (b,l) that hold a token where the answer is scored and
`IGNORED` elsewhere. Targets stand where the model must give them: the logits at position t are judged by targets[:, t].
Every draw comes from the CPU generator given.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mamba2_lab.checks import require

IGNORED = -100  # the index that torch's cross_entropy leaves out


@dataclass(frozen=True)
class TaskBatch:
    """Inputs and targets of a task, each (b,l); targets are IGNORED where nothing is asked."""

    input_ids: Tensor
    targets: Tensor

    @property
    def answers(self) -> Tensor:
        """(b,l) bool: where an answer is scored."""
        return self.targets != IGNORED


def accuracy(logits: Tensor, batch: TaskBatch) -> float:
    """Share of the scored positions at which the likeliest token is the right one. logits: (b,l,v)."""
    right = logits.argmax(dim=-1).cpu() == batch.targets
    return float(right[batch.answers].float().mean())


def selective_copying(
    batch_size: int, length: int, copied: int, generator: torch.Generator, *, symbols: int = 14
) -> TaskBatch:
    """Repeat, in order, the few symbols that were scattered among blanks.

    Tokens: 0 is the blank, 1 asks for the next answer, 2..symbols+1 are the symbols. `copied` symbols stand at random
    among `length` positions, then `copied` questions follow. The gaps differ from row to row, so a memory that counts
    time cannot do it: it has to choose by content. (Gu & Dao 2023, arXiv:2312.00752, section 4.1.1.)

    Returns:
        (b, length + copied).

    Raises:
        ValueError: if more is to be copied than there are positions.
    """
    require(1 <= copied <= length, "copied", f"1..{length}, the length", copied)
    places = torch.rand(batch_size, length, generator=generator).argsort(dim=1)[:, :copied].sort(dim=1).values
    answers = torch.randint(2, symbols + 2, (batch_size, copied), generator=generator)
    shown = torch.zeros(batch_size, length, dtype=torch.long).scatter(1, places, answers)
    inputs = torch.cat([shown, torch.ones_like(answers)], dim=1)
    targets = torch.full_like(inputs, IGNORED)
    targets[:, length:] = answers
    return TaskBatch(inputs, targets)


def induction_heads(batch_size: int, length: int, generator: torch.Generator, *, symbols: int = 15) -> TaskBatch:
    """Recall what followed a special token the first time, when it comes again at the end.

    Tokens: 0 is the special token, 1..symbols are the others. (Olsson et al. 2022, arXiv:2209.11895; as a task for
    state-space models, Gu & Dao 2023, section 4.1.2.)

    Returns:
        (b, length); only the last position is scored.

    Raises:
        ValueError: if the length leaves no room for the special token and what follows it.
    """
    require(length >= 3, "length", "at least 3", length)
    inputs = torch.randint(1, symbols + 1, (batch_size, length), generator=generator)
    first = torch.randint(0, length - 2, (batch_size, 1), generator=generator)
    inputs.scatter_(1, first, 0)
    inputs[:, -1] = 0
    targets = torch.full_like(inputs, IGNORED)
    targets[:, -1:] = inputs.gather(1, first + 1)
    return TaskBatch(inputs, targets)


def associative_recall(
    batch_size: int, pairs: int, queries: int, generator: torch.Generator, *, keys: int = 32, values: int = 32
) -> TaskBatch:
    """Multi-query associative recall: read key-value pairs, then give the value of each key asked for.

    Tokens: 0..keys-1 are keys, keys..keys+values-1 are values. The pairs come first, key then value, every key once;
    then `queries` of those keys, each different, in any order. How many pairs can be held is a matter of the size of
    the state. (Arora et al. 2023, "Zoology", arXiv:2312.04927.)

    Returns:
        (b, 2*pairs + queries); the queries are scored.

    Raises:
        ValueError: if there are fewer keys than pairs, or fewer pairs than queries.
    """
    require(1 <= pairs <= keys, "pairs", f"1..{keys}, the number of keys", pairs)
    require(1 <= queries <= pairs, "queries", f"1..{pairs}, the number of pairs", queries)
    chosen = torch.rand(batch_size, keys, generator=generator).argsort(dim=1)[:, :pairs]
    paired = torch.randint(keys, keys + values, (batch_size, pairs), generator=generator)
    asked = torch.rand(batch_size, pairs, generator=generator).argsort(dim=1)[:, :queries]
    shown = torch.stack([chosen, paired], dim=2).flatten(1)
    inputs = torch.cat([shown, chosen.gather(1, asked)], dim=1)
    targets = torch.full_like(inputs, IGNORED)
    targets[:, 2 * pairs :] = paired.gather(1, asked)
    return TaskBatch(inputs, targets)
