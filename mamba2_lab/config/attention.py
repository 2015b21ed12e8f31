"""What an attention layer is made of, under the official names."""

import math
from dataclasses import dataclass

from mamba2_lab.checks import require
from mamba2_lab.config.fields import Fields


@dataclass(frozen=True)
class AttentionFields(Fields):
    """The shape of an `Attention`. Names are those of the official code (state-spaces/mamba, `MHA`).

    Sizes
        d_model: width of the residual stream; `embed_dim` in the official code.
        num_heads: how many heads ask.
        num_heads_kv: how many heads have keys and values, each shared by as many that ask; it must divide num_heads.
            None: each has its own.
        head_dim: channels per head; None: d_model / num_heads.

    Where a token stands
        rotary_emb_dim: so many channels of each head turn with the position, an even number; 0: none.
        rotary_emb_base: the slowest of them turn once in about 2 pi times so many tokens.
        rotary_emb_interleaved: pairs of channels are neighbours, and not one of either half.

    Variants
        qkv_proj_bias, out_proj_bias: whether the projections have a bias.
        softmax_scale: scores are multiplied by it; None: 1 / sqrt(head_dim).
        causal: a token sees what came before it and itself. No other attention is meant here.
        d_conv: width of a causal convolution over queries, keys and values, without activation; 0: none.
    """

    d_model: int = 256
    num_heads: int = 4
    num_heads_kv: int | None = None
    head_dim: int | None = None
    qkv_proj_bias: bool = True
    out_proj_bias: bool = True
    softmax_scale: float | None = None
    causal: bool = True
    d_conv: int = 0
    rotary_emb_dim: int = 0
    rotary_emb_base: float = 10000.0
    rotary_emb_interleaved: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.causal, "causal", "True: what is written token by token cannot see what follows", self.causal)
        whole = self.head_dim is not None or self.d_model % self.num_heads == 0
        require(whole, "num_heads", f"a divisor of `d_model` = {self.d_model} where head_dim is None", self.num_heads)
        divides = self.num_heads % self.heads_kept == 0
        require(divides, "num_heads_kv", f"a divisor of `num_heads` = {self.num_heads}", self.num_heads_kv)
        self._check_rotary()

    def _check_rotary(self) -> None:
        turned, p = self.rotary_emb_dim, self.channels_per_head
        expected = f"even, and at most the channels of a head, {p}"
        require(turned % 2 == 0 and turned <= p, "rotary_emb_dim", expected, turned)

    @property
    def heads_kept(self) -> int:
        """How many heads have keys and values: num_heads_kv, or num_heads."""
        return self.num_heads if self.num_heads_kv is None else self.num_heads_kv

    @property
    def channels_per_head(self) -> int:
        """head_dim, or d_model / num_heads."""
        return self.d_model // self.num_heads if self.head_dim is None else self.head_dim

    @property
    def d_inner(self) -> int:
        """Channels of all heads that ask."""
        return self.num_heads * self.channels_per_head

    @property
    def conv_dim(self) -> int:
        """Channels of queries, keys and values together: what in_proj makes, and the convolution mixes."""
        return self.d_inner + 2 * self.heads_kept * self.channels_per_head

    @property
    def scale(self) -> float:
        """What scores are multiplied by: softmax_scale, or 1 / sqrt(head_dim)."""
        return 1 / math.sqrt(self.channels_per_head) if self.softmax_scale is None else self.softmax_scale
