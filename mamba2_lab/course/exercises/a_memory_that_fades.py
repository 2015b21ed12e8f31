"""Exercises of notebook 01."""
# mypy: allow-untyped-defs

import math

import torch

from mamba2_lab.course.declare import given, reference
from mamba2_lab.course.inputs import Draws


def tensor(*values):
    return torch.tensor(values)


# The recurrence


@reference(
    stars=1,
    hints=(
        "The cell above does it for four numbers. What changes from one turn of its loop to the next?",
        "Start with h = 0, go through the entries of x, and keep each new h in a list.",
        "`torch.stack` turns a list of tensors into one tensor.",
    ),
)
def levels(x, decay):
    """x (l,), decay a number -> (l,): the level after each hour, of a barrel that was empty before the first."""
    h, after_each_hour = torch.zeros_like(x[0]), []
    for x_t in x:
        h = decay * h + x_t
        after_each_hour.append(h)
    return torch.stack(after_each_hour)


@levels.cases
def four_hours_and_a_longer_time():
    rain = Draws(1).uniform(30)
    return [given(tensor(10.0, 0.0, 0.0, 5.0), 0.8), given(rain, 0.95), given(tensor(2.0), 0.5)]


@levels.oracle
def sum_over_every_hour_before(x, decay):
    rain = x.tolist()
    return [math.fsum(rain[s] * decay ** (t - s) for s in range(t + 1)) for t in range(len(rain))]


levels.slip(
    "The rain of an hour leaks away in that same hour. First the old water fades, then the new rain comes in: what has "
    "just been written has not faded yet.",
    fades_the_new_rain_too={"decay * h + x_t": "decay * (h + x_t)"},
)

levels.slip(
    "Each hour begins with an empty barrel: `h` has to be carried from one turn of the loop to the next.",
    forgets_the_hour_before={"decay * h": "decay * torch.zeros_like(h)"},
)

levels.slip(
    "It is one hour late: the level is to be kept after the hour's rain has come in, not before.",
    keeps_the_level_too_early={
        "h = decay * h + x_t": "after_each_hour.append(h)",
        "after_each_hour.append(h)": "h = decay * h + x_t",
    },
)

levels.slip(
    "Nothing leaks: this is the sum of all the rain. The old level is multiplied by `decay` in every hour.",
    never_fades={"decay * h": "h"},
)

levels.slip(
    "This is a moving average: the rain is scaled by 1 - decay. A barrel takes all of the rain, x_t as it is.",
    averages={"+ x_t": "+ (1 - decay) * x_t"},
)

levels.slip(
    "Old and new share are exchanged: `decay` is what is kept of the level, and `1 - decay` is what leaks away. "
    "Multiply the level by `decay`.",
    keeps_what_should_leak={
        "decay * h": "(1 - decay) * h",
    },
)

levels.slip(
    "It leaks only in the hours without rain. It leaks all the time: what was there fades in each hour, also in one "
    "with rain.",
    leaks_only_when_dry={"decay * h + x_t": "torch.where(x_t == 0, decay * h, h + x_t)"},
)

levels.slip(
    "Each level knows the rain of its own hour and of the hour before, and nothing older. What is left of that rain "
    "goes on leaking: fade the level before, not the rain before.",
    fades_the_rain_before={
        "return torch.stack(after_each_hour)": "return x + decay * torch.cat([torch.zeros_like(x[:1]), x[:-1]])"
    },
)


# Half-life


@reference(
    stars=1,
    hints=(
        "After t steps exp(t * log_decay) is left. Write down what that is when half is left.",
        "Take the logarithm of both sides and solve for t. Mind the sign: log_decay is negative, t is not.",
    ),
)
def half_life(log_decay):
    """log_decay (...), negative -> (...): the number of steps, not rounded, after which half is left."""
    return math.log(2) / -log_decay


@half_life.cases
def one_decay_and_four():
    return [given(torch.tensor(-0.1)), given(tensor(-2.0, -0.5, -0.01, -1e-4))]


