"""From logits to the next token: one pure function per filter, and a draw.

A filter takes logits (b,v) and returns logits (b,v); a token that it removes gets -inf. Every filter keeps at least
one token. They are applied in the order in which transformers applies them: repetition penalty, temperature, top-k,
top-p, min-p. All of this runs on the CPU: `torch.multinomial` on mps has returned tokens of probability zero
(pytorch issue 192577), and a draw that depends on the device is not reproducible.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mamba2_lab.checks import require, require_number, require_whole

Filter = Callable[[Tensor], Tensor]

# A probability that stands exactly at a threshold is kept or not by the last bit of a float32 logit. So it counts as
# having reached the threshold when it is this close: 0.5 + 0.4 reach 0.9, and nine tokens of 0.1 do.
SLACK = 1e-6
LIKELIEST = 64  # tokens that top-p looks at first


@dataclass(frozen=True)
class SamplingConfig:
    """How to choose the next token.

    temperature: logits are divided by it; 0 is greedy, the likeliest token every time.
    top_k: keep the k likeliest tokens.
    top_p: keep the least set of likeliest tokens whose probabilities reach p (Holtzman et al. 2019, arXiv:1904.09751).
    min_p: keep tokens at least min_p times as probable as the likeliest (Nguyen et al. 2024, arXiv:2407.01082).
    repetition_penalty: > 1 makes tokens already seen less likely (Keskar et al. 2019, arXiv:1909.05858).

    Raises:
        TypeError, ValueError: as `checks` says it.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float = 1.0

    def __post_init__(self) -> None:
        _check_number("temperature", self.temperature, "a finite number, 0 (greedy) or more", lambda v: v >= 0)
        if self.top_k is not None:
            require_whole("top_k", self.top_k, in_code=" or None")
            require(self.top_k >= 1, "top_k", "at least 1", self.top_k, in_code=", or None for all tokens")
        if self.top_p is not None:
            _check_number("top_p", self.top_p, "in (0, 1]", lambda v: 0 < v <= 1, in_code=", or None")
        if self.min_p is not None:
            _check_number("min_p", self.min_p, "in [0, 1]", lambda v: 0 <= v <= 1, in_code=", or None")
        _check_number("repetition_penalty", self.repetition_penalty, "a finite number above 0", lambda v: v > 0)

    @property
    def greedy(self) -> bool:
        """Whether the likeliest token is taken every time."""
        return self.temperature == 0

    def filters(self) -> list[tuple[str, Filter]]:
        """The filters that are switched on, by name, in the order of application.

        The repetition penalty is not among them: it needs the tokens seen (`penalise_repetition`).
        """
        chosen: list[tuple[str, Filter]] = []
        if self.temperature not in (0, 1):
            chosen.append(("temperature", lambda logits: apply_temperature(logits, self.temperature)))
        if (k := self.top_k) is not None:
            chosen.append(("top_k", lambda logits: keep_top_k(logits, k)))
        if (p := self.top_p) is not None:
            chosen.append(("top_p", lambda logits: keep_top_p(logits, p)))
        if (m := self.min_p) is not None:
            chosen.append(("min_p", lambda logits: keep_min_p(logits, m)))
        return chosen


