"""What everyone needs for the same held-out files, in bits per byte: `python -m mamba2_lab.pretrained.comparison`.

That command measures the yardsticks that are not trained here (gzip, xz, a 5-gram); `pretrained.train` adds a row for
each model. All rows are of the same held-out text, which its hash proves.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mamba2_lab.data import Document
from mamba2_lab.evaluation import COMPRESSORS
from mamba2_lab.machine.files import write_text
from mamba2_lab.machine.untrusted import read_json
from mamba2_lab.pretrained.completions import COUNT, headers, ngram_completions, share_that_parses
from mamba2_lab.pretrained.recipes import held_out_facts, read_text, size_of
from mamba2_lab.weights import BOX
from mamba2_lab.yardsticks.ngram import NGram

TABLE = BOX / "comparison.json"
ORDER = 5  # of the n-gram


def main() -> None:
    """Measure gzip, xz and a 5-gram byte model on the held-out files, and note them in the table."""
    text = read_text(packages_bytes=0)
    for row in [*compressors(text.held_out), counting(text.library, text.held_out)]:
        note(row, text.held_out)
        print(f"{row['name']}: {row['bits_per_byte']:.3f} bits per byte; {row['note']}")


def compressors(documents: Sequence[Document]) -> list[dict[str, Any]]:
    """gzip and xz at their strongest: each file alone, as the models read them, and all files as one."""
    texts = [document.text.encode("utf-8") for document in documents]
    rows = []
    for name, compress in COMPRESSORS.items():
        alone, together = sum(map(compress, texts)), compress(b"".join(texts))
        size = sum(map(len, texts))
        note = f"each file alone; {8 * together / size:.3f} for all files as one"
        rows.append({"name": name, "bits_per_byte": round(8 * alone / size, 4), "note": note})
    return rows


def counting(train: Sequence[Document], held_out: Sequence[Document]) -> dict[str, Any]:
    """A 5-gram of bytes, counted over the training files of the library."""
    ngram = NGram((document.text for document in train), ORDER)
    bits = sum(ngram.bits(document.text) for document in held_out)
    prompts = headers(held_out, COUNT)
    size = size_of(train)["bytes"]
    return {
        "name": f"{ORDER}-gram",
        "bits_per_byte": round(bits / size_of(held_out)["bytes"], 4),
        "parses": share_that_parses(prompts, ngram_completions(ngram, prompts)),
        "note": f"of bytes, counted over {size:,} bytes of the library",
    }


def read_table(path: Path | None = None) -> dict[str, Any]:
    """The table: which text it is of, and a row for each; by default the one in the box."""
    path = path or TABLE
    return read_json(path) if path.exists() else {"held_out": None, "rows": []}


def rows_by_name(path: Path | None = None) -> dict[str, dict[str, Any]]:
    """The rows of that table by the name of whom they are of."""
    return {row["name"]: row for row in read_table(path)["rows"]}


def note(row: dict[str, Any], held_out: tuple[Document, ...], path: Path | None = None) -> None:
    """Add what was found to the table; a row of that name keeps what is not said anew.

    Raises:
        ValueError: if the table is of other held-out files.
    """
    path = path or TABLE
    table, facts = read_table(path), held_out_facts(held_out)
    if table["held_out"] not in (None, facts):
        raise ValueError(f"held_out must be the files of {path}, {table['held_out']}; got {facts}")
    rows = {old["name"]: old for old in table["rows"]}
    rows[row["name"]] = {**rows.get(row["name"], {}), **row}
    write_text(path, json.dumps({"held_out": facts, "rows": list(rows.values())}, indent=1) + "\n")


if __name__ == "__main__":
    main()
