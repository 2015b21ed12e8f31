"""What an attention layer did: each head looks back with the weights of a softmax. It has no state, but all tokens.

    y_t = sum_s M[t,s] v_s       M[t,:] = softmax of scale (q_t . k_s), over the tokens s that t sees

Heads share keys and values: head i has those of number i // (h/k), of k that there are.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mamba2_lab.checks import require
from mamba2_lab.inspect import layer
from mamba2_lab.inspect.layer import LayerTrace, Positions, lacking
from mamba2_lab.inspect.tracer import Tracer, kept
from mamba2_lab.layers import Attention
from mamba2_lab.layers.attention import look_back


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class AttentionTrace(LayerTrace):
    """What an attention layer did at every token of the prompt, behind t0 tokens that were read before.

    u: (l,d) the residual stream that came in.
    q: (l,h,p) queries; keys, values: (t0+l,k,p), those from before the prompt first. q and keys are turned to their
        positions.
    real: (t0+l,) bool: False for what no other token sees.
    y: (l,h,p) what was read, and goes into out_proj.
    output: (l,d) what the mixer adds to the residual stream.
    scale: what products of queries and keys are multiplied by.
    """

    mixer = "attention"
    lacks = lacking(
        {
            layer.OF_STATES: "it keeps no state, but the key and the value of every token: see keys, values, attention",
            layer.OF_TIME: "it has no step size, and a token is kept as it is",
            (*layer.OF_ONE_DECAY, *layer.OF_MANY_DECAYS): "nothing fades in it",
            layer.OF_TURNING: "its keys and queries are turned by their positions alone",
            layer.OF_RANKS: "a head has one key for each token",
            (*layer.OF_GROUPS, "k"): "its queries, keys and values are q, keys and values",
            layer.OF_GATES: "it has no gate, and nothing passes by",
            ("xBC", "inputs", *layer.OF_CONVOLUTION): "its trace begins behind the convolution, if it has one",
        }
    )

    q: Tensor
    keys: Tensor
    values: Tensor
    real: Tensor
    y: Tensor
    scale: float

    @property
    def heads(self) -> int:
        """h."""
        return self.q.shape[1]

    @property
    def _in_words(self) -> str:
        return f"{self.heads} heads that attend to {len(self.keys)} tokens"

    def attention(self, head: int, targets: Positions | None = None, *, with_dt: bool = True) -> Tensor:
        """(t,l): rows of a head's softmax, all of them by default; a row sums to 1 with its part before the prompt.

        y_t = sum_s M[t,s] values_s + `initial_part`.

        Raises:
            TypeError, ValueError: naming the argument, what was expected and what came.
        """
        require(with_dt, "with_dt", f"True for layer {self.index}, attention, which has no step sizes", with_dt)
        return self._softmax(head, self._positions("targets", targets))[:, self._before :]

    def initial_part(self, head: int, targets: Positions | None = None) -> Tensor:
        """(t,p): what the outputs read of the tokens before the prompt."""
        rows = self._softmax(head, self._positions("targets", targets))
        return rows[:, : self._before] @ self.values[: self._before, self._kept(head)]

    def attention_before(self, head: int, targets: Positions | None = None) -> Tensor:
        """(t,): the part of each row that falls on tokens before the prompt; 0 where there are none."""
        return self._softmax(head, self._positions("targets", targets))[:, : self._before].sum(dim=-1)

    @property
    def _before(self) -> int:
        """t0."""
        return len(self.keys) - len(self.u)

    def _kept(self, head: int) -> int:
        """Which keys and values a head has."""
        return self._head(head) // (self.heads // self.keys.shape[1])

    def _softmax(self, head: int, targets: Tensor) -> Tensor:
        """(t,t0+l)"""
        scores = self.scale * self.q[targets, self._head(head)] @ self.keys[:, self._kept(head)].mT
        order, own = torch.arange(len(self.keys)), self._before + targets[:, None]
        visible = (self.real & (order < own)) | (order == own)
        return scores.masked_fill(~visible, -torch.inf).softmax(dim=-1)


class AttentionTracer(Tracer):
    """Reads an attention layer."""

    @staticmethod
    def least_spacing(mixer: Attention) -> int:
        """There are no states."""
        return 1

    def mix(self, start: int, u: Tensor) -> Tensor:
        mixer, before = self.mixer, self.state
        qkv = mixer.project(u)
        qk, v = mixer.heads(mixer.convolve(qkv, before.conv_window))
        look = look_back(before.real, u.shape[1])
        q, k = mixer.turn(qk, look.position)
        window = before.conv_window if mixer.conv1d is None else mixer.conv1d.last_inputs(qkv, before.conv_window)
        self.state = mixer.remember(k, v, look.real, window, before)
        y = mixer.attend(q, self.state.keys, self.state.values, look.visible)
        self.tokens.put(start, q=q[0], y=y[0])
        return mixer.out(y)

    def trace(self) -> AttentionTrace:
        return AttentionTrace(
            **self.kept,
            keys=kept(self.state.keys[0].clone()),
            values=kept(self.state.values[0].clone()),
            real=self.state.real[0].cpu().clone(),
            scale=self.mixer.config.scale,
        )
