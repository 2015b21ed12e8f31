"""One token by loops that numba compiles, beside the layers as they are written, in float64."""

from __future__ import annotations

import copy
import gc
import math
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from support.oracle.mamba2 import perturb, relative_error
from torch import Tensor, nn

from mamba2_lab import Mamba2LM, MambaLM
from mamba2_lab.fast import rows, token
from mamba2_lab.layers.rounded import in_4_bits, in_8_bits
from mamba2_lab.layers.stored import StoredProjection
from mamba2_lab.machine import threads
from mamba2_lab.model import Mamba2Cache
from mamba2_lab.model.network import through
from mamba2_lab.weights import with_weights

loops = pytest.importorskip("mamba2_lab.fast.loops")
sharing = pytest.importorskip("mamba2_lab.fast.sharing")

SHAPES: dict[str, dict[str, Any]] = {
    "plain": {},
    "odd sizes": {"d_model": 21, "expand": 3, "headdim": 7, "d_state": 13},
    "groups": {"ngroups": 3},
    "bias, a limit of the steps": {"bias": True, "dt_limit": (0.01, 0.05)},
    "no bias of the convolution, two taps": {"conv_bias": False, "d_conv": 2},
    "one tap": {"d_conv": 1},
    "a learned first state": {"learnable_init_states": True},
}


def model_of(**fields: Any) -> Mamba2LM:
    sizes = {"d_model": 24, "n_layer": 3, "d_state": 16, "headdim": 8, "vocab_size": 50}
    model = Mamba2LM(**{**sizes, **fields}, seed=3).eval()
    perturb(model, seed=3, size=0.3)
    return model