@half_life.oracle
def by_halving_an_interval(log_decay):
    def steps(log_a):
        low, high = 0.0, 1e6  # what is left falls from 1 to nothing between them
        for _ in range(200):
            middle = (low + high) / 2
            low, high = (middle, high) if math.exp(middle * log_a) > 0.5 else (low, middle)
        return low

    found = [steps(log_a) for log_a in log_decay.reshape(-1).tolist()]
    return torch.tensor(found, dtype=torch.float64).view(log_decay.shape)


half_life.slip(
    "That is the time after which 1/e, about 37 %, is left. For a half, exp(t * log_decay) must be 1/2, not 1/e.",
    time_constant={"math.log(2)": "1"},
)

half_life.slip(
    "A negative number of steps: log_decay is below 0, so dividing the logarithm of 2 by it turns the sign.",
    looks_back_in_time={"-log_decay": "log_decay"},
)

half_life.slip(
    "This takes log_decay for the decay itself. It is the logarithm already: take no second one of it.",
    takes_it_for_the_decay={"-log_decay": "-torch.log(-log_decay)"},
)

half_life.slip(
    "This would be right if the same amount were lost in every step. It is the same share: less is lost as less is "
    "left, so it takes longer.",
    loses_the_same_amount={"math.log(2)": "0.5"},
)


# From continuous time to steps


@reference(
    stars=2,
    hints=(
        "The result above has the form decay * h + gain * (B x). Read both factors off.",
        "The decay is an exponential; the gain is what that exponential lacks to 1, divided by A.",
        "For a short step the exponential is nearly 1, and subtracting 1 from it loses digits. `torch.expm1(z)` is "
        "exp(z) - 1 with all of them.",
    ),
)
def zero_order_hold(dt, A):
    """dt, A tensors of one shape, A < 0 -> (decay, gain): h becomes decay * h + gain * (B x) in a step of length dt."""
    return torch.exp(dt * A), torch.expm1(dt * A) / A


zero_order_hold.returns("`decay`", "`gain`")


@zero_order_hold.cases
def ordinary_steps_and_a_very_short_one():
    return [given(tensor(1.0, 0.25, 2.0), tensor(-0.5, -0.5, -3.0)), given(tensor(1e-4), tensor(-2e-3))]


@zero_order_hold.oracle
def ten_thousand_small_steps(dt, A):
    """By Heun's method in float64: a way of its own, that knows nothing of exponentials."""

    def after(h, rain, dt, a):
        small = dt / 10_000
        for _ in range(10_000):
            slope = a * h + rain
            h += small * (slope + a * (h + small * slope) + rain) / 2
        return h

    pairs = list(zip(dt.tolist(), A.tolist(), strict=True))
    return [[after(1.0, 0.0, *pair) for pair in pairs], [after(0.0, 1.0, *pair) for pair in pairs]]


zero_order_hold.slip(
    "Right on paper, but digits are lost: for a short step exp(dt * A) is so near 1 that little is left after 1 is "
    "subtracted. `torch.expm1` keeps it.",
    subtracts_one_from_nearly_one={"torch.expm1(dt * A)": "(torch.exp(dt * A) - 1)"},
)

zero_order_hold.slip(
    "The gain lacks its division by A: what is written is (exp(dt A) - 1) / A, and that is positive.",
    does_not_divide_by_the_rate={" / A": ""},
)

zero_order_hold.slip(
    "The gain is dt itself. That is what would come in if nothing leaked meanwhile; but rain that came early in the "
    "step has been fading since.",
    lets_nothing_fade_meanwhile={"torch.expm1(dt * A) / A": "dt * torch.ones_like(A)"},
)

zero_order_hold.slip(
    "The gain is divided by dt * A, so it does not grow with the length of the step: a long rain must fill more than a "
    "short one. Divide by A alone.",
    divides_by_the_step_too={"/ A": "/ (dt * A)"},
)

zero_order_hold.slip(
    "1 + dt * A is only the beginning of exp(dt * A): good for very short steps, and negative for long ones, where "
    "water would be owed.",
    takes_one_straight_step={"torch.exp(dt * A)": "1 + dt * A", "torch.expm1(dt * A) / A": "dt * torch.ones_like(A)"},
)

