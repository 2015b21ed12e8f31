"""`mamba2-lab convert`."""

from __future__ import annotations

import argparse

from tqdm.auto import tqdm

from mamba2_lab import weights
from mamba2_lab.cli.parser import Parser, wrapped
from mamba2_lab.weights.convert import GGUF_DTYPES, convert
from mamba2_lab.words import in_bytes

_EXAMPLES = """examples:
  mamba2-lab convert medium medium-hf --to transformers
  mamba2-lab convert runs/mine mine.gguf --to gguf --dtype q8_0
  mamba2-lab convert state-spaces/mamba2-130m 130m --to mlx --dtype bfloat16"""


def add_to(commands: argparse._SubParsersAction[Parser]) -> None:
    """The command and its options."""
    after = "Nothing is written over, and nothing is there until all of it is."
    command = commands.add_parser(
        "convert",
        help="write a model for another program",
        description=run.__doc__,
        epilog=f"{_EXAMPLES}\n\n{wrapped(after)}",
    )
    command.add_argument(
        "source",
        help=f"a model in the box ({', '.join(weights.models_in_the_box())}), the folder of a model or of a training, "
        "or a Hub id",
    )
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
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Write a model, with its tokenizer, in the files that another program reads. What that program would compute
    otherwise is refused by name; what is lost is said."""
    with tqdm(total=100, desc="writing", unit="%", delay=1, disable=None, leave=False) as bar:
        done = convert(
            options.source,
            options.target,
            options.to,
            dtype=options.dtype,
            on_progress=lambda share: bar.update(round(100 * share) - bar.n),
        )
    print(f"{done.path}: {done.parameters:,} parameters, {in_bytes(done.nbytes)}")
    for loss in done.losses:
        print(f"note: {loss}")
