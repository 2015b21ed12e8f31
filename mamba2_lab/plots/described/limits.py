"""What is on the figures of notebook 11, and what to see in them."""

DESCRIBED = {
    "interference": (
        "The squared error of what is read against the number of pairs in a state of 16 columns. Measured dots are "
        "on two predicted lines: one rises evenly from the start, the other stays at 0 up to 16 pairs and rises "
        "then, less and less steeply.",
        "Bars run from the least to the most of eight draws. The lower line is the best that any linear reading can "
        "do, with all keys known.",
    ),
    "recall: trained": (
        "The share of right answers against the number of pairs, for trained models of 4, 8 and 16 columns: each falls "
        "as pairs become more, the sooner the fewer columns there are. Dashed, what was predicted for random keys.",
        "Bands run from the lowest to the highest seed. Where a line is below its prediction at two pairs, room is not "
        "what is missing.",
    ),
    "recall: copying": (
        "The share of tokens foreseen against the length of the text, for medium: the second reading of a text in "
        "random order, and the first one as the control.",
        "The first reading cannot be foreseen, so what stands above it is recalled. Bands run over the draws of texts.",
    ),
    "recall: cure": (
        "The share of right answers against the number of pairs, with states of 4 columns. Mamba-2 under attention is "
        "near 100 % throughout; Mamba-2 twice falls as pairs become more; attention twice is low from the start.",
        "Bands run from the lowest to the highest seed. None was trained on 32 pairs.",
    ),
    "needle_by_distance": (
        "The bits that a needle takes against the number of tokens before the question: for the needle that stood in "
        "the text, and for one that did not. The lines meet as the distance grows.",
        "Where the two lines meet, nothing is left of the needle that could be asked for. Bands run over the needles.",
    ),
    "bits_along: small": (
        "Bits per byte of small against the position in the text, in steps that double: read from the beginning, and "
        "read with at most 1,024 tokens before each. A mark where its training ended.",
        "Both lines are of the same tokens: what one file is harder than another in, both share.",
    ),
    "bits_along: medium": (
        "Bits per byte of medium against the position in the text, in steps that double: read from the beginning, and "
        "read with at most 1,024 tokens before each. A mark where its training ended.",
        "Both lines are of the same tokens: what one file is harder than another in, both share.",
    ),
    "memory_by_length: stacks": (
        "Bytes kept against tokens read, both logarithmic: nine layers of attention rise from the start, a hybrid with "
        "one such layer stays level and rises late, and Mamba-2 stays level throughout.",
        "In the long run the hybrid costs a ninth of what attention everywhere costs.",
    ),
}
