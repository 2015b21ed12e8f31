"""The gated MLP: what each token makes of itself, between mixers."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mamba2_lab.checks import require, require_whole
from mamba2_lab.layers.linear import Projection

MULTIPLE = 128  # the hidden size is rounded up to a multiple of it, as the official code does


class GatedMLP(nn.Module):
    """fc2(y * silu(gate)) of y and gate, the halves of fc1(x) in this order: (...,d_model) -> (...,d_model).

    Parameter names and layouts are those of the official code (state-spaces/mamba, modules/mlp.py).

    Args:
        d_model: width of the residual stream.
        d_intermediate: hidden size, rounded up to a multiple of 128.
        bias: whether both projections have one.

    Raises:
        TypeError, ValueError: as `checks` says it.
    """

    def __init__(
        self, d_model: int, d_intermediate: int, *, bias: bool = False, device: torch.device | str | None = None
    ) -> None:
        super().__init__()
        for name, size in (("d_model", d_model), ("d_intermediate", d_intermediate)):
            require_whole(name, size)
            require(size >= 1, name, "at least 1", size)
        hidden = -(-d_intermediate // MULTIPLE) * MULTIPLE
        with torch.device(torch.get_default_device() if device is None else device):
            self.fc1 = Projection(d_model, 2 * hidden, bias=bias)
            self.fc2 = Projection(hidden, d_model, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        y, gate = self.fc1(x).chunk(2, dim=-1)
        return self.fc2(y * F.silu(gate))
