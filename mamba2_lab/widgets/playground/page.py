"""A playground: let a model write, watch it choose, stop it, go on, and compare two ways of choosing."""

from __future__ import annotations

import html
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from ipywidgets import (
    HTML,
    Accordion,
    Box,
    Button,
    Checkbox,
    Dropdown,
    Layout,
    Text,
    Textarea,
    VBox,
    Widget,
)

from mamba2_lab.checks import require, require_seed, require_whole
from mamba2_lab.generation import GeneratedToken, SamplingConfig
from mamba2_lab.machine import threads
from mamba2_lab.machine.files import write_text
from mamba2_lab.mamba2_lm import Mamba2LM
from mamba2_lab.text import Tokenizer
from mamba2_lab.widgets.playground import history
from mamba2_lab.widgets.playground.column import FIELD, WIDE_LABEL, Column, WholeNumber, small
from mamba2_lab.widgets.playground.history import Entry
from mamba2_lab.widgets.playground.shelf import Shelf
from mamba2_lab.widgets.playground.writing import Loaded, Pace, Writing
from mamba2_lab.widgets.view import error_html
from mamba2_lab.widgets.words import FIELDS, counted
from mamba2_lab.widgets.worker import StoppedError, Worker, in_batches

ELSEWHERE = ""  # the choice in the model picker that opens the field for a folder or a Hub id
METER_SECONDS = 0.25  # between two looks at figures that change: those below a text, and the share that is read


