"""Exercises of notebook 11."""
# mypy: allow-untyped-defs

import math

import torch

from mamba2_lab.course.declare import given, reference
from mamba2_lab.course.inputs import Draws

# What a state gives back


@reference(
    stars=1,
    hints=(
        "Every pair adds an outer product, value times key, to the same table (p,n). One matrix product adds up all of "
        "them.",
        "The table is `values.mT @ keys`. A key reads it by a product, as C does; all keys at once, by one more.",
    ),
)
def read_back(keys, values):
    """keys (m,n), values (m,p), all written into one state that never fades -> (m,p): what each key then reads."""
    state = values.mT @ keys
    return keys @ state.mT


@read_back.cases
def keys_that_meet_and_keys_that_do_not():
    draw = Draws(110).normal
    crossed = torch.tensor([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    return [
        given(torch.tensor([[1.0, 0.0], [0.6, 0.8], [2.0, 1.0]]), torch.tensor([[1.0, 2.0], [3.0, -1.0], [0.0, 4.0]])),
        given(draw(5, 4), draw(5, 3)),
        given(crossed, torch.tensor([[1.0, 2.0], [3.0, -1.0]])),
    ]


@read_back.oracle
def pair_by_pair(keys, values):
    read = []
    for asked in keys.double():
        total = torch.zeros_like(values[0], dtype=torch.float64)
        for key, value in zip(keys.double(), values.double(), strict=True):
            total = total + math.fsum((asked * key).tolist()) * value
        read.append(total)
    return torch.stack(read)


read_back.slip(
    "It gives back what was written, as if each pair had a state of its own. In one state a key reads a part of every "
    "value whose key it overlaps with.",
    gives_back_the_values={"keys @ state.mT": "values.clone()"},
)

read_back.slip(
    "Each key reads when only the pairs up to its own are written. Here all are written first, and then all are read.",
    reads_too_early={"keys @ state.mT": "(keys @ keys.mT).tril() @ values"},
)

read_back.slip(
    "A softmax makes the overlaps shares that add up to 1. A state has no softmax: what a key reads is the plain sum.",
    takes_a_softmax={"keys @ state.mT": "(keys @ keys.mT).softmax(dim=-1) @ values"},
)

read_back.slip(
    "It divides by the number of pairs. Writing adds, and takes no mean: a value is not smaller for being one of many.",
    takes_the_mean={"values.mT @ keys": "values.mT @ keys / len(keys)"},
)

read_back.slip(
    "It makes the keys unit vectors before they read. They read as they are, by a plain product.",
    reads_with_unit_vectors={"keys @ state.mT": "keys / keys.norm(dim=1, keepdim=True) @ state.mT"},
)

read_back.slip(
    "What a key reads of its own value is left out. The state holds all pairs, its own among them.",
    leaves_its_own_out={"keys @ state.mT": "(keys @ keys.mT).fill_diagonal_(0) @ values"},
)

read_back.slip(
    "The state holds the last pair alone: each one was written over the one before. Writing adds to what is there.",
    keeps_the_last_pair={"values.mT @ keys": "values[-1:].mT @ keys[-1:]"},
)


# How much pairs disturb each other


@reference(
    stars=2,
    hints=(
        "With a key of length 1 a pair reads its own value in full. What is wrong is the sum over the other pairs: "
        "overlap times value.",
        "Random directions: the parts of that sum point anywhere, so the squares of their lengths add up. The squares "
        "of a unit vector's n entries add up to 1; what is one of them on average?",
    ),
)
def expected_error(m, n):
    """m pairs; keys (n numbers), values: random directions of length 1 -> mean of |what is read - value| squared."""
    return (m - 1) / n


@expected_error.cases
def few_pairs_and_many():
    return [given(9, 4), given(2, 16), given(100, 64), given(1, 8), given(5, 5)]


@expected_error.oracle
def by_the_mean_over_all_angles(m, n):
    """The mean of cos² over a sphere, by its integrals of sine powers."""

    def power(k):  # the integral of sin^k from 0 to pi
        return math.sqrt(math.pi) * math.exp(math.lgamma((k + 1) / 2) - math.lgamma(k / 2 + 1))

    cosine_squared = 1 - power(n) / power(n - 2)
    return float(math.fsum([cosine_squared] * (m - 1)))


expected_error.slip(
    "It counts the pair itself among those that disturb it. Its own value is to be read: m - 1 others are left.",
    counts_itself={"m - 1": "m"},
)

expected_error.slip(
    "This is a length. Asked for is the mean of its square.",
    gives_a_length={"(m - 1) / n": "math.sqrt((m - 1) / n)"},
)

expected_error.slip(
    "1 / √n is the usual size of an overlap. What adds up are squares, so each of the others brings 1 / n.",
    adds_sizes={"(m - 1) / n": "(m - 1) / math.sqrt(n)"},
)

expected_error.slip(
    "It adds up as if all errors pointed the same way. Values are random directions, so squares add up: m - 1 times "
    "1 / n, not (m - 1) squared.",
    adds_up_in_line={"(m - 1) / n": "(m - 1) ** 2 / n"},
)

expected_error.slip(
    "It says that up to n pairs nothing is disturbed. That is so if keys stand at right angles. Random ones do not: "
    "even two of them disturb each other a little.",
    takes_right_angles={"(m - 1) / n": "max(m - n, 0) / n"},
)

expected_error.slip(
    "It is upside down: more pairs disturb more, more columns less.",
    turns_it_upside_down={"(m - 1) / n": "n / max(m - 1, 1)"},
)


# The best that a reading can do


@reference(
    stars=3,
    hints=(
        "Take query i as a weighted sum of all keys. Then m weights have to fulfil m equations: product 1 with key i, "
        "product 0 with each other one.",
        "With weights W (m,m) the queries are W @ keys, and what they find of the keys is W @ (keys @ keys.mT). That "
        "shall be the identity.",
        "So W is the inverse of the table of all overlaps of keys.",
    ),
    atol=1e-4,
)
def exact_queries(keys):
    """keys (m,n), m <= n, none of them a sum of others -> queries (m,n): query i reads value i, exactly and alone."""
    overlaps = keys @ keys.mT
    return torch.linalg.inv(overlaps) @ keys


@exact_queries.cases
def keys_that_lean_on_each_other():
    return [
        given(torch.tensor([[1.0, 0.0], [0.6, 0.8]])),
        given(torch.tensor([[2.0, 0.0, 0.0], [0.5, 1.0, 0.0]])),
        given(Draws(111).normal(4, 6)),
        given(torch.eye(3) + 0.2 * Draws(112).normal(3, 3)),
    ]


@exact_queries.observe
def what_each_query_finds_of_each_key(answer, keys):
    return answer(keys) @ keys.mT


@exact_queries.oracle
def itself_and_nothing_else(keys):
    return torch.eye(len(keys))


exact_queries.slip(
    "It reads with the keys themselves. That is exact only if they have length 1 and stand at right angles.",
    reads_with_the_keys={"torch.linalg.inv(overlaps) @ keys": "keys"},
)

exact_queries.slip(
    "Each query finds its own key rightly, and something of the others as well: their overlaps have to be taken out.",
    mends_the_length_only={"torch.linalg.inv(overlaps)": "torch.diag(1 / overlaps.diagonal())"},
)


@exact_queries.wrong(
    "Each query is clear of the keys before its own, not of those after it. Going through them one by one mends one "
    "side only; all equations have to hold at once."
)
def clears_earlier_keys_only(keys):
    rows = keys.clone()
    for i in range(len(keys)):
        for earlier in rows[:i]:
            rows[i] -= (rows[i] @ earlier) / (earlier @ earlier) * earlier
    return rows / (rows * keys).sum(dim=1, keepdim=True)


exact_queries.slip(
    "The overlaps are multiplied where they have to be undone: take their inverse.",
    forgets_the_inverse={"torch.linalg.inv(overlaps)": "overlaps"},
)

exact_queries.slip(
    "It inverts the table entry by entry. The inverse of a matrix is the one whose product with it is the identity.",
    inverts_entry_by_entry={"torch.linalg.inv(overlaps)": "torch.where(overlaps == 0, 0.0, 1 / overlaps)"},
)

exact_queries.slip(
    "No query finds another's key any more, but of its own it does not find 1. Leave the lengths as the inverse makes "
    "them.",
    makes_unit_vectors={
        "torch.linalg.inv(overlaps) @ keys": "torch.nn.functional.normalize(torch.linalg.inv(overlaps) @ keys, dim=1)"
    },
)


# A reader with all pairs before it


@reference(
    stars=2,
    hints=(
        "A weight for each pair of query and key: their product, times the sharpness, through a softmax. Over which of "
        "the two must the weights add up to 1?",
        "`queries @ keys.mT` is (r,m): a row for each query. Its softmax goes along the row, over all keys; then weigh "
        "the values.",
    ),
)
def attend(queries, keys, values, sharpness):
    """queries (r,n), keys (m,n), values (m,p) -> (r,p): means of values; weights: softmax of sharpness * overlap."""
    weights = (sharpness * queries @ keys.mT).softmax(dim=-1)
    return weights @ values


@attend.cases
def blunt_and_sharp():
    draw = Draws(113).normal
    keys, values = draw(5, 3), draw(5, 2)
    return [
        given(torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[1.0], [3.0]]), 2.0),
        given(draw(4, 3), keys, values, 1.5),
        given(2 * keys, keys, values, 0.5),
    ]


