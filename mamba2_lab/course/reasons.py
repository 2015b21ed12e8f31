"""What `solution()` tells beside the reference: why it is as it is, and another way where there is one."""

from __future__ import annotations

REASONS = {
    "levels": "One number is carried from hour to hour: the new level needs the level before it and nothing older.",
    "half_life": (
        "Half is left when exp(t * log_decay) = 1/2, that is t = ln(1/2) / log_decay; the two minus signs cancel."
    ),
    "zero_order_hold": (
        "exp(z) - 1 loses its digits where z is small, and that is where most heads begin. `expm1` computes "
        "the difference itself, so nothing is lost."
    ),
    "discretise": (
        "The decay is exp(dt * A). Its logarithm is handed on, because logarithms of many steps are added "
        "without any loss."
    ),
    "dt_to_remember": (
        "Any half-life between `steps` and `steps` + 1 will do. The middle is as far as possible from both "
        "ends, so rounding cannot spoil it."
    ),
    "steps_since": (
        "Each level gives an equation ln level = ln r + t * log_decay. With two unknowns and n equations the "
        "slope of the best line uses them all, and ln r drops out with the mean."
    ),
    "step": (
        "Fading comes before writing, for what is written now has not faded yet; reading comes last, so a "
        "token reads itself. A new tensor is made, so the caller's state is safe."
    ),
    "sequential": (
        "The state is the only thing that passes from one turn to the next. So one can stop anywhere, and go "
        "on from it."
    ),
    "kernel": (
        "For an input of 1 at hour 0 the loop does nothing but fade: barrel i holds B_i exp(t log_decay_i). "
        "All hours are computed at once, as nothing depends on the hour before."
    ),
    "convolution": (
        "`conv1d` lays its weights on the input as they are, so they are turned round first; and zeros in "
        "front make the hours before the first one dry."
    ),
    "toeplitz": (
        "An entry depends on the lag alone. Indexing the weights by a table of lags writes all diagonals at "
        "once; `clamp` keeps the index legal where the entry is 0 anyway."
    ),
    "fft_convolution": (
        "The transform takes its input for one turn of a circle. With l zeros behind the rain, what runs out "
        "at the end runs into zeros, and those hours are cut off."
    ),
    "held": (
        "What s wrote fades by all the time that passes after s, and decays multiply: so times add, from the "
        "end. The token's own time is taken off, since it does not fade itself."
    ),
    "dt_to_hold": (
        "The last marked word is faded by nothing, so its dt is known. Going backwards, the time that is still "
        "to pass is always known already."
    ),
    "selective_rule": (
        "One matrix is quicker than three, and the official code has one too. Only dt is a time and must be "
        "above 0; B and C may have either sign."
    ),
    "selective_scan": (
        "It is the loop of notebook 02, with a table of decays: a row for each channel, for each has its dt, "
        "and a column for each entry of B."
    ),
    "as_mamba1": (
        "Mamba-1 with equal decays in every row of a head is Mamba-2. The channels of a head lie side by side, "
        "so each entry is repeated in a row."
    ),
    "segsum": (
        "Every entry is a sum over its own segment, never a difference of two long sums: so no digits are "
        "lost, however long the text."
    ),
    "decay_mask": "The exponential comes last. It is never above 1, and exp(-inf) is the 0 that keeps the future out.",
    "attention_matrix": (
        "C @ B.mT has a match for each pair, L a fade for each pair, and both belong to the same pair: so they "
        "are multiplied entry by entry."
    ),
    "numerical_rank": (
        "Rounding is relative: it is measured against the largest singular value. `[..., :1]` keeps the axis, "
        "so each matrix of a batch has its own measure."
    ),
    "factor_below": (
        "The fade from s to t is the fade up to the cut times the fade after it. Neither is above 1: the way "
        "of notebook 05 is as safe as segsum."
    ),
    "quadratic": (
        "Everything is linear, so what came in and what is written are computed apart and added. The last row "
        "of the mask says what is left at the end: it makes the final state."
    ),
    "split_into_chunks": (
        "Zeros behind the last token write nothing, and a log decay of 0 lets nothing fade: the state at the "
        "end of the filled chunk is the state after the last token."
    ),
    "left_behind": (
        "A sum of outer products x_s B_s^T is one matrix product, x^T B. That is why it is fast, and why each "
        "row of x is faded first."
    ),
    "pass_between_chunks": (
        "It is the recurrence with a chunk in the place of a token. It stays a loop, but a short one: c turns "
        "in place of l."
    ),
    "read_incoming": (
        "Token t reads after its own decay, so the running sum includes it. The order of fading and reading is "
        "free, and a faded row of numbers is cheaper than a faded state."
    ),
    "chunked": (
        "Attention inside, a recurrence between: two sums that together are all pairs of tokens. Only the loop "
        "over chunks is a loop; the rest is matrix products over all chunks at once."
    ),
    "multiply_adds": (
        "Two products are as large as the chunk squared, two as large as the state. So the cost of a token "
        "grows with the chunk, and not with the text."
    ),
    "split_projection": (
        "Only the width of the middle has to be computed, so the function serves every number of groups."
    ),
    "causal_conv": (
        "With the window in front there are width - 1 + l inputs and l outputs: no padding, nothing to cut "
        "off, and no way to see ahead."
    ),
    "step_size": (
        "Softplus comes before the limit: the limit is one of time. And the bias comes before softplus, so "
        "that training moves a tempo smoothly."
    ),
    "skip": (
        "D has one number for each head, so it gets an axis for the channels. The heads are laid side by side "
        "in the order in which they were cut."
    ),
    "gated_rms_norm": (
        "Each group is divided by its own size, so a loud group cannot make another one soft. The weight "
        "scales afterwards: channels may differ, groups begin alike."
    ),
    "mamba2_block": (
        "Nothing in it is new. What it shows is that the pieces fit, and that the sizes alone decide where each is cut."
    ),
    "residual_block": (
        "What travels straight on is not normalised: the gradient finds a way without obstacles through any "
        "number of blocks."
    ),
    "next_token_logits": (
        "The rows for padding are cut off before the product, which saves their work; no softmax can give them "
        "anything then."
    ),
    "merge_pair": (
        "The list that is built ends in what could still be the first half. When a pair is complete that end "
        "becomes the new id, so no token is used twice."
    ),
    "as_bits_per_byte": (
        "Nats over ln 2 are bits; shared among the bytes of a token they no longer depend on the tokenizer."
    ),
    "count_parameters": (
        "Nearly all of a block lies in its two projections. The vectors of a head are easily forgotten, and "
        "hardly count."
    ),
    "scale_for_depth": (
        "n vectors in unrelated directions add up like the steps of a random walk, to sqrt(n) times the size "
        "of one. Divided by sqrt(n), the sum keeps the size."
    ),
    "next_token_loss": (
        "The logits at position t are a guess of token t + 1. So the last logits have no target, and the first "
        "token no guess."
    ),
    "learning_rate": (
        "The running means of AdamW know little at first, so the rate begins small. At the end it is a tenth "
        "of the peak: small steps find the bottom of the valley."
    ),
    "parameter_groups": (
        "For the weights of a projection 0 is neutral. For `dt_bias` and `A_log` it is a half-life of one "
        "token, which nobody wants."
    ),
    "clip_gradients": "One factor for all keeps the direction. To clip each by itself would turn the step.",
    "adamw": (
        "Divided by the root of its mean square a gradient is about 1, whatever its size. The corrections "
        "matter in the first steps, where the means still remember that they began at 0."
    ),
    "joined_loss": "A mean of means would let a short part count as much as a long one.",
    "read_on": (
        "The window keeps inputs of the convolution, the state what the scan has made of all the past. "
        "Together they are all that a mixer knows of it."
    ),
    "write_greedily": (
        "The prompt is read once. From then on each token is read once, and the cache that comes back is the "
        "one to go on with."
    ),
    "keep_top_p": (
        "What counts is how much was reached before a token: then the one that reaches p is kept, and the "
        "likeliest always is."
    ),
    "keep_min_p": "A share of a probability is a distance between logits, log(min_p): no softmax is needed.",
    "penalise": "Divided, a negative logit would come nearer to 0 and be likelier than before. So it is multiplied.",
    "release": (
        "Only an end that could still become the stop string has to wait; the longest such end, or something "
        "of the stop would be shown."
    ),
    "half_life_here": (
        "The product of the decays is that of one constant decay, whose logarithm is the mean. So the tokens "
        "that fade much count as they should."
    ),
    "overlap": (
        "The key has faded by token t with all decays up to t, and C_t reads along itself. The first decay "
        "counts, for the key was there before the token."
    ),
    "shares": (
        "A part is counted as far as it points where the whole points. Then the shares add up to 1, and one "
        "that works against the whole is negative."
    ),
    "through_silu": (
        "Once v is known sigmoid(v) is a number like any other, so silu(v) is a sum of its terms, each times "
        "that number. Nothing is approximated."
    ),
    "resampled": "Long files weigh more, as they do in the measurement itself: sums over sums, not a mean of means.",
    "median_seconds": (
        "The wait before the first round keeps the warm-up out of it, the wait inside lets the clock stop when "
        "the work is done, and the median does not care for a single disturbance."
    ),
    "crossover": "From the largest size down, for one lucky size in the middle proves nothing.",
    "projection_cost": (
        "The matrix does not grow with l, the operations do: that is why a prompt is cheap for each token, and "
        "a single token is not."
    ),
    "too_fast": (
        "Arithmetic and memory can work at the same time, so the larger of the two times is the bound. Whoever "
        "claims less has not waited."
    ),
    "bytes_kept": (
        "l stands in the first number only. The state is float32 always, because it adds up over the whole text."
    ),
    "refute": (
        "From press k to the next it moves by decay^k times `write`: one way only. If it is right after one press and "
        "after two, it has crossed the threshold; after three it would have to be back."
    ),
    "rotate_pairs": "Both new channels are made of both old ones, so they are made before either is replaced.",
    "turn_onto": (
        "Two vectors that are turned alike keep their dot product. Turned back by the sum of all angles, the picture "
        "stands still; only the difference of two sums is left, and that is the turn from s to t."
    ),
    "trapezoid": (
        "The recurrence is linear in what is written: the two writings of a token can be run apart and added. B goes "
        "with its x, and the weight of the look back has all of its factors from the token that comes."
    ),
    "discretise_turning": (
        "Nothing that is learned may break the step: dt and -A are above 0, lam within 0 and 1, an angle within half a "
        "turn for a unit of time. Where no time passes, nothing fades, is written, or turns."
    ),
    "mamba3_mixer": (
        "Turning and both ends of the step are moved into what goes into the scan. The scan is that of notebook 05, "
        "and does not know of Mamba-3."
    ),
}

