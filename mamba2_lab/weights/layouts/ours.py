"""Our layout: the fields of our configs, the names that the modules have. It holds every variant."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mamba2_lab.config import MIXERS, Mamba2Config, MambaConfig, StackFields
from mamba2_lab.weights.layouts.fields import as_config, as_json, require_fields

MODEL_TYPE = "mamba2_lab"


def recognises(found: Mapping[str, Any]) -> bool:
    """By its model_type."""
    return found.get("model_type") == MODEL_TYPE


def read_config(found: Mapping[str, Any], where: str) -> StackFields:
    """All fields must be there, those of mixers too, and no others."""
    fields = {name: value for name, value in found.items() if name != "model_type"}
    _require_all(fields, MambaConfig if "mixers" in fields else Mamba2Config, where)
    for name in MIXERS:
        if isinstance(of_mixer := fields.get(name), dict):
            _require_all({"d_model": None, **of_mixer}, MIXERS[name], f"{where}: {name}")
    return as_config(fields, where)


def _require_all(fields: Mapping[str, Any], kind: type[Any], where: str) -> None:
    require_fields(fields, [field.name for field in dataclasses.fields(kind)], where)


def our_name(name: str) -> str:
    """The same."""
    return name


def written(config: StackFields, weights: Mapping[str, Tensor]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The config with its type, and the weights as they are."""
    return {"model_type": MODEL_TYPE, **as_json(config.to_dict())}, dict(weights)
