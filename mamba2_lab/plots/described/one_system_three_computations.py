"""What is on the figures of notebook 02, and what to see in them."""

DESCRIBED = {
    "echoes": (
        "Stacked bars over twelve hours: five showers, each with an echo that begins above zero and ends below it. A "
        "line with dots, their sum, is the output.",
        "Each colour is the echo of one shower: one and the same shape, scaled by the rain and begun when it fell. "
        "The output is the sum of what stands at each hour.",
    ),
    "three_computations": (
        "Three panels for hour 7. Bars: the levels of three barrels before and now. Bars of rain with the kernel as "
        "a line, laid backwards from hour 7. A lower triangular matrix with row 7 framed. Each title gives the same "
        "output.",
        "Three ways to the same number. Look at what each needs: three levels, eight hours of rain, or a row of a "
        "matrix.",
    ),
    "costs_by_length": (
        "Two panels on logarithmic axes, cost against length for loop, convolution, matrix and FFT. Left, "
        "multiply-adds: from length 32 on the loop is lowest. Right, milliseconds on the machine that ran this "
        "notebook.",
        "The loop does the least arithmetic for a long sequence, and yet takes long: its steps wait for one another, "
        "and Python pays for each. The matrix, a single call, is quick while it is small; then its entries, the "
        "square of the length, weigh.",
    ),
    "matrices": (
        "Two lower triangular matrices. In the left one every diagonal has a single colour. In the right one the "
        "colours change at row 6: below it they fade quickly towards zero.",
        "Left: constant along each diagonal, so one kernel says it all. Right: from row 6 on everything written "
        "earlier fades faster. Still lower triangular, still a matrix.",
    ),
    "two_outputs": (
        "Bars: the rain. Two lines: the right output, and the one computed without zeros, which is below it in the "
        "first hours and meets it at hour 7.",
        "Without zeros the gauge is off from the first hour, before any rain has fallen, and right again once all "
        "the rain has fallen.",
    ),
}
