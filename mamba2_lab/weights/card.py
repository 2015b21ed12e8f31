"""The card of a model that goes to the Hub: what its files and the record of its training say, and nothing else."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mamba2_lab.checks import require
from mamba2_lab.config import StackFields
from mamba2_lab.machine.untrusted import CheckpointError, read_json, read_text, require_own_file
from mamba2_lab.weights.build import shapes_of
from mamba2_lab.weights.layouts import Layout, layout_of, ours, transformers
from mamba2_lab.weights.places import CONFIG_NAME, is_hub_id
from mamba2_lab.weights.runs import RUN_NAME, read_facts
from mamba2_lab.weights.stored import description
from mamba2_lab.words import counted

CARD_NAME = "README.md"
RECORDS_NAME = "records.jsonl"  # of a training, beside its checkpoints
Found = tuple[Layout, StackFields, str | None]
_NAMES = {"mamba1": "Mamba", "mamba2": "Mamba-2", "mamba3": "Mamba-3", "attention": "attention"}


def card(hub_id: str, folder: Path | None, record: Path | None, licence: str | None) -> str:
    """Markdown, with what the Hub reads of it on top (YAML).

    Args:
        folder: of the model, if it is in one. record: where its README.md lies, if somebody has written one, or the
            run.json of its training; the folder itself, mostly.
        licence: of the weights, as the Hub writes it: "apache-2.0".

    Raises:
        CheckpointError: if a file of these is damaged.
    """
    from huggingface_hub import ModelCardData

    page = record / CARD_NAME if record is not None and (record / CARD_NAME).exists() else None
    written = read_text(page) if page is not None else None
    if written is not None and written.startswith("---\n"):
        require(licence is None, "licence", f"left out, for {page} says what the Hub reads", licence)
        return written
    found = _config_in(folder) if folder is not None else None
    tags = sorted(found[1].mixer_fields_by_name) if found else []
    task = "text-generation"
    data = ModelCardData(license=licence, library_name=_library(found), pipeline_tag=task, tags=tags or None)
    body = written if written is not None else _body(hub_id, found, record)
    return f"---\n{data.to_yaml()}\n---\n\n{body}"


def _config_in(folder: Path) -> Found | None:
    """The layout of the model, its config and how its weights are stored; None if there is none of ours to read, beside
    a GGUF file say."""
    path = folder / CONFIG_NAME
    if not path.exists():
        return None
    fields = read_json(path)
    try:
        layout = layout_of(fields, str(path))
    except CheckpointError:
        return None
    return layout, layout.read_config(fields, str(path)), ours.read_storage(fields, str(path))


def _library(found: Found | None) -> str | None:
    layout = found[0] if found else None
    return "mamba2-lab" if layout is ours else "transformers" if layout is transformers else None


def _body(hub_id: str, found: Found | None, record: Path | None) -> str:
    parts = [f"# {hub_id.partition('/')[2]}"]
    if found:
        parts.append(_described(found[1], hub_id))
    if found and found[2]:
        parts.append(f"Its weights are stored as {description(found[2])}.")
    if rows := list(_rows(record) if record is not None else []):
        parts.append("\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)]))
    if found:
        parts.append(
            "```python\nfrom mamba2_lab import MambaLM, load_tokenizer\n\n"
            f'model, tokenizer = MambaLM.from_pretrained("{hub_id}"), load_tokenizer("{hub_id}")\n```'
        )
    return "\n\n".join(parts) + "\n"


def _described(config: StackFields, where: str) -> str:
    count = sum(math.prod(shape) for _, shape in shapes_of(config, where))
    layers = counted(config.n_layer, "layer")
    mixers = " and ".join(_NAMES[name] for name in config.mixer_fields_by_name)
    return f"A language model of {mixers}: {count:,} parameters in {layers} of width {config.d_model}."


def _rows(record: Path) -> Iterator[tuple[str, str]]:
    """What the record of a training says, if there is one."""
    if not (record / RUN_NAME).exists():
        return
    facts = read_facts(record)
    training, step = facts["training"], facts["step"]
    for after, bits in list(_measured(record.parent / RECORDS_NAME, facts))[-1:]:
        yield "held-out bits per byte", f"**{bits:.3f}**, after {counted(after, 'step')}"
    if facts.get("origin"):
        rank = training.get("lora")
        yield "began with", _named(facts["origin"]) + (f", changed by adapters of rank {rank} (LoRA)" if rank else "")
    batch = f"{training['batch_size']} x {training['length']} tokens"
    settings = f"learning rate {training['learning_rate']}, weight decay {training['weight_decay']}"
    yield "training", f"{counted(step, 'step')} of {batch}; AdamW, {settings}, {training['precision']}"
    yield "seed", str(training["seed"])
    if facts.get("data"):
        yield "data", f"tokens with SHA-256 `{facts['data']}`"
    if facts.get("held_out"):
        yield "held out", f"texts with SHA-256 `{facts['held_out']}`"


def _named(origin: str) -> str:
    """The model that a training began with: its id on the Hub, or its name; where it lay on a disk is nobody's."""
    return origin if is_hub_id(origin) and not Path(origin).exists() else Path(origin).name


def _measured(path: Path, facts: dict[str, Any]) -> Iterator[tuple[int, float]]:
    """After how many steps the run measured bits per byte, and what they were; nothing of another run's records."""
    if not path.exists():
        return
    require_own_file(path)
    with path.open("rb") as file:
        lines = list(itertools.islice(file, facts["step"]))
    if hashlib.sha256(b"".join(lines)).hexdigest() != facts.get("records"):
        return
    for found in map(json.loads, lines):
        if found.get("bits_per_byte") is not None:
            yield found["step"] + 1, found["bits_per_byte"]
