"""`mamba2-lab convert`."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from tqdm.auto import tqdm

from mamba2_lab import weights
from mamba2_lab.checks import require
from mamba2_lab.cli.parser import MODEL_HELP, TOKENIZER_HELP, Parser, add_command, wrapped
from mamba2_lab.weights.convert import GGUF_DTYPES, convert
from mamba2_lab.weights.publishing import require_destination
from mamba2_lab.words import in_bytes

_EXAMPLES = """examples:
  mamba2-lab convert medium medium-hf --to transformers
  mamba2-lab convert runs/mine mine.gguf --to gguf --dtype q8_0
  mamba2-lab convert state-spaces/mamba2-130m 130m --to mlx --dtype bfloat16
  mamba2-lab convert runs/mine mine --to transformers --push OWNER/NAME"""


def add_to(commands: argparse._SubParsersAction[Parser]) -> None:
    """The command and its options."""
    after = "Nothing is written over, and nothing is there until all of it is."
    epilog = f"{_EXAMPLES}\n\n{wrapped(after)}"
    command = add_command(commands, "convert", run, help="write a model for another program", epilog=epilog)
    command.add_argument("source", help=MODEL_HELP)
    command.add_argument("target", help="a new folder; for gguf a new file, NAME.gguf")
    command.add_argument(
        "--to",
        required=True,
        metavar="LAYOUT",
        help="transformers (AutoModelForCausalLM), gguf (llama.cpp), mlx (mlx-lm), official (state-spaces/mamba), or "
        "ours (mamba2-lab)",
    )
    command.add_argument(
        "--dtype",
        default="float32",
        metavar="NAME",
        help=f"of the weights: {', '.join(GGUF_DTYPES)} (gguf alone) (default: float32)",
    )
    command.add_argument("--tokenizer", metavar="NAME", help=TOKENIZER_HELP)
    command.add_argument(
        "--push",
        metavar="OWNER/NAME",
        help="put it into this repository of the Hub, with a card made from the record of the model. Without --really "
        "it is only said what would go there, and the target is taken away again",
    )
    command.add_argument(
        "--really",
        action="store_true",
        help="with --push: upload the target, to a private repository, made if it is not there",
    )
    command.add_argument("--public", action="store_true", help="with --push: to a public repository, for all to see")
    command.add_argument(
        "--licence", metavar="NAME", help="with --push: of the weights, as the Hub writes it, such as apache-2.0"
    )


def run(options: argparse.Namespace) -> None:
    """Write a model, with its tokenizer, in the files that another program reads. What that program would compute
    differently is refused by name; what is lost is said. With --push it can go to the Hub."""
    for name in ("really", "public", "licence") if options.push is None else ():
        given = getattr(options, name)
        require(not given, name, "left out without `push`", given)
    if options.push is not None:
        require_destination(options.push, options.really)
    with tqdm(total=100, desc="writing", unit="%", delay=1, disable=None, leave=False) as bar:
        done = convert(
            options.source,
            options.target,
            options.to,
            dtype=options.dtype,
            tokenizer=options.tokenizer,
            on_progress=lambda share: bar.update(round(100 * share) - bar.n),
        )
    print(f"{done.path}: {done.parameters:,} parameters, {in_bytes(done.nbytes)}")
    for loss in done.losses:
        print(f"note: {loss}")
    if options.push is not None:
        _push(options, done.path)


def _push(options: argparse.Namespace, written: Path) -> None:
    """Say what goes to the Hub, or would: then nothing stays, and the same command can mean it."""
    try:
        plan = weights.publish(
            written,
            options.push,
            really=options.really,
            private=not options.public,
            licence=options.licence,
            record=options.source,
        )
    finally:
        if not options.really:
            shutil.rmtree(written) if written.is_dir() else written.unlink()
    print(f"\n{plan}")
    if not options.really:
        print(f"\n{written} was taken away again; to write and upload it: the same with --really")
