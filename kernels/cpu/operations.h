// Exported functions NAME_ISA: loops of the kernels over stacks of N images or pairs, compiled once per
// instruction set. The including file defines ISA.
#pragma once

#include <stdlib.h>

#include "akaze.h"
#include "features.h"
#include "homography.h"
#include "iterate.h"
#include "pixels.h"
#include "warp.h"

#define JOINED(name, isa) name##_##isa
#define NAMED(name, isa) JOINED(name, isa)
#define EXPORTED(name) __attribute__((visibility("default"))) NAMED(name, ISA)

extern "C" {

void EXPORTED(difference)(long n, long pixels, const uint8_t *frames, uint8_t *planes,
                          uint32_t *clipped) {
    for (long k = 0; k < n; k++, frames += 3 * pixels, planes += 3 * pixels)
        clipped[k] = difference_image(pixels, frames, frames + 3 * pixels, planes);
}

void EXPORTED(quantise)(long n, long values, const float *flow, double bound, uint8_t *levels,
                        uint32_t *clipped) {
    for (long k = 0; k < n; k++, flow += values, levels += values)
        clipped[k] = quantise_image(values, flow, bound, levels);
}

void EXPORTED(warp_homography)(long n, long height, long width, const uint8_t *gray,
                               const double *homography, const uint8_t *fill, long margin,
                               uint8_t *out) {
    const long size = height * width;
    for (long k = 0; k < n; k++, gray += size, homography += 9, fill += size, out += size)
        warp_homography_image(height, width, gray, homography, fill, margin, out);
}

void EXPORTED(pyramid_down)(long n, long height, long width, const float *images, float *out) {
    float *line = (float *)malloc((width + 8) * sizeof(float));
    if (!line) abort();
    const long size = ((height + 1) / 2) * ((width + 1) / 2);
    for (long k = 0; k < n; k++, images += height * width, out += size)
        pyramid_down_image(height, width, images, line, out);
    free(line);
}

void EXPORTED(bilinear)(long n, long h, long w, const float *images, long height, long width,
                        double step_y, double step_x, int centred, float factor, float *out) {
    char *memory =
        (char *)malloc(Taps::bytes(height) + Taps::bytes(width) + w * sizeof(float));
    if (!memory) abort();
    const Taps rows(memory, height, step_y, centred, h);
    const Taps columns(memory + Taps::bytes(height), width, step_x, centred, w);
    float *line = columns.weight + width;
    for (long k = 0; k < n; k++, images += h * w, out += height * width)
        bilinear_image(w, images, height, width, rows, columns, factor, line, out);
    free(memory);
}

void EXPORTED(match_bits)(long in_first, long in_second, long words, float window,
                          const float *x, const float *y, const uint64_t *first_bits,
                          const int64_t *number, const float *second, const uint64_t *second_bits,
                          int64_t *matched) {
    int32_t *near = (int32_t *)malloc((in_first + 1) * sizeof(int32_t));
    if (!near) abort();
    const Sorted all = {in_first, x, y, first_bits, number};
    for (long k = 0; k < in_second; k++, second += 2, second_bits += words)
        matched[k] = nearest_bits(all, words, window, second[0], second[1], second_bits, near);
    free(near);
}

long EXPORTED(select_corners)(long height, long width, const float *strength, const uint8_t *mask,
                              long most, double apart, float *corners) {
    const long pixels = height * width;
    char *memory = (char *)malloc(2 * (pixels * sizeof(uint64_t) + (width + 4) * sizeof(float)));
    uint8_t *taken = (uint8_t *)calloc(pixels, 1);
    if (!memory || !taken) abort();
    uint64_t *found = (uint64_t *)memory, *spare = found + pixels;
    const long count =
        local_maxima(height, width, strength, mask, (float *)(spare + pixels), found);
    const uint64_t *rising = sort_by_strength(count, found, spare);
    const long chosen =
        spread_corners(height, width, count, rising, most, apart, taken, corners);
    free(taken);
    free(memory);
    return chosen;
}

long EXPORTED(akaze_keypoints)(long height, long width, const float *xx, const float *xy,
                               const float *yy, float threshold, float *points) {
    const long pixels = height * width, row = width + (long)sizeof(uint64_t);
    char *memory = (char *)malloc(2 * pixels * sizeof(float) + row);
    uint8_t *kept = (uint8_t *)calloc(pixels, 1);
    if (!memory || !kept) abort();
    float *hessian = (float *)memory;
    int32_t *places = (int32_t *)(hessian + pixels);
    hessian_image(pixels, xx, xy, yy, hessian);
    const long count = akaze_keypoints(height, width, hessian, threshold, kept,
                                       (uint8_t *)(places + pixels), places, points);
    free(kept);
    free(memory);
    return count;
}

void EXPORTED(akaze_bits)(long count, long width, const float *gray, const float *dx,
                          const float *dy, const float *points, uint64_t *bits) {
    for (long k = 0; k < count; k++, points += 2, bits += MLDB_WORDS)
        describe_keypoint(width, gray, dx, dy, points[0], points[1], bits);
}

// Finds homographies of matches (4, M), rows x, y, u, v. Writes up to `most` (3, 3) and their inliers
// (M,), and returns their number. Each has more than `least` inliers among the remaining matches.
long EXPORTED(homographies)(long count, long most, long least, const float *rows, float threshold,
                            double *found, uint8_t *agree) {
    const long room = pad_count(count);
    float *memory = (float *)calloc(room, 8 * sizeof(float) + 1);
    if (!memory) abort();
    float *x = memory + 4 * room, *y = x + room, *u = y + room, *v = u + room;
    uint8_t *scratch = (uint8_t *)(v + room);
    for (int k = 0; k < 8; k++)
        __builtin_memcpy(memory + k * room, rows + k % 4 * count, count * sizeof(float));
    const Matches all = {count, memory, memory + room, memory + 2 * room, memory + 3 * room};
    long left = count, made = 0;
    while (made < most && left > least) {
        const Matches rest = {left, x, y, u, v};
        Homography best = search_homography(rest, threshold, scratch);
        if (best.count <= least) break;
        for (int k = 0; k < FITS; k++) fit_homography(all, threshold, scratch, best.h);
        __builtin_memcpy(found + 9 * made, best.h, sizeof best.h);
        mark_agreement(all, threshold, best.h, scratch);
        __builtin_memcpy(agree + count * made++, scratch, count);
        mark_agreement(rest, APART * threshold, best.h, scratch);
        long kept = 0;
        for (long k = 0; k < left; k++) {
            x[kept] = x[k], y[kept] = y[k], u[kept] = u[k], v[kept] = v[k];
            kept += !scratch[k];
        }
        left = kept;
    }
    free(memory);
    return made;
}

long EXPORTED(padded_floats)(long height, long width) { return padded_floats(height, width); }

void EXPORTED(centered_gradient)(long n, long height, long width, const float *images, int zero,
                                 float *padded) {
    for (long k = 0; k < n; k++, images += height * width, padded += padded_floats(height, width))
        centered_gradient_image(height, width, images, zero, padded);
}

long EXPORTED(tvl1_floats)(long height, long width) { return State::floats(height, width); }

void EXPORTED(tvl1_start)(long n, long height, long width, const float *flow, float *states) {
    for (long k = 0; k < n; k++, states += State::floats(height, width))
        start_pair({states, height, width}, flow ? flow + k * 2 * height * width : nullptr);
}

void EXPORTED(tvl1_warp)(long n, long height, long width, const float *first, const float *padded,
                         int sampling, float *states, int iterations, int block, int spaced,
                         double enough, float tau, float taut, float lt, int32_t *done,
                         double *change) {
    for (long k = 0; k < n; k++, states += State::floats(height, width)) {
        const Images images = {first + k * height * width,
                               padded + k * padded_floats(height, width), (Sampling)sampling};
        done[k] = iterate_pair({states, height, width}, {iterations, block, spaced != 0, enough},
                               {all(tau), all(taut), all(lt)}, &images, change + k);
    }
}

void EXPORTED(tvl1_iterate)(long n, long height, long width, float *states, int iterations,
                            int block, int spaced, double enough, float tau, float taut, float lt,
                            int32_t *done, double *change) {
    for (long k = 0; k < n; k++, states += State::floats(height, width))
        done[k] = iterate_pair({states, height, width}, {iterations, block, spaced != 0, enough},
                               {all(tau), all(taut), all(lt)}, nullptr, change + k);
}

void EXPORTED(tvl1_fill)(long n, long height, long width, float *states, int field,
                         const float *images) {
    for (long k = 0; k < n; k++, states += State::floats(height, width), images += height * width)
        fill_field({states, height, width}, (Field)field, images);
}

void EXPORTED(tvl1_copy)(long n, long height, long width, const float *states, int field,
                         long apart, float *images) {
    for (long k = 0; k < n; k++, states += State::floats(height, width), images += apart)
        copy_field({(float *)states, height, width}, (Field)field, images);
}

}  // extern "C"