def after_prompt(model: MambaLM, b: int) -> tuple[Tensor, Mamba2Cache]:
    ids = torch.randint(0, 50, (b, 9), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return ids[:, -1], model.prefill(ids[:, :-1])[1]


def left_behind(u: Tensor, states: tuple[Any, ...]) -> list[Tensor]:
    return [u, *(tensor for state in states for tensor in state.tensors().values())]


def by_definition(model: MambaLM, tokens: Tensor, cache: Mamba2Cache) -> list[Tensor]:
    """Of the very weights that are kept, whatever they are kept in, in float64."""
    exact = copy.deepcopy(model).double()
    cache = cache.map(lambda tensor: tensor.double() if tensor.is_floating_point() else tensor)
    with torch.no_grad():
        return left_behind(*through.plain(exact.layers, exact.embed(tokens), cache.layers))


def by_loops(model: MambaLM, tokens: Tensor, cache: Mamba2Cache) -> list[Tensor]:
    with torch.no_grad():
        u = model.embed(tokens)
        assert token.nobody_looks_on(model.layers, u, cache.layers)
        return left_behind(*through(model.layers, u, cache.layers))


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many layers each call of the loops goes through."""
    found: list[int] = []
    real = token.Stretch._by_loops
    monkeypatch.setattr(
        token.Stretch, "_by_loops", lambda self, *args: found.append(len(self.blocks)) or real(self, *args)
    )
    return found


def assert_near(found: list[Tensor], expected: list[Tensor], within: float) -> None:
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        if one.numel():
            assert relative_error(one.double(), other) <= within


@pytest.mark.parametrize("b", [1, 2, rows.MOST_ROWS])
@pytest.mark.parametrize("fields", SHAPES.values(), ids=SHAPES)
def test_a_token_leaves_what_its_definition_leaves(fields: dict[str, Any], b: int, calls: list[int]) -> None:
    model = model_of(**fields)
    tokens, cache = after_prompt(model, b)
    before = [tensor.clone() for tensor in left_behind(tokens, cache.layers)]
    assert_near(by_loops(model, tokens, cache), by_definition(model, tokens, cache), 1e-6)
    assert calls == [3]
    assert all(map(torch.equal, before, left_behind(tokens, cache.layers))), "the cache is a value"


@pytest.mark.parametrize("kept", ["int8", "int4"])
@pytest.mark.parametrize("d_model", [24, 64, 104])
def test_matrices_in_8_and_4_bits_count_as_what_they_stand_for(kept: str, d_model: int, calls: list[int]) -> None:
    model = with_weights(model_of(d_model=d_model), kept)
    tokens, cache = after_prompt(model, 2)
    assert_near(by_loops(model, tokens, cache), by_definition(model, tokens, cache), 2e-6)
    assert calls == [3]


def test_weights_in_bfloat16_are_rounded_nowhere_but_in_the_window(calls: list[int]) -> None:
    model = model_of(n_layer=1).bfloat16()
    tokens, cache = after_prompt(model, 2)
    u, window, state = by_loops(model, tokens, cache)
    expected_u, expected_window, expected_state = by_definition(model, tokens, cache)
    assert_near([u, state], [expected_u, expected_state], 2e-6)
    assert window.dtype == torch.bfloat16
    assert torch.equal(window, expected_window.float().bfloat16())
    assert calls == [1]


def test_layers_of_other_kinds_part_the_stretches(calls: list[int]) -> None:
    fields = {"d_model": 24, "n_layer": 6, "vocab_size": 50}
    names = ["mamba2", "mamba2", "mamba3", "mamba1", "mamba2", "mamba2"]
    model = MambaLM(**fields, mixers=names, mamba2={"d_state": 16, "headdim": 8}, mamba3={"d_state": 16, "headdim": 8})
    tokens, cache = after_prompt(model, 2)
    assert_near(by_loops(model, tokens, cache), by_definition(model, tokens, cache), 2e-6)
    assert calls == [2, 2]


CHANGES: dict[str, Callable[[nn.Module], Any]] = {
    "another eps": lambda block: setattr(block.norm, "eps", 1.0),
    "no activation": lambda block: setattr(block.mixer.conv1d, "activation", False),
    "a weight in another place": lambda block: setattr(block.mixer.D, "data", block.mixer.D.data + 1),
    "another parameter": lambda block: setattr(block.mixer.out_proj, "weight", nn.Parameter(torch.ones(24, 48))),
    "a weight in the same place": lambda block: block.mixer.in_proj.weight.data.mul_(2),
    "a matrix that is not contiguous": lambda block: setattr(
        block.mixer.in_proj.weight, "data", (2 * block.mixer.in_proj.weight.data).t().contiguous().t()
    ),
    "a hook of a projection": lambda block: block.mixer.out_proj.register_forward_hook(lambda *args: 2 * args[2]),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_is_changed_between_two_tokens_counts_at_once(change: Callable[[nn.Module], Any]) -> None:
    model = model_of()
    tokens, cache = after_prompt(model, 1)
    unchanged = by_loops(model, tokens, cache)
    change(model.layers[1])
    changed = by_loops(model, tokens, cache)
    with torch.no_grad():
        expected = left_behind(*through.plain(model.layers, model.embed(tokens), cache.layers))
    assert_near(changed, expected, 2e-6)
    assert relative_error(changed[0], unchanged[0].double()) > 1e-4


def test_a_state_that_does_not_fit_is_never_read_by_address(calls: list[int]) -> None:
    model = model_of()
    tokens, cache = after_prompt(model, 2)
    with pytest.raises(ValueError, match="state"), torch.no_grad():
        through(model.layers, model.embed(tokens), cache.select([0]).layers)
    exact = cache.map(lambda tensor: tensor.double() if tensor.is_floating_point() else tensor)
    assert_near(by_loops(model, tokens, exact), by_definition(model, tokens, cache), 2e-6)
    assert calls == []


@pytest.mark.parametrize("name", ["norm.weight", "mixer.conv1d.weight", "mixer.D", "mixer.in_proj.weight"])
def test_a_parameter_of_another_size_is_never_read_by_address(name: str, calls: list[int]) -> None:
    model = model_of()
    tokens, cache = after_prompt(model, 1)
    with torch.no_grad():
        u = model.embed(tokens)
        by_loops(model, tokens, cache)
        parameter = model.layers[1].get_parameter(name)
        parameter.data = parameter.data[:5]  # in the same place
        with pytest.raises(RuntimeError):
            through(model.layers, u, cache.layers)
        with pytest.raises((RuntimeError, ValueError)):
            through(model_of().layers, u[:, :5].contiguous(), cache.layers)
    assert calls == [3, 1]  # the layer before the one that does not fit


def test_what_is_known_of_a_stack_goes_with_it() -> None:
    model = model_of()
    by_loops(model, *after_prompt(model, 1))
    stack = weakref.ref(model.layers)
    assert token._known.get(model.layers) is not None
    del model
    gc.collect()
    assert stack() is None


# Threads


def with_threads(count: int, work: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(rows, "LEAST_TO_SHARE", 0)
    monkeypatch.setattr(threads, "most", lambda: count)
    return work()


@pytest.mark.parametrize("count", [2, 5])
def test_any_number_of_threads_gives_the_same_bits(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of(d_model=64, n_layer=4)
    tokens, cache = after_prompt(model, 3)
    alone = by_loops(model, tokens, cache)
    for _ in range(50):
        found = with_threads(count, lambda: by_loops(model, tokens, cache), monkeypatch)
        assert all(map(torch.equal, found, alone))


def test_a_thread_that_never_comes_is_not_waited_for_and_one_that_comes_late_changes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = model_of()
    tokens, cache = after_prompt(model, 1)
    alone, jobs = by_loops(model, tokens, cache), []
    monkeypatch.setattr(rows.helpers, "ask", lambda count, job: jobs.append(job))
    found = with_threads(2, lambda: by_loops(model, tokens, cache), monkeypatch)
    assert len(jobs) == 1
    for job in jobs:
        job()
    assert all(map(torch.equal, found, alone))


def test_a_product_is_shared_by_threads_too(monkeypatch: pytest.MonkeyPatch) -> None:
    weight, input = torch.randn(700, 300), torch.randn(2, 300)
    with torch.no_grad():
        for matrix in (weight, in_8_bits(weight), in_4_bits(weight)):
            project = StoredProjection(matrix, 300) if isinstance(matrix, tuple) else nn.functional.linear
            arguments = (input,) if isinstance(matrix, tuple) else (input, weight)
            one = project(*arguments)
            two = with_threads(2, lambda project=project, arguments=arguments: project(*arguments), monkeypatch)
            assert torch.equal(one, two)


# Numbers


def test_exp_is_right_to_rounding_and_lets_nan_through() -> None:
    values = np.linspace(-87, 88, 20001).astype(np.float32)
    found = np.array([loops._exp(value) for value in values])
    assert np.abs(found / np.exp(values.astype(np.float64)) - 1).max() < 3e-7
    assert loops._exp(np.float32(-1e30)) < 1e-37 and loops._exp(np.float32(1e30)) > 1e38
    assert math.isnan(loops._silu(np.float32("nan"))) and abs(loops._silu(np.float32(-1e3))) < 1e-30


def test_a_model_that_broke_shows_it() -> None:
    model = model_of()
    tokens, cache = after_prompt(model, 1)
    with torch.no_grad():
        model.layers[1].mixer.dt_bias[0] = torch.nan
    assert by_loops(model, tokens, cache)[0].isnan().all()


def test_where_nothing_can_be_written_loops_are_compiled_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    real = sharing.njit

    def nowhere(*args: Any, cache: bool = False, **flags: Any) -> Any:
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return real(*args, **flags)

    monkeypatch.setattr(sharing, "njit", nowhere)
    assert sharing.loop()(lambda a: a + 1)(1) == 2
