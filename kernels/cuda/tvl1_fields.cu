// Images, flow -> the fields of a level of TV-L1, and back; the median filter.
#include "progress.cuh"
#include "warp.cuh"

// Packs images (N, height, width) as (I, Ix, Iy, 0) per pixel, packed (N, height + 8, width + 8).
// Gradients are half the difference of both neighbours. The border replicates the image, or is zero.
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

// Initialises a level of `pairs` pairs from images (pairs, height, width) and flow
// (pairs, 2, height, width) or null, for a capacity of N pairs: first (N, height, stride), state
// (N, 2, height, FIELDS * stride) with p = 0, progress (N,). Pairs from index `pairs` on have no work.
extern "C" __global__ void tvl1_start(const float *images, const float *flow, float *first,
                                      float *state, Progress *progress, int pairs, int height,
                                      int width, int stride) {
    const int x = column(), y = row(), pair = blockIdx.z;
    if (x == 0 && y == 0) progress[pair] = {};
    if (pair >= pairs || x >= stride || y >= height) return;
    const size_t plane = (size_t)height * stride;
    const size_t pixels = (size_t)height * width, pixel = (size_t)y * width + x;
    const bool inside = x < width;
    float *line = state + (size_t)pair * 2 * FIELDS * plane + (size_t)y * FIELDS * stride;
    for (int field = 0; field < FIELDS; field++) line[value_at<FIELDS>(field, x)] = 0.f;
    if (inside && flow) {
        line[value_at<FIELDS>(U, x)] = flow[(size_t)2 * pair * pixels + pixel];
        line[value_at<FIELDS>(V, x)] = flow[((size_t)2 * pair + 1) * pixels + pixel];
    }
    first[pair * plane + (size_t)y * stride + x] = inside ? images[pair * pixels + pixel] : 0.f;
}

// Plans `warps` warps of all pairs, progress (pairs,), and assigns the first `together` of them to
// slots (together,); queue (1,).
extern "C" __global__ void tvl1_begin(Progress *progress, Queue *queue, int *slots, int pairs,
                                      int together, int warps, int most, int block, int spaced,
                                      double enough) {
    const int i = column();
    if (i == 0) *queue = {pairs, together, pairs};
    if (i < together) slots[i] = i < pairs ? i : NOBODY;
    if (i >= pairs) return;
    Progress now = progress[i];
    now.warps = warps;
    now.total = 0;
    begin_warp(now, {most, block, spaced != 0, enough});
    progress[i] = now;
}

// Filters u and v of the pairs in slots (N / 2,) whose filter is due by the median of a square window:
// state (capacity, 2, height, FIELDS * stride) -> filtered (capacity, height, 2 * stride). blockIdx.z is
// two times the slot plus the component.
extern "C" __global__ void median(const Progress *progress, const int *slots, const float *state,
                                  float *filtered, int height, int width, int stride, int every,
                                  int window) {
    const int pair = slots[blockIdx.z / 2], component = blockIdx.z % 2, x = column(), y = row();
    if (pair == NOBODY || !filter_due(progress[pair], every) || x >= stride || y >= height) return;
    const size_t plane = (size_t)height * stride;
    const float *image =
        state + ((size_t)2 * pair + progress[pair].side) * FIELDS * plane;
    float *out = filtered + ((size_t)2 * pair * height + 2 * y) * stride;
    out += value_at<2>(U + component, x);
    if (x >= width) {
        *out = 0.f;
        return;
    }
    float values[25];
    const int reach = window / 2, count = window * window;
    for (int k = 0; k < count; k++) {
        int i = x + k % window - reach, j = y + k / window - reach;
        i = i < 0 ? 0 : i < width ? i : width - 1;
        j = j < 0 ? 0 : j < height ? j : height - 1;
        // Insertion sort: windows are small, and this kernel exists to compare with OpenCV.
        const float value = image[(size_t)j * FIELDS * stride + value_at<FIELDS>(U + component, i)];
        int place = k;
        for (; place > 0 && values[place - 1] > value; place--) values[place] = values[place - 1];
        values[place] = value;
    }
    *out = values[count / 2];
}

// Copies the newest flow of state (N, 2, height, FIELDS * stride) to flow (N, 2, height, width).
extern "C" __global__ void tvl1_flow(const Progress *progress, const float *state, float *flow,
                                     int height, int width, int stride) {
    const int pair = blockIdx.z, x = column(), y = row();
    if (x >= width || y >= height) return;
    const size_t plane = (size_t)height * stride;
    const float *line = state + ((size_t)2 * pair + progress[pair].side) * FIELDS * plane +
                        (size_t)y * FIELDS * stride;
    float *out = flow + ((size_t)2 * pair * height + y) * width + x;
    out[0] = line[value_at<FIELDS>(U, x)];
    out[(size_t)height * width] = line[value_at<FIELDS>(V, x)];
}
