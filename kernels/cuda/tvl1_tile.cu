// State of TV-L1 -> the state one step later, in tiles.
//
// A step is up to four iterations, after a warp if one is due. A tile has a halo of one pixel per
// iteration; each iteration invalidates the outermost pixels, and only the inside is written back:
//
//     | halo | 56 columns of this tile | halo |          the image's own border needs no halo
//                                | halo | the next one's 56 | halo |
//
// So one launch reads and writes a state once for several iterations. Tiles read one copy of the
// fields and write the other, since a neighbour may still need the old values. Every tile computes the
// model of its own halo, from the same flow.
#include "tile.cuh"

// Blocks per multiprocessor: with one a thread has 128 registers, with two 64.
#ifndef TILE_BLOCKS
#define TILE_BLOCKS 1
#endif

namespace {

constexpr int STEP = TILE - 2 * ITERATIONS;  // from one tile to the next

// Step of this block, in shared memory.
struct Step {
    int pair, side;
    bool fresh, filtered;
};

// Arrays of all pairs; see tvl1_tile for their shapes.
struct Arrays {
    const float4 *packed;
    const float *first;
    float *state, *model;
    const float *filtered;  // u and v after a median filter
};

// Returns one of the two copies of the fields of a pair, (height, FIELDS * stride).
__device__ __forceinline__ float *fields(float *state, size_t plane, int pair, int side) {
    return state + ((size_t)2 * pair + side) * FIELDS * plane;
}

// Loads all fields, and the model unless a warp has just computed it, and iterates.
template <bool EDGE>
__device__ __forceinline__ void load_and_run(Pixels &p, const PixelPosition &at, Shared &shared,
                                             const Arrays &arrays, const Step &step, int stride,
                                             const Constants &by) {
    const size_t plane = (size_t)at.height * stride;
    if (!step.fresh)
        load_model<EDGE>(p, at, arrays.model + step.pair * COEFFICIENTS * plane, stride);
    const float *in = fields(arrays.state, plane, step.pair, step.side);
    if (step.filtered)
        load_flow<EDGE, 2>(p, at, arrays.filtered + 2 * step.pair * plane, stride);
    else
        load_flow<EDGE, FIELDS>(p, at, in, stride);
    load_duals<EDGE>(p, at, in, stride);
    shared.above[at.warp][at.lane] = four(p.p12[ROWS - 1], p.p22[ROWS - 1]);
    __syncthreads();
    run<EDGE>(p, at, shared, by);
}

}  // namespace

// Runs a step of the pair of each slot; blockIdx.z is the slot. For a capacity of N pairs: progress (N,),
// queue (1,), slots (N,), packed (N, height + 8, width + 8), first (N, height, stride), state
// (N, 2, height, FIELDS * stride), model (N, height, COEFFICIENTS * stride), filtered
// (N, height, 2 * stride) or null, partial (N, tiles, ITERATIONS), the squared change of each tile.
// `every` is the number of iterations between two median filters, 0 for none.
extern "C" __global__ void __launch_bounds__(WARPS *LANES, TILE_BLOCKS)
    tvl1_tile(Progress *progress, Queue *queue, int *slots, const float4 *packed,
              const float *first, float *state, float *model, const float *filtered,
              float *partial, int height, int width, int stride, int sampling, float tau,
              float taut, float lt, int most, int block, int spaced, double enough, int every) {
    __shared__ Shared shared;
    __shared__ Step step;
    __shared__ int is_last;
    if (threadIdx.x == 0 && threadIdx.y == 0) {
        step.pair = slots[blockIdx.z];
        if (step.pair != NOBODY) {
            const Progress now = progress[step.pair];
            step.side = now.side;
            step.fresh = now.fresh;
            step.filtered = filter_due(now, every);
            plan_step(shared, now, spaced, every);
        }
    }
    __syncthreads();
    if (step.pair == NOBODY) return;

    const int left_edge = blockIdx.x * STEP, top_edge = blockIdx.y * STEP;
    const bool at_right = blockIdx.x == gridDim.x - 1, at_bottom = blockIdx.y == gridDim.y - 1;
    PixelPosition at;
    at.lane = threadIdx.x;
    at.warp = threadIdx.y;
    at.x = left_edge + 2 * at.lane;
    at.y = top_edge + at.warp * ROWS;
    at.height = height;
    at.width = width;
    const int own_left = blockIdx.x == 0 ? 0 : left_edge + ITERATIONS;
    const int own_right = at_right ? width : left_edge + TILE - ITERATIONS;
    at.own_top = blockIdx.y == 0 ? 0 : top_edge + ITERATIONS;
    at.own_bottom = at_bottom ? height : top_edge + TILE - ITERATIONS;
    at.own = at.x >= own_left && at.x < own_right;

    const Arrays arrays = {packed, first, state, model, filtered};
    const Constants by = {tau, taut, lt};
    Pixels p;
    const size_t plane = (size_t)height * stride;
    if (step.fresh) {
        const size_t image = (size_t)(height + 2 * BORDER) * (width + 2 * BORDER);
        warp(p, at, fields(state, plane, step.pair, step.side), packed + step.pair * image,
             first + step.pair * plane, stride, sampling);
        store_model(p, at, model + step.pair * COEFFICIENTS * plane, stride);
    }
    if (blockIdx.x == 0 || at_right || at_bottom)
        load_and_run<true>(p, at, shared, arrays, step, stride, by);
    else
        load_and_run<false>(p, at, shared, arrays, step, stride, by);
    store_fields(p, at, fields(state, plane, step.pair, 1 - step.side), stride);

    // The last block adds up the tiles' changes in a fixed order, so the sum, and where a pair stops,
    // do not depend on the order in which blocks run.
    const int tiles = gridDim.x * gridDim.y, tile = blockIdx.y * gridDim.x + blockIdx.x;
    float *shares = partial + (size_t)step.pair * tiles * ITERATIONS;
    __syncthreads();
    if (at.warp == 0) {
        for (int k = 0; k < shared.count; k++) {
            const bool known = shared.checks >> k & 1;
            const float share =
                warp_sum(known && at.lane < WARPS ? shared.changes[k][at.lane] : 0.f);
            if (at.lane == 0) shares[tile * ITERATIONS + k] = share;
        }
        __threadfence();
        if (at.lane == 0) is_last = atomicAdd(&progress[step.pair].arrived, 1) == tiles - 1;
    }
    __syncthreads();
    if (!is_last || at.warp != 0) return;
    __threadfence();
    double sums[ITERATIONS];
#pragma unroll 1
    for (int k = 0; k < ITERATIONS; k++) {
        double sum = 0.0;
        if (k < shared.count)
#pragma unroll 1
            for (int t = at.lane; t < tiles; t += LANES)
                sum += (double)((const volatile float *)shares)[t * ITERATIONS + k];
        sums[k] = warp_sum(sum);
    }
    if (at.lane) return;
    Progress now = progress[step.pair];
    now.side = 1 - now.side;
    now.arrived = 0;
    if (advance(now, sums, shared.count, {most, block, spaced != 0, enough})) {
        atomicSub(&queue->left, 1);
        const int waiting = atomicAdd(&queue->next, 1);
        slots[blockIdx.z] = waiting < queue->pairs ? waiting : NOBODY;
    }
    progress[step.pair] = now;
}
