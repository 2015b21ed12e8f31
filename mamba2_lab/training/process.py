"""One process or many that train one model together, float32 or half precision: what Hugging Face accelerate does here.

Each process makes its share of every batch; the gradients of all are averaged, and all make the same step.
"""

from __future__ import annotations

import contextlib
import os
from contextlib import AbstractContextManager
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn

from mamba2_lab.checks import Refusal
from mamba2_lab.data import Batch
from mamba2_lab.machine.devices import can_compile
from mamba2_lab.mamba2_lm import MambaLM
from mamba2_lab.training.ctrl_c import CtrlC
from mamba2_lab.training.settings import PRECISIONS, TrainingConfig

_COMPILERS = {"cpu": "a C++ compiler", "cuda": "Triton"}


def is_main_process() -> bool:
    """Whether this is the one process, or the first of many: the one that prints and writes."""
    return os.environ.get("RANK", "0") == "0"


def number_of_processes() -> int:
    """How many were started to train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def require_a_compiler(config: TrainingConfig, device: torch.device) -> None:
    """ValueError if the config asks to compile where nothing compiles."""
    if config.compile and device.type in _COMPILERS and not can_compile(device):
        raise ValueError(Refusal("compile", f"off where {_COMPILERS[device.type]} is missing, as it is here", True))


class Processes:
    """The processes of a training, seen from one of them."""

    def __init__(self, config: TrainingConfig, device: torch.device, ctrl_c: CtrlC) -> None:
        self.accelerator = _accelerator(config.precision, device)
        self.many = self.accelerator.num_processes > 1
        self.is_main: bool = self.accelerator.is_main_process
        self._ctrl_c, self._all_stop = ctrl_c, False
        if config.batch_size % (config.accumulation * self.accelerator.num_processes):
            raise ValueError(
                f"batch_size must be a multiple of accumulation x processes = {config.accumulation} x "
                f"{self.accelerator.num_processes}; got {config.batch_size}"
            )

    def require_the_same_tokens(self, digest: str) -> None:
        """Each process packs its own: two that differ by a tokenizer would train one model on nonsense."""
        if not self.many:
            return
        mark = torch.tensor(int(digest[:15], 16), device=self.accelerator.device)
        if len(marks := self.accelerator.gather(mark).unique()) > 1:
            raise ValueError(f"tokens must be the same in every process; got {len(marks)} kinds")

    def prepare(self, model: MambaLM, optimizer: torch.optim.Optimizer) -> tuple[nn.Module, torch.optim.Optimizer]:
        """The pass forward, of (input_ids, document_ids), and the optimiser, both in the precision that was asked for
        and with gradients averaged over the processes."""
        return self.accelerator.prepare(_Coat(model), optimizer)

    def share(self, batch: Batch) -> Batch:
        """The rows that are for this process."""
        return batch.split(self.accelerator.num_processes)[self.accelerator.process_index]

    def averaging(self, forward: nn.Module, last: bool) -> AbstractContextManager[None]:
        """A pass forward and back over a part of a batch: gradients are averaged over the processes with its last."""
        return contextlib.nullcontext() if last else self.accelerator.no_sync(forward)

    def backward(self, loss: Tensor) -> None:
        """Add up the gradients of the loss."""
        self.accelerator.backward(loss)

    def mean(self, loss: Tensor) -> float:
        """The loss over all processes. Here they also tell each other whether Ctrl-C was pressed."""
        total = torch.stack([loss, torch.full_like(loss, self._ctrl_c.presses)])
        mean, presses = self.accelerator.reduce(total, "mean").tolist()
        self._all_stop = presses > 0
        return mean

    def clip(self, model: MambaLM, longest: float) -> float:
        """Shorten a longer gradient to this. How long it was."""
        return float(self.accelerator.clip_grad_norm_(model.parameters(), longest))

    def wait(self) -> None:
        """Go on when all are here."""
        self.accelerator.wait_for_everyone()

    def are_to_stop(self) -> bool:
        """Whether Ctrl-C was pressed; of many processes, whether it was before the step's loss was added up in all, for
        one that stopped alone would leave the others waiting."""
        return self._all_stop if self.many else self._ctrl_c.presses > 0

    def may_be_given_up(self) -> AbstractContextManager[None]:
        """See `CtrlC`. What many do together, none can leave."""
        return contextlib.nullcontext() if self.many else self._ctrl_c.may_be_given_up()

    @property
    def skips_overflow(self) -> bool:
        """Whether a gradient that is no number is seen to: in fp16 the step is skipped, and the scale lowered."""
        return self.accelerator.scaler is not None

    def scaler_state(self) -> dict[str, Any]:
        """How far fp16 losses are scaled, for a checkpoint."""
        return {} if self.accelerator.scaler is None else self.accelerator.scaler.state_dict()

    def load_scaler_state(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(state)


class _Coat(nn.Module):
    """accelerate changes the forward pass of what it is given. It is given this, and the model stays as it is."""

    def __init__(self, model: MambaLM) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, document_ids: Tensor) -> Tensor:
        return self.model(input_ids, document_ids=document_ids)


def _accelerator(precision: str, device: torch.device) -> Accelerator:
    """accelerate for this precision, on the device where the model is."""
    if precision == "fp16" and device.type == "cpu":
        raise ValueError("precision must be 'fp32' or 'bf16' on the cpu, which cannot scale an fp16 loss; got 'fp16'")
    # Its settings are shared by the process and refuse to change: a notebook that trains twice would be stuck.
    AcceleratorState._reset_state(reset_partial_state=not torch.distributed.is_initialized())
    return Accelerator(mixed_precision=PRECISIONS[precision], cpu=device.type == "cpu")
