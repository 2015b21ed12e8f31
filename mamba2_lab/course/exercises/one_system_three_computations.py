"""Exercises of notebook 02."""
# mypy: allow-untyped-defs

import math

import torch

from mamba2_lab.course.declare import given, reference
from mamba2_lab.course.inputs import Draws

# The loop


@reference(
    stars=1,
    hints=(
        "Three things happen in this order: the old water fades, the rain is written, the gauge is read.",
        "Old state times exp(log_decay_t), plus x_t times B_t; then C_t times the new state, summed over the barrels.",
        "For every shape to fit, let x_t get an axis at its end, `x_t[..., None]`, and sum over the last axis.",
    ),
)
def step(x_t, log_decay_t, B_t, C_t, state):
    """x_t (...), the others (..., n) -> (y_t (...), the new state (..., n)). The given state is left as it was."""
    new_state = torch.exp(log_decay_t) * state + x_t[..., None] * B_t
    return (C_t * new_state).sum(dim=-1), new_state


step.returns("`y_t`", "the new state")


@step.cases
def three_barrels_and_two_rows_of_them():
    def system(seed, *rows):
        draw = Draws(seed).signed
        return given(draw(*rows), draw(*rows, 3) - 1, draw(*rows, 3), draw(*rows, 3), draw(*rows, 3))

    decays = torch.tensor([0.5, 0.25, 1.0]).log()
    B, C, state = torch.tensor([[1.0, 2.0, 0.0], [1.0, -1.0, 3.0], [4.0, 8.0, 1.0]])
    return [given(torch.tensor(3.0), decays, B, C, state), system(1), system(2, 2)]


@step.oracle
def number_by_number(x_t, log_decay_t, B_t, C_t, state):
    fade = torch.tensor([math.exp(a) for a in log_decay_t.flatten().tolist()], dtype=torch.float64)
    written = torch.einsum("...,...n->...n", x_t.double(), B_t.double())
    new = state.double() - (1 - fade.view(state.shape)) * state.double() + written
    return torch.einsum("...n,...n->...", C_t.double(), new), new


step.slip(
    "The gauge is read too early: y_t is read from the new state, after the rain of this hour has come in, not from "
    "the old one.",
    reads_the_old_state={"C_t * new_state": "C_t * state"},
)

step.slip(
    "What has just been written has not faded yet: the decay multiplies the old state only.",
    fades_what_is_written={"state + x_t[..., None] * B_t": "(state + x_t[..., None] * B_t)"},
)

step.slip(
    "The state is multiplied by the log decay itself, a negative number. What is kept is exp(log_decay_t).",
    keeps_the_logarithm={"torch.exp(log_decay_t)": "log_decay_t"},
)

step.slip(
    "B_t is left out: it says how much of the rain each barrel catches, x_t[..., None] * B_t.",
    catches_all_of_it={" * B_t": ""},
)


@reference(
    stars=1,
    hints=(
        "`step` does all the arithmetic. What has to be carried from one call to the next?",
        "Begin with the initial state; in turn t pass row t of every argument; keep each y_t in a list.",
    ),
)
def sequential(x, log_decay, B, C, initial_state):
    """x (l,); log_decay, B, C (l, n); initial_state (n,) -> (y (l,), the final state (n,))."""
    state, y = initial_state, []
    for t in range(len(x)):
        y_t, state = step(x[t], log_decay[t], B[t], C[t], state)
        y.append(y_t)
    return torch.stack(y), state


sequential.returns("`y`", "the final state")


@sequential.cases
def six_hours_from_a_full_state():
    draw = Draws(3).signed
    x, decay, B, C = torch.tensor([[4.0, 0.0, 1.0], [0.5, 0.5, 0.25], [1.0, 1.0, 2.0], [1.0, 2.0, 1.0]])
    one = given(x, decay.log()[:, None], B[:, None], C[:, None], torch.tensor([8.0]))
    return [one, given(draw(6), draw(6, 3) - 1, draw(6, 3), draw(6, 3), draw(3))]


