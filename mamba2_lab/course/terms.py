"""The words of the course: each in one sentence, under the chapter that introduces it."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from mamba2_lab.course.display import show_table


@dataclass(frozen=True)
class Term:
    """A word, what it means here, and the number of the chapter that introduces it."""

    name: str
    meaning: str
    chapter: int


MEANINGS: dict[int, dict[str, str]] = {
    0: {
        "language model": "A function that reads a text and says, after each token, how likely each next one is.",
        "token": "A piece of text that a model reads as one number: a byte, or a longer piece learned from data.",
        "tokenizer": "What turns a text into tokens, and tokens back into text.",
        "state": "What a model remembers: in each layer a block of numbers, (b,h,p,n), whose size never changes.",
        "head": "A part of a layer, with p channels, a decay and a state of its own.",
        "cache": "What a text leaves behind in a model: each layer's state, and its convolution's last inputs.",
        "prefill": "To read a whole prompt at once, and keep the cache that it leaves behind.",
        "surprise": "-log2 of the probability that a model gave to what came: 1 bit is a coin's toss, 0 a certainty.",
        "bits per byte": "The surprise of a text divided by its bytes; it compares models with different tokenizers.",
        "held out": "Said of data kept from training, to see how a model does on what it has never read.",
        "device": "What computes: the CPU, or a graphics processor, `cuda` on NVIDIA hardware and `mps` on Apple's.",
    },
    1: {
        "recurrence": "A rule that makes each state from the one before it and the newest input.",
        "decay": "The factor between 0 and 1 by which a state is multiplied at each token, before it is written to.",
        "log decay": "The natural logarithm of a decay: 0 keeps everything; the more negative, the more is lost.",
        "half-life": "The number of steps after which half of what was written is left.",
        "impulse response": "The output over time of a system whose input is 1 once, and 0 ever after.",
        "A": "The rate, negative, at which a state fades in continuous time: one number per head, (h,).",
        "dt": "The time that passes at a token, also written Δ; the log decay of that step is `dt * A`.",
        "discretise": "To turn a rate in continuous time into what happens in one step of length dt.",
        "zero-order hold": "The discretisation that is exact for an input that stays constant during each step.",
    },
    2: {
        "causal": "Said of an output that depends on no input later than itself.",
        "linear time-invariant": "Said of a system that is linear in its inputs and has the same rule at every token.",
        "kernel": "The weights of a convolution; for a linear time-invariant system, its impulse response.",
    },
    3: {
        "channel": "One of the p numbers that a token writes into a head; each has its own row of the state.",
        "softplus": "log(1 + exp(v)): near 0 for very negative v, near v for large ones, and never negative.",
        "group": "Heads that share one B and one C.",
        "selective": "Said of a memory whose decay, writing and reading depend on the token that comes in.",
        "B": "The vector of a token that says where in the state it is written: (b,l,g,n) for all tokens.",
        "C": "The vector of a token that says where in the state it reads: (b,l,g,n) for all tokens.",
        "scan": "The computation that carries a state along a sequence, with an output at every token.",
        "selective copying": "The task of repeating some tokens in order and leaving out those strewn between them.",
    },
    4: {
        "attention": "An output that is a weighted sum over earlier tokens, with a weight for each pair of tokens.",
        "decay mask": "The matrix L (l,l): what is left at target t of what was written at source s, and 0 for s > t.",
        "rank": "Of a matrix: how many outer products of two vectors it takes to make it as their sum.",
        "segsum": "The logarithm of the decay mask: log decays summed from each source to each target.",
        "semiseparable": "Said of a lower-triangular matrix whose blocks on or below its diagonal have rank n at most.",
        "duality": "That one and the same map is a recurrence over states and a masked attention over tokens.",
    },
    5: {
        "chunk": "A run of q tokens, inside which SSD computes attention.",
        "SSD": "State space duality: the algorithm with attention inside chunks and a recurrence between them.",
        "window": "The last inputs before a token, three as a rule, which the filter in front of the scan needs.",
    },
    6: {
        "mixer": "The part of a block in which tokens exchange information; around it stand a norm and a sum.",
        "padding": "Tokens without meaning that make the texts of a batch equally long; the state passes through them.",
        "causal convolution": "A weighted sum of each channel's last few values, with weights of the channel's own.",
        "gate": "A factor, made from the token itself, on each channel of what was read.",
        "RMSNorm": "To divide a vector by the root of its mean square, then scale each entry by a learned weight.",
        "skip connection": "The term `D * x` of the output: an input that arrives without passing through the state.",
    },
    7: {
        "embedding": "The table that gives each token of the vocabulary a vector, (d,).",
        "residual stream": "The vector (d,) that each token carries through the layers; every block adds to it.",
        "logits": "One number per token of the vocabulary, which softmax turns into probabilities.",
    },
    8: {
        "cross-entropy": "The mean of -log of the probability that a model gave to each token that came, in nats.",
        "learning rate": "The factor that sets how far one step of training moves the weights.",
        "mixed precision": "To multiply large matrices in 16 bits, and keep weights, states and sums in 32.",
        "gradient checkpointing": "To keep less of the forward pass and compute it again for the backward pass.",
    },
    9: {
        "greedy": "Said of writing that takes the likeliest token every time.",
        "temperature": "What logits are divided by before a token is drawn: below 1, likely tokens gain.",
        "top-k": "To draw from the k most likely tokens only.",
        "top-p": "To draw from the fewest most likely tokens that have probability p together.",
        "min-p": "To draw only from tokens that are at least a share as probable as the likeliest.",
        "repetition penalty": "What makes tokens less likely that the text holds already.",
        "beam search": "To keep several texts at once: at each step those continuations that are likeliest as a whole.",
        "KV cache": "What a transformer keeps of a text: a key and a value for each token in each layer.",
    },
    10: {
        "trace": "What a model did while it read a text: all that its layers made on the way, token by token.",
        "hidden attention": "The weights, of both signs, with which a head's output is a sum over the x of tokens.",
        "log odds": "log p - log q of two things that may come: 0 is an even chance, each unit multiplies p / q by e.",
        "bootstrap": "To draw as many samples again from those one has, many times, and see how a result moves.",
        "probe": "A weighted sum fitted to read something off a state, and scored on texts it was not fitted on.",
        "effective receptive field": "How much tokens at each distance back move what a model expects, on average.",
    },
    11: {
        "associative recall": "The task of answering a key with the value that came with it earlier.",
        "interference": "What a key reads of the values of other pairs, because its direction overlaps with theirs.",
        "needle": "A fact put somewhere into a long text and asked for at its end, to see whether it is still there.",
        "hybrid": "A model most of whose layers keep states, and a few of which attend.",
    },
    12: {
        "wall time": "The time that passes on a clock on the wall, whoever works or waits in it.",
        "synchronise": "To wait until a device has done what it was asked to do.",
        "launch overhead": "What an operation costs before it has touched a number: the time of the smallest one.",
        "crossover": "The size from which on one way to compute is faster than another.",
        "roofline": "The operations per second that arithmetic and memory allow, by the operations made of each byte.",
    },
    13: {
        "parity": "Whether the ones that have come so far are odd in number, or even.",
        "complex number": "A point a + bi of the plane; to multiply by one of length 1 is to turn about 0.",
        "rotary embedding": "To turn each query and key of attention by an angle that grows with its position.",
        "Euler's rule": "To take what is written at a step's end for all of the step; Mamba-2 does so.",
        "trapezoidal rule": "To take what is written in a step from both of its ends, half from each.",
        "order": "Of a rule for steps: the power of the step's length with which its error falls.",
        "heavy tail": "The function 1 + a above 0, 1 / (1 - a) below: positive, and never as flat as a softplus.",
        "SISO": "Single input, single output: a head writes one pair of x and B, and reads with one C.",
        "MIMO": "Multiple input, multiple output: a head writes R pairs into one state, and reads it R times.",
    },
    14: {
        "checkpoint": "The weights of a model in a file, with its configuration.",
        "safetensors": "A file of tensors: a header that names them and says where they lie, then numbers alone.",
        "pickle": "Python's own way to write objects into a file: a program, which is run when the file is read.",
    },
}
TERMS = tuple(Term(name, meaning, chapter) for chapter, words in MEANINGS.items() for name, meaning in words.items())


def glossary(*names: str) -> None:
    """Show what the given terms mean, in the order asked for; without names, every term of the course.

    Raises:
        ValueError: if a name is no term; it lists some that come close.
    """
    terms = [_find(name) for name in names] or TERMS
    show_table(("term", "meaning", "notebook"), [(term.name, term.meaning, f"{term.chapter:02d}") for term in terms])


def _find(name: str) -> Term:
    by_name = {term.name: term for term in TERMS}
    if name not in by_name:
        close = difflib.get_close_matches(name, by_name, n=3) or sorted(by_name)
        raise ValueError(f"names must be terms of the glossary, such as {', '.join(close)}; got {name!r}")
    return by_name[name]
