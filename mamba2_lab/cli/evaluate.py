"""`mamba2-lab evaluate`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm

from mamba2_lab import __version__, evaluation, weights
from mamba2_lab.checks import require
from mamba2_lab.cli.parser import Parser, add_command, add_model_to, open_model, wrapped
from mamba2_lab.data import Document, standard_library
from mamba2_lab.data.overlaps import Runs
from mamba2_lab.data.user_text import files_at, read_text_file
from mamba2_lab.evaluation import COMPRESSORS, Entrant, Figures, SideBySide
from mamba2_lab.health import choose
from mamba2_lab.machine.facts import processor
from mamba2_lab.machine.files import write_text
from mamba2_lab.mamba2_lm import MambaLM
from mamba2_lab.pretrained import provenance
from mamba2_lab.weights.identity import digest_of_model
from mamba2_lab.words import counted, table

MOST_ROWS = 20  # files of which each is shown
MEASURED = (
    "Each file alone, from its beginning, behind what the model's tokenizer opens a text with, or else its "
    "end_of_text: that is not counted, nor is the end of the file. "
    "Bytes are those of the text in UTF-8, without a byte order mark and with line ends as \\n. A recurrence hears the "
    f"whole file; a model with attention reads windows of {evaluation.WINDOW} tokens that overlap by half. Perplexity "
    "is per token of the model's own tokenizer. gzip: zlib, level 9. xz: preset 9 extreme."
)

MEMORY = (
    "A text is read a stretch at a time, so that models need no more memory for a long one than for a short one; but "
    "each file is held whole, and to compress it xz takes eleven times its size, 0.7 GB at most."
)


def add_to(commands: argparse._SubParsersAction[Parser]) -> None:
    """The command and its options."""
    purpose = "how well a model predicts your own text, in bits per byte"
    command = add_command(commands, "evaluate", run, help=purpose, epilog=wrapped(MEMORY))
    add_model_to(command)
    command.add_argument(
        "--data",
        nargs="+",
        required=True,
        metavar="PATH",
        help="your own text: any number of files and folders. Text is UTF-8, or UTF-16 that is marked as such; other "
        "files are left out, and named",
    )
    command.add_argument(
        "--pattern", default="*", metavar="GLOB", help="which files of those folders, such as '*.md' (default: all)"
    )
    command.add_argument(
        "--alone", action="store_true", help="measure this model alone, and not the models in the box beside it"
    )
    command.add_argument(
        "--json", type=Path, metavar="FILE", help="also write all figures there, and how and on what they were measured"
    )


def run(options: argparse.Namespace) -> None:
    """Measure how well a model predicts your own text: in bits per byte, which compares all models and compressors; and
    as perplexity per token, which compares only models of one tokenizer. Beside it stand the models in the box, gzip
    and xz, on the same bytes. Ctrl-C ends it, and shows the figures of what was read until then."""
    files = files_at(options.data, options.pattern)
    if options.json is not None:
        free = options.json.absolute().parent.is_dir() and not options.json.is_dir()
        require(free, "json", "a file in a folder that is there", str(options.json))
        read = options.json.resolve() in {path.resolve() for path in files.values()}
        require(not read, "json", "no file of `path`, which it would replace", str(options.json))
    choice = choose(options.device)
    entrants = _entrants(options, choice.device)
    print(f"computing on {choice}", flush=True)
    survey = _Survey(entrants)
    try:
        survey.measure(files)
    except KeyboardInterrupt:
        if survey.figures:
            survey.show("stopped by Ctrl-C: the figures are of what was read until then")
            survey.write(options, choice.device)
        raise
    require(bool(survey.figures), "path", "files and folders that hold text, at least one byte", " ".join(options.data))
    survey.show()
    survey.write(options, choice.device)


def _entrants(options: argparse.Namespace, device: torch.device) -> dict[str, Entrant]:
    """The model, and those in the box, by the names under which their figures stand."""
    entrant = Entrant(*open_model(options, device))
    box = [name for name in weights.models_in_the_box() if name != options.model and not options.alone]
    short = Path(options.model).name
    entrants = {options.model if short in (*box, *COMPRESSORS, "") else short: entrant}
    for name in reversed(box):
        beside = MambaLM.from_pretrained(name, device=device)
        entrants[name] = Entrant(beside, weights.load_tokenizer(name))
    return entrants


class _Survey:
    """All files, one after another: what was measured so far."""

    def __init__(self, entrants: Mapping[str, Entrant]) -> None:
        self.figures: list[Figures] = []
        self._entrants = entrants
        self._of_box = [name for name in entrants if name in weights.models_in_the_box()]
        self._unreadable: list[str] = []
        self._known: list[str] = []  # files that models in the box may have learned from
        self._complete = False

    def measure(self, files: Mapping[str, Path]) -> None:
        """Measure each file. A progress bar counts bytes."""
        known = self._runs_of_the_library(files)
        size = sum(path.stat().st_size for path in files.values())
        with tqdm(total=size, desc="reading", unit="B", unit_scale=True, disable=None, leave=False) as bar:
            for document in self._documents(files):
                if known is not None and known.shared_with(document):
                    self._known.append(document.name)
                reading = SideBySide(document, self._entrants)
                try:
                    reading.read(bar.update)
                finally:
                    if (figures := reading.figures()).bytes:
                        self.figures.append(figures)
        self._complete = True

    def show(self, note: str = "") -> None:
        """Print the figures: of each file if there are few, and of all."""
        whole = evaluation.total(self.figures)
        if 1 < len(self.figures) <= MOST_ROWS:
            print(f"\nbits per byte\n{table([['', 'bytes', *whole.bits], *self._rows([*self.figures, whole])], '<>')}")
        print(f"\n{counted(len(self.figures), 'file')}, {counted(whole.bytes, 'byte')}")
        rows = [["", "bits per byte", "perplexity per token", "bytes per token"]]
        for name in whole.bits:
            rows.append([name, f"{whole.bits_per_byte(name):.4f}", "", ""])
            if whole.tokens.get(name):
                rows[-1][2:] = [f"{whole.perplexity(name):,.2f}", f"{whole.bytes / whole.tokens[name]:.2f}"]
        print(table(rows, "<>"))
        for text in filter(None, [note, *self._notes()]):
            print(f"\n{text}")

    def write(self, options: argparse.Namespace, device: torch.device) -> None:
        """Write them as JSON, if that was asked for."""
        if options.json is None:
            return
        entrant = next(iter(self._entrants.values()))
        found = {
            "model": options.model,
            "parameters": entrant.model.num_parameters(),
            "model_digest": digest_of_model(entrant.model),
            "tokenizer": options.tokenizer or options.model,
            "weights": weights.precision_of(entrant.model),
            "date": provenance.today(),
            "machine": {**provenance.machine(device), "processor": processor(), "mamba2_lab": __version__},
            "measured": MEASURED,
            "complete": self._complete,
            "unreadable": self._unreadable,
            "may_have_been_learned": self._known,
            "files": [_described(figures) for figures in self.figures],
            "total": _described(evaluation.total(self.figures)),
        }
        write_text(options.json, json.dumps(found, indent=1, ensure_ascii=False) + "\n")
        print(f"\nthe figures are in {options.json}")

    def _documents(self, files: Mapping[str, Path]) -> Iterator[Document]:
        for name, path in files.items():
            text = read_text_file(path)
            if text is None:
                self._unreadable.append(name)
            elif text:
                yield Document(name, text)

    def _runs_of_the_library(self, files: Mapping[str, Path]) -> Runs | None:
        """What the models in the box learned from, as far as it is here for sure; None where no file can be of it."""
        if not self._of_box or not any(path.suffix == ".py" for path in files.values()):
            return None
        return Runs(standard_library().train)

    def _rows(self, figures: list[Figures]) -> Iterator[list[str]]:
        for row in figures:
            yield [row.name, f"{row.bytes:,}", *(f"{row.bits_per_byte(name):.3f}" for name in row.bits)]

    def _notes(self) -> Iterator[str]:
        """What a reader of the figures must know."""
        for name in self._entrants:
            if lossy := [figures.name for figures in self.figures if name in figures.lossy]:
                yield f"{name}'s tokenizer loses some of {_named(lossy)}: its figures are of a poorer text"
        if self._known:
            who = " and ".join(self._of_box)
            yield (
                f"{who} learned from Python's library, which shares eight lines in a row or more with "
                f"{_named(self._known)}: there they remember, and their figures are too good"
            )
        if self._unreadable:
            yield f"left out, as no text in UTF-8 or marked UTF-16, or too large: {_named(self._unreadable)}"


def _described(figures: Figures) -> dict[str, Any]:
    """Ready for JSON."""
    by_name: dict[str, dict[str, Any]] = {}
    for name in figures.bits:
        by_name[name] = {"bits_per_byte": figures.bits_per_byte(name)}
        if name in figures.tokens:
            by_name[name]["perplexity_per_token"] = figures.perplexity(name)
            by_name[name]["tokens"] = figures.tokens[name]
            by_name[name]["tokenizer_is_lossy"] = name in figures.lossy
    return {"name": figures.name, "bytes": figures.bytes, "sha256": figures.sha256, "figures": by_name}


def _named(names: list[str]) -> str:
    """a, b, c and 12 more."""
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3:,} more"
