// Gray frames (N, H, W) -> AKAZE keypoints of one scale, and their upright M-LDB bits.
//
// Alcantarilla, Nuevo and Bartoli 2013, as kernels/cpu/akaze.h computes it from images that OpenCV
// filters: float operations have OpenCV's order with fused multiply-add.
#include "common.cuh"

namespace {

constexpr int COLUMNS = 32, ROWS = 8;  // of pixels that a block computes
constexpr int RADIUS = 4;              // of the Gaussian
constexpr int BORDER = 29;             // no keypoints nearer to the border
constexpr int REACH = 10;              // of the pattern, in samples to each side
constexpr int SIDE = 2 * REACH + 1;
constexpr int SCALE = 2;               // of derivatives and of the samples' grid, in pixels
constexpr int CELLS = 4 + 9 + 16;      // of all three grids
constexpr int CHANNELS = 3;            // gray, its derivatives in x and y
constexpr int BITS = 486, WORDS = 16;  // of 32 bits

// State of a candidate. A kept one may replace the one SCALE pixels above or to the left.
enum State : u8 { NONE = 0, WAITING = 1, KEPT = 2, TOOK_UPPER = 4, TOOK_LEFT = 8 };

constexpr float FAR = 0x1.8000020p-5f, NEAR = 0x1.4000020p-3f;  // Scharr's smoothing, stretched

struct Slope {
    float x, y;
};

// Derivatives of an image (height, width) over 5x5 pixels.
__device__ __forceinline__ Slope slope(const float *image, int height, int width, int x, int y) {
    float across[3], smooth[3];
    const int left = (int)tvl1::mirror(x - SCALE, width);
    const int right = (int)tvl1::mirror(x + SCALE, width);
    for (int k = 0; k < 3; k++) {
        const float *row = image + (size_t)tvl1::mirror(y + (k - 1) * SCALE, height) * width;
        across[k] = row[right] - row[left];
        smooth[k] = tvl1::fma(row[right] + row[left], FAR, NEAR * row[x]);
    }
    return {tvl1::fma(across[2] + across[0], FAR, NEAR * across[1]), smooth[2] - smooth[0]};
}

// Grid of `side` x `side` cells of `step` x `step` samples. Cells, and pairs of cells, are numbered
// through all grids.
struct Grid {
    int side, step, first_cell, first_pair;
};

__device__ __forceinline__ Grid grid_of_cell(int cell) {
    return cell < 4 ? Grid{2, 10, 0, 0} : cell < 13 ? Grid{3, 7, 4, 6} : Grid{4, 5, 13, 42};
}

__device__ __forceinline__ Grid grid_of_pair(int pair) {
    return grid_of_cell(pair < 6 ? 0 : pair < 42 ? 4 : 13);
}

// Returns whether the first of a pair of cells has the greater mean; pairs (0, 1), (0, 2) ... per grid.
__device__ __forceinline__ bool greater(const float (*mean)[CHANNELS], int bit) {
    const Grid grid = grid_of_pair(bit / CHANNELS);
    int rest = bit / CHANNELS - grid.first_pair, first = 0;
    for (int others = grid.side * grid.side - 1; rest >= others; others--, first++) rest -= others;
    const int cell = grid.first_cell + first, other = cell + 1 + rest, channel = bit % CHANNELS;
    return mean[cell][channel] > mean[other][channel];
}

}  // namespace

// Scales gray (N, height, width) to 0 .. 1 and smooths it by a Gaussian of 1.6 px: smooth
// (N, height, width). Blocks have COLUMNS x ROWS threads.
extern "C" __global__ void akaze_smooth(const u8 *gray, float *smooth, int height, int width) {
    const float weights[RADIUS + 1] = {0x1.006a080p-2f, 0x1.a5d7520p-3f, 0x1.d594720p-4f,
                                       0x1.61b0d80p-5f, 0x1.6883820p-7f};
    __shared__ float levels[ROWS + 2 * RADIUS][COLUMNS + 2 * RADIUS];
    __shared__ float across[ROWS + 2 * RADIUS][COLUMNS];
    constexpr int HIGH = ROWS + 2 * RADIUS, WIDE = COLUMNS + 2 * RADIUS;
    const size_t image = (size_t)blockIdx.z * height * width;
    const int thread = threadIdx.y * COLUMNS + threadIdx.x;
    for (int i = thread; i < HIGH * WIDE; i += COLUMNS * ROWS) {
        const int x = (int)blockIdx.x * COLUMNS - RADIUS + i % WIDE;
        const int y = (int)blockIdx.y * ROWS - RADIUS + i / WIDE;
        const int inside_x = x < 0 ? 0 : x < width ? x : width - 1;
        const int inside_y = y < 0 ? 0 : y < height ? y : height - 1;
        levels[i / WIDE][i % WIDE] =
            (float)gray[image + (size_t)inside_y * width + inside_x] * (float)(1.0 / 255.0);
    }
    __syncthreads();
    for (int i = thread; i < HIGH * COLUMNS; i += COLUMNS * ROWS) {
        const float *row = levels[i / COLUMNS] + i % COLUMNS;
        float sum = weights[RADIUS] * row[0];
        for (int k = 1; k <= 2 * RADIUS; k++)
            sum = tvl1::fma(weights[k < RADIUS ? RADIUS - k : k - RADIUS], row[k], sum);
        across[i / COLUMNS][i % COLUMNS] = sum;
    }
    __syncthreads();
    const int x = column(), y = row();
    if (x >= width || y >= height) return;
    float sum = weights[0] * across[threadIdx.y + RADIUS][threadIdx.x];
    for (int k = 1; k <= RADIUS; k++)
        sum = tvl1::fma(across[threadIdx.y + RADIUS + k][threadIdx.x] +
                            across[threadIdx.y + RADIUS - k][threadIdx.x],
                        weights[k], sum);
    smooth[image + (size_t)y * width + x] = sum;
}

