"""What is on the figures of notebook 07, and what to see in them."""

DESCRIBED = {
    "model_map": (
        "Diagram: an arrow, the residual stream, runs from the table to a norm and the same table. Each block reads "
        "from the stream, through norm and mixer, and is added to it.",
        "Nothing stands in the way of the stream: blocks only add to it.",
    ),
    "expectations": (
        "Five bar charts: the five likeliest next bytes after five beginnings of the line, with their probabilities.",
        "Where a word begins much may come; inside a known word the rest is certain.",
    ),
    "logit_lens": (
        "Above, bars: the surprise of each byte of the line. Below, a grid: the likeliest next byte as read after "
        "each layer, coloured by the probability given to the byte that does follow.",
        "A cell is yellow where the byte of the next column is given a high probability. From which layer on can the "
        "word range be read?",
    ),
    "weight_shares": (
        "Stacked bars of eight models, small to 2.7b: the shares of embedding, in_proj, out_proj and all the rest.",
        "Nearly everything is in two projections. What makes it Mamba-2 (the convolution, dt, A, D, the gated norm) "
        "is in the last part, and it is tiny. The table weighs most where a model is narrow for its vocabulary.",
    ),
    "signal_through_depth": (
        "Two line charts over 64 layers, one line a model. Left, the stream: falling out of the chart without stream "
        "and norms, shooting up without norms, else steady. Right, the gradient: steady only with a stream and norms.",
        "Without norms the signal vanishes or explodes, depending on where it starts. Without a stream it looks "
        "healthy on the way forward, but on the way back (from right to left) the gradient explodes.",
    ),
    "memory_reach": (
        "Line chart: the change of the last logits against the distance of the changed byte, from 1 to 512. It falls "
        "slowly in two models, and steeply to nothing in the forgetful one.",
        "With dt_bias left at 1 no head remembers, and what the convolutions do not reach leaves no trace: what is "
        "below the chart is rounding. A model that was drawn properly hears even further once it is trained.",
    ),
}
