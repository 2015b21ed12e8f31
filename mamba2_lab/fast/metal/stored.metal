// A matrix stored in 8 or 4 bits times a few rows. A simdgroup for each row of the matrix, which it reads once, its lanes
// side by side along the columns.

kernel void multiply(
    device const NUMBER* x         [[buffer(0)]],  // (ROWS,columns), in rows that may lie further apart
    device const STORED* numbers   [[buffer(1)]],  // (height,columns), or (height,32 groups): two numbers to a byte
    device const SCALE* scales     [[buffer(2)]],  // (height), or (height,groups,2): scale and zero
    device const NUMBER* bias      [[buffer(3)]],  // (height), not read without BIAS
    device NUMBER* y               [[buffer(4)]],  // (ROWS,height)
    constant long& height          [[buffer(5)]],
    constant long& columns         [[buffer(6)]],
    constant long& bytes           [[buffer(7)]],  // of a row of the matrix
    constant long& stride          [[buffer(8)]],  // from row to row of x
    uint group [[threadgroup_position_in_grid]],
    uint lane  [[thread_index_in_simdgroup]],
    uint team  [[simdgroup_index_in_threadgroup]],
    uint teams [[simdgroups_per_threadgroup]])
{
    const long i = long(group) * long(teams) + long(team);
    if (i >= height) return;
    device const STORED* row = numbers + i * bytes;
    float sums[ROWS];
    for (uint r = 0; r < ROWS; ++r) sums[r] = 0.0f;
    for (long at = lane; at < bytes; at += 32) {
#if BITS == 8
        const float weight = float(row[at]) * float(scales[i]);
        for (uint r = 0; r < ROWS; ++r) sums[r] = fma(weight, float(x[long(r) * stride + at]), sums[r]);
#else
        const long part = at / 32;  // a group of 64 numbers lies in 32 bytes, and so one to a lane
        device const SCALE* scale = scales + (i * (bytes / 32) + part) * 2;
        const uint both = uint(row[at]);
        const long low = part * 64 + long(lane), high = low + 32;  // the columns
        const float first = fma(float(both & 15) - 8.0f, float(scale[0]), float(scale[1]));
        const float second = fma(float(both >> 4) - 8.0f, float(scale[0]), float(scale[1]));
        for (uint r = 0; r < ROWS; ++r) {
            device const NUMBER* input = x + long(r) * stride;
            if (low < columns) sums[r] = fma(first, float(input[low]), sums[r]);
            if (high < columns) sums[r] = fma(second, float(input[high]), sums[r]);
        }
#endif
    }
    for (uint r = 0; r < ROWS; ++r) {
        const float sum = simd_sum(sums[r]);
        if (lane == 0) y[long(r) * height + i] = NUMBER(BIAS ? sum + float(bias[i]) : sum);
    }
}
