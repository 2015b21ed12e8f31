"""A playground: let a model write, watch it choose, stop it, go on, and compare two ways of choosing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from ipywidgets import HTML, Accordion, Layout, Widget

from mamba2_lab.generation import SamplingConfig
from mamba2_lab.machine import threads
from mamba2_lab.machine.files import write_text
from mamba2_lab.mamba2_lm import MambaLM
from mamba2_lab.text import Tokenizer
from mamba2_lab.widgets.fields import row
from mamba2_lab.widgets.playground import history
from mamba2_lab.widgets.playground.column import Column
from mamba2_lab.widgets.playground.controls import ELSEWHERE, buttons, model_controls, source_of, text_controls
from mamba2_lab.widgets.playground.labels import FIELDS
from mamba2_lab.widgets.playground.request import Request
from mamba2_lab.widgets.playground.session import Session, reading
from mamba2_lab.widgets.playground.shelf import Shelf
from mamba2_lab.widgets.view import error_html
from mamba2_lab.widgets.worker import Worker, WorkingBox


class Playground(WorkingBox):
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
        models: Mapping[str, tuple[MambaLM, Tokenizer]] | None = None,
        **settings: Any,
    ) -> None:
        self._worker = Worker()
        start = SamplingConfig(**{"temperature": 0.7, **settings})
        self.last_error: Exception | None = None
        self._shelf = Shelf(models or {})
        # One core is left to the page and to Jupyter. Where they share every core with the model, its threads wait for
        # one another, and a token takes several times as long.
        self._threads = max(1, torch.get_num_threads() - 1)
        self._columns = [Column(start), Column(start)]
        self._session = Session(self._shelf, self._columns, self._worker)
        self.entries = self._session.entries
        self.strips = [column.strip for column in self._columns]
        self.controls: dict[str, Widget] = {
            **model_controls(str(model), self._shelf),
            **text_controls(prompt, length, seed, stop),
            **self._columns[0].controls,
            **{f"second {name}": control for name, control in self._columns[1].controls.items()},
            **buttons(),
        }
        self._fault = HTML()
        super().__init__(self._rows(), layout=Layout(max_width="1400px"))
        self._connect()
        self._choose_model()

    @property
    def texts(self) -> list[str]:
        """What each column in use wrote, the prompt not included."""
        return [column.writing.text() + column.writing.rest for column in self._columns if column.writing]

    def save_history(self, path: str | Path) -> None:
        """Write all entries into a file, whole: as JSON if its name ends in .json, else as text."""
        as_json = Path(path).suffix == ".json"
        write_text(path, history.to_json(self.entries) if as_json else history.to_text(self.entries))

    def render(self) -> None:
        """Show what is known of the selected tokens, anew."""
        with self._reporting():
            for column in self._columns:
                column.explain()

    # What the buttons and pickers do, in the kernel's own thread: ask, and return at once

    def _generate(self, _: object = None) -> None:
        with self._reporting():
            request = self._request()
            self._start(reading(request), lambda stop: self._session.begin(request, stop))

    def _continue(self, _: object = None) -> None:
        with self._reporting():
            request = self._request()
            if not self._can_continue():
                raise ValueError("Continue needs a text that the chosen model has written: press Generate first")
            self._start("Going on.", lambda stop: self._session.go_on(request, stop))

    def _stop(self, _: object = None) -> None:
        self._worker.stop()

    def _reset(self, _: object = None) -> None:
        self._start("", lambda stop: self._session.forget())

    def _choose_model(self, _: object = None) -> None:
        wanted = self._wanted()
        self.controls["elsewhere"].layout.display = None if self.controls["model"].value == ELSEWHERE else "none"
        for name in ("device", "weights"):
            self.controls[name].disabled = not self._shelf.moves(wanted[0])
        self._session.where.value = ""
        if wanted[0]:
            self._start(f"Loading {wanted[0]}.", lambda stop: self._session.load(*wanted))

    def _wanted(self) -> tuple[str, str, str]:
        """Which model the controls name, where, and how its weights are stored."""
        return source_of(self.controls), self.controls["device"].value, self.controls["weights"].value

    def _compare_two(self, _: object = None) -> None:
        first, second = self._columns
        for name, control in first.controls.items():
            second.controls[name].value = control.value  # they begin alike, for one difference to be made
        self._lay_out()

    # Between the two

    def _start(self, said: str, job: Callable[[threading.Event], None]) -> None:
        def run(stop: threading.Event) -> None:
            if stop.is_set():  # another click came while this job was waiting for the one before it to end
                return
            self.last_error, self._fault.value = None, ""
            self._session.say(said)
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
        return writing is not None and self._shelf.is_meant(writing.loaded, *self._wanted())

    @contextmanager
    def _reporting(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # Jupyter would show it in a log, where nobody looks
            self._failed(error)

    def _failed(self, error: Exception) -> None:
        self.last_error = error
        self._fault.value = error_html(error, FIELDS)
        self._session.say("")

    def _request(self) -> Request:
        both = self.controls["compare"].value
        return Request.of(self.controls, self._columns[: 1 + both])

    # Looks

    def _connect(self) -> None:
        acts = {"generate": self._generate, "stop": self._stop, "continue": self._continue, "reset": self._reset}
        for name, act in acts.items():
            self.controls[name].on_click(act)
        for name in ("model", "elsewhere", "device", "weights"):
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
            row(*(controls[name] for name in ("model", "elsewhere", "device", "weights")), self._session.where),
            controls["prompt"],
            row(controls["length"], controls["seed"], controls["stop at"], controls["compare"]),
            row(*(column.settings_box for column in self._columns)),
            row(*(controls[name] for name in ("generate", "stop", "continue", "reset")), self._session.status),
            self._fault,
            row(*(column.text_box for column in self._columns)),
            *(column.why for column in self._columns),
            Accordion([self._session.history], titles=("History",)),
        ]
