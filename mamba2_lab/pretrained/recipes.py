"""What the models in the box are made of: shape, text, tokenizer, training."""

from __future__ import annotations

import hashlib
import json
import platform
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from mamba2_lab.config import Mamba2Config
from mamba2_lab.data import (
    Document,
    Overlap,
    Package,
    decontaminate,
    installed_packages,
    permissive_packages,
    standard_library,
)
from mamba2_lab.data.python_source import is_vendored, package_of
from mamba2_lab.text import BPETokenizer, ByteTokenizer, Tokenizer
from mamba2_lab.training import TrainingConfig
from mamba2_lab.weights import BOX

# A line for each run that the settings below were chosen by, written by `tune`.
TUNING = BOX / "tuning.jsonl"


@dataclass(frozen=True)
class Recipe:
    """How a model in the box is made.

    shape: the fields of its config, vocabulary apart.
    training: steps, batch and rates.
    vocab_size: of a BPE tokenizer learned from the training text; None reads bytes.
    library_weight: how many times the standard library is laid out beside the installed packages; windows are drawn
        from anywhere, so this is how often it is read for each reading of them.
    packages_bytes: at most so much text of installed packages under a permissive licence.
    """

    shape: dict[str, Any]
    training: TrainingConfig
    vocab_size: int | None
    library_weight: int
    packages_bytes: int = 150_000_000


@dataclass(frozen=True)
class Text:
    """What a model learns from, what it is measured on, and how it came about.

    library, packages: training documents. vendored: those that were left out because packages carry them along, under
    other licences than their own. dropped: those that were left out for what they share with held-out ones.
    """

    library: tuple[Document, ...]
    packages: tuple[Document, ...]
    held_out: tuple[Document, ...]
    vendored: tuple[Document, ...]
    dropped: tuple[Overlap, ...]
    licences: dict[str, Package]

    def weighted(self, library_weight: int) -> tuple[Document, ...]:
        """All training documents, the library's so many times."""
        return self.library * library_weight + self.packages


def shape_of(preset: str) -> dict[str, Any]:
    """The fields of a preset, vocabulary apart."""
    fields = Mamba2Config.preset(preset).to_dict()
    del fields["vocab_size"]
    return fields


MEDIUM = Recipe(
    shape=shape_of("medium"),
    training=TrainingConfig(
        steps=12750,
        batch_size=64,
        length=1024,
        learning_rate=8e-3,
        warmup_steps=200,
        final_share=0.0,
        weight_decay=0.3,
        precision="bf16",
        compile=True,
    ),
    vocab_size=4096,
    library_weight=3,
    packages_bytes=600_000_000,
)
RECIPES = {
    "small": Recipe(
        shape=shape_of("small"),
        training=TrainingConfig(
            steps=9000, batch_size=64, length=1024, learning_rate=8e-3, warmup_steps=200, precision="bf16", compile=True
        ),
        vocab_size=None,
        library_weight=3,
    ),
    "medium": MEDIUM,
}


def tuning_runs(name: str) -> int:
    """How many runs were made to choose the settings of the model of that name."""
    lines = TUNING.read_text(encoding="utf-8").splitlines()
    return sum(json.loads(line)["recipe"] == name for line in lines)


def read_text(packages_bytes: int, *, keep_copies: bool = False) -> Text:
    """The library and the packages of this machine.

    Args:
        keep_copies: leave in what other code is copied from: what packages carry along, and what shares long runs of
            lines with held-out files. A number to compare with comes of it, no weights to give away.
    """
    library = standard_library()
    licences = permissive_packages() if packages_bytes else {}
    packages = installed_packages(packages_bytes, only=licences).train if packages_bytes else ()
    if keep_copies:
        return Text(library.train, packages, library.held_out, (), (), licences)
    vendored = tuple(document for document in packages if is_vendored(document.name))
    own = tuple(document for document in packages if not is_vendored(document.name))
    of_library, dropped_library = decontaminate(library.train, library.held_out)
    of_packages, dropped_packages = decontaminate(own, library.held_out)
    return Text(of_library, of_packages, library.held_out, vendored, dropped_library + dropped_packages, licences)


def make_tokenizer(recipe: Recipe, text: Text) -> Tokenizer:
    """Bytes, or BPE learned from the training text, each document once."""
    if recipe.vocab_size is None:
        return ByteTokenizer()
    return BPETokenizer.train((document.text for document in text.weighted(1)), recipe.vocab_size)


def describe(text: Text, recipe: Recipe) -> dict[str, Any]:
    """The facts about the text for the record: sizes, sources, licences, and what was dropped."""
    bytes_of = Counter[str]()
    for document in text.packages:
        bytes_of[package_of(document.name)] += document.bytes
    return {
        "library": {"python": platform.python_version(), "weight": recipe.library_weight, **size_of(text.library)},
        "packages": {
            **size_of(text.packages),
            "names": [
                {
                    "name": text.licences[name].name,
                    "version": text.licences[name].version,
                    "licence": text.licences[name].licence,
                    "bytes": size,
                }
                for name, size in sorted(bytes_of.items())
            ],
        },
        "held_out": held_out_facts(text.held_out),
        "vendored": size_of(text.vendored),
        "dropped": [[overlap.dropped, overlap.held_out] for overlap in text.dropped],
    }


def held_out_facts(documents: tuple[Document, ...]) -> dict[str, Any]:
    """Which text was measured on: numbers compare only if this is the same."""
    digest = hashlib.sha256()
    for document in documents:
        digest.update(f"{document.name}\0{document.text}\0".encode())
    source = f"one file in twenty of the standard library of Python {platform.python_version()}"
    return {"source": source, **size_of(documents), "sha256": digest.hexdigest()}


def size_of(documents: Iterable[Document]) -> dict[str, int]:
    """How many files and bytes."""
    documents = tuple(documents)
    return {"files": len(documents), "bytes": sum(document.bytes for document in documents)}
