"""Exercises of notebook 04."""
# mypy: allow-untyped-defs

import math

import torch

from mamba2_lab.course.declare import given, reference
from mamba2_lab.course.inputs import Draws


def table(log_decay, of_segment, above):
    """(..., l) -> (..., l, l) in float64: what `of_segment` makes of the log decays after s up to t, or `above`."""
    l = log_decay.shape[-1]
    rows = log_decay.reshape(-1, l).tolist()
    tables = [
        [[of_segment(row[s + 1 : t + 1]) if s <= t else above for s in range(l)] for t in range(l)] for row in rows
    ]
    return torch.tensor(tables, dtype=torch.float64).view(*log_decay.shape, l)


@reference(
    stars=2,
    hints=(
        "Write down what entry (t, s) holds for three tokens. Which of them is the first whose decay an entry of "
        "column 0 needs?",
        "Put `log_decay` down the rows of an (l, l) table, wipe the entries that a column must not count, and let "
        "`cumsum` run down each column.",
        "Column s counts the rows t > s only, so wipe with the mask `tril(-1)`; `tril()` then says which entries stay "
        "and which become -inf.",
    ),
)
def segsum(log_decay):
    """(..., l) -> (..., l, l): summed log decay from source s to target t; -inf above the diagonal."""
    l = log_decay.shape[-1]
    ones = torch.ones(l, l, dtype=torch.bool, device=log_decay.device)
    terms = log_decay.unsqueeze(-1).expand(*log_decay.shape, l)  # terms[t, s] = log_decay_t
    sums = terms.masked_fill(~ones.tril(-1), 0.0).cumsum(dim=-2)  # each column starts after its source
    return sums.masked_fill(~ones.tril(), -torch.inf)


@segsum.cases
def three_tokens_two_sequences_and_a_restart():
    two = -Draws(4).uniform(2, 5)
    restart = torch.tensor([-0.5, -1e4, -1e-4, -1e-4, -1e-4])  # the state is wiped, then hardly fades
    return [given(torch.tensor([-1.0, -2.0, -4.0])), given(two), given(restart)]


@segsum.oracle
def sum_of_each_segment(log_decay):
    return table(log_decay, math.fsum, above=-math.inf)


segsum.slip(
    "The diagonal must be 0: a token's own decay is not applied to what it writes, it fades from the next token on. "
    "Column s starts with the decay of token s + 1.",
    applies_own_decay={"tril(-1)": "tril()"},
)

segsum.slip(
    "Above the diagonal it must be -inf. A 0 there becomes exp(0) = 1: every token would read the ones after it, at "
    "full strength.",
    leaves_zeros_above={"sums.masked_fill(~ones.tril(), -torch.inf)": "sums"},
)

segsum.slip(
    "Rows and columns are exchanged: the target t, where the memory is read, is the row; the source s, where it was "
    "written, is the column.",
    exchanges_source_and_target={"-torch.inf)": "-torch.inf).mT"},
)

segsum.slip(
    "Right on paper, but digits are lost: after a large decay, `cumsum_t - cumsum_s` is the difference of two large "
    "numbers, and the small ones summed between them are gone. Let each column sum only what it needs.",
    subtracts_two_cumsums={
        "terms = log_decay.unsqueeze(-1).expand(*log_decay.shape, l)": "total = log_decay.cumsum(dim=-1)",
        "terms.masked_fill(~ones.tril(-1), 0.0).cumsum(dim=-2)": "total.unsqueeze(-1) - total.unsqueeze(-2)",
    },
)

segsum.slip(
    "These are sums from s to t - 1, one token too early: they begin after the source and include the target. What s "
    "writes has not faded yet, and at t it fades before it is read.",
    sums_from_the_source_to_before_the_target={
        "log_decay.unsqueeze(-1).expand": "log_decay.roll(1, dims=-1).unsqueeze(-1).expand",
    },
)

