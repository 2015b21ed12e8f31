"""The three generations of Mamba, and a transformer, at one size: reading, writing and learning.

Stacks of one width and depth with a vocabulary around them, those of the preset "130m". A layer is a mixer and nothing
else, as in the published models of the first two generations. Those of the third have an MLP behind each mixer, which
is left out here, for it would be what is timed. The layer of a transformer is attention and an MLP, and has as many
weights as a layer of Mamba-2; a Llama would rather have half as many layers, each of twice the width in between.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mamba2_lab.benchmark.clock import Work
from mamba2_lab.benchmark.measures.contestants import Contestants, in_a_row, random_ids, without_gradients
from mamba2_lab.benchmark.measures.models import STEPS
from mamba2_lab.config import Mamba2Config, MambaConfig
from mamba2_lab.mamba2_lm import MambaLM
from mamba2_lab.model import Mamba2Cache
from mamba2_lab.training import TrainingConfig, next_token_loss
from mamba2_lab.training.optimiser import adamw

SIZE = "130m"
CALLS_IN_A_ROW = 8  # of decoding, before it goes back: what grows is no longer than that many calls make it

# The first is what the others are compared with.
GENERATIONS: dict[str, dict[str, Any]] = {
    "Mamba-2": {"mixers": "mamba2", "mamba2": {"d_state": 128, "headdim": 64}},
    "Mamba-1": {"mixers": "mamba1"},
    "Mamba-3": {"mixers": "mamba3"},
    "Mamba-3 MIMO": {"mixers": "mamba3", "mamba3": {"is_mimo": True, "mimo_rank": 4, "chunk_size": 16}},
    "transformer": {
        "mixers": "attention",
        "attention": {"num_heads": 12, "rotary_emb_dim": 64, "qkv_proj_bias": False, "out_proj_bias": False},
        "d_intermediate": 640,
    },
}


def generations_prefill(
    device: torch.device | str, *, n_layer: int, l: int, dtype: str = "float32", compiled: bool = False
) -> Contestants:
    """Reading a prompt, and the logits after it."""
    ids = random_ids(SIZE, (1, l), device)

    def read(model: MambaLM) -> Work:
        return lambda: model.prefill(ids)

    return without_gradients(_each(read, device, n_layer, dtype, compiled))


def generations_decode(
    device: torch.device | str, *, n_layer: int, l: int, dtype: str = "float32", compiled: bool = False
) -> Contestants:
    """One token after another at batch 1, behind l tokens, and at most `CALLS_IN_A_ROW` calls behind them."""
    ids = random_ids(SIZE, (1, l), device)

    def write(model: MambaLM) -> Work:
        with torch.no_grad():
            _, after = model.prefill(ids)
        return in_a_row(_steps_from(model, ids[:, 0], after), STEPS)

    return without_gradients(_each(write, device, n_layer, dtype, compiled))


def generations_training(
    device: torch.device | str, *, n_layer: int, b: int, l: int, dtype: str = "float32", compiled: bool = False
) -> Contestants:
    """Forward, backward and an update by AdamW. Weights are float32; in bfloat16 is what autocast has in it."""
    ids = random_ids(SIZE, (b, l + 1), device)

    def learn(model: MambaLM) -> Work:
        return _learning(model.train(), ids, getattr(torch, dtype))

    return _each(learn, device, n_layer, "float32", compiled)


def generations_state(
    device: torch.device | str, *, n_layer: int, l: int, dtype: str = "float32", compiled: bool = False
) -> dict[str, int]:
    """Bytes that each keeps of l tokens, counted in the cache itself."""
    ids = random_ids(SIZE, (1, l), "meta")
    with torch.no_grad():
        return {name: new_generation(name, "meta", n_layer, dtype).prefill(ids)[1].nbytes for name in GENERATIONS}


def generations_parameters(device: torch.device | str, *, n_layer: int, **settings: Any) -> dict[str, int]:
    """How many weights each has, the embedding among them, which is the head as well."""
    return {name: new_generation(name, "meta", n_layer).num_parameters() for name in GENERATIONS}


def new_generation(name: str, device: torch.device | str, n_layer: int, dtype: str = "float32") -> MambaLM:
    """A model with the weights that it begins with, the same ones each time."""
    size = Mamba2Config.preset(SIZE)
    stack = {field: getattr(size, field) for field in ("d_model", "vocab_size", "pad_vocab_size_multiple")}
    config = MambaConfig(**stack, **GENERATIONS[name], n_layer=n_layer)
    return MambaLM(config, seed=0, device=device).to(getattr(torch, dtype)).eval()


def _each(
    work: Callable[[MambaLM], Work], device: torch.device | str, n_layer: int, dtype: str, compiled: bool
) -> Contestants:
    """The work of each generation."""
    works = {}
    if compiled:  # of what one function has been compiled to, torch keeps a few; beyond, it is left as written
        torch.compiler.reset()
    for name in GENERATIONS:
        model = new_generation(name, device, n_layer, dtype)
        if compiled:
            model.compile()
        works[name] = work(model)
    return works


def _steps_from(model: MambaLM, tokens: Tensor, start: Mamba2Cache) -> Work:
    """Each call reads the tokens (b,) from where the last one left off, and now and then from the start again."""
    cache, taken = start, 0

    def step() -> Tensor:
        nonlocal cache, taken
        if taken == CALLS_IN_A_ROW * STEPS:
            cache, taken = start, 0
        logits, cache = model.step(tokens, cache)
        taken += 1
        return logits

    return step


def _learning(model: MambaLM, ids: Tensor, dtype: torch.dtype) -> Work:
    optimizer = adamw(model, TrainingConfig())

    def step() -> Tensor:
        optimizer.zero_grad()
        with torch.autocast(ids.device.type, dtype, enabled=dtype != torch.float32):
            logits = model(ids[:, :-1])
        loss = next_token_loss(logits, ids[:, 1:])
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step
