"""Answers to `chunked`."""

import torch
from support.learners.collect import right, wrong

from mamba2_lab.course.exercises.chunks import (
    chunked,
    left_behind,
    pass_between_chunks,
    read_incoming,
    split_into_chunks,
)
from mamba2_lab.course.exercises.duality import attention_matrix


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


def _chunked(x, log_decay, B, C, initial_state, q, final, came):
    l, h = x.shape[1:3]
    B, C = (part.repeat_interleave(h // part.shape[2], 2) for part in (B, C))
    x, log_decay, B, C = (split_into_chunks(part, q) for part in (x, log_decay, B, C))
    x, log_decay, B, C = x.movedim(3, 1), log_decay.movedim(3, 1), B.movedim(3, 1), C.movedim(3, 1)
    y = attention_matrix(log_decay, B, C) @ x
    states = pass_between_chunks(left_behind(x, log_decay, B), log_decay.sum(-1), initial_state)
    y = y + read_incoming(states[:, :, came], log_decay, C)
    return y.flatten(2, 3)[:, :, :l].transpose(1, 2), states[:, :, final]


@wrong("chunked", "Heads go to the wrong groups")
def groups_dealt_out(x, log_decay, B, C, initial_state, chunk_size):
    return _four_steps(x, log_decay, B, C, initial_state, chunk_size, shares="in turn")


@wrong("chunked", "Chunks are alone here")
def chunks_do_not_read_what_came_in(x, log_decay, B, C, initial_state, chunk_size):
    return _four_steps(x, log_decay, B, C, initial_state, chunk_size, reads=False)


@wrong("chunked", "The state from before the text is lost")
def begins_empty(x, log_decay, B, C, initial_state, chunk_size):
    return _four_steps(x, log_decay, B, C, initial_state, chunk_size, start=False)


@wrong("chunked", "It comes out as if 2 stood where 1 belongs.")
def state_before_the_last_chunk(x, log_decay, B, C, initial_state, chunk_size):
    return _chunked(x, log_decay, B, C, initial_state, chunk_size, -2, slice(None, -1))


@wrong("chunked", "Each chunk reads the state at its end, which holds its own tokens")
def reads_what_goes_out(x, log_decay, B, C, initial_state, chunk_size):
    return _chunked(x, log_decay, B, C, initial_state, chunk_size, -1, slice(1, None))


@wrong("chunked", "Heads go to the wrong groups: with 2 groups, `repeat` deals them out 0,")
def groups_in_turn(x, log_decay, B, C, initial_state, chunk_size):
    h = x.shape[2]
    B, C = (part.repeat(1, 1, h // part.shape[2], 1) for part in (B, C))
    return chunked(x, log_decay, B, C, initial_state, chunk_size)


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
