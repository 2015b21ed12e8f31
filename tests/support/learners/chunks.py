"""Answers to notebook 05."""

import numpy as np
import torch
import torch.nn.functional as F
from support.learners.collect import right, wrong

from mamba2_lab.course import exercises

NEEDED = ("attention_matrix", "segsum", "split_into_chunks", "left_behind", "pass_between_chunks", "read_incoming")
attention_matrix, segsum, split_into_chunks, left_behind, pass_between_chunks, read_incoming = (
    exercises.find(name).reference for name in NEEDED
)

# split_into_chunks


@wrong("split_into_chunks", "The zeros stand in front of the text here")
def zeros_in_front(sequence, chunk_size):
    b, l = sequence.shape[:2]
    missing = -l % chunk_size
    padded = torch.cat([sequence.new_zeros(b, missing, *sequence.shape[2:]), sequence], 1)
    return padded.reshape(b, -1, chunk_size, *sequence.shape[2:])


@wrong("split_into_chunks", "A text that fills its chunks gets one more, of zeros")
def an_empty_chunk_too_many(sequence, chunk_size):
    b, l = sequence.shape[:2]
    missing = chunk_size - l % chunk_size
    padded = torch.cat([sequence, sequence.new_zeros(b, missing, *sequence.shape[2:])], 1)
    return padded.reshape(b, -1, chunk_size, *sequence.shape[2:])


@wrong("split_into_chunks", "Tokens are dealt out like cards")
def every_cth_token(sequence, chunk_size):
    b, l = sequence.shape[:2]
    padded = torch.cat([sequence, sequence.new_zeros(b, -l % chunk_size, *sequence.shape[2:])], 1)
    return padded.reshape(b, chunk_size, -1, *sequence.shape[2:]).transpose(1, 2)