// Computes the derivatives dx, dy of smooth, all (N, height, width).
extern "C" __global__ void akaze_slopes(const float *smooth, float *dx, float *dy, int height,
                                        int width) {
    const int x = column(), y = row();
    if (x >= width || y >= height) return;
    const size_t image = (size_t)blockIdx.z * height * width, at = image + (size_t)y * width + x;
    const Slope here = slope(smooth + image, height, width, x, y);
    dx[at] = here.x;
    dy[at] = here.y;
}

// Computes the determinant of the Hessian, normalised for this scale: dx, dy, response
// (N, height, width).
extern "C" __global__ void akaze_response(const float *dx, const float *dy, float *response,
                                          int height, int width) {
    const int x = column(), y = row();
    if (x >= width || y >= height) return;
    const size_t image = (size_t)blockIdx.z * height * width;
    const Slope of_x = slope(dx + image, height, width, x, y);
    const float yy = slope(dy + image, height, width, x, y).y;
    response[image + (size_t)y * width + x] =
        (of_x.x * yy - of_x.y * of_x.y) * (float)(SCALE * SCALE * SCALE * SCALE);
}

// Finds the candidates of each frame, in any order: pixels above the threshold and all neighbours.
// response and state (N, height, width), places (N, room), counts (2, N), of which the first row counts
// candidates.
extern "C" __global__ void akaze_candidates(const float *response, float threshold, u8 *state,
                                            int *places, unsigned *counts, int height, int width,
                                            int room) {
    const int x = column(), y = row();
    if (x >= width || y >= height) return;
    const size_t at = ((size_t)blockIdx.z * height + y) * width + x;
    state[at] = NONE;
    if (x < BORDER || y < BORDER || x >= width - BORDER || y >= height - BORDER) return;
    const float value = response[at];
    if (!(value > threshold)) return;
    for (int down = -1; down <= 1; down++)
        for (int across = -1; across <= 1; across++)
            if ((down || across) && !(value > response[at + (long long)down * width + across]))
                return;
    state[at] = WAITING;
    places[(size_t)blockIdx.z * room + atomicAdd(counts + blockIdx.z, 1u)] = y * width + x;
}

