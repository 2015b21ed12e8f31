"""The chunked scan with its products in bfloat16, as on cuda: here on the CPU, where a switch stands in for the device.

Torch rounds the factors of a product and its result; what is added up inside it is float32 on either device.
"""

import pytest
import torch
from support.oracle.mamba2 import ScanInputs, gradients, recurrence, relative_error, scan_inputs
from torch._subclasses.fake_tensor import FakeTensorMode

from mamba2_lab import scan
from mamba2_lab.fast import chunks_bfloat16
from mamba2_lab.scan import chunks
from mamba2_lab.scan.chunks import in_stretches

# Relative, by norms. A bfloat16 has 8 bits: a rounding is 4e-3 at most, and a few of them meet in each result.
TOLERANCE = 1e-2


@pytest.fixture
def as_on_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    (way,) = (way for way in in_stretches.ways if way.name == "cuda, bfloat16")
    here = way._replace(serves=lambda x, log_decay, B, C, *rest: B.dtype == C.dtype == torch.bfloat16)
    monkeypatch.setattr(in_stretches, "ways", [here])
    monkeypatch.setattr(chunks, "ssd", None)  # not to be called


def rounded(inputs: ScanInputs) -> ScanInputs:
    """x, B and C in bfloat16; decays and state as they come to the scan, in float32."""
    x, log_decay, B, C, state = inputs
    state = None if state is None else state.float()
    return ScanInputs(x.bfloat16(), log_decay.float(), B.bfloat16(), C.bfloat16(), state)


def check(inputs: ScanInputs, chunk_size: int = 64) -> None:
    y, state = scan.chunked(*rounded(inputs), chunk_size)
    expected_y, expected_state = recurrence(*inputs)
    assert (y.dtype, state.dtype) == (torch.bfloat16, torch.float32)
    assert y.shape == expected_y.shape
    assert relative_error(y, expected_y) <= TOLERANCE
    assert relative_error(state, expected_state) <= TOLERANCE


@pytest.mark.parametrize("initial", [True, False], ids=["initial", "from zero"])
@pytest.mark.parametrize("g", [1, 2, 4])
@pytest.mark.parametrize("l", [1, 2, 127, 128, 129, 300, 4096])
def test_any_length_stays_near_the_float64_recurrence(as_on_cuda: None, l: int, g: int, initial: bool) -> None:
    check(scan_inputs(l, b=16 if l < 10 else 2, g=g, initial=initial, dtype=torch.float64))


@pytest.mark.parametrize("l", [8 * 32, 8 * 33, 8 * 48, 8 * 49 + 3, 8 * 256, 8 * 256 + 1, 8 * 600 + 5])
def test_states_pass_through_any_number_of_chunks(as_on_cuda: None, monkeypatch: pytest.MonkeyPatch, l: int) -> None:
    monkeypatch.setattr(chunks_bfloat16, "CHUNK_SIZE", 1)
    inputs = scan_inputs(l, dtype=torch.float64)
    check(inputs._replace(log_decay=inputs.log_decay / 20), chunk_size=8)  # remembered over hundreds of chunks


def test_a_sequence_without_tokens_leaves_the_state_as_it_was(as_on_cuda: None) -> None:
    inputs = scan_inputs(0)
    y, state = scan.chunked(*rounded(inputs))
    assert y.shape == inputs.x.shape
    assert torch.equal(state, inputs.initial_state)


@pytest.mark.parametrize("cut", [1, 64, 128, 200, 299])
def test_a_sequence_may_be_cut_if_the_state_is_passed_on(as_on_cuda: None, cut: int) -> None:
    inputs = scan_inputs(300, g=2, dtype=torch.float64)
    x, log_decay, B, C, state = rounded(inputs)
    ys = []
    for part in (slice(0, cut), slice(cut, 300)):
        y, state = scan.chunked(x[:, part], log_decay[:, part], B[:, part], C[:, part], state)
        ys.append(y)
    expected_y, expected_state = recurrence(*inputs)
    assert relative_error(torch.cat(ys, dim=1), expected_y) <= TOLERANCE
    assert relative_error(state, expected_state) <= TOLERANCE


