"""Answers to `stack_bytes`."""

import torch
from support.learners.collect import right, unexplained, wrong


@wrong("stack_bytes", "Its states grow with the text")
def all_of_it_grows(l, mixers, state_bytes, token_bytes):
    return l * sum({"mamba2": state_bytes, "attention": token_bytes}[name] for name in mixers)


@wrong("stack_bytes", "It comes out as if `mixers.count('mamba2') * state_bytes` were left out.")
def tokens_alone(l, mixers, state_bytes, token_bytes):
    return l * token_bytes * sum(name == "attention" for name in mixers)


@wrong("stack_bytes", "It counts each kind once")
def one_of_each(l, mixers, state_bytes, token_bytes):
    return sum({"mamba2": state_bytes, "attention": l * token_bytes}[name] for name in set(mixers))


@wrong("stack_bytes", "It comes out as if `'mamba2'` and `'attention'` were")
def the_two_exchanged(l, mixers, state_bytes, token_bytes):
    return mixers.count("attention") * state_bytes + l * mixers.count("mamba2") * token_bytes


@wrong("stack_bytes", "Its attention keeps one token. It keeps a key and a value for")
def of_one_token(l, mixers, state_bytes, token_bytes):
    return mixers.count("mamba2") * state_bytes + mixers.count("attention") * token_bytes


@wrong("stack_bytes", "Every layer keeps both. A Mamba layer keeps a state, an")
def both_in_every_layer(l, mixers, state_bytes, token_bytes):
    return len(mixers) * (state_bytes + l * token_bytes)


@wrong("stack_bytes", "It comes out as if it were `l * token_bytes` in every case.")
def only_attention_layers(l, mixers, state_bytes, token_bytes):
    return l * len(mixers) * token_bytes


@wrong("stack_bytes", "It comes out as if `mixers.count('mamba2')` were left out.")
def one_state_for_all(l, mixers, state_bytes, token_bytes):
    return state_bytes + l * mixers.count("attention") * token_bytes


@wrong("stack_bytes", "It comes out as if `l * mixers.count('attention') *")
def keys_and_values_twice(l, mixers, state_bytes, token_bytes):
    return mixers.count("mamba2") * state_bytes + 2 * l * mixers.count("attention") * token_bytes


@wrong("stack_bytes", "It comes out as if `l` were larger by 1.")
def a_token_more(l, mixers, state_bytes, token_bytes):
    return mixers.count("mamba2") * state_bytes + (l + 1) * mixers.count("attention") * token_bytes


@wrong("stack_bytes", "Every layer keeps a state here. An attention layer has none: it")
def each_has_a_state(l, mixers, state_bytes, token_bytes):
    return len(mixers) * state_bytes + mixers.count("attention") * l * token_bytes


@wrong("stack_bytes", "Attention looks at l times l pairs, but does not keep them. It")
def pairs_of_tokens(l, mixers, state_bytes, token_bytes):
    return sum(state_bytes if m == "mamba2" else l * l * token_bytes for m in mixers)


@unexplained("stack_bytes")
def the_mean_layer(l, mixers, state_bytes, token_bytes):
    return sum(state_bytes if m == "mamba2" else l * token_bytes for m in mixers) / len(mixers)


@right("stack_bytes")
def layer_for_layer(l, mixers, state_bytes, token_bytes):
    return sum(state_bytes if name == "mamba2" else l * token_bytes for name in mixers)


@right("stack_bytes")
def by_a_table(l, mixers, state_bytes, token_bytes):
    kept = {"mamba2": state_bytes, "attention": l * token_bytes}
    return torch.tensor([kept[name] for name in mixers]).sum()


@right("stack_bytes")
def by_counting_one_kind(l, mixers, state_bytes, token_bytes):
    attending = sum(1 for name in mixers if name == "attention")
    return float(attending * l * token_bytes + (len(mixers) - attending) * state_bytes)
