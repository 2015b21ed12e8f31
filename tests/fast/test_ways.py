"""Every faster way beside the definition it is registered for: the same values and gradients, to what it promises."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from support.devices import DEVICE
from support.oracle.mamba2 import relative_error
from torch import Tensor

from mamba2_lab import scan
from mamba2_lab.fast import sequence
from mamba2_lab.fast.linear import HAS_ONEDNN
from mamba2_lab.layers.documents import number_documents
from mamba2_lab.layers.rounded import in_4_bits, in_8_bits
from mamba2_lab.operation import OPERATIONS, Operation, Way, operation, plainly

Arguments = tuple[Any, ...]


def normal(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=generator)


def log_decays(generator: torch.Generator, *shape: int) -> Tensor:
    """dt A at dt and A as the official code draws them: from hardly any decay to a few tokens, and restarts."""
    A = -torch.empty(shape).uniform_(1, 16, generator=generator)
    dt = torch.exp(torch.empty(shape).uniform_(-7, -2, generator=generator))
    restart = torch.rand(shape, generator=generator) < 0.05
    return (A * dt).masked_fill(restart, -1e4)


def of_a_turn(draw: torch.Generator) -> Iterator[Arguments]:
    for b, h, g, p, n in ((1, 1, 1, 1, 1), (2, 6, 3, 5, 7), (3, 8, 1, 16, 32)):
        state = normal(draw, b, h, p, n)
        yield normal(draw, b, h, p), log_decays(draw, b, h), normal(draw, b, g, n), normal(draw, b, g, n), state


def of_a_turn_in_ranks(draw: torch.Generator) -> Iterator[Arguments]:
    for b, r, s, h, p, n in ((1, 1, 1, 1, 1, 1), (2, 6, 3, 2, 5, 7), (3, 2, 1, 4, 16, 32)):
        B, C, state = normal(draw, b, r, h, n), normal(draw, b, s, h, n), normal(draw, b, h, p, n)
        yield normal(draw, b, r, h, p), log_decays(draw, b, h), B, C, state


def of_blocks(draw: torch.Generator) -> Iterator[Arguments]:
    for b, l, h, g, p, n, q in ((1, 1, 4, 1, 8, 16, 64), (2, 100, 4, 2, 5, 7, 16), (1, 700, 2, 1, 8, 16, 64)):
        B, C = normal(draw, b, l, g, n), normal(draw, b, l, g, n)
        yield normal(draw, b, l, h, p), log_decays(draw, b, l, h), B, C, normal(draw, b, h, p, n), q


def of_decays(draw: torch.Generator) -> Iterator[Arguments]:
    yield from ((log_decays(draw, *shape),) for shape in ((1,), (2, 3, 17), (1, 2, 3, 4, 64)))


def of_passing(draw: torch.Generator) -> Iterator[Arguments]:
    for b, c, g, r, p, n in ((1, 1, 1, 1, 1, 1), (2, 7, 2, 3, 4, 5), (1, 40, 1, 2, 3, 8)):
        yield normal(draw, b, c, g, r * p, n), 3 * log_decays(draw, b, c, g, r), normal(draw, b, g * r, p, n)


def of_convolving(draw: torch.Generator) -> Iterator[Arguments]:
    for b, l, width, channels, packed in ((1, 1, 1, 1, False), (2, 9, 4, 6, False), (2, 30, 4, 6, True)):
        ids = torch.randint(0, 4, (b, l), generator=draw).sort(dim=1).values
        documents = number_documents(ids, width - 1) if packed else None
        x, window = normal(draw, b, l, channels), normal(draw, b, width - 1, channels)
        given = x, window, normal(draw, width, channels), normal(draw, channels), documents
        yield from ((*given, activated) for activated in (False, True))


def of_convolving_last(draw: torch.Generator) -> Iterator[Arguments]:
    for b, width, channels in ((1, 1, 1), (3, 4, 6)):
        inputs, weight = normal(draw, b, width, channels), normal(draw, channels, 1, width)
        yield from ((inputs, weight, bias) for bias in (None, normal(draw, channels)))


def of_ranks(draw: torch.Generator) -> Iterator[Arguments]:
    for b, l, r, h, p, n, q in ((1, 1, 2, 1, 1, 1, 64), (2, 50, 3, 2, 5, 7, 4), (1, 600, 4, 2, 8, 16, 64)):
        weights = (normal(draw, b, l, h).sigmoid() for _ in range(2))
        B, C = normal(draw, b, l, r, h, n), normal(draw, b, l, r, h, n)
        yield normal(draw, b, l, r, h, p), log_decays(draw, b, l, h), *weights, B, C, normal(draw, b, h, p, n), q


def of_one_rank(draw: torch.Generator) -> Iterator[Arguments]:
    for b, l, h, p, n, q in (
        (1, 1, 2, 1, 1, 64),
        (2, 50, 2, 5, 7, 4),
        (1, 600, 3, 64, 128, 64),
        (8, 520, 16, 4, 4, 64),
    ):
        weights = (normal(draw, b, l, h).sigmoid() for _ in range(2))
        B, C = normal(draw, b, l, 1, h, n), normal(draw, b, l, 1, h, n)
        yield normal(draw, b, l, 1, h, p), log_decays(draw, b, l, h), *weights, B, C, normal(draw, b, h, p, n), q


def of_turns(draw: torch.Generator) -> Iterator[Arguments]:
    for b, l, h, s in ((1, 1, 2, 3), (2, 33, 3, 5), (1, 2100, 2, 16)):
        before, speed = (torch.rand(shape, generator=draw) - 0.5 for shape in ((b, h, s), (b, l, s)))
        yield before, normal(draw, b, l, h).exp(), speed


def of_turning(draw: torch.Generator) -> Iterator[Arguments]:
    for shape, r, g, h, n, s in (((2,), 1, 1, 2, 16, 4), ((2, 41), 1, 2, 6, 32, 16), ((1, 70), 3, 2, 4, 64, 16)):
        for pairs in ("neighbours", "halves"):
            B, C = normal(draw, *shape, r, g, n), normal(draw, *shape, r, g, n)
            turns = torch.rand(*shape, h, s, generator=draw) - 0.5
            yield B, C, normal(draw, h, r, n), normal(draw, h, r, n), turns, pairs, torch.float32


def of_gating(draw: torch.Generator) -> Iterator[Arguments]:
    for d, ngroups in ((6, 1), (24, 1), (24, 3)):
        given = normal(draw, 2, 7, d), 3 * normal(draw, 2, 7, d), normal(draw, d)
        yield from ((*given, 1e-5, ngroups, norm_before_gate) for norm_before_gate in (False, True))


def of_products(draw: torch.Generator) -> Iterator[Arguments]:
    for rows, features, out in ((1, 5, 3), (3, 200, 33), (1, 1024, 600), (7, 48, 80)):
        weight = torch.nn.Parameter(normal(draw, out, features))
        yield from ((normal(draw, 1, rows, features), weight, bias) for bias in (None, normal(draw, out)))


def of_stored_products(draw: torch.Generator) -> Iterator[Arguments]:
    for rows, features, out in (
        (1, 5, 3),
        (1, 64, 16),
        (1, 200, 33),
        (1, 1024, 600),
        (3, 320, 80),
        (9, 320, 80),
        (99, 200, 33),
    ):
        for store in (in_8_bits, in_4_bits):
            stored = store(normal(draw, out, features))
            for bias in (None, normal(draw, out)):
                yield normal(draw, 1, rows, features), *stored, bias


def step_sizes(generator: torch.Generator, *shape: int) -> Tensor:
    """As drawn at the start, with some at which time stands still, and some that forget everything."""
    dt = torch.exp(torch.empty(shape).uniform_(-7, -2, generator=generator))
    kind = torch.rand(shape, generator=generator)
    return dt.masked_fill(kind < 0.05, 0.0).masked_fill(kind > 0.97, 300.0)


def of_a_turn_of_channels(draw: torch.Generator) -> Iterator[Arguments]:
    for b, d, n in ((1, 1, 1), (2, 6, 7), (3, 33, 16)):
        A = -torch.arange(1.0, n + 1) * torch.rand(d, 1, generator=draw)
        B, C, state = normal(draw, b, n), normal(draw, b, n), normal(draw, b, d, n)
        yield normal(draw, b, d), step_sizes(draw, b, d), A, B, C, state


def of_channels(draw: torch.Generator) -> Iterator[Arguments]:
    for b, l, d, n, packed in ((1, 1, 1, 1, False), (2, 0, 3, 4, True), (2, 37, 6, 7, True), (3, 300, 5, 16, False)):
        A = -torch.arange(1.0, n + 1) * torch.rand(d, 1, generator=draw)
        starts = torch.rand(b, l, generator=draw) < 0.1 if packed else None
        B, C, state = normal(draw, b, l, n), normal(draw, b, l, n), normal(draw, b, d, n)
        yield normal(draw, b, l, d), step_sizes(draw, b, l, d), A, B, C, state, starts


def of_attending(draw: torch.Generator) -> Iterator[Arguments]:
    for b, l, t, h, g, p in ((1, 1, 1, 1, 1, 1), (2, 9, 9, 6, 2, 5), (1, 70, 70, 4, 1, 16), (2, 7, 30, 4, 4, 8)):
        q, k, v = normal(draw, b, l, h, p), normal(draw, b, t, g, p), normal(draw, b, t, g, p)
        visible = (torch.rand(b, l, t, generator=draw) < 0.5) | torch.eye(l, t, dtype=torch.bool)
        yield q, k, v, visible, 0.3
        if l == t:
            yield q, k, v, None, 1.0


DRAWN: dict[str, Callable[[torch.Generator], Iterator[Arguments]]] = {
    "turn": of_a_turn,
    "turn_channels": of_a_turn_of_channels,
    "turn_in_ranks": of_a_turn_in_ranks,
    "scan_channels": of_channels,
    "in_stretches": of_blocks,
    "decay_inside": of_decays,
    "pass_between_chunks": of_passing,
    "convolve": of_convolving,
    "convolve_last": of_convolving_last,
    "gate_and_normalise": of_gating,
    "read_in_ranks": of_ranks,
    "read_of_one": of_one_rank,
    "turn_of_heads": of_turning,
    "turns_since_start": of_turns,
    "linear": of_products,
    "multiply_stored": of_stored_products,
    "attend": of_attending,
}


@pytest.fixture(autouse=True)
def few_numbers_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sequence, "LEAST", 1)


ONE_ROW = {"a loop for the compiler"}  # ways that are meant for one row alone
FOR_READING = {"8 or 4 bits", "loops", "loops, bfloat16", "metal"}  # ways for where no gradients are asked for
ABSENT = {
    "oneDNN": ("cuda", "mps"),
    "cuda, bfloat16": ("mps",),
    "torch's kernels": ("mps",),
    "triton": ("cpu", "mps"),
    "8 or 4 bits": ("cuda", "mps"),
    "loops": ("cuda", "mps"),
    "metal": ("cpu", "cuda"),
}  # devices on which a way cannot be computed at all
WAYS = [
    (operation, way)
    for operation in OPERATIONS.values()
    for way in operation.ways
    if operation.__name__ in DRAWN
    if DEVICE.type not in ABSENT.get(way.name, ()) and (way.name != "oneDNN" or HAS_ONEDNN)
]
every_way = pytest.mark.parametrize(
    ("operation", "way"), WAYS, ids=[f"{operation.__name__}, {way.name}" for operation, way in WAYS]
)


def drawn(name: str, way: Way, dtype: torch.dtype, device: torch.device) -> Iterator[Arguments]:
    for arguments in DRAWN[name](torch.Generator().manual_seed(0)):
        if way.name in ONE_ROW and arguments[0].shape[:-1].numel() != 1:
            continue
        arguments = tuple(
            argument.detach().to(device, dtype) if is_real(argument) else moved(argument, device)
            for argument in arguments
        )
        with torch.no_grad():
            served = way.serves(*arguments)
        if served or way.name not in FOR_READING:
            yield arguments


def is_real(argument: Any) -> bool:
    return isinstance(argument, Tensor) and argument.is_floating_point()


def moved(argument: Any, device: torch.device | str) -> Any:
    return argument.to(device) if isinstance(argument, Tensor) else argument


def used(name: str, results: Any) -> list[Tensor]:
    """The parts of a result that are defined: nobody reads decays above the diagonal, nor counts whole turns."""
    results = results if isinstance(results, tuple) else (results,)
    if name == "turns_since_start":
        return [torch.cos(2 * torch.pi * results[0]), torch.sin(2 * torch.pi * results[0])]
    return [results[0].tril(), *results[1:]] if name == "decay_inside" else list(results)


def values_and_gradients(name: str, compute: Callable[..., Any], arguments: Arguments) -> list[Tensor]:
    arguments = tuple(a.clone().requires_grad_() if is_real(a) else a for a in arguments)
    results = used(name, compute(*arguments))
    leaves = [a for a in arguments if is_real(a)]
    gradients = torch.autograd.grad(weighted(tuple(results), 1), leaves, allow_unused=True)
    zeros = [torch.zeros_like(leaf) if g is None else g for leaf, g in zip(leaves, gradients, strict=True)]
    return [tensor.detach().cpu() for tensor in (*results, *zeros)]


def second_derivatives(compute: Callable[..., Any], arguments: Arguments) -> list[Tensor]:
    """Those of a sum of all results, along a drawn direction; the first argument asks for no gradient."""
    first, *rest = (a.clone() if is_real(a) else a for a in arguments)
    arguments, leaves = (first, *rest), [a.requires_grad_() for a in rest if is_real(a)]
    gradients = torch.autograd.grad(weighted(compute(*arguments), 1), leaves, create_graph=True)
    return [tensor.cpu() for tensor in torch.autograd.grad(weighted(gradients, 2), leaves, materialize_grads=True)]


def batched_gradients(compute: Callable[..., Any], arguments: Arguments) -> list[Tensor]:
    """Those of all results, in two directions at once."""
    arguments = tuple(a.clone().requires_grad_() if is_real(a) else a for a in arguments)
    results, draw = compute(*arguments), torch.Generator().manual_seed(3)
    results = results if isinstance(results, tuple) else (results,)
    directions = [normal(draw, 2, *result.shape).to(result.device, result.dtype) for result in results]
    leaves = [a for a in arguments if is_real(a)]
    return [tensor.cpu() for tensor in torch.autograd.grad(results, leaves, directions, is_grads_batched=True)]


def weighted(results: Any, seed: int) -> Tensor:
    """A sum of all numbers in these tensors, with drawn weights."""
    weights = torch.Generator().manual_seed(seed)
    results = results if isinstance(results, tuple) else (results,)
    return sum(  # type: ignore[return-value]
        (result * normal(weights, *result.shape).to(result.device, result.dtype)).sum() for result in results
    )


def by_definition(name: str, arguments: Arguments) -> list[Tensor]:
    """The definition in float64, on the CPU."""
    exact = tuple(a.cpu().double() if is_real(a) else moved(a, "cpu") for a in arguments)
    with plainly():
        return values_and_gradients(name, OPERATIONS[name].plain, exact)


@every_way
def test_a_way_gives_values_and_gradients_of_its_definition(operation: Operation, way: Way) -> None:
    for arguments in drawn(operation.__name__, way, torch.float32, DEVICE):
        expected = by_definition(operation.__name__, arguments)
        if way.name not in FOR_READING:
            found = values_and_gradients(operation.__name__, way.compute, arguments)
            for reference, value in zip(expected, found, strict=True):
                assert relative_error(value, reference) <= way.within
        with torch.no_grad():  # some have a way of their own for this
            without = used(operation.__name__, way.compute(*arguments))
        for reference, value in zip(expected, without, strict=False):
            assert relative_error(value.cpu(), reference) <= way.within


@every_way
def test_a_way_leaves_its_arguments_as_they_were(operation: Operation, way: Way) -> None:
    for arguments in drawn(operation.__name__, way, torch.float32, DEVICE):
        before = [a.clone() if isinstance(a, Tensor) else a for a in arguments]
        with torch.no_grad():
            way.compute(*arguments)
        for old, new in zip(before, arguments, strict=True):
            assert torch.equal(old, new) if isinstance(old, Tensor) else old == new


@pytest.mark.skipif(DEVICE.type != "cuda", reason="kernels in Triton run on cuda")
@pytest.mark.parametrize("differentiate", [second_derivatives, batched_gradients])
def test_kernels_give_way_where_their_backward_pass_is_transformed(differentiate) -> None:
    for defined, way in (pair for pair in WAYS if pair[1].name == "triton"):
        for arguments in drawn(defined.__name__, way, torch.float32, DEVICE):
            exact = tuple(a.cpu().double() if is_real(a) else moved(a, "cpu") for a in arguments)
            with plainly():
                expected = differentiate(defined.plain, exact)
            found = differentiate(way.compute, arguments)
            together = (torch.cat([part.double().flatten() for part in parts]) for parts in (found, expected))
            assert relative_error(*together) <= 3 * way.within  # each pass rounds, and some derivatives are zero


def test_every_operation_has_arguments_to_test_it_with() -> None:
    of_modules = {"one_token", "add_and_normalise", "between_matrices"}  # see test_decode.py, mps/test_metal.py
    of_modules |= {"scan_and_skip"}  # see test_sequence.py
    of_modules |= {"convolve_token", "select_and_turn", "normalise_and_turn"}
    assert {*DRAWN, *of_modules} == set(OPERATIONS)
    assert all(operation.ways for operation in OPERATIONS.values())


def test_plainly_takes_the_definition_everywhere_and_then_no_more() -> None:
    x, log_decay = torch.randn(1, 9, 2, 3), -torch.rand(1, 9, 2)
    B, C = torch.randn(1, 9, 1, 4), torch.randn(1, 9, 1, 4)
    fast, _ = scan.chunked(x, log_decay, B, C, chunk_size=4)
    with pytest.MonkeyPatch.context() as patch:
        for each in OPERATIONS.values():
            patch.setattr(each, "ways", [Way("broken", lambda *args: True, 0.0, lambda *args: 1 / 0)])
        with plainly():
            plain, _ = scan.chunked(x, log_decay, B, C, chunk_size=4)
            with plainly():
                pass
            torch.testing.assert_close(scan.sequential(x, log_decay, B, C)[0], plain)
        with pytest.raises(ZeroDivisionError):
            scan.chunked(x, log_decay, B, C)
    torch.testing.assert_close(fast, plain)


def test_the_first_way_that_serves_is_taken_and_else_the_definition() -> None:
    try:

        @operation
        def an_operation_of_a_test(x: int) -> str:
            """Twice."""
            return "plain"

        @an_operation_of_a_test.way("even", serves=lambda x: x % 2 == 0, within=0)
        def even(x: int) -> str:
            return "even"

        @an_operation_of_a_test.way("large", serves=lambda x: x > 9, within=0)
        def large(x: int) -> str:
            return "large"

        assert [an_operation_of_a_test(x) for x in (1, 2, 11, 12)] == ["plain", "even", "large", "even"]
        assert an_operation_of_a_test.__doc__ == "Twice."
        with plainly():
            assert an_operation_of_a_test(2) == "plain"
        assert even(1) == "even"
    finally:
        del OPERATIONS["an_operation_of_a_test"]
