"""The parser of a command line, and what the commands say alike in theirs."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Callable
from typing import Any, NoReturn

import torch

from mamba2_lab import weights
from mamba2_lab.mamba2_lm import MambaLM
from mamba2_lab.text import Tokenizer

_BOX = ", ".join(weights.models_in_the_box())
MODEL_HELP = f"a model in the box ({_BOX}), the folder of a model or of a training, or a Hub id"
DEVICE_HELP = "cpu, cuda or mps (default: the fastest that computes right)"
TOKENIZER_HELP = (
    "bytes, or the folder or Hub id of a tokenizer, for a model that comes without one (default: its own; for the "
    "official models, which come without one, the one that they were trained with)"
)


class Parser(argparse.ArgumentParser):
    """argparse, with errors of one line and room for the longest flag; descriptions are laid out here, not there."""

    def __init__(self, *, description: str | None, epilog: str | None = None, **rest: Any) -> None:
        super().__init__(
            description=wrapped(description or ""),
            epilog=epilog,
            formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, max_help_position=26),
            **rest,
        )

    def parse_known_args(self, *arguments: Any) -> Any:  # type: ignore[override]
        """What a command does not know is told by the command, not by the whole."""
        options, unknown = super().parse_known_args(*arguments)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return options, unknown

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def add_command(
    commands: argparse._SubParsersAction[Parser],
    name: str,
    run: Callable[[argparse.Namespace], int | None],
    *,
    help: str,
    epilog: str | None = None,
) -> Parser:
    """A command without options; `run` runs it, and its docstring describes it."""
    command = commands.add_parser(name, help=help, description=run.__doc__, epilog=epilog)
    command.set_defaults(run=run)
    return command


def add_model_to(command: Parser) -> None:
    """The options that say which model, and how it computes: `open_model` reads them, but for the device."""
    command.add_argument("--model", default="medium", metavar="NAME", help=f"{MODEL_HELP} (default: medium)")
    command.add_argument("--tokenizer", metavar="NAME", help=TOKENIZER_HELP)
    command.add_argument("--device", metavar="NAME", help=DEVICE_HELP)
    command.add_argument(
        "--weights",
        choices=weights.PRECISIONS,
        metavar="NAME",
        help=f"how to store them: {', '.join(weights.PRECISIONS)}. Fewer bits are read sooner, and are a little less "
        "exact; int8 and int4 pay on a CPU. A model that was saved in int8 or int4 stays so (default: float32)",
    )


def open_model(options: argparse.Namespace, device: torch.device) -> tuple[MambaLM, Tokenizer]:
    """The model of these options, and its tokenizer, which is looked for first: it is read sooner."""
    tokenizer = weights.load_tokenizer(options.model, options.tokenizer)
    how = {} if options.weights is None else weights.PRECISIONS[options.weights]
    return MambaLM.from_pretrained(options.model, device=device, **how), tokenizer


def wrapped(text: str, indent: str = "") -> str:
    """The text of a docstring in lines that fit a terminal of 80 columns, no name with a hyphen torn apart."""
    return textwrap.fill(
        " ".join(text.split()), 78, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False
    )


def number(text: str) -> int | float | str:
    """The number that a flag was given. What is none is left as it came: whoever takes the setting refuses it."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text
