"""One token through a model in few operations, beside the blocks as they are written, in float64."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from support.oracle.mamba2 import perturb, relative_error
from torch import nn

from mamba2_lab import Mamba2LM, MambaLM
from mamba2_lab.layers import Block, CausalConv, GatedRMSNorm, Mamba2
from mamba2_lab.model import Mamba2Cache
from mamba2_lab.model.network import one_token
from mamba2_lab.operation import plainly

SHAPES = {
    "plain": {},
    "groups": {"ngroups": 2},
    "bias, a limit of the steps": {"bias": True, "dt_limit": (0.01, 0.05)},
    "no bias of the convolution": {"conv_bias": False, "d_conv": 2},
    "a learned first state": {"learnable_init_states": True},
    "the norm before the gate": {"norm_before_gate": True},
}


def model_of(**fields) -> Mamba2LM:
    sizes = {"d_model": 24, "n_layer": 3, "d_state": 16, "headdim": 8, "vocab_size": 50}
    model = Mamba2LM(**sizes, **fields, seed=3).eval()
    perturb(model, seed=3, size=0.3)
    return model


def after_prompt(model: MambaLM, b: int) -> tuple[torch.Tensor, Mamba2Cache]:
    ids = torch.randint(0, 50, (b, 9), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return ids[:, -1], model.prefill(ids[:, :-1])[1]


def in_float64(cache: Mamba2Cache) -> Mamba2Cache:
    return cache.map(lambda tensor: tensor.double() if tensor.is_floating_point() else tensor)


def left_behind(logits: torch.Tensor, states: tuple[Any, ...]) -> list[torch.Tensor]:
    return [logits, *(tensor for state in states for tensor in state.tensors().values())]


def as_written(model: MambaLM, tokens: torch.Tensor, cache: Mamba2Cache) -> list[torch.Tensor]:
    """Logits, and what each block leaves behind."""
    with torch.no_grad(), plainly():
        return left_behind(*model._step(tokens, cache.layers))


def by_definition(model: MambaLM, tokens: torch.Tensor, cache: Mamba2Cache) -> list[torch.Tensor]:
    """The same in float64."""
    return as_written(copy.deepcopy(model).double(), tokens, in_float64(cache))


def in_few_operations(model: MambaLM, tokens: torch.Tensor, cache: Mamba2Cache) -> list[torch.Tensor]:
    (way,) = [way for way in one_token.ways if way.name == "few operations"]
    arguments = (model, tokens, cache.layers, False)
    with torch.no_grad():
        assert way.serves(*arguments)
        return left_behind(*way.compute(*arguments))


@pytest.mark.parametrize("b", [1, 3])
@pytest.mark.parametrize("fields", SHAPES.values(), ids=SHAPES)
def test_a_token_leaves_what_its_definition_leaves(fields: dict, b: int) -> None:
    model = model_of(**fields)
    tokens, cache = after_prompt(model, b)
    for found, expected in zip(
        in_few_operations(model, tokens, cache), by_definition(model, tokens, cache), strict=True
    ):
        assert found.dtype == torch.float32
        assert relative_error(found, expected) <= 1e-6


@pytest.mark.parametrize(("dtype", "within"), [(torch.float64, 1e-14), (torch.bfloat16, 2e-2), (torch.float16, 2e-3)])
def test_weights_of_any_dtype(dtype: torch.dtype, within: float) -> None:
    model = model_of().to(dtype)
    tokens, cache = after_prompt(model, 2)
    for found, expected in zip(
        in_few_operations(model, tokens, cache), by_definition(model, tokens, cache), strict=True
    ):
        assert relative_error(found.double(), expected) <= within
    for found, before in zip(
        in_few_operations(model, tokens, cache)[1:], cache.layers[0].tensors().values(), strict=False
    ):
        assert found.dtype == before.dtype


def test_weights_of_several_dtypes_and_a_state_of_another() -> None:
    """Time scales may stay float32 where matrices are not, and a cache may come from a model in another dtype."""
    model = model_of()
    tokens, cache = after_prompt(model, 2)
    model.bfloat16()
    for block in model.layers:
        for name in ("A_log", "dt_bias", "D"):
            parameter = getattr(block.mixer, name)
            parameter.data = parameter.data.float()
    found, expected = in_few_operations(model, tokens, in_float64(cache)), as_written(model, tokens, cache)
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype
        assert relative_error(one.double(), other.double()) <= 2e-2


def test_the_cache_is_left_as_it_was() -> None:
    model = model_of()
    tokens, cache = after_prompt(model, 1)
    before = cache.clone()
    in_few_operations(model, tokens, cache)
    for layer, old in zip(cache.layers, before.layers, strict=True):
        assert all(torch.equal(layer.tensors()[name], tensor) for name, tensor in old.tensors().items())


def test_a_weight_that_is_changed_counts_at_once() -> None:
    """Nothing is kept from an earlier token: not even what `.data` is written to may be missed."""
    model = model_of()
    tokens, cache = after_prompt(model, 1)
    in_few_operations(model, tokens, cache)
    for name in ("A_log", "dt_bias", "D"):
        getattr(model.layers[1].mixer, name).data.add_(0.5)
    model.layers[0].mixer.conv1d.weight.data.mul_(2)
    for found, expected in zip(
        in_few_operations(model, tokens, cache), by_definition(model, tokens, cache), strict=True
    ):
        assert relative_error(found, expected) <= 1e-6


class Loud(Mamba2):
    """A mixer that somebody has written otherwise."""

    def skip(self, y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return 2 * super().skip(y, x)


def overridden(block: nn.Module) -> None:
    mixer = Loud(**block.mixer.config.to_dict())
    mixer.load_state_dict(block.mixer.state_dict())
    block.mixer = mixer


def gated_otherwise(block: nn.Module) -> None:
    block.mixer.gate = lambda y, z: y  # as an experiment does


def hooked(block: nn.Module) -> None:
    block.norm.register_forward_hook(lambda module, args, output: 2 * output)


def with_other_steps(block: nn.Module) -> None:
    block.mixer._step_size = lambda dt: 2 * Mamba2._step_size(block.mixer, dt)


def with_a_norm_of_another_class(block: nn.Module) -> None:
    class Halved(GatedRMSNorm):
        def forward(self, y: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
            return super().forward(y, z) / 2

    block.mixer.norm.__class__ = Halved


def without_a_gated_norm(block: nn.Module) -> None:
    class Gate(nn.Module):
        def forward(self, y: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
            return y * z

    block.mixer.norm = Gate()


def with_a_norm_before_the_gate(block: nn.Module) -> None:
    block.mixer.norm.norm_before_gate = True


def with_a_convolution_of_another_class(block: nn.Module) -> None:
    class Negated(CausalConv):
        def step(self, x_t: torch.Tensor, window: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            y_t, window = super().step(x_t, window)
            return -y_t, window

    block.mixer.conv1d.__class__ = Negated


def a_block_of_another_class(block: nn.Module) -> None:
    class Doubled(Block):
        def step(self, u_t: torch.Tensor, state: object) -> tuple[torch.Tensor, object]:
            y_t, state = super().step(u_t, state)
            return 2 * y_t, state

    block.__class__ = Doubled


def with_another_projection(block: nn.Module) -> None:
    block.mixer.in_proj = nn.Sequential(block.mixer.in_proj, nn.Tanh())


def with_a_parametrization(block: nn.Module) -> None:
    class Squared(nn.Module):
        def forward(self, weight: torch.Tensor) -> torch.Tensor:
            return weight**2

    for part, name in ((block.norm, "weight"), (block.mixer, "D"), (block.mixer.out_proj, "weight")):
        nn.utils.parametrize.register_parametrization(part, name, Squared())


def another_mixer(block: nn.Module) -> None:
    class Nothing(nn.Module):
        def step(self, u_t: torch.Tensor, state: object) -> tuple[torch.Tensor, object]:
            return u_t, state

    block.mixer = Nothing()


CHANGES = [
    overridden,
    gated_otherwise,
    hooked,
    with_other_steps,
    with_a_norm_of_another_class,
    without_a_gated_norm,
    with_a_norm_before_the_gate,
    with_a_convolution_of_another_class,
    a_block_of_another_class,
    with_another_projection,
    with_a_parametrization,
    another_mixer,
]


@pytest.mark.parametrize("change", CHANGES)
def test_what_somebody_has_changed_is_gone_through_as_it_is_written(change) -> None:
    model = model_of()
    tokens, cache = after_prompt(model, 1)
    unchanged = in_few_operations(model, tokens, cache)
    change(model.layers[1])
    changed = in_few_operations(model, tokens, cache)
    assert relative_error(changed[0], as_written(model, tokens, cache)[0].double()) <= 1e-6
    assert relative_error(changed[0], unchanged[0].double()) > 1e-4


def test_blocks_of_other_kinds_stand_among_them() -> None:
    fields = {"d_model": 24, "n_layer": 4, "vocab_size": 50, "d_intermediate": 32}
    mixers = {"mamba2": {"d_state": 16, "headdim": 8}, "mamba3": {"d_state": 16, "headdim": 8}}
    model = MambaLM(**fields, mixers=["mamba2", "mamba3", "mamba1", "mamba2"], **mixers, seed=3).eval()
    tokens, cache = after_prompt(model, 2)
    for found, expected in zip(
        in_few_operations(model, tokens, cache), by_definition(model, tokens, cache), strict=True
    ):
        assert relative_error(found, expected) <= 2e-6
