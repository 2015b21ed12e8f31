"""What is on the figures of notebook 05, and what to see in them."""

DESCRIBED = {
    "chunk_steps: plan": (
        "A plan of the four steps. Blue squares on the diagonal of the table: inside. Below the table an orange "
        "strip: left behind by each chunk; three green strips: the state after each chunk. Pink areas below the "
        "diagonal and pink strips to the right: what each word reads of the state that came in.",
        "Rows read, columns were written. The strips below have a row for things and one for events. Every step "
        "fills in the parts of its colour.",
    ),
    "chunk_steps: whole": (
        "The plan from above, filled in. Blue: fell reads snow, then reads fell, it and melted read it, and so on in "
        "each chunk. Orange and green strips hold what is left of each word. Pink: it and melted read snow, grew and "
        "green read snow and it faintly, again reads fell and melted.",
        "Take a pink cell of the table, such as it and snow: 0.36. Its row at the right has 0.90 for things, its "
        "column in the strip of the chunk before 0.40: their product is its value.",
    ),
    "costs: by length": (
        "Two panels against length, on logarithmic axes. Counted: the loop lowest, chunks a little above and "
        "parallel to it, quadratic steeper and far above in the end. Measured: the loop is far above the chunks at "
        "every length, and quadratic crosses upward.",
        "The loop does the least arithmetic and takes long all the same: each of its steps is too small to keep the "
        "machine busy.",
    ),
    "costs: by chunk size": (
        "Two panels against chunk size. Counted: rises with the size. Measured: a valley, slow for tiny chunks and "
        "for very large ones.",
        "Tiny chunks make many small products and many steps from chunk to chunk; huge ones make attention over far "
        "too many pairs.",
    ),
    "errors_after_a_cut": (
        "Relative error against tokens since the cut, on a logarithmic axis. One suspect's falls steeply over the "
        "first three tokens and then slowly; the other's slowly from the first token on. A dotted line halves every "
        "16 tokens.",
        "A line that halves every 16 tokens is straight here.",
    ),
}
