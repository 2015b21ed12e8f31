"""The operations that a model is made of, one by one: torch's, and ours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call

from mamba2_lab import scan
from mamba2_lab.health.check import Check, Values, normal, whole
from mamba2_lab.layers import CausalConv, GatedRMSNorm
from mamba2_lab.layers.attention import attend
from mamba2_lab.layers.rotary import accumulate, rotate
from mamba2_lab.layers.stored import multiply_stored

ROUNDING = 1e-5  # what is allowed; rounding to float32 stays ten times below
ROUNDED_ROWS = 1e-2  # allowed of torch's kernels for 8 and 4 bits, which round rows to bfloat16


def operation_check(what: str, function: Callable[..., Tensor], *inputs: Tensor, allowed: float = ROUNDING) -> Check:
    """An operation with and without gradients, on tensors that lie in one piece and on parts of larger ones.

    Published faults of MPS often spare contiguous tensors (pytorch issues 169342 and 118115).
    """

    def compute(name: str, dtype: torch.dtype) -> Values:
        given = [part.to(dtype) if part.is_floating_point() else part for part in inputs]
        values = {}
        for layout, place in (("contiguous", torch.Tensor.to), ("split views", inside_a_larger_one)):
            for value, tensor in _forward_and_backward(function, [place(part, name) for part in given]).items():
                values[f"{value}, {layout}"] = tensor
        return values

    return Check(what, partial(compute, "cpu", torch.float64), lambda name: compute(name, torch.float32), allowed)


def inside_a_larger_one(part: Tensor, name: str) -> Tensor:
    """The middle of a tensor three times as long."""
    size = part.shape[-1]
    return torch.cat([part.flip(-1), part, part], dim=-1).to(name).split(size, dim=-1)[1]


def _forward_and_backward(function: Callable[..., Tensor], inputs: Sequence[Tensor]) -> Values:
    with torch.no_grad():  # some operations have one kernel for this, and others when gradients are wanted
        values = {"without gradients": function(*inputs).cpu()}
    leaves = [part.detach().requires_grad_(part.is_floating_point()) for part in inputs]
    y = function(*leaves)
    if y.requires_grad:
        values["with gradients"] = y.detach().cpu()
        wanted = [leaf for leaf in leaves if leaf.requires_grad]
        gradients = torch.autograd.grad(y, wanted, normal(*y.shape, seed=1).to(y.dtype).to(y.device))
        values |= {f"gradient {i + 1}": gradient.cpu() for i, gradient in enumerate(gradients)}
    return values


def _scan(function: Callable[..., tuple[Tensor, Tensor]]) -> Callable[..., Tensor]:
    """y and the state as one tensor, from a log decay of either sign."""

    def compute(x: Tensor, log_decay: Tensor, *rest: Tensor) -> Tensor:
        y, state = function(x, -F.softplus(log_decay), *rest)
        return torch.cat([y.flatten(), state.flatten()])

    return compute


def _convolution(x: Tensor, window: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    module = CausalConv(x.shape[-1], window.shape[1] + 1)
    return functional_call(module, {"weight": weight, "bias": bias}, (x, window))


def _gated_norm(y: Tensor, z: Tensor, weight: Tensor) -> Tensor:
    return functional_call(GatedRMSNorm(weight.shape[0], ngroups=3), {"weight": weight}, (y, z))


def _attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Over all that stands before; and over itself and each third token before."""
    order = torch.arange(q.shape[1], device=q.device)
    own = order[:, None]
    visible = ((order < own) & (order % 3 == 0) | (order == own)).expand(q.shape[0], -1, -1)
    return torch.cat([attend(q, k, v, None, 0.5), attend(q, k, v, visible, 0.5)])


def _trapezoid(x: Tensor, dt: Tensor, share: Tensor, B: Tensor, C: Tensor, state: Tensor) -> Tensor:
    """Of two ranks, from raw numbers of either sign; what the last token wrote before is nothing."""
    dt, share = F.softplus(dt), torch.sigmoid(share)
    before = scan.Written(state, torch.zeros_like(x[:, 0]), torch.zeros_like(B[:, 0]))
    y, state = scan.trapezoidal(x, -dt, share * dt, (1 - share) * dt, B, C, before, 16)
    return torch.cat([y.flatten(), state.flatten()])


def _selective(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, state: Tensor) -> Tensor:
    y, state = scan.selective(x, F.softplus(dt), -F.softplus(A), B, C, D, state)
    return torch.cat([y.flatten(), state.flatten()])


def _in_8_bits(x: Tensor, numbers: Tensor, scales: Tensor) -> Tensor:
    return multiply_stored(x, (numbers - 128).to(torch.int8), scales, None)


def _in_4_bits(x: Tensor, numbers: Tensor, scales: Tensor) -> Tensor:
    return multiply_stored(x, numbers.to(torch.uint8), scales, None)


def _turned(x: Tensor, turns: Tensor) -> Tensor:
    angles = accumulate(turns, torch.zeros_like(turns[:, 0]))
    return torch.cat([rotate(x, angles, "neighbours"), rotate(x, angles, "halves")])


