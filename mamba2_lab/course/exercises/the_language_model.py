"""Exercises of notebook 07."""
# mypy: allow-untyped-defs

import math

import torch
from torch import nn

from mamba2_lab.config import Mamba2Config
from mamba2_lab.course.declare import given, reference
from mamba2_lab.course.inputs import Draws
from mamba2_lab.layers import RMSNorm
from mamba2_lab.mamba2_lm import Mamba2LM


def _norm(weight):
    norm = RMSNorm(len(weight)).requires_grad_(False)
    norm.weight.copy_(torch.tensor(weight))
    return norm


def _linear(rows):
    layer = nn.Linear(len(rows[0]), len(rows), bias=False).requires_grad_(False)
    layer.weight.copy_(torch.tensor(rows))
    return layer


def _normalised(u, norm):
    """RMSNorm written out, in float64."""
    u = u.double()
    return u / (u.square().sum(-1, keepdim=True) / u.shape[-1] + norm.eps).sqrt() * norm.weight.double()


# One block


@reference(
    stars=1,
    hints=(
        "The block has two ways through it: a straight one, on which nothing happens, and one through norm and mixer. "
        "Where they meet, they are added.",
        "Only the way through the mixer is normalised; what travels straight on keeps its size.",
    ),
)
def residual_block(u, norm, mixer):
    """u (b,l,d), the stream in float32 -> (b,l,d): the stream after a block, whatever the dtype of its weights."""
    return u + mixer(norm(u))


@residual_block.cases
def streams_of_different_sizes_and_a_block_in_half_precision():
    norm, mixer = _norm([1.0, 2.0, 0.5]), _linear([[0.5, 1.0, 0.0], [0.0, -1.0, 2.0], [1.0, 0.0, 1.0]])
    u = torch.tensor([[[3.0, 0.0, -4.0], [0.1, 0.2, 0.1]]])
    half_norm, half_mixer = _norm([1.0, 1.0]).bfloat16(), _linear([[0.5, 1.0], [0.25, 2.0]]).bfloat16()
    return [given(u, norm, mixer), given(torch.tensor([[[257.0, -257.0], [1.0, 1.0]]]), half_norm, half_mixer)]


@residual_block.oracle
def both_ways_written_out(u, norm, mixer):
    return u.double() + torch.einsum("bli,oi->blo", _normalised(u, norm), mixer.weight.double())


residual_block.slip(
    "The stream is lost: the block must add to what came in, not take its place. Without the straight way a token's "
    "own vector has to squeeze through every mixer.",
    replaces_the_stream={"u + mixer": "mixer"},
)

residual_block.slip(
    "The mixer must read a normalised copy of the stream. The stream grows with depth, and a mixer that reads it raw "
    "gets larger inputs the deeper it stands.",
    forgets_the_norm={"norm(u)": "u"},
)

residual_block.slip(
    "Here the norm takes the straight way too. Nothing may happen to the stream itself: add to `u`, not to `norm(u)`.",
    adds_to_the_normalised_stream={"u + mixer": "norm(u) + mixer"},
)

residual_block.slip(
    "This normalises after the sum, as the first transformers did. Mamba-2 normalises what the mixer reads, and leaves "
    "the sum alone.",
    normalises_the_sum={"u + mixer(norm(u))": "norm(u + mixer(u))"},
)

residual_block.slip(
    "The norm stands behind the mixer. It belongs in front: the mixer reads a stream of a known size, and what it "
    "gives is added as it is.",
    normalises_what_the_mixer_gives={
        "mixer(norm(u))": "norm(mixer(u))",
    },
)


residual_block.slip(
    "The mixer got the stream and its normalised copy in a sum. The way past the mixer goes past it: what the mixer "
    "gives is added to `u`.",
    gives_the_mixer_the_sum={"u + mixer(norm(u))": "mixer(u + norm(u))"},
)


