"""Answers to notebook 02."""

import math

import numpy as np
import torch
from support.learners.collect import right, wrong

# step


@wrong("step", "The state is multiplied by the log decay itself, a")
def log_decay_for_the_decay(x_t, log_decay_t, B_t, C_t, state):
    state = log_decay_t * state + x_t[..., None] * B_t
    return (C_t * state).sum(-1), state


@wrong("step", "The gauge is read too early")
def reads_before_it_writes(x_t, log_decay_t, B_t, C_t, state):
    y_t = (C_t * state).sum(-1)
    return y_t, torch.exp(log_decay_t) * state + x_t[..., None] * B_t


@wrong("step", "`y_t` is summed over too many axes")
def sums_every_axis(x_t, log_decay_t, B_t, C_t, state):
    state = torch.exp(log_decay_t) * state + x_t[..., None] * B_t
    return (C_t * state).sum(), state


@right("step")
def a_list_by_einsum(x_t, log_decay_t, B_t, C_t, state):
    state = torch.exp(log_decay_t) * state + torch.einsum("...,...n->...n", x_t, B_t)
    return [torch.einsum("...n,...n->...", C_t, state), state]


@right("step")
def step_by_numpy(x_t, log_decay_t, B_t, C_t, state):
    x_t, log_decay_t, B_t, C_t, state = (part.numpy() for part in (x_t, log_decay_t, B_t, C_t, state))
    state = np.exp(log_decay_t) * state + x_t[..., None] * B_t
    return (C_t * state).sum(-1), state


@right("step")
def step_in_float64(x_t, log_decay_t, B_t, C_t, state):
    state = log_decay_t.double().exp() * state.double() + (x_t.unsqueeze(-1) * B_t).double()
    return torch.sum(state * C_t, dim=-1), state


# sequential


@wrong("sequential", "It begins with empty barrels")
def starts_empty(x, log_decay, B, C, initial_state):
    state, y = torch.zeros_like(initial_state), []
    for t in range(len(x)):
        state = log_decay[t].exp() * state + x[t] * B[t]
        y.append(C[t] @ state)
    return torch.stack(y), state


@wrong("sequential", "Row 0 of the decays is used in every hour")
def the_first_rule_for_all(x, log_decay, B, C, initial_state):
    state, y = initial_state, []
    for t in range(len(x)):
        state = log_decay[0].exp() * state + x[t] * B[0]
        y.append(C[0] @ state)
    return torch.stack(y), state


@wrong("sequential", "The final state holds all of them, in shape (3, 1) where")
def returns_every_state(x, log_decay, B, C, initial_state):
    state, y, states = initial_state, [], []
    for t in range(len(x)):
        state = log_decay[t].exp() * state + x[t] * B[t]
        y.append(C[t] @ state)
        states.append(state)
    return torch.stack(y), torch.stack(states)


@right("sequential")
def a_list_of_outputs(x, log_decay, B, C, initial_state):
    state, y = initial_state, []
    for x_t, a_t, B_t, C_t in zip(x, log_decay, B, C, strict=True):
        state = a_t.exp() * state + x_t * B_t
        y.append((C_t * state).sum())
    return y, state


@right("sequential")
def sequential_by_numpy(x, log_decay, B, C, initial_state):
    x, a, B, C, h = (part.numpy() for part in (x, log_decay, B, C, initial_state))
    y = np.zeros(len(x))
    for t in range(len(x)):
        h = np.exp(a[t]) * h + x[t] * B[t]
        y[t] = C[t] @ h
    return y, h


@right("sequential")
def into_an_empty_tensor(x, log_decay, B, C, initial_state):
    y, h = torch.empty(len(x), dtype=torch.float64), initial_state.double()
    for t in range(len(x)):
        h = torch.exp(log_decay[t]) * h + x[t] * B[t]
        y[t] = torch.sum(C[t] * h)
    return (y, h)


# kernel


@wrong("kernel", "It begins one hour late")
def one_step_too_old(log_decay, B, C, l):
    t = torch.arange(1, l + 1)[:, None]
    return (C * torch.exp(t * log_decay) * B).sum(1)


@wrong("kernel", "B is left out")
def leaves_out_b(log_decay, B, C, l):
    t = torch.arange(l)[:, None]
    return (C * torch.exp(t * log_decay)).sum(1)


@wrong("kernel", "The log decays of all barrels are added up")
def sums_before_the_power(log_decay, B, C, l):
    return (C @ B) * torch.exp(torch.arange(l) * log_decay.sum())


@right("kernel")
def a_list_of_numbers(log_decay, B, C, l):
    rows = list(zip(log_decay.tolist(), B.tolist(), C.tolist(), strict=True))
    return [sum(c * b * math.exp(t * a) for a, b, c in rows) for t in range(l)]


