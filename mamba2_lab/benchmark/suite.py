"""The measures that `mamba2-lab bench` runs, with their settings, and the table it prints."""

from __future__ import annotations

import itertools
import math
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from mamba2_lab import words
from mamba2_lab.benchmark import measures
from mamba2_lab.benchmark.clock import measure, peak_bytes, require_seconds
from mamba2_lab.benchmark.measurement import Measurement, here
from mamba2_lab.checks import Refusal, require
from mamba2_lab.machine.devices import can_compile

# About 4.5 million weights: a model that one would train on a laptop.
LAPTOP = {"d_model": 256, "n_layer": 8, "d_state": 64, "vocab_size": 4096}


@dataclass(frozen=True)
class Entry:
    """A measure with its settings.

    over: settings that are swept, with their values: every combination of them is measured.
    memory: whether its peak is worth a second look at each contestant.
    kept: in place of the peak, the bytes that each contestant keeps: a function of device and settings.
    only: the one kind of device that it is for.
    calls: how often a contestant does its work when it is called once; its time is divided by that.
    tokens: the settings whose product is how many tokens its work is about; () is one token.
    parameters: how many weights each contestant has, where they differ: a function of device and settings.
    without: contestants that cannot be had here, each with the reason.
    packages: whose versions the records keep, where they are installed.
    """

    measure: Callable[..., measures.Contestants]
    settings: dict[str, Any] = field(default_factory=dict)
    over: dict[str, Sequence[Any]] = field(default_factory=dict)
    memory: bool = False
    kept: Callable[..., dict[str, int]] | None = None
    only: str | None = None
    calls: int = 1
    tokens: tuple[str, ...] | None = None
    parameters: Callable[..., dict[str, int]] | None = None
    without: Callable[[], dict[str, str]] = dict
    packages: tuple[str, ...] = ()

    def obstacle(self, device: torch.device | str) -> str | None:
        """Why this is not to be measured on a device, if so."""
        kind = torch.device(device).type
        if self.only not in (None, kind):
            return f"is for {self.only} alone"
        if any(point.get("compiled") for point in self.points()) and not can_compile(kind):
            return "needs torch.compile, which finds no compiler here"
        return None

    def points(self) -> list[dict[str, Any]]:
        """The settings of each single measurement."""
        return [
            {**self.settings, **dict(zip(self.over, values, strict=True))}
            for values in itertools.product(*self.over.values())
        ]


GENERATIONS = {
    "generations-prefill": Entry(
        measures.generations_prefill,
        {"n_layer": 24, "l": 1024},
        tokens=("l",),
        parameters=measures.generations_parameters,
    ),
    "generations-decode": Entry(
        measures.generations_decode,
        {"n_layer": 24},
        {"l": [16, 1024, 4096]},
        kept=measures.generations_state,
        calls=measures.STEPS,
        tokens=(),
        parameters=measures.generations_parameters,
    ),
    # Five models with their optimisers stand side by side: whole ones are for a device with much memory.
    "generations-training": Entry(
        measures.generations_training,
        {"n_layer": 4, "b": 1, "l": 512},
        memory=True,
        tokens=("b", "l"),
        parameters=measures.generations_parameters,
    ),
}


def _peers(
    measure: Callable[..., measures.Contestants],
    settings: dict[str, Any],
    over: dict[str, Sequence[Any]] | None = None,
    without: Callable[[], dict[str, str]] = measures.peers_without,
) -> Entry:
    return Entry(
        measure,
        settings,
        over or {},
        only="cpu",
        calls=settings.get("steps", 1),
        tokens=("l",) if "l" in settings else (),
        without=without,
        packages=measures.PEERS,
    )


PEERS = {
    "peers-decode": _peers(measures.peers_decode, {"preset": "130m", "steps": 8}),
    "peers-decode-laptop": _peers(measures.peers_decode, {"preset": "small", **LAPTOP, "steps": 100}),
    "peers-prefill": _peers(
        measures.peers_prefill, {"preset": "130m", "l": 1024}, without=measures.peers_without_prefill
    ),
    "peers-prefill-laptop": _peers(
        measures.peers_prefill, {"preset": "small", **LAPTOP, "l": 1024}, without=measures.peers_without_prefill
    ),
    # Enough of them that a busy process is noticed, which takes a quarter of a second.
    "peers-beside": _peers(
        measures.peers_beside,
        {"preset": "130m", "steps": 25},
        {"program": ["ours, float32", "llama.cpp, F32"]},
    ),
}


