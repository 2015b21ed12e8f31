"""`mamba2-lab bench`."""

from __future__ import annotations

import argparse
from pathlib import Path

from mamba2_lab import benchmark
from mamba2_lab.benchmark import suite
from mamba2_lab.checks import require
from mamba2_lab.cli.parser import DEVICE_HELP, Parser, add_command, number, wrapped
from mamba2_lab.health import choose


def add_to(commands: argparse._SubParsersAction[Parser]) -> None:
    """The command and its options."""
    measures = wrapped(", ".join(suite.SUITE), indent="  ")
    more = "Notebook 12 explains what is measured, and how to add the records of your machine to the package."
    epilog = f"measures:\n{measures}\n\n{wrapped(more)}"
    command = add_command(commands, "bench", run, help="time this machine", epilog=epilog)
    command.add_argument(
        "measures",
        nargs="*",
        metavar="measure",
        help="one of those below, or what several begin with: peers (default: all but peers)",
    )
    command.add_argument("--device", metavar="NAME", help=DEVICE_HELP)
    command.add_argument(
        "--seconds", type=number, default=5.0, metavar="X", help="for each measure, and at least 5 rounds (default: 5)"
    )
    command.add_argument("--out", type=Path, metavar="PATH", help="also write the records there, as JSON lines")


def run(options: argparse.Namespace) -> None:
    """Time this package on this machine, beside transformers' Mamba2 with the same weights; the generations of Mamba
    beside a transformer of one size; and sweep over length, batch, dtype and size, to see what bounds it and from where
    on a device pays. `peers` times it beside llama.cpp and mlx-lm, where they are installed, each in a process of its
    own that holds the model."""
    if (out := options.out) is not None:
        free = not out.exists() and out.absolute().parent.is_dir()
        require(free, "out", "the name of a new file in a folder that is there", str(out))
    choice = choose(options.device)
    names = suite.chosen(options.measures, choice.device) if options.measures else suite.names_for(choice.device)
    measured = suite.run(names, choice.device, options.seconds)
    print(f"computing on {choice}; medians, between quartiles, and how many times the first one's time")
    for sentence in suite.without(names):
        print(sentence)
    kept: list[benchmark.Measurement] = []
    for records in measured:
        print(f"\n{suite.table(records)}", flush=True)
        kept += records
        if out is not None:
            benchmark.write(kept, out)  # each time: Ctrl-C leaves what was measured
    if out is not None:
        print(f"\n{len(kept)} records are in {out}")
