"""Answers to `read_incoming`."""

import numpy as np
import torch
from support.learners.collect import right, wrong


@wrong("read_incoming", "A token's own decay is left out")
def without_its_own_decay(state, log_decay, C):
    total = log_decay.cumsum(-1) - log_decay
    return (C * total.exp()[..., None]) @ state.mT


@wrong("read_incoming", "The state that came in fades at each token of the chunk")
def reads_it_unfaded(state, log_decay, C):
    return C @ state.mT


@wrong("read_incoming", "These are the fades from each token to the end of the")
def decay_to_the_end(state, log_decay, C):
    total = log_decay.cumsum(-1)
    return (C * torch.exp(total[..., -1:] - total)[..., None]) @ state.mT


@wrong("read_incoming", "Every token reads with the decay of the whole chunk. Token t has seen")
def faded_to_the_end(state, log_decay, C):
    return log_decay.sum(-1).exp()[..., None, None] * (C @ state.mT)


@wrong("read_incoming", "It comes out as if `.cumsum(...)` were left out.")
def own_decay_alone(state, log_decay, C):
    return log_decay.exp()[..., None] * (C @ state.mT)


@wrong("read_incoming", "It comes out as if `exp` were left out.")
def log_as_factor(state, log_decay, C):
    return log_decay.cumsum(-1)[..., None] * (C @ state.mT)


@right("read_incoming")
def incoming_by_einsum(state, log_decay, C):
    return torch.einsum("...pn,...q,...qn->...qp", state, log_decay.cumsum(-1).exp(), C)


@right("read_incoming")
def incoming_by_the_loop(state, log_decay, C):
    out = []
    for t in range(C.shape[-2]):
        state = state * log_decay[..., t, None, None].exp()
        out.append((state @ C[..., t, :, None])[..., 0])
    return torch.stack(out, -2)


@right("read_incoming")
def incoming_by_numpy(state, log_decay, C):
    faded = np.exp(np.cumsum(log_decay.numpy(), -1))
    return (C.numpy() * faded[..., None]) @ np.swapaxes(state.numpy(), -1, -2)
