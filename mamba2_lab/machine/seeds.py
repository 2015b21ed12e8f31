"""Random draws that can be repeated."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from mamba2_lab.checks import require_seed


@contextlib.contextmanager
def seeded(seed: int | None) -> Iterator[None]:
    """Within, torch's own CPU generator draws from this seed, and afterwards goes on from where it was; None: as ever.

    Raises:
        TypeError, ValueError: unless torch's generators take the seed.
    """
    if seed is None:
        yield
        return
    require_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
