// Gray frames (N, H, W) -> the corners of cv::goodFeaturesToTrack (Shi and Tomasi 1994).
//
// Float operations have the order of OpenCV with fused multiply-add, so a GPU finds the corners of
// such a CPU. OpenCV 5 does not fuse in the last `plain` columns of a row.
#include "common.cuh"

namespace {

constexpr int COLUMNS = 32, ROWS = 8;  // of pixels that a block computes
constexpr float EDGE = (float)(1.0 / 3060.0), MIDDLE = (float)(2.0 / 3060.0);  // scaled 1-2-1

// State of a candidate.
enum State : u8 { NONE, WAITING, KEPT };

struct Slope {
    float x, y;
};

// Sobel gradient of 3x3 pixels, scaled as in cv::cornerMinEigenVal.
__device__ __forceinline__ Slope slope(const u8 *gray, int height, int width, int x, int y,
                                       bool fused) {
    float left[3], middle[3], right[3];
    const int before = (int)tvl1::mirror(x - 1, width), after = (int)tvl1::mirror(x + 1, width);
    for (int k = 0; k < 3; k++) {
        const u8 *row = gray + (size_t)tvl1::mirror(y + k - 1, height) * width;
        left[k] = row[before], middle[k] = row[x], right[k] = row[after];
    }
    float across[3], smooth[3];
    for (int k = 0; k < 3; k++) {
        across[k] = right[k] - left[k];
        smooth[k] = fused ? tvl1::fma(middle[k], MIDDLE, left[k] * EDGE)
                          : left[k] * EDGE + middle[k] * MIDDLE;
        smooth[k] = fused ? tvl1::fma(right[k], EDGE, smooth[k]) : smooth[k] + right[k] * EDGE;
    }
    return {tvl1::fma(across[0] + across[2], EDGE, across[1] * MIDDLE), smooth[2] - smooth[0]};
}

__device__ __forceinline__ float warp_max(float value) {
    for (int lane = LANES / 2; lane; lane /= 2) {
        const float other = __shfl_xor_sync(0xffffffffu, value, lane);
        value = other > value ? other : value;
    }
    return value;
}

// A corner's strength and place in one number with OpenCV's order of corners: by strength, then by
// place, both descending. Positive floats are ordered as their bits.
__device__ __forceinline__ unsigned long long rank_of(float strength, int place) {
    return (unsigned long long)__float_as_uint(strength) << 32 | (unsigned)place;
}

}  // namespace

// Computes the smaller eigenvalue of the gradient matrix over 3x3 pixels of gray (N, height, width),
// strength (N, height, width), and its maximum where mask (N, height, width) or null is not 0, strongest
// (N,) as float bits, 0 if none is positive. Blocks have COLUMNS x ROWS threads.
extern "C" __global__ void corner_strength(const u8 *gray, const u8 *mask, float *strength,
                                           unsigned *strongest, int height, int width, int plain) {
    __shared__ Slope slopes[ROWS + 2][COLUMNS + 2];
    const size_t image = (size_t)blockIdx.z * height * width;
    const int left = blockIdx.x * COLUMNS - 1, top = blockIdx.y * ROWS - 1;
    for (int i = threadIdx.y * COLUMNS + threadIdx.x; i < (ROWS + 2) * (COLUMNS + 2);
         i += COLUMNS * ROWS) {
        const int across = left + i % (COLUMNS + 2), down = top + i / (COLUMNS + 2);
        const int x = (int)tvl1::mirror(across < width ? across : width, width);
        const int y = (int)tvl1::mirror(down < height ? down : height, height);
        slopes[i / (COLUMNS + 2)][i % (COLUMNS + 2)] =
            slope(gray + image, height, width, x, y, x < width - plain);
    }
    __syncthreads();
    double xx = 0, xy = 0, yy = 0;  // exact: the sums of these products fit
    for (int down = 0; down < 3; down++)
        for (int across = 0; across < 3; across++) {
            const Slope at = slopes[threadIdx.y + down][threadIdx.x + across];
            xx += at.x * at.x, xy += at.x * at.y, yy += at.y * at.y;
        }
    const float a = (float)xx * 0.5f, b = (float)xy, c = (float)yy * 0.5f, apart = a - c;
    const float value = (a + c) - __fsqrt_rn(apart * apart + b * b);
    const int x = column(), y = row();
    const bool inside = x < width && y < height;
    const size_t at = image + (size_t)y * width + x;
    if (inside) strength[at] = value;
    const float most = warp_max(inside && (!mask || mask[at]) ? value : 0.f);
    if (threadIdx.x == 0 && most > 0.f)
        atomicMax(strongest + blockIdx.z, __float_as_uint(most));
}