@attend.oracle
def share_by_share(queries, keys, values, sharpness):
    rows = []
    for query in queries.double().tolist():
        grown = [
            math.exp(sharpness * math.fsum(a * b for a, b in zip(query, key, strict=True)))
            for key in keys.double().tolist()
        ]
        shares = [each / math.fsum(grown) for each in grown]
        rows.append([math.fsum(s * v for s, v in zip(shares, column, strict=True)) for column in values.mT.tolist()])
    return rows


attend.slip(
    "The weights are the overlaps themselves: so reads a state. Attention sends them through a softmax first.",
    leaves_the_softmax_out={".softmax(dim=-1)": ""},
)

attend.slip(
    "Its weights add up to 1 over the queries. Each query takes a mean: its weights over all keys must add up to 1.",
    shares_out_queries={"dim=-1": "dim=0"},
)

attend.slip(
    "The sharpness comes after the softmax, so it only makes the result longer. It has to be inside, where it widens "
    "the gap between a good match and a poor one.",
    sharpens_too_late={
        "sharpness * queries @ keys.mT": "queries @ keys.mT",
        "weights @ values": "sharpness * weights @ values",
    },
)

attend.slip(
    "The weights are exponentials that do not add up to 1 yet: a query with many keys would read too much.",
    forgets_to_share={".softmax(dim=-1)": ".exp()"},
)