segsum.slip(
    "The sign is turned: `cumsum_s - cumsum_t` is above 0, and the memory would grow. It is the sum up to the target "
    "minus that up to the source.",
    turns_the_difference_round={
        "terms = log_decay.unsqueeze(-1).expand(*log_decay.shape, l)": "total = log_decay.cumsum(dim=-1)",
        "terms.masked_fill(~ones.tril(-1), 0.0).cumsum(dim=-2)": "total.unsqueeze(-2) - total.unsqueeze(-1)",
    },
)


@reference(
    stars=1,
    hints=(
        "`segsum` holds the logarithms of the entries you want.",
        "The exponential of a sum is the product of the exponentials, and that of -inf is 0.",
    ),
)
def decay_mask(log_decay):
    """(..., l) -> (..., l, l): what is left at target t of what was written at source s; 0 above the diagonal."""
    return torch.exp(segsum(log_decay))


@decay_mask.cases
def halves_two_heads_and_a_restart():
    two = -Draws(5).uniform(2, 5)
    restart = torch.tensor([-0.5, -1e5, -0.3, -0.1, -0.7])  # the state is wiped, then fades a little
    return [given(torch.tensor([0.5, 0.5, 0.25]).log()), given(two), given(restart)]


@decay_mask.oracle
def product_of_each_segment(log_decay):
    return table(log_decay, lambda logs: math.prod(map(math.exp, logs)), above=0.0)


decay_mask.slip(
    "These are the logarithms of the mask. What is left is a factor between 0 and 1: take the exponential.",
    stays_in_logarithms={"torch.exp(segsum(log_decay))": "segsum(log_decay)"},
)

decay_mask.slip(
    "Right on paper, but digits are lost: after a large decay, the difference of two sums from the start has "
    "forgotten what the small ones were. `segsum` sums only what lies between.",
    subtracts_two_cumsums={
        "return torch.exp(segsum(log_decay))": (
            "total = log_decay.cumsum(dim=-1)\n    return torch.exp(total[..., None] - total[..., None, :]).tril()"
        ),
    },
)

decay_mask.slip(
    "It divides what is left of two tokens. After a large decay both are 0, and 0 / 0 is NaN: sum the logarithms "
    "between source and target, `segsum`, and never divide by a decay.",
    divides_by_a_decay={
        "return torch.exp(segsum(log_decay))": (
            "left = log_decay.cumsum(dim=-1).exp()\n    return (left[..., None] / left[..., None, :]).tril()"
        ),
    },
)


@decay_mask.wrong(
    "The decays between source and target are added up here, and they have to be multiplied. Sum the logarithms, and "
    "take the exponential last."
)
def adds_decays(log_decay):
    return segsum(torch.exp(log_decay)).masked_fill(segsum(log_decay) == -torch.inf, 0.0)


@decay_mask.wrong(
    "This mask fades by distance alone, at the rate of the target. Here every token has a decay of its own, and all "
    "that lie between source and target count."
)
def fades_by_distance(log_decay):
    steps = torch.arange(log_decay.shape[-1])
    return torch.exp(log_decay[..., None] * (steps[:, None] - steps)).tril()


@decay_mask.wrong(
    "Row t holds the decay of token t alone. What was written at s has also faded at every token between the two."
)
def fades_at_the_target_only(log_decay):
    l = log_decay.shape[-1]
    return torch.exp(log_decay)[..., None].expand(*log_decay.shape, l).tril(-1) + torch.eye(l)


@reference(
    stars=1,
    hints=(
        "Every entry is a fade times a match: two tables of l x l, multiplied entry by entry with `*`.",
        "Entry (t, s) of the match is the dot product of row t of C and row s of B. One matrix product makes them all.",
        "`.mT` exchanges the last two axes, whatever stands before them.",
    ),
)
def attention_matrix(log_decay, B, C):
    """log_decay (..., l), B, C (..., l, n) -> M (..., l, l): how much of source s is in the output at target t."""
    return decay_mask(log_decay) * (C @ B.mT)


