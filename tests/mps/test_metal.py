"""The kernels in Metal, compiled for this machine: their numbers in any order of their threads, and what they touch.

And the harness itself: a mutant of each kind must be found. Not run on Apple hardware.
"""

from __future__ import annotations

import contextlib
import math

import pytest
import torch
from mps import metal_on_host
from mps.metal_cases import CASES, by_definition, by_kernel, error, on_host

from mamba2_lab.fast.metal import shaders
from mamba2_lab.fast.metal.mamba2 import _lies_between, between_matrices
from mamba2_lab.layers import Mamba2

WHY_NOT = metal_on_host.why_not()
pytestmark = pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))
DTYPES = [torch.float32, torch.bfloat16, torch.float16]
each_kernel = pytest.mark.parametrize("name", CASES)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@each_kernel
def test_a_kernel_gives_the_numbers_of_its_definition(name: str, dtype: torch.dtype) -> None:
    operation, draw = CASES[name]
    with on_host() as calls:
        for number, args in enumerate(draw(dtype)):
            assert error(by_kernel(operation, args), by_definition(operation, args), dtype) <= 1, number
    assert len(calls) == number + 1  # one launch each


@each_kernel
def test_in_whatever_order_threads_run_the_numbers_are_the_same(name: str) -> None:
    operation, draw = CASES[name]
    for args in draw(torch.float32):
        found = []
        for order in (0, 1, 2, 3):
            with on_host(order):
                found.append(by_kernel(operation, args))
        for other in found[1:]:
            assert all(torch.equal(one, two) for one, two in zip(found[0], other, strict=True))


@each_kernel
def test_a_kernel_stays_in_its_buffers(name: str) -> None:
    operation, draw = CASES[name]
    with on_host() as calls:
        for args in draw(torch.float32):
            by_kernel(operation, args)
    assert [metal_on_host.complaint(*call) for call in calls] == [""] * len(calls)


# Mutants


def outcome(name: str, mutation: tuple[str, str]) -> str:
    """How a mutant of a kernel is found: "refused", "outside", "waits", "order" or "numbers"; "" if it is not."""
    operation, draw = CASES[name]
    for args in reversed([*draw(torch.float32)]):  # the first show least
        with on_host() as calls:
            by_kernel(operation, args)
        (call,) = calls
        assert mutation[0] in call.source
        try:
            said = metal_on_host.complaint(call.source.replace(*mutation), *call[1:])
        except SyntaxError:
            return "refused"
        if said:  # in this process it would write where others read
            return "waits" if "wait for others" in said else "outside"
        with on_host(0, mutation):
            forward = by_kernel(operation, args)
        with on_host(1, mutation):
            backward = by_kernel(operation, args)
        if any(not torch.equal(one, two) for one, two in zip(forward, backward, strict=True)):
            return "order"
        if not error(forward, by_definition(operation, args), torch.float32) <= 1:
            return "numbers"
    return ""