@right("split_into_chunks")
def into_zeros(sequence, chunk_size):
    b, l = sequence.shape[:2]
    c = (l + chunk_size - 1) // chunk_size
    out = torch.zeros(b, c, chunk_size, *sequence.shape[2:], dtype=sequence.dtype)
    for t in range(l):
        out[:, t // chunk_size, t % chunk_size] = sequence[:, t]
    return out


@right("split_into_chunks")
def chunks_by_numpy(sequence, chunk_size):
    array = sequence.numpy()
    widths = [(0, 0), (0, -array.shape[1] % chunk_size)] + [(0, 0)] * (array.ndim - 2)
    array = np.pad(array, widths)
    return array.reshape(array.shape[0], array.shape[1] // chunk_size, chunk_size, *array.shape[2:])


@right("split_into_chunks")
def by_f_pad(sequence, chunk_size):
    padding = (0, 0) * (sequence.ndim - 2) + (0, -sequence.shape[1] % chunk_size)
    return (
        F.pad(sequence, padding).unflatten(1, (-1, chunk_size))
        if sequence.shape[1]
        else into_zeros(sequence, chunk_size)
    )


# left_behind


@wrong("left_behind", "Each token's own decay is applied to what it writes")
def own_decay_too(x, log_decay, B):
    after = log_decay.flip(-1).cumsum(-1).flip(-1)
    return (x * after.exp()[..., None]).mT @ B


@wrong("left_behind", "These are the fades from the chunk's start to each token")
def decay_since_the_start(x, log_decay, B):
    return (x * log_decay.cumsum(-1).exp()[..., None]).mT @ B


@wrong("left_behind", "Rows and columns of the state are exchanged")
def state_transposed(x, log_decay, B):
    left = segsum(log_decay)[..., -1, :].exp()
    return (B * left[..., None]).mT @ x


@right("left_behind")
def left_by_einsum(x, log_decay, B):
    return torch.einsum("...q,...qp,...qn->...pn", segsum(log_decay)[..., -1, :].exp(), x, B)


@right("left_behind")
def left_by_the_loop(x, log_decay, B):
    state = x.new_zeros(*x.shape[:-2], x.shape[-1], B.shape[-1])
    for t in range(x.shape[-2]):
        state = log_decay[..., t, None, None].exp() * state + x[..., t, :, None] * B[..., t, None, :]
    return state


@right("left_behind")
def left_by_numpy(x, log_decay, B):
    left = np.exp(segsum(log_decay.double())[..., -1, :].numpy())
    return np.swapaxes(x.numpy() * left[..., None], -1, -2) @ B.numpy()


# pass_between_chunks


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


# read_incoming


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


# chunked


def _four_steps(x, log_decay, B, C, initial_state, chunk_size, shares="neighbours", reads=True, start=True):
    l, h, g = x.shape[1], x.shape[2], B.shape[2]
    if shares == "neighbours":
        B, C = (part.repeat_interleave(h // g, 2) for part in (B, C))
    else:
        B, C = (part.repeat(1, 1, h // g, 1) for part in (B, C))
    x, a, B, C = (split_into_chunks(part, chunk_size) for part in (x, log_decay, B, C))
    x, a, B, C = x.transpose(2, 3), a.transpose(2, 3), B.transpose(2, 3), C.transpose(2, 3)  # (b,c,h,q,...)
    states = pass_between_chunks(
        left_behind(x, a, B).transpose(1, 2), a.sum(-1).mT, initial_state if start else 0 * initial_state
    )
    y = attention_matrix(a, B, C) @ x
    if reads:
        y = y + read_incoming(states[:, :, :-1].transpose(1, 2), a, C)
    return y.transpose(2, 3).flatten(1, 2)[:, :l], states[:, :, -1]


@wrong("chunked", "Heads go to the wrong groups")
def groups_dealt_out(x, log_decay, B, C, initial_state, chunk_size):
    return _four_steps(x, log_decay, B, C, initial_state, chunk_size, shares="in turn")


@wrong("chunked", "Chunks are alone here")
def chunks_do_not_read_what_came_in(x, log_decay, B, C, initial_state, chunk_size):
    return _four_steps(x, log_decay, B, C, initial_state, chunk_size, reads=False)


@wrong("chunked", "The state from before the text is lost")
def begins_empty(x, log_decay, B, C, initial_state, chunk_size):
    return _four_steps(x, log_decay, B, C, initial_state, chunk_size, start=False)


@right("chunked")
def a_list_from_four_steps(x, log_decay, B, C, initial_state, chunk_size):
    return list(_four_steps(x, log_decay, B, C, initial_state, chunk_size))


@right("chunked")
def one_chunk_after_another(x, log_decay, B, C, initial_state, chunk_size):
    h, state, ys = x.shape[2], initial_state, []
    B, C = (part.repeat_interleave(h // part.shape[2], 2) for part in (B, C))
    for start in range(0, x.shape[1], chunk_size):
        part = slice(start, start + chunk_size)
        x_, a, B_, C_ = (
            x[:, part].transpose(1, 2),
            log_decay[:, part].mT,
            B[:, part].transpose(1, 2),
            C[:, part].transpose(1, 2),
        )
        ys.append((attention_matrix(a, B_, C_) @ x_ + read_incoming(state, a, C_)).transpose(1, 2))
        state = a.sum(-1).exp()[..., None, None] * state + left_behind(x_, a, B_)
    return torch.cat(ys, 1), state


@right("chunked")
def chunks_in_float64(x, log_decay, B, C, initial_state, chunk_size):
    return _four_steps(*(part.double() for part in (x, log_decay, B, C, initial_state)), chunk_size)


# multiply_adds


@wrong("multiply_adds", "The squares are counted as triangles")
def counts_triangles(l, chunk_size, p, n):
    c = -(-l // chunk_size)
    pairs = chunk_size * (chunk_size + 1) // 2
    return c * (pairs * n + pairs * p + 2 * chunk_size * p * n + p * n)


@wrong("multiply_adds", "The padding is not counted")
def without_the_padding(l, chunk_size, p, n):
    q = chunk_size
    return l * q * n + l * q * p + 2 * l * p * n + l // q * p * n


@wrong("multiply_adds", "To pass the state on is left out")
def forgets_to_pass_on(l, chunk_size, p, n):
    c, q = -(-l // chunk_size), chunk_size
    return c * (q * q * n + q * q * p + 2 * q * p * n)


@right("multiply_adds")
def a_float_of_a_sum(l, chunk_size, p, n):
    q = chunk_size
    c = np.ceil(l / q)
    return c * (q * q * (n + p) + 2 * q * p * n + p * n)


@right("multiply_adds")
def a_tensor_of_a_sum(l, chunk_size, p, n):
    c, q = torch.tensor((l + chunk_size - 1) // chunk_size), chunk_size
    return c * (q * n * q + q * q * p + p * q * n + q * n * p + p * n)


@right("multiply_adds")
def counted_chunk_by_chunk(l, chunk_size, p, n):
    count = 0
    for _ in range(0, l, chunk_size):
        count += chunk_size * n * chunk_size + chunk_size * chunk_size * p
        count += p * chunk_size * n + chunk_size * n * p + p * n
    return count