def _in_bfloat16(entry: Entry, **settings: Any) -> Entry:
    """The same on cuda, as written and compiled."""
    settings = {**entry.settings, **settings, "dtype": "bfloat16"}
    return replace(entry, settings=settings, over={"compiled": [False, True], **entry.over}, only="cuda")


SUITE = {
    "scan": Entry(measures.scan_forward, {"b": 1, "l": 2048, "h": 24, "p": 64, "g": 1, "n": 128}, memory=True),
    "prefill": Entry(measures.prefill, {"preset": "130m", "l": 1024}),
    "decode": Entry(measures.decode, {"preset": "130m"}, calls=measures.STEPS),
    "decode-laptop": Entry(measures.decode, {"preset": "small", **LAPTOP}, calls=measures.STEPS),
    "beside": Entry(measures.beside, {"preset": "medium"}, only="cpu", calls=measures.MANY_STEPS),
    "prefill-compiled": Entry(measures.prefill, {"preset": "130m", "l": 1024, "compiled": True}),
    "decode-compiled": Entry(measures.decode, {"preset": "130m", "compiled": True}, calls=measures.STEPS),
    "decode-laptop-compiled": Entry(
        measures.decode, {"preset": "small", **LAPTOP, "compiled": True}, calls=measures.STEPS
    ),
    "training": Entry(measures.training_step, {"preset": "medium", "b": 4, "l": 512}, memory=True),
    "training-compiled": Entry(
        measures.training_step, {"preset": "medium", "b": 4, "l": 512, "compiled": True}, memory=True
    ),
    "scan-ways": Entry(measures.scan_ways, over={"l": [64, 256, 1024, 2048]}, memory=True),
    "scan-length": Entry(measures.scan_alone, over={"l": [1024, 4096, 16384, 65536]}, memory=True),
    "scan-bfloat16": Entry(
        measures.scan_bfloat16, over={"shape": measures.LARGE_SHAPES}, only="cuda", calls=measures.REPLAYS
    ),
    "length": Entry(measures.reading, {"preset": "small", "b": 1}, {"l": [16, 64, 256, 1024, 4096]}, memory=True),
    "batch": Entry(measures.reading, {"preset": "small", "l": 64}, {"b": [1, 4, 16, 64]}),
    "dtype": Entry(measures.reading, {"preset": "medium"}, {"dtype": ["float32", "bfloat16", "float16"]}),
    "precisions": Entry(
        measures.precisions, {"preset": "130m"}, calls=measures.STEPS, kept=measures.precisions_bytes, only="cpu"
    ),
    "state": Entry(
        measures.after_reading, {"preset": "medium"}, {"l": [64, 256, 1024, 4096]}, kept=measures.kept_bytes
    ),
    "crossover": Entry(measures.two_places, over={"d_model": [64, 128, 256, 512, 1024], "l": [1, 8, 64, 512]}),
    **GENERATIONS,
    **PEERS,
    "generations-prefill-bfloat16": _in_bfloat16(GENERATIONS["generations-prefill"]),
    "generations-decode-bfloat16": _in_bfloat16(GENERATIONS["generations-decode"]),
    "generations-training-bfloat16": _in_bfloat16(GENERATIONS["generations-training"], n_layer=24, b=4),
    "parts": Entry(measures.parts, {"preset": "large"}, {"l": [1, 512]}),
    "ceilings": Entry(measures.ceilings, {"n": 2048, "numbers": 2**26, "dtype": "float32"}),
}


def names_for(device: torch.device | str) -> list[str]:
    """The measures for who names none: those that a device can be asked for, without the peers.

    These hold a model in a process of each program, all at the same time: not every machine has the memory.
    """
    return [name for name, entry in SUITE.items() if name not in PEERS and entry.obstacle(device) is None]


def chosen(names: list[str], device: torch.device | str) -> list[str]:
    """The measures that are meant: a name stands for itself, or for all possible here that begin with it and a hyphen.

    Raises:
        ValueError: for a name that no measure has or begins with, or of one that cannot be run on this device.
    """
    found: list[str] = []
    for name in names:
        family = [name] if name in SUITE else [other for other in SUITE if other.startswith(f"{name}-")]
        require(bool(family), "measures", f"among {', '.join(SUITE)}", name)
        possible = [one for one in family if SUITE[one].obstacle(device) is None]
        if not possible:
            obstacle = SUITE[family[0]].obstacle(device)
            raise ValueError(Refusal("measures", f"possible on {device}, and this one {obstacle}", name))
        found += possible
    return found


def without(names: list[str]) -> list[str]:
    """Who is not timed in these measures though they ask for it: a sentence for each reason."""
    who: dict[str, dict[str, None]] = {}  # names by reason, each once, in order
    for name in names:
        for contestant, reason in SUITE[name].without().items():
            who.setdefault(reason, {})[contestant] = None
    return [f"without {'; '.join(left_out)}: {reason}" for reason, left_out in who.items()]


