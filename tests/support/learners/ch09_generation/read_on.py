"""Answers to `read_on`."""

import torch
from support.learners.collect import right, unexplained, wrong

from mamba2_lab.scan import chunked


def _read(u, mixer, window, state, *, start=None, keep="inputs", skips=True):
    z, xbc, dt = mixer.project(u)
    convolved = mixer.convolve(xbc, window if start is None else start)
    x, dt, log_decay, B, C = mixer.discretise(convolved, dt)
    y, new_state = chunked(x * dt[..., None], log_decay, B, C, state)
    if skips:
        y = mixer.skip(y, x)
    y = mixer.out(mixer.gate(y, z))
    w = window.shape[1]
    kept = convolved if keep == "outputs" else torch.cat([window, xbc], 1) if keep == "inputs" else xbc
    return y, kept[:, kept.shape[1] - min(w, kept.shape[1]) :], new_state


@wrong("read_on", "The window holds what came out of the convolution, but the")
def window_of_the_convolved(u, mixer, window, state):
    return _read(u, mixer, window, state, keep="outputs")


@wrong("read_on", "The window is made of the new tokens alone")
def window_of_the_new_alone(u, mixer, window, state):
    return _read(u, mixer, window, state, keep="new")


@wrong("read_on", "The convolution starts from zeros, as at the beginning of")
def begins_with_an_empty_window(u, mixer, window, state):
    return _read(u, mixer, window, state, start=torch.zeros_like(window))


@wrong("read_on", "It comes out as if `x * dt[..., None]` stood where `x`")
def skips_with_dt(u, mixer, window, state):
    z, xbc, dt = mixer.project(u)
    x, dt, log_decay, B, C = mixer.discretise(mixer.convolve(xbc, window), dt)
    x = x * dt[..., None]
    y, state = chunked(x, log_decay, B, C, state)
    window = torch.cat([window, xbc], dim=1)[:, -window.shape[1] :]
    return mixer.out(mixer.gate(mixer.skip(y, x), z)), window, state


@wrong("read_on", "The window never moves on: it is returned as it came, so")
def keeps_the_first_inputs(u, mixer, window, state):
    z, xbc, dt = mixer.project(u)
    x, dt, log_decay, B, C = mixer.discretise(mixer.convolve(xbc, window), dt)
    y, state = chunked(x * dt[..., None], log_decay, B, C, state)
    window = torch.cat([window, xbc], dim=1)[:, : window.shape[1]]
    return mixer.out(mixer.gate(mixer.skip(y, x), z)), window, state


@wrong("read_on", "It comes out as if `B` and `C` were exchanged.")
def gate_before_skip(u, mixer, window, state):
    z, xbc, dt = mixer.project(u)
    x, dt, log_decay, B, C = mixer.discretise(mixer.convolve(xbc, window), dt)
    y, state = chunked(x * dt[..., None], log_decay, C, B, state)
    window = torch.cat([window, xbc], dim=1)[:, -window.shape[1] :]
    return mixer.out(mixer.gate(mixer.skip(y, x), z)), window, state


@wrong("read_on", "`state` is `state` as it was given: nothing was done to it.")
def old_state(u, mixer, window, state):
    z, xbc, dt = mixer.project(u)
    x, dt, log_decay, B, C = mixer.discretise(mixer.convolve(xbc, window), dt)
    y, _ = chunked(x * dt[..., None], log_decay, B, C, state)
    window = torch.cat([window, xbc], dim=1)[:, -window.shape[1] :]
    return mixer.out(mixer.gate(mixer.skip(y, x), z)), window, state


@wrong("read_on", "What is written is x, without its step size. The scan takes x")
def x_without_dt(u, mixer, window, state):
    z, xbc, dt = mixer.project(u)
    x, dt, log_decay, B, C = mixer.discretise(mixer.convolve(xbc, window), dt)
    y, state = chunked(x, log_decay, B, C, state)
    window = torch.cat([window, xbc], dim=1)[:, -window.shape[1] :]
    return mixer.out(mixer.gate(mixer.skip(y, x), z)), window, state