@attention_matrix.cases
def three_tokens_and_heads_that_share():
    draw = Draws(6)
    three = given(
        torch.tensor([0.5, 0.5, 0.25]).log(),
        torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 2.0]]),
        torch.tensor([[1.0, 1.0], [0.0, 1.0], [2.0, -1.0]]),
    )
    B, C = draw.normal(2, 5, 3)
    heads = given(-draw.uniform(4, 5), B, C)
    return [three, heads, given(-draw.uniform(2, 5), *draw.normal(2, 2, 5, 3))]


@attention_matrix.oracle
def an_impulse_at_each_token(log_decay, B, C):
    decay, B, C = log_decay.double().exp(), B.double(), C.double()
    l = log_decay.shape[-1]
    M = torch.zeros(*log_decay.shape, l, dtype=torch.float64)
    for s in range(l):
        state = B[..., s, :]
        for t in range(s, l):
            state = decay[..., t, None] * state if t > s else state
            M[..., t, s] = (C[..., t, :] * state).sum(-1)
    return M


attention_matrix.slip(
    "B and C are exchanged. The target reads, so rows belong to C; the source is written, so columns belong to B.",
    exchanges_reading_and_writing={"C @ B.mT": "B @ C.mT"},
)

attention_matrix.slip(
    "This is the matrix product of mask and scores. The mask scales each score by itself: multiply entry by entry, "
    "with `*`.",
    multiplies_the_tables_as_matrices={"decay_mask(log_decay) *": "decay_mask(log_decay) @"},
)

attention_matrix.slip(
    "`B.T` turns all axes round, and with texts or heads in front there are more than two. `B.mT` exchanges the last "
    "two.",
    transposes_every_axis={
        "B.mT": "B.T",
    },
)

attention_matrix.slip(
    "The scores are scaled by the logarithms of the fades. Multiply by the fades themselves, `decay_mask`.",
    scales_by_logarithms={
        "decay_mask(log_decay)": "segsum(log_decay).masked_fill(segsum(log_decay) == -torch.inf, 0.0)",
    },
)


@attention_matrix.wrong(
    "There is no softmax here: rows need not sum to 1. The state adds up what is written, nothing normalises it."
)
def applies_a_softmax(log_decay, B, C):
    return torch.softmax(segsum(log_decay) + C @ B.mT, dim=-1)


@attention_matrix.wrong(
    "Nothing fades here: this mask keeps the past and hides the future, as that of a transformer does. Ours is "
    "`decay_mask`."
)
def masks_without_fading(log_decay, B, C):
    return (torch.zeros_like(log_decay)[..., None] + C @ B.mT).tril()


@reference(
    stars=2,
    hints=(
        "`torch.linalg.svdvals` gives the singular values of a matrix, or of each of a batch, from large to small.",
        "Rounding turns a singular value of 0 into something like 1e-17 times the largest one. Compare with that one.",
        "Slice with `[..., :1]` rather than `[..., 0]`, and the comparison fits a batch too.",
    ),
)
def numerical_rank(matrix, tolerance):
    """(..., rows, columns) -> (...): how many singular values exceed tolerance times the largest of their matrix."""
    singular_values = torch.linalg.svdvals(matrix)
    return (singular_values > tolerance * singular_values[..., :1]).sum(dim=-1)


@numerical_rank.cases
def known_ranks_tiny_huge_a_batch_and_a_coarse_tolerance():
    draw = Draws(7)

    def of_rank(rank, rows, columns):
        left = draw.normal(rows, rank, dtype=torch.float64)
        return left @ draw.normal(rank, columns, dtype=torch.float64)

    batch = torch.stack([of_rank(3, 5, 5), 1e-9 * of_rank(1, 5, 5), torch.zeros(5, 5, dtype=torch.float64)])
    plain = torch.tensor([[1.0, 2.0], [2.0, 4.0], [1.0, 0.0]], dtype=torch.float64)
    tiny, huge = 1e-8 * of_rank(2, 6, 4), 1e15 * of_rank(2, 6, 4)
    coarse = torch.diag(torch.tensor([8.0, 2.6, 2.5, 1.0], dtype=torch.float64))  # its pivots are its singular values
    return [given(plain, 1e-6), given(tiny, 1e-6), given(huge, 1e-6), given(batch, 1e-6), given(coarse, 0.3)]


