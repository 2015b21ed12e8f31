// Each channel mixed with its last few values, of its own document; with SILU, silu of that. A thread for each channel of
// each token.

kernel void convolve(
    device const NUMBER* x         [[buffer(0)]],  // (b,length,channels), in rows that may lie further apart
    device const NUMBER* window    [[buffer(1)]],  // (b,WIDTH-1,channels), the inputs before it
    device const NUMBER* taps      [[buffer(2)]],  // (WIDTH,channels)
    device const NUMBER* bias      [[buffer(3)]],  // (channels)
    device const int* documents    [[buffer(4)]],  // (b,WIDTH-1+length), not read without PACKED
    device NUMBER* y               [[buffer(5)]],  // (b,length,channels)
    constant long& length          [[buffer(6)]],
    constant long& channels        [[buffer(7)]],
    constant long& stride          [[buffer(8)]],  // from row to row of x
    uint i [[thread_position_in_grid]])
{
    const long channel = long(i) % channels, row = long(i) / channels;
    const long t = row % length, first = (row / length) * length;  // the token, and the row of its sequence's first
    device const NUMBER* before = window + (row / length) * (WIDTH - 1) * channels;
    device const int* document = documents + (row / length) * (WIDTH - 1 + length) + t;
    float sum = float(bias[channel]);
    for (long tap = 0; tap < WIDTH; ++tap) {
        const long at = t + tap - (WIDTH - 1);  // of the input, from the first token on; below 0 it is in the window
        if (PACKED && document[tap] != document[WIDTH - 1]) continue;
        const NUMBER input = at < 0 ? before[(at + WIDTH - 1) * channels + channel] : x[(first + at) * stride + channel];
        sum = fma(float(input), float(taps[tap * channels + channel]), sum);
    }
    y[i] = NUMBER(SILU ? silu(sum) : sum);
}
