"""Teaching a model to predict the next token.

`fit` is what a caller needs, `_Run` the loop: step after step, each with its record, and with what is due after some:
a measurement, a checkpoint. What one step is says `step`; what else is needed stands in a file each, see the package.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from tqdm.auto import tqdm

from mamba2_lab.data import Document, PackedTokens
from mamba2_lab.machine import threads
from mamba2_lab.mamba2_lm import MambaLM
from mamba2_lab.text import Tokenizer
from mamba2_lab.training import lora
from mamba2_lab.training.ctrl_c import CtrlC, GivenUp
from mamba2_lab.training.folder_lock import owned
from mamba2_lab.training.keeping import Keeper
from mamba2_lab.training.loss import bits_per_byte
from mamba2_lab.training.optimiser import learning_rate
from mamba2_lab.training.process import Processes, is_main_process, require_a_compiler
from mamba2_lab.training.records import Record, records_of
from mamba2_lab.training.restoring import all_or_nothing, restore_accelerate, restore_modes
from mamba2_lab.training.resuming import read_saved, texts_digest
from mamba2_lab.training.run_folder import Saved
from mamba2_lab.training.settings import TrainingConfig
from mamba2_lab.training.step import Learner
from mamba2_lab.weights.stored import require_floats


def fit(
    model: MambaLM,
    tokens: PackedTokens,
    config: TrainingConfig,
    *,
    folder: str | Path | None = None,
    resume: bool = False,
    held_out: Sequence[Document] = (),
    tokenizer: Tokenizer | None = None,
    origin: str | None = None,
    on_step: Callable[[Record], None] | None = None,
    progress: bool = True,
) -> list[Record]:
    """Train the model in place, where it is; one record per step.

    The same model, tokens and config give the same records on a CPU, in one go or resumed; to rounding, where other
    processes take cores (see `threads`). Ctrl-C ends the training after the step under way, saves it, and keeps what
    was learned; a second one does not wait for that step, or for a measurement, and saves too. Whatever ends it, the
    weights are those after a whole number of steps, and all else of the model is as it was.

    With `config.lora` the model has adapters while it is trained, and checkpoints hold these alone; at the end,
    whatever ends it, they are added to the weights.

    Args:
        folder: where checkpoints and records.jsonl go (see `run_folder`), of one training at a time; None keeps nothing
            on disk. The records of a run that left no checkpoint there are set aside under another name.
        resume: go on from the newest checkpoint in the folder; if it holds none, begin. The run must be given its own
            model, tokens, tokenizer, config, and held_out documents or none. But it may be made longer (the learning
            rate of the steps to come follows from the new number of steps), save and measure more or less often, and
            recompute blocks or not. What cannot be resumed is refused before anything is changed.
        held_out, tokenizer: documents to measure bits per byte on.
        origin: what the model was loaded from, for the folder: adapters name it as their base. A run that goes on must
            be given its own; with `config.lora` also the same weights, which its checkpoints do not hold.
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
    require_floats(model, "be trained")
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError("model must have parameters that require gradients to be trained; got none")
    require_a_compiler(config, model.device)
    tokens.require_longer_than(config.length)
    folder = None if folder is None else Path(folder)
    with contextlib.ExitStack() as afterwards:
        if folder is not None and is_main_process():
            afterwards.enter_context(owned(folder))
        ctrl_c = CtrlC()
        ctrl_c.listen(afterwards)
        restore_modes(model, afterwards)
        restore_accelerate(afterwards)
        afterwards.enter_context(lora.adapters(model, config.lora, config.seed, origin))
        begun_with = {"origin": origin, "frozen": lora.digest_of_what_stays(model)}
        saved = None
        if folder is not None:
            saved = read_saved(folder, resume, model, tokens, config, tokenizer, held_out, begun_with)
        run = _Run(model, tokens, config, folder, tokenizer, held_out, saved, ctrl_c, begun_with)
        afterwards.callback(model.zero_grad)
        run.begin()
        run.train(on_step, progress)
    return run.records


