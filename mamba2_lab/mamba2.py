"""The Mamba-2 block: a chain of small named steps around the scan.

    project -> convolve -> discretise -> scan -> gate -> out

Shapes: b batch, l length, d d_model, h heads, p headdim, g groups, n d_state; d_inner = h p.
Parameter names and layouts are those of the official code (state-spaces/mamba, modules/mamba2.py), so that weights
move between the two without a change. Padding has one form here: real tokens first, `lengths` (b,) of them in each
row; at the rest Delta is 0, so time stands still and the state passes through. `Mamba2LM` brings any mask into it.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mamba2_lab import scan, transforms
from mamba2_lab.cache import LayerState
from mamba2_lab.config import Mamba2Config
from mamba2_lab.projection import Projection


class RMSNorm(nn.Module):
    """x / rms(x) * weight, over the last axis, computed in float32 and returned in the dtype of the weight."""

    def __init__(self, d: int, eps: float = 1e-5, *, device: torch.device | str | None = None) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(d, device=device))

    def forward(self, x: Tensor) -> Tensor:
        x = x.to(torch.promote_types(self.weight.dtype, torch.float32))
        return F.rms_norm(x, self.weight.shape, self.weight.to(x.dtype), self.eps).to(self.weight.dtype)


class GatedRMSNorm(RMSNorm):
    """RMSNorm joined with the gate silu(z), normalising each group of channels on its own.

    norm(y * silu(z)), or norm(y) * silu(z) if norm_before_gate. (Paper, section 7.1 and figure 6: a norm before the
    last projection; by group, so that groups can live on different devices.)
    """

    def __init__(
        self,
        d: int,
        eps: float = 1e-5,
        ngroups: int = 1,
        norm_before_gate: bool = False,
        *,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__(d, eps, device=device)
        self.ngroups = ngroups
        self.norm_before_gate = norm_before_gate

    def forward(self, y: Tensor, z: Tensor) -> Tensor:  # type: ignore[override]
        accumulate = torch.promote_types(self.weight.dtype, torch.float32)
        weight = self.weight.to(accumulate)
        if self.norm_before_gate:
            normalised = _normalise(y.to(accumulate), weight, self.eps, self.ngroups)
            return (normalised * F.silu(z.to(accumulate))).to(self.weight.dtype)
        normed = scan.with_own_backward(_GateAndNormalise, y, z, weight, self.eps, self.ngroups)
        return normed.to(self.weight.dtype)


def _normalise(y: Tensor, weight: Tensor, eps: float, ngroups: int) -> Tensor:
    if ngroups == 1:  # one fused kernel where the device has it
        return F.rms_norm(y, weight.shape, weight, eps)
    grouped = y.unflatten(-1, (ngroups, -1))
    return F.rms_norm(grouped, grouped.shape[-1:], eps=eps).flatten(-2) * weight


class _GateAndNormalise(torch.autograd.Function):
    """norm(y * silu(z)) * weight, in the dtype of the weight: (...,d) twice and (d,) -> (...,d).

    Its own backward pass, because autograd would keep four tensors as large as y beside y and z: of a training step's
    memory an eighth. Here they are computed again.
    """

    @staticmethod
    def forward(y: Tensor, z: Tensor, weight: Tensor, eps: float, ngroups: int) -> Tensor:
        return _normalise(y.to(weight.dtype) * F.silu(z.to(weight.dtype)), weight, eps, ngroups)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        y, z, weight, ctx.eps, ctx.ngroups = inputs
        ctx.save_for_backward(y, z, weight)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        y, z, weight = ctx.saved_tensors
        grad, y_, z_ = grads[0], y.to(weight.dtype), z.to(weight.dtype)
        grouped = (*y.shape[:-1], ctx.ngroups, y.shape[-1] // ctx.ngroups)
        gate = F.silu(z_)
        gated = (y_ * gate).reshape(grouped)
        scale = torch.rsqrt(gated.square().mean(dim=-1, keepdim=True) + ctx.eps)  # 1 / rms
        normalised = gated * scale
        weighted = (grad * weight).reshape(grouped)
        # n = v / rms(v): a change of v along n itself only changes the length, which is normalised away.
        along = (weighted * normalised).mean(dim=-1, keepdim=True)
        grad_gated = torch.addcmul(weighted, normalised, along, value=-1).mul_(scale).reshape(y.shape)
        grad_weight = (grad * normalised.reshape(y.shape)).sum(dim=tuple(range(y.ndim - 1)))
        grad_z = _silu_backward(grad_gated * y_, z_)
        return (grad_gated * gate).to(y.dtype), grad_z.to(z.dtype), grad_weight, None, None


def _silu_backward(grad: Tensor, z: Tensor) -> Tensor:
    """The gradient of silu: torch's own is one kernel, but has no derivative."""
    if not torch.is_grad_enabled():
        return torch.ops.aten.silu_backward(grad, z)
    open_ = torch.sigmoid(z)
    return grad * open_ * (1 + z * (1 - open_))