@residual_block.wrong(
    "The stream was rounded to the dtype of the weights. It must stay in float32: bfloat16 has 8 bits, and small "
    "contributions to a large sum would be rounded away."
)
def rounds_the_stream(u, norm, mixer):
    y = mixer(norm(u))
    return u.to(y.dtype) + y


@residual_block.wrong(
    "The stream was rounded to the dtype of the weights on the way: `.float()` at the end does not bring the digits "
    "back. Add in float32."
)
def rounds_the_stream_on_the_way(u, norm, mixer):
    y = mixer(norm(u))
    return (u.to(y.dtype) + y).float()


# The head


@reference(
    stars=2,
    hints=(
        "What does the last block hand over, and in what size? The head reads it as a block would.",
        "A logit is the product of the normalised vector with one row of the table. All of them at once: a matrix "
        "product with the transposed table.",
        "The first `vocab_size` rows belong to tokens. Cut the table, or the last axis of the result.",
    ),
)
def next_token_logits(u, norm, table, vocab_size):
    """u (...,d), norm, table (rows,d) -> (...,vocab_size): one logit for each token, none for the padding rows."""
    return norm(u) @ table[:vocab_size].T


@next_token_logits.cases
def two_tokens_and_streams_of_three_layers():
    table = Draws(7).normal(8, 4)
    u = 3 * Draws(8).normal(3, 1, 5, 4)
    norm = _norm([1.0, 2.0, 0.5, 1.5])
    return [given(u[0, :, :2], norm, table, 5), given(u, norm, table, 6)]


@next_token_logits.oracle
def one_product_for_each_token(u, norm, table, vocab_size):
    n = _normalised(u, norm)
    return torch.stack([(n * table[token].double()).sum(-1) for token in range(vocab_size)], dim=-1)


next_token_logits.slip(
    "The final norm is missing. The stream has grown with every block, and so would the logits: the model would be far "
    "too sure of itself.",
    forgets_the_final_norm={"norm(u)": "u"},
)

next_token_logits.slip(
    "The rows of the table beyond `vocab_size` are padding and belong to no token. Their logits must be cut off, or "
    "they will be sampled one day.",
    keeps_the_padding={"table[:vocab_size]": "table"},
)

next_token_logits.slip(
    "The wrong end was cut: the padding rows are the last ones of the table, and token 0 is its first row.",
    cuts_the_first_rows={"[:vocab_size]": "[-vocab_size:]"},
)

next_token_logits.slip(
    "These are probabilities already. Return the logits: softmax, temperature and the loss are for those who use them.",
    returns_probabilities={"norm(u) @ table[:vocab_size].T": "(norm(u) @ table[:vocab_size].T).softmax(dim=-1)"},
)

next_token_logits.slip(
    "The norm is taken of the table. It belongs to the stream, before the table reads it.",
    norms_the_table={"norm(u) @ table[:vocab_size].T": "u @ norm(table)[:vocab_size].T"},
)


# Tokens


@reference(
    stars=2,
    hints=(
        "Go through `ids` from left to right and build a new list. When do you know that a pair is complete?",
        "Begin the new list with the first id. Then look at its last entry and at the id that comes: if the two are "
        "the pair, the last entry becomes `new_id`; if not, the id is appended.",
    ),
)
def merge_pair(ids, pair, new_id):
    """A list of token ids -> a new list in which each `pair` of neighbours is one `new_id`, taken from the left."""
    merged = ids[:1]
    for i in ids[1:]:
        if (merged[-1], i) == pair:
            merged[-1] = new_id
        else:
            merged.append(i)
    return merged


@merge_pair.cases
def pairs_apart_a_run_and_nothing_to_do():
    return [
        given([5, 1, 2, 3, 1, 2], (1, 2), 9),
        given([1, 2, 1, 2, 2], (1, 2), 7),
        given([4, 4, 4, 4, 4], (4, 4), 9),
        given([2, 1, 3], (1, 2), 9),
        given([], (1, 2), 9),
    ]


