"""Tensors and a config made a model, and a model taken apart into tensors: names and shapes are compared before."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from mamba2_lab.config import LayerFields, StackFields
from mamba2_lab.layers import Block, Projection, norm_of
from mamba2_lab.machine.shapes import Shape
from mamba2_lab.machine.untrusted import CheckpointError
from mamba2_lab.model import LanguageModel
from mamba2_lab.weights.stored import is_of_numbers, is_stored, laid_out, lay_out, require_floats, rounded

Model = TypeVar("Model", bound=LanguageModel)
T = TypeVar("T")
Keep = Callable[[str, Tensor], Tensor]  # what the model keeps of the tensor of this name


def weights_of(model: LanguageModel) -> dict[str, Tensor]:
    """The weights on the CPU, a tied head left out.

    Raises:
        ValueError: if they are stored in 8 or 4 bits.
    """
    require_floats(model, "be saved in another layout than ours, or converted")
    return tensors_of(model)


def tensors_of(model: LanguageModel) -> dict[str, Tensor]:
    """The same, stored in whichever way; scales in bfloat16, which holds them exactly."""
    tied = "lm_head." if model.config.tie_embeddings else None
    tensors = {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
    return {
        name: (tensor.bfloat16() if name.endswith(".scales") else tensor).contiguous()
        for name, tensor in tensors.items()
        if tied is None or not name.startswith(tied)
    }


def with_weights(model: Model, weights: str) -> Model:
    """A copy of the model whose matrices are stored in 8 or 4 bits, "int8" or "int4"; it computes in the old dtype.

    Such a copy can read, write and be saved, and not be trained. `from_pretrained(..., weights="int8")` makes one
    without the model in floats.
    """
    require_floats(model, "be stored in 8 or 4 bits")
    tensors = model.state_dict().items()
    copy = build(type(model), model.config, tensors, "model", copied(model.dtype, model.device), weights)
    return copy.train(model.training)


def build(
    model_class: type[Model],
    config: StackFields,
    tensors: Iterable[tuple[str, Tensor]],
    where: str,
    keep: Keep,
    weights: str | None = None,
) -> Model:
    """A model of tensors under our names and of its shapes, one after another; `where` names their origin in errors.

    Args:
        keep: makes of each what the model keeps of it.
        weights: how its matrices are stored, "int8" or "int4": those among the tensors, or those to be made of them.
    """
    if config.tie_embeddings:
        tensors = _without_tied_head(tensors, where)
    model = model_class(config, device="meta")
    if weights is not None:
        tensors = rounded(tensors, weights, lay_out(model, weights))
    kept = {name: keep(name, tensor) for name, tensor in tensors}
    _require_numbers(kept, weights, where)
    model.load_state_dict(kept, strict=False, assign=True)
    if config.tie_embeddings:  # assign=True has put new parameters in place: tie them again
        for name, parameter in model.embedding.named_parameters():
            setattr(model.lm_head, name, parameter)
    return model.requires_grad_(weights is None)


def _require_numbers(tensors: Mapping[str, Tensor], weights: str | None, where: str) -> None:
    """CheckpointError unless the whole numbers among them are those of matrices that are stored so."""
    expected = {None: None, "int8": torch.int8, "int4": torch.uint8}[weights]
    for name, tensor in tensors.items():
        if is_of_numbers(name) and tensor.dtype != expected:
            raise CheckpointError(f"{where}: {name}: expected {expected}; found {tensor.dtype}")


def copied(dtype: torch.dtype, device: torch.device | str) -> Keep:
    """Of every tensor a copy on the device: of floats in one dtype, of whole numbers in their own.

    A copy in any case: what is mapped from a file would change when somebody writes to that, and end the process when
    it is cut short.
    """

    def keep(name: str, tensor: Tensor) -> Tensor:
        kept = dtype if tensor.is_floating_point() else tensor.dtype
        return tensor.to(kept, copy=True, memory_format=torch.contiguous_format).to(device)

    return keep


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


def check_shapes(config: StackFields, found: Mapping[str, Shape], where: str, weights: str | None = None) -> None:
    """CheckpointError unless these are the weights of this config, a tied head among them or not.

    Matrices stored in 8 or 4 bits have two tensors each, and a tied head has none then. The config may promise any
    number of layers: the first that is missing ends the comparison.
    """
    expected = {}
    for name, shape in shapes_of(config, where, weights):
        if name not in found:
            raise CheckpointError(f"{where}: {name}: expected a tensor of shape {shape}; found none")
        if found[name] != shape:
            raise CheckpointError(f"{where}: {name}: expected shape {shape}; found {found[name]}")
        expected[name] = shape
    if config.tie_embeddings and weights is None:
        expected["lm_head.weight"] = expected["embedding.weight"]
    for name, shape in found.items():
        if name not in expected:
            raise CheckpointError(f"{where}: {name}: expected no such tensor for this config; found one")
        if shape != expected[name]:
            raise CheckpointError(f"{where}: {name}: expected shape {expected[name]}; found {shape}")


def shapes_of(config: StackFields, where: str, weights: str | None = None) -> Iterator[tuple[str, Shape]]:
    """Names and shapes of a model's weights, in floats or stored otherwise, one after another, without building it.

    Raises:
        CheckpointError: beginning with `where`, for sizes of which no tensor could be made.
    """
    vocabulary = (config.padded_vocab_size, config.d_model)
    for name, shape in _shapes_of(where, weights, nn.Embedding, *vocabulary).items():
        yield f"embedding.{name}", shape
    blocks: dict[LayerFields, dict[str, Shape]] = {}
    for i in range(config.n_layer):
        layer = config.layer(i)
        if layer not in blocks:
            blocks[layer] = _shapes_of(where, weights, Block, config, i)
        for name, shape in blocks[layer].items():
            yield f"layers.{i}.{name}", shape
    for name, shape in _shapes_of(where, weights, norm_of, config, config.d_model).items():
        yield f"norm_f.{name}", shape
    if not config.tie_embeddings:
        for name, shape in _shapes_of(where, weights, Projection, *reversed(vocabulary), False).items():
            yield f"lm_head.{name}", shape


def _shapes_of(where: str, weights: str | None, make: Callable[..., nn.Module], *args: Any) -> dict[str, Shape]:
    """Those of one module, which is made without numbers."""
    try:
        with torch.device("meta"):
            module = make(*args)
            if weights is not None and is_stored(module):
                module = laid_out(module, weights)
            elif weights is not None:
                lay_out(module, weights)
            return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    except RuntimeError as error:  # too many numbers to be counted in 64 bits
        raise CheckpointError(f"{where}: expected sizes of which tensors can be made; found {error}") from error
