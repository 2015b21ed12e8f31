"""nn.Linear, multiplied by what serves the device best.

On a CPU torch hands a float32 product to MKL. It ships oneDNN too, and on an AMD EPYC (Zen 4, two cores, torch 2.13)
oneDNN took less time at each of 74 shapes of 1 to 512 rows: 0.4 to 0.7 of it with one row, for which MKL reads the
matrix with one thread; 0.2 to 0.7 with two to four; 0.6 to 0.98 with 256 and more. On one thread, with a matrix that
stays in the cache, the two are even: 0.9 to 1.13. Gradients of weights are the exception, and are left to MKL. On
processors of other makers nobody has measured it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mamba2_lab.machine import transforms

# Not there in a torch that was built without oneDNN, as those for Macs are.
HAS_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


class Projection(nn.Linear):
    """nn.Linear: the same weights and, to rounding, the same numbers (...,in_features) -> (...,out_features).

    `torch.backends.mkldnn.flags(enabled=False)` makes it nn.Linear altogether.
    """

    def forward(self, input: Tensor) -> Tensor:
        if not self._in_float32_on_a_cpu(input):
            return super().forward(input)
        if torch.compiler.is_compiling() and not torch.is_grad_enabled() and input.numel() == self.in_features:
            return self._as_a_loop(input)
        return torch.ops.mamba2_lab.product(input, self.weight, self.bias)

    def _in_float32_on_a_cpu(self, input: Tensor) -> bool:
        return (
            HAS_ONEDNN
            and bool(torch.backends.mkldnn.enabled)
            and input.device.type == "cpu"
            and input.dtype == self.weight.dtype == torch.float32
            and type(self.weight) is nn.Parameter  # and not one that is stored as int8
            and not torch.is_autocast_enabled("cpu")
            and input.shape[-1:] == (self.in_features,)  # or nn.Linear will say what is wrong
            and input.numel() > 0
            and not transforms.at_work(input, self.bias)
        )

    def _as_a_loop(self, input: Tensor) -> Tensor:
        """A single row takes as long as reading the matrix: a compiler makes a loop of it, and spares the call."""
        y = (self.weight * input.flatten()).sum(dim=-1)
        y = y if self.bias is None else y + self.bias
        return y.view(*input.shape[:-1], self.out_features)


# As an operation of its own, because a compiler insists that weights given to torch's are constants.
_library = torch.library.Library("mamba2_lab", "DEF")
_library.define("product(Tensor input, Tensor weight, Tensor? bias) -> Tensor")


@torch.library.impl(_library, "product", "CPU")
def _product(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(input, weight, bias, "none", [], "")


@torch.library.register_fake("mamba2_lab::product", lib=_library)
def _empty_product(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return input.new_empty(*input.shape[:-1], weight.shape[0])


def _keep_factors(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:2])


def _gradients(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    input, weight = ctx.saved_tensors
    of_input, of_weight, of_bias = ctx.needs_input_grad
    rows = grad.reshape(-1, grad.shape[-1])
    return (
        torch.ops.mamba2_lab.product(grad, weight.t(), None) if of_input else None,
        rows.t() @ input.reshape(-1, input.shape[-1]) if of_weight else None,
        rows.sum(dim=0) if of_bias else None,
    )


torch.library.register_autograd("mamba2_lab::product", _gradients, setup_context=_keep_factors, lib=_library)