class CausalConv(nn.Module):
    """A depthwise convolution over the last `width` tokens of each channel, followed by silu.

    Written as shift, multiply, add: on token-major data (b,l,channels) that reads memory in order, several times
    faster on a CPU than `conv1d` with a group per channel, and it stays clear of the faults that published versions
    of MPS have in convolutions of split views (pytorch issue 169342).
    """

    def __init__(
        self, channels: int, width: int, bias: bool = True, *, device: torch.device | str | None = None
    ) -> None:
        super().__init__()
        self.width = width
        bound = 1 / math.sqrt(width)  # that of nn.Conv1d, which the official code uses
        self.weight = nn.Parameter(torch.empty(channels, 1, width, device=device).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(channels, device=device).uniform_(-bound, bound)) if bias else None

    def forward(self, x: Tensor, window: Tensor, document_ids: Tensor | None = None) -> Tensor:
        """x (b,l,channels), window (b,width-1,channels) the inputs before it -> (b,l,channels)."""
        taps = self.weight.squeeze(1).t().contiguous()  # (width, channels)
        bias = torch.zeros_like(taps[0]) if self.bias is None else self.bias
        documents = None if document_ids is None else _document_numbers(document_ids, self.width - 1)
        y = scan.with_own_backward(_ShiftMultiplyAdd, x, window.to(x.dtype), taps, bias, documents)
        return F.silu(y).to(x.dtype)  # under autocast y is float32, and x is not

    def step(self, x_t: Tensor, window: Tensor) -> tuple[Tensor, Tensor]:
        """x_t (b,channels), window (b,width-1,channels) -> (y_t (b,channels), the window one token later)."""
        inputs = torch.cat([window.to(x_t.dtype), x_t.unsqueeze(1)], dim=1)
        if inputs.device.type == "cpu" or torch.compiler.is_compiling():
            y_t = self._multiply_and_add(inputs)
        else:
            y_t = self._product_per_channel(inputs)
        following = inputs[:, 1:]
        if torch.compiler.is_compiling():  # laid out as `last_inputs` does, or the next step would be compiled anew
            following = following.clone(memory_format=torch.contiguous_format)
        return F.silu(y_t), following

    def _multiply_and_add(self, inputs: Tensor) -> Tensor:
        """(b,width,channels) -> (b,channels), in two thirds of the time on a CPU; and a compiler fuses it."""
        y_t = (inputs * self.weight.squeeze(1).t()).sum(dim=1)
        return y_t if self.bias is None else y_t + self.bias

    def _product_per_channel(self, inputs: Tensor) -> Tensor:
        """The same as one kernel in place of three, which counts where each is launched by itself."""
        per_channel = inputs.permute(2, 0, 1)  # (channels, b, width)
        taps = self.weight.mT  # (channels, width, 1)
        if self.bias is None:
            y_t = torch.bmm(per_channel, taps)
        else:
            y_t = torch.baddbmm(self.bias[:, None, None], per_channel, taps)
        return y_t.squeeze(-1).t()

    def last_inputs(
        self, x: Tensor, window: Tensor, lengths: Tensor | None = None, document_ids: Tensor | None = None
    ) -> Tensor:
        """The window that a following token will see: the last width-1 real inputs of its own document."""
        if lengths is None:
            x, document_ids = x[:, -self.width :], None if document_ids is None else document_ids[:, -self.width :]
            lengths = torch.full((x.shape[0],), x.shape[1], device=x.device)
        inputs = torch.cat([window.to(x.dtype), x], dim=1)
        index = lengths[:, None] + torch.arange(self.width - 1, device=x.device)  # (b, width-1)
        last = inputs.gather(1, index.unsqueeze(-1).expand(-1, -1, inputs.shape[-1]))
        if document_ids is not None and x.shape[1] > 0:
            documents = _document_numbers(document_ids, self.width - 1)
            own = documents.gather(1, (lengths[:, None] + self.width - 2).clamp(min=0))
            last = last * (documents.gather(1, index) == own).unsqueeze(-1).to(x.dtype)
        return last


