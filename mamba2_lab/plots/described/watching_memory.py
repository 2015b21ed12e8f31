"""What is on the figures of notebook 10, and what to see in them."""

DESCRIBED = {
    "half_lives": (
        "A dot for each head: its half-life at rest across, that on the text upwards, both logarithmic; and a "
        "diagonal. Dots have a colour and a shape for each kind. The three heads that we follow are ringed.",
        "On the line A alone would tell the truth. The further below it, the more it promises too much.",
    ),
    "losses_by_token": (
        "Three rows of bars over the same bytes of the text: the part of the state that is lost at each, for the "
        "short, the long and the reset-like head.",
        "Each bar is a part of all that the head remembers. Mind the scales: each row has its own.",
    ),
    "fading_pair": (
        "Above, what is left of the pair at each of the next 48 bytes: it falls, here and there in steps. Below, how "
        "much of the value each byte reads, bars that shrink as the pair fades. Dots, the measurement, sit on their "
        "ends.",
        "That it is still there does not mean that it is read: that is up to each byte's C. Below 0 it is read with "
        "a minus.",
    ),
    "signed_maps": (
        "Three triangular maps of the same bytes, sources across, targets downwards, in colours of both signs around "
        "white: hidden attention without dt, with dt, and each byte's share of the output with convolution and skip.",
        "Compare columns from the first map to the second: dt decides what was written at all. In the third the "
        "diagonal has D, and its neighbours the convolution. Sources before this stretch are left out of the picture "
        "only.",
    ),
    "gate_openers": (
        "Four panels, a dot with an interval for each of ten classes of bytes: how much faster a head fades there "
        "than on average. Three panels are heads, the fourth a control with shuffled classes, whose dots are near 1.",
        "Lines are 95 % intervals over files. In the control there is nothing to find: what it shows is chance.",
    ),
    "head_effects": (
        "Four tables of layers by heads, a colour for the size of the change, from 0 up: for the depth of the next "
        "line and for the quote that ends a string, the states of the other text and those of the control.",
        "Size of the mean over all texts. For each task there is one head that does most.",
    ),
    "probe_scores": (
        "Three panels, one for each question: the part of held-out bytes that a probe labels rightly, against the "
        "layer. Lines with bands for states, for the last four bytes, and for shuffled labels.",
        "Bands run from the worst to the best way to split the files. Files differ: one may be a single long string.",
    ),
    "reaches": (
        "The share of all influence that comes from further back than a distance, against that distance, for the "
        "trained and for an untrained model, and a line where the windows end.",
        "Without its states a model could hear nothing to the right of the line.",
    ),
    "film_strip": (
        "The state of the head as a heatmap after each of six bytes, on one scale with zero in its middle: two "
        "before the one at which it loses most, that one, and three after it.",
        "Each column is a place of the key, each row one of the value. White is zero.",
    ),
    "strengths": (
        "Four rows of bars over the bytes around that one, of the reset-like head: step size, decay, size of what is "
        "written, and of what is read.",
        "Where the step size is large, the decay is small: that is one thing, not two.",
    ),
}
