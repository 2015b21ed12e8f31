"""Tensors and a config made a model, and a model taken apart into tensors: names and shapes are compared before."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from mamba2_lab.config import LayerFields, StackFields
from mamba2_lab.layers import Block, norm_of
from mamba2_lab.machine.shapes import Shape
from mamba2_lab.machine.untrusted import CheckpointError
from mamba2_lab.model import LanguageModel
from mamba2_lab.weights.int8 import require_whole_weights

Model = TypeVar("Model", bound=LanguageModel)
T = TypeVar("T")
Keep = Callable[[str, Tensor], Tensor]  # what the model keeps of the tensor of this name


def weights_of(model: LanguageModel) -> dict[str, Tensor]:
    """The weights on the CPU, a tied head left out.

    Raises:
        ValueError: if they are stored in 8 bits.
    """
    require_whole_weights(model, "be saved or converted")
    tied = "lm_head.weight" if model.config.tie_embeddings else None
    return {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items() if name != tied}


def build(
    model_class: type[Model], config: StackFields, tensors: Iterable[tuple[str, Tensor]], where: str, keep: Keep
) -> Model:
    """A model of tensors under our names and of its shapes, one after another; `where` names their origin in errors.

    Args:
        keep: makes of each what the model keeps of it.
    """
    if config.tie_embeddings:
        tensors = _without_tied_head(tensors, where)
    model = model_class(config, device="meta")
    model.load_state_dict({name: keep(name, tensor) for name, tensor in tensors}, strict=False, assign=True)
    if config.tie_embeddings:  # assign=True has put new parameters in place: tie them again
        model.lm_head.weight = model.embedding.weight
    return model.requires_grad_(True)


def in_dtype(dtype: torch.dtype) -> Keep:
    """Every tensor in one dtype. What has it already stays where it is: the file itself, as the system maps it."""
    return lambda name, tensor: tensor.to(dtype).contiguous()


def _without_tied_head(tensors: Iterable[tuple[str, Tensor]], where: str) -> Iterator[tuple[str, Tensor]]:
    """Other layouts may store a tied head as well. It must then be what it is tied to."""
    pair: dict[str, Tensor] = {}
    for name, tensor in tensors:
        if name in ("embedding.weight", "lm_head.weight"):
            pair[name] = tensor
            if len(pair) == 2 and not torch.equal(*pair.values()):
                raise CheckpointError(
                    f"{where}: lm_head.weight: expected the embedding's weights, as the config ties them; found others"
                )
        if name != "lm_head.weight":
            yield name, tensor


def renamed(found: Iterable[tuple[str, T]], rename: Callable[[str], str], where: str) -> Iterator[tuple[str, T]]:
    """The same under other names: CheckpointError if two would have one."""
    seen = set()
    for name, value in found:
        if rename(name) in seen:
            raise CheckpointError(f"{where}: {name}: expected one tensor {rename(name)!r}; found it under two names")
        seen.add(rename(name))
        yield rename(name), value


def check_shapes(config: StackFields, found: Mapping[str, Shape], where: str) -> None:
    """CheckpointError unless these are the weights of this config, a tied head stored or not.

    The config may promise any number of layers: the first that is missing ends the comparison.
    """
    expected = {}
    for name, shape in shapes_of(config, where):
        if name not in found:
            raise CheckpointError(f"{where}: {name}: expected a tensor of shape {shape}; found none")
        if found[name] != shape:
            raise CheckpointError(f"{where}: {name}: expected shape {shape}; found {found[name]}")
        expected[name] = shape
    if config.tie_embeddings:
        expected["lm_head.weight"] = expected["embedding.weight"]
    for name, shape in found.items():
        if name not in expected:
            raise CheckpointError(f"{where}: {name}: expected no such tensor for this config; found one")
        if shape != expected[name]:
            raise CheckpointError(f"{where}: {name}: expected shape {expected[name]}; found {shape}")


def shapes_of(config: StackFields, where: str) -> Iterator[tuple[str, Shape]]:
    """Names and shapes of a model's weights, one after another, without building it.

    Raises:
        CheckpointError: beginning with `where`, for sizes of which no tensor could be made.
    """
    yield "embedding.weight", (config.padded_vocab_size, config.d_model)
    blocks: dict[LayerFields, dict[str, Shape]] = {}
    for i in range(config.n_layer):
        layer = config.layer(i)
        if layer not in blocks:
            blocks[layer] = _shapes_of(where, Block, config, i)
        for name, shape in blocks[layer].items():
            yield f"layers.{i}.{name}", shape
    for name, shape in _shapes_of(where, norm_of, config, config.d_model).items():
        yield f"norm_f.{name}", shape
    if not config.tie_embeddings:
        yield "lm_head.weight", (config.padded_vocab_size, config.d_model)


def _shapes_of(where: str, make: Callable[..., nn.Module], *args: Any) -> dict[str, Shape]:
    """Those of one module, which is made without numbers."""
    try:
        with torch.device("meta"):
            return {name: tuple(tensor.shape) for name, tensor in make(*args).state_dict().items()}
    except RuntimeError as error:  # too many numbers to be counted in 64 bits
        raise CheckpointError(f"{where}: expected sizes of which tensors can be made; found {error}") from error
