"""What one layer did while a model read one prompt: what can be asked of every kind of layer, and how it is refused.

Shapes, here and in the files of the kinds (`of_mamba2.py` and so on), without a batch: l length, d d_model, h heads,
p headdim, g groups, r ranks, n d_state, w d_conv, t the positions asked for. Everything is on the CPU, in float32
(float64 of a float64 model).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from mamba2_lab.checks import require, require_whole

Positions = Sequence[int] | Tensor

# What only some kinds of layers have, by what it is a matter of.
OF_STATES = ("x", "states", "writes", "written", "read", "checkpoints", "spacing", "skipped", "contributions")
OF_TIME = ("dt", "lam", "gamma", "delta")
OF_ONE_DECAY = ("decay", "log_decay", "log_decay_at_rest", "half_life", "half_life_at_rest", "half_lives")
OF_MANY_DECAYS = ("A", "decays", "half_life_by_state")
OF_GATES = ("z", "gated", "D")
OF_GROUPS = ("B", "C")
OF_CONVOLUTION = ("window", "taps", "conv_bias", "x_parts")
OF_TURNING = ("speed", "own_turns", "turns", "pairs", "seen_states")
OF_RANKS = ("attention_by_rank", "x_in_ranks", "mimo_x", "mimo_o")
OF_LOOKING_BACK = ("keys", "values", "real", "scale", "attention_before")


@dataclass(frozen=True, eq=False)
class Contributions:
    """What one head's output at one token is the sum of. Each entry of the sum is a vector (p,).

    tokens: (l,p) what each token of the prompt added, through the convolution's taps, the state and the skip D x.
    before: (p,) the convolution's inputs from before the prompt.
    bias: (p,) the convolution's bias.
    initial: (p,) what is left of the state that the prompt began with.
    """

    tokens: Tensor
    before: Tensor
    bias: Tensor
    initial: Tensor

    @property
    def total(self) -> Tensor:
        """(p,): y + D x of that head and token."""
        return self.tokens.sum(dim=0) + self.before + self.bias + self.initial


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class LayerTrace:
    """What one layer did at every token. What more there is depends on its mixer.

    index: which layer of the model it is. mixer: the name of what mixes in it, as a config has it.
    u: (l,d) the residual stream that came in. output: (l,d) what the mixer adds to it.

    Raises:
        AttributeError: for what another kind of layer has and this one has not, in a sentence that says why.
    """

    mixer: ClassVar[str]
    lacks: ClassVar[Mapping[str, str]] = {}  # why, by name

    index: int
    u: Tensor
    output: Tensor

    def __getattr__(self, name: str) -> Any:
        why = type(self).lacks.get(name)
        if why is None:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        raise AttributeError(f"layer {self.index} is {self.mixer} and has no {name}: {why}")

    @property
    def heads(self) -> int:
        """h."""
        raise NotImplementedError

    @property
    def _in_words(self) -> str:
        """Of how many heads, of which kind."""
        raise NotImplementedError

    def attention(self, head: int, targets: Positions | None = None, *, with_dt: bool = True) -> Tensor:
        """(t,l): with which weight the token of each column enters a head's output at the target of each row.

        Raises:
            TypeError, ValueError: naming the argument, what was expected and what came.
        """
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"LayerTrace({len(self.u)} tokens, {self._in_words})"

    def _head(self, head: int) -> int:
        check_index("head", head, self.heads)
        return head

    def _positions(self, name: str, positions: Positions | None) -> Tensor:
        return torch.arange(len(self.u)) if positions is None else check_positions(name, positions, len(self.u))


def lacking(reasons: Mapping[tuple[str, ...], str]) -> dict[str, str]:
    """`LayerTrace.lacks` from groups of names and the reason that each group has."""
    return {name: why for names, why in reasons.items() for name in names}


def check_index(name: str, index: int, count: int) -> None:
    """TypeError or ValueError unless index is a whole number in 0..count-1."""
    require_whole(name, index)
    require(0 <= index < count, name, f"in 0..{count - 1}", index)


def check_positions(name: str, positions: Positions, count: int) -> Tensor:
    """(t,) whole numbers; TypeError or ValueError unless each lies in 0..count-1."""
    at = torch.as_tensor(positions)
    if at.ndim != 1 or (at.numel() and (at.is_floating_point() or at.dtype == torch.bool)):
        raise TypeError(f"{name} must be a list of whole numbers; got {positions!r}")
    if at.numel() and not (0 <= int(at.min()) and int(at.max()) < count):
        raise ValueError(f"{name} must lie in 0..{count - 1}; got {at.tolist()}")
    return at.long()
