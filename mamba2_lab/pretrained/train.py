"""Train a model for the box: `python -m mamba2_lab.pretrained.train small`.

Writes weights (safetensors, bfloat16), config, tokenizer, the record of the run, and a card made from that record.
The bits per byte on the card are those of the very file that is shipped, read back.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import lzma
import platform
import time
import zlib
from pathlib import Path
from typing import Any

import torch

from mamba2_lab import checkpoint
from mamba2_lab.config import Mamba2Config
from mamba2_lab.data import Corpus, Document, pack, standard_library
from mamba2_lab.device import choose, describe
from mamba2_lab.files import write_text
from mamba2_lab.model import Mamba2LM
from mamba2_lab.tokenizer import ByteTokenizer
from mamba2_lab.training import Record, TrainingConfig, bits_per_byte, fit

RECIPES = {
    "small": TrainingConfig(
        steps=5000, batch_size=32, length=1024, learning_rate=8e-3, warmup_steps=100, seed=0, precision="bf16"
    ),
}
CURVE_POINTS = 100


def main(arguments: list[str] | None = None) -> None:
    """Train, measure, write."""
    options = _parse(arguments)
    recipe = RECIPES[options.name]
    if options.steps is not None:
        recipe = dataclasses.replace(recipe, steps=options.steps, warmup_steps=min(recipe.warmup_steps, options.steps))
    choice = choose(options.device)
    print(f"computing on {choice}")

    corpus, tokenizer = standard_library(), ByteTokenizer()
    model = Mamba2LM(Mamba2Config.preset(options.name), seed=recipe.seed).to(choice.device)
    started = time.perf_counter()
    curve = fit(model, pack(corpus.train, tokenizer), recipe)
    seconds = time.perf_counter() - started

    folder = Path(options.folder or checkpoint.BOX / options.name)
    checkpoint.save(model.bfloat16(), folder, tokenizer=tokenizer)
    shipped = checkpoint.load(folder, device=choice.device)
    measured = bits_per_byte(shipped, corpus.held_out, tokenizer, progress=True)
    record = {
        "model": options.name,
        "parameters": model.num_parameters(),
        "bits_per_byte": round(measured, 4),
        **_baselines(corpus.held_out),
        "training": dataclasses.asdict(recipe),
        "tokens": recipe.steps * recipe.batch_size * recipe.length,
        "seconds": round(seconds, 1),
        "data": _describe(corpus),
        "machine": _machine(choice.device),
        "sha256": hashlib.sha256((folder / checkpoint.WEIGHTS_NAME).read_bytes()).hexdigest(),
        "bytes": (folder / checkpoint.WEIGHTS_NAME).stat().st_size,
        "command": f"python -m mamba2_lab.pretrained.train {options.name} --steps {recipe.steps}",
        "curve": _thin(curve),
    }
    write_text(folder / "record.json", json.dumps(record, indent=1) + "\n")
    write_text(folder / "README.md", card(record))
    print(f"{folder}: {measured:.4f} bits per byte on held-out files, trained in {seconds:.0f} s")


def card(record: dict[str, Any]) -> str:
    """The model card, every number of it out of the record."""
    data, training, machine = record["data"], record["training"], record["machine"]
    measured = f"{record['bits_per_byte']:.3f} (xz: {record['xz']:.2f}, gzip: {record['gzip']:.2f}, each file alone)"
    held_out = f"{data['held_out_files']} files, {data['held_out_bytes']:,} bytes"
    batch = f"{training['batch_size']} x {training['length']} tokens"
    return f"""# {record["model"]}

A Mamba-2 language model of Python source, {record["parameters"]:,} parameters, tokenizer: UTF-8 bytes. It is small: it
writes text that looks like Python, not programs that work.

| | |
|---|---|
| held-out bits per byte | {measured} |
| data | {data["source"]}: {data["train_files"]} files, {data["train_bytes"]:,} bytes |
| held out | {held_out}, one in twenty by a hash of the file name |
| licence of the data | Python Software Foundation License; parts of the library name others in their files |
| training | {training["steps"]:,} steps of {batch}: {record["tokens"]:,} in all |
| seed | {training["seed"]} |
| time | {record["seconds"]:.0f} s |
| hardware | {machine["device"]} |
| versions | Python {machine["python"]}, torch {machine["torch"]} |
| weights | bfloat16 safetensors, {record["bytes"]:,} bytes |
| sha256 | `{record["sha256"]}` |
| licence of the weights | Apache-2.0 |

Made by `{record["command"]}`. The settings, the loss curve and the numbers above are in `record.json`.

The held-out files are of the same library as the training files and share idioms and some tables with them; nothing was
removed from the training files for being similar. Loss is in nats per byte, the measure above in bits per byte; both
are of this file, read back from bfloat16.
"""


def _baselines(documents: tuple[Document, ...]) -> dict[str, float]:
    """Bits per byte of two compressors, each document alone, as the model reads them."""
    texts = [document.text.encode("utf-8") for document in documents]
    size = sum(map(len, texts))
    return {
        "xz": round(8 * sum(len(lzma.compress(text, preset=9)) for text in texts) / size, 4),
        "gzip": round(8 * sum(len(zlib.compress(text, level=9)) for text in texts) / size, 4),
    }


def _describe(corpus: Corpus) -> dict[str, Any]:
    return {
        "source": f"standard library of Python {platform.python_version()}, tests and IDLE left out",
        "train_files": len(corpus.train),
        "train_bytes": sum(document.bytes for document in corpus.train),
        "held_out_files": len(corpus.held_out),
        "held_out_bytes": sum(document.bytes for document in corpus.held_out),
    }


def _machine(device: torch.device) -> dict[str, str]:
    return {"device": describe(device.type), "python": platform.python_version(), "torch": torch.__version__}


def _thin(curve: list[Record]) -> list[dict[str, float]]:
    """About a hundred points, each the mean loss since the point before."""
    stride = max(1, len(curve) // CURVE_POINTS)
    groups = [curve[start : start + stride] for start in range(0, len(curve), stride)]
    return [
        {
            "step": group[-1].step,
            "loss": round(sum(record.loss for record in group) / len(group), 4),
            "learning_rate": group[-1].learning_rate,
        }
        for group in groups
    ]


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m mamba2_lab.pretrained.train", description=main.__doc__)
    parser.add_argument("name", choices=RECIPES, help="which model")
    parser.add_argument("--steps", type=int, help="fewer or more steps than the recipe's; 300 fit a laptop's patience")
    parser.add_argument("--device", help="cpu, cuda or mps; by default the fastest that passes the self-test")
    parser.add_argument("--folder", help="where to write; by default the box")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