// Finds the candidates of each frame, in any order: unmasked local maxima above quality * strongest, not
// at the border. strength, mask and state (N, height, width), strongest (N,), ranks (N, height * width),
// counts (2, N), of which the first row counts candidates.
extern "C" __global__ void corner_candidates(const float *strength, const u8 *mask,
                                             const unsigned *strongest, double quality, u8 *state,
                                             unsigned long long *ranks, unsigned *counts,
                                             int height, int width) {
    const int x = column(), y = row();
    if (x >= width || y >= height) return;
    const size_t image = (size_t)blockIdx.z * height * width, at = image + (size_t)y * width + x;
    state[at] = NONE;
    if (x < 1 || y < 1 || x >= width - 1 || y >= height - 1 || (mask && !mask[at])) return;
    const float value = strength[at];
    const float least = (float)(__uint_as_float(strongest[blockIdx.z]) * quality);
    if (!(value > least)) return;
    for (int down = -1; down <= 1; down++)
        for (int across = -1; across <= 1; across++)
            if (strength[at + (long long)down * width + across] > value) return;
    state[at] = WAITING;
    ranks[image + atomicAdd(counts + blockIdx.z, 1u)] = rank_of(value, y * width + x);
}

// Keeps each candidate unless a better one that is kept is near it. OpenCV decides from the best to the
// worst; here a block decides for all candidates of a frame at once, in rounds: a candidate is kept if
// no better one nearby is undecided, and dropped if one nearby is kept. Two corners are near if their
// squared distance is at most `near`, which is `reach` pixels along an axis. Ranks of dropped candidates
// become 0. Shapes are those of corner_candidates; counts becomes (kept, candidates) of each frame.
extern "C" __global__ void corner_choice(const float *strength, u8 *state,
                                         unsigned long long *ranks, unsigned *counts, int height,
                                         int width, int reach, int near) {
    __shared__ unsigned waiting, kept;
    const size_t image = (size_t)blockIdx.z * height * width;
    volatile u8 *states = state + image;
    const float *values = strength + image;
    const int count = (int)counts[blockIdx.z];
    if (threadIdx.x == 0) kept = 0;
    do {
        __syncthreads();
        if (threadIdx.x == 0) waiting = 0;
        __syncthreads();
        for (int k = threadIdx.x; k < count; k += blockDim.x) {
            const int place = (int)(unsigned)ranks[image + k];
            if (states[place] != WAITING) continue;
            const unsigned long long rank = ranks[image + k];
            const int x = place % width, y = place / width;
            const int top = y < reach ? -y : -reach, left = x < reach ? -x : -reach;
            const int bottom = height - 1 - y < reach ? height - 1 - y : reach;
            const int right = width - 1 - x < reach ? width - 1 - x : reach;
            bool beaten = false, waits = false;
            for (int down = top; down <= bottom && !beaten; down++)
                for (int across = left; across <= right; across++) {
                    if (down * down + across * across > near || !(down || across)) continue;
                    const int other = place + down * width + across;
                    const u8 there = states[other];
                    if (there == NONE) continue;
                    beaten |= there == KEPT;
                    waits |= rank_of(values[other], other) > rank;
                }
            if (beaten) states[place] = NONE;
            else if (!waits) states[place] = KEPT;
            else atomicAdd(&waiting, 1u);
        }
        __syncthreads();
    } while (waiting);
    for (int k = threadIdx.x; k < count; k += blockDim.x) {
        if (states[(unsigned)ranks[image + k]] == KEPT) atomicAdd(&kept, 1u);
        else ranks[image + k] = 0;
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        counts[blockIdx.z] = kept;
        counts[gridDim.z + blockIdx.z] = count;
    }
}

// Writes the best `most` kept corners as x, y, best first: ranks (N, pixels), counts (2, N), corners
// (N, most, 2).
extern "C" __global__ void corner_order(const unsigned long long *ranks, const unsigned *counts,
                                        float *corners, int pixels, int width, int most) {
    const unsigned long long *all = ranks + (size_t)blockIdx.z * pixels;
    const int count = (int)counts[gridDim.z + blockIdx.z];
    for (int k = column(); k < count; k += gridDim.x * blockDim.x) {
        const unsigned long long rank = all[k];
        if (!rank) continue;
        int better = 0;
        for (int other = 0; other < count && better < most; other++) better += all[other] > rank;
        if (better >= most) continue;
        const int place = (int)(unsigned)rank;
        float *corner = corners + ((size_t)blockIdx.z * most + better) * 2;
        corner[0] = (float)(place % width);
        corner[1] = (float)(place / width);
    }
}

// Computes the range of gray levels of groups of pixels: gray (N, image), flat indices places
// (groups, pixels), ranges (N, groups).
extern "C" __global__ void level_ranges(const u8 *gray, const int *places, u8 *ranges, int image,
                                        int groups, int pixels) {
    const int group = column();
    if (group >= groups) return;
    const u8 *levels = gray + (size_t)blockIdx.z * image;
    int least = 255, greatest = 0;
    for (int k = 0; k < pixels; k++) {
        const int level = levels[places[group * pixels + k]];
        least = level < least ? level : least;
        greatest = level > greatest ? level : greatest;
    }
    ranges[(size_t)blockIdx.z * groups + group] = (u8)(greatest - least);
}
