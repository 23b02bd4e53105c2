// Images -> images: all kernels except TV-L1. Included once per instruction set.
#pragma once

#include <stdint.h>

#include "layout.h"

#include "../tvl1_math.h"

namespace {

// Writes next - this + 128 as planes (3, pixels) and returns the number of clipped values.
uint32_t difference_image(long pixels, const uint8_t *__restrict frame,
                                 const uint8_t *__restrict next, uint8_t *__restrict planes) {
    uint32_t clipped = 0;
    for (long channel = 0; channel < 3; channel++) {
        uint8_t *__restrict plane = planes + channel * pixels;
        for (long i = 0; i < pixels; i++) {
            const int change = next[3 * i + channel] - frame[3 * i + channel] + 128;
            const int level = change < 0 ? 0 : change > 255 ? 255 : change;
            clipped += level != change;
            plane[i] = (uint8_t)level;
        }
    }
    return clipped;
}

uint32_t quantise_image(long values, const float *__restrict flow, double bound,
                               uint8_t *__restrict levels) {
    uint32_t clipped = 0;
    for (long i = 0; i < values; i++) {
        levels[i] = tvl1::quantise_value(flow[i], bound);
        clipped += !(flow[i] >= -bound && flow[i] <= bound);
    }
    return clipped;
}

// Returns the source coordinate of a pixel in 1/32 px; far outside for points at infinity, so never read.
inline int thirtysecond(double numerator, double scale) {
    constexpr double FAR = 1 << 30, ROUND = 6755399441055744.0;
    const double at = numerator * scale;
    const double safe = at > -FAR && at < FAR ? at : -FAR;
    return (int)((safe + ROUND) - ROUND);
}

// Warps by chunks of a row in three loops: points, neighbours, weights. Only the second one, which
// gathers, cannot be vectorised.
void warp_homography_image(long height, long width, const uint8_t *__restrict gray,
                           const double *__restrict h, const uint8_t *__restrict fill, long margin,
                           uint8_t *__restrict out) {
    __builtin_memcpy(out, fill, height * width);
    if (width < 2 * margin + 3 || height < 2 * margin + 3) return;  // no point is inside
    const int left = (int)margin, right = (int)(width - 1 - margin);
    const int bottom = (int)(height - 1 - margin);
    constexpr int CHUNK = 256;
    int sx[CHUNK], sy[CHUNK], offset[CHUNK], inside[CHUNK];
    uint16_t upper[CHUNK], lower[CHUNK];
    const int stride = (int)width;
    for (long y = 0; y < height; y++) {
        const double yx = h[1] * y, yy = h[4] * y, yw = h[7] * y;
        for (int start = 0; start < stride; start += CHUNK) {
            const int n = stride - start < CHUNK ? stride - start : CHUNK;
            uint8_t *__restrict row = out + y * width + start;
            for (int i = 0; i < n; i++) {
                const double x = (double)(start + i), scale = 32.0 / (h[6] * x + yw + h[8]);
                sx[i] = thirtysecond(h[0] * x + yx + h[2], scale);
                sy[i] = thirtysecond(h[3] * x + yy + h[5], scale);
                const int ix = sx[i] >> 5, iy = sy[i] >> 5;
                inside[i] = (ix > left) & (ix < right) & (iy > left) & (iy < bottom);
                offset[i] = (iy & -inside[i]) * stride + (ix & -inside[i]);
            }
            for (int i = 0; i < n; i++) {
                __builtin_memcpy(upper + i, gray + offset[i], 2);
                __builtin_memcpy(lower + i, gray + offset[i] + stride, 2);
            }
            for (int i = 0; i < n; i++) {
                const int fx = sx[i] & 31, fy = sy[i] & 31;
                const int above = (upper[i] & 255) * (32 - fx) + (upper[i] >> 8) * fx;
                const int below = (lower[i] & 255) * (32 - fx) + (lower[i] >> 8) * fx;
                const int level = (above * (32 - fy) + below * fy + 512) >> 10;
                row[i] = (uint8_t)(inside[i] ? level : row[i]);
            }
        }
    }
}

// Halves an image to (n + 1) / 2 by 1-4-6-4-1 windows at every second pixel; columns first.
void pyramid_down_image(long height, long width, const float *__restrict image,
                               float *__restrict line, float *__restrict out) {
    const long half_width = (width + 1) / 2;
    float *centre = line + 4;  // two mirrored pixels on both sides
    for (long y = 0; y < (height + 1) / 2; y++) {
        const float *rows[5];
        for (long k = 0; k < 5; k++)
            rows[k] = image + tvl1::mirror(2 * y + k - 2, height) * width;
        for (long x = 0; x < width; x++)
            centre[x] = tvl1::binomial(rows[0][x], rows[1][x], rows[2][x], rows[3][x], rows[4][x]);
        for (long k = 1; k <= 2; k++) {
            centre[-k] = centre[tvl1::mirror(-k, width)];
            centre[width - 1 + k] = centre[tvl1::mirror(width - 1 + k, width)];
        }
        for (long x = 0; x < half_width; x++) {
            const float *c = centre + 2 * x;
            out[y * half_width + x] = tvl1::binomial(c[-2], c[-1], c[0], c[1], c[2]);
        }
    }
}

// Neighbours of each index along one side and the weight of the second, clamped: at index * step, or if
// centred at (index + 1/2) * step - 1/2.
struct Taps {
    int *near, *far;
    float *weight;