@right("kernel")
def kernel_by_einsum(log_decay, B, C, l):
    powers = torch.exp(torch.outer(torch.arange(l, dtype=torch.float64), log_decay.double()))
    return torch.einsum("n,tn,n->t", C.double(), powers, B.double())


@right("kernel")
def kernel_by_the_loop(log_decay, B, C, l):
    state, out = B, torch.zeros(l)
    for t in range(l):
        out[t] = C @ state
        state = state * log_decay.exp()
    return out


# convolution


@wrong("convolution", "weights[s] meets x[s]")
def weights_not_turned_round(x, weights):
    return torch.stack([(weights[: t + 1] * x[: t + 1]).sum() for t in range(len(x))])


@wrong("convolution", "It looks ahead")
def correlates_with_the_future(x, weights):
    l = len(x)
    return torch.stack([(weights[: l - t] * x[t:]).sum() for t in range(l)])


@wrong("convolution", "The rain of the hour itself is missing")
def leaves_out_the_hour_itself(x, weights):
    return torch.stack(
        [sum((weights[k] * x[t - k] for k in range(1, t + 1)), torch.tensor(0.0)) for t in range(len(x))]
    )


@right("convolution")
def by_np_convolve(x, weights):
    return np.convolve(x.numpy(), weights.numpy())[: len(x)]


@right("convolution")
def convolution_in_lists(x, weights):
    return [sum(float(weights[k] * x[t - k]) for k in range(t + 1)) for t in range(len(x))]


@right("convolution")
def by_conv1d(x, weights):
    l = len(x)
    padded = torch.nn.functional.pad(x[None, None], (l - 1, 0))
    return torch.nn.functional.conv1d(padded, weights.flip(0)[None, None])[0, 0]


# toeplitz


@wrong("toeplitz", "Rows and columns are exchanged")
def upper_instead_of_lower(weights):
    l = len(weights)
    M = torch.zeros(l, l)
    for t in range(l):
        M[t, t:] = weights[: l - t]
    return M


@wrong("toeplitz", "Above the diagonal stand weights from the end of the")
def wraps_round(weights):
    l = len(weights)
    t = torch.arange(l)
    return weights[(t[:, None] - t) % l]


@wrong("toeplitz", "Every row holds the weights from the left")
def rows_not_turned_round(weights):
    l = len(weights)
    M = torch.zeros(l, l)
    for t in range(l):
        M[t, : t + 1] = weights[: t + 1]
    return M


@right("toeplitz")
def by_scipy_as_an_array(weights):
    from scipy.linalg import toeplitz

    return toeplitz(weights.numpy(), np.zeros(len(weights)))


@right("toeplitz")
def a_list_of_lists(weights):
    l = len(weights)
    return [[float(weights[t - s]) if s <= t else 0.0 for s in range(l)] for t in range(l)]


@right("toeplitz")
def columns_stacked(weights):
    l = len(weights)
    return torch.stack([torch.cat([weights.new_zeros(s), weights[: l - s]]) for s in range(l)], dim=1)


# fft_convolution


@wrong("fft_convolution", "The end runs into the beginning")
def without_padding(x, weights):
    return torch.fft.irfft(torch.fft.rfft(x) * torch.fft.rfft(weights), n=len(x))


@wrong("fft_convolution", "The result has 8 entries, and the first 4 are right")
def does_not_cut(x, weights):
    l = len(x)
    return torch.fft.irfft(torch.fft.rfft(x, n=2 * l) * torch.fft.rfft(weights, n=2 * l), n=2 * l)


@wrong("fft_convolution", "The numbers are right, but the work grows as the square of")
def a_double_loop(x, weights):
    return torch.stack([sum(weights[k] * x[t - k] for k in range(t + 1)) for t in range(len(x))])


@wrong("fft_convolution", "Zeros belong behind x")
def zeros_in_front(x, weights):
    l = len(x)
    x, weights = torch.cat([torch.zeros(l), x]), torch.cat([weights, torch.zeros(l)])
    return torch.fft.irfft(torch.fft.rfft(x) * torch.fft.rfft(weights), n=2 * l)[:l]


@right("fft_convolution")
def complex_transforms(x, weights):
    l = len(x)
    return torch.fft.ifft(torch.fft.fft(x, 2 * l) * torch.fft.fft(weights, 2 * l)).real[:l]


@right("fft_convolution")
def fft_by_numpy(x, weights):
    l = len(x)
    return np.fft.irfft(np.fft.rfft(x.numpy(), 4 * l) * np.fft.rfft(weights.numpy(), 4 * l))[:l]


@right("fft_convolution")
def pads_itself(x, weights):
    l = len(x)
    zeros = torch.zeros(l)
    together = torch.fft.rfft(torch.cat([x, zeros])) * torch.fft.rfft(torch.cat([weights, zeros]))
    return torch.fft.irfft(together, n=2 * l)[:l].double()
