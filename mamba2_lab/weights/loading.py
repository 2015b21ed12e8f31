"""A model from files, and into them, in any of the `layouts`.

It is read from safetensors, or else from pytorch_model.bin, a pickle that is looked at before (pickled.py). Pickles of
other names (.pt, .ckpt) are refused: unpickling runs whatever code the file holds. What is written is safetensors.
"""

from __future__ import annotations

import json
from pathlib import Path

import safetensors.torch
import torch
from tqdm.auto import tqdm

from mamba2_lab import text
from mamba2_lab.checks import require
from mamba2_lab.machine.files import replacing, write_text
from mamba2_lab.machine.untrusted import read_json
from mamba2_lab.model import LanguageModel
from mamba2_lab.text import Tokenizer
from mamba2_lab.weights.adapters import base_of, is_adapter, merge
from mamba2_lab.weights.build import Model, build, check_shapes, copied, renamed, tensors_of, weights_of, with_weights
from mamba2_lab.weights.files import WEIGHTS_NAME, files_at, tensors_in
from mamba2_lab.weights.layouts import FOR_TRANSFORMERS, WRITTEN, layout_of, ours
from mamba2_lab.weights.places import CONFIG_NAME, locate, weights_path
from mamba2_lab.weights.stored import require_stored


@torch.inference_mode(False)  # weights read under inference_mode could never be trained
def load(
    source: str | Path,
    model_class: type[Model],
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    weights: str | None = None,
) -> Model:
    """Read a model in any of the layouts: see `Mamba2LM.from_pretrained`, which is how to call it.

    Nothing is built, and no tensor read, before names and shapes in the files agree with the config. Only files of the
    folder are opened; what counts as such is said in `machine.untrusted`.

    Args:
        model_class: what to make of it.
    """
    require_stored("weights", weights)
    place = locate(source)
    if is_adapter(place.folder):
        model = load(base_of(place.folder), model_class, device=device, dtype=dtype)
        merge(place.folder, model)
        return model if weights is None else with_weights(model, weights)
    config_path, path = place.folder / CONFIG_NAME, weights_path(place)
    if not config_path.exists():
        raise FileNotFoundError(f"{place.folder} has no model: expected a file {CONFIG_NAME}")
    fields = read_json(config_path)
    layout = layout_of(fields, str(config_path))
    config = layout.read_config(fields, str(config_path))
    stored = ours.read_storage(fields, str(config_path))
    if stored is not None:
        require(weights in (None, stored), "weights", f"{stored}, as {place.folder} has them", weights)
    files = files_at(path)
    shapes = [item for file in files for item in file.shapes.items()]
    check_shapes(config, dict(renamed(shapes, layout.our_name, str(path))), str(path), stored)
    tensors = tqdm(
        tensors_in(files), total=len(shapes), desc="loading", unit="tensor", delay=1, disable=None, leave=False
    )
    tensors = renamed(tensors, layout.our_name, str(path))
    return build(model_class, config, tensors, str(path), copied(dtype, device), weights or stored)


def save(model: LanguageModel, folder: str | Path, *, tokenizer: Tokenizer | None = None, layout: str = "ours") -> None:
    """Write config.json and model.safetensors (and the tokenizer) into a folder, each file whole.

    Args:
        layout: "ours", which holds every variant; "official", for state-spaces/mamba; "transformers"; "mlx", for
            mlx-lm. The last two have the tokenizer in the files of transformers.

    Raises:
        ValueError: for another layout, and for a variant that the layout has no place for.
    """
    require(layout in WRITTEN, "layout", f"one of {', '.join(WRITTEN)}", layout)
    config, weights = WRITTEN[layout].written(model.config, (tensors_of if layout == "ours" else weights_of)(model))
    folder = Path(folder)
    with replacing(folder / WEIGHTS_NAME) as temporary:
        safetensors.torch.save_file(weights, temporary, metadata={"format": "pt"})
        write_text(folder / CONFIG_NAME, json.dumps(config, indent=2) + "\n")  # the new weights are whole: now both
    if tokenizer is not None:
        (text.save_for_transformers if layout in FOR_TRANSFORMERS else text.save)(tokenizer, folder)
