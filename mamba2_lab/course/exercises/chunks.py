"""Exercises of notebook 05."""
# mypy: allow-untyped-defs

import torch

from mamba2_lab.course.declare import given, reference
from mamba2_lab.course.exercises.duality import attention_matrix, by_where_it_comes_from
from mamba2_lab.course.inputs import Draws
from mamba2_lab.scan import segsum


def recurrence(x, log_decay, B, C, state):
    """The loop in float64: (..., l, p), (..., l), (..., l, n) twice, (..., p, n) -> y and every state after a token."""
    x, decay, B, C, state = x.double(), log_decay.double().exp(), B.double(), C.double(), state.double()
    ys, states = [], []
    for t in range(x.shape[-2]):
        state = decay[..., t, None, None] * state + x[..., t, :, None] * B[..., t, None, :]
        states.append(state)
        ys.append((state * C[..., t, None, :]).sum(-1))
    return torch.stack(ys, dim=-2), torch.stack(states, dim=-3)


@reference(
    stars=1,
    hints=(
        "How many tokens are missing from the last chunk? `-l % chunk_size` is right for every l, also where none is.",
        "`sequence.new_zeros(shape)` makes zeros of the same dtype on the same device; `torch.cat` puts them behind.",
        "`unflatten(1, (-1, chunk_size))` cuts axis 1 in two and finds the number of chunks.",
    ),
)
def split_into_chunks(sequence, chunk_size):
    """(b, l, ...) -> (b, c, chunk_size, ...): the last chunk filled up with zeros behind the last token."""
    missing = -sequence.shape[1] % chunk_size
    zeros = sequence.new_zeros(sequence.shape[0], missing, *sequence.shape[2:])
    return torch.cat([sequence, zeros], dim=1).unflatten(1, (-1, chunk_size))


@split_into_chunks.cases
def ragged_whole_and_short():
    draw = Draws(10)
    return [
        given(torch.arange(1.0, 11.0)[None], 4),
        given(torch.arange(1.0, 9.0)[None], 4),
        given(draw.normal(2, 7, 3), 3),
        given(draw.normal(2, 3, 2, 2), 5),
    ]


