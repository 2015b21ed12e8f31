"""A prompt by loops that numba compiles, beside the recurrence and the definitions in float64."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from support.oracle.mamba2 import recurrence, relative_error
from torch import Tensor

from mamba2_lab import Mamba2LM
from mamba2_lab.fast import rows, sequence
from mamba2_lab.layers.convolution import convolve
from mamba2_lab.layers.mamba2 import Discretised, Mamba2, scan_and_skip
from mamba2_lab.layers.norm import gate_and_normalise
from mamba2_lab.operation import Way, plainly
from mamba2_lab.scan.arguments import RESTART
from mamba2_lab.scan.chunks import in_stretches

pytest.importorskip("numba")

SHAPES = [  # b, l, h, p, g, n
    (1, 1, 1, 1, 1, 1),
    (2, 15, 4, 7, 2, 5),
    (1, 16, 2, 16, 1, 4),
    (3, 17, 6, 8, 3, 13),
    (1, 130, 5, 64, 1, 128),
    (2, 300, 3, 33, 3, 16),
]


@pytest.fixture(autouse=True)
def however_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sequence, "LEAST", 0)


def way_of(operation: Any, dtype: torch.dtype = torch.float32) -> Way:
    name = "loops" if dtype == torch.float32 else "loops, bfloat16"
    (way,) = (way for way in operation.ways if way.name == name)
    return way


ROUNDED = {torch.float32: 1e-6, torch.bfloat16: 2**-8}  # one rounding of the result, of the largest that it may have


def drawn(shape: tuple[int, ...], seed: int = 0) -> list[Tensor]:
    """What a scan is given: decays from hardly any to all at once, restarts, and tokens at which time stands still."""
    b, l, h, p, g, n = shape
    draw = torch.Generator().manual_seed(seed)
    x, B, C, state = (
        torch.randn(size, generator=draw) for size in ((b, l, h, p), (b, l, g, n), (b, l, g, n), (b, h, p, n))
    )
    log_decay = -torch.nn.functional.softplus(3 * torch.randn(b, l, h, generator=draw) - 3)
    kind = torch.rand(b, l, h, generator=draw)
    return [x, log_decay.masked_fill(kind < 0.05, 0).masked_fill(kind > 0.97, RESTART), B, C, state]


def scan(x: Tensor, log_decay: Tensor, B: Tensor, C: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        assert way_of(in_stretches).serves(x, log_decay, B, C, state, 64)
        return way_of(in_stretches).compute(x, log_decay, B, C, state, 64)


def hold(found: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> None:
    for part, reference in zip(found, expected, strict=True):
        assert relative_error(part, reference) <= 1e-6


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_sequence_is_the_recurrence(shape) -> None:
    given = drawn(shape)
    before = [part.clone() for part in given]
    hold(scan(*given), recurrence(*given))
    assert all(map(torch.equal, before, given)), "they are not written into"


@pytest.mark.parametrize("shape", SHAPES[1:4], ids=str)
def test_it_may_be_cut_anywhere(shape) -> None:
    *sequence_, state = drawn(shape, seed=1)
    whole = recurrence(*sequence_, state)
    for cut in range(1, shape[1]):
        first, between = scan(*(part[:, :cut] for part in sequence_), state)
        second, last = scan(*(part[:, cut:] for part in sequence_), between)
        hold((torch.cat([first, second], dim=1), last), whole)


@pytest.mark.parametrize("at", [16, 21])
def test_what_fades_away_takes_no_digits_along(at) -> None:
    """A document of very large numbers, and then one of ordinary ones: at the start of a block, and inside of one."""
    x, log_decay, B, C, state = drawn((1, 40, 2, 8, 1, 16))
    log_decay.clamp_(min=-0.1)
    log_decay[:, at] = RESTART
    x[:, :at] *= 1e34
    y, last = scan(x, log_decay, B, C, state)
    later = recurrence(*(part[:, at:] for part in (x, log_decay, B, C)))
    hold((y[:, at:], last), later)


def test_many_tokens_of_a_slow_decay() -> None:
    x, _, B, C, state = drawn((1, 2000, 1, 4, 1, 8))
    log_decay = torch.full((1, 2000, 1), -1e-4)
    hold(scan(x, log_decay, B, C, 100 * state), recurrence(x, log_decay, B, C, 100 * state))


def test_factors_in_16_bits_and_parts_of_longer_rows_are_read_as_they_are() -> None:
    x, log_decay, B, C, state = drawn((2, 37, 4, 16, 2, 16))
    B_, C_ = torch.cat([B, C], dim=-1).split(16, dim=-1)
    across, before = state.mT.contiguous().mT, state.clone()
    assert not B_.is_contiguous() and not across.is_contiguous()
    hold(scan(x.mT.contiguous().mT, log_decay, B_, C_, across), recurrence(x, log_decay, B, C, state))
    assert torch.equal(across, before), "it is not written into"
    B, C = B.bfloat16(), C.bfloat16()
    hold(scan(x, log_decay, B, C, state), recurrence(x, log_decay, B.float(), C.float(), state))


def test_what_is_not_a_number_reaches_no_token_before_it() -> None:
    x, log_decay, B, C, state = drawn((1, 40, 2, 8, 1, 16))
    y_before, _ = recurrence(x, log_decay, B, C, state)
    B[:, 21] = torch.nan
    y, last = scan(x, log_decay, B, C, state)
    hold((y[:, :21],), (y_before[:, :21],))
    assert y[:, 21].isnan().all() and last.isnan().any()


def test_any_number_of_threads_gives_the_same_bits() -> None:
    given, before = drawn((2, 200, 8, 32, 1, 64)), torch.get_num_threads()
    found = []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            found.append(scan(*given))
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        assert all(torch.equal(*parts) for parts in zip(found[0], other, strict=True))


def of_a_layer(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> tuple[Mamba2, Discretised, Tensor]:
    """A mixer, what it makes of a sequence, with x among other channels and dt among others, and a state."""
    b, l, h, p, g, n = shape
    _, log_decay, B, C, state = drawn(shape, seed=2)
    mixer = Mamba2(h * p, expand=1, headdim=p, ngroups=g, d_state=n).to(dtype).requires_grad_(False)
    mixer.D.normal_()
    x = torch.randn(b, l, h * p + 3).to(dtype)[..., 2:-1].unflatten(-1, (h, p))
    return mixer, Discretised(x, torch.rand(b, l, 2 * h)[..., ::2], log_decay, B, C), state


@pytest.mark.parametrize("dtype", ROUNDED)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_x_is_scaled_where_it_lies_and_passes_by_the_state(shape, dtype) -> None:
    mixer, terms, state = of_a_layer(shape, dtype)
    terms.log_decay[0, 0, 0] = -torch.inf
    assert way_of(scan_and_skip).serves(mixer, terms, state, None)
    x, dt, log_decay, B, C = terms
    y, last = recurrence(x.double() * dt[..., None], log_decay, B, C, state)
    y = (y + x.double() * mixer.D.double()[:, None]).flatten(2)
    hold(way_of(scan_and_skip).compute(mixer, terms, state, None), (y, last))


@pytest.mark.parametrize("activated", [False, True])
@pytest.mark.parametrize("dtype", ROUNDED)
@pytest.mark.parametrize("width", [1, 2, 4])
@pytest.mark.parametrize("l", [1, 3, 50])
def test_a_convolution_reads_a_part_of_longer_rows_and_the_window_before_it(l, width, dtype, activated) -> None:
    rows, window = torch.randn(3, l + 2, 50, dtype=dtype), torch.randn(3, width - 1, 21, dtype=dtype)
    x, taps, bias = rows[:, 2:, 17:38], torch.randn(width, 21, dtype=dtype), torch.randn(21, dtype=dtype)
    assert way_of(convolve, dtype).serves(x, window, taps, bias, None, activated)
    assert not way_of(convolve, dtype).serves(x, window.double(), taps, bias, None, activated)
    found = way_of(convolve, dtype).compute(x, window, taps, bias, None, activated)
    assert found.dtype == dtype
    inputs = torch.cat([window, x], dim=1).double()
    for t in range(l):
        expected = (inputs[:, t : t + width] * taps.double()).sum(dim=1) + bias.double()
        expected = expected / (1 + torch.exp(-expected)) if activated else expected
        assert relative_error(found[:, t], expected) <= ROUNDED[dtype]


@pytest.mark.parametrize("dtype", ROUNDED)
@pytest.mark.parametrize("norm_before_gate", [False, True])
@pytest.mark.parametrize(("d", "groups"), [(1, 1), (21, 1), (21, 3), (1536, 2)])
def test_a_gate_reads_a_part_of_longer_rows(d, groups, norm_before_gate, dtype) -> None:
    y, weight = 3 * torch.randn(2, 35, d), torch.randn(d, dtype=dtype)
    z = torch.randn(2, 35, 2 * d + 1, dtype=dtype)[..., d + 1 :]
    z[0, 0, 0], z[0, 1, 0], y[1, 1] = 200, -200, 0
    given = (y, z, weight, 1e-5, groups, norm_before_gate)
    assert way_of(gate_and_normalise, dtype).serves(*given)
    assert not way_of(gate_and_normalise, dtype).serves(y.double(), *given[1:])
    expected = gate_and_normalise.plain(y.double(), z.double(), weight.double(), *given[3:])
    found = way_of(gate_and_normalise, dtype).compute(*given)
    assert found.dtype == dtype and relative_error(found, expected) <= ROUNDED[dtype]


def test_a_prompt_through_a_model() -> None:
    model = Mamba2LM(d_model=40, n_layer=2, d_state=12, headdim=8, ngroups=2, vocab_size=50, seed=3).eval()
    ids = torch.randint(0, 50, (3, 45), generator=torch.Generator().manual_seed(1))
    documents = (torch.arange(45) // 17).expand(3, 45)
    exact = copy.deepcopy(model).double()
    for given in ({}, {"document_ids": documents}):
        with torch.no_grad():
            found = model(ids, **given)
            with plainly():
                assert relative_error(found, exact(ids, **given)) <= 2e-6


def test_they_are_left_alone_where_they_do_not_serve() -> None:
    serves = way_of(in_stretches).serves
    x, *others = drawn((1, 20, 2, 8, 1, 16))
    assert serves(x, *others, 64)
    assert not serves(x.double(), *(each.double() for each in others), 64)
    assert not serves(x.clone().requires_grad_(), *others, 64)
    documents = torch.zeros(1, 12, dtype=torch.int32)
    convolved = torch.randn(1, 9, 6), torch.randn(1, 3, 6), torch.randn(4, 6), torch.randn(6)
    assert way_of(convolve).serves(*convolved, None, True) and not way_of(convolve).serves(*convolved, documents, True)


def test_a_skip_that_somebody_has_changed_is_taken_as_it_is() -> None:
    class Doubled(Mamba2):
        def skip(self, y: Tensor, x: Tensor) -> Tensor:
            return 2 * super().skip(y, x)

    mixer, terms, state = of_a_layer((1, 20, 2, 8, 1, 16))
    expected, _ = scan_and_skip(mixer, terms, state, None)
    mixer.__class__ = Doubled
    assert relative_error(scan_and_skip(mixer, terms, state, None)[0], 2 * expected) <= 1e-6
    mixer.__class__ = Mamba2
    mixer.skip = lambda y, x: -Mamba2.skip(mixer, y, x)
    assert relative_error(scan_and_skip(mixer, terms, state, None)[0], -expected) <= 1e-6


def test_a_layer_is_left_alone_where_they_do_not_serve() -> None:
    serves = way_of(scan_and_skip).serves
    mixer, terms, state = of_a_layer((1, 20, 2, 8, 1, 16))
    assert serves(mixer, terms, state, None)
    assert not serves(mixer, terms, state, torch.zeros(1, 20))
    assert not any(serves(mixer, terms._replace(x=other), state, None) for other in (terms.x.half(), terms.x.double()))
    assert not serves(mixer.requires_grad_(), terms, state, None)


def test_few_numbers_are_not_worth_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    given = drawn((1, 20, 2, 8, 1, 16))
    monkeypatch.setattr(sequence, "LEAST", 20 * 2 * 8 * 16 + 1)
    assert not way_of(in_stretches).serves(*given, 64)
    monkeypatch.setattr(sequence, "LEAST", 20 * 2 * 8 * 16)
    assert way_of(in_stretches).serves(*given, 64)


class Loop:
    """What is called as a loop is."""

    def __init__(self, compiled: bool) -> None:
        self.signatures, self.given = [()] * compiled, []

    def __call__(self, *given: Any) -> None:
        self.given.append(given)


@pytest.mark.parametrize(
    ("numbers", "compiled", "can", "does"),
    [
        (rows.LEAST_TO_SHARE, True, True, True),
        (rows.LEAST_TO_SHARE - 1, True, True, False),
        (rows.LEAST_TO_SHARE, False, True, False),
        (rows.LEAST_TO_SHARE, True, False, False),
    ],
)
def test_torchs_threads_do_a_long_loop_that_is_compiled_if_they_can(numbers, compiled, can, does, monkeypatch) -> None:
    by_torch: list[bool] = []

    def torch_does(job: Callable[[], object]) -> bool:
        if can:
            job()
            by_torch.append(True)
        return can

    monkeypatch.setattr(rows.threads, "torch_does", torch_does)
    monkeypatch.setattr(rows.threads, "most", lambda: 1)
    loop = Loop(compiled)
    rows.among_operations(numbers, loop, "given")
    assert bool(by_torch) == does
    ((given, counters),) = loop.given
    assert given == "given" and counters.tolist() == [0, 0], "it was gone through once"