@numerical_rank.oracle
def pivots_of_an_elimination(matrix, tolerance):
    def pivots(rows):
        limit = tolerance * max(abs(entry) for row in rows for entry in row)
        count = 0
        while rows:
            size, i, j = max((abs(rows[i][j]), i, j) for i in range(len(rows)) for j in range(len(rows[i])))
            if size <= limit:
                break
            pivot = rows.pop(i)
            rows = [[e - row[j] / pivot[j] * p for e, p in zip(row, pivot, strict=True)] for row in rows]
            count += 1
        return count

    matrices = matrix.reshape(-1, *matrix.shape[-2:]).tolist()
    return torch.tensor([pivots(rows) for rows in matrices]).view(matrix.shape[:-2])


numerical_rank.slip(
    "A fixed threshold: in other units the same matrix would have another rank. Compare with the largest of them.",
    compares_with_a_fixed_number={"tolerance * singular_values[..., :1]": "tolerance"},
)

numerical_rank.slip(
    "This counts what rounding left behind too: a singular value that should be 0 comes out as something tiny.",
    counts_all_above_zero={"tolerance * singular_values[..., :1]": "0"},
)

numerical_rank.slip(
    "A matrix of zeros has rank 0, and here it has full rank: to equal a threshold of 0 is not to exceed it.",
    counts_what_equals_the_threshold={"singular_values >": "singular_values >="},
)


@numerical_rank.wrong("This counts the rows that hold something. A row that is made of the others adds no rank.")
def counts_rows(matrix, tolerance):
    size = matrix.abs().amax(dim=-1)
    return (size > tolerance * size.amax(dim=-1, keepdim=True)).sum(dim=-1)


numerical_rank.slip(
    "The threshold has nothing of `tolerance` in it. Whoever asks with 0.3 wants to know how many matter, not how many "
    "there are.",
    takes_a_tolerance_of_its_own={"tolerance * singular_values": "1e-12 * singular_values"},
)

numerical_rank.slip(
    "It compares with all of them together, by their sum or the norm of the matrix. Then each new one makes the others "
    "count less. Compare with the largest alone.",
    compares_with_the_norm={"singular_values[..., :1]": "singular_values.norm(dim=-1, keepdim=True)"},
)

numerical_rank.slip(
    "In a batch, each matrix is measured by its own largest singular value, not by that of another.",
    compares_across_the_batch={"singular_values[..., :1]": "singular_values.max()"},
)


@reference(
    stars=3,
    hints=(
        "The block joins targets t after the cut with sources s before it. Split the fade from s to t in two at the "
        "cut: from s up to the last token before it, and from there to t.",
        "Put the second fade with C, on the left, and the first with B, on the right. Each is at most 1.",
        "Left: the log decays after the cut, summed as they come. Right: the last row of a segment sum over the tokens "
        "before the cut.",
    ),
)
def factor_below(log_decay, B, C, cut):
    """log_decay (..., l), B, C (..., l, n) -> left (..., l-cut, n), right (..., n, cut).

    Their product left @ right is M[cut:, :cut].
    """
    since_cut = log_decay[..., cut:].cumsum(dim=-1)
    until_cut = segsum(log_decay[..., :cut])[..., -1, :]
    left = torch.exp(since_cut)[..., None] * C[..., cut:, :]
    right = (torch.exp(until_cut)[..., None] * B[..., :cut, :]).mT
    return left, right