zero_order_hold.slip(
    "The gain has the wrong sign: rain would empty the barrel. exp(dt * A) - 1 and A are both below 0, so their "
    "quotient is above it.",
    turns_the_sign_of_the_gain={
        "torch.expm1(dt * A) / A": "-torch.expm1(dt * A) / A",
    },
)

zero_order_hold.slip(
    "The gain is multiplied by A where it must be divided by it: the faster the leak, the less of the rain is left.",
    multiplies_by_the_rate={
        ") / A": ") * A",
    },
)

zero_order_hold.slip(
    "The 1 is not taken off: the gain is (exp(dt * A) - 1) / A, so that a step of no length lets in nothing.",
    takes_nothing_off={
        "torch.expm1(dt * A) / A": "torch.exp(dt * A) / A",
    },
)


# As Mamba-2 does it


@reference(
    stars=1,
    hints=(
        "Two products, nothing more. Which of the two factors of a step does each of them stand for?",
        "The first result is what is written, the second is the logarithm of what is kept.",
    ),
)
def discretise(x, dt, A):
    """x, dt, A of one shape, A < 0 -> (x_dt, log_decay): what a step writes, and the logarithm of what it keeps."""
    return x * dt, dt * A


discretise.returns("`x_dt`", "`log_decay`")


@discretise.cases
def three_steps():
    return [given(tensor(4.0, 1.0, -2.0), tensor(0.1, 0.5, 1.5), tensor(-1.0, -2.0, -3.0))]


@discretise.oracle
def product_by_product(x, dt, A):
    triples = list(zip(x.tolist(), dt.tolist(), A.tolist(), strict=True))
    return [[x_t * d for x_t, d, _ in triples], [d * a for _, d, a in triples]]


discretise.slip(
    "The second result is the decay itself; its logarithm is asked for. Logarithms can be added up over many steps "
    "without losing digits, and the exponential is taken once, at the end.",
    returns_the_decay={"dt * A": "torch.exp(dt * A)"},
)

discretise.slip(
    "x is written as it came. A step of length dt writes x for that long: x * dt.",
    writes_the_input_unscaled={"x * dt": "x"},
)

discretise.slip(
    "This is the exact gain of the zero-order hold. Mamba-2 leaves it out and writes x * dt; what B is learned to be "
    "makes up for it.",
    writes_with_the_exact_gain={"x * dt": "x * torch.expm1(dt * A) / A"},
)

discretise.slip(
    "The log decay is above 0: a memory that grows. A is negative already, leave its sign as it is.",
    turns_the_sign={"dt * A": "-dt * A"},
)


# A memory of given length


@reference(
    stars=2,
    hints=(
        "More than half must be left after `steps` steps, less than half after `steps` + 1. Where may the half-life "
        "lie?",
        "In the middle between the two there is room on both sides.",
        "The half-life is ln 2 / (-dt * A). Solve that for dt.",
    ),
)
def dt_to_remember(steps, A):
    """steps a whole number, A < 0 a number -> dt > 0: over half is left after `steps` steps, less after one more."""
    return math.log(2) / (-A * (steps + 0.5))


@dt_to_remember.cases
def twenty_steps_and_others():
    return [given(20, -1.0), given(20, -16.0), given(1, -0.5), given(500, -4.0)]


@dt_to_remember.observe
def what_is_left(answer, steps, A):
    """In words: many values of dt are right."""
    dt = answer(steps, A)
    if not dt > 0:
        return {"dt is": "0 or less"}
    left = [1.0]
    for _ in range(steps + 1):
        left.append(left[-1] * math.exp(dt * A))
    return {f"after {steps} steps": against_half(left[-2]), f"after {steps + 1} steps": against_half(left[-1])}


def against_half(left):
    if abs(left - 0.5) < 1e-6:
        return "exactly half is left"
    return "more than half is left" if left > 0.5 else "less than half is left"


@dt_to_remember.oracle
def what_must_be_left(steps, A):
    return {f"after {steps} steps": "more than half is left", f"after {steps + 1} steps": "less than half is left"}