def run(names: list[str], device: torch.device | str, seconds: float = 5.0) -> Iterator[list[Measurement]]:
    """Run the measures of those names one by one: for each, a record per contestant, and per point of a sweep.

    Raises:
        TypeError, ValueError: at once, as `chosen` does, and if seconds is no finite number above 0.
    """
    require_seconds(seconds)
    return (_run(name, device, seconds) for name in chosen(names, device))


def _run(name: str, device: torch.device | str, seconds: float) -> list[Measurement]:
    points = SUITE[name].points()
    return [record for point in points for record in run_point(name, point, device, seconds / len(points))]


def run_point(
    name: str, settings: dict[str, Any], device: torch.device | str, seconds: float, *, memory: bool = True
) -> list[Measurement]:
    """Run a measure of the suite once, with these settings: a record per contestant.

    Args:
        memory: measure peaks too, where the measure has that. It takes one more call of each contestant.
    """
    entry = SUITE[name]
    contestants = entry.measure(device, **settings)
    found = measure(contestants, device, seconds) if contestants else {}  # nobody, where it needs what is not installed
    timings = {name: timing.shared_by(entry.calls) for name, timing in found.items()}
    bytes_of: dict[str, int] = {}
    if entry.memory and memory and torch.device(device).type in ("cpu", "cuda"):  # on mps nothing counts a peak
        bytes_of = {contestant: peak_bytes(work, device) for contestant, work in contestants.items()}
    if entry.kept is not None:
        bytes_of = entry.kept(device, **settings)
    tokens = None if entry.tokens is None else math.prod(settings[name] for name in entry.tokens)
    parameters_of = {} if entry.parameters is None else entry.parameters(device, **settings)
    return [
        Measurement(
            name,
            contestant,
            settings,
            timing,
            bytes=bytes_of.get(contestant),
            tokens=tokens,
            parameters=parameters_of.get(contestant),
            **here(device, *entry.packages),
        )
        for contestant, timing in timings.items()
    ]


def table(records: list[Measurement]) -> str:
    """The records of one measure: as a block of lines, or for a sweep as one line for each of its points.

    Where it is told how many tokens they are about, there is a block for each of its points.
    """
    points = [list(group) for _, group in itertools.groupby(records, key=lambda record: record.settings)]
    blocks = len(points) == 1 or records[0].tokens is not None
    return "\n\n".join(map(_block, points)) if blocks else _sweep(points)


def _block(records: list[Measurement]) -> str:
    """Median, quartiles, how many times the first one's time, tokens in a second, weights, and memory: at the peak, or
    what is kept."""
    first, rows = records[0], []
    for record in records:
        assert record.timing is not None and first.timing is not None
        timing, ratio = record.timing, record.timing.median / first.timing.median
        spread = f"({1e3 * timing.low:.2f} to {1e3 * timing.high:.2f})"
        speed = "" if record.tokens is None else f"{record.tokens / timing.median:,.0f} tokens/s"
        weights = "" if record.parameters is None else f"{record.parameters / 1e6:.1f} M weights"
        memory = "" if record.bytes is None else f"{record.bytes / 2**20:.1f} MiB"
        row = [record.contestant, f"{1e3 * timing.median:.2f} ms", spread, f"x {ratio:.2f}", speed, weights, memory]
        rows.append(row)
    return _titled(f"{first.measure}: {_in_words(first.settings)}", words.table(rows, "<><>"))


def _sweep(points: list[list[Measurement]]) -> str:
    """Medians in milliseconds, a column for each contestant; peak memory beside each."""
    first = points[0][0]
    varied = [name for name in first.settings if len({str(point[0].settings[name]) for point in points}) > 1]
    fixed = _in_words({name: value for name, value in first.settings.items() if name not in varied})
    names = [record.contestant for record in points[0]]
    rows = [[*varied, *(f"{name}, ms" for name in names)]]
    for point in points:
        rows.append([*(str(point[0].settings[name]) for name in varied), *map(_cell, point)])
    return _titled(f"{first.measure}{': ' if fixed else ''}{fixed}", words.table(rows, ">"))


def _titled(title: str, table: str) -> str:
    return f"{title}\n{textwrap.indent(table, '  ')}"


def _cell(record: Measurement) -> str:
    assert record.timing is not None
    memory = "" if record.bytes is None else f" ({record.bytes / 2**20:.1f} MiB)"
    return f"{1e3 * record.timing.median:.3f}{memory}"


def _in_words(settings: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in settings.items())
