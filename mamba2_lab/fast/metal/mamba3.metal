// One token of a Mamba-3 between its two matrices. A group of threads for each head of each row: a simdgroup normalises
// one B or C after another, pairs of their channels are rotated, then a simdgroup turns one row of the state after
// another, its lanes side by side along n; and at the end the group normalises and gates what was read.

constant uint INNER = HEADS * HEADDIM, FACTORS = RANKS * GROUPS * STATE;
constant uint PROJECTED = 2 * INNER + 2 * FACTORS + 3 * HEADS + ANGLES;

inline float sigmoid(float x) { return 1.0f / (1.0f + precise::exp(-x)); }

inline float positive(float x) { return HEAVY_TAIL ? max(x, 0.0f) + 1.0f / (1.0f - min(x, 0.0f)) : softplus(x); }

kernel void token_of_mamba3(
    device const NUMBER* projected [[buffer(0)]],   // (b,PROJECTED): z, x, B, C, dt, A, trap, angle
    device const float* memory     [[buffer(1)]],   // (b,HEADS,HEADDIM,STATE)
    device const float* turns      [[buffer(2)]],   // (b,HEADS,ANGLES)
    device const float* last_k     [[buffer(3)]],   // (b,HEADS,RANKS,STATE)
    device const float* last_x     [[buffer(4)]],   // (b,HEADS,HEADDIM)
    device const NUMBER* dt_bias   [[buffer(5)]],   // (HEADS)
    device const NUMBER* D         [[buffer(6)]],   // (HEADS)
    device const NUMBER* B_bias    [[buffer(7)]],   // (HEADS,RANKS,STATE)
    device const NUMBER* C_bias    [[buffer(8)]],
    device const NUMBER* B_weight  [[buffer(9)]],   // (STATE)
    device const NUMBER* C_weight  [[buffer(10)]],
    device const NUMBER* mimo_x    [[buffer(11)]],  // (HEADS,RANKS,HEADDIM), these three not read without MIMO
    device const NUMBER* mimo_z    [[buffer(12)]],
    device const NUMBER* mimo_o    [[buffer(13)]],
    device const NUMBER* weight    [[buffer(14)]],  // (INNER), not read without NORM
    device NUMBER* y               [[buffer(15)]],  // (b,INNER)
    device float* memory_after     [[buffer(16)]],
    device float* turns_after      [[buffer(17)]],
    device float* k_after          [[buffer(18)]],
    device float* x_after          [[buffer(19)]],
    constant float& least          [[buffer(20)]],  // that -A is
    constant float& eps_of_B       [[buffer(21)]],
    constant float& eps_of_C       [[buffer(22)]],
    constant float& eps            [[buffer(23)]],  // of NORM
    uint group [[threadgroup_position_in_grid]],
    uint at    [[thread_position_in_threadgroup]],
    uint size  [[threads_per_threadgroup]],
    uint lane  [[thread_index_in_simdgroup]],
    uint lanes [[threads_per_simdgroup]],
    uint team  [[simdgroup_index_in_threadgroup]],
    uint teams [[simdgroups_per_threadgroup]])
{
    threadgroup float factors[2 * RANKS * STATE];  // k of all ranks, then q
    threadgroup float cosines[ANGLES];
    threadgroup float sines[ANGLES];
    threadgroup float outputs[RANKS * HEADDIM];
    const uint row = group / HEADS, head = group % HEADS, of = head / (HEADS / GROUPS);
    device const NUMBER* z = projected + ulong(row) * PROJECTED + head * HEADDIM;
    device const NUMBER* x = z + INNER;
    device const NUMBER* raw = projected + ulong(row) * PROJECTED + 2 * INNER;  // B, C and what follows
    device const NUMBER* by_head = raw + 2 * FACTORS + head;

    const float dt = softplus(float(by_head[0]) + float(dt_bias[head]));
    const float lost = expm1_of(-dt * max(positive(float(by_head[HEADS])), least));
    const float trap = float(by_head[2 * HEADS]);
    const float gamma = sigmoid(trap) * dt, beta = (1.0f + lost) * sigmoid(-trap) * dt;

    for (uint s = at; s < ANGLES; s += size) {
        const float speed = 0.5f * precise::tanh(float(raw[2 * FACTORS + 3 * HEADS + s]));
        const float sum = fma(dt, speed, turns[ulong(group) * ANGLES + s]);
        const float turn = sum - rint(sum);
        turns_after[ulong(group) * ANGLES + s] = turn;
        cosines[s] = precise::cos(6.283185307f * turn);
        sines[s] = precise::sin(6.283185307f * turn);
    }
    for (uint i = team; i < 2 * RANKS; i += teams) {
        const bool is_k = i < RANKS;
        const uint rank = i % RANKS, first = (head * RANKS + rank) * STATE;
        device const NUMBER* part = raw + (is_k ? 0 : FACTORS) + (rank * GROUPS + of) * STATE;
        float squares = 0.0f;
        for (uint n = lane; n < STATE; n += lanes) squares = fma(float(part[n]), float(part[n]), squares);
        const float scale = precise::rsqrt(simd_sum(squares) / float(STATE) + (is_k ? eps_of_B : eps_of_C));
        for (uint n = lane; n < STATE; n += lanes) {
            const float weighted = float(part[n]) * scale * float(is_k ? B_weight[n] : C_weight[n]);
            factors[i * STATE + n] = weighted + float(is_k ? B_bias[first + n] : C_bias[first + n]);
        }
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);

    for (uint i = at; i < 2 * RANKS * ANGLES; i += size) {
        const uint s = i % ANGLES, first = i / ANGLES * STATE;
        const uint one = first + (MIMO ? s : 2 * s), other = first + (MIMO ? s + STATE / 2 : 2 * s + 1);
        const float a = factors[one], b = factors[other];
        factors[one] = a * cosines[s] - b * sines[s];
        factors[other] = a * sines[s] + b * cosines[s];
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);

    device const float* k_before = last_k + ulong(group) * RANKS * STATE;
    for (uint i = at; i < RANKS * STATE; i += size) k_after[ulong(group) * RANKS * STATE + i] = factors[i];
    for (uint p = team; p < HEADDIM; p += teams) {
        const float before = last_x[ulong(group) * HEADDIM + p], now = float(x[p]);
        const ulong first = (ulong(group) * HEADDIM + p) * STATE;
        float read[RANKS];
        for (uint r = 0; r < RANKS; ++r) read[r] = 0.0f;
        for (uint n = lane; n < STATE; n += lanes) {
            const float old = memory[first + n];
            float next = fma(old, lost, old);
            for (uint r = 0; r < RANKS; ++r) {
                const float share = MIMO ? float(mimo_x[(head * RANKS + r) * HEADDIM + p]) : 1.0f;
                next = fma(beta * share * before, k_before[r * STATE + n], next);
                next = fma(gamma * share * now, factors[r * STATE + n], next);
            }
            memory_after[first + n] = next;
            for (uint r = 0; r < RANKS; ++r) read[r] = fma(next, factors[(RANKS + r) * STATE + n], read[r]);
        }
        for (uint r = 0; r < RANKS; ++r) {
            const float share = MIMO ? float(mimo_x[(head * RANKS + r) * HEADDIM + p]) : 1.0f;
            const float sum = simd_sum(read[r]);
            if (lane == 0) outputs[r * HEADDIM + p] = fma(float(D[head]), share * now, sum);
        }
        if (lane == 0) x_after[ulong(group) * HEADDIM + p] = now;
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);

    float scales[RANKS];
    for (uint r = 0; r < RANKS; ++r) {
        float squares = 0.0f;
        for (uint i = r * HEADDIM + lane; i < (r + 1) * HEADDIM; i += lanes) {
            squares = fma(outputs[i], outputs[i], squares);
        }
        scales[r] = NORM ? precise::rsqrt(simd_sum(squares) / float(HEADDIM) + eps) : 1.0f;
    }
    for (uint p = at; p < HEADDIM; p += size) {
        float sum = 0.0f;
        for (uint r = 0; r < RANKS; ++r) {
            const uint place = (head * RANKS + r) * HEADDIM + p;
            const float gate = silu(MIMO ? float(z[p]) * float(mimo_z[place]) : float(z[p]));
            const float weighted = NORM ? scales[r] * float(weight[head * HEADDIM + p]) : 1.0f;
            const float normed = outputs[r * HEADDIM + p] * weighted;
            sum = fma(normed * gate, MIMO ? float(mimo_o[place]) : 1.0f, sum);
        }
        y[ulong(group) * HEADDIM + p] = NUMBER(sum);
    }
}