@split_into_chunks.oracle
def token_by_token(sequence, chunk_size):
    b, l = sequence.shape[:2]
    chunks = torch.zeros(b, (l + chunk_size - 1) // chunk_size, chunk_size, *sequence.shape[2:], dtype=torch.float64)
    for t in range(l):
        chunks[:, t // chunk_size, t % chunk_size] = sequence[:, t].double()
    return chunks


@split_into_chunks.wrong("The tokens that do not fill a chunk are dropped: the end of the text is never read.")
def drops_the_ragged_end(sequence, chunk_size):
    whole = sequence.shape[1] - sequence.shape[1] % chunk_size
    return sequence[:, :whole].reshape(sequence.shape[0], whole // chunk_size, chunk_size, *sequence.shape[2:])


split_into_chunks.slip(
    "The zeros stand in front of the text here. They belong behind it: then token t is still token t, and what comes "
    "after the end can simply be cut off.",
    fills_up_in_front={"[sequence, zeros]": "[zeros, sequence]"},
)

split_into_chunks.slip(
    "A text that fills its chunks gets one more, of zeros alone: there `chunk_size - l % chunk_size` is not 0.",
    adds_an_empty_chunk={"-sequence.shape[1] % chunk_size": "chunk_size - sequence.shape[1] % chunk_size"},
)

split_into_chunks.slip(
    "Tokens are dealt out like cards: neighbours land in different chunks. A chunk is a run of neighbours.",
    deals_out_tokens={"(1, (-1, chunk_size))": "(1, (chunk_size, -1)).transpose(1, 2)"},
)


@reference(
    stars=2,
    hints=(
        "This is the final state of a chunk that starts from an empty one. What is left at the end of what token s "
        "wrote?",
        "The fade from s to the end of the chunk is the last row of the decay mask.",
        "Scale each row of x by its fade; the sum of x_s B_s^T over the tokens is then one matrix product, `x.mT @ B`.",
    ),
)
def left_behind(x, log_decay, B):
    """x (..., q, p), log_decay (..., q), B (..., q, n) -> (..., p, n): what a chunk's own tokens leave at its end."""
    to_end = torch.exp(segsum(log_decay)[..., -1, :])
    return (to_end[..., None] * x).mT @ B


@left_behind.cases
def three_tokens_two_chunks_and_a_restart():
    draw = Draws(11)
    x, B = draw.normal(2, 4, 3), draw.normal(2, 4, 2)
    restart = torch.tensor([-1e4, -0.3, -0.2, -0.1, -0.4])
    y, K = draw.normal(5, 3), draw.normal(5, 2)
    plain = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]), torch.tensor([[1.0, 0], [1, 1], [0, 2]])
    return [
        given(plain[0], torch.tensor([0.5, 0.5, 0.25]).log(), plain[1]),
        given(x, -draw.uniform(2, 4), B),
        given(y, restart, K),
    ]


@left_behind.oracle
def last_state_of_the_loop(x, log_decay, B):
    empty = torch.zeros(*log_decay.shape[:-1], x.shape[-1], B.shape[-1])
    return recurrence(x, log_decay, B, B, empty)[1][..., -1, :, :]


left_behind.slip(
    "Nothing fades here: what the first tokens wrote has faded by the end of the chunk.",
    forgets_to_fade={"torch.exp(segsum(log_decay)[..., -1, :])": "torch.ones_like(log_decay)"},
)

left_behind.slip(
    "Each token's own decay is applied to what it writes. It fades from the next token on; the last token of the chunk "
    "has not faded at all.",
    fades_by_the_own_decay={"segsum(log_decay)[..., -1, :]": "segsum(log_decay)[..., -1, :] + log_decay"},
)

left_behind.slip(
    "These are the fades from the chunk's start to each token. What a token leaves behind fades from that token to the "
    "chunk's end: the earlier it was written, the less is left.",
    fades_from_the_start={"segsum(log_decay)[..., -1, :]": "log_decay.cumsum(dim=-1)"},
)

left_behind.slip(
    "Rows and columns of the state are exchanged: it is (p, n), channels down and columns of B across.",
    exchanges_channels_and_columns={"(to_end[..., None] * x).mT @ B": "B.mT @ (to_end[..., None] * x)"},
)

left_behind.slip(
    "Right on paper, but digits are lost: after a large decay, total - cumsum takes the difference of two large "
    "numbers. Sum each segment by itself, as `segsum` does.",
    subtracts_from_the_total={
        "to_end =": "total = log_decay.cumsum(dim=-1)\n    to_end =",
        "segsum(log_decay)[..., -1, :]": "total[..., -1:] - total",
    },
)

left_behind.slip(
    "Every token is faded by all decays of the chunk. A token is faded only by those after it: the last one not at "
    "all.",
    fades_all_alike={"segsum(log_decay)[..., -1, :]": "log_decay.sum(dim=-1, keepdim=True).expand(log_decay.shape)"},
)

left_behind.slip(
    "It fades x and B both, so the product is faded twice. Fade one of the two.",
    fades_both={".mT @ B": ".mT @ (to_end[..., None] * B)"},
)


@reference(
    stars=2,
    hints=(
        "It is the recurrence of notebook 03 once more, with a chunk in the place of a token: what was there fades, "
        "and something is added.",
        "`log_decay` holds one number for each chunk, the sum over its tokens. Two `None`s make it fit a state: "
        "`log_decay[..., k, None, None]`.",
        "Begin a list with initial_state, append c more states, and `torch.stack` it along axis -3.",
    ),
)
def pass_between_chunks(added, log_decay, initial_state):
    """States at the c+1 boundaries of the chunks.

    added (..., c, p, n) by each chunk, log_decay (..., c) of each, initial_state (..., p, n) -> (..., c+1, p, n)
    """
    states = [initial_state]
    for k in range(log_decay.shape[-1]):
        states.append(torch.exp(log_decay[..., k, None, None]) * states[-1] + added[..., k, :, :])
    return torch.stack(states, dim=-3)


@pass_between_chunks.cases
def halves_then_two_heads():
    draw = Draws(12)
    halves = given(torch.ones(3, 1, 1), torch.tensor([0.5, 0.5, 0.25]).log(), torch.full((1, 1), 4.0))
    added, initial = draw.normal(2, 4, 3, 2), draw.normal(2, 3, 2)
    return [halves, given(added, -draw.uniform(2, 4), initial)]


@pass_between_chunks.oracle
def every_contribution_by_itself(added, log_decay, initial_state):
    decay, c = log_decay.double().exp(), log_decay.shape[-1]
    sources = [initial_state.double(), *added.double().unbind(-3)]
    states = [sum(sources[j] * decay[..., j:k].prod(-1)[..., None, None] for j in range(k + 1)) for k in range(c + 1)]
    return torch.stack(states, dim=-3)


pass_between_chunks.slip(
    "The chunk's decay is applied to what the chunk itself adds. That has faded within the chunk already; only what "
    "came in fades through the whole of it.",
    fades_what_is_added={"states[-1] + added[..., k, :, :]": "(states[-1] + added[..., k, :, :])"},
)

pass_between_chunks.slip(
    "The state from before the text is lost: the first boundary holds `initial_state`.",
    starts_from_nothing={"[initial_state]": "[torch.zeros_like(initial_state)]"},
)

pass_between_chunks.slip(
    "The states add up without fading. A chunk lets through only part of what comes in: exp of its summed log decays.",
    lets_everything_through={"torch.exp(log_decay[..., k, None, None]) * states[-1]": "states[-1]"},
)

pass_between_chunks.slip(
    "The last state is missing. c chunks have c + 1 boundaries, and the state after the last is where the next text "
    "goes on.",
    drops_the_final_state={"log_decay.shape[-1]": "log_decay.shape[-1] - 1"},
)

pass_between_chunks.slip(
    "The state is multiplied by the log decay itself, a number below 0. What is kept of it is the exponential.",
    forgets_the_exponential={
        "torch.exp(log_decay[..., k, None, None])": "log_decay[..., k, None, None]",
    },
)


@reference(
    stars=1,
    hints=(
        "Token t reads the part of the state along C_t: for all tokens of the chunk at once, `C @ state.mT`.",
        "By token t the state that came in has faded at each token of the chunk up to t, t included: a `cumsum`.",
    ),
)
def read_incoming(state, log_decay, C):
    """state (..., p, n) that came in, log_decay (..., q), C (..., q, n) -> (..., q, p): what each token reads of it."""
    since_start = torch.exp(log_decay.cumsum(dim=-1))
    return since_start[..., None] * (C @ state.mT)


@read_incoming.cases
def three_tokens_then_two_chunks():
    draw = Draws(13)
    plain = given(
        torch.tensor([[4.0, 0.0], [0.0, 8.0], [4.0, 8.0]]),
        torch.tensor([0.5, 0.5, 0.25]).log(),
        torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]),
    )
    state, C = draw.normal(2, 3, 2), draw.normal(2, 4, 2)
    return [plain, given(state, -draw.uniform(2, 4), C)]