@merge_pair.oracle
def replaced_as_text(ids, pair, new_id):
    text = "".join(map(chr, ids)).replace("".join(map(chr, pair)), chr(new_id))
    return [ord(letter) for letter in text]


@merge_pair.wrong(
    "A token was used twice: in a run such as 4 4 4 the first two become one token, and the third has no partner left."
)
def lets_pairs_overlap(ids, pair, new_id):
    merged, i = [], 0
    while i < len(ids):
        if tuple(ids[i : i + 2]) == pair:
            merged.append(new_id)
            i += 1 if tuple(ids[i + 1 : i + 3]) == pair else 2
        else:
            merged.append(ids[i])
            i += 1
    return merged


@merge_pair.wrong("The two were merged in the wrong order as well: 2 1 is another pair than 1 2.")
def merges_in_either_order(ids, pair, new_id):
    merged, i = [], 0
    while i < len(ids):
        if tuple(ids[i : i + 2]) in (pair, pair[::-1]):
            merged.append(new_id)
            i += 2
        else:
            merged.append(ids[i])
            i += 1
    return merged


@merge_pair.wrong("Only the first pair was merged. One merge replaces the pair wherever it stands.")
def merges_once(ids, pair, new_id):
    for i in range(len(ids) - 1):
        if (ids[i], ids[i + 1]) == pair:
            return ids[:i] + [new_id] + ids[i + 2 :]
    return list(ids)


@merge_pair.wrong("The second token of the pair is still there: the new token stands for both of them.")
def keeps_the_second_token(ids, pair, new_id):
    return [new_id if tuple(ids[i : i + 2]) == pair else ids[i] for i in range(len(ids))]


@merge_pair.wrong("The last token got lost. It has no neighbour to its right, and must be kept all the same.")
def loses_the_last_token(ids, pair, new_id):
    merged, i = [], 0
    while i < len(ids) - 1:
        if (ids[i], ids[i + 1]) == pair:
            merged.append(new_id)
            i += 2
        else:
            merged.append(ids[i])
            i += 1
    return merged


@reference(
    stars=1,
    hints=(
        "Two units change, one after the other: nats become bits, and a token becomes some bytes.",
        "A bit is ln 2 = 0.693 nats, so there are more bits than nats. And the surprise of a token is shared out among "
        "its bytes.",
    ),
)
def as_bits_per_byte(nats_per_token, bytes_per_token):
    """The mean surprise of a token in nats, and the mean number of bytes of a token -> bits per byte."""
    return nats_per_token / math.log(2) / bytes_per_token


@as_bits_per_byte.cases
def a_byte_model_a_piece_model_and_a_coin():
    return [given(0.7, 1.0), given(2.1, 3.5), given(math.log(2), 1.0)]


@as_bits_per_byte.oracle
def bits_of_the_probability(nats_per_token, bytes_per_token):
    return -math.log2(math.exp(-nats_per_token)) / bytes_per_token


as_bits_per_byte.slip(
    "This is a perplexity, exp of the nats: among how many equally likely tokens one would choose. Bits are a "
    "logarithm, as nats are: divide by ln 2.",
    gives_a_perplexity={"nats_per_token / math.log(2)": "math.exp(nats_per_token)"},
)

as_bits_per_byte.slip(
    "These are still nats. A bit is ln 2 nats: divide by it.",
    leaves_nats={" / math.log(2)": ""},
)

as_bits_per_byte.slip(
    "From nats to bits the number grows: log2(x) = ln(x) / ln(2), so divide by ln 2. Here it was multiplied.",
    multiplies_by_ln_2={"/ math.log(2)": "* math.log(2)"},
)

as_bits_per_byte.slip(
    "The bytes go the other way: a token of 3.5 bytes shares its surprise out among them, so each byte gets less.",
    multiplies_by_the_bytes={"/ bytes_per_token": "* bytes_per_token"},
)