@wrong("read_on", "The scan starts from an empty state: what was read before is")
def begins_with_an_empty_state(u, mixer, window, state):
    z, xbc, dt = mixer.project(u)
    x, dt, log_decay, B, C = mixer.discretise(mixer.convolve(xbc, window), dt)
    y, state = chunked(x * dt[..., None], log_decay, B, C)
    window = torch.cat([window, xbc], dim=1)[:, -window.shape[1] :]
    return mixer.out(mixer.gate(mixer.skip(y, x), z)), window, state


@wrong("read_on", "It comes out as if `skip` were left out.")
def never_skips(u, mixer, window, state):
    z, xbc, dt = mixer.project(u)
    x, dt, log_decay, B, C = mixer.discretise(mixer.convolve(xbc, window), dt)
    y, state = chunked(x * dt[..., None], log_decay, B, C, state)
    window = torch.cat([window, xbc], dim=1)[:, -window.shape[1] :]
    return mixer.out(mixer.gate(y, z)), window, state


@wrong("read_on", "It comes out as if `B` and `C` were exchanged.")
def b_and_c_the_other_way(u, mixer, window, state):
    z, xbc, dt = mixer.project(u)
    x, dt, log_decay, B, C = mixer.discretise(mixer.convolve(xbc, window), dt)
    y, state = chunked(x * dt[..., None], log_decay, C, B, state)
    window = torch.cat([window, xbc], dim=1)[:, u.shape[1] :]
    return mixer.out(mixer.gate(mixer.skip(y, x), z)), window, state


@wrong("read_on", "The window never moves on: it is returned as it came, so that")
def the_old_window(u, mixer, window, state):
    z, xbc, dt = mixer.project(u)
    x, dt, log_decay, B, C = mixer.discretise(mixer.convolve(xbc, window), dt)
    y, state = chunked(x * dt[..., None], log_decay, B, C, state)
    return mixer.out(mixer.gate(mixer.skip(y, x), z)), window, state


@wrong("read_on", "Two mistakes at once. The scan starts from an empty state:")
def convolves_without_a_window(u, mixer, window, state):
    z, xbc, dt = mixer.project(u)
    x, dt, log_decay, B, C = mixer.discretise(mixer.convolve(xbc, torch.zeros_like(window)), dt)
    y, state = chunked(x * dt[..., None], log_decay, B, C, torch.zeros_like(state))
    window = torch.cat([window, xbc], dim=1)[:, u.shape[1] :]
    return mixer.out(mixer.gate(mixer.skip(y, x), z)), window, state


@unexplained("read_on")
def no_gate(u, mixer, window, state):
    z, xbc, dt = mixer.project(u)
    x, dt, log_decay, B, C = mixer.discretise(mixer.convolve(xbc, window), dt)
    y, state = chunked(x * dt[..., None], log_decay, B, C, state)
    window = torch.cat([window, xbc], dim=1)[:, u.shape[1] :]
    return mixer.out(mixer.skip(y, x).flatten(-2)), window, state


@right("read_on")
def read_on_as_a_list(u, mixer, window, state):
    return list(_read(u, mixer, window, state))


@right("read_on")
def one_token_at_a_time(u, mixer, window, state):
    ys = []
    for t in range(u.shape[1]):
        y, window, state = _read(u[:, t : t + 1], mixer, window, state)
        ys.append(y)
    return torch.cat(ys, 1), window, state


@right("read_on")
def in_two_halves(u, mixer, window, state):
    if u.shape[1] < 2:
        return _read(u, mixer, window, state)
    first, window, state = _read(u[:, :1], mixer, window, state)
    rest, window, state = _read(u[:, 1:], mixer, window, state)
    return torch.cat([first, rest], 1), window, state