@sequential.oracle
def sum_over_what_was_written(x, log_decay, B, C, initial_state):
    def state_after(t):
        """Every barrel after hour t: what was there and each hour's rain, faded by the decays since."""
        parts = [(initial_state, 0)] + [(x[s] * B[s], s + 1) for s in range(t + 1)]
        return sum(torch.exp(log_decay[since : t + 1].double().sum(dim=0)) * part for part, since in parts)

    y = [torch.dot(C[t].double(), state_after(t)) for t in range(len(x))]
    return torch.stack(y), state_after(len(x) - 1)


sequential.slip(
    "It begins with empty barrels: the first state is `initial_state`, whatever that holds.",
    begins_empty={"= initial_state": "= torch.zeros_like(initial_state)"},
)

sequential.slip(
    "Every hour begins with the initial state: carry the new state that `step` returns into the next turn.",
    carries_nothing={"C[t], state": "C[t], initial_state"},
)

sequential.slip(
    "Row 0 of the decays is used in every hour. The rule may change with time: take row t of each argument.",
    never_changes_the_rule={"log_decay[t], B[t], C[t]": "log_decay[0], B[0], C[0]"},
)

sequential.slip(
    "The outputs are right, but the state returned is the initial one. Return the last: it is what goes on.",
    returns_the_first_state={"torch.stack(y), state": "torch.stack(y), initial_state"},
)


# The convolution


@reference(
    stars=2,
    hints=(
        "Let 1 fall at hour 0 into empty barrels and nothing after it. What does barrel i hold t hours later?",
        "B_i exp(t log_decay_i); the gauge reads it with weight C_i and sums over i.",
        "`torch.arange(l)[:, None] * log_decay` is an (l, n) table of the exponents.",
    ),
)
def kernel(log_decay, B, C, l):
    """log_decay, B, C (n,) -> (l,): what the gauge shows t = 0 ... l-1 hours after a rain of 1."""
    left = torch.exp(torch.arange(l)[:, None] * log_decay)  # (l, n)
    return (C * left * B).sum(dim=-1)


@kernel.cases
def three_barrels_and_one():
    draw = Draws(5).signed
    two = given(torch.tensor([0.5, 0.25]).log(), torch.tensor([1.0, 4.0]), torch.tensor([2.0, -1.0]), 3)
    return [two, given(draw(3) - 1, draw(3), draw(3), 6), given(torch.tensor([-0.5]), *torch.tensor([[2.0], [3.0]]), 4)]


@kernel.oracle
def by_running_the_loop(log_decay, B, C, l):
    barrels, shown = B.double().tolist(), []
    for _ in range(l):
        shown.append(math.fsum(c * h for c, h in zip(C.tolist(), barrels, strict=True)))
        barrels = [h * math.exp(a) for h, a in zip(barrels, log_decay.tolist(), strict=True)]
    return shown


kernel.slip(
    "It begins one hour late: at t = 0 the rain has just come in and has not faded: entry 0 is the sum of C * B.",
    begins_one_hour_late={"torch.arange(l)": "torch.arange(1, l + 1)"},
)


@kernel.wrong(
    "Each barrel has a decay of its own. Their sum or mean in the exponent makes one barrel of them: take the "
    "exponentials first, then sum."
)
def makes_one_barrel_of_them(log_decay, B, C, l):
    return (C * B).sum() * torch.exp(torch.arange(l) * log_decay.mean())


kernel.slip(
    "C is left out: the gauge reads barrel i with weight C_i.",
    reads_all_alike={"C * left * B": "left * B"},
)

kernel.slip(
    "B is left out: barrel i catches B_i of the rain.",
    catches_all_alike={"C * left * B": "C * left"},
)

kernel.slip(
    "The log decays of all barrels are added up. Each barrel fades by its own; what is added up is what the gauge "
    "reads of them.",
    fades_all_barrels_alike={
        "* log_decay)": "* log_decay.sum())",
    },
)


