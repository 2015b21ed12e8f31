"""The recurrence, four ways: each against a float64 recurrence written independently."""

import functools
import inspect
import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.oracle.mamba2 import gradients, raises, recurrence, relative_error, scan_inputs
from support.ways import taking
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from mamba2_lab import scan
from mamba2_lab.benchmark import peak_bytes
from mamba2_lab.scan.chunks import pass_between_chunks

TOLERANCE = 3e-7  # relative, in float32: a few roundings of 6e-8
LENGTHS = [0, 1, 2, 3, 63, 64, 65, 127, 300, 1024, 4096]
CHUNK_SIZES = [1, 2, 3, 7, 16, 31, 64, 100, 128, 200, 255, 256]


def stepwise(
    x: Tensor, log_decay: Tensor, B: Tensor, C: Tensor, initial_state: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """`step`, token after token."""
    b, l, h, p = x.shape
    state = torch.zeros(b, h, p, B.shape[-1], dtype=torch.promote_types(x.dtype, torch.float32))
    state = state if initial_state is None else initial_state
    ys = [torch.empty(b, 0, h, p, dtype=x.dtype)]
    for t in range(l):
        y_t, state = scan.step(x[:, t], log_decay[:, t], B[:, t], C[:, t], state)
        ys.append(y_t.unsqueeze(1))
    return torch.cat(ys, dim=1), state


def in_chunks_of(chunk_size: int) -> Callable[..., tuple[Tensor, Tensor]]:
    return functools.partial(scan.chunked, chunk_size=chunk_size)


def as_on_a_gpu(*args: Tensor | None, **kwargs: Tensor | None) -> tuple[Tensor, Tensor]:
    """`chunked` with the states passed on as it is done elsewhere than on a CPU."""
    with taking(pass_between_chunks, "all at once"):
        return scan.chunked(*args, **kwargs)


WHOLE = {
    "sequential": scan.sequential,
    "quadratic": scan.quadratic,
    "chunked": scan.chunked,
    "chunked by 16": in_chunks_of(16),
    "chunked, as on a GPU": as_on_a_gpu,
}
VARIANTS = {**WHOLE, "step": stepwise}
every_variant = pytest.mark.parametrize("compute", VARIANTS.values(), ids=VARIANTS.keys())
every_whole_variant = pytest.mark.parametrize("compute", WHOLE.values(), ids=WHOLE.keys())
with_and_without_initial_state = pytest.mark.parametrize("initial", [True, False], ids=["initial", "from zero"])


def worst_error(found: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor]) -> float:
    """Of y and of the final state, as a whole and by head: a faint head could hide behind the others."""
    (y, state), (expected_y, expected_state) = found, expected
    errors = [
        relative_error(y, expected_y),
        relative_error(y, expected_y, dim=(0, 1, 3)),
        relative_error(state, expected_state),
        relative_error(state, expected_state, dim=(0, 2, 3)),
    ]
    return float(torch.tensor(errors).max())  # unlike Python's max, it lets no NaN slip through


# Against the float64 recurrence


@with_and_without_initial_state
@pytest.mark.parametrize("g", [1, 2, 4])
@pytest.mark.parametrize("l", LENGTHS)
def test_every_variant_equals_the_float64_recurrence(l: int, g: int, initial: bool) -> None:
    long = l > 1024
    b = 16 if l < 10 else 1 if long else 2  # over few outputs, one that happens to be near zero would set the measure
    inputs = scan_inputs(l, b=b, h=g if long else 4, p=16, g=g, initial=initial)
    expected = recurrence(*inputs)
    for name, compute in VARIANTS.items():
        if name == "quadratic" and long and g > 1:
            continue  # the l x l matrices of one head are large enough
        found = compute(*inputs)
        assert found[0].dtype == found[1].dtype == torch.float32
        assert worst_error(found, expected) <= TOLERANCE, name


