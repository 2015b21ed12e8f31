// One token of a Mamba-2 between its two matrices. A group of threads for each head of each row: it convolves the head's
// x and its group's B and C, then a simdgroup turns one row of the state after another, its lanes side by side along n.

constant uint INNER = HEADS * HEADDIM, CHANNELS = INNER + 2 * GROUPS * STATE, WINDOW = WIDTH - 1;
constant uint PROJECTED = INNER + CHANNELS + HEADS;

kernel void token_of_mamba2(
    device const NUMBER* projected [[buffer(0)]],   // (b,PROJECTED): z, x, B, C, dt
    device const NUMBER* window    [[buffer(1)]],   // (b,WINDOW,CHANNELS), oldest first
    device const float* memory     [[buffer(2)]],   // (b,HEADS,HEADDIM,STATE)
    device const NUMBER* taps      [[buffer(3)]],   // (CHANNELS,WIDTH)
    device const NUMBER* bias      [[buffer(4)]],   // (CHANNELS), not read without BIAS
    device const NUMBER* dt_bias   [[buffer(5)]],   // (HEADS)
    device const NUMBER* A_log     [[buffer(6)]],   // (HEADS)
    device const NUMBER* D         [[buffer(7)]],   // (HEADS)
    device float* y                [[buffer(8)]],   // (b,INNER)
    device NUMBER* window_after    [[buffer(9)]],
    device float* memory_after     [[buffer(10)]],
    constant float& least_dt       [[buffer(11)]],
    constant float& most_dt        [[buffer(12)]],
    uint group [[threadgroup_position_in_grid]],
    uint at    [[thread_position_in_threadgroup]],
    uint size  [[threads_per_threadgroup]],
    uint lane  [[thread_index_in_simdgroup]],
    uint lanes [[threads_per_simdgroup]],
    uint team  [[simdgroup_index_in_threadgroup]],
    uint teams [[simdgroups_per_threadgroup]])
{
    threadgroup float convolved[HEADDIM + 2 * STATE];  // x, B, C
    const uint row = group / HEADS, head = group % HEADS, of = head / (HEADS / GROUPS);
    device const NUMBER* inputs = projected + ulong(row) * PROJECTED + INNER;
    device const NUMBER* before = window + ulong(row) * WINDOW * CHANNELS;
    device NUMBER* after = window_after + ulong(row) * WINDOW * CHANNELS;

    for (uint i = at; i < HEADDIM + 2 * STATE; i += size) {
        uint channel = head * HEADDIM + i;
        if (i >= HEADDIM) channel = INNER + of * STATE + (i - HEADDIM);  // of B
        if (i >= HEADDIM + STATE) channel += (GROUPS - 1) * STATE;  // of C, which begins behind the B of all groups
        const bool is_mine = i < HEADDIM || head % (HEADS / GROUPS) == 0;  // heads of a group share its B and C
        float sum = BIAS ? float(bias[channel]) : 0.0f;
        for (uint tap = 0; tap < WIDTH; ++tap) {
            const NUMBER input = tap < WINDOW ? before[tap * CHANNELS + channel] : inputs[channel];
            sum = fma(float(input), float(taps[channel * WIDTH + tap]), sum);
            if (is_mine && tap > 0) after[(tap - 1) * CHANNELS + channel] = input;
        }
        convolved[i] = SILU ? silu(sum) : sum;
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);

    const float raw = float(inputs[CHANNELS + head]) + float(dt_bias[head]);
    const float dt = clamp(softplus(raw), least_dt, most_dt);
    const float lost = expm1_of(-dt * precise::exp(float(A_log[head])));
    const float skip = float(D[head]);
    for (uint p = team; p < HEADDIM; p += teams) {
        const float x = convolved[p], written = x * dt;
        const ulong first = (ulong(group) * HEADDIM + p) * STATE;
        float read = 0.0f;
        for (uint n = lane; n < STATE; n += lanes) {
            const float old = memory[first + n];
            const float kept = fma(old, lost, old);  // not old * exp(a): a decay near 1 would be rounded in each step
            const float next = fma(written, convolved[HEADDIM + n], kept);
            memory_after[first + n] = next;
            read = fma(next, convolved[HEADDIM + STATE + n], read);
        }
        read = simd_sum(read);
        if (lane == 0) y[ulong(group) * HEADDIM + p] = fma(skip, x, read);
    }
}
