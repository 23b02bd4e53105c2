// A tile of 64x64 pixels in the registers of a block, and the iterations of TV-L1 on it.
//
// A block has up to 16 warps; a lane holds two columns of the four rows of its warp. Neighbours within
// a warp are exchanged by shuffles, between warps through shared memory.
#pragma once

#include "progress.cuh"
#include "warp.cuh"

namespace {

constexpr int ITERATIONS = 4;  // most of one step
constexpr int ROWS = 4;        // of a thread
constexpr int WARPS = 16;
constexpr int TILE = 2 * LANES;
static_assert(WARPS * ROWS == TILE, "tiles are square");
constexpr unsigned ALL = 0xffffffffu;

struct Two {
    float2 u, v;
};

// Registers of a thread: fields and model of its pixels.
struct Pixels {
    float2 u[ROWS], v[ROWS], p11[ROWS], p12[ROWS], p21[ROWS], p22[ROWS];
    float2 a[ROWS], b[ROWS], c[ROWS], g[ROWS];
};

// Shared memory of a block.
struct Shared {
    float4 above[WARPS][LANES], below[WARPS][LANES];  // p12, p22 of a warp's last row, u, v of its first
    float changes[ITERATIONS][WARPS];                 // squared change of each measured iteration
    int count;                                        // iterations of this step
    unsigned checks;                                  // bit mask of the measured iterations
};

__device__ __forceinline__ void plan_step(Shared &shared, const Progress &now, bool spaced,
                                          int every) {
    shared.count = step_length(now, ITERATIONS, every);
    shared.checks = mark_checks(now, shared.count, spaced);
}

// Position of a thread's pixels in the image, and which of them this tile writes.
struct PixelPosition {
    int lane, warp, x, y, height, width;
    bool own;
    int own_top, own_bottom;
};

// Constants of an iteration.
struct Constants {
    float tau, taut, lt;
};

__device__ __forceinline__ float4 four(float2 first, float2 second) {
    return {first.x, first.y, second.x, second.y};
}

// Returns whether row r of a thread is in the image. EDGE: the tile touches its left, right or lower
// border.
template <bool EDGE>
__device__ __forceinline__ bool inside(const PixelPosition &at, int r) {
    return !EDGE || (at.x < at.width && at.y + r < at.height);
}

// Loads two columns of two of COUNT interleaved fields, row r of a thread; zero outside the image.
template <bool EDGE, int COUNT>
__device__ __forceinline__ float4 load_vector(const float *fields, const PixelPosition &at, int stride, int r,
                                         int field) {
    const float *from = fields + (at.y + r) * COUNT * stride + vector_at<COUNT>(at.x) +
                        field / 2 * PAIR_OF_FIELDS;
    return inside<EDGE>(at, r) ? *(const float4 *)from : float4{0.f, 0.f, 0.f, 0.f};
}

template <int COUNT>
__device__ __forceinline__ void store(float *fields, const PixelPosition &at, int stride, int r, int field,
                                      float4 value) {
    float *to = fields + (at.y + r) * COUNT * stride + vector_at<COUNT>(at.x) +
                field / 2 * PAIR_OF_FIELDS;
    *(float4 *)to = value;
}

// Loads u and v of COUNT interleaved fields.
template <bool EDGE, int COUNT>
__device__ __forceinline__ void load_flow(Pixels &p, const PixelPosition &at, const float *fields,
                                          int stride) {
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        const float4 uv = load_vector<EDGE, COUNT>(fields, at, stride, r, U);
        p.u[r] = {uv.x, uv.y};
        p.v[r] = {uv.z, uv.w};
    }
}

template <bool EDGE>
__device__ __forceinline__ void load_duals(Pixels &p, const PixelPosition &at, const float *fields,
                                           int stride) {
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        const float4 of_u = load_vector<EDGE, FIELDS>(fields, at, stride, r, P11);
        const float4 of_v = load_vector<EDGE, FIELDS>(fields, at, stride, r, P21);
        p.p11[r] = {of_u.x, of_u.y};
        p.p12[r] = {of_u.z, of_u.w};
        p.p21[r] = {of_v.x, of_v.y};
        p.p22[r] = {of_v.z, of_v.w};
    }
}

template <bool EDGE>
__device__ __forceinline__ void load_model(Pixels &p, const PixelPosition &at, const float *model,
                                           int stride) {
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        const float4 ab = load_vector<EDGE, COEFFICIENTS>(model, at, stride, r, A);
        const float4 cg = load_vector<EDGE, COEFFICIENTS>(model, at, stride, r, C);
        p.a[r] = {ab.x, ab.y};
        p.b[r] = {ab.z, ab.w};
        p.c[r] = {cg.x, cg.y};
        p.g[r] = {cg.z, cg.w};
    }
}

// Returns whether this tile writes row r of a thread.
__device__ __forceinline__ bool owns_row(const PixelPosition &at, int r) {
    return at.own && at.y + r >= at.own_top && at.y + r < at.own_bottom;
}

__device__ __forceinline__ void store_fields(const Pixels &p, const PixelPosition &at, float *fields,
                                             int stride) {
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        if (!owns_row(at, r)) continue;
        store<FIELDS>(fields, at, stride, r, U, four(p.u[r], p.v[r]));
        store<FIELDS>(fields, at, stride, r, P11, four(p.p11[r], p.p12[r]));
        store<FIELDS>(fields, at, stride, r, P21, four(p.p21[r], p.p22[r]));
    }
}

