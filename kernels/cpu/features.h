// Frames and keypoints -> matched keypoints and selected corners, to estimate camera motion.
//
// Integers and comparisons only, so every instruction set gives the same result.
#pragma once

#include <stdint.h>
#include <stdlib.h>

namespace {

// Keypoints of a frame sorted by x: two rows of positions, bit strings, indices before sorting.
struct Sorted {
    long count;
    const float *x, *y;
    const uint64_t *bits;
    const int64_t *number;
};

// Returns the index of the most similar keypoint less than `window` away in x and in y, or -1; the
// lowest of equal ones. `near` has space for all keypoints.
int64_t nearest_bits(const Sorted &all, long words, float window, float x, float y,
                     const uint64_t *__restrict bits, int32_t *__restrict near) {
    const float left = x - window, right = x + window;
    long start = 0, end = all.count;
    while (start < end) {
        const long middle = (start + end) / 2;
        if (all.x[middle] > left) end = middle;
        else start = middle + 1;
    }
    long count = 0;
    for (long k = start; k < all.count && all.x[k] < right; k++) {
        near[count] = (int32_t)k;
        count += __builtin_fabsf(y - all.y[k]) < window;  // branchless: kept or overwritten
    }
    int64_t best = -1;
    long least = 64 * words + 1;
    for (long k = 0; k < count; k++) {
        const uint64_t *other = all.bits + near[k] * words;
        const int64_t number = all.number[near[k]];
        long distance = 0;
        for (long word = 0; word < words; word++)
            distance += __builtin_popcountll(bits[word] ^ other[word]);
        if (distance < least || (distance == least && number < best)) {
            least = distance;
            best = number;
        }
    }
    return best;
}

// A corner's strength and place in one number with OpenCV's order of corners: by strength, then by
// place, both descending. Positive floats are ordered as their bits.
inline uint64_t rank_of(float strength, long place) {
    uint32_t bits;
    __builtin_memcpy(&bits, &strength, sizeof bits);
    return (uint64_t)bits << 32 | (uint32_t)place;
}

// Writes the `rank_of` numbers of the non-zero maxima of 3x3 pixels, ascending in place, and returns
// their number. `line` has space for two rows. Border pixels are not corners.
long local_maxima(long height, long width, const float *__restrict strength,
                  const uint8_t *__restrict mask, float *__restrict line,
                  uint64_t *__restrict found) {
    if (width < 3) return 0;
    constexpr long EIGHT = sizeof(uint64_t);
    uint8_t *__restrict chosen = (uint8_t *)(line + width);  // zero-padded to a word
    __builtin_memset(chosen, 0, width + EIGHT);
    long count = 0;
    for (long y = 1; y < height - 1; y++) {
        const float *__restrict row = strength + y * width;
        for (long x = 0; x < width; x++) {
            const float upper = row[x - width], lower = row[x + width];
            const float outer = upper > lower ? upper : lower;
            line[x] = outer > row[x] ? outer : row[x];
        }
        for (long x = 1; x < width - 1; x++) {
            const float outer = line[x - 1] > line[x + 1] ? line[x - 1] : line[x + 1];
            const float most = outer > line[x] ? outer : line[x];
            chosen[x] = (row[x] == most) & (row[x] != 0);
        }
        for (long start = 0; start < width; start += EIGHT) {
            uint64_t any;
            __builtin_memcpy(&any, chosen + start, EIGHT);
            if (!any) continue;
            for (long x = start; x < start + EIGHT; x++)
                if (chosen[x] && (!mask || mask[y * width + x]))
                    found[count++] = rank_of(row[x], y * width + x);
        }
    }
    return count;
}

// Stable sort by the upper half of each number, ascending. Returns whichever of the two arrays, of
// `count` numbers each, has the result.
const uint64_t *sort_by_strength(long count, uint64_t *numbers, uint64_t *spare) {
    constexpr int BITS = 11, BUCKETS = 1 << BITS;
    for (int shift = 32; shift < 64; shift += BITS) {
        uint32_t start[BUCKETS + 1] = {};
        for (long k = 0; k < count; k++) start[(numbers[k] >> shift & (BUCKETS - 1)) + 1]++;
        for (int bucket = 0; bucket < BUCKETS; bucket++) start[bucket + 1] += start[bucket];
        for (long k = 0; k < count; k++)
            spare[start[numbers[k] >> shift & (BUCKETS - 1)]++] = numbers[k];
        uint64_t *const sorted = spare;
        spare = numbers;
        numbers = sorted;
    }
    return numbers;
}

// Writes the strongest corners at least `apart` px from each other as (x, y), strongest first, and
// returns their number. `taken` is an image of zeros.
long spread_corners(long height, long width, long count, const uint64_t *rising, long most,
                    double apart, uint8_t *__restrict taken, float *__restrict corners) {
    const double square = apart * apart;
    long found = 0;
    for (long k = count - 1; k >= 0 && found < most; k--) {
        const long place = (uint32_t)rising[k], x = place % width, y = place / width;
        if (taken[place]) continue;
        corners[2 * found] = (float)x;
        corners[2 * found + 1] = (float)y;
        found++;
        for (long down = 0; down < height && (double)(down * down) < square; down++) {
            long reach = 0;
            while (reach < width && (double)((reach + 1) * (reach + 1) + down * down) < square)
                reach++;
            const long first = x > reach ? x - reach : 0;
            const long last = x + reach < width ? x + reach : width - 1;
            for (long row = y - down; row <= y + down; row += down ? 2 * down : 1)
                if (row >= 0 && row < height)
                    __builtin_memset(taken + row * width + first, 1, last - first + 1);
        }
    }
    return found;
}

}  // namespace
