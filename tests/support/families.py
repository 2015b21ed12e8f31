"""A small model of each family: every mixer in its variants, and one of all four; each beside its float64 oracle."""

from __future__ import annotations

from typing import Any

import pytest
from support.devices import DEVICE
from support.oracle.language_model import Layer, language_model
from support.small_models import spread_out
from torch import Tensor

from mamba2_lab import MambaConfig, MambaLM
from mamba2_lab.config import AttentionFields, Mamba1Fields, Mamba2Fields, Mamba3Fields, StackFields
from mamba2_lab.config.fields import Fields

_MAMBA1 = {"d_state": 4, "dt_rank": 3}
_MAMBA2 = {"d_state": 8, "headdim": 8, "ngroups": 2, "chunk_size": 4}
_SISO = {"d_state": 8, "headdim": 8, "ngroups": 2, "chunk_size": 4}
_MIMO = {"d_state": 4, "headdim": 8, "rope_fraction": 1.0, "is_mimo": True, "mimo_rank": 2, "is_outproj_norm": True}
_ATTENTION = {"num_heads": 4, "num_heads_kv": 2, "head_dim": 6, "d_conv": 3, "rotary_emb_dim": 4}

FAMILIES: dict[str, dict[str, Any]] = {
    "mamba1": {"mixers": "mamba1", "mamba1": _MAMBA1},
    "falcon": {
        "mixers": "mamba1",
        "mamba1": {**_MAMBA1, "b_c_dt_rms": True, "b_c_dt_rms_eps": 1e-3},
        "tie_embeddings": False,
    },
    "mamba2": {"mixers": "mamba2", "mamba2": _MAMBA2},
    "mamba3-siso": {"mixers": "mamba3", "mamba3": _SISO},
    "mamba3-mimo": {"mixers": "mamba3", "mamba3": {**_MIMO, "chunk_size": 4}, "d_intermediate": 24},
    "attention": {"mixers": "attention", "attention": _ATTENTION, "d_intermediate": 24},
    "hybrid": {
        "n_layer": 4,
        "mixers": ["mamba1", "attention", "mamba3", "mamba2"],
        "mamba1": _MAMBA1,
        "mamba2": _MAMBA2,
        "mamba3": {**_MIMO, "is_outproj_norm": False, "A_activation": "softplus"},
        "attention": {**_ATTENTION, "d_conv": 0, "num_heads_kv": None},
        "d_intermediate": 24,
        "rms_norm": False,
        "norm_eps": 1e-3,
    },
}
NAMES = list(FAMILIES)
OF_EACH_GENERATION = ["mamba1", "mamba2", "mamba3-mimo", "attention"]

each_family = pytest.mark.parametrize("family", NAMES)


def family_config(family: str, **changes: Any) -> MambaConfig:
    """Its config, with fields of the stack replaced."""
    return MambaConfig.from_dict({"d_model": 16, "n_layer": 2, "vocab_size": 257, **FAMILIES[family], **changes})


def family_model(family: str, seed: int = 0, spread: float = 0.3, **changes: Any) -> MambaLM:
    """As `small_model`: every weight random, for a fresh model has ones, zeros and tiny embeddings."""
    model = MambaLM(family_config(family, **changes), seed=seed)
    return spread_out(model, seed, spread).to(DEVICE).eval()


def expected_logits(model: MambaLM, input_ids: Tensor, weights: dict[str, Tensor] | None = None) -> Tensor:
    """(b,l,vocab_size) from the float64 oracle of the whole model, with its weights or with others."""
    config = model.config
    layers = [_as_the_oracle_knows(config, i) for i in range(config.n_layer)]
    sizes = {"vocab_size": config.vocab_size, "norm_eps": config.norm_eps}
    return language_model(weights or model.state_dict(), input_ids, layers, **sizes)


def _as_the_oracle_knows(config: StackFields, i: int) -> Layer:
    layer = config.layer(i)
    return Layer(layer.mixer, _settings(layer.fields))


def _settings(fields: Fields) -> dict[str, Any]:
    match fields:
        case Mamba1Fields():
            return {"b_c_dt_rms_eps": fields.b_c_dt_rms_eps if fields.b_c_dt_rms else None}
        case Mamba2Fields():
            names = ("ngroups", "dt_limit", "norm_before_gate", "norm_eps")
        case Mamba3Fields():
            names = ("rope_fraction", "ngroups", "A_floor", "A_activation")
        case AttentionFields():
            names = ("num_heads", "softmax_scale", "rotary_emb_dim", "rotary_emb_base", "rotary_emb_interleaved")
    return {name: getattr(fields, name) for name in names}
