"""Answers to `as_bits_per_byte`."""

import math

import numpy as np
import torch
from support.learners.collect import right, unexplained, wrong


@wrong("as_bits_per_byte", "These are still nats")
def nats_per_byte(nats_per_token, bytes_per_token):
    return nats_per_token / bytes_per_token


@wrong("as_bits_per_byte", "The bytes go the other way")
def times_the_bytes(nats_per_token, bytes_per_token):
    return nats_per_token / math.log(2) * bytes_per_token


@wrong("as_bits_per_byte", "From nats to bits the number grows")
def times_ln_2(nats_per_token, bytes_per_token):
    return nats_per_token * math.log(2) / bytes_per_token


@wrong("as_bits_per_byte", "It comes out as if a logarithm were taken where a division")
def log2_of_the_nats(nats_per_token, bytes_per_token):
    return math.log2(nats_per_token) / bytes_per_token


@wrong("as_bits_per_byte", "It comes out as if `log10` stood where `log` belongs.")
def log10(nats_per_token, bytes_per_token):
    return nats_per_token / math.log10(2) / bytes_per_token


@wrong("as_bits_per_byte", "This is a perplexity, exp of the nats: among how many")
def perplexity(nats_per_token, bytes_per_token):
    return math.exp(nats_per_token) / bytes_per_token


@wrong("as_bits_per_byte", "The result is 1 divided by what is asked for.")
def bytes_per_bit(nats_per_token, bytes_per_token):
    return bytes_per_token * math.log(2) / nats_per_token


@wrong("as_bits_per_byte", "The result is 1/8 times what it should be.")
def eight_bits_a_byte(nats_per_token, bytes_per_token):
    return nats_per_token / math.log(2) / (8 * bytes_per_token)


@wrong("as_bits_per_byte", "This is bits per token. Divide by the bytes of a token, or")
def bits_of_a_token(nats_per_token, bytes_per_token):
    return nats_per_token / math.log(2)


@wrong("as_bits_per_byte", "The bytes go the other way: a token of 3.5 bytes shares its")
def bits_times_bytes(nats_per_token, bytes_per_token):
    return nats_per_token / math.log(2) * bytes_per_token


@wrong("as_bits_per_byte", "These are still nats. A bit is ln 2 nats: divide by it.")
def log2_for_ln2(nats_per_token, bytes_per_token):
    return nats_per_token / math.log2(2) / bytes_per_token


@wrong("as_bits_per_byte", "Bits are what stands in the exponent, not 2 to that power:")
def powers_of_two(nats_per_token, bytes_per_token):
    return 2 ** (nats_per_token / bytes_per_token)


@unexplained("as_bits_per_byte")
def nats_minus_bytes(nats_per_token, bytes_per_token):
    return nats_per_token / math.log(2) - math.log2(bytes_per_token)


@right("as_bits_per_byte")
def by_log2_of_e(nats_per_token, bytes_per_token):
    return nats_per_token * math.log2(math.e) / bytes_per_token


@right("as_bits_per_byte")
def bits_by_numpy(nats_per_token, bytes_per_token):
    return np.float64(nats_per_token) / np.log(2) / bytes_per_token


@right("as_bits_per_byte")
def bits_in_a_tensor(nats_per_token, bytes_per_token):
    return torch.tensor(nats_per_token) / (bytes_per_token * torch.log(torch.tensor(2.0)))
