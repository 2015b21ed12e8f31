"""Attention, with a memory that grows: each token looks back at the keys and values of all before it.

    project -> convolve -> heads -> turn -> remember -> attend -> out

Shapes: b batch, l length, t tokens kept, h heads, k heads that have keys and values, p channels per head.
Parameter names and layouts are those of the official code (state-spaces/mamba, modules/mha.py). Padding and documents
are as in `mamba2.py`. The convolution's window holds what goes into the convolution; the official prefill keeps what
comes out of it, so that its first tokens after a prompt are wrong.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mamba2_lab.config import AttentionFields
from mamba2_lab.layers.convolution import CausalConv
from mamba2_lab.layers.documents import is_padding, number_documents, through_padding
from mamba2_lab.layers.growing import Room, lengthened
from mamba2_lab.layers.linear import Projection
from mamba2_lab.layers.mixer import Mixer, State
from mamba2_lab.layers.rotary import rotate, turns_at
from mamba2_lab.machine.autocast import outside_autocast
from mamba2_lab.machine.shapes import Shape
from mamba2_lab.operation import operation


class Attention(Mixer["AttentionState"]):
    """Causal attention: (b,l,d_model) -> (b,l,d_model), in time quadratic in l.

    Args:
        d_model: width of the residual stream.
        fields: the other fields of `AttentionFields`, by name; their defaults are there, and what is refused.
    """

    no_weight_decay: tuple[str, ...] = ()

    def __init__(self, d_model: int, *, device: torch.device | str | None = None, **fields: Any) -> None:
        super().__init__()
        self.config = config = AttentionFields.from_dict({"d_model": d_model, **fields})
        with torch.device(torch.get_default_device() if device is None else device):
            self.in_proj = Projection(d_model, config.conv_dim, bias=config.qkv_proj_bias)
            self.conv1d = CausalConv(config.conv_dim, config.d_conv, activation=False) if config.d_conv else None
            self.out_proj = Projection(config.d_inner, d_model, bias=config.out_proj_bias)

    def prefill(
        self,
        u: Tensor,
        state: AttentionState | None = None,
        *,
        lengths: Tensor | None = None,
        document_ids: Tensor | None = None,
    ) -> tuple[Tensor, AttentionState]:
        """As `forward`, from a state to a state: a sequence may be cut anywhere and continued.

        Args:
            u: (b,l,d_model).
            state: what came before; None is the start of a sequence.
            lengths: (b,) number of real tokens, which come first in each row; the rest is padding. None: all real.
            document_ids: (b,l) integers; where the id changes, positions start anew and nothing before is seen.

        Returns:
            (b,l,d_model) and the state after the last real token of each row.

        Raises:
            ValueError: for a wrong shape.
        """
        if document_ids is not None and lengths is not None:
            document_ids = through_padding(document_ids, lengths)
        before = self._checked(u, "b,l", state)
        qkv = self.project(u)
        convolved = self.convolve(qkv, before.conv_window, document_ids)
        window = self._last_inputs(qkv, before.conv_window, lengths, document_ids)
        look = look_back(before.real, u.shape[1], lengths, document_ids)
        return self._read(convolved, window, look, before)

    def step(self, u_t: Tensor, state: AttentionState) -> tuple[Tensor, AttentionState]:
        """One token: u_t (b,d_model) and the state before it -> (b,d_model) and the state after it."""
        before = self._checked(u_t, "b", state)
        convolved, window = self.project(u_t), before.conv_window
        if self.conv1d is not None:
            convolved, window = self.conv1d.step(convolved, window)
        real = F.pad(before.real, (0, 1), value=True)
        look = LookBack(real[:, None], real.sum(dim=1, keepdim=True) - 1, real)
        y, after = self._read(convolved.unsqueeze(1), window, look, before)
        return y.squeeze(1), after

    def initial_state(self, batch_size: int) -> AttentionState:
        """What stands before the first token: an empty window, and no keys or values."""
        weight, shapes = next(self.parameters()), self.state_shapes(batch_size)
        dtypes = {name: torch.bool if name == "real" else weight.dtype for name in shapes}
        return AttentionState(
            **{name: torch.zeros(shapes[name], dtype=dtypes[name], device=weight.device) for name in shapes}
        )

    def state_shapes(self, batch_size: int) -> dict[str, Shape]:
        """The shapes of an `AttentionState` before the first token, by name."""
        config = self.config
        kept = (batch_size, 0, config.heads_kept, config.channels_per_head)
        window = (batch_size, max(config.d_conv - 1, 0), config.conv_dim)
        return {"keys": kept, "values": kept, "real": (batch_size, 0), "conv_window": window}

    # The steps. Each takes (b,l,...); `project` and `out` also take (b,...), for one token.

    def project(self, u: Tensor) -> Tensor:
        """Queries, keys and values of all heads, side by side: (b,l,d_model) -> (b,l,conv_dim)."""
        return self.in_proj(u)

    def convolve(self, qkv: Tensor, window: Tensor, document_ids: Tensor | None = None) -> Tensor:
        """Mix each channel with its last d_conv-1 values, if d_conv is not 0: (b,l,conv_dim) -> (b,l,conv_dim)."""
        return qkv if self.conv1d is None else self.conv1d(qkv, window, document_ids)

    def heads(self, qkv: Tensor) -> tuple[Tensor, Tensor]:
        """(b,l,conv_dim) -> queries and keys (b,l,h+k,p), which are to be turned alike, and values (b,l,k,p)."""
        config, kept = self.config, self.config.heads_kept
        qk, v = qkv.unflatten(-1, (-1, config.channels_per_head)).split([config.num_heads + kept, kept], dim=-2)
        return qk, v

    def turn(self, qk: Tensor, position: Tensor) -> tuple[Tensor, Tensor]:
        """Turn the first channels of each head by how far its token is into its document.

        (b,l,h+k,p), position (b,l) or (l,) -> queries (b,l,h,p), keys (b,l,k,p)
        """
        config, width = self.config, self.config.rotary_emb_dim
        if width > 0:
            accumulate = torch.promote_types(qk.dtype, torch.float32)
            turns = turns_at(position, width, config.rotary_emb_base, accumulate).unsqueeze(-2)  # for all heads
            turned = rotate(qk[..., :width], turns, "neighbours" if config.rotary_emb_interleaved else "halves")
            qk = torch.cat([turned.to(qk.dtype), qk[..., width:]], dim=-1)
        q, k = qk.split([config.num_heads, config.heads_kept], dim=-2)
        return q, k

    def remember(self, k: Tensor, v: Tensor, real: Tensor, window: Tensor, before: AttentionState) -> AttentionState:
        """The state with these keys and values (b,l,k,p) behind its own, and what of all is real (b,t+l)."""
        (keys, values), room = lengthened((before.keys, before.values), (k, v), before.room)
        after = AttentionState(keys, values, real, window)
        object.__setattr__(after, "room", room)  # no argument: a state that is edited must not go on in this room
        return after

    @outside_autocast
    def attend(self, q: Tensor, keys: Tensor, values: Tensor, visible: Tensor | None) -> Tensor:
        """Look back: (b,l,h,p), (b,t,k,p) twice, (b,l,t) or None -> (b,l,h,p). See the operation of this name."""
        return attend(q, keys, values, visible, self.config.scale)

    def out(self, y: Tensor) -> Tensor:
        """Back to the residual stream: (b,l,h,p) -> (b,l,d_model)."""
        return self.out_proj(y.flatten(-2))

    def _read(
        self, qkv: Tensor, window: Tensor, look: LookBack, before: AttentionState
    ) -> tuple[Tensor, AttentionState]:
        qk, v = self.heads(qkv)
        q, k = self.turn(qk, look.position)
        after = self.remember(k, v, look.real, window, before)
        return self.out(self.attend(q, after.keys, after.values, look.visible)), after

    def _last_inputs(self, qkv: Tensor, window: Tensor, lengths: Tensor | None, document_ids: Tensor | None) -> Tensor:
        return window if self.conv1d is None else self.conv1d.last_inputs(qkv, window, lengths, document_ids)


@dataclass(frozen=True)
class AttentionState(State):
    """What an `Attention` remembers: one key and one value for each token, so it gets longer as it reads on.

    keys, values: (b,t,k,p), the keys turned to their positions; dtype of the weights, or of autocast.
    real: (b,t) bool, what following tokens see: not padding, and not what stood before the last document.
    conv_window: (b, d_conv-1, conv_dim), the convolution's last inputs, oldest first, zero before the first token.
    """

    windows, grows = ("conv_window",), ("keys", "values", "real")

    keys: Tensor
    values: Tensor
    real: Tensor
    conv_window: Tensor
    room: Room | None = field(default=None, init=False, repr=False, compare=False)  # where keys and values stand


class LookBack(NamedTuple):
    """What new tokens see of all there are, and what those after them will see."""

    visible: Tensor | None  # (b,l,t+l) bool; None: everything before and itself
    position: Tensor  # (b,l) or (l,): how many tokens of its document stand before each
    real: Tensor  # (b,t+l) bool


def look_back(before: Tensor, l: int, lengths: Tensor | None = None, document_ids: Tensor | None = None) -> LookBack:
    """What l new tokens see, behind those of which `before` (b,t) were real.

    A token sees those real ones of its document that stand before it, and itself; so its position is how many others it
    sees. The first document goes on from the state. Padding sees itself too, for whoever sees nothing has no mean.
    """
    b, t = before.shape
    order = torch.arange(t + l, device=before.device)
    new = torch.ones(b, l, dtype=torch.bool, device=before.device) if lengths is None else ~is_padding(lengths, l)
    real = torch.cat([before, new], dim=1)
    if t == 0 and document_ids is None:  # padding stands behind all that is real, and is not seen
        return LookBack(None, order, real)
    own = order[t:, None]
    visible = real[:, None] & (order < own)
    if document_ids is not None:
        documents = number_documents(document_ids, t)
        visible = visible & (documents[:, None] == documents[:, t:, None])
        real = real & (documents == documents[:, -1:])
    visible = visible | (order == own)
    return LookBack(visible, visible.sum(dim=-1) - 1, real)


@operation
def attend(q: Tensor, k: Tensor, v: Tensor, visible: Tensor | None, scale: float) -> Tensor:
    """softmax(scale q k^T) v, over the tokens that are visible.

    q (b,l,h,p), k and v (b,t,g,p): head i reads the keys and values i // (h/g). visible (b,l,t) bool, in each row at
    least one; None: l is t, and each token sees those before it and itself -> (b,l,h,p)
    """
    accumulate = torch.promote_types(q.dtype, torch.float32)
    if visible is None:
        visible = torch.ones(q.shape[1], k.shape[1], dtype=torch.bool, device=q.device).tril()[None]
    grouped = q.to(accumulate).unflatten(2, (k.shape[2], -1))  # (b,l,g,r,p), r heads to a group
    scores = scale * torch.einsum("blgrp,btgp->bgrlt", grouped, k.to(accumulate))
    weights = torch.softmax(scores.masked_fill(~visible[:, None, None], -math.inf), dim=-1)
    y = torch.einsum("bgrlt,btgp->blgrp", weights, v.to(accumulate))
    return y.flatten(2, 3).to(q.dtype)
