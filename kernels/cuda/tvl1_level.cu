// A level of TV-L1 that is a single tile -> its flow: all warps and iterations in one launch.
//
// A block processes one pair, with as many warps as its rows need, and keeps the fields in registers
// from the first warp to the end of the last one. Its threads share the pair's progress.
//
// Arguments: progress (N,), packed (N, height + 8, width + 8), first (N, height, stride), state
// (N, 2, height, FIELDS * stride), model (N, height, COEFFICIENTS * stride).
#include "tile.cuh"

extern "C" __global__ void __launch_bounds__(WARPS *LANES, 1)
    tvl1_level(Progress *progress, const float4 *packed, const float *first, float *state,
               float *model, int pairs, int height, int width, int stride, int sampling,
               float tau, float taut, float lt, int most, int block, int spaced, double enough) {
    __shared__ Shared shared;
    __shared__ Progress now;
    const int pair = blockIdx.z;
    if (pair >= pairs) return;
    const PixelPosition at = {(int)threadIdx.x, (int)threadIdx.y, 2 * (int)threadIdx.x,
                      ROWS * (int)threadIdx.y, height, width, 2 * (int)threadIdx.x < width,
                      0, height};
    const bool speaks = at.warp == 0 && at.lane == 0;
    if (speaks) {
        now = progress[pair];
        plan_step(shared, now, spaced, 0);
    }
    const size_t plane = (size_t)height * stride;
    packed += (size_t)pair * (height + 2 * BORDER) * (width + 2 * BORDER);
    first += pair * plane;
    state += (size_t)2 * pair * FIELDS * plane;
    model += pair * COEFFICIENTS * plane;
    Pixels p;
    __syncthreads();
    while (now.warps) {
        if (now.fresh) {
            // The fields go to memory that only this thread reads, since a warp needs the registers.
            if (now.total) store_fields(p, at, state, stride);
            warp(p, at, state, packed, first, stride, sampling);
            load_flow<true, FIELDS>(p, at, state, stride);
            load_duals<true>(p, at, state, stride);
            shared.above[at.warp][at.lane] = four(p.p12[ROWS - 1], p.p22[ROWS - 1]);
            __syncthreads();
        }
        run<true>(p, at, shared, {tau, taut, lt});
        __syncthreads();
        if (at.warp == 0) {
            double sums[ITERATIONS];
#pragma unroll
            for (int k = 0; k < ITERATIONS; k++) {
                const bool known = shared.checks >> k & 1 && at.lane < blockDim.y;
                sums[k] = warp_sum(known ? shared.changes[k][at.lane] : 0.f);
            }
            if (speaks) {
                advance(now, sums, shared.count, {most, block, spaced != 0, enough});
                plan_step(shared, now, spaced, 0);
            }
        }
        __syncthreads();
    }
    store_fields(p, at, state, stride);
    store_model(p, at, model, stride);
    if (speaks) progress[pair] = now;
}