@pytest.mark.parametrize("chunk_size", CHUNK_SIZES)
def test_the_chunk_size_changes_nothing_in_the_result(chunk_size: int) -> None:
    inputs = scan_inputs(600, b=1, g=2)  # with small chunks that is many blocks, with large ones less than one
    assert worst_error(scan.chunked(*inputs, chunk_size), recurrence(*inputs)) <= TOLERANCE


@every_variant
@pytest.mark.parametrize("l", [300, 1000])
def test_slow_heads_do_not_drift_when_every_token_has_the_same_dt(compute: Callable, l: int) -> None:
    """A decay near 1, rounded, errs by the same amount in every step: multiplied by it a state would be off by 5e-6."""
    inputs = scan_inputs(l, b=1, h=16, dt_per_head=True)
    found, expected = compute(*inputs), recurrence(*inputs)
    assert worst_error(found, expected) <= 6e-7  # in the worst head
    for tensor, reference in zip(found, expected, strict=True):
        assert (tensor - reference).norm() <= TOLERANCE * reference.norm()


@every_variant
@pytest.mark.parametrize("log_decay", [-640.0, -math.inf, 0.0], ids=["dt = 10 and A = -64", "all at once", "no decay"])
def test_the_extremes_of_decay_give_the_right_values(compute: Callable, log_decay: float) -> None:
    inputs = scan_inputs(200, p=16, n=32)
    inputs = inputs._replace(log_decay=torch.full_like(inputs.log_decay, log_decay))
    assert worst_error(compute(*inputs), recurrence(*inputs)) <= 6e-7  # without decay 200 roundings add up


@every_variant
@pytest.mark.parametrize("everything", [-640.0, -math.inf])
def test_extremes_of_decay_side_by_side_give_the_right_values(compute: Callable, everything: float) -> None:
    """Forgetting everything, then nothing, in one sequence: differences of cumulated sums fail here."""
    inputs = scan_inputs(200, p=16, n=32)
    kind = torch.randint(0, 3, inputs.log_decay.shape)
    log_decay = torch.where(kind == 0, everything, torch.where(kind == 1, 0.0, inputs.log_decay))
    inputs = inputs._replace(log_decay=log_decay)
    assert worst_error(compute(*inputs), recurrence(*inputs)) <= TOLERANCE


@every_variant
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_inputs_stay_near_the_float64_result_and_leave_float32_states(
    compute: Callable, dtype: torch.dtype
) -> None:
    exact = scan_inputs(300, g=2, dtype=torch.float64)
    halved = exact.map(lambda tensor: tensor.to(dtype))._replace(initial_state=exact.initial_state.float())
    y, state = compute(*halved)
    expected_y, expected_state = recurrence(*exact)
    assert (y.dtype, state.dtype) == (dtype, torch.float32)
    assert relative_error(y, expected_y) <= 1e-2
    assert relative_error(state, expected_state) <= 1e-2
    # Only the inputs were rounded: on these very inputs the state is exact to float32.
    assert relative_error(state, recurrence(*halved)[1]) <= TOLERANCE


@every_variant
def test_float64_inputs_are_computed_in_float64(compute: Callable) -> None:
    inputs = scan_inputs(300, g=2, dtype=torch.float64)
    assert worst_error(compute(*inputs), recurrence(*inputs)) <= 1e-13


@every_variant
def test_autocast_changes_nothing(compute: Callable) -> None:
    inputs = scan_inputs(100, g=2)
    expected = compute(*inputs)
    with torch.autocast("cpu", torch.bfloat16):
        assert (inputs.B @ inputs.C.mT).dtype == torch.bfloat16  # so autocast is on
        found = compute(*inputs)
        y, state = compute(*inputs._replace(x=inputs.x.bfloat16()))
    assert all(map(torch.equal, found, expected))
    assert (y.dtype, state.dtype) == (torch.bfloat16, torch.float32)


@every_variant
def test_the_memory_layout_of_the_inputs_does_not_matter(compute: Callable) -> None:
    inputs = scan_inputs(20, g=2)
    scattered = inputs.map(
        lambda tensor: tensor.permute(*range(tensor.ndim)[::-1]).contiguous().permute(*range(tensor.ndim)[::-1])
    )
    assert not scattered.initial_state.is_contiguous()
    assert worst_error(compute(*scattered), recurrence(*inputs)) <= TOLERANCE