@reference(
    stars=2,
    hints=(
        "y_t sums weights[t - s] * x[s] over all hours s up to t. Write y_0 and y_1 out.",
        "A loop over t is fine. `weights[: t + 1].flip(0)` lies the right way round beside `x[: t + 1]`.",
        "In one call: put l - 1 zeros before x with `torch.nn.functional.pad`, and give its `conv1d` the weights "
        "turned round, for it does not turn them itself.",
    ),
)
def convolution(x, weights):
    """x (l,), weights (l,) -> (l,): y_t = weights[0] x[t] + weights[1] x[t-1] + ... + weights[t] x[0]."""
    before = torch.nn.functional.pad(x, (len(x) - 1, 0))  # no rain before the first hour
    return torch.nn.functional.conv1d(before[None, None], weights.flip(0)[None, None])[0, 0]


@convolution.cases
def five_hours_and_a_single_one():
    draw = Draws(6).signed
    return [given(*torch.tensor([[1.0, 0.0, 2.0], [4.0, 2.0, 1.0]])), given(draw(5), draw(5)), given(draw(1), draw(1))]


@convolution.oracle
def term_by_term(x, weights):
    x, weights = x.tolist(), weights.tolist()
    return [math.fsum(weights[t - s] * x[s] for s in range(t + 1)) for t in range(len(x))]


convolution.slip(
    "The weights lie the wrong way round: weights[0] belongs to the newest hour. `conv1d` slides the weights as they "
    "are, so turn them round with `.flip(0)`.",
    does_not_turn_the_weights={"weights.flip(0)": "weights"},
)

convolution.slip(
    "It looks ahead: y_t holds rain of hours after t. The zeros belong before the first hour, l - 1 of them, and none "
    "after the last.",
    pads_after_the_last_hour={"(len(x) - 1, 0)": "(0, len(x) - 1)", "weights.flip(0)": "weights"},
)

convolution.slip(
    "weights[s] meets x[s]. A weight goes with a lag, not with an hour: at hour t, x[s] is multiplied by weights[t - "
    "s].",
    weighs_hours_instead_of_lags={
        "torch.nn.functional.conv1d(before[None, None], weights.flip(0)[None, None])[0, 0]": (
            "(weights * x).cumsum(dim=0)"
        ),
    },
)

convolution.slip(
    "The rain of the hour itself is missing: weights[0] * x[t].",
    leaves_out_the_hour_itself={
        "weights.flip(0)": "torch.cat([0 * weights[:1], weights[1:]]).flip(0)",
    },
)


@convolution.wrong("It comes an hour late: the rain of hour t counts at hour t already, with weights[0].")
def comes_an_hour_late(x, weights):
    return torch.stack([(weights[:t].flip(0) * x[:t]).sum() for t in range(len(x))])


@convolution.wrong("Only rain of the same hour is counted. Every earlier hour s adds weights[t - s] * x[s].")
def multiplies_hour_by_hour(x, weights):
    return weights * x


# The matrix


@reference(
    stars=2,
    hints=(
        "Row t makes y_t, column s takes x_s. How long ago was hour s, seen from hour t?",
        "Make the table of lags, t - s, from `torch.arange(l)`; where the lag is 0 or more the entry is the weight of "
        "that lag.",
        "A negative index counts from the end in PyTorch: clamp the lags at 0, and put zeros there with `torch.where`.",
    ),
)
def toeplitz(weights):
    """weights (l,) -> (l, l): the matrix M with M @ x equal to the convolution of x with the weights."""
    t = torch.arange(len(weights))
    lag = t[:, None] - t
    return torch.where(lag >= 0, weights[lag.clamp(min=0)], 0.0)


@toeplitz.cases
def four_hours_and_a_single_one():
    return [given(torch.tensor([4.0, 3.0, 2.0, 1.0])), given(torch.tensor([2.0]))]