def test_documents_of_two_tokens_keep_their_decays(as_on_cuda: None) -> None:
    """Sixty restarts of -1e4 in a chunk: in float32 sums as large as that know no decay below 0.03."""
    inputs = scan_inputs(128, b=2, g=2, initial=False, dtype=torch.float64)
    inputs = inputs._replace(log_decay=torch.full_like(inputs.log_decay, -0.03))
    document_ids = (torch.arange(128) // 2).expand(2, 128)
    y, _ = scan.chunked(*rounded(inputs), document_ids=document_ids)
    pairs = ScanInputs(*(part.unflatten(1, (64, 2)).flatten(0, 1) for part in inputs[:4]), None)
    expected = recurrence(*pairs)[0].unflatten(0, (2, 64)).flatten(1, 2)
    late = slice(108, None)  # where the sums are largest
    assert (y - expected)[:, late].norm() <= 4e-3 * expected[:, late].norm()


def test_nothing_at_all_leaks_into_the_next_document(as_on_cuda: None) -> None:
    inputs = rounded(scan_inputs(200, g=2))
    loud = inputs.map(torch.clone)
    for part in (loud.x, loud.B, loud.C, loud.initial_state):
        part[:, :121] *= 1e6
    loud.log_decay[:, :121] = 0.0
    document_ids = (torch.arange(200) >= 121).int().expand(2, 200)
    y, state = scan.chunked(*inputs, document_ids=document_ids)
    loud_y, loud_state = scan.chunked(*loud, document_ids=document_ids)
    assert torch.equal(y[:, 121:], loud_y[:, 121:])
    assert torch.equal(state, loud_state)


@pytest.mark.parametrize("t", [0, 1, 127, 128, 250])
def test_no_output_depends_on_a_later_token(as_on_cuda: None, t: int) -> None:
    inputs = rounded(scan_inputs(300, g=2))
    changed = inputs.map(torch.clone)
    for part in changed[:4]:
        part[:, t] = 3 * part[:, t] - 1
    y, changed_y = scan.chunked(*inputs)[0], scan.chunked(*changed)[0]
    assert torch.equal(y[:, :t], changed_y[:, :t])
    assert not torch.equal(y[:, t], changed_y[:, t])


@pytest.mark.parametrize("log_decay", [-640.0, 0.0], ids=["dt = 10 and A = -64", "no decay"])
def test_the_extremes_of_decay_give_the_right_values(as_on_cuda: None, log_decay: float) -> None:
    inputs = scan_inputs(200, p=16, n=32, dtype=torch.float64)
    check(inputs._replace(log_decay=torch.full_like(inputs.log_decay, log_decay)))


def test_gradients_are_near_those_of_the_sequential_scan_in_float64(as_on_cuda: None) -> None:
    inputs = scan_inputs(300, g=2, dtype=torch.float64)
    found = gradients(scan.chunked, rounded(inputs))
    for name, one, other in zip(inputs._fields, found, gradients(scan.sequential, inputs), strict=True):
        assert relative_error(one, other) <= 2e-2, name


@pytest.mark.parametrize(
    ("device", "dtypes", "expected"),
    [
        ("cuda", (torch.bfloat16, torch.bfloat16), True),
        ("cuda", (torch.float32, torch.float32), False),
        ("cuda", (torch.bfloat16, torch.float32), False),
        ("cuda", (torch.float16, torch.float16), False),
        ("cpu", (torch.bfloat16, torch.bfloat16), False),
        ("mps", (torch.bfloat16, torch.bfloat16), False),
    ],
    ids=str,
)
def test_products_are_in_bfloat16_where_both_factors_are_on_cuda(
    device: str, dtypes: tuple[torch.dtype, torch.dtype], expected: bool
) -> None:
    with FakeTensorMode():  # of any device, without its memory
        B, C = (torch.empty(1, 2, 1, 4, device=device, dtype=dtype) for dtype in dtypes)
        x, log_decay = torch.empty(1, 2, 3, 5, device=device), torch.empty(1, 2, 3, device=device)
        assert chunks_bfloat16.multiplies_in_bfloat16(x, log_decay, B, C) is expected
