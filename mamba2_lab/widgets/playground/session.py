"""What the playground does beside the page, in its worker's thread: it loads a model, lets it write, and says so."""

from __future__ import annotations

import html
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from ipywidgets import HTML

from mamba2_lab.generation import GeneratedToken, SamplingConfig
from mamba2_lab.widgets.playground import history
from mamba2_lab.widgets.playground.column import Column, small
from mamba2_lab.widgets.playground.history import Entry
from mamba2_lab.widgets.playground.request import Request
from mamba2_lab.widgets.playground.shelf import Shelf
from mamba2_lab.widgets.playground.writing import Loaded, Pace, Writing
from mamba2_lab.widgets.worker import StoppedError, Worker, in_batches
from mamba2_lab.words import counted

METER_SECONDS = 0.25  # between two looks at figures that change: those below a text, and the share that is read


class Session:
    """A model at work: what a worker runs of it, a method for each thing that can be asked for.

    Args:
        columns: where it writes. worker: whose thread it is, and which knows when Stop was pressed.

    Attributes:
        entries: a `history.Entry` for each run, oldest first.
        status, where, history: what it says, where it computes, and the entries; the page gives each its place.
    """

    def __init__(self, shelf: Shelf, columns: Sequence[Column], worker: Worker) -> None:
        self._shelf, self._columns, self._worker = shelf, columns, worker
        self.entries: list[Entry] = []
        self.status, self.where, self.history = HTML(), HTML(), HTML(history.to_html([]))

    def say(self, text: str) -> None:
        """Show what is going on."""
        self.status.value = f'<div role="status" style="line-height: 1.4">{html.escape(text)}</div>'

    def load(self, source: str, kind: str, weights: str) -> None:
        """Have the model ready."""
        loaded = self._get(source, kind, weights)
        for _ in Writing(loaded, "", SamplingConfig(), (), seed=0).run(2):
            pass  # the first call of everything is slow: let it be this one
        self.say(f"{loaded.called} is ready on {loaded.device}, with {loaded.model.num_parameters():,} weights.")

    def begin(self, request: Request, stop: threading.Event) -> None:
        """Write from the prompt, in each column that is in use."""
        loaded = self._get(request.source, request.kind, request.weights)
        try:
            writings = [
                Writing(
                    loaded,
                    request.prompt,
                    settings,
                    request.stop,
                    request.seed,
                    self._reads(request, number / len(request.settings), stop),
                )
                for number, settings in enumerate(request.settings)
            ]
        except StoppedError:
            self.say(f"Stopped while the prompt was read: nothing is written.{self._stopping()}")
            return
        for column in self._columns:
            column.forget()
        for column, writing in zip(self._columns, writings, strict=False):
            column.begin(writing)
        self._write(request, stop, "")

    def go_on(self, request: Request, stop: threading.Event) -> None:
        """Write on from the state that is kept."""
        kept = ""
        for column in self._columns:
            if column.writing is not None:
                kept = kept or f"Went on from the state: {column.writing.state}, none of them was read again. "
                column.writing.change(column.settings(), request.stop)
        self._write(request, stop, kept)

    def forget(self) -> None:
        """Let go of the texts and their states."""
        for column in self._columns:
            column.forget()
        self.say("The text and its state are gone; the settings and the history have stayed.")

    def _get(self, source: str, kind: str, weights: str) -> Loaded:
        loaded = self._shelf.get(source, kind, weights)
        self.where.value = small(f"Computing on {self._shelf.reason(source, kind)}.")
        return loaded

    def _reads(self, request: Request, already: float, stop: threading.Event) -> Callable[[float], None]:
        """Says how much of the prompt is read; `already` is the share that was read for other columns."""
        due = time.monotonic() + METER_SECONDS

        def hear(share: float) -> None:
            nonlocal due
            if stop.is_set():
                raise StoppedError
            if time.monotonic() >= due:
                due = time.monotonic() + METER_SECONDS
                self.say(reading(request, already + share / len(request.settings)))

        return hear

    def _write(self, request: Request, stop: threading.Event, kept: str) -> None:
        """Let each text grow, a token each in turn, and record what came."""
        growing = {column: column.writing for column in self._columns if column.writing is not None}
        began = {column: len(writing.tokens) for column, writing in growing.items()}
        paces = {column: Pace(request.asked) for column in growing}
        due = 0.0
        try:
            for batch in in_batches(_in_turn(growing, request.length), stop):
                for column, pace in paces.items():
                    column.append([token for its, token in batch if its is column], pace)
                if due == 0.0:
                    self.say(f"{kept}Writing with {request.source}.")
                if time.monotonic() >= due:
                    _measure(paces)
                    due = time.monotonic() + METER_SECONDS
        finally:
            for column in growing:
                column.strip.settle()
            _measure(paces)
            self._record(request, began, stop)
        self.say(kept + _ending(self.entries[-len(growing) :]) + self._stopping())

    def _record(self, request: Request, began: Mapping[Column, int], stop: threading.Event) -> None:
        for column, since in began.items():
            assert column.writing is not None
            entry = _entry(column.writing, request, since, column.last_entry, stop.is_set())
            column.last_entry = len(self.entries)
            self.entries.append(entry)
        self.history.value = history.to_html(self.entries)

    def _stopping(self) -> str:
        """How long it took to stop, if it was asked to."""
        seconds = self._worker.seconds_since_stop()
        return "" if seconds is None else f" The kernel took {1000 * seconds:.0f} ms to stop."


def reading(request: Request, share: float = 0.0) -> str:
    """What is said while a prompt is read."""
    return f"Reading the prompt with {request.source}{f', {share:.0%}' if share else ''}."


def _in_turn(growing: Mapping[Column, Writing], count: int) -> Iterator[tuple[Column, GeneratedToken]]:
    """A token of each text in turn, until every one has made so many or has come to a stop."""
    runs = {column: writing.run(count) for column, writing in growing.items()}
    while runs:
        for column, run in list(runs.items()):
            token = next(run, None)
            if token is None:
                del runs[column]
            else:
                yield column, token


def _measure(paces: Mapping[Column, Pace]) -> None:
    for column, pace in paces.items():
        column.measure(pace)


def _entry(writing: Writing, request: Request, since: int, former: int | None, by_hand: bool) -> Entry:
    made = len(writing.tokens) - since
    return Entry(
        prompt=writing.prompt,
        text=writing.text(since),
        tokens=made,
        model=writing.loaded.called,
        device=writing.loaded.device,
        seed=writing.seed,
        settings=writing.settings,
        stop=writing.stop,
        ended=_way(writing, made, request.length, by_hand),
        continues=former,
    )


def _way(writing: Writing, made: int, asked: int, by_hand: bool) -> str:
    if writing.at_stop:
        return "stop"
    if made == asked:
        return "length"
    return "by hand" if by_hand else "error"


def _ending(entries: Sequence[Entry]) -> str:
    ways = {"length": "after", "stop": "at a stop, after", "by hand": "by hand, after"}
    names = ("It",) if len(entries) == 1 else ("The first", "the second")
    ended = ", ".join(
        f"{name} ended {ways[entry.ended]} {counted(entry.tokens, 'new token')}"
        for name, entry in zip(names, entries, strict=True)
    )
    return f"{ended}."
