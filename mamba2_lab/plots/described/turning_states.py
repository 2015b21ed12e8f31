"""What is on the figures of notebook 13, and what to see in them."""

DESCRIBED = {
    "one_way": (
        "Three memories, each in a panel: what stands in it after one to eight presses, and a dashed threshold. Each "
        "curve goes one way and crosses its threshold once at most. Blue dots are right, red crosses wrong: the first "
        "cross comes after one press, after two, and after three.",
        "Whatever the memory, it moves one way. Odd and even lie on both sides of a threshold by turns.",
    ),
    "hands: counting": (
        "Two rows of dials, one dial after each bit, filled where the bit is a press. Modulo 2 the hand points right "
        "or left, and turns to the other side at each press. Modulo 3 it goes round in three places.",
        "A hand that points right: the count is back at 0.",
    ),
    "hands: learned": (
        "Two rows of dials of trained models, filled where the bit is a press. The hand of modulo 2 goes nearly to the "
        "other side at each press, that of modulo 3 nearly a third of the way round. Elsewhere both hardly move.",
        "Compare with the figure of above, which was made by hand. Where the hand begins does not matter.",
    ),
    "errors_by_step": (
        "Error against the length of a step, on logarithmic axes. Euler's rule and λ = 0.6 follow a line that halves "
        "with the step; the trapezoidal rule, a line twice as steep, and lies lowest.",
        "A slope on logarithmic axes is a power: 1 for all but λ = 1/2.",
    ),
    "surprise_by_position": (
        "Two panels, the surprise of the right answer against the bits read. Modulo 2: Mamba-2 and Mamba-3 without "
        "angles rise to the line of a guess after a few bits and stay there; Mamba-3 stays near 0. Modulo 3: the same "
        "of Mamba-2 and Mamba-3.",
        "The first bits can be told without counting on. After them only a state that turns knows.",
    ),
    "errors_by_token": (
        "Relative error against token, on a logarithmic axis, for four suspects; a dotted line where the second "
        "document begins. Two are wrong nearly from the start and stay level. One grows within each document. One is "
        "nothing in the first document, jumps at the second start and fades.",
        "Look at the first token, at the slope within a document, and at the second start.",
    ),
    "roofline: ranks": (
        "A roofline of operations per second against operations for each byte, and three points for one token with 1, "
        "2 and 8 ranks. From rank to rank the points go to the right and upward, along the slanting roof of memory.",
        "Upward along the roof: more operations a second, though the time hardly grows.",
    ),
}
