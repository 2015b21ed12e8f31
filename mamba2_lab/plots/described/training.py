"""What is on the figures of notebook 08, and what to see in them."""

DESCRIBED = {
    "learning_curve": (
        "Line chart: bits per byte against the step. It falls steeply at first, then ever more slowly, past the lines "
        "of the frequencies and of the 5-gram. Dots: two held-out files, close to the curve.",
        "Most is gained in the first steps. The curve trembles because each batch is another text.",
    ),
    "learning_rates": (
        "Left, training loss over 400 steps for seven learning rates; the slowest falls slowly, the fastest first "
        "rises. Right, bits per byte on held-out files against the learning rate: a valley with its bottom in the "
        "middle.",
        "Too slow wastes the time; too fast is worse. The valley is flat at the bottom: a factor of three matters "
        "little there, a factor of ten a lot.",
    ),
    "rate_and_norm": (
        "Left, the learning rate: up in a line, down along a cosine. Right, the gradient's norm, on a log scale: "
        "above the dashed limit at first, then below it.",
        "A gradient that suddenly grows, or a norm that falls to nothing, is the first sign of trouble.",
    ),
    "comparison": (
        "Bar chart of bits per byte on held-out files: compressors, a 5-gram, and trained models, the worst on top.",
        "Blue were trained, grey only count or compress. The 5-gram here has counted all training files.",
    ),
    "rounded_memories": (
        "Two charts of what is left of 1 over 1500 steps. Decay 0.999: in float32 it fades, with decay or state in "
        "bfloat16 it stays at 1. Decay 0.997: with the decay rounded it fades faster, with the state rounded it "
        "stops.",
        "If a step changes the state by less than half the distance to the next number, rounding undoes it.",
    ),
    "losses: 16 bits": (
        "Three loss curves over the steps: float32 and mixed precision lie on each other, all in bfloat16 stays above.",
        "Mixed precision costs nothing that one could see. Weights in 16 bits do.",
    ),
    "kept_for_gradients": (
        "Line chart: memory kept for the gradients against the number of blocks. It grows steeply where everything "
        "is kept, and hardly where only the inputs of blocks are.",
        "In the backward pass the inside of one block at a time comes on top of the lower line.",
    ),
    "recall_curves: convolution": (
        "Share of right answers against the step. Two curves stay at a guess for a hundred steps and then jump to "
        "100 %; the third stays at a guess.",
        "For a long time nothing seems to happen; then all questions are answered within a few dozen steps.",
    ),
    "gradient_errors": (
        "Bar chart: the relative error of the gradient of each of four blocks. Above 100 % in the first three, 0 in "
        "the last.",
        "An error of 100 % is what no gradient at all would have.",
    ),
    "losses: a checkpoint broken": (
        "Two loss curves. Both fall; the one with wrong gradients ends higher.",
        "The table and the last block still learn, so the loss falls.",
    ),
    "losses: mistakes": (
        "Five loss curves over the steps. All fall; three lie on each other, two lie a little higher.",
        "All of them learn. Two of the four cannot be told from the right one.",
    ),
    "recall_curves: fading": (
        "Share of right answers against the step. The right model and the one where nothing fades jump to 100 %, the "
        "latter later; the two that forget at once stay at a guess.",
        "Where everything fades at once nothing is recalled. Where nothing fades, it is.",
    ),
    "recall_curves: two questions": (
        "Share of right answers against the step. The right model reaches 100 %, the one where nothing fades stays "
        "far below.",
        "The state still holds what the first question needed, and nothing says which of the two is newer.",
    ),
}