__device__ __forceinline__ void store_model(const Pixels &p, const PixelPosition &at, float *model,
                                            int stride) {
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        if (!owns_row(at, r)) continue;
        store<COEFFICIENTS>(model, at, stride, r, A, four(p.a[r], p.b[r]));
        store<COEFFICIENTS>(model, at, stride, r, C, four(p.c[r], p.g[r]));
    }
}

// Computes the model of all pixels of a thread about the flow in fields (height, FIELDS * stride):
// packed (height + 8, width + 8) of the second image, first (height, stride).
__device__ __forceinline__ void warp(Pixels &p, const PixelPosition &at, const float *fields,
                                     const float4 *packed, const float *first, int stride,
                                     int sampling) {
    // The loop is not unrolled, so the results are in an array, not in named registers.
    Linearised found[2 * ROWS];
#pragma unroll 1
    for (int k = 0; k < 2 * ROWS; k++) {
        const int x = at.x + k % 2, y = at.y + k / 2;
        found[k] = {0.f, 0.f, 0.f, 0.f};
        if (x < at.width && y < at.height) {
            const float *flow = fields + y * FIELDS * stride + value_at<FIELDS>(U, x);
            found[k] = linearise(packed, first[y * stride + x], x, y, flow[0], flow[2], at.height,
                                  at.width, sampling);
        }
    }
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        const Linearised left = found[2 * r], right = found[2 * r + 1];
        p.a[r] = {left.a, right.a};
        p.b[r] = {left.b, right.b};
        p.c[r] = {left.c, right.c};
        p.g[r] = {left.g, right.g};
    }
}

// First half of an iteration: updates u and v. MEASURE: returns the squared change of the pixels
// that this thread writes.
template <bool EDGE, bool MEASURE>
__device__ __forceinline__ float primal(Pixels &p, const PixelPosition &at, Shared &shared,
                                        const Constants &by) {
    float change = 0.f;
    const float4 none = {0.f, 0.f, 0.f, 0.f};
    const float4 top = at.warp > 0 ? shared.above[at.warp - 1][at.lane] : none;
    float2 q12 = {top.x, top.y}, q22 = {top.z, top.w};
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        float left_u = __shfl_up_sync(ALL, p.p11[r].y, 1);
        float left_v = __shfl_up_sync(ALL, p.p21[r].y, 1);
        if (EDGE && at.x == 0) left_u = left_v = 0.f;
        const float2 u = p.u[r], v = p.v[r];
        const float step_0 =
            tvl1::threshold(p.a[r].x, p.b[r].x, p.c[r].x, p.g[r].x, u.x, v.x, by.lt);
        const float step_1 =
            tvl1::threshold(p.a[r].y, p.b[r].y, p.c[r].y, p.g[r].y, u.y, v.y, by.lt);
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
    shared.below[at.warp][at.lane] = four(p.u[0], p.v[0]);
    return change;
}

// Second half of an iteration: updates the dual variables.
template <bool EDGE>
__device__ __forceinline__ void dual(Pixels &p, const PixelPosition &at, Shared &shared,
                                     const Constants &by) {
    const float4 bottom = shared.below[at.warp < WARPS - 1 ? at.warp + 1 : at.warp][at.lane];
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
        if (EDGE) {  // differences across the border of the image are zero
            if (at.x >= at.width - 1) ux_0 = vx_0 = 0.f;
            if (at.x + 1 >= at.width - 1) ux_1 = vx_1 = 0.f;
            if (at.y + r >= at.height - 1) uy_0 = uy_1 = vy_0 = vy_1 = 0.f;
        }
        const tvl1::Duals<float> first =
            tvl1::dual_step<float>({p.p11[r].x, p.p12[r].x, p.p21[r].x, p.p22[r].x}, ux_0, uy_0,
                                   vx_0, vy_0, by.tau, by.taut);
        const tvl1::Duals<float> second =
            tvl1::dual_step<float>({p.p11[r].y, p.p12[r].y, p.p21[r].y, p.p22[r].y}, ux_1, uy_1,
                                   vx_1, vy_1, by.tau, by.taut);
        p.p11[r] = {first.p11, second.p11};
        p.p12[r] = {first.p12, second.p12};
        p.p21[r] = {first.p21, second.p21};
        p.p22[r] = {first.p22, second.p22};
    }
    shared.above[at.warp][at.lane] = four(p.p12[ROWS - 1], p.p22[ROWS - 1]);
}

// Runs one iteration. A warp whose rows are all below the image only synchronises.
template <bool EDGE, bool MEASURE>
__device__ __forceinline__ float iterate(Pixels &p, const PixelPosition &at, Shared &shared,
                                         const Constants &by) {
    const bool works = !EDGE || at.y < at.height;
    float change = 0.f;
    if (works) change = primal<EDGE, MEASURE>(p, at, shared, by);
    __syncthreads();
    if (works) dual<EDGE>(p, at, shared, by);
    __syncthreads();
    return change;
}

// Runs the iterations of a step, and sums the changes over the pixels that each warp writes. All
// threads must have set `above` before.
template <bool EDGE>
__device__ __forceinline__ void run(Pixels &p, const PixelPosition &at, Shared &shared,
                                    const Constants &by) {
#pragma unroll 1
    for (int k = 0; k < shared.count; k++) {
        if (shared.checks >> k & 1) {
            // Pixels outside the image do not change.
            const float change = iterate<EDGE, true>(p, at, shared, by);
            const float sum = warp_sum(at.own ? change : 0.f);
            if (at.lane == 0) shared.changes[k][at.warp] = sum;
        } else {
            iterate<EDGE, false>(p, at, shared, by);
        }
    }
}

}  // namespace
