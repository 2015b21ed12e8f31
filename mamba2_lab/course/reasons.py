"""What `solution()` tells beside the reference: why it is as it is."""

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
    "read_back": (
        "The state is the sum of all pairs and does not know them apart. What a key reads is its value, times its own "
        "length squared, and of each other value as much as the two keys overlap."
    ),
    "expected_error": (
        "A random overlap has the mean square 1 / n, and errors in random directions add up in squares. So it is the "
        "ratio of pairs to columns that counts, not either of them."
    ),
    "exact_queries": (
        "The queries lie where the keys lie, so m numbers for each are enough, and the inverse of the overlaps undoes "
        "them. With more keys than columns that table has no inverse: that is the limit."
    ),
    "attend": (
        "The exponential makes a small lead in overlap a large one in weight, and nothing was added up before the "
        "question came. So each pair can still be told from the others."
    ),
    "bits_by_position": "Sums over sums again: bits and bytes of a stretch are added up first, then divided.",
    "stack_bytes": "Only one of the two terms has l in it. How fast a stack grows is up to its attention layers alone.",
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
    "tensor_of": (
        "Where a tensor begins is known before anything is read, so one tensor of a large file costs no more than "
        "itself. And a header of JSON and numbers in a row have nothing that could be run."
    ),
    "read_off": (
        "Sizes stand in the shapes, and again in the config. A reader that compares the two before it reads a number "
        "finds a damaged file, or a wrong config, while it still costs nothing."
    ),
    "suspects": (
        "A list of what is forbidden is never complete; a list of what is allowed can be short, for tensors need few "
        "names. And what names itself only while it runs cannot be on it."
    ),
    "disagreement": (
        "Softmax does not see what all logits have in common, only how far they lie apart. So their spread is the "
        "measure, and the largest difference is the one that could change a token."
    ),
    "half_lives_stored": (
        "Half is left when exp(-t exp(A_log) dt) = 1/2. Logarithm and softplus are there so that training can move "
        "both numbers anywhere, and A stays negative and dt positive all the same."
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
