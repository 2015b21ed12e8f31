"""Answers to `split_into_chunks`."""

import numpy as np
import torch
import torch.nn.functional as F
from support.learners.collect import right, wrong


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


@wrong("split_into_chunks", "The tokens that do not fill a chunk are dropped: the end of the text is")
def drops_the_rest(sequence, chunk_size):
    c = sequence.shape[1] // chunk_size
    return sequence[:, : c * chunk_size].unflatten(1, (c, chunk_size))


@wrong("split_into_chunks", "The result is not 0 where it should be, all with index 2 along axis 1;")
def repeats_the_last(sequence, chunk_size):
    missing = -sequence.shape[1] % chunk_size
    filled = torch.cat([sequence, *[sequence[:, -1:]] * missing], 1)
    return filled.unflatten(1, (-1, chunk_size))


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
