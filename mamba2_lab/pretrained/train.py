"""Train a model for the box: `python -m mamba2_lab.pretrained.train medium`.

Writes weights (safetensors, bfloat16), config, tokenizer, the record of the run, a row of the comparison table, and a
card made from these. What stands on the card was measured on the very file that is shipped, read back. On several GPUs:
`torchrun --nproc_per_node 2 -m mamba2_lab.pretrained.train medium`.

The text is that of the packages that are installed: for `medium`, those of this suite with its extras lab and test,
beside those of a machine for deep learning (its record names them all).
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import shlex
from pathlib import Path
from typing import Any

import torch

from mamba2_lab.config import Mamba2Config
from mamba2_lab.data import pack
from mamba2_lab.health.choice import choose
from mamba2_lab.machine.files import write_text
from mamba2_lab.machine.freed_memory import keep_freed_memory
from mamba2_lab.machine.untrusted import read_json
from mamba2_lab.mamba2_lm import Mamba2LM
from mamba2_lab.pretrained import comparison, recipes
from mamba2_lab.pretrained.card import card
from mamba2_lab.pretrained.completions import COUNT, completions_of, headers, share_that_parses
from mamba2_lab.pretrained.provenance import launcher, machine, thin, today
from mamba2_lab.pretrained.recipes import MEDIUM, RECIPES, Recipe, Text
from mamba2_lab.text import Tokenizer
from mamba2_lab.training import Record, bits_per_byte, fit, is_main_process
from mamba2_lab.weights import BOX, WEIGHTS_NAME, load_tokenizer, save

RIVAL = "transformer"


def main(arguments: list[str] | None = None) -> None:
    """Train a model of the box, measure it on files it has not seen, and write it with its card."""
    options = _parse(arguments)
    keep_freed_memory()
    recipe = shortened(MEDIUM if options.name == RIVAL else RECIPES[options.name], options.steps)
    device = choose(options.device)
    print(f"computing on {device}", flush=True)
    text = recipes.read_text(recipe.packages_bytes, keep_copies=options.keep_copies)
    tokenizer = recipes.make_tokenizer(recipe, text)
    folder = Path(options.folder or BOX / options.name)
    if options.name == RIVAL:
        _train_rival(recipe, text, tokenizer, device.device)
        return
    model, curve = train(recipe, text, tokenizer, device.device, options.checkpoints)
    if not is_main_process():
        return
    if options.keep_copies:
        measured = bits_per_byte(model.bfloat16(), text.held_out, tokenizer)
        comparison.note({"name": options.name, "with_copies": round(measured, 4)}, text.held_out)
        print(f"{options.name}: {measured:.4f} bits per byte with the copies of held-out files left in")
    else:
        save(model.bfloat16(), folder, tokenizer=tokenizer)
        _measure(options.name, recipe, text, folder, device.device)
        write_text(folder / "record.json", json.dumps(_record(options, recipe, text, curve, folder), indent=1) + "\n")
    if (folder / "record.json").exists():  # not yet, where the run with the copies comes first
        write_card(options.name, folder)


def train(
    recipe: Recipe, text: Text, tokenizer: Tokenizer, device: torch.device, checkpoints: str | None = None
) -> tuple[Mamba2LM, list[Record]]:
    """The model of a recipe, and a record of each step; from the newest of the checkpoints, where there are some."""
    shape = Mamba2Config.from_dict({**recipe.shape, "vocab_size": tokenizer.vocab_size})
    model = Mamba2LM(shape, seed=recipe.training.seed, device=device)
    tokens = pack(text.weighted(recipe.library_weight), tokenizer)
    print(f"{model.num_parameters():,} parameters, {len(tokens):,} tokens of {tokenizer.vocab_size} kinds", flush=True)
    return model, fit(model, tokens, recipe.training, folder=checkpoints, resume=checkpoints is not None)


def shortened(recipe: Recipe, steps: int | None) -> Recipe:
    """The recipe with another number of steps."""
    if steps is None:
        return recipe
    training = dataclasses.replace(recipe.training, steps=steps, warmup_steps=min(recipe.training.warmup_steps, steps))
    return dataclasses.replace(recipe, training=training)


def write_card(name: str, folder: Path) -> None:
    """The card of a model, from its record and its row of the comparison table."""
    record = read_json(folder / "record.json")
    write_text(folder / "README.md", card(record, comparison.rows_by_name(), recipes.tuning_runs(name)))


def _train_rival(recipe: Recipe, text: Text, tokenizer: Tokenizer, device: torch.device) -> None:
    """A transformer by medium's recipe: measured, noted, not kept."""
    from mamba2_lab.yardsticks.transformer import Transformer

    model: Any = Transformer(tokenizer.vocab_size, recipe.training.seed).to(device)
    tokens = pack(text.weighted(recipe.library_weight), tokenizer)
    training = dataclasses.replace(recipe.training, compile=False)
    fit(model, tokens, training)
    if not is_main_process():
        return
    measured = bits_per_byte(model.bfloat16(), text.held_out, tokenizer)
    row = {
        "name": RIVAL,
        "bits_per_byte": round(measured, 4),
        "parameters": model.num_parameters(),
        "tokens": tokens_read(recipe),
        "note": "Llama's architecture (transformers), with medium's tokenizer, text, steps and optimiser",
    }
    comparison.note(row, text.held_out)
    print(f"{RIVAL}: {measured:.4f} bits per byte on held-out files")


