"""Can a mixer count modulo two? Tiny models learn to say after each bit whether the ones so far are odd in number.

A state whose decays lie between 0 and 1 cannot flip with each one; a state that turns can. (Grazzi et al. 2024,
"Unlocking state-tracking in linear RNNs through negative eigenvalues", arXiv:2411.12537.)
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mamba2_lab.mamba2_lm import MambaLM

SHAPE: dict[str, Any] = {"d_model": 32, "n_layer": 2, "vocab_size": 2}  # of the models
STEPS, ROWS = 1500, 32
SHORTEST, LONGEST = 3, 64  # bits of a question, drawn for each step
EXAM_ROWS = 1024


def parities(rows: int, length: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Random bits (rows, length), and after each whether the ones so far are odd in number: 0 or 1, of that shape."""
    bits = torch.randint(2, (rows, length), generator=generator)
    return bits, bits.cumsum(dim=1) % 2


def learn(model: MambaLM, rate: float, seed: int, steps: int = STEPS) -> None:
    """Train the model, in place, on fresh questions."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.95), weight_decay=0.0)
    generator = torch.Generator().manual_seed(seed)
    for step in range(steps):
        length = int(torch.randint(SHORTEST, LONGEST + 1, (), generator=generator))
        bits, answers = parities(ROWS, length, generator)
        loss = F.cross_entropy(model(bits).flatten(0, 1), answers.flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = rate * 0.5 * (1 + math.cos(math.pi * step / steps))
        optimizer.step()


@torch.no_grad()
def share_right(model: MambaLM, length: int = LONGEST) -> float:
    """Of questions of this length that it has not seen, how many it answers rightly after the last bit; one half is
    what a coin gets."""
    bits, answers = parities(EXAM_ROWS, length, torch.Generator().manual_seed(10**6))
    return (model(bits)[:, -1].argmax(dim=-1) == answers[:, -1]).float().mean().item()
