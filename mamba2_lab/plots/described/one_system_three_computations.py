"""What is on the figures of notebook 02, and what to see in them."""

DESCRIBED = {
    "echoes": (
        "Stacked bars over twelve hours: five showers, each with an echo that begins above zero and ends below it. A "
        "line with dots, their sum, is the output.",
        "Each colour is the echo of one shower: one and the same shape, scaled by the rain and begun when it fell. "
        "The output is the sum of what stands at each hour.",
    ),
    "three_computations": (
        "Three panels for hour 7. Bars: the levels of three barrels before and now. Bars of rain, with a scale "
        "on the left, and the kernel as a line, with one on the right, laid backwards from hour 7. A lower triangular "
        "matrix with row 7 framed. Each title gives the same output.",
        "Three ways to the same number. Look at what each needs: three levels, eight hours of rain, or a row of a "
        "matrix.",
    ),
    "multiply_adds_by_length": (
        "Multiply-adds against length on logarithmic axes for loop, convolution, matrix and FFT. At length 8 the "
        "convolution is lowest and the FFT highest; from length 32 on the loop is lowest. At 2,048 the matrix is "
        "highest, then the convolution, then the FFT.",
        "A cost that grows as the length is a line here, and one that grows as its square a line twice as steep. The "
        "FFT is nearly as flat as the loop.",
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
