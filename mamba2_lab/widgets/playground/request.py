"""What the controls of the playground ask for."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ipywidgets import Widget

from mamba2_lab.checks import require, require_seed, require_whole
from mamba2_lab.generation import SamplingConfig
from mamba2_lab.widgets.playground.column import Column
from mamba2_lab.widgets.playground.controls import source_of, unescaped


class Request(NamedTuple):
    """What the controls asked for when a button was pressed."""

    source: str
    kind: str
    weights: str
    prompt: str
    settings: list[SamplingConfig]
    length: int
    seed: int
    stop: tuple[str, ...]
    asked: float  # when, by time.perf_counter

    @classmethod
    def of(cls, controls: Mapping[str, Widget], columns: Sequence[Column]) -> Request:
        """What the controls say now, for a text in each of these columns.

        Raises:
            TypeError, ValueError: as `checks` says it, for a field that holds what it cannot.
        """
        field: dict[str, Any] = {name: getattr(control, "value", None) for name, control in controls.items()}
        require_whole("length", field["length"])
        require(field["length"] >= 1, "length", "1 or more", field["length"])
        require_whole("seed", field["seed"])
        require_seed(field["seed"])
        source = source_of(controls)
        require(source != "", "elsewhere", "the path of a folder, or owner/name", source)
        settings = [column.settings() for column in columns]
        stop = tuple(unescaped(line) for line in field["stop at"].split("\n") if line)
        asked = time.perf_counter()
        return cls(
            source=source,
            kind=field["device"],
            weights=field["weights"],
            prompt=field["prompt"],
            settings=settings,
            length=field["length"],
            seed=field["seed"],
            stop=stop,
            asked=asked,
        )
