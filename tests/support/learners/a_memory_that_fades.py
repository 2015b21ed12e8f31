"""Answers to notebook 01."""

import math

import numpy as np
import torch
from support.learners.collect import right, wrong

# levels


@wrong("levels", "The rain of an hour leaks away in that same hour")
def decays_the_rain_too(x, decay):
    h, out = 0.0, []
    for x_t in x:
        h = decay * (h + x_t)
        out.append(h)
    return torch.stack(out)


@wrong("levels", "Old and new share are exchanged")
def keeps_what_should_leak(x, decay):
    h, out = torch.tensor(0.0), []
    for x_t in x:
        h = (1 - decay) * h + x_t
        out.append(h)
    return torch.stack(out)


@wrong("levels", "It is one hour late")
def level_before_the_rain(x, decay):
    h, out = torch.tensor(0.0), []
    for x_t in x:
        out.append(h)
        h = decay * h + x_t
    return torch.stack(out)


@right("levels")
def a_list_of_floats(x, decay):
    h, out = 0.0, []
    for x_t in x.tolist():
        h = decay * h + x_t
        out.append(h)
    return out


@right("levels")
def an_array_in_float64(x, decay):
    h, out = 0.0, np.zeros(len(x))
    for t in range(len(x)):
        h = decay * h + x[t].item()
        out[t] = h
    return out


@right("levels")
def levels_by_a_matrix(x, decay):
    t = torch.arange(len(x))
    lag = t[:, None] - t
    return torch.where(lag >= 0, decay ** lag.clamp(min=0), 0.0).to(x.dtype) @ x


# half_life


@wrong("half_life", "A negative number of steps")
def forgets_the_sign(log_decay):
    return math.log(2) / log_decay


@wrong("half_life", "The result is rounded")
def rounds_up(log_decay):
    return torch.ceil(-math.log(2) / log_decay)


@wrong("half_life", "This takes log_decay for the decay itself")
def takes_it_for_the_decay(log_decay):
    return math.log(0.5) / torch.log(-log_decay)


@right("half_life")
def half_life_by_numpy(log_decay):
    return np.log(0.5) / log_decay.numpy()


@right("half_life")
def half_life_by_log2(log_decay):
    return -1 / (log_decay * math.log2(math.e))


@right("half_life")
def half_life_in_float64(log_decay):
    return torch.log(torch.tensor(0.5, dtype=torch.float64)) / log_decay.double()


# zero_order_hold


@wrong("zero_order_hold", "The gain has the wrong sign")
def gain_with_the_sign_flipped(dt, A):
    decay = torch.exp(dt * A)
    return decay, (1 - decay) / A


@wrong("zero_order_hold", "The gain is dt itself")
def gain_is_dt(dt, A):
    return torch.exp(dt * A), dt


@wrong("zero_order_hold", "The gain is multiplied by A where it must be divided by")
def gain_multiplied_by_a(dt, A):
    return torch.exp(dt * A), (torch.exp(dt * A) - 1) * A


@right("zero_order_hold")
def a_list_of_two(dt, A):
    return [torch.exp(dt * A), torch.expm1(dt * A) / A]


@right("zero_order_hold")
def hold_by_numpy(dt, A):
    dt, A = dt.numpy(), A.numpy()
    return np.exp(dt * A), np.expm1(dt * A) / A


@right("zero_order_hold")
def hold_in_float64(dt, A):
    dt, A = dt.double(), A.double()
    decay = (dt * A).exp()
    return decay, (decay - 1) / A


# discretise


@wrong("discretise", "The second result is the decay itself")
def decay_for_its_log(x, dt, A):
    return x * dt, torch.exp(dt * A)


@wrong("discretise", "x is written as it came")
def writes_x_as_it_is(x, dt, A):
    return x, dt * A


@wrong("discretise", "This is the exact gain of the zero-order hold")
def writes_by_the_exact_gain(x, dt, A):
    return x * (torch.exp(dt * A) - 1) / A, dt * A


@right("discretise")
def a_list_of_products(x, dt, A):
    return [x * dt, A * dt]


@right("discretise")
def log_of_the_exp(x, dt, A):
    return dt * x, torch.log(torch.exp((dt * A).double())).float()


@right("discretise")
def discretise_by_numpy(x, dt, A):
    return x.numpy() * dt.numpy(), dt.numpy() * A.numpy()


# dt_to_remember


@wrong("dt_to_remember", "The half-life is exactly `steps`")
def half_life_of_exactly_steps(steps, A):
    return math.log(2) / (-A * steps)


@wrong("dt_to_remember", "A is left out")
def forgets_a(steps, A):
    return math.log(2) / (steps + 0.5)


@wrong("dt_to_remember", "dt must be above 0, or time runs backwards and the level")
def negative_time(steps, A):
    return math.log(2) / (A * (steps + 0.5))


@right("dt_to_remember")
def a_tensor_of_one(steps, A):
    return torch.tensor(math.log(2) / (-A * (steps + 0.3)))


@right("dt_to_remember")
def a_numpy_number(steps, A):
    return np.log(2) / (-A * (steps + 0.5))


@right("dt_to_remember")
def the_middle_of_both_ends(steps, A):
    longest, shortest = math.log(2) / (-A * steps), math.log(2) / (-A * (steps + 1))
    return (longest + shortest) / 2


# steps_since


@wrong("steps_since", "One barrel alone is used, as if the shower had filled it")
def trusts_the_first_barrel(levels, log_decay):
    return torch.log(levels[0]) / log_decay[0]


@wrong("steps_since", "The log decays are added up")
def divides_by_the_sum(levels, log_decay):
    ratio = torch.log(levels[0] / levels[1])
    return ratio / (log_decay[0] + log_decay[1])


@wrong("steps_since", "The sign is turned")
def difference_turned_round(levels, log_decay):
    return torch.log(levels[0] / levels[1]) / (log_decay[1] - log_decay[0])


@right("steps_since")
def a_float(levels, log_decay):
    top, low = levels[0].item(), levels[-1].item()
    return math.log(top / low) / (log_decay[0] - log_decay[-1]).item()


@right("steps_since")
def by_polyfit(levels, log_decay):
    slope, _ = np.polyfit(log_decay.double().numpy(), np.log(levels.double().numpy()), 1)
    return slope


@right("steps_since")
def by_least_squares(levels, log_decay):
    columns = torch.stack([log_decay, torch.ones_like(log_decay)], dim=1)
    return torch.linalg.lstsq(columns.double(), levels.log().double()[:, None]).solution[0, 0]