@every_variant
def test_the_given_tensors_are_left_as_they_were(compute: Callable) -> None:
    inputs = scan_inputs(40)
    before = inputs.map(torch.clone)
    compute(*inputs)
    assert all(map(torch.equal, inputs, before))


# Causality, splits


@every_variant
@pytest.mark.parametrize("t", [0, 1, 15, 16, 39])
def test_no_output_depends_on_a_later_token(compute: Callable, t: int) -> None:
    inputs = scan_inputs(40, g=2)
    changed = inputs.map(torch.clone)
    for part in changed[:4]:
        part[:, t] = 3 * part[:, t] - 1  # the decay stays negative
    y, changed_y = compute(*inputs)[0], compute(*changed)[0]
    assert torch.equal(y[:, :t], changed_y[:, :t])
    assert not torch.isclose(y[:, t], changed_y[:, t]).any()


@every_variant
def test_the_gradient_of_an_output_with_respect_to_later_tokens_is_exactly_zero(compute: Callable) -> None:
    inputs = scan_inputs(40, g=2).map(lambda tensor: tensor.requires_grad_())
    t = 21
    compute(*inputs)[0][:, t].sum().backward()
    for part in inputs[:4]:
        assert part.grad[:, t + 1 :].count_nonzero() == 0
    for part in (inputs.x, inputs.log_decay, inputs.B):
        assert part.grad[:, : t + 1].all()
    assert inputs.C.grad[:, :t].count_nonzero() == 0
    assert inputs.C.grad[:, t].all()


@every_variant
def test_a_sequence_may_be_cut_anywhere_if_the_state_is_passed_on(compute: Callable) -> None:
    inputs = scan_inputs(40, g=2)
    expected = recurrence(*inputs)
    for cut in range(41):
        first_y, state = compute(*inputs.tokens(0, cut), inputs.initial_state)
        second_y, state = compute(*inputs.tokens(cut, 40), state)
        assert worst_error((torch.cat([first_y, second_y], dim=1), state), expected) <= TOLERANCE, cut


# Gradients


SMALL = {"sequential": scan.sequential, "quadratic": scan.quadratic, "chunked by 4": in_chunks_of(4)}


@pytest.mark.parametrize("compute", [*SMALL.values(), stepwise], ids=[*SMALL, "step"])
@with_and_without_initial_state
def test_gradients_are_those_of_finite_differences(compute: Callable, initial: bool) -> None:
    inputs = scan_inputs(10, b=1, h=2, p=2, n=2, initial=initial, dtype=torch.float64)
    given = [part.requires_grad_() for part in inputs if part is not None]
    assert torch.autograd.gradcheck(compute, given)


@pytest.mark.parametrize("compute", SMALL.values(), ids=SMALL.keys())
def test_gradients_through_restarts_are_those_of_finite_differences(compute: Callable) -> None:
    inputs = scan_inputs(10, b=1, h=2, p=2, n=2, dtype=torch.float64).map(lambda tensor: tensor.requires_grad_())
    document_ids = torch.tensor([[5, 5, 5, 5, 1, 2, 2, 2, 2, 2]])
    assert torch.autograd.gradcheck(functools.partial(compute, document_ids=document_ids), tuple(inputs))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-13), (torch.float32, 1e-6)], ids=str)
@pytest.mark.parametrize("name", ["quadratic", "chunked", "step"])
def test_gradients_are_those_of_the_sequential_scan_in_float64(name: str, dtype: torch.dtype, tolerance: float) -> None:
    inputs = scan_inputs(150, h=4, g=2, dtype=torch.float64)
    expected = gradients(scan.sequential, inputs)
    found = gradients(VARIANTS[name], inputs.map(lambda tensor: tensor.to(dtype)))
    for argument, one, other in zip(inputs._fields, found, expected, strict=True):
        assert relative_error(one, other) <= tolerance, argument


