"""`mamba2-lab doctor`."""

from __future__ import annotations

import argparse

from mamba2_lab.cli.parser import Parser, add_command
from mamba2_lab.health.report import examine


def add_to(commands: argparse._SubParsersAction[Parser]) -> None:
    """The command and its options."""
    purpose = "what this machine has, and whether it computes the right numbers"
    command = add_command(commands, "doctor", run, help=purpose)
    command.add_argument("--device", metavar="NAME", help="cpu, cuda or mps (default: all that are here)")


def run(options: argparse.Namespace) -> int:
    """Say what this machine has, which device is used and why, and whether each computes the right numbers; where one
    does not, whether the device goes wrong or one of the package's faster ways. The report is Markdown, to paste into
    an issue; the exit status is 1 if anything is wrong."""
    wrong = 0
    for text, agrees in examine(options.device):
        print(text, end="\n\n", flush=True)
        wrong += not agrees
    print("Something is wrong: see the lines in bold." if wrong else "All is well.")
    return 1 if wrong else 0
