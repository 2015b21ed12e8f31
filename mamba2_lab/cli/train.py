"""`mamba2-lab train`."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

import torch

from mamba2_lab import text, weights
from mamba2_lab.checks import require
from mamba2_lab.cli.parser import DEVICE_HELP, Parser, add_command, number, wrapped
from mamba2_lab.config import PRESETS, MambaConfig
from mamba2_lab.data import Corpus, decontaminate, installed_packages, pack, standard_library, text_files
from mamba2_lab.health import choose
from mamba2_lab.mamba2_lm import MambaLM
from mamba2_lab.text import BPETokenizer, ByteTokenizer, HuggingFaceTokenizer, Tokenizer
from mamba2_lab.training import (
    PRECISIONS,
    TrainingConfig,
    fit,
    is_main_process,
    memory,
    number_of_processes,
    require_a_compiler,
    run_folder,
)
from mamba2_lab.training.resuming import find_checkpoint
from mamba2_lab.words import counted

SETTING_HELP = {
    "steps": "updates of the weights",
    "batch_size": "windows per update, all processes together",
    "length": "tokens per window",
    "learning_rate": "the highest, reached after the warm-up",
    "warmup_steps": "steps in which the learning rate rises to its highest",
    "final_share": "how much of the highest learning rate is left at the end",
    "weight_decay": "how strongly AdamW pulls weights to zero; those that set time scales are spared",
    "clip_norm": "a longer gradient is shortened to this",
    "seed": "draws the first weights and the windows; the same seed gives the same run",
    "precision": "numbers that matrices are multiplied in: " + ", ".join(PRECISIONS),
    "accumulation": "parts that a batch is cut into, to save memory",
    "checkpoint_blocks": "compute each block again in the backward pass, to save memory",
    "compile": "let torch.compile make each step faster; the first takes a minute or more",
    "save_every": "steps between checkpoints; 0 saves at the end only",
    "evaluate_every": "steps between measurements of bits per byte; 0 measures at the end only",
    "lora": "rank of adapters (LoRA) that are trained in the place of the weights of --from; 0 trains the weights",
}
SETTINGS = [field for field in dataclasses.fields(TrainingConfig) if field.name in SETTING_HELP]
MERGED = "merged"  # the folder of a run's model with its adapters added to the weights
# The rate of a new model would make one that has learned worse, on the very text it learns. Adapters begin at nothing.
NEW_RATE, TUNING_RATE, LORA_RATE = TrainingConfig.learning_rate, 3e-4, 3e-3
LEARNING_RATES = f"{NEW_RATE}; with --from {TUNING_RATE}, with --lora {LORA_RATE}"
METAVARS = {int: "N", float: "X", str: "NAME"}


def add_to(commands: argparse._SubParsersAction[Parser]) -> None:
    """The command and its options."""
    command = add_command(
        commands,
        "train",
        run,
        help="train a model",
        epilog=f"presets:\n{_presets()}\n\n"
        + wrapped(
            "On N GPUs, or in N processes on a CPU: accelerate launch --multi_gpu --num_processes N -m mamba2_lab "
            "train ... with the same options. (With accelerate's --cpu it would be one process.)"
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
        "--from",
        dest="origin",
        metavar="MODEL",
        help="go on teaching this model, with its tokenizer: one in the box, a folder, or a Hub id",
    )
    command.add_argument(
        "--preset",
        choices=PRESETS,
        metavar="NAME",
        help="or begin with a new one: its shape, one of the presets below (default: small)",
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
        "a tokenizer; a run that goes on, and a model of --from, keep their own",
    )
    command.add_argument("--device", metavar="NAME", help=DEVICE_HELP)
    for field in SETTINGS:
        _add_setting(command, field)


def _presets() -> str:
    """Their names, those of a family on a line of its own."""
    families: dict[str, list[str]] = {}
    for name in PRESETS:
        families.setdefault(name.rpartition("-")[0], []).append(name)
    return "\n".join(wrapped(", ".join(names), indent="  ") for names in families.values())


def _add_setting(command: Parser, field: dataclasses.Field[Any]) -> None:
    flag, text = f"--{field.name.replace('_', '-')}", SETTING_HELP[field.name]
    kind: type = type(field.default)
    if kind is bool:
        command.add_argument(flag, action="store_true", help=text)
        return
    command.add_argument(
        flag,
        type=str if kind is str else number,
        default=None if field.name == "learning_rate" else field.default,
        metavar=METAVARS[kind],
        help=f"{text} (default: {LEARNING_RATES if field.name == 'learning_rate' else field.default})",
    )


def run(options: argparse.Namespace) -> None:
    """Train a model from scratch, or one that has learned already (--from), or go on with a run. Ctrl-C ends it after
    the step under way, and saves it."""
    config = _config(options)
    choice = choose(options.device)
    require_a_compiler(config, choice.device)
    saved = find_checkpoint(options.folder, options.resume)
    corpus = _read_corpus(options)
    if options.origin is None:
        tokenizer = _tokenizer(options.tokenizer, corpus, saved)
        shape = MambaConfig.preset(options.preset or "small", vocab_size=tokenizer.vocab_size)
        model = MambaLM(shape, device=choice.device, seed=config.seed)
    else:
        tokenizer = _tokenizer_of(options.origin, options.tokenizer)
        model = MambaLM.from_pretrained(options.origin, device=choice.device)
    say = print if is_main_process() else (lambda text: None)  # one process speaks for all
    say(f"computing on {choice}")
    if (processes := number_of_processes()) > 1:
        say(f"{processes} processes, each with its share of every batch")
    if saved is not None:
        say(f"going on from {saved}")
    say(f"{model.num_parameters():,} parameters, {tokenizer.vocab_size} tokens; {_describe(corpus)}")
    need = memory.needed(model, config)
    say(str(need))
    if warning := need.warning(model.device):
        say(warning)
    records = fit(
        model,
        pack(corpus.train, tokenizer),
        config,
        folder=options.folder,
        resume=options.resume,
        held_out=corpus.held_out,
        tokenizer=tokenizer,
        origin=options.origin,
    )
    if records and records[-1].bits_per_byte is not None:
        before = records[0].bits_per_byte_before
        fell = "" if before is None else f", {before:.4f} before the first step"
        say(f"{records[-1].bits_per_byte:.4f} bits per byte on held-out files{fell}")
    if written := run_folder.newest(options.folder):
        if config.lora and is_main_process():
            written = options.folder / MERGED
            model.save_pretrained(written, tokenizer=tokenizer)
        say(f"let it write: mamba2-lab generate --model {written}")


def _config(options: argparse.Namespace) -> TrainingConfig:
    """The settings, once those that exclude each other are seen to."""
    tuning = options.origin is not None
    if tuning:
        require(options.preset is None, "preset", "left out with `origin`, whose shape is its own", options.preset)
    settings = {field.name: getattr(options, field.name) for field in SETTINGS}
    if settings["learning_rate"] is None:
        settings["learning_rate"] = LORA_RATE if options.lora else TUNING_RATE if tuning else NEW_RATE
    config = TrainingConfig(**settings, evaluate_first=tuning)
    require(tuning or not config.lora, "lora", "left out without `origin`: it adapts what was learned", config.lora)
    return config


def _read_corpus(options: argparse.Namespace) -> Corpus:
    corpus = standard_library() if options.data is None else text_files(options.data, options.pattern)
    if not options.packages:
        return corpus
    train, _ = decontaminate(corpus.train + installed_packages().train, corpus.held_out)
    return Corpus(train, corpus.held_out, corpus.unreadable)


def _tokenizer(wanted: str | None, corpus: Corpus, saved: Path | None) -> Tokenizer:
    """Bytes, BPE of that many tokens learned from the training text, or one that is found; of a run that goes on,
    its own, without learning it anew."""
    if saved is not None:
        own = weights.load_tokenizer(saved)
        if wanted is None or wanted == _name_of(own):
            return own
    if wanted is not None and wanted.isdecimal():
        least, most = 257, torch.iinfo(torch.int32).max  # the bytes and the end of text; packed texts are int32
        require(least <= int(wanted) <= most, "tokenizer", f"of {least} to {most} tokens", int(wanted))
        return BPETokenizer.train((document.text for document in corpus.train), int(wanted))
    found = text.find("bytes" if wanted is None else wanted)
    return found.opened_by_end_of_text() if isinstance(found, HuggingFaceTokenizer) else found


def _tokenizer_of(origin: str, wanted: str | None) -> Tokenizer:
    """That of the model, by whose ids it has learned; what is wanted is no other one, or what a model without needs."""
    try:
        own = weights.load_tokenizer(origin)
    except FileNotFoundError:
        if wanted is None or wanted.isdecimal():
            raise
        return weights.load_tokenizer(origin, wanted)
    if wanted is not None and wanted != _name_of(own):
        named = [] if wanted.isdecimal() else [text.find(wanted), _tokenizer(wanted, Corpus((), ()), None)]
        is_own = own.to_dict() in [tokenizer.to_dict() for tokenizer in named]
        require(is_own, "tokenizer", "left out with `origin`, or that model's own: its ids have that meaning", wanted)
    return own


def _name_of(tokenizer: Tokenizer) -> str | None:
    """What --tokenizer calls it: of a published one nothing tells."""
    return {ByteTokenizer: "bytes", BPETokenizer: str(tokenizer.vocab_size)}.get(type(tokenizer))


def _describe(corpus: Corpus) -> str:
    size = sum(document.bytes for document in corpus.train)
    unreadable = f", {len(corpus.unreadable)} unreadable" if corpus.unreadable else ""
    files = counted(len(corpus.train), "file")
    return f"{files} with {size:,} bytes to learn from, {len(corpus.held_out)} held out{unreadable}"
