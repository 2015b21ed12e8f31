"""`mamba2-lab generate`."""

from __future__ import annotations

import argparse
import dataclasses
import sys

from tqdm.auto import tqdm

from mamba2_lab import weights
from mamba2_lab.checks import require
from mamba2_lab.cli.parser import DEVICE_HELP, Parser, number
from mamba2_lab.generation import SamplingConfig, stream
from mamba2_lab.health import choose
from mamba2_lab.mamba2_lm import Mamba2LM


def add_to(commands: argparse._SubParsersAction[Parser]) -> None:
    """The command and its options."""
    command = commands.add_parser("generate", help="let a model write", description=run.__doc__)
    command.add_argument(
        "prompt", nargs="?", default="", help="the beginning of the text; - reads it from standard input"
    )
    command.add_argument(
        "--model",
        default="medium",
        metavar="NAME",
        help=f"a model in the box ({', '.join(weights.models_in_the_box())}), the folder of a model or of a "
        "training, or a Hub id (default: medium)",
    )
    command.add_argument("--device", metavar="NAME", help=DEVICE_HELP)
    command.add_argument(
        "--weights",
        choices=weights.PRECISIONS,
        help="how to store them: fewer bits are read sooner, and are a little less exact; int8 and int4 pay on a CPU. "
        "A model that lies there in int8 or int4 stays so (default: float32)",
    )
    command.add_argument(
        "--max-new-tokens", type=number, default=200, metavar="N", help="how many tokens at most (default: 200)"
    )
    command.add_argument("--seed", type=number, metavar="N", help="the same seed writes the same text")
    command.add_argument(
        "--temperature",
        type=number,
        default=0.7,
        metavar="X",
        help="0 takes the likeliest token every time (default: 0.7)",
    )
    command.add_argument("--top-k", type=number, metavar="N", help="keep the N likeliest tokens (default: all)")
    command.add_argument(
        "--top-p",
        type=number,
        metavar="X",
        help="keep the likeliest tokens, as many as it takes to reach a probability of X (default: all)",
    )
    command.add_argument(
        "--min-p",
        type=number,
        metavar="X",
        help="keep tokens at least X times as probable as the likeliest (default: all)",
    )
    command.add_argument(
        "--repetition-penalty",
        type=number,
        default=1.0,
        metavar="X",
        help="above 1, tokens that were there before become less likely (default: 1.0)",
    )
    command.add_argument(
        "--stop", action="append", default=[], metavar="TEXT", help="a text to stop at; may be given again"
    )
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Let a model write, as the text comes."""
    names = [field.name for field in dataclasses.fields(SamplingConfig)]
    settings = SamplingConfig(**{name: getattr(options, name) for name in names})
    for text in options.stop:
        require(text != "" and _is_unicode(text), "stop", "a text of at least one character, in UTF-8", text)
    choice = choose(options.device)
    prompt = _prompt(options.prompt)
    precision = {} if options.weights is None else weights.PRECISIONS[options.weights]
    model = Mamba2LM.from_pretrained(options.model, device=choice.device, **precision)
    tokenizer = weights.load_tokenizer(options.model)
    ids = [tokenizer.end_of_text, *tokenizer.encode(prompt)]
    with tqdm(total=len(ids), desc="reading", unit="token", delay=1, disable=None, leave=False) as bar:
        tokens = stream(
            model,
            ids,
            max_new_tokens=options.max_new_tokens,
            seed=options.seed,
            stop=[tokenizer.end_of_text, *options.stop],
            tokenizer=tokenizer,
            on_progress=lambda share: bar.update(round(share * len(ids)) - bar.n),
            **dataclasses.asdict(settings),
        )
    try:
        print(prompt, end="", flush=True)
        for token in tokens:
            print(token.text, end="", flush=True)
    finally:
        print("" if tokens.finish_reason == "stop" else tokens.rest)  # and whatever is said next begins a line


def _prompt(given: str) -> str:
    """The prompt, or for "-" what comes on standard input."""
    if given != "-":
        require(_is_unicode(given), "prompt", "text in UTF-8", given)
        return given
    if sys.stdin is None:
        raise OSError("standard input is closed; a prompt of - is read from there")
    try:
        return sys.stdin.buffer.read().decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise ValueError(f"standard input must be text in UTF-8; got {byte:#04x} at byte {error.start}") from None


def _is_unicode(text: str) -> bool:
    """Whether a text of the command line was UTF-8; Python writes other bytes as lone surrogates."""
    return not any("\ud800" <= character <= "\udfff" for character in text)
