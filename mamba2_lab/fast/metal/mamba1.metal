// One token of a Mamba-1 behind its convolution: the step sizes, the turn of the recurrence, the skip and the gate. A
// simdgroup for each channel of each row, its lanes side by side along the rank of the step sizes, then along n.

// What makes the rms of a few numbers 1: each lane of a simdgroup looks at some.
inline float scale_of(device const NUMBER* numbers, uint count, float eps, uint lane)
{
    float squares = 0.0f;
    for (uint i = lane; i < count; i += 32) squares = fma(float(numbers[i]), float(numbers[i]), squares);
    return precise::rsqrt(simd_sum(squares) / float(count) + eps);
}

kernel void token_of_mamba1(
    device const NUMBER* x         [[buffer(0)]],   // (b,CHANNELS), convolved
    device const NUMBER* z         [[buffer(1)]],   // (b,CHANNELS), in rows that may lie further apart
    device const NUMBER* chosen    [[buffer(2)]],   // (b,RANK+2*STATE): what step sizes are made from, B, C
    device const float* memory     [[buffer(3)]],   // (b,CHANNELS,STATE)
    device const NUMBER* to_steps  [[buffer(4)]],   // (CHANNELS,RANK)
    device const NUMBER* dt_bias   [[buffer(5)]],   // (CHANNELS)
    device const NUMBER* A_log     [[buffer(6)]],   // (CHANNELS,STATE)
    device const NUMBER* D         [[buffer(7)]],   // (CHANNELS)
    device NUMBER* y               [[buffer(8)]],   // (b,CHANNELS)
    device float* memory_after     [[buffer(9)]],
    constant long& rows            [[buffer(10)]],
    constant long& stride          [[buffer(11)]],  // from row to row of z
    constant float& eps            [[buffer(12)]],  // of the norms that RMS asks for
    uint group [[threadgroup_position_in_grid]],
    uint lane  [[thread_index_in_simdgroup]],
    uint team  [[simdgroup_index_in_threadgroup]],
    uint teams [[simdgroups_per_threadgroup]])
{
    const uint i = group * teams + team, row = i / CHANNELS, channel = i % CHANNELS;
    if (row >= uint(rows)) return;
    device const NUMBER* few = chosen + ulong(row) * (RANK + 2 * STATE);
    device const NUMBER* B = few + RANK;
    device const NUMBER* C = B + STATE;
    float raw = 0.0f, size_of_B = 1.0f, size_of_C = 1.0f;
    for (uint r = lane; r < RANK; r += 32) raw = fma(float(few[r]), float(to_steps[channel * RANK + r]), raw);
    raw = simd_sum(raw);
    if (RMS) {
        raw *= scale_of(few, RANK, eps, lane);
        size_of_B = scale_of(B, STATE, eps, lane);
        size_of_C = scale_of(C, STATE, eps, lane);
    }
    const float dt = softplus(raw + float(dt_bias[channel]));
    const float input = float(x[i]), written = input * dt * size_of_B;
    const ulong first = ulong(i) * STATE;
    float read = 0.0f;
    for (uint n = lane; n < STATE; n += 32) {
        const float old = memory[first + n];
        const float lost = expm1_of(-dt * precise::exp(float(A_log[channel * STATE + n])));
        const float next = fma(written, float(B[n]), fma(old, lost, old));
        memory_after[first + n] = next;
        read = fma(next, float(C[n]), read);
    }
    read = simd_sum(read) * size_of_C;
    if (lane == 0) {
        const float gate = float(z[long(row) * stride + channel]);
        y[i] = NUMBER(fma(float(D[channel]), input, read) * silu(gate));
    }
}
