"""Tensors and a config made a model, and a model taken apart into tensors: names and shapes are compared before."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

import torch
from torch import Tensor

from mamba2_lab.config import Mamba2Config
from mamba2_lab.machine.untrusted import CheckpointError
from mamba2_lab.model import LanguageModel
from mamba2_lab.weights.files import Shape
from mamba2_lab.weights.int8 import require_whole_weights

Model = TypeVar("Model", bound=LanguageModel)
T = TypeVar("T")


def weights_of(model: LanguageModel) -> dict[str, Tensor]:
    """The weights on the CPU, a tied head left out.

    Raises:
        ValueError: if they are stored in 8 bits.
    """
    require_whole_weights(model, "be saved or converted")
    tied = "lm_head.weight" if model.config.tie_embeddings else None
    return {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items() if name != tied}


def build(
    model_class: type[Model], config: Mamba2Config, weights: dict[str, Tensor], where: str, dtype: torch.dtype
) -> Model:
    """A model from weights under our names and of its shapes; `where` names their origin in errors."""
    if config.tie_embeddings:
        _drop_tied_head(weights, where)
    model = model_class(config, device="meta")
    model.load_state_dict({name: tensor.to(dtype) for name, tensor in weights.items()}, strict=False, assign=True)
    if config.tie_embeddings:  # assign=True has put new parameters in place: tie them again
        model.lm_head.weight = model.embedding.weight
    return model.requires_grad_(True)


def _drop_tied_head(weights: dict[str, Tensor], where: str) -> None:
    """Other layouts may store a tied head as well. It must then be what it is tied to."""
    head = weights.pop("lm_head.weight", None)
    embedding = weights.get("embedding.weight")
    if head is not None and embedding is not None and not torch.equal(head, embedding):
        raise CheckpointError(
            f"{where}: lm_head.weight: expected the embedding's weights, since the config ties them; found others"
        )


def renamed(found: Mapping[str, T], rename: Callable[[str], str], where: str) -> dict[str, T]:
    """The same under other names: CheckpointError if two would have one."""
    result: dict[str, T] = {}
    for name, value in found.items():
        if rename(name) in result:
            raise CheckpointError(f"{where}: {name}: expected one tensor {rename(name)!r}; found it under two names")
        result[rename(name)] = value
    return result


def check_shapes(config: Mamba2Config, found: Mapping[str, Shape], where: str) -> None:
    """CheckpointError unless these are the weights of this config, a tied head stored or not.

    The config may promise any number of layers: the first that is missing ends the comparison.
    """
    expected = {}
    for name, shape in shapes_of(config):
        if name not in found:
            raise CheckpointError(f"{where}: {name}: expected a tensor of shape {shape}; found none")
        expected[name] = shape
    if config.tie_embeddings:
        expected["lm_head.weight"] = expected["embedding.weight"]
    for name, shape in found.items():
        if name not in expected:
            raise CheckpointError(f"{where}: {name}: expected no such tensor for this config; found one")
        if shape != expected[name]:
            raise CheckpointError(f"{where}: {name}: expected shape {expected[name]}; found {shape}")


def shapes_of(config: Mamba2Config) -> Iterator[tuple[str, Shape]]:
    """Names and shapes of a model's weights, one after another, without building it."""
    block = _shapes_of_a_block(config)
    yield "embedding.weight", (config.padded_vocab_size, config.d_model)
    for i in range(config.n_layer):
        for name, shape in block.items():
            yield f"layers.{i}.{name}", shape
    yield "norm_f.weight", (config.d_model,)
    if not config.tie_embeddings:
        yield "lm_head.weight", (config.padded_vocab_size, config.d_model)


def _shapes_of_a_block(config: Mamba2Config) -> dict[str, Shape]:
    d_model, d_inner, heads = config.d_model, config.d_inner, config.nheads
    d_in_proj = d_inner + config.conv_dim + heads
    shapes: dict[str, Shape] = {
        "norm.weight": (d_model,),
        "mixer.in_proj.weight": (d_in_proj, d_model),
        "mixer.conv1d.weight": (config.conv_dim, 1, config.d_conv),
        "mixer.dt_bias": (heads,),
        "mixer.A_log": (heads,),
        "mixer.D": (heads,),
        "mixer.norm.weight": (d_inner,),
        "mixer.out_proj.weight": (d_model, d_inner),
    }
    if config.bias:
        shapes |= {"mixer.in_proj.bias": (d_in_proj,), "mixer.out_proj.bias": (d_model,)}
    if config.conv_bias:
        shapes["mixer.conv1d.bias"] = (config.conv_dim,)
    if config.learnable_init_states:
        shapes["mixer.init_states"] = (heads, config.headdim, config.d_state)
    return shapes