class _ShiftMultiplyAdd(torch.autograd.Function):
    """y_t = bias + sum over i of taps_i * input_{t-width+1+i}, of the token's own document.

    x (b,l,channels), window (b,width-1,channels) the inputs before it, taps (width,channels), bias (channels,),
    documents (b,width-1+l) or None -> (b,l,channels). Its own backward pass, because autograd would keep a copy of x
    with the window in front, and make a tensor for each tap to add it to the others.
    """

    @staticmethod
    def forward(x: Tensor, window: Tensor, taps: Tensor, bias: Tensor, documents: Tensor | None) -> Tensor:
        inputs, y = torch.cat([window, x], dim=1), bias
        for i, tap in enumerate(taps):
            shifted = _of_own_document(inputs[:, i : i + x.shape[1]], documents, i)
            y = torch.addcmul(y, shifted, tap) if i == 0 else transforms.add_product(y, shifted, tap)
        return y

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, window, taps, _, documents = inputs
        ctx.save_for_backward(x, window, taps, documents)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, window, taps, documents = ctx.saved_tensors
        (grad,), l = grads, x.shape[1]
        inputs = torch.cat([window, x], dim=1)
        grad_inputs = grad.new_zeros(inputs.shape)
        grad_taps = []
        for i, tap in enumerate(taps):
            of_tap = _of_own_document(grad, documents, i)
            grad_inputs[:, i : i + l].addcmul_(of_tap, tap)
            grad_taps.append((of_tap * inputs[:, i : i + l]).sum(dim=(0, 1)))
        grad_window, grad_x = grad_inputs.to(x.dtype).split([window.shape[1], l], dim=1)
        return grad_x, grad_window, torch.stack(grad_taps).to(taps.dtype), grad.sum(dim=(0, 1)), None


def _of_own_document(values: Tensor, documents: Tensor | None, i: int) -> Tensor:
    """values (b,l,channels), zero at the tokens whose i-th input belongs to another document."""
    if documents is None:
        return values
    l = values.shape[1]
    same = documents[:, i : i + l] == documents[:, documents.shape[1] - l :]
    return values * same.unsqueeze(-1).to(values.dtype)


def _document_numbers(document_ids: Tensor, width: int) -> Tensor:
    """(b,l) -> (b,width+l): documents counted from 0, those of the window in front: it belongs to the first document.

    Ids themselves will not do: one may come back, and a document between may be shorter than the window.
    """
    numbers = torch.cumsum(scan.document_starts(document_ids), dim=1, dtype=torch.int32)
    return F.pad(numbers, (width, 0))


def _ids_through_padding(document_ids: Tensor, lengths: Tensor) -> Tensor:
    """Ids with padding given to the row's last document: another id there would restart the state left behind."""
    position = torch.arange(document_ids.shape[1], device=document_ids.device)
    last = (lengths - 1).clamp(min=0)
    return document_ids.gather(1, torch.minimum(position, last[:, None]))


class Projected(NamedTuple):
    """What in_proj makes of each token, in the official order."""

    z: Tensor  # (b,l,d_inner) the gate
    xBC: Tensor  # (b,l,conv_dim) what goes through the convolution
    dt: Tensor  # (b,l,h) the raw step size