attend.slip(
    "It takes the best match and nothing else. That is what a softmax comes to if the sharpness grows without end.",
    takes_the_best_only={
        "weights @ values": "values[weights.argmax(dim=-1)]",
    },
)

attend.slip(
    "Queries and keys are made unit vectors first. Their overlap is the plain product: a longer key weighs more.",
    compares_directions={
        "queries @ keys.mT": "torch.nn.functional.normalize(queries) @ torch.nn.functional.normalize(keys).mT"
    },
)

attend.slip(
    "A query sees only the pairs up to its own number. Here all pairs are there before anybody asks, so nothing is "
    "masked.",
    masks_the_future={"keys.mT)": "keys.mT).masked_fill(torch.ones(len(queries), len(keys)).triu(1) > 0, -torch.inf)"},
)


# Bits where they fall


@reference(
    stars=1,
    hints=(
        "Stretch i is from `edges[i]` up to, and without, `edges[i + 1]`. Add up its nats over all files.",
        "Divide by the bytes of the same stretch, added up over all files, and turn nats into bits with ln 2.",
    ),
)
def bits_by_position(nats, sizes, edges):
    """nats (f,l), sizes (f,l): bytes of each token; edges, k+1 positions -> (k,): bits per byte of each stretch."""
    stretches = [slice(start, stop) for start, stop in zip(edges[:-1], edges[1:], strict=True)]
    sums = [nats[:, part].sum() / sizes[:, part].sum() for part in stretches]
    return torch.stack(sums) / math.log(2)


@bits_by_position.cases
def files_whose_tokens_differ_in_size():
    draw = Draws(114)
    sizes = torch.tensor([[1, 5, 2, 1, 1, 9, 2, 3], [2, 2, 1, 7, 3, 1, 1, 1], [4, 1, 1, 1, 2, 2, 8, 6]])
    return [
        given(5 * draw.uniform(3, 8), sizes, [0, 2, 3, 8]),
        given(5 * draw.uniform(1, 8), sizes[:1], [1, 4, 7]),
        given(torch.tensor([[1.0, 4.0], [3.0, 2.0]]), torch.tensor([[1, 8], [2, 1]]), [0, 1, 2]),
    ]


@bits_by_position.oracle
def token_by_token(nats, sizes, edges):
    found = []
    for start, stop in zip(edges[:-1], edges[1:], strict=True):
        bits = size = 0.0
        for cost_row, size_row in zip(nats.double().tolist(), sizes.tolist(), strict=True):
            for position in range(start, stop):
                bits += cost_row[position] * math.log2(math.e)
                size += size_row[position]
        found.append(bits / size)
    return found


