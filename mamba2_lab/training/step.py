"""One step of training: a batch, its loss and gradients, clipped, and an update of the weights.

The batch of a step is drawn from (seed, step) alone: a run that was stopped goes on with those it would have seen.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mamba2_lab.data import Batch, PackedTokens
from mamba2_lab.mamba2_lm import MambaLM
from mamba2_lab.training.loss import next_token_loss
from mamba2_lab.training.optimiser import adamw, learning_rate
from mamba2_lab.training.process import Processes
from mamba2_lab.training.restoring import all_or_nothing
from mamba2_lab.training.settings import TrainingConfig


class Learner:
    """A model, the tokens it learns from, and its optimiser. Of many processes this is one, with its share."""

    def __init__(self, model: MambaLM, tokens: PackedTokens, config: TrainingConfig, processes: Processes) -> None:
        self.model, self.config, self.processes = model, config, processes
        self.optimizer = adamw(model, config)
        self._forward, self._prepared = processes.prepare(model, self.optimizer)
        self.tokens = tokens.to(model.device)  # only now is it on the device of this process

    def update(self, step: int) -> tuple[float, float]:
        """Make a step. Its loss, over all processes, and how long the gradient was before clipping.

        Raises:
            FloatingPointError: if either is no number; the weights are as they were.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(step, self.config)
        with self.processes.may_be_given_up():
            share_of_loss = self._gradients(self._batch(step))
        loss = self.processes.mean(share_of_loss)
        norm = self.processes.clip(self.model, self.config.clip_norm)
        self._require_numbers(loss, norm)
        with all_or_nothing(parameter for parameter in self.model.parameters() if parameter.requires_grad):
            self._prepared.step()
        self._prepared.zero_grad()
        return loss, norm

    def _batch(self, step: int) -> Batch:
        """That of all processes together."""
        config = self.config
        generator = torch.Generator("cpu").manual_seed(config.seed * 1_000_003 + step)
        return self.tokens.random_batch(config.batch_size, config.length, generator)

    def _gradients(self, batch: Batch) -> Tensor:
        """The gradients of this process's share of a batch, and its loss, made in parts to save memory."""
        self._prepared.zero_grad()
        total = torch.zeros((), device=self.model.device)
        parts = [self.processes.share(part) for part in batch.split(self.config.accumulation)]
        for i, part in enumerate(parts):
            with self.processes.averaging(self._forward, last=i + 1 == len(parts)):
                logits = self._forward(part.input_ids, part.document_ids)
                loss = next_token_loss(logits, part.targets) / len(parts)
                self.processes.backward(loss)
            total += loss.detach()
        return total

    def _require_numbers(self, loss: float, norm: float) -> None:
        for name, value in (("loss", loss), ("gradient norm", norm)):
            if not math.isfinite(value) and not (name == "gradient norm" and self.processes.skips_overflow):
                advice = f"a lower learning rate than {self.config.learning_rate} may help"
                raise FloatingPointError(f"the {name} became {value}; {advice}")
