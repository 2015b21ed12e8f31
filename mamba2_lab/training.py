"""Teaching a model to predict the next token, and measuring how well it does.

`fit` runs on Hugging Face accelerate: one process or many, float32 or half precision, by the same few lines. The batch
of every step is drawn from (seed, step) alone, so a run that was stopped goes on with the batches it would have seen.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor
from tqdm.auto import tqdm

from mamba2_lab import run_folder, threads
from mamba2_lab.checks import require, require_number, require_whole
from mamba2_lab.data import Batch, Document, PackedTokens
from mamba2_lab.mamba2 import Mamba2
from mamba2_lab.model import Mamba2LM
from mamba2_lab.tokenizer import Tokenizer

_MAY_BE_ZERO = ("warmup_steps", "final_share", "weight_decay", "save_every", "evaluate_every")
PRECISIONS = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}  # our names: accelerate's


@dataclass(frozen=True)
class TrainingConfig:
    """How to train.

    steps, batch_size, length: that many updates on that many windows of that many tokens, all processes together.
    learning_rate: its peak, reached after warmup_steps, then falling along a cosine to final_share of it.
    betas, weight_decay, clip_norm: of AdamW, and of the gradient.
    seed: of the windows drawn.
    precision: "fp32", "bf16" or "fp16", of the matrix products; weights, states and decays stay float32.
    accumulation: parts into which a batch is cut to save memory; their gradients are added up.
    checkpoint_blocks: recompute each block in the backward pass instead of keeping what it computed.
    compile: let torch.compile fuse what it can; the first step then takes a minute or more.
    save_every, evaluate_every: steps between checkpoints, and between measurements; 0 is at the end only.

    Raises:
        ValueError: naming the setting, what was expected and what came.
    """

    steps: int = 200
    batch_size: int = 8
    length: int = 256
    learning_rate: float = 3e-3
    warmup_steps: int = 20
    final_share: float = 0.1
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.1
    clip_norm: float = 1.0
    seed: int = 0
    precision: str = "fp32"
    accumulation: int = 1
    checkpoint_blocks: bool = False
    compile: bool = False
    save_every: int = 0
    evaluate_every: int = 0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if isinstance(field.default, bool | str | tuple):
                continue
            check = require_whole if isinstance(field.default, int) else require_number
            check(field.name, value := getattr(self, field.name))
            if field.name in _MAY_BE_ZERO:
                require(value >= 0, field.name, "0 or more", value)
            elif field.name != "seed":
                require(value > 0, field.name, "above 0", value)
        require(self.final_share <= 1, "final_share", "at most 1", self.final_share)
        require(self.precision in PRECISIONS, "precision", f"one of {', '.join(PRECISIONS)}", self.precision)
        divides = self.batch_size % self.accumulation == 0
        require(divides, "accumulation", f"a divisor of `batch_size` = {self.batch_size}", self.accumulation)


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

    The same model, tokens and config give the same records on a CPU, in one go or resumed; to rounding where other
    processes take cores (see `threads`). Ctrl-C ends the training after the step under way, saves it, and keeps what
    was learned.

    Args:
        folder: where checkpoints and records.jsonl go (see `run_folder`); None keeps nothing on disk.
        resume: go on from the newest checkpoint in the folder; if it holds none, begin.
        held_out, tokenizer: documents to measure bits per byte on.
        on_step: called in the main process with each record once it is kept: to draw a curve, to look at the model.
            What it raises ends the training.

    Raises:
        ValueError: if resume is asked for without a folder, or the folder is of another model or config.
        FloatingPointError: if the loss is no longer a number.
        OSError: if a checkpoint cannot be written; the one before it is whole.
    """
    if resume and folder is None:
        raise ValueError("resume needs the folder of the run; got folder=None")
    if held_out and tokenizer is None:
        raise ValueError("held_out documents need the tokenizer to be measured; got tokenizer=None")
    folder = None if folder is None else Path(folder)
    saved = [] if folder is None else run_folder.checkpoints(folder)
    if saved and not resume:
        raise ValueError(f"folder must be new, or resume=True; {folder} holds a run, at {saved[-1].name}")
    run = _Run(model, tokens, config, folder, tokenizer)
    if saved:
        run.restore(saved[-1])
    model.checkpoint_blocks = config.checkpoint_blocks
    if config.compile:
        model.compile()
    model.train()
    try:
        run.train(held_out, on_step, progress)
    finally:
        run.release()
        model.checkpoint_blocks = False
        if config.compile:
            model.uncompile()
        model.eval()
    return run.records


