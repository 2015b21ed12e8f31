"""A whole model: every way to read tokens, to learn from them, and to draw the next one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from mamba2_lab.data import PackedTokens
from mamba2_lab.generation import SamplingConfig, sample
from mamba2_lab.health.check import Check, Values, normal, whole
from mamba2_lab.health.choice import TOLERANCE, small_model
from mamba2_lab.mamba2_lm import MambaLM
from mamba2_lab.training import TrainingConfig, fit, next_token_loss

HALF = 5e-2  # allowed in 16 bits: bfloat16 keeps 8 of a number's digits, and a model adds up many roundings
TRAINING = 1e-3  # allowed of a training: each step starts from the roundings of all before it
DRAWS = 20_000
DRAWING = 0.1  # allowed of a draw, of the likeliest token's share; chance alone stays well below

Path = Callable[[MambaLM, Tensor], Values]  # a model and its tokens (b,l), to what it made of them


def read_at_once(model: MambaLM, ids: Tensor) -> Values:
    """One forward pass."""
    return {"logits": model(ids)}


def read_one_row(model: MambaLM, ids: Tensor) -> Values:
    """The same for a batch of one: some published faults show there, others only in larger batches."""
    return read_at_once(model, ids[:1])


@torch.no_grad()
def read_in_pieces(model: MambaLM, ids: Tensor) -> Values:
    """A prefill, another from its cache, then token by token."""
    _, cache = model.prefill(ids[:, :21])
    values = {}
    values["second prefill"], cache = model.prefill(ids[:, 21:60], cache)
    for tokens in ids[:, 60:].unbind(1):
        values["last step"], cache = model.step(tokens, cache)
    return values | cache.layers[-1].tensors()


@torch.no_grad()
def read_padded(model: MambaLM, ids: Tensor) -> Values:
    """Rows with padding on the left, on the right, and in the middle."""
    b, l = ids.shape
    first, last = torch.arange(b)[:, None] * 9 % l, l - torch.arange(b)[:, None] * 5 % l
    position = torch.arange(l)
    real = (position >= first) & (position < last) & (position != l // 2)
    logits, cache = model.prefill(ids, attention_mask=real, all_positions=True)
    return {"logits": logits.cpu()[real]} | cache.layers[-1].tensors()


@torch.no_grad()
def read_packed(model: MambaLM, ids: Tensor) -> Values:
    """Several documents in a row."""
    documents = (torch.arange(ids.shape[1]) // 13 % 3).expand(ids.shape)
    logits, cache = model.prefill(ids, document_ids=documents, all_positions=True)
    return {"logits": logits} | cache.layers[-1].tensors()


def differentiate(model: MambaLM, ids: Tensor) -> Values:
    """The gradient of the loss with respect to every weight."""
    names, weights = zip(*model.named_parameters(), strict=True)
    loss = next_token_loss(model(ids[:, :-1]), ids[:, 1:].to(model.device))
    return {"loss": loss, **dict(zip(names, torch.autograd.grad(loss, weights), strict=True))}


def differentiate_recomputing(model: MambaLM, ids: Tensor) -> Values:
    """The same with each block computed again in the backward pass."""
    model.checkpoint_blocks = True
    values = differentiate(model, ids)
    model.checkpoint_blocks = False
    return values


def learn(model: MambaLM, ids: Tensor, steps: int = 50) -> Values:
    """The losses of some training steps."""
    tokens = PackedTokens(ids.flatten().to(torch.int32), torch.arange(ids.numel(), dtype=torch.int32) // 50)
    config = TrainingConfig(steps=steps, batch_size=4, length=24, warmup_steps=5, learning_rate=1e-3)
    records = fit(model, tokens, config, progress=False)
    return {
        "loss": torch.tensor([record.loss for record in records]),
        "length of the gradient": torch.tensor([record.gradient_norm for record in records]),
    }


def read_and_differentiate(model: MambaLM, ids: Tensor) -> Values:
    """In pieces and steps, padded, packed, and the gradients: all in one, for mixers that are not looked at closer."""
    values: Values = {}
    for path in (read_in_pieces, read_padded, read_packed, differentiate):
        values |= {f"{path.__name__.replace('_', ' ')}: {name}": value for name, value in path(model, ids).items()}
    return values


def model_check(
    what: str, path: Path, allowed: float = TOLERANCE, dtype: torch.dtype = torch.float32, **fields: Any
) -> Check:
    """What a path makes of a small model in this dtype, against the same in float64.

    fields: of another model than a Mamba-2.
    """
    ids = whole(64, 3, 70)

    def compute(name: str, dtype: torch.dtype) -> Values:
        model = small_model(**fields).to(dtype).to(name)
        return {value: tensor.detach().cpu() for value, tensor in path(model, ids).items()}

    return Check(what, partial(compute, "cpu", torch.float64), lambda name: compute(name, dtype), allowed)


# The sampler


LOGITS = 2 * normal(64)
_SAMPLING = SamplingConfig(temperature=0.8, top_k=20, top_p=0.95)


def exact_shares() -> Values:
    """How often each token must come, from the definition of temperature, top-k and top-p."""
    logits, order = (LOGITS.double() / 0.8).sort(descending=True)
    likeliest = logits[:20].softmax(dim=0)
    kept = likeliest[likeliest.cumsum(dim=0) - likeliest < 0.95]
    shares = torch.zeros(64, dtype=torch.float64).scatter(0, order[: len(kept)], kept / kept.sum())
    return {"shares": shares, "draws of tokens that were filtered out": torch.zeros(1)}


def _drawn_shares(name: str) -> Values:
    logits = LOGITS.to(name).expand(DRAWS, -1)
    drawn = sample(logits, _SAMPLING, torch.Generator("cpu").manual_seed(0)).bincount(minlength=64)
    return {
        "shares": drawn / DRAWS,
        "draws of tokens that were filtered out": drawn[exact_shares()["shares"] == 0].sum()[None],
    }


_MAMBA3 = {"d_state": 16, "headdim": 16, "ngroups": 2}
_RANKS = {**_MAMBA3, "is_mimo": True, "mimo_rank": 2, "is_outproj_norm": True, "rope_fraction": 1.0}
OTHER_MIXERS: dict[str, dict[str, Any]] = {
    "Mamba-1": {"mixers": "mamba1", "mamba1": {"b_c_dt_rms": True}},
    "Mamba-3": {"mixers": "mamba3", "mamba3": _MAMBA3},
    "Mamba-3 in two ranks": {"mixers": "mamba3", "mamba3": _RANKS},
    "attention and MLPs": {
        "mixers": "attention",
        "attention": {"num_heads": 4, "num_heads_kv": 2, "d_conv": 4, "rotary_emb_dim": 4},
        "d_intermediate": 64,
        "rms_norm": False,
    },
}

CHECKS = (
    model_check("reading one row", read_one_row),
    model_check("reading three rows", read_at_once),
    model_check("reading in pieces and steps", read_in_pieces),
    model_check("reading with padding", read_padded),
    model_check("reading packed documents", read_packed),
    model_check("gradients", differentiate),
    model_check("gradients, blocks recomputed", differentiate_recomputing),
    model_check("50 training steps", learn, TRAINING),
    model_check("reading in bfloat16", read_in_pieces, HALF, torch.bfloat16),
    model_check("reading in float16", read_in_pieces, HALF, torch.float16),
    *(model_check(f"{mixer}, all of it", read_and_differentiate, **OTHER_MIXERS[mixer]) for mixer in OTHER_MIXERS),
    Check(f"{DRAWS:,} draws", exact_shares, _drawn_shares, DRAWING),
)
