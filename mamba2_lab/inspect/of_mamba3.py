"""What a Mamba-3 layer did.

    h_t = exp(dt_t A_t) (h_{t-1} + delta_t U_{t-1}) + gamma_t U_t      U_t = sum over r of x_{t,r} k_{t,r}^T
    y_{t,r} = h_t q_{t,r}                                              x_{t,r} = x_t mimo_x_r

gamma = lam dt and delta = (1 - lam) dt are the weights of the two ends of a step: a token writes when it comes, and
once more when the next one does. k and q are turned by angles that add up over the tokens, each pair of channels by its
own; the state stands still, and only differences of angles count. SISO has one rank, whose mimo_x and mimo_o are 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mamba2_lab import scan
from mamba2_lab.inspect import layer
from mamba2_lab.inspect.layer import Contributions, Positions, lacking
from mamba2_lab.inspect.recurrent import FadingTrace, decay_between
from mamba2_lab.inspect.tracer import Tracer, kept
from mamba2_lab.layers import Mamba3, Mamba3State
from mamba2_lab.layers.mamba3 import Trapezoid, turns_since_start
from mamba2_lab.layers.rotary import Pairs, rotate


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Mamba3Trace(FadingTrace):
    """What a Mamba-3 layer did at every token, in the order in which the block does it.

    u: (l,d) the residual stream that came in.
    z: (l,h,p) the gate, before its silu. x: (l,h,p).
    dt: (l,h) Delta, after softplus. lam: (l,h) in 0..1, the part of a step that is written at its end.
    log_decay: (l,h) dt A, <= 0; A is the token's own.
    speed: (l,s) how far a unit of time turns each of s pairs of channels, in turns.
    turns: (l,h,s) how far they are turned since the sequence began, without whole turns, in -1/2..1/2.
    k, q: (l,r,h,n) keys and queries: normalised, with their bias, and turned.
    y: (l,r,h,p) what was read from the state in each rank: h q.
    gated: (l,h,p) what goes into out_proj: y + D x, normalised if the layer does so, gated, ranks brought together.
    output: (l,d) what the mixer adds to the residual stream.

    D: (h,). mimo_x, mimo_o: (h,r,p) what each rank takes of x, and gives to the output.
    log_decay_at_rest: (h,) dt A of a token whose projection is 0: dt = softplus(dt_bias), A = -1 but for a softplus.
    checkpoints: (c,h,p,n) the states before the tokens 0, spacing, ..., with what the token before writes once more.
    pairs: which channels turn together: "neighbours", 2i and 2i+1, or "halves", i and i + n/2.
    """

    mixer = "mamba3"
    lacks = lacking(
        {
            layer.OF_MANY_DECAYS: "a head fades at one rate: see log_decay and half_life",
            ("xBC", "inputs", *layer.OF_CONVOLUTION): "it has no convolution",
            (*layer.OF_GROUPS, *layer.OF_LOOKING_BACK): "it reads a state; its keys and queries are k and q, turned",
        }
    )

    lam: Tensor
    speed: Tensor
    turns: Tensor
    k: Tensor
    q: Tensor
    mimo_x: Tensor
    mimo_o: Tensor
    pairs: Pairs

    @property
    def _in_words(self) -> str:
        r, s = self.k.shape[1], self.turns.shape[2]
        return f"{super()._in_words}, {s} of {self.k.shape[3] // 2} pairs turning" + (f", {r} ranks" if r > 1 else "")

    @property
    def gamma(self) -> Tensor:
        """(l,h): the weight with which a token writes when it comes, lam dt."""
        return self._steps.gamma

    @property
    def delta(self) -> Tensor:
        """(l,h): the weight with which the token before writes once more, (1 - lam) dt, before it fades."""
        return self._steps.delta

    @property
    def own_turns(self) -> Tensor:
        """(l,h,s): how far each token turns each pair of channels, in turns."""
        return self._steps.turns

    @property
    def x_in_ranks(self) -> Tensor:
        """(l,r,h,p): what each rank writes."""
        return self.x[:, None] * self.mimo_x.transpose(0, 1)

    @property
    def written(self) -> Tensor:
        """(l,h): the norm of what each token wrote, (gamma_t + delta_{t+1}) |U_t|: see `writes`."""
        products = (torch.einsum("lrhd,lshd->lhrs", rows, rows) for rows in (self.x_in_ranks, self.k))
        return self._weight * next(products).mul(next(products)).sum(dim=(-2, -1)).clamp(min=0).sqrt()

    @property
    def read(self) -> Tensor:
        """(l,h): the norm of what each token read, |h q|, of all ranks together."""
        return self.y.norm(dim=-1).norm(dim=1)

    @property
    def skipped(self) -> Tensor:
        """(l,r,h,p): D x in each rank, what passes by the state."""
        return self.D[:, None] * self.x_in_ranks

    def writes(self, head: int, positions: Positions | None = None) -> Tensor:
        """(t,p,n): what tokens wrote into a head's state, (gamma_t + delta_{t+1}) U_t. All positions by default.

        Both times: when they came, and when the next one did, which the prompt's last token has yet to do.
        """
        at = self._positions("positions", positions)
        U = torch.einsum("trp,trn->tpn", self.x_in_ranks[at, :, self._head(head)], self.k[at, :, head])
        return self._weight[at, head, None, None] * U

    def seen_states(self, head: int, positions: Positions | None = None) -> Tensor:
        """(t,p,n): states as their own tokens see them, turned back by the angle of k and q there.

        `states` stand still, and what is written into them is turned: the same key stands there in another place at
        each token. To compare states of several tokens, or to probe them, take these.
        """
        at = self._positions("positions", positions)
        return rotate(self.states(head, at), -self.turns[at, self._head(head), None], self.pairs)

    def attention(self, head: int, targets: Positions | None = None, *, with_dt: bool = True) -> Tensor:
        """(t,l): rows of the signed hidden attention M = L o (q k^T) w, all of them by default.

        M[t,s] = exp(log_decay_{s+1} + ... + log_decay_t) (q_t . k_s) w says how the x of source s enters the output of
        target t, with w = gamma_s + delta_{s+1} below the diagonal and gamma_t on it:
        y_t = sum_s M[t,s] x_s + `initial_part`.

        Ranks are brought together as in the output, by mimo_o, before its gate: channel p reads the source's channel
        with the weight sum_{r,r'} mimo_o[r,p] M[t,r,s,r'] mimo_x[r',p], and what is given is the mean over the
        channels. `attention_by_rank` has all of them.

        Args:
            with_dt: False leaves the factor w out: how well query and key agree after turning and fading, however much
                was written.

        Raises:
            TypeError, ValueError: naming the argument, what was expected and what came.
        """
        at = self._positions("targets", targets)
        between = self.mimo_o[self._head(head)] @ self.mimo_x[head].mT / self.x.shape[2]  # (r,r)
        q = torch.einsum("trn,rs->tsn", self.q[at, :, head], between)
        return self._weights(head, at, slice(0, None), with_dt) * (q.flatten(1) @ self.k[:, :, head].flatten(1).mT)

    def attention_by_rank(self, head: int, targets: Positions | None = None, *, with_dt: bool = True) -> Tensor:
        """(t,r,l,r): how what a rank of each source wrote enters what a rank of each target reads; else as `attention`.

        y[t,r] = sum_{s,r'} M[t,r,s,r'] x_in_ranks[s,r'] + what is left of the state that stood before the prompt.
        """
        at = self._positions("targets", targets)
        scores = torch.einsum("tin,sjn->tisj", self.q[at, :, self._head(head)], self.k[:, :, head])
        return scores * self._weights(head, at, slice(0, None), with_dt)[:, None, :, None]

    def initial_part(self, head: int, targets: Positions | None = None) -> Tensor:
        """(t,p): what the outputs read of the state that stood before the prompt; ranks brought together by mimo_o.

        With it, what the last token before the prompt wrote once more.
        """
        at = self._positions("targets", targets)
        left = self.log_decay[:, self._head(head)].cumsum(dim=0)[at].exp()
        read = self.q[at, :, head] @ self.checkpoints[0, head].mT  # (t,r,p)
        return left[:, None] * (read * self.mimo_o[head]).sum(dim=1)

    def contributions(self, head: int, target: int) -> Contributions:
        """How each token of the prompt entered one head's output y + D x at one token: attention and skip.

        Ranks are brought together by mimo_o, before the gate. There is no convolution: `before` and `bias` are 0.
        """
        row = self.attention_by_rank(head, [target])[0]  # (r,l,r)
        row[:, target] += self.D[head] * torch.eye(row.shape[0], dtype=row.dtype)
        weights = torch.einsum("ip,isj,jp->sp", self.mimo_o[head], row, self.mimo_x[head])
        nothing = torch.zeros_like(self.x[0, head])
        return Contributions(weights * self.x[:, head], nothing, nothing, self.initial_part(head, [target])[0])

    @property
    def _steps(self) -> Trapezoid:
        return Trapezoid(self.dt, self.lam, self.log_decay, self.speed)

    @property
    def _weight(self) -> Tensor:
        """(l,h): gamma_t + delta_{t+1}, the whole weight of what each token writes; after the last one delta is 0."""
        return self.gamma + F.pad(self.delta[1:], (0, 0, 0, 1))

    def _weights(self, head: int, targets: Tensor, sources: slice, with_dt: bool = True) -> Tensor:
        """(t,k): what is in the state after each target of U_s, for a run of sources that has all of them in it."""
        left = decay_between(self.log_decay[sources, head], targets - sources.start)
        if not with_dt:
            return left
        itself = torch.arange(left.shape[1]) == (targets - sources.start)[:, None]
        return left * torch.where(itself, self.gamma[sources, head], self._weight[sources, head])

    def _states_after(self, state: Tensor, head: int, start: int, positions: Tensor) -> Tensor:
        part = slice(start, int(positions.max()) + 1)
        weights = self._weights(head, positions, part)
        keys = weights[:, :, None, None] * self.k[part, :, head]  # (t,k,r,n)
        written = self.x_in_ranks[part, :, head].flatten(0, 1).mT @ keys.flatten(1, 2)
        left = self.log_decay[part, head].cumsum(dim=0)[positions - start, None, None].exp()
        return torch.addcmul(written, left, state)


class Mamba3Tracer(Tracer):
    """Reads a Mamba-3 layer."""

    @staticmethod
    def least_spacing(mixer: Mamba3) -> int:
        """d_state, for the states to take no more room than x; and a chunk of the scan."""
        return max(mixer.config.chunk_size, mixer.config.d_state)

    def mix(self, start: int, u: Tensor) -> Tensor:
        mixer = self.mixer
        projected = mixer.project(u)
        terms = mixer.discretise(projected)
        turns = turns_since_start(self.state.turns, terms.dt, terms.speed)
        k, q = mixer.turn(projected, turns)
        x = mixer.into_ranks(projected.x)
        y, checkpoints, state = self._scan(x, terms, k, q)
        gated = mixer.gate(mixer.skip(y, x), projected.z)
        self.tokens.put(
            start,
            z=projected.z[0],
            x=projected.x[0],
            dt=terms.dt[0],
            lam=terms.lam[0],
            log_decay=terms.log_decay[0],
            speed=terms.speed[0],
            turns=turns[0],
            k=k[0],
            q=q[0],
            y=y[0],
            gated=gated[0].unflatten(-1, (mixer.config.nheads, mixer.config.headdim)),
        )
        self.stretches.put(start // self.spacing, checkpoints=checkpoints)
        last_k, last_x = (each[:, -1].to(state.dtype) for each in (k, projected.x))
        self.state = Mamba3State(state, turns[:, -1], last_k.transpose(1, 2), last_x)
        return mixer.out(gated)

    def trace(self) -> Mamba3Trace:
        mixer, config = self.mixer, self.mixer.config
        one = mixer.D.new_ones(config.nheads, 1, config.headdim)
        token = mixer.in_proj.weight.new_zeros(1, 1, config.d_model)
        return Mamba3Trace(
            **self.kept,
            spacing=self.spacing,
            pairs="halves" if config.is_mimo else "neighbours",
            D=kept(mixer.D.clone()),
            mimo_x=kept(mixer.mimo_x.clone() if config.is_mimo else one),
            mimo_o=kept(mixer.mimo_o.clone() if config.is_mimo else one),
            log_decay_at_rest=kept(mixer.discretise(mixer.project(token)).log_decay[0, 0]),
        )

    def _scan(self, x: Tensor, terms: Trapezoid, k: Tensor, q: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """In stretches: y (1,l,r,h,p), what stands written before each stretch (c,h,p,n), the state after the last."""
        state = self.state
        before = scan.Written(state.ssm_state, self.mixer.into_ranks(state.last_x), state.last_k.transpose(1, 2))
        ys, states = [], []
        for start in range(0, x.shape[1], self.spacing):
            part = slice(start, start + self.spacing)
            delta = terms.delta[:, part]
            once_more = torch.einsum("brhp,brhn->bhpn", before.x, before.B)
            states.append(before.state + delta[:, 0, :, None, None] * once_more)
            given = (x[:, part], terms.log_decay[:, part], terms.gamma[:, part], delta, k[:, part], q[:, part])
            y, after = scan.trapezoidal(*given, before, self.mixer.config.chunk_size)
            before = scan.Written(after, x[:, part][:, -1], k[:, part][:, -1].to(x.dtype))
            ys.append(y)
        return torch.cat(ys, dim=1), torch.cat(states), before.state
