"""What became of six architectures, in one table: of architectures.jsonl, a line for each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mamba2_lab.pretrained import parity
from mamba2_lab.pretrained.architectures import ARCHITECTURES, RECORD, read
from mamba2_lab.words import in_bytes

NAMES = {
    "mamba1": "Mamba-1",
    "mamba2": "Mamba-2",
    "mamba3": "Mamba-3",
    "mamba3-mimo": "Mamba-3 MIMO",
    "llama": "Llama",
    "hybrid": "hybrid",
}
HEADER = ("", "seeds", "loss", "bits per byte", "parses", "recall", "parity", "tokens/s", "state")


def lines(path: Path = RECORD) -> list[list[str]]:
    """The header, and a line for each architecture: the mean over its seeds, or a dash where nothing was measured."""
    return [list(HEADER), *(_line(name, found) for name, found in results(path).items())]


def results(path: Path = RECORD) -> dict[str, dict[str, list[float]]]:
    """What was measured of each architecture, by name: a number for each seed; empty where there is none.

    loss: nats per token at the end of training, of windows that are the same for all. bits_per_byte, parses: on
    held-out files. beyond: bits per byte where attention looks back twice as far as in training. recall: share of
    tokens copied over 256 others. parity: share right, at the best of the rates. rate: of learning. tokens: that it
    learned from. seconds: of training. tokens_per_second, state: of decoding on a CPU; bytes.
    """
    return {name: _results_of(name, path) for name in ARCHITECTURES}


def _results_of(name: str, path: Path) -> dict[str, list[float]]:
    runs = {row["seed"]: row for row in read(path, what="training", architecture=name, ended=None)}  # the newest counts
    trained = [runs[seed] for seed in sorted(runs)]
    decoded = read(path, what="decoding", architecture=name)[-1:]
    return {
        "loss": [row["loss"] for row in trained],
        "bits_per_byte": [row["bits_per_byte"] for row in trained],
        "beyond": [row["bits_per_byte_beyond"] for row in trained if "bits_per_byte_beyond" in row],
        "parses": [row["parses"] for row in trained],
        "recall": [row["copied"]["256"]["again"] for row in trained],
        "parity": _best_parity(read(path, what="parity", architecture=name, steps=parity.STEPS)),
        "rate": [row["learning_rate"] for row in trained],
        "tokens": [row["tokens"] for row in trained],
        "seconds": [row["seconds"] for row in trained],
        "tokens_per_second": [row["tokens_per_second"] for row in decoded],
        "state": [row["bytes"] for row in decoded],
    }


def _best_parity(rows: Sequence[dict[str, Any]]) -> list[float]:
    by_rate: dict[float, list[float]] = {}
    for row in rows:
        by_rate.setdefault(row["learning_rate"], []).append(row["right"])
    return max(by_rate.values(), key=lambda shares: sum(shares) / len(shares), default=[])


def _line(name: str, found: dict[str, list[float]]) -> list[str]:
    share = "{:.0%}".format
    return [
        NAMES[name],
        str(len(found["loss"]) or "-"),
        _mean(found["loss"], "{:.2f}".format),
        _mean(found["bits_per_byte"], "{:.3f}".format),
        *(_mean(found[key], share) for key in ("parses", "recall", "parity")),
        _mean(found["tokens_per_second"], "{:.0f}".format),
        _mean(found["state"], in_bytes),
    ]


def _mean(values: Sequence[float], write: Any) -> str:
    return str(write(sum(values) / len(values))) if values else "-"