dt_to_remember.slip(
    "The half-life is exactly `steps`: half is left at that step, not more. Make it a little longer than `steps`, and "
    "shorter than `steps` + 1.",
    half_is_left_at_the_step={"(steps + 0.5)": "steps"},
)

dt_to_remember.slip(
    "The half-life is exactly `steps` + 1: one step too many is remembered up to the half. Make it a little shorter.",
    half_is_left_one_step_later={"steps + 0.5": "steps + 1"},
)

dt_to_remember.slip(
    "dt must be above 0, or time runs backwards and the level grows. A is negative: its sign has to be turned.",
    runs_backwards={"-A": "A"},
)

dt_to_remember.slip(
    "The time constant is not the half-life: after 1 / (-dt A) steps only 1/e is left, well below a half. ln 2 is "
    "missing.",
    takes_the_time_constant={"math.log(2)": "1"},
)

dt_to_remember.slip(
    "A is left out. The decay of a step is exp(dt * A): a barrel that leaks faster needs a shorter step.",
    leaves_the_rate_out={"-A * (steps + 0.5)": "steps + 0.5"},
)


# When did it happen?


@reference(
    stars=3,
    hints=(
        "After t steps barrel i holds r * exp(t * log_decay_i), with the same unknown r in all of them. Take the "
        "logarithm.",
        "ln level_i = ln r + t * log_decay_i: a straight line over log_decay. What is its slope?",
        "The slope of the best line through points (u, v) is the sum of (u - mean u) * v, divided by the sum of "
        "(u - mean u) squared.",
    ),
)
def steps_since(levels, log_decay):
    """levels, log_decay (n,), n >= 2 -> scalar tensor: steps since one shower, of unknown size, filled n barrels."""
    spread = log_decay - log_decay.mean()
    return (spread * levels.log()).sum() / spread.square().sum()


@steps_since.cases
def two_barrels_then_four():
    def after_a_shower(t, size, *log_decay):
        rates = tensor(*log_decay)
        return given(size * torch.exp(t * rates), rates)

    return [
        after_a_shower(7, 3.0, -0.1, -0.4),
        after_a_shower(15, 0.2, -0.3, -0.01, -0.7, -0.2),
        after_a_shower(2, 5.0, -1.0, -0.05),
    ]


@steps_since.oracle
def from_the_slowest_and_the_fastest(levels, log_decay):
    slow, fast = int(log_decay.argmax()), int(log_decay.argmin())
    ratio = levels[slow].item() / levels[fast].item()
    return math.log(ratio) / (log_decay[slow].item() - log_decay[fast].item())


@steps_since.wrong(
    "This takes the shower for one of size 1. Its size is unknown: one barrel cannot tell a small shower just now from "
    "a big one long ago. Compare barrels."
)
def knows_the_size(levels, log_decay):
    return (levels.log() / log_decay).mean()


steps_since.slip(
    "Levels fall exponentially, so it is their logarithms that lie on a straight line over log_decay. Take `.log()` of "
    "the levels first.",
    draws_the_line_through_levels={"levels.log()": "levels"},
)

steps_since.slip(
    "The sign is turned: the shower would come in the future. The barrel with the faster leak, the lower log_decay, "
    "holds less.",
    looks_into_the_future={"return (spread": "return -(spread"},
)

steps_since.slip(
    "The line is forced through the origin, as if the shower had size 1. Subtract the mean of log_decay first, then "
    "the unknown size drops out.",
    forces_the_line_through_the_origin={"log_decay - log_decay.mean()": "log_decay"},
)

steps_since.slip(
    "One barrel alone is used, as if the shower had filled it with 1. The size is unknown: compare barrels, and it "
    "drops out of their ratio.",
    trusts_one_barrel={
        "log_decay - log_decay.mean()": "log_decay[:1]",
        "(spread * levels.log())": "(spread * levels[:1].log())",
    },
)

steps_since.slip(
    "The log decays are added up. The ratio of two levels fades by the difference of their log decays in each step.",
    adds_the_log_decays={
        "spread = log_decay - log_decay.mean()": "first, second = levels.log()[:2]",
        "(spread * levels.log()).sum() / spread.square().sum()": "(first - second) / log_decay[:2].sum()",
    },
)
