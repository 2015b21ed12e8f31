"""Our layout: the fields of `Mamba2Config`, the names that the modules have. It holds every variant."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mamba2_lab.config import Mamba2Config
from mamba2_lab.weights.layouts.fields import as_config, require_fields

MODEL_TYPE = "mamba2_lab"


def recognises(found: Mapping[str, Any]) -> bool:
    """By its model_type."""
    return found.get("model_type") == MODEL_TYPE


def read_config(found: Mapping[str, Any], where: str) -> Mamba2Config:
    """All fields must be there, and no others."""
    fields = {name: value for name, value in found.items() if name != "model_type"}
    require_fields(fields, [field.name for field in dataclasses.fields(Mamba2Config)], where)
    return as_config(fields, where)


def our_name(name: str) -> str:
    """The same."""
    return name


def written(config: Mamba2Config, weights: Mapping[str, Tensor]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The config with its type, and the weights as they are."""
    return {"model_type": MODEL_TYPE, **_jsonable(config.to_dict())}, dict(weights)


def _jsonable(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Infinity in the way of transformers, {"__float__": "Infinity"}: a bare Infinity is no JSON."""

    def plain(value: Any) -> Any:
        if isinstance(value, tuple):
            return [plain(item) for item in value]
        return {"__float__": "Infinity"} if value == math.inf else value

    return {name: plain(value) for name, value in fields.items()}
