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
from mamba2_lab.fast import known, rows, token
from mamba2_lab.layers.rounded import in_4_bits, in_8_bits
from mamba2_lab.layers.stored import StoredProjection
from mamba2_lab.machine import threads
from mamba2_lab.model import Mamba2Cache
from mamba2_lab.model.network import one_token
from mamba2_lab.operation import plainly
from mamba2_lab.weights import with_weights

loops = pytest.importorskip("mamba2_lab.fast.loops")
sharing = pytest.importorskip("mamba2_lab.fast.sharing")
elementary = pytest.importorskip("mamba2_lab.fast.elementary")

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


def left_behind(logits: Tensor, states: tuple[Any, ...]) -> list[Tensor]:
    return [logits, *(tensor for state in states for tensor in state.tensors().values())]


def by_definition(model: MambaLM, tokens: Tensor, cache: Mamba2Cache) -> list[Tensor]:
    """Of the very weights that are kept, whatever they are kept in, in float64."""
    exact = copy.deepcopy(model).double()
    cache = cache.map(lambda tensor: tensor.double() if tensor.is_floating_point() else tensor)
    with torch.no_grad(), plainly():
        return left_behind(*exact._step(tokens, cache.layers))


def by_loops(model: MambaLM, tokens: Tensor, cache: Mamba2Cache, use_up: bool = False) -> list[Tensor]:
    with torch.no_grad():
        assert token.nobody_looks_on(model, tokens, cache.layers, use_up)
        return left_behind(*one_token(model, tokens, cache.layers, use_up))


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many layers each call of the loops goes through."""
    found: list[int] = []
    for name in ("_by_loops", "_with_products"):
        real = getattr(token, name)

        def counted(stretch: Any, *args: Any, real: Any = real) -> Any:
            found.append(len(stretch.blocks))
            return real(stretch, *args)

        monkeypatch.setattr(token, name, counted)
    return found


def assert_near(found: list[Tensor], expected: list[Tensor], within: float) -> None:
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        if one.numel():
            assert relative_error(one.double(), other) <= within


@pytest.mark.parametrize("b", [1, 2, rows.MOST_ROWS, 7])
@pytest.mark.parametrize("fields", SHAPES.values(), ids=SHAPES)
def test_a_token_leaves_what_its_definition_leaves(fields: dict[str, Any], b: int, calls: list[int]) -> None:
    model = model_of(**fields)
    tokens, cache = after_prompt(model, b)
    before = [tensor.clone() for tensor in left_behind(tokens, cache.layers)]
    assert_near(by_loops(model, tokens, cache), by_definition(model, tokens, cache), 1e-6)
    assert calls == [3]
    assert all(map(torch.equal, before, left_behind(tokens, cache.layers))), "the cache is a value"


def test_a_state_that_fades_away_takes_no_digits_of_the_next_along(calls: list[int]) -> None:
    model = model_of(n_layer=1)
    with torch.no_grad():
        model.layers[0].mixer.dt_bias.fill_(60.0)
        model.layers[0].mixer.A_log.fill_(0.0)
    tokens, cache = after_prompt(model, 2)
    (state,) = cache.layers
    state.ssm_state.mul_(1e8)
    assert_near(by_loops(model, tokens, cache), by_definition(model, tokens, cache), 1e-6)
    assert calls == [1]


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
    logits, window, state = by_loops(model, tokens, cache)
    expected_logits, expected_window, expected_state = by_definition(model, tokens, cache)
    assert_near([logits, state], [expected_logits, expected_state], 2e-6)
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


def test_token_after_token_is_what_it_is_from_any_copy_of_the_cache(calls: list[int]) -> None:
    """Where a state lies side by side with others, and where it comes from elsewhere; used up, or left as it was."""
    model = model_of()
    tokens, cache = after_prompt(model, 2)
    left, used = cache, cache
    for _ in range(4):
        before = [tensor.clone() for tensor in left_behind(tokens, left.layers)]
        with torch.no_grad():
            expected, elsewhere = model.advance(tokens, left.clone())
            found, following = model.advance(tokens, left)
            also, used = model.advance(tokens, used, use_up=True)
        assert torch.equal(found, expected) and torch.equal(also, expected)
        for state in (following, used):
            assert all(map(torch.equal, left_behind(found, state.layers), left_behind(found, elsewhere.layers)))
        assert all(map(torch.equal, before, left_behind(tokens, left.layers))), "the cache is a value"
        assert_near(left_behind(found, following.layers), by_definition(model, tokens, left), 1e-6)
        left = following
    assert calls == [3] * 12
    assert not any(map(torch.equal, left_behind(tokens, cache.layers)[1:], left_behind(tokens, used.layers)[1:]))


def windows_of(cache: Mamba2Cache) -> list[int]:
    return [layer.conv_window.data_ptr() for layer in cache.layers]


def test_a_cache_that_is_used_up_keeps_its_place() -> None:
    model = model_of()
    tokens, cache = after_prompt(model, 1)
    with torch.no_grad():
        _, cache = model.advance(tokens, cache)
        memories = [layer.ssm_state.data_ptr() for layer in cache.layers]
        _, following = model.advance(tokens, cache)
        _, used = model.advance(tokens, cache, use_up=True)
        _, again = model.advance(tokens, used, use_up=True)
    assert memories == [layer.ssm_state.data_ptr() for layer in used.layers]
    assert windows_of(cache) == windows_of(again) != windows_of(used), "two sheets take turns"
    assert not set(memories) & {layer.ssm_state.data_ptr() for layer in following.layers}


def test_a_state_that_was_moved_and_layers_that_part_otherwise_are_read_where_they_are() -> None:
    model = model_of(n_layer=4)
    tokens, cache = after_prompt(model, 1)
    with torch.no_grad():
        _, cache = model.advance(tokens, cache)
        cache.layers[1].ssm_state.set_(2 * cache.layers[1].ssm_state)  # the same tensor, in another place
        assert_near(by_loops(model, tokens, cache), by_definition(model, tokens, cache), 1e-6)
        model.layers[1].norm.eps = model.layers[2].norm.eps = 0.5  # stretches of 1, 2, 1 where there was one of 4
        _, cache = model.advance(tokens, cache)
        model.layers[0].norm.eps = 0.5  # now of 3, 1
        assert_near(by_loops(model, tokens, cache), by_definition(model, tokens, cache), 1e-6)


def _halve(head: nn.Module, *_: Any) -> Tensor:
    return _[-1] / 2


HEADS: dict[str, Callable[[MambaLM], Any]] = {
    "another eps": lambda model: setattr(model.norm_f, "eps", 1.0),
    "a hook of the norm": lambda model: model.norm_f.register_forward_hook(_halve),
    "a hook of the head": lambda model: model.lm_head.register_forward_hook(_halve),
    "another head": lambda model: setattr(model, "lm_head", nn.Linear(24, 64, bias=False)),
    "another norm": lambda model: setattr(model, "norm_f", nn.LayerNorm(24)),
    "a head with a bias": lambda model: setattr(model.lm_head, "bias", nn.Parameter(torch.arange(64.0))),
    "unembed overridden": lambda model: setattr(model, "unembed", lambda u: u[:, :1].expand(-1, 50)),
    "embed overridden": lambda model: setattr(model, "embed", lambda ids: torch.ones(len(ids), 24)),
}


@pytest.mark.parametrize("change", HEADS.values(), ids=HEADS)
def test_what_is_changed_before_and_behind_the_layers_counts_at_once(change: Callable[[MambaLM], Any]) -> None:
    model = model_of(pad_vocab_size_multiple=64)
    tokens, cache = after_prompt(model, 1)
    unchanged = by_loops(model, tokens, cache)
    assert unchanged[0].shape == (1, 50)
    change(model)
    changed = by_loops(model, tokens, cache)
    with torch.no_grad(), plainly():
        expected = left_behind(*model._step(tokens, cache.layers))
    assert_near(changed, expected, 2e-6)
    assert relative_error(changed[0], unchanged[0].double()) > 1e-4


def test_a_step_of_somebodys_own_is_taken() -> None:
    class Other(Mamba2LM):
        def _step(self, tokens: Tensor, layers: Any) -> Any:
            return torch.zeros(len(tokens), 50), layers

    model = Other(d_model=24, n_layer=1, d_state=16, headdim=8, vocab_size=50)
    tokens, cache = after_prompt(model, 1)
    with torch.no_grad():
        assert not model.advance(tokens, cache)[0].any()


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
    with torch.no_grad(), plainly():
        expected = left_behind(*model._step(tokens, cache.layers))
    assert_near(changed, expected, 2e-6)
    assert relative_error(changed[0], unchanged[0].double()) > 1e-4


def test_a_state_that_does_not_fit_is_never_read_by_address(calls: list[int]) -> None:
    model = model_of()
    tokens, cache = after_prompt(model, 2)
    with pytest.raises(ValueError, match="state"), torch.no_grad():
        model.advance(tokens, cache.select([0]))
    exact = cache.map(lambda tensor: tensor.double() if tensor.is_floating_point() else tensor)
    assert_near(by_loops(model, tokens, exact), by_definition(model, tokens, cache), 2e-6)
    assert calls == []


@pytest.mark.parametrize("name", ["norm.weight", "mixer.conv1d.weight", "mixer.D", "mixer.in_proj.weight"])
def test_a_parameter_of_another_size_is_never_read_by_address(name: str, calls: list[int]) -> None:
    model = model_of()
    tokens, cache = after_prompt(model, 1)
    with torch.no_grad():
        by_loops(model, tokens, cache)
        parameter = model.layers[1].get_parameter(name)
        parameter.data = parameter.data[:5]  # in the same place
        with pytest.raises(RuntimeError):
            model.advance(tokens, cache)
        model = model_of()
        model.embedding.weight.data = model.embedding.weight.data[:, :5].contiguous()
        with pytest.raises((RuntimeError, ValueError)):
            model.advance(tokens, cache)
    assert calls == [3, 1]  # the layer before the one that does not fit


def test_where_nothing_asks_for_gradients_the_loops_need_no_no_grad(calls: list[int]) -> None:
    model = model_of().requires_grad_(False)
    tokens, cache = after_prompt(model, 1)
    expected = by_definition(model, tokens, cache)
    logits, following = model.step(tokens, cache)
    assert_near(left_behind(logits, following.layers), expected, 2e-6)
    assert calls == [3] and not logits.requires_grad
    for asking in (model.layers[1].mixer.D, model.embedding.weight, cache.layers[2].ssm_state):
        asking.requires_grad_()
        model.step(tokens, cache)[0].sum().backward()
        assert asking.grad is not None and asking.grad.any()
        asking.requires_grad_(False)
    assert calls == [3]


def test_compiled_code_gives_way_to_the_loops_where_others_take_cores(
    calls: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_of()
    tokens, cache = after_prompt(model, 1)
    expected = by_loops(model, tokens, cache)
    model.compile(backend="eager")
    with torch.no_grad():
        for free, by_the_loops in ((1, 2), (2, 2), (1, 3)):
            monkeypatch.setattr(threads, "number", lambda free=free: free)
            monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
            assert_near([model.advance(tokens, cache)[0]], [expected[0].double()], 1e-5)
            assert calls == [3] * by_the_loops


def test_what_is_known_of_a_model_goes_with_it() -> None:
    model = model_of()
    by_loops(model, *after_prompt(model, 1))
    one, other = weakref.ref(model), weakref.ref(model.layers)
    assert known._known.get(model) is not None
    del model
    gc.collect()
    assert one() is None and other() is None


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
    found = np.array([elementary.exp(value) for value in values])
    assert np.abs(found / np.exp(values.astype(np.float64)) - 1).max() < 3e-7
    assert elementary.exp(np.float32(-1e30)) < 1e-37 and elementary.exp(np.float32(1e30)) > 1e38
    assert math.isnan(elementary.silu(np.float32("nan"))) and abs(elementary.silu(np.float32(-1e3))) < 1e-30


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