class _Run:
    """A training under way: the model, its optimiser, and the records so far."""

    def __init__(
        self,
        model: Mamba2LM,
        tokens: PackedTokens,
        config: TrainingConfig,
        folder: Path | None,
        tokenizer: Tokenizer | None,
    ) -> None:
        self.model, self.config = model, config
        self.folder, self.tokenizer = folder, tokenizer
        self.records: list[Record] = []
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
        self.optimizer.zero_grad()  # what a caller's own backward pass may have left
        self._prepared, self._prepared_optimizer = self.accelerator.prepare(model, self.optimizer)
        self.tokens = tokens.to(model.device)  # only now is it on the device of this process
        self._require_the_same_tokens()

    def _require_the_same_tokens(self) -> None:
        """Each process packs its own: two that differ by a tokenizer would train one model on nonsense."""
        if self.accelerator.num_processes == 1:
            return
        ids = self.tokens.ids.long()
        mark = (ids * torch.arange(1, len(ids) + 1, device=ids.device)).sum().to(self.accelerator.device)
        if len(marks := self.accelerator.gather(mark).unique()) > 1:
            raise ValueError(f"tokens must be the same in every process; got {len(marks)} kinds")

    def train(self, held_out: Sequence[Document], on_step: Callable[[Record], None] | None, progress: bool) -> None:
        config, main = self.config, self.accelerator.is_main_process
        earlier = self.records[-1].seconds if self.records else 0.0
        started = time.perf_counter() - earlier
        bar = tqdm(
            total=config.steps, initial=len(self.records), desc="training", unit="step", disable=not (progress and main)
        )
        shares_cores = self.model.device.type == "cpu" and not config.compile  # which is for one number of threads
        with _stop_on_ctrl_c() as stop, bar:
            for step in range(len(self.records), config.steps):
                loss, norm = threads.on_free_cores(self._update, step) if shares_cores else self._update(step)
                seconds = time.perf_counter() - started
                last = step + 1 == config.steps or stop.is_set()
                measured = self._measure(held_out) if _is_due(step, config.evaluate_every, last) else None
                self._note(Record(step, loss, learning_rate(step, config), norm, seconds, measured))
                if self.folder is not None and _is_due(step, config.save_every, last):
                    self.save()
                if on_step is not None and main:
                    on_step(self.records[-1])
                bar.update()
                speed = (step + 1) * config.batch_size * config.length / max(seconds, 1e-9)
                bar.set_postfix(loss=f"{loss:.3f}", tokens_per_s=f"{speed:,.0f}", refresh=False)
                if stop.is_set():
                    kept = "" if self.folder is None else f" and saved in {self.folder}"
                    bar.write(f"stopped after {step + 1} of {config.steps} steps; what was learned is kept{kept}")
                    break

    def release(self) -> None:
        """Give the model its own forward back, which accelerate wraps for half precision."""
        self.accelerator.unwrap_model(self._prepared, keep_fp32_wrapper=False)

    def _measure(self, held_out: Sequence[Document]) -> float | None:
        if not held_out or self.tokenizer is None:
            return None
        measured = bits_per_byte(self.model.eval(), held_out, self.tokenizer)
        self.model.train()
        return measured

    def _update(self, step: int) -> tuple[float, float]:
        """One step of the optimiser: its loss, over all processes, and the gradient's norm."""
        config, accelerator = self.config, self.accelerator
        rate = learning_rate(step, config)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        total = torch.zeros((), device=self.model.device)
        parts = list(self._parts(step))
        for i, part in enumerate(parts):
            last = i + 1 == len(parts)
            with contextlib.nullcontext() if last else accelerator.no_sync(self._prepared):
                logits = self._prepared(part.input_ids, document_ids=part.document_ids)
                loss = next_token_loss(logits, part.targets) / len(parts)
                accelerator.backward(loss)
            total += loss.detach()
        loss_value = accelerator.reduce(total, "mean").item()
        norm = float(accelerator.clip_grad_norm_(self.model.parameters(), config.clip_norm))
        self._require_numbers(loss_value, norm)
        self._prepared_optimizer.step()
        self._prepared_optimizer.zero_grad()
        return loss_value, norm

    def _require_numbers(self, loss: float, norm: float) -> None:
        overflow_is_handled = self.accelerator.scaler is not None  # fp16: the step is skipped, the scale lowered
        for name, value in (("loss", loss), ("gradient norm", norm)):
            if not math.isfinite(value) and not (overflow_is_handled and name == "gradient norm"):
                advice = f"a lower learning_rate than {self.config.learning_rate} may help"
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
            run_folder.append_record(self.folder, dataclasses.asdict(record))

    def save(self) -> None:
        """Write a checkpoint, whole, and then remove the one before it."""
        assert self.folder is not None
        if self.accelerator.is_main_process:
            scaler = {} if self.accelerator.scaler is None else self.accelerator.scaler.state_dict()
            facts = {"training": dataclasses.asdict(self.config), "scaler": scaler}
            run_folder.write(self.folder, len(self.records), self.model, self.tokenizer, self.optimizer, facts)
        self.accelerator.wait_for_everyone()

    def restore(self, path: Path) -> None:
        """Go back to a checkpoint."""
        facts = run_folder.read_facts(path)
        settings = dataclasses.asdict(TrainingConfig()) | facts["training"]  # one younger than the run: its default
        for name, value in dataclasses.asdict(self.config).items():
            saved = settings[name]
            if (tuple(saved) if isinstance(saved, list) else saved) != value:
                raise ValueError(f"{name} must be {saved!r}, as in the run to resume at {path}; got {value!r}")
        run_folder.read(path, self.model, self.optimizer)
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(facts["scaler"])
        assert self.folder is not None
        self.records = [Record(**record) for record in run_folder.keep_records(self.folder, facts["step"])]


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


@contextlib.contextmanager
def _stop_on_ctrl_c() -> Iterator[threading.Event]:
    """An event that Ctrl-C sets, so that a step is never cut in half. A second Ctrl-C interrupts at once.

    Outside the main thread signals cannot be caught, and the event stays unset.
    """
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    before = signal.getsignal(signal.SIGINT)

    def ask(*_: object) -> None:
        stop.set()
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, ask)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)


def next_token_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy in nats per token: logits (b,l,v), targets (b,l)."""
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def parameter_groups(model: Mamba2LM, weight_decay: float) -> list[dict[str, object]]:
    """Two groups for an optimiser: with weight decay, and (dt_bias, A_log, D, initial states) without."""
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


if __name__ == "__main__":  # accelerate launch -m mamba2_lab.training ...
    from mamba2_lab.cli import main

    raise SystemExit(main(["train", *sys.argv[1:]]))
