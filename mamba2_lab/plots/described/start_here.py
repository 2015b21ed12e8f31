"""What is on the figures of notebook 00, and what to see in them."""

DESCRIBED = {
    "course_map": (
        "Map of the course: fifteen cards in six rows, Begin, Memory, Algorithm, Model, Use and Further. On each a bar "
        "tells how many of its exercises are passed.",
        "Each row needs the rows above it.",
    ),
    "state_changes": (
        "Above, bars: the surprise of each byte written. Below, a heat map of 64 heads over the same bytes: the "
        "share of each head's state that the byte replaced, from steady heads at the top to restless ones below.",
        "Steady heads, at the top, carry what they hold far along the text; restless ones, below, replace much of "
        "theirs at every byte. Look at what the steady ones do where a string or a line begins or ends.",
    ),
}
