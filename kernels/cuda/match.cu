// Keypoints of pairs of frames -> the most similar keypoint of the first for each of the second.
#include "common.cuh"

// Matches keypoints by Hamming distance. The K keypoints of F frames are concatenated: points (K, 2) as
// x, y, bits (K, words), frame k from starts[k] to starts[k + 1], starts (F + 1,). pairs (N, 2) has
// indices of frames, matched (begins[N],) the results of pair n from begins[n] on, begins (N + 1,). A
// result is the index in the first frame of the most similar keypoint less than `window` away in x and
// in y, the lowest of equal ones, or -1. A warp compares one keypoint of the second frame.
extern "C" __global__ void match_bits(const float *points, const unsigned long long *bits,
                                      const int *starts, const int *pairs, const int *begins,
                                      int *matched, int words, float window) {
    const int first = starts[pairs[2 * blockIdx.z]], last = starts[pairs[2 * blockIdx.z] + 1];
    const int second = pairs[2 * blockIdx.z + 1];
    const int number = (int)(column() / LANES), lane = threadIdx.x % LANES;
    const int mine = starts[second] + number;
    if (mine >= starts[second + 1]) return;
    const float x = points[2 * mine], y = points[2 * mine + 1];
    const float left = x - window, right = x + window;
    const unsigned long long *own = bits + (size_t)mine * words;
    unsigned long long best = ~0ull;  // distance and number: the least is the best
    for (int k = first + lane; k < last; k += LANES) {
        const float there = points[2 * k];
        if (!(there > left && there < right && fabsf(y - points[2 * k + 1]) < window)) continue;
        const unsigned long long *other = bits + (size_t)k * words;
        unsigned distance = 0;
        for (int word = 0; word < words; word++) distance += __popcll(own[word] ^ other[word]);
        const unsigned long long key = (unsigned long long)distance << 32 | (unsigned)(k - first);
        best = key < best ? key : best;
    }
    for (int step = LANES / 2; step; step /= 2) {
        const unsigned long long key = __shfl_xor_sync(0xffffffffu, best, step);
        best = key < best ? key : best;
    }
    if (lane == 0) matched[begins[blockIdx.z] + number] = best == ~0ull ? -1 : (int)(unsigned)best;
}
