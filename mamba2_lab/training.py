"""Teaching a model to predict the next token, and measuring how well it does."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm.auto import tqdm

from mamba2_lab.data import Document, PackedTokens
from mamba2_lab.mamba2 import Mamba2
from mamba2_lab.model import Mamba2LM
from mamba2_lab.tokenizer import Tokenizer


@dataclass(frozen=True)
class TrainingConfig:
    """How to train.

    steps, batch_size, length: that many updates on that many windows of that many tokens.
    learning_rate: its peak, reached after warmup_steps, then falling to a tenth along a cosine.
    betas, weight_decay, clip_norm: of AdamW, and of the gradient.
    seed: of the windows drawn.
    bf16: matrix products in bfloat16; weights, states and decays stay float32.
    """

    steps: int = 200
    batch_size: int = 8
    length: int = 256
    learning_rate: float = 3e-3
    warmup_steps: int = 20
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.1
    clip_norm: float = 1.0
    seed: int = 0
    bf16: bool = False

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name in ("steps", "batch_size", "length", "warmup_steps", "seed"):
                if isinstance(value, bool) or not isinstance(value, int):
                    raise TypeError(f"{field.name} must be a whole number; got {value!r}")
            elif field.name in ("learning_rate", "weight_decay", "clip_norm"):
                if isinstance(value, bool) or not isinstance(value, int | float):
                    raise TypeError(f"{field.name} must be a number; got {value!r}")
            if field.name in ("steps", "batch_size", "length", "learning_rate", "clip_norm") and not value > 0:
                raise ValueError(f"{field.name} must be above 0; got {value!r}")
            if field.name in ("warmup_steps", "weight_decay") and not value >= 0:
                raise ValueError(f"{field.name} must be 0 or more; got {value!r}")


@dataclass(frozen=True)
class Record:
    """One training step: its loss in nats per token, learning rate, gradient norm before clipping, and time so far."""

    step: int
    loss: float
    learning_rate: float
    gradient_norm: float
    seconds: float


def fit(model: Mamba2LM, tokens: PackedTokens, config: TrainingConfig, *, progress: bool = True) -> list[Record]:
    """Train the model in place, where it is; one record per step.

    The same model, tokens and config give the same records on a CPU. Ctrl-C ends the training after the current step
    and keeps what was learned.
    """
    generator = torch.Generator("cpu").manual_seed(config.seed)
    optimizer = torch.optim.AdamW(parameter_groups(model, config.weight_decay), config.learning_rate, config.betas)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: learning_rate_factor(step, config))
    records: list[Record] = []
    model.train()
    started = time.perf_counter()
    bar = tqdm(range(config.steps), desc="training", unit="step", disable=not progress)
    try:
        for step in bar:
            rate = float(schedule.get_last_lr()[0])
            loss, norm = _update(model, tokens, config, optimizer, generator)
            schedule.step()
            records.append(Record(step, loss, rate, norm, time.perf_counter() - started))
            bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
    except KeyboardInterrupt:
        bar.write(f"stopped by the keyboard after {len(records)} of {config.steps} steps; what was learned is kept")
    finally:
        bar.close()
        model.eval()
    return records


def _update(
    model: Mamba2LM,
    tokens: PackedTokens,
    config: TrainingConfig,
    optimizer: torch.optim.Optimizer,
    generator: torch.Generator,
) -> tuple[float, float]:
    batch = tokens.random_batch(config.batch_size, config.length, generator).to(model.device)
    with torch.autocast(model.device.type, torch.bfloat16, enabled=config.bf16):
        logits = model(batch.input_ids, document_ids=batch.document_ids)
    loss = next_token_loss(logits, batch.targets)
    optimizer.zero_grad()
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
    measured = {"loss": loss.item(), "gradient norm": norm.item()}
    for name, value in measured.items():
        if not math.isfinite(value):  # raised before the step: the weights are still good
            raise FloatingPointError(
                f"the {name} became {value}; a lower learning_rate than {config.learning_rate} may help"
            )
    optimizer.step()
    return measured["loss"], measured["gradient norm"]


def next_token_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy in nats per token: logits (b,l,v), targets (b,l)."""
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def parameter_groups(model: Mamba2LM, weight_decay: float) -> list[dict[str, object]]:
    """Two groups for an optimiser: with weight decay, and (dt_bias, A_log, D, initial states) without."""
    groups: dict[bool, list[Tensor]] = {True: [], False: []}
    for name, parameter in model.named_parameters():
        groups[name.rsplit(".", 1)[-1] not in Mamba2.no_weight_decay].append(parameter)
    return [
        {"params": groups[True], "weight_decay": weight_decay},
        {"params": groups[False], "weight_decay": 0.0},
    ]


def learning_rate_factor(step: int, config: TrainingConfig) -> float:
    """Share of the peak learning rate: a linear rise, then half a cosine down to a tenth."""
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    done = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    return 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


@torch.no_grad()
def bits_per_byte(
    model: Mamba2LM,
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
        ids = torch.tensor([[tokenizer.end_of_text, *tokenizer.encode(document.text)]])
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