@read_incoming.oracle
def the_loop_on_silence(state, log_decay, C):
    silence = torch.zeros(*log_decay.shape, state.shape[-2])
    return recurrence(silence, log_decay, C, C, state)[0]


read_incoming.slip(
    "The state that came in fades at each token of the chunk; here every token reads it as it came.",
    reads_it_unfaded={"torch.exp(log_decay.cumsum(dim=-1))": "torch.ones_like(log_decay)"},
)

read_incoming.slip(
    "The first token reads the state before its own decay. The state came from the token before, so it fades at the "
    "first token already.",
    spares_the_first_decay={"log_decay.cumsum(dim=-1)": "segsum(log_decay)[..., :, 0]"},
)

read_incoming.slip(
    "These are the fades from each token to the end of the chunk. Reading comes on the way: what came in has faded "
    "from the chunk's start to the token.",
    fades_to_the_end={"log_decay.cumsum(dim=-1)": "segsum(log_decay)[..., -1, :]"},
)

read_incoming.slip(
    "Every token reads with the decay of the whole chunk. Token t has seen the first t + 1 only.",
    fades_by_the_whole_chunk={"log_decay.cumsum(dim=-1)": "log_decay.sum(dim=-1, keepdim=True)"},
)

read_incoming.slip(
    "A token's own decay is left out. Each token first fades the state and then reads it: the first one finds it one "
    "decay older than it came in.",
    spares_the_token_its_own_decay={
        "log_decay.cumsum(dim=-1)": "log_decay.cumsum(dim=-1) - log_decay",
    },
)