@factor_below.cases
def a_short_text_two_heads_and_a_long_one():
    draw = Draws(8)

    def tokens(l, n):
        return draw.normal(2, l, n)

    heads, long = -draw.uniform(2, 7), -4 * draw.uniform(120)
    long[60:62] = -0.1  # so that the block's corner holds something
    return [
        given(
            torch.tensor([0.5, 0.5, 0.25, 0.5]).log(),
            torch.tensor([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0], [3.0, 1.0]]),
            torch.tensor([[1.0, 1.0], [2.0, 0.0], [0.0, 1.0], [4.0, 2.0]]),
            3,
        ),
        given(heads, *tokens(7, 3), 5),
        given(long, *tokens(120, 2), 61),
    ]


@factor_below.observe
def the_product_and_how_thin_it_is(answer, log_decay, B, C, cut):
    left, right = answer(log_decay, B, C, cut)
    return {"`left @ right`": left @ right, "the number of columns of `left`": left.shape[-1]}


@factor_below.oracle
def the_block_by_the_recurrence(log_decay, B, C, cut):
    block = an_impulse_at_each_token(log_decay, B, C)[..., cut:, :cut]
    return {"`left @ right`": block, "the number of columns of `left`": B.shape[-1]}


factor_below.slip(
    "What the state holds at the cut fades at the first token after it before that token reads: its own decay belongs "
    "to the left factor.",
    forgets_the_decay_at_the_cut={"cumsum(dim=-1)": "cumsum(dim=-1) - log_decay[..., cut, None]"},
)

factor_below.slip(
    "On the right, a source's own decay is applied to what it writes. It fades from the next token on: the last token "
    "before the cut has not faded at all.",
    fades_sources_by_their_own_decay={"[..., -1, :]": "[..., -1, :] + log_decay[..., :cut]"},
)

factor_below.slip(
    "This is the block of C B^T, without any fading. Share the fade from s to t between the two factors.",
    leaves_the_decays_out={
        "torch.exp(since_cut)": "torch.ones_like(since_cut)",
        "torch.exp(until_cut)": "torch.ones_like(until_cut)",
    },
)

factor_below.slip(
    "Both factors are measured from the start of the text: the one gets too small, the other too large, and their "
    "product is lost. Measure both from the cut.",
    measures_from_the_start={
        "log_decay[..., cut:].cumsum(dim=-1)": "log_decay.cumsum(dim=-1)[..., cut:]",
        "segsum(log_decay[..., :cut])[..., -1, :]": "-log_decay.cumsum(dim=-1)[..., :cut]",
    },
)

factor_below.slip(
    "The right factor is not transposed: its rows are the n entries of B, its columns the sources. `.mT` exchanges "
    "the two.",
    forgets_to_transpose={
        ".mT": "",
    },
)

factor_below.slip(
    "The first decay after the cut is counted twice, on the left and on the right. The right factor fades up to the "
    "last token before the cut.",
    fades_twice_at_the_cut={
        "log_decay[..., :cut])[..., -1, :]": "log_decay[..., : cut + 1])[..., -1, :-1]",
    },
)

factor_below.slip(
    "B and C are exchanged: what comes after the cut reads, with C, on the left; what comes before it was written, "
    "with B, on the right.",
    exchanges_reading_and_writing={
        "C[..., cut:, :]": "B[..., cut:, :]",
        "B[..., :cut, :]": "C[..., :cut, :]",
    },
)


@reference(
    stars=3,
    hints=(
        "Bring the heads beside the batch first, with `transpose(1, 2)`; then `attention_matrix` serves as it is.",
        "The state from before fades at every token, the first included: at token t its share of the output is "
        "exp(log_decay_0 + ... + log_decay_t) times what C_t reads of it.",
        "The final state is the initial state after all decays, plus each x_t B_t^T faded to the end. The last row of "
        "`decay_mask` says how much of each is left there.",
    ),
)
def quadratic(x, log_decay, B, C, initial_state):
    """The recurrence by attention_matrix, from a state to a state.

    x (b,l,h,p), log_decay (b,l,h), B, C (b,l,h,n), initial_state (b,h,p,n) -> y (b,l,h,p), final_state (b,h,p,n)
    """
    x, log_decay, B, C = (part.transpose(1, 2) for part in (x, log_decay, B, C))  # heads beside the batch
    from_start = torch.exp(log_decay.cumsum(dim=-1))[..., None]
    y = attention_matrix(log_decay, B, C) @ x + from_start * (C @ initial_state.mT)
    to_end = decay_mask(log_decay)[..., -1, :, None]
    final_state = from_start[..., -1:, :] * initial_state + (to_end * x).mT @ B
    return y.transpose(1, 2), final_state


