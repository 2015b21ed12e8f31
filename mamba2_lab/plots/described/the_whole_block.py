"""What is on the figures of notebook 06, and what to see in them."""

DESCRIBED = {
    "block_diagram": (
        "A diagram of the block from left to right. u goes into in_proj, which gives z, xBC and raw_dt. xBC goes "
        "through causal_conv, with its weight and its bias, and becomes x, B and C. raw_dt goes through step_size, "
        "with dt_bias, and becomes dt. discretise takes x, dt and A and gives x dt and the log decay. scan takes "
        "these, B and C and gives y. skip adds x times D to y, gated_rms_norm takes that, z and a weight, and "
        "out_proj gives out.",
        "Names in bold, shapes below them: batch and tokens first. What comes in from above or below is learned, and "
        "is the same for every token. Follow z: it passes by everything else.",
    ),
    "step_sizes": (
        "For each of eight heads a row of dots on a logarithmic axis of step sizes, one for each word, spread over "
        "one to four decades, and a tick at the head's own tempo. Most heads have dots on a dashed line at the "
        "limit, 0.3.",
        "Each head has a tempo of its own, the tick; each word speeds it up or slows it down. Nothing passes the "
        "limit.",
    ),
    "standing_still": (
        "How far the states of eight heads move along twelve tokens of padding. Read like text, all leave at once, "
        "some by more than their own size in the first three tokens, and settle near 1. With dt = 0 all stay at 0.",
        "At 1 nothing is left of the text. In the first three tokens the convolution still sees words and writes "
        "more; after that there is little but fading.",
    ),
    "cages": (
        "Six cages, each with a heat map of errors, 8 heads over 12 tokens, and below it bars: how much the output "
        "changes at each token when token 4 is exchanged. One map is dark before token 6, one is bright before token "
        "6 and its bars begin before token 4; two are made of bands, one for heads 0 to 3 and one for 4 to 7; two "
        "are patchworks, of which one is dark at token 0.",
        "A dotted line separates what was read at once from what was read word by word. Dark is right. Bars: how far "
        "each output moves when the word of the orange bar is exchanged.",
    ),
}
