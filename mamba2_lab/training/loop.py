"""Teaching a model to predict the next token, and measuring how well it does.

`fit` runs on Hugging Face accelerate: one process or many, float32 or half precision, by the same few lines. The batch
of every step is drawn from (seed, step) alone, so a run that was stopped goes on with the batches it would have seen.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState
from torch import Tensor, nn
from tqdm.auto import tqdm

from mamba2_lab.checks import Refusal
from mamba2_lab.data import Batch, Document, PackedTokens
from mamba2_lab.data.packing import encode
from mamba2_lab.layers import Mamba2
from mamba2_lab.machine import threads
from mamba2_lab.machine.devices import can_compile
from mamba2_lab.machine.gradients import without_gradients
from mamba2_lab.machine.untrusted import CheckpointError
from mamba2_lab.mamba2_lm import Mamba2LM
from mamba2_lab.text import Tokenizer
from mamba2_lab.training import run_folder
from mamba2_lab.training.ctrl_c import CtrlC, GivenUp
from mamba2_lab.training.folder_lock import owned
from mamba2_lab.training.resuming import read_saved, texts_digest
from mamba2_lab.training.settings import PRECISIONS
from mamba2_lab.training.settings import TrainingConfig as TrainingConfig
from mamba2_lab.weights.int8 import require_whole_weights

_MODES = ("training", "checkpoint_blocks", "forward", "_step")  # what a training sets on the model and its modules
MPS_FALLBACK = "PYTORCH_ENABLE_MPS_FALLBACK"
_COMPILERS = {"cpu": "a C++ compiler", "cuda": "Triton"}


@dataclass(frozen=True)
class Record:
    """One training step.

    loss: nats per token. gradient_norm: before clipping. seconds: since the run began, stops not counted.
    bits_per_byte: on the held-out documents after this step, where it was measured.
    """

    step: int
    loss: float
    learning_rate: float
    gradient_norm: float
    seconds: float
    bits_per_byte: float | None = None


def fit(
    model: Mamba2LM,
    tokens: PackedTokens,
    config: TrainingConfig,
    *,
    folder: str | Path | None = None,
    resume: bool = False,
    held_out: Sequence[Document] = (),
    tokenizer: Tokenizer | None = None,
    on_step: Callable[[Record], None] | None = None,
    progress: bool = True,
) -> list[Record]:
    """Train the model in place, where it is; one record per step.

    The same model, tokens and config give the same records on a CPU, in one go or resumed; to rounding, where other
    processes take cores (see `threads`). Ctrl-C ends the training after the step under way, saves it, and keeps what
    was learned; a second one does not wait for that step, or for a measurement, and saves too. Whatever ends it, the
    weights are those after a whole number of steps, and all else of the model is as it was.

    Args:
        folder: where checkpoints and records.jsonl go (see `run_folder`), of one training at a time; None keeps nothing
            on disk. The records of a run that left no checkpoint there are set aside under another name.
        resume: go on from the newest checkpoint in the folder; if it holds none, begin. The run must be given its own
            model, tokens, tokenizer, config, and held_out documents or none. But it may be made longer (the learning
            rate of the steps to come follows from the new number of steps), save and measure more or less often, and
            recompute blocks or not. What cannot be resumed is refused before anything is changed.
        held_out, tokenizer: documents to measure bits per byte on.
        on_step: called in the main process with each record once it is kept: to draw a curve, to look at the model.
            What it raises ends the training.

    Raises:
        ValueError: if resume is asked for without a folder, or the folder is of another model, config, text or
            tokenizer, or another training is under way in it; for a model that cannot be trained.
        CheckpointError: naming the file of a run that is damaged.
        FloatingPointError: if the loss is no longer a number.
        OSError: if a checkpoint cannot be written; the one before it is whole.
    """
    if resume and folder is None:
        raise ValueError("resume needs the folder of the run; got folder=None")
    if held_out and tokenizer is None:
        raise ValueError("held_out documents need the tokenizer to be measured; got tokenizer=None")
    require_whole_weights(model, "be trained")
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError("model must have parameters that require gradients to be trained; got none")
    require_a_compiler(config, model.device)
    tokens.require_longer_than(config.length)
    folder = None if folder is None else Path(folder)
    with contextlib.ExitStack() as afterwards:
        if folder is not None and is_main_process():
            afterwards.enter_context(owned(folder))
        saved = None if folder is None else read_saved(folder, resume, model, tokens, config, tokenizer, held_out)
        ctrl_c = CtrlC()
        ctrl_c.listen(afterwards)
        _restore_modes(model, afterwards)
        _restore_accelerate(afterwards)
        run = _Run(model, tokens, config, folder, tokenizer, held_out, saved, ctrl_c)
        afterwards.callback(model.zero_grad)
        run.begin()
        run.train(on_step, progress)
    return run.records


def require_a_compiler(config: TrainingConfig, device: torch.device) -> None:
    """ValueError if the config asks to compile where nothing compiles."""
    if config.compile and device.type in _COMPILERS and not can_compile(device):
        raise ValueError(Refusal("compile", f"off where {_COMPILERS[device.type]} is missing, as it is here", True))


def _restore_accelerate(afterwards: contextlib.ExitStack) -> None:
    """Have what accelerate keeps for the whole process be as it is now when `afterwards` ends: what an Accelerator of
    the caller's stands on, and a variable, set on a Mac, that lets mps fall back to the CPU in silence in every process
    that is started from this one."""
    for kind in (PartialState, AcceleratorState, GradientState):
        afterwards.callback(kind._shared_state.update, dict(kind._shared_state))
        afterwards.callback(kind._shared_state.clear)  # this comes first
    fallback = os.environ.get(MPS_FALLBACK)
    if fallback is None:
        afterwards.callback(os.environ.pop, MPS_FALLBACK, None)
    else:
        afterwards.callback(os.environ.__setitem__, MPS_FALLBACK, fallback)


def _restore_modes(model: Mamba2LM, afterwards: contextlib.ExitStack) -> None:
    """Have modes and compiled functions be what they are now when `afterwards` ends; and torch's own modes, which an
    exception amid torch's context managers leaves switched."""
    afterwards.callback(torch._C._set_grad_enabled, torch.is_grad_enabled())
    kind = model.device.type
    afterwards.callback(torch.set_autocast_enabled, kind, torch.is_autocast_enabled(kind))
    for module in model.modules():
        fields = vars(module)
        for name in _MODES:
            if name in fields:
                afterwards.callback(fields.__setitem__, name, fields[name])
            else:
                afterwards.callback(fields.pop, name, None)