quadratic.returns("`y`", "`final_state`")


@quadratic.cases
def one_head_then_a_batch_of_three():
    draw = Draws(9)

    def text(b, l, h, p, n):
        x, B, C = (draw.normal(b, l, h, size) for size in (p, n, n))
        return given(x, -draw.uniform(b, l, h), B, C, draw.normal(b, h, p, n))

    one = torch.tensor([0.5, 0.5, 0.25]).log(), torch.tensor([1.0, 1.0, 2.0]), torch.tensor([1.0, 2.0, 1.0])
    log_decay, B, C = (part[None, :, None] for part in one)
    x, state = torch.tensor([4.0, 0.0, 1.0]), torch.full((1, 1, 1, 1), 8.0)
    plain = given(x[None, :, None, None], log_decay, B[..., None], C[..., None], state)
    return [plain, text(1, 4, 1, 3, 2), text(2, 6, 3, 5, 4)]


@quadratic.stages
def by_where_it_comes_from(answer, x, log_decay, B, C, initial_state, *chunk_size):
    # y and final_state are sums: of what the tokens write, and of what was there before them
    y, state = answer(x, log_decay, B, C, 0 * initial_state, *chunk_size)
    old_y, old_state = answer(0 * x, log_decay, B, C, initial_state, *chunk_size)
    return {
        "`y` from an empty state": y,
        "`final_state` from an empty state": state,
        "what `y` reads of the initial state (x = 0)": old_y,
        "what is left of the initial state at the end (x = 0)": old_state,
    }


@quadratic.oracle
def one_token_after_another(x, log_decay, B, C, initial_state):
    x, decay, B, C, state = x.double(), log_decay.double().exp(), B.double(), C.double(), initial_state.double()
    ys = []
    for t in range(x.shape[1]):
        state = decay[:, t, :, None, None] * state + x[:, t, :, :, None] * B[:, t, :, None, :]
        ys.append((state * C[:, t, :, None, :]).sum(-1))
    return torch.stack(ys, dim=1), state


quadratic.slip(
    "The output leaves out what was in the state before the first token: every token can still read it.",
    reads_nothing_of_the_initial_state={" + from_start * (C @ initial_state.mT)": ""},
)

quadratic.slip(
    "The initial state is read here as if it never faded. By token t it has gone through t + 1 decays.",
    reads_the_initial_state_unfaded={"from_start * (C @ initial_state.mT)": "C @ initial_state.mT"},
)

quadratic.slip(
    "The initial state lies before the first token, so the decay of the first token acts on it already. Count it.",
    spares_the_initial_state_one_decay={
        "torch.exp(log_decay.cumsum(dim=-1))[..., None]": "decay_mask(log_decay)[..., :, :1]"
    },
)

quadratic.slip(
    "The output is right, the final state is not: what each token wrote has faded by the end, the earlier the more.",
    adds_up_the_final_state_unfaded={"(to_end * x).mT": "x.mT"},
)

quadratic.slip(
    "The initial state never fades here, neither in y nor in final_state. It goes through every decay: at token t "
    "through t + 1 of them, at the end through all.",
    never_fades_the_initial_state={
        "from_start * (C @ initial_state.mT)": "C @ initial_state.mT",
        "from_start[..., -1:, :] * initial_state": "initial_state",
    },
)

quadratic.slip(
    "The initial state is left out of y and of final_state, as if the text began with an empty state.",
    forgets_the_initial_state={
        " + from_start * (C @ initial_state.mT)": "",
        "from_start[..., -1:, :] * initial_state + ": "",
    },
)