# Documents


@every_whole_variant
def test_packed_documents_equal_each_document_alone(compute: Callable) -> None:
    inputs = scan_inputs(90, b=2, g=2)
    edges = [[0, 1, 16, 40, 77, 90], [0, 30, 31, 32, 64, 90]]  # documents of one token, cuts on and off chunk borders
    document_ids = torch.stack(
        [torch.repeat_interleave(torch.tensor([3, 1, 2, 1, 7]), torch.tensor(row).diff()) for row in edges]
    )
    y, state = compute(*inputs, document_ids=document_ids)
    for row, cuts in enumerate(edges):
        before = inputs.initial_state[row : row + 1]  # the first document goes on from what was before
        for start, stop in zip(cuts, cuts[1:], strict=False):
            alone = [part[row : row + 1] for part in inputs.tokens(start, stop)]
            expected_y, before_end = recurrence(*alone, before)
            assert relative_error(y[row : row + 1, start:stop], expected_y) <= TOLERANCE
            before = None
        assert relative_error(state[row : row + 1], before_end) <= TOLERANCE


@every_whole_variant
def test_nothing_at_all_leaks_into_the_next_document(compute: Callable) -> None:
    inputs = scan_inputs(40, g=2)
    loud = inputs.map(torch.clone)
    for part in (loud.x, loud.B, loud.C, loud.initial_state):
        part[:, :21] *= 1e6
    loud.log_decay[:, :21] = 0.0
    document_ids = (torch.arange(40) >= 21).int().expand(2, 40)
    y, state = compute(*inputs, document_ids=document_ids)
    loud_y, loud_state = compute(*loud, document_ids=document_ids)
    assert torch.equal(y[:, 21:], loud_y[:, 21:])
    assert torch.equal(state, loud_state)
    assert not torch.isclose(y[:, :21], loud_y[:, :21]).any()


# Segment sums


def sums_in_a_double_loop(log_decay: Tensor) -> Tensor:
    l = log_decay.shape[-1]
    sums = torch.full((*log_decay.shape, l), -math.inf, dtype=torch.float64)
    for t in range(l):
        for s in range(t + 1):
            sums[..., t, s] = log_decay[..., s + 1 : t + 1].double().sum(-1)
    return sums


@pytest.mark.parametrize("shape", [(0,), (1,), (9,), (3, 5), (2, 1, 3, 12), (2, 3, 2, 2, 4)], ids=str)
def test_segsum_equals_a_plain_double_loop(shape: tuple[int, ...]) -> None:
    log_decay = -torch.rand(shape, dtype=torch.float64)
    found = scan.segsum(log_decay)
    torch.testing.assert_close(found, sums_in_a_double_loop(log_decay), rtol=1e-14, atol=0)


def test_segsum_keeps_the_digits_that_differences_of_cumulated_sums_lose() -> None:
    log_decay = torch.full((200,), -1e-3)
    log_decay[:100] = -640.0
    exact = sums_in_a_double_loop(log_decay)
    below = torch.ones(200, 200, dtype=torch.bool).tril(-1)
    cumulated = torch.cumsum(log_decay, dim=0)
    differences = cumulated[:, None] - cumulated[None, :]

    def worst(sums: Tensor) -> float:
        return float(((sums.double() - exact) / exact)[below].abs().max())

    assert worst(scan.segsum(log_decay)) < 1e-5
    assert worst(differences) > 0.5


# Any shape


@st.composite
def shapes(draw: st.DrawFn) -> dict[str, int]:
    g = draw(st.integers(1, 3))
    return {
        "l": draw(st.integers(0, 70)),
        "b": draw(st.integers(1, 3)),
        "g": g,
        "h": g * draw(st.integers(1, 3)),
        "p": draw(st.integers(1, 5)),
        "n": draw(st.integers(1, 5)),
        "seed": draw(st.integers(0, 99)),
    }