@reference(
    stars=3,
    hints=(
        "Split all four sequences. Then bring the heads in front of the chunks, `movedim(3, 1)`, and every function of "
        "this notebook fits as it is.",
        "Head i belongs to group i // (h/g), so `repeat_interleave(h // g, dim=...)` gives every head its B and C.",
        "Chunk k reads boundary k, the state before it: all boundaries but the last. What is returned is the last.",
        "At the end back again: heads behind the tokens, chunks joined with `flatten`, and the filling cut off.",
    ),
)
def chunked(x, log_decay, B, C, initial_state, chunk_size):
    """The recurrence in chunks: what each token reads within its chunk, and of the state that came in.

    x (b,l,h,p), log_decay (b,l,h), B, C (b,l,g,n), initial_state (b,h,p,n) -> y (b,l,h,p), final_state (b,h,p,n)
    """
    l, h = x.shape[1:3]
    x, log_decay, B, C = (split_into_chunks(part, chunk_size).movedim(3, 1) for part in (x, log_decay, B, C))
    B, C = (part.repeat_interleave(h // part.shape[1], dim=1) for part in (B, C))  # (b,h,c,q,n)
    states = pass_between_chunks(left_behind(x, log_decay, B), log_decay.sum(dim=-1), initial_state)
    y = attention_matrix(log_decay, B, C) @ x + read_incoming(states[:, :, :-1], log_decay, C)
    return y.movedim(1, 3).flatten(1, 2)[:, :l], states[:, :, -1]


chunked.returns("`y`", "`final_state`")


@chunked.cases
def ragged_with_groups():
    draw = Draws(14)

    def text(b, l, h, p, g, n, chunk_size):
        x = draw.normal(b, l, h, p)
        B, C = draw.normal(2, b, l, g, n)
        log_decay = -0.5 * draw.uniform(b, l, h)
        return given(x, log_decay, B, C, draw.normal(b, h, p, n), chunk_size)

    rows = torch.tensor([[4.0, 0.0, 1.0, 2.0], [0.5, 0.5, 0.25, 0.5], [1.0, 1.0, 2.0, 1.0], [1.0, 2.0, 1.0, 3.0]])
    x, decay, B, C = rows[:, None, :, None]
    plain = given(x[..., None], decay.log(), B[..., None], C[..., None], torch.full((1, 1, 1, 1), 8.0), 2)
    return [plain, text(1, 12, 1, 3, 1, 2, 4), text(1, 10, 1, 3, 1, 2, 4), text(2, 11, 4, 3, 2, 5, 3)]


chunked.stages(by_where_it_comes_from)


@chunked.oracle
def the_loop(x, log_decay, B, C, initial_state, chunk_size):
    h = x.shape[2]
    heads = [i // (h // B.shape[2]) for i in range(h)]
    x, log_decay, B, C = (part.transpose(1, 2) for part in (x, log_decay, B[:, :, heads], C[:, :, heads]))
    y, states = recurrence(x, log_decay, B, C, initial_state)
    return y.transpose(1, 2), states[:, :, -1]


chunked.slip(
    "Chunks are alone here: no token reads the state that came into its chunk.",
    reads_within_chunks_only={" + read_incoming(states[:, :, :-1], log_decay, C)": ""},
)

chunked.slip(
    "Each chunk reads the state at its end, which holds its own tokens already: they are counted twice. Chunk k reads "
    "boundary k, the state before it.",
    reads_the_state_after_the_chunk={"states[:, :, :-1]": "states[:, :, 1:]"},
)

chunked.slip(
    "Each chunk reads what the chunk before it left behind, and nothing older: the states have to be passed on, each "
    "made of the one before.",
    reads_the_last_chunk_only={
        "pass_between_chunks(left_behind(x, log_decay, B), log_decay.sum(dim=-1), initial_state)": (
            "torch.cat([initial_state[:, :, None], left_behind(x, log_decay, B)], dim=2)"
        ),
    },
)

chunked.slip(
    "The filling of the last chunk is still there: y has to be as long as x. The zeros did no harm to the state, for "
    "their log decay is 0, but they are no tokens.",
    keeps_the_filling={"[:, :l]": ""},
)

chunked.slip(
    "Heads go to the wrong groups: with 2 groups, `repeat` deals them out 0, 1, 0, 1. Neighbours share a group, "
    "0, 0, 1, 1, as `repeat_interleave` does it.",
    deals_out_groups={
        "part.repeat_interleave(h // part.shape[1], dim=1)": "part.repeat(1, h // part.shape[1], 1, 1, 1)"
    },
)

chunked.slip(
    "The state from before the text is lost: what comes into the first chunk is `initial_state`, not zeros.",
    begins_with_an_empty_state={
        ".sum(dim=-1), initial_state)": ".sum(dim=-1), torch.zeros_like(initial_state))",
    },
)


@reference(
    stars=2,
    hints=(
        "A product of an (i, j) and a (j, k) matrix takes i * j * k multiply-adds. Write down the shapes of each "
        "product in one chunk.",
        "Within a chunk: C @ B.mT, then M @ x. For the states: x.mT @ B, then C @ state.mT. To pass the state on: one "
        "multiply-add for each of its p * n numbers.",
        "A last chunk that is not full costs as much as a full one: round up, with `-(-l // chunk_size)`.",
    ),
)
def multiply_adds(l, chunk_size, p, n):
    """How many multiply-adds the matrix products of one head take for l tokens, and passing its state on."""
    within = chunk_size**2 * (n + p)
    left_and_read = 2 * chunk_size * p * n
    passed = p * n
    return -(-l // chunk_size) * (within + left_and_read + passed)


@multiply_adds.cases
def one_chunk_many_and_ragged():
    return [given(4, 4, 3, 2), given(12, 4, 3, 2), given(10, 4, 3, 2), given(4096, 64, 64, 128)]


@multiply_adds.oracle
def by_the_shapes_of_the_products(l, chunk_size, p, n):
    def product(i, j, k):
        return i * j * k

    q, count, start = chunk_size, 0, 0
    while start < l:
        count += product(q, n, q) + product(q, q, p)  # C @ B.mT, M @ x
        count += product(p, q, n) + product(q, n, p)  # x.mT @ B, C @ state.mT
        count += p * n
        start += q
    return count


@multiply_adds.wrong(
    "This is the cost of attention over the whole text. Within chunks there are l/q blocks of q x q, not one of l x l."
)
def attends_over_everything(l, chunk_size, p, n):
    return l**2 * (n + p) + 2 * l * p * n + -(-l // chunk_size) * p * n


multiply_adds.slip(
    "The ragged end is left out: 10 tokens in chunks of 4 are three chunks, not two. Round up.",
    rounds_down={"-(-l // chunk_size)": "l // chunk_size"},
)

multiply_adds.slip(
    "A product with the state is missing. Each chunk has two: what it leaves behind, and what it reads of what "
    "came in.",
    counts_one_product_with_the_state={"2 * chunk_size": "chunk_size"},
)

multiply_adds.slip(
    "C @ B.mT is missing: before M can be multiplied with x, its q x q scores have to be made, of n numbers each.",
    takes_the_scores_for_granted={"(n + p)": "p"},
)

multiply_adds.slip(
    "The squares are counted as triangles. A product of matrices computes every entry, those above the diagonal too; "
    "the mask sets them to 0 afterwards. Count chunk_size * chunk_size.",
    counts_triangles={
        "chunk_size**2 * (n + p)": "chunk_size * (chunk_size + 1) // 2 * (n + p)",
    },
)

multiply_adds.slip(
    "The squares are halved. A product of matrices computes what stands above the diagonal as well; the mask sets it "
    "to 0 afterwards. Count chunk_size * chunk_size.",
    counts_half_of_each_square={
        "chunk_size**2 * (n + p)": "chunk_size**2 // 2 * (n + p)",
    },
)

multiply_adds.slip(
    "The padding is not counted. The last chunk is filled up with zeros, and zeros are multiplied like all else: "
    "count whole chunks, l / chunk_size rounded up.",
    leaves_out_the_padding={
        "-(-l // chunk_size) * (within + left_and_read + passed)": (
            "l * (within + left_and_read) // chunk_size + l // chunk_size * passed"
        ),
    },
)


@multiply_adds.wrong(
    "The last chunk is counted as a smaller one. It is filled up with zeros, so that all chunks have one size and are "
    "computed at once: count l / chunk_size of them, rounded up."
)
def counts_a_smaller_last_chunk(l, chunk_size, p, n):
    sizes = [min(chunk_size, l - start) for start in range(0, l, chunk_size)]
    return sum(q**2 * (n + p) + 2 * q * p * n + p * n for q in sizes)


multiply_adds.slip(
    "To pass the state on is left out: another p * n for each chunk.",
    forgets_to_pass_the_state_on={
        " + passed)": ")",
    },
)

multiply_adds.slip(
    "A chunk that is not full is counted by its share. It is filled up with zeros, and zeros are multiplied like "
    "other numbers: round up.",
    counts_a_part_of_a_chunk={"-(-l // chunk_size)": "(l / chunk_size)"},
)

multiply_adds.slip(
    "This is attention over the whole text, without chunks or states: it grows as the square of l.",
    knows_no_chunks={"-(-l // chunk_size) * (within + left_and_read + passed)": "l * l * (n + p)"},
)