as_bits_per_byte.slip(
    "This is bits per token. Divide by the bytes of a token, or models with long tokens look worse.",
    gives_bits_per_token={" / bytes_per_token": ""},
)

as_bits_per_byte.slip(
    "Bits are what stands in the exponent, not 2 to that power: leave out the last step. And nats are not bits yet: "
    "divide by ln 2.",
    raises_2_to_it={"nats_per_token / math.log(2) / bytes_per_token": "2 ** (nats_per_token / bytes_per_token)"},
)


@merge_pair.wrong("After a pair one id too many is skipped. A pair is two: go on with the one behind it.")
def skips_the_next(ids, pair, new_id):
    merged, i = [], 0
    while i < len(ids):
        found = tuple(ids[i : i + 2]) == pair
        merged.append(new_id if found else ids[i])
        i += 3 if found else 1
    return merged


@merge_pair.wrong("The first of the pair stays in front of the new id. Both make room for it.")
def leaves_the_first_in_front(ids, pair, new_id):
    merged = ids[:1]
    for before, i in zip(ids, ids[1:], strict=False):
        merged.append(new_id if (before, i) == pair else i)
    return merged


@merge_pair.wrong("A pair at the very end is overlooked. The last place where one can begin is the last but one.")
def overlooks_the_end(ids, pair, new_id):
    merged, i = [], 0
    while i < len(ids):
        found = i < len(ids) - 2 and tuple(ids[i : i + 2]) == pair
        merged.append(new_id if found else ids[i])
        i += 2 if found else 1
    return merged


@merge_pair.wrong("Both of a pair became the new id. It stands for the two together: once.")
def writes_it_twice(ids, pair, new_id):
    merged = list(ids)
    for i in range(len(ids) - 1):
        if (ids[i], ids[i + 1]) == pair:
            merged[i] = merged[i + 1] = new_id
    return merged


merge_pair.slip(
    "A pair becomes its own first token. It should become `new_id`.",
    writes_the_first_token={"merged[-1] = new_id": "pass"},
)

merge_pair.slip(
    "A pair is taken out and nothing put in its place. One `new_id` stands for both.",
    drops_the_pair={
        "merged[-1] = new_id": "merged.pop()",
        "(merged[-1], i) == pair": "(merged[-1:] + [i]) == list(pair)",
    },
)


# Weights


@reference(
    stars=3,
    hints=(
        "Go from the outside in: the table, the final norm, and `n_layer` times one block. A block has a norm of its "
        "own (d) and the mixer.",
        "in_proj makes the gate (d_inner), what the convolution sees (`config.conv_dim`: x, B and C) and one dt for "
        "each head, from d numbers. The convolution has d_conv weights and a bias for each of its channels.",
        "What is left of the mixer: dt_bias, A_log and D for each head, the gated norm (d_inner), and out_proj. The "
        "table has `config.padded_vocab_size` rows, and the head is the table.",
    ),
)
def count_parameters(config):
    """A Mamba2Config with its defaults (no bias but the convolution's, tied head) -> the number of weights, an int."""
    d, inner, heads = config.d_model, config.d_inner, config.nheads
    in_proj = d * (inner + config.conv_dim + heads)  # z, xBC, dt
    conv = config.conv_dim * (config.d_conv + 1)  # with its bias
    mixer = in_proj + conv + 3 * heads + inner + inner * d  # dt_bias, A_log, D; the gated norm; out_proj
    return config.padded_vocab_size * d + config.n_layer * (d + mixer) + d


@count_parameters.cases
def the_model_in_the_box_an_official_one_and_one_with_groups():
    groups = {"d_model": 32, "n_layer": 3, "vocab_size": 100, "headdim": 16, "ngroups": 2, "d_state": 8, "d_conv": 3}
    return [
        given(Mamba2Config.preset("small")),
        given(Mamba2Config.preset("130m")),
        given(Mamba2Config.from_dict({**groups, "expand": 3})),
    ]


