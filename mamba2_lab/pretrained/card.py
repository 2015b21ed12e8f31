"""The card of a model in the box, every number of it out of its record and the comparison table."""

from __future__ import annotations

from collections import Counter
from typing import Any

from mamba2_lab.pretrained.completions import COUNT, TEMPERATURE


def card(record: dict[str, Any], rows: dict[str, dict[str, Any]], tuning_runs: int) -> str:
    """Markdown.

    Args:
        record: of the run. rows: the rows of the comparison table, by name.
        tuning_runs: how many runs, measured on the same held-out files, its settings were chosen by.
    """
    row, training, text = rows[record["model"]], record["training"], record["text"]
    library, packages, held_out = text["library"], text["packages"], text["held_out"]
    return f"""# {record["model"]}

A Mamba-2 language model of Python source: {row["parameters"]:,} parameters, tokenizer: {record["tokenizer"]}. It is
small: it writes text that looks like Python, not programs that work.

| | |
|---|---|
| held-out bits per byte | **{row["bits_per_byte"]:.3f}**{_others(rows)} |
| functions that parse | {row["parses"]:.0%} of {COUNT} headers from held-out files, completed at temperature \
{TEMPERATURE}{_counting(rows)} |
| data | the standard library of Python {library["python"]}: {library["files"]:,} files, {library["bytes"]:,} bytes, \
read {_times(library["weight"])}{_packages(packages)} |
| held out | {held_out["source"]}, by a hash of the name: {held_out["files"]} files, {held_out["bytes"]:,} bytes |
| licence of the data | the library: Python Software Foundation License{_licences(packages)} |
| training | {training["steps"]:,} steps of {training["batch_size"]} x {training["length"]} tokens, \
{record["tokens"]:,} in all; AdamW, learning rate {training["learning_rate"]}, \
weight decay {training["weight_decay"]}, {training["precision"]} |
| seed | {training["seed"]} |
| time | {record["seconds"]:.0f} s on {record["date"]} |
| hardware | {record["machine"]["device"]} |
| versions | Python {record["machine"]["python"]}, torch {record["machine"]["torch"]} |
| weights | bfloat16 safetensors, {record["bytes"]:,} bytes |
| sha256 | `{record["sha256"]}` |
| licence of the weights | Apache-2.0 |

Made by `{record["command"]}`. The settings, the loss curve, the packages with their licences and the names of the files
that were left out are in `record.json`.

## How honest is the figure?

{_left_out(text["dropped"])}{_vendored(text)}{_with_copies(row)} \
Held-out files and training files are still of one library, and share
its idioms. The settings were chosen by {tuning_runs} runs measured on these same held-out files (`tuning.jsonl`):
on files that nobody chose by, expect a little more. Loss is in nats per token, the measure above in bits per byte of
text; both are of this file, read back from bfloat16.
"""


def _times(weight: int) -> str:
    return "once" if weight == 1 else f"{weight} times as often as the rest"


def _others(rows: dict[str, dict[str, Any]]) -> str:
    others = [f"{name} {rows[name]['bits_per_byte']:.2f}" for name in ("5-gram", "xz", "gzip") if name in rows]
    return f" ({', '.join(others)})" if others else ""


def _counting(rows: dict[str, dict[str, Any]]) -> str:
    return f"; of a 5-gram's, {rows['5-gram']['parses']:.0%}" if "5-gram" in rows else ""


def _packages(packages: dict[str, Any]) -> str:
    if not packages["files"]:
        return ""
    names = len(packages["names"])
    return f"; {names} installed packages: {packages['files']:,} files, {packages['bytes']:,} bytes"


def _licences(packages: dict[str, Any]) -> str:
    families = Counter(_family(package["licence"]) for package in packages["names"])
    if not families:
        return ""
    return "; packages, all permissive: " + ", ".join(f"{name} {count}" for name, count in families.most_common())


def _family(licence: str) -> str:
    """MIT, BSD, Apache, ... or what it is called in full."""
    named = [family for family in ("MIT", "BSD", "Apache", "ISC", "Python") if family in licence]
    return named[0] if len(named) == 1 else " and ".join(named) if named else licence


def _left_out(dropped: list[list[str]]) -> str:
    counts = Counter(held_out for _, held_out in dropped).most_common(3)
    most = ", ".join(f"{count} because of `{name}`" for name, count in counts)
    share = "shared eight lines in a row, or more, with a held-out file"
    return f"{len(dropped)} files of the training text {share}, and were left out (most of all {most})."


def _vendored(text: dict[str, Any]) -> str:
    if "vendored" not in text:  # a model made before they were told apart
        return ""
    files, size = text["vendored"]["files"], text["vendored"]["bytes"]
    return (
        f" So were {files:,} more, {size:,} bytes, that packages carry along from other projects (`_vendor` folders)."
    )


def _with_copies(row: dict[str, Any]) -> str:
    if row.get("with_copies") is None:
        return ""
    gain = row["bits_per_byte"] - row["with_copies"]
    return f" Trained with them left in, the same model needs {row['with_copies']:.3f} bits per byte: {gain:.3f} less."