BARRIER = "threadgroup_barrier(mem_flags::mem_threadgroup);"
MUTANTS = {
    "no end of a row": ("add_and_normalise", "i < ulong(d)", "i < ulong(d) + size", "outside"),
    "one too far": ("add_and_normalise", "i < ulong(d)", "i <= ulong(d)", "outside"),
    "no epsilon": ("add_and_normalise", " + eps)", ")", "numbers"),
    "no barrier in a sum": ("add_and_normalise", BARRIER, "", "order"),
    "a sum in a branch": ("add_and_normalise", "value = simd_sum", "if (lane < 7) value = simd_sum", "waits"),
    "one lane's sum": ("add_and_normalise", "value = simd_sum(value);", "", "numbers"),
    "a double": ("add_and_normalise", "float squares = 0.0f", "double squares = 0.0f", "refused"),
    "no stride": ("gate_and_normalise", "row * ulong(stride)", "row * ulong(parts * width)", "numbers"),
    "the first part's weight": ("gate_and_normalise", "weight[part * ulong(width) + i]", "weight[i]", "numbers"),
    "the gate first in either order": ("gate_and_normalise", "NORM_FIRST ?", "false ?", "numbers"),
    "the norm first in either order": ("gate_and_normalise", "NORM_FIRST ?", "true ?", "numbers"),
    "the orders exchanged": ("gate_and_normalise", "NORM_FIRST ?", "!NORM_FIRST ?", "numbers"),
    "another group": ("between_matrices", "of = head / (HEADS / GROUPS)", "of = head % GROUPS", "numbers"),
    "C of the first group": ("between_matrices", "channel += (GROUPS - 1) * STATE", "channel += 0", "numbers"),
    "a window of the first group": ("between_matrices", "head % (HEADS / GROUPS) == 0", "head == 0", "numbers"),
    "no barrier": ("between_matrices", "    " + BARRIER + "\n\n", "\n", "order"),
    "one row too many": ("between_matrices", "p < HEADDIM", "p <= HEADDIM", "outside"),
    "one tap too late": ("between_matrices", "tap < WINDOW", "tap <= WINDOW", "outside"),
    "growth": ("between_matrices", "expm1_of(-dt", "expm1_of(dt", "numbers"),
    "no limit": ("between_matrices", "clamp(softplus(raw), least_dt, most_dt)", "softplus(raw)", "numbers"),
    "a window before the first token": ("convolve", "before[(at + WIDTH - 1)", "before[at", "outside"),
    "another document": ("convolve", "if (PACKED && document[tap] != document[WIDTH - 1]) continue;", "", "numbers"),
    "no silu of a prompt": ("convolve", "SILU ? silu(sum) : sum", "sum", "numbers"),
    "taps the other way round": ("convolve", "taps[tap * channels", "taps[(WIDTH - 1 - tap) * channels", "numbers"),
    "too many rows of a state": ("in_stretches", "min(uint(ROWS), HEADDIM - first)", "uint(ROWS)", "outside"),
    "a simdgroup for nothing": ("in_stretches", "if (sequence >= uint(sequences)) return;", "", "outside"),
    "lanes behind the state": ("in_stretches", "if (n >= STATE) continue;", "", "outside"),
    "B of another group": (
        "in_stretches",
        "stride_of_B) + head / (HEADS / GROUPS)",
        "stride_of_B) + head % GROUPS",
        "numbers",
    ),
    "one token too many": ("in_stretches", "ulong(length); ++t", "ulong(length) + 1; ++t", "outside"),
    "a sum that is not that of all lanes": ("in_stretches", "simd_sum(read[r])", "read[r]", "numbers"),
    "a simdgroup behind the matrix": ("multiply_stored", "if (i >= height) return;", "", "outside"),
    "columns that only fill up": ("multiply_stored", "if (high < columns) ", "", "outside"),
    "halves exchanged": ("multiply_stored", "high = low + 32", "high = low + 31", "numbers"),
    "zeros of the next group": (
        "multiply_stored",
        "float(scale[0]), float(scale[1])",
        "float(scale[0]), 0.0f",
        "numbers",
    ),
    "no stride of a token": ("convolve_token", "x[row * stride + channel]", "x[row * channels + channel]", "numbers"),
    "a window that stands still": (
        "convolve_token",
        "first + (tap - 1) * channels",
        "first + tap * channels",
        "outside",
    ),
    "no silu": ("convolve_token", "SILU ? silu(sum) : sum", "sum", "numbers"),
    "a channel for nothing": ("select_and_turn", "if (row >= uint(rows)) return;", "", "outside"),
    "step sizes of one lane": ("select_and_turn", "raw = simd_sum(raw);", "", "numbers"),
    "step sizes as they come": ("select_and_turn", "raw *= scale_of(few, RANK, eps, lane);", "", "numbers"),
    "B as it comes": ("select_and_turn", "input * dt * size_of_B", "input * dt", "numbers"),
    "no stride of the gate": ("select_and_turn", "z[long(row) * stride", "z[long(row) * CHANNELS", "numbers"),
    "decays of the first channel": ("select_and_turn", "A_log[channel * STATE + n]", "A_log[n]", "numbers"),
    "numbers behind the state": ("select_and_turn", "n < STATE", "n <= STATE", "outside"),
    "no barrier before pairs turn": ("normalise_and_turn", BARRIER + "\n\n    for", "\n\n    for", "order"),
    "no barrier behind them": ("normalise_and_turn", BARRIER + "\n\n    device", "\n\n    device", "order"),
    "no barrier before the norm": ("normalise_and_turn", BARRIER + "\n\n    float", "\n\n    float", "order"),
    "k and q of another group": ("normalise_and_turn", "of = head / (HEADS / GROUPS)", "of = head % GROUPS", "numbers"),
    "neighbours for halves": ("normalise_and_turn", "MIMO ? s : 2 * s", "2 * s", "numbers"),
    "pairs turned back": ("normalise_and_turn", "sines[s] = precise", "sines[s] = -precise", "numbers"),
    "whole turns": ("normalise_and_turn", "sum - rint(sum)", "sum", "numbers"),
    "the same token twice": ("normalise_and_turn", "k_before[r * STATE + n]", "factors[r * STATE + n]", "numbers"),
    "no decay between two tokens": (
        "normalise_and_turn",
        "(1.0f + lost) * sigmoid(-trap)",
        "sigmoid(-trap)",
        "numbers",
    ),
    "no least decay": (
        "normalise_and_turn",
        "max(positive(float(by_head[HEADS])), least)",
        "positive(float(by_head[HEADS]))",
        "numbers",
    ),
    "one rank for all": ("normalise_and_turn", "rank = i % RANKS,", "rank = 0,", "numbers"),
    "one row of a head too many": (
        "normalise_and_turn",
        "p < HEADDIM; p += teams",
        "p <= HEADDIM; p += teams",
        "outside",
    ),
    "an angle too many": ("normalise_and_turn", "s < ANGLES", "s <= ANGLES", "outside"),
    "a literal in float64": (
        "between_matrices",
        "float(bias[channel]) : 0.0f",
        "float(bias[channel]) : 0.0",
        "refused",
    ),
    "no address space": ("between_matrices", "device const NUMBER* inputs", "const NUMBER* inputs", "refused"),
    "a function that Metal lacks": ("between_matrices", "expm1_of(-dt", "expm1(-dt", "refused"),
}


