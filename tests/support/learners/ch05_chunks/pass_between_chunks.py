"""Answers to `pass_between_chunks`."""

import numpy as np
import torch
import torch.nn.functional as F
from support.learners.collect import right, wrong

from mamba2_lab.course.exercises.chunks import pass_between_chunks
from mamba2_lab.course.exercises.duality import segsum


@wrong("pass_between_chunks", "The result lacks the first of 4 entries along axis 0")
def leaves_out_the_first(added, log_decay, initial_state):
    states, state = [], initial_state
    for c in range(added.shape[-3]):
        state = log_decay[..., c, None, None].exp() * state + added[..., c, :, :]
        states.append(state)
    return torch.stack(states, -3)


@wrong("pass_between_chunks", "The chunk's decay is applied to what the chunk itself")
def fades_what_was_just_added(added, log_decay, initial_state):
    states, state = [initial_state], initial_state
    for c in range(added.shape[-3]):
        state = log_decay[..., c, None, None].exp() * (state + added[..., c, :, :])
        states.append(state)
    return torch.stack(states, -3)


@wrong("pass_between_chunks", "The state is multiplied by the log decay itself, a number")
def does_not_take_the_exp(added, log_decay, initial_state):
    states = [initial_state]
    for c in range(added.shape[-3]):
        states.append(log_decay[..., c, None, None] * states[-1] + added[..., c, :, :])
    return torch.stack(states, -3)


@wrong("pass_between_chunks", "The chunk's decay is applied to what the chunk itself adds. That has")
def adds_then_fades(added, log_decay, initial_state):
    states = [initial_state]
    for i in range(added.shape[-3]):
        states.append((states[-1] + added[..., i, :, :]) * log_decay[..., i, None, None].exp())
    return torch.stack(states, -3)


@wrong("pass_between_chunks", "The states add up without fading. A chunk lets through only part of")
def adds_without_fading(added, log_decay, initial_state):
    return torch.cat([initial_state.unsqueeze(-3), added], -3).cumsum(-3)


@wrong("pass_between_chunks", "The state from before the text is lost: the first boundary holds")
def starts_from_nothing(added, log_decay, initial_state):
    return pass_between_chunks(added, log_decay, torch.zeros_like(initial_state))


@right("pass_between_chunks")
def a_list_of_states(added, log_decay, initial_state):
    states = [initial_state]
    for c in range(added.shape[-3]):
        states.append(log_decay[..., c, None, None].exp() * states[-1] + added[..., c, :, :])
    return states if added.ndim == 3 else torch.stack(states, dim=-3)


@right("pass_between_chunks")
def states_by_segsum(added, log_decay, initial_state):
    everything = torch.cat([initial_state.unsqueeze(-3), added], dim=-3)
    decays = segsum(F.pad(log_decay, (1, 0)).double()).exp()
    return torch.einsum("...ts,...spn->...tpn", decays, everything.double())


@right("pass_between_chunks")
def states_by_numpy(added, log_decay, initial_state):
    added, decay, state = added.numpy(), np.exp(log_decay.numpy()), initial_state.numpy()
    states = [state]
    for c in range(added.shape[-3]):
        state = decay[..., c, None, None] * state + added[..., c, :, :]
        states.append(state)
    return np.stack(states, axis=-3)