OTHER_WAYS = {
    "levels": """\
def levels(x, decay):
    t = torch.arange(len(x))
    left = torch.where(t[:, None] >= t, decay ** (t[:, None] - t).clamp(min=0), 0.0)  # of the rain of s, at t
    return left @ x
""",
    "half_life": """\
def half_life(log_decay):
    return math.log(0.5) / log_decay
""",
    "dt_to_remember": """\
def dt_to_remember(steps, A):
    return math.log(2) / (-A * math.sqrt(steps * (steps + 1)))
""",
    "steps_since": """\
def steps_since(levels, log_decay):
    columns = torch.stack([torch.ones_like(log_decay), log_decay], dim=1)  # ln r, and t
    return torch.linalg.lstsq(columns, levels.log()[:, None]).solution[1, 0]
""",
    "kernel": """\
def kernel(log_decay, B, C, l):
    state, shown = B, []
    for _ in range(l):
        shown.append((C * state).sum())
        state = torch.exp(log_decay) * state
    return torch.stack(shown)
""",
    "convolution": """\
def convolution(x, weights):
    return torch.stack([(weights[: t + 1].flip(0) * x[: t + 1]).sum() for t in range(len(x))])
""",
    "toeplitz": """\
def toeplitz(weights):
    l = len(weights)
    matrix = torch.zeros(l, l)
    for s in range(l):
        matrix[s:, s] = weights[: l - s]
    return matrix
""",
    "as_mamba1": """\
def as_mamba1(dt, A, p, n):
    l, h = dt.shape
    return dt[:, :, None].expand(l, h, p).reshape(l, h * p), A[:, None, None].expand(h, p, n).reshape(h * p, n)
""",
    "segsum": """\
def segsum(log_decay):
    l = log_decay.shape[-1]
    rows = [torch.full(log_decay.shape, -torch.inf)]
    for t in range(l):  # the recurrence in logarithms: everything fades by one more decay, the new token not at all
        row = rows[-1] + log_decay[..., t : t + 1]
        rows.append(torch.where(torch.arange(l) == t, 0.0, row))
    return torch.stack(rows[1:], dim=-2)
""",
    "attention_matrix": """\
def attention_matrix(log_decay, B, C):
    return torch.einsum("...ts,...tn,...sn->...ts", decay_mask(log_decay), C, B)
""",
    "split_into_chunks": """\
def split_into_chunks(sequence, chunk_size):
    b, l, *rest = sequence.shape
    c = -(-l // chunk_size)
    chunks = sequence.new_zeros(b, c * chunk_size, *rest)
    chunks[:, :l] = sequence
    return chunks.view(b, c, chunk_size, *rest)
""",
    "left_behind": """\
def left_behind(x, log_decay, B):
    to_end = torch.exp(segsum(log_decay)[..., -1, :])
    return torch.einsum("...q,...qp,...qn->...pn", to_end, x, B)
""",
    "pass_between_chunks": """\
def pass_between_chunks(added, log_decay, initial_state):
    steps = torch.cat([torch.zeros_like(log_decay[..., :1]), log_decay], dim=-1)
    written = torch.cat([initial_state.unsqueeze(-3), added], dim=-3)  # the initial state is written first
    return torch.einsum("...zc,...cpn->...zpn", torch.exp(segsum(steps)), written)
""",
    "read_incoming": """\
def read_incoming(state, log_decay, C):
    return (torch.exp(log_decay.cumsum(dim=-1))[..., None] * C) @ state.mT
""",
    "split_projection": """\
def split_projection(projected, d_inner, nheads):
    return projected[..., :d_inner], projected[..., d_inner:-nheads], projected[..., -nheads:]
""",
    "causal_conv": """\
def causal_conv(x, weight, bias, window):
    inputs, width = torch.cat([window, x], dim=1), weight.shape[-1]
    mixed = sum(weight[:, 0, i] * inputs[:, i : i + x.shape[1]] for i in range(width))
    return F.silu(mixed if bias is None else mixed + bias)
""",
    "next_token_logits": """\
def next_token_logits(u, norm, table, vocab_size):
    return (norm(u) @ table.T)[..., :vocab_size]
""",
    "as_bits_per_byte": """\
def as_bits_per_byte(nats_per_token, bytes_per_token):
    return nats_per_token * math.log2(math.e) / bytes_per_token
""",
    "next_token_loss": """\
def next_token_loss(logits, ids):
    chances = logits[:, :-1].log_softmax(dim=-1)
    return -chances.gather(-1, ids[:, 1:, None]).mean()
""",
    "clip_gradients": """\
def clip_gradients(gradients, max_norm):
    norm = torch.linalg.vector_norm(torch.cat([gradient.flatten() for gradient in gradients]))
    return [gradient * (max_norm / norm).clamp(max=1.0) for gradient in gradients]
""",
    "keep_min_p": """\
def keep_min_p(logits, min_p):
    probabilities = logits.softmax(dim=-1)
    return torch.where(probabilities < min_p * probabilities.max(), -math.inf, logits)
""",
    "crossover": """\
def crossover(sizes, first, second):
    slower = [i for i, (one, other) in enumerate(zip(first, second, strict=True)) if other >= one]
    after = slower[-1] + 1 if slower else 0
    return sizes[after] if after < len(sizes) else None
""",
    "rotate_pairs": """\
def rotate_pairs(x, angle):
    s = angle.shape[-1]
    pairs = torch.view_as_complex(x[..., : 2 * s].unflatten(-1, (s, 2)).contiguous())
    turned = torch.view_as_real(pairs * torch.exp(1j * angle)).flatten(-2)
    return torch.cat([turned, x[..., 2 * s :]], dim=-1)
""",
    "turn_onto": """\
def turn_onto(B, C, angle):
    to_end = angle.flip(-2).cumsum(dim=-2).flip(-2) - angle  # of all later tokens: the state as it is at the end
    return rotate_pairs(B, to_end), rotate_pairs(C, to_end)
""",
}