_SCAN_INPUTS = (normal(2, 70, 4, 8), normal(2, 70, 4), normal(2, 70, 2, 16), normal(2, 70, 2, 16, seed=1))
_STATE = normal(2, 4, 8, 16)

CHECKS = (
    operation_check("matmul", torch.matmul, normal(2, 9, 48), normal(48, 80)),
    # wrong on M1 and M2 from an inner size of 32767 on (pytorch issues 195163 and 193487)
    operation_check("matmul over 40,000", torch.matmul, normal(3, 40_000), normal(40_000, 4), allowed=1e-4),
    operation_check("batched matmul", lambda a, b: a @ b.mT, normal(2, 3, 8, 5), normal(2, 3, 7, 5)),
    operation_check("baddbmm", torch.baddbmm, normal(24, 1, 1), normal(24, 3, 4), normal(24, 4, 1)),
    operation_check("linear", F.linear, normal(2, 9, 48), normal(80, 48), normal(80)),
    operation_check(
        "linear, 8 bits",
        _in_8_bits,
        *(normal(2, 9, 64), whole(256, 80, 64), normal(80)),
        allowed=ROUNDED_ROWS,
    ),
    operation_check(
        "linear, 4 bits",
        _in_4_bits,
        *(normal(2, 9, 128), whole(256, 80, 64), normal(80, 2, 2)),
        allowed=ROUNDED_ROWS,
    ),
    operation_check("addcmul", torch.addcmul, normal(2, 3, 8, 5), normal(2, 3, 8, 1), normal(2, 3, 1, 5)),
    operation_check("cat", lambda a, b: torch.cat([a, b], dim=1), normal(2, 3, 8), normal(2, 9, 8)),
    operation_check("cumsum", lambda a: a.cumsum(dim=-2), normal(2, 3, 70, 70)),
    operation_check("cumsum, int32", lambda a: a.cumsum(dim=1, dtype=torch.int32), whole(2, 3, 90)),
    operation_check("segment sum, exp", lambda a: torch.exp(scan.segsum(-F.softplus(a))), normal(2, 3, 70)),
    operation_check("exp", torch.exp, normal(2, 9, 48)),
    operation_check("expm1", torch.expm1, 0.01 * normal(2, 9, 48)),
    operation_check("softplus", F.softplus, 10 * normal(2, 9, 48)),
    operation_check("silu", F.silu, 5 * normal(2, 9, 48)),
    operation_check("clamp", lambda a: a.clamp(-0.5, 0.5), normal(2, 9, 48)),
    operation_check("rms_norm", lambda a, w: F.rms_norm(a, w.shape, w, 1e-5), normal(2, 9, 48), normal(48)),
    operation_check("gated norm by group", _gated_norm, normal(2, 9, 48), normal(2, 9, 48, seed=1), normal(48)),
    operation_check(
        "causal convolution", _convolution, normal(2, 9, 48), normal(2, 3, 48), normal(48, 1, 4), normal(48)
    ),
    operation_check("embedding", lambda i, w: F.embedding(i, w), whole(64, 2, 300), normal(64, 48)),
    operation_check("gather", lambda a, i: a.gather(1, i), normal(3, 90), whole(90, 3, 70)),
    operation_check(
        "scatter", lambda i, a: torch.zeros_like(a).scatter(1, i, a), normal(3, 90).argsort(dim=1), normal(3, 90)
    ),
    operation_check("stable argsort", lambda a: a.argsort(dim=1, stable=True), whole(2, 3, 90).to(torch.int32)),
    operation_check("cross-entropy", lambda a, i: F.cross_entropy(a, i), normal(70, 64), whole(64, 70)),
    operation_check("scan, chunked", _scan(scan.chunked), *_SCAN_INPUTS, _STATE),
    operation_check("scan, quadratic", _scan(scan.quadratic), *_SCAN_INPUTS, _STATE),
    operation_check("tanh", torch.tanh, normal(2, 9, 48)),
    operation_check("softmax", lambda a: a.softmax(dim=-1), normal(2, 4, 9, 30)),
    operation_check(
        "layer_norm",
        lambda a, w, b: F.layer_norm(a, w.shape, w, b, 1e-5),
        *(normal(2, 9, 48), normal(48), normal(48, seed=1)),
    ),
    operation_check("pairs turned", _turned, normal(2, 70, 4, 16), normal(2, 70, 4, 8)),
    operation_check("attention", _attention, normal(2, 30, 4, 8), normal(2, 30, 2, 8), normal(2, 30, 2, 8, seed=1)),
    operation_check(
        "scan, selective",
        _selective,
        *(normal(2, 70, 24), normal(2, 70, 24, seed=1), normal(24, 8), normal(2, 70, 8), normal(2, 70, 8, seed=1)),
        *(normal(24), normal(2, 24, 8)),
    ),
    operation_check(
        "scan, trapezoidal",
        _trapezoid,
        *(normal(2, 70, 2, 4, 8), normal(2, 70, 4), normal(2, 70, 4, seed=1)),
        *(normal(2, 70, 2, 4, 16), normal(2, 70, 2, 4, 16, seed=1), _STATE),
    ),
    operation_check("scan, one step", _scan(scan.step), *(part[:, 0] for part in _SCAN_INPUTS), _STATE),
)
