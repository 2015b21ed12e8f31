"""The command line: `mamba2-lab train | generate | doctor | bench`."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from mamba2_lab import benchmark, checkpoint, device, run_folder
from mamba2_lab.benchmark import suite
from mamba2_lab.config import PRESETS, Mamba2Config
from mamba2_lab.data import Corpus, decontaminate, installed_packages, pack, standard_library, text_files
from mamba2_lab.generation import stream
from mamba2_lab.model import Mamba2LM
from mamba2_lab.resuming import find_checkpoint
from mamba2_lab.sampling import SamplingConfig
from mamba2_lab.tokenizer import BPETokenizer, ByteTokenizer, HuggingFaceTokenizer, Tokenizer
from mamba2_lab.training import fit, is_main_process, require_a_compiler
from mamba2_lab.training_config import PRECISIONS, TrainingConfig

SETTING_HELP = {
    "steps": "updates of the weights",
    "batch_size": "windows per update, all processes together",
    "length": "tokens per window",
    "learning_rate": "its peak, reached after the warm-up",
    "warmup_steps": "steps until the learning rate has risen to its peak",
    "final_share": "of the peak, where the learning rate ends",
    "weight_decay": "of AdamW; dt_bias, A_log and D are spared",
    "clip_norm": "longest gradient that is taken as it is",
    "seed": "of the weights and of the windows drawn",
    "precision": "of the matrix products: " + ", ".join(PRECISIONS),
    "accumulation": "parts a batch is cut into, to save memory",
    "checkpoint_blocks": "compute blocks again in the backward pass, to save memory",
    "compile": "use torch.compile",
    "save_every": "steps between checkpoints; 0 saves at the end only",
    "evaluate_every": "steps between measurements of bits per byte; 0 measures at the end only",
}


METAVARS = {int: "N", float: "X", str: "NAME"}


def main(arguments: list[str] | None = None) -> int:
    """Run a command; errors that a user can mend are one line, without a traceback."""
    options = _parser().parse_args(arguments)
    try:
        status = options.run(options)
    except (ValueError, TypeError, OSError, FloatingPointError) as error:
        print(f"mamba2-lab {options.command}: {error}", file=sys.stderr)
        return 1
    return status or 0


def train(options: argparse.Namespace) -> None:
    """Train a model from scratch, or go on with a run. Ctrl-C ends it after the step under way, and saves it."""
    with _in_flags():
        _train(options)


def _train(options: argparse.Namespace) -> None:
    names = [field.name for field in dataclasses.fields(TrainingConfig) if field.name in SETTING_HELP]
    config = TrainingConfig(**{name: getattr(options, name) for name in names})
    choice = device.choose(options.device)
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


@contextlib.contextmanager
def _in_flags() -> Iterator[None]:
    """Errors about settings name the flags: `batch_size` was typed as `--batch-size`."""
    try:
        yield
    except (ValueError, TypeError, FloatingPointError) as error:
        text, words = (
            str(error),
            {name: f"--{name.replace('_', '-')}" for name in (*SETTING_HELP, "folder", "tokenizer")},
        )
        for (
            name,
            flag,
        ) in words.items():  # those of one word, which may be just a word, only where they begin a sentence
            text = re.sub(rf"\b{name}\b" if "_" in name else rf"^{name}(?= must be| needs)", flag, text)
        text = text.replace("resume=True", "--resume given").replace("of this model", "of the model of --preset")
        text = re.sub(r"^tokens(?= must be)", "the text of --data and --packages", text)
        if text == str(error):
            raise
        raise ValueError(text) from error


def generate(options: argparse.Namespace) -> None:
    """Let a model write, as the text comes."""
    choice = device.choose(options.device)
    model = Mamba2LM.from_pretrained(options.model, device=choice.device)
    tokenizer = checkpoint.load_tokenizer(options.model)
    settings = {field.name: getattr(options, field.name) for field in dataclasses.fields(SamplingConfig)}
    prompt = [tokenizer.end_of_text, *tokenizer.encode(options.prompt)]
    print(options.prompt, end="", flush=True)
    for token in stream(
        model,
        prompt,
        max_new_tokens=options.max_new_tokens,
        seed=options.seed,
        stop=[tokenizer.end_of_text, *options.stop],
        tokenizer=tokenizer,
        **settings,
    ):
        print(token.text, end="", flush=True)
    print()


def doctor(options: argparse.Namespace) -> int:
    """Say what this machine has, which device is used and why, and whether each computes the right numbers. The report
    is Markdown, to paste into an issue; the exit status is 1 if a device is wrong."""
    from mamba2_lab.doctor import examine

    wrong = 0
    for text, agrees in examine(options.device):
        print(text, end="\n\n", flush=True)
        wrong += not agrees
    print("Something is wrong: see the lines in bold." if wrong else "All is well.")
    return 1 if wrong else 0


def bench(options: argparse.Namespace) -> None:
    """Time this package on this machine, beside transformers' Mamba2 with the same weights; and sweep over length,
    batch, dtype and size, to see what bounds it and from where on a device pays."""
    choice = device.choose(options.device)
    print(f"computing on {choice}; medians, between quartiles, and how many times the first one's time")
    kept: list[benchmark.Record] = []
    for records in suite.run(options.measures or suite.names_for(choice.device), choice.device, options.seconds):
        print(f"\n{suite.table(records)}", flush=True)
        kept += records
    if options.out is not None:
        benchmark.write(kept, options.out)
        print(f"\n{len(kept)} records are in {options.out}")


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
        own = checkpoint.load_tokenizer(saved)
        if wanted is None or wanted == {ByteTokenizer: "bytes", BPETokenizer: str(own.vocab_size)}.get(type(own)):
            return own
    if wanted is None or wanted == "bytes":
        return ByteTokenizer()
    if wanted.isdecimal():
        return BPETokenizer.train((document.text for document in corpus.train), int(wanted))
    return HuggingFaceTokenizer.from_pretrained(wanted)


def _describe(corpus: Corpus) -> str:
    size = sum(document.bytes for document in corpus.train)
    unreadable = f", {len(corpus.unreadable)} unreadable" if corpus.unreadable else ""
    return f"{len(corpus.train)} files with {size:,} bytes to learn from, {len(corpus.held_out)} held out{unreadable}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mamba2-lab", description="Mamba-2 on an ordinary laptop.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    _add_train(commands)
    _add_generate(commands)
    command = commands.add_parser(
        "doctor", help="what this machine has, and whether it computes the right numbers", description=doctor.__doc__
    )
    command.add_argument("--device", help="cpu, cuda or mps (default: all that are here)")
    command.set_defaults(run=doctor)
    _add_bench(commands)
    return parser


def _add_train(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = commands.add_parser(
        "train",
        help="train a model",
        description=train.__doc__,
        epilog="On several processes or devices: accelerate launch -m mamba2_lab.training ... with the same options.",
    )
    command.add_argument("--folder", type=Path, required=True, help="where checkpoints, records and the model go")
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
    command.add_argument("--pattern", default="*", metavar="GLOB", help="which files of that folder, such as '*.md'")
    command.add_argument(
        "--packages",
        action="store_true",
        help="learn from the installed packages too, but from no copy of a held-out file",
    )
    command.add_argument(
        "--tokenizer",
        metavar="NAME",
        help="bytes (the default), the number of tokens of a BPE learned from the text, such as 4096, or the folder or "
        "Hub id of a published tokenizer; a run that goes on keeps its own",
    )
    command.add_argument("--device", help="cpu, cuda or mps (default: the fastest that passes the self-test)")
    for field in dataclasses.fields(TrainingConfig):
        if field.name not in SETTING_HELP:
            continue
        flag, text = f"--{field.name.replace('_', '-')}", SETTING_HELP[field.name]
        if isinstance(field.default, bool):
            command.add_argument(flag, action="store_true", help=text)
        else:
            kind = type(field.default)
            text = f"{text} (default: {field.default})"
            command.add_argument(flag, type=kind, default=field.default, metavar=METAVARS[kind], help=text)
    command.set_defaults(run=train)


def _add_generate(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = commands.add_parser(
        "generate",
        help="let a model write",
        description=generate.__doc__,
    )
    command.add_argument("prompt", nargs="?", default="", help="the beginning of the text")
    command.add_argument(
        "--model", default="medium", help="a model in the box, a folder, or a Hub id (default: medium)"
    )
    command.add_argument("--device", help="cpu, cuda or mps (default: the fastest that passes the self-test)")
    command.add_argument(
        "--max-new-tokens", type=int, default=200, metavar="N", help="how many tokens at most (default: 200)"
    )
    command.add_argument("--seed", type=int, metavar="N", help="the same seed writes the same text")
    command.add_argument(
        "--temperature",
        type=float,
        default=0.7,
        metavar="X",
        help="0 takes the likeliest token every time (default: 0.7)",
    )
    command.add_argument("--top-k", type=int, metavar="N", help="keep the k likeliest tokens")
    command.add_argument(
        "--top-p", type=float, metavar="X", help="keep the least set of likeliest tokens that reaches p"
    )
    command.add_argument(
        "--min-p", type=float, metavar="X", help="keep tokens at least this times as probable as the likeliest"
    )
    command.add_argument(
        "--repetition-penalty", type=float, default=1.0, metavar="X", help="above 1 repeats less (default: 1.0)"
    )
    command.add_argument(
        "--stop", action="append", default=[], metavar="TEXT", help="a text to stop at; may be given again"
    )
    command.set_defaults(run=generate)


def _add_bench(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = commands.add_parser(
        "bench",
        help="time this machine",
        description=bench.__doc__,
        epilog="Notebook 12 explains what is measured, and how to add the records of your machine to the package.",
    )
    names = ", ".join(suite.SUITE)
    command.add_argument("measures", nargs="*", metavar="measure", help=f"which: {names} (default: all of them)")
    command.add_argument("--device", help="cpu, cuda or mps (default: the fastest that passes the self-test)")
    command.add_argument(
        "--seconds", type=float, default=5.0, metavar="X", help="for each measure, and at least 5 rounds (default: 5)"
    )
    command.add_argument("--out", type=Path, metavar="PATH", help="also write the records there, as JSON lines")
    command.set_defaults(run=bench)


if __name__ == "__main__":
    sys.exit(main())