@given(shapes(), st.integers(1, 80), st.booleans(), st.data())
def test_any_shape_chunk_size_and_split_equals_the_recurrence(
    shape: dict[str, int], chunk_size: int, initial: bool, data: st.DataObject
) -> None:
    inputs = scan_inputs(**shape, initial=initial, dtype=torch.float64)
    expected = recurrence(*inputs)
    cuts = data.draw(st.lists(st.integers(0, shape["l"]), max_size=3).map(sorted))
    for compute in (scan.sequential, scan.quadratic, stepwise, in_chunks_of(chunk_size)):
        state, ys = inputs.initial_state, []
        for start, stop in zip([0, *cuts], [*cuts, shape["l"]], strict=True):
            y, state = compute(*inputs.tokens(start, stop), state)
            ys.append(y)
        assert worst_error((torch.cat(ys, dim=1), state), expected) <= 1e-12


@given(shapes(), st.integers(1, 80), st.data())
def test_any_documents_equal_each_document_alone(shape: dict[str, int], chunk_size: int, data: st.DataObject) -> None:
    inputs = scan_inputs(**shape, dtype=torch.float64)
    ids = st.lists(st.integers(-1, 2), min_size=shape["l"], max_size=shape["l"])
    document_ids = torch.tensor([data.draw(ids) for _ in range(shape["b"])]).view(shape["b"], shape["l"]).long()
    # A restart is a decay of zero: that is the whole definition. The first token never restarts.
    log_decay = inputs.log_decay.clone()
    log_decay[:, 1:][document_ids[:, 1:] != document_ids[:, :-1]] = -math.inf
    expected = recurrence(*inputs._replace(log_decay=log_decay))
    for compute in (scan.sequential, scan.quadratic, in_chunks_of(chunk_size)):
        assert worst_error(compute(*inputs, document_ids=document_ids), expected) <= 1e-12


@pytest.mark.parametrize("compute", [scan.sequential, scan.quadratic, scan.chunked])
def test_help_tells_what_may_be_given(compute: Callable) -> None:
    told = list(inspect.signature(compute).parameters)
    assert told[:5] == ["x", "log_decay", "B", "C", "initial_state"] and "document_ids" in told


# Bad input

GOOD = {"x": (2, 5, 4, 3), "log_decay": (2, 5, 4), "B": (2, 5, 2, 6), "C": (2, 5, 2, 6), "initial_state": (2, 4, 3, 6)}
BAD_SHAPES = [
    ("x", (2, 5, 4), "(b,l,h,p)"),
    ("x", (2, 5, 4, 3, 1), "(b,l,h,p)"),
    ("log_decay", (2, 5), "(b,l,h)"),
    ("log_decay", (2, 5, 4, 1), "(b,l,h)"),
    ("log_decay", (2, 5, 1), "(2, 5, 4)"),
    ("log_decay", (1, 5, 4), "(2, 5, 4)"),
    ("B", (2, 5, 6), "(b,l,g,n)"),
    ("B", (2, 6, 2, 6), "(2, 5, 2, 6)"),
    ("B", (1, 5, 2, 6), "(2, 5, 2, 6)"),
    ("C", (2, 5, 6), "(b,l,g,n)"),
    ("C", (2, 5, 2, 5), "(2, 5, 2, 6)"),
    ("C", (2, 5, 1, 6), "(2, 5, 2, 6)"),
    ("initial_state", (4, 3, 6), "(2, 4, 3, 6)"),
    ("initial_state", (1, 4, 3, 6), "(2, 4, 3, 6)"),
    ("initial_state", (2, 4, 6, 3), "(2, 4, 3, 6)"),
]


def zeros(**changes: tuple[int, ...]) -> dict[str, Tensor]:
    return {name: torch.zeros(shape) for name, shape in {**GOOD, **changes}.items()}


