// y silu(z), or with NORM_FIRST y alone, each part of a row divided by its own rms, times weight; with NORM_FIRST, times
// silu(z). A group of threads for each part.

kernel void gate_and_normalise(
    device const float* y          [[buffer(0)]],  // (rows,d)
    device const GATE* z           [[buffer(1)]],  // (rows,d), in rows that may lie further apart
    device const NUMBER* weight    [[buffer(2)]],  // (d)
    device NUMBER* normalised      [[buffer(3)]],  // (rows,d)
    constant long& parts           [[buffer(4)]],  // of a row
    constant long& width           [[buffer(5)]],  // of a part
    constant long& stride          [[buffer(6)]],  // from row to row of z
    constant float& eps            [[buffer(7)]],
    uint group [[threadgroup_position_in_grid]],
    uint at    [[thread_position_in_threadgroup]],
    uint size  [[threads_per_threadgroup]],
    uint lane  [[thread_index_in_simdgroup]],
    uint team  [[simdgroup_index_in_threadgroup]],
    uint teams [[simdgroups_per_threadgroup]])
{
    threadgroup float partial[32];
    const ulong row = ulong(group) / ulong(parts), part = ulong(group) % ulong(parts);
    device const GATE* gate = z + row * ulong(stride) + part * ulong(width);
    const ulong first = ulong(group) * ulong(width);
    float squares = 0.0f;
    for (ulong i = at; i < ulong(width); i += size) {
        const float value = NORM_FIRST ? y[first + i] : y[first + i] * silu(float(gate[i]));
        squares = fma(value, value, squares);
    }
    const float scale = precise::rsqrt(sum_of_group(squares, partial, lane, team, teams) / float(width) + eps);
    for (ulong i = at; i < ulong(width); i += size) {
        const float gated = y[first + i] * silu(float(gate[i]));  // the factors of a product, in whatever order
        normalised[first + i] = NUMBER(gated * scale * float(weight[part * ulong(width) + i]));
    }
}
