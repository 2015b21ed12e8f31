"""The command line: `mamba2-lab train | generate | doctor | bench`."""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
import textwrap
from pathlib import Path
from typing import Any, NoReturn

import torch
from tqdm.auto import tqdm

from mamba2_lab import __version__, benchmark, weights
from mamba2_lab.benchmark import suite
from mamba2_lab.checks import require, told
from mamba2_lab.config import PRESETS, Mamba2Config
from mamba2_lab.data import Corpus, decontaminate, installed_packages, pack, standard_library, text_files
from mamba2_lab.generation import SamplingConfig, stream
from mamba2_lab.health import choose
from mamba2_lab.machine.freed_memory import keep_freed_memory
from mamba2_lab.mamba2_lm import Mamba2LM
from mamba2_lab.text import BPETokenizer, ByteTokenizer, HuggingFaceTokenizer, Tokenizer
from mamba2_lab.training import PRECISIONS, TrainingConfig, fit, is_main_process, require_a_compiler, run_folder
from mamba2_lab.training.resuming import find_checkpoint

SETTING_HELP = {
    "steps": "updates of the weights",
    "batch_size": "windows per update, all processes together",
    "length": "tokens per window",
    "learning_rate": "the highest, reached after the warm-up",
    "warmup_steps": "steps in which the learning rate rises to its highest",
    "final_share": "how much of the highest learning rate is left at the end",
    "weight_decay": "how strongly AdamW pulls weights to zero; dt_bias, A_log and D are spared",
    "clip_norm": "a longer gradient is shortened to this",
    "seed": "draws the first weights and the windows; the same seed gives the same run",
    "precision": "numbers that matrices are multiplied in: " + ", ".join(PRECISIONS),
    "accumulation": "parts that a batch is cut into, to save memory",
    "checkpoint_blocks": "compute each block again in the backward pass, to save memory",
    "compile": "let torch.compile make each step faster; the first takes a minute or more",
    "save_every": "steps between checkpoints; 0 saves at the end only",
    "evaluate_every": "steps between measurements of bits per byte; 0 measures at the end only",
}
METAVARS = {int: "N", float: "X", str: "NAME"}
DEVICE_HELP = "cpu, cuda or mps (default: the fastest that computes right)"

# What messages call a setting is its flag, --top-k for top_k, or else:
OTHER_NAMES = {
    "prompt": "the prompt",
    "measures": "measure",
    "path": "--data",
    "tokens": "the text of --data and --packages",
    "held_out": "the held-out text of --data",
}

# How a shell counts a command that a signal has ended, SIGINT or SIGPIPE (which Windows does not have).
INTERRUPTED, CLOSED_PIPE = 128 + 2, 128 + 13


def main(arguments: list[str] | None = None) -> int:
    """Run a command. The exit status is 0, or 1 for what a user can mend, told in one line and without a traceback.

    Ctrl-C, and a reader that has seen enough (`| head`), end it quietly, with the status that shells expect.

    Raises:
        SystemExit: with status 0 after --help and --version, with 2 for a command line that cannot be read.
    """
    place, called = "mamba2-lab", OTHER_NAMES
    try:
        try:
            options = _parser().parse_args(arguments)
            place = f"mamba2-lab {options.command}"
            called = {name: f"--{name.replace('_', '-')}" for name in vars(options)} | OTHER_NAMES
            keep_freed_memory()
            return options.run(options) or 0
        finally:
            print(end="", flush=True)  # or Python would do it at its end, and could tell nobody that it failed
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        _let_go_of_output()
        return CLOSED_PIPE
    except UnicodeEncodeError as error:
        text = f"standard output is {error.encoding} and cannot take {error.object[error.start]!r}"
        return _refuse(place, f"{text}; PYTHONIOENCODING=utf-8 lets it take every text")
    except (ValueError, TypeError, OSError, FloatingPointError, ModuleNotFoundError) as error:
        return _refuse(place, told(error, called))
    except (MemoryError, RuntimeError) as error:
        if isinstance(error.__cause__, KeyboardInterrupt):  # Python 3.11 wraps one that comes while a class is made
            return INTERRUPTED
        if not _is_lack_of_memory(error):
            raise
        return _refuse(place, f"more memory is needed than there is: {error}")


