"""How much memory a training will need, told before it begins.

    weights       those of the model, and of adapters
    gradients     as much again, of what is trained
    optimiser     twice as much, AdamW's two means of what is trained
    activations   what a pass forward keeps for the backward pass

The first three follow from the shapes. The last is counted in passes over one window and over two, in the precision
asked for: the difference is what each window more keeps. Windows longer than 512 tokens count in proportion.

What is told are tensors. A process on a CPU takes more, twice as much and, with blocks computed again, more than twice:
what is freed there does not fit what is asked for next. Libraries come on top of that, and with adapters peft is one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psutil
import torch
from torch import Tensor

from mamba2_lab.machine import facts
from mamba2_lab.mamba2_lm import MambaLM
from mamba2_lab.training import lora
from mamba2_lab.training.loss import next_token_loss
from mamba2_lab.training.process import number_of_processes
from mamba2_lab.training.settings import TrainingConfig
from mamba2_lab.words import in_binary_bytes

LONGEST = 512  # tokens of the windows that are counted: more would take longer than they tell
HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Memory:
    """Bytes that a training holds on the device of its model, beside what the process holds anyway."""

    weights: int
    gradients: int
    optimiser: int
    activations: int

    @property
    def certain(self) -> int:
        """What it cannot do without, however short its windows are."""
        return self.weights + self.gradients + self.optimiser

    @property
    def total(self) -> int:
        """The most at any time. While the weights are changed, a copy of them takes the place of the activations."""
        return self.certain + max(self.activations, self.gradients)

    def __str__(self) -> str:
        parts = {
            "weights": self.weights,
            "gradients": self.gradients,
            "optimiser state": self.optimiser,
            "activations": self.total - self.certain,
        }
        return f"about {in_binary_bytes(self.total)} of memory: " + ", ".join(
            f"{in_binary_bytes(size)} of {name}" for name, size in parts.items()
        )

    def warning(self, device: torch.device) -> str | None:
        """What to say where there may be too little.

        Raises:
            ValueError: if the machine has less than the certain part.
        """
        most = facts.memory(str(device))
        if most is not None and self.certain > most:
            raise ValueError(
                f"weights, gradients and optimiser state need {in_binary_bytes(self.certain)} of memory, and {device} "
                f"has {in_binary_bytes(most)}. Adapters (LoRA) need less"
            )
        free = _free(device)
        if free is None or self.total - self.weights <= free:  # the weights are there already
            return None
        return (
            f"that may be too much: {in_binary_bytes(free)} are free for all but the weights. Less is needed in "
            "smaller batches or more parts of a batch, with blocks computed again, or with adapters (LoRA)"
        )


def needed(model: MambaLM, config: TrainingConfig) -> Memory:
    """How much a training of this model with these settings will need."""
    with lora.adapters(model, config.lora, config.seed, None):
        weights = sum(parameter.nbytes for parameter in model.parameters())
        trained = sum(parameter.nbytes for parameter in model.parameters() if parameter.requires_grad)
        rows = config.batch_size // config.accumulation // number_of_processes()
        one, two = (_activations(model, config, count) for count in (1, 2))
    return Memory(weights, trained, 2 * trained, one + (rows - 1) * (two - one))


def _activations(model: MambaLM, config: TrainingConfig, rows: int) -> int:
    """What as many windows keep: by the backward pass of the loss, where it is most."""
    length = min(config.length, LONGEST)
    ids = torch.zeros(rows, length, dtype=torch.long, device=model.device)
    before = model.checkpoint_blocks
    with torch.enable_grad(), _autocast(model.device, config.precision):
        model.checkpoint_blocks = config.checkpoint_blocks
        try:
            kept, loss = _kept(model, lambda: next_token_loss(model(ids, document_ids=ids), ids))
        finally:
            model.checkpoint_blocks = before
        if config.checkpoint_blocks:
            u = model.embed(ids).detach().requires_grad_()
            kinds = {model.config.layer(i): block for i, block in enumerate(model.blocks)}
            inside = max(_kept(model, lambda: block(u, document_ids=ids)[0])[0] for block in kinds.values())  # noqa: B023
            kept += model.config.n_layer * u.nbytes + inside
    logits = rows * length * model.config.padded_vocab_size * torch.float32.itemsize
    at_the_head = 3 * logits  # themselves, and their gradients before and behind the softmax
    return (kept + at_the_head) * config.length // length


def _kept(model: MambaLM, compute: Callable[[], Tensor]) -> tuple[int, Tensor]:
    """Bytes that a computation keeps for its backward pass, beside the weights; and its result, which holds them."""
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    found: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            found[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        result = compute()
    return sum(found.values()), result


def _autocast(device: torch.device, precision: str) -> Any:
    return torch.autocast(device.type, HALF.get(precision), enabled=precision in HALF)


def _free(device: torch.device) -> int | None:
    """Bytes that are free there; None where nothing tells."""
    if device.type == "cpu":
        return psutil.virtual_memory().available
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else None