@every_whole_variant
@pytest.mark.parametrize(("name", "shape", "expected"), BAD_SHAPES, ids=str)
def test_a_wrong_shape_is_an_error_that_names_argument_expectation_and_value(
    compute: Callable, name: str, shape: tuple[int, ...], expected: str
) -> None:
    with raises(ValueError, f"{name} must have shape", expected, f"got {shape}"):
        compute(**zeros(**{name: shape}))


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        ("x_t", (2, 4), "(b,h,p)"),
        ("log_decay_t", (2, 4, 1), "(b,h)"),
        ("log_decay_t", (1, 4), "(2, 4)"),
        ("B_t", (2, 6), "(b,g,n)"),
        ("B_t", (1, 2, 6), "(2, 2, 6)"),
        ("C_t", (2, 2, 5), "(2, 2, 6)"),
        ("C_t", (2, 1, 6), "(2, 2, 6)"),
        ("state", (1, 4, 3, 6), "(2, 4, 3, 6)"),
        ("state", (2, 4, 6, 3), "(2, 4, 3, 6)"),
    ],
    ids=str,
)
def test_a_wrong_shape_for_a_step_is_an_error_that_names_argument_expectation_and_value(
    name: str, shape: tuple[int, ...], expected: str
) -> None:
    shapes = {"x_t": (2, 4, 3), "log_decay_t": (2, 4), "B_t": (2, 2, 6), "C_t": (2, 2, 6), "state": (2, 4, 3, 6)}
    with raises(ValueError, f"{name} must have shape", expected, f"got {shape}"):
        scan.step(**{argument: torch.zeros(size) for argument, size in {**shapes, name: shape}.items()})


@every_whole_variant
def test_groups_that_do_not_divide_the_heads_are_an_error(compute: Callable) -> None:
    for g in (0, 3, 8):
        with raises(ValueError, "B must have a number of groups that divides the 4 heads", f"got {g}"):
            compute(**zeros(B=(2, 5, g, 6), C=(2, 5, g, 6)))


@every_whole_variant
@pytest.mark.parametrize("name", ["x", "log_decay", "B", "C"])
def test_integers_are_an_error_that_names_the_argument(compute: Callable, name: str) -> None:
    arguments = zeros()
    arguments[name] = arguments[name].long()
    with raises(TypeError, f"{name} must be floating point", "torch.int64"):
        compute(**arguments)


@every_whole_variant
def test_document_ids_of_a_wrong_shape_or_dtype_are_an_error(compute: Callable) -> None:
    with raises(ValueError, "document_ids must have shape", "(2, 5)", "got (2, 4)"):
        compute(**zeros(), document_ids=torch.zeros(2, 4, dtype=torch.long))
    with raises(TypeError, "document_ids must be integers", "torch.float32"):
        compute(**zeros(), document_ids=torch.zeros(2, 5))


@pytest.mark.parametrize("chunk_size", [0, -4])
def test_a_chunk_size_below_one_is_an_error(chunk_size: int) -> None:
    with raises(ValueError, "chunk_size must be at least 1", f"got {chunk_size}"):
        scan.chunked(**zeros(), chunk_size=chunk_size)


@pytest.mark.parametrize("chunk_size", [2.0, "8", None, True])
def test_a_chunk_size_that_is_no_whole_number_is_an_error(chunk_size: object) -> None:
    with raises(TypeError, "chunk_size must be a whole number", f"got {chunk_size!r}"):
        scan.chunked(**zeros(), chunk_size=chunk_size)


# What it costs


@pytest.mark.parametrize("compute", [scan.chunked, as_on_a_gpu], ids=["on a CPU", "as on a GPU"])
def test_operations_and_memory_grow_with_the_length_and_no_faster(compute: Callable) -> None:
    def cost(l: int) -> tuple[int, int]:
        x, log_decay, B, C = (
            torch.ones(1, l, 2, 8),
            -torch.ones(1, l, 2),
            torch.ones(1, l, 1, 8),
            torch.ones(1, l, 1, 8),
        )
        with FlopCounterMode(display=False) as counter:
            compute(x, log_decay, B, C)
        return counter.get_total_flops(), peak_bytes(lambda: compute(x, log_decay, B, C), "cpu")

    (operations, size), (operations_of_four, size_of_four) = cost(4096), cost(4 * 4096)
    assert operations_of_four == 4 * operations
    assert size_of_four <= 4 * size