def _refuse(place: str, text: str) -> int:
    """Say it in one line on standard error."""
    print(f"{place}: {' '.join(text.splitlines())}", file=sys.stderr)
    _let_go_of_output()
    return 1


def _let_go_of_output() -> None:
    """Drop what standard output does not take any more: Python's own last attempt would end in a traceback."""
    try:
        print(end="", flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _is_lack_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def train(options: argparse.Namespace) -> None:
    """Train a model from scratch, or go on with a run. Ctrl-C ends it after the step under way, and saves it."""
    names = [field.name for field in dataclasses.fields(TrainingConfig) if field.name in SETTING_HELP]
    config = TrainingConfig(**{name: getattr(options, name) for name in names})
    choice = choose(options.device)
    require_a_compiler(config, choice.device)
    saved = find_checkpoint(options.folder, options.resume)
    corpus = _read_corpus(options)
    tokenizer = _tokenizer(options.tokenizer, corpus, saved)
    shape = Mamba2Config.preset(options.preset, vocab_size=tokenizer.vocab_size)
    model = Mamba2LM(shape, device=choice.device, seed=config.seed)
    say = print if is_main_process() else (lambda text: None)  # one process speaks for all
    say(f"computing on {choice}")
    if saved is not None:
        say(f"going on from {saved}")
    say(f"{model.num_parameters():,} parameters, {tokenizer.vocab_size} tokens; {_describe(corpus)}")
    records = fit(
        model,
        pack(corpus.train, tokenizer),
        config,
        folder=options.folder,
        resume=options.resume,
        held_out=corpus.held_out,
        tokenizer=tokenizer,
    )
    if records and records[-1].bits_per_byte is not None:
        say(f"{records[-1].bits_per_byte:.4f} bits per byte on held-out files")
    if written := run_folder.newest(options.folder):
        say(f"let it write: mamba2-lab generate --model {written}")


def generate(options: argparse.Namespace) -> None:
    """Let a model write, as the text comes."""
    names = [field.name for field in dataclasses.fields(SamplingConfig)]
    settings = SamplingConfig(**{name: getattr(options, name) for name in names})
    for text in options.stop:
        require(text != "" and _is_unicode(text), "stop", "a text of at least one character, in UTF-8", text)
    choice = choose(options.device)
    prompt = _prompt(options.prompt)
    model = Mamba2LM.from_pretrained(options.model, device=choice.device)
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


def doctor(options: argparse.Namespace) -> int:
    """Say what this machine has, which device is used and why, and whether each computes the right numbers. The report
    is Markdown, to paste into an issue; the exit status is 1 if a device is wrong."""
    from mamba2_lab.health.report import examine

    wrong = 0
    for text, agrees in examine(options.device):
        print(text, end="\n\n", flush=True)
        wrong += not agrees
    print("Something is wrong: see the lines in bold." if wrong else "All is well.")
    return 1 if wrong else 0


def bench(options: argparse.Namespace) -> None:
    """Time this package on this machine, beside transformers' Mamba2 with the same weights; and sweep over length,
    batch, dtype and size, to see what bounds it and from where on a device pays."""
    if (out := options.out) is not None:
        free = not out.exists() and out.absolute().parent.is_dir()
        require(free, "out", "the name of a new file in a folder that is there", str(out))
    choice = choose(options.device)
    measured = suite.run(options.measures or suite.names_for(choice.device), choice.device, options.seconds)
    print(f"computing on {choice}; medians, between quartiles, and how many times the first one's time")
    kept: list[benchmark.Measurement] = []
    for records in measured:
        print(f"\n{suite.table(records)}", flush=True)
        kept += records
        if out is not None:
            benchmark.write(kept, out)  # each time: Ctrl-C leaves what was measured
    if out is not None:
        print(f"\n{len(kept)} records are in {out}")


def _read_corpus(options: argparse.Namespace) -> Corpus:
    corpus = standard_library() if options.data is None else text_files(options.data, options.pattern)
    if not options.packages:
        return corpus
    train, _ = decontaminate(corpus.train + installed_packages().train, corpus.held_out)
    return Corpus(train, corpus.held_out, corpus.unreadable)


def _tokenizer(wanted: str | None, corpus: Corpus, saved: Path | None) -> Tokenizer:
    """Bytes, BPE of that many tokens learned from the training text, or a published tokenizer; of a run that goes on,
    its own, without learning it anew."""
    if saved is not None:
        own = weights.load_tokenizer(saved)
        if wanted is None or wanted == {ByteTokenizer: "bytes", BPETokenizer: str(own.vocab_size)}.get(type(own)):
            return own
    if wanted is None or wanted == "bytes":
        return ByteTokenizer()
    if wanted.isdecimal():
        least, most = 257, torch.iinfo(torch.int32).max  # the bytes and the end of text; packed texts are int32
        require(least <= int(wanted) <= most, "tokenizer", f"of {least} to {most} tokens", int(wanted))
        return BPETokenizer.train((document.text for document in corpus.train), int(wanted))
    return HuggingFaceTokenizer.from_pretrained(wanted)


def _describe(corpus: Corpus) -> str:
    size = sum(document.bytes for document in corpus.train)
    unreadable = f", {len(corpus.unreadable)} unreadable" if corpus.unreadable else ""
    files = f"{len(corpus.train)} file{'s' if len(corpus.train) != 1 else ''}"
    return f"{files} with {size:,} bytes to learn from, {len(corpus.held_out)} held out{unreadable}"


def _number(text: str) -> int | float | str:
    """The number that a flag was given. What is none is left as it came: whoever takes the setting refuses it."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text


class _Parser(argparse.ArgumentParser):
    """argparse, with errors of one line and room for the longest flag; descriptions are laid out here, not there."""

    def __init__(self, *, description: str | None, epilog: str | None = None, **rest: Any) -> None:
        super().__init__(
            description=_wrapped(description or ""),
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


def _wrapped(text: str, indent: str = "") -> str:
    """The text of a docstring in lines that fit a terminal of 80 columns, no name with a hyphen torn apart."""
    return textwrap.fill(
        " ".join(text.split()), 78, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False
    )


def _parser() -> _Parser:
    parser = _Parser(
        prog="mamba2-lab",
        description="Mamba-2 on an ordinary laptop.",
        epilog="mamba2-lab COMMAND --help tells more of each.",
    )
    parser.add_argument("--version", action="version", version=f"mamba2-lab {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, title="commands", metavar="COMMAND")
    _add_train(commands)
    _add_generate(commands)
    command = commands.add_parser(
        "doctor", help="what this machine has, and whether it computes the right numbers", description=doctor.__doc__
    )
    command.add_argument("--device", metavar="NAME", help="cpu, cuda or mps (default: all that are here)")
    command.set_defaults(run=doctor)
    _add_bench(commands)
    return parser


def _add_train(commands: argparse._SubParsersAction[_Parser]) -> None:
    command = commands.add_parser(
        "train",
        help="train a model",
        description=train.__doc__,
        epilog=_wrapped(
            "On several processes or devices: accelerate launch -m mamba2_lab train ... with the same options."
        ),
    )
    command.add_argument(
        "--folder", type=Path, required=True, metavar="PATH", help="where checkpoints, records and the model go"
    )
    command.add_argument(
        "--resume",
        action="store_true",
        help="go on from the newest checkpoint in the folder, or begin if it has none. The options must be those of "
        "the run; but --steps may grow (the learning rate of the steps to come follows), and --save-every, "
        "--evaluate-every and --checkpoint-blocks may change",
    )
    command.add_argument(
        "--preset",
        choices=PRESETS,
        default="small",
        metavar="NAME",
        help=f"shape of the model: {', '.join(PRESETS)} (default: small)",
    )
    command.add_argument(
        "--data", type=Path, metavar="PATH", help="your own text, a file or a folder (default: Python's library)"
    )
    command.add_argument(
        "--pattern", default="*", metavar="GLOB", help="which files of that folder, such as '*.md' (default: all)"
    )
    command.add_argument(
        "--packages",
        action="store_true",
        help="learn from the installed packages too, but from no copy of a held-out file",
    )
    command.add_argument(
        "--tokenizer",
        metavar="NAME",
        help="bytes (the default); or how many tokens to learn from the text, such as 4096; or the folder or Hub id of "
        "a published tokenizer; a run that goes on keeps its own",
    )
    command.add_argument("--device", metavar="NAME", help=DEVICE_HELP)
    for field in dataclasses.fields(TrainingConfig):
        if field.name not in SETTING_HELP:
            continue
        flag, text = f"--{field.name.replace('_', '-')}", SETTING_HELP[field.name]
        if isinstance(field.default, bool):
            command.add_argument(flag, action="store_true", help=text)
        else:
            kind = type(field.default)
            command.add_argument(
                flag,
                type=str if kind is str else _number,
                default=field.default,
                metavar=METAVARS[kind],
                help=f"{text} (default: {field.default})",
            )
    command.set_defaults(run=train)


def _add_generate(commands: argparse._SubParsersAction[_Parser]) -> None:
    command = commands.add_parser("generate", help="let a model write", description=generate.__doc__)
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
        "--max-new-tokens", type=_number, default=200, metavar="N", help="how many tokens at most (default: 200)"
    )
    command.add_argument("--seed", type=_number, metavar="N", help="the same seed writes the same text")
    command.add_argument(
        "--temperature",
        type=_number,
        default=0.7,
        metavar="X",
        help="0 takes the likeliest token every time (default: 0.7)",
    )
    command.add_argument("--top-k", type=_number, metavar="N", help="keep the N likeliest tokens (default: all)")
    command.add_argument(
        "--top-p",
        type=_number,
        metavar="X",
        help="keep the likeliest tokens, as many as it takes to reach a probability of X (default: all)",
    )
    command.add_argument(
        "--min-p",
        type=_number,
        metavar="X",
        help="keep tokens at least X times as probable as the likeliest (default: all)",
    )
    command.add_argument(
        "--repetition-penalty",
        type=_number,
        default=1.0,
        metavar="X",
        help="above 1, tokens that were there before become less likely (default: 1.0)",
    )
    command.add_argument(
        "--stop", action="append", default=[], metavar="TEXT", help="a text to stop at; may be given again"
    )
    command.set_defaults(run=generate)


def _add_bench(commands: argparse._SubParsersAction[_Parser]) -> None:
    measures = _wrapped(", ".join(suite.SUITE), indent="  ")
    more = "Notebook 12 explains what is measured, and how to add the records of your machine to the package."
    command = commands.add_parser(
        "bench",
        help="time this machine",
        description=bench.__doc__,
        epilog=f"measures:\n{measures}\n\n{_wrapped(more)}",
    )
    command.add_argument("measures", nargs="*", metavar="measure", help="one of those below (default: all of them)")
    command.add_argument("--device", metavar="NAME", help=DEVICE_HELP)
    command.add_argument(
        "--seconds", type=_number, default=5.0, metavar="X", help="for each measure, and at least 5 rounds (default: 5)"
    )
    command.add_argument("--out", type=Path, metavar="PATH", help="also write the records there, as JSON lines")
    command.set_defaults(run=bench)
