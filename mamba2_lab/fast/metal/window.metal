// Each channel of a token mixed with its last few values, and what the next token will see of them. A thread for each
// channel of each row.

kernel void convolve_token(
    device const NUMBER* x         [[buffer(0)]],  // (b,channels), in rows that may lie further apart
    device const NUMBER* window    [[buffer(1)]],  // (b,WIDTH-1,channels), oldest first
    device const NUMBER* taps      [[buffer(2)]],  // (channels,WIDTH)
    device const NUMBER* bias      [[buffer(3)]],  // (channels), not read without BIAS
    device NUMBER* y               [[buffer(4)]],  // (b,channels)
    device NUMBER* window_after    [[buffer(5)]],
    constant long& channels        [[buffer(6)]],
    constant long& stride          [[buffer(7)]],  // from row to row of x
    uint i [[thread_position_in_grid]])
{
    const long row = long(i) / channels, channel = long(i) % channels;
    const long first = row * (WIDTH - 1) * channels + channel;  // of the window
    float sum = BIAS ? float(bias[channel]) : 0.0f;
    for (long tap = 0; tap < WIDTH; ++tap) {
        const NUMBER input = tap < WIDTH - 1 ? window[first + tap * channels] : x[row * stride + channel];
        sum = fma(float(input), float(taps[channel * WIDTH + tap]), sum);
        if (tap > 0) window_after[first + (tap - 1) * channels] = input;
    }
    y[i] = NUMBER(SILU ? silu(sum) : sum);
}
