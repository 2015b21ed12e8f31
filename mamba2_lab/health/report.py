"""Whether this machine computes the right numbers: operation by operation, then the model, its training, its draws.

Every device is held against float64 on the CPU, with the same inputs. What comes out is a report in Markdown, to be
read in a terminal or pasted into an issue. Checked by emulation on Linux; not run on Apple hardware.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call

from mamba2_lab import scan
from mamba2_lab.data import PackedTokens
from mamba2_lab.generation import SamplingConfig, sample
from mamba2_lab.health import choice
from mamba2_lab.layers import CausalConv, GatedRMSNorm
from mamba2_lab.machine import devices, facts, freed_memory, threads
from mamba2_lab.mamba2_lm import Mamba2LM
from mamba2_lab.training import TrainingConfig, fit, next_token_loss

OPERATION_TOLERANCE = 1e-5  # float32 rounding gives up to 1e-6
HALF_TOLERANCE = 5e-2  # bfloat16 has 8 bits, and a model adds up many roundings
TRAINING_TOLERANCE = 1e-3  # each step starts from the roundings of all before it
DRAWS = 20_000
DRAW_TOLERANCE = 0.1  # of the likeliest token's share; chance alone gives 0.03
PACKAGES = ("mamba2-lab", "numpy", "safetensors", "tokenizers", "accelerate")

Values = dict[str, Tensor]  # what was computed, brought to the CPU, each under the name that a report gives it


@dataclass(frozen=True)
class Finding:
    """How one device does at one thing.

    error: the largest difference from what is right, relative to the largest value; infinite for a NaN, and for what
        the device could not compute.
    where: which of the values is the worst, or what the device said.
    """

    what: str
    error: float
    allowed: float
    where: str

    @property
    def agrees(self) -> bool:
        """Whether the difference is small enough."""
        return self.error <= self.allowed


@dataclass(frozen=True)
class Check:
    """One thing to compute: what is right, from float64 on the CPU, and what a device finds."""

    what: str
    expected: Callable[[], Values]
    found: Callable[[str], Values]
    allowed: float = choice.TOLERANCE

    def on(self, names: Sequence[str]) -> list[Finding]:
        """A finding for each of the devices."""
        with torch.inference_mode(False), torch.enable_grad():  # whatever the caller has switched off
            expected = self.expected()
            return [self._compare(name, expected) for name in names]

    def _compare(self, name: str, expected: Values) -> Finding:
        try:
            found = self.found(name)
        # An operation or a dtype that the device does not have; or NaN, which training and the sampler refuse.
        except (RuntimeError, TypeError, ValueError, FloatingPointError) as fault:
            return Finding(self.what, math.inf, self.allowed, str(fault).partition("\n")[0])
        errors = {value: _difference(found[value], expected[value]) for value in expected}
        worst = max(errors, key=lambda value: errors[value])
        return Finding(self.what, errors[worst], self.allowed, worst)


def examine(wanted: str | None = None) -> Iterator[tuple[str, bool]]:
    """The report, section by section as it is ready, and whether all is well in each.

    Args:
        wanted: a device to examine beside the CPU; None examines every one that this machine has.

    Raises:
        ValueError: if `wanted` names no device, or one that this machine does not have.
    """
    names = [name for name in ("cpu", "cuda", "mps") if devices.is_available(name)]
    if wanted is not None:
        names = list(dict.fromkeys(["cpu", str(choice.choose(wanted).device)]))
    yield _machine(names), True
    for title, checks in (("Operations", OPERATIONS), ("The model", MODEL_CHECKS)):
        rows = [check.on(names) for check in checks]
        agrees = all(finding.agrees for row in rows for finding in row)
        yield f"### {title}\n\n{_table(names, rows)}\n\n{_verdicts(names, rows)}", agrees


def _difference(found: Tensor, expected: Tensor) -> float:
    largest = float((found.double() - expected.double()).abs().max())
    size = float(expected.double().abs().max())
    relative = largest / size if size > 0 else largest
    return math.inf if math.isnan(relative) else relative


# Operations: those that the model is made of, one by one


def _normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator("cpu").manual_seed(seed + sum(shape)))


def _whole(high: int, *shape: int) -> Tensor:
    return torch.randint(0, high, shape, generator=torch.Generator("cpu").manual_seed(high))


def _operation(
    what: str, function: Callable[..., Tensor], *inputs: Tensor, allowed: float = OPERATION_TOLERANCE
) -> Check:
    """An operation with and without gradients, on tensors that lie in one piece and on parts of larger ones.

    Published faults of MPS often spare contiguous tensors (pytorch issues 169342 and 118115).
    """

    def compute(name: str, dtype: torch.dtype) -> Values:
        given = [part.to(dtype) if part.is_floating_point() else part for part in inputs]
        values = {}
        for layout, place in (("contiguous", torch.Tensor.to), ("split views", _inside_a_larger_one)):
            for value, tensor in _forward_and_backward(function, [place(part, name) for part in given]).items():
                values[f"{value}, {layout}"] = tensor
        return values

    return Check(what, partial(compute, "cpu", torch.float64), lambda name: compute(name, torch.float32), allowed)


def _inside_a_larger_one(part: Tensor, name: str) -> Tensor:
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
        gradients = torch.autograd.grad(y, wanted, _normal(*y.shape, seed=1).to(y.dtype).to(y.device))
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


_SCAN_INPUTS = (_normal(2, 70, 4, 8), _normal(2, 70, 4), _normal(2, 70, 2, 16), _normal(2, 70, 2, 16, seed=1))
_STATE = _normal(2, 4, 8, 16)

OPERATIONS = (
    _operation("matmul", torch.matmul, _normal(2, 9, 48), _normal(48, 80)),
    # wrong on M1 and M2 from an inner size of 32767 on (pytorch issues 195163 and 193487)
    _operation("matmul over 40,000", torch.matmul, _normal(3, 40_000), _normal(40_000, 4), allowed=1e-4),
    _operation("batched matmul", lambda a, b: a @ b.mT, _normal(2, 3, 8, 5), _normal(2, 3, 7, 5)),
    _operation("baddbmm", torch.baddbmm, _normal(24, 1, 1), _normal(24, 3, 4), _normal(24, 4, 1)),
    _operation("linear", F.linear, _normal(2, 9, 48), _normal(80, 48), _normal(80)),
    _operation("addcmul", torch.addcmul, _normal(2, 3, 8, 5), _normal(2, 3, 8, 1), _normal(2, 3, 1, 5)),
    _operation("cat", lambda a, b: torch.cat([a, b], dim=1), _normal(2, 3, 8), _normal(2, 9, 8)),
    _operation("cumsum", lambda a: a.cumsum(dim=-2), _normal(2, 3, 70, 70)),
    _operation("cumsum, int32", lambda a: a.cumsum(dim=1, dtype=torch.int32), _whole(2, 3, 90)),
    _operation("segment sum, exp", lambda a: torch.exp(scan.segsum(-F.softplus(a))), _normal(2, 3, 70)),
    _operation("exp", torch.exp, _normal(2, 9, 48)),
    _operation("expm1", torch.expm1, 0.01 * _normal(2, 9, 48)),
    _operation("softplus", F.softplus, 10 * _normal(2, 9, 48)),
    _operation("silu", F.silu, 5 * _normal(2, 9, 48)),
    _operation("clamp", lambda a: a.clamp(-0.5, 0.5), _normal(2, 9, 48)),
    _operation("rms_norm", lambda a, w: F.rms_norm(a, w.shape, w, 1e-5), _normal(2, 9, 48), _normal(48)),
    _operation("gated norm by group", _gated_norm, _normal(2, 9, 48), _normal(2, 9, 48, seed=1), _normal(48)),
    _operation(
        "causal convolution", _convolution, _normal(2, 9, 48), _normal(2, 3, 48), _normal(48, 1, 4), _normal(48)
    ),
    _operation("embedding", lambda i, w: F.embedding(i, w), _whole(64, 2, 300), _normal(64, 48)),
    _operation("gather", lambda a, i: a.gather(1, i), _normal(3, 90), _whole(90, 3, 70)),
    _operation(
        "scatter", lambda i, a: torch.zeros_like(a).scatter(1, i, a), _normal(3, 90).argsort(dim=1), _normal(3, 90)
    ),
    _operation("stable argsort", lambda a: a.argsort(dim=1, stable=True), _whole(2, 3, 90).to(torch.int32)),
    _operation("cross-entropy", lambda a, i: F.cross_entropy(a, i), _normal(70, 64), _whole(64, 70)),
    _operation("scan, chunked", _scan(scan.chunked), *_SCAN_INPUTS, _STATE),
    _operation("scan, quadratic", _scan(scan.quadratic), *_SCAN_INPUTS, _STATE),
    _operation("scan, one step", _scan(scan.step), *(part[:, 0] for part in _SCAN_INPUTS), _STATE),
)


# The model: every way to read tokens, and to learn from them


Path = Callable[[Mamba2LM, Tensor], Values]


def read_at_once(model: Mamba2LM, ids: Tensor) -> Values:
    """One forward pass."""
    return {"logits": model(ids)}


def read_one_row(model: Mamba2LM, ids: Tensor) -> Values:
    """The same for a batch of one: some published faults show there, others only in larger batches."""
    return read_at_once(model, ids[:1])


@torch.no_grad()
def read_in_pieces(model: Mamba2LM, ids: Tensor) -> Values:
    """A prefill, another from its cache, then token by token."""
    _, cache = model.prefill(ids[:, :21])
    values = {}
    values["second prefill"], cache = model.prefill(ids[:, 21:60], cache)
    for tokens in ids[:, 60:].unbind(1):
        values["last step"], cache = model.step(tokens, cache)
    return values | cache.layers[-1].tensors()


@torch.no_grad()
def read_padded(model: Mamba2LM, ids: Tensor) -> Values:
    """Rows with padding on the left, on the right, and in the middle."""
    b, l = ids.shape
    first, last = torch.arange(b)[:, None] * 9 % l, l - torch.arange(b)[:, None] * 5 % l
    position = torch.arange(l)
    real = (position >= first) & (position < last) & (position != l // 2)
    logits, cache = model.prefill(ids, attention_mask=real, all_positions=True)
    return {"logits": logits.cpu()[real], **cache.layers[-1].tensors()}


@torch.no_grad()
def read_packed(model: Mamba2LM, ids: Tensor) -> Values:
    """Several documents in a row."""
    documents = (torch.arange(ids.shape[1]) // 13 % 3).expand(ids.shape)
    logits, cache = model.prefill(ids, document_ids=documents, all_positions=True)
    return {"logits": logits, **cache.layers[-1].tensors()}


def differentiate(model: Mamba2LM, ids: Tensor) -> Values:
    """The gradient of the loss with respect to every weight."""
    names, weights = zip(*model.named_parameters(), strict=True)
    loss = next_token_loss(model(ids[:, :-1]), ids[:, 1:].to(model.device))
    return {"loss": loss, **dict(zip(names, torch.autograd.grad(loss, weights), strict=True))}


def differentiate_recomputing(model: Mamba2LM, ids: Tensor) -> Values:
    """The same with each block computed again in the backward pass."""
    model.checkpoint_blocks = True
    values = differentiate(model, ids)
    model.checkpoint_blocks = False
    return values


def learn(model: Mamba2LM, ids: Tensor, steps: int = 50) -> Values:
    """The losses of some training steps."""
    tokens = PackedTokens(ids.flatten().to(torch.int32), torch.arange(ids.numel(), dtype=torch.int32) // 50)
    config = TrainingConfig(steps=steps, batch_size=4, length=24, warmup_steps=5, learning_rate=1e-3)
    records = fit(model, tokens, config, progress=False)
    return {
        "loss": torch.tensor([record.loss for record in records]),
        "length of the gradient": torch.tensor([record.gradient_norm for record in records]),
    }


def _model_check(what: str, path: Path, allowed: float = choice.TOLERANCE, dtype: torch.dtype = torch.float32) -> Check:
    ids = _whole(64, 3, 70)

    def compute(name: str, dtype: torch.dtype) -> Values:
        model = choice.small_model().to(dtype).to(name)
        return {value: tensor.detach().cpu() for value, tensor in path(model, ids).items()}

    return Check(what, partial(compute, "cpu", torch.float64), lambda name: compute(name, dtype), allowed)


# The sampler


_LOGITS = 2 * _normal(64)
_SAMPLING = SamplingConfig(temperature=0.8, top_k=20, top_p=0.95)


def _exact_shares() -> Values:
    """How often each token must come, from the definition of temperature, top-k and top-p."""
    logits, order = (_LOGITS.double() / 0.8).sort(descending=True)
    likeliest = logits[:20].softmax(dim=0)
    kept = likeliest[likeliest.cumsum(dim=0) - likeliest < 0.95]
    shares = torch.zeros(64, dtype=torch.float64).scatter(0, order[: len(kept)], kept / kept.sum())
    return {"shares": shares, "draws of tokens that were filtered out": torch.zeros(1)}


def _drawn_shares(name: str) -> Values:
    logits = _LOGITS.to(name).expand(DRAWS, -1)
    drawn = sample(logits, _SAMPLING, torch.Generator("cpu").manual_seed(0)).bincount(minlength=64)
    return {
        "shares": drawn / DRAWS,
        "draws of tokens that were filtered out": drawn[_exact_shares()["shares"] == 0].sum()[None],
    }


MODEL_CHECKS = (
    _model_check("reading one row", read_one_row),
    _model_check("reading three rows", read_at_once),
    _model_check("reading in pieces and steps", read_in_pieces),
    _model_check("reading with padding", read_padded),
    _model_check("reading packed documents", read_packed),
    _model_check("gradients", differentiate),
    _model_check("gradients, blocks recomputed", differentiate_recomputing),
    _model_check("50 training steps", learn, TRAINING_TOLERANCE),
    _model_check("reading in bfloat16", read_in_pieces, HALF_TOLERANCE, torch.bfloat16),
    _model_check("reading in float16", read_in_pieces, HALF_TOLERANCE, torch.float16),
    Check(f"{DRAWS:,} draws", _exact_shares, _drawn_shares, DRAW_TOLERANCE),
)


# The report


def _machine(names: Sequence[str]) -> str:
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    rows = [choice.summary(), f"processor     {facts.processor()}"]
    for name in names:
        size = facts.memory(name)
        rows.append(f"{name + ' memory':<12}  {'unknown' if size is None else f'{size / 2**30:.1f} GiB'}")
    rows += [f"{name:<12}  {value}" for name, value in (*threads.report(), freed_memory.report())]
    rows.append(f"packages      {packages}")
    if os.environ.get("PYTORCH_ENABLE_MPS_FALLBACK", "0") != "0":
        rows.append("beware        PYTORCH_ENABLE_MPS_FALLBACK is set: what mps lacks runs on the CPU, unannounced")
    return "## This machine\n\n```\n" + "\n".join(rows) + "\n```"


def _table(names: Sequence[str], rows: Sequence[Sequence[Finding]]) -> str:
    """A row per thing, a column per device: the largest difference from float64 on the CPU, relative."""
    lines = [["largest relative difference", "allowed", *names]]
    for row in rows:
        lines.append([row[0].what, f"{row[0].allowed:.0e}", *map(_cell, row)])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])])
    return "\n".join(_line(cells, widths) for cells in lines)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    (first, first_width), *rest = zip(cells, widths, strict=True)
    return " | ".join([f"| {first:<{first_width}}", *(f"{cell:>{width}}" for cell, width in rest)]) + " |"


def _cell(finding: Finding) -> str:
    text = f"{finding.error:.1e}" if finding.error else "exact"
    return text if finding.agrees else f"**{text}**"


def _verdicts(names: Sequence[str], rows: Sequence[Sequence[Finding]]) -> str:
    """A line for each device that is right, and for each finding that is not."""
    lines = []
    for name, findings in zip(names, zip(*rows, strict=True), strict=True):
        wrong = [finding for finding in findings if not finding.agrees]
        lines += [
            f"- **{name} is wrong at {finding.what}**, by {finding.error:.1e} where {finding.allowed:.0e} is allowed: "
            f"{finding.where}"
            for finding in wrong
        ]
        if not wrong:
            lines.append(f"- {name}: all {len(findings)} agree with float64 on the CPU")
    return "\n".join(lines)