@pytest.mark.parametrize("what", MUTANTS)
def test_a_mutant_is_found(what: str) -> None:
    name, old, new, how = MUTANTS[what]
    # What a mutant leaves unwritten holds whatever it held, and then differs from run to run as well.
    assert outcome(name, (old, new)) in ({"numbers", "order"} if how == "numbers" else {how})


def test_conversions_that_metal_does_not_make_by_itself_are_refused() -> None:
    source = shaders.source("norm", NUMBER="bfloat")
    metal_on_host.compile_shader(source)
    for written_out, by_itself in (("float(y[first + i])", "y[first + i]"), ("= NUMBER(sum", "= (sum")):
        with pytest.raises(SyntaxError):
            metal_on_host.compile_shader(source.replace(written_out, by_itself))


# The harness


def test_arguments_that_a_kernel_does_not_take_are_refused() -> None:
    kernel = metal_on_host.compile_shader(shaders.source("norm", NUMBER="float")).add_and_normalise
    u, weight = torch.randn(2, 7), torch.randn(7)
    good = [u, u, weight, u.clone(), u.clone(), 7, 1e-5]
    kernel(*good, threads=[64], group_size=[32])
    for place, wrong in ((0, u.half()), (5, 7.0), (5, weight), (6, 1), (0, 3)):
        with pytest.raises(TypeError, match="add_and_normalise"):
            kernel(*good[:place], wrong, *good[place + 1 :], threads=[64], group_size=[32])
    with pytest.raises(TypeError, match="takes 7 arguments; got 6"):
        kernel(*good[:-1], threads=[64], group_size=[32])
    with pytest.raises(RuntimeError, match="1 to 1024 threads"):
        kernel(*good, threads=[4096], group_size=[2048])


@pytest.mark.parametrize(("d_state", "is_served"), [(4064, True), (4065, False)])
def test_a_kernel_is_not_asked_for_what_a_group_of_threads_cannot_share(d_state: int, is_served: bool) -> None:
    mixer = Mamba2(d_model=64, expand=1, headdim=64, d_state=d_state)
    args = mixer, torch.randn(1, len(mixer.in_proj.weight)), mixer.initial_state(1)
    assert _lies_between(*args) == is_served
    with on_host(), contextlib.nullcontext() if is_served else pytest.raises(RuntimeError, match="more than 32 KiB"):
        by_kernel(between_matrices, args)


def test_series_near_zero_keep_the_digits_that_a_difference_loses() -> None:
    source = (
        shaders.source("norm", NUMBER="float")
        + """
kernel void both(
    device const float* x [[buffer(0)]],
    device float* lost    [[buffer(1)]],
    device float* soft    [[buffer(2)]],
    uint i [[thread_position_in_grid]])
{
    lost[i] = expm1_of(x[i]);
    soft[i] = softplus(x[i]);
}
"""
    )
    x = torch.cat([-torch.logspace(-8, 2, 400), -torch.tensor([0.0, 0.4999, 0.5, 0.5001, 1e4, math.inf])])
    lost, soft = torch.empty_like(x), torch.empty_like(x)
    metal_on_host.compile_shader(source).both(x, lost, soft, threads=[x.numel()], group_size=[32])
    torch.testing.assert_close(lost.double(), torch.expm1(x.double()), rtol=4e-7, atol=0)
    torch.testing.assert_close(soft.double(), torch.nn.functional.softplus(x.double()), rtol=4e-7, atol=1e-38)


def test_where_there_is_no_compiler_the_reason_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda command: None)
    assert "g++ here, which is not on the PATH" in str(metal_on_host.why_not())
    monkeypatch.setattr("sys.platform", "darwin")
    assert "this is darwin" in str(metal_on_host.why_not())