class Playground(VBox):
    """Let a model write, in a thread of its own, and look at each of its choices. Put last in a cell, it is shown.

    The text streams in, each token coloured by the probability that the model gave it. Stop ends the run at once, also
    while the prompt is read: then the text of the run before stays. Continue goes on from the state that is kept, and
    reads nothing again; Generate begins anew, also while another run is under way, which it ends. A click on a token,
    or the arrow keys, open the candidates for it, before and after each filter. A second column of settings writes from
    the same prompt and seed, for comparison.

    Args:
        model: what is chosen at first: a model in the box, a name in `models`, a folder, or a Hub id.
        prompt, length, seed, stop: what stands in their fields at first; length in "new tokens".
        models: models of your own beside those in the box: {name: (model, tokenizer)}. They stay where they are.
        settings: fields of `SamplingConfig`, for both columns.

    Attributes:
        controls: the widgets by name; setting a `.value` and calling `.click()` act as a reader's hand does. Those of
            the second column are called "second temperature" and so on.
        strips: the `TokenStrip` of each column.
        entries: a `history.Entry` for each run, oldest first.
        last_error: the exception that the last action ended in, or None. It is shown in the widget too.

    The notebook stays usable while the model writes. While another cell is busy, though, a click waits for its end.
    """

    def __init__(
        self,
        model: str | Path = "medium",
        prompt: str = "def area(radius):\n    ",
        *,
        length: int = 200,
        seed: int = 0,
        stop: Sequence[str] = (),
        models: Mapping[str, tuple[Mamba2LM, Tokenizer]] | None = None,
        **settings: Any,
    ) -> None:
        start = SamplingConfig(**{"temperature": 0.7, **settings})
        self.entries: list[Entry] = []
        self.last_error: Exception | None = None
        self._worker, self._shelf = Worker(), Shelf(models or {})
        # One core is left to the page and to Jupyter. Where they share every core with the model, its threads wait for
        # one another, and a token takes several times as long.
        self._threads = max(1, torch.get_num_threads() - 1)
        self._columns = [Column(start), Column(start)]
        self.strips = [column.strip for column in self._columns]
        self.controls: dict[str, Widget] = {
            **_model_controls(str(model), self._shelf),
            **_text_controls(prompt, length, seed, stop),
            **self._columns[0].controls,
            **{f"second {name}": control for name, control in self._columns[1].controls.items()},
            **_buttons(),
        }
        self._status, self._fault, self._where = HTML(), HTML(), HTML()
        self._history = HTML(history.to_html([]))
        super().__init__(self._rows(), layout=Layout(max_width="1400px"))
        self._connect()
        self._choose_model()

    @property
    def texts(self) -> list[str]:
        """What each column in use wrote, the prompt not included."""
        return [column.writing.text() + column.writing.rest for column in self._columns if column.writing]

    @property
    def running(self) -> bool:
        """Whether a model is being loaded, or is writing."""
        return self._worker.running

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until the model is loaded, or has written what was asked for, at most so long: whether it has."""
        return self._worker.wait(seconds)

    def save_history(self, path: str | Path) -> None:
        """Write all entries into a file, whole: as JSON if its name ends in .json, else as text."""
        as_json = Path(path).suffix == ".json"
        write_text(path, history.to_json(self.entries) if as_json else history.to_text(self.entries))

    def close(self) -> None:
        """End what runs, and remove the widget."""
        self._worker.stop()
        self._worker.wait()
        super().close()

    def render(self) -> None:
        """Show what is known of the selected tokens, anew."""
        with self._reporting():
            for column in self._columns:
                column.explain()

    # What the buttons and pickers do, in the kernel's own thread: ask, and return at once

    def _generate(self, _: object = None) -> None:
        with self._reporting():
            request = self._request()
            self._start(_reading(request), lambda stop: self._begin(request, stop))

    def _continue(self, _: object = None) -> None:
        with self._reporting():
            request = self._request()
            if not self._can_continue():
                raise ValueError("Continue needs a text that the chosen model has written: press Generate first")
            self._start("Going on.", lambda stop: self._go_on(request, stop))

    def _stop(self, _: object = None) -> None:
        self._worker.stop()

    def _reset(self, _: object = None) -> None:
        self._start("", lambda stop: self._forget())

    def _choose_model(self, _: object = None) -> None:
        source, kind = self._source(), self.controls["device"].value
        self.controls["elsewhere"].layout.display = None if self.controls["model"].value == ELSEWHERE else "none"
        self.controls["device"].disabled = not self._shelf.moves(source)
        self._where.value = ""
        if source:
            self._start(f"Loading {source}.", lambda stop: self._load(source, kind))

    def _compare_two(self, _: object = None) -> None:
        first, second = self._columns
        for name, control in first.controls.items():
            second.controls[name].value = control.value  # they begin alike, for one difference to be made
        self._lay_out()

    # What the worker does, in its thread

    def _load(self, source: str, kind: str) -> None:
        loaded = self._get(source, kind)
        for _ in Writing(loaded, "", SamplingConfig(), (), seed=0).run(2):
            pass  # the first call of everything is slow: let it be this one
        self._say(f"{source} is ready on {loaded.device}, with {loaded.model.num_parameters():,} weights.")

    def _get(self, source: str, kind: str) -> Loaded:
        loaded = self._shelf.get(source, kind)
        self._where.value = small(f"Computing on {self._shelf.reason(source, kind)}.")
        return loaded

    def _forget(self) -> None:
        for column in self._columns:
            column.forget()
        self._say("The text and its state are gone; the settings and the history have stayed.")

    def _begin(self, request: Request, stop: threading.Event) -> None:
        loaded = self._get(request.source, request.kind)
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
            self._say(f"Stopped while the prompt was read: nothing is written.{self._stopping()}")
            return
        for column in self._columns:
            column.forget()
        for column, writing in zip(self._columns, writings, strict=False):
            column.begin(writing)
        self._write(request, stop, "")

    def _reads(self, request: Request, already: float, stop: threading.Event) -> Callable[[float], None]:
        """Says how much of the prompt is read; `already` is the share that was read for other columns."""
        due = time.monotonic() + METER_SECONDS

        def hear(share: float) -> None:
            nonlocal due
            if stop.is_set():
                raise StoppedError
            if time.monotonic() >= due:
                due = time.monotonic() + METER_SECONDS
                self._say(_reading(request, already + share / len(request.settings)))

        return hear

    def _go_on(self, request: Request, stop: threading.Event) -> None:
        kept = ""
        for column in self._columns:
            if column.writing is not None:
                kept = kept or f"Went on from the state: {column.writing.state}, none of them was read again. "
                column.writing.change(column.settings(), request.stop)
        self._write(request, stop, kept)

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
                    self._say(f"{kept}Writing with {request.source}.")
                if time.monotonic() >= due:
                    self._measure(paces)
                    due = time.monotonic() + METER_SECONDS
        finally:
            for column in growing:
                column.strip.settle()
            self._measure(paces)
            self._record(request, began, stop)
        self._say(kept + _ending(self.entries[-len(growing) :], self._stopping()))

    def _record(self, request: Request, began: Mapping[Column, int], stop: threading.Event) -> None:
        for column, since in began.items():
            assert column.writing is not None
            entry = _entry(column.writing, request, since, column.last_entry, stop.is_set())
            column.last_entry = len(self.entries)
            self.entries.append(entry)
        self._history.value = history.to_html(self.entries)

    def _stopping(self) -> str:
        """How long it took to stop, if it was asked to."""
        seconds = self._worker.seconds_since_stop()
        return "" if seconds is None else f" The kernel took {1000 * seconds:.0f} ms to stop."

    # Between the two

    def _start(self, said: str, job: Callable[[threading.Event], None]) -> None:
        def run(stop: threading.Event) -> None:
            if stop.is_set():  # another click came while this job was waiting for the one before it to end
                return
            self.last_error, self._fault.value = None, ""
            self._say(said)
            self._set_buttons(running=True)
            try:
                threads.at_most(self._threads, job, stop)  # and not for good: new threads begin with what was set last
            finally:
                self._set_buttons(running=False)

        self._worker.start(run, self._failed)

    def _set_buttons(self, *, running: bool) -> None:
        self.controls["stop"].disabled = not running
        self.controls["continue"].disabled = running or not self._can_continue()

    def _can_continue(self) -> bool:
        writing = self._columns[0].writing
        wanted = self._source(), self.controls["device"].value
        return writing is not None and self._shelf.is_meant(writing.loaded, *wanted)

    @contextmanager
    def _reporting(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # Jupyter would show it in a log, where nobody looks
            self._failed(error)

    def _failed(self, error: Exception) -> None:
        self.last_error = error
        self._fault.value = error_html(error, FIELDS)
        self._say("")

    def _say(self, text: str) -> None:
        self._status.value = f'<div role="status" style="line-height: 1.4">{html.escape(text)}</div>'

    def _measure(self, paces: Mapping[Column, Pace]) -> None:
        for column, pace in paces.items():
            column.measure(pace)

    def _request(self) -> Request:
        """What the controls ask for.

        Raises:
            TypeError, ValueError: naming the field, what was expected and what came.
        """
        field: dict[str, Any] = {name: getattr(control, "value", None) for name, control in self.controls.items()}
        require_whole("length", field["length"])
        require(field["length"] >= 1, "length", "1 or more", field["length"])
        require_whole("seed", field["seed"])
        require_seed(field["seed"])
        source = self._source()
        require(source != "", "elsewhere", "the path of a folder, or owner/name", source)
        settings = [column.settings() for column in self._columns[: 1 + field["compare"]]]
        stop = tuple(_unescaped(line) for line in field["stop at"].split("\n") if line)
        asked = time.perf_counter()
        return Request(source, field["device"], field["prompt"], settings, field["length"], field["seed"], stop, asked)

    def _source(self) -> str:
        chosen = self.controls["model"].value
        return self.controls["elsewhere"].value.strip() if chosen == ELSEWHERE else chosen

    # Looks

    def _connect(self) -> None:
        acts = {"generate": self._generate, "stop": self._stop, "continue": self._continue, "reset": self._reset}
        for name, act in acts.items():
            self.controls[name].on_click(act)
        for name in ("model", "elsewhere", "device"):
            self.controls[name].observe(self._choose_model, "value")
        self.controls["compare"].observe(self._compare_two, "value")
        for column in self._columns:
            column.strip.observe(lambda change: self.render(), "selected")
        self._lay_out()
        self._set_buttons(running=False)

    def _lay_out(self, _: object = None) -> None:
        """One column, or two side by side."""
        first, second = self._columns
        both = self.controls["compare"].value
        first.lay_out("first settings" if both else "", shown=True)
        second.lay_out("second settings", shown=both)

    def _rows(self) -> list[Widget]:
        controls = self.controls
        return [
            _row(controls["model"], controls["elsewhere"], controls["device"], self._where),
            controls["prompt"],
            _row(controls["length"], controls["seed"], controls["stop at"], controls["compare"]),
            _row(*(column.settings_box for column in self._columns)),
            _row(*(controls[name] for name in ("generate", "stop", "continue", "reset")), self._status),
            self._fault,
            _row(*(column.text_box for column in self._columns)),
            *(column.why for column in self._columns),
            Accordion([self._history], titles=("History",)),
        ]


class Request(NamedTuple):
    """What the controls asked for when a button was pressed."""

    source: str
    kind: str
    prompt: str
    settings: list[SamplingConfig]
    length: int
    seed: int
    stop: tuple[str, ...]
    asked: float  # when, by time.perf_counter


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


def _entry(writing: Writing, request: Request, since: int, former: int | None, by_hand: bool) -> Entry:
    made = len(writing.tokens) - since
    return Entry(
        prompt=writing.prompt,
        text=writing.text(since),
        tokens=made,
        model=writing.loaded.name,
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


def _reading(request: Request, share: float = 0.0) -> str:
    return f"Reading the prompt with {request.source}{f', {share:.0%}' if share else ''}."


def _ending(entries: Sequence[Entry], stopping: str) -> str:
    ways = {"length": "after", "stop": "at a stop, after", "by hand": "by hand, after"}
    names = ("It",) if len(entries) == 1 else ("The first", "the second")
    ended = ", ".join(
        f"{name} ended {ways[entry.ended]} {counted(entry.tokens, 'new token')}"
        for name, entry in zip(names, entries, strict=True)
    )
    return f"{ended}.{stopping}"


def _unescaped(line: str) -> str:
    """A stop string as it is typed: \\n is a line break, \\t a tab, and two backslashes are one."""
    for typed, meant in (("\\\\", "\0"), ("\\n", "\n"), ("\\t", "\t"), ("\0", "\\")):
        line = line.replace(typed, meant)
    return line


def _escaped(stop: str) -> str:
    return stop.replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t")


def _model_controls(model: str, shelf: Shelf) -> dict[str, Widget]:
    listed = model in shelf.names
    options = [*((name, name) for name in shelf.names), ("a folder, or from the Hub", ELSEWHERE)]
    return {
        "model": Dropdown(
            options=options,
            value=model if listed else ELSEWHERE,
            description="model",
            style=WIDE_LABEL,
            layout=FIELD,
        ),
        "elsewhere": Text(
            "" if listed else model,
            placeholder="a folder, or owner/name",
            description=FIELDS["elsewhere"],
            continuous_update=False,
            style=WIDE_LABEL,
            layout=Layout(width="420px", max_width="98%"),
        ),
        "device": Dropdown(options=shelf.devices(), description="device", style=WIDE_LABEL, layout=FIELD),
    }


def _text_controls(prompt: str, length: int, seed: int, stop: Sequence[str]) -> dict[str, Widget]:
    return {
        "prompt": Textarea(
            prompt, description="prompt", rows=4, style=WIDE_LABEL, layout=Layout(width="98%", max_width="1002px")
        ),
        "length": WholeNumber(length, step=1, description=FIELDS["length"], style=WIDE_LABEL, layout=FIELD),
        "seed": WholeNumber(seed, step=1, description="seed", style=WIDE_LABEL, layout=FIELD),
        "stop at": Textarea(
            "\n".join(map(_escaped, stop)),
            description="stop at",
            tooltip="texts that end the run, one on each line; \\n stands for a line break, \\t for a tab",
            placeholder="a text on each line",
            rows=1,
            style=WIDE_LABEL,
            layout=FIELD,
        ),
        "compare": Checkbox(False, description="compare two settings, same seed", indent=False, layout=FIELD),
    }


def _buttons() -> dict[str, Widget]:
    layout = Layout(width="88px", margin="2px 6px 2px 0")  # four of them fit on a telephone
    return {
        "generate": Button(
            description="Generate", button_style="primary", tooltip="write from the prompt, anew", layout=layout
        ),
        "stop": Button(description="Stop", tooltip="end the run; its state is kept", layout=layout),
        "continue": Button(
            description="Continue", tooltip="go on from the state; nothing is read again", layout=layout
        ),
        "reset": Button(description="Reset", tooltip="forget the text and its state", layout=layout),
    }


def _row(*widgets: Widget) -> Box:
    return Box(widgets, layout=Layout(flex_flow="row wrap", align_items="center"))
