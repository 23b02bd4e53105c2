// Images, flow at a pixel -> the linearised data term there: a, b, c, g.
#pragma once

#include "fields.cuh"

namespace {

constexpr int BORDER = 4;  // of a packed image, pixels: taps of points in [-2, n + 1] reach so far

enum Sampling { CATMULL_ROM, THIRTYSECONDS, KEYS };

// Source of one coordinate: a pixel, and the fraction past it.
struct Source {
    int pixel;
    float fraction;
};

__device__ __forceinline__ Source source(int here, float flow, int size, int sampling) {
    // Two pixels outside, all four taps read the border's value, so the border need not be wider.
    const float at = tvl1::clamp((float)here + flow, -2.f, (float)(size + 1));
    if (sampling == THIRTYSECONDS) {
        const int steps = (int)rintf(at * 32.f);
        return {steps >> 5, (float)(steps & 31) * 0.03125f};
    }
    const float whole = floorf(at);
    return {(int)whole, at - whole};
}

struct alignas(16) Linearised {
    float a, b, c, g;
};

// Samples the second image, packed (height + 8, width + 8) by centered_gradient, at (x + u, y + v),
// bicubic, and returns the model about that flow. `first` is the first image at (x, y).
__device__ __forceinline__ Linearised linearise(const float4 *packed, float first, int x, int y,
                                                 float u, float v, int height, int width,
                                                 int sampling) {
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
    const int wide = width + 2 * BORDER;
    const float4 *taps = packed + (down.pixel + BORDER - 1) * wide + across.pixel + BORDER - 1;
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
    return {sum.y, sum.z, tvl1::constant_part(sum.x, sum.y, sum.z, u, v, first),
            tvl1::negative_inverse_square(sum.y, sum.z)};
}

}  // namespace
