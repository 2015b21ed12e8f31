"""The parser of a command line, and what the commands say alike in theirs."""

from __future__ import annotations

import argparse
import textwrap
from typing import Any, NoReturn

from mamba2_lab import weights

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


def add_model_to(command: Parser) -> None:
    """The option that names a model."""
    command.add_argument(
        "--model",
        default="medium",
        metavar="NAME",
        help=f"a model in the box ({', '.join(weights.models_in_the_box())}), the folder of a model or of a "
        "training, or a Hub id (default: medium)",
    )


def add_weights_to(command: Parser) -> None:
    """The option that says how the model's weights are stored: `stored_as` reads it."""
    command.add_argument(
        "--weights",
        choices=weights.PRECISIONS,
        metavar="NAME",
        help=f"how to store them: {', '.join(weights.PRECISIONS)}. Fewer bits are read sooner, and are a little less "
        "exact; int8 and int4 pay on a CPU. A model that lies there in int8 or int4 stays so (default: float32)",
    )


def stored_as(name: str | None) -> dict[str, Any]:
    """What `from_pretrained` is to be told of it."""
    return {} if name is None else dict(weights.PRECISIONS[name])


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
