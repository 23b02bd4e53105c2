// Flow -> bytes; gray images -> images warped by homographies.
#include "common.cuh"

// Quantises flow (N, values), pixels, to levels (N, values), and adds the number of values beyond the
// bound to clipped (N,).
extern "C" __global__ void quantise(const float *flow, u8 *levels, unsigned *clipped, int values,
                                    double bound) {
    const int i = column();
    unsigned beyond = 0;
    if (i < values) {
        const size_t at = (size_t)blockIdx.z * values + i;
        const float value = flow[at];
        levels[at] = tvl1::quantise_value(value, bound);
        beyond = !(value >= -bound && value <= bound);
    }
    beyond = warp_sum(beyond);
    if (threadIdx.x % LANES == 0 && beyond) atomicAdd(clipped + blockIdx.z, beyond);
}

// Gathers values (any shape) at flat indices places (n,) into out (n,).
extern "C" __global__ void take(const float *values, const long long *places, float *out, int n) {
    const int i = column();
    if (i < n) out[i] = values[places[i]];
}

namespace {

// Source coordinate of a pixel in 1/32 px; far outside for points at infinity, so never read.
__device__ __forceinline__ int thirtysecond(double numerator, double scale) {
    constexpr double FAR = 1 << 30, ROUND = 6755399441055744.0;
    const double at = numerator * scale;
    const double safe = at > -FAR && at < FAR ? at : -FAR;
    return (int)((safe + ROUND) - ROUND);
}

}  // namespace

// Warps gray (N, height, width) by homography (N, 3, 3): out(x) = gray(H x), bilinear at 1/32 px; fill
// (N, height, width) is used if H x is within `margin` of the border.
extern "C" __global__ void warp_homography(const u8 *gray, const double *homography, const u8 *fill,
                                           u8 *out, int height, int width, int margin) {
    const int x = column(), y = row();
    if (x >= width || y >= height) return;
    const double *h = homography + 9 * blockIdx.z;
    const double scale = 32.0 / (h[6] * x + h[7] * y + h[8]);
    const int sx = thirtysecond(h[0] * x + h[1] * y + h[2], scale);
    const int sy = thirtysecond(h[3] * x + h[4] * y + h[5], scale);
    const int ix = sx >> 5, iy = sy >> 5, fx = sx & 31, fy = sy & 31;
    const size_t image = (size_t)blockIdx.z * height * width, at = image + (size_t)y * width + x;
    const bool inside =
        ix > margin && ix < width - 1 - margin && iy > margin && iy < height - 1 - margin;
    if (!inside) {
        out[at] = fill[at];
        return;
    }
    const u8 *near = gray + image + (size_t)iy * width + ix, *far = near + width;
    const int above = near[0] * (32 - fx) + near[1] * fx;
    const int below = far[0] * (32 - fx) + far[1] * fx;
    out[at] = (u8)((above * (32 - fy) + below * fy + 512) >> 10);
}
