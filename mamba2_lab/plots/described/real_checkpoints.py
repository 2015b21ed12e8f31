"""What is on the figures of notebook 14, and what to see in them."""

DESCRIBED = {
    "where_it_lies": (
        "A file from its first byte to its last. The header is a sliver at the beginning. Behind it lie the "
        "embedding in one piece, and the tensors of the layers one after another, large matrices and, hardly to be "
        "seen between them, small vectors.",
        "Each bar is a tensor. The projections take nearly all of the room.",
    ),
    "half_lives_by_model": (
        "Half-lives of the heads of several models, sorted, on a logarithmic axis. A fresh model's rise evenly from "
        "less than one token to several hundred. Those of the trained models reach further up.",
        "On the left: heads that forget within a word. On the right: those that carry a fact over a page.",
    ),
}
