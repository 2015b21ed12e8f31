"""What is on the figures of notebook 03, and what to see in them."""

DESCRIBED = {
    "held_at_end": (
        "Three rising curves over the ten words: what is held at the end with three fixed dt. Each rises from the "
        "first word to the last. Three words are marked: Oslo, nine, four.",
        "Whatever the fixed dt, a later word is held better than an earlier one. The memory knows how long ago a "
        "word was said. It does not know which word.",
    ),
    "painted_memory: fixed": (
        "Three panels with a row for each word. Left, bars of dt, 0.3 each. Middle, a table: what the state holds of "
        "the word after each word, fading from left to right. Right, bars: what is held at the end, with lines where "
        "it should be.",
        "A row of the table is the life of one word: empty before it is said, darkest when it is written, then "
        "fading. Its last column is drawn again on the right.",
    ),
    "painted_memory: painted": (
        "The same figure: dt is 0 but at Oslo, nine and four, with the longest time at Oslo. At the end the state "
        "holds 0.5 of each of the three and nothing of the others.",
        "The earliest word is written strongest, for two more will fade it. Between marked words the rows stay as "
        "they are: time stands still.",
    ),
    "kept_over_a_line": (
        "Above, two bars for each word of the sentence: dt is 0 and the decay 1, but at Oslo, nine and four dt is "
        "0.69 and the decay one half. Below, three rows of colour over a line of Python: bright where a head keeps, "
        "dark where it forgets.",
        "Above: the times that we set. Below: nobody set these. The heads differ in where they forget, and in how "
        "much they keep elsewhere: the lowest and the middle value of each are printed above.",
    ),
    "recall_by_length": (
        "Right answers against length, on a logarithmic axis. The memory that sees its input is near 100 % and falls "
        "little with longer gaps; the blindfolded one lies near the level of a guess between the two, or below it.",
        "Blindfolded, it finds out which two symbols were shown and guesses their order. The one that sees is nearly "
        "always right, and gaps longer than it was trained on do it little harm.",
    ),
    "decay_tables": (
        "Two tables of colour, 64 channels by 16 entries: what fades at one token. For Mamba-1 every row and every "
        "column differs. For Mamba-2 there are two bands of one colour each.",
        "Left, every entry of the state fades by an amount of its own. Right, one colour for each head: a single "
        "number says it for all of its entries.",
    ),
    "two_step_sizes": (
        "A cloud of points on logarithmic axes, dt with the bias added twice against dt with the bias added once. "
        "Nearly all of it lies below the dashed line where both are equal.",
        "Each point is one head of the first layer at one byte. The bands are heads, each shifted by its own bias. "
        "The further a point lies below the line, the less time passes.",
    ),
}