    static long bytes(long size) { return 3 * size * sizeof(float); }

    // As in OpenCV, centred positions are in double precision, the others in single.
    Taps(void *memory, long size, double step, bool centred, long source)
        : near((int *)memory), far(near + size), weight((float *)(far + size)) {
        const int last = (int)source - 1;
        for (long k = 0; k < size; k++) {
            const float at =
                centred ? (float)((k + 0.5) * step - 0.5) : (float)k * (float)step;
            const float inside = tvl1::clamp(at, 0.f, (float)last);
            near[k] = (int)inside;
            far[k] = near[k] < last ? near[k] + 1 : last;
            weight[k] = inside - (float)near[k];
        }
    }
};

// Resizes an image, bilinear, times `factor`; rows first, only those that the output needs.
void bilinear_image(long w, const float *__restrict image, long height, long width,
                    const Taps &rows, const Taps &columns, float factor, float *__restrict line,
                    float *__restrict out) {
    const int *__restrict near_x = columns.near, *__restrict far_x = columns.far;
    const float *__restrict weight = columns.weight;
    for (long y = 0; y < height; y++, out += width) {
        const float *near = image + rows.near[y] * w, *far = image + rows.far[y] * w;
        for (long x = 0; x < w; x++) line[x] = tvl1::between(near[x], far[x], rows.weight[y]);
#pragma omp simd
        for (long x = 0; x < width; x++)
            out[x] = factor * tvl1::between(line[near_x[x]], line[far_x[x]], weight[x]);
    }
}

// Pads a row with its border pixels, or with zero.
inline void continue_row(float *row, long width, bool zero) {
    const float before = zero ? 0.f : row[0], after = zero ? 0.f : row[width - 1];
    for (long x = -LEFT; x < 0; x++) row[x] = before;
    for (long x = width; x < padded_stride(width) - LEFT; x++) row[x] = after;
}

// Writes the padded image of I, Ix and Iy. Gradients are half the difference of both neighbours; the
// border replicates the image, as clamped reads would, or is zero.
void centered_gradient_image(long height, long width, const float *__restrict image, bool zero,
                             float *__restrict padded) {
    const long stride = padded_stride(width), row_floats = PLANES * stride;
    float *top = padded + ROWS_AROUND * row_floats;
    for (long y = 0; y < height; y++) {
        const float *here = image + y * width;
        const float *above = image + (y > 0 ? y - 1 : 0) * width;
        const float *below = image + (y < height - 1 ? y + 1 : y) * width;
        float *__restrict out = top + y * row_floats + LEFT;
        float *__restrict out_x = out + stride, *__restrict out_y = out_x + stride;
        __builtin_memcpy(out, here, width * sizeof(float));
        for (long x = 0; x < width; x++) out_y[x] = tvl1::half_difference(above[x], below[x]);
        for (long x = 1; x < width - 1; x++)
            out_x[x] = tvl1::half_difference(here[x - 1], here[x + 1]);
        const long last = width - 1, second = width > 1 ? 1 : 0;
        out_x[0] = tvl1::half_difference(here[0], here[second]);
        out_x[last] = tvl1::half_difference(here[last - second], here[last]);
        for (long k = 0; k < PLANES; k++) continue_row(out + k * stride, width, zero);
    }
    for (long k = 0; k < ROWS_AROUND; k++) {
        float *before = padded + k * row_floats, *after = top + (height + k) * row_floats;
        if (zero) {
            __builtin_memset(before, 0, row_floats * sizeof(float));
            __builtin_memset(after, 0, row_floats * sizeof(float));
        } else {
            __builtin_memcpy(before, top, row_floats * sizeof(float));
            __builtin_memcpy(after, top + (height - 1) * row_floats, row_floats * sizeof(float));
        }
    }
}

}  // namespace