class _Run:
    """A training under way: what learns, what is kept of it, and the records so far."""

    def __init__(
        self,
        model: MambaLM,
        tokens: PackedTokens,
        config: TrainingConfig,
        folder: Path | None,
        tokenizer: Tokenizer | None,
        held_out: Sequence[Document],
        saved: Saved | None,
        ctrl_c: CtrlC,
        begun_with: Mapping[str, str | None],
    ) -> None:
        self.model, self.config = model, config
        self.folder, self.tokenizer, self.held_out = folder, tokenizer, held_out
        self.records = [] if saved is None else records_of(saved)
        self._saved, self._saved_steps = saved, len(self.records)
        self._notes: list[str] = []  # to say once the bar is there
        self.processes = Processes(config, model.device, ctrl_c)
        data = tokens.digest() if folder is not None or self.processes.many else None
        if data is not None:
            self.processes.require_the_same_tokens(data)
        measured_on = texts_digest(held_out) or (saved and saved.facts.get("held_out"))
        facts = {"training": dataclasses.asdict(config), "data": data, "held_out": measured_on, **begun_with}
        self.keeper = Keeper(folder if self.processes.is_main else None, saved, facts)
        self.learner = Learner(model, tokens, config, self.processes)

    def begin(self) -> None:
        """Put model, optimiser and folder in the state to go on from. Until here nothing was changed."""
        saved = self._saved
        self.processes.wait()  # each has read the folder
        if saved is not None:
            with all_or_nothing(p for name, p in self.model.named_parameters() if name in saved.weights):
                saved.put_into(self.model, self.learner.optimizer)
            self.processes.load_scaler_state(saved.facts["scaler"])
            if "data" not in saved.facts:
                self._notes.append(
                    f"{saved.path} was written by an older version: nothing tells whether its files are as they were, "
                    "and the text is the same"
                )
        if note := self.keeper.begin():
            self._notes.append(note)
        self.learner.optimizer.zero_grad()  # what a caller's own backward pass may have left
        torch._C._set_grad_enabled(True)  # a notebook may have switched gradients off
        self.model.checkpoint_blocks = self.config.checkpoint_blocks
        if self.config.compile:
            self.model.compile()
        self.model.train()

    def train(self, on_step: Callable[[Record], None] | None, progress: bool) -> None:
        """Make the steps that are missing, or those until Ctrl-C."""
        steps, main = self.config.steps, self.processes.is_main
        done = len(self.records)
        started = time.perf_counter() - (self.records[-1].seconds if done else 0.0)
        with tqdm(total=steps, initial=done, desc="training", unit="step", disable=not (progress and main)) as bar:
            for note in self._notes:
                bar.write(note)
            try:
                while len(self.records) < steps and not self.processes.are_to_stop():
                    self._make_step(started, on_step if main else None)
                    self._show(bar)
            except GivenUp:  # the weights are those of the last record
                pass
            if self._saved_steps < len(self.records):
                self._save()
            if self.processes.are_to_stop() and main:
                bar.write(self._farewell())

    def _make_step(self, started: float, on_step: Callable[[Record], None] | None) -> None:
        """A step, and all that may be due after it: its record, a measurement, a checkpoint, what the caller does."""
        config, step = self.config, len(self.records)
        before = self._measure() if config.evaluate_first and step == 0 else None
        shares_cores = self.model.device.type == "cpu" and not config.compile  # which is for one number of threads
        loss, norm = threads.on_free_cores(self.learner.update, step) if shares_cores else self.learner.update(step)
        seconds = time.perf_counter() - started
        last = step + 1 == config.steps
        measured = self._measure() if _is_due(step, config.evaluate_every, last) else None
        self.records.append(Record(step, loss, learning_rate(step, config), norm, seconds, measured, before))
        self.keeper.note(self.records[-1])
        if _is_due(step, config.save_every, last or self.processes.are_to_stop()):
            self._save()
        if on_step is not None:
            with self.processes.may_be_given_up():
                on_step(self.records[-1])

    def _measure(self) -> float | None:
        if not self.held_out or self.tokenizer is None:
            return None
        try:
            with self.processes.may_be_given_up():
                return bits_per_byte(self.model.eval(), self.held_out, self.tokenizer)
        except GivenUp:
            return None
        finally:
            self.model.train()

    def _save(self) -> None:
        if self.folder is None:
            return
        scaler = self.processes.scaler_state()
        self.keeper.save(len(self.records), self.model, self.tokenizer, self.learner.optimizer, scaler)
        self._saved_steps = len(self.records)
        self.processes.wait()

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


def _is_due(step: int, every: int, last: bool) -> bool:
    return last or (every > 0 and (step + 1) % every == 0)
