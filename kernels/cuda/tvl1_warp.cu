// Images, flow -> the linearised data term of TV-L1: a, b, c, g of every pixel. And the median filter.
#include "progress.cuh"

namespace {

constexpr int BORDER = 4;  // pixels around a packed image: what taps of points in [-2, n + 1] reach

enum Sampling { CATMULL_ROM, THIRTYSECONDS, KEYS };

// Where one coordinate comes from: a pixel, and the fraction past it.
struct Source {
    int pixel;
    float fraction;
};

__device__ __forceinline__ Source source(int here, float flow, int size, int sampling) {
    // Two pixels outside all four taps read the border's value: no border needs to be wider.
    const float at = tvl1::clamp((float)here + flow, -2.f, (float)(size + 1));
    if (sampling == THIRTYSECONDS) {
        const int steps = (int)rintf(at * 32.f);
        return {steps >> 5, (float)(steps & 31) * 0.03125f};
    }
    const float whole = floorf(at);
    return {(int)whole, at - whole};
}

}  // namespace

// Image (N, H, W) -> (I, Ix, Iy, 0) per pixel, (N, H + 8, W + 8, 4): half the difference of both
// neighbours, and around the image its border pixels again, or zero.
extern "C" __global__ void centered_gradient(const float *images, float4 *packed, int height,
                                             int width, int zero) {
    const int wide = width + 2 * BORDER, tall = height + 2 * BORDER;
    const int i = column(), j = row();
    if (i >= wide || j >= tall) return;
    const int x = i - BORDER, y = j - BORDER;
    const bool inside = x >= 0 && x < width && y >= 0 && y < height;
    const int cx = x < 0 ? 0 : x < width ? x : width - 1;
    const int cy = y < 0 ? 0 : y < height ? y : height - 1;
    const int left = cx > 0 ? cx - 1 : 0, right = cx < width - 1 ? cx + 1 : cx;
    const int up = cy > 0 ? cy - 1 : 0, down = cy < height - 1 ? cy + 1 : cy;
    const float *image = images + (size_t)blockIdx.z * height * width;
    float4 pixel = {0.f, 0.f, 0.f, 0.f};
    if (inside || !zero) {
        pixel.x = image[(size_t)cy * width + cx];
        pixel.y = tvl1::half_difference(image[(size_t)cy * width + left],
                                        image[(size_t)cy * width + right]);
        pixel.z = tvl1::half_difference(image[(size_t)up * width + cx],
                                        image[(size_t)down * width + cx]);
    }
    packed[((size_t)blockIdx.z * tall + j) * wide + i] = pixel;
}

// First image, flow (or none) -> the fields of a level: p = 0, nothing done yet. Pairs from number
// `pairs` on have room but no work.
extern "C" __global__ void tvl1_start(const float *images, const float *flow, float *first,
                                      float *state, Progress *progress, int pairs, int height,
                                      int width, int stride) {
    const int x = column(), y = row(), pair = blockIdx.z;
    if (x == 0 && y == 0) progress[pair] = {};
    if (pair >= pairs || x >= stride || y >= height) return;
    const size_t plane = (size_t)height * stride, at = (size_t)y * stride + x;
    const size_t pixels = (size_t)height * width, pixel = (size_t)y * width + x;
    const bool inside = x < width;
    float *fields = state + (size_t)pair * 2 * FIELDS * plane + at;
    for (int field = 0; field < FIELDS; field++) fields[field * plane] = 0.f;
    if (inside && flow) {
        fields[U * plane] = flow[(size_t)2 * pair * pixels + pixel];
        fields[V * plane] = flow[((size_t)2 * pair + 1) * pixels + pixel];
    }
    first[pair * plane + at] = inside ? images[pair * pixels + pixel] : 0.f;
}

// So many warps for each of the pairs; `left` counts those that are not finished.
extern "C" __global__ void tvl1_begin(Progress *progress, int *left, int pairs, int warps, int most,
                                      int block, int spaced, double enough) {
    const int pair = column();
    if (pair == 0) *left = pairs;
    if (pair >= pairs) return;
    Progress now = progress[pair];
    now.warps = warps;
    now.total = 0;
    begin_warp(now, {most, block, spaced != 0, enough});
    progress[pair] = now;
}

