// A state of TV-L1 -> the state some iterations later, whole tiles at a time.
//
// A block of 16 warps holds a tile of 64x64 pixels in registers: a lane has two columns of the four
// rows of its warp. Within a warp neighbours are lanes, told by shuffles; from warp to warp they are
// in shared memory. A tile has a halo as deep as there are iterations, whose outer pixels become
// wrong one by one; only what is inside is written back:
//
//     | halo | 56 columns of this tile | halo |          the image's own border needs no halo
//                                | halo | the next one's 56 | halo |
//
// So one launch reads and writes a state once for several iterations. Tiles read one copy of the
// fields and write the other: a neighbour may still need what was there.
#include "progress.cuh"

namespace {

constexpr int ITERATIONS = 4;  // most of one launch
constexpr int ROWS = 4;        // of a thread
constexpr int WARPS = 16;
constexpr int TILE = 2 * LANES;
constexpr int STEP = TILE - 2 * ITERATIONS;  // from one tile to the next
static_assert(WARPS * ROWS == TILE, "tiles are square");

struct Two {
    float2 u, v;
};

// What a thread holds: the fields of its pixels, and the model there.
struct Pixels {
    float2 u[ROWS], v[ROWS], p11[ROWS], p12[ROWS], p21[ROWS], p22[ROWS];
    float2 a[ROWS], b[ROWS], c[ROWS], g[ROWS];
};

// Where a thread's pixels are in the image, and whether this tile is the one to write them.
struct Place {
    int lane, warp, x, y, height, width;
    bool own;
    int own_top, own_bottom;
};

__device__ __forceinline__ float4 four(float2 first, float2 second) {
    return {first.x, first.y, second.x, second.y};
}

// One iteration. EDGE: the tile touches a border of the image. MEASURE: returns the squared change
// of this thread's pixels. `above` has p12, p22 of the last row of each warp, `below` u, v of the first.
template <bool EDGE, bool MEASURE>
__device__ __forceinline__ float iterate(Pixels &p, const Place &at, float4 (*below)[LANES],
                                         float4 (*above)[LANES], float tau, float taut, float lt) {
    constexpr unsigned ALL = 0xffffffffu;
    float change = 0.f;
    const float4 none = {0.f, 0.f, 0.f, 0.f};
    const float4 top = at.warp > 0 ? above[at.warp - 1][at.lane] : none;
    float2 q12 = {top.x, top.y}, q22 = {top.z, top.w};
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        float left_u = __shfl_up_sync(ALL, p.p11[r].y, 1);
        float left_v = __shfl_up_sync(ALL, p.p21[r].y, 1);
        if (EDGE && at.x == 0) left_u = left_v = 0.f;
        const float2 u = p.u[r], v = p.v[r];
        const float step_0 =
            tvl1::threshold(p.a[r].x, p.b[r].x, p.c[r].x, p.g[r].x, u.x, v.x, lt);
        const float step_1 =
            tvl1::threshold(p.a[r].y, p.b[r].y, p.c[r].y, p.g[r].y, u.y, v.y, lt);
        p.u[r].x = tvl1::fma(step_0, p.a[r].x, u.x) +
                   tvl1::divergence(p.p11[r].x, left_u, p.p12[r].x, q12.x);
        p.u[r].y = tvl1::fma(step_1, p.a[r].y, u.y) +
                   tvl1::divergence(p.p11[r].y, p.p11[r].x, p.p12[r].y, q12.y);
        p.v[r].x = tvl1::fma(step_0, p.b[r].x, v.x) +
                   tvl1::divergence(p.p21[r].x, left_v, p.p22[r].x, q22.x);
        p.v[r].y = tvl1::fma(step_1, p.b[r].y, v.y) +
                   tvl1::divergence(p.p21[r].y, p.p21[r].x, p.p22[r].y, q22.y);
        q12 = p.p12[r];
        q22 = p.p22[r];
        if (MEASURE && at.y + r >= at.own_top && at.y + r < at.own_bottom) {
            const float du_0 = p.u[r].x - u.x, dv_0 = p.v[r].x - v.x;
            const float du_1 = p.u[r].y - u.y, dv_1 = p.v[r].y - v.y;
            change += tvl1::fma(du_0, du_0, dv_0 * dv_0) + tvl1::fma(du_1, du_1, dv_1 * dv_1);
        }
    }
    below[at.warp][at.lane] = four(p.u[0], p.v[0]);
    __syncthreads();
    const float4 bottom = below[at.warp < WARPS - 1 ? at.warp + 1 : at.warp][at.lane];
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        const float right_u = __shfl_down_sync(ALL, p.u[r].x, 1);
        const float right_v = __shfl_down_sync(ALL, p.v[r].x, 1);
        const bool last = r == ROWS - 1;
        const Two next = {{last ? bottom.x : p.u[last ? r : r + 1].x,
                           last ? bottom.y : p.u[last ? r : r + 1].y},
                          {last ? bottom.z : p.v[last ? r : r + 1].x,
                           last ? bottom.w : p.v[last ? r : r + 1].y}};
        float ux_0 = p.u[r].y - p.u[r].x, ux_1 = right_u - p.u[r].y;
        float vx_0 = p.v[r].y - p.v[r].x, vx_1 = right_v - p.v[r].y;
        float uy_0 = next.u.x - p.u[r].x, uy_1 = next.u.y - p.u[r].y;
        float vy_0 = next.v.x - p.v[r].x, vy_1 = next.v.y - p.v[r].y;
        if (EDGE) {  // no difference to what is not there
            if (at.x >= at.width - 1) ux_0 = vx_0 = 0.f;
            if (at.x + 1 >= at.width - 1) ux_1 = vx_1 = 0.f;
            if (at.y + r >= at.height - 1) uy_0 = uy_1 = vy_0 = vy_1 = 0.f;
        }
        const tvl1::Duals<float> first = tvl1::dual_step<float>(
            {p.p11[r].x, p.p12[r].x, p.p21[r].x, p.p22[r].x}, ux_0, uy_0, vx_0, vy_0, tau, taut);
        const tvl1::Duals<float> second = tvl1::dual_step<float>(
            {p.p11[r].y, p.p12[r].y, p.p21[r].y, p.p22[r].y}, ux_1, uy_1, vx_1, vy_1, tau, taut);
        p.p11[r] = {first.p11, second.p11};
        p.p12[r] = {first.p12, second.p12};
        p.p21[r] = {first.p21, second.p21};
        p.p22[r] = {first.p22, second.p22};
    }
    above[at.warp][at.lane] = four(p.p12[ROWS - 1], p.p22[ROWS - 1]);
    __syncthreads();
    return change;
}

