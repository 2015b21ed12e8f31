"""Answers to `residual_block`."""

import torch
from support.learners.collect import right, wrong


@wrong("residual_block", "The stream is lost")
def no_skip(u, norm, mixer):
    return mixer(norm(u))


@wrong("residual_block", "Here the norm takes the straight way too")
def adds_the_normed(u, norm, mixer):
    normed = norm(u)
    return normed + mixer(normed)


@wrong("residual_block", "The norm stands behind the mixer")
def norm_after_the_mixer(u, norm, mixer):
    return u + norm(mixer(u.to(next(mixer.parameters()).dtype)))


@wrong("residual_block", "The stream was rounded to the dtype of the weights on the")
def stream_in_the_dtype_of_the_weights(u, norm, mixer):
    x = u.to(norm.weight.dtype)
    return (x + mixer(norm(x))).float()


@wrong("residual_block", "The mixer got the stream and its normalised copy in a sum.")
def mixer_reads_the_sum(u, norm, mixer):
    return mixer(u + norm(u)).float()


@wrong("residual_block", "The stream is lost: the block must add to what came in, not")
def only_the_mixer(u, norm, mixer):
    return mixer(norm(u.to(norm.weight.dtype))).float()


@wrong("residual_block", "It comes out as if `mixer(norm(u))` were added twice.")
def twice_the_mixer(u, norm, mixer):
    y = mixer(norm(u))
    return u + y + y


@wrong("residual_block", "It comes out as if `*` stood where `+` belongs.")
def multiplies_the_stream(u, norm, mixer):
    return u * mixer(norm(u))


@wrong("residual_block", "This normalises after the sum, as the first transformers did.")
def norm_of_the_sum(u, norm, mixer):
    return norm(u + mixer(u))


@wrong("residual_block", "It changes its input `u` in place, which its caller may still")
def adds_in_place(u, norm, mixer):
    u += mixer(norm(u))
    return u


@wrong("residual_block", "It comes out as if `norm` were applied to `u` as well.")
def normed_twice(u, norm, mixer):
    return u + mixer(norm(norm(u)))


@wrong("residual_block", "The result is 1/2 times what it should be.")
def halves_the_sum(u, norm, mixer):
    return (u + mixer(norm(u))) / 2


@wrong("residual_block", "It comes out as if `-` stood where `+` belongs.")
def takes_the_change_away(u, norm, mixer):
    return u - mixer(norm(u))


@wrong("residual_block", "Two mistakes at once. The mixer must read a normalised copy")
def mixer_then_norm_of_the_stream(u, norm, mixer):
    return norm(u) + mixer(u)


@wrong("residual_block", "Here the norm takes the straight way too. Nothing may happen to")
def normed_on_both_ways(u, norm, mixer):
    n = norm(u)
    return n + mixer(n).float()


@right("residual_block")
def added_in_float(u, norm, mixer):
    return mixer(norm(u)).float() + u


@right("residual_block")
def cast_to_the_weight(u, norm, mixer):
    change = mixer(norm(u).to(next(mixer.parameters()).dtype))
    return torch.add(u, change)


@right("residual_block")
def block_in_float64(u, norm, mixer):
    return u.double() + mixer(norm(u)).double()
