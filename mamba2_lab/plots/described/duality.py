"""What is on the figures of notebook 04, and what to see in them."""

DESCRIBED = {
    "word_tables: loop": (
        "A table of 6 by 6 words. Below the diagonal, fell reads 0.90 of snow, then reads 0.45 of fell, it reads "
        "0.36 of snow and 0.50 of itself, melted reads 0.33 of snow and 0.45 of it. All other cells are empty.",
        "Row t says what word t reads, column s who reads word s. Nobody reads a word that is still to come.",
    ),
    "word_tables: product": (
        "Three tables of 6 by 6 words. The decay mask fills the lower triangle, 1 on the diagonal and less further "
        "below. The match is 1 or 0.5 where a word asks for the column another was written in, also above the "
        "diagonal. Their product is the table that the loop gave.",
        "then asks for an event and matches melted as well, but melted comes later: the mask has a 0 there.",
    ),
    "word_tables: masks": (
        "Three decay masks. Nothing fades: all ones on and below the diagonal. As above: entries fall with distance. "
        "The full stop wipes: two triangles, one for the first two words and one for the last four, and zeros "
        "between.",
        "On the left the mask of a transformer. On the right two texts in one row that know nothing of each other.",
    ),
    "below_the_diagonal": (
        "Left: the rank of the block at each of 47 cuts. The recurrence stays at 4, the transformer rises to 24 in "
        "the middle and falls again. Right: singular values of the middle block. Those of the recurrence drop to "
        "1e-16 after the fourth, those of the transformer fall slowly.",
        "However long the text, what crosses a cut fits into n numbers for each channel. A softmax has no such limit.",
    ),
    "error_by_length": (
        "Two panels of relative error against length, on logarithmic axes. Scaling up and down is right for short "
        "texts, then marked NaN. Division by the decays to come rises from 1e-7 to nearly 1. Quadratic with a "
        "segment sum by difference rises slowly. Quadratic with segsum, and chunked, stay flat near 1e-7.",
        "Crosses are NaN. All five are equal on paper, and on the left hard to tell apart at 16 tokens.",
    ),
}
