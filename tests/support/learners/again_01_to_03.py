"""More wrong answers to notebooks 01 to 03, written as the first were: from the text of the exercises alone."""

import math

import torch
import torch.nn.functional as F
from support.learners.collect import wrong

from mamba2_lab.course import exercises

R = {name: exercise.reference for name, exercise in exercises.all_exercises().items()}


@wrong("levels", "This is a moving average: the rain is scaled by 1 - decay. A barrel")
def an_average(x, decay):
    h, out = torch.tensor(0.0), []
    for x_t in x:
        h = decay * h + (1 - decay) * x_t
        out.append(h)
    return torch.stack(out)


@wrong("levels", "Old and new share are exchanged: `decay` is what is kept of the level,")
def the_share_is_lost(x, decay):
    h, out = torch.tensor(0.0), []
    for x_t in x:
        h = h - decay * h + x_t
        out.append(h)
    return torch.stack(out)


@wrong("half_life", "That is the time after which 1/e, about 37 %, is left. For a half,")
def the_time_constant(log_decay):
    return -1 / log_decay


@wrong("half_life", "It comes out as if `-log_decay.exp()` stood where `log_decay` belongs.")
def by_the_decay(log_decay):
    return -math.log(0.5) / log_decay.exp()


@wrong("zero_order_hold", "The gain is divided by dt * A, so it does not grow with the length of")
def gain_over_dt_as_well(dt, A):
    decay = torch.exp(dt * A)
    return decay, torch.expm1(dt * A) / (dt * A)


@wrong("zero_order_hold", "`gain` is `-A` times what it should be.")
def the_share_that_is_new(dt, A):
    decay = torch.exp(dt * A)
    return decay, 1 - decay


@wrong("discretise", "It comes out as if `-A.exp()` stood where `A` belongs.")
def rate_from_its_log(x, dt, A):
    return x * dt, -torch.exp(A) * dt


@wrong("discretise", "This is the exact gain of the zero-order hold. Mamba-2 leaves it out")
def the_exact_gain(x, dt, A):
    return x * torch.expm1(dt * A) / A, dt * A


@wrong("dt_to_remember", "The time constant is not the half-life: after 1 / (-dt A) steps only")
def one_over_e(steps, A):
    return 1 / (-A * (steps + 0.5))


@wrong("steps_since", "The line is forced through the origin, as if the shower had size 1.")
def a_line_through_zero(levels, log_decay):
    return (levels.log() * log_decay).sum() / log_decay.square().sum()


@wrong("levels", "It comes out as if `zeros_like` were left out.")
def counts_the_first_twice(x, decay):
    h, out = x[0], []
    for x_t in x:
        h = decay * h + x_t
        out.append(h)
    return torch.stack(out)


@wrong("half_life", "It comes out as if `*` stood where `/` belongs.")
def multiplies(log_decay):
    return math.log(2) * -log_decay


@wrong("zero_order_hold", "The gain is multiplied by A where it must be divided by it: the faster")
def gain_times_the_rate(dt, A):
    return torch.exp(dt * A), torch.expm1(dt * A) * A


@wrong("discretise", "`x_dt` is `-A` times what it should be.")
def writes_with_the_rate(x, dt, A):
    return x * dt * -A, dt * A


@wrong("dt_to_remember", "The half-life is exactly `steps` + 1: one step too many is remembered")
def half_after_one_more(steps, A):
    return math.log(2) / -A / (steps + 1)


@wrong("steps_since", "The result is 1 divided by what is asked for.")
def slope_of_the_other_axis(levels, log_decay):
    L = levels.log() - levels.log().mean()
    return (L * log_decay).sum() / L.square().sum()


@wrong("step", "It comes out as if `x_t[..., None] * B_t` alone were used where the")
def reads_what_it_wrote_only(x_t, log_decay_t, B_t, C_t, state):
    new = x_t[..., None] * B_t
    state = log_decay_t.exp() * state + new
    return (C_t * new).sum(-1), state


@wrong("step", "`y_t` is summed over too many axes: it has shape () where (2,) is")
def sums_over_all(x_t, log_decay_t, B_t, C_t, state):
    state = log_decay_t.exp() * state + B_t * x_t[..., None]
    return (C_t * state).sum(), state


@wrong("sequential", "Every hour begins with the initial state: carry the new state that")
def always_from_the_beginning(x, log_decay, B, C, initial_state):
    ys = []
    for t in range(len(x)):
        y_t, state = R["step"](x[t], log_decay[t], B[t], C[t], initial_state)
        ys.append(y_t)
    return torch.stack(ys), state


@wrong("sequential", "It begins with empty barrels: the first state is `initial_state`,")
def from_empty_barrels(x, log_decay, B, C, initial_state):
    state, ys = torch.zeros_like(initial_state), []
    for t in range(len(x)):
        y_t, state = R["step"](x[t], log_decay[t], B[t], C[t], state)
        ys.append(y_t)
    return torch.stack(ys), state


@wrong("kernel", "It comes out as if `torch.arange(l)[:, None]` were multiplied after")
def decay_times_t(log_decay, B, C, l):
    t = torch.arange(l)[:, None]
    return (C * t * log_decay.exp() * B).sum(-1)


