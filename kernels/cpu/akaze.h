// Derivatives of a smoothed frame -> AKAZE keypoints of one scale, and their upright M-LDB bits.
//
// Alcantarilla, Nuevo and Bartoli 2013. Float operations have OpenCV's order, so results are equal to
// those of its AKAZE with one octave and one layer.
#pragma once

#include <stdint.h>

#include "lanes.h"

#include "../tvl1_math.h"

namespace {

constexpr long AKAZE_SCALE = 2;    // of derivatives and of the samples' grid, in pixels
constexpr long AKAZE_BORDER = 29;  // least distance of keypoints to the border: a rotated pattern fits
constexpr int REACH = 10;          // of the pattern, in samples to each side
constexpr int SIDE = 2 * REACH;
constexpr int MLDB_WORDS = 8;      // of 64 bits, for 486

// Computes the determinant of the Hessian, normalised for this scale.
void hessian_image(long pixels, const float *__restrict xx, const float *__restrict xy,
                   const float *__restrict yy, float *__restrict out) {
    constexpr float scaled = AKAZE_SCALE * AKAZE_SCALE * AKAZE_SCALE * AKAZE_SCALE;
    for (long i = 0; i < pixels; i++) out[i] = (xx[i] * yy[i] - xy[i] * xy[i]) * scaled;
}

// Marks the pixels of a row above the threshold and above all eight neighbours.
void strict_maxima(long begin, long end, long width, float threshold, const float *__restrict row,
                   uint8_t *__restrict chosen) {
    for (long x = begin; x < end; x++) {
        const float *at = row + x, value = *at;
        chosen[x] = (value > threshold) & (value > at[-1]) & (value > at[1]) &
                    (value > at[-width - 1]) & (value > at[-width]) & (value > at[-width + 1]) &
                    (value > at[width - 1]) & (value > at[width]) & (value > at[width + 1]);
    }
}

// Returns the first kept place before (x, y) within the scale, or -1. OpenCV searches a square without
// its last row and column.
long find_kept(long width, long x, long y, const uint8_t *kept) {
    for (long down = -AKAZE_SCALE; down < AKAZE_SCALE; down++)
        for (long right = -AKAZE_SCALE; right < AKAZE_SCALE; right++) {
            const long place = (y + down) * width + x + right;
            if (kept[place] && down * down + right * right <= AKAZE_SCALE * AKAZE_SCALE)
                return place;
        }
    return -1;
}

// Writes keypoints as (x, y) in the order of rows and returns their number. `kept` is an image of
// zeros, `places` has space for a quarter of the pixels, `chosen` for a row and a word.
long akaze_keypoints(long height, long width, const float *hessian, float threshold, uint8_t *kept,
                     uint8_t *chosen, int32_t *places, float *points) {
    constexpr long EIGHT = sizeof(uint64_t);
    long candidates = 0, count = 0;
    __builtin_memset(chosen, 0, width + EIGHT);
    for (long y = AKAZE_BORDER; y < height - AKAZE_BORDER; y++) {
        const float *row = hessian + y * width;
        strict_maxima(AKAZE_BORDER, width - AKAZE_BORDER, width, threshold, row, chosen);
        for (long start = 0; start < width; start += EIGHT) {
            uint64_t any;
            __builtin_memcpy(&any, chosen + start, EIGHT);
            if (!any) continue;
            for (long x = start; x < start + EIGHT; x++) {
                if (!chosen[x]) continue;
                const long other = find_kept(width, x, y, kept);
                if (other >= 0 && !(row[x] > hessian[other])) continue;
                if (other >= 0) kept[other] = 0;
                kept[y * width + x] = 1;
                places[candidates++] = (int32_t)(y * width + x);
            }
        }
    }
    for (long k = 0; k < candidates; k++) {
        const long place = places[k];
        float dx, dy;
        if (!kept[place] || !tvl1::extremum(hessian + place, width, &dx, &dy)) continue;
        points[2 * count] = (float)(place % width) + dx;
        points[2 * count + 1] = (float)(place / width) + dy;
        count++;
    }
    return count;
}

typedef float Channels __attribute__((vector_size(16)));   // gray, its derivatives in x and y, 0
typedef int32_t Greater __attribute__((vector_size(16)));

// Returns one bit for each of the three channels.
ALWAYS_INLINE uint64_t three_bits(Greater mask) {
#if defined(__SSE2__)
    return (uint64_t)_mm_movemask_ps((__m128)mask) & 7;
#else
    return (uint64_t)((mask[0] & 1) | (mask[1] & 2) | (mask[2] & 4));
#endif
}

// Bit string in words of 64, appended to in order.
struct Bits {
    uint64_t *words;
    long count;

    inline __attribute__((always_inline)) void add(uint64_t three) {
        const long at = count & 63;
        words[count >> 6] |= three << at;
        if (at > 61) words[(count >> 6) + 1] |= three >> (64 - at);
        count += 3;
    }
};

// Computes the means over CELLS x CELLS cells of STEP x STEP samples, then compares all pairs of
// cells. Sums run down columns, as in OpenCV.
template <int CELLS, int STEP>
void compare_cells(const Channels (*samples)[SIDE + 1], Bits &bits) {
    Channels mean[CELLS * CELLS] = {};
    for (int column = 0; column < CELLS; column++)
        for (int k = 0; k < STEP; k++)
            for (int l = 0; l < STEP; l++)
                for (int row = 0; row < CELLS; row++)  // innermost, so that sums are independent
                    mean[column * CELLS + row] += samples[column * STEP + k][row * STEP + l];
    for (Channels &value : mean) value *= 1.0f / (STEP * STEP);
    for (int i = 0; i < CELLS * CELLS; i++)
        for (int j = i + 1; j < CELLS * CELLS; j++)
            bits.add(three_bits((Greater)(mean[i] > mean[j])));
}

// Computes the M-LDB bits of a keypoint of `akaze_keypoints` in an image of this width.
void describe_keypoint(long width, const float *gray, const float *dx, const float *dy, float x,
                       float y, uint64_t *words) {
    Channels samples[SIDE + 1][SIDE + 1];  // by column, then row
    long rows[SIDE + 1];
    for (int k = 0; k <= SIDE; k++)
        rows[k] = width * __builtin_lrintf(y + (float)((k - REACH) * AKAZE_SCALE));
    for (int k = 0; k <= SIDE; k++) {
        const long column = __builtin_lrintf(x + (float)((k - REACH) * AKAZE_SCALE));
        for (int l = 0; l <= SIDE; l++) {
            const long place = rows[l] + column;
            samples[k][l] = Channels{gray[place], dx[place], dy[place], 0};
        }
    }
    __builtin_memset(words, 0, MLDB_WORDS * sizeof(uint64_t));
    Bits bits = {words, 0};
    compare_cells<2, 10>(samples, bits);
    compare_cells<3, 7>(samples, bits);
    compare_cells<4, 5>(samples, bits);
}

}  // namespace