bits_by_position.slip(
    "These are nats per byte. A bit is ln 2 nats: divide by it.",
    forgets_ln_2={" / math.log(2)": ""},
)

bits_by_position.slip(
    "It divides by the number of tokens. A token may be one byte or nine, and models with other tokens could not be "
    "compared.",
    divides_by_tokens={"nats[:, part].sum() / sizes[:, part].sum()": "nats[:, part].mean()"},
)

bits_by_position.slip(
    "It averages the bits per byte of single tokens, so a token of one byte says as much as one of nine. Add up both "
    "first, then divide.",
    averages_tokens={"nats[:, part].sum() / sizes[:, part].sum()": "(nats[:, part] / sizes[:, part]).mean()"},
)

bits_by_position.slip(
    "It averages the files' own bits per byte. Add up nats and bytes over all files first, then divide.",
    averages_files={
        "nats[:, part].sum() / sizes[:, part].sum()": "(nats[:, part].sum(dim=1) / sizes[:, part].sum(dim=1)).mean()"
    },
)

bits_by_position.slip(
    "Every stretch begins at the beginning, so what comes late is hidden by all that came before it. Begin at "
    "`edges[i]`.",
    begins_at_the_beginning={"slice(start, stop)": "slice(edges[0], stop)"},
)

bits_by_position.slip(
    "A stretch takes the token at its end as well, so neighbours share one. It ends before `edges[i + 1]`.",
    takes_the_end_with_it={"slice(start, stop)": "slice(start, stop + 1)"},
)


# What the cure costs


@reference(
    stars=1,
    hints=(
        "Each Mamba layer keeps the same, whatever the length. Each attention layer keeps something for every token.",
        "Count both kinds with `mixers.count`.",
    ),
)
def stack_bytes(l, mixers, state_bytes, token_bytes):
    """mixers, a name per layer: "mamba2" keeps state_bytes, "attention" token_bytes for each of l tokens -> bytes."""
    return mixers.count("mamba2") * state_bytes + l * mixers.count("attention") * token_bytes


@stack_bytes.cases
def pure_and_mixed_stacks():
    return [
        given(100, ["mamba2", "attention", "mamba2", "mamba2"], 5000, 64),
        given(7, ["attention", "attention", "mamba2"], 300, 16),
        given(1000, ["mamba2"] * 2, 700, 40),
        given(1000, ["attention"] * 3, 700, 40),
    ]


@stack_bytes.oracle
def layer_by_layer(l, mixers, state_bytes, token_bytes):
    total = 0
    for name in mixers:
        for _ in range(l if name == "attention" else 1):
            total += token_bytes if name == "attention" else state_bytes
    return total


stack_bytes.slip(
    "Its states grow with the text. A Mamba layer keeps as much after a million tokens as after one.",
    lets_states_grow={'mixers.count("mamba2") * state_bytes': 'l * mixers.count("mamba2") * state_bytes'},
)

stack_bytes.slip(
    "Its attention keeps one token. It keeps a key and a value for each of the l tokens.",
    keeps_one_token={"l * mixers": "mixers"},
)

stack_bytes.slip(
    "Every layer pays for every token, those of Mamba too. Only attention layers keep tokens.",
    makes_all_layers_pay={'mixers.count("attention")': "len(mixers)"},
)

stack_bytes.slip(
    "It counts each kind once, however many layers there are of it.",
    counts_a_kind_once={
        'mixers.count("mamba2")': '("mamba2" in mixers)',
        'mixers.count("attention")': '("attention" in mixers)',
    },
)

stack_bytes.slip(
    "Every layer keeps both. A Mamba layer keeps a state, an attention layer a key and a value for each token.",
    keeps_both_everywhere={'mixers.count("mamba2")': "len(mixers)", 'mixers.count("attention")': "len(mixers)"},
)

stack_bytes.slip(
    "Every layer keeps a state here. An attention layer has none: it keeps its tokens.",
    gives_attention_a_state={'mixers.count("mamba2") * state_bytes': "len(mixers) * state_bytes"},
)

stack_bytes.slip(
    "Attention looks at l times l pairs, but does not keep them. It keeps something for each of l tokens.",
    keeps_pairs={'l * mixers.count("attention")': 'l * l * mixers.count("attention")'},
)