// Keeps one of two candidates that are SCALE pixels apart. The CPU decides row by row: of the earlier
// candidates only those above and to the left can be so near. A candidate replaces the first of them
// that is kept if its response is greater, and is kept if there is none. Here a block decides for all
// candidates of a frame at once, in rounds: each waits for those that affect it. Then keypoints are
// refined and masked by mask (N, height, width) or null; places of dropped ones become -1. Shapes are
// those of akaze_candidates; counts becomes (kept, candidates) of each frame.
extern "C" __global__ void akaze_choice(const float *response, const u8 *mask, u8 *state,
                                        int *places, unsigned *counts, int height, int width,
                                        int room) {
    __shared__ unsigned waiting, kept;
    const size_t image = (size_t)blockIdx.z * height * width;
    volatile u8 *states = state + image;
    const float *values = response + image;
    int *all = places + (size_t)blockIdx.z * room;
    const int count = (int)counts[blockIdx.z];
    if (threadIdx.x == 0) kept = 0;
    do {
        __syncthreads();
        if (threadIdx.x == 0) waiting = 0;
        __syncthreads();
        for (int k = threadIdx.x; k < count; k += blockDim.x) {
            const int place = all[k], above = place - SCALE * width, left = place - SCALE;
            if (states[place] != WAITING) continue;
            const u8 upper = states[above], beside = states[above + SCALE], other = states[left];
            if (upper == WAITING || beside == WAITING || other == WAITING) {
                atomicAdd(&waiting, 1u);
                continue;
            }
            if ((upper & KEPT) && !(beside & TOOK_LEFT))
                states[place] = values[place] > values[above] ? KEPT | TOOK_UPPER : NONE;
            else if (other & KEPT)
                states[place] = values[place] > values[left] ? KEPT | TOOK_LEFT : NONE;
            else
                states[place] = KEPT;
        }
        __syncthreads();
    } while (waiting);
    for (int k = threadIdx.x; k < count; k += blockDim.x) {
        const int place = all[k];
        float dx, dy;
        bool stays = (states[place] & KEPT) && !(states[place + SCALE] & TOOK_LEFT) &&
                     !(states[place + SCALE * width] & TOOK_UPPER) &&
                     tvl1::extremum(values + place, width, &dx, &dy);
        if (stays && mask) {
            const int x = (int)((float)(place % width) + dx + 0.5f);
            const int y = (int)((float)(place / width) + dy + 0.5f);
            stays = mask[image + (size_t)y * width + x] != 0;
        }
        if (stays) atomicAdd(&kept, 1u);
        else all[k] = -1;
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        counts[blockIdx.z] = kept;
        counts[gridDim.z + blockIdx.z] = count;
    }
}

// Writes the K keypoints of all frames as x, y, sorted by rows: response (N, height, width), places
// (N, room), counts (2, N), starts (N + 1,), points (K, 2).
extern "C" __global__ void akaze_points(const float *response, const int *places,
                                        const unsigned *counts, const int *starts, float *points,
                                        int height, int width, int room) {
    const float *values = response + (size_t)blockIdx.z * height * width;
    const int *all = places + (size_t)blockIdx.z * room;
    const int count = (int)counts[gridDim.z + blockIdx.z];
    for (int k = column(); k < count; k += gridDim.x * blockDim.x) {
        const int place = all[k];
        if (place < 0) continue;
        int before = 0;
        for (int other = 0; other < count; other++) before += (unsigned)all[other] < (unsigned)place;
        float dx, dy;
        tvl1::extremum(values + place, width, &dx, &dy);
        float *point = points + ((size_t)starts[blockIdx.z] + before) * 2;
        point[0] = (float)(place % width) + dx;
        point[1] = (float)(place / width) + dy;
    }
}

// Computes the M-LDB descriptors of K keypoints: means over the cells of three grids, then comparisons
// of all pairs of cells of a grid. smooth, dx, dy (N, height, width), starts (N + 1,), points (K, 2),
// bits (K, WORDS). A block has a keypoint, a thread the mean of a cell and channel, summed in the CPU's
// order.
extern "C" __global__ void akaze_bits(const float *smooth, const float *dx, const float *dy,
                                      const int *starts, const float *points, unsigned *bits,
                                      int height, int width) {
    __shared__ int columns[SIDE], rows[SIDE];
    __shared__ float mean[CELLS][CHANNELS];
    const size_t image = (size_t)blockIdx.z * height * width;
    const int number = starts[blockIdx.z] + blockIdx.x, thread = threadIdx.x;
    if (number >= starts[blockIdx.z + 1]) return;
    if (thread < SIDE) {
        const float away = (float)((thread - REACH) * SCALE);
        columns[thread] = (int)rintf(points[2 * number] + away);
        rows[thread] = width * (int)rintf(points[2 * number + 1] + away);
    }
    __syncthreads();
    if (thread < CELLS * CHANNELS) {
        const int cell = thread / CHANNELS, channel = thread % CHANNELS;
        const float *from = (channel == 0 ? smooth : channel == 1 ? dx : dy) + image;
        const Grid grid = grid_of_cell(cell);
        const int column = (cell - grid.first_cell) / grid.side * grid.step;
        const int row = (cell - grid.first_cell) % grid.side * grid.step;
        float sum = 0;
        for (int k = 0; k < grid.step; k++)
            for (int l = 0; l < grid.step; l++) sum += from[rows[row + l] + columns[column + k]];
        const float share = grid.step == 10 ? 1.0f / 100 : grid.step == 7 ? 1.0f / 49 : 1.0f / 25;
        mean[cell][channel] = sum * share;
    }
    __syncthreads();
    const int lane = thread % LANES;
    for (int word = thread / LANES; word < WORDS; word += blockDim.x / LANES) {
        const int bit = word * LANES + lane;
        const unsigned set = bit < BITS && greater(mean, bit);
        const unsigned together = warp_sum(set << lane);
        if (lane == 0) bits[(size_t)number * WORDS + word] = together;
    }
}