@contextlib.contextmanager
def _all_or_nothing(model: Mamba2LM) -> Iterator[None]:
    """A change of all weights, or of none if it fails half way."""
    weights = [parameter.detach() for parameter in model.parameters()]
    before = [weight.clone() for weight in weights]
    try:
        yield
    except BaseException:
        for weight, old in zip(weights, before, strict=True):
            weight.copy_(old)
        raise


class _Coat(nn.Module):
    """accelerate changes the forward pass of what it is given. It is given this, and the model stays as it is."""

    def __init__(self, model: Mamba2LM) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, document_ids: Tensor) -> Tensor:
        return self.model(input_ids, document_ids=document_ids)


class _Run:
    """A training under way: the model, its optimiser, and the records so far."""

    def __init__(
        self,
        model: Mamba2LM,
        tokens: PackedTokens,
        config: TrainingConfig,
        folder: Path | None,
        tokenizer: Tokenizer | None,
        held_out: Sequence[Document],
        saved: run_folder.Saved | None,
        ctrl_c: CtrlC,
    ) -> None:
        self.model, self.config = model, config
        self.folder, self.tokenizer = folder, tokenizer
        self.held_out, self.ctrl_c = held_out, ctrl_c
        self.records = [] if saved is None else _as_records(saved)
        self._history = hashlib.sha256(b"" if saved is None else saved.records)  # of the records in the folder
        self._saved, self._checkpoint = saved, None if saved is None else saved.path
        self._saved_steps = len(self.records)
        self._notes: list[str] = []  # to say once the bar is there
        self._all_stop = False
        self.accelerator = _accelerator(config.precision, model.device)
        if config.batch_size % (config.accumulation * self.accelerator.num_processes):
            raise ValueError(
                f"batch_size must be a multiple of accumulation x processes = {config.accumulation} x "
                f"{self.accelerator.num_processes}; got {config.batch_size}"
            )
        self.optimizer = torch.optim.AdamW(
            parameter_groups(model, config.weight_decay),
            betas=config.betas,
            fused=model.device.type == "cuda",  # one kernel for all parameters; on mps that is not to be trusted
        )
        self._data = tokens.digest() if folder is not None or self._many else None
        self._require_the_same_tokens()
        self._prepared, self._prepared_optimizer = self.accelerator.prepare(_Coat(model), self.optimizer)
        self.tokens = tokens.to(model.device)  # only now is it on the device of this process

    def _require_the_same_tokens(self) -> None:
        """Each process packs its own: two that differ by a tokenizer would train one model on nonsense."""
        if self._data is None or not self._many:
            return
        mark = torch.tensor(int(self._data[:15], 16), device=self.accelerator.device)
        if len(marks := self.accelerator.gather(mark).unique()) > 1:
            raise ValueError(f"tokens must be the same in every process; got {len(marks)} kinds")

    @property
    def _many(self) -> bool:
        return self.accelerator.num_processes > 1

    def begin(self) -> None:
        """Put model, optimiser and folder in the state to go on from. Until here nothing was changed."""
        saved = self._saved
        self.accelerator.wait_for_everyone()  # each has read the folder
        if saved is not None:
            with _all_or_nothing(self.model):
                saved.put_into(self.model, self.optimizer)
            if self.accelerator.scaler is not None:
                self.accelerator.scaler.load_state_dict(saved.facts["scaler"])
            if "data" not in saved.facts:
                self._notes.append(
                    f"{saved.path} was written by an older version: nothing tells whether its files are as they were, "
                    "and the text is the same"
                )
        if self.folder is not None and self.accelerator.is_main_process:
            if saved is not None:
                run_folder.cut_records(self.folder, saved.records)
            elif aside := run_folder.set_aside_records(self.folder):
                self._notes.append(f"the records of a run that left no checkpoint are now in {aside}")
        self.optimizer.zero_grad()  # what a caller's own backward pass may have left
        torch._C._set_grad_enabled(True)  # a notebook may have switched gradients off
        self.model.checkpoint_blocks = self.config.checkpoint_blocks
        if self.config.compile:
            self.model.compile()
        self.model.train()

    def train(self, on_step: Callable[[Record], None] | None, progress: bool) -> None:
        """Make the steps that are missing, or those until Ctrl-C."""
        steps, main = self.config.steps, self.accelerator.is_main_process
        done = len(self.records)
        started = time.perf_counter() - (self.records[-1].seconds if done else 0.0)
        with tqdm(total=steps, initial=done, desc="training", unit="step", disable=not (progress and main)) as bar:
            for note in self._notes:
                bar.write(note)
            try:
                while len(self.records) < steps and not self._is_to_stop():
                    self._make_step(started, on_step if main else None)
                    self._show(bar)
            except GivenUp:  # the weights are those of the last record
                pass
            if self.folder is not None and self._saved_steps < len(self.records):
                self.save()
            if self._is_to_stop() and main:
                bar.write(self._farewell())

    def _make_step(self, started: float, on_step: Callable[[Record], None] | None) -> None:
        config, step = self.config, len(self.records)
        shares_cores = self.model.device.type == "cpu" and not config.compile  # which is for one number of threads
        loss, norm = threads.on_free_cores(self._update, step) if shares_cores else self._update(step)
        seconds = time.perf_counter() - started
        last = step + 1 == config.steps
        measured = self._measure() if _is_due(step, config.evaluate_every, last) else None
        self._note(Record(step, loss, learning_rate(step, config), norm, seconds, measured))
        if self.folder is not None and _is_due(step, config.save_every, last or self._is_to_stop()):
            self.save()
        if on_step is not None:
            with self._may_be_given_up():
                on_step(self.records[-1])

    def _show(self, bar: tqdm) -> None:
        config, record = self.config, self.records[-1]
        bar.update()
        speed = len(self.records) * config.batch_size * config.length / max(record.seconds, 1e-9)
        bar.set_postfix(loss=f"{record.loss:.3f}", tokens_per_s=f"{speed:,.0f}", refresh=False)

    def _farewell(self) -> str:
        if not self.records:
            kept = "nothing was learned yet"
        else:
            kept = "what was learned is kept" + ("" if self.folder is None else f" and saved in {self.folder}")
        return f"stopped after {len(self.records)} of {self.config.steps} steps; {kept}"

    def _is_to_stop(self) -> bool:
        """Whether Ctrl-C was pressed; of many processes, whether it was before the step's loss was added up in all, for
        one that stopped alone would leave the others waiting."""
        return self._all_stop if self._many else self.ctrl_c.presses > 0

    def _may_be_given_up(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext() if self._many else self.ctrl_c.may_be_given_up()

    def _measure(self) -> float | None:
        if not self.held_out or self.tokenizer is None:
            return None
        try:
            with self._may_be_given_up():
                return bits_per_byte(self.model.eval(), self.held_out, self.tokenizer)
        except GivenUp:
            return None
        finally:
            self.model.train()

    def _update(self, step: int) -> tuple[float, float]:
        """One step of the optimiser: its loss, over all processes, and the gradient's norm."""
        config, accelerator = self.config, self.accelerator
        rate = learning_rate(step, config)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        with self._may_be_given_up():
            loss = self._gradients(step)
        total = torch.stack([loss, torch.full_like(loss, self.ctrl_c.presses)])
        loss_value, presses = accelerator.reduce(total, "mean").tolist()
        self._all_stop = presses > 0
        norm = float(accelerator.clip_grad_norm_(self.model.parameters(), config.clip_norm))
        self._require_numbers(loss_value, norm)
        with _all_or_nothing(self.model):
            self._prepared_optimizer.step()
        self._prepared_optimizer.zero_grad()
        return loss_value, norm

    def _gradients(self, step: int) -> Tensor:
        """The gradients of the step's batch, and its loss in this process."""
        self._prepared_optimizer.zero_grad()
        total = torch.zeros((), device=self.model.device)
        parts = list(self._parts(step))
        for i, part in enumerate(parts):
            last = i + 1 == len(parts)
            with contextlib.nullcontext() if last else self.accelerator.no_sync(self._prepared):
                logits = self._prepared(part.input_ids, part.document_ids)
                loss = next_token_loss(logits, part.targets) / len(parts)
                self.accelerator.backward(loss)
            total += loss.detach()
        return total

    def _require_numbers(self, loss: float, norm: float) -> None:
        overflow_is_handled = self.accelerator.scaler is not None  # fp16: the step is skipped, the scale lowered
        for name, value in (("loss", loss), ("gradient norm", norm)):
            if not math.isfinite(value) and not (overflow_is_handled and name == "gradient norm"):
                advice = f"a lower learning rate than {self.config.learning_rate} may help"
                raise FloatingPointError(f"the {name} became {value}; {advice}")

    def _parts(self, step: int) -> Iterator[Batch]:
        """This process's share of the step's batch, cut for accumulation."""
        config, accelerator = self.config, self.accelerator
        generator = torch.Generator("cpu").manual_seed(config.seed * 1_000_003 + step)
        batch = self.tokens.random_batch(config.batch_size, config.length, generator)
        for part in batch.split(config.accumulation):
            yield part.split(accelerator.num_processes)[accelerator.process_index]

    def _note(self, record: Record) -> None:
        self.records.append(record)
        if self.folder is not None and self.accelerator.is_main_process:
            self._history.update(run_folder.append_record(self.folder, dataclasses.asdict(record)))

    def save(self) -> None:
        """Write a checkpoint, whole, and then remove the one before it."""
        assert self.folder is not None
        if self.accelerator.is_main_process:
            facts = {
                "training": dataclasses.asdict(self.config),
                "scaler": {} if self.accelerator.scaler is None else self.accelerator.scaler.state_dict(),
                "data": self._data,
                "held_out": texts_digest(self.held_out) or (self._saved and self._saved.facts.get("held_out")),
                "records": self._history.hexdigest(),
            }
            self._checkpoint = run_folder.write(
                self.folder, len(self.records), self.model, self.tokenizer, self.optimizer, facts, self._checkpoint
            )
        self._saved_steps = len(self.records)
        self.accelerator.wait_for_everyone()


def _as_records(saved: run_folder.Saved) -> list[Record]:
    try:
        return [Record(**json.loads(line)) for line in saved.records.splitlines()]
    except TypeError as error:
        raise CheckpointError(
            f"{saved.path.parent / run_folder.RECORDS_NAME}: expected records; found {error}"
        ) from error


def _accelerator(precision: str, device: torch.device) -> Accelerator:
    """accelerate for this precision, on the device where the model is."""
    if precision == "fp16" and device.type == "cpu":
        raise ValueError("precision must be 'fp32' or 'bf16' on the cpu, which cannot scale an fp16 loss; got 'fp16'")
    # Its settings are shared by the process and refuse to change: a notebook that trains twice would be stuck.
    AcceleratorState._reset_state(reset_partial_state=not torch.distributed.is_initialized())
    return Accelerator(mixed_precision=PRECISIONS[precision], cpu=device.type == "cpu")


def is_main_process() -> bool:
    """Whether this is the one process, or the first of many: the one that prints and writes."""
    return os.environ.get("RANK", "0") == "0"


def _is_due(step: int, every: int, last: bool) -> bool:
    return last or (every > 0 and (step + 1) % every == 0)


def next_token_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy in nats per token: logits (b,l,v), targets (b,l)."""
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def parameter_groups(model: Mamba2LM, weight_decay: float) -> list[dict[str, object]]:
    """Two groups for an optimiser: with weight decay, and (dt_bias, A_log, D, initial states) without."""
    require_whole_weights(model, "be trained")
    groups: dict[bool, list[Tensor]] = {True: [], False: []}
    for name, parameter in model.named_parameters():
        groups[name.rsplit(".", 1)[-1] not in Mamba2.no_weight_decay].append(parameter)
    return [{"params": groups[True], "weight_decay": weight_decay}, {"params": groups[False], "weight_decay": 0.0}]


def learning_rate(step: int, config: TrainingConfig) -> float:
    """A linear rise to the peak, then half a cosine down to final_share of it."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    done = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    above = 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
    return config.learning_rate * (config.final_share + (1 - config.final_share) * above)


@without_gradients
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
        ids = torch.tensor([[tokenizer.end_of_text, *encode(document, tokenizer)]])
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