// Both columns of a row of a field; zero outside the image, where the spare of a row may be anything.
__device__ __forceinline__ float2 loaded(const float *field, bool first, bool second) {
    float2 two = {0.f, 0.f};
    if (first) two = *(const float2 *)field;
    if (!second) two.y = 0.f;
    return two;
}

// `count` iterations; the squared change of those whose bit is set in `looks` goes to changes[k],
// summed over the pixels that a warp owns.
template <bool EDGE>
__device__ __forceinline__ void run(Pixels &p, const Place &at, float4 (*below)[LANES],
                                    float4 (*above)[LANES], float (*changes)[WARPS], int count,
                                    unsigned looks, float tau, float taut, float lt) {
#pragma unroll 1
    for (int k = 0; k < count; k++) {
        if (looks >> k & 1) {
            // What is beyond the image does not change at all.
            const float change = iterate<EDGE, true>(p, at, below, above, tau, taut, lt);
            const float sum = warp_sum(at.own ? change : 0.f);
            if (at.lane == 0) changes[k][at.warp] = sum;
        } else {
            iterate<EDGE, false>(p, at, below, above, tau, taut, lt);
        }
    }
}

}  // namespace

// `filtered`: u and v after a median filter, or null; `every`: iterations between two of these.
// `partial` (N, tiles, ITERATIONS): each tile's share of the change.
extern "C" __global__ void __launch_bounds__(WARPS *LANES, 1)
    tvl1_tile(Progress *progress, const float *model, float *state, const float *filtered,
              float *partial, int *left, int base, int height, int width, int stride, float tau,
              float taut, float lt, int most, int block, int spaced, double enough, int every) {
    __shared__ float4 below[WARPS][LANES], above[WARPS][LANES];
    __shared__ float changes[ITERATIONS][WARPS];
    __shared__ int is_last;
    const int pair = base + blockIdx.z;
    if (!progress[pair].warps) return;
    const int done = progress[pair].done, side = progress[pair].side;
    int count = progress[pair].end - done;
    count = count < ITERATIONS ? count : ITERATIONS;
    if (every > 0) {
        const int until = every - done % every;
        count = count < until ? count : until;
    }
    // Looks may come from the next one on: OpenCV's CUDA code looks at every second iteration.
    const unsigned every_look = spaced ? 0x55555555u : 0xffffffffu;
    const int next = progress[pair].look - 1 - done;
    const unsigned looks = progress[pair].converged || next >= count ? 0 : every_look << next;
    const bool smooth = filtered && filter_due(progress[pair], every);

    const int left_edge = blockIdx.x * STEP, top_edge = blockIdx.y * STEP;
    const bool at_right = blockIdx.x == gridDim.x - 1, at_bottom = blockIdx.y == gridDim.y - 1;
    const bool edge = blockIdx.x == 0 || blockIdx.y == 0 || at_right || at_bottom;

    Place at;
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

    const size_t plane = (size_t)height * stride;
    const float *in = state + ((size_t)2 * pair + side) * FIELDS * plane;
    const float *coefficients = model + (size_t)pair * COEFFICIENTS * plane;
    const float *flow = smooth ? filtered + (size_t)2 * pair * plane : in;
    Pixels p;
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        const int y = at.y + r;
        const bool first = y < height && at.x < width, second = y < height && at.x + 1 < width;
        const size_t o = (size_t)y * stride + at.x;
        p.u[r] = loaded(flow + U * plane + o, first, second);
        p.v[r] = loaded(flow + V * plane + o, first, second);
        p.p11[r] = loaded(in + P11 * plane + o, first, second);
        p.p12[r] = loaded(in + P12 * plane + o, first, second);
        p.p21[r] = loaded(in + P21 * plane + o, first, second);
        p.p22[r] = loaded(in + P22 * plane + o, first, second);
        p.a[r] = loaded(coefficients + A * plane + o, first, second);
        p.b[r] = loaded(coefficients + B * plane + o, first, second);
        p.c[r] = loaded(coefficients + C * plane + o, first, second);
        p.g[r] = loaded(coefficients + G * plane + o, first, second);
    }
    above[at.warp][at.lane] = four(p.p12[ROWS - 1], p.p22[ROWS - 1]);
    __syncthreads();
    if (edge)
        run<true>(p, at, below, above, changes, count, looks, tau, taut, lt);
    else
        run<false>(p, at, below, above, changes, count, looks, tau, taut, lt);

    float *out = state + ((size_t)2 * pair + 1 - side) * FIELDS * plane;
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        const int y = at.y + r;
        if (!at.own || y < at.own_top || y >= at.own_bottom) continue;
        float *o = out + (size_t)y * stride + at.x;
        *(float2 *)(o + U * plane) = p.u[r];
        *(float2 *)(o + V * plane) = p.v[r];
        *(float2 *)(o + P11 * plane) = p.p11[r];
        *(float2 *)(o + P12 * plane) = p.p12[r];
        *(float2 *)(o + P21 * plane) = p.p21[r];
        *(float2 *)(o + P22 * plane) = p.p22[r];
    }

    // The tiles' shares are added up in a fixed order by whichever block is last: so the sum, and
    // where a pair stops, does not depend on the order in which blocks run.
    const int tiles = gridDim.x * gridDim.y, tile = blockIdx.y * gridDim.x + blockIdx.x;
    float *shares = partial + (size_t)pair * tiles * ITERATIONS;
    __syncthreads();
    if (at.warp == 0) {
        for (int k = 0; k < count; k++) {
            const bool known = looks >> k & 1;
            const float share = warp_sum(known && at.lane < WARPS ? changes[k][at.lane] : 0.f);
            if (at.lane == 0) shares[tile * ITERATIONS + k] = share;
        }
        __threadfence();
        if (at.lane == 0) is_last = atomicAdd(&progress[pair].arrived, 1) == tiles - 1;
    }
    __syncthreads();
    if (!is_last || at.warp != 0) return;
    __threadfence();
    double sums[ITERATIONS];
#pragma unroll 1
    for (int k = 0; k < ITERATIONS; k++) {
        double sum = 0.0;
        if (k < count)
#pragma unroll 1
            for (int t = at.lane; t < tiles; t += LANES)
                sum += (double)((const volatile float *)shares)[t * ITERATIONS + k];
        sums[k] = warp_sum(sum);
    }
    if (at.lane) return;
    Progress now = progress[pair];
    now.side = 1 - side;
    if (advance(now, sums, count, {most, block, spaced != 0, enough})) atomicSub(left, 1);
    now.arrived = 0;
    progress[pair] = now;
}
