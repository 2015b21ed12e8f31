"""`mamba2-lab generate`."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from mamba2_lab import sessions
from mamba2_lab.checks import Refusal, require
from mamba2_lab.cli.parser import Parser, add_command, add_model_to, number, open_model
from mamba2_lab.generation import SamplingConfig, Stream, go_on, stream
from mamba2_lab.health import choose
from mamba2_lab.mamba2_lm import MambaLM
from mamba2_lab.sessions import Session
from mamba2_lab.text import REPLACEMENT, Tokenizer, prompt_ids


def add_to(commands: argparse._SubParsersAction[Parser]) -> None:
    """The command and its options."""
    command = add_command(commands, "generate", run, help="let a model write")
    command.add_argument(
        "prompt", nargs="?", default="", help="the beginning of the text; - reads it from standard input"
    )
    add_model_to(command)
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
    command.add_argument(
        "--save-state",
        type=Path,
        metavar="FILE",
        help="keep there what the model remembers of all this text, to go on another day; with --max-new-tokens 0 it "
        "reads only, and writes nothing",
    )
    command.add_argument(
        "--state",
        type=Path,
        metavar="FILE",
        help="go on from there, reading nothing again: the prompt is what comes next, if anything. Draws go on as "
        "well; --seed begins them anew",
    )


def run(options: argparse.Namespace) -> None:
    """Let a model write, as the text comes. A long document need be read only once: --save-state keeps what the model
    remembers of it, and --state goes on from there."""
    names = [field.name for field in dataclasses.fields(SamplingConfig)]
    settings = SamplingConfig(**{name: getattr(options, name) for name in names})
    for text in options.stop:
        require(text != "" and _is_unicode(text), "stop", "a text of at least one character, in UTF-8", text)
    if options.save_state is not None:
        path = options.save_state
        require(path.absolute().parent.is_dir(), "save_state", "a file in a folder that is there", str(path))
        require(sessions.may_be_written(path), "save_state", "a new file, or that of a session", str(path))
    if options.state is not None and not options.state.exists():  # it would be missed after the model is read
        raise FileNotFoundError(Refusal("state", "a file of --save-state", str(options.state)))
    choice = choose(options.device)
    prompt = _prompt(options.prompt)
    model, tokenizer = open_model(options, choice.device)
    session = None if options.state is None else sessions.load_session(options.state, model, tokenizer)
    ids = tokenizer.encode(prompt) if session else prompt_ids(tokenizer, prompt)
    if session:
        print(f"going on behind {sessions.text_behind(session, tokenizer)[-60:]!r}", file=sys.stderr)
    tokens = _stream(options, model, tokenizer, session, ids, settings)
    reads_only = options.save_state is not None and options.max_new_tokens == 0
    shown = session.unshown + prompt if session else prompt
    new: list[int] = []
    try:
        print("" if reads_only else shown, end="", flush=True)
        for token in tokens:
            new.append(token.id)
            print(token.text, end="", flush=True)
    finally:
        try:
            if not reads_only:
                print("" if tokens.finish_reason == "stop" else tokens.rest)  # and whatever is said next begins a line
        finally:
            if options.save_state is not None:
                unshown = shown if reads_only and not prompt else ""
                text = [*(session.recent if session else ()), *ids, *new]
                sessions.save_session(_session(tokens, text, unshown, tokenizer), options.save_state, model, tokenizer)
                print(f"to go on: --state {options.save_state}", file=sys.stderr)


def _stream(
    options: argparse.Namespace,
    model: MambaLM,
    tokenizer: Tokenizer,
    session: Session | None,
    ids: list[int],
    settings: SamplingConfig,
) -> Stream:
    """What the model writes behind these tokens, which it reads with a progress bar."""
    stop = [tokenizer.end_of_text, *options.stop]
    with tqdm(total=len(ids), desc="reading", unit="token", delay=1, disable=None, leave=False) as bar:
        common: dict[str, Any] = {
            "max_new_tokens": options.max_new_tokens,
            "seed": options.seed,
            "stop": stop,
            "tokenizer": tokenizer,
            "on_progress": lambda share: bar.update(round(share * len(ids)) - bar.n),
        }
        if session is None:
            return stream(model, ids, **common, **dataclasses.asdict(settings))
        return go_on(model, session.position, ids, settings=settings, before=session.recent, **common)


def _session(tokens: Stream, text: list[int], unshown: str, tokenizer: Tokenizer) -> Session:
    """What stands on the screen, to be kept. An end of text that ended it does not: behind that would begin another."""
    position = tokens.position
    if tokens.finish_reason == "stop":
        unshown = tokens.rest.rstrip(REPLACEMENT)  # a stop text: it was read
        if text[-1] == tokenizer.end_of_text:
            position, text = position._replace(unread=None), text[:-1]
    return Session(position, tuple(text), unshown)


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
