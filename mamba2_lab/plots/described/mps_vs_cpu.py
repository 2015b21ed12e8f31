"""What is on the figures of notebook 12, and what to see in them."""

DESCRIBED = {
    "timeline": (
        "A timeline. A bar at the beginning, in which we ask; then one in which the queue computes. Stopwatch B "
        "spans the first, stopwatch C both.",
        "B has stopped before the work has gone far. It would say the same of a product ten times as large.",
    ),
    "repeats": (
        "Milliseconds of each call, in order. The first stands apart; the others lie in a band, some above it. Two "
        "level lines: their median and their mean.",
        "Nothing makes a call faster than the machine is, and many things make it slower.",
    ),
    "time_by_size: adding": (
        "Microseconds against the size of the tensor, both logarithmic: level for small tensors, then rising in "
        "proportion to the size.",
        "On the left we pay for asking, on the right for adding.",
    ),
    "roofline": (
        "A roofline: a line that rises with the operations for each byte, up to a level, and the parts of a layer. "
        "For a prompt, in_proj lies far right, the scan left of it, convolution and norm far left. For one token all "
        "parts lie on the left, where the line rises.",
        "Under the slope memory decides, under the level arithmetic. What lies far below both pays for something "
        "else: launching, or intermediate results that make more trips than were counted.",
    ),
    "time_by_size: scans": (
        "Microseconds against length for the sequential, the quadratic and the chunked scan, on logarithmic axes. "
        "The quadratic one becomes steeper with length, the others do not.",
        "Up to one chunk of 64 tokens the chunked way is the quadratic one, with some more to set up.",
    ),
    "ratio_map: here": (
        "A table of ratios, the time of the first over that of the second, for widths of a mixer down and numbers of "
        "tokens across.",
        "White is a tie. Orange: the second takes less time.",
    ),
    "ratio_map: server": (
        "The same kind of table for a server: the CPU's time over the GPU's, for widths of a mixer from 64 to 1,024, "
        "and for 1 to 512 tokens.",
        "Orange, where the GPU takes less, grows towards wide layers and many tokens.",
    ),
    "error_ledger": (
        "A table of relative errors: four ways to compute the scan, in float32, bfloat16 and float16. In float32 all "
        "are around 1e-7; in bfloat16 about 2e-3, in float16 about 2e-4, the same in every row.",
        "In 16 bits the error is the rounding of the result, and the same for all: the inside is float32.",
    ),
    "timings: one token": (
        "Milliseconds for one more token against the number of tokens before it, l, for a state and for a KV cache, "
        "with bands for the quartiles.",
        "A state asks for the same work after any text. A KV cache is read as a whole for each token.",
    ),
    "timings: machines": (
        "Times of the sweep `state` on this machine and on others, against length.",
        "Compare shapes before you compare heights: what is level here should be level everywhere.",
    ),
}
