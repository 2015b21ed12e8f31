"""What a playground wrote: a record of every run, as JSON and as text."""

from __future__ import annotations

import base64
import dataclasses
import datetime
import html
import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from mamba2_lab.generation import SamplingConfig
from mamba2_lab.widgets.playground.labels import FIELDS
from mamba2_lab.words import counted

ENDINGS = {"length": "as many as asked for", "stop": "up to a stop", "by hand": "then Stop", "error": "then an error"}


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


@dataclass(frozen=True)
class Entry:
    """One run: what was asked, and what came.

    text: what the run wrote, the stop included, the prompt not. A character that it has not finished is with the run
        that did.
    tokens: how many tokens it made.
    ended: "length", "stop" (a stop string, or the end of the text), "by hand" or "error".
    continues: the number of the entry, 0 the first, that this one goes on from; None if it began with the prompt. The
        generator of the draws goes on as well, so the seed is that of the beginning.
    date: when it ended, in UTC.
    """

    prompt: str
    text: str
    tokens: int
    model: str
    device: str
    seed: int
    settings: SamplingConfig
    stop: tuple[str, ...]
    ended: str
    continues: int | None = None
    date: str = field(default_factory=_now)


def to_json(entries: Sequence[Entry]) -> str:
    """A JSON list, an object for each entry."""
    return json.dumps([dataclasses.asdict(entry) for entry in entries], indent=2, ensure_ascii=False) + "\n"


def to_text(entries: Sequence[Entry]) -> str:
    """For reading: a line that says what was asked, then prompt and text as one."""
    return "\n".join(f"# {heading(number, entry)}\n{_body(entry)}\n" for number, entry in enumerate(entries))


def heading(number: int, entry: Entry) -> str:
    """An entry in one line."""
    start = SamplingConfig()
    changed = [
        f"{FIELDS[setting.name]} {getattr(entry.settings, setting.name)}"
        for setting in dataclasses.fields(SamplingConfig)
        if getattr(entry.settings, setting.name) != getattr(start, setting.name)
    ]
    goes_on = [] if entry.continues is None else [f"goes on from {entry.continues}"]
    stop = [f"stop at {', '.join(map(repr, entry.stop))}"] if entry.stop else []
    facts = [*goes_on, f"{entry.model} on {entry.device}", f"seed {entry.seed}", *changed, *stop]
    date = entry.date[:16].replace("T", " ")
    return f"{number}: {', '.join(facts)}; {counted(entry.tokens, 'new token')}, {ENDINGS[entry.ended]}; {date} UTC"


def _body(entry: Entry) -> str:
    return entry.text if entry.continues is not None else entry.prompt + entry.text


def to_html(entries: Sequence[Entry]) -> str:
    """The newest first, each to be unfolded, and links that save all as files."""
    if not entries:
        return "Nothing yet: what is written is kept here."
    links = f"Save all as {_link('json', to_json(entries))} or {_link('txt', to_text(entries))}."
    folded = [
        f'<details><summary>{html.escape(heading(number, entry))}</summary><pre style="white-space: pre-wrap">'
        f"{html.escape(_body(entry))}</pre></details>"
        for number, entry in enumerate(entries)
    ]
    return f'<div style="margin-bottom: 4px">{links}</div>' + "".join(reversed(folded))


def _link(ending: str, text: str) -> str:
    data = base64.b64encode(text.encode()).decode()
    name = f"playground.{ending}"
    return f'<a download="{name}" href="data:application/octet-stream;base64,{data}"><u>{name}</u></a>'
