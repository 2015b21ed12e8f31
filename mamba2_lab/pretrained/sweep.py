"""One small model, trained at several learning rates: `python -m mamba2_lab.pretrained.sweep`.

Notebook 08 reads the record, sweep.json. Each run is written once it is finished; the same command goes on with the
rates that are missing.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm

from mamba2_lab.data import Corpus, PackedTokens, pack
from mamba2_lab.machine.files import write_text
from mamba2_lab.machine.untrusted import read_json
from mamba2_lab.mamba2_lm import Mamba2LM
from mamba2_lab.pretrained.provenance import machine, thin, today
from mamba2_lab.pretrained.recipes import held_out_facts, read_text, size_of
from mamba2_lab.text import ByteTokenizer
from mamba2_lab.training import Record, TrainingConfig, bits_per_byte, fit
from mamba2_lab.weights import BOX

RECORD = BOX / "sweep.json"
RATES = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0)
SHAPE: dict[str, Any] = {"d_model": 128, "n_layer": 2, "d_state": 16, "headdim": 32, "chunk_size": 32}
TRAINING = TrainingConfig(steps=400, batch_size=8, length=128)
SEED = 0  # of the weights; every run begins from the same ones


def main(arguments: list[str] | None = None) -> None:
    """Train a small model on the standard library once per learning rate, on the CPU, and record the curves."""
    parser = argparse.ArgumentParser(prog="python -m mamba2_lab.pretrained.sweep", description=main.__doc__)
    parser.add_argument("--file", type=Path, default=RECORD, help="where the record goes; by default the box")
    text = read_text(packages_bytes=0)
    record = sweep(parser.parse_args(arguments).file, Corpus(text.library, text.held_out))
    for run in record["runs"]:
        found = run["ended"] or f"{run['bits_per_byte']:.3f} bits per byte on held-out files"
        print(f"learning rate {run['learning_rate']:g}: {found}")


def sweep(path: Path, corpus: Corpus) -> dict[str, Any]:
    """The record at `path`, with a run for each of RATES; those that it does not hold are trained and added.

    Raises:
        ValueError: if the record is of other settings, another text or another machine: its runs would not compare.
    """
    settings = _settings(corpus)
    runs = _runs_so_far(path, settings)
    tokens = pack(corpus.train, ByteTokenizer())
    missing = [rate for rate in RATES if rate not in runs]
    with tqdm(total=len(missing) * TRAINING.steps, desc="sweep", unit="step", disable=not missing) as bar:
        for rate in missing:
            config = dataclasses.replace(TRAINING, learning_rate=rate)
            runs[rate] = _run(config, tokens, corpus, bar)
            record = {**settings, "date": today(), "runs": [runs[rate] for rate in sorted(runs)]}
            write_text(path, json.dumps(record, indent=1) + "\n")
    return read_json(path)


def _settings(corpus: Corpus) -> dict[str, Any]:
    """What all runs of a record share, as it is read back from JSON."""
    training = dataclasses.asdict(TRAINING)
    del training["learning_rate"]
    settings = {
        "what": "training loss in nats per byte, each point the mean since the one before, for several learning rates",
        "command": "python -m mamba2_lab.pretrained.sweep",
        "machine": machine(torch.device("cpu")),
        "model": {**SHAPE, "seed": SEED},
        "training": training,
        "text": {"train": size_of(corpus.train), "held_out": held_out_facts(corpus.held_out)},
    }
    return json.loads(json.dumps(settings))


def _runs_so_far(path: Path, settings: dict[str, Any]) -> dict[float, dict[str, Any]]:
    """The runs of the record, by learning rate."""
    if not path.exists():
        return {}
    record = read_json(path)
    for name, value in settings.items():
        if record[name] != value:
            raise ValueError(f"{name} must be as in {path}, {record[name]}; got {value}. Move that record away first")
    return {run["learning_rate"]: run for run in record["runs"]}


def _run(config: TrainingConfig, tokens: PackedTokens, corpus: Corpus, bar: tqdm) -> dict[str, Any]:
    """Train once. A run whose loss is no number any more ends there, and that is its result."""
    tokenizer = ByteTokenizer()
    model = Mamba2LM(**SHAPE, vocab_size=tokenizer.vocab_size, seed=SEED)
    curve: list[Record] = []

    def note(record: Record) -> None:
        curve.append(record)
        bar.set_postfix(learning_rate=f"{config.learning_rate:g}", loss=f"{record.loss:.3f}", refresh=False)
        bar.update()

    measured, ended = None, None
    try:
        fit(model, tokens, config, on_step=note, progress=False)
        measured = round(bits_per_byte(model, corpus.held_out, tokenizer), 4)
    except FloatingPointError as error:
        ended = f"step {len(curve)}: {error}"
        bar.update(config.steps - len(curve))
    points = thin(curve)
    return {
        "learning_rate": config.learning_rate,
        "bits_per_byte": measured,
        "ended": ended,
        "curve": {name: [point[name] for point in points] for name in ("step", "loss")},
    }


if __name__ == "__main__":
    main()