def penalise_repetition(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """Make the tokens marked in seen (b,v) less likely: divide positive logits by the penalty, multiply the others.

    Finite logits stay finite, whatever the penalty: one that overflows becomes the largest number there is.
    """
    penalised = torch.where(logits > 0, logits / penalty, logits * penalty).nan_to_num()
    return torch.where(seen & logits.isfinite(), penalised, logits)


def apply_temperature(logits: Tensor, temperature: float) -> Tensor:
    """Below 1 sharpens the distribution, above 1 flattens it."""
    return logits / temperature


def keep_top_k(logits: Tensor, k: int) -> Tensor:
    """Keep the k likeliest tokens (and any tied with the k-th)."""
    kth = logits.topk(min(k, logits.shape[-1]), dim=-1).values[:, -1:]
    return logits.masked_fill(logits < kth, -math.inf)


def keep_top_p(logits: Tensor, p: float) -> Tensor:
    """Keep the least set of likeliest tokens whose probabilities reach p: all tokens until the sum is there."""
    if p == 1:
        return logits  # every token, also those too small to change the sum
    probabilities = logits.double().softmax(dim=-1)  # on 50,000 tokens a float32 sum can be off by more than a token
    # The likeliest tokens are enough, if they reach p: to put all in order takes longer than all the rest.
    for k in (LIKELIEST, 16 * LIKELIEST, logits.shape[-1]):
        ordered = probabilities.topk(min(k, logits.shape[-1]), dim=-1).values
        reached = ordered.cumsum(dim=-1) - ordered >= p - SLACK  # before it, so that it is not needed
        if k >= logits.shape[-1] or reached[:, -1].all():
            break
    count = ordered.shape[-1] - reached[:, 1:].sum(dim=-1, keepdim=True)
    return logits.masked_fill(~_first(probabilities, ordered.gather(1, count - 1), count), -math.inf)


def _first(values: Tensor, last: Tensor, count: Tensor) -> Tensor:
    """Where the `count` (b,1) largest of the values (b,v) are, down to `last`; of those that are alike, the first."""
    kept = values >= last
    if bool((kept.sum(dim=-1, keepdim=True) == count).all()):
        return kept
    above, alike = values > last, values == last
    return above | (alike & (alike.cumsum(dim=-1) <= count - above.sum(dim=-1, keepdim=True)))


def keep_min_p(logits: Tensor, min_p: float) -> Tensor:
    """Keep tokens whose probability is at least min_p times that of the likeliest."""
    if min_p == 0:
        return logits
    floor = logits.max(dim=-1, keepdim=True).values + math.log(min_p) - SLACK
    return logits.masked_fill(logits < floor, -math.inf)


def sample(
    logits: Tensor,
    config: SamplingConfig,
    generator: torch.Generator | None = None,
    seen: Tensor | None = None,
    rows: Sequence[int] | None = None,
) -> Tensor:
    """Choose one token per row: logits (b,v) on any device -> ids (b,) on the CPU.

    Args:
        generator: the CPU generator to draw from; None is torch's own.
        seen: (b,v) bool on the CPU, the tokens that the repetition penalty applies to.
        rows: what errors are to call the rows, where these are some of a larger batch.

    Raises:
        ValueError: if a logit is NaN, or a row has no finite one: something broke before the sampler.
    """
    for _, left in _until_greedy(logits, config, seen, rows):
        logits = left
    if config.greedy:
        return logits.argmax(dim=-1)
    for _, left in _filtered(logits, config):
        logits = left
    return torch.multinomial(logits.double().softmax(dim=-1).float(), 1, generator=generator).squeeze(-1)


def stages(logits: Tensor, config: SamplingConfig, seen: Tensor | None = None) -> Iterator[tuple[str, Tensor]]:
    """What `sample` draws from, step by step: ("model", the logits as they came), then each filter that is switched on.

    Args:
        logits, seen, config: as for `sample`. Temperature 0 is a filter that keeps the likeliest token.

    Yields:
        The name of the step, and the logits (b,v) that it leaves, on the CPU; those of the last are drawn from.
    """
    for name, left in _until_greedy(logits, config, seen):
        yield name, left
    if config.greedy:
        likeliest = left.argmax(dim=-1, keepdim=True)
        yield "temperature", torch.full_like(left, -math.inf).scatter(1, likeliest, left.gather(1, likeliest))
    else:
        yield from _filtered(left, config)


def _until_greedy(
    logits: Tensor, config: SamplingConfig, seen: Tensor | None, rows: Sequence[int] | None = None
) -> Iterator[tuple[str, Tensor]]:
    """The stages that temperature 0 has as well, before it takes the likeliest."""
    if logits.ndim != 2:
        raise ValueError(f"logits must have shape (b,v); got {tuple(logits.shape)}")
    logits = logits.float().cpu()
    _check_logits(logits, range(len(logits)) if rows is None else rows)
    yield "model", logits
    if seen is not None and config.repetition_penalty != 1:
        yield "repetition_penalty", penalise_repetition(logits, seen, config.repetition_penalty)


def _filtered(logits: Tensor, config: SamplingConfig) -> Iterator[tuple[str, Tensor]]:
    # Only differences of logits count. With the highest at 0, and in float64, no temperature can make them overflow.
    logits = logits.double() - logits.amax(dim=-1, keepdim=True)
    for name, apply in config.filters():
        logits = apply(logits)
        yield name, logits


def _check_logits(logits: Tensor, rows: Sequence[int]) -> None:
    highest = logits.amax(dim=-1).tolist()  # NaN wins, so one pass tells all
    for row, value in zip(rows, highest, strict=True):
        if not math.isfinite(value):
            raise ValueError(f"logits must be finite numbers to sample from; the highest of row {row} is {value}")


def _check_number(name: str, value: float, expected: str, holds: Callable[[float], bool], in_code: str = "") -> None:
    require_number(name, value)
    require(math.isfinite(value) and holds(value), name, expected, value, in_code)
