"""Time this machine from a notebook: a sweep with its progress, a Stop, and the figure as it grows."""

from __future__ import annotations

import html
import threading
from pathlib import Path
from typing import Any

import torch
from ipywidgets import HTML, Box, Button, Checkbox, Dropdown, FloatText, IntProgress, Layout, Widget

from mamba2_lab import benchmark, plots
from mamba2_lab.benchmark import Measurement, apart, suite
from mamba2_lab.checks import Refusal, require
from mamba2_lab.health import choose
from mamba2_lab.plots.style import as_html
from mamba2_lab.widgets.fields import WIDE_LABEL
from mamba2_lab.widgets.view import error_html
from mamba2_lab.widgets.worker import Worker, WorkingBox

LABELS = {"measure": "sweep", "seconds": "seconds a point"}


class SweepRunner(WorkingBox):
    """Pick a sweep of `mamba2-lab bench`, run it in a process of its own, and see each point as it is measured.

    Stop ends it at once; what was measured until then stays. Put last in a cell, it is shown.

    Args:
        measure: the sweep that is chosen at first.
        seconds: for each point; at least five rounds are timed, however long that takes.

    Attributes:
        controls: the widgets by name; setting a `.value` and calling `.click()` act as a reader's hand does.
        records: what the last run has measured so far, as `benchmark.write` takes it.
        last_error: the exception that the last run ended in, or None. It is shown in the widget too.

    Raises:
        ValueError: if the measure is no sweep.
    """

    def __init__(self, measure: str = "length", seconds: float = 0.5) -> None:
        self._worker = Worker()
        names = sweeps()
        require(measure in names, "measure", f"one of {', '.join(names)}", measure)
        self.records: list[Measurement] = []
        self.last_error: Exception | None = None
        self._device = choose().device
        look = {"style": WIDE_LABEL, "layout": Layout(width="250px")}
        self.controls: dict[str, Widget] = {
            "measure": Dropdown(options=names, value=measure, description=LABELS["measure"], **look),
            "seconds": FloatText(seconds, description=LABELS["seconds"], **look),
            "beside": Checkbox(False, description="beside the records in the package", indent=False),
            "run": Button(description="Run", button_style="primary", tooltip="time every point of the sweep"),
            "stop": Button(description="Stop", tooltip="end it; what is measured stays", disabled=True),
        }
        self._progress, self._status, self._figure = IntProgress(0), HTML(), HTML()
        self.controls["run"].on_click(self._run)
        self.controls["stop"].on_click(lambda _: self._worker.stop())
        for name in ("measure", "beside"):
            self.controls[name].observe(self._changed, "value")
        row = Layout(flex_flow="row wrap", align_items="center")
        rows = [
            Box([self.controls[name] for name in ("measure", "seconds", "beside")], layout=row),
            Box([self.controls["run"], self.controls["stop"], self._progress, self._status], layout=row),
        ]
        super().__init__([*rows, self._figure])
        self._changed()

    def save(self, path: str | Path) -> None:
        """Write what was measured into a file, as JSON lines."""
        benchmark.write(self.records, path)

    def render(self) -> None:
        """Draw the records of the chosen sweep: this machine's, and those in the package if that is asked for."""
        name = self.controls["measure"].value
        shown = [record for record in self.records if record.measure == name]
        if self.controls["beside"].value:
            shown += _in_the_package(name)
        if not shown:
            self._figure.value = ""
            return
        figure = plots.timings(shown, _along(name))
        machines = ", ".join(dict.fromkeys(map(benchmark.where, shown)))
        alt = f"Times of the sweep {name} against {_along(name)}, {len(shown)} records of {machines}."
        self._figure.value = as_html(figure, alt, "Medians, with the quartiles as a band.", live=True)

    def _changed(self, _: object = None) -> None:
        """Another sweep, or other records beside it."""
        none = not _in_the_package(self.controls["measure"].value)
        self.controls["beside"].disabled = none
        self.controls["beside"].tooltip = "there are none of this sweep" if none else ""
        try:
            self.render()
        except Exception as error:  # Jupyter would show it in a log, where nobody looks
            self._failed(error)

    def _run(self, _: object = None) -> None:
        name, seconds = self.controls["measure"].value, self.controls["seconds"].value
        if not seconds > 0:
            self._failed(ValueError(Refusal("seconds", "above 0", seconds)))
            return
        threads = torch.get_num_threads()  # those of the notebook; a new thread has what some thread set last
        self._worker.start(lambda stop: self._measure(name, seconds, threads, stop), self._failed)

    def _measure(self, name: str, seconds: float, threads: int, stop: threading.Event) -> None:
        points = suite.SUITE[name].points()
        self.records, self.last_error = [], None
        self._progress.value, self._progress.max = 0, len(points)
        self._set_running(True)
        try:
            self._say_what_is_timed(name, points[0])
            for records in apart.run(name, self._device, seconds, threads, stop):
                self.records += records
                self._progress.value += 1
                self.render()
                if self._progress.value < len(points):
                    self._say_what_is_timed(name, points[self._progress.value])
            done = self._progress.value
            self._say(f"{'all' if done == len(points) else 'stopped:'} {done} of {len(points)} points are measured")
        finally:
            self._set_running(False)

    def _say_what_is_timed(self, name: str, point: dict[str, Any]) -> None:
        self._say(f"timing at {_along(name)} {point[_along(name)]}, on {self._device}")

    def _set_running(self, running: bool) -> None:
        self.controls["run"].disabled, self.controls["stop"].disabled = running, not running

    def _failed(self, error: Exception) -> None:
        self.last_error = error
        self._say("")
        self._figure.value = error_html(error, LABELS)

    def _say(self, text: str) -> None:
        self._status.value = f'<div role="status">{html.escape(text)}</div>'


def sweeps() -> list[str]:
    """The measures of the suite that go over one setting, a number: those that can be drawn as curves."""
    return [
        name
        for name, entry in suite.SUITE.items()
        if len(entry.over) == 1 and all(isinstance(value, int) for value in next(iter(entry.over.values())))
    ]


def _along(name: str) -> str:
    return next(iter(suite.SUITE[name].over))


def _in_the_package(name: str) -> list[Measurement]:
    return [record for record in benchmark.shipped() if record.measure == name]
