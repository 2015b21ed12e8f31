"""The zoo of notebook 06: Mamba-2 mixers with one mistake each, to be told from their errors.

Do not read on before you have been there.

Each animal is the mixer of the package with a single step replaced. Most mistakes have been made in public; the
docstrings say where, and the code is ours.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mamba2_lab.layers import Discretised, GatedRMSNorm, Mamba2


class LooksAhead(Mamba2):
    """Cuts its padded convolution at the wrong end, so that a token sees the three after it.

    After the slow path of state-spaces/mamba, which cut in the wrong place (pull request 580), or not at all (issue
    437).
    """

    def convolve(self, xBC: Tensor, window: Tensor, document_ids: Tensor | None = None) -> Tensor:
        width = self.config.d_conv - 1
        inputs = F.pad(torch.cat([window, xBC], dim=1), (0, 0, 0, width)).mT
        mixed = F.conv1d(inputs, self.conv1d.weight, self.conv1d.bias, groups=inputs.shape[1])
        return F.silu(mixed[..., width:].mT)  # the first l outputs are right; these are the last l


class DealsOutGroups(Mamba2):
    """Gives heads the B and C of groups 0, 1, 0, 1 ... where neighbours should share: 0, 0 ..., 1, 1 ...

    After transformers, which used `repeat` in place of `repeat_interleave` (pull request 37533).
    """

    def discretise(self, xBC: Tensor, dt: Tensor, lengths: Tensor | None = None) -> Discretised:
        terms = super().discretise(xBC, dt, lengths)
        repeats = self.config.nheads // self.config.ngroups
        B, C = (torch.cat([part] * repeats, dim=-2) for part in (terms.B, terms.C))  # a group for each head
        return terms._replace(B=B, C=C)


class NormalisesAllTogether(Mamba2):
    """Takes one root mean square over all channels where each group has its own.

    After the Mamba2Simple of state-spaces/mamba (pull request 910) and Zamba2 in transformers (pull request 35943).
    """

    def gate(self, y: Tensor, z: Tensor) -> Tensor:
        return _norm_of(self, ngroups=1, norm_before_gate=self.config.norm_before_gate)(y, z)


class GatesAfterTheNorm(Mamba2):
    """Normalises y, then gates it, where the product of both is to be normalised; or the other way round.

    After flash-linear-attention, whose layer trained in one order and generated in the other (issue 63).
    """

    def gate(self, y: Tensor, z: Tensor) -> Tensor:
        return _norm_of(self, self.config.ngroups, not self.config.norm_before_gate)(y, z)


class StepsWithoutLimit(Mamba2):
    """Honours dt_limit where it reads many tokens at once, and forgets it where it reads one.

    After transformers, whose `Mamba2Mixer` does so (5.23).
    """

    def _step_size(self, dt: Tensor) -> Tensor:
        if dt.ndim == 2:  # (b,h): one token
            return F.softplus(dt + self.dt_bias)
        return super()._step_size(dt)


class ExchangesReadingAndWriting(Mamba2):
    """Takes C for B and B for C. We know of no one who published this."""

    def discretise(self, xBC: Tensor, dt: Tensor, lengths: Tensor | None = None) -> Discretised:
        terms = super().discretise(xBC, dt, lengths)
        return terms._replace(B=terms.C, C=terms.B)


ANIMALS = (
    LooksAhead,
    DealsOutGroups,
    NormalisesAllTogether,
    GatesAfterTheNorm,
    StepsWithoutLimit,
    ExchangesReadingAndWriting,
)


def breed(animal: type[Mamba2], mixer: Mamba2) -> Mamba2:
    """An animal with the sizes and the weights of a mixer."""
    bred = animal(**mixer.config.to_dict())
    bred.load_state_dict(mixer.state_dict())
    return bred


@torch.no_grad()
def read(mixer: Mamba2, u: Tensor, cut: int) -> Tensor:
    """What reaches out_proj, where heads are still side by side: u (l,d_model) -> (l,h,p).

    The first `cut` tokens are read at once, the others one by one.
    """
    heard: list[Tensor] = []

    def listen(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        heard.append(inputs[0].reshape(-1, mixer.config.nheads, mixer.config.headdim))

    listening = mixer.out_proj.register_forward_pre_hook(listen)
    try:
        _, state = mixer.prefill(u[None, :cut])
        for u_t in u[cut:]:
            _, state = mixer.step(u_t[None], state)
    finally:
        listening.remove()
    return torch.cat(heard)


def _norm_of(mixer: Mamba2, ngroups: int, norm_before_gate: bool) -> GatedRMSNorm:
    """The norm of a mixer, its weight shared, in another setting."""
    norm = GatedRMSNorm(mixer.config.d_inner, mixer.config.norm_eps, ngroups, norm_before_gate)
    norm.weight = mixer.norm.weight
    return norm