// The second image at (x + u, y + v), bicubic, and the model linearised about that flow.
extern "C" __global__ void tvl1_warp(const Progress *progress, const float4 *packed,
                                     const float *first, const float *state, float *model, int base,
                                     int height, int width, int stride, int sampling) {
    const int pair = base + blockIdx.z, x = column(), y = row();
    if (!progress[pair].warps || !progress[pair].fresh || x >= width || y >= height) return;
    const size_t plane = (size_t)height * stride, at = (size_t)y * stride + x;
    const float *fields = state + ((size_t)2 * pair + progress[pair].side) * FIELDS * plane + at;
    const float u = fields[U * plane], v = fields[V * plane];
    const Source across = source(x, u, width, sampling), down = source(y, v, height, sampling);

    constexpr tvl1::Cubic SOFT = tvl1::cubic(-0.5f), SHARP = tvl1::cubic(-0.75f);
    float wx[4], wy[4];
#pragma unroll
    for (int k = 0; k < 4; k++) {
        wx[k] = sampling == CATMULL_ROM ? tvl1::cubic_weight(SOFT, k, across.fraction)
                                        : tvl1::cubic_weight(SHARP, k, across.fraction);
        wy[k] = sampling == CATMULL_ROM ? tvl1::cubic_weight(SOFT, k, down.fraction)
                                        : tvl1::cubic_weight(SHARP, k, down.fraction);
    }
    const int wide = width + 2 * BORDER, tall = height + 2 * BORDER;
    const float4 *taps = packed + (size_t)pair * tall * wide +
                         (size_t)(down.pixel + BORDER - 1) * wide + across.pixel + BORDER - 1;
    float4 sum = {0.f, 0.f, 0.f, 0.f};
#pragma unroll
    for (int j = 0; j < 4; j++, taps += wide) {
        float4 line = {wx[0] * taps[0].x, wx[0] * taps[0].y, wx[0] * taps[0].z, 0.f};
#pragma unroll
        for (int k = 1; k < 4; k++) {
            const float4 tap = taps[k];
            line.x = tvl1::fma(wx[k], tap.x, line.x);
            line.y = tvl1::fma(wx[k], tap.y, line.y);
            line.z = tvl1::fma(wx[k], tap.z, line.z);
        }
        sum.x = j ? tvl1::fma(wy[j], line.x, sum.x) : wy[0] * line.x;
        sum.y = j ? tvl1::fma(wy[j], line.y, sum.y) : wy[0] * line.y;
        sum.z = j ? tvl1::fma(wy[j], line.z, sum.z) : wy[0] * line.z;
    }
    float *out = model + (size_t)pair * COEFFICIENTS * plane + at;
    out[A * plane] = sum.y;
    out[B * plane] = sum.z;
    out[C * plane] = tvl1::constant_part(sum.x, sum.y, sum.z, u, v, first[pair * plane + at]);
    out[G * plane] = tvl1::negative_inverse_square(sum.y, sum.z);
}

// u and v of pairs that are to be filtered now, by the median of a square window, into (N, 2, H, S).
extern "C" __global__ void median(const Progress *progress, const float *state, float *filtered,
                                  int base, int height, int width, int stride, int every,
                                  int window) {
    const int pair = base + blockIdx.z / 2, component = blockIdx.z % 2, x = column(), y = row();
    const Progress &now = progress[pair];
    if (!now.warps || !filter_due(now, every) || x >= width || y >= height) return;
    const size_t plane = (size_t)height * stride;
    const float *image =
        state + (((size_t)2 * pair + now.side) * FIELDS + U + component) * plane;
    float values[25];
    const int reach = window / 2, count = window * window;
    for (int k = 0; k < count; k++) {
        int i = x + k % window - reach, j = y + k / window - reach;
        i = i < 0 ? 0 : i < width ? i : width - 1;
        j = j < 0 ? 0 : j < height ? j : height - 1;
        // Sorted in: a window is small, and this is for comparing with OpenCV, not for speed.
        const float value = image[(size_t)j * stride + i];
        int place = k;
        for (; place > 0 && values[place - 1] > value; place--) values[place] = values[place - 1];
        values[place] = value;
    }
    filtered[((size_t)2 * pair + component) * plane + (size_t)y * stride + x] = values[count / 2];
}

// The newest flow (N, 2, H, W) of a state.
extern "C" __global__ void tvl1_flow(const Progress *progress, const float *state, float *flow,
                                     int height, int width, int stride) {
    const int pair = blockIdx.z, x = column(), y = row();
    if (x >= width || y >= height) return;
    const size_t plane = (size_t)height * stride, at = (size_t)y * stride + x;
    const float *fields = state + ((size_t)2 * pair + progress[pair].side) * FIELDS * plane + at;
    float *out = flow + ((size_t)2 * pair * height + y) * width + x;
    out[0] = fields[U * plane];
    out[(size_t)height * width] = fields[V * plane];
}