class Discretised(NamedTuple):
    """The arguments of the scan, and Delta itself."""

    x: Tensor  # (b,l,h,p) before it is scaled by dt: the skip connection needs it
    dt: Tensor  # (b,l,h) Delta >= 0, float32
    log_decay: Tensor  # (b,l,h) dt * A <= 0, float32
    B: Tensor  # (b,l,g,n)
    C: Tensor  # (b,l,g,n)

    @property
    def x_dt(self) -> Tensor:
        """What is written: x * dt, in float32."""
        return self.x * self.dt.unsqueeze(-1)


class Mamba2(nn.Module):
    """The Mamba-2 mixer: (b,l,d_model) -> (b,l,d_model), in time linear in l.

    Arguments are fields of `Mamba2Config`, which checks them; section references are there.

    >>> mixer = Mamba2(d_model=256)
    >>> mixer(torch.randn(1, 10, 256)).shape
    torch.Size([1, 10, 256])
    """

    # Parameters that set time scales and passes: pulling them to zero with weight decay would pull at the memory.
    no_weight_decay = ("dt_bias", "A_log", "D", "init_states")

    def __init__(
        self,
        d_model: int,
        d_state: int = 64,
        d_conv: int = 4,
        expand: int = 2,
        headdim: int = 128,
        ngroups: int = 1,
        A_init_range: tuple[float, float] = (1.0, 16.0),
        dt_min: float = 0.001,
        dt_max: float = 0.1,
        dt_limit: tuple[float, float] = (0.0, math.inf),
        chunk_size: int = 64,
        bias: bool = False,
        conv_bias: bool = True,
        norm_before_gate: bool = False,
        learnable_init_states: bool = False,
        dt_init_floor: float = 1e-4,
        norm_eps: float = 1e-5,
        *,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        self.config = config = Mamba2Config(
            d_model=d_model,
            d_state=d_state,
            d_conv=d_conv,
            expand=expand,
            headdim=headdim,
            ngroups=ngroups,
            A_init_range=A_init_range,
            dt_min=dt_min,
            dt_max=dt_max,
            dt_limit=dt_limit,
            chunk_size=chunk_size,
            bias=bias,
            conv_bias=conv_bias,
            norm_before_gate=norm_before_gate,
            learnable_init_states=learnable_init_states,
            dt_init_floor=dt_init_floor,
            norm_eps=norm_eps,
        )
        d_in_proj = config.d_inner + config.conv_dim + config.nheads
        self.in_proj = Projection(d_model, d_in_proj, bias=bias, device=device)
        self.conv1d = CausalConv(config.conv_dim, d_conv, bias=conv_bias, device=device)
        self.dt_bias = nn.Parameter(_inverse_softplus(_draw_dt(config, device)))
        self.A_log = nn.Parameter(torch.log(_draw_uniform(config.nheads, *config.A_init_range, device)))
        self.D = nn.Parameter(torch.ones(config.nheads, device=device))
        self.norm = GatedRMSNorm(config.d_inner, norm_eps, ngroups, norm_before_gate, device=device)
        self.out_proj = Projection(config.d_inner, d_model, bias=bias, device=device)
        self.init_states = (
            nn.Parameter(torch.zeros(config.nheads, headdim, d_state, device=device)) if learnable_init_states else None
        )

    def forward(self, u: Tensor, *, lengths: Tensor | None = None, document_ids: Tensor | None = None) -> Tensor:
        """The whole sequence at once: u (b,l,d_model) -> (b,l,d_model). Arguments as for `prefill`."""
        return self.prefill(u, lengths=lengths, document_ids=document_ids)[0]

    def prefill(
        self,
        u: Tensor,
        state: LayerState | None = None,
        *,
        lengths: Tensor | None = None,
        document_ids: Tensor | None = None,
    ) -> tuple[Tensor, LayerState]:
        """As `forward`, from a state to a state: a sequence may be cut anywhere and continued.

        Args:
            u: (b,l,d_model).
            state: what came before; None is the start of a sequence.
            lengths: (b,) number of real tokens, which come first in each row; the rest is padding. None: all real.
            document_ids: (b,l) integers; convolution and state restart where the id changes.

        Returns:
            (b,l,d_model) and the state after the last real token of each row.

        Raises:
            ValueError: naming the argument, the expected shape and what came; and for document_ids in a model with
                learnable initial states, where only the first document would start from them.
        """
        self._check_input(u, 3)
        if document_ids is not None and self.init_states is not None:
            raise ValueError(
                "document_ids cannot be used with learnable_init_states=True: give each document its own row"
            )
        if document_ids is not None and lengths is not None:
            document_ids = _ids_through_padding(document_ids, lengths)
        state = self.initial_state(u.shape[0]) if state is None else state
        self.check_state(state, u.shape[0])
        state = state.for_backward()
        z, xBC, dt = self.project(u)
        convolved = self.convolve(xBC, state.conv_window, document_ids)
        terms = self.discretise(convolved, dt, lengths)
        y, ssm_state = scan.chunked(
            terms.x_dt,
            terms.log_decay,
            terms.B,
            terms.C,
            state.ssm_state,
            self.config.chunk_size,
            document_ids=document_ids,
        )
        window = self.conv1d.last_inputs(xBC, state.conv_window, lengths, document_ids)
        return self.out(self.gate(self.skip(y, terms.x), z)), LayerState(window, ssm_state)

    def step(self, u_t: Tensor, state: LayerState) -> tuple[Tensor, LayerState]:
        """One token: u_t (b,d_model) and the state before it -> (b,d_model) and the state after it."""
        self._check_input(u_t, 2)
        self.check_state(state, u_t.shape[0])
        state = state.for_backward()
        z, xBC, dt = self.project(u_t)
        convolved, window = self.conv1d.step(xBC, state.conv_window)
        terms = self.discretise(convolved, dt)
        y, ssm_state = scan.step(terms.x_dt, terms.log_decay, terms.B, terms.C, state.ssm_state)
        return self.out(self.gate(self.skip(y, terms.x), z)), LayerState(window, ssm_state)

    def initial_state(self, batch_size: int) -> LayerState:
        """What stands before the first token: an empty window, and a zero (or learned) state."""
        config, weight = self.config, self.in_proj.weight
        window = torch.zeros(batch_size, config.d_conv - 1, config.conv_dim, dtype=weight.dtype, device=weight.device)
        shape = (batch_size, config.nheads, config.headdim, config.d_state)
        accumulate = torch.promote_types(weight.dtype, torch.float32)
        if self.init_states is not None:
            return LayerState(window, self.init_states.to(accumulate).expand(shape))
        return LayerState(window, torch.zeros(shape, dtype=accumulate, device=weight.device))

    # The steps. Each takes (b,l,...) or, for one token, (b,...).

    def project(self, u: Tensor) -> Projected:
        """One matrix makes everything a token needs: gate, convolution inputs, step size."""
        config = self.config
        return Projected(*self.in_proj(u).split([config.d_inner, config.conv_dim, config.nheads], dim=-1))

    def convolve(self, xBC: Tensor, window: Tensor, document_ids: Tensor | None = None) -> Tensor:
        """Mix each channel with its last d_conv-1 values: (b,l,conv_dim) -> (b,l,conv_dim)."""
        return self.conv1d(xBC, window, document_ids)

    def discretise(self, xBC: Tensor, dt: Tensor, lengths: Tensor | None = None) -> Discretised:
        """Split x, B, C into heads and groups, and turn the raw step size into Delta and the log decay Delta * A."""
        config = self.config
        x, B, C = xBC.split([config.d_inner, config.ngroups * config.d_state, config.ngroups * config.d_state], dim=-1)
        dt = self._step_size(dt)
        if lengths is not None:  # after the clamp: a lower dt_limit must not set time going again
            padding = torch.arange(dt.shape[1], device=dt.device) >= lengths[:, None]
            dt = dt.masked_fill(padding.unsqueeze(-1), 0.0)
        A = -torch.exp(self.A_log.to(dt.dtype))
        B, C = (part.unflatten(-1, (config.ngroups, config.d_state)) for part in (B, C))
        return Discretised(x.unflatten(-1, (config.nheads, config.headdim)), dt, dt * A, B, C)

    def _step_size(self, dt: Tensor) -> Tensor:
        accumulate = torch.promote_types(dt.dtype, torch.float32)
        dt = F.softplus(dt.to(accumulate) + self.dt_bias.to(accumulate))
        low, high = self.config.dt_limit
        return dt if (low, high) == (0.0, math.inf) else dt.clamp(low, high)

    def skip(self, y: Tensor, x: Tensor) -> Tensor:
        """Add D x, what passes by the state, and lay the heads side by side: (b,l,h,p) -> (b,l,d_inner)."""
        return torch.addcmul(y, x, self.D.to(y.dtype).unsqueeze(-1)).flatten(-2)

    def gate(self, y: Tensor, z: Tensor) -> Tensor:
        """Normalise and gate: (b,l,d_inner) twice -> (b,l,d_inner)."""
        return self.norm(y, z)

    def out(self, y: Tensor) -> Tensor:
        """Back to the residual stream: (b,l,d_inner) -> (b,l,d_model)."""
        return self.out_proj(y)

    def check_state(self, state: LayerState, batch_size: int, name: str = "state") -> None:
        """ValueError, naming it, unless it has the shapes of this mixer's states, that many rows, and its device."""
        config = self.config
        shapes = (
            ("conv_window", state.conv_window, (batch_size, config.d_conv - 1, config.conv_dim)),
            ("ssm_state", state.ssm_state, (batch_size, config.nheads, config.headdim, config.d_state)),
        )
        for part, tensor, shape in shapes:
            if tensor.shape != shape:
                raise ValueError(f"{name}.{part} must have shape {shape}; got {tuple(tensor.shape)}")
            if tensor.device != self.A_log.device:
                raise ValueError(f"{name}.{part} must be on {self.A_log.device}, as the weights; got {tensor.device}")

    def _check_input(self, u: Tensor, ndim: int) -> None:
        expected = ("b,l," if ndim == 3 else "b,") + f"{self.config.d_model}"
        if u.ndim != ndim or u.shape[-1] != self.config.d_model:
            raise ValueError(f"u must have shape ({expected}); got {tuple(u.shape)}")


class Block(nn.Module):
    """u + mixer(norm(u)), the residual stream u in float32 whatever the dtype of the weights."""

    def __init__(self, config: Mamba2Config, *, device: torch.device | str | None = None) -> None:
        super().__init__()
        self.norm = RMSNorm(config.d_model, config.norm_eps, device=device)
        self.mixer = Mamba2(**config.mixer_fields(), device=device)

    def forward(
        self,
        u: Tensor,
        state: LayerState | None = None,
        *,
        lengths: Tensor | None = None,
        document_ids: Tensor | None = None,
    ) -> tuple[Tensor, LayerState]:
        """(b,l,d_model) and a state -> (b,l,d_model) and the state after it; arguments as for `Mamba2.prefill`."""
        y, state = self.mixer.prefill(self.norm(u), state, lengths=lengths, document_ids=document_ids)
        return u + y, state

    def step(self, u_t: Tensor, state: LayerState) -> tuple[Tensor, LayerState]:
        """(b,d_model) and a state -> (b,d_model) and the state one token later."""
        y_t, state = self.mixer.step(self.norm(u_t), state)
        return u_t + y_t, state


def _draw_uniform(count: int, low: float, high: float, device: torch.device | str | None) -> Tensor:
    return torch.rand(count, device=device) * (high - low) + low


def _draw_dt(config: Mamba2Config, device: torch.device | str | None) -> Tensor:
    """Log-uniform in dt_min..dt_max: heads begin with time scales spread over two decades."""
    log_dt = _draw_uniform(config.nheads, math.log(config.dt_min), math.log(config.dt_max), device)
    return torch.exp(log_dt).clamp(min=config.dt_init_floor)


def _inverse_softplus(dt: Tensor) -> Tensor:
    """The v with softplus(v) = dt, in the form that keeps small dt exact."""
    return dt + torch.log(-torch.expm1(-dt))
