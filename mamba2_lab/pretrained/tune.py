"""Try a change of a recipe by a short run: `python -m mamba2_lab.pretrained.tune medium steps=300 learning_rate=4e-3`.

Changes are fields of `Recipe`, of `TrainingConfig`, or of the model's config. A row is added to tuning.jsonl for each
run; nothing else is kept.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from typing import Any

from mamba2_lab.config import Mamba2Config
from mamba2_lab.health.choice import choose
from mamba2_lab.pretrained import recipes
from mamba2_lab.pretrained.provenance import machine, thin, today
from mamba2_lab.pretrained.recipes import RECIPES, Recipe, make_tokenizer, read_text
from mamba2_lab.pretrained.train import train
from mamba2_lab.training import TrainingConfig, bits_per_byte


def main(arguments: list[str] | None = None) -> None:
    """Train a changed recipe, measure it on the held-out files, and note the result in tuning.jsonl."""
    parser = argparse.ArgumentParser(prog="python -m mamba2_lab.pretrained.tune", description=main.__doc__)
    parser.add_argument("name", choices=RECIPES, help="whose recipe to change")
    parser.add_argument("changes", nargs="*", type=_change, metavar="NAME=VALUE", help="what to change")
    parser.add_argument("--device", help="cpu, cuda or mps; by default the fastest that passes the self-test")
    options = parser.parse_args(arguments)
    changes, device = dict(options.changes), choose(options.device).device
    recipe = changed(RECIPES[options.name], changes)
    text = read_text(recipe.packages_bytes)
    tokenizer = make_tokenizer(recipe, text)
    model, curve = train(recipe, text, tokenizer, device)
    row = {
        "recipe": options.name,
        "changes": changes,
        "settings": settings(recipe),
        "parameters": model.num_parameters(),
        "bits_per_byte": round(bits_per_byte(model, text.held_out, tokenizer), 4),
        "seconds": round(curve[-1].seconds, 1),
        "machine": machine(device),
        "date": today(),
        "curve": thin(curve),
    }
    note(row)
    print(f"{options.name} with {changes}: {row['bits_per_byte']} bits per byte")


def _change(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"a change must be NAME=VALUE; got {text!r}")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


def changed(recipe: Recipe, changes: dict[str, Any]) -> Recipe:
    """The recipe with fields of its own, of its training or of its model's shape replaced.

    Raises:
        ValueError: for a name that is none of them.
    """
    own, training, shape = (_names(kind) for kind in (Recipe, TrainingConfig, Mamba2Config))
    for name in changes:
        if name not in own | training | shape:
            raise ValueError(f"changes must name fields of Recipe, TrainingConfig or Mamba2Config; got {name!r}")
    return dataclasses.replace(
        recipe,
        **{name: value for name, value in changes.items() if name in own},
        training=dataclasses.replace(recipe.training, **{k: v for k, v in changes.items() if k in training}),
        shape={**recipe.shape, **{k: v for k, v in changes.items() if k in shape - own}},
    )


def settings(recipe: Recipe) -> dict[str, Any]:
    """All that a run is made of: a recipe may be another one later, and a change of it would mean something else.

    Without the limits of dt: no recipe has any, and JSON has no infinity.
    """
    fields = dataclasses.asdict(recipe)
    shape = {name: value for name, value in fields.pop("shape").items() if name != "dt_limit"}
    return {**shape, **fields.pop("training"), **fields}


def _names(kind: type) -> set[str]:
    return {field.name for field in dataclasses.fields(kind)} - {"training", "shape"}


def note(row: dict[str, Any]) -> None:
    """Add a run to the notes: a line, written at once, so that runs side by side do not lose each other's."""
    with recipes.TUNING.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