def _measure(name: str, recipe: Recipe, text: Text, folder: Path, device: torch.device) -> None:
    """What the model in the folder needs for the held-out files, and how much of what it writes parses."""
    model, tokenizer = Mamba2LM.from_pretrained(folder, device=device), load_tokenizer(folder)
    measured = bits_per_byte(model, text.held_out, tokenizer, progress=True)
    prompts = headers(text.held_out, COUNT)
    row = {
        "name": name,
        "bits_per_byte": round(measured, 4),
        "parameters": model.num_parameters(),
        "tokens": tokens_read(recipe),
        "parses": share_that_parses(prompts, completions_of(model, tokenizer, prompts)),
        "note": "in the box",
    }
    comparison.note(row, text.held_out)
    print(f"{folder}: {measured:.4f} bits per byte on held-out files, {row['parses']:.0%} of its functions parse")


def _record(
    options: argparse.Namespace, recipe: Recipe, text: Text, curve: list[Record], folder: Path
) -> dict[str, Any]:
    weights = (folder / WEIGHTS_NAME).read_bytes()
    return {
        "model": options.name,
        "date": today(),
        "training": dataclasses.asdict(recipe.training),
        "tokenizer": "UTF-8 bytes" if recipe.vocab_size is None else f"BPE, {recipe.vocab_size} tokens",
        "tokens": tokens_read(recipe),
        "seconds": round(curve[-1].seconds, 1),
        "text": recipes.describe(text, recipe),
        "machine": machine(choose(options.device).device),
        "sha256": hashlib.sha256(weights).hexdigest(),
        "bytes": len(weights),
        "command": shlex.join(
            [*launcher(), "-m", "mamba2_lab.pretrained.train", options.name, "--steps", str(recipe.training.steps)]
        ),
        "curve": thin(curve),
    }


def tokens_read(recipe: Recipe) -> int:
    """How many tokens the training reads, those read again counted again."""
    return recipe.training.steps * recipe.training.batch_size * recipe.training.length


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m mamba2_lab.pretrained.train", description=main.__doc__)
    parser.add_argument("name", choices=[*RECIPES, RIVAL], help="which model; the transformer is measured, not kept")
    parser.add_argument("--steps", type=int, help="fewer or more steps than the recipe's")
    parser.add_argument("--device", help="cpu, cuda or mps; by default the fastest that passes the self-test")
    parser.add_argument("--folder", help="where to write; by default the box")
    parser.add_argument("--checkpoints", help="where to keep checkpoints, and go on from the newest")
    parser.add_argument(
        "--keep-copies",
        action="store_true",
        help="leave in vendored code and what shares lines with held-out files: a number for the card, no weights",
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