@count_parameters.oracle
def weights_of_a_model_without_storage(config):
    return sum(weight.numel() for weight in Mamba2LM(config, device="meta").parameters())


count_parameters.slip(
    "The table was counted twice. The head is tied to it: the same weights, used a second time.",
    counts_the_head_too={"config.padded_vocab_size": "2 * config.padded_vocab_size"},
)

count_parameters.slip(
    "The table has more rows than there are tokens: `vocab_size` is rounded up, see `config.padded_vocab_size`.",
    forgets_the_padding={"config.padded_vocab_size": "config.vocab_size"},
)

count_parameters.slip(
    "The convolution has a bias: d_conv weights for each of its channels, and one number more.",
    forgets_the_bias_of_the_convolution={"(config.d_conv + 1)": "config.d_conv"},
)

count_parameters.slip(
    "in_proj makes the gate z as well: d_inner columns of its own, beside what goes through the convolution, and dt.",
    forgets_the_gate={"inner + config.conv_dim + heads": "config.conv_dim + heads"},
)

count_parameters.slip(
    "Each group of heads has a B and a C of its own, d_state numbers each: what the convolution sees is "
    "d_inner + 2 ngroups d_state wide, see `config.conv_dim`.",
    gives_all_groups_one_b_and_c={
        "inner + config.conv_dim + heads": "inner + (inner + 2 * config.d_state) + heads",
        "config.conv_dim * (": "(inner + 2 * config.d_state) * (",
    },
)

count_parameters.slip(
    "The norms are missing: one of d weights in front of each mixer, and one more at the end.",
    forgets_the_norms={"(d + mixer) + d": "mixer"},
)

count_parameters.slip(
    "The last norm is missing: before the head the stream is normalised once more, with d_model weights.",
    forgets_the_last_norm={
        "(d + mixer) + d": "(d + mixer)",
    },
)

count_parameters.slip(
    "D is counted for each channel. It has one number for each head, as dt_bias and A_log have.",
    has_a_skip_for_each_channel={"3 * heads": "2 * heads + inner"},
)

count_parameters.slip(
    "It gives the projections a bias. They have none here; only the convolution has.",
    gives_projections_a_bias={
        "inner * d  # dt_bias, A_log, D; the gated norm; out_proj": "inner * d + (inner + config.conv_dim + heads) + d"
    },
)


# How weights begin


@reference(
    stars=1,
    hints=(
        "n vectors of the same size that point in unrelated directions: how long is their sum? Think of a walk of n "
        "steps, each in a direction of its own.",
        "Their squares add up, so the sum is sqrt(n) times as long as one of them. What must each be divided by?",
    ),
)
def scale_for_depth(weight, n_layer):
    """The weight of an out_proj -> a new tensor: scaled so that n_layer blocks together add what one added before."""
    return weight / math.sqrt(n_layer)


@scale_for_depth.cases
def four_blocks_and_sixty_four():
    weight = torch.tensor([[1.0, -2.0], [0.5, 4.0]])
    return [given(weight, 4), given(-weight, 64)]


@scale_for_depth.oracle
def power_of_the_depth(weight, n_layer):
    return weight.double() * n_layer**-0.5


scale_for_depth.slip(
    "Divided by n, the sum of n blocks shrinks as the model gets deeper. Their outputs point in unrelated directions: "
    "n of them add up to sqrt(n) times one, not n times.",
    divides_by_the_depth={"math.sqrt(n_layer)": "n_layer"},
)

scale_for_depth.slip(
    "This makes the sum grow even faster: divide by sqrt(n_layer), do not multiply.",
    multiplies={"weight /": "weight *"},
)

scale_for_depth.slip(
    "A layer of a transformer adds twice to the stream, after attention and after its MLP: hence sqrt(2 n) there. A "
    "Mamba-2 block adds once.",
    counts_two_sums_a_layer={"(n_layer)": "(2 * n_layer)"},
)