@toeplitz.oracle
def entry_by_entry(weights):
    w, l = weights.tolist(), len(weights)
    return [[w[t - s] if s <= t else 0.0 for s in range(l)] for t in range(l)]


toeplitz.slip(
    "Rows and columns are exchanged: hour t, where the gauge is read, is the row; hour s, when the rain fell, is the "
    "column. Rain falls before it is seen, so the matrix is lower triangular.",
    exchanges_source_and_target={"t[:, None] - t": "t - t[:, None]"},
)

toeplitz.slip(
    "Above the diagonal stand weights from the end of the kernel: a negative index counts from the end. Rain that has "
    "not fallen yet must not be seen: put zeros there.",
    wraps_around={"torch.where(lag >= 0, weights[lag.clamp(min=0)], 0.0)": "weights[lag]"},
)

toeplitz.slip(
    "It is symmetric: rain yet to come counts as much as rain gone by. Above the diagonal must be zeros.",
    sees_the_future={"torch.where(lag >= 0, weights[lag.clamp(min=0)], 0.0)": "weights[lag.abs()]"},
)


@toeplitz.wrong(
    "Every row holds the weights from the left. Row t must hold them backwards, weights[0] on the diagonal."
)
def repeats_the_weights(weights):
    l = len(weights)
    return weights.expand(l, l).tril()


# The same convolution through frequencies


@reference(
    stars=3,
    atol=1e-5,
    hints=(
        "The transform of a convolution is the product of the transforms: `torch.fft.rfft` both, multiply, "
        "`torch.fft.irfft` back.",
        "The Fourier transform takes a sequence for one turn of a circle: what runs out at the end comes in at the "
        "beginning. How many zeros keep the two apart?",
        "`rfft(x, n=n)` and `rfft(weights, n=n)` put zeros behind both; n = 2 l is enough. Of the result keep the "
        "first l.",
    ),
)
def fft_convolution(x, weights):
    """x (l,), weights (l,) -> (l,): as `convolution`, with about l log l operations."""
    l = len(x)
    product = torch.fft.rfft(x, n=2 * l) * torch.fft.rfft(weights, n=2 * l)
    return torch.fft.irfft(product, n=2 * l)[:l]


@fft_convolution.cases
def six_hours_seven_and_a_single_one():
    draw = Draws(7).signed
    plain = given(*torch.tensor([[1.0, 0.0, 2.0, 3.0], [4.0, 2.0, 1.0, 0.0]]))
    return [plain, given(draw(6), draw(6)), given(draw(7), draw(7)), given(draw(1), draw(1))]


@fft_convolution.grows
def of_any_length(l):
    return given(torch.ones(l), torch.ones(l))


@fft_convolution.oracle
def by_summing(x, weights):
    return term_by_term(x, weights)


fft_convolution.slip(
    "The end runs into the beginning: on a circle of l points, what leaves at the end comes in again at the start. "
    "Make room with zeros: n = 2 * l in each transform.",
    goes_round_in_a_circle={
        "(x, n=2 * l)": "(x)",
        "(weights, n=2 * l)": "(weights)",
        "(product, n=2 * l)[:l]": "(product, n=l)",
    },
)

fft_convolution.slip(
    "These are the last l of 2 l entries, what the gauge shows after the rain has ended. Zeros belong behind x and "
    "behind weights, none in front, and the first l entries are the answer.",
    keeps_the_tail={"[:l]": "[l:]"},
)

fft_convolution.slip(
    "One of the two is turned round in time: a conjugate makes a correlation of the convolution. Multiply the "
    "transforms as they are.",
    takes_a_conjugate={"(weights, n=2 * l)": "(weights, n=2 * l).conj()"},
)

fft_convolution.slip(
    "The transforms are added, which adds the two sequences. To convolve them, multiply their transforms.",
    adds_the_transforms={") * torch.fft.rfft(weights": ") + torch.fft.rfft(weights"},
)