@wrong("kernel", "It comes out as if each factor had a sum of its own, where the products")
def two_sums_apart(log_decay, B, C, l):
    t = torch.arange(l)[:, None]
    return torch.exp(t * log_decay).sum(-1) * (C @ B)


@wrong("convolution", "The weights lie the wrong way round: weights[0] belongs to the newest")
def conv1d_as_it_is(x, weights):
    padded = F.pad(x, (len(x) - 1, 0))
    return F.conv1d(padded[None, None], weights[None, None])[0, 0]


@wrong("toeplitz", "It is symmetric: rain yet to come counts as much as rain gone by. Above")
def symmetric(weights):
    i = torch.arange(len(weights))
    return weights[(i[:, None] - i).abs()]


@wrong("toeplitz", "Above the diagonal stand weights from the end of the kernel: a negative")
def around_the_circle(weights):
    l = len(weights)
    i = torch.arange(l)
    return weights[(i[:, None] - i) % l]


@wrong("fft_convolution", "One of the two is turned round in time: a conjugate makes a correlation")
def a_conjugate(x, weights):
    n = 2 * len(x)
    return torch.fft.irfft(torch.fft.rfft(x, n) * torch.fft.rfft(weights, n).conj(), n)[: len(x)]


@wrong("fft_convolution", "The result has lost its signs: what should be below 0 is above it.")
def the_size_of_what_comes_back(x, weights):
    n = 2 * len(x)
    return torch.fft.ifft(torch.fft.fft(x, n) * torch.fft.fft(weights, n)).abs()[: len(x)]


@wrong("held", "The time that passed before a word does it no harm. Sum the time from")
def faded_by_what_came_before(dt, A):
    return dt * torch.exp(A * (dt.cumsum(-1) - dt))


@wrong("held", "Each later word is counted as if it took as long as this one. What")
def as_if_dt_were_the_same(dt, A):
    l = dt.shape[-1]
    return dt * torch.exp(A * dt * (l - 1 - torch.arange(l)))


@wrong("dt_to_hold", "It comes out as if `=` stood where `+=` belongs: each turn forgets")
def only_the_next_one_fades_it(marked, amount, A):
    dt, later = torch.zeros(len(marked)), 0.0
    for t in reversed(range(len(marked))):
        if marked[t]:
            dt[t] = amount * math.exp(-A * later)
            later = dt[t].item()
    return dt


@wrong("dt_to_hold", "The time that passes at a later marked word is its own dt, and that is")
def later_words_take_amount_each(marked, amount, A):
    later = marked.flip(0).cumsum(0).flip(0) - marked.long()
    return marked * amount * torch.exp(-A * amount * later)


@wrong("selective_rule", "`B` comes out as if `bias` were left out.")
def bias_for_dt_alone(u, weight, bias, n):
    made = u @ weight.mT
    h = len(bias) - 2 * n
    dt, B, C = made.split([h, n, n], -1)
    return F.softplus(dt + bias[:h]), B, C


@wrong("selective_rule", "Softplus is for dt alone. B and C may have either sign: they say where,")
def softplus_of_all(u, weight, bias, n):
    made = F.softplus(F.linear(u, weight, bias))
    return made.split([len(bias) - 2 * n, n, n], -1)


@wrong("selective_scan", "It comes out as if something that is made of `A` and `dt` multiplied")
def new_fades_at_once(x, dt, A, B, C):
    h, ys = x.new_zeros(A.shape), []
    for t in range(len(x)):
        h = torch.exp(dt[t][:, None] * A) * (h + (dt[t] * x[t])[:, None] * B[t])
        ys.append(h @ C[t])
    return torch.stack(ys)


@wrong("as_mamba1", "dt and A are both for heads; here dt was laid out by channels in the")
def rates_dealt_out(dt, A, p, n):
    return dt.repeat_interleave(p, -1), A.repeat(p)[:, None].expand(-1, n)


@wrong("as_mamba1", "Along axis 1, `A` is 1, 2 times what it should be.")
def rates_as_mamba1_starts(dt, A, p, n):
    return dt.repeat_interleave(p, -1), A.repeat_interleave(p)[:, None] * torch.arange(1, n + 1)


@wrong("held", "What a word writes has not faded yet at that word: only the time of the")
def fades_itself(dt, A):
    return dt * torch.exp(A * dt.flip(-1).cumsum(-1).flip(-1))


@wrong("selective_rule", "B and C have changed places. The order is dt, B, C.")
def c_before_b(u, weight, bias, n):
    dt, C, B = F.linear(u, weight, bias).split([len(bias) - 2 * n, n, n], -1)
    return F.softplus(dt), B, C


@wrong("selective_scan", "The state is read before the token is written: y[t] must know of x[t].")
def reads_first(x, dt, A, B, C):
    h, ys = torch.zeros_like(A), []
    for t in range(len(x)):
        ys.append(h @ C[t])
        h = torch.exp(dt[t][:, None] * A) * h + (dt[t] * x[t])[:, None] * B[t]
    return torch.stack(ys)


@wrong("as_mamba1", "dt is shared out among the channels. Time is not divided: it passes for")
def shares_dt(dt, A, p, n):
    return dt.repeat_interleave(p, 1) / p, A.repeat_interleave(p)[:, None].repeat(1, n)
