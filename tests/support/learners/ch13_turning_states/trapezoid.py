"""Answers to `trapezoid`."""

import torch
import torch.nn.functional as F
from support.learners.collect import right, wrong

from mamba2_lab import scan as scans
from mamba2_lab.course.exercises.turning_states import trapezoid


@wrong("trapezoid", "The two ends are exchanged")
def the_wrong_end(x, B, C, log_decay, dt, lam, scan):
    return trapezoid(x, B, C, log_decay, dt, 1 - lam, scan)


@wrong("trapezoid", "What the token before writes has not faded")
def not_faded(x, B, C, log_decay, dt, lam, scan):
    state, last, ys = 0, 0, []
    for t in range(x.shape[1]):
        new = x[:, t, ..., None] * B[:, t, :, None]
        step, own = dt[:, t, :, None, None], lam[:, t, :, None, None]
        state = log_decay[:, t, :, None, None].exp() * state + (1 - own) * step * last + own * step * new
        last = new
        ys.append((state @ C[:, t, ..., None])[..., 0])
    return torch.stack(ys, 1)


@wrong("trapezoid", "Each token writes when it comes, and not once more")
def euler(x, B, C, log_decay, dt, lam, scan):
    empty = torch.zeros(x.shape[0], x.shape[2], x.shape[3], B.shape[3])
    return scan(x * (lam * dt)[..., None], log_decay, B, C, empty, 64)[0]


@wrong("trapezoid", "The x of the token before is written under the B of the token")
def the_key_of_now(x, B, C, log_decay, dt, lam, scan):
    empty = x.new_zeros(len(x), *x.shape[2:], B.shape[-1])
    last_x = F.pad(x[:, :-1], (0, 0, 0, 0, 1, 0))
    y, _ = scan((lam * dt)[..., None] * x, log_decay, B, C, empty, 64)
    more, _ = scan(((1 - lam) * dt * log_decay.exp())[..., None] * last_x, log_decay, B, C, empty, 64)
    return y + more


@wrong("trapezoid", "What the token before wrote is weighed with its own dt and")
def the_step_of_before(x, B, C, log_decay, dt, lam, scan):
    empty = x.new_zeros(len(x), *x.shape[2:], B.shape[-1])
    y, _ = scan((lam * dt)[..., None] * x, log_decay, B, C, empty, 64)
    wrote = F.pad((((1 - lam) * dt)[..., None] * x)[:, :-1], (0, 0, 0, 0, 1, 0)) * log_decay.exp()[..., None]
    more, _ = scan(wrote, log_decay, F.pad(B[:, :-1], (0, 0, 0, 0, 1, 0)), C, empty, 64)
    return y + more


@wrong("trapezoid", "It comes out as if `dt` were left out.")
def dt_only_once(x, B, C, log_decay, dt, lam, scan):
    empty = x.new_zeros(len(x), *x.shape[2:], B.shape[-1])
    y, _ = scan((lam * dt)[..., None] * x, log_decay, B, C, empty, 64)
    last_x, last_B = F.pad(x[:, :-1], (0, 0, 0, 0, 1, 0)), F.pad(B[:, :-1], (0, 0, 0, 0, 1, 0))
    more, _ = scan(((1 - lam) * log_decay.exp())[..., None] * last_x, log_decay, last_B, C, empty, 64)
    return y + more


@wrong("trapezoid", "Both ends count one half here, whatever lam is. lam is what")
def both_halves_alike(x, B, C, log_decay, dt, lam, scan):
    empty = x.new_zeros(len(x), *x.shape[2:], B.shape[-1])
    y, _ = scan((dt / 2)[..., None] * x, log_decay, B, C, empty, 64)
    last_x, last_B = F.pad(x[:, :-1], (0, 0, 0, 0, 1, 0)), F.pad(B[:, :-1], (0, 0, 0, 0, 1, 0))
    more, _ = scan((dt / 2 * log_decay.exp())[..., None] * last_x, log_decay, last_B, C, empty, 64)
    return y + more


@wrong("trapezoid", "It comes out as if the two sides of `-` were exchanged.")
def a_difference(x, B, C, log_decay, dt, lam, scan):
    empty = x.new_zeros(len(x), *x.shape[2:], B.shape[-1])
    y, _ = scan((lam * dt)[..., None] * x, log_decay, B, C, empty, 64)
    last_x, last_B = F.pad(x[:, :-1], (0, 0, 0, 0, 1, 0)), F.pad(B[:, :-1], (0, 0, 0, 0, 1, 0))
    more, _ = scan(((1 - lam) * dt * log_decay.exp())[..., None] * last_x, log_decay, last_B, C, empty, 64)
    return y - more


@wrong("trapezoid", "It looks at the token that comes next. A scan must not: the")
def looks_at_the_next_token(x, B, C, log_decay, dt, lam, scan):
    empty = x.new_zeros(len(x), *x.shape[2:], B.shape[-1])
    y, _ = scan((lam * dt)[..., None] * x, log_decay, B, C, empty, 64)
    next_x, next_B = F.pad(x[:, 1:], (0, 0, 0, 0, 0, 1)), F.pad(B[:, 1:], (0, 0, 0, 0, 0, 1))
    more, _ = scan(((1 - lam) * dt * log_decay.exp())[..., None] * next_x, log_decay, next_B, C, empty, 64)
    return y + more


@wrong("trapezoid", "What comes is written with the B of the token before. Only the")
def reads_with_the_last_key(x, B, C, log_decay, dt, lam, scan):
    empty = x.new_zeros(len(x), *x.shape[2:], B.shape[-1])
    last_x, last_B = F.pad(x[:, :-1], (0, 0, 0, 0, 1, 0)), F.pad(B[:, :-1], (0, 0, 0, 0, 1, 0))
    y, _ = scan((lam * dt)[..., None] * x, log_decay, last_B, C, empty, 64)
    more, _ = scan(((1 - lam) * dt * log_decay.exp())[..., None] * last_x, log_decay, last_B, C, empty, 64)
    return y + more


@right("trapezoid")
def in_a_loop(x, B, C, log_decay, dt, lam, scan):
    state, last, ys = 0, 0, []
    for t in range(x.shape[1]):
        new = x[:, t, ..., None] * B[:, t, :, None]
        step, own = dt[:, t, :, None, None], lam[:, t, :, None, None]
        state = log_decay[:, t, :, None, None].exp() * (state + (1 - own) * step * last) + own * step * new
        last = new
        ys.append((state @ C[:, t, ..., None])[..., 0])
    return torch.stack(ys, 1)


@right("trapezoid")
def looking_ahead(x, B, C, log_decay, dt, lam, scan):
    ahead = F.pad(((1 - lam) * dt)[:, 1:], (0, 0, 0, 1))
    empty = torch.zeros(x.shape[0], x.shape[2], x.shape[3], B.shape[3])
    y, _ = scan(x * (lam * dt + ahead)[..., None], log_decay, B, C, empty, 16)
    return y - (ahead * (B * C).sum(-1))[..., None] * x


@right("trapezoid")
def by_the_package(x, B, C, log_decay, dt, lam, scan):
    b, _, h, p = x.shape
    before = scans.Written(
        torch.zeros(b, h, p, B.shape[-1]), torch.zeros(b, 1, h, p), torch.zeros(b, 1, h, B.shape[-1])
    )
    x, B, C = (part.unsqueeze(2) for part in (x, B, C))
    return scans.trapezoidal(x, log_decay, lam * dt, (1 - lam) * dt, B, C, before)[0].squeeze(2)
