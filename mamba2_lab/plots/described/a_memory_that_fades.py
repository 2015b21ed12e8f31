"""What is on the figures of notebook 01, and what to see in them."""

DESCRIBED = {
    "rain_and_level": (
        "Above, bars: the rain of 48 hours, a few showers. Below, bars: the level, which jumps with each shower and "
        "falls between them, fast at first and then ever more slowly.",
        "A shower lifts the level by its own height. Between showers the same share is lost in every hour, so less "
        "is lost as less is left.",
    ),
    "looks": (
        "The level over twelve hours as a curve, rising while it rains and falling after. Circles once an hour and "
        "dots four times an hour all lie on it.",
        "Whether we look once an hour or four times, we find the same level: decay and gain know their step.",
    ),
    "exact_and_simple": (
        "Left: the share kept, exp(dt A), falls from 1 towards 0; the straight line 1 + dt A falls below 0, to minus "
        "2. Right: the exact gain divided by dt falls from 1 to a third, Mamba-2's stays at 1. A band marks where "
        "heads begin.",
        "The simple gain writes too much when much fades in a step, up to twice as much where heads begin. What is "
        "kept stays exact, and 1 + dt A, on the left, is never used: we come back to it.",
    ),
    "fading": (
        "Bars falling from 1: the share of a shower that is left after 0 to 45 steps, with a line at one half. The "
        "bars at steps 20 and 21 are darker, and stand below the line.",
        "With dt = 0.1 and A = −1 half is lost before step 7: twenty steps are too many for this memory.",
    ),
    "barrels": (
        "Left: four straight lines falling on a logarithmic axis, the levels of four barrels over 60 steps. Right: "
        "the same levels over the barrels' log decay at 5, 20 and 50 steps, three straight lines, each steeper than "
        "the last.",
        "On a logarithmic axis everything is straight. On the right the slope of each line is the time that has "
        "passed, and where it would meet log decay 0 stands the size of the shower.",
    ),
    "explosions": (
        "Sizes of four states over 480 steps on a logarithmic axis. Two fall in straight lines, two rise in straight "
        "lines until they cross the largest number of float32.",
        "On a logarithmic axis growth is as straight as fading. Two states leave float32 although nothing came in "
        "after the first step.",
    ),
}
